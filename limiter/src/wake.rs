//! Wakers on their way from under the lock to where they may be called.
//!
//! # Problem
//!
//! A waker is a stranger's code. Called under the lock, one that touches the same semaphore deadlocks. If it panics,
//! those behind it are never told that they were granted.
//!
//! # Idea
//!
//! Under the lock they are only moved, into a small array on the stack. With the lock released each is called behind a
//! `catch_unwind`, and the first panic is passed on when all have been called.
//!
//! # Invariants
//!
//! - `[WAKE-1]` No waker is cloned, called or dropped while a lock of this crate is held.
//! - `[WAKE-2]` A waker that panics keeps no other waiter from being woken.
//! - `[WAKE-3]` Two wakers that panic in one operation, or one that does in a thread that unwinds, are one panic: two at once
//!   would abort the process.
//!
//! # Rejected
//!
//! - *A `Vec` of all that are due.* It allocates, under a lock, as much as there are waiters.
//! - *One at a time, with the lock taken again for each.* Eight at a time is an eighth of the locking, for 128 bytes.
//!
//! # Read next
//!
//! [`crate::gate`], which fills it.

use std::any::Any;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::task::Waker;

/// How many are moved out under one lock. One under loom, so that the models see the lock taken again.
const BATCH: usize = if cfg!(anteroom_loom) { 1 } else { 8 };

/// A bounded batch of wakers, and the first panic of any that was called.
#[must_use = "finish passes a waker's panic on"]
pub(crate) struct Wakes {
    batch: [Option<Waker>; BATCH],
    panics: Panics,
}

/// Calls strangers one after the other: each is called whatever those before it did, and the first panic is kept.
#[must_use = "finish passes the first panic on"]
pub(crate) struct Panics {
    first: Option<Box<dyn Any + Send>>,
}

impl Wakes {
    pub(crate) const fn new() -> Self {
        Self { batch: [const { None }; BATCH], panics: Panics::new() }
    }

    /// Takes from `next` what it gives, as far as there is room. Whether it may have more to give. Called under the lock.
    pub(crate) fn fill(&mut self, mut next: impl FnMut() -> Option<Waker>) -> bool {
        self.batch.iter_mut().all(|slot| {
            debug_assert!(slot.is_none(), "filled before the last batch was called");
            *slot = next();
            slot.is_some()
        })
    }

    /// Calls all that it holds [WAKE-2]. Not under the lock [WAKE-1].
    pub(crate) fn call(&mut self) {
        for waker in self.batch.iter_mut().map_while(Option::take) {
            self.panics.call(|| waker.wake());
        }
    }

    /// Drops the waker of one who left, as it would be called. Not under the lock [WAKE-1].
    pub(crate) fn discard(&mut self, waker: Option<Waker>) {
        self.panics.call(|| drop(waker));
    }

    /// Passes the first panic on, as [`Panics::finish`] does. All that it held were called.
    #[inline]
    pub(crate) fn finish(self) {
        debug_assert!(self.batch.iter().all(Option::is_none), "filled, and not called");
        mem::forget(self.batch); // Nothing: and to find that out takes eight looks.
        self.panics.finish();
    }
}

impl Panics {
    pub(crate) const fn new() -> Self {
        Self { first: None }
    }

    /// Calls it. Not under a lock.
    pub(crate) fn call(&mut self, stranger: impl FnOnce()) {
        // Unwind safe: what is passed in is a waker, which is gone whatever it does, or an operation of this crate, which
        // is whole when it passes a waker's panic on.
        let Err(payload) = catch_unwind(AssertUnwindSafe(stranger)) else { return };
        match &self.first {
            None => self.first = Some(payload),
            // One can be passed on.
            Some(_) => discard(payload),
        }
    }

    /// Passes the first panic on, unless this thread is already unwinding: two at once would abort the process.
    #[inline]
    pub(crate) fn finish(self) {
        if let Some(payload) = self.first {
            pass_on(payload);
        }
    }
}

#[cold]
fn pass_on(payload: Box<dyn Any + Send>) {
    if std::thread::panicking() {
        discard(payload);
    } else {
        resume_unwind(payload);
    }
}

/// Drops what a panic carried. If that panics in turn, the second is given up: a payload whose drop panics is rare enough.
pub(crate) fn discard(payload: Box<dyn Any + Send>) {
    if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        mem::forget(second);
    }
}
