//! Threads for what would block: files, name lookups, long computations.
//!
//! # Problem
//! A call that blocks stops every task of its thread; a pool that takes any number of such calls is a queue without a
//! bound (bugs.md 38).
//!
//! # Idea
//! A semaphore counts jobs, running and queued together, and a caller waits for a permit in its own frame. Who has one
//! pushes into a queue that is exactly that large, so the push cannot fail. Threads start when there is a job and nobody
//! idle, and end after ten idle seconds.
//!
//! The first job makes all that: until then a runtime has a [`Pool`] that knows no more than its bounds. What it knows of
//! its [`Workers`] is behind a vtable that only the making of them names, so that a program without blocking jobs has
//! neither threads nor their code.
//!
//! # Bounds
//! `blocking_threads` threads, `blocking_queue` jobs besides those that run; then the caller waits.
//!
//! # Invariants
//! - [BLOCKING-1] A job holds a permit from before it is queued until its result has been sent.
//! - [BLOCKING-2] Dropping the runtime waits for no job: queued ones are dropped, running ones end by themselves and their
//!   results are dropped (bugs.md 33).
//!
//! # Read next
//! `blocking/job.rs`, a job as its caller sees it; `net/address.rs`, the pool's first user.

mod job;

use std::cell::{Cell, OnceCell, RefCell};
use std::future::poll_fn;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_queue::ArrayQueue;
pub use job::{Blocking, TrySpawnBlockingError};

use crate::admission::{OwnedPermit, Semaphore};
use crate::sync::{AtomicU32, Condvar, Mutex, Ordering, Scope, lock, scoped_local};
use crate::task::{Home, JoinError, JoinErrorKind, WaitsFor, joined, noted, quietly};

/// How long a thread without a job stays.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

type Job = Box<dyn FnOnce() + Send>;

/// What the pool of one runtime may take at most.
#[derive(Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) threads: usize,
    /// Jobs that wait.
    pub(crate) queue: usize,
    /// Callers that wait for room.
    pub(crate) waiting: usize,
    /// Bytes of each thread's stack; `None` for std's choice.
    pub(crate) stack: Option<usize>,
}

/// The pool of one runtime; the owner's alone.
pub(crate) struct Pool {
    home: &'static Home,
    bounds: Bounds,
    workers: OnceCell<Arc<dyn AnyWorkers>>,
    is_closed: Cell<bool>,
}

/// What every runtime knows of its workers, whether or not there ever are any.
trait AnyWorkers {
    fn is_busy(&self) -> bool;
    fn counts(&self) -> (usize, usize);
    fn close(&self);
    /// As what they are.
    fn known(self: Arc<Self>) -> Arc<Workers>;
}

/// The threads of a pool, and their jobs.
struct Workers {
    jobs: ArrayQueue<Job>,
    permits: Arc<Semaphore>,
    bounds: Bounds,
    home: &'static Home,
    /// Jobs whose result is still to be sent; a permit alone, not yet used, is none.
    unsent: AtomicU32,
    crew: Mutex<Crew>,
    bell: Condvar,
}

#[derive(Default)]
struct Crew {
    threads: usize,
    idle: usize,
    /// Idle threads that were told to look, and have not yet.
    called: usize,
    closed: bool,
}

/// Where a thread finds the pool of the runtime that it is inside of.
pub(crate) struct Slot(RefCell<Option<Rc<Pool>>>);

scoped_local! {
    /// The slot of the runtime that this thread is inside of.
    static CURRENT: Slot;
}

impl Slot {
    pub(crate) fn of(local: &crate::task::Local) -> &'static Slot {
        local.layer(|| Slot(RefCell::new(None)))
    }

    pub(crate) fn enter(&'static self) -> Scope<Slot> {
        Scope::enter(&CURRENT, self)
    }

    pub(crate) fn set(&self, pool: Option<Rc<Pool>>) {
        let old = self.0.replace(pool);
        drop(old);
    }
}

/// The pool of the runtime that this thread is inside of, if any.
pub(crate) fn current() -> Option<Rc<Pool>> {
    let slot = CURRENT.with(Cell::get)?;
    let _inside = crate::task::enter();
    slot.0.borrow().clone()
}

/// The workers of the runtime that this thread is inside of; `None` when that is at its end.
fn here(what: &str) -> Option<Arc<Workers>> {
    match CURRENT.with(Cell::get) {
        Some(slot) => {
            let _inside = crate::task::enter();
            slot.0.borrow().as_ref()?.workers()
        }
        None => panic!("{what} outside a runtime: do it inside Runtime::block_on"),
    }
}

/// Runs `job` on a thread that may block, and gives its result.
///
/// ```
/// anteroom::block_on(async {
///     let read = anteroom::spawn_blocking(|| std::fs::metadata(".").map(|found| found.is_dir()));
///     assert!(read.await.unwrap().unwrap());
/// });
/// ```
///
/// # Bounds
/// At most `Builder::blocking_threads` jobs run and `Builder::blocking_queue` wait; while there are so many, the caller
/// waits in its own frame with `job`, first come first served.
///
/// At most `Builder::max_waiting` callers wait.
///
/// # Errors
/// [`JoinError`] if `job` panicked; or never began, because the runtime was dropped first, the system gave no thread, or as
/// many callers wait as may.
///
/// # Panics
/// When polled outside a runtime.
///
/// # Cancel safety
/// Dropped while it waits for room, `job` never runs. After that it runs, or goes on, and its result is dropped.
/// [`try_spawn_blocking`] gives a handle that can be kept.
#[allow(
    clippy::manual_async_fn,
    reason = "an async fn would keep room for two jobs in its frame: the argument and the local"
)]
pub fn spawn_blocking<F, T>(job: F) -> impl Future<Output = Result<T, JoinError>> + Send
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    async move {
        let room =
            here("spawn_blocking was awaited").map(|workers| (workers.permits.acquire_owned(), workers));
        let closed = || joined(JoinErrorKind::NotAdmitted("the runtime is shutting down"));
        let Some((room, workers)) = room else { return Err(closed()) };
        if workers.permits.waiting() >= workers.bounds.waiting && workers.permits.available() <= 0 {
            return Err(joined(JoinErrorKind::NotAdmitted(
                "as many callers wait for a blocking thread as may",
            )));
        }
        let mut room = pin!(room);
        let room = poll_fn(|cx| noted(WaitsFor::BLOCKING, room.as_mut().poll(cx)));
        let Ok(permit) = room.await else { return Err(closed()) };
        let result = workers.take_on(permit, job);
        drop(workers);
        result.await
    }
}

/// Gives `job` to a thread that may block, if there is room at once; or gives it back.
///
/// ```
/// anteroom::block_on(async {
///     match anteroom::try_spawn_blocking(|| std::fs::metadata(".")) {
///         Ok(job) => assert!(job.await.unwrap().unwrap().is_dir()),
///         Err(error) => drop(error.into_job()), // so many jobs run and wait already
///     }
/// });
/// ```
///
/// # Bounds
/// At most `Builder::blocking_threads` jobs run and `Builder::blocking_queue` wait; it never waits for room itself, and
/// overtakes nobody who does.
///
/// # Errors
/// [`TrySpawnBlockingError`], with `job` in it, when there is no room or the runtime is at its end.
///
/// # Panics
/// Outside a runtime.
pub fn try_spawn_blocking<F, T>(job: F) -> Result<Blocking<T>, TrySpawnBlockingError<F>>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let Some(workers) = here("try_spawn_blocking was called") else {
        return Err(TrySpawnBlockingError::new(job, true));
    };
    match workers.permits.try_acquire_owned() {
        Ok(permit) => Ok(workers.take_on(permit, job)),
        Err(_) => Err(TrySpawnBlockingError::new(job, workers.permits.is_closed())),
    }
}

impl Pool {
    pub(crate) fn new(home: &'static Home, bounds: Bounds) -> Rc<Pool> {
        Rc::new(Pool { home, bounds, workers: OnceCell::new(), is_closed: Cell::new(false) })
    }

    /// Whether jobs run or wait.
    pub(crate) fn is_busy(&self) -> bool {
        self.workers.get().is_some_and(|workers| workers.is_busy())
    }

    /// Jobs that run or wait, and threads.
    pub(crate) fn counts(&self) -> (usize, usize) {
        self.workers.get().map_or((0, 0), |workers| workers.counts())
    }

    /// Those who do the jobs, from the first job on; `None` when it takes no more.
    fn workers(&self) -> Option<Arc<Workers>> {
        if self.is_closed.get() {
            return None;
        }
        let workers = self.workers.get_or_init(|| Arc::new(Workers::new(self.home, self.bounds)));
        Some(workers.clone().known())
    }

    /// Ends it without waiting ([BLOCKING-2]).
    pub(crate) fn close(&self) {
        self.is_closed.set(true);
        if let Some(workers) = self.workers.get() {
            workers.close();
        }
    }
}

impl AnyWorkers for Workers {
    fn is_busy(&self) -> bool {
        // Ordering: Acquire; pairs with the Release in `Sender`: who reads zero sees the wakes that came before.
        self.unsent.load(Ordering::Acquire) > 0
    }

    fn counts(&self) -> (usize, usize) {
        (self.permits.in_use(), lock(&self.crew).threads)
    }

    fn close(&self) {
        // It tells those who wait, and passes on what their wakers panicked with.
        quietly(|| self.permits.close());
        lock(&self.crew).closed = true;
        self.bell.notify_all();
        self.drop_jobs();
    }

    fn known(self: Arc<Self>) -> Arc<Workers> {
        self
    }
}

impl Workers {
    fn new(home: &'static Home, bounds: Bounds) -> Workers {
        let jobs_max = bounds.threads + bounds.queue;
        Workers {
            home,
            unsent: AtomicU32::new(0),
            jobs: ArrayQueue::new(jobs_max),
            permits: Arc::new(Semaphore::new(jobs_max)),
            bounds,
            crew: Mutex::new(Crew::default()),
            bell: Condvar::new(),
        }
    }

    /// Whether it takes no more jobs.
    fn is_closed(&self) -> bool {
        lock(&self.crew).closed
    }

    /// Queues `job`, whose permit the caller has.
    fn take_on<F, T>(self: &Arc<Self>, permit: OwnedPermit, job: F) -> Blocking<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let (sender, result) = job::ends(self, permit);
        self.submit(Box::new(move || sender.send(catch_unwind(AssertUnwindSafe(job)))));
        result
    }

    fn submit(self: &Arc<Self>, job: Job) {
        let pushed = self.jobs.push(job);
        debug_assert!(pushed.is_ok(), "[BLOCKING-1] there are as many places as permits");
        let mut crew = lock(&self.crew);
        if crew.closed {
            drop(crew);
            return self.drop_jobs();
        }
        if crew.idle > crew.called {
            crew.called += 1;
            drop(crew);
            self.bell.notify_one();
        } else if crew.threads < self.bounds.threads {
            crew.threads += 1;
            drop(crew);
            if self.start_thread().is_err() {
                let mut crew = lock(&self.crew);
                crew.threads -= 1;
                // With others at work the job waits for one of them; alone it would wait for ever.
                if crew.threads == 0 {
                    drop(crew);
                    self.drop_jobs();
                }
            }
        }
    }

    fn start_thread(self: &Arc<Self>) -> io::Result<()> {
        let workers = self.clone();
        let mut thread = std::thread::Builder::new().name("anteroom-blocking".into());
        if let Some(bytes) = self.bounds.stack {
            thread = thread.stack_size(bytes);
        }
        thread.spawn(move || workers.work()).map(drop)
    }

    fn work(&self) {
        loop {
            while let Some(job) = self.jobs.pop() {
                // The job catches its own panics; what is left is a panic in the drop of a result.
                quietly(job);
            }
            let mut crew = lock(&self.crew);
            if crew.closed {
                crew.threads -= 1;
                return;
            }
            // A job that was pushed before this lock was taken is not to be slept beside.
            if !self.jobs.is_empty() {
                continue;
            }
            crew.idle += 1;
            let waited =
                self.bell.wait_timeout_while(crew, IDLE_TIMEOUT, |crew| crew.called == 0 && !crew.closed);
            let (mut crew, timeout) = waited.unwrap_or_else(std::sync::PoisonError::into_inner);
            crew.idle -= 1;
            crew.called = crew.called.saturating_sub(1);
            if timeout.timed_out() && self.jobs.is_empty() {
                crew.threads -= 1;
                return;
            }
        }
    }

    /// Drops the jobs that nobody has begun; their callers learn it.
    fn drop_jobs(&self) {
        while let Some(job) = self.jobs.pop() {
            quietly(|| drop(job));
        }
    }
}
