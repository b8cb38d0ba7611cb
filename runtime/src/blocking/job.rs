//! A job as its caller sees it: the future of its result, and the error that gives it back.
//!
//! # Problem
//! A job ends on another thread, at any moment, or never begins; its caller may have gone meanwhile, or come back with
//! another waker.
//!
//! # Idea
//! Both ends share a slip of paper. The job's end, [`Sender`], leaves the outcome on it and wakes the waker that it finds;
//! dropped with nothing left, it says that the job never ran. The caller's end, [`Blocking`], leaves its waker there, and
//! takes it away again when it is dropped.
//!
//! # Read next
//! `../blocking.rs`, the pool.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use super::Workers;
use crate::admission::OwnedPermit;
use crate::sync::{Mutex, Ordering, lock};
use crate::task::{self, JoinError, JoinErrorKind, Payload, WaitsFor, joined, quietly};

/// A job that the pool has taken: await it for its result.
///
/// Dropping it lets the job go: it runs, or goes on, and its result is dropped. It may be awaited on any thread.
///
/// ```
/// anteroom::block_on(async {
///     let sum = anteroom::try_spawn_blocking(|| (1..=1_000_u64).sum::<u64>()).unwrap();
///     // The job runs while other things are done here.
///     assert_eq!(sum.await.unwrap(), 500_500);
/// });
/// ```
///
/// # Errors
/// Awaiting it gives a [`JoinError`] if the job panicked, or never began: because its runtime was dropped first, or because
/// the system gave the pool no thread.
///
/// # Panics
/// If it is polled again after it was ready.
///
/// # Cancel safety
/// Nothing is lost: awaited by reference, it can be dropped out of a `select` and awaited again.
#[must_use = "the job runs, but nobody waits for its result"]
pub struct Blocking<T> {
    /// `None` after it was ready.
    slip: Option<Arc<Mutex<Slip<T>>>>,
}

/// It has no job and no result in it, so it may always be moved.
impl<T> Unpin for Blocking<T> {}

/// What the two ends of a job share.
struct Slip<T> {
    outcome: Option<Outcome<T>>,
    waker: Option<Waker>,
}

enum Outcome<T> {
    Returned(T),
    Panicked(Payload),
    /// It never ran, because the pool was closed.
    Closed,
    /// It never ran, because there was no thread and none could be started.
    NoThread,
}

/// The job's end: it holds the job's permit, and is told the outcome.
pub(super) struct Sender<T> {
    slip: Arc<Mutex<Slip<T>>>,
    permit: Option<OwnedPermit>,
    workers: Arc<Workers>,
}

/// Both ends of a job whose permit is `permit`.
pub(super) fn ends<T>(workers: &Arc<Workers>, permit: OwnedPermit) -> (Sender<T>, Blocking<T>) {
    let slip = Arc::new(Mutex::new(Slip { outcome: None, waker: None }));
    // Ordering: Relaxed; the owner sees its own count-ups, and of another thread's it need not know yet.
    workers.unsent.fetch_add(1, Ordering::Relaxed);
    (
        Sender { slip: slip.clone(), permit: Some(permit), workers: workers.clone() },
        Blocking { slip: Some(slip) },
    )
}

impl<T> Sender<T> {
    pub(super) fn send(self, result: Result<T, Payload>) {
        let outcome = match result {
            Ok(value) => Outcome::Returned(value),
            Err(payload) => Outcome::Panicked(payload),
        };
        lock(&self.slip).outcome = Some(outcome);
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let is_sent = lock(&self.slip).outcome.is_some();
        // One lock at a time: the workers are asked with the slip unlocked.
        let unsent = (!is_sent).then(|| match self.workers.is_closed() {
            true => Outcome::Closed,
            false => Outcome::NoThread,
        });
        let waker = {
            let mut slip = lock(&self.slip);
            if unsent.is_some() {
                slip.outcome = unsent;
            }
            slip.waker.take()
        };
        if let Some(waker) = waker {
            quietly(|| waker.wake());
        }
        // [BLOCKING-1] The caller has been woken by now. A paused clock stood still for this job: its owner looks again.
        quietly(|| drop(self.permit.take()));
        // Ordering: Release; pairs with the Acquire in `Workers::is_busy`.
        self.workers.unsent.fetch_sub(1, Ordering::Release);
        self.workers.home.shared.call_attention();
    }
}

impl<T> Blocking<T> {
    /// Whether awaiting it would give the result at once.
    ///
    /// ```
    /// anteroom::block_on(async {
    ///     let job = anteroom::try_spawn_blocking(|| 1).unwrap();
    ///     while !job.is_finished() {
    ///         anteroom::yield_now().await;
    ///     }
    ///     assert_eq!(job.await.unwrap(), 1);
    /// });
    /// ```
    pub fn is_finished(&self) -> bool {
        self.slip.as_ref().is_none_or(|slip| lock(slip).outcome.is_some())
    }
}

impl<T> Future for Blocking<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let slip = self.slip.as_ref().expect("a Blocking was polled after it was ready");
        // Cloned before the lock and dropped after it: both are the caller's code.
        let mut waker = Some(cx.waker().clone());
        let is_ended = {
            let mut slip = lock(slip);
            let is_ended = slip.outcome.is_some();
            if !is_ended {
                std::mem::swap(&mut slip.waker, &mut waker);
            }
            is_ended
        };
        drop(waker);
        if !is_ended {
            task::waits_for(WaitsFor::BLOCKING);
            return Poll::Pending;
        }
        ready!(task::spend(cx));
        let outcome = lock(slip).outcome.take().expect("it is taken once");
        self.slip = None;
        Poll::Ready(match outcome {
            Outcome::Returned(value) => Ok(value),
            Outcome::Panicked(payload) => Err(JoinError::panic(payload)),
            Outcome::Closed => Err(joined(JoinErrorKind::Cancelled)),
            Outcome::NoThread => {
                Err(joined(JoinErrorKind::NotAdmitted("the system gave the blocking pool no thread")))
            }
        })
    }
}

impl<T> Drop for Blocking<T> {
    fn drop(&mut self) {
        // A job may hang for ever, and must not keep the waker of who has given up on it.
        let Some(slip) = &self.slip else { return };
        let waker = lock(slip).waker.take();
        drop(waker);
    }
}

impl<T> fmt::Debug for Blocking<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Blocking").field("is_finished", &self.is_finished()).finish()
    }
}

/// Why [`try_spawn_blocking`](crate::try_spawn_blocking) did not take a job; holds the job.
///
/// ```
/// let runtime = anteroom::Runtime::builder().blocking_threads(1).blocking_queue(0).build().unwrap();
/// runtime.block_on(async {
///     let (open, gate) = std::sync::mpsc::channel();
///     let first = anteroom::try_spawn_blocking(move || gate.recv()).unwrap();
///     let error = anteroom::try_spawn_blocking(|| 7).unwrap_err();
///     assert!(error.is_full());
///     let job = error.into_job();
///     assert_eq!(job(), 7); // here, if it must be
///     open.send(()).unwrap();
///     first.await.unwrap().unwrap();
/// });
/// ```
pub struct TrySpawnBlockingError<F> {
    job: F,
    is_closed: bool,
}

impl<F> TrySpawnBlockingError<F> {
    pub(super) fn new(job: F, is_closed: bool) -> Self {
        Self { job, is_closed }
    }

    /// As many jobs run and wait as may, or others asked before and wait for room.
    pub fn is_full(&self) -> bool {
        !self.is_closed
    }

    /// The runtime is shutting down, and takes no more jobs.
    pub fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// The job, which has not begun.
    pub fn into_job(self) -> F {
        self.job
    }

    fn text(&self) -> &'static str {
        if self.is_closed { "the runtime is shutting down" } else { "there is no room for a blocking job" }
    }
}

impl<F> fmt::Debug for TrySpawnBlockingError<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.is_closed { "Closed" } else { "Full" };
        write!(f, "TrySpawnBlockingError({kind})")
    }
}

impl<F> fmt::Display for TrySpawnBlockingError<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl<F> std::error::Error for TrySpawnBlockingError<F> {}
