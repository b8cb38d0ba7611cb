//! compio, a thread-per-core runtime for completions, here with one thread and io_uring.
//!
//! It has no `yield_now` and no semaphore of its own; `local-sync`'s has no atomics and needs none.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use super::local_sync::{Limit, granted, hold, limit, permit};
use super::peer::{self, Current as On, LocalNumbers as Numbers, buffer_unordered, for_each_concurrent};
use crate::work::{
    NEVER, PERMITS, Ready, SHORT, SPARSE, Signal, Table, all_jobs, job, late, nap, ping, poll_once, pong,
    shares, turn, turns,
};
use crate::{Row, Workload};

type Handle<T> = compio::runtime::JoinHandle<T>;
type Runtime = compio::runtime::Runtime;

fn spawn<T: 'static>(_: On, future: impl Future<Output = T> + 'static) -> Handle<T> {
    compio::runtime::spawn(future)
}

fn joined<T>(result: Result<T, Box<dyn Any + Send>>) -> T {
    result.unwrap()
}

fn detach(handle: Handle<()>) {
    handle.detach();
}

fn sleep(duration: Duration) -> impl Future<Output = ()> {
    compio::time::sleep(duration)
}

fn run<F: Future<Output = u64> + 'static>(runtime: &mut Runtime, workload: impl FnOnce(On) -> F) -> u64 {
    let workload = workload(On);
    runtime.block_on(async { joined(compio::runtime::spawn(workload).await) })
}

peer::tasks!();
peer::tasks_of_one_thread!();
peer::rows!(permits_are_shared: false);

pub(super) fn rows(workload: Workload) -> Vec<Row> {
    Form { name: "compio", build: || Runtime::new().unwrap() }.rows(workload)
}
