//! glommio, a thread-per-core runtime on io_uring, here with one, bound to no core, with what is on by itself.
//!
//! It polls a task for the first time within its spawn (`spawn_and_run`), before the spawner goes on. So its `spawn_join` is little
//! more than a call, and a chain of tasks is a recursion on the stack.
//!
//! Against a limit: a permit of its own semaphore, whose counters are plain cells.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use glommio::sync::{Permit, Semaphore, StaticPermit};
use glommio::timer::Timer;
use glommio::{GlommioError, LocalExecutor, LocalExecutorBuilder, Placement, Task};

use super::peer::{self, Current as On, LocalNumbers as Numbers, buffer_unordered, for_each_concurrent};
use crate::work::{
    NEVER, PERMITS, Ready, SHORT, SPARSE, Signal, Table, all_jobs, job, late, nap, ping, poll_once, pong,
    shares, turn, turns,
};
use crate::{Row, Workload};

type Handle<T> = Task<T>;
type Limit = Rc<Semaphore>;
type Runtime = LocalExecutor;

fn spawn<T: 'static>(_: On, future: impl Future<Output = T> + 'static) -> Handle<T> {
    glommio::spawn_local(future)
}

/// A task gives its result as it is.
fn joined<T>(result: T) -> T {
    result
}

fn detach(handle: Handle<()>) {
    handle.detach();
}

async fn sleep(duration: Duration) {
    Timer::new(duration).await;
}

fn limit(permits: usize) -> Limit {
    Rc::new(Semaphore::new(permits as u64))
}

fn hold(limit: &Limit) -> impl Future<Output = Result<Permit<'_>, GlommioError<()>>> {
    limit.acquire_permit(1)
}

fn permit(limit: &Limit) -> impl Future<Output = Result<StaticPermit, GlommioError<()>>> {
    limit.acquire_static_permit(1)
}

fn granted<T>(permit: Result<T, GlommioError<()>>) -> T {
    permit.unwrap()
}

fn run<F: Future<Output = u64> + 'static>(runtime: &mut Runtime, workload: impl FnOnce(On) -> F) -> u64 {
    let workload = workload(On);
    runtime.run(async { glommio::spawn_local(workload).await })
}

async fn yield_now() {
    glommio::executor().yield_now().await;
}

peer::tasks!();
peer::tasks_of_one_thread!();
peer::own_yields!();
peer::rows!(permits_are_shared: false);

pub(super) fn rows(workload: Workload) -> Vec<Row> {
    let build = || LocalExecutorBuilder::new(Placement::Unbound).make().unwrap();
    let form = Form { name: "glommio", build };
    let mut rows = form.rows(workload);
    match workload {
        Workload::Chained => {
            let reason = "it polls a task within its spawn, so a chain of 100,000 overflows the stack";
            return vec![Row::cannot(form.name, reason)];
        }
        Workload::Yield(tasks) => {
            rows.push(form.row("yield_now", move |on, count| own_yields(on, count, tasks)));
        }
        _ => {}
    }
    rows
}
