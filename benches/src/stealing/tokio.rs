//! tokio, `multi_thread` with two workers and `enable_all`.
//!
//! What its tasks do is what they do on one thread: the functions are those of `runtimes/tokio.rs`. Against a limit, a permit taken
//! before each spawn; all jobs are done when all permits are had.

use std::sync::Arc;

use tokio::runtime::Builder;
use tokio::spawn;
use tokio::sync::Semaphore;
use tokio::time::sleep;

use super::{LIMIT, PAIRS, WORKERS, Workload};
use crate::Row;
use crate::runtimes::tokio::{chained, own_yields, permits, ping_pong, spawn_batch, spawn_join, yields};
use crate::work::{Table, jobs_of_threads, nap, ping, pong};

pub(super) fn rows(workload: Workload) -> Vec<Row> {
    match workload {
        Workload::SpawnJoin => vec![row("tokio", spawn_join)],
        Workload::SpawnBatch => vec![row("tokio", spawn_batch)],
        Workload::Yield => vec![row("tokio", yields), row("tokio, yield_now", own_yields)],
        Workload::PingPong => vec![row("tokio", ping_pong)],
        Workload::PingPongs => vec![row("tokio", ping_pongs)],
        Workload::Chained => vec![row("tokio", chained)],
        Workload::Fanout => vec![row("tokio", fanout)],
        Workload::Permits => vec![row("tokio", permits)],
        Workload::Timers => vec![row("tokio", timers)],
    }
}

fn row<F>(name: &'static str, workload: impl Fn(u64) -> F + 'static) -> Row
where
    F: Future<Output = u64> + Send + 'static,
{
    let runtime = Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build().unwrap();
    Row::new(name, move |operations| {
        let workload = workload(operations);
        runtime.block_on(async { spawn(workload).await.unwrap() })
    })
}

async fn ping_pongs(trips: u64) -> u64 {
    let pairs: Vec<_> = (0..PAIRS)
        .map(|_| {
            let table = Arc::new(Table::default());
            (spawn(pong(table.clone(), trips / PAIRS)), spawn(ping(table, trips / PAIRS)))
        })
        .collect();
    let mut done = 0;
    for (pong, ping) in pairs {
        pong.await.unwrap();
        done += ping.await.unwrap();
    }
    done
}

async fn fanout(jobs: u64) -> u64 {
    let before = jobs_of_threads::done();
    let limit = Arc::new(Semaphore::new(LIMIT));
    for number in 0..jobs {
        let permit = limit.clone().acquire_owned().await.unwrap();
        spawn(async move {
            jobs_of_threads::job(number).await;
            drop(permit);
        });
    }
    let _all = limit.acquire_many(LIMIT as u32).await.unwrap();
    jobs_of_threads::done() - before
}

async fn timers(sleepers: u64) -> u64 {
    let handles: Vec<_> = (0..sleepers).map(|number| spawn(sleep(nap(number, sleepers)))).collect();
    let mut done = 0;
    for handle in handles {
        handle.await.unwrap();
        done += 1;
    }
    done
}
