//! Rates, explored by loom: the swap that gives a slot to one, and the one that gives it back.
//!
//! Seeded bug, as for the gate: `rate_plain`, a load and a store instead of the swap, breaks [SLOT-1].

use std::sync::Arc;
use std::time::{Duration, Instant};

use loom::thread;

use super::{three_threads, two_threads};
use crate::{Rate, RateLimit};

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
