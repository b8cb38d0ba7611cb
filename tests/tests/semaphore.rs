//! One semaphore for several runtimes at once, anteroom's and another's: its capacity is exact.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use anteroom::{Runtime, block_on, spawn, yield_now};
use anteroom_limiter::{AcquireError, Semaphore};
use anteroom_tests::{Unordered, must_end, park_on};

/// What is held now and was held at most, in units.
#[derive(Default)]
struct Held(AtomicUsize, AtomicUsize);

impl Held {
    fn take(&self, units: usize) {
        self.1.fetch_max(self.0.fetch_add(units, Ordering::SeqCst) + units, Ordering::SeqCst);
    }

    fn give(&self, units: usize) {
        self.0.fetch_sub(units, Ordering::SeqCst);
    }
}

const LIMIT: usize = 5;
const JOBS: usize = 2_000;

/// A job of any runtime: it holds one to three units over `yields` turns.
async fn job<Y: Future>(semaphore: Arc<Semaphore>, held: Arc<Held>, n: usize, turn: fn() -> Y) {
    let units = n % 3 + 1;
    let permit = semaphore.acquire_many_owned(units).await.unwrap();
    held.take(units);
    assert!(semaphore.in_use() <= LIMIT);
    for _ in 0..n % 4 {
        turn().await;
    }
    held.give(units);
    drop(permit);
}

fn on_anteroom(semaphore: Arc<Semaphore>, held: Arc<Held>) {
    Runtime::builder().max_tasks(20).build().unwrap().block_on(async {
        for n in 0..JOBS {
            drop(spawn(job(semaphore.clone(), held.clone(), n, yield_now)).await.unwrap());
        }
        while anteroom::metrics().tasks_live > 0 {
            yield_now().await;
        }
    });
}

fn on_tokio(semaphore: Arc<Semaphore>, held: Arc<Held>) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let task = |n| tokio::spawn(job(semaphore.clone(), held.clone(), n, tokio::task::yield_now));
        let tasks: Vec<_> = (0..JOBS).map(task).collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
}

/// Runs `sides` at once on one semaphore; whatever they do, its capacity is neither exceeded nor lost. The most that was
/// held is returned.
fn share(sides: Vec<fn(Arc<Semaphore>, Arc<Held>)>) -> usize {
    must_end(move || {
        let (semaphore, held) = (Arc::new(Semaphore::new(LIMIT)), Arc::new(Held::default()));
        let threads: Vec<_> = sides
            .into_iter()
            .map(|side| {
                let (semaphore, held) = (semaphore.clone(), held.clone());
                thread::spawn(move || side(semaphore, held))
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        let (now, peak) = (held.0.load(Ordering::SeqCst), held.1.load(Ordering::SeqCst));
        assert!(now == 0 && peak <= LIMIT, "{now} of {LIMIT} held, {peak} at most");
        assert_eq!((semaphore.in_use(), semaphore.waiting()), (0, 0));
        assert_eq!(semaphore.try_acquire_many(LIMIT).unwrap().weight(), LIMIT);
        peak
    })
}

#[test]
fn two_runtimes_on_two_threads_share_one_semaphore() {
    assert_eq!(share(vec![on_anteroom, on_anteroom]), LIMIT);
}

#[test]
fn anteroom_and_tokio_share_one_semaphore() {
    assert_eq!(share(vec![on_anteroom, on_tokio]), LIMIT);
}

#[test]
fn a_semaphore_works_under_tokio_alone_and_with_no_runtime_at_all() {
    assert_eq!(share(vec![on_tokio]), LIMIT);
    share(vec![
        |semaphore, held| (0..JOBS).for_each(|n| park_on(job(semaphore.clone(), held.clone(), n, yield_now))),
        |semaphore, held| (0..JOBS).for_each(|n| park_on(job(semaphore.clone(), held.clone(), n, yield_now))),
    ]);
}

#[test]
fn acquisitions_given_up_on_one_thread_serve_the_other() {
    // bugs.md 1, 7, 12, 13
    must_end(|| {
        let semaphore = Arc::new(Semaphore::new(2));
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let semaphore = semaphore.clone();
                thread::spawn(move || {
                    block_on(async {
                        for n in 0..3_000 {
                            // A few polls, and then it is taken or given up, granted or not.
                            let mut acquire = Box::pin(semaphore.acquire_many(n % 2 + 1));
                            for _ in 0..n % 3 {
                                if anteroom_tests::poll_once(acquire.as_mut()).is_ready() {
                                    break;
                                }
                                yield_now().await;
                            }
                        }
                        for _ in 0..1_000 {
                            assert_eq!(semaphore.acquire_many(2).await.unwrap().weight(), 2);
                        }
                    });
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!((semaphore.in_use(), semaphore.waiting()), (0, 0));
    });
}

#[test]
fn a_limit_that_is_changed_from_another_thread_holds_at_once() {
    // bugs.md 16, 17
    must_end(|| {
        let semaphore = Arc::new(Semaphore::new(10));
        let (limits, held) = (Arc::new(Mutex::new(10)), Arc::new(Held::default()));
        let resizer = {
            let (semaphore, limits) = (semaphore.clone(), limits.clone());
            thread::spawn(move || {
                for n in 0..2_000 {
                    *limits.lock().unwrap() = n % 10 + 1;
                    semaphore.set_limit(n % 10 + 1).unwrap();
                }
                semaphore.set_limit(10).unwrap();
            })
        };
        Runtime::builder().max_tasks(30).build().unwrap().block_on(async {
            let one = |n: usize| {
                let (semaphore, held) = (semaphore.clone(), held.clone());
                async move {
                    let permit = semaphore.acquire_owned().await.unwrap();
                    held.take(1);
                    (0..n % 3).for_each(|_| std::hint::spin_loop());
                    yield_now().await;
                    held.give(1);
                    drop(permit);
                }
            };
            let mut all: Unordered<_> = (0..3_000).map(|n| spawn(one(n)).join()).collect();
            while let Some((_, result)) = all.next().await {
                result.unwrap();
            }
        });
        resizer.join().unwrap();
        assert!(held.1.load(Ordering::SeqCst) <= 10);
        assert_eq!((semaphore.in_use(), semaphore.limit(), semaphore.waiting()), (0, 10, 0));
    });
}

#[test]
fn closing_it_tells_the_waiters_of_every_runtime() {
    must_end(|| {
        let semaphore = Arc::new(Semaphore::new(1));
        let permit = semaphore.clone().try_acquire_owned().unwrap();
        let waiter = |run: fn(Arc<Semaphore>) -> Result<(), AcquireError>| {
            let semaphore = semaphore.clone();
            thread::spawn(move || run(semaphore))
        };
        let waiters = [
            waiter(|semaphore| block_on(async move { semaphore.acquire().await.map(drop) })),
            waiter(|semaphore| park_on(async move { semaphore.acquire().await.map(drop) })),
            waiter(|semaphore| {
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                runtime.block_on(async move { semaphore.acquire().await.map(drop) })
            }),
        ];
        while semaphore.waiting() < 3 {
            thread::yield_now();
        }
        semaphore.close();
        for waiter in waiters {
            assert_eq!(waiter.join().unwrap(), Err(AcquireError::Closed));
        }
        drop(permit);
        assert_eq!(semaphore.in_use(), 0);
    });
}
