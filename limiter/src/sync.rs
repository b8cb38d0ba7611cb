//! The one switch between std's primitives and loom's.
//!
//! # Problem
//!
//! A model checker sees only what goes through its own types. One atomic taken from std by mistake, and it explores a
//! program that is not ours.
//!
//! # Idea
//!
//! Every shared word and every lock of this crate comes from here; clippy refuses them from anywhere else. The cfg is
//! `anteroom_loom`, not `loom`, because the latter would reach into dependencies.
//!
//! `Arc` stays std's: its count takes part in no protocol of ours, and loom's cannot be a `self` receiver.
//!
//! # Read next
//!
//! [`crate::gate`], the only file that has a protocol to check.

#[cfg(anteroom_loom)]
mod imp {
    pub(crate) use loom::sync::{Mutex, MutexGuard, atomic::AtomicU64};
}

#[cfg(not(anteroom_loom))]
mod imp {
    pub(crate) use std::sync::{Mutex, MutexGuard};
    // An alias, not a re-export: clippy follows a re-export to std, and would refuse it to everyone else too.
    #[allow(clippy::disallowed_types, reason = "this is the file that the lint points to")]
    pub(crate) type AtomicU64 = std::sync::atomic::AtomicU64;
}

use std::sync::PoisonError;
pub(crate) use std::sync::atomic::Ordering; // loom's is std's.

pub(crate) use imp::{AtomicU64, Mutex, MutexGuard};

/// Locks, whether or not a holder has panicked: no user code runs under a lock of this crate, so the data is whole.
#[inline]
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
