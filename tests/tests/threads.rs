//! What belongs to one thread's runtime, used from other threads.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::task::{Poll, Waker};
use std::thread;
use std::time::Duration;

use anteroom::{JoinHandle, Runtime, block_on, metrics, spawn, time, try_spawn, yield_now};
use anteroom_tests::{Drops, Gate, Wakes, elsewhere, look_around, must_end, park_on, poll_with};

/// Futures that hand out the waker of each poll, and count their polls.
fn waker_of_a_task(polls: &Arc<AtomicUsize>) -> (JoinHandle<()>, mpsc::Receiver<Waker>) {
    let (sender, wakers) = mpsc::channel();
    let polls = polls.clone();
    let future = poll_fn(move |cx| {
        polls.fetch_add(1, Ordering::SeqCst);
        // Nobody may listen any more.
        let _ = sender.send(cx.waker().clone());
        Poll::<()>::Pending
    });
    (try_spawn(future).unwrap(), wakers)
}

#[test]
fn a_waker_may_be_cloned_woken_and_dropped_anywhere_at_any_time() {
    // bugs.md 25
    let polls = Arc::new(AtomicUsize::new(0));
    let runtime = Runtime::new().unwrap();
    let (task, wakers) = runtime.block_on(async {
        let task = waker_of_a_task(&polls);
        yield_now().await;
        task
    });
    let waker = wakers.recv().unwrap();
    let everything = |waker: &Waker| {
        waker.wake_by_ref();
        let other = waker.clone();
        assert!(other.will_wake(waker));
        other.wake();
        drop(waker.clone());
    };
    elsewhere(|| everything(&waker));
    runtime.block_on(look_around());
    assert_eq!(
        polls.load(Ordering::SeqCst),
        2,
        "woken while the runtime did not run, and polled when it did"
    );
    everything(&waker);
    runtime.block_on(look_around());
    assert_eq!(polls.load(Ordering::SeqCst), 3, "this thread too is another one while it is outside");

    task.abort();
    runtime.block_on(look_around());
    elsewhere(|| everything(&waker));
    runtime.block_on(look_around());
    drop(runtime);
    elsewhere(|| everything(&waker));
    everything(&waker);
    // Its home has another owner, and its header perhaps another task.
    block_on(async {
        let task = try_spawn(yield_now()).unwrap();
        everything(&waker);
        elsewhere(|| everything(&waker));
        task.await.unwrap();
    });
    assert_eq!(polls.load(Ordering::SeqCst), 3);
}

#[test]
fn wakes_in_any_number_while_the_owner_is_busy_are_all_done() {
    // More than the inbox takes: the owner looks through all headers.
    // [INBOX-2] [TASK-3]
    block_on(async {
        let polls = Arc::new(AtomicUsize::new(0));
        let tasks: Vec<_> = (0..3_000).map(|_| waker_of_a_task(&polls)).collect();
        yield_now().await;
        assert_eq!(polls.load(Ordering::SeqCst), 3_000);
        for round in 2..5 {
            let wakers: Vec<_> = tasks.iter().map(|(_, wakers)| wakers.recv().unwrap()).collect();
            elsewhere(|| wakers.into_iter().for_each(Waker::wake));
            look_around().await;
            while polls.load(Ordering::SeqCst) < round * 3_000 {
                yield_now().await;
            }
        }
        assert_eq!(polls.load(Ordering::SeqCst), 4 * 3_000);
    });
}

#[test]
fn a_sleeping_owner_is_woken_each_time() {
    // A lost wake hangs here.
    // [INBOX-1] [LOOP-2]
    must_end(|| {
        let (to_thread, at_thread) = mpsc::channel::<Gate>();
        let opener = thread::spawn(move || at_thread.into_iter().for_each(|gate| gate.open()));
        block_on(async {
            for round in 0..5_000 {
                let gate = Gate::new();
                to_thread.send(gate.clone()).unwrap();
                match round % 3 {
                    0 => gate.wait().await,
                    1 => spawn(gate.wait()).join().await.unwrap(),
                    _ => time::timeout(Duration::from_secs(60), gate.wait()).await.unwrap(),
                }
            }
        });
        drop(to_thread);
        opener.join().unwrap();
    });
}

#[test]
fn an_aborted_future_is_dropped_by_its_owner() {
    // bugs.md 22, for a future that is not Send too.
    let drops = Drops::new();
    block_on(async {
        let task = |not_send| {
            let tracked = drops.track();
            anteroom::spawn_local(async move {
                std::future::pending::<()>().await;
                drop((tracked, not_send));
                1
            })
        };
        let shared = std::rc::Rc::new(());
        let fresh = task(shared.clone()).await.unwrap();
        elsewhere(|| fresh.abort());
        let idle = task(shared.clone()).await.unwrap();
        yield_now().await;
        elsewhere(move || {
            idle.abort();
            drop(idle);
        });
        let mut watched = task(shared.clone()).await.unwrap();
        look_around().await;
        let (waker, told) = Wakes::new();
        assert!(poll_with(Pin::new(&mut watched), &waker).is_pending());
        elsewhere(|| watched.abort());
        look_around().await;
        assert_eq!((told.count(), drops.count(), std::rc::Rc::strong_count(&shared)), (1, 3, 1));
        assert!(elsewhere(|| park_on(watched)).unwrap_err().is_cancelled());
        assert!(fresh.await.unwrap_err().is_cancelled());
        look_around().await;
        assert_eq!(metrics().headers, 1);
    });
    assert!(drops.threads().iter().all(|&thread| thread == thread::current().id()));
}

#[test]
fn an_output_is_dropped_where_its_handle_is() {
    let drops = Drops::new();
    let runtime = Runtime::new().unwrap();
    let gate = Gate::new();
    let (dropped, joined, early, outliving) = runtime.block_on(async {
        let task = || {
            let (tracked, wait) = (drops.track(), gate.wait());
            try_spawn(async move { (wait.await, tracked).1 }).unwrap()
        };
        (task(), task(), task(), task())
    });
    // Before it is done: the owner drops the output, since nobody else is there to.
    elsewhere(|| drop(early));
    runtime.block_on(async {
        gate.open();
        look_around().await;
    });
    let here = thread::current().id();
    assert_eq!(drops.threads(), [here]);
    let other = elsewhere(|| {
        drop(dropped);
        drop(park_on(joined).unwrap());
        thread::current().id()
    });
    assert_eq!(drops.threads(), [here, other, other]);
    drop(runtime);
    let another = elsewhere(|| {
        assert!(outliving.is_finished());
        outliving.abort();
        drop(outliving);
        thread::current().id()
    });
    assert_eq!(drops.threads(), [here, other, other, another]);
}

#[test]
fn a_handle_that_wanders_between_threads_wakes_the_one_it_is_at() {
    must_end(|| {
        block_on(async {
            for polled_here in [true, false] {
                let gate = Gate::new();
                let mut handle = spawn(gate.wait()).await.unwrap();
                let ((far, told_far), (near, told_near)) = (Wakes::new(), Wakes::new());
                if polled_here {
                    assert!(poll_with(Pin::new(&mut handle), &near).is_pending());
                }
                let mut handle = elsewhere(|| {
                    for _ in 0..3 {
                        assert!(poll_with(Pin::new(&mut handle), &far).is_pending());
                    }
                    handle
                });
                assert!(poll_with(Pin::new(&mut handle), &near).is_pending());
                gate.open();
                look_around().await;
                assert_eq!((told_far.count(), told_near.count()), (0, 1));
                handle.await.unwrap();
            }
            look_around().await;
            assert_eq!(metrics().headers, 1);
        });
    });
}

#[test]
fn two_runtimes_on_two_threads_join_each_others_tasks() {
    must_end(|| {
        const TASKS: usize = 3_000;
        let (to_left, at_left) = mpsc::sync_channel::<JoinHandle<usize>>(TASKS);
        let (to_right, at_right) = mpsc::sync_channel::<JoinHandle<usize>>(TASKS);
        let side = |out: mpsc::SyncSender<JoinHandle<usize>>, from: mpsc::Receiver<JoinHandle<usize>>| {
            thread::spawn(move || {
                Runtime::builder().max_tasks(50).build().unwrap().block_on(async {
                    let mut sum = 0;
                    for n in 0..TASKS {
                        let job = async move {
                            for _ in 0..n % 5 {
                                yield_now().await;
                            }
                            n
                        };
                        out.send(spawn(job).await.unwrap()).unwrap();
                        if let Ok(handle) = from.try_recv() {
                            sum += handle.await.unwrap();
                        }
                    }
                    drop(out);
                    loop {
                        match from.try_recv() {
                            Ok(handle) => sum += handle.await.unwrap(),
                            Err(mpsc::TryRecvError::Empty) => yield_now().await,
                            // The other has all of ours; they are done before their runtime ends.
                            Err(_) if metrics().tasks_live > 0 => yield_now().await,
                            Err(_) => break sum,
                        }
                    }
                })
            })
        };
        let (left, right) = (side(to_right, at_left), side(to_left, at_right));
        for side in [left, right] {
            assert_eq!(side.join().unwrap(), TASKS * (TASKS - 1) / 2);
        }
    });
}

#[test]
fn joins_and_drops_elsewhere_race_with_the_end_of_their_task() {
    // [TASK-5] [JOIN-2]
    must_end(|| {
        let drops = Drops::new();
        let (to_thread, at_thread) = mpsc::channel();
        let joiner = thread::spawn(move || {
            let mut joined = 0;
            for (n, handle) in at_thread.into_iter().enumerate() {
                let handle: JoinHandle<anteroom_tests::Tracked> = handle;
                match n % 4 {
                    0 => drop(handle),
                    1 => joined += usize::from(park_on(handle).is_ok()),
                    2 => handle.abort(),
                    _ => {
                        handle.abort();
                        joined += usize::from(park_on(handle).is_ok());
                    }
                }
            }
            joined
        });
        block_on(async {
            for n in 0..8_000 {
                let tracked = drops.track();
                let job = async move {
                    for _ in 0..n % 3 {
                        yield_now().await;
                    }
                    tracked
                };
                to_thread.send(spawn(job).await.unwrap()).unwrap();
                yield_now().await;
            }
            drop(to_thread);
            while !joiner.is_finished() {
                yield_now().await;
            }
            let joined = joiner.join().unwrap();
            assert!((2_000..=4_000).contains(&joined), "{joined}");
            look_around().await;
            assert_eq!((drops.count(), metrics().tasks_live, metrics().headers), (8_000, 0, 1));
        });
    });
}

#[test]
fn wakes_race_with_the_end_of_their_runtime() {
    // bugs.md 23, 24: what is called to wake a sleeping owner is kept until the call is over.
    must_end(|| {
        let (done, barrier) = (Arc::new(AtomicBool::new(false)), Arc::new(Barrier::new(2)));
        let (to_thread, at_thread) = mpsc::sync_channel::<Vec<Waker>>(1);
        let noisy = {
            let (done, barrier) = (done.clone(), barrier.clone());
            thread::spawn(move || {
                let mut wakers = Vec::new();
                while !done.load(Ordering::Relaxed) {
                    if let Ok(new) = at_thread.try_recv() {
                        wakers.extend(new);
                        barrier.wait();
                    }
                    wakers.iter().for_each(Waker::wake_by_ref);
                    if wakers.len() > 100 {
                        wakers.drain(..50);
                    }
                }
            })
        };
        let polls = Arc::new(AtomicUsize::new(0));
        for _ in 0..500 {
            let runtime = Runtime::new().unwrap();
            let handles = runtime.block_on(async {
                let tasks: Vec<_> = (0..10).map(|_| waker_of_a_task(&polls)).collect();
                yield_now().await;
                to_thread.send(tasks.iter().map(|(_, wakers)| wakers.recv().unwrap()).collect()).unwrap();
                barrier.wait();
                yield_now().await;
                tasks
            });
            drop(runtime);
            drop(handles);
        }
        done.store(true, Ordering::Relaxed);
        noisy.join().unwrap();
        block_on(async {
            look_around().await;
            assert_eq!(metrics().tasks_live, 0);
        });
    });
}
