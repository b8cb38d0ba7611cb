//! A wait that ends between two milliseconds.
//!
//! # Problem
//! `epoll_wait` counts in whole milliseconds, so a sleep of 100 µs would take ten times as long (bugs.md 44).
//!
//! # Idea
//! A timerfd among the sources ends the wait on time. It is armed only when whole milliseconds do not serve, re-armed only
//! for an earlier deadline, and disarmed before a wait without end, so that an idle runtime makes no system call. It is
//! registered edge-triggered and never read: each expiry is an edge of its own.
//!
//! # Rejected
//! Spinning until the deadline: it is exact, and takes a core.
//!
//! # Read next
//! `mod.rs`, which decides when it is worth arming.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};

/// A one-shot timer of the system, as a file.
pub(super) struct TimerFd(OwnedFd);

impl TimerFd {
    pub(super) fn new(registry: &Registry, token: Token) -> io::Result<Self> {
        // SAFETY: a system call that takes no memory of ours.
        let fd =
            unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_CLOEXEC | libc::TFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor has just been made, and nobody else owns it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        registry.register(&mut SourceFd(&fd.as_raw_fd()), token, Interest::READABLE)?;
        Ok(Self(fd))
    }

    /// Expires `after` from now, and not before; `None` disarms it. Whether it worked.
    pub(super) fn set(&self, after: Option<Duration>) -> bool {
        // Zero would disarm it.
        let after = after.map_or(Duration::ZERO, |after| after.max(Duration::from_nanos(1)));
        let it_value = libc::timespec {
            // 68 years fit everywhere.
            tv_sec: after.as_secs().min(i32::MAX as u64) as _,
            tv_nsec: after.subsec_nanos() as _,
        };
        let it_interval = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let spec = libc::itimerspec { it_interval, it_value };
        // SAFETY: the descriptor is open, `spec` lives for the call, and no old value is asked for.
        let result =
            unsafe { libc::timerfd_settime(self.0.as_raw_fd(), 0, &raw const spec, std::ptr::null_mut()) };
        result == 0
    }
}
