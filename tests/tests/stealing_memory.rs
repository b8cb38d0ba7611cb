//! The memory of a work-stealing runtime is that of its limit, goes back after a burst, and nothing of it is left at the end but
//! what the next one uses again.
//!
//! These tests measure the whole process, so they run one at a time.
#![cfg(target_os = "linux")]
#![allow(
    clippy::async_yields_async,
    clippy::type_complexity,
    reason = "handles go from one block_on to another"
)]

use std::future::pending;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::thread;
use std::time::{Duration, Instant};

use anteroom::net::{TcpListener, TcpStream};
use anteroom::{
    Builder, JoinHandle, StealingRuntime, TaskGroup, metrics, spawn, spawn_blocking, time, try_spawn,
    yield_now,
};
use anteroom_tests::resident::{files_open, resident};
use anteroom_tests::{Counting, Drops, Gate, bytes_live, elsewhere, or_abort, poll_once};

#[global_allocator]
static COUNTING: Counting = Counting;

static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

const MIB: usize = 1 << 20;

fn runtime(tasks: usize, workers: usize) -> StealingRuntime {
    Builder::new().max_tasks(tasks).build_stealing(workers).unwrap()
}

/// Threads of all runtimes in this process.
fn threads() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let name = |task: std::io::Result<std::fs::DirEntry>| {
        std::fs::read_to_string(task.ok()?.path().join("comm")).ok()
    };
    tasks.filter_map(name).filter(|name| name.starts_with("anteroom")).count()
}

/// Until `is_so`, which it must be soon.
#[track_caller]
fn soon(is_so: impl Fn() -> Result<(), String>) {
    let start = Instant::now();
    while let Err(what) = is_so() {
        assert!(start.elapsed() < Duration::from_secs(30), "{what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// A burst of tasks that wait and are then let go, each of 300 bytes, on all workers.
fn burst(runtime: &StealingRuntime, tasks: usize) {
    let gate = Gate::new();
    runtime.block_on(async {
        let mut handles = Vec::new();
        for n in 0..tasks {
            let wait = gate.wait();
            let body = [n as u8; 256];
            let task = async move {
                wait.await;
                u64::from(body[n % 256])
            };
            handles.push(spawn(task).await.unwrap());
        }
        assert_eq!(metrics().tasks_live, tasks);
        gate.open();
        for (n, handle) in handles.into_iter().enumerate() {
            assert_eq!(handle.await.unwrap(), u64::from(n as u8));
        }
    });
}

#[test]
fn after_a_burst_of_a_hundred_thousand_tasks_memory_is_back() {
    // bugs.md 37
    if cfg!(anteroom_asan) {
        return; // It keeps what was freed.
    }
    let _alone = alone();
    or_abort(|| {
        for workers in 1..=4 {
            let runtime = runtime(100_000, workers);
            burst(&runtime, 1_000);
            let before = resident();
            burst(&runtime, 100_000);
            soon(|| {
                let more = resident().saturating_sub(before);
                let headers = runtime.metrics().headers_resident;
                if more < 4 * MIB && headers < 10_000 {
                    Ok(())
                } else {
                    Err(format!("{more} bytes, {headers} headers"))
                }
            });
            assert_eq!(runtime.metrics().headers, 0);
        }
    });
}

#[test]
fn memory_is_that_of_the_limit_however_many_tasks_there_are() {
    // bugs.md 37
    if cfg!(anteroom_asan) {
        return; // It keeps what was freed.
    }
    let _alone = alone();
    or_abort(|| {
        for workers in 1..=4 {
            let runtime = runtime(1_000, workers);
            let some = |count: usize| {
                runtime.block_on(async {
                    for n in 0..count {
                        let body = [n as u8; 256];
                        drop(spawn(async move { (yield_now().await, body).1.len() }).await.unwrap());
                    }
                });
            };
            some(20_000);
            let (before, headers_before) = (resident(), runtime.metrics().headers_resident);
            some(if cfg!(debug_assertions) { 200_000 } else { 1_000_000 });
            let more = resident().saturating_sub(before);
            assert!(more < 3 * MIB, "{more}");
            // The headers of the limit, and those that are on their way back; or what an earlier runtime has left, whose home this is.
            let headers_max = headers_before.max(3_000);
            assert!(runtime.metrics().headers_resident <= headers_max, "{:?}", runtime.metrics());
        }
    });
}

#[test]
fn only_handles_that_are_kept_add_to_it() {
    let _alone = alone();
    or_abort(|| {
        let runtime = runtime(100, 2);
        let kept: Vec<JoinHandle<usize>> = runtime.block_on(async {
            let mut kept = Vec::new();
            for n in 0..20_000 {
                kept.push(spawn(async move { n }).await.unwrap());
            }
            kept
        });
        runtime.handle().drain_wait(Duration::from_secs(30)).unwrap();
        assert_eq!(runtime.metrics().headers, 20_000);
        for (n, handle) in kept.into_iter().enumerate() {
            match n % 3 {
                0 => assert_eq!(runtime.block_on(handle).unwrap(), n),
                1 => drop(handle),
                _ => elsewhere(|| drop(handle)),
            }
        }
        // What other threads gave back is taken in before a long wait, or when it is needed.
        soon(|| {
            let headers = runtime.metrics().headers;
            if headers == 0 { Ok(()) } else { Err(format!("{headers} headers")) }
        });
    });
}

/// Runs `work` a few times, and then `rounds` times, over which neither memory nor files may grow. The harness prints and
/// starts threads meanwhile, so one clean measure of three is enough: what a round leaves is left in each.
fn leaves_nothing(rounds: usize, work: impl Fn(usize)) {
    let _alone = alone();
    (0..8).for_each(&work);
    let few = rounds.max(4_096) as isize;
    let mut found = Vec::new();
    for _ in 0..3 {
        let (bytes, files) = (bytes_live(), files_open() as isize);
        (0..rounds).for_each(&work);
        soon(|| if threads() == 0 { Ok(()) } else { Err(format!("{} threads", threads())) });
        let more = (bytes_live() - bytes, files_open() as isize - files);
        if more.0 < few && more.1 == 0 {
            return;
        }
        found.push(more);
    }
    panic!("bytes and files more after {rounds} rounds, in each of three measures: {found:?}");
}

#[test]
fn a_thousand_runtimes_leave_nothing() {
    // bugs.md 28
    or_abort(|| {
        leaves_nothing(1_000, |n| {
            let runtime = runtime(4, 1 + n % 3);
            let sum = runtime.block_on(async {
                let task = spawn(async move { (yield_now().await, n).1 });
                task.join().await.unwrap()
            });
            assert_eq!(sum, n);
            let there = thread::scope(|scope| {
                scope.spawn(|| runtime.block_on(spawn(async { vec![1; 1_000] }).join())).join().unwrap()
            });
            assert_eq!(there.unwrap().len(), 1_000);
        });
    });
}

#[test]
fn runtimes_that_end_in_the_midst_of_everything_leave_nothing() {
    // bugs.md 28: tasks that wait for one another, for timers, sockets, admission and jobs; handles on both sides.
    or_abort(|| {
        leaves_nothing(60, |n| {
            let builder = Builder::new().max_tasks(20).blocking_threads(1);
            let runtime = builder.build_stealing(1 + n % 3).unwrap();
            let gate = Gate::new();
            let mut frames: Vec<_> = (0..30).map(|n| Box::pin(spawn(async move { vec![n; 100] }))).collect();
            let mut sleep = Box::pin(time::sleep(Duration::from_secs(1_000)));
            let mut handles: Vec<JoinHandle<Vec<u8>>> = runtime.block_on(async {
                let waits = |n| {
                    let wait = gate.wait();
                    async move { (wait.await, vec![n; 1_000]).1 }
                };
                let mut handles: Vec<_> = (0..5).map(|n| try_spawn(waits(n)).unwrap()).collect();
                let joined = handles.pop().unwrap();
                handles.push(try_spawn(async move { joined.await.unwrap() }).unwrap());
                let sleeps = async { (time::sleep(Duration::from_secs(1_000)).await, Vec::new()).1 };
                handles.push(try_spawn(sleeps).unwrap());
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
                let reads = async move { (stream.read(&mut [0]).await.unwrap(), Vec::new()).1 };
                handles.push(try_spawn(reads).unwrap());
                let accepts = async move {
                    let _stream = listener.accept().await;
                    pending::<()>().await;
                };
                drop(try_spawn(accepts).unwrap());
                let group = TaskGroup::with_limit(1);
                let in_a_group = async move {
                    group.spawn(pending::<()>()).await.unwrap();
                    group.spawn(pending::<()>()).await.unwrap();
                };
                drop(try_spawn(in_a_group).unwrap());
                handles.push(try_spawn(async { vec![1; 1_000] }).unwrap());
                handles.push(try_spawn(async { std::panic::resume_unwind(Box::new("quiet")) }).unwrap());
                // Those that are ready leave, and so there is room for more, until all wait.
                for _ in 0..100 {
                    drop(try_spawn(pending::<()>()));
                    yield_now().await;
                }
                while metrics().tasks_live < 20 {
                    drop(try_spawn(pending::<()>()));
                }
                for frame in &mut frames {
                    let _ = poll_once(frame.as_mut());
                }
                assert!(poll_once(sleep.as_mut()).is_pending());
                assert_eq!(spawn_blocking(|| 5).await.unwrap(), 5);
                handles
            });
            elsewhere(|| handles.iter_mut().for_each(|handle| drop(poll_once(Pin::new(handle)))));
            drop(runtime);
            frames.truncate(15);
            elsewhere(|| drop((frames, sleep)));
            drop(handles);
            // The pool's thread ends by itself, soon.
            soon(|| if threads() == 0 { Ok(()) } else { Err(format!("{} threads", threads())) });
            drop(gate);
        });
    });
}

#[test]
fn circles_of_tasks_handles_and_wakers_leave_nothing() {
    // bugs.md 28
    or_abort(|| {
        leaves_nothing(100, |n| {
            let (runtime, drops) = (runtime(100, 1 + n % 3), Drops::new());
            let place: Arc<Mutex<Vec<JoinHandle<()>>>> = Arc::default();
            let wakers: Arc<Mutex<Vec<Waker>>> = Arc::default();
            runtime.block_on(async {
                for _ in 0..20 {
                    // Each holds what holds its own handle, and its own waker, and joins another.
                    let (inner, kept, tracked) = (place.clone(), wakers.clone(), drops.track());
                    let task = async move {
                        let _tracked = tracked;
                        let other = inner.lock().unwrap().pop();
                        std::future::poll_fn(|cx| {
                            kept.lock().unwrap().push(cx.waker().clone());
                            std::task::Poll::Ready(())
                        })
                        .await;
                        if let Some(other) = other {
                            let _ = other.await;
                        }
                        let _keeps = (inner, kept);
                        pending::<()>().await;
                    };
                    let handle = spawn(task).await.unwrap();
                    place.lock().unwrap().push(handle);
                    yield_now().await;
                }
            });
            drop(runtime);
            assert_eq!(drops.count(), 20);
            wakers.lock().unwrap().drain(..).for_each(Waker::wake);
        });
    });
}
