//! What may go wrong in a group: offers to run in place that nobody takes, frames that move between tasks, places that are
//! given while somebody leaves; and small worlds of groups, all of them.

use std::future::pending;
use std::pin::pin;
use std::sync::Arc;

use anteroom::{Runtime, TaskGroup, spawn, time, yield_now};
use anteroom_tests::{Gate, must_end, poll_once};

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
