//! The only type erasure: what the loop can do with a future whose type it does not know.
//!
//! # Problem
//! One queue holds futures of all types, and a panic in any of them must end that task alone.
//!
//! # Idea
//! Three functions a type: poll, drop the future, drop the output. Each leaves the body in the state that its result names,
//! whatever panics on the way: a panic in the poll or in the future's drop becomes the outcome, a panic in the drop of an
//! output that nobody takes is swallowed.
//!
//! # Invariants
//! - [VTABLE-1] A header's vtable is the one of the future in its body; both are set in `task::spawn` and nowhere else.
//!
//! # Read next
//! `join.rs`, which takes the output.

use core::mem::needs_drop;
use core::pin::Pin;
use core::task::{Context, Poll};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::body::{Cache, counted_bytes, has_block};
use super::state::Outcome;
use super::{Header, outside};

/// What a panic carried.
pub(crate) type Payload = Box<dyn Any + Send>;

pub(super) struct VTable {
    /// Polls the future; when it is ready the future is dropped, and the output stored if somebody may want it.
    ///
    /// Safety: the body holds the future of this vtable, and the task is running on the owner.
    pub(super) poll: unsafe fn(&'static Header, &Cache, &mut Context<'_>) -> Poll<Outcome>,
    /// Drops the future, which was not polled to its end.
    ///
    /// Safety: as for `poll`.
    pub(super) cancel: unsafe fn(&'static Header, &Cache) -> Outcome,
    /// Drops an output that nobody takes.
    ///
    /// Safety: the task is done with `Outcome::Value`, and the output not yet taken; called on the owner.
    pub(super) drop_output: unsafe fn(&'static Header, &Cache),
    /// The size of the future, which is what it counts for against a limit of bytes.
    pub(super) future_bytes: usize,
    /// Whether the future lies in a block of its own.
    pub(super) has_block: bool,
}

impl VTable {
    pub(super) const fn of<F: Future>() -> &'static VTable {
        const {
            &VTable {
                poll: poll::<F>,
                cancel: cancel::<F>,
                drop_output: drop_output::<F::Output>,
                future_bytes: counted_bytes::<F>(),
                has_block: has_block::<F>(),
            }
        }
    }

    /// For the future of `block_on`, which lies in the caller's frame and is polled there.
    pub(super) const fn root() -> &'static VTable {
        Self::of::<std::future::Pending<()>>()
    }
}

/// # Safety
/// [VTABLE-1]: the body holds an `F` that this thread, the owner, has just set running.
unsafe fn poll<F: Future>(task: &'static Header, cache: &Cache, cx: &mut Context<'_>) -> Poll<Outcome> {
    // SAFETY: [BODY-1] forwarded from the caller.
    let future = unsafe { task.body.get::<F>() };
    // SAFETY: [BODY-2] the task is running, so nobody else touches the body until this poll has ended.
    let future = unsafe { &mut *future };
    // SAFETY: the body does not move, headers and blocks being stable, and the future is dropped in place.
    let future = unsafe { Pin::new_unchecked(future) };
    let result = match catch_unwind(AssertUnwindSafe(|| future.poll(cx))) {
        Ok(Poll::Pending) => return Poll::Pending,
        Ok(Poll::Ready(output)) => Ok(output),
        Err(payload) => Err(payload),
    };
    // SAFETY: the future is still there: ready or panicked, it has not been dropped yet.
    let result = match unsafe { drop_future::<F>(task, cache) } {
        None => result,
        Some(payload) => {
            quietly(|| drop(result));
            Err(payload)
        }
    };
    Poll::Ready(store(task, cache, result))
}

/// # Safety
/// As for [`poll`].
unsafe fn cancel<F: Future>(task: &'static Header, cache: &Cache) -> Outcome {
    // SAFETY: forwarded from the caller.
    match unsafe { drop_future::<F>(task, cache) } {
        None => Outcome::Cancelled,
        Some(payload) => store::<F::Output>(task, cache, Err(payload)),
    }
}

/// Drops the future and gives its block back; what its drop panicked with is returned.
///
/// # Safety
/// As for [`poll`]; the body is empty afterwards.
#[inline(always)]
unsafe fn drop_future<F: Future>(task: &'static Header, cache: &Cache) -> Option<Payload> {
    let mut panicked = None;
    if needs_drop::<F>() {
        // SAFETY: [BODY-1] forwarded from the caller.
        let future = unsafe { task.body.get::<F>() };
        // SAFETY: [BODY-2] it is dropped once: whatever the drop does, the body counts as empty after it.
        panicked = catch_unwind(AssertUnwindSafe(|| unsafe { future.drop_in_place() })).err();
    }
    // SAFETY: the future has just been dropped.
    unsafe { task.body.free::<F>(Some(cache)) };
    panicked
}

/// Stores what the task ended with, or drops it if there is no handle to take it. The body is empty before.
#[inline(always)]
pub(super) fn store<T>(task: &'static Header, cache: &Cache, result: Result<T, Payload>) -> Outcome {
    // With several threads the handle may let go at any moment: the output is stored, and whoever publishes the end drops it
    // if nobody is left.
    let wanted = task.is_shared() || task.snapshot().has_handle();
    match result {
        Ok(output) => {
            if wanted {
                // SAFETY: [BODY-1] the future is gone, so the body is empty, and the task is still running.
                unsafe { task.body.put(cache, output) };
            } else if needs_drop::<T>() {
                quietly(|| drop(output));
            }
            Outcome::Value
        }
        Err(payload) => {
            if wanted {
                // SAFETY: as above.
                unsafe { task.body.put(cache, payload) };
            } else {
                quietly(|| drop(payload));
            }
            Outcome::Panic
        }
    }
}

/// # Safety
/// The body holds a `T` that nobody else will take, on the owner.
unsafe fn drop_output<T>(task: &'static Header, cache: &Cache) {
    // SAFETY: forwarded from the caller.
    let output = unsafe { task.body.take::<T>(Some(cache)) };
    quietly(|| drop(output));
}

/// Runs user code whose panic has nobody to go to. A payload that panics when it is dropped is given up.
pub(crate) fn quietly(f: impl FnOnce()) {
    outside(|| {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(f)) {
            if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
                std::mem::forget(second);
            }
        }
    });
}
