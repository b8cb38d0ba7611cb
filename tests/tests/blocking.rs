//! Jobs that block: bounded, told of their end, and never waited for when the runtime ends.

use std::collections::HashSet;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use anteroom::{Runtime, block_on, metrics, spawn, spawn_blocking, time, yield_now};
use anteroom_tests::{Drops, Unordered, look_around, must_end, park_on, poll_once};

fn runtime(threads: usize, queue: usize) -> Runtime {
    Runtime::builder().blocking_threads(threads).blocking_queue(queue).build().unwrap()
}

/// Holds jobs until it is opened.
#[derive(Clone, Default)]
struct Latch(Arc<(Mutex<bool>, Condvar)>);

impl Latch {
    fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    fn wait(&self) {
        drop(self.0.1.wait_while(self.0.0.lock().unwrap(), |open| !*open).unwrap());
    }
}

#[test]
fn a_job_runs_on_another_thread_and_gives_its_result() {
    block_on(async {
        let here = thread::current().id();
        let there = spawn_blocking(|| thread::current().id()).await.unwrap();
        assert_ne!(here, there);
        let text = String::from("moved there and back");
        assert_eq!(spawn_blocking(move || text).await.unwrap(), "moved there and back");
        // Threads that are idle are used again.
        let mut threads = HashSet::from([there]);
        for _ in 0..100 {
            threads.insert(spawn_blocking(|| thread::current().id()).await.unwrap());
        }
        // One may have been started because the last was not idle yet, but never more than may be.
        assert!(threads.len() <= 4 && metrics().blocking_threads <= 4);
    });
}

#[test]
fn never_more_threads_than_allowed_and_as_many_as_are_needed() {
    must_end(|| {
        runtime(3, 100).block_on(async {
            let (running, peak) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
            let latch = Latch::default();
            let job = || {
                let (running, peak, latch) = (running.clone(), peak.clone(), latch.clone());
                spawn_blocking(move || {
                    peak.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    latch.wait();
                    running.fetch_sub(1, Ordering::SeqCst);
                })
            };
            let mut jobs: Unordered<_> = (0..50).map(|_| job()).collect();
            assert!(poll_once(pin!(jobs.next())).is_pending());
            assert_eq!((metrics().blocking_jobs, metrics().blocking_threads), (50, 3));
            while running.load(Ordering::SeqCst) < 3 {
                yield_now().await;
            }
            latch.open();
            while let Some((_, result)) = jobs.next().await {
                result.unwrap();
            }
            assert_eq!(peak.load(Ordering::SeqCst), 3);
            while metrics().blocking_jobs > 0 {
                yield_now().await;
            }
        });
    });
}

#[test]
fn when_the_queue_is_full_the_caller_waits_and_its_job_with_it() {
    // bugs.md 38
    must_end(|| {
        runtime(1, 1).block_on(async {
            let (latch, drops) = (Latch::default(), Drops::new());
            let hold = || {
                let latch = latch.clone();
                spawn_blocking(move || latch.wait())
            };
            let (mut first, mut second) = (Box::pin(hold()), Box::pin(hold()));
            assert!(poll_once(first.as_mut()).is_pending() && poll_once(second.as_mut()).is_pending());
            let started = Arc::new(Mutex::new(Vec::new()));
            let mut waiting: Vec<_> = (0..20)
                .map(|n| {
                    let (started, tracked) = (started.clone(), drops.track());
                    Box::pin(spawn_blocking(move || (started.lock().unwrap().push(n), tracked).1))
                })
                .collect();
            for job in &mut waiting {
                assert!(poll_once(job.as_mut()).is_pending());
            }
            assert_eq!((metrics().blocking_jobs, metrics().blocking_threads), (2, 1));
            // Given up while it waits for room: it never runs, and is dropped here and now.
            drop(waiting.remove(7));
            drop(waiting.remove(0));
            assert_eq!(drops.count(), 2);
            latch.open();
            let mut waiting: Unordered<_> = waiting.into_iter().collect();
            while let Some((_, result)) = waiting.next().await {
                drop(result.unwrap());
                assert!(metrics().blocking_jobs <= 2);
            }
            // Room is given in order; a caller that has it is polled when its turn comes, and then its job is queued.
            let started = std::mem::take(&mut *started.lock().unwrap());
            assert!(started.is_sorted_by(|one, other| *one < other + 3), "{started:?}");
            assert_eq!(
                started.into_iter().collect::<HashSet<_>>(),
                (0..20).filter(|n| ![0, 7].contains(n)).collect()
            );
            first.await.unwrap();
            second.await.unwrap();
            assert_eq!(drops.count(), 20);
        });
    });
}

#[test]
fn a_result_that_nobody_waits_for_is_dropped() {
    must_end(|| {
        block_on(async {
            let (latch, drops) = (Latch::default(), Drops::new());
            let (hold, tracked) = (latch.clone(), drops.track());
            let mut job = Box::pin(spawn_blocking(move || (hold.wait(), tracked).1));
            assert!(poll_once(job.as_mut()).is_pending());
            drop(job);
            assert_eq!((metrics().blocking_jobs, drops.count()), (1, 0), "it goes on");
            latch.open();
            while metrics().blocking_jobs > 0 {
                yield_now().await;
            }
            while drops.count() == 0 {
                yield_now().await;
            }
        });
    });
}

#[test]
fn the_end_of_a_runtime_waits_for_no_job() {
    // bugs.md 33
    must_end(|| {
        let (latch, drops) = (Latch::default(), Drops::new());
        let runtime = runtime(1, 10);
        let job = |tracked| {
            let latch = latch.clone();
            Box::pin(spawn_blocking(move || (latch.wait(), tracked).1))
        };
        let mut hangs = job(drops.track());
        let mut queued = job(drops.track());
        let mut parked: Vec<_> = (0..20).map(|_| job(drops.track())).collect();
        runtime.block_on(async {
            assert!(poll_once(hangs.as_mut()).is_pending() && poll_once(queued.as_mut()).is_pending());
            for job in &mut parked {
                assert!(poll_once(job.as_mut()).is_pending());
            }
            // It has begun.
            time::sleep(Duration::from_millis(20)).await;
            let of_a_task = spawn_blocking(|| 1);
            drop(spawn(of_a_task).await.unwrap());
            look_around().await;
        });
        let start = Instant::now();
        drop(runtime);
        assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
        // The queued ones are dropped without having run, and their callers learn it.
        assert!(park_on(queued).unwrap_err().is_cancelled());
        for job in parked {
            assert!(park_on(job).unwrap_err().is_cancelled());
        }
        assert_eq!(drops.count(), 21);
        // The one that had begun ends by itself, and whoever still waits gets its result.
        latch.open();
        drop(park_on(hangs).unwrap());
        assert_eq!(drops.count(), 22);
    });
}

#[test]
fn a_job_that_hangs_does_not_keep_tasks_and_timers_from_running() {
    must_end(|| {
        let latch = Latch::default();
        let hold = latch.clone();
        runtime(1, 0).block_on(async {
            let mut hangs = Box::pin(spawn_blocking(move || hold.wait()));
            assert!(poll_once(hangs.as_mut()).is_pending());
            time::sleep(Duration::from_millis(1)).await;
            assert_eq!(spawn(async { 1 }).join().await.unwrap(), 1);
            let late = time::timeout(Duration::from_millis(1), spawn_blocking(|| 2)).await;
            assert!(late.is_err());
            latch.open();
            hangs.await.unwrap();
            assert_eq!(spawn_blocking(|| 3).await.unwrap(), 3);
        });
    });
}

#[test]
fn jobs_may_be_awaited_on_other_threads_and_in_other_runtimes() {
    must_end(|| {
        block_on(async {
            let latch = Latch::default();
            let job = |n: usize| {
                let latch = latch.clone();
                let mut job = Box::pin(spawn_blocking(move || (latch.wait(), n).1));
                assert!(poll_once(job.as_mut()).is_pending());
                job
            };
            let (first, second) = (job(1), job(2));
            let threads = [
                thread::spawn(move || park_on(first).unwrap()),
                thread::spawn(move || block_on(second).unwrap()),
            ];
            latch.open();
            assert_eq!(threads.map(|thread| thread.join().unwrap()), [1, 2]);
        });
    });
}

#[test]
fn ten_thousand_short_jobs_through_a_small_pool() {
    // Each is called or finds a thread that is about to sleep: none is slept beside.
    must_end(|| {
        runtime(2, 3).block_on(async {
            let mut jobs: Unordered<_> = (0..500).map(|n| spawn_blocking(move || n)).collect();
            let mut sum = 0;
            while let Some((_, result)) = jobs.next().await {
                sum += result.unwrap();
            }
            assert_eq!(sum, 500 * 499 / 2);
            for n in 0..9_500 {
                assert_eq!(spawn_blocking(move || n).await.unwrap(), n);
            }
        });
    });
}

#[test]
fn a_blocking_job_that_panics_is_an_error_and_its_thread_goes_on() {
    let drops = Drops::new();
    runtime(1, 64).block_on(async {
        for _ in 0..10 {
            let error = spawn_blocking(|| -> u8 { panic!("in a job") }).await.unwrap_err();
            assert_eq!(error.to_string(), "the task panicked: in a job");
        }
        // bugs.md 29: a result that nobody waits for is dropped there, and panics there.
        let bad = drops.track_panicking();
        let latch = Latch::default();
        let hold = latch.clone();
        let mut job = Box::pin(spawn_blocking(move || (hold.wait(), bad).1));
        assert!(poll_once(job.as_mut()).is_pending());
        drop(job);
        latch.open();
        assert_eq!(spawn_blocking(|| 1).await.unwrap(), 1);
        assert_eq!((drops.count(), metrics().blocking_threads), (1, 1));
    });
}
