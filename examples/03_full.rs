//! At the bound: wait, do it yourself, change your mind, or give up after a while.
//!
//! # Idea
//! To wait for room is one answer of several, and the caller's to choose. Whichever it is, the future is not lost: until it
//! is admitted it is the caller's, and was never polled.
//!
//! | you would rather | write |
//! |---|---|
//! | wait | `spawn(work).await` |
//! | know at once | `try_spawn(work)`: an error gives `work` back |
//! | wait, but not for long | `timeout(patience, spawn(work)).await`: bounds the wait for room, and never the work |
//! | have it all done in time | `timeout(patience, spawn(work).join()).await`: bounds both, and aborts the work |
//! | wait, and then do something else with `work` | `waiting.withdraw()`: leaves the line, with `work` |
//!
//! # Deadlock
//! A task that holds the last place and waits for a child that cannot get in runs it in its own place, when nothing else can
//! move: `13_no_deadlock.rs`.
//!
//! # Read next
//! `04_services_and_time.rs`, also for the clock of this one: it is held, so no timeout takes any time.

use std::pin::pin;
use std::time::Duration;

use anteroom::time::{now, sleep, timeout};
use anteroom::{Runtime, SpawnError, metrics, spawn, try_spawn};

const PATIENCE: Duration = Duration::from_millis(100);

/// Work that takes a while: far longer than the patience.
async fn work(name: &'static str) -> &'static str {
    sleep(Duration::from_secs(10)).await;
    name
}

async fn at_the_bound() {
    // Both places are taken for ten seconds.
    let holders = [try_spawn(work("first")), try_spawn(work("second"))];
    let holders = holders.map(|holder| holder.expect("there is room for two"));

    // Know at once. The future comes back, unpolled; here it is done right here, in no place at all.
    let refused = try_spawn(async { "done by hand" }).unwrap_err();
    println!("try_spawn: {refused}");
    assert!(refused.is_full());
    assert_eq!(refused.into_future().await, "done by hand");

    // Give up after a while. What waited is dropped, and was never polled.
    let start = now();
    let tired = timeout(PATIENCE, spawn(async { unreachable!("it was never admitted") })).await;
    println!("timeout around the spawn: {}", tired.expect_err("no room in time"));
    assert!((PATIENCE..2 * PATIENCE).contains(&(now() - start)));
    assert_eq!(metrics().waiting, 0, "it has left the line");

    // Change your mind: the same, but the future is wanted back.
    let mut waiting = pin!(spawn(work("withdrawn")));
    assert!(timeout(PATIENCE, waiting.as_mut()).await.is_err());
    assert_eq!(metrics().waiting, 1, "it is still in line");
    let future = waiting.as_mut().withdraw().expect("it was not admitted");
    println!("withdrawn after {} ms in line", PATIENCE.as_millis());
    assert_eq!(metrics().waiting, 0);

    // Wait. The future that was withdrawn is as new, and gets the first place that comes free.
    let handle = spawn(future).await.expect("the runtime is not closed");
    for holder in holders {
        println!("{} is done", holder.await.expect("it does not panic"));
    }
    println!("{} is done", handle.await.expect("it does not panic"));

    // With room, the two timeouts part: this one bounds the wait for a place, and ten seconds of work are no matter.
    let handle = timeout(PATIENCE, spawn(work("patient"))).await.expect("there is room").unwrap();
    assert_eq!(handle.await.unwrap(), "patient");
    // This one bounds the work too: it is aborted when the time is over, and its place is free again.
    let late = timeout(PATIENCE, spawn(work("late")).join()).await;
    println!("timeout around the join: {}", late.expect_err("ten seconds are longer"));
    anteroom::yield_now().await;
    assert_eq!(metrics().tasks_live, 0);
}

fn main() -> std::io::Result<()> {
    let runtime = Runtime::builder().max_tasks(2).paused_clock(true).build()?;
    runtime.block_on(at_the_bound());
    assert_eq!(runtime.metrics().tasks_live_peak, 2);
    drop(runtime);

    // A second bound, on bytes: what could never fit is an error at once, not a wait without an end.
    let runtime = Runtime::builder().max_task_bytes(10_000).build()?;
    let large = [0_u8; 10_001];
    let error = runtime.block_on(spawn(async move { large.len() })).unwrap_err();
    println!("a future of more than 10,000 bytes: {error}");
    assert_eq!(error, SpawnError::ExceedsLimit);
    Ok(())
}

#[test]
fn until_it_is_admitted_a_future_is_its_callers() {
    main().unwrap();
}
