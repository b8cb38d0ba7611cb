//! What the limiter asks of a runtime's timer, and what it promises with it, under two runtimes: anteroom's own and tokio's.
//!
//! The same functions run under both, by the trait alone, on clocks that tests hold: they go on by themselves when nothing
//! else can happen.

mod clocks;

use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use anteroom_limiter::{AcquireError, Semaphore, Timer};
use anteroom_tests::{Unordered, poll_once};
use clocks::Tokio;
use futures_util::future::join;

const SEC: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

/// How much later than asked for a sleep may end: tokio counts milliseconds.
const LATE_MAX: Duration = Duration::from_millis(2);

/// Runs what follows under both, `$timer` being the timer of each.
macro_rules! under_both {
    ($($test:ident: $promise:ident;)+) => {
        mod anteroom_s_own {
            $(
                #[test]
                fn $promise() {
                    let runtime = anteroom::Runtime::builder().paused_clock(true).build().unwrap();
                    runtime.block_on(super::$test(anteroom::time::Timer));
                    assert_eq!(runtime.metrics().timers, 0);
                }
            )+
        }

        mod tokio_s {
            $(
                #[test]
                fn $promise() {
                    let mut builder = tokio::runtime::Builder::new_current_thread();
                    let runtime = builder.enable_time().start_paused(true).build().unwrap();
                    runtime.block_on(super::$test(super::Tokio));
                }
            )+
        }
    };
}

under_both! {
    sleeps_end_in_order: sleeps_end_in_the_order_of_their_times_and_none_is_early;
    the_past_is_over: a_time_that_has_passed_is_not_waited_for;
    drops: a_sleep_that_is_dropped_holds_nothing_up;
    borrowed: a_timer_that_is_borrowed_or_shared_is_one;
    acquires_in_vain: who_waits_in_vain_is_told_when_its_time_is_over_and_has_left_the_line;
    acquires_in_time: a_permit_in_time_is_given_and_the_timer_goes;
    tries: no_time_at_all_is_a_try_that_respects_the_line;
    granted_first: a_permit_that_was_granted_wins_over_a_time_that_has_passed;
    keeps_the_order: those_behind_keep_their_order_when_some_time_out;
    cancelled: who_is_dropped_in_line_or_after_the_grant_takes_nothing_with_it;
    races: ten_thousand_grants_and_timeouts_at_the_same_instants_leave_the_permits_exact;
}

/// How long it took, by `timer`.
async fn timed<T: Timer, O>(timer: &T, future: impl Future<Output = O>) -> (Duration, O) {
    let start = timer.now();
    let output = future.await;
    (timer.now() - start, output)
}

/// Whether it took as long as that, and no longer.
fn is_about(took: Duration, expected: Duration) -> bool {
    took >= expected && took <= expected + LATE_MAX
}

async fn sleeps_end_in_order<T: Timer>(timer: T) {
    let start = timer.now();
    let seconds = [3, 1, 4, 2, 6, 5];
    let mut sleeps: Unordered<_> =
        seconds.iter().map(|&seconds| timer.sleep_until(start + SEC * seconds)).collect();
    let mut ended = Vec::new();
    while let Some((index, ())) = sleeps.next().await {
        let took = timer.now() - start;
        assert!(is_about(took, SEC * seconds[index]), "{took:?} instead of {} s", seconds[index]);
        ended.push(seconds[index]);
    }
    assert_eq!(ended, [1, 2, 3, 4, 5, 6]);
}

async fn the_past_is_over<T: Timer>(timer: T) {
    timer.sleep_until(timer.now() + SEC).await;
    let past = timer.now().checked_sub(SEC / 2).unwrap();
    let (took, ()) = timed(&timer, timer.sleep_until(past)).await;
    assert!(took <= LATE_MAX, "{took:?}");
    let (took, ()) = timed(&timer, timer.sleep_until(timer.now())).await;
    assert!(took <= LATE_MAX, "{took:?}");
}

async fn drops<T: Timer>(timer: T) {
    let mut hour = Box::pin(timer.sleep_until(timer.now() + 3_600 * SEC));
    assert!(poll_once(hour.as_mut()).is_pending());
    drop(hour);
    drop(timer.sleep_until(timer.now() + 3_600 * SEC));
    let (took, ()) = timed(&timer, timer.sleep_until(timer.now() + SEC)).await;
    assert!(is_about(took, SEC), "{took:?}");
}

async fn borrowed<T: Timer>(timer: T) {
    let start = timer.now();
    let shared = Arc::new(timer);
    let (took, ()) = timed(&&shared, (&&shared).sleep_until(start + SEC)).await;
    assert!(is_about(took, SEC), "{took:?}");
}

/// All permits are there, and nobody waits.
fn assert_exact(semaphore: &Semaphore, in_use: usize) {
    assert_eq!((semaphore.in_use(), semaphore.waiting()), (in_use, 0));
    let free = semaphore.limit() - in_use;
    assert!(semaphore.try_acquire_many(free + 1).is_err());
    if free > 0 {
        assert_eq!(semaphore.try_acquire_many(free).unwrap().weight(), free);
    }
}

async fn acquires_in_vain<T: Timer>(timer: T) {
    let semaphore = Arc::new(Semaphore::new(2));
    let _held = semaphore.try_acquire().unwrap();
    for weight in [2, 1] {
        let _one_more = (weight == 1).then(|| semaphore.try_acquire().unwrap());
        let acquire = || semaphore.acquire_many_owned(weight);
        let (took, late) = timed(&timer, acquire().timeout(&timer, SEC)).await;
        assert_eq!(late.unwrap_err(), AcquireError::TimedOut);
        assert!(is_about(took, SEC), "{took:?}");
        let (took, late) = timed(&timer, acquire().deadline(&timer, timer.now() + SEC)).await;
        assert_eq!(late.unwrap_err(), AcquireError::TimedOut);
        assert!(is_about(took, SEC), "{took:?}");
        assert_eq!(semaphore.waiting(), 0);
    }
    let all = semaphore.try_acquire().unwrap();
    let (took, late) = timed(&timer, semaphore.acquire_timeout(&timer, SEC)).await;
    assert!(late.is_err() && is_about(took, SEC), "{took:?}");
    let (took, late) = timed(&timer, semaphore.acquire_deadline(&timer, timer.now() + SEC)).await;
    assert!(late.is_err() && is_about(took, SEC), "{took:?}");
    drop(all);
    assert_exact(&semaphore, 1);
}

async fn acquires_in_time<T: Timer>(timer: T) {
    let semaphore = Semaphore::new(1);
    let held = semaphore.try_acquire().unwrap();
    let gives_back = async {
        timer.sleep_until(timer.now() + SEC).await;
        drop(held);
    };
    let (took, (permit, ())) =
        timed(&timer, join(semaphore.acquire_timeout(&timer, 2 * SEC), gives_back)).await;
    assert!(is_about(took, SEC), "{took:?}");
    assert_exact(&semaphore, 1);
    drop(permit.unwrap());
    // What no clock can hold is no bound.
    let (took, permit) = timed(&timer, semaphore.acquire_timeout(&timer, Duration::MAX)).await;
    assert!(took <= LATE_MAX && permit.is_ok());
    let held = permit.unwrap();
    let mut patient = Box::pin(semaphore.acquire_timeout(&timer, Duration::MAX));
    assert!(poll_once(patient.as_mut()).is_pending());
    timer.sleep_until(timer.now() + 3_600 * SEC).await;
    assert!(poll_once(patient.as_mut()).is_pending());
    drop(held);
    drop(patient.await.unwrap());
    assert_exact(&semaphore, 0);
}

async fn tries<T: Timer>(timer: T) {
    timer.sleep_until(timer.now() + SEC).await;
    let semaphore = Semaphore::new(2);
    let start = timer.now();
    let past = start.checked_sub(SEC / 2).unwrap();
    let held = semaphore.acquire_timeout(&timer, Duration::ZERO).await.unwrap();
    let mut waits = Box::pin(semaphore.acquire_many(2));
    assert!(poll_once(waits.as_mut()).is_pending());
    // One is free, and it is the other's turn.
    for at in [past, timer.now()] {
        let late = semaphore.acquire_deadline(&timer, at).await;
        assert_eq!(late.unwrap_err(), AcquireError::TimedOut);
    }
    assert_eq!(semaphore.waiting(), 1);
    drop(held);
    drop(waits.await.unwrap());
    drop(semaphore.acquire_deadline(&timer, past).await.unwrap());
    assert!(timer.now() - start <= LATE_MAX);
    assert_exact(&semaphore, 0);
}

async fn granted_first<T: Timer>(timer: T) {
    let semaphore = Semaphore::new(1);
    let held = semaphore.try_acquire().unwrap();
    let mut first = Box::pin(semaphore.acquire_timeout(&timer, SEC));
    assert!(poll_once(first.as_mut()).is_pending());
    drop(held);
    timer.sleep_until(timer.now() + 2 * SEC).await;
    let Poll::Ready(Ok(permit)) = poll_once(first.as_mut()) else { panic!("it was granted") };
    assert_exact(&semaphore, 1);
    drop(permit);
    assert_exact(&semaphore, 0);
}

async fn keeps_the_order<T: Timer>(timer: T) {
    // Each of five, and all sets of them, leave.
    for leaves in 1..32_u32 {
        let semaphore = Semaphore::new(1);
        let held = semaphore.try_acquire().unwrap();
        let order = Mutex::new(Vec::new());
        let in_line: Unordered<_> = (0..5)
            .map(|n| {
                let patience = if leaves & 1 << n == 0 { 10 * SEC } else { SEC + 5 * MS * n };
                let (semaphore, timer, order) = (&semaphore, &timer, &order);
                async move {
                    match semaphore.acquire_timeout(timer, patience).await {
                        Ok(_permit) => order.lock().unwrap().push(n),
                        Err(late) => assert_eq!(late, AcquireError::TimedOut),
                    }
                }
            })
            .collect();
        let mut in_line = pin!(in_line);
        let all = async { while in_line.next().await.is_some() {} };
        let gives_back = async {
            timer.sleep_until(timer.now() + 2 * SEC).await;
            assert_eq!(semaphore.waiting(), 5 - leaves.count_ones() as usize);
            drop(held);
        };
        join(all, gives_back).await;
        let expected: Vec<u32> = (0..5).filter(|n| leaves & 1 << n == 0).collect();
        assert_eq!(*order.lock().unwrap(), expected, "{leaves:b}");
        assert_exact(&semaphore, 0);
    }
}

async fn cancelled<T: Timer>(timer: T) {
    let semaphore = Semaphore::new(1);
    for was_granted in [false, true] {
        let held = semaphore.try_acquire().unwrap();
        let mut first = Box::pin(semaphore.acquire_timeout(&timer, SEC));
        let mut second = Box::pin(semaphore.acquire_timeout(&timer, 10 * SEC));
        // Never polled, it stands nowhere.
        drop(semaphore.acquire_timeout(&timer, SEC));
        assert!(poll_once(first.as_mut()).is_pending() && poll_once(second.as_mut()).is_pending());
        assert_eq!(semaphore.waiting(), 2);
        if was_granted {
            drop(held);
            assert_eq!(semaphore.waiting(), 1);
            drop(first);
        } else {
            drop(first);
            assert_eq!(semaphore.waiting(), 1);
            drop(held);
        }
        let (took, permit) = timed(&timer, second).await;
        assert!(took <= LATE_MAX, "{took:?}");
        drop(permit.unwrap());
        assert_exact(&semaphore, 0);
    }
}

async fn races<T: Timer>(timer: T) {
    const JOBS: usize = if cfg!(anteroom_asan) { 1_000 } else { 10_000 };
    let semaphore = Semaphore::new(3);
    let mut random = 1_u64;
    let mut below = |bound: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % bound
    };
    let (mut in_time, mut late) = (0, 0);
    for _ in 0..JOBS / 20 {
        let mut batch: Unordered<_> = (0..20)
            .map(|_| {
                // Whole milliseconds, so that most ends fall on one with a timeout, by tokio's clock too.
                let (held, patience) = (MS * below(4) as u32, MS * below(12) as u32);
                let weight = 1 + below(3) as usize;
                let (semaphore, timer) = (&semaphore, &timer);
                async move {
                    let acquired = semaphore.acquire_many(weight).timeout(timer, patience).await;
                    assert!(semaphore.in_use() <= 3);
                    if acquired.is_ok() {
                        timer.sleep_until(timer.now() + held).await;
                    }
                    acquired.map(drop)
                }
            })
            .collect();
        while let Some((_, acquired)) = batch.next().await {
            match acquired {
                Ok(()) => in_time += 1,
                Err(error) => {
                    assert_eq!(error, AcquireError::TimedOut);
                    late += 1;
                }
            }
        }
        assert_exact(&semaphore, 0);
    }
    assert_eq!(in_time + late, JOBS);
    assert!(in_time > JOBS / 10 && late > JOBS / 10, "{in_time} in time, {late} late");
}
