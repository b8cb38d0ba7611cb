//! A counting semaphore for async code: the public face of the gate.
//!
//! # Problem
//!
//! "At most *n* at once" must hold while waiters give up, the limit moves, and permits come back from other threads; and
//! it must cost next to nothing while there is room.
//!
//! # Idea
//!
//! [`Semaphore`] checks what callers say and hands it to [`crate::gate`]. Units come out as [`Permit`]s only, so there is
//! no call that could release what was not acquired.
//!
//! # Rejected
//!
//! - *`add_permits` and `forget`.* Both change the capacity by what a caller believes it to be. [`Semaphore::set_limit`]
//!   states what it shall be.
//! - *Reopening.* A closed semaphore that opens again makes every `Closed` a maybe.
//!
//! # Read next
//!
//! [`crate::gate`], the protocol; [`crate::acquire`], the future; [`crate::permit`], the proof.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::acquire::Acquire;
use crate::error::{AcquireError, LimitError, TryAcquireError};
use crate::gate::{Balance, Gate};
use crate::permit::{OwnedPermit, Permit};
use crate::timer::Timer;
use crate::word;

/// At most so many at once: a counting semaphore, first in, first out, resizable.
///
/// Works in any runtime, and in none: it needs a waker and nothing else. Waiters are served in the order in which they
/// first polled, each with all it asked for; nobody overtakes, neither a newcomer nor a smaller request. With room and
/// nobody waiting, to acquire and release takes two locked instructions and no lock.
///
/// ```
/// use anteroom_limiter::Semaphore;
/// # use std::pin::pin;
/// # use std::task::{Context, Poll, Waker};
/// # fn block_on<T>(future: impl Future<Output = T>) -> T {
/// #     match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
/// #         Poll::Ready(output) => output,
/// #         Poll::Pending => unreachable!("there is room"),
/// #     }
/// # }
///
/// # block_on(async {
/// let connections = Semaphore::new(100);
///
/// let permit = connections.acquire().await?;
/// assert_eq!(connections.available(), 99);
/// // ... use one connection ...
/// drop(permit);
/// assert_eq!(connections.available(), 100);
/// # Ok::<(), anteroom_limiter::AcquireError>(())
/// # }).unwrap();
/// ```
///
/// # Bounds
///
/// At most [`MAX_PERMITS`](Self::MAX_PERMITS) permits. A waiter costs its future, in its caller's frame, and an entry of
/// less than 64 bytes here; there is one for each [`Acquire`] that has been polled and has not ended. The entries' memory
/// is that of the most that ever waited at once, and is used again; [`trim`](Self::trim) gives it back.
///
/// # Deadlock
///
/// Whoever holds a permit and waits for a second one of the same semaphore waits, at the limit, for itself. Ask for both
/// at once, with [`acquire_many`](Self::acquire_many).
pub struct Semaphore {
    gate: Gate,
}

/// What a [`Semaphore`] was at one instant, all four numbers together.
///
/// ```
/// use anteroom_limiter::{Semaphore, Snapshot};
///
/// let semaphore = Semaphore::new(3);
/// let _permit = semaphore.try_acquire_many(2).unwrap();
/// assert_eq!(semaphore.snapshot(), Snapshot { limit: 3, in_use: 2, waiting: 0, closed: false });
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// How many permits there may be at once.
    pub limit: usize,
    /// How many there are; more than `limit` only after a shrink or a charge.
    pub in_use: usize,
    /// How many callers wait.
    pub waiting: usize,
    /// Whether admission has ended.
    pub closed: bool,
}

impl Semaphore {
    /// The largest limit: 2³¹ - 1 permits, so that limit and use fit into one atomic word.
    ///
    /// ```
    /// # use anteroom_limiter::{LimitError, Semaphore};
    /// assert!(Semaphore::try_new(Semaphore::MAX_PERMITS).is_ok());
    /// assert_eq!(Semaphore::try_new(Semaphore::MAX_PERMITS + 1).unwrap_err(), LimitError::AboveMax);
    /// ```
    pub const MAX_PERMITS: usize = word::MAX;

    /// A semaphore with `limit` permits.
    ///
    /// ```
    /// use anteroom_limiter::Semaphore;
    ///
    /// let semaphore = Semaphore::new(3);
    /// assert_eq!(semaphore.limit(), 3);
    /// ```
    ///
    /// # Panics
    ///
    /// If `limit` is zero, which would hang every caller, or more than [`MAX_PERMITS`](Self::MAX_PERMITS).
    /// [`try_new`](Self::try_new) is for a limit that comes from a user.
    #[must_use]
    #[track_caller]
    pub fn new(limit: usize) -> Self {
        Self::try_new(limit).unwrap_or_else(|error| panic!("Semaphore::new({limit}): {error}"))
    }

    /// A semaphore with `limit` permits, or why that cannot be.
    ///
    /// ```
    /// use anteroom_limiter::{LimitError, Semaphore};
    ///
    /// assert_eq!(Semaphore::try_new(0).unwrap_err(), LimitError::Zero);
    /// ```
    ///
    /// # Errors
    ///
    /// [`LimitError`], if `limit` is zero or more than [`MAX_PERMITS`](Self::MAX_PERMITS).
    pub fn try_new(limit: usize) -> Result<Self, LimitError> {
        checked(limit).map(|limit| Self { gate: Gate::new(limit) })
    }

    /// Lets at most `waiting_max` callers wait; the next is told [`AcquireError::QueueFull`]
    /// at once. Without this, as many wait as there are futures that were polled.
    ///
    /// A long queue helps nobody: who has waited for longer than its client has patience does work that is thrown away.
    /// Those who come back from [`Permit::suspend`] are counted, and are never rejected.
    ///
    /// ```
    /// use std::pin::pin;
    /// use std::task::{Context, Poll, Waker};
    /// use anteroom_limiter::{AcquireError, Semaphore};
    ///
    /// let semaphore = Semaphore::new(1).with_max_waiting(1);
    /// let mut cx = Context::from_waker(Waker::noop());
    /// let _permit = semaphore.try_acquire().unwrap();
    ///
    /// let mut second = pin!(semaphore.acquire());
    /// assert!(second.as_mut().poll(&mut cx).is_pending());
    /// let mut third = pin!(semaphore.acquire());
    /// assert!(matches!(third.as_mut().poll(&mut cx), Poll::Ready(Err(AcquireError::QueueFull))));
    /// ```
    #[must_use]
    pub fn with_max_waiting(mut self, waiting_max: usize) -> Self {
        self.gate.bound_waiting(waiting_max);
        self
    }

    /// Waits for one permit.
    ///
    /// ```
    /// # use anteroom_limiter::Semaphore;
    /// # async fn fetch() {}
    /// async fn polite(connections: &Semaphore) -> Result<(), anteroom_limiter::AcquireError> {
    ///     let _permit = connections.acquire().await?;
    ///     fetch().await; // at most so many of these at once
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`AcquireError::Closed`] if the semaphore is closed, now or while this waits.
    ///
    /// # Cancel safety
    ///
    /// Dropped before its first poll, it has done nothing. Dropped while it waits, it loses its place in the queue, and
    /// those behind it are served if they now fit. Dropped after it was granted but before it was polled again, the
    /// permit goes to the next. Nothing is ever lost, so it may be raced with a timer: the limiter has no clock, and a
    /// deadline that has passed is no reason for it to refuse. If there is room at the first poll, that poll gives the
    /// permit; a caller who would rather have the timeout looks at the clock first.
    ///
    /// # Deadlock
    ///
    /// A granted permit belongs to this future from that moment, and is counted as in use, whether it is polled or not.
    /// A future that was polled once and is then kept without being polled (in a `select!` loop by reference, or in a set
    /// whose owner waits for something else) holds up everyone behind it. Poll it or drop it.
    #[inline]
    pub fn acquire(&self) -> Acquire<&Self> {
        Acquire::new(self, 1)
    }

    /// Waits for `weight` permits, all at once: while it waits it holds none of them.
    ///
    /// A weight of zero is granted at once, past all waiters since it takes nothing, unless the semaphore is closed. The
    /// empty permit is a place to [`merge`](Permit::merge) others into.
    ///
    /// ```
    /// # use anteroom_limiter::{AcquireError, Semaphore};
    /// async fn load(memory_mib: &Semaphore, size_mib: usize) -> Result<(), AcquireError> {
    ///     let _permit = memory_mib.acquire_many(size_mib).await?;
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`acquire`](Self::acquire), and [`AcquireError::ExceedsLimit`] at once if
    /// `weight` is more than the limit. If the limit shrinks below `weight` while this waits, it goes on waiting, at the
    /// head and with all others behind it, until the limit grows, or it is dropped, or the semaphore is closed.
    ///
    /// # Cancel safety
    ///
    /// As [`acquire`](Self::acquire).
    #[inline]
    pub fn acquire_many(&self, weight: usize) -> Acquire<&Self> {
        Acquire::new(self, weight)
    }

    /// As [`acquire`](Self::acquire), for a permit that may outlive this borrow: it keeps the semaphore alive.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use anteroom_limiter::{AcquireError, OwnedPermit, Semaphore};
    ///
    /// async fn admit(semaphore: Arc<Semaphore>) -> Result<OwnedPermit, AcquireError> {
    ///     semaphore.acquire_owned().await // may go to a spawned task
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`acquire`](Self::acquire).
    ///
    /// # Cancel safety
    ///
    /// As [`acquire`](Self::acquire).
    #[inline]
    pub fn acquire_owned(self: &Arc<Self>) -> Acquire<Arc<Self>> {
        Acquire::new(Arc::clone(self), 1)
    }

    /// As [`acquire_many`](Self::acquire_many), for a permit that keeps the semaphore alive.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use anteroom_limiter::{AcquireError, OwnedPermit, Semaphore};
    ///
    /// async fn admit(semaphore: Arc<Semaphore>, weight: usize) -> Result<OwnedPermit, AcquireError> {
    ///     semaphore.acquire_many_owned(weight).await
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`acquire_many`](Self::acquire_many).
    ///
    /// # Cancel safety
    ///
    /// As [`acquire`](Self::acquire).
    #[inline]
    pub fn acquire_many_owned(self: &Arc<Self>, weight: usize) -> Acquire<Arc<Self>> {
        Acquire::new(Arc::clone(self), weight)
    }

    /// [`acquire`](Self::acquire) that waits for at most `duration`: [`Acquire::timeout`].
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use anteroom_limiter::{AcquireError, Semaphore, Timer};
    /// async fn answer(semaphore: &Semaphore, timer: impl Timer) -> &'static str {
    ///     match semaphore.acquire_timeout(timer, Duration::from_millis(50)).await {
    ///         Ok(_permit) => "200 OK",
    ///         Err(AcquireError::TimedOut | AcquireError::QueueFull) => "503 Service Unavailable",
    ///         Err(_) => "502 Bad Gateway",
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`acquire`](Self::acquire), and [`AcquireError::TimedOut`].
    ///
    /// # Cancel safety
    ///
    /// As [`acquire`](Self::acquire).
    pub fn acquire_timeout<T: Timer>(
        &self,
        timer: T,
        duration: Duration,
    ) -> impl Future<Output = Result<Permit<&Self>, AcquireError>> + use<'_, T> {
        self.acquire().timeout(timer, duration)
    }

    /// [`acquire`](Self::acquire) that waits until `at` at the latest: [`Acquire::deadline`].
    ///
    /// ```
    /// # use std::time::Instant;
    /// # use anteroom_limiter::{AcquireError, Semaphore, Timer};
    /// async fn in_time(semaphore: &Semaphore, timer: impl Timer, end: Instant) -> Result<(), AcquireError> {
    ///     let _first = semaphore.acquire_deadline(&timer, end).await?;
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`acquire_timeout`](Self::acquire_timeout).
    ///
    /// # Cancel safety
    ///
    /// As [`acquire`](Self::acquire).
    pub fn acquire_deadline<T: Timer>(
        &self,
        timer: T,
        at: Instant,
    ) -> impl Future<Output = Result<Permit<&Self>, AcquireError>> + use<'_, T> {
        self.acquire().deadline(timer, at)
    }

    /// [`acquire`](Self::acquire) with the whole thread, for threads that run no tasks: [`Acquire::blocking`].
    ///
    /// ```
    /// let semaphore = anteroom_limiter::Semaphore::new(1);
    /// let permit = semaphore.acquire_blocking();
    /// assert!(permit.is_ok());
    /// ```
    ///
    /// # Errors
    ///
    /// As [`acquire`](Self::acquire).
    pub fn acquire_blocking(&self) -> Result<Permit<&Self>, AcquireError> {
        self.acquire().blocking()
    }

    /// Takes one permit if there is room and nobody waits for it.
    ///
    /// ```
    /// use anteroom_limiter::Semaphore;
    ///
    /// let semaphore = Semaphore::new(1);
    /// let permit = semaphore.try_acquire();
    /// assert!(permit.is_ok() && semaphore.try_acquire().is_err());
    /// ```
    ///
    /// # Errors
    ///
    /// [`TryAcquireError`], at once.
    #[inline]
    pub fn try_acquire(&self) -> Result<Permit<&Self>, TryAcquireError> {
        self.try_acquire_many(1)
    }

    /// Takes `weight` permits, all or none, if there is room and nobody waits. For a weight of zero see
    /// [`acquire_many`](Self::acquire_many).
    ///
    /// ```
    /// use anteroom_limiter::{Semaphore, TryAcquireError};
    ///
    /// let semaphore = Semaphore::new(3);
    /// let two = semaphore.try_acquire_many(2).unwrap();
    /// assert_eq!(semaphore.try_acquire_many(2).unwrap_err(), TryAcquireError::NoPermits);
    /// assert_eq!(semaphore.try_acquire_many(4).unwrap_err(), TryAcquireError::ExceedsLimit);
    /// ```
    ///
    /// # Errors
    ///
    /// [`TryAcquireError`], at once.
    #[inline]
    pub fn try_acquire_many(&self, weight: usize) -> Result<Permit<&Self>, TryAcquireError> {
        self.gate.try_acquire(weight).map(|()| Permit::new(self, weight))
    }

    /// As [`try_acquire`](Self::try_acquire), for a permit that keeps the semaphore alive.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use anteroom_limiter::Semaphore;
    ///
    /// let semaphore = Arc::new(Semaphore::new(1));
    /// let permit = semaphore.try_acquire_owned().unwrap();
    /// std::thread::spawn(move || drop(permit)).join().unwrap();
    /// assert_eq!(semaphore.available(), 1);
    /// ```
    ///
    /// # Errors
    ///
    /// [`TryAcquireError`], at once.
    #[inline]
    pub fn try_acquire_owned(self: &Arc<Self>) -> Result<OwnedPermit, TryAcquireError> {
        self.try_acquire_many_owned(1)
    }

    /// As [`try_acquire_many`](Self::try_acquire_many), for a permit that keeps the semaphore alive.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use anteroom_limiter::Semaphore;
    ///
    /// let semaphore = Arc::new(Semaphore::new(5));
    /// assert_eq!(semaphore.try_acquire_many_owned(5).unwrap().weight(), 5);
    /// ```
    ///
    /// # Errors
    ///
    /// [`TryAcquireError`], at once.
    #[inline]
    pub fn try_acquire_many_owned(self: &Arc<Self>, weight: usize) -> Result<OwnedPermit, TryAcquireError> {
        self.gate.try_acquire(weight).map(|()| Permit::new(Arc::clone(self), weight))
    }

    /// Changes the limit, up or down, also below what is in use.
    ///
    /// Growth serves waiters at once. A shrink takes nothing from anyone: [`available`](Self::available) is negative until
    /// enough permits have come back, and nothing is granted meanwhile. A closed semaphore stays closed.
    ///
    /// ```
    /// use anteroom_limiter::Semaphore;
    ///
    /// let semaphore = Semaphore::new(5);
    /// let five = semaphore.try_acquire_many(5).unwrap();
    /// semaphore.set_limit(2)?;
    /// assert_eq!(semaphore.available(), -3);
    /// semaphore.set_limit(4)?;
    /// assert_eq!(semaphore.available(), -1); // the debt was not forgotten
    /// drop(five);
    /// assert_eq!(semaphore.available(), 4);
    /// # Ok::<(), anteroom_limiter::LimitError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`LimitError`], if `limit` is zero or more than [`MAX_PERMITS`](Self::MAX_PERMITS); nothing has changed then.
    ///
    /// # Panics
    ///
    /// If a waiter's waker panics, with its panic, after all who are due were served and woken.
    pub fn set_limit(&self, limit: usize) -> Result<(), LimitError> {
        checked(limit).map(|limit| self.gate.set_limit(limit))
    }

    /// Ends admission for good: all who wait and all who come are told [`Closed`](crate::AcquireError::Closed).
    ///
    /// Permits stay valid until they are dropped, and who comes back from [`Permit::suspend`] is let in, in its turn. Closing
    /// again does nothing.
    ///
    /// ```
    /// use anteroom_limiter::{Semaphore, TryAcquireError};
    ///
    /// let semaphore = Semaphore::new(1);
    /// let permit = semaphore.try_acquire().unwrap();
    /// semaphore.close();
    /// assert_eq!(semaphore.try_acquire().unwrap_err(), TryAcquireError::Closed);
    /// assert_eq!(semaphore.in_use(), 1);
    /// # drop(permit);
    /// ```
    ///
    /// # Panics
    ///
    /// If a waiter's waker panics, with its panic, after all waiters were told.
    pub fn close(&self) {
        self.gate.close();
    }

    /// Whether [`close`](Self::close) was called.
    ///
    /// ```
    /// # use anteroom_limiter::Semaphore;
    /// assert!(!Semaphore::new(1).is_closed());
    /// ```
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.gate.word().is_closed()
    }

    /// How many permits there may be at once.
    ///
    /// ```
    /// # use anteroom_limiter::Semaphore;
    /// assert_eq!(Semaphore::new(3).limit(), 3);
    /// ```
    #[must_use]
    pub fn limit(&self) -> usize {
        self.gate.word().limit()
    }

    /// How many permits there are. Above the limit only after a shrink or a charge.
    ///
    /// ```
    /// # use anteroom_limiter::Semaphore;
    /// assert_eq!(Semaphore::new(3).in_use(), 0);
    /// ```
    #[must_use]
    pub fn in_use(&self) -> usize {
        self.gate.word().in_use()
    }

    /// What is left of the limit: negative after a shrink or a charge, by what must come back before anything is granted.
    ///
    /// A statistic: what it says may be over by the time it is read. To take what is there, try.
    ///
    /// ```
    /// # use anteroom_limiter::Semaphore;
    /// assert_eq!(Semaphore::new(3).available(), 3);
    /// ```
    #[must_use]
    pub fn available(&self) -> isize {
        let word = self.gate.word();
        word.limit() as isize - word.in_use() as isize // Both are at most MAX_PERMITS, which fits.
    }

    /// How many callers wait.
    ///
    /// ```
    /// # use anteroom_limiter::Semaphore;
    /// assert_eq!(Semaphore::new(3).waiting(), 0);
    /// ```
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.gate.snapshot().1
    }

    /// Limit, use, waiters and closure at one instant.
    ///
    /// ```
    /// use anteroom_limiter::Semaphore;
    ///
    /// let semaphore = Semaphore::new(3);
    /// semaphore.close();
    /// assert!(semaphore.snapshot().closed);
    /// ```
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let (word, waiting) = self.gate.snapshot();
        Snapshot { limit: word.limit(), in_use: word.in_use(), waiting, closed: word.is_closed() }
    }

    /// Gives back the memory of those who waited once, if nobody waits now.
    ///
    /// ```
    /// # use anteroom_limiter::Semaphore;
    /// Semaphore::new(3).trim();
    /// ```
    pub fn trim(&self) {
        self.gate.trim();
    }

    /// Sets the limit that `choose` finds right for what it is shown: 1 to [`MAX_PERMITS`](Self::MAX_PERMITS).
    pub(crate) fn relimit(&self, choose: impl FnOnce(Balance) -> usize) {
        self.gate.relimit(choose);
    }

    #[inline]
    pub(crate) fn gate(&self) -> &Gate {
        &self.gate
    }
}

impl Snapshot {
    /// What is left of the limit: negative after a shrink or a charge.
    ///
    /// ```
    /// # use anteroom_limiter::Snapshot;
    /// assert_eq!(Snapshot { limit: 2, in_use: 5, waiting: 0, closed: false }.available(), -3);
    /// ```
    #[must_use]
    pub const fn available(&self) -> isize {
        self.limit as isize - self.in_use as isize // Both are at most MAX_PERMITS, which fits.
    }

    /// As the fields of `name`.
    pub(crate) fn fmt_as(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(name)
            .field("limit", &self.limit)
            .field("in_use", &self.in_use)
            .field("waiting", &self.waiting)
            .field("closed", &self.closed)
            .finish()
    }
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.snapshot().fmt_as("Semaphore", f)
    }
}

/// The limit, if it can be one.
pub(crate) fn checked(limit: usize) -> Result<usize, LimitError> {
    match limit {
        0 => Err(LimitError::Zero),
        1..=word::MAX => Ok(limit),
        _ => Err(LimitError::AboveMax),
    }
}
