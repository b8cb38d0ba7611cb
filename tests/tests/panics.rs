//! A panic in anything that a task is made of ends that task, and nothing else.
//!
//! bugs.md 29: no double panic, no leak, and the siblings still run and drop.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use anteroom::net::TcpListener;
use anteroom::{JoinError, JoinHandle, Runtime, metrics, spawn, time, try_spawn, yield_now};
use anteroom_tests::{Drops, Endless, Gate, Hooks, Tracked, elsewhere, look_around, poll_with};

/// What a panic of a task said.
fn text(error: JoinError) -> &'static str {
    *error.into_panic().expect("it panicked").downcast::<&str>().unwrap()
}

const IN_DROP: &str = "in the drop of a tracked value";

/// Runs `bad` with siblings on both sides of it; they must not notice, and nothing of it may be left.
fn among_siblings<T>(bad: impl AsyncFnOnce() -> T) -> T {
    anteroom::block_on(async {
        let gate = Gate::new();
        let before: Vec<_> = (0..10).map(|_| try_spawn(gate.wait()).unwrap()).collect();
        let result = bad().await;
        let after: Vec<_> = (0..10).map(|_| try_spawn(gate.wait()).unwrap()).collect();
        gate.open();
        for sibling in before.into_iter().chain(after) {
            sibling.await.unwrap();
        }
        look_around().await;
        assert_eq!((metrics().tasks_live, metrics().headers), (0, 1));
        result
    })
}

#[test]
fn a_panic_in_a_poll_reaches_the_joiner() {
    let error = among_siblings(async || {
        let task = spawn(async {
            yield_now().await;
            panic!("in a poll");
        });
        task.join().await.unwrap_err()
    });
    assert!(error.is_panic() && !error.is_cancelled());
    assert_eq!(error.to_string(), "the task panicked: in a poll");
    assert_eq!(text(error), "in a poll");
}

#[test]
fn a_panic_in_a_poll_drops_the_future_once() {
    let drops = Drops::new();
    among_siblings(async || {
        let tracked = drops.track();
        let task = spawn(async move {
            yield_now().await;
            let _tracked = tracked;
            panic!("in a poll");
        });
        task.join().await.unwrap_err();
    });
    assert_eq!(drops.count(), 1);
}

#[test]
fn a_panic_in_the_futures_drop_reaches_the_joiner() {
    /// Ready at once; its drop panics, and drops what it holds.
    struct Bad(#[allow(dead_code, reason = "for its drop")] Tracked, Tracked);
    impl Future for Bad {
        type Output = Tracked;
        fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Tracked> {
            Poll::Ready(std::mem::replace(&mut self.get_mut().1, Drops::new().track()))
        }
    }
    let (drops, outputs) = (Drops::new(), Drops::new());
    among_siblings(async || {
        // After it was ready: the output goes with it.
        let task = spawn(Bad(drops.track_panicking(), outputs.track())).await.unwrap();
        assert_eq!(text(task.await.unwrap_err()), IN_DROP);
        assert_eq!((drops.count(), outputs.count()), (1, 1));

        // Aborted before it ran, while its handle waits, and with nobody to tell.
        let task = spawn(Bad(drops.track_panicking(), outputs.track())).await.unwrap();
        task.abort();
        assert_eq!(text(task.await.unwrap_err()), IN_DROP);
        let task = spawn(Bad(drops.track_panicking(), outputs.track())).await.unwrap();
        task.abort();
        drop(task);
        drop(spawn(Bad(drops.track_panicking(), outputs.track())).await.unwrap());
    });
    assert_eq!((drops.count(), outputs.count()), (4, 4));
}

#[test]
fn a_panic_in_a_poll_and_then_in_the_drop_is_one_panic() {
    /// By hand, since an `async` block drops what it holds while it unwinds.
    struct Twice(#[allow(dead_code, reason = "for its drop")] Tracked);
    impl Future for Twice {
        type Output = ();
        fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
            panic!("in a poll")
        }
    }
    let drops = Drops::new();
    let error = among_siblings(async || spawn(Twice(drops.track_panicking())).join().await.unwrap_err());
    assert_eq!(drops.count(), 1);
    assert_eq!(text(error), IN_DROP, "the later one");
}

#[test]
fn a_panic_in_the_drop_of_a_detached_output_is_nobodys() {
    let drops = Drops::new();
    among_siblings(async || {
        let bad = drops.track_panicking();
        drop(spawn(async move { bad }).await.unwrap());
        look_around().await;
        assert_eq!(drops.count(), 1);
    });
}

#[test]
fn a_panic_in_the_drop_of_a_kept_output_is_that_of_whoever_drops_the_handle() {
    let drops = Drops::new();
    among_siblings(async || {
        let bad = drops.track_panicking();
        let handle = spawn(async move { bad }).await.unwrap();
        look_around().await;
        assert!(catch_unwind(AssertUnwindSafe(|| drop(handle))).is_err());
        assert_eq!(drops.count(), 1);

        // A handle that goes away on another thread while the task lives leaves the output to the owner, who swallows it.
        let (bad, gate) = (drops.track_panicking(), Gate::new());
        let wait = gate.wait();
        let handle = spawn(async move { (wait.await, bad).1 }).await.unwrap();
        elsewhere(|| drop(handle));
        gate.open();
        look_around().await;
        assert_eq!(drops.count(), 2);
    });
}

#[test]
fn a_payload_that_panics_when_it_is_dropped_stops_nobody() {
    let drops = Drops::new();
    among_siblings(async || {
        let bad = drops.track_panicking();
        drop(spawn(async move { std::panic::panic_any(bad) }).await.unwrap());
        look_around().await;
        assert_eq!(drops.count(), 1);
    });
}

#[test]
fn a_joiners_waker_that_panics_stops_nobody() {
    let quiet = |hooks: &Arc<Hooks>| hooks.clear();
    among_siblings(async || {
        let gate = Gate::new();
        let watch = |handle: &mut JoinHandle<()>, hooks: &Arc<Hooks>| {
            let waker = hooks.waker();
            assert!(poll_with(Pin::new(handle), &waker).is_pending());
        };
        let mut handles: Vec<_> = (0..4).map(|_| try_spawn(gate.wait()).unwrap()).collect();

        // Cloned: the poll panics, and the handle works.
        let (_waker, hooks) = Hooks::new();
        hooks.on_clone(|| panic!("in a clone"));
        assert!(catch_unwind(AssertUnwindSafe(|| watch(&mut handles[0], &hooks))).is_err());
        quiet(&hooks);

        // Woken, dropped with its handle, replaced.
        let (_waker, hooks_wake) = Hooks::new();
        watch(&mut handles[1], &hooks_wake);
        hooks_wake.on_wake(|| panic!("in a wake"));
        let (_waker, hooks_drop) = Hooks::new();
        watch(&mut handles[2], &hooks_drop);
        watch(&mut handles[3], &hooks_drop);
        hooks_drop.on_drop(|| panic!("in a drop"));
        drop(handles.remove(2));
        watch(&mut handles[2], &hooks_wake);
        quiet(&hooks_drop);

        gate.open();
        for handle in &mut handles {
            handle.await.unwrap();
        }
        assert_eq!(hooks_wake.wakes(), 2);
        quiet(&hooks_wake);
        look_around().await;
        assert_eq!((hooks_wake.wakers_left(), hooks_drop.wakers_left()), (1, 1));
    });
}

#[test]
fn a_waker_from_another_thread_that_panics_stops_nobody() {
    // What is left for the owner is a waker that it may have to clone, wake and drop in its loop.
    let runtime = Runtime::builder().max_tasks(10).build().unwrap();
    for kind in 0..3 {
        let (waker, hooks) = Hooks::new();
        let gate = Gate::new();
        let [mut watched, mut let_go] =
            runtime.block_on(async { [(); 2].map(|()| try_spawn(gate.wait()).unwrap()) });
        elsewhere(|| {
            assert!(poll_with(Pin::new(&mut watched), &waker).is_pending());
            assert!(poll_with(Pin::new(&mut let_go), &waker).is_pending());
            drop(let_go);
        });
        match kind {
            0 => hooks.on_clone(|| panic!("in a clone")),
            1 => hooks.on_wake(|| panic!("in a wake")),
            _ => hooks.on_drop(|| panic!("in a drop")),
        }
        runtime.block_on(async {
            look_around().await;
            gate.open();
            look_around().await;
            watched.await.unwrap();
        });
        hooks.clear();
        drop(waker);
        assert_eq!((hooks.wakers_left(), runtime.metrics().headers), (0, 0));
    }
}

#[test]
fn a_spawners_waker_that_panics_strands_nobody() {
    let runtime = Runtime::builder().max_task_bytes(1_000).build().unwrap();
    runtime.block_on(async {
        let holder = try_spawn(Endless::<600>::NEW).unwrap();
        let mut large = Box::pin(spawn(Endless::<900>::NEW));
        let mut small: Vec<_> = (0..3).map(|_| Box::pin(spawn(Endless::<100>::NEW))).collect();
        let (waker, hooks) = Hooks::new();
        assert!(poll_with(large.as_mut(), &waker).is_pending());
        let (other, told) = Hooks::new();
        for spawn in &mut small {
            assert!(poll_with(spawn.as_mut(), &other).is_pending());
        }
        // The head leaves, and its waker panics about it; those behind it panic when they are told.
        hooks.on_drop(|| panic!("in a drop"));
        told.on_wake(|| panic!("in a wake"));
        let _ = catch_unwind(AssertUnwindSafe(|| drop(large)));
        assert_eq!((metrics().waiting, metrics().tasks_live, told.wakes()), (0, 4, 3));
        hooks.clear();
        for spawn in small {
            spawn.await.unwrap().abort();
        }
        holder.abort();
        look_around().await;
        assert_eq!((metrics().task_bytes, metrics().headers), (0, 2));
    });
}

#[test]
fn timers_and_sockets_with_wakers_that_panic_stop_nobody() {
    // A waker that panics in both would be a double panic of its own making.
    for (outlive, in_wake) in [(false, true), (true, true), (false, false), (true, false)] {
        let runtime = Runtime::builder().max_tasks(10).build().unwrap();
        let (waker, hooks) = Hooks::new();
        let mut sleeps: Vec<_> = (0..6).map(|_| Box::pin(time::sleep(Duration::from_micros(500)))).collect();
        let mut late: Vec<_> = (0..3).map(|_| Box::pin(time::sleep(Duration::from_secs(500)))).collect();
        let listeners = runtime.block_on(async {
            for sleep in sleeps.iter_mut().chain(&mut late) {
                assert!(poll_with(sleep.as_mut(), &waker).is_pending());
            }
            let mut listeners = Vec::new();
            for _ in 0..3 {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                assert!(poll_with(Box::pin(listener.accept()).as_mut(), &waker).is_pending());
                listeners.push(listener);
            }
            listeners
        });
        for listener in &listeners {
            // Letters for the owner.
            assert!(poll_with(Box::pin(listener.accept()).as_mut(), &waker).is_pending());
        }
        drop(waker);
        match in_wake {
            true => hooks.on_wake(|| panic!("in a wake")),
            false => hooks.on_drop(|| panic!("in a drop")),
        }
        if !outlive {
            runtime.block_on(async {
                time::sleep(Duration::from_millis(2)).await;
                look_around().await;
            });
            assert_eq!(hooks.wakes(), 6);
        }
        drop(runtime);
        hooks.clear();
        drop((sleeps, late, listeners));
        assert_eq!(hooks.wakers_left(), 0);
        assert_eq!(anteroom::block_on(async { spawn(async { 3 }).join().await.unwrap() }), 3);
    }
}

#[test]
fn a_panic_in_the_future_of_block_on_leaves_the_runtime_usable() {
    let runtime = Runtime::builder().max_tasks(10).build().unwrap();
    let gate = Gate::new();
    let wait = gate.wait();
    let mut task = None;
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        runtime.block_on(async {
            task = Some(try_spawn(async move { (wait.await, 4).1 }).unwrap());
            yield_now().await;
            panic!("in block_on");
        });
    }));
    assert_eq!(panicked.unwrap_err().downcast_ref::<&str>(), Some(&"in block_on"));
    gate.open();
    assert_eq!(runtime.block_on(task.unwrap()).unwrap(), 4);
    assert_eq!(runtime.metrics().headers, 0);
}

#[test]
fn futures_that_panic_in_their_drop_do_not_stop_the_end_of_a_runtime() {
    let drops = Drops::new();
    let runtime = Runtime::builder().max_tasks(30).build().unwrap();
    let handles: Vec<_> = runtime.block_on(async {
        let tasks = (0..30).map(|n| {
            let tracked = if n % 3 == 0 { drops.track_panicking() } else { drops.track() };
            try_spawn(async move { (std::future::pending::<()>().await, tracked).0 }).unwrap()
        });
        let mut handles: Vec<_> = tasks.collect();
        yield_now().await;
        handles.truncate(15);
        handles
    });
    drop(runtime);
    assert_eq!(drops.count(), 30);
    for (n, handle) in handles.into_iter().enumerate() {
        let error = anteroom_tests::park_on(handle).unwrap_err();
        assert_eq!(error.is_panic(), n % 3 == 0, "{error}");
    }
}

/// A future that panics where it is told to.
struct Panics {
    at: At,
    polls: usize,
    held: Option<Tracked>,
}

/// Where a task panics.
#[derive(Clone, Copy, Debug, PartialEq)]
enum At {
    TheFirstPoll,
    ALaterPoll,
    /// In its drop, ready or not.
    ItsDrop,
    /// In a poll, and then in its drop.
    PollAndDrop,
    /// With a payload whose own drop panics.
    APayload,
    /// In the drop of its output.
    ItsOutput,
}

impl Future for Panics {
    type Output = Option<Tracked>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Tracked>> {
        self.polls += 1;
        match self.at {
            At::TheFirstPoll | At::PollAndDrop => panic!("in a poll"),
            At::APayload => std::panic::panic_any(self.held.take()),
            At::ALaterPoll if self.polls > 2 => panic!("in a poll"),
            At::ItsOutput if self.polls > 2 => return Poll::Ready(self.held.take()),
            At::ItsDrop if self.polls > 2 => return Poll::Ready(None),
            At::ALaterPoll | At::ItsOutput | At::ItsDrop => cx.waker().wake_by_ref(),
        }
        Poll::Pending
    }
}

#[test]
fn wherever_a_task_panics_its_place_goes_to_the_next_and_nothing_of_it_is_left() {
    // bugs.md 29: each way to panic, and each end that its handle can have meanwhile.
    const ENDS: [&str; 6] =
        ["awaited", "dropped", "dropped elsewhere", "aborted", "aborted elsewhere", "dropped when done"];
    let ways = [At::TheFirstPoll, At::ALaterPoll, At::ItsDrop, At::PollAndDrop, At::APayload, At::ItsOutput];
    for (at, end) in ways.into_iter().flat_map(|at| ENDS.map(|end| (at, end))) {
        let drops = Drops::new();
        let runtime = Runtime::builder().max_tasks(2).max_task_bytes(10_000).build().unwrap();
        runtime.block_on(async {
            let gate = Gate::new();
            let sibling = try_spawn(gate.wait()).unwrap();
            let panics_in_drop = !matches!(at, At::TheFirstPoll | At::ALaterPoll);
            let held = if panics_in_drop { drops.track_panicking() } else { drops.track() };
            let bad = spawn(Panics { at, polls: 0, held: Some(held) }).await.unwrap();
            let mut next = Box::pin(spawn(async { 8 }));
            assert!(poll_with(next.as_mut(), std::task::Waker::noop()).is_pending());
            let quiet = |f: &mut dyn FnMut()| drop(catch_unwind(AssertUnwindSafe(f)));
            match end {
                "awaited" => match bad.await {
                    Ok(output) => {
                        assert_eq!(at, At::ItsOutput);
                        let mut output = Some(output);
                        quiet(&mut || drop(output.take()));
                    }
                    Err(error) => {
                        assert!(error.is_panic() && at != At::ItsOutput, "{error}");
                        let mut error = Some(error);
                        quiet(&mut || drop(error.take()));
                    }
                },
                "dropped" => drop(bad),
                "dropped elsewhere" => elsewhere(|| drop(bad)),
                "aborted" => {
                    bad.abort();
                    let error = bad.await.unwrap_err();
                    assert_eq!(error.is_panic(), panics_in_drop, "{at:?}: {error}");
                }
                "aborted elsewhere" => {
                    elsewhere(|| bad.abort());
                    drop(bad);
                }
                _ => {
                    look_around().await;
                    assert!(bad.is_finished());
                    let mut bad = Some(bad);
                    quiet(&mut || drop(bad.take()));
                }
            }
            // In line it waited for the very place of the one that panicked.
            assert_eq!(next.await.unwrap().await.unwrap(), 8, "{at:?}, {end}");
            gate.open();
            sibling.await.unwrap();
            look_around().await;
            let left = metrics();
            assert_eq!(
                (left.tasks_live, left.task_bytes, left.headers, left.waiting),
                (0, 0, 1, 0),
                "{at:?}, {end}"
            );
            assert_eq!(drops.count(), 1, "{at:?}, {end}");
        });
    }
}

#[test]
fn what_unwinds_may_use_the_runtime() {
    /// Uses all of it in its drop.
    struct Guard(Option<JoinHandle<()>>, Drops);
    impl Drop for Guard {
        fn drop(&mut self) {
            assert!(std::thread::panicking());
            self.0.take().unwrap().abort();
            let tracked = self.1.track();
            drop(try_spawn(async move { drop(tracked) }).unwrap());
            let mut sleep = Box::pin(time::sleep(Duration::from_secs(100)));
            assert!(poll_with(sleep.as_mut(), std::task::Waker::noop()).is_pending());
            let mut waits = Box::pin(spawn(yield_now()));
            let _ = poll_with(waits.as_mut(), std::task::Waker::noop());
            assert_eq!(anteroom::block_on(async { spawn(async { 4 }).join().await.unwrap() }), 4);
            assert!(metrics().timers > 0);
        }
    }
    let drops = Drops::new();
    among_siblings(async || {
        let endless = spawn(std::future::pending()).await.unwrap();
        let guard = Guard(Some(endless), drops.clone());
        let task = spawn(async move {
            let _guard = guard;
            yield_now().await;
            panic!("in a poll");
        });
        assert_eq!(text(task.join().await.unwrap_err()), "in a poll");
        look_around().await;
        assert_eq!((drops.count(), metrics().timers, metrics().waiting), (1, 0, 0));
    });
}

#[test]
fn a_panic_in_an_inner_runtime_ends_one_task_of_the_outer() {
    among_siblings(async || {
        let drops = Drops::new();
        let tracked = drops.track();
        let task = spawn(async move {
            let inner = Runtime::builder().max_tasks(3).build().unwrap();
            let wait = Gate::new().wait();
            inner.block_on(async {
                drop(try_spawn(async move { (wait.await, tracked).0 }).unwrap());
                yield_now().await;
                panic!("in the inner one");
            });
        });
        assert_eq!(text(task.join().await.unwrap_err()), "in the inner one");
        // The inner one was dropped by the panic, with its task, and this thread is in the outer one again.
        assert_eq!((drops.count(), metrics().tasks_max), (1, 4_096));
    });
}

#[test]
fn a_service_that_panics_gives_its_place_back() {
    Runtime::builder().service_tasks(1).build().unwrap().block_on(async {
        for n in 0..10 {
            let service = anteroom::spawn_service(async move {
                yield_now().await;
                assert!(n > 100, "in a service");
            });
            assert!(service.expect("the last one is over").await.unwrap_err().is_panic());
            assert_eq!(metrics().services_live, 0);
        }
    });
}

#[test]
fn jobs_that_panic_when_they_are_dropped_unrun_do_not_stop_the_end_of_a_runtime() {
    let drops = Drops::new();
    let runtime = Runtime::builder().blocking_threads(1).blocking_queue(10).build().unwrap();
    let (go, at_go) = std::sync::mpsc::channel::<()>();
    let (begun, at_begun) = std::sync::mpsc::channel();
    let mut hangs = Box::pin(anteroom::spawn_blocking(move || (begun.send(()).unwrap(), at_go.recv())));
    let queued: Vec<_> = runtime.block_on(async {
        assert!(poll_with(hangs.as_mut(), std::task::Waker::noop()).is_pending());
        at_begun.recv().unwrap();
        let queue = |n: usize| {
            let held = if n % 2 == 0 { drops.track_panicking() } else { drops.track() };
            let mut job = Box::pin(anteroom::spawn_blocking(move || drop(held)));
            assert!(poll_with(job.as_mut(), std::task::Waker::noop()).is_pending());
            job
        };
        (0..10).map(queue).collect()
    });
    drop(runtime);
    assert_eq!(drops.count(), 10);
    for job in queued {
        assert!(anteroom_tests::park_on(job).unwrap_err().is_cancelled());
    }
    drop(go);
    assert!(anteroom_tests::park_on(hangs).unwrap().1.is_err());
}
