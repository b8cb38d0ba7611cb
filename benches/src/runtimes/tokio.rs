//! tokio on one thread, with `enable_all`: as `current_thread`, whose tasks are `Send`. `tokio_local.rs` is the other form.
//!
//! Against a limit its documentation shows a permit of a semaphore, owned by the task. Taken *before* the spawn it bounds
//! the tasks; taken inside the task it bounds only the work, and all tasks exist at once. Its `JoinSet` has no limit, so a
//! task is joined before the next is spawned when as many are in it. Three forms spawn nothing a job: `buffer_unordered` and
//! `for_each_concurrent` poll the jobs within one task, and as many workers as the limit take the next job's number each.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use tokio::task::{JoinError, JoinHandle, JoinSet, yield_now};

use super::peer::{self, Current as On, SharedNumbers as Numbers, buffer_unordered, for_each_concurrent};
use crate::work::{
    NEVER, PERMITS, Ready, SHORT, SPARSE, Signal, Table, all_jobs, job, late, nap, ping, poll_once, pong,
    shares, turn, turns,
};
use crate::{Row, Workload};

pub(crate) type Handle<T> = JoinHandle<T>;
pub(crate) type Limit = Arc<Semaphore>;
type Runtime = tokio::runtime::Runtime;

fn spawn<T: Send + 'static>(_: On, future: impl Future<Output = T> + Send + 'static) -> Handle<T> {
    tokio::spawn(future)
}

pub(crate) fn joined<T>(result: Result<T, JoinError>) -> T {
    result.unwrap()
}

/// To drop a handle detaches the task.
pub(crate) fn detach(handle: Handle<()>) {
    drop(handle);
}

pub(crate) fn sleep(duration: Duration) -> tokio::time::Sleep {
    tokio::time::sleep(duration)
}

pub(crate) fn limit(permits: usize) -> Limit {
    Arc::new(Semaphore::new(permits))
}

pub(crate) fn hold(limit: &Limit) -> impl Future<Output = Result<SemaphorePermit<'_>, AcquireError>> {
    limit.acquire()
}

pub(crate) fn permit(
    limit: &Limit,
) -> impl Future<Output = Result<OwnedSemaphorePermit, AcquireError>> + use<> {
    limit.clone().acquire_owned()
}

pub(crate) fn granted<T>(permit: Result<T, AcquireError>) -> T {
    permit.unwrap()
}

fn run<F: Future<Output = u64> + Send + 'static>(
    runtime: &mut Runtime,
    workload: impl FnOnce(On) -> F,
) -> u64 {
    let workload = workload(On);
    runtime.block_on(async { tokio::spawn(workload).await.unwrap() })
}

peer::tasks!();
peer::tasks_of_one_thread!();
peer::own_yields!();
peer::rows!(permits_are_shared: true, Send);

pub(super) fn rows(workload: Workload) -> Vec<Row> {
    let build = || Builder::new_current_thread().enable_all().build().unwrap();
    let form = Form { name: "tokio", build };
    let mut rows = form.rows(workload);
    match workload {
        Workload::Yield(tasks) => {
            rows.push(form.row("yield_now", move |on, count| own_yields(on, count, tasks)));
        }
        Workload::Fanout { limit, spawners: 1 } => {
            rows.push(form.row("JoinSet, capped", move |_, jobs| {
                all_jobs(jobs, join_set(jobs, limit, |set, number| drop(set.spawn(job(number)))))
            }));
        }
        _ => {}
    }
    rows
}

/// `spawn` puts the job of this number into the set.
pub(super) async fn join_set(jobs: u64, limit: usize, spawn: impl Fn(&mut JoinSet<()>, u64)) {
    let mut set = JoinSet::new();
    for number in 0..jobs {
        if set.len() == limit {
            set.join_next().await.unwrap().unwrap();
        }
        spawn(&mut set, number);
    }
    while let Some(ended) = set.join_next().await {
        ended.unwrap();
    }
}
