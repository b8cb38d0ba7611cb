//! What an owner does all day, again and again: `.ci/locked.sh` counts the locked instructions that it takes.
//!
//! `locked MODE ROUNDS`, where a round of
//! - `plain` spawns with room, wakes, yields, polls, completes, joins, aborts and lets go;
//! - `local-waits` spawns at the limit with `spawn_local`, whose frame stays on its thread;
//! - `waits` spawns at the limit with `spawn`, whose frame might be on another.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

use anteroom::{Runtime, spawn, spawn_local, try_spawn, yield_now};

type Sleeper = Rc<RefCell<Option<Waker>>>;

/// Pending for ever; it leaves the waker of each poll where others find it.
async fn sleep_for_ever(waker: Sleeper) {
    poll_fn(|cx| -> Poll<()> {
        let old = waker.replace(Some(cx.waker().clone()));
        drop(old);
        Poll::Pending
    })
    .await;
}

async fn plain(sleeper: &Sleeper) {
    // Local and not, small and large, with and without a wait in between.
    let local = spawn_local(async { (yield_now().await, 1).1 }).await.unwrap();
    assert_eq!(local.await.unwrap(), 1);
    let bytes = [2_u8; 300];
    assert_eq!(spawn(async move { (yield_now().await, bytes).1[7] }).join().await.unwrap(), 2);
    assert_eq!(spawn(async { 3 }).await.unwrap().await.unwrap(), 3);

    let waker = sleeper.borrow().clone().unwrap();
    waker.wake_by_ref();
    waker.wake();
    yield_now().await;

    drop(try_spawn(yield_now()).unwrap());
    let aborted = try_spawn(std::future::pending::<()>()).unwrap();
    aborted.abort();
    assert!(aborted.await.unwrap_err().is_cancelled());
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let usage = "locked plain|local-waits|waits ROUNDS";
    let mode = arguments.next().expect(usage);
    let rounds: u32 = arguments.next().expect(usage).parse().expect(usage);
    let max_tasks = if mode == "plain" { 10 } else { 1 };
    Runtime::builder().max_tasks(max_tasks).build().expect("a runtime").block_on(async {
        match mode.as_str() {
            "plain" => {
                let sleeper = Sleeper::default();
                let task = spawn_local(sleep_for_ever(sleeper.clone())).await.unwrap();
                yield_now().await;
                for _ in 0..rounds {
                    plain(&sleeper).await;
                }
                task.abort();
            }
            "local-waits" => {
                for _ in 0..rounds {
                    drop(spawn_local(yield_now()).await.unwrap());
                }
            }
            "waits" => {
                for _ in 0..rounds {
                    drop(spawn(yield_now()).await.unwrap());
                }
            }
            _ => panic!("{usage}"),
        }
    });
}
