//! Permits and limits for any async runtime: at most so many at once, first in, first out, resizable.
//!
//! # Who it is for
//!
//! Whoever must bound what an async program does at once: connections, requests to one host, bytes of memory. It needs
//! no runtime, no clock and no unsafe code, and two small dependencies. It is also the part of the anteroom runtime that
//! decides who gets in.
//!
//! ```
//! use std::sync::Arc;
//! use anteroom_limiter::{AcquireError, Semaphore};
//! # use std::pin::pin;
//! # use std::task::{Context, Poll, Waker};
//! # fn block_on<T>(future: impl Future<Output = T>) -> T {
//! #     match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
//! #         Poll::Ready(output) => output,
//! #         Poll::Pending => unreachable!("there is room"),
//! #     }
//! # }
//! # async fn download(page: u32) -> usize { page as usize }
//!
//! async fn fetch(downloads: Arc<Semaphore>, page: u32) -> Result<usize, AcquireError> {
//!     let _permit = downloads.acquire().await?; // waits its turn; given back when it is dropped
//!     Ok(download(page).await)
//! }
//!
//! let downloads = Arc::new(Semaphore::new(8));
//! assert_eq!(block_on(fetch(Arc::clone(&downloads), 7)), Ok(7));
//!
//! downloads.set_limit(2).unwrap(); // up or down, at any time
//! downloads.close(); // and at the end, everybody is told
//! assert_eq!(block_on(fetch(downloads, 8)), Err(AcquireError::Closed));
//! ```
//!
//! # Which limit for what
//!
//! A semaphore is for what there are so many of. Rates, memory, a share for each client, several at once, and how long to wait
//! are limits of their own here, and [`guide`] says which is for what, with which number, and what it costs.
//!
//! # What it promises
//!
//! - **No barging.** Waiters are served in the order in which they came, each with all it asked for. A large request
//!   waits for its turn, and then for all its units, but never for ever while others pass. (Who was in before goes first:
//!   [`Permit::suspend`] says what that means.)
//! - **Nothing is lost.** A future may be dropped at any point. Units it was granted and did not collect go on to the next.
//! - **Nothing is invented.** Units come back through [`Permit`]s only. To release too many cannot be written.
//! - **Resizing is exact.** The limit may fall below what is in use. The debt is paid before anything is granted.
//! - **Strangers do no harm.** A waker may come back into the semaphore when it is woken, cloned or dropped, and it may
//!   panic: nobody deadlocks, and everybody else is still served.
//! - **Cheap.** With room and nobody waiting, acquire and release are two locked instructions, no lock, no allocation.
//!
//! # The map
//!
//! Read in this order; each file needs only those before it.
//!
//! | file | what it owns |
//! |---|---|
//! | [`ledger`] | the permit logic: limit, in use, who waits. Plain data |
//! | `word` | the bits of the one atomic word, and what the fast path may do to them. Pure |
//! | `wake` | wakers on their way from under the lock to where they may be called |
//! | `gate` | the protocol: the word in front of the ledger in a lock |
//! | `acquire` | the future that stands in the queue |
//! | `permit` | the proof that units were granted |
//! | `suspend` | a permit that is lent to others while its holder waits |
//! | `patience` | waiting until a time, or with the whole thread |
//! | `timer` | where the time comes from, for those who must sleep |
//! | `semaphore` | the public face |
//! | `local` | the same semaphore for one thread: the ledger in a cell |
//! | `rate` | so many in so much time: the arithmetic that keeps it, pure; below it `limit`, one atomic word that is shared, `window`, `keyed`, and `paced`, a place and a rate in one permit |
//! | `memory` | a budget of bytes, measured; in its folder the decision (`control`), the estimate, the system (`cgroup`, `gauge`) |
//! | `keyed` | a limit for each key, which is forgotten when nobody uses it |
//! | `all` | several semaphores at once, in an order that cannot deadlock |
//! | `tree` | limits below limits |
//! | `admit` | futures that run under a permit: bounded spawning for any runtime |
//! | `models` | the protocol as loom explores it, and the bugs that it must find |
//! | `sync` | std or loom, chosen once |
//!
//! [`Ledger`] is public for whoever has another shell to put around it: a runtime that keeps it in a cell of its own
//! thread needs neither the word nor the lock. It counts in several dimensions at once, and its waiters are whatever
//! its shell likes.

#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod acquire;
mod admit;
mod all;
mod error;
mod gate;
pub mod guide;
mod keyed;
pub mod ledger;
mod local;
mod memory;
#[cfg(all(test, anteroom_loom))]
mod models;
mod patience;
mod permit;
mod rate;
mod semaphore;
mod suspend;
mod sync;
mod timer;
mod tree;
mod wake;
mod word;

pub use acquire::Acquire;
pub use admit::{Admit, AdmitError, Admitted};
pub use all::{All, AllAcquire, AllPermit, Request, Requests};
pub use error::{AcquireError, LimitError, TryAcquireError};
pub use keyed::{Keyed, KeyedAcquire, KeyedError, KeyedPermit, TryKeyedError};
pub use ledger::{Key, Ledger, Refusal};
pub use local::{LocalAcquire, LocalPermit, LocalSemaphore};
pub use memory::{
    BudgetError, CgroupError, MemoryAcquire, MemoryBudget, MemoryBuilder, MemoryGauge, MemoryPermit,
    MemorySnapshot, MemoryState, Pressure, Stall, task_bytes,
};
pub use permit::{MergeError, OwnedPermit, Permit};
pub use rate::keyed::{KeyedRate, KeyedRateError};
pub use rate::limit::{CheckManyError, RateLimit, ReserveError, Slot};
pub use rate::paced::{Paced, PacedError, TryPacedError};
pub use rate::window::SlidingWindow;
pub use rate::{NotYet, Rate, RateError};
pub use semaphore::{Semaphore, Snapshot};
pub use timer::Timer;
pub use tree::{ChildError, Limiter, LimiterAcquire, LimiterPermit};
