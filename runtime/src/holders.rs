//! Who holds a place, and who waits for one.
//!
//! # Problem
//! A runtime with a bound can be full, and then the question is by whom: which line of the program spawned them, since when
//! are they there, what do they wait for.
//!
//! # Idea
//! Every header knows where its task was spawned, when, and what its last poll ran into; every waiting spawn knows when it
//! came. [`holders`] and [`waiters`] walk through them and copy it out. Nothing is kept for it beyond eight bytes a header.
//!
//! # Read next
//! `task/reason.rs`, where what a task waits for comes from; `handle.rs`, which asks from other threads.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;
use std::panic::Location;
use std::time::Duration;

use crate::admission::{self, Admission};
use crate::task::{self, Home, Known, Local, Place, TaskId, WaitsFor};

/// A task that holds a place.
///
/// ```
/// anteroom::block_on(async {
///     let task = anteroom::spawn(std::future::pending::<()>()).await.unwrap();
///     let holders = anteroom::holders();
///     assert_eq!(Some(holders[0].id()), task.id());
///     assert!(holders[0].site().unwrap().file().ends_with(".rs"));
/// });
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Holder {
    known: Known,
}

impl Holder {
    /// Which task.
    pub fn id(&self) -> TaskId {
        self.known.id
    }

    /// Where it was spawned; `None` beyond 65,535 different places.
    pub fn site(&self) -> Option<&'static Location<'static>> {
        self.known.site
    }

    /// How long it has been there, to 17 ms.
    pub fn held(&self) -> Duration {
        Duration::from_nanos(self.known.age_ns)
    }

    /// What its last poll ran into.
    pub fn waits_for(&self) -> WaitsFor {
        self.known.waits_for
    }

    /// Whether it is being polled or about to be, and so waits for nothing but its turn.
    pub fn is_ready(&self) -> bool {
        self.known.is_ready
    }

    /// Whether a child runs in its place, for want of another: what it waits for may be what the child does.
    pub fn lends(&self) -> bool {
        self.known.lends
    }

    /// Whether its place is one of the services'.
    pub fn is_service(&self) -> bool {
        self.known.place == Place::Service
    }

    /// The size of its future, and what it declared besides.
    pub fn bytes(&self) -> usize {
        self.known.bytes
    }
}

/// All who hold a place, in no particular order; printed, in one line, by where they were spawned and what they wait for.
///
/// ```
/// let runtime = anteroom::Runtime::builder().max_tasks(1_000).build().unwrap();
/// runtime.block_on(async {
///     for _ in 0..993 {
///         let sleep = anteroom::time::sleep(std::time::Duration::from_secs(9));
///         anteroom::spawn(sleep).await.unwrap();
///     }
///     anteroom::yield_now().await;
///     let line = anteroom::holders().to_string(); // 993/1,000: 993 from src/main.rs:5 on a timer
///     assert!(line.starts_with("993/1,000: 993 from ") && line.ends_with(" on a timer"), "{line}");
/// });
/// ```
#[derive(Clone, Debug, Default)]
pub struct Holders {
    list: Vec<Holder>,
    tasks_max: usize,
    reserved: usize,
}

impl Deref for Holders {
    type Target = [Holder];

    fn deref(&self) -> &[Holder] {
        &self.list
    }
}

impl Holders {
    /// Places that are reserved and hold no task yet.
    pub fn reserved(&self) -> usize {
        self.reserved
    }
}

impl fmt::Display for Holders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // As listed: of several threads' tasks some may have ended since the first was.
        let live = self.reserved + self.list.iter().filter(|holder| !holder.is_service()).count();
        write!(f, "{}/{}", Thousands(live), Thousands(self.tasks_max))?;
        let mut groups: BTreeMap<_, usize> = BTreeMap::new();
        for holder in self.list.iter().filter(|holder| !holder.is_service()) {
            let on = if holder.is_ready() { None } else { Some(holder.waits_for()) };
            *groups.entry((holder.site().map(|site| (site.file(), site.line())), on)).or_default() += 1;
        }
        let mut groups: Vec<_> = groups.into_iter().collect();
        groups.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
        let mut separator = ": ";
        for ((site, on), count) in groups {
            write!(f, "{separator}{} from ", Thousands(count))?;
            match site {
                Some((file, line)) => write!(f, "{file}:{line}")?,
                None => f.write_str("elsewhere")?,
            }
            match on {
                Some(on) => write!(f, " on {on}")?,
                None => f.write_str(" running")?,
            }
            separator = ", ";
        }
        match self.reserved() {
            0 => Ok(()),
            reserved => write!(f, "{separator}{} reserved", Thousands(reserved)),
        }
    }
}

/// A spawn, or a reservation, that waits for a place.
///
/// ```
/// let runtime = anteroom::Runtime::builder().max_tasks(1).build().unwrap();
/// runtime.block_on(async {
///     let _holder = anteroom::spawn(std::future::pending::<()>()).await.unwrap();
///     let mut waiting = std::pin::pin!(anteroom::spawn(async {}).heap(100));
///     std::future::poll_fn(|cx| {
///         assert!(waiting.as_mut().poll(cx).is_pending());
///         std::task::Poll::Ready(())
///     })
///     .await;
///     assert!(anteroom::waiters()[0].bytes() >= 100);
/// });
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Waiting {
    site: task::Site,
    waits_ns: u64,
    bytes: usize,
}

impl Waiting {
    /// Where it was asked for.
    pub fn site(&self) -> &'static Location<'static> {
        self.site
    }

    /// For how long.
    pub fn waits(&self) -> Duration {
        Duration::from_nanos(self.waits_ns)
    }

    /// The bytes that it asks for.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

/// All who wait for a place, the head of the line first; printed, how many and for how long the first has waited.
///
/// ```
/// anteroom::block_on(async {
///     assert_eq!(anteroom::waiters().to_string(), "nobody waits");
/// });
/// ```
#[derive(Clone, Debug, Default)]
pub struct Waiters {
    list: Vec<Waiting>,
}

impl Deref for Waiters {
    type Target = [Waiting];

    fn deref(&self) -> &[Waiting] {
        &self.list
    }
}

impl fmt::Display for Waiters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.first() {
            None => f.write_str("nobody waits"),
            Some(head) => write!(
                f,
                "{} wait; the head, from {}:{}, has waited {:.1} s",
                Thousands(self.len()),
                head.site().file(),
                head.site().line(),
                head.waits().as_secs_f64()
            ),
        }
    }
}

/// A number with a comma at each thousand.
pub(crate) struct Thousands(pub(crate) usize);

impl fmt::Display for Thousands {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        for (at, digit) in digits.chars().enumerate() {
            if at > 0 && (digits.len() - at) % 3 == 0 {
                f.write_str(",")?;
            }
            write!(f, "{digit}")?;
        }
        Ok(())
    }
}

fn here(asked: &str) -> ((&'static Home, &'static Local), &'static Admission) {
    match (task::current(), admission::current()) {
        (Some(at), Some(admission)) => (at, admission),
        _ => panic!(
            "anteroom::{asked} was called outside a runtime: call it inside Runtime::block_on, or by a Handle"
        ),
    }
}

/// Who holds a place of the runtime that this thread is inside of, services included. Looks at every task.
///
/// ```
/// anteroom::block_on(async {
///     assert!(anteroom::holders().is_empty()); // the future of block_on holds no place
/// });
/// ```
///
/// # Panics
/// Outside a runtime.
pub fn holders() -> Holders {
    let _inside = task::enter();
    let ((_, local), admission) = here("holders");
    let mut list = Vec::new();
    task::for_each_live(local, |known| {
        if known.place != Place::Root {
            list.push(Holder { known });
        }
    });
    let counts = admission.counts();
    Holders { list, tasks_max: counts.tasks_max, reserved: counts.reserved }
}

/// Who waits for a place of the runtime that this thread is inside of, in order. Looks at everybody who waits.
///
/// ```
/// anteroom::block_on(async {
///     assert!(anteroom::waiters().is_empty());
/// });
/// ```
///
/// # Panics
/// Outside a runtime.
pub fn waiters() -> Waiters {
    let _inside = task::enter();
    let (at, admission) = here("waiters");
    let mut list = Vec::new();
    admission.for_each_waiting(at, |waiter| {
        let terms = waiter.terms();
        let waits_ns = at.1.now_ns.get().saturating_sub(waiter.since_ns.get());
        list.push(Waiting { site: terms.site, waits_ns, bytes: terms.bytes });
    });
    Waiters { list }
}

#[cfg(all(test, not(anteroom_loom)))]
mod tests {
    use super::*;

    #[test]
    fn thousands_have_commas() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(Thousands(number).to_string(), text);
        }
    }
}
