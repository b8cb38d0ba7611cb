//! A million jobs in tokio, spawned as fast as they come, and then spawned through a limit of a thousand.
//!
//! ```sh
//! cargo run --release -p anteroom-limiter --example tokio_bounded_spawn
//! ```
//!
//! The one line that differs is in [`bounded`]. A job holds 256 bytes over one suspension. Each run is a process of its own:
//! a peak of memory cannot be set back, so the first would be in the figure of the second.

use std::env;
use std::error::Error;
use std::fs;
use std::hint::black_box;
use std::process::Command;
use std::time::Duration;

use anteroom_limiter::Limiter;

const JOBS: u64 = 1_000_000;
const LIMIT: usize = 1_000;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

async fn job(number: u64) {
    let held = black_box([number as u8; 256]);
    tokio::task::yield_now().await; // stands for the network
    black_box(&held);
}

/// What is spawned is in memory from that moment on.
async fn unbounded(jobs: u64) -> Result<()> {
    let mut last = None;
    for number in 0..jobs {
        last = Some(tokio::spawn(job(number)));
    }
    // In tokio's one queue the last is done last.
    if let Some(last) = last {
        last.await?;
    }
    Ok(())
}

/// What is spawned was admitted before. The next job waits in this function's frame.
async fn bounded(jobs: u64, limit: usize) -> Result<()> {
    let limiter = Limiter::new(limit);
    for number in 0..jobs {
        tokio::spawn(limiter.admit(job(number)).await?);
    }
    let _all_are_done = limiter.acquire_many(limit).await?;
    Ok(())
}

fn main() -> Result<()> {
    let mut arguments = env::args().skip(1);
    let mode = arguments.next();
    let jobs = arguments.next().map_or(Ok(JOBS), |jobs| jobs.parse())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    match mode.as_deref() {
        Some("unbounded") => runtime.block_on(unbounded(jobs))?,
        Some("bounded") => {
            // A deadline, as everything else of tokio, works as ever.
            let run = async { tokio::time::timeout(Duration::from_secs(600), bounded(jobs, LIMIT)).await };
            runtime.block_on(run)??;
        }
        None => return compare(),
        Some(other) => return Err(format!("{other}: bounded, unbounded, or nothing for both").into()),
    }
    match memory_peak_kib() {
        Some(kib) => println!("{kib}"),
        None => println!("not available"),
    }
    Ok(())
}

/// Runs this program once for each.
fn compare() -> Result<()> {
    println!("{JOBS} jobs of 256 bytes, peak of resident memory");
    for (mode, how) in [
        ("unbounded", "tokio::spawn(job)".to_owned()),
        ("bounded", format!("tokio::spawn(limiter.admit(job).await?), limit {LIMIT}")),
    ] {
        let output = Command::new(env::current_exe()?).args([mode, &JOBS.to_string()]).output()?;
        if !output.status.success() {
            return Err(format!("{mode}: {}", String::from_utf8_lossy(&output.stderr)).into());
        }
        let said = String::from_utf8(output.stdout)?;
        let peak = match said.trim().parse::<u64>() {
            Ok(kib) => format!("{:.1} MiB", kib as f64 / 1_024.0),
            Err(_) => said.trim().to_owned(),
        };
        println!("  {peak:>14}  {how}");
    }
    Ok(())
}

/// As Linux counts it; elsewhere there is no portable peak.
fn memory_peak_kib() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_do_all_jobs() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            unbounded(5_000).await.unwrap();
            bounded(5_000, 10).await.unwrap();
        });
    }

    #[test]
    fn no_more_than_the_limit_are_alive() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let limiter = Limiter::new(10);
            for number in 0..1_000 {
                tokio::spawn(limiter.admit(job(number)).await.unwrap());
                assert!(tokio::runtime::Handle::current().metrics().num_alive_tasks() <= 10);
            }
        });
    }
}
