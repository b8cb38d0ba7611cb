//! Whoever awaits a task, in one word of its header.
//!
//! # Problem
//! Most tasks are joined by another task of the same runtime, and then a waker is one word that owns nothing; some by a
//! waker of another kind, which must be kept and dropped.
//!
//! # Idea
//! The word holds the data of a waker of ours, or the address of a boxed one; two bits of the header's marks say which.
//!
//! # Read next
//! `join.rs`, the other side.

use core::task::Waker;

use super::vtable::quietly;
use super::{Header, waker};

/// Whoever awaits a task, in one word: the data of a waker of ours, or the address of a boxed one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum JoinerKind {
    None = 0,
    Own = 1,
    Boxed = 2,
}

/// Somebody to be told that a task is done.
#[must_use]
pub(crate) enum Joiner {
    None,
    Own(*const ()),
    Boxed(Box<Waker>),
}

impl Joiner {
    #[inline(always)]
    pub(crate) fn wake(self) {
        match self {
            Joiner::None => {}
            // SAFETY: [WAKER-1] `Own` is made only in `Header::take_joiner`, of what `own_data` gave.
            Joiner::Own(data) => unsafe { waker::wake_data(data) },
            Joiner::Boxed(waker) => quietly(|| waker.wake()),
        }
    }
}

impl Header {
    #[inline(always)]
    fn set_joiner_kind(&self, kind: JoinerKind) {
        self.set_marks(self.marks().with_joiner(kind));
    }

    /// Remembers whom to wake; only another's waker is cloned.
    #[inline(always)]
    pub(super) fn set_joiner(&self, waker: &Waker) {
        match waker::own_data(waker) {
            Some(data) if self.marks().joiner() != JoinerKind::Boxed => {
                self.joiner.set(data);
                self.set_joiner_kind(JoinerKind::Own);
            }
            _ => self.set_joiner_boxed(waker),
        }
    }

    /// As [`set_joiner`](Self::set_joiner), where another's waker comes or goes.
    #[cold]
    fn set_joiner_boxed(&self, waker: &Waker) {
        if let Joiner::Boxed(old) = self.replace_joiner(waker.clone()) {
            quietly(|| drop(old));
        }
    }

    /// Remembers whom to wake, and gives back who was to be.
    pub(super) fn replace_joiner(&self, waker: Waker) -> Joiner {
        let old = self.take_joiner();
        if let Some(data) = waker::own_data(&waker) {
            self.joiner.set(data);
            self.set_joiner_kind(JoinerKind::Own);
            return old;
        }
        self.joiner.set(Box::into_raw(Box::new(waker)).cast_const().cast());
        self.set_joiner_kind(JoinerKind::Boxed);
        old
    }

    #[inline(always)]
    pub(super) fn take_joiner(&self) -> Joiner {
        let kind = self.marks().joiner();
        self.set_joiner_kind(JoinerKind::None);
        match kind {
            JoinerKind::None => Joiner::None,
            JoinerKind::Own => Joiner::Own(self.joiner.get()),
            JoinerKind::Boxed => {
                let waker = self.joiner.get().cast_mut().cast::<Waker>();
                // SAFETY: [TASK-1] only the owner writes the joiner; the kind said that a box was leaked into it, and has
                // just been taken, so the box is taken back once.
                Joiner::Boxed(unsafe { Box::from_raw(waker) })
            }
        }
    }
}
