//! Polls that take too long are counted where their tasks were spawned, if it is asked for.

use std::pin::pin;
use std::thread;
use std::time::{Duration, Instant};

use anteroom::time::advance;
use anteroom::{LongPolls, Runtime, block_on, long_polls, spawn, spawn_service, spawn_with, yield_now};
use anteroom_tests::{Gate, look_around, must_end, poll_once};

const MS: Duration = Duration::from_millis(1);

/// Computes for so long.
fn compute(time: Duration) {
    let start = Instant::now();
    while start.elapsed() < time {}
}

fn of_line(polls: &[LongPolls], line: u32) -> Option<&LongPolls> {
    polls.iter().find(|polls| polls.site.is_some_and(|site| site.line() == line && site.file() == file!()))
}

#[test]
fn nothing_is_counted_unless_it_is_asked_for() {
    block_on(async {
        spawn(async { compute(20 * MS) }).join().await.unwrap();
        assert!(long_polls().is_empty());
    });
    // A home is used again, and what was counted in it is not.
    for on in [true, false, true] {
        let builder = Runtime::builder();
        let builder = if on { builder.long_polls(5 * MS) } else { builder };
        builder.build().unwrap().block_on(async {
            yield_now().await;
            let line = line!() + 2;
            assert!(of_line(&long_polls(), line).is_none());
            spawn(async { compute(10 * MS) }).join().await.unwrap();
            assert_eq!(long_polls().is_empty(), !on);
            assert_eq!(of_line(&long_polls(), line).map(|polls| polls.polls), on.then_some(1));
        });
    }
}

#[test]
fn polls_are_counted_by_where_their_tasks_were_spawned() {
    let runtime = Runtime::builder().long_polls(40 * MS).build().unwrap();
    let handle = runtime.handle();
    let line_of_block_on = line!() + 1;
    runtime.block_on(async {
        let often = async {
            for _ in 0..3 {
                compute(50 * MS);
                yield_now().await;
            }
        };
        let (task, line_often) = (spawn(often), line!());
        task.join().await.unwrap();
        let (task, line_once) = (spawn_with(|| async { compute(90 * MS) }), line!());
        task.join().await.unwrap();
        let (service, line_service) = (spawn_service(async { compute(60 * MS) }).unwrap(), line!());
        service.await.unwrap();
        let (foreign, line_foreign) = (handle.spawn(async { compute(45 * MS) }), line!());
        foreign.await.unwrap().await.unwrap();
        compute(130 * MS);
        yield_now().await;
        let counted = long_polls();
        for (line, polls, longest) in [
            (line_often, 3, 50),
            (line_once, 1, 90),
            (line_service, 1, 60),
            (line_foreign, 1, 45),
            (line_of_block_on, 1, 130),
        ] {
            let found = of_line(&counted, line).unwrap_or_else(|| panic!("{line}: {counted:?}"));
            // A busy machine makes any poll longer, and never shorter.
            assert!(found.polls >= polls && found.longest >= longest * MS, "{line}: {found:?}");
        }
        assert!(counted.is_sorted_by_key(|counted| std::cmp::Reverse(counted.longest)));
    });
}

#[test]
fn on_a_paused_clock_only_what_it_was_moved_by_is_long() {
    let runtime = Runtime::builder().paused_clock(true).long_polls(Duration::from_secs(1)).build().unwrap();
    runtime.block_on(async {
        compute(10 * MS);
        yield_now().await;
        assert!(long_polls().is_empty());
        let job = async {
            // The clock moves within this poll.
            let _ = poll_once(pin!(advance(Duration::from_secs(2))));
            yield_now().await;
            let _ = poll_once(pin!(advance(Duration::from_millis(999))));
        };
        let (task, line) = (spawn(job), line!());
        task.join().await.unwrap();
        look_around().await;
        let counted = long_polls();
        assert_eq!(counted.len(), 1, "{counted:?}");
        let found = of_line(&counted, line).unwrap();
        assert_eq!((found.polls, found.longest), (1, Duration::from_secs(2)));
    });
}

#[test]
fn the_last_poll_of_block_on_counts_too() {
    let runtime = Runtime::builder().long_polls(5 * MS).build().unwrap();
    runtime.block_on(async { compute(10 * MS) });
    runtime.block_on(async { assert_eq!(long_polls().len(), 1) });
}

#[test]
fn another_thread_asks_for_them() {
    must_end(|| {
        let runtime = Runtime::builder().long_polls(5 * MS).build().unwrap();
        let handle = runtime.handle();
        runtime.block_on(async {
            let (task, line) = (spawn(async { compute(10 * MS) }), line!());
            task.join().await.unwrap();
            let gate = Gate::new();
            let opener = gate.clone();
            let asking = thread::spawn(move || {
                let counted = handle.long_polls().wait(Duration::from_secs(50));
                opener.open();
                counted
            });
            gate.wait().await;
            let counted = asking.join().unwrap().unwrap();
            assert!(of_line(&counted, line).is_some_and(|polls| polls.polls == 1), "{counted:?}");
        });
    });
}
