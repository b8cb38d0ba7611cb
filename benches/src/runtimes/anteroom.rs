//! anteroom, single-threaded.
//!
//! The spawning task is a service, so that it holds none of the places and `max_tasks` is the limit of the jobs alone.
//! There is nothing else to choose: `spawn(job).await` waits while there is no room. The semaphore is the limiter's, which
//! may be shared by threads, as tokio's and async-lock's. monoio's may not, so ours of one thread stands beside that.

use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

use anteroom::{Runtime, spawn, spawn_local, spawn_service, try_spawn, yield_now};
use anteroom_limiter::{LocalSemaphore, Semaphore};

use crate::work::{
    ACQUIRERS, PERMITS, Signal, Table, YIELDERS, all_jobs, job, ping, pong, shares, turn, turns,
};
use crate::{Row, Workload};

/// More than any workload without a limit has at once.
const UNLIMITED: usize = 1_000_000;

pub(super) fn rows(workload: Workload) -> Vec<Row> {
    match workload {
        Workload::SpawnJoin => {
            vec![row("anteroom", UNLIMITED, spawn_join), row("anteroom, join()", UNLIMITED, spawn_and_join)]
        }
        Workload::SpawnBatch => vec![row("anteroom", UNLIMITED, spawn_batch)],
        Workload::Yield => {
            vec![row("anteroom", UNLIMITED, yields), row("anteroom, yield_now", UNLIMITED, own_yields)]
        }
        Workload::PingPong => vec![row("anteroom", UNLIMITED, ping_pong)],
        Workload::Chained => {
            vec![row("anteroom", UNLIMITED, chained), row("anteroom, boxed", UNLIMITED, chained_boxed)]
        }
        Workload::Permit => vec![row("anteroom", UNLIMITED, permit)],
        Workload::Permits => vec![row("anteroom", UNLIMITED, permits)],
        Workload::LocalPermits => vec![row_local("anteroom", UNLIMITED - 1, local_permits)],
        Workload::Fanout { limit, spawners: 1 } => vec![
            row("anteroom", limit, |jobs| all_jobs(jobs, spawn_all(jobs))),
            row_local("anteroom, spawn_local", limit, |jobs| all_jobs(jobs, spawn_all_local(jobs))),
        ],
        Workload::Fanout { limit, spawners } => {
            vec![row("anteroom", limit, move |jobs| all_jobs(jobs, spawn_all_from(jobs, spawners)))]
        }
    }
}

/// Built once, entered for each run ([FAIR-4]), which is a task ([FAIR-3]).
fn row<F>(name: &'static str, tasks_max: usize, workload: impl Fn(u64) -> F + 'static) -> Row
where
    F: Future<Output = u64> + Send + 'static,
{
    let runtime = runtime(tasks_max);
    Row::new(name, move |operations| {
        let workload = workload(operations);
        runtime.block_on(async { spawn_service(workload).unwrap().await.unwrap() })
    })
}

/// A workload that is not `Send` is no service, so it gets one place more.
fn row_local<F>(name: &'static str, tasks_max: usize, workload: impl Fn(u64) -> F + 'static) -> Row
where
    F: Future<Output = u64> + 'static,
{
    let runtime = runtime(tasks_max + 1);
    Row::new(name, move |operations| {
        let workload = workload(operations);
        runtime.block_on(async { spawn_local(workload).join().await.unwrap() })
    })
}

fn runtime(tasks_max: usize) -> Runtime {
    let services_max = 1 + 2_000; // the workload, and its spawners
    Runtime::builder().max_tasks(tasks_max).service_tasks(services_max).build().unwrap()
}

pub(crate) async fn spawn_join(tasks: u64) -> u64 {
    let mut done = 0;
    for number in 0..tasks {
        let task = spawn(async move { number }).await.unwrap();
        done += u64::from(task.await.unwrap() == number);
    }
    done
}

/// Admitted and joined in one await.
async fn spawn_and_join(tasks: u64) -> u64 {
    let mut done = 0;
    for number in 0..tasks {
        done += u64::from(spawn(async move { number }).join().await.unwrap() == number);
    }
    done
}

pub(crate) async fn spawn_batch(tasks: u64) -> u64 {
    let mut handles = Vec::with_capacity(tasks as usize);
    for number in 0..tasks {
        handles.push(spawn(async move { number }).await.unwrap());
    }
    let mut done = 0;
    for (number, handle) in handles.into_iter().enumerate() {
        done += u64::from(handle.await.unwrap() == number as u64);
    }
    done
}

pub(crate) async fn yields(operations: u64) -> u64 {
    let mut handles = Vec::new();
    for _ in 0..YIELDERS {
        handles.push(spawn(turns(operations / YIELDERS)).await.unwrap());
    }
    let mut done = 0;
    for handle in handles {
        done += handle.await.unwrap();
    }
    done
}

async fn own_yields(operations: u64) -> u64 {
    let mut handles = Vec::new();
    for _ in 0..YIELDERS {
        let yielder = async move {
            for _ in 0..operations / YIELDERS {
                yield_now().await;
            }
            operations / YIELDERS
        };
        handles.push(spawn(yielder).await.unwrap());
    }
    let mut done = 0;
    for handle in handles {
        done += handle.await.unwrap();
    }
    done
}

pub(crate) async fn ping_pong(trips: u64) -> u64 {
    let table = Arc::new(Table::default());
    let pong = spawn(pong(table.clone(), trips)).await.unwrap();
    let ping = spawn(ping(table, trips)).await.unwrap();
    pong.await.unwrap();
    ping.await.unwrap()
}

pub(crate) async fn chained(tasks: u64) -> u64 {
    let end = Arc::new(Signal::default());
    link(tasks, end.clone());
    end.wait().await;
    tasks
}

/// `try_spawn`, since a future that awaits `spawn` of itself would contain itself.
fn link(left: u64, end: Arc<Signal>) {
    let next = async move {
        match left - 1 {
            0 => end.set(),
            left => link(left, end),
        }
    };
    drop(try_spawn(next).unwrap());
}

/// The same with `spawn`, which would wait for room, and the box that a recursion then needs.
async fn chained_boxed(tasks: u64) -> u64 {
    let end = Arc::new(Signal::default());
    drop(spawn(link_boxed(tasks, end.clone())).await.unwrap());
    end.wait().await;
    tasks
}

fn link_boxed(left: u64, end: Arc<Signal>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(async move {
        match left - 1 {
            0 => end.set(),
            left => drop(spawn(link_boxed(left, end)).await.unwrap()),
        }
    })
}

async fn spawn_all(jobs: u64) {
    for number in 0..jobs {
        drop(spawn(job(number)).await.unwrap());
    }
}

async fn spawn_all_local(jobs: u64) {
    for number in 0..jobs {
        drop(spawn_local(job(number)).await.unwrap());
    }
}

async fn spawn_all_from(jobs: u64, spawners: usize) {
    let spawners: Vec<_> =
        shares(jobs, spawners).map(|jobs| spawn_service(spawn_all(jobs)).unwrap()).collect();
    for spawner in spawners {
        spawner.await.unwrap();
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
        handles.push(spawn(acquirer).await.unwrap());
    }
    let mut done = 0;
    for handle in handles {
        done += handle.await.unwrap();
    }
    done
}

/// In a crowd on one thread.
async fn local_permits(operations: u64) -> u64 {
    let semaphore = Rc::new(LocalSemaphore::new(PERMITS));
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
        handles.push(spawn_local(acquirer).await.unwrap());
    }
    let mut done = 0;
    for handle in handles {
        done += handle.await.unwrap();
    }
    done
}
