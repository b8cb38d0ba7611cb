//! When nothing can move, who runs a child in its own place.
//!
//! # Problem
//! A limit on tasks that spawn tasks deadlocks as soon as all who have a place wait for one, or for each other: the classic
//! reason to have no limit. Nobody is wrong, only the order in which they started is.
//!
//! # Idea
//! The loop asks here before it would sleep, when nothing is runnable. Everyone with a place is *stuck* if all that it is
//! known to wait for is room, or another task. When all are, or when nobody waits for a timer, a socket or a blocking job
//! either, the first in line who has a place to lend is offered to run its child there: it is woken, and its spawn, polled,
//! takes the offer (`../task/in_place.rs`). What is not taken by the time that nothing is runnable again goes to the next.
//!
//! Why it moves: a chain of joins among finitely many stuck tasks ends at one that waits for room, and that one has a place to
//! lend or runs a child there which is itself at the end of such a chain; or the chain is a circle of joins, which no order of
//! starting helps.
//!
//! Who has no place keeps its turn in the line: the future of `block_on`, services, other threads, and whoever reserves.
//!
//! # Cost
//! Nothing while something is runnable or nobody waits for room. Else one look at a *witness*, a task that was not stuck when
//! all were looked at last. Only when it ended, or is stuck too, are all headers looked at again.
//!
//! # Bounds
//! Children in place: one a place, each inside of the one before, [`LEVELS_MAX`] at most; together with those who wait,
//! `max_waiting`. One offer stands at a time, and each who waits gets one a round; when a round was for nothing, the loop sleeps.
//!
//! # Rejected
//! To run a child in place as soon as there is no room: a loop that accepts connections would become one of them. To look for
//! circles of waiting: joins and channels of other crates are not seen, and a task may wait for several things.
//!
//! # Read next
//! `../scheduler/local.rs`, which asks.

use std::cell::Cell;

use super::{Admission, SpawnWaiter, tell};
pub(crate) use crate::task::in_place::LEVELS_MAX;
use crate::task::in_place::{Lender as InPlace, Spot as ParkedAt};
use crate::task::waiter::Refused;
use crate::task::{Header, Home, Local};

pub(crate) type Spot = ParkedAt<super::Key>;
pub(crate) type Lender = InPlace<super::Key>;

/// The part of admission that lends places.
pub(super) struct Lending {
    /// The child in place that is being polled now, the innermost.
    pub(super) lender: Cell<Option<Lender>>,
    /// Who was offered to run its child in place, and has not answered.
    offered: Cell<Option<&'static SpawnWaiter>>,
    /// Who did not take the offer of this round gets none before the next.
    round: Cell<u32>,
    /// Whether anybody took one in this round.
    was_taken: Cell<bool>,
    /// The witnesses: a task with a place that was not stuck, and one that waited for something outside.
    mover: Cell<Option<&'static Header>>,
    armed: Cell<Option<&'static Header>>,
    /// The number of the last lending, and of the last one before this runtime.
    last: Cell<u64>,
    last_before: Cell<u64>,
    /// How many children run in place.
    pub(super) live: Cell<usize>,
}

impl Lending {
    pub(super) fn new() -> Self {
        Self {
            lender: Cell::new(None),
            offered: Cell::new(None),
            round: Cell::new(1),
            was_taken: Cell::new(false),
            mover: Cell::new(None),
            armed: Cell::new(None),
            last: Cell::new(0),
            last_before: Cell::new(0),
            live: Cell::new(0),
        }
    }

    /// Begins anew, for another runtime.
    pub(super) fn open(&self) {
        self.offered.set(None);
        self.mover.set(None);
        self.armed.set(None);
        self.last_before.set(self.last.get());
        self.live.set(0);
    }

    fn next_round(&self) {
        self.round.set(self.round.get().wrapping_add(1).max(1));
        self.was_taken.set(false);
    }

    /// The offer that stands falls, and its waiter gets no other in this round.
    fn withdraw_offer(&self) {
        if let Some(waiter) = self.offered.take() {
            if waiter.node().is_offered.replace(false) {
                waiter.node().passed_in.set(self.round.get());
            }
        }
    }
}

/// Keeps a witness up to date: whether there is a header like that.
fn seen(local: &Local, witness: &Cell<Option<&'static Header>>, is_one: fn(&Header) -> bool) -> bool {
    if witness.get().is_some_and(is_one) {
        return true;
    }
    witness.set(local.table.find(is_one));
    witness.get().is_some()
}

impl Admission {
    /// Where the spawn that is being polled is parked, if it waits.
    #[inline(always)]
    pub(crate) fn spot(&self, local: &Local) -> Option<Spot> {
        Spot::here(local, self.lending.lender.get())
    }

    /// The child in place that is being polled.
    pub(crate) fn lender(&self) -> &Cell<Option<Lender>> {
        &self.lending.lender
    }

    /// Called when nothing is runnable: whether somebody was offered to run a child in its place, and is now.
    #[inline]
    pub(crate) fn unstick(&self, at: (&'static Home, &Local)) -> bool {
        self.ledger.borrow().waiting() != 0 && self.offer(at)
    }

    #[cold]
    fn offer(&self, at: (&'static Home, &Local)) -> bool {
        let lending = &self.lending;
        lending.withdraw_offer();
        if self.moves(at.1) && seen(at.1, &lending.armed, Header::is_armed) {
            lending.next_round();
            return false;
        }
        loop {
            while let Some(waiter) = self.next_to_lend() {
                if waiter.spot().is_some_and(|spot| spot.level() >= LEVELS_MAX) {
                    self.refuse(at, waiter, Refused::TooDeep);
                    return true;
                }
                match waiter.call() {
                    None => waiter.node().passed_in.set(lending.round.get()),
                    waker => {
                        waiter.node().is_offered.set(true);
                        lending.offered.set(Some(waiter));
                        tell(waker);
                        return true;
                    }
                }
            }
            let was_taken = lending.was_taken.get();
            lending.next_round();
            if !was_taken {
                return false;
            }
        }
    }

    /// Whether somebody with a place will go on, or may, for all that is known. Nobody knows who has a reserved place.
    fn moves(&self, local: &Local) -> bool {
        if seen(local, &self.lending.mover, Header::holds_and_moves) {
            return true;
        }
        let holders = Cell::new(0);
        local.table.for_each(|task| holders.set(holders.get() + usize::from(task.holds())));
        holders.get() < self.ledger.borrow().in_use()[0]
    }

    /// The first in line whose child may run in its spawner's place and was not offered to in this round.
    fn next_to_lend(&self) -> Option<&'static SpawnWaiter> {
        let ledger = self.ledger.borrow();
        let bytes_free = ledger.available()[1];
        let round = self.lending.round.get();
        let may = |waiter: &SpawnWaiter| {
            let fits =
                waiter.bytes_in_place().is_some_and(|bytes| bytes == 0 || bytes as isize <= bytes_free);
            fits && waiter.node().passed_in.get() != round
                && waiter.spot().is_some_and(|spot| spot.may_lend())
        };
        ledger.waiters().map(|(_, waiter)| *waiter).find(|waiter| may(waiter))
    }

    /// Takes a waiter out of line, who waits there.
    fn leave_line(&self, waiter: &SpawnWaiter) {
        let key = waiter.key.take().expect("it waits");
        let left = self.ledger.borrow_mut().cancel(key);
        debug_assert!(left.is_some(), "it was not granted");
    }

    /// Tells a waiter that it will not be admitted.
    fn refuse(&self, at: (&'static Home, &Local), waiter: &'static SpawnWaiter, why: Refused) {
        self.leave_line(waiter);
        tell(waiter.refuse(why));
        self.grant(at);
    }

    /// Whether the spawn of `waiter`, which is being polled, runs its child in place from now on: it was offered to, by
    /// where it was parked, and is polled there. It is in no line then, and what the child takes beyond the frame is paid for.
    pub(crate) fn take_offer(&self, at: (&'static Home, &Local), waiter: &'static SpawnWaiter) -> bool {
        let here = self.spot(at.1);
        if !waiter.node().is_offered.get() || waiter.spot() != here || !self.lend(waiter) {
            waiter.park_at(here);
            return false;
        }
        self.lending.offered.set(None);
        self.lending.was_taken.set(true);
        self.leave_line(waiter);
        self.grant(at);
        true
    }

    /// A node for a spawn that is being polled and asks to run its child in place at once, taking `bytes` beyond its frame;
    /// `None` if it may not.
    pub(crate) fn lend_at_once(&self, local: &Local, bytes: Option<usize>) -> Option<&'static SpawnWaiter> {
        if !self.may_wait() || self.is_ending() {
            return None;
        }
        let spot = self.spot(local)?;
        if spot.level() >= LEVELS_MAX {
            return None;
        }
        let waiter = self.waiter();
        waiter.node().begin(bytes);
        waiter.park_at(Some(spot));
        if self.lend(waiter) {
            return Some(waiter);
        }
        self.recycle(waiter);
        None
    }

    /// Begins to lend, if its place may be.
    fn lend(&self, waiter: &'static SpawnWaiter) -> bool {
        let Some(bytes) = waiter.bytes_in_place() else { return false };
        let may = waiter.spot().is_some_and(|spot| spot.may_lend());
        if !may || bytes != 0 && !self.add_bytes(bytes) {
            return false;
        }
        let number = self.lending.last.get() + 1;
        self.lending.last.set(number);
        waiter.begin_lending(number);
        self.lending.live.set(self.lending.live.get() + 1);
        true
    }

    /// The child in place is over, or its frame is gone: its spawner's place may be lent anew.
    pub(crate) fn end_lending(&self, at: (&'static Home, &Local), waiter: &'static SpawnWaiter) {
        let bytes = waiter.bytes_in_place().unwrap_or(0);
        let number = waiter.end_lending();
        self.recycle(waiter);
        // A frame may outlive its runtime, on another thread.
        if number > self.lending.last_before.get() {
            self.lending.live.set(self.lending.live.get() - 1);
            if bytes != 0 {
                self.release_units(at, [0, bytes]);
            }
        }
    }

    /// Whether the lending of `waiter` is of the runtime that has this home now.
    pub(crate) fn is_lent_here(&self, waiter: &'static SpawnWaiter) -> bool {
        waiter.number() > self.lending.last_before.get()
    }
}
