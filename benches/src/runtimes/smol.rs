//! smol, on one thread: `block_on(executor.run(..))`.
//!
//! The executor is a `LocalExecutor`, leaked. It then keeps no list of its tasks behind a mutex, which an executor that
//! lives as long as its process does not need. So it is faster in every workload, by about a third where tasks are spawned.
//! (Its tasks need not be `Send`; its queue is the concurrent one of `Executor` all the same.)
//!
//! Against a limit: a permit of `async-lock`'s semaphore, which smol re-exports. `block_on` serves timers and I/O.

use std::sync::Arc;
use std::time::Duration;

use async_executor::{LocalExecutor, StaticLocalExecutor};
use async_lock::{Semaphore, SemaphoreGuard, SemaphoreGuardArc};
use smol::future::yield_now;
use smol::{Task, Timer};

use super::peer::{self, LocalNumbers as Numbers, buffer_unordered, for_each_concurrent};
use crate::work::{
    NEVER, PERMITS, Ready, SHORT, SPARSE, Signal, Table, all_jobs, job, late, nap, ping, poll_once, pong,
    shares, turn, turns,
};
use crate::{Row, Workload};

type On = &'static StaticLocalExecutor;
type Handle<T> = Task<T>;
pub(crate) type Limit = Arc<Semaphore>;
type Runtime = &'static StaticLocalExecutor;

fn spawn<T: 'static>(on: On, future: impl Future<Output = T> + 'static) -> Handle<T> {
    on.spawn(future)
}

/// A task gives its result as it is.
pub(crate) fn joined<T>(result: T) -> T {
    result
}

pub(crate) fn detach(handle: Task<()>) {
    handle.detach();
}

pub(crate) async fn sleep(duration: Duration) {
    Timer::after(duration).await;
}

pub(crate) fn limit(permits: usize) -> Limit {
    Arc::new(Semaphore::new(permits))
}

pub(crate) fn hold(limit: &Limit) -> impl Future<Output = SemaphoreGuard<'_>> {
    limit.acquire()
}

pub(crate) fn permit(limit: &Limit) -> impl Future<Output = SemaphoreGuardArc> + use<> {
    limit.acquire_arc()
}

/// It cannot be closed.
pub(crate) fn granted<T>(permit: T) -> T {
    permit
}

fn run<F: Future<Output = u64> + 'static>(runtime: &mut Runtime, workload: impl FnOnce(On) -> F) -> u64 {
    smol::block_on(runtime.run(runtime.spawn(workload(runtime))))
}

peer::tasks!();
peer::tasks_of_one_thread!();
peer::own_yields!();
peer::rows!(permits_are_shared: true);

pub(super) fn rows(workload: Workload) -> Vec<Row> {
    let form = Form { name: "smol", build: || LocalExecutor::new().leak() };
    let mut rows = form.rows(workload);
    if let Workload::Yield(tasks) = workload {
        rows.push(form.row("yield_now", move |on, count| own_yields(on, count, tasks)));
    }
    rows
}
