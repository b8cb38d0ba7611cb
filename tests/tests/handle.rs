//! A runtime as other threads see it: spawning and waiting, closing, asking, and what is left when it is gone.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Poll, Waker};
use std::thread;
use std::time::Duration;

use anteroom::time::sleep;
use anteroom::{
    Ask, AskError, Handle, Runtime, SpawnError, block_on, holders, metrics, reserve, spawn, spawn_service,
    try_spawn, waiters, yield_now,
};
use anteroom_tests::{
    Drops, Gate, Hooks, Wakes, beside, elsewhere, look_around, must_end, park_on, poll_once, poll_with,
};

const LONG: Duration = Duration::from_secs(50);
const MS: Duration = Duration::from_millis(1);

fn runtime(max_tasks: usize) -> Runtime {
    Runtime::builder().max_tasks(max_tasks).build().unwrap()
}

#[test]
fn spawn_wait_blocks_until_there_is_room() {
    must_end(|| {
        let runtime = runtime(1);
        let handle = runtime.handle();
        runtime.block_on(async {
            let gate = Gate::new();
            let holder = spawn(gate.wait()).await.unwrap();
            let told = Arc::new(AtomicUsize::new(0));
            let tell = told.clone();
            let waits = thread::spawn(move || {
                let task = handle.spawn_wait(async { 3 }).unwrap();
                tell.fetch_add(1, Ordering::SeqCst);
                park_on(task).unwrap()
            });
            while waiters().is_empty() {
                yield_now().await;
            }
            look_around().await;
            assert_eq!((told.load(Ordering::SeqCst), metrics().waiting), (0, 1));
            gate.open();
            holder.await.unwrap();
            assert_eq!(beside(|| waits.join().unwrap()).await, 3);
            assert_eq!(told.load(Ordering::SeqCst), 1);
        });
    });
}

#[test]
fn spawn_wait_is_released_by_close_and_by_the_end() {
    must_end(|| {
        for closes in [true, false] {
            let runtime = runtime(1);
            let handle = runtime.handle();
            let drops = Drops::new();
            let threads: Vec<_> = runtime.block_on(async {
                spawn(std::future::pending::<()>()).await.unwrap();
                let threads = (0..3).map(|_| {
                    let tracked = drops.track();
                    thread::spawn(move || handle.spawn_wait(async move { drop(tracked) }).map(drop))
                });
                let threads = threads.collect();
                while waiters().len() < 3 {
                    yield_now().await;
                }
                if closes {
                    handle.close();
                }
                threads
            });
            let _runtime = closes.then_some(runtime);
            for thread in threads {
                assert_eq!(thread.join().unwrap().unwrap_err(), SpawnError::Closed);
            }
            assert_eq!(drops.count(), 3, "the futures were the callers'");
        }
    });
}

#[test]
fn who_would_wait_for_its_own_thread_panics_and_says_what_to_do() {
    let runtime = runtime(1);
    let handle = runtime.handle();
    runtime.block_on(async {
        let drops = Drops::new();
        let tracked = drops.track();
        let panic =
            catch_unwind(AssertUnwindSafe(|| handle.spawn_wait(async move { drop(tracked) }))).unwrap_err();
        let text = panic.downcast_ref::<String>().unwrap();
        assert!(text.contains("spawn_wait") && text.contains("await Handle::spawn instead"), "{text}");
        let panic = catch_unwind(AssertUnwindSafe(|| handle.drain_wait(MS))).unwrap_err();
        let text = panic.downcast_ref::<String>().unwrap();
        assert!(text.contains("drain_wait") && text.contains("await Handle::drain instead"), "{text}");
        assert_eq!(drops.count(), 1);
        // Nothing was closed, and nothing stands in line.
        spawn(async {}).await.unwrap().await.unwrap();
        // In a task it is a panic of the task.
        let task = spawn(async move { drop(handle.spawn_wait(async {})) }).await.unwrap();
        assert!(task.await.unwrap_err().is_panic());
    });
}

#[test]
fn who_would_wait_for_its_own_thread_panics_inside_another_runtime_too() {
    must_end(|| {
        let (outer, inner) = (runtime(1), runtime(1));
        let handle = outer.handle();
        outer.block_on(async {
            inner.block_on(async {
                assert!(
                    catch_unwind(AssertUnwindSafe(|| handle.drain_wait(Duration::from_secs(1)))).is_err()
                );
                assert!(catch_unwind(AssertUnwindSafe(|| handle.spawn_wait(async {}))).is_err());
            });
        });
    });
}

#[test]
fn spawn_wait_works_inside_another_runtime() {
    must_end(|| {
        let (sender, receiver) = mpsc::channel();
        let (stop, stopped) = (Gate::new(), Gate::new());
        let (wait, opener) = (stop.clone(), stopped.clone());
        let owner = thread::spawn(move || {
            let runtime = runtime(1);
            sender.send(runtime.handle()).unwrap();
            runtime.block_on(wait.wait());
            opener.open();
        });
        let handle = receiver.recv().unwrap();
        let output = block_on(async move {
            let of_task =
                spawn(async move { handle.spawn_wait(async { metrics().tasks_max }).unwrap().await });
            let inner = of_task.await.unwrap().await.unwrap().unwrap();
            (inner, handle.spawn_wait(async { 2 }).unwrap().await.unwrap(), metrics().tasks_max)
        });
        assert_eq!(output, (1, 2, 4_096));
        stop.open();
        park_on(stopped.wait());
        owner.join().unwrap();
    });
}

#[test]
fn a_handle_tells_its_runtime_from_all_others() {
    assert!(Handle::current().is_none());
    let (one, other) = (runtime(1), runtime(2));
    one.block_on(async {
        let here = Handle::current().unwrap();
        assert_eq!(here.metrics().await.unwrap().tasks_max, 1);
        other.block_on(async {
            assert_eq!(Handle::current().unwrap().metrics().await.unwrap().tasks_max, 2);
            // On this very thread, but not inside: nobody answers, and nothing breaks.
            assert_eq!(here.metrics().wait(MS).unwrap_err(), AskError::TimedOut);
            let mut waits = Box::pin(here.spawn(async {}));
            assert!(poll_once(waits.as_mut()).is_pending());
        });
    });
    assert!(Handle::current().is_none());
    let text = format!("{:?}", one.handle());
    assert!(text.starts_with("Handle"), "{text}");
}

#[test]
fn close_turns_everybody_away_and_lets_the_admitted_go_on() {
    for from_elsewhere in [false, true] {
        let runtime = runtime(2);
        let handle = runtime.handle();
        runtime.block_on(async {
            let gate = Gate::new();
            let holder = spawn(gate.wait()).await.unwrap();
            let place = reserve().await.unwrap();
            let drops = Drops::new();
            let job = || {
                let tracked = drops.track();
                async move { (1, tracked).0 }
            };
            let mut own = Box::pin(spawn(job()));
            let mut foreign = Box::pin(handle.spawn(job()));
            let mut at_the_desk = Box::pin(handle.spawn(job()));
            let mut seat = Box::pin(reserve());
            let ((waker, wakes), (late, late_wakes)) = (Wakes::new(), Wakes::new());
            assert!(poll_with(own.as_mut(), &waker).is_pending());
            assert!(poll_with(seat.as_mut(), &waker).is_pending());
            elsewhere(|| assert!(poll_with(foreign.as_mut(), &waker).is_pending()));
            look_around().await;
            elsewhere(|| assert!(poll_with(at_the_desk.as_mut(), &late).is_pending()));
            if from_elsewhere {
                elsewhere(|| handle.close());
                look_around().await;
            } else {
                handle.close();
            }
            handle.close();
            assert_eq!((wakes.count(), late_wakes.count(), metrics().waiting), (3, 1, 0));
            assert_eq!(drops.count(), 0);
            assert!(matches!(poll_once(seat.as_mut()), Poll::Ready(Err(SpawnError::Closed))));
            assert!(matches!(poll_once(own.as_mut()), Poll::Ready(Err(SpawnError::Closed))));
            assert_eq!(own.as_mut().withdraw().unwrap().await, 1);
            assert_eq!(elsewhere(|| at_the_desk.as_mut().withdraw()).unwrap().await, 1);
            let polled = elsewhere(|| poll_once(foreign.as_mut()));
            assert!(matches!(polled, Poll::Ready(Err(SpawnError::Closed))));
            drop(foreign);
            assert_eq!(drops.count(), 3);
            assert_eq!(spawn(async {}).await.unwrap_err(), SpawnError::Closed);
            assert!(try_spawn(async {}).unwrap_err().is_closed());
            assert!(spawn_service(async {}).unwrap_err().is_closed());
            assert_eq!(elsewhere(|| handle.spawn_wait(async {})).unwrap_err(), SpawnError::Closed);
            assert_eq!(metrics().tasks_live, 2);
            gate.open();
            holder.await.unwrap();
            drop(place);
            assert_eq!(metrics().tasks_live, 0);
        });
        // Closed is for good.
        runtime.block_on(async { assert_eq!(spawn(async {}).await.unwrap_err(), SpawnError::Closed) });
    }
}

#[test]
fn nobody_is_admitted_after_a_close_elsewhere_has_returned() {
    let runtime = runtime(2);
    let handle = runtime.handle();
    runtime.block_on(async {
        elsewhere(|| handle.close());
        assert!(try_spawn(async {}).is_err());
        assert!(spawn(async {}).await.is_err());
    });
}

/// Everything that may be asked of a handle, by one whose runtime is gone.
fn is_dead(handle: Handle) {
    let drops = Drops::new();
    let tracked = drops.track();
    let mut frame = Box::pin(handle.spawn(async move { (8, tracked).0 }));
    assert!(matches!(poll_once(frame.as_mut()), Poll::Ready(Err(SpawnError::Closed))));
    assert_eq!(park_on(frame.as_mut().withdraw().unwrap()), 8);
    assert_eq!(drops.count(), 1);
    assert_eq!(handle.spawn_wait(async {}).unwrap_err(), SpawnError::Closed);
    assert!(handle.spawn(async {}).try_now().unwrap_err().is_closed());
    handle.close();
    handle.drain_wait(LONG).unwrap();
    assert!(matches!(poll_once(pin!(handle.drain(LONG))), Poll::Ready(Ok(()))));
    assert_eq!(handle.holders().wait(LONG).unwrap_err(), AskError::Gone);
    assert_eq!(park_on(handle.waiters()).unwrap_err(), AskError::Gone);
    assert_eq!(park_on(handle.metrics()).unwrap_err(), AskError::Gone);
    assert_eq!(park_on(handle.long_polls()).unwrap_err(), AskError::Gone);
}

#[test]
fn a_stale_handle_never_reaches_the_next_runtime_in_its_home() {
    must_end(|| {
        let old = runtime(3);
        let handle = old.handle();
        let (places, mut waiting, mut asked, mut drain) = old.block_on(async {
            let places =
                [reserve().await.unwrap(), reserve().await.unwrap(), reserve().bytes(5).await.unwrap()];
            let mut waiting = Box::pin(handle.spawn(async { 1 }));
            let mut asked = Box::pin(handle.metrics());
            let mut drain = Box::pin(handle.drain(LONG));
            elsewhere(|| {
                assert!(poll_once(waiting.as_mut()).is_pending());
                assert!(poll_once(asked.as_mut()).is_pending());
            });
            assert!(poll_once(drain.as_mut()).is_pending());
            (places, waiting, asked, drain)
        });
        drop(old);
        is_dead(handle);
        // As many as there can be homes without an owner, so that one of these has that very home.
        let next: Vec<_> = (0..20).map(|_| runtime(2)).collect();
        let gates: Vec<_> = next.iter().map(|_| Gate::new()).collect();
        let mut lines = Vec::new();
        for (next, gate) in next.iter().zip(&gates) {
            next.block_on(async {
                drop([spawn(gate.wait()).await.unwrap(), spawn(gate.wait()).await.unwrap()]);
                let mut waits = Box::pin(spawn(async {}));
                assert!(poll_once(waits.as_mut()).is_pending());
                lines.push(waits);
            });
        }
        is_dead(handle);
        let [first, second, third] = places;
        drop(first);
        elsewhere(|| drop(second));
        let mut third = Some(third);
        for next in &next {
            next.block_on(async {
                look_around().await;
                is_dead(handle);
                if let Some(place) = third.take() {
                    let error = place.spawn(async { 2 }).unwrap_err();
                    assert!(error.is_closed());
                    assert_eq!(error.into_future().await, 2);
                }
                look_around().await;
                assert_eq!((metrics().tasks_live, metrics().waiting, metrics().task_bytes > 5), (2, 1, true));
            });
        }
        assert!(matches!(poll_once(waiting.as_mut()), Poll::Ready(Err(SpawnError::Closed))));
        assert_eq!(waiting.as_mut().withdraw().map(park_on), Some(1));
        assert!(poll_once(asked.as_mut()).is_ready(), "answered at the last moment, or never");
        assert!(matches!(poll_once(drain.as_mut()), Poll::Ready(Ok(()))));
        drop((waiting, asked, drain));
        for ((next, gate), waits) in next.iter().zip(&gates).zip(lines) {
            gate.open();
            next.block_on(async {
                waits.await.unwrap().await.unwrap();
                spawn(async {}).await.unwrap().await.unwrap();
                assert_eq!((metrics().tasks_live, metrics().waiting), (0, 0));
            });
        }
    });
}

#[test]
fn questions_are_answered_in_any_executor_and_in_a_blocking_thread() {
    must_end(|| {
        let runtime = runtime(5);
        let handle = runtime.handle();
        runtime.block_on(async {
            let _task = spawn(std::future::pending::<()>()).await.unwrap();
            let _place = reserve().await.unwrap();
            let own = (handle.metrics().await.unwrap(), handle.metrics().wait(MS).unwrap());
            assert_eq!(own.0, own.1);
            let counts = beside(move || {
                let inside = block_on(async move { handle.metrics().await.unwrap() });
                [park_on(handle.metrics()).unwrap(), handle.metrics().wait(LONG).unwrap(), inside]
            });
            for counts in counts.await {
                assert_eq!((counts.tasks_live, counts.tasks_max), (2, 5));
            }
            let (held, waiting, long) = beside(move || {
                let held = park_on(handle.holders()).unwrap();
                (held, handle.waiters().wait(LONG).unwrap(), handle.long_polls().wait(LONG).unwrap())
            })
            .await;
            assert_eq!((held.len(), held.reserved(), waiting.len(), long.len()), (1, 1, 0, 0));
            assert_eq!(held.to_string(), holders().to_string());
        });
    });
}

#[test]
fn an_owner_that_does_not_run_answers_later_or_never() {
    let runtime = runtime(1);
    let handle = runtime.handle();
    assert_eq!(elsewhere(|| handle.metrics().wait(MS)).unwrap_err(), AskError::TimedOut);
    let (waker, wakes) = Wakes::new();
    let mut asked = Box::pin(handle.metrics());
    assert!(poll_once(asked.as_mut()).is_pending());
    assert!(poll_with(asked.as_mut(), &waker).is_pending(), "asked once, however often it is polled");
    runtime.block_on(async {});
    assert_eq!(wakes.count(), 1);
    assert!(matches!(poll_once(asked.as_mut()), Poll::Ready(Ok(_))));
    let mut asked = Box::pin(handle.holders());
    assert!(poll_with(asked.as_mut(), &waker).is_pending());
    drop(runtime);
    assert_eq!(wakes.count(), 2);
    // Its last act was to answer.
    assert!(park_on(asked).is_ok_and(|held| held.is_empty()));
    assert_eq!(park_on(handle.holders()).unwrap_err(), AskError::Gone);
    for (error, text) in [
        (AskError::Gone, "the runtime is gone"),
        (AskError::TooMany, "64 questions wait already"),
        (AskError::TimedOut, "the runtime did not answer in time"),
    ] {
        assert_eq!(error.to_string(), text);
    }
}

#[test]
fn questions_have_a_bound_and_their_places_come_back() {
    let runtime = runtime(1);
    let handle = runtime.handle();
    for _ in 0..3 {
        let mut asked: Vec<Pin<Box<Ask<_>>>> = (0..66).map(|_| Box::pin(handle.metrics())).collect();
        let full: Vec<_> = asked
            .iter_mut()
            .map(|ask| matches!(poll_once(ask.as_mut()), Poll::Ready(Err(AskError::TooMany))))
            .collect();
        assert!(full.iter().enumerate().all(|(n, &full)| full == (n >= 64)), "{full:?}");
        drop(asked.split_off(60));
        runtime.block_on(async {});
        for ask in asked {
            park_on(ask).unwrap();
        }
    }
}

/// Where a stranger's waker is kept for what other threads ask, and how it gets there and leaves.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kept {
    Desk,
    Line,
    Ask,
    Drain,
    Reserve,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Leaves {
    Woken,
    Replaced,
    Dropped,
    Closed,
    RuntimeGone,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Does {
    Panic,
    ComeBack,
}

/// When it does it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum At {
    Clone,
    Wake,
    Drop,
}

type Thing = Pin<Box<dyn Future<Output = ()> + Send>>;

#[test]
fn a_stranger_in_a_waker_breaks_nothing() {
    // [DESK-1] [ADMIT-1]; bugs.md 29, 35
    must_end(|| {
        for kept in [Kept::Desk, Kept::Line, Kept::Ask, Kept::Drain, Kept::Reserve] {
            for leaves in
                [Leaves::Woken, Leaves::Replaced, Leaves::Dropped, Leaves::Closed, Leaves::RuntimeGone]
            {
                for at in [At::Clone, At::Wake, At::Drop] {
                    for does in [Does::Panic, Does::ComeBack] {
                        stranger(kept, leaves, at, does);
                    }
                }
            }
        }
    });
}

fn stranger(kept: Kept, leaves: Leaves, at: At, does: Does) {
    let case = format!("{kept:?} {leaves:?} {at:?} {does:?}");
    let runtime = Runtime::builder().max_tasks(1).build().unwrap();
    let handle = runtime.handle();
    let (waker, hooks) = Hooks::new();
    let another = hooks.waker();
    let act = move || match does {
        // Two at once would end the process.
        Does::Panic if !thread::panicking() => panic!("a stranger"),
        Does::Panic => {}
        Does::ComeBack => {
            // Whatever may be asked from anywhere, and what the owner alone may do.
            let mut frame = Box::pin(handle.spawn(async {}));
            drop(poll_once(frame.as_mut()));
            let _ = poll_once(pin!(handle.metrics()));
            if Handle::current().is_some() {
                let _ = poll_once(pin!(handle.drain(LONG)));
                drop((waiters(), holders(), metrics(), try_spawn(async {})));
                drop(poll_once(pin!(reserve())));
            } else {
                let _ = handle.drain_wait(Duration::ZERO);
            }
        }
    };
    // A panic comes out of the poll or the drop that the stranger's code was part of, and goes nowhere else.
    let tried = |f: &mut dyn FnMut()| catch_unwind(AssertUnwindSafe(f)).is_ok();
    let gate = Gate::new();
    let drops = Drops::new();
    let (sibling_waker, sibling_wakes) = Wakes::new();
    let mut sibling: Option<Thing> = None;
    let mut thing: Thing = match kept {
        Kept::Desk | Kept::Line => {
            let tracked = drops.track();
            let spawn = handle.spawn(async move { drop(tracked) });
            Box::pin(async move { drop(spawn.await) })
        }
        Kept::Ask => Box::pin(async move { drop(handle.holders().await) }),
        Kept::Drain => Box::pin(async move {
            // Its close comes with its first poll.
            let _ = handle.drain(LONG).await;
        }),
        Kept::Reserve => Box::pin(async { drop(reserve().await) }),
    };
    let is_foreign = matches!(kept, Kept::Desk | Kept::Line | Kept::Ask);
    runtime.block_on(async {
        drop(spawn(gate.wait()).await.unwrap());
        let set = |hooks: &Hooks| match at {
            At::Clone => hooks.on_clone(act),
            At::Wake => hooks.on_wake(act),
            At::Drop => hooks.on_drop(act),
        };
        let poll = |thing: &mut Thing, waker: &Waker| {
            if is_foreign {
                elsewhere(|| {
                    tried(&mut || {
                        let _ = poll_with(Pin::new(thing), waker);
                    })
                })
            } else {
                tried(&mut || {
                    let _ = poll_with(Pin::new(thing), waker);
                })
            }
        };
        assert!(poll(&mut thing, &waker), "{case}");
        if kept == Kept::Line {
            look_around().await;
        }
        // One that stands behind, with a harmless waker, and must be told all the same.
        if kept != Kept::Drain {
            let tracked = drops.track();
            let spawn = handle.spawn(async move { drop(tracked) });
            let mut other: Thing = Box::pin(async move { drop(spawn.await) });
            assert!(elsewhere(|| poll_with(Pin::new(&mut other), &sibling_waker)).is_pending());
            sibling = Some(other);
        }
        set(&hooks);
        match leaves {
            Leaves::Woken => gate.open(),
            Leaves::Replaced => {
                // By another of its kind first, which is cloned.
                poll(&mut thing, &waker);
                poll(&mut thing, &another);
                poll(&mut thing, &Wakes::new().0);
            }
            Leaves::Closed => elsewhere(|| handle.close()),
            Leaves::Dropped | Leaves::RuntimeGone => {}
        }
        if leaves != Leaves::RuntimeGone && leaves != Leaves::Dropped {
            look_around().await;
            look_around().await;
        }
    });
    let runtime = if leaves == Leaves::RuntimeGone {
        drop(runtime);
        None
    } else {
        Some(runtime)
    };
    if leaves == Leaves::Dropped {
        let drop_it = &mut || drop(std::mem::replace(&mut thing, Box::pin(async {})));
        if is_foreign {
            elsewhere(|| tried(drop_it));
        } else if let Some(runtime) = &runtime {
            runtime.block_on(async { tried(drop_it) });
        }
    }
    hooks.clear();
    let mut finish = |runtime: &Runtime| {
        gate.open();
        runtime.block_on(async {
            look_around().await;
            let mut end = || {
                drop(catch_unwind(AssertUnwindSafe(|| {
                    drop(std::mem::replace(&mut thing, Box::pin(async {})))
                })))
            };
            if kept == Kept::Reserve {
                // A place that was granted, and not told yet, goes back when it is dropped.
                end();
                look_around().await;
            }
            if let Some(sibling) = &mut sibling {
                assert!(sibling_wakes.count() > 0, "{case}: the next in line was not told");
                assert!(poll_once(Pin::new(sibling)).is_ready(), "{case}");
            }
            look_around().await;
            end();
            look_around().await;
            assert_eq!((metrics().tasks_live, metrics().waiting), (0, 0), "{case}");
        });
    };
    match &runtime {
        Some(runtime) => finish(runtime),
        None => drop(catch_unwind(AssertUnwindSafe(|| drop(thing)))),
    }
    drop((sibling, runtime));
    drop((waker, another));
    assert_eq!(hooks.wakers_left(), 0, "{case}");
    let expected = match kept {
        Kept::Desk | Kept::Line => 2,
        Kept::Ask | Kept::Reserve => 1,
        Kept::Drain => 0,
    };
    assert_eq!(drops.count(), expected, "{case}");
}

#[test]
fn a_clone_that_panics_keeps_nothing_and_the_next_poll_begins_anew() {
    let runtime = runtime(1);
    let handle = runtime.handle();
    runtime.block_on(async {
        let gate = Gate::new();
        drop(spawn(gate.wait()).await.unwrap());
        let (waker, hooks) = Hooks::new();
        let mut spawns = Box::pin(handle.spawn(async { 1 }));
        let mut asks = Box::pin(handle.metrics());
        let mut seat = Box::pin(reserve());
        hooks.on_clone(|| panic!("a clone"));
        elsewhere(|| {
            assert!(catch_unwind(AssertUnwindSafe(|| poll_with(spawns.as_mut(), &waker))).is_err());
            assert!(catch_unwind(AssertUnwindSafe(|| poll_with(asks.as_mut(), &waker))).is_err());
        });
        assert!(catch_unwind(AssertUnwindSafe(|| poll_with(seat.as_mut(), &waker))).is_err());
        look_around().await;
        assert_eq!((metrics().waiting, metrics().tasks_live), (0, 1));
        hooks.clear();
        gate.open();
        drop(seat.await.unwrap());
        assert_eq!(beside(move || park_on(spawns).map(park_on)).await.unwrap().unwrap(), 1);
        beside(move || park_on(asks).unwrap()).await;
    });
}

#[test]
fn a_task_may_outlive_the_block_on_that_answered() {
    // What was asked between two calls is done at the beginning of the next one, however short.
    let runtime = runtime(1);
    let handle = runtime.handle();
    let ran = Arc::new(Mutex::new(0));
    for n in 1..=10 {
        let ran_there = ran.clone();
        let mut frame = Box::pin(handle.spawn(async move { *ran_there.lock().unwrap() += 1 }));
        let (waker, wakes) = Wakes::new();
        assert!(poll_with(frame.as_mut(), &waker).is_pending());
        runtime.block_on(async {});
        assert_eq!(wakes.count(), 1, "{n}");
        runtime.block_on(yield_now());
        assert_eq!(*ran.lock().unwrap(), n);
        assert!(poll_once(frame.as_mut()).is_ready());
    }
}

#[test]
fn an_owner_that_sleeps_is_rung_for_a_spawn_and_for_a_question() {
    must_end(|| {
        let runtime = Runtime::builder().max_tasks(2).build().unwrap();
        let handle = runtime.handle();
        let asking = thread::spawn(move || {
            (0..200).map(|n| park_on(handle.spawn_wait(async move { n }).unwrap()).unwrap()).sum::<u32>()
                + u32::try_from(handle.metrics().wait(LONG).unwrap().tasks_max).unwrap()
        });
        runtime.block_on(async {
            // Nothing else ever wakes it.
            let sum = beside(|| asking.join().unwrap()).await;
            assert_eq!(sum, 199 * 100 + 2);
            sleep(Duration::ZERO).await;
        });
    });
}
