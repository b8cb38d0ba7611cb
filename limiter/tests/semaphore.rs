//! What a semaphore promises, one promise a test.

#![allow(clippy::disallowed_methods, reason = "the limiter has no clock, so its tests bring one")]

mod common;

use std::cell::Cell;
use std::future::poll_fn;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread;
use std::time::{Duration, Instant};

use anteroom_limiter::{
    Acquire, AcquireError, LimitError, MergeError, OwnedPermit, Permit, Semaphore, Snapshot, Timer,
    TryAcquireError,
};
use common::{Bell, block_on, poll_once, poll_with};

/// The number that is in use if all is well, and that the fast path agrees: all that is left can be taken at once.
#[track_caller]
fn assert_exactly(semaphore: &Semaphore, in_use: usize) {
    let limit = semaphore.limit();
    assert_eq!(semaphore.snapshot(), Snapshot { limit, in_use, waiting: 0, closed: false });
    assert!(semaphore.try_acquire_many(limit - in_use).is_ok());
    assert_eq!(semaphore.in_use(), in_use);
}

#[test]
fn waiters_are_served_in_the_order_of_their_first_poll() {
    let semaphore = Semaphore::new(1);
    let mut permit = Some(semaphore.try_acquire().unwrap());
    let mut waiters: Vec<_> = (0..20).map(|_| semaphore.acquire()).collect();
    for waiter in waiters.iter_mut().rev() {
        assert!(poll_once(waiter).is_pending()); // the last made polls first
    }
    for (served, mut waiter) in waiters.into_iter().rev().enumerate() {
        assert_eq!(semaphore.waiting(), 20 - served);
        drop(permit.take());
        let Poll::Ready(Ok(next)) = poll_once(&mut waiter) else { panic!("waiter {served} was overtaken") };
        permit = Some(next);
    }
    drop(permit);
    assert_exactly(&semaphore, 0);
}

/// [LEDGER-2]
#[test]
fn nobody_overtakes_a_waiter_not_even_with_a_smaller_request() {
    let semaphore = Semaphore::new(3);
    let one = semaphore.try_acquire().unwrap();
    let mut large = semaphore.acquire_many(3);
    assert!(poll_once(&mut large).is_pending());
    assert_eq!(semaphore.try_acquire().unwrap_err(), TryAcquireError::NoPermits, "2 are free, and promised");
    let mut small = semaphore.acquire();
    assert!(poll_once(&mut small).is_pending());
    drop(one);
    let Poll::Ready(Ok(three)) = poll_once(&mut large) else { panic!("the large one was first") };
    assert!(poll_once(&mut small).is_pending());
    drop(three);
    assert!(poll_once(&mut small).is_ready());
}

/// A waiter holds nothing of what it waits for.
#[test]
fn a_heavy_waiter_gets_all_or_nothing() {
    let semaphore = Semaphore::new(3);
    let mut held: Vec<_> = (0..3).map(|_| semaphore.try_acquire().unwrap()).collect();
    let mut heavy = semaphore.acquire_many(3);
    for in_use in (0..3).rev() {
        assert!(poll_once(&mut heavy).is_pending());
        held.pop();
        assert_eq!(semaphore.in_use(), if in_use == 0 { 3 } else { in_use });
    }
    let Poll::Ready(Ok(permit)) = poll_once(&mut heavy) else { panic!("all three were free") };
    assert_eq!(permit.weight(), 3);
}

/// bugs.md 6: more waiters than are woken under one lock.
#[test]
fn a_release_of_many_serves_all_that_fit() {
    let semaphore = Semaphore::new(20);
    let all = semaphore.try_acquire_many(20).unwrap();
    let mut waiters: Vec<_> = (0..25).map(|_| semaphore.acquire()).collect();
    assert!(waiters.iter_mut().all(|waiter| poll_once(waiter).is_pending()));
    drop(all);
    assert_eq!(semaphore.snapshot(), Snapshot { limit: 20, in_use: 20, waiting: 5, closed: false });
    // Collected but not kept: the permits go on to the last five.
    assert!(waiters.iter_mut().all(|waiter| poll_once(waiter).is_ready()));
    assert_exactly(&semaphore, 0);
}

/// bugs.md 4
#[test]
fn who_waits_behind_a_heavy_head_is_served_when_it_leaves() {
    let semaphore = Semaphore::new(3);
    let _one = semaphore.try_acquire().unwrap();
    let mut heavy = semaphore.acquire_many(3);
    let mut light = [semaphore.acquire(), semaphore.acquire(), semaphore.acquire()];
    let bell = Bell::new();
    assert!(poll_once(&mut heavy).is_pending());
    for waiter in &mut light {
        assert!(poll_with(waiter, &Arc::clone(&bell).into()).is_pending());
    }
    drop(heavy);
    assert_eq!(bell.wakes(), 2);
    let [first, second, third] = light.each_mut().map(poll_once);
    assert!(first.is_ready() && second.is_ready() && third.is_pending());
}

/// [GATE-3], [PERMIT-1]; bugs.md 1, 7
#[test]
fn units_are_conserved_wherever_the_future_is_dropped() {
    let semaphore = Semaphore::new(2);
    for weight in 1..=2 {
        drop(semaphore.acquire_many(weight)); // never polled
        assert_exactly(&semaphore, 0);

        let held = semaphore.try_acquire_many(2).unwrap();
        let mut waiting = semaphore.acquire_many(weight);
        assert!(poll_once(&mut waiting).is_pending());
        drop(waiting); // while it waits
        assert_exactly(&semaphore, 2);

        let mut granted = semaphore.acquire_many(weight);
        assert!(poll_once(&mut granted).is_pending());
        drop(held);
        assert_eq!(semaphore.in_use(), weight);
        drop(granted); // granted, but not polled since
        assert_exactly(&semaphore, 0);

        let mut collected = semaphore.acquire_many(weight);
        let permit = poll_once(&mut collected);
        drop(collected); // resolved: the permit has the units
        assert_exactly(&semaphore, weight);
        drop(permit);
        assert_exactly(&semaphore, 0);
    }
}

/// bugs.md 1, 3: one release, one live waiter served, and no other.
#[test]
fn a_grant_that_nobody_collects_goes_to_the_next_in_line() {
    let semaphore = Semaphore::new(1);
    let permit = semaphore.try_acquire().unwrap();
    let mut waiters: Vec<_> = (0..3).map(|_| semaphore.acquire()).collect();
    assert!(waiters.iter_mut().all(|waiter| poll_once(waiter).is_pending()));
    drop(permit);
    drop(waiters.remove(0));
    assert_eq!(semaphore.waiting(), 1);
    let Poll::Ready(Ok(_permit)) = poll_once(&mut waiters[0]) else { panic!("it was next") };
    assert!(poll_once(&mut waiters[1]).is_pending());
}

/// bugs.md 2: FROZEN and the queue are gone with the last waiter [GATE-2].
#[test]
fn nothing_of_a_cancelled_waiter_remains() {
    let semaphore = Semaphore::new(2);
    let _one = semaphore.try_acquire().unwrap();
    let mut waiter = semaphore.acquire_many(2);
    assert!(poll_once(&mut waiter).is_pending());
    drop(waiter);
    assert_exactly(&semaphore, 1);
}

/// bugs.md 5: the limiter has no clock. With room at the first poll that poll gives the permit, deadline or not; a caller
/// who looks at the clock first, and then does not poll, takes nothing.
#[test]
fn an_expired_deadline_is_the_callers_business() {
    enum First {
        Permit,
        Clock,
    }
    let semaphore = Semaphore::new(1);
    let race = |first| {
        let mut acquire = pin!(semaphore.acquire());
        block_on(poll_fn(|cx| match first {
            First::Permit => acquire.as_mut().poll(cx).map(|permit| permit.is_ok()),
            First::Clock => Poll::Ready(false), // it expired long ago
        }))
    };
    assert!(race(First::Permit));
    assert_exactly(&semaphore, 0);
    assert!(!race(First::Clock));
    assert_exactly(&semaphore, 0);
}

/// bugs.md 18: the documented hazard of `acquire`, and its end.
#[test]
fn a_grant_to_a_future_that_nobody_polls_holds_up_the_rest_until_it_is_dropped() {
    let semaphore = Semaphore::new(1);
    let permit = semaphore.try_acquire().unwrap();
    let mut forgotten = semaphore.acquire();
    let mut next = semaphore.acquire();
    assert!(poll_once(&mut forgotten).is_pending() && poll_once(&mut next).is_pending());
    drop(permit);
    assert!(poll_once(&mut next).is_pending());
    drop(forgotten);
    assert!(poll_once(&mut next).is_ready());
}

/// bugs.md 9
#[test]
fn closed_is_absorbing() {
    let semaphore = Arc::new(Semaphore::new(2));
    let permit = semaphore.try_acquire_many(2).unwrap();
    assert!(!semaphore.is_closed());
    semaphore.close();
    semaphore.close();
    drop(permit);
    semaphore.set_limit(10).unwrap();
    assert!(semaphore.is_closed());
    assert_eq!(semaphore.try_acquire().unwrap_err(), TryAcquireError::Closed);
    assert_eq!(semaphore.try_acquire_many(0).unwrap_err(), TryAcquireError::Closed);
    assert_eq!(semaphore.try_acquire_owned().unwrap_err(), TryAcquireError::Closed);
    assert_eq!(block_on(semaphore.acquire()).unwrap_err(), AcquireError::Closed);
    assert_eq!(block_on(semaphore.acquire_many(11)).unwrap_err(), AcquireError::Closed);
    assert_eq!(semaphore.snapshot(), Snapshot { limit: 10, in_use: 0, waiting: 0, closed: true });
}

/// More waiters than are woken under one lock; a grant before the close stands.
#[test]
fn close_tells_all_who_wait_and_none_who_were_granted() {
    let semaphore = Semaphore::new(1);
    let permit = semaphore.try_acquire().unwrap();
    let bell = Bell::new();
    let mut waiters: Vec<_> = (0..20).map(|_| semaphore.acquire()).collect();
    for waiter in &mut waiters {
        assert!(poll_with(waiter, &Arc::clone(&bell).into()).is_pending());
    }
    drop(permit);
    semaphore.close();
    assert_eq!((bell.wakes(), semaphore.waiting()), (20, 0));
    let mut waiters = waiters.into_iter();
    let Poll::Ready(Ok(permit)) = poll_once(&mut waiters.next().unwrap()) else { panic!("granted before") };
    for mut waiter in waiters {
        assert!(matches!(poll_once(&mut waiter), Poll::Ready(Err(AcquireError::Closed))));
    }
    drop(permit);
    assert_eq!(semaphore.in_use(), 0);
}

#[test]
fn a_waiter_that_was_told_of_the_close_can_be_dropped_unpolled() {
    let semaphore = Semaphore::new(1);
    let _permit = semaphore.try_acquire().unwrap();
    let mut waiter = semaphore.acquire();
    assert!(poll_once(&mut waiter).is_pending());
    semaphore.close();
    drop(waiter);
    assert_eq!(semaphore.in_use(), 1);
}

/// bugs.md 16
#[test]
fn a_debt_outlives_a_shrink_and_a_growth() {
    let semaphore = Semaphore::new(5);
    let mut five = semaphore.try_acquire_many(5).unwrap();
    semaphore.set_limit(2).unwrap();
    assert_eq!(semaphore.available(), -3);
    semaphore.set_limit(4).unwrap();
    assert_eq!((semaphore.available(), semaphore.snapshot().available()), (-1, -1));
    let mut waiter = semaphore.acquire();
    assert!(poll_once(&mut waiter).is_pending());
    drop(five.split(1));
    assert!(poll_once(&mut waiter).is_pending(), "4 of 4 are in use");
    drop(five.split(1));
    let permit = poll_once(&mut waiter);
    assert!(permit.is_ready());
    assert_eq!((semaphore.in_use(), semaphore.available()), (4, 0));
}

#[test]
fn growth_serves_waiters_at_once() {
    let semaphore = Semaphore::new(1);
    let _one = semaphore.try_acquire().unwrap();
    let mut waiters = [semaphore.acquire(), semaphore.acquire(), semaphore.acquire()];
    assert!(waiters.iter_mut().all(|waiter| poll_once(waiter).is_pending()));
    semaphore.set_limit(3).unwrap();
    assert_eq!((semaphore.in_use(), semaphore.waiting()), (3, 1));
}

#[test]
fn a_waiter_above_a_shrunken_limit_keeps_its_turn_until_the_limit_grows_or_it_leaves() {
    let semaphore = Semaphore::new(4);
    let one = semaphore.try_acquire().unwrap();
    let (mut heavy, mut light) = (semaphore.acquire_many(4), semaphore.acquire());
    assert!(poll_once(&mut heavy).is_pending() && poll_once(&mut light).is_pending());
    semaphore.set_limit(2).unwrap();
    drop(one);
    assert!(poll_once(&mut heavy).is_pending() && poll_once(&mut light).is_pending());
    semaphore.set_limit(5).unwrap();
    assert!(poll_once(&mut heavy).is_ready() && poll_once(&mut light).is_ready());
}

/// bugs.md 15
#[test]
fn more_than_the_limit_is_refused_at_once_even_behind_waiters() {
    let semaphore = Semaphore::new(2);
    let _both = semaphore.try_acquire_many(2).unwrap();
    let mut waiter = semaphore.acquire();
    assert!(poll_once(&mut waiter).is_pending());
    for weight in [3, Semaphore::MAX_PERMITS, usize::MAX] {
        assert_eq!(semaphore.try_acquire_many(weight).unwrap_err(), TryAcquireError::ExceedsLimit);
        assert_eq!(block_on(semaphore.acquire_many(weight)).unwrap_err(), AcquireError::ExceedsLimit);
    }
    assert_eq!(semaphore.waiting(), 1);
}

/// bugs.md 10
#[test]
fn the_largest_limit_works_and_the_next_is_an_error() {
    const MAX: usize = Semaphore::MAX_PERMITS;
    assert_eq!(Semaphore::try_new(MAX + 1).unwrap_err(), LimitError::AboveMax);
    let semaphore = Semaphore::new(MAX);
    let mut all = semaphore.try_acquire_many(MAX).unwrap();
    assert_eq!(semaphore.try_acquire().unwrap_err(), TryAcquireError::NoPermits);
    assert_eq!((semaphore.in_use(), semaphore.available()), (MAX, 0));
    assert_eq!(semaphore.set_limit(MAX + 1).unwrap_err(), LimitError::AboveMax);
    semaphore.set_limit(1).unwrap();
    assert_eq!(semaphore.available(), 1 - MAX as isize);
    drop(all.split(MAX - 1));
    assert_eq!((semaphore.in_use(), semaphore.available()), (1, 0));
    semaphore.set_limit(MAX).unwrap();
    all.merge(semaphore.try_acquire_many(MAX - 1).unwrap()).unwrap();
    assert_eq!(all.weight(), MAX);
}

/// bugs.md 21
#[test]
fn a_limit_of_zero_is_an_error() {
    assert_eq!(Semaphore::try_new(0).unwrap_err(), LimitError::Zero);
    let semaphore = Semaphore::new(1);
    assert_eq!(semaphore.set_limit(0).unwrap_err(), LimitError::Zero);
    assert_eq!(semaphore.limit(), 1);
}

#[test]
#[should_panic(expected = "Semaphore::new(0): a semaphore's limit must be at least 1")]
fn new_names_the_limit_that_is_too_small() {
    let _ = Semaphore::new(0);
}

#[test]
#[should_panic(
    expected = "Semaphore::new(2147483648): a semaphore's limit must be at most 2147483647 (MAX_PERMITS)"
)]
fn new_names_the_limit_that_is_too_large() {
    let _ = Semaphore::new(Semaphore::MAX_PERMITS + 1);
}

#[test]
fn a_weight_of_zero_is_granted_past_all_waiters_and_takes_nothing() {
    let semaphore = Semaphore::new(1);
    let _one = semaphore.try_acquire().unwrap();
    let mut waiter = semaphore.acquire();
    assert!(poll_once(&mut waiter).is_pending());
    assert_eq!(block_on(semaphore.acquire_many(0)).unwrap().weight(), 0);
    assert_eq!(semaphore.try_acquire_many(0).unwrap().weight(), 0);
    assert_eq!(semaphore.snapshot(), Snapshot { limit: 1, in_use: 1, waiting: 1, closed: false });
}

/// [PERMIT-1]; bugs.md 13, 14: whatever is split and merged, what comes back is what was taken.
#[test]
fn split_and_merge_neither_make_nor_lose_units() {
    let semaphore = Semaphore::new(10);
    let mut whole = semaphore.try_acquire_many(7).unwrap();
    assert!(whole.split(8).is_none() && whole.split(usize::MAX).is_none());
    let mut parts: Vec<_> = [0, 1, 2, 4].into_iter().map(|weight| whole.split(weight).unwrap()).collect();
    assert_eq!((whole.weight(), semaphore.in_use()), (0, 7));
    drop(parts.pop());
    assert_eq!(semaphore.in_use(), 3);
    for part in parts {
        whole.merge(part).unwrap();
    }
    assert_eq!((whole.weight(), semaphore.in_use()), (3, 3));
    drop(whole);
    assert_exactly(&semaphore, 0);
}

#[test]
fn permits_of_two_semaphores_do_not_merge_and_none_is_lost() {
    let (left, right) = (Arc::new(Semaphore::new(2)), Arc::new(Semaphore::new(2)));
    let mut permit = left.try_acquire_owned().unwrap();
    let error = permit.merge(right.try_acquire_many_owned(2).unwrap()).unwrap_err();
    assert_eq!(error.to_string(), "the permits belong to different semaphores");
    assert_eq!(error.into_permit().weight(), 2);
    assert_eq!((left.in_use(), right.in_use()), (1, 0));
}

/// bugs.md 8: the queue points at nothing that could go away before it.
#[test]
fn an_owned_permit_keeps_its_semaphore_alive() {
    let semaphore = Arc::new(Semaphore::new(1));
    let permit = semaphore.try_acquire_owned().unwrap();
    let mut waiter = semaphore.acquire_owned();
    assert!(poll_once(&mut waiter).is_pending());
    let watch = Arc::downgrade(&semaphore);
    drop(semaphore);
    drop(permit);
    let Poll::Ready(Ok(permit)) = poll_once(&mut waiter) else { panic!("it was next") };
    assert_eq!(watch.upgrade().unwrap().in_use(), 1);
    drop((waiter, permit));
    assert!(watch.upgrade().is_none());
}

#[test]
#[should_panic(expected = "an Acquire was polled after it had resolved")]
fn a_resolved_future_says_so_when_it_is_polled_again() {
    let semaphore = Semaphore::new(1);
    let mut acquire = semaphore.acquire();
    let _permit = poll_once(&mut acquire);
    let _ = poll_once(&mut acquire);
}

#[test]
fn trim_leaves_waiters_alone() {
    let semaphore = Semaphore::new(1);
    let permit = semaphore.try_acquire().unwrap();
    let mut waiter = semaphore.acquire();
    assert!(poll_once(&mut waiter).is_pending());
    semaphore.trim();
    drop(permit);
    assert!(poll_once(&mut waiter).is_ready());
    semaphore.trim();
    assert_exactly(&semaphore, 0);
}

#[test]
fn debug_shows_numbers_and_states() {
    let semaphore = Semaphore::new(2);
    let permit = semaphore.try_acquire_many(2).unwrap();
    let mut waiter = semaphore.acquire();
    let _ = poll_once(&mut waiter);
    assert_eq!(format!("{semaphore:?}"), "Semaphore { limit: 2, in_use: 2, waiting: 1, closed: false }");
    assert_eq!(format!("{permit:?}"), "Permit { weight: 2, .. }");
    assert_eq!(format!("{waiter:?}"), "Acquire { weight: 1, state: \"queued\" }");
}

/// bugs.md 26
#[test]
fn every_public_type_may_go_to_another_thread() {
    fn is<T: Send + Sync + Unpin>() {}
    is::<Semaphore>();
    is::<Acquire<&Semaphore>>();
    is::<Acquire<Arc<Semaphore>>>();
    is::<Permit<&Semaphore>>();
    is::<OwnedPermit>();
    is::<MergeError<&Semaphore>>();
    is::<(AcquireError, TryAcquireError, LimitError, Snapshot)>();
    is::<(anteroom_limiter::Ledger<u8, 2>, anteroom_limiter::Key, anteroom_limiter::Refusal)>();
}

/// bugs.md 2: the waiter that was woken is cancelled before it runs, others wait, and a newcomer comes. Nothing tells the
/// newcomer that it may go ahead, and nothing keeps it out when the line is empty.
#[test]
fn a_newcomer_after_a_cancelled_grant_goes_to_the_end_of_the_line() {
    let semaphore = Semaphore::new(1);
    for others in 0..4 {
        let permit = semaphore.try_acquire().unwrap();
        let mut cancelled = semaphore.acquire();
        assert!(poll_once(&mut cancelled).is_pending());
        let mut line: Vec<_> = (0..others).map(|_| semaphore.acquire()).collect();
        assert!(line.iter_mut().all(|waiter| poll_once(waiter).is_pending()));
        drop(permit); // to the one that is then cancelled
        drop(cancelled);
        let newcomer = semaphore.try_acquire();
        assert_eq!(newcomer.is_ok(), others == 0, "{others} were before it");
        drop(newcomer);
        line.push(semaphore.acquire());
        for mut next in line {
            let Poll::Ready(Ok(permit)) = poll_once(&mut next) else { panic!("it was next") };
            drop(permit);
        }
        assert_exactly(&semaphore, 0);
    }
}

/// bugs.md 8: the queue keeps no pointer into a future: one that waits may be moved, and its memory be freed and used again,
/// at the head, in the middle and at the tail. AddressSanitizer looks on in `.ci/asan.sh`.
#[test]
fn a_queued_waiter_may_be_moved_and_freed_wherever_it_stands() {
    for gone in 0_usize..1 << 5 {
        let semaphore = Arc::new(Semaphore::new(1));
        let permit = semaphore.try_acquire_owned().unwrap();
        let bell = Bell::new();
        let mut waiters: Vec<_> = (0..5).map(|_| Some(Box::new(semaphore.acquire_owned()))).collect();
        for waiter in waiters.iter_mut().flatten() {
            assert!(poll_with(&mut **waiter, &Arc::clone(&bell).into()).is_pending());
        }
        // Freed, and the memory written over.
        let mut noise = Vec::new();
        for at in (0..5).filter(|at| gone & 1 << at != 0) {
            waiters[at] = None;
            noise.push(Box::new([0xAA_u8; size_of::<Acquire<Arc<Semaphore>>>()]));
        }
        // Moved out of their boxes.
        let mut left: Vec<_> = waiters.into_iter().flatten().map(|waiter| *waiter).collect();
        assert_eq!(semaphore.waiting(), left.len());
        drop(permit);
        for (served, waiter) in left.iter_mut().enumerate() {
            let Poll::Ready(Ok(permit)) = poll_once(waiter) else { panic!("waiter {served} of {gone:b}") };
            drop(permit);
        }
        drop((left, noise));
        assert_exactly(&semaphore, 0);
        assert_eq!(Arc::strong_count(&bell), 1, "and no waker is kept");
    }
}

/// bugs.md 13: a waiter that dies, by its drop or by a panic in its task, is counted once, in whichever state it was.
#[test]
fn a_waiter_that_dies_by_a_panic_is_counted_once() {
    let semaphore = Semaphore::new(2);
    for state in ["new", "waiting", "granted", "collected"] {
        let held = semaphore.try_acquire_many(2).unwrap();
        let mut held = Some(held);
        let died = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let mut acquire = semaphore.acquire_many(2);
            if state != "new" {
                assert!(poll_once(&mut acquire).is_pending());
            }
            if state == "granted" || state == "collected" {
                drop(held.take());
            }
            let _permit = (state == "collected").then(|| poll_once(&mut acquire));
            std::panic::resume_unwind(Box::new("its task"));
        }));
        assert!(died.is_err());
        assert_exactly(&semaphore, if held.is_some() { 2 } else { 0 });
        drop(held);
        assert_exactly(&semaphore, 0);
        assert!(semaphore.try_acquire_many(3).is_err(), "{state}: the capacity never rises either");
    }
}

/// [GATE-1]: a million would not show it; the debt of a charge is paid before anybody is granted.
#[test]
fn a_charge_is_a_debt_that_is_paid_before_the_next_grant() {
    let semaphore = Semaphore::new(4);
    let mut permit = semaphore.try_acquire().unwrap();
    assert_eq!(permit.charge(5), 5);
    assert_eq!((permit.weight(), semaphore.in_use(), semaphore.available()), (6, 6, -2));
    let mut waiter = semaphore.acquire();
    assert!(poll_once(&mut waiter).is_pending());
    assert_eq!(permit.charge(1), 1); // with somebody waiting, too
    assert_eq!(permit.shrink(3), 3); // all that there is
    assert!(poll_once(&mut waiter).is_pending());
    assert_eq!(permit.shrink(1), 1);
    assert!(poll_once(&mut waiter).is_ready());
    drop(permit);
    drop(waiter);
    assert_exactly(&semaphore, 0);
}

#[test]
fn a_charge_takes_no_more_than_can_be_counted() {
    let semaphore = Semaphore::new(1);
    let mut permit = semaphore.try_acquire().unwrap();
    assert_eq!(permit.charge(usize::MAX), Semaphore::MAX_PERMITS - 1);
    let mut waiter = semaphore.acquire();
    assert!(poll_once(&mut waiter).is_pending());
    assert_eq!(permit.charge(1), 0); // under the lock, too
    assert_eq!(permit.shrink(usize::MAX), Semaphore::MAX_PERMITS);
    assert!(poll_once(&mut waiter).is_ready());
}

#[test]
fn a_closed_semaphore_still_charges_and_takes_back() {
    let semaphore = Semaphore::new(1);
    let mut permit = semaphore.try_acquire().unwrap();
    semaphore.close();
    assert_eq!(permit.charge(2), 2);
    assert_eq!(permit.try_grow(1), Err(TryAcquireError::Closed));
    assert_eq!(block_on(permit.grow(1)), Err(AcquireError::Closed));
    assert_eq!(block_on(permit.suspend(async { 7 })), 7);
    assert_eq!(permit.weight(), 3);
    drop(permit);
    assert_eq!(semaphore.in_use(), 0);
}

#[test]
fn a_permit_grows_in_its_turn() {
    let semaphore = Semaphore::new(3);
    let mut first = semaphore.try_acquire().unwrap();
    let second = semaphore.try_acquire_many(2).unwrap();
    let mut before = semaphore.acquire();
    assert!(poll_once(&mut before).is_pending());
    {
        let mut growth = pin!(first.grow(1));
        assert!(poll_once(&mut growth).is_pending());
        drop(second);
        assert!(poll_once(&mut before).is_ready());
        assert_eq!(poll_once(&mut growth), Poll::Ready(Ok(())));
    }
    assert_eq!(first.weight(), 2);
    {
        let mut given_up = pin!(first.grow(2));
        assert!(poll_once(&mut given_up).is_pending());
    }
    assert_eq!(first.weight(), 2);
    assert_eq!(block_on(first.grow(4)), Err(AcquireError::ExceedsLimit));
    drop(first);
    assert_exactly(&semaphore, 0);
}

#[test]
fn who_is_suspended_lends_its_place_and_comes_back_before_newcomers() {
    let semaphore = Semaphore::new(1);
    let mut permit = semaphore.try_acquire().unwrap();
    let mut first = semaphore.acquire();
    let mut second = semaphore.acquire();
    assert!(poll_once(&mut first).is_pending() && poll_once(&mut second).is_pending());
    let mut polls = 0;
    let mut away = Box::pin(permit.suspend(poll_fn(|_| {
        polls += 1;
        if polls == 2 { Poll::Ready(7) } else { Poll::Pending }
    })));
    assert!(poll_once(&mut away).is_pending());
    let Poll::Ready(Ok(lent)) = poll_once(&mut first) else { panic!("the place was lent to nobody") };
    assert!(poll_once(&mut away).is_pending()); // it would come back, and the place is taken
    drop(lent);
    assert!(poll_once(&mut second).is_pending(), "a newcomer overtook who came back");
    assert_eq!(poll_once(&mut away), Poll::Ready(7));
    drop(away);
    assert_eq!(permit.weight(), 1);
    drop(permit);
    assert!(poll_once(&mut second).is_ready());
    drop(second);
    assert_exactly(&semaphore, 0);
}

/// [SUSPEND-1]: dropped while it is away, while it waits to come back, and when it was let in but not told; and by a panic.
#[test]
fn a_suspension_that_is_given_up_leaves_a_permit_that_holds_nothing() {
    for point in 0..4 {
        let semaphore = Semaphore::new(2);
        let mut permit = semaphore.try_acquire_many(2).unwrap();
        let is_over = std::cell::Cell::new(false);
        {
            let wait = poll_fn(|_| {
                assert!(point < 3, "the fourth ends by a panic");
                if is_over.get() { Poll::Ready(()) } else { Poll::Pending }
            });
            let mut away = Box::pin(permit.suspend(wait));
            if point == 3 {
                let poll = std::panic::AssertUnwindSafe(|| poll_once(&mut away));
                assert!(std::panic::catch_unwind(poll).is_err());
            } else {
                assert!(poll_once(&mut away).is_pending());
                assert_eq!(semaphore.in_use(), 0);
                let other = semaphore.try_acquire().unwrap();
                if point > 0 {
                    is_over.set(true);
                    assert!(poll_once(&mut away).is_pending());
                }
                if point == 2 {
                    drop(other); // it is let in, and never learns of it
                }
            }
        }
        assert_eq!(permit.weight(), 0);
        assert_exactly(&semaphore, 0);
        assert_eq!(permit.try_grow(1), Ok(())); // and it is of use still
        assert_exactly(&semaphore, 1);
    }
}

#[test]
fn the_newest_is_rejected_when_as_many_wait_as_may() {
    let semaphore = Semaphore::new(1).with_max_waiting(2);
    let permit = semaphore.try_acquire().unwrap();
    let mut waiting = [semaphore.acquire(), semaphore.acquire()];
    for waiter in &mut waiting {
        assert!(poll_once(waiter).is_pending());
    }
    let rejected =
        |semaphore: &Semaphore| poll_once(&mut semaphore.acquire()).map(|permit| permit.unwrap_err());
    assert_eq!(rejected(&semaphore), Poll::Ready(AcquireError::QueueFull));
    let [first, second] = waiting;
    drop(first); // there is room in the line again, at its end
    assert!(poll_once(&mut semaphore.acquire()).is_pending());
    drop((permit, second));
    assert_exactly(&semaphore, 0);

    let no_line = Semaphore::new(1).with_max_waiting(0);
    let permit = no_line.try_acquire().unwrap();
    assert_eq!(rejected(&no_line), Poll::Ready(AcquireError::QueueFull));
    drop(permit);
    assert_eq!(block_on(no_line.acquire()).unwrap().weight(), 1); // who need not wait may come
}

/// Whoever comes back has a claim, and no line is too long for it.
#[test]
fn who_comes_back_is_never_rejected() {
    let semaphore = Semaphore::new(1).with_max_waiting(0);
    let mut permit = semaphore.try_acquire().unwrap();
    let is_over = std::cell::Cell::new(false);
    let mut away =
        Box::pin(permit.suspend(poll_fn(|_| if is_over.get() { Poll::Ready(()) } else { Poll::Pending })));
    assert!(poll_once(&mut away).is_pending());
    let other = semaphore.try_acquire().unwrap();
    is_over.set(true);
    assert!(poll_once(&mut away).is_pending());
    drop(other);
    assert!(poll_once(&mut away).is_ready());
}

#[test]
fn a_thread_waits_for_its_permit_or_until_its_time() {
    let semaphore = Arc::new(Semaphore::new(1));
    let permit = semaphore.try_acquire_owned().unwrap();
    for end in [Instant::now() + Duration::from_millis(2), Instant::now()] {
        let late = semaphore.acquire().blocking_until(end, Instant::now);
        assert_eq!(late.unwrap_err(), AcquireError::TimedOut);
        assert!(Instant::now() >= end);
        assert_eq!(semaphore.waiting(), 0);
    }
    let end = Instant::now() + Duration::from_secs(60);
    let threads: Vec<_> = (0..4)
        .map(|n| {
            let semaphore = Arc::clone(&semaphore);
            thread::spawn(move || {
                thread::current().unpark(); // a token of somebody else's
                let permit = match n {
                    0 | 1 => semaphore.acquire_blocking().map(drop),
                    2 => semaphore.acquire_owned().blocking().map(drop),
                    _ => semaphore.acquire().blocking_until(end, Instant::now).map(drop),
                };
                assert_eq!(permit, Ok(()));
            })
        })
        .collect();
    while semaphore.waiting() < 4 {
        thread::yield_now();
    }
    drop(permit);
    for thread in threads {
        thread.join().unwrap();
    }
    assert_exactly(&semaphore, 0);
}

/// The grant's token is there for one park. A clock that parks, as one behind a lock of its own kind may, takes it.
#[test]
fn a_clock_that_takes_the_token_of_a_grant_does_not_make_the_thread_sleep() {
    let semaphore = Semaphore::new(1);
    let permit = Cell::new(Some(semaphore.try_acquire().unwrap()));
    let calls = Cell::new(0);
    let end = Instant::now() + Duration::from_secs(10);
    thread::current().unpark(); // It looks at the clock twice.
    let granted = semaphore.acquire().blocking_until(end, || {
        calls.set(calls.get() + 1);
        if calls.get() == 2 {
            drop(permit.take());
            thread::park_timeout(Duration::ZERO);
        }
        Instant::now()
    });
    assert!(granted.is_ok() && Instant::now() < end);
}

/// A clock that stands where it is set, and sleeps that end when it has come so far.
#[derive(Clone)]
struct Hands(Arc<std::sync::Mutex<Instant>>);

impl Timer for Hands {
    type Sleep = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

    fn now(&self) -> Instant {
        *self.0.lock().unwrap()
    }

    fn sleep_until(&self, at: Instant) -> Self::Sleep {
        let hands = self.clone();
        Box::pin(poll_fn(move |_| if hands.now() >= at { Poll::Ready(()) } else { Poll::Pending }))
    }
}

/// bugs.md 5: with a clock that the caller brings.
#[test]
fn who_waits_until_a_time_is_told_then_and_leaves_the_line() {
    let hands = Hands(Arc::new(std::sync::Mutex::new(Instant::now())));
    let pass = |by: Duration| *hands.0.lock().unwrap() += by;
    let second = Duration::from_secs(1);
    let semaphore = Semaphore::new(1);
    let permit = semaphore.try_acquire().unwrap();
    {
        let mut early = pin!(semaphore.acquire_timeout(&hands, second));
        let mut late = pin!(semaphore.acquire_deadline(&hands, hands.now() + 3 * second));
        let mut endless = pin!(semaphore.acquire_timeout(&hands, Duration::MAX));
        let waiters = |semaphore: &Semaphore| semaphore.waiting();
        assert!(poll_once(&mut early).is_pending());
        assert!(poll_once(&mut late).is_pending());
        assert!(poll_once(&mut endless).is_pending());
        pass(second);
        assert_eq!(waiters(&semaphore), 3);
        let Poll::Ready(outcome) = poll_once(&mut early) else { panic!("it is time") };
        assert_eq!(outcome.unwrap_err(), AcquireError::TimedOut);
        assert_eq!(waiters(&semaphore), 2);
        // A permit that is there wins over a time that has passed.
        drop(permit);
        pass(5 * second);
        let Poll::Ready(outcome) = poll_once(&mut late) else { panic!("it was granted") };
        drop(outcome.unwrap());
        assert!(poll_once(&mut endless).is_ready());
    }
    // A time that has passed is a try.
    let past = hands.now() - second;
    let permit = block_on(semaphore.acquire_deadline(&hands, past)).unwrap();
    let late = block_on(semaphore.acquire_deadline(&hands, past));
    assert_eq!(late.unwrap_err(), AcquireError::TimedOut);
    assert_eq!(
        block_on(semaphore.acquire_timeout(&hands, Duration::ZERO)).unwrap_err(),
        AcquireError::TimedOut
    );
    drop(permit);
    semaphore.close();
    assert_eq!(block_on(semaphore.acquire_timeout(&hands, second)).unwrap_err(), AcquireError::Closed);
}

/// [SUSPEND-2]
#[test]
fn who_exchanges_waits_with_empty_hands_before_newcomers() {
    let semaphore = Semaphore::new(4);
    let mut small = semaphore.try_acquire().unwrap();
    let other = semaphore.try_acquire_many(2).unwrap();
    let mut newcomer = semaphore.acquire_many(2);
    assert!(poll_once(&mut newcomer).is_pending());
    {
        let mut exchange = Box::pin(small.exchange(3));
        assert!(poll_once(&mut exchange).is_pending());
        assert_eq!((semaphore.in_use(), semaphore.waiting()), (4, 1), "its unit let the newcomer in");
        assert!(poll_once(&mut newcomer).is_ready());
        let mut second = semaphore.acquire();
        assert!(poll_once(&mut second).is_pending());
        drop(other);
        drop(newcomer);
        assert!(poll_once(&mut exchange).is_ready());
        assert!(poll_once(&mut second).is_ready());
    }
    assert_eq!(small.weight(), 3);
    block_on(small.exchange(1));
    assert_eq!(small.weight(), 1);
    block_on(small.exchange(usize::MAX)); // alone
    assert_eq!(small.weight(), Semaphore::MAX_PERMITS);
    drop(small);
    assert_exactly(&semaphore, 0);
}

/// Panics when it is dropped, as does its sleep, which never ends.
struct Breaks;

impl Drop for Breaks {
    fn drop(&mut self) {
        panic!("it breaks");
    }
}

struct NeverEnds {
    _breaks: Option<Breaks>,
}

impl Future for NeverEnds {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}

impl Timer for Breaks {
    type Sleep = NeverEnds;

    fn now(&self) -> Instant {
        Instant::now()
    }

    fn sleep_until(&self, _at: Instant) -> NeverEnds {
        NeverEnds { _breaks: None }
    }
}

/// A clock that is whole, and whose sleep is not.
struct BreaksAsleep;

impl Timer for BreaksAsleep {
    type Sleep = NeverEnds;

    fn now(&self) -> Instant {
        Instant::now()
    }

    fn sleep_until(&self, _at: Instant) -> NeverEnds {
        NeverEnds { _breaks: Some(Breaks) }
    }
}

/// [PERMIT-1]: what is being returned when a local's drop panics is dropped by nobody.
#[test]
fn a_clock_or_a_sleep_that_panics_when_dropped_loses_no_units() {
    let semaphore = Semaphore::new(1);
    let (now, hour) = (Instant::now(), Duration::from_secs(3_600));
    let breaks = |acquire: &mut dyn FnMut()| {
        let panic = catch_unwind(AssertUnwindSafe(acquire)).unwrap_err();
        assert_eq!(panic.downcast_ref::<&str>(), Some(&"it breaks"));
        assert_exactly(&semaphore, 0);
    };
    breaks(&mut || drop(block_on(semaphore.acquire().deadline(Breaks, now))));
    breaks(&mut || drop(block_on(semaphore.acquire().timeout(Breaks, hour))));
    breaks(&mut || drop(block_on(semaphore.acquire().timeout(Breaks, Duration::MAX))));
    breaks(&mut || {
        let now = Breaks;
        drop(semaphore.acquire().blocking_until(Instant::now(), move || Timer::now(&now)));
    });

    let permit = semaphore.try_acquire().unwrap();
    let mut waiter = Box::pin(semaphore.acquire().timeout(BreaksAsleep, hour));
    assert!(poll_once(&mut waiter).is_pending());
    drop(permit);
    breaks(&mut || assert!(poll_once(&mut waiter).is_pending()));
}

/// [SUSPEND-2], and what it costs: see "Starvation" at `suspend`.
#[test]
fn two_that_suspend_in_turns_keep_newcomers_out_until_they_are_done() {
    fn once() -> impl Future<Output = ()> {
        let mut is_second = false;
        poll_fn(move |_| if mem::replace(&mut is_second, true) { Poll::Ready(()) } else { Poll::Pending })
    }
    async fn endless(semaphore: &Semaphore) {
        let mut permit = semaphore.acquire().await.unwrap();
        loop {
            once().await; // works
            permit.suspend(once()).await;
        }
    }
    let semaphore = Semaphore::new(1);
    let mut pair = [Box::pin(endless(&semaphore)), Box::pin(endless(&semaphore))];
    let mut newcomer = semaphore.acquire();
    for round in 0..100 {
        for holder in &mut pair {
            assert!(poll_once(holder).is_pending());
        }
        assert_eq!(semaphore.in_use(), 1);
        if round > 1 {
            assert!(poll_once(&mut newcomer).is_pending(), "both have begun");
        }
    }
    drop(pair);
    assert!(matches!(poll_once(&mut newcomer), Poll::Ready(Ok(_))));
}
