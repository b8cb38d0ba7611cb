//! What may go wrong in a group: offers to run in place that nobody takes, frames that move between tasks, places that are
//! given while somebody leaves; and small worlds of groups, all of them.

use std::future::{pending, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anteroom::{GroupHandle, Runtime, SpawnError, TaskGroup, metrics, spawn, spawn_service, time, yield_now};
use anteroom_tests::{Gate, Hooks, must_end, poll_once, poll_with};

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

fn runtime(tasks: usize) -> Runtime {
    Runtime::builder().max_tasks(tasks).build().unwrap()
}

const LONG: Duration = Duration::from_secs(1_000_000);

#[test]
fn a_child_in_an_outsiders_place_may_have_children_in_the_group_while_others_sleep() {
    must_end(|| {
        runtime(10).block_on(async {
            let sleeper = spawn(time::sleep(LONG)).await.unwrap();
            let group = TaskGroup::with_limit(1);
            let outer = group.handle();
            let member = async move {
                let outsider = spawn(async move {
                    let inner = outer.clone();
                    outer.spawn(async move { inner.spawn(async {}).await.unwrap() }).await.unwrap();
                });
                outsider.await.unwrap().await.unwrap();
            };
            group.spawn(member).await.unwrap();
            assert_eq!(group.join_all().await.unwrap().len(), 3);
            sleeper.abort();
        });
    });
}

#[test]
fn an_outsider_runs_a_child_if_nothing_is_waited_for_that_would_make_room() {
    must_end(|| {
        runtime(2).block_on(async {
            let group = TaskGroup::with_limit(1);
            let gate = Gate::new();
            // Holds one of the runtime's two places for as long as the gate is shut.
            let behind = spawn(gate.wait()).await.unwrap();
            let handle = group.handle();
            let opener = gate.clone();
            let outsider =
                spawn(async move { handle.spawn(async move { opener.open() }).await }).await.unwrap();
            // Has the group's only place, and waits for the runtime's.
            let mut coming = pin!(group.spawn(async {}));
            assert!(poll_once(coming.as_mut()).is_pending());
            outsider.await.unwrap().unwrap();
            behind.await.unwrap();
            coming.await.unwrap();
            assert_eq!(group.join_all().await.unwrap().len(), 2);
        });
    });
}

#[test]
fn offers_that_many_groups_do_not_take_leave_one_for_the_last() {
    must_end(|| {
        runtime(200).block_on(async {
            let mut groups = Vec::new();
            for _ in 0..50 {
                let group = Arc::new(TaskGroup::with_limit(1));
                group.spawn(pending::<()>()).await.unwrap();
                groups.push(group.clone());
                // Polled once, and never again.
                let waits = async move {
                    let mut waiting = pin!(group.spawn(pending()));
                    assert!(poll_once(waiting.as_mut()).is_pending());
                    pending::<()>().await;
                };
                drop(spawn(waits).await.unwrap());
                yield_now().await;
            }
            let last = Arc::new(TaskGroup::with_limit(1));
            last.spawn(pending()).await.unwrap();
            let handle = last.handle();
            let takes = spawn(async move { handle.spawn(async {}).await.unwrap() }).await.unwrap();
            takes.await.unwrap();
        });
    });
}

#[test]
fn a_spawn_that_another_task_goes_on_with_is_known_by_that_task() {
    must_end(|| {
        runtime(1).block_on(async {
            let _armed = spawn_service(time::sleep(LONG)).unwrap();
            let (passed, done) = (Gate::new(), Gate::new());
            let slot: Arc<Mutex<Option<Boxed<()>>>> = Arc::default();
            let goes_on = {
                let (slot, passed, done) = (slot.clone(), passed.wait(), done.clone());
                async move {
                    passed.await;
                    let coming = slot.lock().unwrap().take().unwrap();
                    coming.await;
                    done.open();
                }
            };
            spawn(goes_on).await.unwrap();
            let group = Arc::new(TaskGroup::with_limit(1));
            let (owned, inner) = (group.clone(), group.handle());
            let mut coming: Boxed<()> = Box::pin(async move {
                // It has the group's only place, and waits for another.
                owned.spawn(async move { inner.spawn(async {}).await.unwrap() }).await.unwrap();
            });
            // Here, where there is no place to lend, and where nobody knows what is waited for.
            assert!(poll_once(Pin::new(&mut coming)).is_pending());
            *slot.lock().unwrap() = Some(coming);
            passed.open();
            yield_now().await;
            done.wait().await;
            assert_eq!(group.join_all().await.unwrap().len(), 2);
        });
    });
}

fn nest(group: GroupHandle<Result<(), SpawnError>>, deep: usize) -> Boxed<Result<(), SpawnError>> {
    Box::pin(async move {
        match deep {
            0 => Ok(()),
            _ => group.spawn(nest(group.clone(), deep - 1)).await,
        }
    })
}

fn on_stack<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    std::thread::Builder::new().stack_size(256 << 20).spawn(f).unwrap().join().unwrap()
}

#[test]
fn a_group_nested_too_deep_says_so() {
    must_end(|| {
        on_stack(|| {
            runtime(10).block_on(async {
                let group = TaskGroup::with_limit(1);
                group.spawn(nest(group.handle(), 5_000)).await.unwrap();
                let mut errors = Vec::new();
                while let Some(joined) = group.join_next().await {
                    errors.extend(joined.unwrap().err());
                }
                assert_eq!(errors, [SpawnError::TooDeep]);
            });
        });
    });
}

#[test]
fn a_child_that_would_be_one_too_many_in_place_is_refused() {
    must_end(|| {
        let runtime = Runtime::builder().max_tasks(1).max_waiting(1).build().unwrap();
        runtime.block_on(async {
            let group = TaskGroup::with_limit(1);
            group.spawn(nest(group.handle(), 1)).await.unwrap();
            // The line is as long as it may be.
            let mut other = Box::pin(spawn(async {}));
            assert!(poll_once(other.as_mut()).is_pending());
            assert_eq!(group.join_next().await.unwrap().unwrap(), Err(SpawnError::QueueFull));
            other.await.unwrap();
        });
    });
}

#[test]
fn a_child_that_waits_for_room_when_its_group_is_dropped_never_runs() {
    runtime(2).block_on(async {
        let gate = Gate::new();
        let holder = spawn(gate.wait()).await.unwrap();
        let group = TaskGroup::with_limit(1);
        let handle = group.handle();
        let spawner = async move { handle.spawn(async { unreachable!("its group is gone") }).await };
        let spawner = spawn(spawner).await.unwrap();
        yield_now().await;
        assert_eq!(metrics().waiting, 1);
        drop(group);
        assert_eq!(spawner.await.unwrap(), Err::<(), _>(SpawnError::Closed));
        assert_eq!(metrics().waiting, 0);
        gate.open();
        holder.await.unwrap();
    });
}

#[test]
fn a_child_in_place_ends_with_its_group() {
    must_end(|| {
        for tasks in [1, 10] {
            runtime(tasks).block_on(async {
                let _armed = spawn_service(time::sleep(LONG)).unwrap();
                let group = TaskGroup::with_limit(1);
                let handle = group.handle();
                let gate = Gate::new();
                let (dropped, opener) = (Gate::new(), gate.clone());
                let end = scopeguard(dropped.clone());
                let parent = spawn(async move {
                    let member = handle.clone();
                    handle
                        .spawn(async move {
                            let child = async move {
                                let _end = end;
                                opener.open();
                                pending::<()>().await
                            };
                            member.spawn(child).await.unwrap();
                        })
                        .await
                });
                let parent = parent.await.unwrap();
                gate.wait().await;
                assert_eq!(metrics().in_place, if tasks == 1 { 2 } else { 1 });
                drop(group);
                dropped.wait().await;
                let _ = parent.await.unwrap();
            });
        }
    });
}

struct Opens(Gate);

impl Drop for Opens {
    fn drop(&mut self) {
        self.0.open();
    }
}

fn scopeguard(gate: Gate) -> Opens {
    Opens(gate)
}

#[test]
fn a_shutdown_ends_what_comes_in_meanwhile() {
    must_end(|| {
        runtime(10).block_on(async {
            let group = TaskGroup::with_limit(1);
            group.spawn(pending::<()>()).await.unwrap();
            let handle = group.handle();
            let spawner = spawn(async move {
                for _ in 0..3 {
                    handle.spawn(pending()).await.unwrap();
                }
            });
            let spawner = spawner.await.unwrap();
            yield_now().await;
            group.shutdown().await;
            drop(group);
            let _ = spawner.await;
        });
    });
}

#[test]
fn a_place_that_is_given_while_the_offer_is_taken_is_not_lost() {
    must_end(|| {
        runtime(1).block_on(async {
            let group = Arc::new(TaskGroup::with_limit(1));
            let handle = group.handle();
            let child: Boxed<Result<(), SpawnError>> = Box::pin(async move { handle.spawn(async {}).await });
            let slot = Arc::new(Mutex::new(child));
            // The offer is made by way of this waker, which has the root polled before the task.
            let (first, hooks) = Hooks::new();
            let offered = Gate::new();
            let task = {
                let (slot, offered, mut first) = (slot.clone(), offered.clone(), Some(first));
                poll_fn(move |cx| {
                    let mut slot = slot.lock().unwrap();
                    let Some(first) = first.take() else { return slot.as_mut().poll(cx) };
                    let (offered, task) = (offered.clone(), cx.waker().clone());
                    hooks.on_wake(move || {
                        offered.open();
                        task.wake_by_ref();
                    });
                    poll_with(Pin::new(&mut *slot), &first).map(|_| unreachable!("the group is full"))
                })
            };
            let task = spawn(task).await.unwrap();
            // Has the group's only place, and waits for the runtime's.
            let coming: Boxed<()> = {
                let handle = group.handle();
                Box::pin(async move { handle.spawn(async {}).await.unwrap() })
            };
            let mut coming = Some(coming);
            assert!(poll_once(Pin::new(coming.as_mut().unwrap())).is_pending());
            offered.wait().await;
            // What it waits with from now on gives the group's place on when it is dropped.
            let (second, hooks) = Hooks::new();
            assert!(poll_with(Pin::new(&mut *slot.lock().unwrap()), &second).is_pending());
            drop(second);
            hooks.on_drop(move || drop(coming.take()));
            task.await.unwrap().unwrap();
            group.join_next().await.unwrap().unwrap();
            assert_eq!((group.len(), hooks.wakers_left(), metrics().in_place), (0, 0, 0));
            group.try_spawn(async {}).unwrap();
        });
    });
}

#[test]
fn a_hundred_thousand_groups_may_wait_at_once() {
    {
        let groups = 40_000;
        let start = std::time::Instant::now();
        runtime(100_001).block_on(async {
            let groups: Vec<_> = (0..groups).map(|_| TaskGroup::with_limit(1)).collect();
            let mut waiting = Vec::new();
            for group in &groups {
                group.try_spawn(yield_now()).unwrap();
                let mut second = Box::pin(group.spawn(async {}));
                assert!(poll_once(second.as_mut()).is_pending());
                waiting.push(second);
            }
            for second in waiting {
                second.await.unwrap();
            }
        });
        println!("{groups} {:?}", start.elapsed());
    }
}
