//! Tasks that yield, wake each other and join each other: nobody is lost, and every output comes back.

use std::future::poll_fn;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};

use super::rig::{Rig, dawdle};
use super::{chance, explore, pick};
use crate::{JoinHandle, spawn};

const WORKERS: usize = 4;
const TASKS: usize = 32;

/// Where one task waits for another. The lock is std's: no step within it matters to anybody.
#[derive(Default)]
pub(super) struct Mailbox(Mutex<(usize, Option<Waker>)>);

impl Mailbox {
    pub(super) fn put(&self) {
        let waker = {
            let mut mail = self.0.lock().unwrap();
            mail.0 += 1;
            // Some are woken more than once.
            if chance(50) { mail.1.take() } else { mail.1.clone() }
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub(super) async fn take(&self, letters: usize) {
        poll_fn(|cx| {
            let mut mail = self.0.lock().unwrap();
            if mail.0 >= letters {
                return Poll::Ready(());
            }
            mail.1 = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// One of a ring of tasks: it writes to the next, and to one anywhere, waits for a letter from the one before, and joins who was
/// given to it. Its output tells how many it knows of.
async fn member(number: usize, boxes: Arc<[Mailbox]>, joins: Option<JoinHandle<usize>>) -> usize {
    dawdle(3).await;
    boxes[(number + 1) % boxes.len()].put();
    dawdle(3).await;
    boxes[pick(boxes.len())].put();
    boxes[number].take(1).await;
    match joins {
        Some(other) => 1 + other.await.unwrap(),
        None => 1,
    }
}

pub(super) fn ring_of_tasks() {
    let rig = Rig::new(WORKERS, TASKS);
    let known = rig.block_on(async {
        let boxes: Arc<[Mailbox]> = (0..TASKS).map(|_| Mailbox::default()).collect();
        let mut handles: Vec<JoinHandle<usize>> = Vec::new();
        for number in 0..TASKS {
            // Some are joined by a later task, the others here.
            let joins = if chance(50) && !handles.is_empty() {
                Some(handles.swap_remove(pick(handles.len())))
            } else {
                None
            };
            handles.push(spawn(member(number, boxes.clone(), joins)).await.unwrap());
        }
        let mut known = 0;
        while !handles.is_empty() {
            known += handles.swap_remove(pick(handles.len())).await.unwrap();
        }
        known
    });
    assert_eq!(known, TASKS);
    assert!(rig.drain() <= TASKS);
}

#[test]
fn shuttle_tasks_that_wake_and_join_each_other_all_end() {
    // [STEAL-1] [SHARED-2] [IDLE-1]
    explore("shuttle_tasks_that_wake_and_join_each_other_all_end", ring_of_tasks);
}
