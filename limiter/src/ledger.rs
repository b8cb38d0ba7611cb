//! The one permit logic: how much may be in use, how much is, and who waits for the rest.
//!
//! # Problem
//!
//! A counter with a list beside it goes wrong at the joints. A waiter gives up just as it is served, and its units are
//! lost. The limit shrinks below what is in use, and a later growth hands out the debt a second time. A large request
//! at the head leaves, and the small ones behind it, which would fit, sleep on.
//!
//! # Idea
//!
//! Plain data, no lock, no waker, no clock: every shell (an atomic word, an owner's cell, a mutex) drives this one value.
//!
//! ```text
//!              enqueue                        grant: the ONLY way out that takes units
//!   caller ───────────────► tail ... head ───────────────► in_use += units
//!                             │        │
//!                     cancel ◄┘        └► evict (after close): the waiter is told that it will never be served
//!
//!   release, set_limit, cancel: make room, and grant nobody themselves. Their caller loops on grant.
//!   charge: takes beyond the limit. reenter: the head of the queue, behind those who came back before.
//! ```
//!
//! `limit` and `in_use` are the two facts. What is available is their difference, computed when asked for, so a resize
//! is one assignment and a debt cannot be forgotten.
//!
//! # Invariants
//!
//! - `[LEDGER-1]` A request is admitted only while `in_use + units <= limit` holds in every dimension that it asks for,
//!   all dimensions together or none. (Who comes back with more than the limit is let in alone; and [`Ledger::charge`] asks
//!   nobody: it is for those who are in.)
//! - `[LEDGER-2]` Grants are in the order of arrival, those who come back before those who come. While anyone waits, nobody
//!   who comes later is served.
//! - `[LEDGER-3]` Units are conserved: `in_use` is what was acquired and granted, less what was released.
//! - `[LEDGER-4]` A key opens its own waiter or nothing, however often its place in the slab was reused.
//! - `[LEDGER-5]` Closed is absorbing: no acquisition and no grant happens after [`Ledger::close`], except to who was in
//!   before and comes back.
//! - `[LEDGER-6]` No arithmetic wraps: a unit is added only into room that was measured, and taken only from units that
//!   are there.
//!
//! # Rejected
//!
//! - *A mutable `available` counter.* After "5 in use, limit to 2, then 4" it must remember a debt of 3, and every
//!   implementation that kept it as a second fact has got that sequence wrong at least once.
//! - *Filling the head's request bit by bit.* A waiter that holds part of its units starves others and must give the
//!   part back when it leaves; two of them in two dimensions deadlock.
//! - *Overtaking the head with whatever fits.* More throughput, and a large request waits for ever.
//! - *An intrusive list of the waiters' own frames.* Saves the slab, costs unsafe code and a pin.
//!
//! # Read next
//!
//! `semaphore`, the shell of an atomic word and a lock.

use std::error::Error;
use std::fmt;

use slab::Slab;

/// The bit of the stamps of those who come back: they have an order of their own, before everybody else.
const BACK: u64 = 1 << 63;

/// The end of a list. A slab never gets this far: its entries would not fit into the address space.
const NONE: usize = usize::MAX;

/// How much may be in use at once, how much is, and a first-in first-out queue of those who wait for the rest.
///
/// `D` is the number of dimensions (say, tasks and bytes): a request names an amount in each and gets all or none.
/// `W` is whatever the caller needs to reach a waiter: a waker, an index, a parked future. The ledger only carries it.
///
/// The ledger decides and wakes nobody. After [`release`](Self::release), [`set_limit`](Self::set_limit),
/// [`cancel`](Self::cancel), and after an [`enqueue`](Self::enqueue) that might fit at once, the caller runs the *grant
/// loop* until it is dry:
///
/// ```
/// use anteroom_limiter::ledger::{Ledger, Refusal};
///
/// let mut ledger = Ledger::new([2]);
/// ledger.try_acquire([2]).unwrap();
/// assert_eq!(ledger.try_acquire([1]), Err(Refusal::Full));
/// let _key = ledger.enqueue([1], "alice");
/// let _key = ledger.enqueue([1], "bob");
///
/// ledger.release([2]);
/// let mut told = Vec::new();
/// while let Some((_units, waiter)) = ledger.grant() {
///     told.push(waiter);
/// }
/// assert_eq!(told, ["alice", "bob"]);
/// assert_eq!(ledger.in_use(), [2]);
/// ```
///
/// # Bounds
///
/// Every operation is O(1) in the number of waiters, and O(`D`). The ledger holds one slab entry for each waiter. The
/// slab keeps the room of the most that ever waited at once, so a warm ledger allocates nothing; [`Ledger::trim`] gives
/// it back. How many may wait is the caller's bound to set: [`waiting`](Self::waiting) before `enqueue`.
///
/// A limit of `usize::MAX` in a dimension means that it is not limited.
pub struct Ledger<W, const D: usize = 1> {
    limit: [usize; D],
    in_use: [usize; D],
    /// First and last waiter, or [`NONE`] both.
    head: usize,
    tail: usize,
    /// The last of those who come back, who stand before all others, or [`NONE`].
    last_back: usize,
    closed: bool,
    /// The stamp of the newest waiter ever, and of the newest that was granted.
    last_enqueued: u64,
    last_granted: u64,
    /// The newest that was granted of those who came back.
    last_granted_back: u64,
    waiters: Slab<Entry<W, D>>,
}

/// A waiter in the queue, linked by index to its neighbours.
struct Entry<W, const D: usize> {
    units: [usize; D],
    stamp: u64,
    prev: usize,
    next: usize,
    waiter: W,
}

/// Names one waiter of one [`Ledger`], for as long as it waits.
///
/// A key outlives its waiter harmlessly: it carries the waiter's stamp, which is never used again (at one enqueue a
/// nanosecond, not for 584 years), so a stale key is refused. A key of another ledger means nothing here.
///
/// ```
/// use anteroom_limiter::ledger::Ledger;
///
/// let mut ledger = Ledger::new([1]);
/// let stale = ledger.enqueue([1], "alice");
/// assert_eq!(ledger.grant(), Some(([1], "alice")));
/// let _key = ledger.enqueue([1], "bob"); // takes alice's place in memory
/// assert_eq!(ledger.cancel(stale), None);
/// assert_eq!(ledger.waiting(), 1);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    index: usize,
    stamp: u64,
}

/// Why [`Ledger::try_acquire`] took nothing.
///
/// ```
/// use anteroom_limiter::ledger::{Ledger, Refusal};
///
/// let mut ledger: Ledger<()> = Ledger::new([3]);
/// assert_eq!(ledger.try_acquire([4]), Err(Refusal::ExceedsLimit));
/// ledger.close();
/// assert_eq!(ledger.try_acquire([1]), Err(Refusal::Closed));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There are not enough units now.
    Full,
    /// There is room, but others wait, and nobody overtakes them.
    Queued,
    /// The ledger is closed, for good.
    Closed,
    /// The request is larger than the limit itself: no release could ever make room for it.
    ExceedsLimit,
}

impl<W, const D: usize> Ledger<W, D> {
    /// What a waiter takes, in bytes, in a table that doubles when it is full: for whoever adds up a worst case.
    ///
    /// ```
    /// # use anteroom_limiter::ledger::Ledger;
    /// assert!(Ledger::<u64>::WAITING_BYTES >= 40);
    /// ```
    pub const WAITING_BYTES: usize = size_of::<Entry<W, D>>() + size_of::<usize>();

    /// An open ledger with nothing in use and nobody waiting. Allocates nothing.
    ///
    /// A limit of zero is legal here and admits nothing; the shells refuse it.
    ///
    /// ```
    /// use anteroom_limiter::ledger::Ledger;
    ///
    /// let tasks_and_bytes: Ledger<(), 2> = Ledger::new([4_096, usize::MAX]);
    /// assert_eq!(tasks_and_bytes.limit(), [4_096, usize::MAX]);
    /// ```
    #[inline]
    pub const fn new(limit: [usize; D]) -> Self {
        const { assert!(D > 0, "a ledger needs a dimension") };
        Self {
            limit,
            in_use: [0; D],
            head: NONE,
            tail: NONE,
            last_back: NONE,
            closed: false,
            last_enqueued: 0,
            last_granted: 0,
            last_granted_back: BACK,
            waiters: Slab::new(),
        }
    }

    /// Takes `units` if they fit and nobody waits.
    ///
    /// A request for nothing in some dimension always fits there, even when a shrink has left that dimension in debt.
    ///
    /// ```
    /// use anteroom_limiter::ledger::{Ledger, Refusal};
    ///
    /// let mut ledger: Ledger<(), 2> = Ledger::new([2, 100]);
    /// assert_eq!(ledger.try_acquire([1, 80]), Ok(()));
    /// assert_eq!(ledger.try_acquire([1, 80]), Err(Refusal::Full)); // all dimensions or none
    /// assert_eq!(ledger.in_use(), [1, 80]);
    /// ```
    ///
    /// # Errors
    ///
    /// [`Refusal`] says why, in this order of precedence: `Closed`, `ExceedsLimit`, `Full`, `Queued`. Nothing was taken.
    #[inline]
    pub fn try_acquire(&mut self, units: [usize; D]) -> Result<(), Refusal> {
        if self.head == NONE && !self.closed && self.fits(&units) {
            self.take(&units);
            Ok(())
        } else {
            Err(self.refusal(&units))
        }
    }

    /// Takes more units for someone who holds some already, if they are there. It is nobody's turn that is taken: the queue
    /// and [`close`](Self::close) are about those who hold nothing yet. Whether it did.
    ///
    /// ```
    /// use anteroom_limiter::ledger::Ledger;
    ///
    /// let mut ledger = Ledger::new([4]);
    /// ledger.try_acquire([2]).unwrap();
    /// let _key = ledger.enqueue([4], "waits for all");
    /// assert!(ledger.try_take_more([2]) && !ledger.try_take_more([1]));
    /// assert_eq!(ledger.in_use(), [4]);
    /// ```
    #[inline]
    #[must_use = "whether the units are in use now"]
    pub fn try_take_more(&mut self, units: [usize; D]) -> bool {
        let fits = self.fits(&units);
        if fits {
            self.take(&units);
        }
        fits
    }

    /// Puts a waiter at the tail of the queue. Whoever may fit at once is served by the grant loop, not by this.
    ///
    /// A request above the limit is legal, and waits at the head until the limit has grown or it is cancelled, as one
    /// does whose limit shrank after it came. [`try_acquire`](Self::try_acquire) tells the two apart beforehand.
    ///
    /// ```
    /// use anteroom_limiter::ledger::Ledger;
    ///
    /// let mut ledger = Ledger::new([1]);
    /// let key = ledger.enqueue([1], "alice");
    /// assert_eq!(ledger.get_mut(key), Some(&mut "alice"));
    /// ```
    ///
    /// # Panics
    ///
    /// With debug assertions, if the ledger is closed: nobody would ever tell that waiter.
    #[inline]
    #[must_use = "the key is the only way to cancel this waiter"]
    pub fn enqueue(&mut self, units: [usize; D], waiter: W) -> Key {
        debug_assert!(!self.closed, "enqueue on a closed ledger: nobody would tell this waiter");
        self.last_enqueued += 1; // [LEDGER-6] 584 years at one a nanosecond.
        let stamp = self.last_enqueued;
        let index = self.waiters.insert(Entry { units, stamp, prev: self.tail, next: NONE, waiter });
        match self.tail {
            NONE => self.head = index,
            tail => self.waiters[tail].next = index,
        }
        self.tail = index;
        Key { index, stamp }
    }

    /// Takes `units` whether they fit or not: for who is in, and finds that it takes more than it asked for.
    ///
    /// Nobody is granted until the debt is paid. What would be more than `usize::MAX` in use is not counted; the answer is
    /// what was.
    ///
    /// ```
    /// use anteroom_limiter::ledger::{Ledger, Refusal};
    ///
    /// let mut ledger: Ledger<()> = Ledger::new([4]);
    /// ledger.try_acquire([1]).unwrap(); // an estimate
    /// assert_eq!(ledger.charge([5]), [5]); // what it was
    /// assert_eq!(ledger.available(), [-2]);
    /// ledger.release([2]);
    /// assert_eq!(ledger.try_acquire([1]), Err(Refusal::Full));
    /// ```
    #[inline]
    pub fn charge(&mut self, units: [usize; D]) -> [usize; D] {
        std::array::from_fn(|d| {
            let charged = units[d].min(usize::MAX - self.in_use[d]);
            self.in_use[d] += charged; // [LEDGER-6] It was measured a line above.
            charged
        })
    }

    /// Takes `units` back for one who was in, gave them back for a while with [`release`](Self::release), and returns: at
    /// once if they fit and nobody else comes back; else `waiter` stands before all who wait for the first time, and behind
    /// those who came back before. A closed ledger, too, lets those in who were.
    ///
    /// Who comes back with more than the limit, which has shrunk meanwhile, is let in when nothing else is in use.
    ///
    /// ```
    /// use anteroom_limiter::ledger::Ledger;
    ///
    /// let mut ledger = Ledger::new([1]);
    /// ledger.try_acquire([1]).unwrap();
    /// let _key = ledger.enqueue([1], "alice");
    /// ledger.release([1]); // she who was in waits for something else meanwhile
    /// assert_eq!(ledger.grant(), Some(([1], "alice")));
    /// let _key = ledger.enqueue([1], "bob");
    ///
    /// let back = ledger.reenter([1], "carol").err();
    /// assert!(back.is_some()); // it is full: she waits, before bob
    /// ledger.release([1]);
    /// assert_eq!(ledger.grant(), Some(([1], "carol")));
    /// ```
    ///
    /// # Errors
    ///
    /// The key of the waiter, if it waits.
    pub fn reenter(&mut self, units: [usize; D], waiter: W) -> Result<W, Key> {
        if self.last_back == NONE && self.fits_back(&units) {
            self.charge(units);
            return Ok(waiter);
        }
        self.last_enqueued += 1; // [LEDGER-6] As in `enqueue`.
        let stamp = self.last_enqueued | BACK;
        let (prev, next) = match self.last_back {
            NONE => (NONE, self.head),
            last => (last, self.waiters[last].next),
        };
        let index = self.waiters.insert(Entry { units, stamp, prev, next, waiter });
        match prev {
            NONE => self.head = index,
            prev => self.waiters[prev].next = index,
        }
        match next {
            NONE => self.tail = index,
            next => self.waiters[next].prev = index,
        }
        self.last_back = index;
        Err(Key { index, stamp })
    }

    /// Takes a waiter out of the queue and gives it back; `None` if it no longer waits.
    ///
    /// Whoever waited behind it may now fit: **run the grant loop afterwards.**
    ///
    /// ```
    /// use anteroom_limiter::ledger::Ledger;
    ///
    /// let mut ledger = Ledger::new([3]);
    /// ledger.try_acquire([1]).unwrap();
    /// let large = ledger.enqueue([3], "large");
    /// let _small = ledger.enqueue([1], "small");
    /// assert_eq!(ledger.grant(), None); // nobody overtakes the head
    /// assert_eq!(ledger.cancel(large), Some("large"));
    /// assert_eq!(ledger.grant(), Some(([1], "small")));
    /// ```
    #[inline]
    #[must_use = "None means that it no longer waited: if it was granted, its units are still in use"]
    pub fn cancel(&mut self, key: Key) -> Option<W> {
        // [LEDGER-4]
        match self.waiters.get(key.index) {
            Some(entry) if entry.stamp == key.stamp => Some(self.unlink(key.index).waiter),
            _ => None,
        }
    }

    /// What the caller stored for a waiter, while it waits.
    ///
    /// ```
    /// use anteroom_limiter::ledger::Ledger;
    ///
    /// let mut ledger = Ledger::new([1]);
    /// let key = ledger.enqueue([1], "alice");
    /// *ledger.get_mut(key).unwrap() = "alice, at her new address";
    /// assert_eq!(ledger.grant(), Some(([1], "alice, at her new address")));
    /// assert_eq!(ledger.get_mut(key), None);
    /// ```
    #[inline]
    #[must_use]
    pub fn get_mut(&mut self, key: Key) -> Option<&mut W> {
        // [LEDGER-4]
        match self.waiters.get_mut(key.index) {
            Some(entry) if entry.stamp == key.stamp => Some(&mut entry.waiter),
            _ => None,
        }
    }

    /// Whether [`grant`](Self::grant) has served this waiter. Not to be asked about a key that was cancelled.
    ///
    /// Nothing is stored for those who were served. Grants are in the order of arrival, so every stamp up to the newest
    /// granted one was granted (or cancelled by its owner, who knows), and every later one still waits, or was evicted,
    /// since no grant follows a close. So a waiter learns its fate from its own key and one number.
    ///
    /// ```
    /// # use anteroom_limiter::ledger::Ledger;
    /// let mut ledger = Ledger::new([1]);
    /// let (alice, bob) = (ledger.enqueue([1], "alice"), ledger.enqueue([1], "bob"));
    /// assert_eq!(ledger.grant(), Some(([1], "alice")));
    /// assert!(ledger.was_granted(alice) && !ledger.was_granted(bob));
    /// ```
    #[inline]
    #[must_use]
    pub fn was_granted(&self, key: Key) -> bool {
        // [LEDGER-2], [LEDGER-5]
        if key.stamp & BACK == 0 {
            key.stamp <= self.last_granted
        } else {
            key.stamp <= self.last_granted_back
        }
    }

    /// Gives units back. **Run the grant loop afterwards.**
    ///
    /// ```
    /// use anteroom_limiter::ledger::Ledger;
    ///
    /// let mut ledger: Ledger<()> = Ledger::new([2]);
    /// ledger.try_acquire([2]).unwrap();
    /// ledger.release([1]);
    /// assert_eq!(ledger.in_use(), [1]);
    /// ```
    ///
    /// # Panics
    ///
    /// If more is released than is in use, in any dimension; nothing is changed then.
    #[inline]
    pub fn release(&mut self, units: [usize; D]) {
        // All dimensions before any, so that the panic leaves the ledger as it was.
        for (used, asked) in self.in_use.iter().zip(&units) {
            assert!(asked <= used, "released more units than are in use");
        }
        for (used, asked) in self.in_use.iter_mut().zip(&units) {
            *used -= asked; // [LEDGER-6] asked <= used, asserted above.
        }
    }

    /// Changes the limit, up or down, also below what is in use. **Run the grant loop afterwards.**
    ///
    /// Nothing is taken from anyone. After a shrink [`available`](Self::available) is negative until enough was released.
    /// A waiter that asked for more than the new limit stays where it is, and holds up those behind it, until the limit
    /// has grown again or it is cancelled: it was promised its turn.
    ///
    /// ```
    /// use anteroom_limiter::ledger::{Ledger, Refusal};
    ///
    /// let mut ledger: Ledger<()> = Ledger::new([5]);
    /// ledger.try_acquire([5]).unwrap();
    /// ledger.set_limit([2]);
    /// assert_eq!(ledger.available(), [-3]);
    /// ledger.set_limit([4]);
    /// ledger.release([1]);
    /// assert_eq!(ledger.try_acquire([1]), Err(Refusal::Full)); // 4 of 4: the debt was not forgotten
    /// ```
    #[inline]
    pub fn set_limit(&mut self, limit: [usize; D]) {
        self.limit = limit;
    }

    /// The one function that grants: takes the oldest waiter out of the queue, if all that it asked for fits, and counts
    /// its units as in use.
    ///
    /// The caller tells the waiter, with no borrow of the ledger left, and calls again, until `None`. From then on the
    /// units belong to that waiter: if it is gone, the caller releases them.
    ///
    /// ```
    /// use anteroom_limiter::ledger::Ledger;
    ///
    /// let mut ledger = Ledger::new([4]);
    /// let _key = ledger.enqueue([3], "large");
    /// let _key = ledger.enqueue([2], "small");
    /// assert_eq!(ledger.grant(), Some(([3], "large")));
    /// assert_eq!(ledger.grant(), None); // 2 do not fit
    /// ```
    #[inline(always)]
    #[must_use = "these units are in use from now on: tell the waiter, or release them"]
    pub fn grant(&mut self) -> Option<([usize; D], W)> {
        // The common case first, since every release asks: nobody waits.
        if self.head == NONE {
            return None;
        }
        if self.last_back != NONE {
            return self.grant_back();
        }
        if self.closed || !self.fits(&self.waiters[self.head].units) {
            return None;
        }
        let Entry { units, stamp, waiter, .. } = self.unlink_head();
        debug_assert!(stamp > self.last_granted, "[LEDGER-2] grants are in the order of arrival");
        self.last_granted = stamp;
        self.take(&units);
        Some((units, waiter))
    }

    /// As [`grant`](Self::grant), when the head is one who comes back.
    #[cold]
    fn grant_back(&mut self) -> Option<([usize; D], W)> {
        if !self.fits_back(&self.waiters[self.head].units) {
            return None;
        }
        let Entry { units, stamp, waiter, .. } = self.unlink(self.head);
        debug_assert!(stamp > self.last_granted_back, "[LEDGER-2] those who come back are in order, too");
        self.last_granted_back = stamp;
        self.charge(units); // It may be more than the limit.
        Some((units, waiter))
    }

    /// Ends admission for good. What is in use stays in use until it is released.
    ///
    /// Those who still wait will never be granted: **loop on [`evict`](Self::evict) afterwards, and tell them.** Only who
    /// was in and comes back ([`reenter`](Self::reenter)) is granted still.
    ///
    /// ```
    /// use anteroom_limiter::ledger::Ledger;
    ///
    /// let mut ledger = Ledger::new([1]);
    /// let _key = ledger.enqueue([1], "alice");
    /// ledger.close();
    /// assert!(ledger.is_closed());
    /// assert_eq!(ledger.grant(), None);
    /// assert_eq!(ledger.evict(), Some("alice"));
    /// assert_eq!(ledger.evict(), None);
    /// ```
    #[inline]
    pub fn close(&mut self) {
        self.closed = true;
    }

    /// Whether [`close`](Self::close) was called.
    ///
    /// ```
    /// # use anteroom_limiter::ledger::Ledger;
    /// assert!(!Ledger::<()>::new([1]).is_closed());
    /// ```
    #[inline]
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        self.closed
    }

    /// Takes the oldest waiter out of a closed ledger, to be told that it will never be served; `None` when none is left
    /// but those who come back.
    ///
    /// ```
    /// # use anteroom_limiter::ledger::Ledger;
    /// let mut ledger: Ledger<()> = Ledger::new([1]);
    /// ledger.close();
    /// assert_eq!(ledger.evict(), None);
    /// ```
    ///
    /// # Panics
    ///
    /// If the ledger is open: whoever waits there still has a turn to come.
    #[must_use = "this waiter sleeps until it is told"]
    pub fn evict(&mut self) -> Option<W> {
        assert!(self.closed, "evict on an open ledger: its waiters still have a turn to come");
        let first = if self.last_back == NONE { self.head } else { self.waiters[self.last_back].next };
        (first != NONE).then(|| self.unlink(first).waiter)
    }

    /// How much may be in use at once.
    ///
    /// ```
    /// # use anteroom_limiter::ledger::Ledger;
    /// assert_eq!(Ledger::<()>::new([7]).limit(), [7]);
    /// ```
    #[inline]
    #[must_use]
    pub const fn limit(&self) -> [usize; D] {
        self.limit
    }

    /// How much is in use. Above the limit only after a shrink or a [`charge`](Self::charge).
    ///
    /// ```
    /// # use anteroom_limiter::ledger::Ledger;
    /// let mut ledger: Ledger<()> = Ledger::new([7]);
    /// ledger.try_acquire([3]).unwrap();
    /// assert_eq!(ledger.in_use(), [3]);
    /// ```
    #[inline]
    #[must_use]
    pub const fn in_use(&self) -> [usize; D] {
        self.in_use
    }

    /// What is left of the limit: negative after a shrink, by what must be released before anything fits again.
    ///
    /// A difference too large for `isize` (of a limit that means "not limited") is given as the nearest `isize`.
    ///
    /// ```
    /// # use anteroom_limiter::ledger::Ledger;
    /// let mut ledger: Ledger<(), 2> = Ledger::new([5, usize::MAX]);
    /// ledger.try_acquire([5, 0]).unwrap();
    /// ledger.set_limit([2, usize::MAX]);
    /// assert_eq!(ledger.available(), [-3, isize::MAX]);
    /// ```
    #[must_use]
    pub fn available(&self) -> [isize; D] {
        std::array::from_fn(|d| {
            let (limit, in_use) = (self.limit[d], self.in_use[d]);
            let distance = isize::try_from(limit.abs_diff(in_use)).unwrap_or(isize::MAX);
            if limit >= in_use { distance } else { -distance }
        })
    }

    /// How many wait.
    ///
    /// ```
    /// # use anteroom_limiter::ledger::Ledger;
    /// assert_eq!(Ledger::<()>::new([7]).waiting(), 0);
    /// ```
    #[inline]
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiters.len()
    }

    /// Those who wait and what they ask for, oldest first. For reports: O(the number of waiters).
    ///
    /// ```
    /// use anteroom_limiter::ledger::Ledger;
    ///
    /// let mut ledger = Ledger::new([0]);
    /// let _key = ledger.enqueue([3], "alice");
    /// let _key = ledger.enqueue([1], "bob");
    /// let asked: usize = ledger.waiters().map(|([units], _)| units).sum();
    /// assert_eq!(asked, 4);
    /// ```
    pub fn waiters(&self) -> impl Iterator<Item = (&[usize; D], &W)> {
        let at = |index: usize| self.waiters.get(index); // get(NONE) is None: the end.
        std::iter::successors(at(self.head), move |entry| at(entry.next))
            .map(|entry| (&entry.units, &entry.waiter))
    }

    /// Gives back the memory of those who waited once, if nobody waits now; else does nothing.
    ///
    /// ```
    /// # use anteroom_limiter::ledger::Ledger;
    /// let mut ledger = Ledger::new([1_000]);
    /// for waiter in 0..1_000 {
    ///     let _key = ledger.enqueue([1], waiter);
    /// }
    /// while ledger.grant().is_some() {}
    /// ledger.trim(); // a thousand entries less
    /// ```
    pub fn trim(&mut self) {
        if self.waiters.is_empty() {
            self.waiters = Slab::new();
        }
    }

    /// A waiter gives up, whatever has become of it: if it was granted, and nobody will use it, its units come back.
    pub(crate) fn leave(&mut self, key: Key, units: [usize; D]) -> Option<W> {
        let waiter = self.cancel(key);
        if waiter.is_none() && self.was_granted(key) && !crate::sync::seeded("cancel_keeps_grant") {
            self.release(units);
        }
        waiter
    }

    /// The next who is to be told of its fate: granted, or, once closed, that it will not be.
    #[inline]
    pub(crate) fn next_told(&mut self) -> Option<W> {
        match self.grant() {
            Some((_units, waiter)) => Some(waiter),
            None if self.closed => self.evict(),
            None => None,
        }
    }

    /// Takes over numbers that a shell has moved by itself, while nobody waited.
    #[inline]
    pub(crate) fn adopt(&mut self, limit: [usize; D], in_use: [usize; D]) {
        debug_assert!(
            self.head == NONE || (limit == self.limit && in_use == self.in_use),
            "the numbers moved while someone waited"
        );
        self.limit = limit;
        self.in_use = in_use;
    }

    /// Whether `units` fit in every dimension, the queue aside.
    #[inline]
    fn fits(&self, units: &[usize; D]) -> bool {
        // Saturating: in debt there is room for zero, and zero is what fits.
        (0..D).all(|d| units[d] <= self.limit[d].saturating_sub(self.in_use[d]))
    }

    /// Whether who comes back with `units` may come in: they fit, or more than the limit would be in use by it alone.
    fn fits_back(&self, units: &[usize; D]) -> bool {
        (0..D).all(|d| {
            let (limit, in_use) = (self.limit[d], self.in_use[d]);
            units[d] <= limit.saturating_sub(in_use) || (units[d] > limit && in_use == 0)
        })
    }

    #[inline]
    fn take(&mut self, units: &[usize; D]) {
        debug_assert!(self.fits(units), "[LEDGER-1] took what does not fit");
        for (used, asked) in self.in_use.iter_mut().zip(units) {
            *used += asked; // [LEDGER-6] It fits: the sum is at most the limit, or asked is zero.
        }
    }

    #[cold]
    fn refusal(&self, units: &[usize; D]) -> Refusal {
        if self.closed {
            Refusal::Closed
        } else if (0..D).any(|d| units[d] > self.limit[d]) {
            Refusal::ExceedsLimit
        } else if self.fits(units) {
            Refusal::Queued
        } else {
            Refusal::Full
        }
    }

    /// Takes the head out of the list and the slab, when nobody comes back: as [`unlink`](Self::unlink), for every grant.
    #[inline(always)]
    fn unlink_head(&mut self) -> Entry<W, D> {
        debug_assert!(self.last_back == NONE);
        let entry = self.waiters.remove(self.head);
        self.head = entry.next;
        match entry.next {
            NONE => self.tail = NONE,
            next => self.waiters[next].prev = NONE,
        }
        entry
    }

    /// Takes an entry out of the list and the slab. It is there: the callers looked, or it is the head.
    #[inline]
    fn unlink(&mut self, index: usize) -> Entry<W, D> {
        let entry = self.waiters.remove(index);
        if self.last_back == index {
            self.last_back = entry.prev; // Before it stand only others who come back.
        }
        match entry.prev {
            NONE => self.head = entry.next,
            prev => self.waiters[prev].next = entry.next,
        }
        match entry.next {
            NONE => self.tail = entry.prev,
            next => self.waiters[next].prev = entry.prev,
        }
        entry
    }
}

impl<W, const D: usize> fmt::Debug for Ledger<W, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger")
            .field("limit", &self.limit)
            .field("in_use", &self.in_use)
            .field("waiting", &self.waiting())
            .field("closed", &self.closed)
            .finish()
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::Full => "not enough units are available",
            Refusal::Queued => "others wait already",
            Refusal::Closed => "closed",
            Refusal::ExceedsLimit => "the request exceeds the limit itself",
        })
    }
}

impl Error for Refusal {}

#[cfg(all(test, not(anteroom_loom)))]
mod tests;
