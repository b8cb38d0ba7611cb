//! What does it cost to ask a rate, when there is room, when there is none, and when each key has its own?
//!
//! Expected: at most what governor takes with the same clock. Both move one word by a compare-and-swap; ours multiplies once
//! more, to be exact for rates that do not divide a second.
//!
//! ```text
//! cargo bench -p benches --features peers --bench rate -- [--quick] [--rounds N] [--only GROUP]
//! ```
//!
//! # Rules
//! Those of the crate's documentation. Every row counts what was admitted ([FAIR-6]). A round runs every row once, on one thread, a
//! million operations each, and a figure is the median of its rounds, in processor time; beside it stands the least.
//!
//! The clock is most of it, so it is named in each row. Ours takes the time from its caller: `Instant::now()` in the loop, or
//! one that was read before. governor has a clock in it: quanta's, which reads the processor's counter, by default;
//! `MonotonicClock`, which is `Instant::now()`; and `FakeRelativeClock`, the next thing to a time that is given. Rows with
//! the same clock stand side by side, and the ratio is to ours with that clock.
//!
//! leaky-bucket has a lock, and reads tokio's clock, which is `Instant::now()`.

use std::env;
use std::hint::black_box;
use std::time::{Duration, Instant};

use anteroom_limiter::{KeyedRate, Rate, RateLimit, SlidingWindow};
use benches::thread_cpu;

const KEYS: u64 = if cfg!(debug_assertions) { 1_000 } else { 1_000_000 };
const OPERATIONS: u64 = if cfg!(debug_assertions) { 2_000 } else { 1_000_000 };

/// What is asked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Group {
    /// Alone, and there is room.
    Admitted,
    /// Alone, and there is none.
    Refused,
    /// One of a million keys, each as likely as any other, and there is room.
    Keyed,
    /// A key that is new, up to a million.
    NewKeys,
}

impl Group {
    const ALL: [Group; 4] = [Group::Admitted, Group::Refused, Group::Keyed, Group::NewKeys];

    fn name(self) -> &'static str {
        match self {
            Group::Admitted => "admitted",
            Group::Refused => "refused",
            Group::Keyed => "keyed",
            Group::NewKeys => "new keys",
        }
    }

    /// How many of a run's operations are admitted.
    fn admits(self) -> u64 {
        match self {
            Group::Admitted | Group::Keyed => OPERATIONS,
            Group::NewKeys => KEYS,
            Group::Refused => 0,
        }
    }

    fn operations(self) -> u64 {
        if self == Group::NewKeys { KEYS } else { OPERATIONS }
    }
}

/// What tells the time.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Clock {
    Given,
    Std,
    #[cfg_attr(not(feature = "peers"), allow(dead_code, reason = "governor's"))]
    Quanta,
}

impl Clock {
    fn name(self) -> &'static str {
        match self {
            Clock::Given => "given",
            Clock::Std => "std",
            Clock::Quanta => "quanta",
        }
    }
}

/// One way to do it. A run gives how many were admitted.
struct Row {
    group: Group,
    clock: Clock,
    name: &'static str,
    run: Box<dyn FnMut() -> u64>,
}

fn row(group: Group, clock: Clock, name: &'static str, run: impl FnMut() -> u64 + 'static) -> Row {
    Row { group, clock, name, run: Box::new(run) }
}

/// How many of the operations are admitted, for what says so of one.
#[inline]
fn count(mut one: impl FnMut() -> bool) -> u64 {
    (0..OPERATIONS).map(|_| u64::from(black_box(one()))).sum()
}

/// Keys without an order that a cache could foresee.
fn scattered(at: u64) -> u64 {
    at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20
}

/// The keys of a run, each as likely as any other: xorshift.
struct Keys(u64);

impl Keys {
    #[inline]
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        scattered(self.0 % KEYS)
    }
}

/// Of which there are always some.
fn plenty() -> Rate {
    Rate::per_second(1_000_000_000).burst(u64::from(u32::MAX))
}

/// Of which a key is never idle, and never empty.
fn of_a_key() -> Rate {
    Rate::per_second(1).burst(1_000)
}

/// The rows of a group, made for it: a million keys of another one would lie in the caches.
fn ours(group: Group) -> Vec<Row> {
    let start = Instant::now();
    let of_clock = |clock| {
        let is_given = clock == Clock::Given;
        match group {
            Group::Admitted | Group::Refused => {
                let rate = if group == Group::Admitted { plenty() } else { Rate::per_hour(1) };
                let limit = RateLimit::new(rate, start);
                limit.check(start).unwrap();
                row(group, clock, "RateLimit::check", move || match is_given {
                    true => count(|| limit.check(black_box(start)).is_ok()),
                    false => count(|| limit.check(Instant::now()).is_ok()),
                })
            }
            Group::Keyed => {
                let limit = KeyedRate::new(of_a_key(), KEYS as usize, start);
                (0..KEYS).for_each(|at| limit.check_key(&scattered(at), Instant::now()).unwrap());
                let mut keys = Keys(1);
                row(group, clock, "KeyedRate::check_key", move || match is_given {
                    true => count(|| limit.check_key(&keys.next(), black_box(start)).is_ok()),
                    false => count(|| limit.check_key(&keys.next(), Instant::now()).is_ok()),
                })
            }
            Group::NewKeys => row(group, clock, "KeyedRate::check_key", move || {
                let limit = KeyedRate::new(of_a_key(), KEYS as usize, start);
                let now = || if is_given { black_box(start) } else { Instant::now() };
                (0..KEYS).map(|at| u64::from(limit.check_key(&scattered(at), now()).is_ok())).sum()
            }),
        }
    };
    let mut rows: Vec<_> = [Clock::Given, Clock::Std].map(of_clock).into();
    if group == Group::Admitted {
        let mut window = SlidingWindow::new(u64::MAX, Duration::from_secs(1), start);
        rows.push(row(group, Clock::Given, "SlidingWindow::check", move || {
            count(|| window.check(black_box(start)).is_ok())
        }));
    }
    rows
}

#[cfg(feature = "peers")]
mod peers {
    use std::num::NonZeroU32;
    use std::time::Duration;

    use governor::clock::{Clock as Time, FakeRelativeClock, MonotonicClock, QuantaClock};
    use governor::{Quota, RateLimiter};

    use super::{Clock, Group, KEYS, Keys, OPERATIONS, Row, count, row, scattered};

    fn number(number: u32) -> NonZeroU32 {
        NonZeroU32::new(number).unwrap()
    }

    fn plenty() -> Quota {
        Quota::per_second(number(1_000_000_000)).allow_burst(number(u32::MAX))
    }

    fn of_a_key() -> Quota {
        Quota::per_second(number(1)).allow_burst(number(1_000))
    }

    fn governor<T: Time + Clone + 'static>(group: Group, clock: Clock, time: T) -> Row {
        match group {
            Group::Admitted | Group::Refused => {
                let quota = if group == Group::Admitted { plenty() } else { Quota::per_hour(number(1)) };
                let limit = RateLimiter::direct_with_clock(quota, time);
                limit.check().unwrap();
                row(group, clock, "governor", move || count(|| limit.check().is_ok()))
            }
            Group::Keyed => {
                let limit = RateLimiter::dashmap_with_clock(of_a_key(), time);
                (0..KEYS).for_each(|at| limit.check_key(&scattered(at)).unwrap());
                let mut keys = Keys(1);
                row(group, clock, "governor", move || count(|| limit.check_key(&keys.next()).is_ok()))
            }
            Group::NewKeys => row(group, clock, "governor", move || {
                let limit = RateLimiter::dashmap_with_clock(of_a_key(), time.clone());
                (0..KEYS).map(|at| u64::from(limit.check_key(&scattered(at)).is_ok())).sum()
            }),
        }
    }

    fn leaky_bucket(initial: usize) -> leaky_bucket::RateLimiter {
        // One more an hour: what it does is to take, and not to fill up.
        let interval = Duration::from_secs(3_600);
        leaky_bucket::RateLimiter::builder().max(initial.max(1)).initial(initial).interval(interval).build()
    }

    pub(super) fn rows(group: Group) -> Vec<Row> {
        let mut rows = vec![
            governor(group, Clock::Given, FakeRelativeClock::default()),
            governor(group, Clock::Std, MonotonicClock),
            governor(group, Clock::Quanta, QuantaClock::default()),
        ];
        if group == Group::Admitted || group == Group::Refused {
            let bucket = leaky_bucket(if group == Group::Admitted { usize::MAX / 4 } else { 0 });
            rows.push(row(group, Clock::Std, "leaky-bucket, try_acquire", move || {
                count(|| bucket.try_acquire(1))
            }));
        }
        if group == Group::Admitted {
            let bucket = leaky_bucket(usize::MAX / 4);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            rows.push(row(group, Clock::Std, "leaky-bucket, acquire_one", move || {
                runtime.block_on(async {
                    for _ in 0..OPERATIONS {
                        bucket.acquire_one().await;
                    }
                    OPERATIONS
                })
            }));
        }
        rows
    }
}

impl Row {
    /// What an operation took, in ns.
    fn measure(&mut self) -> f64 {
        let start = thread_cpu();
        let admitted = (self.run)();
        let elapsed = thread_cpu() - start;
        assert_eq!(admitted, self.group.admits(), "{}, {}: admitted", self.name, self.clock.name());
        elapsed.as_nanos() as f64 / self.group.operations() as f64
    }
}

fn main() {
    let args: Vec<String> = env::args().skip(1).collect();
    let value = |option: &str| {
        let at = args.iter().position(|arg| arg == option)?;
        Some(args.get(at + 1).unwrap_or_else(|| panic!("{option} wants a value")))
    };
    // `cargo test --benches`: does it work at all?
    let is_quick = cfg!(debug_assertions) || args.iter().any(|arg| arg == "--quick");
    let rounds: usize =
        value("--rounds").map_or(if is_quick { 3 } else { 11 }, |text| text.parse().expect("a number"));

    println!("| question | clock | row | ns | least | × ours |");
    println!("|---|---|---|---|---|---|");
    for group in Group::ALL {
        if value("--only").is_some_and(|only| only != group.name()) {
            continue;
        }
        #[allow(unused_mut, reason = "without the peers there is nothing to add")]
        let mut rows = ours(group);
        #[cfg(feature = "peers")]
        rows.extend(peers::rows(group));
        let mut times = vec![Vec::new(); rows.len()];
        // The first round warms up.
        for round in 0..=rounds {
            for (row, times) in rows.iter_mut().zip(&mut times) {
                let ns = row.measure();
                if round > 0 {
                    times.push(ns);
                }
            }
        }
        let medians: Vec<_> = times
            .into_iter()
            .map(|mut times| {
                times.sort_by(f64::total_cmp);
                (times[times.len() / 2], times[0])
            })
            .collect();
        for clock in [Clock::Given, Clock::Std, Clock::Quanta] {
            let of_clock = || rows.iter().zip(&medians).filter(move |(row, _)| row.clock == clock);
            // The first is ours. We have none with quanta's clock; there it is ours with std's.
            let ours =
                of_clock().next().filter(|(row, _)| row.name.contains("Rate") && clock != Clock::Quanta);
            let std = || rows.iter().zip(&medians).find(|(row, _)| row.clock == Clock::Std);
            let ours = ours.or_else(std).map(|(_, (median, _))| *median);
            for (row, (median, least)) in of_clock() {
                let ratio = ours.map_or("–".into(), |ours| format!("{:.2}", median / ours));
                println!(
                    "| {} | {} | {} | {median:.1} | {least:.1} | {ratio} |",
                    group.name(),
                    clock.name(),
                    row.name
                );
            }
        }
    }
}
