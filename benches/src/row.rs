//! What is measured, and one runtime's way to do it.

use std::cell::RefCell;
use std::fmt;
use std::time::{Duration, Instant};

/// A question: what does one operation of this cost?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workload {
    /// Spawn a ready task and await it, one after the other. An operation is one task.
    SpawnJoin,
    /// The same, and its future has so many bytes: one of [`Workload::SIZES`].
    SpawnJoinOf(usize),
    /// Spawn so many, then join them all, and again. An operation is one task.
    SpawnBatch(u64),
    /// So many tasks that only yield. An operation is one yield.
    Yield(u64),
    /// So many pairs of tasks that wake each other. An operation is a round trip of one of them.
    PingPong(u64),
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
    /// So many tasks on ten permits, each held over one yield. An operation is an acquisition, the yield and the release.
    Permits(u64),
    /// The same, of a semaphore that never leaves its thread.
    LocalPermits(u64),
    /// A boxed sleep of 30 s, polled once and dropped. An operation is one sleep.
    TimerChurn,
    /// As many tasks as operations, that sleep for up to a second each. An operation is a task and its sleep. Of the processor time
    /// of the whole process, since a runtime may keep its timers on a thread of their own.
    Timers,
    /// Four tasks that sleep for 5 ms, again and again, and note how late they wake. An operation is one sleep.
    LateSparse,
    /// As many tasks as operations, that sleep for up to a second each and note it. An operation is one sleep.
    LateDense,
}

impl Workload {
    /// Sizes of a future: nothing, a cache line, a small handler, a handler, and a large one.
    pub const SIZES: [usize; 5] = [0, 64, 200, 500, 1_500];

    /// The workloads that have one figure each, in the order of the table.
    pub const ALL: [Workload; 19] = [
        Workload::SpawnJoin,
        Workload::SpawnJoinOf(0),
        Workload::SpawnJoinOf(64),
        Workload::SpawnJoinOf(200),
        Workload::SpawnJoinOf(500),
        Workload::SpawnJoinOf(1_500),
        Workload::SpawnBatch(100_000),
        Workload::Yield(100),
        Workload::PingPong(1),
        Workload::Chained,
        Workload::Fanout { limit: 1_000, spawners: 1 },
        Workload::Fanout { limit: 10, spawners: 1 },
        Workload::Fanout { limit: 1, spawners: 1 },
        Workload::Fanout { limit: 1_000, spawners: 2_000 },
        Workload::Permit,
        Workload::Permits(1_000),
        Workload::LocalPermits(1_000),
        Workload::TimerChurn,
        Workload::Timers,
    ];

    /// How many operations a run takes that is worth timing: 5 to 100 ms on the slower runtimes.
    pub fn operations(self) -> u64 {
        match self {
            Workload::Yield(_) => 200_000,
            Workload::LateSparse | Workload::LateDense => 5_000,
            _ => 100_000,
        }
    }

    /// The million of the bars, where it differs from 100,000: where tasks pile up, and where a task is little work.
    pub fn many_operations(self) -> u64 {
        match self {
            Workload::Yield(_) | Workload::Fanout { limit: 1_000, spawners: 1 } => 1_000_000,
            _ => self.operations(),
        }
    }

    /// Of the two processor times, the one that all of its work is in.
    pub fn cpu(self, elapsed: Elapsed) -> Duration {
        if matches!(self, Workload::TimerChurn | Workload::Timers) {
            elapsed.process_cpu
        } else {
            elapsed.cpu
        }
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Workload::SpawnJoin => f.write_str("spawn_join"),
            Workload::SpawnJoinOf(bytes) => write!(f, "spawn_join of {bytes} bytes"),
            Workload::SpawnBatch(100_000) => f.write_str("spawn_batch"),
            Workload::SpawnBatch(tasks) => write!(f, "spawn_batch of {tasks}"),
            Workload::Yield(100) => f.write_str("yield"),
            Workload::Yield(tasks) => write!(f, "yield, {tasks} tasks"),
            Workload::PingPong(1) => f.write_str("ping_pong"),
            Workload::PingPong(pairs) => write!(f, "ping_pong, {pairs} pairs"),
            Workload::Chained => f.write_str("chained"),
            Workload::Fanout { limit, spawners: 1 } => write!(f, "fanout {limit}"),
            Workload::Fanout { limit, spawners } => write!(f, "fanout {limit} from {spawners}"),
            Workload::Permit => f.write_str("semaphore, one task"),
            Workload::Permits(tasks) => write!(f, "semaphore, {tasks} tasks"),
            Workload::LocalPermits(tasks) => write!(f, "semaphore of one thread, {tasks} tasks"),
            Workload::TimerChurn => f.write_str("timer_churn"),
            Workload::Timers => f.write_str("timers"),
            Workload::LateSparse => f.write_str("timer_late, sparse"),
            Workload::LateDense => f.write_str("timer_late, dense"),
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

/// One runtime's way to do a workload, or why it has none.
pub struct Row {
    name: String,
    run: Result<Box<dyn Fn(u64) -> u64>, &'static str>,
}

impl Row {
    /// `run` does so many operations, and gives how many it has seen done. The runtime is built by the first run and stays.
    pub(crate) fn new<R: 'static>(
        name: impl Into<String>,
        build: impl Fn() -> R + 'static,
        run: impl Fn(&mut R, u64) -> u64 + 'static,
    ) -> Self {
        let runtime = RefCell::new(None);
        let run = move |operations| run(runtime.borrow_mut().get_or_insert_with(&build), operations);
        Self { name: name.into(), run: Ok(Box::new(run)) }
    }

    /// There is no way to do it.
    #[cfg_attr(not(feature = "peers"), allow(dead_code, reason = "peers alone lack anything"))]
    pub(crate) fn cannot(name: impl Into<String>, reason: &'static str) -> Self {
        Self { name: name.into(), run: Err(reason) }
    }

    /// The runtime, and its idiom where it has several.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Why this runtime cannot do it, if so.
    pub fn obstacle(&self) -> Option<&'static str> {
        self.run.as_ref().err().copied()
    }

    /// What `operations` took.
    ///
    /// # Panics
    /// If not all of them were done: a bench of work that was not done is worth nothing ([FAIR-6]).
    pub fn run(&self, operations: u64) -> Elapsed {
        let run = self.run.as_ref().expect("a row that can be run");
        let (wall, process, thread) = (Instant::now(), process_cpu(), thread_cpu());
        let done = run(operations);
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
