//! What the system allows.

/// How many files this process may have open; `None` where that is not known.
#[cfg(target_os = "linux")]
pub(crate) fn files_max() -> Option<usize> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the system writes into `limit`, which lives for the call.
    let result = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    if result == 0 { usize::try_from(limit.rlim_cur).ok() } else { None }
}

/// How many files this process may have open; `None` where that is not known.
#[cfg(not(target_os = "linux"))]
pub(crate) fn files_max() -> Option<usize> {
    None
}

/// The codes of the errors that say that files or memory have run out: the machine's matter, which the next try will meet
/// as well.
#[cfg(target_os = "linux")]
pub(crate) const SHORTAGES: [i32; 4] = [libc::ENOMEM, libc::ENFILE, libc::EMFILE, libc::ENOBUFS];

/// The codes of the errors that say that files or memory have run out, as the BSDs and macOS number them.
#[cfg(not(target_os = "linux"))]
pub(crate) const SHORTAGES: [i32; 4] = [12, 23, 24, 55];
