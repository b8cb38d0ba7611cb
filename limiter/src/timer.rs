//! Where the time comes from, for those who must wait for it.
//!
//! # Problem
//!
//! A limiter that reads a clock of its own is tied to the runtime that has the timers, and cannot be tested without
//! waiting.
//!
//! # Idea
//!
//! All logic of this crate takes `now` from its caller. Only what has to *sleep* needs more, and asks it of a [`Timer`],
//! which is two methods: the runtime's clock and the runtime's sleep. anteroom implements it (`anteroom::time::Timer`);
//! for others it is ten lines, as in the example below.
//!
//! # Read next
//!
//! [`crate::semaphore`], whose `acquire_timeout` takes one.

use std::sync::Arc;
use std::time::Instant;

/// A clock and its sleep: what a runtime has.
///
/// ```
/// use std::future::{Ready, ready};
/// use std::time::{Duration, Instant};
/// use anteroom_limiter::Timer;
///
/// /// For a program that never runs two things at once. A runtime's own looks alike:
/// /// `tokio::time::Instant::now().into_std()`, and `tokio::time::sleep_until(at.into())`.
/// struct Blocking;
///
/// impl Timer for Blocking {
///     type Sleep = Ready<()>;
///
///     fn now(&self) -> Instant {
///         Instant::now()
///     }
///
///     fn sleep_until(&self, at: Instant) -> Ready<()> {
///         std::thread::sleep(at.saturating_duration_since(Instant::now()));
///         ready(())
///     }
/// }
///
/// let start = Blocking.now();
/// Blocking.sleep_until(start + Duration::from_millis(1));
/// assert!(Blocking.now() >= start + Duration::from_millis(1));
/// ```
pub trait Timer {
    /// Resolves at its time or later, at once if that has passed. Dropped, it holds nothing up.
    type Sleep: Future<Output = ()>;

    /// The present, on the clock that [`sleep_until`](Self::sleep_until) follows.
    fn now(&self) -> Instant;

    /// Sleeps until `at`.
    fn sleep_until(&self, at: Instant) -> Self::Sleep;
}

impl<T: Timer + ?Sized> Timer for &T {
    type Sleep = T::Sleep;

    fn now(&self) -> Instant {
        (**self).now()
    }

    fn sleep_until(&self, at: Instant) -> T::Sleep {
        (**self).sleep_until(at)
    }
}

impl<T: Timer + ?Sized> Timer for Arc<T> {
    type Sleep = T::Sleep;

    fn now(&self) -> Instant {
        (**self).now()
    }

    fn sleep_until(&self, at: Instant) -> T::Sleep {
        (**self).sleep_until(at)
    }
}
