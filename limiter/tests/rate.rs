//! Rates against exact arithmetic: no window holds more than was promised, and nobody waits longer than it must.

#![allow(clippy::disallowed_types, reason = "a test of the public API has no other atomics")]
#![allow(clippy::disallowed_methods, reason = "a test has no clock of its own to ask for a first time")]

mod common;

use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use anteroom_limiter::{
    AcquireError, CheckManyError, Paced, PacedError, Rate, RateError, RateLimit, ReserveError, Semaphore,
    SlidingWindow, Timer, TryAcquireError, TryPacedError,
};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

const SECOND: u64 = 1_000_000_000;
const DAY: u64 = 86_400 * SECOND;
/// The epoch of the limits lies so far behind [`Line::start`], so that times before it exist.
const BEFORE: u64 = 1_000 * DAY;
/// 2⁶¹ ns after its epoch, time stands still for a limit.
const END: u64 = 1 << 61;

/// Instants by numbers: nanoseconds after a first one.
#[derive(Clone, Copy)]
struct Line {
    first: Instant,
}

impl Line {
    fn new() -> Self {
        Self { first: Instant::now() }
    }

    fn at(self, ns: u64) -> Instant {
        self.first + Duration::from_nanos(ns)
    }

    fn ns(self, at: Instant) -> u64 {
        u64::try_from(at.duration_since(self.first).as_nanos()).unwrap()
    }
}

/// A rate, as numbers.
#[derive(Clone, Copy, Debug)]
struct Numbers {
    count: u64,
    per_ns: u64,
    burst: u64,
}

impl Numbers {
    fn rate(self) -> Rate {
        Rate::new(self.count, Duration::from_nanos(self.per_ns)).unwrap().burst(self.burst)
    }

    /// The promise [RATE-1], exactly.
    fn at_most_in(self, window_ns: u64) -> u128 {
        u128::from(self.burst) - 1
            + (u128::from(window_ns) * u128::from(self.count)).div_ceil(u128::from(self.per_ns))
    }

    fn interval_ns(self) -> u64 {
        self.per_ns.div_ceil(self.count)
    }
}

/// Numbers whose sizes are spread evenly, up to `max`.
fn of_any_size(max: u64) -> impl Strategy<Value = u64> {
    (0..=max.ilog2(), any::<u64>()).prop_map(move |(bits, number)| (number % (2 << bits)).clamp(1, max))
}

/// From one a day, and less, to one a nanosecond.
fn numbers() -> impl Strategy<Value = Numbers> {
    let per = prop_oneof![
        4 => Just(SECOND),
        1 => Just(60 * SECOND),
        1 => Just(3_600 * SECOND),
        2 => Just(DAY),
        2 => of_any_size(366 * DAY),
    ];
    per.prop_flat_map(|per_ns| {
        let count = prop_oneof![
            of_any_size(per_ns),
            (0..1_000_u64).prop_map(move |less| per_ns - less.min(per_ns - 1))
        ];
        (count, of_any_size(50)).prop_map(move |(count, burst)| Numbers { count, per_ns, burst })
    })
}

/// What a caller does next, and when.
#[derive(Clone, Copy, Debug)]
enum Op {
    Check(u64),
    Reserve(u64),
    /// Reserves, and gives it back, if it can.
    Cancel(u64),
    /// Gives back a reservation that was made before, whichever.
    CancelOne(usize),
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Stay,
    /// By so many thousandths of a slot's time, and so many nanoseconds.
    Slots(u64, u64),
    /// To when the last one that was refused was told to come.
    WhenTold,
    Back(u64),
    Leap(u64),
}

fn steps(numbers: Numbers) -> impl Strategy<Value = Vec<(Step, Op)>> {
    let step = prop_oneof![
        6 => Just(Step::Stay),
        6 => (0..3_000_u64, 0..3_u64).prop_map(|(slots, ns)| Step::Slots(slots, ns)),
        4 => Just(Step::WhenTold),
        1 => of_any_size(END).prop_map(Step::Back),
        1 => of_any_size(END / 4).prop_map(Step::Leap),
    ];
    let units = prop_oneof![3 => Just(1), 1 => 1..=numbers.burst];
    let op = (units, any::<usize>(), 0..10).prop_map(|(units, which, kind)| match kind {
        0..6 => Op::Check(units),
        6..8 => Op::Reserve(units),
        8 => Op::Cancel(units),
        _ => Op::CancelOne(which),
    });
    proptest::collection::vec((step, op), 1..120)
}

/// Fails unless each window holds at most what was promised. It is enough to look at those that begin with an admission and
/// end right after one. Each admission is a time and a number of units.
fn assert_windows(
    admitted: &[(u64, u64)],
    at_most_in: impl Fn(u64) -> u128,
    what: &dyn std::fmt::Debug,
) -> Result<(), TestCaseError> {
    let mut admitted = admitted.to_vec();
    admitted.sort_unstable();
    for first in 0..admitted.len() {
        let mut sum = 0;
        for last in first..admitted.len() {
            sum += u128::from(admitted[last].1);
            let window_ns = admitted[last].0 - admitted[first].0 + 1;
            let most = at_most_in(window_ns);
            prop_assert!(sum <= most, "{what:?}: {sum} in {window_ns} ns, where {most} may be: {admitted:?}");
        }
    }
    Ok(())
}

/// The time of the next step.
fn go(now: u64, step: Step, numbers: Numbers, told: Option<u64>) -> u64 {
    let now = match step {
        Step::Stay => now,
        Step::Slots(thousandths, ns) => {
            now + (u128::from(numbers.interval_ns()) * u128::from(thousandths) / 1_000) as u64 + ns
        }
        Step::WhenTold => told.unwrap_or(now),
        Step::Back(ns) => now.saturating_sub(ns),
        Step::Leap(ns) => now + ns,
    };
    now.min(BEFORE + END + DAY)
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: Some(Box::new(FileFailurePersistence::Off)),
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config(600))]

    /// [RATE-1], [RATE-3], [SLOT-2]: whatever the clock does, and whatever is given back.
    #[test]
    fn no_window_holds_more_than_was_promised(
        (numbers, steps) in numbers().prop_flat_map(|numbers| (Just(numbers), steps(numbers))),
    ) {
        let line = Line::new();
        let limit = RateLimit::new(numbers.rate(), line.at(BEFORE)).with_max_wait(Duration::from_secs(1 << 30));
        let (mut now, mut told) = (BEFORE, None);
        let mut admitted = Vec::new();
        let mut reserved = Vec::new();
        for (step, op) in steps {
            now = go(now, step, numbers, told);
            match op {
                Op::Check(units) => match limit.check_many(units, line.at(now)) {
                    Ok(()) => admitted.push((now, units)),
                    Err(CheckManyError::NotYet(not_yet)) => {
                        prop_assert_eq!(line.at(now) + not_yet.retry_after(), not_yet.at());
                        prop_assert!(line.ns(not_yet.at()) > now || now >= BEFORE + END);
                        told = Some(line.ns(not_yet.at()));
                    }
                    Err(error) => return Err(TestCaseError::fail(error.to_string())),
                },
                Op::Reserve(units) => {
                    if let Ok(slot) = limit.reserve_many(units, line.at(now)) {
                        prop_assert!(slot.at() >= line.at(now));
                        reserved.push((slot, units));
                    }
                }
                Op::Cancel(units) => {
                    if let Ok(slot) = limit.reserve_many(units, line.at(now)) {
                        prop_assert!(slot.cancel(), "it was the newest");
                    }
                }
                Op::CancelOne(which) if !reserved.is_empty() => {
                    let (slot, _) = reserved.remove(which % reserved.len());
                    let _ = slot.cancel(); // Given back or not, nobody used it.
                }
                Op::CancelOne(_) => {}
            }
        }
        admitted.extend(reserved.iter().map(|(slot, units)| (line.ns(slot.at()), *units)));
        assert_windows(&admitted, |window_ns| numbers.at_most_in(window_ns), &numbers)?;
    }

    /// [RATE-2]: beside the same algorithm on rational numbers, in units of 1/count ns, where nothing is rounded.
    #[test]
    fn admission_is_that_of_exact_arithmetic_rounded_to_a_nanosecond(
        (numbers, steps) in numbers().prop_flat_map(|numbers| (Just(numbers), steps(numbers))),
    ) {
        let line = Line::new();
        let limit = RateLimit::new(numbers.rate(), line.at(BEFORE));
        let [count, per, burst] = [numbers.count, numbers.per_ns, numbers.burst].map(u128::from);
        let (mut now, mut told) = (BEFORE, None);
        let mut taken = 0; // Where the next slot is free.
        for (step, op) in steps {
            now = go(now, step, numbers, told);
            let (Op::Check(units) | Op::Reserve(units) | Op::Cancel(units)) = op else { continue };
            let present = u128::from(now.saturating_sub(BEFORE).min(END));
            let next = taken.max(present * count) + u128::from(units) * per;
            let is_admitted = limit.check_many(units, line.at(now)).is_ok();
            if next <= present * count + burst * per {
                prop_assert!(is_admitted, "{numbers:?}: refused at {present}");
            }
            if is_admitted {
                prop_assert!(next < (present + 1) * count + burst * per, "{numbers:?}: early at {present}");
                taken = next;
            } else if let Err(CheckManyError::NotYet(not_yet)) = limit.check_many(units, line.at(now)) {
                told = Some(line.ns(not_yet.at()));
            }
        }
    }

    /// [RATE-2], [RATE-3]
    #[test]
    fn who_comes_when_it_was_told_is_admitted_and_not_a_nanosecond_before(
        numbers in numbers(),
        start in of_any_size(END / 2),
        units in proptest::collection::vec(1..50_u64, 1..100),
    ) {
        let line = Line::new();
        let limit = RateLimit::new(numbers.rate(), line.at(0));
        let mut now = start;
        for units in units {
            let units = units.min(numbers.burst);
            if let Err(CheckManyError::NotYet(not_yet)) = limit.check_many(units, line.at(now)) {
                let at = line.ns(not_yet.at());
                prop_assert!(limit.check_many(units, line.at(at - 1)).is_err(), "{numbers:?}: before {at}");
                if at < END {
                    prop_assert!(limit.check_many(units, line.at(at)).is_ok(), "{numbers:?}: at {at}");
                }
                now = at;
            }
        }
    }

    /// Each rate is kept on its own side of the change, and the larger of the two over it.
    #[test]
    fn a_window_over_a_change_of_rate_holds_no_more_than_the_larger_would(
        (rates, steps) in (numbers(), numbers())
            .prop_flat_map(|(one, other)| (Just([one, other]), steps(one), steps(other)))
            .prop_map(|(rates, before, after)| (rates, [before, after])),
    ) {
        let line = Line::new();
        let mut limit = RateLimit::new(rates[0].rate(), line.at(BEFORE));
        let (mut now, mut told) = (BEFORE, None);
        let mut admitted = Vec::new();
        for (side, steps) in steps.iter().enumerate() {
            limit.set_rate(rates[side].rate(), line.at(now));
            for &(step, op) in steps {
                now = go(now, step, rates[side], told).max(now); // It is promised for a clock that does not step back.
                let (Op::Check(units) | Op::Reserve(units)) = op else { continue };
                match limit.check_many(units.min(rates[side].burst), line.at(now)) {
                    Ok(()) => admitted.push((now, units.min(rates[side].burst))),
                    Err(CheckManyError::NotYet(not_yet)) => told = Some(line.ns(not_yet.at())),
                    Err(error) => return Err(TestCaseError::fail(error.to_string())),
                }
            }
        }
        let burst = rates[0].burst.max(rates[1].burst);
        let most = |window_ns| {
            rates.iter().map(|&rate| Numbers { burst, ..rate }.at_most_in(window_ns)).max().unwrap()
        };
        assert_windows(&admitted, most, &rates)?;
    }

    /// [WINDOW-1], [WINDOW-2], against a log of each.
    #[test]
    fn a_sliding_window_agrees_with_an_exact_log_but_for_a_sixteenth(
        limit in 1..20_u64,
        length in of_any_size(366 * DAY),
        steps in proptest::collection::vec((0..200_u64, 0..3_u64, any::<bool>(), 1..4_u64), 1..200),
    ) {
        let line = Line::new();
        let mut window = SlidingWindow::new(limit, Duration::from_nanos(length), line.at(BEFORE));
        let (mut now, mut latest) = (BEFORE, BEFORE);
        let mut admitted: Vec<(u64, u64)> = Vec::new();
        for (percent, ns, is_back, units) in steps {
            let by = (u128::from(length) * u128::from(percent * percent) / 10_000) as u64 + ns;
            now = if is_back && percent > 150 { now.saturating_sub(by) } else { now + by };
            let units = units.min(limit);
            latest = latest.max(now);
            if latest + length >= BEFORE + END {
                break;
            }
            let since = |ago: u64| -> u64 {
                admitted.iter().filter(|(at, _)| latest - at < ago).map(|(_, units)| units).sum()
            };
            let (least, most) = (since(length), since(length + length.div_ceil(16)));
            prop_assert!((least..=most).contains(&window.used(line.at(now))));
            match window.check_many(units, line.at(now)) {
                Ok(()) => {
                    prop_assert!(least + units <= limit, "the log says {least}");
                    admitted.push((latest, units));
                }
                Err(CheckManyError::NotYet(not_yet)) => {
                    prop_assert!(most + units > limit, "the log says {most}");
                    prop_assert!(window.clone().check_many(units, not_yet.at()).is_ok());
                    let before = not_yet.at() - Duration::from_nanos(1);
                    prop_assert!(window.clone().check_many(units, before).is_err());
                }
                Err(error) => return Err(TestCaseError::fail(error.to_string())),
            }
        }
        assert_windows(&admitted, |window_ns| u128::from(limit) * u128::from(window_ns.div_ceil(length)), &limit)?;
    }
}

/// Rates that divide nothing, besides those that do.
const RATES: [(u64, u64); 16] = [
    (1, DAY),
    (7, DAY),
    (1, 3_600 * SECOND),
    (1, SECOND),
    (3, SECOND),
    (7, SECOND),
    (1_000, SECOND),
    (33_333, SECOND),
    (1_000_003, SECOND),
    (1_000_000, SECOND),
    (123_456_789, SECOND),
    (333_333_333, SECOND),
    (700_000_000, SECOND),
    (999_999_937, SECOND),
    (SECOND, SECOND),
    (59_999_999_999, 60 * SECOND),
];

/// [RATE-1], [RATE-2]
#[test]
fn a_steady_caller_gets_the_whole_rate_and_no_more() {
    let line = Line::new();
    for (count, per_ns) in RATES {
        for burst in [1, 2, 10] {
            let numbers = Numbers { count, per_ns, burst };
            let limit = RateLimit::new(numbers.rate(), line.at(0));
            let steps = (END / 2 / numbers.interval_ns()).min(100_000);
            let mut now = 17;
            let start = now;
            for _ in 0..steps {
                if let Err(not_yet) = limit.check(line.at(now)) {
                    now = line.ns(not_yet.at());
                    limit.check(line.at(now)).unwrap();
                }
            }
            let ideal = (u128::from(steps - burst) * u128::from(per_ns)) as f64 / count as f64;
            let took = (now - start) as f64;
            // The clock itself has no more than nanoseconds.
            assert!((took - ideal).abs() <= ideal * 1e-9 + 1.0, "{numbers:?}: {took} ns instead of {ideal}");
        }
    }
}

/// [RATE-1]
#[test]
fn a_burst_of_one_never_gives_more_than_the_rate_in_its_own_period() {
    for (count, per_ns) in RATES {
        let rate = Rate::new(count, Duration::from_nanos(per_ns)).unwrap();
        assert_eq!(rate.at_most_in(Duration::from_nanos(per_ns)), count);
        assert_eq!(rate.at_most_in(Duration::from_nanos(1)), 1);
        assert_eq!(rate.burst(5).at_most_in(Duration::ZERO), 4);
    }
    let fast = Rate::per_second(SECOND);
    assert_eq!(fast.at_most_in(Duration::MAX), u64::MAX);
}

#[test]
fn numbers_that_are_no_rate_are_refused_by_name() {
    let second = Duration::from_secs(1);
    assert_eq!(Rate::new(0, second), Err(RateError::Zero));
    assert_eq!(Rate::new(SECOND + 1, second), Err(RateError::TooFast));
    assert_eq!(Rate::new(1, Duration::MAX), Err(RateError::PeriodTooLong));
    assert_eq!(Rate::new(u64::MAX, Duration::from_nanos(u64::MAX)), Err(RateError::PeriodTooLong));
    assert!(Rate::new(1, Duration::from_secs(366 * 86_400)).is_ok());
    assert!(Rate::new(1, Duration::from_nanos(1)).is_ok());
    assert_eq!(Rate::per_second(1).try_burst(u64::MAX), Err(RateError::BurstTooLong));
    assert_eq!(Rate::per_second(1).burst(1 << 29).burst_size(), 1 << 29);
    for (name, make) in [
        ("Rate::per_second", (|| Rate::per_second(0)) as fn() -> Rate),
        ("Rate::per_minute", || Rate::per_minute(u64::MAX)),
        ("Rate::per_hour", || Rate::per_hour(0)),
        ("Rate::burst", || Rate::per_hour(1).burst(0)),
    ] {
        let panic = std::panic::catch_unwind(make).unwrap_err();
        let text = panic.downcast_ref::<&str>().unwrap();
        assert!(text.starts_with(name), "{text}");
    }
}

/// [RATE-3]
#[test]
fn at_the_end_of_time_all_is_refused_and_nothing_overflows() {
    let line = Line::new();
    let limit = RateLimit::new(Rate::per_second(SECOND).burst(1 << 60), line.at(0));
    let end = line.at(0) + Duration::from_nanos(END);
    for now in [end, end + Duration::from_secs(1 << 31), end + Duration::from_secs(1 << 40)] {
        let _ = limit.check_many(1 << 60, now);
        assert!(limit.check(now).is_err(), "what was there has been taken");
        assert_eq!(limit.reserve(now).unwrap_err(), ReserveError::QueueFull);
    }
    let limit = RateLimit::new(Rate::per_second(1), line.at(0)).with_max_wait(Duration::MAX);
    let mut last = line.at(0);
    let late = line.at(END - 10 * SECOND);
    for _ in 0..20 {
        if let Ok(slot) = limit.reserve(late) {
            assert!(slot.at() >= last && slot.at() <= end);
            last = slot.at();
        }
    }
    assert_eq!(limit.reserve(late).unwrap_err(), ReserveError::QueueFull);
}

/// bugs.md 39
#[test]
fn a_clock_that_steps_back_gains_nothing() {
    let line = Line::new();
    let limit = RateLimit::new(Rate::per_second(1).burst(2), line.at(10 * SECOND));
    let before_the_epoch = line.at(0);
    assert!(limit.check(before_the_epoch).is_ok() && limit.check(before_the_epoch).is_ok());
    let not_yet = limit.check(before_the_epoch).unwrap_err();
    assert_eq!(not_yet.at(), line.at(11 * SECOND));
    assert_eq!(not_yet.retry_after(), Duration::from_secs(11));
    assert!(limit.check_many(2, line.at(100 * SECOND)).is_ok());
    assert!(limit.check(line.at(50 * SECOND)).is_err());
    assert!(limit.check(line.at(101 * SECOND)).is_ok());
}

#[test]
fn a_request_above_the_burst_is_told_so_at_once() {
    let line = Line::new();
    let limit = RateLimit::new(Rate::per_second(10).burst(3), line.at(0));
    assert_eq!(limit.check_many(4, line.at(0)), Err(CheckManyError::ExceedsBurst));
    assert_eq!(limit.reserve_many(4, line.at(0)).unwrap_err(), ReserveError::ExceedsBurst);
    assert_eq!(limit.check_many(u64::MAX, line.at(0)), Err(CheckManyError::ExceedsBurst));
    assert_eq!(limit.check_many(3, line.at(0)), Ok(()));
    assert_eq!(limit.check_many(0, line.at(0)), Ok(()), "who takes nothing waits for nothing");
    assert!(limit.reserve_many(0, line.at(0)).unwrap().cancel());
}

#[test]
fn what_is_reserved_is_taken_for_those_who_check() {
    let line = Line::new();
    let limit = RateLimit::new(Rate::per_second(10), line.at(0));
    let slots = [(); 3].map(|()| limit.reserve(line.at(0)).unwrap());
    assert_eq!(slots.each_ref().map(|slot| line.ns(slot.at())), [0, SECOND / 10, SECOND / 5]);
    assert_eq!(limit.check(line.at(SECOND / 5)).unwrap_err().at(), line.at(3 * SECOND / 10));
    assert!(limit.check(line.at(3 * SECOND / 10)).is_ok());
}

/// [SLOT-2]
#[test]
fn only_the_newest_reservation_gives_its_slot_back() {
    let line = Line::new();
    let limit = RateLimit::new(Rate::per_second(1), line.at(0));
    let reserve = || limit.reserve(line.at(0)).unwrap();
    let [first, second, third] = [(); 3].map(|()| reserve());
    assert!(!second.cancel(), "the third is behind it");
    assert!(third.cancel());
    let third = reserve();
    assert_eq!(third.at(), line.at(2 * SECOND), "the second's slot passes unused");
    assert!(third.cancel());
    assert!(!first.cancel());
    // One that was taken by a check does not come back.
    let slot = limit.reserve(line.at(10 * SECOND)).unwrap();
    limit.check(line.at(11 * SECOND)).unwrap();
    assert!(!slot.cancel());
    // Given back long after, it is the one of then.
    let slot = limit.reserve(line.at(20 * SECOND)).unwrap();
    assert!(slot.cancel());
    assert!(limit.check(line.at(20 * SECOND)).is_ok());
    assert!(limit.check(line.at(20 * SECOND)).is_err());
}

#[test]
fn a_slot_too_far_away_is_refused_and_takes_nothing() {
    let line = Line::new();
    let limit = RateLimit::new(Rate::per_second(10), line.at(0)).with_max_wait(Duration::from_millis(250));
    for after in [0, 1, 2] {
        assert_eq!(limit.reserve(line.at(0)).unwrap().at(), line.at(after * SECOND / 10));
    }
    for _ in 0..10 {
        assert_eq!(limit.reserve(line.at(0)).unwrap_err(), ReserveError::QueueFull);
        assert_eq!(limit.reserve(line.at(SECOND / 20 - 1)).unwrap_err(), ReserveError::QueueFull);
    }
    assert_eq!(limit.reserve(line.at(SECOND / 20)).unwrap().at(), line.at(3 * SECOND / 10));
    // And the default is a day.
    let rare = RateLimit::new(Rate::new(1, Duration::from_nanos(DAY)).unwrap(), line.at(0));
    assert_eq!(rare.reserve(line.at(0)).unwrap().at(), line.at(0));
    assert_eq!(rare.reserve(line.at(0)).unwrap().at(), line.at(DAY));
    assert_eq!(rare.reserve(line.at(0)).unwrap_err(), ReserveError::QueueFull);
}

/// [SLOT-1]
#[test]
fn threads_that_check_at_one_time_get_the_burst_and_no_more() {
    const THREADS: usize = 4;
    let line = Line::new();
    for round in 0..200 {
        let limit = RateLimit::new(Rate::per_second(1_000).burst(1_000), line.at(0));
        let now = line.at(round);
        let admitted = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    let mine = (0..500).filter(|_| limit.check(now).is_ok()).count();
                    admitted.fetch_add(mine, SeqCst);
                });
            }
        });
        assert_eq!(admitted.into_inner(), 1_000);
    }
}

/// [SLOT-1], [SLOT-2]: however reservations and cancellations race, no two that are kept have one slot.
#[test]
fn slots_that_threads_reserve_and_give_back_belong_to_one_each() {
    let line = Line::new();
    for _ in 0..100 {
        let limit = RateLimit::new(Rate::per_second(1), line.at(0));
        let kept = Mutex::new(Vec::new());
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for turn in 0..100 {
                        let slot = limit.reserve(line.at(0)).unwrap();
                        let at = line.ns(slot.at());
                        if turn % 3 == 0 {
                            kept.lock().unwrap().push(at);
                        } else {
                            let _ = slot.cancel();
                        }
                    }
                });
            }
        });
        let mut kept = kept.into_inner().unwrap();
        kept.sort_unstable();
        assert!(kept.windows(2).all(|pair| pair[0] + SECOND <= pair[1]), "{kept:?}");
    }
}

/// A clock that stands, and moves when the test says so. Its sleepers are polled by the test.
#[derive(Clone)]
struct Clock {
    line: Line,
    now: Arc<AtomicU64>,
}

struct Sleep {
    clock: Clock,
    at: Instant,
}

impl Clock {
    fn new() -> Self {
        Self { line: Line::new(), now: Arc::new(AtomicU64::new(0)) }
    }

    fn set(&self, ns: u64) {
        self.now.store(ns, SeqCst);
    }
}

impl Timer for Clock {
    type Sleep = Sleep;

    fn now(&self) -> Instant {
        self.line.at(self.now.load(SeqCst))
    }

    fn sleep_until(&self, at: Instant) -> Sleep {
        Sleep { clock: self.clone(), at }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if self.clock.now() >= self.at { Poll::Ready(()) } else { Poll::Pending }
    }
}

fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn waits_end_at_their_slots_in_the_order_of_their_first_polls() {
    let clock = Clock::new();
    let limit = RateLimit::new(Rate::per_second(1), clock.now());
    let mut waits: Vec<_> = (0..5).map(|_| Box::pin(limit.wait(&clock))).collect();
    // A future that was not polled has no slot yet.
    for at in [3, 0, 4, 1, 2] {
        assert_eq!(poll(waits[at].as_mut()).is_ready(), at == 3);
    }
    let mut order = Vec::new();
    for second in 1..5 {
        clock.set(second * SECOND - 1);
        assert!(
            waits
                .iter_mut()
                .enumerate()
                .all(|(at, wait)| { at == 3 || order.contains(&at) || poll(wait.as_mut()).is_pending() })
        );
        clock.set(second * SECOND);
        for at in [0, 1, 2, 4] {
            if !order.contains(&at) && poll(waits[at].as_mut()) == Poll::Ready(Ok(())) {
                order.push(at);
            }
        }
    }
    assert_eq!(order, [0, 4, 1, 2]);
}

/// [SLOT-3]
#[test]
fn a_wait_that_is_dropped_gives_its_slot_back_if_it_is_the_newest() {
    let clock = Clock::new();
    let limit = RateLimit::new(Rate::per_second(1), clock.now());
    limit.check(clock.now()).unwrap();
    let next = || clock.line.ns(limit.check(clock.now()).unwrap_err().at());
    drop(limit.wait(&clock)); // never polled
    assert_eq!(next(), SECOND);
    for _ in 0..3 {
        let mut wait = Box::pin(limit.wait(&clock));
        assert!(poll(wait.as_mut()).is_pending());
        assert_eq!(next(), 2 * SECOND);
        drop(wait);
        assert_eq!(next(), SECOND);
    }
    let mut first = Box::pin(limit.wait(&clock));
    let mut second = Box::pin(limit.wait(&clock));
    assert!(poll(first.as_mut()).is_pending() && poll(second.as_mut()).is_pending());
    drop(first);
    assert_eq!(next(), 3 * SECOND, "the second keeps its time, and the first's passes unused");
    clock.set(SECOND);
    assert!(poll(second.as_mut()).is_pending());
    clock.set(2 * SECOND);
    assert_eq!(poll(second.as_mut()), Poll::Ready(Ok(())));
    drop(second);
    assert_eq!(next(), 3 * SECOND, "one that is over keeps what it took");
}

#[test]
fn a_wait_that_would_be_too_long_is_refused_at_once() {
    let clock = Clock::new();
    let limit = RateLimit::new(Rate::per_second(1).burst(2), clock.now()).with_max_wait(Duration::ZERO);
    assert_eq!(poll(pin!(limit.wait_many(2, &clock))), Poll::Ready(Ok(())));
    assert_eq!(poll(pin!(limit.wait(&clock))), Poll::Ready(Err(ReserveError::QueueFull)));
    assert_eq!(poll(pin!(limit.wait_many(3, &clock))), Poll::Ready(Err(ReserveError::ExceedsBurst)));
    assert_eq!(poll(pin!(limit.wait_many(0, &clock))), Poll::Ready(Ok(())));
}

/// A timer that says for how long it was asked to sleep, and does not.
struct Asked {
    now: Instant,
    until: Mutex<Vec<Instant>>,
}

impl Timer for Asked {
    type Sleep = std::future::Ready<()>;

    fn now(&self) -> Instant {
        self.now
    }

    fn sleep_until(&self, at: Instant) -> Self::Sleep {
        self.until.lock().unwrap().push(at);
        std::future::ready(())
    }
}

#[test]
fn jitter_makes_a_sleep_longer_never_shorter_and_each_another() {
    let line = Line::new();
    let timer = Asked { now: line.at(0), until: Mutex::default() };
    let jitter = Duration::from_millis(300);
    let limit = RateLimit::new(Rate::per_second(1).jitter(jitter), line.at(0));
    for _ in 0..101 {
        assert_eq!(poll(pin!(limit.wait(&timer))), Poll::Ready(Ok(())));
    }
    let until = timer.until.into_inner().unwrap();
    assert_eq!(until.len(), 100, "the first had no need to sleep");
    let mut longer: Vec<_> = (1..).zip(&until).map(|(slot, &at)| at - line.at(slot * SECOND)).collect();
    assert!(longer.iter().all(|&by| by <= jitter));
    longer.sort_unstable();
    longer.dedup();
    assert!(longer.len() > 90, "{longer:?}");
    assert!(longer[0] < jitter / 4 && longer[longer.len() - 1] > jitter / 4 * 3, "{longer:?}");
    assert_eq!(limit.reserve(line.at(0)).unwrap().at(), line.at(101 * SECOND), "slots know nothing of it");
}

/// [PACED-1]
#[test]
fn a_pace_waits_for_the_place_first_and_takes_no_slot_meanwhile() {
    let clock = Clock::new();
    let rate = RateLimit::new(Rate::per_second(1), clock.now());
    let paced = Paced::new(Arc::new(Semaphore::new(1)), rate, clock.clone());
    let first = paced.try_acquire(clock.now()).unwrap();
    let mut second = Box::pin(paced.acquire());
    assert!(poll(second.as_mut()).is_pending());
    assert_eq!(paced.rate().check(clock.now()).unwrap_err().at(), clock.line.at(SECOND), "no slot was taken");
    clock.set(10 * SECOND);
    assert!(poll(second.as_mut()).is_pending());
    drop(first);
    let Poll::Ready(Ok(permit)) = poll(second.as_mut()) else { panic!("a place, and a slot that is due") };
    drop(permit);
    // The place is free at once, the slot is not.
    assert!(matches!(paced.try_acquire(clock.now()), Err(TryPacedError::Slot(_))));
    assert_eq!(paced.semaphore().in_use(), 0, "the place went back");
    let mut third = Box::pin(paced.acquire_owned());
    assert!(poll(third.as_mut()).is_pending());
    assert_eq!(paced.semaphore().in_use(), 1);
    assert!(matches!(paced.try_acquire(clock.now()), Err(TryPacedError::Place(TryAcquireError::NoPermits))));
    clock.set(11 * SECOND);
    let Poll::Ready(Ok(permit)) = poll(third.as_mut()) else { panic!("its slot is due") };
    drop((second, third));
    assert_eq!(paced.semaphore().in_use(), 1);
    drop(permit);
    assert_eq!(paced.semaphore().in_use(), 0);
}

/// [PACED-2]
#[test]
fn a_pace_that_is_given_up_gives_place_and_slot_back() {
    let clock = Clock::new();
    let rate = RateLimit::new(Rate::per_second(1), clock.now());
    let paced = Paced::new(Arc::new(Semaphore::new(1)), rate, clock.clone());
    drop(paced.try_acquire(clock.now()).unwrap());
    let mut sleeps = Box::pin(paced.acquire());
    let mut waits = Box::pin(paced.acquire());
    assert!(poll(sleeps.as_mut()).is_pending() && poll(waits.as_mut()).is_pending());
    drop(sleeps);
    assert!(poll(waits.as_mut()).is_pending());
    assert_eq!(paced.semaphore().in_use(), 1, "the place went on");
    clock.set(SECOND);
    assert!(poll(waits.as_mut()).is_ready(), "and so did the slot");
    paced.semaphore().close();
    assert!(matches!(poll(pin!(paced.acquire())), Poll::Ready(Err(PacedError::Place(AcquireError::Closed)))));
}

#[test]
fn a_pace_whose_queue_is_full_gives_the_place_back() {
    let clock = Clock::new();
    let rate = RateLimit::new(Rate::per_second(1), clock.now()).with_max_wait(Duration::ZERO);
    let paced = Paced::new(Arc::new(Semaphore::new(2)), rate, clock.clone());
    let _first = paced.try_acquire(clock.now()).unwrap();
    assert!(matches!(
        poll(pin!(paced.acquire())),
        Poll::Ready(Err(PacedError::Slot(ReserveError::QueueFull)))
    ));
    assert_eq!(paced.semaphore().in_use(), 1);
}

#[test]
fn a_sliding_window_lets_all_of_it_through_at_once_and_then_nobody() {
    let line = Line::new();
    let mut window = SlidingWindow::new(1_000, Duration::from_secs(300), line.at(0));
    assert!(window.check_many(999, line.at(SECOND)).is_ok());
    assert!(window.check(line.at(299 * SECOND)).is_ok());
    let not_yet = window.check(line.at(300 * SECOND)).unwrap_err();
    assert_eq!(not_yet.at(), line.at(301 * SECOND));
    assert!(window.check_many(999, line.at(301 * SECOND)).is_ok());
    assert!(window.check(line.at(301 * SECOND)).is_err());
    assert!(window.check(line.at(0)).is_err(), "a clock that steps back gains nothing");
    assert_eq!(window.check_many(1_001, line.at(0)), Err(CheckManyError::ExceedsBurst));
    assert_eq!(window.check_many(0, line.at(0)), Ok(()));
    assert!(size_of::<SlidingWindow>() < 512);
    let end = line.at(0) + Duration::from_nanos(END) + Duration::from_secs(1 << 40);
    assert!(window.check(end).is_err(), "time stands still there");
}
