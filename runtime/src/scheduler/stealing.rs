//! The same loop for several threads, and what stealing adds.
//!
//! # Problem
//! Several workers are to poll the tasks of one runtime at the same time, each near its own, none idle while another has too
//! many, and none awake for nothing; and a worker that is stuck in a long poll must strand neither what it had to run nor the
//! sockets and timers of all.
//!
//! # Idea
//! ```text
//!   ┌─▶ poll up to N tasks: own ring, injector ──▶ take the inbox ──▶ one driver turn, if nobody waits there ─┐
//!   │                             nothing?  ──▶ search: steal half of a sibling's ring                        │
//!   │                             nothing?  ──▶ sleep: in the driver, if its seat is free, or on this thread  │
//!   └─────────────────────────────────────────────────────────────────────────────────────────────────────────┘
//! ```
//! A task that is woken goes to the ring of whoever woke it; one that other threads wake, to the injector, where each worker
//! looks when its ring is empty, and every [`INJECTOR_EVERY`] polls. When a ring has more than its worker gets done, that one
//! wakes a sibling.
//!
//! One ready task in the ring of a worker that runs is left to it: two tasks that wake each other stay on one core. Only where
//! the ring did not move while a lookout slept (1 ms, see `idle.rs`) its worker is taken to be stuck, and the one is stolen too.
//! And since workers that are never idle never search, they look out for rings that do not move every [`RELIEVE_EVERY`] turns.
//!
//! # Invariants
//! - [STEAL-1] As [LOOP-1]: at most N polls lie between two looks at the inbox, and at the driver or at who waits there.
//! - [STEAL-2] Who has found something to run sees to it that somebody is in the driver or looks out, if anybody sleeps, so that
//!   sockets and timers are served while its polls last, and what it has in its ring: it may have been in the driver itself. It does
//!   so after its search has ended, since before that it counts as who looks.
//! - [STEAL-3] As [LOOP-3]: what a finished task leaves is carried out in order, its place first, then its joiner.
//! - [STEAL-4] Who stands aside (`worth.rs`) sleeps with work in sight, so it does so as the lookout alone, for a millisecond at a
//!   time, and only until it is rung, or one of the others stands still; with an empty ring, and while another is awake.
//!
//! # Cost
//! Locked instructions: a yield three (the ring's pop, start, end of the poll), a spawn and join twelve, of which two are the
//! key's.
//!
//! # Rejected
//! - A slot for the task that was woken last, as others have it: it cannot be stolen, and two that wake each other starve a third
//!   (bugs.md 30, 31).
//! - A sibling woken at each push: on two cores that costs more than fifty polls.
//!
//! # Read next
//! `idle.rs`, when a worker sleeps; `ring.rs`, what it steals from.

use std::time::Duration;

use super::idle::{Bed, LOOKOUT_WAIT, Sleep};
use super::watch::Watch;
use super::worth::{Count, Verdict, Worth};
use super::{TeamPark, Turn};
use crate::admission::Admission;
use crate::sync::{IS_MODEL, park, park_timeout, seeded};
use crate::task::shared::{self, Ended};
use crate::task::team::{Seat, Team, Worker};
use crate::task::tray::Left;
use crate::task::{self, Header};

/// Every so many polls the injector comes before the own ring.
const INJECTOR_EVERY: u32 = 32;

/// Every so many turns a worker that is never idle looks whether a sibling is stuck.
const RELIEVE_EVERY: u32 = 64;

/// So many tasks in the ring, looked at between two batches for so long, are more than one worker's: a sibling that is rung for
/// less finds the ring empty.
const BACKLOG: usize = 8;
const BACKLOG_NS: u64 = if IS_MODEL { 0 } else { 50_000 };

/// Who is rung so soon after it went to sleep for long lingers as the lookout for so many of its rounds.
const LINGER_IF_RUNG_WITHIN_NS: u64 = 2_000_000;
const LINGER_ROUNDS: u32 = if IS_MODEL { 2 } else { 10 };

/// One worker's loop.
pub(crate) struct Stealing<'a, P> {
    team: &'static Team,
    worker: &'static Worker,
    number: usize,
    admission: &'static Admission,
    watch: &'static Watch,
    /// From how long on a poll is counted; `None` for no such count.
    long_ns: Option<u64>,
    park: &'a P,
    /// What each sibling had taken from its ring in all, when this worker last went to sleep, or looked after that.
    seen: Box<[usize]>,
    /// Since when its ring has been too full.
    backlog_since_ns: Option<u64>,
    /// For how many rounds more it lingers.
    lingers: u32,
    worth: Worth,
}

impl<'a, P: TeamPark> Stealing<'a, P> {
    /// The loop of the worker who sits there; `None` outside of its runtime.
    pub(crate) fn new(team: &'static Team, seat: &Seat, number: usize, park: &'a P) -> Option<Self> {
        let _inside = task::enter();
        let (home, local) = task::current()?;
        let watch = Watch::of(local);
        Some(Self {
            team,
            worker: seat.worker(),
            number,
            admission: Admission::of(home, local),
            watch,
            long_ns: watch.threshold_ns(),
            park,
            seen: vec![usize::MAX; team.len()].into(),
            backlog_since_ns: None,
            lingers: 0,
            worth: Worth::default(),
        })
    }

    /// Runs tasks until the team is told to stop.
    pub(crate) fn work(&mut self) {
        let mut turn = self.park.turn(Turn { polls_max: 1, now_ns: 0 });
        let (mut tick, mut turns) = (0_u32, 0_u32);
        // Whether this worker counts as one that searches.
        let mut searches = false;
        while !self.team.is_stopping() {
            let mut polls = 0;
            while polls < turn.polls_max && !self.team.is_stopping() {
                tick = tick.wrapping_add(1);
                let Some(next) = self.next(tick) else { break };
                self.found(&mut searches);
                self.run(next);
                polls += 1;
            }
            // [STEAL-1]
            let was_asked = self.take_inbox();
            if polls > 0 || was_asked {
                self.found(&mut searches);
                self.worker.count_polls(polls);
                turn = self.park.turn(turn);
                self.look_at_backlog(turn);
                turns = turns.wrapping_add(1);
                if turns % RELIEVE_EVERY == 0 {
                    self.relieve();
                }
                if self.worth.is_due(turn.now_ns) {
                    searches = self.weigh(&mut turn.now_ns);
                }
                continue;
            }
            self.backlog_since_ns = None;
            searches = searches || self.team.idle.0.begin_search();
            let stolen = if searches { self.worker.steal(self.number + 1, &self.seen) } else { None };
            match stolen {
                Some(next) => {
                    self.found(&mut searches);
                    self.run(next);
                }
                None => {
                    turn.now_ns = self.sleep(searches, turn.now_ns);
                    searches = true;
                }
            }
        }
        self.found(&mut searches);
    }

    /// Wakes a sibling for what its ring has held for long.
    #[inline]
    fn look_at_backlog(&mut self, Turn { polls_max, now_ns }: Turn) {
        let backlog = self.worker.backlog();
        if backlog == 0 {
            self.backlog_since_ns = None;
            return;
        }
        // Few polls a batch: they are long, and one in the ring waits long.
        let is_long = polls_max <= 2;
        let since_ns = if backlog >= BACKLOG {
            *self.backlog_since_ns.get_or_insert(now_ns)
        } else {
            self.backlog_since_ns = None;
            u64::MAX
        };
        let has_lasted = now_ns.checked_sub(since_ns).is_some_and(|ns| ns >= BACKLOG_NS);
        self.team.notify_cheaply(is_long || has_lasted && !self.team.is_aside());
    }

    fn count(&self, ns: u64) -> Count {
        let (polls, own) = self.team.polls(self.number);
        Count { ns, polls, own }
    }

    /// Stands aside, if all are faster without this worker; whether it searches after that.
    #[cold]
    fn weigh(&mut self, now_ns: &mut u64) -> bool {
        let awake = self.team.len() - self.team.idle.0.asleep();
        let Verdict::Aside(rounds, each) = self.worth.judge(self.count(*now_ns), awake) else { return false };
        if self.team.idle.0.has_lookout() {
            return false;
        }
        // Before it goes to sleep, so that the others, if they do too, see it in their second look.
        if !seeded("shuttle_aside_keeps_its_ring") {
            self.worker.hand_over();
        }
        self.stand_aside(rounds, each, now_ns)
    }

    /// Is the lookout for so many rounds of at most a lookout's wait, whatever there is to do, while its siblings go on; whether
    /// it searches after that.
    fn stand_aside(&mut self, rounds: u32, each: Duration, now_ns: &mut u64) -> bool {
        let mut searches = false;
        for _ in 0..rounds {
            self.worker.note_siblings(&mut self.seen);
            let before = self.count(*now_ns);
            self.worth.sleep(before);
            let sleep = self.team.idle.0.prepare_sleep(self.number, searches, Bed::default());
            // [STEAL-4]. When all sleep, the last to lie down looks whether they are stuck, and that may be this one.
            let is_last = self.team.idle.0.asleep() == self.team.len();
            if sleep == Sleep::Short && !is_last && !self.team.is_stopping() {
                self.team.stand_aside(true);
                park_timeout(each);
                self.team.stand_aside(false);
            }
            let was_rung = self.team.idle.0.wake_up(self.number);
            searches = true;
            *now_ns = self.park.now_ns();
            let after = self.count(*now_ns);
            self.worth.wake(after);
            // Others may go on beside one that is stuck.
            let is_still = after.polls == before.polls || self.worker.sees_stuck(&self.seen);
            if was_rung || sleep == Sleep::Long || is_still {
                break;
            }
        }
        searches
    }

    /// Runs a task of a sibling that has run nothing since the last look, and takes half of its others.
    #[cold]
    fn relieve(&mut self) {
        let relieved = self.worker.relieve(self.number + 1, &self.seen);
        self.worker.note_siblings(&mut self.seen);
        if let Some(next) = relieved {
            self.run(next);
        }
    }

    #[inline(always)]
    fn next(&self, tick: u32) -> Option<&'static Header> {
        if tick % INJECTOR_EVERY == 0 {
            self.worker.take_injected().or_else(|| self.worker.pop())
        } else {
            self.worker.pop().or_else(|| self.worker.take_injected())
        }
    }

    /// It searches no more, if it did; another goes on, if there is more to be found, or if nobody looks out.
    #[inline(always)]
    fn found(&self, searches: &mut bool) {
        if std::mem::take(searches) {
            self.team.end_search(self.number);
            if !seeded("shuttle_leaves_the_seat_quietly") {
                // [STEAL-2]
                self.team.see_to_lookout(self.worker.backlog() > 0);
            }
        }
    }

    #[inline(always)]
    fn run(&self, task: &'static Header) {
        let ended = match self.long_ns {
            None => shared::run(self.worker, task),
            Some(long_ns) => self.run_watched(task, long_ns),
        };
        if let Some(ended) = ended {
            carry_out(self.admission, self.worker, ended);
        }
    }

    #[cold]
    fn run_watched(&self, task: &'static Header, long_ns: u64) -> Option<Ended> {
        let (site, began_ns) = (task.site_id(), self.park.now_ns());
        let ended = shared::run(self.worker, task);
        let took_ns = self.park.now_ns().saturating_sub(began_ns);
        if took_ns >= long_ns {
            let _inside = task::enter();
            if let Some((_, local)) = task::current() {
                self.watch.count(local, site, took_ns);
            }
        }
        ended
    }

    /// Does what other threads have asked for; whether anything was.
    #[inline]
    fn take_inbox(&self) -> bool {
        if self.team.is_quiet() {
            return false;
        }
        let _inside = task::enter();
        let Some(at) = task::current() else { return false };
        let was_asked = at.0.shared.inbox.take_attention();
        if was_asked {
            self.admission.collect(at);
            self.park.collect();
        }
        was_asked
    }

    /// Sleeps until there is something to do, or in short for as long as siblings run. It counts as searching after that. The
    /// time is `now_ns` before, and what is returned after.
    fn sleep(&mut self, searches: bool, now_ns: u64) -> u64 {
        self.worker.note_siblings(&mut self.seen);
        self.worth.sleep(self.count(now_ns));
        let sits = self.park.try_sit();
        self.worker.is_in_driver(sits);
        let bed = Bed { sits, lingers: self.lingers > 0 };
        let sleep = self.team.idle.0.prepare_sleep(self.number, searches, bed);
        let has_work = !seeded("shuttle_no_second_look") && self.team.has_work();
        if !has_work && !self.unstick() {
            let at_most = match sleep {
                Sleep::Short => Some(LOOKOUT_WAIT),
                Sleep::Long => {
                    self.worker.trim();
                    None
                }
            };
            match (sits, at_most) {
                (true, at_most) => self.park.sit(at_most),
                (false, Some(at_most)) => park_timeout(at_most),
                (false, None) => park(),
            }
        }
        let was_rung = self.team.idle.0.wake_up(self.number);
        if sits {
            self.worker.is_in_driver(false);
            self.park.leave();
        }
        let woke_ns = self.park.now_ns();
        self.worth.wake(self.count(woke_ns));
        self.lingers = match sleep {
            Sleep::Short => self.lingers.saturating_sub(1),
            Sleep::Long if was_rung && woke_ns.saturating_sub(now_ns) < LINGER_IF_RUNG_WITHIN_NS => {
                LINGER_ROUNDS
            }
            Sleep::Long => 0,
        };
        woke_ns
    }

    /// When all sleep, whether somebody was offered to run a child in its own place, and is ready now.
    fn unstick(&self) -> bool {
        if self.team.idle.0.asleep() < self.team.len() || seeded("team_nobody_unsticks") {
            return false;
        }
        let _inside = task::enter();
        task::current().is_some_and(|at| self.admission.unstick(at))
    }
}

#[cfg(all(test, anteroom_loom))]
impl<P: TeamPark> Stealing<'_, P> {
    /// One turn of the loop that polls at most one task and never sleeps, for models that say themselves who looks when; whether
    /// there was anything to do.
    pub(crate) fn step(&mut self) -> bool {
        let was_asked = self.take_inbox();
        let next = self.next(1).or_else(|| {
            // As if its siblings were stuck, so that it steals a single task, too.
            self.worker.note_siblings(&mut self.seen);
            self.worker.steal(self.number + 1, &self.seen)
        });
        if let Some(next) = next {
            self.run(next);
        }
        was_asked || next.is_some()
    }
}

/// [STEAL-3]
#[inline(always)]
pub(crate) fn carry_out(admission: &Admission, worker: &Worker, ended: Ended) {
    let left = if ended.is_only_a_place() { worker.leave_place(ended.bytes) } else { Left::Not };
    if !matches!(left, Left::Quietly) {
        let _inside = task::enter();
        if let Some(at) = task::current() {
            if seeded("shared_frees_without_key") {
                task::outside(|| ended.free(at.1));
            }
            ended.free(at.1);
            match left {
                Left::Not => admission.release(at, ended.place, ended.bytes),
                _ => admission.release_left(at),
            }
        }
    }
    ended.publish();
}

/// Ends every task of a team whose workers have stopped, and everything that waits, on the thread that sits there.
pub(crate) fn shut_down(team: &'static Team, seat: &Seat, park: &impl TeamPark) {
    let admission = {
        let _inside = task::enter();
        let Some((home, local)) = task::current() else { return };
        let admission = Admission::of(home, local);
        admission.begin_end();
        admission
    };
    shared::cancel_all(team, seat.worker(), |ended| carry_out(admission, seat.worker(), ended));
    let _inside = task::enter();
    let Some(at) = task::current() else { return };
    if at.0.shared.inbox.take_attention() {
        admission.collect(at);
        park.collect();
    }
    admission.end();
    admission.trim();
}
