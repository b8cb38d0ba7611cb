//! Open files: each connection is one, and the system gives a process 256 or 1,024 unless it asks for more.

/// What a process has open besides its connections: standard streams, the poller and its doorbell, listeners.
const OTHER_FILES: u64 = 64;

/// Raises this process's limit to the hard one, and says so on standard error if `connections` do not fit
/// even then.
pub(crate) fn raise_open_files(who: &str, connections: usize, files_each: u64) {
    // Fails where there is no such limit, or where it cannot be read: then nothing is known to be too low.
    let Ok(limit) = rlimit::increase_nofile_limit(u64::MAX) else { return };
    if let Some(shortage) = shortage(limit, connections, files_each) {
        eprintln!("crawl: {who}: {shortage}");
    }
}

fn shortage(limit: u64, connections: usize, files_each: u64) -> Option<String> {
    let needed = (connections as u64).saturating_mul(files_each).saturating_add(OTHER_FILES);
    (limit < needed).then(|| {
        format!(
            "the hard limit of {limit} open files is below the {needed} that {connections} connections \
             may need; those over it wait and try again"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_too_low_only_below_what_is_needed() {
        assert_eq!(shortage(1_064, 1_000, 1), None);
        assert!(shortage(1_063, 1_000, 1).unwrap().contains("1063 open files is below the 1064"));
        assert!(shortage(u64::MAX - 1, usize::MAX, 2).is_some());
    }
}
