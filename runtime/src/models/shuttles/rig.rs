//! A runtime of the real parts, on shuttle's threads.

use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::task::Waker;
use std::time::Duration;

use shuttle::sync::atomic::{AtomicBool, Ordering};
use shuttle::sync::{Condvar, Mutex};
use shuttle::thread::{self, JoinHandle};

use super::{chance, pick};
use crate::admission::{self, Admission, Counts, Door, Limits};
use crate::handle::Handle;
use crate::runtime::stealing::{self as stealing_runtime, Present};
use crate::scheduler::inbox::Doorbell;
use crate::scheduler::stealing::{self, Stealing};
use crate::scheduler::{TeamPark, Turn};
use crate::sync::time;
use crate::task;
use crate::task::team::{Ownership, Seat, Team};

/// What stands in the driver's place: a seat in which one thread sleeps until it is rung, or no seat at all.
pub(super) struct Driver {
    has_seat: bool,
    is_taken: AtomicBool,
    bell: Arc<Bell>,
    /// After how many polls it wants to be called again.
    polls: u32,
    /// What has happened, and was not looked at yet: whom to wake for it.
    events: Events,
    /// The time, which passes with each look at it: so that workers stand aside now and then, for no good reason.
    now_ns: AtomicU64,
}

/// Wakers of those who wait for events that have happened.
#[derive(Clone, Default)]
struct Events(Arc<std::sync::Mutex<Vec<Waker>>>);

/// A doorbell, and the sleep that it ends.
struct Bell {
    is_rung: Mutex<bool>,
    condvar: Condvar,
}

impl Doorbell for Bell {
    fn ring(&self) {
        *self.is_rung.lock().unwrap() = true;
        self.condvar.notify_one();
    }
}

impl Driver {
    fn new() -> Self {
        let bell = Arc::new(Bell { is_rung: Mutex::new(false), condvar: Condvar::new() });
        let polls = if chance(50) { 2 } else { 16 };
        Driver {
            has_seat: chance(50),
            is_taken: AtomicBool::new(false),
            bell,
            polls,
            events: Events::default(),
            now_ns: AtomicU64::new(0),
        }
    }

    /// Wakes who waits for what has happened; this thread has the seat.
    fn dispatch(&self) {
        let events = std::mem::take(&mut *self.events.0.lock().unwrap());
        events.into_iter().for_each(Waker::wake);
    }
}

/// Where events come from.
#[derive(Clone)]
pub(super) struct Device {
    events: Events,
    bell: Arc<Bell>,
}

impl Device {
    /// Something happens that `waker` waits for: whoever waits in the driver comes back, or who takes the next turn sees it.
    pub(super) fn happens(&self, waker: Waker) {
        self.events.0.lock().unwrap().push(waker);
        self.bell.ring();
    }
}

impl TeamPark for Driver {
    /// As the real one: it takes what has come, a ring too, if nobody sits there.
    fn turn(&self, _: Turn) -> Turn {
        if self.try_sit() {
            *self.bell.is_rung.lock().unwrap() = false;
            self.dispatch();
            self.leave();
        }
        Turn { polls_max: self.polls, now_ns: self.now_ns() }
    }

    fn now_ns(&self) -> u64 {
        self.now_ns.fetch_add(50_000, Ordering::Relaxed)
    }

    fn try_sit(&self) -> bool {
        self.has_seat && !self.is_taken.swap(true, Ordering::AcqRel)
    }

    fn sit(&self, at_most: Option<Duration>) {
        let mut is_rung = self.bell.is_rung.lock().unwrap();
        if at_most.is_some() && time::passes() {
            while !*is_rung && !time::is_over() {
                drop(is_rung);
                thread::yield_now();
                is_rung = self.bell.is_rung.lock().unwrap();
            }
        } else {
            while !*is_rung {
                is_rung = self.bell.condvar.wait(is_rung).unwrap();
            }
        }
        *is_rung = false;
        drop(is_rung);
        self.dispatch();
    }

    fn leave(&self) {
        self.is_taken.store(false, Ordering::Release);
    }

    fn collect(&self) {}
}

/// A team with its workers at work.
pub(super) struct Rig {
    ownership: Ownership,
    driver: &'static Driver,
    door: Door,
    threads: Vec<JoinHandle<()>>,
}

impl Rig {
    /// With a driver that has a seat, or none.
    pub(super) fn new(workers: usize, tasks_max: usize) -> Self {
        time::set_passes(50);
        Self::with(workers, tasks_max, Driver::new())
    }

    /// With a seat in the driver, and lookouts whose time passes: so polls may be as long as they like.
    pub(super) fn with_time(workers: usize, tasks_max: usize) -> Self {
        time::set_passes(100);
        Self::with(workers, tasks_max, Driver { has_seat: true, ..Driver::new() })
    }

    fn with(workers: usize, tasks_max: usize, driver: Driver) -> Self {
        let ownership = Ownership::new(workers);
        let team = ownership.team();
        let driver: &'static Driver = Box::leak(Box::new(driver));
        let door = {
            let _seat = Seat::of_guest(team);
            let _inside = task::enter();
            let (home, local) = task::current().unwrap();
            let admission = Admission::of(home, local);
            admission.open(Limits {
                tasks_max,
                task_bytes_max: usize::MAX,
                services_max: 8,
                waiting_max: usize::MAX,
                foreign_max: 8,
                in_place_stack: 1 << 20,
            });
            home.shared.inbox.set_doorbell(Some(driver.bell.clone()));
            admission.door()
        };
        team.set_stopping(false);
        let work = |number| {
            thread::spawn(move || {
                let present = Present::new(Seat::of_worker(team, number));
                if let Some(mut stealing) = Stealing::new(team, &present.seat, number, driver) {
                    stealing.work();
                }
            })
        };
        let threads = (0..workers).map(work).collect();
        Rig { ownership, driver, door, threads }
    }

    pub(super) fn team(&self) -> &'static Team {
        self.ownership.team()
    }

    pub(super) fn device(&self) -> Device {
        Device { events: self.driver.events.clone(), bell: self.driver.bell.clone() }
    }

    pub(super) fn handle(&self) -> Handle {
        Handle::new(self.door)
    }

    /// As that of a runtime.
    #[track_caller]
    pub(super) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        block_on(self.team(), future)
    }

    /// As the drop of a runtime: stops the workers, and ends what is left on this thread. What admission counts then.
    pub(super) fn end(self) -> Counts {
        let team = self.team();
        team.set_stopping(true);
        for thread in self.threads {
            thread.join().expect("a worker catches what tasks panic with");
        }
        let present = Present::new(Seat::of_guest(team));
        stealing::shut_down(team, &present.seat, self.driver);
        let counts = counts();
        assert_eq!(
            (counts.tasks_live, counts.services_live, counts.task_bytes),
            (0, 0, 0),
            "all places are back"
        );
        assert_eq!((counts.waiting, counts.in_place), (0, 0));
        counts
    }

    /// Closes admission, waits until the last task has ended, and ends it: nothing was left to the end, if all services were joined.
    /// How many tasks lived at most.
    pub(super) fn drain(self) -> usize {
        let in_time = self.handle().drain_wait(Duration::from_secs(3_600));
        in_time.expect("all tasks end by themselves");
        {
            let _present = Present::new(Seat::of_guest(self.team()));
            let counts = counts();
            // Whoever has joined a task or a service finds its place and its bytes given back.
            assert_eq!(
                (counts.tasks_live, counts.services_live, counts.task_bytes),
                (0, 0, 0),
                "all places are back"
            );
            assert_eq!((counts.waiting, counts.in_place), (0, 0));
        }
        self.end().tasks_live_peak
    }
}

/// As `StealingRuntime::block_on`.
#[track_caller]
pub(super) fn block_on<T>(team: &'static Team, future: impl Future<Output = T>) -> T {
    stealing_runtime::block_on(team, Location::caller(), future)
}

/// What admission counts; this thread sits in a team.
fn counts() -> Counts {
    let _inside = task::enter();
    admission::current().unwrap().counts()
}

/// Calls `look` with the bytes of all spawns that wait, in order, while nothing moves; does nothing on a thread elsewhere.
pub(super) fn line(look: impl FnOnce(Vec<usize>)) {
    let _inside = task::enter();
    if let (Some(at), Some(admission)) = (task::current(), admission::current()) {
        let mut line = Vec::new();
        admission.for_each_waiting(at, |waiter| line.push(waiter.terms().bytes));
        look(line);
    }
}

/// Lets others run, some times.
pub(super) async fn dawdle(times_below: usize) {
    for _ in 0..pick(times_below) {
        crate::yield_now().await;
    }
}
