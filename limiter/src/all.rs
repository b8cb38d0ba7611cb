//! Several semaphores at once, in one order, whatever order they are written in.
//!
//! # Problem
//!
//! One task takes a permit for the disk and then one for the network, another does it the other way round, and at the limit
//! each holds what the other waits for. Nothing says so, the two lines are in two files, and it happens under load.
//!
//! # Idea
//!
//! [`All`] takes the permits in the order of the semaphores' addresses. Whoever waits for one holds only some that stand
//! before it in that order, so along any chain of "waits for what he holds" the addresses rise, and a chain that rises never
//! closes to a circle. They can be compared, since a semaphore that is borrowed does not move: any two requests that overlap
//! see the same addresses.
//!
//! ```text
//!   sort, add up what is asked of the same one ─► all open, and large enough? ─► wait for the 1st ─► ... ─► wait for the last
//!                                                  else refused, holding nothing   dropped anywhere here, all goes back
//! ```
//!
//! # Invariants
//!
//! - `[ALL-1]` Permits are taken in the order of the semaphores' addresses.
//! - `[ALL-2]` Each semaphore is asked once, for the sum.
//! - `[ALL-3]` At any time, what was granted is in a permit, or in the one place in a queue; both give it back when they are
//!   dropped.
//!
//! # Rejected
//!
//! - *Try all, and wait for the one that was full with empty hands.* Nothing is held while it waits, and nothing is ever
//!   sure: whoever wants several is passed for ever by those who want one.
//! - *All queues joined under one lock, so that all are granted together.* A lock for all semaphores of the process, or an
//!   order of locks, which is the same idea one floor down, and every release pays for it.
//! - *A number for the order in each semaphore.* Eight bytes and a counter for what the address says already.
//!
//! # Read next
//!
//! [`crate::tree`], limits below limits, where the order is given.

use std::fmt;
use std::pin::Pin;
use std::ptr;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::acquire::Acquire;
use crate::error::{AcquireError, TryAcquireError};
use crate::permit::Permit;
use crate::semaphore::Semaphore;

/// How many semaphores there may be in one [`All`].
const PARTS_MAX: usize = 4;

/// Two to four semaphores that are acquired together, in an order that cannot deadlock.
///
/// A tuple of `&Semaphore` or `&Arc<Semaphore>`, each for one permit, or of pairs with a weight, such as `(&memory, 64)`.
/// The order in which they are written means nothing. The same one twice is asked once, for the sum.
///
/// ```
/// use anteroom_limiter::{AcquireError, All, Semaphore};
/// # use std::pin::pin;
/// # use std::task::{Context, Poll, Waker};
/// # fn block_on<T>(future: impl Future<Output = T>) -> T {
/// #     match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
/// #         Poll::Ready(output) => output,
/// #         Poll::Pending => unreachable!("there is room"),
/// #     }
/// # }
///
/// # block_on(async {
/// let (disk, memory_mib) = (Semaphore::new(4), Semaphore::new(1_024));
///
/// let both = All((&disk, (&memory_mib, 64))).acquire().await?;
/// assert_eq!((disk.in_use(), memory_mib.in_use()), (1, 64));
/// drop(both);
/// assert_eq!((disk.in_use(), memory_mib.in_use()), (0, 0));
/// # Ok::<(), AcquireError>(())
/// # }).unwrap();
/// ```
///
/// # What is held while it waits
///
/// The permits of those semaphores that come before in the order. So a full semaphore may keep permits of another one idle,
/// as many as wait for it; to bound that, take a permit of a third semaphore first, one for each that may wait.
///
/// # Deadlock
///
/// Requests by `All` alone never deadlock, in whatever combination. What can: to acquire something by itself while holding a
/// permit, be it with another `All`. The order is kept within one request; whoever holds one and makes a second one is where
/// he was without it. Ask for all in one request.
#[derive(Clone, Copy, Debug)]
pub struct All<R>(
    /// The requests.
    pub R,
);

/// Permits of several semaphores, in use until this is dropped.
///
/// ```
/// use anteroom_limiter::{All, Semaphore};
///
/// let (a, b) = (Semaphore::new(1), Semaphore::new(1));
/// let both = All((&a, &b)).try_acquire().unwrap();
/// assert!(a.try_acquire().is_err() && b.try_acquire().is_err());
/// drop(both);
/// assert_eq!((a.in_use(), b.in_use()), (0, 0));
/// ```
///
/// # Panics
///
/// As [`Permit`]: its drop passes on what a waiter's waker panics with, after all permits were given back.
#[must_use = "dropped at once, it limits nothing"]
pub struct AllPermit<'a> {
    permits: [Option<Permit<&'a Semaphore>>; PARTS_MAX],
}

/// Resolves to an [`AllPermit`]. Made by [`All::acquire`].
///
/// ```
/// use std::pin::pin;
/// use std::task::{Context, Waker};
/// use anteroom_limiter::{All, Semaphore};
///
/// let (a, b) = (Semaphore::new(1), Semaphore::new(1));
/// let held = b.try_acquire().unwrap();
/// let mut both = pin!(All((&a, &b)).acquire());
/// let mut cx = Context::from_waker(Waker::noop());
/// assert!(both.as_mut().poll(&mut cx).is_pending());
/// drop(held);
/// assert!(both.as_mut().poll(&mut cx).is_ready());
/// ```
///
/// # Panics
///
/// If it is polled after it has resolved.
#[must_use = "nothing is acquired until this is awaited"]
pub struct AllAcquire<'a> {
    /// The place in the queue of the part that is next, if it was asked already.
    acquire: Option<Acquire<&'a Semaphore>>,
    /// Of the parts before that.
    held: AllPermit<'a>,
    /// In the order [ALL-1].
    parts: Parts<'a>,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    New,
    /// The parts before this one are held.
    At(usize),
    Resolved,
}

type Parts<'a> = [Option<(&'a Semaphore, usize)>; PARTS_MAX];

impl<'a, R: Requests<'a>> All<R> {
    /// Waits for all of them.
    ///
    /// ```
    /// use anteroom_limiter::{AcquireError, All, Semaphore};
    /// # async fn copy() {}
    ///
    /// async fn backup(disk: &Semaphore, network: &Semaphore) -> Result<(), AcquireError> {
    ///     let _both = All((disk, network)).acquire().await?;
    ///     copy().await;
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Semaphore::acquire_many`] for any of them. That one is closed, or that the sum asked of one exceeds its limit, is
    /// found before anything is taken; what changes later is found when its turn comes. All is given back then.
    ///
    /// # Cancel safety
    ///
    /// Dropped at any point, it gives back what it has, and its place in the queue it stands in; those behind are served.
    ///
    /// # Deadlock
    ///
    /// A granted permit is held whether this is polled or not: as [`Semaphore::acquire`], poll it or drop it. See also [above](Self#deadlock).
    pub fn acquire(&self) -> AllAcquire<'a> {
        AllAcquire { acquire: None, held: AllPermit::nothing(), parts: self.parts(), state: State::New }
    }

    /// Takes all of them or none, if each has room and nobody waits for it.
    ///
    /// Until the last has said yes, those before it are in use, and somebody else who tries meanwhile may be told no.
    ///
    /// ```
    /// use anteroom_limiter::{All, Semaphore};
    ///
    /// let (a, b) = (Semaphore::new(1), Semaphore::new(1));
    /// let _held = b.try_acquire().unwrap();
    /// assert!(All((&a, &b)).try_acquire().is_err());
    /// assert_eq!(a.in_use(), 0);
    /// ```
    ///
    /// # Errors
    ///
    /// [`TryAcquireError`], at once: `Closed` if any is closed, else `ExceedsLimit` if the sum asked of any exceeds its limit,
    /// and `NoPermits` only if none of them is; so who tries again does it with a prospect.
    pub fn try_acquire(&self) -> Result<AllPermit<'a>, TryAcquireError> {
        let parts = self.parts();
        refused(&parts, TryAcquireError::Closed, TryAcquireError::ExceedsLimit)?;
        let mut held = AllPermit::nothing();
        for (permit, part) in held.permits.iter_mut().zip(parts) {
            let Some((semaphore, weight)) = part else { break };
            *permit = Some(semaphore.try_acquire_many(weight)?); // [ALL-3]
        }
        Ok(held)
    }

    /// What is asked of whom: in order [ALL-1], each once [ALL-2], and those that there are before those that are not.
    fn parts(&self) -> Parts<'a> {
        let mut parts = [None; PARTS_MAX];
        self.0.each(&mut |semaphore, weight| add(&mut parts, semaphore, weight));
        parts.sort_by_key(|part| part.map_or((true, ptr::null()), |(of, _)| (false, ptr::from_ref(of))));
        parts
    }
}

fn add<'a>(parts: &mut Parts<'a>, semaphore: &'a Semaphore, weight: usize) {
    for part in parts {
        match part {
            // More than any limit is as good as more than a usize.
            Some((of, sum)) if ptr::eq(*of, semaphore) => *sum = sum.saturating_add(weight),
            Some(_) => continue,
            None => *part = Some((semaphore, weight)),
        }
        return;
    }
    unreachable!("there are not so many parts");
}

/// Whether any part can never be served, as things are: whatever the order, which the caller does not know. Nothing is held
/// yet.
fn refused<E>(parts: &Parts<'_>, closed: E, exceeds_limit: E) -> Result<(), E> {
    let parts = || parts.iter().flatten();
    if parts().any(|(semaphore, _)| semaphore.is_closed()) {
        return Err(closed);
    }
    if parts().any(|(semaphore, weight)| *weight > semaphore.limit()) {
        return Err(exceeds_limit);
    }
    Ok(())
}

impl<'a> AllAcquire<'a> {
    fn resolve(&mut self) -> AllPermit<'a> {
        self.state = State::Resolved;
        std::mem::replace(&mut self.held, AllPermit::nothing())
    }
}

impl<'a> Future for AllAcquire<'a> {
    type Output = Result<AllPermit<'a>, AcquireError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        loop {
            let at = match this.state {
                State::At(at) => at,
                State::New => {
                    if let Err(error) = refused(&this.parts, AcquireError::Closed, AcquireError::ExceedsLimit)
                    {
                        this.state = State::Resolved;
                        return Poll::Ready(Err(error));
                    }
                    this.state = State::At(0);
                    0
                }
                State::Resolved => panic!("an AllAcquire was polled after it had resolved"),
            };
            let Some(&Some((semaphore, weight))) = this.parts.get(at) else {
                return Poll::Ready(Ok(this.resolve()));
            };
            let acquire = this.acquire.get_or_insert_with(|| semaphore.acquire_many(weight));
            let Poll::Ready(result) = Pin::new(acquire).poll(cx) else { return Poll::Pending };
            this.acquire = None; // It has resolved; what it gave is in `result` [ALL-3].
            match result {
                Ok(permit) => this.held.permits[at] = Some(permit),
                Err(error) => {
                    drop(this.resolve());
                    return Poll::Ready(Err(error));
                }
            }
            this.state = State::At(at + 1);
        }
    }
}

impl AllPermit<'_> {
    const fn nothing() -> Self {
        Self { permits: [const { None }; PARTS_MAX] }
    }
}

impl fmt::Debug for AllPermit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.permits.iter().flatten()).finish()
    }
}

impl fmt::Debug for AllAcquire<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AllAcquire")
            .field("held", &self.held)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

/// What may stand in an [`All`]: a semaphore, for one permit, or a pair of one and a weight.
///
/// Implemented here only.
///
/// ```
/// # use anteroom_limiter::{All, Semaphore};
/// # use std::sync::Arc;
/// let (plain, shared) = (Semaphore::new(2), Arc::new(Semaphore::new(2)));
/// let _all = All((&plain, (&plain, 1), &shared, (&shared, 1))).try_acquire().unwrap();
/// assert_eq!((plain.in_use(), shared.in_use()), (2, 2));
/// ```
pub trait Request<'a>: Copy + sealed::One {
    /// Whom it asks, and for how much.
    #[doc(hidden)]
    fn part(self) -> (&'a Semaphore, usize);
}

/// A tuple of two to four [`Request`]s. Implemented here only.
///
/// ```
/// # use anteroom_limiter::{All, Semaphore};
/// # let [a, b, c, d] = [(); 4].map(|()| Semaphore::new(1));
/// let _all = All((&a, &b, &c, &d)).try_acquire().unwrap();
/// ```
pub trait Requests<'a>: sealed::Several {
    /// Calls `f` with each.
    #[doc(hidden)]
    fn each(&self, f: &mut dyn FnMut(&'a Semaphore, usize));
}

mod sealed {
    pub trait One {}
    pub trait Several {}
}

impl sealed::One for &Semaphore {}
impl<'a> Request<'a> for &'a Semaphore {
    fn part(self) -> (&'a Semaphore, usize) {
        (self, 1)
    }
}

impl sealed::One for &Arc<Semaphore> {}
impl<'a> Request<'a> for &'a Arc<Semaphore> {
    fn part(self) -> (&'a Semaphore, usize) {
        (self, 1)
    }
}

impl sealed::One for (&Semaphore, usize) {}
impl<'a> Request<'a> for (&'a Semaphore, usize) {
    fn part(self) -> (&'a Semaphore, usize) {
        self
    }
}

impl sealed::One for (&Arc<Semaphore>, usize) {}
impl<'a> Request<'a> for (&'a Arc<Semaphore>, usize) {
    fn part(self) -> (&'a Semaphore, usize) {
        (self.0, self.1)
    }
}

macro_rules! tuples {
    ($(($($name:ident $at:tt),+);)+) => {$(
        impl<$($name),+> sealed::Several for ($($name,)+) {}
        impl<'a, $($name: Request<'a>),+> Requests<'a> for ($($name,)+) {
            fn each(&self, f: &mut dyn FnMut(&'a Semaphore, usize)) {
                $(
                    let (semaphore, weight) = self.$at.part();
                    f(semaphore, weight);
                )+
            }
        }
    )+};
}

tuples! {
    (A 0, B 1);
    (A 0, B 1, C 2);
    (A 0, B 1, C 2, D 3);
}
