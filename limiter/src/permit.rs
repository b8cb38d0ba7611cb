//! The proof that units were granted, and the only way to give them back.
//!
//! # Problem
//!
//! A `release(n)` that anybody may call is called twice: by the code that was done, and by the guard that was dropped
//! when its task was aborted. From then on the limit is a wish.
//!
//! # Idea
//!
//! Units exist outside the ledger only as the weight of a permit. A permit is made by a grant, its weight moves by
//! [`split`](Permit::split) and [`merge`](Permit::merge), and drop gives it back. Units are given back by the permit that
//! holds them, at most as many as it holds, so to release too many cannot be written.
//!
//! What a holder needs may turn out otherwise than it asked for. It [`shrink`](Permit::shrink)s, or it
//! [`grow`](Permit::grow)s in its turn, or, when the thing has happened already, it is [`charge`](Permit::charge)d, and
//! the others wait until the debt is paid.
//!
//! # Invariants
//!
//! - `[PERMIT-1]` The weights of all permits, and of all grants not yet collected, add up to `in_use`.
//!
//! # Rejected
//!
//! - *`forget`.* It lowers the capacity for ever, without a trace in the limit. [`Semaphore::set_limit`] says it aloud.
//!   (`std::mem::forget` on a permit cannot be prevented; its units stay in use.)
//! - *Two types, borrowed and owned, with every method twice.*
//!
//! # Read next
//!
//! [`crate::gate`], where the units go when a permit is dropped.

use std::error::Error;
use std::fmt;
use std::mem;
use std::ops::Deref;
use std::ptr;
use std::sync::Arc;

use crate::acquire::Acquire;
use crate::error::{AcquireError, TryAcquireError};
use crate::semaphore::Semaphore;

/// Units of a [`Semaphore`], in use until this is dropped.
///
/// `S` is `&Semaphore` (from [`Semaphore::acquire`]) or `Arc<Semaphore>` (an [`OwnedPermit`], from
/// [`Semaphore::acquire_owned`]); nothing else is ever made.
///
/// ```
/// use anteroom_limiter::Semaphore;
///
/// let semaphore = Semaphore::new(3);
/// let permit = semaphore.try_acquire_many(2).unwrap();
/// assert_eq!(permit.weight(), 2);
/// drop(permit);
/// assert_eq!(semaphore.in_use(), 0);
/// ```
///
/// # Panics
///
/// Its drop serves those who wait. If one of their wakers panics, that panic is passed on after all were served, unless
/// this thread is already unwinding.
#[must_use = "dropped at once, it limits nothing"]
pub struct Permit<S: Deref<Target = Semaphore> + Clone> {
    pub(crate) semaphore: S,
    pub(crate) weight: usize,
}

/// A permit that keeps its semaphore alive, and may go where it likes.
///
/// ```
/// use std::sync::Arc;
/// use anteroom_limiter::{OwnedPermit, Semaphore};
///
/// struct Connection {
///     _permit: OwnedPermit, // counted for as long as the connection lives
/// }
///
/// let connections = Arc::new(Semaphore::new(100));
/// let connection = Connection { _permit: connections.try_acquire_owned().unwrap() };
/// assert_eq!(connections.in_use(), 1);
/// # drop(connection);
/// ```
pub type OwnedPermit = Permit<Arc<Semaphore>>;

/// Two permits of different semaphores cannot be one. Gives back the one that was to be merged.
///
/// ```
/// use anteroom_limiter::Semaphore;
///
/// let (cats, dogs) = (Semaphore::new(1), Semaphore::new(1));
/// let mut cat = cats.try_acquire().unwrap();
/// let dog = dogs.try_acquire().unwrap();
/// let dog = cat.merge(dog).unwrap_err().into_permit();
/// assert_eq!((cat.weight(), dog.weight()), (1, 1));
/// ```
pub struct MergeError<S: Deref<Target = Semaphore> + Clone> {
    permit: Permit<S>,
}

impl<S: Deref<Target = Semaphore> + Clone> Permit<S> {
    /// The units are in use already: by a grant, or by the permit that they are split from [PERMIT-1].
    #[inline]
    pub(crate) fn new(semaphore: S, weight: usize) -> Self {
        Self { semaphore, weight }
    }

    /// How many units it holds.
    ///
    /// ```
    /// # use anteroom_limiter::Semaphore;
    /// assert_eq!(Semaphore::new(1).try_acquire().unwrap().weight(), 1);
    /// ```
    #[inline]
    #[must_use]
    pub fn weight(&self) -> usize {
        self.weight
    }

    /// Moves `weight` units into a permit of their own, or `None` if there are not so many.
    ///
    /// Nothing is released in between: no waiter can come away with the difference.
    ///
    /// ```
    /// use anteroom_limiter::Semaphore;
    ///
    /// let semaphore = Semaphore::new(5);
    /// let mut whole = semaphore.try_acquire_many(5).unwrap();
    /// let part = whole.split(2).unwrap();
    /// assert_eq!((whole.weight(), part.weight()), (3, 2));
    /// assert!(whole.split(4).is_none());
    /// drop(part); // what was needed only at first
    /// assert_eq!(semaphore.in_use(), 3);
    /// ```
    #[must_use = "dropped at once, the part is released"]
    pub fn split(&mut self, weight: usize) -> Option<Self> {
        let rest = self.weight.checked_sub(weight)?;
        let semaphore = self.semaphore.clone();
        self.weight = rest;
        Some(Self { semaphore, weight })
    }

    /// Adds the units of another permit of the same semaphore to this one.
    ///
    /// ```
    /// use anteroom_limiter::Semaphore;
    ///
    /// let semaphore = Semaphore::new(5);
    /// let mut all = semaphore.try_acquire_many(0).unwrap();
    /// for _ in 0..3 {
    ///     all.merge(semaphore.try_acquire().unwrap()).unwrap();
    /// }
    /// assert_eq!(all.weight(), 3);
    /// ```
    ///
    /// # Errors
    ///
    /// [`MergeError`], with the other permit inside, if it belongs to another semaphore.
    pub fn merge(&mut self, mut other: Self) -> Result<(), MergeError<S>> {
        if ptr::eq(&*self.semaphore, &*other.semaphore) {
            self.weight += mem::take(&mut other.weight); // At most in_use [PERMIT-1], so it cannot wrap.
            Ok(())
        } else {
            Err(MergeError { permit: other })
        }
    }
}

/// What a holder finds out later.
impl<S: Deref<Target = Semaphore> + Clone> Permit<S> {
    /// Gives up to `units` of it back, and says how many: all, if it has no more.
    ///
    /// ```
    /// use anteroom_limiter::Semaphore;
    ///
    /// let memory = Semaphore::new(100);
    /// let mut permit = memory.try_acquire_many(80).unwrap(); // an estimate
    /// assert_eq!(permit.shrink(50), 50); // it was less
    /// assert_eq!((permit.weight(), memory.available()), (30, 70));
    /// assert_eq!(permit.shrink(50), 30);
    /// ```
    ///
    /// # Panics
    ///
    /// As drop does: if a waker of those who are served panics.
    pub fn shrink(&mut self, units: usize) -> usize {
        let given_back = units.min(self.weight);
        if given_back > 0 {
            self.weight -= given_back; // First: should a waker panic, drop must not give them back again [PERMIT-1].
            self.semaphore.gate().release(given_back);
        }
        given_back
    }

    /// Takes `units` more if there is room and nobody waits.
    ///
    /// ```
    /// use anteroom_limiter::{Semaphore, TryAcquireError};
    ///
    /// let semaphore = Semaphore::new(3);
    /// let mut permit = semaphore.try_acquire().unwrap();
    /// permit.try_grow(2).unwrap();
    /// assert_eq!(permit.weight(), 3);
    /// assert_eq!(permit.try_grow(1), Err(TryAcquireError::NoPermits));
    /// ```
    ///
    /// # Errors
    ///
    /// [`TryAcquireError`], at once; the permit is as it was.
    pub fn try_grow(&mut self, units: usize) -> Result<(), TryAcquireError> {
        self.semaphore.gate().try_acquire(units)?;
        self.weight += units; // At most in_use [PERMIT-1], so it cannot wrap.
        Ok(())
    }

    /// Waits in line, as everybody does, for `units` more.
    ///
    /// ```
    /// use anteroom_limiter::{AcquireError, Semaphore};
    ///
    /// async fn read_on(memory: &Semaphore) -> Result<(), AcquireError> {
    ///     let mut permit = memory.acquire_many(4).await?;
    ///     permit.grow(12).await?; // the next part is larger
    ///     assert_eq!(permit.weight(), 16);
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Semaphore::acquire_many`]; the permit is as it was.
    ///
    /// # Cancel safety
    ///
    /// As [`Semaphore::acquire`]: dropped, it leaves the line, and the permit is as it was.
    ///
    /// # Deadlock
    ///
    /// All who hold a part and wait for more may wait for one another. Where that can be, ask for all at once, or
    /// [`charge`](Self::charge).
    pub async fn grow(&mut self, units: usize) -> Result<(), AcquireError> {
        let mut more = Acquire::new(self.semaphore.clone(), units).await?;
        self.weight += mem::take(&mut more.weight); // At most in_use [PERMIT-1], so it cannot wrap.
        Ok(())
    }

    /// Takes `units` more at once, whether there is room or not: for what has happened already. Says how many were taken.
    ///
    /// The semaphore may be in debt afterwards: more is in use than the limit allows, and nobody is granted anything until
    /// enough was given back. So admit on an estimate, and charge the difference when it is known: a bad estimate delays
    /// others, and never waits itself, which is why it cannot deadlock. Also when the semaphore is closed.
    ///
    /// ```
    /// use anteroom_limiter::Semaphore;
    ///
    /// let memory_mib = Semaphore::new(64);
    /// let mut permit = memory_mib.try_acquire_many(1).unwrap();
    /// permit.charge(99); // the page was larger than they say
    /// assert_eq!((permit.weight(), memory_mib.available()), (100, -36));
    /// assert!(memory_mib.try_acquire().is_err());
    /// drop(permit);
    /// assert_eq!(memory_mib.available(), 64);
    /// ```
    ///
    /// # Bounds
    ///
    /// At most [`MAX_PERMITS`](Semaphore::MAX_PERMITS) are in use; what is above is not taken, and not given back later.
    pub fn charge(&mut self, units: usize) -> usize {
        let charged = self.semaphore.gate().charge(units);
        self.weight += charged; // At most in_use [PERMIT-1], so it cannot wrap.
        charged
    }
}

impl<S: Deref<Target = Semaphore> + Clone> Drop for Permit<S> {
    #[inline]
    fn drop(&mut self) {
        if self.weight > 0 {
            self.semaphore.gate().release(self.weight);
        }
    }
}

impl<S: Deref<Target = Semaphore> + Clone> MergeError<S> {
    /// The permit that was not merged.
    ///
    /// ```
    /// # use anteroom_limiter::Semaphore;
    /// # let (cats, dogs) = (Semaphore::new(1), Semaphore::new(1));
    /// let mut cat = cats.try_acquire().unwrap();
    /// let error = cat.merge(dogs.try_acquire().unwrap()).unwrap_err();
    /// assert_eq!(error.into_permit().weight(), 1);
    /// ```
    pub fn into_permit(self) -> Permit<S> {
        self.permit
    }
}

impl<S: Deref<Target = Semaphore> + Clone> fmt::Debug for Permit<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").field("weight", &self.weight).finish_non_exhaustive()
    }
}

impl<S: Deref<Target = Semaphore> + Clone> fmt::Debug for MergeError<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MergeError").field("permit", &self.permit).finish()
    }
}

impl<S: Deref<Target = Semaphore> + Clone> fmt::Display for MergeError<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the permits belong to different semaphores")
    }
}

impl<S: Deref<Target = Semaphore> + Clone> Error for MergeError<S> {}
