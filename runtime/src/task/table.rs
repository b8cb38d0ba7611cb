//! Headers that stay headers for ever, and how they are handed out again.
//!
//! # Problem
//! A waker holds a header's address and no count. It may be used long after its task, and after its runtime.
//!
//! # Idea
//! Headers are cut from chunks that are never unmapped, so that an address once handed out always points at one, with
//! the generation to tell whether it is still the same task. A free header is linked through the link of the run queue.
//! After a burst the pages that hold only free headers go back to the system, a few at a time; the addresses stay. The few tasks that declare bytes
//! have them noted beside their chunk, at the same index.
//!
//! # Invariants
//! - [TABLE-1] A header's address is valid for ever, and its home never changes.
//! - [TABLE-3] A header that is free and in no list may read as zeros at any time, when its pages were given back: then it
//!   has no home, and whoever wakes it does nothing. A header with a task or a handle is never free.
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

use super::pages::{CAN_DISCARD, discard, headers_before_page};
use super::state::{Action, Event, Phase};
use super::{Header, Home};
#[cfg(not(anteroom_loom))]
use crate::bytes::table_bytes;
use crate::sync::{Cell, IS_MODEL, Ordering};

/// The length of the chunks that take most of the memory: 256 KiB.
const CHUNK_LEN_MAX: usize = 4096;

/// Four pages of most systems: a hundred tasks that stay after a burst, however they lie, keep a hundred times 16 KiB.
const PIECE_LEN: usize = 256;

/// A chunk in pieces: up to the first page, by pages, and the rest.
fn whole_pieces(headers: &'static [Header]) -> impl Iterator<Item = &'static [Header]> {
    let (first, rest) = headers.split_at(headers_before_page(headers).min(headers.len()));
    std::iter::once(first).chain(rest.chunks(PIECE_LEN)).filter(|piece| !piece.is_empty())
}

/// How many headers the next chunk has when there are already so many.
const fn chunk_len(headers: usize) -> usize {
    if IS_MODEL {
        return 2;
    }
    match headers {
        0 => 64,
        1..1088 => 1024,
        _ => CHUNK_LEN_MAX,
    }
}

/// How many headers there are when so many are needed.
#[cfg(not(anteroom_loom))]
fn headers_for(needed: usize) -> usize {
    const SMALL: usize = chunk_len(0) + chunk_len(chunk_len(0));
    match needed.checked_sub(SMALL) {
        None if needed <= chunk_len(0) => chunk_len(0),
        None => SMALL,
        Some(more) => more.div_ceil(CHUNK_LEN_MAX).saturating_mul(CHUNK_LEN_MAX).saturating_add(SMALL),
    }
}

/// What they take, or something that stands beside each: every chunk may be mapped on its own, in whole pages.
#[cfg(not(anteroom_loom))]
pub(super) fn bytes_for(needed: usize, bytes_each: usize) -> usize {
    const PAGE_BYTES: usize = 4096;
    let headers = headers_for(needed);
    let chunks = 2 + headers.div_ceil(CHUNK_LEN_MAX);
    // And the list of their pieces, which has both in it.
    let pieces = headers.div_ceil(PIECE_LEN) + 2 * chunks;
    headers
        .saturating_mul(bytes_each)
        .saturating_add(chunks.saturating_mul(PAGE_BYTES))
        .saturating_add(table_bytes(pieces, size_of::<Piece>()))
}

/// All headers of one home, and those that are free.
pub(crate) struct Table {
    pieces: RefCell<Vec<Piece>>,
    free: Cell<Option<&'static Header>>,
    taken: Cell<usize>,
    /// Headers that are taken or in the list.
    linked: Cell<usize>,
    /// What these were after the last trim: while they are still that, another one finds nothing.
    trimmed_at: Cell<(usize, usize)>,
}

/// So much of a chunk as goes back to the system together.
#[derive(Clone, Copy)]
struct Piece {
    headers: &'static [Header],
    /// Whether its free headers are in the list; else its memory was given back.
    is_linked: bool,
    /// The bytes that its tasks declared beyond their size; made for the first of them, and leaked like the headers.
    declared: Option<&'static [Cell<usize>]>,
}

impl Table {
    pub(crate) fn new() -> Self {
        Self {
            pieces: RefCell::new(Vec::new()),
            free: Cell::new(None),
            taken: Cell::new(0),
            linked: Cell::new(0),
            trimmed_at: Cell::new((0, 0)),
        }
    }

    /// A free header; a new chunk is cut when there is none.
    #[inline(always)]
    pub(crate) fn take(&self, home: &'static Home) -> &'static Header {
        let header = match self.free.get() {
            Some(header) => header,
            None => self.find_one(home),
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

    /// How many headers take memory, in use or not.
    pub(crate) fn resident(&self) -> usize {
        self.linked.get()
    }

    /// One that came back from another thread, or else a new one.
    #[cold]
    fn find_one(&self, home: &'static Home) -> &'static Header {
        self.take_returned(home);
        self.free.get().unwrap_or_else(|| self.grow(home))
    }

    /// Takes in the headers whose handles took the output on other threads of a team.
    pub(crate) fn take_returned(&self, home: &'static Home) {
        let Some(team) = home.team() else { return };
        team.take_returned(|header| self.take_back(header));
    }

    /// Takes in a header whose handle has taken the output.
    pub(crate) fn take_back(&self, header: &'static Header) {
        let action = header.apply(Event::Recycle);
        debug_assert_eq!(action, Action::Recycle);
        self.give_back(header);
    }

    #[cold]
    fn grow(&self, home: &'static Home) -> &'static Header {
        let mut pieces = self.pieces.borrow_mut();
        let given_back = pieces.iter_mut().find(|piece| !piece.is_linked);
        let headers = match given_back {
            Some(piece) => {
                piece.is_linked = true;
                piece.headers
            }
            None => {
                let headers: usize = pieces.iter().map(|piece| piece.headers.len()).sum();
                let chunk: Box<[Header]> = (0..chunk_len(headers)).map(|_| Header::new()).collect();
                // [TABLE-1]: leaked on purpose, and kept by a home that is leaked too and recycled.
                let headers: &'static [Header] = Box::leak(chunk);
                super::waker::assert_room_for_generation(headers);
                pieces.extend(whole_pieces(headers).map(|headers| Piece {
                    headers,
                    is_linked: true,
                    declared: None,
                }));
                headers
            }
        };
        self.link(home, headers);
        &headers[0]
    }

    /// Where the bytes are noted that the task of `header`, which is of this table, declared beyond its size.
    #[cold]
    pub(crate) fn declared(&self, header: &'static Header) -> &'static Cell<usize> {
        let mut pieces = self.pieces.borrow_mut();
        let mut pieces = pieces.iter_mut();
        let piece = pieces.find(|piece| piece.headers.as_ptr_range().contains(&std::ptr::from_ref(header)));
        let piece = piece.expect("[TABLE-1] a header never leaves its piece");
        let cells = piece.declared.get_or_insert_with(|| {
            let cells: Box<[Cell<usize>]> = piece.headers.iter().map(|_| Cell::new(0)).collect();
            Box::leak(cells)
        });
        let bytes_before = std::ptr::from_ref(header).addr() - piece.headers.as_ptr().addr();
        &cells[bytes_before / size_of::<Header>()]
    }

    /// Makes free headers `home`'s, and puts them into the list.
    fn link(&self, home: &'static Home, headers: &'static [Header]) {
        for header in headers.iter().rev() {
            // Ordering: Relaxed; a stale waker finds null or this, and with null does nothing.
            header.home.store(home.tagged(), Ordering::Relaxed);
            header.next.set(self.free.replace(Some(header)));
        }
        self.linked.set(self.linked.get() + headers.len());
    }

    /// Whether enough headers are free for [`trim`](Self::trim) to be worth a look at all of them.
    pub(crate) fn is_worth_a_trim(&self) -> bool {
        let now @ (linked, taken) = (self.linked.get(), self.taken.get());
        CAN_DISCARD && linked - taken >= 2 * CHUNK_LEN_MAX && now != self.trimmed_at.get()
    }

    /// Gives the memory of wholly free pieces back to the system; how many bytes that were. Looks at every header.
    #[cold]
    pub(crate) fn trim(&self) -> usize {
        let mut pieces = self.pieces.borrow_mut();
        let is_free = |header: &Header| header.snapshot().phase() == Phase::Free;
        let mut bytes = 0;
        self.free.set(None);
        for piece in pieces.iter_mut().filter(|piece| piece.is_linked) {
            if piece.headers.len() < PIECE_LEN || !piece.headers.iter().all(is_free) {
                for header in piece.headers.iter().rev().filter(|header| is_free(header)) {
                    header.next.set(self.free.replace(Some(header)));
                }
                continue;
            }
            for header in piece.headers {
                header.next.set(None);
            }
            piece.is_linked = false;
            self.linked.set(self.linked.get() - piece.headers.len());
            // SAFETY: [TABLE-3] all of them are free, and in no list since the list has just been made anew without them.
            bytes += unsafe { discard(piece.headers) };
        }
        self.trimmed_at.set((self.linked.get(), self.taken.get()));
        bytes
    }

    /// Calls `f` with every header that takes memory, free ones included. `f` may spawn and free, but a chunk that is cut
    /// meanwhile is not visited.
    pub(crate) fn for_each(&self, f: impl FnMut(&'static Header)) {
        self.visit(f, |piece| piece.is_linked);
    }

    /// The first header for which `f` holds.
    pub(crate) fn find(&self, f: impl Fn(&'static Header) -> bool) -> Option<&'static Header> {
        let pieces = self.pieces.borrow();
        pieces.iter().filter(|piece| piece.is_linked).flat_map(|piece| piece.headers).find(|header| f(header))
    }

    /// Calls `f` with every header there is: also one whose memory was given back may have been asked for something, by a
    /// stale waker on another thread.
    pub(crate) fn for_each_ever(&self, f: impl FnMut(&'static Header)) {
        self.visit(f, |_| true);
    }

    fn visit(&self, mut f: impl FnMut(&'static Header), which: fn(&Piece) -> bool) {
        let pieces = self.pieces.borrow().len();
        for index in 0..pieces {
            let piece = self.pieces.borrow()[index];
            if which(&piece) {
                piece.headers.iter().for_each(&mut f);
            }
        }
    }
}

#[cfg(all(test, not(anteroom_loom)))]
mod tests {
    use super::super::{Event, Outcome, Owner};

    #[test]
    fn each_header_has_its_own_note_of_what_was_declared() {
        let owner = Owner::new();
        let _inside = owner.enter();
        let local = owner.home().local().expect("inside");
        // Of three chunks.
        let headers: Vec<_> = (0..2_000).map(|_| local.table.take(owner.home())).collect();
        for (index, header) in headers.iter().enumerate() {
            local.table.declared(header).set(index + 1);
        }
        for (index, header) in headers.iter().enumerate() {
            assert_eq!(local.table.declared(header).get(), index + 1);
            local.table.give_back(header);
        }
    }

    #[test]
    fn a_header_that_was_given_back_is_one_again_when_it_is_needed() {
        // [TABLE-3]
        let owner = Owner::new();
        let _inside = owner.enter();
        let local = owner.home().local().expect("inside");
        let table = &local.table;
        for _ in 0..2 {
            let headers: Vec<_> = (0..20_000).map(|_| table.take(owner.home())).collect();
            let kept = headers[0];
            let _ = kept.apply(Event::Spawn { handle: false });
            for header in &headers[1..] {
                table.give_back(header);
            }
            assert!(!super::CAN_DISCARD || table.is_worth_a_trim());
            let (resident, bytes) = (table.resident(), table.trim());
            assert_eq!(super::CAN_DISCARD, bytes > 700_000, "{bytes} given back");
            assert!(table.resident() <= resident - bytes / 64);
            assert!(!table.is_worth_a_trim());
            assert_eq!(table.taken(), 1);
            assert!(kept.home().is_some());
            // A waker of then finds nobody, whether or not the memory is there.
            headers[1..].iter().for_each(|header| header.wake(0));
            let _ = (kept.apply(Event::StartPoll), kept.apply(Event::Finish(Outcome::Cancelled)));
            table.give_back(kept);
        }
    }
}
