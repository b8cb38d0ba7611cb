//! What does a permit cost: alone, and in a crowd of a thousand tasks on ten permits?
//!
//! Expected alone: two locked instructions, 1.8 times as fast as tokio's. In a crowd each operation is a wait in line: three
//! locks, two wakes (one of them the yield) and two polls; of one thread, the same without the locks.
//!
//! The rules are in the crate's documentation.

use benches::{Workload, bench};

fn main() {
    bench(&[Workload::Permit, Workload::Permits(1_000), Workload::LocalPermits(1_000)]);
}
