//! The desk: where other threads reach the line of a runtime.
//!
//! # Problem
//! The line is the owner's alone, plain cells. Other threads want to stand in it too, in their turn; to leave it; to close
//! it; and to ask who stands there.
//!
//! # Idea
//! One lock guards a few lists: arrivals, in their order, which the owner puts into the line before anybody who comes later;
//! nodes that came back; and errands, closures of ours that the owner runs between two polls. A flag beside the lock tells
//! the owner's fast path that somebody has arrived. An epoch tells the runtime that has this home now from those before it,
//! so that whoever is late meets a closed door and not a stranger.
//!
//! # Bounds
//! Frames of other threads that wait: as many as the desk has nodes (`waiting_max` of [`Desk::open`]); the next is refused.
//! Errands: [`ERRANDS_MAX`]; the next is refused.
//!
//! # Invariants
//! - [DESK-1] No user code runs under the lock: wakers are cloned before it is taken and woken after it was let go.
//! - [DESK-2] Who arrived is in the owner's line before any spawn of the owner that began after the arrival was over.
//! - [DESK-3] A node of the desk is in one of its lists, or with a frame, or with the owner; it is recycled under the lock.
//!
//! # Rejected
//! A queue without a lock: an arrival needs two locked instructions and an order with `close`; a lock has both, and the
//! owner takes it only when it is told to.
//!
//! # Read next
//! `../admission/`, the owner's side.

use core::pin::Pin;
use core::task::Waker;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::thread::ThreadId;

use super::waiter::{Arrival, Entry, Waiter};
use super::{Home, Seed, Terms};
use crate::sync::{AtomicBool, IS_MODEL, Mutex, Ordering, lock, seeded};

/// How many questions of other threads may wait for the owner.
pub(crate) const ERRANDS_MAX: usize = 64;

/// How many nodes are made at a time.
const NODES_CHUNK: usize = if IS_MODEL { 1 } else { 16 };

/// Something for the owner to do, made by this crate.
pub(crate) type Errand = Box<dyn FnOnce() + Send>;

/// The desk of one home.
pub(crate) struct Desk<K: 'static> {
    pub(crate) home: &'static Home,
    /// Whether somebody has arrived whom the owner has not yet put into the line.
    has_arrivals: AtomicBool,
    state: Mutex<State<K>>,
}

struct State<K: 'static> {
    /// Which runtime has this home, or had it last.
    epoch: u32,
    /// Whether there is one.
    is_alive: bool,
    /// Whether it admits.
    is_open: bool,
    /// The owner is to close admission.
    close_asked: bool,
    /// Whose thread it is.
    thread: Option<ThreadId>,
    /// It is closed, and nothing that was admitted is left.
    is_drained: bool,
    task_bytes_max: usize,
    arrivals: Line<K>,
    /// How many of them have left.
    left: usize,
    /// Nodes that frames on other threads gave back, for the owner to look at.
    returned: Option<&'static Waiter<K>>,
    /// The desk's own nodes that nobody uses, how many are in use, and how many may be.
    spare: Option<&'static Waiter<K>>,
    in_use: usize,
    in_use_max: usize,
    /// Places and bytes of reservations that were dropped elsewhere.
    units: [usize; 2],
    errands: Vec<Errand>,
    /// Whom to tell that all is drained, by number.
    drainers: Vec<(u64, Waker)>,
    last_drainer: u64,
}

/// A list with two ends, through the nodes.
struct Line<K: 'static> {
    head: Option<&'static Waiter<K>>,
    tail: Option<&'static Waiter<K>>,
    len: usize,
}

impl<K> Line<K> {
    const EMPTY: Self = Self { head: None, tail: None, len: 0 };

    fn push(&mut self, waiter: &'static Waiter<K>) {
        self.len += 1;
        match self.tail.replace(waiter) {
            None => self.head = Some(waiter),
            Some(last) => last.next.set(Some(waiter)),
        }
    }

    fn pop(&mut self) -> Option<&'static Waiter<K>> {
        let first = self.head?;
        self.len -= 1;
        self.head = first.next.take();
        if self.head.is_none() {
            self.tail = None;
        }
        Some(first)
    }
}

/// What other threads left for the owner, apart from arrivals.
pub(crate) struct Asked<K: 'static> {
    pub(crate) returned: Option<&'static Waiter<K>>,
    pub(crate) units: [usize; 2],
    pub(crate) errands: Vec<Errand>,
    /// Whether somebody waits for the last task to end.
    pub(crate) is_awaited: bool,
}

/// Which runtime a thing belongs to: the desk of its home, and the epoch.
pub(crate) struct Door<K: 'static> {
    pub(crate) desk: &'static Desk<K>,
    pub(crate) epoch: u32,
}

impl<K> Clone for Door<K> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K> Copy for Door<K> {}

impl<K> PartialEq for Door<K> {
    fn eq(&self, other: &Self) -> bool {
        core::ptr::eq(self.desk, other.desk) && self.epoch == other.epoch
    }
}

// What it leads to is behind a lock, and is whole whatever panics.
impl<K> UnwindSafe for Door<K> {}
impl<K> RefUnwindSafe for Door<K> {}

impl<K: Copy + Send> Desk<K> {
    pub(crate) fn new(home: &'static Home) -> Self {
        Self {
            home,
            has_arrivals: AtomicBool::new(false),
            state: Mutex::new(State {
                epoch: 0,
                is_alive: false,
                is_open: false,
                close_asked: false,
                thread: None,
                is_drained: false,
                task_bytes_max: 0,
                arrivals: Line::EMPTY,
                left: 0,
                returned: None,
                spare: None,
                in_use: 0,
                in_use_max: 0,
                units: [0, 0],
                errands: Vec::new(),
                drainers: Vec::new(),
                last_drainer: 0,
            }),
        }
    }

    // The owner's side.

    /// Begins an epoch.
    pub(crate) fn open(&self, waiting_max: usize, task_bytes_max: usize) -> u32 {
        let mut state = lock(&self.state);
        state.epoch = state.epoch.wrapping_add(1);
        (state.is_alive, state.is_open, state.close_asked, state.is_drained) = (true, true, false, false);
        state.thread = Some(std::thread::current().id());
        // Frames of an earlier runtime that are still there are counted no more.
        (state.in_use, state.in_use_max) = (0, waiting_max);
        state.task_bytes_max = task_bytes_max;
        state.units = [0, 0];
        state.epoch
    }

    /// Nobody arrives any more; who has arrived and stands in no line yet is given out by [`arrival`](Self::arrival).
    pub(crate) fn shut(&self) {
        lock(&self.state).is_open = false;
    }

    /// Ends the epoch, when nothing that was admitted is left: what was asked and not done is given up, and who waits for
    /// this very moment is to be told.
    pub(crate) fn end(&self) {
        let (errands, drainers) = {
            let mut state = lock(&self.state);
            state.is_alive = false;
            (std::mem::take(&mut state.errands), std::mem::take(&mut state.drainers))
        };
        drop(errands);
        wake_all(drainers);
    }

    /// Whether somebody has arrived; one load.
    #[inline(always)]
    pub(crate) fn has_arrivals(&self) -> bool {
        // Ordering: Relaxed; [DESK-2] an arrival that happened before this is seen, and the lock orders the rest.
        self.has_arrivals.load(Ordering::Relaxed)
    }

    /// How many have arrived, at most.
    pub(crate) fn arrivals(&self) -> usize {
        lock(&self.state).arrivals.len
    }

    /// The next that has arrived, for the owner to put into its line, in the order of their arrival.
    pub(crate) fn arrival(&self) -> Option<&'static Waiter<K>> {
        let mut state = lock(&self.state);
        loop {
            let Some(waiter) = state.arrivals.pop() else {
                // A close that came meanwhile is still to be seen. Ordering: Relaxed; under the lock, as all that write it.
                let is_asked = state.close_asked && !seeded("desk_forgets_close");
                self.has_arrivals.store(is_asked, Ordering::Relaxed);
                return None;
            };
            if !state.forget_if_left(waiter) {
                waiter.arrival.set(Arrival::No);
                return Some(waiter);
            }
        }
    }

    /// Whether the owner is to close admission; asked once.
    pub(crate) fn take_close(&self) -> bool {
        std::mem::take(&mut lock(&self.state).close_asked)
    }

    /// The nodes that frames elsewhere gave back, linked.
    pub(crate) fn take_returned(&self) -> Option<&'static Waiter<K>> {
        lock(&self.state).returned.take()
    }

    /// Everything else that was asked since the last call; the nodes are linked.
    pub(crate) fn take(&self) -> Asked<K> {
        let mut state = lock(&self.state);
        Asked {
            returned: state.returned.take(),
            units: std::mem::take(&mut state.units),
            errands: std::mem::take(&mut state.errands),
            is_awaited: !state.drainers.is_empty() && !state.is_drained,
        }
    }

    /// Takes back a node of the desk's own.
    pub(crate) fn recycle(&self, waiter: &'static Waiter<K>) {
        lock(&self.state).recycle(waiter);
    }

    /// Says that nothing that was admitted is left, and will not be again.
    pub(crate) fn drained(&self) {
        let drainers = {
            let mut state = lock(&self.state);
            state.is_drained = true;
            std::mem::take(&mut state.drainers)
        };
        wake_all(drainers);
    }

    // Any thread's side.

    /// Gives back a node whose frame is on another thread: one that was cancelled may be in the owner's hands still.
    pub(super) fn give_back(&self, waiter: &'static Waiter<K>, is_cancelled: bool) {
        {
            let mut state = lock(&self.state);
            if waiter.arrival.get() == Arrival::Waiting {
                waiter.arrival.set(Arrival::Left);
                state.left += 1;
                return;
            }
            // It is a place at the desk no more, whenever the owner comes to it.
            state.discount(waiter);
            // What the claim reads now says nothing: the owner may just be looking at it.
            if waiter.of_desk && (!is_cancelled || seeded("desk_recycles_at_once")) {
                // [DESK-3] settled: the owner is done with it.
                return state.recycle(waiter);
            }
            waiter.next.set(state.returned.replace(waiter));
        }
        self.home.shared.call_attention();
    }
}

impl<K: Copy + Send> State<K> {
    fn recycle(&mut self, waiter: &'static Waiter<K>) {
        self.discount(waiter);
        waiter.next.set(self.spare.replace(waiter));
    }

    /// Counts a node out, if it is in the count.
    fn discount(&mut self, waiter: &'static Waiter<K>) {
        if waiter.counted_in.replace(0) == self.epoch {
            self.in_use -= 1;
        }
    }

    /// Recycles a node that was in the line of arrivals, if its frame is gone.
    fn forget_if_left(&mut self, waiter: &'static Waiter<K>) -> bool {
        let has_left = waiter.arrival.get() == Arrival::Left;
        if has_left {
            waiter.arrival.set(Arrival::No);
            self.left -= 1;
            self.recycle(waiter);
        }
        has_left
    }

    /// Takes those out of the line of arrivals who have left it, while the owner does not look.
    fn sweep(&mut self) {
        let mut line = std::mem::replace(&mut self.arrivals, Line::EMPTY);
        while let Some(waiter) = line.pop() {
            if !self.forget_if_left(waiter) {
                self.arrivals.push(waiter);
            }
        }
    }

    fn is(&self, epoch: u32) -> bool {
        self.is_alive && self.epoch == epoch
    }

    fn turns_away(&mut self, epoch: u32, bytes: usize) -> Option<Turned> {
        if !self.is(epoch) || !self.is_open {
            return Some(Turned::Closed);
        }
        if bytes > self.task_bytes_max {
            return Some(Turned::ExceedsLimit);
        }
        if self.in_use >= self.in_use_max && self.left > 0 {
            self.sweep();
        }
        (self.in_use >= self.in_use_max).then_some(Turned::QueueFull)
    }

    /// A node that nobody uses.
    fn node(&mut self, desk: &'static Desk<K>) -> &'static Waiter<K> {
        let waiter = match self.spare.take() {
            Some(waiter) => {
                self.spare = waiter.next.take();
                waiter
            }
            None => {
                let chunk: Box<[Waiter<K>]> = (0..NODES_CHUNK).map(|_| Waiter::new(desk, true)).collect();
                let (first, rest) = Box::leak(chunk).split_first().expect("a chunk has nodes");
                for waiter in rest {
                    waiter.next.set(self.spare.replace(waiter));
                }
                first
            }
        };
        self.in_use += 1;
        waiter.counted_in.set(self.epoch);
        waiter
    }
}

impl<K: Copy + Send> Door<K> {
    /// Whether this thread is inside of the very runtime.
    pub(crate) fn is_here(&self) -> bool {
        self.desk.home.local().is_some() && lock(&self.desk.state).is(self.epoch)
    }

    /// Whether this thread is the one that the runtime runs on, whatever it is inside of.
    pub(crate) fn is_of_this_thread(&self) -> bool {
        if let Some(team) = self.desk.home.team() {
            return team.is_of_this_thread() && lock(&self.desk.state).is(self.epoch);
        }
        let state = lock(&self.desk.state);
        state.is(self.epoch) && state.thread == Some(std::thread::current().id())
    }

    /// Stands in line, from any thread: `entry` waits afterwards. Or there is a reason why not, `entry` is as it was, and the
    /// waker comes back, to be dropped with nothing locked.
    pub(crate) fn arrive<S: Seed>(
        &self,
        entry: Pin<&mut Entry<S, K>>,
        terms: Terms,
        waker: Waker,
    ) -> Result<(), (Turned, Waker)> {
        {
            let mut state = lock(&self.desk.state);
            if let Some(turned) = state.turns_away(self.epoch, terms.bytes) {
                // [DESK-1]
                drop(state);
                return Err((turned, waker));
            }
            let waiter = state.node(self.desk);
            waiter.arrival.set(Arrival::Waiting);
            entry.wait(waiter, true, terms, waker);
            state.arrivals.push(waiter);
            // Ordering: Relaxed; under the lock, see `has_arrivals`.
            self.desk.has_arrivals.store(true, Ordering::Relaxed);
        }
        self.desk.home.shared.call_attention();
        Ok(())
    }

    /// Closes admission, from any thread.
    pub(crate) fn close(&self) {
        {
            let mut state = lock(&self.desk.state);
            if !state.is(self.epoch) || !state.is_open {
                return;
            }
            state.is_open = false;
            state.close_asked = true;
            // The next that the owner is asked for a place looks here first.
            self.desk.has_arrivals.store(true, Ordering::Relaxed);
        }
        self.desk.home.shared.call_attention();
    }

    /// Gives units back that no task holds, from a thread that is not the owner.
    pub(crate) fn release(&self, units: [usize; 2]) {
        {
            let mut state = lock(&self.desk.state);
            if !state.is(self.epoch) {
                return;
            }
            for (sum, more) in state.units.iter_mut().zip(units) {
                *sum += more;
            }
        }
        self.desk.home.shared.call_attention();
    }

    /// Has `errand` run by the owner between two polls; given back if too many wait, or if the runtime is gone.
    pub(crate) fn send(&self, errand: Errand) -> Result<(), (Turned, Errand)> {
        {
            let mut state = lock(&self.desk.state);
            if !state.is(self.epoch) {
                return Err((Turned::Closed, errand));
            }
            if state.errands.len() == ERRANDS_MAX {
                return Err((Turned::QueueFull, errand));
            }
            state.errands.push(errand);
        }
        self.desk.home.shared.call_attention();
        Ok(())
    }

    /// Whether nothing that was admitted is left for good; else `waker` is woken when that is so. `number` is this caller's
    /// from its first call on.
    pub(crate) fn watch_drain(&self, number: &mut Option<u64>, waker: Waker) -> bool {
        let old = {
            let mut state = lock(&self.desk.state);
            if !state.is(self.epoch) || state.is_drained {
                drop(state);
                return true;
            }
            let number = *number.get_or_insert_with(|| {
                state.last_drainer += 1;
                state.last_drainer
            });
            match state.drainers.iter_mut().find(|(of, _)| *of == number) {
                Some((_, old)) => Some(std::mem::replace(old, waker)),
                None => {
                    state.drainers.push((number, waker));
                    None
                }
            }
        };
        drop(old);
        self.desk.home.shared.call_attention();
        false
    }

    /// Stops watching.
    pub(crate) fn forget_drain(&self, number: u64) {
        let old = {
            let mut state = lock(&self.desk.state);
            let at = state.drainers.iter().position(|(of, _)| *of == number);
            at.filter(|_| state.epoch == self.epoch).map(|at| state.drainers.swap_remove(at))
        };
        drop(old);
    }
}

/// Why somebody may not stand in line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turned {
    Closed,
    ExceedsLimit,
    QueueFull,
}

fn wake_all(wakers: Vec<(u64, Waker)>) {
    for (_, waker) in wakers {
        super::quietly(|| waker.wake());
    }
}
