//! What is measured, and one runtime's way to do it.

use std::fmt;
use std::time::{Duration, Instant};

/// A question: what does one operation of this cost?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workload {
    /// Spawn a ready task and await it, one after the other. An operation is one task.
    SpawnJoin,
    /// Spawn all, then join all. An operation is one task.
    SpawnBatch,
    /// A hundred tasks that only yield. An operation is one yield.
    Yield,
    /// Two tasks that wake each other. An operation is a round trip.
    PingPong,
    /// Each task spawns the next and ends. An operation is one task.
    Chained,
    /// Many jobs, at most `limit` of them at once, each of which holds 256 bytes over one yield. An operation is one job.
    Fanout {
        /// How many jobs are live at most.
        limit: usize,
        /// How many tasks share the jobs among them and spawn at the same time.
        spawners: usize,
    },
    /// A task that takes a permit and gives it back, alone. An operation is both.
    Permit,
    /// A thousand tasks on ten permits, each held over one yield. An operation is an acquisition, the yield and the release.
    Permits,
    /// The same, of a semaphore that never leaves its thread.
    LocalPermits,
}

impl Workload {
    /// Every workload, in the order of the table.
    pub const ALL: [Workload; 12] = [
        Workload::SpawnJoin,
        Workload::SpawnBatch,
        Workload::Yield,
        Workload::PingPong,
        Workload::Chained,
        Workload::Fanout { limit: 1_000, spawners: 1 },
        Workload::Fanout { limit: 10, spawners: 1 },
        Workload::Fanout { limit: 1, spawners: 1 },
        Workload::Fanout { limit: 1_000, spawners: 2_000 },
        Workload::Permit,
        Workload::Permits,
        Workload::LocalPermits,
    ];

    /// How many operations a run takes that is worth timing: 5 to 100 ms on the slower runtimes.
    pub fn operations(self) -> u64 {
        match self {
            Workload::Yield => 200_000,
            _ => 100_000,
        }
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Workload::SpawnJoin => f.write_str("spawn_join"),
            Workload::SpawnBatch => f.write_str("spawn_batch"),
            Workload::Yield => f.write_str("yield"),
            Workload::PingPong => f.write_str("ping_pong"),
            Workload::Chained => f.write_str("chained"),
            Workload::Fanout { limit, spawners: 1 } => write!(f, "fanout {limit}"),
            Workload::Fanout { limit, spawners } => write!(f, "fanout {limit} from {spawners}"),
            Workload::Permit => f.write_str("semaphore, one task"),
            Workload::Permits => f.write_str("semaphore, 1000 tasks"),
            Workload::LocalPermits => f.write_str("semaphore of one thread, 1000 tasks"),
        }
    }
}

/// What a run took.
#[derive(Clone, Copy, Debug)]
pub struct Elapsed {
    /// By the clock on the wall.
    pub wall: Duration,
    /// Of the processor, by this thread, which does all the work. Without what other programs took meanwhile.
    pub cpu: Duration,
    /// Of the processor, by all threads of this process: for runtimes that have several.
    pub process_cpu: Duration,
}

/// The processor time that this thread has used.
#[cfg(unix)]
pub fn thread_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.try_into().expect("the time that a thread has used is not negative")
}

/// The processor time that all threads of this process have used.
#[cfg(unix)]
pub fn process_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.try_into().expect("the time that a process has used is not negative")
}

/// Elsewhere the clock on the wall must do.
#[cfg(not(unix))]
pub fn thread_cpu() -> Duration {
    use std::sync::LazyLock;
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    START.elapsed()
}

/// As [`thread_cpu`].
#[cfg(not(unix))]
pub fn process_cpu() -> Duration {
    thread_cpu()
}

/// One runtime's way to do a workload, with the runtime built and warm.
pub struct Row {
    name: &'static str,
    run: Box<dyn Fn(u64) -> u64>,
}

impl Row {
    /// `run` does so many operations, and gives how many it has seen done.
    pub(crate) fn new(name: &'static str, run: impl Fn(u64) -> u64 + 'static) -> Self {
        Self { name, run: Box::new(run) }
    }

    /// The runtime, and its idiom where it has several.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// What `operations` took.
    ///
    /// # Panics
    /// If not all of them were done: a bench of work that was not done is worth nothing ([FAIR-6]).
    pub fn run(&self, operations: u64) -> Elapsed {
        let (wall, process, thread) = (Instant::now(), process_cpu(), thread_cpu());
        let done = (self.run)(operations);
        let elapsed = Elapsed {
            cpu: thread_cpu() - thread,
            process_cpu: process_cpu() - process,
            wall: wall.elapsed(),
        };
        assert_eq!(done, operations, "{}: operations done, and asked for", self.name);
        elapsed
    }
}

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Row").field(&self.name).finish()
    }
}
