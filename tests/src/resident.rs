//! What the system says of this process: its memory and its files.

use std::fs;

/// Memory of this process that is in use now, in bytes.
///
/// # Panics
/// On a system without `/proc`.
pub fn resident() -> usize {
    // The sum over all pages; what `status` shows lags behind by some pages a thread.
    line("smaps_rollup", "Rss:")
}

/// The most that was ever in use since the process began, or since [`forget_peak`].
///
/// # Panics
/// As [`resident`].
pub fn resident_peak() -> usize {
    line("status", "VmHWM:")
}

/// Makes the present use the peak; whether the system does that.
pub fn forget_peak() -> bool {
    fs::write("/proc/self/clear_refs", "5").is_ok()
}

/// Files that this process has open, the one that counts them included.
///
/// # Panics
/// As [`resident`].
pub fn files_open() -> usize {
    fs::read_dir("/proc/self/fd").expect("/proc").count()
}

fn line(file: &str, name: &str) -> usize {
    let text = fs::read_to_string(format!("/proc/self/{file}")).expect("/proc");
    let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("a line of that name");
    let kib: usize = line.trim().trim_end_matches("kB").trim().parse().expect("a number of KiB");
    kib * 1024
}

/// Reads every page of the program itself and of its libraries, so that code which runs for the first time later takes no
/// memory then.
#[cfg(target_os = "linux")]
pub fn read_program() {
    let maps = fs::read_to_string("/proc/self/maps").expect("/proc");
    for line in maps.lines().filter(|line| line.contains('/') && line.contains(" r")) {
        let Some((range, _)) = line.split_once(' ') else { continue };
        let Some((start, end)) = range.split_once('-') else { continue };
        let parse = |text| usize::from_str_radix(text, 16).expect("an address");
        let (start, end) = (parse(start), parse(end));
        let at = std::ptr::without_provenance_mut(start);
        // SAFETY: it asks the system to read pages that are mapped, and changes none; where it cannot, it says so.
        let _unsupported = unsafe { libc::madvise(at, end - start, libc::MADV_POPULATE_READ) };
    }
}
