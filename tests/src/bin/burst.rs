//! Bursts of tasks, and what memory is left in use after them, as the system sees it: `tests/memory.rs` runs each in a
//! process of its own.

#[cfg(target_os = "linux")]
fn main() {
    bursts::main();
}

#[cfg(not(target_os = "linux"))]
fn main() {}

#[cfg(target_os = "linux")]
mod bursts {
    use std::time::{Duration, Instant};

    use anteroom::{JoinHandle, Runtime, metrics, spawn, spawn_with, time, yield_now};
    use anteroom_tests::Gate;
    use anteroom_tests::resident::{files_open, resident};

    const KIB: usize = 1024;
    const MIB: usize = 1024 * KIB;
    /// As the README says.
    const CACHE_BYTES_MAX: usize = MIB;
    const CACHE_BYTES_IDLE: usize = 32 * KIB;

    pub(crate) fn main() {
        match std::env::args().nth(1).as_deref() {
            Some("limit") => memory_is_that_of_the_limit(),
            Some("handles") => a_million_handles(),
            Some("classes") => each_size_in_turn(),
            Some("burst") => a_burst(None),
            Some("survivors") => a_burst(Some(1_000)),
            Some("bursts") => bursts(),
            Some("runtimes") => runtimes(),
            other => panic!("{other:?}: limit, handles, classes, burst, survivors, bursts or runtimes"),
        }
    }

    fn grown(since: usize) -> usize {
        resident().saturating_sub(since)
    }

    /// Lets all that is live run to its end.
    async fn settle() {
        while metrics().tasks_live > 0 {
            yield_now().await;
        }
    }

    /// Spawns `jobs` tasks of 1 KiB that live for a turn, or as many as a busy machine does in five seconds; how many.
    async fn work(jobs: usize) -> usize {
        let start = Instant::now();
        let mut done = 0;
        while done < jobs && (done % 1_000 != 0 || start.elapsed() < Duration::from_secs(5)) {
            let bytes = [done as u8; 1_024];
            drop(spawn(async move { (yield_now().await, bytes).1[7] }).await.unwrap());
            done += 1;
        }
        settle().await;
        done
    }

    fn memory_is_that_of_the_limit() {
        Runtime::builder().max_tasks(100).build().unwrap().block_on(async {
            work(20_000).await;
            let warm = resident();
            let jobs = work(1_000_000).await;
            let more = grown(warm);
            println!("{} KiB more after {jobs} tasks of 1 KiB, at most 100 at once", more / KIB);
            assert!(more < MIB, "{more} bytes more after {jobs} tasks");

            // A kept handle costs its output and a header, and nothing of its future.
            const KEPT: usize = 50_000;
            let mut handles = Vec::with_capacity(KEPT);
            for n in 0..KEPT {
                let bytes = [n as u8; 1_024];
                handles.push(spawn(async move { (n, bytes).0 }).await.unwrap());
            }
            let kept = grown(warm);
            let expected = KEPT * (64 + size_of_val(&handles[0]));
            println!("{} KiB for {KEPT} kept handles", kept / KIB);
            assert!(kept < expected + expected / 4 + 2 * MIB, "{kept} bytes, {expected} expected");
            assert_eq!(metrics().headers, KEPT + 1);
            for (n, handle) in handles.drain(..).enumerate() {
                assert_eq!(handle.await.unwrap(), n);
            }
            assert_eq!(metrics().headers, 1);

            // Their headers are used again: as many again take no more.
            let before = resident();
            for n in 0..KEPT {
                handles.push(spawn(async move { n }).await.unwrap());
            }
            let more = grown(before);
            assert!(more < MIB, "{more} bytes more for as many handles as before");
        });
    }

    fn a_million_handles() {
        const KEPT: u64 = 1_000_000;
        const MOST: usize = 80 * MIB;
        let before = resident();
        Runtime::new().unwrap().block_on(async {
            let mut handles = Vec::with_capacity(KEPT as usize);
            for n in 0..KEPT {
                let bytes = [n as u8; 512 - size_of::<u64>()];
                handles.push(spawn(async move { n + u64::from(bytes[500]) - n % 256 }).await.unwrap());
            }
            settle().await;
            let more = grown(before);
            println!("{} KiB for {KEPT} kept handles of u64, from futures of 512 bytes", more / KIB);
            assert!(more <= MOST, "{more} bytes");
            for (n, handle) in (0..KEPT).zip(handles) {
                assert_eq!(handle.await.unwrap(), n);
            }
        });
    }

    /// A thousand tasks of exactly `BYTES` that are live at once, and then are not.
    async fn thousand<const BYTES: usize>() {
        const TASKS: usize = 1_000;
        let gate = Gate::new();
        let handles: Vec<JoinHandle<u8>> = {
            let mut handles = Vec::with_capacity(TASKS);
            for _ in 0..TASKS {
                handles.push(spawn(Waits::<BYTES> { gate: gate.clone(), fill: Fill::new() }).await.unwrap());
            }
            handles
        };
        assert_eq!(metrics().task_bytes, TASKS * size_of::<Waits<BYTES>>());
        yield_now().await;
        gate.open();
        for handle in handles {
            assert_eq!(handle.await.unwrap(), 7);
        }
    }

    /// So many bytes.
    struct Fill<const BYTES: usize>([u8; BYTES]);

    impl<const BYTES: usize> Fill<BYTES> {
        fn new() -> Self {
            Self([7; BYTES])
        }
    }

    struct Waits<const BYTES: usize> {
        gate: Gate,
        fill: Fill<BYTES>,
    }

    impl<const BYTES: usize> Future for Waits<BYTES> {
        type Output = u8;

        fn poll(self: std::pin::Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> std::task::Poll<u8> {
            let opened = std::pin::pin!(self.gate.wait()).poll(cx);
            opened.map(|()| self.fill.0.last().copied().unwrap_or(7))
        }
    }

    /// The gate is a word; the rest of a task's bytes.
    const fn beside(bytes: usize) -> usize {
        bytes - size_of::<Gate>()
    }

    fn each_size_in_turn() {
        let mut most_kept = 0;
        let runtime = Runtime::builder().max_tasks(1_000).build().unwrap();
        runtime.block_on(async {
            // The gate and the list of handles take what they take.
            thousand::<{ beside(32) }>().await;
            let before = resident();
            macro_rules! turn {
                ($($bytes:literal)+) => {$(
                    let headers = metrics().headers_resident;
                    thousand::<{ beside($bytes) }>().await;
                    let (more, kept) = (grown(before), metrics().cache_bytes);
                    println!("after a thousand of {:>4} bytes: {:>5} KiB more, {:>5} KiB kept", $bytes, more / KIB, kept / KIB);
                    assert!(kept <= CACHE_BYTES_MAX, "{kept} bytes kept");
                    assert_eq!(metrics().headers_resident, headers);
                    most_kept = kept.max(most_kept);
                )+};
            }
            turn!(32 48 64 96 128 192 256 384 512 768 1024 1536 2048 3072 4096 8192);
            assert!(most_kept > CACHE_BYTES_MAX / 2, "{most_kept}: was anything kept?");
            // Idle for more than the 100 ms after which it trims; the second wait is after the first's trim.
            time::sleep(Duration::from_millis(600)).await;
            time::sleep(Duration::from_millis(600)).await;
            let (more, kept) = (grown(before), metrics().cache_bytes);
            println!("idle: {} KiB more, {} KiB kept", more / KIB, kept / KIB);
            assert!(kept <= CACHE_BYTES_IDLE, "{kept} bytes kept while idle");
            assert!(more <= CACHE_BYTES_MAX + MIB, "{more} bytes more while idle");
        });
    }

    /// A hundred thousand tasks of 4 KiB; every `keep`th stays.
    fn a_burst(keep: Option<usize>) {
        const TASKS: usize = 100_000;
        const BYTES: usize = 4 * KIB;
        const SLACK: usize = 4 * MIB;
        let runtime = Runtime::builder().max_tasks(TASKS).build().unwrap();
        runtime.block_on(async {
            spawn(async {}).join().await.unwrap();
            let (gate, never) = (Gate::new(), Gate::new());
            let before = resident();
            for n in 0..TASKS {
                let gate = if keep.is_some_and(|keep| n % keep == 0) { never.clone() } else { gate.clone() };
                let make = move || Waits::<{ beside(BYTES) }> { gate, fill: Fill::new() };
                drop(spawn_with(make).await.unwrap());
            }
            while metrics().tasks_live < TASKS {
                yield_now().await;
            }
            for _ in 0..TASKS.div_ceil(64) {
                yield_now().await;
            }
            let peak = grown(before);
            assert!(peak > TASKS * BYTES, "{peak} bytes at the peak: were they all live?");
            gate.open();
            let stay = keep.map_or(0, |keep| TASKS.div_ceil(keep));
            while metrics().tasks_live > stay {
                yield_now().await;
            }
            drop(gate);
            let after = grown(before);
            time::sleep(Duration::from_secs(1)).await;
            let idle = grown(before);
            println!(
                "{TASKS} tasks of 4 KiB: {} MiB at the peak, {} MiB at the end, {} KiB after a second; {stay} stay, headers {}",
                peak / MIB,
                after / MIB,
                idle / KIB,
                metrics().headers_resident,
            );
            assert_eq!(metrics().tasks_live, stay);
            // With those that stay, each of which holds the two pages that its block lies on and the four of its header.
            assert!(idle <= SLACK, "{idle} bytes more than before the burst");
            assert!(metrics().cache_bytes <= CACHE_BYTES_IDLE);
            never.open();
            settle().await;
        });
    }

    /// A million tasks, ten thousand at a time.
    fn bursts() {
        const BURST: usize = 10_000;
        let runtime = Runtime::builder().max_tasks(BURST).build().unwrap();
        runtime.block_on(async {
            let burst = async || {
                let gate = Gate::new();
                for _ in 0..BURST {
                    let waits = Waits::<{ beside(512) }> { gate: gate.clone(), fill: Fill::new() };
                    drop(spawn(waits).await.unwrap());
                }
                yield_now().await;
                gate.open();
                settle().await;
            };
            for _ in 0..10 {
                burst().await;
            }
            let warm = resident();
            for _ in 0..100 {
                burst().await;
            }
            let more = grown(warm);
            println!("{} KiB more after a million tasks in bursts of {BURST}", more / KIB);
            assert!(more < MIB, "{more} bytes more");
            assert_eq!(metrics().headers, 1);
        });
    }

    /// Ten thousand runtimes, one after the other.
    fn runtimes() {
        let make = |n: usize| {
            let runtime = Runtime::builder().max_tasks(4).build().unwrap();
            let total = runtime.block_on(async {
                let sleep = time::timeout(Duration::from_nanos(1), std::future::pending::<()>());
                let task = spawn(async move { (sleep.await, n).1 });
                task.join().await.unwrap()
            });
            assert_eq!(total, n);
        };
        (0..200).for_each(make);
        let (warm, files) = (resident(), files_open());
        (0..10_000).for_each(make);
        let more = grown(warm);
        println!("{} KiB more after ten thousand runtimes", more / KIB);
        assert!(more < MIB / 2, "{more} bytes more");
        assert_eq!(files_open(), files);
    }
}
