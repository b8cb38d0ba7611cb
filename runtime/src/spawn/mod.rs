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
//! `asking.rs`, the steps; `within.rs`, a time for them; `task/waiter.rs`, the frame; `admission/`, the line.

pub(crate) mod asking;
mod error;
mod join;
mod reserve;
#[cfg(not(anteroom_loom))]
pub(crate) mod within;

use std::marker::PhantomData;
use std::panic::Location;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
#[cfg(not(anteroom_loom))]
use std::time::{Duration, Instant};

use asking::{Asking, At};
pub use error::{SpawnError, SpawnTimeoutError, TrySpawnError};
pub use join::Join;
use pin_project_lite::pin_project;
pub use reserve::{Reservation, Reserve, reserve};
#[cfg(not(anteroom_loom))]
pub use within::Within;

use crate::admission::{Admission, Door};
use crate::task::body::counted_bytes;
use crate::task::{self, JoinHandle, Place, Terms, Whole, With};

/// Asks for a place for `future`; awaited, gives its handle once it is a task.
///
/// While the runtime is full the caller waits, and `future` with it, where it is: nothing is allocated for it, it is not
/// moved and not polled. The line itself takes a small recycled entry a waiting spawn, whatever the future's size. Places
/// are given in the order in which they were asked for, on whatever thread.
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
/// `Builder::max_tasks` live tasks, and `Builder::max_task_bytes` of their futures and what they declare
/// ([`Spawn::heap`]). A finished task holds no place. At most `Builder::max_waiting` spawners wait.
///
/// # Errors
/// [`SpawnError::Closed`] if the runtime is shutting down, [`SpawnError::ExceedsLimit`] if the future alone is larger than
/// `max_task_bytes`, [`SpawnError::QueueFull`] if as many wait as may. [`Spawn::withdraw`] gives the future back; [`Spawn::timeout`] bounds the wait,
/// and its error gives it back.
///
/// # Panics
/// When polled outside a runtime.
///
/// # Cancel safety
/// Dropped while it waits, `future` is dropped unpolled. Dropped after it was admitted and before it was told so, its task
/// is aborted, and may have run by then; who must know that nothing ran uses [`reserve`](reserve()).
///
/// # Deadlock
/// Tasks that hold all places and wait for room for their children, or for one another, do not wait for ever: when nothing
/// else can move, the first in line whose spawner has a place runs its child there, in the spawner's own frame, polled with
/// the spawner, and gives the handle of a finished task. The limit holds, and nothing is allocated. That is when all who have
/// a place are known to wait for room or for tasks; or when, whatever they wait for, no task waits for a timer, a socket or a
/// blocking job. The future of `block_on`, services, other threads, and [`reserve`](reserve()) have no place to lend, and keep their
/// turn.
///
/// Not helped, and shown by [`holders`](crate::holders()): a child in place that needs its spawner to go on, since the spawner
/// waits for the child; a channel, or another thing that this crate does not know, that only a task could fill which gets no
/// room, while others wait for a timer or a socket; tasks that join each other in a circle; whoever holds a reservation and
/// waits for room; a child that declares more bytes ([`Spawn::heap`]) than are free. Who accepts connections does so in the
/// future of `block_on` or in a service: it is then no holder, which a connection could run in the place of.
///
/// Each child in place is polled by the one before, so recursion is as deep as the thread's stack allows:
/// `Builder::in_place_stack`, and then [`SpawnError::TooDeep`]. And each is told by a poll of all before it.
#[inline(always)]
#[track_caller]
pub fn spawn<F>(future: F) -> Spawn<F>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    spawn_at(future, Location::caller())
}

/// As [`spawn`](spawn()), for another front.
#[inline(always)]
pub(crate) fn spawn_at<F: Future>(future: F, site: task::Site) -> Spawn<F> {
    Spawn { asking: Asking::new(Whole(future), site, None) }
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
#[inline(always)]
#[track_caller]
pub fn spawn_local<F>(future: F) -> SpawnLocal<F>
where
    F: Future + 'static,
{
    spawn_local_at(future, Location::caller())
}

/// As [`spawn_local`], for another front.
#[inline(always)]
pub(crate) fn spawn_local_at<F: Future>(future: F, site: task::Site) -> SpawnLocal<F> {
    SpawnLocal { asking: Asking::new(Whole(future), site, None), not_send: PhantomData }
}

/// [`spawn`] for a future that does not exist yet: `make` is called when there is room, as the first thing the task does.
///
/// While it waits, the frame holds what `make` captured, and nothing of the future.
///
/// ```
/// let runtime = anteroom::Runtime::builder().max_tasks(10).build().unwrap();
/// runtime.block_on(async {
///     for n in 0..1_000_usize {
///         // 4 KiB each, of which there are never more than ten.
///         let page = move || async move {
///             let buffer = [0_u8; 4096];
///             anteroom::yield_now().await;
///             buffer.len() + n
///         };
///         anteroom::spawn_with(page).await.unwrap();
///     }
/// });
/// ```
///
/// # Bounds
/// As [`spawn`]; the bytes that count are those of the task, not of `make`.
///
/// # Errors
/// As [`spawn`]; [`SpawnWith::withdraw`] gives `make` back.
///
/// # Panics
/// When polled outside a runtime. What `make` panics with goes to the task's handle.
///
/// # Cancel safety
/// As [`spawn`]: dropped while it waits, `make` is dropped uncalled.
#[inline(always)]
#[track_caller]
pub fn spawn_with<M, F>(make: M) -> SpawnWith<M, F>
where
    M: FnOnce() -> F + Send + 'static,
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    SpawnWith { asking: Asking::new(With(make), Location::caller(), None) }
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
#[track_caller]
pub fn try_spawn<F>(future: F) -> Result<JoinHandle<F::Output>, TrySpawnError<F>>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    try_spawn_at(future, Location::caller())
}

/// As [`try_spawn`], for another front.
pub(crate) fn try_spawn_at<F: Future>(
    future: F,
    site: task::Site,
) -> Result<JoinHandle<F::Output>, TrySpawnError<F>> {
    let _inside = task::enter();
    let (at, admission) = here();
    let bytes = counted_bytes::<F>();
    match admission.try_admit(at, bytes) {
        Ok(()) => {
            let terms = Terms { place: Place::Task, bytes, site };
            Ok(JoinHandle::new(task::spawn(at, terms, future)))
        }
        Err(refusal) => Err(TrySpawnError::new(future, refusal)),
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
/// `Builder::service_tasks`; its bytes are of `Builder::max_task_bytes`, past those who wait.
///
/// # Errors
/// [`TrySpawnError`], with the future, if the budget is used up, its bytes are not free, or the runtime is shutting down.
///
/// # Panics
/// Outside a runtime.
#[track_caller]
pub fn spawn_service<F>(future: F) -> Result<JoinHandle<F::Output>, TrySpawnError<F>>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let _inside = task::enter();
    let (at, admission) = here();
    let bytes = counted_bytes::<F>();
    match admission.try_admit_service(at, bytes) {
        Ok(()) => {
            let terms = Terms { place: Place::Service, bytes, site: Location::caller() };
            Ok(JoinHandle::new(task::spawn(at, terms, future)))
        }
        Err(refusal) => Err(TrySpawnError::new(future, refusal)),
    }
}

#[inline(always)]
pub(crate) fn here() -> (At, &'static Admission) {
    match asking::inside() {
        Some(here) => here,
        None => outside(),
    }
}

#[cold]
fn outside() -> ! {
    panic!("there is no anteroom runtime on this thread: spawn inside Runtime::block_on, or by a Handle")
}

pin_project! {
    /// The future of [`spawn`] and of `Handle::spawn`.
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
        asking: Asking<Whole<F>>,
    }

    impl<F: Future> PinnedDrop for Spawn<F> {
        fn drop(this: Pin<&mut Self>) {
            this.project().asking.abandon();
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
        asking: Asking<Whole<F>>,
        // Its frame and its owner are one thread, which spares the claim its locked instruction.
        not_send: PhantomData<*mut ()>,
    }

    impl<F: Future> PinnedDrop for SpawnLocal<F> {
        fn drop(this: Pin<&mut Self>) {
            this.project().asking.abandon();
        }
    }
}

pin_project! {
    /// The future of [`spawn_with`].
    ///
    /// ```
    /// anteroom::block_on(async {
    ///     let handle = anteroom::spawn_with(|| async { 1 }).await.unwrap();
    ///     assert_eq!(handle.await.unwrap(), 1);
    /// });
    /// ```
    #[must_use = "nothing is spawned until it is awaited"]
    pub struct SpawnWith<M: FnOnce() -> F, F: Future> {
        #[pin]
        asking: Asking<With<M>>,
    }

    impl<M: FnOnce() -> F, F: Future> PinnedDrop for SpawnWith<M, F> {
        fn drop(this: Pin<&mut Self>) {
            this.project().asking.abandon();
        }
    }
}

impl<F: Future> Spawn<F> {
    /// By way of a handle.
    pub(crate) fn at(door: Door, future: F, site: task::Site) -> Self {
        Spawn { asking: Asking::new(Whole(future), site, Some(door)) }
    }
}

/// What the three have in common.
macro_rules! front {
    ($name:ident<$($param:ident),+> where [$($bounds:tt)+] $gives:ty, $seed:ident, $shared:literal) => {
        impl<$($bounds)+> Future for $name<$($param),+> {
            type Output = Result<JoinHandle<F::Output>, SpawnError>;

            #[inline]
            fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
                self.asking().poll_task($shared, cx)
            }
        }

        impl<$($bounds)+> $name<$($param),+> {
            pub(crate) fn asking(self: Pin<&mut Self>) -> Pin<&mut Asking<$seed<$gives>>> {
                self.project().asking
            }

            /// As [`heap`](Self::heap), in place.
            pub(crate) fn declare(&mut self, bytes: usize) {
                self.asking.declare(bytes);
            }

            /// Declares what the task will hold beyond its own size: buffers, documents, whatever it allocates. With
            /// `Builder::max_task_bytes` it is admitted when there is room for both.
            ///
            /// ```
            /// let runtime = anteroom::Runtime::builder().max_task_bytes(1024 * 1024).build().unwrap();
            /// runtime.block_on(async {
            ///     let page = async { vec![0_u8; 400_000].len() };
            ///     let handle = anteroom::spawn(page).heap(400_000).await.unwrap();
            ///     assert!(anteroom::metrics().task_bytes >= 400_000);
            ///     assert_eq!(handle.await.unwrap(), 400_000);
            ///     assert_eq!(anteroom::metrics().task_bytes, 0);
            /// });
            /// ```
            ///
            /// # Errors
            /// Awaited, [`SpawnError::ExceedsLimit`] if that is more than `max_task_bytes` by itself.
            pub fn heap(mut self, bytes: usize) -> Self {
                self.declare(bytes);
                self
            }

            /// Rather than wait while there is no room, runs the task where it is: in this future, in the place of the task that
            /// awaits it, polled whenever this is; awaited, this gives the handle of a finished task then. For recursion that
            /// prefers to go on over going wide. While another child runs in that place already, or if whoever awaits has
            /// none (the future of `block_on`, a service, another thread), it waits as without this.
            ///
            /// ```
            /// fn sum(numbers: std::ops::Range<u64>) -> std::pin::Pin<Box<dyn Future<Output = u64> + Send>> {
            ///     Box::pin(async move {
            ///         let middle = numbers.start.midpoint(numbers.end);
            ///         if middle == numbers.start {
            ///             return numbers.start;
            ///         }
            ///         let left = anteroom::spawn(sum(numbers.start..middle)).or_in_place().join();
            ///         left.await.unwrap() + sum(middle..numbers.end).await
            ///     })
            /// }
            ///
            /// let runtime = anteroom::Runtime::builder().max_tasks(2).build().unwrap();
            /// runtime.block_on(async {
            ///     let root = anteroom::spawn(sum(0..100)).await.unwrap();
            ///     assert_eq!(root.await.unwrap(), 4_950);
            /// });
            /// ```
            pub fn or_in_place(mut self) -> Self {
                self.asking.or_in_place();
                self
            }

            /// Admits and joins in one: awaited, gives the task's output.
            ///
            /// ```
            /// anteroom::block_on(async {
            ///     assert_eq!(anteroom::spawn(async { 6 * 7 }).join().await.unwrap(), 42);
            /// });
            /// ```
            ///
            /// # Errors
            /// [`JoinError`](crate::JoinError) if the task panicked, was cancelled, or never admitted.
            ///
            /// # Cancel safety
            /// Dropped, the task is aborted, or never started.
            pub fn join(self) -> Join<Self, F::Output> {
                Join::new(self)
            }

            /// Waits for a place for at most `duration` from now; then what waited comes back. How long the task then runs is not
            /// bounded by this: for that, `anteroom::time::timeout` goes around the work.
            ///
            /// Declarations, such as [`heap`](Self::heap), come before, and [`join`](Within::join) after.
            ///
            /// ```
            /// use std::time::Duration;
            /// let runtime = anteroom::Runtime::builder().max_tasks(1).build().unwrap();
            /// runtime.block_on(async {
            ///     let holder = anteroom::reserve().await.unwrap();
            ///     let error = anteroom::spawn(async { "done" }).timeout(Duration::from_millis(1)).await.unwrap_err();
            ///     assert!(error.is_timed_out());
            ///     drop(holder); // now there is room
            ///     let again = anteroom::spawn(error.into_future().unwrap()).timeout(Duration::from_secs(60));
            ///     assert_eq!(again.await.unwrap().await.unwrap(), "done");
            /// });
            /// ```
            ///
            /// # Bounds
            /// A timer, of `Builder::max_timers`, while it waits. A spawn that finds room sets none. The error is as large as what
            /// comes back in it.
            ///
            /// # Errors
            /// [`SpawnTimeoutError`], with what was to be spawned: [`SpawnError::TimedOut`] if there was no place in time, and
            /// otherwise as without this. The line behind it is as if it were dropped. A place that it was given before it
            /// looked at the clock it keeps; of no time at all, it takes what is there at its first poll. By way of a handle of
            /// another runtime it is that runtime's thread that answers, for which no time at all is too short.
            ///
            /// A child that runs in its spawner's place waits for none any more: it runs to its end.
            ///
            /// # Deadlock
            /// A task that waits with a time waits for a timer, too: it goes on by itself, so that [nothing is
            /// lent](crate::spawn()) before its time is over, neither by it nor by those that wait without one.
            ///
            /// # Panics
            /// When polled outside a runtime, for lack of a timer, also by way of a handle: there, use
            /// [`Handle::spawn_wait_timeout`](crate::Handle::spawn_wait_timeout), or the timer that there is around the spawn.
            ///
            /// # Cancel safety
            /// As without this: dropped while it waits, what waits is dropped with it.
            #[cfg(not(anteroom_loom))]
            pub fn timeout(self, duration: Duration) -> Within<Self> {
                Within::timeout(self, duration)
            }

            /// As [`timeout`](Self::timeout), until `deadline`: one that has passed already leaves it what there is at its first
            /// poll.
            ///
            /// ```
            /// use anteroom::time::now;
            /// let runtime = anteroom::Runtime::builder().max_tasks(1).build().unwrap();
            /// runtime.block_on(async {
            ///     let deadline = now();
            ///     let holder = anteroom::spawn(std::future::pending::<()>()).deadline(deadline).await.unwrap();
            ///     let error = anteroom::spawn(async {}).deadline(deadline).await.unwrap_err();
            ///     assert!(error.is_timed_out());
            ///     # drop(holder);
            /// });
            /// ```
            ///
            /// # Errors
            /// As [`timeout`](Self::timeout).
            ///
            /// # Panics
            /// As [`timeout`](Self::timeout).
            ///
            /// # Cancel safety
            /// As [`timeout`](Self::timeout).
            #[cfg(not(anteroom_loom))]
            pub fn deadline(self, deadline: Instant) -> Within<Self> {
                Within::deadline(self, deadline)
            }

            /// Spawns it if there is room now; as [`try_spawn`], with what was declared.
            ///
            /// ```
            /// let runtime = anteroom::Runtime::builder().max_task_bytes(1_000).build().unwrap();
            /// runtime.block_on(async {
            ///     let refused = anteroom::spawn(async {}).heap(2_000).try_now().unwrap_err();
            ///     assert!(refused.exceeds_limit());
            /// });
            /// ```
            ///
            /// # Errors
            /// [`TrySpawnError`], with what was to be spawned; by way of a handle, `Closed` unless on the runtime's thread.
            pub fn try_now(self) -> Result<JoinHandle<F::Output>, TrySpawnError<$gives>> {
                let this = pin!(self);
                match this.project().asking.try_now() {
                    Ok(task) => Ok(JoinHandle::new(task.expect("a plant grows into a task"))),
                    Err(($seed(future), refusal)) => Err(TrySpawnError::new(future, refusal)),
                }
            }

            /// Leaves the line and takes back what waited; `None` if it was admitted, and then its task is aborted, or runs in
            /// place, and then it is dropped there.
            ///
            /// ```
            /// anteroom::block_on(async {
            ///     let mut waiting = std::pin::pin!(anteroom::spawn(async { 1 }));
            ///     let future = waiting.as_mut().withdraw().expect("it was never polled");
            ///     assert_eq!(future.await, 1);
            /// });
            /// ```
            pub fn withdraw(self: Pin<&mut Self>) -> Option<$gives> {
                let mut asking = self.project().asking;
                asking.as_mut().abandon();
                asking.take().map(|$seed(future)| future)
            }
        }
    };
}

front!(Spawn<F> where [F: Future] F, Whole, true);
front!(SpawnLocal<F> where [F: Future] F, Whole, false);
front!(SpawnWith<M, F> where [M: FnOnce() -> F, F: Future] M, With, true);
