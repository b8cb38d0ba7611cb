//! The work-stealing runtime keeps what the single-threaded one promises.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anteroom::{Builder, StealingRuntime, spawn, yield_now};

fn runtime(tasks: usize, workers: usize) -> StealingRuntime {
    Builder::new().max_tasks(tasks).build_stealing(workers).unwrap()
}

#[test]
fn a_task_s_output_comes_back() {
    let runtime = runtime(10, 2);
    let sum = runtime.block_on(async {
        let mut sum = 0;
        for n in 0..1_000_u64 {
            sum += spawn(async move {
                yield_now().await;
                n
            })
            .join()
            .await
            .unwrap();
        }
        sum
    });
    assert_eq!(sum, 499_500);
}

#[test]
fn never_more_are_live_than_the_limit_over_all_workers() {
    let runtime = runtime(7, 3);
    let (live, peak) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    runtime.block_on(async {
        let mut spawners = Vec::new();
        for _ in 0..3 {
            let (live, peak) = (live.clone(), peak.clone());
            spawners.push(async move {
                let mut handles = Vec::new();
                for _ in 0..2_000 {
                    let (live, peak) = (live.clone(), peak.clone());
                    handles.push(
                        spawn(async move {
                            let now = live.fetch_add(1, Ordering::SeqCst) + 1;
                            peak.fetch_max(now, Ordering::SeqCst);
                            yield_now().await;
                            live.fetch_sub(1, Ordering::SeqCst);
                        })
                        .await
                        .unwrap(),
                    );
                }
                for handle in handles {
                    handle.await.unwrap();
                }
            });
        }
        for spawner in spawners {
            spawner.await;
        }
    });
    assert!(peak.load(Ordering::SeqCst) <= 7);
    assert_eq!(runtime.metrics().tasks_live, 0);
}

#[test]
fn timers_and_long_polls() {
    let runtime = runtime(100, 2);
    let done = Arc::new(AtomicBool::new(false));
    runtime.block_on(async {
        let stuck = done.clone();
        let long = spawn(async move {
            let start = Instant::now();
            while !stuck.load(Ordering::Acquire) && start.elapsed() < Duration::from_secs(10) {
                std::hint::spin_loop();
            }
            stuck.load(Ordering::Acquire)
        })
        .await
        .unwrap();
        let timer = done.clone();
        let sleeper = spawn(async move {
            anteroom::time::sleep(Duration::from_millis(5)).await;
            timer.store(true, Ordering::Release);
        })
        .await
        .unwrap();
        sleeper.await.unwrap();
        assert!(long.await.unwrap());
    });
}
