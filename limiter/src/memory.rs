//! A budget of memory: tasks are let in on an estimate, and charged for what they hold.
//!
//! # Problem
//!
//! A limit on the number of tasks is no limit on memory: a hundred pages of 20 KiB are nothing, a hundred of 200 MiB are
//! the end. Nobody knows the size before, and after it is too late. And what a process may use is decided elsewhere, by a
//! control group that kills, and shared with caches, buffers and other processes that no task has declared.
//!
//! # Idea
//!
//! A [`MemoryBudget`] is a semaphore whose units are 4 KiB, first in, first out, with a limit that follows measurement.
//!
//! ```text
//!   acquire(estimate) ──► MemoryPermit ── settle(actual), charge(more) ──► drop ──► peaks: the estimate for the next
//!          │                                          │                     │
//!          └──────── every 64th of the budget ────────┴─────────────────────┘
//!                                 │
//!                              review:   read the gauge  ─►  control  ─►  the semaphore's limit, and who fits is let in
//! ```
//!
//! A wrong estimate never stops a task that runs. It is charged, into debt if need be, and those who wait wait longer.
//!
//! **The floor.** A semaphore refuses who asks for more than its limit, and this limit falls to nothing at times. So the
//! budget itself holds a permit, of as much as anyone may ask for, and the semaphore's limit is that much higher. Nobody
//! is refused, everyone keeps the place and the weight with which it came, whatever the limit does meanwhile.
//!
//! **The oversized.** Who wants more than the budget promises to all together asks for that much, is let in alone, and is
//! charged for the rest.
//!
//! **Without a clock.** A review happens when enough was moved: a 64th of the budget, asked for in vain, admitted, charged or
//! given back. Or when somebody waits and may be the only one left who cares [MEMORY-3]. Whoever has a timer calls
//! [`review`](MemoryBudget::review) from it, to learn of what others take or give back while no task comes or goes.
//!
//! # Why nobody is left waiting
//!
//! Somebody waits, in line since its first poll. Look at the last instant at which what tasks hold became nothing, or at
//! that first poll, if nothing was held then.
//!
//! - Something is held, and never becomes nothing: a task runs for ever, which no limiter can help.
//! - It became nothing by a permit (dropped or settled) or by a waiter that left with what it had been granted. Both look
//!   afterwards: nothing is held, somebody waits, so they review [MEMORY-3], and a review with nothing held lets the head
//!   in, whatever it asks for and whatever was measured [CONTROL-4]. If they see that something is held, somebody was let
//!   in meanwhile, and it is not the last such instant.
//! - Nothing was held at the first poll: that very poll looks after it stands in line, and reviews.
//!
//! The head that was let in holds something, and the argument starts again with the next one. No two of these need to see
//! each other: units and waiters are in one word and under one lock, and each looks after it has acted.
//!
//! # Invariants
//!
//! - `[MEMORY-1]` Nobody asks the semaphore for more than the floor, and its limit is never less than that.
//! - `[MEMORY-2]` What is in use above the floor is the sum of the weights of all [`MemoryPermit`]s and of all grants not yet
//!   collected.
//! - `[MEMORY-3]` Whoever joins the line, leaves it, or gives units back looks afterwards, and reviews if nothing is held and
//!   somebody waits.
//! - `[MEMORY-4]` A reading is never replaced by one that was begun earlier.
//! - `[MEMORY-5]` The gauge, which is the caller's code, is asked with no lock held.
//! - `[MEMORY-6]` A limit that was raised to let one run alone falls as soon as that one knows, before it can give back
//!   any of it: what it does not need is not there for others.
//!
//! # Rejected
//!
//! - *Asking for no more than the current limit.* Who comes while it is one unit asks for one unit, so do all behind, and
//!   when it rises all are let in at once.
//! - *A thread or a timer that measures.* A limiter for any runtime has neither; and between two events nothing could be
//!   decided.
//! - *Measuring at each event.* `memory.stat` of a large group takes the kernel longer than the task may run.
//! - *Estimates from tasks that never said what they held.* They would only echo the estimate.
//!
//! # Read next
//!
//! [`permit`] and [`acquire`], what callers hold; [`control`], the decision; [`cgroup`] and [`gauge`], the measurement; [`estimate`], what is typical.

mod acquire;
mod builder;
mod cgroup;
mod control;
mod estimate;
#[cfg(all(test, not(anteroom_loom)))]
mod fake;
mod gauge;
mod permit;
mod pressure;
mod snapshot;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::sync::Arc;
use std::thread;

pub use acquire::MemoryAcquire;
pub use builder::{BudgetError, MemoryBuilder};
pub use cgroup::CgroupError;
use control::{Control, Reading};
use estimate::Peaks;
pub use gauge::MemoryGauge;
pub use permit::MemoryPermit;
pub use pressure::{Pressure, Stall};
pub use snapshot::{MemorySnapshot, MemoryState};

use crate::error::TryAcquireError;
use crate::permit::OwnedPermit;
use crate::semaphore::Semaphore;
use crate::sync::{AtomicU64, Mutex, Ordering, lock};
use crate::wake::discard;

/// What one unit of the semaphore stands for.
const UNIT: u64 = 4_096;

/// A review happens at the latest when this part of the budget was moved.
const REVIEWS: u64 = 64;

/// So many bytes of memory at most, shared out first in, first out.
///
/// Cheap to clone: all clones are the same budget.
///
/// ```
/// use anteroom_limiter::{AcquireError, MemoryBudget};
/// # use std::pin::pin;
/// # use std::task::{Context, Poll, Waker};
/// # fn block_on<T>(future: impl Future<Output = T>) -> T {
/// #     match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
/// #         Poll::Ready(output) => output,
/// #         Poll::Pending => unreachable!("there is room"),
/// #     }
/// # }
/// # async fn download(page: u32) -> Vec<u8> { vec![0; page as usize] }
///
/// async fn crawl(budget: &MemoryBudget, page: u32) -> Result<usize, AcquireError> {
///     let mut permit = budget.acquire_typical().await?; // what pages need, mostly
///     let body = download(page).await;
///     permit.settle(body.capacity() as u64); // what this one needed
///     Ok(body.len()) // and the permit gives it back
/// }
///
/// let budget = MemoryBudget::bytes(1 << 30);
/// assert_eq!(block_on(crawl(&budget, 70_000)), Ok(70_000));
/// assert_eq!(budget.in_use(), 0);
/// ```
///
/// # What it keeps to
///
/// Two numbers bound it: `soft` (80 % of the budget) is what is promised at most, `hard` (90 %) what may be measured before
/// nothing new starts, until it is below soft again. See [`MemoryBuilder`].
///
/// As long as no task holds more than it declared, and everything else no more than the least that was measured since this
/// was made, what is used stays at or below soft: at any moment, and also before the first byte of it can be measured. What
/// others take beyond that is on top, until a reading shows it. What a task is [charged](MemoryPermit::charge) beyond its estimate is on top, and
/// nobody else starts until that much has come back.
///
/// One task always runs: if nothing is in use, the first in line is let in, though it may be larger than the budget and
/// though all may be full. A budget is no guarantee that one task fits.
///
/// # Bounds
///
/// From some KiB to [`MAX_BYTES`](Self::MAX_BYTES). 2 KiB for the estimates, three open files at most, and what a
/// [`Semaphore`] has for those who wait. With room, an acquisition waits for no lock; the end of a permit takes one, of the
/// estimates, for as long as it takes to count one more. Each 64th of the budget that was moved costs a reading: one `pread`
/// for the process, three for a group; and while it is stopped and somebody waits, so does all that is given back.
///
/// An allocator that keeps what was freed cannot be told from others that took it, before the next tasks have used it
/// again. If it keeps less than hard, that costs little: of tasks that come and go at different times as many run side by
/// side, of such as all come and go together half as many (simulated, with an allocator that keeps all that it ever had).
/// If it keeps more, tasks run one at a time: choose one that gives back, or a larger budget.
#[derive(Clone)]
pub struct MemoryBudget {
    inner: Arc<Inner>,
}

struct Inner {
    semaphore: Arc<Semaphore>,
    /// Holds the floor. Its weight is also the most that is ever promised to all together [MEMORY-1].
    floor: OwnedPermit,
    budget: u64,
    soft: u64,
    hard: u64,
    gauge: Box<dyn MemoryGauge + Send + Sync>,
    /// Units that were admitted, charged or given back since the last reading, about.
    moved: AtomicU64,
    /// Units that were given back since the beginning.
    given_back: AtomicU64,
    /// The limit, if it is what lets one run alone; else zero. As soon as that one knows, it is to fall again [MEMORY-6].
    raised: AtomicU64,
    review_every: u64,
    meter: Mutex<Meter>,
    peaks: Mutex<Peaks>,
    first_estimate: u64,
}

/// What the latest reading was, and what follows from it. Locked after the semaphore's ledger, if both are.
struct Meter {
    control: Control,
    /// In units.
    used: Option<usize>,
    /// How many readings were begun, and which of them `used` is [MEMORY-4].
    begun: u64,
    latest: u64,
}

impl MemoryBudget {
    /// The largest budget: 4 TiB.
    ///
    /// ```
    /// # use anteroom_limiter::MemoryBudget;
    /// assert_eq!(MemoryBudget::MAX_BYTES, 1 << 42);
    /// ```
    // Twice that many units fit into the semaphore: the floor, and what is above it.
    pub const MAX_BYTES: u64 = (Semaphore::MAX_PERMITS as u64).div_ceil(2) * UNIT;

    /// A budget of `budget_bytes` for all that this process has in memory.
    ///
    /// Measured as the resident pages of the process (`/proc/self/statm`). Where that cannot be read, what tasks declare
    /// alone counts.
    ///
    /// ```
    /// use anteroom_limiter::MemoryBudget;
    ///
    /// let budget = MemoryBudget::bytes(2 << 30);
    /// let permit = budget.try_acquire(100 << 20).unwrap();
    /// assert_eq!(permit.bytes(), 100 << 20);
    /// ```
    ///
    /// # Panics
    ///
    /// If `budget_bytes` is too little to share out or more than [`MAX_BYTES`](Self::MAX_BYTES).
    /// [`builder`](Self::builder) is for a number that comes from a user.
    #[must_use]
    #[track_caller]
    pub fn bytes(budget_bytes: u64) -> Self {
        Self::builder(budget_bytes)
            .build()
            .unwrap_or_else(|error| panic!("MemoryBudget::bytes({budget_bytes}): {error}"))
    }

    /// A budget of what the control group of this process allows, on Linux.
    ///
    /// In version 1 and 2, the smallest limit of the own group and all above it. Measured as what that group uses, without
    /// the files that the kernel can drop at once, and as no less than this process's resident pages. A group that allows
    /// more than [`MAX_BYTES`](Self::MAX_BYTES) makes a budget of that.
    ///
    /// ```
    /// use anteroom_limiter::MemoryBudget;
    ///
    /// let budget = MemoryBudget::from_cgroup().unwrap_or_else(|error| {
    ///     eprintln!("{error}");
    ///     MemoryBudget::bytes(512 << 20)
    /// });
    /// # drop(budget);
    /// ```
    ///
    /// # Errors
    ///
    /// [`CgroupError`]: among others that there is no limit, [`CgroupError::NoLimit`].
    pub fn from_cgroup() -> Result<Self, CgroupError> {
        Self::from_cgroup_below(Path::new("/"))
    }

    fn from_cgroup_below(root: &Path) -> Result<Self, CgroupError> {
        let cgroup::Limit { bytes, path, gauge } = cgroup::find(root)?;
        let builder = Self::builder(bytes.min(Self::MAX_BYTES)).gauge(gauge);
        builder.build().map_err(|_| CgroupError::TooSmall { path, limit_bytes: bytes })
    }

    /// A budget of `budget_bytes`, measured by `gauge`.
    ///
    /// ```
    /// use anteroom_limiter::MemoryBudget;
    ///
    /// let budget = MemoryBudget::with_gauge(1 << 20, || Some(1_000_000)); // nearly full, always
    /// let first = budget.try_acquire(4_096).unwrap(); // one always runs
    /// assert!(budget.try_acquire(4_096).is_err());
    /// # drop(first);
    /// ```
    ///
    /// # Panics
    ///
    /// As [`bytes`](Self::bytes).
    #[must_use]
    #[track_caller]
    pub fn with_gauge(budget_bytes: u64, gauge: impl MemoryGauge + Send + Sync + 'static) -> Self {
        Self::builder(budget_bytes)
            .gauge(gauge)
            .build()
            .unwrap_or_else(|error| panic!("MemoryBudget::with_gauge({budget_bytes}): {error}"))
    }

    /// A budget of `budget_bytes`, with all that can be chosen.
    ///
    /// ```
    /// use anteroom_limiter::{BudgetError, MemoryBudget};
    ///
    /// let budget = MemoryBudget::builder(1 << 30).soft(0.6).hard(0.7).build()?;
    /// assert_eq!(MemoryBudget::builder(1 << 30).soft(1.5).build().unwrap_err(), BudgetError::Fractions);
    /// # drop(budget);
    /// # Ok::<(), BudgetError>(())
    /// ```
    pub fn builder(budget_bytes: u64) -> MemoryBuilder {
        MemoryBuilder::new(budget_bytes)
    }

    /// What [`from_cgroup`](Self::from_cgroup) finds, with all that can be chosen besides.
    ///
    /// ```
    /// use anteroom_limiter::{CgroupError, MemoryBudget};
    ///
    /// match MemoryBudget::builder_from_cgroup() {
    ///     Ok(builder) => drop(builder.soft(0.7).build()),
    ///     Err(CgroupError::NoLimit) => println!("nobody limits this process"),
    ///     Err(error) => println!("{error}"),
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`from_cgroup`](Self::from_cgroup).
    pub fn builder_from_cgroup() -> Result<MemoryBuilder, CgroupError> {
        let cgroup::Limit { bytes, gauge, .. } = cgroup::find(Path::new("/"))?;
        Ok(Self::builder(bytes.min(Self::MAX_BYTES)).gauge(gauge))
    }

    /// Waits until `estimate_bytes` are free in the budget.
    ///
    /// An estimate above all that the budget promises waits until nothing else runs, and then runs alone. One of zero
    /// counts as one unit, 4 KiB, as every estimate is rounded up to units.
    ///
    /// ```
    /// # use anteroom_limiter::{AcquireError, MemoryBudget};
    /// async fn render(budget: &MemoryBudget) -> Result<(), AcquireError> {
    ///     let _permit = budget.acquire(8 << 20).await?;
    ///     // ... 8 MiB of image ...
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`AcquireError::Closed`](crate::AcquireError::Closed), and [`AcquireError::QueueFull`](crate::AcquireError::QueueFull) if as many wait as may.
    ///
    /// # Panics
    ///
    /// As drop of a [`MemoryPermit`] does.
    ///
    /// # Cancel safety
    ///
    /// As [`Semaphore::acquire`](crate::Semaphore::acquire): dropped, it leaves the line, what it was granted goes on, and
    /// those behind it are looked after.
    ///
    /// # Deadlock
    ///
    /// As there: it belongs to whoever holds it from the moment of the grant, polled or not; and who holds a permit and
    /// waits for another one may wait for itself. Who needs more than it asked for is [charged](MemoryPermit::charge).
    pub fn acquire(&self, estimate_bytes: u64) -> MemoryAcquire {
        MemoryAcquire::new(self, estimate_bytes, false)
    }

    /// Waits for what tasks typically hold: [`typical`](Self::typical) at the time of this call.
    ///
    /// ```
    /// # use anteroom_limiter::{AcquireError, MemoryBudget};
    /// # async fn download() -> Vec<u8> { Vec::new() }
    /// async fn fetch(budget: &MemoryBudget) -> Result<Vec<u8>, AcquireError> {
    ///     let mut permit = budget.acquire_typical().await?;
    ///     let body = download().await;
    ///     permit.settle(body.capacity() as u64); // or nobody learns anything
    ///     Ok(body)
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`acquire`](Self::acquire).
    ///
    /// # Panics
    ///
    /// As [`acquire`](Self::acquire).
    ///
    /// # Cancel safety
    ///
    /// As [`acquire`](Self::acquire).
    pub fn acquire_typical(&self) -> MemoryAcquire {
        MemoryAcquire::new(self, self.typical(), true)
    }

    /// Takes `estimate_bytes` if they are free and nobody waits for them.
    ///
    /// ```
    /// use anteroom_limiter::{MemoryBudget, TryAcquireError};
    ///
    /// let budget = MemoryBudget::with_gauge(1 << 20, || None); // measures nothing: 80 % of it is there to be declared
    /// let permit = budget.try_acquire(800 << 10).unwrap();
    /// assert_eq!(budget.try_acquire(100 << 10).unwrap_err(), TryAcquireError::NoPermits);
    /// drop(permit);
    /// assert!(budget.try_acquire(u64::MAX).is_ok()); // alone
    /// ```
    ///
    /// # Errors
    ///
    /// [`TryAcquireError::NoPermits`] and [`TryAcquireError::Closed`], at once.
    ///
    /// # Panics
    ///
    /// As drop of a [`MemoryPermit`] does.
    pub fn try_acquire(&self, estimate_bytes: u64) -> Result<MemoryPermit, TryAcquireError> {
        let permit = self.inner.try_acquire(self.inner.asked(estimate_bytes))?;
        Ok(MemoryPermit::new(self, permit, estimate_bytes, false))
    }

    /// What a task holds at its peak, typically: the 95th percentile of the latest one to two thousand that have said.
    ///
    /// Rounded up by less than an eighth. Before the first, the estimate that the [builder](MemoryBuilder::first_estimate)
    /// was given.
    ///
    /// ```
    /// use anteroom_limiter::MemoryBudget;
    ///
    /// let budget = MemoryBudget::with_gauge(16 << 20, || None);
    /// assert_eq!(budget.typical(), 1 << 20);
    /// let mut permit = budget.try_acquire(1 << 20).unwrap();
    /// permit.settle(100_000);
    /// drop(permit);
    /// assert!((100_000..112_500).contains(&budget.typical()));
    /// ```
    #[must_use]
    pub fn typical(&self) -> u64 {
        lock(&self.inner.peaks).typical().unwrap_or(self.inner.first_estimate)
    }

    /// Reads the gauge, and lets in or keeps out what follows from it.
    ///
    /// Happens by itself whenever a 64th of the budget was moved. A program whose other parts take memory while no task
    /// comes or goes calls it from a timer, once a second, say.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use std::sync::atomic::{AtomicU64, Ordering};
    /// use anteroom_limiter::{MemoryBudget, MemoryState};
    ///
    /// let used = Arc::new(AtomicU64::new(0));
    /// let gauge = Arc::clone(&used);
    /// let budget = MemoryBudget::with_gauge(1_000_000, move || Some(gauge.load(Ordering::Relaxed)));
    /// used.store(950_000, Ordering::Relaxed); // a cache has grown
    /// budget.review();
    /// assert_eq!(budget.snapshot().state, MemoryState::Stopped);
    /// ```
    ///
    /// # Panics
    ///
    /// If a waker of those who are let in panics, or the gauge does, with that panic, after all is done.
    pub fn review(&self) {
        self.inner.review(None);
    }

    /// Ends admission for good: all who wait and all who come are told [`AcquireError::Closed`](crate::AcquireError::Closed).
    ///
    /// Permits stay valid until they are dropped.
    ///
    /// ```
    /// use anteroom_limiter::{MemoryBudget, TryAcquireError};
    ///
    /// let budget = MemoryBudget::bytes(1 << 30);
    /// budget.close();
    /// assert_eq!(budget.try_acquire(1).unwrap_err(), TryAcquireError::Closed);
    /// ```
    ///
    /// # Panics
    ///
    /// If a waiter's waker panics, with its panic, after all waiters were told.
    pub fn close(&self) {
        self.inner.semaphore.close();
    }

    /// How many bytes permits hold, in units of 4 KiB.
    ///
    /// ```
    /// use anteroom_limiter::MemoryBudget;
    ///
    /// let budget = MemoryBudget::bytes(1 << 30);
    /// let permit = budget.try_acquire(5_000);
    /// assert_eq!(budget.in_use(), 8_192);
    /// # drop(permit);
    /// ```
    #[must_use]
    pub fn in_use(&self) -> u64 {
        bytes_of(self.inner.in_use())
    }

    /// How many callers wait.
    ///
    /// ```
    /// # use anteroom_limiter::MemoryBudget;
    /// assert_eq!(MemoryBudget::bytes(1 << 30).waiting(), 0);
    /// ```
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.inner.semaphore.waiting()
    }

    /// All that there is to know, for reports. Reads the gauge, and decides nothing.
    ///
    /// ```
    /// use anteroom_limiter::MemoryBudget;
    ///
    /// let budget = MemoryBudget::with_gauge(100 << 20, || Some(10 << 20));
    /// let permit = budget.try_acquire(20 << 20);
    /// assert_eq!(
    ///     budget.snapshot().to_string(),
    ///     "10.0 MiB used of 100.0 MiB (soft 80.0, hard 90.0), 20.0 promised of 70.0, 0 wait, typical 6.2 MiB, open"
    /// );
    /// # drop(permit);
    /// ```
    ///
    /// # Panics
    ///
    /// If the gauge does.
    #[must_use]
    pub fn snapshot(&self) -> MemorySnapshot {
        let inner = &*self.inner;
        let (used, pressure) = (inner.gauge.used(), inner.gauge.pressure()); // [MEMORY-5]
        let semaphore = inner.semaphore.snapshot();
        let (baseline, is_stopped) = {
            let meter = lock(&inner.meter);
            (meter.control.baseline(), meter.control.is_stopped())
        };
        MemorySnapshot {
            budget: inner.budget,
            soft: inner.soft,
            hard: inner.hard,
            limit: bytes_of(semaphore.limit - inner.floor.weight()), // [MEMORY-1]
            in_use: bytes_of(semaphore.in_use - inner.floor.weight()), // [MEMORY-2]
            used,
            baseline: bytes_of(baseline),
            waiting: semaphore.waiting,
            typical: self.typical(),
            state: if is_stopped { MemoryState::Stopped } else { MemoryState::Open },
            pressure,
        }
    }
}

impl Inner {
    /// What permits hold, in units. One load.
    fn in_use(&self) -> usize {
        self.semaphore.in_use() - self.floor.weight() // [MEMORY-2]
    }

    /// What an estimate asks the semaphore for [MEMORY-1].
    fn asked(&self, bytes: u64) -> usize {
        units_of(bytes).clamp(1, self.floor.weight())
    }

    /// Reads, decides, and lets in who fits. `alone`: what the caller asks for that does not wait in line.
    fn review(&self, alone: Option<usize>) {
        let ticket = {
            let mut meter = lock(&self.meter);
            meter.begun += 1;
            meter.begun
        };
        // Ordering: Relaxed; it only says that enough has happened to look again.
        self.moved.store(0, Ordering::Relaxed);
        let reading = catch_unwind(AssertUnwindSafe(|| self.gauge.used())); // [MEMORY-5]
        let (used, panic) = match reading {
            Ok(used) => (used.map(units_of), None),
            Err(payload) => (None, Some(payload)),
        };
        self.relimit(Some((ticket, used)), alone);
        if let Some(payload) = panic {
            if thread::panicking() {
                discard(payload);
            } else {
                resume_unwind(payload);
            }
        }
    }

    /// Decides, by this reading or the latest, and lets in who fits.
    fn relimit(&self, reading: Option<(u64, Option<usize>)>, alone: Option<usize>) {
        let floor = self.floor.weight();
        self.semaphore.relimit(|balance| {
            let mut meter = lock(&self.meter);
            // Who began later has seen all that made us look. What is held and who waits is new in any case.
            if let Some((ticket, used)) = reading.filter(|&(ticket, _)| ticket > meter.latest) {
                (meter.latest, meter.used) = (ticket, used); // [MEMORY-4]
            }
            let head = if balance.waiting == 0 { alone } else { balance.head };
            let in_use = balance.in_use - floor; // [MEMORY-2]
            // Ordering: Relaxed; how fast things turn over, about.
            let given_back = self.given_back.load(Ordering::Relaxed);
            let reading = Reading { used: meter.used, in_use, given_back, head };
            let limit = meter.control.review(reading);
            // Ordering: Relaxed; who is let in by this limit sees this, too, since it is written before the limit is.
            let is_raised = in_use == 0 && head == Some(limit);
            self.raised.store(if is_raised { limit as u64 } else { 0 }, Ordering::Relaxed);
            floor + limit // [MEMORY-1]; at most twice the floor
        });
    }

    fn try_acquire(&self, asked: usize) -> Result<OwnedPermit, TryAcquireError> {
        match self.semaphore.try_acquire_many_owned(asked) {
            Err(TryAcquireError::NoPermits) => self.try_again(asked),
            decided => decided,
        }
    }

    /// For who was refused and will not wait: looks whether that is still right. If nothing is held, nobody else would.
    fn try_again(&self, asked: usize) -> Result<OwnedPermit, TryAcquireError> {
        if !(self.in_use() == 0 || self.is_due(asked)) {
            return Err(TryAcquireError::NoPermits);
        }
        self.review(Some(asked));
        let second = self.semaphore.try_acquire_many_owned(asked);
        if second.is_err() {
            self.review(None); // Somebody came in between, and the room that was made for us is not for all.
        }
        second
    }

    /// Whether enough has been moved, with these units, to look again.
    fn is_due(&self, units: usize) -> bool {
        add(&self.moved, units) >= self.review_every
    }

    /// After `units` were moved: reviews if it is time, or if nobody else would [MEMORY-3].
    ///
    /// It is not called if a waker panicked on the way; but then somebody was let in, who looks when it ends.
    fn after(&self, units: usize) {
        let semaphore = &self.semaphore;
        // With a limit of nothing it is stopped, or others have all: whoever gives back looks whether that is over.
        let nothing_starts = || self.in_use() == 0 || semaphore.limit() == self.floor.weight();
        if self.is_due(units) || (nothing_starts() && semaphore.waiting() > 0) {
            self.review(None);
        // Ordering: Relaxed; see where it is written.
        } else if self.raised.load(Ordering::Relaxed) > 0 {
            self.relimit(None, None); // [MEMORY-6]
        }
    }
}

/// Adds to a count that decides when to look and what to make of it, and protects nothing; the sum.
fn add(count: &AtomicU64, units: usize) -> u64 {
    // Ordering: Relaxed, all of it: a statistic.
    let mut seen = count.load(Ordering::Relaxed);
    loop {
        let sum = seen.wrapping_add(units as u64);
        match count.compare_exchange_weak(seen, sum, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => return sum,
            Err(now) => seen = now,
        }
    }
}

impl fmt::Debug for MemoryBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBudget")
            .field("budget", &self.inner.budget)
            .field("in_use", &self.in_use())
            .field("waiting", &self.waiting())
            .finish_non_exhaustive()
    }
}

/// What a task holds, as far as it is known before: the future itself, and what its author says that it will allocate.
///
/// ```
/// use anteroom_limiter::task_bytes;
///
/// async fn copy() -> usize {
///     let buffer = [0_u8; 1_000];
///     std::future::ready(()).await;
///     buffer.len()
/// }
///
/// let task = copy();
/// assert!((65_536 + 1_000..65_536 + 2_000).contains(&task_bytes(&task, 65_536)));
/// ```
#[must_use]
pub fn task_bytes<F: ?Sized>(task: &F, heap_bytes: u64) -> u64 {
    heap_bytes.saturating_add(size_of_val(task) as u64)
}

/// Rounded up.
fn units_of(bytes: u64) -> usize {
    usize::try_from(bytes.div_ceil(UNIT)).unwrap_or(usize::MAX)
}

fn bytes_of(units: usize) -> u64 {
    (units as u64).saturating_mul(UNIT) // What was measured may be any number.
}
