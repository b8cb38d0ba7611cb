//! `--jobs N`: the founding story without the network. How much is a job, and how much memory are all of
//! them?
//!
//! # Idea
//!
//! A job holds 256 bytes over one suspension, and that is all. The same N of them are run twice, with a limit
//! in force and with none, each time in a process of its own: a peak of memory cannot be set back, so the
//! first run would be in the figure of the second. The spawners are services: they take no job's place, and
//! over the limit each of them waits with the one job that it has in its hand.

use std::hint::black_box;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::args::{Args, UsageError};
use crate::child::this_program;
use crate::memory;
use crate::report::{grouped, json_or_null, mebibytes, print};

/// How many jobs are done. One run a process, so a static will do.
static DONE: AtomicU64 = AtomicU64::new(0);

/// One of the N.
async fn job(number: u64) {
    let held = black_box([number as u8; 256]);
    anteroom::yield_now().await;
    black_box(&held);
    // Not an addition: all jobs are on one thread, and a locked instruction would be a tenth of what is
    // measured.
    DONE.store(DONE.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
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
/// When no runtime can be built with that limit.
pub(crate) fn run_here(args: &Args, count: u64, spawners: usize) -> Result<(), UsageError> {
    let limit = args.limit();
    let runtime =
        anteroom::Runtime::builder().max_tasks(limit).service_tasks(spawners).build().map_err(|error| {
            UsageError::new(format_args!("--max-tasks {limit} --spawners {spawners}"), error)
        })?;
    let start = Instant::now();
    runtime.block_on(async {
        let spawners: Vec<_> = (0..spawners as u64)
            .map(|k| {
                // Every K-th job, from the k-th on.
                let mine = (k..count).step_by(spawners);
                anteroom::spawn_service(spawn_all(mine)).expect("there is a place for each spawner")
            })
            .collect();
        for spawner in spawners {
            spawner.await.expect("a spawner neither panics nor is aborted");
        }
        while DONE.load(Ordering::Relaxed) < count {
            anteroom::yield_now().await;
        }
    });
    let elapsed = start.elapsed();
    let metrics = runtime.metrics();
    let run = Run {
        ns_per_job: elapsed.as_nanos() as f64 / count as f64,
        memory_peak_bytes: memory::peak_bytes(),
        live_tasks_peak: metrics.tasks_live_peak as u64,
        waiting_peak: metrics.waiting_peak as u64,
    };
    print(&run.lines());
    Ok(())
}

async fn spawn_all(numbers: impl Iterator<Item = u64>) {
    for number in numbers {
        drop(anteroom::spawn(job(number)).await.expect("the runtime is not closed"));
    }
}

/// Runs the jobs bounded and unbounded, each in a process, and prints both. True if both finished.
pub(crate) fn run_both(args: &Args, count: u64, spawners: usize) -> bool {
    let bounded = if args.unbounded { None } else { Some(run_there(args, count, spawners, false)) };
    let unbounded = Some(run_there(args, count, spawners, true));
    let rows = [(format!("--max-tasks {}", args.max_tasks), &bounded), ("--unbounded".into(), &unbounded)];

    let tasks = if spawners == 1 { "one task".into() } else { format!("{} tasks", grouped(spawners)) };
    let mut text = format!("{} jobs of 256 bytes, spawned by {tasks}\n", grouped(count));
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
            "{{\"jobs\":{count},\"spawners\":{spawners},\"max_tasks\":{},\"bounded\":{},\"unbounded\":{}}}\n",
            args.max_tasks,
            json(&bounded),
            json(&unbounded)
        );
    }
    print(&text);
    rows.iter().all(|(_, run)| !matches!(run, Some(Err(_))))
}

fn run_there(args: &Args, count: u64, spawners: usize, unbounded: bool) -> Result<Run, String> {
    let mut command = this_program().map_err(|error| error.to_string())?;
    command.args(["--jobs", &count.to_string(), "--spawners", &spawners.to_string(), "--alone"]);
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
