//! A team: several threads that share one home.
//!
//! # Problem
//! What a runtime keeps beside its tasks (who is admitted and who waits, the reactor, the wheel, the table of headers) was
//! written for one owner, in plain cells. Written once more with an atomic in each place, it would be a second runtime to be
//! proved right; and the hot paths, a wake, a poll, a join, need none of it.
//!
//! # Idea
//! Two kinds of state, two rules.
//!
//! 1. *A task* is moved by any thread, by compare-and-swap of its state word (`shared.rs`); ready ones wait in a ring a worker,
//!    from which others steal, and in the injector. No lock stands on the way of a wake, a poll or a join.
//! 2. *Everything else* stays as it is, the home's local half, and is its owner's: of whichever thread holds the **key**, a
//!    mutex. [`enter`] takes it for the time of one step of this crate's own, never for a poll, and [`outside`] gives it
//!    back for as long as code of others runs: a waker, a drop, a child in place. So no thread ever waits for the key while
//!    code that it does not know holds it, and the local half's own rules for code that comes back in ([ADMIT-1],
//!    [DRIVER-1]) are all that is needed.
//!
//! A thread is of the team while it sits in a [`Seat`]: the workers', for as long as the runtime lives, and those of guests, the
//! threads inside `block_on`.
//!
//! # Cost
//! Locked instructions: two for the key. A spawn takes it once (and pushes to a ring with none); the end of a task leaves its place
//! on a tray (`tray.rs`) with one, and takes the key only where the limit is near or somebody waits, where nobody has its
//! handle, and for a service and a task that declared bytes (and one more each for
//! `StartPoll`, the joiner and the end itself); a wake and a poll never. A task that wakes itself, as one that yields does,
//! leaves a note for the end of its poll, with none.
//!
//! # Invariants
//! - [TEAM-1] The home's local half is touched by the thread that holds the key, and [`current`] names a
//!   team's home on no other thread: whoever forgets to [`enter`] finds that it is outside of the runtime.
//! - [TEAM-2] The cells of a [`Worker`] are touched by the thread that sits there; there is one at a time.
//! - [TEAM-3] Under the key no code runs but this crate's: else a lock of the caller's and the key could wait for each other.
//!
//! # Rejected
//! - A home for each worker, with sockets and timers of their own, and tasks that move between them: a worker that is stuck
//!   in a long poll would strand its sockets, and a bound over all of them needs a shared count all the same.
//! - A lock for each part: a spawn would take three, in an order to be kept for ever.
//! - Wakers collected under the key and woken after it: a list that grows, and a second path for what the owner does at once.
//!
//! # Read next
//! `shared.rs`, how a task is moved; `tray.rs`; `../scheduler/stealing.rs`, the loop.

use std::cell::Cell as StdCell;
use std::marker::PhantomData;
use std::ptr::NonNull;

use super::body::{CACHE_BYTES_IDLE, CACHE_BYTES_MAX, Cache};
use super::home::{Home, Local, current, set_current};
use super::injector::Injector;
use super::tray::{Left, Tray};
use super::{Header, Place};
use crate::scheduler::idle::Idle;
use crate::scheduler::ring::{Apart, Ring};
use crate::sync::{
    AtomicBool, AtomicUsize, Cell, IS_MODEL, Mutex, MutexGuard, Ordering, Scope, SlotPtr, Thread,
    current_thread, lock, scoped_local, seeded,
};

/// How many tasks a worker's ring holds; what is more goes to the injector.
pub(crate) const RING_LEN: usize = if IS_MODEL { 2 } else { 256 };

/// The threads that share a home; see the module's doc.
pub(crate) struct Team {
    home: &'static Home,
    workers: Box<[Worker]>,
    is_stopping: AtomicBool,
    /// Whether the lookout is a worker that others are faster without.
    is_aside: AtomicBool,
    /// Who holds it may touch the home's local half ([TEAM-1]).
    key: Apart<Mutex<()>>,
    injector: Apart<Injector>,
    pub(crate) idle: Apart<Idle>,
    /// Headers whose handles took the output, linked; the table takes them in.
    returned: Apart<SlotPtr<Header>>,
    /// Seats that no thread in `block_on` has; made when they are needed, and never given back.
    guests: Mutex<Vec<&'static Worker>>,
}

/// What one thread of a team has of its own.
pub(crate) struct Worker {
    home: &'static Home,
    /// Which worker; a guest has no number and no ring.
    number: Option<usize>,
    ring: Option<Ring<Header>>,
    pub(super) cache: Cache,
    /// The task being polled just now, and what is left of its budget, while this thread does not hold the key.
    pub(super) current: Cell<Option<&'static Header>>,
    pub(super) budget: Cell<u32>,
    /// Whether that task was woken on this thread while it was being polled: by itself, or by what it called.
    pub(super) woke_itself: Cell<bool>,
    /// Whether it lets in who waits, or is in the waker of one of them.
    granting: Cell<bool>,
    key: StdCell<Option<MutexGuard<'static, ()>>>,
    /// The worker around this one on the same thread, if a `block_on` is nested in another runtime's.
    outer: StdCell<Option<&'static Worker>>,
    thread: Mutex<Option<Thread>>,
    /// Whether it sleeps in the driver, so that the doorbell wakes it. Written before it is known to sleep.
    is_in_driver: AtomicBool,
    /// How many polls it has done, told now and then.
    polls: Apart<AtomicUsize>,
    tray: Apart<Tray>,
}

// SAFETY: [TEAM-2] the cells are the sitting thread's alone; the rest is Sync by itself.
unsafe impl Sync for Worker {}

scoped_local! {
    /// Where this thread sits.
    static WORKER: Worker;
}

#[inline(always)]
fn seated() -> Option<&'static Worker> {
    WORKER.with(StdCell::get)
}

impl Worker {
    fn new(home: &'static Home, number: Option<usize>) -> Self {
        Self {
            home,
            number,
            ring: number.map(|_| Ring::new(RING_LEN)),
            cache: Cache::new(),
            current: Cell::new(None),
            budget: Cell::new(0),
            woke_itself: Cell::new(false),
            granting: Cell::new(false),
            key: StdCell::new(None),
            outer: StdCell::new(None),
            thread: Mutex::new(None),
            is_in_driver: AtomicBool::new(false),
            polls: Apart(AtomicUsize::new(0)),
            tray: Apart(Tray::new()),
        }
    }

    pub(super) fn is_of(&self, home: &Home) -> bool {
        std::ptr::eq(self.home, home)
    }

    fn team(&self) -> &'static Team {
        self.home.team().expect("a worker is of a team")
    }

    /// Takes the key; the task that is being polled here is the home's from now on.
    fn lock(&self) {
        let key = if seeded("team_enter_does_not_lock") { None } else { Some(lock(&self.team().key.0)) };
        self.key.set(key);
        let none = set_current(Some(self.home));
        debug_assert!(none.is_none());
        if let Some(local) = self.home.local() {
            local.current.set(self.current.get());
            local.budget.set(self.budget.get());
        }
    }

    fn unlock(&self) {
        if let Some(local) = self.home.local() {
            self.budget.set(local.budget.get());
            local.current.set(None);
        }
        set_current(None);
        drop(self.key.take());
    }

    // The worker's own side of its ring.

    /// Puts a task at the tail of the ring; when it is full, half of it makes room for others to take.
    #[inline]
    pub(super) fn push(&self, task: &'static Header) {
        let Some(ring) = &self.ring else { return self.team().inject(task) };
        if ring.push(NonNull::from(task)).is_err() {
            self.overflow(ring, task);
        }
        self.team().notify_cheaply(false);
    }

    #[cold]
    fn overflow(&self, ring: &Ring<Header>, task: &'static Header) {
        let team = self.team();
        let mut moved: [Option<&'static Header>; RING_LEN] = [None; RING_LEN];
        let mut count = 0;
        ring.take_half(|item| {
            moved[count] = Some(header(item));
            count += 1;
        });
        if seeded("shuttle_overflow_forgets_one") {
            count = count.saturating_sub(1);
        }
        team.injector.0.push_all(moved[..count].iter().flatten().copied());
        if ring.push(NonNull::from(task)).is_err() {
            team.injector.0.push_all(std::iter::once(task));
        }
        // This worker looks there itself, as into its ring; and rings another when its backlog has lasted.
        team.notify_cheaply(false);
    }

    /// Leaves the place of a task that ended here, if that may be done without the key.
    #[inline(always)]
    pub(crate) fn leave_place(&self, bytes: usize) -> Left {
        match self.number {
            Some(_) => self.tray.0.leave(bytes),
            None => Left::Not,
        }
    }

    /// Leaves all that is in its ring to others.
    pub(crate) fn hand_over(&self) {
        self.team().injector.0.push_all(std::iter::from_fn(|| self.pop()));
    }

    /// So many polls more.
    #[inline]
    pub(crate) fn count_polls(&self, polls: u32) {
        // Ordering: Relaxed, and no addition in one: this thread alone writes it, for statistics.
        let before = self.polls.0.load(Ordering::Relaxed);
        self.polls.0.store(before.wrapping_add(polls as usize), Ordering::Relaxed);
    }

    /// The next task of its own.
    #[inline]
    pub(crate) fn pop(&self) -> Option<&'static Header> {
        self.ring.as_ref()?.pop().map(header)
    }

    /// How many tasks of its own wait, about.
    #[inline]
    pub(crate) fn backlog(&self) -> usize {
        self.ring.as_ref().map_or(0, Ring::len)
    }

    /// The next task from the injector, with a fair share of the others there for the ring.
    pub(crate) fn take_injected(&self) -> Option<&'static Header> {
        let team = self.team();
        let waiting = team.injector.0.len();
        if waiting == 0 {
            return None;
        }
        let room = self.ring.as_ref().map_or(0, |ring| ring.capacity() - ring.len());
        let share = (waiting / team.workers.len()).min(room / 2);
        let mut first = None;
        team.injector.0.pop_some(1 + share, |task| match first {
            None => first = Some(task),
            Some(_) => self.push_own(task),
        });
        if share > 0 {
            team.notify_cheaply(false);
        }
        first
    }

    /// As [`push`](Self::push), where there is room.
    fn push_own(&self, task: &'static Header) {
        let pushed = self.ring.as_ref().map(|ring| ring.push(NonNull::from(task)));
        debug_assert!(matches!(pushed, Some(Ok(()))), "there was room, and nobody else pushes");
    }

    /// Takes half of what another worker has, beginning with the `start`th; its own ring is empty. A single task only from
    /// who has not taken one since [`note_siblings`](Self::note_siblings).
    pub(crate) fn steal(&self, start: usize, seen: &[usize]) -> Option<&'static Header> {
        self.steal_from(start, |number, ring| {
            let len = ring.len();
            len > 1 || len == 1 && ring.taken() == seen[number]
        })
    }

    /// Takes half of what a worker has that has not taken anything since [`note_siblings`](Self::note_siblings): it is stuck.
    pub(crate) fn relieve(&self, start: usize, seen: &[usize]) -> Option<&'static Header> {
        self.steal_from(start, |number, ring| !ring.is_empty() && ring.taken() == seen[number])
    }

    /// Whether a sibling has something, and has not taken anything since [`note_siblings`](Self::note_siblings).
    pub(crate) fn sees_stuck(&self, seen: &[usize]) -> bool {
        let is_stuck = |ring: &Ring<Header>, seen| !ring.is_empty() && ring.taken() == seen;
        let mut siblings =
            self.team().workers.iter().zip(seen).filter(|(worker, _)| worker.number != self.number);
        siblings.any(|(worker, &seen)| worker.ring.as_ref().is_some_and(|ring| is_stuck(ring, seen)))
    }

    fn steal_from(
        &self,
        start: usize,
        may: impl Fn(usize, &Ring<Header>) -> bool,
    ) -> Option<&'static Header> {
        let own = self.ring.as_ref()?;
        let workers = &self.team().workers;
        (0..workers.len())
            .map(|step| (start + step) % workers.len())
            .filter(|&number| self.number != Some(number))
            .filter_map(|number| workers[number].ring.as_ref().filter(|ring| may(number, ring)))
            .find_map(|ring| ring.steal_into(own))
            .map(header)
    }

    /// Notes how far each sibling has come with its ring.
    pub(crate) fn note_siblings(&self, seen: &mut [usize]) {
        for (worker, seen) in self.team().workers.iter().zip(seen) {
            *seen = worker.ring.as_ref().map_or(0, Ring::taken);
        }
    }

    /// Gives free memory back before a long sleep.
    pub(crate) fn trim(&self) {
        self.cache.trim(CACHE_BYTES_IDLE);
        // Ordering: Relaxed; what is returned later is seen to by who goes to sleep later.
        let is_returned = !self.team().returned.0.load(Ordering::Relaxed).is_null();
        if is_returned || self.cache.given_back() > 0 {
            self.see_to_memory();
        }
    }

    /// Has who sleeps in the driver look whether memory is to go back to the system, when this worker has given back a lot.
    fn see_to_memory(&self) {
        {
            let _inside = enter();
            let Some((home, local)) = current() else { return };
            local.cache.note_given_back(self.cache.given_back());
            self.cache.forget_given_back();
            local.table.take_returned(home);
            let is_a_lot = local.cache.given_back() >= CACHE_BYTES_MAX || local.table.is_worth_a_trim();
            if !is_a_lot || local.is_trim_asked.replace(true) {
                return;
            }
        }
        self.home.shared.inbox.ring_sleeper();
    }

    /// Says, before it sleeps, what will wake it; and when it has left the driver.
    pub(crate) fn is_in_driver(&self, is_in_driver: bool) {
        // Ordering: Relaxed; the list of sleepers orders it.
        self.is_in_driver.store(is_in_driver, Ordering::Relaxed);
    }

    fn ring_bell(&self) {
        // Ordering: Relaxed; as above.
        if self.is_in_driver.load(Ordering::Relaxed) {
            self.home.shared.inbox.ring_sleeper();
        } else if let Some(thread) = &*lock(&self.thread) {
            thread.unpark();
        }
    }
}

/// Notes that a task is woken, if it is the one that is being polled on this thread: the end of that poll sees to it.
#[inline(always)]
pub(super) fn wakes_itself(task: &'static Header) -> bool {
    let is_polled =
        |worker: &&Worker| worker.current.get().is_some_and(|current| std::ptr::eq(current, task));
    let worker = seated().filter(is_polled);
    worker.inspect(|worker| worker.woke_itself.set(true)).is_some()
}

/// The header that an item of a ring is.
#[inline(always)]
fn header(item: NonNull<Header>) -> &'static Header {
    // SAFETY: [TABLE-1] only headers are pushed, and a header's address is valid for ever.
    unsafe { item.as_ref() }
}

impl Team {
    pub(super) fn new(home: &'static Home, workers: usize) -> Self {
        Self {
            home,
            workers: (0..workers).map(|number| Worker::new(home, Some(number))).collect(),
            is_stopping: AtomicBool::new(false),
            is_aside: AtomicBool::new(false),
            key: Apart(Mutex::new(())),
            injector: Apart(Injector::new()),
            idle: Apart(Idle::new(workers)),
            returned: Apart(SlotPtr::new(std::ptr::null_mut())),
            guests: Mutex::new(Vec::new()),
        }
    }

    /// How many workers there are.
    pub(crate) fn len(&self) -> usize {
        self.workers.len()
    }

    /// Whether this thread sits here, also where another runtime runs inside.
    pub(crate) fn is_of_this_thread(&self) -> bool {
        let mut at = seated();
        while let Some(worker) = at {
            if worker.is_of(self.home) {
                return true;
            }
            at = worker.outer.get();
        }
        false
    }

    /// Puts a ready task where it will be found: into this thread's ring, if it has one, and else where all look.
    #[inline]
    pub(super) fn schedule(&self, task: &'static Header) {
        match seated() {
            Some(worker) if worker.is_of(self.home) => worker.push(task),
            _ => self.inject(task),
        }
    }

    /// As [`schedule`](Self::schedule), for a task that has just been made.
    #[inline(always)]
    pub(crate) fn publish(&self, task: &'static Header) {
        task.foreign.store(0, Ordering::Relaxed);
        self.schedule(task);
    }

    fn inject(&self, task: &'static Header) {
        self.injector.0.push_all(std::iter::once(task));
        self.notify();
    }

    /// Something stands where all look: wakes a worker, unless one is about to look anyway.
    pub(crate) fn notify(&self) {
        if let Some(number) = self.idle.0.notify() {
            self.workers[number].ring_bell();
        }
    }

    /// As [`notify`](Self::notify), after a push to the own ring: for parallelism, if there is a backlog, and for somebody who
    /// looks out while this worker's polls last.
    #[inline]
    pub(crate) fn notify_cheaply(&self, has_backlog: bool) {
        if let Some(number) = self.idle.0.notify_cheaply(has_backlog) {
            self.workers[number].ring_bell();
        }
    }

    /// Wakes a sleeper, if there are any and nobody looks out, where nobody is in the driver, to which the next goes that sleeps; or
    /// where more `is_waiting` for this worker.
    pub(crate) fn see_to_lookout(&self, is_waiting: bool) {
        // Ordering: Relaxed; who leaves the driver just now asks the same, or sleeps there again.
        let is_there = |worker: &Worker| worker.is_in_driver.load(Ordering::Relaxed);
        if is_waiting || !self.workers.iter().any(is_there) {
            self.notify_cheaply(false);
        }
    }

    /// The worker of this number searched and has found something.
    pub(crate) fn end_search(&self, number: usize) {
        if let Some(number) = self.idle.0.end_search(|| self.has_work_besides(Some(number))) {
            self.workers[number].ring_bell();
        }
    }

    /// Whether anything stands where a worker would find it that looks now; what a sibling alone has to run is its own.
    pub(crate) fn has_work(&self) -> bool {
        self.has_work_besides(None)
    }

    /// As [`has_work`](Self::has_work), without what is in the ring of one of them: it runs that itself, and when it lasts it rings.
    fn has_work_besides(&self, number: Option<usize>) -> bool {
        self.injector.0.len() > 0
            || !self.is_quiet()
            || self.is_stopping()
            || self.workers.iter().any(|worker| worker.number != number && worker.backlog() > 1)
    }

    /// How many polls all workers have done, and one of them, about.
    pub(crate) fn polls(&self, number: usize) -> (usize, usize) {
        // Ordering: Relaxed; a statistic.
        let polls = |worker: &Worker| worker.polls.0.load(Ordering::Relaxed);
        (self.workers.iter().map(polls).fold(0, usize::wrapping_add), polls(&self.workers[number]))
    }

    /// A worker stands aside, or does no longer; one at a time, since it is the lookout.
    pub(crate) fn stand_aside(&self, is_aside: bool) {
        // Ordering: Relaxed; a hint.
        self.is_aside.store(is_aside, Ordering::Relaxed);
    }

    /// Whether a worker stands aside, so that no other is asked for.
    pub(crate) fn is_aside(&self) -> bool {
        // Ordering: Relaxed; a hint.
        self.is_aside.load(Ordering::Relaxed)
    }

    /// How many places, and bytes, ended tasks have left on trays, ever; the caller holds the key.
    pub(crate) fn left(&self) -> [usize; 2] {
        self.workers.iter().fold([0, 0], |[places, bytes], worker| {
            let left = worker.tray.0.left();
            // A tray's count of places has a bit less than a word.
            [places.wrapping_add(left[0]) & (usize::MAX >> 1), bytes.wrapping_add(left[1])]
        })
    }

    /// Says whether a place is to be given on at once when a task ends; the caller holds the key.
    pub(crate) fn want_places(&self, is_wanted: bool) {
        self.workers.iter().for_each(|worker| worker.tray.0.want(is_wanted));
    }

    /// Whether no other thread has asked for anything.
    pub(crate) fn is_quiet(&self) -> bool {
        self.home.shared.inbox.is_quiet()
    }

    pub(crate) fn is_stopping(&self) -> bool {
        // Ordering: Relaxed; a worker that goes to sleep looks again after a swap that the notice orders.
        self.is_stopping.load(Ordering::Relaxed)
    }

    /// Has all workers leave their loops, or begins anew.
    pub(crate) fn set_stopping(&self, is_stopping: bool) {
        // Ordering: Release; pairs with nothing of its own, the idle word orders it for sleepers.
        self.is_stopping.store(is_stopping, Ordering::Release);
        if is_stopping {
            self.idle.0.notify_all(|number| self.workers[number].ring_bell());
        }
    }

    /// Keeps a header whose handle has taken the output, until the table takes it in. Never waits.
    pub(super) fn give_back(&self, task: &'static Header) {
        let item = std::ptr::from_ref(task).cast_mut();
        // Ordering: Relaxed; the exchange decides.
        let mut first = self.returned.0.load(Ordering::Relaxed);
        loop {
            task.next.set(NonNull::new(first).map(header));
            // Ordering: AcqRel; Release pairs with the Acquire of who takes all, which then finds the link.
            let success =
                if seeded("shared_give_back_relaxed") { Ordering::Relaxed } else { Ordering::AcqRel };
            match self.returned.0.compare_exchange(first, item, success, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => first = now,
            }
        }
    }

    /// Calls `each` with every header that was given back.
    pub(crate) fn take_returned(&self, mut each: impl FnMut(&'static Header)) {
        // Ordering: AcqRel; see `give_back`.
        let first = self.returned.0.swap(std::ptr::null_mut(), Ordering::AcqRel);
        let mut at = NonNull::new(first).map(header);
        while let Some(task) = at {
            at = task.next.take();
            each(task);
        }
    }

    /// Takes every task that is ready out of where it stands; no worker runs any more.
    pub(crate) fn pop_any(&self) -> Option<&'static Header> {
        let mut first = None;
        self.injector.0.pop_some(1, |task| first = Some(task));
        first.or_else(|| self.workers.iter().find_map(|worker| worker.ring.as_ref()?.pop()).map(header))
    }

    /// The cache of the thread that calls, which sits here.
    fn cache_here(&self) -> Option<&'static Cache> {
        seated().filter(|worker| worker.is_of(self.home)).map(|worker| &worker.cache)
    }
}

impl Home {
    /// Its address as the headers of its tasks note it.
    pub(super) fn tagged(&'static self) -> *mut Home {
        std::ptr::from_ref(self).cast_mut().map_addr(|address| address | usize::from(self.team().is_some()))
    }

    /// Whether this thread grants places, which without a team is noted in `alone`.
    pub(crate) fn granting<'a>(&self, alone: &'a Cell<bool>) -> &'a Cell<bool> {
        match self.team() {
            None => alone,
            Some(_) => seated().filter(|worker| worker.is_of(self)).map_or(alone, |worker| &worker.granting),
        }
    }

    /// Where the bodies of new tasks come from on this thread.
    #[inline(always)]
    pub(crate) fn cache<'a>(&self, local: &'a Local) -> &'a Cache {
        match self.team() {
            None => &local.cache,
            Some(team) => team.cache_here().unwrap_or(&local.cache),
        }
    }
}

/// The address of a home, whatever its kind.
pub(super) const fn untagged(address: usize) -> usize {
    address & !1
}

/// Whether a header notes a team's home: no thread's [`current`] home is like that, so that its tasks never take the path of
/// an owner.
pub(super) const fn is_tagged(address: usize) -> bool {
    address & 1 != 0
}

/// A thread's place in a team.
#[must_use]
pub(crate) struct Seat {
    worker: &'static Worker,
    /// What this thread was inside of.
    before: Option<&'static Home>,
    _scope: Scope<Worker>,
    not_send: PhantomData<*mut ()>,
}

impl Seat {
    /// That of a worker, which no other thread has.
    pub(crate) fn of_worker(team: &'static Team, number: usize) -> Self {
        Self::sit(&team.workers[number])
    }

    /// One of a thread that comes for the time of a `block_on`.
    pub(crate) fn of_guest(team: &'static Team) -> Self {
        let vacant = lock(&team.guests).pop();
        Self::sit(vacant.unwrap_or_else(|| Box::leak(Box::new(Worker::new(team.home, None)))))
    }

    fn sit(worker: &'static Worker) -> Self {
        *lock(&worker.thread) = Some(current_thread());
        worker.outer.set(seated());
        let before = set_current(None);
        Self { worker, before, _scope: Scope::enter(&WORKER, worker), not_send: PhantomData }
    }

    pub(crate) fn worker(&self) -> &'static Worker {
        self.worker
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let worker = self.worker;
        worker.current.set(None);
        worker.cache.trim(0);
        if worker.number.is_none() {
            // The workers may all have gone to sleep before it took the last outputs.
            worker.see_to_memory();
        }
        worker.outer.set(None);
        *lock(&worker.thread) = None;
        set_current(self.before);
        if worker.number.is_none() {
            lock(&worker.team().guests).push(worker);
        }
    }
}

/// The right to a team's home; there is one a home at a time.
pub(crate) struct Ownership {
    team: &'static Team,
}

/// Teams that no runtime has, for the next ones.
#[cfg(not(any(anteroom_loom, anteroom_shuttle)))]
static VACANT: Mutex<Vec<&'static Team>> = Mutex::new(Vec::new());

impl Ownership {
    /// Takes a vacant team of so many workers, or makes one.
    pub(crate) fn new(workers: usize) -> Self {
        #[cfg(not(any(anteroom_loom, anteroom_shuttle)))]
        let vacant = {
            let mut vacant = lock(&VACANT);
            let found = vacant.iter().position(|team| team.len() == workers);
            found.map(|at| vacant.swap_remove(at))
        };
        #[cfg(any(anteroom_loom, anteroom_shuttle))]
        let vacant: Option<&'static Team> = None;
        let make = || Home::leak_for_team(workers).team().expect("it was made for a team");
        Self { team: vacant.unwrap_or_else(make) }
    }

    pub(crate) fn team(&self) -> &'static Team {
        self.team
    }
}

impl Drop for Ownership {
    /// No thread sits there any more.
    fn drop(&mut self) {
        {
            let _seat = Seat::of_guest(self.team);
            let _inside = enter();
            if let Some((home, local)) = current() {
                local.cache.trim(0);
                local.table.take_returned(home);
                if local.table.is_worth_a_trim() {
                    local.table.trim();
                }
            }
        }
        self.team.home.shared.inbox.set_doorbell(None);
        #[cfg(not(any(anteroom_loom, anteroom_shuttle)))]
        lock(&VACANT).push(self.team);
    }
}

/// While it lives, this thread holds the key, if it is of a team and was not inside already.
#[must_use]
pub(crate) struct Inside {
    worker: Option<&'static Worker>,
    not_send: PhantomData<*mut ()>,
}

/// Enters the runtime whose team this thread is of; where there is none, or it is inside of one, it does nothing.
#[inline(always)]
pub(crate) fn enter() -> Inside {
    let worker = seated().filter(|_| current().is_none());
    if let Some(worker) = worker {
        worker.lock();
    }
    Inside { worker, not_send: PhantomData }
}

impl Drop for Inside {
    #[inline(always)]
    fn drop(&mut self) {
        if let Some(worker) = self.worker {
            worker.unlock();
        }
    }
}

/// Whether this thread is of a team, and not inside of another runtime.
#[inline]
#[cfg(not(anteroom_loom))]
pub(crate) fn sits_in_team() -> bool {
    seated().is_some_and(|worker| current().is_none_or(|(home, _)| worker.is_of(home)))
}

/// Runs `f`, which is code of others, or waits, without the key ([TEAM-3]).
#[inline(always)]
pub(crate) fn outside<R>(f: impl FnOnce() -> R) -> R {
    /// Comes back, also when `f` panics.
    struct Back(&'static Worker);

    impl Drop for Back {
        fn drop(&mut self) {
            self.0.lock();
        }
    }

    let is_of = |worker: &Worker| current().is_some_and(|(home, _)| worker.is_of(home));
    let holder = seated().filter(|worker| is_of(worker) && !seeded("team_outside_keeps_the_key"));
    let _back = holder.map(|worker| {
        worker.unlock();
        Back(worker)
    });
    f()
}

/// What is left for the task that is being polled on this thread.
#[inline(always)]
pub(crate) fn budget() -> Option<&'static Cell<u32>> {
    match current() {
        Some((_, local)) => Some(&local.budget),
        None => seated().map(|worker| &worker.budget),
    }
}

/// The task that is being polled on this thread.
#[inline(always)]
pub(crate) fn polled_here() -> Option<&'static Header> {
    match current() {
        Some((_, local)) => local.current.get(),
        None => seated()?.current.get(),
    }
}

impl Header {
    /// Whether this thread is of the team whose task it is.
    pub(super) fn is_of_this_team(&'static self) -> bool {
        self.home().and_then(Home::team).is_some_and(Team::is_of_this_thread)
    }

    /// The cache of this thread, if it is of the team whose task it is.
    pub(super) fn cache_here(&'static self) -> Option<&'static Cache> {
        self.home()?.team()?.cache_here()
    }

    /// Whether it is the header of a future of `block_on`, which no worker polls.
    pub(super) fn is_root(&self) -> bool {
        self.marks().place() == Place::Root
    }
}
