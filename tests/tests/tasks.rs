//! The life of one task, seen from its own thread.
#![allow(clippy::waker_clone_wake, reason = "a wake by value and one by reference are two functions")]

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use anteroom::{JoinHandle, block_on, metrics, spawn, spawn_local, try_spawn, yield_now};
use anteroom_tests::{Drops, Gate, Tracked, Wakes, look_around, poll_once, poll_with};

/// A future that calls `f` at each poll.
async fn each_poll<T>(f: impl FnMut(&mut Context<'_>) -> Poll<T>) -> T {
    poll_fn(f).await
}

#[test]
fn a_wake_during_a_poll_polls_again() {
    // bugs.md 36
    block_on(async {
        let polls = Rc::new(Cell::new(0));
        let task = spawn_local({
            let polls = polls.clone();
            each_poll(move |cx| {
                polls.set(polls.get() + 1);
                match polls.get() {
                    // By reference, by value, more than once, and by a waker of an earlier poll: once more each time.
                    1 => cx.waker().wake_by_ref(),
                    2 => cx.waker().clone().wake(),
                    3 => (0..10).for_each(|_| cx.waker().wake_by_ref()),
                    4 => return Poll::Ready(()),
                    _ => unreachable!(),
                }
                Poll::Pending
            })
        });
        task.await.unwrap().await.unwrap();
        assert_eq!(polls.get(), 4);
    });
}

#[test]
fn however_often_a_task_is_woken_it_is_polled_once() {
    block_on(async {
        let (polls, waker) = (Rc::new(Cell::new(0)), Rc::new(RefCell::new(None::<Waker>)));
        let task = spawn_local({
            let (polls, waker) = (polls.clone(), waker.clone());
            each_poll(move |cx| -> Poll<()> {
                polls.set(polls.get() + 1);
                *waker.borrow_mut() = Some(cx.waker().clone());
                Poll::Pending
            })
        });
        let task = task.await.unwrap();
        yield_now().await;
        for round in 2..10 {
            let waker = waker.borrow_mut().take().unwrap();
            (0..5).for_each(|_| waker.clone().wake());
            waker.wake();
            yield_now().await;
            yield_now().await;
            assert_eq!(polls.get(), round);
        }
        task.abort();
    });
}

#[test]
fn a_stale_waker_wakes_nobody() {
    // [WAKER-2]
    block_on(async {
        let mut stale: Vec<Waker> = Vec::new();
        for _ in 0..100 {
            let kept = spawn(poll_fn(|cx| Poll::Ready(cx.waker().clone()))).join().await.unwrap();
            // The same header again, one generation on.
            let polls = Rc::new(Cell::new(0));
            let task = spawn_local({
                let polls = polls.clone();
                each_poll(move |_| -> Poll<()> {
                    polls.set(polls.get() + 1);
                    Poll::Pending
                })
            });
            let task = task.await.unwrap();
            yield_now().await;
            stale.push(kept);
            for waker in &stale {
                waker.wake_by_ref();
                waker.clone().wake();
            }
            yield_now().await;
            assert_eq!(polls.get(), 1);
            task.abort();
            assert!(task.await.unwrap_err().is_cancelled());
        }
    });
}

#[test]
fn a_waker_knows_its_own_kind() {
    block_on(async {
        let own = || poll_fn(|cx| Poll::Ready((cx.waker().clone(), cx.waker().will_wake(cx.waker()))));
        let one = try_spawn(async move { (own().await, yield_now().await, own().await) }).unwrap();
        let two = try_spawn(own()).unwrap();
        let ((first, same), (), (later, _)) = one.await.unwrap();
        let (other, _) = two.await.unwrap();
        assert!(same && first.will_wake(&later) && !first.will_wake(&other));
    });
}

#[test]
fn tasks_run_in_the_order_in_which_they_became_ready() {
    block_on(async {
        let order = Rc::new(RefCell::new(Vec::new()));
        let mut tasks = Vec::new();
        for n in 0..10 {
            let order = order.clone();
            let job = async move {
                for round in 0..3 {
                    order.borrow_mut().push(round * 10 + n);
                    yield_now().await;
                }
            };
            tasks.push(spawn_local(job).await.unwrap());
        }
        for task in tasks {
            task.await.unwrap();
        }
        assert!(order.borrow().iter().copied().eq(0..30), "{order:?}");
    });
}

/// A task whose future is tracked, and how often it was polled.
fn tracked_task(drops: &Drops, gate: &Gate) -> (JoinHandle<u8>, Arc<Mutex<usize>>) {
    let (tracked, mut wait, polls) = (drops.track(), gate.wait(), Arc::new(Mutex::new(0)));
    let counted = polls.clone();
    let future = poll_fn(move |cx| {
        let _keep: &Tracked = &tracked;
        *counted.lock().unwrap() += 1;
        Pin::new(&mut wait).poll(cx).map(|()| 9)
    });
    (try_spawn(future).unwrap(), polls)
}

#[test]
fn an_abort_drops_the_future_whatever_its_task_does() {
    block_on(async {
        let (drops, gate) = (Drops::new(), Gate::new());
        let cancelled = async |handle: JoinHandle<u8>, drops_before: usize| {
            assert!(handle.await.unwrap_err().is_cancelled());
            assert_eq!(drops.count(), drops_before + 1);
        };
        // Scheduled, never polled: it never is.
        let (handle, polls) = tracked_task(&drops, &gate);
        handle.abort();
        assert_eq!(drops.count(), 0, "it is dropped at its turn, not in the call");
        cancelled(handle, 0).await;
        assert_eq!(*polls.lock().unwrap(), 0);

        // Idle, and twice.
        let (handle, polls) = tracked_task(&drops, &gate);
        yield_now().await;
        handle.abort();
        handle.abort();
        cancelled(handle, 1).await;
        assert_eq!(*polls.lock().unwrap(), 1);

        // Detached after it.
        let (handle, _) = tracked_task(&drops, &gate);
        yield_now().await;
        handle.abort();
        drop(handle);
        yield_now().await;
        assert_eq!((drops.count(), metrics().headers), (3, 1));

        // Woken, and then aborted.
        let (handle, polls) = tracked_task(&drops, &gate);
        yield_now().await;
        gate.open();
        handle.abort();
        cancelled(handle, 3).await;
        assert_eq!(*polls.lock().unwrap(), 1);

        // Done: it keeps its output.
        let (handle, _) = tracked_task(&drops, &gate);
        yield_now().await;
        handle.abort();
        assert_eq!((handle.is_finished(), drops.count()), (true, 5));
        assert_eq!(handle.await.unwrap(), 9);
    });
}

#[test]
fn a_task_may_abort_itself_in_its_own_poll() {
    block_on(async {
        for ready in [false, true] {
            let (drops, own) = (Drops::new(), Rc::new(RefCell::new(None::<JoinHandle<u8>>)));
            let (tracked, slot) = (drops.track(), own.clone());
            let future = poll_fn(move |cx| {
                let _keep = &tracked;
                slot.borrow().as_ref().unwrap().abort();
                cx.waker().wake_by_ref();
                if ready { Poll::Ready(5) } else { Poll::Pending }
            });
            let handle = spawn_local(future).await.unwrap();
            *own.borrow_mut() = Some(handle);
            look_around().await;
            assert_eq!(drops.count(), 1);
            let handle = own.borrow_mut().take().unwrap();
            match handle.await {
                Ok(value) => assert!(ready && value == 5, "it was done before the abort could take hold"),
                Err(error) => assert!(!ready && error.is_cancelled()),
            }
        }
    });
}

#[test]
fn a_future_may_drop_and_abort_its_own_handle_in_its_drop() {
    /// Holds the handle of the task that holds it.
    struct Own(Rc<RefCell<Option<JoinHandle<()>>>>, #[allow(dead_code, reason = "for its drop")] Tracked);
    impl Drop for Own {
        fn drop(&mut self) {
            if let Some(handle) = self.0.borrow_mut().take() {
                handle.abort();
                drop(handle);
            }
        }
    }
    block_on(async {
        let drops = Drops::new();
        for aborted in [false, true] {
            let slot = Rc::new(RefCell::new(None));
            let own = Own(slot.clone(), drops.track());
            let handle = spawn_local(async move { (yield_now().await, own).0 }).await.unwrap();
            if aborted {
                handle.abort();
            }
            *slot.borrow_mut() = Some(handle);
            drop(slot);
            look_around().await;
        }
        assert_eq!((drops.count(), metrics().tasks_live, metrics().headers), (2, 0, 1));
    });
}

#[test]
fn an_output_is_dropped_once_whoever_lets_it_go() {
    block_on(async {
        let drops = Drops::new();
        let gate = Gate::new();
        let task = || {
            let (tracked, wait) = (drops.track(), gate.wait());
            try_spawn(async move { (wait.await, tracked).1 }).unwrap()
        };
        let (detached, kept, taken) = (task(), task(), task());
        drop(detached);
        yield_now().await;
        assert_eq!(drops.count(), 0);
        gate.open();
        look_around().await;
        assert_eq!(drops.count(), 1, "the detached one");
        drop(kept);
        assert_eq!(drops.count(), 2);
        drop(taken.await.unwrap());
        assert_eq!((drops.count(), metrics().headers), (3, 1));
    });
}

#[test]
fn a_handle_wakes_the_waker_of_its_latest_poll() {
    block_on(async {
        let gate = Gate::new();
        let mut handle = try_spawn(gate.wait()).unwrap();
        let ((first, told_first), (second, told_second)) = (Wakes::new(), Wakes::new());
        for waker in [&first, &second, &first, &second] {
            assert!(poll_with(Pin::new(&mut handle), waker).is_pending());
        }
        gate.open();
        look_around().await;
        assert_eq!((told_first.count(), told_second.count()), (0, 1));
        // From a task to another's waker and back: neither is told twice.
        assert!(poll_with(Pin::new(&mut handle), &first).is_ready());
        assert!(catch_unwind(AssertUnwindSafe(|| poll_once(Pin::new(&mut handle)))).is_err());
        assert!(handle.id().is_none() && handle.is_finished());
        handle.abort();
    });
}

#[test]
fn futures_and_outputs_of_any_size_and_alignment_lie_well() {
    #[derive(Clone, Copy, Debug, PartialEq)]
    #[repr(align(128))]
    struct Wide(u8);
    /// Looks at where it lies.
    struct Aligned<T>(T, bool);
    impl<T: Copy + Unpin> Future for Aligned<T> {
        type Output = T;
        fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
            assert!(std::ptr::from_ref(&self.0).is_aligned());
            if std::mem::replace(&mut self.1, true) {
                return Poll::Ready(self.0);
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    }
    async fn check<T: Copy + Unpin + Send + PartialEq + std::fmt::Debug + 'static>(value: T) {
        for _ in 0..3 {
            assert_eq!(spawn(Aligned(value, false)).join().await.unwrap(), value);
            let kept = spawn(Aligned(value, false)).await.unwrap();
            look_around().await;
            assert_eq!(kept.await.unwrap(), value);
        }
    }
    block_on(async {
        check(()).await;
        check(1_u8).await;
        check([1_u64, 2]).await;
        check((1_u128, 2_u8)).await;
        check([3_u8; 15]).await;
        check(Wide(4)).await;
        check([Wide(5); 100]).await;
        check([6_u8; 5_000]).await;
    });
}
