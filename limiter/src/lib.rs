//! Permits and limits for any async runtime.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod ledger;

pub use ledger::{Key, Ledger, Refusal};
