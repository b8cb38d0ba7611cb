//! Results in the order of their items, whatever the order in which they come.
//!
//! # Idea
//! A result is written to the place that it will have in the end. A bit a place says which are there, so that they can be
//! dropped; when all are, the places *are* the result, and nothing is moved once more.
//!
//! # Invariants
//! - [GATHER-6] A place holds a value if and only if its bit is set; `count` is how many are.
//!
//! # Rejected
//! `Vec<Option<T>>`, without unsafe code: twice the memory for a `u64`, and a pass over a million results in the last poll. A
//! queue of what came too early, before a `Vec` of what did not: behind one slow item it is as long as the result, beside it.

use std::mem::{ManuallyDrop, MaybeUninit};

use super::crew::FirstPanic;

/// Results, of which some are still to come.
#[derive(Debug)]
pub(super) struct Output<T> {
    places: Vec<MaybeUninit<T>>,
    filled: Vec<u64>,
    count: usize,
}

/// Of a place: its word of `filled`, and its bit there.
#[inline(always)]
fn bit(number: usize) -> (usize, u64) {
    (number / 64, 1 << (number % 64))
}

impl<T> Output<T> {
    pub(super) const fn new() -> Self {
        Self { places: Vec::new(), filled: Vec::new(), count: 0 }
    }

    /// Writes the result of item `number`.
    #[inline]
    pub(super) fn put(&mut self, number: usize, value: T) {
        let (word, bit) = bit(number);
        if word >= self.filled.len() {
            self.filled.resize(word + 1, 0);
        }
        // [GATHER-6] or its place would count twice.
        assert!(self.filled[word] & bit == 0);
        match self.places.get_mut(number) {
            Some(place) => {
                place.write(value);
            }
            None => {
                self.places.resize_with(number, MaybeUninit::uninit);
                self.places.push(MaybeUninit::new(value));
            }
        }
        self.filled[word] |= bit;
        self.count += 1;
    }

    /// All results, in order.
    ///
    /// # Panics
    /// If one is missing.
    pub(super) fn take(&mut self) -> Vec<T> {
        assert_eq!(self.count, self.places.len());
        (self.filled, self.count) = (Vec::new(), 0);
        let mut places = ManuallyDrop::new(std::mem::take(&mut self.places));
        let (start, length, capacity) = (places.as_mut_ptr().cast(), places.len(), places.capacity());
        // SAFETY: [GATHER-6] as many are filled as there are, so all are. A `MaybeUninit` is laid out as what it may hold, and
        // the memory is given up here.
        unsafe { Vec::from_raw_parts(start, length, capacity) }
    }

    /// Drops what came until now, all of it.
    fn clear(&mut self, panic: &mut FirstPanic) {
        let (filled, mut places) = (std::mem::take(&mut self.filled), std::mem::take(&mut self.places));
        self.count = 0;
        if !std::mem::needs_drop::<T>() {
            return;
        }
        for (number, place) in places.iter_mut().enumerate() {
            let (word, bit) = bit(number);
            if filled.get(word).is_some_and(|filled| filled & bit != 0) {
                // SAFETY: [GATHER-6] its bit is set, and this was its only copy.
                panic.catch(|| unsafe { place.assume_init_drop() });
            }
        }
    }
}

impl<T> Drop for Output<T> {
    fn drop(&mut self) {
        let mut panic = FirstPanic::default();
        self.clear(&mut panic);
        panic.go_on();
    }
}
