//! The driver of a team: one of its threads waits here, and the others go on.
//!
//! # Problem
//! Reactor and wheel are of whoever holds the key, and a wait for events may last for ever.
//!
//! # Idea
//! There is one seat. Who takes it waits, without the key, and with it looks at what came. The others set their timers and
//! register their sockets meanwhile; a timer that is due before the wait would end rings the bell. A worker that runs tasks
//! takes its turns as the single-threaded loop does, while nobody sits here; else it leaves them to who does.
//!
//! # Invariants
//! - [SEAT-1] One thread at a time takes events, the one that set the seat taken, under the key.
//! - [SEAT-2] Whoever waits here is rung when a timer is set that is due before its wait would end.
//!
//! # Rejected
//! A driver for each worker: see `../task/team.rs`.
//!
//! # Read next
//! `../scheduler/stealing.rs`, which asks.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use super::{Bell, Driver, polls_between_looks, with};
use crate::clock;
use crate::scheduler::inbox::Doorbell;
use crate::scheduler::{Park, TeamPark, Turn};

/// Who waits in the driver of a team.
pub(super) struct Seat {
    is_taken: Cell<bool>,
    /// The tick at which the wait ends by itself; `None` while nobody waits.
    until_tick: Cell<Option<u64>>,
    bell: Arc<Bell>,
}

impl Seat {
    pub(super) fn new(bell: Arc<Bell>) -> Self {
        Self { is_taken: Cell::new(false), until_tick: Cell::new(None), bell }
    }
}

impl Driver {
    /// [SEAT-2] A timer was set for `tick`.
    #[inline]
    pub(super) fn hurry(&self, tick: u64) {
        if self.seat.until_tick.get().is_some_and(|until| tick < until) {
            self.seat.until_tick.set(Some(tick));
            self.seat.bell.ring();
        }
    }

    /// Waits at most so long, and dispatches what came. Nobody need hurry a wait for timers that fire together.
    fn sit(&self, at_most: Option<Duration>) {
        // Memory goes back when all sleep, and not in the few moments of a lookout.
        let Some(timeout) = self.timeout(at_most.is_none()) else { return };
        let timeout = match (timeout, at_most) {
            (Some(timeout), Some(at_most)) => Some(timeout.min(at_most)),
            (timeout, at_most) => timeout.or(at_most),
        };
        let now_ns = self.clock.elapsed_ns();
        let next = self.wheel().next().unwrap_or(u64::MAX);
        let next = if self.fires_together(next, now_ns) { 0 } else { next };
        let until =
            at_most.map_or(u64::MAX, |at_most| self.tick_of(now_ns.saturating_add(clock::nanos(at_most))));
        self.seat.until_tick.set(Some(next.min(until)));
        self.wait(timeout);
        self.seat.until_tick.set(None);
    }
}

/// The driver of the team that this thread is of.
pub(crate) struct Shared;

impl TeamPark for Shared {
    fn turn(&self, last: Turn) -> Turn {
        let turn = |driver: &Driver| {
            // Also for a turn: wakers of others run in it, and another worker may come to look meanwhile.
            if driver.seat.is_taken.replace(true) {
                return driver.clock.elapsed_ns();
            }
            driver.turn();
            driver.seat.is_taken.set(false);
            driver.last_look_ns.get()
        };
        let now_ns = with(turn).unwrap_or(last.now_ns);
        Turn { polls_max: polls_between_looks(last.polls_max, now_ns.saturating_sub(last.now_ns)), now_ns }
    }

    fn try_sit(&self) -> bool {
        // [SEAT-1]
        with(|driver| !driver.seat.is_taken.replace(true)).unwrap_or(false)
    }

    fn sit(&self, at_most: Option<Duration>) {
        with(|driver| driver.sit(at_most));
    }

    fn leave(&self) {
        with(|driver| driver.seat.is_taken.set(false));
    }

    fn collect(&self) {
        with(Park::collect);
    }

    fn now_ns(&self) -> u64 {
        with(Park::now_ns).unwrap_or(0)
    }
}
