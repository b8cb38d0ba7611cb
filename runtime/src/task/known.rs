//! What the headers of one home tell of its tasks.
//!
//! # Read next
//! `../holders.rs`, which shows it.

use super::state::Phase;
use super::{Local, Place, Site, TaskId, WaitsFor};

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
}

/// Calls `each` with every live task. Looks at every header.
pub(crate) fn for_each_live(local: &Local, mut each: impl FnMut(Known)) {
    local.table.for_each(|task| {
        let phase = task.snapshot().phase();
        if matches!(phase, Phase::Free | Phase::Done) {
            return;
        }
        let marks = task.marks.get();
        let declared = if marks.declared() { local.table.declared(task).get() } else { 0 };
        each(Known {
            id: TaskId::of(task),
            place: marks.place(),
            bytes: task.vtable().future_bytes + declared,
            site: local.sites.place(task.site.get()),
            age_ns: local.age_ns(task.since.get()),
            waits_for: task.reasons.get(),
            is_ready: phase != Phase::Idle,
        });
    });
}
