//! What does a task cost that is ready at its first poll: spawn it, await it, one after the other?
//!
//! Expected: 33 ns a task, of which 18 are what a runtime needs beyond a bare executor: the owner check, the panic guard,
//! the ledger. At most an eighth of tokio, whose task is an allocation with reference counts and atomic transitions; a
//! tenth is the goal. `spawn(f).join()` costs the same as two awaits.
//!
//! The rules are in the crate's documentation.

use benches::{Workload, bench};

fn main() {
    bench(&[Workload::SpawnJoin]);
}
