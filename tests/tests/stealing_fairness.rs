//! Whoever is ready has its turn on some worker, whatever the others do.

#![allow(
    clippy::async_yields_async,
    clippy::type_complexity,
    reason = "handles go from one block_on to another"
)]

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use anteroom::net::{TcpListener, TcpStream};
use anteroom::{Builder, JoinHandle, StealingRuntime, spawn, spawn_blocking, time, yield_now};
use anteroom_tests::or_abort;

/// What tells a starved one from a machine that does other things, too.
const LONG: Duration = Duration::from_secs(20);

fn runtime(workers: usize) -> StealingRuntime {
    Builder::new().max_tasks(1_000).build_stealing(workers).unwrap()
}

/// Fills all workers with tasks that yield until they are told to stop.
async fn yielders(tasks: usize) -> (Arc<AtomicBool>, Vec<JoinHandle<usize>>) {
    let stop = Arc::new(AtomicBool::new(false));
    let mut handles = Vec::new();
    for _ in 0..tasks {
        let stop = stop.clone();
        handles.push(
            spawn(async move {
                let mut turns = 0;
                while !stop.load(Ordering::Relaxed) {
                    yield_now().await;
                    turns += 1;
                }
                turns
            })
            .await
            .unwrap(),
        );
    }
    (stop, handles)
}

/// Two tasks that do nothing but wake each other, until they are told to stop.
async fn ping_pong(stop: &Arc<AtomicBool>) -> [JoinHandle<usize>; 2] {
    let place: Arc<[std::sync::Mutex<Option<Waker>>; 2]> = Arc::default();
    let player = |me: usize| {
        let (place, stop) = (place.clone(), stop.clone());
        async move {
            let mut rounds = 0;
            poll_fn(|cx| {
                *place[me].lock().unwrap() = Some(cx.waker().clone());
                let other = place[1 - me].lock().unwrap().take();
                if let Some(other) = other {
                    other.wake();
                }
                rounds += 1;
                if stop.load(Ordering::Relaxed) { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
            rounds
        }
    };
    [spawn(player(0)).await.unwrap(), spawn(player(1)).await.unwrap()]
}

#[test]
fn two_tasks_that_wake_each_other_do_not_starve_a_third() {
    // bugs.md 30
    or_abort(|| {
        for workers in 1..=3 {
            let runtime = runtime(workers);
            runtime.block_on(async {
                let stop = Arc::new(AtomicBool::new(false));
                let mut pairs = Vec::new();
                for _ in 0..2 * workers {
                    pairs.push(ping_pong(&stop).await);
                }
                for round in 0..50 {
                    let third = spawn(async move {
                        for _ in 0..round % 3 {
                            yield_now().await;
                        }
                        round
                    });
                    let told = third.join().await.unwrap();
                    assert_eq!(told, round);
                }
                stop.store(true, Ordering::Relaxed);
                for pair in pairs {
                    for player in pair {
                        assert!(player.await.unwrap() > 1);
                    }
                }
            });
        }
    });
}

#[test]
fn between_two_turns_of_one_all_others_of_its_worker_have_theirs() {
    // bugs.md 30: with one worker the number of polls between can be told exactly, but for those before a look elsewhere.
    or_abort(|| {
        let runtime = runtime(1);
        runtime.block_on(async {
            let turns: Arc<[AtomicUsize; 10]> = Arc::default();
            let started = Arc::new(AtomicUsize::new(0));
            let mut handles = Vec::new();
            for me in 0..10 {
                let (turns, started) = (turns.clone(), started.clone());
                handles.push(
                    spawn(async move {
                        started.fetch_add(1, Ordering::SeqCst);
                        while started.load(Ordering::SeqCst) < 10 {
                            yield_now().await;
                        }
                        let mut worst = 0;
                        for _ in 0..1_000 {
                            let mine = turns[me].fetch_add(1, Ordering::SeqCst) + 1;
                            let most = turns.iter().map(|turns| turns.load(Ordering::SeqCst)).max().unwrap();
                            worst = worst.max(most - mine);
                            yield_now().await;
                        }
                        worst
                    })
                    .await
                    .unwrap(),
                );
            }
            for handle in handles {
                // A task that comes by the injector may be a turn behind.
                assert!(handle.await.unwrap() <= 3);
            }
        });
    });
}

#[test]
fn a_timer_fires_while_all_workers_are_busy_with_tasks_that_yield() {
    or_abort(|| {
        for workers in 1..=4 {
            let runtime = runtime(workers);
            runtime.block_on(async {
                let (stop, handles) = yielders(100).await;
                for millis in [0, 1, 5] {
                    let start = Instant::now();
                    spawn(time::sleep(Duration::from_millis(millis))).join().await.unwrap();
                    time::sleep(Duration::from_millis(millis)).await;
                    assert!(start.elapsed() < LONG);
                }
                stop.store(true, Ordering::Relaxed);
                for handle in handles {
                    assert!(handle.await.unwrap() > 0);
                }
            });
        }
    });
}

#[test]
fn sockets_and_jobs_are_served_while_all_workers_are_busy_with_tasks_that_yield() {
    or_abort(|| {
        for workers in 1..=4 {
            let runtime = runtime(workers);
            runtime.block_on(async {
                let (stop, handles) = yielders(100).await;
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                let address = listener.local_addr().unwrap();
                let server = spawn(async move {
                    let (stream, _) = listener.accept().await.unwrap();
                    let mut buffer = [0; 1];
                    while stream.read(&mut buffer).await.unwrap() > 0 {
                        stream.write_all(&buffer).await.unwrap();
                    }
                })
                .await
                .unwrap();
                let start = Instant::now();
                let client = TcpStream::connect(address).await.unwrap();
                for byte in 0..50 {
                    client.write_all(&[byte]).await.unwrap();
                    let mut buffer = [0; 1];
                    assert_eq!(client.read(&mut buffer).await.unwrap(), 1);
                    assert_eq!(buffer, [byte]);
                    assert_eq!(spawn_blocking(move || byte).await.unwrap(), byte);
                }
                drop(client);
                server.await.unwrap();
                assert!(start.elapsed() < 2 * LONG);
                stop.store(true, Ordering::Relaxed);
                for handle in handles {
                    assert!(handle.await.unwrap() > 0);
                }
            });
        }
    });
}

#[test]
fn what_other_threads_spawn_and_wake_runs_while_all_workers_are_busy() {
    or_abort(|| {
        for workers in 1..=4 {
            let runtime = runtime(workers);
            let handle = runtime.handle();
            let (stop, handles) = runtime.block_on(yielders(100));
            thread::scope(|scope| {
                for _ in 0..3 {
                    scope.spawn(|| {
                        for n in 0..50 {
                            let task = handle.spawn_wait(async move { (yield_now().await, n).1 }).unwrap();
                            assert_eq!(runtime.block_on(task).unwrap(), n);
                            assert!(handle.metrics().wait(LONG).unwrap().tasks_live >= 100);
                        }
                    });
                }
            });
            stop.store(true, Ordering::Relaxed);
            runtime.block_on(async {
                for handle in handles {
                    assert!(handle.await.unwrap() > 0);
                }
            });
        }
    });
}

#[test]
fn a_task_that_other_threads_wake_without_end_does_not_starve_the_others() {
    or_abort(|| {
        for workers in 1..=3 {
            let runtime = runtime(workers);
            let (wakers, there) = std::sync::mpsc::channel::<Waker>();
            let stop = Arc::new(AtomicBool::new(false));
            let stops = stop.clone();
            let woken = runtime.block_on(async {
                spawn(async move {
                    poll_fn(|cx| {
                        let _ = wakers.send(cx.waker().clone());
                        if stops.load(Ordering::SeqCst) { Poll::Ready(()) } else { Poll::Pending }
                    })
                    .await;
                })
                .await
                .unwrap()
            });
            let waker = there.recv().unwrap();
            thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| {
                        while !stop.load(Ordering::SeqCst) {
                            waker.wake_by_ref();
                        }
                    });
                }
                runtime.block_on(async {
                    for n in 0..50 {
                        time::sleep(Duration::from_micros(100)).await;
                        assert_eq!(spawn(async move { (yield_now().await, n).1 }).join().await.unwrap(), n);
                    }
                });
                stop.store(true, Ordering::SeqCst);
            });
            waker.wake();
            runtime.block_on(woken).unwrap();
        }
    });
}

#[test]
fn all_workers_take_part_in_a_burst_of_long_polls() {
    or_abort(|| {
        for workers in 2..=4 {
            let runtime = runtime(workers);
            runtime.block_on(async {
                // Each blocks until all of them are there, which takes a worker each.
                let here = Arc::new(std::sync::Barrier::new(workers));
                for _ in 0..50 {
                    let task = |here: Arc<std::sync::Barrier>| async move {
                        let _leader = here.wait();
                    };
                    let handles = spawn({
                        let here = here.clone();
                        async move {
                            let mut handles = Vec::new();
                            for _ in 0..workers {
                                handles.push(spawn(task(here.clone())).await.unwrap());
                            }
                            handles
                        }
                    });
                    for handle in handles.join().await.unwrap() {
                        handle.await.unwrap();
                    }
                }
            });
        }
    });
}
