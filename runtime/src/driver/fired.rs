//! Until when timers have fired, for a sleep that was woken and asks whether it is over.
//!
//! # Problem
//! The wheel knows. But who asks it takes the key of a team, and with one thread a look into a table that may be cold; and nearly
//! every sleep asks exactly twice: to be set, and when it is over.
//!
//! # Idea
//! The time until which all timers have fired stands where every thread can read it, counted from a moment that the whole process
//! shares, so that a deadline says by itself whether it is past. It is noted before the timers are taken out of the wheel, so a
//! sleep may leave while its entry is still there: at worst a task is polled for nothing.
//!
//! # Invariants
//! - [FIRED-1] What is noted has come on the runtime's clock, and the timers that are due by then are being taken out.
//! - [FIRED-2] It is asked on a thread that is inside of the runtime, which neither ends nor begins anew meanwhile.
//!
//! # Rejected
//! The tick in each sleep: 8 bytes more, with which the task around it lies in two cache lines where it lay in one.
//!
//! # Read next
//! `../time/sleep.rs`, which asks.

use std::cell::Cell;
use std::time::Instant;

use super::CURRENT;
use super::remote::Remote;
use crate::clock::since_base_ns;
use crate::sync::{AtomicU64, Ordering};

/// Until when the timers of one home have fired, in nanoseconds since the process's base.
pub(super) struct Fired(AtomicU64);

impl Fired {
    pub(super) fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// [FIRED-1] All that are due until `base_ns` fire now; or none has, when a driver begins.
    #[inline]
    pub(super) fn note(&self, base_ns: u64) {
        // Ordering: Relaxed; by [FIRED-2] what is read was written since the runtime began, and who reads it late asks the wheel.
        self.0.store(base_ns, Ordering::Relaxed);
    }
}

/// Whether a timer that was set behind `remote` is over for certain; if not, the wheel has to be asked.
#[inline]
pub(crate) fn is_over(remote: &'static Remote, deadline: Instant) -> bool {
    // [FIRED-2]
    let is_inside = CURRENT.with(Cell::get).is_some_and(|slot| std::ptr::eq(slot.remote, remote));
    // Ordering: Relaxed; as in `note`.
    is_inside && since_base_ns(deadline) <= remote.fired.0.load(Ordering::Relaxed)
}
