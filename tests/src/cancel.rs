//! Drops a future after each of its polls, in the two states that there are between two: still waiting, and woken but not
//! polled yet.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, Wake, Waker};

/// How far a future gets before it is dropped.
#[derive(Clone, Debug)]
pub struct Step {
    /// After so many polls, ...
    polls: usize,
    /// ... and after it was woken once more.
    woken: bool,
    /// How many were dropped pending, in all steps.
    dropped: Arc<AtomicUsize>,
    /// The wakers that futures were polled with.
    wakers: Arc<Mutex<Vec<Weak<PassOn>>>>,
}

/// Wakes another, and tells by its count who keeps it.
#[derive(Debug)]
struct PassOn(Waker);

impl Wake for PassOn {
    fn wake(self: Arc<Self>) {
        self.0.wake_by_ref();
    }
}

impl Step {
    /// Never dropped: it runs to its end.
    pub fn never() -> Step {
        Step { polls: usize::MAX, woken: false, dropped: Arc::default(), wakers: Arc::default() }
    }

    /// Unpolled; polled once; woken after that; polled twice; and so on. The steps share the count of what was dropped.
    pub fn all() -> impl Iterator<Item = Step> {
        let dropped = Arc::new(AtomicUsize::new(0));
        let between = (1..).flat_map(|polls| [(polls, false), (polls, true)]);
        let steps = std::iter::once((0, false)).chain(between);
        steps.map(move |(polls, woken)| Step {
            polls,
            woken,
            dropped: dropped.clone(),
            wakers: Arc::default(),
        })
    }

    /// How many futures were dropped pending until now, after a poll.
    pub fn dropped(&self) -> usize {
        self.dropped.load(Ordering::SeqCst)
    }

    /// How many of the wakers that futures of this step were polled with are kept by somebody still.
    ///
    /// # Panics
    /// If a thread has panicked with it.
    pub fn wakers_left(&self) -> usize {
        self.wakers.lock().unwrap().iter().filter(|waker| waker.strong_count() > 0).count()
    }

    /// Polls `future` each time that it was woken, and calls `between` after each poll that was not to be the last, with
    /// how many there were; it is to see to it that the future is woken. Its output, or `None` when it was dropped.
    ///
    /// # Panics
    /// As [`wakers_left`](Self::wakers_left).
    pub async fn run<F: Future>(&self, future: F, mut between: impl FnMut(usize)) -> Option<F::Output> {
        let mut future = pin!(future);
        let mut polls = 0;
        let output = poll_fn(|cx| {
            if polls == self.polls {
                return Poll::Ready(None);
            }
            let waker = Arc::new(PassOn(cx.waker().clone()));
            self.wakers.lock().unwrap().push(Arc::downgrade(&waker));
            let waker = Waker::from(waker);
            if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
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
