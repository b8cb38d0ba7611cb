//! Who is polled next, and when a thread sleeps.
//!
//! The single-threaded loop is `local.rs`; how other threads reach it is `inbox.rs`. The loop of a worker among others is
//! `stealing.rs`, with its run queue `ring.rs`, when it sleeps, `idle.rs`, and whether it is worth it, `worth.rs`. None knows what a socket or a timer is: the
//! [`Park`] trait stands between, or `TeamPark`. `watch.rs` tells which polls were long.

#[cfg(feature = "stealing")]
pub(crate) mod idle;
pub(crate) mod inbox;
pub(crate) mod local;
#[cfg(feature = "stealing")]
pub(crate) mod ring;
#[cfg(feature = "stealing")]
pub(crate) mod stealing;
pub(crate) mod watch;
#[cfg(feature = "stealing")]
pub(crate) mod worth;

/// What a loop does when it has looked at its tasks: one turn of whatever brings events from outside.
pub(crate) trait Park {
    /// Takes what has happened, without waiting. Called between polls; it decides by the clock whether to do anything.
    /// Returns after how many polls it wants to be called again.
    fn turn(&self) -> u32;

    /// The time by its clock.
    fn now_ns(&self) -> u64;

    /// Waits until something happens: an event, a timer, or the doorbell. `may_wait` is asked at the last moment.
    fn park(&self, may_wait: &dyn Fn() -> bool);

    /// Looks at what other threads left for it.
    fn collect(&self);
}

/// What one worker knows after a turn.
#[cfg(feature = "stealing")]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turn {
    /// After how many polls of its own it looks again.
    pub(crate) polls_max: u32,
    pub(crate) now_ns: u64,
}

/// As [`Park`], for several threads, of which one at a time waits; each call takes the key for itself.
#[cfg(feature = "stealing")]
pub(crate) trait TeamPark {
    /// As [`Park::turn`], of a worker whose last was `last`; while somebody waits here it only looks at the clock.
    fn turn(&self, last: Turn) -> Turn;

    /// The time by its clock.
    fn now_ns(&self) -> u64;

    /// Takes the one seat, if it is free.
    fn try_sit(&self) -> bool;

    /// Waits until something happens, or for so long; who calls has the seat, and keeps it.
    fn sit(&self, at_most: Option<std::time::Duration>);

    /// Gives the seat back.
    fn leave(&self);

    /// As [`Park::collect`].
    fn collect(&self);
}
