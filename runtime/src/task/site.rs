//! Where tasks were spawned, in two bytes each.
//!
//! # Problem
//! Who asks what fills a runtime wants a file and a line for each task. A pointer to them would take an eighth of a header.
//!
//! # Idea
//! A program has few places that spawn. Each is given a number when it is first used, and a header keeps the number. The
//! numbers that were used last stand in a small table by address, so that a spawn compares one word. What is not there is
//! searched for among all, a word each.
//!
//! # Bounds
//! 65,535 places a home; what is spawned from any further one has no place. A place takes a word in a table that doubles.
//!
//! # Read next
//! `mod.rs`, whose headers hold the numbers.

use std::cell::RefCell;
use std::panic::Location;

use crate::sync::Cell;

/// The file and the line of a call.
pub(crate) type Site = &'static Location<'static>;

/// How many places are found without a search.
const RECENT: usize = 64;

/// The number of a place; zero for none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SiteId(u16);

impl SiteId {
    pub(crate) const NONE: SiteId = SiteId(0);

    pub(crate) fn index(self) -> usize {
        self.0.into()
    }
}

/// The places that the tasks of one home were spawned at.
pub(crate) struct Sites {
    recent: [Cell<(usize, SiteId)>; RECENT],
    all: RefCell<Vec<Site>>,
}

impl Sites {
    pub(crate) fn new() -> Self {
        Self { recent: std::array::from_fn(|_| Cell::new((0, SiteId::NONE))), all: RefCell::new(Vec::new()) }
    }

    /// The number of a place.
    #[inline(always)]
    pub(crate) fn id(&self, place: Site) -> SiteId {
        let address = std::ptr::from_ref(place).addr();
        let recent = &self.recent[address / align_of::<Location<'_>>() % RECENT];
        let (of, id) = recent.get();
        if of == address {
            return id;
        }
        let id = self.look_up(place);
        recent.set((address, id));
        id
    }

    #[cold]
    fn look_up(&self, place: Site) -> SiteId {
        let mut all = self.all.borrow_mut();
        let found = all.iter().position(|&known| std::ptr::eq(known, place));
        // Zero is for none.
        let Ok(number) = u16::try_from(found.unwrap_or(all.len()) + 1) else { return SiteId::NONE };
        if found.is_none() {
            all.push(place);
        }
        SiteId(number)
    }

    /// The place of a number.
    pub(crate) fn place(&self, id: SiteId) -> Option<Site> {
        self.all.borrow().get(id.index().checked_sub(1)?).copied()
    }
}

#[cfg(all(test, not(anteroom_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_place_keeps_its_number_whatever_comes_between() {
        let places =
            [const { Location::caller() }, const { Location::caller() }, const { Location::caller() }];
        let sites = Sites::new();
        let ids = places.map(|place| sites.id(place));
        for _ in 0..3 {
            assert_eq!(places.map(|place| sites.id(place)), ids);
        }
        for (place, id) in places.into_iter().zip(ids) {
            assert_eq!(sites.place(id).map(Location::line), Some(place.line()));
        }
        assert_eq!(sites.place(SiteId::NONE), None);
    }

    #[test]
    fn beyond_the_last_number_there_is_no_place() {
        // Kept for ever, and where a leak checker finds it, as the places of a program are.
        static PLACES: std::sync::OnceLock<Vec<Location<'static>>> = std::sync::OnceLock::new();
        let places = PLACES.get_or_init(|| vec![*Location::caller(); usize::from(u16::MAX) + 10]);
        let (before, last) = places.split_at(usize::from(u16::MAX) - 10);
        let sites = Sites::new();
        // As if each had been looked up, which would take its time.
        sites.all.borrow_mut().extend(before);
        let ids: Vec<_> = last.iter().map(|place| sites.id(place)).collect();
        assert_eq!(ids.iter().filter(|&&id| id == SiteId::NONE).count(), 10);
        assert_eq!(sites.id(&before[0]).index(), 1);
        for (place, id) in last.iter().zip(ids) {
            assert_eq!(sites.id(place), id);
            assert!(sites.place(id).is_none_or(|found| std::ptr::eq(found, place)));
        }
    }
}
