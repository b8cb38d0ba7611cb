//! How long a caller waits for its turn: until a time, or with its whole thread.
//!
//! # Problem
//!
//! A timeout around the *work* cuts off what was begun. What is wanted is a bound on the *waiting*: who has not begun by
//! then will not, and is told so. And a program's `main`, a signal handler's thread or a pool of blocking workers want a
//! permit without any runtime.
//!
//! # Idea
//!
//! Three ends of one [`Acquire`], whatever it is for: [`timeout`](Acquire::timeout) and [`deadline`](Acquire::deadline)
//! race it with a [`Timer`]'s sleep, [`blocking`](Acquire::blocking) parks the thread. A permit that is there wins over a
//! time that has passed, so nothing that was granted is thrown away; with time zero it is a try that respects the queue.
//!
//! # Rejected
//!
//! - *Telling the semaphore the deadline*, so that it skips those who are late: it would need a clock.
//!
//! # Read next
//!
//! [`crate::timer`]; [`crate::semaphore`], which has a short form of each.

use std::future::{Future, poll_fn};
use std::ops::Deref;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use crate::acquire::Acquire;
use crate::error::AcquireError;
use crate::permit::Permit;
use crate::semaphore::Semaphore;
use crate::timer::Timer;

impl<S: Deref<Target = Semaphore> + Clone> Acquire<S> {
    /// Waits for at most `duration`, by `timer`'s clock, from the first poll.
    ///
    /// ```
    /// # use std::time::{Duration, Instant};
    /// # use std::future::{Ready, ready};
    /// use std::sync::Arc;
    /// use anteroom_limiter::{AcquireError, OwnedPermit, Semaphore, Timer};
    ///
    /// async fn admit(semaphore: &Arc<Semaphore>, timer: impl Timer) -> Result<OwnedPermit, AcquireError> {
    ///     semaphore.acquire_many_owned(3).timeout(timer, Duration::from_secs(1)).await
    /// }
    /// # struct Now;
    /// # impl Timer for Now {
    /// #     type Sleep = Ready<()>;
    /// #     fn now(&self) -> Instant { Instant::now() }
    /// #     fn sleep_until(&self, _: Instant) -> Ready<()> { ready(()) }
    /// # }
    /// # let semaphore = Arc::new(Semaphore::new(3));
    /// # let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    /// # let mut poll = || std::pin::pin!(admit(&semaphore, Now)).poll(&mut cx);
    /// # let std::task::Poll::Ready(Ok(permit)) = poll() else { panic!() };
    /// # assert!(matches!(poll(), std::task::Poll::Ready(Err(AcquireError::TimedOut))));
    /// # assert_eq!(permit.weight(), 3);
    /// ```
    ///
    /// # Errors
    ///
    /// As the future itself, and [`AcquireError::TimedOut`]. A duration that no clock holds is no bound.
    ///
    /// # Cancel safety
    ///
    /// As [`Semaphore::acquire`].
    pub async fn timeout(self, timer: impl Timer, duration: Duration) -> Result<Permit<S>, AcquireError> {
        match timer.now().checked_add(duration) {
            Some(at) => self.deadline(timer, at).await,
            None => {
                drop(timer); // As in `deadline`.
                self.await
            }
        }
    }

    /// Waits until `at` at the latest, by `timer`'s clock. If that has passed, it is a try: what is there is taken, and
    /// what is not is not waited for.
    ///
    /// ```
    /// # use std::future::{Ready, ready};
    /// use std::time::Instant;
    /// use anteroom_limiter::{AcquireError, Semaphore, Timer};
    ///
    /// /// Both by one time, whatever of it the first one takes.
    /// async fn both(
    ///     (a, b): (&Semaphore, &Semaphore),
    ///     timer: impl Timer,
    ///     end: Instant,
    /// ) -> Result<(), AcquireError> {
    ///     let _seven = a.acquire_many(7).deadline(&timer, end).await?;
    ///     let _one = b.acquire().deadline(&timer, end).await?;
    ///     Ok(())
    /// }
    /// # struct Now;
    /// # impl Timer for Now {
    /// #     type Sleep = Ready<()>;
    /// #     fn now(&self) -> Instant { Instant::now() }
    /// #     fn sleep_until(&self, _: Instant) -> Ready<()> { ready(()) }
    /// # }
    /// # let (a, b) = (Semaphore::new(7), Semaphore::new(1));
    /// # let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    /// # let mut poll = || std::pin::pin!(both((&a, &b), Now, Instant::now())).poll(&mut cx);
    /// # assert_eq!(poll(), std::task::Poll::Ready(Ok(())));
    /// # let _permit = b.try_acquire().unwrap();
    /// # assert_eq!(poll(), std::task::Poll::Ready(Err(AcquireError::TimedOut)));
    /// # assert_eq!(a.in_use(), 0);
    /// ```
    ///
    /// # Errors
    ///
    /// As the future itself, and [`AcquireError::TimedOut`].
    ///
    /// # Cancel safety
    ///
    /// As [`Semaphore::acquire`].
    pub async fn deadline(mut self, timer: impl Timer, at: Instant) -> Result<Permit<S>, AcquireError> {
        // In a local until the caller's timer and sleep are gone. Should the drop of one panic while a permit is already on
        // its way out, nobody would drop that permit: what is being returned is not unwound.
        let outcome = match poll_fn(|cx| Poll::Ready(Pin::new(&mut self).poll(cx))).await {
            Poll::Ready(outcome) => outcome, // With room no sleep is made.
            Poll::Pending => {
                let outcome;
                {
                    let mut sleep = pin!(timer.sleep_until(at));
                    outcome = poll_fn(|cx| {
                        // The sleep first: what is granted while it is asked wins all the same.
                        let is_late = sleep.as_mut().poll(cx).is_ready();
                        match Pin::new(&mut self).poll(cx) {
                            Poll::Pending if is_late => Poll::Ready(Err(AcquireError::TimedOut)),
                            outcome => outcome,
                        }
                    })
                    .await;
                }
                outcome
            }
        };
        drop(timer);
        outcome
    }

    /// Waits with the whole thread. For threads that run no tasks: a task that does it stops its runtime, and for ever if
    /// the permits are held by other tasks of the same thread.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use std::thread;
    /// use anteroom_limiter::Semaphore;
    ///
    /// let semaphore = Arc::new(Semaphore::new(1));
    /// let permit = semaphore.try_acquire().unwrap();
    /// let other = {
    ///     let semaphore = Arc::clone(&semaphore);
    ///     thread::spawn(move || semaphore.acquire_owned().blocking().map(|permit| permit.weight()))
    /// };
    /// drop(permit);
    /// assert_eq!(other.join().unwrap(), Ok(1));
    /// ```
    ///
    /// # Errors
    ///
    /// As the future itself.
    pub fn blocking(self) -> Result<Permit<S>, AcquireError> {
        self.park(|| None)
    }

    /// As [`blocking`](Self::blocking), until `at` at the latest, by the clock `now`: std's, or another that runs as fast. If
    /// that has passed, it is a try. The thread looks at the clock when it is woken and when the time should be up, so one
    /// that is set forward meanwhile is noticed only then.
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// use anteroom_limiter::{AcquireError, Semaphore};
    ///
    /// let semaphore = Semaphore::new(1);
    /// let _permit = semaphore.try_acquire().unwrap();
    /// let end = Instant::now() + Duration::from_millis(1);
    /// let late = semaphore.acquire().blocking_until(end, Instant::now);
    /// assert_eq!(late.unwrap_err(), AcquireError::TimedOut);
    /// ```
    ///
    /// # Errors
    ///
    /// As the future itself, and [`AcquireError::TimedOut`].
    pub fn blocking_until(self, at: Instant, now: impl Fn() -> Instant) -> Result<Permit<S>, AcquireError> {
        let outcome = self.park(|| Some(at.saturating_duration_since(now())));
        drop(now); // As the timer in `deadline`.
        outcome
    }

    /// Polls whenever the thread was unparked, until there is no time left; `None` is no bound.
    fn park(mut self, left: impl Fn() -> Option<Duration>) -> Result<Permit<S>, AcquireError> {
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let mut cx = Context::from_waker(&waker);
        loop {
            // Before the poll: the clock is the caller's, and one that parks takes the token. From the poll that finds no
            // permit to the park that waits for one, no code runs but ours.
            let left = left();
            if let Poll::Ready(outcome) = Pin::new(&mut self).poll(&mut cx) {
                return outcome;
            }
            // By a token of somebody else's, once round for nothing.
            match left {
                None => thread::park(),
                Some(Duration::ZERO) => return Err(AcquireError::TimedOut),
                Some(left) => thread::park_timeout(left),
            }
        }
    }
}

/// Wakes a thread that is parked.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}
