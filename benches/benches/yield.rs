//! What does a turn cost: a task wakes itself, is pending, and comes again after 99 others?
//!
//! Expected: 8 ns a yield, at most a sixth of tokio: a wake is a check of the owner and a push to an intrusive queue, the
//! waker is not counted, and no instruction is locked. One future serves all runtimes; each one's own `yield_now` has a row
//! of its own, and anteroom's costs the same.
//!
//! The rules are in the crate's documentation.

use benches::{Workload, bench};

fn main() {
    bench(&[Workload::Yield(100)]);
}
