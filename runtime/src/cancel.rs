//! Asking tasks to end: a request that whoever holds a token can make, and whoever looks for it grants.
//!
//! # Problem
//! [`JoinHandle::abort`](crate::JoinHandle::abort) drops a task wherever it stands. One that must say goodbye first, finish
//! its line or give something back has to be *asked*, and so must all that work for it, on whatever thread they run.
//!
//! # Idea
//! A [`CancellationToken`] is a flag that is set once, and a line of wakers. Tokens that were made of one another share a
//! tree, behind one lock: it is taken to make a child, to drop the last clone of a token, and to cancel. To look at the flag
//! takes no lock; to wait takes that of the token's own line.
//!
//! ```text
//!   cancel()   lock the tree { take the subtree out; set its flags, from below; take their wakers }   wake them
//!   waiting    flag? · clone the waker · lock the line { flag? · put the waker in }
//! ```
//!
//! # Invariants
//! - [CANCEL-1] A flag is set before the one above it. So whoever sees a token cancelled sees all below it cancelled.
//! - [CANCEL-2] A flag is set before its line is taken, and looked at again by who enters the line, inside. So a waiter finds
//!   the flag, or is woken.
//! - [CANCEL-3] Under the locks there are moves, comparisons and the allocator: no waker is cloned, woken or dropped, so none
//!   can come back to a lock that is held.
//! - [CANCEL-4] Who holds the lock of the tree finds a token, once it was put in, either there or with its flag set, never both.
//!
//! # Rejected
//! - The token of `tokio-util`: it is tokio's. Its users asked for what is above: a look that takes no lock, an order between
//!   a token and those below it, and a future that is not polled once its token is cancelled.
//! - A lock in each node: whoever cancels and whoever leaves meet from two ends, and the order of locking becomes most of
//!   the code. It would let two threads make children of two tokens of one tree at once.
//! - A list of weak references in each parent, emptied now and then: what was dropped stays for a while, and a chain is
//!   dropped by recursion.
//! - To note a reason in the task that waits: it waits for whatever it does, and a token is one more end of it.
//!
//! # Read next
//! `cancel/tree.rs`, the tree. `examples/12_shutdown.rs`, a server that is asked to go.

mod tree;

use std::any::Any;
use std::borrow::Cow;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use pin_project_lite::pin_project;

use crate::sync::{AtomicBool, AtomicU32, Mutex, Ordering, lock, seeded};
use tree::{Member, NOWHERE, Tree};

/// A request to end, for all who hold a clone of it or a token below it.
///
/// It is a request: a task goes on until it looks, by [`is_cancelled`](Self::is_cancelled), [`cancelled`](Self::cancelled)
/// or [`run_until`](Self::run_until), and decides itself what it does first. The other way is
/// [`JoinHandle::abort`](crate::JoinHandle::abort), which drops a task at its next `await` and asks nobody.
///
/// ```
/// use anteroom::CancellationToken;
/// anteroom::block_on(async {
///     let shutdown = CancellationToken::new();
///     let connection = shutdown.child_token();
///     let task = anteroom::spawn(async move {
///         let request = std::future::pending::<()>(); // stands for a read
///         match connection.run_until(request).await {
///             Some(()) => "a request",
///             None => "goodbye",
///         }
///     });
///     let task = task.await.unwrap();
///     shutdown.cancel();
///     assert_eq!(task.await.unwrap(), "goodbye");
/// });
/// ```
///
/// A token works in any executor and across threads. Clones are one token: who cancels one cancels it for all. A
/// [child](Self::child_token) is cancelled with its parent and not the other way.
///
/// # Deadlines
/// A deadline is a time, which may be copied to whoever needs it; a token with one would need a runtime to wake it. For many
/// tasks at once:
///
/// ```
/// use anteroom::time::{now, sleep, timeout_at};
/// use anteroom::{CancellationToken, TaskGroup};
/// use std::time::Duration;
/// let runtime = anteroom::Runtime::builder().paused_clock(true).build().unwrap();
/// runtime.block_on(async {
///     let (too_late, deadline) = (CancellationToken::new(), now() + Duration::from_secs(10));
///     let group = TaskGroup::new();
///     for seconds in [1, 5, 3_600] {
///         let work = sleep(Duration::from_secs(seconds));
///         group.spawn(too_late.clone().run_until_owned(work)).await.unwrap();
///     }
///     let mut done = 0;
///     let all = async {
///         while let Some(result) = group.join_next().await {
///             done += usize::from(result.unwrap().is_some());
///         }
///     };
///     if timeout_at(deadline, all).await.is_err() {
///         too_late.cancel(); // or `group.abort_all()`, which asks nobody
///     }
///     assert_eq!(group.join_next().await.unwrap().unwrap(), None, "it was asked, and went");
///     assert_eq!(done, 2);
/// });
/// ```
///
/// # Bounds
/// A token costs less than 200 bytes, in two allocations and a place in its tree's array, until its last clone is dropped;
/// its parent then forgets it. A token that is gone while two or more of its descendants are not costs its place for as long.
/// A [`Cancelled`] that waits costs 24 bytes here, until it is dropped. Arrays double when they are full, and shrink when less
/// than a quarter of them is used. Clones share everything.
///
/// Tokens of one tree share a lock, for a few dozen instructions to make a child and to drop a token, and for the walk over
/// all below the one that is cancelled. Looking and waiting do not take it.
#[derive(Clone)]
pub struct CancellationToken {
    handle: Arc<Handle>,
}

/// What the clones of a token own together; its drop takes the token out of the tree.
struct Handle {
    signal: Arc<Signal>,
    family: Arc<Mutex<Tree<Arc<Signal>>>>,
}

/// The part of a token that the tree knows.
struct Signal {
    is_set: AtomicBool,
    /// Written and read under the lock of the tree.
    place: AtomicU32,
    line: Mutex<Line>,
}

impl CancellationToken {
    /// A token that nobody is above of.
    ///
    /// ```
    /// let token = anteroom::CancellationToken::new();
    /// assert!(!token.is_cancelled());
    /// ```
    #[must_use]
    pub fn new() -> Self {
        let signal = Signal::new();
        let family = Arc::new(Mutex::new(Tree::new(signal.clone())));
        Self { handle: Arc::new(Handle { signal, family }) }
    }

    /// A token that is cancelled with this one, and can be cancelled without it.
    ///
    /// It stays below those above this one when this one is gone. Of a token that is cancelled it is another clone.
    ///
    /// ```
    /// let parent = anteroom::CancellationToken::new();
    /// let (one, other) = (parent.child_token(), parent.child_token());
    /// one.cancel();
    /// assert!(!parent.is_cancelled() && !other.is_cancelled());
    /// parent.cancel();
    /// assert!(other.is_cancelled());
    /// ```
    ///
    /// # Panics
    /// With 2³² - 1 tokens in one tree.
    #[must_use]
    pub fn child_token(&self) -> Self {
        let own = &self.handle.signal;
        if own.is_set() {
            return self.clone();
        }
        let signal = Signal::new();
        let child = Self { handle: Arc::new(Handle { signal, family: self.handle.family.clone() }) };
        let mut tree = lock(&self.handle.family);
        if own.is_set() {
            // [CANCEL-4]: cancelled meanwhile, it has no place that a child could be put below.
            drop(tree);
            return self.clone();
        }
        tree.add(own.place(), child.handle.signal.clone());
        drop(tree);
        child
    }

    /// Cancels this token and all below it, and wakes whoever waits for one of them. Again, it does nothing.
    ///
    /// When it returns, they are cancelled. When another thread cancels the same at the same time, its wakes may be still to
    /// come.
    ///
    /// ```
    /// let token = anteroom::CancellationToken::new();
    /// token.cancel();
    /// assert!(token.is_cancelled() && token.child_token().is_cancelled());
    /// ```
    ///
    /// # Panics
    /// If a waker does: after all others were woken, with the first one's panic. Those of further ones are forgotten.
    pub fn cancel(&self) {
        let own = &self.handle.signal;
        if own.is_set() {
            return;
        }
        let mut lines = Vec::new();
        {
            let mut tree = lock(&self.handle.family);
            if own.is_set() {
                return;
            }
            tree.take_all(own.place(), |signal: Arc<Signal>| {
                // Ordering: Release; pairs with the Acquire in `is_set`. [CANCEL-1]: those below come first.
                signal.is_set.store(true, sets());
                // [CANCEL-2]
                let line = std::mem::take(&mut *lock(&signal.line));
                if !line.wakers.is_empty() {
                    lines.push(line);
                }
                // With an empty line: nothing of a user's is dropped here, [CANCEL-3].
                drop(signal);
            });
        }
        let mut panic: Option<Box<dyn Any + Send>> = None;
        for waker in lines.into_iter().flat_map(|line| line.wakers).filter_map(|(_, waker)| waker) {
            match catch_unwind(AssertUnwindSafe(|| waker.wake())) {
                Err(first) if panic.is_none() => panic = Some(first),
                // A payload's drop may panic too, and would end this loop.
                Err(further) => {
                    if let Err(given_up) = catch_unwind(AssertUnwindSafe(|| drop(further))) {
                        std::mem::forget(given_up);
                    }
                }
                Ok(()) => {}
            }
        }
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }

    /// Whether this token was cancelled, or one above it. It takes no lock.
    ///
    /// Whoever finds a token cancelled finds all below it cancelled.
    ///
    /// ```
    /// let token = anteroom::CancellationToken::new();
    /// let worker = std::thread::spawn({
    ///     let token = token.clone();
    ///     move || while !token.is_cancelled() { std::thread::yield_now() }
    /// });
    /// token.cancel();
    /// worker.join().unwrap();
    /// ```
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.handle.signal.is_set()
    }

    /// Ready when this token is cancelled; at once, if it was. Never, if nobody is left who could.
    ///
    /// ```
    /// let token = anteroom::CancellationToken::new();
    /// let other = token.clone();
    /// let thread = std::thread::spawn(move || other.cancel());
    /// anteroom::block_on(token.cancelled());
    /// thread.join().unwrap();
    /// ```
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub fn cancelled(&self) -> Cancelled<'_> {
        Cancelled { token: Cow::Borrowed(self), number: None }
    }

    /// As [`cancelled`](Self::cancelled), for a task of its own.
    ///
    /// ```
    /// anteroom::block_on(async {
    ///     let token = anteroom::CancellationToken::new();
    ///     let task = anteroom::spawn(token.clone().cancelled_owned()).await.unwrap();
    ///     token.cancel();
    ///     task.await.unwrap();
    /// });
    /// ```
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub fn cancelled_owned(self) -> Cancelled<'static> {
        Cancelled { token: Cow::Owned(self), number: None }
    }

    /// The output of `future`, or `None` if this token is cancelled first; `future` is dropped then.
    ///
    /// The token comes first: once it is cancelled `future` is not polled any more, so that a loop over what is always ready
    /// ends. An output that was ready is never dropped for it.
    ///
    /// ```
    /// anteroom::block_on(async {
    ///     let token = anteroom::CancellationToken::new();
    ///     assert_eq!(token.run_until(async { 7 }).await, Some(7));
    ///     token.cancel();
    ///     assert_eq!(token.run_until(async { 7 }).await, None);
    /// });
    /// ```
    ///
    /// # Cancel safety
    /// That of `future`; which this drops, too, when the token is cancelled.
    pub fn run_until<F: IntoFuture>(&self, future: F) -> RunUntil<'_, F::IntoFuture> {
        RunUntil { cancelled: self.cancelled(), future: Some(future.into_future()) }
    }

    /// As [`run_until`](Self::run_until), for a task of its own: it holds `future` once, where an `async` block around it
    /// would hold it twice.
    ///
    /// ```
    /// anteroom::block_on(async {
    ///     let token = anteroom::CancellationToken::new();
    ///     let work = std::future::pending::<()>();
    ///     let task = anteroom::spawn(token.child_token().run_until_owned(work)).await.unwrap();
    ///     token.cancel();
    ///     assert_eq!(task.await.unwrap(), None);
    /// });
    /// ```
    ///
    /// # Cancel safety
    /// As [`run_until`](Self::run_until).
    pub fn run_until_owned<F: IntoFuture>(self, future: F) -> RunUntil<'static, F::IntoFuture> {
        RunUntil { cancelled: self.cancelled_owned(), future: Some(future.into_future()) }
    }

    /// Cancels when it is dropped, also by a panic or by an abort.
    ///
    /// ```
    /// anteroom::block_on(async {
    ///     let token = anteroom::CancellationToken::new();
    ///     let guard = token.clone().drop_guard();
    ///     let leader = anteroom::spawn(async move {
    ///         let _guard = guard;
    ///         std::future::pending::<()>().await
    ///     });
    ///     leader.await.unwrap().abort();
    ///     token.cancelled().await; // who follows it is told
    /// });
    /// ```
    pub fn drop_guard(self) -> CancelGuard {
        CancelGuard { token: Some(self) }
    }
}

/// How a flag is set; a model must fail with less.
fn sets() -> Ordering {
    if seeded("cancel_sets_plainly") { Ordering::Relaxed } else { Ordering::Release }
}

impl Default for CancellationToken {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for CancellationToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancellationToken")
            .field("is_cancelled", &self.is_cancelled())
            .finish_non_exhaustive()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if self.signal.is_set() {
            return;
        }
        let mut tree = lock(&self.family);
        let place = self.signal.place();
        // [CANCEL-4]; and one that could not be added has none.
        if !self.signal.is_set() && place != NOWHERE {
            let own = tree.leave(place);
            drop(tree);
            drop(own);
        }
    }
}

impl Signal {
    fn new() -> Arc<Signal> {
        Arc::new(Signal {
            is_set: AtomicBool::new(false),
            place: AtomicU32::new(NOWHERE),
            line: Mutex::new(Line { wakers: Vec::new(), gone: 0 }),
        })
    }

    fn is_set(&self) -> bool {
        // Ordering: Acquire; pairs with the Release in `cancel`, so that who cancelled is known to have done what it did
        // before, and [CANCEL-1].
        self.is_set.load(Ordering::Acquire)
    }
}

impl Member for Arc<Signal> {
    fn place(&self) -> u32 {
        // Ordering: Relaxed, here and below: the lock of the tree orders them.
        self.place.load(Ordering::Relaxed)
    }

    fn set_place(&self, place: u32) {
        self.place.store(place, Ordering::Relaxed);
    }
}

/// The wakers of those who wait for a token, in the order in which they came.
///
/// They have rising numbers, so that one is found by halving. Who leaves leaves a gap; when there are more gaps than wakers,
/// the others close up.
#[derive(Default)]
struct Line {
    wakers: Vec<(u64, Option<Waker>)>,
    gone: usize,
}

impl Line {
    /// An array becomes smaller when less than a quarter of it is used, but not below so many wakers.
    const KEPT: usize = 4;

    fn find(&mut self, number: u64) -> Option<&mut Option<Waker>> {
        let at = self.wakers.binary_search_by_key(&number, |&(number, _)| number).ok()?;
        Some(&mut self.wakers[at].1)
    }

    /// Puts a waker at the end.
    fn push(&mut self, waker: Waker) -> u64 {
        // Only numbers that are in line are held by somebody, so the last one's successor is free.
        let number = self.wakers.last().map_or(0, |(last, _)| last + 1);
        if self.wakers.capacity() == 0 {
            // Most tokens have one who waits.
            self.wakers.reserve_exact(1);
        }
        self.wakers.push((number, Some(waker)));
        number
    }

    /// Takes a waker out, if it is there.
    fn remove(&mut self, number: u64) -> Option<Waker> {
        let waker = self.find(number)?.take();
        self.gone += 1;
        if self.gone > self.wakers.len() / 2 {
            self.gone = 0;
            self.wakers.retain(|(_, waker)| waker.is_some());
            if self.wakers.capacity() > Self::KEPT && self.wakers.len() < self.wakers.capacity() / 4 {
                self.wakers.shrink_to(Self::KEPT.max(self.wakers.len() * 2));
            }
        }
        waker
    }
}

/// The future of [`CancellationToken::cancelled`].
///
/// ```
/// let token = anteroom::CancellationToken::new();
/// let cancelled: anteroom::Cancelled<'_> = token.cancelled();
/// token.cancel();
/// anteroom::block_on(cancelled);
/// ```
#[must_use = "nothing waits until it is awaited"]
pub struct Cancelled<'a> {
    token: Cow<'a, CancellationToken>,
    /// In the token's line, once it was polled.
    number: Option<u64>,
}

impl Future for Cancelled<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let signal = &this.token.handle.signal;
        if signal.is_set() {
            return Poll::Ready(());
        }
        if let Some(number) = this.number {
            // If it was taken meanwhile, the flag says so below.
            if let Some(Some(waker)) = lock(&signal.line).find(number) {
                if waker.will_wake(cx.waker()) {
                    return Poll::Pending;
                }
            }
        }
        // [CANCEL-3]: cloned before the lock, and what is left over dropped after it.
        let new = cx.waker().clone();
        let mut line = lock(&signal.line);
        // [CANCEL-2]
        if signal.is_set() && !seeded("cancel_no_second_look") {
            drop(line);
            return Poll::Ready(());
        }
        let old = match this.number.and_then(|number| line.find(number)) {
            Some(waker) => waker.replace(new),
            None => {
                this.number = Some(line.push(new));
                None
            }
        };
        drop(line);
        drop(old);
        Poll::Pending
    }
}

impl Drop for Cancelled<'_> {
    fn drop(&mut self) {
        let signal = &self.token.handle.signal;
        let Some(number) = self.number.filter(|_| !signal.is_set()) else { return };
        // Two statements: the lock ends with the first.
        let waker = lock(&signal.line).remove(number);
        drop(waker);
    }
}

impl fmt::Debug for Cancelled<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cancelled").field("token", &self.token).finish_non_exhaustive()
    }
}

pin_project! {
    /// The future of [`CancellationToken::run_until`].
    ///
    /// ```
    /// let token = anteroom::CancellationToken::new();
    /// let run: anteroom::RunUntil<'_, std::future::Ready<u8>> = token.run_until(std::future::ready(7));
    /// assert_eq!(anteroom::block_on(run), Some(7));
    /// ```
    #[derive(Debug)]
    #[must_use = "nothing runs until it is awaited"]
    pub struct RunUntil<'a, F> {
        cancelled: Cancelled<'a>,
        // None once the token was cancelled first.
        #[pin]
        future: Option<F>,
    }
}

impl<F: Future> Future for RunUntil<'_, F> {
    type Output = Option<F::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if !this.cancelled.token.is_cancelled() {
            if let Some(future) = this.future.as_mut().as_pin_mut() {
                if let Poll::Ready(output) = future.poll(cx) {
                    return Poll::Ready(Some(output));
                }
            }
        }
        // Only now: who is ready at once never stands in line.
        if Pin::new(this.cancelled).poll(cx).is_pending() {
            return Poll::Pending;
        }
        this.future.set(None);
        Poll::Ready(None)
    }
}

/// Cancels its token when it is dropped: made by [`CancellationToken::drop_guard`].
///
/// ```
/// let token = anteroom::CancellationToken::new();
/// let guard: anteroom::CancelGuard = token.clone().drop_guard();
/// let same = guard.disarm();
/// assert!(!token.is_cancelled());
/// same.cancel();
/// assert!(token.is_cancelled());
/// ```
#[derive(Debug)]
#[must_use = "dropped at once, it cancels at once"]
pub struct CancelGuard {
    /// None once it was disarmed.
    token: Option<CancellationToken>,
}

impl CancelGuard {
    /// Gives the token back, and cancels nothing.
    ///
    /// ```
    /// let guard = anteroom::CancellationToken::new().drop_guard();
    /// assert!(!guard.disarm().is_cancelled());
    /// ```
    #[must_use]
    pub fn disarm(mut self) -> CancellationToken {
        self.token.take().expect("it is taken here alone")
    }
}

impl Drop for CancelGuard {
    fn drop(&mut self) {
        if let Some(token) = self.token.take() {
            token.cancel();
        }
    }
}
