//! How other threads hand something to its owner, and ring when the owner sleeps.
//!
//! # Problem
//! A wake may come from any thread, at any time, in any number. It must not block, allocate or fail, and must not cost a
//! system call while the owner is awake; and the owner must not fall asleep beside a message.
//!
//! # Idea
//! Three things, each with its race told here:
//!
//! 1. A small bounded queue of items. Who finds it full sets `overflow` instead, and the owner then looks through all
//!    headers; the item itself carries what is asked (its foreign word), so nothing is lost, only found more slowly.
//! 2. `attention`: something rare stands elsewhere (a cancelled waiter, a closed socket); the owner looks into all such
//!    places.
//! 3. `sleeping` and the doorbell. The owner swaps `sleeping` to true, looks at 1 and 2 again, and waits. The other thread
//!    writes 1 or 2, swaps `sleeping` to false, and rings if it was true. Of two swaps of one word one is first: either
//!    the other's, and then the owner's reads it and with it sees the message; or the owner's, and then the other reads
//!    true and rings. A ring that comes too late makes one empty turn.
//!
//! # Invariants
//! - [INBOX-1] Whatever was pushed before the owner last saw the inbox quiet has been handed out.
//! - [INBOX-2] `push` takes a bounded number of steps; the doorbell's lock is taken only by who turned `sleeping` off.
//!
//! # Rejected
//! - An intrusive list through the headers: no bound to explain, but a link of eight bytes in every header for a path
//!   that few tasks ever take.
//! - Ringing always: a system call a wake.
//! - Two fences and a plain look at `sleeping`, which spares other threads the write. It costs the same (the fence is as
//!   dear as the swap), and needs three threads' fences to be argued about, which loom could not follow.
//!
//! # Read next
//! `local.rs`, the loop that drains it.

use std::sync::Arc;

use crate::sync::{AtomicBool, Mutex, Ordering, lock, seeded};

/// Wakes a sleeping owner; called from any thread.
pub(crate) trait Doorbell: Send + Sync {
    /// Makes the owner's wait end now, or its next one if it does not wait.
    fn ring(&self);
}

/// What other threads ask of one owner.
pub(crate) struct Inbox<T> {
    items: Items<T>,
    overflow: AtomicBool,
    attention: AtomicBool,
    sleeping: AtomicBool,
    doorbell: Mutex<Option<Arc<dyn Doorbell>>>,
}

impl<T: Send> Inbox<T> {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            items: Items::new(capacity),
            overflow: AtomicBool::new(false),
            attention: AtomicBool::new(false),
            sleeping: AtomicBool::new(false),
            doorbell: Mutex::new(None),
        }
    }

    /// Hands `item` over; if the queue is full the owner is told to look for itself.
    pub(crate) fn push(&self, item: T) {
        if self.items.push(item).is_err() {
            // Ordering: Release; pairs with the Acquire swap in `take_overflow`, so that the scan sees the item's word. A swap,
            // since a store would hide from the owner what another thread released into the flag before.
            self.overflow.swap(true, Ordering::Release);
        }
        self.ring();
    }

    /// Tells the owner to look at everything rare.
    pub(crate) fn call_attention(&self) {
        self.note_attention();
        self.ring();
    }

    /// As above, where the caller sees to it that somebody looks.
    pub(crate) fn note_attention(&self) {
        // Ordering: Release; pairs with the Acquire swap in `take_attention`.
        self.attention.store(true, Ordering::Release);
    }

    #[inline]
    fn ring(&self) {
        // Ordering: AcqRel; Release pairs with the owner's swap in `prepare_sleep`, which then sees what was pushed.
        let was_sleeping = if seeded("inbox_plain") {
            self.sleeping.load(Ordering::Relaxed)
        } else {
            self.sleeping.swap(false, Ordering::AcqRel)
        };
        if was_sleeping {
            self.ring_sleeper();
        }
    }

    /// Rings, whether or not anybody sleeps.
    #[cold]
    pub(crate) fn ring_sleeper(&self) {
        let doorbell = lock(&self.doorbell).clone();
        if let Some(doorbell) = doorbell {
            doorbell.ring();
        }
    }

    /// How many items it holds at most.
    pub(crate) fn capacity(&self) -> usize {
        self.items.capacity()
    }

    /// The owner's next item.
    pub(crate) fn pop(&self) -> Option<T> {
        self.items.pop()
    }

    /// Whether items were turned away since the last call; then every header's foreign word must be looked at.
    pub(crate) fn take_overflow(&self) -> bool {
        // The plain load first: this runs each turn, and is almost never true.
        // Ordering: Relaxed load, then an Acquire swap that pairs with the Release in `push`.
        self.overflow.load(Ordering::Relaxed) && self.overflow.swap(false, Ordering::Acquire)
    }

    /// Whether something rare was asked since the last call.
    pub(crate) fn take_attention(&self) -> bool {
        // Ordering: as in `take_overflow`.
        self.attention.load(Ordering::Relaxed) && self.attention.swap(false, Ordering::Acquire)
    }

    /// Whether nothing is waiting to be looked at.
    pub(crate) fn is_quiet(&self) -> bool {
        // Ordering: Relaxed; a hint on the way, and in `prepare_sleep` ordered by the swap.
        self.items.is_empty()
            && !self.overflow.load(Ordering::Relaxed)
            && !self.attention.load(Ordering::Relaxed)
    }

    /// The owner says that it is about to wait; false if something came in the meantime, and it must not.
    pub(crate) fn prepare_sleep(&self) -> bool {
        // Ordering: AcqRel; Acquire pairs with the Release of a swap in `ring` that came before, see the module's doc.
        self.sleeping.swap(true, Ordering::AcqRel);
        if self.is_quiet() {
            return true;
        }
        self.wake_up();
        false
    }

    /// The owner no longer waits.
    pub(crate) fn wake_up(&self) {
        // Ordering: AcqRel, as all who write this word, so that one chain of swaps orders them.
        self.sleeping.swap(false, Ordering::AcqRel);
    }

    /// Sets what wakes the owner, or takes it away; rings are lost while there is none, and nobody waits then.
    pub(crate) fn set_doorbell(&self, doorbell: Option<Arc<dyn Doorbell>>) {
        let old = std::mem::replace(&mut *lock(&self.doorbell), doorbell);
        drop(old);
    }
}

#[cfg(not(any(anteroom_loom, anteroom_shuttle)))]
type Items<T> = crossbeam_queue::ArrayQueue<T>;

/// A stand-in with the same promises: crossbeam's queue has models of its own and its atomics are not loom's.
#[cfg(any(anteroom_loom, anteroom_shuttle))]
struct Items<T> {
    queue: Mutex<std::collections::VecDeque<T>>,
    capacity: usize,
}

#[cfg(any(anteroom_loom, anteroom_shuttle))]
impl<T> Items<T> {
    fn new(capacity: usize) -> Self {
        Self { queue: Mutex::new(std::collections::VecDeque::new()), capacity }
    }

    fn capacity(&self) -> usize {
        self.capacity
    }

    fn push(&self, item: T) -> Result<(), T> {
        let mut queue = lock(&self.queue);
        if queue.len() == self.capacity {
            return Err(item);
        }
        queue.push_back(item);
        Ok(())
    }

    fn pop(&self) -> Option<T> {
        lock(&self.queue).pop_front()
    }

    fn is_empty(&self) -> bool {
        lock(&self.queue).is_empty()
    }
}
