//! What a deadline means to whoever waits for a place or a permit: it may pass before, with or after the grant, and nothing
//! is lost or doubled by it.

use std::future::pending;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anteroom::time::{Sleep, advance, now, sleep, timeout, timeout_at};
use anteroom::{Runtime, block_on, metrics, spawn, try_spawn, yield_now};
use anteroom_limiter::Semaphore;
use anteroom_tests::{Drops, Unordered, Wakes, look_around, must_end, poll_with};

const TICK: Duration = Duration::from_micros(100);
const SEC: Duration = Duration::from_secs(1);

fn paused(max_tasks: usize) -> Runtime {
    Runtime::builder().max_tasks(max_tasks).paused_clock(true).build().unwrap()
}

#[test]
fn a_deadline_that_has_passed_refuses_nothing_that_is_there() {
    // bugs.md 5: with room at the first poll that poll gives it; without, the deadline is what ends the wait.
    paused(1).block_on(async {
        advance(SEC).await;
        let past = now().checked_sub(SEC / 2).unwrap();
        let drops = Drops::new();
        for _ in 0..3 {
            let task = timeout_at(past, spawn(pending::<()>())).await.expect("there is room").unwrap();
            let tracked = drops.track();
            let late = timeout_at(past, spawn(async move { drop(tracked) })).await;
            assert!(late.is_err(), "there is none");
            assert_eq!((metrics().waiting, metrics().tasks_live), (0, 1));
            task.abort();
            yield_now().await;
        }
        assert_eq!(drops.count(), 3);

        let semaphore = Semaphore::new(1);
        let permit = timeout_at(past, semaphore.acquire()).await.expect("it is free").unwrap();
        assert!(timeout(Duration::ZERO, semaphore.acquire()).await.is_err());
        assert_eq!((semaphore.in_use(), semaphore.waiting()), (1, 0));
        drop(permit);
        assert!(timeout(Duration::ZERO, semaphore.acquire()).await.is_ok());
        assert_eq!((semaphore.in_use(), metrics().timers), (0, 0));
    });
}

#[test]
fn a_grant_and_a_timeout_in_the_same_moment_lose_no_place() {
    // bugs.md 7, 12: all ways in which the holder's end and two deadlines fall on, before and after one tick.
    for ways in 0..27 {
        let at = |n: u32| SEC + TICK * (ways / 3_u32.pow(n) % 3);
        paused(1).block_on(async {
            let (ran, drops) = (Arc::new(AtomicUsize::new(0)), Drops::new());
            let job = || {
                let (ran, tracked) = (ran.clone(), drops.track());
                async move { (ran.fetch_add(1, Ordering::SeqCst), tracked).0 }
            };
            drop(try_spawn(sleep(at(0))).unwrap());
            let mut both: Unordered<_> =
                [1, 2].map(|n| timeout(at(n), spawn(job()).join())).into_iter().collect();
            let mut in_time = 0;
            while let Some((_, result)) = both.next().await {
                in_time += usize::from(result.is_ok_and(|output| output.is_ok()));
            }
            look_around().await;
            // Who was too late may have run, but was dropped, and no more ran than were let in.
            let ran = ran.load(Ordering::SeqCst);
            assert!(in_time <= ran && ran <= 2, "{ways}: {in_time} in time, {ran} ran");
            assert_eq!(drops.count(), 2, "{ways}");
            sleep(SEC).await;
            assert_eq!((metrics().tasks_live, metrics().waiting, metrics().timers), (0, 0, 0), "{ways}");
            assert!(try_spawn(async {}).is_ok(), "{ways}: the place is back");
        });
    }
}

#[test]
fn ten_thousand_timeouts_around_spawns_and_acquisitions_leave_the_capacity_exact() {
    // bugs.md 12, 13
    const JOBS: usize = 10_000;
    paused(3).block_on(async {
        let (semaphore, drops) = (Arc::new(Semaphore::new(2)), Drops::new());
        let mut random = 1_u64;
        let mut below = |bound: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % bound
        };
        let (mut in_time, mut late) = (0, 0);
        for _ in 0..JOBS / 20 {
            let batch: Vec<_> = (0..20)
                .map(|_| {
                    let (semaphore, tracked, held) =
                        (semaphore.clone(), drops.track(), TICK * below(6) as u32);
                    let (weight, patience) = (1 + below(2) as usize, TICK * below(12) as u32);
                    let job = async move {
                        let permit = timeout(patience, semaphore.acquire_many_owned(weight)).await;
                        assert!(semaphore.in_use() <= 2);
                        sleep(held).await;
                        drop((permit, tracked));
                    };
                    timeout(TICK * below(30) as u32, spawn(job).join())
                })
                .collect();
            let mut batch: Unordered<_> = batch.into_iter().collect();
            while let Some((_, result)) = batch.next().await {
                assert!(metrics().tasks_live <= 3);
                match result {
                    Ok(output) => in_time += usize::from(output.is_ok()),
                    Err(_) => late += 1,
                }
            }
        }
        look_around().await;
        assert_eq!((in_time + late, drops.count()), (JOBS, JOBS));
        assert!(in_time > JOBS / 20 && late > JOBS / 20, "{in_time} in time, {late} late");
        assert_eq!((semaphore.in_use(), semaphore.waiting()), (0, 0));
        assert_eq!((metrics().tasks_live, metrics().waiting, metrics().timers), (0, 0, 0));
        let tasks: Vec<_> = (0..3).map(|_| try_spawn(pending::<()>()).unwrap()).collect();
        assert!(try_spawn(async {}).unwrap_err().is_full());
        assert_eq!(semaphore.try_acquire_many(2).unwrap().weight(), 2);
        drop(tasks);
    });
}

#[test]
fn a_timer_that_is_dropped_elsewhere_while_it_fires_wakes_at_most_once() {
    // bugs.md 42
    must_end(|| {
        let start = Instant::now();
        let (to_thread, at_thread) = mpsc::channel::<Vec<Pin<Box<Sleep>>>>();
        let dropper = thread::spawn(move || at_thread.into_iter().for_each(drop));
        let mut rounds = 0;
        block_on(async {
            while rounds < 300 && start.elapsed() < Duration::from_secs(2) {
                rounds += 1;
                let (waker, told) = Wakes::new();
                let make = |_| {
                    let mut waits = Box::pin(sleep(TICK * (rounds % 3)));
                    // One that is over at its first poll is told by that.
                    poll_with(waits.as_mut(), &waker).is_pending().then_some(waits)
                };
                let sleeps: Vec<_> = (0..20).filter_map(make).collect();
                let waiting = sleeps.len();
                to_thread.send(sleeps).unwrap();
                sleep(TICK * 2).await;
                assert!(told.count() <= waiting, "{} wakes of {waiting} timers", told.count());
            }
            drop(to_thread);
            while !dropper.is_finished() {
                yield_now().await;
            }
            look_around().await;
            assert_eq!(metrics().timers, 0);
        });
        println!("{rounds} rounds");
        dropper.join().unwrap();
    });
}

#[test]
fn a_task_that_gives_up_its_permits_gives_them_up_once() {
    // bugs.md 7, 14: aborted at any point of its life, by a panic or by the end of its runtime.
    let semaphore = Arc::new(Semaphore::new(3));
    let exactly = |in_use: usize| {
        assert_eq!((semaphore.in_use(), semaphore.waiting()), (in_use, 0));
        assert_eq!(semaphore.try_acquire_many(3 - in_use).unwrap().weight(), 3 - in_use);
        assert!(semaphore.try_acquire_many(4 - in_use).is_err());
    };
    let runtime = paused(10);
    let kept = runtime.block_on(async {
        let hold = |weight| {
            let semaphore = semaphore.clone();
            async move {
                let permit = semaphore.acquire_many_owned(weight).await.unwrap();
                (sleep(SEC).await, permit).1
            }
        };
        // Before its first poll; while it holds them; and after it has given them to its handle.
        let task = spawn(hold(2)).await.unwrap();
        task.abort();
        assert!(task.await.is_err());
        exactly(0);
        let task = spawn(hold(2)).await.unwrap();
        yield_now().await;
        exactly(2);
        task.abort();
        task.abort();
        assert!(task.await.is_err());
        exactly(0);
        let task = spawn(hold(2)).await.unwrap();
        sleep(2 * SEC).await;
        task.abort();
        exactly(2);
        drop(task.await.unwrap());
        exactly(0);

        // While it waits for them, and after they were granted and before it could take them.
        for granted in [false, true] {
            let held = semaphore.try_acquire_many(3).unwrap();
            let task = spawn(hold(2)).await.unwrap();
            yield_now().await;
            assert_eq!(semaphore.waiting(), 1);
            if granted {
                drop(held);
                exactly(2);
                task.abort();
                assert!(task.await.is_err());
            } else {
                task.abort();
                assert!(task.await.is_err());
                exactly(3);
                drop(held);
            }
            exactly(0);
        }

        // By a panic, with its guard and by itself.
        let permit = semaphore.try_acquire_many_owned(2).unwrap();
        let panics = spawn(async move {
            let mut permit = permit;
            drop(permit.split(1));
            std::panic::resume_unwind(Box::new("with a permit"));
        });
        assert!(panics.join().await.unwrap_err().is_panic());
        exactly(0);

        // Detached, and with its handle kept over the end of the runtime.
        drop(spawn(hold(1)).await.unwrap());
        let kept = spawn(hold(1)).await.unwrap();
        let done = spawn(std::future::ready(semaphore.try_acquire_owned().unwrap())).await.unwrap();
        yield_now().await;
        exactly(3);
        (kept, done)
    });
    drop(runtime);
    exactly(1);
    drop(kept);
    exactly(0);
}

#[test]
fn a_frame_whose_future_panics_when_it_is_dropped_has_left_the_line() {
    // bugs.md 29: it was never polled, and takes its place in the line with it.
    paused(1).block_on(async {
        let holder = try_spawn(sleep(SEC)).unwrap();
        let drops = Drops::new();
        let bad = || {
            let tracked = drops.track_panicking();
            Box::pin(spawn(async move { drop(tracked) }))
        };
        let (mut first, mut second) = (bad(), bad());
        let mut third = Box::pin(spawn(async { 3 }));
        for frame in [&mut first, &mut second] {
            assert!(anteroom_tests::poll_once(frame.as_mut()).is_pending());
        }
        assert!(anteroom_tests::poll_once(third.as_mut()).is_pending());
        assert!(catch_unwind(AssertUnwindSafe(|| drop(first))).is_err());
        assert!(catch_unwind(AssertUnwindSafe(|| anteroom_tests::elsewhere(|| drop(second)))).is_err());
        look_around().await;
        assert_eq!((drops.count(), metrics().waiting), (2, 1));
        holder.await.unwrap();
        assert_eq!(third.await.unwrap().await.unwrap(), 3);
    });
}
