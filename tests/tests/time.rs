//! Timers: never early, hardly late, and on a clock that a test can hold.

use std::future::{pending, ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anteroom::time::{Sleep, advance, interval, now, sleep, sleep_until, timeout, timeout_at};
use anteroom::{Runtime, block_on, metrics, spawn, spawn_blocking, yield_now};
use anteroom_tests::{Wakes, elsewhere, look_around, must_end, poll_once, poll_with};

const MS: Duration = Duration::from_millis(1);
const SEC: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);
const TICK: Duration = Duration::from_micros(100);

/// A clock that moves when nothing else can.
fn paused<T>(future: impl Future<Output = T>) -> T {
    let real = Instant::now();
    let result = Runtime::builder().paused_clock(true).build().unwrap().block_on(future);
    assert!(real.elapsed() < 10 * SEC, "a paused clock waits for nothing");
    result
}

#[test]
fn a_sleep_is_never_early_and_its_tick_is_at_most_one_late() {
    // [DRIVER-2]
    paused(async {
        for micros in (0..3_000).step_by(7) {
            let start = now();
            sleep(Duration::from_micros(micros)).await;
            let slept = now() - start;
            assert!(slept >= Duration::from_micros(micros), "{slept:?} of {micros} µs");
            assert!(slept <= Duration::from_micros(micros) + TICK, "{slept:?} of {micros} µs");
        }
    });
}

#[test]
fn a_sleep_of_a_hundred_microseconds_takes_about_that() {
    // bugs.md 44
    block_on(async {
        let mut best = Duration::MAX;
        for _ in 0..200 {
            let start = Instant::now();
            sleep(TICK).await;
            let slept = start.elapsed();
            assert!(slept >= TICK, "{slept:?}: early");
            best = best.min(slept);
        }
        assert!(best < MS, "{best:?}");
    });
}

#[test]
fn a_real_sleep_is_never_early() {
    block_on(async {
        for n in 0..60_u64 {
            let duration = Duration::from_nanos(n * n * 1_733 + 1);
            let start = Instant::now();
            sleep(duration).await;
            assert!(start.elapsed() >= duration, "{:?} of {duration:?}", start.elapsed());
        }
    });
}

#[test]
fn what_has_passed_is_ready_at_its_first_poll() {
    // bugs.md 40
    paused(async {
        for micros in [1, 50, 100, 150, 12_345] {
            advance(Duration::from_micros(micros)).await;
            for past in [Duration::ZERO, Duration::from_nanos(1), TICK / 2, DAY] {
                let deadline = now().checked_sub(past).unwrap();
                assert!(poll_once(pin!(sleep_until(deadline))).is_ready(), "{micros} µs, {past:?} ago");
            }
        }
        assert_eq!(metrics().timers, 0);
    });
    block_on(async {
        assert!(poll_once(pin!(sleep(Duration::ZERO))).is_ready());
        assert!(poll_once(pin!(sleep_until(Instant::now() - SEC))).is_ready());
    });
}

#[test]
fn thousands_of_timers_fire_in_order_each_at_its_tick() {
    // [WHEEL-1]
    paused(async {
        let (sender, fired) = mpsc::channel();
        let mut random = 1_u64;
        for _ in 0..3_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let (sender, after) = (sender.clone(), Duration::from_micros(random >> 33 >> (random % 24)));
            drop(
                spawn(async move {
                    let deadline = now() + after;
                    sleep_until(deadline).await;
                    assert!(now() >= deadline && now() <= deadline + TICK);
                    sender.send(deadline).unwrap();
                })
                .await
                .unwrap(),
            );
        }
        drop(sender);
        while metrics().tasks_live > 0 {
            sleep(SEC).await;
        }
        let fired: Vec<Instant> = fired.iter().collect();
        assert_eq!(fired.len(), 3_000);
        assert!(fired.windows(2).all(|two| two[0] <= two[1] + TICK));
    });
}

#[test]
fn two_years_of_a_timer_a_day() {
    // bugs.md 41
    paused(async {
        let start = now();
        for day in 1..=730 {
            sleep_until(start + day * DAY).await;
            assert_eq!(now() - start, day * DAY);
        }
        sleep(20 * 365 * DAY).await;
        assert_eq!(now() - start, 22 * 365 * DAY);
    });
}

#[test]
fn durations_that_no_clock_holds_saturate() {
    // bugs.md 43
    // [WHEEL-3]
    let far =
        [Duration::MAX, Duration::from_secs(u64::MAX / 2), Duration::from_secs(1 << 40), 400 * 365 * DAY];
    paused(async {
        for far in far {
            let start = now();
            assert!(timeout(DAY, sleep(far)).await.is_err());
            assert!(timeout(DAY, timeout(far, pending::<()>())).await.is_err());
            assert_eq!(timeout(far, ready(1)).await, Ok(1));
            assert_eq!(now() - start, 2 * DAY);
        }
        assert!(timeout(DAY, interval(Duration::MAX).tick()).await.is_ok(), "the first tick is at once");
        let before = now();
        advance(Duration::MAX).await;
        assert!(now() >= before, "the clock never goes back");
        sleep(SEC).await;
        assert!(now() >= before);
    });
    block_on(async {
        for far in far {
            assert!(timeout(MS, sleep(far)).await.is_err());
        }
    });
}

#[test]
fn a_timer_fires_once_or_is_cancelled() {
    // bugs.md 42
    // [WHEEL-2]
    paused(async {
        let (waker, told) = Wakes::new();
        let mut first = Box::pin(sleep(SEC));
        let mut second = Box::pin(sleep(SEC));
        assert!(
            poll_with(first.as_mut(), &waker).is_pending() && poll_with(second.as_mut(), &waker).is_pending()
        );
        advance(SEC - TICK).await;
        assert_eq!((told.count(), metrics().timers), (0, 2));
        drop(first);
        assert_eq!(metrics().timers, 1);
        advance(TICK).await;
        advance(SEC).await;
        assert_eq!((told.count(), metrics().timers), (1, 0));
        // Set anew while it waits, after it has fired and before anyone looked, and after that.
        for _ in 0..3 {
            second.reset(now() + SEC);
            assert!(poll_with(second.as_mut(), &waker).is_pending());
            second.reset(now() + 2 * SEC);
            assert!(poll_with(second.as_mut(), &waker).is_pending());
            advance(SEC).await;
            assert!(poll_with(second.as_mut(), &waker).is_pending());
            advance(SEC).await;
        }
        assert_eq!(told.count(), 4);
        assert!(poll_once(second.as_mut()).is_ready());
    });
}

#[test]
fn a_sleep_wakes_the_waker_of_its_latest_poll() {
    paused(async {
        let mut waits = Box::pin(sleep(SEC));
        let ((first, told_first), (second, told_second)) = (Wakes::new(), Wakes::new());
        for waker in [&first, &second, &first, &second] {
            assert!(poll_with(waits.as_mut(), waker).is_pending());
        }
        assert_eq!(metrics().timers, 1);
        advance(SEC).await;
        assert_eq!((told_first.count(), told_second.count()), (0, 1));
    });
}

#[test]
fn timers_dropped_elsewhere_are_taken_away() {
    must_end(|| {
        block_on(async {
            let mut sleeps = Vec::new();
            for _ in 0..1_000 {
                let mut waits = Box::pin(sleep(DAY));
                assert!(poll_once(waits.as_mut()).is_pending());
                sleeps.push(waits);
                // Each takes one of the 128 operations of a turn.
                yield_now().await;
            }
            assert_eq!(metrics().timers, 1_000);
            elsewhere(|| drop(sleeps));
            look_around().await;
            assert_eq!(metrics().timers, 0);
        });
    });
}

#[test]
fn a_sleep_that_moves_to_another_runtime_waits_there() {
    must_end(|| {
        let (first, second) = (Runtime::new().unwrap(), Runtime::new().unwrap());
        let mut waits: std::pin::Pin<Box<Sleep>> = Box::pin(sleep(5 * MS));
        first.block_on(async {
            assert!(poll_once(waits.as_mut()).is_pending());
            assert_eq!(metrics().timers, 1);
        });
        let deadline = waits.deadline();
        second.block_on(waits);
        assert!(Instant::now() >= deadline);
        first.block_on(look_around());
        assert_eq!((first.metrics().timers, second.metrics().timers), (0, 0));

        // One that is dropped in another, while its own is inside a call and while it is not.
        let mut waits = Box::pin(sleep(DAY));
        first.block_on(async { assert!(poll_once(waits.as_mut()).is_pending()) });
        second.block_on(async { drop(waits) });
        first.block_on(async {
            let mut waits = Box::pin(sleep(DAY));
            assert!(poll_once(waits.as_mut()).is_pending());
            second.block_on(async { drop(waits) });
            look_around().await;
            assert_eq!(metrics().timers, 0);
        });

        // One that outlives its runtime waits in the next, on its own thread.
        let mut waits = Box::pin(sleep(5 * MS));
        first.block_on(async { assert!(poll_once(waits.as_mut()).is_pending()) });
        drop(first);
        elsewhere(|| block_on(waits));
    });
}

#[test]
fn a_sleep_of_an_earlier_runtime_does_not_go_by_the_ticks_of_a_later_one() {
    // [FIRED-1]: its own were coarse, so that it has a small one; on the same thread the later runtime has the same home.
    let start = Instant::now();
    let coarse = Runtime::builder().timer_resolution(100 * MS).build().unwrap();
    let mut old = pin!(sleep(300 * MS));
    coarse.block_on(async { assert!(poll_once(old.as_mut()).is_pending()) });
    drop(coarse);
    block_on(async {
        for _ in 0..20 {
            sleep(MS).await;
        }
        assert!(start.elapsed() < 300 * MS, "a machine this slow shows nothing");
        assert!(poll_once(old.as_mut()).is_pending(), "some 200 ticks have passed, and it has the third");
        old.await;
        assert!(start.elapsed() >= 300 * MS);
    });
}

#[test]
fn a_sleep_that_is_over_is_so_for_whoever_polls_it_before_it_is_woken() {
    // [FIRED-1] Polled by another waker than the one that was woken.
    paused(async {
        let mut sleep = pin!(sleep(5 * MS));
        assert!(poll_once(sleep.as_mut()).is_pending());
        advance(4 * MS).await;
        assert!(poll_once(sleep.as_mut()).is_pending());
        advance(MS).await;
        assert!(poll_once(sleep.as_mut()).is_ready());
        assert_eq!(metrics().timers, 0);
        // And again, from its new deadline on.
        sleep.as_mut().reset(now() + MS);
        assert!(poll_once(sleep.as_mut()).is_pending());
        advance(MS).await;
        assert!(poll_once(sleep.as_mut()).is_ready());
    });
}

#[test]
fn a_timeout_polls_its_future_first() {
    paused(async {
        assert_eq!(timeout(Duration::ZERO, ready(1)).await, Ok(1));
        assert_eq!(timeout_at(now() - MS, ready(1)).await, Ok(1));
        assert!(timeout(Duration::ZERO, pending::<()>()).await.is_err());
        // Both at the same tick: the future is not lost.
        assert_eq!(timeout(SEC, async { (sleep(SEC).await, 2).1 }).await, Ok(2));
        let error = timeout(SEC, sleep(2 * SEC)).await.unwrap_err();
        assert_eq!(std::io::Error::from(error).kind(), std::io::ErrorKind::TimedOut);
        assert_eq!(metrics().timers, 0, "the loser's timer is gone");
    });
}

#[test]
fn an_interval_keeps_its_phase_and_leaves_out_what_was_missed() {
    paused(async {
        let start = now();
        let mut ticks = interval(SEC);
        for n in 0..5 {
            assert_eq!(ticks.tick().await - start, n * SEC);
        }
        sleep(2 * SEC + SEC / 2).await;
        assert_eq!(ticks.tick().await - start, 5 * SEC, "late, and only once");
        assert_eq!(ticks.tick().await - start, 7 * SEC);
        // A tick that was waited for and given up comes to the next call.
        assert!(timeout(MS, ticks.tick()).await.is_err());
        assert_eq!(ticks.tick().await - start, 8 * SEC);
        assert!(catch_unwind(AssertUnwindSafe(|| interval(Duration::ZERO))).is_err());
    });
}

#[test]
fn a_paused_clock_stands_still_while_anything_can_run() {
    paused(async {
        let start = now();
        let waits = spawn(sleep(SEC)).await.unwrap();
        for _ in 0..1_000 {
            yield_now().await;
        }
        assert_eq!(now(), start);
        assert!(!waits.is_finished());
        let job = spawn_blocking(|| thread::sleep(20 * MS));
        job.await.unwrap();
        assert_eq!(now(), start, "a job of the pool counts");
        waits.await.unwrap();
        assert_eq!(now() - start, SEC);
    });
    let panic = catch_unwind(|| block_on(advance(SEC))).unwrap_err();
    assert!(panic.downcast_ref::<&str>().unwrap().contains("Builder::paused_clock(true)"));
}

#[test]
fn a_paused_clock_goes_on_after_a_job_that_nobody_waits_for() {
    must_end(|| {
        paused(async {
            for millis in [0, 1, 50] {
                let job = move || thread::sleep(Duration::from_millis(millis));
                drop(poll_once(pin!(spawn_blocking(job))));
                sleep(SEC).await;
            }
        });
    });
}
