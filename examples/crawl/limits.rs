//! Open files: each connection is one, and the system gives a process 256 or 1,024 unless it asks for more.

/// What a process has open besides its connections: standard streams, the poller and its doorbell, listeners,
/// and for each of those a connection in its hand.
const OTHER_FILES: u64 = 64;

/// Raises this process's limit to the hard one and says how many connections fit into it, of `files_each`.
pub(crate) fn raise_open_files(files_each: u64) -> usize {
    // Fails where there is no such limit, or where it cannot be read: then nothing is known to be too low.
    rlimit::increase_nofile_limit(u64::MAX).map_or(usize::MAX, |limit| connections(limit, files_each))
}

fn connections(open_files_max: u64, files_each: u64) -> usize {
    let fit = open_files_max.saturating_sub(OTHER_FILES) / files_each;
    // At least one, or nothing could ever be tried.
    usize::try_from(fit).unwrap_or(usize::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_leaves_room_for_the_rest() {
        assert_eq!(connections(1_024, 1), 960);
        assert_eq!(connections(1_024, 2), 480);
        assert_eq!(connections(20, 2), 1);
        assert_eq!(connections(u64::MAX, 1) as u64, u64::MAX - OTHER_FILES);
    }
}
