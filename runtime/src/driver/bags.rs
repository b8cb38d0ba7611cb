//! Bags of indices, for a wheel whose entries lie anywhere.
//!
//! # Problem
//! A slot of the wheel holds any number of entries, of which any may leave at any time, and when its turn comes all of them are
//! gone through. Linked through the entries that is a chain of cache misses, each of which must end before the next can begin:
//! a quarter of the time of 100,000 timers.
//!
//! # Idea
//! A bag is a list of chunks, half a cache line each, with up to [`ITEMS`] indices; only its first chunk is not full. So the
//! indices are next to each other, and the processor fetches several entries at once. An index that leaves is replaced by the
//! bag's last one, whose entry is told where it stands now. All bags take their chunks from one table.
//!
//! # Invariants
//! - [BAGS-1] Every chunk is in one bag or in the free list; each but the first of a bag is full, and none of a bag is empty.
//!
//! # Bounds
//! For `n` indices at most `n / ITEMS`, and one for each bag that is not empty ([`chunks_max`]); the table keeps its greatest
//! size.
//!
//! # Read next
//! `wheel.rs`.

/// How many indices share a chunk.
const ITEMS: usize = 6;

/// In a place, the bits that say where in its chunk an index stands.
const POSITION_BITS: u32 = 3;

const NONE: u32 = u32::MAX;

#[derive(Clone, Copy)]
#[repr(align(32))]
struct Chunk {
    items: [u32; ITEMS],
    len: u32,
    next: u32,
}

/// Where an index stands: its chunk, and where in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place(u32);

impl Place {
    fn new(chunk: u32, position: u32) -> Self {
        Self(chunk << POSITION_BITS | position)
    }

    fn chunk(self) -> usize {
        (self.0 >> POSITION_BITS) as usize
    }

    fn position(self) -> usize {
        self.0 as usize & ((1 << POSITION_BITS) - 1)
    }
}

/// `N` bags of indices.
pub(super) struct Bags<const N: usize> {
    heads: Box<[u32; N]>,
    chunks: Vec<Chunk>,
    free: u32,
}

/// How many chunks so many indices in so many bags take at most.
const fn chunks_max(indices: usize, bags: usize) -> usize {
    indices / ITEMS + if indices < bags { indices } else { bags }
}

/// What the chunks for so many indices take at most, in bytes.
pub(super) fn worst_bytes(indices: usize, bags: usize) -> usize {
    crate::bytes::table_bytes(chunks_max(indices, bags), size_of::<Chunk>())
}

impl<const N: usize> Bags<N> {
    pub(super) fn new() -> Self {
        Self { heads: Box::new([NONE; N]), chunks: Vec::new(), free: NONE }
    }

    pub(super) fn is_empty(&self, bag: usize) -> bool {
        self.heads[bag] == NONE
    }

    /// Puts an index in; where it stands from now on.
    #[inline]
    pub(super) fn push(&mut self, bag: usize, index: u32) -> Place {
        let mut head = self.heads[bag];
        // [BAGS-1]
        if head == NONE || self.chunks[head as usize].len as usize == ITEMS {
            head = self.take_chunk(head);
            self.heads[bag] = head;
        }
        let chunk = &mut self.chunks[head as usize];
        let position = chunk.len;
        chunk.items[position as usize] = index;
        chunk.len += 1;
        Place::new(head, position)
    }

    /// Takes some index out of a bag.
    #[inline]
    pub(super) fn pop(&mut self, bag: usize) -> Option<u32> {
        let head = self.heads[bag];
        let chunk = self.chunks.get_mut(head as usize)?;
        chunk.len -= 1;
        let index = *chunk.items.get(chunk.len as usize)?;
        if chunk.len == 0 {
            self.heads[bag] = chunk.next;
            self.give_chunk(head);
        }
        Some(index)
    }

    /// Takes the index out that stands at this place; another may stand there from now on, and is returned.
    #[inline]
    pub(super) fn remove(&mut self, bag: usize, place: Place) -> Option<u32> {
        let last = self.pop(bag)?;
        let item = &mut self.chunks[place.chunk()].items[place.position()];
        if *item == last {
            return None;
        }
        *item = last;
        Some(last)
    }

    /// Takes everything out of a bag, for [`next_of`](Self::next_of).
    pub(super) fn empty(&mut self, bag: usize) -> Emptied {
        Emptied(std::mem::replace(&mut self.heads[bag], NONE))
    }

    /// The next chunk's indices of what was taken out of a bag.
    pub(super) fn next_of(&mut self, emptied: &mut Emptied) -> Option<impl Iterator<Item = u32> + use<N>> {
        let chunk = *self.chunks.get(emptied.0 as usize)?;
        self.give_chunk(std::mem::replace(&mut emptied.0, chunk.next));
        Some(chunk.items.into_iter().take(chunk.len as usize))
    }

    /// An empty chunk in front of `next`.
    fn take_chunk(&mut self, next: u32) -> u32 {
        let empty = Chunk { items: [NONE; ITEMS], len: 0, next };
        if let Some(chunk) = self.chunks.get_mut(self.free as usize) {
            let taken = std::mem::replace(&mut self.free, chunk.next);
            *chunk = empty;
            return taken;
        }
        let taken = self.chunks.len() as u32;
        assert!(taken < NONE >> POSITION_BITS, "more timers than places have bits");
        self.chunks.push(empty);
        taken
    }

    fn give_chunk(&mut self, chunk: u32) {
        self.chunks[chunk as usize].next = std::mem::replace(&mut self.free, chunk);
    }
}

/// The rest of what was in a bag; dropped before its end, it keeps its chunks from the others.
#[must_use]
pub(super) struct Emptied(u32);

#[cfg(all(test, not(anteroom_loom)))]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const BAGS: usize = 3;

    fn all(bags: &mut Bags<BAGS>, bag: usize) -> Vec<u32> {
        let mut emptied = bags.empty(bag);
        let mut found = Vec::new();
        while let Some(indices) = bags.next_of(&mut emptied) {
            found.extend(indices);
        }
        found.sort_unstable();
        found
    }

    proptest! {
        #[test]
        fn a_bag_holds_what_was_put_in_and_not_taken_out(
            steps in prop::collection::vec((0..5_u8, 0..BAGS, any::<usize>()), 1..400),
        ) {
            let mut bags = Bags::<BAGS>::new();
            // Where each index stands.
            let mut model: [BTreeMap<u32, Place>; BAGS] = Default::default();
            let mut most = 0;
            for (index, (step, bag, which)) in (0_u32..).zip(steps) {
                match step {
                    0..=2 => {
                        let place = bags.push(bag, index);
                        model[bag].insert(index, place);
                    }
                    3 => {
                        let Some((&taken, &place)) = model[bag].iter().nth(which % (model[bag].len() + 1)) else { continue };
                        model[bag].remove(&taken);
                        if let Some(moved) = bags.remove(bag, place) {
                            prop_assert!(model[bag].insert(moved, place).is_some(), "{moved} was there");
                        }
                    }
                    _ if which % 4 == 0 => {
                        let expected: Vec<u32> = std::mem::take(&mut model[bag]).into_keys().collect();
                        prop_assert_eq!(all(&mut bags, bag), expected);
                    }
                    _ => {
                        let popped = bags.pop(bag);
                        prop_assert_eq!(popped.is_none(), model[bag].is_empty());
                        if let Some(popped) = popped {
                            prop_assert!(model[bag].remove(&popped).is_some());
                        }
                    }
                }
                let indices = model.iter().map(BTreeMap::len).sum::<usize>();
                most = most.max(indices);
                prop_assert!(bags.chunks.len() <= chunks_max(most, BAGS), "{} chunks for {most}", bags.chunks.len());
                for (bag, model) in model.iter().enumerate() {
                    prop_assert_eq!(bags.is_empty(bag), model.is_empty());
                    for (&index, place) in model {
                        prop_assert_eq!(bags.chunks[place.chunk()].items[place.position()], index);
                    }
                }
            }
        }
    }
}
