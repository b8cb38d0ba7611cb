//! Several semaphores at once: opposite orders never deadlock, and wherever a request ends, all goes back.

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::task::{Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use anteroom_limiter::{AcquireError, All, AllAcquire, Permit, Semaphore, TryAcquireError};
use common::{block_on, poll_once, poll_with};

fn semaphores<const N: usize>(limit: usize) -> [Semaphore; N] {
    [(); N].map(|()| Semaphore::new(limit))
}

fn in_use(semaphores: &[Semaphore]) -> Vec<usize> {
    semaphores.iter().map(Semaphore::in_use).collect()
}

#[track_caller]
fn assert_idle(semaphores: &[Semaphore]) {
    for semaphore in semaphores {
        let snapshot = semaphore.snapshot();
        assert_eq!((snapshot.in_use, snapshot.waiting), (0, 0));
        let all = semaphore.try_acquire_many(semaphore.limit());
        assert!(all.is_ok() || snapshot.closed, "and the fast path is open");
    }
}

/// [ALL-1]: at limit 1, with threads that name them in opposite orders and in circles, 100,000 times each.
#[test]
fn opposite_orders_never_deadlock() {
    const ROUNDS: usize = 100_000;
    let [a, b, c] = &semaphores(1);
    let (done, is_done) = mpsc::channel::<()>();
    thread::scope(|scope| {
        // A deadlock would be a test that never ends.
        scope.spawn(move || {
            if is_done.recv_timeout(Duration::from_secs(300)) == Err(RecvTimeoutError::Timeout) {
                eprintln!("opposite orders deadlock");
                std::process::abort();
            }
        });
        thread::scope(|scope| {
            scope.spawn(|| (0..ROUNDS).for_each(|_| drop(block_on(All((a, b)).acquire()).unwrap())));
            scope.spawn(|| (0..ROUNDS).for_each(|_| drop(block_on(All((b, a)).acquire()).unwrap())));
            scope.spawn(|| (0..ROUNDS).for_each(|_| drop(block_on(All((b, c)).acquire()).unwrap())));
            scope.spawn(|| (0..ROUNDS).for_each(|_| drop(block_on(All((c, a)).acquire()).unwrap())));
        });
        drop(done);
    });
    for semaphore in [a, b, c] {
        assert_idle(std::slice::from_ref(semaphore));
    }
}

/// [ALL-1]: the canary of the test above. Written down one after the other, the same two orders stop for ever.
#[test]
fn the_same_orders_by_hand_deadlock() {
    let [a, b] = &semaphores(1);
    let one = async { Ok::<_, AcquireError>((a.acquire().await?, b.acquire().await?)) };
    let other = async { Ok::<_, AcquireError>((b.acquire().await?, a.acquire().await?)) };
    let (_a, _b) = (a.try_acquire().unwrap(), b.try_acquire().unwrap());
    let (mut one, mut other) = (Box::pin(one), Box::pin(other));
    assert!(poll_once(&mut one).is_pending() && poll_once(&mut other).is_pending());
    drop((_a, _b));
    for _ in 0..10 {
        assert!(poll_once(&mut one).is_pending() && poll_once(&mut other).is_pending());
    }
    // And in one request each, they do not.
    drop((one, other));
    let (held_a, held_b) = (a.try_acquire().unwrap(), b.try_acquire().unwrap());
    let (mut one, mut other) = (All((a, b)).acquire(), All((b, a)).acquire());
    assert!(poll_once(&mut one).is_pending() && poll_once(&mut other).is_pending());
    drop((held_a, held_b));
    assert!(poll_once(&mut one).is_ready()); // and given back
    assert!(poll_once(&mut other).is_ready());
}

/// [ALL-1]: whatever the order in which they are written, the same one is waited for, and the same ones are held.
#[test]
fn what_is_held_while_waiting_is_what_comes_before_in_the_one_order() {
    let semaphores: [Semaphore; 4] = semaphores(1);
    let [a, b, c, d] = &semaphores; // in an array, addresses rise
    let orders: [fn(&[Semaphore; 4]) -> AllAcquire<'_>; 4] = [
        |[a, b, c, d]| All((a, b, c, d)).acquire(),
        |[a, b, c, d]| All((d, c, b, a)).acquire(),
        |[a, b, c, d]| All((c, a, d, b)).acquire(),
        |[a, b, c, d]| All(((b, 1), (d, 1), a, c)).acquire(),
    ];
    for order in orders {
        for (full, expected) in [(a, [1, 0, 0, 0]), (b, [1, 1, 0, 0]), (c, [1, 1, 1, 0]), (d, [1, 1, 1, 1])] {
            let held = full.try_acquire().unwrap();
            let mut all = order(&semaphores);
            assert!(poll_once(&mut all).is_pending());
            assert_eq!((in_use(&semaphores), full.waiting()), (expected.to_vec(), 1));
            drop(held);
            let Poll::Ready(Ok(permit)) = poll_once(&mut all) else { panic!("all are free") };
            assert_eq!(in_use(&semaphores), [1; 4]);
            drop(permit);
            assert_idle(&semaphores);
        }
    }
}

/// [ALL-2]
#[test]
fn the_same_one_twice_is_asked_for_the_sum() {
    let semaphores: [Semaphore; 2] = semaphores(3);
    let [a, b] = &semaphores;
    let three = All((a, b, (a, 2))).try_acquire().unwrap();
    assert_eq!(in_use(&semaphores), [3, 1]);
    drop(three);
    assert_eq!(All((a, (a, 3))).try_acquire().unwrap_err(), TryAcquireError::ExceedsLimit);
    assert_eq!(block_on(All((a, (a, 3), b)).acquire()).unwrap_err(), AcquireError::ExceedsLimit);
    for more in [2, usize::MAX] {
        let too_much = All(((a, usize::MAX), (a, more))); // and the sum does not wrap
        assert_eq!(too_much.try_acquire().unwrap_err(), TryAcquireError::ExceedsLimit);
    }
    // It waits once, for all of it, and not for itself.
    let one = a.try_acquire().unwrap();
    let mut twice = All(((a, 2), (a, 1))).acquire();
    assert!(poll_once(&mut twice).is_pending());
    assert_eq!((a.in_use(), a.waiting()), (1, 1));
    drop(one);
    assert!(poll_once(&mut twice).is_ready());
    assert_idle(&semaphores);
}

#[test]
fn a_weight_of_zero_takes_nothing_and_waits_for_nobody() {
    let [a, b] = &semaphores(1);
    let _held = a.try_acquire().unwrap();
    let permit = block_on(All(((a, 0), b)).acquire()).unwrap();
    assert_eq!((a.in_use(), b.in_use()), (1, 1));
    drop(permit);
}

/// [ALL-3]: every point at which it may be dropped, with every combination of which are full and which weights are asked; each
/// time, somebody behind it in each queue is served.
#[test]
fn dropped_at_any_point_it_gives_all_back() {
    let mut points = 0;
    for full in 0_u32..1 << 3 {
        for weight in [1, 2] {
            for polls in 0..=full.count_ones() as usize + 1 {
                for told in [false, true] {
                    points += 1;
                    let semaphores: [Semaphore; 3] = semaphores(2);
                    let [a, b, c] = &semaphores;
                    let mut held: Vec<Option<Permit<&Semaphore>>> = semaphores
                        .iter()
                        .enumerate()
                        .map(|(at, it)| (full & 1 << at != 0).then(|| it.try_acquire_many(2).unwrap()))
                        .collect();
                    let mut all = All(((c, weight), (a, weight), (b, weight))).acquire();
                    let mut done = None;
                    let mut behind = Vec::new();
                    for poll in 0..polls {
                        if let Poll::Ready(result) = poll_once(&mut all) {
                            done = Some(result.unwrap());
                            break;
                        }
                        // It waits for the first that is full. Somebody stands behind it, and then that one is free:
                        // granted to it, and it is told by the next poll, or never.
                        let first = held.iter().position(Option::is_some).expect("it waits for something");
                        assert_eq!(semaphores[first].waiting(), 1);
                        let mut next = semaphores[first].acquire_many(2);
                        assert!(poll_once(&mut next).is_pending());
                        behind.push(next);
                        if told || poll + 1 < polls {
                            held[first] = None;
                        }
                    }
                    assert_eq!(done.is_some(), polls == full.count_ones() as usize + 1);
                    drop((all, done));
                    drop(held);
                    for mut next in behind {
                        assert!(
                            matches!(poll_once(&mut next), Poll::Ready(Ok(_))),
                            "{full:b} {polls} {told}"
                        );
                    }
                    assert_idle(&semaphores);
                }
            }
        }
    }
    assert!(points > 64, "{points}");
}

#[test]
fn try_acquire_takes_all_or_none() {
    let semaphores: [Semaphore; 4] = semaphores(1);
    let [a, b, c, d] = &semaphores;
    for (at, full) in semaphores.iter().enumerate() {
        let held = full.try_acquire().unwrap();
        assert_eq!(All((d, b, a, c)).try_acquire().unwrap_err(), TryAcquireError::NoPermits);
        let mut expected = vec![0; 4];
        expected[at] = 1;
        assert_eq!(in_use(&semaphores), expected);
        drop(held);
    }
    let all = All((a, b, c, d)).try_acquire().unwrap();
    assert_eq!(in_use(&semaphores), [1; 4]);
    drop(all);
    c.close();
    assert_eq!(All((a, b, c)).try_acquire().unwrap_err(), TryAcquireError::Closed);
    assert_eq!(in_use(&semaphores), [0; 4]);
}

/// Nothing is held while it waits for what will never come.
#[test]
fn what_can_never_be_served_is_refused_before_anything_is_taken() {
    let semaphores: [Semaphore; 2] = semaphores(2);
    let [a, b] = &semaphores;
    let _full = a.try_acquire_many(2).unwrap();
    let mut too_much = All((a, (b, 3))).acquire();
    assert!(matches!(poll_once(&mut too_much), Poll::Ready(Err(AcquireError::ExceedsLimit))));
    b.close();
    let mut closed = All((a, b)).acquire();
    assert!(matches!(poll_once(&mut closed), Poll::Ready(Err(AcquireError::Closed))));
    assert_eq!(a.waiting(), 0);
}

#[test]
fn what_is_closed_while_it_waits_gives_all_back() {
    let semaphores: [Semaphore; 2] = semaphores(1);
    let [a, b] = &semaphores;
    // The one it waits for.
    let held = b.try_acquire().unwrap();
    let mut both = All((a, b)).acquire();
    assert!(poll_once(&mut both).is_pending());
    b.close();
    assert!(matches!(poll_once(&mut both), Poll::Ready(Err(AcquireError::Closed))));
    assert_eq!(in_use(&semaphores), [0, 1]);
    drop(held);
    // One that it would come to: found when it comes to it.
    let semaphores: [Semaphore; 2] = [(); 2].map(|()| Semaphore::new(1));
    let [a, b] = &semaphores;
    let held = a.try_acquire().unwrap();
    let mut both = All((a, b)).acquire();
    assert!(poll_once(&mut both).is_pending());
    b.close();
    assert!(poll_once(&mut both).is_pending());
    drop(held);
    assert!(matches!(poll_once(&mut both), Poll::Ready(Err(AcquireError::Closed))));
    assert_eq!(in_use(&semaphores), [0, 0]);
}

struct Panics;

impl Wake for Panics {
    fn wake(self: Arc<Self>) {
        panic!("a waker");
    }
}

/// [ALL-3]
#[test]
fn a_waker_that_panics_keeps_no_permit_from_going_back() {
    let semaphores: [Semaphore; 3] = semaphores(1);
    let [a, b, c] = &semaphores;
    let all = All((a, b, c)).try_acquire().unwrap();
    let mut waiters = [a, b, c].map(Semaphore::acquire);
    for waiter in &mut waiters {
        assert!(poll_with(waiter, &Waker::from(Arc::new(Panics))).is_pending());
    }
    // Rust aborts on a second panic while it unwinds: the semaphores give up the second and the third.
    assert!(catch_unwind(AssertUnwindSafe(|| drop(all))).is_err());
    for waiter in &mut waiters {
        assert!(poll_once(waiter).is_ready());
    }
    assert_idle(&semaphores);
}

#[test]
#[should_panic(expected = "an AllAcquire was polled after it had resolved")]
fn a_resolved_future_says_so_when_it_is_polled_again() {
    let [a, b] = &semaphores(1);
    let mut all = All((a, b)).acquire();
    let _permit = poll_once(&mut all);
    let _ = poll_once(&mut all);
}

#[test]
fn debug_shows_what_is_held() {
    let [a, b] = &semaphores(2);
    let _full = b.try_acquire_many(2).unwrap();
    let mut both = All(((a, 2), b)).acquire();
    assert!(poll_once(&mut both).is_pending());
    assert_eq!(format!("{both:?}"), "AllAcquire { held: [Permit { weight: 2, .. }], state: At(1), .. }");
}

/// Else who tries again while there are no permits would find, by the addresses, that there never will be, or never find it.
#[test]
fn a_try_tells_what_is_for_ever_before_what_is_for_now_whatever_the_order() {
    for full in [0, 1] {
        let pair = [Semaphore::new(1), Semaphore::new(1)];
        let other = &pair[1 - full];
        let _held = pair[full].try_acquire().unwrap();
        assert_eq!(All((&pair[full], (other, 2))).try_acquire().unwrap_err(), TryAcquireError::ExceedsLimit);
        other.close();
        assert_eq!(All((&pair[full], other)).try_acquire().unwrap_err(), TryAcquireError::Closed);
        assert_eq!(All((&pair[full], (other, 2))).try_acquire().unwrap_err(), TryAcquireError::Closed);
    }
}
