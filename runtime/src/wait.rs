//! One future on a thread that runs nothing else: the smallest executor.
//!
//! # Problem
//! A thread without a runtime of its own has to wait for one future.
//!
//! # Idea
//! It polls the future, and parks until the waker was called. A flag says whether it was, and not the token of std's parking: what
//! the future does in its poll may park this thread too, such as to receive from a channel of std's, and use the token up.
//!
//! # Read next
//! `handle.rs` and `runtime/stealing.rs`, whose threads wait like that.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use crate::clock;
use crate::sync::{AtomicBool, Ordering, Thread, current_thread, park, park_timeout};

/// Wakes a thread that waits.
struct Unpark {
    thread: Thread,
    is_woken: AtomicBool,
}

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Ordering: AcqRel; Release pairs with the swap of the thread, which then sees what was written before the wake. A swap also
        // where it is set: an earlier wake's must carry this one's data.
        if !self.is_woken.swap(true, Ordering::AcqRel) {
            self.thread.unpark();
        }
    }
}

/// Runs `future` on this thread, which sleeps meanwhile; `None` if `timeout` was over first.
pub(crate) fn wait<F: Future>(mut future: Pin<&mut F>, timeout: Option<Duration>) -> Option<F::Output> {
    let start = clock::system_now();
    let deadline: Option<Instant> = timeout.and_then(|timeout| start.checked_add(timeout));
    let unpark = Arc::new(Unpark { thread: current_thread(), is_woken: AtomicBool::new(false) });
    let waker = Waker::from(unpark.clone());
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return Some(output);
        }
        // Ordering: AcqRel; see `wake_by_ref`.
        while !unpark.is_woken.swap(false, Ordering::AcqRel) {
            match deadline {
                None => park(),
                Some(deadline) => match deadline.saturating_duration_since(clock::system_now()) {
                    Duration::ZERO => return None,
                    left => park_timeout(left),
                },
            }
        }
    }
}
