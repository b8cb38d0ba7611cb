//! The bits of a task's state word, and the one pure function that moves them.
//!
//! # Problem
//! A task is woken, aborted, joined and dropped in any order, also while it is being polled. Spread over the code, these
//! cases are never all written; in one table they can all be tested.
//!
//! # Idea
//! [`next`] maps (state, event) to (state, action) and touches nothing else. A shell stores the new state and carries the
//! action out: the single-threaded shell with a plain store, since only the owner writes the word; the shared one by
//! compare-and-swap (`shared.rs`).
//!
//! | phase | in the run queue | future | output | who may act |
//! |---|---|---|---|---|
//! | `Free` | no | none | none | the table hands it out |
//! | `Idle` | no | yes | none | a wake or an abort schedules it |
//! | `Scheduled` | yes | yes | none | the loop polls it, or drops its future if it was aborted |
//! | `Running` | no | being polled | none | the poll's end decides |
//! | `Notified` | no | being polled | none | as `Running`, and goes back to the queue |
//! | `Done` | no | none | yes (or cancelled) | the handle alone |
//!
//! Beside the phase stand `HANDLE` (a `JoinHandle` exists), `ABORT` (drop the future instead of the next poll), how it
//! ended, and the generation, which goes up each time the header becomes free.
//!
//! # Invariants
//! - [STATE-1] A task is in the run queue exactly while its phase is `Scheduled`.
//! - [STATE-2] `Done` exists only with `HANDLE`: without one the header goes from running to `Free` at once.
//! - [STATE-3] The generation changes only on the way to `Free`, by one.
//!
//! # Rejected
//! A count of references in the word, as in other runtimes: wakers here own nothing, so there is nothing to count.
//!
//! # Read next
//! `mod.rs`, the shell.

use core::fmt;

/// How many bits of generation fit into a waker's data pointer beside the address: six low ones by the header's
/// alignment, and on 64 bits the sixteen high ones that user addresses leave free.
pub(crate) const GENERATION_BITS: u32 = generation_bits(usize::BITS);

/// The same for a word of any width, so that both widths are tested on any machine.
pub(crate) const fn generation_bits(word_bits: u32) -> u32 {
    if word_bits == 64 { 22 } else { 6 }
}

const PHASE: u32 = 0b111;
const HANDLE: u32 = 1 << 3;
const ABORT: u32 = 1 << 4;
const OUTCOME_SHIFT: u32 = 5;
const OUTCOME: u32 = 0b11 << OUTCOME_SHIFT;
const GENERATION_SHIFT: u32 = 32 - GENERATION_BITS;
const GENERATION: u32 = u32::MAX << GENERATION_SHIFT;

/// Where a task is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Phase {
    Free = 0,
    Idle = 1,
    Scheduled = 2,
    Running = 3,
    Notified = 4,
    Done = 5,
}

/// How a task ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Outcome {
    /// It returned; the output is in the body.
    Value = 1,
    /// It panicked; the payload is in the body.
    Panic = 2,
    /// It was aborted, or its runtime ended; the body is empty.
    Cancelled = 3,
}

/// What happens to a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A future was put into a free header.
    Spawn {
        handle: bool,
    },
    Wake,
    /// The loop took it from the run queue.
    StartPoll,
    /// Its poll returned `Pending`.
    PollPending,
    /// Its future is gone.
    Finish(Outcome),
    Abort,
    /// The handle was polled.
    Join,
    /// The handle was dropped.
    Detach,
    /// The handle took the output, or dropped it on its own thread.
    Recycle,
    /// The runtime is going away.
    Shutdown,
}

/// What the caller of [`next`] must now do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "the new state is a promise that the action is carried out"]
pub(crate) enum Action {
    Nothing,
    /// Put it at the tail of the run queue.
    Enqueue,
    /// Poll the future.
    Poll,
    /// Drop the future, then report `Finish(Cancelled)`.
    Cancel,
    /// The output stays for the handle; wake the joiner.
    Keep,
    /// Drop the output, then give the header back to the table.
    DropOutput,
    /// Give the header back to the table.
    Recycle,
    /// Keep the waker of whoever joins.
    Watch,
    /// The output is the handle's to take.
    Take,
    /// This pair cannot come about; the shell asserts it.
    Impossible,
}

/// One value of the state word.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Snapshot(u32);

impl Snapshot {
    pub(crate) const FREE: Snapshot = Snapshot(Phase::Free as u32);

    #[inline(always)]
    pub(crate) const fn from_bits(bits: u32) -> Self {
        Snapshot(bits)
    }

    #[inline(always)]
    pub(crate) const fn bits(self) -> u32 {
        self.0
    }

    #[inline(always)]
    pub(crate) const fn generation(self) -> u32 {
        self.0 >> GENERATION_SHIFT
    }

    #[inline(always)]
    pub(crate) const fn phase(self) -> Phase {
        match self.0 & PHASE {
            0 => Phase::Free,
            1 => Phase::Idle,
            2 => Phase::Scheduled,
            3 => Phase::Running,
            4 => Phase::Notified,
            _ => Phase::Done,
        }
    }

    #[inline(always)]
    pub(crate) const fn has_handle(self) -> bool {
        self.0 & HANDLE != 0
    }

    #[inline(always)]
    pub(crate) const fn is_aborted(self) -> bool {
        self.0 & ABORT != 0
    }

    #[inline(always)]
    pub(crate) const fn is_done(self) -> bool {
        self.0 & PHASE == Phase::Done as u32
    }

    /// Whether nobody will poll it again.
    #[inline(always)]
    #[cfg(feature = "stealing")]
    pub(crate) const fn is_over(self) -> bool {
        matches!(self.phase(), Phase::Done | Phase::Free)
    }

    /// How it ended; only `Done` has an answer.
    #[inline(always)]
    pub(crate) const fn outcome(self) -> Option<Outcome> {
        match (self.0 & OUTCOME) >> OUTCOME_SHIFT {
            1 => Some(Outcome::Value),
            2 => Some(Outcome::Panic),
            3 => Some(Outcome::Cancelled),
            _ => None,
        }
    }

    #[inline(always)]
    const fn to(self, phase: Phase) -> Self {
        Snapshot(self.0 & !PHASE | phase as u32)
    }

    /// Free, every flag cleared, the next generation.
    #[inline(always)]
    const fn freed(self) -> Self {
        Snapshot((self.0 & GENERATION).wrapping_add(1 << GENERATION_SHIFT) | Phase::Free as u32)
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot")
            .field("phase", &self.phase())
            .field("handle", &self.has_handle())
            .field("abort", &self.is_aborted())
            .field("outcome", &self.outcome())
            .field("generation", &self.generation())
            .finish()
    }
}

/// The whole protocol: what `event` makes of a task in state `at`, and what the caller must do about it.
#[inline(always)]
pub(crate) const fn next(at: Snapshot, event: Event) -> (Snapshot, Action) {
    use Phase::{Done, Free, Idle, Notified, Running, Scheduled};
    match (event, at.phase()) {
        (Event::Spawn { handle }, Free) => {
            let flags = if handle { HANDLE } else { 0 };
            (Snapshot(at.to(Scheduled).0 | flags), Action::Enqueue)
        }

        (Event::Wake, Idle) => (at.to(Scheduled), Action::Enqueue),
        (Event::Wake, Running) => (at.to(Notified), Action::Nothing),
        // Already on its way, or a waker that outlived its task.
        (Event::Wake, Scheduled | Notified | Done | Free) => (at, Action::Nothing),

        (Event::StartPoll, Scheduled) if at.is_aborted() => (at.to(Running), Action::Cancel),
        (Event::StartPoll, Scheduled) => (at.to(Running), Action::Poll),

        (Event::PollPending, Running | Notified) if at.is_aborted() => (at.to(Running), Action::Cancel),
        (Event::PollPending, Running) => (at.to(Idle), Action::Nothing),
        (Event::PollPending, Notified) => (at.to(Scheduled), Action::Enqueue),

        (Event::Finish(outcome), Running | Notified) => {
            if at.has_handle() {
                (Snapshot(at.to(Done).0 & !ABORT | (outcome as u32) << OUTCOME_SHIFT), Action::Keep)
            } else {
                (at.freed(), Action::Recycle)
            }
        }

        (Event::Abort, Idle) => (Snapshot(at.to(Scheduled).0 | ABORT), Action::Enqueue),
        (Event::Abort, Scheduled | Running | Notified) => (Snapshot(at.0 | ABORT), Action::Nothing),
        (Event::Abort, Done) => (at, Action::Nothing),

        (Event::Join, Done) => (at, Action::Take),
        (Event::Join, Idle | Scheduled | Running | Notified) => (at, Action::Watch),

        (Event::Detach, Done) => (at.freed(), Action::DropOutput),
        (Event::Detach, Idle | Scheduled | Running | Notified) => (Snapshot(at.0 & !HANDLE), Action::Nothing),

        (Event::Recycle, Done) => (at.freed(), Action::Recycle),

        (Event::Shutdown, Idle | Scheduled) => (Snapshot(at.to(Running).0 | ABORT), Action::Cancel),
        (Event::Shutdown, Done | Free) => (at, Action::Nothing),

        (Event::Spawn { .. }, Idle | Scheduled | Running | Notified | Done)
        | (Event::StartPoll | Event::Recycle, Free | Idle | Running | Notified)
        | (Event::StartPoll, Done)
        | (Event::Recycle, Scheduled)
        | (Event::PollPending | Event::Finish(_), Free | Idle | Scheduled | Done)
        | (Event::Abort | Event::Join | Event::Detach, Free)
        | (Event::Shutdown, Running | Notified) => (at, Action::Impossible),
    }
}

#[cfg(all(test, not(anteroom_loom)))]
mod tests {
    use super::*;

    const OUTCOMES: [Outcome; 3] = [Outcome::Value, Outcome::Panic, Outcome::Cancelled];

    fn events() -> Vec<Event> {
        let mut events = vec![
            Event::Spawn { handle: true },
            Event::Spawn { handle: false },
            Event::Wake,
            Event::StartPoll,
            Event::PollPending,
            Event::Abort,
            Event::Join,
            Event::Detach,
            Event::Recycle,
            Event::Shutdown,
        ];
        events.extend(OUTCOMES.map(Event::Finish));
        events
    }

    /// Every state that can be reached from a free header, by exhaustion over all events.
    fn reachable() -> Vec<Snapshot> {
        let mut seen = vec![Snapshot::FREE];
        let mut at = 0;
        while at < seen.len() {
            for event in events() {
                let (to, action) = next(seen[at], event);
                // The generation would make the set large; it is looked at by a test of its own.
                let to = Snapshot(to.0 & !GENERATION);
                if action != Action::Impossible && !seen.contains(&to) {
                    seen.push(to);
                }
            }
            at += 1;
        }
        seen
    }

    #[test]
    fn every_reachable_state_is_one_that_the_table_names() {
        let states = reachable();
        for s in &states {
            // [STATE-2]
            assert!(!s.is_done() || s.has_handle(), "{s:?}");
            assert_eq!(s.is_done(), s.outcome().is_some(), "{s:?}");
            if s.phase() == Phase::Free {
                assert_eq!(*s, Snapshot::FREE, "free keeps no flag");
            }
        }
        // Free; four live phases, each with or without HANDLE and ABORT, but never idle and aborted; three ways to be done.
        assert_eq!(states.len(), 1 + 4 * 4 - 2 + 3);
    }

    #[test]
    fn the_run_queue_holds_exactly_the_scheduled() {
        // [STATE-1]: whoever becomes Scheduled is enqueued by that very step, and leaves only by StartPoll or shutdown.
        for s in reachable() {
            for event in events() {
                let (to, action) = next(s, event);
                if action == Action::Impossible {
                    assert_eq!(to, s, "an impossible event changes nothing");
                    continue;
                }
                let (was, is) = (s.phase() == Phase::Scheduled, to.phase() == Phase::Scheduled);
                assert_eq!(!was && is, action == Action::Enqueue, "{s:?} {event:?}");
                if was && !is {
                    assert!(matches!(event, Event::StartPoll | Event::Shutdown), "{s:?} {event:?}");
                }
            }
        }
    }

    #[test]
    fn the_generation_moves_only_on_the_way_to_free() {
        // [STATE-3]
        for s in reachable() {
            for event in events() {
                let (to, action) = next(s, event);
                let freed =
                    action != Action::Impossible && s.phase() != Phase::Free && to.phase() == Phase::Free;
                assert_eq!(to.generation(), s.generation() + u32::from(freed), "{s:?} {event:?}");
            }
        }
    }

    #[test]
    fn the_generation_wraps_and_leaves_the_other_bits_alone() {
        let last =
            Snapshot(GENERATION | Phase::Done as u32 | HANDLE | (Outcome::Value as u32) << OUTCOME_SHIFT);
        let (to, action) = next(last, Event::Recycle);
        assert_eq!((to, action), (Snapshot::FREE, Action::Recycle));
    }

    #[test]
    fn a_wake_during_a_poll_always_polls_again() {
        // bugs.md 36
        let (running, _) = next(next(Snapshot::FREE, Event::Spawn { handle: true }).0, Event::StartPoll);
        let (notified, _) = next(running, Event::Wake);
        assert_eq!(next(notified, Event::PollPending).1, Action::Enqueue);
    }

    #[test]
    fn an_abort_reaches_a_live_task_in_every_phase() {
        for s in reachable() {
            if matches!(s.phase(), Phase::Free | Phase::Done) {
                continue;
            }
            let (aborted, _) = next(s, Event::Abort);
            let cancelled = match aborted.phase() {
                Phase::Scheduled => next(aborted, Event::StartPoll),
                _ => next(aborted, Event::PollPending),
            };
            assert_eq!(cancelled.1, Action::Cancel, "{s:?}");
        }
    }
}
