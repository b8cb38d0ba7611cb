//! Sources to readiness: what the system last told us about each socket, and who waits for it.
//!
//! # Problem
//! The system tells of an edge once. Forgotten, the task that waits for it sleeps for ever; asked again each time, every
//! read costs a system call more.
//!
//! # Idea
//! Each source has one registration, edge-triggered, for both directions, and an entry here with the readiness that its
//! last edges left. An operation is tried when the entry says ready, and clears it when the system said that it would
//! block, or gave less than was asked for. Writable is assumed until the system says otherwise, so a reply needs no edge.
//! End of file and errors stay: no edge comes after them.
//!
//! # Bounds
//! As many entries as sources are open: `Builder::max_sockets`, and the system's limit of files. Beyond, an error.
//!
//! # Invariants
//! - [REACTOR-1] A token names a slot and a stamp; an event for another stamp is stale and ignored (bugs.md 46).
//! - [REACTOR-2] Readiness is cleared only by who has just seen the operation block, and only if no edge has come since it began:
//!   in a team another thread may take the events meanwhile (bugs.md 45). Edges are counted, and the count may come round: it
//!   would take four thousand million of them within one system call.
//!
//! # Read next
//! `mod.rs`, the turn that feeds it.

use std::io;
use std::task::Waker;

use mio::event::{Event, Source};
use mio::{Interest, Registry, Token};
use slab::Slab;

/// Which way the bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Direction {
    Read,
    Write,
}

/// Names a source; a key whose source was dropped names nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct IoKey {
    index: u32,
    stamp: u32,
}

/// How many bits of a token name the slot; the rest is the stamp.
const INDEX_BITS: u32 = if usize::BITS == 64 { 32 } else { 20 };
/// Sources at once: what fits into a token, and a little less, for the tokens of the driver's own.
const SOURCES_MAX: usize = (1 << INDEX_BITS.saturating_sub(1)) - 1;

impl IoKey {
    fn token(self) -> Token {
        Token((self.stamp as usize) << INDEX_BITS | self.index as usize)
    }

    fn from_token(Token(token): Token) -> Self {
        Self { index: (token & ((1 << INDEX_BITS) - 1)) as u32, stamp: (token >> INDEX_BITS) as u32 }
    }

    /// A number for a wait for one direction of this source; an index has a bit less than its type.
    pub(super) fn wait_number(self, direction: Direction) -> u64 {
        u64::from(self.stamp) << 32 | u64::from(self.index) << 1 | u64::from(direction == Direction::Write)
    }

    /// What [`wait_number`](Self::wait_number) was made of.
    pub(super) fn of_wait_number(number: u64) -> (IoKey, Direction) {
        let direction = if number & 1 == 0 { Direction::Read } else { Direction::Write };
        (IoKey { index: number as u32 >> 1, stamp: (number >> 32) as u32 }, direction)
    }

    /// As many bits of a stamp as the token has room for.
    const fn stamp(count: u32) -> u32 {
        count & (usize::MAX >> INDEX_BITS) as u32
    }
}

/// How many edges one direction of a source has seen, to tell whether another has come since.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Edges(u32);

/// What [`Reactor::look`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    Ready(Edges),
    Watched,
    Unwatched,
}

#[derive(Default)]
struct Side {
    ready: bool,
    /// No more edges will come: the peer has closed, or the socket failed.
    ended: bool,
    edges: Edges,
    waker: Option<Waker>,
}

impl Side {
    /// An edge has come; whom to wake.
    fn edge(&mut self, is_end: bool) -> Option<Waker> {
        self.ready = true;
        self.ended |= is_end;
        self.edges = Edges(self.edges.0.wrapping_add(1));
        self.waker.take()
    }
}

struct Entry {
    stamp: u32,
    /// The source's file, for a registration anew.
    fd: i32,
    read: Side,
    write: Side,
}

impl Entry {
    fn side(&mut self, direction: Direction) -> &mut Side {
        match direction {
            Direction::Read => &mut self.read,
            Direction::Write => &mut self.write,
        }
    }
}

/// All sources of one runtime.
#[derive(Default)]
pub(crate) struct Reactor {
    entries: Slab<Entry>,
    stamp: u32,
}

impl Reactor {
    /// What a source takes, in a table that doubles.
    pub(crate) const ENTRY_BYTES: usize = size_of::<Entry>() + size_of::<usize>();

    /// How many sources are open.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Begins to watch `source`. A failure leaves nothing behind (bugs.md 48).
    pub(crate) fn register(
        &mut self,
        registry: &Registry,
        source: &mut dyn Source,
        fd: i32,
        sources_max: usize,
    ) -> io::Result<IoKey> {
        let max = sources_max.min(SOURCES_MAX);
        if self.entries.len() >= max {
            return Err(io::Error::other(format!(
                "{max} sockets are open, the most that this runtime watches"
            )));
        }
        self.stamp = self.stamp.wrapping_add(1);
        let stamp = IoKey::stamp(self.stamp);
        let slot = self.entries.vacant_entry();
        let key = IoKey { index: slot.key() as u32, stamp };
        registry.register(source, key.token(), Interest::READABLE | Interest::WRITABLE)?;
        let write = Side { ready: true, ..Side::default() };
        slot.insert(Entry { stamp, fd, read: Side::default(), write });
        Ok(key)
    }

    /// Forgets a source; whoever waited for it is returned, to be dropped with nothing borrowed.
    pub(crate) fn remove(&mut self, key: IoKey) -> Option<(Option<Waker>, Option<Waker>)> {
        self.get(key)?;
        let entry = self.entries.remove(key.index as usize);
        Some((entry.read.waker, entry.write.waker))
    }

    /// The file of a source that is still watched.
    pub(crate) fn fd(&self, key: IoKey) -> Option<i32> {
        self.entries.get(key.index as usize).filter(|entry| entry.stamp == key.stamp).map(|entry| entry.fd)
    }

    /// Everybody who waits, by source, when nothing more will come.
    pub(crate) fn into_wakers(self) -> impl Iterator<Item = (Option<Waker>, Option<Waker>)> {
        self.entries.into_iter().map(|(_, entry)| (entry.read.waker, entry.write.waker))
    }

    fn get(&mut self, key: IoKey) -> Option<&mut Entry> {
        self.entries.get_mut(key.index as usize).filter(|entry| entry.stamp == key.stamp)
    }

    /// Takes in an event; whom to wake is returned, to be woken with nothing borrowed.
    pub(crate) fn dispatch(&mut self, event: &Event) -> (Option<Waker>, Option<Waker>) {
        let Some(entry) = self.get(IoKey::from_token(event.token())) else { return (None, None) };
        let failed = event.is_error();
        let mut woken = (None, None);
        if event.is_readable() || event.is_read_closed() || failed {
            woken.0 = entry.read.edge(event.is_read_closed() || failed);
        }
        if event.is_writable() || event.is_write_closed() || failed {
            woken.1 = entry.write.edge(event.is_write_closed() || failed);
        }
        woken
    }

    /// Whether it is worth trying, and if not, whether `waker` waits for the next edge already.
    #[inline]
    pub(crate) fn look(&mut self, key: IoKey, direction: Direction, waker: &Waker) -> Look {
        let Some(entry) = self.get(key) else { return Look::Ready(Edges::default()) };
        let side = entry.side(direction);
        if side.ready {
            Look::Ready(side.edges)
        } else if side.waker.as_ref().is_some_and(|old| old.will_wake(waker)) {
            Look::Watched
        } else {
            Look::Unwatched
        }
    }

    /// Wakes `waker` at the next edge; the one before is returned, to be dropped with nothing borrowed.
    pub(crate) fn watch(&mut self, key: IoKey, direction: Direction, waker: Waker) -> Option<Waker> {
        match self.get(key) {
            None => Some(waker),
            Some(entry) => entry.side(direction).waker.replace(waker),
        }
    }

    /// The operation, which began after so many edges, would block: wait for the next.
    #[inline]
    pub(crate) fn clear(&mut self, key: IoKey, direction: Direction, seen: Edges) {
        if let Some(side) = self.side_after(key, direction, seen) {
            side.ready = false;
        }
    }

    /// The operation gave less than was asked for: the next would block, unless the stream has ended.
    #[inline]
    pub(crate) fn clear_partial(&mut self, key: IoKey, direction: Direction, seen: Edges) {
        if let Some(side) = self.side_after(key, direction, seen) {
            side.ready = side.ended;
        }
    }

    /// One direction of a source, if it has seen no more edges ([REACTOR-2]).
    #[inline]
    fn side_after(&mut self, key: IoKey, direction: Direction, seen: Edges) -> Option<&mut Side> {
        self.get(key).map(|entry| entry.side(direction)).filter(|side| side.edges == seen)
    }

    /// Whoever waits for one direction waits for an edge that is still to come.
    pub(crate) fn expect_edge(&mut self, key: IoKey, direction: Direction) {
        if let Some(entry) = self.get(key) {
            entry.side(direction).ready = false;
        }
    }

    /// The token of a source, to register it anew.
    pub(crate) fn token(key: IoKey) -> Token {
        key.token()
    }
}

#[cfg(all(test, not(anteroom_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_wait_s_number_names_its_source_and_direction() {
        for index in [0, 1, SOURCES_MAX as u32] {
            for stamp in [0, 1, u32::MAX] {
                for direction in [Direction::Read, Direction::Write] {
                    let key = IoKey { index, stamp };
                    assert_eq!(IoKey::of_wait_number(key.wait_number(direction)), (key, direction));
                }
            }
        }
    }
}
