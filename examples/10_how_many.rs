//! The third lesson: how many at once are too many? It depends on what they wait for, and it can be run.
//!
//! # Idea
//! A job that waits for somebody else costs memory, and no core. So throughput grows with the limit, and by Little's law it
//! is exactly `at once / latency`, until something else is the limit: memory (what a task takes, times the limit), open files
//! (`Builder::max_sockets`), or those who are asked. Beyond what they can do, more at once do not make it faster. They make
//! a longer queue, there:
//!
//! ```text
//!   at once ─▶ [ queue of the one who is asked ] ─▶ 50 at a time ─▶ answers: 5,000 a second, whoever waits for them
//! ```
//!
//! A job that computes costs a core. On the runtime's thread one runs at a time, however many tasks there are, and everybody
//! else waits meanwhile. On the blocking pool as many run as there are cores; threads beyond that share them.
//!
//! The first part runs under a paused clock, so its figures are exact. The second is measured, and differs by machine: what
//! is asserted of it is how many ran at once.
//!
//! # Read next
//! `11_not_a_rate.rs`: what a limit on how many is not.

use std::hint::black_box;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use anteroom::time::{now, sleep};
use anteroom::{Runtime, spawn, spawn_blocking};
use anteroom_limiter::Semaphore;

const REQUESTS: usize = 2_000;
const LATENCY: Duration = Duration::from_millis(10);
/// How many requests the server works on at a time; the others wait there.
const CAPACITY: usize = 50;

/// Asks a server that has `room` for so many at a time, and takes `LATENCY` for each. Returns how long it took.
async fn request(room: Arc<Semaphore>) -> Duration {
    let start = now();
    let _place = room.acquire().await.expect("the server stays");
    sleep(LATENCY).await;
    now() - start
}

/// All requests, so many at once: how many a second, and how long the slowest took.
fn ask(at_once: usize, capacity: usize) -> io::Result<(f64, Duration)> {
    let runtime = Runtime::builder().max_tasks(at_once).paused_clock(true).build()?;
    runtime.block_on(async {
        let room = Arc::new(Semaphore::new(capacity));
        let start = now();
        let mut requests = Vec::new();
        for _ in 0..REQUESTS {
            requests.push(spawn(request(room.clone())).await.expect("the runtime is not closed"));
        }
        let mut slowest = Duration::ZERO;
        for request in requests {
            slowest = slowest.max(request.await.expect("a request does not panic"));
        }
        Ok((REQUESTS as f64 / (now() - start).as_secs_f64(), slowest))
    })
}

fn waiting_jobs() -> io::Result<()> {
    println!("{REQUESTS} requests of {} ms, by a paused clock", LATENCY.as_millis());
    println!("{:>9}{:>24}{:>36}", "", "a server without limit", "a server that does 50 at a time");
    println!("{:>9}{:>12}{:>12}{:>18}{:>18}", "at once", "a second", "slowest", "a second", "slowest");
    for at_once in [1, 10, CAPACITY, 100, 1_000] {
        let (free, free_slowest) = ask(at_once, REQUESTS)?;
        let (full, full_slowest) = ask(at_once, CAPACITY)?;
        println!(
            "{at_once:>9}{free:>12.0}{:>9} ms{full:>18.0}{:>15} ms",
            free_slowest.as_millis(),
            full_slowest.as_millis()
        );
        // Little's law: at once = a second x latency. Without a limit there, the latency stays and the rate grows.
        assert_eq!(free_slowest, LATENCY);
        assert!((free * LATENCY.as_secs_f64() - at_once as f64).abs() < 1e-6);
        // With one, the rate stays and the latency grows: all that was added stands in the queue over there.
        assert!((full * LATENCY.as_secs_f64() - at_once.min(CAPACITY) as f64).abs() < 1e-6);
        assert_eq!(full_slowest, LATENCY * at_once.div_ceil(CAPACITY) as u32);
    }
    let room = Arc::new(Semaphore::new(1));
    println!("and memory for each: {} bytes of future, and a header", size_of_val(&request(room)));
    Ok(())
}

const JOBS: usize = 64;
/// A millisecond or two of a core, in a debug build as in a release build.
const STEPS: u64 = if cfg!(debug_assertions) { 150_000 } else { 500_000 };

/// How many jobs compute just now, and the most that ever did.
#[derive(Default)]
struct AtWork {
    now: AtomicUsize,
    peak: AtomicUsize,
}

/// Computes, and waits for nobody: a chain in which each step needs the last. Returns its end, and how long it took.
fn compute(at_work: &AtWork) -> (u64, Duration) {
    let start = Instant::now();
    let jobs = at_work.now.fetch_add(1, Ordering::Relaxed) + 1;
    at_work.peak.fetch_max(jobs, Ordering::Relaxed);
    let mut state = black_box(1_u64);
    for _ in 0..STEPS {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
    }
    at_work.now.fetch_sub(1, Ordering::Relaxed);
    (state, start.elapsed())
}

/// All jobs, in tasks of which there are `max_tasks`: in the tasks themselves, or on so many blocking threads.
/// How many a second, how long the longest took, and how many computed at once at most.
fn compute_all(max_tasks: usize, threads: Option<usize>) -> io::Result<(f64, Duration, usize)> {
    let runtime = Runtime::builder().max_tasks(max_tasks).blocking_threads(threads.unwrap_or(1)).build()?;
    let at_work = Arc::new(AtWork::default());
    let start = Instant::now();
    let outputs = runtime.block_on(async {
        let mut jobs = Vec::new();
        for _ in 0..JOBS {
            let at_work = at_work.clone();
            let job = async move {
                match threads {
                    None => compute(&at_work), // and nobody else has a turn
                    Some(_) => spawn_blocking(move || compute(&at_work)).await.expect("it does not panic"),
                }
            };
            jobs.push(spawn(job).await.expect("the runtime is not closed"));
        }
        let mut outputs = Vec::new();
        for job in jobs {
            outputs.push(job.await.expect("it does not panic"));
        }
        outputs
    });
    let rate = JOBS as f64 / start.elapsed().as_secs_f64();
    assert!(outputs.len() == JOBS && outputs.iter().all(|(end, _)| *end == outputs[0].0));
    let longest = outputs.into_iter().map(|(_, took)| took).max().unwrap_or_default();
    Ok((rate, longest, at_work.peak.load(Ordering::Relaxed)))
}

fn computing_jobs() -> io::Result<()> {
    let cores = available_parallelism().map_or(1, usize::from);
    println!("{JOBS} jobs that compute, on {cores} cores");
    println!("{:>36}{:>10}{:>14}{:>17}", "", "a second", "longest job", "at once at most");
    let row = |name: String, max_tasks, threads| {
        let (rate, longest, at_once) = compute_all(max_tasks, threads)?;
        let longest_ms = longest.as_secs_f64() * 1_000.0;
        println!("  {name:<34}{rate:>10.0}{longest_ms:>11.1} ms{at_once:>17}");
        io::Result::Ok(at_once)
    };
    for max_tasks in [1, 10, JOBS] {
        let at_once = row(format!("on the runtime's thread, {max_tasks} tasks"), max_tasks, None)?;
        assert_eq!(at_once, 1, "one thread computes one thing at a time");
    }
    for threads in [1, cores, 4 * cores, 64] {
        let at_once = row(format!("on {threads} blocking threads"), JOBS, Some(threads))?;
        assert!((1..=threads).contains(&at_once));
    }
    Ok(())
}

fn main() -> io::Result<()> {
    waiting_jobs()?;
    computing_jobs()
}

#[test]
fn more_at_once_is_faster_only_until_something_else_is_the_limit() {
    main().unwrap();
}
