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
//! A group with a limit of its own ([`Limit`]) is asked the same, after the line: when all who hold its places are stuck, the
//! first who waits for one and has a place of the runtime to lend. Whoever is not of the group is offered that only if none of
//! its holders waits for room in the runtime that there will be. Its child has no place of the group then: one more than the
//! limit, in the stead of those that are stuck. A bound on these would be one more limit to be stuck at.
//!
//! Who has no place keeps its turn in the line: the future of `block_on`, services, other threads, and whoever reserves.
//!
//! # Cost
//! Nothing while something is runnable or nobody waits for room. Else one look at a *witness*, a task that was not stuck when
//! all were looked at last; when it ended, or is stuck too, all headers are looked at again, up to the last with a place. When
//! all are stuck, those few are looked at that were polled since.
//!
//! # Bounds
//! Children in place: one a place, each inside of the one before, as deep as the thread's stack allows
//! (`Builder::in_place_stack`), and [`LEVELS_MAX`] at most; together with those who wait, `max_waiting`. One offer stands at a
//! time, and each who waits gets one a round; when a round was for nothing, or too many offers of it were, made to waiters that
//! leave and come back, the loop sleeps.
//!
//! # Rejected
//! To run a child in place as soon as there is no room: a loop that accepts connections would become one of them. To look for
//! circles of waiting: joins and channels of other crates are not seen, and a task may wait for several things.
//!
//! # Read next
//! `../scheduler/local.rs`, which asks.

use std::cell::RefCell;
use std::sync::Weak;
use std::task::Waker;

use super::{Admission, Door, SpawnWaiter, tell};
use crate::sync::{Cell, thread_cells};
pub(crate) use crate::task::in_place::{LEVELS_MAX, Offer, Spawner};
use crate::task::in_place::{Lender as InPlace, Spot as ParkedAt};
use crate::task::waiter::Refused;
use crate::task::{Header, Home, Local};

pub(crate) type Spot = ParkedAt<super::Key>;
pub(crate) type Lender = InPlace<super::Key>;

/// The part of admission that lends places.
pub(super) struct Lending {
    /// The offer that was made last.
    offer: Cell<Offer>,
    /// Whether one was taken in this round, and how many nobody took.
    was_taken: Cell<bool>,
    wasted: Cell<usize>,
    /// Groups with a limit of their own for whose places somebody waits here.
    limits: RefCell<Vec<Weak<dyn Limit>>>,
    /// The witnesses: a task with a place that was not stuck, and one that waited for something outside.
    mover: Cell<Option<&'static Header>>,
    armed: Cell<Option<&'static Header>>,
    /// While all who have a place were stuck when they were looked at last: who was polled since, and so might not be.
    polled: Polled,
    /// Places that are held by reservations: nobody knows whose they are.
    reserved: Cell<usize>,
    /// How much of a stack the outermost child in place and those in it may take.
    stack_max: Cell<usize>,
    /// The number of the last lending, and of the last one before this runtime.
    last: Cell<u64>,
    last_before: Cell<u64>,
    /// How many children run in place.
    pub(super) live: Cell<usize>,
}

impl Lending {
    pub(super) fn new() -> Self {
        Self {
            offer: Cell::new(Offer { number: 1, round: 1 }),
            was_taken: Cell::new(false),
            wasted: Cell::new(0),
            limits: RefCell::new(Vec::new()),
            mover: Cell::new(None),
            armed: Cell::new(None),
            polled: Polled::new(),
            reserved: Cell::new(0),
            stack_max: Cell::new(0),
            last: Cell::new(0),
            last_before: Cell::new(0),
            live: Cell::new(0),
        }
    }

    /// Begins anew, for another runtime.
    pub(super) fn open(&self, stack_max: usize) {
        self.stack_max.set(stack_max);
        self.reserved.set(0);
        self.polled.is_on.set(false);
        self.next_round();
        self.mover.set(None);
        self.armed.set(None);
        self.last_before.set(self.last.get());
        self.live.set(0);
    }

    /// How many places are held by reservations.
    pub(super) fn reserved(&self) -> usize {
        self.reserved.get()
    }

    /// No offer stands any more, and everybody may have one again.
    fn next_round(&self) {
        let Offer { number, round } = self.offer.get();
        self.offer.set(Offer { number: number + 1, round: round + 1 });
        self.was_taken.set(false);
        self.wasted.set(0);
    }

    /// Whether another offer may be made in this round, in which so many wait. Who waits anew each time that it is told would
    /// be told for ever.
    fn may_offer(&self, waiting: usize) -> bool {
        self.wasted.get() <= 2 * waiting + WASTED_MORE
    }

    /// The next offer, which stands from now on.
    fn next_offer(&self) -> Offer {
        self.wasted.set(self.wasted.get() + 1);
        let Offer { number, round } = self.offer.get();
        self.offer.set(Offer { number: number + 1, round });
        self.offer.get()
    }
}

thread_cells! {
    /// The child in place that is being polled on this thread, the innermost.
    static LENDER: Option<Lender> = None;
    /// Where the stack stood when the outermost was polled.
    static STACK_BASE: usize = 0;
}

/// Polls a child in place, or does what else `f` is.
pub(crate) fn lending<R>(f: impl FnOnce(&Cell<Option<Lender>>) -> R) -> R {
    LENDER.with(|lender| {
        if lender.get().is_none() {
            STACK_BASE.with(|base| base.set(stack_here()));
        }
        f(lender)
    })
}

/// While it lives, no child in place is being polled, of this runtime or of one around it.
pub(super) struct Apart {
    before: Option<Lender>,
}

impl Apart {
    pub(super) fn begin() -> Self {
        Self { before: LENDER.with(|lender| lender.replace(None)) }
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        LENDER.with(|lender| lender.set(self.before));
    }
}

/// The few headers that were polled since all were looked at.
struct Polled {
    is_on: Cell<bool>,
    count: Cell<usize>,
    headers: [Cell<Option<&'static Header>>; 8],
}

impl Polled {
    fn new() -> Self {
        Self {
            is_on: Cell::new(false),
            count: Cell::new(0),
            headers: std::array::from_fn(|_| Cell::new(None)),
        }
    }

    /// Begins anew; all are stuck.
    fn begin(&self) {
        self.is_on.set(true);
        self.count.set(0);
    }

    fn note(&self, task: &'static Header) {
        let count = self.count.get();
        match self.headers.get(count) {
            Some(place) => place.set(Some(task)),
            // Too many: all are to be looked at again.
            None => self.is_on.set(false),
        }
        self.count.set(count + 1);
    }

    /// One of them that moves, if they are all that can.
    fn mover(&self) -> Option<Option<&'static Header>> {
        let noted = self.headers.get(..self.count.get()).filter(|_| self.is_on.get())?;
        Some(noted.iter().filter_map(Cell::get).find(|task| task.holds_and_moves()))
    }
}

/// A group with a limit of its own, for whose places somebody waits: what lending must know of it.
pub(crate) trait Limit {
    /// Who is to be offered to run a child in place that waits for one of its places, if anybody; the offer is noted.
    fn offer(&self, look: &Look<'_>) -> Option<Waker>;

    /// How many wait for its places in the runtime behind `door`; when nobody does, it must be
    /// [registered](Admission::register) again when somebody does.
    fn waiting(&self, door: Door) -> usize;
}

/// What a limit sees of the runtime when nothing is runnable.
pub(crate) struct Look<'a> {
    admission: &'a Admission,
    pub(crate) door: Door,
    /// Whether somebody who holds a place of the runtime will go on, so that there will be room.
    pub(crate) moves: bool,
    /// Whether anybody waits for a timer, a socket or a blocking job.
    pub(crate) is_armed: &'a dyn Fn() -> bool,
    pub(crate) offer: Offer,
}

impl Look<'_> {
    /// Whether a child parked at `spot` is to be offered to run in place, taking `bytes` beyond its frame, or told that it is
    /// one too many there; it was last made `offer`.
    pub(crate) fn may_lend(&self, spot: Option<Spot>, bytes: Option<usize>, offer: Offer) -> bool {
        let fits = bytes.is_some_and(|bytes| bytes == 0 || bytes as isize <= self.admission.bytes_free());
        // While something moves, those in line whose number is in the way may get their room.
        let is_worth_it = self.admission.may_wait() || !(self.moves && (self.is_armed)());
        fits && is_worth_it && offer.round != self.offer.round && spot.is_some_and(|spot| spot.may_lend())
    }
}

/// Who was next in line to lend.
enum Next {
    Offered(Waker),
    TooDeep(&'static SpawnWaiter),
}

/// About where the stack stands.
fn stack_here() -> usize {
    let local = 0_u8;
    (&raw const local).addr()
}

/// How many offers nobody may take in one round, beyond two for each who waits.
const WASTED_MORE: usize = 16;

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
        let lender = LENDER.with(Cell::get);
        let stack = if lender.is_some() { stack_here().abs_diff(STACK_BASE.with(Cell::get)) } else { 0 };
        Spot::here(local, lender, stack)
    }

    /// Whether a child that was spawned there could take the stack to its end.
    fn is_too_deep(&self, spot: Spot) -> bool {
        spot.level() >= LEVELS_MAX || spot.stack() >= self.lending.stack_max.get()
    }

    /// Notes a limit for whose places somebody waits here; it knows whether it was, since it was last asked who waits.
    pub(crate) fn register(&self, limit: Weak<dyn Limit>) {
        self.lending.limits.borrow_mut().push(limit);
    }

    /// Forgets all limits, on the thread that they were noted on.
    pub(super) fn forget_limits(&self) {
        self.lending.limits.borrow_mut().clear();
    }

    /// Called when nothing is runnable: whether somebody was offered to run a child in its place, and is now.
    #[inline]
    pub(crate) fn unstick(&self, at: (&'static Home, &Local)) -> bool {
        self.is_wanted() && self.offer(at)
    }

    /// Whether anybody waits for a place, as far as it may be lent.
    pub(crate) fn is_wanted(&self) -> bool {
        self.ledger.borrow().waiting() != 0 || !self.lending.limits.borrow().is_empty()
    }

    #[cold]
    fn offer(&self, at: (&'static Home, &Local)) -> bool {
        let lending = &self.lending;
        let moves = self.moves(at.1);
        // Of no interest when nobody moves, unless a group asks.
        let is_armed = || seen(at.1, &lending.armed, Header::is_armed);
        let is_quiet = !moves || !is_armed();
        let has_limits = !lending.limits.borrow().is_empty();
        if !is_quiet && !has_limits {
            lending.next_round();
            return false;
        }
        loop {
            if is_quiet && self.offer_in_line(at) || has_limits && self.offer_by_limits(moves, &is_armed) {
                return true;
            }
            let was_taken = lending.was_taken.get();
            lending.next_round();
            if !was_taken {
                return false;
            }
        }
    }

    /// Has the limits that somebody waits at make an offer; forgets the others.
    fn offer_by_limits(&self, moves: bool, is_armed: &dyn Fn() -> bool) -> bool {
        let door = self.door();
        let look = Look { admission: self, door, moves, is_armed, offer: self.lending.next_offer() };
        let mut told = None;
        // One count of offers is for all, so it is held against all who came before, too.
        let mut all = self.ledger.borrow().waiting();
        self.lending.limits.borrow_mut().retain(|limit| {
            let Some(limit) = limit.upgrade() else { return false };
            let waiting = limit.waiting(door);
            all = all.saturating_add(waiting);
            if told.is_none() && waiting > 0 && self.lending.may_offer(all) {
                told = limit.offer(&look);
            }
            waiting > 0
        });
        let is_made = told.is_some();
        tell(told);
        is_made
    }

    /// Makes an offer to the first in line whose child may run in place; or refuses one that may, but is nested too deep.
    fn offer_in_line(&self, at: (&'static Home, &Local)) -> bool {
        if !self.lending.may_offer(self.ledger.borrow().waiting()) {
            return false;
        }
        match self.next_to_lend() {
            Some(Next::Offered(waker)) => tell(Some(waker)),
            Some(Next::TooDeep(waiter)) => self.refuse(at, waiter, Refused::TooDeep),
            None => return false,
        }
        true
    }

    fn bytes_free(&self) -> isize {
        self.ledger().available()[1]
    }

    /// Whether `offer` stands; it is taken then.
    pub(crate) fn take(&self, offer: Offer) -> bool {
        let stands = offer == self.lending.offer.get();
        if stands {
            let _the_last_one_is_over = self.lending.next_offer();
            self.lending.was_taken.set(true);
            self.lending.wasted.set(0);
        }
        stands
    }

    /// Whether somebody with a place will go on, or may, for all that is known.
    fn moves(&self, local: &Local) -> bool {
        let Lending { mover, polled, reserved, .. } = &self.lending;
        if reserved.get() > 0 || mover.get().is_some_and(Header::holds_and_moves) {
            return true;
        }
        mover.set(match polled.mover() {
            Some(mover) => mover,
            None => {
                let in_use = self.ledger().in_use()[0];
                let holders = Cell::new(0);
                // Up to the last who has a place, and not all that was ever in use.
                let last = local.table.find(|task| {
                    holders.set(holders.get() + usize::from(task.holds()));
                    task.holds_and_moves() || holders.get() == in_use
                });
                last.filter(|task| task.holds_and_moves())
            }
        });
        match mover.get() {
            Some(_) => polled.is_on.set(false),
            // A team has nobody who would note whom it polls.
            None if self.desk.home.team().is_some() => {}
            None => polled.begin(),
        }
        mover.get().is_some()
    }

    /// Whether whoever is polled is to be [noted](Self::note_polled).
    #[inline(always)]
    pub(crate) fn notes_polled(&self) -> bool {
        self.lending.polled.is_on.get()
    }

    /// A task is about to be polled.
    #[cold]
    pub(crate) fn note_polled(&self, task: &'static Header) {
        self.lending.polled.note(task);
    }

    /// So many places more, or fewer, are held by reservations.
    #[inline]
    pub(crate) fn note_reserved(&self, more: isize) {
        let reserved = &self.lending.reserved;
        reserved.set(reserved.get().checked_add_signed(more).expect("each is noted once"));
    }

    /// The first in line whose child may run in its spawner's place, who was not offered to in this round, and who can be
    /// told; one look at each who waits, however many of them cannot be.
    fn next_to_lend(&self) -> Option<Next> {
        let ledger = self.ledger();
        let bytes_free = ledger.available()[1];
        let round = self.lending.offer.get().round;
        let fits = |bytes: usize| bytes == 0 || bytes as isize <= bytes_free;
        for (_, &waiter) in ledger.waiters() {
            let node = waiter.node();
            if node.offer.get().round == round || !waiter.bytes_in_place().is_some_and(fits) {
                continue;
            }
            let Some(spot) = waiter.spot().filter(Spot::may_lend) else { continue };
            if self.is_too_deep(spot) {
                return Some(Next::TooDeep(waiter));
            }
            node.offer.set(self.lending.next_offer());
            if let Some(waker) = waiter.call() {
                return Some(Next::Offered(waker));
            }
        }
        None
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
        // Without the key, while its last waker was dropped, it may have been let in; then it was told.
        let waits = waiter.key.get().is_some();
        let stands = waits && waiter.node().offer.get() == self.lending.offer.get();
        if !stands || waiter.spot() != here || !self.lend(waiter) {
            waiter.park_at(here);
            return false;
        }
        let _was_standing = self.take(waiter.node().offer.get());
        self.leave_line(waiter);
        self.grant(at);
        true
    }

    /// Whether the spawn that is being polled, which waits for a place of a group and was made `offer`, runs its child in
    /// place from now on, or is one too many there.
    pub(crate) fn answer(&self, local: &Local, bytes: Option<usize>, offer: Offer) -> Result<bool, Refused> {
        if self.may_lend_here(local, bytes) {
            return Ok(self.take(offer));
        }
        let spot = self.spot(local).filter(|spot| spot.may_lend());
        let why = match spot {
            Some(spot) if self.is_too_deep(spot) => Refused::TooDeep,
            Some(_) if !self.may_wait() => Refused::QueueFull,
            _ => return Ok(false),
        };
        if self.take(offer) { Err(why) } else { Ok(false) }
    }

    /// Whether a spawn that is being polled may run its child in place now.
    pub(crate) fn may_lend_here(&self, local: &Local, bytes: Option<usize>) -> bool {
        let may = |spot: Spot| !self.is_too_deep(spot) && spot.may_lend();
        bytes.is_some_and(|bytes| bytes == 0 || bytes as isize <= self.bytes_free())
            && self.may_wait()
            && !self.is_ending()
            && self.spot(local).is_some_and(may)
    }

    /// A node for a spawn that is being polled and asks to run its child in place at once, taking `bytes` beyond its frame;
    /// `None` if it may not.
    pub(crate) fn lend_at_once(&self, local: &Local, bytes: Option<usize>) -> Option<&'static SpawnWaiter> {
        if !self.may_lend_here(local, bytes) {
            return None;
        }
        let waiter = self.waiter();
        waiter.node().begin(bytes);
        waiter.park_at(self.spot(local));
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
