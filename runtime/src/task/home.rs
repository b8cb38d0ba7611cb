//! A home: the memory of one runtime that others may still point at when it is gone.
//!
//! # Problem
//! Wakers and handles reach a task through its header from any thread and at any time. What they meet there must exist for
//! ever, and must tell apart the one thread that may touch everything from all others.
//!
//! # Idea
//! A [`Home`] is leaked on purpose and recycled by later runtimes, so there are as many as runtimes ever lived at once. It
//! has two halves: [`Shared`], atomics and locks for any thread, and [`Local`], plain cells for its owner alone. Who is the
//! owner is decided by a thread-local that is set only while the owner is inside its runtime, so one comparison chooses
//! between the fast path and the foreign one.
//!
//! # Invariants
//! - [HOME-1] `Local` is reached only through [`Home::local`] and [`current`], on the thread that holds the [`Owner`] and
//!   while its [`Entered`] lives; neither is `Send`, and there is one `Owner` a home. Of a home that several threads share,
//!   on the thread that holds its key ([TEAM-1]).
//! - [HOME-2] A reference to `Local` is used within the call that got it, or kept by a part of the runtime that holds the
//!   `Owner` and is used inside `Entered` only; it could outlast both.
//!
//! # Rejected
//! A count of references from each handle: the last of them would free the memory on a thread of its choosing, and every
//! handle would pay two locked instructions.
//!
//! # Read next
//! `table.rs`, for the headers of a home.

use std::any::Any;
use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::marker::PhantomData;
use std::task::Waker;

use super::body::Cache;
use super::queue::Queue;
use super::site::Sites;
use super::table::Table;
#[cfg(feature = "stealing")]
use super::team::Team;
use super::{Action, DETACH, Event, Header, JOIN, WAKE};
use crate::scheduler::inbox::Inbox;
use crate::sync::{Cell, IS_MODEL, Mutex, Ordering, Scope, lock, scoped_local, seeded};

/// How many tasks other threads can name at once before the owner has to look through all of them.
pub(super) const INBOX_ITEMS: usize = if IS_MODEL { 1 } else { 256 };

/// For how many wakers of handles that were polled elsewhere memory is kept.
const JOINS_KEPT: usize = 64;

/// In what units a header notes when its task was admitted: 17 ms, so that 32 bits last two years.
pub(crate) const SINCE_NS: u64 = 1 << 24;

/// The memory of one runtime; see the module's doc.
pub(crate) struct Home {
    pub(crate) shared: Shared,
    local: Local,
}

// SAFETY: [HOME-1] `shared` is Sync by itself; `local` is private to this file, which hands it out to the owner alone.
unsafe impl Sync for Home {}

/// Wakers, by a number for what they wait for. One type for every such table, since each other one is the table's code once
/// more; with a hash of our own, since the numbers are no stranger's to choose, and std's would bring keys and their source.
pub(crate) type Wakers = HashMap<u64, Waker, BuildHasherDefault<Mixed>>;

/// A number whose bits were spread: a multiplication, whose upper half is the better one.
#[derive(Default)]
pub(crate) struct Mixed(u64);

impl Hasher for Mixed {
    fn finish(&self) -> u64 {
        self.0.rotate_left(26)
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(byte.into());
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

/// What any thread may touch.
pub(crate) struct Shared {
    pub(crate) inbox: Inbox<&'static Header>,
    /// The threads that share this home, where there are several.
    #[cfg(feature = "stealing")]
    team: std::sync::OnceLock<Team>,
    /// Wakers of handles that were polled away from the owner, by header; at most one a handle.
    joins: Mutex<Wakers>,
}

/// What the owner alone may touch.
pub(crate) struct Local {
    pub(crate) queue: Queue,
    pub(crate) table: Table,
    pub(crate) cache: Cache,
    /// The task being polled just now.
    pub(crate) current: Cell<Option<&'static Header>>,
    /// How many more operations it may complete before it must yield.
    pub(super) budget: Cell<u32>,
    /// The time at which the driver last looked at its clock, for notes of when something happened.
    pub(crate) now_ns: Cell<u64>,
    /// Whether the driver was asked to look what memory is to go back, and has not yet.
    pub(crate) is_trim_asked: Cell<bool>,
    pub(crate) sites: Sites,
    /// What the layers above keep for the owner of this home, one of a type.
    layers: RefCell<Vec<&'static dyn Any>>,
}

scoped_local! {
    /// The home whose owner is inside its runtime on this thread.
    static CURRENT: Home;
}

/// Homes without an owner, for the next runtimes.
#[cfg(not(any(anteroom_loom, anteroom_shuttle)))]
static VACANT: Mutex<Vec<&'static Home>> = Mutex::new(Vec::new());

impl Home {
    fn leak() -> &'static Home {
        Box::leak(Box::new(Home {
            shared: Shared {
                inbox: Inbox::new(INBOX_ITEMS),
                #[cfg(feature = "stealing")]
                team: std::sync::OnceLock::new(),
                joins: Mutex::new(Wakers::default()),
            },
            local: Local {
                queue: Queue::new(),
                table: Table::new(),
                cache: Cache::new(),
                current: Cell::new(None),
                budget: Cell::new(0),
                now_ns: Cell::new(0),
                is_trim_asked: Cell::new(false),
                sites: Sites::new(),
                layers: RefCell::new(Vec::new()),
            },
        }))
    }

    /// The owner's half, if this thread is the owner and inside the runtime.
    #[inline(always)]
    pub(crate) fn local(&'static self) -> Option<&'static Local> {
        let current = CURRENT.with(std::cell::Cell::get)?;
        std::ptr::eq(current, self).then_some(&self.local)
    }
}

#[cfg(feature = "stealing")]
impl Home {
    /// A home for so many workers, which no thread owns: whoever holds its key may touch its local half.
    pub(super) fn leak_for_team(workers: usize) -> &'static Home {
        let home = Home::leak();
        let is_new = home.shared.team.set(Team::new(home, workers)).is_ok();
        debug_assert!(is_new);
        home
    }

    /// The threads that share it; `None` if it has an owner.
    #[inline(always)]
    pub(crate) fn team(&self) -> Option<&Team> {
        self.shared.team.get()
    }
}

/// Makes `home` the current one; which was before.
#[cfg(feature = "stealing")]
pub(super) fn set_current(home: Option<&'static Home>) -> Option<&'static Home> {
    CURRENT.with(|current| current.replace(home))
}

/// The home of the runtime that this thread is inside of, if any.
#[inline(always)]
pub(crate) fn current() -> Option<(&'static Home, &'static Local)> {
    let home = CURRENT.with(std::cell::Cell::get)?;
    Some((home, &home.local))
}

impl Shared {
    /// Tells the owner, or some thread of the team, to look at everything rare.
    pub(crate) fn call_attention(&self) {
        #[cfg(feature = "stealing")]
        if let Some(team) = self.team.get() {
            self.inbox.note_attention();
            if seeded("team_attention_rings_nobody") {
                return;
            }
            return team.notify();
        }
        self.inbox.call_attention();
    }

    /// Asks the owner of `task` for `bits`, from any thread. Never fails; allocates nothing.
    pub(super) fn post(&'static self, task: &'static Header, bits: u32) {
        if seeded("wake_plain") && task.foreign.load(Ordering::Relaxed) & bits == bits {
            return;
        }
        // A wake that finds its bit set is still a read-modify-write, or data written before it would not be visible to
        // the poll that the earlier wake causes (bugs.md 27).
        // Ordering: AcqRel; Release pairs with the owner's swap, Acquire keeps what follows after it.
        if task.foreign.fetch_or(bits, Ordering::AcqRel) == 0 {
            self.inbox.push(task);
        }
    }

    /// Keeps `waker` for `task`'s completion, from a thread that is not the owner.
    pub(super) fn post_join(&'static self, task: &'static Header, waker: Waker) {
        let old = lock(&self.joins).insert(join_number(task), waker);
        self.post(task, JOIN);
        drop(old);
    }

    /// [JOIN-3] Lets a live task go, from a thread that is not the owner; false if it is done by now, and its output the
    /// handle's still. Under the lock that the end of a runtime takes too ([`settle`](Self::settle)): who had it before is
    /// heard, and who has it after finds every task done.
    pub(super) fn post_detach(&'static self, task: &'static Header) -> bool {
        let _joins = lock(&self.joins);
        if task.snapshot().is_done() {
            return false;
        }
        self.post(task, DETACH);
        true
    }

    /// Waits for whoever is about to let a task go; all tasks are done.
    pub(crate) fn settle(&self) {
        drop(lock(&self.joins));
    }

    pub(super) fn take_join(&self, task: &'static Header) -> Option<Waker> {
        let mut joins = lock(&self.joins);
        let taken = joins.remove(&join_number(task));
        if joins.is_empty() && joins.capacity() > JOINS_KEPT {
            // After a burst its memory goes back.
            *joins = Wakers::default();
        }
        taken
    }
}

/// A task's number among those whose completion somebody waits for.
fn join_number(task: &'static Header) -> u64 {
    std::ptr::from_ref(task).addr() as u64
}

impl Local {
    /// When it is, as a header notes it.
    #[inline(always)]
    pub(super) fn since(&self) -> u32 {
        (self.now_ns.get() / SINCE_NS) as u32
    }

    /// How long ago a header's note was written; whatever is longer ago than two years is shown as less.
    pub(crate) fn age_ns(&self, since: u32) -> u64 {
        u64::from(self.since().wrapping_sub(since)) * SINCE_NS
    }

    /// The layer of type `T` that belongs to this home, made when it is first asked for and kept as long as the home.
    pub(crate) fn layer<T: Any>(&self, make: impl FnOnce() -> T) -> &'static T {
        if let Some(found) = self.layers.borrow().iter().find_map(|layer| layer.downcast_ref()) {
            return found;
        }
        let made: &'static T = Box::leak(Box::new(make()));
        self.layers.borrow_mut().push(made);
        made
    }
}

/// The right to be a home's owner; there is one a home at a time.
pub(crate) struct Owner {
    home: &'static Home,
    not_send: PhantomData<*mut ()>,
}

impl Owner {
    /// Takes a vacant home, or makes one.
    pub(crate) fn new() -> Self {
        #[cfg(not(any(anteroom_loom, anteroom_shuttle)))]
        let vacant = lock(&VACANT).pop();
        #[cfg(any(anteroom_loom, anteroom_shuttle))]
        let vacant = None;
        Self { home: vacant.unwrap_or_else(Home::leak), not_send: PhantomData }
    }

    pub(crate) fn home(&self) -> &'static Home {
        self.home
    }

    /// Makes this thread the owner until the guard is dropped, and the owner of what it was before after that.
    pub(crate) fn enter(&self) -> Entered<'_> {
        Entered { _scope: Scope::enter(&CURRENT, self.home), _owner: PhantomData }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        {
            let _entered = self.enter();
            if let Some(local) = self.home.local() {
                local.cache.trim(0);
                if local.table.is_worth_a_trim() {
                    local.table.trim();
                }
            }
        }
        self.home.shared.inbox.set_doorbell(None);
        #[cfg(not(any(anteroom_loom, anteroom_shuttle)))]
        lock(&VACANT).push(self.home);
    }
}

/// While it lives, this thread may touch the home's local half.
#[must_use]
pub(crate) struct Entered<'a> {
    _scope: Scope<Home>,
    _owner: PhantomData<&'a Owner>,
}

impl Header {
    /// The owner's half of its home, if this thread is the owner and inside the runtime.
    #[inline(always)]
    pub(super) fn local(&'static self) -> Option<&'static Local> {
        let current = CURRENT.with(std::cell::Cell::get)?;
        // Ordering: Relaxed; an address to compare.
        std::ptr::eq(current, self.home.load(Ordering::Relaxed)).then_some(&current.local)
    }

    /// Wakes the task that lives here, if it is still the one of `generation`; from any thread.
    #[inline(always)]
    pub(super) fn wake(&'static self, generation: u32) {
        match self.local() {
            Some(local) => {
                let at = self.snapshot();
                if at.generation() == generation && self.step_from(at, Event::Wake).1 == Action::Enqueue {
                    local.queue.push(self);
                }
            }
            None if self.is_shared() => self.wake_shared(generation),
            None => self.wake_foreign(generation),
        }
    }

    #[cold]
    fn wake_foreign(&'static self, generation: u32) {
        // The load cannot be older than the task: whoever holds its waker got it after the state was stored.
        if self.snapshot().generation() == generation {
            // Without a home there is no task, and the generation was the first of all.
            if let Some(home) = self.home() {
                home.shared.post(self, WAKE);
            }
        }
    }
}
