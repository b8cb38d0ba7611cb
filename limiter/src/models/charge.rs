//! What a holder does after its grant, explored by loom: it is charged, it shrinks, it goes away for a while and comes back.
//!
//! With `ANTEROOM_BUG=charge_plain` (a load and a store where the charge is one swap) a model must fail.

use std::future::ready;

use super::*;

/// Both are counted, whatever came between.
#[test]
fn loom_a_charge_meets_a_release() {
    two_threads(|| {
        let semaphore = Arc::new(Semaphore::new(3));
        let permit = semaphore.try_acquire_owned().unwrap();
        let mut other = semaphore.try_acquire().unwrap();
        let releaser = thread::spawn(move || drop(permit));
        assert_eq!(other.charge(2), 2);
        releaser.join().unwrap();
        assert_eq!(semaphore.in_use(), 3);
        drop(other);
        assert_idle(&semaphore, 3);
    });
}

/// Who is granted is granted when the debt is paid, and not before.
#[test]
fn loom_a_debt_is_paid_before_the_next_is_granted() {
    two_threads(|| {
        let semaphore = Arc::new(Semaphore::new(2));
        let mut permit = semaphore.try_acquire_owned().unwrap();
        let holder = thread::spawn(move || {
            permit.charge(3);
            permit.shrink(2); // two are left: all that there is
            drop(permit);
        });
        let next = block_on(semaphore.acquire_many(2)).unwrap();
        assert_eq!(semaphore.in_use(), 2, "it was granted beside a debt");
        drop(next);
        holder.join().unwrap();
        assert_idle(&semaphore, 2);
    });
}

/// [SUSPEND-1], [GATE-1]: the one that comes back and the one whom it let in.
#[test]
fn loom_who_comes_back_meets_a_release() {
    two_threads(|| {
        let shared = Arc::new((Semaphore::new(1), AtomicUsize::new(0)));
        let mut permit = shared.0.try_acquire().unwrap();
        let other = thread::spawn({
            let shared = Arc::clone(&shared);
            move || add_one_under_a_permit(&shared.0, &shared.1)
        });
        block_on(permit.suspend(ready(())));
        assert_eq!(permit.weight(), 1);
        let seen = shared.1.load(Relaxed);
        shared.1.store(seen + 1, Relaxed);
        drop(permit);
        other.join().unwrap();
        assert_eq!(shared.1.load(Relaxed), 2);
        assert_idle(&shared.0, 1);
    });
}

/// [SUSPEND-2]: it was admitted, and comes back through a gate that was closed meanwhile.
#[test]
fn loom_who_comes_back_meets_a_close_and_a_release() {
    three_threads(|| {
        let semaphore = Arc::new(Semaphore::new(1));
        let mut permit = semaphore.try_acquire_owned().unwrap();
        let closer = thread::spawn({
            let semaphore = Arc::clone(&semaphore);
            move || semaphore.close()
        });
        let other = thread::spawn({
            let semaphore = Arc::clone(&semaphore);
            move || drop(block_on(semaphore.acquire()))
        });
        block_on(permit.suspend(ready(())));
        assert_eq!((permit.weight(), semaphore.in_use()), (1, 1));
        drop(permit);
        closer.join().unwrap();
        other.join().unwrap();
        assert_eq!(semaphore.snapshot(), Snapshot { limit: 1, in_use: 0, waiting: 0, closed: true });
    });
}

/// [GATE-3], of one that leaves while it comes back: waiting, or granted.
#[test]
fn loom_who_leaves_on_the_way_back_loses_no_unit() {
    two_threads(|| {
        let semaphore = Arc::new(Semaphore::new(1));
        let mut permit = semaphore.try_acquire().unwrap();
        let other = thread::spawn({
            let semaphore = Arc::clone(&semaphore);
            move || drop(block_on(semaphore.acquire()).unwrap())
        });
        {
            let mut back = Box::pin(permit.suspend(ready(())));
            let _ = poll_once(&mut back);
        }
        drop(permit);
        other.join().unwrap();
        assert_idle(&semaphore, 1);
    });
}
