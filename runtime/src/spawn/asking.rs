//! A place that is asked for: what all forms of spawning have in common.
//!
//! # Problem
//! A future, a closure or the wish for a place alone; on the runtime's own thread or on another: each asks, waits in line, is
//! told, or leaves, and in each of these steps the caller's own code may run.
//!
//! # Idea
//! [`Asking`] holds the frame and the terms, and has these steps once. Every public form is a thin front of it.
//!
//! # Read next
//! `mod.rs`, the fronts.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;

use super::{SpawnError, here};
use crate::admission::{Admission, Door, Key, Refusal, SpawnWaiter, lending};
use crate::task::in_place::finished;
use crate::task::waiter::{Ended, Entry, Recycle};
use crate::task::waker::{cloned, is_own, let_go};
use crate::task::{
    self, Header, Home, JoinHandle, Local, Place, Plant, Seed, Site, Terms, WaitsFor, quietly, waits_for,
};

pin_project! {
    pub(crate) struct Asking<S: Seed> {
        #[pin]
        entry: Entry<S, Key>,
        // What it will take beyond its size.
        declared: usize,
        site: Site,
        // Whose place; `None` for the runtime that it is polled in.
        door: Option<Door>,
    }
}

/// What the spawner of a task is told.
type Told<P> = Result<JoinHandle<<<P as Plant>::Task as Future>::Output>, SpawnError>;

/// A granted place: its task, unless it was asked for alone.
pub(crate) type Granted = Option<&'static Header>;

impl<S: Seed> Asking<S> {
    #[inline(always)]
    pub(crate) fn new(seed: S, site: Site, door: Option<Door>) -> Self {
        Self { entry: Entry::new(seed), declared: 0, site, door }
    }

    /// Sets that it runs in its spawner's place rather than wait; it was not polled yet.
    pub(crate) fn or_in_place(&mut self) {
        self.entry.or_in_place();
    }

    /// Sets what it will take beyond its size; it was not polled yet.
    pub(crate) fn declare(&mut self, bytes: usize) {
        self.declared = bytes;
    }

    /// What it asks for, or has got.
    #[inline(always)]
    pub(crate) fn terms(&self) -> Terms {
        Terms { place: Place::Task, bytes: S::BYTES.saturating_add(self.declared), site: self.site }
    }

    /// A place at once, if nothing stands in the way: the path that most spawns take. Else what stands there, if it was the
    /// runtime that this thread is inside of that said no. It does not wait yet.
    #[inline(always)]
    fn at_once(self: Pin<&mut Self>) -> Result<Granted, Option<Refusal>> {
        let terms = self.terms();
        let this = self.project();
        if this.door.is_some() {
            return Err(None);
        }
        let (at, admission) = here();
        admission.try_admit(at, terms.bytes).map_err(Some)?;
        Ok(grow(this.entry, (at, admission), terms))
    }

    /// Asks, or looks whether the wait is over. `shared` unless the frame cannot leave the owner's thread.
    #[inline(always)]
    pub(crate) fn poll(
        mut self: Pin<&mut Self>,
        shared: bool,
        cx: &Context<'_>,
    ) -> Poll<Result<Granted, SpawnError>> {
        let _inside = task::enter();
        if !self.entry.is_fresh() {
            // A place that was got for nothing would never come back, so this comes before anything is asked for.
            let door = self.door;
            let polled = poll_wait(self.project().entry, cx);
            if polled.is_pending() {
                waits_for_room(door.is_some_and(|door| door.is_here()));
            }
            return polled;
        }
        match self.as_mut().at_once() {
            Ok(granted) => Poll::Ready(Ok(granted)),
            Err(refusal) => self.ask(refusal, shared, cx),
        }
    }

    /// Asks again, or elsewhere, and waits if it must.
    #[inline(never)]
    fn ask(
        self: Pin<&mut Self>,
        refusal: Option<Refusal>,
        shared: bool,
        cx: &Context<'_>,
    ) -> Poll<Result<Granted, SpawnError>> {
        let terms = self.terms();
        let this = self.project();
        match this.door {
            None => {}
            Some(door) if door.is_here() => {}
            Some(door) => return poll_elsewhere(this.entry, terms, *door, cx),
        }
        let (at, admission) = here();
        let mut admitted = match refusal {
            Some(refusal) => Err(refusal),
            None => admission.try_admit(at, terms.bytes),
        };
        let mut unused = None;
        if let Err(Refusal::Full | Refusal::Queued) = admitted {
            // The clone may be the caller's code and change who fits, so the question is asked again after it.
            let waker = cloned(cx.waker());
            if !is_own(&waker) || admission.is_of_team() {
                admitted = admission.try_admit_or_wait(at, terms.bytes);
            }
            if let Err(Refusal::Full | Refusal::Queued) = admitted {
                if !admission.may_wait() {
                    let_go(Some(waker));
                    return Poll::Ready(Err(SpawnError::QueueFull));
                }
                let waiter = admission.waiter();
                this.entry.wait(waiter, shared, terms, waker);
                // From now on it is this runtime's, wherever it is polled next.
                *this.door = Some(admission.door());
                // Here, where its words are known, and not handed on as a whole: a copy would wait for what was just written.
                waiter.park_at(admission.spot(at.1));
                admission.enqueue(at.1, waiter);
                waits_for(WaitsFor::ADMISSION);
                return Poll::Pending;
            }
            unused = Some(waker);
        }
        let result = match admitted {
            Ok(()) => Ok(grow(this.entry, (at, admission), terms)),
            Err(Refusal::ExceedsLimit) => Err(SpawnError::ExceedsLimit),
            Err(_) => Err(SpawnError::Closed),
        };
        // Its drop, too, is the caller's code, and comes when the place has its task, whose handle must not be lost to it.
        quietly(|| drop(unused));
        Poll::Ready(result)
    }

    /// Takes back what was never asked for, or asks for it at once.
    pub(crate) fn try_now(self: Pin<&mut Self>) -> Result<Granted, (S, Refusal)> {
        let _inside = task::enter();
        let terms = self.terms();
        let this = self.project();
        let refusal = match this.door {
            Some(door) if !door.is_here() => Refusal::Closed,
            _ => {
                let (at, admission) = here();
                match admission.try_admit(at, terms.bytes) {
                    Ok(()) => return Ok(this.entry.grow(at, terms)),
                    Err(refusal) => refusal,
                }
            }
        };
        Err((this.entry.take().expect("it was never polled"), refusal))
    }

    /// Whose place it waits for, or has got; it was polled.
    pub(crate) fn door(&self) -> Door {
        let _inside = task::enter();
        self.door.unwrap_or_else(|| here().1.door())
    }

    /// Ends the wait: afterwards the seed is the frame's again, or what it was admitted with is returned.
    pub(crate) fn leave(self: Pin<&mut Self>) -> Option<Granted> {
        if !self.is_in_line() {
            return None;
        }
        let _inside = task::enter();
        match self.project().entry.cancel()? {
            Ok((waiter, waker)) => {
                if let Some(waiter) = waiter {
                    let (at, admission) = here();
                    admission.cancel(at, waiter);
                }
                // Its drop is the caller's code: it comes last, with nothing left to do.
                let_go(waker);
                None
            }
            Err(Ended::Refused(_, waiter)) => {
                recycle(waiter);
                None
            }
            Err(Ended::Admitted(task, waiter)) => {
                recycle(waiter);
                Some(task)
            }
        }
    }

    /// Whether it waits for a place.
    pub(crate) fn is_in_line(&self) -> bool {
        self.entry.waits_with().is_some()
    }

    /// Takes the seed out of a frame that does not wait; `None` if it has left.
    pub(crate) fn take(self: Pin<&mut Self>) -> Option<S> {
        self.project().entry.take()
    }
}

impl<P: Plant> Asking<P> {
    /// As [`poll`](Self::poll), for what becomes a task.
    #[inline(always)]
    pub(crate) fn poll_task(mut self: Pin<&mut Self>, shared: bool, cx: &mut Context<'_>) -> Poll<Told<P>> {
        let _inside = task::enter();
        if !shared {
            assert_alone();
        }
        if !self.entry.is_fresh() {
            return self.poll_on(cx).map_ok(|granted| handle::<P>(granted));
        }
        match self.as_mut().at_once() {
            Ok(granted) => Poll::Ready(Ok(handle::<P>(granted))),
            Err(refusal) if self.entry.is_for_in_place() => self.ask_in_place(refusal, shared, cx),
            Err(refusal) => self.ask(refusal, shared, cx).map_ok(|granted| handle::<P>(granted)),
        }
    }

    /// Runs the child in the spawner's place, if there is no room and it may be lent now, and else goes on to ask.
    #[cold]
    fn ask_in_place(
        mut self: Pin<&mut Self>,
        refusal: Option<Refusal>,
        shared: bool,
        cx: &mut Context<'_>,
    ) -> Poll<Told<P>> {
        let is_full = |refusal| matches!(refusal, Refusal::Full | Refusal::Queued);
        let polled = match refusal {
            // By way of a handle, it was not asked yet.
            None if self.door.is_some_and(|door| door.is_here()) => {
                let bytes = self.terms().bytes;
                let (at, admission) = here();
                match admission.try_admit(at, bytes) {
                    Ok(()) => {
                        let terms = self.terms();
                        Poll::Ready(Ok(self.project().entry.grow(at, terms)))
                    }
                    Err(refusal) => return self.ask_in_place(Some(refusal), shared, cx),
                }
            }
            Some(refusal) if is_full(refusal) => match self.as_mut().poll_lent(cx) {
                Some(polled) => return polled,
                None => self.ask(Some(refusal), shared, cx),
            },
            refusal => self.ask(refusal, shared, cx),
        };
        polled.map_ok(|granted| handle::<P>(granted))
    }

    /// Runs the child in the spawner's place, if that may be lent now; it is fresh.
    pub(crate) fn poll_lent(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Option<Poll<Told<P>>> {
        let _inside = task::enter();
        let (at, admission) = here();
        let waiter = admission.lend_at_once(at.1, self.bytes_in_place())?;
        let this = self.as_mut().project();
        *this.door = Some(admission.door());
        let nobody = this.entry.begin_in_place(waiter);
        debug_assert!(nobody.is_none());
        Some(self.poll_in_place(waiter, cx).map_ok(|granted| handle::<P>(granted)))
    }

    /// What its child takes in place beyond the frame.
    pub(crate) fn bytes_in_place(&self) -> Option<usize> {
        P::bytes_in_place(self.terms().bytes)
    }

    /// What is to become a task, while nothing has happened to it yet.
    pub(crate) fn fresh_mut(self: Pin<&mut Self>) -> Option<&mut P> {
        self.project().entry.fresh_mut()
    }

    /// Looks whether the wait is over, or polls the child in place.
    #[inline(always)]
    fn poll_on(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Granted, SpawnError>> {
        match self.entry.lends_with() {
            Some(waiter) => self.poll_in_place(waiter, cx),
            None => self.poll_waiting(cx),
        }
    }

    #[inline(always)]
    fn poll_waiting(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Granted, SpawnError>> {
        let polled = poll_wait(self.as_mut().project().entry, cx);
        if polled.is_ready() { polled } else { self.look_for_offer(cx) }
    }

    /// It goes on to wait, unless it was offered to run its child in place.
    #[inline(never)]
    fn look_for_offer(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Granted, SpawnError>> {
        let waiter = self.entry.waits_with().expect("it waits");
        let lent = inside().filter(|_| waiter.is_here());
        if let Some((at, admission)) = lent {
            if admission.take_offer(at, waiter) {
                let old = self.as_mut().project().entry.begin_in_place(waiter);
                // It is the waker of this very poll, mostly.
                quietly(|| drop(old));
                return self.poll_in_place(waiter, cx);
            }
        }
        waits_for_room(lent.is_some());
        Poll::Pending
    }

    /// Polls the child in place; away from its runtime there is nothing that could make a task's handle of it, and it ends.
    #[inline(never)]
    fn poll_in_place(
        mut self: Pin<&mut Self>,
        waiter: &'static SpawnWaiter,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Granted, SpawnError>> {
        let lent = inside().filter(|(_, admission)| waiter.is_here() && admission.is_lent_here(waiter));
        let Some((at, admission)) = lent else {
            self.stop();
            return Poll::Ready(Err(SpawnError::Closed));
        };
        let entry = self.as_mut().project().entry;
        let result = ready!(lending(|lender| entry.poll_in_place(waiter, lender, cx)));
        admission.end_lending(at, waiter);
        Poll::Ready(Ok(Some(finished::<P>(at, self.site, result))))
    }

    /// Ends a child that runs in place: its place may be lent again, and then it is dropped.
    fn stop(mut self: Pin<&mut Self>) {
        let Some(waiter) = self.entry.lends_with() else { return };
        {
            let _inside = task::enter();
            match inside().filter(|_| waiter.is_here()) {
                Some((at, admission)) => admission.end_lending(at, waiter),
                None => self.as_mut().project().entry.give_back_lent(waiter),
            }
        }
        self.project().entry.drop_in_place();
    }

    /// As [`leave`](Self::leave); the handle of a task that was admitted meanwhile. It does not run in place.
    #[cfg(not(anteroom_loom))]
    pub(crate) fn give_up(self: Pin<&mut Self>) -> Option<JoinHandle<<P::Task as Future>::Output>> {
        self.leave().map(handle::<P>)
    }

    /// As [`leave`](Self::leave); a task that was admitted meanwhile is aborted.
    #[inline]
    pub(crate) fn abandon(self: Pin<&mut Self>) {
        if self.entry.has_node() {
            self.abandon_node();
        }
    }

    #[inline(never)]
    fn abandon_node(mut self: Pin<&mut Self>) {
        if let Some(granted) = self.as_mut().leave() {
            let handle = handle::<P>(granted);
            handle.abort();
            // On another worker it may have ended by now, and its output is the caller's code.
            task::outside(|| drop(handle));
        }
        self.stop();
    }
}

/// Makes a task of what was admitted, or notes that its place is held without one.
#[inline(always)]
fn grow<S: Seed>(entry: Pin<&mut Entry<S, Key>>, (at, admission): (At, &Admission), terms: Terms) -> Granted {
    let granted = entry.grow(at, terms);
    if granted.is_none() {
        admission.note_reserved(1);
    }
    granted
}

#[inline(always)]
fn handle<P: Plant>(task: Granted) -> JoinHandle<<P::Task as Future>::Output> {
    JoinHandle::new(task.expect("a plant grows into a task"))
}

#[inline(always)]
fn poll_wait<S: Seed>(entry: Pin<&mut Entry<S, Key>>, cx: &Context<'_>) -> Poll<Result<Granted, SpawnError>> {
    match entry.poll_wait(cx).expect("a spawn was polled after it was ready") {
        Poll::Pending => Poll::Pending,
        Poll::Ready(Ended::Admitted(task, waiter)) => {
            recycle(waiter);
            Poll::Ready(Ok(task))
        }
        Poll::Ready(Ended::Refused(why, waiter)) => {
            recycle(waiter);
            Poll::Ready(Err(why.into()))
        }
    }
}

/// On another thread, or in another runtime: stands in line at the desk.
#[cold]
fn poll_elsewhere<S: Seed>(
    entry: Pin<&mut Entry<S, Key>>,
    terms: Terms,
    door: Door,
    cx: &Context<'_>,
) -> Poll<Result<Granted, SpawnError>> {
    match door.arrive(entry, terms, cloned(cx.waker())) {
        Ok(()) => {
            waits_for_room(false);
            Poll::Pending
        }
        Err((turned, waker)) => {
            let_go(Some(waker));
            Poll::Ready(Err(turned.into()))
        }
    }
}

/// Notes that whoever is being polled waits for room: in this runtime, or in another.
fn waits_for_room(is_here: bool) {
    waits_for(if is_here { WaitsFor::ADMISSION } else { WaitsFor::ADMISSION_ELSEWHERE });
}

/// Gives back a node that is this thread's to recycle.
#[inline(always)]
fn recycle(waiter: Recycle<Key>) {
    if let Some(waiter) = waiter {
        let (_, admission) = here();
        admission.recycle(waiter);
    }
}

/// What is not `Send` stays on its thread, and the tasks of several workers do not.
fn assert_alone() {
    let is_alone = task::current().is_none_or(|(home, _)| home.team().is_none());
    assert!(
        is_alone,
        "spawn_local in a work-stealing runtime, whose tasks move between threads: spawn what is Send, or build the \
         single-threaded runtime with Builder::build"
    );
}

/// Where a thread is inside of a runtime.
pub(super) type At = (&'static Home, &'static Local);

/// The runtime that this thread is inside of.
pub(super) fn inside() -> Option<(At, &'static Admission)> {
    Some((task::current()?, crate::admission::current()?))
}
