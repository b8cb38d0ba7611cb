//! The budget of memory, explored by loom: nobody is left waiting, whoever gives back, gives up or comes meanwhile.
//!
//! With `ANTEROOM_BUG=memory_leaves_without_a_look` (who gives up does not look after those behind) and
//! `memory_gives_back_without_a_look` (nor does who gives back) a model must fail.

use super::*;
use crate::{MemoryBudget, MemoryPermit};

const KIB: u64 = 1_024;

/// A budget takes many steps: two preemptions, not three, keep each model within seconds.
fn two_preemptions(f: impl Fn() + Sync + Send + 'static) {
    explore(f, |_| Some(2));
}

/// Of 64 KiB, of which 51 are promised, measured as this: none, or more than may be.
fn budget(used: Option<u64>) -> MemoryBudget {
    MemoryBudget::with_gauge(64 * KIB, move || used)
}

/// Waits for a permit, and asserts that waiting is not spinning.
fn acquire(budget: &MemoryBudget, bytes: u64) -> MemoryPermit {
    let mut acquire = budget.acquire(bytes);
    let waker = unparker();
    for _ in 0..4 {
        match Pin::new(&mut acquire).poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(permit) => return permit.unwrap(),
            Poll::Pending => thread::park(),
        }
    }
    panic!("it is woken for nothing");
}

#[track_caller]
fn assert_whole(budget: &MemoryBudget) {
    assert_eq!((budget.in_use(), budget.waiting()), (0, 0));
    assert!(budget.try_acquire(8 * KIB).is_ok());
}

fn give_back_and_come(used: Option<u64>) {
    let budget = budget(used);
    let first = budget.try_acquire(48 * KIB).unwrap();
    let holder = thread::spawn(move || drop(first));
    drop(acquire(&budget, 48 * KIB));
    holder.join().unwrap();
    assert_whole(&budget);
}

/// [MEMORY-3]: there is room for one.
#[test]
fn loom_memory_who_waits_is_let_in_when_the_last_gives_back() {
    two_preemptions(|| give_back_and_come(None));
}

/// [MEMORY-3]: all is measured to be full, so that each runs alone.
#[test]
fn loom_memory_who_waits_is_let_in_alone_when_all_is_full() {
    two_preemptions(|| give_back_and_come(Some(63 * KIB)));
}

/// [MEMORY-3]: the head gives up, granted or not, and the one behind it has nobody else to look.
#[test]
fn loom_memory_who_stands_behind_one_that_gives_up_is_let_in() {
    two_preemptions(|| {
        let budget = budget(Some(63 * KIB));
        let first = budget.try_acquire(8 * KIB).unwrap();
        let mut head = budget.acquire(8 * KIB);
        assert!(poll_once(&mut head).is_pending());
        let next = thread::spawn({
            let budget = budget.clone();
            move || drop(acquire(&budget, 8 * KIB))
        });
        drop(first);
        drop(head);
        next.join().unwrap();
        assert_whole(&budget);
    });
}

/// [MEMORY-2]: charged and settled while others come, what is in use is what is held.
#[test]
fn loom_memory_what_is_settled_meets_who_comes() {
    two_preemptions(|| {
        let budget = budget(None);
        let mut first = budget.try_acquire(48 * KIB).unwrap();
        let other = thread::spawn({
            let budget = budget.clone();
            move || drop(acquire(&budget, 16 * KIB))
        });
        first.settle(8 * KIB);
        other.join().unwrap();
        assert_eq!(budget.in_use(), 8 * KIB);
        drop(first);
        assert_whole(&budget);
    });
}
