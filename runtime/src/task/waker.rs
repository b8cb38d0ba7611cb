//! Wakers that own nothing.
//!
//! # Problem
//! A waker that counts its task costs a locked instruction a clone and a drop, keeps the task's memory for as long as any
//! future keeps the waker, and so makes cycles that leak.
//!
//! # Idea
//! The data of a waker is its header's address with the generation in the bits that an address leaves free. Clone copies
//! the word, drop does nothing, and a wake whose generation is not the header's is ignored.
//!
//! # Invariants
//! - [WAKER-1] The data of a waker with [`VTABLE`] is what [`encode`] made of a header, so [`decode`] gives that header
//!   back; by [TABLE-1] it is valid for ever, also on other threads and after the runtime is gone.
//! - [WAKER-2] Nothing but a spurious poll depends on the generation: with 22 bits it repeats after four million reuses
//!   of one header, and it begins anew when the header's memory was given back.
//!
//! # Bounds
//! User addresses of at most 48 bits, and untagged. Where an allocator tags the top byte (Android on 64-bit ARM) the first
//! chunk of headers says so and panics.
//!
//! # Read next
//! `mod.rs`, for what a wake does.

use core::mem::ManuallyDrop;
use core::task::{RawWaker, RawWakerVTable, Waker};

use super::state::{GENERATION_BITS, generation_bits};
use super::vtable::quietly;
use super::{Header, outside};

/// Where the generation lies in a word of a given width. The width is a parameter only so that both are tested on any
/// machine; all of it is constants here.
#[derive(Clone, Copy)]
struct Packing {
    word_bits: u32,
    /// How many bits of the generation lie above an address; the rest lies below.
    high_bits: u32,
}

/// That of this machine.
const PACKING: Packing = Packing::of(usize::BITS);
const NOT_ADDRESS: usize = PACKING.not_address() as usize;

impl Packing {
    const fn of(word_bits: u32) -> Self {
        let low_bits = 6;
        Self { word_bits, high_bits: generation_bits(word_bits) - low_bits }
    }

    /// The bits of an address that a generation takes.
    const fn not_address(self) -> u64 {
        self.rotated_back(u64::MAX >> (64 - generation_bits(self.word_bits)))
    }

    /// A generation is the lowest bits of the word when this was rotated, so that one instruction puts both parts in place.
    const fn rotated(self, word: u64) -> u64 {
        if self.word_bits == 64 { word.rotate_left(self.high_bits) } else { word }
    }

    const fn rotated_back(self, word: u64) -> u64 {
        if self.word_bits == 64 { word.rotate_right(self.high_bits) } else { word }
    }

    #[inline(always)]
    const fn pack(self, address: u64, generation: u32) -> u64 {
        address | self.rotated_back(generation as u64)
    }

    #[inline(always)]
    const fn unpack(self, data: u64) -> (u64, u32) {
        let generation = self.rotated(data & self.not_address()) as u32;
        (data & !self.not_address(), generation)
    }
}

/// One for all tasks, and one address for it: `will_wake` and `joiner` compare it.
static VTABLE: RawWakerVTable = RawWakerVTable::new(clone, wake, wake, |_| {});

/// An address with a generation, as it travels in a waker.
#[inline(always)]
const fn pack(address: usize, generation: u32) -> usize {
    PACKING.pack(address as u64, generation) as usize
}

#[inline(always)]
const fn unpack(data: usize) -> (usize, u32) {
    let (address, generation) = PACKING.unpack(data as u64);
    (address as usize, generation)
}

/// Panics on a machine whose addresses use the bits that the generation needs.
pub(super) fn assert_room_for_generation(chunk: &'static [Header]) {
    for header in [chunk.first(), chunk.last()].into_iter().flatten() {
        let address = core::ptr::from_ref(header).addr();
        assert_eq!(address & NOT_ADDRESS, 0, "an address must leave {GENERATION_BITS} bits free");
    }
}

#[inline(always)]
pub(super) fn encode(header: &'static Header, generation: u32) -> *const () {
    core::ptr::from_ref(header).cast::<()>().map_addr(|address| pack(address, generation))
}

/// # Safety
/// `data` was made by [`encode`].
#[inline(always)]
pub(super) unsafe fn decode(data: *const ()) -> (&'static Header, u32) {
    let (_, generation) = unpack(data.addr());
    let header = data.map_addr(|address| unpack(address).0).cast::<Header>();
    // SAFETY: [WAKER-1] this is the address of a header again, with its provenance, and headers live for ever.
    (unsafe { &*header }, generation)
}

/// The waker of a task as it is now; it may be copied freely, so it is never dropped.
#[inline(always)]
pub(super) fn waker(header: &'static Header, generation: u32) -> ManuallyDrop<Waker> {
    // SAFETY: [WAKER-1] the functions of VTABLE ask of their data only that `encode` made it; they never block, and are
    // callable from any thread.
    ManuallyDrop::new(unsafe { Waker::new(encode(header, generation), &VTABLE) })
}

/// Wakes what `data` names, as its waker would.
///
/// # Safety
/// `data` came from [`own_data`].
pub(super) unsafe fn wake_data(data: *const ()) {
    // SAFETY: [WAKER-1] a waker with VTABLE carries data of `encode`.
    unsafe { wake(data) }
}

/// The data of a waker of ours, or `None` for another's.
#[inline(always)]
pub(super) fn own_data(waker: &Waker) -> Option<*const ()> {
    core::ptr::eq(waker.vtable(), &VTABLE).then(|| waker.data())
}

/// Whether it is one of ours, which runs no code but this crate's.
#[inline(always)]
pub(crate) fn is_own(waker: &Waker) -> bool {
    own_data(waker).is_some()
}

/// Wakes `waker`, whose panic has nobody to go to. One of ours cannot panic.
#[inline]
pub(crate) fn wake_quietly(waker: Waker) {
    if is_own(&waker) {
        waker.wake();
    } else {
        wake_anothers(waker);
    }
}

#[cold]
#[inline(never)]
fn wake_anothers(waker: Waker) {
    quietly(|| waker.wake());
}

/// Clones `waker`; another's is code of others.
#[inline]
pub(crate) fn cloned(waker: &Waker) -> Waker {
    match own_data(waker) {
        Some(_) => waker.clone(),
        None => outside(|| waker.clone()),
    }
}

/// Drops `waker`; another's is code of others.
#[inline]
pub(crate) fn let_go(waker: Option<Waker>) {
    let Some(waker) = waker else { return };
    match own_data(&waker) {
        Some(_) => drop(waker),
        None => outside(|| drop(waker)),
    }
}

fn clone(data: *const ()) -> RawWaker {
    RawWaker::new(data, &VTABLE)
}

/// # Safety
/// `data` was made by [`encode`].
unsafe fn wake(data: *const ()) {
    // SAFETY: [WAKER-1] forwarded from the caller, which is VTABLE or the keeper of a joiner's data.
    let (header, generation) = unsafe { decode(data) };
    header.wake(generation);
}

#[cfg(all(test, not(anteroom_loom)))]
mod tests {
    use super::*;

    #[test]
    fn address_and_generation_travel_in_one_word_of_either_width() {
        for word_bits in [32, 64] {
            let packing = Packing::of(word_bits);
            let word = u64::MAX >> (64 - word_bits);
            let address_max = word & !packing.not_address();
            let generation_max = u32::MAX >> (32 - generation_bits(word_bits));
            // Every bit of the word is an address's or a generation's, and none is both's.
            assert_eq!(packing.pack(address_max, generation_max), word);
            assert_eq!((packing.not_address() & word).count_ones(), generation_bits(word_bits));
            assert_eq!(packing.not_address() & !word, 0);
            for address in [0, 0x40, 0x1234_5640 & address_max, address_max] {
                for generation in [0, 1, 63, 64, 0x2A_AAAA, u32::MAX] {
                    let generation = generation & generation_max;
                    let data = packing.pack(address, generation);
                    assert_eq!(data & !word, 0, "it fits into a word of {word_bits} bits");
                    assert_eq!(packing.unpack(data), (address, generation));
                }
            }
        }
        let address = 0x1234_5640 & !NOT_ADDRESS;
        assert_eq!(unpack(pack(address, 63)), (address, 63));
    }
}
