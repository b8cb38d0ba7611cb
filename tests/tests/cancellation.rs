//! Every future is dropped after each of its polls, and nothing is lost: no place, byte, timer, socket, header or file, and
//! nothing that it waited for.
//!
//! A row is one public future. It runs to its end first, and is then made anew for each [`Step`] at which it is dropped,
//! until it was ready before. What it waited for must be there for who comes next, which each row says in its own way; that
//! the runtime counts what it counted before is looked at for all of them.
//!
//! The last tests read the source: a public future without a row fails.

#[path = "cancellation/limits.rs"]
mod limits;

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anteroom::net::{ReadHalf, TcpListener, TcpStream, WriteHalf, lookup_host};
use anteroom::{
    Builder, CancellationToken, Handle, JoinHandle, Metrics, Reservation, Runtime, SpawnError, TaskGroup,
    as_completed, gather, metrics, reserve, spawn, spawn_blocking, spawn_local, spawn_with, time, try_gather,
    try_spawn, try_spawn_blocking, yield_now,
};
use anteroom_limiter::Semaphore;
use anteroom_tests::cancel::Step;
use anteroom_tests::source::{SourceFile, sources};
use anteroom_tests::{Gate, must_end, park_on};
use limits::*;

/// All rows, a test each, and the futures that each stands for.
macro_rules! rows {
    ($($row:ident for $($future:literal),+;)+) => {
        const ROWS: &[&str] = &[$($($future),+),+];

        mod drop_after_each_poll {
            $(
                #[test]
                fn $row() {
                    // Whoever waits for the lock does not hang.
                    let _alone = super::ALONE.lock().unwrap_or_else(super::PoisonError::into_inner);
                    super::must_end(super::$row);
                }
            )+
        }
    };
}

rows! {
    spawn_waits for "spawn", "Spawn";
    spawn_local_waits for "spawn_local", "SpawnLocal";
    spawn_with_waits for "spawn_with", "SpawnWith";
    spawn_waits_with_a_time for "Spawn::timeout", "Within";
    spawn_waits_until_a_deadline for "Spawn::deadline";
    spawn_times_out for "Spawn::timeout", "Within";
    spawn_and_join_in_time for "Within", "Join";
    handle_spawn_with_a_time_on_another_thread for "Within";
    reserve_waits_with_a_time for "Reserve::timeout", "Reserve::deadline";
    group_spawn_waits_with_a_time for "GroupSpawn::timeout", "GroupSpawn::deadline";
    group_spawn_times_out_in_both_lines for "GroupSpawn::timeout";
    spawn_finds_room for "spawn";
    spawn_and_join for "Spawn::join", "Join";
    handle_spawn_on_the_owner for "Handle::spawn";
    handle_spawn_on_another_thread for "Handle::spawn";
    reserve_waits for "reserve", "Reserve";
    a_reservation_is_held for "reserve";
    join_handle_by_reference for "JoinHandle";
    join_handle_by_value for "JoinHandle";
    join_handle_on_another_thread for "JoinHandle";
    group_spawn_waits for "TaskGroup::spawn", "GroupHandle::spawn", "GroupSpawn";
    group_spawn_local_waits for "TaskGroup::spawn_local", "GroupHandle::spawn_local", "GroupSpawnLocal";
    group_spawn_waits_for_the_group for "TaskGroup::spawn";
    group_join_next for "TaskGroup::join_next";
    group_join_all for "TaskGroup::join_all";
    group_try_join_all for "TaskGroup::try_join_all";
    group_shutdown for "TaskGroup::shutdown";
    handle_drain for "Handle::drain", "Drain";
    handle_asks for "Handle::metrics", "Handle::holders", "Handle::waiters", "Handle::long_polls", "Ask";
    yields for "yield_now", "YieldNow";
    cancelled_waits for "CancellationToken::cancelled", "Cancelled";
    cancelled_owned_waits for "CancellationToken::cancelled_owned";
    run_until_is_cancelled for "CancellationToken::run_until", "RunUntil";
    run_until_owned_is_cancelled for "CancellationToken::run_until_owned";
    run_until_its_future_is_ready for "CancellationToken::run_until";
    gathers for "gather", "Gather";
    gathers_what_may_fail for "try_gather", "TryGather";
    results_as_they_come for "AsCompleted::next";
    sleeps for "sleep", "Sleep";
    sleeps_until for "sleep_until";
    timeout_that_is_over for "timeout", "Timeout";
    timeout_at_that_is_over for "timeout_at";
    timeout_in_time for "timeout";
    interval_ticks for "Interval::tick";
    advances for "advance";
    tcp_connect for "TcpStream::connect";
    tcp_connect_that_waits for "TcpStream::connect";
    tcp_connect_by_name for "TcpStream::connect";
    tcp_read for "TcpStream::read";
    tcp_read_vectored for "TcpStream::read_vectored";
    tcp_peek for "TcpStream::peek";
    tcp_read_exact for "TcpStream::read_exact";
    tcp_read_on_another_thread for "TcpStream::read";
    tcp_write for "TcpStream::write";
    tcp_write_vectored for "TcpStream::write_vectored";
    tcp_write_all for "TcpStream::write_all";
    half_read for "ReadHalf::read";
    half_read_vectored for "ReadHalf::read_vectored";
    half_peek for "ReadHalf::peek";
    half_read_exact for "ReadHalf::read_exact";
    half_write for "WriteHalf::write";
    half_write_vectored for "WriteHalf::write_vectored";
    half_write_all for "WriteHalf::write_all";
    tcp_bind_by_name for "TcpListener::bind";
    tcp_accept for "TcpListener::accept";
    lookups for "lookup_host";
    blocking_jobs_wait for "spawn_blocking";
    blocking_jobs_run for "spawn_blocking";
    blocking_by_reference for "Blocking", "try_spawn_blocking";
    semaphore_acquire for "Semaphore::acquire", "Acquire";
    semaphore_acquire_many for "Semaphore::acquire_many";
    semaphore_acquire_owned for "Semaphore::acquire_owned";
    semaphore_acquire_many_owned for "Semaphore::acquire_many_owned";
    semaphore_acquire_in_time for "Semaphore::acquire_timeout", "Acquire::timeout";
    semaphore_acquire_until_a_deadline for "Semaphore::acquire_deadline", "Acquire::deadline";
    semaphore_acquire_times_out for "Semaphore::acquire_timeout", "Acquire::deadline";
    permit_grows for "Permit::grow";
    permit_is_suspended for "Permit::suspend";
    permit_exchanges for "Permit::exchange";
    memory_exchanges for "MemoryPermit::exchange";
    all_acquire for "All::acquire", "AllAcquire";
    keyed_acquire for "Keyed::acquire", "KeyedAcquire";
    limiter_acquire for "Limiter::acquire", "LimiterAcquire";
    limiter_acquire_many for "Limiter::acquire_many";
    limiter_admits for "Limiter::admit", "Admit";
    what_was_admitted_runs for "LimiterPermit::attach", "Admitted";
    local_acquire for "LocalSemaphore::acquire", "LocalAcquire";
    local_acquire_many for "LocalSemaphore::acquire_many";
    local_acquire_many_owned for "LocalSemaphore::acquire_many_owned";
    memory_acquire for "MemoryBudget::acquire", "MemoryAcquire";
    memory_acquire_typical for "MemoryBudget::acquire_typical";
    rate_limit_waits for "RateLimit::wait", "RateLimit::wait_many";
    paced_waits_for_a_place for "Paced::acquire", "Paced::acquire_owned";
    paced_waits_for_a_slot for "Paced::acquire", "Paced::acquire_owned";
}

/// Files are the process's, so one row runs at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// What must be as it was.
#[derive(Debug, PartialEq)]
struct Held {
    metrics: Metrics,
    files: Option<usize>,
}

impl Held {
    fn now() -> Held {
        let mut metrics = metrics();
        // What is kept for the next ones, and the marks of what was.
        metrics.cache_bytes = 0;
        metrics.headers_resident = 0;
        metrics.blocking_threads = 0;
        metrics.tasks_live_peak = 0;
        metrics.waiting_peak = 0;
        Held { metrics, files: std::fs::read_dir("/proc/self/fd").ok().map(Iterator::count) }
    }

    /// Waits until all is as it was; what is left to do is done by then, also on other threads.
    async fn again(&self, step: &Step) {
        let start = Instant::now();
        while Held::now() != *self || step.wakers_left() > 0 {
            let (now, wakers) = (Held::now(), step.wakers_left());
            let is_late = start.elapsed() > Duration::from_secs(20);
            assert!(!is_late, "{step:?}: {now:?}, before {self:?}; {wakers} wakers are kept");
            yield_now().await;
        }
    }
}

/// Runs `row` to its end, and then, each time in a new runtime, with each step, until it is ready before it is dropped: then
/// it returns true. It must have been dropped pending at `pending` steps at least.
fn each_step(pending: usize, builder: Builder, row: impl AsyncFn(&Step) -> bool) {
    each_step_once(pending, builder, async |step: &Step| {
        let held = Held::now();
        let done = row(step).await;
        if !done {
            held.again(step).await;
            // In the same runtime, it completes.
            assert!(row(&Step::never()).await);
        }
        done
    });
}

/// As [`each_step`], for what a runtime does once.
fn each_step_once(pending: usize, builder: Builder, row: impl AsyncFn(&Step) -> bool) {
    const STEPS_MAX: usize = 1_000;
    let run = |step: &Step| {
        let runtime = builder.clone().build().unwrap();
        runtime.block_on(async {
            let held = Held::now();
            let done = row(step).await;
            held.again(step).await;
            done
        })
    };
    assert!(run(&Step::never()), "it is ready in the end");
    for step in Step::all().take(STEPS_MAX) {
        if run(&step) {
            let dropped = step.dropped();
            assert!(dropped >= pending, "it was dropped pending at {dropped} steps, {pending} expected");
            return;
        }
    }
    panic!("it was not ready after {STEPS_MAX} steps");
}

fn one_place() -> Builder {
    Runtime::builder().max_tasks(1)
}

fn paused() -> Builder {
    Runtime::builder().paused_clock(true)
}

/// A task that counts how often it ran, tells whether it is gone, and ends only when it is let.
#[derive(Clone, Default)]
struct Probe(Arc<AtomicUsize>, Gate);

impl Probe {
    async fn run(self) -> usize {
        self.0.fetch_add(1, Ordering::SeqCst);
        self.1.wait().await;
        7
    }

    fn may_end(&self) {
        self.1.open();
    }

    fn runs(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }

    fn is_gone(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }
}

/// Where everything that asks for a place must leave things, whenever it is dropped: one place, which is held when it comes
/// and given back after its first poll.
async fn place<F: Future>(step: &Step, make: impl FnOnce(Probe) -> F) -> bool {
    let probe = Probe::default();
    let mut holder = Some(reserve().await.unwrap());
    let future = make(probe.clone());
    let output = step.run(future, |_| drop(holder.take())).await;
    let done = output.is_some();
    drop(output);
    if done {
        // Let go, its task goes on; who was not told of it has aborted it.
        probe.may_end();
    }
    if holder.is_some() {
        assert!(probe.is_gone(), "{step:?}: dropped in line, it is dropped at once");
        assert_eq!(probe.runs(), 0, "{step:?}: and never ran");
        assert_eq!(metrics().waiting, 0, "{step:?}");
    }
    drop(holder);
    // The place is there for the next one.
    assert_eq!(spawn(async { 8 }).join().await.unwrap(), 8);
    assert!(probe.is_gone(), "{step:?}");
    done
}

fn spawn_waits() {
    each_step(2, one_place(), async |step| place(step, |probe| spawn(probe.run())).await);
}

fn spawn_local_waits() {
    each_step(2, one_place(), async |step| place(step, |probe| spawn_local(probe.run())).await);
}

fn spawn_with_waits() {
    each_step(2, one_place(), async |step| place(step, |probe| spawn_with(move || probe.run())).await);
}

fn group_spawn_waits() {
    each_step(2, one_place(), async |step| {
        let group = TaskGroup::with_limit(1);
        place(step, |probe| group.spawn(probe.run())).await
    });
}

fn group_spawn_local_waits() {
    each_step(2, one_place(), async |step| {
        let handle = TaskGroup::with_limit(1);
        place(step, |probe| handle.spawn_local(probe.run())).await
    });
}

fn group_spawn_waits_for_the_group() {
    each_step(2, Runtime::builder(), async |step| {
        let group = TaskGroup::with_limit(1);
        let (first, second) = (Probe::default(), Probe::default());
        group.spawn(first.clone().run()).await.unwrap();
        let spawned = step.run(group.handle().spawn(second.clone().run()), |_| first.may_end()).await;
        let done = spawned.is_some_and(|spawned| spawned.is_ok());
        first.may_end();
        second.may_end();
        assert_eq!(group.join_next().await.unwrap().unwrap(), 7);
        assert_eq!(done, group.join_next().await.is_some(), "{step:?}");
        assert!(done || second.runs() == 0 && second.is_gone(), "{step:?}");
        // The group's place is there for the next one.
        group.try_spawn(async { 8 }).unwrap();
        assert_eq!(group.join_next().await.unwrap().unwrap(), 8);
        done
    });
}

/// A group of three that each end after the next poll of whoever joins them.
async fn group_of_three<F: AsyncFn(&TaskGroup<usize>) -> usize>(step: &Step, join: F) -> (bool, usize) {
    let group = TaskGroup::new();
    let probes = [Probe::default(), Probe::default(), Probe::default()];
    for probe in &probes {
        group.spawn(probe.clone().run()).await.unwrap();
    }
    let next = |polls| probes.iter().take(polls).for_each(Probe::may_end);
    let joined = step.run(join(&group), next).await;
    probes.iter().for_each(Probe::may_end);
    let mut rest = 0;
    while let Some(output) = group.join_next().await {
        rest += output.map_or(1, |output| output / 7);
    }
    assert!(probes.iter().all(Probe::is_gone));
    (joined.is_some(), joined.unwrap_or(0) + rest)
}

fn group_join_next() {
    each_step(1, Runtime::builder(), async |step| {
        let join = async |group: &TaskGroup<usize>| group.join_next().await.unwrap().unwrap() / 7;
        let (done, joined) = group_of_three(step, join).await;
        assert_eq!(joined, 3, "{step:?}: none is lost");
        done
    });
}

fn group_join_all() {
    each_step(1, Runtime::builder(), async |step| {
        let (done, joined) = group_of_three(step, async |group| group.join_all().await.unwrap().len()).await;
        assert!(if done { joined == 3 } else { joined <= 3 }, "{step:?}");
        done
    });
}

fn group_try_join_all() {
    each_step(1, Runtime::builder(), async |step| {
        let group = TaskGroup::<Result<usize, Failed>>::new();
        let probe = Probe::default();
        let (task, gate) = (probe.clone(), probe.1.clone());
        group.spawn(async move { Ok(task.run().await) }).await.unwrap();
        group.spawn(async move { (gate.wait().await, Err(Failed)).1 }).await.unwrap();
        group.spawn(std::future::pending()).await.unwrap();
        let joined = step.run(group.try_join_all(), |_| probe.may_end()).await;
        assert!(joined.as_ref().is_none_or(Result::is_err));
        probe.may_end();
        group.shutdown().await;
        assert!(probe.is_gone());
        joined.is_some()
    });
}

#[derive(Debug)]
struct Failed;

impl From<anteroom::JoinError> for Failed {
    fn from(_: anteroom::JoinError) -> Self {
        Failed
    }
}

fn group_shutdown() {
    each_step(1, Runtime::builder(), async |step| {
        let join = async |group: &TaskGroup<usize>| {
            group.shutdown().await;
            assert!(group.is_empty());
            3
        };
        let (done, joined) = group_of_three(step, join).await;
        assert!(if done { joined == 3 } else { joined <= 3 }, "{step:?}");
        done
    });
}

fn reserve_waits() {
    each_step(2, one_place(), async |step| {
        // The place that it gives is spent or not.
        place(step, |_| reserve()).await
            && place(step, |probe| async { drop(reserve().await.unwrap().spawn(probe.run()).unwrap()) }).await
    });
}

fn spawn_and_join() {
    each_step(4, one_place(), async |step| {
        let probe = Probe::default();
        let mut holder = Some(reserve().await.unwrap());
        let next = |polls| match polls {
            1 => drop(holder.take()),
            _ => probe.may_end(),
        };
        let joined = step.run(spawn(probe.clone().run()).join(), next).await;
        let is_waiting = holder.take().is_some();
        let done = joined.is_some();
        assert!(joined.is_none_or(|output| output.unwrap() == 7));
        assert_eq!(spawn(async { 8 }).join().await.unwrap(), 8);
        assert!(probe.is_gone(), "{step:?}: dropped, its task is aborted");
        assert!(done || !is_waiting || probe.runs() == 0, "{step:?}");
        done
    });
}

fn spawn_waits_with_a_time() {
    each_step(2, one_place().paused_clock(true), async |step| {
        let done = place(step, |probe| spawn(probe.run()).timeout(HOUR)).await;
        assert_eq!(metrics().timers, 0, "{step:?}");
        done && place(step, |probe| spawn_with(move || probe.run()).timeout(HOUR)).await
            && place(step, |probe| spawn_local(probe.run()).timeout(HOUR)).await
    });
}

fn spawn_waits_until_a_deadline() {
    each_step(2, one_place().paused_clock(true), async |step| {
        place(step, |probe| spawn(probe.run()).deadline(time::now() + HOUR)).await
    });
}

fn spawn_times_out() {
    each_step(2, one_place().paused_clock(true), async |step| {
        let probe = Probe::default();
        let holder = reserve().await.unwrap();
        let told = step.run(spawn(probe.clone().run()).timeout(HOUR), |_| {}).await;
        assert_eq!((metrics().timers, metrics().waiting), (0, 0), "{step:?}");
        // Told of it, the caller has it; dropped before, nobody.
        assert_eq!(probe.is_gone(), told.is_none(), "{step:?}");
        let done = told.is_some_and(|told| told.unwrap_err().is_timed_out());
        assert!(probe.is_gone() && probe.runs() == 0, "{step:?}");
        drop(holder);
        assert_eq!(spawn(async { 8 }).join().await.unwrap(), 8);
        done
    });
}

fn spawn_and_join_in_time() {
    each_step(4, one_place().paused_clock(true), async |step| {
        let probe = Probe::default();
        let mut holder = Some(reserve().await.unwrap());
        let next = |polls| match polls {
            1 => drop(holder.take()),
            _ => probe.may_end(),
        };
        let joined = step.run(spawn(probe.clone().run()).timeout(HOUR).join(), next).await;
        drop(holder.take());
        assert_eq!(spawn(async { 8 }).join().await.unwrap(), 8);
        assert!(probe.is_gone(), "{step:?}: dropped, its task is aborted");
        assert_eq!(metrics().timers, 0, "{step:?}");
        joined.is_some_and(|output| output.unwrap() == 7)
    });
}

fn handle_spawn_with_a_time_on_another_thread() {
    each_step(2, one_place(), async |step| {
        let (probe, ended) = (Probe::default(), Gate::new());
        let holder = reserve().await.unwrap();
        let handle = Handle::current().unwrap();
        let thread = thread::spawn({
            let (step, probe, ended) = (step.clone(), probe.clone(), ended.clone());
            move || {
                let other = Runtime::new().unwrap();
                let done = other.block_on(async {
                    let mut holder = Some(holder);
                    let waits = handle.spawn(probe.clone().run()).timeout(HOUR);
                    let spawned = step.run(waits, |_| drop(holder.take())).await;
                    assert_eq!(metrics().timers, 0, "{step:?}");
                    if let Some(told) = &spawned {
                        assert!(told.is_ok(), "{step:?}");
                        probe.may_end();
                    }
                    spawned.is_some()
                });
                drop(probe);
                ended.open();
                done
            }
        });
        ended.wait().await;
        let done = thread.join().unwrap();
        assert_eq!(spawn(async { 8 }).join().await.unwrap(), 8);
        assert!(probe.is_gone(), "{step:?}");
        done
    });
}

fn reserve_waits_with_a_time() {
    each_step(2, one_place().paused_clock(true), async |step| {
        place(step, |_| reserve().timeout(HOUR)).await
            && place(step, |_| reserve().deadline(time::now() + HOUR)).await
            && {
                let holder = reserve().await.unwrap();
                let late = step.run(reserve().timeout(HOUR), |_| {}).await;
                assert_eq!((metrics().timers, metrics().waiting), (0, 0), "{step:?}");
                drop(holder);
                late.is_some_and(|late| late.is_err())
            }
    });
}

fn group_spawn_waits_with_a_time() {
    each_step(2, one_place().paused_clock(true), async |step| {
        let group = TaskGroup::with_limit(1);
        place(step, |probe| group.spawn(probe.run()).timeout(HOUR)).await
            && place(step, |probe| group.spawn_local(probe.run()).deadline(time::now() + HOUR)).await
    });
}

fn group_spawn_times_out_in_both_lines() {
    each_step(2, one_place().paused_clock(true), async |step| {
        let holder = reserve().await.unwrap();
        let group = TaskGroup::with_limit(1);
        let probe = Probe::default();
        let both = async {
            // The first waits for the runtime, the second for the group, until the first has left.
            let first = group.spawn(probe.clone().run()).timeout(HOUR);
            let second = group.spawn(probe.clone().run()).timeout(2 * HOUR);
            let (first, second) = futures_util::future::join(first, second).await;
            first.unwrap_err().is_timed_out() && second.unwrap_err().is_timed_out()
        };
        let done = step.run(both, |_| {}).await;
        assert!(probe.is_gone() && probe.runs() == 0, "{step:?}");
        assert_eq!((metrics().timers, metrics().waiting), (0, 0), "{step:?}");
        drop(holder);
        // The group's place is there for the next one.
        group.try_spawn(async { 8 }).unwrap();
        assert_eq!(group.join_next().await.unwrap().unwrap(), 8);
        done == Some(true)
    });
}

fn spawn_finds_room() {
    // With a declared byte count, under a limit of bytes: they are given back too.
    each_step(0, one_place().max_task_bytes(10_000), async |step| {
        let probe = Probe::default();
        let output = step.run(spawn(probe.clone().run()).heap(9_000), |_| {}).await;
        let done = output.is_some();
        drop(output);
        probe.may_end();
        assert_eq!(spawn(async { 8 }).heap(9_000).join().await.unwrap(), 8);
        assert!(probe.is_gone());
        done
    });
}

fn handle_spawn_on_the_owner() {
    each_step(2, one_place(), async |step| {
        place(step, |probe| Handle::current().unwrap().spawn(probe.run())).await
    });
}

fn handle_spawn_on_another_thread() {
    each_step(2, one_place(), async |step| {
        let (probe, ended) = (Probe::default(), Gate::new());
        let holder = reserve().await.unwrap();
        let handle = Handle::current().unwrap();
        let thread = thread::spawn({
            let (step, probe, ended) = (step.clone(), probe.clone(), ended.clone());
            let let_go = probe.clone();
            move || {
                let mut holder = Some(holder);
                let spawned = park_on(step.run(handle.spawn(probe.run()), |_| drop(holder.take())));
                // What is left of it is dropped here, elsewhere.
                let (done, was_waiting) = (spawned.is_some(), holder.is_some());
                drop((spawned, holder));
                if done {
                    let_go.may_end();
                }
                ended.open();
                (done, was_waiting)
            }
        });
        ended.wait().await;
        let (done, was_waiting) = thread.join().unwrap();
        assert_eq!(spawn(async { 8 }).join().await.unwrap(), 8);
        assert!(probe.is_gone(), "{step:?}");
        assert!(!was_waiting || probe.runs() == 0, "{step:?}: dropped in line, it never ran");
        done
    });
}

fn a_reservation_is_held() {
    each_step(2, one_place(), async |step| {
        let probe = Probe::default();
        let task = probe.clone();
        let future = async move {
            let place: Reservation = reserve().await.unwrap();
            yield_now().await;
            place.spawn(task.run()).unwrap().await.unwrap()
        };
        let next = |polls| {
            if polls > 1 {
                probe.may_end();
            }
        };
        let output = step.run(future, next).await;
        // A handle that is dropped lets its task go on.
        probe.may_end();
        assert_eq!(spawn(async { 8 }).join().await.unwrap(), 8);
        assert!(probe.is_gone());
        output.is_some_and(|output| output == 7)
    });
}

/// A task that ends when the gate opens.
fn behind(gate: &Gate) -> JoinHandle<usize> {
    let wait = gate.wait();
    try_spawn(async move {
        wait.await;
        7
    })
    .unwrap()
}

fn join_handle_by_reference() {
    each_step(2, one_place(), async |step| {
        let gate = Gate::new();
        let mut handle = behind(&gate);
        let output = step.run(&mut handle, |_| gate.open()).await;
        gate.open();
        match output {
            Some(output) => assert_eq!(output.unwrap(), 7),
            None => return (handle.await.unwrap() == 7, false).1,
        }
        true
    });
}

fn join_handle_by_value() {
    each_step(2, one_place(), async |step| {
        let (gate, ended) = (Gate::new(), Arc::new(AtomicBool::new(false)));
        let (wait, tell) = (gate.wait(), ended.clone());
        let handle = try_spawn(async move {
            wait.await;
            tell.store(true, Ordering::SeqCst);
        });
        let output = step.run(handle.unwrap(), |_| gate.open()).await;
        gate.open();
        // Its task goes on without it; the place is free when it has ended.
        spawn(async {}).join().await.unwrap();
        assert!(ended.load(Ordering::SeqCst));
        output.is_some()
    });
}

fn join_handle_on_another_thread() {
    each_step(2, one_place(), async |step| {
        let (gate, ended) = (Gate::new(), Gate::new());
        let mut handle = behind(&gate);
        let thread = thread::spawn({
            let (step, gate, ended) = (step.clone(), gate.clone(), ended.clone());
            move || {
                let output = park_on(step.run(&mut handle, |_| gate.open()));
                ended.open();
                (output, handle)
            }
        });
        ended.wait().await;
        gate.open();
        let (output, handle) = thread.join().unwrap();
        match output {
            Some(output) => assert_eq!(output.unwrap(), 7),
            None => return (handle.await.unwrap() == 7, false).1,
        }
        true
    });
}

fn handle_drain() {
    each_step_once(2, one_place(), async |step| {
        const LONG: Duration = Duration::from_secs(50);
        let (gate, handle) = (Gate::new(), Handle::current().unwrap());
        drop(behind(&gate));
        let drained = step.run(handle.drain(LONG), |_| gate.open()).await;
        assert_eq!((metrics().timers, step.wakers_left()), (0, 0), "{step:?}");
        gate.open();
        // Nothing but the closing is left of it, and the next one waits for what it waited for.
        if step.dropped() > 0 {
            assert_eq!(spawn(async {}).await.unwrap_err(), SpawnError::Closed);
        }
        handle.drain(LONG).await.unwrap();
        assert_eq!(metrics().tasks_live, 0);
        drained.is_some_and(|result| result.is_ok())
    });
}

fn handle_asks() {
    each_step(2, one_place(), async |step| {
        // More than may wait at once: what is dropped takes no room for long.
        const QUESTIONS: usize = 70;
        let (handle, ended) = (Handle::current().unwrap(), Gate::new());
        let thread = thread::spawn({
            let (step, ended) = (step.clone(), ended.clone());
            move || {
                let mut done = true;
                for _ in 0..QUESTIONS {
                    done &= park_on(step.run(handle.metrics(), |_| {})).is_some();
                    done &= park_on(step.run(handle.holders(), |_| {})).is_some();
                    done &= park_on(step.run(handle.waiters(), |_| {})).is_some();
                    done &= park_on(step.run(handle.long_polls(), |_| {})).is_some();
                }
                let deadline = Instant::now() + Duration::from_secs(20);
                let answered = loop {
                    match handle.metrics().wait(Duration::from_secs(20)) {
                        Err(anteroom::AskError::TooMany) if Instant::now() < deadline => thread::yield_now(),
                        answer => break answer,
                    }
                };
                ended.open();
                (done, answered)
            }
        });
        ended.wait().await;
        let (done, answered) = thread.join().unwrap();
        assert_eq!(answered.unwrap().tasks_max, 1);
        assert_eq!(handle.metrics().await.unwrap().tasks_max, 1);
        done
    });
}

fn yields() {
    each_step(2, one_place(), async |step| {
        let done = step.run(yield_now(), |_| {}).await.is_some();
        // A task that was left behind by it would not run.
        assert_eq!(spawn(async { 8 }).join().await.unwrap(), 8);
        done
    });
}

const HOUR: Duration = Duration::from_secs(3_600);

/// Where everything that waits for an hour must leave things: without a timer, and as late as it got.
async fn hour<F: Future>(step: &Step, future: F) -> bool {
    let start = time::now();
    let done = step.run(future, |_| {}).await.is_some();
    assert_eq!(metrics().timers, 0, "{step:?}");
    let passed = time::now() - start;
    assert!(passed == Duration::ZERO || passed == HOUR, "{step:?}: {passed:?}");
    time::sleep(HOUR).await;
    assert_eq!(time::now() - start, passed + HOUR);
    done
}

/// Counts what has started and has not been dropped.
#[derive(Clone, Default)]
struct Live(Arc<()>);

impl Live {
    /// A future with a timer, which starts and ends; its number.
    async fn one(self, number: u32) -> u32 {
        time::sleep(Duration::from_millis(u64::from(number))).await;
        number
    }

    fn is_none(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }
}

fn gathers() {
    each_step(3, paused(), async |step| {
        let live = Live::default();
        let output = step.run(gather(0..6, |number| live.clone().one(number)).limit(2), |_| {}).await;
        assert!(live.is_none(), "{step:?}: what has started is gone, with its timers");
        assert_eq!(metrics().timers, 0, "{step:?}");
        output.is_some_and(|output| output == [0, 1, 2, 3, 4, 5])
    });
}

fn gathers_what_may_fail() {
    each_step(3, paused(), async |step| {
        let live = Live::default();
        let each = async |number| match live.clone().one(number).await {
            4 => Err("four"),
            number => Ok(number),
        };
        let output = step.run(try_gather(0..9, each).limit(2), |_| {}).await;
        assert!(live.is_none(), "{step:?}");
        assert_eq!(metrics().timers, 0, "{step:?}");
        output.is_some_and(|output| output == Err("four"))
    });
}

fn results_as_they_come() {
    each_step(1, paused(), async |step| {
        let live = Live::default();
        let mut results = as_completed(1..4, |number| live.clone().one(number)).limit(2);
        let first = step.run(results.next(), |_| {}).await;
        // What was not given out comes to the next call.
        let mut all: Vec<u32> = first.into_iter().flatten().collect();
        let done = !all.is_empty();
        while let Some(number) = results.next().await {
            all.push(number);
        }
        assert_eq!(all, [1, 2, 3], "{step:?}");
        assert!(live.is_none());
        // And dropped in between, it takes what has started with it.
        let mut results = as_completed(1..4, |number| live.clone().one(number)).limit(2);
        results.next().await;
        drop(results);
        assert!(live.is_none());
        assert_eq!(metrics().timers, 0, "{step:?}");
        done
    });
}

fn sleeps() {
    each_step(2, paused(), async |step| hour(step, time::sleep(HOUR)).await);
}

fn sleeps_until() {
    each_step(2, paused(), async |step| hour(step, time::sleep_until(time::now() + HOUR)).await);
}

fn timeout_that_is_over() {
    each_step(2, paused(), async |step| hour(step, time::timeout(HOUR, time::sleep(2 * HOUR))).await);
}

fn timeout_at_that_is_over() {
    each_step(2, paused(), async |step| {
        hour(step, time::timeout_at(time::now() + HOUR, std::future::pending::<()>())).await
    });
}

fn timeout_in_time() {
    each_step(2, paused(), async |step| {
        let gate = Gate::new();
        let output = step.run(time::timeout(HOUR, gate.wait()), |_| gate.open()).await;
        assert_eq!(metrics().timers, 0, "{step:?}");
        output.is_some_and(|output| output.is_ok())
    });
}

fn interval_ticks() {
    each_step(2, paused(), async |step| {
        let mut ticks = time::interval(HOUR);
        let first = ticks.tick().await;
        let tick = step.run(ticks.tick(), |_| {}).await;
        let done = tick.is_some();
        // Dropped, it comes to the next call, when it was due.
        let second = match tick {
            Some(tick) => tick,
            None => ticks.tick().await,
        };
        assert_eq!((second - first, time::now() - first), (HOUR, HOUR), "{step:?}");
        assert_eq!(ticks.tick().await - first, 2 * HOUR);
        assert_eq!(metrics().timers, 0);
        done
    });
}

fn advances() {
    each_step(2, paused(), async |step| {
        let (start, dropped) = (time::now(), step.dropped());
        let mut due = Box::pin(time::sleep(HOUR));
        assert!(anteroom_tests::poll_once(due.as_mut()).is_pending());
        let done = step.run(time::advance(HOUR), |_| {}).await.is_some();
        let was_polled = done || step.dropped() > dropped;
        assert_eq!(time::now() - start, if was_polled { HOUR } else { Duration::ZERO }, "{step:?}");
        assert_eq!(metrics().timers, usize::from(!was_polled));
        due.await;
        assert_eq!(time::now() - start, HOUR);
        done
    });
}

/// Runs `future`, which needs the pool, to its step in a pool that is full until after its first poll.
async fn in_line<F: Future>(step: &Step, future: F) -> Option<F::Output> {
    let (job, tell, _) = job();
    let (first, mut tell) = (try_spawn_blocking(job).unwrap(), Some(tell));
    let output = step.run(future, |_| drop(tell.take())).await;
    drop(tell);
    assert_eq!(first.await.unwrap(), 7);
    // The room is there for the next one.
    assert_eq!(spawn_blocking(|| 8).await.unwrap(), 8);
    output
}

/// A connection: this runtime's end, and the other, which blocks.
async fn pair() -> (TcpStream, net::TcpStream) {
    let listener = net::TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (stream, listener.accept().unwrap().0)
}

/// What is read when the peer writes "abcd" while it is waited for; `takes` unless it only looks.
async fn reads<S>(
    step: &Step,
    split: impl FnOnce(TcpStream) -> S,
    takes: bool,
    read: impl AsyncFn(&mut S, &mut [u8]) -> io::Result<usize>,
) -> bool {
    let (stream, mut peer) = pair().await;
    let mut stream = split(stream);
    let (mut buffer, mut is_written) = ([0; 8], false);
    let write = |_| {
        if !std::mem::replace(&mut is_written, true) {
            peer.write_all(b"abcd").unwrap();
        }
    };
    let output = step.run(read(&mut stream, &mut buffer), write).await;
    let done = output.is_some();
    if let Some(output) = output {
        assert_eq!((output.unwrap(), &buffer[..4]), (4, &b"abcd"[..]));
    } else {
        assert_eq!(buffer, [0; 8], "{step:?}: dropped, nothing was read");
    }
    if done && takes {
        peer.write_all(b"efgh").unwrap();
        assert_eq!(read(&mut stream, &mut buffer).await.unwrap(), 4);
        assert_eq!(&buffer[..4], b"efgh");
    } else {
        if !is_written {
            peer.write_all(b"abcd").unwrap();
        }
        assert_eq!(read(&mut stream, &mut buffer).await.unwrap(), 4, "{step:?}: it is there for the next");
        assert_eq!(&buffer[..4], b"abcd");
    }
    drop(peer);
    if takes {
        assert_eq!(read(&mut stream, &mut buffer).await.unwrap(), 0, "and nothing comes twice");
    }
    done
}

/// "abcd" in two parts, each written while it is waited for.
async fn reads_exact<S>(
    step: &Step,
    split: impl FnOnce(TcpStream) -> S,
    read_exact: impl AsyncFn(&mut S, &mut [u8]) -> io::Result<()>,
) -> bool {
    let (stream, mut peer) = pair().await;
    let mut stream = split(stream);
    let (mut buffer, mut parts) = ([0; 4], [&b"ab"[..], b"cd"].into_iter());
    let write = |_| parts.next().into_iter().for_each(|part| peer.write_all(part).unwrap());
    let output = step.run(read_exact(&mut stream, &mut buffer), write).await;
    let done = output.is_some();
    parts.for_each(|part| peer.write_all(part).unwrap());
    // What was read so far is in the buffer, and the rest is there for the next.
    let filled = buffer.iter().take_while(|&&byte| byte != 0).count();
    assert_eq!(buffer[..filled], b"abcd"[..filled], "{step:?}");
    assert!(!done || filled == 4);
    let mut rest = vec![0; 4 - filled];
    read_exact(&mut stream, &mut rest).await.unwrap();
    assert_eq!(rest, b"abcd"[filled..], "{step:?}");
    drop(peer);
    let error = read_exact(&mut stream, &mut [0]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "and nothing comes twice");
    done
}

fn whole(stream: TcpStream) -> TcpStream {
    stream
}

type Halves = (ReadHalf, WriteHalf);

fn halves(stream: TcpStream) -> Halves {
    stream.into_split()
}

fn tcp_read() {
    each_step(2, one_place(), async |step| {
        reads(step, whole, true, async |stream: &mut TcpStream, buffer: &mut [u8]| stream.read(buffer).await)
            .await
    });
}

fn tcp_read_vectored() {
    each_step(2, one_place(), async |step| {
        reads(step, whole, true, async |stream: &mut TcpStream, buffer: &mut [u8]| {
            let (one, two) = buffer.split_at_mut(3);
            stream.read_vectored(&mut [IoSliceMut::new(one), IoSliceMut::new(two)]).await
        })
        .await
    });
}

fn tcp_peek() {
    each_step(2, one_place(), async |step| {
        reads(step, whole, false, async |stream: &mut TcpStream, buffer: &mut [u8]| stream.peek(buffer).await)
            .await
    });
}

fn tcp_read_exact() {
    each_step(4, one_place(), async |step| {
        reads_exact(step, whole, async |stream: &mut TcpStream, buffer: &mut [u8]| {
            stream.read_exact(buffer).await
        })
        .await
    });
}

fn half_read() {
    each_step(2, one_place(), async |step| {
        reads(step, halves, true, async |halves: &mut Halves, buffer: &mut [u8]| halves.0.read(buffer).await)
            .await
    });
}

fn half_read_vectored() {
    each_step(2, one_place(), async |step| {
        reads(step, halves, true, async |halves: &mut Halves, buffer: &mut [u8]| {
            let (one, two) = buffer.split_at_mut(3);
            halves.0.read_vectored(&mut [IoSliceMut::new(one), IoSliceMut::new(two)]).await
        })
        .await
    });
}

fn half_peek() {
    each_step(2, one_place(), async |step| {
        reads(step, halves, false, async |halves: &mut Halves, buffer: &mut [u8]| halves.0.peek(buffer).await)
            .await
    });
}

fn half_read_exact() {
    each_step(4, one_place(), async |step| {
        reads_exact(step, halves, async |halves: &mut Halves, buffer: &mut [u8]| {
            halves.0.read_exact(buffer).await
        })
        .await
    });
}

fn tcp_read_on_another_thread() {
    each_step(2, one_place(), async |step| {
        let (stream, mut peer) = pair().await;
        let ended = Gate::new();
        let thread = thread::spawn({
            let (step, ended) = (step.clone(), ended.clone());
            move || {
                let (mut buffer, mut is_written) = ([0; 8], false);
                let write = |_| {
                    if !std::mem::replace(&mut is_written, true) {
                        peer.write_all(b"abcd").unwrap();
                    }
                };
                let done = park_on(step.run(stream.read(&mut buffer), write)).is_some();
                if !is_written {
                    peer.write_all(b"abcd").unwrap();
                }
                ended.open();
                (done, buffer, stream, peer)
            }
        });
        ended.wait().await;
        let (done, mut buffer, stream, _peer) = thread.join().unwrap();
        if !done {
            // Left over there, it is read here.
            assert_eq!(stream.read(&mut buffer).await.unwrap(), 4);
        }
        assert_eq!(&buffer[..4], b"abcd", "{step:?}");
        done
    });
}

/// Writes "tail", or more of it, into a connection that is full, and reads at the other end while it waits. What has come
/// there in the end is what was there before, and of the tail what `wrote` says was written; anything of it, if it is `None`.
async fn writes<S>(
    step: &Step,
    split: impl FnOnce(TcpStream) -> S,
    tail: &[u8],
    mut write: impl AsyncFnMut(&mut S, &[u8]) -> io::Result<usize>,
    stream_of: impl Fn(&S) -> &TcpStream,
    may_be_torn: bool,
) -> bool {
    let (stream, mut peer) = pair().await;
    peer.set_nonblocking(true).unwrap();
    let mut stream = split(stream);
    let mut filled = 0;
    // Full is what stays so: the system takes more when it has sent some.
    for _ in 0..3 {
        let waker = std::task::Waker::noop();
        let mut cx = std::task::Context::from_waker(waker);
        while let std::task::Poll::Ready(wrote) = stream_of(&stream).poll_write(&mut cx, &[b'f'; 65_536]) {
            filled += wrote.unwrap();
            yield_now().await;
        }
        yield_now().await;
    }
    let mut got = Vec::new();
    let mut buffer = vec![0; 1 << 20];
    let drain = |_| {
        while let Ok(read @ 1..) = peer.read(&mut buffer) {
            got.extend_from_slice(&buffer[..read]);
        }
    };
    let output = step.run(write(&mut stream, tail), drain).await;
    let done = output.is_some();
    let wrote = output.map(|output| output.unwrap());
    drop(stream);
    peer.set_nonblocking(false).unwrap();
    peer.read_to_end(&mut got).unwrap();
    let (filling, of_tail) = got.split_at(filled);
    assert!(filling.iter().all(|&byte| byte == b'f'));
    assert!(tail.starts_with(of_tail), "{step:?}");
    match wrote {
        Some(wrote) => assert_eq!(of_tail.len(), wrote, "{step:?}"),
        None => assert!(may_be_torn || of_tail.is_empty(), "{step:?}: dropped, nothing was written"),
    }
    done
}

/// The second half of what is to be read was not there before: none of it is a byte of the filling.
const TAIL: &[u8] = b"tail";

fn long_tail() -> Vec<u8> {
    (0..8_u32 << 20).map(|n| b'0' + (n % 10) as u8).collect()
}

fn tcp_write() {
    each_step(2, one_place(), async |step| {
        let write = async |stream: &mut TcpStream, tail: &[u8]| stream.write(tail).await;
        writes(step, whole, TAIL, write, |stream| stream, false).await
    });
}

fn tcp_write_vectored() {
    each_step(2, one_place(), async |step| {
        let write = async |stream: &mut TcpStream, tail: &[u8]| {
            let (one, two) = tail.split_at(1);
            stream.write_vectored(&[IoSlice::new(one), IoSlice::new(two)]).await
        };
        writes(step, whole, TAIL, write, |stream| stream, false).await
    });
}

fn tcp_write_all() {
    let tail = long_tail();
    each_step(4, one_place(), async |step| {
        let write =
            async |stream: &mut TcpStream, tail: &[u8]| stream.write_all(tail).await.map(|()| tail.len());
        writes(step, whole, &tail, write, |stream| stream, true).await
    });
}

fn half_write() {
    each_step(2, one_place(), async |step| {
        let write = async |halves: &mut Halves, tail: &[u8]| halves.1.write(tail).await;
        writes(step, halves, TAIL, write, |halves| halves.1.as_ref(), false).await
    });
}

fn half_write_vectored() {
    each_step(2, one_place(), async |step| {
        let write = async |halves: &mut Halves, tail: &[u8]| {
            let (one, two) = tail.split_at(1);
            halves.1.write_vectored(&[IoSlice::new(one), IoSlice::new(two)]).await
        };
        writes(step, halves, TAIL, write, |halves| halves.1.as_ref(), false).await
    });
}

fn half_write_all() {
    let tail = long_tail();
    each_step(4, one_place(), async |step| {
        let write =
            async |halves: &mut Halves, tail: &[u8]| halves.1.write_all(tail).await.map(|()| tail.len());
        writes(step, halves, &tail, write, |halves| halves.1.as_ref(), true).await
    });
}

/// Connects to `name` with the port of a listener; dropped, the attempt ends, and the next works.
async fn connects(step: &Step, name: &str) -> bool {
    let listener = net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let connecting = TcpStream::connect((name, port));
    let output = match name.parse::<net::IpAddr>() {
        Ok(_) => step.run(connecting, |_| {}).await,
        Err(_) => in_line(step, connecting).await,
    };
    assert_eq!(metrics().io_sources, usize::from(output.is_some()), "{step:?}");
    let done = output.is_some();
    let stream = match output {
        Some(stream) => stream.unwrap(),
        None => TcpStream::connect((name, port)).await.unwrap(),
    };
    stream.write_all(b"hello").await.unwrap();
    drop(stream);
    loop {
        // An attempt that was dropped may have got as far as the backlog; it said nothing.
        let (mut peer, _) = listener.accept().unwrap();
        let mut heard = String::new();
        let heard = peer.read_to_string(&mut heard).map(|_| heard);
        match heard.as_deref() {
            Ok("hello") => return done,
            Ok("") | Err(_) => {}
            Ok(other) => panic!("{other:?}"),
        }
    }
}

fn tcp_connect() {
    // On loopback the answer may be there at once.
    each_step(0, one_place(), async |step| connects(step, "127.0.0.1").await);
}

/// A listener that answers nobody: one connection stands in its backlog, which has room for no more.
fn full_listener() -> (net::TcpListener, net::TcpStream) {
    let listener = net::TcpListener::bind("127.0.0.1:0").unwrap();
    // SAFETY: a system call on a file that is open.
    assert_eq!(unsafe { libc::listen(std::os::fd::AsRawFd::as_raw_fd(&listener), 0) }, 0);
    let first = net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (listener, first)
}

#[cfg(target_os = "linux")]
fn tcp_connect_that_waits() {
    each_step_once(2, one_place(), async |step| {
        let (listener, _first) = full_listener();
        let address = listener.local_addr().unwrap();
        // The system asks again a second later, and finds room.
        let output = step.run(TcpStream::connect(address), |_| drop(listener.accept().unwrap())).await;
        assert_eq!(metrics().io_sources, usize::from(output.is_some()), "{step:?}");
        let done = output.is_some();
        drop((output, listener));
        connects(&Step::never(), "127.0.0.1").await && done
    });
}

#[cfg(not(target_os = "linux"))]
fn tcp_connect_that_waits() {
    let _what_others_do_with_a_full_backlog_differs = full_listener;
}

fn tcp_connect_by_name() {
    each_step(2, one_thread(), async |step| connects(step, "localhost").await);
}

fn tcp_bind_by_name() {
    each_step(2, one_thread(), async |step| {
        let output = in_line(step, TcpListener::bind("localhost:0")).await;
        assert_eq!(metrics().io_sources, usize::from(output.is_some()), "{step:?}");
        output.is_some_and(|output| output.is_ok())
    });
}

fn tcp_accept() {
    each_step(2, one_place(), async |step| {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut client = None;
        let mut connect = || {
            client.get_or_insert_with(|| net::TcpStream::connect(address).unwrap());
        };
        let output = step.run(listener.accept(), |_| connect()).await;
        connect();
        let done = output.is_some();
        // Dropped, no connection was taken.
        let (stream, peer) = match output {
            Some(accepted) => accepted.unwrap(),
            None => listener.accept().await.unwrap(),
        };
        let mut client = client.unwrap();
        assert_eq!(peer, client.local_addr().unwrap(), "{step:?}");
        stream.write_all(b"x").await.unwrap();
        client.read_exact(&mut [0]).unwrap();
        done
    });
}

fn lookups() {
    each_step(2, one_thread(), async |step| {
        let output = in_line(step, lookup_host("localhost:80")).await;
        output.is_some_and(|output| output.unwrap().iter().all(|address| address.port() == 80))
    });
}

/// A job that ends when it is told to, on the only thread there is.
fn job() -> (impl FnOnce() -> usize + Send, mpsc::Sender<()>, Arc<AtomicBool>) {
    let (tell, told) = mpsc::channel::<()>();
    let began = Arc::new(AtomicBool::new(false));
    let begins = began.clone();
    let job = move || {
        begins.store(true, Ordering::SeqCst);
        // A sender that was dropped tells as well.
        let _ = told.recv();
        7
    };
    (job, tell, began)
}

fn one_thread() -> Builder {
    one_place().blocking_threads(1).blocking_queue(0)
}

fn blocking_jobs_wait() {
    each_step(2, one_thread(), async |step| {
        let (first, mut tell_first, _) = {
            let (job, tell, began) = job();
            (try_spawn_blocking(job).unwrap(), Some(tell), began)
        };
        let (job, tell, began) = job();
        let mut tell = Some(tell);
        // The first poll finds the pool full, the second one has room.
        let next = |polls| match polls {
            1 => drop(tell_first.take()),
            _ => drop(tell.take()),
        };
        let output = step.run(spawn_blocking(job), next).await;
        let was_full = tell_first.is_some();
        let done = output.is_some();
        drop((tell_first, tell));
        assert_eq!(first.await.unwrap(), 7);
        // The room is there for the next one.
        assert_eq!(spawn_blocking(|| 8).await.unwrap(), 8);
        assert!(!was_full || !began.load(Ordering::SeqCst), "{step:?}: dropped in line, it never runs");
        assert!(output.is_none_or(|output| output.unwrap() == 7));
        done
    });
}

fn blocking_jobs_run() {
    each_step(2, one_thread(), async |step| {
        let (job, tell, began) = job();
        let (mut tell, dropped) = (Some(tell), step.dropped());
        let output = step.run(spawn_blocking(job), |_| drop(tell.take())).await;
        let was_polled = step.dropped() > dropped;
        drop(tell);
        // One that was taken on runs to its end, though nobody waits for it.
        assert_eq!(spawn_blocking(|| 8).await.unwrap(), 8);
        assert_eq!(began.load(Ordering::SeqCst), was_polled || output.is_some(), "{step:?}");
        output.is_some()
    });
}

fn blocking_by_reference() {
    each_step(2, one_thread(), async |step| {
        let (job, tell, _) = job();
        let (mut tell, mut blocking) = (Some(tell), try_spawn_blocking(job).unwrap());
        let output = step.run(&mut blocking, |_| drop(tell.take())).await;
        drop(tell);
        let done = output.is_some();
        let output = match output {
            Some(output) => output,
            // Nothing is lost.
            None => blocking.await,
        };
        assert_eq!(output.unwrap(), 7);
        done
    });
}

/// Two permits, which are held when it comes and given back after its first poll.
async fn permits<F: Future>(step: &Step, acquire: impl FnOnce(&Arc<Semaphore>) -> F) -> bool {
    let semaphore = Arc::new(Semaphore::new(2));
    let mut held = Some(semaphore.try_acquire_many(2).unwrap());
    let output = step.run(acquire(&semaphore), |_| drop(held.take())).await;
    let done = output.is_some();
    drop((output, held));
    assert_eq!((semaphore.waiting(), semaphore.in_use()), (0, 0), "{step:?}");
    assert_eq!(semaphore.acquire_many(2).await.unwrap().weight(), 2);
    done
}

fn semaphore_acquire() {
    each_step(2, one_place(), async |step| {
        // The lifetime of what it gives ends before the semaphore's.
        permits(step, |semaphore| {
            let semaphore = semaphore.clone();
            async move { drop(semaphore.acquire().await.unwrap()) }
        })
        .await
    });
}

fn semaphore_acquire_many() {
    each_step(2, one_place(), async |step| {
        permits(step, |semaphore| {
            let semaphore = semaphore.clone();
            async move { drop(semaphore.acquire_many(2).await.unwrap()) }
        })
        .await
    });
}

fn semaphore_acquire_owned() {
    each_step(2, one_place(), async |step| permits(step, Semaphore::acquire_owned).await);
}

fn semaphore_acquire_many_owned() {
    each_step(2, one_place(), async |step| permits(step, |semaphore| semaphore.acquire_many_owned(2)).await);
}

fn semaphore_acquire_in_time() {
    each_step(2, paused(), async |step| {
        permits(step, |semaphore| semaphore.acquire_many_owned(2).timeout(time::Timer, HOUR)).await
            && permits(step, |semaphore| {
                let semaphore = semaphore.clone();
                async move { drop(semaphore.acquire_timeout(time::Timer, HOUR).await.unwrap()) }
            })
            .await
    });
}

fn semaphore_acquire_until_a_deadline() {
    each_step(2, paused(), async |step| {
        let at = time::now() + HOUR;
        permits(step, |semaphore| semaphore.acquire_many_owned(2).deadline(time::Timer, at)).await
            && permits(step, |semaphore| {
                let semaphore = semaphore.clone();
                async move { drop(semaphore.acquire_deadline(time::Timer, at).await.unwrap()) }
            })
            .await
    });
}

fn semaphore_acquire_times_out() {
    each_step(2, paused(), async |step| {
        let semaphore = Arc::new(Semaphore::new(2));
        let _held = semaphore.try_acquire_owned().unwrap();
        let both = async {
            let late = semaphore.acquire_many_owned(2).deadline(time::Timer, time::now() + HOUR).await;
            let _the_other = semaphore.try_acquire().unwrap();
            late.is_err() && semaphore.acquire_timeout(time::Timer, HOUR).await.is_err()
        };
        let done = step.run(both, |_| {}).await;
        assert_eq!((semaphore.waiting(), semaphore.in_use()), (0, 1), "{step:?}");
        assert_eq!(metrics().timers, 0, "{step:?}");
        assert_eq!(semaphore.try_acquire().unwrap().weight(), 1);
        done == Some(true)
    });
}

fn permit_grows() {
    each_step(2, Runtime::builder(), async |step| {
        let semaphore = Semaphore::new(3);
        let mut held = Some(semaphore.try_acquire_many(2).unwrap());
        let mut permit = semaphore.try_acquire().unwrap();
        let done = step.run(permit.grow(2), |_| drop(held.take())).await.is_some();
        assert_eq!(permit.weight(), if done { 3 } else { 1 }, "{step:?}");
        drop(held);
        assert_eq!((semaphore.waiting(), semaphore.in_use()), (0, permit.weight()), "{step:?}");
        drop(permit);
        assert_eq!(semaphore.acquire_many(3).await.unwrap().weight(), 3);
        done
    });
}

fn permit_is_suspended() {
    // First it waits for its future, and then for its units, which somebody else has meanwhile.
    each_step(4, Runtime::builder(), async |step| {
        let semaphore = Semaphore::new(2);
        let mut permit = semaphore.try_acquire_many(2).unwrap();
        let (gate, mut held) = (Gate::new(), None);
        let dropped = step.dropped();
        let next = |polls| match polls {
            1 => {
                held = Some(semaphore.try_acquire_many(2).unwrap());
                gate.open();
            }
            _ => drop(held.take()),
        };
        let done = step.run(permit.suspend(gate.wait()), next).await.is_some();
        let was_polled = done || step.dropped() > dropped;
        assert_eq!(permit.weight(), if done || !was_polled { 2 } else { 0 }, "{step:?}");
        drop(held);
        assert_eq!((semaphore.waiting(), semaphore.in_use()), (0, permit.weight()), "{step:?}");
        drop(permit);
        assert_eq!(semaphore.acquire_many(2).await.unwrap().weight(), 2);
        done
    });
}

/// Whoever waits for a token leaves it as it was: the next one waits for it, and is woken.
async fn token<F: Future>(step: &Step, make: impl FnOnce(CancellationToken) -> F) -> Option<F::Output> {
    let parent = CancellationToken::new();
    let token = parent.child_token();
    let output = step.run(make(token.clone()), |_| parent.cancel()).await;
    assert_eq!(step.wakers_left(), 0, "{step:?}");
    parent.cancel();
    token.cancelled().await;
    output
}

fn cancelled_waits() {
    each_step(2, one_place(), async |step| {
        token(step, |token| async move { token.cancelled().await }).await.is_some()
    });
}

fn cancelled_owned_waits() {
    each_step(2, one_place(), async |step| token(step, CancellationToken::cancelled_owned).await.is_some());
}

fn run_until_is_cancelled() {
    each_step(2, one_place(), async |step| {
        let run = token(step, |token| async move { token.run_until(std::future::pending::<()>()).await });
        run.await.is_some_and(|output| output.is_none())
    });
}

fn run_until_owned_is_cancelled() {
    each_step(2, one_place(), async |step| {
        let run = token(step, |token| token.run_until_owned(std::future::pending::<()>()));
        run.await.is_some_and(|output| output.is_none())
    });
}

fn run_until_its_future_is_ready() {
    each_step(2, one_place(), async |step| {
        let (token, other) = (CancellationToken::new(), CancellationToken::new());
        let output = step.run(token.run_until(other.cancelled()), |_| other.cancel()).await;
        assert_eq!(step.wakers_left(), 0, "{step:?}: it is in no line, ready or dropped");
        assert!(!token.is_cancelled());
        output == Some(Some(()))
    });
}

/// A public function, as the source has it.
#[derive(Debug)]
struct Function {
    /// With the type before it, if it is one's: `TcpStream::read`.
    name: String,
    is_async: bool,
    /// What it returns, as far as the first word of its path goes.
    returns: String,
    doc: String,
}

/// All public functions of `file`, outside of its tests.
fn functions(file: &SourceFile) -> Vec<Function> {
    let mut found = Vec::new();
    let mut of = String::new();
    for (at, line) in file.code.iter().enumerate().filter(|(at, _)| !file.is_test[*at]) {
        let indent = line.len() - line.trim_start().len();
        if line.starts_with("impl") {
            of = implemented(line);
        } else if line.trim_start().starts_with("impl<$(") && !line.contains(" for ") {
            // What the fronts of spawning have in common.
            of = "Spawn".into();
        } else if line.trim_start().starts_with("impl<")
            && line.contains(" $name<")
            && !line.contains(" for ")
        {
            // And those of groups.
            of = "GroupSpawn".into();
        } else if indent == 0 && line.starts_with('}') {
            of.clear();
        }
        let text = line.trim_start();
        let (is_async, rest) = match text.strip_prefix("pub async fn ") {
            Some(rest) => (true, rest),
            None => match text.strip_prefix("pub fn ") {
                Some(rest) => (false, rest),
                None => continue,
            },
        };
        let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        let signature: String = file.code[at..]
            .iter()
            .take_while(|line| !line.trim_end().ends_with("where"))
            .fold(String::new(), |all, line| if all.contains('{') { all } else { all + line.trim() + " " });
        let returns = signature.split_once("-> ").map_or("", |(_, returns)| returns.trim());
        let returns = match returns.starts_with("impl Future") {
            true => "impl Future".to_owned(),
            false => returns.split(['<', ' ', '{']).next().unwrap_or_default().to_owned(),
        };
        let doc: Vec<&str> = file.lines[..at]
            .iter()
            .rev()
            .map(|line| line.trim_start())
            .skip_while(|line| !line.starts_with("///"))
            .take_while(|line| line.starts_with("///"))
            .collect();
        let name = if of.is_empty() { name } else { format!("{of}::{name}") };
        found.push(Function { name, is_async, returns, doc: doc.join("\n") });
    }
    found
}

/// The type that an `impl` is for.
fn implemented(line: &str) -> String {
    let line = line.trim_start().trim_start_matches("impl");
    // Past the parameters, whatever is nested in them.
    let mut depth = 0;
    let after = line.find(|c: char| {
        match c {
            '<' => depth += 1,
            '>' => depth -= 1,
            _ => {}
        }
        depth == 0 && c == ' '
    });
    let rest = line[after.unwrap_or(0)..].trim_start();
    let of = rest.split_once(" for ").map_or(rest, |(_, of)| of);
    of.chars().take_while(|c| c.is_alphanumeric() || *c == '_' || *c == '$').collect()
}

/// The public types of `files` that implement `Future`.
fn futures(files: &[SourceFile]) -> Vec<String> {
    let code: Vec<String> = files.iter().map(SourceFile::code_without_tests).collect();
    let is_public = |name: &String| {
        let declared = |kind| code.iter().any(|code| code.contains(&format!("pub {kind} {name}")));
        declared("struct") || declared("enum")
    };
    let mut found = Vec::new();
    for line in code.iter().flat_map(|code| code.lines()) {
        if let Some((_, of)) = line.split_once(" Future for ") {
            let name = implemented(&format!("impl {of}"));
            match name.as_str() {
                "$name" => {}
                _ => found.push(name),
            }
        }
        // The fronts of spawning.
        if let Some(front) = line.strip_prefix("front!(") {
            found.push(front.split('<').next().unwrap_or_default().to_owned());
        }
    }
    found.retain(is_public);
    found
}

fn read_crates() -> Vec<SourceFile> {
    // The sources are files too, and a row would count them.
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let read = ["runtime", "limiter"].into_iter().flat_map(sources);
    read.filter(|file| !file.path.starts_with("models")).collect()
}

#[test]
fn every_public_future_has_a_row() {
    let files = read_crates();
    let types = futures(&files);
    for expected in ["JoinHandle", "SpawnWith", "Sleep", "Acquire", "Drain"] {
        assert!(types.iter().any(|name| name == expected), "{types:?}: is this still how they are written?");
    }
    let makes_one = |function: &Function| {
        function.is_async || function.returns == "impl Future" || types.contains(&function.returns)
    };
    let made: Vec<String> =
        files.iter().flat_map(functions).filter(makes_one).map(|made| made.name).collect();
    assert!(made.len() > 35, "{made:?}: is this still how they are written?");
    let missing: Vec<_> = types.iter().chain(&made).filter(|name| !ROWS.contains(&name.as_str())).collect();
    assert!(missing.is_empty(), "no row drops {missing:?}");
}

#[test]
fn every_async_function_says_what_is_lost_when_it_is_dropped() {
    let functions: Vec<_> = read_crates().iter().flat_map(functions).collect();
    let asyncs: Vec<_> = functions.iter().filter(|function| function.is_async).collect();
    assert!(asyncs.len() > 15, "{asyncs:?}: is this still how they are written?");
    let is_silent = |function: &&&Function| !function.doc.contains("# Cancel safety");
    let silent: Vec<_> = asyncs.iter().filter(is_silent).map(|function| &function.name).collect();
    assert!(silent.is_empty(), "{silent:?}");
}

#[test]
fn the_reader_of_functions_reads_them() {
    assert_eq!(implemented("impl<T: Send + 'static> Ask<T> {"), "Ask");
    assert_eq!(implemented("impl<S: Deref<Target = Semaphore> + Clone> Future for Acquire<S> {"), "Acquire");
    assert_eq!(implemented("impl TcpStream {"), "TcpStream");
}
