//! The future that waits for memory.
//!
//! # Problem
//!
//! The limit at which it waits may be an old one; and if it leaves, whoever is behind may have nobody else to look.
//!
//! # Idea
//!
//! The semaphore's own future stands in line. This one looks once when that has begun to wait, and once when it leaves the
//! line without a permit (`[MEMORY-3]`).
//!
//! # Read next
//!
//! [`super::permit`], what it resolves to.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::{MemoryBudget, MemoryPermit};
use crate::acquire::Acquire;
use crate::error::{AcquireError, TryAcquireError};
use crate::semaphore::Semaphore;
use crate::sync::seeded;

/// Resolves to a [`MemoryPermit`] when it is this caller's turn. Made by [`MemoryBudget::acquire`] and its sibling.
///
/// It stands in line from its first poll.
///
/// ```
/// use std::pin::pin;
/// use std::task::{Context, Poll, Waker};
/// use anteroom_limiter::MemoryBudget;
///
/// let budget = MemoryBudget::with_gauge(1 << 20, || None);
/// let first = budget.try_acquire(500 << 10).unwrap();
///
/// let mut second = pin!(budget.acquire(500 << 10));
/// let mut cx = Context::from_waker(Waker::noop());
/// assert!(second.as_mut().poll(&mut cx).is_pending());
/// drop(first);
/// assert!(matches!(second.as_mut().poll(&mut cx), Poll::Ready(Ok(_))));
/// ```
///
/// # Panics
///
/// If it is polled after it has resolved; and as drop of a [`MemoryPermit`] does.
#[must_use = "nothing is acquired until this is awaited"]
pub struct MemoryAcquire {
    budget: MemoryBudget,
    /// Until it has resolved.
    acquire: Option<Acquire<Arc<Semaphore>>>,
    asked: usize,
    bytes: u64,
    /// Whether `bytes` is what other tasks held, so that it says nothing of this one.
    is_guess: bool,
    /// Whether it stands in line, or did.
    has_waited: bool,
}

impl MemoryAcquire {
    pub(super) fn new(budget: &MemoryBudget, bytes: u64, is_guess: bool) -> Self {
        let asked = budget.inner.asked(bytes);
        let acquire = Some(budget.inner.semaphore.acquire_many_owned(asked));
        Self { budget: budget.clone(), acquire, asked, bytes, is_guess, has_waited: false }
    }
}

impl Future for MemoryAcquire {
    type Output = Result<MemoryPermit, AcquireError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { budget, acquire: slot, asked, bytes, is_guess, has_waited } = self.get_mut();
        let inner = &*budget.inner;
        let Some(acquire) = slot.as_mut() else { panic!("a MemoryAcquire was polled after it had resolved") };
        let mut polled = Pin::new(&mut *acquire).poll(cx);
        if polled.is_pending() && !std::mem::replace(has_waited, true) {
            // [MEMORY-3] It stands in line already.
            if inner.in_use() == 0 || inner.is_due(*asked) {
                inner.review(None);
                polled = Pin::new(acquire).poll(cx); // That may have been for us: then no need to be woken first.
            }
        }
        let acquired = match polled {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Err(AcquireError::QueueFull)) => {
                inner.try_again(*asked).map_err(|error| match error {
                    TryAcquireError::Closed => AcquireError::Closed,
                    TryAcquireError::NoPermits | TryAcquireError::ExceedsLimit => AcquireError::QueueFull,
                })
            }
            Poll::Ready(acquired) => acquired,
        };
        *slot = None;
        Poll::Ready(acquired.map(|permit| MemoryPermit::new(budget, permit, *bytes, *is_guess)))
    }
}

impl Drop for MemoryAcquire {
    fn drop(&mut self) {
        if let Some(acquire) = self.acquire.take() {
            // If it was granted, that comes back now; if it was the head, the next one is.
            drop(acquire);
            if self.has_waited && !seeded("memory_leaves_without_a_look") {
                self.budget.inner.after(0); // [MEMORY-3]
            }
        }
    }
}

impl fmt::Debug for MemoryAcquire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryAcquire")
            .field("bytes", &self.bytes)
            .field("acquire", &self.acquire)
            .finish_non_exhaustive()
    }
}
