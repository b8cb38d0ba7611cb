//! A worker that is stuck in a long poll strands nothing: not what it had ready, nor sockets, nor timers.
//!
//! bugs.md 31. Each poll that blocks here waits for the very thing that it could strand, so a bound on how long that takes is
//! only what tells a hang from slowness.

#![allow(
    clippy::async_yields_async,
    clippy::type_complexity,
    reason = "handles go from one block_on to another"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

use anteroom::net::{TcpListener, TcpStream};
use anteroom::{Builder, StealingRuntime, spawn, spawn_blocking, time, try_spawn, yield_now};
use anteroom_tests::{Gate, or_abort, park_on};

fn runtime(workers: usize) -> StealingRuntime {
    Builder::new().build_stealing(workers).unwrap()
}

/// Blocks the thread that polls, until all senders are gone.
fn block(until: &Receiver<()>) {
    let start = Instant::now();
    assert_eq!(until.recv_timeout(Duration::from_secs(20)), Err(mpsc::RecvTimeoutError::Disconnected));
    assert!(start.elapsed() < Duration::from_secs(20));
}

/// Blocks all workers but one, until their guard is gone.
async fn block_all_but_one(workers: usize) -> (Sender<()>, Vec<anteroom::JoinHandle<()>>) {
    let mut stuck = Vec::new();
    let mut guards = Vec::new();
    let (begun, begins) = mpsc::channel();
    for _ in 1..workers {
        let (sender, until) = mpsc::channel::<()>();
        let begun = begun.clone();
        guards.push(sender);
        stuck.push(
            spawn(async move {
                begun.send(()).unwrap();
                block(&until);
            })
            .await
            .unwrap(),
        );
    }
    // On a thread that is no worker, and so may wait.
    spawn_blocking(move || {
        for _ in 1..workers {
            begins.recv().unwrap();
        }
    })
    .await
    .unwrap();
    let (keep, kept) = mpsc::channel::<()>();
    std::thread::spawn(move || {
        let _until_it_is_gone = kept.recv();
        drop(guards);
    });
    (keep, stuck)
}

#[test]
fn what_it_has_spawned_runs_elsewhere() {
    or_abort(|| {
        for workers in 2..=4 {
            let runtime = runtime(workers);
            for tasks in [1, 1, 1, 2, 3, 10, 300] {
                for round in 0..30 {
                    runtime.block_on(async {
                        let stuck = async move {
                            if round % 3 == 0 {
                                // From a ring that has been in use, and with siblings that are falling asleep.
                                yield_now().await;
                            }
                            let (sender, until) = mpsc::channel();
                            for _ in 0..tasks {
                                let sender = sender.clone();
                                drop(try_spawn(async move { drop(sender) }).unwrap());
                            }
                            drop(sender);
                            block(&until);
                        };
                        spawn(stuck).join().await.unwrap();
                    });
                    if round % 5 == 0 {
                        // So that all sleep when the next comes.
                        std::thread::sleep(Duration::from_millis(2));
                    }
                }
            }
        }
    });
}

#[test]
fn what_it_has_woken_runs_elsewhere() {
    or_abort(|| {
        for workers in 2..=4 {
            let runtime = runtime(workers);
            for tasks in [1, 2, 5] {
                for _ in 0..50 {
                    runtime.block_on(async {
                        let gate = Gate::new();
                        let (sender, until) = mpsc::channel();
                        let mut woken = Vec::new();
                        for _ in 0..tasks {
                            let (gate, sender) = (gate.clone(), sender.clone());
                            woken.push(
                                spawn(async move {
                                    gate.wait().await;
                                    drop(sender);
                                })
                                .await
                                .unwrap(),
                            );
                        }
                        drop(sender);
                        spawn(async move {
                            yield_now().await;
                            gate.open();
                            block(&until);
                        })
                        .join()
                        .await
                        .unwrap();
                        for woken in woken {
                            woken.await.unwrap();
                        }
                    });
                }
            }
        }
    });
}

#[test]
fn what_it_has_ready_runs_elsewhere_when_the_others_are_busy_for_a_while() {
    or_abort(|| {
        let runtime = runtime(2);
        for round in 0..100_u64 {
            runtime.block_on(async {
                let busy = spawn(async move {
                    for _ in 0..round * 20 {
                        yield_now().await;
                    }
                })
                .await
                .unwrap();
                spawn(async {
                    let (sender, until) = mpsc::channel();
                    drop(try_spawn(async move { drop(sender) }).unwrap());
                    block(&until);
                })
                .join()
                .await
                .unwrap();
                busy.await.unwrap();
            });
        }
    });
}

#[test]
fn what_it_has_ready_runs_elsewhere_though_the_others_are_never_idle() {
    or_abort(|| {
        for workers in 2..=4 {
            let runtime = runtime(workers);
            let stop = Arc::new(AtomicBool::new(false));
            let yielders: Vec<_> = runtime.block_on(async {
                let yielder = || {
                    let stop = stop.clone();
                    try_spawn(async move {
                        while !stop.load(Ordering::Relaxed) {
                            yield_now().await;
                        }
                    })
                };
                (0..20).map(|_| yielder().unwrap()).collect()
            });
            for tasks in [1, 2, 20, 300] {
                for _ in 0..5 {
                    runtime.block_on(async {
                        let stuck = async move {
                            let (sender, until) = mpsc::channel();
                            for _ in 0..tasks {
                                let sender = sender.clone();
                                drop(try_spawn(async move { drop(sender) }).unwrap());
                            }
                            drop(sender);
                            block(&until);
                        };
                        spawn(stuck).join().await.unwrap();
                    });
                }
            }
            stop.store(true, Ordering::Relaxed);
            for yielder in yielders {
                runtime.block_on(yielder).unwrap();
            }
        }
    });
}

#[test]
fn timers_fire_however_they_were_set() {
    or_abort(|| {
        for workers in 2..=4 {
            let runtime = runtime(workers);
            for round in 0..20 {
                runtime.block_on(async {
                    // Set before, by a task that is asleep when all but one are stuck.
                    let wait = Duration::from_millis(round % 7 + 1);
                    let before = spawn(time::sleep(wait)).await.unwrap();
                    let (guard, stuck) = block_all_but_one(workers).await;
                    // By block_on's own future; by a task; and then by one that polls long itself.
                    time::sleep(wait).await;
                    before.await.unwrap();
                    spawn(time::sleep(wait)).join().await.unwrap();
                    drop(guard);
                    for stuck in stuck {
                        stuck.await.unwrap();
                    }
                });
            }
        }
    });
}

#[test]
fn a_timer_that_a_task_set_before_it_got_stuck_fires() {
    or_abort(|| {
        for workers in 2..=4 {
            let runtime = runtime(workers);
            for round in 0..50 {
                runtime
                    .block_on(
                        spawn(async move {
                            let (sender, until) = mpsc::channel::<()>();
                            let sleeper = spawn(async move {
                                time::sleep(Duration::from_micros(500 * (round % 8))).await;
                                drop(sender);
                            })
                            .await
                            .unwrap();
                            for _ in 0..round % 3 {
                                yield_now().await;
                            }
                            block(&until);
                            sleeper.await.unwrap();
                        })
                        .join(),
                    )
                    .unwrap();
            }
        }
    });
}

#[test]
fn timers_fire_beside_a_task_that_another_thread_woke_and_that_got_stuck() {
    // [STEAL-2]
    or_abort(|| {
        for workers in 2..=4 {
            let runtime = runtime(workers);
            for round in 0..100_u64 {
                let (sender, until) = mpsc::channel::<()>();
                let gate = Gate::new();
                let (sleeper, stuck) = runtime.block_on(async {
                    let sleeper = spawn(async move {
                        time::sleep(Duration::from_millis(3 + round % 5)).await;
                        drop(sender);
                    });
                    let waits = gate.wait();
                    let stuck = spawn(async move {
                        waits.await;
                        block(&until);
                    });
                    (sleeper.await.unwrap(), stuck.await.unwrap())
                });
                // By now all of them sleep, mostly, one in the driver.
                std::thread::sleep(Duration::from_millis(round % 4));
                gate.open();
                runtime.block_on(async {
                    stuck.await.unwrap();
                    sleeper.await.unwrap();
                });
            }
        }
    });
}

#[test]
fn block_on_s_own_timer_fires_beside_a_task_that_another_thread_woke_and_that_got_stuck() {
    // [STEAL-2]
    or_abort(|| {
        for workers in 2..=3 {
            let runtime = runtime(workers);
            for round in 0..100_u64 {
                let (sender, until) = mpsc::channel::<()>();
                let gate = Gate::new();
                let (begun, begins) = mpsc::channel();
                let waits = gate.wait();
                let stuck = runtime.block_on(async {
                    spawn(async move {
                        waits.await;
                        begun.send(()).unwrap();
                        block(&until);
                    })
                    .await
                    .unwrap()
                });
                std::thread::sleep(Duration::from_millis(round % 4));
                gate.open();
                begins.recv().unwrap();
                runtime.block_on(async {
                    time::sleep(Duration::from_millis(round % 3)).await;
                    drop(sender);
                    stuck.await.unwrap();
                });
            }
        }
    });
}

#[test]
fn sockets_are_served() {
    or_abort(|| {
        for workers in 2..=4 {
            let runtime = runtime(workers);
            runtime.block_on(async {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
                let (server, _) = listener.accept().await.unwrap();
                let echo = spawn(async move {
                    let mut buffer = [0; 8];
                    loop {
                        match server.read(&mut buffer).await.unwrap() {
                            0 => return,
                            read => server.write_all(&buffer[..read]).await.unwrap(),
                        }
                    }
                })
                .await
                .unwrap();
                for _ in 0..30 {
                    let (guard, stuck) = block_all_but_one(workers).await;
                    let mut buffer = [0; 8];
                    client.write_all(b"x").await.unwrap();
                    assert_eq!(client.read(&mut buffer).await.unwrap(), 1);
                    drop(guard);
                    for stuck in stuck {
                        stuck.await.unwrap();
                    }
                }
                drop(client);
                echo.await.unwrap();
            });
        }
    });
}

#[test]
fn a_socket_that_woke_a_task_which_got_stuck_wakes_others() {
    or_abort(|| {
        for workers in 2..=4 {
            let runtime = runtime(workers);
            runtime.block_on(async {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                let address = listener.local_addr().unwrap();
                for round in 0..50 {
                    let mut ends = Vec::new();
                    for _ in 0..2 {
                        let client = TcpStream::connect(address).await.unwrap();
                        ends.push((client, listener.accept().await.unwrap().0));
                    }
                    let (second, second_end) = ends.pop().unwrap();
                    let (first, first_end) = ends.pop().unwrap();
                    let (sender, until) = mpsc::channel::<()>();
                    let other = spawn(async move {
                        second_end.read(&mut [0; 8]).await.unwrap();
                        drop(sender);
                    })
                    .await
                    .unwrap();
                    let (told, tells) = mpsc::channel();
                    let stuck = spawn(async move {
                        first_end.read(&mut [0; 8]).await.unwrap();
                        told.send(()).unwrap();
                        block(&until);
                    })
                    .await
                    .unwrap();
                    time::sleep(Duration::from_millis(round % 3)).await;
                    first.write_all(b"x").await.unwrap();
                    // Nothing but the sockets wakes anybody from here on.
                    let writes = std::thread::spawn(move || {
                        tells.recv().unwrap();
                        park_on(second.write_all(b"x")).unwrap();
                        second
                    });
                    stuck.await.unwrap();
                    other.await.unwrap();
                    drop(writes.join().unwrap());
                }
            });
        }
    });
}

#[test]
fn what_other_threads_spawn_runs() {
    or_abort(|| {
        for workers in 2..=4 {
            let runtime = runtime(workers);
            let handle = runtime.handle();
            for _ in 0..30 {
                let (guard, stuck) = runtime.block_on(block_all_but_one(workers));
                let task = handle.spawn_wait(async { 7 }).unwrap();
                assert_eq!(runtime.block_on(task).unwrap(), 7);
                assert_eq!(handle.metrics().wait(Duration::from_secs(20)).unwrap().tasks_live, workers - 1);
                drop(guard);
                for stuck in stuck {
                    runtime.block_on(stuck).unwrap();
                }
            }
        }
    });
}
