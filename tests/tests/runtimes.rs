//! Runtimes one after another, inside one another, and what they count.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use anteroom::{Runtime, block_on, metrics, spawn, spawn_local, time, try_spawn, yield_now};
use anteroom_tests::{Gate, look_around, must_end};

fn runtime(max_tasks: usize) -> Runtime {
    Runtime::builder().max_tasks(max_tasks).build().unwrap()
}

#[test]
fn block_on_inside_itself_panics_with_what_to_do() {
    // bugs.md 34
    let runtime = Rc::new(runtime(10));
    let inner = runtime.clone();
    runtime.block_on(async {
        // In the future of block_on, and in a task.
        let panic = catch_unwind(AssertUnwindSafe(|| inner.block_on(async {}))).unwrap_err();
        assert!(panic.downcast_ref::<&str>().unwrap().contains("await the future instead"));
        let inner = inner.clone();
        let error = spawn_local(async move { inner.block_on(async {}) }).join().await.unwrap_err();
        assert!(error.to_string().contains("block_on was called inside itself"), "{error}");
        // Nothing was harmed.
        assert_eq!(spawn(async { 3 }).join().await.unwrap(), 3);
    });
    assert_eq!(runtime.block_on(async { 4 }), 4);
}

#[test]
fn another_runtime_inside_a_task_works_and_gives_way_again() {
    // bugs.md 34
    // [HOME-1] [HOME-2]
    runtime(10).block_on(async {
        let gate = Gate::new();
        let waits = spawn(gate.wait()).await.unwrap();
        let inner = spawn(async move {
            let inner = runtime(20);
            inner.block_on(async {
                assert_eq!(metrics().tasks_max, 20);
                // What it wakes of the outer one is done later; what it spawns is its own.
                gate.open();
                let own = spawn(async { (yield_now().await, metrics().tasks_max).1 });
                assert_eq!(own.join().await.unwrap(), 20);
                time::sleep(Duration::from_micros(200)).await;
                assert_eq!(block_on(async { metrics().tasks_max }), 4_096);
                assert_eq!(metrics().tasks_live, 0);
            });
            assert_eq!(metrics().tasks_max, 10);
            inner.block_on(yield_now());
            drop(inner);
            metrics().tasks_live
        });
        assert_eq!(inner.join().await.unwrap(), 2);
        waits.await.unwrap();
        assert_eq!(spawn(async { metrics().tasks_max }).join().await.unwrap(), 10);
    });
}

#[test]
fn handles_of_the_outer_runtime_may_be_dropped_and_aborted_in_the_inner_one() {
    runtime(10).block_on(async {
        let gate = Gate::new();
        let (dropped, aborted) = (try_spawn(gate.wait()).unwrap(), try_spawn(gate.wait()).unwrap());
        let done = try_spawn(async { 1 }).unwrap();
        yield_now().await;
        let aborted = spawn_local(async move {
            block_on(async {
                drop(dropped);
                aborted.abort();
                assert_eq!(done.await.unwrap(), 1);
            });
            [aborted]
        });
        let [aborted] = aborted.join().await.unwrap();
        assert!(aborted.await.unwrap_err().is_cancelled());
        assert_eq!(metrics().tasks_live, 1);
        gate.open();
        look_around().await;
        assert_eq!((metrics().tasks_live, metrics().headers), (0, 1));
    });
}

#[test]
fn a_runtime_dropped_inside_another_cancels_its_own_tasks_only() {
    runtime(10).block_on(async {
        let mine = spawn(async { (yield_now().await, 5).1 }).await.unwrap();
        let inner = runtime(10);
        let theirs = inner.block_on(async { [try_spawn(std::future::pending::<u8>()).unwrap()] });
        drop(inner);
        let [theirs] = theirs;
        assert!(theirs.await.unwrap_err().is_cancelled());
        assert_eq!(mine.await.unwrap(), 5);
    });
}

#[test]
fn tasks_stay_between_two_calls_and_go_on_in_the_next() {
    let runtime = runtime(10);
    let steps = Rc::new(Cell::new(0));
    let task = runtime.block_on(async {
        let steps = steps.clone();
        let walk = async move {
            loop {
                steps.set(steps.get() + 1);
                yield_now().await;
            }
        };
        [spawn_local::<_>(walk).await.unwrap()]
    });
    for _ in 0..10 {
        let before = steps.get();
        runtime.block_on(async {
            yield_now().await;
            yield_now().await;
        });
        assert!((1..=3).contains(&(steps.get() - before)));
    }
    let [task]: [anteroom::JoinHandle<()>; 1] = task;
    task.abort();
    assert!(runtime.block_on(task).unwrap_err().is_cancelled());
    assert_eq!(runtime.metrics().headers, 0);
}

#[test]
fn the_future_of_block_on_holds_no_place_and_takes_its_turn() {
    runtime(1).block_on(async {
        let turns = Rc::new(Cell::new(0));
        let task = spawn_local({
            let turns = turns.clone();
            async move {
                for _ in 0..100 {
                    turns.set(turns.get() + 1);
                    yield_now().await;
                }
            }
        });
        let task = task.await.unwrap();
        for turn in 0..100 {
            assert!(turns.get() == turn || turns.get() == turn + 1, "{turn} {}", turns.get());
            yield_now().await;
        }
        task.await.unwrap();
    });
}

#[test]
fn memory_kept_for_reuse_is_bounded_and_goes_back_when_idle() {
    // bugs.md 37, [BODY-3]: 4 MB of futures at once leave 1 MiB at most, and 32 KiB while the runtime sleeps.
    if cfg!(anteroom_asan) {
        return; // Nothing is kept then.
    }
    must_end(|| {
        runtime(1_000).block_on(async {
            let gate = Gate::new();
            let bytes = [0_u8; 4_000];
            let tasks: Vec<_> = (0..1_000)
                .map(|_| {
                    let wait = gate.wait();
                    try_spawn(async move { (wait.await, bytes).1.len() }).unwrap()
                })
                .collect();
            gate.open();
            for task in tasks {
                task.await.unwrap();
            }
            assert!(metrics().cache_bytes <= 1024 * 1024, "{}", metrics().cache_bytes);
            time::sleep(Duration::from_millis(120)).await;
            assert!(metrics().cache_bytes <= 32 * 1024, "{}", metrics().cache_bytes);
        });
    });
}

#[test]
fn a_million_tasks_leave_what_a_hundred_leave() {
    // bugs.md 37
    let jobs = if cfg!(debug_assertions) { 100_000 } else { 1_000_000 };
    runtime(100).block_on(async {
        for n in 0..jobs {
            let bytes = [n as u8; 200];
            drop(spawn(async move { (yield_now().await, bytes).1[0] }).await.unwrap());
        }
        while metrics().tasks_live > 0 {
            yield_now().await;
        }
        let left = metrics();
        assert_eq!((left.tasks_live_peak, left.headers, left.timers, left.io_sources), (100, 1, 0, 0));
        assert!(left.cache_bytes <= 100 * 1_024, "{left:?}");
    });
}
