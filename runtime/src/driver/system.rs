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
