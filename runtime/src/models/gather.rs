//! Models of what other threads can do to a gather: its wakers are all that they see of it.
//!
//! # That it checks
//! With `ANTEROOM_BUG=...` a model must fail for each of: `gather_wake_plain` (a wake that finds its bit set is no
//! read-modify-write), `gather_sleep_plain` (the owner goes to sleep without looking whether a group came), `gather_not_told`
//! (the owner does not wait for who has found it asleep to be done with its waker).

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc as StdArc;
use std::task::{Context, Poll, Waker};

use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

use super::{Bell, model, model_of_three, wait_for};
use crate::gather;

#[test]
fn loom_gather_wake_against_the_look_before_sleeping() {
    // [GATHER-4], and what was written before a wake is visible to the poll.
    model(|| {
        let data = Arc::new(AtomicUsize::new(0));
        let results = wait_for(gather([7], |item| {
            let data = data.clone();
            let mut other = None;
            poll_fn(move |cx| {
                other.get_or_insert_with(|| {
                    let (data, waker) = (data.clone(), cx.waker().clone());
                    thread::spawn(move || {
                        data.store(1, Ordering::Relaxed);
                        waker.wake();
                    })
                });
                match data.load(Ordering::Relaxed) {
                    0 => Poll::Pending,
                    _ => Poll::Ready(item),
                }
            })
        }));
        assert_eq!(results, [7]);
    });
}

#[test]
fn loom_gather_wake_of_one_that_is_woken_publishes_too() {
    // bugs.md 27
    model_of_three(|| {
        let data = Arc::new(AtomicUsize::new(0));
        let results = wait_for(gather([7], |item| {
            let data = data.clone();
            let mut others = None;
            poll_fn(move |cx| {
                others.get_or_insert_with(|| {
                    let (waker, again) = (cx.waker().clone(), cx.waker().clone());
                    let data = data.clone();
                    [
                        thread::spawn(move || waker.wake()),
                        thread::spawn(move || {
                            data.store(1, Ordering::Relaxed);
                            again.wake();
                        }),
                    ]
                });
                match data.load(Ordering::Relaxed) {
                    0 => Poll::Pending,
                    _ => Poll::Ready(item),
                }
            })
        }));
        assert_eq!(results, [7]);
    });
}

/// Two children of different groups, each of which another thread wakes; the gather is polled with two wakers meanwhile.
fn two_wakes_against_two_polls() {
    let wakers = Cell::new(Vec::new());
    let done = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
    let mut all = pin!(
        gather(0..33_usize, |item| {
            let (done, wakers) = (done.clone(), &wakers);
            let mut is_first = true;
            poll_fn(move |cx| {
                // The first and the last wait, the others fill their group.
                let which = item / 32;
                if item > 0 && which == 0 {
                    return Poll::Ready(());
                }
                if std::mem::take(&mut is_first) {
                    let mut all = wakers.take();
                    all.push(cx.waker().clone());
                    wakers.set(all);
                }
                match done[which].load(Ordering::Relaxed) {
                    0 => Poll::Pending,
                    _ => Poll::Ready(()),
                }
            })
        })
        .limit(33)
    );
    let (first, second) = (Bell::new(), Bell::new());
    let poll = |all: std::pin::Pin<&mut _>, bell: &StdArc<Bell>| {
        let waker = Waker::from(bell.clone());
        Future::poll(all, &mut Context::from_waker(&waker)).is_ready()
    };
    assert!(!poll(all.as_mut(), &first));
    let threads: Vec<_> = wakers
        .take()
        .into_iter()
        .enumerate()
        .map(|(which, waker)| {
            let done = done.clone();
            thread::spawn(move || {
                done[which].store(1, Ordering::Relaxed);
                waker.wake();
            })
        })
        .collect();
    // Whether or not somebody is taking the first waker now.
    while !poll(all.as_mut(), &second) {
        second.wait();
        // It asks to be polled again for as long as that takes.
        thread::yield_now();
    }
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn loom_gather_polled_while_it_is_being_woken() {
    // [GATHER-2] [GATHER-3]
    model_of_three(two_wakes_against_two_polls);
}

#[test]
fn loom_gather_waker_against_the_drop() {
    // [GATHER-1] [GATHER-3]: nobody touches what is gone, and the parent's waker is dropped by one of the two.
    model(|| {
        let bell = Bell::new();
        let kept = Cell::new(None);
        let mut all = Box::pin(gather([()], |()| {
            poll_fn(|cx| -> Poll<()> {
                kept.set(Some(cx.waker().clone()));
                Poll::Pending
            })
        }));
        let waker = Waker::from(bell.clone());
        assert!(all.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        drop(waker);
        let child = kept.take().unwrap();
        let other = thread::spawn(move || {
            child.wake_by_ref();
            drop(child);
        });
        drop(all);
        other.join().unwrap();
        assert_eq!(StdArc::strong_count(&bell), 1);
    });
}
