//! What does a task cost when 100,000 are spawned before any is joined?
//!
//! Expected: 26 ns a task, less than one after the other, since no joiner waits: at most a tenth of tokio, and monoio / 2.5.
//! What is left is memory: headers from 1 MiB arenas, used in the order in which they lie.
//!
//! The rules are in the crate's documentation.

use benches::{Workload, bench};

fn main() {
    bench(&[Workload::SpawnBatch(100_000)]);
}
