//! Who is polled next, and when a thread sleeps.
//!
//! The single-threaded loop is `local.rs`; how other threads reach it is `inbox.rs`. Neither knows what a socket or a timer
//! is: the [`Park`] trait stands between. `watch.rs` tells which polls were long.

pub(crate) mod inbox;
pub(crate) mod local;
pub(crate) mod watch;

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
