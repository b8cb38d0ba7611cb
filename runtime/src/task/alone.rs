//! A home that is never shared: what `team.rs` and `shared.rs` are without the feature `stealing`.
//!
//! Each home has an owner, each header moves by its owner's plain stores, and nothing is left of the questions whether it is
//! otherwise: all of these are constants.
//!
//! # Read next
//! `team.rs`, the other case.

use core::task::Waker;

use super::body::Cache;
use super::{Header, Home, Local, current};
use crate::sync::Cell;

/// The threads that share a home: there are none.
pub(crate) enum Team {}

impl Team {
    pub(super) fn publish(&self, _: &'static Header) {
        match *self {}
    }

    pub(super) fn take_returned(&self, _: impl FnMut(&'static Header)) {
        match *self {}
    }

    pub(super) fn is_of_this_thread(&self) -> bool {
        match *self {}
    }

    pub(crate) fn left(&self) -> [usize; 2] {
        match *self {}
    }

    pub(crate) fn want_places(&self, _: bool) {
        match *self {}
    }
}

impl Home {
    /// The threads that share it; `None`, since it has an owner.
    #[inline(always)]
    pub(crate) fn team(&self) -> Option<&Team> {
        None
    }

    /// Its address as the headers of its tasks note it.
    #[inline(always)]
    pub(super) fn tagged(&'static self) -> *mut Home {
        std::ptr::from_ref(self).cast_mut()
    }

    /// Whether this thread grants places, as noted in `alone`.
    #[inline(always)]
    pub(crate) fn granting<'a>(&self, alone: &'a Cell<bool>) -> &'a Cell<bool> {
        alone
    }

    /// Where the bodies of new tasks come from on this thread.
    #[inline(always)]
    pub(crate) fn cache<'a>(&self, local: &'a Local) -> &'a Cache {
        &local.cache
    }
}

/// The address of a home, as a header notes it.
#[inline(always)]
pub(super) const fn untagged(address: usize) -> usize {
    address
}

/// Whether a header notes a team's home.
#[inline(always)]
pub(super) const fn is_tagged(_: usize) -> bool {
    false
}

/// What a thread of a team holds while it is inside.
#[must_use]
pub(crate) struct Inside;

/// Does nothing: an owner is inside of its runtime for all the time that it runs it.
#[inline(always)]
pub(crate) fn enter() -> Inside {
    Inside
}

/// Whether this thread is of a team, and not inside of another runtime.
#[inline(always)]
#[cfg(not(anteroom_loom))]
pub(crate) fn sits_in_team() -> bool {
    false
}

/// Runs `f`.
#[inline(always)]
pub(crate) fn outside<R>(f: impl FnOnce() -> R) -> R {
    f()
}

/// What is left for the task that is being polled on this thread.
#[inline(always)]
pub(super) fn budget() -> Option<&'static Cell<u32>> {
    Some(&current()?.1.budget)
}

/// The task that is being polled on this thread.
#[inline(always)]
pub(super) fn polled_here() -> Option<&'static Header> {
    current()?.1.current.get()
}

/// What is asked of a header only where `is_shared` says so.
impl Header {
    pub(super) fn wake_shared(&'static self, _: u32) {}

    pub(super) fn abort_shared(&'static self) {}

    pub(super) fn give_back_shared(&'static self) {}

    pub(super) fn detach_shared(&'static self) -> bool {
        true
    }

    pub(super) fn watch_shared(&'static self, _: &Waker) -> bool {
        true
    }

    pub(super) fn is_of_this_team(&'static self) -> bool {
        false
    }

    pub(super) fn cache_here(&'static self) -> Option<&'static Cache> {
        None
    }
}
