//! A rate for each key: as if each had a limit of its own, in bounded memory.

#![allow(clippy::disallowed_types, reason = "a test of the public API has no other atomics")]
#![allow(clippy::disallowed_methods, reason = "a test has no clock of its own to ask for a first time")]

use std::cell::Cell;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use anteroom_limiter::{KeyedRate, KeyedRateError, Rate, RateLimit};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

fn ms(start: Instant, ms: u64) -> Instant {
    start + Duration::from_millis(ms)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 200,
        failure_persistence: Some(Box::new(FileFailurePersistence::Off)),
        ..ProptestConfig::default()
    })]

    /// [KEYRATE-2]: to forget is not noticed.
    #[test]
    fn each_key_is_treated_as_by_a_limit_of_its_own(
        steps in proptest::collection::vec((0..60_u64, 0..400_u64, 0..50_u32), 1..2_000),
    ) {
        let start = Instant::now();
        let rate = Rate::per_second(10).burst(3);
        let keyed = KeyedRate::new(rate, 1_000, start);
        let mut limits = HashMap::new();
        let mut now = 0;
        for (key, by, sweep) in steps {
            now += by.saturating_sub(300); // Most come at one time.
            let at = ms(start, now);
            let limit = limits.entry(key).or_insert_with(|| RateLimit::new(rate, start));
            prop_assert_eq!(keyed.check_key(&key, at), limit.check(at).map_err(KeyedRateError::NotYet));
            if sweep == 0 {
                keyed.sweep(at);
                // What is left are those that are not full.
                limits.retain(|_, limit| limit.check_many(3, at).is_err());
                prop_assert_eq!(keyed.len(), limits.len());
            }
        }
        prop_assert!(keyed.len() <= limits.len());
    }

    /// [KEYRATE-2]: nor does a clock that steps back gain anything by it: no window holds more than the rate admits.
    #[test]
    fn to_be_forgotten_gains_nothing_when_the_clock_steps_back(
        steps in proptest::collection::vec(
            (0..2_u64, prop_oneof![4 => 0..20_i64, 1 => -1_000..1_000_i64], any::<bool>()),
            1..200,
        ),
    ) {
        let start = Instant::now();
        let rate = Rate::per_second(10).burst(3);
        let keyed = KeyedRate::new(rate, 1_000, start);
        let mut admitted = HashMap::<_, Vec<u64>>::new();
        let mut now = 100_000_i64;
        for (key, by, sweep) in steps {
            now = (now + by).max(0);
            if keyed.check_key(&key, ms(start, now as u64)).is_ok() {
                admitted.entry(key).or_default().push(now as u64);
            }
            if sweep {
                keyed.sweep(ms(start, now as u64));
            }
        }
        for times in admitted.values_mut() {
            times.sort_unstable();
            for first in 0..times.len() {
                for last in first..times.len() {
                    let window = Duration::from_millis(times[last] - times[first]) + Duration::from_nanos(1);
                    prop_assert!(((last - first) as u64) < rate.at_most_in(window), "{:?}", times);
                }
            }
        }
    }
}

/// [KEYRATE-1]
#[test]
fn keys_that_are_all_in_use_leave_no_room_and_idle_ones_do() {
    for max in [1, 7, 128, 1_000, 1_024] {
        let start = Instant::now();
        let limit = KeyedRate::new(Rate::per_second(1), max, start);
        for key in 0..max {
            assert_eq!(limit.check_key(&key, start), Ok(()));
        }
        assert_eq!(limit.len(), max);
        for key in max..3 * max {
            assert_eq!(limit.check_key(&key, ms(start, 999)), Err(KeyedRateError::TooManyKeys));
            assert!(
                matches!(limit.check_key(&0, ms(start, 999)), Err(KeyedRateError::NotYet(_))),
                "it is remembered"
            );
        }
        assert_eq!(limit.len(), max);
        // Now all are idle, and each new key finds room at once.
        for key in max..3 * max {
            assert_eq!(limit.check_key(&key, ms(start, 1_000 + key as u64 * 1_000)), Ok(()));
            assert!(limit.len() <= max);
        }
    }
}

#[test]
fn one_idle_key_among_a_thousand_is_found() {
    let start = Instant::now();
    let limit = KeyedRate::new(Rate::per_second(1), 1_000, start);
    for key in 0..1_000 {
        assert!(limit.check_key(&key, ms(start, if key == 500 { 0 } else { 500 })).is_ok());
    }
    assert_eq!(limit.check_key(&5_000, ms(start, 999)), Err(KeyedRateError::TooManyKeys));
    assert_eq!(limit.check_key(&5_000, ms(start, 1_000)), Ok(()));
    assert_eq!(limit.check_key(&5_001, ms(start, 1_000)), Err(KeyedRateError::TooManyKeys));
}

#[test]
fn keys_that_come_and_go_are_forgotten_without_being_told() {
    let start = Instant::now();
    let limit = KeyedRate::new(Rate::per_second(1), 1_000_000, start);
    for key in 0..1_000_000_u64 {
        // A thousand a second, so a thousand are in use at any time.
        assert!(limit.check_key(&key, ms(start, key)).is_ok());
    }
    // There are 8,192 shards, and each may hold a few that are idle and nobody had to look at.
    assert!(limit.len() < 100_000, "{} keys are remembered", limit.len());
    let remembered = limit.len();
    assert_eq!(limit.sweep(ms(start, 10_000_000)), remembered);
    assert!(limit.is_empty());
}

/// [KEYRATE-1]
#[test]
fn threads_with_new_keys_never_go_past_the_bound() {
    let start = Instant::now();
    for _ in 0..20 {
        let limit = KeyedRate::new(Rate::per_second(1), 500, start);
        let admitted = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for key in 0..1_000_u64 {
                        // All want the same keys: each is admitted once, however many come with it.
                        if limit.check_key(&key, start).is_ok() {
                            admitted.fetch_add(1, SeqCst);
                        }
                        assert!(limit.len() <= 500);
                    }
                });
            }
        });
        assert_eq!((limit.len(), admitted.into_inner()), (500, 500));
    }
}

thread_local! {
    /// After how many calls of the keys' own code it panics.
    static FUSE: Cell<u32> = const { Cell::new(u32::MAX) };
}

fn burn() {
    match FUSE.get() {
        0 => {
            FUSE.set(u32::MAX);
            std::panic::resume_unwind(Box::new("a key of ours")); // without a word on stderr
        }
        left => FUSE.set(left - 1),
    }
}

/// A key that panics, sooner or later, and whose hash is that of many.
#[derive(Debug)]
struct Bad(u32);

impl Hash for Bad {
    fn hash<H: Hasher>(&self, state: &mut H) {
        burn();
        (self.0 % 3).hash(state);
    }
}

impl PartialEq for Bad {
    fn eq(&self, other: &Self) -> bool {
        burn();
        self.0 == other.0
    }
}

impl Eq for Bad {}

impl Clone for Bad {
    fn clone(&self) -> Self {
        burn();
        Bad(self.0)
    }
}

/// [KEYRATE-3]
#[test]
fn keys_that_panic_gain_nothing_and_break_nothing() {
    let start = Instant::now();
    let rate = Rate::per_second(1).burst(2);
    let limit = KeyedRate::new(rate, 60, start);
    let mut admitted = HashMap::<u32, u32>::new();
    let mut panics = 0;
    for turn in 0..20_000_u32 {
        let key = turn.wrapping_mul(2_654_435_761) % 100;
        FUSE.set(turn % 13);
        match catch_unwind(AssertUnwindSafe(|| limit.check_key(&Bad(key), start))) {
            Ok(Ok(())) => *admitted.entry(key).or_default() += 1,
            Ok(Err(_)) => {}
            Err(_) => panics += 1,
        }
        assert!(limit.len() <= 60);
    }
    FUSE.set(u32::MAX);
    assert!(panics > 1_000, "{panics}");
    // All at one time: nobody had more than the burst, also not who was in a map that was moved when a key panicked.
    assert!(admitted.values().all(|&times| times <= 2), "{admitted:?}");
    assert!(admitted.len() > 10, "{admitted:?}");
    assert_eq!(limit.len(), admitted.len(), "nobody was lost");
    let len = limit.len();
    assert_eq!(limit.sweep(ms(start, 2_000)), len, "all that are counted are there");
    assert_eq!(limit.len(), 0);
    assert_eq!(limit.check_key(&Bad(1), ms(start, 2_000)), Ok(()));
}

/// A hasher that hashes nothing.
#[derive(Default)]
struct Identity(u64);

impl Hasher for Identity {
    fn write(&mut self, _: &[u8]) {
        unreachable!()
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[test]
fn a_hasher_that_scatters_nothing_still_fills_all_shards() {
    let start = Instant::now();
    let hasher = BuildHasherDefault::<Identity>::default();
    let limit = KeyedRate::with_hasher(Rate::per_second(1), 100_000, start, hasher);
    for key in 0..100_000_u64 {
        assert_eq!(limit.check_key(&key, start), Ok(()));
    }
    for key in 0..1_000_u64 {
        assert!(matches!(limit.check_key(&key, start), Err(KeyedRateError::NotYet(_))));
    }
    assert_eq!(limit.check_key(&100_000, start), Err(KeyedRateError::TooManyKeys));
}
