//! That the harnesses check: with a bug seeded each must fail.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use shuttle::sync::atomic::{AtomicBool, Ordering};
use shuttle::thread;

use super::{Batch, Chooser, Progress, explore, polls, shutdown, storm, stuck, tasks};
use crate::sync::{SEEDED, current_thread, park};

/// Each with a harness that catches it.
const BUGS: [(&str, fn()); 11] = [
    ("desk_recycles_at_once", storm::storms),
    ("idle_counts_twice", tasks::ring_of_tasks),
    ("idle_forgets_to_leave", tasks::ring_of_tasks),
    ("idle_no_lookout", polls::long_polls),
    ("idle_stays_listed", shutdown::end_under_load),
    ("ring_pop_plain", tasks::ring_of_tasks),
    ("shared_join_no_second_look", tasks::ring_of_tasks),
    ("shuttle_guest_does_not_look", stuck::trees),
    ("shuttle_leaves_the_seat_quietly", polls::long_polls),
    ("shuttle_no_second_look", storm::storms),
    ("shuttle_overflow_forgets_one", stuck::trees),
];

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
    explore("shuttle_canary", forgetful);
}

#[test]
fn shuttle_seeded_bugs_are_caught() {
    for (bug, program) in BUGS {
        let is_caught = |bug| {
            // On a thread of its own, since a failure leaves shuttle's state there as it was.
            let run = move || {
                SEEDED.set(bug);
                let progress = Progress::default();
                for (chooser, seed) in
                    [(Chooser::Random, 1), (Chooser::Pct, 2), (Chooser::Random, 3), (Chooser::Pct, 4)]
                {
                    Batch { chooser, seed, schedules: 500 }.run("a seeded bug", &progress, program);
                }
            };
            std::thread::Builder::new()
                .spawn(move || catch_unwind(AssertUnwindSafe(run)).is_err())
                .unwrap()
                .join()
                .unwrap()
        };
        assert!(is_caught(Some(bug)), "{bug} is not caught");
    }
}
