//! An async runtime in which spawning is bounded.
//!
//! A task over the limit waits in the *anteroom*: its future stays where its spawner built it, in the spawner's own frame,
//! and nothing is allocated for it until there is room.
//!
//! ```
//! let runtime = anteroom::Runtime::builder().max_tasks(100).build().unwrap();
//! runtime.block_on(async {
//!     for page in 0..10_000_u32 {
//!         // Waits here while a hundred are live.
//!         anteroom::spawn(async move {
//!             anteroom::yield_now().await; // fetch, parse, store
//!             page
//!         })
//!         .await
//!         .unwrap();
//!     }
//!     assert_eq!(anteroom::metrics().tasks_live_peak, 100);
//! });
//! ```
//!
//! # Features
//! `futures-core`: [`AsCompleted`] implements the `Stream` of the crate `futures-core`. Off by default.
//!
//! `futures-io`: [`net::TcpStream`], `&TcpStream` and the halves of [`net::TcpStream::into_split`] implement the `AsyncRead`
//! and `AsyncWrite` of the crate `futures-io`. Off by default.
//!
//! `stealing`: `StealingRuntime`, built by `Builder::build_stealing`: the tasks of one runtime on several threads, under the same
//! bounds, for all of them together, and with the same functions. Off by default.
//!
//! # Reading order
//! 1. `task/`: the life of a task. `mod.rs` tells who may touch what, `state.rs` is its protocol as one pure function,
//!    `waiter.rs` how a future leaves its spawner's frame. With several threads: `team.rs`, who may touch the rest, and
//!    `shared.rs`, the same protocol under compare-and-swap.
//! 2. `admission/`: who gets in; `lending.rs`, who runs in another's place. The permit logic itself is the crate `anteroom-limiter`.
//! 3. `scheduler/local.rs`: the whole loop on one page; `inbox.rs`: how other threads reach it; `stealing.rs`: the same loop for
//!    several threads, with `ring.rs` and `idle.rs`.
//! 4. `driver/`: one turn of timers and sockets.
//! 5. `time/`, `net/`, `blocking.rs`: what futures can wait for.
//! 6. `spawn/`: the front door; `group/`: tasks that belong together. `handle.rs`: the same from other threads, over
//!    `task/desk.rs`.
//! 7. `gather.rs`: many futures in one task, which needs nothing of the above.
//! 8. `holders.rs`, `metrics.rs`, `worst.rs`: what a runtime tells of itself.
//! 9. `runtime.rs`: the wiring.
//!
//! `cancel.rs` stands apart: how tasks are asked to end, in this runtime or any other.
//!
//! Each file imports only from those before it, which a test checks.

// Under loom only what the models are about is built: mio and the blocking pool talk to the system, not to loom. Under shuttle
// all is built, and `models/shuttles` runs what does not talk to the system.
#![cfg_attr(anteroom_loom, allow(dead_code))]

mod admission;
#[cfg(not(anteroom_loom))]
mod blocking;
#[cfg(not(anteroom_loom))]
mod bytes;
mod cancel;
#[cfg(not(anteroom_loom))]
mod clock;
#[cfg(not(anteroom_loom))]
mod driver;
mod gather;
#[cfg(not(anteroom_loom))]
mod group;
#[cfg(not(anteroom_loom))]
mod handle;
#[cfg(not(anteroom_loom))]
mod holders;
#[cfg(doc)]
pub mod lessons;
#[cfg(not(anteroom_loom))]
mod metrics;
#[cfg(all(test, anteroom_loom))]
mod models;
#[cfg(not(anteroom_loom))]
pub mod net;
#[cfg(not(anteroom_loom))]
mod runtime;
mod scheduler;
#[cfg(all(test, anteroom_shuttle, feature = "stealing"))]
#[path = "models/shuttles/mod.rs"]
mod shuttles;
mod spawn;
mod sync;
mod task;
#[cfg(not(anteroom_loom))]
pub mod time;
#[cfg(not(anteroom_loom))]
mod wait;
#[cfg(not(anteroom_loom))]
mod worst;
mod yield_now;

/// The crate `anteroom-limiter`, in the version whose [`Timer`](limiter::Timer) is that of [`time::Timer`]: permits and limits
/// that need no runtime.
///
/// ```
/// use anteroom::limiter::Semaphore;
/// anteroom::block_on(async {
///     let downloads = Semaphore::new(8);
///     let _permit = downloads.acquire().await.unwrap();
/// });
/// ```
#[doc(no_inline)]
pub use anteroom_limiter as limiter;
#[cfg(not(anteroom_loom))]
pub use blocking::{Blocking, TrySpawnBlockingError, spawn_blocking, try_spawn_blocking};
pub use cancel::{CancelGuard, CancellationToken, Cancelled, RunUntil};
pub use gather::{AsCompleted, GATHER_LIMIT, Gather, TryGather, as_completed, gather, try_gather};
#[cfg(not(anteroom_loom))]
pub use group::{GroupHandle, GroupSpawn, GroupSpawnLocal, TaskGroup};
#[cfg(not(anteroom_loom))]
pub use handle::{Ask, AskError, Drain, Handle};
#[cfg(not(anteroom_loom))]
pub use holders::{Holder, Holders, Waiters, Waiting, holders, waiters};
#[cfg(not(anteroom_loom))]
pub use metrics::{LongPolls, Metrics, long_polls, metrics};
#[cfg(all(feature = "stealing", not(anteroom_loom)))]
pub use runtime::stealing::StealingRuntime;
#[cfg(not(anteroom_loom))]
pub use runtime::{Builder, Runtime, block_on};
#[cfg(not(anteroom_loom))]
pub use spawn::Within;
pub use spawn::{
    Join, Reservation, Reserve, Spawn, SpawnError, SpawnLocal, SpawnTimeoutError, SpawnWith, TrySpawnError,
    reserve, spawn, spawn_local, spawn_service, spawn_with, try_spawn,
};
pub use task::{JoinError, JoinHandle, TaskId, WaitsFor};
#[cfg(not(anteroom_loom))]
pub use worst::{Part, WorstCase};
pub use yield_now::{YieldNow, yield_now};
