//! Giving memory back to the system.
//!
//! # Problem
//! Freed memory that the allocator keeps, and headers that nobody uses, stay resident after a burst, and a container's limit
//! counts them.
//!
//! # Idea
//! Two calls, made when the runtime is about to wait and much has become free. Headers are never unmapped, since stale
//! wakers point at them; their pages are dropped and read as zeros from then on, which is a free header without a home
//! ([TABLE-3]). glibc is asked to return what it keeps; other allocators do so by themselves or not at all.
//!
//! # Read next
//! `table.rs`, which decides which headers.

use super::Header;

/// Pages are of this size at least, and of a multiple of it where they are larger.
#[cfg(all(target_os = "linux", not(any(anteroom_loom, anteroom_shuttle))))]
fn page_bytes() -> Option<usize> {
    // SAFETY: a question to the system, without memory of ours.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).ok()
}

/// Whether this system can take back the pages of headers.
pub(super) const CAN_DISCARD: bool =
    cfg!(all(target_os = "linux", not(any(anteroom_loom, anteroom_shuttle))));

/// How many headers there are up to the first page that begins within these.
pub(super) fn headers_before_page(headers: &'static [Header]) -> usize {
    #[cfg(all(target_os = "linux", not(any(anteroom_loom, anteroom_shuttle))))]
    let page = page_bytes();
    #[cfg(not(all(target_os = "linux", not(any(anteroom_loom, anteroom_shuttle)))))]
    let page = None;
    page.map_or(0, |page| headers.as_ptr().cast::<u8>().align_offset(page) / size_of::<Header>())
}

/// Drops the whole pages that `headers` cover: the headers on them are all zero afterwards. How many bytes were dropped.
///
/// # Safety
/// All of `headers` are free and in no list, and the owner will link them anew before it hands one out.
#[cfg(all(target_os = "linux", not(any(anteroom_loom, anteroom_shuttle))))]
pub(super) unsafe fn discard(headers: &'static [Header]) -> usize {
    let Some(page) = page_bytes() else { return 0 };
    let start = headers.as_ptr().cast_mut().cast::<u8>();
    let before = start.align_offset(page);
    let bytes = size_of_val(headers).saturating_sub(before) / page * page;
    if bytes == 0 {
        return 0;
    }
    let first = start.wrapping_add(before);
    // SAFETY: [TABLE-3] whole pages within the chunk, whose every field is an atomic or a cell for which zero is a value.
    let result = unsafe { libc::madvise(first.cast(), bytes, libc::MADV_DONTNEED) };
    if result == 0 { bytes } else { 0 }
}

/// As above, where the system has no such call.
///
/// # Safety
/// None is needed.
#[cfg(not(all(target_os = "linux", not(any(anteroom_loom, anteroom_shuttle)))))]
pub(super) unsafe fn discard(_: &'static [Header]) -> usize {
    0
}

/// Asks the allocator to give back what it keeps.
#[cfg(all(
    target_os = "linux",
    target_env = "gnu",
    not(any(anteroom_loom, anteroom_shuttle)),
    not(anteroom_asan)
))]
pub(crate) fn trim_allocator() {
    // SAFETY: callable at any time from any thread; where another allocator is in use it has nothing to do.
    let _released = unsafe { libc::malloc_trim(0) };
}

/// Asks the allocator to give back what it keeps.
#[cfg(not(all(
    target_os = "linux",
    target_env = "gnu",
    not(any(anteroom_loom, anteroom_shuttle)),
    not(anteroom_asan)
)))]
pub(crate) fn trim_allocator() {}
