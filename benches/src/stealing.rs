//! The work-stealing mode beside its peers, each on two worker threads.
//!
//! # Problem
//! With several threads neither clock alone is honest: by the wall, a runtime may win by keeping a second core awake for
//! nothing; by processor time, it may win by leaving it idle.
//!
//! # Rules
//! Those of the crate's documentation, but for what several threads change:
//!
//! - [FAIR-1] The same work. The jobs of the fanout are the same as ever, but each thread counts those that it did.
//! - [FAIR-2] Two workers for each. tokio's `multi_thread`, with all that is on by itself; smol's executor, leaked and so without
//!   the list of its tasks, run by two threads in smol's own `block_on`, which is what `smol::spawn` starts with
//!   `SMOL_THREADS=2`. ours: `build_stealing(2)`.
//! - [FAIR-3] The workload runs in a spawned task, on a worker. The thread that asked for it sleeps meanwhile.
//! - [FAIR-4] As ever: built once a row, by its first run, with timers and I/O on, and warm.
//! - [FAIR-5] In one process. Runtimes that wait for their turn are idle, which the bench checks: a second of all of
//!   them must cost next to nothing, or that would be in everybody's processor time.
//! - [FAIR-6] As ever: a wrong count fails the bench.
//! - [FAIR-7] Both times of each row are told, by the clock on the wall and of the processor over all threads. A bar is of one of
//!   them, and says which.
//!
//! # Read next
//! `benches/stealing.rs`, the table; `stealing/anteroom.rs`, then a peer beside it.

mod anteroom;
#[cfg(feature = "peers")]
mod smol;
#[cfg(feature = "peers")]
mod tokio;

use std::fmt;

use crate::Row;

/// How many threads run tasks.
pub const WORKERS: usize = 2;

/// How many tasks yield.
const YIELDERS: u64 = 100;

/// How many tasks wait for permits.
const ACQUIRERS: u64 = 1_000;

/// How many pairs play at once.
const PAIRS: u64 = 100;

/// How many jobs are live at most.
const LIMIT: usize = 1_000;

/// A question: what does one operation of this cost on two workers? The same questions as of [`Workload`](crate::Workload),
/// unless something else is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workload {
    /// Spawn a ready task and await it, one after the other.
    SpawnJoin,
    /// Spawn all, then join all.
    SpawnBatch,
    /// A hundred tasks that only yield.
    Yield,
    /// Two tasks that wake each other.
    PingPong,
    /// A hundred such pairs. An operation is one round trip of one of them.
    PingPongs,
    /// Each task spawns the next and ends.
    Chained,
    /// Many jobs, at most a thousand at once, each of which holds 256 bytes over one yield.
    Fanout,
    /// A thousand tasks on ten permits, each held over one yield.
    Permits,
    /// As many tasks as operations, that sleep for up to a second each. An operation is a task and its sleep.
    Timers,
}

impl Workload {
    /// Every workload, in the order of the table.
    pub const ALL: [Workload; 9] = [
        Workload::SpawnJoin,
        Workload::SpawnBatch,
        Workload::Yield,
        Workload::PingPong,
        Workload::PingPongs,
        Workload::Chained,
        Workload::Fanout,
        Workload::Permits,
        Workload::Timers,
    ];

    /// How many operations a run takes.
    pub fn operations(self, is_quick: bool) -> u64 {
        match self {
            Workload::Yield | Workload::Fanout if !is_quick => 1_000_000,
            Workload::Yield => 200_000,
            _ => 100_000,
        }
    }

    /// Which of the two times its bar is of.
    pub fn is_of_cpu(self) -> bool {
        self == Workload::Timers
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Workload::SpawnJoin => "spawn_join",
            Workload::SpawnBatch => "spawn_batch",
            Workload::Yield => "yield",
            Workload::PingPong => "ping_pong",
            Workload::PingPongs => "ping_pong_100",
            Workload::Chained => "chained",
            Workload::Fanout => "fanout",
            Workload::Permits => "semaphore",
            Workload::Timers => "timers",
        })
    }
}

/// The rows of a workload, anteroom's first.
pub fn rows(workload: Workload) -> Vec<Row> {
    #[allow(unused_mut, reason = "without the peers there is nothing to add")]
    let mut rows = anteroom::rows(workload);
    #[cfg(feature = "peers")]
    {
        rows.extend(tokio::rows(workload));
        rows.extend(smol::rows(workload));
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    /// [FAIR-6]
    #[test]
    fn each_row_does_as_much_as_it_was_asked_to() {
        for workload in Workload::ALL {
            for row in rows(workload) {
                for operations in [1_000, 5_000] {
                    row.run(operations);
                }
            }
        }
    }
}
