//! monoio, a thread-per-core runtime, here with one: its tasks and wakers never leave their thread.
//!
//! With both drivers: io_uring, and epoll, which it calls legacy. Its feature `sync`, wakes from other threads, is off, as by
//! default, which is faster and less than the others can do.
//!
//! A task that wakes itself goes to the *head* of its queue (`LocalScheduler::yield_now`), so it is polled again at once and
//! lets nobody run. It has no `yield_now` of its own that would. So its `yield` is a poll and not a turn, and its jobs of the
//! fanout run from end to end, one by one, with their 256 bytes still in the nearest cache.
//!
//! Against a limit: a permit of `local-sync`'s semaphore, of the same authors. Nothing need be `Send`, so its counters are
//! plain cells.

use std::sync::Arc;
use std::time::Duration;

use monoio::time::TimeDriver;
use monoio::{FusionRuntime, IoUringDriver, LegacyDriver, RuntimeBuilder};

use super::local_sync::{Limit, granted, hold, limit, permit};
use super::peer::{self, Current as On, LocalNumbers as Numbers, buffer_unordered, for_each_concurrent};
use crate::work::{
    NEVER, PERMITS, Ready, SHORT, SPARSE, Signal, Table, all_jobs, job, late, nap, ping, poll_once, pong,
    shares, turn, turns,
};
use crate::{Row, Workload};

type Handle<T> = monoio::task::JoinHandle<T>;
type Runtime = FusionRuntime<TimeDriver<IoUringDriver>, TimeDriver<LegacyDriver>>;

fn spawn<T: 'static>(_: On, future: impl Future<Output = T> + 'static) -> Handle<T> {
    monoio::spawn(future)
}

/// A handle gives the task's result as it is.
fn joined<T>(result: T) -> T {
    result
}

/// To drop a handle detaches the task.
fn detach(handle: Handle<()>) {
    drop(handle);
}

fn sleep(duration: Duration) -> monoio::time::Sleep {
    monoio::time::sleep(duration)
}

fn run<F: Future<Output = u64> + 'static>(runtime: &mut Runtime, workload: impl FnOnce(On) -> F) -> u64 {
    let workload = workload(On);
    runtime.block_on(async { monoio::spawn(workload).await })
}

peer::tasks!();
peer::tasks_of_one_thread!();
peer::rows!(permits_are_shared: false);

pub(super) fn rows(workload: Workload) -> Vec<Row> {
    let io_uring = || RuntimeBuilder::<IoUringDriver>::new().enable_all().build().unwrap().into();
    let legacy = || RuntimeBuilder::<LegacyDriver>::new().enable_all().build().unwrap().into();
    let forms =
        [Form { name: "monoio io_uring", build: io_uring }, Form { name: "monoio legacy", build: legacy }];
    forms.into_iter().flat_map(|form| form.rows(workload)).collect()
}
