//! The one switch between std's primitives and those of the model checkers, loom and shuttle.
//!
//! # Problem
//! A model checker must see every atomic, cell and thread-local that a protocol uses; one import from std and it checks
//! a different program.
//!
//! # Idea
//! Every file takes these names from here, and clippy refuses them from anywhere else. The cfg is `anteroom_loom`, not
//! `loom`, because the latter would reach into dependencies; `anteroom_shuttle` likewise. loom tries every schedule of a few
//! steps, with the weak memory that a processor may have; shuttle tries some of those of many steps, with the memory that a
//! program seems to have: each finds what the other cannot.
//!
//! # Read next
//! `task/mod.rs`, which is what the models are about.

#[cfg(not(any(anteroom_loom, anteroom_shuttle)))]
mod imp {
    pub(crate) use std::cell::Cell;
    #[cfg(not(anteroom_tsan))]
    pub(crate) use std::sync::atomic::fence;
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, Ordering};
    #[cfg(feature = "stealing")]
    pub(crate) use std::sync::atomic::{AtomicPtr as SlotPtr, AtomicUsize};
    pub(crate) use std::sync::{Condvar, Mutex, MutexGuard};
    pub(crate) use std::thread::yield_now as yield_thread;
    pub(crate) use std::thread::{Thread, current as current_thread, park, park_timeout};

    /// A fence that ThreadSanitizer sees: it takes std's for nothing, and would report what one has ordered.
    ///
    /// An exchange of one word by all who acquire or release orders a little more than fences do, so that it may hide a race,
    /// but never reports one that is none. Between fences that are SeqCst nothing is added: they decide which of two threads
    /// sees the other's word, publish no data here, and ordered all alike they would hide every race around them.
    #[cfg(anteroom_tsan)]
    pub(crate) fn fence(order: Ordering) {
        static ALL: AtomicU32 = AtomicU32::new(0);
        std::sync::atomic::fence(order);
        if order != Ordering::SeqCst {
            ALL.fetch_add(0, order);
        }
    }
}

#[cfg(anteroom_shuttle)]
mod imp {
    pub(crate) use std::cell::Cell;
    // As under loom; the other is a statistic.
    pub(crate) use std::sync::atomic::{AtomicPtr, AtomicU8, AtomicU64};

    pub(crate) use shuttle::sync::atomic::{AtomicBool, AtomicU32, Ordering, fence};
    #[cfg(feature = "stealing")]
    pub(crate) use shuttle::sync::atomic::{AtomicPtr as SlotPtr, AtomicUsize};
    pub(crate) use shuttle::sync::{Condvar, Mutex, MutexGuard};
    pub(crate) use shuttle::thread::yield_now as yield_thread;
}

/// Threads that park. loom's own `unpark` ends a wait for a lock, too, as if the lock were free; shuttle's threads wake by
/// themselves, which would hide a wake that is lost.
#[cfg(any(anteroom_loom, anteroom_shuttle))]
mod parking {
    use std::sync::Arc;
    use std::time::Duration;

    #[cfg(anteroom_loom)]
    use loom::{
        sync::{Condvar, Mutex},
        thread_local,
    };
    #[cfg(anteroom_shuttle)]
    use shuttle::{
        sync::{Condvar, Mutex},
        thread_local,
    };

    /// As std's.
    #[derive(Clone)]
    pub(crate) struct Thread(Arc<(Mutex<bool>, Condvar)>);

    thread_local! {
        static HERE: Thread = Thread(Arc::new((Mutex::new(false), Condvar::new())));
    }

    impl Thread {
        pub(crate) fn unpark(&self) {
            let (is_unparked, condvar) = &*self.0;
            *is_unparked.lock().unwrap() = true;
            condvar.notify_one();
        }
    }

    pub(crate) fn current_thread() -> Thread {
        HERE.with(Thread::clone)
    }

    pub(crate) fn park() {
        let here = current_thread();
        let (is_unparked, condvar) = &*here.0;
        let mut guard = is_unparked.lock().unwrap();
        while !*guard {
            guard = condvar.wait(guard).unwrap();
        }
        *guard = false;
    }

    /// Its time does not pass: whoever needs that to go on stands still, which a model then says.
    #[cfg(anteroom_loom)]
    pub(crate) fn park_timeout(_: Duration) {
        park();
    }

    /// It ends by itself, at some time, if this wait is one of those for which time passes.
    #[cfg(anteroom_shuttle)]
    pub(crate) fn park_timeout(_: Duration) {
        if !crate::sync::time::passes() {
            return park();
        }
        let here = current_thread();
        while !std::mem::take(&mut *here.0.0.lock().unwrap()) && !crate::sync::time::is_over() {
            shuttle::thread::yield_now();
        }
    }
}

/// What time is to shuttle, which has none.
#[cfg(anteroom_shuttle)]
#[cfg_attr(not(test), allow(dead_code, reason = "the harnesses' choice"))]
pub(crate) mod time {
    use std::cell::Cell;

    use shuttle::rand::{Rng, thread_rng};

    thread_local! {
        // std's: one program of shuttle's runs on one thread.
        static PERCENT: Cell<u32> = const { Cell::new(50) };
    }

    /// In how many of a hundred timed waits time passes. In the others it stands still, so that who relies on it to find what
    /// somebody forgot to tell stands still, too.
    pub(crate) fn set_passes(percent: u32) {
        PERCENT.set(percent);
    }

    /// Whether a timed wait that begins now ends by itself.
    pub(crate) fn passes() -> bool {
        thread_rng().gen_ratio(PERCENT.get(), 100)
    }

    /// Whether it does so now.
    pub(crate) fn is_over() -> bool {
        thread_rng().gen_ratio(1, 4)
    }
}

#[cfg(not(anteroom_loom))]
mod cell {
    /// `std::cell::UnsafeCell` with loom's interface, so that loom sees when two threads touch it at once.
    #[derive(Debug)]
    pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

    impl<T> UnsafeCell<T> {
        pub(crate) const fn new(value: T) -> Self {
            Self(std::cell::UnsafeCell::new(value))
        }

        /// Calls `f` with a pointer to the value; what `f` does with it is the caller's to justify.
        #[inline(always)]
        pub(crate) fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
            f(self.0.get())
        }
    }
}

#[cfg(anteroom_loom)]
mod imp {
    pub(crate) use loom::cell::{Cell, UnsafeCell};
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering, fence};
    #[cfg(feature = "stealing")]
    pub(crate) use loom::sync::atomic::{AtomicPtr as SlotPtr, AtomicUsize};
    pub(crate) use loom::sync::{Mutex, MutexGuard};
    pub(crate) use loom::thread::yield_now as yield_thread;
    // What uses it is written before it is shared and not after, in a model: no step of any protocol.
    pub(crate) use std::sync::atomic::AtomicPtr;
}

#[cfg(not(anteroom_loom))]
pub(crate) use cell::UnsafeCell;
pub(crate) use imp::*;
#[cfg(any(anteroom_loom, anteroom_shuttle))]
pub(crate) use parking::{Thread, current_thread, park, park_timeout};

/// Whether a model checker runs this, where tables are small, so that few steps fill them.
pub(crate) const IS_MODEL: bool = cfg!(any(anteroom_loom, anteroom_shuttle));

/// Locks, whether or not a holder has panicked: no user code runs under any lock of this crate, so the data is whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(anteroom_loom)]
type LocalKey<T> = loom::thread::LocalKey<T>;
#[cfg(anteroom_shuttle)]
type LocalKey<T> = shuttle::thread::LocalKey<T>;
#[cfg(not(any(anteroom_loom, anteroom_shuttle)))]
type LocalKey<T> = std::thread::LocalKey<T>;

/// A thread-local reference that is set while a thread is inside a runtime; needs no destructor, so it is one load.
pub(crate) type ScopedKey<T> = LocalKey<std::cell::Cell<Option<&'static T>>>;

/// Declares a [`ScopedKey`].
macro_rules! scoped_local {
    ($(#[$doc:meta])* static $name:ident: $of:ty;) => {
        #[cfg(not(any(anteroom_loom, anteroom_shuttle)))]
        std::thread_local! {
            $(#[$doc])* static $name: std::cell::Cell<Option<&'static $of>> = const { std::cell::Cell::new(None) };
        }
        #[cfg(anteroom_shuttle)]
        shuttle::thread_local! {
            $(#[$doc])* static $name: std::cell::Cell<Option<&'static $of>> = std::cell::Cell::new(None);
        }
        #[cfg(anteroom_loom)]
        loom::thread_local! {
            $(#[$doc])* static $name: std::cell::Cell<Option<&'static $of>> = std::cell::Cell::new(None);
        }
    };
}
pub(crate) use scoped_local;

/// Declares thread-local [`Cell`]s, which need no destructor.
macro_rules! thread_cells {
    ($($(#[$doc:meta])* static $name:ident: $of:ty = $value:expr;)*) => {
        #[cfg(not(any(anteroom_loom, anteroom_shuttle)))]
        std::thread_local! {
            $($(#[$doc])* static $name: crate::sync::Cell<$of> = const { crate::sync::Cell::new($value) };)*
        }
        #[cfg(anteroom_shuttle)]
        shuttle::thread_local! {
            $($(#[$doc])* static $name: crate::sync::Cell<$of> = crate::sync::Cell::new($value);)*
        }
        $(
            #[cfg(anteroom_loom)]
            loom::thread_local! {
                $(#[$doc])* static $name: crate::sync::Cell<$of> = crate::sync::Cell::new($value);
            }
        )*
    };
}
pub(crate) use thread_cells;

/// While it lives, `key` names `value`; afterwards what it named before, so that runtimes can be nested.
#[must_use]
pub(crate) struct Scope<T: 'static> {
    key: &'static ScopedKey<T>,
    before: Option<&'static T>,
}

impl<T: 'static> Scope<T> {
    pub(crate) fn enter(key: &'static ScopedKey<T>, value: &'static T) -> Self {
        Self { key, before: key.with(|current| current.replace(Some(value))) }
    }
}

impl<T: 'static> Drop for Scope<T> {
    fn drop(&mut self) {
        self.key.with(|current| current.set(self.before));
    }
}

/// Whether this bug is seeded, which a model must then catch: `ANTEROOM_BUG` in the environment names it. Only models ask the
/// environment; in every other build nothing is left of the question.
#[cfg(any(anteroom_loom, anteroom_shuttle))]
pub(crate) fn seeded(bug: &str) -> bool {
    static BUG: std::sync::LazyLock<Option<String>> =
        std::sync::LazyLock::new(|| std::env::var("ANTEROOM_BUG").ok());
    #[cfg(anteroom_shuttle)]
    if SEEDED.get().is_some() {
        return SEEDED.get() == Some(bug);
    }
    BUG.as_deref() == Some(bug)
}

#[cfg(anteroom_shuttle)]
thread_local! {
    /// A bug that is seeded on this thread alone, on which one program of shuttle's runs; std's for that.
    pub(crate) static SEEDED: std::cell::Cell<Option<&'static str>> = const { std::cell::Cell::new(None) };
}

#[cfg(not(any(anteroom_loom, anteroom_shuttle)))]
#[inline(always)]
pub(crate) const fn seeded(_bug: &str) -> bool {
    false
}
