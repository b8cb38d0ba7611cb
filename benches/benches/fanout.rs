//! What does a job cost when 100,000 go through a limit, a task each, and each holds 256 bytes over one yield?
//!
//! Expected: 65 ns a job at a limit of 1,000, of which 27 are its 256 bytes: at most a sixth of tokio with the permit before
//! the spawn, and of `buffer_unordered`, which spawns nothing, a 2.5th; no more than workers that spawn nothing a job
//! either. The same at limits of 10 and 1, and from 2,000 spawners at once, since a place is handed on by the task that
//! ends, whoever waits.
//!
//! The rules are in the crate's documentation.

use benches::{Workload, bench};

fn main() {
    bench(&[
        Workload::Fanout { limit: 1_000, spawners: 1 },
        Workload::Fanout { limit: 10, spawners: 1 },
        Workload::Fanout { limit: 1, spawners: 1 },
        Workload::Fanout { limit: 1_000, spawners: 2_000 },
    ]);
}
