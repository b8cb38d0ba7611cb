//! Where started futures lie: blocks whose places never move.
//!
//! # Idea
//! A `Vec` that was made with room for all it will ever hold never moves what it holds. The first block has room for the whole
//! limit, up to [`FIRST`]; for a larger limit each further block is as large as all before it, and comes only when so many are
//! live. A place is written to when it is first used, so the system gives no memory for what never starts.
//!
//! # Invariants
//! - [GATHER-5] What lies in a place is pinned: a block is never grown beyond its first capacity, none is taken out of or
//!   swapped, and a place is only replaced by `Pin::set`.
//!
//! # Rejected
//! A block a future, as everywhere else: an allocation an item. One array of `limit` places: a limit of `usize::MAX` is a
//! good way to say "all".

use std::pin::Pin;

use super::wake::{GROUP, GROUPS_MAX, Groups, Owner};

/// Places of the first block, at most.
pub(super) const FIRST: usize = 1_024;

/// As many places as there can be.
pub(super) const SLOTS_MAX: usize = GROUPS_MAX * GROUP;

/// Places for pinned values, numbered from 0 in the order of their first use.
#[derive(Debug)]
pub(super) struct Slots<T> {
    first: Block<T>,
    more: Vec<Block<T>>,
    /// How many places were used until now, and may ever be.
    used: usize,
    limit: usize,
}

#[derive(Debug)]
struct Block<T> {
    places: Vec<Option<T>>,
    groups: Groups,
}

impl<T> Block<T> {
    fn new(owner: &Owner, start: usize, places: usize) -> Self {
        Self { places: Vec::with_capacity(places), groups: Groups::new(owner, start / GROUP, places) }
    }
}

/// The block of a slot, and its place there.
#[inline(always)]
fn locate(slot: usize) -> (usize, usize) {
    if slot < FIRST {
        return (0, slot);
    }
    let block = (slot / FIRST).ilog2() as usize + 1;
    (block, slot - start(block))
}

/// The first slot of a block other than the first: it is as large as all before it.
const fn start(block: usize) -> usize {
    FIRST << (block - 1)
}

impl<T> Slots<T> {
    /// Room for up to `limit` values, of which there is at least one.
    pub(super) fn new(owner: &Owner, limit: usize) -> Self {
        Self { first: Block::new(owner, 0, limit.min(FIRST)), more: Vec::new(), used: 0, limit }
    }

    /// How many places were used until now.
    pub(super) fn used(&self) -> usize {
        self.used
    }

    #[inline]
    fn block(&mut self, block: usize) -> &mut Block<T> {
        match block {
            0 => &mut self.first,
            _ => &mut self.more[block - 1],
        }
    }

    /// A place that was used before, and the wakers of its block with its number there.
    #[inline]
    pub(super) fn place(&mut self, slot: usize) -> (Pin<&mut Option<T>>, &Groups, usize) {
        let (block, index) = locate(slot);
        let Block { places, groups } = self.block(block);
        // SAFETY: [GATHER-5] it lies there until it is dropped there.
        (unsafe { Pin::new_unchecked(&mut places[index]) }, groups, index)
    }

    /// The groups that hold group `number`, and which of them it is.
    #[inline]
    pub(super) fn groups(&mut self, number: usize) -> (&Groups, usize) {
        let (block, index) = locate(number * GROUP);
        (&self.block(block).groups, index / GROUP)
    }

    /// Makes a value in a place that was not used before; its slot.
    #[inline]
    pub(super) fn push(&mut self, owner: &Owner, make: impl FnOnce() -> T) -> usize {
        let slot = self.used;
        let (block, _) = locate(slot);
        if block > self.more.len() {
            self.grow(owner);
        }
        let places = &mut self.block(block).places;
        // [GATHER-5] it never moves what it holds.
        assert!(places.len() < places.capacity());
        places.push(Some(make()));
        self.used += 1;
        slot
    }

    #[cold]
    fn grow(&mut self, owner: &Owner) {
        let start = start(self.more.len() + 1);
        self.more.push(Block::new(owner, start, start.min(self.limit - start)));
    }
}

#[cfg(all(test, not(anteroom_loom)))]
mod tests {
    use super::*;

    #[test]
    fn slots_and_blocks_count_in_step() {
        let mut expected = (0, 0);
        for slot in 0..10 * FIRST {
            assert_eq!(locate(slot), expected, "slot {slot}");
            let (block, index) = expected;
            let places = if block == 0 { FIRST } else { start(block) };
            expected = if index + 1 == places { (block + 1, 0) } else { (block, index + 1) };
        }
    }

    /// [GATHER-5]
    #[test]
    fn a_value_stays_where_it_was_made_while_others_come() {
        let owner = Owner::new();
        let mut slots = Slots::new(&owner, 5 * FIRST + 3);
        let address = |slots: &mut Slots<u64>, slot| std::ptr::from_ref(&*slots.place(slot).0).addr();
        let mut addresses = Vec::new();
        for number in 0..5 * FIRST + 3 {
            assert_eq!(slots.push(&owner, || number as u64), number);
            addresses.push(address(&mut slots, number));
        }
        for (number, before) in addresses.into_iter().enumerate() {
            assert_eq!(address(&mut slots, number), before);
            assert_eq!(*slots.place(number).0, Some(number as u64));
            assert_eq!(slots.groups(number / GROUP).1, locate(number).1 / GROUP);
        }
        // The last block has room for what may still come and no more.
        assert_eq!(slots.more.last().unwrap().places.capacity(), FIRST + 3);
    }

    #[test]
    #[should_panic(expected = "capacity")]
    fn a_block_is_not_grown() {
        let owner = Owner::new();
        let mut slots = Slots::new(&owner, 1);
        slots.push(&owner, || 1);
        slots.push(&owner, || 2);
    }
}
