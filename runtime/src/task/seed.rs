//! What a spawner holds while it waits, and what becomes of it when there is room.
//!
//! # Problem
//! A spawner may hold a future, or only what makes one, or nothing but the wish for a place. The line treats them alike.
//!
//! # Idea
//! A [`Seed`] says how many bytes it asks for, and grows where the owner has room for it: a future moves as it is
//! ([`Whole`]); a closure becomes a future that calls it at its first poll, as the task and not under anybody's borrow
//! ([`With`]); a seat grows into nothing, and the place stays with who asked ([`Seat`]).
//!
//! # Read next
//! `waiter.rs`, the frame that a seed waits in.

use core::pin::Pin;
use core::task::{Context, Poll};

use pin_project_lite::pin_project;

use super::body::counted_bytes;
use super::{Header, Home, Local, Terms, spawn_from};

/// What waits in a frame; see the module's doc.
pub(crate) trait Seed: Sized {
    /// What its task takes.
    const BYTES: usize;

    /// Makes a task of it, if it is to be one.
    ///
    /// # Safety
    /// `seed` points at a `Self` that the caller gives up; `terms` were paid for.
    unsafe fn grow(seed: *const Self, at: (&'static Home, &Local), terms: Terms) -> Option<&'static Header>;
}

/// A seed that becomes a task.
pub(crate) trait Plant: Sized {
    type Task: Future;

    /// Moves it to where the task will be.
    ///
    /// # Safety
    /// `seed` points at a `Self` that the caller gives up, `at` at room for a task, elsewhere.
    unsafe fn plant(seed: *const Self, at: *mut Self::Task);
}

impl<P: Plant> Seed for P {
    const BYTES: usize = counted_bytes::<P::Task>();

    #[inline(always)]
    unsafe fn grow(seed: *const Self, at: (&'static Home, &Local), terms: Terms) -> Option<&'static Header> {
        // SAFETY: forwarded from the caller.
        Some(unsafe { spawn_from(at, terms, seed) })
    }
}

/// A future as it is.
#[repr(transparent)]
pub(crate) struct Whole<F>(pub(crate) F);

impl<F: Future> Plant for Whole<F> {
    type Task = F;

    #[inline(always)]
    unsafe fn plant(seed: *const Self, at: *mut F) {
        // SAFETY: forwarded from the caller; `Whole` is its future, byte for byte.
        unsafe { at.copy_from_nonoverlapping(seed.cast::<F>(), 1) }
    }
}

/// What makes a future.
#[repr(transparent)]
pub(crate) struct With<M>(pub(crate) M);

impl<M: FnOnce() -> F, F: Future> Plant for With<M> {
    type Task = Lazy<M, F>;

    #[inline(always)]
    unsafe fn plant(seed: *const Self, at: *mut Lazy<M, F>) {
        // SAFETY: forwarded from the caller: the closure moves.
        let make = unsafe { seed.read() }.0;
        // SAFETY: forwarded from the caller.
        unsafe { at.write(Lazy::Closure { make: Some(make) }) }
    }
}

pin_project! {
    /// A future that is made at its first poll.
    #[project = LazyProjection]
    pub(crate) enum Lazy<M, F> {
        Closure { make: Option<M> },
        Future { #[pin] future: F },
    }
}

impl<M: FnOnce() -> F, F: Future> Future for Lazy<M, F> {
    type Output = F::Output;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        loop {
            match self.as_mut().project() {
                LazyProjection::Future { future } => return future.poll(cx),
                LazyProjection::Closure { make } => {
                    // Nobody polls a task again that has panicked.
                    let make = make.take().expect("the closure is called once");
                    let future = make();
                    self.set(Lazy::Future { future });
                }
            }
        }
    }
}

/// A place, and nothing to put there yet.
pub(crate) struct Seat;

impl Seed for Seat {
    const BYTES: usize = 0;

    unsafe fn grow(_: *const Self, _: (&'static Home, &Local), _: Terms) -> Option<&'static Header> {
        None
    }
}
