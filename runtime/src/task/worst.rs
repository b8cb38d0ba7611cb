//! What the parts of a home take at most, for whoever adds up a worst case.
//!
//! # Read next
//! `../worst.rs`, which adds it up.

use core::task::Waker;

use super::{Header, Home, desk, home, table};
use crate::bytes::table_bytes;

/// What the headers of so many tasks take at most, whole chunks.
pub(crate) fn header_bytes(tasks: usize) -> usize {
    table::bytes_for(tasks, size_of::<Header>())
}

/// What a table of so many wakers takes at most: of handles that are awaited on other threads, or of sockets.
pub(crate) fn waker_bytes(wakers: usize) -> usize {
    // A hash table has a byte of its own for each place, and is seven eighths full at most. What was taken out may make it
    // grow once too often.
    const PLACE_BYTES: usize = size_of::<(u64, Waker)>() + 1;
    table_bytes(wakers.saturating_add(wakers / 7 + 1).saturating_mul(2), PLACE_BYTES)
}

/// What the notes of declared bytes take at most when there are so many tasks: a word a header.
pub(crate) fn declared_bytes(tasks: usize) -> usize {
    table::bytes_for(tasks, size_of::<usize>())
}

/// What a worker takes beside its thread: its ring, and the free blocks that it keeps.
#[cfg(feature = "stealing")]
pub(crate) fn worker_bytes() -> usize {
    use super::team::{RING_LEN, Worker};
    size_of::<Worker>() + RING_LEN * size_of::<usize>() + super::body::cache_worst_bytes()
}

/// As above; there are none.
#[cfg(not(feature = "stealing"))]
pub(crate) fn worker_bytes() -> usize {
    0
}

/// A question that waits: its box, and the slip for its answer, without what the answer itself allocates.
const ERRAND_BYTES: usize = 512;

/// What a home takes besides.
pub(crate) fn fixed_bytes() -> usize {
    size_of::<Home>() + home::INBOX_ITEMS * 32 + desk::ERRANDS_MAX * ERRAND_BYTES
}
