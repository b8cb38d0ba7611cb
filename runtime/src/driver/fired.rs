//! Up to which tick timers have fired, for a sleep that was woken and asks whether it is over.
//!
//! # Problem
//! The wheel knows. But who asks it takes the key of a team, and with one thread a look into a table that may be cold; and nearly
//! every sleep asks exactly twice: to be set, and when it is over.
//!
//! # Idea
//! The tick up to which all timers have fired stands where every thread can read it. A timer that is due by then is over, and its
//! sleep need not look further. The tick is noted before they are taken out of the wheel, so one may leave while its entry is
//! still there: at worst a task is polled for nothing.
//!
//! # Invariants
//! - [FIRED-1] A tick that is noted has come, on the clock of the driver whose epoch stands beside it.
//! - [FIRED-2] It is asked on a thread that is inside of the runtime, which neither ends nor begins anew meanwhile.
//!
//! # Read next
//! `../time/sleep.rs`, which asks.

use std::cell::Cell;

use super::CURRENT;
use super::remote::Remote;
use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// What one home's drivers note of it.
pub(super) struct Fired {
    epoch: AtomicU32,
    tick: AtomicU64,
}

impl Fired {
    pub(super) fn new() -> Self {
        Self { epoch: AtomicU32::new(0), tick: AtomicU64::new(0) }
    }

    /// Begins anew; nobody is inside.
    pub(super) fn open(&self, epoch: u32) {
        // Ordering: Relaxed, all of them: by [FIRED-2] what is read was written since the runtime began, and a tick that is
        // seen late sends its sleep to the wheel.
        self.tick.store(0, Ordering::Relaxed);
        self.epoch.store(epoch, Ordering::Relaxed);
    }

    /// [FIRED-1] All timers up to `tick` fire now.
    #[inline]
    pub(super) fn note(&self, tick: u64) {
        self.tick.store(tick, Ordering::Relaxed);
    }
}

/// Whether a timer of `tick` that was set in `epoch` is over; if not, the wheel has to be asked.
#[inline]
pub(crate) fn is_over(remote: &'static Remote, epoch: u32, tick: u64) -> bool {
    // [FIRED-2]
    let is_inside = CURRENT.with(Cell::get).is_some_and(|slot| std::ptr::eq(slot.remote, remote));
    is_inside
        && remote.fired.epoch.load(Ordering::Relaxed) == epoch
        && tick <= remote.fired.tick.load(Ordering::Relaxed)
}
