//! At most so many at once and at most so many in so much time, in one permit.
//!
//! # Problem
//!
//! A server that is asked for 10 at once and 100 a second wants both kept by one call that may be given up. Two limits side
//! by side are taken in one order here and in another there, and given up in the middle.
//!
//! # Idea
//!
//! First the place, then the slot. A slot is a time, and passes. Who has it and then waits for a place goes on later than the
//! slot says, and when places come free, all who waited with slots in their hands go at once: the rate is broken. The other way
//! round nothing is lost: a place keeps while its holder sleeps, and no more than `limit` sleep.
//!
//! ```text
//!   acquire ──► semaphore: wait for a place ──► rate: take a slot, sleep until then ──► Permit
//!                          given up: nothing         given up: place back, slot back if it is the newest
//! ```
//!
//! # Invariants
//!
//! - `[PACED-1]` Whoever has a slot, or waits for it, has a place.
//! - `[PACED-2]` Given up at any point, the place goes on to the next.
//!
//! # Rejected
//!
//! - *Giving the place back while it sleeps.* Then it may have a slot and no place; see above.
//! - *A permit of its own kind.* The slot is used up when it begins; only the place comes back, so it is a [`Permit`].
//!
//! # Read next
//!
//! [`crate::semaphore`] and [`crate::rate::limit`], the two halves.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use crate::error::{AcquireError, TryAcquireError};
use crate::permit::{OwnedPermit, Permit};
use crate::rate::NotYet;
use crate::rate::limit::{RateLimit, ReserveError};
use crate::semaphore::Semaphore;
use crate::timer::Timer;

/// A [`Semaphore`] and a [`RateLimit`], taken as one.
///
/// Places are given first come, first served; slots, in the order in which those with a place are polled. At most
/// [`Semaphore::limit`] wait for a slot at any time, so the rate's queue is never longer.
///
/// ```
/// use std::sync::Arc;
/// use anteroom_limiter::{Paced, PacedError, Rate, RateLimit, Semaphore, Timer};
///
/// fn crawler<T: Timer>(timer: T) -> Paced<T> {
///     let rate = RateLimit::new(Rate::per_second(100), timer.now());
///     Paced::new(Arc::new(Semaphore::new(10)), rate, timer) // ten at once, a hundred a second
/// }
///
/// async fn fetch(host: &Paced<impl Timer>, page: &str) -> Result<(), PacedError> {
///     let _permit = host.acquire().await?; // the place comes back when it is dropped
///     // ... fetch the page ...
///     Ok(())
/// }
/// ```
pub struct Paced<T> {
    semaphore: Arc<Semaphore>,
    rate: RateLimit,
    timer: T,
}

/// Why [`Paced::acquire`] ended without a permit.
///
/// ```
/// use anteroom_limiter::{AcquireError, PacedError};
///
/// assert_eq!(PacedError::from(AcquireError::Closed).to_string(), "the semaphore is closed");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PacedError {
    /// There was no place.
    Place(AcquireError),
    /// There was no slot; the place went back.
    Slot(ReserveError),
}

/// Why [`Paced::try_acquire`] took nothing.
///
/// ```
/// use anteroom_limiter::{TryAcquireError, TryPacedError};
///
/// assert_eq!(TryPacedError::from(TryAcquireError::Closed).to_string(), "the semaphore is closed");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TryPacedError {
    /// There was no place.
    Place(TryAcquireError),
    /// No slot is due yet; the place went back.
    Slot(NotYet),
}

impl<T: Timer> Paced<T> {
    /// Both limits, and the clock to sleep by: that of `rate`.
    ///
    /// ```
    /// # use std::future::{Ready, ready};
    /// # use std::sync::Arc;
    /// # use std::time::Instant;
    /// use anteroom_limiter::{Paced, Rate, RateLimit, Semaphore, Timer};
    /// # struct Clock;
    /// # impl Timer for Clock {
    /// #     type Sleep = Ready<()>;
    /// #     fn now(&self) -> Instant { Instant::now() }
    /// #     fn sleep_until(&self, _: Instant) -> Ready<()> { ready(()) }
    /// # }
    ///
    /// let rate = RateLimit::new(Rate::per_second(100), Clock.now());
    /// let paced = Paced::new(Arc::new(Semaphore::new(10)), rate, Clock);
    /// assert_eq!(paced.semaphore().limit(), 10);
    /// ```
    #[must_use]
    pub fn new(semaphore: Arc<Semaphore>, rate: RateLimit, timer: T) -> Self {
        Self { semaphore, rate, timer }
    }

    /// Waits for a place, and then for a slot.
    ///
    /// ```
    /// use anteroom_limiter::{Paced, PacedError, Timer};
    ///
    /// async fn twice(host: &Paced<impl Timer>) -> Result<(), PacedError> {
    ///     drop(host.acquire().await?);
    ///     drop(host.acquire().await?); // at the rate's next slot, though the place is free at once
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`PacedError`].
    ///
    /// # Cancel safety
    ///
    /// Dropped while it waits for a place, nothing was taken. Dropped while it sleeps, the place goes to the next, and the
    /// slot goes back as from [`RateLimit::wait`].
    pub async fn acquire(&self) -> Result<Permit<&Semaphore>, PacedError> {
        let permit = self.semaphore.acquire().await?;
        self.rate.wait(&self.timer).await?; // [PACED-1], [PACED-2]
        Ok(permit)
    }

    /// As [`acquire`](Self::acquire), for a permit that may go where it likes.
    ///
    /// ```
    /// use anteroom_limiter::{OwnedPermit, Paced, PacedError, Timer};
    ///
    /// async fn admit(host: &Paced<impl Timer>) -> Result<OwnedPermit, PacedError> {
    ///     host.acquire_owned().await // may go to a spawned task
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
    pub async fn acquire_owned(&self) -> Result<OwnedPermit, PacedError> {
        let permit = self.semaphore.acquire_owned().await?;
        self.rate.wait(&self.timer).await?; // [PACED-1], [PACED-2]
        Ok(permit)
    }

    /// Takes both, if there is a place and nobody waits for it, and a slot is due at `now`. Else it takes neither.
    ///
    /// ```
    /// use anteroom_limiter::{Paced, Timer, TryPacedError};
    ///
    /// fn admit(host: &Paced<impl Timer>) -> bool {
    ///     match host.try_acquire(host.timer().now()) {
    ///         Ok(_permit) => true, // ... and use it ...
    ///         Err(TryPacedError::Slot(not_yet)) => not_yet.retry_after().is_zero(),
    ///         Err(_) => false,
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`TryPacedError`], at once.
    pub fn try_acquire(&self, now: Instant) -> Result<Permit<&Semaphore>, TryPacedError> {
        let permit = self.semaphore.try_acquire()?;
        self.rate.check(now)?; // [PACED-2]
        Ok(permit)
    }

    /// The limit of those at once: to resize or close it.
    ///
    /// ```
    /// # use anteroom_limiter::{LimitError, Paced, Timer};
    /// fn slow_down(host: &Paced<impl Timer>) -> Result<(), LimitError> {
    ///     host.semaphore().set_limit(2)
    /// }
    /// ```
    #[must_use]
    pub fn semaphore(&self) -> &Arc<Semaphore> {
        &self.semaphore
    }

    /// The limit of those in so much time.
    ///
    /// ```
    /// # use anteroom_limiter::{Paced, Rate, Timer};
    /// fn rate(host: &Paced<impl Timer>) -> Rate {
    ///     host.rate().rate()
    /// }
    /// ```
    #[must_use]
    pub fn rate(&self) -> &RateLimit {
        &self.rate
    }

    /// The clock.
    ///
    /// ```
    /// # use anteroom_limiter::{Paced, Timer};
    /// fn now(host: &Paced<impl Timer>) -> std::time::Instant {
    ///     host.timer().now()
    /// }
    /// ```
    #[must_use]
    pub fn timer(&self) -> &T {
        &self.timer
    }
}

impl From<AcquireError> for PacedError {
    fn from(error: AcquireError) -> Self {
        PacedError::Place(error)
    }
}

impl From<ReserveError> for PacedError {
    fn from(error: ReserveError) -> Self {
        PacedError::Slot(error)
    }
}

impl From<TryAcquireError> for TryPacedError {
    fn from(error: TryAcquireError) -> Self {
        TryPacedError::Place(error)
    }
}

impl From<NotYet> for TryPacedError {
    fn from(error: NotYet) -> Self {
        TryPacedError::Slot(error)
    }
}

impl<T> fmt::Debug for Paced<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { semaphore, rate, .. } = self;
        f.debug_struct("Paced").field("semaphore", semaphore).field("rate", rate).finish_non_exhaustive()
    }
}

impl fmt::Display for PacedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PacedError::Place(error) => error.fmt(f),
            PacedError::Slot(error) => error.fmt(f),
        }
    }
}

impl fmt::Display for TryPacedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TryPacedError::Place(error) => error.fmt(f),
            TryPacedError::Slot(error) => error.fmt(f),
        }
    }
}

impl Error for PacedError {}
impl Error for TryPacedError {}
