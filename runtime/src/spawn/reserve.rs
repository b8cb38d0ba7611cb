//! A place first, and then what goes there.
//!
//! # Problem
//! A server that accepts a connection and then waits for room holds one more than it has places for; and who must know
//! that nothing ran until it says so cannot leave that to a spawn.
//!
//! # Idea
//! [`reserve`] waits in the same line as every spawn, with nothing in its frame. What it gives, a [`Reservation`], holds the
//! place until it is spent or dropped.

use std::fmt;
use std::panic::Location;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
#[cfg(not(anteroom_loom))]
use std::time::{Duration, Instant};

use pin_project_lite::pin_project;

use super::asking::{Asking, inside};
#[cfg(not(anteroom_loom))]
use super::within::Within;
use super::{SpawnError, TrySpawnError, here};
use crate::admission::{Door, Refusal};
use crate::task::body::counted_bytes;
use crate::task::{self, JoinHandle, Place, Seat, Site, Terms};

/// Waits for a place, and for nothing else: accept a connection, or take a job from a queue, only when there is room for it.
///
/// ```
/// use anteroom::net::{TcpListener, TcpStream};
/// let runtime = anteroom::Runtime::builder().max_tasks(100).build().unwrap();
/// runtime.block_on(async {
///     let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
///     let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
///     // A server does this in a loop: connections that there is no room for stay in the system's backlog.
///     let place = anteroom::reserve().await.unwrap();
///     let (stream, _) = listener.accept().await.unwrap();
///     place.spawn(async move { stream.write_all(b"hello").await }).unwrap();
/// });
/// ```
///
/// # Bounds
/// A reservation counts as a live task, and waits in the same line.
///
/// # Errors
/// As [`spawn`](crate::spawn()).
///
/// # Panics
/// When polled outside a runtime.
///
/// # Cancel safety
/// Dropped at any time, the place goes to the next in line.
#[track_caller]
pub fn reserve() -> Reserve {
    Reserve { asking: Asking::new(Seat, Location::caller(), None) }
}

pin_project! {
    /// The future of [`reserve`].
    ///
    /// ```
    /// anteroom::block_on(async {
    ///     let place = anteroom::reserve().bytes(1_000).await.unwrap();
    ///     assert_eq!(anteroom::metrics().task_bytes, 1_000);
    ///     drop(place);
    ///     assert_eq!(anteroom::metrics().tasks_live, 0);
    /// });
    /// ```
    #[must_use = "nothing is reserved until it is awaited"]
    pub struct Reserve {
        #[pin]
        pub(super) asking: Asking<Seat>,
    }

    impl PinnedDrop for Reserve {
        fn drop(this: Pin<&mut Self>) {
            drop(this.leave());
        }
    }
}

impl Reserve {
    /// With room for a task of so many bytes, its future and what it allocates together: needed under
    /// `Builder::max_task_bytes`, where without it bytes are asked for when the place is spent, and may be missing.
    pub fn bytes(mut self, bytes: usize) -> Self {
        self.asking.declare(bytes);
        self
    }

    /// Waits for at most `duration` from now, as [`Spawn::timeout`](crate::Spawn::timeout).
    ///
    /// ```
    /// use std::time::Duration;
    /// use anteroom::SpawnError;
    /// let runtime = anteroom::Runtime::builder().max_tasks(1).build().unwrap();
    /// runtime.block_on(async {
    ///     let _place = anteroom::reserve().await.unwrap();
    ///     let late = anteroom::reserve().timeout(Duration::from_millis(1)).await;
    ///     assert_eq!(late.unwrap_err(), SpawnError::TimedOut);
    /// });
    /// ```
    ///
    /// # Bounds
    /// A timer, of `Builder::max_timers`, while it waits.
    ///
    /// # Errors
    /// [`SpawnError::TimedOut`] if there was no place in time, and otherwise as [`reserve`](reserve()).
    ///
    /// # Panics
    /// When polled outside a runtime.
    ///
    /// # Cancel safety
    /// As [`reserve`](reserve()).
    #[cfg(not(anteroom_loom))]
    pub fn timeout(self, duration: Duration) -> Within<Reserve> {
        Within::timeout(self, duration)
    }

    /// As [`timeout`](Self::timeout), until `deadline`.
    ///
    /// ```
    /// use anteroom::{SpawnError, time::now};
    /// let runtime = anteroom::Runtime::builder().max_tasks(1).build().unwrap();
    /// runtime.block_on(async {
    ///     let deadline = now();
    ///     let _place = anteroom::reserve().deadline(deadline).await.unwrap(); // there is room
    ///     assert_eq!(anteroom::reserve().deadline(deadline).await.unwrap_err(), SpawnError::TimedOut);
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
    /// As [`reserve`](reserve()).
    #[cfg(not(anteroom_loom))]
    pub fn deadline(self, deadline: Instant) -> Within<Reserve> {
        Within::deadline(self, deadline)
    }

    /// Leaves the line; the place, if it has just been granted.
    pub(super) fn leave(self: Pin<&mut Self>) -> Option<Reservation> {
        let mut asking = self.project().asking;
        let _a_place = asking.as_mut().leave()?;
        Some(Reservation::of(&asking))
    }
}

impl Future for Reserve {
    type Output = Result<Reservation, SpawnError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let _inside = task::enter();
        let mut asking = self.project().asking;
        let _a_place = ready!(asking.as_mut().poll(true, cx))?;
        Poll::Ready(Ok(Reservation::of(&asking)))
    }
}

/// A place that is held; dropping it gives it to the next in line.
///
/// ```
/// anteroom::block_on(async {
///     let place = anteroom::reserve().await.unwrap();
///     let handle = place.spawn(async { 7 }).unwrap();
///     assert_eq!(handle.await.unwrap(), 7);
/// });
/// ```
///
/// It may be dropped on any thread. It outlives `Handle::close`: who has a place may use it. From the moment on in which its
/// runtime is being dropped it makes no task any more.
#[must_use = "dropped, it gives its place to the next in line"]
pub struct Reservation {
    /// `None` once it is spent.
    door: Option<Door>,
    bytes: usize,
    site: Site,
}

impl Reservation {
    /// Of what has just been granted.
    fn of(asking: &Asking<Seat>) -> Self {
        let terms = asking.terms();
        Self { door: Some(asking.door()), bytes: terms.bytes, site: terms.site }
    }

    /// Where it was asked for.
    pub fn site(&self) -> &'static Location<'static> {
        self.site
    }

    /// Makes a task of `future`, at once and in any case that there is room in `max_task_bytes`.
    ///
    /// # Errors
    /// [`TrySpawnError`], with the future: its runtime is gone, or is not the one that this thread is inside of
    /// (`is_closed`); or under `Builder::max_task_bytes` it is larger than what was reserved by [`Reserve::bytes`], and the
    /// rest is not free. The place goes to the next in line then.
    ///
    /// # Panics
    /// Outside a runtime.
    #[track_caller]
    pub fn spawn<F>(mut self, future: F) -> Result<JoinHandle<F::Output>, TrySpawnError<F>>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let _inside = task::enter();
        let (at, admission) = here();
        if admission.is_ending() || !self.door.is_some_and(|door| admission.is_behind(door)) {
            return Err(TrySpawnError::new(future, Refusal::Closed));
        }
        let needs = counted_bytes::<F>();
        if needs > self.bytes {
            if !admission.add_bytes(needs - self.bytes) {
                return Err(TrySpawnError::new(future, Refusal::Full));
            }
            self.bytes = needs;
        }
        self.door = None;
        admission.note_reserved(-1);
        let terms = Terms { place: Place::Task, bytes: self.bytes, site: Location::caller() };
        Ok(JoinHandle::new(task::spawn(at, terms, future)))
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let Some(door) = self.door.take() else { return };
        let _inside = task::enter();
        match inside() {
            Some((at, admission)) if admission.is_behind(door) => admission.release_reserved(at, self.bytes),
            _ => door.release([1, self.bytes]),
        }
    }
}

impl fmt::Debug for Reservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reservation").field("bytes", &self.bytes).field("site", &self.site).finish()
    }
}
