//! A deadline around a future.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use pin_project_lite::pin_project;

use super::sleep::{Sleep, sleep, sleep_until};

/// Gives `future` until `duration` from now; then it is dropped where it is, and the result is [`Elapsed`].
///
/// The future is polled first each time, so one that is ready in time is never lost to the timer.
///
/// ```
/// use std::time::Duration;
/// anteroom::block_on(async {
///     let late = anteroom::time::timeout(Duration::from_millis(1), std::future::pending::<()>()).await;
///     assert!(late.is_err());
///     assert_eq!(anteroom::time::timeout(Duration::from_secs(1), async { 7 }).await, Ok(7));
/// });
/// ```
///
/// # Errors
/// [`Elapsed`] if the time was over first.
///
/// # Panics
/// When polled outside a runtime, unless `future` is ready at once.
///
/// # Cancel safety
/// That of `future`.
pub fn timeout<F: IntoFuture>(duration: Duration, future: F) -> Timeout<F::IntoFuture> {
    Timeout { future: future.into_future(), sleep: sleep(duration) }
}

/// Gives `future` until `deadline`.
///
/// ```
/// use std::time::Duration;
/// anteroom::block_on(async {
///     let deadline = anteroom::time::now() + Duration::from_millis(1);
///     assert!(anteroom::time::timeout_at(deadline, std::future::pending::<()>()).await.is_err());
/// });
/// ```
///
/// # Errors
/// As [`timeout`].
///
/// # Panics
/// As [`timeout`].
///
/// # Cancel safety
/// That of `future`.
pub fn timeout_at<F: IntoFuture>(deadline: Instant, future: F) -> Timeout<F::IntoFuture> {
    Timeout { future: future.into_future(), sleep: sleep_until(deadline) }
}

pin_project! {
    /// The future of [`timeout`] and [`timeout_at`].
    ///
    /// ```
    /// use std::time::Duration;
    /// anteroom::block_on(async {
    ///     let timeout = anteroom::time::timeout(Duration::from_secs(1), async { "in time" });
    ///     assert_eq!(timeout.await.unwrap(), "in time");
    /// });
    /// ```
    #[derive(Debug)]
    #[must_use = "a timeout does nothing until it is awaited"]
    pub struct Timeout<F> {
        #[pin]
        future: F,
        #[pin]
        sleep: Sleep,
    }
}

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(output) = this.future.poll(cx) {
            return Poll::Ready(Ok(output));
        }
        this.sleep.poll(cx).map(|()| Err(Elapsed(())))
    }
}

/// The time was over before the future was ready.
///
/// ```
/// use std::time::Duration;
/// anteroom::block_on(async {
///     let late = anteroom::time::timeout(Duration::ZERO, std::future::pending::<()>()).await;
///     assert_eq!(late.unwrap_err().to_string(), "the deadline has passed");
/// });
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed(());

impl Elapsed {
    pub(crate) const fn new() -> Self {
        Self(())
    }
}

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the deadline has passed")
    }
}

impl std::error::Error for Elapsed {}

impl From<Elapsed> for std::io::Error {
    fn from(elapsed: Elapsed) -> Self {
        std::io::Error::new(std::io::ErrorKind::TimedOut, elapsed)
    }
}
