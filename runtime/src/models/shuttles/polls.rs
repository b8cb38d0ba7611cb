//! Polls that take as long as they like: while one worker is left, everything else goes on, tasks and events alike.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, Waker};

use shuttle::sync::{Condvar, Mutex};
use shuttle::thread;

use super::rig::{Device, Rig, dawdle};
use super::{chance, explore, pick};
use crate::{JoinHandle, spawn};

const WORKERS: usize = 3;

/// How many tasks there are that do not block.
const TASKS: usize = 8;

/// Which all others must pass before a long poll ends.
#[derive(Default)]
struct Gate {
    passed: Mutex<usize>,
    condvar: Condvar,
}

impl Gate {
    fn pass(&self) {
        *self.passed.lock().unwrap() += 1;
        self.condvar.notify_all();
    }

    /// Blocks this thread.
    fn wait(&self) {
        let mut passed = self.passed.lock().unwrap();
        while *passed < TASKS {
            passed = self.condvar.wait(passed).unwrap();
        }
    }
}

/// Someone who waits for an event.
struct Wanted(std::sync::Mutex<(bool, Option<Waker>)>);

impl Wanted {
    async fn event(&self) {
        poll_fn(|cx| {
            let mut wanted = self.0.lock().unwrap();
            wanted.1 = Some(cx.waker().clone());
            if wanted.0 { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// It happens, whether or not somebody waits for it by now.
    fn happens(&self, device: &Device) {
        let waker = {
            let mut wanted = self.0.lock().unwrap();
            wanted.0 = true;
            wanted.1.take()
        };
        if let Some(waker) = waker {
            device.happens(waker);
        }
    }
}

/// Has children, and waits for an event, while others sit in their polls.
async fn quick(gate: Arc<Gate>, wanted: Arc<Wanted>) {
    dawdle(3).await;
    wanted.event().await;
    let child = spawn(dawdle(3)).await.unwrap();
    dawdle(2).await;
    child.await.unwrap();
    gate.pass();
}

/// One of its polls takes until all others have passed. Before that it may wait for an event of its own, which then a worker
/// brings that was to look out for those of others; and it may have one of the others as its child, whose header then stands
/// in the ring of the worker that it keeps.
async fn long(gate: Arc<Gate>, wanted: Option<Arc<Wanted>>, child: Option<(Arc<Gate>, Arc<Wanted>)>) {
    dawdle(3).await;
    if let Some(wanted) = wanted {
        wanted.event().await;
    }
    let child = match child {
        Some((gate, wanted)) => Some(spawn(quick(gate, wanted)).await.unwrap()),
        None => None,
    };
    gate.wait();
    if let Some(child) = child {
        child.await.unwrap();
    }
}

pub(super) fn long_polls() {
    let rig = Rig::with_time(WORKERS, 2 * TASKS + WORKERS);
    let (gate, device) = (Arc::new(Gate::default()), rig.device());
    let want = |_| Arc::new(Wanted(std::sync::Mutex::new((false, None))));
    let mut wanted: Vec<_> = (0..TASKS + WORKERS).map(want).collect();
    let other = thread::spawn({
        let mut wanted = wanted.clone();
        move || {
            while !wanted.is_empty() {
                wanted.swap_remove(pick(wanted.len())).happens(&device);
                for _ in 0..pick(8) {
                    thread::yield_now();
                }
            }
        }
    });
    let mut wanted_by_long = wanted.split_off(TASKS);
    rig.block_on(async {
        let mut handles: Vec<JoinHandle<()>> = Vec::new();
        let mut left = wanted;
        // All workers but one.
        let mut longs = WORKERS - 1;
        while longs > 0 || !left.is_empty() {
            let is_long = left.is_empty() || longs > 0 && chance(30);
            let child =
                if is_long && chance(50) { left.pop() } else { None }.map(|wanted| (gate.clone(), wanted));
            handles.push(if is_long {
                longs -= 1;
                let own = wanted_by_long.pop().filter(|_| chance(70));
                spawn(long(gate.clone(), own, child)).await.unwrap()
            } else {
                let Some(wanted) = left.pop() else { continue };
                spawn(quick(gate.clone(), wanted)).await.unwrap()
            });
            if chance(20) {
                thread::yield_now();
            }
        }
        while !handles.is_empty() {
            handles.swap_remove(pick(handles.len())).await.unwrap();
        }
    });
    other.join().unwrap();
    rig.drain();
}

#[test]
fn shuttle_while_one_worker_is_left_long_polls_strand_nothing() {
    // [STEAL-2] [IDLE-4], bugs.md 30, 31
    explore("shuttle_while_one_worker_is_left_long_polls_strand_nothing", long_polls);
}
