//! The fourth lesson: a semaphore says how many at once. It is not a rate, not a deadline, and not a number to be guessed.
//!
//! # Idea
//! Five things that a limit on how many is taken for, or is said not to be able to do:
//!
//! 1. *A rate.* Ten permits are 10,000 jobs a second or 10, by how long a job takes. A rate is a clock: an `interval`.
//! 2. *A deadline.* A timeout belongs around the waiting. Around the waiting and the work it cuts the work off in its midst.
//! 3. *Fixed.* `set_limit` moves it while it is in use, also below what is in use; nothing is taken away or made up.
//! 4. *As good as its callers.* A `release()` too many is a permit more, for ever. Here a permit is a value: dropped once, by
//!    whatever ends its holder; a second drop is not a bug at run time, it does not compile.
//! 5. *Of one runtime.* It needs a waker and nothing else, so any number of runtimes can share one.
//!
//! The first three are under a paused clock, so their figures are exact.
//!
//! # Read next
//! The four lessons on one page: `runtime/docs/lessons.md`. The semaphore: `limiter/src/semaphore.rs`.

use std::cell::Cell;
use std::io;
use std::panic::resume_unwind;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anteroom::time::{Elapsed, interval, now, sleep, timeout};
use anteroom::{Runtime, metrics, spawn, spawn_local, yield_now};
use anteroom_limiter::{OwnedPermit, Semaphore};

const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);

/// A runtime of so many tasks, whose clock moves by itself when all wait.
fn paused(max_tasks: usize) -> io::Result<Runtime> {
    Runtime::builder().max_tasks(max_tasks).paused_clock(true).build()
}

/// Ten permits, and a hundred jobs or ten thousand: how many a second.
async fn by_permits(jobs: u32, length: Duration) -> f64 {
    let permits = Arc::new(Semaphore::new(10));
    let start = now();
    for _ in 0..jobs {
        let permit = permits.acquire_owned().await.expect("nobody closes it");
        let job = async move {
            sleep(length).await;
            drop(permit);
        };
        drop(spawn(job).await.expect("there is room"));
    }
    drop(permits.acquire_many(10).await.expect("nobody closes it")); // all are done
    f64::from(jobs) / (now() - start).as_secs_f64()
}

/// A job each tick: how many a second begin, and how many there are at once.
async fn by_ticks(jobs: u32, length: Duration) -> (f64, usize) {
    let mut ticks = interval(10 * MILLISECOND);
    let mut live_peak = 0;
    let (first, mut last) = (now(), now());
    for _ in 0..jobs {
        last = ticks.tick().await;
        drop(spawn(sleep(length)).await.expect("there is room"));
        yield_now().await; // those that end just now end
        live_peak = live_peak.max(metrics().tasks_live);
    }
    (f64::from(jobs - 1) / (last - first).as_secs_f64(), live_peak)
}

fn not_a_rate() -> io::Result<()> {
    println!("1. ten permits, and a tick every 10 ms");
    for (length, jobs) in [(MILLISECOND, 10_000), (SECOND, 100)] {
        let limited = paused(10)?.block_on(by_permits(jobs, length));
        let (paced, at_once) = paused(1_000)?.block_on(by_ticks(1_001, length));
        println!(
            "   jobs of {:>4} ms: {limited:>6.0} a second by permits; {paced:.0} a second by ticks, {at_once} at once",
            length.as_millis(),
        );
        assert!((limited * length.as_secs_f64() - 10.0).abs() < 1e-6, "{limited}");
        assert!((paced - 100.0).abs() < 1e-6, "{paced}");
        // Little's law again: a rate bounds how many there are at once only if the length has a bound.
        assert_eq!(at_once as u128, (length.as_millis() / 10).max(1));
    }
    Ok(())
}

const PATIENCE: Duration = Duration::from_millis(100);

/// Work of three steps, 40 ms each, of which all should be done or none.
async fn three_steps(steps: &Cell<u32>) {
    for _ in 0..3 {
        sleep(40 * MILLISECOND).await;
        steps.set(steps.get() + 1);
    }
}

/// The timeout around both: the common error.
async fn around_both(permits: &Semaphore, steps: &Cell<u32>) -> Result<(), Elapsed> {
    timeout(PATIENCE, async {
        let _permit = permits.acquire().await.expect("nobody closes it");
        three_steps(steps).await;
    })
    .await
}

/// The timeout around the waiting: whoever got in is let finish.
async fn around_the_waiting(permits: &Semaphore, steps: &Cell<u32>) -> Result<(), Elapsed> {
    let _permit = timeout(PATIENCE, permits.acquire()).await?.expect("nobody closes it");
    three_steps(steps).await;
    Ok(())
}

/// Runs one form against a permit that comes free after `busy`; how it ended, and after how many steps.
async fn against(busy: Duration, both: bool) -> (Result<(), Elapsed>, u32) {
    let (permits, steps) = (Arc::new(Semaphore::new(1)), Cell::new(0));
    if !busy.is_zero() {
        let permit = permits.try_acquire_owned().expect("it is free");
        let holder = async move {
            sleep(busy).await;
            drop(permit);
        };
        drop(spawn(holder).await.expect("there is room"));
    }
    let result = match both {
        true => around_both(&permits, &steps).await,
        false => around_the_waiting(&permits, &steps).await,
    };
    (result, steps.get())
}

fn not_a_deadline() -> io::Result<()> {
    println!("2. patience of 100 ms, work of three steps in 120 ms");
    let runtime = paused(10)?;
    for (busy_ms, both_steps, waiting_steps) in [(0, 2, 3), (50, 1, 3), (1_000, 0, 0)] {
        let busy = Duration::from_millis(busy_ms);
        let (both, steps_both) = runtime.block_on(against(busy, true));
        let (waiting, steps_waiting) = runtime.block_on(against(busy, false));
        println!(
            "   a permit after {busy_ms:>4} ms: around both {steps_both} of 3 steps; around the waiting {steps_waiting} of 3"
        );
        assert_eq!((steps_both, steps_waiting), (both_steps, waiting_steps));
        assert!(both.is_err(), "120 ms of work never fit");
        assert_eq!(waiting.is_err(), steps_waiting == 0, "all, or an error and nothing");
    }
    Ok(())
}

/// A worker that takes a permit for 10 ms, again and again.
async fn worker(permits: Arc<Semaphore>, at_work: Rc<Cell<usize>>) {
    while let Ok(_permit) = permits.acquire().await {
        at_work.set(at_work.get() + 1);
        sleep(10 * MILLISECOND).await;
        at_work.set(at_work.get() - 1);
    }
}

fn not_fixed() -> io::Result<()> {
    println!("3. a limit that moves, over 30 workers that take permits for 10 ms");
    paused(30)?.block_on(async {
        let (permits, at_work) = (Arc::new(Semaphore::new(10)), Rc::new(Cell::new(0)));
        for _ in 0..30 {
            drop(spawn_local(worker(permits.clone(), at_work.clone())).await.expect("there is room"));
        }
        let look = |when: &str| {
            let (limit, available) = (permits.limit(), permits.available());
            println!("   {when:<25} {:>2} at work of {limit:>2}, {available:>2} available", at_work.get());
            (at_work.get(), available)
        };
        sleep(5 * MILLISECOND).await;
        assert_eq!(look("at first"), (10, 0));
        // A shrink takes nothing from anybody. What is too much is a debt, which growth pays first.
        permits.set_limit(3).expect("a limit of use");
        assert_eq!(look("shrunk"), (10, -7));
        permits.set_limit(5).expect("a limit of use");
        assert_eq!(look("grown by two"), (10, -5));
        sleep(10 * MILLISECOND).await;
        assert_eq!(look("the ten are back"), (5, 0));
        // Growth serves those who wait, at once.
        permits.set_limit(20).expect("a limit of use");
        yield_now().await;
        assert_eq!(look("grown to twenty"), (20, 0));
        permits.close(); // whoever waits is told, and whoever works finishes
        while metrics().tasks_live > 0 {
            sleep(MILLISECOND).await;
        }
        assert_eq!(look("closed, and all are back"), (0, 20));
    });
    Ok(())
}

async fn hold(permit: OwnedPermit) {
    sleep(SECOND).await;
    drop(permit);
}

async fn panic_with(permit: OwnedPermit) {
    let _permit = permit;
    resume_unwind(Box::new("not printed")) // as `panic!`, without a word on standard error
}

/// A task that is aborted with its permit, one that panics with it, one that gives it back by hand; and a permit in parts.
fn not_at_its_callers_mercy() -> io::Result<()> {
    let permits = Arc::new(Semaphore::new(10));
    let runtime = paused(10)?;
    runtime.block_on(async {
        let take = || permits.try_acquire_owned().expect("there are ten");
        let aborted = spawn(hold(take())).await.expect("there is room");
        let by_hand = spawn(hold(take())).await.expect("there is room");
        let panicked = spawn(panic_with(take())).await.expect("there is room");
        // In parts, too: what was one permit of three is two, of one and of two, and never four.
        let mut whole = permits.try_acquire_many(3).expect("there are ten");
        let part = whole.split(2).expect("it has three");
        assert_eq!((permits.in_use(), whole.weight(), part.weight()), (6, 1, 2));
        assert!(whole.split(2).is_none(), "there is one left in it");
        aborted.abort();
        assert!(aborted.await.unwrap_err().is_cancelled());
        assert!(panicked.await.unwrap_err().is_panic());
        by_hand.await.expect("it does not panic");
        drop((whole, part));
        // `drop(part)` once more: error[E0382]: use of moved value: `part`.
    });
    println!(
        "4. aborted, panicked, given back by hand, split in parts: {} of {} again",
        permits.available(),
        permits.limit()
    );
    assert_eq!(permits.available(), 10);
    Ok(())
}

/// How many jobs there are at work in both runtimes together, and the most that ever were.
static AT_WORK: AtomicUsize = AtomicUsize::new(0);
static AT_WORK_PEAK: AtomicUsize = AtomicUsize::new(0);

async fn shared_job(permits: Arc<Semaphore>) {
    let _permit = permits.acquire().await.expect("nobody closes it");
    let at_work = AT_WORK.fetch_add(1, Ordering::Relaxed) + 1;
    AT_WORK_PEAK.fetch_max(at_work, Ordering::Relaxed);
    for _ in 0..10 {
        yield_now().await;
    }
    AT_WORK.fetch_sub(1, Ordering::Relaxed);
}

/// A thousand jobs on a runtime of its own, a hundred at a time as far as that is concerned.
fn thousand_jobs(permits: &Arc<Semaphore>) -> io::Result<usize> {
    let runtime = Runtime::builder().max_tasks(100).build()?;
    runtime.block_on(async {
        let mut jobs = Vec::new();
        for _ in 0..1_000 {
            jobs.push(spawn(shared_job(permits.clone())).await.expect("the runtime is not closed"));
        }
        let mut done = 0;
        for job in jobs {
            job.await.expect("it does not panic");
            done += 1;
        }
        Ok(done)
    })
}

fn not_of_one_runtime() -> io::Result<()> {
    let permits = Arc::new(Semaphore::new(3));
    // All three are held by this thread, until the other one's runtime is full of jobs that wait for them.
    let all = permits.try_acquire_many(3).expect("nobody else has any yet");
    let there = thread::spawn({
        let permits = permits.clone();
        move || thousand_jobs(&permits)
    });
    while permits.waiting() < 100 && !there.is_finished() {
        thread::yield_now();
    }
    assert_eq!(AT_WORK_PEAK.load(Ordering::Relaxed), 0);
    drop(all);
    let here = thousand_jobs(&permits)?;
    let there = there.join().expect("it does not panic")?;
    let at_work_peak = AT_WORK_PEAK.load(Ordering::Relaxed);
    println!(
        "5. two runtimes, {} jobs, three permits: {at_work_peak} at work at most in both together",
        here + there
    );
    assert_eq!((here, there, permits.available()), (1_000, 1_000, 3));
    assert!(at_work_peak <= 3);
    Ok(())
}

fn main() -> io::Result<()> {
    not_a_rate()?;
    not_a_deadline()?;
    not_fixed()?;
    not_at_its_callers_mercy()?;
    not_of_one_runtime()
}

#[test]
fn a_semaphore_says_how_many_at_once_and_nothing_else() {
    main().unwrap();
}

/// The page, and what it quotes.
#[test]
fn each_fragment_on_the_page_is_taken_from_an_example() {
    let page = include_str!("../runtime/docs/lessons.md");
    let rust = [
        include_str!("08_limit_the_tasks.rs"),
        include_str!("09_sliding_window.rs"),
        include_str!("10_how_many.rs"),
        include_str!("11_not_a_rate.rs"),
    ];
    let python = [include_str!("lessons.py")];
    let mut seen = 0;
    let mut sources: Option<&[&str]> = None;
    for line in page.lines() {
        match line.strip_prefix("```") {
            Some("rust") => sources = Some(&rust),
            Some("python") => sources = Some(&python),
            Some(_) => sources = None, // what does not compile, what is printed; and the end of each
            None => {}
        }
        let is_own =
            line.is_empty() || line.starts_with("```") || line.starts_with("use ") || line.starts_with("# ");
        if let Some(sources) = sources.filter(|_| !is_own) {
            seen += 1;
            assert!(
                sources.iter().any(|source| source.contains(&format!("{line}\n"))),
                "no example says {line:?}"
            );
        }
    }
    assert!(seen > 50, "{seen} lines: is this still how they are quoted?");
}
