//! Services, and time: what never ends, and what ends too late.
//!
//! # Idea
//! A listener, a reporter, a loop that spawns: such a task never ends, so a place that it took would never come free. It is
//! a *service*, from a small budget of its own (`Builder::service_tasks`), and a runtime full of tasks has room for it. A
//! service never waits: when the budget is used up, `spawn_service` says so and gives the future back.
//!
//! Time is a few futures: `sleep` ends at a time, `interval` ticks, `timeout` drops its future where it is when the time is
//! over. They go by the runtime's clock. With `Builder::paused_clock`, for tests, that clock stands still while anything can
//! run, and jumps to the next timer when nothing can. So this program tells of an hour, and is over at once.
//!
//! # Read next
//! `05_echo.rs`: all of it with sockets.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anteroom::time::{Elapsed, advance, interval, now, sleep, timeout};
use anteroom::{Runtime, metrics, spawn, spawn_service, try_spawn};

const MINUTE: Duration = Duration::from_secs(60);

/// Says every ten minutes how many jobs are done. It never returns.
async fn report(done: Arc<AtomicU32>, reports: Arc<AtomicU32>) {
    let start = now();
    // The first tick comes at once.
    let mut every_ten_minutes = interval(10 * MINUTE);
    loop {
        let tick = every_ten_minutes.tick().await;
        println!(
            "after {:>2} minutes {} jobs are done",
            (tick - start).as_secs() / 60,
            done.load(Ordering::Relaxed)
        );
        reports.fetch_add(1, Ordering::Relaxed);
    }
}

/// Spawns a job a minute, for an hour: a service too, so that it takes no job's place.
async fn hand_out(done: Arc<AtomicU32>) {
    let mut every_minute = interval(MINUTE);
    for _ in 0..60 {
        every_minute.tick().await;
        let done = done.clone();
        let job = async move {
            sleep(Duration::from_millis(500)).await;
            done.fetch_add(1, Ordering::Relaxed);
        };
        drop(spawn(job).await.expect("the runtime is not closed"));
    }
}

async fn hour() {
    let (done, reports) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let reporter = spawn_service(report(done.clone(), reports.clone())).expect("there is a budget of two");
    let spawner = spawn_service(hand_out(done.clone())).expect("and this is the second");

    let third = spawn_service(async {}).unwrap_err();
    println!("a third service: {third}");
    assert!(third.is_full());
    let job = try_spawn(async { "a job" }).expect("the services take no place of the tasks");
    assert_eq!((metrics().services_live, metrics().tasks_live), (2, 1));
    assert_eq!(job.await.unwrap(), "a job");

    spawner.await.expect("an hour later it has handed out all");
    // A little more than a minute: of two timers for the same moment, any may be the first.
    sleep(MINUTE + Duration::from_secs(1)).await;
    assert_eq!(done.load(Ordering::Relaxed), 60);
    assert_eq!(reports.load(Ordering::Relaxed), 7, "at 0, 10, .. 60 minutes");

    // A service ends when it is told to, or with the runtime.
    reporter.abort();
    assert!(reporter.await.unwrap_err().is_cancelled());
    assert_eq!(metrics().services_live, 0);
}

async fn deadlines() {
    let start = now();
    // In time: the output. Too late: the future is dropped in the midst of what it did.
    assert_eq!(timeout(MINUTE, async { "in time" }).await, Ok("in time"));
    let late: Result<(), Elapsed> = timeout(MINUTE, sleep(60 * MINUTE)).await;
    println!("a sleep of an hour, given a minute: {}", late.unwrap_err());
    assert_eq!(now() - start, MINUTE);

    // A test may also move the clock itself.
    let task = spawn(sleep(MINUTE)).await.expect("there is room");
    anteroom::yield_now().await; // it begins to sleep
    advance(MINUTE / 2).await;
    assert!(!task.is_finished());
    advance(MINUTE / 2).await;
    assert!(task.is_finished());
}

fn main() -> std::io::Result<()> {
    let real_start = Instant::now();
    let runtime = Runtime::builder().max_tasks(1).service_tasks(2).paused_clock(true).build()?;
    let hours = runtime.block_on(async {
        let start = now();
        hour().await;
        deadlines().await;
        (now() - start).as_secs_f64() / 3_600.0
    });
    println!("{hours:.2} hours by the runtime's clock");
    assert!(hours > 1.0 && real_start.elapsed() < MINUTE);
    Ok(())
}

#[test]
fn services_take_no_place_and_a_paused_clock_takes_no_time() {
    main().unwrap();
}
