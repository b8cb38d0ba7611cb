//! A system whose monotonic clock steps back, or far forward: the program goes on.
//!
//! This file has a `clock_gettime` of its own, which std finds before the system's. It answers what the system does, and
//! moves the monotonic clock of a thread by what a test says.

#![cfg(all(target_os = "linux", target_pointer_width = "64"))]

use std::cell::Cell;
use std::pin::pin;
use std::time::{Duration, Instant};

use anteroom::time::{interval, now, sleep, sleep_until, timeout};
use anteroom::{Runtime, metrics, spawn, yield_now};
use anteroom_tests::{look_around, must_end, poll_once};

const MS: Duration = Duration::from_millis(1);

thread_local! {
    /// By how many nanoseconds this thread's clock is off.
    static OFF_NS: Cell<i64> = const { Cell::new(0) };
}

/// As the system's, and off by `OFF_NS`.
///
/// # Safety
/// That of the system's.
#[unsafe(no_mangle)]
unsafe extern "C" fn clock_gettime(clock: libc::clockid_t, time: *mut libc::timespec) -> libc::c_int {
    // SAFETY: the caller's promise; the system call itself, since the function that is usually called for it is this one.
    let result = unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) };
    let off_ns = OFF_NS.try_with(Cell::get).unwrap_or(0);
    if result == 0 && clock == libc::CLOCK_MONOTONIC && off_ns != 0 {
        // SAFETY: the system has just written there.
        let time = unsafe { &mut *time };
        let ns = (time.tv_sec * 1_000_000_000 + time.tv_nsec).saturating_add(off_ns).max(0);
        (time.tv_sec, time.tv_nsec) = (ns / 1_000_000_000, ns % 1_000_000_000);
    }
    result as libc::c_int
}

/// Moves this thread's clock.
fn step(millis: i64) {
    OFF_NS.set(OFF_NS.get() + millis * 1_000_000);
}

#[test]
fn the_clock_of_this_test_can_be_moved() {
    let before = Instant::now();
    step(1_000_000);
    assert!(Instant::now() - before >= 1_000_000 * MS);
    step(-2_000_000);
    assert!(Instant::now() < before);
    step(1_000_000);
    assert!(Instant::now() >= before);
}

#[test]
fn a_clock_that_steps_back_stops_no_timer_for_good_and_panics_nowhere() {
    // bugs.md 39
    must_end(|| {
        for resolution in [Duration::from_micros(100), Duration::from_millis(7)] {
            let runtime = Runtime::builder().timer_resolution(resolution).build().unwrap();
            runtime.block_on(async {
                let mut ticks = interval(MS);
                for back in [1, 5, 20, 1_000_000_000] {
                    let (start, mut waits) = (Instant::now(), pin!(sleep(2 * MS)));
                    assert!(poll_once(waits.as_mut()).is_pending());
                    ticks.tick().await;
                    step(-back);
                    // The clock is before the deadline, before the runtime's own start, or at the beginning of time: the last is certain,
                    // however long this thread was kept waiting.
                    look_around().await;
                    assert!(Instant::now() < start || back <= 20, "the system's clock");
                    assert!(now() >= start, "the runtime's does not go back");
                    let task = spawn(async { (yield_now().await, sleep(Duration::ZERO).await, 3).2 });
                    assert_eq!(task.join().await.unwrap(), 3);
                    // No time passes meanwhile, so what is in time is in time.
                    assert_eq!(timeout(MS, async { (yield_now().await, 4).1 }).await, Ok(4));
                    let mut again = pin!(sleep(MS));
                    let _ = poll_once(again.as_mut());
                    let mut past = pin!(sleep_until(now().checked_sub(MS).unwrap_or(start)));
                    let _ = poll_once(past.as_mut());
                    step(back);
                    waits.await;
                    assert!(Instant::now() >= start + 2 * MS, "not early");
                    again.await;
                    past.await;
                    ticks.tick().await;
                }
                assert_eq!(metrics().timers, 0);
            });
        }
    });
}

#[test]
fn a_clock_that_stays_back_makes_timers_late_by_the_step_and_no_more() {
    // bugs.md 39
    must_end(|| {
        anteroom::block_on(async {
            let mut waits = pin!(sleep(5 * MS));
            assert!(poll_once(waits.as_mut()).is_pending());
            step(-30);
            let start = Instant::now();
            waits.await;
            let late = Instant::now() - start;
            assert!(late >= 30 * MS, "{late:?}: before its deadline, by the clock that there is");
            // What is set from now on is by the new time.
            let start = Instant::now();
            sleep(2 * MS).await;
            assert!(Instant::now() - start >= 2 * MS);
        });
        step(30);
    });
}

#[test]
fn a_clock_that_leaps_forward_fires_what_is_due_and_loses_nothing() {
    must_end(|| {
        anteroom::block_on(async {
            for years in [1, 10, 200] {
                let tasks = [1, 100, 10_000, 1_000_000_000].map(|millis| spawn(sleep(millis * MS)).join());
                let mut tasks = tasks.map(Box::pin);
                for task in &mut tasks {
                    assert!(poll_once(task.as_mut()).is_pending());
                }
                yield_now().await;
                assert_eq!(metrics().timers, 4);
                step(years * 365 * 86_400_000);
                for task in tasks {
                    task.await.unwrap();
                }
                assert_eq!(metrics().timers, 0);
                sleep(MS).await;
            }
        });
    });
}
