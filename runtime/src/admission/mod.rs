//! Who gets in, who is told, and what a place costs: the only file that meets the limiter.
//!
//! # Problem
//! A task that ends must give its place on at once and to the right one, or the place is stranded on a spawner that nobody
//! polls; and telling a spawner runs code of its own, which may come back here.
//!
//! # Idea
//! The [`Ledger`] of the limiter keeps the count and the order; its waiters are the nodes of waiting spawns. [`release`]
//! returns the units and then grants: pop the head that fits, move its future in (`Waiter::admit`), wake its spawner, again.
//! Two dimensions are granted together: places, and the bytes of futures, whose sizes are known before anything is
//! allocated. Services have a small budget of their own and never wait.
//!
//! [`release`]: Admission::release
//!
//! # Bounds
//! Live tasks: `max_tasks`, and their futures' bytes `max_task_bytes`; services: `service_tasks`. Waiting spawns:
//! `max_waiting`. Each has a node, recycled and never given back, which a frame that was admitted keeps until it is polled
//! again or dropped.
//!
//! # Invariants
//! - [ADMIT-1] No user code runs while the ledger is borrowed: wakers are taken out under the borrow and woken after it.
//! - [ADMIT-2] Every path that returns units ends in [`Admission::grant`]: release, cancel, a node from the desk, close. Of a team's
//!   trays anybody may take units, since while someone waits, who left them there comes to grant ([TRAY-1]).
//! - [ADMIT-3] One grant loop runs at a time on a thread; a nested call leaves its work to the outer one. Of a team, other
//!   threads do not: the one that grants may be in a waker, for as long as that takes.
//!
//! # Rejected
//! Waking the spawner so that it spawns itself: the place stands empty until it is polled, and a spawner that is never
//! polled again keeps it empty for ever.
//!
//! # Read next
//! `lending.rs`, for when nobody can be let in; `../spawn/`, the front door.

mod lending;

use std::cell::{Cell, RefCell, RefMut};
use std::task::Waker;

pub(crate) use anteroom_limiter::{Key, Ledger, Refusal};
#[cfg(not(anteroom_loom))]
pub(crate) use anteroom_limiter::{OwnedPermit, Semaphore};

use self::lending::Lending;
#[cfg(not(anteroom_loom))]
pub(crate) use self::lending::{Limit, Look, Offer, Spawner};
pub(crate) use self::lending::{Spot, lending};
#[cfg(not(anteroom_loom))]
use crate::bytes::table_bytes;
use crate::sync::{Cell as TrackedCell, IS_MODEL, Scope, scoped_local, seeded};
pub(crate) use crate::task::desk::Turned;
use crate::task::desk::{Asked, Desk};
use crate::task::waiter::{Granted, Refused, Waiter};
use crate::task::waker::wake_quietly;
use crate::task::{Home, Local, Place, quietly};

/// A node of a waiting spawn, with its key in the ledger.
pub(crate) type SpawnWaiter = Waiter<Key>;

/// Places and bytes, and who waits for them.
type Line = Ledger<&'static SpawnWaiter, 2>;

/// Which runtime something belongs to, for threads that are not inside of it.
pub(crate) type Door = crate::task::desk::Door<Key>;

/// How many nodes are made at a time.
const WAITERS_CHUNK: usize = if IS_MODEL { 2 } else { 64 };

/// What one runtime admits at most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) tasks_max: usize,
    pub(crate) task_bytes_max: usize,
    pub(crate) services_max: usize,
    /// Spawns that may wait at once.
    pub(crate) waiting_max: usize,
    /// Those of them that other threads began.
    pub(crate) foreign_max: usize,
    /// How much of the stack children that run in place may take, one inside the other.
    pub(crate) in_place_stack: usize,
}

/// What the line takes at most: a node for each spawn that waits, and an entry of the ledger.
#[cfg(not(anteroom_loom))]
pub(crate) fn waiting_bytes(waiting: usize, foreign: usize) -> usize {
    // Of those on other threads, as many again may have left while the owner did not look.
    let nodes = waiting.saturating_add(foreign.saturating_mul(2)).saturating_add(2 * WAITERS_CHUNK);
    let entry = Line::WAITING_BYTES;
    nodes.saturating_mul(size_of::<SpawnWaiter>()).saturating_add(table_bytes(waiting, entry))
}

/// Counts of admission, as `metrics` shows them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) tasks_max: usize,
    pub(crate) tasks_live: usize,
    pub(crate) tasks_live_peak: usize,
    pub(crate) task_bytes: usize,
    pub(crate) services_max: usize,
    pub(crate) services_live: usize,
    pub(crate) waiting: usize,
    pub(crate) waiting_peak: usize,
    pub(crate) in_place: usize,
    pub(crate) reserved: usize,
}

/// Admission to one runtime; the owner's alone.
pub(crate) struct Admission {
    ledger: RefCell<Line>,
    services_max: Cell<usize>,
    waiting_max: Cell<usize>,
    services_live: Cell<usize>,
    tasks_live_peak: Cell<usize>,
    waiting_peak: Cell<usize>,
    granting: TrackedCell<bool>,
    /// Of a team, what was left on its workers' trays and taken from there, ever; and whether places are wanted there.
    left: Cell<[usize; 2]>,
    wants_left: Cell<bool>,
    free: Cell<Option<&'static SpawnWaiter>>,
    desk: &'static Desk<Key>,
    /// The desk's epoch for the runtime that this is open for; 0 when it has ended.
    epoch: Cell<u32>,
    /// Whether somebody waits for the last task to end.
    is_awaited: Cell<bool>,
    /// The runtime is being dropped: not even reserved places become tasks.
    is_ending: Cell<bool>,
    lending: Lending,
}

scoped_local! {
    /// Admission of the runtime that this thread is inside of.
    static CURRENT: Admission;
}

/// Admission of the runtime that this thread is inside of, if any. Of a team, a thread must have entered for the time of a step,
/// which who asks for both ([`task::current`](crate::task::current)) learns.
#[inline(always)]
pub(crate) fn current() -> Option<&'static Admission> {
    CURRENT.with(Cell::get)
}

/// While it lives, a thread finds the admission that it was made with.
#[must_use]
pub(crate) struct Entered {
    _scope: Scope<Admission>,
    _nothing_is_lent: lending::Apart,
}

/// Makes `admission` the current one until the guard is dropped.
pub(crate) fn enter(admission: &'static Admission) -> Entered {
    Entered { _scope: Scope::enter(&CURRENT, admission), _nothing_is_lent: lending::Apart::begin() }
}

impl Admission {
    /// The admission that belongs to `home`, closed until [`open`](Self::open).
    pub(crate) fn of(home: &'static Home, local: &Local) -> &'static Admission {
        local.layer(|| Admission {
            ledger: RefCell::new(Ledger::new([0, 0])),
            services_max: Cell::new(0),
            waiting_max: Cell::new(0),
            services_live: Cell::new(0),
            tasks_live_peak: Cell::new(0),
            waiting_peak: Cell::new(0),
            granting: TrackedCell::new(false),
            left: Cell::new([0; 2]),
            wants_left: Cell::new(false),
            free: Cell::new(None),
            desk: Box::leak(Box::new(Desk::new(home))),
            epoch: Cell::new(0),
            is_awaited: Cell::new(false),
            is_ending: Cell::new(false),
            lending: Lending::new(),
        })
    }

    /// Begins anew, for a runtime that has just taken its home.
    pub(crate) fn open(&self, limits: Limits) {
        // No more than memory could ever hold, so that nobody takes all that an unlimited one has by declaring nonsense.
        let limits = Limits { task_bytes_max: limits.task_bytes_max.min(isize::MAX as usize), ..limits };
        self.wants_left.set(false);
        if let Some(team) = self.desk.home.team() {
            team.want_places(false);
            self.left.set(team.left());
        }
        *self.ledger.borrow_mut() = Ledger::new([limits.tasks_max, limits.task_bytes_max]);
        self.services_max.set(limits.services_max);
        self.waiting_max.set(limits.waiting_max);
        self.services_live.set(0);
        self.tasks_live_peak.set(0);
        self.waiting_peak.set(0);
        self.is_awaited.set(false);
        self.is_ending.set(false);
        self.lending.open(limits.in_place_stack);
        self.epoch.set(self.desk.open(limits.foreign_max, limits.task_bytes_max));
    }

    /// This runtime, for threads that are not inside of it.
    pub(crate) fn door(&self) -> Door {
        Door { desk: self.desk, epoch: self.epoch.get() }
    }

    /// Whether it is the runtime behind `door`, and has not ended.
    pub(crate) fn is_behind(&self, door: Door) -> bool {
        std::ptr::eq(self.desk, door.desk) && self.epoch.get() == door.epoch
    }

    /// Whether several threads ask for its places.
    #[inline(always)]
    pub(crate) fn is_of_team(&self) -> bool {
        self.desk.home.team().is_some()
    }

    /// A place at once, or why not.
    #[inline(always)]
    pub(crate) fn try_admit(&self, at: (&'static Home, &Local), bytes: usize) -> Result<(), Refusal> {
        if self.desk.has_arrivals() {
            // [DESK-2] They came first; or admission was closed.
            self.line_up(at);
        }
        let mut ledger = self.ledger.borrow_mut();
        if let Err(refusal) = ledger.try_acquire([1, bytes]) {
            self.ask_trays(&mut ledger, [1, bytes], refusal)?;
        }
        self.note_live(ledger);
        Ok(())
    }

    /// As [`try_admit`](Self::try_admit), for who waits if there is no place, and then [`enqueue`](Self::enqueue)s itself before
    /// it gives the key back.
    #[inline]
    pub(crate) fn try_admit_or_wait(&self, at: (&'static Home, &Local), bytes: usize) -> Result<(), Refusal> {
        loop {
            let admitted = self.try_admit(at, bytes);
            // Asked again as often as wanting was new: whoever was let in meanwhile was told without the key, and the place
            // of another may have been left, and wanted no more.
            if admitted != Err(Refusal::Full) || !self.want_left() {
                return admitted;
            }
        }
    }

    /// A place of the services' budget, or `Full`.
    pub(crate) fn try_admit_service(&self, at: (&'static Home, &Local), bytes: usize) -> Result<(), Refusal> {
        if self.desk.has_arrivals() {
            // A close elsewhere, perhaps.
            self.line_up(at);
        }
        let mut ledger = self.ledger();
        if ledger.is_closed() {
            return Err(Refusal::Closed);
        }
        if bytes > ledger.limit()[1] {
            return Err(Refusal::ExceedsLimit);
        }
        let live = self.services_live.get();
        if live == self.services_max.get() || !ledger.try_take_more([0, bytes]) {
            return Err(Refusal::Full);
        }
        self.services_live.set(live + 1);
        Ok(())
    }

    #[inline(always)]
    fn note_live(&self, mut ledger: RefMut<'_, Line>) {
        if ledger.in_use()[0] > self.tasks_live_peak.get() {
            self.take_left(&mut ledger);
            self.tasks_live_peak.set(self.tasks_live_peak.get().max(ledger.in_use()[0]));
        }
    }

    /// The ledger as of now: what workers have left on their trays is free.
    fn ledger(&self) -> RefMut<'_, Line> {
        let mut ledger = self.ledger.borrow_mut();
        self.take_left(&mut ledger);
        ledger
    }

    /// Takes what workers have left on their trays. Who waits is granted it by the worker that left it, if need be ([TRAY-1]).
    #[inline(always)]
    fn take_left(&self, ledger: &mut Line) {
        let Some(team) = self.desk.home.team() else { return };
        let left = team.left();
        let before = self.left.replace(left);
        let units = [left[0].wrapping_sub(before[0]) & (usize::MAX >> 1), left[1].wrapping_sub(before[1])];
        if units != [0, 0] {
            ledger.release(units);
        }
    }

    /// Looks on the trays for what there seems not to be.
    #[cold]
    fn ask_trays(&self, ledger: &mut Line, units: [usize; 2], refusal: Refusal) -> Result<(), Refusal> {
        if refusal != Refusal::Full || self.desk.home.team().is_none() {
            return Err(refusal);
        }
        self.take_left(ledger);
        ledger.try_acquire(units)
    }

    /// Has whoever leaves a place on a tray give it on at once, from now on ([TRAY-1]); whether that is new.
    #[cold]
    fn want_left(&self) -> bool {
        let Some(team) = self.desk.home.team().filter(|_| !self.wants_left.get()) else { return false };
        if seeded("team_tray_adds_up_first") {
            drop(self.ledger());
        }
        self.wants_left.set(true);
        team.want_places(true);
        !seeded("team_tray_adds_up_first")
    }

    /// Lets places be left on trays again, when nobody waits, and nobody is about to: while the limit is near, each time would
    /// cost every worker's line.
    #[inline]
    fn leave_alone(&self, ledger: &Line) {
        let Some(team) = self.desk.home.team().filter(|_| self.wants_left.get()) else { return };
        let (limit, in_use) = (ledger.limit(), ledger.in_use());
        let has_room = in_use[0] <= limit[0] / 2 && in_use[1] <= limit[1] / 2;
        if has_room && ledger.waiting() == 0 && !ledger.is_closed() {
            self.wants_left.set(false);
            team.want_places(false);
        }
    }

    /// How many spawns may wait.
    #[cfg(not(anteroom_loom))]
    pub(crate) fn waiting_max(&self) -> usize {
        self.waiting_max.get()
    }

    /// Whether one more spawn may wait. A child that runs in place has a node too.
    #[inline]
    pub(crate) fn may_wait(&self) -> bool {
        self.ledger.borrow().waiting().saturating_add(self.lending.live.get()) < self.waiting_max.get()
    }

    /// A node for a spawn that must wait; [`enqueue`](Self::enqueue) puts it in line.
    #[inline]
    pub(crate) fn waiter(&self) -> &'static SpawnWaiter {
        let waiter = self.free.get().unwrap_or_else(|| self.grow());
        self.free.set(waiter.take_next());
        waiter
    }

    #[cold]
    fn grow(&self) -> &'static SpawnWaiter {
        let chunk: Box<[SpawnWaiter]> = (0..WAITERS_CHUNK).map(|_| Waiter::new(self.desk, false)).collect();
        let chunk: &'static [SpawnWaiter] = Box::leak(chunk);
        for waiter in chunk.iter().rev() {
            self.recycle(waiter);
        }
        &chunk[0]
    }

    /// Takes back a node that nobody uses.
    #[inline]
    pub(crate) fn recycle(&self, waiter: &'static SpawnWaiter) {
        waiter.key.set(None);
        if waiter.is_of_desk() {
            return self.desk.recycle(waiter);
        }
        waiter.set_next(self.free.replace(Some(waiter)));
    }

    /// Puts a spawn at the tail of the line.
    #[inline]
    pub(crate) fn enqueue(&self, local: &Local, waiter: &'static SpawnWaiter) {
        waiter.since_ns.set(local.now_ns.get());
        debug_assert!(self.wants_left.get() || self.desk.home.team().is_none(), "[TRAY-1]");
        let mut ledger = self.ledger.borrow_mut();
        let key = ledger.enqueue([1, waiter.terms().bytes], waiter);
        waiter.key.set(Some(key));
        if ledger.waiting() > self.waiting_peak.get() {
            self.waiting_peak.set(ledger.waiting());
        }
    }

    /// Takes a cancelled spawn of this thread out of line; whoever fits now is granted.
    pub(crate) fn cancel(&self, at: (&'static Home, &Local), waiter: &'static SpawnWaiter) {
        if self.desk.has_arrivals() {
            // It may be among them still.
            self.line_up(at);
        }
        self.withdraw(at, waiter);
    }

    /// As [`cancel`](Self::cancel), of one that is among the arrivals no more. It must not look at them again: threads that
    /// come and go would have this call itself, once for each.
    fn withdraw(&self, at: (&'static Home, &Local), waiter: &'static SpawnWaiter) {
        if let Some(key) = waiter.key.take() {
            let cancelled = self.ledger.borrow_mut().cancel(key);
            if cancelled.is_some() {
                self.grant(at);
            }
        }
        self.recycle(waiter);
    }

    /// Gives the place of a finished task on.
    #[inline(always)]
    pub(crate) fn release(&self, at: (&'static Home, &Local), place: Place, bytes: usize) {
        match place {
            Place::Task => self.release_units(at, [1, bytes]),
            Place::Service => {
                self.services_live.set(self.services_live.get() - 1);
                self.release_units(at, [0, bytes]);
            }
            Place::Root => {}
        }
    }

    #[inline(always)]
    fn release_units(&self, at: (&'static Home, &Local), units: [usize; 2]) {
        let waiting = {
            let mut ledger = self.ledger();
            ledger.release(units);
            self.leave_alone(&ledger);
            ledger.waiting()
        };
        if waiting != 0 {
            self.grant(at);
        }
        if self.is_awaited.get() {
            self.look_whether_drained();
        }
    }

    /// Lets in who waits for a place that was left on a tray, if they do still.
    #[cfg(feature = "stealing")]
    pub(crate) fn release_left(&self, at: (&'static Home, &Local)) {
        self.release_units(at, [0, 0]);
    }

    /// Gives a place back that holds no task.
    pub(crate) fn release_reserved(&self, at: (&'static Home, &Local), bytes: usize) {
        self.note_reserved(-1);
        self.release_units(at, [1, bytes]);
    }

    /// More bytes for a place that is held already; false if they are not free.
    pub(crate) fn add_bytes(&self, bytes: usize) -> bool {
        self.ledger().try_take_more([0, bytes])
    }

    /// The one function that grants ([ADMIT-2]): moves in whoever fits, from the head, and tells them.
    fn grant(&self, at: (&'static Home, &Local)) {
        let granting = at.0.granting(&self.granting);
        if granting.replace(true) {
            return;
        }
        loop {
            let granted = self.ledger.borrow_mut().grant();
            let Some((units, waiter)) = granted else { break };
            waiter.key.set(None);
            self.let_in(at, units, waiter);
        }
        granting.set(false);
    }

    /// Moves in who was granted `units`, and tells.
    #[inline(always)]
    fn let_in(&self, at: (&'static Home, &Local), units: [usize; 2], waiter: &'static SpawnWaiter) {
        // Before it is one: on another thread it may be over at once.
        let live = {
            let mut ledger = self.ledger.borrow_mut();
            if ledger.in_use()[0] > self.tasks_live_peak.get() {
                self.take_left(&mut ledger);
            }
            ledger.in_use()[0]
        };
        match waiter.admit(at) {
            Granted::Admitted { waker, is_task } => {
                if !is_task {
                    self.note_reserved(1);
                }
                self.tasks_live_peak.set(self.tasks_live_peak.get().max(live));
                tell(waker);
            }
            // Its node comes back over the desk; the units go to the next in line.
            Granted::Cancelled => self.ledger.borrow_mut().release(units),
        }
    }

    /// Puts those into the line who arrived from other threads, and grants.
    #[cold]
    fn line_up(&self, at: (&'static Home, &Local)) {
        if self.desk.take_close() {
            return self.close();
        }
        // Not who arrives meanwhile, so that they cannot keep us here; and one look more, which clears the flag.
        for _ in 0..=self.desk.arrivals() {
            let Some(waiter) = self.desk.arrival() else { break };
            let units = [1, waiter.terms().bytes];
            let refusal = self.try_line_up(units).err();
            match refusal {
                None => self.let_in(at, units, waiter),
                Some(Refusal::Closed) => tell(waiter.refuse(Refused::Closed)),
                // Where its frame was polled meanwhile, if by a task here, it may be offered to run.
                Some(_) if self.may_wait() => self.enqueue(at.1, waiter),
                Some(_) => tell(waiter.refuse(Refused::QueueFull)),
            }
        }
        self.take_back(at, self.desk.take_returned());
        self.grant(at);
    }

    /// A place for who came from another thread, and is [enqueued](Self::enqueue) next if there is none.
    fn try_line_up(&self, units: [usize; 2]) -> Result<(), Refusal> {
        let acquired = self.ledger().try_acquire(units);
        match acquired {
            Err(Refusal::Full) if self.want_left() => self.ledger().try_acquire(units),
            _ => acquired,
        }
    }

    /// Takes back the nodes of frames on other threads, which are linked. None is among the arrivals: those leave there.
    fn take_back(&self, at: (&'static Home, &Local), mut returned: Option<&'static SpawnWaiter>) {
        while let Some(waiter) = returned {
            returned = waiter.take_next();
            if waiter.is_cancelled() {
                self.withdraw(at, waiter);
            } else if waiter.was_lent() {
                self.end_lending(at, waiter);
            } else {
                self.recycle(waiter);
            }
        }
    }

    /// Does what other threads asked for at the desk.
    pub(crate) fn collect(&self, at: (&'static Home, &Local)) {
        if self.desk.has_arrivals() {
            self.line_up(at);
        }
        let Asked { returned, units, errands, is_awaited } = self.desk.take();
        self.take_back(at, returned);
        if units != [0, 0] {
            self.note_reserved(-(units[0] as isize));
            self.release_units(at, units);
        }
        for errand in errands {
            quietly(errand);
        }
        if is_awaited {
            self.is_awaited.set(true);
            self.look_whether_drained();
        }
    }

    /// Tells those who wait for it, if anybody does, when admission is closed and nothing that was admitted is left.
    fn look_whether_drained(&self) {
        let is_drained = {
            let ledger = self.ledger();
            ledger.is_closed() && ledger.in_use()[0] == 0
        };
        if is_drained && self.is_awaited.replace(false) {
            self.desk.drained();
        }
    }

    /// Admits nobody from now on, and tells those who wait; their futures stay with them.
    pub(crate) fn close(&self) {
        self.desk.shut();
        self.ledger.borrow_mut().close();
        // Whoever waits for the last task is told by who ends it.
        self.want_left();
        loop {
            let evicted = self.ledger.borrow_mut().evict();
            let Some(waiter) = evicted else { break };
            waiter.key.set(None);
            tell(waiter.refuse(Refused::Closed));
        }
        while let Some(waiter) = self.desk.arrival() {
            tell(waiter.refuse(Refused::Closed));
        }
        self.look_whether_drained();
    }

    /// The end begins: closes for good, also to reserved places, since a task that is made while all are cancelled might be
    /// overlooked.
    pub(crate) fn begin_end(&self) {
        self.is_ending.set(true);
        self.close();
    }

    /// Whether reserved places, too, become no tasks any more.
    pub(crate) fn is_ending(&self) -> bool {
        self.is_ending.get()
    }

    /// The end of the runtime: nothing is left that was admitted, and reservations are void.
    pub(crate) fn end(&self) {
        self.epoch.set(0);
        self.forget_limits();
        self.desk.end();
    }

    /// Calls `each` with everybody who waits, in order.
    pub(crate) fn for_each_waiting(&self, at: (&'static Home, &Local), mut each: impl FnMut(&SpawnWaiter)) {
        if self.desk.has_arrivals() {
            self.line_up(at);
        }
        for (_, waiter) in self.ledger.borrow().waiters() {
            each(waiter);
        }
    }

    /// Gives back what the line took, when it is empty; the nodes stay, for whoever may still point at them.
    pub(crate) fn trim(&self) {
        self.ledger.borrow_mut().trim();
    }

    pub(crate) fn counts(&self) -> Counts {
        let ledger = self.ledger();
        let ([tasks_max, _], [tasks_live, task_bytes]) = (ledger.limit(), ledger.in_use());
        Counts {
            tasks_max,
            tasks_live,
            tasks_live_peak: self.tasks_live_peak.get(),
            task_bytes,
            services_max: self.services_max.get(),
            services_live: self.services_live.get(),
            waiting: ledger.waiting(),
            waiting_peak: self.waiting_peak.get(),
            in_place: self.lending.live.get(),
            reserved: self.lending.reserved(),
        }
    }
}

/// Wakes a spawner. A waker of ours cannot panic; another's may, and must not break the loop that called.
#[inline(always)]
fn tell(waker: Option<Waker>) {
    if let Some(waker) = waker {
        wake_quietly(waker);
    }
}
