//! Whether so many timers fire that they fire together.
//!
//! # Problem
//! A timer by itself should be on time. A hundred thousand, each on time, wake the thread every 100 µs, and each of those wake-ups
//! costs more than all that the ten timers do which it was for.
//!
//! # Idea
//! Precise while timers are sparse, cheap while they are dense: when at least [`DENSE`] a millisecond fire, for [`STREAK`]
//! times in a row, and [`MANY`] more wait, a wait lasts [`TOGETHER_NS`], as other runtimes' always do. A gap ends it at once, or
//! once in a while fewer. So a task that sleeps 150 µs over and over is on time, however often. Who sets a resolution of its own
//! gets that, always.
//!
//! # Read next
//! `mod.rs`, which asks before it waits.

use std::cell::Cell;

/// How long a wait for dense timers is.
pub(super) const TOGETHER_NS: u64 = 1_000_000;

/// So many a millisecond are dense.
const DENSE: u64 = 4;

/// So many must wait.
pub(super) const MANY: usize = 16;

/// How often in a row that must be seen.
const STREAK: u32 = 4;

/// After so long without a timer they are sparse.
const GAP_NS: u64 = 3_000_000;

/// How fast timers have fired of late.
pub(super) struct Pace {
    /// Never dense.
    is_strict: bool,
    fired_at_ns: Cell<u64>,
    streak: Cell<u32>,
}

impl Pace {
    pub(super) fn new(is_strict: bool) -> Self {
        Self { is_strict, fired_at_ns: Cell::new(0), streak: Cell::new(0) }
    }

    /// So many have fired together.
    pub(super) fn note(&self, now_ns: u64, fired: u64) {
        let gap_ns = now_ns.saturating_sub(self.fired_at_ns.replace(now_ns));
        let streak = self.streak.get();
        self.streak.set(if gap_ns > GAP_NS {
            0
        } else if fired.saturating_mul(1_000_000) >= DENSE * gap_ns {
            (streak + 1).min(STREAK)
        } else {
            streak.saturating_sub(1)
        });
    }

    /// Whether whatever is due soon may wait for [`TOGETHER_NS`], if so many wait.
    pub(super) fn is_dense(&self, now_ns: u64, waiting: usize) -> bool {
        !self.is_strict
            && waiting >= MANY
            && self.streak.get() == STREAK
            && now_ns.saturating_sub(self.fired_at_ns.get()) <= GAP_NS
    }
}

#[cfg(all(test, not(anteroom_loom)))]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn many_timers_are_dense_and_few_are_not() {
        let pace = Pace::new(false);
        for n in 1..=4 {
            assert!(!pace.is_dense(n * MS / 10, MANY), "after {n}");
            pace.note(MS + n * MS / 10, 10);
        }
        assert!(pace.is_dense(2 * MS, MANY));
        assert!(!pace.is_dense(2 * MS, MANY - 1), "few wait, however fast they come");
        // Fewer, once: it may be chance. And then for as long as they were many.
        let mut now_ns = 2 * MS;
        for n in 1..=3 {
            now_ns += MS;
            pace.note(now_ns, 3);
            assert!(!pace.is_dense(now_ns, MANY), "after {n}");
        }
        for n in 1..=4 {
            now_ns += MS;
            pace.note(now_ns, 100);
            assert_eq!(pace.is_dense(now_ns, MANY), n >= 3, "after {n}");
        }
    }

    #[test]
    fn a_gap_ends_it() {
        let pace = Pace::new(false);
        for n in 1..=10 {
            pace.note(n * MS, 100);
        }
        assert!(pace.is_dense(10 * MS + GAP_NS, MANY) && !pace.is_dense(10 * MS + GAP_NS + 1, MANY));
        pace.note(20 * MS, 100);
        assert!(!pace.is_dense(20 * MS, MANY));
    }

    #[test]
    fn who_asked_for_a_resolution_gets_it() {
        let pace = Pace::new(true);
        for n in 1..=10 {
            pace.note(n * MS, 100);
        }
        assert!(!pace.is_dense(10 * MS, MANY));
    }
}
