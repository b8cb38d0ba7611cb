//! What a task waits for.
//!
//! # Problem
//! A runtime that is full and does nothing looks the same whether its tasks wait for a peer, for a timer or for each other.
//!
//! # Idea
//! Each future of this crate notes its kind in the header of the task that is being polled when it returns `Pending`; the
//! next poll begins with none. So a header always shows what its last poll ran into. Futures of other crates note nothing.
//!
//! # Rejected
//! A name of each future: it tells more, and takes eight bytes where a header has one.
//!
//! # Read next
//! `../holders.rs`, which shows it.

use core::fmt;
#[cfg(not(anteroom_loom))]
use core::task::Poll;

use super::company::polled_here;
use super::{Header, Local};

/// What a task waits for: some of admission, another task, a timer, I/O and a blocking job, or something that this crate
/// does not know, such as a channel of another crate.
///
/// ```
/// use std::time::Duration;
/// anteroom::block_on(async {
///     let _task = anteroom::spawn(anteroom::time::sleep(Duration::from_secs(1))).await.unwrap();
///     anteroom::yield_now().await;
///     let holders = anteroom::holders();
///     assert!(holders[0].waits_for().timer());
///     assert_eq!(holders[0].waits_for().to_string(), "a timer");
/// });
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WaitsFor(u8);

impl WaitsFor {
    pub(crate) const NOTHING_KNOWN: WaitsFor = WaitsFor(0);
    pub(crate) const ADMISSION: WaitsFor = WaitsFor(1);
    pub(crate) const JOIN: WaitsFor = WaitsFor(1 << 1);
    pub(crate) const TIMER: WaitsFor = WaitsFor(1 << 2);
    pub(crate) const IO: WaitsFor = WaitsFor(1 << 3);
    pub(crate) const BLOCKING: WaitsFor = WaitsFor(1 << 4);
    pub(crate) const GROUP: WaitsFor = WaitsFor(1 << 5);

    /// Room or a task, as it may be, of another runtime: nothing here knows whether anything moves there.
    const ELSEWHERE: WaitsFor = WaitsFor(1 << 6);
    pub(crate) const ADMISSION_ELSEWHERE: WaitsFor = Self::ADMISSION.and(Self::ELSEWHERE);
    pub(crate) const JOIN_ELSEWHERE: WaitsFor = Self::JOIN.and(Self::ELSEWHERE);

    const NAMES: [(WaitsFor, &'static str); 6] = [
        (Self::ADMISSION, "a place"),
        (Self::GROUP, "a group's place"),
        (Self::JOIN, "a task"),
        (Self::TIMER, "a timer"),
        (Self::IO, "I/O"),
        (Self::BLOCKING, "a blocking job"),
    ];

    pub(super) const fn has(self, other: WaitsFor) -> bool {
        self.0 & other.0 != 0
    }

    /// A place for a task that it wants to spawn.
    pub const fn admission(self) -> bool {
        self.has(Self::ADMISSION)
    }

    /// A place of a [`TaskGroup`](crate::TaskGroup) with a limit, for a task that it wants to spawn there.
    pub const fn group(self) -> bool {
        self.has(Self::GROUP)
    }

    /// The end of another task.
    pub const fn join(self) -> bool {
        self.has(Self::JOIN)
    }

    /// A sleep, a timeout or an interval.
    pub const fn timer(self) -> bool {
        self.has(Self::TIMER)
    }

    /// A socket.
    pub const fn io(self) -> bool {
        self.has(Self::IO)
    }

    /// A job of the blocking pool, or room there; name lookups among them.
    pub const fn blocking(self) -> bool {
        self.has(Self::BLOCKING)
    }

    /// Nothing that this crate knows.
    pub const fn unknown(self) -> bool {
        self.0 == 0
    }

    /// Nothing but room, or other tasks, of this runtime.
    pub(super) const fn is_inside(self) -> bool {
        !self.unknown() && self.0 & !(Self::ADMISSION.0 | Self::GROUP.0 | Self::JOIN.0) == 0
    }

    /// Something that comes from outside of the runtime's tasks, and that the runtime knows of.
    pub(super) const fn is_outside(self) -> bool {
        self.has(Self::TIMER.and(Self::IO).and(Self::BLOCKING).and(Self::ELSEWHERE))
    }

    const fn and(self, other: WaitsFor) -> WaitsFor {
        WaitsFor(self.0 | other.0)
    }

    #[inline(always)]
    pub(super) const fn bits(self) -> u8 {
        self.0
    }

    #[inline(always)]
    pub(super) const fn from_bits(bits: u8) -> Self {
        WaitsFor(bits)
    }
}

impl fmt::Display for WaitsFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut is_first = true;
        for (_, name) in Self::NAMES.into_iter().filter(|&(one, _)| self.has(one)) {
            write!(f, "{}{name}", if is_first { "" } else { " or " })?;
            is_first = false;
        }
        if is_first { f.write_str("something else") } else { Ok(()) }
    }
}

impl fmt::Debug for WaitsFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WaitsFor({self})")
    }
}

/// Notes in the task that is being polled on this thread that it waits for `reason`.
#[inline]
pub(crate) fn waits_for(reason: WaitsFor) {
    if let Some(task) = polled_here() {
        task.wait_for(reason);
    }
}

impl Header {
    /// Notes that it waits for `reason`, too; called by who polls it.
    #[inline(always)]
    pub(super) fn wait_for(&self, reason: WaitsFor) {
        self.set_reasons(self.reasons().and(reason));
    }
}

impl Local {
    /// As the function, for who has this at hand.
    #[inline(always)]
    pub(super) fn waits_for(&self, reason: WaitsFor) {
        if let Some(task) = self.current.get() {
            task.wait_for(reason);
        }
    }
}

/// As [`waits_for`], if `polled` is pending.
#[inline(always)]
#[cfg(not(anteroom_loom))]
pub(crate) fn noted<T>(reason: WaitsFor, polled: Poll<T>) -> Poll<T> {
    if polled.is_pending() {
        waits_for(reason);
    }
    polled
}

#[cfg(all(test, not(anteroom_loom)))]
mod tests {
    use super::*;

    #[test]
    fn reasons_add_up_and_are_named() {
        let both = WaitsFor::TIMER.and(WaitsFor::IO);
        assert!(both.timer() && both.io() && !both.join() && !both.unknown());
        assert_eq!(both.to_string(), "a timer or I/O");
        assert_eq!(WaitsFor::NOTHING_KNOWN.to_string(), "something else");
    }
}
