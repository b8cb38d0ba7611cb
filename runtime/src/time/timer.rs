//! The runtime's clock and sleep, for the limiter.
//!
//! # Problem
//! A limiter that makes somebody wait until a time must do so by the clock of whoever waits, or a test that holds that clock
//! does not hold the limiter.
//!
//! # Idea
//! [`Timer`] names what this thread's runtime has, and holds nothing of it: it is read when it is asked.
//!
//! # Read next
//! `limiter/src/timer.rs`, the trait.

use std::time::Instant;

use super::sleep::{Sleep, sleep_until};

/// The clock and the sleep of the runtime that it is used in, for the crate [`limiter`](crate::limiter), or for whoever else
/// takes a [`limiter::Timer`](crate::limiter::Timer).
///
/// It is [`now`](super::now()) and [`sleep_until`](super::sleep_until()), so a paused clock (`Builder::paused_clock`) holds what
/// waits by it, too. A value of it belongs to no runtime: it may be kept in a `static`, and means the runtime that it is used
/// in.
///
/// ```
/// use std::time::Duration;
/// use anteroom::limiter::Timer as _;
/// use anteroom::time::Timer;
///
/// let runtime = anteroom::Runtime::builder().paused_clock(true).build().unwrap();
/// runtime.block_on(async {
///     let hour = Timer.now() + Duration::from_secs(3600);
///     Timer.sleep_until(hour).await; // the test takes no time
///     assert_eq!(Timer.now(), hour);
/// });
/// ```
///
/// # Panics
/// Its sleep panics when it is polled outside a runtime, as [`sleep`](super::sleep()) does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timer;

impl anteroom_limiter::Timer for Timer {
    type Sleep = Sleep;

    fn now(&self) -> Instant {
        super::now()
    }

    fn sleep_until(&self, at: Instant) -> Sleep {
        sleep_until(at)
    }
}
