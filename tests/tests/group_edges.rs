//! What may go wrong in a group: offers to run in place that nobody takes, frames that move between tasks, places that are
//! given while somebody leaves; and small worlds of groups, all of them.

use std::future::{pending, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};

use anteroom::{Runtime, SpawnError, TaskGroup, metrics, spawn, yield_now};
use anteroom_tests::{Gate, Hooks, must_end, poll_once, poll_with};

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

fn runtime(tasks: usize) -> Runtime {
    Runtime::builder().max_tasks(tasks).build().unwrap()
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
