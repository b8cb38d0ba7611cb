//! The whole single-threaded loop on one page.
//!
//! # Problem
//! Poll what is ready, in order, without ever starving the timers, the sockets and the other threads' wakes, and sleep when
//! there is nothing to do, without missing what comes in that very moment.
//!
//! # Idea
//! ```text
//!   ┌─▶ poll up to N tasks from the head of the queue ──▶ take the inbox ──▶ one driver turn, if it is time ─┐
//!   │                                        queue empty?  ──▶ wait for the driver or the doorbell           │
//!   └────────────────────────────────────────────────────────────────────────────────────────────────────────┘
//! ```
//! The future of `block_on` has a header as any task, so it is woken, queued and polled in its turn; only it is polled in
//! the caller's frame. A task that yields goes to the tail.
//!
//! # Invariants
//! - [LOOP-1] At most N polls lie between two looks at the inbox and the driver, N at most 64 and less when polls are long.
//! - [LOOP-2] The thread waits only when the queue is empty and the inbox was quiet after `sleeping` was set.
//! - [LOOP-3] What a finished task leaves is carried out in order: its place first, then its joiner.
//!
//! # Rejected
//! A slot for the task that was woken last, polled next: two tasks that wake each other would starve a third.
//!
//! # Read next
//! `inbox.rs`, the race between a wake and a sleep.

use std::pin::Pin;
use std::task::{Context, Poll};

use super::Park;
use super::watch::Watch;
use crate::admission::Admission;
use crate::sync::{Ordering, fence};
use crate::task::{self, Finished, Header, Home, Local, Site};

/// How often the end of a runtime looks at what other threads ask.
const LAST_LOOKS: usize = 4;

/// So many tasks do not fit a core's cache: what the next one lies in is fetched while one is polled.
const MANY: usize = 4096;

/// The tasks of one runtime and the loop over them.
pub(crate) struct Scheduler {
    home: &'static Home,
    local: &'static Local,
    admission: &'static Admission,
    watch: &'static Watch,
}

impl Scheduler {
    pub(crate) fn new(home: &'static Home, local: &'static Local, admission: &'static Admission) -> Self {
        Self { home, local, admission, watch: Watch::of(local) }
    }

    /// Runs tasks until `future` is ready. The caller has made this thread the owner.
    pub(crate) fn block_on<F: Future>(
        &self,
        mut future: Pin<&mut F>,
        site: Site,
        park: &impl Park,
    ) -> F::Output {
        let mut polls_max = park.turn();
        // What was asked since the last call comes first, or a program of many short calls would never attend to it.
        self.take_inbox(park);
        let root = task::Root::new(self.home, self.local, site);
        loop {
            let watched = self.watch.begin(self.local, park);
            if watched.is_some() {
                // One at a time, so that its time is its own.
                polls_max = 1;
            }
            let mut polls_left = polls_max;
            while self.poll_tasks(&root, &mut polls_left) {
                let poll = |cx: &mut Context<'_>| future.as_mut().poll(cx);
                if let Poll::Ready(output) = root.poll(poll) {
                    if let Some(watched) = watched {
                        self.watch.end(self.local, watched, park);
                    }
                    return output;
                }
            }
            if let Some(watched) = watched {
                self.watch.end(self.local, watched, park);
            }
            self.take_inbox(park);
            if self.local.queue.is_empty() {
                if self.admission.unstick((self.home, self.local)) {
                    // Somebody runs a child in its own place. The driver has its turn all the same.
                    polls_max = park.turn();
                    continue;
                }
                park.park(&|| self.home.shared.inbox.prepare_sleep());
                self.home.shared.inbox.wake_up();
                self.take_inbox(park);
            } else {
                polls_max = park.turn();
            }
        }
    }

    /// Polls what is ready, in order, until `polls_left` is none, or it is the turn of `root`, which is taken out of the queue and
    /// counted: whether it is. A function by itself, the same for all types of `root`.
    #[inline(never)]
    fn poll_tasks(&self, root: &task::Root, polls_left: &mut u32) -> bool {
        let looks_closer = self.looks_closer();
        let mut left = *polls_left;
        while left > 0 {
            let Some(next) = self.local.queue.pop() else { break };
            left -= 1;
            if looks_closer {
                self.look_closer(next);
            }
            if root.is(next) {
                *polls_left = left;
                return true;
            }
            if let Some(finished) = task::run(self.local, next) {
                self.carry_out(finished);
            }
        }
        false
    }

    /// Whether each task that comes next is one for [`look_closer`](Self::look_closer).
    fn looks_closer(&self) -> bool {
        self.admission.notes_polled() || self.local.table.taken() >= MANY
    }

    /// Sees to a task that is polled next, and to the one after that.
    #[inline(never)]
    fn look_closer(&self, next: &'static Header) {
        self.local.queue.head().inspect(|after| task::prefetch(after));
        if self.admission.notes_polled() {
            self.admission.note_polled(next);
        }
    }

    /// [LOOP-3]
    #[inline(always)]
    fn carry_out(&self, Finished { place, bytes, joiner }: Finished) {
        self.admission.release((self.home, self.local), place, bytes);
        joiner.wake();
    }

    /// Does what other threads have asked for. At most as many items as the inbox holds, so that they cannot keep us here.
    #[inline]
    fn take_inbox(&self, park: &impl Park) {
        let inbox = &self.home.shared.inbox;
        if inbox.is_quiet() {
            return;
        }
        for _ in 0..inbox.capacity() {
            let Some(task) = inbox.pop() else { break };
            task::attend(self.local, task);
        }
        if inbox.take_overflow() {
            task::attend_all(self.local);
        }
        if inbox.take_attention() {
            self.admission.collect((self.home, self.local));
            park.collect();
        }
    }

    /// Ends every task, and everything that waits: afterwards nothing of this runtime will be polled.
    pub(crate) fn shut_down(&self, park: &impl Park) {
        self.admission.begin_end();
        task::cancel_all(self.local, |finished| self.carry_out(finished));
        // Ordering: SeqCst; pairs with the fence of a handle that is polled elsewhere: either it sees that its task is
        // done, or what it asked stands in the inbox by now.
        fence(Ordering::SeqCst);
        self.home.shared.settle();
        // Who found a bit set did not push, and relies on another who may not have pushed yet: the inbox alone does not
        // show what was asked before the fence.
        task::attend_all(self.local);
        // What still comes concerns nobody: threads that go on waking what has ended must not hold this up.
        for _ in 0..LAST_LOOKS {
            self.take_inbox(park);
        }
        self.admission.end();
        self.admission.trim();
    }
}
