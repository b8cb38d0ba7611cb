//! A child that runs in its spawner's place: where its future lies already, in the spawner's frame.
//!
//! # Problem
//! Tasks that fill a runtime and each wait for room for a child, or for one another, would wait for ever. Some child must
//! run, without a place of its own, or the limit is none.
//!
//! # Idea
//! A waiting spawn was polled by a task, and that task has a place and does nothing with it. So the child is polled by the
//! spawn itself, in the frame where it waits, whenever the spawner is: with the spawner's waker, budget and reasons.
//! Nothing is moved and no task is made; when the child is ready, the spawn gives the handle of a finished task.
//!
//! In one place one child runs at a time, and when that child waits for a child of its own, this one may run in the same
//! place: lending is a stack. So each spawn notes its [`Spot`], the task in whose poll it was parked and the child in place
//! in whose poll, and may run if that is the top of that task's stack. The stack is not stored: a task has a mark that it
//! lends, and each child in place one that the next lies on it.
//!
//! ```text
//!   task with a place       lends ──▶ child A, in place       is lent on ──▶ child B, in place    the top
//!     └─ spawn(A), its frame            └─ spawn(B), its frame                └─ spawn(C): may run next
//!     └─ spawn(D): not now, A runs here already
//! ```
//!
//! # Invariants
//! - [PLACE-1] While the stage is `InPlace`, the future lies in the pinned frame (or in the block that its stand points at)
//!   and is polled and dropped by that frame alone, where it lies.
//! - [PLACE-2] What a node notes of lending is read and written by the owner alone. A spot whose child in place is over may
//!   lend to nobody, since the number of a lending does not come again; nor may one whose task is over, but for a generation
//!   that came round, which costs an offer that nobody takes.
//!
//! # Rejected
//! A task beyond the limit for the child: the limit would be none. A stack of lendings beside each task: a table that must be
//! bounded, where two marks do.
//!
//! # Read next
//! `../admission/lending.rs`, which decides when.

use core::pin::Pin;
use core::task::{Context, Poll};
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::state::{Action, Event, Phase};
use super::vtable::{Payload, VTable, store};
use super::waiter::{Entry, Stage, Waiter};
use super::{Header, Home, Local, Marks, Place, Plant, Site, outside};
use crate::sync::Cell;

/// How many children may run in place, each in the frame of the one before. Each is a poll within a poll, on the stack of
/// the thread, and mostly that ends first.
pub(crate) const LEVELS_MAX: u32 = 4_096;

/// In what units a spot notes how far down the stack it lies.
const STACK_UNIT: usize = 4 << 10;

/// What is counted for a child in place under the address sanitizer.
const ASAN_LEVEL_BYTES: usize = 32 << 10;

/// What a node notes of lending.
pub(crate) struct Node<K: 'static> {
    spot: Cell<Option<Spot<K>>>,
    /// What its child takes in place beyond the frame; `None` if it cannot run there.
    bytes: Cell<Option<usize>>,
    /// The number of its lending, which does not come again; 0 while it does not lend.
    number: Cell<u64>,
    /// Whether a child that was spawned inside of its child runs in place.
    is_lent_on: Cell<bool>,
    /// When it was last offered to run its child in place.
    pub(crate) offer: Cell<Offer>,
}

/// Names an offer: its number, and the round that it was made in. An offer stands until the next is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Offer {
    pub(crate) number: u64,
    pub(crate) round: u64,
}

impl<K> Node<K> {
    pub(super) fn new() -> Self {
        Self {
            spot: Cell::new(None),
            bytes: Cell::new(None),
            number: Cell::new(0),
            is_lent_on: Cell::new(false),
            offer: Cell::new(Offer::default()),
        }
    }

    /// Its frame begins to wait.
    #[inline(always)]
    pub(crate) fn begin(&self, bytes: Option<usize>) {
        self.bytes.set(bytes);
        self.spot.set(None);
        self.offer.set(Offer::default());
    }
}

/// A child in place: its node, and the number of its lending.
pub(crate) struct Lender<K: 'static> {
    node: &'static Waiter<K>,
    number: u64,
}

impl<K> Clone for Lender<K> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K> Copy for Lender<K> {}

impl<K> PartialEq for Lender<K> {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl<K> Lender<K> {
    /// Its node, if it still runs.
    fn node(&self) -> Option<&'static Node<K>> {
        let node = &self.node.lending;
        (node.number.get() == self.number).then_some(node)
    }
}

/// Where a spawn was parked: the task in whose poll, and the child in place in whose poll, if in one.
pub(crate) struct Spot<K: 'static> {
    task: &'static Header,
    generation: u32,
    level: u16,
    /// In units of [`STACK_UNIT`], below where the outermost child in place is polled.
    stack: u16,
    inside: Option<Lender<K>>,
}

impl<K> Clone for Spot<K> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K> Copy for Spot<K> {}

impl<K> PartialEq for Spot<K> {
    fn eq(&self, other: &Self) -> bool {
        core::ptr::eq(self.task, other.task)
            && self.generation == other.generation
            && self.inside == other.inside
    }
}

impl<K> Spot<K> {
    /// The present one; `lender` is the child in place that is being polled, `stack` how many bytes below the outermost.
    #[inline(always)]
    pub(crate) fn here(local: &Local, lender: Option<Lender<K>>, stack: usize) -> Option<Self> {
        let task = local.current.get()?;
        let level = match lender {
            None => 0,
            Some(lender) => lender.node.lending.spot.get().map_or(0, |spot| spot.level + 1),
        };
        // Under the sanitizer locals do not lie on the stack, and what does is larger.
        let stack = if cfg!(anteroom_asan) { usize::from(level) * ASAN_LEVEL_BYTES } else { stack };
        let stack = u16::try_from(stack / STACK_UNIT).unwrap_or(u16::MAX);
        Some(Self { task, generation: task.snapshot().generation(), level, stack, inside: lender })
    }

    /// In how many children in place it lies.
    pub(crate) fn level(&self) -> u32 {
        self.level.into()
    }

    /// How many bytes of the stack these take.
    pub(crate) fn stack(&self) -> usize {
        usize::from(self.stack) * STACK_UNIT
    }

    /// Whether its task is alive.
    fn is_alive(&self) -> bool {
        let now = self.task.snapshot();
        now.generation() == self.generation && !matches!(now.phase(), Phase::Done | Phase::Free)
    }

    /// Whether its task has a place, and a child that was spawned here may run in it now.
    pub(crate) fn may_lend(&self) -> bool {
        if !self.is_alive() || self.task.marks().place() != Place::Task {
            return false;
        }
        match self.inside {
            None => !self.task.marks().lends(),
            Some(lender) => lender.node().is_some_and(|node| !node.is_lent_on.get()),
        }
    }

    /// Whose poll it lies in.
    pub(crate) fn spawner(self) -> Spawner {
        Spawner { task: self.task, generation: self.generation }
    }

    /// Whether it lies in the poll of `task`.
    pub(crate) fn is_of(&self, task: &Header) -> bool {
        core::ptr::eq(self.task, task) && self.is_alive()
    }

    /// Marks whether a child runs on top of it.
    fn set_lent(&self, is_lent: bool) {
        match self.inside {
            None if self.is_alive() => self.task.set_marks(self.task.marks().with_lends(is_lent)),
            None => {}
            Some(lender) => {
                if let Some(node) = lender.node() {
                    node.is_lent_on.set(is_lent);
                }
            }
        }
    }
}

/// A task that spawns another.
#[derive(Clone, Copy)]
pub(crate) struct Spawner {
    task: &'static Header,
    generation: u32,
}

impl Spawner {
    /// Whether it is a task of the runtime that this thread is inside of, and all that it is known to wait for is room or
    /// other tasks.
    pub(crate) fn is_stuck(self) -> bool {
        let is_it = self.task.is_here() && self.task.snapshot().generation() == self.generation;
        is_it && self.task.is_stuck()
    }
}

impl<K: Copy + Send> Waiter<K> {
    /// Where it was parked, by what the owner saw last.
    pub(crate) fn spot(&self) -> Option<Spot<K>> {
        self.lending.spot.get()
    }

    /// The owner notes where it is parked.
    #[inline(always)]
    pub(crate) fn park_at(&self, spot: Option<Spot<K>>) {
        self.lending.spot.set(spot);
    }

    /// What its child takes in place beyond the frame; `None` if it cannot run there.
    pub(crate) fn bytes_in_place(&self) -> Option<usize> {
        self.lending.bytes.get()
    }

    pub(crate) fn node(&self) -> &Node<K> {
        &self.lending
    }

    /// Its lending begins, with a `number` that was never used.
    pub(crate) fn begin_lending(&'static self, number: u64) {
        self.lending.number.set(number);
        self.lending.is_lent_on.set(false);
        if let Some(spot) = self.lending.spot.get() {
            spot.set_lent(true);
        }
    }

    /// Its lending ends; its number.
    pub(crate) fn end_lending(&self) -> u64 {
        let number = self.lending.number.replace(0);
        if let Some(spot) = self.lending.spot.take() {
            spot.set_lent(false);
        }
        number
    }

    /// The number of its lending; 0 if it does not lend.
    pub(crate) fn number(&self) -> u64 {
        self.lending.number.get()
    }

    fn lender(&'static self) -> Lender<K> {
        Lender { node: self, number: self.lending.number.get() }
    }
}

/// What a child in place ended with.
pub(crate) type Result<T> = core::result::Result<T, Payload>;

impl<P: Plant, K: Copy + Send> Entry<P, K> {
    /// The node of a frame whose child runs in place.
    #[inline(always)]
    pub(crate) fn lends_with(&self) -> Option<&'static Waiter<K>> {
        match self.stage_now() {
            Stage::InPlace(waiter) => Some(waiter),
            _ => None,
        }
    }

    /// The child is to run here from now on: a frame that waits is being polled on the owner's thread, or a fresh one was
    /// given `waiter`, which is free. Who was to be woken is for the caller to drop.
    pub(crate) fn begin_in_place(
        mut self: Pin<&mut Self>,
        waiter: &'static Waiter<K>,
    ) -> Option<core::task::Waker> {
        let waker = match self.stage_now() {
            Stage::Waiting(_) => waiter.lend(),
            _ => {
                debug_assert!(self.is_fresh());
                waiter.lend_fresh();
                None
            }
        };
        *self.as_mut().stage() = Stage::InPlace(waiter);
        waker
    }

    /// Polls the child. Ready, it is gone, and the frame too is done with it.
    pub(crate) fn poll_in_place(
        mut self: Pin<&mut Self>,
        waiter: &'static Waiter<K>,
        lender: &Cell<Option<Lender<K>>>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<<P::Task as Future>::Output>> {
        let outer = lender.replace(Some(waiter.lender()));
        let (seed, stand) = self.as_mut().seed_and_stand();
        // SAFETY: [PLACE-1] the stage is `InPlace`: the seed is here, in a pinned frame, and this frame's alone.
        let polled =
            catch_unwind(AssertUnwindSafe(|| outside(|| unsafe { P::poll_in_place(seed, stand, cx) })));
        let result = match polled {
            Ok(Poll::Pending) => {
                lender.set(outer);
                return Poll::Pending;
            }
            Ok(Poll::Ready(output)) => Ok(output),
            Err(payload) => Err(payload),
        };
        let dropped = catch_unwind(AssertUnwindSafe(|| self.drop_in_place()));
        lender.set(outer);
        Poll::Ready(match dropped {
            Ok(()) => result,
            Err(payload) => {
                super::quietly(|| drop(result));
                Err(payload)
            }
        })
    }

    /// Drops the child where it is.
    pub(crate) fn drop_in_place(mut self: Pin<&mut Self>) {
        debug_assert!(matches!(self.stage_now(), Stage::InPlace(_)));
        *self.as_mut().stage() = Stage::Gone;
        let (seed, stand) = self.seed_and_stand();
        // SAFETY: [PLACE-1] the stage was `InPlace`, and says now that the child is gone, whatever its drop does.
        outside(|| unsafe { P::drop_in_place(seed, stand) });
    }

    /// Gives back the node of a child in place from a thread that is not the owner's.
    pub(crate) fn give_back_lent(self: Pin<&mut Self>, waiter: &'static Waiter<K>) {
        let mine = waiter.give_back(true);
        debug_assert!(mine.is_none());
    }

    fn seed_and_stand(self: Pin<&mut Self>) -> (*mut P, &mut P::Stand) {
        // SAFETY: neither is moved by what is done with them: the seed is pinned through its pointer, the stand is not pinned.
        let this = unsafe { self.get_unchecked_mut() };
        (this.seed.get().cast::<P>(), &mut this.stand)
    }
}

/// The header of a task that is finished as it begins, for the handle of a child that ran in place.
pub(crate) fn finished<P: Plant>(
    (home, local): (&'static Home, &Local),
    site: Site,
    result: Result<<P::Task as Future>::Output>,
) -> &'static Header {
    let task = local.table.take(home);
    task.vtable.set(Some(VTable::of::<P::Task>()));
    task.site.set(local.sites.id(site));
    task.since.set(local.since());
    task.set_marks(Marks::new(Place::Root, false));
    let _it_is_in_no_queue = task.apply(Event::Spawn { handle: true });
    let _here = task.apply(Event::StartPoll);
    let outcome = store(task, home.cache(local), result);
    let action = task.apply(Event::Finish(outcome));
    debug_assert_ne!(action, Action::Recycle, "it has a handle");
    task
}
