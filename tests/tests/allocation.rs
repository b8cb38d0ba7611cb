//! What waits costs no memory, and what is warm allocates nothing.
//!
//! With AddressSanitizer every block goes back to the allocator, so that it sees its end; there is nothing to count then.
#![cfg(not(anteroom_asan))]

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use anteroom::net::{TcpListener, TcpStream};
use anteroom::time::{interval, sleep, timeout};
use anteroom::{Runtime, Spawn, metrics, spawn, spawn_local, try_spawn, yield_now};
use anteroom_tests::{Counting, Drops, Gate, Tracked, allocations, poll_once};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Runs `work` until it is warm, then once more, which must allocate nothing.
async fn allocates_nothing_once_warm(what: &str, mut work: impl AsyncFnMut()) {
    for _ in 0..3 {
        work().await;
    }
    let before = allocations();
    work().await;
    assert_eq!(allocations() - before, 0, "{what}");
}

/// Tells its address at its first poll and counts its polls; large enough that it would need a block of its own.
struct Watched {
    seen: Rc<Seen>,
    dropped: Tracked,
    yields_left: u32,
    bytes: [u8; 500],
}

#[derive(Default)]
struct Seen {
    polls: std::cell::Cell<usize>,
    polled_at: std::cell::Cell<usize>,
}

impl Watched {
    fn new(drops: &Drops) -> (Self, Rc<Seen>) {
        let seen = Rc::new(Seen::default());
        (Self { seen: seen.clone(), dropped: drops.track(), yields_left: 1, bytes: [7; 500] }, seen)
    }
}

impl Future for Watched {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        assert!(self.bytes.iter().all(|&byte| byte == 7));
        let at = std::ptr::from_ref(&self.dropped).addr();
        if self.seen.polls.get() == 0 {
            self.seen.polled_at.set(at);
        }
        assert_eq!(self.seen.polled_at.get(), at, "a future that was polled never moves");
        self.seen.polls.set(self.seen.polls.get() + 1);
        match self.yields_left.checked_sub(1) {
            None => Poll::Ready(()),
            Some(left) => {
                self.yields_left = left;
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }
}

#[test]
fn a_thousand_spawners_at_the_limit_allocate_nothing() {
    let runtime = Runtime::builder().max_tasks(1).build().unwrap();
    let burst = || -> Vec<_> {
        let job = |n| {
            let numbers = [n; 100];
            async move { (yield_now().await, numbers).1.len() }
        };
        (0..1_000).map(|n| Box::pin(spawn(job(n)))).collect()
    };
    runtime.block_on(async {
        for round in 0..3 {
            let holder = try_spawn(std::future::pending::<()>()).unwrap();
            let mut waiting = burst();
            let before = allocations();
            for spawn in &mut waiting {
                assert!(poll_once(spawn.as_mut()).is_pending());
            }
            if round > 0 {
                assert_eq!(allocations() - before, 0, "a wait recycles its node and its entry");
            }
            assert_eq!((metrics().waiting, metrics().tasks_live, metrics().headers), (1_000, 1, 2));

            // Half of them give up; the others are let in, one after another, and nothing is allocated for that either.
            let rest = waiting.split_off(500);
            let before = allocations();
            drop(waiting);
            holder.abort();
            let mut handles = 0;
            for spawn in rest {
                assert_eq!(spawn.join_boxed().await, 100);
                handles += 1;
            }
            if round > 0 {
                assert_eq!(
                    (handles, allocations() - before),
                    (500, 0),
                    "admission recycles bodies and headers"
                );
            }
            assert_eq!(metrics().waiting, 0);
        }
    });
}

/// Awaits a spawn that lies in a box already, and then its task.
trait JoinBoxed<T> {
    async fn join_boxed(self) -> T;
}

impl<F: Future> JoinBoxed<F::Output> for Pin<Box<Spawn<F>>> {
    async fn join_boxed(self) -> F::Output {
        self.await.unwrap().await.unwrap()
    }
}

#[test]
fn a_waiting_future_is_neither_polled_nor_moved() {
    let runtime = Runtime::builder().max_tasks(1).build().unwrap();
    runtime.block_on(async {
        let gate = Gate::new();
        let holder = spawn(gate.wait()).await.unwrap();
        let drops = Drops::new();

        let (future, seen_given_up) = Watched::new(&drops);
        let mut given_up = Box::pin(spawn_local(future));
        let frame = std::ptr::from_ref(&*given_up).addr();
        let frame = frame..frame + size_of_val(&*given_up);
        let (future, seen_let_in) = Watched::new(&drops);
        let mut let_in = Box::pin(spawn_local(future));
        for _ in 0..100 {
            assert!(poll_once(given_up.as_mut()).is_pending());
            assert!(poll_once(let_in.as_mut()).is_pending());
            yield_now().await;
        }

        drop(given_up);
        assert_eq!(seen_given_up.polls.get(), 0);
        assert!(frame.contains(&drops.addresses()[0]), "it was dropped where its spawner had built it");

        gate.open();
        let task = let_in.await.unwrap();
        assert_eq!(seen_let_in.polls.get(), 1, "it was queued before its spawner was told");
        task.await.unwrap();
        assert_eq!(seen_let_in.polls.get(), 2);
        assert_eq!(drops.addresses()[1], seen_let_in.polled_at.get(), "it is dropped where it was polled");
        holder.await.unwrap();
    });
}

#[test]
fn a_spawn_holds_its_future_and_a_few_words() {
    fn overhead<F: Future + Send + 'static>(future: F) -> usize
    where
        F::Output: Send,
    {
        size_of_val(&spawn(future)) - size_of::<F>()
    }
    assert!(overhead(std::future::ready([0_u64; 100])) <= 48);
    assert!(overhead(std::future::ready(())) <= 48 + 8);
}

#[test]
fn spawn_and_join_allocate_nothing() {
    anteroom::block_on(async {
        allocates_nothing_once_warm("ready at once", async || {
            for n in 0..100 {
                assert_eq!(spawn(async move { n }).await.unwrap().await.unwrap(), n);
            }
        })
        .await;
        allocates_nothing_once_warm("large, local, joined in one", async || {
            for _ in 0..100 {
                let bytes = [1_u8; 300];
                spawn_local(async move { (yield_now().await, bytes).1[0] }).join().await.unwrap();
            }
        })
        .await;
        allocates_nothing_once_warm("detached", async || {
            for _ in 0..100 {
                drop(spawn(yield_now()).await.unwrap());
            }
            yield_now().await;
            yield_now().await;
        })
        .await;
        allocates_nothing_once_warm("aborted", async || {
            for _ in 0..100 {
                let task = try_spawn(std::future::pending::<[u64; 9]>()).unwrap();
                task.abort();
                assert!(task.await.unwrap_err().is_cancelled());
            }
        })
        .await;
    });
}

#[test]
fn a_hundred_tasks_that_yield_allocate_nothing() {
    anteroom::block_on(async {
        let mut tasks = Vec::with_capacity(100);
        allocates_nothing_once_warm("yield", async || {
            for _ in 0..100 {
                let work = async {
                    for _ in 0..100 {
                        yield_now().await;
                    }
                };
                tasks.push(spawn(work).await.unwrap());
            }
            for task in tasks.drain(..) {
                task.await.unwrap();
            }
        })
        .await;
    });
}

#[test]
fn timers_allocate_nothing() {
    let runtime = Runtime::builder().paused_clock(true).build().unwrap();
    runtime.block_on(async {
        let mut ticks = interval(Duration::from_secs(1));
        allocates_nothing_once_warm("timers", async || {
            for n in 0..100 {
                sleep(Duration::from_micros(150 * n)).await;
                ticks.tick().await;
                let late = timeout(Duration::from_millis(n), std::future::pending::<()>());
                assert!(late.await.is_err());
            }
        })
        .await;
        // Many at once: the entries are recycled too.
        let mut sleeps = Vec::with_capacity(1_000);
        allocates_nothing_once_warm("a thousand timers", async || {
            for n in 0..1_000 {
                let mut waits = sleep(Duration::from_millis(n * 17 + 1));
                assert!(poll_once(Pin::new(&mut waits)).is_pending());
                sleeps.push(waits);
                // Each takes one of the 128 operations of a turn.
                yield_now().await;
            }
            assert_eq!(metrics().timers, 1_000);
            sleeps.clear();
        })
        .await;
    });
}

#[test]
fn a_tcp_echo_round_trip_allocates_nothing() {
    anteroom::block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let mut buffer = [0; 64];
            while let Ok(()) = stream.read_exact(&mut buffer).await {
                stream.write_all(&buffer).await.unwrap();
            }
        });
        let server = server.await.unwrap();
        let stream = TcpStream::connect(address).await.unwrap();
        let mut buffer = [0; 64];
        allocates_nothing_once_warm("echo", async || {
            for n in 0..100 {
                stream.write_all(&[n; 64]).await.unwrap();
                stream.read_exact(&mut buffer).await.unwrap();
                assert_eq!(buffer, [n; 64]);
            }
        })
        .await;
        drop(stream);
        server.await.unwrap();
    });
}
