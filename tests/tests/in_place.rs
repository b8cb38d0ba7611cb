//! Spawning into a full limit does not deadlock: when nothing else can move, a child runs in its spawner's own place, and
//! only then.
use std::future::{pending, poll_fn, ready};
use std::io::Write;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use anteroom::net::{TcpListener, TcpStream};
use anteroom::{
    Handle, JoinHandle, Runtime, SpawnError, metrics, spawn, spawn_local, spawn_service, spawn_with, time,
    yield_now,
};
use anteroom_tests::{Drops, Gate, Unordered, Wakes, beside, must_end, poll_with};
use futures_util::future::{Either, join, select};

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

fn runtime(max_tasks: usize) -> Runtime {
    Runtime::builder().max_tasks(max_tasks).build().unwrap()
}

/// One in which children may be nested as deep as they are counted.
fn deep_runtime(max_tasks: usize) -> Runtime {
    Runtime::builder().max_tasks(max_tasks).in_place_stack(128 << 20).build().unwrap()
}

fn with_stack<T: Send + 'static>(bytes: usize, f: impl FnOnce() -> T + Send + 'static) -> T {
    std::thread::Builder::new().stack_size(bytes).spawn(f).unwrap().join().unwrap()
}

/// Runs `task` as a task of a runtime with so many places, to its end.
fn run_in<T: Send + 'static>(max_tasks: usize, task: impl Future<Output = T> + Send + 'static) -> T {
    must_end(move || {
        let runtime = runtime(max_tasks);
        let output = runtime.block_on(async move { spawn(task).await.unwrap().await.unwrap() });
        let metrics = runtime.metrics();
        assert_eq!((metrics.tasks_live, metrics.waiting, metrics.in_place, metrics.task_bytes), (0, 0, 0, 0));
        output
    })
}

/// Fills the runtime but for `free` places, with tasks that wait until the gate is opened.
async fn fill(free: usize) -> Gate {
    let gate = Gate::new();
    while metrics().tasks_live + free < metrics().tasks_max {
        drop(spawn(gate.wait()).await.unwrap());
    }
    gate
}

/// One poll, with the waker of who awaits this.
async fn poll_once<F: Future + ?Sized>(future: &mut Pin<Box<F>>) -> Poll<F::Output> {
    poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await
}

/// All that is runnable runs, and the loop is woken from elsewhere after that, a few times.
async fn idle() {
    for _ in 0..5 {
        yield_now().await;
        let mut is_asked = false;
        poll_fn(|cx| {
            if std::mem::replace(&mut is_asked, true) {
                return Poll::Ready(());
            }
            let waker = cx.waker().clone();
            drop(std::thread::spawn(move || waker.wake()));
            Poll::Pending
        })
        .await;
    }
}

/// Goes on when it is so, looking after each wake from elsewhere.
async fn until(is_so: impl Fn() -> bool) {
    while !is_so() {
        idle().await;
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Spawn,
    With,
    Join,
    ByHandle,
    OrInPlace,
    Mixed,
}

/// Recursion in which each parent awaits its child's handle; the output is how deep it is.
fn nest(deep: usize, limit: usize, way: Way) -> Boxed<usize> {
    Box::pin(async move {
        assert!(metrics().tasks_live <= limit);
        if deep == 0 {
            return 0;
        }
        let child = nest(deep - 1, limit, way);
        let handle = match way {
            Way::Spawn => spawn(child).await,
            Way::With => spawn_with(move || child).await,
            Way::Join => return 1 + spawn(child).join().await.unwrap(),
            Way::ByHandle => Handle::current().unwrap().spawn(child).await,
            Way::OrInPlace => spawn(child).or_in_place().await,
            Way::Mixed if deep % 2 == 0 => spawn_with(move || child).or_in_place().await,
            Way::Mixed => Handle::current().unwrap().spawn(child).or_in_place().await,
        };
        1 + handle.unwrap().await.unwrap()
    })
}

/// As [`nest`], for what is not `Send`.
fn nest_local(deep: usize) -> Pin<Box<dyn Future<Output = usize>>> {
    Box::pin(async move {
        match deep {
            0 => 0,
            _ => 1 + spawn_local(nest_local(deep - 1)).await.unwrap().await.unwrap(),
        }
    })
}

/// bugs.md 19
#[test]
fn recursion_a_thousand_deep_ends_at_limits_1_2_and_3() {
    for limit in 1..=3 {
        for way in [Way::Spawn, Way::With, Way::Join, Way::ByHandle, Way::OrInPlace, Way::Mixed] {
            // Each child is told by a poll of all above it, which takes long where nothing is optimised.
            let is_slow = cfg!(anteroom_asan) || cfg!(debug_assertions) && way != Way::Spawn;
            let levels = if is_slow { 200 } else { 1_000 };
            let deep = with_stack(64 << 20, move || {
                let runtime = deep_runtime(limit);
                let deep = runtime.block_on(spawn(nest(levels, limit, way)).join()).unwrap();
                assert_eq!((runtime.metrics().in_place, runtime.metrics().tasks_live), (0, 0));
                deep
            });
            assert_eq!(deep, levels, "{way:?} at {limit}");
        }
        let deep = with_stack(64 << 20, move || {
            deep_runtime(limit).block_on(spawn_local(nest_local(300)).join()).unwrap()
        });
        assert_eq!(deep, 300);
    }
}

#[test]
#[cfg_attr(anteroom_asan, ignore = "eight million polls")]
fn what_is_deeper_than_4_096_children_in_place_is_too_deep_and_unwinds() {
    fn descend(deep: usize) -> Boxed<(usize, SpawnError)> {
        Box::pin(async move {
            match spawn(descend(deep + 1)).await {
                Ok(handle) => handle.await.unwrap(),
                Err(error) => (deep, error),
            }
        })
    }
    for limit in if cfg!(debug_assertions) { 1..=1 } else { 1..=3 } {
        with_stack(256 << 20, move || {
            let runtime = deep_runtime(limit);
            let (deep, error) = runtime.block_on(spawn(descend(1)).join()).unwrap();
            // The tasks, and 4,096 in place of the last of them.
            assert_eq!((deep, error), (limit + 4_096, SpawnError::TooDeep));
            let metrics = runtime.metrics();
            assert_eq!((metrics.tasks_live, metrics.waiting, metrics.in_place), (0, 0, 0));
            // And once more, as if nothing had been.
            assert_eq!(runtime.block_on(spawn(nest(100, limit, Way::Spawn)).join()).unwrap(), 100);
        });
    }
}

#[test]
fn a_stack_that_children_in_place_could_use_up_is_enough_by_default() {
    fn descend(deep: usize) -> Boxed<usize> {
        Box::pin(async move {
            match spawn(descend(deep + 1)).await {
                Ok(handle) => handle.await.unwrap(),
                Err(error) => {
                    assert_eq!(error, SpawnError::TooDeep);
                    deep
                }
            }
        })
    }
    // Half of what std gives a thread, whether that was optimised or not.
    let deep = with_stack(2 << 20, || runtime(1).block_on(spawn(descend(1)).join()).unwrap());
    assert!((25..4_000).contains(&deep), "{deep} levels");
    println!("{deep} levels in 1 MiB");
    // And of half of it, half as many.
    let less = Runtime::builder().max_tasks(1).in_place_stack(512 << 10);
    let less = with_stack(2 << 20, || less.build().unwrap().block_on(spawn(descend(1)).join()).unwrap());
    assert!((deep / 3..deep * 2 / 3).contains(&less), "{less} of {deep} levels");
    // None at all.
    let none = Runtime::builder().max_tasks(1).in_place_stack(0);
    let error = with_stack(2 << 20, || none.build().unwrap().block_on(spawn(descend(1)).join()).unwrap());
    assert_eq!(error, 1);
}

/// bugs.md 20
#[test]
fn two_children_joined_at_once_run_one_after_the_other() {
    for wait in [false, true] {
        let running = Arc::new(AtomicUsize::new(0));
        let child = |number: usize| {
            let running = running.clone();
            async move {
                assert_eq!(running.fetch_add(1, Ordering::SeqCst), 0, "two in one place");
                assert_eq!(metrics().in_place, 1);
                if wait {
                    time::sleep(Duration::from_millis(1)).await;
                }
                yield_now().await;
                assert_eq!(metrics().in_place, 1);
                running.fetch_sub(1, Ordering::SeqCst);
                number
            }
        };
        let both = join(spawn(child(1)).join(), spawn(child(2)).join());
        let (one, two) = run_in(1, both);
        assert_eq!((one.unwrap(), two.unwrap()), (1, 2));
    }
}

#[test]
fn who_accepts_is_not_captured_while_a_holder_waits_for_io() {
    must_end(|| {
        runtime(2).block_on(async {
            let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let mut peer = std::net::TcpStream::connect(silent.local_addr().unwrap()).unwrap();
            let (stream, _) = silent.accept().await.unwrap();
            let holder = spawn(async move { stream.read_exact(&mut [0; 2]).await.unwrap() }).await.unwrap();
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let captured = Arc::new(AtomicUsize::new(0));
            let acceptor = spawn({
                let captured = captured.clone();
                async move {
                    for _ in 0..2 {
                        let (stream, _) = listener.accept().await.unwrap();
                        let captured = captured.clone();
                        let serve = async move {
                            captured.fetch_add(metrics().in_place, Ordering::SeqCst);
                            stream.write_all(b"hello").await.unwrap();
                        };
                        drop(spawn(serve).await.unwrap());
                    }
                }
            });
            let acceptor = acceptor.await.unwrap();
            let clients = [(); 2].map(|()| std::net::TcpStream::connect(address).unwrap());
            until(|| metrics().waiting == 1).await;
            // All that is runnable has run, and it sleeps; it is woken by one byte, which is not all that the holder waits for.
            idle().await;
            assert_eq!((metrics().waiting, metrics().in_place), (1, 0));
            peer.write_all(b"1").unwrap();
            time::sleep(Duration::from_millis(5)).await;
            idle().await;
            assert_eq!((metrics().waiting, metrics().in_place), (1, 0));
            peer.write_all(b"2").unwrap();
            holder.await.unwrap();
            acceptor.await.unwrap();
            for client in clients {
                let stream = TcpStream::from_std(client).unwrap();
                stream.read_exact(&mut [0; 5]).await.unwrap();
            }
            assert_eq!(captured.load(Ordering::SeqCst), 0);
        });
    });
}

#[test]
fn who_spawns_is_not_captured_while_a_holder_sleeps() {
    must_end(|| {
        let runtime = Runtime::builder().max_tasks(2).paused_clock(true).build().unwrap();
        runtime.block_on(async {
            let awake = Arc::new(AtomicUsize::new(0));
            let sleeper = {
                let awake = awake.clone();
                async move {
                    time::sleep(Duration::from_secs(3_600)).await;
                    awake.fetch_add(1, Ordering::SeqCst);
                }
            };
            let sleeper = spawn(sleeper).await.unwrap();
            let child = async move { (metrics().in_place, awake.load(Ordering::SeqCst)) };
            let spawner = spawn(spawn(child).join()).await.unwrap();
            assert_eq!(spawner.await.unwrap().unwrap(), (0, 1));
            sleeper.await.unwrap();
        });
    });
}

#[test]
fn a_blocking_job_is_a_reason_to_wait_too() {
    must_end(|| {
        runtime(2).block_on(async {
            let (open, job) = std::sync::mpsc::channel::<()>();
            let holder =
                spawn(async move { anteroom::spawn_blocking(move || job.recv().unwrap()).await.unwrap() });
            let holder = holder.await.unwrap();
            let spawner = spawn(spawn(async { metrics().in_place }).join()).await.unwrap();
            idle().await;
            assert_eq!((metrics().waiting, metrics().in_place), (1, 0));
            open.send(()).unwrap();
            assert_eq!(spawner.await.unwrap().unwrap(), 0);
            holder.await.unwrap();
        });
    });
}

#[test]
fn who_spawns_is_not_captured_while_a_holder_waits_for_another_runtime() {
    // For room there, for a task there, or for all of it to end: that it does not move here says nothing.
    for what in ["room", "a task", "its end"] {
        must_end(move || {
            let (tell, other) = std::sync::mpsc::channel();
            let (gate, end) = (Gate::new(), Gate::new());
            let thread = {
                let (open, end) = (gate.wait(), end.wait());
                std::thread::spawn(move || {
                    let other = runtime(1);
                    other.block_on(async {
                        drop(spawn(open).await.unwrap());
                        tell.send(Handle::current().unwrap()).unwrap();
                        end.await;
                    });
                })
            };
            let other = other.recv().unwrap();
            runtime(2).block_on(async {
                let holder = async move {
                    match what {
                        "room" => drop(other.spawn(ready(())).await.unwrap()),
                        "a task" => other.spawn(ready(())).join().await.unwrap(),
                        _ => other.drain(Duration::from_secs(3_600)).await.unwrap(),
                    }
                };
                let holder = spawn(holder).await.unwrap();
                let spawner = spawn(spawn(async { metrics().in_place }).join()).await.unwrap();
                idle().await;
                assert_eq!((metrics().waiting, metrics().in_place), (1, 0), "{what}");
                gate.open();
                holder.await.unwrap();
                assert_eq!(spawner.await.unwrap().unwrap(), 0);
            });
            end.open();
            thread.join().unwrap();
        });
    }
}

#[test]
fn who_has_no_place_keeps_its_turn() {
    must_end(|| {
        let runtime = runtime(1);
        let handle = runtime.handle();
        let order = Arc::new(Mutex::new(Vec::new()));
        let child = |name: &'static str| {
            let order = order.clone();
            async move {
                order.lock().unwrap().push((name, metrics().in_place));
                yield_now().await;
            }
        };
        runtime.block_on(async {
            let gate = Gate::new();
            let holder = {
                let (open, child) = (gate.wait(), child("of the holder"));
                spawn(async move {
                    open.await;
                    spawn(child).join().await.unwrap();
                })
            };
            let holder = holder.await.unwrap();
            let mut root = Box::pin(spawn(child("of block_on")));
            assert!(poll_once(&mut root).await.is_pending());
            let service = spawn_service(spawn(child("of a service"))).unwrap();
            yield_now().await;
            let foreign = {
                let child = child("of another thread");
                std::thread::spawn(move || handle.spawn_wait(child).unwrap())
            };
            until(|| metrics().waiting == 3).await;
            idle().await;
            assert_eq!((metrics().waiting, metrics().in_place), (3, 0));
            // Last in line, and first to go on.
            gate.open();
            holder.await.unwrap();
            root.await.unwrap().await.unwrap();
            drop(service.await.unwrap());
            beside(move || foreign.join().unwrap()).await.await.unwrap();
        });
        let names = ["of the holder", "of block_on", "of a service", "of another thread"];
        assert_eq!(*order.lock().unwrap(), [(names[0], 1), (names[1], 0), (names[2], 0), (names[3], 0)]);
    });
}

#[test]
fn or_in_place_waits_where_there_is_no_place_to_lend() {
    must_end(|| {
        runtime(1).block_on(async {
            let gate = fill(0).await;
            let mut root = Box::pin(spawn(async { metrics().in_place }).or_in_place());
            assert!(poll_once(&mut root).await.is_pending());
            let service = spawn_service(spawn(async { metrics().in_place }).or_in_place().join()).unwrap();
            idle().await;
            assert_eq!((metrics().waiting, metrics().in_place), (2, 0));
            gate.open();
            assert_eq!(root.await.unwrap().await.unwrap(), 0);
            assert_eq!(service.await.unwrap().unwrap(), 0);
        });
    });
}

#[test]
fn an_offer_that_is_not_taken_passes_on() {
    must_end(|| {
        runtime(2).block_on(async {
            let gate = Gate::new();
            let (open, child) = (gate.wait(), spawn(async { metrics().in_place }).join());
            let live = spawn(async move {
                open.await;
                child.await.unwrap()
            });
            let live = live.await.unwrap();
            // First in line are spawns that were polled once and will not be again, and some that are gone.
            let keeper = spawn(async {
                let mut kept: Vec<_> = (0..6).map(|_| Box::pin(spawn(pending::<()>()))).collect();
                for one in &mut kept {
                    assert!(poll_once(one).await.is_pending());
                }
                kept.truncate(4);
                let all_of = |number| (0..number).map(|_| spawn(pending::<()>())).collect::<Unordered<_>>();
                let (mut gone, mut unordered) = (all_of(3), all_of(5));
                select(Box::pin(gone.next()), Box::pin(yield_now())).await;
                select(Box::pin(unordered.next()), Box::pin(yield_now())).await;
                drop(gone);
                pending::<()>().await;
                drop((kept, unordered));
            });
            let keeper = keeper.await.unwrap();
            until(|| metrics().waiting == 9).await;
            assert_eq!(metrics().in_place, 0);
            gate.open();
            assert_eq!(live.await.unwrap(), 1);
            keeper.abort();
        });
    });
}

#[test]
fn who_does_not_poll_is_told_once() {
    must_end(|| {
        runtime(1).block_on(async {
            let (waker, woken) = Wakes::new();
            let keeper = spawn(async move {
                let mut kept = Box::pin(spawn(pending::<()>()));
                assert!(poll_with(kept.as_mut(), &waker).is_pending());
                pending::<()>().await;
            });
            let _keeper = keeper.await.unwrap();
            until(|| woken.count() > 0).await;
            idle().await;
            assert_eq!(woken.count(), 1);
        });
    });
}

#[test]
fn who_waits_anew_whenever_it_is_told_is_not_told_for_ever() {
    must_end(|| {
        let runtime = Runtime::builder().max_tasks(1).paused_clock(true).build().unwrap();
        runtime.block_on(async {
            let polls = Arc::new(AtomicUsize::new(0));
            let counted = polls.clone();
            let mut kept = None;
            let restless = spawn(poll_fn(move |cx| {
                counted.fetch_add(1, Ordering::SeqCst);
                let fresh = kept.insert(Box::pin(spawn(pending::<()>())));
                assert!(fresh.as_mut().poll(cx).is_pending());
                Poll::Pending::<()>
            }));
            let _restless = restless.await.unwrap();
            // This clock goes on only when the loop sleeps.
            for _ in 0..5 {
                time::sleep(Duration::from_secs(1)).await;
            }
            let polls = polls.load(Ordering::SeqCst);
            assert!((5..500).contains(&polls), "{polls} polls in five sleeps");
        });
    });
}

#[test]
fn who_waits_for_another_thing_at_its_next_poll_gets_an_offer_for_that() {
    // The first offer wakes it, and it leaves the line for another spawn, of which nobody else will tell it.
    let output = run_in(1, async {
        let mut first = Some(Box::pin(spawn(ready(1))));
        let mut second = Box::pin(spawn(ready(2)).join());
        poll_fn(move |cx| match first.take() {
            Some(mut one) if metrics().waiting == 0 => {
                assert!(one.as_mut().poll(cx).is_pending());
                first = Some(one);
                Poll::Pending
            }
            _ => second.as_mut().poll(cx),
        })
        .await
        .unwrap()
    });
    assert_eq!(output, 2);
}

#[test]
fn a_child_in_place_is_dropped_there_when_its_spawner_is_aborted() {
    // [PLACE-1]
    must_end(|| {
        let runtime = runtime(1);
        let drops = Drops::new();
        runtime.block_on(async {
            let tracked = drops.track();
            let spawner = spawn(
                spawn(async move {
                    let _tracked = tracked;
                    pending::<()>().await;
                })
                .join(),
            );
            let spawner = spawner.await.unwrap();
            until(|| metrics().in_place == 1).await;
            assert_eq!(drops.count(), 0);
            spawner.abort();
            assert!(spawner.await.unwrap_err().is_cancelled());
            assert_eq!((metrics().in_place, drops.count()), (0, 1));
            assert_eq!(spawn(nest(10, 1, Way::Spawn)).join().await.unwrap(), 10);
        });
        assert_eq!(drops.threads(), [std::thread::current().id()]);
    });
}

#[test]
fn a_panic_of_a_child_in_place_is_its_handles() {
    run_in(1, async {
        for with in [false, true] {
            let handle: JoinHandle<()> = match with {
                false => spawn(async { panic!("of the child") }).await.unwrap(),
                true => spawn_with(|| -> std::future::Ready<()> { panic!("of the child") }).await.unwrap(),
            };
            let error = handle.await.unwrap_err();
            assert!(error.is_panic());
            assert_eq!(metrics().in_place, 0);
        }
        // In the drop of what it holds.
        let drops = Drops::new();
        let kept = drops.track_panicking();
        let child = async move {
            yield_now().await;
            let _kept = kept;
        };
        let error = spawn(child).join().await.unwrap_err();
        assert!(error.is_panic());
        assert_eq!((drops.count(), metrics().in_place), (1, 0));
    });
}

#[test]
fn a_panic_in_the_drop_of_a_childs_future_is_its_handles() {
    /// Ready at its second poll, and panics when it is dropped, after its output was given.
    struct Panics(bool, #[expect(dead_code, reason = "it is there to be dropped")] anteroom_tests::Tracked);
    impl Future for Panics {
        type Output = Arc<()>;
        fn poll(mut self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> Poll<Arc<()>> {
            if std::mem::replace(&mut self.0, true) {
                return Poll::Ready(Arc::new(()));
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    }
    run_in(1, async {
        let drops = Drops::new();
        let error = spawn(Panics(false, drops.track_panicking())).join().await.unwrap_err();
        assert!(error.is_panic());
        assert_eq!((drops.count(), metrics().in_place), (1, 0));
        // Dropped in the midst, the panic is its dropper's: here that of the whole task's.
        let mut midst = Box::pin(spawn(Panics(false, drops.track_panicking())).or_in_place());
        assert!(poll_once(&mut midst).await.is_pending());
        assert_eq!(metrics().in_place, 1);
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(midst)));
        assert!(panicked.is_err());
        assert_eq!((drops.count(), metrics().in_place), (2, 0));
        assert_eq!(spawn(ready(1)).join().await.unwrap(), 1);
    });
}

#[test]
fn a_child_in_place_that_loses_a_race_is_dropped_and_the_place_is_lent_anew() {
    // [PLACE-1] [PLACE-2]
    must_end(|| {
        let runtime = Runtime::builder().max_tasks(1).paused_clock(true).build().unwrap();
        let spawner = async {
            let drops = Drops::new();
            for round in 1..4 {
                let tracked = drops.track();
                let endless = async move {
                    let _tracked = tracked;
                    pending::<()>().await;
                };
                let mut endless = Box::pin(spawn(endless).or_in_place());
                assert!(poll_once(&mut endless).await.is_pending());
                assert_eq!((metrics().in_place, metrics().waiting), (1, 0));
                let won = select(endless, Box::pin(time::sleep(Duration::from_secs(1)))).await;
                let Either::Right(((), endless)) = won else { panic!("it never ends") };
                drop(endless);
                assert_eq!(drops.count(), round);
                assert_eq!((metrics().in_place, metrics().waiting), (0, 0));
                assert_eq!(spawn(ready(round)).or_in_place().join().await.unwrap(), round);
            }
        };
        runtime.block_on(spawn(spawner).join()).unwrap();
    });
}

#[test]
fn withdraw_gives_nothing_back_of_a_child_in_place() {
    run_in(1, async {
        let drops = Drops::new();
        for with in [false, true] {
            let tracked = drops.track();
            let child = async move {
                let _tracked = tracked;
                pending::<()>().await;
            };
            if with {
                let mut midst = Box::pin(spawn_with(move || child).or_in_place());
                assert!(poll_once(&mut midst).await.is_pending());
                assert!(midst.as_mut().withdraw().is_none());
                assert!(midst.as_mut().withdraw().is_none());
            } else {
                let mut midst = Box::pin(spawn(child).or_in_place());
                assert!(poll_once(&mut midst).await.is_pending());
                assert_eq!(metrics().in_place, 1);
                assert!(midst.as_mut().withdraw().is_none());
                assert!(midst.as_mut().withdraw().is_none());
            }
            assert_eq!((metrics().in_place, drops.count()), (0, 1 + usize::from(with)));
        }
    });
}

#[test]
fn the_end_of_a_runtime_drops_what_is_in_place_once() {
    let drops = Drops::new();
    {
        fn deep(levels: usize, drops: Drops) -> Boxed<()> {
            Box::pin(async move {
                let _tracked = drops.track();
                if levels > 0 {
                    spawn(deep(levels - 1, drops)).join().await.unwrap();
                }
                pending::<()>().await;
            })
        }
        let runtime = runtime(2);
        runtime.block_on(async {
            drop(spawn(deep(9, drops.clone())).await.unwrap());
            until(|| metrics().in_place == 8).await;
            assert_eq!(drops.count(), 0);
        });
    }
    assert_eq!(drops.threads(), [std::thread::current().id(); 10]);
}

#[test]
fn a_child_in_place_that_is_always_ready_lets_others_run() {
    run_in(2, async {
        let turns = Arc::new(AtomicUsize::new(0));
        let other = {
            let turns = turns.clone();
            async move {
                loop {
                    turns.fetch_add(1, Ordering::SeqCst);
                    yield_now().await;
                }
            }
        };
        let other = spawn(other).await.unwrap();
        let greedy = async {
            assert_eq!(metrics().in_place, 1);
            for _ in 0..10_000 {
                time::sleep(Duration::ZERO).await;
            }
        };
        spawn(greedy).or_in_place().join().await.unwrap();
        other.abort();
        let turns = turns.load(Ordering::SeqCst);
        assert!(turns >= 10_000 / 200, "{turns} turns");
    });
}

#[test]
fn what_a_child_in_place_declares_counts_and_comes_back() {
    must_end(|| {
        let runtime = Runtime::builder().max_tasks(1).max_task_bytes(10_000).build().unwrap();
        let spawner = async {
            let before = metrics().task_bytes;
            let child = async move {
                assert_eq!((metrics().in_place, metrics().task_bytes), (1, before + 5_000));
                // And one in that.
                let inner = async move { assert_eq!(metrics().task_bytes, before + 6_000) };
                spawn(inner).heap(1_000).join().await.unwrap();
                assert_eq!(metrics().task_bytes, before + 5_000);
                yield_now().await;
            };
            spawn(child).heap(5_000).join().await.unwrap();
            assert_eq!(metrics().task_bytes, before);
            let mut midst = Box::pin(spawn(pending::<()>()).heap(3_000).or_in_place());
            assert!(poll_once(&mut midst).await.is_pending());
            assert_eq!(metrics().task_bytes, before + 3_000);
            drop(midst);
            assert_eq!(metrics().task_bytes, before);
            // What a closure makes lies in a block of its own, and counts whole.
            spawn_with(move || async move {
                let page = [0_u8; 2_000];
                yield_now().await;
                assert!(metrics().task_bytes >= before + page.len());
            })
            .join()
            .await
            .unwrap();
            assert_eq!(metrics().task_bytes, before);
        };
        runtime.block_on(spawn(spawner).join()).unwrap();
        assert_eq!(runtime.metrics().task_bytes, 0);
    });
}

#[test]
fn a_child_whose_bytes_do_not_fit_gets_no_offer_and_the_next_does() {
    must_end(|| {
        let runtime = Runtime::builder().max_tasks(2).max_task_bytes(10_000).build().unwrap();
        runtime.block_on(async {
            let gate = Gate::new();
            let (open, child) = (gate.wait(), spawn(async { metrics().in_place }).heap(100).join());
            let small = spawn(async move {
                open.await;
                child.await.unwrap()
            });
            let small = small.await.unwrap();
            let large = spawn(async { spawn(ready(())).heap(9_000).join().await.unwrap() }).heap(3_000);
            let large = large.await.unwrap();
            idle().await;
            gate.open();
            assert_eq!(small.await.unwrap(), 1);
            idle().await;
            assert_eq!((metrics().waiting, metrics().in_place, metrics().tasks_live), (1, 0, 1));
            assert!(anteroom::holders()[0].waits_for().admission());
            large.abort();
        });
    });
}

/// Runs `stuck` as the tasks of a runtime, in which nothing moves, and shows its holders and how many run in place, as another
/// thread sees them.
fn stuck<T: Send + 'static>(
    max_tasks: usize,
    stuck: impl Future<Output = T> + Send + 'static,
) -> (anteroom::Holders, anteroom::Metrics) {
    must_end(move || {
        let runtime = runtime(max_tasks);
        let handle = runtime.handle();
        let gate = Gate::new();
        let (begin, begun) = std::sync::mpsc::channel();
        let watcher = std::thread::spawn({
            let gate = gate.clone();
            move || {
                begun.recv().unwrap();
                // Each question wakes the loop, which has nothing to do and looks again whether a place can be lent.
                let ask =
                    |_| anteroom_tests::park_on(async { (handle.holders().await, handle.metrics().await) });
                let seen = (0..20).map(ask).collect::<Vec<_>>().pop().expect("it asked");
                let (holders, metrics) = (seen.0.unwrap(), seen.1.unwrap());
                gate.open();
                (holders, metrics)
            }
        });
        runtime.block_on(async move {
            let _kept = stuck.await;
            begin.send(()).unwrap();
            gate.wait().await;
        });
        watcher.join().unwrap()
    })
}

#[test]
fn a_child_in_place_that_needs_its_spawner_is_shown_and_not_helped() {
    let (holders, metrics) = stuck(1, async {
        let spawner = async {
            let gate = Gate::new();
            let child = gate.wait();
            spawn(child).join().await.unwrap();
            // After what it waits for.
            gate.open();
        };
        let spawner = spawn(spawner).await.unwrap();
        until(|| metrics().in_place == 1).await;
        Some(spawner)
    });
    assert_eq!((metrics.in_place, metrics.tasks_live, holders.len()), (1, 1, 1));
    assert!(holders[0].lends());
}

#[test]
fn tasks_that_join_each_other_are_shown_and_not_helped() {
    let (holders, metrics) = stuck(2, async {
        let handles: [Arc<Mutex<Option<JoinHandle<()>>>>; 2] = Default::default();
        let gate = Gate::new();
        for number in 0..2 {
            let (other, open) = (handles[1 - number].clone(), gate.wait());
            let task = async move {
                open.await;
                let other = other.lock().unwrap().take();
                other.unwrap().await.unwrap();
            };
            let handle = spawn(task).await.unwrap();
            *handles[number].lock().unwrap() = Some(handle);
        }
        gate.open();
        // And one that waits for room, and has no place.
        let mut waiting = Box::pin(spawn(ready(())));
        assert!(poll_once(&mut waiting).await.is_pending());
        idle().await;
        Some(waiting)
    });
    assert_eq!((holders.len(), metrics.in_place, metrics.waiting), (2, 0, 1));
    assert!(holders.iter().all(|holder| holder.waits_for().join() && !holder.lends()));
}

#[test]
fn who_holds_a_reservation_and_waits_for_room_is_shown_and_not_helped() {
    let (holders, metrics) = stuck(1, async {
        let place = anteroom::reserve().await.unwrap();
        let mut waiting = Box::pin(spawn(ready(())));
        assert!(poll_once(&mut waiting).await.is_pending());
        idle().await;
        (place, waiting)
    });
    assert_eq!((holders.len(), holders.reserved(), metrics.waiting, metrics.in_place), (0, 1, 1, 0));
}
