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
//! [`split`](Permit::split) and [`merge`](Permit::merge), and drop gives it back. No call takes a number of units to
//! release, so to release too many cannot be written.
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
    semaphore: S,
    weight: usize,
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
