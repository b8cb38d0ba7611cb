//! monoio, a thread-per-core runtime, here with one: its tasks and wakers never leave their thread.
//!
//! `FusionDriver` takes io_uring where the system has it and epoll elsewhere; without work there is no I/O, so it matters
//! little. Its feature `sync`, wakes from other threads, is off, as by default, which is faster and less than the others
//! can do.
//!
//! A task that wakes itself goes to the *head* of its queue (`LocalScheduler::yield_now`), so it is polled again at once and
//! lets nobody run. It has no `yield_now` of its own that would. So its `yield` is a poll and not a turn, and its jobs of the
//! fanout run from end to end, one by one, with their 256 bytes still in the nearest cache.
//!
//! Against a limit: a permit of `local-sync`'s semaphore, of the same authors, owned by the task and taken before the
//! spawn. Nothing need be `Send`, so its counters are plain cells.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use local_sync::semaphore::Semaphore;
use monoio::{FusionDriver, RuntimeBuilder, spawn};

use crate::work::{
    ACQUIRERS, PERMITS, Signal, Table, YIELDERS, all_jobs, job, ping, pong, shares, turn, turns,
};
use crate::{Row, Workload};

pub(super) fn rows(workload: Workload) -> Vec<Row> {
    match workload {
        Workload::SpawnJoin => vec![row("monoio", spawn_join)],
        Workload::SpawnBatch => vec![row("monoio", spawn_batch)],
        Workload::Yield => vec![row("monoio, polled again at once", yields)],
        Workload::PingPong => vec![row("monoio", ping_pong)],
        Workload::Chained => vec![row("monoio", chained)],
        // There is only one of one thread.
        Workload::Permit | Workload::Permits => Vec::new(),
        Workload::LocalPermits => vec![row("monoio", permits)],
        Workload::Fanout { limit, spawners: 1 } => vec![
            row("monoio, permit then spawn", move |jobs| {
                all_jobs(jobs, permit_then_spawn(jobs, Rc::new(Semaphore::new(limit))))
            }),
            row("monoio, workers", move |jobs| all_jobs(jobs, workers(jobs, limit))),
        ],
        Workload::Fanout { limit, spawners } => vec![row("monoio, permit then spawn", move |jobs| {
            all_jobs(jobs, permit_then_spawn_from(jobs, spawners, limit))
        })],
    }
}

fn row<F>(name: &'static str, workload: impl Fn(u64) -> F + 'static) -> Row
where
    F: Future<Output = u64> + 'static,
{
    let runtime = RefCell::new(RuntimeBuilder::<FusionDriver>::new().enable_all().build().unwrap());
    Row::new(name, move |operations| {
        let workload = workload(operations);
        runtime.borrow_mut().block_on(async { spawn(workload).await })
    })
}

async fn spawn_join(tasks: u64) -> u64 {
    let mut done = 0;
    for number in 0..tasks {
        done += u64::from(spawn(async move { number }).await == number);
    }
    done
}

async fn spawn_batch(tasks: u64) -> u64 {
    let mut handles = Vec::with_capacity(tasks as usize);
    for number in 0..tasks {
        handles.push(spawn(async move { number }));
    }
    let mut done = 0;
    for (number, handle) in handles.into_iter().enumerate() {
        done += u64::from(handle.await == number as u64);
    }
    done
}

async fn yields(operations: u64) -> u64 {
    let handles: Vec<_> = (0..YIELDERS).map(|_| spawn(turns(operations / YIELDERS))).collect();
    let mut done = 0;
    for handle in handles {
        done += handle.await;
    }
    done
}

async fn ping_pong(trips: u64) -> u64 {
    let table = Arc::new(Table::default());
    let pong = spawn(pong(table.clone(), trips));
    let ping = spawn(ping(table, trips));
    pong.await;
    ping.await
}

async fn chained(tasks: u64) -> u64 {
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

async fn permit_then_spawn(jobs: u64, limit: Rc<Semaphore>) {
    for number in 0..jobs {
        let permit = limit.clone().acquire_owned().await.unwrap();
        spawn(async move {
            job(number).await;
            drop(permit);
        });
    }
}

async fn permit_then_spawn_from(jobs: u64, spawners: usize, limit: usize) {
    let limit = Rc::new(Semaphore::new(limit));
    let spawners: Vec<_> =
        shares(jobs, spawners).map(|jobs| spawn(permit_then_spawn(jobs, limit.clone()))).collect();
    for spawner in spawners {
        spawner.await;
    }
}

async fn workers(jobs: u64, limit: usize) {
    let next = Rc::new(Cell::new(0));
    let worker = || {
        let next = next.clone();
        async move {
            while next.get() < jobs {
                job(next.replace(next.get() + 1)).await;
            }
        }
    };
    let workers: Vec<_> = (0..limit).map(|_| spawn(worker())).collect();
    for worker in workers {
        worker.await;
    }
}

/// In a crowd.
async fn permits(operations: u64) -> u64 {
    let semaphore = Rc::new(Semaphore::new(PERMITS));
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
        done += handle.await;
    }
    done
}
