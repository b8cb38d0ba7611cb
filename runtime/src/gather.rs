//! A future an item, at most `limit` of them at once, all polled in place: [`gather`], [`try_gather`] and [`as_completed`].
//!
//! # Problem
//! "Fetch these thousand pages, ten at a time" needs no tasks: nothing of it outlives its caller, which could lend it what it
//! holds. Spawned, each page must own all it uses; awaited one after the other, each waits for the last. And the usual way to
//! poll many futures in one allocates for each of them.
//!
//! # Idea
//! The caller's own poll polls the futures, in a block of its own that was allocated once. An item is taken when its
//! future may start, and its place is used again when that has ended. Each place has a waker, and only who was woken is polled.
//!
//! | file | what |
//! |---|---|
//! | `wake.rs` | which places were woken: bits, set from any thread |
//! | `slots.rs` | where the futures lie, and do not move |
//! | `output.rs` | results in order |
//! | `crew.rs` | the loop: what is polled, what starts, when the caller goes on |
//! | `completed.rs` | [`as_completed`] |
//!
//! # Bounds
//! `limit` futures, and as many places. What has ended and was not yet given out: nothing for [`as_completed`]; for [`gather`]
//! the results themselves, each in its place in the output, which is the only thing that grows with the items. One item that
//! takes long holds up no other: results behind it wait in their places.
//!
//! An await of one allocates six times, however many items there are: the futures' block, the wakers' (two), a list of free
//! places, and the output with its bits, which grow. A limit above 1,024 adds blocks whenever what is live at once doubles.
//!
//! # Rejected
//! - A `try_as_completed`: dropping an [`AsCompleted`] at the first error is what it would do.
//! - A task an item: `spawn` is for what outlives its caller, and for what must not share its thread's poll with a hundred others.
//!
//! # Read next
//! `gather/crew.rs`.

mod completed;
mod crew;
mod output;
mod slots;
mod wake;

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

pub use completed::{AsCompleted, as_completed};
use crew::Crew;
use output::Output;

/// How many futures of [`gather`], [`try_gather`] or [`as_completed`] are live at once, unless `limit` says otherwise: 64.
///
/// Enough that waiting for a network overlaps, few enough that their sockets and their memory are nobody's concern: with futures
/// of 4 KiB a quarter of a megabyte, and a sixteenth of the 1,024 files that a process may usually have open.
///
/// ```
/// assert_eq!(anteroom::GATHER_LIMIT, 64);
/// ```
pub const GATHER_LIMIT: usize = 64;

/// Makes a future of each item and awaits them all, at most a limit of them at once; gives their results in the items' order.
///
/// The futures are polled in place, by whoever awaits this, under any runtime. Nothing is spawned, so they may borrow what
/// their caller holds and need not be `Send`. An item is taken from the iterator only when its future may start.
///
/// ```
/// # async fn fetch(host: &str, path: &str) -> usize { anteroom::yield_now().await; host.len() + path.len() }
/// anteroom::block_on(async {
///     let host = String::from("localhost");
///     let paths = ["/", "/a", "/about"];
///     let lengths = anteroom::gather(paths, |path| fetch(&host, path)).limit(2).await;
///     assert_eq!(lengths, [10, 11, 15]);
/// });
/// ```
///
/// # Bounds
/// At most [`GATHER_LIMIT`] futures are live, or what [`Gather::limit`] says. They lie in a block that is allocated once, with
/// room for as many as the limit and the iterator's size hint allow, up to 1,024; for a larger limit it grows as they
/// start. It is a sliding window: an item that takes long holds up no other, and the results behind it wait in their
/// places in the output, which is all that grows with the items.
///
/// A future is polled when it was woken. One that wakes itself is polled again after the others, and after the caller's
/// neighbours; after 128 polls these have their turn in any case.
///
/// # Panics
/// With what a future, `each` or the iterator panics with, after all the others were dropped. So it does if the drop of a
/// future panics. Polled again after that, or after it was ready, it panics.
///
/// # Cancel safety
/// Dropped, it drops the futures that have started and the results that there are. No item is taken that was not started.
pub fn gather<I, C, F>(items: I, each: C) -> Gather<I::IntoIter, C, F>
where
    I: IntoIterator,
    C: FnMut(I::Item) -> F,
    F: Future,
{
    Gather { crew: Crew::new(items.into_iter(), each, GATHER_LIMIT), output: Output::new() }
}

/// The future of [`gather`].
///
/// ```
/// let squares: anteroom::Gather<_, _, _> = anteroom::gather(1..=3, |n| async move { n * n });
/// assert_eq!(anteroom::block_on(squares), [1, 4, 9]);
/// ```
#[must_use = "nothing is taken or polled until it is awaited"]
pub struct Gather<I, C, F: Future> {
    crew: Crew<I, C, F>,
    output: Output<F::Output>,
}

/// As [`gather`] for futures that can fail: gives all results in order, or the first error that comes.
///
/// At the first error the other futures are dropped, and no further item is taken.
///
/// ```
/// anteroom::block_on(async {
///     let parse = |text: &'static str| async move { text.parse::<u32>() };
///     assert_eq!(anteroom::try_gather(["1", "2"], parse).await, Ok(vec![1, 2]));
///     assert!(anteroom::try_gather(["1", "two", "3"], parse).limit(2).await.is_err());
/// });
/// ```
///
/// # Bounds
/// As [`gather`].
///
/// # Errors
/// The first that a future gives, in time and not in order.
///
/// # Panics
/// As [`gather`].
///
/// # Cancel safety
/// As [`gather`].
pub fn try_gather<I, C, F, T, E>(items: I, each: C) -> TryGather<I::IntoIter, C, F, T>
where
    I: IntoIterator,
    C: FnMut(I::Item) -> F,
    F: Future<Output = Result<T, E>>,
{
    TryGather { crew: Crew::new(items.into_iter(), each, GATHER_LIMIT), output: Output::new() }
}

/// The future of [`try_gather`].
///
/// ```
/// let even = |n: u32| async move { if n % 2 == 0 { Ok(n / 2) } else { Err(n) } };
/// let halves: anteroom::TryGather<_, _, _, u32> = anteroom::try_gather([2, 4, 6], even);
/// assert_eq!(anteroom::block_on(halves), Ok(vec![1, 2, 3]));
/// ```
#[must_use = "nothing is taken or polled until it is awaited"]
pub struct TryGather<I, C, F, T> {
    crew: Crew<I, C, F>,
    output: Output<T>,
}

impl<I, C, F: Future> fmt::Debug for Gather<I, C, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.crew.describe("Gather", f)
    }
}

impl<I, C, F, T> fmt::Debug for TryGather<I, C, F, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.crew.describe("TryGather", f)
    }
}

// The futures are pinned in their own block, and nothing here is ever pinned besides.
impl<I, C, F: Future> Unpin for Gather<I, C, F> {}
impl<I, C, F, T> Unpin for TryGather<I, C, F, T> {}

impl<I, C, F> Gather<I, C, F>
where
    I: Iterator,
    C: FnMut(I::Item) -> F,
    F: Future,
{
    /// At most so many futures are live at once. `usize::MAX` for all.
    ///
    /// ```
    /// anteroom::block_on(async {
    ///     let live = std::cell::Cell::new(0);
    ///     anteroom::gather(0..100, async |_| {
    ///         live.set(live.get() + 1);
    ///         assert!(live.get() <= 3);
    ///         anteroom::yield_now().await;
    ///         live.set(live.get() - 1);
    ///     })
    ///     .limit(3)
    ///     .await;
    /// });
    /// ```
    ///
    /// # Panics
    /// If `limit` is 0, or it was polled already.
    #[track_caller]
    pub fn limit(mut self, limit: usize) -> Self {
        self.crew.set_limit("Gather", limit);
        self
    }
}

impl<I, C, F, T, E> TryGather<I, C, F, T>
where
    I: Iterator,
    C: FnMut(I::Item) -> F,
    F: Future<Output = Result<T, E>>,
{
    /// At most so many futures are live at once. `usize::MAX` for all.
    ///
    /// ```
    /// let all = anteroom::try_gather(0..100, |n| async move { Ok::<_, ()>(n) }).limit(usize::MAX);
    /// assert_eq!(anteroom::block_on(all).unwrap().len(), 100);
    /// ```
    ///
    /// # Panics
    /// If `limit` is 0, or it was polled already.
    #[track_caller]
    pub fn limit(mut self, limit: usize) -> Self {
        self.crew.set_limit("TryGather", limit);
        self
    }
}

impl<I, C, F> Future for Gather<I, C, F>
where
    I: Iterator,
    C: FnMut(I::Item) -> F,
    F: Future,
{
    type Output = Vec<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { crew, output } = &mut *self;
        crew.run("a Gather", |crew| {
            loop {
                match crew.poll_ended(cx) {
                    Poll::Ready(Some((number, value))) => output.put(number, value),
                    Poll::Ready(None) => {
                        crew.finish();
                        return Poll::Ready(output.take());
                    }
                    Poll::Pending => return Poll::Pending,
                }
            }
        })
    }
}

impl<I, C, F, T, E> Future for TryGather<I, C, F, T>
where
    I: Iterator,
    C: FnMut(I::Item) -> F,
    F: Future<Output = Result<T, E>>,
{
    type Output = Result<Vec<T>, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { crew, output } = &mut *self;
        crew.run("a TryGather", |crew| {
            loop {
                match crew.poll_ended(cx) {
                    Poll::Ready(Some((number, Ok(value)))) => output.put(number, value),
                    Poll::Ready(Some((_, Err(error)))) => {
                        crew.finish();
                        return Poll::Ready(Err(error));
                    }
                    Poll::Ready(None) => {
                        crew.finish();
                        return Poll::Ready(Ok(output.take()));
                    }
                    Poll::Pending => return Poll::Pending,
                }
            }
        })
    }
}
