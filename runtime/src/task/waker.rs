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
    /// The bits of an address that a generation takes, low and high.
    low: u64,
    high: u64,
    low_bits: u32,
    /// Where the high bits start; without any it does not matter, and must not overflow a shift.
    high_shift: u32,
}

/// That of this machine.
const PACKING: Packing = Packing::of(usize::BITS);
const LOW: usize = PACKING.low as usize;
const HIGH: usize = PACKING.high as usize;

impl Packing {
    const fn of(word_bits: u32) -> Self {
        let low_bits = 6;
        let high_bits = generation_bits(word_bits) - low_bits;
        let word = u64::MAX >> (64 - word_bits);
        let high_shift = if high_bits == 0 { 0 } else { word_bits - high_bits };
        let high = if high_bits == 0 { 0 } else { word & (word << high_shift) };
        Self { low: (1 << low_bits) - 1, high, low_bits, high_shift }
    }

    const fn pack(self, address: u64, generation: u32) -> u64 {
        let generation = generation as u64;
        address | generation & self.low | (generation >> self.low_bits << self.high_shift) & self.high
    }

    const fn unpack(self, data: u64) -> (u64, u32) {
        let high = (data & self.high) >> self.high_shift << self.low_bits;
        (data & !(self.low | self.high), (data & self.low | high) as u32)
    }
}

/// One for all tasks, and one address for it: `will_wake` and `joiner` compare it.
static VTABLE: RawWakerVTable = RawWakerVTable::new(clone, wake, wake, |_| {});

/// An address with a generation, as it travels in a waker.
const fn pack(address: usize, generation: u32) -> usize {
    PACKING.pack(address as u64, generation) as usize
}

const fn unpack(data: usize) -> (usize, u32) {
    let (address, generation) = PACKING.unpack(data as u64);
    (address as usize, generation)
}

/// Panics on a machine whose addresses use the bits that the generation needs.
pub(super) fn assert_room_for_generation(chunk: &'static [Header]) {
    for header in [chunk.first(), chunk.last()].into_iter().flatten() {
        let address = core::ptr::from_ref(header).addr();
        assert_eq!(address & (LOW | HIGH), 0, "an address must leave {GENERATION_BITS} bits free");
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

/// Wakes `waker`, whose panic has nobody to go to. One of ours runs no code but this crate's.
#[inline]
pub(crate) fn wake_quietly(waker: Waker) {
    match own_data(&waker) {
        Some(_) => waker.wake(),
        None => quietly(|| waker.wake()),
    }
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
            let address_max = word & !(packing.low | packing.high);
            let generation_max = u32::MAX >> (32 - generation_bits(word_bits));
            // Every bit of the word is an address's or a generation's, and none is both's.
            assert_eq!(packing.pack(address_max, generation_max), word);
            assert_eq!(packing.low & packing.high, 0);
            assert_eq!((packing.low | packing.high).count_ones(), generation_bits(word_bits));
            for address in [0, 0x40, 0x1234_5640 & address_max, address_max] {
                for generation in [0, 1, 63, 64, 0x2A_AAAA, u32::MAX] {
                    let generation = generation & generation_max;
                    let data = packing.pack(address, generation);
                    assert_eq!(data & !word, 0, "it fits into a word of {word_bits} bits");
                    assert_eq!(packing.unpack(data), (address, generation));
                }
            }
        }
        let address = 0x1234_5640 & !(LOW | HIGH);
        assert_eq!(unpack(pack(address, 63)), (address, 63));
    }
}
