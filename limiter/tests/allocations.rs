//! A warm semaphore allocates nothing, neither with room nor in the queue.

#![allow(clippy::disallowed_types, reason = "a test of the public API has no other atomics")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::Poll;

use anteroom_limiter::Semaphore;
use common::poll_once;

/// The system's allocator, counting. This file has one test only, so nobody else's allocations are counted.
struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator unchanged, which keeps the contract.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed); // a statistic
        // SAFETY: the caller keeps the contract of `alloc`, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer is from `alloc` above, so from the system's, with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How many allocations `f` makes.
fn allocations(f: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.load(Relaxed);
    f();
    ALLOCATIONS.load(Relaxed) - before
}

#[test]
fn a_warm_semaphore_allocates_nothing() {
    let semaphore = Arc::new(Semaphore::new(2));
    let uncontended = || {
        drop(semaphore.try_acquire().unwrap());
        let Poll::Ready(Ok(permit)) = poll_once(&mut semaphore.acquire_owned()) else {
            panic!("there is room")
        };
        drop(permit);
    };
    assert_eq!(allocations(uncontended), 0, "not even when it is cold");

    let queued = || {
        let both = semaphore.try_acquire_many(2).unwrap();
        let mut waiters: [_; 10] = std::array::from_fn(|_| semaphore.acquire());
        assert!(waiters.iter_mut().all(|waiter| poll_once(waiter).is_pending()));
        drop(both);
        // Two are granted and dropped unpolled, and so on: a grant, a cancellation and a release for each.
        drop(waiters);
        assert_eq!(semaphore.in_use(), 0);
    };
    assert!(allocations(queued) > 0, "the counter counts");
    assert_eq!(allocations(|| (0..1_000).for_each(|_| queued())), 0);
    semaphore.trim();
    assert!(allocations(queued) > 0, "trim gave the memory back");
}
