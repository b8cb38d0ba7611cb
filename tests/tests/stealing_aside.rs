//! A worker that stands aside, since all are faster without it, strands nothing.
//!
//! [STEAL-4]. Whether one does is nobody's to see; the load here is such that it does, again and again: polls of nothing but
//! steps on one word. Bounds hold for the better half of some rounds, since the machine may be busy with other things.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anteroom::net::{TcpListener, TcpStream};
use anteroom::{Builder, JoinHandle, StealingRuntime, spawn, time, try_spawn, yield_now};
use anteroom_tests::or_abort;

const ROUNDS: usize = 30;

/// One runtime at a time, since each takes all that the machine has.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn runtime(workers: usize) -> StealingRuntime {
    Builder::new().build_stealing(workers).unwrap()
}

/// Tasks that make tiny polls on one word, until they are told to stop.
struct Contended {
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Contended {
    async fn begin(tasks: usize) -> Self {
        let (stop, word) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let mut handles = Vec::new();
        for _ in 0..tasks {
            let (stop, word) = (stop.clone(), word.clone());
            let task = async move {
                while !stop.load(Ordering::Relaxed) {
                    for _ in 0..4 {
                        word.fetch_add(1, Ordering::SeqCst);
                    }
                    yield_now().await;
                }
            };
            handles.push(spawn(task).await.unwrap());
        }
        Self { stop, tasks: handles }
    }

    async fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.unwrap();
        }
    }
}

/// The better half is within `bound`.
#[track_caller]
fn assert_within(what: &str, mut took: Vec<Duration>, bound: Duration) {
    took.sort_unstable();
    let median = took[took.len() / 2];
    assert!(median < bound, "{what}: {median:?} is not below {bound:?}; all: {took:?}");
}

#[test]
fn sockets_and_timers_are_served() {
    let _alone = alone();
    or_abort(|| {
        const SLEEP: Duration = Duration::from_millis(5);
        for workers in 2..=3 {
            let (late, echoed) = runtime(workers).block_on(async {
                let contended = Contended::begin(8).await;
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                let here = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
                let there = listener.accept().await.unwrap().0;
                let echo = async move {
                    let mut buffer = [0; 1];
                    while there.read(&mut buffer).await.unwrap() > 0 {
                        there.write_all(&buffer).await.unwrap();
                    }
                };
                let echo = spawn(echo).await.unwrap();
                let client = async move {
                    let (mut late, mut echoed) = (Vec::new(), Vec::new());
                    for n in 0..ROUNDS {
                        let start = Instant::now();
                        time::sleep(SLEEP).await;
                        let slept = start.elapsed();
                        assert!(slept >= SLEEP, "early: {slept:?}");
                        late.push(slept - SLEEP);
                        let start = Instant::now();
                        here.write_all(&[n as u8]).await.unwrap();
                        let mut buffer = [0; 1];
                        assert_eq!(here.read(&mut buffer).await.unwrap(), 1);
                        assert_eq!(buffer, [n as u8]);
                        echoed.push(start.elapsed());
                    }
                    (late, echoed)
                };
                let measured = spawn(client).join().await.unwrap();
                echo.await.unwrap();
                contended.end().await;
                measured
            });
            assert_within("late", late, Duration::from_millis(4));
            assert_within("an echo", echoed, Duration::from_millis(4));
        }
    });
}

#[test]
fn what_other_threads_spawn_runs_promptly() {
    let _alone = alone();
    or_abort(|| {
        for workers in 2..=3 {
            let runtime = runtime(workers);
            let contended = runtime.block_on(Contended::begin(8));
            let mut took = Vec::new();
            for _ in 0..ROUNDS {
                thread::sleep(Duration::from_millis(3));
                let (sender, ran) = mpsc::channel();
                let start = Instant::now();
                let task = async move { sender.send(start.elapsed()).unwrap() };
                drop(runtime.handle().spawn_wait(task).unwrap());
                took.push(ran.recv().unwrap());
            }
            runtime.block_on(contended.end());
            assert_within("a task of another thread", took, Duration::from_millis(4));
        }
    });
}

#[test]
fn who_is_stuck_beside_one_that_stands_aside_strands_neither_tasks_nor_timers() {
    let _alone = alone();
    or_abort(|| {
        for (workers, beside) in [(2, None), (3, None), (3, Some(Duration::from_micros(50)))] {
            let runtime = runtime(workers);
            let (mut waited, mut late) = (Vec::new(), Vec::new());
            for _ in 0..ROUNDS {
                let (task, timer) = runtime.block_on(async {
                    let contended = Contended::begin(8).await;
                    time::sleep(Duration::from_millis(40)).await;
                    let is_over = Arc::new(AtomicBool::new(false));
                    if let Some(polls) = beside {
                        // Beside the one that is stuck, one that always moves, and seldom looks.
                        contended.stop.store(true, Ordering::Relaxed);
                        let is_over = is_over.clone();
                        let task = async move {
                            while !is_over.load(Ordering::Relaxed) {
                                thread::sleep(polls);
                                yield_now().await;
                            }
                        };
                        drop(spawn(task).await.unwrap());
                    }
                    let (told, tell) = (mpsc::channel(), mpsc::channel());
                    const SLEEP: Duration = Duration::from_millis(2);
                    let timer = spawn(async move {
                        let start = Instant::now();
                        time::sleep(SLEEP).await;
                        tell.0.send(start.elapsed().saturating_sub(SLEEP)).unwrap();
                    });
                    let timer = timer.await.unwrap();
                    let stuck = async move {
                        let start = Instant::now();
                        drop(try_spawn(async move { told.0.send(start.elapsed()).unwrap() }).unwrap());
                        // Stuck for fifty milliseconds.
                        thread::sleep(Duration::from_millis(50));
                        (told.1.recv().unwrap(), tell.1.recv().unwrap())
                    };
                    let measured = spawn(stuck).join().await.unwrap();
                    timer.await.unwrap();
                    is_over.store(true, Ordering::Relaxed);
                    contended.end().await;
                    measured
                });
                waited.push(task);
                late.push(timer);
            }
            assert_within("a ready task", waited, Duration::from_millis(10));
            assert_within("a timer", late, Duration::from_millis(10));
        }
    });
}

/// How often the workers of this process have gone to sleep.
#[cfg(target_os = "linux")]
fn sleeps() -> u64 {
    let of_one = |task: std::fs::DirEntry| {
        let status = std::fs::read_to_string(task.path().join("status")).ok()?;
        let value = |name| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let is_worker = value("Name:")?.starts_with("anteroom-");
        value("voluntary_ctxt_switches:")?.parse::<u64>().ok().filter(|_| is_worker)
    };
    std::fs::read_dir("/proc/self/task").unwrap().filter_map(|task| of_one(task.unwrap())).sum()
}

#[cfg(target_os = "linux")]
#[test]
fn when_the_load_has_ended_nobody_wakes_up() {
    let _alone = alone();
    or_abort(|| {
        for workers in 2..=3 {
            let runtime = runtime(workers);
            runtime.block_on(async {
                let contended = Contended::begin(8).await;
                time::sleep(Duration::from_millis(200)).await;
                contended.end().await;
            });
            // Who lingers does so for some milliseconds, and memory goes back half a second later at most.
            thread::sleep(Duration::from_millis(700));
            let before = sleeps();
            thread::sleep(Duration::from_millis(300));
            let woken = sleeps() - before;
            assert!(woken <= 2, "{workers} workers that have nothing to do woke up {woken} times");
        }
    });
}
