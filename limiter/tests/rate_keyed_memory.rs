//! A million keys, and what they take.

#![allow(clippy::disallowed_methods, reason = "a test has no clock of its own to ask for a first time")]

mod counting;

use std::time::{Duration, Instant};

use anteroom_limiter::{KeyedRate, Rate};
use counting::{live, peak};

#[test]
fn a_million_keys_take_at_most_64_bytes_each_also_while_they_come_and_go() {
    const KEYS: usize = 1_000_000;
    let start = Instant::now();
    let before = live();
    let limit = KeyedRate::new(Rate::per_second(1), KEYS, start);
    let empty = live() - before;
    assert!(empty <= KEYS as isize, "{empty} bytes without any key");
    for key in 0..KEYS as u64 {
        limit.check_key(&key, start).unwrap();
    }
    assert!(limit.check_key(&u64::MAX, start).is_err());
    assert_eq!(limit.len(), KEYS);
    let each = |bytes: isize| (bytes - before) as f64 / KEYS as f64;
    println!("{:.1} bytes a key", each(live()));

    // All of them go, and others come, three times over.
    for generation in 1..=3 {
        let now = start + Duration::from_secs(generation);
        for key in 0..KEYS as u64 {
            limit.check_key(&(generation << 32 | key), now).unwrap();
        }
        assert!(limit.len() <= KEYS);
    }
    println!("{:.1} bytes a key later, {:.1} at the peak", each(live()), each(peak()));
    assert!(each(peak()) <= 64.0, "{}", each(peak()));

    let gone = start + Duration::from_secs(100);
    limit.sweep(gone);
    assert!(limit.is_empty());
    // What was printed is kept by the harness.
    let left = live() - before;
    assert!(left <= empty + 4_096, "{left} bytes are left, and {empty} were there before any key");
}
