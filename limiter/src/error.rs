//! One error enum for each kind of operation.
//!
//! # Idea
//!
//! An operation names exactly the ways in which it can fail, so a `match` on them is worth writing: `acquire` cannot
//! run out of permits, it waits.
//!
//! # Read next
//!
//! [`crate::semaphore`], which returns them.

use std::error::Error;
use std::fmt;

use crate::word;

/// Why [`acquire`](crate::Semaphore::acquire) and its siblings ended without a permit.
///
/// ```
/// use anteroom_limiter::{AcquireError, Semaphore};
///
/// let error = AcquireError::ExceedsLimit;
/// assert_eq!(error.to_string(), "the request exceeds the semaphore's limit");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AcquireError {
    /// The semaphore was closed, before the request or while it waited.
    Closed,
    /// The request is larger than the limit was when it came: no release could ever make room for it.
    ExceedsLimit,
    /// As many wait as may ([`Semaphore::with_max_waiting`](crate::Semaphore::with_max_waiting)): the newest is rejected.
    QueueFull,
    /// It was not this caller's turn in the time that it had.
    TimedOut,
}

/// Why [`try_acquire`](crate::Semaphore::try_acquire) and its siblings took nothing.
///
/// ```
/// use anteroom_limiter::{Semaphore, TryAcquireError};
///
/// let semaphore = Semaphore::new(1);
/// let _permit = semaphore.try_acquire().unwrap();
/// assert_eq!(semaphore.try_acquire().unwrap_err(), TryAcquireError::NoPermits);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TryAcquireError {
    /// Not enough permits now; or enough, but others wait for more, and nobody overtakes them.
    NoPermits,
    /// The semaphore is closed, for good.
    Closed,
    /// The request is larger than the limit itself: no release could ever make room for it.
    ExceedsLimit,
}

/// Why a number cannot be a semaphore's limit.
///
/// ```
/// use anteroom_limiter::{LimitError, Semaphore};
///
/// assert_eq!(Semaphore::try_new(0).unwrap_err(), LimitError::Zero);
/// assert_eq!(Semaphore::try_new(usize::MAX).unwrap_err(), LimitError::AboveMax);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitError {
    /// Zero would hang every caller. To end admission, close the semaphore; to pause it, hold all its permits.
    Zero,
    /// More than [`Semaphore::MAX_PERMITS`](crate::Semaphore::MAX_PERMITS).
    AboveMax,
}

impl fmt::Display for AcquireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AcquireError::Closed => "the semaphore is closed",
            AcquireError::ExceedsLimit => "the request exceeds the semaphore's limit",
            AcquireError::QueueFull => "as many wait for permits as may",
            AcquireError::TimedOut => "no permit was granted in time",
        })
    }
}

impl fmt::Display for TryAcquireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TryAcquireError::NoPermits => "not enough permits are available, or others wait for them already",
            TryAcquireError::Closed => "the semaphore is closed",
            TryAcquireError::ExceedsLimit => "the request exceeds the semaphore's limit",
        })
    }
}

impl fmt::Display for LimitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LimitError::Zero => f.write_str("a semaphore's limit must be at least 1"),
            LimitError::AboveMax => {
                write!(f, "a semaphore's limit must be at most {} (MAX_PERMITS)", word::MAX)
            }
        }
    }
}

impl Error for AcquireError {}
impl Error for TryAcquireError {}
impl Error for LimitError {}
