//! Drops a future after each of its polls, in the two states that there are between two: still waiting, and woken but not
//! polled yet.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

/// How far a future gets before it is dropped.
#[derive(Clone, Debug)]
pub struct Step {
    /// After so many polls, ...
    polls: usize,
    /// ... and after it was woken once more.
    woken: bool,
    /// How many were dropped pending, in all steps.
    dropped: Arc<AtomicUsize>,
}

impl Step {
    /// Never dropped: it runs to its end.
    pub fn never() -> Step {
        Step { polls: usize::MAX, woken: false, dropped: Arc::default() }
    }

    /// Unpolled; polled once; woken after that; polled twice; and so on. The steps share the count of what was dropped.
    pub fn all() -> impl Iterator<Item = Step> {
        let dropped = Arc::new(AtomicUsize::new(0));
        let between = (1..).flat_map(|polls| [(polls, false), (polls, true)]);
        let steps = std::iter::once((0, false)).chain(between);
        steps.map(move |(polls, woken)| Step { polls, woken, dropped: dropped.clone() })
    }

    /// How many futures were dropped pending until now, after a poll.
    pub fn dropped(&self) -> usize {
        self.dropped.load(Ordering::SeqCst)
    }

    /// Polls `future` each time that it was woken, and calls `between` after each poll that was not to be the last, with
    /// how many there were; it is to see to it that the future is woken. Its output, or `None` when it was dropped.
    pub async fn run<F: Future>(&self, future: F, mut between: impl FnMut(usize)) -> Option<F::Output> {
        let mut future = pin!(future);
        let mut polls = 0;
        let output = poll_fn(|cx| {
            if polls == self.polls {
                return Poll::Ready(None);
            }
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                return Poll::Ready(Some(output));
            }
            polls += 1;
            if polls == self.polls && !self.woken {
                return Poll::Ready(None);
            }
            between(polls);
            Poll::Pending
        });
        let output = output.await;
        if output.is_none() && polls > 0 {
            self.dropped.fetch_add(1, Ordering::SeqCst);
        }
        output
    }
}
