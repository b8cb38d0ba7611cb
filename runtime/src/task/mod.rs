//! The life of a task: who may touch which field of its header, and when.
//!
//! ```text
//!            spawn (1)             run (2)                        ready or panicked (3)
//!   Free ───────────────▶ Scheduled ─────▶ Running ───────────────────────────────▶ Done
//!    ▲                       ▲  ▲             │ │                                     │
//!    │                wake   │  │ wake during │ │ pending                             │ taken, or the
//!    │                (4)    │  └─────────────┘ ▼                                     │ handle dropped (5)
//!    │                       └─────────────── Idle                                    │
//!    └────────────────────────────────────────────────────────────────────────────────┘
//! ```
//! (1) [`spawn`] (2) [`run`] (3) `vtable::poll`, then [`run`] again (4) [`Header::wake`] (5) `join.rs`. With no handle, (3)
//! goes straight to `Free`.
//!
//! # Who may touch what
//!
//! | field | written by | read by |
//! |---|---|---|
//! | `state` | the owner, with plain stores | anyone |
//! | `foreign` | anyone, `fetch_or`; the owner takes it with `swap(0)` | the owner |
//! | `home` | nobody, after the header was made | anyone |
//! | `vtable`, `place`, `joiner`, `next` | the owner | the owner |
//! | `body` | the owner until `Done`, then the handle, wherever it is | the same |
//!
//! # Invariants
//! - [TASK-1] The state word is never written by two threads, and the foreign word never by a plain store: a plain store
//!   would lose what another thread has just asked for.
//! - [TASK-2] Between `StartPoll` and the end of the poll the future is this thread's alone; no second `run` can start,
//!   since the task is in no queue.
//! - [TASK-3] A header is put into the inbox only by who turned its foreign word from zero.
//! - [TASK-4] What was asked through the foreign word is done to *whoever lives there now*. Filtering by generation at
//!   that point would lose a newer task's wake that was merged into the same bit.
//! - [TASK-5] A header is not reused while its handle lives, so the bits that a handle sets always meet its own task.
//!
//! # Order at completion
//! Drop the future; free its block; store the output; free the header if it is detached; give the place on; wake the
//! joiner. The first four are here and in `vtable.rs`, the last two are the scheduler's, from the [`Finished`] it gets.
//!
//! # Rejected
//! One word for both threads' bits: every owner's step would be a locked instruction, 6.5 ns each where all of yield
//! costs less than 8.
//!
//! # Read next
//! `state.rs`, then `home.rs`, `table.rs`, `body.rs`, `vtable.rs`, `waker.rs`, `join.rs`, `waiter.rs`.

pub(crate) mod body;
pub(crate) mod home;
mod join;
mod queue;
mod state;
mod table;
mod vtable;
pub(crate) mod waiter;
mod waker;

use core::fmt;
use core::task::{Context, Poll, Waker};

#[cfg(not(anteroom_loom))]
pub(crate) use home::Entered;
pub(crate) use home::{Home, Local, Owner, current};
pub use join::{JoinError, JoinHandle, TaskId};
pub(crate) use join::{JoinErrorKind, joined};
use state::{Action, Event, Outcome, Phase, Snapshot, next};
use vtable::VTable;
pub(crate) use vtable::{Payload, quietly};

use crate::sync::{AtomicU32, Cell, Ordering};

/// How many operations a task may complete in one poll before it must let others run.
pub(crate) const BUDGET: u32 = 128;

/// Bits of the foreign word: what other threads ask of the owner.
const WAKE: u32 = 1;
const ABORT: u32 = 1 << 1;
/// The handle was polled elsewhere; its waker stands in `Shared::joins`.
const JOIN: u32 = 1 << 2;
/// The handle was dropped elsewhere while the task was live.
const DETACH: u32 = 1 << 3;
/// The handle took or dropped the output elsewhere.
const FREE: u32 = 1 << 4;

/// Which budget a task's place is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Place {
    /// The future of `block_on`: it is always admitted.
    Root,
    Task,
    Service,
}

/// Whoever awaits a task, in one word: the data of a waker of ours, or the address of a boxed one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum JoinerKind {
    None,
    Own,
    Boxed,
}

/// A task's 64 bytes; see the module's doc for who may touch which.
#[repr(C, align(64))]
pub(crate) struct Header {
    state: AtomicU32,
    foreign: AtomicU32,
    home: &'static Home,
    vtable: Cell<&'static VTable>,
    joiner: Cell<*const ()>,
    next: Cell<Option<&'static Header>>,
    body: body::Body,
    joiner_kind: Cell<JoinerKind>,
    place: Cell<Place>,
}

#[cfg(not(anteroom_loom))]
const _: () = assert!(size_of::<Header>() == 64);

// SAFETY: [TASK-1] [BODY-2] each field is touched as the table in the module's doc says, which the shells in this folder
// keep: every cell only with the `Local` at hand, which only the owner has.
unsafe impl Sync for Header {}

impl fmt::Debug for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task").field("state", &self.snapshot()).finish_non_exhaustive()
    }
}

/// What a task left behind when it ended; the scheduler's to carry out, in this order.
#[must_use = "the place must be given on and the joiner woken"]
pub(crate) struct Finished {
    pub(crate) place: Place,
    pub(crate) future_bytes: usize,
    pub(crate) joiner: Joiner,
}

/// Somebody to be told that a task is done.
#[must_use]
pub(crate) enum Joiner {
    None,
    Own(*const ()),
    Boxed(Box<Waker>),
}

impl Joiner {
    #[inline(always)]
    pub(crate) fn wake(self) {
        match self {
            Joiner::None => {}
            // SAFETY: [WAKER-1] `Own` is made only in `Header::take_joiner`, of what `own_data` gave.
            Joiner::Own(data) => unsafe { waker::wake_data(data) },
            Joiner::Boxed(waker) => quietly(|| waker.wake()),
        }
    }
}

/// Puts `future` into a header and schedules it. The caller has paid for `place`.
#[inline(always)]
pub(crate) fn spawn<F: Future>(at: (&'static Home, &Local), place: Place, future: F) -> &'static Header {
    let future = core::mem::ManuallyDrop::new(future);
    // SAFETY: the future is forgotten here, so it moves.
    unsafe { spawn_from(at, place, (&raw const future).cast::<F>()) }
}

/// As [`spawn`], straight from where the future lies.
///
/// # Safety
/// `future` points at an `F` that the caller gives up.
#[inline(always)]
unsafe fn spawn_from<F: Future>(
    (home, local): (&'static Home, &Local),
    place: Place,
    future: *const F,
) -> &'static Header {
    let task = local.table.take(home);
    // SAFETY: [BODY-1] a header from the table is free, so its body is empty and the owner's; the rest is the caller's word.
    unsafe { task.body.put_from(&local.cache, future) };
    task.vtable.set(VTable::of::<F>());
    task.place.set(place);
    let action = task.apply(Event::Spawn { handle: true });
    debug_assert_eq!(action, Action::Enqueue);
    local.queue.push(task);
    task
}

/// Polls a task from the run queue, once, or drops its future if it was aborted.
#[inline(always)]
pub(crate) fn run(local: &Local, task: &'static Header) -> Option<Finished> {
    let (running, action) = task.step(Event::StartPoll);
    if action == Action::Cancel {
        return Some(cancel(local, task));
    }
    let waker = waker::waker(task, running.generation());
    let mut cx = Context::from_waker(&waker);
    local.current.set(Some(task));
    local.budget.set(BUDGET);
    // SAFETY: [VTABLE-1] [TASK-2] the task has just been set running by this thread, and its body holds its future.
    let polled = unsafe { (task.vtable.get().poll)(task, local, &mut cx) };
    local.current.set(None);
    match polled {
        Poll::Ready(outcome) => Some(finish(local, task, outcome)),
        Poll::Pending => match task.apply(Event::PollPending) {
            Action::Cancel => Some(cancel(local, task)),
            Action::Enqueue => {
                local.queue.push(task);
                None
            }
            _ => None,
        },
    }
}

#[cold]
fn cancel(local: &Local, task: &'static Header) -> Finished {
    // The future's drop may spawn, wake and look for the current task, as its poll may.
    local.current.set(Some(task));
    // SAFETY: [VTABLE-1] [TASK-2] the action `Cancel` comes with the task running, and its future was not yet dropped.
    let outcome = unsafe { (task.vtable.get().cancel)(task, local) };
    local.current.set(None);
    finish(local, task, outcome)
}

#[inline(always)]
fn finish(local: &Local, task: &'static Header, outcome: Outcome) -> Finished {
    let finished = Finished {
        place: task.place.get(),
        future_bytes: task.vtable.get().future_bytes,
        joiner: task.take_joiner(),
    };
    if task.apply(Event::Finish(outcome)) == Action::Recycle {
        local.table.give_back(task);
    }
    finished
}

/// The future of `block_on`: it has a header for its waker and its turn in the queue, but lies in the caller's frame.
pub(crate) struct Root {
    task: &'static Header,
    local: &'static Local,
}

impl Root {
    /// Scheduled at once, at the tail.
    pub(crate) fn new(home: &'static Home, local: &'static Local) -> Self {
        let task = local.table.take(home);
        task.vtable.set(VTable::root());
        task.place.set(Place::Root);
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
        let polled = poll(&mut Context::from_waker(&waker));
        self.local.current.set(None);
        if polled.is_pending() && self.task.apply(Event::PollPending) == Action::Enqueue {
            self.local.queue.push(self.task);
        }
        polled
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

/// Ends every live task that is not being polled: its future is dropped here, its handle learns that it was cancelled.
/// `each` is called after each, as after [`run`].
pub(crate) fn cancel_all(local: &Local, mut each: impl FnMut(Finished)) {
    // A future that is dropped may wake others: they leave the queue before their own turn comes, as all do here.
    let clear = || while local.queue.pop().is_some() {};
    clear();
    local.table.for_each(|task| {
        if task.apply(Event::Shutdown) == Action::Cancel {
            each(cancel(local, task));
            clear();
        }
    });
}

/// Does what other threads asked of `task`, which came from the inbox or a scan.
pub(crate) fn attend(local: &Local, task: &'static Header) {
    // The plain load first, for the scan. Ordering: Relaxed; the swap decides.
    if task.foreign.load(Ordering::Relaxed) == 0 {
        return;
    }
    // Ordering: AcqRel; Acquire pairs with `post`, so that what was written before the wake is visible to the poll, and
    // Release lets a `post` that finds zero again know that its message is a new one.
    let asked = task.foreign.swap(0, Ordering::AcqRel);
    if asked & WAKE != 0 {
        task.wake_local(local);
    }
    if asked & ABORT != 0 {
        task.abort_local(local);
    }
    if asked & JOIN != 0 {
        if let Some(waker) = task.home.shared.take_join(task) {
            if asked & (DETACH | FREE) != 0 {
                quietly(|| drop(waker));
            } else {
                task.watch(waker);
            }
        }
    }
    if asked & DETACH != 0 {
        task.detach_local(local);
    }
    if asked & FREE != 0 {
        let action = task.apply(Event::Recycle);
        debug_assert_eq!(action, Action::Recycle);
        local.table.give_back(task);
    }
}

/// Looks through all headers, after the inbox has turned some away.
#[cold]
pub(crate) fn attend_all(local: &Local) {
    local.table.for_each(|task| attend(local, task));
}

/// One operation of the current task's budget; when it has none left it is woken and must return `Pending`.
#[inline]
pub(crate) fn spend(cx: &Context<'_>) -> Poll<()> {
    let Some((_, local)) = current() else { return Poll::Ready(()) };
    match local.budget.get().checked_sub(1) {
        Some(left) => {
            local.budget.set(left);
            Poll::Ready(())
        }
        None => {
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    }
}

impl Header {
    fn new(home: &'static Home) -> Self {
        Self {
            state: AtomicU32::new(Snapshot::FREE.bits()),
            foreign: AtomicU32::new(0),
            home,
            vtable: Cell::new(VTable::root()),
            joiner: Cell::new(core::ptr::null()),
            next: Cell::new(None),
            body: body::Body::new(),
            joiner_kind: Cell::new(JoinerKind::None),
            place: Cell::new(Place::Root),
        }
    }

    #[inline(always)]
    fn snapshot(&self) -> Snapshot {
        // Ordering: Acquire; pairs with the Release in `apply`, so that who reads `Done` sees the output.
        Snapshot::from_bits(self.state.load(Ordering::Acquire))
    }

    /// The single-threaded shell of the protocol: the owner moves the state.
    #[inline(always)]
    fn apply(&self, event: Event) -> Action {
        self.step(event).1
    }

    /// As [`apply`](Self::apply), and what the state is now, which an atomic load would have to fetch again.
    #[inline(always)]
    fn step(&self, event: Event) -> (Snapshot, Action) {
        let (to, action) = next(self.snapshot(), event);
        debug_assert_ne!(action, Action::Impossible, "{event:?} in {self:?}");
        // Ordering: Release; pairs with the Acquire in `snapshot`. [TASK-1] a plain store is enough: nobody else writes.
        self.state.store(to.bits(), Ordering::Release);
        (to, action)
    }

    #[inline(always)]
    fn wake_local(&'static self, local: &Local) {
        if self.apply(Event::Wake) == Action::Enqueue {
            local.queue.push(self);
        }
    }

    fn abort_local(&'static self, local: &Local) {
        if self.apply(Event::Abort) == Action::Enqueue {
            local.queue.push(self);
        }
    }

    fn detach_local(&'static self, local: &Local) {
        match self.take_joiner() {
            Joiner::Boxed(waker) => quietly(|| drop(waker)),
            Joiner::None | Joiner::Own(_) => {}
        }
        let outcome = self.snapshot().outcome();
        if self.apply(Event::Detach) != Action::DropOutput {
            return;
        }
        match outcome {
            // SAFETY: [VTABLE-1] the task is done with a value that its handle, now gone, did not take.
            Some(Outcome::Value) => unsafe { (self.vtable.get().drop_output)(self, local) },
            Some(Outcome::Panic) => {
                // SAFETY: [BODY-1] after a panic the body holds the payload, which the handle did not take.
                let payload = unsafe { self.body.take::<Payload>(Some(&local.cache)) };
                quietly(|| drop(payload));
            }
            Some(Outcome::Cancelled) | None => {}
        }
        local.table.give_back(self);
    }

    /// Wakes `waker` when the task is done, which may be now.
    fn watch(&'static self, waker: Waker) {
        if self.apply(Event::Join) == Action::Take {
            quietly(|| waker.wake());
        } else if let Joiner::Boxed(old) = self.replace_joiner(waker) {
            quietly(|| drop(old));
        }
    }

    /// Remembers whom to wake; only another's waker is cloned.
    #[inline(always)]
    fn set_joiner(&self, waker: &Waker) {
        let old = match waker::own_data(waker) {
            Some(data) => self.replace_joiner_data(data),
            None => self.replace_joiner(waker.clone()),
        };
        if let Joiner::Boxed(waker) = old {
            quietly(|| drop(waker));
        }
    }

    /// Remembers whom to wake, and gives back who was to be.
    fn replace_joiner(&self, waker: Waker) -> Joiner {
        if let Some(data) = waker::own_data(&waker) {
            return self.replace_joiner_data(data);
        }
        let old = self.take_joiner();
        self.joiner.set(Box::into_raw(Box::new(waker)).cast_const().cast());
        self.joiner_kind.set(JoinerKind::Boxed);
        old
    }

    #[inline(always)]
    fn replace_joiner_data(&self, data: *const ()) -> Joiner {
        let old = self.take_joiner();
        self.joiner.set(data);
        self.joiner_kind.set(JoinerKind::Own);
        old
    }

    #[inline(always)]
    fn take_joiner(&self) -> Joiner {
        match self.joiner_kind.replace(JoinerKind::None) {
            JoinerKind::None => Joiner::None,
            JoinerKind::Own => Joiner::Own(self.joiner.get()),
            JoinerKind::Boxed => {
                let waker = self.joiner.get().cast_mut().cast::<Waker>();
                // SAFETY: [TASK-1] only the owner writes the joiner; the kind said that a box was leaked into it, and has
                // just been taken, so the box is taken back once.
                Joiner::Boxed(unsafe { Box::from_raw(waker) })
            }
        }
    }
}
