//! The one place that reads the time, and the clock that a test can hold.
//!
//! # Problem
//! A test that waits for real time is slow and fails on a busy machine.
//!
//! # Idea
//! A [`Clock`] is either the system's, or stands still until it is advanced: by a test, or by the driver when nothing else
//! can happen before the next timer. Both count nanoseconds in 64 bits from the moment they were made, which lasts 584
//! years, so that a look at the clock costs no wide division. `Instant` is monotonic and differences saturate, so a clock
//! that jumps back makes no time pass, and nothing worse (bugs.md 39).
//!
//! # Read next
//! `driver/wheel.rs`, which turns these times into ticks.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// A clock of one runtime.
pub(crate) struct Clock {
    start: Instant,
    /// How far a paused clock has come; `None` for the system's.
    paused_at_ns: Option<Cell<u64>>,
}

impl Clock {
    pub(crate) fn new(paused: bool) -> Self {
        Self { start: system_now(), paused_at_ns: paused.then(|| Cell::new(0)) }
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.paused_at_ns.is_some()
    }

    /// The time since the clock was made.
    #[inline]
    pub(crate) fn elapsed_ns(&self) -> u64 {
        match &self.paused_at_ns {
            Some(at) => at.get(),
            None => nanos(system_now().saturating_duration_since(self.start)),
        }
    }

    pub(crate) fn now(&self) -> Instant {
        match &self.paused_at_ns {
            Some(at) => self.start.checked_add(Duration::from_nanos(at.get())).unwrap_or(self.start),
            None => system_now(),
        }
    }

    /// Where `deadline` lies on this clock; what is past is now.
    #[inline]
    pub(crate) fn since_start_ns(&self, deadline: Instant) -> u64 {
        nanos(deadline.saturating_duration_since(self.start))
    }

    /// Moves a paused clock to `at`, never back.
    pub(crate) fn advance_to(&self, at_ns: u64) {
        if let Some(paused_at_ns) = &self.paused_at_ns {
            paused_at_ns.set(paused_at_ns.get().max(at_ns));
        }
    }
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
