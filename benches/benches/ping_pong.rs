//! What does a round trip cost between two tasks that wake each other through the futures' own `AtomicWaker`?
//!
//! Expected: 85 ns a round trip, at most half of tokio. Some 50 ns are the eight locked instructions of two `AtomicWaker`s,
//! the same for all; ours adds two wakes and two polls.
//!
//! The rules are in the crate's documentation.

use benches::{Workload, bench};

fn main() {
    bench(&[Workload::PingPong(1)]);
}
