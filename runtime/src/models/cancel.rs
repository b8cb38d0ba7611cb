//! Loom models of a token that is cancelled while another thread does something with it.
//!
//! With `ANTEROOM_BUG=...` a model must fail for each of: `cancel_no_second_look` (a waiter that does not look at
//! the flag inside the line), `cancel_sets_plainly` (a flag without an order).

use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;

use super::{model, model_of_three, poll_once, wait_for};
use crate::CancellationToken;

#[test]
fn loom_cancel_against_the_first_poll_of_a_waiter() {
    // [CANCEL-2]: a lost wake would wait here for ever.
    model(|| {
        let parent = CancellationToken::new();
        let child = parent.child_token();
        let other = thread::spawn(move || parent.cancel());
        wait_for(child.cancelled());
        other.join().unwrap();
    });
}

#[test]
fn loom_cancel_against_a_waiter_that_leaves_and_comes_again() {
    // [CANCEL-2]
    model(|| {
        let token = CancellationToken::new();
        let other = thread::spawn({
            let token = token.clone();
            move || token.cancel()
        });
        {
            let mut cancelled = std::pin::pin!(token.cancelled());
            let _either = poll_once(cancelled.as_mut());
        }
        wait_for(token.cancelled());
        other.join().unwrap();
    });
}

#[test]
fn loom_who_sees_a_token_cancelled_sees_those_below_it_cancelled() {
    // [CANCEL-1]
    model(|| {
        let parent = CancellationToken::new();
        let child = parent.child_token();
        // Loom remembers one last access of an atomic. Of the parent's flag that is the look of `cancel` itself, so that alone
        // it would not have this thread's look come late: another atomic, without an order of its own, makes it.
        let over = Arc::new(AtomicBool::new(false));
        let other = thread::spawn({
            let (parent, over) = (parent.clone(), over.clone());
            move || {
                parent.cancel();
                over.store(true, Ordering::Relaxed);
            }
        });
        if over.load(Ordering::Relaxed) && parent.is_cancelled() {
            assert!(child.is_cancelled());
        }
        other.join().unwrap();
    });
}

#[test]
fn loom_a_token_is_not_cancelled_before_those_below_it() {
    // [CANCEL-1], the steps of it.
    model(|| {
        let parent = CancellationToken::new();
        let child = parent.child_token();
        let other = thread::spawn({
            let parent = parent.clone();
            move || parent.cancel()
        });
        while !parent.is_cancelled() {
            thread::yield_now();
        }
        assert!(child.is_cancelled());
        other.join().unwrap();
    });
}

#[test]
fn loom_cancel_against_a_child_that_is_made_and_one_that_is_dropped() {
    // [CANCEL-4]
    model_of_three(|| {
        let root = CancellationToken::new();
        let middle = root.child_token();
        let leaf = middle.child_token();
        let others = [
            thread::spawn({
                let root = root.clone();
                move || root.cancel()
            }),
            thread::spawn(move || {
                let made = middle.child_token();
                drop(middle);
                wait_for(made.cancelled());
            }),
        ];
        drop(leaf);
        for other in others {
            other.join().unwrap();
        }
        assert!(root.child_token().is_cancelled());
    });
}
