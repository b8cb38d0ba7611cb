//! A future that waits for admission in its spawner's frame, and the claim that decides who may move it.
//!
//! # Problem
//! The place is given on by whoever frees it, not by the spawner, which may not be polled for a long time. So the owner
//! takes the future out of a frame that is not its own, while safe code may drop that frame, or poll it, on another thread.
//!
//! # Idea
//! The frame ([`Entry`]) points at a [`Waiter`], a node that is never freed, and the node points back. A claim in the node
//! says whose the future is (or what will make one, `seed.rs`):
//!
//! | claim | the future is | next |
//! |---|---|---|
//! | `WAITING` | in the frame | the owner swaps in `TAKEN`; a drop makes it `CANCELLED`; a poll elsewhere `BUSY` |
//! | `BUSY` | in the frame, while another thread writes the waker | back to `WAITING`; or the owner swaps in `TAKEN` and leaves the waker alone |
//! | `TAKEN` | being moved by the owner, who runs no user code meanwhile | `DONE` |
//! | `DONE` | a task; `child` says which | the frame reads it and gives the node back |
//! | `REFUSED` | in the frame, for good: it will not be admitted | the same |
//! | `CANCELLED` | the frame's, which drops it | the owner takes the node out of the ledger |
//! | `LENT` | in the frame, for good: it runs there, see `in_place.rs` | the frame gives the node back when it has ended |
//!
//! Who loses against the owner waits until it is `TAKEN` no more: the owner is between a swap and a store with an
//! allocation and a copy in between; or it took the waker out, for an offer, and then the claim is `WAITING` again. A frame
//! that never leaves its thread (`spawn_local`) moves the claim by plain loads and stores.
//!
//! # Invariants
//! - [WAIT-1] While the claim is `WAITING` or `BUSY`, `frame` points into a pinned `Entry<S>` whose seed is there, and
//!   `admit` is the function for that `S`.
//! - [WAIT-2] The future is moved by exactly one: by the owner after it swapped `TAKEN` over `WAITING` or `BUSY`, or by the
//!   frame when its claim reads `CANCELLED` or `REFUSED`. It is never polled in the frame, so it may be moved.
//! - [WAIT-3] A node is recycled only by the owner, after the frame gave it back.
//!
//! # Rejected
//! A lock in each node: two locked instructions an admission that waited, where the swap is one.
//!
//! # Read next
//! `in_place.rs`, for a child that gets no room; `../admission/`, which keeps the nodes in order.

use core::cell::UnsafeCell;
use core::marker::PhantomPinned;
use core::mem::MaybeUninit;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};

use super::desk::Desk;
use super::waker::{cloned, let_go};
use super::{Header, Home, Local, Place, Seed, Site, Terms, in_place};
use crate::sync::{AtomicU32, Cell, Ordering, seeded, yield_thread};

const WAITING: u32 = 0;
const BUSY: u32 = 1;
const TAKEN: u32 = 2;
const DONE: u32 = 3;
const REFUSED: u32 = 4;
const CANCELLED: u32 = 5;
const LENT: u32 = 6;

type Admit = unsafe fn(*const (), (&'static Home, &Local), Terms) -> Option<&'static Header>;

/// The node of one waiting spawn; `K` is its key in the ledger.
pub(crate) struct Waiter<K: 'static> {
    claim: AtomicU32,
    /// Whether the frame can be on another thread.
    shared: Cell<bool>,
    frame: Cell<*const ()>,
    admit: Cell<Option<Admit>>,
    waker: Cell<Option<Waker>>,
    child: Cell<Option<&'static Header>>,
    /// What it asks for, and where it was asked.
    bytes: Cell<usize>,
    site: Cell<Option<Site>>,
    /// When it came, on the owner's clock.
    pub(crate) since_ns: Cell<u64>,
    /// Where it was parked, and its part in lending; the owner's, see `in_place.rs`.
    pub(super) lending: in_place::Node<K>,
    /// Why it was refused, when it was.
    refusal: Cell<Refused>,
    pub(crate) key: Cell<Option<K>>,
    pub(super) next: Cell<Option<&'static Waiter<K>>>,
    /// Whether it belongs to the desk, for frames elsewhere; and, under the desk's lock, where it is.
    pub(super) of_desk: bool,
    pub(super) arrival: Cell<Arrival>,
    /// The epoch of the runtime in whose count of the desk it is; 0 for none.
    pub(super) counted_in: Cell<u32>,
    desk: &'static Desk<K>,
}

/// Why a wait ended without a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    Closed,
    QueueFull,
    TooDeep,
}

/// Where the node of a frame elsewhere is, on its way to the owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// The owner has it, or nobody.
    No,
    /// It stands in the desk's line.
    Waiting,
    /// It stands there, and its frame is gone.
    Left,
}

// SAFETY: [WAIT-1] [WAIT-2] [PLACE-2] the claim says who may touch the cells: the owner, and the frame's thread where the table in
// the module's doc gives it something to do.
unsafe impl<K: Send> Sync for Waiter<K> {}

/// What became of a grant.
pub(crate) enum Granted {
    /// It has its place, and is a task now unless it asked for the place alone; wake its spawner, unless another thread is
    /// about to look for itself.
    Admitted { waker: Option<Waker>, is_task: bool },
    /// The frame had cancelled: its units go back.
    Cancelled,
}

impl<K: Copy + Send> Waiter<K> {
    /// A node that nobody uses. `of_desk` if it is for frames elsewhere.
    pub(crate) fn new(desk: &'static Desk<K>, of_desk: bool) -> Self {
        Waiter {
            claim: AtomicU32::new(DONE),
            shared: Cell::new(false),
            frame: Cell::new(core::ptr::null()),
            admit: Cell::new(None),
            waker: Cell::new(None),
            child: Cell::new(None),
            bytes: Cell::new(0),
            site: Cell::new(None),
            since_ns: Cell::new(0),
            lending: in_place::Node::new(),
            refusal: Cell::new(Refused::Closed),
            key: Cell::new(None),
            next: Cell::new(None),
            of_desk,
            arrival: Cell::new(Arrival::No),
            counted_in: Cell::new(0),
            desk,
        }
    }

    /// What it asks for; it waits.
    #[inline(always)]
    pub(crate) fn terms(&self) -> Terms {
        let site = self.site.get().expect("[WAIT-1] set with the frame");
        Terms { place: Place::Task, bytes: self.bytes.get(), site }
    }

    /// Whether its frame was dropped while it waited; read when it comes back from the desk.
    pub(crate) fn is_cancelled(&self) -> bool {
        // Ordering: Relaxed; the desk's lock came in between.
        self.claim.load(Ordering::Relaxed) == CANCELLED
    }

    /// Whether its frame ran in place until it was dropped; read when it comes back from the desk.
    pub(crate) fn was_lent(&self) -> bool {
        // Ordering: Relaxed; the desk's lock came in between.
        self.claim.load(Ordering::Relaxed) == LENT
    }

    /// Whether it belongs to the desk.
    pub(crate) fn is_of_desk(&self) -> bool {
        self.of_desk
    }

    /// Links a free node.
    pub(crate) fn set_next(&self, next: Option<&'static Waiter<K>>) {
        self.next.set(next);
    }

    /// Unlinks a free node.
    pub(crate) fn take_next(&self) -> Option<&'static Waiter<K>> {
        self.next.take()
    }

    /// The owner claims the future; what was there before.
    #[inline]
    fn claim(&self) -> u32 {
        if self.shared.get() && !seeded("claim_plain") {
            // Ordering: AcqRel; Acquire pairs with the Release of a poll elsewhere, Release with a frame that reads TAKEN.
            self.claim.swap(TAKEN, Ordering::AcqRel)
        } else {
            // Ordering: Relaxed; frame and owner are one thread.
            self.claim.load(Ordering::Relaxed)
        }
    }

    /// Moves the future out of its frame into a task. The owner has paid for its place.
    pub(crate) fn admit(&'static self, at: (&'static Home, &Local)) -> Granted {
        let before = self.claim();
        if before == CANCELLED {
            // Ordering: Relaxed; the desk's lock orders it, and nobody else reads a cancelled node.
            self.claim.store(CANCELLED, Ordering::Relaxed);
            return Granted::Cancelled;
        }
        debug_assert!(before == WAITING || before == BUSY, "[WAIT-1] claim {before}");
        let admit = self.admit.get().expect("[WAIT-1] set with the frame");
        // SAFETY: [WAIT-1] [WAIT-2] the claim was WAITING or BUSY, so the frame is there, with the future for which this
        // function was made, and the claim that has just been taken makes the future this thread's.
        let child = unsafe { admit(self.frame.get(), at, self.terms()) };
        self.child.set(child);
        let waker = if before == BUSY { None } else { self.waker.take() };
        self.settle(DONE);
        Granted::Admitted { waker, is_task: child.is_some() }
    }

    /// Tells the frame that it will never be admitted; its future stays with it.
    pub(crate) fn refuse(&'static self, why: Refused) -> Option<Waker> {
        let before = self.claim();
        if before == CANCELLED {
            // Ordering: as in `admit`.
            self.claim.store(CANCELLED, Ordering::Relaxed);
            return None;
        }
        let waker = if before == BUSY { None } else { self.waker.take() };
        self.refusal.set(why);
        self.settle(REFUSED);
        waker
    }

    /// The owner takes out the waker, to tell the frame of an offer; the frame leaves another with its next poll, as whoever
    /// was woken does. `None` if there is nobody to tell now.
    pub(crate) fn call(&'static self) -> Option<Waker> {
        if self.shared.get() {
            if !self.exchange(WAITING, TAKEN) {
                return None;
            }
            let waker = self.waker.take();
            self.settle(WAITING);
            return waker;
        }
        // Ordering: Relaxed; frame and owner are one thread.
        let waits = self.claim.load(Ordering::Relaxed) == WAITING;
        if waits { self.waker.take() } else { None }
    }

    /// The frame, which waits and is being polled on the owner's thread, begins to run in place. Who was to be woken.
    pub(super) fn lend(&self) -> Option<Waker> {
        // Ordering: Relaxed; the owner is this thread, and the frame is borrowed by the poll: nobody else looks.
        debug_assert_eq!(self.claim.load(Ordering::Relaxed), WAITING);
        self.claim.store(LENT, Ordering::Relaxed);
        self.waker.take()
    }

    /// As [`lend`](Self::lend), of a node that did not wait.
    pub(super) fn lend_fresh(&self) {
        // Ordering: Relaxed; nobody has it yet.
        self.claim.store(LENT, Ordering::Relaxed);
    }

    /// Whether the owner's thread is inside its runtime here.
    pub(crate) fn is_here(&self) -> bool {
        self.desk.home.local().is_some()
    }

    fn settle(&self, claim: u32) {
        // Ordering: Release; pairs with the Acquire in `settled`, so that the frame sees `child`, and sees its memory given
        // up: after this store the owner touches neither frame nor node.
        self.claim.store(claim, Ordering::Release);
    }

    /// How it ended, or `None` while it waits. Spins while the owner is moving the future: an allocation and a copy.
    fn settled(&self) -> Option<u32> {
        loop {
            // Ordering: Acquire; pairs with the Release in `settle`.
            match self.claim.load(Ordering::Acquire) {
                WAITING => return None,
                TAKEN => yield_thread(),
                claim => return Some(claim),
            }
        }
    }

    fn exchange(&self, from: u32, to: u32) -> bool {
        // Ordering: AcqRel; the waker that was written before, or the frame's end, is visible to the owner's swap.
        self.claim.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Gives the node back to the owner, from wherever the frame is. `None` on the owner's thread: the caller recycles it.
    #[inline]
    pub(super) fn give_back(&'static self, is_cancelled: bool) -> Option<&'static Waiter<K>> {
        if self.desk.home.local().is_some() {
            return Some(self);
        }
        self.desk.give_back(self, is_cancelled);
        None
    }
}

/// How a wait ended.
pub(crate) enum Ended<K: 'static> {
    /// It has its place: a task, unless it asked for the place alone.
    Admitted(Option<&'static Header>, Recycle<K>),
    /// It will have none; what waited is in the frame still.
    Refused(Refused, Recycle<K>),
}

/// The node that the wait used, if it is the caller's to recycle.
pub(crate) type Recycle<K> = Option<&'static Waiter<K>>;

/// A node whose frame left the line, if it is the caller's to recycle, and who was to be woken.
type Cancelled<K> = (Recycle<K>, Option<Waker>);

pub(super) enum Stage<K: 'static> {
    /// Not polled yet: the future is here. Whether it is to run in place rather than wait.
    Fresh {
        or_in_place: bool,
    },
    Waiting(&'static Waiter<K>),
    /// The future is here, and runs here.
    InPlace(&'static Waiter<K>),
    /// The future has left.
    Gone,
}

impl<K> Clone for Stage<K> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K> Copy for Stage<K> {}

/// The frame of a spawn: it holds what is to become a task until there is room.
pub(crate) struct Entry<S: Seed, K: 'static> {
    /// In a cell, because the owner moves it out behind the frame's back.
    pub(super) seed: UnsafeCell<MaybeUninit<S>>,
    /// Where the future lies, if it runs in place and not in `seed`.
    pub(super) stand: S::Stand,
    stage: Stage<K>,
    _pinned: PhantomPinned,
}

impl<S: Seed, K: Copy + Send> Entry<S, K> {
    pub(crate) fn new(seed: S) -> Self {
        let seed = UnsafeCell::new(MaybeUninit::new(seed));
        let stage = Stage::Fresh { or_in_place: false };
        Self { seed, stand: S::Stand::default(), stage, _pinned: PhantomPinned }
    }

    pub(super) fn stage(self: Pin<&mut Self>) -> &mut Stage<K> {
        // SAFETY: the stage is not pinned; only the future's place in the frame matters to others.
        unsafe { &mut self.get_unchecked_mut().stage }
    }

    pub(super) fn stage_now(&self) -> Stage<K> {
        self.stage
    }

    /// Whether nothing has happened to it yet.
    pub(crate) fn is_fresh(&self) -> bool {
        matches!(self.stage, Stage::Fresh { .. })
    }

    /// Whether it waits, or runs in place.
    #[inline(always)]
    pub(crate) fn has_node(&self) -> bool {
        matches!(self.stage, Stage::Waiting(_) | Stage::InPlace(_))
    }

    /// The node of a frame that waits.
    pub(crate) fn waits_with(&self) -> Option<&'static Waiter<K>> {
        match self.stage {
            Stage::Waiting(waiter) => Some(waiter),
            _ => None,
        }
    }

    /// Sets that it is to run in place rather than wait; it is fresh.
    pub(crate) fn or_in_place(&mut self) {
        self.stage = Stage::Fresh { or_in_place: true };
    }

    /// Whether it is fresh, and to run in place rather than wait.
    pub(crate) fn is_for_in_place(&self) -> bool {
        matches!(self.stage, Stage::Fresh { or_in_place: true })
    }

    /// What waits, while nothing has happened to it yet.
    pub(crate) fn fresh_mut(self: Pin<&mut Self>) -> Option<&mut S> {
        if !self.is_fresh() {
            return None;
        }
        // SAFETY: the seed of a fresh frame may be moved, so it may be lent out.
        let seed = unsafe { &mut self.get_unchecked_mut().seed };
        // SAFETY: [WAIT-2] fresh: the future is here and nobody else's.
        Some(unsafe { seed.get_mut().assume_init_mut() })
    }

    /// Moves the future out of a frame that does not wait; `None` if it has left.
    pub(crate) fn take(mut self: Pin<&mut Self>) -> Option<S> {
        match core::mem::replace(self.as_mut().stage(), Stage::Gone) {
            Stage::Fresh { .. } => {
                // SAFETY: [WAIT-2] fresh: the future is here and nobody else's; the stage says from now on that it is gone.
                Some(unsafe { self.seed.get().cast::<S>().read() })
            }
            other => {
                *self.stage() = other;
                None
            }
        }
    }

    /// Makes a task of what a frame that does not wait holds, as far as it is to be one. `terms` were paid for.
    ///
    /// # Panics
    /// If it is not fresh.
    #[inline(always)]
    pub(crate) fn grow(
        mut self: Pin<&mut Self>,
        at: (&'static Home, &Local),
        terms: Terms,
    ) -> Option<&'static Header> {
        assert!(self.is_fresh(), "what was here has left");
        *self.as_mut().stage() = Stage::Gone;
        let seed = self.seed.get().cast_const().cast::<S>();
        // SAFETY: [WAIT-2] it was fresh: the seed was here and nobody else's; the stage says now that it is gone.
        unsafe { S::grow(seed, at, terms) }
    }

    /// Starts to wait with `waiter`, which is free. `shared` unless the frame stays on the owner's thread.
    pub(crate) fn wait(
        mut self: Pin<&mut Self>,
        waiter: &'static Waiter<K>,
        shared: bool,
        terms: Terms,
        waker: Waker,
    ) {
        debug_assert!(self.is_fresh());
        waiter.shared.set(shared);
        waiter.frame.set(self.seed.get().cast_const().cast());
        waiter.admit.set(Some(admit::<S>));
        // Word by word: copied as a whole, what has just been written in words would have to wait for itself.
        waiter.bytes.set(terms.bytes);
        waiter.site.set(Some(terms.site));
        waiter.lending.begin(S::bytes_in_place(terms.bytes));
        waiter.child.set(None);
        waiter.waker.set(Some(waker));
        // Ordering: Release; pairs with the AcqRel steps of the other side, which finds the fields above.
        waiter.claim.store(WAITING, Ordering::Release);
        *self.as_mut().stage() = Stage::Waiting(waiter);
    }

    /// Looks whether the wait has ended; if not, `cx`'s waker is the one to wake. `None` if it does not wait at all.
    #[inline]
    pub(crate) fn poll_wait(mut self: Pin<&mut Self>, cx: &Context<'_>) -> Option<Poll<Ended<K>>> {
        let Stage::Waiting(waiter) = *self.as_mut().stage() else { return None };
        // Ordering: as in `settled`.
        if waiter.claim.load(Ordering::Acquire) != DONE {
            return self.poll_wait_on(waiter, cx);
        }
        *self.stage() = Stage::Gone;
        Some(Poll::Ready(Ended::Admitted(waiter.child.take(), waiter.give_back(false))))
    }

    /// As [`poll_wait`](Self::poll_wait), of one that was not admitted yet.
    #[inline(never)]
    fn poll_wait_on(
        self: Pin<&mut Self>,
        waiter: &'static Waiter<K>,
        cx: &Context<'_>,
    ) -> Option<Poll<Ended<K>>> {
        let claim = match waiter.settled() {
            Some(claim) => claim,
            None => {
                let is_owner = waiter.desk.home.local().is_some();
                let watched =
                    if is_owner { waiter.watch_local(cx.waker()) } else { waiter.watch_foreign(cx.waker()) };
                match watched {
                    None => return Some(Poll::Pending),
                    Some(claim) => claim,
                }
            }
        };
        Some(Poll::Ready(if claim == DONE {
            *self.stage() = Stage::Gone;
            Ended::Admitted(waiter.child.take(), waiter.give_back(false))
        } else {
            *self.stage() = Stage::Fresh { or_in_place: false };
            Ended::Refused(waiter.refusal.get(), waiter.give_back(false))
        }))
    }

    /// Ends the wait, whoever wins: afterwards the frame is fresh again, and `Ok` carries the node, which the caller takes
    /// out of the ledger if it is its to recycle, and the waker, for it to drop; or the future had just been admitted.
    pub(crate) fn cancel(mut self: Pin<&mut Self>) -> Option<Result<Cancelled<K>, Ended<K>>> {
        let Stage::Waiting(waiter) = *self.as_mut().stage() else { return None };
        if waiter.cancel() {
            *self.stage() = Stage::Fresh { or_in_place: false };
            let waker = waiter.waker.take();
            return Some(Ok((waiter.give_back(true), waker)));
        }
        let cx = Context::from_waker(Waker::noop());
        match self.poll_wait(&cx) {
            Some(Poll::Ready(ended)) => Some(Err(ended)),
            _ => unreachable!("[WAIT-2] who cannot cancel finds the wait ended"),
        }
    }
}

impl<K: Copy + Send> Waiter<K> {
    /// The frame leaves; false if the wait has ended.
    fn cancel(&self) -> bool {
        if !self.shared.get() {
            // Ordering: Relaxed; frame and owner are one thread.
            let waits = self.claim.load(Ordering::Relaxed) == WAITING;
            if waits {
                self.claim.store(CANCELLED, Ordering::Relaxed);
            }
            return waits;
        }
        while !self.exchange(WAITING, CANCELLED) {
            if self.settled().is_some() {
                return false;
            }
            // The owner only took the waker out.
        }
        true
    }

    /// The owner's thread wants to be woken, and nobody else is at the waker; the claim if the wait ended instead.
    fn watch_local(&self, new: &Waker) -> Option<u32> {
        let old = self.waker.take();
        let is_same = old.as_ref().is_some_and(|old| old.will_wake(new));
        self.waker.set(old);
        if is_same {
            return None;
        }
        // The clone is the caller's code, and may free the very place that this waits for.
        let new = cloned(new);
        let ended = self.settled();
        let old = if ended.is_none() { self.waker.replace(Some(new)) } else { Some(new) };
        let_go(old);
        ended
    }

    /// Another thread wants to be woken; the claim if the wait ended instead.
    fn watch_foreign(&self, new: &Waker) -> Option<u32> {
        let new = cloned(new);
        while !self.exchange(WAITING, BUSY) {
            let ended = self.settled();
            if ended.is_some() {
                let_go(Some(new));
                return ended;
            }
            // The owner only took the waker out, which may have been for the last time.
        }
        let old = self.waker.replace(Some(new));
        if self.exchange(BUSY, WAITING) {
            let_go(old);
            return None;
        }
        // The owner came in between and left the waker here, for nobody.
        let ended = self.settled();
        let_go(old);
        let_go(self.waker.take());
        ended
    }
}

impl<S: Seed, K: 'static> Drop for Entry<S, K> {
    fn drop(&mut self) {
        debug_assert!(
            matches!(self.stage, Stage::Fresh { .. } | Stage::Gone),
            "its front ends the wait first"
        );
        if matches!(self.stage, Stage::Fresh { .. }) {
            // SAFETY: [WAIT-2] fresh: the future is here, was never polled, and is nobody else's.
            unsafe { self.seed.get_mut().assume_init_drop() }
        }
    }
}

/// Makes a task of what lies in a frame.
///
/// # Safety
/// [WAIT-1] `frame` is where an `S` lies that is the caller's to move, and that is given up by this.
unsafe fn admit<S: Seed>(
    frame: *const (),
    at: (&'static Home, &Local),
    terms: Terms,
) -> Option<&'static Header> {
    // SAFETY: forwarded from the caller; the frame will not read it again, since its claim will be DONE.
    unsafe { S::grow(frame.cast::<S>(), at, terms) }
}
