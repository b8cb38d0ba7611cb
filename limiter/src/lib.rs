//! Permits and limits for any async runtime.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod acquire;
mod error;
mod gate;
pub mod ledger;
#[cfg(all(test, anteroom_loom))]
mod models;
mod permit;
mod semaphore;
mod sync;
mod wake;
mod word;

pub use acquire::Acquire;
pub use error::{AcquireError, LimitError, TryAcquireError};
pub use ledger::{Key, Ledger, Refusal};
pub use permit::{MergeError, OwnedPermit, Permit};
pub use semaphore::{Semaphore, Snapshot};
