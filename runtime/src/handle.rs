//! A runtime as other threads see it.
//!
//! # Problem
//! A runtime belongs to one thread. Signal handlers, other runtimes and the threads of a library want to spawn into it, to
//! close it, and to know what it does.
//!
//! # Idea
//! A [`Handle`] names the runtime and owns nothing of it. What it asks for goes over the desk: spawns stand in the one line
//! with everybody else's, questions are answered by the owner between two polls. When the runtime is gone, a handle says so.
//!
//! # Bounds
//! `Builder::max_foreign` spawns of other threads may wait, and 64 questions.
//!
//! # Read next
//! `handle/ask.rs`, the questions; `task/desk.rs`, the desk.

mod ask;

use std::fmt;
use std::panic::Location;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use crate::admission::Door;
pub use ask::{Ask, AskError};

use crate::holders::{self, Holders, Waiters};
use crate::metrics::{self, LongPolls, Metrics};
use crate::spawn::within::Waits;
use crate::spawn::{Spawn, SpawnError, SpawnTimeoutError};
use crate::task::{self, JoinHandle, WaitsFor};
use crate::time::{Elapsed, Sleep};
use crate::wait::wait;

/// A runtime, for other threads: it may be cloned, sent and kept for as long as one likes.
///
/// ```
/// let runtime = anteroom::Runtime::new().unwrap();
/// let handle = runtime.handle();
/// let thread = std::thread::spawn(move || {
///     let task = handle.spawn_wait(async { 6 * 7 }).unwrap();
///     anteroom::block_on(task).unwrap() // the output may be awaited anywhere
/// });
/// runtime.block_on(async { anteroom::time::sleep(std::time::Duration::from_millis(50)).await });
/// assert_eq!(thread.join().unwrap(), 42);
/// ```
#[derive(Clone, Copy)]
pub struct Handle {
    door: Door,
}

impl Handle {
    pub(crate) fn new(door: Door) -> Self {
        Self { door }
    }

    /// The runtime that this thread is inside of, if any.
    ///
    /// ```
    /// assert!(anteroom::Handle::current().is_none());
    /// anteroom::block_on(async { assert!(anteroom::Handle::current().is_some()) });
    /// ```
    pub fn current() -> Option<Handle> {
        let _inside = task::enter();
        crate::admission::current().map(|admission| Handle::new(admission.door()))
    }

    /// [`spawn`](crate::spawn()) into this runtime, from any thread and from any executor.
    ///
    /// While the runtime is full, `future` waits in this caller's frame, in one line with the runtime's own spawners, in the
    /// order in which they came.
    ///
    /// ```
    /// let (one, other) = (anteroom::Runtime::new().unwrap(), anteroom::Runtime::new().unwrap());
    /// let handle = one.handle();
    /// let thread_of_other = other.block_on(async {
    ///     let spawn = handle.spawn(async { "in the first" });
    ///     std::thread::spawn(move || anteroom::block_on(async { spawn.await.unwrap().await.unwrap() }))
    /// });
    /// while !thread_of_other.is_finished() {
    ///     one.block_on(anteroom::time::sleep(std::time::Duration::from_millis(1)));
    /// }
    /// assert_eq!(thread_of_other.join().unwrap(), "in the first");
    /// ```
    ///
    /// # Bounds
    /// `Builder::max_foreign` spawns of other threads wait.
    ///
    /// # Errors
    /// Awaited, as [`spawn`](crate::spawn()): [`SpawnError::Closed`] also when the runtime is gone, and
    /// [`SpawnError::QueueFull`] when as many spawns of other threads wait as may.
    ///
    /// # Cancel safety
    /// As [`spawn`](crate::spawn()).
    #[track_caller]
    pub fn spawn<F>(&self, future: F) -> Spawn<F>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        Spawn::at(self.door, future, Location::caller())
    }

    /// [`spawn`](Self::spawn) for a thread that runs no futures: it blocks until there is room.
    ///
    /// ```
    /// let runtime = anteroom::Runtime::new().unwrap();
    /// let handle = runtime.handle();
    /// drop(runtime);
    /// assert_eq!(handle.spawn_wait(async {}).unwrap_err(), anteroom::SpawnError::Closed);
    /// ```
    ///
    /// # Errors
    /// As [`spawn`](Self::spawn).
    ///
    /// # Panics
    /// On the thread of this very runtime, which would wait for itself.
    #[track_caller]
    pub fn spawn_wait<F>(&self, future: F) -> Result<JoinHandle<F::Output>, SpawnError>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.assert_elsewhere("spawn_wait", "await Handle::spawn");
        wait(pin!(self.spawn(future)), None).expect("without a deadline it waits until it is told")
    }

    /// [`spawn_wait`](Self::spawn_wait) for at most `timeout`, by the system's clock.
    ///
    /// ```
    /// use std::time::Duration;
    /// let runtime = anteroom::Runtime::new().unwrap();
    /// let handle = runtime.handle();
    /// // Nobody runs the runtime, so nobody answers.
    /// let thread = std::thread::spawn(move || {
    ///     let error = handle.spawn_wait_timeout(async { 7 }, Duration::from_millis(1)).unwrap_err();
    ///     assert!(error.is_timed_out());
    ///     anteroom::block_on(error.into_future().unwrap())
    /// });
    /// assert_eq!(thread.join().unwrap(), 7);
    /// ```
    ///
    /// # Errors
    /// [`SpawnTimeoutError`], with the future: [`SpawnError::TimedOut`] if there was no place in time, and otherwise as
    /// [`spawn`](Self::spawn). The owner answers between two polls, so no time at all is too short, also where there is room.
    ///
    /// # Panics
    /// On the thread of this very runtime, which would wait for itself.
    #[track_caller]
    pub fn spawn_wait_timeout<F>(
        &self,
        future: F,
        timeout: Duration,
    ) -> Result<JoinHandle<F::Output>, SpawnTimeoutError<F>>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.assert_elsewhere("spawn_wait_timeout", "await Handle::spawn(..).timeout(..)");
        let mut spawn = pin!(self.spawn(future));
        let told = wait(spawn.as_mut(), Some(timeout)).unwrap_or_else(|| spawn.as_mut().give_up());
        told.map_err(|why| SpawnTimeoutError::new(why, spawn.take_back()))
    }

    /// Admits nobody from now on. Who waits gets [`SpawnError::Closed`], with the future in its frame still; tasks that were
    /// admitted go on, and reservations may be used.
    ///
    /// ```
    /// let runtime = anteroom::Runtime::new().unwrap();
    /// let handle = runtime.handle();
    /// runtime.block_on(async {
    ///     handle.close();
    ///     assert_eq!(anteroom::spawn(async {}).await.unwrap_err(), anteroom::SpawnError::Closed);
    /// });
    /// ```
    pub fn close(&self) {
        let _inside = task::enter();
        match crate::admission::current().filter(|admission| admission.is_behind(self.door)) {
            Some(admission) => admission.close(),
            None => self.door.close(),
        }
    }

    /// Closes admission, and waits until every task has ended and every reservation was used or dropped. Services are not
    /// waited for.
    ///
    /// ```
    /// use std::time::Duration;
    /// let runtime = anteroom::Runtime::new().unwrap();
    /// let handle = runtime.handle();
    /// runtime.block_on(async {
    ///     anteroom::spawn(anteroom::time::sleep(Duration::from_millis(1))).await.unwrap();
    ///     handle.drain(Duration::from_secs(5)).await.unwrap();
    ///     assert_eq!(anteroom::metrics().tasks_live, 0);
    /// });
    /// ```
    ///
    /// # Errors
    /// [`Elapsed`] if that took longer than `timeout`; then [`holders`](Self::holders) tells who is left, and dropping the
    /// runtime ends them.
    ///
    /// # Deadlock
    /// A task that drains its own runtime waits for itself, until the time is over: do it from a service, from the future of
    /// `block_on`, or from outside.
    ///
    /// # Panics
    /// When polled outside of any runtime, for lack of a timer: there, use [`drain_wait`](Self::drain_wait).
    ///
    /// # Cancel safety
    /// Admission stays closed; nothing else is lost.
    pub fn drain(&self, timeout: Duration) -> Drain {
        Drain {
            handle: *self,
            watch: Watch { door: self.door, number: None },
            timer: crate::time::sleep(timeout),
        }
    }

    /// [`drain`](Self::drain) for a thread that runs no futures: it blocks.
    ///
    /// ```
    /// use std::time::Duration;
    /// let runtime = anteroom::Runtime::new().unwrap();
    /// let handle = runtime.handle();
    /// drop(runtime);
    /// handle.drain_wait(Duration::from_secs(1)).unwrap(); // nothing is left of it
    /// ```
    ///
    /// # Errors
    /// As [`drain`](Self::drain).
    ///
    /// # Panics
    /// On the thread of this very runtime, which would wait for itself.
    pub fn drain_wait(&self, timeout: Duration) -> Result<(), Elapsed> {
        self.assert_elsewhere("drain_wait", "await Handle::drain");
        self.close();
        let watch = Watch { door: self.door, number: None };
        wait(pin!(watch), Some(timeout)).ok_or(Elapsed::new())
    }

    /// Who holds a place.
    ///
    /// ```
    /// let runtime = anteroom::Runtime::new().unwrap();
    /// let handle = runtime.handle();
    /// runtime.block_on(async {
    ///     let _task = anteroom::spawn(std::future::pending::<()>()).await.unwrap();
    ///     assert_eq!(handle.holders().await.unwrap().len(), 1);
    /// });
    /// ```
    pub fn holders(&self) -> Ask<Holders> {
        Ask::new(self.door, holders::holders)
    }

    /// Who waits for a place, in order.
    ///
    /// ```
    /// let runtime = anteroom::Runtime::new().unwrap();
    /// let handle = runtime.handle();
    /// runtime.block_on(async { assert!(handle.waiters().await.unwrap().is_empty()) });
    /// ```
    pub fn waiters(&self) -> Ask<Waiters> {
        Ask::new(self.door, holders::waiters)
    }

    /// What the runtime counts.
    ///
    /// ```
    /// let runtime = anteroom::Runtime::new().unwrap();
    /// let handle = runtime.handle();
    /// runtime.block_on(async { assert_eq!(handle.metrics().await.unwrap().tasks_live, 0) });
    /// ```
    pub fn metrics(&self) -> Ask<Metrics> {
        Ask::new(self.door, metrics::metrics)
    }

    /// Which polls took too long.
    ///
    /// ```
    /// let runtime = anteroom::Runtime::new().unwrap();
    /// let handle = runtime.handle();
    /// runtime.block_on(async { assert!(handle.long_polls().await.unwrap().is_empty()) });
    /// ```
    pub fn long_polls(&self) -> Ask<Vec<LongPolls>> {
        Ask::new(self.door, metrics::long_polls)
    }

    fn assert_elsewhere(&self, asked: &str, instead: &str) {
        assert!(
            !self.door.is_of_this_thread(),
            "Handle::{asked} was called on the thread of its own runtime, which it would block: {instead} instead"
        );
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("epoch", &self.door.epoch).finish_non_exhaustive()
    }
}

/// Ready when nothing that was admitted is left.
struct Watch {
    door: Door,
    number: Option<u64>,
}

impl Future for Watch {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let waker = cx.waker().clone();
        let door = self.door;
        if door.watch_drain(&mut self.number, waker) {
            self.number = None;
            return Poll::Ready(());
        }
        let _inside = task::enter();
        task::waits_for(if door.is_here() { WaitsFor::JOIN } else { WaitsFor::JOIN_ELSEWHERE });
        Poll::Pending
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(number) = self.number.take() {
            self.door.forget_drain(number);
        }
    }
}

/// The future of [`Handle::drain`].
///
/// ```
/// let runtime = anteroom::Runtime::new().unwrap();
/// let handle = runtime.handle();
/// let drain: anteroom::Drain = handle.drain(std::time::Duration::from_secs(1));
/// runtime.block_on(drain).unwrap();
/// ```
#[must_use = "nothing is closed until it is awaited"]
pub struct Drain {
    handle: Handle,
    watch: Watch,
    timer: Sleep,
}

impl Future for Drain {
    type Output = Result<(), Elapsed>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.watch.number.is_none() {
            self.handle.close();
        }
        if Pin::new(&mut self.watch).poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.timer).poll(cx).map(|()| Err(Elapsed::new()))
    }
}

impl fmt::Debug for Drain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Drain").field("handle", &self.handle).finish_non_exhaustive()
    }
}
