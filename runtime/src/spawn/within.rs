//! A time by which a spawn must have its place.
//!
//! # Problem
//! Who waits for a place behind a client that gives up after a second must give up too, and then has the work in hand still:
//! to answer that there is no room, to do it elsewhere, or to try again. A timeout around the spawn drops it.
//!
//! # Idea
//! [`Within`] is a spawn and a sleep, and bounds the wait for the place alone. The spawn is polled first, so a place that was
//! got in time is never given up; when the sleep ends, the spawn leaves the line as if it were dropped, except that what it
//! held comes out with the error. The sleep is polled only by who waits, so a spawn that finds room sets no timer, and one
//! without a time is no larger for this file.
//!
//! # Rejected
//! A deadline in every spawn: sixteen bytes in each frame, and a timer that the owner would have to find for a frame that lives
//! on another thread. A bound for the work as well: that is `time::timeout` around [`Spawn::join`].
//!
//! # Read next
//! `asking.rs`, how a spawn leaves; `../time/sleep.rs`.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use pin_project_lite::pin_project;

use super::{Join, Reservation, Reserve, Spawn, SpawnError, SpawnLocal, SpawnTimeoutError, SpawnWith};
use crate::driver;
use crate::task::JoinHandle;
use crate::time::{Sleep, sleep, sleep_until};

/// What waits for a place, and may stop.
pub(crate) trait Waits: Future<Output = Result<Self::Place, SpawnError>> {
    /// What it is told when it has its place.
    type Place;
    /// What it holds until then.
    type Held;

    /// Whether it has asked for a place and has none: it neither runs its child in place nor is it over.
    fn is_in_line(&self) -> bool;

    /// Leaves the line. The place, if it has just been granted.
    fn give_up(self: Pin<&mut Self>) -> Result<Self::Place, SpawnError>;

    /// Takes out what it holds, when it has failed.
    fn take_back(self: Pin<&mut Self>) -> Option<Self::Held>;
}

pin_project! {
    /// A spawn, or a [`reserve`](crate::reserve()), that waits for its place until a time and no longer: the future of their
    /// `timeout` and `deadline`.
    ///
    /// ```
    /// use std::time::Duration;
    /// use anteroom::{Spawn, SpawnError, Within};
    ///
    /// let runtime = anteroom::Runtime::builder().max_tasks(1).build().unwrap();
    /// runtime.block_on(async {
    ///     let _holder = anteroom::reserve().await.unwrap();
    ///     let waiting: Within<Spawn<_>> = anteroom::spawn(async { 7 }).timeout(Duration::from_millis(1));
    ///     let error = waiting.await.unwrap_err();
    ///     assert_eq!(error.reason(), SpawnError::TimedOut);
    ///     assert_eq!(error.into_future().unwrap().await, 7); // it was never polled, and is not lost
    /// });
    /// ```
    #[must_use = "nothing is spawned until it is awaited"]
    pub struct Within<S> {
        #[pin]
        spawn: S,
        #[pin]
        sleep: Sleep,
    }
}

impl<S> Within<S> {
    pub(crate) fn timeout(spawn: S, timeout: Duration) -> Self {
        Self { spawn, sleep: sleep(timeout) }
    }

    pub(crate) fn deadline(spawn: S, deadline: Instant) -> Self {
        Self { spawn, sleep: sleep_until(deadline) }
    }
}

/// One poll: its place, if it has one in time.
pub(crate) fn poll_place<S: Waits>(
    within: Pin<&mut Within<S>>,
    cx: &mut Context<'_>,
) -> Poll<Result<S::Place, SpawnError>> {
    // Before it asks for anything: a frame in a line that nothing would take it out of again is worse than a panic.
    assert!(
        driver::with(|_| ()).is_some(),
        "a spawn with a timeout was polled outside a runtime, where there is no timer: await it inside \
         Runtime::block_on, or use Handle::spawn_wait_timeout"
    );
    let mut this = within.project();
    let told = this.spawn.as_mut().poll(cx);
    if told.is_ready() || !this.spawn.is_in_line() {
        // It has its place, or runs in its spawner's, or has failed: the time is of no interest any more.
        let deadline = this.sleep.deadline();
        this.sleep.reset(deadline);
        return told;
    }
    ready!(this.sleep.poll(cx));
    Poll::Ready(this.spawn.give_up())
}

/// As [`poll_place`]; what it held comes out with the error.
pub(crate) fn poll_held<S: Waits>(
    mut within: Pin<&mut Within<S>>,
    cx: &mut Context<'_>,
) -> Poll<Result<S::Place, SpawnTimeoutError<S::Held>>> {
    let told = ready!(poll_place(within.as_mut(), cx));
    Poll::Ready(told.map_err(|why| SpawnTimeoutError::new(why, within.project().spawn.take_back())))
}

impl<S> fmt::Debug for Within<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Within").field("deadline", &self.sleep.deadline()).finish_non_exhaustive()
    }
}

/// What the spawns have in common.
macro_rules! held {
    ($name:ident<$($param:ident),+> where [$($bounds:tt)+] $held:ty) => {
        impl<$($bounds)+> Waits for $name<$($param),+> {
            type Place = JoinHandle<F::Output>;
            type Held = $held;

            fn is_in_line(&self) -> bool {
                self.asking.is_in_line()
            }

            fn give_up(self: Pin<&mut Self>) -> Result<Self::Place, SpawnError> {
                self.asking().give_up().ok_or(SpawnError::TimedOut)
            }

            fn take_back(self: Pin<&mut Self>) -> Option<$held> {
                self.asking().take().map(|seed| seed.0)
            }
        }

        impl<$($bounds)+> Future for Within<$name<$($param),+>> {
            type Output = Result<JoinHandle<F::Output>, SpawnTimeoutError<$held>>;

            fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
                poll_held(self, cx)
            }
        }

        impl<$($bounds)+> Within<$name<$($param),+>> {
            #[doc = concat!("Admits in time and joins in one, as [`", stringify!($name), "::join`].")]
            ///
            /// ```
            /// use std::time::Duration;
            /// anteroom::block_on(async {
            ///     let waiting = anteroom::spawn(async { 6 * 7 }).timeout(Duration::from_secs(1));
            ///     assert_eq!(waiting.join().await.unwrap(), 42);
            /// });
            /// ```
            ///
            /// # Errors
            /// [`JoinError`](crate::JoinError) if the task panicked, was cancelled, or not admitted in time; what was to be spawned
            /// is dropped then.
            ///
            /// # Cancel safety
            /// Dropped, the task is aborted, or never started.
            pub fn join(self) -> Join<Self, F::Output> {
                Join::new(self)
            }

            #[doc = concat!("Leaves the line before the time is over, as [`", stringify!($name), "::withdraw`].")]
            ///
            /// ```
            /// use std::time::Duration;
            /// anteroom::block_on(async {
            ///     let waiting = anteroom::spawn(async { 1 }).timeout(Duration::from_secs(1));
            ///     let mut waiting = std::pin::pin!(waiting);
            ///     let future = waiting.as_mut().withdraw().expect("it was never polled");
            ///     assert_eq!(future.await, 1);
            /// });
            /// ```
            pub fn withdraw(self: Pin<&mut Self>) -> Option<$held> {
                self.project().spawn.withdraw()
            }
        }
    };
}

held!(Spawn<F> where [F: Future] F);
held!(SpawnLocal<F> where [F: Future] F);
held!(SpawnWith<M, F> where [M: FnOnce() -> F, F: Future] M);

impl Waits for Reserve {
    type Place = Reservation;
    type Held = ();

    fn is_in_line(&self) -> bool {
        self.asking.is_in_line()
    }

    fn give_up(self: Pin<&mut Self>) -> Result<Reservation, SpawnError> {
        self.leave().ok_or(SpawnError::TimedOut)
    }

    fn take_back(self: Pin<&mut Self>) -> Option<()> {
        None
    }
}

impl Future for Within<Reserve> {
    type Output = Result<Reservation, SpawnError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        poll_place(self, cx)
    }
}
