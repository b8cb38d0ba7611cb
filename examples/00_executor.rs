//! The smallest executor that is correct: some sixty lines of std, no anteroom and no `unsafe`.
//!
//! # Idea
//! A future does nothing by itself. `poll` asks it to get on; it says `Ready`, or it says `Pending` and keeps the waker that
//! it was polled with, to call when asking again is worth it. So an executor is a queue of those that are worth asking, and
//! a thread that takes one, polls it, and sleeps when there is none:
//!
//! ```text
//!   spawn ──▶ [ queue of numbers ] ──▶ poll ──▶ Ready: the task is gone
//!                     ▲                  └────▶ Pending: it is in no queue, and costs no time until ...
//!                     └───────────────────────────── ... wake: by its own poll, another task, another thread
//! ```
//!
//! Four things are easily got wrong: (1) a wake during a poll leads to another poll, since what it tells of may have come
//! after the future looked; (2) many wakes before one poll leave one entry in the queue, or the queue has no bound; (3) no
//! lock is held during a poll, which may wake, which locks; (4) a wake just before the sleep ends the sleep.
//!
//! A runtime adds what calls those wakers (timers, sockets), handles, a guard against panics, spawning from inside a task;
//! and a bound: nothing here keeps `tasks` from growing until the memory ends.
//!
//! # Read next
//! `01_block_on.rs`. The same loop, grown up: `runtime/src/scheduler/local.rs`.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

/// All tasks, on one thread. They need not be `Send`: only their numbers leave it.
struct Executor {
    tasks: BTreeMap<u64, Task>,
    spawned: u64,
    ready: Arc<Ready>,
}

type Task = (Pin<Box<dyn Future<Output = ()>>>, Arc<Ticket>);

/// Whom to poll next, and the thread that does it: all that other threads touch.
struct Ready {
    numbers: Mutex<VecDeque<u64>>,
    thread: Thread,
}

/// What a waker is here: a number that is given once, and where to leave it. One that outlives its task wakes nobody.
struct Ticket {
    number: u64,
    is_queued: AtomicBool,
    ready: Arc<Ready>,
}

impl Wake for Ticket {
    fn wake(self: Arc<Self>) {
        // (2) Only who turns it on may push. Ordering: Release, also when it was on already; pairs with the Acquire in
        // `run`, so that the poll to come sees what was written before this wake.
        if !self.is_queued.swap(true, Ordering::Release) {
            self.ready.numbers.lock().unwrap().push_back(self.number);
            self.ready.thread.unpark();
        }
    }
}

impl Executor {
    fn new() -> Self {
        let ready = Ready { numbers: Mutex::default(), thread: thread::current() };
        Executor { tasks: BTreeMap::new(), spawned: 0, ready: Arc::new(ready) }
    }

    /// An entry in the table, and a first wake.
    fn spawn(&mut self, future: impl Future<Output = ()> + 'static) {
        self.spawned += 1;
        let (number, is_queued, ready) = (self.spawned, false.into(), self.ready.clone());
        let ticket = Arc::new(Ticket { number, is_queued, ready });
        self.tasks.insert(number, (Box::pin(future), ticket.clone()));
        ticket.wake();
    }

    /// Runs until all tasks are done; returns how often it polled and how often it slept.
    fn run(&mut self) -> (u32, u32) {
        let (mut polls, mut sleeps) = (0, 0);
        while !self.tasks.is_empty() {
            // (3) A statement of its own: in the head of a `match` the lock would be held to the end of the arms.
            let next = self.ready.numbers.lock().unwrap().pop_front();
            let Some(number) = next else {
                // (4) `unpark` leaves a token: if it came after the look above, `park` takes it and returns at once.
                thread::park();
                sleeps += 1;
                continue;
            };
            // None if it is done: it was woken during its last poll, or later.
            let Some((mut future, ticket)) = self.tasks.remove(&number) else { continue };
            // (1) Off before the poll, so that a wake during the poll pushes. Ordering: Acquire; pairs with `wake`.
            ticket.is_queued.swap(false, Ordering::Acquire);
            polls += 1;
            let waker = Waker::from(ticket.clone());
            if future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
                self.tasks.insert(number, (future, ticket));
            }
        }
        (polls, sleeps)
    }
}

fn main() {
    let mut executor = Executor::new();
    let turns = Rc::new(RefCell::new(Vec::new()));
    for name in ["a", "b"] {
        let turns = turns.clone();
        // Each wakes itself in its own poll (1), and twice (2).
        executor.spawn(poll_fn(move |cx| {
            println!("{name} has its turn");
            turns.borrow_mut().push(name);
            (0..2).for_each(|_| cx.waker().wake_by_ref());
            if turns.borrow().len() < 5 { Poll::Pending } else { Poll::Ready(()) }
        }));
    }
    // Asks a thread, which gets a waker to call when it has the answer.
    static ANSWER: AtomicU32 = AtomicU32::new(0);
    let (ask, asked) = mpsc::channel::<Waker>();
    let thread = thread::spawn(move || {
        let waker = asked.recv().unwrap();
        thread::sleep(std::time::Duration::from_millis(20)); // a long computation
        ANSWER.store(42, Ordering::Relaxed); // enough: the wake puts it before the poll
        waker.wake_by_ref();
        waker
    });
    executor.spawn(poll_fn(move |cx| match ANSWER.load(Ordering::Relaxed) {
        0 => ask.send(cx.waker().clone()).map_or(Poll::Ready(()), |()| Poll::Pending),
        _ => Poll::Ready(()),
    }));
    let (polls, sleeps) = executor.run();
    println!("the thread said {}; {polls} polls, {sleeps} sleeps", ANSWER.load(Ordering::Relaxed));
    // In turns; each wake led to one poll and none was lost; nothing was polled, and no sleep ended, without a wake.
    assert_eq!(*turns.borrow(), ["a", "b", "a", "b", "a", "b"]);
    assert!(polls == 3 + 3 + 2 && sleeps <= polls);
    // A waker may be called when its task is long done.
    thread.join().unwrap().wake();
    executor.spawn(async {});
    assert_eq!(executor.run().0, 1);
}

#[test]
fn each_wake_leads_to_one_poll_and_none_is_lost() {
    main();
}
