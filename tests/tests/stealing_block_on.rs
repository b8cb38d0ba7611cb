//! `block_on` of a work-stealing runtime: from many threads, in runtimes one inside the other, and what it refuses.

#![allow(
    clippy::async_yields_async,
    clippy::type_complexity,
    reason = "handles go from one block_on to another"
)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use anteroom::{
    Builder, Handle, JoinHandle, Runtime, StealingRuntime, metrics, spawn, spawn_blocking, spawn_local, time,
    try_spawn, yield_now,
};
use anteroom_tests::{Drops, Gate, or_abort, park_on, poll_once};

fn runtime(workers: usize) -> StealingRuntime {
    Builder::new().max_tasks(50).build_stealing(workers).unwrap()
}

/// What `f` panics with.
fn panic_of<T>(f: impl FnOnce() -> T) -> String {
    let panic = catch_unwind(AssertUnwindSafe(f)).map(drop).expect_err("it must panic");
    match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(panic) => (*panic.downcast::<&str>().expect("a text")).to_owned(),
    }
}

#[test]
fn many_threads_may_be_in_it_at_once() {
    or_abort(|| {
        for workers in 1..=4 {
            let runtime = runtime(workers);
            let together = Barrier::new(8);
            thread::scope(|scope| {
                for number in 0..8_u64 {
                    let (runtime, together) = (&runtime, &together);
                    scope.spawn(move || {
                        together.wait();
                        for round in 0..30_u64 {
                            // Borrowed, and not Send.
                            let here = Rc::new(number);
                            let sum = runtime.block_on(async {
                                let mut handles = Vec::new();
                                for n in 0..10 {
                                    handles
                                        .push(spawn(async move { (yield_now().await, n).1 }).await.unwrap());
                                }
                                time::sleep(Duration::from_micros(100 * (round % 3))).await;
                                let mut sum = *here;
                                for handle in handles {
                                    sum += handle.await.unwrap();
                                }
                                assert_eq!(spawn_blocking(move || round).await.unwrap(), round);
                                sum
                            });
                            assert_eq!(sum, 45 + number);
                        }
                    });
                }
            });
            runtime.handle().drain_wait(Duration::from_secs(20)).unwrap();
            assert_eq!(runtime.metrics().tasks_live, 0);
        }
    });
}

#[test]
fn a_handle_of_one_thread_s_task_may_be_awaited_on_any_other() {
    or_abort(|| {
        let runtime = Arc::new(runtime(3));
        for round in 0..200 {
            let gate = Gate::new();
            let waits = gate.wait();
            let mut handle =
                runtime.block_on(async { spawn(async move { (waits.await, round).1 }).await.unwrap() });
            for _ in 0..3 {
                let there = runtime.clone();
                let polled = thread::spawn(move || {
                    there.block_on(async {
                        let _pending = poll_once(std::pin::Pin::new(&mut handle));
                        handle
                    })
                });
                handle = polled.join().unwrap();
            }
            let joins = thread::spawn(move || park_on(handle).unwrap());
            if round % 2 == 0 {
                thread::yield_now();
            }
            gate.open();
            assert_eq!(joins.join().unwrap(), round);
        }
    });
}

#[test]
fn it_panics_inside_itself_and_says_what_to_do() {
    // bugs.md 34
    or_abort(|| {
        let runtime = Arc::new(runtime(2));
        let text = runtime.block_on(async { panic_of(|| runtime.block_on(async {})) });
        assert!(text.contains("called inside itself") && text.contains("await the future"), "{text}");
        let inner = runtime.clone();
        let task = spawn(async move { panic_of(|| inner.block_on(async {})) });
        let text = runtime.block_on(task.join()).unwrap();
        assert!(text.contains("called inside itself"), "{text}");
        // Also where another runtime, of either kind, is between.
        let text =
            runtime.block_on(async { anteroom::block_on(async { panic_of(|| runtime.block_on(async {})) }) });
        assert!(text.contains("called inside itself"), "{text}");
        let other = self::runtime(1);
        let text =
            runtime.block_on(async { other.block_on(async { panic_of(|| runtime.block_on(async {})) }) });
        assert!(text.contains("called inside itself"), "{text}");
        // Nothing of it is broken.
        assert_eq!(runtime.block_on(spawn(async { 7 }).join()).unwrap(), 7);
        assert_eq!(other.block_on(spawn(async { 8 }).join()).unwrap(), 8);
    });
}

#[test]
fn a_panic_of_its_future_comes_out_and_breaks_nothing() {
    or_abort(|| {
        let (runtime, drops) = (runtime(2), Drops::new());
        for polls in 0..3 {
            let tracked = drops.track();
            let text = panic_of(|| {
                runtime.block_on(async {
                    let _tracked = tracked;
                    for _ in 0..polls {
                        yield_now().await;
                    }
                    panic!("of the future")
                })
            });
            assert_eq!(text, "of the future");
        }
        assert_eq!(drops.count(), 3);
        assert_eq!(runtime.metrics().headers, 0);
        assert_eq!(runtime.block_on(spawn(async { 7 }).join()).unwrap(), 7);
    });
}

/// Runs `future` on a single-threaded runtime that is made for it.
fn inner<F: Future>(future: F) -> F::Output {
    Runtime::builder().max_tasks(3).build().unwrap().block_on(future)
}

#[test]
fn a_single_threaded_runtime_works_inside_its_tasks_and_gives_way_again() {
    // bugs.md 34
    or_abort(|| {
        for workers in 1..=3 {
            let runtime = runtime(workers);
            runtime.block_on(async {
                let tasks: Vec<_> = (0..20_u64)
                    .map(|n| {
                        try_spawn(async move {
                            yield_now().await;
                            let before = try_spawn(async {}).unwrap();
                            // It is not Send, so it is gone before the next await.
                            let there = inner(async move {
                                assert_eq!(metrics().tasks_max, 3);
                                let local = spawn_local(async move { Rc::new(n) }).await.unwrap();
                                time::sleep(Duration::from_micros(200)).await;
                                // This worker stands still for the outer runtime, but its tasks may be used.
                                before.abort();
                                *local.await.unwrap() + 1
                            });
                            assert_eq!(metrics().tasks_max, 50);
                            time::sleep(Duration::from_micros(200)).await;
                            there + spawn(async { 1 }).await.unwrap().await.unwrap()
                        })
                        .unwrap()
                    })
                    .collect();
                for (n, task) in (0..20).zip(tasks) {
                    assert_eq!(task.await.unwrap(), n + 2);
                }
            });
        }
    });
}

#[test]
fn it_works_inside_a_task_of_a_single_threaded_runtime() {
    or_abort(|| {
        let inner = Arc::new(runtime(2));
        let there = inner.clone();
        anteroom::block_on(async {
            let here = spawn_local(async move {
                let outer = try_spawn(async { 1 }).unwrap();
                let sum = there.block_on(async {
                    assert_eq!(metrics().tasks_max, 50);
                    time::sleep(Duration::from_millis(1)).await;
                    // The outer runtime stands still meanwhile, and can be used by its handles.
                    outer.abort();
                    spawn(async { 2 }).await.unwrap().await.unwrap()
                });
                assert!(outer.await.unwrap_err().is_cancelled());
                yield_now().await;
                sum + spawn(async { 3 }).await.unwrap().await.unwrap()
            });
            assert_eq!(here.await.unwrap().await.unwrap(), 5);
        });
        assert_eq!(inner.metrics().tasks_live, 0);
    });
}

#[test]
fn one_stealing_runtime_works_inside_the_tasks_of_another() {
    or_abort(|| {
        let (outer, inner) = (Arc::new(runtime(2)), Arc::new(runtime(2)));
        outer.block_on(async {
            let mut tasks: Vec<JoinHandle<u64>> = Vec::new();
            for n in 0..20 {
                let inner = inner.clone();
                tasks.push(
                    spawn(async move {
                        let here = try_spawn(async move { n }).unwrap();
                        let there = inner.block_on(async move {
                            // Tasks of both, awaited in the inner one.
                            let there = spawn(async { (yield_now().await, 1).1 }).await.unwrap();
                            time::sleep(Duration::from_micros(100)).await;
                            there.await.unwrap()
                        });
                        time::sleep(Duration::from_micros(100)).await;
                        here.await.unwrap() + there
                    })
                    .await
                    .unwrap(),
                );
            }
            for (n, task) in (0..20).zip(tasks) {
                assert_eq!(task.await.unwrap(), n + 1);
            }
        });
    });
}

#[test]
fn what_blocks_panics_in_its_own_runtime_and_says_what_to_do() {
    or_abort(|| {
        let runtime = Arc::new(runtime(2));
        let asks: [(&str, fn(Handle)); 3] = [
            ("await Handle::spawn", |handle| drop(handle.spawn_wait(async {}))),
            ("timeout", |handle| drop(handle.spawn_wait_timeout(async {}, Duration::ZERO))),
            ("await Handle::drain", |handle| {
                let _nothing_is_left = handle.drain_wait(Duration::ZERO);
            }),
        ];
        for (instead, ask) in asks {
            let handle = runtime.handle();
            let text = runtime.block_on(async { panic_of(|| ask(handle)) });
            assert!(text.contains(instead) && text.contains("its own runtime"), "{text}");
            let text = runtime.block_on(spawn(async move { panic_of(|| ask(handle)) }).join()).unwrap();
            assert!(text.contains(instead) && text.contains("its own runtime"), "{text}");
            let text = runtime.block_on(async { anteroom::block_on(async { panic_of(|| ask(handle)) }) });
            assert!(text.contains(instead), "{text}");
        }
        assert_eq!(runtime.block_on(spawn(async { 7 }).join()).unwrap(), 7);
    });
}

#[test]
fn what_is_not_send_is_refused_by_a_panic_and_strands_no_place() {
    or_abort(|| {
        let (runtime, drops) = (runtime(2), Drops::new());
        let panics = |drops: &Drops| {
            let tracked = Rc::new(drops.track());
            panic_of(|| {
                let mut spawning = Box::pin(spawn_local(async move { drop(tracked) }));
                let _ = poll_once(spawning.as_mut());
            })
        };
        let text = runtime.block_on(async { panics(&drops) });
        assert!(text.contains("spawn_local in a work-stealing runtime"), "{text}");
        let there = drops.clone();
        let text = runtime.block_on(spawn(async move { panics(&there) }).join()).unwrap();
        assert!(text.contains("build the single-threaded runtime"), "{text}");
        assert_eq!(drops.count(), 2);
        runtime.handle().drain_wait(Duration::from_secs(20)).unwrap();
        assert_eq!(runtime.metrics().tasks_live, 0);
        // Inside of a single-threaded one, inside of it, it works.
        let runtime = self::runtime(1);
        let there = drops.clone();
        runtime
            .block_on(
                spawn(async move {
                    anteroom::block_on(async {
                        let tracked = there.track();
                        spawn_local(async move { drop(Rc::new(tracked)) }).await.unwrap().await.unwrap();
                    });
                })
                .join(),
            )
            .unwrap();
        assert_eq!(drops.count(), 3);
    });
}

#[test]
fn options_that_are_of_no_use_are_refused_by_name() {
    // bugs.md 21
    let text = |builder: Builder, workers| builder.build_stealing(workers).unwrap_err().to_string();
    for workers in [0, 1_025, usize::MAX] {
        let text = text(Builder::new(), workers);
        assert!(
            text.contains(&format!("build_stealing({workers})")) && text.contains("1 and 1024"),
            "{text}"
        );
    }
    let paused = text(Builder::new().paused_clock(true), 2);
    assert!(paused.contains("paused_clock(true)") && paused.contains("build()"), "{paused}");
    let none = text(Builder::new().max_tasks(0), 2);
    assert!(none.contains("max_tasks"), "{none}");
    // What was refused has left nothing, and the same workers are to be had.
    let runtime = runtime(2);
    assert_eq!(runtime.workers(), 2);
    assert_eq!(runtime.block_on(spawn(async { 7 }).join()).unwrap(), 7);
}

#[test]
fn its_future_is_polled_on_its_own_thread_and_tasks_on_the_workers() {
    or_abort(|| {
        let runtime = runtime(3);
        let here = thread::current().id();
        let on_workers = Arc::new(AtomicUsize::new(0));
        runtime.block_on(async {
            for _ in 0..200 {
                let on_workers = on_workers.clone();
                let there = spawn(async move {
                    yield_now().await;
                    let name = thread::current().name().unwrap_or_default().to_owned();
                    on_workers.fetch_add(usize::from(name.starts_with("anteroom-")), Ordering::SeqCst);
                    thread::current().id()
                });
                assert_ne!(there.join().await.unwrap(), here);
                assert_eq!(thread::current().id(), here);
            }
        });
        assert_eq!(on_workers.load(Ordering::SeqCst), 200);
    });
}

#[test]
fn a_future_that_parks_its_thread_in_its_poll_is_woken_all_the_same() {
    // What std's channels do, too: the token of the wake that came in the poll is gone when the poll ends.
    or_abort(|| {
        let runtime = Builder::new().build_stealing(1).unwrap();
        let mut polls = 0;
        runtime.block_on(std::future::poll_fn(|cx| {
            polls += 1;
            if polls == 2 {
                return std::task::Poll::Ready(());
            }
            let waker = cx.waker().clone();
            std::thread::spawn(move || waker.wake()).join().unwrap();
            std::thread::park();
            std::task::Poll::Pending
        }));
        assert_eq!(polls, 2);
    });
}
