//! What the headers of one home tell of its tasks: to whoever asks what fills a runtime, and to whoever must decide whether
//! anything in it can still move.
//!
//! # Read next
//! `../holders.rs`, which shows it.

use super::state::Phase;
use super::{Header, Local, Place, Site, TaskId, WaitsFor};

/// What is known of a live task, for whoever asks what fills a runtime.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    pub(crate) id: TaskId,
    pub(crate) place: Place,
    pub(crate) bytes: usize,
    pub(crate) site: Option<Site>,
    pub(crate) age_ns: u64,
    pub(crate) waits_for: WaitsFor,
    /// It is polled, or will be: it waits for nothing.
    pub(crate) is_ready: bool,
    /// A child runs in its place.
    pub(crate) lends: bool,
}

/// Calls `each` with every live task. Looks at every header.
pub(crate) fn for_each_live(local: &Local, mut each: impl FnMut(Known)) {
    local.table.for_each(|task| {
        let phase = task.snapshot().phase();
        if matches!(phase, Phase::Free | Phase::Done) {
            return;
        }
        let marks = task.marks();
        let declared = if marks.declared() { local.table.declared(task).get() } else { 0 };
        each(Known {
            id: TaskId::of(task),
            place: marks.place(),
            bytes: task.vtable().future_bytes + declared,
            site: local.sites.place(task.site.get()),
            age_ns: local.age_ns(task.since.get()),
            waits_for: task.reasons(),
            is_ready: phase != Phase::Idle,
            lends: marks.lends(),
        });
    });
}

impl Header {
    /// Whether it is a task that will go on, as far as is known, or may: with a place, and not stuck.
    pub(crate) fn holds_and_moves(&self) -> bool {
        self.holds() && !self.is_stuck()
    }

    /// Whether it is a live task with a place.
    pub(crate) fn holds(&self) -> bool {
        !matches!(self.snapshot().phase(), Phase::Done | Phase::Free) && self.marks().place() == Place::Task
    }

    /// Whether all that it waits for, as far as is known, is room or another task.
    pub(crate) fn is_stuck(&self) -> bool {
        self.snapshot().phase() == Phase::Idle && self.reasons().is_inside()
    }

    /// Whether it waits for a place of the runtime's, maybe besides.
    pub(crate) fn waits_for_place(&self) -> bool {
        self.reasons().has(WaitsFor::ADMISSION)
    }

    /// Whether it is alive, whatever its place, and waits for a timer, a socket or a blocking job; or is about to be polled.
    pub(crate) fn is_armed(&self) -> bool {
        match self.snapshot().phase() {
            Phase::Done | Phase::Free => false,
            Phase::Idle => self.reasons().is_outside(),
            Phase::Scheduled | Phase::Running | Phase::Notified => true,
        }
    }
}
