//! When a worker of the work-stealing mode sleeps, and who rings it.
//!
//! # Problem
//! A worker that finds no task must sleep, and somebody must wake it when there is one. A wake that is forgotten is a task
//! that never runs; a wake too many costs more than fifty polls, if it goes to another core. And most pushes come from a
//! worker that will run the task itself, where even one locked instruction would be dear.
//!
//! # Idea
//! A worker looks into its own ring, then into the injector; then it *searches*, which is to look into the rings of all
//! others; then it sleeps. One word counts who searches and who sleeps, and a list, changed under one lock together with
//! the word, says who the sleepers are. How they sleep (in the driver, on a parker) and how they are rung is their
//! loop's business; here they are numbers.
//!
//! ```text
//!            begin_search                prepare_sleep
//!     awake -------------> searching ------------------> asleep ---+ notify: rung, and searching from there on
//!       ^                  |     ^                                 |
//!       +------------------+     +---------------------------------+ wake_up: a time-out, an event, a second look
//!         end_search: found
//! ```
//!
//! A burst wakes one worker after the other: who searches is relied upon, so nobody is rung while somebody searches; who
//! finds something, and was the last to search, rings the next.
//!
//! # Races
//! 1. *A push against a worker that goes to sleep.* The pusher pushes, changes the word (by nothing: [`Idle::notify`]), and
//!    rings a sleeper that it finds there. The worker changes the word ([`Idle::prepare_sleep`]), looks at everything again,
//!    and waits. Of two read-modify-writes of one word one is first: either the pusher's, and then the worker's reads it and
//!    with it sees what was pushed; or the worker's, and then the pusher finds it asleep. All changes of the word are
//!    read-modify-writes, so that this holds across those in between. A ring that comes too late makes one empty turn.
//! 2. *A push against the last searcher.* The pusher that finds a searcher rings nobody. The searcher leaves in one of two
//!    ways, both by a change of the word that comes after the pusher's. It gives up: then the step is `prepare_sleep`, and it
//!    looks at everything after that. Or it has found something, maybe another thing: then [`Idle::end_search`] tells whether
//!    it was the last, and, if there is more to be seen *after* that step, rings another. Who leaves and is not the last
//!    leaves another searcher, who is bound by the same. And if nobody sleeps, all look before they do.
//! 3. *A time-out against a ring.* Whoever has the lock first takes the worker out of the list, and changes the word in the
//!    same stretch. The other finds it gone: `wake_up` then says that it was rung, `notify` takes another. Both ways it is
//!    counted once, as a searcher.
//! 4. *A push to the own ring* changes nothing here, it only looks ([`Idle::notify_cheaply`]). So its look may be too early to
//!    see a worker that goes to sleep, and that worker's look too early to see the push. Nothing is lost, since the ring's
//!    owner runs what is in it; but if it polls something long first, and nobody else looks, then that stands still beside
//!    sleeping workers. So one of them is the *lookout*, which sleeps for [`LOOKOUT_WAIT`] at most, and looks again. A lookout
//!    is not needed while all sleep, and before long there is none then: an idle process has no timer.
//!
//! That there always is who looks, by induction: a worker becomes the lookout when it goes to sleep, somebody is awake, and
//! there is none. It is the last to be rung. When it wakes by itself it searches. Does it find nothing, it is the lookout
//! again. Does it find something, the last searcher rings another in its place, to which the same applies; but not if
//! that searcher is the only one awake, since then all others were asleep before its last change of the word, so that its own
//! looks see them, and it rings one with its next push. In the same way the first to wake when all slept sees all of them.
//!
//! Who is the lookout matters for what it costs. The worker in the driver is the first to be busy when something happens, and
//! would have to ring another in its place; so one that sleeps elsewhere takes the role over from it. And a lookout that is rung
//! again as soon as it has gone to sleep for long, as by a timer each millisecond, *lingers*: it stays the lookout for some
//! rounds while all sleep, so that nobody has to ring it.
//!
//! # Bounds
//! At most half of the workers begin to search at once, rounded up: more find nothing but each other. Those that wake come
//! on top, since a notified one must look. Locked instructions, where taking a lock and giving it back are two:
//!
//! | operation | | |
//! |---|---|---|
//! | `notify` | nobody to ring 1 | rings 4 |
//! | `notify_cheaply` | nobody to ring 0 | rings 3 |
//! | `begin_search` | enough search 0 | 1 |
//! | `end_search` | nobody to ring 1 | rings 4 |
//! | `prepare_sleep` | 3 | |
//! | `wake_up` | was rung 2 | of itself 3 |
//!
//! On x86 the compiler makes a fence and a load of a `notify` that rings nobody, so that it does not even write the word.
//!
//! The list has room for all workers from the start, so that nothing here allocates later.
//!
//! # Invariants
//! - [IDLE-1] A worker that prepared to sleep sees in its second look what was pushed before a `notify` that did not ring.
//! - [IDLE-2] Whenever the lock is free, the word's sleepers and lookout are those of the list: the real ones.
//! - [IDLE-3] A worker in `prepare_sleep` and after it, until it is rung or wakes up, is no searcher; from there until
//!   `end_search` or the next `prepare_sleep` it is one, once.
//! - [IDLE-4] While somebody is awake and somebody sleeps, there is a lookout, or a searcher, or each worker that is awake
//!   sees the sleepers and rings one when it pushes.
//!
//! # Rejected
//! - To ring at every push: two tasks that wake each other on one worker would ring another core at every step.
//! - One condvar for all: a lock at every push, and it wakes whom the system likes, not who slept last.
//! - Two fences and plain accesses, in place of the read-modify-writes: as dear, with three threads' fences to argue about,
//!   and a model checker takes accesses that are sequentially consistent for weaker ones than they are.
//! - A fence at each push to the own ring: a locked instruction a wake, for parallelism that comes a millisecond later
//!   without it. A barrier that the sleeper forces on all others (`membarrier`) spares the fence, and interrupts each core at
//!   each sleep.
//! - A bound for each sleeper, in place of a lookout: with one long poll all others would wake a thousand times a second.
//! - Counts of awake workers that change apart from the list: between the two, a worker is rung that is not there, or is
//!   there and counted as awake; counts that went wrong so stayed wrong.
//! - All in one word of 64 bits, with a bit for each sleeper: no lock, and no count that could be wrong. But some fifty
//!   workers at most, on targets that have such an atomic; and the lock is taken only beside a system call.
//! - Who finds something always rings another if it was the last to search: then each event that wakes an idle process wakes
//!   two workers, the second for nothing.
//!
//! # Read next
//! `inbox.rs`, the same argument for one sleeper.

use std::time::Duration;

use crate::sync::{AtomicU32, Mutex, MutexGuard, Ordering, lock, seeded};

/// How long a lookout sleeps at most: what a long poll keeps from others stands still no longer than that.
pub(crate) const LOOKOUT_WAIT: Duration = Duration::from_millis(1);

/// So many fit in the word.
pub(crate) const WORKERS_MAX: usize = 0x7fff;

/// How a worker that has prepared to sleep waits, if it finds nothing in its second look.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sleep {
    /// As the lookout: for [`LOOKOUT_WAIT`] at most, or until it is rung.
    Short,
    /// Until it is rung.
    Long,
}

/// Where a worker sleeps, and how readily it is the lookout.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bed {
    /// In the driver.
    pub(crate) sits: bool,
    /// It is the lookout also when it is the last to go to sleep.
    pub(crate) lingers: bool,
}

/// Who searches and who sleeps, of a fixed number of workers.
pub(crate) struct Idle {
    /// See [`Word`]; the half of the sleepers changes only under the lock of `sleepers`, the other at any time.
    word: AtomicU32,
    sleepers: Mutex<Sleepers>,
    workers: u32,
}

impl Idle {
    /// All workers are awake, and none searches.
    ///
    /// # Panics
    /// If there are no workers, or more than [`WORKERS_MAX`].
    pub(crate) fn new(workers: usize) -> Self {
        assert!((1..=WORKERS_MAX).contains(&workers), "{workers} workers");
        Self {
            word: AtomicU32::new(0),
            sleepers: Mutex::new(Sleepers { long: Vec::with_capacity(workers), lookout: None }),
            workers: workers as u32,
        }
    }

    /// Any thread, after it pushed where all look: the worker to ring, which counts as searching from here; or `None`, because
    /// all are awake, or because somebody searches and will see what was pushed.
    #[must_use = "who is named here and not rung sleeps on"]
    pub(crate) fn notify(&self) -> Option<usize> {
        // Ordering: AcqRel. Release pairs with the Acquire of those who change the word later and then look: in `prepare_sleep`
        // and `end_search` [IDLE-1]. A read-modify-write, since a load could miss a worker that misses the push.
        let word = if seeded("idle_notify_plain") {
            self.look()
        } else {
            Word(self.word.fetch_add(0, Ordering::AcqRel))
        };
        if word.asleep() == 0 || word.searching() > 0 {
            return None;
        }
        self.claim()
    }

    /// A worker that is awake and does not search, after each push to its own ring: the worker to ring, or `None`. With
    /// `backlog` it says that more has lain there for a while than it gets done, and wants another at work; without, one is
    /// rung only if nobody looks out: it then takes what it finds, or is the lookout. No locked instruction if nobody is rung.
    #[must_use = "who is named here and not rung sleeps on"]
    #[inline]
    pub(crate) fn notify_cheaply(&self, backlog: bool) -> Option<usize> {
        let word = self.look();
        if word.asleep() == 0 || word.searching() > 0 || (word.has_lookout() && !backlog) {
            return None;
        }
        self.claim()
    }

    /// Hands each sleeper to `ring`, once. After the stop was made known: who prepares to sleep later sees it.
    pub(crate) fn notify_all(&self, mut ring: impl FnMut(usize)) {
        if seeded("idle_stop_plain") && self.look().asleep() == 0 {
            return;
        }
        loop {
            // The lock orders this with each `prepare_sleep`: one that comes after the list was seen empty sees the stop.
            let mut sleepers = self.lock();
            let Some((worker, role)) = sleepers.pop() else { return };
            // Ordering: AcqRel, as all who change this word.
            self.word.fetch_add(SEARCHER.wrapping_sub(role.unit()), Ordering::AcqRel);
            drop(sleepers);
            ring(worker);
        }
    }

    /// A worker that is awake wants to look into the rings of others; false if enough do.
    #[must_use]
    pub(crate) fn begin_search(&self) -> bool {
        let limit = self.workers.div_ceil(2);
        let step = |word| (Word(word).searching() < limit).then(|| word + SEARCHER);
        // Ordering: AcqRel, as all who change this word; Relaxed on refusal, from which nothing follows.
        self.word.fetch_update(Ordering::AcqRel, Ordering::Relaxed, step).is_ok()
    }

    /// A searcher has found something, and is awake from here: the worker to ring, so that others search on. If it was the
    /// last, `more` is asked whether there is anything besides what it has taken: in the injector and in the others' rings. What it
    /// has pushed to its own meanwhile rang nobody: it looks itself, by [`notify_cheaply`](Self::notify_cheaply), after this.
    #[must_use = "who is named here and not rung sleeps on"]
    pub(crate) fn end_search(&self, more: impl FnOnce() -> bool) -> Option<usize> {
        // Ordering: AcqRel. Acquire pairs with the Release in `notify`, so that `more` sees what was pushed by those who relied
        // on this searcher [IDLE-1].
        let ordering = if seeded("idle_end_plain") { Ordering::Relaxed } else { Ordering::AcqRel };
        let before = Word(self.word.fetch_sub(SEARCHER, ordering));
        debug_assert!(before.searching() > 0, "[IDLE-3]");
        if before.searching() > 1 || before.asleep() == 0 || seeded("idle_never_last") {
            return None;
        }
        // [IDLE-4]: without a lookout, somebody awake may have relied on this searcher with a push that `more` does not see.
        let is_alone = before.asleep() + 1 == self.workers || seeded("idle_trusts_its_look");
        if (!before.has_lookout() && !is_alone) || more() { self.claim() } else { None }
    }

    /// A worker is about to sleep; it no longer searches, if it did. It must look at everything once more, the stop too, and
    /// then either wait as it is told here, or not; both ways it calls [`wake_up`](Self::wake_up) after that.
    pub(crate) fn prepare_sleep(&self, worker: usize, was_searching: bool, bed: Bed) -> Sleep {
        let mut sleepers = self.lock();
        let takes_over = !bed.sits && sleepers.lookout.is_some_and(|(_, sits)| sits);
        if takes_over {
            sleepers.relieve_lookout();
        }
        let is_last = sleepers.count() + 1 == self.workers as usize;
        let is_wanted = sleepers.lookout.is_none() && (takes_over || !is_last || bed.lingers);
        let role = if is_wanted && !seeded("idle_no_lookout") {
            Role::Lookout { sits: bed.sits }
        } else {
            Role::Sleeper
        };
        sleepers.push(worker, role);
        let searcher = if was_searching && !seeded("idle_forgets_to_leave") { SEARCHER } else { 0 };
        // Ordering: AcqRel. Acquire pairs with the Release in `notify`, so that the second look sees what was pushed by who did
        // not find this worker asleep, or found it searching [IDLE-1]. One step for both halves: between two, who pushes
        // would find neither a searcher nor a sleeper, or rely on a searcher that has looked for the last time.
        let ordering = if seeded("idle_sleep_plain") { Ordering::Relaxed } else { Ordering::AcqRel };
        let looked_out = if takes_over && !seeded("idle_takes_over_twice") { LOOKOUT } else { 0 };
        let step = role.unit().wrapping_sub(looked_out).wrapping_sub(searcher);
        let before = Word(self.word.fetch_add(step, ordering));
        debug_assert!(before.searching() >= searcher, "[IDLE-3]");
        match role {
            Role::Lookout { .. } => Sleep::Short,
            Role::Sleeper => Sleep::Long,
        }
    }

    /// After the wait, however it ended, or instead of it. The worker searches from here, whatever the throttle says; true if
    /// that was so already because somebody rang it, or is about to.
    pub(crate) fn wake_up(&self, worker: usize) -> bool {
        let mut sleepers = self.lock();
        let Some(role) = sleepers.remove(worker) else {
            if seeded("idle_counts_twice") {
                self.word.fetch_add(SEARCHER, Ordering::AcqRel);
            }
            return true;
        };
        // Ordering: AcqRel, as all who change this word.
        self.word.fetch_add(SEARCHER.wrapping_sub(role.unit()), Ordering::AcqRel);
        if seeded("idle_stays_listed") {
            sleepers.push(worker, role);
        }
        false
    }

    /// How many sleep; a statistic, unless the caller knows that nobody is on the way.
    pub(crate) fn asleep(&self) -> usize {
        self.look().asleep() as usize
    }

    /// Whether somebody looks out; a hint.
    pub(crate) fn has_lookout(&self) -> bool {
        self.look().has_lookout()
    }

    /// How many search; a statistic, too.
    #[cfg(test)]
    pub(crate) fn searching(&self) -> usize {
        self.look().searching() as usize
    }

    /// Takes a sleeper and makes it a searcher, unless somebody searches: who slept last, because its caches are warm and
    /// because who slept first is more likely to wait in the driver; the lookout only if it is the only one.
    #[cold]
    fn claim(&self) -> Option<usize> {
        let mut sleepers = self.lock();
        let (worker, role) = sleepers.pop()?;
        let step = |word| {
            (Word(word).searching() == 0).then(|| word.wrapping_add(SEARCHER).wrapping_sub(role.unit()))
        };
        // Ordering: AcqRel, as all who change this word. Relaxed if there is a searcher: it joined after the caller's step, so
        // that it leaves after it, and then sees what the caller pushed.
        if self.word.fetch_update(Ordering::AcqRel, Ordering::Relaxed, step).is_err() {
            sleepers.push(worker, role);
            return None;
        }
        Some(worker)
    }

    #[inline]
    fn look(&self) -> Word {
        // Ordering: Relaxed; what follows from it is a hint, see the module's fourth race.
        Word(self.word.load(Ordering::Relaxed))
    }

    fn lock(&self) -> MutexGuard<'_, Sleepers> {
        let sleepers = lock(&self.sleepers);
        debug_assert!(self.agrees(&sleepers), "[IDLE-2]");
        sleepers
    }

    /// Whether the word tells of the list what is in it.
    fn agrees(&self, sleepers: &Sleepers) -> bool {
        let word = self.look();
        word.asleep() as usize == sleepers.count() && word.has_lookout() == sleepers.lookout.is_some()
    }

    /// [`agrees`](Self::agrees), for tests that are built without assertions.
    #[cfg(test)]
    pub(crate) fn is_consistent(&self) -> bool {
        self.agrees(&lock(&self.sleepers))
    }
}

const SEARCHER: u32 = 1;
const SLEEPER: u32 = 1 << 16;
const LOOKOUT: u32 = 1 << 31;

/// ```text
/// bit  31          30 .. 16       15 .. 0
///      a lookout   how many       how many
///      sleeps      sleep          search
/// ```
#[derive(Clone, Copy)]
struct Word(u32);

impl Word {
    #[inline]
    fn searching(self) -> u32 {
        self.0 & (SLEEPER - 1)
    }

    #[inline]
    fn asleep(self) -> u32 {
        (self.0 & (LOOKOUT - 1)) >> 16
    }

    #[inline]
    fn has_lookout(self) -> bool {
        self.0 & LOOKOUT != 0
    }
}

#[derive(Clone, Copy)]
enum Role {
    Sleeper,
    Lookout {
        /// In the driver.
        sits: bool,
    },
}

impl Role {
    /// What one of it is in the word.
    fn unit(self) -> u32 {
        match self {
            Role::Sleeper => SLEEPER,
            Role::Lookout { .. } => SLEEPER + LOOKOUT,
        }
    }
}

/// The sleepers by number: the lookout, and the others in the order in which they went to sleep.
struct Sleepers {
    long: Vec<usize>,
    /// And whether it is in the driver.
    lookout: Option<(usize, bool)>,
}

impl Sleepers {
    fn count(&self) -> usize {
        self.long.len() + usize::from(self.lookout.is_some())
    }

    fn push(&mut self, worker: usize, role: Role) {
        debug_assert!(!self.looks_out(worker) && !self.long.contains(&worker), "{worker} sleeps already");
        match role {
            Role::Sleeper => self.long.push(worker),
            Role::Lookout { sits } => self.lookout = Some((worker, sits)),
        }
    }

    fn looks_out(&self, worker: usize) -> bool {
        self.lookout.is_some_and(|(lookout, _)| lookout == worker)
    }

    /// The lookout sleeps on without the role, for as long as it was to; the first to have gone to sleep, as who sits mostly is.
    fn relieve_lookout(&mut self) {
        if let Some((worker, _)) = self.lookout.take() {
            self.long.insert(0, worker);
        }
    }

    /// The one to ring.
    fn pop(&mut self) -> Option<(usize, Role)> {
        let sleeper = self.long.pop().map(|worker| (worker, Role::Sleeper));
        sleeper.or_else(|| self.lookout.take().map(|(worker, sits)| (worker, Role::Lookout { sits })))
    }

    fn remove(&mut self, worker: usize) -> Option<Role> {
        if let Some((_, sits)) = self.lookout.take_if(|(lookout, _)| *lookout == worker) {
            return Some(Role::Lookout { sits });
        }
        let at = self.long.iter().position(|&other| other == worker)?;
        self.long.remove(at);
        Some(Role::Sleeper)
    }
}

#[cfg(all(test, not(anteroom_loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What the model knows of a worker.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    enum State {
        Awake,
        Searching,
        /// Named by a notification, which it does not know yet.
        Rung,
        Short,
        Long,
    }

    /// Workers by their states, and the sleepers in the order in which they came.
    struct Model {
        states: Vec<State>,
        slept: Vec<usize>,
        sits: Vec<bool>,
    }

    impl Model {
        fn new(workers: usize) -> Self {
            Model { states: vec![State::Awake; workers], slept: Vec::new(), sits: vec![false; workers] }
        }

        fn count(&self, of: &[State]) -> usize {
            self.states.iter().filter(|state| of.contains(state)).count()
        }

        fn searching(&self) -> usize {
            self.count(&[State::Searching, State::Rung])
        }

        fn asleep(&self) -> usize {
            self.count(&[State::Short, State::Long])
        }

        fn has_lookout(&self) -> bool {
            self.count(&[State::Short]) > 0
        }

        fn sleep(&mut self, worker: usize, bed: Bed) -> Sleep {
            let all = self.asleep() + 1 == self.states.len();
            let lookout = self.states.iter().position(|&state| state == State::Short);
            let relieved = lookout.filter(|&other| !bed.sits && self.sits[other]);
            if let Some(other) = relieved {
                // It counts as having gone to sleep first.
                self.states[other] = State::Long;
                self.slept.retain(|&one| one != other);
                self.slept.insert(0, other);
            }
            let short = relieved.is_some() || lookout.is_none() && (!all || bed.lingers);
            self.states[worker] = if short { State::Short } else { State::Long };
            self.slept.push(worker);
            self.sits[worker] = bed.sits;
            if short { Sleep::Short } else { Sleep::Long }
        }

        /// Rings who slept last, the lookout after all others.
        fn ring(&mut self) -> Option<usize> {
            let is_long = |worker: &&usize| self.states[**worker] == State::Long;
            let worker = *self.slept.iter().rev().find(is_long).or(self.slept.last())?;
            self.leave(worker, State::Rung);
            Some(worker)
        }

        fn ring_if_nobody_searches(&mut self) -> Option<usize> {
            if self.searching() > 0 { None } else { self.ring() }
        }

        fn leave(&mut self, worker: usize, state: State) {
            self.slept.retain(|&other| other != worker);
            self.states[worker] = state;
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn it_agrees_with_a_list_of_states(
            workers in 1..7_usize,
            steps in prop::collection::vec((0..12_u8, any::<prop::sample::Index>(), any::<bool>()), 1..150),
        ) {
            // [IDLE-2] [IDLE-3], bugs.md 32
            let idle = Idle::new(workers);
            let mut model = Model::new(workers);
            for (step, which, flag) in steps {
                let worker = which.index(workers);
                match (step, model.states[worker]) {
                    (0, _) => prop_assert_eq!(idle.notify(), model.ring_if_nobody_searches()),
                    (1, State::Awake) => {
                        let expected = if flag || !model.has_lookout() { model.ring_if_nobody_searches() } else { None };
                        prop_assert_eq!(idle.notify_cheaply(flag), expected);
                    }
                    (2, _) if flag => {
                        let expected: Vec<usize> = std::iter::from_fn(|| model.ring()).collect();
                        let mut rung = Vec::new();
                        idle.notify_all(|worker| rung.push(worker));
                        prop_assert_eq!(rung, expected);
                    }
                    (3..6, State::Awake) => {
                        let may = model.searching() < workers.div_ceil(2);
                        prop_assert_eq!(idle.begin_search(), may);
                        if may {
                            model.states[worker] = State::Searching;
                        }
                    }
                    (3..5, State::Searching) => {
                        model.states[worker] = State::Awake;
                        let is_alone = model.asleep() + 1 == workers;
                        let must = flag || !(model.has_lookout() || is_alone);
                        let expected = if must { model.ring_if_nobody_searches() } else { None };
                        prop_assert_eq!(idle.end_search(|| flag), expected);
                    }
                    (5..12, State::Searching) | (6..12, State::Awake) => {
                        let was_searching = model.states[worker] == State::Searching;
                        let bed = Bed { sits: flag, lingers: which.index(3) == 0 };
                        prop_assert_eq!(idle.prepare_sleep(worker, was_searching, bed), model.sleep(worker, bed));
                    }
                    (3..7, State::Short | State::Long) => {
                        prop_assert!(!idle.wake_up(worker));
                        model.leave(worker, State::Searching);
                    }
                    (3..9, State::Rung) => {
                        prop_assert!(idle.wake_up(worker));
                        model.states[worker] = State::Searching;
                    }
                    _ => {}
                }
                prop_assert_eq!((idle.asleep(), idle.searching()), (model.asleep(), model.searching()));
                prop_assert!(idle.is_consistent());
            }
        }
    }

    #[test]
    fn at_most_half_of_the_workers_begin_to_search() {
        for (workers, searchers) in [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3), (WORKERS_MAX, 0x4000)] {
            let idle = Idle::new(workers);
            assert_eq!((0..workers).filter(|_| idle.begin_search()).count(), searchers, "of {workers}");
            assert_eq!(idle.end_search(|| true), None);
            assert!(idle.begin_search() && !idle.begin_search());
        }
    }

    #[test]
    fn as_many_workers_as_there_may_be_have_room_in_the_word() {
        let all = WORKERS_MAX as u32;
        let asleep = Word((all - 1) * Role::Sleeper.unit() + Role::Lookout { sits: false }.unit());
        assert_eq!((asleep.asleep(), asleep.searching(), asleep.has_lookout()), (all, 0, true));
        let searching = Word(all * SEARCHER);
        assert_eq!((searching.asleep(), searching.searching(), searching.has_lookout()), (0, all, false));
    }

    const BED: Bed = Bed { sits: false, lingers: false };

    #[test]
    fn who_sleeps_elsewhere_takes_over_from_who_sits() {
        let idle = Idle::new(3);
        assert_eq!(idle.prepare_sleep(0, false, Bed { sits: true, lingers: false }), Sleep::Short);
        assert_eq!(idle.prepare_sleep(1, false, BED), Sleep::Short);
        assert!(!idle.wake_up(0), "its time was up, or something happened");
        assert_eq!(idle.end_search(|| false), None, "there is a lookout still");
        assert_eq!(idle.notify_cheaply(false), None);
    }

    #[test]
    fn who_lingers_is_the_lookout_while_all_sleep() {
        let idle = Idle::new(2);
        assert_eq!(idle.prepare_sleep(0, false, Bed { sits: true, lingers: false }), Sleep::Short);
        assert!(!idle.wake_up(0));
        assert_eq!(idle.prepare_sleep(0, true, Bed { sits: true, lingers: false }), Sleep::Short);
        assert_eq!(
            idle.prepare_sleep(1, false, Bed { sits: false, lingers: true }),
            Sleep::Short,
            "it takes over"
        );
        assert!(!idle.wake_up(1));
        assert_eq!(idle.prepare_sleep(1, true, Bed { sits: false, lingers: true }), Sleep::Short);
        assert!(!idle.wake_up(1));
        assert_eq!(idle.prepare_sleep(1, true, BED), Sleep::Long, "all sleep, and none looks out");
    }

    #[test]
    fn who_slept_last_is_rung_first_and_the_lookout_last() {
        let idle = Idle::new(5);
        assert_eq!(idle.prepare_sleep(2, false, BED), Sleep::Short);
        assert_eq!(idle.prepare_sleep(0, false, BED), Sleep::Long);
        assert_eq!(idle.prepare_sleep(3, false, BED), Sleep::Long);
        for expected in [3, 0, 2] {
            assert_eq!(idle.notify_cheaply(false), None, "there is a lookout");
            assert_eq!(idle.notify(), Some(expected));
            assert_eq!(idle.notify(), None, "there is a searcher");
            assert!(idle.wake_up(expected));
            let next = idle.end_search(|| false);
            assert_eq!(next, None, "nothing is left");
        }
        assert_eq!(idle.notify(), None, "nobody sleeps");
    }

    #[test]
    fn a_burst_wakes_one_after_the_other() {
        let idle = Idle::new(4);
        for worker in 0..3 {
            let _sleep = idle.prepare_sleep(worker, false, BED);
        }
        let mut rung = vec![idle.notify().expect("a sleeper")];
        while let Some(next) = idle.end_search(|| true) {
            rung.push(next);
        }
        assert_eq!((rung, idle.searching()), (vec![2, 1, 0], 0));
    }

    #[test]
    fn an_event_that_wakes_an_idle_process_wakes_one_worker() {
        let idle = Idle::new(4);
        for worker in 0..4 {
            let _sleep = idle.prepare_sleep(worker, false, BED);
        }
        // The lookout's time is up; since all sleep, nobody looks out from then on.
        assert!(!idle.wake_up(0));
        assert_eq!(idle.prepare_sleep(0, true, BED), Sleep::Long);
        assert!(!idle.wake_up(3));
        assert_eq!(idle.end_search(|| false), None);
        // Its first push, without a lookout: one comes, and looks out from then on.
        let other = idle.notify_cheaply(false).expect("nobody looks out");
        assert!(idle.wake_up(other));
        assert_eq!(idle.prepare_sleep(other, true, BED), Sleep::Short);
        assert_eq!(idle.notify_cheaply(false), None);
        assert_eq!(idle.notify_cheaply(true), Some(2));
    }

    #[test]
    fn the_last_searcher_leaves_a_lookout_behind_unless_it_is_alone() {
        // [IDLE-4]
        let idle = Idle::new(3);
        for worker in [0, 1, 2] {
            let _sleep = idle.prepare_sleep(worker, false, BED);
        }
        assert!(!idle.wake_up(0) && !idle.wake_up(1));
        assert_eq!(idle.end_search(|| false), None, "another searches");
        assert_eq!(idle.end_search(|| false), Some(2), "two are awake, and nobody looks out");
    }
}
