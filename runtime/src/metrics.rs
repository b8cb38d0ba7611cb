//! What a runtime counts.

use std::panic::Location;
use std::time::Duration;

use crate::admission::{self, Admission, Counts};
use crate::blocking::{self, Pool};
use crate::driver::{self, Driver};
use crate::scheduler::watch::Watch;
use crate::task::{self, Home, Local};

/// A look at a runtime's counts.
///
/// ```
/// anteroom::block_on(async {
///     let metrics = anteroom::metrics();
///     assert_eq!((metrics.tasks_live, metrics.tasks_max), (0, 4_096));
/// });
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metrics {
    /// Tasks that may be live at once.
    pub tasks_max: usize,
    /// Tasks that are live now, services not counted.
    pub tasks_live: usize,
    /// The most that were ever live at once.
    pub tasks_live_peak: usize,
    /// Bytes of the live tasks' futures.
    pub task_bytes: usize,
    /// Services that may be live at once.
    pub services_max: usize,
    /// Services that are live now.
    pub services_live: usize,
    /// Spawners that wait for a place now.
    pub waiting: usize,
    /// The most that ever waited at once.
    pub waiting_peak: usize,
    /// Children that run in their spawner's place now, since there was no other.
    pub in_place: usize,
    /// Headers in use, 64 bytes each: live tasks, finished ones whose handle is kept, and the future of `block_on`.
    pub headers: usize,
    /// Headers that take memory, in use or not; those beyond go back to the system before a long wait.
    pub headers_resident: usize,
    /// Free memory that is kept for the next futures, in bytes; where there are several workers, by the thread that asks.
    pub cache_bytes: usize,
    /// Timers that wait.
    pub timers: usize,
    /// Sockets that are open.
    pub io_sources: usize,
    /// Blocking jobs that run or wait.
    pub blocking_jobs: usize,
    /// Threads for blocking jobs.
    pub blocking_threads: usize,
}

impl From<Counts> for Metrics {
    fn from(counts: Counts) -> Self {
        let Counts {
            tasks_max,
            tasks_live,
            tasks_live_peak,
            task_bytes,
            services_max,
            services_live,
            waiting,
            waiting_peak,
            in_place,
            reserved: _,
        } = counts;
        Metrics {
            tasks_max,
            tasks_live,
            tasks_live_peak,
            task_bytes,
            services_max,
            services_live,
            waiting,
            waiting_peak,
            in_place,
            ..Metrics::default()
        }
    }
}

pub(crate) fn gather(
    admission: &Admission,
    (home, local): (&'static Home, &Local),
    driver: &Driver,
    pool: &Pool,
) -> Metrics {
    local.table.take_returned(home);
    let (timers, io_sources) = driver.counts();
    let (blocking_jobs, blocking_threads) = pool.counts();
    Metrics {
        headers: local.table.taken(),
        headers_resident: local.table.resident(),
        cache_bytes: home.cache(local).bytes(),
        timers,
        io_sources,
        blocking_jobs,
        blocking_threads,
        ..Metrics::from(admission.counts())
    }
}

/// What the runtime that this thread is inside of counts.
///
/// ```
/// anteroom::block_on(async {
///     let task = anteroom::spawn(anteroom::yield_now()).await.unwrap();
///     assert_eq!(anteroom::metrics().tasks_live, 1);
///     task.await.unwrap();
/// });
/// ```
///
/// # Panics
/// Outside a runtime.
pub fn metrics() -> Metrics {
    let _inside = task::enter();
    let found = match (task::current(), admission::current(), blocking::current()) {
        (Some(at), Some(admission), Some(pool)) => {
            driver::with(|driver| gather(admission, at, driver, &pool))
        }
        _ => None,
    };
    found.expect("anteroom::metrics was called outside a runtime: call it inside Runtime::block_on")
}

/// Polls of tasks from one place that took longer than `Builder::long_polls` says.
///
/// ```
/// anteroom::block_on(async {
///     assert!(anteroom::long_polls().is_empty()); // it was not asked for
/// });
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct LongPolls {
    /// Where the tasks were spawned, or where `block_on` was called.
    pub site: Option<&'static Location<'static>>,
    /// How many polls were too long.
    pub polls: u64,
    /// How long the longest was.
    pub longest: Duration,
}

/// The polls that took longer than `Builder::long_polls` says, by where their tasks were spawned, the longest first.
///
/// ```
/// use std::time::Duration;
/// let runtime = anteroom::Runtime::builder().long_polls(Duration::from_millis(100)).build().unwrap();
/// runtime.block_on(async {
///     anteroom::yield_now().await;
///     assert!(anteroom::long_polls().is_empty());
/// });
/// ```
///
/// # Panics
/// Outside a runtime.
pub fn long_polls() -> Vec<LongPolls> {
    let _inside = task::enter();
    let Some((_, local)) = task::current() else {
        panic!(
            "anteroom::long_polls was called outside a runtime: call it inside Runtime::block_on, or by a Handle"
        )
    };
    let counted = Watch::of(local).counted().into_iter();
    counted
        .map(|counted| LongPolls {
            site: counted.site,
            polls: counted.polls,
            longest: Duration::from_nanos(counted.longest_ns),
        })
        .collect()
}
