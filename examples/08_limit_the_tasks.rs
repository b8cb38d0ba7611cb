//! The first lesson: a limit inside the task bounds the work, and not the tasks.
//!
//! # Problem
//! `for job in jobs { spawn(async { permits.acquire().await; job.await }) }` looks bounded: a thousand permits, a thousand
//! jobs at work. But every job is a task before it asks for a permit, and a task has its memory from its first moment: the
//! header, and its whole future. A future is as large as its largest state, and so it is while it waits to begin.
//!
//! # Idea
//! Wait before there is a task. With permits that means: take one, then spawn, and let the task give it back. Here it
//! means `spawn(job).await`: there is no other form. The three ways are run, each in a process of its own, since a peak of
//! memory cannot be set back:
//!
//! ```text
//!   inside   spawn(async { acquire().await; job.await })     100,000 tasks, 99,000 of which wait in their own memory
//!   before   let permit = acquire().await; spawn(..)         1,000 tasks, if nobody forgets it
//!   spawn    spawn(job).await, max_tasks(1_000)              1,000 tasks
//! ```
//!
//! # Read next
//! `09_sliding_window.rs`: the same limit, when the outputs are wanted in order. The four lessons on one page, with what
//! asyncio does: `runtime/docs/lessons.md`.

use std::hint::black_box;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;
use std::{env, fs, io};

use anteroom::{Metrics, Runtime, spawn, yield_now};
use anteroom_limiter::Semaphore;

const JOBS: usize = 100_000;
const AT_ONCE: usize = 1_000;

/// The variable that tells a child which form to run.
const FORM: &str = "ANTEROOM_EXAMPLE_FORM";

/// How many jobs are done, and at work, and the most that ever were at work. A child runs one form, so statics will do.
static DONE: AtomicUsize = AtomicUsize::new(0);
static AT_WORK: AtomicUsize = AtomicUsize::new(0);
static AT_WORK_PEAK: AtomicUsize = AtomicUsize::new(0);

/// Stands for a job: 256 bytes, held while it waits for something.
async fn job(number: usize) {
    let at_work = AT_WORK.fetch_add(1, Ordering::Relaxed) + 1;
    AT_WORK_PEAK.fetch_max(at_work, Ordering::Relaxed);
    let held = black_box([number as u8; 256]);
    yield_now().await;
    black_box(&held);
    AT_WORK.fetch_sub(1, Ordering::Relaxed);
    DONE.fetch_add(1, Ordering::Relaxed);
}

/// A job that takes its permit itself, when it is a task already.
async fn job_with_permit(permits: Arc<Semaphore>, number: usize) {
    let _permit = permits.acquire().await.expect("nobody closes it");
    job(number).await;
}

/// The common error: the limit is inside.
async fn inside(permits: Arc<Semaphore>) {
    for number in 0..JOBS {
        // It never waits here: there are as many places as jobs.
        drop(spawn(job_with_permit(permits.clone(), number)).await.expect("there is room for all"));
    }
}

/// The correction that works in any runtime: the permit first, and the task gives it back.
async fn before(permits: Arc<Semaphore>) {
    for number in 0..JOBS {
        let permit = permits.acquire_owned().await.expect("nobody closes it");
        let job = async move {
            job(number).await;
            drop(permit);
        };
        drop(spawn(job).await.expect("there is room for all"));
    }
}

/// The correction that cannot be forgotten: the runtime's own limit.
async fn spawn_each() {
    for number in 0..JOBS {
        drop(spawn(job(number)).await.expect("the runtime is not closed"));
    }
}

/// Runs one form in this process, and prints what it measured.
fn alone(form: &str) -> io::Result<()> {
    let max_tasks = if form == "spawn" { AT_ONCE } else { JOBS };
    let runtime = Runtime::builder().max_tasks(max_tasks).build()?;
    let permits = Arc::new(Semaphore::new(AT_ONCE));
    let start = Instant::now();
    runtime.block_on(async {
        match form {
            "inside" => inside(permits).await,
            "before" => before(permits).await,
            _ => spawn_each().await,
        }
        while DONE.load(Ordering::Relaxed) < JOBS {
            yield_now().await;
        }
    });
    let ns = start.elapsed().as_nanos() as f64 / JOBS as f64;
    let Metrics { tasks_live_peak, .. } = runtime.metrics();
    let at_work_peak = AT_WORK_PEAK.load(Ordering::Relaxed);
    println!("\nmeasured {ns} {tasks_live_peak} {at_work_peak} {}", memory_peak_kib()?);
    Ok(())
}

/// The most memory that this process has had, as the system counts it.
fn memory_peak_kib() -> io::Result<usize> {
    let status = fs::read_to_string("/proc/self/status")?;
    let field = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.strip_suffix("kB"));
    field.and_then(|kib| kib.trim().parse().ok()).ok_or_else(|| io::Error::other("there is no VmHWM here"))
}

/// What one form did.
struct Measured {
    tasks_peak: usize,
    at_work_peak: usize,
    memory_kib: usize,
}

/// Runs one form in a process of its own, and prints a line.
fn measure(form: &str, name: &str) -> io::Result<Measured> {
    let mut child = Command::new(env::current_exe()?);
    if cfg!(test) {
        child.arg("--nocapture"); // it is a test in that process too, and the only one
    }
    let output = child.env(FORM, form).stderr(Stdio::inherit()).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let figures = text.lines().find_map(|line| line.strip_prefix("measured ")).unwrap_or_default();
    let figures: Vec<f64> = figures.split(' ').filter_map(|figure| figure.parse().ok()).collect();
    let [ns, tasks_peak, at_work_peak, memory_kib] = figures[..] else {
        return Err(io::Error::other(format!("{form}: {}: {text}", output.status)));
    };
    println!("  {name:<36}{ns:>9.0}{tasks_peak:>15}{at_work_peak:>17}{:>13.1} MiB", memory_kib / 1_024.0);
    let [tasks_peak, at_work_peak, memory_kib] =
        [tasks_peak, at_work_peak, memory_kib].map(|figure| figure as usize);
    Ok(Measured { tasks_peak, at_work_peak, memory_kib })
}

fn main() -> io::Result<()> {
    if let Ok(form) = env::var(FORM) {
        return alone(&form);
    }
    println!("{JOBS} jobs of 256 bytes, {AT_ONCE} at work at most");
    println!(
        "  {:<36}{:>9}{:>15}{:>17}{:>17}",
        "", "ns a job", "tasks at most", "at work at most", "peak memory"
    );
    let inside = measure("inside", "a permit inside each task")?;
    let before = measure("before", "a permit before each spawn")?;
    let spawned = measure("spawn", "spawn(job).await, max_tasks(1_000)")?;

    // A task that waits for its permit is all of its future already.
    let waits = job_with_permit(Arc::new(Semaphore::new(1)), 0);
    println!("  a task that waits inside is a future of {} bytes, and a header", size_of_val(&waits));
    assert!(size_of_val(&waits) > 256);

    // All three bound the work. One of them does not bound the tasks.
    for measured in [&inside, &before, &spawned] {
        assert_eq!(measured.at_work_peak, AT_ONCE);
    }
    assert_eq!(inside.tasks_peak, JOBS);
    assert_eq!((before.tasks_peak, spawned.tasks_peak), (AT_ONCE, AT_ONCE));
    for bounded in [before, spawned] {
        assert!(inside.memory_kib > 3 * bounded.memory_kib, "{} KiB", inside.memory_kib);
    }
    Ok(())
}

#[test]
fn a_limit_inside_the_task_bounds_the_work_and_not_the_tasks() {
    main().unwrap();
}
