//! Rates, explored by loom: the swap that gives a slot to one, the one that gives it back, and the count of keys.
//!
//! Seeded bugs, as for the gate: `rate_plain`, a load and a store instead of the swap, breaks [SLOT-1]; `rate_keys_plain`, the
//! same of the count of keys, breaks [KEYRATE-1].

use std::hash::{BuildHasherDefault, DefaultHasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

use loom::thread;

use super::{three_threads, two_threads};
use crate::{KeyedRate, Rate, RateLimit};

/// A limit of one a second, and the time that it is.
fn one_a_second(burst: u64) -> (Arc<RateLimit>, Instant) {
    let now = Instant::now();
    (Arc::new(RateLimit::new(Rate::per_second(1).burst(burst), now)), now)
}

/// The slots that come next, in seconds.
fn next(limit: &RateLimit, now: Instant) -> Duration {
    limit.reserve(now).unwrap().at() - now
}

/// [SLOT-1]
#[test]
fn loom_two_that_check_at_once_share_what_is_there() {
    two_threads(|| {
        let (limit, now) = one_a_second(1);
        let other = thread::spawn({
            let limit = Arc::clone(&limit);
            move || limit.check(now).is_ok()
        });
        let mine = limit.check(now).is_ok();
        assert!(mine != other.join().unwrap(), "one slot is due, and it goes to one of two");
        assert_eq!(next(&limit, now), Duration::from_secs(1));
    });
}

/// [SLOT-1]
#[test]
fn loom_three_that_check_at_once_share_a_burst_of_two() {
    three_threads(|| {
        let (limit, now) = one_a_second(2);
        let others = [(); 2].map(|()| {
            let limit = Arc::clone(&limit);
            thread::spawn(move || usize::from(limit.check(now).is_ok()))
        });
        let mine = usize::from(limit.check(now).is_ok());
        assert_eq!(others.map(|other| other.join().unwrap()).iter().sum::<usize>() + mine, 2);
        assert_eq!(next(&limit, now), Duration::from_secs(1));
    });
}

/// [SLOT-1], [SLOT-2]: a slot is given back while another is reserved, before it or behind it.
#[test]
fn loom_a_slot_that_is_given_back_belongs_to_nobody_or_to_the_next() {
    two_threads(|| {
        let (limit, now) = one_a_second(1);
        let other = thread::spawn({
            let limit = Arc::clone(&limit);
            move || limit.reserve(now).unwrap().at() - now
        });
        let mine = limit.reserve(now).unwrap();
        let my_time = mine.at() - now;
        let is_back = mine.cancel();
        let its_time = other.join().unwrap();
        assert!(is_back || its_time != my_time, "two had one slot");
        // The slots that were taken and kept: its, and mine if it did not come back. The next one is behind both.
        let taken = if is_back { its_time } else { its_time.max(my_time) };
        assert_eq!(next(&limit, now), taken + Duration::from_secs(1));
    });
}

/// [SLOT-2]: both give back. The newer one always can; the older one only after it.
#[test]
fn loom_two_that_give_back_leave_no_slot_taken_twice() {
    two_threads(|| {
        let (limit, now) = one_a_second(1);
        let give = move |limit: &RateLimit| {
            let slot = limit.reserve(now).unwrap();
            (slot.at() - now, slot.cancel())
        };
        let other = thread::spawn({
            let limit = Arc::clone(&limit);
            move || give(&limit)
        });
        let (mine, other) = (give(&limit), other.join().unwrap());
        let lost = [mine, other].iter().filter(|(_, is_back)| !is_back).map(|(at, _)| *at).max();
        assert_eq!(next(&limit, now), lost.map_or(Duration::ZERO, |at| at + Duration::from_secs(1)));
    });
}

/// [KEYRATE-1]: the only place is an idle key's, which both new ones sweep out: one has it, and the count is exact at the end.
#[test]
fn loom_two_new_keys_share_one_place() {
    two_threads(|| {
        let start = Instant::now();
        // The same hashes each time, or no two executions were alike.
        let hasher = BuildHasherDefault::<DefaultHasher>::default();
        let limit = Arc::new(KeyedRate::with_hasher(Rate::per_second(1), 1, start, hasher));
        limit.check_key(&0_u8, start).unwrap();
        let later = start + Duration::from_secs(2);
        let other = thread::spawn({
            let limit = Arc::clone(&limit);
            move || limit.check_key(&1, later).is_ok()
        });
        let mine = limit.check_key(&2, later).is_ok();
        assert!(mine != other.join().unwrap(), "one place, and one of two has it");
        assert_eq!(limit.len(), 1);
        assert_eq!(limit.sweep(later + Duration::from_secs(2)), 1);
        assert_eq!(limit.len(), 0, "as many are counted as there are");
    });
}
