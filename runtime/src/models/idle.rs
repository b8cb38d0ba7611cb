//! Loom models of workers that go to sleep while others push, in the order of the races that `scheduler/idle.rs` tells.
//!
//! The workers' loop is written here as that of the scheduler has to be: look, search, prepare, look again, wait. What lies in
//! the injector and in a ring is looked at without an order, as the real ones are, so that what a worker sees there is owed
//! to the word alone.
//!
//! With `ANTEROOM_BUG=...` a model must fail for each of: `idle_notify_plain` (a pusher that only looks), `idle_sleep_plain`
//! (a sleeper whose step orders nothing), `idle_end_plain` (the same of a searcher that found something),
//! `idle_forgets_to_leave` (a sleeper that is still counted as a searcher), `idle_never_last` (who found something wakes
//! nobody), `idle_counts_twice` (a notified worker counts itself again), `idle_stays_listed` (a time-out that leaves the
//! worker in the list), `idle_stop_plain` (a stop that only looks whether somebody sleeps), `idle_no_lookout` (all sleep
//! without a bound), `idle_takes_over_twice` (a lookout relieved, and still counted), `idle_trusts_its_look` (the last searcher wakes nobody if it sees nothing, though there is no lookout).

use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

use super::{model, model_of_many_steps, model_of_three};
use crate::scheduler::idle::{Bed, Idle, Sleep};

/// A queue whose length is looked at first, and without an order.
struct Queue {
    items: Mutex<Vec<u32>>,
    len: AtomicUsize,
}

impl Queue {
    fn new() -> Self {
        Self { items: Mutex::new(Vec::new()), len: AtomicUsize::new(0) }
    }

    fn push(&self, item: u32) {
        let mut items = self.items.lock().unwrap();
        items.push(item);
        self.len.store(items.len(), Ordering::Relaxed);
    }

    fn is_empty(&self) -> bool {
        self.len.load(Ordering::Relaxed) == 0
    }

    fn pop(&self) -> Option<u32> {
        if self.is_empty() {
            return None;
        }
        let mut items = self.items.lock().unwrap();
        let item = items.pop();
        self.len.store(items.len(), Ordering::Relaxed);
        item
    }
}

/// What one thread waits for: a ring, or that a lookout's time has passed.
struct Parker {
    state: Mutex<(bool, bool)>,
    condvar: Condvar,
}

impl Parker {
    fn new() -> Self {
        Self { state: Mutex::new((false, false)), condvar: Condvar::new() }
    }

    fn wait(&self, sleep: Sleep) {
        let mut state = self.state.lock().unwrap();
        while !(state.0 || state.1 && sleep == Sleep::Short) {
            state = self.condvar.wait(state).unwrap();
        }
        state.0 = false;
    }

    fn ring(&self) {
        self.state.lock().unwrap().0 = true;
        self.condvar.notify_one();
    }

    fn let_time_pass(&self) {
        self.state.lock().unwrap().1 = true;
        self.condvar.notify_one();
    }
}

/// Some workers of which the first may be the model's own thread, busy with something long.
struct Rig {
    idle: Idle,
    injector: Queue,
    /// The ring of the worker that is busy; the others' are empty.
    ring: Queue,
    stop: AtomicBool,
    parkers: Vec<Parker>,
    /// How many items were taken, and who waits for it.
    taken: Mutex<usize>,
    all_taken: Condvar,
    /// How many rings were ordered.
    rings: AtomicUsize,
}

impl Rig {
    fn new(workers: usize) -> Arc<Rig> {
        Arc::new(Rig {
            idle: Idle::new(workers),
            injector: Queue::new(),
            ring: Queue::new(),
            stop: AtomicBool::new(false),
            parkers: (0..workers).map(|_| Parker::new()).collect(),
            taken: Mutex::new(0),
            all_taken: Condvar::new(),
            rings: AtomicUsize::new(0),
        })
    }

    fn ring(&self, worker: Option<usize>) {
        if let Some(worker) = worker {
            self.rings.fetch_add(1, Ordering::Relaxed);
            self.parkers[worker].ring();
        }
    }

    fn push(&self, item: u32) {
        self.injector.push(item);
        self.ring(self.idle.notify());
    }

    fn push_to_own_ring(&self, item: u32) {
        self.ring.push(item);
        self.ring(self.idle.notify_cheaply(false));
    }

    /// A task that runs until so many are running at once: nobody gets on by running one after the other.
    fn run_beside(&self, others: usize) {
        let mut taken = self.taken.lock().unwrap();
        *taken += 1;
        self.all_taken.notify_all();
        while *taken < others {
            taken = self.all_taken.wait(taken).unwrap();
        }
    }

    fn assert_all_are_awake(&self) {
        assert!(self.idle.is_consistent(), "[IDLE-2]");
        assert_eq!((self.idle.asleep(), self.idle.searching()), (0, 0), "[IDLE-3]");
    }
}

/// A worker's loop.
struct Worker {
    rig: Arc<Rig>,
    number: usize,
    bed: Bed,
    searches: bool,
    /// How many of its waits still end at once, as if the time were up.
    time_outs: usize,
    /// How often it was told that somebody rang it.
    notified: usize,
}

impl Worker {
    fn new(rig: &Arc<Rig>, number: usize) -> Self {
        Self { rig: rig.clone(), number, bed: Bed::default(), searches: false, time_outs: 0, notified: 0 }
    }

    /// The next item, or `None` at the stop; it does not search after that.
    fn next(&mut self) -> Option<u32> {
        let rig = self.rig.clone();
        loop {
            if rig.stop.load(Ordering::Relaxed) {
                self.end_search();
                return None;
            }
            let item = rig.injector.pop().or_else(|| if self.searches { rig.ring.pop() } else { None });
            if item.is_some() {
                self.end_search();
                return item;
            }
            if !self.searches && rig.idle.begin_search() {
                self.searches = true;
                continue;
            }
            let sleep = rig.idle.prepare_sleep(self.number, self.searches, self.bed);
            if !rig.stop.load(Ordering::Relaxed) && rig.injector.is_empty() && rig.ring.is_empty() {
                if self.time_outs > 0 {
                    self.time_outs -= 1;
                } else {
                    rig.parkers[self.number].wait(sleep);
                }
            }
            self.notified += usize::from(rig.idle.wake_up(self.number));
            self.searches = true;
        }
    }

    fn end_search(&mut self) {
        if std::mem::take(&mut self.searches) {
            let rig = &self.rig;
            rig.ring(rig.idle.end_search(|| !rig.injector.is_empty() || !rig.ring.is_empty()));
        }
    }
}

#[test]
fn loom_a_push_against_a_worker_that_goes_to_sleep() {
    // [IDLE-1]: a lost wake would wait here for ever.
    model(|| {
        let rig = Rig::new(1);
        let other = thread::spawn({
            let rig = rig.clone();
            move || assert_eq!(Worker::new(&rig, 0).next(), Some(7))
        });
        rig.push(7);
        other.join().unwrap();
        rig.assert_all_are_awake();
    });
}

#[test]
fn loom_a_second_push_finds_the_word_as_the_first_one_left_it() {
    // [IDLE-1] [IDLE-3]: whoever was counted wrongly in the first round is missed in the second.
    model_of_three(|| {
        let rig = Rig::new(1);
        let other = thread::spawn({
            let rig = rig.clone();
            move || {
                let mut worker = Worker::new(&rig, 0);
                assert!(worker.next().is_some() && worker.next().is_some());
            }
        });
        rig.push(1);
        rig.push(2);
        other.join().unwrap();
        rig.assert_all_are_awake();
    });
}

#[test]
fn loom_two_pushers_against_one_sleeper() {
    // [IDLE-1]
    model_of_three(|| {
        let rig = Rig::new(1);
        let pushers = [1, 2].map(|item| {
            let rig = rig.clone();
            thread::spawn(move || rig.push(item))
        });
        let mut worker = Worker::new(&rig, 0);
        assert_eq!(worker.next().unwrap() + worker.next().unwrap(), 3);
        for pusher in pushers {
            pusher.join().unwrap();
        }
        rig.assert_all_are_awake();
    });
}

#[test]
fn loom_the_last_searcher_wakes_the_next() {
    // [IDLE-1] [IDLE-3]: two tasks that wait for each other get a worker each, though the second push may have found a
    // searcher.
    model_of_many_steps(|| {
        let rig = Rig::new(2);
        let others = [0, 1].map(|number| {
            let rig = rig.clone();
            thread::spawn(move || {
                let item = Worker::new(&rig, number).next();
                assert!(item.is_some());
                rig.run_beside(2);
            })
        });
        rig.push(1);
        rig.push(2);
        for other in others {
            other.join().unwrap();
        }
        rig.assert_all_are_awake();
    });
}

#[test]
fn loom_a_time_out_against_a_ring() {
    // bugs.md 32; [IDLE-2] [IDLE-3]: both agree who woke it, and the next ring is for who is there.
    model(|| {
        let rig = Rig::new(1);
        let other = thread::spawn({
            let rig = rig.clone();
            move || {
                let mut worker = Worker::new(&rig, 0);
                worker.time_outs = 1;
                assert_eq!(worker.next(), Some(7));
                worker.notified
            }
        });
        rig.push(7);
        let notified = other.join().unwrap();
        assert_eq!(rig.rings.load(Ordering::Relaxed), notified);
        rig.assert_all_are_awake();
    });
}

#[test]
fn loom_a_time_out_of_one_sleeper_does_not_take_the_ring_of_another() {
    // [IDLE-2]
    model_of_many_steps(|| {
        let rig = Rig::new(2);
        let others = [0, 1].map(|number| {
            let rig = rig.clone();
            thread::spawn(move || {
                let mut worker = Worker::new(&rig, number);
                worker.time_outs = 1 - number;
                assert!(worker.next().is_some());
                rig.run_beside(2);
                worker.notified
            })
        });
        rig.push(1);
        rig.push(2);
        let notified: usize = others.into_iter().map(|other| other.join().unwrap()).sum();
        assert_eq!(rig.rings.load(Ordering::Relaxed), notified);
        rig.assert_all_are_awake();
    });
}

#[test]
fn loom_a_stop_against_workers_that_go_to_sleep() {
    // bugs.md 33
    model_of_three(|| {
        let rig = Rig::new(2);
        let others = [0, 1].map(|number| {
            let rig = rig.clone();
            thread::spawn(move || assert_eq!(Worker::new(&rig, number).next(), None))
        });
        rig.stop.store(true, Ordering::Relaxed);
        rig.idle.notify_all(|worker| rig.ring(Some(worker)));
        for other in others {
            other.join().unwrap();
        }
        rig.assert_all_are_awake();
    });
}

#[test]
fn loom_a_long_poll_strands_nothing() {
    // [IDLE-4]: no fence orders the push to the own ring with a worker that goes to sleep; time does.
    model(|| {
        let rig = Rig::new(2);
        let other = thread::spawn({
            let rig = rig.clone();
            move || {
                assert_eq!(Worker::new(&rig, 1).next(), Some(7));
                rig.run_beside(2);
            }
        });
        rig.push_to_own_ring(7);
        rig.parkers[1].let_time_pass();
        rig.run_beside(2);
        other.join().unwrap();
        rig.assert_all_are_awake();
    });
}

#[test]
fn loom_a_lookout_is_relieved_while_it_wakes_up() {
    // [IDLE-2] [IDLE-4]: one looks out from the driver, and another takes over or finds it gone; a long poll strands nothing.
    model_of_three(|| {
        let rig = Rig::new(3);
        assert_eq!(rig.idle.prepare_sleep(1, false, Bed { sits: true, lingers: false }), Sleep::Short);
        let other = thread::spawn({
            let rig = rig.clone();
            move || {
                assert_eq!(Worker::new(&rig, 2).next(), Some(7));
                rig.run_beside(2);
            }
        });
        assert!(!rig.idle.wake_up(1), "nobody rings it");
        rig.ring(rig.idle.end_search(|| false));
        rig.push_to_own_ring(7);
        rig.parkers[2].let_time_pass();
        rig.run_beside(2);
        other.join().unwrap();
        rig.assert_all_are_awake();
    });
}

#[test]
fn loom_a_long_poll_strands_nothing_when_the_searcher_finds_another_thing() {
    // [IDLE-4]: who pushed relies on a searcher that does not see it and is busy from then on.
    model_of_three(|| {
        let rig = Rig::new(3);
        // All sleep, so that there is no lookout; then the first is busy, and another is rung.
        for number in [0, 1, 2] {
            let _sleep = rig.idle.prepare_sleep(number, false, Bed::default());
        }
        rig.idle.wake_up(0);
        assert_eq!(rig.idle.prepare_sleep(0, true, Bed::default()), Sleep::Long);
        assert_eq!(rig.idle.notify(), Some(0));
        assert!(rig.idle.wake_up(0));
        assert_eq!(rig.idle.end_search(|| false), None, "who is alone needs no lookout");
        let others = [1, 2].map(|number| {
            let rig = rig.clone();
            thread::spawn(move || {
                rig.parkers[number].wait(Sleep::Long);
                rig.idle.wake_up(number);
                let mut worker = Worker::new(&rig, number);
                worker.searches = true;
                assert!(worker.next().is_some());
                rig.run_beside(3);
            })
        });
        rig.push(1);
        rig.push_to_own_ring(2);
        for parker in &rig.parkers {
            parker.let_time_pass();
        }
        rig.run_beside(3);
        for other in others {
            other.join().unwrap();
        }
        rig.assert_all_are_awake();
    });
}
