//! Timers: a hierarchical wheel of entries in bags of indices.
//!
//! # Problem
//! A runtime has up to a million timers, most of which are cancelled long before they fire. Insert and cancel must take a
//! few nanoseconds whatever their number, and nothing may depend on how far away a deadline is.
//!
//! # Idea
//! Time is counted in ticks. Level 0 has 256 slots of one tick, level 1 of 256 ticks, level 2 of 65,536, and so on: eight
//! levels cover all 64 bits, so no deadline wraps and none needs a special case. An entry stands at the level of the highest
//! byte in which its deadline differs from now, in the slot that its byte there names:
//!
//! ```text
//!   now       0…0 05 32 07          level 2 slot 5 | level 1 slot 50 | level 0 slot 7
//!   deadline  0…0 05 39 00          differs first in level 1: stands in slot 57 of level 1
//! ```
//!
//! A slot is a bag (`bags.rs`), and so is what is due. When now reaches the start of a slot of a higher level, its entries fall to
//! lower ones. The next slot to be looked at is the first bit of the first level that has one, one of 32 words.
//!
//! # Invariants
//! - [WHEEL-1] Every entry in a slot of level L shares with `now` all bits above that level, and its slot is beyond now's. So where
//!   it stands follows from its deadline and now, whatever now was when it was put there.
//! - [WHEEL-2] An entry is removed when it fires, so a key that is not found has fired or was cancelled, never both.
//! - [WHEEL-3] `now` never goes back.
//!
//! # Rejected
//! - A heap: its insert moves entries for as many levels as it is deep, and a cancel needs their positions.
//! - 64 slots a level, which take 2.8 KiB instead of 8: each fall of an entry is a cache miss, and what sleeps for up to six
//!   seconds fell twice instead of once.
//!
//! # Bounds
//! As many entries as there are `Sleep`s that wait, in a table that keeps its greatest size. Firing is bounded by their number.
//!
//! # Read next
//! `bags.rs`, what a slot is; `mod.rs`, which turns time into ticks.

use std::task::Waker;

use slab::Slab;

use super::bags::{self, Bags, Place};
use crate::bytes::table_bytes;

const SLOT_BITS: u32 = 8;
const SLOTS: usize = 1 << SLOT_BITS;
const LEVELS: usize = 8;
const WORD_BITS: usize = u64::BITS as usize;
/// A level's share of the words that say which slots have entries.
const WORDS: usize = SLOTS / WORD_BITS;
/// A bag for each slot of each level, ...
const BAGS: usize = LEVELS * SLOTS + 1;
/// ... and one for entries whose time has come, until they are popped.
const DUE: usize = LEVELS * SLOTS;

/// Names a timer; a key whose timer has fired names nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimerKey {
    index: u32,
    stamp: u32,
}

/// A table of so many entries begins anew when it is empty, in some 0.1 ms; a larger one would take longer.
const CLEAR_MAX: usize = 1 << 17;

/// Half a cache line.
#[repr(align(32))]
struct Entry {
    deadline: u64,
    waker: Waker,
    place: Place,
    stamp: u32,
}

// In the slab, too, whose entries are this or a number.
const _: () = assert!(usize::BITS < 64 || size_of::<Result<Entry, usize>>() == 32);

/// All timers of one runtime, by tick.
pub(crate) struct Wheel {
    now: u64,
    entries: Slab<Entry>,
    bags: Bags<BAGS>,
    occupied: [u64; LEVELS * WORDS],
    stamp: u32,
}

/// The bag of an entry: that of its slot, at the level of the highest byte in which its deadline differs from now.
#[inline]
const fn bag_of(now: u64, deadline: u64) -> usize {
    if deadline <= now {
        return DUE;
    }
    let level = (now ^ deadline).ilog2() / SLOT_BITS;
    level as usize * SLOTS + (deadline >> (SLOT_BITS * level)) as usize % SLOTS
}

impl Wheel {
    /// What there is without timers.
    pub(crate) const FIXED_BYTES: usize = size_of::<[u32; BAGS]>();

    /// What so many timers take at most.
    pub(crate) fn worst_bytes(timers: usize) -> usize {
        table_bytes(timers, size_of::<Entry>()).saturating_add(bags::worst_bytes(timers, BAGS))
    }

    pub(crate) fn new() -> Self {
        Self { now: 0, entries: Slab::new(), bags: Bags::new(), occupied: [0; LEVELS * WORDS], stamp: 0 }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many timers wait.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Wakes `waker` at `deadline`; a deadline that has come is due at once.
    #[inline]
    pub(crate) fn insert(&mut self, deadline: u64, waker: Waker) -> TimerKey {
        self.stamp = self.stamp.wrapping_add(1);
        let stamp = self.stamp;
        if self.entries.is_empty() && self.entries.capacity() <= CLEAR_MAX {
            // Else new ones take the places of the burst before in the order in which those fired, each of them a cache miss.
            self.entries.clear();
        }
        let vacant = self.entries.vacant_entry();
        let index = u32::try_from(vacant.key()).expect("fewer than 2^32 timers");
        let place = put(&mut self.bags, &mut self.occupied, self.now, deadline, index);
        vacant.insert(Entry { deadline, waker, place, stamp });
        TimerKey { index, stamp }
    }

    /// Removes a timer and gives its waker back; `None` if it has fired.
    #[inline]
    pub(crate) fn cancel(&mut self, key: TimerKey) -> Option<Waker> {
        self.get(key)?;
        let Entry { deadline, waker, place, .. } = self.entries.remove(key.index as usize);
        let bag = bag_of(self.now, deadline);
        if let Some(moved) = self.bags.remove(bag, place) {
            self.entries[moved as usize].place = place;
        }
        if self.bags.is_empty(bag) && bag != DUE {
            set_occupied(&mut self.occupied, bag, false);
        }
        Some(waker)
    }

    /// The waker of a timer that has not fired.
    #[inline]
    pub(crate) fn waker_mut(&mut self, key: TimerKey) -> Option<&mut Waker> {
        self.get(key)?;
        Some(&mut self.entries[key.index as usize].waker)
    }

    fn get(&self, key: TimerKey) -> Option<&Entry> {
        self.entries.get(key.index as usize).filter(|entry| entry.stamp == key.stamp)
    }

    /// When the wheel must be looked at next: no timer is due before. It may be earlier than the first deadline.
    #[inline]
    pub(crate) fn next(&self) -> Option<u64> {
        if !self.bags.is_empty(DUE) {
            return Some(self.now);
        }
        self.next_slot().map(|(_, start)| start)
    }

    /// The first slot with entries, and the tick at which it begins.
    #[inline]
    fn next_slot(&self) -> Option<(usize, u64)> {
        let word = self.occupied.iter().position(|&bits| bits != 0)?;
        let bag = word * WORD_BITS + self.occupied[word].trailing_zeros() as usize;
        let shift = SLOT_BITS * (bag / SLOTS) as u32;
        let block = self.now >> shift & !(SLOTS as u64 - 1);
        Some((bag, (block | (bag % SLOTS) as u64) << shift))
    }

    /// Moves time on to `to`; what is due by then waits for [`pop_due`](Self::pop_due).
    pub(crate) fn advance(&mut self, to: u64) {
        while let Some((bag, start)) = self.next_slot() {
            if start > to {
                break;
            }
            self.now = start;
            set_occupied(&mut self.occupied, bag, false);
            let mut emptied = self.bags.empty(bag);
            while let Some(indices) = self.bags.next_of(&mut emptied) {
                for index in indices {
                    let entry = &mut self.entries[index as usize];
                    entry.place = put(&mut self.bags, &mut self.occupied, start, entry.deadline, index);
                }
            }
        }
        self.now = self.now.max(to);
    }

    /// Removes a timer that is due; its waker is the caller's to wake, with nothing borrowed.
    #[inline]
    pub(crate) fn pop_due(&mut self) -> Option<Waker> {
        let index = self.bags.pop(DUE)?;
        Some(self.entries.remove(index as usize).waker)
    }
}

/// Puts an index where its deadline and now say.
#[inline]
fn put(
    bags: &mut Bags<BAGS>,
    occupied: &mut [u64; LEVELS * WORDS],
    now: u64,
    deadline: u64,
    index: u32,
) -> Place {
    let bag = bag_of(now, deadline);
    if bag != DUE {
        set_occupied(occupied, bag, true);
    }
    bags.push(bag, index)
}

#[inline]
fn set_occupied(occupied: &mut [u64; LEVELS * WORDS], bag: usize, is_occupied: bool) {
    let word = &mut occupied[bag / WORD_BITS];
    let bit = 1 << (bag % WORD_BITS);
    *word = if is_occupied { *word | bit } else { *word & !bit };
}

#[cfg(all(test, not(anteroom_loom)))]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// Two years of ticks of 100 µs.
    const TWO_YEARS: u64 = 2 * 365 * 86_400 * 10_000;

    /// A waker that says which timer it was.
    fn numbered(number: usize) -> (Waker, std::sync::Arc<Numbered>) {
        let inner = std::sync::Arc::new(Numbered(number));
        (Waker::from(inner.clone()), inner)
    }

    struct Numbered(usize);

    impl std::task::Wake for Numbered {
        fn wake(self: std::sync::Arc<Self>) {}
    }

    fn number_of(waker: &Waker) -> usize {
        // What identifies it is the address of the Arc that the test keeps.
        waker.data().addr()
    }

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u64),
        Cancel(usize),
        Advance(u64),
    }

    fn spans() -> impl Strategy<Value = u64> {
        prop_oneof![0..4_u64, 0..130_u64, 0..10_000_u64, 0..TWO_YEARS / 50]
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => spans().prop_map(Step::Insert),
            2 => any::<usize>().prop_map(Step::Cancel),
            3 => spans().prop_map(Step::Advance),
        ];
        prop::collection::vec(step, 1..200)
    }

    proptest! {
        #[test]
        // bugs.md 41: whatever the level, whatever the time that has passed; bugs.md 42: fired or cancelled, never both.
        fn it_fires_what_a_sorted_map_fires(steps in steps(), start in 0..TWO_YEARS) {
            let mut wheel = Wheel::new();
            wheel.advance(start);
            let mut model = BTreeMap::new();
            let mut keys = Vec::new();
            for (number, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Insert(after) => {
                        let (waker, keep) = numbered(number);
                        let deadline = wheel.now + after;
                        let key = wheel.insert(deadline, waker.clone());
                        model.insert((deadline, number_of(&waker)), ());
                        keys.push((key, deadline, number_of(&waker), keep));
                    }
                    Step::Cancel(which) if !keys.is_empty() => {
                        let (key, deadline, id, keep) = &keys[which % keys.len()];
                        let waited = model.remove(&(*deadline, *id)).is_some();
                        prop_assert_eq!(wheel.cancel(*key).is_some(), waited, "timer {}", keep.0);
                    }
                    Step::Cancel(_) => {}
                    Step::Advance(by) => {
                        let to = wheel.now + by;
                        wheel.advance(to);
                        let later = model.split_off(&(to + 1, 0));
                        let mut due: Vec<usize> = std::mem::replace(&mut model, later).into_keys().map(|(_, id)| id).collect();
                        let mut fired = Vec::new();
                        while let Some(waker) = wheel.pop_due() {
                            fired.push(number_of(&waker));
                        }
                        due.sort_unstable();
                        fired.sort_unstable();
                        prop_assert_eq!(fired, due);
                    }
                }
                prop_assert_eq!(wheel.len(), model.len());
                if let Some((&(first, _), ())) = model.first_key_value() {
                    let next = wheel.next().expect("there are timers");
                    prop_assert!(next <= first && next >= wheel.now);
                } else {
                    prop_assert_eq!(wheel.next(), None);
                }
            }
        }
    }

    #[test]
    fn two_simulated_years_of_a_timer_a_day() {
        // bugs.md 41
        let (mut wheel, mut fired) = (Wheel::new(), 0);
        const DAY: u64 = TWO_YEARS / 730;
        while wheel.now < TWO_YEARS {
            let deadline = wheel.now + DAY;
            wheel.insert(deadline, Waker::noop().clone());
            while wheel.pop_due().is_none() {
                let next = wheel.next().expect("it waits");
                assert!(next <= deadline);
                wheel.advance(next);
            }
            assert_eq!(wheel.now, deadline);
            fired += 1;
        }
        assert_eq!(fired, 730);
    }

    #[test]
    fn a_timer_at_the_current_tick_is_due_at_once() {
        // bugs.md 40
        let mut wheel = Wheel::new();
        wheel.advance(1_000);
        wheel.insert(1_000, Waker::noop().clone());
        wheel.insert(3, Waker::noop().clone());
        assert_eq!(wheel.next(), Some(1_000));
        assert!(wheel.pop_due().is_some() && wheel.pop_due().is_some() && wheel.pop_due().is_none());
    }

    #[test]
    fn the_farthest_deadline_waits_and_can_be_cancelled() {
        // bugs.md 43
        let mut wheel = Wheel::new();
        wheel.advance(12_345);
        let key = wheel.insert(u64::MAX, Waker::noop().clone());
        wheel.advance(u64::MAX - 1);
        assert!(wheel.pop_due().is_none());
        assert!(wheel.cancel(key).is_some() && wheel.cancel(key).is_none());
    }
}
