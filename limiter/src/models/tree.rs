//! Limits below limits, explored by loom: what comes and waits below a limiter while that one closes.
//!
//! With `ANTEROOM_BUG=tree_tells_of_its_close_last`, a child that is made between the walk and the flag stays open:
//! [LEVEL-3].

use super::*;
use crate::Limiter;

/// [LEVEL-3]: the walk finds it, or it is born closed.
#[test]
fn loom_a_child_that_is_made_while_its_parent_closes_is_closed() {
    two_threads(|| {
        let root = Limiter::new(1);
        let maker = thread::spawn({
            let root = root.clone();
            move || root.child(1).child(1)
        });
        root.close();
        assert!(maker.join().unwrap().snapshot().closed);
    });
}

/// [LEVEL-2], [LEVEL-3]: wherever it stands when the root closes, it is told, and has given back what it had.
#[test]
fn loom_close_meets_a_request_on_its_way_up() {
    two_threads(|| {
        let root = Limiter::new(1);
        let leaf = root.child(1);
        let permit = root.try_acquire().unwrap();
        let request = thread::spawn({
            let leaf = leaf.clone();
            move || block_on(leaf.acquire()).map(drop)
        });
        root.close();
        assert_eq!(request.join().unwrap(), Err(AcquireError::Closed));
        drop(permit);
        for level in [root, leaf] {
            assert_eq!(level.snapshot(), Snapshot { limit: 1, in_use: 0, waiting: 0, closed: true });
        }
    });
}

/// [LEVEL-2]: one that leaves, at the level above or granted there, while a permit comes back; the next one is served.
#[test]
fn loom_a_request_that_leaves_on_its_way_up_loses_nothing() {
    two_threads(|| {
        let root = Limiter::new(1);
        let leaf = root.child(1);
        let permit = root.try_acquire().unwrap();
        let mut leaver = leaf.acquire();
        assert!(poll_once(&mut leaver).is_pending());
        let releaser = thread::spawn(move || drop(permit));
        drop(leaver);
        drop(block_on(leaf.acquire()).unwrap());
        releaser.join().unwrap();
        for level in [root, leaf] {
            assert_eq!(level.snapshot(), Snapshot { limit: 1, in_use: 0, waiting: 0, closed: false });
        }
    });
}

/// [LEVEL-2], [LEVEL-3]: the last reference to a child goes as its parent closes and looks at it.
#[test]
fn loom_a_child_goes_as_its_parent_closes() {
    two_threads(|| {
        let root = Limiter::new(1);
        let child = root.child(1);
        let leaver = thread::spawn(move || drop(child));
        root.close();
        leaver.join().unwrap();
        assert!(root.is_closed());
    });
}
