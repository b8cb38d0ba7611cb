//! What does an item cost when a million go through a limit inside one task, and each holds 256 bytes over one yield? And what
//! when each is a task, that is joined?
//!
//! Expected at a limit of 1,000: `gather` at most a third of futures-util's `buffered`, and less than anything else that polls
//! in place: it allocates nothing an item, and a wake is one locked instruction. And its memory does not depend on the number of
//! items, but for the results themselves.
//!
//! ```text
//! cargo bench -p benches --features peers --bench gather -- [--quick] [--rounds N] [--limit N] [--only ROW]
//! ```
//!
//! # Rules
//! Those of the crate's documentation. All rows poll the same job, under the same executor, in a task ([FAIR-1], [FAIR-3]), but
//! for those that name tokio: these show the same on neutral ground. A round runs every row once, and a figure is the median of
//! its rounds, in processor time of the one thread; beside it stands the least.
//!
//! `results` says that a row collects a number an item; the others collect units, so that what memory they take is theirs
//! alone. Memory is measured in a process of its own for each row: how far the peak of what is resident grows over the run,
//! with the system's allocator and nothing that counts in between.

use std::cell::Cell;
use std::env;
use std::hint::black_box;
use std::process::Command;

use anteroom::{Runtime, TaskGroup, as_completed, gather, spawn_local};
use benches::{JOB_BYTES, thread_cpu, turn};

const LIMITS: [usize; 3] = [1_000, 10, 1];

thread_local! {
    /// How many jobs were done in this run ([FAIR-6]).
    static DONE: Cell<u64> = const { Cell::new(0) };
}

/// Holds its page over one turn, and counts itself.
async fn job(number: u64) {
    let mut page = [number as u8; JOB_BYTES];
    black_box(&mut page);
    turn().await;
    black_box(&mut page);
    DONE.set(DONE.get() + 1);
}

async fn numbered(number: u64) -> u64 {
    job(number).await;
    number
}

/// One way to do it: so many items, so many at once.
struct Row {
    name: &'static str,
    run: fn(u64, usize),
}

/// Runs `work` in a task of a runtime that was built for it ([FAIR-4]: a run is a million operations).
fn anteroom<T: 'static>(tasks: usize, work: impl Future<Output = T> + 'static) -> T {
    let runtime = Runtime::builder().max_tasks(tasks + 1).build().unwrap();
    runtime.block_on(async { spawn_local(work).join().await.unwrap() })
}

fn rows() -> Vec<Row> {
    #[allow(unused_mut, reason = "without the peers there is nothing to add")]
    let mut rows = vec![
        Row { name: "gather", run: |items, limit| drop(anteroom(1, gather(0..items, job).limit(limit))) },
        Row {
            name: "gather, results",
            run: |items, limit| {
                let results = anteroom(1, gather(0..items, numbered).limit(limit));
                assert!(results.iter().copied().eq(0..items));
            },
        },
        Row {
            name: "as_completed",
            run: |items, limit| {
                anteroom(1, async move {
                    let mut results = as_completed(0..items, job).limit(limit);
                    while results.next().await.is_some() {}
                });
            },
        },
        Row {
            name: "TaskGroup, a task an item",
            run: |items, limit| {
                anteroom(limit, async move {
                    let group = TaskGroup::with_limit(limit);
                    for number in 0..items {
                        group.spawn(job(number)).await.unwrap();
                        while let Some(ended) = group.try_join_next() {
                            ended.unwrap();
                        }
                    }
                    drop(group.join_all().await.unwrap());
                });
            },
        },
        Row {
            name: "spawn, a task an item",
            run: |items, limit| {
                anteroom(limit, async move {
                    for number in 0..items {
                        drop(anteroom::spawn(job(number)).await.unwrap());
                    }
                    // As many places as the limit has: whoever has them all knows that all jobs are done.
                    let mut places = Vec::new();
                    for _ in 0..limit {
                        places.push(anteroom::reserve().await.unwrap());
                    }
                });
            },
        },
    ];
    #[cfg(feature = "peers")]
    rows.extend(peers::rows());
    rows
}

#[cfg(feature = "peers")]
mod peers {
    use std::pin::pin;

    use futures_buffered::BufferedStreamExt;
    use futures_util::stream::{self, FuturesUnordered, StreamExt};

    use super::{Row, anteroom, gather, job, numbered};

    /// Runs `work` in a task of tokio's.
    fn tokio<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { tokio::spawn(work).await.unwrap() })
    }

    /// As its documentation shows it: filled up to the limit, and again for each that ends.
    async fn by_hand(items: u64, limit: usize) {
        let mut items = 0..items;
        let mut live: FuturesUnordered<_> = items.by_ref().take(limit).map(job).collect();
        while live.next().await.is_some() {
            live.extend(items.next().map(job));
        }
    }

    pub(super) fn rows() -> Vec<Row> {
        vec![
            Row {
                name: "buffered",
                run: |items, limit| {
                    drop(anteroom(1, stream::iter(0..items).map(job).buffered(limit).collect::<Vec<()>>()));
                },
            },
            Row {
                name: "buffered, results",
                run: |items, limit| {
                    let work = stream::iter(0..items).map(numbered).buffered(limit).collect::<Vec<u64>>();
                    assert!(anteroom(1, work).iter().copied().eq(0..items));
                },
            },
            Row {
                name: "buffer_unordered",
                run: |items, limit| {
                    anteroom(1, async move {
                        let mut results = pin!(stream::iter(0..items).map(job).buffer_unordered(limit));
                        while results.next().await.is_some() {}
                    });
                },
            },
            Row {
                name: "for_each_concurrent",
                run: |items, limit| {
                    anteroom(1, StreamExt::for_each_concurrent(stream::iter(0..items), limit, job))
                },
            },
            Row { name: "FuturesUnordered", run: |items, limit| anteroom(1, by_hand(items, limit)) },
            Row {
                name: "futures-buffered, ordered",
                run: |items, limit| {
                    let work = stream::iter(0..items).map(job).buffered_ordered(limit).collect::<Vec<()>>();
                    drop(anteroom(1, work));
                },
            },
            Row {
                name: "futures-buffered, unordered",
                run: |items, limit| {
                    anteroom(1, async move {
                        let mut results = pin!(stream::iter(0..items).map(job).buffered_unordered(limit));
                        while results.next().await.is_some() {}
                    });
                },
            },
            Row {
                name: "tokio: JoinSet, capped",
                run: |items, limit| {
                    tokio(async move {
                        let mut set = tokio::task::JoinSet::new();
                        for number in 0..items {
                            if set.len() == limit {
                                set.join_next().await.unwrap().unwrap();
                            }
                            set.spawn(job(number));
                        }
                        while let Some(ended) = set.join_next().await {
                            ended.unwrap();
                        }
                    });
                },
            },
            Row {
                name: "tokio: gather",
                run: |items, limit| drop(tokio(gather(0..items, job).limit(limit))),
            },
            Row {
                name: "tokio: buffered",
                run: |items, limit| {
                    drop(tokio(stream::iter(0..items).map(job).buffered(limit).collect::<Vec<()>>()));
                },
            },
        ]
    }
}

impl Row {
    /// What an item took, in ns.
    fn measure(&self, items: u64, limit: usize) -> f64 {
        DONE.set(0);
        let start = thread_cpu();
        (self.run)(items, limit);
        let elapsed = thread_cpu() - start;
        assert_eq!(DONE.get(), items, "{}: items done, and asked for", self.name);
        elapsed.as_nanos() as f64 / items as f64
    }
}

/// The peak of what is resident, in KiB; `None` on a system without `/proc`.
fn peak_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches("kB").trim().parse().ok()
}

/// By how many MiB a row's run makes a new process grow, past what a hundredth of it does.
fn growth_mib(row: &Row, items: u64, limit: usize) -> Option<f64> {
    let myself = env::current_exe().ok()?;
    let args = ["--grow", row.name, &items.to_string(), &limit.to_string()];
    let output = Command::new(myself).args(args).output().ok()?;
    assert!(output.status.success(), "{}: {}", row.name, String::from_utf8_lossy(&output.stderr));
    let kib: f64 = String::from_utf8_lossy(&output.stdout).trim().parse().ok()?;
    Some(kib / 1024.0)
}

/// The same in Python's asyncio, each form in a process of its own: what `gather.py` beside this file prints.
#[cfg(feature = "peers")]
fn asyncio(items: u64, limit: usize) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/gather.py");
    for form in ["careless", "careful", "workers"] {
        let args = [script, form, &items.to_string(), &limit.to_string()];
        match Command::new("python3").args(args).output() {
            Ok(output) if output.status.success() => print!("{}", String::from_utf8_lossy(&output.stdout)),
            other => println!("asyncio, {form}: no python3 here, or {other:?}"),
        }
    }
}

/// What [`growth_mib`] starts.
fn grow(name: &str, items: u64, limit: usize) {
    let rows = rows();
    let row = rows.iter().find(|row| row.name == name).expect("a row of this name");
    // The code and the runtime are there before.
    row.measure(1, 1);
    let Some(before) = peak_kib() else { return };
    row.measure(items, limit);
    println!("{}", peak_kib().unwrap_or(before) - before);
}

fn main() {
    let args: Vec<String> = env::args().skip(1).collect();
    let number = |text: &String| text.parse::<u64>().expect("a number");
    if let [flag, name, items, limit] = &args[..] {
        if flag == "--grow" {
            return grow(name, number(items), number(limit) as usize);
        }
    }
    let value = |option: &str| {
        let at = args.iter().position(|arg| arg == option)?;
        Some(args.get(at + 1).unwrap_or_else(|| panic!("{option} wants a value")))
    };
    // `cargo test --benches`: does it work at all?
    let is_quick = cfg!(debug_assertions) || args.iter().any(|arg| arg == "--quick");
    let items: u64 = if cfg!(debug_assertions) { 2_000 } else { 1_000_000 };
    let rounds = value("--rounds").map_or(if is_quick { 3 } else { 11 }, number);
    let limits: Vec<usize> = value("--limit").map_or(LIMITS.to_vec(), |limit| vec![number(limit) as usize]);
    let mut rows = rows();
    if let Some(only) = value("--only") {
        rows.retain(|row| row.name == only);
    }

    println!("| {items} items, limit | row | ns an item | least | × gather | memory, MiB |");
    println!("|---|---|---|---|---|---|");
    for limit in limits {
        let mut times = vec![Vec::new(); rows.len()];
        // The first round warms up.
        for round in 0..=rounds {
            for (row, times) in rows.iter().zip(&mut times) {
                let ns = row.measure(items, limit);
                if round > 0 {
                    times.push(ns);
                }
            }
        }
        let sorted = times.into_iter().map(|mut times| {
            times.sort_by(f64::total_cmp);
            (times[times.len() / 2], times[0])
        });
        let mut first = None;
        for (row, (median, least)) in rows.iter().zip(sorted) {
            let gather = *first.get_or_insert(median);
            let memory = growth_mib(row, items, limit).map_or("?".into(), |mib| format!("{mib:.1}"));
            let ratio = median / gather;
            println!("| {limit} | {} | {median:.1} | {least:.1} | {ratio:.2} | {memory} |", row.name);
        }
        #[cfg(feature = "peers")]
        if value("--only").is_none() && !cfg!(debug_assertions) {
            asyncio(items, limit);
        }
    }
}
