//! The end of a work-stealing runtime is bounded in time, drops each future once, and may come at any moment.

#![allow(
    clippy::async_yields_async,
    clippy::type_complexity,
    reason = "handles go from one block_on to another"
)]

use std::future::{pending, poll_fn, ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use anteroom::{
    AskError, Builder, JoinHandle, SpawnError, StealingRuntime, TaskGroup, reserve, spawn, spawn_blocking,
    time, try_spawn, yield_now,
};
use anteroom_tests::{Drops, Gate, Hooks, Tracked, Wait, or_abort, park_on, poll_once, poll_with};

fn runtime(workers: usize) -> StealingRuntime {
    Builder::new().max_tasks(100).build_stealing(workers).unwrap()
}

/// Drops the runtime; that takes no time to speak of.
fn end(runtime: StealingRuntime) {
    let start = Instant::now();
    drop(runtime);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

async fn wait_with(tracked: Tracked) {
    let _tracked = tracked;
    pending::<()>().await;
}

async fn yield_with(tracked: Tracked) {
    let _tracked = tracked;
    loop {
        yield_now().await;
    }
}

#[test]
fn it_waits_for_no_job_and_for_nothing_that_tasks_wait_for() {
    // bugs.md 33
    or_abort(|| {
        for workers in 1..=4 {
            let (runtime, drops) = (runtime(workers), Drops::new());
            let (hang, hangs) = mpsc::channel::<()>();
            let (begun, begins) = mpsc::channel();
            let mut handles = runtime.block_on(async {
                let mut handles = Vec::new();
                handles.push(spawn(wait_with(drops.track())).await.unwrap());
                let (one, two) = (drops.track(), drops.track());
                let job = async move {
                    let _one = one;
                    let ended = spawn_blocking(move || {
                        let _two = two;
                        begun.send(()).unwrap();
                        let _never = hangs.recv();
                    });
                    let _ = ended.await;
                };
                handles.push(spawn(job).await.unwrap());
                let tracked = drops.track();
                let sleeps = async move {
                    let _tracked = tracked;
                    time::sleep(Duration::from_secs(1_000)).await;
                };
                handles.push(spawn(sleeps).await.unwrap());
                let other = spawn(wait_with(drops.track())).await.unwrap();
                let tracked = drops.track();
                let joins = async move {
                    let _tracked = tracked;
                    let _ = other.await;
                };
                handles.push(spawn(joins).await.unwrap());
                // They never stop by themselves.
                for _ in 0..5 {
                    handles.push(spawn(yield_with(drops.track())).await.unwrap());
                }
                handles
            });
            begins.recv().unwrap();
            end(runtime);
            assert_eq!(drops.count(), 10, "all but what the job holds");
            for handle in handles.drain(..) {
                assert!(park_on(handle).unwrap_err().is_cancelled());
            }
            drop(hang);
            while drops.count() < 11 {
                thread::yield_now();
            }
        }
    });
}

#[test]
fn threads_that_wake_and_spawn_and_join_all_the_time_do_not_keep_it() {
    // bugs.md 23, 24, 33
    or_abort(|| {
        for workers in 1..=3 {
            for round in 0..20 {
                let runtime = runtime(workers);
                let drops = Drops::new();
                let made = Arc::new(AtomicUsize::new(0));
                let stop = Arc::new(AtomicBool::new(false));
                let wakers: Arc<Mutex<Vec<Waker>>> = Arc::default();
                runtime.block_on(async {
                    for _ in 0..10 {
                        let (tracked, wakers) = (drops.track(), wakers.clone());
                        made.fetch_add(1, Ordering::SeqCst);
                        let task = async move {
                            let _tracked = tracked;
                            poll_fn(|cx| {
                                let mut wakers = wakers.lock().unwrap();
                                if wakers.len() < 100 {
                                    wakers.push(cx.waker().clone());
                                }
                                Poll::<()>::Pending
                            })
                            .await;
                        };
                        drop(spawn(task).await.unwrap());
                    }
                });
                let handle = runtime.handle();
                thread::scope(|scope| {
                    for number in 0..3_usize {
                        let (stop, wakers, made, drops) = (&stop, &wakers, &made, &drops);
                        scope.spawn(move || {
                            while !stop.load(Ordering::SeqCst) {
                                let some: Vec<Waker> = wakers.lock().unwrap().clone();
                                some.iter().for_each(Waker::wake_by_ref);
                                made.fetch_add(1, Ordering::SeqCst);
                                let tracked = drops.track();
                                let told = handle.spawn_wait_timeout(
                                    async move { (yield_now().await, tracked).1 },
                                    Duration::from_millis(5),
                                );
                                match told {
                                    Err(error) => drop(error),
                                    Ok(handle) if number == 0 => drop(handle),
                                    Ok(handle) if number == 1 => {
                                        handle.abort();
                                        let _ = park_on(handle);
                                    }
                                    Ok(handle) => drop(park_on(handle)),
                                }
                            }
                        });
                    }
                    thread::sleep(Duration::from_micros(300 * round));
                    end(runtime);
                    stop.store(true, Ordering::SeqCst);
                });
                assert_eq!(drops.count(), made.load(Ordering::SeqCst));
                assert_eq!(handle.spawn_wait(ready(1)).unwrap_err(), SpawnError::Closed);
                assert_eq!(handle.metrics().wait(Duration::from_secs(5)).unwrap_err(), AskError::Gone);
                for waker in wakers.lock().unwrap().drain(..) {
                    // bugs.md 25: also when the runtime is gone.
                    let woken = waker.clone();
                    woken.wake();
                    waker.wake_by_ref();
                }
            }
        }
    });
}

#[test]
fn it_may_be_dropped_by_one_of_its_own_tasks() {
    or_abort(|| {
        for workers in 1..=3 {
            for round in 0..50_u64 {
                let (runtime, drops) = (Arc::new(runtime(workers)), Drops::new());
                let gate = Gate::new();
                let (inner, waits) = (runtime.clone(), gate.wait());
                let mut handles = runtime.block_on(async {
                    let mut handles = Vec::new();
                    for _ in 0..3 {
                        handles.push(spawn(wait_with(drops.track())).await.unwrap());
                        handles.push(spawn(yield_with(drops.track())).await.unwrap());
                    }
                    let tracked = drops.track();
                    let task = async move {
                        let _tracked = tracked;
                        waits.await;
                        drop(inner);
                        if round % 2 == 0 {
                            // It is stopped by then, and ends at its next rest.
                            yield_now().await;
                            pending::<()>().await;
                        }
                    };
                    handles.push(spawn(task).await.unwrap());
                    handles
                });
                let handle = runtime.handle();
                let last = handles.pop().unwrap();
                if round % 3 == 0 {
                    // Whoever is last.
                    gate.open();
                    drop(runtime);
                    let _either = park_on(last);
                } else {
                    drop(runtime);
                    gate.open();
                    assert_eq!(park_on(last).is_ok(), round % 2 == 1);
                }
                for other in handles {
                    assert!(park_on(other).unwrap_err().is_cancelled());
                }
                handle.drain_wait(Duration::from_secs(20)).unwrap();
                while drops.count() < 7 {
                    thread::yield_now();
                }
                assert_eq!(drops.count(), 7);
            }
        }
    });
}

#[test]
fn it_may_be_dropped_inside_another_runtime_s_task() {
    or_abort(|| {
        for _ in 0..20 {
            let drops = Drops::new();
            let (inner, outer) = (runtime(2), runtime(2));
            inner.block_on(async { drop(spawn(yield_with(drops.track())).await.unwrap()) });
            outer.block_on(spawn(async move { drop(inner) }).join()).unwrap();
            assert_eq!(drops.count(), 1);
            let inner = runtime(2);
            inner.block_on(async { drop(spawn(wait_with(drops.track())).await.unwrap()) });
            anteroom::block_on(async move { drop(inner) });
            assert_eq!(drops.count(), 2);
        }
    });
}

#[test]
fn handles_outlive_it_and_keep_the_outputs() {
    or_abort(|| {
        for workers in 1..=3 {
            let (runtime, drops) = (runtime(workers), Drops::new());
            let (mut done, aborted, mut waits) = runtime.block_on(async {
                let mut done = Vec::new();
                for n in 0..20 {
                    let tracked = drops.track();
                    done.push(spawn(async move { (n, tracked) }).await.unwrap());
                }
                let panicked = spawn(async { std::panic::panic_any("quiet") }).await.unwrap();
                done.push(panicked);
                let aborted = spawn(wait_with(drops.track())).await.unwrap();
                aborted.abort();
                (done, aborted, spawn(wait_with(drops.track())).await.unwrap())
            });
            while !done.iter().all(JoinHandle::is_finished) {
                thread::yield_now();
            }
            let (waker, hooks) = Hooks::new();
            assert!(poll_with(Pin::new(&mut waits), &waker).is_pending());
            end(runtime);
            assert_eq!(hooks.wakes(), 1);
            assert_eq!(drops.count(), 2);
            assert!(park_on(aborted).unwrap_err().is_cancelled());
            // By now another runtime may have the memory of this one.
            let other = self::runtime(workers);
            let panicked = done.pop().unwrap();
            assert!(other.block_on(panicked).unwrap_err().is_panic());
            assert!(thread::spawn(move || park_on(waits).unwrap_err().is_cancelled()).join().unwrap());
            for (n, handle) in done.into_iter().enumerate() {
                match n % 3 {
                    0 => drop(handle),
                    1 => assert_eq!(other.block_on(handle).unwrap().0, n),
                    _ => assert_eq!(park_on(handle).unwrap().0, n),
                }
            }
            assert_eq!(drops.count(), 22);
            drop(waker);
            hooks.clear();
            assert_eq!(hooks.wakers_left(), 0);
        }
    });
}

#[test]
fn what_waits_for_a_place_gets_its_future_back() {
    or_abort(|| {
        let runtime = Builder::new().max_tasks(1).build_stealing(2).unwrap();
        let (handle, drops) = (runtime.handle(), Drops::new());
        let place = runtime.block_on(async { reserve().await.unwrap() });
        let waiting: Vec<_> = (0..4)
            .map(|number| {
                let tracked = drops.track();
                thread::spawn(move || {
                    let wait = Duration::from_secs(60);
                    let error =
                        handle.spawn_wait_timeout(async move { (number, tracked).0 }, wait).unwrap_err();
                    assert_eq!(error.reason(), SpawnError::Closed);
                    park_on(error.into_future().unwrap())
                })
            })
            .collect();
        let mut frame = Box::pin(handle.spawn(ready(4)));
        runtime.block_on(async { assert!(poll_once(frame.as_mut()).is_pending()) });
        while handle.waiters().wait(Duration::from_secs(20)).unwrap().len() < 5 {
            thread::yield_now();
        }
        end(runtime);
        for (number, thread) in waiting.into_iter().enumerate() {
            assert_eq!(thread.join().unwrap(), number);
        }
        assert_eq!(park_on(frame).unwrap_err(), SpawnError::Closed);
        drop(place);
        assert_eq!(drops.count(), 4);
    });
}

#[test]
fn futures_that_use_the_runtime_when_they_are_dropped_do_not_keep_it() {
    or_abort(|| {
        for workers in 1..=3 {
            let runtime = runtime(workers);
            let handle = runtime.handle();
            let drops = Drops::new();
            struct Uses(
                anteroom::Handle,
                Option<JoinHandle<()>>,
                #[expect(dead_code, reason = "dropped with it")] Tracked,
            );
            impl Drop for Uses {
                fn drop(&mut self) {
                    assert!(poll_once(Box::pin(self.0.spawn(async {})).as_mut()).is_ready());
                    assert!(self.0.metrics().wait(Duration::from_millis(1)).is_err());
                    if let Some(other) = self.1.take() {
                        other.abort();
                        let _ = poll_once(std::pin::pin!(other));
                    }
                    let _timer = poll_once(std::pin::pin!(time::sleep(Duration::from_secs(1))));
                }
            }
            runtime.block_on(async {
                let mut before = None;
                for _ in 0..20 {
                    let uses = Uses(handle, before.take(), drops.track());
                    let task = async move {
                        let _uses = uses;
                        pending::<()>().await;
                    };
                    before = Some(spawn(task).await.unwrap());
                }
                drop(before);
            });
            end(runtime);
            assert_eq!(drops.count(), 20);
        }
    });
}

#[test]
fn wherever_something_panics_its_siblings_go_on_and_each_is_dropped_once() {
    // bugs.md 29
    or_abort(|| {
        for workers in 1..=4 {
            let (runtime, drops) = (runtime(workers), Drops::new());
            let others = Arc::new(AtomicUsize::new(0));
            let mut made = 0;
            let mut joined = Vec::new();
            for round in 0..50 {
                let others = others.clone();
                let (waker, hooks) = Hooks::new();
                hooks.on_wake(|| std::panic::panic_any("in a wake"));
                let panicking = || drops.track_panicking();
                let tracked: [Tracked; 5] = std::array::from_fn(|_| panicking());
                made += 5;
                runtime.block_on(async {
                    let [one, two, three, four, five] = tracked;
                    let sibling = spawn(async move {
                        for _ in 0..5 {
                            yield_now().await;
                        }
                        others.fetch_add(1, Ordering::SeqCst);
                    })
                    .await
                    .unwrap();
                    // In a poll; in the drop of a future that is ready, and of one that is aborted; in an output's.
                    let poll = spawn(async move {
                        let _one = std::mem::ManuallyDrop::new(one);
                        yield_now().await;
                        std::panic::panic_any("in a poll")
                    });
                    let poll: JoinHandle<()> = poll.await.unwrap();
                    let ready = spawn(async move { (yield_now().await, drop(two)).0 }).await.unwrap();
                    let aborted = spawn(wait_with(three)).await.unwrap();
                    aborted.abort();
                    let handle = spawn(async move { (yield_now().await, four).1 }).await.unwrap();
                    // The worker swallows it, or it comes out here, if the task was quicker.
                    let _maybe = catch_unwind(AssertUnwindSafe(|| drop(handle)));
                    let gate = Gate::new();
                    let mut kept = spawn(ready_after(gate.wait(), five)).await.unwrap();
                    assert!(poll_with(Pin::new(&mut kept), &waker).is_pending());
                    gate.open();
                    assert!(poll.await.unwrap_err().is_panic());
                    assert!(ready.await.unwrap_err().is_panic());
                    assert!(!aborted.await.unwrap_err().to_string().is_empty());
                    sibling.await.unwrap();
                    while !kept.is_finished() {
                        yield_now().await;
                    }
                    joined.push((kept, round));
                });
            }
            assert_eq!(others.load(Ordering::SeqCst), 50);
            end(runtime);
            for (kept, _) in joined {
                // The output panics where its handle is dropped.
                let _panic = catch_unwind(AssertUnwindSafe(|| drop(kept)));
            }
            // Of each round the one that was not to be dropped is missing.
            assert_eq!(drops.count(), made - 50);
        }
    });
}

async fn ready_after(wait: Wait, tracked: Tracked) -> Tracked {
    wait.await;
    tracked
}

#[test]
fn handles_may_be_polled_aborted_and_dropped_on_any_thread_at_any_moment() {
    or_abort(|| {
        for workers in 1..=4 {
            let (runtime, drops) = (runtime(workers), Drops::new());
            let made = AtomicUsize::new(0);
            thread::scope(|scope| {
                let (give, takes) = mpsc::sync_channel::<JoinHandle<Tracked>>(10);
                let takes = Arc::new(Mutex::new(takes));
                for number in 0..3_usize {
                    let (takes, runtime) = (takes.clone(), &runtime);
                    scope.spawn(move || {
                        let mut count = number;
                        loop {
                            let next = takes.lock().unwrap().recv();
                            let Ok(mut handle) = next else { return };
                            count += 1;
                            let (waker, hooks) = Hooks::new();
                            if count % 2 == 0 {
                                let _ = poll_with(Pin::new(&mut handle), Waker::noop());
                                if handle.id().is_none() {
                                    continue;
                                }
                                if poll_with(Pin::new(&mut handle), &waker).is_ready() {
                                    continue;
                                }
                            }
                            match count % 7 {
                                0 | 1 => drop(handle),
                                2 => {
                                    handle.abort();
                                    drop(handle);
                                }
                                3 => drop(park_on(handle)),
                                4 => {
                                    handle.abort();
                                    drop(park_on(handle));
                                }
                                5 => drop(runtime.block_on(handle)),
                                _ => {
                                    thread::yield_now();
                                    let _ = poll_with(Pin::new(&mut handle), &waker);
                                }
                            }
                            drop(waker);
                            drop(hooks);
                        }
                    });
                }
                runtime.block_on(async {
                    for n in 0..4_000 {
                        made.fetch_add(1, Ordering::SeqCst);
                        let tracked = drops.track();
                        let task = async move {
                            for _ in 0..n % 4 {
                                yield_now().await;
                            }
                            if n % 11 == 0 {
                                time::sleep(Duration::from_micros(100)).await;
                            }
                            tracked
                        };
                        give.send(spawn(task).await.unwrap()).unwrap();
                    }
                });
                drop(give);
            });
            runtime.handle().drain_wait(Duration::from_secs(20)).unwrap();
            end(runtime);
            assert_eq!(drops.count(), made.load(Ordering::SeqCst));
        }
    });
}

#[test]
fn it_may_end_in_the_midst_of_everything_on_any_thread() {
    // bugs.md 22, 28
    or_abort(|| {
        for workers in 1..=4 {
            for round in 0..60_u64 {
                let (runtime, drops) =
                    (Builder::new().max_tasks(8).build_stealing(workers).unwrap(), Drops::new());
                let made = Arc::new(AtomicUsize::new(0));
                let track = {
                    let (drops, made) = (drops.clone(), made.clone());
                    move || {
                        made.fetch_add(1, Ordering::SeqCst);
                        drops.track()
                    }
                };
                runtime.block_on(async {
                    for n in 0..8_u64 {
                        let track = track.clone();
                        let mine = track();
                        let task = async move {
                            let _mine = mine;
                            let group = TaskGroup::with_limit(2);
                            loop {
                                let tracked = track();
                                let child = async move {
                                    time::sleep(Duration::from_micros(50 * n)).await;
                                    tracked
                                };
                                match n % 4 {
                                    0 => drop(spawn(child).await),
                                    1 => drop(spawn(child).timeout(Duration::from_micros(200)).await),
                                    2 => drop(group.spawn(child).await),
                                    _ => drop(try_spawn(child)),
                                }
                                let _ = spawn_blocking(|| ()).await;
                                yield_now().await;
                            }
                        };
                        drop(try_spawn(task));
                    }
                });
                thread::sleep(Duration::from_micros(37 * round));
                if round % 2 == 0 {
                    end(runtime);
                } else {
                    thread::spawn(move || end(runtime)).join().unwrap();
                }
                assert_eq!(drops.count(), made.load(Ordering::SeqCst));
            }
        }
    });
}
