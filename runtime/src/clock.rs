//! The one place that reads the time, and the clock that a test can hold.
//!
//! # Problem
//! A test that waits for real time is slow and fails on a busy machine.
//!
//! # Idea
//! A [`Clock`] is either the system's, or stands still until it is advanced: by a test, or by the driver when nothing else
//! can happen before the next timer. Both count from the moment they were made, so a system clock that jumps cannot make
//! the difference negative: `Instant` is monotonic, and differences saturate.
//!
//! # Read next
//! `driver/wheel.rs`, which turns these times into ticks.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// A clock of one runtime.
pub(crate) struct Clock {
    start: Instant,
    /// How far a paused clock has come; `None` for the system's.
    paused_at: Option<Cell<Duration>>,
}

impl Clock {
    pub(crate) fn new(paused: bool) -> Self {
        Self { start: system_now(), paused_at: paused.then(|| Cell::new(Duration::ZERO)) }
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.paused_at.is_some()
    }

    /// The time since the clock was made.
    #[inline]
    pub(crate) fn elapsed(&self) -> Duration {
        match &self.paused_at {
            Some(at) => at.get(),
            None => system_now().saturating_duration_since(self.start),
        }
    }

    pub(crate) fn now(&self) -> Instant {
        match &self.paused_at {
            Some(at) => self.start.checked_add(at.get()).unwrap_or(self.start),
            None => system_now(),
        }
    }

    /// Where `deadline` lies on this clock; what is past is now.
    pub(crate) fn since_start(&self, deadline: Instant) -> Duration {
        deadline.saturating_duration_since(self.start)
    }

    /// Moves a paused clock to `at`, never back.
    pub(crate) fn advance_to(&self, at: Duration) {
        if let Some(paused_at) = &self.paused_at {
            paused_at.set(paused_at.get().max(at));
        }
    }
}

/// The system's monotonic time.
#[inline]
#[allow(clippy::disallowed_methods, reason = "this is the file that the lint points to")]
pub(crate) fn system_now() -> Instant {
    Instant::now()
}
