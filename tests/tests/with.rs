//! What makes a future waits in its place, and is called when there is room: once, by the task, as its first act.

use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anteroom::{Runtime, SpawnError, holders, metrics, spawn, spawn_with, yield_now};
use anteroom_tests::{Drops, Endless, Gate, elsewhere, look_around, poll_once};

fn runtime(max_tasks: usize) -> Runtime {
    Runtime::builder().max_tasks(max_tasks).build().unwrap()
}

#[test]
fn make_is_called_once_by_the_task_and_not_while_it_waits() {
    runtime(1).block_on(async {
        let gate = Gate::new();
        drop(spawn(gate.wait()).await.unwrap());
        let calls = Arc::new(AtomicUsize::new(0));
        let make = {
            let calls = calls.clone();
            let owner = thread::current().id();
            move || {
                calls.fetch_add(1, Ordering::SeqCst);
                assert_eq!(thread::current().id(), owner);
                // It is the task that calls: one is live, and is being polled.
                assert_eq!((metrics().tasks_live, holders()[0].is_ready()), (1, true));
                async {
                    yield_now().await;
                    yield_now().await;
                    17
                }
            }
        };
        let mut waiting = Box::pin(spawn_with(make));
        for _ in 0..10 {
            assert!(poll_once(waiting.as_mut()).is_pending());
            elsewhere(|| assert!(poll_once(waiting.as_mut()).is_pending()));
            look_around().await;
        }
        assert_eq!(calls.load(Ordering::SeqCst), 0);
        gate.open();
        let task = waiting.await.unwrap();
        assert_eq!(task.await.unwrap(), 17);
        assert_eq!(calls.load(Ordering::SeqCst), 1);
        // With room it is the same: the spawner's poll does not call it.
        let called = calls.clone();
        let count = move || async move { called.fetch_add(10, Ordering::SeqCst) };
        let task = spawn_with(count).try_now().unwrap();
        assert_eq!(calls.load(Ordering::SeqCst), 1);
        task.await.unwrap();
        assert_eq!(calls.load(Ordering::SeqCst), 11);
    });
}

#[test]
fn a_panic_in_make_is_the_tasks() {
    runtime(1).block_on(async {
        let drops = Drops::new();
        for waits in [false, true] {
            let gate = Gate::new();
            if waits {
                drop(spawn(gate.wait()).await.unwrap());
            }
            let tracked = drops.track();
            let make = move || {
                let _tracked = tracked;
                if metrics().tasks_live > 0 {
                    panic!("no future today");
                }
                async { 1 }
            };
            let mut spawn = Box::pin(spawn_with(make));
            if waits {
                assert!(poll_once(spawn.as_mut()).is_pending());
                gate.open();
            }
            let error = spawn.await.unwrap().await.unwrap_err();
            assert_eq!(error.to_string(), "the task panicked: no future today");
        }
        assert_eq!((drops.count(), metrics().tasks_live, metrics().task_bytes), (2, 0, 0));
    });
}

#[test]
fn a_closure_that_was_never_called_is_dropped_once() {
    let drops = Drops::new();
    let calls = Rc::new(Cell::new(0));
    let make = || {
        let tracked = drops.track();
        move || async move { drop(tracked) }
    };
    let runtime = runtime(1);
    let handle = runtime.handle();
    let kept = runtime.block_on(async {
        drop(spawn(std::future::pending::<()>()).await.unwrap());
        drop(Box::pin(spawn_with(make())));
        assert_eq!(drops.count(), 1, "never polled");
        for here in [true, false] {
            let mut waiting = Box::pin(spawn_with(make()));
            assert!(poll_once(waiting.as_mut()).is_pending());
            if here { drop(waiting) } else { elsewhere(|| drop(waiting)) }
        }
        look_around().await;
        assert_eq!((drops.count(), metrics().waiting), (3, 0));
        let mut refused = Box::pin(spawn_with(make()));
        assert!(poll_once(refused.as_mut()).is_pending());
        handle.close();
        assert_eq!(refused.await.unwrap_err(), SpawnError::Closed);
        assert_eq!(drops.count(), 4);
        spawn_with(make()).try_now().unwrap_err()
    });
    drop(runtime);
    assert!(kept.is_closed());
    drop(kept);
    assert_eq!((drops.count(), calls.get()), (5, 0));

    // Admitted and aborted before its first poll, or ended with its runtime.
    for ends in [false, true] {
        let drops = Drops::new();
        let runtime = self::runtime(1);
        let tracked = drops.track();
        runtime.block_on(async {
            let task = spawn_with(move || async move { drop(tracked) }).try_now().unwrap();
            if !ends {
                task.abort();
                assert!(task.await.unwrap_err().is_cancelled());
            }
        });
        drop(runtime);
        assert_eq!(drops.count(), 1);
    }
}

#[test]
fn the_frame_is_as_small_as_the_closure() {
    let make = || Endless::<4096>::NEW;
    let (with, whole) = (spawn_with(make), spawn(make()));
    assert!(size_of_val(&with) < 128, "{}", size_of_val(&with));
    assert!(size_of_val(&whole) > 4096);
    Runtime::builder().max_task_bytes(5_000).build().unwrap().block_on(async {
        let task = with.await.unwrap();
        let bytes = metrics().task_bytes;
        assert!((4_096..4_200).contains(&bytes), "{bytes}: what counts is the task's size");
        let mut next = pin!(spawn_with(make));
        assert!(poll_once(next.as_mut()).is_pending());
        assert_eq!(anteroom::waiters()[0].bytes(), bytes);
        task.abort();
        next.await.unwrap().abort();
        yield_now().await;
        assert_eq!(metrics().task_bytes, 0);
        assert_eq!(spawn_with(|| Endless::<5_000>::NEW).await.unwrap_err(), SpawnError::ExceedsLimit);
    });
    drop(whole);
}

#[test]
fn withdraw_gives_the_closure_back() {
    runtime(1).block_on(async {
        let gate = Gate::new();
        let holder = spawn(gate.wait()).await.unwrap();
        let text = String::from("kept");
        let mut waiting = Box::pin(spawn_with(move || async move { text }));
        assert!(poll_once(waiting.as_mut()).is_pending());
        let make = waiting.as_mut().withdraw().unwrap();
        assert_eq!((make().await.as_str(), metrics().waiting), ("kept", 0));
        assert!(waiting.as_mut().withdraw().is_none());
        let error = spawn_with(|| async { 3 }).try_now().unwrap_err();
        assert!(error.is_full());
        assert_eq!(error.into_future()().await, 3);
        let mut granted = Box::pin(spawn_with(|| async { 4 }));
        assert!(poll_once(granted.as_mut()).is_pending());
        gate.open();
        holder.await.unwrap();
        assert!(granted.as_mut().withdraw().is_none(), "it is a task by now, and aborted");
        look_around().await;
        assert_eq!(metrics().tasks_live, 0);
        assert_eq!(spawn_with(|| async { 5 }).join().await.unwrap(), 5);
    });
}

#[test]
fn make_may_spawn_and_the_future_it_makes_stays_where_it_is() {
    runtime(2).block_on(async {
        let make = || {
            let child = anteroom::try_spawn(async { 1 }).unwrap();
            async move {
                let here = 5_u32;
                let address = std::ptr::from_ref(&here).addr();
                yield_now().await;
                assert_eq!(std::ptr::from_ref(&here).addr(), address);
                child.await.unwrap() + here
            }
        };
        assert_eq!(spawn_with(make).heap(100).join().await.unwrap(), 6);
        assert_eq!((metrics().tasks_live, metrics().task_bytes), (0, 0));
    });
}
