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
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use super::{SpawnError, here};
use crate::admission::{Admission, Door, Key, Refusal};
use crate::task::waiter::{Ended, Entry, Recycle};
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

/// A granted place: its task, unless it was asked for alone.
pub(crate) type Granted = Option<&'static Header>;

impl<S: Seed> Asking<S> {
    #[inline(always)]
    pub(crate) fn new(seed: S, site: Site, door: Option<Door>) -> Self {
        Self { entry: Entry::new(seed), declared: 0, site, door }
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
        Ok(this.entry.grow(at, terms))
    }

    /// Asks, or looks whether the wait is over. `shared` unless the frame cannot leave the owner's thread.
    #[inline(always)]
    pub(crate) fn poll(
        mut self: Pin<&mut Self>,
        shared: bool,
        cx: &Context<'_>,
    ) -> Poll<Result<Granted, SpawnError>> {
        if !self.entry.is_fresh() {
            // A place that was got for nothing would never come back, so this comes before anything is asked for.
            return poll_wait(self.project().entry, cx);
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
            // The clone is the caller's code and may change who fits, so the question is asked again after it.
            let waker = cx.waker().clone();
            admitted = admission.try_admit(at, terms.bytes);
            if let Err(Refusal::Full | Refusal::Queued) = admitted {
                if !admission.may_wait() {
                    return Poll::Ready(Err(SpawnError::QueueFull));
                }
                let waiter = admission.waiter();
                this.entry.wait(waiter, shared, terms, waker);
                // From now on it is this runtime's, wherever it is polled next.
                *this.door = Some(admission.door());
                admission.enqueue(at.1, waiter);
                waits_for(WaitsFor::ADMISSION);
                return Poll::Pending;
            }
            unused = Some(waker);
        }
        let result = match admitted {
            Ok(()) => Ok(this.entry.grow(at, terms)),
            Err(Refusal::ExceedsLimit) => Err(SpawnError::ExceedsLimit),
            Err(_) => Err(SpawnError::Closed),
        };
        // Its drop, too, is the caller's code, and comes when the place has its task, whose handle must not be lost to it.
        quietly(|| drop(unused));
        Poll::Ready(result)
    }

    /// Takes back what was never asked for, or asks for it at once.
    pub(crate) fn try_now(self: Pin<&mut Self>) -> Result<Granted, (S, Refusal)> {
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
        self.door.unwrap_or_else(|| here().1.door())
    }

    /// Ends the wait: afterwards the seed is the frame's again, or what it was admitted with is returned.
    pub(crate) fn leave(self: Pin<&mut Self>) -> Option<Granted> {
        match self.project().entry.cancel()? {
            Ok((waiter, waker)) => {
                if let Some(waiter) = waiter {
                    let (at, admission) = here();
                    admission.cancel(at, waiter);
                }
                // Its drop is the caller's code: it comes last, with nothing left to do.
                drop(waker);
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

    /// Takes the seed out of a frame that does not wait; `None` if it has left.
    pub(crate) fn take(self: Pin<&mut Self>) -> Option<S> {
        self.project().entry.take()
    }
}

impl<P: Plant> Asking<P> {
    /// As [`poll`](Self::poll), for what becomes a task.
    #[inline(always)]
    pub(crate) fn poll_task(
        mut self: Pin<&mut Self>,
        shared: bool,
        cx: &Context<'_>,
    ) -> Poll<Result<JoinHandle<<P::Task as Future>::Output>, SpawnError>> {
        if !self.entry.is_fresh() {
            return poll_wait(self.project().entry, cx).map_ok(|granted| handle::<P>(granted));
        }
        match self.as_mut().at_once() {
            Ok(granted) => Poll::Ready(Ok(handle::<P>(granted))),
            Err(refusal) => self.ask(refusal, shared, cx).map_ok(|granted| handle::<P>(granted)),
        }
    }

    /// As [`leave`](Self::leave); a task that was admitted meanwhile is aborted.
    pub(crate) fn abandon(self: Pin<&mut Self>) {
        if let Some(granted) = self.leave() {
            handle::<P>(granted).abort();
        }
    }
}

#[inline(always)]
fn handle<P: Plant>(task: Granted) -> JoinHandle<<P::Task as Future>::Output> {
    JoinHandle::new(task.expect("a plant grows into a task"))
}

#[inline(always)]
fn poll_wait<S: Seed>(entry: Pin<&mut Entry<S, Key>>, cx: &Context<'_>) -> Poll<Result<Granted, SpawnError>> {
    match entry.poll_wait(cx).expect("a spawn was polled after it was ready") {
        Poll::Pending => {
            waits_for(WaitsFor::ADMISSION);
            Poll::Pending
        }
        Poll::Ready(Ended::Admitted(task, waiter)) => {
            recycle(waiter);
            Poll::Ready(Ok(task))
        }
        Poll::Ready(Ended::Refused(why, waiter)) => {
            recycle(waiter);
            Poll::Ready(Err(crate::admission::Turned::from(why).into()))
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
    match door.arrive(entry, terms, cx.waker().clone()) {
        Ok(()) => {
            waits_for(WaitsFor::ADMISSION);
            Poll::Pending
        }
        Err((turned, waker)) => {
            drop(waker);
            Poll::Ready(Err(turned.into()))
        }
    }
}

/// Gives back a node that is this thread's to recycle.
#[inline(always)]
fn recycle(waiter: Recycle<Key>) {
    if let Some(waiter) = waiter {
        let (_, admission) = here();
        admission.recycle(waiter);
    }
}

/// Where a thread is inside of a runtime.
pub(super) type At = (&'static Home, &'static Local);

/// The runtime that this thread is inside of.
pub(super) fn inside() -> Option<(At, &'static Admission)> {
    Some((task::current()?, crate::admission::current()?))
}
