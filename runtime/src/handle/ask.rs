//! Questions to a runtime, answered by its owner between two polls.
//!
//! # Problem
//! What a runtime knows of itself stands in plain cells, which its own thread alone may read.
//!
//! # Idea
//! A question goes to the desk as an errand, with a slip of paper: the owner leaves the answer on it and wakes whoever asked.
//! When the runtime ends, the errands that it has not run are dropped, and each slip says that there will be no answer.

use std::fmt;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::admission::{Door, Turned};
use crate::sync::{Mutex, lock};
use crate::task;
use crate::wait::wait;

/// A question to a runtime: await it, in any executor, or block for it.
///
/// On the runtime's own thread it is answered at once; else by the owner, between two polls. While the owner is not inside
/// `block_on`, or in a long poll, the answer waits for it.
///
/// ```
/// let runtime = anteroom::Runtime::new().unwrap();
/// let handle = runtime.handle();
/// let asking = std::thread::spawn(move || handle.metrics().wait(std::time::Duration::from_secs(10)));
/// while !asking.is_finished() {
///     runtime.block_on(anteroom::time::sleep(std::time::Duration::from_millis(1)));
/// }
/// assert_eq!(asking.join().unwrap().unwrap().tasks_max, 4_096);
/// ```
///
/// # Errors
/// [`AskError`].
///
/// # Cancel safety
/// Dropped, the answer is dropped; the question keeps its place of the 64 until the owner comes to it.
#[must_use = "nothing is asked until it is awaited"]
pub struct Ask<T> {
    door: Door,
    question: fn() -> T,
    slip: Option<Arc<Mutex<Slip<T>>>>,
}

/// Where an answer is left.
struct Slip<T> {
    answer: Option<T>,
    waker: Option<Waker>,
    /// The owner has answered, or never will.
    is_over: bool,
}

/// The owner's end of a slip: dropped without an answer, it says that there will be none.
struct Answering<T>(Arc<Mutex<Slip<T>>>);

impl<T> Drop for Answering<T> {
    fn drop(&mut self) {
        let waker = {
            let mut slip = lock(&self.0);
            slip.is_over = true;
            slip.waker.take()
        };
        if let Some(waker) = waker {
            task::quietly(|| waker.wake());
        }
    }
}

impl<T: Send + 'static> Ask<T> {
    pub(super) fn new(door: Door, question: fn() -> T) -> Self {
        Self { door, question, slip: None }
    }

    /// Blocks this thread for the answer.
    ///
    /// # Errors
    /// [`AskError`], also when it took longer than `timeout`.
    pub fn wait(self, timeout: Duration) -> Result<T, AskError> {
        wait(pin!(self), Some(timeout)).unwrap_or(Err(AskError::TimedOut))
    }

    fn send(&mut self, waker: Waker) -> Result<(), AskError> {
        let slip = Arc::new(Mutex::new(Slip { answer: None, waker: Some(waker), is_over: false }));
        let (answering, question) = (Answering(slip.clone()), self.question);
        let errand = Box::new(move || {
            let answer = question();
            lock(&answering.0).answer = Some(answer);
        });
        self.slip = Some(slip);
        self.door.send(errand).map_err(|(turned, errand)| {
            drop(errand);
            match turned {
                Turned::QueueFull => AskError::TooMany,
                Turned::Closed | Turned::ExceedsLimit => AskError::Gone,
            }
        })
    }
}

impl<T> Unpin for Ask<T> {}

impl<T: Send + 'static> Future for Ask<T> {
    type Output = Result<T, AskError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let waker = cx.waker().clone();
        let Some(slip) = &self.slip else {
            let _inside = task::enter();
            if self.door.is_here() {
                return Poll::Ready(Ok((self.question)()));
            }
            return match self.send(waker) {
                Ok(()) => Poll::Pending,
                Err(error) => Poll::Ready(Err(error)),
            };
        };
        let old = {
            let mut slip = lock(slip);
            if let Some(answer) = slip.answer.take() {
                return Poll::Ready(Ok(answer));
            }
            if slip.is_over {
                return Poll::Ready(Err(AskError::Gone));
            }
            slip.waker.replace(waker)
        };
        drop(old);
        Poll::Pending
    }
}

impl<T> fmt::Debug for Ask<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ask").field("asked", &self.slip.is_some()).finish_non_exhaustive()
    }
}

/// Why a question has no answer.
///
/// ```
/// let handle = anteroom::Runtime::new().unwrap().handle();
/// let error = handle.metrics().wait(std::time::Duration::from_secs(1)).unwrap_err();
/// assert_eq!((error, error.to_string().as_str()), (anteroom::AskError::Gone, "the runtime is gone"));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AskError {
    /// The runtime was dropped.
    Gone,
    /// 64 other questions wait.
    TooMany,
    /// The owner did not come to it in time: it is in a long poll, or outside of `block_on`.
    TimedOut,
}

impl fmt::Display for AskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AskError::Gone => "the runtime is gone",
            AskError::TooMany => "64 questions wait already",
            AskError::TimedOut => "the runtime did not answer in time",
        })
    }
}

impl std::error::Error for AskError {}
