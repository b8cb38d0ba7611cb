//! Warm limits allocate nothing: to be admitted, to climb a tree, to take several at once; and a key that is gone gives all back.

mod common;
mod counting;

use std::future::ready;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use anteroom_limiter::{All, Keyed, Limiter, Semaphore};
use common::poll_once;
use counting::{allocations, live};

#[test]
fn warm_limits_allocate_nothing_and_a_key_that_is_gone_gives_all_back() {
    // To be admitted, with room and in the queue of each level.
    let whole = Limiter::new(1);
    let tenant = whole.child(1);
    let admissions = || {
        let held = whole.try_acquire().unwrap();
        let mut at_the_whole = tenant.admit(ready(1));
        let mut at_the_tenant = tenant.admit(ready(2));
        assert!(poll_once(&mut at_the_whole).is_pending() && poll_once(&mut at_the_tenant).is_pending());
        drop(held);
        let mut cx = Context::from_waker(Waker::noop());
        for mut admit in [at_the_whole, at_the_tenant] {
            let Poll::Ready(Ok(admitted)) = poll_once(&mut admit) else { panic!("it is its turn") };
            assert!(pin!(admitted).poll(&mut cx).is_ready());
        }
    };
    assert!(allocations(admissions) > 0, "the counter counts");
    assert_eq!(allocations(|| (0..100).for_each(|_| admissions())), 0);

    // Several at once.
    let [a, b] = &[(); 2].map(|()| Semaphore::new(1));
    let both = || {
        let held = b.try_acquire().unwrap();
        let mut all = All((b, a)).acquire();
        assert!(poll_once(&mut all).is_pending());
        drop(held);
        assert!(poll_once(&mut all).is_ready());
    };
    both();
    assert_eq!(allocations(|| (0..100).for_each(|_| both())), 0);

    // A key in use is found without one; one that is gone leaves none, however many there were.
    let hosts = Keyed::new(2);
    let before = live();
    let kept = hosts.try_acquire(0).unwrap();
    assert_eq!(allocations(|| drop(hosts.try_acquire(0).unwrap())), 0);
    let many: Vec<_> = (1..10_000).map(|host| hosts.try_acquire(host).unwrap()).collect();
    assert!(live() - before > 10_000 * 64);
    drop(many);
    drop(kept);
    let left = live() - before;
    // One node of the tree, which is empty.
    assert!(left < 512, "{left} bytes are left of keys that nobody uses");
}
