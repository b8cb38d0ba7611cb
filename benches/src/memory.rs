//! What a task takes of memory while it does nothing: a million of them, in each of the states that tasks rest in.
//!
//! # Problem
//! A task's size is not what is allocated for it: allocators round up, tables and heaps double, a queue keeps what it once
//! needed. What counts is what the system gave.
//!
//! # Rules
//! - [MEMORY-1] The figure is by how much the resident memory grows, over the number of tasks. A process measures once.
//! - [MEMORY-2] Each task was polled and rests before the figure is taken. They are spawned a thousand at a time, so that no
//!   run queue grows to hold all of them.
//! - [MEMORY-3] A task's future is what its state asks for and nothing else. Handles are dropped. A parked task's waker is held
//!   somewhere, as by whatever would wake it, at no cost of its own: some runtimes end a task that nobody can wake any more.
//! - [MEMORY-4] The system's allocator, as it is.

use std::cell::Cell;
use std::fs;
use std::future::{pending, poll_fn};
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use pin_project_lite::pin_project;

use crate::work::Signal;

/// What a task does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It waits for room: ours in its `spawn`, the peers' for a permit of a semaphore.
    Waiting,
    /// It is pending, for ever.
    Parked,
    /// It sleeps, for an hour or two.
    Sleeping,
}

type Measure = fn(State, u64) -> f64;

/// The names, and what measures.
const RUNTIMES: &[(&str, Measure)] = &[
    ("anteroom", anteroom),
    #[cfg(feature = "peers")]
    ("tokio", tokio),
    #[cfg(feature = "peers")]
    ("smol", smol),
    #[cfg(feature = "peers")]
    ("monoio io_uring", monoio_io_uring),
    #[cfg(feature = "peers")]
    ("monoio legacy", monoio_legacy),
    #[cfg(feature = "peers")]
    ("compio", compio),
    #[cfg(feature = "peers")]
    ("glommio", glommio),
];

/// Every runtime's name, anteroom first.
pub fn names() -> impl Iterator<Item = &'static str> {
    RUNTIMES.iter().map(|(name, _)| *name)
}

/// What one of so many tasks takes, in bytes.
///
/// # Panics
/// If there is no runtime of that name, or it cannot be built here.
pub fn bytes_a_task(runtime: &str, state: State, tasks: u64) -> f64 {
    let (_, measure) = RUNTIMES.iter().find(|(name, _)| *name == runtime).expect("a runtime of that name");
    measure(state, tasks)
}

/// The resident memory of a process, in bytes: the sum over its pages, since what `status` shows lags behind.
///
/// # Panics
/// If there is no such process.
pub fn resident(process: &str) -> u64 {
    line(&format!("/proc/{process}/smaps_rollup"), "Rss:")
}

/// The most that was ever resident of this process, since it began or since [`forget_peak`].
///
/// # Panics
/// On a system without `/proc`.
pub fn resident_peak() -> u64 {
    line("/proc/self/status", "VmHWM:")
}

/// Makes the present use the peak.
///
/// # Panics
/// If the system does not.
pub fn forget_peak() {
    fs::write("/proc/self/clear_refs", "5").expect("the peak may be reset");
}

fn line(file: &str, name: &str) -> u64 {
    let text = fs::read_to_string(file).expect("a process, and /proc");
    let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("a line of that name");
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().expect("a number of KiB");
    kib * 1024
}

/// How many tasks are spawned before they are waited for.
const AT_ONCE: u64 = 1_000;

thread_local! {
    /// How many tasks were polled. There is one thread that polls.
    static BEGUN: Cell<u64> = const { Cell::new(0) };
}

/// Set whenever [`AT_ONCE`] more were.
static SOME_BEGUN: Signal = Signal::new();

pin_project! {
    /// Counts its polls, of which there is one: nobody wakes it. It is no larger than what it holds.
    struct Counted<F> {
        #[pin]
        future: F,
    }
}

fn counted<F>(future: F) -> Counted<F> {
    Counted { future }
}

impl<F: Future> Future for Counted<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        BEGUN.set(BEGUN.get() + 1);
        if BEGUN.get() % AT_ONCE == 0 {
            SOME_BEGUN.set();
        }
        self.project().future.poll(cx)
    }
}

/// By how much memory grows with each task that `spawn` spawns, of a number that is a multiple of a thousand. A first
/// thousand is spawned before: what a runtime allocates once is none of theirs.
async fn grown(tasks: u64, mut spawn: impl FnMut(u64)) -> f64 {
    assert!(tasks % AT_ONCE == 0 && tasks > 0, "a number of whole thousands");
    let mut before = 0;
    for number in 1..=AT_ONCE + tasks {
        spawn(number);
        if number % AT_ONCE == 0 {
            while BEGUN.get() < number {
                SOME_BEGUN.wait().await;
            }
        }
        if number == AT_ONCE {
            before = resident("self");
        }
    }
    assert_eq!(BEGUN.get(), AT_ONCE + tasks, "each is polled once");
    (resident("self") as f64 - before as f64) / tasks as f64
}

/// Pending for ever, with its waker held ([MEMORY-3]).
fn parked() -> impl Future<Output = ()> + Send {
    poll_fn(|cx| {
        mem::forget(cx.waker().clone());
        Poll::Pending
    })
}

/// How long this one sleeps: each until a moment of its own, in no order.
fn rest(number: u64) -> Duration {
    Duration::from_secs(3_600) + Duration::from_micros(number.wrapping_mul(7_919) % 3_600_000 * 1_000)
}

/// What waits is a service, as a workload that spawns jobs is; the one place is taken.
fn anteroom(state: State, tasks: u64) -> f64 {
    use anteroom::time::sleep;
    use anteroom::{Runtime, spawn, spawn_service, try_spawn};

    let all = (AT_ONCE + tasks) as usize;
    let (places, services) = if state == State::Waiting { (1, all) } else { (all, 0) };
    let runtime = Runtime::builder().max_tasks(places).service_tasks(services).build().unwrap();
    runtime.block_on(async {
        if state == State::Waiting {
            drop(try_spawn(pending::<()>()).unwrap());
        }
        let spawn_one = |number| match state {
            State::Waiting => drop(spawn_service(counted(spawn(pending::<()>()))).unwrap()),
            State::Parked => drop(try_spawn(counted(parked())).unwrap()),
            State::Sleeping => drop(try_spawn(counted(sleep(rest(number)))).unwrap()),
        };
        grown(tasks, spawn_one).await
    })
}

#[cfg(feature = "peers")]
fn tokio(state: State, tasks: u64) -> f64 {
    use tokio::sync::Semaphore;
    use tokio::time::sleep;
    use tokio::{runtime, spawn};

    let none: &Semaphore = Box::leak(Box::new(Semaphore::new(0)));
    let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(grown(tasks, |number| match state {
        State::Waiting => drop(spawn(counted(none.acquire()))),
        State::Parked => drop(spawn(counted(parked()))),
        State::Sleeping => drop(spawn(counted(sleep(rest(number))))),
    }))
}

#[cfg(feature = "peers")]
fn smol(state: State, tasks: u64) -> f64 {
    use async_executor::LocalExecutor;
    use async_lock::Semaphore;
    use smol::Timer;

    let none: &Semaphore = Box::leak(Box::new(Semaphore::new(0)));
    let executor = LocalExecutor::new().leak();
    smol::block_on(executor.run(grown(tasks, |number| match state {
        State::Waiting => executor.spawn(counted(none.acquire())).detach(),
        State::Parked => executor.spawn(counted(parked())).detach(),
        State::Sleeping => executor.spawn(counted(Timer::after(rest(number)))).detach(),
    })))
}

#[cfg(feature = "peers")]
fn monoio_io_uring(state: State, tasks: u64) -> f64 {
    use monoio::{IoUringDriver, RuntimeBuilder};
    let mut runtime = RuntimeBuilder::<IoUringDriver>::new().enable_all().build().unwrap();
    runtime.block_on(monoio(state, tasks))
}

#[cfg(feature = "peers")]
fn monoio_legacy(state: State, tasks: u64) -> f64 {
    use monoio::{LegacyDriver, RuntimeBuilder};
    let mut runtime = RuntimeBuilder::<LegacyDriver>::new().enable_all().build().unwrap();
    runtime.block_on(monoio(state, tasks))
}

/// Its semaphore is local-sync's, by the same authors.
#[cfg(feature = "peers")]
async fn monoio(state: State, tasks: u64) -> f64 {
    use local_sync::semaphore::Semaphore;
    use monoio::spawn;
    use monoio::time::sleep;

    let none: &Semaphore = Box::leak(Box::new(Semaphore::new(0)));
    let spawn_one = |number| match state {
        State::Waiting => drop(spawn(counted(none.acquire()))),
        State::Parked => drop(spawn(counted(parked()))),
        State::Sleeping => drop(spawn(counted(sleep(rest(number))))),
    };
    grown(tasks, spawn_one).await
}

/// It has no semaphore of its own; local-sync's needs no atomics, as it does not.
#[cfg(feature = "peers")]
fn compio(state: State, tasks: u64) -> f64 {
    use compio::runtime::{Runtime, spawn};
    use compio::time::sleep;
    use local_sync::semaphore::Semaphore;

    let none: &Semaphore = Box::leak(Box::new(Semaphore::new(0)));
    Runtime::new().unwrap().block_on(grown(tasks, |number| match state {
        State::Waiting => spawn(counted(none.acquire())).detach(),
        State::Parked => spawn(counted(parked())).detach(),
        State::Sleeping => spawn(counted(sleep(rest(number)))).detach(),
    }))
}

#[cfg(feature = "peers")]
fn glommio(state: State, tasks: u64) -> f64 {
    use glommio::sync::Semaphore;
    use glommio::timer::sleep;
    use glommio::{LocalExecutorBuilder, Placement, spawn_local};

    let none: &Semaphore = Box::leak(Box::new(Semaphore::new(0)));
    let executor = LocalExecutorBuilder::new(Placement::Unbound).make().unwrap();
    executor.run(grown(tasks, |number| match state {
        State::Waiting => drop(spawn_local(counted(none.acquire_permit(1))).detach()),
        State::Parked => drop(spawn_local(counted(parked())).detach()),
        State::Sleeping => drop(spawn_local(counted(sleep(rest(number)))).detach()),
    }))
}
