//! What may still be asked of a runtime in its last moments, and what it leaves to the next.

use std::future::pending;
use std::pin::Pin;
use std::sync::{Arc, Barrier, Mutex};
use std::task::{Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use anteroom::{
    Builder, Handle, Reservation, Runtime, SpawnError, holders, metrics, reserve, spawn, spawn_blocking,
    spawn_service, time, yield_now,
};
use anteroom_tests::{Drops, elsewhere, look_around, poll_once, poll_with};

/// Spends the place that it holds when it is dropped, as one who has to clean up would.
struct CleanUp {
    place: Option<Reservation>,
    drops: Drops,
}

impl Drop for CleanUp {
    fn drop(&mut self) {
        let tracked = self.drops.track();
        let work = async move {
            let _tracked = tracked;
            pending::<()>().await;
        };
        if let Some(place) = self.place.take() {
            assert!(place.spawn(work).is_err(), "its runtime is being dropped");
        }
    }
}

#[test]
fn a_place_that_is_spent_while_its_runtime_ends_makes_no_task() {
    // [RUNTIME-1]
    let drops = Drops::new();
    let runtime = Runtime::builder().max_tasks(4).build().unwrap();
    runtime.block_on(async {
        let clean_up = CleanUp { place: Some(reserve().await.unwrap()), drops: drops.clone() };
        let holds = async move {
            let _clean_up = clean_up;
            pending::<()>().await;
        };
        drop(spawn(holds).await.unwrap());
        yield_now().await;
    });
    drop(runtime);
    assert_eq!(drops.count(), 1, "its future is gone with the runtime");
    // Whoever has its home next finds nobody there.
    Runtime::new().unwrap().block_on(async { assert!(holders().is_empty()) });
}

/// A waker that spends a place.
struct Spends(Mutex<Option<Reservation>>);

impl Wake for Spends {
    fn wake(self: Arc<Self>) {
        let place = self.0.lock().unwrap().take();
        if let Some(place) = place {
            assert!(place.spawn(async { unreachable!("nobody may poll it") }).is_err());
        }
    }
}

#[test]
fn a_place_that_is_spent_by_whoever_joins_a_cancelled_task_makes_none() {
    // [RUNTIME-1]
    let runtime = Runtime::builder().max_tasks(4).build().unwrap();
    let handle = runtime.block_on(async {
        let place = reserve().await.unwrap();
        let mut handle = spawn(pending::<()>()).await.unwrap();
        let waker = Waker::from(Arc::new(Spends(Mutex::new(Some(place)))));
        assert!(poll_with(Pin::new(&mut handle), &waker).is_pending());
        Some(handle)
    });
    drop(runtime);
    drop(handle);
    elsewhere(|| Runtime::new().unwrap().block_on(look_around()));
}

/// A waker that closes a runtime from another thread.
struct Closes(Handle);

impl Wake for Closes {
    fn wake(self: Arc<Self>) {
        let handle = self.0;
        elsewhere(|| handle.close());
    }
}

#[test]
fn a_close_that_comes_while_arrivals_are_let_in_is_not_lost() {
    let runtime = Runtime::builder().max_tasks(10).build().unwrap();
    let handle = runtime.handle();
    let frame = elsewhere(|| {
        let mut frame = Box::pin(handle.spawn(async {}));
        assert!(poll_with(frame.as_mut(), &Waker::from(Arc::new(Closes(handle)))).is_pending());
        frame
    });
    runtime.block_on(look_around());
    let admitted = runtime.block_on(async { spawn(async {}).await.map(drop) });
    assert_eq!(admitted, Err(SpawnError::Closed));
    runtime.block_on(async { handle.drain(Duration::from_secs(50)).await.unwrap() });
    drop(frame);
}

#[test]
fn a_close_races_with_arrivals_and_is_never_lost() {
    let start = Instant::now();
    for _ in (0..20_000).take_while(|_| start.elapsed() < Duration::from_secs(3)) {
        let runtime = Runtime::builder().max_tasks(1_000).build().unwrap();
        let (handle, go) = (runtime.handle(), Arc::new(Barrier::new(3)));
        let arriving = thread::spawn({
            let go = go.clone();
            move || {
                go.wait();
                let mut frames: Vec<_> = (0..3).map(|_| Box::pin(handle.spawn(async {}))).collect();
                frames.iter_mut().for_each(|frame| drop(poll_once(frame.as_mut())));
                frames
            }
        });
        let closing = thread::spawn({
            let go = go.clone();
            move || {
                go.wait();
                handle.close();
            }
        });
        go.wait();
        runtime.block_on(async {
            while !closing.is_finished() {
                yield_now().await
            }
        });
        closing.join().unwrap();
        let admitted = runtime.block_on(async { spawn(async {}).await.map(drop) });
        assert_eq!(admitted, Err(SpawnError::Closed));
        drop(arriving.join().unwrap());
    }
}

#[test]
fn no_service_begins_after_a_close_elsewhere_has_returned() {
    let runtime = Runtime::new().unwrap();
    let handle = runtime.handle();
    runtime.block_on(async {
        elsewhere(|| handle.close());
        assert!(spawn_service(async {}).unwrap_err().is_closed());
    });
}

#[test]
fn what_is_declared_beyond_all_memory_is_refused_and_leaves_room_for_others() {
    Runtime::builder().max_tasks(10).build().unwrap().block_on(async {
        assert_eq!(spawn(async {}).heap(usize::MAX).await.unwrap_err(), SpawnError::ExceedsLimit);
        let large = spawn(pending::<()>()).heap(1 << 40).await.unwrap();
        assert!(poll_once(Box::pin(spawn(async { [1_u8; 100] })).as_mut()).is_ready());
        large.abort();
    });
}

/// What the worst case says of one part.
fn part(builder: &Builder, name: &str) -> usize {
    builder.worst_case().parts().find(|part| part.name == name).unwrap().bytes.unwrap()
}

#[test]
fn headers_are_never_more_than_the_worst_case_says() {
    for tasks in [1, 63, 64, 1_087, 1_088, 5_183, 5_184, 21_568] {
        let builder = Runtime::builder().max_tasks(tasks).service_tasks(0);
        let worst = part(&builder, "task headers");
        // On a thread of its own, and so in a home of its own, as long as others hold theirs.
        builder.build().unwrap().block_on(async {
            let before = metrics().headers_resident;
            for _ in 0..tasks {
                drop(spawn(pending::<()>()).await.unwrap());
            }
            let now = metrics().headers_resident;
            assert!(now == before || now * 64 <= worst, "{tasks} tasks: {now} headers, {worst} bytes");
        });
    }
}

#[test]
fn a_worst_case_of_nonsense_is_not_small() {
    for builder in [
        Builder::new().max_tasks(usize::MAX),
        Builder::new().service_tasks(usize::MAX),
        Builder::new().blocking_stack_size(usize::MAX),
        Builder::new().blocking_threads(usize::MAX).blocking_queue(usize::MAX),
        Builder::new().max_waiting(usize::MAX).max_foreign(usize::MAX),
        Builder::new().max_timers(usize::MAX).max_sockets(usize::MAX).max_task_bytes(usize::MAX),
    ] {
        let largest = builder.worst_case().parts().filter_map(|part| part.bytes).max().unwrap();
        assert!(largest > usize::MAX / 64, "{}", builder.worst_case());
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_runtime_that_is_dropped_leaves_no_more_headers_than_a_small_one_takes() {
    let runtime = Runtime::builder().max_tasks(100_000).build().unwrap();
    runtime.block_on(async {
        for _ in 0..100_000 {
            drop(spawn(pending::<()>()).await.unwrap());
        }
        assert!(metrics().headers_resident >= 100_000);
    });
    drop(runtime);
    // It may get that home, or another's of this process, none of which holds many.
    let resident = Runtime::new().unwrap().metrics().headers_resident;
    assert!(resident < 30_000, "{resident}");
}

#[test]
#[cfg(target_os = "linux")]
fn a_second_burst_too_goes_back_before_a_long_wait() {
    let runtime = Runtime::builder().max_tasks(20_000).build().unwrap();
    runtime.block_on(async {
        for round in 0..2 {
            let mut handles = Vec::new();
            for _ in 0..20_000 {
                handles.push(spawn(async {}).await.unwrap());
            }
            for handle in handles {
                handle.await.unwrap();
            }
            if round == 0 {
                time::sleep(Duration::from_millis(150)).await;
            }
        }
        // A wait without an end in sight, and so soon after the last time that memory went back.
        spawn_blocking(|| thread::sleep(Duration::from_secs(2))).await.unwrap();
        assert!(metrics().headers_resident < 15_000, "{}", metrics().headers_resident);
    });
}

#[test]
fn as_many_callers_wait_for_the_pool_as_may_and_no_more() {
    let runtime = Runtime::builder().blocking_threads(1).blocking_queue(0).max_waiting(1).build().unwrap();
    runtime.block_on(async {
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let mut running = Box::pin(spawn_blocking(move || _ = wait.recv()));
        assert!(poll_once(running.as_mut()).is_pending());
        let mut waiting = Box::pin(spawn_blocking(|| 1));
        assert!(poll_once(waiting.as_mut()).is_pending());
        let Poll::Ready(Err(error)) = poll_once(Box::pin(spawn_blocking(|| 2)).as_mut()) else {
            panic!("one waits already")
        };
        assert!(error.to_string().contains("as many callers wait"), "{error}");
        go.send(()).unwrap();
        running.await.unwrap();
        assert_eq!(waiting.await.unwrap(), 1);
    });
}
