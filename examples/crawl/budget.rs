//! `--memory`: how many pages are live follows from what they hold.
//!
//! # Problem
//!
//! A crawler that reads pages whole holds as much as its pages are long, and nobody knows how long they are.
//! 100 pages at once are 2 MiB here and 400 MiB there: whoever has to choose `--max-tasks` for a container
//! chooses too few for most sites, or is killed by one.
//!
//! # Idea
//!
//! A [`MemoryBudget`] of the limiter stands before the spawn. A page is let in on an estimate, what 95 of 100
//! pages before it needed; when the head of its answer says how long it is, it declares what it will hold, before
//! it holds it; and what it does not need, or no longer, the next page gets.
//!
//! ```text
//!   admit ──► Share: an estimate ──► the head says: less ──► settle(all) ──────────────┐
//!   (waits)   nothing is read yet                   more ──► exchange(all) ─────────────┴─► page is read, parsed,
//!                                                             (waits, with a socket)        settle(page), drop
//! ```
//!
//! A page that turns out longer than its estimate could be charged the rest, and run on. One may. But the first
//! thousand links of a site may all be estimated by the one small page that they stand on, and then all of them
//! would. So it gives back what it has and waits for all that it needs, before the loop that lets pages in:
//! what was begun is finished first. The answer waits meanwhile where TCP keeps it, in the server.
//!
//! It gives back *before* it waits. To wait for more with something in hand is how two of them wait for each
//! other; so whoever holds a share always ends, and there is room again.
//!
//! # Bounds
//!
//! The budget promises 80 % of itself to all that is held. In debt it goes only for a page whose length no head
//! announced: that is charged as it grows. No page may be longer than a quarter of the budget
//! ([`Budget::page_bytes_max`]), or than [`PAGE_BYTES_MAX`].
//!
//! Pages that wait with a socket are no more than were let in on estimates at once. Their 10 KiB each, and
//! what grows with the site, the frontier, nobody declares: it is measured, and leaves less for pages.
//!
//! # Rejected
//!
//! * *Memory inside the page's task, as a semaphore.* A page that waits for its memory exists; see `crawler.rs`.
//! * *An estimate on the safe side.* The largest that there may be: then a tenth of the memory is used.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anteroom_limiter::{AcquireError, CgroupError, MemoryBudget, MemoryPermit, MemorySnapshot};

use crate::args::UsageError;

/// The longest page that is read whole when no budget says less.
pub(crate) const PAGE_BYTES_MAX: u64 = 64 << 20;

/// How often memory is measured while no page comes or goes.
const REVIEW: Duration = Duration::from_millis(250);

/// What `--memory` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Memory {
    /// What the control group of this process allows.
    Auto,
    Bytes(u64),
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Memory::Auto => f.write_str("auto"),
            Memory::Bytes(bytes) => bytes.fmt(f),
        }
    }
}

/// The memory of all pages, and what the report wants to know of it.
pub(crate) struct Budget {
    budget: MemoryBudget,
    page_bytes_max: u64,
    in_use_peak: AtomicU64,
}

impl Budget {
    /// Finds it, and measures what this process uses without a page.
    ///
    /// # Errors
    ///
    /// No limit to be found for `auto`, or too little to share out.
    pub(crate) fn find(memory: Memory) -> Result<Budget, UsageError> {
        let wrong = |wrong: &dyn fmt::Display| UsageError::new(format_args!("--memory {memory}"), wrong);
        let budget = match memory {
            Memory::Auto => MemoryBudget::from_cgroup().map_err(|error| match error {
                CgroupError::NoLimit => {
                    wrong(&"no control group limits this process; say how much, as in 64MiB")
                }
                other => wrong(&other),
            })?,
            Memory::Bytes(bytes) => MemoryBudget::builder(bytes).build().map_err(|error| wrong(&error))?,
        };
        let page_bytes_max = (budget.snapshot().budget / 4).min(PAGE_BYTES_MAX);
        Ok(Budget { budget, page_bytes_max, in_use_peak: AtomicU64::new(0) })
    }

    /// Waits until a page like those before fits, and takes what they needed.
    pub(crate) async fn admit(&self) -> Share {
        let acquired: Result<MemoryPermit, AcquireError> = self.budget.acquire_typical().await;
        self.note_peak();
        Share { permit: acquired.expect("nobody closes it, and the line has no end") }
    }

    /// The service that measures while no page comes or goes: the frontier grows all the same.
    pub(crate) async fn review(self: Arc<Self>) {
        let mut interval = anteroom::time::interval(REVIEW);
        loop {
            interval.tick().await;
            self.budget.review();
        }
    }

    /// The longest page that may be read whole.
    pub(crate) fn page_bytes_max(&self) -> u64 {
        self.page_bytes_max
    }

    /// The most that all pages held together, as they declared it.
    pub(crate) fn in_use_peak(&self) -> u64 {
        self.in_use_peak.load(Ordering::Relaxed)
    }

    pub(crate) fn snapshot(&self) -> MemorySnapshot {
        self.budget.snapshot()
    }

    fn note_peak(&self) {
        self.in_use_peak.fetch_max(self.budget.in_use(), Ordering::Relaxed);
    }
}

/// What one page has of it. Given back when it is dropped.
pub(crate) struct Share {
    permit: MemoryPermit,
}

impl Share {
    /// The page will hold so much, and has nothing yet: waits until it may, before all pages that have not begun.
    pub(crate) async fn exchange(&mut self, budget: &Budget, bytes: u64) {
        self.permit.exchange(bytes).await;
        budget.note_peak();
    }

    /// The page holds so much from now on. Never waits; others may.
    pub(crate) fn settle(&mut self, budget: &Budget, bytes: u64) {
        self.permit.settle(bytes);
        budget.note_peak();
    }
}
