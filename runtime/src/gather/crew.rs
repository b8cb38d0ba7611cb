//! The loop: who is polled next, who may start, and when the caller's turn comes.
//!
//! # Problem
//! Many futures share one poll of their parent. Each must be polled when it was woken and not otherwise; none may keep the
//! others, or the parent's own neighbours, from running; and an item may be taken only when its future may start.
//!
//! # Idea
//! A *turn* is what happens between two `Pending`s. At its start the line of woken groups is taken, once; what is woken later
//! is for the next turn, which this one asks for by waking the parent. So a child that wakes itself is polled once a turn, and
//! `yield_now` in a child lets the parent's neighbours run as it does in a task. A turn ends after [`POLLS_MAX`] polls in
//! any case, and the next goes on where it stopped.
//!
//! While there is room, starting goes before polling what was woken, so that the limit is reached. Who ends in its first
//! poll does not use the room up, and would go on for ever: after each of those one woken child is polled.
//!
//! # Bounds
//! `limit` children, in places that are used again. Of wakes nothing is stored but bits.
//!
//! # Invariants
//! - [GATHER-7] After a panic in a child, the closure or the iterator all children are dropped before it goes on, and nothing
//!   is polled or taken any more.
//!
//! # Rejected
//! To go on until nothing is woken: two children that wake each other would never let the parent go. The runtime's own
//! budget for a poll: it is another runtime's poll as often as not, and two gathers in one task would take it from each
//! other.
//!
//! # Read next
//! `../gather.rs`, the front; `wake.rs`, the line.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use super::slots::{SLOTS_MAX, Slots};
use super::wake::{GROUP, Owner, Taken};

/// How many children a turn polls at most: as many operations as a task of the runtime may complete in one poll.
const POLLS_MAX: u32 = 128;

pin_project! {
    /// A started future and the number of its item.
    #[derive(Debug)]
    struct Child<F> {
        number: usize,
        #[pin]
        future: F,
    }
}

/// Items, what makes futures of them, and those that have started.
pub(super) struct Crew<I, C, F> {
    items: I,
    each: C,
    limit: usize,
    state: State,
    /// How many items were taken, and how many of their futures have not ended.
    taken: usize,
    live: usize,
    /// From the first poll on.
    started: Option<Started<F>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// There may be more items.
    Taking,
    /// There are none.
    Taken,
    /// All is over.
    Ended,
    /// And that by a panic.
    Panicked,
}

struct Started<F> {
    owner: Owner,
    slots: Slots<Child<F>>,
    /// Used places that are free, while there are items to fill them with.
    vacant: Vec<u32>,
    turn: Turn,
}

/// What is left of this turn.
struct Turn {
    polls_left: u32,
    /// Whether the line was taken, or there is still something left of an earlier one.
    has_begun: bool,
    /// The last start ended at once: a woken child comes before the next.
    woken_first: bool,
    /// Of the line: the group whose bits these are, and those after it.
    group: usize,
    bits: u32,
    rest: Taken,
}

impl<F> Started<F> {
    fn new(limit: usize) -> Self {
        let owner = Owner::new();
        let slots = Slots::new(&owner, limit);
        let turn = Turn {
            polls_left: POLLS_MAX,
            has_begun: false,
            woken_first: false,
            group: 0,
            bits: 0,
            rest: Taken::END,
        };
        Self { owner, slots, vacant: Vec::new(), turn }
    }

    /// Begins a turn, unless this is one: takes the line of those that were woken until now.
    #[inline]
    fn begin_turn(&mut self) {
        if !self.turn.has_begun {
            self.turn.has_begun = true;
            self.turn.rest = self.owner.take();
        }
    }

    /// The slot of a child that was woken before this turn, or of one that is gone.
    #[inline]
    fn next_woken(&mut self) -> Option<usize> {
        let turn = &mut self.turn;
        while turn.bits == 0 {
            turn.group = turn.rest.group()?;
            let (groups, index) = self.slots.groups(turn.group);
            (turn.bits, turn.rest) = groups.look(index, turn.rest);
        }
        let tag = turn.bits.trailing_zeros() as usize;
        turn.bits &= turn.bits - 1;
        Some(turn.group * GROUP + tag)
    }

    /// Puts a future where there is room; its slot.
    #[inline]
    fn start(&mut self, make: impl FnOnce() -> Child<F>) -> usize {
        match self.vacant.pop() {
            Some(slot) => {
                let slot = slot as usize;
                self.slots.place(slot).0.set(Some(make()));
                slot
            }
            None => self.slots.push(&self.owner, make),
        }
    }

    /// Ends the turn with work left: the parent is polled again.
    fn pause(&mut self, cx: &Context<'_>) {
        let turn = &mut self.turn;
        turn.polls_left = POLLS_MAX;
        // What is left of the line comes first, and what was woken meanwhile has a turn of its own.
        turn.has_begun = turn.bits != 0 || turn.rest.group().is_some();
        cx.waker().wake_by_ref();
    }

    /// Ends the turn with nothing left but what was woken meanwhile: the parent is polled again when a child is woken.
    fn sleep(&mut self, cx: &Context<'_>) {
        if self.owner.sleep(cx.waker()) {
            self.turn.polls_left = POLLS_MAX;
            self.turn.has_begun = false;
        } else {
            self.pause(cx);
        }
    }
}

impl<F: Future> Started<F> {
    /// Polls the child in a slot, if there is one; what it ended with. It is dropped then, where it lies.
    #[inline]
    fn poll(&mut self, slot: usize) -> Option<(usize, F::Output)> {
        self.turn.polls_left = self.turn.polls_left.saturating_sub(1);
        let (mut place, groups, index) = self.slots.place(slot);
        let child = place.as_mut().as_pin_mut()?.project();
        let polled = groups.with_waker(index, |waker| child.future.poll(&mut Context::from_waker(waker)));
        let Poll::Ready(output) = polled else { return None };
        let number = *child.number;
        place.set(None);
        Some((number, output))
    }
}

impl<I, C, F> Crew<I, C, F>
where
    I: Iterator,
    C: FnMut(I::Item) -> F,
    F: Future,
{
    pub(super) const fn new(items: I, each: C, limit: usize) -> Self {
        Self { items, each, limit, state: State::Taking, taken: 0, live: 0, started: None }
    }

    /// Sets the limit, of what `who` names.
    #[track_caller]
    pub(super) fn set_limit(&mut self, who: &str, limit: usize) {
        assert!(limit > 0, "{who}::limit: the limit must be at least 1");
        assert!(self.started.is_none(), "{who}::limit: it was polled already");
        self.limit = limit;
    }

    /// How many results there may still be: those of who is live, and what the iterator says of the rest.
    #[cfg(feature = "futures-core")]
    pub(super) fn size_hint(&self) -> (usize, Option<usize>) {
        let (least, most) = if self.state == State::Taking { self.items.size_hint() } else { (0, Some(0)) };
        (least.saturating_add(self.live), most.and_then(|most| most.checked_add(self.live)))
    }

    /// Whether it was ended, and not by a panic.
    pub(super) fn has_ended(&self) -> bool {
        self.state == State::Ended
    }

    /// The first poll: room for as many as may be live. A size hint that is too low only lowers the limit.
    #[cold]
    fn begin(&mut self) -> &mut Started<F> {
        let items_max = self.items.size_hint().1.unwrap_or(usize::MAX);
        self.limit = self.limit.min(items_max).clamp(1, SLOTS_MAX);
        self.started.insert(Started::new(self.limit))
    }

    /// Goes on until a child ends: its number and output, or `None` when all have.
    #[inline]
    pub(super) fn poll_ended(&mut self, cx: &Context<'_>) -> Poll<Option<(usize, F::Output)>> {
        if self.started.is_none() {
            self.begin();
        }
        let started = self.started.as_mut().expect("it has just begun");
        started.begin_turn();
        loop {
            if started.turn.polls_left == 0 {
                started.pause(cx);
                return Poll::Pending;
            }
            let may_start = self.live < self.limit && self.state == State::Taking;
            let mut woken = None;
            if !may_start || started.turn.woken_first {
                started.turn.woken_first = false;
                woken = started.next_woken();
            }
            let slot = match woken {
                Some(slot) => slot,
                None if may_start => {
                    let Some(item) = self.items.next() else {
                        self.state = State::Taken;
                        continue;
                    };
                    let number = self.taken;
                    self.taken += 1;
                    let each = &mut self.each;
                    let slot = started.start(|| Child { number, future: each(item) });
                    self.live += 1;
                    slot
                }
                None if self.live == 0 => return Poll::Ready(None),
                None => {
                    started.sleep(cx);
                    return Poll::Pending;
                }
            };
            if let Some(ended) = started.poll(slot) {
                self.live -= 1;
                started.turn.woken_first = woken.is_none();
                if self.state == State::Taking {
                    started.vacant.push(slot as u32);
                }
                return Poll::Ready(Some(ended));
            }
        }
    }
}

impl<I, C, F> Crew<I, C, F> {
    /// What its front shows of it.
    pub(super) fn describe(&self, who: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(who)
            .field("limit", &self.limit)
            .field("taken", &self.taken)
            .field("live", &self.live)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }

    /// Runs `f`, which is a poll of `who`. Polled after its end, it panics.
    #[inline]
    pub(super) fn run<R>(&mut self, who: &str, f: impl FnOnce(&mut Self) -> R) -> R {
        match self.state {
            State::Taking | State::Taken => {}
            State::Ended => panic!("{who} was polled after it was ready"),
            State::Panicked => panic!("{who} was polled after it had panicked"),
        }
        match catch_unwind(AssertUnwindSafe(|| f(self))) {
            Ok(result) => result,
            Err(payload) => self.give_up(payload),
        }
    }

    /// [GATHER-7]
    #[cold]
    fn give_up(&mut self, payload: Payload) -> ! {
        let mut panic = FirstPanic(Some(payload));
        self.end(&mut panic);
        self.state = State::Panicked;
        panic.go_on();
        unreachable!("it has panicked before")
    }

    /// Ends it, from within a poll.
    #[cold]
    pub(super) fn finish(&mut self) {
        let mut panic = FirstPanic::default();
        self.end(&mut panic);
        panic.go_on();
    }

    /// Drops all children and gives the memory back.
    fn end(&mut self, panic: &mut FirstPanic) {
        self.state = State::Ended;
        self.live = 0;
        let Some(mut started) = self.started.take() else { return };
        // First, so that no drop of a child wakes the parent.
        let parent = started.owner.close();
        for slot in 0..started.slots.used() {
            if std::mem::needs_drop::<F>() {
                panic.catch(|| started.slots.place(slot).0.set(None));
            }
        }
        panic.catch(|| drop(parent));
    }
}

impl<I, C, F> Drop for Crew<I, C, F> {
    fn drop(&mut self) {
        let mut panic = FirstPanic::default();
        self.end(&mut panic);
        panic.go_on();
    }
}

type Payload = Box<dyn Any + Send>;

/// The first of several panics, which goes on when all has been done; the later ones are nobody's to hear.
#[derive(Default)]
pub(super) struct FirstPanic(Option<Payload>);

impl FirstPanic {
    /// Runs `f`, which may panic.
    #[inline]
    pub(super) fn catch(&mut self, f: impl FnOnce()) {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(f)) {
            self.keep(payload);
        }
    }

    #[cold]
    fn keep(&mut self, payload: Payload) {
        if self.0.is_none() {
            self.0 = Some(payload);
        } else {
            crate::task::quietly(|| drop(payload));
        }
    }

    /// Panics if anything did, unless a panic is on its way out of this thread already.
    pub(super) fn go_on(self) {
        if let Some(payload) = self.0 {
            if std::thread::panicking() {
                crate::task::quietly(|| drop(payload));
            } else {
                resume_unwind(payload);
            }
        }
    }
}
