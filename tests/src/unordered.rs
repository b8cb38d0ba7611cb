//! Many futures in one task, each with a waker of its own, as `FuturesUnordered` does it.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

/// Futures of which only those that were woken are polled.
pub struct Unordered<F> {
    children: Vec<Option<(Pin<Box<F>>, Waker)>>,
    ready: Arc<Ready>,
}

#[derive(Default)]
struct Ready {
    woken: Mutex<VecDeque<usize>>,
    parent: Mutex<Option<Waker>>,
}

struct Child {
    ready: Arc<Ready>,
    index: usize,
}

impl Wake for Child {
    fn wake(self: Arc<Self>) {
        self.ready.woken.lock().unwrap().push_back(self.index);
        let parent = self.ready.parent.lock().unwrap().take();
        if let Some(parent) = parent {
            parent.wake();
        }
    }
}

impl<F: Future> FromIterator<F> for Unordered<F> {
    fn from_iter<I: IntoIterator<Item = F>>(futures: I) -> Self {
        let ready = Arc::new(Ready::default());
        let child = |(index, future)| {
            ready.woken.lock().unwrap().push_back(index);
            Some((Box::pin(future), Waker::from(Arc::new(Child { ready: ready.clone(), index }))))
        };
        let children = futures.into_iter().enumerate().map(child).collect();
        Self { children, ready }
    }
}

impl<F: Future> Unordered<F> {
    /// The next output, with its number; `None` when there is none left.
    pub async fn next(&mut self) -> Option<(usize, F::Output)> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    fn poll_next(&mut self, cx: &Context<'_>) -> Poll<Option<(usize, F::Output)>> {
        if self.children.iter().all(Option::is_none) {
            return Poll::Ready(None);
        }
        *self.ready.parent.lock().unwrap() = Some(cx.waker().clone());
        // No more than are woken now: a child that wakes itself asks to let others run, and not only its siblings.
        let turns = self.ready.woken.lock().unwrap().len();
        for _ in 0..turns {
            let woken = self.ready.woken.lock().unwrap().pop_front();
            let Some(index) = woken else { return Poll::Pending };
            let Some((future, waker)) = &mut self.children[index] else { continue };
            if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(waker)) {
                self.children[index] = None;
                return Poll::Ready(Some((index, output)));
            }
        }
        if !self.ready.woken.lock().unwrap().is_empty() {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}
