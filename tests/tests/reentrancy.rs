//! Wakers that come back to the runtime that wakes, clones or drops them.
//!
//! bugs.md 35: no user code runs while anything is borrowed or locked, so nothing here panics or hangs.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anteroom::net::{TcpListener, TcpStream};
use anteroom::time::{self, Sleep, sleep};
use anteroom::{JoinHandle, Runtime, Spawn, metrics, spawn, spawn_blocking, try_spawn, yield_now};
use anteroom_tests::{Endless, Gate, Hooks, Unordered, look_around, must_end, poll_once, poll_with};

fn runtime(max_tasks: usize) -> Runtime {
    Runtime::builder().max_tasks(max_tasks).build().unwrap()
}

type Parked = Pin<Box<Spawn<std::future::Ready<usize>>>>;

/// A place for what a waker shall play with.
fn shared<T>(value: T) -> Arc<Mutex<T>> {
    Arc::new(Mutex::new(value))
}

#[test]
fn a_spawners_waker_may_spawn_drop_and_poll_other_spawns() {
    // [ADMIT-1] [ADMIT-3]
    runtime(2).block_on(async {
        let gate = Gate::new();
        let holders = [(); 2].map(|()| try_spawn(gate.wait()).unwrap());
        let others: Arc<Mutex<Vec<Parked>>> = shared(Vec::new());
        let (waker, hooks) = Hooks::new();
        hooks.on_wake({
            let others = others.clone();
            move || {
                // Admission is in the midst of granting when this runs.
                let gone = others.lock().unwrap().pop();
                drop(gone);
                let polled = others.lock().unwrap().pop();
                if let Some(mut polled) = polled {
                    let _ = poll_once(polled.as_mut());
                }
                if let Ok(handle) = try_spawn(async {}) {
                    handle.abort();
                }
                assert!(metrics().tasks_live <= 2);
            }
        });
        let mut waiting: Vec<Parked> = (0..50).map(|n| Box::pin(spawn(std::future::ready(n)))).collect();
        for spawn in &mut waiting {
            assert!(poll_with(spawn.as_mut(), &waker).is_pending());
        }
        others.lock().unwrap().extend(waiting.drain(20..));
        gate.open();
        look_around().await;
        assert_eq!((metrics().waiting, metrics().tasks_live), (0, 0));
        assert!(hooks.wakes() >= 20);
        drop((waiting, holders));
    });
}

#[test]
fn a_waker_that_drops_the_head_when_it_is_dropped_itself_strands_nobody() {
    let runtime = Runtime::builder().max_task_bytes(1_000).build().unwrap();
    runtime.block_on(async {
        let _holder = try_spawn(Endless::<600>::NEW).unwrap();
        let mut head = Box::pin(spawn(Endless::<900>::NEW));
        assert!(poll_once(head.as_mut()).is_pending());
        let mut second = Box::pin(spawn(Endless::<100>::NEW));
        let (waker, hooks) = Hooks::new();
        assert!(poll_with(second.as_mut(), &waker).is_pending());
        let head = shared(Some(head));
        hooks.on_drop(move || drop(head.lock().unwrap().take()));
        // The new waker takes the place of the old, whose drop lets `second` in.
        let (new, told) = Hooks::new();
        assert!(poll_with(second.as_mut(), &new).is_pending());
        assert_eq!((told.wakes(), metrics().waiting), (1, 0));
        assert!(poll_with(second.as_mut(), &new).is_ready());
    });
}

#[test]
fn a_waker_that_drops_the_head_when_it_is_cloned_strands_nobody() {
    let runtime = Runtime::builder().max_task_bytes(1_000).build().unwrap();
    runtime.block_on(async {
        let _holder = try_spawn(Endless::<600>::NEW).unwrap();
        let mut head = Box::pin(spawn(Endless::<900>::NEW));
        assert!(poll_once(head.as_mut()).is_pending());
        let mut second = Box::pin(spawn(Endless::<100>::NEW));
        assert!(poll_once(second.as_mut()).is_pending());
        let (waker, hooks) = Hooks::new();
        let head = shared(Some(head));
        hooks.on_clone(move || drop(head.lock().unwrap().take()));
        // The clone lets `second` in while its frame is being polled: it is ready, or it is told.
        let polled = poll_with(second.as_mut(), &waker);
        assert_eq!(metrics().waiting, 0);
        assert!(polled.is_ready() || hooks.wakes() == 1);
    });
}

#[test]
fn a_waker_that_moves_the_clock_when_it_is_cloned_is_told_of_its_timer() {
    let runtime = Runtime::builder().paused_clock(true).build().unwrap();
    runtime.block_on(async {
        let mut waits = Box::pin(sleep(Duration::from_secs(1)));
        assert!(poll_once(waits.as_mut()).is_pending());
        let (waker, hooks) = Hooks::new();
        hooks.on_clone(|| {
            assert!(poll_once(std::pin::pin!(time::advance(Duration::from_secs(2)))).is_pending())
        });
        let polled = poll_with(waits.as_mut(), &waker);
        assert!(polled.is_ready() || hooks.wakes() == 1);
    });
}

#[test]
fn a_joiners_waker_may_spawn_abort_and_drop_other_handles() {
    runtime(100).block_on(async {
        let others: Arc<Mutex<Vec<JoinHandle<usize>>>> = shared(Vec::new());
        let (waker, hooks) = Hooks::new();
        let play = {
            let others = others.clone();
            move || {
                let other = others.lock().unwrap().pop();
                if let Some(other) = other {
                    other.abort();
                    drop(other);
                }
                drop(try_spawn(async {}));
            }
        };
        hooks.on_wake(play.clone());
        hooks.on_clone(play.clone());
        hooks.on_drop(play);
        for round in 0..3 {
            let gate = Gate::new();
            let task = |n: usize| {
                let gate = gate.clone();
                async move { (gate.wait().await, n).1 }
            };
            others.lock().unwrap().extend((0..40).map(|n| try_spawn(task(n)).unwrap()));
            let mut joined: Vec<_> = (0..20).map(|n| try_spawn(task(n)).unwrap()).collect();
            for handle in &mut joined {
                assert!(poll_with(Pin::new(handle), &waker).is_pending());
            }
            gate.open();
            look_around().await;
            if round == 1 {
                // Detached before they are joined: their wakers are dropped, which plays too.
                drop(joined);
                continue;
            }
            for handle in joined {
                handle.await.unwrap();
            }
            others.lock().unwrap().clear();
        }
        hooks.clear();
        look_around().await;
        assert_eq!((metrics().tasks_live, metrics().headers, hooks.wakers_left()), (0, 1, 1));
    });
}

#[test]
fn a_timers_waker_may_set_and_drop_other_timers() {
    // [DRIVER-1]
    let runtime = Runtime::builder().paused_clock(true).build().unwrap();
    runtime.block_on(async {
        let others: Arc<Mutex<Vec<Pin<Box<Sleep>>>>> = shared(Vec::new());
        let (waker, hooks) = Hooks::new();
        hooks.on_wake({
            let others = others.clone();
            move || {
                // The wheel is in the midst of firing this very tick when this runs.
                let gone = others.lock().unwrap().pop();
                drop(gone);
                let mut new = Box::pin(sleep(Duration::from_millis(1)));
                let _ = poll_once(new.as_mut());
                others.lock().unwrap().insert(0, new);
                let mut past = Box::pin(time::sleep_until(time::now()));
                assert!(poll_once(past.as_mut()).is_ready(), "a deadline that has come is ready at once");
            }
        });
        let mut sleeps: Vec<_> = (0..20).map(|_| Box::pin(sleep(Duration::from_secs(1)))).collect();
        for sleep in &mut sleeps {
            assert!(poll_with(sleep.as_mut(), &waker).is_pending());
        }
        others.lock().unwrap().extend(sleeps.drain(10..));
        time::advance(Duration::from_secs(2)).await;
        assert!((10..=20).contains(&hooks.wakes()), "{}", hooks.wakes());
        hooks.clear();
        others.lock().unwrap().clear();
        drop(sleeps);
        assert_eq!(metrics().timers, 0);
    });
}

#[test]
fn a_sockets_waker_may_close_and_open_others_with_events_of_the_same_turn() {
    // bugs.md 46: the events of the closed ones are in the same batch, and the new ones have their numbers.
    // [DRIVER-1] [REACTOR-1]
    anteroom::block_on(async {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut peers = Vec::new();
        let mut open = || {
            let stream = TcpStream::from_std(std::net::TcpStream::connect(address).unwrap()).unwrap();
            peers.push(listener.accept().unwrap().0);
            stream
        };
        let victims: Arc<Mutex<Vec<TcpStream>>> = shared((0..10).map(|_| open()).collect());
        let fresh: Arc<Mutex<Vec<TcpListener>>> = shared(Vec::new());
        let (waker, hooks) = Hooks::new();
        hooks.on_wake({
            let (victims, fresh) = (victims.clone(), fresh.clone());
            move || {
                let victim = victims.lock().unwrap().pop();
                if victim.is_some() {
                    drop(victim);
                    let new = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
                    fresh.lock().unwrap().push(TcpListener::from_std(new).unwrap());
                }
            }
        });
        let streams: Vec<_> = (0..10).map(|_| open()).collect();
        for stream in &streams {
            let mut buffer = [0];
            let mut read = Box::pin(stream.read(&mut buffer));
            assert!(poll_with(read.as_mut(), &waker).is_pending());
        }
        for peer in &mut peers {
            std::io::Write::write_all(peer, b"x").unwrap();
        }
        while hooks.wakes() < 10 {
            sleep(Duration::from_micros(200)).await;
        }
        let fresh = std::mem::take(&mut *fresh.lock().unwrap());
        assert_eq!((fresh.len(), metrics().io_sources), (10, 20));
        for listener in fresh {
            let accept = async { listener.accept().await.unwrap() };
            let mut accept = Box::pin(accept);
            assert!(poll_once(accept.as_mut()).is_pending(), "nobody has connected to it");
            let _client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            accept.await;
        }
    });
}

#[test]
fn a_blocking_jobs_waker_may_come_back_to_the_pool() {
    must_end(|| {
        Runtime::builder().blocking_threads(1).blocking_queue(0).build().unwrap().block_on(async {
            let (waker, hooks) = Hooks::new();
            let next = shared(Some(Box::pin(spawn_blocking(|| 2))));
            hooks.on_wake({
                let next = next.clone();
                move || drop(next.lock().unwrap().take())
            });
            let (go, at_go) = std::sync::mpsc::channel();
            let mut job = Box::pin(spawn_blocking(move || at_go.recv().map_or(0, |()| 1)));
            assert!(poll_with(job.as_mut(), &waker).is_pending());
            if let Some(next) = &mut *next.lock().unwrap() {
                assert!(poll_once(next.as_mut()).is_pending());
            }
            go.send(()).unwrap();
            assert_eq!(job.await.unwrap(), 1);
            drop(next.lock().unwrap().take());
            assert_eq!(spawn_blocking(|| 3).await.unwrap(), 3);
        });
    });
}

#[test]
fn spawns_inside_a_combinator_all_get_in_and_in_order() {
    runtime(3).block_on(async {
        let started = Arc::new(AtomicUsize::new(0));
        let mut all: Unordered<_> = (0..500)
            .map(|n| {
                let started = started.clone();
                let job = async move {
                    let turn = started.fetch_add(1, Ordering::Relaxed);
                    for _ in 0..n % 4 {
                        yield_now().await;
                    }
                    turn
                };
                spawn(job).join()
            })
            .collect();
        let mut done = 0;
        while let Some((n, turn)) = all.next().await {
            assert_eq!(turn.unwrap(), n, "first come, first served");
            done += 1;
        }
        assert_eq!((done, metrics().tasks_live_peak, metrics().tasks_live), (500, 3, 0));
    });
}

#[test]
fn a_combinator_that_is_dropped_halfway_leaves_nothing() {
    runtime(3).block_on(async {
        for taken in [0, 1, 2, 50] {
            let job = async || {
                yield_now().await;
                yield_now().await;
            };
            let mut all: Unordered<_> = (0..100).map(|_| spawn(job()).join()).collect();
            for _ in 0..taken {
                all.next().await.unwrap().1.unwrap();
            }
            drop(all);
            look_around().await;
            assert_eq!((metrics().tasks_live, metrics().waiting, metrics().headers), (0, 0, 1));
        }
    });
}
