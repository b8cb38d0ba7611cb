//! Tasks that wait for tasks that they spawn, at a limit of one.
//!
//! # Problem
//! A limit on tasks that spawn tasks and wait for them is a deadlock in waiting, in any pool: as soon as all who have a place
//! wait for one, nobody ever gives one back.
//!
//! # Idea
//! Before the runtime would sleep with nothing to run, it looks whether all who have a place wait for room, or for other tasks.
//! If so, the first in line who has a place runs its child there: in its own frame, where the child's future lies already. No
//! task is made, and the limit holds.
//!
//! | you spawn | and wait | at the limit |
//! |---|---|---|
//! | a child | for its handle | it runs in your place, when nothing else can move |
//! | `.or_in_place()` | for its handle | it runs in your place at once |
//! | into a group | for the group | the same, for the group's limit and the runtime's |
//! | from the future of `block_on`, or a service | | you have no place: you wait, and others go on |
//!
//! # Read next
//! `runtime/src/admission/lending.rs`, who is chosen; `runtime/src/task/in_place.rs`, how it runs.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anteroom::{Runtime, TaskGroup, metrics, spawn};

type Sum = Pin<Box<dyn Future<Output = u64> + Send>>;

/// How many children ran in a place that was not their own, at once.
#[derive(Clone, Default)]
struct Depth(Arc<AtomicUsize>);

impl Depth {
    fn look(&self) {
        let now = metrics();
        assert!(now.tasks_live <= now.tasks_max, "the limit holds at every step");
        self.0.fetch_max(now.in_place, Ordering::Relaxed);
    }

    fn take(&self) -> usize {
        self.0.swap(0, Ordering::Relaxed)
    }
}

/// Adds up a range by halves, each a task of its own that its parent waits for.
fn by_halves(from: u64, to: u64, at_once: bool, depth: Depth) -> Sum {
    Box::pin(async move {
        depth.look();
        if to - from == 1 {
            return from;
        }
        let middle = from.midpoint(to);
        let left = spawn(by_halves(from, middle, at_once, depth.clone()));
        let left = if at_once { left.or_in_place() } else { left };
        let left = left.await.expect("the runtime is not closed");
        let right = spawn(by_halves(middle, to, at_once, depth)).await.expect("the runtime is not closed");
        left.await.expect("it does not panic") + right.await.expect("it does not panic")
    })
}

/// The same, each half in a group of one.
fn by_groups(from: u64, to: u64, depth: Depth) -> Sum {
    Box::pin(async move {
        depth.look();
        if to - from == 1 {
            return from;
        }
        let group = TaskGroup::with_limit(1);
        let middle = from.midpoint(to);
        for (from, to) in [(from, middle), (middle, to)] {
            group.spawn(by_groups(from, to, depth.clone())).await.expect("the runtime is not closed");
        }
        group.join_all().await.expect("nobody panics").into_iter().sum()
    })
}

fn main() -> std::io::Result<()> {
    let depth = Depth::default();
    let expected: u64 = (0..1_000).sum();
    println!("the sum of 0..1,000 by halves: 1,999 tasks, each parent waits for its children");
    for limit in [1, 2, 8, 4_096] {
        let runtime = Runtime::builder().max_tasks(limit).build()?;
        let waits = spawn(by_halves(0, 1_000, false, depth.clone())).join();
        assert_eq!(runtime.block_on(waits).expect("it does not panic"), expected);
        let waited = depth.take();

        let goes_on = spawn(by_halves(0, 1_000, true, depth.clone())).join();
        assert_eq!(runtime.block_on(goes_on).expect("it does not panic"), expected);
        let at_once = depth.take();

        let groups = spawn(by_groups(0, 1_000, depth.clone())).join();
        assert_eq!(runtime.block_on(groups).expect("it does not panic"), expected);
        let in_groups = depth.take();

        let peak = runtime.metrics().tasks_live_peak;
        assert!(peak <= limit);
        println!(
            "  limit {limit:>5}: {peak:>4} live at most; in their spawner's place at once, at most: {waited} when it has to \
             be, {at_once} at once, {in_groups} in groups"
        );
        if limit == 1 {
            assert!(waited > 0 && at_once > 0 && in_groups > 0, "all but the first run in its place");
        }
        if limit == 4_096 {
            assert_eq!((waited, at_once), (0, 0), "there is room for all");
        }
    }
    Ok(())
}

#[test]
fn a_full_limit_is_no_deadlock() {
    main().unwrap();
}
