//! The table of a group: its places, who waits for one, who is there, and what can be joined.
//!
//! # Problem
//! A task comes in by a spawn that may be told of it late, or be dropped; it may end before its spawn knows of it; and any of
//! this may happen on another thread.
//!
//! # Idea
//! A [`Seat`](super::spawning::Seat) lies beside each future, from the moment on in which the group let it in until it is dropped, whatever drops
//! it. Its entry of the table goes through:
//!
//! | entry | the spawn | the future | next |
//! |---|---|---|---|
//! | `Coming` | was not told yet | exists | it is told: `Task`; its future is gone: `Early`; it is dropped, or its group is: `Left` |
//! | `Early` | was not told yet | is gone | it is told: `Task`, and can be joined; it is dropped: nothing is left |
//! | `Left` | was dropped | exists | its future is gone: nothing is left |
//! | `Task` | is over | exists, or is gone | it can be joined when it is gone, and is removed then |
//!
//! # Read next
//! `spawning.rs`, what moves it.

use std::cell::Cell;
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use slab::Slab;

use crate::admission::{Admission, Door, Key, Ledger, Limit, Look, Offer, Refusal, Spawner, Spot};
use crate::sync::{Mutex, MutexGuard, lock};
use crate::task::{JoinError, JoinHandle, WaitsFor, noted, quietly};

/// Who waits for a place of the group.
pub(super) struct Parked {
    /// `None` after it was woken, until it is polled.
    pub(super) waker: Cell<Option<Waker>>,
    /// In which runtime, and where.
    pub(super) door: Door,
    pub(super) spot: Option<Spot>,
    /// What its child takes in place beyond its frame.
    pub(super) bytes: Option<usize>,
    /// When it was last offered to run its child in place.
    pub(super) offer: Cell<Offer>,
}

/// A child that may wait for room in its spawner's frame, or run there, as of the spawn's last poll.
#[derive(Default)]
pub(super) struct Coming {
    /// Who spawns it, if that is a task.
    pub(super) spawner: Option<Spawner>,
    /// Whether it stands in the runtime's line.
    pub(super) is_in_line: bool,
    /// Who is to be told if the group ends first; `None` until it was polled in vain.
    pub(super) waker: Option<Waker>,
}

impl Coming {
    pub(super) fn of(spawner: Option<Spawner>) -> Self {
        Self { spawner, ..Self::default() }
    }
}

/// Who is in the group; see the module's doc.
enum Member<T: 'static> {
    Coming(Coming),
    Early,
    Left,
    Task(JoinHandle<T>),
}

impl<T> Member<T> {
    /// Whether it has a place of the group, or was lent one.
    fn holds(&self) -> bool {
        match self {
            Member::Coming(_) | Member::Left => true,
            Member::Early => false,
            Member::Task(handle) => !handle.is_finished(),
        }
    }

    /// Whether it holds one and will go on, for all that is known on this thread.
    fn moves(&self) -> bool {
        match self {
            Member::Coming(coming) => !coming.spawner.is_some_and(Spawner::is_stuck),
            Member::Early => false,
            Member::Left => true,
            Member::Task(handle) => {
                !handle.is_finished() && handle.here().is_none_or(|task| !task.is_stuck())
            }
        }
    }

    /// Whether it waits for room in the runtime, maybe besides.
    fn waits_for_room(&self) -> bool {
        match self {
            Member::Coming(coming) => coming.is_in_line,
            Member::Early | Member::Left => false,
            Member::Task(handle) => handle.here().is_some_and(|task| task.waits_for_place()),
        }
    }
}

struct State<T: 'static> {
    /// The group's places; closed when the group is gone.
    places: Ledger<Parked>,
    members: Slab<Member<T>>,
    /// How many of them are `Task`.
    tasks: usize,
    /// Those of them whose future is gone, in that order.
    finished: VecDeque<usize>,
    joiner: Option<Waker>,
    /// The runtimes that know that somebody waits here; one mostly.
    registered: Vec<Door>,
    /// A member that moved when all were looked at last.
    witness: usize,
    /// Children in place that hold no place of the group.
    lent: usize,
    /// How many wait for all to be gone, so that who comes in is aborted at once.
    shutdowns: usize,
}

/// A group's table behind its lock.
pub(super) struct Shared<T: 'static> {
    state: Mutex<State<T>>,
}

/// What became of a wait for a place of the group.
pub(super) enum Waited {
    /// It has one; the number of its seat.
    Seated(usize),
    /// It goes on, and was last made this offer.
    Still(Offer),
    Closed,
    QueueFull,
}

impl<T> Shared<T> {
    pub(super) fn new(limit: Option<usize>) -> Self {
        let state = State {
            places: Ledger::new([limit.unwrap_or(usize::MAX)]),
            members: Slab::new(),
            tasks: 0,
            finished: VecDeque::new(),
            joiner: None,
            registered: Vec::new(),
            witness: 0,
            lent: 0,
            shutdowns: 0,
        };
        Self { state: Mutex::new(state) }
    }

    pub(super) fn limit(&self) -> Option<usize> {
        let [limit] = lock(&self.state).places.limit();
        (limit != usize::MAX).then_some(limit)
    }

    pub(super) fn len(&self) -> usize {
        lock(&self.state).tasks
    }

    // What a spawn does.

    /// A place at once, or why not.
    pub(super) fn try_seat(&self, spawner: Option<Spawner>) -> Result<usize, Refusal> {
        let mut state = lock(&self.state);
        state.places.try_acquire([1])?;
        Ok(state.members.insert(Member::Coming(Coming::of(spawner))))
    }

    /// Stands in line for a place, unless there is one by now; what is not needed of `parked` is for the caller to drop.
    pub(super) fn wait(
        self: &Arc<Self>,
        parked: Parked,
        admission: &Admission,
    ) -> Result<Key, (Parked, Waited)> {
        let door = parked.door;
        let mut state = lock(&self.state);
        match state.places.try_acquire([1]) {
            Ok(()) => {
                let spawner = parked.spot.map(Spot::spawner);
                let seat = state.members.insert(Member::Coming(Coming::of(spawner)));
                return Err((parked, Waited::Seated(seat)));
            }
            Err(Refusal::Full | Refusal::Queued) => {}
            Err(_) => return Err((parked, Waited::Closed)),
        }
        if state.places.waiting() >= admission.waiting_max() {
            return Err((parked, Waited::QueueFull));
        }
        let key = state.places.enqueue([1], parked);
        self.register(state, door, admission);
        Ok(key)
    }

    /// Has the runtime behind `door` know that somebody waits here.
    fn register(self: &Arc<Self>, mut state: MutexGuard<'_, State<T>>, door: Door, admission: &Admission) {
        if state.registered.contains(&door) {
            return;
        }
        // Of a runtime that has ended, its place is the next one's.
        state.registered.retain(|known| !std::ptr::eq(known.desk, door.desk));
        state.registered.push(door);
        drop(state);
        let this = Arc::downgrade(self);
        admission.register(this);
    }

    /// Looks whether the wait is over, and goes on to wait with `parked`; what is not needed of it, or of what it waited with
    /// before, is for the caller to drop.
    pub(super) fn look(
        self: &Arc<Self>,
        key: Key,
        parked: Parked,
        admission: &Admission,
    ) -> (Parked, Waited) {
        let door = parked.door;
        let mut state = lock(&self.state);
        if let Some(waiting) = state.places.get_mut(key) {
            let offer = waiting.offer.get();
            parked.offer.set(offer);
            let old = std::mem::replace(waiting, parked);
            self.register(state, door, admission);
            return (old, Waited::Still(offer));
        }
        if !state.places.was_granted(key) {
            return (parked, Waited::Closed);
        }
        let spawner = parked.spot.map(Spot::spawner);
        let seat = state.members.insert(Member::Coming(Coming::of(spawner)));
        (parked, Waited::Seated(seat))
    }

    /// Leaves the line to run a child in place, without a place of the group, unless it was given one since it looked: the
    /// number of its seat, whether that is paid for, and what it waited with, for the caller to drop. Nobody behind it is let
    /// in by that, since there is no room.
    pub(super) fn lend(&self, key: Key, spawner: Option<Spawner>) -> (usize, bool, Option<Parked>) {
        let mut state = lock(&self.state);
        let left = state.places.cancel(key);
        // [GROUP-1]
        let is_paid = left.is_none() && state.places.was_granted(key);
        if !is_paid {
            state.lent += 1;
        }
        (state.members.insert(Member::Coming(Coming::of(spawner))), is_paid, left)
    }

    /// Leaves the line, or gives back the place that it was given meanwhile.
    pub(super) fn unwait(&self, key: Key) {
        let left = {
            let mut state = lock(&self.state);
            let left = state.places.cancel(key);
            if left.is_none() && state.places.was_granted(key) {
                // [GROUP-1] It will not be polled again.
                state.places.release([1]);
            }
            left
        };
        self.pass_on();
        drop(left);
    }

    /// The spawn of `seat` was polled in vain: it goes on as `coming` says. False if the group is gone, and so must the child;
    /// what was noted before is for the caller to drop.
    pub(super) fn still(&self, seat: usize, coming: &mut Coming) -> bool {
        let mut state = lock(&self.state);
        if let Member::Coming(old) = &mut state.members[seat] {
            std::mem::swap(old, coming);
        }
        !state.places.is_closed()
    }

    /// Whether the group is gone.
    pub(super) fn is_closed(&self) -> bool {
        lock(&self.state).places.is_closed()
    }

    /// The spawn of `seat` was told of its task; false if the group is gone, and so must the task.
    pub(super) fn told(&self, seat: usize, handle: JoinHandle<T>) -> bool {
        let (old, joiner) = {
            let mut state = lock(&self.state);
            if state.places.is_closed() {
                drop(state);
                self.left(seat);
                // [GROUP-2]
                handle.abort();
                quietly(|| drop(handle));
                return false;
            }
            if state.shutdowns > 0 {
                handle.abort();
            }
            let old = std::mem::replace(&mut state.members[seat], Member::Task(handle));
            state.tasks += 1;
            let joiner = if let Member::Early = old { state.finish(seat) } else { None };
            (old, joiner)
        };
        wake(joiner);
        quietly(|| drop(old));
        true
    }

    /// The spawn of `seat` is gone, or failed, and was not told of a task.
    pub(super) fn left(&self, seat: usize) {
        let old = {
            let mut state = lock(&self.state);
            match state.members[seat] {
                Member::Early => state.members.remove(seat),
                _ => std::mem::replace(&mut state.members[seat], Member::Left),
            }
        };
        // [GROUP-2]
        quietly(|| drop(old));
    }

    // What a task does.

    /// The future of `seat` is gone. `is_paid` if it held a place of the group, and was not only lent one.
    pub(super) fn vacate(&self, seat: usize, is_paid: bool) {
        let (old, joiner) = {
            let mut state = lock(&self.state);
            if is_paid {
                // [GROUP-1]
                state.places.release([1]);
            } else {
                state.lent -= 1;
            }
            match &mut state.members[seat] {
                Member::Left => (Some(state.members.remove(seat)), None),
                Member::Task(_) => (None, state.finish(seat)),
                coming => (Some(std::mem::replace(coming, Member::Early)), None),
            }
        };
        self.pass_on();
        wake(joiner);
        quietly(|| drop(old));
    }

    /// Gives free places to those who wait.
    fn pass_on(&self) {
        loop {
            let granted = lock(&self.state).places.grant();
            match granted {
                Some((_, parked)) => wake(parked.waker.take()),
                None => break,
            }
        }
    }

    // What the group does.

    pub(super) fn poll_join_next(&self, cx: &mut Context<'_>) -> Poll<Option<Result<T, JoinError>>> {
        let mut waker = None;
        let (handle, old) = loop {
            let mut state = lock(&self.state);
            if let Some(handle) = state.take_finished() {
                break (handle, waker);
            }
            if state.tasks == 0 {
                return Poll::Ready(None);
            }
            if state.joiner.as_ref().is_some_and(|old| old.will_wake(cx.waker())) {
                return noted(WaitsFor::JOIN, Poll::Pending);
            }
            match waker.take() {
                Some(new) => {
                    let old = state.joiner.replace(new);
                    // [GROUP-2]
                    drop(state);
                    drop(old);
                    return noted(WaitsFor::JOIN, Poll::Pending);
                }
                // Its clone is the caller's code, so what is there is looked at again after it.
                None => drop(state),
            }
            waker = Some(cx.waker().clone());
        };
        drop(old);
        self.poll_finished(handle, cx).map(Some)
    }

    pub(super) fn try_join_next(&self) -> Option<Result<T, JoinError>> {
        let handle = lock(&self.state).take_finished()?;
        handle.try_take().map_err(|handle| self.put_back(handle)).ok()
    }

    fn poll_finished(&self, mut handle: JoinHandle<T>, cx: &mut Context<'_>) -> Poll<Result<T, JoinError>> {
        let polled = Pin::new(&mut handle).poll(cx);
        if polled.is_pending() {
            // It is the scheduler's turn; or this is another thread, and the last step is not done yet.
            self.put_back(handle);
        }
        polled
    }

    /// Puts back who was not joined after all, to be the next.
    fn put_back(&self, handle: JoinHandle<T>) {
        let mut state = lock(&self.state);
        let seat = state.members.insert(Member::Task(handle));
        state.tasks += 1;
        state.finished.push_front(seat);
    }

    pub(super) fn abort_all(&self) {
        for (_, member) in &lock(&self.state).members {
            if let Member::Task(handle) = member {
                handle.abort();
            }
        }
    }

    /// Aborts all, and whoever comes in until the guard is dropped.
    pub(super) fn shut_down(&self) -> Shutdown<'_, T> {
        lock(&self.state).shutdowns += 1;
        self.abort_all();
        Shutdown(self)
    }

    /// The group is gone: nobody comes in any more, and who is there is aborted.
    pub(super) fn end(&self) {
        let (mut handles, mut wakers) = (Vec::new(), Vec::new());
        {
            let mut state = lock(&self.state);
            state.places.close();
            state.tasks = 0;
            while let Some(seat) = state.finished.pop_front() {
                if let Member::Task(handle) = state.members.remove(seat) {
                    handles.push(handle);
                }
            }
            for (_, member) in &mut state.members {
                match member {
                    Member::Task(_) => {
                        if let Member::Task(handle) = std::mem::replace(member, Member::Left) {
                            handles.push(handle);
                        }
                    }
                    // Its spawn takes it back, or ends it where it runs.
                    Member::Coming(coming) => wakers.extend(coming.waker.take()),
                    Member::Early | Member::Left => {}
                }
            }
        }
        for handle in handles {
            handle.abort();
            // An output that nobody took is the caller's code when it is dropped.
            quietly(|| drop(handle));
        }
        loop {
            let evicted = lock(&self.state).places.evict();
            match evicted {
                Some(parked) => wake(parked.waker.take()),
                None => break,
            }
        }
        let joiner = lock(&self.state).joiner.take();
        wake(joiner);
        wakers.into_iter().for_each(|waker| wake(Some(waker)));
    }
}

/// While somebody waits for all to be gone.
pub(super) struct Shutdown<'a, T: 'static>(&'a Shared<T>);

impl<T> Drop for Shutdown<'_, T> {
    fn drop(&mut self) {
        lock(&self.0.state).shutdowns -= 1;
    }
}

impl<T> State<T> {
    /// A task that can be joined, the first that ended.
    fn take_finished(&mut self) -> Option<JoinHandle<T>> {
        let seat = self.finished.pop_front()?;
        let Member::Task(handle) = self.members.remove(seat) else {
            unreachable!("only tasks can be joined")
        };
        self.tasks -= 1;
        Some(handle)
    }

    /// A task can be joined; who is to be told.
    fn finish(&mut self, seat: usize) -> Option<Waker> {
        self.finished.push_back(seat);
        self.joiner.take()
    }

    /// Whether somebody who holds a place of the group will go on, for all that is known.
    fn moves(&mut self) -> bool {
        if self.members.get(self.witness).is_some_and(Member::moves) {
            return true;
        }
        if let Some((seat, _)) = self.members.iter().find(|(_, member)| member.moves()) {
            self.witness = seat;
            return true;
        }
        // Places that were given to spawns which have not seen it yet.
        let holders = self.members.iter().filter(|(_, member)| member.holds()).count();
        let [in_use] = self.places.in_use();
        in_use > holders.saturating_sub(self.lent)
    }
}

impl<T> Limit for Shared<T> {
    fn offer(&self, look: &Look<'_>) -> Option<Waker> {
        let mut state = lock(&self.state);
        if state.moves() && (look.is_armed)() {
            return None;
        }
        let members = &state.members;
        // Who waits for room that there will be is not stuck for long.
        let there_will_be_room =
            look.moves && (look.is_armed)() && members.iter().any(|(_, member)| member.waits_for_room());
        let is_member = |spot: Spot| {
            members.iter().any(|(_, member)| match member {
                Member::Task(handle) => handle.here().is_some_and(|task| spot.is_of(task)),
                _ => false,
            })
        };
        for (_, parked) in state.places.waiters() {
            let may = parked.door == look.door
                && look.may_lend(parked.spot, parked.bytes, parked.offer.get())
                && (!there_will_be_room || parked.spot.is_some_and(is_member));
            if may {
                parked.offer.set(look.offer);
                if let Some(waker) = parked.waker.take() {
                    return Some(waker);
                }
            }
        }
        None
    }

    fn waiting(&self, door: Door) -> usize {
        let mut state = lock(&self.state);
        // The first is from there, unless several runtimes share the group.
        if state.places.waiters().any(|(_, parked)| parked.door == door) {
            return state.places.waiting();
        }
        state.registered.retain(|known| *known != door);
        0
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        quietly(|| waker.wake());
    }
}
