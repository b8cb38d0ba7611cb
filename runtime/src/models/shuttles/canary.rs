//! That the harnesses check: with a bug seeded each must fail.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use shuttle::sync::atomic::{AtomicBool, Ordering};
use shuttle::thread;

use super::{BATCH, Batch, Chooser, Progress, polls, shutdown, storm, stuck, tasks};
use crate::sync::{SEEDED, current_thread, park};

/// Each with a harness that catches it.
const BUGS: [(&str, fn()); 13] = [
    ("desk_recycles_at_once", storm::storms),
    ("idle_counts_twice", tasks::ring_of_tasks),
    ("idle_forgets_to_leave", tasks::ring_of_tasks),
    ("idle_no_lookout", polls::long_polls),
    ("idle_stays_listed", shutdown::end_under_load),
    ("ring_pop_plain", tasks::ring_of_tasks),
    ("shared_join_no_second_look", tasks::ring_of_tasks),
    ("shuttle_guest_does_not_look", stuck::trees),
    ("shuttle_guest_leaves_quietly", stuck::trees),
    ("shuttle_leaves_the_seat_quietly", polls::long_polls),
    ("shuttle_no_second_look", storm::storms),
    ("shuttle_aside_keeps_its_ring", storm::storms),
    ("shuttle_overflow_forgets_one", stuck::trees),
];

/// The rarest of them was met once in some thousand schedules.
const BATCHES_MAX: u64 = 160;

#[test]
#[should_panic]
fn shuttle_canary_a_wake_between_the_look_and_the_sleep_is_lost() {
    fn forgetful() {
        let (is_ready, is_asleep) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let sleeper = current_thread();
        let other = thread::spawn({
            let (is_ready, is_asleep) = (is_ready.clone(), is_asleep.clone());
            move || {
                is_ready.store(true, Ordering::SeqCst);
                if is_asleep.load(Ordering::SeqCst) {
                    sleeper.unpark();
                }
            }
        });
        if !is_ready.load(Ordering::SeqCst) {
            is_asleep.store(true, Ordering::SeqCst);
            park();
        }
        other.join().unwrap();
    }
    Batch { chooser: Chooser::Random, seed: 1, schedules: BATCH }.run(
        "the canary",
        &Progress::default(),
        forgetful,
    );
}

/// After how many schedules `program` fails on this thread, if it does: half of them random, half by PCT.
fn caught_after(program: fn()) -> Option<u64> {
    let progress = Progress::default();
    let run = || {
        for number in 0..BATCHES_MAX {
            let chooser = if number % 2 == 0 { Chooser::Random } else { Chooser::Pct };
            Batch { chooser, seed: number, schedules: BATCH }.run("a seeded bug", &progress, program);
        }
    };
    catch_unwind(AssertUnwindSafe(run)).is_err().then(|| progress.schedules.get())
}

#[test]
fn shuttle_seeded_bugs_are_caught() {
    for (bug, program) in BUGS {
        // On a thread of its own, where a failure leaves shuttle's state as it was.
        let catch = move || {
            SEEDED.set(Some(bug));
            caught_after(program)
        };
        let thread = std::thread::Builder::new().spawn(catch).unwrap();
        let after = thread.join().unwrap().unwrap_or_else(|| panic!("{bug} is not caught"));
        println!("shuttle: {bug} is caught after {after} schedules");
    }
}
