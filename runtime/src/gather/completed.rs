//! Results as they come: [`as_completed`].

use std::fmt;
use std::future::poll_fn;
use std::task::{Context, Poll};

use super::GATHER_LIMIT;
use super::crew::Crew;

/// Makes a future of each item and polls them, at most a limit of them at once; gives their results as they come.
///
/// As [`gather`](crate::gather()), polled in place by whoever awaits [`AsCompleted::next`]: between two calls nothing is polled,
/// and no item is taken. With the feature `futures-core` it is a `Stream`.
///
/// ```
/// use std::time::Duration;
/// use anteroom::time::sleep;
/// anteroom::block_on(async {
///     let mut sleeps = anteroom::as_completed([30_u64, 10, 20], |ms| async move {
///         sleep(Duration::from_millis(ms)).await;
///         ms
///     });
///     let mut order = Vec::new();
///     while let Some(ms) = sleeps.next().await {
///         order.push(ms);
///     }
///     assert_eq!(order, [10, 20, 30]);
/// });
/// ```
///
/// What has started and was not given out is dropped with it, so to stop at the first error is to return:
/// ```
/// use std::num::ParseIntError;
/// async fn sum(texts: &[&str]) -> Result<u32, ParseIntError> {
///     let mut numbers = anteroom::as_completed(texts, async |text| text.parse::<u32>());
///     let mut sum = 0;
///     while let Some(number) = numbers.next().await {
///         sum += number?; // the other futures are dropped, and no further item is taken
///     }
///     Ok(sum)
/// }
/// assert_eq!(anteroom::block_on(sum(&["1", "2"])), Ok(3));
/// assert!(anteroom::block_on(sum(&["1", "two", "3"])).is_err());
/// ```
///
/// # Bounds
/// At most [`GATHER_LIMIT`] futures are live, or what [`AsCompleted::limit`] says, in a block as that of
/// [`gather`](crate::gather()). A result is given out when its future ends, and never stored.
///
/// Polls are bounded as [`gather`](crate::gather())'s are; after 128 without a pause, one is made, also if there is a result.
///
/// # Panics
/// As [`gather`](crate::gather()). After the last result it gives `None`, as often as it is asked.
///
/// # Cancel safety
/// Dropped, it drops the futures that have started. No item is taken that was not started.
pub fn as_completed<I, C, F>(items: I, each: C) -> AsCompleted<I::IntoIter, C, F>
where
    I: IntoIterator,
    C: FnMut(I::Item) -> F,
    F: Future,
{
    AsCompleted { crew: Crew::new(items.into_iter(), each, GATHER_LIMIT) }
}

/// What [`as_completed`] makes.
///
/// ```
/// let mut squares: anteroom::AsCompleted<_, _, _> = anteroom::as_completed(1..=3, |n| async move { n * n });
/// assert_eq!(anteroom::block_on(squares.next()), Some(1));
/// ```
#[must_use = "nothing is taken or polled until the next result is awaited"]
pub struct AsCompleted<I, C, F> {
    crew: Crew<I, C, F>,
}

impl<I, C, F> fmt::Debug for AsCompleted<I, C, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.crew.describe("AsCompleted", f)
    }
}

// As for `Gather`.
impl<I, C, F> Unpin for AsCompleted<I, C, F> {}

impl<I, C, F> AsCompleted<I, C, F>
where
    I: Iterator,
    C: FnMut(I::Item) -> F,
    F: Future,
{
    /// At most so many futures are live at once. `usize::MAX` for all.
    ///
    /// ```
    /// let mut one_by_one = anteroom::as_completed(1..=3, |n| async move { n }).limit(1);
    /// assert_eq!(anteroom::block_on(one_by_one.next()), Some(1));
    /// ```
    ///
    /// # Panics
    /// If `limit` is 0, or it was polled already.
    #[track_caller]
    pub fn limit(mut self, limit: usize) -> Self {
        self.crew.set_limit("AsCompleted", limit);
        self
    }

    /// The result of the next future that ends; `None` when all have and there is no further item.
    ///
    /// ```
    /// let mut none = anteroom::as_completed([0; 0], |n| async move { n });
    /// assert_eq!(anteroom::block_on(none.next()), None);
    /// ```
    ///
    /// # Panics
    /// With what a future, the closure or the iterator panics with, after all the others were dropped; and when it is
    /// asked again after that.
    ///
    /// # Cancel safety
    /// Nothing is lost: what has started goes on with the next call.
    pub async fn next(&mut self) -> Option<F::Output> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// As [`next`](Self::next), for who polls.
    ///
    /// ```
    /// use std::task::{Context, Poll, Waker};
    /// let mut two = anteroom::as_completed([1, 2], |n| async move { n });
    /// let cx = &mut Context::from_waker(Waker::noop());
    /// assert_eq!(two.poll_next(cx), Poll::Ready(Some(1)));
    /// ```
    ///
    /// # Panics
    /// As [`next`](Self::next).
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<F::Output>> {
        if self.crew.has_ended() {
            return Poll::Ready(None);
        }
        self.crew.run("an AsCompleted", |crew| {
            crew.poll_ended(cx).map(|ended| {
                if ended.is_none() {
                    crew.finish();
                }
                ended.map(|(_, output)| output)
            })
        })
    }
}

#[cfg(feature = "futures-core")]
impl<I, C, F> futures_core::Stream for AsCompleted<I, C, F>
where
    I: Iterator,
    C: FnMut(I::Item) -> F,
    F: Future,
{
    type Item = F::Output;

    fn poll_next(mut self: std::pin::Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        AsCompleted::poll_next(&mut self, cx)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.crew.size_hint()
    }
}
