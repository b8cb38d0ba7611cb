//! The future that waits for a permit.
//!
//! # Problem
//!
//! A future may be polled too often, by changing tasks, or never again; and it may be dropped at the very moment when it
//! is served. In none of these may a permit be lost, or handed out twice.
//!
//! # Idea
//!
//! The future owns at most one place in the queue, and its key says which. Where the units are at each moment:
//!
//! ```text
//!   new ──poll, room──────────────────────────────► done (a Permit owns the units)
//!    │                                               ▲
//!    └─poll, no room─► queued ──grant──► queued ──poll┘
//!                      waiting           granted        drop in any state: `leave` takes the place back,
//!                      no units          this future    and gives on the units that a grant has put there
//!                                        owns them
//! ```
//!
//! Whether it has been granted is not stored in the future: only the ledger knows, under its lock.
//!
//! # Invariants
//!
//! - `[ACQUIRE-1]` One future has at most one place in the queue.
//! - `[ACQUIRE-2]` The waker that is woken is that of the latest poll.
//! - `[ACQUIRE-3]` A place is left exactly once: by the poll that learns its fate, or by drop.
//! - `[ACQUIRE-4]` An acquisition is polled at most twice if nobody else wakes its task: once to queue, once to collect.
//!
//! # Read next
//!
//! [`crate::permit`], what it resolves to.

use std::fmt;
use std::ops::Deref;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::error::AcquireError;
use crate::gate::Standing;
use crate::ledger::Key;
use crate::permit::Permit;
use crate::semaphore::Semaphore;

/// Resolves to a [`Permit`] when it is this caller's turn. Made by [`Semaphore::acquire`] and its siblings.
///
/// `S` is `&Semaphore` or `Arc<Semaphore>`. It stands in the queue from its first poll, not from when it was made. What
/// happens if it is dropped: [`Semaphore::acquire`].
///
/// ```
/// use std::pin::pin;
/// use std::task::{Context, Poll, Waker};
/// use anteroom_limiter::Semaphore;
///
/// let semaphore = Semaphore::new(1);
/// let first = semaphore.try_acquire().unwrap();
///
/// let mut second = pin!(semaphore.acquire());
/// let mut cx = Context::from_waker(Waker::noop());
/// assert!(second.as_mut().poll(&mut cx).is_pending());
/// drop(first);
/// assert!(matches!(second.as_mut().poll(&mut cx), Poll::Ready(Ok(_))));
/// ```
///
/// # Panics
///
/// If it is polled after it has resolved.
#[must_use = "nothing is acquired until this is awaited"]
pub struct Acquire<S: Deref<Target = Semaphore> + Clone> {
    /// Until it has resolved.
    semaphore: Option<S>,
    /// Its place in the queue, if it has one; possibly, without knowing it, the units.
    place: Option<Key>,
    weight: usize,
}

impl<S: Deref<Target = Semaphore> + Clone> Acquire<S> {
    #[inline]
    pub(crate) fn new(semaphore: S, weight: usize) -> Self {
        Self { semaphore: Some(semaphore), place: None, weight }
    }
}

impl<S: Deref<Target = Semaphore> + Clone> Future for Acquire<S> {
    type Output = Result<Permit<S>, AcquireError>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { semaphore: slot, place, weight } = self.get_mut();
        let Some(semaphore) = slot.as_ref() else { panic!("an Acquire was polled after it had resolved") };
        let outcome = match *place {
            None => match semaphore.gate().enter(*weight, cx.waker()) {
                Ok(None) => Ok(()),
                Ok(Some(key)) => {
                    *place = Some(key); // [ACQUIRE-1] There was none.
                    return Poll::Pending;
                }
                Err(error) => Err(error),
            },
            Some(key) => match semaphore.gate().check(key, cx.waker()) {
                Standing::Waiting => return Poll::Pending, // [ACQUIRE-2]
                Standing::Granted => Ok(()),
                Standing::Evicted => Err(AcquireError::Closed),
            },
        };
        *place = None; // [ACQUIRE-3] Drop finds nothing to leave.
        let semaphore = slot.take().expect("it was there a few lines above");
        Poll::Ready(outcome.map(|()| Permit::new(semaphore, *weight)))
    }
}

impl<S: Deref<Target = Semaphore> + Clone> Drop for Acquire<S> {
    #[inline]
    fn drop(&mut self) {
        if let (Some(semaphore), Some(key)) = (&self.semaphore, self.place) {
            semaphore.gate().leave(key, self.weight); // [ACQUIRE-3]
        }
    }
}

/// Nothing in it is ever pinned: not the semaphore, which it only points to, and not the key.
impl<S: Deref<Target = Semaphore> + Clone> Unpin for Acquire<S> {}

impl<S: Deref<Target = Semaphore> + Clone> fmt::Debug for Acquire<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match (&self.semaphore, self.place) {
            (None, _) => "resolved",
            (Some(_), None) => "new",
            (Some(_), Some(_)) => "queued",
        };
        f.debug_struct("Acquire").field("weight", &self.weight).field("state", &state).finish()
    }
}
