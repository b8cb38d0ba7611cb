//! The future of `block_on`, as the loop sees it.
//!
//! # Problem
//! It borrows from its caller's frame and need not be `Send`, so it cannot be moved into a task; and it must be woken, queued
//! and polled as any other.
//!
//! # Idea
//! It has a header without a body, for its waker and its turn, and no place of anybody's budget.
//!
//! # Read next
//! `../scheduler/local.rs`, which polls it.

use core::task::{Context, Poll};

use super::state::{Action, Event, Outcome, Phase};
use super::vtable::VTable;
use super::{BUDGET, Header, Home, Local, Marks, Place, Site, WaitsFor, waker};

/// The future of `block_on`: it has a header for its waker and its turn in the queue, but lies in the caller's frame.
pub(crate) struct Root {
    task: &'static Header,
    local: &'static Local,
}

impl Root {
    /// Scheduled at once, at the tail.
    pub(crate) fn new(home: &'static Home, local: &'static Local, site: Site) -> Self {
        let task = local.table.take(home);
        task.vtable.set(Some(VTable::root()));
        task.set_marks(Marks::new(Place::Root, false));
        task.site.set(local.sites.id(site));
        task.since.set(local.since());
        let action = task.apply(Event::Spawn { handle: false });
        debug_assert_eq!(action, Action::Enqueue);
        local.queue.push(task);
        Self { task, local }
    }

    #[inline(always)]
    pub(crate) fn is(&self, task: &'static Header) -> bool {
        core::ptr::eq(self.task, task)
    }

    /// Polls it, when the queue says that it is its turn.
    pub(crate) fn poll<T>(&self, poll: impl FnOnce(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
        let action = self.task.apply(Event::StartPoll);
        debug_assert_eq!(action, Action::Poll);
        let waker = waker::waker(self.task, self.task.snapshot().generation());
        self.local.current.set(Some(self.task));
        self.local.budget.set(BUDGET);
        self.task.set_reasons(WaitsFor::NOTHING_KNOWN);
        let polled = poll(&mut Context::from_waker(&waker));
        self.local.current.set(None);
        if polled.is_pending() && self.task.apply(Event::PollPending) == Action::Enqueue {
            self.local.queue.push(self.task);
        }
        polled
    }
}

/// The future of `block_on` on a thread that is a guest of a team: its header shows what it waits for, and is in no queue, since
/// no worker polls it.
#[cfg(feature = "stealing")]
pub(crate) struct Guest {
    task: &'static Header,
    worker: &'static super::team::Worker,
}

#[cfg(feature = "stealing")]
impl Guest {
    /// Of the thread that sits there; it has not entered.
    pub(crate) fn new(worker: &'static super::team::Worker, site: Site) -> Self {
        let _inside = super::enter();
        let (home, local) = super::current().expect("this thread sits in a team");
        let task = local.table.take(home);
        task.vtable.set(Some(VTable::root()));
        task.set_marks(Marks::new(Place::Root, false));
        task.site.set(local.sites.id(site));
        task.since.set(local.since());
        let _in_no_queue = task.move_on(Event::Spawn { handle: false });
        Self { task, worker }
    }

    /// Polls it.
    pub(crate) fn poll<T>(&self, poll: impl FnOnce() -> Poll<T>) -> Poll<T> {
        if self.task.snapshot().phase() == Phase::Idle {
            let _in_no_queue = self.task.move_on(Event::Wake);
        }
        let action = self.task.move_on(Event::StartPoll);
        debug_assert_eq!(action, Action::Poll);
        self.worker.current.set(Some(self.task));
        self.worker.budget.set(BUDGET);
        self.task.set_reasons(WaitsFor::NOTHING_KNOWN);
        let polled = poll();
        self.worker.current.set(None);
        if polled.is_pending() {
            let _in_no_queue = self.task.move_on(Event::PollPending);
        }
        polled
    }
}

#[cfg(feature = "stealing")]
impl Drop for Guest {
    /// Ready, or its poll panicked: then its header is running.
    fn drop(&mut self) {
        self.worker.current.set(None);
        let _inside = super::enter();
        if matches!(self.task.snapshot().phase(), Phase::Idle | Phase::Scheduled) {
            let action = self.task.move_on(Event::Shutdown);
            debug_assert_eq!(action, Action::Cancel);
        }
        let action = self.task.move_on(Event::Finish(Outcome::Value));
        debug_assert_eq!(action, Action::Recycle);
        if let Some((_, local)) = super::current() {
            local.table.give_back(self.task);
        }
    }
}

impl Drop for Root {
    /// Ready, or its poll panicked: then its header is running. Were the loop itself to unwind, it can be in any phase.
    fn drop(&mut self) {
        self.local.current.set(None);
        match self.task.snapshot().phase() {
            Phase::Running | Phase::Notified => {}
            phase => {
                if phase == Phase::Scheduled {
                    self.local.queue.remove(self.task);
                }
                let action = self.task.apply(Event::Shutdown);
                debug_assert_eq!(action, Action::Cancel);
            }
        }
        let action = self.task.apply(Event::Finish(Outcome::Value));
        debug_assert_eq!(action, Action::Recycle);
        self.local.table.give_back(self.task);
    }
}
