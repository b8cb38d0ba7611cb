//! A warm semaphore allocates nothing, neither with room nor in the queue.

mod common;
mod counting;

use std::sync::Arc;
use std::task::Poll;

use anteroom_limiter::Semaphore;
use common::poll_once;
use counting::allocations;

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
