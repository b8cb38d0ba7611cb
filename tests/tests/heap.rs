//! Bytes that a task declares beyond its size: counted exactly, given back however it ends, and never wrapped.

use std::pin::pin;
use std::task::Poll;

use anteroom::{Runtime, SpawnError, holders, metrics, reserve, spawn, spawn_local, spawn_with, yield_now};
use anteroom_tests::{Endless, Gate, Wait, elsewhere, look_around, poll_once};

async fn panics(wait: Wait) {
    wait.await;
    panic!("at the end");
}

fn runtime(bytes: usize) -> Runtime {
    Runtime::builder().max_task_bytes(bytes).build().unwrap()
}

#[test]
fn what_is_declared_is_given_back_however_the_task_ends() {
    let runtime = runtime(10_000);
    runtime.block_on(async {
        for n in 0..3 {
            let gate = Gate::new();
            let wait = gate.wait();
            let ends = spawn(async move { (wait.await, [0_u8; 8]).1 }).heap(1_000).await.unwrap();
            let wait = gate.wait();
            let panics = spawn_local(panics(wait)).heap(2_000).await.unwrap();
            let aborted = spawn_with(|| Endless::<100>::NEW).heap(3_000).await.unwrap();
            let never_polled = spawn(Endless::<100>::NEW).heap(500).try_now().unwrap();
            never_polled.abort();
            let bytes: usize = holders().iter().map(|holder| holder.bytes()).sum();
            assert_eq!(metrics().task_bytes, bytes);
            assert!((6_500..7_500).contains(&bytes), "{bytes}");
            yield_now().await;
            assert_eq!(metrics().task_bytes, bytes - 600);
            aborted.abort();
            gate.open();
            assert_eq!(ends.await.unwrap(), [0; 8]);
            assert!(panics.await.unwrap_err().is_panic());
            assert!(aborted.await.unwrap_err().is_cancelled());
            assert_eq!((metrics().task_bytes, metrics().tasks_live), (0, 0), "{n}");
        }
        drop(spawn(Endless::<10>::NEW).heap(9_000).await.unwrap());
        assert_eq!(metrics().task_bytes, 9_010);
    });
    drop(runtime);
    // A home, and with it the headers, is used again: nothing of what was declared is left in it.
    self::runtime(100).block_on(async {
        for _ in 0..10 {
            drop(spawn(Endless::<10>::NEW).await.unwrap());
        }
        assert_eq!(metrics().task_bytes, 100);
        assert!(holders().iter().all(|holder| holder.bytes() == 10));
    });
}

#[test]
fn a_task_dropped_with_its_runtime_gives_its_bytes_to_nobody() {
    struct Look;
    impl Drop for Look {
        fn drop(&mut self) {
            assert!(metrics().task_bytes >= 700, "given back after the future is gone");
        }
    }
    let runtime = runtime(1_000);
    runtime.block_on(async {
        let look = Look;
        drop(spawn(async move { (std::future::pending::<()>().await, look).0 }).heap(700).await.unwrap());
        yield_now().await;
    });
    let handle = runtime.handle();
    let mut waiting = Box::pin(handle.spawn(async {}).heap(400));
    assert!(poll_once(waiting.as_mut()).is_pending());
    drop(runtime);
    assert!(matches!(poll_once(waiting.as_mut()), Poll::Ready(Err(SpawnError::Closed))));
}

#[test]
fn the_line_is_one_for_places_and_bytes() {
    // bugs.md 4: the large one at the head holds up the small ones, and when it leaves all of them get in.
    runtime(1_000).block_on(async {
        let holder = spawn(Endless::<0>::NEW).heap(600).await.unwrap();
        let mut large = Box::pin(spawn(Endless::<0>::NEW).heap(500));
        assert!(poll_once(large.as_mut()).is_pending());
        let mut small: Vec<_> = (0..4).map(|_| Box::pin(spawn(Endless::<0>::NEW).heap(100))).collect();
        for spawn in &mut small {
            assert!(poll_once(spawn.as_mut()).is_pending(), "nobody overtakes");
        }
        let refused = spawn(Endless::<0>::NEW).heap(1).try_now().unwrap_err();
        assert!(refused.is_queued(), "{refused:?}");
        elsewhere(|| drop(large));
        look_around().await;
        assert_eq!((metrics().task_bytes, metrics().waiting), (1_000, 0));
        holder.abort();
        for spawn in small {
            spawn.await.unwrap().abort();
        }
        look_around().await;
        assert_eq!(metrics().task_bytes, 0);
    });
}

#[test]
fn a_fitting_task_of_any_size_is_admitted_and_one_byte_more_is_not() {
    runtime(1_000).block_on(async {
        let fits = spawn(Endless::<400>::NEW).heap(600).try_now().unwrap();
        assert_eq!(metrics().task_bytes, 1_000);
        assert!(spawn(Endless::<0>::NEW).heap(1).try_now().unwrap_err().is_full());
        let nothing = spawn(Endless::<0>::NEW).heap(0).try_now().unwrap();
        assert!(spawn(Endless::<400>::NEW).heap(601).try_now().unwrap_err().exceeds_limit());
        assert_eq!(spawn(Endless::<400>::NEW).heap(601).await.unwrap_err(), SpawnError::ExceedsLimit);
        fits.abort();
        nothing.abort();
        yield_now().await;
        assert_eq!((metrics().task_bytes, metrics().tasks_live), (0, 0));
    });
}

#[test]
fn huge_values_are_refused_and_never_wrap() {
    // bugs.md 10
    for huge in [usize::MAX, usize::MAX - 1, usize::MAX - 8, usize::MAX / 2 + 1] {
        runtime(1_000).block_on(async {
            assert!(spawn(Endless::<64>::NEW).heap(huge).try_now().unwrap_err().exceeds_limit());
            assert_eq!(
                spawn_with(|| Endless::<64>::NEW).heap(huge).await.unwrap_err(),
                SpawnError::ExceedsLimit
            );
            assert_eq!(reserve().bytes(huge).await.unwrap_err(), SpawnError::ExceedsLimit);
            assert_eq!(metrics().task_bytes, 0);
        });
        // Without a limit, or with the largest: it is more than memory can hold, and would leave room for nobody.
        for limit in [None, Some(usize::MAX)] {
            let builder = Runtime::builder();
            let builder = limit.into_iter().fold(builder, anteroom::Builder::max_task_bytes);
            builder.build().unwrap().block_on(async {
                assert!(spawn(Endless::<64>::NEW).heap(huge).try_now().unwrap_err().exceeds_limit());
                assert_eq!(reserve().bytes(huge).await.unwrap_err(), SpawnError::ExceedsLimit);
                assert_eq!(metrics().task_bytes, 0);
            });
        }
    }
    // The largest that may be asked for; one of them fits.
    let huge = isize::MAX as usize - 64;
    Runtime::new().unwrap().block_on(async {
        let one = spawn(Endless::<64>::NEW).heap(huge).try_now().unwrap();
        assert_eq!((metrics().task_bytes, holders()[0].bytes()), (huge + 64, huge + 64));
        assert!(spawn(Endless::<64>::NEW).heap(huge).try_now().unwrap_err().is_full());
        let mut waits = pin!(spawn(Endless::<64>::NEW).heap(huge));
        assert!(poll_once(waits.as_mut()).is_pending());
        let mut seat = pin!(reserve().bytes(huge));
        assert!(poll_once(seat.as_mut()).is_pending());
        one.abort();
        waits.await.unwrap().abort();
        let place = seat.await.unwrap();
        assert_eq!(metrics().task_bytes, huge);
        let task = place.spawn(Endless::<64>::NEW).unwrap();
        assert_eq!(metrics().task_bytes, huge);
        task.abort();
        yield_now().await;
        assert_eq!((metrics().task_bytes, metrics().tasks_live), (0, 0));
    });
}

#[test]
fn try_now_takes_no_turn_and_loses_no_future() {
    let runtime = Runtime::builder().max_tasks(1).build().unwrap();
    let handle = runtime.handle();
    // By way of a handle it is only for the runtime's own thread.
    let error = handle.spawn(async { 1 }).try_now().unwrap_err();
    assert!(error.is_closed());
    runtime.block_on(async {
        assert_eq!(error.into_future().await, 1);
        let task = handle.spawn(async { 2 }).heap(50).try_now().unwrap();
        assert!(metrics().task_bytes >= 50);
        let error = handle.spawn(async { 3 }).try_now().unwrap_err();
        assert!(error.is_full());
        assert_eq!((task.await.unwrap(), error.into_future().await), (2, 3));
        let local = spawn_local(async { std::rc::Rc::new(4) }).heap(1).try_now().unwrap();
        assert_eq!(*local.await.unwrap(), 4);
        handle.close();
        assert!(spawn(async {}).try_now().unwrap_err().is_closed());
        assert_eq!(metrics().task_bytes, 0);
    });
}

#[test]
#[allow(clippy::let_underscore_future, reason = "that it panics is the point")]
fn try_now_outside_of_a_runtime_panics_and_says_so() {
    let panic = std::panic::catch_unwind(|| drop(spawn(async {}).try_now())).unwrap_err();
    assert!(panic.downcast_ref::<&str>().unwrap().contains("no anteroom runtime on this thread"));
}
