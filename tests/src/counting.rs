//! An allocator that counts, a thread at a time, so that a test is not disturbed by its neighbours.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicIsize, Ordering};

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

static BYTES_LIVE: AtomicIsize = AtomicIsize::new(0);

/// The system's allocator with two counts; a test binary makes it its `#[global_allocator]`.
#[derive(Debug)]
pub struct Counting;

/// How often this thread has allocated, or made a block larger or smaller.
pub fn allocations() -> usize {
    ALLOCATIONS.with(Cell::get)
}

/// How many bytes of all threads are allocated now.
pub fn bytes_live() -> isize {
    BYTES_LIVE.load(Ordering::SeqCst)
}

fn count(bytes: isize) {
    if bytes > 0 {
        // A thread that is ending has no count any more.
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
    }
    BYTES_LIVE.fetch_add(bytes, Ordering::SeqCst);
}

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(-(layout.size() as isize));
        count(size as isize);
        // SAFETY: the caller's promise.
        unsafe { System.realloc(block, layout, size) }
    }
}
