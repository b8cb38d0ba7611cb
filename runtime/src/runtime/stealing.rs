//! The work-stealing runtime: the same parts, wired for several threads.
//!
//! # Problem
//! Workers must come up together and be gone together, and threads that only wait for one future come and go in between.
//!
//! # Idea
//! A team's home has the parts that every runtime has. Each worker's thread sits down in it, finds them, and runs the loop of
//! `scheduler/stealing.rs`; a thread in `block_on` sits down as a guest, and polls its one future. Dropping the runtime stops
//! the workers, waits for the polls that they are in, and ends the rest on the dropping thread.
//!
//! # Invariants
//! - [RUNTIME-2] As [RUNTIME-1]: after the drop no future of this runtime exists. Only where it is dropped by one of its own tasks
//!   that comes later: on a thread of its own, when that task's poll has ended.
//!
//! # Read next
//! `../task/team.rs`, what it rests on.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::mem::ManuallyDrop;
use std::panic::Location;
use std::pin::pin;
use std::thread;

use super::{Builder, Parts};
use crate::admission::{self, Admission, Door};
use crate::blocking;
use crate::driver;
use crate::driver::shared::Shared;
use crate::handle::Handle;
use crate::metrics::{Metrics, metrics};
use crate::scheduler::stealing::{self, Stealing};
use crate::sync::{Scope, seeded};
use crate::task::team::{Ownership, Seat, Team};
use crate::task::{self, Guest, Site};
use crate::wait::wait;
use crate::worst::{self, WorstCase};

/// As many workers as a runtime may have.
const WORKERS_MAX: usize = 1_024;

impl Builder {
    /// Builds a work-stealing runtime: its tasks run on so many threads of their own, which start here.
    ///
    /// All bounds are of the runtime as a whole, and exact: never more than [`max_tasks`](Self::max_tasks) tasks are live over
    /// all workers, and those who wait are let in in the order in which they came, wherever they wait.
    ///
    /// ```
    /// let runtime = anteroom::Builder::new().max_tasks(100).build_stealing(2).unwrap();
    /// let sum = runtime.block_on(async {
    ///     let mut sum = 0;
    ///     for n in 0..1_000_u64 {
    ///         sum += anteroom::spawn(async move { n }).join().await.unwrap();
    ///     }
    ///     sum
    /// });
    /// assert_eq!(sum, 499_500);
    /// ```
    ///
    /// # Errors
    /// `InvalidInput` that names an option of no use, a number of workers that is not between 1 and 1,024, and
    /// [`paused_clock`](Self::paused_clock), which is a single-threaded runtime's; and the system's, when it gives no thread, epoll,
    /// eventfd or timerfd.
    pub fn build_stealing(self, workers: usize) -> io::Result<StealingRuntime> {
        // As for the threads of blocking jobs.
        const STACK_BYTES_MIN: usize = 128 << 10;
        const STACK_BYTES_MAX: usize = 1 << 30;
        let refuse = |text: String| Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        self.check()?;
        if !(1..=WORKERS_MAX).contains(&workers) {
            return refuse(format!("build_stealing({workers}): must be between 1 and {WORKERS_MAX} workers"));
        }
        if self.paused_clock {
            let text = "paused_clock(true): with several workers no moment is the one in which nothing can run; use build()";
            return refuse(text.into());
        }
        if let Some(bytes) =
            self.worker_stack_size.filter(|bytes| !(STACK_BYTES_MIN..=STACK_BYTES_MAX).contains(bytes))
        {
            let text = "must be between 131,072 and 1,073,741,824 bytes";
            return refuse(format!("worker_stack_size({bytes}): {text}"));
        }
        let ownership = Ownership::new(workers);
        let team = ownership.team();
        let door = {
            let _seat = Seat::of_guest(team);
            let _inside = task::enter();
            let (home, local) = task::current().expect("this thread sits in a team");
            let Parts { admission, .. } = self.open(home, local)?;
            admission.door()
        };
        team.set_stopping(false);
        let mut runtime = StealingRuntime { door, threads: Vec::new(), ownership: Some(ownership) };
        for number in 0..workers {
            let mut thread = thread::Builder::new().name(format!("anteroom-{number}"));
            if let Some(bytes) = self.worker_stack_size {
                thread = thread.stack_size(bytes);
            }
            // If one cannot be had, dropping the runtime ends those before it.
            runtime.threads.push(thread.spawn(move || work(team, number))?);
        }
        Ok(runtime)
    }
}

impl Builder {
    /// How many bytes of stack each worker of [`build_stealing`](Self::build_stealing) has: at least 128 KiB, and at most 1 GiB.
    /// By default std's choice: 2 MiB, unless the environment's `RUST_MIN_STACK` says otherwise. Who sets
    /// [`in_place_stack`](Self::in_place_stack) to more sets this, too.
    ///
    /// ```
    /// let runtime = anteroom::Builder::new().worker_stack_size(512 << 10).in_place_stack(256 << 10).build_stealing(2).unwrap();
    /// assert_eq!(runtime.block_on(anteroom::spawn(async { 7 }).join()).unwrap(), 7);
    /// ```
    #[must_use]
    pub fn worker_stack_size(mut self, bytes: usize) -> Self {
        self.worker_stack_size = Some(bytes);
        self
    }

    /// [`worst_case`](Self::worst_case) of a runtime that is built with so many workers: their threads and rings, and the free
    /// memory that each keeps, come on top.
    ///
    /// A thread inside of [`StealingRuntime::block_on`] keeps free memory, too, at most 1 MiB of blocks for as long as it is there.
    ///
    /// ```
    /// let builder = anteroom::Builder::new().worker_stack_size(256 << 10);
    /// let (alone, two) = (builder.worst_case(), builder.worst_case_stealing(2));
    /// assert_eq!(two.parts().count(), alone.parts().count() + 1);
    /// println!("{two}");
    /// ```
    pub fn worst_case_stealing(&self, workers: usize) -> WorstCase {
        worst::of(&worst::Options { workers, worker_stack: self.worker_stack_size, ..self.worst_options() })
    }
}

/// A thread that sits in a team and finds the parts of its runtime.
pub(crate) struct Present {
    _parts: (admission::Entered, Scope<driver::Slot>, Scope<blocking::Slot>),
    pub(crate) seat: Seat,
}

impl Present {
    pub(crate) fn new(seat: Seat) -> Self {
        let parts = {
            let _inside = task::enter();
            let (home, local) = task::current().expect("this thread sits in a team");
            (
                admission::enter(Admission::of(home, local)),
                driver::Slot::of(home, local).enter(),
                blocking::Slot::of(local).enter(),
            )
        };
        Self { _parts: parts, seat }
    }
}

/// What a worker's thread does.
fn work(team: &'static Team, number: usize) {
    let present = Present::new(Seat::of_worker(team, number));
    if let Some(mut stealing) = Stealing::new(team, &present.seat, number, &Shared) {
        stealing.work();
    }
}

/// The work-stealing runtime: its tasks run on worker threads of its own. Behind the feature `stealing`.
///
/// The same functions as ever spawn into it, from its tasks, from the future of [`block_on`](Self::block_on), and from other
/// threads by a [`Handle`]: with the same bounds, the same order and the same promises as of [`Runtime`](crate::Runtime).
/// [`spawn_local`](crate::spawn_local()) alone is not for it, and panics.
///
/// ```
/// let runtime = anteroom::Builder::new().build_stealing(2).unwrap();
/// // From as many threads as one likes, at the same time.
/// std::thread::scope(|scope| {
///     for n in 0..3 {
///         let runtime = &runtime;
///         scope.spawn(move || runtime.block_on(async move {
///             assert_eq!(anteroom::spawn(async move { n * 2 }).join().await.unwrap(), n * 2);
///         }));
///     }
/// });
/// ```
///
/// # Bounds
/// As of [`Runtime`](crate::Runtime), for all workers together; and for each of them a thread, a ring of 256 tasks, and free
/// memory for the next futures, at most 1 MiB each.
///
/// # Panics
/// Dropping it drops every task on the dropping thread; what their drops panic with is swallowed. It waits for the polls
/// that its workers are in just then, and for nothing else. Dropped by one of its own tasks, it ends on a thread of its own.
pub struct StealingRuntime {
    door: Door,
    threads: Vec<thread::JoinHandle<()>>,
    /// `None` while it is being dropped.
    ownership: Option<Ownership>,
}

impl StealingRuntime {
    fn team(&self) -> &'static Team {
        self.ownership.as_ref().expect("it is not being dropped").team()
    }

    /// Runs `future` to its end on this thread, while the workers run the tasks. Any number of threads may be in here at once.
    ///
    /// `future` holds no place and needs neither be `Send` nor `'static`; it is polled on this thread alone.
    ///
    /// ```
    /// let (runtime, name) = (anteroom::Builder::new().build_stealing(1).unwrap(), String::from("borrowed"));
    /// let length = runtime.block_on(async { name.len() });
    /// assert_eq!(length, 8);
    /// ```
    ///
    /// # Panics
    /// With what `future` panicked with; and when called inside itself, or by one of its own tasks.
    #[track_caller]
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        let (team, site) = (self.team(), Location::caller());
        assert!(
            !team.is_of_this_thread(),
            "StealingRuntime::block_on was called inside itself: await the future instead, or spawn it; \
             to block a task on another runtime, build a second one"
        );
        block_on(team, site, future)
    }

    /// This runtime, for other threads.
    ///
    /// ```
    /// let runtime = anteroom::Builder::new().build_stealing(1).unwrap();
    /// let task = runtime.handle().spawn_wait(async { 6 * 7 }).unwrap();
    /// assert_eq!(runtime.block_on(task).unwrap(), 42);
    /// ```
    pub fn handle(&self) -> Handle {
        Handle::new(self.door)
    }

    /// How many worker threads it has.
    ///
    /// ```
    /// assert_eq!(anteroom::Builder::new().build_stealing(2).unwrap().workers(), 2);
    /// ```
    pub fn workers(&self) -> usize {
        self.team().len()
    }

    /// What it counts, over all workers; what changes meanwhile may be counted or not.
    ///
    /// ```
    /// let runtime = anteroom::Builder::new().max_tasks(10).build_stealing(2).unwrap();
    /// assert_eq!(runtime.metrics().tasks_max, 10);
    /// ```
    pub fn metrics(&self) -> Metrics {
        let team = self.team();
        if team.is_of_this_thread() {
            return metrics();
        }
        let _present = Present::new(Seat::of_guest(team));
        metrics()
    }
}

/// Polls `future` on this thread, as a guest of the team, until it is ready.
pub(crate) fn block_on<F: Future>(team: &'static Team, site: Site, future: F) -> F::Output {
    let present = Present::new(Seat::of_guest(team));
    // Dropped after the guest, and before it leaves.
    let _look = (!seeded("shuttle_guest_leaves_quietly")).then(|| LookForStuck(team));
    let guest = Guest::new(present.seat.worker(), site);
    let mut future = pin!(future);
    let polled = poll_fn(|cx| {
        let polled = guest.poll(|| future.as_mut().poll(cx));
        if polled.is_pending() {
            drop(LookForStuck(team));
        }
        polled
    });
    wait(pin!(polled), None).expect("without a deadline it waits until it is ready")
}

/// A future that waits again, or has ended, may be what the last worker that went to sleep took for something that moves: when
/// this is dropped, one looks again.
struct LookForStuck(&'static Team);

impl Drop for LookForStuck {
    fn drop(&mut self) {
        let team = self.0;
        let is_wanted = {
            // Of two who have the key, one after the other, the later sees what the other did before: the worker that this is
            // ready no more, or this that the worker sleeps.
            let _inside = task::enter();
            team.idle.0.asleep() == team.len() && admission::current().is_some_and(Admission::is_wanted)
        };
        if is_wanted && !seeded("shuttle_guest_does_not_look") {
            team.notify();
        }
    }
}

impl Drop for StealingRuntime {
    fn drop(&mut self) {
        // [RUNTIME-2]
        let Some(ownership) = self.ownership.take() else { return };
        let threads = std::mem::take(&mut self.threads);
        let team = ownership.team();
        team.set_stopping(true);
        if !team.is_of_this_thread() {
            return end(ownership, threads);
        }
        // A worker cannot wait for itself. Without a thread to do it the runtime is given up as it is, stopped, and its home with it.
        let parts = ManuallyDrop::new((ownership, threads));
        let ending = thread::Builder::new().name("anteroom-end".into());
        let _given_up = ending.spawn(move || {
            let (ownership, threads) = ManuallyDrop::into_inner(parts);
            end(ownership, threads);
        });
    }
}

/// Waits for the workers, and ends what they left.
fn end(ownership: Ownership, threads: Vec<thread::JoinHandle<()>>) {
    for thread in threads {
        // A worker catches what tasks panic with.
        let _ended = thread.join();
    }
    let team = ownership.team();
    let present = Present::new(Seat::of_guest(team));
    stealing::shut_down(team, &present.seat, &Shared);
    {
        let _inside = task::enter();
        let (home, local) = task::current().expect("this thread sits in a team");
        if let Some(pool) = blocking::current() {
            pool.close();
        }
        blocking::Slot::of(local).set(None);
        driver::Slot::of(home, local).close();
    }
    drop(present);
    drop(ownership);
}

impl fmt::Debug for StealingRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StealingRuntime").field("workers", &self.workers()).finish_non_exhaustive()
    }
}
