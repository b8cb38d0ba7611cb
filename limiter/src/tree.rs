//! Limits below limits: a tenant has its share of the whole.
//!
//! # Problem
//!
//! A server admits a thousand requests, and no tenant more than fifty of them. With two semaphores, whoever takes the
//! whole's permit first keeps it idle while he waits for his tenant's, and one busy tenant holds the whole for a queue of its
//! own.
//!
//! # Idea
//!
//! A [`Limiter`] is a semaphore that knows its parent. A request goes from its own level up to the root, one after the other:
//! who waits for its own limit holds nothing of anybody else's. So in a parent's queue a child never has more callers than
//! its own limit, and the others' turn comes.
//!
//! ```text
//!   whole      ▒▒▒▒▒▒▒▒▒▒▒▒▒▒░░   ◄─ at most its limit here, in the order in which they arrived here
//!              ▲            ▲
//!   tenant a   ▒▒▒▒░     b  ▒▒▒▒▒▒◄─ ... the ones in front are in use, or in the parent's queue
//!              ▲
//!   callers    wait here first, and hold nothing
//! ```
//!
//! A permit is its limiter and a number: the same of every level, so where the units go back to need not be stored.
//!
//! # Invariants
//!
//! - `[LEVEL-1]` Units are taken from the leaf to the root, and a request that waits at a level holds its units of the levels
//!   below and of none above.
//! - `[LEVEL-2]` At any time, a request's units of a level are counted by what it knows (`taken`), or by its one place in that
//!   level's queue. Whoever ends it, by error, drop or panic, gives back both.
//! - `[LEVEL-3]` Below a limiter whose `close` has returned, all is closed: a child is in its parent's list before anybody can
//!   see it, and born closed if it comes too late for the walk. A request that has passed a level and waits above it gets
//!   no permit once that level is closed.
//! - `[LEVEL-4]` No path is longer than [`Limiter::MAX_DEPTH`].
//!
//! # Rejected
//!
//! - *From the root down.* The request that waits for its tenant's limit holds a permit of the whole.
//! - *All levels at once, under one lock.* One lock for all tenants, and the fast path is lost.
//! - *Weighted shares instead of limits.* A scheduler of its own; and a share says nothing of the worst case.
//! - *A permit for each level in the permit.* Sixteen bytes a level, in every task, to say what the limiter says.
//!
//! # Read next
//!
//! [`crate::admit`], futures that run under a permit.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::iter;
use std::ops::Bound;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use crate::error::{AcquireError, LimitError, TryAcquireError};
use crate::gate::Standing;
use crate::ledger::Key;
use crate::semaphore::{Semaphore, Snapshot};
use crate::sync::{Mutex, lock, seeded};
use crate::wake::Panics;

/// At most so many at once, and at most so many of those for each child: a semaphore with a parent.
///
/// A clone is the same limiter. Its permits are owned, and may go into tasks.
///
/// ```
/// use anteroom_limiter::{AcquireError, Limiter};
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
/// let server = Limiter::new(3);
/// let (alice, bob) = (server.child(2), server.child(2));
///
/// let one = alice.acquire().await?;
/// let two = alice.acquire().await?;
/// assert!(alice.try_acquire().is_err()); // her own limit
/// let three = bob.acquire().await?;
/// assert!(bob.try_acquire().is_err()); // the server's
/// assert_eq!(server.snapshot().in_use, 3);
/// # drop((one, two, three));
/// # Ok::<(), AcquireError>(())
/// # }).unwrap();
/// ```
///
/// # Order
///
/// First in, first out at each level: among the callers of a limiter for its own limit, and in its parent's queue in the
/// order in which they got there, whichever child they come from. A child has at most as many there as its own limit.
///
/// # Bounds
///
/// At most [`MAX_DEPTH`](Self::MAX_DEPTH) levels. A limiter costs an allocation and an entry in its parent, until its last
/// clone, child, permit and future is gone. Its waiters cost what a [`Semaphore`]'s do.
///
/// # Deadlock
///
/// One request takes its levels in an order, from below, and never deadlocks with another. Whoever holds a permit of a
/// limiter and waits for a second one there, above or below, may wait for himself; ask for all at once, with
/// [`acquire_many`](Self::acquire_many).
#[derive(Clone)]
pub struct Limiter {
    node: Arc<Node>,
}

struct Node {
    semaphore: Semaphore,
    parent: Option<Limiter>,
    /// One for the root.
    depth: usize,
    /// Its number in the parent's list.
    number: u64,
    children: Mutex<Children>,
}

/// Who is to be told of a close.
struct Children {
    live: BTreeMap<u64, Weak<Node>>,
    number_last: u64,
    closed: bool,
}

/// Units of a [`Limiter`] and of all above it, in use until this is dropped.
///
/// ```
/// use anteroom_limiter::Limiter;
///
/// let server = Limiter::new(3);
/// let permit = server.child(2).try_acquire_many(2).unwrap();
/// assert_eq!((permit.weight(), server.snapshot().in_use), (2, 2));
/// std::thread::spawn(move || drop(permit)).join().unwrap();
/// assert_eq!(server.snapshot().in_use, 0);
/// ```
///
/// # Panics
///
/// As [`Permit`](crate::Permit): its drop passes on what a waiter's waker panics with, after all levels have their units back.
#[must_use = "dropped at once, it limits nothing"]
pub struct LimiterPermit {
    limiter: Limiter,
    weight: usize,
}

/// Resolves to a [`LimiterPermit`]. Made by [`Limiter::acquire`] and [`Limiter::acquire_many`].
///
/// ```
/// use std::pin::pin;
/// use std::task::{Context, Waker};
/// use anteroom_limiter::Limiter;
///
/// let server = Limiter::new(1);
/// let (alice, bob) = (server.child(1), server.child(1));
/// let hers = alice.try_acquire().unwrap();
/// let mut his = pin!(bob.acquire());
/// let mut cx = Context::from_waker(Waker::noop());
/// assert!(his.as_mut().poll(&mut cx).is_pending());
/// drop(hers);
/// assert!(his.as_mut().poll(&mut cx).is_ready());
/// ```
///
/// # Panics
///
/// If it is polled after it has resolved.
#[must_use = "nothing is acquired until this is awaited"]
pub struct LimiterAcquire {
    /// Until it has resolved.
    limiter: Option<Limiter>,
    weight: usize,
    /// How many levels, from the leaf, it has its units of.
    taken: usize,
    /// Its place in the queue of the level after those.
    place: Option<Key>,
}

/// Why a limiter can have no such child.
///
/// ```
/// use anteroom_limiter::{ChildError, LimitError, Limiter};
///
/// assert_eq!(Limiter::new(1).try_child(0).unwrap_err(), ChildError::Limit(LimitError::Zero));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChildError {
    /// The number cannot be a limit.
    Limit(LimitError),
    /// There are [`Limiter::MAX_DEPTH`] levels already.
    TooDeep,
}

impl Limiter {
    /// How many levels there may be, the root among them: 8. Each costs a request one acquisition.
    ///
    /// ```
    /// # use anteroom_limiter::{ChildError, Limiter};
    /// let mut limiter = Limiter::new(1);
    /// for _ in 1..Limiter::MAX_DEPTH {
    ///     limiter = limiter.child(1);
    /// }
    /// assert_eq!(limiter.try_child(1).unwrap_err(), ChildError::TooDeep);
    /// ```
    pub const MAX_DEPTH: usize = 8;

    /// A limiter with no parent.
    ///
    /// ```
    /// # use anteroom_limiter::Limiter;
    /// assert_eq!(Limiter::new(3).snapshot().limit, 3);
    /// ```
    ///
    /// # Panics
    ///
    /// If `limit` is zero or more than [`Semaphore::MAX_PERMITS`]. [`try_new`](Self::try_new) is for one that comes from a
    /// user.
    #[must_use]
    #[track_caller]
    pub fn new(limit: usize) -> Self {
        Self::try_new(limit).unwrap_or_else(|error| panic!("Limiter::new({limit}): {error}"))
    }

    /// A limiter with no parent, or why that cannot be.
    ///
    /// ```
    /// # use anteroom_limiter::{LimitError, Limiter};
    /// assert_eq!(Limiter::try_new(0).unwrap_err(), LimitError::Zero);
    /// ```
    ///
    /// # Errors
    ///
    /// [`LimitError`], if `limit` is zero or more than [`Semaphore::MAX_PERMITS`].
    pub fn try_new(limit: usize) -> Result<Self, LimitError> {
        let semaphore = Semaphore::try_new(limit)?;
        let children = Mutex::new(Children { live: BTreeMap::new(), number_last: 0, closed: false });
        Ok(Self { node: Arc::new(Node { semaphore, parent: None, depth: 1, number: 0, children }) })
    }

    /// A limiter below this one: what it admits is admitted here too.
    ///
    /// Its limit may be more than this one's, and those of all children together usually are. A child of a closed limiter is
    /// closed.
    ///
    /// ```
    /// # use anteroom_limiter::Limiter;
    /// let server = Limiter::new(1_000);
    /// let tenant = server.child(50);
    /// let _permit = tenant.try_acquire().unwrap();
    /// assert_eq!((tenant.snapshot().in_use, server.snapshot().in_use), (1, 1));
    /// ```
    ///
    /// # Panics
    ///
    /// As [`new`](Self::new), and if there would be more than [`MAX_DEPTH`](Self::MAX_DEPTH) levels.
    /// [`try_child`](Self::try_child) says so instead.
    #[must_use]
    #[track_caller]
    pub fn child(&self, limit: usize) -> Self {
        self.try_child(limit).unwrap_or_else(|error| panic!("Limiter::child({limit}): {error}"))
    }

    /// A limiter below this one, or why that cannot be.
    ///
    /// ```
    /// # use anteroom_limiter::{ChildError, LimitError, Limiter};
    /// let server = Limiter::new(1_000);
    /// assert!(server.try_child(50).is_ok());
    /// assert_eq!(server.try_child(0).unwrap_err(), ChildError::Limit(LimitError::Zero));
    /// ```
    ///
    /// # Errors
    ///
    /// [`ChildError`], if `limit` cannot be one, or there would be more than [`MAX_DEPTH`](Self::MAX_DEPTH) levels.
    pub fn try_child(&self, limit: usize) -> Result<Self, ChildError> {
        let semaphore = Semaphore::try_new(limit).map_err(ChildError::Limit)?;
        if self.node.depth == Self::MAX_DEPTH {
            return Err(ChildError::TooDeep); // [LEVEL-4]
        }
        let mut children = lock(&self.node.children);
        children.number_last += 1; // At one a nanosecond, not for 584 years.
        let (number, closed) = (children.number_last, children.closed);
        let of_its_own = Mutex::new(Children { live: BTreeMap::new(), number_last: 0, closed });
        let node = Arc::new(Node {
            semaphore,
            parent: Some(self.clone()),
            depth: self.node.depth + 1,
            number,
            children: of_its_own,
        });
        children.live.insert(number, Arc::downgrade(&node));
        drop(children);
        if closed {
            node.semaphore.close(); // [LEVEL-3]
        }
        Ok(Self { node })
    }

    /// Waits for one permit, here and at each level above.
    ///
    /// ```
    /// # use anteroom_limiter::{AcquireError, Limiter};
    /// # async fn serve() {}
    /// async fn request(tenant: &Limiter) -> Result<(), AcquireError> {
    ///     let _permit = tenant.acquire().await?;
    ///     serve().await; // at most so many of these at once for one tenant, and for all
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`AcquireError::Closed`] if this limiter or one above it is closed, now or while this waits: at once, or, if it waits
    /// at a level above the one that is closed, when it is polled next, which is at its turn there at the latest.
    ///
    /// # Cancel safety
    ///
    /// Dropped at any point, it gives back its units of the levels that it has passed and its place in the queue it stands
    /// in; those behind it are served.
    ///
    /// # Deadlock
    ///
    /// A granted level is held whether this is polled or not: as [`Semaphore::acquire`], poll it or drop it.
    pub fn acquire(&self) -> LimiterAcquire {
        self.acquire_many(1)
    }

    /// Waits for `weight` permits at once, here and at each level above. For a weight of zero see
    /// [`Semaphore::acquire_many`].
    ///
    /// ```
    /// # use anteroom_limiter::{AcquireError, Limiter};
    /// async fn load(tenant_mib: &Limiter, size_mib: usize) -> Result<(), AcquireError> {
    ///     let _permit = tenant_mib.acquire_many(size_mib).await?;
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`acquire`](Self::acquire), and [`AcquireError::ExceedsLimit`] if `weight` is more than the limit of any level:
    /// at once, if it is so at the first poll.
    ///
    /// # Cancel safety
    ///
    /// As [`acquire`](Self::acquire).
    pub fn acquire_many(&self, weight: usize) -> LimiterAcquire {
        LimiterAcquire { limiter: Some(self.clone()), weight, taken: 0, place: None }
    }

    /// Takes one permit, here and at each level above, if all have room and nobody waits.
    ///
    /// ```
    /// # use anteroom_limiter::Limiter;
    /// let server = Limiter::new(1);
    /// let (alice, bob) = (server.child(1), server.child(1));
    /// let _permit = alice.try_acquire().unwrap();
    /// assert!(bob.try_acquire().is_err());
    /// ```
    ///
    /// # Errors
    ///
    /// [`TryAcquireError`], at once, as the first level that refuses says it.
    pub fn try_acquire(&self) -> Result<LimiterPermit, TryAcquireError> {
        self.try_acquire_many(1)
    }

    /// Takes `weight` permits, here and at each level above, or none at all.
    ///
    /// Until the root has said yes, the levels below it count them as in use, and somebody else who tries meanwhile may be
    /// told no.
    ///
    /// ```
    /// # use anteroom_limiter::{Limiter, TryAcquireError};
    /// let server = Limiter::new(2);
    /// let tenant = server.child(5);
    /// assert_eq!(tenant.try_acquire_many(3).unwrap_err(), TryAcquireError::ExceedsLimit);
    /// assert_eq!(tenant.snapshot().in_use, 0);
    /// ```
    ///
    /// # Errors
    ///
    /// [`TryAcquireError`], at once, as the first level that refuses says it.
    pub fn try_acquire_many(&self, weight: usize) -> Result<LimiterPermit, TryAcquireError> {
        for (below, level) in self.levels().enumerate() {
            if let Err(error) = level.semaphore.gate().try_acquire(weight) {
                self.give_back(below, weight);
                return Err(error);
            }
        }
        Ok(LimiterPermit { limiter: self.clone(), weight })
    }

    /// Changes this level's limit, as [`Semaphore::set_limit`] does. Those above and below stay as they are.
    ///
    /// ```
    /// # use anteroom_limiter::Limiter;
    /// let tenant = Limiter::new(1_000).child(50);
    /// tenant.set_limit(100)?;
    /// assert_eq!(tenant.snapshot().limit, 100);
    /// # Ok::<(), anteroom_limiter::LimitError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`LimitError`], if `limit` is zero or more than [`Semaphore::MAX_PERMITS`]; nothing has changed then.
    ///
    /// # Panics
    ///
    /// As [`Semaphore::set_limit`].
    pub fn set_limit(&self, limit: usize) -> Result<(), LimitError> {
        self.node.semaphore.set_limit(limit)
    }

    /// Ends admission for good, here and at all levels below: all who wait there and all who come are told
    /// [`Closed`](AcquireError::Closed). Permits stay valid until they are dropped.
    ///
    /// Who came from here or below and waits at a level above gets no permit either: it stands in the queue of that level,
    /// which is open, and is told there, at its turn or when it is polled before.
    ///
    /// ```
    /// # use anteroom_limiter::{Limiter, TryAcquireError};
    /// let server = Limiter::new(1_000);
    /// let tenant = server.child(50);
    /// server.close();
    /// assert_eq!(tenant.try_acquire().unwrap_err(), TryAcquireError::Closed);
    /// assert!(server.child(50).is_closed());
    /// ```
    ///
    /// # Panics
    ///
    /// If a waiter's waker panics, with its panic, after all waiters were told.
    pub fn close(&self) {
        let mut panics = Panics::new();
        self.node.close(&mut panics);
        panics.finish();
    }

    /// Whether [`close`](Self::close) was called, here or above.
    ///
    /// ```
    /// # use anteroom_limiter::Limiter;
    /// assert!(!Limiter::new(1).is_closed());
    /// ```
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.levels().any(|level| level.semaphore.is_closed())
    }

    /// What this level is at one instant. In use are also the units of those who wait at a level above.
    ///
    /// ```
    /// use anteroom_limiter::{Limiter, Snapshot};
    ///
    /// let tenant = Limiter::new(1_000).child(50);
    /// let _permit = tenant.try_acquire();
    /// assert_eq!(tenant.snapshot(), Snapshot { limit: 50, in_use: 1, waiting: 0, closed: false });
    /// ```
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.node.semaphore.snapshot()
    }

    /// From this one to the root.
    fn levels(&self) -> impl Iterator<Item = &Node> {
        iter::successors(Some(&*self.node), |node| node.parent.as_ref().map(|parent| &*parent.node))
    }

    /// Gives the units of the first `count` levels back, all of them whatever the wakers do.
    fn give_back(&self, count: usize, weight: usize) {
        let mut panics = Panics::new();
        for level in self.levels().take(count) {
            panics.call(|| level.semaphore.gate().release(weight));
        }
        panics.finish();
    }
}

impl Node {
    /// At most [`Limiter::MAX_DEPTH`] deep [LEVEL-4].
    fn close(&self, panics: &mut Panics) {
        let is_late = seeded("tree_tells_of_its_close_last");
        lock(&self.children).closed |= !is_late; // [LEVEL-3] From now on they are born closed.
        panics.call(|| self.semaphore.close());
        let mut last = 0;
        loop {
            let children = lock(&self.children);
            let next = children.live.range((Bound::Excluded(last), Bound::Unbounded)).next();
            let next = next.map(|(&number, child)| (number, child.upgrade()));
            drop(children);
            let Some((number, child)) = next else { break };
            if let Some(child) = child {
                child.close(panics);
            }
            last = number;
        }
        lock(&self.children).closed |= is_late;
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(parent) = &self.parent {
            lock(&parent.node.children).live.remove(&self.number);
        }
    }
}

impl LimiterAcquire {
    /// Whether any level can never serve this, as things are. Nothing is held yet.
    fn refused(limiter: &Limiter, weight: usize) -> Result<(), AcquireError> {
        if limiter.is_closed() {
            return Err(AcquireError::Closed);
        }
        if limiter.levels().any(|level| weight > level.semaphore.limit()) {
            return Err(AcquireError::ExceedsLimit);
        }
        Ok(())
    }

    /// Goes as far up as it can. `Pending` is in the queue of the level that it has come to.
    fn climb(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), AcquireError>> {
        let Self { limiter, weight, taken, place } = self;
        let limiter =
            limiter.as_ref().unwrap_or_else(|| panic!("a LimiterAcquire was polled after it had resolved"));
        if *taken == 0 && place.is_none() {
            Self::refused(limiter, *weight)?;
        }
        // The close of a level tells those in its own line, and this one has left it [LEVEL-3].
        if limiter.levels().take(*taken).any(|level| level.semaphore.is_closed()) {
            if let Some(key) = place.take() {
                let level = limiter.levels().nth(*taken).expect("it waits at one");
                level.semaphore.gate().leave(key, *weight); // Should that panic, drop gives the rest back [LEVEL-2].
            }
            return Poll::Ready(Err(AcquireError::Closed));
        }
        // [LEVEL-1] From where it waits, or from below.
        for level in limiter.levels().skip(*taken) {
            let gate = level.semaphore.gate();
            match *place {
                None => match gate.enter(*weight, cx.waker())? {
                    None => {}
                    Some(key) => {
                        *place = Some(key);
                        return Poll::Pending;
                    }
                },
                Some(key) => match gate.check(key, cx.waker()) {
                    Standing::Waiting => return Poll::Pending,
                    Standing::Granted => *place = None,
                    Standing::Evicted => {
                        *place = None;
                        return Poll::Ready(Err(AcquireError::Closed));
                    }
                },
            }
            *taken += 1; // [LEVEL-2] No longer by its place.
        }
        Poll::Ready(Ok(()))
    }
}

impl Future for LimiterAcquire {
    type Output = Result<LimiterPermit, AcquireError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let Poll::Ready(result) = this.climb(cx) else { return Poll::Pending };
        let limiter = this.limiter.take().expect("or it would have panicked"); // [LEVEL-2] Drop finds nothing to give back.
        Poll::Ready(match result {
            Ok(()) => Ok(LimiterPermit { limiter, weight: this.weight }),
            Err(error) => {
                limiter.give_back(this.taken, this.weight);
                Err(error)
            }
        })
    }
}

impl Drop for LimiterAcquire {
    fn drop(&mut self) {
        let Some(limiter) = &self.limiter else { return };
        let mut panics = Panics::new();
        if let Some(key) = self.place {
            let level = limiter.levels().nth(self.taken).expect("it waits at one");
            panics.call(|| level.semaphore.gate().leave(key, self.weight));
        }
        panics.call(|| limiter.give_back(self.taken, self.weight));
        panics.finish();
    }
}

impl LimiterPermit {
    /// How many units it holds of each level.
    ///
    /// ```
    /// # use anteroom_limiter::Limiter;
    /// assert_eq!(Limiter::new(3).try_acquire_many(2).unwrap().weight(), 2);
    /// ```
    #[must_use]
    pub fn weight(&self) -> usize {
        self.weight
    }
}

impl Drop for LimiterPermit {
    fn drop(&mut self) {
        self.limiter.give_back(self.limiter.node.depth, self.weight);
    }
}

impl fmt::Debug for Limiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Snapshot { limit, in_use, waiting, .. } = self.snapshot();
        f.debug_struct("Limiter")
            .field("depth", &self.node.depth)
            .field("limit", &limit)
            .field("in_use", &in_use)
            .field("waiting", &waiting)
            .field("closed", &self.is_closed())
            .finish()
    }
}

impl fmt::Debug for LimiterPermit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LimiterPermit").field("weight", &self.weight).finish_non_exhaustive()
    }
}

impl fmt::Debug for LimiterAcquire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match (&self.limiter, self.taken, self.place) {
            (None, ..) => "resolved",
            (Some(_), 0, None) => "new",
            (Some(_), ..) => "queued",
        };
        f.debug_struct("LimiterAcquire")
            .field("weight", &self.weight)
            .field("levels_taken", &self.taken)
            .field("state", &state)
            .finish()
    }
}

impl fmt::Display for ChildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ChildError::Limit(error) => error.fmt(f),
            ChildError::TooDeep => {
                write!(f, "there are at most {} levels of limits (MAX_DEPTH)", Limiter::MAX_DEPTH)
            }
        }
    }
}

impl Error for ChildError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            ChildError::Limit(error) => Some(error),
            ChildError::TooDeep => None,
        }
    }
}

#[cfg(all(test, not(anteroom_loom)))]
mod tests {
    use super::*;

    /// Nothing else would notice: all would still be right, and the list would grow with every tenant that ever was.
    #[test]
    fn a_parent_forgets_a_child_with_its_last_clone_permit_or_future() {
        let root = Limiter::new(3);
        let listed = || lock(&root.node.children).live.len();
        let child = root.child(1);
        let (clone, grandchild, permit) = (child.clone(), child.child(1), child.try_acquire().unwrap());
        let future = child.acquire();
        drop(child);
        assert_eq!(listed(), 1);
        drop((clone, grandchild, permit));
        assert_eq!(listed(), 1);
        drop(future);
        assert_eq!(listed(), 0);
    }
}
