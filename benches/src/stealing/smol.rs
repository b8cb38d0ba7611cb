//! smol, on two threads, each in `smol::block_on(executor.run(..))`: what `smol::spawn` starts, with an executor of our own.
//!
//! The executor is leaked, so that it keeps no list of its tasks behind a mutex; see `runtimes/smol.rs`. The thread that asks
//! for a workload waits without serving I/O or timers: its workers do.

use std::future::pending;
use std::sync::Arc;
use std::thread;

use async_executor::{Executor, StaticExecutor};
use smol::Task;

use super::{ACQUIRERS, LIMIT, PAIRS, WORKERS, Workload, YIELDERS};
use crate::Row;
use crate::runtimes::peer;
use crate::runtimes::smol::{detach, granted, hold, joined, limit, permit, sleep};
use crate::work::{PERMITS, Signal, Table, jobs_of_threads, nap, ping, pong, turn, turns};

type On = &'static StaticExecutor;
type Handle<T> = Task<T>;

fn spawn<T: Send + 'static>(on: On, future: impl Future<Output = T> + Send + 'static) -> Handle<T> {
    on.spawn(future)
}

peer::tasks!();

pub(super) fn rows(workload: Workload) -> Vec<Row> {
    vec![match workload {
        Workload::SpawnJoin => row(spawn_join),
        Workload::SpawnBatch => row(|on, count| spawn_batch(on, count, count)),
        Workload::Yield => row(|on, count| yields(on, count, YIELDERS)),
        Workload::PingPong => row(|on, count| ping_pong(on, count, 1)),
        Workload::PingPongs => row(|on, count| ping_pong(on, count, PAIRS)),
        Workload::Chained => row(chained),
        Workload::Fanout => row(fanout),
        Workload::Permits => row(|on, count| permits(on, count, ACQUIRERS)),
        Workload::Timers => row(timers),
    }]
}

fn row<F>(workload: impl Fn(On, u64) -> F + 'static) -> Row
where
    F: Future<Output = u64> + Send + 'static,
{
    let build = || {
        let executor: On = Executor::new().leak();
        for _ in 0..WORKERS {
            thread::spawn(|| smol::block_on(executor.run(pending::<()>())));
        }
        executor
    };
    Row::new("smol", build, move |executor, operations| {
        smol::future::block_on(executor.spawn(workload(executor, operations)))
    })
}

async fn fanout(on: On, jobs: u64) -> u64 {
    let before = jobs_of_threads::done();
    let limit = limit(LIMIT);
    for number in 0..jobs {
        let permit = granted(permit(&limit).await);
        let job = async move {
            jobs_of_threads::job(number).await;
            drop(permit);
        };
        detach(spawn(on, job));
    }
    let mut all = Vec::with_capacity(LIMIT);
    for _ in 0..LIMIT {
        all.push(hold(&limit).await);
    }
    jobs_of_threads::done() - before
}
