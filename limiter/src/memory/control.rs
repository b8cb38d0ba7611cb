//! How much may be promised: one pure step from what was measured to the limit.
//!
//! # Problem
//!
//! Two numbers say how full the memory is, and each lies. What tasks declared (`in_use`) knows nothing of caches, of
//! other processes and of wrong estimates. What was measured (`used`) knows nothing of the task that was admitted a
//! moment ago and has not touched its memory yet: who admits by measurement alone admits everything, before the first
//! byte shows.
//!
//! # Idea
//!
//! Each bounds the other.
//!
//! ```text
//!   limit = min( soft - baseline,   hard - others )      all in units
//!                ───────────────    ─────────────
//!                the promise:       the correction:
//!                what is there      what measurement leaves
//!                for tasks at all
//!
//!   Open ── used >= hard ──► Stopped (limit 0) ── used < soft ──► Open
//! ```
//!
//! `baseline` is what others hold at the least: the first reading while no task holds anything, or the lowest since. A
//! lower one counts also while tasks run, since others then hold no more than it says: or a server that is never idle
//! would go on without what its start took for a moment. As long as tasks hold no more than they declared and the others
//! no more than the baseline, the promise alone keeps `used` at or below `soft`, and the correction never bites.
//!
//! `others` is what others hold, as far as a reading proves it. It is not less than `used - in_use`, what no task has
//! declared; and not more than `used`. Which of the two it is nearer to, no single reading tells: a task that was just
//! admitted pushes the first down without touching a byte. So a proof holds until what was in has been *turned over*
//! (as much was given back as is in use), by when those tasks have used what they declared, or until less is used in
//! all. Two windows, one that fills and the one before, remember the strongest.
//!
//! **How far it may go.** Let `drift` be what others hold above the baseline, and `lag` what tasks had declared and not
//! touched yet at the best reading of the last turn. Once all is used that may be promised,
//!
//! ```text
//!   used <= min(soft + drift, hard + lag)
//! ```
//!
//! The first, because at most `soft - baseline` was promised; the second, because at that reading `used - in_use` was
//! what others hold less the lag.
//!
//! **The head alone.** While no task holds anything, whoever is first in line is let in, whatever was measured: nothing
//! that this budget counts could ever make more room for it, and a program that does nothing frees nothing.
//!
//! # Invariants
//!
//! - `[CONTROL-1]` The limit is at most `soft - baseline`, unless nothing is in use; then at most that or the head's weight.
//! - `[CONTROL-2]` While something is in use, the limit is at most `in_use + (hard - used)`: at or above hard, nobody new.
//! - `[CONTROL-3]` Once at or above hard, nobody new before a reading below soft, or one that failed.
//! - `[CONTROL-4]` While nothing is in use, the limit is at least the head's weight.
//! - `[CONTROL-5]` What was once proved to be others' is not given to tasks before a turn is over or less is used in all.
//!
//! # Rejected
//!
//! - *Soft in both terms.* Then Stopped would be a name: nobody would be let in above soft anyway. And an allocator that
//!   does not give memory back, at 85 % after one busy minute, would let in one task at a time for ever after, though what
//!   it keeps is what the next tasks will use. The band between soft and hard is for what measurement finds and nobody
//!   declared.
//! - *`in_use + (hard - used)` as the correction*, which is `others` by the latest reading alone. Each task that is let in
//!   raises it before it has touched a byte, so the next one is let in, too: with 80 of 100 used, 60 of that by others, and
//!   10 left, all 70 that may be promised were let in one after the other.
//! - *Midway between the strongest and the weakest proof of a turn.* Kinder to an allocator that keeps what was freed, when
//!   all tasks come and go together (two thirds of them side by side instead of half, simulated), and `lag` in the bound is
//!   then no longer that of the best reading. What is at stake here is a task that comes later; there, the whole process.
//! - *The latest idle reading as the baseline.* After a busy minute it is what the allocator kept, not what others hold.
//! - *A gain, an average, a derivative.* They delay what is known exactly.
//! - *Using the pressure-stall figures.* They say how long somebody waited for memory in the last ten seconds. A limit
//!   that follows them is ten seconds late. They are reported.
//!
//! # Read next
//!
//! [`crate::memory`], which reads and asks.

/// The state between two readings, and the step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Control {
    soft: usize,
    hard: usize,
    /// The first reading while nothing was in use, or the lowest since; zero before the first.
    baseline: Option<usize>,
    stopped: bool,
    /// The most that was proved to be others', in the window that fills and in the one before [CONTROL-5].
    proved: [usize; 2],
    /// What had been given back when the window began.
    turned: u64,
}

/// What is known at one review. All in units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    /// What was measured; `None` if that failed.
    pub(crate) used: Option<usize>,
    /// What tasks hold, as they declared it.
    pub(crate) in_use: usize,
    /// What was given back since the beginning of time.
    pub(crate) given_back: u64,
    /// What the first in line asks for.
    pub(crate) head: Option<usize>,
}

impl Control {
    pub(crate) fn new(soft: usize, hard: usize) -> Self {
        debug_assert!(0 < soft && soft <= hard);
        Self { soft, hard, baseline: None, stopped: false, proved: [0; 2], turned: 0 }
    }

    /// The limit from now on.
    pub(crate) fn review(&mut self, Reading { used, in_use, given_back, head }: Reading) -> usize {
        if let Some(used) = used {
            self.prove(used, in_use, given_back);
            self.baseline = match self.baseline {
                Some(baseline) => Some(baseline.min(used)),
                // With what tasks hold in it, a first one would be kept as if it were others'.
                None => (in_use == 0).then_some(used),
            };
        }
        // [CONTROL-3] Blind, we count what is declared; a stop that nothing can end would be worse.
        self.stopped = used.is_some_and(|used| used >= self.hard || self.stopped && used >= self.soft);
        let promise = self.soft.saturating_sub(self.baseline()); // [CONTROL-1]
        let limit = match used {
            None => promise,
            Some(_) if self.stopped => 0,
            // [CONTROL-2] What is proved is at most used, and that is below hard, or it were stopped.
            Some(_) => promise.min(self.hard - self.others()),
        };
        match head {
            Some(head) if in_use == 0 => limit.max(head), // [CONTROL-4]
            _ => limit,
        }
    }

    /// Takes in what a reading proves of what others hold: from `used - in_use` to `used`.
    fn prove(&mut self, used: usize, in_use: usize, given_back: u64) {
        let least = used.saturating_sub(in_use);
        self.proved[0] = self.proved[0].max(least);
        self.proved = self.proved.map(|proved| proved.min(used));
        if given_back.wrapping_sub(self.turned) >= in_use as u64 {
            self.proved = [least, self.proved[0]];
            self.turned = given_back;
        }
    }

    /// What others hold, as far as it is proved and still counts.
    fn others(&self) -> usize {
        let [recent, before] = self.proved;
        recent.max(before)
    }

    /// Zero before the first reading.
    pub(crate) fn baseline(&self) -> usize {
        self.baseline.unwrap_or(0)
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped
    }
}

#[cfg(all(test, not(anteroom_loom)))]
mod tests {
    use super::*;

    /// Nothing, and each number up to eight.
    fn numbers() -> impl Iterator<Item = Option<usize>> + Clone {
        std::iter::once(None).chain((0..=8).map(Some))
    }

    /// Every state that a small control can be in; some that it cannot.
    fn states() -> impl Iterator<Item = Control> {
        (1..=5).flat_map(|soft| {
            (soft..=6).flat_map(move |hard| {
                numbers().step_by(2).flat_map(move |baseline| {
                    [[0, 0], [3, 0], [0, 3], [2, 5], [8, 1]].into_iter().flat_map(move |proved| {
                        [false, true].map(|stopped| Control {
                            soft,
                            hard,
                            baseline,
                            stopped,
                            proved,
                            turned: 0,
                        })
                    })
                })
            })
        })
    }

    /// Every reading.
    fn readings() -> impl Iterator<Item = Reading> {
        numbers().flat_map(|used| {
            (0..=8).flat_map(move |in_use| {
                [None, Some(1), Some(3), Some(9)].into_iter().flat_map(move |head| {
                    [0, 3, 100].map(|given_back| Reading { used, in_use, given_back, head })
                })
            })
        })
    }

    /// [CONTROL-1], [CONTROL-2], [CONTROL-3], [CONTROL-4], each as it is written, in every state at every reading.
    #[test]
    fn every_small_state_keeps_its_promises_at_every_reading() {
        let mut steps = 0;
        for before in states() {
            for reading in readings() {
                let mut after = before;
                let limit = after.review(reading);
                let Reading { used, in_use, head, .. } = reading;
                let context = || format!("{before:?} {reading:?} {after:?} {limit}");
                let alone = if in_use == 0 { head.unwrap_or(0) } else { 0 };
                let promise = before.soft.saturating_sub(after.baseline());
                assert!(limit <= promise.max(alone), "[CONTROL-1] {}", context());
                if let Some(used) = used {
                    let left = before.hard.saturating_sub(used);
                    assert!(limit <= (in_use + left).max(alone), "[CONTROL-2] {}", context());
                    if used >= before.hard || before.stopped && used >= before.soft {
                        assert!(after.stopped && limit == alone, "[CONTROL-3] {}", context());
                    } else {
                        assert!(!after.stopped, "[CONTROL-3] {}", context());
                        // And not less than there is, were all that is used others'.
                        assert!(limit >= promise.min(left).max(alone), "{}", context());
                    }
                } else {
                    assert_eq!((after.stopped, limit), (false, promise.max(alone)), "{}", context());
                }
                assert!(limit >= alone, "[CONTROL-4] {}", context());
                let counts = if in_use == 0 || before.baseline.is_some() { used } else { None };
                let lowest = [before.baseline, counts].into_iter().flatten().min();
                assert_eq!(after.baseline, lowest, "{}", context());
                steps += 1;
            }
        }
        assert_eq!(steps, 20 * 5 * 5 * 2 * 10 * 9 * 4 * 3);
    }

    #[test]
    fn more_that_is_measured_never_makes_more_room() {
        for before in states() {
            // The baseline aside, which an idle reading moves.
            for in_use in 1..=8 {
                let limit = |used| {
                    let mut control = before;
                    control.review(Reading { used: Some(used), in_use, given_back: 0, head: None })
                };
                assert!((0..8).all(|used| limit(used) >= limit(used + 1)), "{before:?} {in_use}");
            }
        }
    }

    /// The first reading after a quiet time, at which nothing is known but the baseline: with no history, all of the
    /// bound that the file doc states is in one step. What others hold, what tasks declared and what they touched of it.
    #[test]
    fn what_is_promised_fits_as_far_as_the_doc_says() {
        let mut bites = 0;
        for control in states().filter(|state| state.baseline.is_some()) {
            for (others, in_use) in (0..=8).flat_map(|others| (1..=8).map(move |in_use| (others, in_use))) {
                for touched in 0..=in_use {
                    let (used, lag) = (others + touched, in_use - touched);
                    let mut after = control;
                    let limit = after.review(Reading { used: Some(used), in_use, given_back: 0, head: None });
                    if limit <= in_use {
                        continue; // Nobody new.
                    }
                    let drift = others.saturating_sub(control.baseline());
                    let bound = (control.soft + drift).min(control.hard + lag);
                    assert!(others + limit <= bound, "{control:?}: {others} {in_use} {touched}");
                    bites += usize::from(others + limit == bound);
                }
            }
        }
        assert!(bites > 100, "{bites}: the bound is met, or it says little");
    }

    /// [CONTROL-5]: nobody who is let in has touched anything yet, and nothing more is let in for that.
    #[test]
    fn those_who_were_let_in_make_no_room_by_that() {
        let mut control = Control::new(80, 90);
        control.review(Reading { used: Some(10), in_use: 0, given_back: 0, head: None });
        let mut in_use = 20;
        for _ in 0..100 {
            in_use = control.review(Reading { used: Some(80), in_use, given_back: 0, head: None });
        }
        assert_eq!(in_use, 30, "60 are others', or more");
        // Less is used in all: so others hold no more than that.
        assert_eq!(control.review(Reading { used: Some(35), in_use, given_back: 0, head: None }), 55);
        // Two turns later, what is used is what tasks have declared.
        for turn in 1..=2 {
            assert_eq!(
                control.review(Reading { used: Some(35), in_use, given_back: turn * 29, head: None }),
                55
            );
            control.review(Reading { used: Some(35), in_use, given_back: turn * 30, head: None });
        }
        assert_eq!(control.review(Reading { used: Some(35), in_use, given_back: 60, head: None }), 70);
    }

    #[test]
    fn what_an_allocator_keeps_is_used_again_by_more_than_one_task() {
        let mut control = Control::new(80, 90);
        control.review(Reading { used: Some(5), in_use: 0, given_back: 0, head: None });
        // 85 of 100 show for ever, whatever comes and goes; tasks of 5, each ending when the next one comes.
        let (mut in_use, mut given_back, mut steps) = (0, 0, 0);
        while in_use < 75 {
            let limit = control.review(Reading { used: Some(85), in_use, given_back, head: Some(5) });
            if in_use + 5 <= limit {
                in_use += 5;
            } else {
                given_back += 5;
            }
            steps += 1;
            assert!(steps < 1_000, "{in_use} in use of {limit}");
        }
    }
}
