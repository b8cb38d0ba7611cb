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
//! | `home` | the owner, with the same value each time; zero while the header is given back to the system | anyone |
//! | `vtable`, `joiner`, `next`, and what is known of the task | the owner | the owner |
//! | `body` | the owner until `Done`, then the handle, wherever it is | the same |
//!
//! So it is where a runtime has one thread, the owner. Where a team of them shares it, `shared.rs` tells how `state` moves and what
//! `foreign` is for; the other fields are of whoever moved the state, and what is known of the task of whoever holds the key.
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
//! `state.rs`, then `home.rs`, `table.rs`, `body.rs`, `vtable.rs`, `waker.rs`, `join.rs`, `waiter.rs`,
//! `in_place.rs`, `desk.rs`; and for several threads `team.rs`, `shared.rs`, `injector.rs`.

#[cfg(not(feature = "stealing"))]
mod alone;
pub(crate) mod body;
pub(crate) mod desk;
pub(crate) mod home;
pub(crate) mod in_place;
#[cfg(feature = "stealing")]
mod injector;
mod join;
mod joiner;
mod known;
pub(crate) mod pages;
mod queue;
mod reason;
mod root;
mod seed;
#[cfg(feature = "stealing")]
pub(crate) mod shared;
pub(crate) mod site;
mod state;
mod table;
#[cfg(feature = "stealing")]
pub(crate) mod team;
#[cfg(feature = "stealing")]
pub(crate) mod tray;
mod vtable;
pub(crate) mod waiter;
pub(crate) mod waker;
#[cfg(not(anteroom_loom))]
pub(crate) mod worst;

#[cfg(not(feature = "stealing"))]
use alone as company;
#[cfg(feature = "stealing")]
use team as company;

use core::fmt;
use core::task::{Context, Poll, Waker};

#[cfg(not(anteroom_loom))]
pub(crate) use company::sits_in_team;
pub(crate) use company::{enter, outside};
#[cfg(not(anteroom_loom))]
pub(crate) use home::Entered;
pub(crate) use home::{Home, Local, Owner, current};
pub use join::{JoinError, JoinHandle, TaskId};
pub(crate) use join::{JoinErrorKind, joined};
use joiner::{Joiner, JoinerKind};
pub(crate) use known::{Known, for_each_live};
pub use reason::WaitsFor;
#[cfg(not(anteroom_loom))]
pub(crate) use reason::noted;
pub(crate) use reason::waits_for;
#[cfg(all(feature = "stealing", not(anteroom_loom)))]
pub(crate) use root::Guest;
pub(crate) use root::Root;
pub(crate) use seed::{Plant, Seat, Seed, Whole, With};
pub(crate) use site::Site;
use site::SiteId;
use state::{Action, Event, Outcome, Snapshot, next};
use vtable::VTable;
pub(crate) use vtable::{Payload, quietly};

use crate::sync::{AtomicPtr, AtomicU8, AtomicU32, Cell, Ordering};

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
    Root = 0,
    Task = 1,
    Service = 2,
}

/// What a task was admitted with.
#[derive(Clone, Copy)]
pub(crate) struct Terms {
    pub(crate) place: Place,
    /// What was paid for: the size of the future, and what was declared besides.
    pub(crate) bytes: usize,
    pub(crate) site: Site,
}

/// Four things about a task in one byte: its place, whether it declared more bytes than its size, whether a child runs in its
/// place, and the kind of its joiner. All zero for a header that was never used.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Marks(u8);

impl Marks {
    const NONE: Marks = Marks(0);
    const JOINER: u8 = 0b11;
    const PLACE_SHIFT: u8 = 2;
    const PLACE: u8 = 0b11 << Self::PLACE_SHIFT;
    const DECLARED: u8 = 1 << 4;
    const LENDS: u8 = 1 << 5;

    /// Of a new task, which nobody joins yet.
    #[inline(always)]
    const fn new(place: Place, declared: bool) -> Self {
        Marks((place as u8) << Self::PLACE_SHIFT | if declared { Self::DECLARED } else { 0 })
    }

    #[inline(always)]
    const fn place(self) -> Place {
        // By a table of all four values, where a match would compute the last.
        const PLACES: [Place; 4] = [Place::Root, Place::Task, Place::Service, Place::Service];
        PLACES[((self.0 & Self::PLACE) >> Self::PLACE_SHIFT) as usize]
    }

    #[inline(always)]
    const fn declared(self) -> bool {
        self.0 & Self::DECLARED != 0
    }

    const fn lends(self) -> bool {
        self.0 & Self::LENDS != 0
    }

    const fn with_lends(self, lends: bool) -> Self {
        Marks(if lends { self.0 | Self::LENDS } else { self.0 & !Self::LENDS })
    }

    #[inline(always)]
    const fn joiner(self) -> JoinerKind {
        const KINDS: [JoinerKind; 4] =
            [JoinerKind::None, JoinerKind::Own, JoinerKind::Boxed, JoinerKind::Boxed];
        KINDS[(self.0 & Self::JOINER) as usize]
    }

    #[inline(always)]
    const fn with_joiner(self, kind: JoinerKind) -> Self {
        Marks(self.0 & !Self::JOINER | kind as u8)
    }
}

/// A task's 64 bytes; see the module's doc for who may touch which.
#[repr(C, align(64))]
pub(crate) struct Header {
    state: AtomicU32,
    foreign: AtomicU32,
    /// Null until it is first handed out, and while its memory is given back.
    home: AtomicPtr<Home>,
    vtable: Cell<Option<&'static VTable>>,
    joiner: Cell<*const ()>,
    next: Cell<Option<&'static Header>>,
    body: body::Body,
    /// A [`Marks`].
    marks: AtomicU8,
    /// A [`WaitsFor`]: what the last poll ran into.
    reasons: AtomicU8,
    site: Cell<SiteId>,
    /// When it was admitted, in units of [`home::SINCE_NS`].
    since: Cell<u32>,
}

#[cfg(not(any(anteroom_loom, anteroom_shuttle)))]
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
    /// What it was admitted with.
    pub(crate) bytes: usize,
    pub(crate) joiner: Joiner,
}

/// Puts `future` into a header and schedules it. The caller has paid for it by `terms`.
#[inline(always)]
pub(crate) fn spawn<F: Future>(at: (&'static Home, &Local), terms: Terms, future: F) -> &'static Header {
    let future = core::mem::ManuallyDrop::new(Whole(future));
    // SAFETY: the future is forgotten here, so it moves.
    unsafe { spawn_from(at, terms, (&raw const future).cast::<Whole<F>>()) }
}

/// As [`spawn`], straight from where what becomes the future lies.
///
/// # Safety
/// `seed` points at an `S` that the caller gives up.
#[inline(always)]
unsafe fn spawn_from<S: seed::Plant>(
    (home, local): (&'static Home, &Local),
    terms: Terms,
    seed: *const S,
) -> &'static Header {
    let task = local.table.take(home);
    // SAFETY: [BODY-1] a header from the table is free, so its body is empty and the owner's.
    let at = unsafe { task.body.room::<S::Task>(home.cache(local)) };
    // SAFETY: [BODY-1] `at` is room for a task of this type; the rest is the caller's word.
    unsafe { S::plant(seed, at) };
    task.vtable.set(Some(VTable::of::<S::Task>()));
    task.site.set(local.sites.id(terms.site));
    task.since.set(local.since());
    let declared = terms.bytes - body::counted_bytes::<S::Task>();
    task.set_marks(Marks::new(terms.place, declared != 0));
    if declared != 0 {
        local.table.declared(task).set(declared);
    }
    let action = task.apply(Event::Spawn { handle: true });
    debug_assert_eq!(action, Action::Enqueue);
    match home.team() {
        None => local.queue.push(task),
        Some(team) => team.publish(task),
    }
    task
}

/// Has the processor fetch what the poll of this task will touch, which is the next in the run queue.
#[inline(always)]
pub(crate) fn prefetch(task: &'static Header) {
    if let Some(after) = task.next.get() {
        body::prefetch(after);
    }
    if task.vtable().has_block {
        // SAFETY: [VTABLE-1] [TASK-2] it is in the owner's queue, so its future is in its body and nobody else's to touch.
        unsafe { task.body.prefetch() }
    }
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
    task.set_reasons(WaitsFor::NOTHING_KNOWN);
    // SAFETY: [VTABLE-1] [TASK-2] the task has just been set running by this thread, and its body holds its future.
    let polled = unsafe { (task.vtable().poll)(task, &local.cache, &mut cx) };
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
    let outcome = unsafe { (task.vtable().cancel)(task, &local.cache) };
    local.current.set(None);
    finish(local, task, outcome)
}

#[inline(always)]
fn finish(local: &Local, task: &'static Header, outcome: Outcome) -> Finished {
    let marks = task.marks();
    let mut bytes = task.vtable().future_bytes;
    if marks.declared() {
        bytes += local.table.declared(task).get();
    }
    let finished = Finished { place: marks.place(), bytes, joiner: task.take_joiner() };
    if task.apply(Event::Finish(outcome)) == Action::Recycle {
        local.table.give_back(task);
    }
    finished
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
        if let Some(waker) = task.home().and_then(|home| home.shared.take_join(task)) {
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
    local.table.for_each_ever(|task| attend(local, task));
}

/// One operation of the current task's budget; when it has none left it is woken and must return `Pending`.
#[inline]
pub(crate) fn spend(cx: &Context<'_>) -> Poll<()> {
    match company::budget() {
        Some(budget) => spend_of(budget, cx),
        None => Poll::Ready(()),
    }
}

#[inline(always)]
fn spend_of(budget: &Cell<u32>, cx: &Context<'_>) -> Poll<()> {
    match budget.get().checked_sub(1) {
        Some(left) => {
            budget.set(left);
            Poll::Ready(())
        }
        None => {
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    }
}

impl Local {
    /// As the function, for who has this at hand.
    #[inline(always)]
    fn spend(&self, cx: &Context<'_>) -> Poll<()> {
        spend_of(&self.budget, cx)
    }
}

impl Header {
    /// All zero, as memory is that the system has taken back and given again ([TABLE-3]).
    fn new() -> Self {
        Self {
            state: AtomicU32::new(Snapshot::FREE.bits()),
            foreign: AtomicU32::new(0),
            home: AtomicPtr::new(core::ptr::null_mut()),
            vtable: Cell::new(None),
            joiner: Cell::new(core::ptr::null()),
            next: Cell::new(None),
            body: body::Body::new(),
            marks: AtomicU8::new(Marks::NONE.0),
            reasons: AtomicU8::new(WaitsFor::NOTHING_KNOWN.bits()),
            site: Cell::new(SiteId::NONE),
            since: Cell::new(0),
        }
    }

    /// Whose it is; `None` while its memory is given back, when there is nobody to tell anything.
    #[inline(always)]
    fn home(&self) -> Option<&'static Home> {
        // Ordering: Relaxed; it is null or this one value, whose contents were there before any header was handed out.
        let home = self.home.load(Ordering::Relaxed).map_addr(company::untagged);
        // SAFETY: [TABLE-1] not null, it is the home that `Table::link` was given, which lives for ever.
        unsafe { home.as_ref() }
    }

    /// Whether it is of a team, whose threads all may move its state; see `shared.rs`.
    #[inline(always)]
    fn is_shared(&self) -> bool {
        // Ordering: Relaxed; as in `home`, and a header without one is nobody's.
        company::is_tagged(self.home.load(Ordering::Relaxed).addr())
    }

    /// Whether this thread is inside of its runtime, and may touch what is its owner's.
    fn is_here(&self) -> bool {
        match (current(), self.home()) {
            (Some((current, _)), Some(home)) => core::ptr::eq(current, home),
            _ => false,
        }
    }

    #[inline(always)]
    fn marks(&self) -> Marks {
        // Ordering: Relaxed, as all of this byte and the next: each is moved by one thread at a time, which the state or a
        // lock orders; others only look, and may be late.
        Marks(self.marks.load(Ordering::Relaxed))
    }

    #[inline(always)]
    fn set_marks(&self, marks: Marks) {
        self.marks.store(marks.0, Ordering::Relaxed);
    }

    #[inline(always)]
    fn reasons(&self) -> WaitsFor {
        WaitsFor::from_bits(self.reasons.load(Ordering::Relaxed))
    }

    #[inline(always)]
    fn set_reasons(&self, reasons: WaitsFor) {
        self.reasons.store(reasons.bits(), Ordering::Relaxed);
    }

    #[inline(always)]
    fn vtable(&self) -> &'static VTable {
        self.vtable.get().expect("[VTABLE-1] set when it was spawned")
    }

    /// The number of where its task was spawned.
    #[inline(always)]
    pub(crate) fn site_id(&self) -> SiteId {
        self.site.get()
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

    /// What an event calls for that changes nothing.
    #[inline(always)]
    fn look(&self, event: Event) -> Action {
        let at = self.snapshot();
        let (to, action) = next(at, event);
        debug_assert!(action != Action::Impossible && to == at, "{event:?} in {self:?}");
        action
    }

    /// As [`apply`](Self::apply), and what the state is now, which an atomic load would have to fetch again.
    #[inline(always)]
    fn step(&self, event: Event) -> (Snapshot, Action) {
        self.step_from(self.snapshot(), event)
    }

    /// As [`step`](Self::step), from what the owner has just read.
    #[inline(always)]
    fn step_from(&self, at: Snapshot, event: Event) -> (Snapshot, Action) {
        let (to, action) = next(at, event);
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

    /// Its handle is gone, and left nothing; false if it did, or the task is done, and nothing has changed then.
    #[inline(always)]
    fn let_run(&self) -> bool {
        let at = self.snapshot();
        let is_simple = !at.is_done() && self.marks().joiner() == JoinerKind::None;
        if is_simple {
            let (_, action) = self.step_from(at, Event::Detach);
            debug_assert_eq!(action, Action::Nothing);
        }
        is_simple
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
            Some(Outcome::Value) => unsafe { (self.vtable().drop_output)(self, &local.cache) },
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
        if self.look(Event::Join) == Action::Take {
            quietly(|| waker.wake());
        } else if let Joiner::Boxed(old) = self.replace_joiner(waker) {
            quietly(|| drop(old));
        }
    }
}
