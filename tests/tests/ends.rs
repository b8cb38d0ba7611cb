//! The end of a runtime is bounded in time, whatever its tasks, its jobs and other threads do about it.

use std::future::{pending, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use anteroom::net::TcpListener;
use anteroom::{Runtime, metrics, spawn, spawn_blocking, time, try_spawn, yield_now};
use anteroom_tests::{must_end, poll_once};

/// More than any end takes on a busy machine, and less than anything that it could wait for.
const SOON: Duration = Duration::from_secs(10);

/// Drops it, soon.
fn end(runtime: Runtime) {
    let start = Instant::now();
    drop(runtime);
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
}

#[test]
fn it_waits_for_nothing_that_tasks_wait_for() {
    // bugs.md 33: jobs that hang, running, queued and in line; timers, sockets, places; tasks that never wait at all.
    must_end(|| {
        let runtime = Runtime::builder().max_tasks(50).blocking_threads(2).blocking_queue(2).build().unwrap();
        let (go, at_go) = mpsc::channel::<()>();
        let at_go = Arc::new(std::sync::Mutex::new(at_go));
        runtime.block_on(async {
            for _ in 0..8 {
                let at_go = at_go.clone();
                let job = spawn_blocking(move || at_go.lock().unwrap().recv().is_ok());
                drop(spawn(job).await.unwrap());
            }
            drop(spawn(time::sleep(Duration::MAX)).await.unwrap());
            drop(spawn(time::interval(Duration::from_secs(1_000)).tick_for_ever()).await.unwrap());
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            drop(spawn(async move { listener.accept().await.map(drop) }).await.unwrap());
            drop(
                spawn(async {
                    loop {
                        yield_now().await;
                    }
                })
                .await
                .unwrap(),
            );
            while let Ok(task) = try_spawn(pending::<()>()) {
                drop(task);
            }
            let waits = spawn(async { drop(spawn(async {}).await) });
            assert!(poll_once(Box::pin(waits).as_mut()).is_pending());
            time::sleep(Duration::from_millis(5)).await;
            assert_eq!(metrics().tasks_live, 50);
        });
        end(runtime);
        drop(go);
    });
}

/// What [`Interval`](time::Interval) lacks: ticks without end, in a future that owns it.
trait TickForEver {
    fn tick_for_ever(self) -> impl Future<Output = ()> + Send;
}

impl TickForEver for time::Interval {
    async fn tick_for_ever(mut self) {
        loop {
            self.tick().await;
        }
    }
}

#[test]
fn futures_that_wake_and_spawn_and_start_timers_in_their_drop_do_not_keep_it() {
    /// Wakes itself and everyone, and asks for more of itself.
    struct Late(Arc<std::sync::Mutex<Vec<Waker>>>, Arc<AtomicUsize>);
    impl Future for Late {
        type Output = ();
        fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
            self.0.lock().unwrap().push(cx.waker().clone());
            Poll::Pending
        }
    }
    impl Drop for Late {
        fn drop(&mut self) {
            self.1.fetch_add(1, Ordering::SeqCst);
            let wakers = self.0.lock().unwrap().clone();
            wakers.iter().for_each(Waker::wake_by_ref);
            if wakers.len() < 10_000 {
                let again = Late(self.0.clone(), self.1.clone());
                // Nobody gets in any more; and what is given back must not try again.
                let refused = try_spawn(again).unwrap_err();
                assert!(refused.is_closed());
                self.0.lock().unwrap().resize(10_000, Waker::noop().clone());
                drop(refused);
            }
            let _ = poll_once(Box::pin(time::sleep(Duration::from_secs(1))).as_mut());
        }
    }
    must_end(|| {
        let (wakers, drops) = (Arc::default(), Arc::new(AtomicUsize::new(0)));
        let runtime = Runtime::builder().max_tasks(100).build().unwrap();
        runtime.block_on(async {
            for _ in 0..100 {
                drop(try_spawn(Late(Arc::clone(&wakers), drops.clone())).unwrap());
            }
            yield_now().await;
        });
        end(runtime);
        assert_eq!(drops.load(Ordering::SeqCst), 101);
    });
}

#[test]
fn threads_that_never_stop_waking_do_not_keep_it() {
    // bugs.md 33: their wakers are of tasks that are done and whose handles are kept, so that they are not stale.
    must_end(|| {
        for threads in [1, 4] {
            let runtime = Runtime::new().unwrap();
            let (sender, wakers) = mpsc::channel();
            let handles: Vec<_> = runtime.block_on(async {
                let task = |_| {
                    let sender = sender.clone();
                    try_spawn(poll_fn(move |cx| {
                        let _ = sender.send(cx.waker().clone());
                        Poll::<()>::Pending
                    }))
                    .unwrap()
                };
                let handles = (0..300).map(task).collect();
                yield_now().await;
                handles
            });
            let wakers: Arc<Vec<Waker>> = Arc::new(wakers.try_iter().collect());
            assert_eq!(wakers.len(), 300);
            let (stop, rounds) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
            let noise: Vec<_> = (0..threads)
                .map(|_| {
                    let (wakers, stop, rounds) = (wakers.clone(), stop.clone(), rounds.clone());
                    thread::spawn(move || {
                        while !stop.load(Ordering::Relaxed) {
                            wakers.iter().for_each(Waker::wake_by_ref);
                            rounds.fetch_add(1, Ordering::Relaxed);
                        }
                    })
                })
                .collect();
            while rounds.load(Ordering::Relaxed) < 100 {
                thread::yield_now();
            }
            end(runtime);
            // The next owner of the same home hears it too, and is not kept from its work.
            let sum = anteroom::block_on(async {
                let mut sum = 0;
                for n in 0..100 {
                    sum += spawn(async move { (yield_now().await, n).1 }).join().await.unwrap();
                }
                sum
            });
            assert_eq!(sum, 4_950);
            stop.store(true, Ordering::Relaxed);
            noise.into_iter().for_each(|thread| thread.join().unwrap());
            drop(handles);
        }
    });
}
