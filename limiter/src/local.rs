//! The semaphore of one thread: the ledger in a cell.
//!
//! # Problem
//!
//! What never leaves its thread need not pay for those who do. In a crowd, a permit of [`Semaphore`](crate::Semaphore)
//! costs three locks; on a single-threaded runtime there is nobody to lock out.
//!
//! # Idea
//!
//! The same [`Ledger`] in another shell: a `RefCell` in the place of the word and the mutex. What it promises is the same,
//! down to the order of wakes, and the same tests run over both. No atomic instruction, no lock; and the compiler refuses to
//! let it leave the thread.
//!
//! # Invariants
//!
//! - `[LOCAL-1]` No waker is cloned, called or dropped while the cell is borrowed: it may come back in here.
//! - `[LOCAL-2]` Every operation that makes room runs the grant loop until it is dry, whatever the wakers do meanwhile.
//!
//! # Rejected
//!
//! - *One semaphore, generic over its shell.* Every signature would name the shell, to save these few functions.
//!
//! # Read next
//!
//! [`crate::ledger`], all of its logic.

use std::cell::RefCell;
use std::fmt;
use std::ops::Deref;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use crate::error::{AcquireError, LimitError, TryAcquireError};
use crate::ledger::{Key, Ledger, Refusal};
use crate::semaphore::{Snapshot, checked};
use crate::wake::Panics;

/// At most so many at once, on one thread: the line and the permits of [`Semaphore`](crate::Semaphore) without their atomics,
/// and without what only few need there.
///
/// First in, first out, whole grants, resizable. For a single-threaded runtime; it is not `Sync`.
///
/// ```
/// use std::rc::Rc;
/// use anteroom_limiter::{AcquireError, LocalSemaphore};
/// # async fn fetch(_: u32) {}
///
/// async fn polite(connections: Rc<LocalSemaphore>, page: u32) -> Result<(), AcquireError> {
///     let _permit = connections.acquire().await?;
///     fetch(page).await; // at most so many of these at once
///     Ok(())
/// }
/// # let connections = Rc::new(LocalSemaphore::new(1));
/// # let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
/// # assert!(std::pin::pin!(polite(connections, 7)).poll(&mut cx).is_ready());
/// ```
///
/// # Bounds
///
/// As [`Semaphore`](crate::Semaphore)'s.
pub struct LocalSemaphore {
    ledger: RefCell<Ledger<Waker>>,
}

impl LocalSemaphore {
    /// A semaphore with `limit` permits.
    ///
    /// ```
    /// assert_eq!(anteroom_limiter::LocalSemaphore::new(3).snapshot().limit, 3);
    /// ```
    ///
    /// # Panics
    ///
    /// If `limit` is zero or more than [`Semaphore::MAX_PERMITS`](crate::Semaphore::MAX_PERMITS).
    #[must_use]
    #[track_caller]
    pub fn new(limit: usize) -> Self {
        let limit = checked(limit).unwrap_or_else(|error| panic!("LocalSemaphore::new({limit}): {error}"));
        Self { ledger: RefCell::new(Ledger::new([limit])) }
    }

    /// Waits for one permit.
    ///
    /// ```
    /// # use anteroom_limiter::LocalSemaphore;
    /// # async fn example(semaphore: &LocalSemaphore) {
    /// let permit = semaphore.acquire().await;
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`AcquireError::Closed`].
    ///
    /// # Cancel safety
    ///
    /// As [`Semaphore::acquire`](crate::Semaphore::acquire).
    #[inline]
    pub fn acquire(&self) -> LocalAcquire<&Self> {
        self.acquire_many(1)
    }

    /// Waits for `weight` permits, all at once.
    ///
    /// ```
    /// # use anteroom_limiter::LocalSemaphore;
    /// # async fn example(memory_mib: &LocalSemaphore) {
    /// let permit = memory_mib.acquire_many(7).await;
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`AcquireError::Closed`], and [`AcquireError::ExceedsLimit`] at once if `weight` is more than the limit.
    ///
    /// # Cancel safety
    ///
    /// As [`Semaphore::acquire`](crate::Semaphore::acquire).
    #[inline]
    pub fn acquire_many(&self, weight: usize) -> LocalAcquire<&Self> {
        LocalAcquire { semaphore: Some(self), place: None, weight }
    }

    /// As [`acquire_many`](Self::acquire_many), for a permit that keeps the semaphore alive.
    ///
    /// ```
    /// # use std::rc::Rc;
    /// # use anteroom_limiter::LocalSemaphore;
    /// # async fn example(semaphore: Rc<LocalSemaphore>) {
    /// let permit = semaphore.acquire_many_owned(1).await; // may go into a local task
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`acquire_many`](Self::acquire_many).
    ///
    /// # Cancel safety
    ///
    /// As [`Semaphore::acquire`](crate::Semaphore::acquire).
    #[inline]
    pub fn acquire_many_owned(self: &Rc<Self>, weight: usize) -> LocalAcquire<Rc<Self>> {
        LocalAcquire { semaphore: Some(Rc::clone(self)), place: None, weight }
    }

    /// Takes `weight` permits, all or none, if there is room and nobody waits.
    ///
    /// ```
    /// # use anteroom_limiter::{LocalSemaphore, TryAcquireError};
    /// let semaphore = LocalSemaphore::new(3);
    /// let two = semaphore.try_acquire_many(2).unwrap();
    /// assert_eq!(semaphore.try_acquire_many(2).unwrap_err(), TryAcquireError::NoPermits);
    /// # drop(two);
    /// ```
    ///
    /// # Errors
    ///
    /// [`TryAcquireError`], at once.
    #[inline]
    pub fn try_acquire_many(&self, weight: usize) -> Result<LocalPermit<&Self>, TryAcquireError> {
        self.admit(weight)?;
        Ok(LocalPermit { semaphore: self, weight })
    }

    /// As [`try_acquire_many`](Self::try_acquire_many), for a permit that keeps the semaphore alive.
    ///
    /// ```
    /// # use std::rc::Rc;
    /// # use anteroom_limiter::LocalSemaphore;
    /// let semaphore = Rc::new(LocalSemaphore::new(3));
    /// assert_eq!(semaphore.try_acquire_many_owned(2).unwrap().weight(), 2);
    /// ```
    ///
    /// # Errors
    ///
    /// As [`try_acquire_many`](Self::try_acquire_many).
    #[inline]
    pub fn try_acquire_many_owned(
        self: &Rc<Self>,
        weight: usize,
    ) -> Result<LocalPermit<Rc<Self>>, TryAcquireError> {
        self.admit(weight)?;
        Ok(LocalPermit { semaphore: Rc::clone(self), weight })
    }

    /// Changes the limit, up or down, also below what is in use: nothing is taken from anyone, and the debt is paid first.
    ///
    /// ```
    /// # use anteroom_limiter::LocalSemaphore;
    /// let semaphore = LocalSemaphore::new(3);
    /// semaphore.set_limit(1).unwrap();
    /// assert!(semaphore.set_limit(0).is_err());
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Semaphore::set_limit`](crate::Semaphore::set_limit).
    pub fn set_limit(&self, limit: usize) -> Result<(), LimitError> {
        let limit = checked(limit)?;
        self.change(|ledger| ledger.set_limit([limit]));
        Ok(())
    }

    /// Ends admission for good, and tells all who wait.
    ///
    /// ```
    /// # use anteroom_limiter::{LocalSemaphore, TryAcquireError};
    /// let semaphore = LocalSemaphore::new(3);
    /// semaphore.close();
    /// assert_eq!(semaphore.try_acquire_many(1).unwrap_err(), TryAcquireError::Closed);
    /// ```
    pub fn close(&self) {
        self.change(Ledger::close);
    }

    /// What it is at this moment.
    ///
    /// ```
    /// # use anteroom_limiter::{LocalSemaphore, Snapshot};
    /// let snapshot = LocalSemaphore::new(3).snapshot();
    /// assert_eq!(snapshot, Snapshot { limit: 3, in_use: 0, waiting: 0, closed: false });
    /// ```
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let ledger = self.ledger.borrow();
        let ([limit], [in_use]) = (ledger.limit(), ledger.in_use());
        Snapshot { limit, in_use, waiting: ledger.waiting(), closed: ledger.is_closed() }
    }

    /// A weight of zero takes nothing and overtakes nobody, as in the other shell.
    #[inline]
    fn admit(&self, weight: usize) -> Result<(), Refusal> {
        match self.ledger.borrow_mut().try_acquire([weight]) {
            Err(Refusal::Queued | Refusal::Full) if weight == 0 => Ok(()),
            outcome => outcome,
        }
    }

    #[inline]
    fn release(&self, weight: usize) {
        let waits = {
            let mut ledger = self.ledger.borrow_mut();
            ledger.release([weight]);
            ledger.waiting() > 0
        };
        if waits {
            self.tell(None);
        }
    }

    /// Runs an operation that may make room or end admission, and tells everybody whom it concerns.
    fn change(&self, operation: impl FnOnce(&mut Ledger<Waker>)) {
        operation(&mut self.ledger.borrow_mut());
        self.tell(None);
    }

    /// [LOCAL-2]. At the end it drops the waker of one who left, whose panic is one of theirs [WAKE-3].
    fn tell(&self, left: Option<Waker>) {
        let mut panics = Panics::new();
        loop {
            let told = self.ledger.borrow_mut().next_told();
            let Some(waker) = told else { break };
            panics.call(|| waker.wake()); // [LOCAL-1]
        }
        panics.call(|| drop(left));
        panics.finish();
    }
}

/// Units of a [`LocalSemaphore`], in use until this is dropped.
///
/// ```
/// # use anteroom_limiter::LocalSemaphore;
/// let semaphore = LocalSemaphore::new(3);
/// let permit = semaphore.try_acquire_many(2).unwrap();
/// assert_eq!(permit.weight(), 2);
/// drop(permit);
/// assert_eq!(semaphore.snapshot().in_use, 0);
/// ```
///
/// # Panics
///
/// As [`Permit`](crate::Permit)'s drop.
#[must_use = "dropped at once, it limits nothing"]
pub struct LocalPermit<S: Deref<Target = LocalSemaphore>> {
    semaphore: S,
    weight: usize,
}

impl<S: Deref<Target = LocalSemaphore>> LocalPermit<S> {
    /// How many units it holds.
    ///
    /// ```
    /// # use anteroom_limiter::LocalSemaphore;
    /// assert_eq!(LocalSemaphore::new(1).try_acquire_many(1).unwrap().weight(), 1);
    /// ```
    #[must_use]
    pub fn weight(&self) -> usize {
        self.weight
    }
}

impl<S: Deref<Target = LocalSemaphore>> Drop for LocalPermit<S> {
    #[inline]
    fn drop(&mut self) {
        self.semaphore.release(self.weight);
    }
}

/// Resolves to a [`LocalPermit`] when it is this caller's turn. Made by [`LocalSemaphore::acquire`] and its siblings.
///
/// ```
/// use std::pin::pin;
/// use std::task::{Context, Waker};
/// use anteroom_limiter::LocalSemaphore;
///
/// let semaphore = LocalSemaphore::new(1);
/// let first = semaphore.try_acquire_many(1).unwrap();
/// let mut second = pin!(semaphore.acquire());
/// let mut cx = Context::from_waker(Waker::noop());
/// assert!(second.as_mut().poll(&mut cx).is_pending());
/// drop(first);
/// assert!(second.as_mut().poll(&mut cx).is_ready());
/// ```
///
/// # Panics
///
/// If it is polled after it has resolved.
#[must_use = "nothing is acquired until this is awaited"]
pub struct LocalAcquire<S: Deref<Target = LocalSemaphore>> {
    /// Until it has resolved.
    semaphore: Option<S>,
    place: Option<Key>,
    weight: usize,
}

impl<S: Deref<Target = LocalSemaphore>> LocalAcquire<S> {
    /// What has become of it: granted, refused, or to wait.
    #[inline]
    fn stand(&mut self, waker: &Waker) -> Poll<Result<(), AcquireError>> {
        let Some(semaphore) = &self.semaphore else {
            panic!("a LocalAcquire was polled after it had resolved")
        };
        match self.place {
            None => match semaphore.admit(self.weight) {
                Ok(()) => Poll::Ready(Ok(())),
                Err(Refusal::Closed) => Poll::Ready(Err(AcquireError::Closed)),
                Err(Refusal::ExceedsLimit) => Poll::Ready(Err(AcquireError::ExceedsLimit)),
                Err(Refusal::Full | Refusal::Queued) => self.queue(waker.clone()), // [LOCAL-1]
            },
            Some(key) => {
                let mut ledger = semaphore.ledger.borrow_mut();
                if ledger.was_granted(key) {
                    return Poll::Ready(Ok(()));
                }
                match ledger.get_mut(key) {
                    None => return Poll::Ready(Err(AcquireError::Closed)),
                    Some(stored) if stored.will_wake(waker) => return Poll::Pending,
                    Some(_) => {}
                }
                drop(ledger);
                self.exchange(key, waker.clone()) // [LOCAL-1]
            }
        }
    }

    /// The waker's clone may have changed anything: looks again, and stands in line if need be.
    /// Gives up, whatever has become of it.
    #[cold]
    fn leave(&self, key: Key) {
        let Some(semaphore) = &self.semaphore else { return };
        let left = semaphore.ledger.borrow_mut().leave(key, [self.weight]);
        semaphore.tell(left); // [LOCAL-1]
    }

    fn queue(&mut self, waker: Waker) -> Poll<Result<(), AcquireError>> {
        let Some(semaphore) = &self.semaphore else { unreachable!("it was there before the clone") };
        let mut ledger = semaphore.ledger.borrow_mut();
        let outcome = match ledger.try_acquire([self.weight]) {
            Ok(()) => Ok(()),
            Err(Refusal::Closed) => Err(AcquireError::Closed),
            Err(Refusal::ExceedsLimit) => Err(AcquireError::ExceedsLimit),
            Err(Refusal::Full | Refusal::Queued) => {
                self.place = Some(ledger.enqueue([self.weight], waker));
                return Poll::Pending;
            }
        };
        drop(ledger);
        if let Ok(()) = outcome {
            // Its drop is the caller's code: should that panic, the units go back with this.
            let permit = LocalPermit { semaphore: &**semaphore, weight: self.weight };
            drop(waker);
            std::mem::forget(permit);
        }
        Poll::Ready(outcome)
    }

    #[cold]
    fn exchange(&mut self, key: Key, mut waker: Waker) -> Poll<Result<(), AcquireError>> {
        let Some(semaphore) = &self.semaphore else { unreachable!("it was there before the clone") };
        let mut ledger = semaphore.ledger.borrow_mut();
        let Some(stored) = ledger.get_mut(key) else {
            // The clone let somebody serve it.
            return Poll::Ready(if ledger.was_granted(key) { Ok(()) } else { Err(AcquireError::Closed) });
        };
        std::mem::swap(stored, &mut waker);
        drop(ledger); // [LOCAL-1] and then the old waker
        Poll::Pending
    }
}

impl<S: Deref<Target = LocalSemaphore>> Future for LocalAcquire<S> {
    type Output = Result<LocalPermit<S>, AcquireError>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let Poll::Ready(outcome) = this.stand(cx.waker()) else { return Poll::Pending };
        this.place = None;
        let semaphore = this.semaphore.take().expect("it was there a few lines above");
        Poll::Ready(outcome.map(|()| LocalPermit { semaphore, weight: this.weight }))
    }
}

impl<S: Deref<Target = LocalSemaphore>> Drop for LocalAcquire<S> {
    #[inline(always)]
    fn drop(&mut self) {
        if let Some(key) = self.place {
            self.leave(key);
        }
    }
}

/// Nothing in it is ever pinned.
impl<S: Deref<Target = LocalSemaphore>> Unpin for LocalAcquire<S> {}

impl fmt::Debug for LocalSemaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.snapshot().fmt_as("LocalSemaphore", f)
    }
}

impl<S: Deref<Target = LocalSemaphore>> fmt::Debug for LocalPermit<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalPermit").field("weight", &self.weight).finish_non_exhaustive()
    }
}

impl<S: Deref<Target = LocalSemaphore>> fmt::Debug for LocalAcquire<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalAcquire").field("weight", &self.weight).finish_non_exhaustive()
    }
}
