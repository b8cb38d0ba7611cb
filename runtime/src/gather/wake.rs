//! Who was woken: a bit a slot, and a line of the groups in which one is set.
//!
//! # Problem
//! A wake comes from any thread, at any time, long after its future is gone, and from within the poll that it asks for. It
//! must say *which* future is to be polled, in constant time, without a lock and without an allocation.
//!
//! # Idea
//! ```text
//!   a child's waker ──> tag ─┐            ┌───────────────> Line: newest, parent's waker
//!                            v            │                   │ newest
//!        Group: ready bits | next | … | line | tags 0..32     v
//!                             └───> Group …        Group ──next──> Group ──next──> AWAKE or ASLEEP
//! ```
//! Thirty-two slots share a [`Group`], one cache line. The data of a slot's waker is the address of its *tag*, a byte that
//! holds its own number, so that the group is found by a subtraction. A wake sets the slot's bit: one locked instruction.
//! Only who finds all bits clear goes on and puts the group at the end of the [`Line`], a second one; and only who finds the
//! line's owner asleep there wakes the parent.
//!
//! | `newest` | the owner | who puts a group in line |
//! |---|---|---|
//! | [`AWAKE`] | will look at the line before it sleeps | goes |
//! | a group's number | the same | goes |
//! | [`ASLEEP`] | has left its waker in `parent`, and returned `Pending` | takes the waker out, says so, and wakes it |
//!
//! So wakes during the owner's own poll, the most frequent ones, never reach the parent's waker.
//!
//! # Invariants
//! - [GATHER-1] The data of a waker with [`VTABLE`] is the address of a tag of a group in an `Arc<[Group]>`, with the
//!   provenance of `Arc::into_raw`, and the waker owns one count of that `Arc`, or borrows one that outlives it.
//! - [GATHER-2] A group is in line at most once: who turns its bits from none to some puts it there, and the owner takes it
//!   out, reads `next`, and clears the bits, in this order.
//! - [GATHER-3] `parent` is touched by the owner alone, except between the step that finds [`ASLEEP`] and `told`, when it is
//!   touched alone by the thread that took that step. The owner waits for neither: where it comes in between, it asks to be
//!   polled again.
//! - [GATHER-4] No wake is lost. The owner sleeps by one step from [`AWAKE`] to [`ASLEEP`], after its waker lies in
//!   `parent`. A group that came before fails the step; one that comes later finds [`ASLEEP`] and the waker.
//!
//! # Rejected
//! - An `Arc` a slot with `std::task::Wake`: an allocation a slot, and a queue that links them.
//! - A word of summary bits over the groups: it needs a third level above 1,024 slots, and a fourth above 32,768. The line
//!   costs the same one step, and has no end.
//! - futures' `AtomicWaker` for the parent: two locked instructions each time, and a wake for each that comes while the
//!   parent polls anyway.
//! - Bits without the line, all looked at by each poll: not constant time a wake.
//!
//! # Read next
//! `crew.rs`, which polls what was woken.

use std::mem::{ManuallyDrop, offset_of};
use std::ptr;
use std::sync::Arc;
use std::task::{RawWaker, RawWakerVTable, Waker};

use crate::sync::{AtomicBool, AtomicU32, Ordering, UnsafeCell, seeded};

/// How many slots share a group: the bits of its word.
pub(super) const GROUP: usize = u32::BITS as usize;

/// The owner is polling, or will be polled: nobody need wake it.
const AWAKE: u32 = u32::MAX;
/// The owner waits, and its waker lies in `parent`.
const ASLEEP: u32 = u32::MAX - 1;
/// How many groups there can be: the numbers below the two marks.
pub(super) const GROUPS_MAX: usize = 1 << 26;

/// What all groups of one owner share.
#[derive(Debug)]
struct Line {
    newest: AtomicU32,
    /// Who found [`ASLEEP`] has taken the waker out of `parent`.
    told: AtomicBool,
    parent: UnsafeCell<Option<Waker>>,
}

// SAFETY: [GATHER-3] says who may touch `parent`; a waker may be woken and dropped on any thread.
unsafe impl Sync for Line {}

/// The ready bits of some slots, and what their wakers need.
#[repr(C)]
#[cfg_attr(not(any(anteroom_loom, anteroom_shuttle)), repr(align(64)))]
#[derive(Debug)]
struct Group {
    ready: AtomicU32,
    /// The one before it in line; only while it is in line.
    next: AtomicU32,
    /// Which group this is, of its owner and of its `Arc`, and how many that has.
    number: u32,
    index: u32,
    groups: u32,
    line: Arc<Line>,
    /// Each holds its own number.
    tags: [u8; GROUP],
}

#[cfg(not(any(anteroom_loom, anteroom_shuttle)))]
const _: () = assert!(size_of::<Group>() == 64);

/// The owner's end of a line.
#[derive(Debug)]
pub(super) struct Owner {
    line: Arc<Line>,
    /// [`ASLEEP`] was the last that it left in `newest`.
    is_asleep: bool,
    /// Somebody found it asleep, and may not have `told` yet.
    is_being_woken: bool,
}

/// The groups of some slots, as their owner sees them.
#[derive(Debug)]
pub(super) struct Groups {
    groups: Arc<[Group]>,
    /// Slot 0's waker; those of the others lie at known distances.
    first: Waker,
}

/// A part of the line that is the owner's: the group to look at next.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taken(u32);

impl Taken {
    /// Nothing.
    pub(super) const END: Taken = Taken(AWAKE);

    /// The number of the group that comes next.
    #[inline]
    pub(super) fn group(self) -> Option<usize> {
        (self.0 < ASLEEP).then_some(self.0 as usize)
    }
}

impl Owner {
    /// Of a new line; it is awake.
    pub(super) fn new() -> Self {
        let line = Line {
            newest: AtomicU32::new(AWAKE),
            told: AtomicBool::new(false),
            parent: UnsafeCell::new(None),
        };
        Self { line: Arc::new(line), is_asleep: false, is_being_woken: false }
    }

    /// Takes all groups that are in line. The owner is awake afterwards.
    #[inline]
    pub(super) fn take(&mut self) -> Taken {
        // Ordering: Relaxed; if there is something new, the step to sleep will see it.
        if self.line.newest.load(Ordering::Relaxed) == AWAKE {
            return Taken::END;
        }
        // Ordering: AcqRel; Acquire pairs with `Line::put`, for the groups' `next` and bits. Release is for who puts a group
        // after it, and must not see `parent` earlier than we left it.
        let newest = self.line.newest.swap(AWAKE, Ordering::AcqRel);
        // [GATHER-3] asleep, and still so: nobody touches the waker. Asleep, and a group instead: somebody does.
        let was_found = self.is_asleep && newest != ASLEEP;
        self.is_being_woken |= was_found && !seeded("gather_not_told");
        self.is_asleep = false;
        Taken(newest)
    }

    /// Whether the owner may touch `parent`.
    fn has_parent(&mut self) -> bool {
        // Ordering: Acquire; pairs with the Release in `Line::put`, which had the waker before.
        if self.is_being_woken && self.line.told.load(Ordering::Acquire) {
            self.is_being_woken = false;
        }
        !self.is_being_woken
    }

    /// Goes to sleep, after which a wake of any slot wakes `waker`. False if there is something to look at first, or will be
    /// in a moment: then the owner is awake, and who calls this sees to it that it is polled again.
    pub(super) fn sleep(&mut self, waker: &Waker) -> bool {
        // Ordering: Relaxed; only to spare the rest, the step below decides.
        if self.line.newest.load(Ordering::Relaxed) != AWAKE || !self.has_parent() {
            return false;
        }
        self.leave(waker);
        // Ordering: Relaxed; published by the step below, and read by nobody before that.
        self.line.told.store(false, Ordering::Relaxed);
        if seeded("gather_sleep_plain") {
            self.line.newest.store(ASLEEP, Ordering::Release);
            self.is_asleep = true;
            return true;
        }
        // Ordering: Release; pairs with the Acquire in `Line::put`, which finds the waker. [GATHER-4] it fails if a group came.
        let step = self.line.newest.compare_exchange(AWAKE, ASLEEP, Ordering::Release, Ordering::Relaxed);
        self.is_asleep = step.is_ok();
        self.is_asleep
    }

    /// Leaves `waker` in `parent`, unless one that does the same is there.
    fn leave(&mut self, waker: &Waker) {
        let parent = &self.line.parent;
        // SAFETY: [GATHER-3] awake, and nobody is waking it: the cell is the owner's.
        let is_same = parent
            .with_mut(|parent| unsafe { &*parent }.as_ref().is_some_and(|there| there.will_wake(waker)));
        if !is_same {
            // A clone and a drop are the caller's code: the cell holds one waker or the other meanwhile.
            let new = waker.clone();
            // SAFETY: as above.
            drop(parent.with_mut(|parent| unsafe { parent.replace(Some(new)) }));
        }
    }

    /// Nobody is woken by this line any more. Gives back the parent's waker, to be dropped, if nobody else has it.
    pub(super) fn close(&mut self) -> Option<Waker> {
        // From here on it is awake for good.
        self.take();
        if !self.has_parent() {
            return None;
        }
        // SAFETY: [GATHER-3] awake, and nobody is waking it.
        self.line.parent.with_mut(|parent| unsafe { (*parent).take() })
    }
}

impl Line {
    /// Puts a group in line whose bits were all clear, and wakes the owner if it sleeps.
    fn put(&self, group: &Group) {
        // Ordering: Relaxed; the step below decides.
        let mut newest = self.newest.load(Ordering::Relaxed);
        loop {
            // Ordering: Relaxed; published by the step below. [GATHER-2] it is not in line, so this is ours.
            group.next.store(newest, Ordering::Relaxed);
            // Ordering: AcqRel; Release pairs with the Acquire in `Owner::take`, Acquire with the Release in `Owner::sleep`.
            let step =
                self.newest.compare_exchange_weak(newest, group.number, Ordering::AcqRel, Ordering::Relaxed);
            match step {
                Ok(_) => break,
                Err(now) => newest = now,
            }
        }
        if newest == ASLEEP {
            // SAFETY: [GATHER-3] this thread alone has turned ASLEEP into something else, and has not told yet.
            let parent = self.parent.with_mut(|parent| unsafe { (*parent).take() });
            // Ordering: Release; pairs with the Acquire in `Owner::has_parent`.
            self.told.store(true, Ordering::Release);
            // The caller's code, with nothing held.
            if let Some(parent) = parent {
                parent.wake();
            }
        }
    }
}

impl Groups {
    /// Groups for `slots` slots, the first of which is number `number` of the owner's groups.
    pub(super) fn new(owner: &Owner, number: usize, slots: usize) -> Self {
        let groups = slots.div_ceil(GROUP);
        assert!(number + groups <= GROUPS_MAX);
        let group = |index: usize| Group {
            ready: AtomicU32::new(0),
            next: AtomicU32::new(AWAKE),
            number: (number + index) as u32,
            index: index as u32,
            groups: groups as u32,
            line: owner.line.clone(),
            tags: std::array::from_fn(|tag| tag as u8),
        };
        let groups: Arc<[Group]> = (0..groups).map(group).collect();
        let first = Arc::into_raw(groups.clone()).cast::<Group>();
        // SAFETY: [GATHER-1] a slice of groups that is not empty is there, so its first tag is too.
        let tag = unsafe { first.byte_add(offset_of!(Group, tags)) };
        // SAFETY: [GATHER-1] a tag, with the provenance of `into_raw` and the count that it gave up.
        let first = unsafe { Waker::new(tag.cast(), &VTABLE) };
        Self { groups, first }
    }

    /// Calls `f` with the waker of one slot. It costs no count; its clones do.
    #[inline]
    pub(super) fn with_waker<R>(&self, slot: usize, f: impl FnOnce(&Waker) -> R) -> R {
        assert!(slot / GROUP < self.groups.len());
        let distance = slot / GROUP * size_of::<Group>() + slot % GROUP;
        // SAFETY: [GATHER-1] the tag of a group of the same slice, as has just been asserted.
        let tag = unsafe { self.first.data().byte_add(distance) };
        // SAFETY: [GATHER-1] it borrows the count of `self.groups` for as long as `f` runs, and is not dropped.
        let waker = ManuallyDrop::new(unsafe { Waker::new(tag, &VTABLE) });
        f(&waker)
    }

    /// Takes the group at `index`, which `taken` names, out of line: its ready bits, and what is left of the line.
    #[inline]
    pub(super) fn look(&self, index: usize, taken: Taken) -> (u32, Taken) {
        let group = &self.groups[index];
        debug_assert_eq!(taken.group(), Some(group.number as usize));
        // Ordering: Relaxed; `Owner::take` has acquired it. [GATHER-2] read before the bits are cleared.
        let next = group.next.load(Ordering::Relaxed);
        // Ordering: AcqRel; Acquire pairs with the Release of each `wake_by_ref` that set a bit, so that what was written
        // before a wake is visible to the poll. Release lets who sets the next bit overwrite `next`.
        (group.ready.swap(0, Ordering::AcqRel), Taken(next))
    }
}

/// One for all slots, and one address for it: `will_wake` compares it.
static VTABLE: RawWakerVTable = RawWakerVTable::new(clone, wake, wake_by_ref, drop_waker);

/// The group of a tag, and the slot's number there.
///
/// # Safety
/// [GATHER-1] `data` is the data of a waker with [`VTABLE`].
#[inline(always)]
unsafe fn group(data: *const ()) -> (*const Group, u8) {
    // SAFETY: forwarded from the caller: it is a tag, which nobody writes to.
    let tag = unsafe { *data.cast::<u8>() };
    // SAFETY: so far behind the start of its group does a tag with this number lie.
    let group = unsafe { data.byte_sub(offset_of!(Group, tags) + usize::from(tag)) };
    (group.cast(), tag)
}

/// The slice that `group` is in, as `Arc::into_raw` gave it.
///
/// # Safety
/// `group` came from [`group`].
unsafe fn slice(group: *const Group) -> *const [Group] {
    // SAFETY: [GATHER-1] the waker's count keeps the group alive.
    let Group { index, groups, .. } = *unsafe { &*group };
    // SAFETY: so many groups of the same slice stand before it.
    let first = unsafe { group.sub(index as usize) };
    ptr::slice_from_raw_parts(first, groups as usize)
}

unsafe fn clone(data: *const ()) -> RawWaker {
    // SAFETY: [GATHER-1] forwarded.
    let (group, _) = unsafe { group(data) };
    // SAFETY: [GATHER-1] forwarded.
    let slice = unsafe { slice(group) };
    // SAFETY: [GATHER-1] the waker that is cloned has a count, or borrows one.
    unsafe { Arc::increment_strong_count(slice) };
    RawWaker::new(data, &VTABLE)
}

unsafe fn wake(data: *const ()) {
    /// The waker is gone after the wake, also when the parent's waker panics.
    struct Gone(*const ());
    impl Drop for Gone {
        fn drop(&mut self) {
            // SAFETY: [GATHER-1] the waker that was woken by value gives its count up.
            unsafe { drop_waker(self.0) }
        }
    }
    let gone = Gone(data);
    // SAFETY: [GATHER-1] forwarded.
    unsafe { wake_by_ref(gone.0) }
}

unsafe fn wake_by_ref(data: *const ()) {
    // SAFETY: [GATHER-1] forwarded.
    let (group, tag) = unsafe { group(data) };
    // SAFETY: [GATHER-1] the waker's count keeps the group alive.
    let group = unsafe { &*group };
    let bit = 1 << tag;
    let before = if seeded("gather_wake_plain") && group.ready.load(Ordering::Relaxed) & bit != 0 {
        bit
    } else {
        // Ordering: AcqRel; Release pairs with the Acquire in `look`, also when the bit is set already (bugs.md 27). Acquire
        // pairs with the Release there: who finds no bit may put the group in line again.
        group.ready.fetch_or(bit, Ordering::AcqRel)
    };
    if before == 0 {
        group.line.put(group);
    }
}

unsafe fn drop_waker(data: *const ()) {
    // SAFETY: [GATHER-1] forwarded.
    let (group, _) = unsafe { group(data) };
    // SAFETY: [GATHER-1] forwarded.
    let slice = unsafe { slice(group) };
    // SAFETY: [GATHER-1] a waker that is dropped owns a count, which it gives up here.
    unsafe { Arc::decrement_strong_count(slice) };
}
