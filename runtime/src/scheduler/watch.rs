//! Polls that take too long, by where their tasks were spawned.
//!
//! # Problem
//! One task that computes for a second holds up all others of its thread, and nothing tells which one it was.
//!
//! # Idea
//! When it is asked for, the loop reads the clock after each poll and counts those beyond a threshold, by the task's spawn
//! site. A look at the clock costs 27 ns, more than a short poll; so it is off unless it is asked for.
//!
//! # Bounds
//! An entry a spawn site, of which a home knows 65,535 at most.

use std::cell::RefCell;

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

/// The counts of one loop; of a home, to be found by whoever is inside of its runtime.
pub(crate) struct Watch {
    threshold_ns: Cell<Option<u64>>,
    began_ns: Cell<u64>,
    by_site: RefCell<Vec<(SiteId, Counted)>>,
}

impl Watch {
    /// The watch that belongs to `local`'s home; it counts nothing until [`open`](Self::open).
    pub(crate) fn of(local: &Local) -> &'static Watch {
        local.layer(|| Watch {
            threshold_ns: Cell::new(None),
            began_ns: Cell::new(0),
            by_site: RefCell::new(Vec::new()),
        })
    }

    /// Begins anew, counting polls of at least `threshold_ns`; with `None`, nothing.
    pub(crate) fn open(&self, threshold_ns: Option<u64>) {
        self.threshold_ns.set(threshold_ns);
        self.by_site.take();
    }

    /// Whether anything is counted; then [`begin`](Self::begin) and [`end`](Self::end) stand around each poll.
    #[inline(always)]
    pub(super) fn is_on(&self) -> bool {
        self.threshold_ns.get().is_some()
    }

    pub(super) fn begin(&self, now_ns: u64) {
        self.began_ns.set(now_ns);
    }

    /// A poll of a task from `site` is over; the next one begins.
    pub(super) fn end(&self, local: &Local, site: SiteId, now_ns: u64) {
        let took_ns = now_ns.saturating_sub(self.began_ns.replace(now_ns));
        if self.threshold_ns.get().is_some_and(|threshold_ns| took_ns >= threshold_ns) {
            self.count(local, site, took_ns);
        }
    }

    #[cold]
    fn count(&self, local: &Local, site: SiteId, took_ns: u64) {
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
