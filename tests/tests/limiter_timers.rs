//! What the limiter asks of a runtime's timer, under two runtimes: anteroom's own and tokio's.
//!
//! The same functions run under both, by the trait alone, on clocks that tests hold: they go on by themselves when nothing
//! else can happen.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anteroom_limiter::Timer;
use anteroom_tests::{Unordered, poll_once};

const SEC: Duration = Duration::from_secs(1);

/// How much later than asked for a sleep may end: tokio counts milliseconds.
const LATE_MAX: Duration = Duration::from_millis(2);

/// tokio's clock and sleep: what its users write.
#[derive(Clone, Copy)]
struct Tokio;

impl Timer for Tokio {
    type Sleep = tokio::time::Sleep;

    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }

    fn sleep_until(&self, at: Instant) -> Self::Sleep {
        tokio::time::sleep_until(at.into())
    }
}

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
