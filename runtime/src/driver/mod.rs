//! One turn: timers, then wait, then dispatch.
//!
//! # Problem
//! Looking at the system too often costs a microsecond each time; too seldom, and a busy loop starves its sockets and
//! timers.
//!
//! # Idea
//! Turns go by time. Between polls the clock is read, 27 ns every 64 polls, or sooner when polls are long; timers whose
//! tick has come fire then, without a system call, and every 250 µs the events are asked for. Only a loop that has nothing
//! to poll waits.
//!
//! # Invariants
//! - [DRIVER-1] No user code runs while the reactor or the wheel is borrowed: wakers are cloned before, woken and dropped
//!   after.
//! - [DRIVER-2] A timer fires at the first tick that is not before its deadline, so never early.
//! - [DRIVER-3] A wait ends at the next timer, an event or the doorbell; with no timer it has no end, and no timerfd is
//!   armed. Once after a burst it ends to give memory back.
//!
//! # Bounds
//! 256 events a system call; what is left comes with the next. Timers: [`Limits::timers_max`]; who asks for one more is told
//! to ask again each turn, which is exact, and keeps the thread awake. Sources: [`Limits::sources_max`], an error of
//! `register`.
//!
//! # Rejected
//! A turn every so many polls: with polls of 10 ns it is all overhead, with polls of 1 ms it is far too rare.
//!
//! # Read next
//! `reactor.rs`, `wheel.rs`, `pace.rs`, `remote.rs`, `timerfd.rs`.

mod bags;
pub(crate) mod fired;
mod pace;
pub(crate) mod reactor;
pub(crate) mod remote;
#[cfg(feature = "stealing")]
pub(crate) mod shared;
mod system;
#[cfg(target_os = "linux")]
mod timerfd;
pub(crate) mod wheel;

use std::cell::{Cell, RefCell, RefMut};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use mio::event::Source;
use mio::{Events, Token};
use pace::{Pace, TOGETHER_NS};
use reactor::{Direction, Edges, IoKey, Look, Reactor};
use remote::Remote;
pub(crate) use system::{SHORTAGES, files_max};
use wheel::{TimerKey, Wheel};

use crate::bytes::table_bytes;
use crate::clock::{self, Clock};
use crate::scheduler::Park;
use crate::scheduler::inbox::Doorbell;
use crate::sync::{Scope, scoped_local};
use crate::task::body::CACHE_BYTES_IDLE;
use crate::task::waker::{cloned, let_go, wake_quietly};
use crate::task::{self, Home, Local};

const BELL: Token = Token(usize::MAX);
#[cfg(target_os = "linux")]
const TIMER: Token = Token(usize::MAX - 1);

const EVENTS_MAX: usize = 256;
/// How late a timer is at most for our part, unless somebody asks for something else, or they are many (`pace.rs`).
const RESOLUTION: Duration = Duration::from_micros(100);
/// How long a busy loop goes without asking the system for events.
const SYSTEM_TURN_EVERY_NS: u64 = 250_000;
/// The clock is read every so many polls at most, ...
const POLLS_MAX: u32 = 64;
/// ... and at least so often, as far as single polls let it.
const LOOK_EVERY_NS: u64 = 25_000;
/// Before a wait that may last longer, memory that is kept for reuse goes back. For most timers the wheel's wait ends up to 256
/// ticks early, so with this one of 100 ms is long.
const TRIM_BEFORE_NS: u64 = 70_000_000;

/// ... and what went to the allocator, to the system, when it was at least so much, ...
const TRIM_FROM_BYTES: usize = 1024 * 1024;
/// ... and not more often than this, since it takes milliseconds.
const TRIM_EVERY_NS: u64 = 500_000_000;

/// After how many polls to read the clock, when the last `polls` took so long.
pub(crate) fn polls_between_looks(polls: u32, took_ns: u64) -> u32 {
    match took_ns {
        _ if took_ns > LOOK_EVERY_NS => (polls / 4).max(1),
        _ if took_ns < LOOK_EVERY_NS / 4 => (polls * 2).min(POLLS_MAX),
        _ => polls,
    }
}

/// Reactor, wheel and clock of one runtime; the owner's alone.
pub(crate) struct Driver {
    poll: RefCell<mio::Poll>,
    /// The same, for as long as `poll` waits.
    registry: mio::Registry,
    events: RefCell<Events>,
    reactor: RefCell<Reactor>,
    wheel: RefCell<Wheel>,
    pub(crate) clock: Clock,
    start_base_ns: u64,
    resolution_ns: u64,
    pace: Pace,
    #[cfg(target_os = "linux")]
    timer_fd: timerfd::TimerFd,
    /// The time for which the timerfd is armed.
    armed_at_ns: Cell<Option<u64>>,
    last_look_ns: Cell<u64>,
    last_system_turn_ns: Cell<u64>,
    polls_max: Cell<u32>,
    next_trim_ns: Cell<u64>,
    limits: Limits,
    /// Whether something outside will yet wake a task, so that a paused clock must not run ahead: blocking jobs.
    is_busy_outside: Box<dyn Fn() -> bool>,
    pub(crate) remote: &'static Remote,
    pub(crate) epoch: u32,
    home: &'static Home,
    local: &'static Local,
    /// Of a team, who waits here.
    #[cfg(feature = "stealing")]
    seat: shared::Seat,
}

/// What one driver holds at most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) timers_max: usize,
    pub(crate) sources_max: usize,
}

/// What became of a timer that was asked for.
pub(crate) enum Set {
    Waits(TimerKey),
    /// Its time has come.
    Due,
    /// As many wait as may: ask again at the next turn.
    Full,
}

/// What so many timers take at most, the letters of those that are dropped elsewhere included.
pub(crate) fn timer_bytes(timers: usize) -> usize {
    Wheel::worst_bytes(timers).saturating_add(table_bytes(timers, size_of::<TimerKey>()))
}

/// What so many sources take at most, with a letter for each and one for each direction.
pub(crate) fn source_bytes(sources: usize) -> usize {
    table_bytes(sources, Reactor::ENTRY_BYTES)
        .saturating_add(table_bytes(sources, size_of::<IoKey>()))
        // One box is read while the next one fills.
        .saturating_add(task::worst::waker_bytes(sources.saturating_mul(2)).saturating_mul(2))
}

/// What a driver takes without timers and sources.
pub(crate) fn fixed_bytes() -> usize {
    size_of::<Driver>() + Wheel::FIXED_BYTES + EVENTS_MAX * 16
}

/// Where the driver of a home is found; made once a home.
pub(crate) struct Slot {
    driver: RefCell<Option<Rc<Driver>>>,
    remote: &'static Remote,
}

scoped_local! {
    /// The slot of the runtime that this thread is inside of.
    static CURRENT: Slot;
}

impl Slot {
    pub(crate) fn of(home: &'static Home, local: &Local) -> &'static Slot {
        local.layer(|| Slot { driver: RefCell::new(None), remote: Box::leak(Box::new(Remote::new(home))) })
    }

    /// Makes the driver of this home.
    pub(crate) fn open(
        &'static self,
        local: &'static Local,
        paused: bool,
        resolution: Option<Duration>,
        limits: Limits,
        is_busy_outside: Box<dyn Fn() -> bool>,
    ) -> io::Result<(Rc<Driver>, Arc<dyn Doorbell>)> {
        let poll = mio::Poll::new()?;
        let bell = Arc::new(Bell(mio::Waker::new(poll.registry(), BELL)?));
        let registry = poll.registry().try_clone()?;
        let own_registry = poll.registry().try_clone()?;
        let clock = Clock::new(paused);
        let driver = Rc::new(Driver {
            #[cfg(target_os = "linux")]
            timer_fd: timerfd::TimerFd::new(poll.registry(), TIMER)?,
            poll: RefCell::new(poll),
            registry: own_registry,
            #[cfg(feature = "stealing")]
            seat: shared::Seat::new(bell.clone()),
            events: RefCell::new(Events::with_capacity(EVENTS_MAX)),
            reactor: RefCell::new(Reactor::default()),
            wheel: RefCell::new(Wheel::new()),
            start_base_ns: clock.start_base_ns(),
            clock,
            resolution_ns: clock::nanos(resolution.unwrap_or(RESOLUTION)),
            pace: Pace::new(resolution.is_some()),
            armed_at_ns: Cell::new(None),
            last_look_ns: Cell::new(0),
            last_system_turn_ns: Cell::new(0),
            polls_max: Cell::new(POLLS_MAX),
            next_trim_ns: Cell::new(0),
            limits,
            is_busy_outside,
            remote: self.remote,
            epoch: self.remote.open(registry),
            home: self.remote.home(),
            local,
        });
        local.now_ns.set(0);
        local.is_trim_asked.set(false);
        let old = self.driver.replace(Some(driver.clone()));
        debug_assert!(old.is_none(), "a home has one runtime at a time");
        Ok((driver, bell))
    }

    /// Takes the driver away. Whoever waited for it is woken, with nothing borrowed, to learn that it is gone.
    pub(crate) fn close(&self) {
        let mail = self.remote.close();
        let Some(driver) = self.driver.take() else { return };
        mail.waits.into_values().for_each(wake_quietly);
        driver.reactor.take().into_wakers().for_each(wake_both);
        // At the end of time all timers are due.
        driver.fire(u64::MAX);
    }

    /// Makes [`with`] find this driver until the guard is dropped.
    pub(crate) fn enter(&'static self) -> Scope<Slot> {
        Scope::enter(&CURRENT, self)
    }
}

/// Calls `f` with the driver of the runtime that this thread is inside of.
#[inline]
pub(crate) fn with<R>(f: impl FnOnce(&Driver) -> R) -> Option<R> {
    let slot = CURRENT.with(Cell::get)?;
    let _inside = task::enter();
    slot.driver.borrow().as_deref().map(f)
}

/// Calls `f` with the driver of `epoch` behind `remote`, if this thread is its owner and inside of it.
#[inline]
pub(crate) fn with_own<R>(remote: &'static Remote, epoch: u32, f: impl FnOnce(&Driver) -> R) -> Option<R> {
    let slot = CURRENT.with(Cell::get).filter(|slot| std::ptr::eq(slot.remote, remote))?;
    let _inside = task::enter();
    slot.driver.borrow().as_deref().filter(|driver| driver.epoch == epoch).map(f)
}

/// Wakes whoever waits for one source.
fn wake_both((reader, writer): (Option<Waker>, Option<Waker>)) {
    reader.into_iter().chain(writer).for_each(wake_quietly);
}

struct Bell(mio::Waker);

impl Doorbell for Bell {
    fn ring(&self) {
        // A signal may come in between. Nothing else can: the counter exists, and mio empties it when it is full.
        while let Err(error) = self.0.wake() {
            if error.kind() != io::ErrorKind::Interrupted {
                return;
            }
        }
    }
}

impl Driver {
    /// The wheel, for one step. All borrows are this one: each place that could fail has a name and a line in the program.
    #[inline(always)]
    fn wheel(&self) -> RefMut<'_, Wheel> {
        self.wheel.borrow_mut()
    }

    /// The reactor, for one step.
    #[inline(always)]
    fn reactor(&self) -> RefMut<'_, Reactor> {
        self.reactor.borrow_mut()
    }

    /// The tick at which something with this deadline is due: the first that is not before it.
    #[inline]
    fn tick_of(&self, deadline_ns: u64) -> u64 {
        deadline_ns.div_ceil(self.resolution_ns)
    }

    fn time_of_ns(&self, tick: u64) -> u64 {
        tick.saturating_mul(self.resolution_ns)
    }

    /// Wakes `waker` at `deadline` or up to one tick later, unless it has passed.
    #[inline]
    pub(crate) fn set_timer(&self, deadline: Instant, waker: &Waker) -> Set {
        let deadline_ns = self.clock.since_start_ns(deadline);
        let tick = self.tick_of(deadline_ns);
        let seen_ns = if self.clock.is_paused() { self.clock.elapsed_ns() } else { self.last_look_ns.get() };
        {
            let mut wheel = self.wheel();
            // An empty wheel is not moved on by the turns.
            if wheel.is_empty() {
                wheel.advance(seen_ns / self.resolution_ns);
            }
        }
        // What is near may have passed since the clock was last read.
        if deadline_ns < seen_ns.saturating_add(2 * self.resolution_ns)
            && deadline_ns <= self.clock.elapsed_ns()
        {
            return Set::Due;
        }
        // A clock that is held would stand still for one who asks again and again.
        if self.is_full() {
            return if deadline_ns <= self.clock.elapsed_ns() { Set::Due } else { Set::Full };
        }
        // The clone is the caller's code, and may set timers.
        let waker = cloned(waker);
        if self.is_full() {
            let_go(Some(waker));
            return Set::Full;
        }
        let key = self.wheel().insert(tick, waker);
        #[cfg(feature = "stealing")]
        self.hurry(tick);
        Set::Waits(key)
    }

    /// Whether no more timers may wait.
    #[inline]
    fn is_full(&self) -> bool {
        self.wheel().len() >= self.limits.timers_max && !self.clock.is_paused()
    }

    /// Whether a timer still waits; then `waker` is the one to wake.
    #[inline]
    pub(crate) fn poll_timer(&self, key: TimerKey, waker: &Waker) -> Poll<()> {
        match self.wheel().waker_mut(key) {
            None => return Poll::Ready(()),
            Some(old) if old.will_wake(waker) => return Poll::Pending,
            Some(_) => {}
        }
        // The clone is the caller's code, and may move a paused clock.
        let mut new = cloned(waker);
        let polled = match self.wheel().waker_mut(key) {
            None => Poll::Ready(()),
            Some(old) => {
                std::mem::swap(old, &mut new);
                Poll::Pending
            }
        };
        let_go(Some(new));
        polled
    }

    #[inline]
    pub(crate) fn cancel_timer(&self, key: TimerKey) {
        let waker = self.wheel().cancel(key);
        let_go(waker);
    }

    /// Begins to watch `source`, whose file is `fd`.
    pub(crate) fn register(&self, source: &mut dyn Source, fd: i32) -> io::Result<IoKey> {
        let max = self.limits.sources_max;
        self.reactor().register(&self.registry, source, fd, max)
    }

    pub(crate) fn deregister(&self, key: IoKey, source: &mut dyn Source) {
        // It fails only for a file that was closed behind our back, and then there is nothing to take away.
        let _ = self.registry.deregister(source);
        self.forget(key);
    }

    fn forget(&self, key: IoKey) {
        let wakers = self.reactor().remove(key);
        let (reader, writer) = wakers.unwrap_or_default();
        let_go(reader);
        let_go(writer);
    }

    /// Ready when it is worth trying, with how many edges there were; else `cx`'s waker is woken at the next.
    #[inline]
    pub(crate) fn poll_ready(&self, key: IoKey, direction: Direction, cx: &Context<'_>) -> Poll<Edges> {
        let look = self.reactor().look(key, direction, cx.waker());
        match look {
            Look::Ready(edges) => Poll::Ready(edges),
            Look::Watched => Poll::Pending,
            Look::Unwatched => {
                let waker = cloned(cx.waker());
                // An edge may have come while the waker was cloned.
                let mut reactor = self.reactor();
                let (polled, unused) = match reactor.look(key, direction, &waker) {
                    Look::Ready(edges) => (Poll::Ready(edges), Some(waker)),
                    _ => (Poll::Pending, reactor.watch(key, direction, waker)),
                };
                drop(reactor);
                let_go(unused);
                polled
            }
        }
    }

    #[inline]
    pub(crate) fn clear(&self, key: IoKey, direction: Direction, seen: Edges) {
        self.reactor().clear(key, direction, seen);
    }

    #[inline]
    pub(crate) fn clear_partial(&self, key: IoKey, direction: Direction, seen: Edges) {
        self.reactor().clear_partial(key, direction, seen);
    }

    /// How many timers wait, and how many sources are open.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.wheel().len(), self.reactor().len())
    }

    /// Moves a paused clock on by `by`, and fires what is due then.
    pub(crate) fn advance(&self, by: Duration) {
        self.clock.advance_to(self.clock.elapsed_ns().saturating_add(clock::nanos(by)));
        self.fire(self.clock.elapsed_ns());
    }

    /// Fires all timers whose tick has come.
    #[inline]
    fn fire(&self, now_ns: u64) {
        if now_ns != u64::MAX {
            self.local.now_ns.set(now_ns);
        }
        if self.wheel().is_empty() {
            return;
        }
        let tick = if now_ns == u64::MAX { u64::MAX } else { now_ns / self.resolution_ns };
        self.wheel().advance(tick);
        self.remote.fired.note(self.start_base_ns.saturating_add(self.time_of_ns(tick)));
        let mut fired = 0;
        loop {
            let due = self.wheel().pop_due();
            let Some(waker) = due else { break };
            wake_quietly(waker);
            fired += 1;
        }
        if fired > 0 {
            self.pace.note(now_ns, fired);
        }
    }

    /// One system call: takes the events, waiting for them at most `timeout`, and wakes whom they concern.
    fn system_turn(&self, timeout: Option<Duration>) {
        let mut events = self.events.borrow_mut();
        // A team's other threads go on meanwhile; whoever comes to look in that time finds the seat taken.
        let mut wait = || self.poll.borrow_mut().poll(&mut events, timeout);
        let result = if timeout == Some(Duration::ZERO) { wait() } else { task::outside(wait) };
        match result {
            Ok(()) => {}
            // A signal; the loop comes back if there is still nothing to do.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return,
            Err(error) => panic!("waiting for events failed: {error}"),
        }
        for event in events.iter() {
            match event.token() {
                BELL => {}
                #[cfg(target_os = "linux")]
                TIMER => self.armed_at_ns.set(None),
                _ => {
                    let wakers = self.reactor().dispatch(event);
                    wake_both(wakers);
                }
            }
        }
    }

    /// How long `epoll_wait` may wait so that it serves a timer at `deadline`, arming the timerfd where that is too coarse.
    #[cfg(target_os = "linux")]
    fn timeout_until(&self, deadline_ns: Option<u64>, now_ns: u64) -> Option<Duration> {
        let Some(deadline_ns) = deadline_ns else {
            // [DRIVER-3]
            if self.armed_at_ns.take().is_some() {
                // If that fails, one wait ends too early.
                let _disarmed = self.timer_fd.set(None);
            }
            return None;
        };
        let left_ns = deadline_ns.saturating_sub(now_ns);
        let late_ns = left_ns.next_multiple_of(1_000_000) - left_ns;
        if left_ns == 0 || late_ns <= self.resolution_ns {
            return Some(Duration::from_nanos(left_ns));
        }
        if self.armed_at_ns.get().is_none_or(|armed_at_ns| armed_at_ns > deadline_ns) {
            if !self.timer_fd.set(Some(Duration::from_nanos(left_ns))) {
                // Coarse, but it ends.
                return Some(Duration::from_nanos(left_ns));
            }
            self.armed_at_ns.set(Some(deadline_ns));
        }
        None
    }

    #[cfg(not(target_os = "linux"))]
    fn timeout_until(&self, deadline_ns: Option<u64>, now_ns: u64) -> Option<Duration> {
        deadline_ns.map(|deadline_ns| Duration::from_nanos(deadline_ns.saturating_sub(now_ns)))
    }

    /// A paused clock: if no event is there, time jumps to the next timer.
    fn park_paused(&self, may_wait: &dyn Fn() -> bool) {
        self.system_turn(Some(Duration::ZERO));
        // In this order: who is no longer busy has sent its wake before, and the inbox shows it.
        let is_busy = (self.is_busy_outside)();
        if !self.local.queue.is_empty() || !may_wait() {
            return;
        }
        let next = self.wheel().next();
        match next {
            Some(tick) if !is_busy => {
                self.clock.advance_to(self.time_of_ns(tick));
                self.fire(self.clock.elapsed_ns());
            }
            _ => self.system_turn(None),
        }
    }
}

impl Park for Driver {
    fn now_ns(&self) -> u64 {
        self.clock.elapsed_ns()
    }

    fn turn(&self) -> u32 {
        let now_ns = self.clock.elapsed_ns();
        self.fire(now_ns);
        if self.clock.is_paused() {
            // Its time says nothing about how long the polls took.
            self.system_turn(Some(Duration::ZERO));
            return POLLS_MAX;
        }
        if now_ns.saturating_sub(self.last_system_turn_ns.get()) >= SYSTEM_TURN_EVERY_NS {
            self.system_turn(Some(Duration::ZERO));
            self.last_system_turn_ns.set(now_ns);
        }
        self.look_at_clock(now_ns)
    }

    fn park(&self, may_wait: &dyn Fn() -> bool) {
        if self.clock.is_paused() {
            return self.park_paused(may_wait);
        }
        let Some(timeout) = self.timeout(true) else { return };
        if !may_wait() {
            return;
        }
        self.wait(timeout);
    }

    fn collect(&self) {
        let mail = self.remote.take();
        for key in mail.timers {
            let waker = self.wheel().cancel(key);
            task::quietly(|| drop(waker));
        }
        for key in mail.sources {
            let wakers = self.reactor().remove(key);
            task::quietly(|| drop(wakers));
        }
        // Wakers are another's code, which may close files and open others: all files first, and then they.
        let mut replaced = Vec::new();
        for (number, waker) in mail.waits {
            let (key, direction) = IoKey::of_wait_number(number);
            self.reactor().expect_edge(key, direction);
            let (fd, look, old) = {
                let mut reactor = self.reactor();
                let fd = reactor.fd(key);
                let look = fd.map(|_| reactor.look(key, direction, &waker));
                (fd, look, reactor.watch(key, direction, waker))
            };
            if let Some(old) = old {
                // The same, or the letter's own, whose source is gone, is dropped. Else whoever waited before may be the one
                // that waits now, brought back from elsewhere: it looks for itself.
                replaced.push((old, !matches!(look, Some(Look::Watched) | None)));
            }
            // The file of a source that is gone may be another's by now.
            if let Some(fd) = fd {
                self.remote.unless_forgotten(key, || self.rearm(key, fd));
            }
        }
        for (old, is_to_wake) in replaced {
            task::quietly(|| if is_to_wake { old.wake() } else { drop(old) });
        }
    }
}

impl Driver {
    /// How long to wait for the next timer, with what is due fired instead: then it is `None`. If it is long and `may_trim`, what
    /// a burst has left goes back.
    fn timeout(&self, may_trim: bool) -> Option<Option<Duration>> {
        let next = self.wheel().next();
        let mut left_ns = u64::MAX;
        let timeout = match next {
            None => self.timeout_until(None, 0),
            Some(tick) => {
                let (deadline_ns, now_ns) = (self.time_of_ns(tick), self.clock.elapsed_ns());
                if deadline_ns <= now_ns {
                    self.fire(now_ns);
                    return None;
                }
                left_ns = deadline_ns - now_ns;
                if self.fires_together(tick, now_ns) {
                    return Some(Some(Duration::from_nanos(TOGETHER_NS)));
                }
                self.timeout_until(Some(deadline_ns), now_ns)
            }
        };
        let later = if may_trim && left_ns > TRIM_BEFORE_NS { self.trim() } else { None };
        Some(match (later, timeout) {
            (Some(later), Some(timeout)) => Some(later.min(timeout)),
            (later, timeout) => later.or(timeout),
        })
    }

    /// Whether the next timer, at `tick`, may wait a little for others, since they are many.
    fn fires_together(&self, tick: u64, now_ns: u64) -> bool {
        let left_ns = self.time_of_ns(tick).saturating_sub(now_ns);
        left_ns < TOGETHER_NS && self.pace.is_dense(now_ns, self.wheel().len())
    }

    /// After how many polls the clock is to be read again, which says `now_ns` now.
    fn look_at_clock(&self, now_ns: u64) -> u32 {
        let since_look_ns = now_ns.saturating_sub(self.last_look_ns.replace(now_ns));
        self.polls_max.set(polls_between_looks(self.polls_max.get(), since_look_ns));
        self.polls_max.get()
    }

    /// Waits for events and fires what is due after that.
    fn wait(&self, timeout: Option<Duration>) {
        self.system_turn(timeout);
        let now_ns = self.clock.elapsed_ns();
        self.last_look_ns.set(now_ns);
        self.last_system_turn_ns.set(now_ns);
        self.fire(now_ns);
    }

    /// Gives back what a burst has left, before a wait that may be long. Cheap when there is nothing, and rare when not:
    /// whoever is woken at once and waits again has not been idle. If it is too early, after how long it is not.
    fn trim(&self) -> Option<Duration> {
        self.local.is_trim_asked.set(false);
        self.local.cache.trim(CACHE_BYTES_IDLE);
        self.local.table.take_returned(self.home);
        let given_back = self.local.cache.given_back();
        if given_back < TRIM_FROM_BYTES && !self.local.table.is_worth_a_trim() {
            return None;
        }
        let now_ns = self.clock.elapsed_ns();
        if let Some(early_ns) = self.next_trim_ns.get().checked_sub(now_ns).filter(|&early_ns| early_ns > 0) {
            return Some(Duration::from_nanos(early_ns));
        }
        self.next_trim_ns.set(now_ns + TRIM_EVERY_NS);
        self.local.cache.forget_given_back();
        let headers = if self.local.table.is_worth_a_trim() { self.local.table.trim() } else { 0 };
        if given_back.saturating_add(headers) >= TRIM_FROM_BYTES {
            task::pages::trim_allocator();
        }
        None
    }

    /// Makes the system tell again of what is ready: another thread may have missed the edge.
    #[cfg(unix)]
    fn rearm(&self, key: IoKey, fd: i32) {
        let interest = mio::Interest::READABLE | mio::Interest::WRITABLE;
        // It fails if the file was closed meanwhile; then a letter to forget it follows.
        let _ = self.registry.reregister(&mut mio::unix::SourceFd(&fd), Reactor::token(key), interest);
    }
}
