//! What of a budget can be chosen, checked.
//!
//! # Idea
//!
//! Everything has a value that is right for most, so a number of bytes is enough. What a user may have typed is an error
//! here, and never a panic.
//!
//! # Read next
//!
//! [`crate::memory`], what is made of it.

use std::error::Error;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use super::control::Control;
use super::estimate::Peaks;
use super::gauge::{MemoryGauge, Process};
use super::{Inner, MemoryBudget, Meter, REVIEWS, UNIT};
use crate::semaphore::Semaphore;
use crate::sync::{AtomicU64, Mutex};

/// What of a [`MemoryBudget`] can be chosen.
///
/// ```
/// use anteroom_limiter::{BudgetError, MemoryBudget};
///
/// let budget = MemoryBudget::builder(1 << 30)
///     .soft(0.70) // promise no more than this
///     .hard(0.85) // start nothing above this
///     .first_estimate(256 << 10)
///     .max_waiting(1_000)
///     .build()?;
/// assert_eq!(budget.typical(), 256 << 10);
/// # Ok::<(), BudgetError>(())
/// ```
#[must_use = "nothing is made until build"]
pub struct MemoryBuilder {
    budget: u64,
    soft: f64,
    hard: f64,
    first_estimate: u64,
    waiting_max: usize,
    gauge: Option<Box<dyn MemoryGauge + Send + Sync>>,
}

impl MemoryBuilder {
    pub(super) fn new(budget_bytes: u64) -> Self {
        Self {
            budget: budget_bytes,
            soft: 0.80,
            hard: 0.90,
            first_estimate: budget_bytes / 16,
            waiting_max: usize::MAX,
            gauge: None,
        }
    }

    /// What part of the budget is promised at most. 0.80, if nothing is said.
    ///
    /// The rest is for what nobody declares: what others take between two readings, and estimates that were too small.
    ///
    /// ```
    /// use anteroom_limiter::MemoryBudget;
    ///
    /// let budget = MemoryBudget::builder(100 << 20).soft(0.5).build().unwrap();
    /// assert_eq!(budget.snapshot().soft, 50 << 20);
    /// ```
    pub fn soft(mut self, fraction: f64) -> Self {
        self.soft = fraction;
        self
    }

    /// From what part of the budget on nothing new starts, until less than soft is used. 0.90, if nothing is said.
    ///
    /// ```
    /// use anteroom_limiter::MemoryBudget;
    ///
    /// let budget = MemoryBudget::builder(100 << 20).hard(0.95).build().unwrap();
    /// assert_eq!(budget.snapshot().hard, 95 << 20);
    /// ```
    pub fn hard(mut self, fraction: f64) -> Self {
        self.hard = fraction;
        self
    }

    /// What a task is taken to hold before the first has said. A 16th of the budget, if nothing is said.
    ///
    /// ```
    /// use anteroom_limiter::MemoryBudget;
    ///
    /// let budget = MemoryBudget::builder(1 << 30).first_estimate(64 << 10).build().unwrap();
    /// assert_eq!(budget.typical(), 64 << 10);
    /// ```
    pub fn first_estimate(mut self, bytes: u64) -> Self {
        self.first_estimate = bytes;
        self
    }

    /// At most so many wait; the next is told [`AcquireError::QueueFull`](crate::AcquireError::QueueFull) at once. As many as come, if nothing is said.
    ///
    /// ```
    /// use std::pin::pin;
    /// use std::task::{Context, Poll, Waker};
    /// use anteroom_limiter::{AcquireError, MemoryBudget};
    ///
    /// let budget = MemoryBudget::builder(1 << 20).gauge(|| None).max_waiting(0).build().unwrap();
    /// let _all = budget.try_acquire(1 << 20);
    /// let second = pin!(budget.acquire(1)).poll(&mut Context::from_waker(Waker::noop()));
    /// assert!(matches!(second, Poll::Ready(Err(AcquireError::QueueFull))));
    /// ```
    pub fn max_waiting(mut self, waiting_max: usize) -> Self {
        self.waiting_max = waiting_max;
        self
    }

    /// How used memory is measured. As [`MemoryBudget::bytes`] does, if nothing is said.
    ///
    /// ```
    /// use anteroom_limiter::MemoryBudget;
    ///
    /// let budget = MemoryBudget::builder(1 << 30).gauge(|| Some(5 << 20)).build().unwrap();
    /// assert_eq!(budget.snapshot().used, Some(5 << 20));
    /// ```
    pub fn gauge(mut self, gauge: impl MemoryGauge + Send + Sync + 'static) -> Self {
        self.gauge = Some(Box::new(gauge));
        self
    }

    /// Makes the budget, and reads the gauge for the first time: what is used now is what tasks do not have.
    ///
    /// ```
    /// use anteroom_limiter::{BudgetError, MemoryBudget};
    ///
    /// assert_eq!(MemoryBudget::builder(4_096).build().unwrap_err(), BudgetError::TooSmall);
    /// assert_eq!(MemoryBudget::builder(1 << 50).build().unwrap_err(), BudgetError::AboveMax);
    /// ```
    ///
    /// # Errors
    ///
    /// [`BudgetError`].
    ///
    /// # Panics
    ///
    /// If the gauge does.
    pub fn build(self) -> Result<MemoryBudget, BudgetError> {
        let Self { budget, soft, hard, first_estimate, waiting_max, gauge } = self;
        // Written so that no NaN passes.
        if !(soft > 0.0 && soft <= hard && hard <= 1.0) {
            return Err(BudgetError::Fractions);
        }
        if budget > MemoryBudget::MAX_BYTES {
            return Err(BudgetError::AboveMax);
        }
        // At most 2^42, which a float holds exactly.
        let part = |fraction: f64| (budget as f64 * fraction) as u64;
        let (soft, hard) = (part(soft), part(hard));
        // Rounded down, and at most 2^30 - 1 even with a soft of all.
        let floor = ((soft / UNIT) as usize).min(Semaphore::MAX_PERMITS / 2);
        if floor == 0 {
            return Err(BudgetError::TooSmall);
        }
        let control = Control::new(floor, (hard / UNIT) as usize);
        let semaphore = Semaphore::new(2 * floor).with_max_waiting(waiting_max);
        let semaphore = Arc::new(semaphore);
        let permit = semaphore.try_acquire_many_owned(floor).expect("nobody else has it yet");
        let inner = Inner {
            semaphore,
            floor: permit,
            budget,
            soft,
            hard,
            gauge: gauge.unwrap_or_else(|| Box::new(Process::open(Path::new("/")))),
            moved: AtomicU64::new(0),
            given_back: AtomicU64::new(0),
            raised: AtomicU64::new(0),
            review_every: (budget / REVIEWS / UNIT).max(1),
            meter: Mutex::new(Meter { control, used: None, begun: 0, latest: 0 }),
            peaks: Mutex::new(Peaks::new()),
            first_estimate,
        };
        inner.review(None);
        Ok(MemoryBudget { inner: Arc::new(inner) })
    }
}

impl fmt::Debug for MemoryBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBuilder")
            .field("budget", &self.budget)
            .field("soft", &self.soft)
            .field("hard", &self.hard)
            .finish_non_exhaustive()
    }
}

/// Why a budget cannot be made.
///
/// ```
/// use anteroom_limiter::{BudgetError, MemoryBudget};
///
/// let error = MemoryBudget::builder(1 << 30).soft(0.9).hard(0.8).build().unwrap_err();
/// assert_eq!(error, BudgetError::Fractions);
/// assert_eq!(error.to_string(), "it must be 0 < soft <= hard <= 1");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BudgetError {
    /// The part that may be promised is less than one unit of 4 KiB.
    TooSmall,
    /// More than [`MemoryBudget::MAX_BYTES`].
    AboveMax,
    /// It must be 0 < soft <= hard <= 1.
    Fractions,
}

impl fmt::Display for BudgetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooSmall => write!(f, "less than {UNIT} bytes of a budget could be promised"),
            Self::AboveMax => write!(f, "a budget must be at most {} bytes", MemoryBudget::MAX_BYTES),
            Self::Fractions => f.write_str("it must be 0 < soft <= hard <= 1"),
        }
    }
}

impl Error for BudgetError {}
