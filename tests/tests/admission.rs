//! Who gets in, in which order, and who is told.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use anteroom::{Runtime, SpawnError, metrics, spawn, spawn_local, spawn_service, try_spawn, yield_now};
use anteroom_tests::{Drops, Gate, Wakes, look_around, poll_once, poll_with};

fn runtime(max_tasks: usize) -> Runtime {
    Runtime::builder().max_tasks(max_tasks).build().unwrap()
}

#[test]
fn the_bound_is_exact_at_every_step() {
    for max_tasks in [1, 2, 10, 100] {
        runtime(max_tasks).block_on(async {
            let (live, peak, done) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
            for n in 0..1_000_usize {
                let (live, peak, done) = (live.clone(), peak.clone(), done.clone());
                let job = async move {
                    live.set(live.get() + 1);
                    peak.set(peak.get().max(live.get()));
                    for _ in 0..n % 7 {
                        yield_now().await;
                        assert!(live.get() <= max_tasks && live.get() <= metrics().tasks_live);
                    }
                    live.set(live.get() - 1);
                    done.set(done.get() + 1);
                };
                let mut spawn = pin!(spawn_local(job));
                match poll_once(spawn.as_mut()) {
                    Poll::Ready(task) => drop(task.unwrap()),
                    Poll::Pending => {
                        assert_eq!(metrics().tasks_live, max_tasks, "nobody waits while there is room");
                        drop(spawn.await.unwrap());
                    }
                }
                assert!(metrics().tasks_live <= max_tasks);
            }
            while metrics().tasks_live > 0 {
                yield_now().await;
            }
            assert!(peak.get() <= max_tasks && peak.get() > max_tasks / 2, "{}", peak.get());
            assert_eq!((done.get(), live.get(), metrics().tasks_live_peak), (1_000, 0, max_tasks));
        });
    }
}

#[test]
fn the_bound_holds_for_spawners_that_are_tasks_themselves() {
    // Eight tasks that spawn leave two places, which all of them share.
    runtime(10).block_on(async {
        let live = Rc::new(Cell::new(0));
        let mut spawners = Vec::new();
        for _ in 0..8 {
            let live = live.clone();
            let spawner = async move {
                for _ in 0..100 {
                    let live = live.clone();
                    let job = async move {
                        live.set(live.get() + 1);
                        assert!(live.get() <= 10);
                        yield_now().await;
                        live.set(live.get() - 1);
                    };
                    drop(spawn_local(job).await.unwrap());
                    assert!(metrics().tasks_live <= 10);
                }
            };
            spawners.push(spawn_local(spawner).await.unwrap());
        }
        for spawner in spawners {
            spawner.await.unwrap();
        }
        assert_eq!(metrics().tasks_live_peak, 10);
    });
}

#[test]
fn places_are_given_in_the_order_of_arrival() {
    runtime(3).block_on(async {
        let gate = Gate::new();
        let holders: Vec<_> = (0..3).map(|_| try_spawn(gate.wait()).unwrap()).collect();
        let order = Rc::new(RefCell::new(Vec::new()));
        let job = |n: usize| {
            let order = order.clone();
            async move {
                order.borrow_mut().push(n);
                yield_now().await;
            }
        };
        let mut waiting: Vec<_> = (0..50).map(|n| Box::pin(spawn_local(job(n)))).collect();
        for spawn in &mut waiting {
            assert!(poll_once(spawn.as_mut()).is_pending());
        }
        gate.open();
        // A place is free for a moment whenever a task ends, but it was promised: newcomers go to the end of the line.
        for n in 50..60 {
            let mut newcomer = Box::pin(spawn_local(job(n)));
            assert!(poll_once(newcomer.as_mut()).is_pending(), "nobody overtakes");
            waiting.push(newcomer);
            yield_now().await;
        }
        for spawn in waiting {
            spawn.await.unwrap().await.unwrap();
        }
        assert!(order.borrow().iter().copied().eq(0..60), "{order:?}");
        drop(holders);
    });
}

#[test]
fn a_parked_spawn_is_admitted_without_its_spawner_being_polled() {
    // bugs.md 18; and told once (bugs.md 3, 11)
    runtime(1).block_on(async {
        let gate = Gate::new();
        let holder = spawn(gate.wait()).await.unwrap();
        let ran = Rc::new(Cell::new(false));
        let mut first = Box::pin(spawn_local({
            let ran = ran.clone();
            async move { ran.set(true) }
        }));
        let mut second = Box::pin(spawn(async { 2 }));
        let ((waker_first, told_first), (waker_second, told_second)) = (Wakes::new(), Wakes::new());
        assert!(poll_with(first.as_mut(), &waker_first).is_pending());
        assert!(poll_with(second.as_mut(), &waker_second).is_pending());
        gate.open();
        look_around().await;
        assert!(ran.get() && holder.is_finished());
        assert_eq!((told_first.count(), told_second.count(), metrics().tasks_live), (1, 1, 0));
        let Poll::Ready(Ok(task)) = poll_once(second.as_mut()) else { panic!("it is a task by now") };
        assert_eq!(task.await.unwrap(), 2);
    });
}

#[test]
fn a_spawner_is_told_once_and_by_its_latest_waker() {
    runtime(1).block_on(async {
        let gate = Gate::new();
        let _holder = spawn(gate.wait()).await.unwrap();
        let mut waiting = Box::pin(spawn(async {}));
        let ((old, told_old), (new, told_new)) = (Wakes::new(), Wakes::new());
        for waker in [&old, &old, &new, &old, &new, &new] {
            assert!(poll_with(waiting.as_mut(), waker).is_pending());
        }
        assert_eq!(metrics().waiting, 1, "however often it is polled it waits once");
        gate.open();
        look_around().await;
        assert_eq!((told_old.count(), told_new.count()), (0, 1));
    });
}

#[test]
fn a_waiting_spawn_that_is_dropped_passes_its_turn_on() {
    // bugs.md 1, 2
    // [SPAWN-1]
    runtime(1).block_on(async {
        let gate = Gate::new();
        let _holder = spawn(gate.wait()).await.unwrap();
        let drops = Drops::new();
        let mut waiting: Vec<_> = (0..10)
            .map(|n| {
                let tracked = drops.track();
                Box::pin(spawn(async move { (n, tracked).0 }))
            })
            .collect();
        for spawn in &mut waiting {
            assert!(poll_once(spawn.as_mut()).is_pending());
        }
        for gone in [9, 5, 4, 0] {
            drop(waiting.remove(gone));
        }
        assert_eq!((drops.count(), metrics().waiting), (4, 6));
        gate.open();
        let mut left = Vec::new();
        for spawn in waiting {
            left.push(spawn.await.unwrap().await.unwrap());
        }
        assert_eq!(left, [1, 2, 3, 6, 7, 8]);
        assert_eq!((metrics().waiting, metrics().tasks_live), (0, 0));
    });
}

#[test]
fn a_spawn_dropped_after_its_grant_aborts_its_task() {
    // bugs.md 1, 7
    // [SPAWN-2]
    runtime(1).block_on(async {
        let gate = Gate::new();
        let _holder = spawn(gate.wait()).await.unwrap();
        let drops = Drops::new();
        let endless = |tracked| async move {
            std::future::pending::<()>().await;
            drop(tracked);
        };
        let mut granted = Box::pin(spawn(endless(drops.track())));
        assert!(poll_once(granted.as_mut()).is_pending());
        let mut next = Box::pin(spawn(async { 5 }));
        assert!(poll_once(next.as_mut()).is_pending());
        gate.open();
        while metrics().waiting == 2 {
            yield_now().await;
        }
        assert_eq!((metrics().tasks_live, metrics().waiting, drops.count()), (1, 1, 0));
        drop(granted);
        assert_eq!(next.await.unwrap().await.unwrap(), 5);
        assert_eq!((drops.count(), metrics().tasks_live, metrics().headers), (1, 0, 2), "its header too");
    });
}

#[test]
fn a_finished_task_holds_no_place_while_its_handle_is_kept() {
    // [TABLE-2]
    runtime(1).block_on(async {
        let mut handles = Vec::new();
        for n in 0..1_000 {
            handles.push(spawn(async move { n }).await.unwrap());
        }
        handles.pop().unwrap().await.unwrap();
        assert_eq!((metrics().tasks_live, metrics().headers), (0, 1_000));
        for (n, handle) in handles.into_iter().enumerate() {
            assert!(handle.is_finished());
            assert_eq!(handle.await.unwrap(), n);
        }
        assert_eq!(metrics().headers, 1, "the future of block_on");
    });
}

#[test]
fn withdraw_gives_a_waiting_future_back_unpolled() {
    runtime(1).block_on(async {
        let gate = Gate::new();
        let holder = spawn(gate.wait()).await.unwrap();
        let drops = Drops::new();
        let tracked = drops.track();
        let mut waiting = pin!(spawn(async move { (7, tracked).0 }));
        assert!(poll_once(waiting.as_mut()).is_pending());
        let future = waiting.as_mut().withdraw().expect("it waits");
        assert_eq!((metrics().waiting, drops.count()), (0, 0));
        assert!(waiting.as_mut().withdraw().is_none(), "there is one of it");
        assert_eq!((future.await, drops.count()), (7, 1));

        // After its admission it is a task, which is aborted.
        let tracked = drops.track();
        let mut granted = pin!(spawn_local(async move { (std::future::pending::<()>().await, tracked).0 }));
        assert!(poll_once(granted.as_mut()).is_pending());
        gate.open();
        holder.await.unwrap();
        assert!(granted.as_mut().withdraw().is_none());
        yield_now().await;
        assert_eq!((drops.count(), metrics().tasks_live), (2, 0));
    });
}

#[test]
fn services_have_a_budget_of_their_own() {
    Runtime::builder().max_tasks(1).service_tasks(2).build().unwrap().block_on(async {
        let _task = try_spawn(std::future::pending::<()>()).unwrap();
        let services = [(); 2].map(|()| spawn_service(std::future::pending::<()>()).unwrap());
        let error = spawn_service(async { 3 }).unwrap_err();
        assert!(error.is_full());
        assert_eq!((error.into_future().await, metrics().services_live, metrics().tasks_live), (3, 2, 1));
        services[0].abort();
        yield_now().await;
        assert_eq!(metrics().services_live, 1);
        let again = spawn_service(async { 4 }).unwrap();
        assert_eq!(again.await.unwrap(), 4);
        assert_eq!(metrics().services_live, 1, "a service that ends gives its place back too");
    });
}

#[test]
fn a_spawn_polled_again_after_it_was_ready_panics_and_takes_nothing() {
    runtime(2).block_on(async {
        for room in [true, false] {
            let gate = Gate::new();
            let text = String::from("moved once");
            let mut spent = Box::pin(spawn({
                let wait = gate.wait();
                async move { (wait.await, text).1 }
            }));
            let Poll::Ready(Ok(task)) = poll_once(spent.as_mut()) else { panic!("there is room") };
            let _other = (!room).then(|| try_spawn(gate.wait()).unwrap());
            assert!(catch_unwind(AssertUnwindSafe(|| poll_once(spent.as_mut()))).is_err());
            assert_eq!((metrics().tasks_live, metrics().waiting), (2 - usize::from(room), 0));
            gate.open();
            assert_eq!(task.await.unwrap(), "moved once");
            look_around().await;
            assert!(spent.as_mut().withdraw().is_none());
            assert_eq!((metrics().tasks_live, metrics().waiting), (0, 0));
        }
    });
}

#[test]
fn the_line_may_have_a_bound_of_its_own() {
    Runtime::builder().max_tasks(1).max_waiting(2).build().unwrap().block_on(async {
        let gate = Gate::new();
        let _holder = spawn(gate.wait()).await.unwrap();
        let mut waiting: Vec<_> = (0..4).map(|n| Box::pin(spawn(async move { n }))).collect();
        let polled = waiting.iter_mut().map(|spawn| poll_once(spawn.as_mut()));
        let polled: Vec<_> =
            polled.map(|polled| matches!(polled, Poll::Ready(Err(SpawnError::QueueFull)))).collect();
        assert_eq!((polled, metrics().waiting), (vec![false, false, true, true], 2));
        // Who was turned away keeps its future, and may ask again when there is room in the line.
        assert_eq!(waiting.pop().unwrap().as_mut().withdraw().expect("it is there").await, 3);
        drop(waiting.remove(0));
        assert!(poll_once(waiting[1].as_mut()).is_pending());
        gate.open();
        for (spawn, n) in waiting.into_iter().zip([1, 2]) {
            assert_eq!(spawn.await.unwrap().await.unwrap(), n);
        }
    });
    Runtime::builder().max_tasks(1).max_waiting(0).build().unwrap().block_on(async {
        let _holder = spawn(std::future::pending::<()>()).await.unwrap();
        assert_eq!(spawn(async {}).await.unwrap_err(), SpawnError::QueueFull);
        assert!(spawn(async {}).join().await.unwrap_err().is_cancelled());
    });
}
