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
    use loom::sync::atomic::AtomicU64 as Word;
    pub(crate) use loom::sync::{Mutex, MutexGuard};

    use super::Ordering;

    /// loom's `AtomicU64`, in one of two modes, because neither shows all that can happen.
    ///
    /// To decide which schedules to try, loom 0.7 compares a store with the last access to the same word, whoever made it.
    /// If that was this thread's own load, as in every compare-and-swap loop, the loads that others made before it are
    /// forgotten, and whole families of schedules are never tried. A load that is a read-modify-write hides nothing. But
    /// it always sees the newest value, and loads that see an older one are what a weak memory is about.
    pub(crate) struct AtomicU64 {
        word: Word,
        loads: Loads,
    }

    /// What a load is.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum Loads {
        /// A load: it may see an older value, and loom does not try every schedule.
        MayBeStale,
        /// A read-modify-write that changes nothing: every schedule is tried, and every load sees the newest value.
        #[cfg_attr(not(test), allow(dead_code, reason = "chosen by the models of this crate alone"))]
        HideNothing,
    }

    thread_local! {
        /// What loads shall be in the words that are made from now on. std's: one model runs on one thread.
        pub(crate) static LOADS: std::cell::Cell<Loads> = const { std::cell::Cell::new(Loads::MayBeStale) };
    }

    impl AtomicU64 {
        pub(crate) fn new(value: u64) -> Self {
            Self { word: Word::new(value), loads: LOADS.get() }
        }

        pub(crate) fn load(&self, order: Ordering) -> u64 {
            match self.loads {
                Loads::MayBeStale => self.word.load(order),
                // The same order on the load, and none on the store: it synchronises as the load would.
                Loads::HideNothing => self.word.fetch_or(0, order),
            }
        }

        pub(crate) fn store(&self, value: u64, order: Ordering) {
            match self.loads {
                Loads::MayBeStale => self.word.store(value, order),
                // Else loom would leave the order between this store and a load that writes undecided.
                Loads::HideNothing => {
                    self.word.swap(value, order);
                }
            }
        }

        pub(crate) fn fetch_or(&self, bits: u64, order: Ordering) -> u64 {
            self.word.fetch_or(bits, order)
        }

        pub(crate) fn compare_exchange_weak(
            &self,
            current: u64,
            new: u64,
            success: Ordering,
            failure: Ordering,
        ) -> Result<u64, u64> {
            self.word.compare_exchange_weak(current, new, success, failure)
        }
    }
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

pub(crate) use imp::*;

/// Locks, whether or not a holder has panicked: no user code runs under a lock of this crate, so the data is whole.
#[inline]
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether this bug is seeded, which a model must then catch: `ANTEROOM_BUG` in the environment names it. Only models ask the
/// environment; in every other build nothing is left of the question.
#[cfg(anteroom_loom)]
pub(crate) fn seeded(bug: &str) -> bool {
    static BUG: std::sync::LazyLock<Option<String>> =
        std::sync::LazyLock::new(|| std::env::var("ANTEROOM_BUG").ok());
    BUG.as_deref() == Some(bug)
}

#[cfg(not(anteroom_loom))]
#[inline(always)]
pub(crate) const fn seeded(_bug: &str) -> bool {
    false
}
