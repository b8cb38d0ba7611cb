//! What a runtime counts.

use crate::admission::Counts;

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
    /// Headers in use, 64 bytes each: live tasks, finished ones whose handle is kept, and the future of `block_on`.
    pub headers: usize,
    /// Free memory that is kept for the next futures, in bytes.
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
            ..Metrics::default()
        }
    }
}
