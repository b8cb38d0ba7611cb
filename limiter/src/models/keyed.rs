//! The map of keys, explored by loom: the last who goes meets the first who comes.
//!
//! What goes wrong there shows in two ways: two threads under "the one" permit of a key, whose sum is then short, and a key
//! that is still in the map, or was taken out twice, when all have gone.
//!
//! With `ANTEROOM_BUG=keyed_forgets_early`, whoever goes last looks, gives the lock up, and forgets the key without
//! a second look: [KEYED-1], [KEYED-2]. With `"keyed_keeps_an_old_limit"`, whoever sets one does not see that another was
//! set meanwhile: [KEYED-5].

use super::*;
use crate::{Keyed, KeyedError};

const KEY: u8 = 7;

/// Takes the only permit of the key and adds one to a number that is exact only if no two do so at once [KEYED-1].
fn add_one_under_a_permit(keyed: &Keyed<u8>, number: &AtomicUsize) {
    let permit = block_on(keyed.acquire(KEY)).unwrap();
    let seen = number.load(Relaxed);
    number.store(seen + 1, Relaxed);
    drop(permit);
}

/// [KEYED-1], [KEYED-2]: between the two, the key may be forgotten and made anew.
#[test]
fn loom_a_key_that_comes_and_goes_has_one_limit() {
    two_threads(|| {
        let shared = Arc::new((Keyed::new(1), AtomicUsize::new(0)));
        let other = thread::spawn({
            let shared = Arc::clone(&shared);
            move || add_one_under_a_permit(&shared.0, &shared.1)
        });
        add_one_under_a_permit(&shared.0, &shared.1);
        other.join().unwrap();
        assert_eq!(shared.1.load(Relaxed), 2);
        assert!(shared.0.is_empty());
    });
}

/// [KEYED-1], with a third thread: while the first two hand the key on, somebody comes.
#[test]
fn loom_three_threads_share_one_key() {
    three_threads(|| {
        let shared = Arc::new((Keyed::new(1), AtomicUsize::new(0)));
        let others = [(); 2].map(|()| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || add_one_under_a_permit(&shared.0, &shared.1))
        });
        add_one_under_a_permit(&shared.0, &shared.1);
        for other in others {
            other.join().unwrap();
        }
        assert_eq!(shared.1.load(Relaxed), 3);
        assert!(shared.0.is_empty());
    });
}

/// [KEYED-2]: the one that waits leaves as the permit goes: whoever is last, the key is forgotten once, and the next one
/// finds all of its limit.
#[test]
fn loom_a_waiter_that_leaves_and_a_permit_that_goes_forget_the_key_once() {
    two_threads(|| {
        let keyed = Keyed::new(1);
        let permit = keyed.try_acquire(KEY).unwrap();
        let mut leaver = keyed.acquire(KEY);
        assert!(poll_once(&mut leaver).is_pending());
        let releaser = thread::spawn(move || drop(permit));
        drop(leaver);
        releaser.join().unwrap();
        assert!(keyed.is_empty());
        assert!(keyed.try_acquire(KEY).is_ok());
    });
}

/// A close meets one who comes: it is told, or was served before; nobody waits for ever.
#[test]
fn loom_close_meets_a_key_that_comes() {
    two_threads(|| {
        let keyed = Keyed::new(1);
        let permit = keyed.try_acquire(KEY).unwrap();
        let comer = thread::spawn({
            let keyed = keyed.clone();
            move || block_on(keyed.acquire(KEY)).map(drop)
        });
        keyed.close();
        drop(permit);
        assert_eq!(comer.join().unwrap(), Err(KeyedError::Closed));
        assert!(keyed.is_empty());
    });
}

/// [KEYED-5]: two limits are set at once, over a key that is there: it ends with the one that the whole has.
#[test]
fn loom_two_limits_at_once_end_as_one() {
    two_threads(|| {
        let keyed = Keyed::new(1);
        let held = keyed.try_acquire(KEY).unwrap();
        let setter = thread::spawn({
            let keyed = keyed.clone();
            move || keyed.set_limit(2).unwrap()
        });
        keyed.set_limit(3).unwrap();
        setter.join().unwrap();
        let more: Vec<_> = (0..3).map_while(|_| keyed.try_acquire(KEY).ok()).collect();
        assert_eq!(more.len() + 1, keyed.limit());
        drop((more, held));
    });
}
