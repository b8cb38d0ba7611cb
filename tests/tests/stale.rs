//! Wakers that are not what they were: of a task that is gone, of a runtime that is gone, of a header and a home that others
//! have by now, wrapped in others, and of another runtime than the one that this thread is inside of.
//!
//! [WAKER-1] [TABLE-1]: whatever is done with them, nothing worse happens than a poll that nobody needed.

use std::future::{pending, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use anteroom::{JoinHandle, Runtime, block_on, metrics, spawn, try_spawn, yield_now};
use anteroom_tests::{Drops, Gate, Hooks, elsewhere, look_around, must_end, park_on, poll_with};

/// The waker of a task that has ended and whose handle is gone.
async fn stale_waker() -> Waker {
    spawn(poll_fn(|cx| Poll::Ready(cx.waker().clone()))).join().await.unwrap()
}

/// A task that counts its polls and never ends.
fn counted(polls: &Arc<AtomicUsize>) -> JoinHandle<()> {
    let polls = polls.clone();
    let task = poll_fn(move |_| {
        polls.fetch_add(1, Ordering::SeqCst);
        Poll::<()>::Pending
    });
    try_spawn(task).unwrap()
}

/// Everything that safe code can do with a waker.
fn everything(waker: &Waker) {
    let mut other = waker.clone();
    assert!(other.will_wake(waker) && waker.will_wake(&other));
    waker.wake_by_ref();
    other.wake_by_ref();
    other.clone_from(Waker::noop());
    other.clone_from(waker);
    assert_eq!((other.data(), other.vtable()), (waker.data(), waker.vtable()));
    let wrapped = Waker::from(Arc::new(Wrapped(other.clone())));
    wrapped.wake_by_ref();
    drop(wrapped.clone());
    wrapped.wake();
    other.wake();
    assert!(!format!("{waker:?}").is_empty());
}

/// A waker around another, as combinators have them.
struct Wrapped(Waker);

impl Wake for Wrapped {
    fn wake(self: Arc<Self>) {
        self.0.wake_by_ref();
        #[allow(clippy::waker_clone_wake, reason = "the clone is what is tried")]
        self.0.clone().wake();
    }
}

#[test]
fn a_waker_of_a_task_that_is_gone_wakes_nobody_from_any_thread() {
    // bugs.md 25
    // [WAKER-2]
    block_on(async {
        let stale: Vec<Waker> = vec![stale_waker().await, stale_waker().await, stale_waker().await];
        // Their header is one and the same, and another task's by now.
        let polls = Arc::new(AtomicUsize::new(0));
        let task = counted(&polls);
        yield_now().await;
        for waker in &stale {
            everything(waker);
            elsewhere(|| everything(waker));
        }
        look_around().await;
        assert_eq!(polls.load(Ordering::SeqCst), 1);
        // Each names another task than the others, and than the one that is there.
        for (n, waker) in stale.iter().enumerate() {
            assert!(stale.iter().enumerate().all(|(m, other)| waker.will_wake(other) == (n == m)));
        }
        task.abort();
    });
}

#[test]
fn a_waker_used_inside_another_runtime_reaches_its_own() {
    let (outer, inner) = (Runtime::new().unwrap(), Runtime::new().unwrap());
    let (polls, inner_polls) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (sender, wakers) = mpsc::channel();
    outer.block_on(async {
        let counts = polls.clone();
        let task = poll_fn(move |cx| {
            counts.fetch_add(1, Ordering::SeqCst);
            let _ = sender.send(cx.waker().clone());
            Poll::<()>::Pending
        });
        let _task = try_spawn(task).unwrap();
        yield_now().await;
        let waker = wakers.recv().unwrap();
        // In the other's task, in the other's future of block_on, and in neither.
        inner.block_on(async {
            let _other = counted(&inner_polls);
            let (mine, theirs) = (stale_waker().await, waker.clone());
            assert!(!mine.will_wake(&theirs));
            spawn(async move { everything(&theirs) }).join().await.unwrap();
            everything(&waker);
            look_around().await;
        });
        assert_eq!(
            (polls.load(Ordering::SeqCst), inner_polls.load(Ordering::SeqCst)),
            (1, 1),
            "not from there"
        );
        look_around().await;
        assert_eq!(polls.load(Ordering::SeqCst), 2, "and merged into one here");
    });
    let waker = wakers.recv().unwrap();
    drop(outer);
    inner.block_on(async {
        everything(&waker);
        look_around().await;
        assert_eq!((polls.load(Ordering::SeqCst), inner_polls.load(Ordering::SeqCst)), (2, 1));
    });
}

/// The address in a waker of ours, which the generation leaves as it is.
fn address(waker: &Waker) -> usize {
    let bits = if usize::BITS == 64 { 0x0000_FFFF_FFFF_FFC0_u64 } else { 0xFFFF_FFC0 };
    waker.data().addr() & bits as usize
}

/// A task that leaves its waker, and is ready at once if it is given an output.
fn telling<T: Send + 'static>(output: Option<T>, wakers: &mpsc::Sender<Waker>) -> JoinHandle<T> {
    let (mut output, wakers) = (output, wakers.clone());
    let task = poll_fn(move |cx| {
        wakers.send(cx.waker().clone()).unwrap();
        output.take().map_or(Poll::Pending, Poll::Ready)
    });
    try_spawn(task).unwrap()
}

#[test]
fn a_home_that_another_thread_has_by_now_is_left_alone_by_what_its_last_runtime_left() {
    // Wakers of tasks that are gone, and handles that are kept, whose headers are theirs still.
    // [HOME-1] [TASK-5] [JOIN-1]
    must_end(|| {
        let (mut met, mut rounds) = (0, 0);
        while met < 10 {
            rounds += 1;
            assert!(rounds < 1_000, "a home is used again");
            let outputs = Drops::new();
            let (sender, wakers) = mpsc::channel();
            let runtime = Runtime::builder().max_tasks(100).build().unwrap();
            let mut handles: Vec<_> = runtime.block_on(async {
                let task = |n| telling((n % 2 == 0).then(|| outputs.track()), &sender);
                let handles: Vec<_> = (0..40).map(task).collect();
                look_around().await;
                handles
            });
            handles.truncate(20);
            drop(runtime);
            let old: Vec<Waker> = wakers.try_iter().collect();
            assert_eq!((old.len(), outputs.count()), (40, 10), "ten outputs are kept by their handles");

            let (ready, at_ready) = mpsc::channel();
            let (stop, at_stop) = mpsc::channel::<()>();
            let next = thread::spawn(move || {
                let polls = Arc::new(AtomicUsize::new(0));
                let (sender, wakers) = mpsc::channel();
                Runtime::builder().max_tasks(100).build().unwrap().block_on(async {
                    // The first that are spawned get the headers that have just become free.
                    let told: Vec<_> = (0..30).map(|_| telling(None::<()>, &sender)).collect();
                    let counted: Vec<_> = (0..60).map(|_| counted(&polls)).collect();
                    look_around().await;
                    ready.send(wakers.try_iter().collect::<Vec<_>>()).unwrap();
                    while at_stop.try_recv() == Err(mpsc::TryRecvError::Empty) {
                        assert_eq!(spawn(async { (yield_now().await, 5).1 }).join().await.unwrap(), 5);
                    }
                    look_around().await;
                    assert_eq!(metrics().tasks_live, 90);
                    drop((counted, told));
                });
                (polls.load(Ordering::SeqCst), wakers.try_iter().count())
            });
            let new: Vec<Waker> = at_ready.recv().unwrap();
            let reused = |waker: &Waker| new.iter().any(|new| address(new) == address(waker));
            met += usize::from(old.iter().any(reused));
            assert!(!old.iter().any(|old| new.iter().any(|new| old.will_wake(new))));
            old.iter().for_each(everything);
            elsewhere(|| old.iter().for_each(everything));
            for (n, handle) in handles.into_iter().enumerate() {
                assert!(handle.is_finished());
                match n % 6 {
                    0 | 1 => drop(handle),
                    2 | 3 => elsewhere(|| drop(handle)),
                    _ => assert_eq!(park_on(handle).is_ok(), n % 2 == 0),
                }
            }
            old.iter().for_each(everything);
            assert_eq!(outputs.count(), 20, "each dropped once");
            stop.send(()).unwrap();
            assert_eq!(next.join().unwrap(), (60, 0), "nobody was polled but once, to begin with");
        }
    });
}

#[test]
fn a_generation_that_comes_round_again_is_a_poll_that_nobody_needed() {
    // [WAKER-2]: after four million tasks in one header its first waker names a task again; or until time is up.
    must_end(|| {
        block_on(async {
            let start = Instant::now();
            let first = try_spawn(pending::<()>()).unwrap();
            let id = first.id();
            first.abort();
            drop(first);
            yield_now().await;
            let waker = stale_waker().await;
            let (mut reuses, mut again) = (1_u32, None);
            while start.elapsed() < Duration::from_secs(3) {
                reuses += 1;
                let task = try_spawn(async {}).unwrap();
                if task.id() == id {
                    again = Some(task);
                    break;
                }
                drop(task);
                yield_now().await;
            }
            println!("{reuses} reuses of one header");
            let Some(task) = again else { return };
            assert_eq!(reuses, 1 << 22);
            task.await.unwrap();
            // The next one has the generation of `waker`.
            let polls = Arc::new(AtomicUsize::new(0));
            let task = counted(&polls);
            yield_now().await;
            everything(&waker);
            look_around().await;
            elsewhere(|| everything(&waker));
            look_around().await;
            assert_eq!(polls.load(Ordering::SeqCst), 3, "one poll here, and one from there");
            task.abort();
            assert!(task.await.unwrap_err().is_cancelled());
        });
    });
}

#[test]
fn a_joiner_behind_wrapped_wakers_is_told_once_each_and_keeps_nothing() {
    block_on(async {
        let gate = Gate::new();
        let mut handle = try_spawn(gate.wait()).unwrap();
        let (waker, hooks) = Hooks::new();
        let mut wrapped = waker.clone();
        for _ in 0..50 {
            wrapped = Waker::from(Arc::new(Wrapped(wrapped)));
            // From here and from there in turn, each in place of the last.
            assert!(poll_with(Pin::new(&mut handle), &wrapped).is_pending());
            elsewhere(|| assert!(poll_with(Pin::new(&mut handle), &wrapped).is_pending()));
        }
        drop(wrapped);
        drop(waker);
        handle.abort();
        assert!(handle.await.unwrap_err().is_cancelled());
        look_around().await;
        assert_eq!((hooks.wakers_left(), metrics().headers), (0, 1));
    });
}
