//! What becomes of spawners, tasks and handles when a runtime ends, and of those that never had one.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anteroom::net::TcpListener;
use anteroom::{Runtime, SpawnError, metrics, spawn, spawn_local, spawn_service, time, try_spawn, yield_now};
use anteroom_tests::{Drops, Gate, Unordered, Wakes, elsewhere, park_on, poll_once, poll_with};

fn runtime(max_tasks: usize) -> Runtime {
    Runtime::builder().max_tasks(max_tasks).build().unwrap()
}

/// What a panic of `f` says.
fn panic_text<T>(f: impl FnOnce() -> T) -> String {
    let payload = catch_unwind(AssertUnwindSafe(f)).err().expect("it panics");
    match payload.downcast::<String>() {
        Ok(text) => *text,
        Err(payload) => (*payload.downcast::<&str>().unwrap()).into(),
    }
}

#[test]
fn a_spawner_that_waits_is_told_and_keeps_its_future() {
    let runtime = runtime(1);
    let drops = Drops::new();
    let tracked = drops.track();
    let mut waiting = pin!(spawn(async move { (7, tracked).0 }));
    let (waker, told) = Wakes::new();
    runtime.block_on(async {
        drop(try_spawn(std::future::pending::<()>()).unwrap());
        assert!(poll_with(waiting.as_mut(), &waker).is_pending());
    });
    drop(runtime);
    assert_eq!(told.count(), 1);
    assert_eq!(park_on(waiting.as_mut()).unwrap_err(), SpawnError::Closed);
    assert_eq!(drops.count(), 0);
    assert_eq!(park_on(waiting.withdraw().expect("it was never admitted")), 7);
    assert_eq!(drops.count(), 1);
}

#[test]
fn a_spawner_that_waits_on_another_thread_is_told_too() {
    let (sender, receiver) = std::sync::mpsc::channel();
    let (ready, go) = std::sync::mpsc::channel();
    let waiter = std::thread::spawn(move || {
        let mut waiting: std::pin::Pin<Box<anteroom::Spawn<std::future::Ready<u8>>>> =
            receiver.recv().unwrap();
        assert!(poll_once(waiting.as_mut()).is_pending());
        ready.send(()).unwrap();
        park_on(waiting).unwrap_err()
    });
    let runtime = runtime(1);
    runtime.block_on(async {
        drop(try_spawn(std::future::pending::<()>()).unwrap());
        let mut waiting = Box::pin(spawn(std::future::ready(1)));
        assert!(poll_once(waiting.as_mut()).is_pending());
        sender.send(waiting).unwrap();
    });
    go.recv().unwrap();
    drop(runtime);
    assert_eq!(waiter.join().unwrap(), SpawnError::Closed);
}

#[test]
fn while_a_runtime_ends_nobody_gets_in() {
    // bugs.md 9
    /// Tries every door in its drop.
    struct Late(Arc<Mutex<Vec<String>>>);
    impl Drop for Late {
        fn drop(&mut self) {
            let mut said = Vec::new();
            let error = try_spawn(async { 1 }).unwrap_err();
            assert!(error.is_closed());
            said.push(error.to_string());
            assert_eq!(park_on(error.into_future()), 1);
            assert!(spawn_service(async {}).unwrap_err().is_closed());
            said.push(park_on(spawn(async {})).unwrap_err().to_string());
            said.push(park_on(spawn_local(async {}).join()).unwrap_err().to_string());
            self.0.lock().unwrap().extend(said);
        }
    }
    let said = Arc::new(Mutex::new(Vec::new()));
    let runtime = runtime(10);
    runtime.block_on(async {
        let late = Late(said.clone());
        drop(try_spawn(async move { (std::future::pending::<()>().await, late).0 }).unwrap());
        yield_now().await;
    });
    drop(runtime);
    let said = said.lock().unwrap();
    assert_eq!(said.len(), 3);
    assert!(said.iter().all(|text| text.ends_with("the runtime is shutting down")), "{said:?}");
}

#[test]
fn every_live_task_is_dropped_on_this_thread_and_every_handle_learns_it() {
    let runtime = runtime(1_000);
    let (started, unstarted, done) = (Drops::new(), Drops::new(), Drops::new());
    let handles: Vec<_> = runtime.block_on(async {
        let task = |tracked| async move {
            std::future::pending::<()>().await;
            drop(tracked);
        };
        let mut handles: Vec<_> = (0..200).map(|_| try_spawn(task(started.track())).unwrap()).collect();
        yield_now().await;
        let detached: Vec<_> = (0..200).map(|_| try_spawn(task(started.track())).unwrap()).collect();
        drop(detached);
        yield_now().await;
        handles.extend((0..200).map(|_| try_spawn(task(unstarted.track())).unwrap()));
        handles
    });
    let output = runtime.block_on(async {
        let tracked = done.track();
        let handle = try_spawn(async move { tracked }).unwrap();
        yield_now().await;
        assert!(handle.is_finished());
        Some(handle)
    });
    drop(runtime);
    assert_eq!((started.count(), unstarted.count(), done.count()), (400, 200, 0));
    let here = std::thread::current().id();
    assert!(started.threads().iter().chain(&unstarted.threads()).all(|&thread| thread == here));
    for handle in handles {
        assert!(handle.is_finished());
        assert!(park_on(handle).unwrap_err().is_cancelled());
    }
    drop(park_on(output.unwrap()).expect("an output stays with its handle"));
    assert_eq!(done.count(), 1);
}

#[test]
fn tasks_that_hold_one_another_are_all_dropped() {
    // bugs.md 28: a handle in the other's future, and so wakers of each in the other. `cycles.rs` has other circles.
    let drops = Drops::new();
    let runtime = runtime(100);
    runtime.block_on(async {
        for _ in 0..10 {
            let (to_left, from_right) = (Arc::new(Mutex::new(None)), Arc::new(Mutex::new(None)));
            let (left_slot, right_slot) = (to_left.clone(), from_right.clone());
            let (a, b) = (drops.track(), drops.track());
            let take = |slot: Arc<Mutex<Option<anteroom::JoinHandle<()>>>>| slot.lock().unwrap().take();
            let left = spawn(async move {
                yield_now().await;
                take(left_slot).unwrap().await.unwrap();
                drop(a);
            });
            let right = spawn(async move {
                yield_now().await;
                take(right_slot).unwrap().await.unwrap();
                drop(b);
            });
            *from_right.lock().unwrap() = Some(left.await.unwrap());
            *to_left.lock().unwrap() = Some(right.await.unwrap());
        }
        yield_now().await;
        yield_now().await;
        assert_eq!((metrics().tasks_live, drops.count()), (20, 0));
    });
    drop(runtime);
    assert_eq!(drops.count(), 20);
}

#[test]
fn a_combinator_of_waiting_spawns_ends_with_its_runtime() {
    let runtime = runtime(1);
    let mut all: Unordered<_> =
        (0..20).map(|n| spawn(async move { (Gate::new().wait().await, n) }).join()).collect();
    runtime.block_on(async { assert!(poll_once(pin!(all.next())).is_pending()) });
    drop(runtime);
    let mut failed = 0;
    while let Some((_, result)) = park_on(all.next()) {
        assert!(result.unwrap_err().is_cancelled());
        failed += 1;
    }
    assert_eq!(failed, 20);
}

#[test]
fn outside_a_runtime_every_door_says_what_to_do() {
    let inside = "Runtime::block_on";
    assert!(panic_text(|| try_spawn(async {})).contains(inside));
    assert!(panic_text(|| spawn_service(async {})).contains(inside));
    assert!(panic_text(|| park_on(spawn(async {}))).contains(inside));
    assert!(panic_text(|| park_on(spawn_local(async {}))).contains(inside));
    assert!(panic_text(|| park_on(anteroom::spawn_blocking(|| ()))).contains(inside));
    assert!(panic_text(|| park_on(time::sleep(Duration::ZERO))).contains(inside));
    assert!(panic_text(|| park_on(time::advance(Duration::ZERO))).contains(inside));
    assert!(panic_text(metrics).contains(inside));
    let error = park_on(TcpListener::bind("127.0.0.1:0")).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::Unsupported);
    assert!(error.to_string().contains(inside));
}

#[test]
fn a_spawn_that_panicked_outside_can_still_be_used() {
    let mut early = Box::pin(spawn(async { 5 }));
    panic_text(|| poll_once(early.as_mut()));
    assert_eq!(anteroom::block_on(async { early.await.unwrap().await.unwrap() }), 5);
}

#[test]
fn a_frame_may_be_dropped_by_anyone_after_its_runtime_is_gone() {
    let runtime = runtime(1);
    let drops = Drops::new();
    let frames: Vec<_> = runtime.block_on(async {
        drop(try_spawn(std::future::pending::<()>()).unwrap());
        let frame = |_| {
            let tracked = drops.track();
            let mut frame = Box::pin(spawn(async move { drop(tracked) }));
            assert!(poll_once(frame.as_mut()).is_pending());
            frame
        };
        (0..100).map(frame).collect()
    });
    drop(runtime);
    elsewhere(move || drop(frames));
    assert_eq!(drops.count(), 100);
    // Their nodes came back to the home, which the next runtime has.
    anteroom::block_on(async {
        for _ in 0..200 {
            yield_now().await;
        }
        assert_eq!((metrics().waiting, metrics().tasks_live), (0, 0));
    });
}

#[test]
fn bad_options_are_errors_that_name_them() {
    // bugs.md 10, 21
    let builder = Runtime::builder;
    for (built, text) in [
        (builder().max_tasks(0).build(), "max_tasks(0)"),
        (builder().max_tasks(usize::MAX).build(), "max_tasks("),
        (builder().max_task_bytes(0).build(), "max_task_bytes(0)"),
        (builder().blocking_threads(0).build(), "blocking_threads(0)"),
        (builder().blocking_queue(usize::MAX).build(), "blocking_queue("),
        (builder().service_tasks(usize::MAX).build(), "service_tasks("),
        (builder().timer_resolution(Duration::ZERO).build(), "timer_resolution(0ns)"),
        (builder().timer_resolution(Duration::MAX).build(), "timer_resolution("),
    ] {
        let error = built.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
        assert!(error.to_string().starts_with(text), "{error}");
    }
}
