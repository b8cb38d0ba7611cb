//! What anteroom costs, beside its peers, in one run, on the same work.
//!
//! ```text
//! cargo bench -p benches --features peers --bench report                everything, in tables and pictures; -- --quick: in two minutes
//! cargo bench -p benches                                                anteroom alone
//! cargo bench -p benches --features peers                               beside tokio, smol, monoio, compio and glommio
//! cargo bench -p benches --features peers --bench fanout                one question
//! cargo bench -p benches --features peers --bench compare -- --quick    tasks of one thread and their bars, in two minutes
//! cargo bench -p benches --features peers,stealing --bench stealing     the same for two worker threads
//! cargo run --release -p benches --features peers --bin echo            requests over TCP, beside a bare epoll loop
//! cargo run --release -p benches --features peers --bin memory -- all   what a task takes of memory, in each state
//! ```
//!
//! # Problem
//! Absolute times drift from machine to machine and from minute to minute, and each runtime can be made to look slow by
//! code that its users would not write.
//!
//! # Rules
//! - [FAIR-1] The same work: the futures in `work.rs` serve all runtimes, above all one wake-and-Pending future. A
//!   runtime's own `yield_now` has a row of its own.
//! - [FAIR-2] Each runtime in its own best idiom, from its own file, since a common trait would cost some of them something.
//!   Each file says at its top what it chose and why. What differs between peers in names alone is expanded from one text
//!   (`peer.rs`). What a runtime cannot do is shown as such, with the reason.
//! - [FAIR-3] The workload runs inside a spawned task, not in the future of `block_on`.
//! - [FAIR-4] A runtime is built once a row, with its timers and its I/O on and with what it chooses by itself otherwise, and stays
//!   warm; each measurement is one `block_on` over many operations. Cold runs are a section of their own in the report.
//! - [FAIR-5] All of them on one thread, and measured in one process, with the same allocator and profile. (On two, in
//!   `stealing.rs`, which says what differs.)
//! - [FAIR-6] Each run counts what it did, and a wrong count fails the bench.
//!
//! A figure is a time per operation. What an operation is stands at [`Workload`].
//!
//! # Read next
//! `work.rs`, the work; `runtimes/anteroom.rs`, then `runtimes/peer.rs` and a peer. For the report: `figure.rs`, `program.rs`, `bars.rs`.

mod bars;
mod criteria;
#[cfg(target_os = "linux")]
pub mod echo;
mod figure;
pub mod instructions;
#[cfg(target_os = "linux")]
pub mod memory;
mod program;
pub mod report;
mod row;
mod runtimes;
#[cfg(feature = "stealing")]
pub mod stealing;
mod work;

pub use bars::{Judgement, Verdict, bars_table, judge};
pub use criteria::bench;
pub use figure::{Figure, median_and_spread};
pub use program::{COLD, cold_rows, program};
pub use row::{Elapsed, Row, Workload, process_cpu, thread_cpu};
pub use runtimes::rows;
pub use work::{JOB_BYTES, Turn, take_lateness, turn};
