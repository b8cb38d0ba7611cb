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
//! # Bounds
//! `blocking_threads` threads, `blocking_queue` jobs besides those that run; then the caller waits.
//!
//! # Invariants
//! - [BLOCKING-1] A job holds a permit from before it is queued until its result has been sent.
//! - [BLOCKING-2] Dropping the runtime waits for no job: queued ones are dropped, running ones end by themselves and their
//!   results are dropped (bugs.md 33).
//!
//! # Read next
//! `net/address.rs`, its first user.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Poll, Waker};
use std::time::Duration;
use std::{future, io};

use crossbeam_queue::ArrayQueue;

use crate::admission::{OwnedPermit, Semaphore};
use crate::sync::{AtomicU32, Ordering, Scope, lock, scoped_local};
use crate::task::{Home, JoinError, JoinErrorKind, Payload, joined, quietly};

/// How long a thread without a job stays.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

type Job = Box<dyn FnOnce() + Send>;

/// The pool of one runtime.
pub(crate) struct Pool {
    jobs: ArrayQueue<Job>,
    permits: Arc<Semaphore>,
    threads_max: usize,
    /// Bytes of each thread's stack; `None` for std's choice.
    stack_size: Option<usize>,
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
pub(crate) struct Slot(std::cell::RefCell<Option<Arc<Pool>>>);

scoped_local! {
    /// The slot of the runtime that this thread is inside of.
    static CURRENT: Slot;
}

impl Slot {
    pub(crate) fn of(local: &crate::task::Local) -> &'static Slot {
        local.layer(|| Slot(std::cell::RefCell::new(None)))
    }

    pub(crate) fn enter(&'static self) -> Scope<Slot> {
        Scope::enter(&CURRENT, self)
    }

    pub(crate) fn set(&self, pool: Option<Arc<Pool>>) {
        let old = self.0.replace(pool);
        drop(old);
    }
}

/// The pool of the runtime that this thread is inside of, if any.
pub(crate) fn current() -> Option<Arc<Pool>> {
    CURRENT.with(std::cell::Cell::get)?.0.borrow().clone()
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
/// waits in its own frame, first come first served.
///
/// # Errors
/// [`JoinError`] if `job` panicked, or the runtime was dropped before it started.
///
/// # Panics
/// When polled outside a runtime.
///
/// # Cancel safety
/// Dropped while it waits for room, `job` never runs. After that it runs, or goes on, and its result is dropped.
pub async fn spawn_blocking<F, T>(job: F) -> Result<T, JoinError>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let pool =
        current().expect("spawn_blocking was awaited outside a runtime: await it inside Runtime::block_on");
    let permit = match pool.permits.acquire_owned().await {
        Ok(permit) => permit,
        Err(_) => return Err(joined(JoinErrorKind::NotAdmitted("the runtime is shutting down"))),
    };
    let result = Arc::new(Mutex::new(Slip { result: None, waker: None, sender_gone: false }));
    // Ordering: Relaxed; the owner counts up on its own thread.
    pool.unsent.fetch_add(1, Ordering::Relaxed);
    let sender = Sender { result: result.clone(), permit: Some(permit), pool: pool.clone() };
    pool.submit(Box::new(move || sender.send(catch_unwind(AssertUnwindSafe(job)))));
    drop(pool);
    let payload = future::poll_fn(move |cx| {
        let waker = cx.waker().clone();
        let mut slip = lock(&result);
        if let Some(result) = slip.result.take() {
            return Poll::Ready(Some(result));
        }
        if slip.sender_gone {
            return Poll::Ready(None);
        }
        let old = slip.waker.replace(waker);
        drop(slip);
        drop(old);
        Poll::Pending
    });
    match payload.await {
        Some(Ok(output)) => Ok(output),
        Some(Err(payload)) => Err(JoinError::panic(payload)),
        None => Err(joined(JoinErrorKind::Cancelled)),
    }
}

/// Where a job's result is left for its caller.
struct Slip<T> {
    result: Option<Result<T, Payload>>,
    waker: Option<Waker>,
    sender_gone: bool,
}

/// The job's end of its slip; dropped unsent, it says that the job never ran.
struct Sender<T> {
    result: Arc<Mutex<Slip<T>>>,
    permit: Option<OwnedPermit>,
    pool: Arc<Pool>,
}

impl<T> Sender<T> {
    fn send(self, result: Result<T, Payload>) {
        lock(&self.result).result = Some(result);
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let waker = {
            let mut slip = lock(&self.result);
            slip.sender_gone = true;
            slip.waker.take()
        };
        if let Some(waker) = waker {
            quietly(|| waker.wake());
        }
        // [BLOCKING-1] The caller has been woken by now. A paused clock stood still for this job: its owner looks again.
        quietly(|| drop(self.permit.take()));
        // Ordering: Release; pairs with the Acquire in `is_busy`.
        self.pool.unsent.fetch_sub(1, Ordering::Release);
        self.pool.home.shared.inbox.call_attention();
    }
}

impl Pool {
    pub(crate) fn new(
        home: &'static Home,
        threads_max: usize,
        queue_max: usize,
        stack_size: Option<usize>,
    ) -> Arc<Pool> {
        Arc::new(Pool {
            home,
            unsent: AtomicU32::new(0),
            jobs: ArrayQueue::new(threads_max + queue_max),
            permits: Arc::new(Semaphore::new(threads_max + queue_max)),
            threads_max,
            stack_size,
            crew: Mutex::new(Crew::default()),
            bell: Condvar::new(),
        })
    }

    /// Whether jobs run or wait.
    pub(crate) fn is_busy(&self) -> bool {
        // Ordering: Acquire; pairs with the Release in `Sender`: who reads zero sees the wakes that came before.
        self.unsent.load(Ordering::Acquire) > 0
    }

    /// Jobs that run or wait, and threads.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.permits.in_use(), lock(&self.crew).threads)
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
        } else if crew.threads < self.threads_max {
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
        let pool = self.clone();
        let mut thread = std::thread::Builder::new().name("anteroom-blocking".into());
        if let Some(bytes) = self.stack_size {
            thread = thread.stack_size(bytes);
        }
        thread.spawn(move || pool.work()).map(drop)
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

    /// Ends the pool without waiting ([BLOCKING-2]).
    pub(crate) fn close(&self) {
        // It tells those who wait, and passes on what their wakers panicked with.
        quietly(|| self.permits.close());
        lock(&self.crew).closed = true;
        self.bell.notify_all();
        self.drop_jobs();
    }
}
