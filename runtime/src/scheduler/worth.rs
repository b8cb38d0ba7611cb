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
//! to [`ASIDE_MAX`], and tries again. Only where polls are short ([`SHORT_NS`]) as long as it is not there: what is worth a cache
//! line or ten is never kept waiting for this. And a worker that stays looks again, by standing aside for [`LOOK`]: after a millisecond, two, four, up
//! to [`LOOK_MAX`], since what the others did while it slept says little if they had little to do.
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

use std::time::Duration;

use super::idle::LOOKOUT_WAIT;
use crate::sync::IS_MODEL;

/// How long all work together before it is judged, in one stretch or in several.
const TRIAL_NS: u64 = 200_000;

/// What the others did alone is measured over at least so long.
const ALONE_NS_MIN: u64 = 20_000;

/// Polls that take longer on average without it are worth every worker that there is, ...
const SHORT_NS: u64 = if IS_MODEL { 1 << 40 } else { 2_000 };
/// ... and if they take longer than this with it, that cannot be all for want of a lock.
const LONG_NS: u64 = 5 * SHORT_NS;

/// For how many milliseconds a worker stands aside at most.
const ASIDE_MAX: u32 = 32;

/// For how long it does so to see how the others get on without it.
const LOOK: Duration = Duration::from_micros(200);

/// For how many milliseconds a worker that is worth it works at most before it looks again, if polls are short.
const LOOK_MAX: u32 = 64;

/// After so long a sleep the load may be another.
const FORGET_NS: u64 = 100_000_000;

const MS: u64 = 1_000_000;

/// What a worker is to do after a batch of polls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Stay,
    /// It stands aside, so many times for so long.
    Aside(u32, Duration),
}

/// How many polls all workers had done, and when.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Count {
    pub(crate) ns: u64,
    pub(crate) polls: usize,
    /// Of them, this worker's.
    pub(crate) own: usize,
}

/// What was done in some time.
#[derive(Clone, Copy, Debug, Default)]
struct Done {
    ns: u64,
    polls: u64,
    own: u64,
}

impl Done {
    fn between(before: Count, now: Count) -> Self {
        Self {
            ns: now.ns.saturating_sub(before.ns),
            polls: now.polls.wrapping_sub(before.polls) as u64,
            own: now.own.wrapping_sub(before.own) as u64,
        }
    }

    fn and(self, more: Self) -> Self {
        Self {
            ns: self.ns.saturating_add(more.ns),
            polls: self.polls.saturating_add(more.polls),
            own: self.own.saturating_add(more.own),
        }
    }

    /// Whether a poll took so many workers less than this on average.
    fn takes_less(self, workers: usize, mean_ns: u64) -> bool {
        self.ns.saturating_mul(workers as u64) < self.polls.saturating_mul(mean_ns)
    }
}

/// What one worker knows of it.
#[derive(Debug, Default)]
pub(crate) struct Worth {
    /// When it last woke up or went to sleep.
    since: Count,
    /// What the others did while it slept, and what all did while it did not, since the last verdict.
    alone: Done,
    together: Done,
    is_proved: bool,
    /// How many trials in a row were in vain, or were not.
    failures: u32,
    successes: u32,
}

impl Worth {
    /// The worker goes to sleep.
    pub(crate) fn sleep(&mut self, now: Count) {
        self.together = self.together.and(Done::between(self.since, now));
        self.since = now;
    }

    /// It is awake again, and may find something.
    pub(crate) fn wake(&mut self, now: Count) {
        let alone = Done::between(self.since, now);
        if alone.ns >= FORGET_NS {
            *self = Self { failures: self.failures, ..Self::default() };
        }
        self.alone = self.alone.and(alone);
        self.since = now;
    }

    /// Whether there is something to judge at `ns`.
    #[inline]
    pub(crate) fn is_due(&self, ns: u64) -> bool {
        let after = if self.is_proved { MS << self.successes } else { TRIAL_NS };
        self.together.ns + ns.saturating_sub(self.since.ns) >= after
    }

    /// What to do, if it is due; so many workers are awake.
    pub(crate) fn judge(&mut self, now: Count, awake: usize) -> Verdict {
        let together = self.together.and(Done::between(self.since, now));
        let (alone, was_proved) = (self.alone, self.is_proved);
        (self.since, self.alone, self.together) = (now, Done::default(), Done::default());
        self.is_proved = true;
        // Long polls of its own are worth it, however short those of others are.
        let is_long = !together.takes_less(awake, LONG_NS) || together.ns >= together.own * LONG_NS;
        if awake < 2 || is_long {
            return Verdict::Stay;
        }
        if was_proved {
            self.is_proved = false;
            self.successes = (self.successes + 1).min(LOOK_MAX.ilog2());
            return Verdict::Aside(1, LOOK);
        }
        if alone.ns < ALONE_NS_MIN || !alone.takes_less(awake - 1, SHORT_NS) {
            return Verdict::Stay;
        }
        // A sixteenth more, or it is not worth the processor's time.
        let rate = |done: Done, other: Done| u128::from(done.polls) * u128::from(other.ns);
        if rate(together, alone) * 16 >= rate(alone, together) * 17 {
            self.failures = 0;
            return Verdict::Stay;
        }
        self.is_proved = false;
        self.successes = 0;
        self.failures = (self.failures + 1).min(ASIDE_MAX.ilog2() + 1);
        Verdict::Aside(1 << (self.failures - 1), LOOKOUT_WAIT)
    }
}

#[cfg(all(test, not(any(anteroom_loom, anteroom_shuttle))))]
mod tests {
    use super::*;

    const ASIDE: fn(u32) -> Verdict = |rounds| Verdict::Aside(rounds, LOOKOUT_WAIT);

    /// What a worker decides that slept a millisecond beside one that does `alone` polls in that time, when both do `together`.
    fn trial(worth: &mut Worth, alone: usize, together: usize) -> Verdict {
        let Count { ns, polls, own } = worth.since;
        worth.sleep(Count { ns, polls, own });
        worth.wake(Count { ns: ns + MS, polls: polls + alone, own });
        assert!(!worth.is_due(ns + MS + TRIAL_NS - 1));
        // In two stretches, with another sleep between them.
        let own = own + together / 20;
        worth.sleep(Count { ns: ns + MS + TRIAL_NS / 2, polls: polls + alone + together / 10, own });
        let ns = ns + 2 * MS;
        worth.wake(Count { ns, polls: polls + alone + together / 10 + alone * 9 / 10, own });
        assert!(!worth.is_due(ns + TRIAL_NS / 2 - 1) && worth.is_due(ns + TRIAL_NS / 2));
        let polls = polls + alone + together / 5 + alone * 9 / 10;
        worth.judge(Count { ns: ns + TRIAL_NS / 2, polls, own: own + together / 20 }, 2)
    }

    /// So many polls, of which half are its own.
    fn count(ns: u64, polls: usize) -> Count {
        Count { ns, polls, own: polls / 2 }
    }

    #[test]
    fn who_has_long_polls_stays_beside_one_that_spins() {
        let mut worth = Worth::default();
        worth.wake(Count { ns: MS, polls: 10_000, own: 0 });
        assert_eq!(worth.judge(Count { ns: 2 * MS, polls: 18_000, own: 20 }, 2), Verdict::Stay);
    }

    #[test]
    fn who_makes_it_slower_stands_aside_for_longer_each_time_up_to_a_bound() {
        let mut worth = Worth::default();
        for expected in [1, 2, 4, 8, 16, 32, 32] {
            assert_eq!(trial(&mut worth, 10_000, 9_000), ASIDE(expected));
        }
        let mut worth = Worth { failures: 5, ..Worth::default() };
        assert_eq!(trial(&mut worth, 10_000, 15_000), Verdict::Stay);
        worth.is_proved = false;
        assert_eq!(trial(&mut worth, 10_000, 10_100), ASIDE(1), "a hundredth is not worth it");
    }

    #[test]
    fn long_polls_are_worth_every_worker() {
        assert_eq!(trial(&mut Worth::default(), 400, 390), Verdict::Stay);
        assert_eq!(trial(&mut Worth::default(), 1_000, 0), Verdict::Stay);
        // Long for want of a lock.
        assert_eq!(trial(&mut Worth::default(), 1_000, 500), ASIDE(1));
    }

    #[test]
    fn who_is_alone_or_never_slept_stays() {
        let mut worth = Worth::default();
        assert_eq!(worth.judge(count(MS, 9_000), 2), Verdict::Stay, "nothing to compare with");
        let mut worth = Worth::default();
        worth.wake(count(MS, 10_000));
        assert_eq!(worth.judge(count(2 * MS, 11_000), 1), Verdict::Stay);
    }

    #[test]
    fn who_stays_looks_again_by_and_by() {
        let mut worth = Worth::default();
        for after_ms in [1, 2, 4, 8, 16, 32, 64, 64] {
            assert_eq!(trial(&mut worth, 10_000, 20_000), Verdict::Stay);
            let Count { ns, polls, own } = worth.since;
            let ns = ns + after_ms * MS;
            assert!(!worth.is_due(ns - 1) && worth.is_due(ns), "after {after_ms} ms");
            // And nothing follows from it: the next trial decides.
            let many = Count { ns, polls: polls + 1_000_000, own: own + 500_000 };
            assert_eq!(worth.judge(many, 2), Verdict::Aside(1, LOOK));
        }
        assert_eq!(trial(&mut worth, 10_000, 9_000), ASIDE(1));
    }

    #[test]
    fn after_a_long_sleep_the_load_may_be_another() {
        let mut worth = Worth { successes: 6, is_proved: true, ..Worth::default() };
        worth.sleep(count(MS, 1_000));
        worth.wake(count(MS + FORGET_NS, 1_000));
        assert!(worth.is_due(MS + FORGET_NS + TRIAL_NS));
        // What was done in it says nothing: it looks.
        assert_eq!(worth.judge(count(2 * MS + FORGET_NS, 10_000), 2), Verdict::Stay);
        assert!(worth.is_due(3 * MS + FORGET_NS));
    }
}
