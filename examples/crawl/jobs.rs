//! `--jobs N`: the founding story without the network. How much is a job, and how much memory are all of
//! them?
//!
//! # Idea
//!
//! A job holds 256 bytes over one suspension, and that is all; with `--work-us` it works for so long after it.
//! The same N of them are run twice, with a limit in force and with none, each time in a process of its own: a
//! peak of memory cannot be set back, so the first run would be in the figure of the second. The spawners are
//! services: they take no job's place, and over the limit each of them waits with the one job that it has in
//! its hand.
//!
//! With `--workers` the jobs are run by so many threads, and the spawners among them. Each thread counts the
//! jobs that it has done for itself: a count that all of them add to would be a tenth of what is measured, as on
//! one thread a locked instruction would be.

use std::hint::black_box;
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anteroom::{Handle, Metrics, Runtime};

use crate::args::{Args, Jobs, UsageError};
use crate::child::this_program;
use crate::memory;
use crate::report::{grouped, json_or_null, mebibytes, print};

/// Longer than any run.
const A_DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// How many jobs one thread has done. On cache lines of its own; they are fetched in pairs.
#[repr(align(128))]
struct Tally(AtomicU64);

static TALLIES: Mutex<Vec<&'static Tally>> = Mutex::new(Vec::new());

thread_local! {
    static TALLY: &'static Tally = {
        let tally: &'static Tally = Box::leak(Box::new(Tally(AtomicU64::new(0))));
        TALLIES.lock().expect("nobody panics with it").push(tally);
        tally
    };
}

/// One of the N.
async fn job(number: u64, time: Duration) {
    let held = black_box([number as u8; 256]);
    anteroom::yield_now().await;
    work(time);
    black_box(&held);
    // Ordering: Relaxed, and no addition in one: this thread alone writes it.
    TALLY.with(|tally| tally.0.store(tally.0.load(Ordering::Relaxed) + 1, Ordering::Relaxed));
}

/// Keeps a core busy for so long. By the clock on the wall: no job runs while the system has given the core to
/// another program, but for the rest of the one that it cut short.
fn work(time: Duration) {
    if time.is_zero() {
        return;
    }
    let start = Instant::now();
    while start.elapsed() < time {
        black_box(start);
    }
}

/// How many jobs were done; whoever asks has waited for them.
fn done() -> u64 {
    let tallies = TALLIES.lock().expect("nobody panics with it");
    // Ordering: Relaxed; what was waited for orders it.
    tallies.iter().map(|tally| tally.0.load(Ordering::Relaxed)).sum()
}

/// What one run measured.
#[derive(Debug, Default, PartialEq)]
struct Run {
    ns_per_job: f64,
    memory_peak_bytes: Option<u64>,
    live_tasks_peak: u64,
    waiting_peak: u64,
}

/// Runs the jobs in this process and prints what it measured, a line each.
///
/// # Errors
///
/// When no runtime can be built with that limit, or of so many threads.
pub(crate) fn run_here(args: &Args, jobs: Jobs) -> Result<(), UsageError> {
    let limit = args.limit();
    let builder = Runtime::builder().max_tasks(limit).service_tasks(jobs.spawners);
    let wrong = |error| {
        let Jobs { spawners, workers, .. } = jobs;
        let workers = if workers == 0 { String::new() } else { format!(" --workers {workers}") };
        UsageError::new(format_args!("--max-tasks {limit} --spawners {spawners}{workers}"), error)
    };
    let (elapsed, metrics) = if jobs.workers == 0 {
        let runtime = builder.build().map_err(wrong)?;
        timed(|| runtime.block_on(run_all(jobs, runtime.handle())))
    } else {
        let runtime = builder.build_stealing(jobs.workers).map_err(wrong)?;
        timed(|| runtime.block_on(run_all(jobs, runtime.handle())))
    };
    assert_eq!(done(), jobs.count, "jobs done, and asked for");
    let run = Run {
        ns_per_job: elapsed.as_nanos() as f64 / jobs.count as f64,
        memory_peak_bytes: memory::peak_bytes(),
        live_tasks_peak: metrics.tasks_live_peak as u64,
        waiting_peak: metrics.waiting_peak as u64,
    };
    print(&run.lines());
    Ok(())
}

fn timed<T>(run: impl FnOnce() -> T) -> (Duration, T) {
    let start = Instant::now();
    let result = run();
    (start.elapsed(), result)
}

/// Starts the spawners, and waits for them and then for the jobs.
async fn run_all(jobs: Jobs, handle: Handle) -> Metrics {
    let spawners: Vec<_> = (0..jobs.spawners as u64)
        .map(|k| {
            // Every K-th job, from the k-th on.
            let mine = (k..jobs.count).step_by(jobs.spawners);
            anteroom::spawn_service(spawn_all(mine, jobs.work)).expect("there is a place for each spawner")
        })
        .collect();
    for spawner in spawners {
        spawner.await.expect("a spawner neither panics nor is aborted");
    }
    handle.drain(A_DAY).await.expect("a job that was spawned ends");
    anteroom::metrics()
}

async fn spawn_all(numbers: impl Iterator<Item = u64>, work: Duration) {
    for number in numbers {
        drop(anteroom::spawn(job(number, work)).await.expect("the runtime is not closed"));
    }
}

/// Runs the jobs bounded and unbounded, each in a process, and prints both. True if both finished.
pub(crate) fn run_both(args: &Args, jobs: Jobs) -> bool {
    let Jobs { count, spawners, work, workers } = jobs;
    let bounded = if args.unbounded { None } else { Some(run_there(args, jobs, false)) };
    let unbounded = Some(run_there(args, jobs, true));
    let rows = [(format!("--max-tasks {}", args.max_tasks), &bounded), ("--unbounded".into(), &unbounded)];

    let tasks = if spawners == 1 { "one task".into() } else { format!("{} tasks", grouped(spawners)) };
    let mut text = format!("{} jobs of 256 bytes, spawned by {tasks}", grouped(count));
    let mut more_json = String::new();
    if !work.is_zero() {
        text += &format!(", each {} µs of work", grouped(work.as_micros() as u64));
        more_json += &format!("\"work_us\":{},", work.as_micros());
    }
    if workers > 0 {
        text += &format!(", on {workers} worker{}", if workers == 1 { "" } else { "s" });
        more_json += &format!("\"workers\":{workers},");
    }
    text += "\n";
    text += &format!(
        "  {:<22}{:>10}{:>16}{:>14}{:>14}\n",
        "", "ns a job", "peak memory", "peak live", "peak waiting"
    );
    for (name, run) in &rows {
        match run {
            Some(Ok(run)) => {
                text += &format!(
                    "  {name:<22}{:>10.1}{:>16}{:>14}{:>14}\n",
                    run.ns_per_job,
                    mebibytes(run.memory_peak_bytes),
                    grouped(run.live_tasks_peak),
                    grouped(run.waiting_peak)
                );
            }
            Some(Err(wrong)) => text += &format!("  {name:<22}did not finish: {wrong}\n"),
            None => {}
        }
    }
    if args.json {
        text += &format!(
            "{{\"jobs\":{count},\"spawners\":{spawners},{more_json}\"max_tasks\":{},\"bounded\":{},\"unbounded\":{}}}\n",
            args.max_tasks,
            json(&bounded),
            json(&unbounded)
        );
    }
    print(&text);
    rows.iter().all(|(_, run)| !matches!(run, Some(Err(_))))
}

fn run_there(args: &Args, jobs: Jobs, unbounded: bool) -> Result<Run, String> {
    let mut command = this_program().map_err(|error| error.to_string())?;
    command.args(["--jobs", &jobs.count.to_string(), "--spawners", &jobs.spawners.to_string(), "--alone"]);
    command.args(["--work-us", &jobs.work.as_micros().to_string(), "--workers", &jobs.workers.to_string()]);
    if unbounded {
        command.arg("--unbounded");
    } else {
        command.args(["--max-tasks", &args.max_tasks.to_string()]);
    }
    // `output` would take what it says on standard error.
    let output = command.stderr(Stdio::inherit()).output().map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(output.status.to_string());
    }
    Run::parse(&String::from_utf8_lossy(&output.stdout)).ok_or_else(|| "said nothing that can be read".into())
}

impl Run {
    fn lines(&self) -> String {
        format!(
            "ns_per_job {:.1}\nmemory_peak_bytes {}\nlive_tasks_peak {}\nwaiting_peak {}\n",
            self.ns_per_job,
            json_or_null(self.memory_peak_bytes),
            self.live_tasks_peak,
            self.waiting_peak
        )
    }

    fn parse(lines: &str) -> Option<Run> {
        let value = |name: &str| lines.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Some(Run {
            ns_per_job: value("ns_per_job")?.parse().ok()?,
            memory_peak_bytes: value("memory_peak_bytes")?.parse().ok(),
            live_tasks_peak: value("live_tasks_peak")?.parse().ok()?,
            waiting_peak: value("waiting_peak")?.parse().ok()?,
        })
    }
}

fn json(run: &Option<Result<Run, String>>) -> String {
    match run {
        Some(Ok(run)) => format!(
            "{{\"ns_per_job\":{:.1},\"memory_peak_bytes\":{},\"live_tasks_peak\":{},\"waiting_peak\":{}}}",
            run.ns_per_job,
            json_or_null(run.memory_peak_bytes),
            run.live_tasks_peak,
            run.waiting_peak
        ),
        Some(Err(_)) | None => "null".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_read_back_from_its_lines() {
        let run = Run {
            ns_per_job: 65.5,
            memory_peak_bytes: Some(1 << 21),
            live_tasks_peak: 1_000,
            waiting_peak: 1,
        };
        assert_eq!(Run::parse(&run.lines()).unwrap(), run);
        let run = Run { memory_peak_bytes: None, ..run };
        assert_eq!(Run::parse(&run.lines()).unwrap(), run);
        assert_eq!(Run::parse(""), None);
    }
}
