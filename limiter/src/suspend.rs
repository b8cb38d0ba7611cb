//! A permit that is lent to others while its holder waits for something else, or for another weight.
//!
//! # Problem
//!
//! "At most 8 at once" often means at most 8 that *work*. A holder that waits for a slow peer holds a place that somebody
//! else could use; but if it gives the place back and asks anew, it stands at the end of a long queue with its work half
//! done and its memory held.
//!
//! # Idea
//!
//! [`Permit::suspend`] gives the units back, awaits the caller's future, and takes them back *ahead of all who have not
//! begun*: the queue has two classes, and those who come back are first. So work in progress is finished before new work
//! begins, and the limit holds at every instant: who comes back waits until there is room.
//!
//! # Invariants
//!
//! - `[SUSPEND-1]` While the future runs, and until the units are back, the permit's weight is zero: whatever is dropped
//!   when, they are in use at most once.
//! - `[SUSPEND-2]` Who comes back stands before all newcomers, in the order in which they came back, closed or not.
//!
//! # Rejected
//!
//! - *The end of the queue for those who come back.* Under load everything that began waits for everything that has not:
//!   memory grows with the queue.
//! - *A closed semaphore that keeps them out.* They were admitted; `close` ends admission, not work.
//!
//! # Read next
//!
//! [`crate::ledger`], `reenter`; [`crate::permit`].

use std::future::poll_fn;
use std::mem;
use std::ops::Deref;
use std::task::{Context, Poll};

use crate::gate::{Gate, Standing};
use crate::ledger::Key;
use crate::permit::Permit;
use crate::semaphore::Semaphore;

impl<S: Deref<Target = Semaphore> + Clone> Permit<S> {
    /// Gives the units back while `future` runs, and takes them again ahead of all who wait for the first time.
    ///
    /// For a holder that waits for something which is not what the limit protects: the answer of another service, a user,
    /// the next item of a stream. Meanwhile others get its place, and when it comes back it waits until there is room:
    /// for what is in use, and for those who came back before it, since nobody who comes later is served before it. While
    /// `future` runs the weight is zero.
    ///
    /// ```
    /// use anteroom_limiter::{AcquireError, Semaphore};
    /// # async fn parse(_: &[u8]) -> u64 { 7 }
    /// # async fn ask_a_slow_service(_: u64) -> u64 { 8 }
    /// # fn poll_once<T>(future: impl Future<Output = T>) -> T {
    /// #     let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    /// #     match std::pin::pin!(future).poll(&mut cx) {
    /// #         std::task::Poll::Ready(output) => output,
    /// #         std::task::Poll::Pending => unreachable!("there is room"),
    /// #     }
    /// # }
    ///
    /// // At most so many that use the processor; as many as like may wait for the service.
    /// async fn serve(processors: &Semaphore, page: &[u8]) -> Result<u64, AcquireError> {
    ///     let mut permit = processors.acquire().await?;
    ///     let question = parse(page).await;
    ///     let answer = permit.suspend(ask_a_slow_service(question)).await;
    ///     Ok(answer + 1) // with the place held again
    /// }
    /// # let processors = Semaphore::new(1);
    /// # assert_eq!(poll_once(serve(&processors, b"page")), Ok(9));
    /// # assert_eq!(processors.in_use(), 0);
    /// ```
    ///
    /// If the limit has shrunk below the weight meanwhile, it comes back when nothing else is in use. A semaphore that was
    /// closed meanwhile lets it in all the same.
    ///
    /// # Starvation
    ///
    /// Work that was begun goes before work that was not, without end: holders that suspend again and again, and are never
    /// done, can keep newcomers out for ever. Two that suspend in turns are enough for a limit of one. Drop the permit, and
    /// acquire anew, where a holder that has no end should wait its turn with everybody.
    ///
    /// # Deadlock
    ///
    /// Whoever holds another permit of the same semaphore meanwhile waits, when it comes back, while it holds: as with
    /// [`grow`](Self::grow), all who do so may wait for one another; and for itself, if the limit has shrunk below the weight of
    /// both together. [`merge`](Self::merge) the permits, and suspend them as one.
    ///
    /// # Cancel safety
    ///
    /// Dropped before its first poll, it has done nothing. Dropped later, `future` is dropped too (or its output, if it had
    /// ended), and the permit stays behind with a weight of zero: the units went back, and to whoever waited.
    ///
    /// # Panics
    ///
    /// If `future` does, or the waker of somebody to whom the units are given; the weight is zero then.
    pub async fn suspend<F: Future>(&mut self, future: F) -> F::Output {
        let weight = self.weight;
        self.shrink(weight); // [SUSPEND-1]
        let output = future.await;
        self.come_back(weight).await;
        output
    }

    /// Gives all back, and waits for `weight` units instead, ahead of all who wait for the first time.
    ///
    /// For a holder that has learned what it needs before it takes it: a page whose length the server has told. Other than
    /// by [`grow`](Permit::grow), nothing is held meanwhile, so those who do it cannot wait for one another; other than by
    /// [`charge`](Permit::charge), the limit holds. Less than it has is given back at once.
    ///
    /// ```
    /// use anteroom_limiter::{AcquireError, Semaphore};
    /// # async fn head() -> usize { 7 }
    /// # async fn body(_: usize) {}
    /// # fn poll_once<T>(future: impl Future<Output = T>) -> T {
    /// #     let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    /// #     match std::pin::pin!(future).poll(&mut cx) {
    /// #         std::task::Poll::Ready(output) => output,
    /// #         std::task::Poll::Pending => unreachable!("there is room"),
    /// #     }
    /// # }
    ///
    /// async fn fetch(memory_mib: &Semaphore) -> Result<usize, AcquireError> {
    ///     let mut permit = memory_mib.acquire_many(1).await?; // an estimate
    ///     let mib = head().await;
    ///     permit.exchange(mib).await; // what it is; nothing is in memory yet
    ///     body(mib).await;
    ///     Ok(permit.weight())
    /// }
    /// # let memory_mib = Semaphore::new(8);
    /// # assert_eq!(poll_once(fetch(&memory_mib)), Ok(7));
    /// ```
    ///
    /// More than the limit comes when nothing else is in use; more than [`Semaphore::MAX_PERMITS`] counts as that. A
    /// semaphore that was closed meanwhile lets it in all the same.
    ///
    /// # Cancel safety
    ///
    /// Dropped before its first poll, it has done nothing. Dropped while it waits, the permit stays behind with a weight of
    /// zero.
    ///
    /// # Panics
    ///
    /// If the waker of somebody to whom the units are given does; the weight is zero then.
    pub async fn exchange(&mut self, weight: usize) {
        match self.weight.checked_sub(weight) {
            Some(less) => {
                self.shrink(less);
            }
            None => {
                self.shrink(self.weight); // [SUSPEND-1]
                self.come_back(weight.min(Semaphore::MAX_PERMITS)).await;
            }
        }
    }

    /// Waits for `weight` units, with none in hand.
    pub(crate) async fn come_back(&mut self, weight: usize) {
        if weight > 0 {
            let semaphore = self.semaphore.clone();
            let mut back = Back { gate: semaphore.gate(), weight, place: None };
            poll_fn(|cx| back.poll(cx)).await;
            self.weight = weight;
        }
    }
}

/// Waits for units that were given back for a while.
struct Back<'a> {
    gate: &'a Gate,
    weight: usize,
    /// Its place in the queue, if it has one; possibly, without knowing it, the units.
    place: Option<Key>,
}

impl Back<'_> {
    /// Ready once; the units are the caller's then.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(key) = self.place else {
            self.place = self.gate.reenter(self.weight, cx.waker());
            return if self.place.is_some() { Poll::Pending } else { Poll::Ready(()) };
        };
        match self.gate.check(key, cx.waker()) {
            Standing::Waiting => Poll::Pending,
            Standing::Granted => {
                self.place = None;
                Poll::Ready(())
            }
            Standing::Evicted => unreachable!("[SUSPEND-2] who comes back is granted, closed or not"),
        }
    }
}

impl Drop for Back<'_> {
    fn drop(&mut self) {
        if let Some(key) = mem::take(&mut self.place) {
            self.gate.leave(key, self.weight);
        }
    }
}
