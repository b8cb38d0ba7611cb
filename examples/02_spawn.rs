//! Spawning, with a bound: a thousand pages through a runtime of ten tasks.
//!
//! # Problem
//! `for page in pages { spawn(fetch(page)); }` makes a task of each page at once, and each has its memory from that moment. A
//! semaphore inside `fetch` bounds the work; the tasks exist all the same.
//!
//! # Idea
//! `spawn(future)` is a future itself. Awaited, it waits until there is room, and `future` waits with it, where it was
//! built: in the frame of the loop. So the loop has one page in its hand, and the runtime has ten.
//!
//! ```text
//!   let handle = spawn(fetch(page)).await?;     the first await: there is room, and it is a task now
//!   let output = handle.await?;                 the second: the task is done
//!   let output = spawn(fetch(page)).join().await?;                    both in one, when nothing is to be done between
//! ```
//!
//! # Read next
//! `03_full.rs`: who would rather not wait.

use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Waker};

use anteroom::{Runtime, metrics, spawn, yield_now};

const PAGES: usize = 1_000;
const LIMIT: usize = 10;

/// How many pages there are just now, and the most there ever were: tasks, and futures that wait to become one.
static EXISTING: AtomicUsize = AtomicUsize::new(0);
static EXISTING_PEAK: AtomicUsize = AtomicUsize::new(0);

struct Page {
    number: usize,
    _content: [u8; 1_000],
}

impl Page {
    fn new(number: usize) -> Self {
        let existing = EXISTING.fetch_add(1, Ordering::Relaxed) + 1;
        EXISTING_PEAK.fetch_max(existing, Ordering::Relaxed);
        Page { number, _content: [0; 1_000] }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        EXISTING.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Stands for a fetch: suspended a few times, with its page in memory.
async fn fetch(page: Page) -> usize {
    for _ in 0..page.number % 7 {
        yield_now().await;
    }
    page.number
}

/// Stands for a fetch that takes for ever.
async fn stall(page: Page) {
    std::future::pending::<()>().await;
    drop(page);
}

/// Spawns all pages and takes their outputs at the end. The handles do not hold the tasks' places, nor their memory.
async fn all() -> usize {
    let mut handles = Vec::new();
    for number in 0..PAGES {
        handles.push(spawn(fetch(Page::new(number))).await.expect("the runtime is not closed"));
    }
    let mut sum = 0;
    for handle in handles {
        sum += handle.await.expect("no page panics");
    }
    sum
}

/// Fills the runtime and shows where one more waits.
async fn one_too_many() {
    for _ in 0..LIMIT {
        drop(spawn(stall(Page::new(0))).await.expect("there is room"));
    }
    let before = metrics();
    let one_more = spawn(fetch(Page::new(0)));
    println!(
        "a waiting spawn is {} bytes in its frame: the page's future, and a few words",
        size_of_val(&one_more)
    );
    assert!(size_of_val(&one_more) > size_of::<Page>());

    // Polled by hand, to look at it in between.
    let mut one_more = pin!(one_more);
    assert!(one_more.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    let after = metrics();
    println!(
        "{} live tasks of {} bytes in all; waiting: {}",
        after.tasks_live, after.task_bytes, after.waiting
    );
    assert_eq!((after.tasks_live, after.waiting), (LIMIT, 1));
    // No task, no header, no byte of a task's memory: it is where it was.
    assert_eq!((after.headers, after.task_bytes), (before.headers, before.task_bytes));
}

fn main() -> std::io::Result<()> {
    let runtime = Runtime::builder().max_tasks(LIMIT).build()?;
    let sum = runtime.block_on(all());
    let (live_peak, existing_peak) =
        (runtime.metrics().tasks_live_peak, EXISTING_PEAK.load(Ordering::Relaxed));
    println!(
        "{PAGES} pages through {LIMIT} places: {live_peak} live at most, {existing_peak} in memory at most"
    );
    assert_eq!(sum, (0..PAGES).sum());
    assert_eq!(live_peak, LIMIT);
    assert_eq!(existing_peak, LIMIT + 1, "the live ones, and the one in the hand of the loop");

    let joined = runtime.block_on(spawn(fetch(Page::new(7))).join()).expect("it does not panic");
    println!("admitted and joined in one: page {joined}");
    assert_eq!(joined, 7);

    runtime.block_on(one_too_many());
    drop(runtime);
    assert_eq!(EXISTING.load(Ordering::Relaxed), 0, "the one that waited was dropped with its frame");
    Ok(())
}

#[test]
fn a_thousand_pages_are_never_more_than_ten_tasks_and_one_in_hand() {
    main().unwrap();
}
