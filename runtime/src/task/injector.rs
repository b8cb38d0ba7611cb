//! The tasks that no worker has yet: a locked list that any thread may push to.
//!
//! # Problem
//! A wake may come from a thread that has no run queue, and a worker's ring may be full. Neither may fail, block for long or
//! allocate.
//!
//! # Idea
//! The list goes through the headers' own links, so it holds every task there is and never needs memory: its bound is the
//! number of headers, an invariant and not a check ([STATE-1]). The lock is held for two words' time. A count beside it
//! tells who looks, without the lock, whether anything is there.
//!
//! # Rejected
//! A bounded lock-free queue: full, it would turn a wake away. A lock-free list: takers of one list free and reuse links
//! under each other, which needs counted pointers where a lock needs two locked instructions.
//!
//! # Read next
//! `team.rs`, whose it is.

use super::Header;
use super::queue::Queue;
use crate::sync::{AtomicUsize, Mutex, Ordering, lock};

/// Tasks that any worker may take, first come first served.
pub(crate) struct Injector {
    queue: Mutex<Queue>,
    /// How many there are; written under the lock.
    len: AtomicUsize,
}

impl Injector {
    pub(super) fn new() -> Self {
        Self { queue: Mutex::new(Queue::new()), len: AtomicUsize::new(0) }
    }

    /// How many tasks there are, as far as this thread can know.
    #[inline(always)]
    pub(super) fn len(&self) -> usize {
        // Ordering: Relaxed; a hint on the way, and before a sleep ordered by the swap of the idle word.
        self.len.load(Ordering::Relaxed)
    }

    /// Puts all of `tasks`, which are in no list, at the tail.
    pub(super) fn push_all(&self, tasks: impl Iterator<Item = &'static Header>) {
        let queue = lock(&self.queue);
        let mut len = self.len();
        for task in tasks {
            queue.push(task);
            len += 1;
        }
        // Ordering: Relaxed; under the lock.
        self.len.store(len, Ordering::Relaxed);
    }

    /// Takes at most `max` tasks from the head.
    pub(super) fn pop_some(&self, max: usize, mut each: impl FnMut(&'static Header)) {
        let queue = lock(&self.queue);
        let mut len = self.len();
        for _ in 0..max {
            let Some(task) = queue.pop() else { break };
            len -= 1;
            each(task);
        }
        // Ordering: Relaxed; under the lock.
        self.len.store(len, Ordering::Relaxed);
    }
}
