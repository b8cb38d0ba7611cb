//! Spawns of other threads: one line with the owner's own, and frames that may be anywhere when their turn comes.

use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

use anteroom::{
    Handle, Runtime, Spawn, SpawnError, metrics, reserve, spawn, spawn_local, spawn_service, try_spawn,
    yield_now,
};
use anteroom_tests::{
    Drops, Gate, Wakes, beside, elsewhere, look_around, must_end, park_on, poll_once, poll_with,
};

fn runtime(max_tasks: usize) -> Runtime {
    Runtime::builder().max_tasks(max_tasks).build().unwrap()
}

/// Who ran, in order.
#[derive(Clone, Default)]
struct Order(Arc<Mutex<Vec<usize>>>);

impl Order {
    fn job(&self, n: usize) -> impl Future<Output = ()> + Send + use<> {
        let order = self.clone();
        async move { order.0.lock().unwrap().push(n) }
    }

    fn list(&self) -> Vec<usize> {
        self.0.lock().unwrap().clone()
    }
}

#[test]
fn one_line_for_all_threads_in_the_order_of_their_arrival() {
    // [DESK-2]
    for has_looked in [false, true] {
        let runtime = runtime(1);
        let handle = runtime.handle();
        runtime.block_on(async {
            let (gate, order) = (Gate::new(), Order::default());
            let _holder = spawn(gate.wait()).await.unwrap();
            let mut foreign = Vec::new();
            let mut local = Vec::new();
            for n in 0..30 {
                // Others came first: two of them in a row, then one of ours, and so on. The owner is not polled in between.
                if n % 3 < 2 {
                    let mut spawn = Box::pin(handle.spawn(order.job(n)));
                    elsewhere(|| assert!(poll_once(spawn.as_mut()).is_pending()));
                    foreign.push(spawn);
                } else {
                    let mut spawn = Box::pin(spawn_local(order.job(n)));
                    assert!(poll_once(spawn.as_mut()).is_pending());
                    local.push(spawn);
                }
                if has_looked {
                    look_around().await;
                }
            }
            gate.open();
            look_around().await;
            assert_eq!(order.list(), (0..30).collect::<Vec<_>>(), "looked: {has_looked}");
            assert_eq!((metrics().tasks_live, metrics().waiting), (0, 0));
        });
    }
}

#[test]
fn who_tries_does_not_overtake_who_has_arrived() {
    let runtime = runtime(1);
    let handle = runtime.handle();
    runtime.block_on(async {
        let order = Order::default();
        // There is room; but a spawn of another thread arrived before, and the owner has not seen it yet.
        let mut first = Box::pin(handle.spawn(order.job(0)));
        elsewhere(|| assert!(poll_once(first.as_mut()).is_pending()));
        assert!(try_spawn(order.job(1)).unwrap_err().is_full(), "the place is the other's");
        let mut second = pin!(reserve());
        assert!(poll_once(second.as_mut()).is_pending());
        let task = first.await.unwrap();
        task.await.unwrap();
        second.await.unwrap().spawn(order.job(2)).unwrap().await.unwrap();
        assert_eq!(order.list(), [0, 2]);
    });
}

#[test]
fn ten_thousand_spawns_of_five_threads_keep_the_bound_and_each_its_order() {
    must_end(|| {
        const EACH: usize = 2_000;
        const MAX: usize = 7;
        let runtime = Runtime::builder().max_tasks(MAX).max_foreign(40).build().unwrap();
        let handle = runtime.handle();
        let live = Arc::new(AtomicUsize::new(0));
        let started: Arc<[Mutex<Vec<usize>>; 6]> = Arc::default();
        let job =
            move |who: usize, n: usize, live: &Arc<AtomicUsize>, started: &Arc<[Mutex<Vec<usize>>; 6]>| {
                let (live, started) = (live.clone(), started.clone());
                async move {
                    started[who].lock().unwrap().push(n);
                    assert!(live.fetch_add(1, Ordering::SeqCst) < MAX);
                    for _ in 0..n % 3 {
                        yield_now().await;
                        assert!(metrics().tasks_live <= MAX);
                    }
                    live.fetch_sub(1, Ordering::SeqCst);
                    n
                }
            };
        let threads: Vec<_> = (0..4)
            .map(|who| {
                let (live, started) = (live.clone(), started.clone());
                thread::spawn(move || {
                    // Several frames of each thread stand in line at once, now and then one leaves it.
                    for batch in 0..EACH / 8 {
                        let mut frames: Vec<_> = (0..8)
                            .map(|n| Box::pin(handle.spawn(job(who, batch * 8 + n, &live, &started))))
                            .collect();
                        let polled: Vec<_> =
                            frames.iter_mut().map(|frame| poll_once(frame.as_mut())).collect();
                        for (n, (frame, polled)) in frames.into_iter().zip(polled).enumerate() {
                            let task = match polled {
                                Poll::Ready(task) => task.unwrap(),
                                Poll::Pending => park_on(frame).unwrap(),
                            };
                            assert_eq!(park_on(task).unwrap(), batch * 8 + n);
                        }
                        let mut gone = Box::pin(handle.spawn(async {}));
                        let _ = poll_once(gone.as_mut());
                    }
                })
            })
            .collect();
        runtime.block_on(async {
            let mut spawners = Vec::new();
            for who in 4..6 {
                let (live, started) = (live.clone(), started.clone());
                let spawner = async move {
                    for n in 0..EACH / 2 {
                        drop(spawn(job(who, n, &live, &started)).await.unwrap());
                        assert!(metrics().tasks_live <= MAX);
                    }
                };
                spawners.push(spawn_service(spawner).unwrap());
            }
            for spawner in spawners {
                spawner.await.unwrap();
            }
            for thread in threads {
                beside(|| thread.join().unwrap()).await;
            }
            while metrics().tasks_live > 0 {
                yield_now().await;
            }
            look_around().await;
            assert_eq!((metrics().waiting, metrics().tasks_live_peak), (0, MAX));
        });
        for (who, started) in started.iter().enumerate() {
            let count = if who < 4 { EACH } else { EACH / 2 };
            assert!(started.lock().unwrap().iter().copied().eq(0..count), "thread {who}");
        }
    });
}

/// How far a spawn of another thread has come.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Stage {
    Fresh,
    AtTheDesk,
    InLine,
    Admitted,
    Refused,
}

const STAGES: [Stage; 5] = [Stage::Fresh, Stage::AtTheDesk, Stage::InLine, Stage::Admitted, Stage::Refused];

/// What happens to it then.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Dropped,
    Withdrawn,
    Polled,
}

#[test]
fn a_frame_may_end_anywhere_in_every_stage() {
    // [SPAWN-1] [SPAWN-2] [WAIT-2]
    for stage in STAGES {
        for end in [End::Dropped, End::Withdrawn, End::Polled] {
            for (begins_here, ends_here) in [(false, false), (false, true), (true, false), (true, true)] {
                if !begins_here || stage != Stage::AtTheDesk {
                    frame(stage, end, begins_here, ends_here);
                }
            }
        }
    }
}

/// Runs `f` here or elsewhere.
fn at<T: Send>(here: bool, f: impl FnOnce() -> T + Send) -> T {
    if here { f() } else { elsewhere(f) }
}

fn frame(stage: Stage, end: End, begins_here: bool, ends_here: bool) {
    let case = format!("{stage:?}, {end:?}, begins here: {begins_here}, ends here: {ends_here}");
    let runtime = Runtime::builder().max_tasks(1).max_foreign(1).build().unwrap();
    let handle = runtime.handle();
    let (drops, gate) = (Drops::new(), Gate::new());
    runtime.block_on(async {
        let holder = spawn(gate.wait()).await.unwrap();
        let tracked = drops.track();
        let mut frame = Box::pin(handle.spawn(async move {
            let _tracked = tracked;
            yield_now().await;
            5
        }));
        let (waker, wakes) = Wakes::new();
        if stage != Stage::Fresh {
            at(begins_here, || assert!(poll_with(frame.as_mut(), &waker).is_pending(), "{case}"));
        }
        if !matches!(stage, Stage::Fresh | Stage::AtTheDesk) {
            look_around().await;
            assert_eq!(metrics().waiting, 1, "{case}");
        }
        match stage {
            Stage::Admitted => {
                gate.open();
                // Admitted in the turn in which the holder ends; not polled before we are back.
                holder.await.unwrap();
                assert_eq!((metrics().tasks_live, metrics().waiting), (1, 0), "{case}");
            }
            Stage::Refused => handle.close(),
            _ => {}
        }
        match end {
            End::Dropped => {
                at(ends_here, || drop(frame));
                let is_task = stage == Stage::Admitted;
                assert_eq!(drops.count(), usize::from(!is_task), "{case}");
                look_around().await;
            }
            End::Withdrawn => {
                let future = at(ends_here, || frame.as_mut().withdraw());
                assert_eq!(future.is_some(), stage != Stage::Admitted, "{case}");
                if let Some(future) = future {
                    look_around().await;
                    assert_eq!((metrics().waiting, drops.count()), (0, 0), "{case}");
                    assert_eq!(future.await, 5);
                }
                look_around().await;
                assert!(at(ends_here, || frame.as_mut().withdraw()).is_none(), "there is one of it");
            }
            End::Polled => {
                let polled = at(ends_here, || poll_with(frame.as_mut(), &waker));
                match stage {
                    Stage::Fresh | Stage::AtTheDesk | Stage::InLine => {
                        assert!(polled.is_pending(), "{case}");
                        gate.open();
                        look_around().await;
                        let Poll::Ready(task) = at(ends_here, || poll_with(frame.as_mut(), &waker)) else {
                            panic!("{case}")
                        };
                        assert_eq!(task.unwrap().await.unwrap(), 5, "{case}");
                        assert_eq!(wakes.count(), 1, "{case}");
                    }
                    Stage::Admitted => {
                        let Poll::Ready(Ok(task)) = polled else { panic!("{case}") };
                        assert_eq!(task.await.unwrap(), 5, "{case}");
                    }
                    Stage::Refused => {
                        assert!(matches!(polled, Poll::Ready(Err(SpawnError::Closed))), "{case}");
                        let again = at(ends_here, || poll_with(frame.as_mut(), &waker));
                        assert!(matches!(again, Poll::Ready(Err(SpawnError::Closed))), "{case}");
                        at(ends_here, || drop(frame));
                    }
                }
            }
        }
        assert_eq!(drops.count(), 1, "{case}: once");
        gate.open();
        look_around().await;
        assert_eq!(
            (metrics().tasks_live, metrics().waiting, metrics().headers),
            (0, 0, 1 + usize::from(stage != Stage::Admitted)),
            "{case}"
        );
        // The place in the line and the one at the desk are there again.
        if stage != Stage::Refused {
            let mut next = Box::pin(handle.spawn(async { 6 }));
            elsewhere(|| assert!(poll_once(next.as_mut()).is_pending(), "{case}"));
            assert_eq!(next.await.unwrap().await.unwrap(), 6);
        }
    });
}

#[test]
fn a_frame_dropped_elsewhere_races_with_its_admission() {
    race(|_, frame| drop(frame));
}

#[test]
fn a_frame_withdrawn_elsewhere_races_with_its_admission() {
    race(|_, mut frame| drop(frame.as_mut().withdraw()));
}

#[test]
fn a_frame_polled_elsewhere_races_with_its_admission() {
    race(|handle, mut frame| {
        loop {
            let (waker, _) = Wakes::new();
            if let Poll::Ready(task) = poll_with(frame.as_mut(), &waker) {
                return assert_eq!(park_on(task.unwrap()).unwrap(), 7);
            }
            // Whoever comes next takes the node of whoever has just gone.
            let mut other = Box::pin(handle.spawn(async { panic!("it was never polled again") }));
            let _ = poll_with(other.as_mut(), &waker);
            drop(other.as_mut().withdraw());
        }
    });
}

type Boxed = Pin<Box<dyn Future<Output = u32> + Send>>;

/// `end` ends a frame elsewhere while the owner frees its place.
fn race(end: fn(Handle, Pin<Box<Spawn<Boxed>>>)) {
    must_end(move || {
        let runtime = Runtime::builder().max_tasks(1).max_foreign(3).build().unwrap();
        let handle = runtime.handle();
        let (to_worker, frames) = mpsc::channel::<Pin<Box<Spawn<Boxed>>>>();
        let (ready, is_ready) = mpsc::channel();
        let ended = Arc::new(AtomicUsize::new(0));
        let count = ended.clone();
        let worker = thread::spawn(move || {
            for mut frame in frames {
                assert!(poll_once(frame.as_mut()).is_pending());
                ready.send(()).unwrap();
                end(handle, frame);
                count.fetch_add(1, Ordering::SeqCst);
            }
        });
        let drops = Drops::new();
        let start = Instant::now();
        runtime.block_on(async {
            let mut rounds = 0;
            while rounds < 3_000 && start.elapsed() < Duration::from_secs(3) {
                let gate = Gate::new();
                let _holder = spawn(gate.wait()).await.unwrap();
                let tracked = drops.track();
                let future: Boxed = Box::pin(async move { (7, tracked).0 });
                to_worker.send(Box::pin(handle.spawn(future))).unwrap();
                is_ready.recv().unwrap();
                rounds += 1;
                if rounds % 2 == 0 {
                    // Sometimes it has arrived in the line before.
                    drop(try_spawn(async {}));
                }
                gate.open();
                while ended.load(Ordering::SeqCst) < rounds {
                    yield_now().await;
                }
                while metrics().tasks_live > 0 || metrics().waiting > 0 {
                    yield_now().await;
                }
                assert_eq!(drops.count(), rounds);
            }
        });
        drop(to_worker);
        worker.join().unwrap();
    });
}

#[test]
fn a_frame_goes_from_runtime_to_runtime() {
    let runtimes = [runtime(1), runtime(1), runtime(1)];
    let handle = runtimes[0].handle();
    let gate = Gate::new();
    runtimes[0].block_on(async { drop(try_spawn(gate.wait()).unwrap()) });
    let (waker, wakes) = Wakes::new();
    let mut frame = Box::pin(handle.spawn(async { Handle::current().is_some() }));
    for runtime in [1, 2, 0, 2, 0, 1] {
        runtimes[runtime].block_on(async {
            assert!(poll_with(frame.as_mut(), &waker).is_pending());
            assert_eq!(metrics().waiting, usize::from(runtime == 0));
            look_around().await;
        });
    }
    gate.open();
    runtimes[0].block_on(look_around());
    assert_eq!((wakes.count(), runtimes[0].metrics().tasks_live_peak), (1, 1));
    assert_eq!(runtimes[1].metrics().tasks_live_peak, 0, "it is the first one's");
    let task = runtimes[2].block_on(frame).unwrap();
    assert!(runtimes[1].block_on(task).unwrap());
}

#[test]
fn a_spawn_that_waits_in_one_runtime_stays_its_own_in_another() {
    let (one, other) = (runtime(1), runtime(1));
    let gate = Gate::new();
    let mut frame = Box::pin(spawn(async { 1 }));
    one.block_on(async {
        drop(try_spawn(gate.wait()).unwrap());
        assert!(poll_once(frame.as_mut()).is_pending());
    });
    other.block_on(async { assert!(poll_once(frame.as_mut()).is_pending()) });
    assert_eq!((one.metrics().waiting, other.metrics().waiting), (1, 0));
    gate.open();
    one.block_on(look_around());
    assert_eq!(other.block_on(async { frame.await.unwrap().await.unwrap() }), 1);
    assert_eq!(other.metrics().tasks_live_peak, 0);
}

#[test]
fn the_desk_has_a_bound_of_its_own_and_a_place_there_comes_back() {
    let runtime = Runtime::builder().max_tasks(1).max_foreign(3).build().unwrap();
    let handle = runtime.handle();
    runtime.block_on(async {
        let gate = Gate::new();
        let holder = spawn(gate.wait()).await.unwrap();
        let mut frames: Vec<_> = (0..4).map(|n| Box::pin(handle.spawn(async move { n }))).collect();
        elsewhere(|| {
            for frame in &mut frames[..3] {
                assert!(poll_once(frame.as_mut()).is_pending());
            }
            let refused = poll_once(frames[3].as_mut());
            assert!(matches!(refused, Poll::Ready(Err(SpawnError::QueueFull))));
            assert!(matches!(
                poll_once(handle_spawn(handle).as_mut()),
                Poll::Ready(Err(SpawnError::QueueFull))
            ));
        });
        look_around().await;
        // Standing in the owner's line is no less waiting than standing at the desk; the owner's own are not bounded by it.
        elsewhere(|| assert!(poll_once(frames[3].as_mut()).is_ready()));
        let mut own = Box::pin(spawn(async {}));
        assert!(poll_once(own.as_mut()).is_pending());
        elsewhere(|| drop(frames.remove(1)));
        look_around().await;
        elsewhere(|| assert!(poll_once(frames[2].as_mut()).is_pending(), "who was refused asks again"));
        gate.open();
        holder.await.unwrap();
        for (frame, n) in frames.into_iter().zip([0, 2, 3]) {
            assert_eq!(frame.await.unwrap().await.unwrap(), n);
        }
        own.await.unwrap();
    });
    let none = Runtime::builder().max_foreign(0).build().unwrap();
    let handle = none.handle();
    assert_eq!(park_on(handle.spawn(async {})).unwrap_err(), SpawnError::QueueFull);
    none.block_on(async { handle.spawn(async {}).await.unwrap().await.unwrap() });
}

fn handle_spawn(handle: Handle) -> Pin<Box<Spawn<impl Future<Output = ()>>>> {
    Box::pin(handle.spawn(async {}))
}

#[test]
fn who_has_left_the_desk_takes_no_place_there() {
    let runtime = Runtime::builder().max_foreign(2).build().unwrap();
    let handle = runtime.handle();
    for n in 0..10 {
        let mut frame = handle_spawn(handle);
        assert!(poll_once(frame.as_mut()).is_pending(), "nobody waits, and still the {n}th is refused");
    }
}

#[test]
fn frames_of_a_dead_runtime_take_no_place_at_the_desk_of_the_next() {
    let mut kept = Vec::new();
    for _ in 0..50 {
        let runtime = Runtime::builder().max_foreign(1).build().unwrap();
        let mut frame = handle_spawn(runtime.handle());
        assert!(poll_once(frame.as_mut()).is_pending());
        kept.push(frame);
    }
}

#[test]
fn who_finds_room_does_not_wait_and_is_not_refused_for_a_full_line() {
    for max_waiting in [0, 1] {
        let runtime = Runtime::builder().max_tasks(100).max_waiting(max_waiting).build().unwrap();
        let handle = runtime.handle();
        let mut frames: Vec<_> = (0..5).map(|_| handle_spawn(handle)).collect();
        elsewhere(|| frames.iter_mut().for_each(|frame| assert!(poll_once(frame.as_mut()).is_pending())));
        runtime.block_on(async {
            for frame in frames {
                frame.await.unwrap();
            }
        });
    }
}

#[test]
fn the_lines_bound_holds_for_all_threads_together() {
    let runtime = Runtime::builder().max_tasks(1).max_waiting(2).build().unwrap();
    let handle = runtime.handle();
    runtime.block_on(async {
        let _holder = spawn(std::future::pending::<()>()).await.unwrap();
        let mut frames: Vec<_> = (0..4).map(|_| handle_spawn(handle)).collect();
        elsewhere(|| frames.iter_mut().for_each(|frame| assert!(poll_once(frame.as_mut()).is_pending())));
        assert!(poll_once(pin!(spawn(async {}))).is_ready(), "two were before it");
        let polled = frames.iter_mut().map(|frame| poll_once(frame.as_mut()));
        let refused = polled.map(|polled| matches!(polled, Poll::Ready(Err(SpawnError::QueueFull))));
        assert_eq!(refused.collect::<Vec<_>>(), [false, false, true, true]);
        assert_eq!(metrics().waiting, 2);
    });
}

#[test]
fn what_could_never_fit_is_refused_at_the_desk() {
    let runtime = Runtime::builder().max_task_bytes(1_000).build().unwrap();
    let handle = runtime.handle();
    let large = [0_u8; 2_000];
    for error in [
        park_on(handle.spawn(async move { large.len() })).map(drop).unwrap_err(),
        park_on(handle.spawn(async {}).heap(usize::MAX)).map(drop).unwrap_err(),
        elsewhere(|| handle.spawn_wait(async move { (yield_now().await, large.len()).1 }).map(drop))
            .unwrap_err(),
    ] {
        assert_eq!(error, SpawnError::ExceedsLimit);
    }
    let gate = Gate::new();
    let mut frame = Box::pin(
        handle
            .spawn({
                let gate = gate.clone();
                async move { (gate.wait().await, 4).1 }
            })
            .heap(900),
    );
    assert!(poll_once(frame.as_mut()).is_pending());
    runtime.block_on(async {
        let task = frame.await.unwrap();
        assert!(metrics().task_bytes >= 900);
        gate.open();
        assert_eq!((task.await.unwrap(), metrics().task_bytes), (4, 0));
    });
}

#[test]
fn a_frame_outlives_its_runtime_and_takes_its_future_back() {
    let drops = Drops::new();
    let mut frames = Vec::new();
    let runtime = runtime(1);
    let handle = runtime.handle();
    runtime.block_on(async {
        spawn(std::future::pending::<()>()).await.unwrap();
        for stands_in_line in [true, false, true, false] {
            let tracked = drops.track();
            let mut frame = Box::pin(handle.spawn(async move { (9, tracked).0 }));
            elsewhere(|| assert!(poll_once(frame.as_mut()).is_pending()));
            if stands_in_line {
                look_around().await;
            }
            frames.push(frame);
        }
    });
    let (waker, wakes) = Wakes::new();
    assert!(poll_with(frames[0].as_mut(), &waker).is_pending());
    drop(runtime);
    assert_eq!((drops.count(), wakes.count()), (0, 1));
    for mut frame in frames.split_off(2) {
        let future = elsewhere(|| frame.as_mut().withdraw()).unwrap();
        assert_eq!(park_on(future), 9);
    }
    for mut frame in frames {
        assert!(matches!(poll_once(frame.as_mut()), Poll::Ready(Err(SpawnError::Closed))));
        elsewhere(|| drop(frame));
    }
    assert_eq!(drops.count(), 4);
}

#[test]
fn threads_wait_while_runtimes_come_and_go() {
    // Each spawn ends with a task that ran or was cancelled, or with `Closed`; and each future is dropped once.
    must_end(|| {
        let current: Arc<Mutex<Option<Handle>>> = Arc::default();
        let (drops, made) = (Drops::new(), Arc::new(AtomicUsize::new(0)));
        let stop = Arc::new(AtomicUsize::new(0));
        let threads: Vec<_> = (0..3)
            .map(|_| {
                let (current, drops, made, stop) =
                    (current.clone(), drops.clone(), made.clone(), stop.clone());
                thread::spawn(move || {
                    let mut outcomes = [0_usize; 3];
                    while stop.load(Ordering::SeqCst) == 0 {
                        let Some(handle) = *current.lock().unwrap() else { continue };
                        let tracked = drops.track();
                        made.fetch_add(1, Ordering::SeqCst);
                        match park_on(handle.spawn(async move { (yield_now().await, tracked).0 })) {
                            Ok(task) => outcomes[usize::from(park_on(task).is_err())] += 1,
                            Err(error) => {
                                assert_eq!(error, SpawnError::Closed);
                                outcomes[2] += 1;
                            }
                        }
                    }
                    outcomes
                })
            })
            .collect();
        let mut seen = 0;
        let start = Instant::now();
        while seen < 200 && start.elapsed() < Duration::from_secs(3) {
            let runtime = runtime(1);
            *current.lock().unwrap() = Some(runtime.handle());
            runtime.block_on(async {
                for _ in 0..seen % 20 {
                    yield_now().await;
                }
            });
            drop(runtime);
            seen += 1;
        }
        stop.store(1, Ordering::SeqCst);
        let all: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        let ended: usize = all.iter().flatten().sum();
        assert_eq!(ended, made.load(Ordering::SeqCst));
        assert_eq!(drops.count(), ended, "{all:?}");
    });
}

#[test]
fn who_comes_and_goes_does_not_deepen_the_owners_stack() {
    // Once, each that left while the owner took back another had it call itself: 7,000 calls deep.
    const STACK: usize = if cfg!(anteroom_asan) { 1 << 20 } else { 96 << 10 };
    must_end(|| {
        let runner = thread::Builder::new().stack_size(STACK).spawn(|| {
            let runtime = runtime(1);
            let handle = runtime.handle();
            runtime.block_on(async {
                let _holder = spawn(std::future::pending::<()>()).await.unwrap();
                let comers: Vec<_> = (0..2)
                    .map(|_| {
                        thread::spawn(move || {
                            for _ in 0..200_000 {
                                assert!(poll_once(Box::pin(handle.spawn(async {})).as_mut()).is_pending());
                            }
                        })
                    })
                    .collect();
                while !comers.iter().all(|comer| comer.is_finished()) {
                    yield_now().await;
                }
                comers.into_iter().for_each(|comer| comer.join().unwrap());
                look_around().await;
                assert_eq!(metrics().waiting, 0);
            });
        });
        runner.unwrap().join().unwrap();
    });
}
