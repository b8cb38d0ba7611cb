//! anteroom, `build_stealing(2)`.
//!
//! What its tasks do is what they do on one thread, to the letter: the functions are those of `runtimes/anteroom.rs`. The
//! spawning task is a service here too. All jobs of the fanout are done when all places are had.

use anteroom::{Runtime, reserve, spawn, spawn_service};

use super::{ACQUIRERS, LIMIT, PAIRS, WORKERS, Workload, YIELDERS};
use crate::Row;
use crate::runtimes::anteroom::{chained, permits, ping_pong, spawn_batch, spawn_join, timers, yields};
use crate::work::jobs_of_threads;

/// More than any workload without a limit has at once.
const UNLIMITED: usize = 1_000_000;

pub(super) fn rows(workload: Workload) -> Vec<Row> {
    vec![match workload {
        Workload::SpawnJoin => row(UNLIMITED, spawn_join),
        Workload::SpawnBatch => row(UNLIMITED, |count| spawn_batch(count, count)),
        Workload::Yield => row(UNLIMITED, |count| yields(count, YIELDERS)),
        Workload::PingPong => row(UNLIMITED, |count| ping_pong(count, 1)),
        Workload::PingPongs => row(UNLIMITED, |count| ping_pong(count, PAIRS)),
        Workload::Chained => row(UNLIMITED, chained),
        Workload::Fanout => row(LIMIT, fanout),
        Workload::Permits => row(UNLIMITED, |count| permits(count, ACQUIRERS)),
        Workload::Timers => row(UNLIMITED, timers),
    }]
}

fn row<F>(tasks_max: usize, workload: impl Fn(u64) -> F + 'static) -> Row
where
    F: Future<Output = u64> + Send + 'static,
{
    let build = move || Runtime::builder().max_tasks(tasks_max).build_stealing(WORKERS).unwrap();
    Row::new("anteroom", build, move |runtime, operations| {
        let workload = workload(operations);
        runtime.block_on(async { spawn_service(workload).unwrap().await.unwrap() })
    })
}

async fn fanout(jobs: u64) -> u64 {
    let before = jobs_of_threads::done();
    for number in 0..jobs {
        drop(spawn(jobs_of_threads::job(number)).await.unwrap());
    }
    let mut places = Vec::with_capacity(LIMIT);
    for _ in 0..LIMIT {
        places.push(reserve().await.unwrap());
    }
    jobs_of_threads::done() - before
}
