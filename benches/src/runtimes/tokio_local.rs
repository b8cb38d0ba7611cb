//! tokio's `LocalRuntime`, with `enable_all`: its tasks need not be `Send`, and are spawned by `spawn_local`.
//!
//! Its semaphore and its timers are the same as ever: those of `tokio.rs`.

use std::sync::Arc;

use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::task::{spawn_local, yield_now};

use super::peer::{self, Current as On, LocalNumbers as Numbers, buffer_unordered, for_each_concurrent};
use super::tokio::{Handle, Limit, detach, granted, hold, join_set, joined, limit, permit, sleep};
use crate::work::{
    NEVER, PERMITS, Ready, SHORT, SPARSE, Signal, Table, all_jobs, job, late, nap, ping, poll_once, pong,
    shares, turn, turns,
};
use crate::{Row, Workload};

type Runtime = LocalRuntime;

fn spawn<T: 'static>(_: On, future: impl Future<Output = T> + 'static) -> Handle<T> {
    spawn_local(future)
}

fn run<F: Future<Output = u64> + 'static>(runtime: &mut Runtime, workload: impl FnOnce(On) -> F) -> u64 {
    let workload = workload(On);
    runtime.block_on(async { spawn_local(workload).await.unwrap() })
}

peer::tasks!();
peer::tasks_of_one_thread!();
peer::own_yields!();
peer::rows!(permits_are_shared: true);

pub(super) fn rows(workload: Workload) -> Vec<Row> {
    let build = || Builder::new_current_thread().enable_all().build_local(LocalOptions::default()).unwrap();
    let form = Form { name: "tokio LocalRuntime", build };
    let mut rows = form.rows(workload);
    match workload {
        Workload::Yield(tasks) => {
            rows.push(form.row("yield_now", move |on, count| own_yields(on, count, tasks)));
        }
        Workload::Fanout { limit, spawners: 1 } => {
            rows.push(form.row("JoinSet, capped", move |_, jobs| {
                all_jobs(jobs, join_set(jobs, limit, |set, number| drop(set.spawn_local(job(number)))))
            }));
        }
        _ => {}
    }
    rows
}
