//! A million races, and then the capacity is what it was: not one unit less, not one more.

#![allow(clippy::disallowed_types, reason = "a test of the public API has no other atomics")]

mod common;

use std::future::ready;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::task::Poll;
use std::thread;

use anteroom_limiter::{AcquireError, Permit, Semaphore, Snapshot};
use common::{block_on, poll_once};

const WORKERS: usize = 4;
const RACES_PER_WORKER: usize = 250_000;

/// xorshift: the same sequence for the same seed. Which race it meets is up to the scheduler.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) as usize % sides
    }
}

/// Counts what is held as its holders see it, to compare with what the semaphore says.
struct Gauge {
    held: AtomicUsize,
    limit_max: usize,
}

impl Gauge {
    /// The holder's count goes up after the grant and down before the release: it never shows more than there is.
    fn hold(&self, permit: Permit<&Semaphore>) {
        let held = self.held.fetch_add(permit.weight(), SeqCst) + permit.weight();
        assert!(held <= self.limit_max, "{held} held of at most {}", self.limit_max);
        self.held.fetch_sub(permit.weight(), SeqCst);
        drop(permit);
    }
}

/// One worker: acquire in every way, and cancel at every point.
fn work(semaphore: &Semaphore, gauge: &Gauge, weight_max: usize, mut dice: Dice) {
    for _ in 0..RACES_PER_WORKER {
        let weight = 1 + dice.roll(weight_max);
        match dice.roll(16) {
            0 => match block_on(semaphore.acquire_many(weight)) {
                Ok(permit) => gauge.hold(permit),
                Err(error) => assert_eq!(error, AcquireError::ExceedsLimit),
            },
            1..8 => {
                if let Ok(permit) = semaphore.try_acquire_many(weight) {
                    gauge.hold(permit);
                }
            }
            _ => {
                // Polled once, or twice, and then dropped: unserved, served but not told, or told.
                let mut acquire = semaphore.acquire_many(weight);
                for _ in 0..=dice.roll(2) {
                    match poll_once(&mut acquire) {
                        Poll::Ready(Ok(permit)) => {
                            gauge.hold(permit);
                            break;
                        }
                        Poll::Ready(Err(_)) => break,
                        Poll::Pending => thread::yield_now(),
                    }
                }
            }
        }
    }
}

#[track_caller]
fn assert_capacity(semaphore: &Semaphore, limit: usize) {
    assert_eq!(semaphore.snapshot(), Snapshot { limit, in_use: 0, waiting: 0, closed: false });
    let all = semaphore.try_acquire_many(limit).unwrap();
    assert!(semaphore.try_acquire().is_err());
    drop(all);
}

/// bugs.md 12, 13
#[test]
fn a_million_races_of_grants_and_cancellations_leave_the_capacity_exact() {
    let semaphore = Semaphore::new(3);
    let gauge = Gauge { held: AtomicUsize::new(0), limit_max: 3 };
    thread::scope(|scope| {
        for seed in 1..=WORKERS as u64 {
            let (semaphore, gauge) = (&semaphore, &gauge);
            scope.spawn(move || work(semaphore, gauge, 3, Dice(seed * 0x9E37_79B9)));
        }
    });
    assert_capacity(&semaphore, 3);
}

/// bugs.md 12, 13, 17: the same, while the limit goes up and down.
#[test]
fn a_million_races_with_resizes_leave_the_capacity_exact() {
    let semaphore = Semaphore::new(6);
    let gauge = Gauge { held: AtomicUsize::new(0), limit_max: 6 };
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut dice = Dice(42);
            while !done.load(SeqCst) {
                semaphore.set_limit(1 + dice.roll(6)).unwrap();
                thread::yield_now();
            }
        });
        thread::scope(|workers| {
            for seed in 1..=WORKERS as u64 {
                let (semaphore, gauge) = (&semaphore, &gauge);
                workers.spawn(move || work(semaphore, gauge, 4, Dice(seed * 0x9E37_79B9)));
            }
        });
        done.store(true, SeqCst);
    });
    semaphore.set_limit(6).unwrap();
    assert_capacity(&semaphore, 6);
}

/// bugs.md 12, 13: and permits are charged, shrink, grow, are split and suspended, with the way back given up at any point.
#[test]
fn a_million_races_of_what_holders_do_later_leave_the_capacity_exact() {
    let semaphore = Semaphore::new(4);
    thread::scope(|scope| {
        for seed in 1..=WORKERS as u64 {
            let semaphore = &semaphore;
            scope.spawn(move || {
                let mut dice = Dice(seed * 0x9E37_79B9);
                for _ in 0..RACES_PER_WORKER {
                    let weight = 1 + dice.roll(3);
                    let Ok(mut permit) = (match dice.roll(4) {
                        0 => block_on(semaphore.acquire_many(weight)).map_err(|_| ()),
                        _ => semaphore.try_acquire_many(weight).map_err(|_| ()),
                    }) else {
                        continue;
                    };
                    match dice.roll(8) {
                        0 => drop(permit.charge(dice.roll(4))),
                        1 => drop(permit.shrink(dice.roll(4))),
                        2 => drop(permit.try_grow(dice.roll(3))),
                        3 => drop(permit.split(dice.roll(3))),
                        4 => {
                            block_on(permit.suspend(ready(())));
                            assert_eq!(permit.weight(), weight);
                        }
                        5 => drop(poll_once(&mut Box::pin(permit.suspend(ready(()))))),
                        6 => drop(poll_once(&mut Box::pin(permit.grow(1)))),
                        _ => {}
                    }
                }
            });
        }
    });
    assert_capacity(&semaphore, 4);
}
