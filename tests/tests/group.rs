//! Tasks of a group are joined as they end, end together, and keep the group's limit besides the runtime's.

use std::cell::Cell;
use std::panic::resume_unwind;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use anteroom::{
    GroupHandle, JoinError, Runtime, SpawnError, TaskGroup, metrics, spawn, spawn_service, time, yield_now,
};
use anteroom_tests::{Gate, elsewhere, look_around, must_end, park_on, poll_once};

/// Counts how many are live, and how many were at most.
#[derive(Clone, Default)]
struct Live(Arc<(AtomicUsize, AtomicUsize)>);

struct Here(Live);

impl Live {
    fn enter(&self) -> Here {
        let now = self.0.0.fetch_add(1, Ordering::SeqCst) + 1;
        self.0.1.fetch_max(now, Ordering::SeqCst);
        Here(self.clone())
    }

    fn now(&self) -> usize {
        self.0.0.load(Ordering::SeqCst)
    }

    fn peak(&self) -> usize {
        self.0.1.load(Ordering::SeqCst)
    }
}

impl Drop for Here {
    fn drop(&mut self) {
        self.0.0.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn paused(tasks: usize) -> Runtime {
    Runtime::builder().max_tasks(tasks).paused_clock(true).build().unwrap()
}

#[test]
fn outputs_come_in_the_order_in_which_the_tasks_end() {
    paused(100).block_on(async {
        let group = TaskGroup::new();
        for millis in [30, 10, 20] {
            group
                .spawn(async move { (time::sleep(Duration::from_millis(millis)).await, millis).1 })
                .await
                .unwrap();
        }
        assert_eq!(group.len(), 3);
        assert_eq!(group.join_all().await.unwrap(), [10, 20, 30]);
        assert!(group.is_empty() && group.join_next().await.is_none());
    });
}

#[test]
fn no_more_than_the_groups_limit_are_live_nor_than_the_runtimes() {
    for (limit, tasks) in [(1, 10), (3, 10), (10, 3), (10, 1)] {
        let runtime = paused(tasks);
        let live = Live::default();
        runtime.block_on(async {
            let group = TaskGroup::with_limit(limit);
            for n in 0..50_u64 {
                let live = live.clone();
                let job = async move {
                    let _here = live.enter();
                    time::sleep(Duration::from_millis(n % 7)).await;
                    yield_now().await;
                    n
                };
                group.spawn(job).await.unwrap();
            }
            let outputs = group.join_all().await.unwrap();
            assert_eq!(outputs.iter().sum::<u64>(), 49 * 50 / 2);
        });
        assert_eq!((live.now(), live.peak()), (0, limit.min(tasks)));
    }
}

#[test]
fn a_task_that_ends_before_its_spawn_is_told_is_joined() {
    let runtime = Runtime::builder().max_tasks(1).build().unwrap();
    runtime.block_on(async {
        let gate = Gate::new();
        let holder = spawn(gate.wait()).await.unwrap();
        let group = TaskGroup::new();
        let mut waiting = pin!(group.spawn(async { 5 }));
        assert!(poll_once(waiting.as_mut()).is_pending());
        gate.open();
        holder.await.unwrap();
        look_around().await;
        assert_eq!(group.len(), 0, "nobody was told of it yet");
        assert!(poll_once(waiting.as_mut()).is_ready());
        assert_eq!(group.len(), 1);
        assert_eq!(group.join_next().await.unwrap().unwrap(), 5);
    });
}

#[test]
fn a_spawn_that_is_dropped_gives_both_places_back_wherever_it_waits() {
    let runtime = Runtime::builder().max_tasks(2).build().unwrap();
    runtime.block_on(async {
        for (limit, others) in [(1, 0), (2, 1)] {
            let live = Live::default();
            let job = || {
                let live = live.clone();
                async move {
                    let _here = live.enter();
                    std::future::pending::<()>().await
                }
            };
            let group = TaskGroup::with_limit(limit);
            let others: Vec<_> =
                (0..others).map(|_| anteroom::try_spawn(std::future::pending::<()>()).unwrap()).collect();
            group.spawn(job()).await.unwrap();
            // In the group's line, or in the runtime's.
            let mut waiting = Box::pin(group.spawn(job()));
            assert!(poll_once(waiting.as_mut()).is_pending());
            assert_eq!(metrics().waiting, usize::from(limit == 2));
            drop(waiting);
            assert_eq!(metrics().waiting, 0);
            let mut next = Box::pin(group.spawn(job()));
            assert!(poll_once(next.as_mut()).is_pending());
            group.abort_all();
            assert!(group.join_next().await.unwrap().unwrap_err().is_cancelled());
            next.await.unwrap();
            others.iter().for_each(|other| other.abort());
            drop(group);
            yield_now().await;
            yield_now().await;
            assert_eq!((live.now(), metrics().tasks_live), (0, 0));
        }
    });
}

#[test]
fn a_spawn_dropped_after_it_was_let_in_ends_its_task() {
    let runtime = Runtime::builder().max_tasks(1).build().unwrap();
    runtime.block_on(async {
        let holder = anteroom::try_spawn(std::future::pending::<()>()).unwrap();
        let group = TaskGroup::with_limit(1);
        let mut waiting = Box::pin(group.spawn(std::future::pending::<()>()));
        assert!(poll_once(waiting.as_mut()).is_pending());
        holder.abort();
        assert!(holder.await.unwrap_err().is_cancelled());
        assert_eq!(metrics().tasks_live, 1, "it was let in");
        drop(waiting);
        look_around().await;
        assert_eq!((metrics().tasks_live, group.len()), (0, 0));
        group.spawn(async {}).await.unwrap();
        group.join_next().await.unwrap().unwrap();
    });
}

#[test]
fn a_dropped_group_is_gone_by_the_next_turn() {
    let runtime = paused(100);
    runtime.block_on(async {
        let live = Live::default();
        let group = TaskGroup::with_limit(50);
        for _ in 0..50 {
            let here = live.enter();
            group
                .spawn(async move {
                    let _here = here;
                    std::future::pending::<()>().await
                })
                .await
                .unwrap();
        }
        group.abort_all();
        let handle = group.handle();
        let mut late = pin!(handle.spawn(async {}));
        assert!(poll_once(late.as_mut()).is_pending());
        drop(group);
        yield_now().await;
        assert_eq!((live.now(), metrics().tasks_live), (0, 0));
        assert_eq!(late.await, Err(SpawnError::Closed));
        assert!(handle.try_spawn(async {}).unwrap_err().is_closed());
    });
}

#[test]
fn a_group_dropped_on_another_thread_ends_its_tasks_too() {
    must_end(|| {
        let runtime = Runtime::new().unwrap();
        runtime.block_on(async {
            let live = Live::default();
            let group = TaskGroup::new();
            for n in 0..50 {
                let here = live.enter();
                let job = async move {
                    let _here = here;
                    if n % 2 == 0 {
                        std::future::pending::<()>().await
                    }
                };
                group.spawn(job).await.unwrap();
            }
            look_around().await;
            elsewhere(move || drop(group));
            while live.now() > 0 || metrics().headers > 1 {
                yield_now().await;
            }
        });
    });
}

#[test]
fn a_group_joined_on_another_thread_gives_all() {
    must_end(|| {
        let runtime = Runtime::new().unwrap();
        let group = Arc::new(TaskGroup::new());
        let gate = Gate::new();
        let joiner = {
            let group = group.clone();
            let gate = gate.clone();
            std::thread::spawn(move || {
                park_on(gate.wait());
                let mut sum = 0;
                while let Some(output) = park_on(group.join_next()) {
                    sum += output.unwrap();
                }
                sum
            })
        };
        runtime.block_on(async {
            let stays = Gate::new();
            group
                .spawn({
                    let wait = stays.wait();
                    async move { (wait.await, 0).1 }
                })
                .await
                .unwrap();
            gate.open();
            for n in 0..1_000 {
                group.spawn(async move { (yield_now().await, n).1 }).await.unwrap();
            }
            stays.open();
            while !joiner.is_finished() {
                yield_now().await;
            }
        });
        assert_eq!(joiner.join().unwrap(), 999 * 1_000 / 2);
    });
}

#[test]
fn the_first_error_ends_the_rest() {
    #[derive(Debug)]
    enum Error {
        Bad(u32),
        Join,
    }
    impl From<JoinError> for Error {
        fn from(_: JoinError) -> Self {
            Error::Join
        }
    }
    paused(100).block_on(async {
        let live = Live::default();
        let group = TaskGroup::new();
        for n in 0..20_u32 {
            let here = live.enter();
            let job = async move {
                let _here = here;
                time::sleep(Duration::from_millis(n.into())).await;
                if n == 7 { Err(Error::Bad(n)) } else { Ok(n) }
            };
            group.spawn(job).await.unwrap();
        }
        assert!(matches!(group.try_join_all().await.unwrap_err(), Error::Bad(7)));
        assert_eq!((live.now(), group.len()), (0, 0), "the rest is gone when it is told");
        group.spawn(async { resume_unwind(Box::new("no")) }).await.unwrap();
        group.spawn(std::future::pending()).await.unwrap();
        assert!(matches!(group.try_join_all().await.unwrap_err(), Error::Join));
        group.spawn(async { Ok(1) }).await.unwrap();
        assert_eq!(group.try_join_all().await.unwrap(), [1]);
    });
}

#[test]
fn a_task_that_panics_is_an_error_of_that_task() {
    anteroom::block_on(async {
        let group = TaskGroup::with_limit(1);
        group.spawn(async { resume_unwind(Box::new("no")) }).await.unwrap();
        group.spawn(async { 2 }).await.unwrap();
        assert!(group.join_next().await.unwrap().unwrap_err().is_panic());
        assert_eq!(group.join_next().await.unwrap().unwrap(), 2);
        group.spawn(async { resume_unwind(Box::new("no")) }).await.unwrap();
        group.spawn(std::future::pending()).await.unwrap();
    });
}

#[test]
fn futures_that_are_not_send_may_be_of_a_group() {
    let runtime = Runtime::builder().max_tasks(2).build().unwrap();
    runtime.block_on(async {
        let group = TaskGroup::with_limit(1);
        let sum = Rc::new(Cell::new(0));
        for n in 0..10 {
            let sum = sum.clone();
            group
                .spawn_local(async move {
                    yield_now().await;
                    sum.set(sum.get() + n);
                    sum
                })
                .await
                .unwrap();
        }
        group.join_all().await.unwrap();
        assert_eq!(sum.get(), 45);
    });
}

#[test]
fn a_group_within_a_group_keeps_both_limits_and_ends_with_it() {
    let runtime = paused(100);
    runtime.block_on(async {
        let (outer_live, inner_live) = (Live::default(), Live::default());
        let outer = TaskGroup::with_limit(3);
        for _ in 0..3 {
            let (outer_live, inner_live) = (outer_live.clone(), inner_live.clone());
            let job = async move {
                let _here = outer_live.enter();
                let inner = TaskGroup::with_limit(2);
                for _ in 0..10 {
                    let live = inner_live.clone();
                    let job = async move {
                        let _here = live.enter();
                        time::sleep(Duration::from_secs(1)).await
                    };
                    inner.spawn(job).await.unwrap();
                }
                inner.join_all().await.unwrap();
            };
            outer.spawn(job).await.unwrap();
        }
        time::sleep(Duration::from_millis(2_500)).await;
        assert_eq!((outer_live.now(), inner_live.now(), inner_live.peak()), (3, 6, 6));
        drop(outer);
        // Those of the outer, and with them the inner groups; then the tasks of those.
        yield_now().await;
        yield_now().await;
        assert_eq!((outer_live.now(), inner_live.now(), metrics().tasks_live), (0, 0, 0));
    });
}

/// Spawns into two groups in turn, each task waiting for its child, by a channel of its own.
fn in_turn(
    left: GroupHandle<()>,
    right: GroupHandle<()>,
    deep: u32,
) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(async move {
        if deep > 0 {
            let child = in_turn(right.clone(), left, deep - 1);
            right.spawn(child).await.unwrap();
        }
    })
}

#[test]
fn two_groups_of_limit_1_that_spawn_into_each_other_go_on() {
    must_end(|| {
        for tasks in [1, 2, 3, 100] {
            for watched in [false, true] {
                let runtime = Runtime::builder().max_tasks(tasks).in_place_stack(16 << 20).build().unwrap();
                runtime.block_on(async {
                    // Somebody who waits for what has nothing to do with them.
                    let _service =
                        watched.then(|| spawn_service(time::sleep(Duration::from_secs(1_000))).unwrap());
                    let (left, right) = (TaskGroup::with_limit(1), TaskGroup::with_limit(1));
                    let mut first = pin!(left.spawn(in_turn(left.handle(), right.handle(), 100)));
                    let mut second = pin!(right.spawn(in_turn(right.handle(), left.handle(), 100)));
                    std::future::poll_fn(|cx| {
                        let _ = (first.as_mut().poll(cx), second.as_mut().poll(cx));
                        Poll::Ready(())
                    })
                    .await;
                    let mut joined = 0;
                    while joined < 2 {
                        if left.join_next().await.is_none() && right.join_next().await.is_none() {
                            joined += 1;
                            yield_now().await;
                        }
                    }
                    assert_eq!(metrics().in_place, 0);
                });
            }
        }
    });
}

#[test]
fn tasks_of_a_group_that_fill_it_and_wait_for_their_children_there_go_on() {
    fn nest(
        group: GroupHandle<usize>,
        live: Live,
        deep: usize,
    ) -> std::pin::Pin<Box<dyn Future<Output = usize> + Send>> {
        Box::pin(async move {
            let _here = live.enter();
            if deep > 0 {
                let child = nest(group.clone(), live.clone(), deep - 1);
                group.spawn(child).await.unwrap();
            }
            deep
        })
    }
    must_end(|| {
        for limit in 1..4 {
            for tasks in [1, 2, 100] {
                let runtime = Runtime::builder().max_tasks(tasks).in_place_stack(16 << 20).build().unwrap();
                let live = Live::default();
                runtime.block_on(async {
                    let group = TaskGroup::with_limit(limit);
                    group.spawn(nest(group.handle(), live.clone(), 100)).await.unwrap();
                    let mut outputs = group.join_all().await.unwrap();
                    outputs.sort_unstable();
                    assert!(outputs.into_iter().eq(0..=100));
                });
                assert_eq!(live.now(), 0);
            }
        }
    });
}

#[test]
fn who_fills_a_group_from_outside_waits_while_its_tasks_go_on() {
    // An accept loop, which must not become a connection.
    let runtime = paused(100);
    runtime.block_on(async {
        let group = Arc::new(TaskGroup::with_limit(2));
        let (into, live) = (group.handle(), Live::default());
        let accepts = spawn(async move {
            for _ in 0..10 {
                let here = live.enter();
                let job = async move {
                    let _here = here;
                    time::sleep(Duration::from_secs(1)).await;
                    assert_eq!(metrics().in_place, 0);
                };
                into.spawn(job).await.unwrap();
                assert!(live.now() <= 3);
            }
        });
        accepts.await.unwrap().await.unwrap();
        group.join_all().await.unwrap();
    });
}

/// Each with a group of its own, whose task it waits for.
fn groups_in_groups(deep: usize, limit: usize) -> std::pin::Pin<Box<dyn Future<Output = usize> + Send>> {
    Box::pin(async move {
        assert!(metrics().tasks_live <= limit);
        if deep == 0 {
            return 1;
        }
        let group = TaskGroup::with_limit(1);
        for _ in 0..2 {
            group.spawn(groups_in_groups(deep - 1, limit)).await.unwrap();
        }
        1 + group.join_all().await.unwrap().into_iter().sum::<usize>()
    })
}

#[test]
fn groups_of_limit_1_within_tasks_of_others_go_on_in_a_full_runtime() {
    must_end(|| {
        for limit in 1..=4 {
            let runtime = Runtime::builder().max_tasks(limit).build().unwrap();
            let tasks = runtime.block_on(spawn(groups_in_groups(7, limit)).join()).unwrap();
            assert_eq!(tasks, 255);
        }
    });
}

#[test]
fn who_takes_what_has_ended_keeps_nothing() {
    // In one poll, since there is room for all, and more than a poll may wait for.
    let runtime = Runtime::builder().max_tasks(10_000).build().unwrap();
    runtime.block_on(async {
        let group = TaskGroup::new();
        for n in 0..5_000 {
            group.try_spawn(async move { n }).unwrap();
        }
        assert!(group.try_join_next().is_none(), "none has ended yet");
        yield_now().await;
        assert_eq!(group.len(), 5_000);
        let mut taken = 0;
        while let Some(output) = group.try_join_next() {
            assert_eq!(output.unwrap(), taken);
            taken += 1;
        }
        assert_eq!((taken, group.len()), (5_000, 0));
    });
}
