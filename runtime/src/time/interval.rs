//! Ticks at even distances.

use std::time::{Duration, Instant};

use super::sleep::{Sleep, sleep_until};

/// Ticks every `period`, the first time at once.
///
/// A tick that comes late does not move the later ones; ticks that were missed altogether are left out, so a reporter that
/// was held up for an hour does not report 3,600 times at once.
///
/// ```
/// use std::time::Duration;
/// let runtime = anteroom::Runtime::builder().paused_clock(true).build().unwrap();
/// runtime.block_on(async {
///     let mut every_second = anteroom::time::interval(Duration::from_secs(1));
///     let first = every_second.tick().await;
///     let second = every_second.tick().await;
///     assert_eq!(second - first, Duration::from_secs(1));
/// });
/// ```
///
/// # Panics
/// If `period` is zero.
pub fn interval(period: Duration) -> Interval {
    assert!(!period.is_zero(), "time::interval: the period must be longer than zero");
    Interval { period, sleep: sleep_until(super::now()) }
}

/// What [`interval`] makes.
///
/// ```
/// let ticks = anteroom::time::interval(std::time::Duration::from_millis(5));
/// assert_eq!(ticks.period().as_millis(), 5);
/// ```
#[derive(Debug)]
pub struct Interval {
    period: Duration,
    sleep: Sleep,
}

impl Interval {
    /// Waits for the next tick; returns when it was due.
    ///
    /// # Panics
    /// When polled outside a runtime.
    ///
    /// # Cancel safety
    /// A tick that was waited for and dropped comes to the next call.
    pub async fn tick(&mut self) -> Instant {
        (&mut self.sleep).await;
        let due = self.sleep.deadline();
        self.sleep.reset(next_after(due, self.period, super::now()));
        due
    }

    /// The time between two ticks.
    pub fn period(&self) -> Duration {
        self.period
    }
}

/// The first of `due + period`, `due + 2 * period`, ... that is after `now`; or the very next if that is.
fn next_after(due: Instant, period: Duration, now: Instant) -> Instant {
    let missed = now.saturating_duration_since(due).as_nanos() / period.as_nanos();
    let periods = u32::try_from(missed).unwrap_or(u32::MAX - 1) + 1;
    super::deadline_after(due, period.saturating_mul(periods))
}

#[cfg(all(test, not(anteroom_loom)))]
mod tests {
    use super::*;

    #[test]
    fn missed_ticks_are_left_out_and_the_phase_is_kept() {
        let (start, second) = (super::super::now(), Duration::from_secs(1));
        for (late_ms, expected) in [(0, 1), (999, 1), (1_000, 2), (3_600_500, 3_601)] {
            let next = next_after(start, second, start + Duration::from_millis(late_ms));
            assert_eq!(next - start, second * expected, "{late_ms} ms late");
        }
    }
}
