//! What a task holds of the budget: an estimate at first, and what it says later.
//!
//! # Problem
//!
//! The estimate is wrong. A task that had to wait for more would wait while it holds what others wait for.
//!
//! # Idea
//!
//! The weight of the semaphore's permit follows what the task says, up and down, and never waits. What it has said is
//! what others are estimated by; what it was only guessed to hold is not, for that would be an echo.
//!
//! Who can wait does so with empty hands: [`MemoryPermit::exchange`] gives all back and stands before all who have not begun.
//!
//! # Read next
//!
//! [`super::estimate`], where the peaks go.

use std::fmt;
use std::future::poll_fn;
use std::mem;
use std::pin::pin;
use std::task::Poll;

use super::{Inner, MemoryBudget, add, units_of};
use crate::permit::OwnedPermit;
use crate::sync::{lock, seeded};

/// Memory of a [`MemoryBudget`], in use until this is dropped.
///
/// ```
/// use anteroom_limiter::MemoryBudget;
///
/// let budget = MemoryBudget::bytes(1 << 30);
/// let mut permit = budget.try_acquire(1 << 20).unwrap(); // an estimate
/// permit.settle(3 << 20); // what it was
/// assert_eq!(budget.in_use(), 3 << 20);
/// drop(permit);
/// assert_eq!(budget.in_use(), 0);
/// ```
///
/// # Panics
///
/// Its drop, and all that gives back, lets in who waits. If one of their wakers panics, or the gauge that is read then
/// does, that panic is passed on after all is done, unless this thread is already unwinding.
#[must_use = "dropped at once, it limits nothing"]
pub struct MemoryPermit {
    permit: OwnedPermit,
    budget: MemoryBudget,
    bytes: u64,
    peak: u64,
    /// Whether all that is known of it is the estimate.
    is_estimate: bool,
    /// Whether that estimate was made of what other tasks held, so that it says nothing of this one.
    is_guess: bool,
}

impl MemoryPermit {
    /// Of units that were granted; what is missing of an oversized estimate is charged.
    pub(super) fn new(budget: &MemoryBudget, permit: OwnedPermit, bytes: u64, is_guess: bool) -> Self {
        let asked = permit.weight();
        let budget = budget.clone();
        let mut this = Self { permit, budget, bytes, peak: bytes, is_estimate: true, is_guess };
        let units = units_of(bytes).max(asked);
        weigh(&mut this.permit, units);
        this.budget.inner.after(units);
        this
    }

    /// How many bytes it holds.
    ///
    /// ```
    /// # use anteroom_limiter::MemoryBudget;
    /// let permit = MemoryBudget::bytes(1 << 30).try_acquire(5_000).unwrap();
    /// assert_eq!(permit.bytes(), 5_000);
    /// ```
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The most that it has held by its own account: what it was [settled](Self::settle) at and [charged](Self::charge);
    /// before, its estimate.
    ///
    /// ```
    /// # use anteroom_limiter::MemoryBudget;
    /// let mut permit = MemoryBudget::bytes(1 << 30).try_acquire(1 << 20).unwrap();
    /// permit.settle(5_000); // so the estimate was wrong
    /// permit.charge(1_000);
    /// permit.settle(2_000);
    /// assert_eq!(permit.peak(), 6_000);
    /// ```
    #[must_use]
    pub fn peak(&self) -> u64 {
        self.peak
    }

    /// It holds `bytes` more. Never waits: for what has happened already.
    ///
    /// The budget may be in debt afterwards, and nobody new starts until enough has come back.
    ///
    /// ```
    /// use anteroom_limiter::MemoryBudget;
    ///
    /// let budget = MemoryBudget::bytes(1 << 30);
    /// let mut permit = budget.try_acquire(1 << 20).unwrap();
    /// let mut body = Vec::with_capacity(1 << 20);
    /// body.resize(4 << 20, 0_u8); // it did not fit
    /// permit.charge(3 << 20);
    /// assert_eq!(permit.bytes(), 4 << 20);
    /// ```
    ///
    /// # Panics
    ///
    /// As its drop does.
    pub fn charge(&mut self, bytes: u64) {
        let total = self.bytes.saturating_add(bytes);
        self.peak = self.peak.max(total);
        self.hold(total);
    }

    /// It holds exactly `total_bytes` now, whatever it held before. Never waits.
    ///
    /// The first time, it corrects the estimate. To teach the budget what is typical, state the most first.
    ///
    /// ```
    /// use anteroom_limiter::MemoryBudget;
    ///
    /// let budget = MemoryBudget::bytes(1 << 30);
    /// let mut permit = budget.try_acquire(1 << 20).unwrap();
    /// let body = vec![0_u8; 300_000];
    /// permit.settle(body.capacity() as u64); // others may have the rest
    /// let title = body[..100].to_vec();
    /// drop(body);
    /// permit.settle(title.capacity() as u64);
    /// assert_eq!((permit.bytes(), permit.peak()), (100, 300_000));
    /// ```
    ///
    /// # Panics
    ///
    /// As its drop does.
    pub fn settle(&mut self, total_bytes: u64) {
        self.peak = if self.is_estimate { total_bytes } else { self.peak.max(total_bytes) };
        self.hold(total_bytes);
    }

    /// It will hold `total_bytes`: gives back what it holds, and waits for that much, ahead of all who have not begun.
    ///
    /// For a task that has learned what it needs before it takes it. [`settle`](Self::settle) never waits: many tasks that
    /// were all underestimated, as the first ones may be, then hold more than the budget together. This holds nothing while
    /// it waits, so let nothing be in memory meanwhile. Less than it has is given back at once. More than the budget
    /// promises to all together waits until nothing else runs, and then runs alone.
    ///
    /// ```
    /// use anteroom_limiter::{AcquireError, MemoryBudget};
    /// # async fn head() -> u64 { 70_000 }
    /// # async fn body(bytes: u64) -> Vec<u8> { vec![0; bytes as usize] }
    ///
    /// async fn fetch(budget: &MemoryBudget) -> Result<usize, AcquireError> {
    ///     let mut permit = budget.acquire_typical().await?;
    ///     let bytes = head().await; // nothing of the body is in memory yet
    ///     permit.exchange(bytes).await;
    ///     Ok(body(bytes).await.len())
    /// }
    /// # let budget = MemoryBudget::with_gauge(1 << 20, || None);
    /// # let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    /// # assert!(std::pin::pin!(fetch(&budget)).poll(&mut cx).is_ready());
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Dropped before its first poll, it has done nothing. Dropped while it waits, the permit stays behind and holds nothing.
    ///
    /// # Panics
    ///
    /// As drop of this does.
    pub async fn exchange(&mut self, total_bytes: u64) {
        let asked = self.budget.inner.asked(total_bytes);
        if asked > self.permit.weight() {
            // What it was guessed to hold stays a guess: it has said nothing of the present.
            let is_estimate = self.is_estimate;
            self.hold(0);
            self.is_estimate = is_estimate;
            let leaver = Leaver(&self.budget.inner);
            let mut back = pin!(self.permit.come_back(asked));
            if poll_fn(|cx| Poll::Ready(back.as_mut().poll(cx))).await.is_pending() {
                // [MEMORY-3] It stands in line.
                leaver.0.after(asked);
                back.await;
            }
            mem::forget(leaver); // It has left by the front.
        }
        self.settle(total_bytes); // The rest of what was asked for, if that is more than all.
    }

    /// From now on it holds that much, by its own account.
    fn hold(&mut self, total: u64) {
        self.is_estimate = false;
        self.bytes = total;
        let (units, before) = (units_of(total), self.permit.weight());
        let moved = units.abs_diff(before);
        add(&self.budget.inner.given_back, before.saturating_sub(units));
        weigh(&mut self.permit, units);
        self.budget.inner.after(moved); // [MEMORY-3]
    }
}

/// Looks when it is dropped: somebody has left the line [MEMORY-3].
struct Leaver<'a>(&'a Inner);

impl Drop for Leaver<'_> {
    fn drop(&mut self) {
        self.0.after(0);
    }
}

/// Makes a permit weigh `units`, as far as the semaphore can count.
fn weigh(permit: &mut OwnedPermit, units: usize) {
    match units.checked_sub(permit.weight()) {
        Some(more) => permit.charge(more),
        None => permit.shrink(permit.weight() - units),
    };
}

impl Drop for MemoryPermit {
    fn drop(&mut self) {
        if !(self.is_estimate && self.is_guess) {
            lock(&self.budget.inner.peaks).record(self.peak);
        }
        let units = self.permit.weight();
        add(&self.budget.inner.given_back, units);
        self.permit.shrink(units);
        if !seeded("memory_gives_back_without_a_look") {
            self.budget.inner.after(units); // [MEMORY-3] after the units are back
        }
    }
}

impl fmt::Debug for MemoryPermit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryPermit")
            .field("bytes", &self.bytes)
            .field("peak", &self.peak)
            .finish_non_exhaustive()
    }
}
