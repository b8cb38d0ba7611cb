//! Where the bytes of a future or of an output live.
//!
//! # Problem
//! A header is 64 bytes for ever, so that a stale waker always points at one. A future may take kilobytes, and must give
//! them back the moment it is done, even while its handle is kept.
//!
//! # Idea
//! A [`Body`] is two words of the header. A value that fits lies in them; any other lies in a block of its own, and the
//! first word points at it. Blocks come in size classes (32 bytes to 4 KiB, each at most a quarter larger than the one before, or 16
//! bytes) from a [`Cache`], which is a free list a class in front of the global allocator; larger or strangely aligned ones go straight to the allocator.
//! A block never changes hands by type: its class follows from the type of what is in it.
//!
//! # Invariants
//! - [BODY-1] A `Body` holds at most one value, and whoever names its type knows it from the task's vtable or from the
//!   handle's type parameter, which were made together in `task::spawn`.
//! - [BODY-2] The body is touched by one side at a time: the owner until the state is `Done`, then the handle alone.
//! - [BODY-3] The cache holds at most [`CACHE_BYTES_MAX`] bytes, and at most [`CACHE_BYTES_IDLE`] after a trim, which the
//!   driver asks for before each wait without an end in sight.
//!
//! # Rejected
//! - One slab of tasks a size, with the header in front of the future: the memory of a million finished tasks would stay
//!   for as long as their handles are kept.
//! - A cache without a bound: after a burst the memory would never come back.
//!
//! # Read next
//! `vtable.rs`, the only caller that knows the types.

use core::alloc::Layout;
use core::mem::MaybeUninit;
use std::alloc::{alloc, dealloc, handle_alloc_error};

use crate::sync::{Cell, UnsafeCell};

/// At most this much free memory is kept for the next futures, whatever the load. A thousand jobs of 280 bytes that end
/// before their spawner's next turn leave 320 KiB; with a quarter of this a fifth of them would go to the allocator.
pub(crate) const CACHE_BYTES_MAX: usize = 1024 * 1024;

/// At most this much of it is kept while the runtime sleeps.
pub(crate) const CACHE_BYTES_IDLE: usize = 32 * 1024;

/// Recycled memory is invisible to AddressSanitizer, so under it every block goes back to the allocator.
const CACHE_ENABLED: bool = !cfg!(anteroom_asan);

const INLINE_BYTES: usize = 16;
const CLASS_ALIGN: usize = 16;
const CLASS_BYTES_MIN: usize = 32;
const CLASS_BYTES_MAX: usize = 4096;
const CLASSES: usize = 27;

/// The two words of a header in which a small value lies, or the address of its block.
#[repr(C, align(8))]
pub(crate) struct Body(UnsafeCell<MaybeUninit<[u8; INLINE_BYTES]>>);

/// Where a value of a given type goes; decided at compile time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Placement {
    /// It has no bytes: any aligned address will do.
    Nowhere,
    Inline,
    Class(usize),
    Alone,
}

const fn placement(layout: Layout) -> Placement {
    if layout.size() == 0 {
        Placement::Nowhere
    } else if layout.size() <= INLINE_BYTES && layout.align() <= 8 {
        Placement::Inline
    } else if layout.size() <= CLASS_BYTES_MAX && layout.align() <= CLASS_ALIGN {
        Placement::Class(class_of(layout.size()))
    } else {
        Placement::Alone
    }
}

/// What is allocated for a value; computed at compile time, not each time.
#[derive(Clone, Copy)]
struct Block {
    /// Its class, if there is one for it.
    class: Option<usize>,
    layout: Layout,
}

impl Block {
    const fn of<T>() -> Self {
        Self::for_layout(Layout::new::<T>())
    }

    const fn for_layout(layout: Layout) -> Self {
        match placement(layout) {
            Placement::Class(class) => Self { class: Some(class), layout: class_layout(class) },
            _ => Self { class: None, layout },
        }
    }
}

/// Whether a future lies in a block, and not in the header.
pub(crate) const fn has_block<F>() -> bool {
    matches!(placement(Layout::new::<F>()), Placement::Class(_) | Placement::Alone)
}

/// What a future counts for against a limit of bytes: its size, and what its alignment may waste beside it.
pub(crate) const fn counted_bytes<F>() -> usize {
    size_of::<F>() + if align_of::<F>() > CLASS_ALIGN { align_of::<F>() } else { 0 }
}

/// The smallest class that holds `bytes`: 32, 48, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, ... 4096.
const fn class_of(bytes: usize) -> usize {
    let mut class = 0;
    while class_bytes(class) < bytes {
        class += 1;
    }
    class
}

const fn class_bytes(class: usize) -> usize {
    // The first octave has two, since blocks are aligned to 16; the others have four.
    match class.checked_sub(2) {
        None => CLASS_BYTES_MIN + class * CLASS_ALIGN,
        Some(class) => {
            let octave = (2 * CLASS_BYTES_MIN) << (class / 4);
            octave + octave / 4 * (class % 4)
        }
    }
}

const fn class_layout(class: usize) -> Layout {
    match Layout::from_size_align(class_bytes(class), CLASS_ALIGN) {
        Ok(layout) => layout,
        Err(_) => unreachable!(),
    }
}

impl Body {
    pub(crate) fn new() -> Self {
        Self(UnsafeCell::new(MaybeUninit::uninit()))
    }

    /// Moves `value` in, into a block of its own if it does not fit.
    ///
    /// # Safety
    /// The body is empty and this thread's to touch ([BODY-1], [BODY-2]).
    #[inline(always)]
    pub(crate) unsafe fn put<T>(&self, cache: &Cache, value: T) {
        // SAFETY: forwarded from the caller.
        let at = unsafe { self.room::<T>(cache) };
        // SAFETY: [BODY-1] `at` is empty memory of T's size and alignment, the words or a block of T's class.
        unsafe { at.write(value) }
    }

    /// Room for a `T`, which the caller writes there: a future is copied once on its way in.
    ///
    /// # Safety
    /// As for [`put`](Self::put).
    #[inline(always)]
    pub(crate) unsafe fn room<T>(&self, cache: &Cache) -> *mut T {
        match const { placement(Layout::new::<T>()) } {
            Placement::Nowhere => std::ptr::dangling_mut(),
            Placement::Inline => self.0.with_mut(|words| words.cast()),
            _ => {
                let block = cache.allocate(const { Block::of::<T>() });
                // SAFETY: [BODY-2] the caller may touch the body, whose first word is aligned for a pointer.
                self.0.with_mut(|words| unsafe { words.cast::<*mut u8>().write(block) });
                block.cast()
            }
        }
    }

    /// Where the value lies.
    ///
    /// # Safety
    /// The body holds a `T`, and is this thread's to touch.
    #[inline(always)]
    pub(crate) unsafe fn get<T>(&self) -> *mut T {
        self.0.with_mut(|words| match const { placement(Layout::new::<T>()) } {
            Placement::Nowhere => std::ptr::dangling_mut(),
            Placement::Inline => words.cast(),
            // SAFETY: [BODY-1] for a T of this placement `put` stored its block's address here.
            _ => unsafe { words.cast::<*mut T>().read() },
        })
    }

    /// Has the processor fetch the beginning of the block, which there is, while this thread is busy with something else.
    ///
    /// # Safety
    /// The body holds a value with a block, and is this thread's to touch.
    #[inline(always)]
    pub(crate) unsafe fn prefetch(&self) {
        // SAFETY: [BODY-1] the first word is the block's address.
        let block = self.0.with_mut(|words| unsafe { words.cast::<*const u8>().read() });
        prefetch(block);
        prefetch(block.wrapping_add(64));
    }

    /// Gives the block back, if there is one; the value must have been moved or dropped before.
    ///
    /// # Safety
    /// The body held a `T`, which is gone; it is empty from now on. `cache` is the owner's, or `None` elsewhere.
    #[inline(always)]
    pub(crate) unsafe fn free<T>(&self, cache: Option<&Cache>) {
        if const { matches!(placement(Layout::new::<T>()), Placement::Nowhere | Placement::Inline) } {
            return;
        }
        // SAFETY: forwarded from the caller: a `T` was here, so its block still is.
        let block = unsafe { self.get::<T>() };
        // SAFETY: [BODY-1] the block was allocated by `put` for this very type.
        unsafe { Cache::free(cache, block.cast(), const { Block::of::<T>() }) }
    }

    /// Moves the value out and gives its block back.
    ///
    /// # Safety
    /// As for [`get`](Self::get); the body is empty from now on.
    #[inline(always)]
    pub(crate) unsafe fn take<T>(&self, cache: Option<&Cache>) -> T {
        // SAFETY: forwarded from the caller.
        let at = unsafe { self.get::<T>() };
        // SAFETY: [BODY-1] it holds a T, which is read once: the body counts as empty from here.
        let value = unsafe { at.read() };
        // SAFETY: the value has just been moved out.
        unsafe { self.free::<T>(cache) };
        value
    }
}

/// Has the processor fetch what lies there; nothing where stable Rust has no word for that.
#[inline(always)]
pub(super) fn prefetch<T>(at: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: it may be any address, since nothing is read that a program could see.
    unsafe {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(at.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// What the blocks of so many tasks with so many bytes in all take at most: a class wastes up to a quarter of what is in it, or
/// what the smallest class is larger, and the allocator adds two words a block. How it lays them out is its own.
#[cfg(not(anteroom_loom))]
pub(crate) const fn worst_bytes(bytes: usize, tasks: usize) -> usize {
    let each = CLASS_BYTES_MIN + 2 * size_of::<usize>();
    bytes.saturating_add(bytes / 4).saturating_add(tasks.saturating_mul(each))
}

/// What the free blocks that are kept take at most: all of the smallest class, with the allocator's two words each.
#[cfg(not(anteroom_loom))]
pub(crate) const fn cache_worst_bytes() -> usize {
    CACHE_BYTES_MAX / CLASS_BYTES_MIN * (CLASS_BYTES_MIN + 2 * size_of::<usize>())
}

/// Free blocks of one class, linked through their own first words.
struct FreeBlock {
    next: *mut FreeBlock,
}

/// Free lists in front of the allocator; the owner's alone.
pub(crate) struct Cache {
    free: [Cell<*mut FreeBlock>; CLASSES],
    bytes: Cell<usize>,
    /// Classes that were asked for in vain, a bit each, since sizes were last out of fashion.
    wanted: Cell<u32>,
    /// How many bytes went back to the allocator since somebody last asked.
    given_back: Cell<usize>,
}

impl Cache {
    pub(crate) fn new() -> Self {
        Self {
            free: std::array::from_fn(|_| Cell::new(std::ptr::null_mut())),
            bytes: Cell::new(0),
            wanted: Cell::new(0),
            given_back: Cell::new(0),
        }
    }

    /// How much free memory is kept just now.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.get()
    }

    /// How many bytes went back to the allocator, which may keep them, since [`forget_given_back`](Self::forget_given_back).
    pub(crate) fn given_back(&self) -> usize {
        self.given_back.get()
    }

    /// What another cache gave back.
    #[cfg(feature = "stealing")]
    pub(super) fn note_given_back(&self, bytes: usize) {
        self.given_back.set(self.given_back.get().saturating_add(bytes));
    }

    pub(crate) fn forget_given_back(&self) {
        self.given_back.set(0);
    }

    #[inline(always)]
    fn allocate(&self, of: Block) -> *mut u8 {
        let Some(class) = of.class else { return allocate(of.layout) };
        let head = self.free[class].get();
        if head.is_null() {
            self.wanted.set(self.wanted.get() | 1 << class);
            return allocate(of.layout);
        }
        // SAFETY: [BODY-3] a block in the list is free memory of at least 32 bytes whose first word `free` wrote.
        self.free[class].set(unsafe { (*head).next });
        self.bytes.set(self.bytes.get() - of.layout.size());
        head.cast()
    }

    /// # Safety
    /// `block` was allocated as such a one by this module and is not used after.
    #[inline(always)]
    unsafe fn free(cache: Option<&Cache>, block: *mut u8, of: Block) {
        if let Some(cache) = cache {
            if let Some(class) = of.class.filter(|&class| CACHE_ENABLED && cache.has_room_for(class, of)) {
                let head: *mut FreeBlock = block.cast();
                // SAFETY: the block is the caller's to give, at least 32 bytes and aligned to 16.
                unsafe { head.write(FreeBlock { next: cache.free[class].get() }) };
                cache.free[class].set(head);
                cache.bytes.set(cache.bytes.get() + of.layout.size());
                return;
            }
            cache.given_back.set(cache.given_back.get().saturating_add(of.layout.size()));
        }
        // SAFETY: `allocate` used this same layout for it.
        unsafe { dealloc(block, of.layout) }
    }

    #[inline(always)]
    fn has_room_for(&self, class: usize, of: Block) -> bool {
        self.bytes.get() + of.layout.size() <= CACHE_BYTES_MAX || self.make_room(class)
    }

    /// A full cache lets go of sizes that nobody has asked for in vain, for one that somebody has: when a load changes, its
    /// new sizes are kept and not its old ones.
    #[cold]
    fn make_room(&self, class: usize) -> bool {
        let wanted = self.wanted.get();
        if wanted & 1 << class == 0 {
            return false;
        }
        let keep_bytes = CACHE_BYTES_MAX - class_bytes(class);
        self.trim_classes(keep_bytes, |other| wanted & 1 << other == 0);
        let has_room = self.bytes.get() <= keep_bytes;
        if !has_room {
            // All that is kept is wanted, or was once.
            self.wanted.set(0);
        }
        has_room
    }

    /// Gives blocks back to the allocator, the largest first, until at most `keep_bytes` are kept.
    pub(crate) fn trim(&self, keep_bytes: usize) {
        self.trim_classes(keep_bytes, |_| true);
    }

    fn trim_classes(&self, keep_bytes: usize, which: impl Fn(usize) -> bool) {
        for class in (0..CLASSES).rev().filter(|&class| which(class)) {
            while self.bytes.get() > keep_bytes && !self.free[class].get().is_null() {
                let block = self.allocate(Block { class: Some(class), layout: class_layout(class) });
                self.given_back.set(self.given_back.get().saturating_add(class_bytes(class)));
                // SAFETY: it has just left the list, and was allocated with its class's layout.
                unsafe { dealloc(block, class_layout(class)) }
            }
        }
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        self.trim(0);
    }
}

#[inline]
fn allocate(layout: Layout) -> *mut u8 {
    debug_assert!(layout.size() > 0, "what has no size has no block");
    // SAFETY: a layout that reaches this has a size, since what has none is placed nowhere.
    let block = unsafe { alloc(layout) };
    if block.is_null() {
        handle_alloc_error(layout);
    }
    block
}

#[cfg(all(test, not(anteroom_loom)))]
mod tests {
    use super::*;

    fn round_trip<T: Clone + PartialEq + std::fmt::Debug>(value: T) {
        let (body, cache) = (Body::new(), Cache::new());
        for _ in 0..3 {
            // SAFETY: [BODY-1] put, then take of the same type, on one thread.
            unsafe { body.put(&cache, value.clone()) };
            // SAFETY: as above.
            assert_eq!(unsafe { body.take::<T>(Some(&cache)) }, value);
        }
        // SAFETY: as above; taken as a foreign thread takes it, past the cache.
        unsafe { body.put(&cache, value.clone()) };
        // SAFETY: as above.
        assert_eq!(unsafe { body.take::<T>(None) }, value);
    }

    #[test]
    fn a_value_of_any_size_and_alignment_comes_back_whole() {
        #[derive(Clone, Debug, PartialEq)]
        #[repr(align(64))]
        struct Wide([u8; 64]);
        #[derive(Clone, Debug, PartialEq)]
        #[repr(align(32))]
        struct Nothing;
        round_trip(());
        round_trip(7_u64);
        round_trip([1_u64, 2]);
        round_trip([1_u64, 2, 3]);
        round_trip(7_u128);
        round_trip([9_u8; 4096]);
        round_trip([9_u8; 4097]);
        round_trip(Wide([3; 64]));
        round_trip(Nothing);
        round_trip(String::from("heap"));
    }

    #[test]
    fn a_class_wastes_at_most_a_quarter_or_less_than_its_alignment() {
        for bytes in INLINE_BYTES + 1..=CLASS_BYTES_MAX {
            let got = class_bytes(class_of(bytes));
            assert!(got >= bytes && got - bytes < (bytes / 4).max(CLASS_ALIGN), "{bytes} -> {got}");
            assert!(got % CLASS_ALIGN == 0);
        }
        assert_eq!([0, 1, 2, 3, 6, 7, 10].map(class_bytes), [32, 48, 64, 80, 128, 160, 256]);
        assert_eq!(class_bytes(CLASSES - 1), CLASS_BYTES_MAX);
    }

    #[test]
    fn the_cache_keeps_its_bound_and_trims() {
        // [BODY-3]
        let cache = Cache::new();
        let layout = Layout::new::<[u8; 4000]>();
        let blocks: Vec<_> = (0..400).map(|_| cache.allocate(Block::for_layout(layout))).collect();
        for block in blocks {
            // SAFETY: allocated above with this layout.
            unsafe { Cache::free(Some(&cache), block, Block::for_layout(layout)) };
            assert!(cache.bytes() <= CACHE_BYTES_MAX);
        }
        if CACHE_ENABLED {
            assert_eq!(cache.bytes(), CACHE_BYTES_MAX);
        }
        cache.trim(CACHE_BYTES_IDLE);
        assert!(cache.bytes() <= CACHE_BYTES_IDLE);
    }

    #[test]
    fn a_full_cache_follows_the_sizes_that_are_asked_for() {
        let cache = Cache::new();
        let fill = |bytes: usize, blocks: usize| {
            let layout = Layout::from_size_align(bytes, 8).expect("a layout");
            let blocks: Vec<_> = (0..blocks).map(|_| cache.allocate(Block::for_layout(layout))).collect();
            for block in blocks {
                // SAFETY: allocated above with this layout.
                unsafe { Cache::free(Some(&cache), block, Block::for_layout(layout)) };
                assert!(cache.bytes() <= CACHE_BYTES_MAX);
            }
            let class = class_of(bytes);
            let mut kept = 0;
            let mut block = cache.free[class].get();
            while !block.is_null() {
                kept += 1;
                // SAFETY: [BODY-3] a block in the list.
                block = unsafe { (*block).next };
            }
            kept
        };
        if CACHE_ENABLED {
            assert_eq!(fill(64, 100_000), CACHE_BYTES_MAX / 64);
            assert_eq!(fill(1_024, 500), 500, "the small ones are out of fashion");
            assert_eq!(fill(1_024, 500), 500);
            assert!(fill(64, 1_000) >= 1_000);
        }
    }
}
