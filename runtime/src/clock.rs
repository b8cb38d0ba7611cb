//! The one place that reads the time, and the clock that a test can hold.
//!
//! # Problem
//! A test that waits for real time is slow and fails on a busy machine.
//!
//! # Idea
//! A [`Clock`] is either the system's, or stands still until it is advanced: by a test, or by the driver when nothing else
//! can happen before the next timer. Both count nanoseconds in 64 bits from the moment they were made, which lasts 584
//! years, so that a look at the clock costs no wide division. Whatever the system's clock does, this one never goes back: when
//! the other steps back, it stands still until it is passed, so timers are late by the step, and never early (bugs.md 39).
//!
//! # Read next
//! `driver/wheel.rs`, which turns these times into ticks.

use std::cell::Cell;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// A clock of one runtime.
pub(crate) struct Clock {
    start: Instant,
    /// How far it has come, as of the last look.
    latest_ns: Cell<u64>,
    is_paused: bool,
}

impl Clock {
    pub(crate) fn new(paused: bool) -> Self {
        Self { start: system_now(), latest_ns: Cell::new(0), is_paused: paused }
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.is_paused
    }

    /// When it was made, as [`since_base_ns`] counts.
    pub(crate) fn start_base_ns(&self) -> u64 {
        since_base_ns(self.start)
    }

    /// The time since the clock was made.
    #[inline]
    pub(crate) fn elapsed_ns(&self) -> u64 {
        if !self.is_paused {
            self.advance_to(nanos(system_now().saturating_duration_since(self.start)));
        }
        self.latest_ns.get()
    }

    pub(crate) fn now(&self) -> Instant {
        self.start.checked_add(Duration::from_nanos(self.elapsed_ns())).unwrap_or(self.start)
    }

    /// Where `deadline` lies on this clock; what is past is now.
    #[inline]
    pub(crate) fn since_start_ns(&self, deadline: Instant) -> u64 {
        nanos(deadline.saturating_duration_since(self.start))
    }

    /// Moves it to `at`, never back.
    pub(crate) fn advance_to(&self, at_ns: u64) {
        self.latest_ns.set(self.latest_ns.get().max(at_ns));
    }
}

/// How long after the first that was ever asked of it a moment is, or nothing, if it is before that: a number that means the same
/// on every clock of the process.
#[inline]
pub(crate) fn since_base_ns(at: Instant) -> u64 {
    static BASE: OnceLock<Instant> = OnceLock::new();
    nanos(at.saturating_duration_since(*BASE.get_or_init(|| at)))
}

/// In 64 bits; what does not fit is for ever.
#[inline]
pub(crate) fn nanos(duration: Duration) -> u64 {
    duration.as_secs().saturating_mul(1_000_000_000).saturating_add(duration.subsec_nanos().into())
}

/// The system's monotonic time.
#[inline]
#[allow(clippy::disallowed_methods, reason = "this is the file that the lint points to")]
pub(crate) fn system_now() -> Instant {
    Instant::now()
}

#[cfg(all(test, not(anteroom_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_time_before_the_start_is_now() {
        // bugs.md 39
        let clock = Clock::new(false);
        let before = clock.start.checked_sub(Duration::from_secs(1)).unwrap_or(clock.start);
        assert_eq!(clock.since_start_ns(before), 0);
    }

    #[test]
    fn a_duration_beyond_all_clocks_saturates() {
        // bugs.md 43
        assert_eq!(nanos(Duration::MAX), u64::MAX);
    }

    #[test]
    fn a_paused_clock_moves_only_forward_and_only_when_told() {
        let clock = Clock::new(true);
        clock.advance_to(1_000);
        clock.advance_to(10);
        assert_eq!((clock.elapsed_ns(), clock.now() - clock.start), (1_000, Duration::from_micros(1)));
    }
}
