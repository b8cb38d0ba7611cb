//! `block_on`: the border between ordinary code and async code.
//!
//! # Idea
//! Every task of this runtime runs inside `block_on`, on the thread that calls it. Outside, tasks stand still. Inside, await;
//! a `block_on` within itself panics and says so.
//!
//! ```text
//!   ordinary code ──▶ block_on(future) ─ polls `future` and the tasks, in turns ─▶ ordinary code, with its output
//!                                        waits for timers and sockets in between
//! ```
//!
//! It follows that the future may borrow from its caller and need not be `Send`; that a task goes on in the next `block_on`
//! where the last one left it; and that dropping the runtime drops what is left, there and then.
//!
//! # Read next
//! `02_spawn.rs`: tasks, and how many.

use std::cell::Cell;
use std::rc::Rc;

use anteroom::{Runtime, yield_now};

/// Says when it is dropped.
struct Guard(Rc<Cell<bool>>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.set(true);
    }
}

fn main() -> std::io::Result<()> {
    // The short form: a runtime with the defaults, for this one future.
    let answer = anteroom::block_on(async { 6 * 7 });
    println!("the short form: {answer}");
    assert_eq!(answer, 42);

    // The long form: a runtime to keep, and its bounds. An option of no use is refused here, by name, not found out later.
    let refused = Runtime::builder().max_tasks(0).build().unwrap_err();
    println!("refused: {refused}");
    assert_eq!(refused.to_string(), "max_tasks(0): must be at least 1");
    let runtime = Runtime::builder().max_tasks(100).build()?;

    // The future borrows what is outside. A task could not: nobody knows how long it will live.
    let words = ["neither", "Send", "nor", "'static"];
    let letters = runtime.block_on(async {
        yield_now().await;
        words.iter().map(|word| word.len()).sum::<usize>()
    });
    println!("{} borrowed words of {letters} letters", words.len());
    assert_eq!(letters, 21);

    // A task that is not done when `block_on` returns stays, and goes on in the next one.
    let steps = Rc::new(Cell::new(0));
    let counter = runtime.block_on(async {
        let steps = steps.clone();
        let count = async move {
            for _ in 0..10 {
                steps.set(steps.get() + 1);
                yield_now().await;
            }
            "done"
        };
        // `spawn_local`, since an `Rc` is not `Send`. Why the spawn is awaited: the next chapter.
        let counter = anteroom::spawn_local(count).await?;
        for _ in 0..3 {
            yield_now().await;
        }
        Ok::<_, anteroom::SpawnError>(counter)
    });
    let counter = counter.expect("there is room");
    let steps_first = steps.get();
    println!("steps in the first block_on: {steps_first}");
    assert!((1..10).contains(&steps_first));
    assert_eq!(steps.get(), steps_first, "outside nothing moves");
    assert_eq!(runtime.block_on(counter).expect("it did not panic"), "done");
    println!("steps after the second:      {}", steps.get());
    assert_eq!(steps.get(), 10);

    // The end of the runtime is the end of its tasks. Their handles learn it, and may outlive both.
    let is_dropped = Rc::new(Cell::new(false));
    let guard = Guard(is_dropped.clone());
    let endless = async move {
        let _guard = guard;
        std::future::pending::<()>().await
    };
    let handle = runtime.block_on(anteroom::spawn_local(endless)).expect("there is room");
    assert!(!is_dropped.get());
    drop(runtime);
    let error = anteroom::block_on(handle).unwrap_err();
    println!("what was left: {error}");
    assert!(is_dropped.get() && error.is_cancelled());
    Ok(())
}

#[test]
fn a_future_may_borrow_and_tasks_live_as_long_as_their_runtime() {
    main().unwrap();
}
