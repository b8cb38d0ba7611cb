//! Loom models of a run queue from which other threads steal.
//!
//! With `ANTEROOM_BUG=...` a model must fail for each of: `ring_push_relaxed` (a push that publishes nothing but the number),
//! `ring_pop_plain` and `ring_take_half_plain` (an owner that moves the head without a compare-and-swap),
//! `ring_steal_publishes_first` (a thief whose copies are seen before they are its own), `ring_steal_reads_late` (a thief that
//! reads the slots when the owner may write them again), `ring_steal_relaxed` (one that does not hand on what it acquired),
//! `ring_span_relaxed` (one that does not acquire it), `ring_look_relaxed` (a tail that is behind the head).
//!
//! # What is not checked
//! Loom has a load see older values, and never one that is stored later. So no model fails without the Acquire in `Ring::room`,
//! by which a thief's look at a slot comes before the owner's next store to it. The doc of `scheduler/ring.rs` argues it, and
//! `ring_steal_reads_late` shows what would come of it.

use std::ptr::NonNull;

use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

use super::model;
use crate::scheduler::ring::Ring;

/// Three threads, or two that take many steps: at most four preemptions.
fn model_of_many(f: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(4);
    builder.check(f);
}

/// How many items a model has at most.
const ITEMS: usize = 5;

/// A ring, and its items: what the pusher wrote for the taker, with no more order than the ring gives it.
struct Table {
    ring: Ring<AtomicUsize>,
    items: [AtomicUsize; ITEMS],
}

impl Table {
    /// A ring whose indices stand `before_wrap` before they wrap, and the items of `numbers` in it.
    fn new(capacity: usize, before_wrap: usize, numbers: std::ops::Range<usize>) -> Arc<Self> {
        let table = Arc::new(Self {
            ring: Ring::starting_at(capacity, before_wrap.wrapping_neg()),
            items: std::array::from_fn(|_| AtomicUsize::new(0)),
        });
        for number in numbers {
            assert!(table.push(number));
        }
        table
    }

    /// The owner pushes this number, or is told that the ring is full.
    fn push(&self, number: usize) -> bool {
        let item = &self.items[number];
        item.store(number + 1, Ordering::Relaxed);
        let pushed = self.ring.push(NonNull::from(item));
        if let Err(back) = pushed {
            assert_eq!(back, NonNull::from(item));
        }
        pushed.is_ok()
    }

    fn number(&self, item: NonNull<AtomicUsize>) -> usize {
        let number = self.items.iter().position(|of| NonNull::from(of) == item).expect("one of these");
        assert_eq!(self.items[number].load(Ordering::Relaxed), number + 1, "its data came with it");
        number
    }

    fn pop(&self) -> Option<usize> {
        self.ring.pop().map(|item| self.number(item))
    }

    /// What one theft brings, in order, and that nothing else is in the thief's ring.
    fn steal(&self) -> Vec<usize> {
        self.steal_by(&Ring::new(self.ring.capacity()))
    }

    /// The same by a thief that has been at it before.
    fn steal_by(&self, own: &Ring<AtomicUsize>) -> Vec<usize> {
        let first = self.ring.steal_into(own);
        let others = std::iter::from_fn(|| own.pop());
        first.into_iter().chain(others).map(|item| self.number(item)).collect()
    }

    /// Everything that is left.
    fn drain(&self) -> Vec<usize> {
        std::iter::from_fn(|| self.pop()).collect()
    }
}

/// Each in order, and all of them together each of `0..count` once.
#[track_caller]
fn assert_each_once<const N: usize>(taken: [Vec<usize>; N], count: usize) {
    for by_one in &taken {
        assert!(by_one.is_sorted_by(|one, next| one < next), "not in order: {taken:?}");
    }
    let mut all = taken.concat();
    all.sort_unstable();
    assert!(all.into_iter().eq(0..count), "not each of {count} once: {taken:?}");
}

#[test]
fn loom_pop_against_a_theft() {
    // [RING-1]
    for count in 1..=4 {
        model(move || {
            let table = Table::new(4, 0, 0..count);
            let thief = thread::spawn({
                let table = table.clone();
                move || table.steal()
            });
            let popped = table.drain();
            assert_each_once([popped, thief.join().unwrap()], count);
        });
    }
}

#[test]
fn loom_push_and_pop_against_thefts() {
    // [RING-1]: what is pushed while the thief looks, it sees with its data or not at all.
    model_of_many(|| {
        let table = Table::new(4, 0, 0..0);
        let thief = thread::spawn({
            let table = table.clone();
            move || {
                let own = Ring::new(4);
                [table.steal_by(&own), table.steal_by(&own)].concat()
            }
        });
        assert!(table.push(0) && table.push(1));
        let mut popped: Vec<_> = table.pop().into_iter().collect();
        assert!(table.push(2));
        popped.extend(table.drain());
        assert_each_once([popped, thief.join().unwrap()], 3);
    });
}

#[test]
fn loom_a_theft_that_lost_once_tries_again() {
    // The owner takes one of three, whenever it does: there is something for the thief.
    model(|| {
        let table = Table::new(4, 0, 0..3);
        let thief = thread::spawn({
            let table = table.clone();
            move || assert!(!table.steal().is_empty(), "it gave up")
        });
        assert!(table.pop().is_some());
        thief.join().unwrap();
    });
}

#[test]
fn loom_a_full_ring_has_room_after_half_was_taken_or_stolen() {
    // [RING-1]
    model(|| {
        let table = Table::new(2, 1, 0..2);
        let thief = thread::spawn({
            let table = table.clone();
            move || table.steal()
        });
        let mut taken = Vec::new();
        if !table.push(2) {
            let count = table.ring.take_half(|item| taken.push(table.number(item)));
            assert_eq!(count, taken.len());
            assert!(table.push(2), "full after {count} were taken");
        }
        taken.extend(table.drain());
        assert_each_once([taken, thief.join().unwrap()], 3);
    });
}

#[test]
fn loom_half_is_taken_against_a_theft() {
    // [RING-1]: both want the same half.
    model(|| {
        let table = Table::new(4, 0, 0..4);
        let thief = thread::spawn({
            let table = table.clone();
            move || table.steal()
        });
        let mut taken = Vec::new();
        table.ring.take_half(|item| taken.push(table.number(item)));
        assert!(table.push(4));
        taken.extend(table.drain());
        assert_each_once([taken, thief.join().unwrap()], 5);
    });
}

#[test]
fn loom_two_thieves_against_an_owner_who_pushes_and_pops() {
    // [RING-1]
    model_of_many(|| {
        let table = Table::new(4, 2, 0..3);
        let thieves = [(); 2].map(|()| {
            let table = table.clone();
            thread::spawn(move || table.steal())
        });
        assert!(table.push(3));
        let mut popped: Vec<_> = table.pop().into_iter().collect();
        let [one, other] = thieves.map(|thief| thief.join().unwrap());
        popped.extend(table.drain());
        assert_each_once([popped, one, other], 4);
    });
}

#[test]
fn loom_a_theft_while_the_slots_are_used_again() {
    // [RING-1], in the smallest ring that a theft can share: each slot has a second item while the thief may look at its first.
    // The indices wrap on the way.
    model_of_many(|| {
        let table = Table::new(2, 3, 0..2);
        let thief = thread::spawn({
            let table = table.clone();
            move || table.steal()
        });
        let mut popped = Vec::new();
        for next in 2..4 {
            popped.extend(table.pop());
            assert!(table.push(next), "one was taken");
        }
        popped.extend(table.drain());
        assert_each_once([popped, thief.join().unwrap()], 4);
    });
}

#[test]
fn loom_a_theft_of_two_while_the_slots_are_used_again() {
    // The same where the thief copies into its own ring.
    model_of_many(|| {
        let table = Table::new(4, 1, 0..4);
        let thief = thread::spawn({
            let table = table.clone();
            move || table.steal()
        });
        let mut popped: Vec<_> = table.pop().into_iter().collect();
        assert!(table.push(4));
        popped.extend(table.drain());
        assert_each_once([popped, thief.join().unwrap()], 5);
    });
}

#[test]
fn loom_what_was_stolen_is_stolen_again() {
    // [RING-1]: from the thief's ring, with the data that a third thread wrote; and nothing that it has copied and lost.
    model_of_many(|| {
        let table = Table::new(4, 0, 0..0);
        let own = Arc::new(Ring::new(4));
        let thief = thread::spawn({
            let (table, own) = (table.clone(), own.clone());
            move || table.steal_by(&own)
        });
        let second = thread::spawn({
            let table = table.clone();
            move || {
                let last = Ring::new(4);
                let first = own.steal_into(&last);
                assert!(last.is_empty(), "there was one, or none");
                first.into_iter().map(|item| table.number(item)).collect()
            }
        });
        for number in 0..3 {
            assert!(table.push(number));
        }
        let popped = table.pop().into_iter().collect();
        let taken = [popped, thief.join().unwrap(), second.join().unwrap(), table.drain()];
        assert_each_once(taken, 3);
    });
}

#[test]
fn loom_a_tail_is_not_behind_the_head() {
    // [RING-3]
    model(|| {
        let table = Table::new(4, 0, 0..0);
        let other = thread::spawn({
            let table = table.clone();
            move || assert!(table.ring.len() <= 2, "there were never more")
        });
        assert!(table.push(0) && table.push(1));
        assert_eq!(table.drain(), [0, 1]);
        assert!(table.ring.is_empty());
        other.join().unwrap();
    });
}
