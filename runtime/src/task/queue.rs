//! The run queue of one thread: a FIFO linked through the headers.
//!
//! # Problem
//! A queue of its own memory needs a bound, and somebody to turn away when it is reached.
//!
//! # Idea
//! Each header has one link, and a task is in the queue at most once ([STATE-1]), so the queue can hold every task there
//! is and never needs memory: its bound is the number of headers, an invariant and not a check.
//!
//! # Read next
//! `table.rs`, where the headers come from.

use super::Header;
use crate::sync::Cell;

/// A first-in first-out list of the tasks to be polled.
pub(crate) struct Queue {
    head: Cell<Option<&'static Header>>,
    tail: Cell<Option<&'static Header>>,
}

impl Queue {
    pub(crate) fn new() -> Self {
        Self { head: Cell::new(None), tail: Cell::new(None) }
    }

    #[inline(always)]
    pub(crate) fn is_empty(&self) -> bool {
        self.head.get().is_none()
    }

    /// The next to be polled.
    pub(crate) fn head(&self) -> Option<&'static Header> {
        self.head.get()
    }

    /// Puts `task`, which is in no list, at the tail.
    #[inline(always)]
    pub(crate) fn push(&self, task: &'static Header) {
        debug_assert!(task.next.get().is_none(), "[STATE-1] a task is in the run queue at most once");
        match self.tail.replace(Some(task)) {
            None => self.head.set(Some(task)),
            Some(last) => last.next.set(Some(task)),
        }
    }

    /// Takes `task` out, wherever it stands, by going through all.
    #[cold]
    pub(crate) fn remove(&self, task: &'static Header) {
        let rest = Queue::new();
        while let Some(other) = self.pop() {
            if !std::ptr::eq(other, task) {
                rest.push(other);
            }
        }
        self.head.set(rest.head.get());
        self.tail.set(rest.tail.get());
    }

    #[inline(always)]
    pub(crate) fn pop(&self) -> Option<&'static Header> {
        let task = self.head.get()?;
        let next = task.next.take();
        self.head.set(next);
        if next.is_none() {
            self.tail.set(None);
        }
        Some(task)
    }
}
