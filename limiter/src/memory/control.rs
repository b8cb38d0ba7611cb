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
//!   limit = min( soft - baseline,  in_use + (hard - used) )      all in units
//!                ───────────────   ──────────────────────
//!                the promise:      the correction:
//!                what is there     what measurement leaves above that which is promised already
//!                for tasks at all
//!
//!   Open ── used >= hard ──► Stopped (limit 0) ── used < soft ──► Open
//! ```
//!
//! `baseline` is what is used while no task holds anything: the lowest reading of such a time. As long as tasks hold no
//! more than they declared and the others no more than the baseline, the first term alone keeps `used` at or below
//! `soft`, and the second never bites. It bites when something else grew. Let `drift` be what others hold above the
//! baseline and `lag` what tasks declared and have not used yet. Once all is used that may be promised,
//!
//! ```text
//!   used <= min(soft + drift, hard + lag)
//! ```
//!
//! The first, because at most `soft - baseline` was promised; the second, because `used` at the reading was what others
//! hold and `in_use - lag`.
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
//!
//! # Rejected
//!
//! - *Soft in both terms.* Then Stopped would be a name: nobody would be let in above soft anyway. And an allocator that
//!   does not give memory back, at 85 % after one busy minute, would let in one task at a time for ever after, though what
//!   it keeps is what the next tasks will use. The band between soft and hard is for what measurement finds and nobody
//!   declared.
//! - *The latest idle reading as the baseline.* After a busy minute it is what the allocator kept, not what others hold.
//! - *A gain, an average, a derivative.* The correction is exact at each reading; there is nothing to smooth.
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
    /// The lowest reading while nothing was in use; zero before the first that succeeded.
    baseline: Option<usize>,
    stopped: bool,
}

/// What is known at one review. All in units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    /// What was measured; `None` if that failed.
    pub(crate) used: Option<usize>,
    /// What tasks hold, as they declared it.
    pub(crate) in_use: usize,
    /// What the first in line asks for.
    pub(crate) head: Option<usize>,
}

impl Control {
    pub(crate) fn new(soft: usize, hard: usize) -> Self {
        debug_assert!(0 < soft && soft <= hard);
        Self { soft, hard, baseline: None, stopped: false }
    }

    /// The limit from now on.
    pub(crate) fn review(&mut self, Reading { used, in_use, head }: Reading) -> usize {
        if let Some(used) = used {
            if in_use == 0 {
                self.baseline = Some(self.baseline.map_or(used, |baseline| baseline.min(used)));
            }
        }
        // [CONTROL-3] Blind, we count what is declared; a stop that nothing can end would be worse.
        self.stopped = used.is_some_and(|used| used >= self.hard || self.stopped && used >= self.soft);
        let promise = self.soft.saturating_sub(self.baseline()); // [CONTROL-1]
        let limit = match used {
            None => promise,
            Some(_) if self.stopped => 0,
            Some(used) => promise.min(in_use.saturating_add(self.hard - used)), // [CONTROL-2] below hard: not stopped
        };
        match head {
            Some(head) if in_use == 0 => limit.max(head), // [CONTROL-4]
            _ => limit,
        }
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

    const MEASURED: [Option<usize>; 10] = {
        let mut all = [None; 10];
        let mut used = 0;
        while used < 9 {
            all[used] = Some(used);
            used += 1;
        }
        all
    };

    /// Every state that a small control can be in.
    fn states() -> impl Iterator<Item = Control> {
        (1..=6).flat_map(|soft| {
            (soft..=7).flat_map(move |hard| {
                MEASURED.into_iter().flat_map(move |baseline| {
                    [false, true].map(|stopped| Control { soft, hard, baseline, stopped })
                })
            })
        })
    }

    /// Every reading.
    fn readings() -> impl Iterator<Item = Reading> {
        MEASURED.into_iter().flat_map(|used| {
            (0..=8).flat_map(move |in_use| {
                [None, Some(1), Some(3), Some(9)].map(|head| Reading { used, in_use, head })
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
                let Reading { used, in_use, head } = reading;
                let context = format!("{before:?} {reading:?} {after:?} {limit}");
                let alone = if in_use == 0 { head.unwrap_or(0) } else { 0 };
                let promise = before.soft.saturating_sub(after.baseline());
                assert!(limit <= promise.max(alone), "[CONTROL-1] {context}");
                if let Some(used) = used {
                    let left = before.hard.saturating_sub(used);
                    assert!(limit <= (in_use + left).max(alone), "[CONTROL-2] {context}");
                    if used >= before.hard || before.stopped && used >= before.soft {
                        assert!(after.stopped && limit == alone, "[CONTROL-3] {context}");
                    } else {
                        assert!(!after.stopped, "[CONTROL-3] {context}");
                        // And not less than there is: the promise, or all that measurement leaves.
                        assert_eq!(limit, promise.min(in_use + left).max(alone), "{context}");
                    }
                } else {
                    assert_eq!((after.stopped, limit), (false, promise.max(alone)), "{context}");
                }
                assert!(limit >= alone, "[CONTROL-4] {context}");
                let idle = if in_use == 0 { used } else { None };
                let lowest = [before.baseline, idle].into_iter().flatten().min();
                assert_eq!(after.baseline, lowest, "{context}");
                steps += 1;
            }
        }
        assert_eq!(steps, 27 * 10 * 2 * 10 * 9 * 4);
    }

    #[test]
    fn a_second_look_at_the_same_changes_nothing() {
        for mut control in states() {
            for reading in readings() {
                let first = control.review(reading);
                let once = control;
                assert_eq!((control.review(reading), control), (first, once), "{reading:?}");
            }
        }
    }

    #[test]
    fn more_that_is_measured_never_makes_more_room() {
        for before in states() {
            // The baseline aside, which an idle reading moves.
            for in_use in 1..=8 {
                let limit = |used| {
                    let mut control = before;
                    control.review(Reading { used: Some(used), in_use, head: None })
                };
                assert!((0..8).all(|used| limit(used) >= limit(used + 1)), "{before:?} {in_use}");
            }
        }
    }

    /// The bound that the file doc states, over every small world: what others hold at the reading, what of the declared
    /// was used by then, what others hold at the end.
    #[test]
    fn what_is_promised_fits_as_far_as_the_doc_says() {
        for control in states().filter(|state| state.baseline.is_some()) {
            for (others, in_use) in (0..=8).flat_map(|others| (1..=8).map(move |in_use| (others, in_use))) {
                for shown in 0..=in_use {
                    let (used, lag) = (others + shown, in_use - shown);
                    let limit =
                        { control }.review(Reading { used: Some(used), in_use, head: None }).max(in_use);
                    if limit == in_use {
                        continue; // Nothing was promised.
                    }
                    let drift = others.saturating_sub(control.baseline());
                    let at_the_end = others + limit;
                    let bound = (control.soft + drift).min(control.hard + lag);
                    assert!(at_the_end <= bound, "{control:?}: {others} {in_use} {shown}");
                }
            }
        }
    }

    #[test]
    fn what_an_allocator_keeps_is_used_again_by_more_than_one_task() {
        let mut control = Control::new(80, 90);
        control.review(Reading { used: Some(5), in_use: 0, head: None });
        // 85 of 100 show for ever, whatever comes and goes.
        let mut in_use = 0;
        for _ in 0..100 {
            let limit = control.review(Reading { used: Some(85), in_use, head: Some(5) });
            if in_use + 5 <= limit {
                in_use += 5;
            }
        }
        assert_eq!(in_use, 75);
    }
}
