//! Tasks, handles, wakers, timers, sockets and jobs that hold one another in circles: when the runtime is gone, nothing is left.
//!
//! Alone in its process, since every allocation of it is counted.

use std::future::{pending, poll_fn};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Wake, Waker};
use std::time::Duration;

use anteroom::net::TcpListener;
use anteroom::{JoinHandle, Runtime, metrics, spawn, spawn_blocking, time, try_spawn, yield_now};
use anteroom_tests::{Counting, Drops, Tracked, bytes_live, elsewhere, must_end, poll_with};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const DAY: Duration = Duration::from_secs(86_400);

/// What somebody shares with whoever is to find it there later.
type Slot<T> = Arc<Mutex<Option<T>>>;

fn slot<T>() -> Slot<T> {
    Arc::new(Mutex::new(None))
}

fn take<T>(slot: &Slot<T>) -> T {
    slot.lock().unwrap().take().expect("it was put there")
}

/// A waker that owns what it is to wake.
struct Owns(Mutex<Option<Box<dyn Send>>>, #[allow(dead_code, reason = "for its drop")] Tracked);

impl Wake for Owns {
    fn wake(self: Arc<Self>) {}
}

/// Polls `future` once with a waker that owns it from then on.
fn owned_by_its_waker<F: Future + Send + 'static>(drops: &Drops, future: F) {
    let owns = Arc::new(Owns(Mutex::new(None), drops.track()));
    let mut future = Box::pin(future);
    assert!(poll_with(future.as_mut(), &Waker::from(owns.clone())).is_pending());
    *owns.0.lock().unwrap() = Some(Box::new(future));
}

/// Leaves `keep` where it is until the runtime ends.
async fn hold<T>(keep: T) {
    pending::<()>().await;
    drop(keep);
}

/// Circles of all kinds; how many values are in them.
async fn circles(drops: &Drops) -> usize {
    let mut made = 0;
    let mut tracked = || {
        made += 1;
        drops.track()
    };

    // Two tasks that wait for each other, and one that waits for itself.
    let (left, right) = (slot::<JoinHandle<()>>(), slot::<JoinHandle<()>>());
    for (mine, others) in [(&left, &right), (&right, &left)] {
        let (others, keep) = (others.clone(), tracked());
        let task = spawn(async move {
            yield_now().await;
            take(&others).await.unwrap();
            drop(keep);
        });
        *mine.lock().unwrap() = Some(task.await.unwrap());
    }
    let own = slot::<JoinHandle<()>>();
    let (mine, keep) = (own.clone(), tracked());
    let task = spawn(async move {
        yield_now().await;
        take(&mine).await.unwrap();
        drop(keep);
    });
    *own.lock().unwrap() = Some(task.await.unwrap());

    // A task that keeps its own waker, and two that keep each other's, in what only they own.
    let wakers = [slot::<Waker>(), slot(), slot()];
    for (mine, others) in [(0, 0), (1, 2), (2, 1)] {
        let (mine, others, keep) = (wakers[mine].clone(), wakers[others].clone(), tracked());
        let task = spawn(async move {
            let keep = (keep, others);
            poll_fn(|cx| -> Poll<()> {
                *mine.lock().unwrap() = Some(cx.waker().clone());
                Poll::Pending
            })
            .await;
            drop(keep);
        });
        drop(task.await.unwrap());
    }
    drop(wakers);

    // Wakers that own the handle, the frame, the sleep, the socket and the job that they would wake.
    made += 6;
    owned_by_its_waker(drops, try_spawn(hold(drops.track())).unwrap());
    owned_by_its_waker(drops, time::sleep(DAY));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    owned_by_its_waker(drops, async move { listener.accept().await.map(drop) });
    made += 1;
    while metrics().tasks_live < metrics().tasks_max {
        drop(try_spawn(pending::<()>()).unwrap());
    }
    owned_by_its_waker(drops, spawn(hold(drops.track())));
    // The pool is busy with the first, and the others wait for room: queued, and in line.
    let (go, at_go) = std::sync::mpsc::channel::<()>();
    let mut busy = Box::pin(spawn_blocking(move || at_go.recv()));
    assert!(poll_with(busy.as_mut(), Waker::noop()).is_pending());
    owned_by_its_waker(drops, spawn_blocking(|| ()));
    owned_by_its_waker(drops, spawn_blocking(|| ()));
    drop(go);
    while poll_with(busy.as_mut(), Waker::noop()).is_pending() {
        yield_now().await;
    }
    made + 1
}

fn round() {
    let drops = Drops::new();
    let runtime = Runtime::builder().max_tasks(12).blocking_threads(1).blocking_queue(1).build().unwrap();
    let made = runtime.block_on(async {
        let made = circles(&drops).await;
        yield_now().await;
        yield_now().await;
        made
    });
    drop(runtime);
    // The pool's thread may be at the last of them.
    while drops.count() < made {
        std::thread::yield_now();
    }
    assert_eq!(drops.count(), made);
}

/// Threads of this process.
fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

#[test]
fn circles_of_everything_leave_no_allocation_behind() {
    // bugs.md 28
    must_end(|| {
        let at_rest = threads();
        let settle = || {
            while threads() > at_rest {
                std::thread::yield_now();
            }
        };
        for _ in 0..5 {
            round();
        }
        settle();
        let before = bytes_live();
        for _ in 0..20 {
            round();
        }
        settle();
        assert_eq!(bytes_live() - before, 0, "bytes more after 20 rounds");

        // With the runtime on another thread, whose home is then this one's.
        for _ in 0..20 {
            elsewhere(round);
        }
        settle();
        assert_eq!(bytes_live() - before, 0, "bytes more after 20 rounds elsewhere");
        anteroom::block_on(async {
            yield_now().await;
            assert_eq!((metrics().tasks_live, metrics().headers), (0, 1));
            assert_eq!(spawn(async { 1 }).join().await.unwrap(), 1);
        });
    });
}
