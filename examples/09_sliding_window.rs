//! The second lesson: a limit is a window that slides, not batches.
//!
//! # Problem
//! "Ten at once" is often written as chunks: begin ten, wait for all ten, begin the next ten. Each chunk takes as long as
//! its slowest job, and meanwhile the nine places of the others stand empty.
//!
//! # Idea
//! Whoever is done makes room for the next, whichever it is. `gather(jobs, f).limit(10)` does that, and gives the outputs in
//! the order of the jobs, however they finished; `as_completed` gives each when it is there. Neither makes a task: the caller's
//! own poll polls the jobs, and takes one only when it may begin.
//!
//! ```text
//!   chunks   10 at work, then 1 1 1 1 1 1 1 1 1, then 10, then 1 1 1 ...     one slow job in each chunk holds nine places
//!   window   10 at work, as long as there are jobs to begin                  a place that comes free is filled
//! ```
//!
//! Forty jobs of 100 ms, of which every tenth takes a second, under a paused clock: the figures are exact.
//!
//! # Read next
//! `10_how_many.rs`: and how large should the window be? The four lessons on one page: `runtime/docs/lessons.md`.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anteroom::time::{now, sleep};
use anteroom::{Runtime, as_completed, gather, spawn};

const JOBS: usize = 40;
const AT_ONCE: usize = 10;
const SHORT: Duration = Duration::from_millis(100);
const LONG: Duration = Duration::from_secs(1);

/// Which job began and ended when, in the order in which they ended.
type Log = Arc<Mutex<Vec<(usize, Instant, Instant)>>>;

/// Stands for a request: every tenth is slow.
async fn job(number: usize, log: Log) -> usize {
    let start = now();
    sleep(if number.is_multiple_of(AT_ONCE) { LONG } else { SHORT }).await;
    log.lock().expect("nobody panics with it").push((number, start, now()));
    number
}

/// The common error: the next ten begin when the last of these is done.
async fn batches(log: Log) -> Vec<usize> {
    let (numbers, mut outputs) = (Vec::from_iter(0..JOBS), Vec::new());
    for chunk in numbers.chunks(AT_ONCE) {
        let mut handles = Vec::new();
        for number in chunk {
            handles.push(spawn(job(*number, log.clone())).await.expect("the runtime is not closed"));
        }
        for handle in handles {
            outputs.push(handle.await.expect("a job does not panic"));
        }
    }
    outputs
}

/// The correction: ten at once, whichever they are. The outputs are in the order of the jobs all the same.
async fn window(log: Log) -> Vec<usize> {
    gather(0..JOBS, |number| job(number, log.clone())).limit(AT_ONCE).await
}

/// The same window, for whoever can use an output before the others are there.
async fn completed(log: Log) -> Vec<usize> {
    let mut jobs = as_completed(0..JOBS, |number| job(number, log.clone())).limit(AT_ONCE);
    let mut outputs = Vec::new();
    while let Some(number) = jobs.next().await {
        outputs.push(number);
    }
    outputs
}

/// What one form did.
struct Run {
    took: Duration,
    outputs: Vec<usize>,
    /// The jobs in the order in which they ended, and when the first of them did.
    ended: Vec<usize>,
    first: Duration,
    tasks_peak: usize,
}

/// Runs one form, and prints how many jobs were at work in each 100 ms of it.
fn run<F: Future<Output = Vec<usize>>>(name: &str, form: impl FnOnce(Log) -> F) -> std::io::Result<Run> {
    let runtime = Runtime::builder().paused_clock(true).build()?;
    let log = Log::default();
    let (start, outputs, end) = runtime.block_on(async { (now(), form(log.clone()).await, now()) });
    let jobs = log.lock().expect("nobody panics with it");
    let took = end - start;
    let tenths = (took.as_millis() / SHORT.as_millis()) as u32;
    let at_work = (0..tenths).map(|tenth| {
        let at = start + SHORT * tenth + SHORT / 2;
        jobs.iter().filter(|(_, start, end)| (*start..*end).contains(&at)).count()
    });
    let at_work: Vec<usize> = at_work.collect();
    let picture: Vec<String> = at_work.iter().map(usize::to_string).collect();
    println!("{name:<13}{:>4} ms; at work: {}", took.as_millis(), picture.join(" "));
    assert!(at_work.iter().all(|jobs| *jobs <= AT_ONCE));
    let first = jobs[0].2 - start;
    let ended = jobs.iter().map(|(number, ..)| *number).collect();
    Ok(Run { took, outputs, ended, first, tasks_peak: runtime.metrics().tasks_live_peak })
}

fn main() -> std::io::Result<()> {
    let batches = run("batches", batches)?;
    let window = run("gather", window)?;
    let completed = run("as_completed", completed)?;

    // A batch takes as long as its slowest job. A window is full as long as there are jobs to fill it.
    assert_eq!(batches.took, LONG * 4);
    assert_eq!(window.took, SHORT * 13);
    assert_eq!(completed.took, window.took);
    assert_eq!([&batches, &window, &completed].map(|run| run.tasks_peak), [AT_ONCE, 0, 0]);

    let place = window.ended.iter().position(|number| *number == 0).expect("it is one of them");
    println!("gather gave the output of job 0 first; it was the {}th to finish", place + 1);
    let [first, took] = [completed.first, completed.took].map(|time| time.as_millis());
    println!("as_completed had its first output after {first} ms, and all of them after {took} ms");
    assert_eq!(place, 36, "after all 36 that are not slow");
    assert_eq!(window.outputs, Vec::from_iter(0..JOBS), "in the order of the jobs");
    assert_ne!(window.ended, window.outputs);
    assert_eq!(completed.first, SHORT);
    assert_eq!(completed.outputs, completed.ended, "in the order in which they ended");
    assert_eq!(completed.outputs[JOBS - 4..], [0, 10, 20, 30]);
    Ok(())
}

#[test]
fn a_limit_is_a_window_that_slides() {
    main().unwrap();
}
