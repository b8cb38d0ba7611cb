//! How often anybody is polled: as often as there is news, in a turn that is not long in coming, and else not at all.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use anteroom::net::TcpListener;
use anteroom::{Runtime, block_on, metrics, spawn, spawn_local, time, try_spawn, yield_now};
use anteroom_limiter::Semaphore;
use anteroom_tests::{Gate, Unordered, must_end, poll_once};

/// Counts the polls of what it holds.
struct Counted<F> {
    inner: Pin<Box<F>>,
    polls: usize,
}

impl<F: Future> Future for Counted<F> {
    type Output = (F::Output, usize);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.polls += 1;
        let polls = self.polls;
        self.inner.as_mut().poll(cx).map(|output| (output, polls))
    }
}

fn counted<F: Future>(future: F) -> Counted<F> {
    Counted { inner: Box::pin(future), polls: 0 }
}

#[test]
fn a_spawner_is_polled_once_to_wait_and_once_to_be_told() {
    // bugs.md 11
    Runtime::builder().max_tasks(3).build().unwrap().block_on(async {
        let job = |n: usize| async move {
            for _ in 0..n % 5 {
                yield_now().await;
            }
        };
        let mut all: Unordered<_> = (0..1_000).map(|n| counted(spawn(job(n)))).collect();
        let mut waited = 0;
        while let Some((_, (handle, polls))) = all.next().await {
            assert!(polls <= 2, "{polls} polls for one place");
            waited += usize::from(polls == 2);
            drop(handle.unwrap());
        }
        assert!(waited > 900, "{waited} waited");
    });
}

#[test]
fn an_acquirer_is_polled_once_to_wait_and_once_to_be_told() {
    // bugs.md 11
    block_on(async {
        let semaphore = Arc::new(Semaphore::new(3));
        let job = |n: usize| {
            let semaphore = semaphore.clone();
            async move {
                let (permit, polls) = counted(semaphore.acquire_many(n % 3 + 1)).await;
                let permit = permit.unwrap();
                yield_now().await;
                drop(permit);
                polls
            }
        };
        let tasks: Vec<_> = (0..1_000).map(|n| try_spawn(job(n)).unwrap()).collect();
        for task in tasks {
            let polls = task.await.unwrap();
            assert!(polls <= 2, "{polls} polls for one permit");
        }
    });
}

#[test]
fn a_third_task_has_its_turn_between_any_two_rounds_of_two_that_wake_each_other() {
    // bugs.md 30: each turn, and not on average; woken by value, by reference, and through another's waker.
    struct Wrapped(Waker);
    impl std::task::Wake for Wrapped {
        fn wake(self: Arc<Self>) {
            self.0.wake_by_ref();
        }
    }
    block_on(async {
        let rounds = Rc::new(Cell::new(0_usize));
        let wakers = Rc::new(RefCell::new([const { None::<Waker> }; 2]));
        let play = |me: usize| {
            let (rounds, wakers) = (rounds.clone(), wakers.clone());
            poll_fn(move |cx| {
                wakers.borrow_mut()[me] = Some(match rounds.get() % 3 {
                    0 => cx.waker().clone(),
                    _ => Waker::from(Arc::new(Wrapped(cx.waker().clone()))),
                });
                if rounds.get() % 2 == me {
                    rounds.set(rounds.get() + 1);
                    let other = wakers.borrow_mut()[1 - me].take();
                    if let Some(other) = other {
                        if rounds.get() % 5 == 0 { other.wake() } else { other.wake_by_ref() }
                    }
                }
                if rounds.get() > 3_000 { Poll::Ready(()) } else { Poll::Pending }
            })
        };
        let (ping, pong) = (spawn_local(play(0)).await.unwrap(), spawn_local(play(1)).await.unwrap());
        let (mut before, mut most) = (0, 0);
        while !ping.is_finished() {
            yield_now().await;
            most = most.max(rounds.get() - before);
            before = rounds.get();
        }
        assert!((1..=2).contains(&most), "{most} rounds without a turn for the third");
        assert!(before > 3_000);
        pong.abort();
    });
}

#[test]
fn a_runtime_that_waits_is_not_woken() {
    // bugs.md 11, 51: a timer far off, a socket, a spawner in line and a task that waits, and nothing happens. From
    // outside, `.ci/idle.sh` looks for ten seconds.
    must_end(|| {
        Runtime::builder().max_tasks(3).build().unwrap().block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            drop(try_spawn(async move { listener.accept().await.map(drop) }).unwrap());
            drop(try_spawn(time::sleep(Duration::from_secs(1_000))).unwrap());
            let gate = Gate::new();
            let opened = spawn(gate.wait()).await.unwrap();
            let mut waiting = Box::pin(spawn(async {}));
            assert!(poll_once(waiting.as_mut()).is_pending());
            let polls = Arc::new(AtomicUsize::new(0));
            let counted = polls.clone();
            let opener = thread::spawn(move || {
                thread::sleep(Duration::from_millis(500));
                let polls = counted.load(Ordering::SeqCst);
                gate.open();
                polls
            });
            time::sleep(Duration::from_millis(50)).await;
            polls.store(0, Ordering::SeqCst);
            let before = waits_of_this_thread();
            let mut opened = opened;
            poll_fn(|cx| {
                polls.fetch_add(1, Ordering::SeqCst);
                Pin::new(&mut opened).poll(cx)
            })
            .await
            .unwrap();
            let waits = waits_of_this_thread() - before;
            assert_eq!(opener.join().unwrap(), 1, "polled to wait, and not again");
            // One wait; a lock that another thread holds, or a page that must be read, may be another. A timer each tick
            // would be four thousand.
            assert!(waits < 20, "{waits} waits in half a second");
            assert_eq!((metrics().timers, metrics().io_sources), (1, 1));
        });
    });
}

/// How often this thread gave its processor away because it had to wait.
fn waits_of_this_thread() -> u64 {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
