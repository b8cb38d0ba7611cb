//! The worst case, in bytes, before anything is started.
//!
//! # Problem
//! Who runs in a container of 64 MiB wants to know that it is enough, and not to learn it in production.
//!
//! # Idea
//! Every part of a runtime has a bound, and knows what one of its things takes. [`of`] multiplies, and rounds up: tables grow
//! by doubling, and while one grows the old one is still there.
//!
//! # Read next
//! `runtime.rs`, whose options these are.

use std::fmt;

use crate::bytes::table_bytes;
use crate::holders::Thousands;
use crate::{admission, driver, task};

/// What a runtime is to be built with.
pub(crate) struct Options {
    pub(crate) tasks: usize,
    pub(crate) services: usize,
    pub(crate) task_bytes: Option<usize>,
    pub(crate) waiting: Option<usize>,
    pub(crate) foreign: usize,
    pub(crate) timers: Option<usize>,
    pub(crate) sockets: Option<usize>,
    pub(crate) blocking_threads: usize,
    pub(crate) blocking_queue: usize,
    pub(crate) blocking_stack: Option<usize>,
    /// The threads that run tasks, beside those that call `block_on`.
    pub(crate) workers: usize,
    pub(crate) worker_stack: Option<usize>,
}

/// What a blocking thread takes besides its stack: the allocator's arena of its own, as far as it is touched at first.
const THREAD_BYTES: usize = 160 * 1024;
/// std's choice, unless `RUST_MIN_STACK` says otherwise.
const STACK_BYTES_DEFAULT: usize = 2 * 1024 * 1024;
/// What a caller takes who waits for room in the pool, in a table that doubles.
const WAITING_CALLER_BYTES: usize = 96;
/// A job that waits: its place in the queue, its box, the slip for its result, without what the closure holds.
const JOB_BYTES: usize = 32 + 256;

/// The stack of a thread that is given no size.
fn std_stack() -> usize {
    let named = std::env::var("RUST_MIN_STACK").ok().and_then(|text| text.parse().ok());
    named.unwrap_or(STACK_BYTES_DEFAULT)
}

/// What one part of a runtime takes at most.
///
/// ```
/// let worst = anteroom::Runtime::builder().max_tasks(1_000).worst_case();
/// let headers = worst.parts().find(|part| part.name == "task headers").unwrap();
/// assert!(headers.bytes.unwrap() >= 64_000);
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Part {
    /// What it is.
    pub name: &'static str,
    /// How many bytes; `None` if the option that bounds it is not set.
    pub bytes: Option<usize>,
    /// The option that bounds it, and how.
    pub bound: &'static str,
}

/// The bytes that a runtime can ever take; see [`Builder::worst_case`](crate::Builder::worst_case).
///
/// ```
/// let worst = anteroom::Builder::new().worst_case();
/// assert!(worst.to_string().contains("max_task_bytes"));
/// ```
#[derive(Clone, Debug)]
pub struct WorstCase {
    parts: Vec<Part>,
}

impl WorstCase {
    /// All parts.
    pub fn parts(&self) -> impl Iterator<Item = &Part> {
        self.parts.iter()
    }

    /// The sum; `None` if a part has no bound.
    pub fn total(&self) -> Option<usize> {
        self.parts.iter().try_fold(0_usize, |sum, part| Some(sum.saturating_add(part.bytes?)))
    }
}

impl fmt::Display for WorstCase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bounded = 0_usize;
        for Part { name, bytes, bound } in &self.parts {
            match bytes {
                Some(bytes) => {
                    bounded = bounded.saturating_add(*bytes);
                    writeln!(f, "{name:<28}{:>16}  {bound}", Thousands(*bytes).to_string())?;
                }
                None => writeln!(f, "{name:<28}{:>16}  {bound}", "no bound")?,
            }
        }
        let total = match self.total() {
            Some(total) => Thousands(total).to_string(),
            None => format!("over {}", Thousands(bounded)),
        };
        write!(f, "{:<28}{total:>16}  bytes; handles that you keep of finished tasks come on top", "total")
    }
}

/// Adds it all up.
pub(crate) fn of(options: &Options) -> WorstCase {
    let tasks = options.tasks.saturating_add(options.services);
    // The future of `block_on` has a header too.
    let headers = task::worst::header_bytes(tasks.saturating_add(1));
    let files = options.sockets.map_or_else(driver::files_max, Some);
    let part = |name, bytes, bound| Part { name, bytes, bound };
    let stack = options.blocking_stack.unwrap_or_else(std_stack);
    let jobs = options.blocking_threads.saturating_add(options.blocking_queue);
    let worker_stack = options.worker_stack.unwrap_or_else(std_stack);
    let worker = worker_stack.saturating_add(THREAD_BYTES).saturating_add(task::worst::worker_bytes());
    let mut parts = vec![
        part("task headers", Some(headers), "max_tasks, service_tasks; the run queue is in them"),
        part("handles awaited elsewhere", Some(task::worst::waker_bytes(tasks)), "max_tasks, service_tasks"),
        part(
            "task bytes",
            options.task_bytes.map(|bytes| task::body::worst_bytes(bytes, tasks)),
            "max_task_bytes, in blocks",
        ),
        part(
            "declared bytes",
            Some(task::worst::declared_bytes(tasks.saturating_add(1))),
            "max_tasks, service_tasks: the notes of Spawn::heap",
        ),
        part("free blocks kept", Some(task::body::cache_worst_bytes()), "a constant"),
        part(
            "the line",
            options.waiting.map(|waiting| {
                admission::waiting_bytes(waiting, options.foreign)
                    .saturating_add(table_bytes(waiting, WAITING_CALLER_BYTES))
            }),
            "max_waiting, max_foreign",
        ),
        part("timers", options.timers.map(driver::timer_bytes), "max_timers"),
        part("sockets", files.map(driver::source_bytes), "max_sockets, or the system's limit of open files"),
        part("blocking jobs", Some(jobs.saturating_mul(JOB_BYTES)), "blocking_threads + blocking_queue"),
        part(
            "blocking stacks",
            Some(options.blocking_threads.saturating_mul(stack.saturating_add(THREAD_BYTES))),
            "blocking_threads x blocking_stack_size",
        ),
        part(
            "workers",
            Some(options.workers.saturating_mul(worker)),
            "build_stealing: threads x worker_stack_size, and free blocks kept for each",
        ),
        part(
            "the rest",
            Some(driver::fixed_bytes() + task::worst::fixed_bytes()),
            "inbox, wheel, events, questions",
        ),
    ];
    // Alone there is none, and nobody asks.
    parts.retain(|part| part.name != "workers" || options.workers > 0);
    WorstCase { parts }
}
