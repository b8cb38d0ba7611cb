//! A waiting spawn whose frame is on another thread than its runtime.
//!
//! Its future is moved by the owner out of a frame that others poll and drop meanwhile: whoever wins, it runs once or is
//! dropped unpolled, in one place.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anteroom::{JoinHandle, Runtime, Spawn, metrics, spawn, try_spawn, yield_now};
use anteroom_tests::{Drops, Gate, Tracked, elsewhere, look_around, must_end, park_on, poll_once};

/// Runs once, and knows what it holds.
struct Job(Arc<AtomicUsize>, #[allow(dead_code, reason = "for its drop")] Tracked, [u8; 100]);

impl Future for Job {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut std::task::Context<'_>) -> std::task::Poll<()> {
        assert_eq!(self.2, [7; 100], "it arrived whole");
        self.0.fetch_add(1, Ordering::SeqCst);
        std::task::Poll::Ready(())
    }
}

type Frame = Pin<Box<Spawn<Job>>>;

/// Sends ten thousand waiting spawns to `other`, on a thread of its own, while places become free, or as many as a busy
/// machine does in three seconds; how many ran, and how many were sent, when all is over.
fn race(other: fn(usize, Frame)) -> (usize, usize) {
    let start = Instant::now();
    let (drops, runs, seen) = (Drops::new(), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (to_thread, at_thread) = mpsc::channel::<Frame>();
    let thread = thread::spawn({
        let seen = seen.clone();
        move || {
            for (n, frame) in at_thread.into_iter().enumerate() {
                other(n, frame);
                seen.fetch_add(1, Ordering::SeqCst);
            }
        }
    });
    Runtime::builder().max_tasks(1).build().unwrap().block_on(async {
        let mut rounds = 0;
        for n in (0..10_000).take_while(|_| start.elapsed() < Duration::from_secs(3)) {
            rounds = n + 1;
            let gate = Gate::new();
            let holder = try_spawn(gate.wait()).unwrap();
            let mut frame: Frame = Box::pin(spawn(Job(runs.clone(), drops.track(), [7; 100])));
            assert!(poll_once(frame.as_mut()).is_pending());
            to_thread.send(frame).unwrap();
            // So that the place is free sooner or later than the frame is touched.
            (0..n % 50 * 20).for_each(|_| std::hint::spin_loop());
            gate.open();
            holder.await.unwrap();
            while metrics().waiting > 0 || metrics().tasks_live > 0 || seen.load(Ordering::SeqCst) <= n {
                assert!(!thread.is_finished());
                yield_now().await;
            }
        }
        drop(to_thread);
        thread.join().unwrap();
        look_around().await;
        assert_eq!((drops.count(), metrics().headers), (rounds, 1));
        (runs.load(Ordering::SeqCst), rounds)
    })
}

#[test]
fn a_frame_dropped_elsewhere_races_with_its_admission() {
    // bugs.md 8
    must_end(|| {
        let (runs, sent) = race(|_, frame| drop(frame));
        assert!(runs <= sent);
    });
}

#[test]
fn a_frame_polled_elsewhere_races_with_its_admission() {
    must_end(|| {
        let (runs, sent) = race(|_, frame| park_on(park_on(frame).unwrap()).unwrap());
        assert_eq!(runs, sent);
    });
}

#[test]
fn a_frame_polled_and_then_dropped_or_withdrawn_elsewhere_races_with_its_admission() {
    must_end(|| {
        let (runs, sent) = race(|n, mut frame| {
            // Nobody polls a spawn after it was ready.
            if (0..n % 3).all(|_| poll_once(frame.as_mut()).is_pending()) && n % 4 == 0 {
                drop(frame.as_mut().withdraw());
            }
        });
        assert!(runs <= sent);
    });
}

#[test]
fn a_frame_first_polled_here_and_then_elsewhere_is_told_there() {
    must_end(|| {
        Runtime::builder().max_tasks(1).build().unwrap().block_on(async {
            let gate = Gate::new();
            drop(try_spawn(gate.wait()).unwrap());
            let mut frame = Box::pin(spawn(async { 6 }));
            assert!(poll_once(frame.as_mut()).is_pending());
            let far = thread::spawn(move || park_on(frame).unwrap());
            gate.open();
            while !far.is_finished() {
                yield_now().await;
            }
            let handle: JoinHandle<i32> = far.join().unwrap();
            assert_eq!(handle.await.unwrap(), 6);
        });
    });
}

#[test]
fn a_frame_polled_in_another_runtime_is_told_there_and_belongs_here() {
    must_end(|| {
        let (to_other, at_other) = mpsc::channel::<Pin<Box<Spawn<std::future::Ready<thread::ThreadId>>>>>();
        let other = thread::spawn(move || {
            anteroom::block_on(async {
                let frame = at_other.recv().unwrap();
                let handle = frame.await.unwrap();
                assert_eq!(metrics().tasks_live, 0, "it is the other's task");
                handle.await.unwrap()
            })
        });
        Runtime::builder().max_tasks(1).build().unwrap().block_on(async {
            let gate = Gate::new();
            drop(try_spawn(gate.wait()).unwrap());
            let mut frame = Box::pin(spawn(std::future::ready(thread::current().id())));
            assert!(poll_once(frame.as_mut()).is_pending());
            to_other.send(frame).unwrap();
            gate.open();
            while !other.is_finished() {
                yield_now().await;
            }
            assert_eq!(other.join().unwrap(), thread::current().id());
        });
    });
}

#[test]
fn a_large_frame_that_is_dropped_elsewhere_lets_those_behind_it_in() {
    // bugs.md 4, from another thread: the owner is called.
    must_end(|| {
        Runtime::builder().max_task_bytes(1_000).build().unwrap().block_on(async {
            drop(try_spawn(anteroom_tests::Endless::<600>::NEW).unwrap());
            let mut head = Box::pin(spawn(anteroom_tests::Endless::<900>::NEW));
            let mut second = Box::pin(spawn(async { 8 }));
            assert!(poll_once(head.as_mut()).is_pending() && poll_once(second.as_mut()).is_pending());
            elsewhere(|| drop(head));
            assert_eq!(second.await.unwrap().await.unwrap(), 8);
            assert_eq!(metrics().waiting, 0);
        });
    });
}
