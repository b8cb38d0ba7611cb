//! A sleep: a deadline and, while it waits, a key into the wheel.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::driver::remote::Remote;
use crate::driver::wheel::TimerKey;
use crate::driver::{Set, fired};
use crate::task::WaitsFor;
use crate::{driver, task};

/// Waits for `duration`, by the runtime's clock.
///
/// It is never early, and late by at most the timer resolution and what the system and the other tasks add. The resolution is
/// 100 µs, or 1 ms while many timers fire, unless [`Builder::timer_resolution`](crate::Builder::timer_resolution) says otherwise.
/// A duration that no clock can hold is thirty years. Of two sleeps that end within one resolution, any may be the first.
///
/// ```
/// use std::time::{Duration, Instant};
/// anteroom::block_on(async {
///     let start = Instant::now();
///     anteroom::time::sleep(Duration::from_millis(2)).await;
///     assert!(start.elapsed() >= Duration::from_millis(2));
/// });
/// ```
///
/// # Panics
/// When polled outside a runtime.
///
/// # Cancel safety
/// Dropping it takes its timer away; nothing else is lost.
pub fn sleep(duration: Duration) -> Sleep {
    sleep_until(super::deadline_after(super::now(), duration))
}

/// Waits until `deadline`; one that has passed is ready at once.
///
/// ```
/// anteroom::block_on(async {
///     let deadline = anteroom::time::now() + std::time::Duration::from_millis(1);
///     anteroom::time::sleep_until(deadline).await;
///     assert!(anteroom::time::now() >= deadline);
/// });
/// ```
///
/// # Panics
/// When polled outside a runtime.
///
/// # Cancel safety
/// As for [`sleep`].
pub fn sleep_until(deadline: Instant) -> Sleep {
    Sleep { deadline, timer: None }
}

/// The future of [`sleep`] and [`sleep_until`].
///
/// ```
/// use std::time::Duration;
/// anteroom::block_on(async {
///     let mut sleep = anteroom::time::sleep(Duration::from_secs(60));
///     sleep.reset(anteroom::time::now());
///     sleep.await;
/// });
/// ```
#[derive(Debug)]
#[must_use = "a sleep does nothing until it is awaited"]
pub struct Sleep {
    deadline: Instant,
    timer: Option<Timer>,
}

/// Where a sleep's timer stands.
#[derive(Clone, Copy)]
struct Timer {
    key: TimerKey,
    remote: &'static Remote,
    epoch: u32,
}

impl std::fmt::Debug for Timer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.key.fmt(f)
    }
}

impl Sleep {
    /// When it ends.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Gives it another deadline, also after it has ended.
    pub fn reset(&mut self, deadline: Instant) {
        self.cancel();
        self.deadline = deadline;
    }

    fn cancel(&mut self) {
        let Some(Timer { key, remote, epoch }) = self.timer.take() else { return };
        if driver::with_own(remote, epoch, |driver| driver.cancel_timer(key)).is_none() {
            remote.cancel_timer(epoch, key);
        }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let deadline = self.deadline;
        if let Some(Timer { key, remote, epoch }) = self.timer {
            if fired::is_over(remote, deadline) {
                self.timer = None;
                return Poll::Ready(());
            }
            match driver::with_own(remote, epoch, |driver| driver.poll_timer(key, cx.waker())) {
                Some(Poll::Pending) => {
                    task::waits_for(WaitsFor::TIMER);
                    return Poll::Pending;
                }
                Some(Poll::Ready(())) => {
                    self.timer = None;
                    return Poll::Ready(());
                }
                // It was moved to another runtime: it waits there from now on.
                None => self.cancel(),
            }
        }
        // A sleep that is always over must not keep the others from running.
        std::task::ready!(task::spend(cx));
        let (set, remote, epoch) =
            driver::with(|driver| (driver.set_timer(deadline, cx.waker()), driver.remote, driver.epoch))
                .expect("a sleep was polled outside a runtime: await it inside Runtime::block_on");
        match set {
            Set::Due => return Poll::Ready(()),
            Set::Waits(key) => self.timer = Some(Timer { key, remote, epoch }),
            Set::Full => cx.waker().wake_by_ref(),
        }
        task::waits_for(WaitsFor::TIMER);
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.cancel();
    }
}
