//! The front door: spawn, and its relatives.
//!
//! # Problem
//! Spawning is where a program takes on more work than it can hold.
//!
//! # Idea
//! `spawn(future)` is a future that holds `future` where its caller built it. Polled, it moves it in if there is room, and
//! otherwise waits in line: whoever frees a place moves it in. Nothing is allocated, moved or polled before that.
//!
//! # Invariants
//! - [SPAWN-1] A future is polled only after it was admitted, and is dropped unpolled if it never was.
//! - [SPAWN-2] Who is told of a task has it: a spawn that was admitted and is dropped before it was told aborts its task.
//!
//! # Read next
//! `task/waiter.rs`, the frame; `admission.rs`, the line.

use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;

use crate::admission::{self, Admission, Key, Refusal};
use crate::task::waiter::{Ended, Entry, Recycle};
use crate::task::{self, Header, Home, JoinError, JoinErrorKind, JoinHandle, Local, Place, joined};

/// Asks for a place for `future`; awaited, gives its handle once it is a task.
///
/// While the runtime is full the caller waits, and `future` with it, where it is: nothing is allocated for it, it is not
/// moved and not polled. The line itself takes a small recycled entry a waiting spawn, whatever the future's size. Places
/// are given in the order in which they were asked for.
///
/// ```
/// let runtime = anteroom::Runtime::builder().max_tasks(10).build().unwrap();
/// runtime.block_on(async {
///     for n in 0..1_000 {
///         // Never more than ten of them exist.
///         anteroom::spawn(async move { anteroom::yield_now().await; n }).await.unwrap();
///     }
/// });
/// ```
///
/// # Bounds
/// `Builder::max_tasks` live tasks, and `Builder::max_task_bytes` of their futures. A finished task holds no place. At most
/// `Builder::max_waiting` spawners wait.
///
/// # Errors
/// [`SpawnError::Closed`] if the runtime is shutting down, [`SpawnError::ExceedsLimit`] if the future alone is larger than
/// `max_task_bytes`, [`SpawnError::QueueFull`] if as many wait as may. [`Spawn::withdraw`] gives the future back.
///
/// # Panics
/// When polled outside a runtime.
///
/// # Cancel safety
/// Dropped while it waits, `future` is dropped unpolled. Dropped after it was admitted and before it was told so, its task
/// is aborted, and may have run by then.
///
/// # Deadlock
/// A task that holds the last place and waits for a child that cannot get in waits for ever.
#[track_caller]
pub fn spawn<F>(future: F) -> Spawn<F>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    Spawn { entry: Entry::new(future) }
}

/// [`spawn`] for a future that need not be `Send`.
///
/// ```
/// use std::rc::Rc;
/// anteroom::block_on(async {
///     let shared = Rc::new(5);
///     let handle = anteroom::spawn_local({ let shared = shared.clone(); async move { *shared } }).await.unwrap();
///     assert_eq!(handle.await.unwrap(), 5);
/// });
/// ```
///
/// # Bounds
/// As [`spawn`], from the same budget and in the same line.
///
/// # Errors
/// As [`spawn`].
///
/// # Panics
/// When polled outside a runtime.
///
/// # Cancel safety
/// As [`spawn`].
#[track_caller]
pub fn spawn_local<F>(future: F) -> SpawnLocal<F>
where
    F: Future + 'static,
{
    SpawnLocal { entry: Entry::new(future), not_send: PhantomData }
}

/// Spawns `future` if there is room now, and otherwise gives it back.
///
/// ```
/// let runtime = anteroom::Runtime::builder().max_tasks(1).build().unwrap();
/// runtime.block_on(async {
///     let first = anteroom::try_spawn(async { 1 }).unwrap();
///     let refused = anteroom::try_spawn(async { 2 }).unwrap_err();
///     assert!(refused.is_full());
///     assert_eq!(first.await.unwrap() + refused.into_future().await, 3);
/// });
/// ```
///
/// # Errors
/// [`TrySpawnError`], with the future: no room, others are waiting already, too large, or shutting down.
///
/// # Panics
/// Outside a runtime.
pub fn try_spawn<F>(future: F) -> Result<JoinHandle<F::Output>, TrySpawnError<F>>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let (at, admission) = here();
    match admission.try_admit(size_of::<F>()) {
        Ok(()) => Ok(JoinHandle::new(task::spawn(at, Place::Task, future))),
        Err(refusal) => Err(TrySpawnError { future, refusal }),
    }
}

/// Spawns what never ends, such as a listener or a reporter, from a small budget of its own, so that it takes no place from
/// the tasks that do the work.
///
/// ```
/// anteroom::block_on(async {
///     let service = anteroom::spawn_service(async {
///         let mut ticks = anteroom::time::interval(std::time::Duration::from_secs(1));
///         loop { ticks.tick().await; }
///     }).unwrap();
///     service.abort();
/// });
/// ```
///
/// # Bounds
/// `Builder::service_tasks`.
///
/// # Errors
/// [`TrySpawnError`], with the future, if the budget is used up or the runtime is shutting down.
///
/// # Panics
/// Outside a runtime.
pub fn spawn_service<F>(future: F) -> Result<JoinHandle<F::Output>, TrySpawnError<F>>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let (at, admission) = here();
    match admission.try_admit_service() {
        Ok(()) => Ok(JoinHandle::new(task::spawn(at, Place::Service, future))),
        Err(refusal) => Err(TrySpawnError { future, refusal }),
    }
}

type At = (&'static Home, &'static Local);

#[inline(always)]
fn here() -> (At, &'static Admission) {
    match (task::current(), admission::current()) {
        (Some(at), Some(admission)) => (at, admission),
        _ => outside(),
    }
}

#[cold]
fn outside() -> ! {
    panic!("there is no anteroom runtime on this thread: spawn inside Runtime::block_on")
}

pin_project! {
    /// The future of [`spawn`].
    ///
    /// ```
    /// anteroom::block_on(async {
    ///     let waiting: anteroom::Spawn<_> = anteroom::spawn(async { 1 });
    ///     let handle = waiting.await.unwrap();
    ///     assert_eq!(handle.await.unwrap(), 1);
    /// });
    /// ```
    #[must_use = "nothing is spawned until it is awaited"]
    pub struct Spawn<F: Future> {
        #[pin]
        entry: Entry<F, Key>,
    }

    impl<F: Future> PinnedDrop for Spawn<F> {
        fn drop(this: Pin<&mut Self>) {
            leave(this.project().entry);
        }
    }
}

pin_project! {
    /// The future of [`spawn_local`].
    ///
    /// ```
    /// anteroom::block_on(async {
    ///     let handle = anteroom::spawn_local(async { 1 }).await.unwrap();
    ///     assert_eq!(handle.await.unwrap(), 1);
    /// });
    /// ```
    #[must_use = "nothing is spawned until it is awaited"]
    pub struct SpawnLocal<F: Future> {
        #[pin]
        entry: Entry<F, Key>,
        // Its frame and its owner are one thread, which spares the claim its locked instruction.
        not_send: PhantomData<*mut ()>,
    }

    impl<F: Future> PinnedDrop for SpawnLocal<F> {
        fn drop(this: Pin<&mut Self>) {
            leave(this.project().entry);
        }
    }
}

impl<F: Future> Future for Spawn<F> {
    type Output = Result<JoinHandle<F::Output>, SpawnError>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        poll_entry(self.project().entry, true, cx)
    }
}

impl<F: Future> Future for SpawnLocal<F> {
    type Output = Result<JoinHandle<F::Output>, SpawnError>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        poll_entry(self.project().entry, false, cx)
    }
}

impl<F: Future> Spawn<F> {
    /// Admits and joins in one: awaited, gives the task's output.
    ///
    /// ```
    /// anteroom::block_on(async {
    ///     assert_eq!(anteroom::spawn(async { 6 * 7 }).join().await.unwrap(), 42);
    /// });
    /// ```
    ///
    /// # Errors
    /// [`JoinError`] if the task panicked, was cancelled, or never admitted.
    ///
    /// # Cancel safety
    /// Dropped, the task is aborted, or never started.
    pub fn join(self) -> Join<Spawn<F>, F::Output> {
        Join { spawn: self, handle: None }
    }

    /// Leaves the line and takes the future back; `None` if it was admitted, and then it is aborted.
    ///
    /// ```
    /// anteroom::block_on(async {
    ///     let mut waiting = std::pin::pin!(anteroom::spawn(async { 1 }));
    ///     let future = waiting.as_mut().withdraw().expect("it was never polled");
    ///     assert_eq!(future.await, 1);
    /// });
    /// ```
    pub fn withdraw(self: Pin<&mut Self>) -> Option<F> {
        let mut entry = self.project().entry;
        leave(entry.as_mut());
        entry.take()
    }
}

impl<F: Future> SpawnLocal<F> {
    /// As [`Spawn::join`].
    pub fn join(self) -> Join<SpawnLocal<F>, F::Output> {
        Join { spawn: self, handle: None }
    }

    /// As [`Spawn::withdraw`].
    pub fn withdraw(self: Pin<&mut Self>) -> Option<F> {
        let mut entry = self.project().entry;
        leave(entry.as_mut());
        entry.take()
    }
}

#[inline(always)]
fn poll_entry<F: Future>(
    mut entry: Pin<&mut Entry<F, Key>>,
    shared: bool,
    cx: &Context<'_>,
) -> Poll<Result<JoinHandle<F::Output>, SpawnError>> {
    if !entry.is_fresh() {
        // A place that was got for nothing would never come back, so this comes before anything is asked for.
        let polled = entry.as_mut().poll_wait(cx).expect("a spawn was polled after it was ready");
        return polled.map(|ended| match ended {
            Ended::Admitted(task, waiter) => {
                recycle(waiter);
                Ok(JoinHandle::new(task))
            }
            Ended::Refused(waiter) => {
                recycle(waiter);
                Err(SpawnError::Closed)
            }
        });
    }
    let (at, admission) = here();
    let mut admitted = admission.try_admit(size_of::<F>());
    let mut unused = None;
    if let Err(Refusal::Full | Refusal::Queued) = admitted {
        // The clone is the caller's code and may change who fits, so the question is asked again after it.
        let waker = cx.waker().clone();
        admitted = admission.try_admit(size_of::<F>());
        if let Err(Refusal::Full | Refusal::Queued) = admitted {
            if !admission.may_wait() {
                return Poll::Ready(Err(SpawnError::QueueFull));
            }
            let waiter = admission.waiter();
            entry.wait(waiter, shared, waker);
            admission.enqueue(size_of::<F>(), waiter);
            return Poll::Pending;
        }
        unused = Some(waker);
    }
    let result = match admitted {
        Ok(()) => Ok(JoinHandle::new(entry.spawn(at).expect("it is fresh"))),
        Err(Refusal::ExceedsLimit) => Err(SpawnError::ExceedsLimit),
        Err(_) => Err(SpawnError::Closed),
    };
    // Its drop, too, is the caller's code, and comes when the place has its task.
    drop(unused);
    Poll::Ready(result)
}

/// Gives back a node that is this thread's to recycle.
#[inline]
fn recycle(waiter: Recycle<Key>) {
    if let Some(waiter) = waiter {
        let (_, admission) = here();
        admission.recycle(waiter);
    }
}

/// Ends a wait: afterwards the future is the frame's again, or its task is aborted.
fn leave<F: Future>(entry: Pin<&mut Entry<F, Key>>) {
    match entry.cancel() {
        None => {}
        Some(Ok((waiter, waker))) => {
            if let Some(waiter) = waiter {
                let (at, admission) = here();
                admission.cancel(at, waiter);
            }
            // Its drop is the caller's code: it comes last, with nothing left to do.
            drop(waker);
        }
        Some(Err(Ended::Refused(waiter))) => recycle(waiter),
        Some(Err(Ended::Admitted(task, waiter))) => {
            recycle(waiter);
            abort::<F::Output>(task);
        }
    }
}

#[cold]
fn abort<T>(task: &'static Header) {
    let handle: JoinHandle<T> = JoinHandle::new(task);
    handle.abort();
    drop(handle);
}

pin_project! {
    /// The future of [`Spawn::join`] and [`SpawnLocal::join`].
    ///
    /// ```
    /// anteroom::block_on(async {
    ///     assert_eq!(anteroom::spawn_local(async { 1 }).join().await.unwrap(), 1);
    /// });
    /// ```
    #[must_use = "nothing is spawned until it is awaited"]
    pub struct Join<S, T> {
        #[pin]
        spawn: S,
        handle: Option<JoinHandle<T>>,
    }

    impl<S, T> PinnedDrop for Join<S, T> {
        fn drop(this: Pin<&mut Self>) {
            if let Some(handle) = this.project().handle.take() {
                handle.abort();
            }
        }
    }
}

impl<S, T> Future for Join<S, T>
where
    S: Future<Output = Result<JoinHandle<T>, SpawnError>>,
{
    type Output = Result<T, JoinError>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // Polled again after it was ready, it polls the spawn again, which says so.
        let this = self.project();
        let handle = match this.handle {
            Some(handle) => handle,
            None => match ready!(this.spawn.poll(cx)) {
                Ok(handle) => this.handle.insert(handle),
                Err(error) => return Poll::Ready(Err(joined(JoinErrorKind::NotAdmitted(error.text())))),
            },
        };
        let result = ready!(Pin::new(handle).poll(cx));
        *this.handle = None;
        Poll::Ready(result)
    }
}

/// Why a spawn that would have waited failed.
///
/// ```
/// assert_eq!(anteroom::SpawnError::Closed.to_string(), "the runtime is shutting down");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SpawnError {
    /// The runtime admits nobody any more.
    Closed,
    /// The future alone is larger than `max_task_bytes`.
    ExceedsLimit,
    /// As many spawners wait as may.
    QueueFull,
}

impl SpawnError {
    fn text(self) -> &'static str {
        match self {
            SpawnError::Closed => "the runtime is shutting down",
            SpawnError::ExceedsLimit => "the future is larger than max_task_bytes",
            SpawnError::QueueFull => "as many spawners wait as may",
        }
    }
}

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl std::error::Error for SpawnError {}

/// Why there was no place at once; holds the future.
///
/// ```
/// let runtime = anteroom::Runtime::builder().max_tasks(1).service_tasks(0).build().unwrap();
/// runtime.block_on(async {
///     let error = anteroom::spawn_service(async { 7 }).unwrap_err();
///     assert_eq!(error.to_string(), "there is no room");
///     assert_eq!(error.into_future().await, 7);
/// });
/// ```
pub struct TrySpawnError<F> {
    future: F,
    refusal: Refusal,
}

impl<F> TrySpawnError<F> {
    /// All places are taken.
    pub fn is_full(&self) -> bool {
        self.refusal == Refusal::Full
    }

    /// There is room, but others asked before and wait for more of it.
    pub fn is_queued(&self) -> bool {
        self.refusal == Refusal::Queued
    }

    /// The runtime admits nobody any more.
    pub fn is_closed(&self) -> bool {
        self.refusal == Refusal::Closed
    }

    /// The future alone is larger than `max_task_bytes`.
    pub fn exceeds_limit(&self) -> bool {
        self.refusal == Refusal::ExceedsLimit
    }

    /// The future, never polled.
    #[allow(clippy::should_implement_trait, reason = "awaiting an error would hide that it is one")]
    pub fn into_future(self) -> F {
        self.future
    }
}

impl<F> fmt::Debug for TrySpawnError<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TrySpawnError").field(&self.refusal).finish()
    }
}

impl<F> fmt::Display for TrySpawnError<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.refusal {
            Refusal::Full => "there is no room",
            Refusal::Queued => "there is room, but others wait for it",
            Refusal::Closed => SpawnError::Closed.text(),
            Refusal::ExceedsLimit => SpawnError::ExceedsLimit.text(),
        })
    }
}

impl<F> std::error::Error for TrySpawnError<F> {}
