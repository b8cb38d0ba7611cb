//! Sockets and timers of one runtime, used by its workers, by threads in `block_on`, and by threads that are in no runtime, all
//! at once.
//!
//! [TEAM-1], [SEAT-1]: reactor and wheel are cells of whoever has the key, so what touches them without it breaks them.

#![allow(
    clippy::async_yields_async,
    clippy::type_complexity,
    reason = "handles go from one block_on to another"
)]

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Once, mpsc};
use std::task::{Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use anteroom::net::{TcpListener, TcpStream};
use anteroom::time::{Sleep, sleep, timeout};
use anteroom::{Builder, StealingRuntime, spawn, time, yield_now};
use anteroom_tests::{Hooks, or_abort, poll_once, poll_with};

fn runtime(workers: usize) -> StealingRuntime {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        // No task panics here, so a worker that does is broken; and it might not be missed.
        let tell = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            tell(info);
            if thread::current().name().is_some_and(|name| name.starts_with("anteroom")) {
                std::process::abort();
            }
        }));
    });
    Builder::new().max_tasks(1_000).build_stealing(workers).unwrap()
}

async fn pair(listener: &TcpListener) -> (TcpStream, TcpStream) {
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (client, listener.accept().await.unwrap().0)
}

/// Keeps all workers busy until the guard is dropped.
async fn busy(workers: usize) -> Busy {
    let busy = Busy { stop: Arc::default(), turns: Arc::default() };
    for _ in 0..2 * workers {
        let (stop, turns) = (busy.stop.clone(), busy.turns.clone());
        let task = async move {
            while !stop.load(Ordering::Relaxed) {
                turns.fetch_add(1, Ordering::Relaxed);
                yield_now().await;
            }
        };
        drop(spawn(task).await.unwrap());
    }
    busy
}

struct Busy {
    stop: Arc<AtomicBool>,
    turns: Arc<AtomicUsize>,
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

#[test]
fn threads_in_block_on_wait_for_sockets_and_timers_beside_busy_workers() {
    // [SEAT-1]: each of them has a waker that is not a task's, so each event is told without the key.
    or_abort(|| {
        for workers in 1..=4 {
            let runtime = runtime(workers);
            for is_busy in [true, false] {
                let guard = if is_busy { Some(runtime.block_on(busy(workers))) } else { None };
                thread::scope(|scope| {
                    for number in 0..3_u8 {
                        let runtime = &runtime;
                        scope.spawn(move || {
                            runtime.block_on(async {
                                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                                let (here, there) = pair(&listener).await;
                                let echo = async move {
                                    let mut buffer = [0; 1];
                                    while there.read(&mut buffer).await.unwrap() > 0 {
                                        there.write_all(&buffer).await.unwrap();
                                    }
                                };
                                let echo = spawn(echo).await.unwrap();
                                for n in 0..100 {
                                    here.write_all(&[n ^ number]).await.unwrap();
                                    let mut buffer = [0; 1];
                                    let read = timeout(Duration::from_secs(60), here.read(&mut buffer));
                                    assert_eq!(read.await.unwrap().unwrap(), 1);
                                    assert_eq!(buffer, [n ^ number]);
                                    sleep(Duration::from_micros(50)).await;
                                }
                                drop(here);
                                echo.await.unwrap();
                            });
                        });
                    }
                });
                drop(guard);
            }
            runtime.handle().drain_wait(Duration::from_secs(20)).unwrap();
            let metrics = runtime.metrics();
            assert_eq!((metrics.timers, metrics.io_sources), (0, 0));
        }
    });
}

#[test]
fn a_readers_waker_that_takes_long_keeps_no_other_worker_from_its_turns() {
    // [SEAT-1]
    or_abort(|| {
        for workers in 2..=4 {
            let runtime = runtime(workers);
            let guard = runtime.block_on(busy(workers));
            for _ in 0..5 {
                runtime.block_on(async {
                    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                    let (here, there) = pair(&listener).await;
                    let (waker, hooks) = Hooks::new();
                    let (turns, is_over) = (guard.turns.clone(), Arc::new(AtomicBool::new(false)));
                    let over = is_over.clone();
                    hooks.on_wake(move || {
                        // Longer than from one look at the system to the next, and than from one turn of a worker to the next.
                        let (before, start) = (turns.load(Ordering::SeqCst), Instant::now());
                        let is_long = || start.elapsed() > Duration::from_millis(3);
                        while !is_long() || turns.load(Ordering::SeqCst) < before + 2_000 {
                            thread::yield_now();
                        }
                        over.store(true, Ordering::SeqCst);
                    });
                    let mut buffer = [0; 1];
                    let mut reads = Box::pin(there.read(&mut buffer));
                    assert!(poll_with(reads.as_mut(), &waker).is_pending());
                    here.write_all(b"x").await.unwrap();
                    while !is_over.load(Ordering::SeqCst) {
                        yield_now().await;
                    }
                    assert_eq!(reads.await.unwrap(), 1);
                });
            }
            drop(guard);
            runtime.handle().drain_wait(Duration::from_secs(20)).unwrap();
        }
    });
}

#[test]
fn timers_that_other_threads_drop_are_taken_out_while_all_set_theirs() {
    // [TEAM-1]
    or_abort(|| {
        for workers in 2..=4 {
            let runtime = runtime(workers);
            let guard = runtime.block_on(busy(workers));
            let fired = AtomicUsize::new(0);
            thread::scope(|scope| {
                let (give, takes) = mpsc::sync_channel::<Vec<Pin<Box<Sleep>>>>(100);
                scope.spawn(move || takes.into_iter().for_each(drop));
                for number in 0..2_u64 {
                    let (runtime, fired, give) = (&runtime, &fired, give.clone());
                    scope.spawn(move || {
                        runtime.block_on(async {
                            for n in 0..3_000_u64 {
                                let (waker, _) = Hooks::new();
                                let wait = |at| {
                                    let mut waits = Box::pin(sleep(Duration::from_secs(1_000 + at)));
                                    let waker = if at % 2 == 0 { Waker::noop() } else { &waker };
                                    assert!(poll_with(waits.as_mut(), waker).is_pending());
                                    waits
                                };
                                let waits = (n..n + 10).map(wait).collect();
                                let task = async move {
                                    let mut near = Box::pin(sleep(Duration::from_micros(n % 300)));
                                    let mut far = Box::pin(sleep(Duration::from_secs(2_000)));
                                    let _either = poll_once(near.as_mut());
                                    assert!(poll_once(far.as_mut()).is_pending());
                                    near.await;
                                };
                                drop(spawn(task).await.unwrap());
                                give.send(waits).unwrap();
                                if n % 50 == number {
                                    sleep(Duration::from_micros(100)).await;
                                    fired.fetch_add(1, Ordering::SeqCst);
                                }
                            }
                        });
                    });
                }
                drop(give);
            });
            assert_eq!(fired.load(Ordering::SeqCst), 120);
            drop(guard);
            runtime.handle().drain_wait(Duration::from_secs(20)).unwrap();
            settled(&runtime);
        }
    });
}

/// The letters of other threads are read, and nothing is left.
fn settled(runtime: &StealingRuntime) {
    let start = Instant::now();
    loop {
        let metrics = runtime.metrics();
        if (metrics.timers, metrics.io_sources) == (0, 0) {
            return;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "{metrics:?}");
        thread::yield_now();
    }
}

#[test]
fn sockets_that_other_threads_use_and_drop_do_not_disturb_the_others() {
    // [TEAM-1]
    or_abort(|| {
        for workers in 2..=4 {
            let runtime = runtime(workers);
            let guard = runtime.block_on(busy(workers));
            thread::scope(|scope| {
                let (give, takes) = mpsc::sync_channel::<(TcpStream, TcpStream)>(10);
                scope.spawn(move || {
                    for (one, two) in takes {
                        // Polled here, its waker goes by letter, and the drop after it.
                        let mut buffer = [0; 1];
                        let (waker, _) = Hooks::new();
                        for waker in [Waker::noop(), &waker] {
                            let polled = poll_with(Box::pin(one.read(&mut buffer)).as_mut(), waker);
                            assert!(!matches!(polled, Poll::Ready(Err(_))));
                        }
                        drop(two);
                        drop(one);
                    }
                });
                for _ in 0..2 {
                    let (runtime, give) = (&runtime, give.clone());
                    scope.spawn(move || {
                        runtime.block_on(async {
                            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                            for n in 0..150_u8 {
                                let (one, two) = pair(&listener).await;
                                let mut buffer = [0; 1];
                                assert!(poll_once(Box::pin(one.read(&mut buffer)).as_mut()).is_pending());
                                let (here, there) = pair(&listener).await;
                                let reads = spawn(async move {
                                    let mut buffer = [0; 1];
                                    there.read(&mut buffer).await.unwrap();
                                    buffer[0]
                                })
                                .await
                                .unwrap();
                                give.send((one, two)).unwrap();
                                here.write_all(&[n]).await.unwrap();
                                assert_eq!(reads.await.unwrap(), n);
                            }
                        });
                    });
                }
                drop(give);
            });
            drop(guard);
            runtime.handle().drain_wait(Duration::from_secs(20)).unwrap();
            settled(&runtime);
        }
    });
}

#[test]
fn a_socket_and_a_timer_may_move_from_worker_to_worker_while_they_wait() {
    or_abort(|| {
        for workers in 2..=4 {
            let runtime = runtime(workers);
            runtime.block_on(async {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                let mut tasks = Vec::new();
                for _ in 0..10 {
                    let (one, two) = pair(&listener).await;
                    for (stream, first) in [(one, true), (two, false)] {
                        let task = async move {
                            let mut buffer = [0; 1];
                            for n in 0..100 {
                                if first {
                                    stream.write_all(&[n]).await.unwrap();
                                }
                                assert_eq!(stream.read(&mut buffer).await.unwrap(), 1);
                                assert_eq!(buffer, [n]);
                                if !first {
                                    stream.write_all(&[n]).await.unwrap();
                                }
                                if n % 10 == 0 {
                                    sleep(Duration::from_micros(200)).await;
                                }
                                yield_now().await;
                            }
                        };
                        tasks.push(spawn(task).await.unwrap());
                    }
                }
                for task in tasks {
                    task.await.unwrap();
                }
            });
            settled(&runtime);
        }
    });
}

#[test]
fn no_timer_is_early_and_none_is_lost_on_any_worker() {
    or_abort(|| {
        for workers in 1..=4 {
            let runtime = runtime(workers);
            thread::scope(|scope| {
                for number in 0..3_u64 {
                    let runtime = &runtime;
                    scope.spawn(move || {
                        runtime.block_on(async {
                            let mut tasks = Vec::new();
                            for n in 0..200_u64 {
                                let wait = Duration::from_micros((n * 37 + number * 11) % 5_000);
                                tasks.push(
                                    spawn(async move {
                                        let begin = time::now();
                                        sleep(wait).await;
                                        assert!(time::now() - begin >= wait);
                                    })
                                    .await
                                    .unwrap(),
                                );
                            }
                            for task in tasks {
                                task.await.unwrap();
                            }
                        });
                    });
                }
            });
            settled(&runtime);
        }
    });
}
