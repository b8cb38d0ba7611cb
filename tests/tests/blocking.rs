//! Jobs that block: bounded, told of their end, and never waited for when the runtime ends.

use std::collections::HashSet;
use std::mem::MaybeUninit;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use anteroom::{
    Blocking, Runtime, block_on, metrics, spawn, spawn_blocking, time, try_spawn_blocking, yield_now,
};
use anteroom_tests::{Drops, Hooks, Unordered, Wakes, look_around, must_end, park_on, poll_once, poll_with};

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

/// A job that holds its place until `latch` is opened.
fn hold(latch: &Latch) -> Blocking<()> {
    let latch = latch.clone();
    try_spawn_blocking(move || latch.wait()).unwrap()
}

#[test]
fn the_third_job_of_a_pool_for_two_comes_back_or_waits_in_its_frame() {
    // bugs.md 38
    must_end(|| {
        runtime(1, 1).block_on(async {
            let (latch, drops) = (Latch::default(), Drops::new());
            let (first, second) = (hold(&latch), hold(&latch));
            let tracked = drops.track();
            let error = try_spawn_blocking(move || (drop(tracked), thread::current().id()).1).unwrap_err();
            assert!(error.is_full() && !error.is_closed());
            assert_eq!(error.to_string(), "there is no room for a blocking job");
            assert_eq!((metrics().blocking_jobs, metrics().blocking_threads, drops.count()), (2, 1, 0));
            // It is the very job.
            let job = error.into_job();
            assert_eq!((job(), drops.count()), (thread::current().id(), 1));

            let tracked = drops.track();
            let mut third = Box::pin(spawn_blocking(move || (drop(tracked), 3).1));
            assert!(poll_once(third.as_mut()).is_pending());
            assert_eq!((metrics().blocking_jobs, metrics().blocking_threads, drops.count()), (2, 1, 1));
            latch.open();
            assert_eq!(third.await.unwrap(), 3);
            first.await.unwrap();
            second.await.unwrap();
        });
    });
}

#[test]
fn a_job_that_is_tried_overtakes_nobody_who_waits() {
    must_end(|| {
        runtime(1, 0).block_on(async {
            let latch = Latch::default();
            let first = hold(&latch);
            let mut waits = Box::pin(spawn_blocking(|| 2));
            assert!(poll_once(waits.as_mut()).is_pending());
            latch.open();
            first.await.unwrap();
            // The place goes from the first to the one in line, however long that is not polled.
            for _ in 0..1_000 {
                assert!(try_spawn_blocking(|| 3).unwrap_err().is_full());
            }
            assert_eq!(waits.await.unwrap(), 2);
            while metrics().blocking_jobs > 0 {
                yield_now().await;
            }
            assert_eq!(try_spawn_blocking(|| 3).unwrap().await.unwrap(), 3);
        });
    });
}

#[test]
fn a_job_of_which_nobody_waits_is_a_job_like_any_other() {
    must_end(|| {
        runtime(1, 8).block_on(async {
            let (latch, ran) = (Latch::default(), Arc::new(AtomicUsize::new(0)));
            let first = hold(&latch);
            for _ in 0..5 {
                let ran = ran.clone();
                drop(try_spawn_blocking(move || ran.fetch_add(1, Ordering::SeqCst)).unwrap());
            }
            let last = try_spawn_blocking(|| ()).unwrap();
            assert!(!last.is_finished());
            latch.open();
            first.await.unwrap();
            while !last.is_finished() {
                yield_now().await;
            }
            last.await.unwrap();
            assert_eq!(ran.load(Ordering::SeqCst), 5);
        });
    });
}

#[test]
fn a_result_wakes_the_last_who_asked_and_keeps_no_waker_of_who_went() {
    must_end(|| {
        block_on(async {
            let latch = Latch::default();
            let (mut asked, mut gone) = (hold(&latch), hold(&latch));
            let ([(early, early_told), (late, late_told)], (waker, hooks)) =
                ([Wakes::new(), Wakes::new()], Hooks::new());
            assert!(poll_with(pin!(&mut asked), &early).is_pending());
            assert!(poll_with(pin!(&mut asked), &late).is_pending());
            assert!(poll_with(pin!(&mut gone), &waker).is_pending());
            drop(waker);
            assert_eq!(hooks.wakers_left(), 1);
            drop(gone);
            assert_eq!(hooks.wakers_left(), 0, "a job that hangs holds no waker");
            latch.open();
            while late_told.count() == 0 {
                yield_now().await;
            }
            asked.await.unwrap();
            assert_eq!((early_told.count(), late_told.count(), hooks.wakes()), (0, 1, 0));
        });
    });
}

#[test]
fn finished_jobs_do_not_keep_other_tasks_from_running() {
    must_end(|| {
        runtime(4, 1_000).block_on(async {
            let jobs: Vec<_> = (0..1_000).map(|n| try_spawn_blocking(move || n).unwrap()).collect();
            while metrics().blocking_jobs > 0 {
                yield_now().await;
            }
            let turns = Arc::new(AtomicUsize::new(0));
            let counts = turns.clone();
            let other = spawn(async move {
                loop {
                    counts.fetch_add(1, Ordering::Relaxed);
                    yield_now().await;
                }
            });
            let other = other.await.unwrap();
            for (n, job) in jobs.into_iter().enumerate() {
                assert_eq!(job.await.unwrap(), n);
            }
            assert!(turns.load(Ordering::Relaxed) >= 1_000 / 128, "{turns:?}");
            other.abort();
        });
    });
}

#[test]
fn a_runtime_all_of_whose_threads_hang_for_ever_ends_at_once() {
    // bugs.md 33: these jobs end with the process and not before.
    must_end(|| {
        let runtime = runtime(2, 2);
        let begun = Arc::new(AtomicUsize::new(0));
        let hangs = || {
            let begun = begun.clone();
            let job = move || {
                begun.fetch_add(1, Ordering::SeqCst);
                loop {
                    thread::park();
                }
            };
            try_spawn_blocking(job).unwrap()
        };
        let (running, queued, handle) = runtime.block_on(async {
            let running: Vec<Blocking<()>> = vec![hangs(), hangs()];
            // Then the next ones are behind them for ever.
            while begun.load(Ordering::SeqCst) < 2 {
                yield_now().await;
            }
            let queued: Vec<Blocking<()>> = vec![hangs(), hangs()];
            assert!(try_spawn_blocking(|| ()).unwrap_err().is_full());
            let waits = spawn(async { spawn_blocking(|| ()).await }).await.unwrap();
            look_around().await;
            (running, queued, waits)
        });
        let start = Instant::now();
        drop(runtime);
        assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
        for job in queued {
            assert!(park_on(job).unwrap_err().is_cancelled());
        }
        assert!(park_on(handle).unwrap_err().is_cancelled());
        for job in running {
            assert!(!job.is_finished());
        }
    });
}

#[test]
fn a_runtime_at_its_end_gives_jobs_back() {
    let (waker, hooks) = Hooks::new();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let note = seen.clone();
    // Called while the pool closes, for the caller in line, and after it, for the sleeper.
    hooks.on_wake(move || {
        let result = try_spawn_blocking(|| 7).map_err(|error| (error.is_closed(), error.into_job()()));
        note.lock().unwrap().push(result.map(drop));
        let refused = poll_once(pin!(spawn_blocking(|| 8)));
        assert!(matches!(refused, std::task::Poll::Ready(Err(error)) if error.is_cancelled()));
    });
    let runtime = runtime(1, 0);
    let latch = Latch::default();
    let (mut first, mut in_line) = (None, Box::pin(spawn_blocking(|| 9)));
    let mut sleeps = Box::pin(time::sleep(Duration::from_secs(1_000)));
    runtime.block_on(async {
        first = Some(hold(&latch));
        assert!(poll_with(in_line.as_mut(), &waker).is_pending());
        assert!(poll_with(sleeps.as_mut(), &waker).is_pending());
    });
    drop(runtime);
    assert_eq!(*seen.lock().unwrap(), [Err((true, 7)), Err((true, 7))]);
    latch.open();
    // It had begun, or not.
    drop(park_on(first.unwrap()));
    hooks.clear();
}

#[test]
fn outside_a_runtime_a_job_is_refused_by_a_panic_that_says_what_to_do() {
    let text = panic_text(|| drop(try_spawn_blocking(|| ())));
    assert_eq!(text, "try_spawn_blocking was called outside a runtime: do it inside Runtime::block_on");
}

#[test]
fn a_job_that_is_polled_after_it_was_ready_panics() {
    block_on(async {
        let mut job = try_spawn_blocking(|| 5).unwrap();
        assert_eq!((&mut job).await.unwrap(), 5);
        assert!(job.is_finished());
        let text = panic_text(move || drop(park_on(&mut job)));
        assert_eq!(text, "a Blocking was polled after it was ready");
    });
}

/// What `f` panics with.
fn panic_text(f: impl FnOnce()) -> String {
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)).expect_err("it must panic");
    match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(panic) => (*panic.downcast::<&str>().expect("a text")).to_owned(),
    }
}

#[test]
fn threads_have_the_stack_that_was_asked_for() {
    /// The stack of the thread that calls it.
    fn stack_bytes() -> usize {
        let mut attributes = MaybeUninit::uninit();
        // SAFETY: it names the calling thread, and cannot fail.
        let this = unsafe { libc::pthread_self() };
        // SAFETY: it fills in a local of ours for a thread that is there.
        assert_eq!(unsafe { libc::pthread_getattr_np(this, attributes.as_mut_ptr()) }, 0);
        let mut bytes = 0;
        // SAFETY: the attributes were just filled in, and a local of ours is written.
        let asked = unsafe { libc::pthread_attr_getstacksize(attributes.as_ptr(), &raw mut bytes) };
        assert_eq!(asked, 0);
        // SAFETY: they were filled in, and are not used again.
        assert_eq!(unsafe { libc::pthread_attr_destroy(attributes.as_mut_ptr()) }, 0);
        bytes
    }
    for asked in [128 << 10, 300 << 10, 16 << 20] {
        let runtime = Runtime::builder().blocking_stack_size(asked).build().unwrap();
        let got = runtime.block_on(spawn_blocking(stack_bytes)).unwrap();
        // The system may add or take something for itself.
        assert!(got.abs_diff(asked) < 64 << 10, "{got} of {asked}");
        // The resolver does with the least.
        let found = runtime.block_on(anteroom::net::lookup_host("localhost:80")).unwrap();
        assert!(!found.is_empty());
    }
    for asked in [0, (128 << 10) - 1, (1 << 30) + 1, usize::MAX] {
        let error = Runtime::builder().blocking_stack_size(asked).build().unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
        assert!(
            error.to_string().starts_with(&format!("blocking_stack_size({asked}): must be at ")),
            "{error}"
        );
    }
}

#[test]
fn a_job_lies_in_its_callers_frame_once() {
    let big = [7_u8; 4_096];
    let waits = spawn_blocking(move || big.iter().map(|&byte| usize::from(byte)).sum::<usize>());
    assert!(size_of_val(&waits) < 4_096 + 512, "{} bytes", size_of_val(&waits));
    assert_eq!(block_on(waits).unwrap(), 7 * 4_096);
}
