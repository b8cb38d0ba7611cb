//! A place first, and then what goes there: exact, from any thread, and never lost.

use std::cell::Cell;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::thread;

use anteroom::net::TcpListener;
use anteroom::{
    Reservation, Reserve, Runtime, SpawnError, holders, metrics, reserve, spawn, spawn_local, spawn_service,
    try_spawn, yield_now,
};
use anteroom_tests::{
    Drops, Endless, Gate, Wakes, elsewhere, look_around, must_end, park_on, poll_once, poll_with,
};

fn runtime(max_tasks: usize) -> Runtime {
    Runtime::builder().max_tasks(max_tasks).build().unwrap()
}

fn now(reserve: Pin<&mut Reserve>) -> Reservation {
    match poll_once(reserve) {
        Poll::Ready(place) => place.unwrap(),
        Poll::Pending => panic!("there is room"),
    }
}

#[test]
fn the_bound_is_exact_with_places_and_tasks_mixed() {
    for max in [1, 3, 10] {
        runtime(max).block_on(async {
            let (held, done) = (Rc::new(Cell::new(0_usize)), Rc::new(Cell::new(0)));
            let mut places = Vec::new();
            for n in 0..600_usize {
                if n % 3 == 0 {
                    let mut waiting = pin!(reserve());
                    let place = match poll_once(waiting.as_mut()) {
                        Poll::Ready(place) => place.unwrap(),
                        Poll::Pending => {
                            assert_eq!(metrics().tasks_live, max, "nobody waits while there is room");
                            places.clear();
                            waiting.await.unwrap()
                        }
                    };
                    places.push(place);
                } else {
                    let (held, done) = (held.clone(), done.clone());
                    let job = async move {
                        held.set(held.get() + 1);
                        yield_now().await;
                        assert!(held.get() <= metrics().tasks_live && metrics().tasks_live <= max);
                        held.set(held.get() - 1);
                        done.set(done.get() + 1);
                    };
                    if max > 1 && places.len() + 1 >= max {
                        places.pop();
                    } else if max == 1 {
                        places.clear();
                    }
                    drop(spawn_local(job).await.unwrap());
                }
                assert!(places.len() <= metrics().tasks_live && metrics().tasks_live <= max);
                assert_eq!(holders().reserved(), places.len());
            }
            places.clear();
            while metrics().tasks_live > 0 {
                yield_now().await;
            }
            assert_eq!((done.get(), metrics().tasks_live_peak), (400, max));
        });
    }
}

#[test]
fn places_are_given_in_the_order_in_which_they_were_asked_for() {
    runtime(1).block_on(async {
        let first = reserve().await.unwrap();
        let order = Rc::new(Cell::new(0));
        let job = |n| {
            let order = order.clone();
            async move { assert_eq!(order.replace(n), n - 1) }
        };
        let mut seats: Vec<_> = [1, 3, 5].map(|n| (n, Box::pin(reserve()))).into();
        let mut spawns = Vec::new();
        for (_, seat) in &mut seats {
            assert!(poll_once(seat.as_mut()).is_pending());
            let mut spawn = Box::pin(spawn_local(job(2 * spawns.len() as u32 + 2)));
            assert!(poll_once(spawn.as_mut()).is_pending());
            spawns.push(spawn);
        }
        assert!(try_spawn(async {}).unwrap_err().is_full());
        drop(first);
        for (n, seat) in seats {
            let place = seat.await.unwrap();
            assert_eq!((metrics().tasks_live, order.get()), (1, n - 1));
            order.set(n);
            drop(place);
        }
        look_around().await;
        assert_eq!((order.get(), metrics().tasks_live), (6, 0));
    });
}

#[test]
fn a_place_dropped_anywhere_goes_to_the_next_in_line() {
    must_end(|| {
        let runtime = runtime(1);
        runtime.block_on(async {
            for drops_elsewhere in [false, true] {
                let place = reserve().await.unwrap();
                let mut next = Box::pin(reserve());
                let mut last = Box::pin(spawn(async { 4 }));
                let ((waker, wakes), (late, late_wakes)) = (Wakes::new(), Wakes::new());
                assert!(poll_with(next.as_mut(), &waker).is_pending());
                assert!(poll_with(last.as_mut(), &late).is_pending());
                let free = move || drop(place);
                if drops_elsewhere {
                    elsewhere(free)
                } else {
                    free()
                }
                look_around().await;
                assert_eq!((wakes.count(), late_wakes.count(), metrics().tasks_live), (1, 0, 1));
                drop(next.await.unwrap());
                assert_eq!(late_wakes.count(), 1);
                assert_eq!(last.await.unwrap().await.unwrap(), 4);
            }
            // The owner sleeps, and is rung.
            let place = reserve().await.unwrap();
            let thread = thread::spawn(move || drop(place));
            drop(reserve().await.unwrap());
            thread.join().unwrap();
            assert_eq!(metrics().tasks_live, 0);
        });
        // Nobody is inside: it is done when somebody is.
        let place = runtime.block_on(async { reserve().await.unwrap() });
        drop(place);
        runtime.block_on(async { assert_eq!(metrics().tasks_live, 0) });
    });
}

#[test]
fn places_dropped_on_many_threads_are_all_given_back() {
    must_end(|| {
        let runtime = Runtime::builder().max_tasks(8).max_task_bytes(80_000).build().unwrap();
        runtime.block_on(async {
            let (sender, places) = std::sync::mpsc::channel::<Reservation>();
            let places = std::sync::Arc::new(std::sync::Mutex::new(places));
            let threads: Vec<_> = (0..3)
                .map(|_| {
                    let places = places.clone();
                    thread::spawn(move || {
                        loop {
                            let Ok(place) = places.lock().unwrap().recv() else { break };
                            drop(place);
                        }
                    })
                })
                .collect();
            for n in 0..3_000 {
                let place = reserve().bytes(n % 10_000 + 1).await.unwrap();
                assert!(metrics().tasks_live <= 8 && metrics().task_bytes <= 80_000);
                if n % 5 == 0 { drop(place.spawn(yield_now()).unwrap()) } else { sender.send(place).unwrap() }
            }
            drop(sender);
            while metrics().tasks_live > 0 {
                yield_now().await;
            }
            assert_eq!(metrics().task_bytes, 0);
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        });
    });
}

#[test]
fn a_wait_for_a_place_may_be_dropped_at_any_time() {
    runtime(1).block_on(async {
        let gate = Gate::new();
        drop(spawn(gate.wait()).await.unwrap());
        let mut seats: Vec<_> = (0..6).map(|_| Box::pin(reserve())).collect();
        for seat in &mut seats[1..] {
            assert!(poll_once(seat.as_mut()).is_pending());
        }
        let mut last = Box::pin(spawn(async { 1 }));
        assert!(poll_once(last.as_mut()).is_pending());
        drop(seats.remove(0));
        drop(seats.remove(1));
        elsewhere(|| drop(seats.remove(1)));
        look_around().await;
        assert_eq!(metrics().waiting, 4);
        gate.open();
        look_around().await;
        // Granted, and nobody was told: dropped so, here or elsewhere, the place goes on.
        assert_eq!((metrics().tasks_live, metrics().waiting), (1, 3));
        drop(seats.remove(0));
        look_around().await;
        assert_eq!((metrics().tasks_live, metrics().waiting), (1, 2));
        elsewhere(|| drop(seats.remove(0)));
        look_around().await;
        assert_eq!((metrics().tasks_live, metrics().waiting), (1, 1));
        drop(seats);
        assert_eq!(last.await.unwrap().await.unwrap(), 1);
        assert_eq!((metrics().tasks_live, metrics().waiting), (0, 0));
    });
}

#[test]
fn a_place_can_be_spent_while_others_wait() {
    for waits in [false, true] {
        runtime(1).block_on(async {
            let place = reserve().await.unwrap();
            let mut next = Box::pin(spawn(async { 2 }));
            if waits {
                assert!(poll_once(next.as_mut()).is_pending());
            }
            let text = String::from("held");
            assert_eq!(place.spawn(async move { text }).unwrap().await.unwrap(), "held");
            assert_eq!(next.await.unwrap().await.unwrap(), 2);
        });
    }
}

#[test]
fn a_place_can_be_spent_after_a_close() {
    let runtime = runtime(2);
    let handle = runtime.handle();
    runtime.block_on(async {
        let place = reserve().await.unwrap();
        handle.close();
        let text = String::from("held");
        assert_eq!(place.spawn(async move { text }).unwrap().await.unwrap(), "held");
        assert_eq!(reserve().await.unwrap_err(), SpawnError::Closed);
    });
}

#[test]
fn a_place_with_bytes_can_be_spent_after_a_close_and_while_others_wait() {
    let runtime = Runtime::builder().max_tasks(2).max_task_bytes(2_000).build().unwrap();
    let handle = runtime.handle();
    runtime.block_on(async {
        let [first, second] = [reserve().bytes(1_000).await.unwrap(), reserve().bytes(1_000).await.unwrap()];
        let mut next = Box::pin(spawn(async { 2 }));
        assert!(poll_once(next.as_mut()).is_pending());
        let text = String::from("held");
        let task = first.spawn(async move { text }).unwrap();
        assert_eq!((metrics().task_bytes, holders()[0].bytes()), (2_000, 1_000));
        handle.close();
        assert!(matches!(poll_once(next.as_mut()), Poll::Ready(Err(SpawnError::Closed))));
        let text = String::from("held too");
        let other = second.spawn(async move { text }).unwrap();
        assert_eq!((task.await.unwrap(), other.await.unwrap()), ("held".into(), "held too".into()));
        assert_eq!((metrics().tasks_live, metrics().task_bytes), (0, 0));
    });
}

#[test]
fn a_place_is_its_own_runtimes_and_no_others() {
    let (one, other) = (runtime(1), runtime(1));
    let drops = Drops::new();
    let place = one.block_on(async { reserve().await.unwrap() });
    let mut next = Box::pin(spawn(async { 1 }));
    one.block_on(async { assert!(poll_once(next.as_mut()).is_pending()) });
    other.block_on(async {
        let tracked = drops.track();
        let error = place.spawn(async move { (6, tracked).0 }).unwrap_err();
        assert!(error.is_closed() && !error.is_full());
        assert_eq!((drops.count(), metrics().tasks_live), (0, 0));
        assert_eq!((error.into_future().await, drops.count()), (6, 1));
    });
    assert_eq!(one.block_on(async { next.await.unwrap().await.unwrap() }), 1);
    // And outside of all it is a panic, which loses neither.
    let place = one.block_on(async { reserve().await.unwrap() });
    let tracked = drops.track();
    let spent = std::panic::AssertUnwindSafe(|| place.spawn(async move { drop(tracked) }));
    assert!(std::panic::catch_unwind(spent).is_err());
    assert_eq!(drops.count(), 2);
    one.block_on(async { assert_eq!(metrics().tasks_live, 0) });
}

#[test]
fn a_place_may_outlive_its_runtime() {
    let runtime = runtime(3);
    let (place, spent) = runtime.block_on(async { (reserve().await.unwrap(), reserve().await.unwrap()) });
    let mut held_by_a_task = None;
    runtime.block_on(async {
        // Dropped with its task, at the end of the runtime.
        let place = now(pin!(reserve()));
        let endless = async move { (std::future::pending::<()>().await, place).0 };
        held_by_a_task = Some(spawn_service(endless).unwrap());
    });
    drop(runtime);
    assert!(park_on(held_by_a_task.unwrap()).unwrap_err().is_cancelled());
    drop(place);
    anteroom::block_on(async {
        assert!(spent.spawn(async {}).unwrap_err().is_closed());
        assert_eq!(metrics().tasks_live, 0);
    });
}

#[test]
fn a_place_moved_to_another_runtime_while_it_waited_is_the_first_ones() {
    let (one, other) = (runtime(1), runtime(1));
    let place = one.block_on(async { reserve().await.unwrap() });
    let mut seat = Box::pin(reserve());
    one.block_on(async { assert!(poll_once(seat.as_mut()).is_pending()) });
    drop(place);
    one.block_on(look_around());
    let place = other.block_on(seat).unwrap();
    assert_eq!((one.metrics().tasks_live, other.metrics().tasks_live), (1, 0));
    one.block_on(async {
        place.spawn(async {}).unwrap().await.unwrap();
        assert_eq!(metrics().tasks_live, 0);
    });
}

#[test]
fn bytes_are_reserved_with_the_place() {
    Runtime::builder().max_task_bytes(1_000).build().unwrap().block_on(async {
        assert_eq!(reserve().bytes(1_001).await.unwrap_err(), SpawnError::ExceedsLimit);
        assert_eq!(reserve().bytes(usize::MAX).await.unwrap_err(), SpawnError::ExceedsLimit);
        let place = reserve().bytes(700).await.unwrap();
        assert_eq!((metrics().task_bytes, metrics().tasks_live, holders().reserved()), (700, 1, 1));
        let mut large = Box::pin(reserve().bytes(400));
        assert!(poll_once(large.as_mut()).is_pending());
        // What it becomes may be smaller, and keeps what was reserved.
        let task = place.spawn(Endless::<500>::NEW).unwrap();
        assert_eq!((metrics().task_bytes, holders()[0].bytes(), holders().reserved()), (700, 700, 0));
        task.abort();
        let place = large.await.unwrap();
        assert_eq!(metrics().task_bytes, 400);
        // More than was reserved is asked for now, and nobody waits for it.
        let task = place.spawn(Endless::<900>::NEW).unwrap();
        assert_eq!(metrics().task_bytes, 900);
        let bare = reserve().await.unwrap();
        let error = bare.spawn(Endless::<200>::NEW).unwrap_err();
        assert!(error.is_full(), "{error:?}");
        assert_eq!((metrics().tasks_live, metrics().task_bytes), (1, 900), "its place went back");
        let error = reserve().await.unwrap().spawn(Endless::<2_000>::NEW).unwrap_err();
        assert!(error.is_full() || error.exceeds_limit());
        task.abort();
        yield_now().await;
        assert_eq!((metrics().tasks_live, metrics().task_bytes), (0, 0));
    });
}

#[test]
fn a_reservation_tells_where_it_was_asked_for() {
    fn both_send_and_sync<T: Send + Sync>(_: &T) {}
    runtime(2).block_on(async {
        let (place, line) = (reserve().bytes(3).await.unwrap(), line!());
        both_send_and_sync(&place);
        assert_eq!((place.site().line(), place.site().file()), (line, file!()));
        let text = format!("{place:?}");
        assert!(text.starts_with("Reservation { bytes: 3"), "{text}");
    });
}

#[test]
fn a_server_accepts_only_what_it_has_room_for() {
    must_end(|| {
        let runtime = runtime(2);
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let gates: [Gate; 3] = std::array::from_fn(|_| Gate::new());
            let opened = gates.clone();
            let (tell, told) = std::sync::mpsc::channel();
            let server = async move {
                for (n, gate) in gates.into_iter().enumerate() {
                    let place = reserve().bytes(2_000).await.unwrap();
                    let (stream, _) = listener.accept().await.unwrap();
                    tell.send(n).unwrap();
                    place
                        .spawn(async move {
                            gate.wait().await;
                            stream.write_all(&[n as u8]).await.unwrap();
                        })
                        .unwrap();
                }
            };
            let server = spawn_service(server).unwrap();
            let mut clients: Vec<_> =
                (0..3).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
            while metrics().waiting == 0 {
                yield_now().await;
            }
            look_around().await;
            // All three are connected, by the system; the server has two.
            assert_eq!(told.try_iter().collect::<Vec<_>>(), [0, 1]);
            assert_eq!((metrics().io_sources, metrics().tasks_live), (3, 2), "the listener and two streams");
            opened[1].open();
            server.await.unwrap();
            assert_eq!(told.try_iter().collect::<Vec<_>>(), [2]);
            opened.iter().for_each(Gate::open);
            while metrics().tasks_live > 0 {
                yield_now().await;
            }
            for (n, client) in clients.iter_mut().enumerate() {
                let mut byte = [9];
                std::io::Read::read_exact(client, &mut byte).unwrap();
                assert_eq!(usize::from(byte[0]), n);
            }
        });
    });
}
