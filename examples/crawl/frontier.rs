//! Which URLs the crawl knows, which of them it has handed out, and what became of them.
//!
//! # Problem
//!
//! The frontier is the one thing here that grows with the site. Kept as tasks it is what kills the crawler:
//! 48,000 futures with their buffers. Kept as a `VecDeque<String>` and a `HashSet<String>` each URL is there
//! twice, with three words and an allocation a time.
//!
//! # Idea
//!
//! A crawl never forgets a URL, because each is fetched once. So the seen set is all there is, and the queue
//! is a *position* in it: what lies behind `next` was handed out, what lies before it waits, in order of
//! discovery.
//!
//! ```text
//!  text    /index.html/std/index.html/std/vec/index.html...  every path, end to end
//!  entries [end, inbound, missing] [..] [..]                 12 bytes a URL; its path starts where the last ends
//!                       next ^                              the queue begins here
//!  table   [3, -, 1, -, -, 2, ...]                           open addressing, at most 3/4 full
//! ```
//!
//! So a URL costs its text and some twenty bytes: 48,000 of the toolchain's documentation stay below 6 MB.
//!
//! Where hosts are told apart, there is a *lane* for each, which has a position of its own: URL `n` is in lane
//! `n % lanes`, so each lane is a queue that needs no memory either.
//!
//! # Invariants
//!
//! * A path is handed out once, and every one that was handed out is finished once (the caller's `Ticket`
//!   sees to it).
//! * `live` is the number of those handed out and not finished; the crawl is over when it is zero and nothing
//!   waits.

use std::hash::{BuildHasher, RandomState};

/// Every URL known, found by text and by number.
pub(crate) struct Frontier {
    text: String,
    entries: Vec<Entry>,
    /// The number of an entry plus one, or zero for a free place.
    table: Vec<u32>,
    hasher: RandomState,
    /// For each lane, the first URL in it that was not handed out.
    next: Box<[usize]>,
    /// How many were not handed out.
    waiting: usize,
    live: usize,
}

/// What is known of one URL besides its text.
struct Entry {
    /// Where its path ends in `text`.
    end: u32,
    /// How many links led here.
    inbound: u32,
    /// It answered 404.
    missing: bool,
}

/// What [`Frontier::link`] did.
#[derive(Debug, PartialEq)]
pub(crate) enum Linked {
    New,
    Known,
    /// 4 GiB of URLs are known: no more.
    Full,
}

/// What a crawl has to do next.
#[derive(Debug, PartialEq)]
pub(crate) enum Next {
    /// Fetch this: its number and its path.
    Page(u32, Box<str>),
    /// Nothing now, but a live page may find something; or there is something, and its lane may not go.
    Wait,
    /// Nothing, and there is nobody left to find anything.
    Over,
}

impl Frontier {
    /// One with so many lanes.
    pub(crate) fn new(lanes: usize) -> Self {
        Frontier {
            text: String::new(),
            entries: Vec::new(),
            table: vec![0; 1_024],
            hasher: RandomState::new(),
            next: (0..lanes).collect(),
            waiting: 0,
            live: 0,
        }
    }

    /// Notes one more link to `path`, and puts it into the queue if it is the first.
    pub(crate) fn link(&mut self, path: &str) -> Linked {
        if (self.entries.len() + 1) * 4 > self.table.len() * 3 {
            self.grow();
        }
        let place = self.place(path);
        if self.table[place] != 0 {
            let entry = &mut self.entries[self.table[place] as usize - 1];
            entry.inbound = entry.inbound.saturating_add(1);
            return Linked::Known;
        }
        // The number of an entry fits when its text does: no path is empty.
        let Ok(end) = u32::try_from(self.text.len() + path.len()) else { return Linked::Full };
        self.text.push_str(path);
        self.entries.push(Entry { end, inbound: 1, missing: false });
        self.table[place] = self.entries.len() as u32;
        self.waiting += 1;
        Linked::New
    }

    /// Hands out the URL that has waited longest.
    pub(crate) fn pop(&mut self) -> Next {
        self.pop_from(|_| true)
    }

    /// Hands out the URL that has waited longest of those whose lane may go. Each lane that has one is asked at
    /// most once, that with the oldest first, until one may.
    pub(crate) fn pop_from(&mut self, mut may: impl FnMut(usize) -> bool) -> Next {
        let mut from = 0;
        // Lanes are few, and mostly the first one may.
        while let Some(id) = self.next.iter().copied().filter(|id| *id >= from).min() {
            if id >= self.entries.len() {
                break;
            }
            let lane = id % self.next.len();
            if may(lane) {
                self.next[lane] += self.next.len();
                self.waiting -= 1;
                self.live += 1;
                return Next::Page(id as u32, self.path(id).into());
            }
            from = id + 1;
        }
        if self.is_over() { Next::Over } else { Next::Wait }
    }

    /// How many URLs wait to be handed out.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Whether nothing waits and nobody is left who could find anything.
    pub(crate) fn is_over(&self) -> bool {
        self.live == 0 && self.waiting == 0
    }

    /// Takes back what [`pop`](Self::pop) handed out. True when the crawl is over with it.
    pub(crate) fn finish(&mut self, id: u32, missing: bool) -> bool {
        assert!(self.live > 0, "page {id} finished, but none is live");
        self.live -= 1;
        self.entries[id as usize].missing = missing;
        self.is_over()
    }

    /// How many URLs are known.
    pub(crate) fn known(&self) -> usize {
        self.entries.len()
    }

    /// The URLs that answered 404 and how many links led to each, in order of discovery.
    pub(crate) fn missing(&self) -> impl Iterator<Item = (&str, u32)> {
        self.entries.iter().enumerate().filter(|(_, e)| e.missing).map(|(id, e)| (self.path(id), e.inbound))
    }

    fn path(&self, id: usize) -> &str {
        let start = if id == 0 { 0 } else { self.entries[id - 1].end as usize };
        &self.text[start..self.entries[id].end as usize]
    }

    /// Where `path` stands in the table, or the free place where it would.
    fn place(&self, path: &str) -> usize {
        let mask = self.table.len() - 1;
        let mut place = self.hasher.hash_one(path) as usize & mask;
        // Ends, because a quarter of the places is free.
        while self.table[place] != 0 && self.path(self.table[place] as usize - 1) != path {
            place = (place + 1) & mask;
        }
        place
    }

    fn grow(&mut self) {
        // A power of two before and after, for the mask.
        self.table = vec![0; self.table.len() * 2];
        for id in 0..self.entries.len() {
            let place = self.place(self.path(id));
            self.table[place] = id as u32 + 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_handed_out_once_in_order_of_discovery() {
        let mut frontier = Frontier::new(1);
        assert_eq!(frontier.link("/b"), Linked::New);
        assert_eq!(frontier.link("/a"), Linked::New);
        assert_eq!(frontier.link("/b"), Linked::Known);
        assert_eq!(frontier.pop(), Next::Page(0, "/b".into()));
        assert_eq!(frontier.link("/b"), Linked::Known);
        assert_eq!(frontier.pop(), Next::Page(1, "/a".into()));
        assert_eq!(frontier.pop(), Next::Wait);
        assert!(!frontier.finish(1, false));
        assert_eq!(frontier.pop(), Next::Wait);
        assert!(frontier.finish(0, false));
        assert_eq!(frontier.pop(), Next::Over);
    }

    #[test]
    fn it_is_not_over_while_a_live_page_may_find_more() {
        let mut frontier = Frontier::new(1);
        frontier.link("/");
        let Next::Page(first, _) = frontier.pop() else { panic!() };
        frontier.link("/found");
        assert!(!frontier.finish(first, false));
        assert_eq!(frontier.pop(), Next::Page(1, "/found".into()));
    }

    #[test]
    fn an_empty_one_is_over() {
        assert_eq!(Frontier::new(1).pop(), Next::Over);
    }

    #[test]
    fn missing_pages_keep_how_many_links_led_to_them() {
        let mut frontier = Frontier::new(1);
        for path in ["/here", "/gone", "/gone", "/here", "/gone"] {
            frontier.link(path);
        }
        while let Next::Page(id, path) = frontier.pop() {
            frontier.finish(id, &*path == "/gone");
        }
        assert_eq!(frontier.missing().collect::<Vec<_>>(), [("/gone", 3)]);
    }

    #[test]
    fn growth_loses_and_doubles_nothing() {
        let mut frontier = Frontier::new(1);
        for round in 0..2 {
            for n in 0..20_000 {
                let expected = if round == 0 { Linked::New } else { Linked::Known };
                assert_eq!(frontier.link(&format!("/page/{n}.html")), expected);
            }
        }
        assert_eq!(frontier.known(), 20_000);
        for n in 0..20_000 {
            assert_eq!(frontier.pop(), Next::Page(n, format!("/page/{n}.html").into()));
        }
    }

    #[test]
    fn lanes_are_asked_in_the_order_of_their_urls_and_only_those_that_have_one() {
        let mut frontier = Frontier::new(3);
        for path in ["/0", "/1", "/2", "/3", "/4"] {
            frontier.link(path);
        }
        let mut asked = Vec::new();
        let mut pop = |frontier: &mut Frontier, free: &[usize]| {
            asked.clear();
            let next = frontier.pop_from(|lane| {
                asked.push(lane);
                free.contains(&lane)
            });
            (next, asked.clone())
        };
        assert_eq!(pop(&mut frontier, &[1]), (Next::Page(1, "/1".into()), vec![0, 1]));
        assert_eq!(pop(&mut frontier, &[1]), (Next::Page(4, "/4".into()), vec![0, 2, 1]));
        assert_eq!(pop(&mut frontier, &[1]), (Next::Wait, vec![0, 2]));
        assert_eq!(frontier.waiting(), 3);
        assert_eq!(pop(&mut frontier, &[0, 1, 2]), (Next::Page(0, "/0".into()), vec![0]));
        assert_eq!(pop(&mut frontier, &[0, 1, 2]), (Next::Page(2, "/2".into()), vec![2]));
        assert_eq!(pop(&mut frontier, &[0, 1, 2]), (Next::Page(3, "/3".into()), vec![0]));
        assert_eq!(pop(&mut frontier, &[0, 1, 2]), (Next::Wait, vec![]));
        for id in 0..5 {
            assert_eq!(frontier.finish(id, false), id == 4);
        }
        assert_eq!(frontier.pop(), Next::Over);
    }
}
