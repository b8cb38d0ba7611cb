//! tokio, `multi_thread` with two workers and `enable_all`.
//!
//! What its tasks do is what they do on one thread: the functions are those of `runtimes/tokio.rs`. Against a limit, a permit taken
//! before each spawn; all jobs are done when all permits are had.

use tokio::runtime::Builder;
use tokio::spawn;

use super::{ACQUIRERS, LIMIT, PAIRS, WORKERS, Workload, YIELDERS};
use crate::Row;
use crate::runtimes::peer::Current;
use crate::runtimes::tokio::{
    chained, granted, limit, own_yields, permit, permits, ping_pong, spawn_batch, spawn_join, timers, yields,
};
use crate::work::jobs_of_threads;

pub(super) fn rows(workload: Workload) -> Vec<Row> {
    match workload {
        Workload::SpawnJoin => vec![row("tokio", |count| spawn_join(Current, count))],
        Workload::SpawnBatch => vec![row("tokio", |count| spawn_batch(Current, count, count))],
        Workload::Yield => vec![
            row("tokio", |count| yields(Current, count, YIELDERS)),
            row("tokio, yield_now", |count| own_yields(Current, count, YIELDERS)),
        ],
        Workload::PingPong => vec![row("tokio", |count| ping_pong(Current, count, 1))],
        Workload::PingPongs => vec![row("tokio", |count| ping_pong(Current, count, PAIRS))],
        Workload::Chained => vec![row("tokio", |count| chained(Current, count))],
        Workload::Fanout => vec![row("tokio", fanout)],
        Workload::Permits => vec![row("tokio", |count| permits(Current, count, ACQUIRERS))],
        Workload::Timers => vec![row("tokio", |count| timers(Current, count))],
    }
}

fn row<F>(name: &'static str, workload: impl Fn(u64) -> F + 'static) -> Row
where
    F: Future<Output = u64> + Send + 'static,
{
    let build = || Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build().unwrap();
    Row::new(name, build, move |runtime, operations| {
        let workload = workload(operations);
        runtime.block_on(async { spawn(workload).await.unwrap() })
    })
}

async fn fanout(jobs: u64) -> u64 {
    let before = jobs_of_threads::done();
    let limit = limit(LIMIT);
    for number in 0..jobs {
        let permit = granted(permit(&limit).await);
        spawn(async move {
            jobs_of_threads::job(number).await;
            drop(permit);
        });
    }
    drop(granted(limit.acquire_many(LIMIT as u32).await));
    jobs_of_threads::done() - before
}
