//! The runtime: where all parts are wired together, and nothing else.
//!
//! # Problem
//! A home, admission, a driver, a pool and a loop must come up together, be found by the thread that is inside, and go down
//! in an order in which nothing is left behind.
//!
//! # Idea
//! [`Builder`] checks what it was given before anything is made. [`Runtime`] holds the parts; `block_on` enters them all and
//! runs the loop. Dropping it closes admission, drops every task on this thread, then the driver, then gives the home back.
//!
//! # Invariants
//! - [RUNTIME-1] After the drop no future of this runtime exists; outputs that were stored stay with their handles.
//!
//! # Read next
//! `scheduler/local.rs`, the loop.

#[cfg(feature = "stealing")]
pub(crate) mod stealing;

use std::cell::Cell;
use std::fmt;
use std::io;
use std::panic::Location;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use crate::admission::{self, Admission, Limits};
use crate::blocking::{self, Pool};
use crate::clock;
use crate::driver::{self, Driver};
use crate::handle::Handle;
use crate::metrics::{Metrics, gather};
use crate::scheduler::local::Scheduler;
use crate::scheduler::watch::Watch;
use crate::sync::Scope;
use crate::task::{Entered, Home, Local, Owner};
use crate::worst::{self, WorstCase};

/// What a runtime is built with.
///
/// ```
/// let runtime = anteroom::Builder::new().max_tasks(100).build().unwrap();
/// assert_eq!(runtime.metrics().tasks_max, 100);
/// ```
#[derive(Clone, Debug)]
pub struct Builder {
    max_tasks: usize,
    max_task_bytes: Option<usize>,
    max_waiting: Option<usize>,
    max_foreign: usize,
    in_place_stack: usize,
    max_timers: Option<usize>,
    max_sockets: Option<usize>,
    service_tasks: usize,
    blocking_threads: usize,
    blocking_queue: usize,
    blocking_stack_size: Option<usize>,
    #[cfg(feature = "stealing")]
    worker_stack_size: Option<usize>,
    timer_resolution: Option<Duration>,
    paused_clock: bool,
    long_polls: Option<Duration>,
}

impl Default for Builder {
    fn default() -> Self {
        Self::new()
    }
}

impl Builder {
    /// The defaults: 4,096 tasks, 16 services, 4 blocking threads with a queue of 64, timers to 100 µs.
    pub fn new() -> Self {
        Self {
            max_tasks: 4_096,
            max_task_bytes: None,
            max_waiting: None,
            max_foreign: 1_024,
            in_place_stack: 1 << 20,
            max_timers: None,
            max_sockets: None,
            service_tasks: 16,
            blocking_threads: 4,
            blocking_queue: 64,
            blocking_stack_size: None,
            #[cfg(feature = "stealing")]
            worker_stack_size: None,
            timer_resolution: None,
            paused_clock: false,
            long_polls: None,
        }
    }

    /// How many tasks may be live at once; more wait in their spawners' frames. 4,096 by default.
    #[must_use]
    pub fn max_tasks(mut self, tasks: usize) -> Self {
        self.max_tasks = tasks;
        self
    }

    /// How many bytes live tasks and services may take together: the sizes of their futures, which are known from their types
    /// (and the alignment of one that is aligned to more than 16), and what they declare beyond ([`Spawn::heap`](crate::Spawn::heap)). Not bounded by default.
    #[must_use]
    pub fn max_task_bytes(mut self, bytes: usize) -> Self {
        self.max_task_bytes = Some(bytes);
        self
    }

    /// How many spawners may wait for a place at once; the next one gets [`SpawnError::QueueFull`](crate::SpawnError). And how
    /// many callers of [`spawn_blocking`](crate::spawn_blocking) may wait for room, whose next gets an error. Not bounded by
    /// default: each waits in a frame of its own, which something else has bounded already.
    #[must_use]
    pub fn max_waiting(mut self, spawners: usize) -> Self {
        self.max_waiting = Some(spawners);
        self
    }

    /// How many of them may be on other threads, by way of a [`Handle`]; the next one gets
    /// [`SpawnError::QueueFull`](crate::SpawnError). 1,024 by default.
    #[must_use]
    pub fn max_foreign(mut self, spawners: usize) -> Self {
        self.max_foreign = spawners;
        self
    }

    /// How many bytes of its thread's stack children may take that run in their spawner's place, one inside the other; the
    /// next one gets [`SpawnError::TooDeep`](crate::SpawnError); with 0, the first. 1 MiB by default, half of what std's threads
    /// have: room for one or two thousand children that are boxed futures, in a build that is not optimised for one or two
    /// hundred, and less if their own polls take much. Who recurses deeper sets both.
    ///
    /// ```
    /// use std::pin::Pin;
    /// fn depth(left: u32) -> Pin<Box<dyn Future<Output = u32> + Send>> {
    ///     Box::pin(async move {
    ///         if left == 0 { 0 } else { 1 + anteroom::spawn(depth(left - 1)).join().await.unwrap() }
    ///     })
    /// }
    /// let deep = std::thread::Builder::new().stack_size(32 << 20).spawn(|| {
    ///     let runtime = anteroom::Runtime::builder().max_tasks(1).in_place_stack(16 << 20).build().unwrap();
    ///     runtime.block_on(anteroom::spawn(depth(500)).join()).unwrap()
    /// });
    /// assert_eq!(deep.unwrap().join().unwrap(), 500);
    /// ```
    #[must_use]
    pub fn in_place_stack(mut self, bytes: usize) -> Self {
        self.in_place_stack = bytes;
        self
    }

    /// How many timers may wait at once. A sleep beyond them asks again each turn of the loop: it ends in time, and keeps the
    /// thread busy meanwhile. Not bounded by default: each belongs to a future that something else has bounded.
    ///
    /// ```
    /// use std::time::Duration;
    /// let runtime = anteroom::Runtime::builder().max_timers(1).build().unwrap();
    /// runtime.block_on(async {
    ///     let first = anteroom::spawn(anteroom::time::sleep(Duration::from_millis(3))).await.unwrap();
    ///     anteroom::time::sleep(Duration::from_millis(2)).await; // without a timer, and still in time
    ///     first.await.unwrap();
    /// });
    /// ```
    #[must_use]
    pub fn max_timers(mut self, timers: usize) -> Self {
        self.max_timers = Some(timers);
        self
    }

    /// How many sockets may be open at once; one more is an error of `connect`, `bind` or `accept`. By default the system's
    /// limit of open files.
    #[must_use]
    pub fn max_sockets(mut self, sockets: usize) -> Self {
        self.max_sockets = Some(sockets);
        self
    }

    /// Counts the polls that take at least `threshold`, by where their tasks were spawned: see
    /// [`long_polls`](crate::long_polls). Off by default, since it costs a look at the clock each poll, 27 ns.
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// let runtime = anteroom::Runtime::builder().long_polls(Duration::from_millis(5)).build().unwrap();
    /// runtime.block_on(async {
    ///     let computing = async {
    ///         let start = Instant::now();
    ///         while start.elapsed() < Duration::from_millis(6) {}
    ///     };
    ///     anteroom::spawn(computing).join().await.unwrap();
    ///     let polls = &anteroom::long_polls()[0];
    ///     assert!(polls.polls == 1 && polls.longest >= Duration::from_millis(5));
    ///     assert!(polls.site.is_some());
    /// });
    /// ```
    #[must_use]
    pub fn long_polls(mut self, threshold: Duration) -> Self {
        self.long_polls = Some(threshold);
        self
    }

    /// How many services may be live at once, besides the tasks. 16 by default; 0 means none.
    #[must_use]
    pub fn service_tasks(mut self, services: usize) -> Self {
        self.service_tasks = services;
        self
    }

    /// How many threads may run blocking jobs. 4 by default; they start when they are needed.
    #[must_use]
    pub fn blocking_threads(mut self, threads: usize) -> Self {
        self.blocking_threads = threads;
        self
    }

    /// How many blocking jobs may wait for a thread; more wait in their callers' frames. 64 by default; 0 means none.
    #[must_use]
    pub fn blocking_queue(mut self, jobs: usize) -> Self {
        self.blocking_queue = jobs;
        self
    }

    /// How many bytes of stack each blocking thread has: at least 128 KiB, for the system's resolver runs on them, and at
    /// most 1 GiB. By default std's choice: 2 MiB, unless the environment's `RUST_MIN_STACK` says otherwise.
    ///
    /// It is address space; a thread takes memory only for what it has used of it.
    ///
    /// ```
    /// let runtime = anteroom::Runtime::builder().blocking_stack_size(256 << 10).build().unwrap();
    /// assert_eq!(runtime.block_on(anteroom::spawn_blocking(|| 1 + 1)).unwrap(), 2);
    /// ```
    #[must_use]
    pub fn blocking_stack_size(mut self, bytes: usize) -> Self {
        self.blocking_stack_size = Some(bytes);
        self
    }

    /// How late a timer may be for our part, and how close two must be to fire together.
    ///
    /// By default 100 µs, and 1 ms while so many fire, four a millisecond or more, that the wake-ups would cost more than
    /// the timers.
    ///
    /// ```
    /// use std::time::Duration;
    /// // However many there are.
    /// let runtime = anteroom::Runtime::builder().timer_resolution(Duration::from_micros(50)).build().unwrap();
    /// runtime.block_on(anteroom::time::sleep(Duration::from_micros(50)));
    /// ```
    #[must_use]
    pub fn timer_resolution(mut self, resolution: Duration) -> Self {
        self.timer_resolution = Some(resolution);
        self
    }

    /// A clock for tests: it stands still while anything can run, and jumps to the next timer when nothing can.
    #[must_use]
    pub fn paused_clock(mut self, paused: bool) -> Self {
        self.paused_clock = paused;
        self
    }

    fn check(&self) -> io::Result<()> {
        let refuse = |text: String| Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        // More tasks than memory could hold headers for; and the pool's queue takes its memory when it is made.
        const TASKS_MAX: usize = 1 << 30;
        const JOBS_MAX: usize = 1 << 16;
        // The system's resolver is known to do with the least; std panics at a size that it cannot round up to a page.
        const STACK_BYTES_MIN: usize = 128 << 10;
        const STACK_BYTES_MAX: usize = 1 << 30;
        // As far as a spot of a spawn notes.
        const IN_PLACE_STACK_MAX: usize = 128 << 20;
        for (name, value, min, max) in [
            ("max_tasks", self.max_tasks, 1, TASKS_MAX),
            ("service_tasks", self.service_tasks, 0, TASKS_MAX),
            ("max_foreign", self.max_foreign, 0, TASKS_MAX),
            ("in_place_stack", self.in_place_stack, 0, IN_PLACE_STACK_MAX),
            ("max_timers", self.max_timers.unwrap_or(0), 0, TASKS_MAX),
            ("max_sockets", self.max_sockets.unwrap_or(0), 0, TASKS_MAX),
            ("blocking_threads", self.blocking_threads, 1, JOBS_MAX),
            ("blocking_queue", self.blocking_queue, 0, JOBS_MAX),
            (
                "blocking_stack_size",
                self.blocking_stack_size.unwrap_or(STACK_BYTES_MIN),
                STACK_BYTES_MIN,
                STACK_BYTES_MAX,
            ),
        ] {
            if value < min {
                return refuse(format!("{name}({value}): must be at least {min}"));
            }
            if value > max {
                return refuse(format!("{name}({value}): must be at most {max}"));
            }
        }
        if self.max_task_bytes == Some(0) {
            return refuse("max_task_bytes(0): no task with a future of any size would fit".into());
        }
        let possible = Duration::from_micros(1)..=Duration::from_secs(1);
        if let Some(resolution) = self.timer_resolution.filter(|resolution| !possible.contains(resolution)) {
            return refuse(format!("timer_resolution({resolution:?}): must be between 1 µs and 1 s"));
        }
        Ok(())
    }

    /// The bytes that a runtime built with this can ever take, before anything is started; printed, a table of them.
    ///
    /// Every part is counted at its bound, whole pages and the growth of tables included; what has no bound is named. It is
    /// what the runtime takes: what tasks allocate themselves counts as far as they declare it
    /// ([`Spawn::heap`](crate::Spawn::heap)). On top come what you keep: handles of finished tasks with their outputs, spawns
    /// that were admitted and not polled again, and drains, answers and spawn sites, a few dozen bytes each. And an allocator
    /// may keep gaps between blocks of many sizes that no sum foresees.
    ///
    /// ```
    /// let builder = anteroom::Runtime::builder()
    ///     .max_tasks(1_000)
    ///     .max_task_bytes(4 << 20)
    ///     .max_waiting(100)
    ///     .max_timers(2_000)
    ///     .max_sockets(1_000)
    ///     .blocking_threads(1);
    /// let worst = builder.worst_case();
    /// println!("{worst}");
    /// assert!(worst.total().unwrap() < 13 << 20);
    /// assert!(anteroom::Builder::new().worst_case().total().is_none()); // task bytes have no bound there
    /// ```
    pub fn worst_case(&self) -> WorstCase {
        worst::of(&self.worst_options())
    }

    fn worst_options(&self) -> worst::Options {
        worst::Options {
            tasks: self.max_tasks,
            services: self.service_tasks,
            task_bytes: self.max_task_bytes,
            waiting: self.max_waiting,
            foreign: self.max_foreign,
            timers: self.max_timers,
            sockets: self.max_sockets,
            blocking_threads: self.blocking_threads,
            blocking_queue: self.blocking_queue,
            blocking_stack: self.blocking_stack_size,
            workers: 0,
            worker_stack: None,
        }
    }

    /// Builds the runtime.
    ///
    /// ```
    /// let error = anteroom::Builder::new().max_tasks(0).build().unwrap_err();
    /// assert_eq!(error.to_string(), "max_tasks(0): must be at least 1");
    /// ```
    ///
    /// # Errors
    /// `InvalidInput` that names an option of no use; and the system's, when it gives no epoll, eventfd or timerfd.
    pub fn build(self) -> io::Result<Runtime> {
        self.check()?;
        let owner = Owner::new();
        let home = owner.home();
        let entered = owner.enter();
        let local = home.local().expect("this thread has just become the owner");
        let Parts { driver, pool, slot, admission, blocking } = self.open(home, local)?;
        drop(entered);
        let scheduler = Scheduler::new(home, local, admission);
        Ok(Runtime {
            scheduler,
            driver,
            pool,
            slot,
            admission,
            blocking,
            local,
            is_entered: Cell::new(false),
            owner,
        })
    }

    /// Makes the parts of a runtime beside its tasks; the caller may touch `local`.
    fn open(&self, home: &'static Home, local: &'static Local) -> io::Result<Parts> {
        let bounds = blocking::Bounds {
            threads: self.blocking_threads,
            queue: self.blocking_queue,
            waiting: self.max_waiting.unwrap_or(usize::MAX),
            stack: self.blocking_stack_size,
        };
        let pool = Pool::new(home, bounds);
        let slot = driver::Slot::of(home, local);
        let is_busy_outside = {
            let pool = pool.clone();
            Box::new(move || pool.is_busy())
        };
        let limits = driver::Limits {
            timers_max: self.max_timers.unwrap_or(usize::MAX),
            sources_max: self.max_sockets.unwrap_or(usize::MAX),
        };
        let (driver, doorbell) =
            slot.open(local, self.paused_clock, self.timer_resolution, limits, is_busy_outside)?;
        home.shared.inbox.set_doorbell(Some(doorbell));
        let admission = Admission::of(home, local);
        admission.open(Limits {
            tasks_max: self.max_tasks,
            task_bytes_max: self.max_task_bytes.unwrap_or(usize::MAX),
            services_max: self.service_tasks,
            waiting_max: self.max_waiting.unwrap_or(usize::MAX),
            foreign_max: self.max_foreign,
            in_place_stack: self.in_place_stack,
        });
        let blocking = blocking::Slot::of(local);
        blocking.set(Some(pool.clone()));
        Watch::of(local).open(self.long_polls.map(clock::nanos));
        Ok(Parts { driver, pool, slot, admission, blocking })
    }
}

/// What a runtime has beside its tasks.
struct Parts {
    driver: Rc<Driver>,
    pool: Rc<Pool>,
    slot: &'static driver::Slot,
    admission: &'static Admission,
    blocking: &'static blocking::Slot,
}

/// The single-threaded runtime: everything runs on the thread that calls [`block_on`](Self::block_on).
///
/// ```
/// let runtime = anteroom::Runtime::new().unwrap();
/// assert_eq!(runtime.block_on(async { 1 + 1 }), 2);
/// ```
///
/// # Bounds
/// `Builder::max_tasks` tasks and `Builder::service_tasks` services. Dropping it drops every task, on this thread, without
/// waiting for blocking jobs that have begun; outputs that were not taken stay with their handles.
pub struct Runtime {
    scheduler: Scheduler,
    driver: Rc<Driver>,
    pool: Rc<Pool>,
    slot: &'static driver::Slot,
    admission: &'static Admission,
    blocking: &'static blocking::Slot,
    local: &'static Local,
    is_entered: Cell<bool>,
    /// Last, so that the home is given back when all else is gone.
    owner: Owner,
}

/// While it lives, this thread is inside the runtime.
struct Inside<'a> {
    runtime: &'a Runtime,
    _parts: (Entered<'a>, admission::Entered, Scope<driver::Slot>, Scope<blocking::Slot>),
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.runtime.is_entered.set(false);
    }
}

impl Runtime {
    /// A runtime with the defaults of [`Builder::new`].
    ///
    /// # Errors
    /// The system's, when it gives no epoll, eventfd or timerfd.
    pub fn new() -> io::Result<Runtime> {
        Builder::new().build()
    }

    /// The same as [`Builder::new`].
    pub fn builder() -> Builder {
        Builder::new()
    }

    fn enter(&self) -> Inside<'_> {
        if self.is_entered.replace(true) {
            panic!(
                "Runtime::block_on was called inside itself: await the future instead, or spawn it; \
                 to block a task on another runtime, build a second one"
            );
        }
        Inside {
            runtime: self,
            _parts: (
                self.owner.enter(),
                admission::enter(self.admission),
                self.slot.enter(),
                self.blocking.enter(),
            ),
        }
    }

    /// Runs `future` to its end, and the runtime's tasks meanwhile. Tasks that are not done then stay, and go on in the
    /// next call.
    ///
    /// `future` holds no place, needs neither be `Send` nor `'static`, and has its turn as any task.
    ///
    /// ```
    /// let (runtime, name) = (anteroom::Runtime::new().unwrap(), String::from("borrowed"));
    /// let length = runtime.block_on(async { name.len() });
    /// assert_eq!(length, 8);
    /// ```
    ///
    /// # Panics
    /// With what `future` panicked with; and when called inside itself.
    #[track_caller]
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        let site = Location::caller();
        let _inside = self.enter();
        let future = pin!(future);
        self.scheduler.block_on(future, site, &*self.driver)
    }

    /// This runtime, for other threads.
    ///
    /// ```
    /// let runtime = anteroom::Runtime::new().unwrap();
    /// let handle = runtime.handle();
    /// std::thread::spawn(move || handle.close()).join().unwrap();
    /// runtime.block_on(async { assert!(anteroom::spawn(async {}).await.is_err()) });
    /// ```
    pub fn handle(&self) -> Handle {
        Handle::new(self.admission.door())
    }

    /// What it counts.
    ///
    /// ```
    /// let runtime = anteroom::Runtime::new().unwrap();
    /// runtime.block_on(async { anteroom::spawn(async {}).await.unwrap().await.unwrap() });
    /// assert_eq!(runtime.metrics().tasks_live_peak, 1);
    /// ```
    pub fn metrics(&self) -> Metrics {
        gather(self.admission, (self.owner.home(), self.local), &self.driver, &self.pool)
    }
}

/// Runs `future` to its end on a runtime with the defaults, made for it and dropped after it: for tests and small programs.
///
/// ```
/// let greeting = anteroom::block_on(async { anteroom::spawn(async { "hello" }).join().await.unwrap() });
/// assert_eq!(greeting, "hello");
/// ```
///
/// # Panics
/// With what `future` panicked with; and if the system gives no epoll, eventfd or timerfd.
#[track_caller]
pub fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = Runtime::new()
        .unwrap_or_else(|error| panic!("anteroom::block_on could not build a runtime: {error}"));
    runtime.block_on(future)
}

impl Drop for Runtime {
    fn drop(&mut self) {
        // [RUNTIME-1]
        let _inside = self.enter();
        self.scheduler.shut_down(&*self.driver);
        self.pool.close();
        self.blocking.set(None);
        self.slot.close();
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime").field("metrics", &self.metrics()).finish_non_exhaustive()
    }
}
