//! Workloads whose instructions are counted: the same number in every run, whatever the machine does.
//!
//! A runtime looks at the clock and asks the system for events every so many microseconds. Under callgrind a microsecond is
//! little work, and not always the same, so a count would be of the machine too. With a paused clock both happen every so
//! many polls.

use anteroom::{Runtime, spawn_service};

use crate::Workload;
use crate::runtimes::anteroom::{ping_pong, spawn_all, spawn_join, yields};
use crate::work::all_jobs;

/// Runs one of the four that are counted, in a task, on a runtime that is built for it.
///
/// # Panics
/// If it is none of them, or not all operations were done.
pub fn run(workload: Workload, operations: u64) {
    let done = match workload {
        Workload::SpawnJoin => run_task(1, spawn_join(operations)),
        Workload::Yield(tasks) => run_task(tasks as usize, yields(operations, tasks)),
        Workload::PingPong(pairs) => run_task(2 * pairs as usize, ping_pong(operations, pairs)),
        Workload::Fanout { limit, spawners: 1 } => {
            run_task(limit, all_jobs(operations, spawn_all(operations)))
        }
        other => panic!("{other} is not counted"),
    };
    assert_eq!(done, operations, "{workload}: operations done, and asked for");
}

/// The workload is a service, so that the places are those of its tasks.
fn run_task(tasks_max: usize, workload: impl Future<Output = u64> + Send + 'static) -> u64 {
    let runtime =
        Runtime::builder().max_tasks(tasks_max).service_tasks(1).paused_clock(true).build().unwrap();
    runtime.block_on(async { spawn_service(workload).unwrap().await.unwrap() })
}
