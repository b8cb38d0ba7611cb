//! anteroom, single-threaded.
//!
//! The spawning task is a service, so that it holds none of the places and `max_tasks` is the limit of the jobs alone.
//! There is nothing else to choose: `spawn(job).await` waits while there is no room. The semaphore is the limiter's, which
//! may be shared by threads, as tokio's and async-lock's. monoio's may not, so ours of one thread stands beside that.

use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

use anteroom::time::sleep;
use anteroom::{JoinHandle, Runtime, spawn, spawn_local, spawn_service, try_spawn, yield_now};
use anteroom_limiter::{LocalSemaphore, Semaphore};

use crate::work::{
    NEVER, PERMITS, Ready, SHORT, SPARSE, Signal, Table, all_jobs, job, late, nap, ping, poll_once, pong,
    shares, turn, turns,
};
use crate::{Row, Workload};

/// More than any workload without a limit has at once.
const UNLIMITED: usize = 1_000_000;

pub(super) fn rows(workload: Workload) -> Vec<Row> {
    match workload {
        Workload::SpawnJoin => {
            vec![row("anteroom", UNLIMITED, spawn_join), row("anteroom, join()", UNLIMITED, spawn_and_join)]
        }
        Workload::SpawnJoinOf(0) => vec![row("anteroom", UNLIMITED, spawn_join_of::<0>)],
        Workload::SpawnJoinOf(64) => vec![row("anteroom", UNLIMITED, spawn_join_of::<64>)],
        Workload::SpawnJoinOf(200) => vec![row("anteroom", UNLIMITED, spawn_join_of::<200>)],
        Workload::SpawnJoinOf(500) => vec![row("anteroom", UNLIMITED, spawn_join_of::<500>)],
        Workload::SpawnJoinOf(1_500) => vec![row("anteroom", UNLIMITED, spawn_join_of::<1_500>)],
        Workload::SpawnJoinOf(bytes) => unreachable!("{bytes} is none of the sizes"),
        Workload::SpawnBatch(at_once) => {
            vec![row("anteroom", UNLIMITED, move |count| spawn_batch(count, at_once))]
        }
        Workload::Yield(tasks) => vec![
            row("anteroom", UNLIMITED, move |count| yields(count, tasks)),
            row("anteroom, yield_now", UNLIMITED, move |count| own_yields(count, tasks)),
        ],
        Workload::PingPong(pairs) => vec![row("anteroom", UNLIMITED, move |count| ping_pong(count, pairs))],
        Workload::Chained => {
            vec![row("anteroom", UNLIMITED, chained), row("anteroom, boxed", UNLIMITED, chained_boxed)]
        }
        Workload::Permit => vec![row("anteroom", UNLIMITED, permit)],
        Workload::Permits(tasks) => vec![row("anteroom", UNLIMITED, move |count| permits(count, tasks))],
        Workload::LocalPermits(tasks) => {
            vec![row_local("anteroom", UNLIMITED, move |count| local_permits(count, tasks))]
        }
        Workload::TimerChurn => vec![row("anteroom", UNLIMITED, timer_churn)],
        Workload::Timers => vec![row("anteroom", UNLIMITED, timers)],
        Workload::LateSparse => vec![row("anteroom", UNLIMITED, late_sparse)],
        Workload::LateDense => vec![row("anteroom", UNLIMITED, late_dense)],
        Workload::Fanout { limit, spawners: 1 } => vec![
            row("anteroom", limit, |jobs| all_jobs(jobs, spawn_all(jobs))),
            row("anteroom, try_spawn", limit, |jobs| all_jobs(jobs, try_spawn_all(jobs))),
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
    Row::new(
        name,
        move || runtime(tasks_max),
        move |runtime, operations| {
            let workload = workload(operations);
            runtime.block_on(async { spawn_service(workload).unwrap().await.unwrap() })
        },
    )
}

/// A workload that is not `Send` is no service, so it gets one place more.
fn row_local<F>(name: &'static str, tasks_max: usize, workload: impl Fn(u64) -> F + 'static) -> Row
where
    F: Future<Output = u64> + 'static,
{
    Row::new(
        name,
        move || runtime(tasks_max + 1),
        move |runtime, operations| {
            let workload = workload(operations);
            runtime.block_on(async { spawn_local(workload).join().await.unwrap() })
        },
    )
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

async fn spawn_join_of<const BYTES: usize>(tasks: u64) -> u64 {
    let mut done = 0;
    for _ in 0..tasks {
        let task = spawn(Ready::<BYTES>::new()).await.unwrap();
        done += u64::from(task.await.unwrap() == BYTES);
    }
    done
}

pub(crate) async fn spawn_batch(tasks: u64, at_once: u64) -> u64 {
    let mut handles = Vec::with_capacity(at_once.min(tasks) as usize);
    let mut done = 0;
    while done < tasks {
        for number in 0..at_once.min(tasks - done) {
            handles.push(spawn(async move { number }).await.unwrap());
        }
        for (number, handle) in handles.drain(..).enumerate() {
            assert_eq!(handle.await.unwrap(), number as u64);
            done += 1;
        }
    }
    done
}

/// Each of them has given how much it did.
async fn sum(handles: Vec<JoinHandle<u64>>) -> u64 {
    let mut done = 0;
    for handle in handles {
        done += handle.await.unwrap();
    }
    done
}

pub(crate) async fn yields(operations: u64, tasks: u64) -> u64 {
    let mut handles = Vec::new();
    for _ in 0..tasks {
        handles.push(spawn(turns(operations / tasks)).await.unwrap());
    }
    sum(handles).await
}

async fn own_yields(operations: u64, tasks: u64) -> u64 {
    let mut handles = Vec::new();
    for _ in 0..tasks {
        let yielder = async move {
            for _ in 0..operations / tasks {
                yield_now().await;
            }
            operations / tasks
        };
        handles.push(spawn(yielder).await.unwrap());
    }
    sum(handles).await
}

pub(crate) async fn ping_pong(trips: u64, pairs: u64) -> u64 {
    let mut pongs = Vec::new();
    let mut pings = Vec::new();
    for _ in 0..pairs {
        let table = Arc::new(Table::default());
        pongs.push(spawn(pong(table.clone(), trips / pairs)).await.unwrap());
        pings.push(spawn(ping(table, trips / pairs)).await.unwrap());
    }
    for pong in pongs {
        pong.await.unwrap();
    }
    sum(pings).await
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

pub(crate) async fn spawn_all(jobs: u64) {
    for number in 0..jobs {
        drop(spawn(job(number)).await.unwrap());
    }
}

/// Without waiting while there is room, and with when there is none.
async fn try_spawn_all(jobs: u64) {
    for number in 0..jobs {
        if let Err(refused) = try_spawn(job(number)) {
            drop(spawn(refused.into_future()).await.unwrap());
        }
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
pub(crate) async fn permits(operations: u64, tasks: u64) -> u64 {
    let semaphore = Arc::new(Semaphore::new(PERMITS));
    let mut handles = Vec::new();
    for _ in 0..tasks {
        let semaphore = semaphore.clone();
        let acquirer = async move {
            for _ in 0..operations / tasks {
                let _permit = semaphore.acquire().await.unwrap();
                turn().await;
            }
            operations / tasks
        };
        handles.push(spawn(acquirer).await.unwrap());
    }
    sum(handles).await
}

/// In a crowd on one thread.
async fn local_permits(operations: u64, tasks: u64) -> u64 {
    let semaphore = Rc::new(LocalSemaphore::new(PERMITS));
    let mut handles = Vec::new();
    for _ in 0..tasks {
        let semaphore = semaphore.clone();
        let acquirer = async move {
            for _ in 0..operations / tasks {
                let _permit = semaphore.acquire().await.unwrap();
                turn().await;
            }
            operations / tasks
        };
        handles.push(spawn_local(acquirer).await.unwrap());
    }
    sum(handles).await
}

async fn timer_churn(operations: u64) -> u64 {
    let mut done = 0;
    for _ in 0..operations {
        done += poll_once(sleep(NEVER)).await;
    }
    done
}

pub(crate) async fn timers(sleepers: u64) -> u64 {
    let mut handles = Vec::with_capacity(sleepers as usize);
    for number in 0..sleepers {
        let sleeper = async move {
            sleep(nap(number, sleepers)).await;
            1
        };
        handles.push(spawn(sleeper).await.unwrap());
    }
    sum(handles).await
}

async fn late_sparse(samples: u64) -> u64 {
    let mut handles = Vec::new();
    for number in 0..SPARSE {
        let sleeper = async move {
            sleep(SHORT * number as u32 / SPARSE as u32).await;
            for _ in 0..samples / SPARSE {
                late(SHORT, sleep).await;
            }
            samples / SPARSE
        };
        handles.push(spawn(sleeper).await.unwrap());
    }
    sum(handles).await
}

async fn late_dense(samples: u64) -> u64 {
    let mut handles = Vec::with_capacity(samples as usize);
    for number in 0..samples {
        let sleeper = async move {
            late(nap(number, samples), sleep).await;
            1
        };
        handles.push(spawn(sleeper).await.unwrap());
    }
    sum(handles).await
}
