//! The end of a runtime under load: whatever its tasks and other threads do just then, each future is dropped once, and nothing
//! hangs.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use shuttle::thread;

use super::rig::{Rig, dawdle};
use super::{chance, explore, pick};
use crate::handle::Handle;
use crate::wait::wait;
use crate::{JoinHandle, spawn};

const WORKERS: usize = 3;
const LIMIT: usize = 4;

/// What all tasks and threads share. No step of the runtime is taken with its locks, which are std's.
#[derive(Default)]
struct World {
    made: AtomicUsize,
    dropped: AtomicUsize,
    wakers: Mutex<Vec<Waker>>,
    handles: Mutex<Vec<JoinHandle<()>>>,
}

/// Part of each future: it is dropped once, and not while the future is polled elsewhere.
struct Part {
    world: Arc<World>,
    is_polled: AtomicBool,
    is_dropped: AtomicBool,
}

impl Part {
    fn new(world: &Arc<World>) -> Part {
        world.made.fetch_add(1, Ordering::Relaxed);
        Part { world: world.clone(), is_polled: AtomicBool::new(false), is_dropped: AtomicBool::new(false) }
    }

    /// Polls `future` as the only thread that does.
    async fn alone<T>(&self, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        poll_fn(|cx| {
            assert!(!self.is_dropped.load(Ordering::Relaxed), "polled after its drop");
            assert!(!self.is_polled.swap(true, Ordering::Relaxed), "polled by two threads at once");
            let polled = future.as_mut().poll(cx);
            self.is_polled.store(false, Ordering::Relaxed);
            polled
        })
        .await
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.is_dropped.store(true, Ordering::Relaxed);
        self.world.dropped.fetch_add(1, Ordering::Relaxed);
        // Its drop may do what any code does.
        if chance(25) {
            self.world.wake_one();
        }
    }
}

impl World {
    /// Wakes somebody, or nobody, of those who wait or waited at some time.
    fn wake_one(&self) {
        let waker = {
            let mut wakers = self.wakers.lock().unwrap();
            let at = if wakers.is_empty() { None } else { Some(pick(wakers.len())) };
            at.map(|at| if chance(50) { wakers.swap_remove(at) } else { wakers[at].clone() })
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn take_handle(&self) -> Option<JoinHandle<()>> {
        let mut handles = self.handles.lock().unwrap();
        if handles.is_empty() {
            None
        } else {
            let at = pick(handles.len());
            Some(handles.swap_remove(at))
        }
    }

    /// Waits until somebody wakes it, which may be never.
    async fn rest(&self) {
        let mut is_woken = false;
        poll_fn(|cx| {
            if std::mem::replace(&mut is_woken, true) {
                return Poll::Ready(());
            }
            self.wakers.lock().unwrap().push(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// A task that does all that a task may do, until it has had enough.
fn busy(world: Arc<World>, depth: usize) -> impl Future<Output = ()> + Send {
    let part = Part::new(&world);
    async move {
        part.alone(async {
            for _ in 0..1 + pick(3) {
                match pick(5) {
                    0 => dawdle(3).await,
                    1 => world.wake_one(),
                    2 => world.rest().await,
                    3 if depth > 0 => {
                        let spawned = boxed(&world, depth - 1).await;
                        if let Some(handle) = spawned {
                            world.handles.lock().unwrap().push(handle);
                        }
                    }
                    _ => {
                        // It joins somebody, who may wait for ever.
                        if let Some(handle) = world.take_handle() {
                            let _ended = handle.await;
                        }
                    }
                }
            }
        })
        .await;
    }
}

/// A child of its own kind.
async fn boxed(world: &Arc<World>, depth: usize) -> Option<JoinHandle<()>> {
    let child: std::pin::Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(busy(world.clone(), depth));
    spawn(child).await.ok()
}

/// What another thread does meanwhile, and after the end.
fn meddle(world: &Arc<World>, handle: Handle) {
    for _ in 0..8 {
        match pick(4) {
            0 => world.wake_one(),
            1 => drop(world.take_handle()),
            2 => {
                if let Some(handle) = world.take_handle() {
                    handle.abort();
                    if chance(50) {
                        // Aborted, it ends for certain, whoever comes first.
                        let _ended = wait(pin!(handle), None);
                    }
                }
            }
            _ => {
                let mut frame = pin!(handle.spawn(busy(world.clone(), 1)));
                if chance(50) {
                    // Left while it waits, or told.
                    let _polled = frame.as_mut().poll(&mut Context::from_waker(Waker::noop()));
                    thread::yield_now();
                } else if let Ok(task) = wait(frame, None).unwrap() {
                    world.handles.lock().unwrap().push(task);
                }
            }
        }
    }
}

pub(super) fn end_under_load() {
    let rig = Rig::new(WORKERS, LIMIT);
    let (world, handle) = (Arc::new(World::default()), rig.handle());
    let other = thread::spawn({
        let world = world.clone();
        move || meddle(&world, handle)
    });
    rig.block_on(async {
        for _ in 0..LIMIT {
            // More may wait than ever come in: nobody waits for them.
            if let Ok(task) = crate::try_spawn(busy(world.clone(), 2)) {
                world.handles.lock().unwrap().push(task);
            }
        }
        for _ in 0..pick(12) {
            world.wake_one();
            crate::yield_now().await;
        }
    });
    rig.end();
    other.join().unwrap();
    // What was asked for after the end: nobody is there to do it.
    let left: Vec<_> = std::mem::take(&mut *world.handles.lock().unwrap());
    for handle in left {
        let _ended = wait(pin!(handle), None).expect("without a deadline it waits until it is ready");
    }
    let wakers = std::mem::take(&mut *world.wakers.lock().unwrap());
    wakers.into_iter().for_each(Waker::wake);
    let (made, dropped) = (world.made.load(Ordering::Relaxed), world.dropped.load(Ordering::Relaxed));
    assert_eq!(dropped, made, "each future is dropped once");
    assert_eq!(Arc::strong_count(&world), 1, "nothing holds what the futures held");
}

#[test]
fn shuttle_the_end_under_load_drops_each_future_once() {
    // [RUNTIME-2] [SHARED-1] [SHARED-3] [DESK-3]
    explore("shuttle_the_end_under_load_drops_each_future_once", end_under_load);
}
