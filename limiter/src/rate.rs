//! So many in so much time: a rate, and the arithmetic that keeps it. Pure.
//!
//! # Problem
//!
//! "A hundred a second" is easily broken twice: a counter that starts anew each second lets two hundred through around
//! the turn of a second, and a period that is rounded to whole nanoseconds makes 3 a second a little more than 3, or
//! 999,999,937 a second half of that. And whoever divides by it, does so at each call.
//!
//! # Idea
//!
//! The generic cell rate algorithm, GCRA: one number says which slot is the next one that is free. Slots are one period
//! apart, and a burst may take those of its near future. Nothing is counted down, so nobody needs a timer.
//!
//! The number is a place on a line, in units of a power of two of a slot, which are half to a quarter of a nanosecond
//! long. So a slot is a whole number of units, and to take one is exact, for every rate. What has to be rounded is the
//! present, and that once a call, with one multiplication:
//!
//! ```text
//!   units, at time t:   low(t) = ⌈t·slope⌉              the place of the present; a limit that was idle goes on from there
//!                      high(t) = ⌈(t+1)·slope⌉ - 1      the last place that belongs to this nanosecond
//!
//!   taken ──► from = max(taken, low) ──► taken' = from + units·slot        if taken' ≤ high + burst·slot
//!                                        else not before ⌊(taken' - burst·slot) / slope⌋
//! ```
//!
//! The slope, units a nanosecond, is a fixed-point number of 64 bits, rounded down: a rate is kept to 1 part in 2⁶³, on the
//! side of too few. An [`Instant`] counts whole nanoseconds, so it stands for all of one, and a slot
//! that is due in the middle of it is due in it: a rate that does not divide a second is still given in full.
//!
//! **Why the promise holds.** Let the first and the last of *m* admissions in a window be at *t* and *t'*, in the order in
//! which they were made. The first was taken from low(t) or later, so the last from low(t) + (m-1)·slot or later. It
//! was let in, so that was at most high(t') + (burst-1)·slot. Hence m ≤ burst + (high(t') - low(t)) / slot, and
//! high(t') - low(t) is less than (t'-t+1)·slope, where a window that holds both is at least t'-t+1 nanoseconds long. A
//! slope rounded down only lowers it.
//!
//! # Invariants
//!
//! - `[RATE-1]` In any half-open window of length *w*, wherever it begins, at most `burst - 1 + ⌈w·n/per⌉` are admitted.
//! - `[RATE-2]` Whoever comes when it was told to, and nobody else came, is admitted. That is never later than by exact
//!   arithmetic on rational numbers, rounded up to whole nanoseconds.
//! - `[RATE-3]` No number overflows. [`MAX_NS`] after the epoch, 73 years, time stands still, and then all is refused.
//!
//! # Rejected
//!
//! - *The time of the next slot in nanoseconds*, as others store it. A period must then be rounded up to one, or to a
//!   fraction of one for which 64 bits have no room: 700 million a second would be 500 million.
//! - *Tokens and the time when they were last filled up*: two numbers that must change at once, and a division a call.
//! - *Counting on a grid of periods*: the burst of one period and that of the next meet at the line between them.
//!
//! # Read next
//!
//! [`crate::rate::limit`], which shares the number among threads.

pub(crate) mod keyed;
pub(crate) mod limit;
pub(crate) mod paced;
pub(crate) mod window;

use std::error::Error;
use std::fmt;
use std::time::{Duration, Instant};

/// 2⁶¹ nanoseconds, 73 years after the epoch: the end of the line.
pub(crate) const MAX_NS: u64 = 1 << 61;
/// How many bits of the slope are behind the point: it lies in 2..4, and fills 64 bits.
const SLOPE_BITS: u32 = 62;
const MAX_PER_NS: u64 = 366 * 86_400 * NS_PER_SECOND;
/// A burst takes at most so many units. With what is before it on the line, 2⁶³, nothing overflows [RATE-3].
const MAX_BURST_UNITS: u64 = 1 << 61;
/// A place that no time reaches.
pub(crate) const NEVER: u64 = (1 << 63) + MAX_BURST_UNITS;
const NS_PER_SECOND: u64 = 1_000_000_000;

/// So many in so much time, and how many of them at once: a plain value.
///
/// In any window of length `w`, wherever it begins, at most `burst - 1 + ⌈w · n / per⌉` are admitted. With the burst of 1 that a
/// rate has unless [`burst`](Self::burst) sets another, `per_second(100)` means never more than 100 in any second, each
/// at least 10 ms after the one before. A window is half-open, and its length is whole nanoseconds, as those of [`Duration`].
///
/// ```
/// use std::time::{Duration, Instant};
/// use anteroom_limiter::{Rate, RateLimit};
///
/// let rate = Rate::per_second(100).burst(3);
/// let start = Instant::now();
/// let limit = RateLimit::new(rate, start);
/// assert_eq!((0..10).filter(|_| limit.check(start).is_ok()).count(), 3);
///
/// let later = start + Duration::from_millis(25); // 2.5 slots later
/// assert_eq!((0..10).filter(|_| limit.check(later).is_ok()).count(), 2);
/// ```
///
/// # Bounds
///
/// From one a year to one a nanosecond, and bursts of up to 18 years' worth. Every rate is kept to 1 part in 2⁶³, and never exceeded.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Units a nanosecond, times 2⁶²: in 2⁶³..2⁶⁴.
    slope: u64,
    /// Units a slot: a power of two.
    slot: u64,
    /// Units of a whole burst.
    burst_units: u64,
    count: u64,
    per: Duration,
    jitter: Duration,
}

/// Why numbers are not a [`Rate`].
///
/// ```
/// use std::time::Duration;
/// use anteroom_limiter::{Rate, RateError};
///
/// assert_eq!(Rate::new(0, Duration::from_secs(1)).unwrap_err(), RateError::Zero);
/// assert_eq!(Rate::new(1, Duration::ZERO).unwrap_err(), RateError::TooFast);
/// assert_eq!(Rate::per_second(1).try_burst(0).unwrap_err(), RateError::BurstZero);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RateError {
    /// None at all would refuse everybody for ever.
    Zero,
    /// More than one a nanosecond.
    TooFast,
    /// A period of more than 366 days.
    PeriodTooLong,
    /// A burst of none would refuse everybody for ever.
    BurstZero,
    /// A burst that would take more than 18 years to be there again.
    BurstTooLong,
}

/// Not now: the rate is used up, and when it is worth coming back.
///
/// ```
/// use std::time::{Duration, Instant};
/// use anteroom_limiter::{Rate, RateLimit};
///
/// let now = Instant::now();
/// let limit = RateLimit::new(Rate::per_second(4), now);
/// limit.check(now).unwrap();
/// let not_yet = limit.check(now).unwrap_err();
/// assert_eq!(not_yet.retry_after(), Duration::from_millis(250));
/// assert!(limit.check(not_yet.at()).is_ok()); // nobody else came
/// ```
#[derive(Clone, Copy)]
pub struct NotYet {
    epoch: Instant,
    now: Instant,
    /// The place that the present has to reach, and what it moves by: who does not ask when, pays for no division.
    place: u64,
    slope: u64,
}

impl Rate {
    /// `count` in `per`, one at a time.
    ///
    /// ```
    /// use std::time::Duration;
    /// use anteroom_limiter::Rate;
    ///
    /// let rate = Rate::new(7, Duration::from_secs(60))?; // numbers from a user
    /// assert_eq!(rate, Rate::per_minute(7));
    /// # Ok::<(), anteroom_limiter::RateError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`RateError`], for zero, for more than one a nanosecond, and for a period of more than 366 days.
    pub const fn new(count: u64, per: Duration) -> Result<Self, RateError> {
        if count == 0 {
            return Err(RateError::Zero);
        }
        if per.as_nanos() > MAX_PER_NS as u128 {
            return Err(RateError::PeriodTooLong);
        }
        let per_ns = per.as_nanos() as u64;
        if count > per_ns {
            return Err(RateError::TooFast);
        }
        // Both are less than 2⁵⁵ from here on. The slot has so many units that a unit is half to a quarter of a nanosecond,
        // which makes the slope 2 to 4.
        let mut slot = 2;
        while slot * count < 2 * per_ns {
            slot *= 2;
        }
        let slope = (((slot * count) as u128) << SLOPE_BITS) / per_ns as u128;
        let slope = slope as u64; // [RATE-3] Less than 4·2⁶².
        Ok(Self { slope, slot, burst_units: slot, count, per, jitter: Duration::ZERO })
    }

    /// `count` a second, one at a time.
    ///
    /// ```
    /// # use anteroom_limiter::Rate;
    /// assert_eq!(Rate::per_second(100).to_string(), "100 in 1s");
    /// ```
    ///
    /// # Panics
    ///
    /// If `count` is zero or more than a billion. [`Rate::new`] is for a number that comes from a user.
    #[must_use]
    #[track_caller]
    pub const fn per_second(count: u64) -> Self {
        match Self::new(count, Duration::from_secs(1)) {
            Ok(rate) => rate,
            Err(_) => panic!("Rate::per_second: the count must be 1 to 1,000,000,000"),
        }
    }

    /// `count` a minute, one at a time.
    ///
    /// ```
    /// # use anteroom_limiter::Rate;
    /// assert_eq!(Rate::per_minute(30).interval(), std::time::Duration::from_secs(2));
    /// ```
    ///
    /// # Panics
    ///
    /// If `count` is zero or more than one a nanosecond. [`Rate::new`] is for a number that comes from a user.
    #[must_use]
    #[track_caller]
    pub const fn per_minute(count: u64) -> Self {
        match Self::new(count, Duration::from_secs(60)) {
            Ok(rate) => rate,
            Err(_) => panic!("Rate::per_minute: the count must be 1 to 60,000,000,000"),
        }
    }

    /// `count` an hour, one at a time.
    ///
    /// ```
    /// # use anteroom_limiter::Rate;
    /// assert_eq!(Rate::per_hour(60), Rate::per_hour(60).burst(1));
    /// ```
    ///
    /// # Panics
    ///
    /// If `count` is zero or more than one a nanosecond. [`Rate::new`] is for a number that comes from a user.
    #[must_use]
    #[track_caller]
    pub const fn per_hour(count: u64) -> Self {
        match Self::new(count, Duration::from_secs(3_600)) {
            Ok(rate) => rate,
            Err(_) => panic!("Rate::per_hour: the count must be 1 to 3,600,000,000,000"),
        }
    }

    /// The same rate, with up to `burst` at once after a pause that is long enough; 1 unless this is called.
    ///
    /// ```
    /// # use anteroom_limiter::Rate;
    /// assert_eq!(Rate::per_second(100).burst(20).burst_size(), 20);
    /// ```
    ///
    /// # Panics
    ///
    /// If `burst` is zero, or takes more than 18 years at this rate. [`try_burst`](Self::try_burst) is for a number that comes
    /// from a user.
    #[must_use]
    #[track_caller]
    pub const fn burst(self, burst: u64) -> Self {
        match self.try_burst(burst) {
            Ok(rate) => rate,
            Err(RateError::BurstZero) => panic!("Rate::burst: the burst must be at least 1"),
            Err(_) => panic!("Rate::burst: the burst takes more than 18 years at this rate"),
        }
    }

    /// As [`burst`](Self::burst), or why that cannot be.
    ///
    /// ```
    /// # use anteroom_limiter::{Rate, RateError};
    /// assert_eq!(Rate::per_hour(1).try_burst(u64::MAX).unwrap_err(), RateError::BurstTooLong);
    /// ```
    ///
    /// # Errors
    ///
    /// [`RateError::BurstZero`] and [`RateError::BurstTooLong`].
    pub const fn try_burst(mut self, burst: u64) -> Result<Self, RateError> {
        if burst == 0 {
            return Err(RateError::BurstZero);
        }
        match burst.checked_mul(self.slot) {
            Some(units) if units <= MAX_BURST_UNITS => {
                self.burst_units = units;
                Ok(self)
            }
            _ => Err(RateError::BurstTooLong),
        }
    }

    /// The same rate, where whoever has to sleep for its slot sleeps up to `jitter` longer, each by another amount.
    ///
    /// For many processes that were told the same time, and would all come at once. It is never earlier than the slot, and
    /// touches [`RateLimit::wait`](crate::RateLimit::wait) only: what follows then lies in windows that are longer by
    /// `jitter`.
    ///
    /// ```
    /// use std::time::Duration;
    /// use anteroom_limiter::Rate;
    ///
    /// let polite = Rate::per_minute(10).jitter(Duration::from_millis(500));
    /// ```
    #[must_use]
    pub const fn jitter(mut self, jitter: Duration) -> Self {
        self.jitter = jitter;
        self
    }

    /// How many at once, after a pause that is long enough.
    ///
    /// ```
    /// # use anteroom_limiter::Rate;
    /// assert_eq!(Rate::per_second(100).burst_size(), 1);
    /// ```
    #[must_use]
    pub const fn burst_size(&self) -> u64 {
        self.burst_units / self.slot
    }

    /// The time from one slot to the next, rounded up to a nanosecond.
    ///
    /// ```
    /// # use anteroom_limiter::Rate;
    /// assert_eq!(Rate::per_second(3).interval(), std::time::Duration::from_nanos(333_333_334));
    /// ```
    #[must_use]
    pub const fn interval(&self) -> Duration {
        let ns = self.per.as_nanos().div_ceil(self.count as u128);
        Duration::from_nanos(ns as u64) // At most a year.
    }

    /// The most that any half-open window of this length admits: `burst - 1 + ⌈window · n / per⌉`.
    ///
    /// ```
    /// use std::time::Duration;
    /// use anteroom_limiter::Rate;
    ///
    /// let rate = Rate::per_second(100).burst(20);
    /// assert_eq!(rate.at_most_in(Duration::from_secs(1)), 119);
    /// assert_eq!(rate.at_most_in(Duration::from_nanos(1)), 20);
    /// ```
    #[must_use]
    pub const fn at_most_in(&self, window: Duration) -> u64 {
        // Whole periods and the rest, since the product of all has no room in 128 bits. A count is at most a period's
        // nanoseconds: so the first is at most the window's, which are less than 2⁹⁴, and the second less than 2¹¹⁰.
        let (window, per, count) = (window.as_nanos(), self.per.as_nanos(), self.count as u128);
        let slots = window / per * count + (window % per * count).div_ceil(per);
        let most = slots + (self.burst_size() - 1) as u128;
        if most > u64::MAX as u128 { u64::MAX } else { most as u64 }
    }

    /// The most that a sleep for a slot may be longer.
    #[inline]
    pub(crate) const fn max_jitter(&self) -> Duration {
        self.jitter
    }

    /// The place of the present: an idle limit goes on from here.
    #[inline]
    pub(crate) const fn low(&self, t: u64) -> u64 {
        let round_up = (1 << SLOPE_BITS) - 1;
        ((t as u128 * self.slope as u128 + round_up) >> SLOPE_BITS) as u64 // [RATE-3] t ≤ MAX_NS, so at most 2⁶³.
    }

    /// Takes `units` slots at `t`, from the first place that is free, which is `taken` or the present: where the next one
    /// is free then. Else the place that the present has to reach. `units` must be within the burst, `t` within [`MAX_NS`].
    #[inline]
    pub(crate) const fn take(&self, taken: u64, t: u64, units: u64) -> Result<u64, u64> {
        let low = self.low(t);
        let from = if taken > low { taken } else { low };
        // ⌈(t+1)·slope⌉ - 1, as floor.
        let high = ((t as u128 * self.slope as u128 + (self.slope - 1) as u128) >> SLOPE_BITS) as u64;
        let next = from + units * self.slot; // [RATE-3] At most NEVER + MAX_BURST_UNITS.
        // [RATE-1] The comparison that the whole promise rests on.
        if next <= high + self.burst_units { Ok(next) } else { Err(next - self.burst_units) }
    }

    /// As [`take`](Self::take), but in the future if need be: where the next one is free then, and the time of this one.
    #[inline]
    pub(crate) const fn book(&self, taken: u64, t: u64, units: u64) -> (u64, u64) {
        match self.take(taken, t, units) {
            Ok(next) => (next, t),
            Err(place) => (place + self.burst_units, self.due(place)),
        }
    }

    /// When the present reaches `place` [RATE-2]. Past [`MAX_NS`], it never does.
    pub(crate) const fn due(&self, place: u64) -> u64 {
        due(place, self.slope)
    }

    /// The place before `units` slots.
    #[inline]
    pub(crate) const fn before(&self, next: u64, units: u64) -> u64 {
        next - units * self.slot
    }

    /// What has been taken by `old`'s reckoning, by this one's: as many slots ahead of the present, rounded up.
    pub(crate) const fn convert(&self, old: &Rate, taken: u64, t: u64) -> u64 {
        // Without rounding up the old present, so that no debt is lost.
        let present = ((t as u128 * old.slope as u128) >> SLOPE_BITS) as u64;
        let ahead = taken.saturating_sub(present) as u128;
        let ahead = (ahead * self.slot as u128).div_ceil(old.slot as u128);
        let taken = ahead + self.low(t) as u128;
        if taken > NEVER as u128 { NEVER } else { taken as u64 } // [RATE-3]
    }
}

/// When the present reaches `place`: the nanosecond that it lies in [RATE-2].
const fn due(place: u64, slope: u64) -> u64 {
    (((place as u128) << SLOPE_BITS) / slope as u128) as u64 // A rate's slope is at least 2, and 1 comes with a time.
}

/// Nanoseconds since `epoch`, within 0..=[`MAX_NS`], whatever the clock does [RATE-3].
#[inline]
pub(crate) fn since(epoch: Instant, now: Instant) -> u64 {
    let elapsed = now.saturating_duration_since(epoch);
    if elapsed.as_secs() < MAX_NS / NS_PER_SECOND {
        elapsed.as_secs() * NS_PER_SECOND + u64::from(elapsed.subsec_nanos())
    } else {
        MAX_NS
    }
}

/// `ns` after `epoch`, or the farthest that the system's clock can say.
pub(crate) fn instant(epoch: Instant, ns: u64) -> Instant {
    let mut after = Duration::from_nanos(ns.min(MAX_NS));
    loop {
        match epoch.checked_add(after) {
            Some(instant) => return instant,
            None => after /= 2,
        }
    }
}

impl NotYet {
    /// Until the present reaches `place`.
    #[inline]
    pub(crate) fn new(rate: &Rate, epoch: Instant, now: Instant, place: u64) -> Self {
        Self { epoch, now, place, slope: rate.slope }
    }

    /// Until `ns` after the epoch.
    pub(crate) fn until(epoch: Instant, now: Instant, ns: u64) -> Self {
        Self { epoch, now, place: ns, slope: 1 << SLOPE_BITS }
    }

    /// When a slot is free, unless somebody else comes first.
    ///
    /// ```
    /// # use std::time::Instant;
    /// # use anteroom_limiter::{Rate, RateLimit};
    /// let now = Instant::now();
    /// let limit = RateLimit::new(Rate::per_minute(1), now);
    /// limit.check(now).unwrap();
    /// assert!(limit.check(limit.check(now).unwrap_err().at()).is_ok());
    /// ```
    #[must_use]
    pub fn at(&self) -> Instant {
        instant(self.epoch, due(self.place, self.slope))
    }

    /// How long until then, from the time that the caller gave: for a `Retry-After`.
    ///
    /// ```
    /// # use std::time::Instant;
    /// # use anteroom_limiter::{Rate, RateLimit};
    /// let now = Instant::now();
    /// let limit = RateLimit::new(Rate::per_minute(1), now);
    /// limit.check(now).unwrap();
    /// assert_eq!(limit.check(now).unwrap_err().retry_after().as_secs(), 60);
    /// ```
    #[must_use]
    pub fn retry_after(&self) -> Duration {
        self.at().saturating_duration_since(self.now)
    }
}

/// Two are equal that say the same.
impl PartialEq for NotYet {
    fn eq(&self, other: &Self) -> bool {
        self.at() == other.at() && self.retry_after() == other.retry_after()
    }
}

impl Eq for NotYet {}

impl fmt::Debug for NotYet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NotYet").field("at", &self.at()).field("retry_after", &self.retry_after()).finish()
    }
}

impl fmt::Debug for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rate")
            .field("count", &self.count)
            .field("per", &self.per)
            .field("burst", &self.burst_size())
            .field("jitter", &self.jitter)
            .finish()
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {:?}", self.count, self.per)?;
        match self.burst_size() {
            1 => Ok(()),
            burst => write!(f, ", {burst} at once"),
        }
    }
}

impl fmt::Display for RateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RateError::Zero => "a rate must be at least 1",
            RateError::TooFast => "a rate must be at most one a nanosecond",
            RateError::PeriodTooLong => "a rate's period must be at most 366 days",
            RateError::BurstZero => "a burst must be at least 1",
            RateError::BurstTooLong => "a burst must take at most 18 years at its rate",
        })
    }
}

impl fmt::Display for NotYet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the rate is used up for another {:?}", self.retry_after())
    }
}

impl Error for RateError {}
impl Error for NotYet {}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// The rates at the edges, and some that divide nothing, each with the smallest burst and the largest.
    fn rates() -> Vec<Rate> {
        let year = Duration::from_nanos(MAX_PER_NS);
        let numbers = [
            (1, year),
            (7, year),
            (1, SECOND),
            (3, SECOND),
            (999_999_937, SECOND),
            (NS_PER_SECOND, SECOND),
            (1, Duration::from_nanos(1)),
            (MAX_PER_NS, year),
            (MAX_PER_NS - 1, year),
        ];
        let rate = |(count, per)| Rate::new(count, per).unwrap();
        let all = |rate: Rate| [rate, rate.burst(MAX_BURST_UNITS / rate.slot)];
        numbers.map(rate).into_iter().flat_map(all).collect()
    }

    #[test]
    fn a_unit_is_half_to_a_quarter_of_a_nanosecond_whatever_the_rate() {
        for rate in rates() {
            assert!(rate.slope >= 1 << 63 && rate.slot.is_power_of_two(), "{rate:?}");
            assert!(rate.slot <= MAX_BURST_UNITS, "{rate:?}: a burst of one fits");
            // The slope is the exact one, rounded down: slope ≤ 2⁶²·slot·count/per < slope + 1.
            let (slope, per) = (u128::from(rate.slope), rate.per.as_nanos());
            let exact = (u128::from(rate.slot) * u128::from(rate.count)) << SLOPE_BITS;
            assert!(slope * per <= exact && exact < (slope + 1) * per, "{rate:?}");
        }
    }

    /// [RATE-1], [RATE-2]: an idle limit has its burst, and then a slot when it is due.
    #[test]
    fn an_idle_limit_gives_its_burst_and_then_one_slot_at_its_time() {
        for rate in rates() {
            for t in [0, 1, 1_000_000_007, MAX_NS / 2] {
                let burst = rate.burst_size();
                let taken = rate.take(0, t, burst).unwrap();
                let place = rate.take(taken, t, 1).unwrap_err();
                let due = rate.due(place);
                assert_eq!(
                    u128::from(due - t),
                    rate.per.as_nanos() / u128::from(rate.count),
                    "{rate:?} at {t}"
                );
                assert!(rate.take(taken, due - 1, 1).is_err() && rate.take(taken, due, 1).is_ok());
                assert_eq!(rate.book(taken, t, 1), (taken + rate.slot, due));
                assert_eq!(rate.before(taken + rate.slot, 1), taken);
            }
        }
    }

    /// [RATE-3]
    #[test]
    fn nothing_overflows_at_the_end_of_the_line() {
        for rate in rates() {
            let mut taken = 0;
            let mut total = 0_u64;
            while let Ok(next) = rate.take(taken, MAX_NS, rate.burst_size()) {
                (taken, total) = (next, total + 1);
                assert!(taken <= NEVER && total <= 2, "{rate:?}");
            }
            let (next, due) = rate.book(NEVER, MAX_NS, rate.burst_size());
            assert!(due > MAX_NS && next > NEVER, "{rate:?}");
            for other in rates() {
                assert!(other.convert(&rate, NEVER, 0) <= NEVER);
                assert!(other.convert(&rate, taken, MAX_NS) <= NEVER);
                assert!(other.convert(&rate, 0, MAX_NS) <= 1 << 63);
            }
        }
    }

    /// [RATE-3]: against the product in parts that no window is long enough to make overflow.
    #[test]
    fn the_most_of_any_window_can_be_told() {
        for rate in rates() {
            let extra = rate.burst_size() - 1;
            assert_eq!(rate.at_most_in(Duration::ZERO), extra, "{rate:?}");
            assert_eq!(rate.at_most_in(rate.per), extra.saturating_add(rate.count), "{rate:?}");
            assert_eq!(rate.at_most_in(rate.per * 3), extra.saturating_add(3 * rate.count), "{rate:?}");
            let longer = rate.per + Duration::from_nanos(1);
            assert_eq!(rate.at_most_in(longer), extra.saturating_add(rate.count + 1), "{rate:?}");
            let ever = Duration::MAX.as_nanos() / rate.per.as_nanos() * u128::from(rate.count);
            let least = u64::try_from(ever).unwrap_or(u64::MAX).saturating_add(extra);
            assert!(rate.at_most_in(Duration::MAX) >= least, "{rate:?}");
        }
    }

    #[test]
    fn a_time_is_held_within_the_line_whatever_the_clock_says() {
        #[allow(clippy::disallowed_methods, reason = "any time will do")]
        let epoch = Instant::now() + SECOND;
        assert_eq!(since(epoch, epoch - SECOND), 0);
        assert_eq!(since(epoch, epoch + SECOND), NS_PER_SECOND);
        assert_eq!(since(epoch, epoch + Duration::from_secs(1 << 40)), MAX_NS);
        assert_eq!(instant(epoch, 5) - epoch, Duration::from_nanos(5));
        assert_eq!(instant(epoch, u64::MAX) - epoch, Duration::from_nanos(MAX_NS));
    }
}
