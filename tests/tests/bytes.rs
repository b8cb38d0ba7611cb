//! A second limit, on the bytes of futures, granted together with places or not at all.

use std::pin::pin;

use anteroom::{Runtime, SpawnError, metrics, spawn, spawn_service, try_spawn, yield_now};
use anteroom_tests::{Endless, poll_once};

fn runtime(max_task_bytes: usize) -> Runtime {
    Runtime::builder().max_tasks(10).max_task_bytes(max_task_bytes).build().unwrap()
}

#[test]
fn when_a_large_head_gives_up_those_behind_it_get_in_at_once() {
    // bugs.md 4, 6
    runtime(1_000).block_on(async {
        let _holder = try_spawn(Endless::<400>::NEW).unwrap();
        let mut large = Box::pin(spawn(Endless::<700>::NEW));
        assert!(poll_once(large.as_mut()).is_pending());
        let mut small: Vec<_> = (0..4).map(|_| Box::pin(spawn(Endless::<200>::NEW))).collect();
        for spawn in &mut small {
            assert!(poll_once(spawn.as_mut()).is_pending(), "nobody overtakes the head");
        }
        assert_eq!((metrics().tasks_live, metrics().waiting), (1, 5));
        drop(large);
        assert_eq!((metrics().tasks_live, metrics().waiting), (4, 1), "all that fit, in the same call");
        assert_eq!(metrics().task_bytes, 1_000);
        for spawn in &mut small[..3] {
            assert!(poll_once(spawn.as_mut()).is_ready());
        }
    });
}

#[test]
fn try_spawn_says_why_and_gives_the_future_back() {
    Runtime::builder().max_tasks(2).max_task_bytes(1_000).build().unwrap().block_on(async {
        let error = try_spawn(Endless::<1_001>::NEW).unwrap_err();
        assert!(error.exceeds_limit() && !error.is_full() && !error.is_queued() && !error.is_closed());
        assert_eq!(error.into_future().0, [7; 1_001]);

        let _first = try_spawn(Endless::<400>::NEW).unwrap();
        assert!(try_spawn(Endless::<601>::NEW).unwrap_err().is_full(), "too many bytes");

        let mut large = Box::pin(spawn(Endless::<700>::NEW));
        assert!(poll_once(large.as_mut()).is_pending());
        let error = try_spawn(Endless::<10>::NEW).unwrap_err();
        assert!(error.is_queued() && !error.is_full(), "{error}");
        assert_eq!(error.into_future().0, [7; 10]);

        drop(large);
        let _second = try_spawn(Endless::<600>::NEW).unwrap();
        let error = try_spawn(std::future::ready(1)).unwrap_err();
        assert!(error.is_full(), "{error}: too many tasks");
        assert_eq!(error.into_future().await, 1);
    });
}

#[test]
fn bytes_are_those_of_the_futures_and_come_back_when_they_are_done() {
    runtime(1_000).block_on(async {
        let task = spawn(async { [1_u8; 100] }).await.unwrap();
        let bytes = metrics().task_bytes;
        let other = spawn(Endless::<300>::NEW).await.unwrap();
        let nothing = spawn(std::future::pending::<()>()).await.unwrap();
        assert_eq!((metrics().task_bytes, metrics().tasks_live), (bytes + 300, 3));
        other.abort();
        nothing.abort();
        yield_now().await;
        assert_eq!((metrics().task_bytes, metrics().tasks_live), (0, 0), "though the handles are kept");
        assert_eq!(task.await.unwrap(), [1; 100]);
    });
}

#[test]
fn a_future_of_exactly_the_limit_gets_in_alone() {
    runtime(500).block_on(async {
        let all = spawn(Endless::<500>::NEW).await.unwrap();
        let mut next = Box::pin(spawn(Endless::<500>::NEW));
        assert!(poll_once(next.as_mut()).is_pending());
        let nothing = try_spawn(std::future::pending::<()>()).unwrap_err();
        assert!(nothing.is_queued(), "what needs no bytes needs its turn all the same");
        all.abort();
        yield_now().await;
        assert_eq!((metrics().task_bytes, metrics().waiting), (500, 0));
        assert!(poll_once(next.as_mut()).is_ready());
    });
}

#[test]
fn a_future_larger_than_the_limit_is_refused_at_once() {
    // bugs.md 15
    runtime(100).block_on(async {
        let mut large = pin!(spawn(Endless::<101>::NEW));
        assert_eq!(large.as_mut().await.unwrap_err(), SpawnError::ExceedsLimit);
        assert_eq!(large.as_mut().withdraw().expect("it is still there").0, [7; 101]);
        let error = spawn(Endless::<101>::NEW).join().await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "the task was never started: the task asks for more than max_task_bytes"
        );
        assert_eq!((metrics().waiting, metrics().task_bytes), (0, 0));
    });
}

#[test]
fn services_are_of_the_same_limit_of_bytes() {
    runtime(1_000).block_on(async {
        let service = spawn_service(Endless::<600>::NEW).unwrap();
        assert_eq!(metrics().task_bytes, 600);
        assert!(try_spawn(Endless::<600>::NEW).unwrap_err().is_full());
        assert!(spawn_service(Endless::<600>::NEW).unwrap_err().is_full());
        assert!(spawn_service(Endless::<1_001>::NEW).unwrap_err().exceeds_limit());
        // Who waits is let in by what the service gives back.
        let mut waiting = Box::pin(spawn(Endless::<600>::NEW));
        assert!(poll_once(waiting.as_mut()).is_pending());
        service.abort();
        drop(service.await);
        let task = waiting.await.unwrap();
        assert_eq!(metrics().task_bytes, 600);
        task.abort();
        drop(task.await);
        assert_eq!(metrics().task_bytes, 0);
    });
}

#[test]
fn what_an_alignment_may_waste_counts() {
    #[repr(align(4096))]
    struct Page([u8; 4096]);
    runtime(100_000).block_on(async {
        let page = Page([7; 4096]);
        let work = async move {
            let whole = page;
            yield_now().await;
            whole.0[9]
        };
        let task = try_spawn(work).unwrap();
        let bytes = metrics().task_bytes;
        assert!((4096 + 4096..=5 * 4096).contains(&bytes), "{bytes}");
        assert_eq!((task.await.unwrap(), metrics().task_bytes), (7, 0));
    });
}
