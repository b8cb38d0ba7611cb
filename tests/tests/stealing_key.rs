//! While code of others runs, any other thread may use the runtime: whatever a waker, a drop or a closure waits for.
//!
//! [TEAM-3]; bugs.md 35. Each place where the runtime clones, wakes or drops somebody's waker, or drops a future or an output, is
//! driven with code that waits until another thread has used the runtime. Under a lock of the runtime's own it would wait for
//! ever.

#![allow(
    clippy::async_yields_async,
    clippy::type_complexity,
    reason = "handles go from one block_on to another"
)]

use std::future::{pending, ready};
use std::io::Write;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, mpsc};
use std::task::Waker;
use std::thread;
use std::time::Duration;

use anteroom::net::{TcpListener, TcpStream};
use anteroom::{
    Builder, Runtime, Spawn, StealingRuntime, TaskGroup, reserve, spawn, spawn_blocking, spawn_service,
    spawn_with, time, try_spawn, yield_now,
};
use anteroom_tests::{Gate, Hooks, beside, elsewhere, or_abort, park_on, poll_once, poll_with};

const HOUR: Duration = Duration::from_secs(3_600);

/// Another thread that uses the runtime whenever it is asked to.
#[derive(Clone)]
struct Other {
    asked: mpsc::Sender<mpsc::Sender<()>>,
    thread: thread::ThreadId,
    /// What was called, and whether the other thread got through meanwhile.
    calls: Arc<Mutex<Vec<(&'static str, bool)>>>,
}

impl Other {
    fn of(runtime: &Arc<StealingRuntime>) -> Self {
        let (asked, questions) = mpsc::channel::<mpsc::Sender<()>>();
        let runtime = Arc::downgrade(runtime);
        let thread = thread::spawn(move || {
            for answer in questions {
                if let Some(runtime) = runtime.upgrade() {
                    let _counts = runtime.metrics();
                }
                let _ = answer.send(());
            }
        });
        Other { asked, thread: thread.thread().id(), calls: Arc::default() }
    }

    /// Code of others: it waits until the other thread has used the runtime.
    fn call(&self, what: &'static str) {
        if thread::current().id() == self.thread {
            return;
        }
        let (answer, answered) = mpsc::channel();
        self.asked.send(answer).unwrap();
        let got_through = answered.recv_timeout(Duration::from_secs(10)).is_ok();
        self.calls.lock().unwrap().push((what, got_through));
    }

    /// A waker whose every step is code of others.
    fn waker(&self) -> Waker {
        let (waker, hooks) = Hooks::new();
        let [on_clone, on_wake, on_drop] = [(); 3].map(|()| self.clone());
        hooks.on_clone(move || on_clone.call("clone"));
        hooks.on_wake(move || on_wake.call("wake"));
        hooks.on_drop(move || on_drop.call("drop of a waker"));
        waker
    }

    /// A value whose drop is code of others.
    fn value(&self) -> Value {
        Value(self.clone())
    }

    /// That so much was called since the last time, at least, and that nothing stood in the way.
    #[track_caller]
    fn passed(&self, at_least: &[&str]) {
        let calls = std::mem::take(&mut *self.calls.lock().unwrap());
        let blocked: Vec<_> = calls.iter().filter(|(_, got_through)| !got_through).collect();
        assert!(blocked.is_empty(), "the other thread was kept out while this ran: {blocked:?}");
        for what in at_least {
            assert!(calls.iter().any(|(called, _)| called == what), "no {what} among {calls:?}");
        }
    }

    /// Until `what` was called.
    async fn until(&self, what: &str) {
        while !self.calls.lock().unwrap().iter().any(|(called, _)| *called == what) {
            time::sleep(Duration::from_micros(200)).await;
        }
    }
}

struct Value(Other);

impl Drop for Value {
    fn drop(&mut self) {
        self.0.call("drop");
    }
}

/// Runs `body` twice on a runtime of `tasks` places: as a task of a worker, and as the future of `block_on`.
fn on_both<F>(build: fn() -> Builder, body: impl Fn(Other) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    or_abort(|| {
        let runtime = Arc::new(build().build_stealing(2).unwrap());
        let other = Other::of(&runtime);
        runtime.block_on(body(other.clone()));
        let service = runtime.block_on(async { spawn_service(body(other)).unwrap() });
        runtime.block_on(service).unwrap();
    });
}

fn one_place() -> Builder {
    Builder::new().max_tasks(1)
}

/// Holds the only place until it is dropped or told.
async fn hold() -> (Gate, anteroom::JoinHandle<()>) {
    let gate = Gate::new();
    let task = spawn(gate.wait()).await.unwrap();
    (gate, task)
}

#[test]
fn a_waiting_spawners_waker() {
    on_both(one_place, |other| async move {
        let (gate, holder) = hold().await;
        let mut first = Box::pin(spawn(ready(1)));
        assert!(poll_with(first.as_mut(), &other.waker()).is_pending());
        other.passed(&["clone"]);
        // In place of the first waker, another.
        assert!(poll_with(first.as_mut(), &other.waker()).is_pending());
        other.passed(&["clone", "drop of a waker"]);
        let mut second = Box::pin(spawn(ready(2)));
        assert!(poll_with(second.as_mut(), &other.waker()).is_pending());
        drop(second);
        other.passed(&["clone", "drop of a waker"]);
        // Whoever frees the place tells it.
        gate.open();
        holder.await.unwrap();
        other.until("wake").await;
        assert_eq!(first.await.unwrap().await.unwrap(), 1);
        other.passed(&["wake"]);
    });
}

#[test]
fn a_waiting_reservations_waker() {
    on_both(one_place, |other| async move {
        let place = reserve().await.unwrap();
        let mut waits = Box::pin(reserve());
        assert!(poll_with(waits.as_mut(), &other.waker()).is_pending());
        assert!(poll_with(waits.as_mut(), &other.waker()).is_pending());
        other.passed(&["clone", "drop of a waker"]);
        drop(place);
        other.passed(&["wake"]);
        drop(waits.await.unwrap());
    });
}

#[test]
fn the_waker_of_a_spawner_for_whom_the_line_is_full() {
    let full = || Builder::new().max_tasks(1).max_waiting(1);
    on_both(full, |other| async move {
        let (gate, holder) = hold().await;
        let mut first = Box::pin(spawn(ready(1)));
        assert!(poll_once(first.as_mut()).is_pending());
        let mut refused = Box::pin(spawn(ready(2)));
        assert!(poll_with(refused.as_mut(), &other.waker()).is_ready());
        let mut refused = Box::pin(reserve());
        assert!(poll_with(refused.as_mut(), &other.waker()).is_ready());
        gate.open();
        holder.await.unwrap();
        drop(first.await.unwrap());
        other.passed(&["clone", "drop of a waker"]);
    });
}

#[test]
fn the_wakers_of_those_whom_a_close_turns_away() {
    or_abort(|| {
        for from_a_task in [false, true] {
            let runtime = Arc::new(one_place().build_stealing(2).unwrap());
            let other = Other::of(&runtime);
            let handle = runtime.handle();
            runtime.block_on(async {
                let (gate, holder) = hold().await;
                let mut waits = Box::pin(spawn(ready(1)));
                assert!(poll_with(waits.as_mut(), &other.waker()).is_pending());
                match from_a_task {
                    true => spawn_service(async move { handle.close() }).unwrap().await.unwrap(),
                    false => handle.close(),
                }
                other.until("wake").await;
                assert_eq!(waits.await.unwrap_err(), anteroom::SpawnError::Closed);
                gate.open();
                holder.await.unwrap();
            });
            other.passed(&["clone", "wake"]);
        }
    });
}

#[test]
fn the_waker_of_who_spawns_on_another_runtime() {
    on_both(one_place, |other| async move {
        // Nobody runs it, so a spawn waits there.
        let (handles, handle) = mpsc::channel();
        let (stop, stopped) = mpsc::channel::<()>();
        let thread = thread::spawn(move || {
            let runtime = Runtime::builder().max_foreign(1).build().unwrap();
            handles.send(runtime.handle()).unwrap();
            let _ = stopped.recv();
        });
        let handle = handle.recv().unwrap();
        let mut waits = Box::pin(handle.spawn(ready(1)));
        assert!(poll_with(waits.as_mut(), &other.waker()).is_pending());
        other.passed(&["clone"]);
        assert!(poll_with(waits.as_mut(), &other.waker()).is_pending());
        other.passed(&["clone", "drop of a waker"]);
        let mut refused = Box::pin(handle.spawn(ready(2)));
        assert!(poll_with(refused.as_mut(), &other.waker()).is_ready());
        other.passed(&["clone", "drop of a waker"]);
        drop(waits);
        other.passed(&["drop of a waker"]);
        let mut asks = Box::pin(handle.metrics());
        assert!(poll_with(asks.as_mut(), &other.waker()).is_pending());
        assert!(poll_with(asks.as_mut(), &other.waker()).is_pending());
        drop(stop);
        thread.join().unwrap();
        other.passed(&["clone", "wake", "drop of a waker"]);
    });
}

#[test]
fn a_sleepers_waker() {
    on_both(Builder::new, |other| async move {
        let mut sleeps = Box::pin(time::sleep(HOUR));
        assert!(poll_with(sleeps.as_mut(), &other.waker()).is_pending());
        assert!(poll_with(sleeps.as_mut(), &other.waker()).is_pending());
        other.passed(&["clone", "drop of a waker"]);
        drop(sleeps);
        other.passed(&["drop of a waker"]);
        let mut fires = Box::pin(time::sleep(Duration::from_millis(2)));
        assert!(poll_with(fires.as_mut(), &other.waker()).is_pending());
        other.until("wake").await;
        other.passed(&["wake"]);
        fires.await;
        // Dropped elsewhere, its waker is dropped by whoever of the team reads the letter.
        let mut leaves = Box::pin(time::sleep(HOUR));
        assert!(poll_with(leaves.as_mut(), &other.waker()).is_pending());
        other.passed(&["clone"]);
        elsewhere(move || drop(leaves));
        other.until("drop of a waker").await;
        other.passed(&["drop of a waker"]);
    });
}

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (client, listener.accept().await.unwrap().0)
}

#[test]
fn a_readers_waker() {
    on_both(Builder::new, |other| async move {
        let (writer, reader) = pair().await;
        let mut buffer = [0; 8];
        {
            let mut reads = Box::pin(reader.read(&mut buffer));
            assert!(poll_with(reads.as_mut(), &other.waker()).is_pending());
            assert!(poll_with(reads.as_mut(), &other.waker()).is_pending());
            other.passed(&["clone", "drop of a waker"]);
            writer.write_all(b"x").await.unwrap();
            other.until("wake").await;
            other.passed(&["wake"]);
            assert_eq!(reads.await.unwrap(), 1);
        }
        assert!(poll_with(pin!(reader.read(&mut buffer)), &other.waker()).is_pending());
        drop(reader);
        other.passed(&["drop of a waker"]);
        // Waited for and dropped elsewhere: by letters.
        let (_writer, reader) = pair().await;
        let seen = other.clone();
        beside(move || {
            let mut buffer = [0; 8];
            assert!(poll_with(pin!(reader.read(&mut buffer)), &seen.waker()).is_pending());
            assert!(poll_with(pin!(reader.read(&mut buffer)), &seen.waker()).is_pending());
            drop(reader);
        })
        .await;
        other.until("drop of a waker").await;
        other.passed(&["clone", "drop of a waker"]);
    });
}

#[test]
fn a_joiners_waker() {
    on_both(Builder::new, |other| async move {
        let (gate, mut holder) = hold().await;
        assert!(poll_with(Pin::new(&mut holder), &other.waker()).is_pending());
        assert!(poll_with(Pin::new(&mut holder), &other.waker()).is_pending());
        other.passed(&["clone", "drop of a waker"]);
        gate.open();
        other.until("wake").await;
        holder.await.unwrap();
        let mut dropped = spawn(pending::<()>()).await.unwrap();
        assert!(poll_with(Pin::new(&mut dropped), &other.waker()).is_pending());
        drop(dropped);
        other.passed(&["wake", "drop of a waker"]);
    });
}

#[test]
fn the_wakers_of_those_who_wait_at_a_group() {
    on_both(Builder::new, |other| async move {
        let group = TaskGroup::with_limit(1);
        let gate = Gate::new();
        group.spawn(gate.wait()).await.unwrap();
        {
            let handle = group.handle();
            let mut waits = Box::pin(handle.spawn(ready(())));
            assert!(poll_with(waits.as_mut(), &other.waker()).is_pending());
            assert!(poll_with(waits.as_mut(), &other.waker()).is_pending());
            other.passed(&["clone", "drop of a waker"]);
            {
                let mut joins = Box::pin(group.join_next());
                assert!(poll_with(joins.as_mut(), &other.waker()).is_pending());
                assert!(poll_with(joins.as_mut(), &other.waker()).is_pending());
                other.passed(&["clone", "drop of a waker"]);
                gate.open();
                other.until("wake").await;
                joins.await.unwrap().unwrap();
            }
            waits.await.unwrap();
            let _second = group.join_next().await;
            other.passed(&["wake"]);
        }
        let parked = TaskGroup::with_limit(1);
        parked.spawn(pending()).await.unwrap();
        let handle = parked.handle();
        let mut waits = Box::pin(handle.spawn(ready(())));
        assert!(poll_with(waits.as_mut(), &other.waker()).is_pending());
        drop(parked);
        other.passed(&["wake"]);
        assert!(waits.await.is_err());
    });
}

#[test]
fn the_waker_of_who_drains() {
    or_abort(|| {
        let runtime = Arc::new(one_place().build_stealing(2).unwrap());
        let other = Other::of(&runtime);
        let handle = runtime.handle();
        runtime.block_on(async {
            let (gate, holder) = hold().await;
            let mut drains = Box::pin(handle.drain(HOUR));
            assert!(poll_with(drains.as_mut(), &other.waker()).is_pending());
            other.passed(&["clone"]);
            assert!(poll_with(drains.as_mut(), &other.waker()).is_pending());
            other.passed(&["clone", "drop of a waker"]);
            let mut gives_up = Box::pin(handle.drain(HOUR));
            assert!(poll_with(gives_up.as_mut(), &other.waker()).is_pending());
            drop(gives_up);
            other.passed(&["drop of a waker"]);
            gate.open();
            holder.await.unwrap();
            other.until("wake").await;
            drains.await.unwrap();
            other.passed(&["wake"]);
            // Ready at once, its waker is for nothing.
            assert!(poll_with(pin!(handle.drain(HOUR)), &other.waker()).is_ready());
            other.passed(&["drop of a waker"]);
        });
    });
}

#[test]
fn the_waker_of_who_waits_for_a_blocking_job() {
    let small = || Builder::new().blocking_threads(1).blocking_queue(0);
    on_both(small, |other| async move {
        let (open, latch) = mpsc::channel::<()>();
        let mut job = Box::pin(spawn_blocking(move || latch.recv().is_err()));
        assert!(poll_with(job.as_mut(), &other.waker()).is_pending());
        assert!(poll_with(job.as_mut(), &other.waker()).is_pending());
        let mut in_line = Box::pin(spawn_blocking(|| ()));
        assert!(poll_with(in_line.as_mut(), &other.waker()).is_pending());
        assert!(poll_with(in_line.as_mut(), &other.waker()).is_pending());
        other.passed(&["clone", "drop of a waker"]);
        drop(open);
        other.until("wake").await;
        assert!(job.await.unwrap());
        in_line.await.unwrap();
        other.passed(&["wake"]);
    });
}

#[test]
fn the_drop_of_a_future() {
    on_both(Builder::new, |other| async move {
        let waits = |value: Value| async move {
            let _value = value;
            pending::<()>().await;
        };
        // Ready, aborted before and after its first poll, and panicked.
        let value = other.value();
        spawn(async move { drop(value) }).join().await.unwrap();
        other.passed(&["drop"]);
        for polls in [0, 1] {
            let task = spawn(waits(other.value())).await.unwrap();
            for _ in 0..polls {
                yield_now().await;
            }
            task.abort();
            assert!(task.await.unwrap_err().is_cancelled());
            other.passed(&["drop"]);
        }
        let value = other.value();
        let panics = async move {
            let _value = value;
            if true {
                panic!("to be caught");
            }
        };
        assert!(spawn(panics).join().await.unwrap_err().is_panic());
        other.passed(&["drop"]);
    });
}

#[test]
fn the_drop_of_an_output_that_nobody_takes() {
    on_both(Builder::new, |other| async move {
        // The handle is gone when the task ends; it is dropped after that; and the task panics with it.
        let value = other.value();
        drop(spawn(async move { (yield_now().await, value).1 }).await.unwrap());
        other.until("drop").await;
        other.passed(&["drop"]);
        let value = other.value();
        let task = spawn(ready(value)).await.unwrap();
        while !task.is_finished() {
            yield_now().await;
        }
        drop(task);
        other.passed(&["drop"]);
        let value = other.value();
        drop(spawn(async move { std::panic::panic_any(value) }).await.unwrap());
        other.until("drop").await;
        other.passed(&["drop"]);
        let group = TaskGroup::new();
        group.spawn(ready(other.value())).await.unwrap();
        while group.join_next().await.is_none() {}
        group.spawn(ready(other.value())).await.unwrap();
        time::sleep(Duration::from_millis(2)).await;
        drop(group);
        other.until("drop").await;
        other.passed(&["drop"]);
    });
}

/// A spawn that waited, was let in, and whose task has ended; nobody has told its frame yet.
async fn let_in(other: &Other) -> Pin<Box<Spawn<std::future::Ready<Value>>>> {
    let (gate, holder) = hold().await;
    let mut waits = Box::pin(spawn(ready(other.value())));
    assert!(poll_once(waits.as_mut()).is_pending());
    gate.open();
    holder.await.unwrap();
    while anteroom::metrics().tasks_live > 0 || anteroom::metrics().waiting > 0 {
        yield_now().await;
    }
    waits
}

#[test]
fn the_drop_of_an_output_whose_spawner_has_left() {
    on_both(one_place, |other| async move {
        let waits = let_in(&other).await;
        drop(waits);
        other.passed(&["drop"]);
        let waits = let_in(&other).await;
        elsewhere(move || drop(waits));
        other.passed(&["drop"]);
        // By a group that is gone by then.
        let (gate, holder) = hold().await;
        let group = TaskGroup::new();
        let handle = group.handle();
        let mut waits = Box::pin(handle.spawn(ready(other.value())));
        assert!(poll_once(waits.as_mut()).is_pending());
        gate.open();
        holder.await.unwrap();
        while anteroom::metrics().tasks_live > 0 || anteroom::metrics().waiting > 0 {
            yield_now().await;
        }
        drop(group);
        assert!(poll_once(waits.as_mut()).is_ready());
        drop(waits);
        other.passed(&["drop"]);
    });
}

#[test]
fn what_comes_back_with_a_refusal() {
    on_both(one_place, |other| async move {
        let (gate, holder) = hold().await;
        let value = other.value();
        drop(try_spawn(async move { drop(value) }).unwrap_err());
        other.passed(&["drop"]);
        let mut waits = Box::pin(spawn(ready(other.value())));
        assert!(poll_once(waits.as_mut()).is_pending());
        drop(waits);
        other.passed(&["drop"]);
        let late = spawn(ready(other.value())).timeout(Duration::from_millis(1)).await;
        drop(late.map(drop).unwrap_err());
        other.passed(&["drop"]);
        gate.open();
        holder.await.unwrap();
    });
}

#[test]
fn a_closure_that_makes_a_future_and_a_child_in_its_spawners_place() {
    on_both(one_place, |other| async move {
        let called = other.clone();
        let make = move || {
            called.call("closure");
            ready(())
        };
        spawn_with(make).await.unwrap().await.unwrap();
        other.passed(&["closure"]);
        // The outer task has the only place, so its child runs there.
        let (polls, value) = (other.clone(), other.value());
        spawn(async move {
            let child = async move {
                polls.call("poll in place");
                yield_now().await;
                value
            };
            drop(spawn(child).await.unwrap().await.unwrap());
        })
        .join()
        .await
        .unwrap();
        other.passed(&["poll in place", "drop"]);
        // One whose spawner goes while it runs.
        let value = other.value();
        let inner = async move {
            let _value = value;
            pending::<()>().await;
        };
        let outer = spawn(async move { drop(spawn(inner).await) }).await.unwrap();
        while anteroom::metrics().in_place == 0 {
            // Who yields without end keeps a worker from finding that nothing moves.
            time::sleep(Duration::from_micros(200)).await;
        }
        outer.abort();
        outer.await.unwrap_err();
        other.passed(&["drop"]);
    });
}

#[test]
fn a_waker_that_waits_for_a_later_spawn_keeps_it_from_nothing() {
    // [ADMIT-3]: who was let in is told, with code of others, and that takes long; the next is let in all the same.
    or_abort(|| {
        let runtime = Arc::new(one_place().build_stealing(2).unwrap());
        let handle = runtime.handle();
        let (gate, holder) = runtime.block_on(hold());
        let (waker, hooks) = Hooks::new();
        let (told, second_is_in) = mpsc::channel::<()>();
        let (got_through, result) = mpsc::channel();
        hooks.on_wake(move || {
            let _ = got_through.send(second_is_in.recv_timeout(Duration::from_secs(10)));
        });
        let mut first = Box::pin(handle.spawn(ready(1)));
        runtime.block_on(async {
            assert!(poll_with(first.as_mut(), &waker).is_pending());
        });
        let second = thread::spawn({
            let runtime = runtime.clone();
            move || {
                runtime.block_on(async { spawn(ready(2)).await.unwrap() });
                let _ = told.send(());
            }
        });
        while runtime.metrics().waiting < 2 {
            thread::yield_now();
        }
        gate.open();
        park_on(holder).unwrap();
        assert_eq!(result.recv().unwrap(), Ok(()));
        second.join().unwrap();
        assert_eq!(park_on(async { first.await.unwrap().await.unwrap() }), 1);
    });
}

#[test]
fn a_lock_that_wakers_take_may_be_held_over_any_use_of_the_runtime() {
    or_abort(|| {
        let runtime = Arc::new(Builder::new().max_tasks(3).max_waiting(50).build_stealing(2).unwrap());
        let lock = Arc::new(Mutex::new(0_u64));
        let waker = || {
            let (waker, hooks) = Hooks::new();
            let [one, two, three] = [(); 3].map(|()| lock.clone());
            hooks.on_clone(move || *one.lock().unwrap() += 1);
            hooks.on_wake(move || *two.lock().unwrap() += 1);
            hooks.on_drop(move || *three.lock().unwrap() += 1);
            waker
        };
        thread::scope(|scope| {
            for seed in 0..3_u64 {
                let (runtime, lock, waker) = (&runtime, &lock, &waker);
                scope.spawn(move || {
                    runtime.block_on(async {
                        let mut spawns: Vec<Pin<Box<Spawn<_>>>> = Vec::new();
                        let mut handles: Vec<anteroom::JoinHandle<()>> = Vec::new();
                        let mut sleeps = Vec::new();
                        for round in 0..2_000_u64 {
                            let waker = waker();
                            let guard = lock.lock().unwrap();
                            // Wakers of ours are cloned and dropped where it is not held; all that others left may be.
                            let spare = Waker::noop();
                            if (round + seed) % 3 == 0 {
                                let mut spawning = Box::pin(spawn(yield_now()));
                                if poll_with(spawning.as_mut(), spare).is_pending() {
                                    spawns.push(spawning);
                                }
                            }
                            drop(try_spawn(yield_now()));
                            let _ = anteroom::metrics();
                            for handle in &mut handles {
                                let _ = handle.is_finished();
                                handle.abort();
                            }
                            let mut sleep = Box::pin(time::sleep(Duration::from_micros(100 * round % 700)));
                            if poll_with(sleep.as_mut(), spare).is_pending() {
                                sleeps.push(sleep);
                            }
                            drop(guard);
                            spawns.retain_mut(|spawn| match poll_with(spawn.as_mut(), &waker) {
                                std::task::Poll::Pending => true,
                                std::task::Poll::Ready(told) => {
                                    handles.extend(told.ok());
                                    false
                                }
                            });
                            handles.retain_mut(|handle| poll_with(Pin::new(handle), &waker).is_pending());
                            sleeps.retain_mut(|sleep| poll_with(sleep.as_mut(), &waker).is_pending());
                            if spawns.len() > 10 {
                                drop(spawns.swap_remove(3));
                            }
                            if sleeps.len() > 10 {
                                drop(sleeps.swap_remove(5));
                            }
                        }
                    });
                });
            }
        });
        assert!(*lock.lock().unwrap() > 0);
        let _ = std::io::stderr().flush();
    });
}
