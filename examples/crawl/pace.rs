//! `--rate` and `--per-host`: how many requests a second, over all and to each host.
//!
//! # Problem
//!
//! A limit on what is live is no rate: a hundred pages at once are a hundred requests a second of a slow host
//! and ten thousand of a fast one. And a host that is over its rate must not stand in the way of the others: if
//! its pages were spawned and then waited, they would soon have all places.
//!
//! # Idea
//!
//! Nobody waits but the one loop in `crawler.rs`, and it waits *before* it takes a URL. It first has a place, and
//! memory if that is limited, then asks here which host may be asked now, and takes the oldest URL of such a
//! host. Between a slot and its request there is no other wait, so slots do not pile up.
//!
//! ```text
//!   a URL? ──► a place ──► memory ──► a slot ──► pop the oldest URL whose host has one, too ──► spawn
//!                                     └── none: sleep until the first one is due, or a URL of another host is found
//! ```
//!
//! # Bounds
//!
//! While it waits, it holds one place, which nobody else wants, and one estimate of memory, which a page that
//! waits for more may want: until the slot is due, which hangs on no page. Nothing is queued: the frontier keeps
//! a position for each host. Both rates admit one at a time, so in any second at most N requests begin; the
//! server sees one more if the system delays the first of them.
//!
//! # Rejected
//!
//! * *Waiting in the page's task.* A place and an estimate a waiting page, and for the pages of a slow host,
//!   all of them.
//! * *A slot first, a place then.* When the place comes free late, the slots that were taken meanwhile are used
//!   all at once.

use std::time::{Duration, Instant};

use anteroom_limiter::{KeyedRate, KeyedRateError, Rate, RateLimit};

/// The rates. A host is a number from zero on.
pub(crate) struct Pace {
    overall: Option<RateLimit>,
    hosts: Option<KeyedRate<usize>>,
}

/// Why nothing may be asked now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Held {
    /// The rate over all is used up until then.
    Overall(Instant),
    /// Of all hosts that have URLs, the first may be asked then. One that has none now may be free.
    Hosts(Instant),
}

impl Pace {
    /// `now` is where both begin. Some, if there is anything to keep to.
    pub(crate) fn new(
        rate: Option<Rate>,
        per_host: Option<Rate>,
        hosts: usize,
        now: Instant,
    ) -> Option<Pace> {
        if rate.is_none() && per_host.is_none() {
            return None;
        }
        Some(Pace {
            overall: rate.map(|rate| RateLimit::new(rate, now)),
            hosts: per_host.map(|rate| KeyedRate::new(rate, hosts, now)),
        })
    }

    /// Whether hosts are to be told apart.
    pub(crate) fn is_per_host(&self) -> bool {
        self.hosts.is_some()
    }

    /// Takes a slot of each rate for what `pop` gives, which asks for hosts in the order in which it would have
    /// them, and gives nothing if none may be asked.
    pub(crate) fn take<T>(
        &self,
        now: Instant,
        pop: impl FnOnce(&mut dyn FnMut(usize) -> bool) -> Option<T>,
    ) -> Result<T, Held> {
        let slot = match &self.overall {
            None => None,
            Some(rate) => match rate.reserve(now) {
                Ok(slot) if slot.at() <= now => Some(slot),
                // Nobody else takes slots, so it is the newest, and comes back.
                Ok(slot) => {
                    let at = slot.at();
                    let _ = slot.cancel();
                    return Err(Held::Overall(at));
                }
                // A slot of a rate that fits the command line is not that far away.
                Err(_) => return Err(Held::Overall(now + A_LONG_TIME)),
            },
        };
        let mut earliest = None;
        let popped = pop(&mut |host| match &self.hosts {
            None => true,
            Some(hosts) => match hosts.check_key(&host, now) {
                Ok(()) => true,
                Err(KeyedRateError::NotYet(not_yet)) => {
                    let at = not_yet.at();
                    earliest = Some(earliest.map_or(at, |earliest: Instant| earliest.min(at)));
                    false
                }
                Err(error) => unreachable!("it has room for each host: {error}"),
            },
        });
        popped.ok_or_else(|| {
            if let Some(slot) = slot {
                let _ = slot.cancel();
            }
            Held::Hosts(earliest.unwrap_or(now + A_LONG_TIME))
        })
    }
}

/// For what does not happen: to look again then.
const A_LONG_TIME: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// What a crawl with URLs of these hosts, the oldest first, takes at `now`.
    fn take(pace: &Pace, now: Instant, hosts: &[usize]) -> Result<usize, Held> {
        pace.take(now, |may| hosts.iter().copied().find(|host| may(*host)))
    }

    fn pace(rate: Option<u64>, per_host: Option<u64>, now: Instant) -> Pace {
        Pace::new(rate.map(Rate::per_second), per_host.map(Rate::per_second), 3, now).unwrap()
    }

    #[test]
    fn without_a_rate_there_is_no_pace() {
        assert!(Pace::new(None, None, 8, Instant::now()).is_none());
    }

    #[test]
    fn a_host_that_is_over_its_rate_lets_the_others_pass() {
        let start = Instant::now();
        let pace = pace(None, Some(1), start);
        assert_eq!(take(&pace, start, &[0, 0, 1]), Ok(0));
        assert_eq!(take(&pace, start, &[0, 1]), Ok(1));
        assert_eq!(take(&pace, start + SECOND / 2, &[0, 1]), Err(Held::Hosts(start + SECOND)));
        // One that was found meanwhile.
        assert_eq!(take(&pace, start + SECOND / 2, &[0, 1, 2]), Ok(2));
        assert_eq!(take(&pace, start + SECOND, &[0, 1]), Ok(0));
    }

    #[test]
    fn a_slot_over_all_comes_back_when_no_host_can_use_it() {
        let start = Instant::now();
        let pace = pace(Some(2), Some(1), start);
        assert_eq!(take(&pace, start, &[0]), Ok(0));
        assert_eq!(take(&pace, start, &[1]), Err(Held::Overall(start + SECOND / 2)));
        assert_eq!(take(&pace, start + SECOND / 2, &[0]), Err(Held::Hosts(start + SECOND)));
        // The same slot, for a host that can.
        assert_eq!(take(&pace, start + SECOND / 2, &[1]), Ok(1));
        assert_eq!(take(&pace, start + SECOND, &[0]), Ok(0));
    }

    #[test]
    fn a_pause_saves_nothing_up() {
        let start = Instant::now();
        let pace = pace(Some(10), None, start);
        let later = start + 10 * SECOND;
        assert_eq!(take(&pace, later, &[0]), Ok(0));
        assert_eq!(take(&pace, later, &[0]), Err(Held::Overall(later + SECOND / 10)));
    }
}
