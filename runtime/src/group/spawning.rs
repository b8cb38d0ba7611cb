//! How a future comes into a group: first a place of the group, then one of the runtime.
//!
//! # Problem
//! A future that waits for two limits, one after the other, must be in one of the two lines, or in none with what it has;
//! dropped at any of these steps, or polled by a task that may have to run it in place, it must leave nothing behind.
//!
//! # Idea
//! The spawn of the runtime is made at once, around the future and its empty [`Seat`], so that the future lies where it may
//! run in place. The seat is taken when the group lets it in, and from then on it is the seat's drop that counts.
//!
//! # Read next
//! `../spawn/asking.rs`, the second line.

use std::cell::Cell;
use std::fmt;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use pin_project_lite::pin_project;

use super::state::{Coming, Parked, Shared, Waited};
use crate::admission::{Admission, Key, Offer, Refusal, Spot};
use crate::spawn::SpawnTimeoutError;
use crate::spawn::within::{Waits, Within, poll_held};
use crate::spawn::{
    Spawn, SpawnError, SpawnLocal, TrySpawnError, here, spawn_at, spawn_local_at, try_spawn_at,
};
use crate::task::waker::cloned;
use crate::task::{self, JoinHandle, Local, Site, WaitsFor, quietly, waits_for};

/// The place of one future in its group.
pub(super) struct Seat<T: 'static> {
    shared: Arc<Shared<T>>,
    /// Its number, when it was taken, and whether by a place of the group's.
    taken: Option<(usize, bool)>,
}

impl<T> Seat<T> {
    fn vacate(&mut self) {
        if let Some((seat, is_paid)) = self.taken.take() {
            self.shared.vacate(seat, is_paid);
        }
    }
}

impl<T> Drop for Seat<T> {
    fn drop(&mut self) {
        self.vacate();
    }
}

pin_project! {
    // A future with its seat, which is vacated after the future was dropped: fields are dropped in their order.
    pub(super) struct Seated<F, T: 'static> {
        #[pin]
        future: F,
        seat: Seat<T>,
    }
}

impl<F, T> Seated<F, T> {
    fn new(shared: &Arc<Shared<T>>, future: F) -> Self {
        Self { future, seat: Seat { shared: shared.clone(), taken: None } }
    }
}

impl<F: Future, T> Future for Seated<F, T> {
    type Output = F::Output;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.project().future.poll(cx)
    }
}

/// What a spawn of the runtime must do for a group.
trait Front<T>: Future<Output = Result<JoinHandle<T>, SpawnError>> {
    /// What it spawns, without its seat.
    type Future;

    /// The seat, while nothing has happened to the spawn yet, or when it has failed.
    fn seat(self: Pin<&mut Self>) -> Option<&mut Seat<T>>;

    fn bytes_in_place(self: Pin<&mut Self>) -> Option<usize>;

    /// Whether it waits for room in the runtime.
    fn is_in_line(&self) -> bool;

    /// Ends what it began.
    fn end(self: Pin<&mut Self>);

    /// Leaves the runtime's line; the handle of a task that was admitted meanwhile. It does not run in place.
    fn give_up(self: Pin<&mut Self>) -> Option<JoinHandle<T>>;

    /// Takes out what it has in its frame, when it has failed.
    fn take(self: Pin<&mut Self>) -> Option<Self::Future>;

    /// Runs the child in place, if that may be.
    fn poll_lent(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Option<Poll<Self::Output>>;
}

macro_rules! front {
    ($name:ident) => {
        impl<F: Future<Output = T>, T> Front<T> for $name<Seated<F, T>> {
            type Future = F;

            fn seat(self: Pin<&mut Self>) -> Option<&mut Seat<T>> {
                self.asking().fresh_mut().map(|whole| &mut whole.0.seat)
            }

            fn bytes_in_place(self: Pin<&mut Self>) -> Option<usize> {
                self.asking().bytes_in_place()
            }

            fn is_in_line(&self) -> bool {
                Waits::is_in_line(self)
            }

            fn end(self: Pin<&mut Self>) {
                self.asking().abandon();
            }

            fn give_up(self: Pin<&mut Self>) -> Option<JoinHandle<T>> {
                self.asking().give_up()
            }

            fn take(self: Pin<&mut Self>) -> Option<F> {
                self.take_back().map(|seated| seated.future)
            }

            fn poll_lent(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Option<Poll<Self::Output>> {
                self.asking().poll_lent(cx)
            }
        }
    };
}

front!(Spawn);
front!(SpawnLocal);

enum Stage {
    /// Nothing was asked for yet.
    Asks,
    /// For a place of the group.
    Waits(Key),
    /// It has one, or was lent one, and is on its way into the runtime.
    Seated(usize),
    /// As `Seated`, and it was polled in vain: it waits for room in the runtime, or runs in place.
    Coming(usize),
    Over,
}

pin_project! {
    // The two steps, whatever is spawned.
    struct Joining<'g, S, T: 'static> {
        #[pin]
        spawn: S,
        shared: &'g Arc<Shared<T>>,
        stage: Stage,
    }

    impl<S, T> PinnedDrop for Joining<'_, S, T> {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            match *this.stage {
                Stage::Waits(key) => this.shared.unwait(key),
                // Its future is dropped after this, here or where it was let in.
                Stage::Seated(seat) | Stage::Coming(seat) => this.shared.left(seat),
                Stage::Asks | Stage::Over => {}
            }
        }
    }
}

impl<S: Front<T>, T> Joining<'_, S, T> {
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), SpawnError>> {
        let _inside = task::enter();
        loop {
            match self.stage {
                Stage::Asks => {
                    let (at, admission) = here();
                    let spot = admission.spot(at.1);
                    match self.shared.try_seat(spot.map(Spot::spawner)) {
                        Ok(seat) => self.as_mut().sit(seat, true),
                        Err(Refusal::Full | Refusal::Queued) => {
                            let parked = self.as_mut().parked(at.1, admission, cx);
                            match self.shared.wait(parked, admission) {
                                Ok(key) => {
                                    *self.project().stage = Stage::Waits(key);
                                    waits_for(WaitsFor::GROUP);
                                    return Poll::Pending;
                                }
                                Err((unused, waited)) => {
                                    let failed = self.as_mut().waited(waited);
                                    quietly(|| drop(unused));
                                    if let Err(error) = failed {
                                        return Poll::Ready(Err(error));
                                    }
                                }
                            }
                        }
                        Err(_) => return Poll::Ready(self.as_mut().waited(Waited::Closed)),
                    }
                }
                Stage::Waits(key) => {
                    let (at, admission) = here();
                    let parked = self.as_mut().parked(at.1, admission, cx);
                    let spawner = parked.spot.map(Spot::spawner);
                    let bytes = parked.bytes;
                    let (unused, waited) = self.shared.look(key, parked, admission);
                    quietly(|| drop(unused));
                    match waited {
                        Waited::Still(offer) => {
                            match admission.answer(at.1, bytes, offer) {
                                Ok(true) => {}
                                Ok(false) => {
                                    waits_for(WaitsFor::GROUP);
                                    return Poll::Pending;
                                }
                                Err(why) => {
                                    *self.as_mut().project().stage = Stage::Over;
                                    self.shared.unwait(key);
                                    return Poll::Ready(Err(why.into()));
                                }
                            }
                            let (seat, is_paid, unused) = self.shared.lend(key, spawner);
                            self.as_mut().sit(seat, is_paid);
                            if is_paid {
                                continue;
                            }
                            let polled = self.as_mut().project().spawn.poll_lent(cx);
                            quietly(|| drop(unused));
                            // The frames in between may have taken the stack that there was.
                            let Some(polled) = polled else {
                                let _closed = self.as_mut().end(seat);
                                return Poll::Ready(Err(SpawnError::TooDeep));
                            };
                            return self.polled(seat, polled, cx);
                        }
                        waited => {
                            if let Err(error) = self.as_mut().waited(waited) {
                                return Poll::Ready(Err(error));
                            }
                        }
                    }
                }
                Stage::Coming(seat) if self.shared.is_closed() => return Poll::Ready(Err(self.end(seat))),
                Stage::Seated(seat) | Stage::Coming(seat) => {
                    let polled = self.as_mut().project().spawn.poll(cx);
                    return self.polled(seat, polled, cx);
                }
                Stage::Over => panic!("a spawn was polled after it was ready"),
            }
        }
    }

    /// With what it waits for a place of the group.
    fn parked(self: Pin<&mut Self>, local: &Local, admission: &Admission, cx: &Context<'_>) -> Parked {
        Parked {
            waker: Cell::new(Some(cloned(cx.waker()))),
            door: admission.door(),
            spot: admission.spot(local),
            bytes: self.project().spawn.bytes_in_place(),
            offer: Cell::new(Offer::default()),
        }
    }

    /// Goes on with what became of the wait for a place of the group.
    fn waited(mut self: Pin<&mut Self>, waited: Waited) -> Result<(), SpawnError> {
        let error = match waited {
            Waited::Seated(seat) => {
                self.sit(seat, true);
                return Ok(());
            }
            Waited::Still(_) => return Ok(()),
            Waited::Closed => SpawnError::Closed,
            Waited::QueueFull => SpawnError::QueueFull,
        };
        *self.as_mut().project().stage = Stage::Over;
        Err(error)
    }

    fn sit(self: Pin<&mut Self>, seat: usize, is_paid: bool) {
        let this = self.project();
        *this.stage = Stage::Seated(seat);
        this.spawn.seat().expect("the spawn was not polled yet").taken = Some((seat, is_paid));
    }

    /// What the spawn of the runtime gave.
    fn polled(
        mut self: Pin<&mut Self>,
        seat: usize,
        polled: Poll<Result<JoinHandle<T>, SpawnError>>,
        cx: &Context<'_>,
    ) -> Poll<Result<(), SpawnError>> {
        let Poll::Ready(told) = polled else {
            let (at, admission) = here();
            let mut coming = Coming {
                spawner: admission.spot(at.1).map(Spot::spawner),
                is_in_line: self.spawn.is_in_line(),
                waker: Some(cloned(cx.waker())),
            };
            *self.as_mut().project().stage = Stage::Coming(seat);
            let is_open = self.shared.still(seat, &mut coming);
            quietly(|| drop(coming));
            return if is_open { Poll::Pending } else { Poll::Ready(Err(self.end(seat))) };
        };
        Poll::Ready(self.told(seat, told))
    }

    /// The group is gone: so is the child, where it waits or runs.
    fn end(self: Pin<&mut Self>, seat: usize) -> SpawnError {
        let mut this = self.project();
        *this.stage = Stage::Over;
        this.shared.left(seat);
        this.spawn.as_mut().end();
        // It stays in the frame if it waited, but its place does not.
        if let Some(seat) = this.spawn.seat() {
            seat.vacate();
        }
        SpawnError::Closed
    }

    /// Whether it waits for a place, of the group or of the runtime.
    fn is_in_line(&self) -> bool {
        match self.stage {
            Stage::Waits(_) => true,
            Stage::Coming(_) => self.spawn.is_in_line(),
            Stage::Asks | Stage::Seated(_) | Stage::Over => false,
        }
    }

    /// Leaves whichever line it is in.
    fn give_up(mut self: Pin<&mut Self>) -> Result<(), SpawnError> {
        match self.stage {
            Stage::Waits(key) => {
                *self.as_mut().project().stage = Stage::Over;
                self.shared.unwait(key);
                Err(SpawnError::TimedOut)
            }
            Stage::Seated(seat) | Stage::Coming(seat) => {
                let told = self.as_mut().project().spawn.give_up().ok_or(SpawnError::TimedOut);
                self.told(seat, told)
            }
            Stage::Asks | Stage::Over => Err(SpawnError::TimedOut),
        }
    }

    /// The runtime has let it in, or will not.
    fn told(
        self: Pin<&mut Self>,
        seat: usize,
        told: Result<JoinHandle<T>, SpawnError>,
    ) -> Result<(), SpawnError> {
        let this = self.project();
        *this.stage = Stage::Over;
        match told {
            Ok(handle) => this.shared.told(seat, handle).then_some(()).ok_or(SpawnError::Closed),
            Err(error) => {
                this.shared.left(seat);
                // The future stays where it is until the frame goes, but its place does not.
                if let Some(seat) = this.spawn.seat() {
                    seat.vacate();
                }
                Err(error)
            }
        }
    }
}

macro_rules! group_spawn {
    ($name:ident, $spawn:ident, $at:ident, $shown:literal) => {
        pin_project! {
            #[doc = concat!("The future of [`", $shown, "`](crate::TaskGroup::", $shown, ") of a group and of its handle.")]
            ///
            /// ```
            /// anteroom::block_on(async {
            ///     let group = anteroom::TaskGroup::new();
            #[doc = concat!("    let waiting: anteroom::", stringify!($name), "<_, _> = group.", $shown, "(async { 1 });")]
            ///     waiting.await.unwrap();
            /// });
            /// ```
            #[must_use = "nothing is spawned until it is awaited"]
            pub struct $name<'g, F: Future, T: 'static> {
                #[pin]
                joining: Joining<'g, $spawn<Seated<F, T>>, T>,
            }
        }

        impl<'g, F: Future<Output = T>, T> $name<'g, F, T> {
            #[track_caller]
            pub(super) fn new(shared: &'g Arc<Shared<T>>, future: F) -> Self {
                let spawn = $at(Seated::new(shared, future), Location::caller());
                Self { joining: Joining { spawn, shared, stage: Stage::Asks } }
            }

            /// Declares what the task will hold beyond its own size, as [`Spawn::heap`](crate::Spawn::heap).
            ///
            /// ```
            /// anteroom::block_on(async {
            ///     let group = anteroom::TaskGroup::new();
            #[doc = concat!("    group.", $shown, "(async { vec![0_u8; 1_000].len() }).heap(1_000).await.unwrap();")]
            ///     assert!(anteroom::metrics().task_bytes >= 1_000);
            /// });
            /// ```
            pub fn heap(mut self, bytes: usize) -> Self {
                self.joining.spawn.declare(bytes);
                self
            }

            /// Waits for a place of the group and one of the runtime for at most `duration` from now, as
            /// [`Spawn::timeout`](crate::Spawn::timeout).
            ///
            /// ```
            /// use std::time::Duration;
            /// anteroom::block_on(async {
            ///     let group = anteroom::TaskGroup::with_limit(1);
            #[doc = concat!("    group.", $shown, "(std::future::pending()).await.unwrap();")]
            #[doc = concat!("    let error = group.", $shown, "(async { 7 }).timeout(Duration::from_millis(1)).await.unwrap_err();")]
            ///     assert!(error.is_timed_out());
            ///     assert_eq!(error.into_future().unwrap().await, 7);
            /// });
            /// ```
            ///
            /// # Errors
            /// [`SpawnTimeoutError`](crate::SpawnTimeoutError), with the future.
            ///
            /// # Panics
            /// When polled outside a runtime.
            ///
            /// # Cancel safety
            /// As without this: dropped while it waits, the future is dropped with it.
            pub fn timeout(self, duration: Duration) -> Within<Self> {
                Within::timeout(self, duration)
            }

            /// As [`timeout`](Self::timeout), until `deadline`.
            ///
            /// ```
            /// anteroom::block_on(async {
            ///     let group = anteroom::TaskGroup::with_limit(1);
            ///     let deadline = anteroom::time::now();
            #[doc = concat!("    group.", $shown, "(std::future::pending::<()>()).deadline(deadline).await.unwrap();")]
            #[doc = concat!("    let late = group.", $shown, "(async {}).deadline(deadline).await;")]
            ///     assert!(late.unwrap_err().is_timed_out());
            /// });
            /// ```
            ///
            /// # Errors
            /// As [`timeout`](Self::timeout).
            ///
            /// # Panics
            /// As [`timeout`](Self::timeout).
            ///
            /// # Cancel safety
            /// As [`timeout`](Self::timeout).
            pub fn deadline(self, deadline: Instant) -> Within<Self> {
                Within::deadline(self, deadline)
            }
        }

        impl<F: Future<Output = T>, T> Waits for $name<'_, F, T> {
            type Place = ();
            type Held = F;

            fn is_in_line(&self) -> bool {
                self.joining.is_in_line()
            }

            fn give_up(self: Pin<&mut Self>) -> Result<(), SpawnError> {
                self.project().joining.give_up()
            }

            fn take_back(self: Pin<&mut Self>) -> Option<F> {
                Front::take(self.project().joining.project().spawn)
            }
        }

        impl<F: Future<Output = T>, T> Future for Within<$name<'_, F, T>> {
            type Output = Result<(), SpawnTimeoutError<F>>;

            fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
                poll_held(self, cx)
            }
        }

        impl<F: Future<Output = T>, T> Future for $name<'_, F, T> {
            type Output = Result<(), SpawnError>;

            fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
                self.project().joining.poll(cx)
            }
        }

        impl<F: Future, T> fmt::Debug for $name<'_, F, T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name)).finish_non_exhaustive()
            }
        }
    };
}

group_spawn!(GroupSpawn, Spawn, spawn_at, "spawn");
group_spawn!(GroupSpawnLocal, SpawnLocal, spawn_local_at, "spawn_local");

/// See [`TaskGroup::try_spawn`](super::TaskGroup::try_spawn).
pub(super) fn try_spawn<F, T>(shared: &Arc<Shared<T>>, future: F, site: Site) -> Result<(), TrySpawnError<F>>
where
    F: Future<Output = T> + Send + 'static,
    T: Send + 'static,
{
    let _inside = task::enter();
    let (at, admission) = here();
    let seat = match shared.try_seat(admission.spot(at.1).map(Spot::spawner)) {
        Ok(seat) => seat,
        Err(refusal) => return Err(TrySpawnError::new(future, refusal)),
    };
    let mut seated = Seated::new(shared, future);
    seated.seat.taken = Some((seat, true));
    match try_spawn_at(seated, site) {
        Ok(handle) => {
            let _the_group_is_borrowed = shared.told(seat, handle);
            Ok(())
        }
        Err(error) => {
            shared.left(seat);
            Err(error.map(|seated| seated.future))
        }
    }
}
