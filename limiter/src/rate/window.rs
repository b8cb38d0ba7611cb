//! At most so many in any window of one length, counted: for limits that are somebody else's.
//!
//! # Problem
//!
//! Many services say "1,000 in any five minutes" and mean just that: all thousand at once are fine, and the thousand and first is not,
//! until five minutes after the first. A [`Rate`](crate::Rate) with that burst would let 1,999 through in the wrong five minutes,
//! and without it, one after another only. To remember the time of each is exact, and takes memory for each.
//!
//! # Idea
//!
//! The length is cut into 16 parts. Of each part of the past that still matters it is known how many came in it, and when
//! the last of them came. All of a part are forgotten when the last of them is, so none is forgotten too early:
//!
//! ```text
//!        ├─ part ─┼─ part ─┼─ ... ─┼─ now ──┤        16 parts are one length; 17 can reach into it
//!          3, at .7  0        1, at .2  2, at .4
//!          │
//!          └─ counts as three until .7 of that part is a whole length ago
//! ```
//!
//! # Bounds
//!
//! 17 parts of 24 bytes, however many come.
//!
//! # Invariants
//!
//! - `[WINDOW-1]` In any half-open window of the length, wherever it begins, at most `n` are admitted. Time is the latest that
//!   was ever given.
//! - `[WINDOW-2]` Nobody is refused who fits beside those of the last 17/16 of the length.
//!
//! # Rejected
//!
//! - *Two windows side by side, the older one weighed by how much of it is left.* It estimates, and is wrong both ways.
//! - *A word for many threads.* A count for each part has to be looked at by all; a lock around it is the caller's choice.
//!
//! # Read next
//!
//! [`crate::rate`], if they may as well be spread over the time.

use std::fmt;
use std::time::{Duration, Instant};

use crate::rate::limit::CheckManyError;
use crate::rate::{MAX_NS, NotYet, RateError, instant, since};

/// Parts of one length.
const PARTS: u64 = 16;
/// Parts that can reach into one length: it begins and ends in the middle of one.
const KEPT: usize = PARTS as usize + 1;

/// At most `n` in any window of a length, however they lie in it: plain data, of constant size.
///
/// It counts on the strict side: one may count for up to 1/16 of the length longer than it should, and never shorter. A time
/// before one that was given earlier counts as that one.
///
/// ```
/// use std::time::{Duration, Instant};
/// use anteroom_limiter::SlidingWindow;
///
/// let start = Instant::now();
/// let minutes = |n| start + Duration::from_secs(60) * n;
/// let mut quota = SlidingWindow::new(3, Duration::from_secs(600), start); // three in any ten minutes
///
/// assert!(quota.check(minutes(0)).is_ok());
/// assert!(quota.check(minutes(4)).is_ok() && quota.check(minutes(4)).is_ok());
/// assert_eq!(quota.check(minutes(9)).unwrap_err().at(), minutes(10));
/// assert!(quota.check(minutes(10)).is_ok()); // the one of minute 0 is out of the window
/// assert_eq!(quota.check(minutes(10)).unwrap_err().at(), minutes(14));
/// ```
///
/// # Bounds
///
/// Less than 512 bytes. 73 years after the time given to [`new`](Self::new), nothing is admitted any more.
#[derive(Clone)]
pub struct SlidingWindow {
    parts: [Part; KEPT],
    limit: u64,
    length_ns: u64,
    part_ns: u64,
    epoch: Instant,
    /// The latest time that was given.
    latest: u64,
}

/// Those that came in one part of the time.
#[derive(Clone, Copy)]
struct Part {
    /// Which part of the time it is.
    number: u64,
    count: u64,
    /// When the last of them came.
    last: u64,
}

impl SlidingWindow {
    /// At most `limit` in any window of `length`, on a clock that now says `now`.
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// use anteroom_limiter::SlidingWindow;
    ///
    /// let window = SlidingWindow::new(1_000, Duration::from_secs(300), Instant::now());
    /// assert_eq!(window.limit(), 1_000);
    /// ```
    ///
    /// # Panics
    ///
    /// If `limit` or `length` is zero, or `length` more than 366 days. [`try_new`](Self::try_new) is for numbers that come from a user.
    #[must_use]
    #[track_caller]
    pub fn new(limit: u64, length: Duration, now: Instant) -> Self {
        Self::try_new(limit, length, now)
            .unwrap_or_else(|error| panic!("SlidingWindow::new({limit}, {length:?}): {error}"))
    }

    /// At most `limit` in any window of `length`, or why that cannot be.
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// use anteroom_limiter::{RateError, SlidingWindow};
    ///
    /// let error = SlidingWindow::try_new(0, Duration::from_secs(1), Instant::now()).unwrap_err();
    /// assert_eq!(error, RateError::Zero);
    /// ```
    ///
    /// # Errors
    ///
    /// [`RateError::Zero`], [`RateError::PeriodTooLong`], and [`RateError::TooFast`] for a length of zero.
    pub fn try_new(limit: u64, length: Duration, now: Instant) -> Result<Self, RateError> {
        if limit == 0 {
            return Err(RateError::Zero);
        }
        if length.is_zero() {
            return Err(RateError::TooFast);
        }
        if length > Duration::from_secs(366 * 24 * 60 * 60) {
            return Err(RateError::PeriodTooLong);
        }
        let length_ns = length.as_nanos() as u64; // Less than 2⁵⁵, see above.
        let none = Part { number: 0, count: 0, last: 0 };
        let part_ns = length_ns.div_ceil(PARTS);
        Ok(Self { parts: [none; KEPT], limit, length_ns, part_ns, epoch: now, latest: 0 })
    }

    /// Counts one, if it fits.
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// use anteroom_limiter::SlidingWindow;
    ///
    /// let now = Instant::now();
    /// let mut window = SlidingWindow::new(1, Duration::from_secs(5), now);
    /// assert!(window.check(now).is_ok());
    /// assert_eq!(window.check(now).unwrap_err().retry_after(), Duration::from_secs(5));
    /// ```
    ///
    /// # Errors
    ///
    /// [`NotYet`], which says when one fits. Nothing was counted then.
    pub fn check(&mut self, now: Instant) -> Result<(), NotYet> {
        self.count(1, now)
    }

    /// Counts `units`, all or none, if they fit.
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// use anteroom_limiter::{CheckManyError, SlidingWindow};
    ///
    /// let now = Instant::now();
    /// let mut window = SlidingWindow::new(10, Duration::from_secs(5), now);
    /// assert!(window.check_many(7, now).is_ok());
    /// assert!(matches!(window.check_many(7, now), Err(CheckManyError::NotYet(_))));
    /// assert_eq!(window.check_many(11, now), Err(CheckManyError::ExceedsBurst));
    /// ```
    ///
    /// # Errors
    ///
    /// [`CheckManyError`], with `ExceedsBurst` for more than ever fit. Nothing was counted then.
    pub fn check_many(&mut self, units: u64, now: Instant) -> Result<(), CheckManyError> {
        if units > self.limit {
            return Err(CheckManyError::ExceedsBurst);
        }
        self.count(units, now).map_err(CheckManyError::NotYet)
    }

    /// How many there may be in the window.
    ///
    /// ```
    /// # use std::time::{Duration, Instant};
    /// # use anteroom_limiter::SlidingWindow;
    /// assert_eq!(SlidingWindow::new(7, Duration::from_secs(1), Instant::now()).limit(), 7);
    /// ```
    #[must_use]
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// How many count at `now`.
    ///
    /// ```
    /// # use std::time::{Duration, Instant};
    /// # use anteroom_limiter::SlidingWindow;
    /// let now = Instant::now();
    /// let mut window = SlidingWindow::new(7, Duration::from_secs(1), now);
    /// window.check(now).unwrap();
    /// assert_eq!(window.used(now), 1);
    /// assert_eq!(window.used(now + Duration::from_secs(1)), 0);
    /// ```
    #[must_use]
    pub fn used(&self, now: Instant) -> u64 {
        self.used_at(since(self.epoch, now).max(self.latest))
    }

    fn used_at(&self, t: u64) -> u64 {
        let counts = |part: &&Part| t - part.last < self.length_ns; // No part is later than the latest time.
        self.parts.iter().filter(counts).map(|part| part.count).sum()
    }

    fn count(&mut self, units: u64, now: Instant) -> Result<(), NotYet> {
        let t = since(self.epoch, now).max(self.latest);
        self.latest = t;
        if t == MAX_NS || self.used_at(t) > self.limit - units {
            return Err(NotYet::until(self.epoch, now, self.fits_at(units, t)));
        }
        if units > 0 {
            let number = t / self.part_ns;
            let part = &mut self.parts[(number % KEPT as u64) as usize];
            if part.number != number {
                // [WINDOW-1], [WINDOW-2] That was 17 parts ago or more, each 1/16 of the length or more: it does not count.
                *part = Part { number, count: 0, last: t };
            }
            part.count += units;
            part.last = t;
        }
        Ok(())
    }

    /// When `units` fit, which they do not at `t`: part by part is forgotten.
    fn fits_at(&self, units: u64, t: u64) -> u64 {
        let mut parts = self.parts;
        parts.sort_unstable_by_key(|part| part.last);
        let mut used = self.used_at(t);
        for part in parts.iter().filter(|part| part.count > 0 && t - part.last < self.length_ns) {
            used -= part.count;
            if used <= self.limit - units {
                return part.last + self.length_ns;
            }
        }
        MAX_NS // The end of the line: never.
    }
}

impl fmt::Debug for SlidingWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SlidingWindow")
            .field("limit", &self.limit)
            .field("length", &Duration::from_nanos(self.length_ns))
            .field("at", &instant(self.epoch, self.latest))
            .field("used", &self.used_at(self.latest))
            .finish_non_exhaustive()
    }
}
