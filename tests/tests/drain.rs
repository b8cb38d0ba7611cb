//! An orderly end: nobody gets in any more, and who waits for the last one to leave is told.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

use anteroom::time::sleep;
use anteroom::{
    Handle, Runtime, SpawnError, metrics, reserve, spawn, spawn_blocking, spawn_service, yield_now,
};
use anteroom_tests::{
    Drops, Gate, Wait, Wakes, elsewhere, look_around, must_end, park_on, poll_once, poll_with,
};

const LONG: Duration = Duration::from_secs(50);
const MS: Duration = Duration::from_millis(1);

fn runtime(max_tasks: usize) -> Runtime {
    Runtime::builder().max_tasks(max_tasks).build().unwrap()
}

async fn panics(wait: Wait) {
    wait.await;
    panic!("on the way out");
}

fn here() -> Handle {
    Handle::current().unwrap()
}

#[test]
fn a_drain_waits_for_tasks_and_places_and_not_for_services() {
    let runtime = Runtime::builder().max_tasks(4).paused_clock(true).build().unwrap();
    runtime.block_on(async {
        let handle = here();
        let gate = Gate::new();
        let task = spawn(gate.wait()).await.unwrap();
        drop(spawn(sleep(5 * MS)).await.unwrap());
        let (spent, kept) = (reserve().bytes(100).await.unwrap(), reserve().await.unwrap());
        let service = spawn_service(std::future::pending::<()>()).unwrap();
        let mut waits = Box::pin(spawn(async {}));
        assert!(poll_once(waits.as_mut()).is_pending());
        let mut drain = pin!(handle.drain(LONG));
        let (waker, wakes) = Wakes::new();
        assert!(poll_with(drain.as_mut(), &waker).is_pending());
        assert!(matches!(poll_once(waits.as_mut()), Poll::Ready(Err(SpawnError::Closed))));
        assert_eq!(spawn(async {}).await.unwrap_err(), SpawnError::Closed);
        sleep(10 * MS).await;
        gate.open();
        task.await.unwrap();
        // Whoever has a place may use it, and is waited for.
        let gate = Gate::new();
        let wait = gate.wait();
        let late = spent.spawn(async move { (wait.await, 7).1 }).unwrap();
        look_around().await;
        assert!(poll_with(drain.as_mut(), &waker).is_pending());
        elsewhere(|| drop(kept));
        look_around().await;
        assert_eq!((wakes.count(), metrics().tasks_live), (0, 1));
        gate.open();
        assert_eq!(late.await.unwrap(), 7);
        assert_eq!(wakes.count(), 1);
        assert!(matches!(poll_with(drain.as_mut(), &waker), Poll::Ready(Ok(()))));
        assert_eq!((metrics().tasks_live, metrics().services_live), (0, 1));
        // And again, at once.
        handle.drain(Duration::ZERO).await.unwrap();
        service.abort();
    });
}

#[test]
fn a_drain_of_nothing_is_over_and_closes() {
    let idle = runtime(1);
    idle.block_on(async {
        let _ = here().drain(Duration::ZERO).await;
        assert_eq!(spawn(async {}).await.unwrap_err(), SpawnError::Closed);
        here().drain(LONG).await.unwrap();
    });
    // Before it is polled it does nothing.
    let untouched = runtime(1);
    untouched.block_on(async {
        drop(here().drain(LONG));
        let _drain = here().drain(LONG);
        spawn(async {}).await.unwrap().await.unwrap();
    });
}

#[test]
fn a_drain_that_takes_too_long_says_so_and_admission_stays_closed() {
    let runtime = Runtime::builder().max_tasks(2).paused_clock(true).build().unwrap();
    let handle = runtime.handle();
    runtime.block_on(async {
        let gate = Gate::new();
        let task = spawn(gate.wait()).await.unwrap();
        let start = anteroom::time::now();
        assert!(handle.drain(Duration::from_secs(3)).await.is_err());
        let took = anteroom::time::now() - start;
        assert!(took >= Duration::from_secs(3) && took < Duration::from_millis(3_001), "{took:?}");
        assert_eq!(handle.holders().await.unwrap().len(), 1);
        assert_eq!(spawn(async {}).await.unwrap_err(), SpawnError::Closed);
        gate.open();
        handle.drain(Duration::MAX).await.unwrap();
        assert!(task.is_finished());
    });
    must_end(|| {
        let runtime = self::runtime(1);
        let handle = runtime.handle();
        runtime.block_on(async {
            let _place = reserve().await.unwrap();
            let waits = thread::spawn(move || (Instant::now(), handle.drain_wait(20 * MS), Instant::now()));
            while !waits.is_finished() {
                sleep(MS).await;
            }
            let (start, result, end) = waits.join().unwrap();
            assert!(result.is_err() && end - start >= 20 * MS);
            assert_eq!(spawn(async {}).await.unwrap_err(), SpawnError::Closed);
        });
    });
}

#[test]
fn a_task_that_drains_its_own_runtime_waits_for_itself_until_its_time_is_over() {
    let runtime = Runtime::builder().paused_clock(true).build().unwrap();
    runtime.block_on(async {
        let task = spawn(async { here().drain(Duration::from_secs(1)).await.is_err() }).await.unwrap();
        assert!(task.await.unwrap());
    });
    // A service is none of those that are waited for.
    let runtime = Runtime::builder().paused_clock(true).build().unwrap();
    runtime.block_on(async {
        drop(spawn(sleep(MS)).await.unwrap());
        let service = spawn_service(async { here().drain(LONG).await.is_ok() }).unwrap();
        assert!(service.await.unwrap());
    });
}

#[test]
fn many_drains_on_many_threads_all_end() {
    must_end(|| {
        for n in 0..100 {
            let runtime = runtime(3);
            let handle = runtime.handle();
            let threads: Vec<_> = runtime.block_on(async {
                let gate = Gate::new();
                drop(spawn(gate.wait()).await.unwrap());
                let place = reserve().await.unwrap();
                let threads: Vec<_> = (0..3)
                    .map(|way| {
                        thread::spawn(move || match way {
                            0 => handle.drain_wait(LONG).is_ok(),
                            1 => anteroom::block_on(handle.drain(LONG)).is_ok(),
                            _ => {
                                // One that does not stay until the end.
                                let mut drain = Box::pin(handle.drain(LONG));
                                let _ = anteroom::block_on(async { poll_once(drain.as_mut()) });
                                drop(drain);
                                handle.drain_wait(LONG).is_ok()
                            }
                        })
                    })
                    .collect();
                let mut own: Vec<_> = (0..3).map(|_| Box::pin(handle.drain(LONG))).collect();
                if n % 2 == 0 {
                    for drain in &mut own {
                        assert!(poll_once(drain.as_mut()).is_pending());
                    }
                    drop(own.remove(1));
                }
                for _ in 0..n {
                    yield_now().await;
                }
                gate.open();
                if n % 3 == 0 {
                    thread::spawn(move || drop(place)).join().unwrap()
                } else {
                    drop(place)
                }
                for drain in own {
                    drain.await.unwrap();
                }
                threads
            });
            if n % 5 == 0 {
                drop(runtime);
            } else {
                runtime.block_on(async {
                    while !threads.iter().all(thread::JoinHandle::is_finished) {
                        sleep(MS).await;
                    }
                });
            }
            for thread in threads {
                assert!(thread.join().unwrap(), "{n}");
            }
        }
    });
}

#[test]
fn who_drains_is_told_when_the_runtime_is_dropped_meanwhile() {
    must_end(|| {
        let runtime = runtime(1);
        let handle = runtime.handle();
        let drops = Drops::new();
        let tracked = drops.track();
        let place = runtime.block_on(async {
            drop(spawn_service(async move { (std::future::pending::<()>().await, tracked).0 }).unwrap());
            reserve().await.unwrap()
        });
        let other = self::runtime(1);
        let (waker, wakes) = Wakes::new();
        let mut drain = Box::pin(handle.drain(LONG));
        other.block_on(async { assert!(poll_with(drain.as_mut(), &waker).is_pending()) });
        let waiting = thread::spawn(move || handle.drain_wait(LONG));
        // That thread may come before or after the end.
        drop(runtime);
        assert_eq!((wakes.count(), drops.count()), (1, 1));
        waiting.join().unwrap().unwrap();
        other.block_on(drain).unwrap();
        // The place is void, and whoever has the home next does not hear of any of this.
        let next = self::runtime(1);
        drop(place);
        next.block_on(async { spawn(async {}).await.unwrap().await.unwrap() });
    });
}

#[test]
fn a_drain_that_is_dropped_leaves_nothing_behind() {
    let runtime = runtime(1);
    let handle = runtime.handle();
    runtime.block_on(async {
        let gate = Gate::new();
        drop(spawn(gate.wait()).await.unwrap());
        let ((waker, wakes), (other, other_wakes)) = (Wakes::new(), Wakes::new());
        let mut dropped = Box::pin(handle.drain(LONG));
        let mut dropped_elsewhere = Box::pin(handle.drain(LONG));
        let mut stays = Box::pin(handle.drain(LONG));
        assert!(poll_with(dropped.as_mut(), &waker).is_pending());
        assert!(poll_with(dropped_elsewhere.as_mut(), &waker).is_pending());
        assert!(poll_with(stays.as_mut(), &waker).is_pending());
        assert!(poll_with(stays.as_mut(), &other).is_pending(), "its latest waker");
        drop(dropped);
        elsewhere(|| drop(dropped_elsewhere));
        gate.open();
        look_around().await;
        assert_eq!((wakes.count(), other_wakes.count(), metrics().timers), (0, 1, 1));
        assert!(poll_once(stays.as_mut()).is_ready());
        drop(stays);
        assert_eq!(std::sync::Arc::strong_count(&wakes), 2, "only ours, and the test's waker");
        assert_eq!(metrics().timers, 0);
    });
}

#[test]
fn a_drain_polled_outside_of_any_runtime_says_what_to_do() {
    let runtime = runtime(1);
    let handle = runtime.handle();
    let place = runtime.block_on(async { reserve().await.unwrap() });
    let panic = catch_unwind(AssertUnwindSafe(|| poll_once(pin!(handle.drain(LONG))))).unwrap_err();
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap();
    assert!(text.contains("runtime"), "{text}");
    drop(place);
    // Nothing hangs in the drain's place.
    runtime.block_on(handle.drain(LONG)).unwrap();
    drop(runtime);
    park_on(handle.drain(LONG)).unwrap();
}

#[test]
fn a_blocking_job_of_a_task_is_waited_for_by_way_of_its_task() {
    let runtime = runtime(1);
    runtime.block_on(async {
        let (sender, receiver) = std::sync::mpsc::channel::<()>();
        let task = spawn(async move { spawn_blocking(move || receiver.recv().is_err()).await.unwrap() });
        let task = task.await.unwrap();
        let mut drain = pin!(here().drain(LONG));
        look_around().await;
        assert!(poll_once(drain.as_mut()).is_pending());
        drop(sender);
        drain.await.unwrap();
        assert!(task.await.unwrap());
    });
}

#[test]
fn tasks_that_end_by_panic_or_abort_count_as_ended() {
    let runtime = runtime(3);
    runtime.block_on(async {
        let gate = Gate::new();
        let wait = gate.wait();
        let panics = spawn(panics(wait)).await.unwrap();
        let endless = spawn(std::future::pending::<()>()).await.unwrap();
        let mut drain = pin!(here().drain(LONG));
        assert!(poll_once(drain.as_mut()).is_pending());
        gate.open();
        elsewhere(|| endless.abort());
        drain.await.unwrap();
        assert!(panics.await.unwrap_err().is_panic() && endless.await.unwrap_err().is_cancelled());
    });
}
