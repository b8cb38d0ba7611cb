//! smol, on two threads, each in `smol::block_on(executor.run(..))`: what `smol::spawn` starts, with an executor of our own.
//!
//! The executor is leaked, so that it keeps no list of its tasks behind a mutex; see `runtimes/smol.rs`. The thread that asks
//! for a workload waits without serving I/O or timers: its workers do.

use std::future::pending;
use std::sync::Arc;
use std::thread;

use async_executor::{Executor, StaticExecutor};
use async_lock::Semaphore;
use smol::Timer;

use super::{LIMIT, PAIRS, WORKERS, Workload};
use crate::Row;
use crate::work::{
    ACQUIRERS, PERMITS, Signal, Table, YIELDERS, jobs_of_threads, nap, ping, pong, turn, turns,
};

type Smol = &'static StaticExecutor;

pub(super) fn rows(workload: Workload) -> Vec<Row> {
    vec![match workload {
        Workload::SpawnJoin => row(spawn_join),
        Workload::SpawnBatch => row(spawn_batch),
        Workload::Yield => row(yields),
        Workload::PingPong => row(ping_pong),
        Workload::PingPongs => row(ping_pongs),
        Workload::Chained => row(chained),
        Workload::Fanout => row(fanout),
        Workload::Permits => row(permits),
        Workload::Timers => row(timers),
    }]
}

fn row<F>(workload: impl Fn(Smol, u64) -> F + 'static) -> Row
where
    F: Future<Output = u64> + Send + 'static,
{
    let executor = Executor::new().leak();
    for _ in 0..WORKERS {
        thread::spawn(|| smol::block_on(executor.run(pending::<()>())));
    }
    Row::new("smol", move |operations| smol::future::block_on(executor.spawn(workload(executor, operations))))
}

async fn spawn_join(executor: Smol, tasks: u64) -> u64 {
    let mut done = 0;
    for number in 0..tasks {
        done += u64::from(executor.spawn(async move { number }).await == number);
    }
    done
}

async fn spawn_batch(executor: Smol, tasks: u64) -> u64 {
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

async fn yields(executor: Smol, operations: u64) -> u64 {
    let handles: Vec<_> = (0..YIELDERS).map(|_| executor.spawn(turns(operations / YIELDERS))).collect();
    let mut done = 0;
    for handle in handles {
        done += handle.await;
    }
    done
}

async fn ping_pong(executor: Smol, trips: u64) -> u64 {
    play(executor, 1, trips).await
}

async fn ping_pongs(executor: Smol, trips: u64) -> u64 {
    play(executor, PAIRS, trips).await
}

async fn play(executor: Smol, pairs: u64, trips: u64) -> u64 {
    let pairs: Vec<_> = (0..pairs)
        .map(|_| {
            let table = Arc::new(Table::default());
            let pong = executor.spawn(pong(table.clone(), trips / pairs));
            (pong, executor.spawn(ping(table, trips / pairs)))
        })
        .collect();
    let mut done = 0;
    for (pong, ping) in pairs {
        pong.await;
        done += ping.await;
    }
    done
}

async fn chained(executor: Smol, tasks: u64) -> u64 {
    let end = Arc::new(Signal::default());
    link(executor, tasks, end.clone());
    end.wait().await;
    tasks
}

fn link(executor: Smol, left: u64, end: Arc<Signal>) {
    let next = async move {
        match left - 1 {
            0 => end.set(),
            left => link(executor, left, end),
        }
    };
    executor.spawn(next).detach();
}

async fn fanout(executor: Smol, jobs: u64) -> u64 {
    let before = jobs_of_threads::done();
    let limit = Arc::new(Semaphore::new(LIMIT));
    for number in 0..jobs {
        let permit = limit.acquire_arc().await;
        let job = async move {
            jobs_of_threads::job(number).await;
            drop(permit);
        };
        executor.spawn(job).detach();
    }
    let mut all = Vec::with_capacity(LIMIT);
    for _ in 0..LIMIT {
        all.push(limit.acquire().await);
    }
    jobs_of_threads::done() - before
}

/// In a crowd.
async fn permits(executor: Smol, operations: u64) -> u64 {
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

async fn timers(executor: Smol, sleepers: u64) -> u64 {
    let sleeper = |number| {
        executor.spawn(async move {
            let _when = Timer::after(nap(number, sleepers)).await;
        })
    };
    let handles: Vec<_> = (0..sleepers).map(sleeper).collect();
    let mut done = 0;
    for handle in handles {
        handle.await;
        done += 1;
    }
    done
}
