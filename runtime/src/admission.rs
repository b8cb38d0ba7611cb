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
//! Live tasks: `max_tasks`, and their futures' bytes `max_task_bytes`; services: `service_tasks`. Waiting spawns: as many
//! as there are frames that hold them; a node each, recycled and never given back; `max_waiting` bounds them.
//!
//! # Invariants
//! - [ADMIT-1] No user code runs while the ledger is borrowed: wakers are taken out under the borrow and woken after it.
//! - [ADMIT-2] Every path that returns units ends in [`Admission::grant`]: release, cancel, a node from the desk, close.
//! - [ADMIT-3] One grant loop runs at a time; a nested call leaves its work to the outer one.
//!
//! # Rejected
//! Waking the spawner so that it spawns itself: the place stands empty until it is polled, and a spawner that is never
//! polled again keeps it empty for ever.
//!
//! # Read next
//! `spawn.rs`, the front door.

use std::cell::{Cell, RefCell};
use std::task::Waker;

use anteroom_limiter::Ledger;
pub(crate) use anteroom_limiter::{Key, Refusal};
#[cfg(not(anteroom_loom))]
pub(crate) use anteroom_limiter::{OwnedPermit, Semaphore};

use crate::sync::{Scope, scoped_local};
use crate::task::waiter::{Desk, Granted, Waiter};
use crate::task::{Home, Local, Place, quietly};

/// A node of a waiting spawn, with its key in the ledger.
pub(crate) type SpawnWaiter = Waiter<Key>;

/// How many nodes are made at a time.
const WAITERS_CHUNK: usize = if cfg!(anteroom_loom) { 2 } else { 64 };

/// What one runtime admits at most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) tasks_max: usize,
    pub(crate) task_bytes_max: usize,
    pub(crate) services_max: usize,
    /// Spawns that may wait at once.
    pub(crate) waiting_max: usize,
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
}

/// Admission to one runtime; the owner's alone.
pub(crate) struct Admission {
    ledger: RefCell<Ledger<&'static SpawnWaiter, 2>>,
    services_max: Cell<usize>,
    waiting_max: Cell<usize>,
    services_live: Cell<usize>,
    tasks_live_peak: Cell<usize>,
    waiting_peak: Cell<usize>,
    granting: Cell<bool>,
    free: Cell<Option<&'static SpawnWaiter>>,
    desk: &'static Desk<Key>,
}

scoped_local! {
    /// Admission of the runtime that this thread is inside of.
    static CURRENT: Admission;
}

/// Admission of the runtime that this thread is inside of, if any.
#[inline(always)]
pub(crate) fn current() -> Option<&'static Admission> {
    CURRENT.with(Cell::get)
}

/// Makes `admission` the current one until the guard is dropped.
pub(crate) fn enter(admission: &'static Admission) -> Scope<Admission> {
    Scope::enter(&CURRENT, admission)
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
            granting: Cell::new(false),
            free: Cell::new(None),
            desk: Box::leak(Box::new(Desk::new(home))),
        })
    }

    /// Begins anew, for a runtime that has just taken its home.
    pub(crate) fn open(&self, limits: Limits) {
        *self.ledger.borrow_mut() = Ledger::new([limits.tasks_max, limits.task_bytes_max]);
        self.services_max.set(limits.services_max);
        self.waiting_max.set(limits.waiting_max);
        self.services_live.set(0);
        self.tasks_live_peak.set(0);
        self.waiting_peak.set(0);
    }

    /// A place at once, or why not.
    #[inline(always)]
    pub(crate) fn try_admit(&self, future_bytes: usize) -> Result<(), Refusal> {
        let mut ledger = self.ledger.borrow_mut();
        ledger.try_acquire([1, future_bytes])?;
        self.note_live(ledger.in_use()[0]);
        Ok(())
    }

    /// A place of the services' budget, or `Full`.
    pub(crate) fn try_admit_service(&self) -> Result<(), Refusal> {
        if self.ledger.borrow().is_closed() {
            return Err(Refusal::Closed);
        }
        let live = self.services_live.get();
        if live == self.services_max.get() {
            return Err(Refusal::Full);
        }
        self.services_live.set(live + 1);
        Ok(())
    }

    #[inline(always)]
    fn note_live(&self, live: usize) {
        if live > self.tasks_live_peak.get() {
            self.tasks_live_peak.set(live);
        }
    }

    /// Whether one more spawn may wait.
    #[inline]
    pub(crate) fn may_wait(&self) -> bool {
        self.ledger.borrow().waiting() < self.waiting_max.get()
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
        let chunk: Box<[SpawnWaiter]> = (0..WAITERS_CHUNK).map(|_| self.desk.waiter()).collect();
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
        waiter.set_next(self.free.replace(Some(waiter)));
    }

    /// Puts a spawn at the tail of the line.
    #[inline]
    pub(crate) fn enqueue(&self, future_bytes: usize, waiter: &'static SpawnWaiter) {
        let mut ledger = self.ledger.borrow_mut();
        let key = ledger.enqueue([1, future_bytes], waiter);
        waiter.key.set(Some(key));
        if ledger.waiting() > self.waiting_peak.get() {
            self.waiting_peak.set(ledger.waiting());
        }
    }

    /// Takes a cancelled spawn out of line; whoever fits now is granted.
    pub(crate) fn cancel(&self, at: (&'static Home, &Local), waiter: &'static SpawnWaiter) {
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
    pub(crate) fn release(&self, at: (&'static Home, &Local), place: Place, future_bytes: usize) {
        match place {
            Place::Task => {
                let waiting = {
                    let mut ledger = self.ledger.borrow_mut();
                    ledger.release([1, future_bytes]);
                    ledger.waiting()
                };
                if waiting != 0 {
                    self.grant(at);
                }
            }
            Place::Service => self.services_live.set(self.services_live.get() - 1),
            Place::Root => {}
        }
    }

    /// The one function that grants ([ADMIT-2]): moves in whoever fits, from the head, and tells them.
    fn grant(&self, at: (&'static Home, &Local)) {
        if self.granting.replace(true) {
            return;
        }
        loop {
            let granted = self.ledger.borrow_mut().grant();
            let Some((units, waiter)) = granted else { break };
            waiter.key.set(None);
            match waiter.admit(at) {
                Granted::Admitted(waker) => {
                    self.note_live(self.ledger.borrow().in_use()[0]);
                    tell(waker);
                }
                // Its node comes back over the desk; the units go to the next in line.
                Granted::Cancelled => self.ledger.borrow_mut().release(units),
            }
        }
        self.granting.set(false);
    }

    /// Looks at the nodes that frames on other threads gave back.
    pub(crate) fn collect(&self, at: (&'static Home, &Local)) {
        while let Some(waiter) = self.desk.take() {
            if waiter.is_cancelled() {
                self.cancel(at, waiter);
            } else {
                self.recycle(waiter);
            }
        }
    }

    /// Admits nobody from now on, and tells those who wait; their futures stay with them.
    pub(crate) fn close(&self) {
        self.ledger.borrow_mut().close();
        loop {
            let evicted = self.ledger.borrow_mut().evict();
            let Some(waiter) = evicted else { break };
            waiter.key.set(None);
            tell(waiter.refuse());
        }
    }

    /// Gives back what the line took, when it is empty; the nodes stay, for whoever may still point at them.
    pub(crate) fn trim(&self) {
        self.ledger.borrow_mut().trim();
    }

    pub(crate) fn counts(&self) -> Counts {
        let ledger = self.ledger.borrow();
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
        }
    }
}

/// Wakes a spawner. A waker of ours cannot panic; another's may, and must not break the loop that called.
#[inline(always)]
fn tell(waker: Option<Waker>) {
    if let Some(waker) = waker {
        quietly(|| waker.wake());
    }
}
