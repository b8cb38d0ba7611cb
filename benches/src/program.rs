//! What the small programs do that measure in a process of their own: one function, for the system's allocator and another.
//!
//! ```text
//! rows one_thread|timers|lateness|growth|two_workers [--quick] [--section NAME]
//! rows cold RUNTIME WORKLOAD
//! ```
//!
//! # Idea
//! A workload's rows are interleaved: a round runs each of them once, and the first warms up. A figure is the median of its
//! row's rounds. Then their runtimes are dropped, so no workload pays for what another one's left alive.
//!
//! # Rules
//! Those of the crate's documentation.

use std::env;
use std::time::{Duration, Instant};

use crate::{Elapsed, Figure, Row, Workload, median_and_spread, rows, take_lateness};

/// At how many live tasks the same workloads are done.
const LIVE: [u64; 4] = [10, 1_000, 100_000, 1_000_000];

/// Through which limits the jobs of the fanout go.
const LIMITS: [usize; 6] = [1, 10, 100, 1_000, 10_000, 100_000];

/// What is run cold: little of each.
pub const COLD: [(Workload, u64); 3] = [
    (Workload::SpawnJoin, 100),
    (Workload::SpawnBatch(1_000), 1_000),
    (Workload::Fanout { limit: 10, spawners: 1 }, 1_000),
];

/// The body of `main`.
pub fn program() {
    let args: Vec<String> = env::args().skip(1).collect();
    let is_quick = args.iter().any(|arg| arg == "--quick");
    let at = args.iter().position(|arg| arg == "--section");
    let section = |own: &str| at.and_then(|at| args.get(at + 1)).map_or(own, String::as_str).to_owned();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["one_thread", ..] => one_thread(&section("one_thread"), is_quick),
        ["timers", ..] => timers(&section("one_thread"), is_quick),
        ["lateness", ..] => lateness(&section("lateness"), is_quick),
        ["growth", ..] => growth(&section("growth"), is_quick),
        ["cold", runtime, workload] => cold(runtime, workload),
        #[cfg(feature = "stealing")]
        ["two_workers", ..] => two_workers(&section("two_workers"), is_quick),
        _ => panic!("the names of what there is stand in the documentation of program.rs, not {args:?}"),
    }
}

/// A group of rows, and how often each is run how long.
struct Plan<'a> {
    section: &'a str,
    workload: String,
    x: Option<u64>,
    operations: u64,
    rounds: usize,
    /// Whether a round is run before, that is not counted.
    is_warmed: bool,
}

impl Plan<'_> {
    fn measure(&self, rows: Vec<Row>, time: impl Fn(Elapsed) -> Duration) {
        let mut all: Vec<Vec<f64>> = vec![Vec::new(); rows.len()];
        for round in 0..self.rounds + usize::from(self.is_warmed) {
            for (row, times) in rows.iter().zip(&mut all).filter(|(row, _)| row.obstacle().is_none()) {
                let elapsed = row.run(self.operations);
                if round > 0 || !self.is_warmed {
                    times.push(time(elapsed).as_nanos() as f64 / self.operations as f64);
                }
            }
        }
        for (row, times) in rows.iter().zip(all) {
            let figure = match row.obstacle() {
                Some(reason) => Figure::cannot(self.section, &self.workload, row.name(), reason),
                None => {
                    let (median, spread) = median_and_spread(times);
                    Figure::new(self.section, &self.workload, row.name(), median, "ns").within(spread)
                }
            };
            Figure { x: self.x.map(|x| x as f64), ..figure }.print();
        }
    }
}

fn one_thread(section: &str, is_quick: bool) {
    for workload in Workload::ALL.into_iter().filter(|&workload| workload != Workload::Timers) {
        let operations = if is_quick { workload.operations() / 2 } else { workload.many_operations() };
        // A million jobs take as long as ten rounds of anything else.
        let rounds = match operations {
            _ if is_quick => 3,
            1_000_000.. => 3,
            _ => 7,
        };
        Plan { section, workload: workload.to_string(), x: None, operations, rounds, is_warmed: true }
            .measure(rows(workload), |elapsed| workload.cpu(elapsed));
    }
}

/// These take the second that they sleep, each time.
fn timers(section: &str, is_quick: bool) {
    let workload = Workload::Timers;
    let (rounds, is_warmed) = if is_quick { (1, false) } else { (3, true) };
    let operations = workload.operations();
    Plan { section, workload: workload.to_string(), x: None, operations, rounds, is_warmed }
        .measure(rows(workload), |elapsed| workload.cpu(elapsed));
}

/// How late sleepers wake, with the setting that each runtime has by itself, as in all other rows.
fn lateness(section: &str, is_quick: bool) {
    for (workload, name) in [(Workload::LateSparse, "sparse"), (Workload::LateDense, "dense")] {
        let samples = if is_quick { workload.operations() / 10 } else { workload.operations() };
        for row in rows(workload) {
            if let Some(reason) = row.obstacle() {
                Figure::cannot(section, name, row.name(), reason).print();
                continue;
            }
            let operations = if workload == Workload::LateDense { workload.operations() } else { samples };
            row.run(operations);
            let mut late: Vec<f64> = take_lateness().iter().map(|late| late.as_secs_f64() * 1e6).collect();
            assert_eq!(late.len() as u64, operations, "{}: as many samples as sleeps", row.name());
            late.sort_by(f64::total_cmp);
            for (name_of_share, share) in [("p50", 0.5), ("p99", 0.99), ("most", 1.0)] {
                let at = ((late.len() - 1) as f64 * share).round() as usize;
                Figure::new(section, format!("{name}, {name_of_share}"), row.name(), late[at], "µs").print();
            }
        }
    }
}

/// One idiom a runtime, of a workload at this place of its curve.
fn plain(workload: Workload) -> Vec<Row> {
    let is_plain = |row: &Row| {
        !row.name().contains(", ")
            || ["permit then spawn", "workers", "buffer_unordered"].iter().any(|idiom| {
                row.name().ends_with(idiom)
                    && (*idiom == "permit then spawn" || row.name().starts_with("tokio,"))
            })
    };
    rows(workload).into_iter().filter(is_plain).collect()
}

/// The same workloads, with more and more tasks or a higher and higher limit.
fn growth(section: &str, is_quick: bool) {
    let rounds = if is_quick { 1 } else { 3 };
    let measure = |workload: Workload, name: &str, x: u64, operations: u64| {
        Plan { section, workload: name.into(), x: Some(x), operations, rounds, is_warmed: true }
            .measure(plain(workload), |elapsed| workload.cpu(elapsed));
    };
    for tasks in LIVE.into_iter().filter(|&tasks| !is_quick || tasks <= 100_000) {
        // Each of them has something to do, and there is enough for the clock.
        let operations = tasks.max(100_000);
        measure(Workload::SpawnBatch(tasks), "spawn_batch", tasks, operations);
        measure(Workload::Yield(tasks), "yield", tasks, 2 * operations);
        measure(Workload::PingPong(tasks / 2), "ping_pong", tasks, operations);
        measure(Workload::LocalPermits(tasks), "semaphore of one thread", tasks, operations);
        measure(Workload::Permits(tasks), "semaphore", tasks, operations);
    }
    for limit in LIMITS {
        let jobs = if is_quick { 100_000 } else { 200_000 };
        measure(Workload::Fanout { limit, spawners: 1 }, "fanout", limit as u64, jobs);
    }
}

/// A first run in this process, timed from before the runtime is built.
fn cold(runtime: &str, workload: &str) {
    let (workload, operations) =
        COLD.into_iter().find(|(cold, _)| cold.to_string() == workload).expect("a workload that is run cold");
    let rows = rows(workload);
    let row = rows.iter().find(|row| row.name() == runtime).expect("a row of this name");
    match row.obstacle() {
        Some(reason) => Figure::cannot("cold", workload, runtime, reason),
        None => {
            let start = Instant::now();
            row.run(operations);
            let micros = start.elapsed().as_secs_f64() * 1e6;
            Figure::new("cold", workload, runtime, micros, "µs").at(operations as f64)
        }
    }
    .print();
}

/// The names of the rows that are run cold: each runtime's plain one, or its best idiom.
pub fn cold_rows(workload: Workload) -> Vec<String> {
    plain(workload).iter().filter(|row| row.obstacle().is_none()).map(|row| row.name().to_owned()).collect()
}

/// By the clock on the wall, since several threads share the work; the timers', most of which is waiting, in processor time.
#[cfg(feature = "stealing")]
fn two_workers(section: &str, is_quick: bool) {
    use crate::stealing::{Workload, rows};

    for workload in Workload::ALL {
        let operations = workload.operations(is_quick);
        let rounds = if is_quick || workload.is_of_cpu() { 3 } else { 11 };
        let time = |elapsed: Elapsed| if workload.is_of_cpu() { elapsed.process_cpu } else { elapsed.wall };
        Plan { section, workload: workload.to_string(), x: None, operations, rounds, is_warmed: true }
            .measure(rows(workload), time);
    }
}
