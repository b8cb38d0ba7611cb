//! tokio, `current_thread`, with `enable_all`.
//!
//! Against a limit its documentation shows a permit of a semaphore, owned by the task. Taken *before* the spawn it bounds
//! the tasks; taken inside the task it bounds only the work, and all tasks exist at once. Two forms spawn nothing a job:
//! `buffer_unordered` polls the jobs within one task, and as many workers as the limit take the next job's number each.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::stream::{self, StreamExt};
use tokio::runtime::Builder;
use tokio::spawn;
use tokio::sync::Semaphore;
use tokio::task::yield_now;

use crate::work::{
    ACQUIRERS, PERMITS, Signal, Table, YIELDERS, all_jobs, job, ping, pong, shares, turn, turns,
};
use crate::{Row, Workload};

pub(super) fn rows(workload: Workload) -> Vec<Row> {
    match workload {
        Workload::SpawnJoin => vec![row("tokio", spawn_join)],
        Workload::SpawnBatch => vec![row("tokio", spawn_batch)],
        Workload::Yield => vec![row("tokio", yields), row("tokio, yield_now", own_yields)],
        Workload::PingPong => vec![row("tokio", ping_pong)],
        Workload::Chained => vec![row("tokio", chained)],
        Workload::Permit => vec![row("tokio", permit)],
        Workload::Permits => vec![row("tokio", permits)],
        // There is none.
        Workload::LocalPermits => Vec::new(),
        Workload::Fanout { limit, spawners: 1 } => vec![
            row("tokio, permit then spawn", move |jobs| {
                all_jobs(jobs, permit_then_spawn(jobs, Arc::new(Semaphore::new(limit))))
            }),
            row("tokio, spawn then permit", move |jobs| {
                all_jobs(jobs, spawn_then_permit(jobs, Arc::new(Semaphore::new(limit))))
            }),
            row("tokio, buffer_unordered", move |jobs| all_jobs(jobs, buffer_unordered(jobs, limit))),
            row("tokio, workers", move |jobs| all_jobs(jobs, workers(jobs, limit))),
        ],
        Workload::Fanout { limit, spawners } => vec![row("tokio, permit then spawn", move |jobs| {
            all_jobs(jobs, permit_then_spawn_from(jobs, spawners, limit))
        })],
    }
}

fn row<F>(name: &'static str, workload: impl Fn(u64) -> F + 'static) -> Row
where
    F: Future<Output = u64> + Send + 'static,
{
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    Row::new(name, move |operations| {
        let workload = workload(operations);
        runtime.block_on(async { spawn(workload).await.unwrap() })
    })
}

pub(crate) async fn spawn_join(tasks: u64) -> u64 {
    let mut done = 0;
    for number in 0..tasks {
        done += u64::from(spawn(async move { number }).await.unwrap() == number);
    }
    done
}

pub(crate) async fn spawn_batch(tasks: u64) -> u64 {
    let mut handles = Vec::with_capacity(tasks as usize);
    for number in 0..tasks {
        handles.push(spawn(async move { number }));
    }
    let mut done = 0;
    for (number, handle) in handles.into_iter().enumerate() {
        done += u64::from(handle.await.unwrap() == number as u64);
    }
    done
}

pub(crate) async fn yields(operations: u64) -> u64 {
    let handles: Vec<_> = (0..YIELDERS).map(|_| spawn(turns(operations / YIELDERS))).collect();
    let mut done = 0;
    for handle in handles {
        done += handle.await.unwrap();
    }
    done
}

pub(crate) async fn own_yields(operations: u64) -> u64 {
    let yielder = || async move {
        for _ in 0..operations / YIELDERS {
            yield_now().await;
        }
        operations / YIELDERS
    };
    let handles: Vec<_> = (0..YIELDERS).map(|_| spawn(yielder())).collect();
    let mut done = 0;
    for handle in handles {
        done += handle.await.unwrap();
    }
    done
}

pub(crate) async fn ping_pong(trips: u64) -> u64 {
    let table = Arc::new(Table::default());
    let pong = spawn(pong(table.clone(), trips));
    let ping = spawn(ping(table, trips));
    pong.await.unwrap();
    ping.await.unwrap()
}

pub(crate) async fn chained(tasks: u64) -> u64 {
    let end = Arc::new(Signal::default());
    link(tasks, end.clone());
    end.wait().await;
    tasks
}

fn link(left: u64, end: Arc<Signal>) {
    spawn(async move {
        match left - 1 {
            0 => end.set(),
            left => link(left, end),
        }
    });
}

async fn permit_then_spawn(jobs: u64, limit: Arc<Semaphore>) {
    for number in 0..jobs {
        let permit = limit.clone().acquire_owned().await.unwrap();
        spawn(async move {
            job(number).await;
            drop(permit);
        });
    }
}

async fn permit_then_spawn_from(jobs: u64, spawners: usize, limit: usize) {
    let limit = Arc::new(Semaphore::new(limit));
    let spawners: Vec<_> =
        shares(jobs, spawners).map(|jobs| spawn(permit_then_spawn(jobs, limit.clone()))).collect();
    for spawner in spawners {
        spawner.await.unwrap();
    }
}

async fn spawn_then_permit(jobs: u64, limit: Arc<Semaphore>) {
    for number in 0..jobs {
        let limit = limit.clone();
        spawn(async move {
            let _permit = limit.acquire().await.unwrap();
            job(number).await;
        });
    }
}

async fn buffer_unordered(jobs: u64, limit: usize) {
    let mut done = pin!(stream::iter(0..jobs).map(job).buffer_unordered(limit));
    while done.next().await.is_some() {}
}

async fn workers(jobs: u64, limit: usize) {
    let next = Arc::new(AtomicU64::new(0));
    let worker = || {
        let next = next.clone();
        async move {
            loop {
                // Ordering: Relaxed; a number that nobody else gets is all that is asked for.
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= jobs {
                    break;
                }
                job(number).await;
            }
        }
    };
    let workers: Vec<_> = (0..limit).map(|_| spawn(worker())).collect();
    for worker in workers {
        worker.await.unwrap();
    }
}

/// Alone.
async fn permit(operations: u64) -> u64 {
    let semaphore = Semaphore::new(1);
    let mut done = 0;
    for _ in 0..operations {
        let _permit = semaphore.acquire().await.unwrap();
        done += 1;
    }
    done
}

/// In a crowd.
pub(crate) async fn permits(operations: u64) -> u64 {
    let semaphore = Arc::new(Semaphore::new(PERMITS));
    let mut handles = Vec::new();
    for _ in 0..ACQUIRERS {
        let semaphore = semaphore.clone();
        let acquirer = async move {
            for _ in 0..operations / ACQUIRERS {
                let _permit = semaphore.acquire().await.unwrap();
                turn().await;
            }
            operations / ACQUIRERS
        };
        handles.push(spawn(acquirer));
    }
    let mut done = 0;
    for handle in handles {
        done += handle.await.unwrap();
    }
    done
}
