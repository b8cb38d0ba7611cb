//! Where a worker leaves the places of the tasks that ended with it.
//!
//! # Problem
//! The count of places is under the key, and a task that ends would take the key only to say "one fewer". With many short
//! tasks that is half of all who want it.
//!
//! # Idea
//! A worker counts what has ended, in a word of its own; whoever needs a place that there seems not to be adds these words up
//! first. What admission counts is then never too little, and it is exact wherever it is looked at.
//!
//! While somebody waits for a place, it must be given on at once: the lowest bit of the word says so, and who finds it set
//! takes the key. It is set *before* the words are added up, so that an end is either in the sum or finds the bit.
//!
//! # Invariants
//! - [TRAY-1] The bit is set while anybody waits for a place, or for the last task's end. It is the key holder's to move.
//! - [TRAY-2] Only the worker itself adds to its words, when the future is gone.
//!
//! # Cost
//! A locked instruction in place of the key's two, on a line that is the worker's. While somebody waits, and until half of the limit
//! is free after that, a look, and the key as ever.
//!
//! # Rejected
//! One word for all workers: it would go to and fro as the key does.
//!
//! # Read next
//! `../admission/mod.rs`, which adds them up.

use crate::sync::{AtomicUsize, Ordering, seeded};

const WANTED: usize = 1;
const PLACE: usize = 2;

/// What ended with one worker, ever; the counts wrap.
pub(crate) struct Tray {
    places: AtomicUsize,
    bytes: AtomicUsize,
}

impl Tray {
    pub(super) fn new() -> Self {
        Self { places: AtomicUsize::new(0), bytes: AtomicUsize::new(0) }
    }

    /// Leaves the place of a task with so many bytes, unless it is wanted; whether it did, and who wants it since.
    #[inline(always)]
    pub(super) fn leave(&self, bytes: usize) -> Left {
        // Ordering: Relaxed; the addition tells for certain.
        if self.places.load(Ordering::Relaxed) & WANTED != 0 {
            return Left::Not;
        }
        // Ordering: Relaxed, and no addition in one: [TRAY-2]. It may be seen before the place is, and is free then.
        let before = self.bytes.load(Ordering::Relaxed);
        self.bytes.store(before.wrapping_add(bytes), Ordering::Relaxed);
        // Ordering: AcqRel; Release has who gets the place find that its task is gone.
        let order = if seeded("team_tray_relaxed") { Ordering::Relaxed } else { Ordering::AcqRel };
        let before = self.places.fetch_add(PLACE, order);
        if before & WANTED != 0 && !seeded("team_tray_is_not_looked_at") {
            return Left::AndWanted;
        }
        Left::Quietly
    }

    /// Says whether places are wanted at once, from now on.
    pub(super) fn want(&self, is_wanted: bool) {
        // Ordering: AcqRel; who adds to it after this sees it, and who added before is seen.
        if is_wanted {
            self.places.fetch_or(WANTED, Ordering::AcqRel);
        } else {
            self.places.fetch_and(!WANTED, Ordering::AcqRel);
        }
    }

    /// How many places were left here, ever, and with how many bytes.
    #[inline]
    pub(super) fn left(&self) -> [usize; 2] {
        // Ordering: Acquire, and the bytes after it; pairs with the Release of `leave`.
        let places = self.places.load(Ordering::Acquire) / PLACE;
        [places, self.bytes.load(Ordering::Relaxed)]
    }
}

/// What became of a place that was to be left.
pub(crate) enum Left {
    /// Nothing: it is wanted.
    Not,
    /// It was left, and nobody waits for it.
    Quietly,
    /// It was left, and somebody waits, who is to be let in.
    AndWanted,
}
