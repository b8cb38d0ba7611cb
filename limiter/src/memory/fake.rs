//! A folder of files that look like those of a system, for the tests of those who read them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process;

use crate::sync::{AtomicU64, Ordering};

/// Taken away when it is dropped.
pub(super) struct Tree(PathBuf);

impl Tree {
    pub(super) fn new() -> Self {
        static MADE: AtomicU64 = AtomicU64::new(0);
        let name = format!("anteroom-limiter-{}-{}", process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).expect("a folder for the test");
        Self(path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file, with the folders above it.
    pub(super) fn file(&self, path: &str, text: impl AsRef<[u8]>) {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().expect("below the root")).expect("its folder");
        fs::write(path, text).expect("the file");
    }

    /// Makes a folder: also one in a file's place, which then cannot be read, whoever asks.
    pub(super) fn folder(&self, path: &str) {
        fs::create_dir_all(self.0.join(path)).expect("the folder");
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0); // What is left in the folder for temporary files does no harm.
    }
}
