//! How much memory this process has, and has had at most, as the system counts it.
//!
//! Resident pages from `/proc/self/status`: `VmRSS` and its peak `VmHWM`. That is what a container's limit is
//! about; an allocator's own count would leave out the stacks, the code, and what it keeps. Elsewhere than on
//! Linux there is no portable peak, and the answer is None: "not available" in the table, `null` in JSON.

/// Bytes now.
pub(crate) fn now_bytes() -> Option<u64> {
    status("VmRSS:")
}

/// Bytes at the highest point since the process started.
pub(crate) fn peak_bytes() -> Option<u64> {
    status("VmHWM:")
}

fn status(name: &str) -> Option<u64> {
    field(&std::fs::read_to_string("/proc/self/status").ok()?, name)
}

fn field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_in_kib() {
        let status = "Name:\tcrawl\nVmPeak:\t    9000 kB\nVmHWM:\t    1234 kB\nVmRSS:\t  12 pages\n";
        assert_eq!(field(status, "VmHWM:"), Some(1_234 * 1_024));
        assert_eq!(field(status, "VmRSS:"), None);
        assert_eq!(field(status, "VmSwap:"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_peak_is_never_below_what_was_held() {
        let held = std::hint::black_box(vec![1_u8; 8 << 20]);
        assert!(peak_bytes().unwrap() >= held.len() as u64);
        assert!(now_bytes().unwrap() <= peak_bytes().unwrap());
    }
}
