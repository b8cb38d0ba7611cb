//! What a spawner holds while it waits, and what becomes of it when there is room.
//!
//! # Problem
//! A spawner may hold a future, or only what makes one, or nothing but the wish for a place. The line treats them alike.
//!
//! # Idea
//! A [`Seed`] says how many bytes it asks for, and grows where the owner has room for it: a future moves as it is
//! ([`Whole`]); a closure becomes a future that calls it at its first poll, as the task and not under anybody's borrow
//! ([`With`]); a seat grows into nothing, and the place stays with who asked ([`Seat`]). Where there will be no room for it,
//! a task-to-be can run in the frame itself (`in_place.rs`).
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

    /// Where its future lies while it runs in the frame, if not where the seed lay.
    type Stand: Default;

    /// What it takes beyond the frame while it runs there, of the bytes that it asks for; `None` if it cannot.
    fn bytes_in_place(asked: usize) -> Option<usize>;

    /// Makes a task of it, if it is to be one.
    ///
    /// # Safety
    /// `seed` points at a `Self` that the caller gives up; `terms` were paid for.
    unsafe fn grow(seed: *const Self, at: (&'static Home, &Local), terms: Terms) -> Option<&'static Header>;
}

/// A seed that becomes a task.
pub(crate) trait Plant: Sized {
    type Task: Future;

    /// As [`Seed::Stand`], and what of the task's bytes lies in the frame itself.
    type Stand: Default;
    const BYTES_IN_FRAME: usize;

    /// Moves it to where the task will be.
    ///
    /// # Safety
    /// `seed` points at a `Self` that the caller gives up, `at` at room for a task, elsewhere.
    unsafe fn plant(seed: *const Self, at: *mut Self::Task);

    /// Polls its future where it lies, which is made at the first call.
    ///
    /// # Safety
    /// `seed` points at a `Self` that lies in a pinned frame and is the caller's until the future was dropped by
    /// [`drop_in_place`](Self::drop_in_place); `stand` is in the same frame.
    unsafe fn poll_in_place(
        seed: *mut Self,
        stand: &mut Self::Stand,
        cx: &mut Context<'_>,
    ) -> Poll<<Self::Task as Future>::Output>;

    /// Drops the future that runs in place.
    ///
    /// # Safety
    /// As for [`poll_in_place`](Self::poll_in_place); neither is called again.
    unsafe fn drop_in_place(seed: *mut Self, stand: &mut Self::Stand);
}

impl<P: Plant> Seed for P {
    const BYTES: usize = counted_bytes::<P::Task>();

    type Stand = P::Stand;

    #[inline(always)]
    fn bytes_in_place(asked: usize) -> Option<usize> {
        Some(asked - P::BYTES_IN_FRAME)
    }

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

    type Stand = ();
    const BYTES_IN_FRAME: usize = counted_bytes::<F>();

    #[inline(always)]
    unsafe fn plant(seed: *const Self, at: *mut F) {
        // SAFETY: forwarded from the caller; `Whole` is its future, byte for byte.
        unsafe { at.copy_from_nonoverlapping(seed.cast::<F>(), 1) }
    }

    #[inline]
    unsafe fn poll_in_place(seed: *mut Self, (): &mut (), cx: &mut Context<'_>) -> Poll<F::Output> {
        // SAFETY: forwarded from the caller: it is there, and this poll's alone.
        let future = unsafe { &mut (*seed).0 };
        // SAFETY: forwarded from the caller: its frame is pinned, and it is dropped where it lies.
        unsafe { Pin::new_unchecked(future) }.poll(cx)
    }

    unsafe fn drop_in_place(seed: *mut Self, (): &mut ()) {
        // SAFETY: forwarded from the caller.
        unsafe { seed.drop_in_place() }
    }
}

/// What makes a future.
#[repr(transparent)]
pub(crate) struct With<M>(pub(crate) M);

impl<M: FnOnce() -> F, F: Future> Plant for With<M> {
    type Task = Lazy<M, F>;

    /// The frame has room for the closure alone, so what it makes needs a block.
    type Stand = Option<Pin<Box<Lazy<M, F>>>>;
    const BYTES_IN_FRAME: usize = 0;

    #[inline(always)]
    unsafe fn plant(seed: *const Self, at: *mut Lazy<M, F>) {
        // SAFETY: forwarded from the caller: the closure moves.
        let make = unsafe { seed.read() }.0;
        // SAFETY: forwarded from the caller.
        unsafe { at.write(Lazy::Closure { make: Some(make) }) }
    }

    unsafe fn poll_in_place(
        seed: *mut Self,
        stand: &mut Self::Stand,
        cx: &mut Context<'_>,
    ) -> Poll<F::Output> {
        let future = stand.get_or_insert_with(|| {
            // SAFETY: forwarded from the caller: the closure moves, once, since the block is there afterwards.
            let make = unsafe { seed.read() }.0;
            Box::pin(Lazy::Closure { make: Some(make) })
        });
        future.as_mut().poll(cx)
    }

    unsafe fn drop_in_place(seed: *mut Self, stand: &mut Self::Stand) {
        match stand.take() {
            Some(future) => drop(future),
            // SAFETY: forwarded from the caller: never polled, the closure is still there.
            None => unsafe { seed.drop_in_place() },
        }
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

    type Stand = ();

    fn bytes_in_place(_: usize) -> Option<usize> {
        None
    }

    unsafe fn grow(_: *const Self, _: (&'static Home, &Local), _: Terms) -> Option<&'static Header> {
        None
    }
}
