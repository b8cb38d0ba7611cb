//! Wakers are strangers: they come back, they change, they panic. And nobody is woken in vain.

#![allow(clippy::disallowed_types, reason = "a test of the public API has no other atomics")]

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Poll, RawWaker, RawWakerVTable, Wake, Waker};
use std::thread;

use anteroom_limiter::{LocalSemaphore, Semaphore, Snapshot};
use common::{Bell, block_on_counting, poll_once, poll_with};

/// A waker that does something when it is woken, and something when it is dropped.
struct Does<W: Fn() + Send + Sync, D: Fn() + Send + Sync> {
    on_wake: W,
    on_drop: D,
}

impl<W: Fn() + Send + Sync + 'static, D: Fn() + Send + Sync + 'static> Does<W, D> {
    fn waker(on_wake: W, on_drop: D) -> Waker {
        Waker::from(Arc::new(Self { on_wake, on_drop }))
    }
}

impl<W: Fn() + Send + Sync, D: Fn() + Send + Sync> Wake for Does<W, D> {
    fn wake(self: Arc<Self>) {
        (self.on_wake)();
    }
}

impl<W: Fn() + Send + Sync, D: Fn() + Send + Sync> Drop for Does<W, D> {
    fn drop(&mut self) {
        (self.on_drop)();
    }
}

/// Everything that takes the lock, or could.
fn use_everything(semaphore: &Arc<Semaphore>) {
    let limit = semaphore.limit();
    drop(semaphore.try_acquire());
    let mut acquire = semaphore.acquire_owned();
    if poll_once(&mut acquire).is_pending() {
        let _ = poll_with(&mut acquire, &Bell::new().into());
    }
    drop(acquire);
    semaphore.set_limit(limit).unwrap();
    semaphore.trim();
    let _ = (semaphore.snapshot(), format!("{semaphore:?}"));
}

/// [WAKE-1]; bugs.md 35
#[test]
fn a_waker_that_comes_back_when_woken_or_dropped_never_deadlocks() {
    let semaphore = Arc::new(Semaphore::new(1));
    let calls = Arc::new(AtomicUsize::new(0));
    let reentrant = || {
        let act = || {
            let (semaphore, calls) = (Arc::clone(&semaphore), Arc::clone(&calls));
            move || {
                calls.fetch_add(1, SeqCst);
                use_everything(&semaphore);
            }
        };
        Does::waker(act(), act())
    };
    let queue = |waker: Waker| {
        let mut acquire = semaphore.acquire();
        assert!(poll_with(&mut acquire, &waker).is_pending());
        acquire
    };

    let permit = semaphore.try_acquire().unwrap();
    let (mut replaced, cancelled, granted, told) =
        (queue(reentrant()), queue(reentrant()), queue(reentrant()), queue(reentrant()));
    assert_eq!(calls.load(SeqCst), 0);
    assert!(poll_once(&mut replaced).is_pending());
    assert_eq!(calls.load(SeqCst), 1, "dropped when it was replaced");
    drop(cancelled);
    assert_eq!(calls.load(SeqCst), 2, "dropped when it was cancelled");
    drop(replaced);
    drop(permit);
    assert_eq!(calls.load(SeqCst), 4, "woken and dropped when it was granted");
    semaphore.close();
    assert_eq!(calls.load(SeqCst), 6, "woken and dropped at the close");
    drop((granted, told));
    assert_eq!(semaphore.in_use(), 0);
}

/// [WAKE-1]; bugs.md 35: the clone, too.
#[test]
fn a_waker_that_comes_back_when_cloned_never_deadlocks() {
    thread_local! {
        static SEMAPHORE: Arc<Semaphore> = Arc::new(Semaphore::new(1));
        static CLONES: AtomicUsize = const { AtomicUsize::new(0) };
    }
    static VTABLE: RawWakerVTable = RawWakerVTable::new(
        |data| {
            CLONES.with(|clones| clones.fetch_add(1, SeqCst));
            SEMAPHORE.with(use_everything);
            RawWaker::new(data, &VTABLE)
        },
        |_| {},
        |_| {},
        |_| {},
    );
    // SAFETY: no function of the table touches the data, and all may be called from any thread at any time.
    let waker = unsafe { Waker::new(std::ptr::null(), &VTABLE) };

    let semaphore = SEMAPHORE.with(Arc::clone);
    let permit = semaphore.try_acquire().unwrap();
    let (mut first, mut second) = (semaphore.acquire(), semaphore.acquire());
    assert!(poll_with(&mut first, &waker).is_pending()); // cloned to queue
    assert!(poll_once(&mut second).is_pending());
    assert!(poll_with(&mut second, &waker).is_pending()); // cloned to replace
    assert_eq!(CLONES.with(|clones| clones.load(SeqCst)), 2);
    drop((first, second, permit));
    assert_eq!(semaphore.in_use(), 0);
}

/// A waker that releases, whose release wakes a waker that releases, and so on.
#[test]
fn a_chain_of_wakers_that_release_never_deadlocks() {
    let semaphore = Arc::new(Semaphore::new(1));
    let first = semaphore.try_acquire().unwrap();
    let woken = Arc::new(AtomicUsize::new(0));
    let mut waiters = Vec::new();
    for _ in 0..100 {
        // Each waker leaves the queue on behalf of its own future: it drops it, granted, and so serves the next.
        let slot = Arc::new(std::sync::Mutex::new(None));
        let waker = Does::waker(
            {
                let (slot, woken) = (Arc::clone(&slot), Arc::clone(&woken));
                move || {
                    woken.fetch_add(1, SeqCst);
                    let own = slot.lock().unwrap().take();
                    drop::<Option<anteroom_limiter::Acquire<Arc<Semaphore>>>>(own);
                }
            },
            || {},
        );
        let mut acquire = semaphore.acquire_owned();
        assert!(poll_with(&mut acquire, &waker).is_pending());
        *slot.lock().unwrap() = Some(acquire);
        waiters.push(slot);
    }
    drop(first);
    assert_eq!(woken.load(SeqCst), 100);
    assert_eq!(semaphore.snapshot(), Snapshot { limit: 1, in_use: 0, waiting: 0, closed: false });
}

/// [ACQUIRE-2]
#[test]
fn the_waker_of_the_latest_poll_is_the_one_that_is_woken() {
    let semaphore = Semaphore::new(1);
    let permit = semaphore.try_acquire().unwrap();
    let (early, late) = (Bell::new(), Bell::new());
    let mut acquire = semaphore.acquire();
    assert!(poll_with(&mut acquire, &Arc::clone(&early).into()).is_pending());
    assert!(poll_with(&mut acquire, &Arc::clone(&late).into()).is_pending());
    assert_eq!(Arc::strong_count(&early), 1, "nothing of the replaced waker is kept");
    drop(permit);
    assert_eq!((early.wakes(), late.wakes()), (0, 1));
}

/// [ACQUIRE-1]
#[test]
fn a_future_polled_often_has_one_place_in_the_queue() {
    let semaphore = Semaphore::new(1);
    let permit = semaphore.try_acquire().unwrap();
    let bell = Bell::new();
    let waker = Waker::from(Arc::clone(&bell));
    let mut acquire = semaphore.acquire();
    for _ in 0..100 {
        assert!(poll_with(&mut acquire, &waker).is_pending());
    }
    assert_eq!(semaphore.waiting(), 1);
    assert_eq!(Arc::strong_count(&bell), 3, "the bell, the waker, and its one clone");
    drop(permit);
    assert_eq!(bell.wakes(), 1);
}

/// [ACQUIRE-4]; bugs.md 11: no poll but the first and the one that collects, under contention from four threads.
#[test]
fn waiting_is_not_spinning() {
    let semaphore = Semaphore::new(2);
    thread::scope(|scope| {
        for weight in [1, 1, 2, 2] {
            let semaphore = &semaphore;
            scope.spawn(move || {
                for _ in 0..2_000 {
                    let (permit, polls) = block_on_counting(semaphore.acquire_many(weight));
                    assert!(polls <= 2, "{polls} polls for one permit");
                    assert_eq!(permit.unwrap().weight(), weight);
                }
            });
        }
    });
    assert_eq!(semaphore.snapshot(), Snapshot { limit: 2, in_use: 0, waiting: 0, closed: false });
}

/// [WAKE-2], [GATE-4]; bugs.md 29: more waiters than are woken under one lock, and several wakers that panic.
#[test]
fn a_waker_that_panics_keeps_nobody_from_being_served() {
    let semaphore = Semaphore::new(20);
    let all = semaphore.try_acquire_many(20).unwrap();
    let bell = Bell::new();
    let mut waiters = Vec::new();
    for number in 0..20 {
        let waker = match number {
            3 | 4 | 11 | 19 => Does::waker(move || panic!("waker {number}"), || {}),
            _ => Waker::from(Arc::clone(&bell)),
        };
        let mut acquire = semaphore.acquire();
        assert!(poll_with(&mut acquire, &waker).is_pending());
        waiters.push(acquire);
    }
    let panic = catch_unwind(AssertUnwindSafe(|| drop(all))).unwrap_err();
    assert_eq!(panic.downcast_ref::<String>().unwrap(), "waker 3", "the first is passed on");
    assert_eq!(bell.wakes(), 16);
    assert_eq!(semaphore.snapshot(), Snapshot { limit: 20, in_use: 20, waiting: 0, closed: false });
    for mut waiter in waiters {
        assert!(matches!(poll_once(&mut waiter), Poll::Ready(Ok(_))));
    }
    assert_eq!(semaphore.in_use(), 0);
}

/// bugs.md 29: two panics at once would abort the process.
#[test]
fn a_waker_that_panics_while_a_permit_is_dropped_by_a_panic_does_no_harm() {
    let semaphore = Semaphore::new(1);
    let permit = semaphore.try_acquire().unwrap();
    let mut waiter = semaphore.acquire();
    assert!(poll_with(&mut waiter, &Does::waker(|| panic!("waker"), || {})).is_pending());
    let panic = catch_unwind(AssertUnwindSafe(move || {
        let _permit = permit;
        panic!("holder");
    }));
    assert_eq!(panic.unwrap_err().downcast_ref::<&str>(), Some(&"holder"));
    assert!(matches!(poll_once(&mut waiter), Poll::Ready(Ok(_))));
    assert_eq!(semaphore.in_use(), 0);
}

/// bugs.md 29: the units are back before the waker is dropped.
#[test]
fn a_waker_that_panics_when_dropped_loses_no_units() {
    let semaphore = Semaphore::new(2);
    let _one = semaphore.try_acquire().unwrap();
    let mut heavy = semaphore.acquire_many(2);
    let mut light = semaphore.acquire();
    assert!(poll_with(&mut heavy, &Does::waker(|| {}, || panic!("drop"))).is_pending());
    assert!(poll_once(&mut light).is_pending());
    assert!(catch_unwind(AssertUnwindSafe(|| drop(heavy))).is_err());
    assert!(poll_once(&mut light).is_ready());
    assert_eq!((semaphore.in_use(), semaphore.waiting()), (1, 0));
}

/// [WAKE-3]: one that panics when it is dropped by who leaves, and one that panics when it is woken for what that leaves
/// behind, in both shells. Two panics at once would abort the process.
#[test]
fn a_waker_that_panics_when_dropped_and_one_that_panics_when_woken_are_one_panic() {
    let (shared, local) = (Semaphore::new(2), LocalSemaphore::new(2));
    let _one = (shared.try_acquire().unwrap(), local.try_acquire_many(1).unwrap());
    let (mut heavy, mut light) = (shared.acquire_many(2), shared.acquire());
    let (mut heavy_local, mut light_local) = (local.acquire_many(2), local.acquire());
    let wakers = || (Does::waker(|| {}, || panic!("drop")), Does::waker(|| panic!("wake"), || {}));

    let (dropped, woken) = wakers();
    assert!(poll_with(&mut heavy, &dropped).is_pending() && poll_with(&mut light, &woken).is_pending());
    drop(dropped); // The last one is in the queue.
    let panic = catch_unwind(AssertUnwindSafe(|| drop(heavy))).unwrap_err();
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"wake"), "the first is passed on");
    assert!(matches!(poll_once(&mut light), Poll::Ready(Ok(_))));

    let (dropped, woken) = wakers();
    assert!(poll_with(&mut heavy_local, &dropped).is_pending());
    assert!(poll_with(&mut light_local, &woken).is_pending());
    drop(dropped); // The last one is in the queue.
    let panic = catch_unwind(AssertUnwindSafe(|| drop(heavy_local))).unwrap_err();
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"wake"), "the first is passed on");
    assert!(matches!(poll_once(&mut light_local), Poll::Ready(Ok(_))));
    assert_eq!((shared.in_use(), local.snapshot().in_use), (1, 1));
}

/// [WAKE-3]: as a task that panics while it waits, whose runtime's waker panics when it is dropped.
#[test]
fn a_waker_that_panics_when_dropped_by_a_panic_does_no_harm() {
    let (shared, local) = (Semaphore::new(1), LocalSemaphore::new(1));
    let _all = (shared.try_acquire().unwrap(), local.try_acquire_many(1).unwrap());
    let (mut waiter, mut waiter_local) = (shared.acquire(), local.acquire());
    for way in ["shared", "local"] {
        let waker = Does::waker(|| {}, || panic!("waker"));
        match way {
            "shared" => assert!(poll_with(&mut waiter, &waker).is_pending()),
            _ => assert!(poll_with(&mut waiter_local, &waker).is_pending()),
        }
        drop(waker); // The last one is in the queue.
    }
    let panic = catch_unwind(AssertUnwindSafe(move || {
        let _waiters = (waiter, waiter_local);
        panic!("task");
    }));
    assert_eq!(panic.unwrap_err().downcast_ref::<&str>(), Some(&"task"));
    assert_eq!((shared.waiting(), local.snapshot().waiting), (0, 0));
}
