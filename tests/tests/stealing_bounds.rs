//! The bounds of a work-stealing runtime are of all its workers together, and exact.

#![allow(
    clippy::async_yields_async,
    clippy::type_complexity,
    reason = "handles go from one block_on to another"
)]

use std::future::{pending, ready};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::thread;
use std::time::Duration;

use anteroom::{
    Builder, SpawnError, StealingRuntime, TaskGroup, metrics, reserve, spawn, spawn_service, spawn_with,
    time, try_spawn, yield_now,
};
use anteroom_tests::{Counting, Endless, Gate, Hooks, allocations, or_abort, park_on, poll_once, poll_with};

#[global_allocator]
static COUNTING: Counting = Counting;

fn runtime(tasks: usize, workers: usize) -> Arc<StealingRuntime> {
    Arc::new(Builder::new().max_tasks(tasks).build_stealing(workers).unwrap())
}

/// How many futures of tasks there are, and how many there ever were at once.
#[derive(Default)]
struct Live {
    now: AtomicUsize,
    peak: AtomicUsize,
    done: AtomicUsize,
}

impl Live {
    /// A task's future, counted from its first poll until it is dropped, which takes a few polls.
    async fn counted(self: Arc<Self>, yields: usize) {
        struct Counted(Arc<Live>);
        impl Drop for Counted {
            fn drop(&mut self) {
                self.0.now.fetch_sub(1, Ordering::SeqCst);
                self.0.done.fetch_add(1, Ordering::SeqCst);
            }
        }
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.peak.fetch_max(now, Ordering::SeqCst);
        let _counted = Counted(self);
        for _ in 0..yields {
            yield_now().await;
        }
    }
}

#[test]
fn never_more_tasks_are_live_than_may_be_whoever_spawns_them() {
    or_abort(|| {
        const EACH: usize = 400;
        for workers in 1..=4 {
            for tasks in [1, 2, 7] {
                let runtime = runtime(tasks, workers);
                let live = Arc::new(Live::default());
                thread::scope(|scope| {
                    for number in 0..6 {
                        let (runtime, live) = (runtime.clone(), live.clone());
                        scope.spawn(move || {
                            let handle = runtime.handle();
                            let counted = move |n: usize| live.clone().counted(n % 3);
                            match number {
                                // In block_on, on two threads.
                                0 | 1 => runtime.block_on(async {
                                    for n in 0..EACH {
                                        drop(spawn(counted(n)).await.unwrap());
                                    }
                                }),
                                2 => {
                                    for n in 0..EACH {
                                        drop(handle.spawn_wait(counted(n)).unwrap());
                                    }
                                }
                                3 => park_on(async {
                                    for n in 0..EACH {
                                        drop(handle.spawn(counted(n)).await.unwrap());
                                    }
                                }),
                                4 => runtime.block_on(async {
                                    for n in 0..EACH {
                                        let counted = counted.clone();
                                        match n % 3 {
                                            0 => drop(reserve().await.unwrap().spawn(counted(n)).unwrap()),
                                            1 => drop(spawn_with(move || counted(n)).await.unwrap()),
                                            _ => drop(try_spawn(counted(n))),
                                        }
                                    }
                                }),
                                _ => runtime.block_on(async {
                                    let group = TaskGroup::with_limit(3);
                                    for n in 0..EACH {
                                        group.spawn(counted(n)).await.unwrap();
                                    }
                                }),
                            }
                        });
                    }
                });
                park_on(async { runtime.handle().drain_wait(Duration::from_secs(60)).unwrap() });
                assert!(live.peak.load(Ordering::SeqCst) <= tasks, "{live:?}", live = live.peak);
                assert_eq!(live.now.load(Ordering::SeqCst), 0);
                assert!(live.done.load(Ordering::SeqCst) >= 4 * EACH);
                let metrics = runtime.metrics();
                assert_eq!((metrics.tasks_live, metrics.task_bytes, metrics.waiting), (0, 0, 0));
                assert!(metrics.tasks_live_peak <= tasks);
            }
        }
    });
}

#[test]
fn tasks_that_spawn_on_all_workers_share_one_limit() {
    or_abort(|| {
        for workers in 2..=4 {
            let runtime = runtime(10, workers);
            let live = Arc::new(Live::default());
            runtime.block_on(async {
                let spawners = (0..4).map(|_| {
                    let live = live.clone();
                    spawn_service(async move {
                        let mut handles = Vec::new();
                        for n in 0..1_000 {
                            handles.push(spawn(live.clone().counted(n % 4)).await.unwrap());
                        }
                        for handle in handles {
                            handle.await.unwrap();
                        }
                    })
                    .unwrap()
                });
                for spawner in spawners.collect::<Vec<_>>() {
                    spawner.await.unwrap();
                }
            });
            assert_eq!(live.done.load(Ordering::SeqCst), 4_000);
            assert!(live.peak.load(Ordering::SeqCst) <= 10);
            assert_eq!(runtime.metrics().tasks_live_peak, 10);
        }
    });
}

#[test]
fn bytes_are_those_of_all_live_futures_exactly() {
    or_abort(|| {
        for workers in 2..=4 {
            let builder = Builder::new().max_tasks(100).max_task_bytes(10_000);
            let runtime = Arc::new(builder.build_stealing(workers).unwrap());
            let (bytes, peak) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
            thread::scope(|scope| {
                for number in 0..3_usize {
                    let (runtime, bytes, peak) = (&runtime, &bytes, &peak);
                    scope.spawn(move || {
                        runtime.block_on(async {
                            for n in 0..600 {
                                let (bytes, peak) = (bytes.clone(), peak.clone());
                                let declared = (n * 7 + number * 1_000) % 3_000;
                                let task = async move {
                                    let now = bytes.fetch_add(declared, Ordering::SeqCst) + declared;
                                    peak.fetch_max(now, Ordering::SeqCst);
                                    yield_now().await;
                                    bytes.fetch_sub(declared, Ordering::SeqCst);
                                };
                                drop(spawn(task).heap(declared).await.unwrap());
                            }
                        });
                    });
                }
            });
            runtime.handle().drain_wait(Duration::from_secs(60)).unwrap();
            assert!(peak.load(Ordering::SeqCst) <= 10_000);
            assert_eq!(runtime.metrics().task_bytes, 0);
        }
    });
}

#[test]
fn a_future_too_large_is_refused_and_comes_back() {
    or_abort(|| {
        let runtime = Builder::new().max_tasks(2).max_task_bytes(1_000).build_stealing(2).unwrap();
        runtime.block_on(async {
            let holder = try_spawn(Endless::<600>::NEW).unwrap();
            assert_eq!(metrics().task_bytes, 600);
            let error = try_spawn(Endless::<500>::NEW).unwrap_err();
            assert!(error.is_full());
            assert_eq!(error.into_future().0.len(), 500);
            assert_eq!(spawn(Endless::<1_001>::NEW).await.unwrap_err(), SpawnError::ExceedsLimit);
            let second = try_spawn(Endless::<400>::NEW).unwrap();
            assert_eq!(metrics().task_bytes, 1_000);
            let error = try_spawn(ready(())).unwrap_err();
            assert!(error.is_full());
            error.into_future().await;
            holder.abort();
            second.abort();
            assert!(holder.await.unwrap_err().is_cancelled());
            assert!(second.await.unwrap_err().is_cancelled());
        });
        runtime.handle().drain_wait(Duration::from_secs(60)).unwrap();
        assert_eq!(runtime.metrics().task_bytes, 0);
        runtime.block_on(async {
            let error = try_spawn(ready(7)).unwrap_err();
            assert!(error.is_closed());
            assert_eq!(error.into_future().await, 7);
        });
    });
}

#[test]
fn services_have_a_budget_of_their_own() {
    or_abort(|| {
        for workers in 1..=3 {
            let runtime = Builder::new().max_tasks(1).service_tasks(3).build_stealing(workers).unwrap();
            runtime.block_on(async {
                let _holder = spawn(pending::<()>()).await.unwrap();
                let refused = Arc::new(AtomicUsize::new(0));
                let services: Vec<_> = (0..3).map(|_| spawn_service(pending::<()>()).unwrap()).collect();
                assert!(spawn_service(pending::<()>()).unwrap_err().is_full());
                services[1].abort();
                let mut services = services.into_iter();
                let _first = services.next();
                services.next().unwrap().await.unwrap_err();
                // All of them try; one gets in.
                let asking = refused.clone();
                while metrics().services_live == 3 {
                    yield_now().await;
                }
                let _again = spawn_service(async move {
                    for _ in 0..100 {
                        asking.fetch_add(usize::from(spawn_service(ready(())).is_err()), Ordering::SeqCst);
                    }
                    pending::<()>().await;
                })
                .unwrap();
                while refused.load(Ordering::SeqCst) < 100 {
                    time::sleep(Duration::from_micros(200)).await;
                }
                assert_eq!((metrics().services_live, metrics().tasks_live), (3, 1));
            });
        }
    });
}

#[test]
fn who_came_first_is_let_in_first_wherever_it_waits() {
    or_abort(|| {
        for workers in 1..=4 {
            for round in 0..10 {
                let runtime = runtime(1, workers);
                let handle = runtime.handle();
                let gate = Gate::new();
                let holder = handle.spawn_wait(gate.wait()).unwrap();
                let order = Arc::new(Mutex::new(Vec::new()));
                let began = Arc::new(AtomicUsize::new(0));
                thread::scope(|scope| {
                    for number in 0..12_usize {
                        let (order, began) = (order.clone(), began.clone());
                        let task = async move { order.lock().unwrap().push(number) };
                        let (runtime, handle) = (runtime.clone(), handle);
                        let ask = move || match (number + round) % 4 {
                            0 => drop(handle.spawn_wait(task).unwrap()),
                            1 => runtime.block_on(async { drop(spawn(task).await.unwrap()) }),
                            2 => {
                                let service = async move { drop(spawn(task).await.unwrap()) };
                                runtime.block_on(async { spawn_service(service).unwrap().await.unwrap() });
                            }
                            _ => park_on(async { drop(handle.spawn(task).await.unwrap()) }),
                        };
                        scope.spawn(ask);
                        began.fetch_add(1, Ordering::SeqCst);
                        // Until it stands in line: the question itself puts those from elsewhere there.
                        while handle.waiters().wait(Duration::from_secs(20)).unwrap().len() <= number {
                            thread::yield_now();
                        }
                    }
                    gate.open();
                });
                park_on(holder).unwrap();
                handle.drain_wait(Duration::from_secs(20)).unwrap();
                assert_eq!(*order.lock().unwrap(), (0..12).collect::<Vec<_>>());
            }
        }
    });
}

#[test]
fn a_waiting_future_is_let_in_by_who_frees_the_place_and_its_spawner_is_not_polled() {
    // bugs.md 18: granted to a waiter that nobody polls
    or_abort(|| {
        for workers in 1..=3 {
            let runtime = runtime(1, workers);
            runtime.block_on(async {
                for _ in 0..50 {
                    let (gate, ran) = (Gate::new(), Gate::new());
                    drop(spawn(gate.wait()).await.unwrap());
                    let opens = ran.clone();
                    let mut waits = Box::pin(spawn(async move { opens.open() }));
                    let (waker, told) = Hooks::new();
                    assert!(poll_with(waits.as_mut(), &waker).is_pending());
                    gate.open();
                    ran.wait().await;
                    // Whether it was told by then depends on who was quicker; its frame was not polled.
                    let Poll::Ready(handle) = poll_once(waits.as_mut()) else { panic!("its task has run") };
                    handle.unwrap().await.unwrap();
                    assert!(told.wakes() <= 1);
                }
            });
        }
    });
}

#[test]
fn nothing_is_allocated_for_a_spawn_that_waits() {
    or_abort(|| {
        const WAITING: usize = 1_000;
        let runtime = runtime(1, 2);
        let service = async move {
            let _holder = spawn(pending::<()>()).await.unwrap();
            let wait = |waiting: &mut Vec<Pin<Box<anteroom::Spawn<Endless<100>>>>>| {
                let before = allocations();
                for waits in &mut *waiting {
                    assert!(poll_once(waits.as_mut()).is_pending());
                }
                allocations() - before
            };
            let boxed = || (0..WAITING).map(|_| Box::pin(spawn(Endless::<100>::NEW))).collect::<Vec<_>>();
            let mut waiting = boxed();
            // Nodes and the line are made for the first, and kept; the other workers sleep.
            let _first = wait(&mut waiting);
            assert_eq!(metrics().waiting, WAITING);
            drop(waiting);
            let mut waiting = boxed();
            time::sleep(Duration::from_millis(5)).await;
            assert_eq!(wait(&mut waiting), 0);
            assert_eq!(metrics().waiting, WAITING);
        };
        runtime.block_on(async { spawn_service(service).unwrap().await.unwrap() });
    });
}

#[test]
fn who_waits_is_counted_and_the_next_is_refused() {
    or_abort(|| {
        let runtime = Builder::new().max_tasks(1).max_waiting(3).max_foreign(1).build_stealing(2).unwrap();
        let handle = runtime.handle();
        runtime.block_on(async {
            let holder = spawn(pending::<()>()).await.unwrap();
            let mut waiting: Vec<_> = (0..3).map(|n| Box::pin(spawn(ready(n)))).collect();
            for waits in &mut waiting {
                assert!(poll_once(waits.as_mut()).is_pending());
            }
            assert_eq!(spawn(ready(3)).await.unwrap_err(), SpawnError::QueueFull);
            assert_eq!(reserve().await.unwrap_err(), SpawnError::QueueFull);
            waiting.pop();
            let refused = thread::spawn(move || {
                let mut first = Box::pin(handle.spawn(ready(4)));
                assert!(poll_once(first.as_mut()).is_pending());
                let second = poll_once(pin!(handle.spawn(ready(5))));
                matches!(second, Poll::Ready(Err(SpawnError::QueueFull)))
            });
            assert!(refused.join().unwrap());
            holder.abort();
            for waits in waiting {
                waits.await.unwrap().await.unwrap();
            }
        });
    });
}

#[test]
fn timers_are_never_more_than_may_be_whatever_a_waker_does() {
    or_abort(|| {
        let runtime = Builder::new().max_timers(1).build_stealing(2).unwrap();
        runtime.block_on(async {
            let hour = || Box::pin(time::sleep(Duration::from_secs(3_600)));
            let (waker, hooks) = Hooks::new();
            let inner = Arc::new(Mutex::new(hour()));
            hooks.on_clone(move || assert!(poll_once(inner.lock().unwrap().as_mut()).is_pending()));
            let mut outer = hour();
            assert!(poll_with(outer.as_mut(), &waker).is_pending());
            assert_eq!(metrics().timers, 1);
        });
    });
}
