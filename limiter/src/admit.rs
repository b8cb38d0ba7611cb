//! Futures that run under a permit: bounded spawning, for any runtime.
//!
//! # Problem
//!
//! `spawn` takes whatever it is given, at once, on the heap. A semaphore acquired *inside* the task bounds what runs and not
//! what was spawned: a million tasks wait in memory for their permit. Acquired outside, the permit must be moved into the
//! task, and be dropped there after the work and not before; each caller writes that anew.
//!
//! # Idea
//!
//! `spawn(limiter.admit(work).await?)`. The work waits where it was made, in its caller's frame, and comes out as a future
//! that owns its permit. What the runtime is given was admitted before.
//!
//! ```text
//!   Admit<F>:    F, and a place in the queue ──granted──► Admitted<F>: F pinned, and the permit ──► output
//!                in its caller's frame                        F is dropped, then the permit goes back
//! ```
//!
//! # Invariants
//!
//! - `[ADMITTED-1]` The permit goes back after the future was dropped, be it done, dropped or panicked: what it held is free
//!   when the next one is admitted.
//! - `[ADMITTED-2]` A future that was not admitted was not polled, and comes back in the error.
//!
//! # Rejected
//!
//! - *A method that spawns.* It would need to know the runtime.
//! - *An `async` block* around permit and work. It holds the work twice, once as what was captured and once as what is
//!   awaited, and has no name.
//!
//! # Read next
//!
//! `examples/tokio_bounded_spawn.rs`, a million jobs in tokio.

use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;

use crate::error::{AcquireError, TryAcquireError};
use crate::tree::{Limiter, LimiterAcquire, LimiterPermit};

impl Limiter {
    /// Waits for one permit, and resolves to `future` with the permit in it: bounded spawning in any runtime.
    ///
    /// The future waits in its caller's frame and is not polled. Give what comes out to whatever spawns:
    ///
    /// ```
    /// use anteroom_limiter::{AcquireError, Limiter};
    /// # mod tokio { pub fn spawn<F: std::future::Future>(_: F) {} }
    /// # async fn work(_job: u32) {}
    ///
    /// async fn all(jobs: impl Iterator<Item = u32>) -> Result<(), AcquireError> {
    ///     let limiter = Limiter::new(1_000);
    ///     for job in jobs {
    ///         tokio::spawn(limiter.admit(work(job)).await?); // never more than 1,000 of them
    ///     }
    ///     let _all_done = limiter.acquire_many(1_000).await?;
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`AdmitError`], with the future inside, as [`acquire`](Self::acquire) fails. It becomes an [`AcquireError`] by `?`.
    ///
    /// # Cancel safety
    ///
    /// As [`acquire`](Self::acquire); the future, which was not polled, is dropped with it.
    ///
    /// # Deadlock
    ///
    /// Who runs under a permit and admits more under the same limiter may wait for himself; give what is below a
    /// limiter of its own.
    pub fn admit<F: Future>(&self, future: F) -> Admit<F> {
        Admit { future: Some(future), acquire: self.acquire() }
    }

    /// As [`admit`](Self::admit), at once or not at all: for who would rather shed the load.
    ///
    /// ```
    /// # use anteroom_limiter::{Limiter, TryAcquireError};
    /// let limiter = Limiter::new(1);
    /// let admitted = limiter.try_admit(async { 1 }).unwrap();
    /// let rejected = limiter.try_admit(async { 2 }).unwrap_err();
    /// assert_eq!(rejected.error(), TryAcquireError::NoPermits);
    /// let _later = rejected.into_inner();
    /// # drop(admitted);
    /// ```
    ///
    /// # Errors
    ///
    /// [`AdmitError`], with the future inside, as [`try_acquire`](Self::try_acquire) fails.
    pub fn try_admit<F: Future>(&self, future: F) -> Result<Admitted<F>, AdmitError<F, TryAcquireError>> {
        match self.try_acquire() {
            Ok(permit) => Ok(permit.attach(future)),
            Err(error) => Err(AdmitError { error, future }),
        }
    }
}

impl LimiterPermit {
    /// Puts `future` under this permit: what [`Limiter::admit`] does, for a permit of any weight that is there already.
    ///
    /// ```
    /// # use anteroom_limiter::{AcquireError, Limiter};
    /// # mod tokio { pub fn spawn<F: std::future::Future>(_: F) {} }
    /// # async fn decode(_image: Vec<u8>) {}
    /// async fn spawn_decode(memory_kib: &Limiter, image: Vec<u8>) -> Result<(), AcquireError> {
    ///     let permit = memory_kib.acquire_many(image.len() / 1_024).await?;
    ///     tokio::spawn(permit.attach(decode(image)));
    ///     Ok(())
    /// }
    /// ```
    pub fn attach<F: Future>(self, future: F) -> Admitted<F> {
        Admitted { future: Some(future), permit: Some(self) }
    }
}

/// Resolves to an [`Admitted`] future when it is its turn. Made by [`Limiter::admit`].
///
/// ```
/// use std::pin::pin;
/// use std::task::{Context, Poll, Waker};
/// use anteroom_limiter::Limiter;
///
/// let limiter = Limiter::new(1);
/// let first = limiter.try_admit(async { 1 }).unwrap();
/// let mut second = pin!(limiter.admit(async { 2 }));
/// let mut cx = Context::from_waker(Waker::noop());
/// assert!(second.as_mut().poll(&mut cx).is_pending());
/// drop(first);
/// assert!(matches!(second.as_mut().poll(&mut cx), Poll::Ready(Ok(_))));
/// ```
///
/// # Panics
///
/// If it is polled after it has resolved.
#[must_use = "nothing is admitted until this is awaited"]
pub struct Admit<F> {
    /// Until it has resolved.
    future: Option<F>,
    acquire: LimiterAcquire,
}

pin_project! {
    /// A future that holds a permit while it runs, and gives it back when it is done or dropped, after the future itself
    /// was dropped. Made by [`Limiter::admit`] and its siblings.
    ///
    /// ```
    /// use std::pin::pin;
    /// use std::task::{Context, Poll, Waker};
    /// use anteroom_limiter::Limiter;
    ///
    /// let limiter = Limiter::new(1);
    /// let mut admitted = pin!(limiter.try_admit(async { 7 }).unwrap());
    /// assert_eq!(limiter.snapshot().in_use, 1);
    /// let mut cx = Context::from_waker(Waker::noop());
    /// assert_eq!(admitted.as_mut().poll(&mut cx), Poll::Ready(7));
    /// assert_eq!(limiter.snapshot().in_use, 0);
    /// ```
    ///
    /// # Panics
    ///
    /// If it is polled after it has resolved; and, as the drop of a permit does, if it serves somebody whose waker panics,
    /// with that panic. A future that panics keeps its permit until this is dropped, as every runtime does then.
    #[must_use = "futures do nothing unless they are polled"]
    pub struct Admitted<F> {
        // In this order [ADMITTED-1]: fields are dropped as they are declared.
        #[pin]
        future: Option<F>,
        permit: Option<LimiterPermit>,
    }
}

/// Why a future was not admitted, and the future.
///
/// `E` is an [`AcquireError`], or a [`TryAcquireError`] from [`Limiter::try_admit`].
///
/// ```
/// use anteroom_limiter::{Limiter, TryAcquireError};
///
/// let limiter = Limiter::new(1);
/// limiter.close();
/// let error = limiter.try_admit(std::future::ready(7)).unwrap_err();
/// assert_eq!(error.error(), TryAcquireError::Closed);
/// assert_eq!(error.into_inner().into_inner(), 7); // it was never polled
/// ```
pub struct AdmitError<F, E = AcquireError> {
    error: E,
    future: F,
}

impl<F: Future> Future for Admit<F> {
    type Output = Result<Admitted<F>, AdmitError<F>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { future, acquire } = self.get_mut();
        assert!(future.is_some(), "an Admit was polled after it had resolved");
        let result = ready!(Pin::new(acquire).poll(cx));
        let future = future.take().expect("asserted above");
        Poll::Ready(match result {
            Ok(permit) => Ok(permit.attach(future)),
            Err(error) => Err(AdmitError { error, future }), // [ADMITTED-2]
        })
    }
}

/// The future in it is pinned only once it is admitted.
impl<F> Unpin for Admit<F> {}

impl<F: Future> Future for Admitted<F> {
    type Output = F::Output;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let mut this = self.project();
        let Some(future) = this.future.as_mut().as_pin_mut() else {
            panic!("an Admitted was polled after it had resolved")
        };
        let output = ready!(future.poll(cx));
        this.future.set(None); // [ADMITTED-1]
        drop(this.permit.take());
        Poll::Ready(output)
    }
}

impl<F, E: Copy> AdmitError<F, E> {
    /// Why.
    ///
    /// ```
    /// # use anteroom_limiter::{Limiter, TryAcquireError};
    /// # let limiter = Limiter::new(1);
    /// # limiter.close();
    /// let error = limiter.try_admit(async {}).unwrap_err();
    /// assert_eq!(error.error(), TryAcquireError::Closed);
    /// ```
    #[must_use]
    pub fn error(&self) -> E {
        self.error
    }
}

impl<F, E> AdmitError<F, E> {
    /// The future, which was not polled.
    ///
    /// ```
    /// # use anteroom_limiter::Limiter;
    /// # let limiter = Limiter::new(1);
    /// # limiter.close();
    /// let future = limiter.try_admit(async {}).unwrap_err().into_inner();
    /// # drop(future);
    /// ```
    #[must_use]
    pub fn into_inner(self) -> F {
        self.future
    }
}

/// For `?`, where the future is of no more use.
impl<F> From<AdmitError<F>> for AcquireError {
    fn from(error: AdmitError<F>) -> Self {
        error.error
    }
}

/// For `?`, where the future is of no more use.
impl<F> From<AdmitError<F, TryAcquireError>> for TryAcquireError {
    fn from(error: AdmitError<F, TryAcquireError>) -> Self {
        error.error
    }
}

impl<F, E: fmt::Debug> fmt::Debug for AdmitError<F, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdmitError").field("error", &self.error).finish_non_exhaustive()
    }
}

impl<F, E: fmt::Display> fmt::Display for AdmitError<F, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the future was not admitted: {}", self.error)
    }
}

impl<F, E: Error + 'static> Error for AdmitError<F, E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.error)
    }
}

impl<F> fmt::Debug for Admit<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admit").field("acquire", &self.acquire).finish_non_exhaustive()
    }
}

impl<F> fmt::Debug for Admitted<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admitted").field("permit", &self.permit).finish_non_exhaustive()
    }
}
