//! Letting the others run.

use std::pin::Pin;
use std::task::{Context, Poll};

/// Goes to the tail of the run queue: every task that is ready now runs before this one goes on.
///
/// It makes no system call. Timers and sockets are looked at by time, also while tasks do nothing but yield.
///
/// ```
/// anteroom::block_on(async {
///     let other = anteroom::spawn(async { 1 }).await.unwrap();
///     anteroom::yield_now().await;
///     assert!(other.is_finished());
/// });
/// ```
///
/// # Cancel safety
/// Nothing is lost.
pub fn yield_now() -> YieldNow {
    YieldNow { yielded: false }
}

/// The future of [`yield_now`].
///
/// ```
/// let turn: anteroom::YieldNow = anteroom::yield_now();
/// anteroom::block_on(turn);
/// ```
#[derive(Debug)]
#[must_use = "nothing yields until it is awaited"]
pub struct YieldNow {
    yielded: bool,
}

impl Future for YieldNow {
    type Output = ();

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.yielded {
            return Poll::Ready(());
        }
        self.yielded = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
