//! The clock of the other runtime, for the limiter: what its users write.

use std::time::Instant;

use anteroom_limiter::Timer;

/// tokio's clock and sleep.
#[derive(Clone, Copy)]
pub(crate) struct Tokio;

impl Timer for Tokio {
    type Sleep = tokio::time::Sleep;

    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }

    fn sleep_until(&self, at: Instant) -> Self::Sleep {
        tokio::time::sleep_until(at.into())
    }
}
