//! The shared shell: how any thread of a team, or none, moves a task.
//!
//! # Problem
//! Two workers, a timer and a handle elsewhere may all want something of one task at the same moment.
//!
//! # Idea
//! The same table as ever, [`next`], under a compare-and-swap of the state word, with the generation in the same word: who
//! loses looks again, and what a stale waker means is never done to another task. The foreign word, which the single-threaded
//! shell needs for other threads, has another use here: it says where the joiner's waker is.
//!
//! | joiner's word | the waker | who may touch it |
//! |---|---|---|
//! | `NOBODY` | none | the handle, before it says that it is there |
//! | `WRITING` | the handle is writing it | the handle |
//! | `OWN`, `BOXED` | there | who swaps the word away: the handle, to replace it, or who ends the task |
//! | `GONE` | taken, or there was none | nobody: the task is done, or about to be in the next few instructions |
//!
//! # Order at the end
//! Drop the future, free its block, store the output; leave the place on the worker's tray, or with the key give it on; take the
//! joiner's waker (`GONE`); publish
//! `Done`; wake the joiner. So who has joined a task finds that its place is free, as with one thread. The waker is taken before
//! `Done` is published because a handle that sees `Done` takes the output and gives the header back, and the word would be
//! another task's. If there is no handle, the output is dropped before, without the key, and the header freed with it.
//!
//! # Invariants
//! - [SHARED-1] The state word of a live task is moved by compare-and-swap alone; of one that is free, or done, by the one
//!   thread whose it is, since no other event changes those.
//! - [SHARED-2] A header is in a ring, or in the injector, exactly while its phase is `Scheduled`, but for the moment between
//!   the exchange and the push of whoever scheduled it. Only who took it from there polls it or ends it.
//! - [SHARED-3] After `Done` is published who ended the task touches its header no more.
//! - [SHARED-4] Free headers become so under the key, with the table at hand: a trim finds every free one in the list.
//!
//! # Rejected
//! Bits of the state word for the joiner: as many exchanges, and the handle's and the wakers' would fail each other.
//!
//! # Read next
//! `../scheduler/stealing.rs`, which calls [`run`].

use core::task::{Context, Poll, Waker};

use super::body::Cache;
use super::home::Home;
use super::joiner::Joiner;
use super::state::{Action, Event, Outcome, Snapshot, next};
use super::team::{Team, Worker, wakes_itself};
use super::vtable::{Payload, quietly};
use super::{BUDGET, Header, Local, Place, WaitsFor, waker};
use crate::sync::{Ordering, seeded, yield_thread};

const NOBODY: u32 = 0;
const OWN: u32 = 1;
const BOXED: u32 = 2;
const WRITING: u32 = 3;
const GONE: u32 = 4;

/// A task that has ended, for the scheduler to carry out: its future is gone, and nobody knows it yet.
#[must_use = "the place must be given on and the end published"]
pub(crate) struct Ended {
    pub(crate) place: Place,
    /// What it was admitted with.
    pub(crate) bytes: usize,
    task: &'static Header,
    outcome: Outcome,
    /// Whether nobody has a handle of it any more.
    is_detached: bool,
}

impl Ended {
    /// Whether all that is left of it is a task's place: it needs the key for nothing.
    #[inline(always)]
    pub(crate) fn is_only_a_place(&self) -> bool {
        self.place == Place::Task && !self.is_detached
    }

    /// Frees the header, if nobody has a handle of it; the caller holds the key.
    pub(crate) fn free(&self, local: &Local) {
        if self.is_detached {
            // [SHARED-4] Its phase is running still, with no handle left: only wakes move it, to where this moves it from, too. A
            // plain store would do, but models could not follow one beside their exchanges.
            let action = self.task.move_on(Event::Finish(Outcome::Cancelled));
            debug_assert_eq!(action, Action::Recycle);
            local.table.give_back(self.task);
        }
    }

    /// Publishes the end, when the place was given on, and wakes whoever joins; without the key.
    pub(crate) fn publish(mut self) {
        if self.is_detached {
            return;
        }
        let is_late = seeded("shared_joiner_late");
        let joiner = if is_late { Joiner::None } else { self.task.take_joiner_shared() };
        // [SHARED-3] Kept, the header is the handle's from here.
        if self.task.publish(self.outcome) {
            let joiner = if is_late { self.task.take_joiner_shared() } else { joiner };
            return joiner.wake();
        }
        self.let_go();
        let _inside = super::enter();
        if let Some((_, local)) = super::current() {
            self.free(local);
        }
    }

    /// Nobody will take the output.
    fn let_go(&mut self) {
        self.is_detached = true;
        if let Some(cache) = self.task.cache_here() {
            self.task.drop_output_shared(self.outcome, cache);
        }
    }
}

/// Polls a task that was taken from a ring or the injector, once, or drops its future if it was aborted.
#[inline(always)]
pub(crate) fn run(worker: &'static Worker, task: &'static Header) -> Option<Ended> {
    let (running, action) = task.step_on(Event::StartPoll);
    if action == Action::Cancel {
        return Some(cancel(worker, task));
    }
    let waker = waker::waker(task, running.generation());
    let mut cx = Context::from_waker(&waker);
    worker.current.set(Some(task));
    worker.woke_itself.set(false);
    worker.budget.set(BUDGET);
    task.set_reasons(WaitsFor::NOTHING_KNOWN);
    // SAFETY: [VTABLE-1] [TASK-2] this thread has just set the task running, and its body holds its future.
    let polled = unsafe { (task.vtable().poll)(task, &worker.cache, &mut cx) };
    worker.current.set(None);
    match polled {
        Poll::Ready(outcome) => Some(end(task, outcome)),
        Poll::Pending => match task.end_poll(worker.woke_itself.get()) {
            Action::Cancel => Some(cancel(worker, task)),
            Action::Enqueue => {
                // [SHARED-2]; this thread's ring is at hand.
                worker.push(task);
                None
            }
            _ => None,
        },
    }
}

#[cold]
fn cancel(worker: &'static Worker, task: &'static Header) -> Ended {
    worker.current.set(Some(task));
    // SAFETY: [VTABLE-1] [TASK-2] the action `Cancel` comes with the task running, and its future was not yet dropped.
    let outcome = unsafe { (task.vtable().cancel)(task, &worker.cache) };
    worker.current.set(None);
    end(task, outcome)
}

/// The future of a task is gone.
fn end(task: &'static Header, outcome: Outcome) -> Ended {
    let marks = task.marks();
    let mut bytes = task.vtable().future_bytes;
    if marks.declared() {
        bytes += task.declared_bytes();
    }
    let mut ended = Ended { place: marks.place(), bytes, task, outcome, is_detached: false };
    // A handle that is gone has taken its waker with it, and does not come back.
    if !task.snapshot().has_handle() {
        ended.let_go();
    }
    ended
}

impl Header {
    /// The shared shell of the protocol: moves the state, unless the event changes nothing.
    #[inline(always)]
    pub(super) fn move_on(&self, event: Event) -> Action {
        self.step_on(event).1
    }

    /// As [`move_on`](Self::move_on), and what the state is now.
    #[inline(always)]
    fn step_on(&self, event: Event) -> (Snapshot, Action) {
        // Ordering: Relaxed; the exchange decides.
        let mut bits = self.state.load(Ordering::Relaxed);
        loop {
            let (to, action) = next(Snapshot::from_bits(bits), event);
            debug_assert_ne!(action, Action::Impossible, "{event:?} in {self:?}");
            // Ordering: AcqRel; Release publishes what this thread did to the task, or wrote before it asked; Acquire has it
            // see what the one before did.
            let success = if seeded("shared_step_relaxed") { Ordering::Relaxed } else { Ordering::AcqRel };
            match self.state.compare_exchange(bits, to.bits(), success, Ordering::Relaxed) {
                Ok(_) => return (to, action),
                Err(now) => bits = now,
            }
        }
    }

    /// The poll has ended without a result; the task may have been woken by itself, which is done in the same step.
    #[inline(always)]
    fn end_poll(&self, woke_itself: bool) -> Action {
        let woke_itself = woke_itself && !seeded("shared_own_wake_is_lost");
        // Ordering: Relaxed; the exchange decides.
        let mut bits = self.state.load(Ordering::Relaxed);
        loop {
            let at = Snapshot::from_bits(bits);
            let woken = if woke_itself { next(at, Event::Wake).0 } else { at };
            let (to, action) = next(woken, Event::PollPending);
            // Ordering: AcqRel; as in `step_on`.
            match self.state.compare_exchange(bits, to.bits(), Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return action,
                Err(now) => bits = now,
            }
        }
    }

    /// Wakes the task that lives here, if it is still the one of `generation`.
    #[inline]
    pub(super) fn wake_shared(&'static self, generation: u32) {
        // Ordering: Acquire; a task that is over by now has nobody to see what was written before this.
        let bits = self.state.load(Ordering::Acquire);
        let is_own = Snapshot::from_bits(bits).generation() == generation;
        if !(is_own && wakes_itself(self)) {
            self.wake_another(generation, bits);
        }
    }

    /// As [`wake_shared`](Self::wake_shared), of a task that is not being polled on this thread; `bits` are its state, of late.
    fn wake_another(&'static self, generation: u32, mut bits: u32) {
        loop {
            let at = Snapshot::from_bits(bits);
            if at.generation() != generation || at.is_over() {
                return;
            }
            let (to, action) = next(at, Event::Wake);
            if seeded("shared_wake_skips") && to == at {
                return;
            }
            // A wake that changes nothing is still a read-modify-write, or what was written before it would not be visible to
            // the poll that the earlier wake causes (bugs.md 27).
            // Ordering: as in `step_on`.
            let success = if seeded("shared_wake_relaxed") { Ordering::Relaxed } else { Ordering::AcqRel };
            match self.state.compare_exchange(bits, to.bits(), success, Ordering::Acquire) {
                Ok(_) if action == Action::Enqueue => return self.schedule(),
                Ok(_) => return,
                Err(now) => bits = now,
            }
        }
    }

    /// Puts it where a worker finds it ([SHARED-2]); the caller has just set it `Scheduled`.
    #[inline(always)]
    fn schedule(&'static self) {
        if let Some(team) = self.home().and_then(Home::team) {
            team.schedule(self);
        }
    }

    pub(super) fn abort_shared(&'static self) {
        if self.move_on(Event::Abort) == Action::Enqueue {
            self.schedule();
        }
    }

    /// Publishes the end to the handle; false if there is none, and nothing has changed then.
    fn publish(&self, outcome: Outcome) -> bool {
        // Ordering: Relaxed; the exchange decides, and a handle does not come back.
        let mut bits = self.state.load(Ordering::Relaxed);
        loop {
            let at = Snapshot::from_bits(bits);
            if !at.has_handle() {
                return false;
            }
            let (to, action) = next(at, Event::Finish(outcome));
            debug_assert_eq!(action, Action::Keep);
            let success = if seeded("shared_done_relaxed") { Ordering::Relaxed } else { Ordering::AcqRel };
            // Ordering: AcqRel; who reads `Done` sees the output.
            match self.state.compare_exchange(bits, to.bits(), success, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(now) => bits = now,
            }
        }
    }

    /// Drops the output that was stored and that nobody takes.
    fn drop_output_shared(&'static self, outcome: Outcome, cache: &Cache) {
        match outcome {
            // SAFETY: [VTABLE-1] it ended with a value, which `store` has kept, and no handle is left to take it.
            Outcome::Value => unsafe { (self.vtable().drop_output)(self, cache) },
            Outcome::Panic => {
                // SAFETY: [BODY-1] after a panic the body holds the payload, which nobody else takes.
                let payload = unsafe { self.body.take::<Payload>(Some(cache)) };
                quietly(|| drop(payload));
            }
            Outcome::Cancelled => {}
        }
    }

    /// What was declared for it beyond its size.
    #[cold]
    fn declared_bytes(&'static self) -> usize {
        let _inside = super::enter();
        super::current().map_or(0, |(_, local)| local.table.declared(self).get())
    }

    // The handle.

    /// Has `waker` woken when the task is done; false if it is.
    pub(super) fn watch_shared(&'static self, waker: &Waker) -> bool {
        let own = waker::own_data(waker);
        // Ordering: Acquire; pairs with the swap of who ends the task.
        let before = self.foreign.load(Ordering::Acquire);
        if before == OWN && own.is_some_and(|data| data == self.joiner.get()) {
            return true;
        }
        if before == GONE {
            return self.await_done();
        }
        let (data, kind) = match own {
            Some(data) => (data, OWN),
            None => (Box::into_raw(Box::new(waker.clone())).cast_const().cast::<()>(), BOXED),
        };
        if before == NOBODY {
            // Who ends the task does not look at it before the word says that it is there.
            self.joiner.set(data);
            // Ordering: AcqRel; Release has who ends the task find the waker.
            let left = self.foreign.compare_exchange(NOBODY, kind, Ordering::AcqRel, Ordering::Acquire);
            if left.is_ok() {
                return true;
            }
            self.forget_joiner(kind, data);
            return seeded("shared_join_no_second_look") || self.await_done();
        }
        // Ordering: AcqRel; whoever held the waker before gives it up, or has.
        let before = self.foreign.swap(WRITING, Ordering::AcqRel);
        if before == GONE {
            self.forget_joiner(kind, data);
            return self.await_done();
        }
        let old = (before, self.joiner.replace(data));
        if seeded("shared_watch_stores") {
            self.foreign.store(kind, Ordering::Release);
            self.forget_joiner(old.0, old.1);
            return true;
        }
        // Ordering: AcqRel; Release has who ends the task find the waker.
        let left = self.foreign.compare_exchange(WRITING, kind, Ordering::AcqRel, Ordering::Acquire);
        self.forget_joiner(old.0, old.1);
        if left.is_err() {
            self.forget_joiner(kind, data);
            return seeded("shared_join_no_second_look") || self.await_done();
        }
        true
    }

    /// Waits for the last instructions of a task's end; always false.
    #[cold]
    fn await_done(&self) -> bool {
        while !self.snapshot().is_done() {
            yield_thread();
        }
        false
    }

    /// Drops a waker that stood, or was to stand, in the joiner's word.
    fn forget_joiner(&self, kind: u32, data: *const ()) {
        if kind == BOXED {
            // SAFETY: [SHARED-1] the kind says that a box was leaked into these data, and who calls this has taken them out of
            // the word, or never left them there.
            let waker = unsafe { Box::from_raw(data.cast_mut().cast::<Waker>()) };
            quietly(|| drop(waker));
        }
    }

    /// Whom to wake when the task is done, which it is about to be.
    fn take_joiner_shared(&self) -> Joiner {
        // Ordering: AcqRel; Acquire finds the waker that was left.
        match self.foreign.swap(GONE, Ordering::AcqRel) {
            OWN => Joiner::Own(self.joiner.get()),
            BOXED => {
                let waker = self.joiner.get().cast_mut().cast::<Waker>();
                // SAFETY: the word said that a box was leaked into the joiner, and has just been swapped away.
                Joiner::Boxed(unsafe { Box::from_raw(waker) })
            }
            _ => Joiner::None,
        }
    }

    /// Lets a task go; false if it is done, and its output the handle's still.
    pub(super) fn detach_shared(&'static self) -> bool {
        // A waker of ours may stay: at worst it wakes for nothing.
        // Ordering: Relaxed, since this handle wrote it; then AcqRel, as in `watch_shared`.
        if self.foreign.load(Ordering::Relaxed) == BOXED
            && self.foreign.swap(NOBODY, Ordering::AcqRel) == BOXED
        {
            self.forget_joiner(BOXED, self.joiner.get());
        }
        // Ordering: Acquire; who reads `Done` sees the output.
        let mut bits = self.state.load(Ordering::Acquire);
        loop {
            let at = Snapshot::from_bits(bits);
            if at.is_done() {
                return false;
            }
            let (to, _) = next(at, Event::Detach);
            if seeded("shared_detach_stores") {
                self.state.store(to.bits(), Ordering::Release);
                return true;
            }
            // Ordering: as in `step_on`, and Acquire to see the output of one that has just ended.
            match self.state.compare_exchange(bits, to.bits(), Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return true,
                Err(now) => bits = now,
            }
        }
    }

    /// Gives the header back whose output the handle has taken: the table takes it in when it next needs one.
    pub(super) fn give_back_shared(&'static self) {
        if let Some(team) = self.home().and_then(Home::team) {
            Team::give_back(team, self);
        }
    }
}

/// Ends all tasks when no worker runs any more: whatever is idle becomes ready, and whatever is ready is dropped on this
/// thread. `each` is called after each, as after [`run`].
pub(crate) fn cancel_all(team: &Team, worker: &'static Worker, mut each: impl FnMut(Ended)) {
    loop {
        let mut live = 0;
        {
            let _inside = super::enter();
            let Some((_, local)) = super::current() else { return };
            local.table.for_each(|task| {
                let at = task.snapshot();
                if at.is_over() || task.is_root() {
                    return;
                }
                live += 1;
                task.abort_shared();
            });
        }
        if live == 0 {
            return;
        }
        while let Some(task) = team.pop_any() {
            let action = task.move_on(Event::StartPoll);
            debug_assert_eq!(action, Action::Cancel);
            each(cancel(worker, task));
        }
        if seeded("shared_cancels_once") {
            return;
        }
        // What is live still was just woken on another thread, which has yet to push it.
        yield_thread();
    }
}
