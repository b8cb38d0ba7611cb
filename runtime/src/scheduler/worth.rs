//! Whether one worker more is worth it.
//!
//! # Problem
//! Two workers that share what their tasks share, a semaphore, a channel, admission itself, pass its cache lines to and fro.
//! Where a poll takes a hundred nanoseconds that costs more than the second worker gets done: a fanout of tiny jobs took three
//! times as long on two workers as on one, and six times the processor.
//!
//! # Idea
//! Measured, not guessed. While a worker sleeps the others get a number of polls done in a time; when it has joined them, all
//! together must get more done ([`TRIAL_NS`]). Else it stands [`aside`](Verdict::Aside), for a millisecond, then two, then four, up
//! to [`ASIDE_MAX`], and tries again. Only where polls are short ([`SHORT_NS`]): what is worth a cache line or ten is never
//! kept waiting for this. And a worker that stays looks again, by standing aside for a millisecond: after one, two, four, up to
//! [`LOOK_MAX`], since what the others did while it slept says little if they had little to do.
//!
//! What is measured may mislead, if the load changes within the trial: the harm is bounded, a worker idle for [`ASIDE_MAX`]
//! milliseconds beside one whose polls are short. Sockets, timers and a worker that gets stuck are not concerned, since who
//! stands aside is the lookout (`idle.rs`).
//!
//! # Rejected
//! - A bound on the backlog that is worth a thief: with tiny polls it never is, also where two workers do twice the work.
//! - To count how often a lock is contended: the runtime's own is not the only one.
//!
//! # Read next
//! `stealing.rs`, which asks.

use crate::sync::IS_MODEL;

/// How long all work together before it is judged.
const TRIAL_NS: u64 = 200_000;

/// What the others did alone is measured over at least so long.
const ALONE_NS_MIN: u64 = 20_000;

/// Polls that take longer on average are worth every worker that there is.
const SHORT_NS: u64 = if IS_MODEL { 1 << 40 } else { 2_000 };

/// For how many milliseconds a worker stands aside at most.
const ASIDE_MAX: u32 = 32;

/// For how many milliseconds a worker that is worth it stays at most before it looks again, if polls are short.
const LOOK_MAX: u32 = 64;

/// After so long a sleep the load may be another.
const FORGET_NS: u64 = 10_000_000;

const MS: u64 = 1_000_000;

/// What a worker is to do after a batch of polls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Stay,
    /// It stands aside for so many milliseconds.
    Aside(u32),
}

/// How many polls all workers had done, and when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Count {
    pub(crate) ns: u64,
    pub(crate) polls: usize,
}

impl Count {
    /// The time and the polls since `before`.
    fn since(self, before: Self) -> (u64, u64) {
        (self.ns.saturating_sub(before.ns), self.polls.wrapping_sub(before.polls) as u64)
    }
}

/// What one worker knows of it.
#[derive(Debug, Default)]
pub(crate) struct Worth {
    slept: Option<Count>,
    /// The time and the polls of the others when last it slept for long enough.
    alone: Option<(u64, u64)>,
    began: Option<Count>,
    is_proved: bool,
    /// How many trials in a row were in vain, or were not.
    failures: u32,
    successes: u32,
}

impl Worth {
    /// The worker goes to sleep.
    pub(crate) fn sleep(&mut self, now: Count) {
        self.slept = Some(now);
        self.began = None;
    }

    /// It is awake again, and may find something.
    pub(crate) fn wake(&mut self, now: Count) {
        if let Some(slept) = self.slept.take() {
            let alone = now.since(slept);
            if alone.0 >= ALONE_NS_MIN {
                self.alone = Some(alone);
            }
            if alone.0 >= FORGET_NS {
                self.successes = 0;
            }
        }
        self.began = Some(now);
        self.is_proved = false;
    }

    /// Whether there is something to judge at `ns`.
    #[inline]
    pub(crate) fn is_due(&self, ns: u64) -> bool {
        let after = if self.is_proved { MS << self.successes } else { TRIAL_NS };
        self.began.is_some_and(|began| ns.saturating_sub(began.ns) >= after)
    }

    /// What to do, if it is due; so many workers are awake.
    pub(crate) fn judge(&mut self, now: Count, awake: usize) -> Verdict {
        let Some((ns, polls)) = self.began.map(|began| now.since(began)) else { return Verdict::Stay };
        let is_short = ns.saturating_mul(awake as u64) < polls.saturating_mul(SHORT_NS);
        if awake < 2 || !is_short {
            return self.stay(now);
        }
        if self.is_proved {
            self.successes = (self.successes + 1).min(LOOK_MAX.ilog2());
            return Verdict::Aside(1);
        }
        let Some((alone_ns, alone_polls)) = self.alone else { return self.stay(now) };
        // A sixteenth more, or it is not worth the processor's time.
        let is_worth =
            u128::from(polls) * u128::from(alone_ns) * 16 >= u128::from(alone_polls) * u128::from(ns) * 17;
        if is_worth {
            self.failures = 0;
            return self.stay(now);
        }
        self.successes = 0;
        self.failures = (self.failures + 1).min(ASIDE_MAX.ilog2() + 1);
        Verdict::Aside(1 << (self.failures - 1))
    }

    fn stay(&mut self, now: Count) -> Verdict {
        self.began = Some(now);
        self.is_proved = true;
        Verdict::Stay
    }
}

#[cfg(all(test, not(any(anteroom_loom, anteroom_shuttle))))]
mod tests {
    use super::*;

    /// What a worker decides that slept a millisecond beside one that does `alone` polls in that time, when both do `together`.
    fn trial(worth: &mut Worth, from_ns: u64, alone: usize, together: usize) -> Verdict {
        worth.sleep(Count { ns: from_ns, polls: 0 });
        worth.wake(Count { ns: from_ns + MS, polls: alone });
        assert!(!worth.is_due(from_ns + MS + TRIAL_NS - 1));
        let now = Count { ns: from_ns + 2 * MS, polls: alone + together };
        assert!(worth.is_due(now.ns));
        worth.judge(now, 2)
    }

    #[test]
    fn who_makes_it_slower_stands_aside_for_longer_each_time_up_to_a_bound() {
        let mut worth = Worth::default();
        for expected in [1, 2, 4, 8, 16, 32, 32] {
            assert_eq!(trial(&mut worth, 0, 10_000, 9_000), Verdict::Aside(expected));
        }
        assert_eq!(trial(&mut worth, 0, 10_000, 15_000), Verdict::Stay);
        assert_eq!(trial(&mut worth, 0, 10_000, 10_100), Verdict::Aside(1), "a hundredth is not worth it");
    }

    #[test]
    fn long_polls_are_worth_every_worker() {
        assert_eq!(trial(&mut Worth::default(), 0, 1_000, 900), Verdict::Stay);
        assert_eq!(trial(&mut Worth::default(), 0, 1_000, 0), Verdict::Stay);
    }

    #[test]
    fn who_is_alone_or_never_slept_stays() {
        let mut worth = Worth::default();
        assert!(!worth.is_due(u64::MAX));
        worth.wake(Count { ns: 0, polls: 0 });
        assert_eq!(worth.judge(Count { ns: MS, polls: 9_000 }, 2), Verdict::Stay, "nothing to compare with");
        worth.sleep(Count { ns: 0, polls: 0 });
        worth.wake(Count { ns: MS, polls: 10_000 });
        assert_eq!(worth.judge(Count { ns: 2 * MS, polls: 11_000 }, 1), Verdict::Stay);
    }

    #[test]
    fn who_stays_looks_again_by_and_by() {
        let mut worth = Worth::default();
        for after_ms in [1, 2, 4, 8, 16, 32, 64, 64] {
            assert_eq!(trial(&mut worth, 0, 10_000, 20_000), Verdict::Stay);
            let ns = (2 + after_ms) * MS;
            assert!(!worth.is_due(ns - 1) && worth.is_due(ns), "after {after_ms} ms");
            // And nothing follows from it: the next trial decides.
            assert_eq!(worth.judge(Count { ns, polls: usize::MAX / 2 }, 2), Verdict::Aside(1));
        }
        assert_eq!(trial(&mut worth, 0, 10_000, 9_000), Verdict::Aside(1));
    }
}
