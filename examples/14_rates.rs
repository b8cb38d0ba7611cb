//! Five ways to say "a hundred a second", and what each lets through in the fullest second that anybody could see.
//!
//! # Idea
//! Requests come in storms: a thousand in a tenth of a second, around the end of each second. That is where a counter that is
//! reset every second shows what it is: a hundred pass at the end of one second and a hundred at the beginning of the next, so
//! the one who is protected sees two hundred in a tenth of a second. A bucket does the same by contract: its burst, and what
//! it is refilled with meanwhile. Without a burst a rate lets one through every ten milliseconds, and of a storm ten or
//! eleven. A window that slides is the exact form of "in any second".
//!
//! Then ten callers *wait* for their turn, by a clock that is paused: they are served in the order in which they came, and
//! the last when the rate allows it.
//!
//! Nothing here depends on a clock: the limiter takes the time from its caller, so all figures are exact.
//!
//! # Read next
//! `limiter/docs/which-limit.md`, which limit for what; `limiter/src/rate.rs`, the arithmetic.

use std::io;
use std::time::{Duration, Instant};

use anteroom::time::{Timer, now};
use anteroom::{Runtime, gather};
use anteroom_limiter::{Rate, RateLimit, SlidingWindow};

const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);
const A_SECOND: u64 = 100;

/// When somebody asks: in ten storms of a thousand, ten each millisecond, the middle of each at the end of a second.
fn storms(start: Instant) -> impl Iterator<Item = Instant> {
    (1..=10_u32).flat_map(move |second| {
        (0..1_000_u32).map(move |n| start + second * SECOND - 50 * MILLISECOND + (n / 10) * MILLISECOND)
    })
}

/// The counter that everybody writes first.
struct ResetEachSecond {
    start: Instant,
    second: u64,
    count: u64,
}

impl ResetEachSecond {
    fn check(&mut self, now: Instant) -> bool {
        let second = (now - self.start).as_secs();
        if second != self.second {
            (self.second, self.count) = (second, 0);
        }
        self.count += 1;
        self.count <= A_SECOND
    }
}

/// The times at which somebody was let through.
fn passed(start: Instant, mut check: impl FnMut(Instant) -> bool) -> Vec<Instant> {
    storms(start).filter(|&at| check(at)).collect()
}

/// The most that lie in any window of this length, its end not among them.
fn fullest(times: &[Instant], window: Duration) -> usize {
    let ends = times.iter().map(|&first| times.partition_point(|&time| time < first + window));
    ends.enumerate().map(|(first, end)| end - first).max().unwrap_or(0)
}

fn print(name: &str, times: &[Instant]) -> usize {
    let (second, tenth) = (fullest(times, SECOND), fullest(times, 100 * MILLISECOND));
    println!("{name:<34} {:>6} {second:>15} {tenth:>15}", times.len());
    second
}

fn main() -> io::Result<()> {
    let start = Instant::now();
    println!("a hundred a second, asked 10,000 times in ten storms");
    println!("{:<34} {:>6} {:>15} {:>15}", "", "passed", "fullest second", "fullest 100 ms");

    let mut counter = ResetEachSecond { start, second: 0, count: 0 };
    let second = print("a counter, reset each second", &passed(start, |at| counter.check(at)));
    assert_eq!(second, 200);

    for (name, burst) in
        [("a rate with a burst of 100", A_SECOND), ("a rate with a burst of 10", 10), ("a rate", 1)]
    {
        let rate = Rate::per_second(A_SECOND).burst(burst);
        let limit = RateLimit::new(rate, start);
        let second = print(name, &passed(start, |at| limit.check(at).is_ok())) as u64;
        // It says so beforehand.
        assert!(second <= rate.at_most_in(SECOND));
    }

    let mut window = SlidingWindow::new(A_SECOND, SECOND, start);
    let second = print("a window that slides", &passed(start, |at| window.check(at).is_ok()));
    assert_eq!(second as u64, A_SECOND);

    // Who waits sleeps until the slot that is his, and knows it from the start.
    let runtime = Runtime::builder().paused_clock(true).build()?;
    runtime.block_on(async {
        let (limit, start) = (RateLimit::new(Rate::per_second(A_SECOND), now()), now());
        let served = gather(0..10, async |caller| {
            limit.wait(&Timer).await.expect("nobody waits longer than a day");
            (caller, (now() - start).as_millis())
        });
        let served = served.limit(10).await;
        println!("\nten callers that wait for a rate of a hundred a second");
        for (caller, ms) in &served {
            print!("{caller} at {ms} ms{}", if *caller == 9 { "\n" } else { ", " });
        }
        assert!(served.iter().all(|&(caller, ms)| ms == 10 * caller));
    });
    Ok(())
}

#[test]
fn what_it_prints_is_so() {
    main().unwrap();
}
