//! The crawl: URLs come out of the frontier, and each becomes a task when there is room for one.
//!
//! # Problem
//!
//! The obvious crawler spawns a task for each link that it finds. Pages link to hundreds of pages, so the
//! tasks are soon as many as the site has pages, each with its connection and its buffer, and the process is
//! killed. A semaphore inside the task does not help: a task that waits for a permit exists. Nor does a
//! bounded queue of URLs between the pages and whoever spawns: when it is full, all pages wait to put a link
//! into it, none ends, and so none is taken out of it.
//!
//! # Idea
//!
//! ```text
//!            next()                spawn(page).await
//!  frontier ────────► the one loop ─────────────────► at most --max-tasks live pages
//!     ▲  ▲               waits here, when there is         │            │
//!     │  └ not live any more ◄─ no room, with one page ────┘ done       │ links
//!     └─────────────────────────────────────────────────────────────────┘ never wait
//! ```
//!
//! The loop has one future in its hand at any time, and the runtime's own admission is all that holds it
//! back. Links go straight into the frontier, which holds URLs and nothing else: a page never waits for room,
//! so it always ends, so there is room again. What grows with the site is 70 bytes a URL.
//!
//! With `--memory`, `--rate` or `--per-host` there is more to wait for than a place. Then the loop waits for all
//! of it *before* it has anything in its hand, in an order in which nothing that it waits for gets stale:
//! a URL to be there, a place (`anteroom::reserve()`), memory (`budget.rs`), a slot in time (`pace.rs`). None of
//! these waits hangs on a page that waits for what the loop holds already.
//!
//! # Invariants
//!
//! * Each [`Ticket`] is finished exactly once, also when its task panics or is dropped unpolled: its `Drop`
//!   sees to it.
//! * URLs handed out = pages + missing + moved + errors of pages + live.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use event_listener::Event;

use crate::budget::{Budget, PAGE_BYTES_MAX, Share};
use crate::frontier::{Frontier, Linked, Next};
use crate::pace::{Held, Pace};
use crate::page::{self, Failure, Outcome};
use crate::paths::Link;

/// What all pages share.
pub(crate) struct Crawl {
    /// Locked for a few instructions at a time, never over an await.
    state: Mutex<State>,
    /// Told when the loop has something to do: a new URL, or the last page's end.
    changed: Event,
    servers: Vec<SocketAddr>,
    plan: Plan,
}

/// How to crawl. What is not said bounds nothing.
#[derive(Default)]
pub(crate) struct Plan {
    /// Each page is read whole before it is parsed, and then kept so long.
    pub(crate) whole: Option<Duration>,
    /// The memory of all pages.
    pub(crate) budget: Option<Arc<Budget>>,
    /// The requests a second.
    pub(crate) pace: Option<Pace>,
}

struct State {
    frontier: Frontier,
    tally: Tally,
}

/// What was counted so far.
#[derive(Clone, Default)]
pub(crate) struct Tally {
    /// Fetched whole.
    pub(crate) pages: u64,
    /// Those of them that are not HTML and so were not parsed.
    pub(crate) not_html: u64,
    /// Of the bodies of `pages`.
    pub(crate) bytes: u64,
    /// Links of parsed pages to pages of the site.
    pub(crate) links: u64,
    /// Answered with another place to look at, which was then crawled.
    pub(crate) moved: u64,
    /// Answered 404.
    pub(crate) missing: u64,
    /// Of `links`, those to a page that answered 404. Filled in by [`Crawl::tally`].
    pub(crate) broken_links: u64,
    /// Pages that failed, and links that cannot name a page.
    pub(crate) errors: u64,
    /// The first few of them, in words.
    pub(crate) error_examples: Vec<String>,
    /// How often a page had to wait for a file descriptor or a port.
    pub(crate) descriptor_waits: u64,
}

/// How many errors are kept in words, and how many missing pages are named.
pub(crate) const EXAMPLES: usize = 5;

impl Crawl {
    /// A crawl that will start at the index of the site on `servers`.
    pub(crate) fn new(servers: &[SocketAddr], plan: Plan) -> Arc<Crawl> {
        assert!(!servers.is_empty(), "a site without an address");
        let per_host = plan.pace.as_ref().is_some_and(Pace::is_per_host);
        let mut frontier = Frontier::new(if per_host { servers.len() } else { 1 });
        frontier.link("/index.html");
        Arc::new(Crawl {
            state: Mutex::new(State { frontier, tally: Tally::default() }),
            changed: Event::new(),
            servers: servers.into(),
            plan,
        })
    }

    /// Crawls until there is nothing left: the loop of the program.
    pub(crate) async fn run(self: &Arc<Self>) {
        if self.plan.budget.is_some() || self.plan.pace.is_some() {
            return self.run_within_limits().await;
        }
        while let Some(ticket) = self.next().await {
            // The bound. Over the limit this waits, and the page's future stays in this frame.
            let admitted = anteroom::spawn(page::fetch(ticket, None)).await;
            // The handle is of no use: the page reports through its ticket.
            drop(admitted.expect("the runtime is not closed, and one page is within any limit"));
        }
    }

    /// As [`run`](Self::run), with more to wait for than a place.
    async fn run_within_limits(self: &Arc<Self>) {
        while self.has_more().await {
            let place = anteroom::reserve().await.expect("the runtime is not closed");
            let share = match &self.plan.budget {
                Some(budget) => Some(budget.admit().await),
                None => None,
            };
            let ticket = self.next_due().await;
            let admitted = place.spawn(page::fetch(ticket, share));
            drop(admitted.unwrap_or_else(|_| panic!("its place is held")));
        }
    }

    /// Waits until there is a URL to hand out. False when there never will be.
    async fn has_more(&self) -> bool {
        loop {
            let changed = self.changed.listen();
            {
                let state = self.lock();
                if state.frontier.waiting() > 0 {
                    return true;
                }
                if state.frontier.is_over() {
                    return false;
                }
            }
            changed.await;
        }
    }

    /// The next URL whose time has come. There is one that waits, and only this takes any.
    async fn next_due(self: &Arc<Self>) -> Ticket {
        let Some(pace) = &self.plan.pace else { return self.next().await.expect("one waits") };
        loop {
            let changed = self.changed.listen();
            let popped = pace.take(anteroom::time::now(), |may| match self.lock().frontier.pop_from(may) {
                Next::Page(id, path) => Some(Ticket { crawl: self.clone(), id, path, finished: false }),
                Next::Wait | Next::Over => None,
            });
            match popped {
                Ok(ticket) => return ticket,
                Err(Held::Overall(until)) => anteroom::time::sleep_until(until).await,
                Err(Held::Hosts(until)) => first(anteroom::time::sleep_until(until), changed).await,
            }
        }
    }

    /// The next URL; None when all have been handed out and no page is left that could find another.
    async fn next(self: &Arc<Self>) -> Option<Ticket> {
        loop {
            // Listen, then look: what is found between the two is heard.
            let changed = self.changed.listen();
            match self.lock().frontier.pop() {
                Next::Page(id, path) => {
                    return Some(Ticket { crawl: self.clone(), id, path, finished: false });
                }
                Next::Over => return None,
                Next::Wait => {}
            }
            changed.await;
        }
    }

    /// Takes note of a link that stands on the page at `from`.
    pub(crate) fn link(&self, from: &str, link: Link, text: &str) {
        match link {
            Link::Page => {
                let mut state = self.lock();
                state.tally.links += 1;
                match state.frontier.link(text) {
                    Linked::Known => {}
                    Linked::New => {
                        drop(state);
                        self.changed.notify(1);
                    }
                    Linked::Full => state.error(|| format!("{from}: no room for one more URL: {text}")),
                }
            }
            Link::SamePage | Link::Elsewhere => {}
            Link::Malformed => {
                self.lock().error(|| format!("{from}: a link that cannot be followed: {text:.80}"))
            }
        }
    }

    /// Takes note of one more wait for a file descriptor or a port.
    pub(crate) fn descriptor_wait(&self) {
        self.lock().tally.descriptor_waits += 1;
    }

    /// What was counted so far.
    pub(crate) fn tally(&self) -> Tally {
        let state = self.lock();
        let broken_links = state.frontier.missing().map(|(_, inbound)| u64::from(inbound)).sum();
        Tally { broken_links, ..state.tally.clone() }
    }

    /// Pages done, and URLs known.
    pub(crate) fn progress(&self) -> (u64, u64) {
        let state = self.lock();
        (state.tally.pages, state.frontier.known() as u64)
    }

    /// The first few pages that answered 404, and how many links led to each.
    pub(crate) fn missing_examples(&self) -> Vec<(String, u32)> {
        self.lock().frontier.missing().take(EXAMPLES).map(|(path, links)| (path.to_owned(), links)).collect()
    }

    pub(crate) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The longest page that may be read whole.
    pub(crate) fn page_bytes_max(&self) -> u64 {
        self.plan.budget.as_ref().map_or(PAGE_BYTES_MAX, |budget| budget.page_bytes_max())
    }

    /// Waits until the page that has this share may hold so much.
    pub(crate) async fn hold(&self, share: &mut Option<Share>, bytes: u64) {
        if let (Some(share), Some(budget)) = (share, &self.plan.budget) {
            share.exchange(budget, bytes).await;
        }
    }

    /// The page that has this share holds so much from now on, whether there is room or not.
    pub(crate) fn settle(&self, share: &mut Option<Share>, bytes: u64) {
        if let (Some(share), Some(budget)) = (share, &self.plan.budget) {
            share.settle(budget, bytes);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change under the lock is whole before anything that could panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn error(&mut self, words: impl FnOnce() -> String) {
        self.tally.errors += 1;
        if self.tally.error_examples.len() < EXAMPLES {
            self.tally.error_examples.push(words());
        }
    }
}

/// The right, and the duty, to fetch one URL.
pub(crate) struct Ticket {
    crawl: Arc<Crawl>,
    id: u32,
    path: Box<str>,
    finished: bool,
}

impl Ticket {
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    pub(crate) fn crawl(&self) -> &Arc<Crawl> {
        &self.crawl
    }

    /// Which of the site's addresses to ask: all in turn.
    pub(crate) fn server(&self) -> SocketAddr {
        self.crawl.servers[self.id as usize % self.crawl.servers.len()]
    }

    /// Counts what became of the URL.
    pub(crate) fn finish(mut self, outcome: Outcome) {
        self.count(outcome);
    }

    fn count(&mut self, outcome: Outcome) {
        self.finished = true;
        let missing = matches!(outcome, Outcome::Missing);
        let mut state = self.crawl.lock();
        let tally = &mut state.tally;
        match outcome {
            Outcome::Page { bytes, is_html } => {
                tally.pages += 1;
                tally.not_html += u64::from(!is_html);
                tally.bytes += bytes;
            }
            Outcome::Moved => tally.moved += 1,
            Outcome::Missing => tally.missing += 1,
            Outcome::Failed(failure) => state.error(|| format!("{}: {failure}", self.path)),
        }
        let over = state.frontier.finish(self.id, missing);
        drop(state);
        if over {
            self.crawl.changed.notify(1);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.finished {
            self.count(Outcome::Failed(Failure::Dropped));
        }
    }
}

/// The output of whichever ends first; the other is dropped where it stands. The first wins a draw.
pub(crate) async fn first<T>(one: impl Future<Output = T>, other: impl Future<Output = T>) -> T {
    let (mut one, mut other) = (pin!(one), pin!(other));
    poll_fn(|cx| match one.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(output),
        Poll::Pending => other.as_mut().poll(cx),
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use anteroom_limiter::Rate;

    use super::*;

    impl Crawl {
        /// The ticket for the index.
        pub(crate) fn first_ticket(self: &Arc<Self>) -> Ticket {
            ticket(self)
        }
    }

    fn crawl() -> Arc<Crawl> {
        Crawl::new(&["127.0.0.1:1".parse().unwrap(), "127.0.0.2:1".parse().unwrap()], Plan::default())
    }

    fn poll_next(crawl: &Arc<Crawl>) -> Poll<Option<Ticket>> {
        pin!(crawl.next()).poll(&mut Context::from_waker(Waker::noop()))
    }

    fn ticket(crawl: &Arc<Crawl>) -> Ticket {
        match poll_next(crawl) {
            Poll::Ready(Some(ticket)) => ticket,
            _ => panic!("nothing to fetch"),
        }
    }

    #[test]
    fn the_loop_waits_for_live_pages_and_ends_with_the_last() {
        let crawl = crawl();
        let index = ticket(&crawl);
        assert_eq!(index.path(), "/index.html");
        let mut waiting = pin!(crawl.next());
        let mut cx = Context::from_waker(Waker::noop());
        assert!(waiting.as_mut().poll(&mut cx).is_pending());
        crawl.link("/index.html", Link::Page, "/a.html");
        let Poll::Ready(Some(a)) = waiting.as_mut().poll(&mut cx) else { panic!("a link wakes the loop") };
        assert_ne!(index.server(), a.server());
        index.finish(Outcome::Page { bytes: 10, is_html: true });
        let mut waiting = pin!(crawl.next());
        assert!(waiting.as_mut().poll(&mut cx).is_pending());
        a.finish(Outcome::Missing);
        assert!(matches!(waiting.as_mut().poll(&mut cx), Poll::Ready(None)));
    }

    #[test]
    fn a_ticket_that_is_dropped_is_an_error_and_the_crawl_goes_on() {
        let crawl = crawl();
        drop(ticket(&crawl));
        assert!(matches!(poll_next(&crawl), Poll::Ready(None)));
        let tally = crawl.tally();
        assert_eq!((tally.errors, tally.pages), (1, 0));
        assert_eq!(tally.error_examples, ["/index.html: its task ended early"]);
    }

    #[test]
    fn a_broken_link_counts_each_time_it_stands_somewhere() {
        let crawl = crawl();
        let index = ticket(&crawl);
        for _ in 0..3 {
            crawl.link("/index.html", Link::Page, "/gone.html");
        }
        crawl.link("/index.html", Link::Elsewhere, "https://other/");
        crawl.link("/index.html", Link::Malformed, "%ff");
        index.finish(Outcome::Page { bytes: 10, is_html: true });
        ticket(&crawl).finish(Outcome::Missing);
        let tally = crawl.tally();
        assert_eq!((tally.links, tally.broken_links, tally.missing, tally.errors), (3, 3, 1, 1));
        assert_eq!(crawl.missing_examples(), [("/gone.html".to_owned(), 3)]);
    }

    #[test]
    fn a_url_of_another_host_overtakes_one_whose_host_is_over_its_rate_even_if_it_is_found_later() {
        let runtime = anteroom::Runtime::builder().paused_clock(true).build().unwrap();
        runtime.block_on(async {
            let start = anteroom::time::now();
            let pace = Pace::new(None, Some(Rate::per_second(1)), 2, start).unwrap();
            // The index is of the first host.
            pace.take(start, |may| may(0).then_some(())).unwrap();
            let servers = ["127.0.0.1:1".parse().unwrap(), "127.0.0.2:1".parse().unwrap()];
            let crawl = Crawl::new(&servers, Plan { pace: Some(pace), ..Plan::default() });
            let mut due = pin!(crawl.next_due());
            assert!(poll_fn(|cx| Poll::Ready(due.as_mut().poll(cx).is_pending())).await);
            crawl.link("/index.html", Link::Page, "/a.html");
            let overtakes = due.await;
            assert_eq!((overtakes.path(), overtakes.server()), ("/a.html", servers[1]));
            assert_eq!(anteroom::time::now(), start);
            let index = crawl.next_due().await;
            assert_eq!((index.path(), index.server()), ("/index.html", servers[0]));
            assert_eq!(anteroom::time::now(), start + Duration::from_secs(1));
        });
    }

    #[test]
    fn the_first_of_two_futures_wins() {
        let poll = |future: std::pin::Pin<&mut dyn Future<Output = u32>>| {
            future.poll(&mut Context::from_waker(Waker::noop()))
        };
        assert_eq!(poll(pin!(first(async { 1 }, async { 2 }))), Poll::Ready(1));
        assert_eq!(poll(pin!(first(std::future::pending(), async { 2 }))), Poll::Ready(2));
    }
}
