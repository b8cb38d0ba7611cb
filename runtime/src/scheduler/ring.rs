//! The run queue of one worker, from which others steal.
//!
//! # Problem
//! A worker pushes and pops at every poll, and must not pay for thieves who almost never come. A thief must get its share at
//! once, since one item a theft is a theft a poll; and nobody may wait for a thread that the system has put aside.
//!
//! # Idea
//! A ring of words that hold pointers, and two counters that only grow. `tail` is how many were ever pushed, `head` how many
//! were ever taken; an index is such a number, and its slot is the number modulo the capacity.
//!
//! ```text
//!            head                    tail            head + capacity
//!   taken     |  oldest ... youngest  |     free     |  the slots of the taken ones again
//!             `- pop, take_half, steal: one compare-and-swap each
//!                                     `- push: one store, by the owner alone
//! ```
//!
//! Who takes reads the slots *first* and then moves `head` over them. It works because slots are atomic words: what is read
//! from a slot that others write to may be useless, but it is a value and not a race; and when it is useless, the
//! compare-and-swap fails. A thief copies straight into its own ring, behind its own tail where nobody looks, and publishes the
//! copies by one store when they are its own.
//!
//! | operation | by | locked instructions |
//! |---|---|---|
//! | `push` | the owner | 0 |
//! | `pop` | the owner | 1; none if empty; one more for each thief that took something in between |
//! | `take_half` | the owner | 1, for half of the capacity |
//! | `steal_into` | any other | 1 for the half of what there is; none if empty; at most [`STEAL_TRIES`] |
//! | `len`, `is_empty` | anyone | 0 |
//!
//! # Why a slot that was overwritten makes the compare-and-swap fail
//! Let a thief read `head` as `h`, and find in the slot of an index `i`, `h <= i`, what was pushed a lap later, at
//! `i + capacity`, or more laps. The owner pushed that only after it had read a `head` above `i`, or there would have been no room. `head`
//! only grows, so each of its values stands there once; a compare-and-swap that succeeds at `h` comes before every greater
//! value. Then the owner's read, which is Acquire, saw that swap, which is Release, or one that came after it and continues it;
//! so the thief's look at the slot came before the owner's store to it, and cannot have found it. So either the swap fails, or
//! the slot held the item of `i`.
//!
//! # Why no thief finds less than was pushed
//! Who reads a tail `t` by Acquire sees all the slots before it, since the owner stored it by Release; and with the slots what
//! they point to, as it was at the push. A thief hands both on, because its own tail is stored by Release too.
//!
//! # When indices wrap
//! After `usize::MAX + 1` items. The arithmetic does not notice: all of it is modulo that number, and a power of two divides it,
//! so the slots go on in turn. What would notice is a thief that stops between its look at `head` and its swap, while a
//! multiple of so many items goes by, to the very item: with 64 bits and a nanosecond an item that is 584 years. With 32 bits
//! and 10 ns an item it is 43 seconds, at whose end it would have to wake at one value of four thousand million: accepted.
//!
//! # Bounds
//! The capacity, which never changes. `push` at it gives the item back, and the owner takes the older half out, for a queue
//! that all share. [`STEAL_TRIES`] bounds a thief; what bounds the owner's `pop` is that each failed try is a theft of half.
//!
//! # Invariants
//! - [RING-1] What was pushed is given to one taker, once; and a taker gets the items of one ring in the order of their pushes.
//! - [RING-2] One thread at a time is the owner. It alone calls `push`, `pop` and `take_half`, passes the ring as `into`, and
//!   with that alone writes the tail and the slots. Who becomes the owner has seen what the one before did. Nothing here
//!   enforces it, and nothing here is unsafe: the ring never looks at what an item points to. Who breaks it loses items, or
//!   gets them twice.
//! - [RING-3] Who reads `head` and then `tail` finds a tail that is not behind that head, and what is between them is at most
//!   the capacity, unless that head has moved on.
//!
//! # Rejected
//! - A head of two parts, as tokio has: a thief first moves the one, which claims items, copies them at leisure, and then moves
//!   the other, which frees their slots. It must, where slots are plain memory, which may not be read before it is claimed.
//!   That is a second compare-and-swap a theft; and from the first to the second the slots are not free and other thieves
//!   find the door shut, however long the thief is put aside. Ours copies for nothing when it loses, which is cheaper.
//! - A deque after Chase and Lev: owner and thieves at opposite ends, so that they meet only at the last item. The owner's end
//!   is then a stack, in which a task that yields runs again at once while the oldest starve. And it is not cheaper: the
//!   owner's pop needs a full fence, which costs what our compare-and-swap does. And its one compare-and-swap is for one item:
//!   the owner takes all but the last without any, so a thief that claims half of them could meet it in the middle.
//! - The crate st3, in its FIFO form: bounded, and it steals in batches, but by claiming first, with the costs of a two-part
//!   head: a second thief is told that it is busy. Its items are any type, ours are pointers, which is what allows one step.
//! - crossbeam's deque: it grows, and every queue has a bound here; old buffers need epochs to be freed.
//! - A mutex: two locked instructions an operation, and a holder that is put aside stops its owner.
//! - A number in each slot, as bounded queues for many producers have. Our one producer needs none.
//! - A last item outside of the ring, that runs next and cannot be stolen, which makes two tasks that wake each other quick. It
//!   is the worker's matter, not the queue's.
//!
//! Go's run queue is closest to this one: its thief copies first, too.
//!
//! # Read next
//! `models/ring.rs`: what two and three threads can do to it.

#![forbid(unsafe_code)]

use std::ptr::{NonNull, null_mut};

use crate::sync::{AtomicUsize, Ordering, SlotPtr, seeded};

/// How often a thief tries. A try fails when the owner or another thief took something in between, so that work goes on all the
/// same; one that fails often has come to a place where there are hands enough.
pub(crate) const STEAL_TRIES: usize = 4;

/// A place of its own for a word that is written often: two lines, because processors fetch lines in pairs.
#[repr(align(128))]
pub(crate) struct Apart<T>(pub(crate) T);

/// Pointers in the order in which they were pushed, at most `capacity` of them.
///
/// It does not own what they point to: dropped with items in it, it forgets them.
pub(crate) struct Ring<X> {
    /// How many were ever taken. Whoever takes moves it, by a compare-and-swap.
    head: Apart<AtomicUsize>,
    /// How many were ever pushed. Only the owner writes it.
    tail: Apart<AtomicUsize>,
    /// Only the owner writes them, and only those between the tail and `head + capacity`.
    slots: Box<[SlotPtr<X>]>,
}

impl<X> Ring<X> {
    /// An empty ring.
    ///
    /// # Panics
    /// If `capacity` is not a power of two.
    pub(crate) fn new(capacity: usize) -> Self {
        Self::starting_at(capacity, 0)
    }

    /// An empty ring that says to have seen `index` items already; for tests of what happens when indices wrap.
    pub(crate) fn starting_at(capacity: usize, index: usize) -> Self {
        assert!(capacity.is_power_of_two(), "a ring of {capacity} slots: not a power of two");
        Self {
            head: Apart(AtomicUsize::new(index)),
            tail: Apart(AtomicUsize::new(index)),
            slots: (0..capacity).map(|_| SlotPtr::new(null_mut())).collect(),
        }
    }

    /// How many were ever taken, by anybody; it comes round.
    pub(crate) fn taken(&self) -> usize {
        // Ordering: Relaxed; a hint.
        self.head.0.load(Ordering::Relaxed)
    }

    /// How many items it holds at most.
    pub(crate) fn capacity(&self) -> usize {
        self.slots.len()
    }

    /// How many items it holds: to the owner at most so many, as long as it does not push; to others so many a moment ago.
    pub(crate) fn len(&self) -> usize {
        let (_, len) = self.look();
        // More is a head that has moved on since.
        len.min(self.capacity())
    }

    /// Whether it holds nothing: to the owner certain, when true; to others a hint.
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The owner adds `item` as the youngest, or has it back if the ring is full.
    #[inline]
    pub(crate) fn push(&self, item: NonNull<X>) -> Result<(), NonNull<X>> {
        let tail = self.own_tail();
        if self.room(tail) == 0 {
            return Err(item);
        }
        // Ordering: Relaxed; published by the tail.
        self.slot(tail).store(item.as_ptr(), Ordering::Relaxed);
        let order = if seeded("ring_push_relaxed") { Ordering::Relaxed } else { Ordering::Release };
        // Ordering: Release; pairs with the Acquire in `span`: who sees this tail sees the slot, and what the item points to.
        self.tail.0.store(tail.wrapping_add(1), order);
        Ok(())
    }

    /// The owner takes the oldest.
    #[inline]
    pub(crate) fn pop(&self) -> Option<NonNull<X>> {
        let tail = self.own_tail();
        // Ordering: Relaxed; one that is out of date fails in `take`, which tells the newer one.
        let mut head = self.head.0.load(Ordering::Relaxed);
        while head != tail {
            // Ordering: Relaxed; the owner itself wrote it.
            let item = self.slot(head).load(Ordering::Relaxed);
            let taken =
                if seeded("ring_pop_plain") { self.take_plainly(head, 1) } else { self.take(head, 1) };
            match taken {
                Ok(()) => return Some(held(item)),
                Err(now) => head = now,
            }
        }
        None
    }

    /// The owner takes the older half out, rounded up, and gives it to `each` in order. For when [`push`](Self::push) found the
    /// ring full: afterwards it finds room, also if this returned 0, which then means that a thief has made some.
    ///
    /// `each` must not panic, or what it has not been given is lost; and it must not push here, where that is not read yet.
    pub(crate) fn take_half(&self, mut each: impl FnMut(NonNull<X>)) -> usize {
        let tail = self.own_tail();
        // Ordering: as in `pop`.
        let head = self.head.0.load(Ordering::Relaxed);
        let count = half(tail.wrapping_sub(head));
        let taken = match count {
            0 => return 0,
            _ if seeded("ring_take_half_plain") => self.take_plainly(head, count),
            _ => self.take(head, count),
        };
        if taken.is_err() {
            return 0;
        }
        for nth in 0..count {
            // Ordering: Relaxed; the owner itself wrote it, and only the owner could overwrite it by now.
            each(held(self.slot(head.wrapping_add(nth)).load(Ordering::Relaxed)));
            debug_assert_eq!(self.own_tail(), tail, "pushed to a ring while half of it is taken out");
        }
        count
    }

    /// Another thread takes the older half, rounded up: the oldest is returned, the others are the youngest of `into`, which is
    /// its own ring, in the same order. If `into` has no room for so many, it takes fewer.
    ///
    /// None if there was nothing, or if [`STEAL_TRIES`] times someone else took something in between: a reason to look elsewhere,
    /// and no proof that the ring is empty.
    pub(crate) fn steal_into(&self, into: &Ring<X>) -> Option<NonNull<X>> {
        debug_assert!(!std::ptr::eq(self, into), "a worker steals from itself");
        let into_tail = into.own_tail();
        let count_max = into.room(into_tail).saturating_add(1);
        let (mut head, mut len) = self.look();
        for _ in 0..STEAL_TRIES {
            if len == 0 {
                return None;
            }
            if len > self.capacity() {
                // [RING-3]: the head has moved on, and a swap would fail.
                (head, len) = self.look();
                continue;
            }
            let count = half(len).min(count_max);
            let published = into_tail.wrapping_add(count - 1);
            let copy = || {
                for nth in 1..count {
                    // Ordering: Relaxed, both; `span` made what was pushed visible, and `take` tells whether it was still there.
                    // In `into` it is beyond the tail, where nobody looks.
                    let item = self.slot(head.wrapping_add(nth)).load(Ordering::Relaxed);
                    into.slot(into_tail.wrapping_add(nth - 1)).store(item, Ordering::Relaxed);
                }
                self.slot(head).load(Ordering::Relaxed)
            };
            let oldest = copy();
            if seeded("ring_steal_publishes_first") {
                into.tail.0.store(published, Ordering::Release);
            }
            match self.take(head, count) {
                Ok(()) => {
                    let oldest = if seeded("ring_steal_reads_late") { copy() } else { oldest };
                    let order =
                        if seeded("ring_steal_relaxed") { Ordering::Relaxed } else { Ordering::Release };
                    // Ordering: Release, as in `push`; it hands on what `span` acquired of the other owner.
                    into.tail.0.store(published, order);
                    return Some(held(oldest));
                }
                Err(now) => (head, len) = (now, self.span(now)),
            }
        }
        None
    }

    /// The tail, to the owner.
    #[inline]
    fn own_tail(&self) -> usize {
        // Ordering: Relaxed; [RING-2], nobody else writes it.
        self.tail.0.load(Ordering::Relaxed)
    }

    /// How many slots the owner, whose tail this is, may write to; it may write to them after this.
    #[inline]
    fn room(&self, tail: usize) -> usize {
        // Ordering: Acquire; pairs with the Release in `take`: whoever took an item has read its slot before it is overwritten.
        let head = self.head.0.load(Ordering::Acquire);
        self.capacity() - tail.wrapping_sub(head)
    }

    /// The head, and how many items there are from it on.
    fn look(&self) -> (usize, usize) {
        let order = if seeded("ring_look_relaxed") { Ordering::Relaxed } else { Ordering::Acquire };
        // Ordering: Acquire; pairs with the Release in `take`: [RING-3], who took has seen a tail beyond what it took, and so
        // does `span`.
        let head = self.head.0.load(order);
        (head, self.span(head))
    }

    /// How many items there are from `head` on; more than the capacity if it is not the head any more.
    fn span(&self, head: usize) -> usize {
        let order = if seeded("ring_span_relaxed") { Ordering::Relaxed } else { Ordering::Acquire };
        // Ordering: Acquire; pairs with the Release of `push` and `steal_into`, see the module's doc.
        self.tail.0.load(order).wrapping_sub(head)
    }

    /// Takes `count` items from `head` on; if `head` is not the head any more, takes nothing and tells what is.
    #[inline]
    fn take(&self, head: usize, count: usize) -> Result<(), usize> {
        let to = head.wrapping_add(count);
        // Ordering: Release; pairs with the Acquire in `room`, so that the slots were read before they are overwritten, and with
        // the one in `look`. A failure is a look: Acquire.
        match self.head.0.compare_exchange(head, to, Ordering::Release, Ordering::Acquire) {
            Ok(_) => Ok(()),
            Err(now) => Err(now),
        }
    }

    /// What a seeded bug does instead of [`take`](Self::take).
    fn take_plainly(&self, head: usize, count: usize) -> Result<(), usize> {
        self.head.0.store(head.wrapping_add(count), Ordering::Release);
        Ok(())
    }

    #[inline]
    fn slot(&self, index: usize) -> &SlotPtr<X> {
        &self.slots[index & (self.slots.len() - 1)]
    }
}

/// Half of `len`, rounded up, so that the last one is not left alone.
fn half(len: usize) -> usize {
    len - len / 2
}

/// What a slot held between head and tail.
#[inline]
fn held<X>(item: *mut X) -> NonNull<X> {
    NonNull::new(item).expect("each slot between head and tail was written")
}

#[cfg(all(test, not(anteroom_loom)))]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use proptest::prelude::*;

    use super::*;

    const ITEMS: usize = 100_000;
    static BYTES: [u8; ITEMS] = [0; ITEMS];

    /// An item is the address of a byte, whose place is its number.
    fn item(number: usize) -> NonNull<u8> {
        NonNull::from(&BYTES[number])
    }

    fn number(of: NonNull<u8>) -> usize {
        of.addr().get() - item(0).addr().get()
    }

    fn fill(ring: &Ring<u8>, numbers: std::ops::Range<usize>) {
        for number in numbers {
            assert_eq!(ring.push(item(number)), Ok(()));
        }
    }

    fn drain(ring: &Ring<u8>) -> Vec<usize> {
        std::iter::from_fn(|| ring.pop()).map(number).collect()
    }

    #[test]
    fn what_was_pushed_comes_out_oldest_first() {
        // [RING-1]
        let ring = Ring::new(8);
        fill(&ring, 0..5);
        assert_eq!((ring.len(), ring.is_empty()), (5, false));
        assert_eq!(drain(&ring), [0, 1, 2, 3, 4]);
        assert_eq!((ring.len(), ring.is_empty(), ring.pop()), (0, true, None));
    }

    #[test]
    fn a_full_ring_gives_the_item_back_and_has_room_after_half_was_taken() {
        for capacity in [1, 2, 4, 64] {
            let ring = Ring::new(capacity);
            fill(&ring, 0..capacity);
            assert_eq!(ring.capacity(), capacity);
            assert_eq!(ring.push(item(capacity)), Err(item(capacity)));
            assert_eq!(ring.len(), capacity);

            let mut taken = Vec::new();
            let count = ring.take_half(|item| taken.push(number(item)));
            assert_eq!(count, capacity.div_ceil(2));
            assert!(taken.iter().copied().eq(0..count), "the older half, in order: {taken:?}");
            assert_eq!(ring.push(item(capacity)), Ok(()));
            assert!(drain(&ring).into_iter().eq(count..=capacity));
        }
        assert_eq!(Ring::<u8>::new(2).take_half(|_| panic!("there is none")), 0);
    }

    #[test]
    fn a_thief_gets_the_older_half_rounded_up_in_order() {
        for len in 0..=8 {
            let (ring, own) = (Ring::new(8), Ring::new(8));
            fill(&ring, 0..len);
            let count = len.div_ceil(2);
            assert_eq!(ring.steal_into(&own).map(number), (len > 0).then_some(0));
            assert_eq!((ring.len(), own.len()), (len - count, count.saturating_sub(1)));
            assert!(drain(&own).into_iter().eq(1..count.max(1)));
            assert!(drain(&ring).into_iter().eq(count..len));
        }
    }

    #[test]
    fn a_thief_takes_no_more_than_it_has_room_for() {
        let (ring, own) = (Ring::new(8), Ring::new(2));
        fill(&ring, 0..8);
        fill(&own, 10..11);
        assert_eq!(ring.steal_into(&own), Some(item(0)));
        assert_eq!(ring.steal_into(&own), Some(item(2)), "a full ring, and one to be run at once");
        assert_eq!(drain(&own), [10, 1]);
        assert_eq!(drain(&ring), [3, 4, 5, 6, 7]);
    }

    #[test]
    #[should_panic(expected = "not a power of two")]
    fn a_capacity_is_a_power_of_two() {
        Ring::<u8>::new(3);
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "pushed to a ring while half of it is taken out")]
    fn nothing_is_pushed_while_half_is_taken() {
        let ring = Ring::new(4);
        fill(&ring, 0..4);
        ring.take_half(|item| assert_eq!(ring.push(item), Ok(())));
    }

    #[test]
    fn head_and_tail_are_on_lines_of_their_own() {
        let ring = Ring::<u8>::new(2);
        let lines = [
            (&raw const ring.head).addr() / 128,
            (&raw const ring.tail).addr() / 128,
            (&raw const ring.slots).addr() / 128,
        ];
        assert!(lines[0] != lines[1] && lines[1] != lines[2] && lines[0] != lines[2], "{lines:?}");
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Push(usize),
        Pop(usize),
        TakeHalf(usize),
        Steal { from: usize },
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            6 => (0..2_usize).prop_map(Step::Push),
            3 => (0..2_usize).prop_map(Step::Pop),
            1 => (0..2_usize).prop_map(Step::TakeHalf),
            1 => (0..2_usize).prop_map(|from| Step::Steal { from }),
        ];
        prop::collection::vec(step, 0..200)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        /// [RING-1]: two rings and two deques, wherever their indices stand, and wherever these wrap.
        #[test]
        fn rings_do_what_deques_would(
            steps in steps(),
            capacities in [0..6_u32, 0..6],
            before_wrap in [0..100_usize, 0..100],
        ) {
            let capacities = capacities.map(|log| 1_usize << log);
            let rings = [0, 1].map(|at| Ring::starting_at(capacities[at], before_wrap[at].wrapping_neg()));
            let mut deques = [VecDeque::new(), VecDeque::new()];
            for (next, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Push(at) => {
                        let is_full = deques[at].len() == capacities[at];
                        prop_assert_eq!(rings[at].push(item(next)).is_err(), is_full);
                        if !is_full {
                            deques[at].push_back(next);
                        }
                    }
                    Step::Pop(at) => prop_assert_eq!(rings[at].pop().map(number), deques[at].pop_front()),
                    Step::TakeHalf(at) => {
                        let mut taken = Vec::new();
                        let count = rings[at].take_half(|item| taken.push(number(item)));
                        let half = deques[at].len().div_ceil(2);
                        prop_assert_eq!(count, half);
                        prop_assert_eq!(taken, deques[at].drain(..half).collect::<Vec<_>>());
                    }
                    Step::Steal { from } => {
                        let to = 1 - from;
                        let room = capacities[to] - deques[to].len();
                        let count = deques[from].len().div_ceil(2).min(room + 1);
                        let mut stolen: VecDeque<_> = deques[from].drain(..count).collect();
                        let oldest = stolen.pop_front();
                        deques[to].append(&mut stolen);
                        prop_assert_eq!(rings[from].steal_into(&rings[to]).map(number), oldest);
                    }
                }
                for at in 0..2 {
                    prop_assert_eq!(rings[at].len(), deques[at].len());
                    prop_assert_eq!(rings[at].is_empty(), deques[at].is_empty());
                }
            }
            for at in 0..2 {
                prop_assert_eq!(drain(&rings[at]), Vec::from(std::mem::take(&mut deques[at])));
            }
        }
    }

    /// What threads have taken, and what they see of what was written before the push.
    struct Taken {
        written: Vec<AtomicUsize>,
        times: Vec<AtomicUsize>,
    }

    impl Taken {
        fn new() -> Self {
            let zeros = || (0..ITEMS).map(|_| AtomicUsize::new(0)).collect();
            Self { written: zeros(), times: zeros() }
        }

        /// Relaxed, so that only the ring orders it.
        fn write(&self, number: usize) {
            self.written[number].store(number + 1, Ordering::Relaxed);
        }

        fn take(&self, item: NonNull<u8>) -> usize {
            let number = number(item);
            assert_eq!(self.written[number].load(Ordering::Relaxed), number + 1);
            self.times[number].fetch_add(1, Ordering::Relaxed);
            number
        }

        fn assert_each_once(&self) {
            for (number, times) in self.times.iter().enumerate() {
                assert_eq!(times.load(Ordering::Relaxed), 1, "how often {number} was taken");
            }
        }
    }

    /// Fails unless called with ever greater numbers.
    fn in_order(last: &mut Option<usize>, number: usize) {
        assert!(last.is_none_or(|last| last < number), "{number} after {last:?}");
        *last = Some(number);
    }

    /// Ends the others when its thread has nothing more to push, also by a panic.
    struct Over<'a>(&'a AtomicBool);

    impl Drop for Over<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Release);
        }
    }

    #[test]
    fn an_owner_and_two_thieves_take_each_item_once_and_in_order() {
        // [RING-1]. The indices wrap on the way.
        for capacity in [2, 16, 256] {
            let ring = Ring::starting_at(capacity, (ITEMS / 2).wrapping_neg());
            let (taken, over) = (Taken::new(), AtomicBool::new(false));
            let injector = Mutex::new(VecDeque::new());
            std::thread::scope(|scope| {
                let _over = Over(&over);
                for _ in 0..2 {
                    scope.spawn(|| {
                        let (own, mut last) = (Ring::new(capacity), None);
                        loop {
                            // Before the theft: what is not there afterwards was taken, since nothing is pushed any more.
                            let is_over = over.load(Ordering::Acquire);
                            match ring.steal_into(&own) {
                                Some(first) => {
                                    in_order(&mut last, taken.take(first));
                                    while let Some(item) = own.pop() {
                                        in_order(&mut last, taken.take(item));
                                    }
                                }
                                None if is_over => break,
                                None => std::thread::yield_now(),
                            }
                        }
                    });
                }
                let mut last = None;
                for number in 0..ITEMS {
                    taken.write(number);
                    if let Err(item) = ring.push(item(number)) {
                        ring.take_half(|item| injector.lock().unwrap().push_back(item));
                        ring.push(item).expect("there is room when half was taken, or when it was not");
                    }
                    if number % 3 == 0 {
                        if let Some(item) = ring.pop() {
                            in_order(&mut last, taken.take(item));
                        }
                    }
                }
                while let Some(item) = ring.pop() {
                    in_order(&mut last, taken.take(item));
                }
            });
            let mut last = None;
            for item in injector.into_inner().unwrap() {
                in_order(&mut last, taken.take(item));
            }
            taken.assert_each_once();
        }
    }

    #[test]
    fn workers_that_steal_from_each_other_take_each_item_once() {
        // [RING-1]: what was stolen is stolen again. The first worker has all the work, and lets the others take most of it.
        let rings = [(); 3].map(|()| Ring::new(32));
        let (taken, over) = (Taken::new(), AtomicBool::new(false));
        std::thread::scope(|scope| {
            for me in 1..3 {
                let (rings, taken, over) = (&rings, &taken, &over);
                scope.spawn(move || {
                    loop {
                        let is_over = over.load(Ordering::Acquire);
                        let found = [me + 1, me + 2].map(|other| rings[other % 3].steal_into(&rings[me]));
                        let own = rings[me].pop();
                        for &item in found.iter().chain([&own]).flatten() {
                            taken.take(item);
                        }
                        match own.is_none() && found == [None, None] {
                            true if is_over => break,
                            true => std::thread::yield_now(),
                            false => {}
                        }
                    }
                });
            }
            let _over = Over(&over);
            for number in 0..ITEMS {
                taken.write(number);
                while rings[0].push(item(number)).is_err() {
                    std::thread::yield_now();
                    if let Some(item) = rings[0].pop() {
                        taken.take(item);
                    }
                }
            }
            while let Some(item) = rings[0].pop() {
                taken.take(item);
            }
        });
        taken.assert_each_once();
    }
}
