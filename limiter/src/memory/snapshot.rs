//! What a budget was at one instant, for people.
//!
//! # Read next
//!
//! [`super::pressure`], a part of it.

use std::fmt;

use super::pressure::Pressure;

/// Whether a [`MemoryBudget`](crate::MemoryBudget) lets anybody in.
///
/// ```
/// use anteroom_limiter::{MemoryBudget, MemoryState};
///
/// assert_eq!(MemoryBudget::with_gauge(1 << 20, || Some(0)).snapshot().state, MemoryState::Open);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MemoryState {
    /// Who fits is let in.
    Open,
    /// As much as hard was used, and since then not less than soft: only what runs alone is let in.
    Stopped,
}

/// What a [`MemoryBudget`](crate::MemoryBudget) was, in bytes.
///
/// Displays as one line. What is in use, waits, and the limit are of one instant; what is used is of the instant before.
///
/// ```
/// use anteroom_limiter::MemoryBudget;
///
/// let snapshot = MemoryBudget::with_gauge(10 << 20, || Some(1 << 20)).snapshot();
/// assert_eq!((snapshot.soft, snapshot.limit, snapshot.in_use), (8 << 20, 7 << 20, 0));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct MemorySnapshot {
    /// The whole budget.
    pub budget: u64,
    /// What is promised at most, less what others hold.
    pub soft: u64,
    /// What may be measured before nothing new starts.
    pub hard: u64,
    /// What permits may hold together, by the latest review. Less than what they do hold: nobody new.
    pub limit: u64,
    /// What permits hold together.
    pub in_use: u64,
    /// What is measured now; `None` if that failed.
    pub used: Option<u64>,
    /// What others hold at the least: what was measured first while no permit held anything, or the least since.
    pub baseline: u64,
    /// How many callers wait.
    pub waiting: usize,
    /// What a task typically holds.
    pub typical: u64,
    /// Whether anybody new starts.
    pub state: MemoryState,
    /// Who waited for memory of late, where the system tells.
    pub pressure: Option<Pressure>,
}

impl fmt::Display for MemorySnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        match self.used {
            Some(used) => write!(f, "{:.1} MiB used", mib(used))?,
            None => f.write_str("not measured")?,
        }
        write!(
            f,
            " of {:.1} MiB (soft {:.1}, hard {:.1}), {:.1} promised of {:.1}, {} wait, typical {:.1} MiB, {}",
            mib(self.budget),
            mib(self.soft),
            mib(self.hard),
            mib(self.in_use),
            mib(self.limit),
            self.waiting,
            mib(self.typical),
            match self.state {
                MemoryState::Open => "open",
                MemoryState::Stopped => "stopped",
            }
        )?;
        match &self.pressure {
            Some(pressure) => write!(f, ", pressure {pressure}"),
            None => Ok(()),
        }
    }
}
