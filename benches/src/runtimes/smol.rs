//! smol, on one thread: `block_on(executor.run(..))`.
//!
//! The executor is a `LocalExecutor`, leaked. It then keeps no list of its tasks behind a mutex, which an executor that
//! lives as long as its process does not need. So it is faster in every workload, by about a third where tasks are spawned.
//! (Its tasks need not be `Send`; its queue is the concurrent one of `Executor` all the same.)
//!
//! Against a limit: a permit of `async-lock`'s semaphore, which smol re-exports, owned by the task and taken before the
//! spawn.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_executor::{LocalExecutor, StaticLocalExecutor};
use async_lock::Semaphore;
use smol::future::yield_now;

use crate::work::{
    ACQUIRERS, PERMITS, Signal, Table, YIELDERS, all_jobs, job, ping, pong, shares, turn, turns,
};
use crate::{Row, Workload};

type Executor = &'static StaticLocalExecutor;

pub(super) fn rows(workload: Workload) -> Vec<Row> {
    match workload {
        Workload::SpawnJoin => vec![row("smol", spawn_join)],
        Workload::SpawnBatch => vec![row("smol", spawn_batch)],
        Workload::Yield => vec![row("smol", yields), row("smol, yield_now", own_yields)],
        Workload::PingPong => vec![row("smol", ping_pong)],
        Workload::Chained => vec![row("smol", chained)],
        Workload::Permit => vec![row("smol", |_, operations| permit(operations))],
        Workload::Permits => vec![row("smol", permits)],
        // There is none.
        Workload::LocalPermits => Vec::new(),
        Workload::Fanout { limit, spawners: 1 } => vec![
            row("smol, permit then spawn", move |executor, jobs| {
                all_jobs(jobs, permit_then_spawn(executor, jobs, Arc::new(Semaphore::new(limit))))
            }),
            row("smol, workers", move |executor, jobs| all_jobs(jobs, workers(executor, jobs, limit))),
        ],
        Workload::Fanout { limit, spawners } => {
            vec![row("smol, permit then spawn", move |executor, jobs| {
                all_jobs(jobs, permit_then_spawn_from(executor, jobs, spawners, limit))
            })]
        }
    }
}

fn row<F>(name: &'static str, workload: impl Fn(Executor, u64) -> F + 'static) -> Row
where
    F: Future<Output = u64> + 'static,
{
    let executor = LocalExecutor::new().leak();
    Row::new(name, move |operations| {
        smol::block_on(executor.run(executor.spawn(workload(executor, operations))))
    })
}

async fn spawn_join(executor: Executor, tasks: u64) -> u64 {
    let mut done = 0;
    for number in 0..tasks {
        done += u64::from(executor.spawn(async move { number }).await == number);
    }
    done
}

async fn spawn_batch(executor: Executor, tasks: u64) -> u64 {
    let mut handles = Vec::with_capacity(tasks as usize);
    for number in 0..tasks {
        handles.push(executor.spawn(async move { number }));
    }
    let mut done = 0;
    for (number, handle) in handles.into_iter().enumerate() {
        done += u64::from(handle.await == number as u64);
    }
    done
}

async fn yields(executor: Executor, operations: u64) -> u64 {
    let handles: Vec<_> = (0..YIELDERS).map(|_| executor.spawn(turns(operations / YIELDERS))).collect();
    let mut done = 0;
    for handle in handles {
        done += handle.await;
    }
    done
}

async fn own_yields(executor: Executor, operations: u64) -> u64 {
    let yielder = || async move {
        for _ in 0..operations / YIELDERS {
            yield_now().await;
        }
        operations / YIELDERS
    };
    let handles: Vec<_> = (0..YIELDERS).map(|_| executor.spawn(yielder())).collect();
    let mut done = 0;
    for handle in handles {
        done += handle.await;
    }
    done
}

async fn ping_pong(executor: Executor, trips: u64) -> u64 {
    let table = Arc::new(Table::default());
    let pong = executor.spawn(pong(table.clone(), trips));
    let ping = executor.spawn(ping(table, trips));
    pong.await;
    ping.await
}

async fn chained(executor: Executor, tasks: u64) -> u64 {
    let end = Arc::new(Signal::default());
    link(executor, tasks, end.clone());
    end.wait().await;
    tasks
}

fn link(executor: Executor, left: u64, end: Arc<Signal>) {
    let next = async move {
        match left - 1 {
            0 => end.set(),
            left => link(executor, left, end),
        }
    };
    executor.spawn(next).detach();
}

async fn permit_then_spawn(executor: Executor, jobs: u64, limit: Arc<Semaphore>) {
    for number in 0..jobs {
        let permit = limit.acquire_arc().await;
        let job = async move {
            job(number).await;
            drop(permit);
        };
        executor.spawn(job).detach();
    }
}

async fn permit_then_spawn_from(executor: Executor, jobs: u64, spawners: usize, limit: usize) {
    let limit = Arc::new(Semaphore::new(limit));
    let spawners: Vec<_> = shares(jobs, spawners)
        .map(|jobs| executor.spawn(permit_then_spawn(executor, jobs, limit.clone())))
        .collect();
    for spawner in spawners {
        spawner.await;
    }
}

async fn workers(executor: Executor, jobs: u64, limit: usize) {
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
    let workers: Vec<_> = (0..limit).map(|_| executor.spawn(worker())).collect();
    for worker in workers {
        worker.await;
    }
}

/// Alone.
async fn permit(operations: u64) -> u64 {
    let semaphore = Semaphore::new(1);
    let mut done = 0;
    for _ in 0..operations {
        let _permit = semaphore.acquire().await;
        done += 1;
    }
    done
}

/// In a crowd.
async fn permits(executor: Executor, operations: u64) -> u64 {
    let semaphore = Arc::new(Semaphore::new(PERMITS));
    let mut handles = Vec::new();
    for _ in 0..ACQUIRERS {
        let semaphore = semaphore.clone();
        let acquirer = async move {
            for _ in 0..operations / ACQUIRERS {
                let _permit = semaphore.acquire().await;
                turn().await;
            }
            operations / ACQUIRERS
        };
        handles.push(executor.spawn(acquirer));
    }
    let mut done = 0;
    for handle in handles {
        done += handle.await;
    }
    done
}
