//! A rate that threads and tasks share: one atomic word, and whoever has to wait sleeps.
//!
//! # Problem
//!
//! Whoever may not go on now has to wait, in the order of arrival, and may give up. A queue of waiters with a timer each, and a
//! thread or a task that wakes them, costs more than what it limits.
//!
//! # Idea
//!
//! There is no queue. Slots lie one after another in time ([`crate::rate`]), and the word says which is the next that is
//! free. Who takes one moves the word by a compare-and-swap, and knows its time from then on: the order of the swaps is the
//! order of the slots. So to wait is to sleep until a time that is known, and nobody has to be woken by anybody.
//!
//! ```text
//!   check     is the next slot due?  yes: take it          no: say when
//!   reserve   take it in any case, unless it is too far away, and say when it is due
//!   wait      reserve, and sleep until then
//!   cancel    move the word back, if nobody has taken a slot since
//! ```
//!
//! # Bounds
//!
//! Nothing is allocated. A slot farther away than [`RateLimit::with_max_wait`] says is not given.
//!
//! # Invariants
//!
//! - `[SLOT-1]` A slot is given to one caller: the word moves by compare-and-swap only.
//! - `[SLOT-2]` A slot comes back if the word stands right behind it, and then nobody else has any slot behind it: the word
//!   goes back over a slot only by its own cancellation.
//! - `[SLOT-3]` A wait that is dropped has no slot, or one that went to nobody.
//!
//! # Rejected
//!
//! - *Giving back any slot.* The word would have to say which of those in front of it are free: a queue again. A slot that
//!   was given up in the middle passes unused, which errs on the side of too few.
//! - *A reservation that is given back when it is dropped.* Its holder goes on at its time and then drops it, and has used it.
//! - *`set_rate` by `&self`.* What is taken is counted in slots of the rate, so both have to change at once, in front of
//!   readers that are under way: a lock around each check, or a second word and a loop that looks twice. Who owns the
//!   limit, by itself or in a lock, sets another rate by `&mut self`.
//! - *A clock of its own.* See [`crate::timer`].
//!
//! # Read next
//!
//! [`crate::rate::keyed`], a rate for each key; [`crate::rate::paced`], a rate and a semaphore in one.

use std::collections::hash_map::RandomState;
use std::error::Error;
use std::fmt;
use std::hash::BuildHasher;
use std::mem;
use std::time::{Duration, Instant};

use crate::rate::{MAX_NS, NotYet, Rate, instant, since};
use crate::sync::{AtomicU64, Ordering, seeded};
use crate::timer::Timer;

/// At most so many in so much time, over all who share it. First come, first served.
///
/// Never more than [`Rate`] promises, in any window; and never less than exact arithmetic would give. What time it is, the
/// caller says, so it works with any clock, also one that a test holds. A clock that steps back neither panics nor gains
/// anything.
///
/// ```
/// use std::time::{Duration, Instant};
/// use anteroom_limiter::{Rate, RateLimit};
///
/// let limit = RateLimit::new(Rate::per_second(10).burst(2), Instant::now());
///
/// let now = Instant::now();
/// assert!(limit.check(now).is_ok());
/// assert!(limit.check(now).is_ok());
/// let not_yet = limit.check(now).unwrap_err();
/// assert!(not_yet.retry_after() <= Duration::from_millis(100));
/// ```
///
/// Or to sleep until one's turn, with the runtime's [`Timer`]:
///
/// ```
/// use anteroom_limiter::{RateLimit, ReserveError, Timer};
///
/// async fn send(limit: &RateLimit, timer: &impl Timer, letter: &str) -> Result<(), ReserveError> {
///     limit.wait(timer).await?;
///     // ... one letter ...
///     Ok(())
/// }
/// ```
///
/// # Bounds
///
/// No slot is given that is farther away than [`with_max_wait`](Self::with_max_wait) says, a day unless it is set. 73 years after the
/// time given to [`new`](Self::new), nothing is admitted any more.
pub struct RateLimit {
    /// The place of the next free slot.
    taken: AtomicU64,
    rate: Rate,
    epoch: Instant,
    max_wait_ns: u64,
    /// What makes the jitter of one process another than that of the next.
    seed: u64,
}

/// A slot that is one's own: it says when.
///
/// Dropped, it counts as used. [`cancel`](Self::cancel) is for who does not use it.
///
/// ```
/// use std::time::{Duration, Instant};
/// use anteroom_limiter::{Rate, RateLimit};
///
/// let now = Instant::now();
/// let limit = RateLimit::new(Rate::per_second(1), now);
/// let times = [(); 3].map(|()| limit.reserve(now).unwrap().at());
/// assert_eq!(times, [0, 1, 2].map(|after| now + Duration::from_secs(after)));
/// ```
#[must_use = "the slot is taken, and counts as used when this is dropped"]
pub struct Slot<'a> {
    limit: &'a RateLimit,
    at: Instant,
    /// The place behind it.
    next: u64,
    units: u64,
}

/// Why [`check_many`](RateLimit::check_many) took nothing.
///
/// ```
/// use std::time::Instant;
/// use anteroom_limiter::{CheckManyError, Rate, RateLimit};
///
/// let now = Instant::now();
/// let limit = RateLimit::new(Rate::per_second(10).burst(5), now);
/// assert_eq!(limit.check_many(6, now).unwrap_err(), CheckManyError::ExceedsBurst);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CheckManyError {
    /// Not now, but then.
    NotYet(NotYet),
    /// More than the burst: so many at once are never admitted.
    ExceedsBurst,
}

/// Why [`reserve`](RateLimit::reserve), [`wait`](RateLimit::wait) and their siblings gave no slot.
///
/// ```
/// use std::time::{Duration, Instant};
/// use anteroom_limiter::{Rate, RateLimit, ReserveError};
///
/// let now = Instant::now();
/// let limit = RateLimit::new(Rate::per_second(1), now).with_max_wait(Duration::from_secs(1));
/// assert!(limit.reserve(now).is_ok() && limit.reserve(now).is_ok());
/// assert_eq!(limit.reserve(now).unwrap_err(), ReserveError::QueueFull);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReserveError {
    /// The next slot is farther away than [`RateLimit::with_max_wait`] allows.
    QueueFull,
    /// More than the burst: so many at once are never admitted.
    ExceedsBurst,
}

impl RateLimit {
    /// How far away a slot may be, unless [`with_max_wait`](Self::with_max_wait) says otherwise: a day.
    ///
    /// ```
    /// # use anteroom_limiter::RateLimit;
    /// assert_eq!(RateLimit::DEFAULT_MAX_WAIT.as_secs(), 24 * 60 * 60);
    /// ```
    pub const DEFAULT_MAX_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

    /// A limit of which nothing is used, on a clock that now says `now`. An earlier time counts as this one.
    ///
    /// ```
    /// use std::time::Instant;
    /// use anteroom_limiter::{Rate, RateLimit};
    ///
    /// let limit = RateLimit::new(Rate::per_minute(20), Instant::now());
    /// assert_eq!(limit.rate(), Rate::per_minute(20));
    /// ```
    #[must_use]
    pub fn new(rate: Rate, now: Instant) -> Self {
        let seed = RandomState::new().hash_one(());
        let max_wait_ns = Self::DEFAULT_MAX_WAIT.as_nanos() as u64; // A day has less than 2⁴⁷.
        Self { taken: AtomicU64::new(0), rate, epoch: now, max_wait_ns, seed }
    }

    /// The same limit, which refuses whoever would have to wait longer than this.
    ///
    /// Each who waits does so in a frame of its own; this bounds how many there can be: those of the burst, and the rate
    /// times `max_wait`.
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// use anteroom_limiter::{Rate, RateLimit};
    ///
    /// let now = Instant::now();
    /// let limit = RateLimit::new(Rate::per_second(1_000), now).with_max_wait(Duration::from_millis(50));
    /// let waiting = (0..).map_while(|_| limit.reserve(now).ok()).count();
    /// assert_eq!(waiting, 51);
    /// ```
    #[must_use]
    pub fn with_max_wait(mut self, max_wait: Duration) -> Self {
        self.max_wait_ns = u64::try_from(max_wait.as_nanos()).unwrap_or(u64::MAX);
        self
    }

    /// The rate that it keeps.
    ///
    /// ```
    /// # use std::time::Instant;
    /// # use anteroom_limiter::{Rate, RateLimit};
    /// assert_eq!(RateLimit::new(Rate::per_hour(5), Instant::now()).rate(), Rate::per_hour(5));
    /// ```
    #[must_use]
    pub fn rate(&self) -> Rate {
        self.rate
    }

    /// Takes a slot, if one is due at `now`.
    ///
    /// ```
    /// use std::time::Instant;
    /// use anteroom_limiter::{Rate, RateLimit};
    ///
    /// let now = Instant::now();
    /// let logins = RateLimit::new(Rate::per_minute(3), now);
    /// assert!(logins.check(now).is_ok());
    /// assert_eq!(logins.check(now).unwrap_err().retry_after().as_secs(), 20);
    /// ```
    ///
    /// # Errors
    ///
    /// [`NotYet`], which says when. Nothing has changed then.
    #[inline]
    pub fn check(&self, now: Instant) -> Result<(), NotYet> {
        // A burst is at least one.
        self.take(1, now).map_err(|place| self.not_yet(place, now))
    }

    /// Takes `units` slots, all or none, if so many are due at `now`. For none of them, it says yes.
    ///
    /// ```
    /// use std::time::Instant;
    /// use anteroom_limiter::{Rate, RateLimit};
    ///
    /// let now = Instant::now();
    /// let bytes = RateLimit::new(Rate::per_second(1_000_000).burst(64 * 1024), now);
    /// assert!(bytes.check_many(50_000, now).is_ok());
    /// assert!(bytes.check_many(50_000, now).is_err());
    /// ```
    ///
    /// # Errors
    ///
    /// [`CheckManyError`]. Nothing has changed then.
    #[inline]
    pub fn check_many(&self, units: u64, now: Instant) -> Result<(), CheckManyError> {
        if units == 0 {
            return Ok(()); // Who takes nothing waits for nothing.
        }
        if units > self.rate.burst_size() {
            return Err(CheckManyError::ExceedsBurst);
        }
        self.take(units, now).map_err(|place| CheckManyError::NotYet(self.not_yet(place, now)))
    }

    /// Takes the next free slot, now or in the future. Slots are given in the order of the calls.
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// use anteroom_limiter::{Rate, RateLimit};
    ///
    /// let now = Instant::now();
    /// let limit = RateLimit::new(Rate::per_second(2), now);
    /// limit.check(now).unwrap();
    /// let slot = limit.reserve(now)?;
    /// assert_eq!(slot.at(), now + Duration::from_millis(500));
    /// assert!(limit.check(slot.at()).is_err(), "it is taken");
    /// # Ok::<(), anteroom_limiter::ReserveError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ReserveError::QueueFull`]. Nothing has changed then.
    #[inline]
    pub fn reserve(&self, now: Instant) -> Result<Slot<'_>, ReserveError> {
        self.reserve_many(1, now)
    }

    /// As [`reserve`](Self::reserve), for `units` slots at one time. For none of them, that time is `now`.
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// use anteroom_limiter::{Rate, RateLimit};
    ///
    /// let now = Instant::now();
    /// let limit = RateLimit::new(Rate::per_second(10).burst(5), now);
    /// assert_eq!(limit.reserve_many(5, now)?.at(), now);
    /// assert_eq!(limit.reserve_many(5, now)?.at(), now + Duration::from_millis(500));
    /// # Ok::<(), anteroom_limiter::ReserveError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ReserveError`]. Nothing has changed then.
    pub fn reserve_many(&self, units: u64, now: Instant) -> Result<Slot<'_>, ReserveError> {
        if units > self.rate.burst_size() {
            return Err(ReserveError::ExceedsBurst);
        }
        if units == 0 {
            return Ok(Slot { limit: self, at: now, next: 0, units });
        }
        let t = since(self.epoch, now);
        let latest = t.saturating_add(self.max_wait_ns).min(MAX_NS);
        let (next, due) = self
            .swap(|taken| match self.rate.book(taken, t, units) {
                (next, due) if due <= latest => Ok((next, due)),
                _ => Err(()),
            })
            .map_err(|()| ReserveError::QueueFull)?;
        // Before the epoch, or past what the clock can say, `t` is not `now`.
        let at = if due > t { instant(self.epoch, due).max(now) } else { now };
        Ok(Slot { limit: self, at, next, units })
    }

    /// Sleeps until one's slot, which is taken when this is first polled. Slots are given in that order.
    ///
    /// What is limited are the slots. Whoever is polled late goes on late, so on a thread that was held up several may
    /// go on at once that had a slot each; and [`Rate::jitter`] adds to the sleep of those who have to sleep.
    ///
    /// ```
    /// use anteroom_limiter::{RateLimit, ReserveError, Timer};
    ///
    /// async fn crawl(limit: &RateLimit, timer: &impl Timer, pages: &[&str]) -> Result<(), ReserveError> {
    ///     for page in pages {
    ///         limit.wait(timer).await?;
    ///         // ... fetch the page ...
    ///     }
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ReserveError::QueueFull`], at once.
    ///
    /// # Cancel safety
    ///
    /// Dropped while it sleeps, its slot goes back if nobody has taken one since; else the slot passes unused. Nobody waits
    /// longer for it.
    pub async fn wait<T: Timer>(&self, timer: &T) -> Result<(), ReserveError> {
        self.wait_many(1, timer).await
    }

    /// As [`wait`](Self::wait), for `units` slots at one time. For none of them, it does not wait.
    ///
    /// ```
    /// use anteroom_limiter::{RateLimit, ReserveError, Timer};
    ///
    /// async fn upload(limit: &RateLimit, timer: &impl Timer, block: &[u8]) -> Result<(), ReserveError> {
    ///     limit.wait_many(block.len() as u64, timer).await?;
    ///     // ... send the block ...
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ReserveError`], at once.
    ///
    /// # Cancel safety
    ///
    /// As [`wait`](Self::wait).
    pub async fn wait_many<T: Timer>(&self, units: u64, timer: &T) -> Result<(), ReserveError> {
        let now = timer.now();
        let slot = self.reserve_many(units, now)?;
        if slot.at > now {
            let at = slot.at.checked_add(self.jitter(slot.next)).unwrap_or(slot.at);
            let slot = GivenBack(Some(slot)); // [SLOT-3] Also if the timer panics.
            timer.sleep_until(at).await;
            slot.keep();
        }
        Ok(())
    }

    /// Changes the rate. What was taken and not yet made up for, and what is reserved, is carried over, slot for slot.
    ///
    /// A window that spans the change admits no more than the larger of the two rates, with the larger of the two bursts,
    /// would, if the clock does not step back over it. A [`Slot`] cannot be there, since it borrows the limit; the times that
    /// [`NotYet`], and slots that were dropped, have told are those of the old rate: who goes by the time of a dropped slot
    /// after the change comes on top.
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// use anteroom_limiter::{Rate, RateLimit};
    ///
    /// let now = Instant::now();
    /// let mut limit = RateLimit::new(Rate::per_second(100).burst(10), now);
    /// limit.check_many(10, now).unwrap();
    /// limit.set_rate(Rate::per_second(1).burst(10), now); // ten are still to be made up for
    /// assert_eq!(limit.check(now).unwrap_err().retry_after(), Duration::from_secs(1));
    /// ```
    pub fn set_rate(&mut self, rate: Rate, now: Instant) {
        let t = since(self.epoch, now);
        // Ordering: Relaxed; `&mut` says that nobody else is here.
        let taken = self.taken.load(Ordering::Relaxed);
        self.taken.store(rate.convert(&self.rate, taken, t), Ordering::Relaxed);
        self.rate = rate;
    }

    /// Takes `units` within the burst, or says which place the present has to reach.
    #[inline]
    fn take(&self, units: u64, now: Instant) -> Result<(), u64> {
        let t = since(self.epoch, now);
        self.swap(|taken| self.rate.take(taken, t, units).map(|next| (next, ()))).map(|_| ())
    }

    /// Moves the word, until nobody else did so in between; lock-free, since then somebody else got on [SLOT-1].
    #[inline]
    fn swap<T, E>(&self, step: impl Fn(u64) -> Result<(u64, T), E>) -> Result<(u64, T), E> {
        // Ordering: Relaxed, all of them. The word is all that is shared: no other memory is written before a slot is taken
        // that must be seen after. Which value a swap replaces has one order for all in any case. A refusal may rest on a
        // value that is no longer the newest: then it was so a moment ago.
        let mut seen = self.taken.load(Ordering::Relaxed);
        loop {
            let (next, output) = step(seen)?;
            if seeded("rate_plain") {
                self.taken.store(next, Ordering::Relaxed);
                return Ok((next, output));
            }
            match self.taken.compare_exchange_weak(seen, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Ok((next, output)),
                Err(now) => seen = now,
            }
        }
    }

    #[inline]
    fn not_yet(&self, place: u64, now: Instant) -> NotYet {
        NotYet::new(&self.rate, self.epoch, now, place)
    }

    /// Between nothing and the rate's jitter, another for each slot.
    fn jitter(&self, next: u64) -> Duration {
        let max = u64::try_from(self.rate.max_jitter().as_nanos()).unwrap_or(u64::MAX).min(MAX_NS);
        Duration::from_nanos(((u128::from(mix(self.seed ^ next)) * (u128::from(max) + 1)) >> 64) as u64)
    }
}

/// Bits that look like chance: the finish of SplitMix64.
fn mix(bits: u64) -> u64 {
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

impl Slot<'_> {
    /// When it is due. Not before the `now` that it was reserved at.
    ///
    /// ```
    /// # use std::time::Instant;
    /// # use anteroom_limiter::{Rate, RateLimit};
    /// let now = Instant::now();
    /// let limit = RateLimit::new(Rate::per_second(1), now);
    /// assert_eq!(limit.reserve(now).unwrap().at(), now);
    /// ```
    #[must_use]
    pub fn at(&self) -> Instant {
        self.at
    }

    /// Gives the slot back, if it is the newest. Else it passes unused: those behind it have been told their times already.
    /// Whether it was given back.
    ///
    /// ```
    /// use std::time::Instant;
    /// use anteroom_limiter::{Rate, RateLimit};
    ///
    /// let now = Instant::now();
    /// let limit = RateLimit::new(Rate::per_second(1), now);
    /// let (first, second) = (limit.reserve(now).unwrap(), limit.reserve(now).unwrap());
    /// let time = second.at();
    /// assert!(!first.cancel(), "somebody is behind it");
    /// assert!(second.cancel());
    /// assert_eq!(limit.reserve(now).unwrap().at(), time);
    /// ```
    #[must_use = "a slot that is not the newest does not come back"]
    pub fn cancel(self) -> bool {
        if self.units == 0 {
            return true;
        }
        let before = self.limit.rate.before(self.next, self.units);
        let back = |taken| if taken == self.next { Ok((before, ())) } else { Err(()) };
        self.limit.swap(back).is_ok() // [SLOT-2]
    }
}

/// A slot that is given back when this is dropped, unless it is kept.
struct GivenBack<'a>(Option<Slot<'a>>);

impl GivenBack<'_> {
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for GivenBack<'_> {
    fn drop(&mut self) {
        if let Some(slot) = mem::take(&mut self.0) {
            let _ = slot.cancel(); // [SLOT-3]
        }
    }
}

impl fmt::Debug for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimit").field("rate", &self.rate).finish_non_exhaustive()
    }
}

impl fmt::Debug for Slot<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").field("at", &self.at).field("units", &self.units).finish_non_exhaustive()
    }
}

impl fmt::Display for CheckManyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CheckManyError::NotYet(not_yet) => not_yet.fmt(f),
            CheckManyError::ExceedsBurst => f.write_str("the request exceeds the rate's burst"),
        }
    }
}

impl fmt::Display for ReserveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ReserveError::QueueFull => "the next slot is farther away than a wait may last",
            ReserveError::ExceedsBurst => "the request exceeds the rate's burst",
        })
    }
}

impl Error for CheckManyError {}
impl Error for ReserveError {}
