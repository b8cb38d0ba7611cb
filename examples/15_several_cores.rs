//! The same program on several cores: what changes, what stays, and what it is for.
//!
//! # Problem
//! Tasks that compute want more than one core. A runtime a thread gives them that, as long as the work can be split beforehand;
//! where one task in a hundred takes as long as all others, one thread is busy and the others wait.
//!
//! # Idea
//! `Builder::build_stealing(workers)` in place of `build()`, and all else stays as it was written: `spawn(job).await`, with the same
//! limit over all workers, exact at every moment, and the same line for those who wait. A worker that has nothing to do takes
//! half of what another has.
//!
//! | | `build()` | `build_stealing(n)` |
//! |---|---|---|
//! | tasks run on | the thread in `block_on` | n threads of the runtime's own |
//! | `block_on` | from its thread | from any, from several at once; its future is polled there |
//! | a task that blocks its thread | holds up all others | holds up itself, while other workers are free |
//! | futures that are not `Send` | `spawn_local` | in `block_on`, and not spawned |
//! | a paused clock | for tests | refused |
//! | a spawn, a wake, a poll, a join | no locked instruction | a few each, see `runtime/src/task/team.rs` |
//!
//! So it is not the better runtime of the two: jobs that do next to nothing cost more with it.
//!
//! # Read next
//! `runtime/src/task/team.rs`, what the workers share; `runtime/src/scheduler/stealing.rs`, their loop.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::{io, thread};

use anteroom::{Runtime, StealingRuntime, metrics, spawn, yield_now};

const WORKERS: usize = 2;
const LIMIT: usize = 10;
const JOBS: usize = 10_000;

/// The limit is of all workers together.
async fn many_jobs() {
    let live = Arc::new(AtomicUsize::new(0));
    let mut handles = Vec::new();
    for _ in 0..JOBS {
        let live = live.clone();
        let job = async move {
            assert!(live.fetch_add(1, Ordering::SeqCst) < LIMIT, "the limit holds, whichever worker runs it");
            yield_now().await; // from here on it may be another one
            live.fetch_sub(1, Ordering::SeqCst);
        };
        handles.push(spawn(job).await.expect("the runtime is not closed"));
    }
    for handle in handles {
        handle.await.expect("it does not panic");
    }
    assert!(metrics().tasks_live_peak <= LIMIT);
}

/// Two tasks that block until both are there, which they never are on one thread.
async fn two_at_the_same_time() {
    let barrier = Arc::new(Barrier::new(2));
    let mut meetings = Vec::new();
    for _ in 0..2 {
        let barrier = barrier.clone();
        meetings.push(spawn(async move { barrier.wait().is_leader() }).await.expect("there is room"));
    }
    let mut leaders = 0;
    for meeting in meetings {
        leaders += usize::from(meeting.await.expect("it does not panic"));
    }
    assert_eq!(leaders, 1, "each ran on a thread of its own");
}

/// A task that keeps its thread until the last of a hundred others, that were spawned on the same thread, has run.
async fn one_that_blocks() {
    let (last, all) = mpsc::channel();
    let patient = async move {
        for number in 0..100 {
            let last = last.clone();
            let other = async move { last.send(number).expect("somebody waits for it") };
            drop(spawn(other).await.expect("there is room, or will be"));
        }
        // Blocking a thread is what no task should do. But one that does strands nobody.
        all.iter().take(100).count()
    };
    assert_eq!(spawn(patient).join().await.expect("it does not panic"), 100);
}

/// Threads that have futures of their own, and share the tasks' runtime.
fn several_threads(runtime: &StealingRuntime) {
    thread::scope(|scope| {
        for number in 0..3_u64 {
            scope.spawn(move || {
                // Not `Send`, and borrowed: it never leaves this thread. What it spawns does.
                let name = std::rc::Rc::new(number);
                let square = runtime.block_on(async { spawn(async move { number * number }).join().await });
                assert_eq!(square.expect("it does not panic"), *name * *name);
            });
        }
    });
}

fn main() -> io::Result<()> {
    let runtime = Runtime::builder().max_tasks(LIMIT).build_stealing(WORKERS)?;
    runtime.block_on(many_jobs());
    println!("{JOBS} jobs on {WORKERS} workers: {} live at most", runtime.metrics().tasks_live_peak);
    runtime.block_on(two_at_the_same_time());
    println!("two tasks ran at the same time");
    runtime.block_on(one_that_blocks());
    println!("a task blocked its thread, and a hundred others went on");
    several_threads(&runtime);
    println!("three threads waited in one runtime");
    Ok(())
}

#[test]
fn what_it_prints_is_so() {
    main().unwrap();
}
