//! Why a spawn failed. Whatever was not admitted is given back: nothing is lost.

use std::fmt;

use crate::admission::{Refusal, Turned};
use crate::task::waiter::Refused;

/// Why a spawn that would have waited failed.
///
/// ```
/// assert_eq!(anteroom::SpawnError::Closed.to_string(), "the runtime is shutting down");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SpawnError {
    /// The runtime admits nobody any more.
    Closed,
    /// The future, with what was declared for it, is larger than `max_task_bytes`: no wait would help.
    ExceedsLimit,
    /// As many spawners wait as may: `Builder::max_waiting`, or `Builder::max_foreign` for those on other threads.
    QueueFull,
    /// There will be no room unless a child runs in its spawner's place, and there, each in the frame of the one before, run as
    /// many as may by `Builder::in_place_stack`, or 4,096.
    TooDeep,
    /// There was no place in time: [`Spawn::timeout`](crate::Spawn::timeout) and its relatives.
    TimedOut,
}

impl From<Turned> for SpawnError {
    fn from(turned: Turned) -> Self {
        match turned {
            Turned::Closed => SpawnError::Closed,
            Turned::ExceedsLimit => SpawnError::ExceedsLimit,
            Turned::QueueFull => SpawnError::QueueFull,
        }
    }
}

impl From<Refused> for SpawnError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Closed => SpawnError::Closed,
            Refused::QueueFull => SpawnError::QueueFull,
            Refused::TooDeep => SpawnError::TooDeep,
        }
    }
}

impl SpawnError {
    pub(super) fn text(self) -> &'static str {
        match self {
            SpawnError::Closed => "the runtime is shutting down",
            SpawnError::ExceedsLimit => "the task asks for more than max_task_bytes",
            SpawnError::QueueFull => "as many spawners wait as may",
            SpawnError::TooDeep => {
                "as many children run in their spawner's place, one inside the other, as may by in_place_stack"
            }
            SpawnError::TimedOut => "there was no place in time",
        }
    }
}

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl std::error::Error for SpawnError {}

/// Why a spawn with a time to wait failed; holds what was to be spawned: the future, or what makes one.
///
/// It becomes the [`SpawnError`] inside by `From`, and so by `?`.
///
/// ```
/// use std::time::Duration;
/// use anteroom::{SpawnError, SpawnTimeoutError};
///
/// async fn serve() -> Result<(), SpawnError> {
///     anteroom::spawn(async { /* answer */ }).timeout(Duration::from_millis(1)).await?;
///     Ok(())
/// }
///
/// let runtime = anteroom::Runtime::builder().max_tasks(1).build().unwrap();
/// runtime.block_on(async {
///     let _holder = anteroom::reserve().await.unwrap();
///     assert_eq!(serve().await, Err(SpawnError::TimedOut));
///     let error: SpawnTimeoutError<_> = anteroom::spawn(async { 7 }).timeout(Duration::ZERO).await.unwrap_err();
///     assert_eq!(error.to_string(), "there was no place in time");
///     assert_eq!(error.into_future().unwrap().await, 7);
/// });
/// ```
pub struct SpawnTimeoutError<F> {
    why: SpawnError,
    future: Option<F>,
}

impl<F> SpawnTimeoutError<F> {
    #[cfg(not(anteroom_loom))]
    pub(crate) fn new(why: SpawnError, future: Option<F>) -> Self {
        Self { why, future }
    }

    /// Why.
    pub fn reason(&self) -> SpawnError {
        self.why
    }

    /// There was no place in time.
    pub fn is_timed_out(&self) -> bool {
        self.why == SpawnError::TimedOut
    }

    /// What was to be spawned, never polled, never called. `None` if it was begun, which a spawn that
    /// [timed out](Self::is_timed_out) was not: it had its place and lost it, since its runtime or its group ended.
    #[allow(clippy::should_implement_trait, reason = "awaiting an error would hide that it is one")]
    pub fn into_future(self) -> Option<F> {
        self.future
    }
}

impl<F> From<SpawnTimeoutError<F>> for SpawnError {
    fn from(error: SpawnTimeoutError<F>) -> Self {
        error.why
    }
}

impl<F> fmt::Debug for SpawnTimeoutError<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SpawnTimeoutError").field(&self.why).finish()
    }
}

impl<F> fmt::Display for SpawnTimeoutError<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.why.fmt(f)
    }
}

impl<F> std::error::Error for SpawnTimeoutError<F> {}

/// Why there was no place at once; holds the future.
///
/// ```
/// let runtime = anteroom::Runtime::builder().max_tasks(1).service_tasks(0).build().unwrap();
/// runtime.block_on(async {
///     let error = anteroom::spawn_service(async { 7 }).unwrap_err();
///     assert_eq!(error.to_string(), "there is no room");
///     assert_eq!(error.into_future().await, 7);
/// });
/// ```
pub struct TrySpawnError<F> {
    future: F,
    refusal: Refusal,
}

impl<F> TrySpawnError<F> {
    pub(crate) fn new(future: F, refusal: Refusal) -> Self {
        Self { future, refusal }
    }
}

impl<F> TrySpawnError<F> {
    /// All places are taken.
    pub fn is_full(&self) -> bool {
        self.refusal == Refusal::Full
    }

    /// There is room, but others asked before and wait for more of it.
    pub fn is_queued(&self) -> bool {
        self.refusal == Refusal::Queued
    }

    /// The runtime admits nobody any more.
    pub fn is_closed(&self) -> bool {
        self.refusal == Refusal::Closed
    }

    /// The future, with what was declared for it, is larger than `max_task_bytes`.
    pub fn exceeds_limit(&self) -> bool {
        self.refusal == Refusal::ExceedsLimit
    }

    /// The same error about something else.
    #[cfg(not(anteroom_loom))]
    pub(crate) fn map<G>(self, f: impl FnOnce(F) -> G) -> TrySpawnError<G> {
        TrySpawnError { future: f(self.future), refusal: self.refusal }
    }

    /// The future, never polled.
    #[allow(clippy::should_implement_trait, reason = "awaiting an error would hide that it is one")]
    pub fn into_future(self) -> F {
        self.future
    }
}

impl<F> fmt::Debug for TrySpawnError<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TrySpawnError").field(&self.refusal).finish()
    }
}

impl<F> fmt::Display for TrySpawnError<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.refusal {
            Refusal::Full => "there is no room",
            Refusal::Queued => "there is room, but others wait for it",
            Refusal::Closed => SpawnError::Closed.text(),
            Refusal::ExceedsLimit => SpawnError::ExceedsLimit.text(),
        })
    }
}

impl<F> std::error::Error for TrySpawnError<F> {}
