//! The bits of the semaphore's one atomic word, and what the fast path may do to them. Pure.
//!
//! # Problem
//!
//! The limit, what is in use, and whether anybody waits must be read at one instant: a permit taken by the old limit,
//! or past a waiter that has just queued, is a bug that no test finds twice.
//!
//! # Idea
//!
//! All three share one word, so one compare-and-swap decides on all three.
//!
//! ```text
//!   63      62      61 ........ 31   30 ........ 0
//!   FROZEN  CLOSED  limit            in use
//!
//!   FROZEN CLOSED
//!     0      0     nobody waits; the word is the whole truth, and compare-and-swap moves it
//!     0      1     nobody waits, and nobody will; releases still move it
//!     1      *     somebody waits, or a slow operation is under way: only the holder of the lock writes
//! ```
//!
//! # Invariants
//!
//! - `[WORD-1]` A fast operation never turns one word into another while FROZEN is set.
//! - `[WORD-2]` Neither number leaves its 31 bits: the limit is at most [`MAX`], and units are added only up to a limit, or
//!   up to [`MAX`] when they are charged.
//!
//! # Read next
//!
//! [`crate::gate`], where the word is atomic and stands before the ledger.

use crate::error::TryAcquireError;

/// The largest limit, 2³¹ - 1: two such numbers and two flags fill 64 bits, and it fits into `usize` on 32-bit targets.
pub(crate) const MAX: usize = (1 << 31) - 1;

pub(crate) const FROZEN: u64 = 1 << 63;
const CLOSED: u64 = 1 << 62;
const LIMIT_SHIFT: u32 = 31;

/// One value of the word.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Word(pub(crate) u64);

/// What the fast path may do with a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fast {
    /// Admitted, if the word can be swapped for this one.
    Go(Word),
    /// Refused, at the instant when the word was read.
    No(TryAcquireError),
    /// There is room, but the word is frozen: only who holds the lock can tell.
    Ask,
}

impl Word {
    /// Both numbers must be within [`MAX`].
    pub(crate) fn new(limit: usize, in_use: usize, closed: bool, frozen: bool) -> Self {
        assert!(limit <= MAX && in_use <= MAX, "[WORD-2] a number left its bits");
        let flags = if closed { CLOSED } else { 0 } | if frozen { FROZEN } else { 0 };
        Self(flags | (limit as u64) << LIMIT_SHIFT | in_use as u64)
    }

    #[inline]
    pub(crate) fn limit(self) -> usize {
        (self.0 >> LIMIT_SHIFT) as usize & MAX
    }

    #[inline]
    pub(crate) fn in_use(self) -> usize {
        self.0 as usize & MAX
    }

    #[inline]
    pub(crate) fn is_closed(self) -> bool {
        self.0 & CLOSED != 0
    }

    #[inline]
    pub(crate) fn is_frozen(self) -> bool {
        self.0 & FROZEN != 0
    }

    /// A request for `units` that meets this word.
    #[inline]
    pub(crate) fn acquire(self, units: usize) -> Fast {
        if self.0 & (FROZEN | CLOSED) == 0 && units <= self.room() {
            Fast::Go(Self(self.0 + units as u64)) // [WORD-2] At most the limit afterwards.
        } else {
            self.refuse(units)
        }
    }

    /// `units` come back. `None` if the word is frozen: then they go back through the ledger, under the lock.
    #[inline]
    pub(crate) fn release(self, units: usize) -> Option<Self> {
        assert!(units <= self.in_use(), "released more units than are in use");
        if self.is_frozen() { None } else { Some(Self(self.0 - units as u64)) } // [WORD-1]
    }

    /// `units` are charged, beyond the limit if need be: how many can be, and the word afterwards. `None` if it is frozen.
    #[inline]
    pub(crate) fn charge(self, units: usize) -> Option<(usize, Self)> {
        let charged = units.min(MAX - self.in_use()); // [WORD-2]
        if self.is_frozen() { None } else { Some((charged, Self(self.0 + charged as u64))) } // [WORD-1]
    }

    #[inline]
    fn room(self) -> usize {
        self.limit().saturating_sub(self.in_use()) // A shrink or a charge may leave more in use than the limit.
    }

    /// Why it cannot be a plain swap. A frozen word may refuse for want of room: that was so when it was read, and what
    /// the holder of the lock is about to change has not happened yet.
    #[cold]
    fn refuse(self, units: usize) -> Fast {
        if self.is_closed() {
            Fast::No(TryAcquireError::Closed)
        } else if units == 0 {
            Fast::Go(self) // Who takes nothing overtakes nobody.
        } else if units > self.limit() {
            Fast::No(TryAcquireError::ExceedsLimit)
        } else if units > self.room() {
            Fast::No(TryAcquireError::NoPermits)
        } else {
            Fast::Ask
        }
    }
}

impl std::fmt::Debug for Word {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.in_use(), self.limit())?;
        f.write_str(if self.is_frozen() { " frozen" } else { "" })?;
        f.write_str(if self.is_closed() { " closed" } else { "" })
    }
}

#[cfg(all(test, not(anteroom_loom)))]
mod tests {
    use super::*;

    /// Small numbers, the largest ones, and every flag: all words that matter to a comparison.
    fn words() -> impl Iterator<Item = Word> {
        let numbers = [0, 1, 2, 3, MAX - 1, MAX];
        numbers.into_iter().flat_map(move |limit| {
            numbers.into_iter().flat_map(move |in_use| {
                [(false, false), (false, true), (true, false), (true, true)]
                    .map(|(closed, frozen)| Word::new(limit, in_use, closed, frozen))
            })
        })
    }

    const REQUESTS: [usize; 8] = [0, 1, 2, 3, MAX - 1, MAX, MAX + 1, usize::MAX];

    #[test]
    fn a_word_holds_what_was_put_in() {
        for word in words() {
            assert_eq!(Word::new(word.limit(), word.in_use(), word.is_closed(), word.is_frozen()), word);
        }
    }

    /// [WORD-1], [WORD-2], over every word and request; bugs.md 10.
    #[test]
    fn a_request_takes_exactly_its_units_or_says_why_not() {
        for word in words() {
            for units in REQUESTS {
                let room = word.limit() as i128 - word.in_use() as i128;
                let expected = if word.is_closed() {
                    Fast::No(TryAcquireError::Closed)
                } else if units == 0 {
                    Fast::Go(word)
                } else if units > word.limit() {
                    Fast::No(TryAcquireError::ExceedsLimit)
                } else if units as i128 > room {
                    Fast::No(TryAcquireError::NoPermits)
                } else if word.is_frozen() {
                    Fast::Ask
                } else {
                    Fast::Go(Word::new(word.limit(), word.in_use() + units, false, false))
                };
                assert_eq!(word.acquire(units), expected, "{units} units of {word:?}");
            }
        }
    }

    /// [WORD-1], [WORD-2], over every word and every amount that is in use.
    #[test]
    fn a_release_gives_back_exactly_its_units_unless_frozen() {
        for word in words() {
            for units in REQUESTS.into_iter().filter(|&units| units <= word.in_use()) {
                let expected = (!word.is_frozen())
                    .then(|| Word::new(word.limit(), word.in_use() - units, word.is_closed(), false));
                assert_eq!(word.release(units), expected, "{units} units of {word:?}");
            }
        }
    }

    /// [WORD-1], [WORD-2], over every word and request.
    #[test]
    fn a_charge_takes_what_the_bits_hold_and_nothing_of_a_frozen_word() {
        for word in words() {
            for units in REQUESTS {
                let charged = units.min(MAX - word.in_use());
                let after = Word::new(word.limit(), word.in_use() + charged, word.is_closed(), false);
                let expected = (!word.is_frozen()).then_some((charged, after));
                assert_eq!(word.charge(units), expected, "{units} units of {word:?}");
            }
        }
    }

    #[test]
    #[should_panic(expected = "released more units than are in use")]
    fn over_release_is_caught() {
        let _ = Word::new(5, 1, false, false).release(2);
    }
}
