//! Where the number of used bytes comes from.
//!
//! # Problem
//!
//! What a process holds is known to the system, in files that are read again and again. To open them each time costs
//! more than to read them, and a budget that can only ask Linux cannot be tested.
//!
//! # Idea
//!
//! [`MemoryGauge`] is one question. [`Process`] asks `/proc/self/statm`, which is kept open: one `pread` of some thirty
//! bytes. Pages are of the size that the auxiliary vector tells, since there is no other way to know it without a call
//! that is unsafe.
//!
//! # Bounds
//!
//! The kernel counts resident pages by CPU and adds up a little late: what `statm` says may be wrong by some hundred
//! pages on a machine with many cores.
//!
//! # Rejected
//!
//! - *`VmRSS` in `/proc/self/status`.* It comes in KiB, so needs no page size; and sixty lines come with it.
//! - *Asking the allocator.* Each has another way, and none counts what does not come from it: stacks, maps, the system's
//!   buffers.
//!
//! # Read next
//!
//! [`super::cgroup`], which measures a whole group.

use std::fs::File;
use std::io;
use std::path::Path;

use super::pressure::Pressure;

/// Says how much memory is used, of that which a [`MemoryBudget`](crate::MemoryBudget) is about.
///
/// A closure is one, too.
///
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use anteroom_limiter::{MemoryBudget, MemoryGauge};
///
/// /// What a cache counts by itself.
/// struct Cached(Arc<AtomicU64>);
///
/// impl MemoryGauge for Cached {
///     fn used(&self) -> Option<u64> {
///         Some(self.0.load(Ordering::Relaxed))
///     }
/// }
///
/// let cached = Arc::new(AtomicU64::new(0));
/// let budget = MemoryBudget::with_gauge(1 << 30, Cached(Arc::clone(&cached)));
/// cached.store(100 << 20, Ordering::Relaxed);
/// assert_eq!(budget.snapshot().used, Some(100 << 20));
/// ```
pub trait MemoryGauge {
    /// How many bytes are used now; `None` if that cannot be told, and then what is declared has to do.
    ///
    /// It is called with no lock held, by whoever acquires, charges or releases, so it should take microseconds. A panic
    /// counts as `None`, and is passed on to that caller.
    fn used(&self) -> Option<u64>;

    /// Who waited for memory of late, if that is known. For reports.
    fn pressure(&self) -> Option<Pressure> {
        None
    }
}

impl<F: Fn() -> Option<u64>> MemoryGauge for F {
    fn used(&self) -> Option<u64> {
        self()
    }
}

/// What this process has in memory: its resident pages.
pub(super) struct Process {
    statm: Option<Reread>,
    page_bytes: u64,
    pressure: Option<Reread>,
}

impl Process {
    /// As far as it can be read: elsewhere than on Linux, it cannot tell anything.
    pub(super) fn open(root: &Path) -> Self {
        Self {
            statm: Reread::open(&root.join("proc/self/statm")).ok(),
            page_bytes: page_bytes(root),
            pressure: Reread::open(&root.join("proc/pressure/memory")).ok(),
        }
    }
}

impl MemoryGauge for Process {
    fn used(&self) -> Option<u64> {
        let mut buffer = [0; 256];
        let text = self.statm.as_ref()?.read(&mut buffer)?;
        text.split_ascii_whitespace().nth(1)?.parse::<u64>().ok()?.checked_mul(self.page_bytes)
    }

    fn pressure(&self) -> Option<Pressure> {
        Pressure::read(self.pressure.as_ref()?)
    }
}

/// The size of a page, or what most machines have.
fn page_bytes(root: &Path) -> u64 {
    const USUAL: u64 = 4_096;
    let vector = std::fs::read(root.join("proc/self/auxv")).unwrap_or_default();
    page_bytes_in(&vector).unwrap_or(USUAL)
}

/// Pairs of a key and a value, each a word.
fn page_bytes_in(vector: &[u8]) -> Option<u64> {
    const AT_PAGESZ: usize = 6;
    let words = vector.chunks_exact(size_of::<usize>());
    let words: Vec<usize> =
        words.map(|word| usize::from_ne_bytes(word.try_into().expect("chunks of this size"))).collect();
    let found = words.chunks_exact(2).find(|pair| pair[0] == AT_PAGESZ)?[1];
    found.is_power_of_two().then_some(found as u64)
}

/// A file that the system writes anew for each who reads it from the start.
pub(super) struct Reread(File);

impl Reread {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        File::open(path).map(Self)
    }

    /// What it says now, as far as it fits. In one read: the system gives such a file whole, or as much as was asked for.
    pub(super) fn read<'a>(&self, buffer: &'a mut [u8]) -> Option<&'a str> {
        let read = loop {
            match read_at_start(&self.0, buffer) {
                Ok(read) => break read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        };
        std::str::from_utf8(&buffer[..read]).ok()
    }
}

#[cfg(unix)]
fn read_at_start(file: &File, buffer: &mut [u8]) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, buffer, 0)
}

#[cfg(not(unix))]
fn read_at_start(_: &File, _: &mut [u8]) -> io::Result<usize> {
    Err(io::ErrorKind::Unsupported.into()) // There are no such files there.
}

#[cfg(all(test, not(anteroom_loom)))]
mod tests {
    use super::super::fake::Tree;
    use super::*;

    fn auxv(pairs: &[(usize, usize)]) -> Vec<u8> {
        pairs.iter().flat_map(|&(key, value)| [key.to_ne_bytes(), value.to_ne_bytes()].concat()).collect()
    }

    #[test]
    fn resident_pages_are_counted_in_pages_of_this_machine() {
        let tree = Tree::new();
        tree.file("proc/self/statm", "4000 500 300 5 0 123 0\n");
        assert_eq!(
            Process::open(tree.path()).used(),
            Some(500 * 4_096),
            "no vector: pages as most have them"
        );
        tree.file("proc/self/auxv", auxv(&[(33, 0), (6, 65_536), (0, 0)]));
        assert_eq!(Process::open(tree.path()).used(), Some(500 * 65_536));
    }

    #[test]
    fn each_reading_is_of_that_moment() {
        let tree = Tree::new();
        tree.file("proc/self/statm", "4000 500 300 5 0 123 0\n");
        let process = Process::open(tree.path());
        assert_eq!(process.used(), Some(500 * 4_096));
        tree.file("proc/self/statm", "4000 7 300 5 0 123 0\n"); // the same file, written anew
        assert_eq!(process.used(), Some(7 * 4_096));
    }

    #[test]
    fn what_cannot_be_read_is_not_known() {
        let tree = Tree::new();
        assert_eq!(Process::open(tree.path()).used(), None);
        assert_eq!(Process::open(tree.path()).pressure(), None);
        for garbage in
            ["", "4000", "4000 x", "4000 -1", "1 18446744073709551615", "1 99999999999999999999999"]
        {
            tree.file("proc/self/statm", garbage);
            assert_eq!(Process::open(tree.path()).used(), None, "{garbage:?}");
        }
    }

    #[test]
    fn a_vector_that_makes_no_sense_is_not_believed() {
        for bad in [&[][..], &[0; 7], &auxv(&[(3, 4_096)]), &auxv(&[(6, 0)]), &auxv(&[(6, 5_000)])] {
            assert_eq!(page_bytes_in(bad), None, "{bad:?}");
        }
        assert_eq!(page_bytes_in(&auxv(&[(4_096, 6), (6, 16_384)])), Some(16_384), "a value is no key");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn memory_that_is_touched_shows() {
        let process = Process::open(Path::new("/"));
        let before = process.used().unwrap();
        let touched = vec![1_u8; 64 << 20];
        let after = process.used().unwrap();
        assert!(after >= before + (48 << 20), "{before} {after} {}", touched.len());
    }
}
