//! Loom models of what several threads can do to the home that they share: the key, and admission under it.
//!
//! # What is checked
//! The home's local half is made of loom's cells, so two threads there at once, or one after the other without the key in
//! between, fail a model. Where somebody waits for a place, a lost grant is a deadlock.
//!
//! Here stands the [`Rig`] of `shared.rs`, too: all parts are the real ones, the worker's loop included; a loom condvar stands
//! in the driver's place. Its threads take one step each time that a model says so ([`Sitting::step`]), or run the loop, and
//! then time does not pass: a lookout sleeps until it is rung.
//!
//! Not modelled: a limit that changes. There is no such call of a runtime; that of the limiter's ledger, which is one thread's
//! at a time here as there, has its models in the limiter.

use std::cell::RefCell;
use std::time::Duration;

use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use loom::thread;

use super::*;
use crate::admission::Counts;
use crate::scheduler::stealing::{self, Stealing};
use crate::scheduler::{TeamPark, Turn};
use crate::task::team::{Ownership, Seat, Team};
use crate::task::{self, Local};

/// A team of the real parts; who sits there is the model's to say.
pub(super) struct Rig {
    ownership: Ownership,
    pub(super) door: Door,
}

/// What stands in the driver's place: one seat, in which a thread sleeps until it is rung.
struct Driver {
    is_taken: AtomicBool,
    bell: StdArc<Bell>,
}

impl Driver {
    fn new() -> Self {
        Driver { is_taken: AtomicBool::new(false), bell: Bell::new() }
    }
}

impl TeamPark for Driver {
    fn turn(&self, _: Turn) -> Turn {
        Turn { polls_max: 2, now_ns: 0 }
    }

    fn now_ns(&self) -> u64 {
        0
    }

    fn try_sit(&self) -> bool {
        !self.is_taken.swap(true, Ordering::AcqRel)
    }

    fn sit(&self, _: Option<Duration>) {
        self.bell.wait();
    }

    fn leave(&self) {
        self.is_taken.store(false, Ordering::Release);
    }

    fn collect(&self) {}
}

impl Rig {
    pub(super) fn new(workers: usize, tasks_max: usize) -> Self {
        let ownership = Ownership::new(workers);
        let team = ownership.team();
        let _seat = Seat::of_guest(team);
        let _inside = task::enter();
        let (home, local) = task::current().unwrap();
        let admission = Admission::of(home, local);
        admission.open(Limits {
            tasks_max,
            task_bytes_max: usize::MAX,
            services_max: 0,
            waiting_max: usize::MAX,
            foreign_max: 2,
            in_place_stack: 1 << 20,
        });
        home.shared.inbox.set_doorbell(Some(local.layer(Driver::new).bell.clone()));
        let door = admission.door();
        drop((_inside, _seat));
        Rig { ownership, door }
    }

    pub(super) fn team(&self) -> &'static Team {
        self.ownership.team()
    }

    /// As the drop of a runtime whose workers have stopped. No handle is left.
    pub(super) fn shut_down(self) {
        end(self.team());
        let _guest = Sitting::guest(self.team());
        let counts = counts();
        assert_eq!((counts.tasks_live, counts.waiting, counts.in_place), (0, 0, 0));
        let taken = {
            let _inside = task::enter();
            let (home, local) = task::current().unwrap();
            local.table.take_returned(home);
            local.table.taken()
        };
        assert_eq!(taken, 0, "each header came back");
    }
}

/// The end of all tasks; no worker runs.
pub(super) fn end(team: &'static Team) {
    let guest = Sitting::guest(team);
    let driver = inside(|local| local.layer(Driver::new));
    stealing::shut_down(team, &guest.seat, driver);
}

/// A thread that sits in a team.
pub(super) struct Sitting {
    /// A worker's.
    stealing: Option<RefCell<Stealing<'static, Driver>>>,
    _entered: admission::Entered,
    seat: Seat,
}

impl Sitting {
    pub(super) fn worker(team: &'static Team, number: usize) -> Self {
        let mut sitting = Self::sit(Seat::of_worker(team, number));
        let driver = inside(|local| local.layer(Driver::new));
        sitting.stealing = Stealing::new(team, &sitting.seat, number, driver).map(RefCell::new);
        sitting
    }

    pub(super) fn guest(team: &'static Team) -> Self {
        Self::sit(Seat::of_guest(team))
    }

    fn sit(seat: Seat) -> Self {
        let admission = {
            let _inside = task::enter();
            let (home, local) = task::current().unwrap();
            Admission::of(home, local)
        };
        Self { stealing: None, _entered: admission::enter(admission), seat }
    }

    fn stealing(&self) -> std::cell::RefMut<'_, Stealing<'static, Driver>> {
        self.stealing.as_ref().expect("a worker").borrow_mut()
    }

    /// Runs one ready task, of its own, of all, or stolen; whether there was anything to do.
    pub(super) fn step(&self) -> bool {
        self.stealing().step()
    }

    /// Until there is nothing to do.
    pub(super) fn settle(&self) {
        while self.step() {}
    }

    /// The loop itself, until the team is told to stop.
    fn work(&self) {
        self.stealing().work();
    }
}

/// Enters for one step.
fn inside<R>(step: impl FnOnce(&'static Local) -> R) -> R {
    let _inside = task::enter();
    step(task::current().unwrap().1)
}

/// What admission counts; this thread sits in a team.
pub(super) fn counts() -> Counts {
    let _inside = task::enter();
    admission::current().unwrap().counts()
}

/// The output of a task that must be done by now.
#[track_caller]
pub(super) fn output<T>(handle: JoinHandle<T>) -> T {
    match poll_once(pin!(handle)) {
        Poll::Ready(result) => result.unwrap(),
        Poll::Pending => panic!("it is not done: nobody was told to run it"),
    }
}

/// A waker that counts its wakes, and is another's than ours.
pub(super) struct Told(AtomicUsize);

impl Told {
    pub(super) fn new() -> StdArc<Told> {
        StdArc::new(Told(AtomicUsize::new(0)))
    }

    pub(super) fn times(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }
}

impl Wake for Told {
    fn wake(self: StdArc<Self>) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }
}

#[test]
fn loom_team_two_guests_spawn_at_once() {
    // [TEAM-1]
    model(|| {
        let rig = Rig::new(1, 1);
        let team = rig.team();
        let other = thread::spawn(move || {
            let _guest = Sitting::guest(team);
            try_spawn(async { 1 }).ok()
        });
        let one = {
            let _guest = Sitting::guest(team);
            try_spawn(async { 2 }).ok()
        };
        let two = other.join().unwrap();
        assert!(one.is_some() != two.is_some(), "there is one place");
        let worker = Sitting::worker(team, 0);
        worker.settle();
        let sum = [one, two].into_iter().flatten().map(output).sum::<i32>();
        assert!(sum == 1 || sum == 2);
        assert_eq!(counts().tasks_live_peak, 1);
        drop(worker);
        rig.shut_down();
    });
}

#[test]
fn loom_team_code_of_others_runs_without_the_key() {
    // [TEAM-3]: it waits for what another thread does under the key.
    model(|| {
        let rig = Rig::new(1, 1);
        let team = rig.team();
        let over = Bell::new();
        let other = thread::spawn({
            let over = over.clone();
            move || {
                let guest = Sitting::guest(team);
                inside(|local| local.now_ns.set(local.now_ns.get() + 1));
                over.ring();
                inside(|local| local.now_ns.set(local.now_ns.get() + 1));
                drop(guest);
            }
        });
        let guest = Sitting::guest(team);
        let seen = inside(|local| {
            let before = local.now_ns.get();
            task::outside(|| {
                assert!(task::current().is_none());
                // What it enters itself is over when it comes back.
                inside(|local| local.now_ns.set(local.now_ns.get() + 1));
                over.wait();
            });
            // It holds the key again.
            local.now_ns.get() - before
        });
        assert!((1..=3).contains(&seen));
        other.join().unwrap();
        assert_eq!(inside(|local| local.now_ns.get()), 3);
        drop(guest);
        rig.shut_down();
    });
}

#[test]
fn loom_team_a_panic_of_code_of_others_comes_back_under_the_key() {
    // [TEAM-3]
    model(|| {
        let rig = Rig::new(1, 1);
        let team = rig.team();
        let other = thread::spawn(move || {
            let _guest = Sitting::guest(team);
            inside(|local| local.now_ns.set(local.now_ns.get() + 1));
        });
        let guest = Sitting::guest(team);
        inside(|local| {
            let panics = || task::outside(|| std::panic::resume_unwind(Box::new(())));
            assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(panics)).is_err());
            local.now_ns.set(local.now_ns.get() + 1);
        });
        other.join().unwrap();
        assert_eq!(inside(|local| local.now_ns.get()), 2);
        drop(guest);
        rig.shut_down();
    });
}

/// One place, and its task, which ends when it is polled.
fn taken_rig(workers: usize) -> (Rig, Sitting) {
    let rig = Rig::new(workers, 1);
    let worker = Sitting::worker(rig.team(), 0);
    drop(try_spawn(async {}).unwrap());
    (rig, worker)
}

#[test]
fn loom_team_free_against_a_spawn_on_another_thread() {
    // [ADMIT-2]: whoever is first, it gets the place, and is told if it waited.
    model_of_three(|| {
        let (rig, worker) = taken_rig(1);
        let team = rig.team();
        let other = thread::spawn(move || {
            let _guest = Sitting::guest(team);
            wait_for(spawn(async { 3 })).unwrap()
        });
        worker.settle();
        let handle = other.join().unwrap();
        worker.settle();
        assert_eq!(output(handle), 3);
        assert_eq!(counts().tasks_live_peak, 1);
        drop(worker);
        rig.shut_down();
    });
}

#[test]
fn loom_team_a_place_on_a_tray_against_a_spawn() {
    // [TRAY-1]: as above of a task whose place is left without the key, since its handle is kept.
    model_of_three(|| {
        let rig = Rig::new(1, 1);
        let worker = Sitting::worker(rig.team(), 0);
        let first = try_spawn(async { 2 }).unwrap();
        let team = rig.team();
        let other = thread::spawn(move || {
            let _guest = Sitting::guest(team);
            wait_for(spawn(async { 3 })).unwrap()
        });
        worker.settle();
        let handle = other.join().unwrap();
        worker.settle();
        assert_eq!(output(first) + output(handle), 5);
        assert_eq!(counts().tasks_live_peak, 1);
        drop(worker);
        rig.shut_down();
    });
}

#[test]
fn loom_team_who_gets_a_place_from_a_tray_finds_its_task_gone() {
    // [TRAY-2]: what a task did is seen by whoever got its place, though neither took the other's lock.
    model_of_three(|| {
        let rig = Rig::new(1, 1);
        let worker = Sitting::worker(rig.team(), 0);
        let done = Arc::new(AtomicUsize::new(0));
        let first = try_spawn({
            let done = done.clone();
            async move { done.store(1, Ordering::Relaxed) }
        });
        let team = rig.team();
        let other = thread::spawn(move || {
            let _guest = Sitting::guest(team);
            let second = try_spawn(async {}).ok();
            if second.is_some() {
                assert_eq!(done.load(Ordering::Relaxed), 1);
            }
            second
        });
        worker.settle();
        let second = other.join().unwrap();
        worker.settle();
        output(first.unwrap());
        second.map(output);
        drop(worker);
        rig.shut_down();
    });
}

#[test]
fn loom_team_free_against_a_spawn_elsewhere() {
    // [DESK-2]: the same of a thread that does not sit here.
    model_of_three(|| {
        let (rig, worker) = taken_rig(1);
        let door = rig.door;
        let other = thread::spawn(move || {
            let mut waiting = spawn_at(door, 3);
            assert!(poll_once(waiting.as_mut()).is_pending());
            waiting
        });
        worker.settle();
        let mut waiting = other.join().unwrap();
        worker.settle();
        let Poll::Ready(Ok(handle)) = poll_once(waiting.as_mut()) else { panic!("it has its place") };
        assert_eq!(output(handle), 3);
        drop(worker);
        rig.shut_down();
    });
}

/// A frame that waits; it may go from thread to thread.
type Frame = Pin<Box<Spawn<std::future::Ready<usize>>>>;

fn waiting(number: usize, waker: &Waker) -> Frame {
    let mut frame = Box::pin(spawn(std::future::ready(number)));
    assert!(frame.as_mut().poll(&mut Context::from_waker(waker)).is_pending());
    frame
}

#[test]
fn loom_team_free_against_a_waiting_frame_dropped_on_another_thread() {
    // [WAIT-2] [ADMIT-2], bugs.md 7
    model_of_three(|| {
        let (rig, worker) = taken_rig(1);
        let team = rig.team();
        let frame = waiting(3, Waker::noop());
        let other = thread::spawn(move || {
            let _guest = Sitting::guest(team);
            drop(frame);
        });
        worker.settle();
        other.join().unwrap();
        worker.settle();
        assert_eq!((counts().tasks_live, counts().waiting), (0, 0));
        drop(worker);
        rig.shut_down();
    });
}

#[test]
fn loom_team_free_against_a_waiting_frame_dropped_elsewhere() {
    // [WAIT-2] [WAIT-3], of a thread that does not sit here, and goes by the claim alone.
    model_of_three(|| {
        let (rig, worker) = taken_rig(1);
        let frame = waiting(3, Waker::noop());
        let other = thread::spawn(move || drop(frame));
        worker.settle();
        other.join().unwrap();
        worker.settle();
        assert_eq!((counts().tasks_live, counts().waiting), (0, 0));
        drop(worker);
        rig.shut_down();
    });
}

#[test]
fn loom_team_a_waiting_frame_polled_on_another_thread_is_told_there() {
    // [WAIT-2]: its waker is changed while the place is given.
    model_of_three(|| {
        let (rig, worker) = taken_rig(1);
        let team = rig.team();
        let nobody = Told::new();
        let frame = waiting(3, &Waker::from(nobody.clone()));
        let other = thread::spawn(move || {
            let _guest = Sitting::guest(team);
            wait_for(frame).unwrap()
        });
        worker.settle();
        let handle = other.join().unwrap();
        worker.settle();
        assert_eq!(output(handle), 3);
        assert_eq!(StdArc::strong_count(&nobody), 1);
        drop(worker);
        rig.shut_down();
    });
}

#[test]
fn loom_team_two_that_end_let_in_two_in_their_order() {
    // [ADMIT-3]: whoever tells the first without the key comes back for the second, which another thread's end made room for.
    model_of_three(|| {
        let rig = Rig::new(2, 2);
        let team = rig.team();
        let worker = Sitting::worker(team, 0);
        drop((try_spawn(async {}).unwrap(), try_spawn(async {}).unwrap()));
        let told = Told::new();
        let order = StdArc::new(std::sync::Mutex::new(Vec::new()));
        let frames = [3, 4].map(|number| {
            let (told, order) = (told.clone(), order.clone());
            waiting(number, &Waker::from(StdArc::new(Notes { number, told, order })))
        });
        let other = thread::spawn(move || {
            let worker = Sitting::worker(team, 1);
            worker.step()
        });
        assert!(worker.step());
        // A thief may come in vain.
        if other.join().unwrap() {
            // Before the end of either's child makes room again.
            assert_eq!(*order.lock().unwrap(), [3, 4]);
        }
        worker.settle();
        for (frame, number) in frames.into_iter().zip([3, 4]) {
            assert_eq!(output(wait_for(frame).unwrap()), number);
        }
        assert_eq!(counts().tasks_live_peak, 2);
        drop(worker);
        rig.shut_down();
    });
}

/// Notes that its number was told.
struct Notes {
    number: usize,
    told: StdArc<Told>,
    order: StdArc<std::sync::Mutex<Vec<usize>>>,
}

impl Wake for Notes {
    fn wake(self: StdArc<Self>) {
        self.order.lock().unwrap().push(self.number);
        // And lets others go on.
        self.told.0.fetch_add(1, Ordering::AcqRel);
    }
}

#[test]
fn loom_team_close_against_a_waiting_spawn() {
    // What `Handle::close` does outside of the team; whoever is first, who waits is told.
    model_of_three(|| {
        let (rig, worker) = taken_rig(1);
        let (team, door) = (rig.team(), rig.door);
        let other = thread::spawn(move || {
            let _guest = Sitting::guest(team);
            wait_for(spawn(async { 3 })).ok()
        });
        door.close();
        worker.settle();
        assert!(try_spawn(async { 4 }).is_err(), "it is closed from here on");
        let handle = other.join().unwrap();
        worker.settle();
        if let Some(handle) = handle {
            assert_eq!(output(handle), 3);
        }
        assert_eq!((counts().tasks_live, counts().waiting), (0, 0));
        drop(worker);
        rig.shut_down();
    });
}

#[test]
fn loom_team_shutdown_against_a_waiting_spawn_elsewhere() {
    // [DESK-3] [WAIT-3]
    model_of_three(|| {
        let (rig, worker) = taken_rig(1);
        let door = rig.door;
        let other = thread::spawn(move || assert!(wait_for(spawn_at(door, 5)).is_err()));
        drop(worker);
        rig.shut_down();
        other.join().unwrap();
    });
}

#[test]
fn loom_team_reservation_dropped_on_another_thread_against_a_waiting_spawn() {
    model_of_three(|| {
        let rig = Rig::new(1, 1);
        let team = rig.team();
        let worker = Sitting::worker(team, 0);
        let place = wait_for(crate::reserve()).unwrap();
        let other = thread::spawn(move || {
            let _guest = Sitting::guest(team);
            drop(place);
        });
        let handle = wait_for(spawn(async { 3 })).unwrap();
        worker.settle();
        other.join().unwrap();
        assert_eq!(output(handle), 3);
        drop(worker);
        rig.shut_down();
    });
}

#[test]
fn loom_team_reservation_dropped_elsewhere_wakes_who_sleeps() {
    // By the desk: a worker is rung for it.
    model_of_many_steps(|| {
        let rig = Rig::new(1, 1);
        let team = rig.team();
        let worker = Sitting::worker(team, 0);
        let place = wait_for(crate::reserve()).unwrap();
        let stops = waiting_to_stop(team, Waker::noop());
        let other = thread::spawn(move || drop(place));
        worker.work();
        other.join().unwrap();
        drop(stops);
        drop(worker);
        rig.shut_down();
    });
}

/// A frame that waits; its child has the workers stop.
fn waiting_to_stop(team: &'static Team, waker: &Waker) -> Pin<Box<dyn Future<Output = bool>>> {
    let stop = async move { team.set_stopping(true) };
    let mut frame = Box::pin(async move { spawn(stop).await.is_ok() });
    assert!(frame.as_mut().poll(&mut Context::from_waker(waker)).is_pending());
    frame
}

#[test]
fn loom_team_spawn_elsewhere_wakes_who_sleeps() {
    // [INBOX-1] of a team: the desk's notice against a worker that goes to sleep.
    model_of_many_steps(|| {
        let rig = Rig::new(1, 1);
        let (team, door) = (rig.team(), rig.door);
        let other = thread::spawn(move || {
            let stop = async move { team.set_stopping(true) };
            drop(wait_for(Spawn::at(door, stop, Location::caller())).unwrap());
        });
        let worker = Sitting::worker(team, 0);
        worker.work();
        other.join().unwrap();
        drop(worker);
        rig.shut_down();
    });
}

#[test]
fn loom_team_a_wake_elsewhere_wakes_who_sleeps() {
    // [IDLE-1]: the injector's push against a worker that goes to sleep.
    model_of_many_steps(|| {
        let rig = Rig::new(1, 1);
        let team = rig.team();
        let worker = Sitting::worker(team, 0);
        let slot = StdArc::new(std::sync::Mutex::new(None));
        drop(try_spawn(poll_fn({
            let slot = slot.clone();
            move |cx| match slot.lock().unwrap().replace(cx.waker().clone()) {
                None => Poll::Pending,
                Some(_) => Poll::Ready(team.set_stopping(true)),
            }
        })));
        worker.settle();
        let waker = slot.lock().unwrap().clone().expect("it was polled");
        let other = thread::spawn(move || waker.wake());
        worker.work();
        other.join().unwrap();
        drop(slot.lock().unwrap().take());
        drop(worker);
        rig.shut_down();
    });
}

#[test]
fn loom_team_stop_wakes_who_sleeps() {
    model_of_many_steps(|| {
        let rig = Rig::new(2, 1);
        let team = rig.team();
        let other = thread::spawn(move || Sitting::worker(team, 1).work());
        team.set_stopping(true);
        other.join().unwrap();
        rig.shut_down();
    });
}

#[test]
fn loom_team_of_which_all_are_stuck_runs_one_child_in_a_place() {
    // Rule 4: the last of two workers to fall asleep makes the offer, and one of them takes it, once.
    model_of_many_steps(|| {
        let rig = Rig::new(2, 1);
        let team = rig.team();
        let runs = StdArc::new(std::sync::atomic::AtomicUsize::new(0));
        let worker = Sitting::worker(team, 0);
        let parent = {
            let runs = runs.clone();
            try_spawn(async move {
                let child = async move {
                    assert_eq!(runs.fetch_add(1, Ordering::Relaxed), 0);
                    assert_eq!((counts().tasks_live, counts().in_place), (1, 1));
                };
                spawn(child).await.unwrap().await.unwrap();
                team.set_stopping(true);
            })
            .unwrap()
        };
        let other = thread::spawn(move || Sitting::worker(team, 1).work());
        worker.work();
        other.join().unwrap();
        output(parent);
        assert_eq!(runs.load(Ordering::Relaxed), 1);
        drop(worker);
        rig.shut_down();
    });
}

#[test]
fn loom_team_offer_to_a_frame_that_is_let_in_while_a_waker_is_let_go() {
    // [TEAM-3] [PLACE-2]: between a look at its claim and one at its offer a frame gives the key away, to drop a waker of
    // others that it was polled with before.
    model(|| {
        let rig = Rig::new(1, 3);
        let team = rig.team();
        let worker = Sitting::worker(team, 0);
        let place = wait_for(crate::reserve()).unwrap();
        let slot = StdArc::new(std::sync::Mutex::new(None::<Frame>));
        // Parks a frame, which is offered to run here, and lets it go.
        drop(try_spawn(poll_fn({
            let slot = slot.clone();
            move |cx| {
                slot.lock().unwrap().get_or_insert_with(|| waiting(3, cx.waker()));
                Poll::Pending::<()>
            }
        })));
        let (first, second) = (Told::new(), Told::new());
        let mut wakers = [&first, &second].map(|told| Waker::from(told.clone())).into_iter();
        let woken = StdArc::new(std::sync::Mutex::new(None::<Waker>));
        let mut is_new = true;
        // Polls it there, once with each waker.
        let host = try_spawn(poll_fn({
            let (slot, woken) = (slot.clone(), woken.clone());
            move |cx| {
                *woken.lock().unwrap() = Some(cx.waker().clone());
                if std::mem::take(&mut is_new) {
                    return Poll::Pending;
                }
                let mut frame = slot.lock().unwrap().take().expect("it waits");
                let waker = wakers.next().expect("it is woken twice");
                let polled = frame.as_mut().poll(&mut Context::from_waker(&waker)).map(Result::unwrap);
                if polled.is_pending() {
                    *slot.lock().unwrap() = Some(frame);
                }
                polled
            }
        }));
        assert!(worker.step() && worker.step());
        let is_offered = {
            let _inside = task::enter();
            admission::current().unwrap().unstick(task::current().unwrap())
        };
        assert!(is_offered);
        let wake = || woken.lock().unwrap().take().expect("it was polled").wake();
        wake();
        assert!(worker.step() && worker.step());
        let other = thread::spawn(move || {
            let _guest = Sitting::guest(team);
            drop(place);
        });
        wake();
        assert!(worker.step());
        other.join().unwrap();
        worker.settle();
        // It ran in place, or was let in, and told so if it was not seen at once.
        let frame = slot.lock().unwrap().take();
        let host = host.unwrap();
        let child = match frame {
            Some(frame) => {
                assert_eq!(second.times(), 1);
                drop(host);
                wait_for(frame).unwrap()
            }
            None => output(host),
        };
        worker.settle();
        assert_eq!((output(child), counts().in_place, counts().waiting), (3, 0, 0));
        drop(worker);
        rig.shut_down();
        woken.lock().unwrap().take();
        assert_eq!(StdArc::strong_count(&first), 1);
    });
}
