//! Polls that take too long, by where their tasks were spawned.
//!
//! # Problem
//! One task that computes for a second holds up all others of its thread, and nothing tells which one it was.
//!
//! # Idea
//! When it is asked for, the loop reads the clock before and after each poll and counts those beyond a threshold, by the task's spawn
//! site. A look at the clock costs 27 ns, more than a short poll; so it is off unless it is asked for.
//!
//! # Bounds
//! An entry a spawn site, of which a home knows 65,535 at most.

use std::cell::RefCell;

use super::Park;
use crate::sync::Cell;
use crate::task::Local;
use crate::task::site::{Site, SiteId};

/// What was counted of one spawn site.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counted {
    pub(crate) site: Option<Site>,
    pub(crate) polls: u64,
    pub(crate) longest_ns: u64,
}

/// A poll that is being watched.
#[derive(Clone, Copy)]
pub(super) struct Watched {
    site: SiteId,
    began_ns: u64,
}

/// The counts of one loop; of a home, to be found by whoever is inside of its runtime.
pub(crate) struct Watch {
    threshold_ns: Cell<Option<u64>>,
    by_site: RefCell<Vec<(SiteId, Counted)>>,
}

impl Watch {
    /// The watch that belongs to `local`'s home; it counts nothing until [`open`](Self::open).
    pub(crate) fn of(local: &Local) -> &'static Watch {
        local.layer(|| Watch { threshold_ns: Cell::new(None), by_site: RefCell::new(Vec::new()) })
    }

    /// Begins anew, counting polls of at least `threshold_ns`; with `None`, nothing.
    pub(crate) fn open(&self, threshold_ns: Option<u64>) {
        self.threshold_ns.set(threshold_ns);
        self.by_site.take();
    }

    /// A poll of the task at the head of the queue begins; `None` if nothing is counted.
    #[inline(always)]
    pub(super) fn begin(&self, local: &Local, park: &impl Park) -> Option<Watched> {
        self.threshold_ns.get()?;
        Some(Watched { site: local.queue.head()?.site_id(), began_ns: park.now_ns() })
    }

    /// It is over.
    pub(super) fn end(&self, local: &Local, Watched { site, began_ns }: Watched, park: &impl Park) {
        let took_ns = park.now_ns().saturating_sub(began_ns);
        if self.threshold_ns.get().is_some_and(|threshold_ns| took_ns >= threshold_ns) {
            self.count(local, site, took_ns);
        }
    }

    /// From how long on polls are counted.
    #[cfg(feature = "stealing")]
    pub(super) fn threshold_ns(&self) -> Option<u64> {
        self.threshold_ns.get()
    }

    #[cold]
    pub(super) fn count(&self, local: &Local, site: SiteId, took_ns: u64) {
        let mut by_site = self.by_site.borrow_mut();
        let at = by_site.iter().position(|&(of, _)| of == site).unwrap_or_else(|| {
            by_site.push((site, Counted { site: local.sites.place(site), polls: 0, longest_ns: 0 }));
            by_site.len() - 1
        });
        let (_, counted) = &mut by_site[at];
        counted.polls += 1;
        counted.longest_ns = counted.longest_ns.max(took_ns);
    }

    /// Everything that was counted, the longest first.
    pub(crate) fn counted(&self) -> Vec<Counted> {
        let mut counted: Vec<_> = self.by_site.borrow().iter().map(|&(_, counted)| counted).collect();
        counted.sort_by_key(|counted| std::cmp::Reverse(counted.longest_ns));
        counted
    }
}
