//! A value that tells when, where and on which thread it was dropped.

use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};

/// What is known of the drops of some values.
#[derive(Clone, Debug, Default)]
pub struct Drops(Arc<Mutex<Vec<(ThreadId, usize)>>>);

impl Drops {
    /// Nothing was dropped yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A value whose drop is noted here.
    pub fn track(&self) -> Tracked {
        Tracked { drops: self.clone(), panics: false }
    }

    /// A value whose drop is noted here, and then panics.
    pub fn track_panicking(&self) -> Tracked {
        Tracked { drops: self.clone(), panics: true }
    }

    /// How many were dropped.
    ///
    /// # Panics
    /// Never: nothing panics while it is locked.
    pub fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// The threads on which they were dropped, in order.
    ///
    /// # Panics
    /// Never.
    pub fn threads(&self) -> Vec<ThreadId> {
        self.0.lock().unwrap().iter().map(|&(thread, _)| thread).collect()
    }

    /// The addresses at which they lay when they were dropped, in order.
    ///
    /// # Panics
    /// Never.
    pub fn addresses(&self) -> Vec<usize> {
        self.0.lock().unwrap().iter().map(|&(_, address)| address).collect()
    }
}

/// A value that notes its drop.
#[derive(Debug)]
pub struct Tracked {
    drops: Drops,
    panics: bool,
}

impl Drop for Tracked {
    fn drop(&mut self) {
        let address = std::ptr::from_ref(self).addr();
        self.drops.0.lock().unwrap().push((thread::current().id(), address));
        if self.panics {
            panic!("in the drop of a tracked value");
        }
    }
}
