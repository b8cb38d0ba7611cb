//! anteroom, `build_stealing(2)`.
//!
//! What its tasks do is what they do on one thread, to the letter: the functions are those of `runtimes/anteroom.rs`. The
//! spawning task is a service here too. All jobs of the fanout are done when all places are had.

use std::sync::Arc;

use anteroom::time::sleep;
use anteroom::{Runtime, reserve, spawn, spawn_service};

use super::{LIMIT, PAIRS, WORKERS, Workload};
use crate::Row;
use crate::runtimes::anteroom::{chained, permits, ping_pong, spawn_batch, spawn_join, yields};
use crate::work::{Table, jobs_of_threads, nap, ping, pong};

/// More than any workload without a limit has at once.
const UNLIMITED: usize = 1_000_000;

pub(super) fn rows(workload: Workload) -> Vec<Row> {
    vec![match workload {
        Workload::SpawnJoin => row(UNLIMITED, spawn_join),
        Workload::SpawnBatch => row(UNLIMITED, spawn_batch),
        Workload::Yield => row(UNLIMITED, yields),
        Workload::PingPong => row(UNLIMITED, ping_pong),
        Workload::PingPongs => row(UNLIMITED, ping_pongs),
        Workload::Chained => row(UNLIMITED, chained),
        Workload::Fanout => row(LIMIT, fanout),
        Workload::Permits => row(UNLIMITED, permits),
        Workload::Timers => row(UNLIMITED, timers),
    }]
}

fn row<F>(tasks_max: usize, workload: impl Fn(u64) -> F + 'static) -> Row
where
    F: Future<Output = u64> + Send + 'static,
{
    let runtime = Runtime::builder().max_tasks(tasks_max).build_stealing(WORKERS).unwrap();
    Row::new("anteroom", move |operations| {
        let workload = workload(operations);
        runtime.block_on(async { spawn_service(workload).unwrap().await.unwrap() })
    })
}

async fn ping_pongs(trips: u64) -> u64 {
    let mut pairs = Vec::new();
    for _ in 0..PAIRS {
        let table = Arc::new(Table::default());
        let pong = spawn(pong(table.clone(), trips / PAIRS)).await.unwrap();
        pairs.push((pong, spawn(ping(table, trips / PAIRS)).await.unwrap()));
    }
    let mut done = 0;
    for (pong, ping) in pairs {
        pong.await.unwrap();
        done += ping.await.unwrap();
    }
    done
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

async fn timers(sleepers: u64) -> u64 {
    let mut handles = Vec::with_capacity(sleepers as usize);
    for number in 0..sleepers {
        handles.push(spawn(sleep(nap(number, sleepers))).await.unwrap());
    }
    let mut done = 0;
    for handle in handles {
        handle.await.unwrap();
        done += 1;
    }
    done
}
