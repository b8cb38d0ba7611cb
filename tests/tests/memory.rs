//! What the system sees of a million tasks: memory for as many as may live, and for the handles that are kept.
//!
//! Alone in its process, since it is the process that is measured.

use std::time::{Duration, Instant};

use anteroom::{Runtime, metrics, spawn, yield_now};

const MIB: usize = 1024 * 1024;

/// Memory of this process that is in use now.
fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = pages.split_whitespace().nth(1).unwrap().parse().unwrap();
    // SAFETY: a system call that takes no memory.
    pages * unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize
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
    while metrics().tasks_live > 0 {
        yield_now().await;
    }
    done
}

#[test]
fn memory_is_that_of_the_limit_and_only_kept_handles_add_to_it() {
    // bugs.md 37
    if cfg!(anteroom_asan) {
        return; // It keeps what was freed.
    }
    Runtime::builder().max_tasks(100).build().unwrap().block_on(async {
        work(20_000).await;
        let warm = resident();
        let jobs = work(1_000_000).await;
        let grown = resident().saturating_sub(warm);
        println!("{} KiB more after {jobs} tasks of 1 KiB, at most 100 at once", grown / 1024);
        assert!(grown < MIB, "{grown} bytes more after {jobs} tasks");

        // A kept handle costs its output and a header, and nothing of its future.
        const KEPT: usize = 50_000;
        let mut handles = Vec::with_capacity(KEPT);
        for n in 0..KEPT {
            let bytes = [n as u8; 1_024];
            handles.push(spawn(async move { (n, bytes).0 }).await.unwrap());
        }
        let kept = resident().saturating_sub(warm);
        let expected = KEPT * (64 + size_of_val(&handles[0]));
        println!("{} KiB for {KEPT} kept handles", kept / 1024);
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
        let grown = resident().saturating_sub(before);
        assert!(grown < MIB, "{grown} bytes more for as many handles as before");
    });
}
