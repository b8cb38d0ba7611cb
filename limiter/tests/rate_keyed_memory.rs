//! A million keys, and what they take.

#![allow(clippy::disallowed_types, reason = "a test of the public API has no other atomics")]
#![allow(clippy::disallowed_methods, reason = "a test has no clock of its own to ask for a first time")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anteroom_limiter::{KeyedRate, Rate};

/// The system's allocator, counting. This file has one test only, so nobody else's memory is counted.
struct Counting;

static BYTES: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator unchanged, which keeps the contract.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let bytes = BYTES.fetch_add(layout.size(), Relaxed) + layout.size(); // a statistic
        PEAK.fetch_max(bytes, Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        BYTES.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the pointer is from `alloc` above, so from the system's, with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_million_keys_take_at_most_64_bytes_each_also_while_they_come_and_go() {
    const KEYS: usize = 1_000_000;
    let start = Instant::now();
    let before = BYTES.load(Relaxed);
    PEAK.store(before, Relaxed);
    let limit = KeyedRate::new(Rate::per_second(1), KEYS, start);
    let empty = BYTES.load(Relaxed) - before;
    assert!(empty <= KEYS, "{empty} bytes without any key");
    for key in 0..KEYS as u64 {
        limit.check_key(&key, start).unwrap();
    }
    assert!(limit.check_key(&u64::MAX, start).is_err());
    assert_eq!(limit.len(), KEYS);
    let each = |bytes: usize| (bytes - before) as f64 / KEYS as f64;
    println!("{:.1} bytes a key", each(BYTES.load(Relaxed)));

    // All of them go, and others come, three times over.
    for generation in 1..=3 {
        let now = start + Duration::from_secs(generation);
        for key in 0..KEYS as u64 {
            limit.check_key(&(generation << 32 | key), now).unwrap();
        }
        assert!(limit.len() <= KEYS);
    }
    println!(
        "{:.1} bytes a key later, {:.1} at the peak",
        each(BYTES.load(Relaxed)),
        each(PEAK.load(Relaxed))
    );
    assert!(each(PEAK.load(Relaxed)) <= 64.0, "{}", each(PEAK.load(Relaxed)));

    let gone = start + Duration::from_secs(100);
    limit.sweep(gone);
    assert!(limit.is_empty());
    // What was printed is kept by the harness.
    let left = BYTES.load(Relaxed) - before;
    assert!(left <= empty + 4_096, "{left} bytes are left, and {empty} were there before any key");
}
