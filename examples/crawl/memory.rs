//! How much memory this process has, and has had at most, as the system counts it; and what the allocator keeps
//! of it.
//!
//! Resident pages from `/proc/self/status`: `VmRSS` and its peak `VmHWM`. That is what a container's limit is
//! about; an allocator's own count would leave out the stacks, the code, and what it keeps. Elsewhere than on
//! Linux there is no portable peak, and the answer is None: "not available" in the table, `null` in JSON.
//!
//! # What the allocator keeps
//!
//! glibc takes large buffers from the system and gives them back one by one, but what is large it learns: after
//! the first page of 4 MiB was freed, all up to that size come from its heap. Of a heap only the end is ever
//! given back, so one small thing that lives long (a URL) keeps all that lies before it: after a crawl of whole
//! pages up to 40 of 44 MiB, in our runs. So a crawl that reads whole pages fixes what is large
//! ([`large_buffers_apart`]), and when it is over asks for what lies between ([`give_back`]). Other allocators
//! are left alone.

/// Bytes now.
pub(crate) fn now_bytes() -> Option<u64> {
    status("VmRSS:")
}

/// Bytes at the highest point since the process started.
pub(crate) fn peak_bytes() -> Option<u64> {
    status("VmHWM:")
}

/// From now on, each buffer of 128 KiB or more goes back to the system when it is freed. Before other threads
/// allocate.
pub(crate) fn large_buffers_apart() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    glibc::large_buffers_apart();
}

/// Gives back what was freed.
pub(crate) fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    glibc::give_back();
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod glibc {
    use std::ffi::c_int;

    const M_MMAP_THRESHOLD: c_int = -3;

    unsafe extern "C" {
        fn mallopt(parameter: c_int, value: c_int) -> c_int;
        fn malloc_trim(pad: usize) -> c_int;
    }

    pub(super) fn large_buffers_apart() {
        // What it is at the start; to set it is what stops the learning.
        // SAFETY: Takes two numbers, and locks the allocator itself.
        let done = unsafe { mallopt(M_MMAP_THRESHOLD, 128 * 1024) };
        debug_assert_eq!(done, 1, "a threshold of 128 KiB is allowed");
    }

    pub(super) fn give_back() {
        // SAFETY: Takes a number, and locks the allocator itself. It touches only what is free.
        unsafe { malloc_trim(0) };
    }
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

    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[test]
    fn what_was_freed_under_something_that_lives_goes_back() {
        large_buffers_apart();
        // Too small to be apart, so they lie in the heap, and the last of them keeps the others.
        let mut held: Vec<Vec<u8>> = (0..1_000).map(|_| vec![1_u8; 64 << 10]).collect();
        let full = now_bytes().unwrap();
        let last = held.pop();
        drop(held);
        give_back();
        let left = now_bytes().unwrap();
        assert!(left + (40 << 20) < full, "{left} bytes of {full} are left");
        drop(last);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_peak_is_never_below_what_was_held() {
        let held = std::hint::black_box(vec![1_u8; 8 << 20]);
        assert!(peak_bytes().unwrap() >= held.len() as u64);
        assert!(now_bytes().unwrap() <= peak_bytes().unwrap());
    }
}
