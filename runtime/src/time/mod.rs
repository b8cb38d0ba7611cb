//! Sleeps, timeouts and intervals.
//!
//! # Problem
//! A future that waits for a time must be cheap to make and to drop, since most are dropped before the time comes.
//!
//! # Idea
//! A [`Sleep`] holds its deadline and, once it was polled, a key into the driver's wheel. Dropping it takes the key out.
//! Everything else is made of sleeps. Deadlines are `std::time::Instant`s of the runtime's clock, which a test can hold
//! (`Builder::paused_clock`); what is too far away for an `Instant` is thirty years away.
//!
//! # Read next
//! `../driver/wheel.rs`.

mod interval;
mod sleep;
mod timeout;
mod timer;

use std::time::{Duration, Instant};

pub use interval::{Interval, interval};
pub use sleep::{Sleep, sleep, sleep_until};
pub use timeout::{Elapsed, Timeout, timeout, timeout_at};
pub use timer::Timer;

use crate::{clock, driver, task};

/// The time on the runtime's clock: the system's, unless it was built with a paused one; outside a runtime the system's.
///
/// ```
/// let runtime = anteroom::Runtime::builder().paused_clock(true).build().unwrap();
/// runtime.block_on(async {
///     let start = anteroom::time::now();
///     anteroom::time::sleep(std::time::Duration::from_secs(3600)).await;
///     assert_eq!((anteroom::time::now() - start).as_secs(), 3600); // and the test took no time
/// });
/// ```
pub fn now() -> Instant {
    // A team has no other clock than the system's, and what it would have to ask is under its key.
    if task::sits_in_team() {
        return clock::system_now();
    }
    driver::with(|driver| driver.clock.now()).unwrap_or_else(clock::system_now)
}

/// Moves a paused clock on by `by`, firing the timers that are due, then lets the tasks that wait for them run once.
///
/// ```
/// use anteroom::time::{advance, sleep};
/// use std::time::Duration;
///
/// let runtime = anteroom::Runtime::builder().paused_clock(true).build().unwrap();
/// runtime.block_on(async {
///     let task = anteroom::spawn(sleep(Duration::from_secs(60))).await.unwrap();
///     anteroom::yield_now().await; // it starts to sleep
///     advance(Duration::from_secs(61)).await;
///     assert!(task.is_finished());
/// });
/// ```
///
/// # Panics
/// Outside a runtime, and in one whose clock is not paused.
///
/// # Cancel safety
/// Time has moved as soon as it was polled once.
pub async fn advance(by: Duration) {
    driver::with(|driver| {
        assert!(driver.clock.is_paused(), "time::advance needs a paused clock: Builder::paused_clock(true)");
        driver.advance(by);
    })
    .expect("time::advance was called outside a runtime: call it inside Runtime::block_on");
    crate::yield_now().await;
}

/// `now + after`, or so far away that it does not matter.
fn deadline_after(now: Instant, after: Duration) -> Instant {
    now.checked_add(after).unwrap_or_else(|| far_from(now))
}

/// Thirty years: what `Instant` can hold on every system, and longer than a process lives (bugs.md 43).
fn far_from(now: Instant) -> Instant {
    now + Duration::from_secs(30 * 365 * 86_400)
}
