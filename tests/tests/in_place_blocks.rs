//! What it takes of the allocator to run a child in place: nothing for a future, and one block for what a closure makes.
use std::future::ready;

use anteroom::{Runtime, metrics, spawn, spawn_local, spawn_with, yield_now};
use anteroom_tests::{Counting, allocations};

#[global_allocator]
static COUNTING: Counting = Counting;

/// How many blocks the third hundred of runs takes, in a task that has the only place.
fn blocks_of<F: Future<Output = ()> + Send + 'static>(run: impl Fn() -> F + Send + 'static) -> usize {
    Runtime::builder().max_tasks(1).build().unwrap().block_on(async move {
        let task = async move {
            let mut blocks = 0;
            for _ in 0..3 {
                let before = allocations();
                for _ in 0..100 {
                    run().await;
                }
                blocks = allocations() - before;
            }
            blocks
        };
        spawn(task).join().await.unwrap()
    })
}

/// What runs in place, and waits once.
async fn child() -> usize {
    yield_now().await;
    metrics().in_place
}

#[test]
fn a_future_in_place_takes_no_block() {
    // After an offer, at once, and one in the other.
    let offered = || async { assert_eq!(spawn(child()).join().await.unwrap(), 1) };
    assert_eq!(blocks_of(offered), 0);
    let at_once = || async { assert_eq!(spawn(child()).or_in_place().join().await.unwrap(), 1) };
    assert_eq!(blocks_of(at_once), 0);
    let nested = || async {
        let outer = async { spawn(child()).join().await.unwrap() };
        assert_eq!(spawn(outer).join().await.unwrap(), 2);
    };
    assert_eq!(blocks_of(nested), 0);
    let declared = || async { assert_eq!(spawn(ready(1)).heap(100).or_in_place().join().await.unwrap(), 1) };
    assert_eq!(blocks_of(declared), 0);
}

#[test]
fn a_closure_in_place_takes_the_one_block_that_its_future_lies_in() {
    let offered = || async { assert_eq!(spawn_with(child).join().await.unwrap(), 1) };
    assert_eq!(blocks_of(offered), 100);
    let at_once = || async { assert_eq!(spawn_with(child).or_in_place().join().await.unwrap(), 1) };
    assert_eq!(blocks_of(at_once), 100);
}

#[test]
fn what_is_not_send_takes_no_block_either() {
    Runtime::builder().max_tasks(1).build().unwrap().block_on(async {
        let task = async {
            let mut blocks = 0;
            for _ in 0..3 {
                let before = allocations();
                assert_eq!(spawn_local(child()).join().await.unwrap(), 1);
                blocks = allocations() - before;
            }
            blocks
        };
        assert_eq!(spawn_local(task).join().await.unwrap(), 0);
    });
}
