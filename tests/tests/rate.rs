//! A rate in two runtimes: each waits by its own clock, and gets its slots in time and in order.

mod clocks;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anteroom::{Runtime, spawn_local, time};
use anteroom_limiter::{Paced, Rate, RateLimit, ReserveError, Semaphore, Timer};
use anteroom_tests::must_end;
use clocks::Tokio;

const MS: Duration = Duration::from_millis(1);

#[test]
fn under_a_paused_clock_each_goes_on_at_its_own_slot_in_the_order_of_coming() {
    must_end(|| {
        Runtime::builder().paused_clock(true).build().unwrap().block_on(async {
            let start = time::now();
            let rate = Rc::new(RateLimit::new(Rate::per_second(10).burst(3), start));
            let came = Rc::new(RefCell::new(Vec::new()));
            let mut tasks = Vec::new();
            for number in 0..100 {
                let (rate, came) = (rate.clone(), came.clone());
                let task = async move {
                    rate.wait(&time::Timer).await.unwrap();
                    came.borrow_mut().push((number, time::now() - start));
                };
                tasks.push(spawn_local(task).await.unwrap());
            }
            for task in tasks {
                task.await.unwrap();
            }
            // The burst at once, and then one every tenth of a second; whatever a timer's resolution adds, it adds to all.
            for (at, &(number, after)) in came.borrow().iter().enumerate() {
                let slot = 100 * MS * (at as u32).saturating_sub(2);
                assert_eq!(number, at);
                assert!(
                    after >= slot && after < slot + 5 * MS,
                    "{number} came after {after:?}, not {slot:?}"
                );
            }
        });
    });
}

#[test]
fn who_gives_up_loses_only_its_own_turn() {
    must_end(|| {
        Runtime::builder().paused_clock(true).build().unwrap().block_on(async {
            let start = time::now();
            let rate = RateLimit::new(Rate::per_second(1), start);
            rate.wait(&time::Timer).await.unwrap();
            for _ in 0..10 {
                // Each takes the slot of the first second, and gives it back.
                assert!(time::timeout(50 * MS, rate.wait(&time::Timer)).await.is_err());
            }
            rate.wait(&time::Timer).await.unwrap();
            let after = time::now() - start;
            assert!(
                after >= 1_000 * MS && after < 1_005 * MS,
                "{after:?}: nothing is left of those who gave up"
            );
        });
    });
}

#[test]
fn at_most_so_many_at_once_and_in_so_much_time() {
    must_end(|| {
        Runtime::builder().paused_clock(true).max_tasks(50).build().unwrap().block_on(async {
            let rate = RateLimit::new(Rate::per_second(100).burst(5), time::now());
            let most = rate.rate();
            let host = Rc::new(Paced::new(Arc::new(Semaphore::new(4)), rate, time::Timer));
            let began = Rc::new(RefCell::new(Vec::new()));
            let mut tasks = Vec::new();
            for _ in 0..200 {
                let (host, began) = (host.clone(), began.clone());
                let task = async move {
                    let permit = host.acquire().await.unwrap();
                    assert!(host.semaphore().in_use() <= 4);
                    began.borrow_mut().push(time::now());
                    time::sleep(25 * MS).await;
                    drop(permit);
                };
                tasks.push(spawn_local(task).await.unwrap());
            }
            for task in tasks {
                task.await.unwrap();
            }
            let began = began.borrow();
            for first in 0..began.len() {
                for last in first..began.len() {
                    // A timer is late by less than two milliseconds of the paused clock.
                    let window = began[last] - began[first] + 2 * MS;
                    assert!(
                        (last - first) as u64 <= most.at_most_in(window),
                        "{first} to {last}: {window:?}"
                    );
                }
            }
            assert_eq!(began.len(), 200);
            assert_eq!(host.semaphore().in_use(), 0);
        });
    });
}

#[test]
fn under_tokio_nobody_comes_before_its_slot() {
    must_end(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let start = Tokio.now();
            let rate = Arc::new(RateLimit::new(Rate::per_second(1_000).burst(2), start));
            let came = Arc::new(Mutex::new(Vec::new()));
            let task = |number| {
                let (rate, came) = (rate.clone(), came.clone());
                tokio::spawn(async move {
                    rate.wait(&Tokio).await.unwrap();
                    came.lock().unwrap().push((number, Tokio.now() - start));
                })
            };
            let tasks: Vec<_> = (0..100).map(task).collect();
            for task in tasks {
                task.await.unwrap();
            }
            let mut came = came.lock().unwrap().clone();
            came.sort_unstable();
            // tokio wakes those that are due in one turn in an order of its own. Each had its slot by its coming.
            for (number, after) in came {
                let slot = MS * (number as u32).saturating_sub(1);
                assert!(after >= slot, "{number} came after {after:?}, before {slot:?}");
            }
        });
    });
}

#[test]
fn under_tokio_a_pace_is_kept_and_given_up() {
    must_end(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let rate =
                RateLimit::new(Rate::per_hour(1), Tokio.now()).with_max_wait(Duration::from_secs(3_600));
            let host = Arc::new(Paced::new(Arc::new(Semaphore::new(2)), rate, Tokio));
            drop(host.acquire().await.unwrap());
            // In an hour; nobody waits so long.
            assert!(tokio::time::timeout(MS, host.acquire()).await.is_err());
            assert_eq!(host.semaphore().in_use(), 0);
            let sleeper = tokio::spawn({
                let host = host.clone();
                async move { drop(host.acquire_owned().await) }
            });
            while host.semaphore().in_use() == 0 {
                tokio::task::yield_now().await;
            }
            assert!(host.rate().wait(&Tokio).await == Err(ReserveError::QueueFull), "the one slot is taken");
            sleeper.abort();
            assert!(sleeper.await.unwrap_err().is_cancelled());
            assert_eq!(host.semaphore().in_use(), 0);
            let slot = host.rate().reserve(Tokio.now()).unwrap();
            assert!(slot.cancel(), "and it came back");
        });
    });
}
