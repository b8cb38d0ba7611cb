//! The gate, explored by loom: interleavings, and the values that a load may see.
//!
//! # Idea
//!
//! Two threads are explored without a bound, three with at most three or four preemptions. A lost wake-up shows as a deadlock
//! (all threads parked), a lost or doubled unit in the count at the end, and a missing Acquire or Release as a stale
//! read of a `Relaxed` counter that only the holder of the one permit touches.
//!
//! Run them, in release mode, with `RUSTFLAGS="--cfg anteroom_loom" cargo test --release -p anteroom-limiter --lib loom`.
//!
//! # What proves that the models bite
//!
//! `loom_canary_*` explores a protocol that is wrong on purpose, and must fail: an empty suite cannot be green. And the
//! real code has seeded bugs. With `ANTEROOM_BUG=NAME` in the environment, the suite must
//! fail (or abort, where the bug trips an assertion inside a drop):
//!
//! | name | the bug | breaks |
//! |---|---|---|
//! | `freeze_without_second_look` | the word is frozen, but the value from before is used | [GATE-1] |
//! | `thaw_with_waiters` | FROZEN is cleared although somebody waits | [GATE-1] |
//! | `cancel_keeps_grant` | a future dropped after its grant keeps the units | [GATE-3] |
//! | `grant_once` | a release serves one waiter, however many fit | [GATE-4] |
//! | `charge_plain` | a charge is a load and a store | [GATE-1] |
//! | `rate_keys_plain` | keys are counted by a load and a store | [KEYRATE-1] |
//! | `rate_plain` | a slot is taken by a load and a store | [SLOT-1] |
//! | `memory_leaves_without_a_look` | who gives up in line does not look after those behind | [MEMORY-3] |
//! | `memory_gives_back_without_a_look` | nor does who gives back | [MEMORY-3] |
//! | `keyed_forgets_early` | the last user looks, and forgets the key without a second look | [KEYED-2] |
//! | `keyed_keeps_an_old_limit` | whoever sets a limit does not look whether it is still the newest | [KEYED-5] |
//! | `tree_tells_of_its_close_last` | a parent tells its children of its close, and then those to come | [LEVEL-3] |
//!
//! The models for those with a name before the bug's are in a file of that name, such as `models/keyed.rs`.

mod charge;
mod keyed;
mod memory;
mod rate;
mod tree;

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::task::{Context, Poll, Wake, Waker};

use loom::sync::atomic::{AtomicBool, AtomicUsize};
use loom::thread;

use crate::sync::{LOADS, Loads};
use crate::{AcquireError, Semaphore, Snapshot};

/// Explores `f` with all interleavings of its two threads.
fn two_threads(f: impl Fn() + Sync + Send + 'static) {
    explore(f, |_| None);
}

/// Explores `f` with three threads and a bound on preemptions that keeps each model within seconds.
fn three_threads(f: impl Fn() + Sync + Send + 'static) {
    explore(f, |loads| Some(if loads == Loads::HideNothing { 4 } else { 3 }));
}

/// Explores twice, because loom cannot see everything at once: [`Loads`] says what and why.
fn explore(f: impl Fn() + Sync + Send + 'static, preemption_bound: impl Fn(Loads) -> Option<usize>) {
    let f = Arc::new(f);
    for loads in [Loads::MayBeStale, Loads::HideNothing] {
        LOADS.set(loads);
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = preemption_bound(loads);
        let executions = Arc::new(Executions::default());
        builder.check({
            let (f, executions) = (Arc::clone(&f), Arc::clone(&executions));
            move || {
                executions.add();
                f();
            }
        });
        println!("{loads:?}: {} executions", executions.get());
    }
}

/// How many executions a model took: the figure behind the limits above.
#[derive(Default)]
struct Executions(std::sync::Mutex<usize>);

impl Executions {
    fn add(&self) {
        *self.0.lock().unwrap() += 1;
    }

    fn get(&self) -> usize {
        *self.0.lock().unwrap()
    }
}

struct Unpark(thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// A waker that unparks the current thread.
fn unparker() -> Waker {
    Waker::from(Arc::new(Unpark(thread::current())))
}

/// Waits for a future, and asserts that waiting is not spinning [ACQUIRE-4].
fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = unparker();
    let mut polls = 0;
    loop {
        polls += 1;
        assert!(polls <= 2, "[ACQUIRE-4]");
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// Nobody holds and nobody waits, and the fast path is open again [GATE-2].
#[track_caller]
fn assert_idle(semaphore: &Semaphore, limit: usize) {
    assert_eq!(semaphore.snapshot(), Snapshot { limit, in_use: 0, waiting: 0, closed: false });
    assert!(!semaphore.gate().word().is_frozen(), "[GATE-2]");
    assert!(semaphore.try_acquire_many(limit).is_ok());
}

/// Takes the only permit and adds one to a number that is exact only if no two do so at once, and if each sees what the
/// one before it wrote.
fn add_one_under_a_permit(semaphore: &Semaphore, number: &AtomicUsize) {
    let permit = block_on(semaphore.acquire()).unwrap();
    let seen = number.load(Relaxed);
    number.store(seen + 1, Relaxed);
    drop(permit);
}

/// [GATE-1]
#[test]
fn loom_what_is_done_under_a_permit_happens_before_the_next() {
    two_threads(|| {
        let shared = Arc::new((Semaphore::new(1), AtomicUsize::new(0)));
        let other = thread::spawn({
            let shared = Arc::clone(&shared);
            move || add_one_under_a_permit(&shared.0, &shared.1)
        });
        add_one_under_a_permit(&shared.0, &shared.1);
        other.join().unwrap();
        assert_eq!(shared.1.load(Relaxed), 2);
        assert_idle(&shared.0, 1);
    });
}

/// [GATE-1], with a third thread: releases and queueing overlap.
#[test]
fn loom_three_threads_share_one_permit() {
    three_threads(|| {
        let shared = Arc::new((Semaphore::new(1), AtomicUsize::new(0)));
        let others = [(); 2].map(|()| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || add_one_under_a_permit(&shared.0, &shared.1))
        });
        add_one_under_a_permit(&shared.0, &shared.1);
        for other in others {
            other.join().unwrap();
        }
        assert_eq!(shared.1.load(Relaxed), 3);
        assert_idle(&shared.0, 1);
    });
}

/// [GATE-3]: the release may come before the waiter queues, while it waits, or as it leaves. bugs.md 1, 7, 12
#[test]
fn loom_a_waiter_that_leaves_loses_no_unit() {
    two_threads(|| {
        let semaphore = Arc::new(Semaphore::new(1));
        let permit = semaphore.try_acquire_owned().unwrap();
        let releaser = thread::spawn(move || drop(permit));
        let mut leaver = semaphore.acquire();
        let _ = poll_once(&mut leaver).map(drop);
        drop(leaver);
        releaser.join().unwrap();
        assert_idle(&semaphore, 1);
    });
}

/// [GATE-3]: somebody waits behind the one that leaves, and only this can serve it. bugs.md 1, 3
#[test]
fn loom_a_grant_that_nobody_collects_goes_to_the_next() {
    three_threads(|| {
        let semaphore = Arc::new(Semaphore::new(1));
        let permit = semaphore.try_acquire_owned().unwrap();
        let mut leaver = semaphore.acquire();
        assert!(poll_once(&mut leaver).is_pending());
        let next = thread::spawn({
            let semaphore = Arc::clone(&semaphore);
            move || drop(block_on(semaphore.acquire()).unwrap())
        });
        let releaser = thread::spawn(move || drop(permit));
        drop(leaver); // waiting, or granted
        next.join().unwrap();
        releaser.join().unwrap();
        assert_idle(&semaphore, 1);
    });
}

/// [GATE-4]: no release follows, so only the cancellation can let the small one in. bugs.md 4
#[test]
fn loom_a_heavy_head_that_leaves_lets_the_next_in() {
    two_threads(|| {
        let semaphore = Arc::new(Semaphore::new(2));
        let permit = semaphore.try_acquire().unwrap();
        let mut heavy = semaphore.acquire_many(2);
        assert!(poll_once(&mut heavy).is_pending());
        let light = thread::spawn({
            let semaphore = Arc::clone(&semaphore);
            move || drop(block_on(semaphore.acquire()).unwrap())
        });
        drop(heavy);
        light.join().unwrap();
        drop(permit);
        assert_idle(&semaphore, 2);
    });
}

/// [GATE-4]: two waiters, one release that has room for both; with a batch of one, between two locks. bugs.md 6
#[test]
fn loom_a_release_of_two_serves_two() {
    three_threads(|| {
        let semaphore = Arc::new(Semaphore::new(2));
        let both = semaphore.try_acquire_many(2).unwrap();
        let waiters = [(); 2].map(|()| {
            let semaphore = Arc::clone(&semaphore);
            // Neither gives its permit back before both have one, so one grant would not do.
            thread::spawn(move || std::mem::forget(block_on(semaphore.acquire()).unwrap()))
        });
        drop(both);
        for waiter in waiters {
            waiter.join().unwrap();
        }
        assert_eq!(semaphore.snapshot(), Snapshot { limit: 2, in_use: 2, waiting: 0, closed: false });
    });
}

/// Nobody overtakes: the one that gave the permit back does not get it again before the one that waited.
#[test]
fn loom_a_newcomer_never_overtakes_a_waiter() {
    two_threads(|| {
        let semaphore = Arc::new(Semaphore::new(1));
        let permit = semaphore.try_acquire_owned().unwrap();
        let waker = unparker();
        let mut waiter = pin!(semaphore.acquire());
        assert!(waiter.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        let newcomer = thread::spawn({
            let semaphore = Arc::clone(&semaphore);
            move || {
                drop(permit);
                assert!(semaphore.try_acquire().is_err(), "it belongs to the waiter");
            }
        });
        let permit = block_on(waiter).unwrap();
        newcomer.join().unwrap();
        drop(permit);
        assert_idle(&semaphore, 1);
    });
}

/// [ACQUIRE-2]: the waker is exchanged while the grant calls it.
#[test]
fn loom_the_waker_of_the_latest_poll_is_woken() {
    two_threads(|| {
        let semaphore = Arc::new(Semaphore::new(1));
        let permit = semaphore.try_acquire_owned().unwrap();
        let mut waiter = semaphore.acquire();
        assert!(poll_once(&mut waiter).is_pending()); // with a waker that wakes nobody
        let releaser = thread::spawn(move || drop(permit));
        drop(block_on(waiter).unwrap());
        releaser.join().unwrap();
        assert_idle(&semaphore, 1);
    });
}

/// Close meets a waiter that is about to queue, and a release. bugs.md 9
#[test]
fn loom_close_leaves_nobody_waiting() {
    three_threads(|| {
        let semaphore = Arc::new(Semaphore::new(1));
        let permit = semaphore.try_acquire_owned().unwrap();
        let waiter = thread::spawn({
            let semaphore = Arc::clone(&semaphore);
            move || match block_on(semaphore.acquire()) {
                Ok(permit) => drop(permit), // granted before the close
                Err(error) => assert_eq!(error, AcquireError::Closed),
            }
        });
        let releaser = thread::spawn(move || drop(permit));
        semaphore.close();
        assert!(semaphore.try_acquire().is_err());
        waiter.join().unwrap();
        releaser.join().unwrap();
        assert_eq!(semaphore.snapshot(), Snapshot { limit: 1, in_use: 0, waiting: 0, closed: true });
    });
}

/// Closing is a message: who is told of it sees what the closer did before, however it is told.
fn who_is_told_closed_sees_what_came_before(permits_left: usize) {
    let shared = Arc::new((Semaphore::new(2), AtomicUsize::new(0)));
    let held = shared.0.try_acquire_many(2 - permits_left).unwrap();
    let closer = thread::spawn({
        let shared = Arc::clone(&shared);
        move || {
            shared.1.store(1, Relaxed);
            shared.0.close();
        }
    });
    match block_on(shared.0.acquire()) {
        Ok(_) => assert!(permits_left > 0, "before the close"),
        Err(error) => {
            assert_eq!(error, AcquireError::Closed);
            assert_eq!(shared.1.load(Relaxed), 1);
        }
    }
    closer.join().unwrap();
    drop(held);
}

/// Told by the first load, or in the queue.
#[test]
fn loom_who_waits_and_is_told_closed_sees_what_came_before() {
    two_threads(|| who_is_told_closed_sees_what_came_before(0));
}

/// Told by the swap that fails.
#[test]
fn loom_who_fails_to_swap_and_is_told_closed_sees_what_came_before() {
    two_threads(|| who_is_told_closed_sees_what_came_before(1));
}

/// Two waiters are told, between two locks, and one of them leaves meanwhile.
#[test]
fn loom_close_meets_a_waiter_that_leaves() {
    two_threads(|| {
        let semaphore = Arc::new(Semaphore::new(1));
        let permit = semaphore.try_acquire().unwrap();
        let (mut first, mut second) = (semaphore.acquire(), semaphore.acquire());
        assert!(poll_once(&mut first).is_pending() && poll_once(&mut second).is_pending());
        let closer = thread::spawn({
            let semaphore = Arc::clone(&semaphore);
            move || semaphore.close()
        });
        drop(first);
        assert!(matches!(block_on(second), Err(AcquireError::Closed)));
        closer.join().unwrap();
        drop(permit);
        assert_eq!(semaphore.snapshot(), Snapshot { limit: 1, in_use: 0, waiting: 0, closed: true });
    });
}

/// A shrink and a growth meet fast releases and a waiter: no debt is lost, none is invented. bugs.md 16, 17
#[test]
fn loom_resizes_meet_releases_and_keep_the_debt() {
    three_threads(|| {
        let semaphore = Arc::new(Semaphore::new(2));
        let permits = [(); 2].map(|()| semaphore.try_acquire_owned().unwrap());
        let releasers = permits.map(|permit| thread::spawn(move || drop(permit)));
        semaphore.set_limit(1).unwrap();
        let permit = block_on(semaphore.acquire()).unwrap();
        assert!(semaphore.try_acquire().is_err(), "one of one is in use");
        semaphore.set_limit(2).unwrap();
        for releaser in releasers {
            releaser.join().unwrap();
        }
        drop(permit);
        assert_idle(&semaphore, 2);
    });
}

/// [GATE-4]: no release follows, so only the growth can serve the waiter.
#[test]
fn loom_growth_serves_a_waiter() {
    two_threads(|| {
        let semaphore = Arc::new(Semaphore::new(1));
        let permit = semaphore.try_acquire().unwrap();
        let waiter = thread::spawn({
            let semaphore = Arc::clone(&semaphore);
            move || drop(block_on(semaphore.acquire()).unwrap())
        });
        semaphore.set_limit(2).unwrap();
        waiter.join().unwrap();
        drop(permit);
        assert_idle(&semaphore, 2);
    });
}

/// All four numbers are of one instant: nobody is seen waiting beside a free permit.
#[test]
fn loom_a_snapshot_is_of_one_instant() {
    three_threads(|| {
        let semaphore = Arc::new(Semaphore::new(1));
        let others = [(); 2].map(|()| {
            let semaphore = Arc::clone(&semaphore);
            thread::spawn(move || drop(block_on(semaphore.acquire()).unwrap()))
        });
        let Snapshot { limit, in_use, waiting, closed } = semaphore.snapshot();
        assert_eq!((limit, closed), (1, false));
        assert!(in_use <= 1 && (waiting == 0 || in_use == 1), "{in_use} in use, {waiting} waiting");
        for other in others {
            other.join().unwrap();
        }
        assert_idle(&semaphore, 1);
    });
}

/// The canary: a flag that is set without a second look, as in the first draft of many a semaphore. The release slips in
/// between, sees no flag, and the waiter parks beside a free permit.
#[test]
#[should_panic(expected = "deadlock")]
fn loom_canary_queueing_without_a_second_look_loses_the_wake_up() {
    two_threads(|| {
        let shared = Arc::new((AtomicBool::new(false), AtomicBool::new(false))); // (free, somebody waits)
        let waiter = thread::current();
        let releaser = thread::spawn({
            let shared = Arc::clone(&shared);
            move || {
                shared.0.store(true, SeqCst);
                if shared.1.load(SeqCst) {
                    waiter.unpark();
                }
            }
        });
        if !shared.0.load(SeqCst) {
            shared.1.store(true, SeqCst);
            thread::park();
        }
        releaser.join().unwrap();
    });
}
