//! The semaphore's protocol: one atomic word, and behind it the ledger in a lock.
//!
//! # Problem
//!
//! Almost every acquire finds room, and almost every release finds nobody waiting: those should cost one atomic
//! instruction. But a queue needs a lock, and between "I saw no room" and "I stand in the queue" a release may slip
//! through that saw nobody to serve. Then a waiter sleeps beside free permits, for ever.
//!
//! # Idea
//!
//! Whoever wants more than the word can say takes the lock and *freezes* the word. From then on every fast operation is
//! turned away to the lock, so the word stands still while the ledger works.
//!
//! ```text
//!   fast    load ── FROZEN? ──no──► compare-and-swap           acquire and release, one locked instruction each
//!                     │yes
//!                     ▼
//!   slow    lock ─► freeze: fetch_or(FROZEN) ─► adopt ─► operate on the ledger ─► thaw: store ─► unlock ─► call wakers
//!                   the last fast write          the ledger        clears FROZEN
//!                   is seen by this one          knows it now      unless someone waits
//! ```
//!
//! The fetch_or is both the barrier and the second look: it returns the word as the last fast operation left it. A
//! release before it is counted by `adopt`; a release after it finds FROZEN, takes the lock and meets the waiter in the
//! queue. There is no third case, because both are read-modify-writes of one word, and those have one order.
//!
//! No state is kept for a waiter that was granted. It comes back with its key, and the ledger tells from the order of
//! arrival (`Ledger::was_granted`).
//!
//! # Invariants
//!
//! - `[GATE-1]` While FROZEN is clear, nobody waits and the word is the whole truth. While it is set, only the holder of
//!   the lock writes the word.
//! - `[GATE-2]` FROZEN is clear whenever the lock is free and nobody waits.
//! - `[GATE-3]` Who leaves the queue after it was granted gives its units on.
//! - `[GATE-4]` Every operation that makes room runs the grant loop until it is dry, whatever the wakers do meanwhile.
//!
//! # Rejected
//!
//! - *A WAITERS bit in a second word.* Two words need a Dekker pattern and two SeqCst fences to say what one says.
//! - *A result cell for each waiter* (an `Arc`, or a slab of states): an allocation, or a second lock, for one number.
//! - *Handing permits over through the word* (release, let the woken one compete): newcomers barge, waiters starve.
//! - *Release by `fetch_sub`, without a look at the word.* It saves a load, but moves a word that is frozen, so that every
//!   operation under the lock has to expect it.
//!
//! # Read next
//!
//! [`crate::acquire`], the future that stands in the queue.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::task::Waker;

use crate::error::{AcquireError, TryAcquireError};
use crate::ledger::{Key, Ledger, Refusal};
use crate::sync::{AtomicU64, Mutex, Ordering, lock, seeded};
use crate::wake::Wakes;
use crate::word::{self, FROZEN, Fast, Word};

/// The word, and the ledger that it stands for.
pub(crate) struct Gate {
    word: AtomicU64,
    /// Its limit and in_use are current only while the word is frozen; its queue always.
    ledger: Mutex<Ledger<Waker>>,
    /// How many may wait. Set before anybody shares this.
    waiting_max: usize,
}

/// What stands in the ledger, exactly, at one instant.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Balance {
    pub(crate) in_use: usize,
    /// How many wait, and what the first of them asks for.
    pub(crate) waiting: usize,
    pub(crate) head: Option<usize>,
}

/// What became of a waiter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Waiting,
    Granted,
    /// The semaphore was closed before its turn.
    Evicted,
}

impl Gate {
    pub(crate) fn new(limit: usize) -> Self {
        let word = Word::new(limit, 0, false, false);
        Self {
            word: AtomicU64::new(word.0),
            ledger: Mutex::new(Ledger::new([limit])),
            waiting_max: usize::MAX,
        }
    }

    /// At most so many wait from now on.
    pub(crate) fn bound_waiting(&mut self, waiting_max: usize) {
        self.waiting_max = waiting_max;
    }

    /// The word at some instant.
    #[inline]
    pub(crate) fn word(&self) -> Word {
        // Ordering: Acquire; pairs with the Release in `thaw`, so that who sees CLOSED sees what was done before `close`,
        // and with the one in `release`, so that who sees the last permit come back sees what was done under it.
        Word(self.word.load(Ordering::Acquire))
    }

    /// Takes `units`, if that can be decided without waiting.
    #[inline]
    pub(crate) fn try_acquire(&self, units: usize) -> Result<(), TryAcquireError> {
        match self.fast_acquire(units) {
            Fast::Go(_) => Ok(()),
            Fast::No(error) => Err(error),
            Fast::Ask => self.ask(units),
        }
    }

    /// The fast path: until the word lets us through, refuses us, or is found frozen. Lock-free: a failed swap means that
    /// somebody else got through.
    #[inline]
    fn fast_acquire(&self, units: usize) -> Fast {
        let mut seen = self.word();
        loop {
            let decision = seen.acquire(units);
            let Fast::Go(next) = decision else { return decision };
            // Ordering: Acquire; pairs with the Release of whoever gave these units back (`release`, `thaw`), so that
            // what was done under the old permit happens before what is done under this one. A swap needs no Release
            // to keep earlier ones visible: a read-modify-write continues their release sequence. The failure ordering
            // is that of `word`, whose place it takes.
            match self.word.compare_exchange_weak(seen.0, next.0, Ordering::Acquire, Ordering::Acquire) {
                Ok(_) => return decision,
                Err(now) => seen = Word(now),
            }
        }
    }

    #[cold]
    fn ask(&self, units: usize) -> Result<(), TryAcquireError> {
        self.locked(|ledger| ledger.try_acquire([units])).map_err(TryAcquireError::from)
    }

    /// Takes `units` (`None`), or stands in the queue for them (the key).
    #[inline]
    pub(crate) fn enter(&self, units: usize, waker: &Waker) -> Result<Option<Key>, AcquireError> {
        match self.fast_acquire(units) {
            Fast::Go(_) => Ok(None),
            Fast::No(TryAcquireError::Closed) => Err(AcquireError::Closed),
            Fast::No(TryAcquireError::ExceedsLimit) => Err(AcquireError::ExceedsLimit),
            Fast::No(TryAcquireError::NoPermits) | Fast::Ask => self.queue(units, waker),
        }
    }

    #[cold]
    fn queue(&self, units: usize, waker: &Waker) -> Result<Option<Key>, AcquireError> {
        let mut waker = Some(waker.clone()); // [WAKE-1] Before the lock; left here, it is dropped after it.
        let queued = self.locked(|ledger| match ledger.try_acquire([units]) {
            Ok(()) => Ok(None),
            Err(Refusal::Closed) => Err(AcquireError::Closed),
            Err(Refusal::ExceedsLimit) => Err(AcquireError::ExceedsLimit),
            Err(Refusal::Full | Refusal::Queued) if ledger.waiting() >= self.waiting_max => {
                Err(AcquireError::QueueFull)
            }
            Err(Refusal::Full | Refusal::Queued) => {
                Ok(waker.take().map(|waker| ledger.enqueue([units], waker))) // It is there: set above.
            }
        });
        self.drop_spare(waker, units, matches!(queued, Ok(None)));
        queued
    }

    /// As [`enter`](Self::enter), for units that were granted once and given back for a while: before those who wait for
    /// the first time, and through a gate that was closed meanwhile.
    ///
    /// Always under the lock: only the ledger tells whether others come back, too.
    pub(crate) fn reenter(&self, units: usize, waker: &Waker) -> Option<Key> {
        let waker = waker.clone(); // [WAKE-1]
        let (spare, key) = match self.locked(|ledger| ledger.reenter([units], waker)) {
            Ok(waker) => (Some(waker), None),
            Err(key) => (None, Some(key)),
        };
        self.drop_spare(spare, units, key.is_none());
        key
    }

    /// Drops the waker that is left if there was room after all. Its drop is the caller's code: should it panic, the units
    /// go back, since there is no permit yet that would.
    fn drop_spare(&self, waker: Option<Waker>, units: usize, is_admitted: bool) {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(waker))) {
            if is_admitted {
                self.release(units);
            }
            resume_unwind(payload);
        }
    }

    /// Takes `units` beyond the limit if need be, and without a turn: how many were taken, which is all unless the word has
    /// no room for the number.
    #[inline]
    pub(crate) fn charge(&self, units: usize) -> usize {
        // Ordering: Relaxed, as in `release`; and for the swap, since nothing is handed over: what the caller may do it may
        // do by the permit that it holds already.
        let mut seen = Word(self.word.load(Ordering::Relaxed));
        while let Some((charged, next)) = seen.charge(units) {
            if seeded("charge_plain") {
                self.word.store(next.0, Ordering::Relaxed);
                return charged;
            }
            match self.word.compare_exchange_weak(seen.0, next.0, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return charged,
                Err(now) => seen = Word(now),
            }
        }
        self.charge_frozen(units)
    }

    #[cold]
    fn charge_frozen(&self, units: usize) -> usize {
        self.locked(|ledger| {
            let [in_use] = ledger.in_use();
            let [charged] = ledger.charge([units.min(word::MAX - in_use)]); // [WORD-2]
            charged
        })
    }

    /// What became of a waiter; if it waits, the caller's waker is the one that will be woken.
    pub(crate) fn check(&self, key: Key, waker: &Waker) -> Standing {
        let mut fresh = None; // [WAKE-1] Cloned between two locks, and what it replaces is dropped after the second.
        loop {
            match self.look(key, waker, &mut fresh) {
                Some(standing) => return standing,
                None => fresh = Some(waker.clone()), // Once: a fresh one is always taken.
            }
        }
    }

    /// `None` if it waits with a waker that would wake somebody else, and there is no fresh one to exchange it for.
    fn look(&self, key: Key, waker: &Waker, fresh: &mut Option<Waker>) -> Option<Standing> {
        let mut ledger = lock(&self.ledger); // Not frozen: this moves no units.
        let Some(stored) = ledger.get_mut(key) else {
            return Some(if ledger.was_granted(key) { Standing::Granted } else { Standing::Evicted });
        };
        if !stored.will_wake(waker) {
            // will_wake compared two pointers: no user code ran.
            std::mem::swap(stored, fresh.as_mut()?);
        }
        Some(Standing::Waiting)
    }

    /// A waiter gives up, whatever has become of it.
    #[cold]
    pub(crate) fn leave(&self, key: Key, units: usize) {
        let (waker, mut wakes) = self.serve(|ledger| ledger.leave(key, [units])); // [GATE-3]
        wakes.discard(waker); // [WAKE-1], [WAKE-3] Its drop is a stranger's code, as their wakes were.
        wakes.finish();
    }

    /// Gives `units` back, and serves whoever waits for them.
    #[inline]
    pub(crate) fn release(&self, units: usize) {
        // Ordering: Relaxed; only what to try first. The swap decides.
        let mut seen = Word(self.word.load(Ordering::Relaxed));
        while let Some(next) = seen.release(units) {
            // Ordering: Release; pairs with the Acquire in `fast_acquire` and in `freeze`, so that what was done under
            // this permit happens before what is done under the next. Failure: Relaxed, as above.
            match self.word.compare_exchange_weak(seen.0, next.0, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => seen = Word(now),
            }
        }
        self.release_frozen(units);
    }

    #[cold]
    fn release_frozen(&self, units: usize) {
        self.change(|ledger| ledger.release([units]));
    }

    pub(crate) fn set_limit(&self, limit: usize) {
        self.change(|ledger| ledger.set_limit([limit]));
    }

    /// Sets the limit that `choose` finds right for what it is shown; under the lock, so that it still is.
    pub(crate) fn relimit(&self, choose: impl FnOnce(Balance) -> usize) {
        self.change(|ledger| {
            let ([in_use], waiting) = (ledger.in_use(), ledger.waiting());
            let head = ledger.waiters().next().map(|(&[units], _)| units);
            ledger.set_limit([choose(Balance { in_use, waiting, head })]);
        });
    }

    pub(crate) fn close(&self) {
        self.change(Ledger::close);
    }

    /// The word and the number of waiters, at one instant.
    pub(crate) fn snapshot(&self) -> (Word, usize) {
        let word = self.word();
        if !word.is_frozen() {
            return (word, 0); // [GATE-1]
        }
        let ledger = lock(&self.ledger);
        // If anyone waits, the word is frozen, and stands still while we hold the lock. If nobody does, it moves, but
        // nobody can begin to wait: any one value that it takes goes with zero.
        (self.word(), ledger.waiting())
    }

    pub(crate) fn trim(&self) {
        lock(&self.ledger).trim();
    }

    /// Runs an operation that may make room or end admission, and tells everybody whom it concerns [GATE-4].
    fn change(&self, operation: impl FnOnce(&mut Ledger<Waker>)) {
        let ((), wakes) = self.serve(operation);
        wakes.finish();
    }

    /// As [`change`](Self::change), for who has another stranger to call before the first panic is passed on.
    fn serve<R>(&self, operation: impl FnOnce(&mut Ledger<Waker>) -> R) -> (R, Wakes) {
        let mut wakes = Wakes::new();
        let (result, mut more) = self.locked(|ledger| (operation(ledger), wakes.fill(|| ledger.next_told())));
        wakes.call();
        while more && !seeded("grant_once") {
            // Between two batches the lock is free, but the queue is not empty, so the word is frozen: nobody barges.
            more = self.locked(|ledger| wakes.fill(|| ledger.next_told()));
            wakes.call();
        }
        (result, wakes)
    }

    /// Runs `operation` on a ledger that holds the whole truth, and puts the truth back into the word.
    fn locked<R>(&self, operation: impl FnOnce(&mut Ledger<Waker>) -> R) -> R {
        let mut ledger = lock(&self.ledger);
        let word = self.freeze();
        ledger.adopt([word.limit()], [word.in_use()]);
        let result = operation(&mut ledger);
        self.thaw(&ledger);
        result
    }

    /// Stops the fast path, and returns the word as it was left. Only under the lock.
    fn freeze(&self) -> Word {
        // Ordering: Relaxed; if FROZEN is set, the last to write was a holder of this lock, which orders us after it.
        // If not, the value is not used.
        let seen = Word(self.word.load(Ordering::Relaxed));
        if seen.is_frozen() {
            return seen;
        }
        // Ordering: Acquire; pairs with the Release in `release`, so that a grant made under this lock happens after
        // what was done under the permits that made room for it. Nothing of ours is published here: no Release.
        let last = Word(self.word.fetch_or(FROZEN, Ordering::Acquire));
        if seeded("freeze_without_second_look") { seen } else { last }
    }

    /// Puts the ledger's numbers into the word, and lets the fast path go on unless someone waits. Only under the lock.
    fn thaw(&self, ledger: &Ledger<Waker>) {
        let ([limit], [in_use]) = (ledger.limit(), ledger.in_use());
        let waits = ledger.waiting() > 0 && !seeded("thaw_with_waiters"); // [GATE-1], [GATE-2]
        let word = Word::new(limit, in_use, ledger.is_closed(), waits);
        // Ordering: Release; pairs with the Acquire in `word`, `fast_acquire` and `freeze`. It carries on what `freeze`
        // acquired, since a plain store ends the release sequences before it. A store is enough: the word is frozen, so
        // a swap that still expects an unfrozen value fails.
        self.word.store(word.0, Ordering::Release);
    }
}

impl From<Refusal> for TryAcquireError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Full | Refusal::Queued => Self::NoPermits,
            Refusal::Closed => Self::Closed,
            Refusal::ExceedsLimit => Self::ExceedsLimit,
        }
    }
}

#[cfg(all(test, not(anteroom_loom)))]
mod tests {
    use super::*;

    /// [GATE-1], [GATE-2]: after each kind of slow operation, with and without a waiter left. Nothing else would notice
    /// a word that stays frozen: all would still be right, and slow.
    #[test]
    fn the_word_is_frozen_exactly_while_someone_waits() {
        #[track_caller]
        fn assert_frozen(gate: &Gate, frozen: bool) {
            assert_eq!((gate.word().is_frozen(), gate.snapshot().1 > 0), (frozen, frozen));
        }
        let enter = |gate: &Gate, units| gate.enter(units, Waker::noop()).unwrap();
        let gate = Gate::new(2);
        assert_eq!(enter(&gate, 2), None);
        assert_frozen(&gate, false);
        let [first, second, third] = [1, 2, 1].map(|units| enter(&gate, units).unwrap());
        assert_frozen(&gate, true);
        gate.release(1); // to the first
        assert_frozen(&gate, true);
        gate.set_limit(3);
        assert_eq!(gate.try_acquire(1), Err(TryAcquireError::NoPermits));
        assert_frozen(&gate, true);
        gate.leave(second, 2); // the third fits now
        assert_frozen(&gate, false);
        gate.leave(third, 1);
        gate.leave(first, 1);
        gate.set_limit(1);
        assert_frozen(&gate, false);
        assert!(enter(&gate, 1).is_some());
        gate.close();
        assert_frozen(&gate, false);
        gate.release(1);
        assert_eq!(gate.word(), Word::new(1, 0, true, false));
    }
}
