//! What does a task cost that spawns the next one and ends, 100,000 deep?
//!
//! Expected: 13 ns a task with `try_spawn`, at most a tenth of tokio: one header and one block are used again and again.
//! With `spawn`, which may wait, the recursion needs a box, which is the allocator's price and no runtime's.
//!
//! The rules are in the crate's documentation.

use benches::{Workload, bench};

fn main() {
    bench(&[Workload::Chained]);
}
