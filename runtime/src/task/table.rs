//! Headers that stay headers for ever, and how they are handed out again.
//!
//! # Problem
//! A waker holds a header's address and no count. It may be used long after its task, and after its runtime.
//!
//! # Idea
//! Headers are cut from chunks that are never given back, so that an address once handed out always points at one, with
//! the generation to tell whether it is still the same task. A free header is linked through the link of the run queue.
//!
//! # Invariants
//! - [TABLE-1] A header's address is valid for ever, and its home never changes.
//! - [TABLE-2] There are at most as many headers as places plus kept handles, rounded up to a chunk.
//!
//! # Rejected
//! Chunks of one size: a daemon with ten tasks would pay for thousands, or a million tasks would need thousands of
//! allocations. The first chunk is a page; later ones are large enough for the allocator to map them on their own, so that
//! they pin none of its other memory.
//!
//! # Read next
//! `state.rs`, for what a header's words mean.

use std::cell::RefCell;

use super::{Header, Home};
use crate::sync::Cell;

/// How many headers the next chunk has when there are already so many.
const fn chunk_len(headers: usize) -> usize {
    if cfg!(anteroom_loom) {
        return 2;
    }
    match headers {
        0 => 64,
        1..1088 => 1024,
        _ => 4096,
    }
}

/// All headers of one home, and those that are free.
pub(crate) struct Table {
    chunks: RefCell<Vec<&'static [Header]>>,
    free: Cell<Option<&'static Header>>,
    taken: Cell<usize>,
}

impl Table {
    pub(crate) fn new() -> Self {
        Self { chunks: RefCell::new(Vec::new()), free: Cell::new(None), taken: Cell::new(0) }
    }

    /// A free header; a new chunk is cut when there is none.
    #[inline(always)]
    pub(crate) fn take(&self, home: &'static Home) -> &'static Header {
        let header = match self.free.get() {
            Some(header) => header,
            None => self.grow(home),
        };
        self.free.set(header.next.take());
        self.taken.set(self.taken.get() + 1);
        header
    }

    /// Gives back a header whose state is free.
    #[inline(always)]
    pub(crate) fn give_back(&self, header: &'static Header) {
        debug_assert!(header.next.get().is_none(), "it is in no other list");
        header.next.set(self.free.replace(Some(header)));
        self.taken.set(self.taken.get() - 1);
    }

    /// How many headers are handed out: live tasks, and finished ones whose handle is kept.
    pub(crate) fn taken(&self) -> usize {
        self.taken.get()
    }

    #[cold]
    fn grow(&self, home: &'static Home) -> &'static Header {
        let mut chunks = self.chunks.borrow_mut();
        let headers: usize = chunks.iter().map(|chunk| chunk.len()).sum();
        let chunk: Box<[Header]> = (0..chunk_len(headers)).map(|_| Header::new(home)).collect();
        // [TABLE-1]: leaked on purpose, and kept by a home that is leaked too and recycled.
        let chunk: &'static [Header] = Box::leak(chunk);
        super::waker::assert_room_for_generation(chunk);
        chunks.push(chunk);
        for header in chunk.iter().rev() {
            header.next.set(self.free.replace(Some(header)));
        }
        &chunk[0]
    }

    /// Calls `f` with every header there is, free ones included. `f` may spawn and free, but a chunk that is cut meanwhile
    /// is not visited.
    pub(crate) fn for_each(&self, mut f: impl FnMut(&'static Header)) {
        let chunks = self.chunks.borrow().len();
        for index in 0..chunks {
            let chunk = self.chunks.borrow()[index];
            chunk.iter().for_each(&mut f);
        }
    }
}
