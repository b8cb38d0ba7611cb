//! Loom models of what two threads can do to one task: the real code, under every interleaving within the stated bounds.
//!
//! `RUSTFLAGS="--cfg anteroom_loom" cargo test --release -p anteroom --features stealing --lib loom`
//!
//! # What is checked
//! Loom tracks each atomic, and each cell of a header, a waiter and a queue: two threads at one cell without an order
//! between them fail a model, as does a deadlock, which is what a lost wake becomes. Bounds: two threads without limit on
//! preemptions; three, or two that take many steps, with at most three, or two.
//!
//! # That it checks
//! `loom_canary` must fail. And with `ANTEROOM_BUG=...` a model must fail for each of:
//! `inbox_plain` (a plain look at the sleeper after a push), `wake_plain` (a wake that finds its bit set is
//! no read-modify-write), `claim_plain` (the owner takes a waiting future without a swap), `join_no_second_look` (a handle
//! that does not look again after it has asked), `desk_recycles_at_once` (a node that was cancelled is used again while the
//! owner may hold it), `desk_forgets_close` (a close that comes while the owner empties the desk); of `cancel.rs`,
//! `gather.rs` and `ring.rs` here (the last with `--features stealing`), for each that begins with their name.

mod cancel;
#[cfg(feature = "stealing")]
mod idle;
mod lending;

mod gather;
#[cfg(feature = "stealing")]
mod ring;
#[cfg(feature = "stealing")]
mod shared;
#[cfg(feature = "stealing")]
mod team;

use std::future::poll_fn;
use std::panic::Location;
use std::pin::{Pin, pin};
use std::sync::Arc as StdArc;
use std::task::{Context, Poll, Wake, Waker};

use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

use crate::admission::{self, Admission, Door, Limits};
use crate::scheduler::Park;
use crate::scheduler::inbox::{Doorbell, Inbox};
use crate::scheduler::local::Scheduler;
use crate::task::Owner;
use crate::{JoinHandle, Spawn, spawn, spawn_local, try_spawn};

/// Two threads, every interleaving.
fn model(f: impl Fn() + Sync + Send + 'static) {
    explore(None, f);
}

/// At most two preemptions: what takes very many steps.
fn model_of_many_steps(f: impl Fn() + Sync + Send + 'static) {
    explore(Some(2), f);
}

/// At most three preemptions: three threads, or two that take many steps.
fn model_of_three(f: impl Fn() + Sync + Send + 'static) {
    explore(Some(3), f);
}

fn explore(preemptions_max: Option<usize>, f: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions_max;
    let executions = StdArc::new(std::sync::atomic::AtomicUsize::new(0));
    builder.check({
        let executions = executions.clone();
        move || {
            executions.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            f();
        }
    });
    println!("{} executions", executions.load(Ordering::Relaxed));
}

/// A doorbell and the sleep that it ends.
struct Bell {
    rung: Mutex<bool>,
    condvar: Condvar,
}

impl Bell {
    fn new() -> StdArc<Bell> {
        StdArc::new(Bell { rung: Mutex::new(false), condvar: Condvar::new() })
    }

    fn wait(&self) {
        let mut rung = self.rung.lock().unwrap();
        while !*rung {
            rung = self.condvar.wait(rung).unwrap();
        }
        *rung = false;
    }
}

impl Doorbell for Bell {
    fn ring(&self) {
        *self.rung.lock().unwrap() = true;
        self.condvar.notify_one();
    }
}

impl Wake for Bell {
    fn wake(self: StdArc<Self>) {
        self.ring();
    }
}

struct Sleeper(StdArc<Bell>);

impl Park for Sleeper {
    fn turn(&self) -> u32 {
        2
    }

    fn park(&self, may_wait: &dyn Fn() -> bool) {
        if may_wait() {
            self.0.wait();
        }
    }

    fn collect(&self) {}

    fn now_ns(&self) -> u64 {
        0
    }
}

/// A runtime of the real parts, with a loom condvar in the driver's place.
struct Rig {
    scheduler: Scheduler,
    admission: &'static Admission,
    sleeper: Sleeper,
    owner: Owner,
}

impl Rig {
    fn new(tasks_max: usize) -> Self {
        let owner = Owner::new();
        let home = owner.home();
        let bell = Bell::new();
        home.shared.inbox.set_doorbell(Some(bell.clone()));
        let _inside = owner.enter();
        let local = home.local().unwrap();
        let admission = Admission::of(home, local);
        admission.open(Limits {
            tasks_max,
            task_bytes_max: usize::MAX,
            services_max: 0,
            waiting_max: usize::MAX,
            foreign_max: 2,
            in_place_stack: 1 << 20,
        });
        let scheduler = Scheduler::new(home, local, admission);
        Rig { scheduler, admission, sleeper: Sleeper(bell), owner }
    }

    fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        let _inside = (self.owner.enter(), admission::enter(self.admission));
        self.scheduler.block_on(pin!(future), Location::caller(), &self.sleeper)
    }

    /// Runs what is ready, and looks at the inbox.
    fn settle(&self) {
        self.block_on(async {
            for _ in 0..3 {
                crate::yield_now().await;
            }
        });
    }

    /// Runs until `work` is over on another thread, sleeping when there is nothing to do: a lost ring is a deadlock.
    fn run_against(&self, work: impl FnOnce() + Send + 'static) {
        let over = StdArc::new(Mutex::new((false, None::<Waker>)));
        let other = thread::spawn({
            let over = over.clone();
            move || {
                work();
                let waker = {
                    let mut over = over.lock().unwrap();
                    over.0 = true;
                    over.1.take()
                };
                if let Some(waker) = waker {
                    waker.wake();
                }
            }
        });
        self.block_on(poll_fn(|cx| {
            let mut over = over.lock().unwrap();
            if over.0 {
                return Poll::Ready(());
            }
            over.1 = Some(cx.waker().clone());
            Poll::Pending
        }));
        other.join().unwrap();
    }

    /// As the drop of a runtime.
    fn shut_down(self) {
        let _inside = (self.owner.enter(), admission::enter(self.admission));
        self.scheduler.shut_down(&self.sleeper);
        assert_eq!(self.admission.counts().tasks_live, 0);
        assert_eq!(self.admission.counts().waiting, 0);
    }
}

/// Blocks this loom thread on a future.
fn wait_for<T>(future: impl Future<Output = T>) -> T {
    let bell = Bell::new();
    let waker = Waker::from(bell.clone());
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        bell.wait();
    }
}

/// Data that only a wake publishes, and where the waiting task leaves its waker.
struct Mailbox {
    data: AtomicUsize,
    waker: Mutex<Option<Waker>>,
}

impl Mailbox {
    fn new() -> Arc<Mailbox> {
        Arc::new(Mailbox { data: AtomicUsize::new(0), waker: Mutex::new(None) })
    }

    /// Ready when the data, read without any order of its own, is at least `at_least`.
    async fn until(&self, at_least: usize) -> usize {
        poll_fn(|cx| {
            *self.waker.lock().unwrap() = Some(cx.waker().clone());
            match self.data.load(Ordering::Relaxed) {
                data if data >= at_least => Poll::Ready(data),
                _ => Poll::Pending,
            }
        })
        .await
    }

    fn wake(&self) {
        let waker = self.waker.lock().unwrap().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

#[test]
#[should_panic]
fn loom_canary_a_flag_without_order_is_caught() {
    model(|| {
        let (data, flag) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let other = thread::spawn({
            let (data, flag) = (data.clone(), flag.clone());
            move || {
                data.store(1, Ordering::Relaxed);
                flag.store(true, Ordering::Relaxed);
            }
        });
        if flag.load(Ordering::Relaxed) {
            assert_eq!(data.load(Ordering::Relaxed), 1);
        }
        other.join().unwrap();
    });
}

#[test]
fn loom_inbox_push_against_the_look_before_sleeping() {
    // [INBOX-1]
    model(|| {
        let inbox = Arc::new(Inbox::new(1));
        let bell = Bell::new();
        inbox.set_doorbell(Some(bell.clone()));
        let other = thread::spawn({
            let inbox = inbox.clone();
            move || inbox.push(7)
        });
        if inbox.prepare_sleep() {
            // A lost push would wait here for ever.
            bell.wait();
        }
        inbox.wake_up();
        while inbox.pop() != Some(7) {
            thread::yield_now();
        }
        other.join().unwrap();
    });
}

#[test]
fn loom_inbox_attention_against_the_look_before_sleeping() {
    // [INBOX-1], where no lock of a queue orders the two sides.
    model(|| {
        let inbox = Arc::new(Inbox::<usize>::new(1));
        let bell = Bell::new();
        inbox.set_doorbell(Some(bell.clone()));
        let other = thread::spawn({
            let inbox = inbox.clone();
            move || inbox.call_attention()
        });
        if inbox.prepare_sleep() {
            bell.wait();
        }
        inbox.wake_up();
        while !inbox.take_attention() {
            thread::yield_now();
        }
        other.join().unwrap();
    });
}

#[test]
fn loom_inbox_overflow_is_never_lost() {
    model_of_three(|| {
        let inbox = Arc::new(Inbox::new(1));
        let others = [1, 2].map(|item| {
            let inbox = inbox.clone();
            thread::spawn(move || inbox.push(item))
        });
        for other in others {
            other.join().unwrap();
        }
        assert!(inbox.pop().is_some());
        assert!(inbox.take_overflow() && inbox.pop().is_none());
        assert!(!inbox.take_overflow() && inbox.is_quiet());
    });
}

#[test]
fn loom_foreign_wake_against_poll() {
    // [TASK-2], bugs.md 36
    model(|| {
        let (rig, mail) = (Rig::new(2), Mailbox::new());
        let other = thread::spawn({
            let mail = mail.clone();
            move || {
                mail.data.store(1, Ordering::Relaxed);
                mail.wake();
            }
        });
        let seen = rig.block_on(async move {
            // The other thread may wake before a waker stands there; then it has stored the data under the same lock.
            let task = try_spawn(async move { mail.until(1).await }).unwrap();
            task.await.unwrap()
        });
        assert_eq!(seen, 1);
        other.join().unwrap();
        rig.shut_down();
    });
}

#[test]
fn loom_second_wake_publishes_what_was_written_before_it() {
    // bugs.md 27
    model_of_many_steps(|| {
        let (rig, mail) = (Rig::new(1), Mailbox::new());
        let wakers = Arc::new(Mutex::new(Vec::new()));
        let seen = rig.block_on(async {
            let task = spawn_local({
                let (mail, wakers) = (mail.clone(), wakers.clone());
                async move {
                    poll_fn(|cx| {
                        let mut wakers = wakers.lock().unwrap();
                        if wakers.is_empty() {
                            wakers.extend([cx.waker().clone(), cx.waker().clone()]);
                        }
                        Poll::Ready(())
                    })
                    .await;
                    let others = {
                        let mut wakers = wakers.lock().unwrap();
                        let (mail, one) = (mail.clone(), wakers.pop().unwrap());
                        let (mail_two, two) = (mail.clone(), wakers.pop().unwrap());
                        [
                            thread::spawn(move || {
                                mail.data.fetch_add(1, Ordering::Relaxed);
                                one.wake_by_ref();
                            }),
                            thread::spawn(move || {
                                mail_two.data.fetch_add(1, Ordering::Relaxed);
                                two.wake_by_ref();
                            }),
                        ]
                    };
                    // Each wake may be merged into the other, but never before what it published.
                    let seen = poll_fn(|_| match mail.data.load(Ordering::Relaxed) {
                        2 => Poll::Ready(2),
                        _ => Poll::Pending,
                    })
                    .await;
                    (seen, others)
                }
            })
            .await
            .unwrap();
            task.await.unwrap()
        });
        let (seen, others) = seen;
        assert_eq!(seen, 2);
        for other in others {
            other.join().unwrap();
        }
        rig.shut_down();
    });
}

#[test]
fn loom_stale_wake_against_reuse_loses_no_newer_wake() {
    // [TASK-4]
    model_of_three(|| {
        let (rig, mail) = (Rig::new(1), Mailbox::new());
        let stale = Arc::new(Mutex::new(None));
        rig.block_on(async {
            // Detached, so its header is free, and reused, as soon as it is done.
            drop(try_spawn({
                let stale = stale.clone();
                poll_fn(move |cx| {
                    *stale.lock().unwrap() = Some(cx.waker().clone());
                    Poll::Ready(())
                })
            }));
            crate::yield_now().await;
            let old = stale.lock().unwrap().take().unwrap();
            let waking_old = thread::spawn(move || old.wake());
            let task = try_spawn({
                let mail = mail.clone();
                async move { mail.until(1).await }
            })
            .unwrap();
            let waking_new = thread::spawn({
                let mail = mail.clone();
                move || {
                    mail.data.store(1, Ordering::Relaxed);
                    mail.wake();
                }
            });
            assert_eq!(task.await.unwrap(), 1);
            waking_old.join().unwrap();
            waking_new.join().unwrap();
        });
        rig.shut_down();
    });
}

#[test]
fn loom_wake_against_completion_and_shutdown() {
    // bugs.md 23
    model(|| {
        let rig = Rig::new(1);
        let slot = Arc::new(Mutex::new(None));
        rig.block_on(async {
            drop(try_spawn({
                let slot = slot.clone();
                poll_fn(move |cx| {
                    *slot.lock().unwrap() = Some(cx.waker().clone());
                    Poll::<()>::Pending
                })
            }));
            crate::yield_now().await;
        });
        let waker = slot.lock().unwrap().take().unwrap();
        let other = thread::spawn(move || {
            waker.wake_by_ref();
            waker.wake();
        });
        rig.shut_down();
        other.join().unwrap();
    });
}

#[test]
fn loom_join_elsewhere_against_completion() {
    // [JOIN-1] [JOIN-2]
    model(|| {
        let (rig, mail) = (Rig::new(1), Mailbox::new());
        let handle = rig.block_on(async {
            let mail = mail.clone();
            try_spawn(async move { Box::new(mail.until(0).await + 5) }).unwrap()
        });
        let other = thread::spawn(move || *wait_for(handle).unwrap());
        rig.block_on(crate::yield_now());
        assert_eq!(other.join().unwrap(), 5);
        rig.shut_down();
    });
}

#[test]
fn loom_join_elsewhere_against_shutdown() {
    // [JOIN-2]
    model_of_three(|| {
        let rig = Rig::new(1);
        let handle = rig.block_on(async { try_spawn(std::future::pending::<()>()).unwrap() });
        let other = thread::spawn(move || wait_for(handle).is_err());
        rig.shut_down();
        assert!(other.join().unwrap());
    });
}

#[test]
fn loom_wake_and_join_elsewhere_against_shutdown() {
    // [JOIN-2]: the handle's bit may rely on the push of a waker that has not pushed yet.
    model_of_three(|| {
        let rig = Rig::new(1);
        let slot = Arc::new(Mutex::new(None));
        let handle = rig.block_on(async {
            let slot = slot.clone();
            let handle = try_spawn(poll_fn(move |cx| {
                *slot.lock().unwrap() = Some(cx.waker().clone());
                Poll::<()>::Pending
            }));
            crate::yield_now().await;
            handle.unwrap()
        });
        let waker = slot.lock().unwrap().take().unwrap();
        let waking = thread::spawn(move || waker.wake());
        let joining = thread::spawn(move || wait_for(handle).is_err());
        rig.shut_down();
        waking.join().unwrap();
        assert!(joining.join().unwrap());
    });
}

#[test]
fn loom_handle_dropped_elsewhere_against_shutdown() {
    // [JOIN-1]: whoever is too late to be heard drops the output itself.
    model_of_three(|| {
        let rig = Rig::new(1);
        let output = Arc::new(());
        let handle = rig.block_on(async {
            let output = output.clone();
            try_spawn(async move { output }).unwrap()
        });
        let other = thread::spawn(move || drop(handle));
        rig.settle();
        rig.shut_down();
        other.join().unwrap();
        assert_eq!(Arc::strong_count(&output), 1);
    });
}

#[test]
fn loom_two_handles_dropped_elsewhere_in_one_header() {
    // [JOIN-3]: the second task may live in the header that the first handle let go a step ago.
    model_of_three(|| {
        let rig = Rig::new(1);
        let (first_output, second_output) = (Arc::new(1_usize), Arc::new([2_usize; 4]));
        let first = rig.block_on(async {
            let output = first_output.clone();
            try_spawn(async move { output }).unwrap()
        });
        let dropping_first = thread::spawn(move || drop(first));
        rig.settle();
        let second = rig.block_on(async {
            let output = second_output.clone();
            try_spawn(async move { output }).unwrap()
        });
        let dropping_second = thread::spawn(move || drop(second));
        rig.block_on(crate::yield_now());
        dropping_first.join().unwrap();
        dropping_second.join().unwrap();
        rig.shut_down();
        assert_eq!((Arc::strong_count(&first_output), Arc::strong_count(&second_output)), (1, 1));
    });
}

#[test]
fn loom_handle_dropped_elsewhere_against_completion() {
    // [JOIN-1]: the output is dropped once, by whoever has it.
    model(|| {
        let rig = Rig::new(1);
        let output = Arc::new(());
        let handle = rig.block_on(async {
            let output = output.clone();
            try_spawn(async move { output }).unwrap()
        });
        let other = thread::spawn(move || drop(handle));
        rig.settle();
        other.join().unwrap();
        rig.settle();
        assert_eq!(Arc::strong_count(&output), 1);
        rig.shut_down();
    });
}

#[test]
fn loom_abort_elsewhere_against_completion() {
    model(|| {
        let rig = Rig::new(1);
        let handle = rig.block_on(async { try_spawn(crate::yield_now()).unwrap() });
        let other = thread::spawn(move || {
            handle.abort();
            handle
        });
        rig.block_on(crate::yield_now());
        let handle = other.join().unwrap();
        // Whoever was first, it ends, and the place comes back.
        let _either = rig.block_on(handle);
        assert_eq!(rig.admission.counts().tasks_live, 0);
        rig.shut_down();
    });
}

/// A full runtime with a spawn that waits, polled once on the owner.
type Waiting = Pin<Box<dyn Future<Output = Result<JoinHandle<usize>, crate::SpawnError>> + Send>>;

fn full_rig() -> (Rig, JoinHandle<()>, Waiting) {
    let rig = Rig::new(1);
    let (holder, waiting) = rig.block_on(async {
        let holder = try_spawn(std::future::pending::<()>()).unwrap();
        let mut waiting: Waiting = Box::pin(spawn(async { 3 }));
        poll_fn(|cx| Poll::Ready(assert!(waiting.as_mut().poll(cx).is_pending()))).await;
        (holder, waiting)
    });
    (rig, holder, waiting)
}

#[test]
fn loom_grant_against_a_frame_dropped_elsewhere() {
    // [WAIT-2] [ADMIT-2], bugs.md 7
    model(|| {
        let (rig, holder, waiting) = full_rig();
        let other = thread::spawn(move || drop(waiting));
        rig.block_on(async { holder.abort() });
        rig.settle();
        other.join().unwrap();
        rig.settle();
        let counts = rig.admission.counts();
        assert_eq!((counts.tasks_live, counts.waiting), (0, 0));
        rig.shut_down();
    });
}

#[test]
fn loom_grant_against_a_frame_polled_elsewhere() {
    // [WAIT-1] [WAIT-2]
    model_of_three(|| {
        let (rig, holder, waiting) = full_rig();
        let other = thread::spawn(move || drop(wait_for(waiting).unwrap()));
        rig.block_on(async { holder.abort() });
        rig.settle();
        other.join().unwrap();
        rig.shut_down();
    });
}

#[test]
fn loom_shutdown_against_a_frame_dropped_elsewhere() {
    // [WAIT-3]
    model(|| {
        let (rig, holder, waiting) = full_rig();
        let other = thread::spawn(move || drop(waiting));
        rig.shut_down();
        other.join().unwrap();
        drop(holder);
    });
}

/// A runtime whose one place is taken, and its door.
fn taken_rig() -> (Rig, JoinHandle<()>, Door) {
    let rig = Rig::new(1);
    let holder = rig.block_on(async { try_spawn(std::future::pending::<()>()).unwrap() });
    let door = rig.admission.door();
    (rig, holder, door)
}

fn spawn_at(door: Door, number: usize) -> Pin<Box<Spawn<std::future::Ready<usize>>>> {
    Box::pin(Spawn::at(door, std::future::ready(number), Location::caller()))
}

/// One poll; whoever is woken by it is nobody.
fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn loom_spawn_elsewhere_against_a_free() {
    // [DESK-2] [WAIT-2]: wherever the owner is when it arrives, it gets the place and is told.
    model_of_three(|| {
        let (rig, holder, door) = taken_rig();
        rig.block_on(async { holder.abort() });
        rig.run_against(move || drop(wait_for(spawn_at(door, 5)).unwrap()));
        rig.shut_down();
    });
}

#[test]
fn loom_spawn_elsewhere_dropped_against_the_owner_at_the_desk() {
    // [DESK-3]: the node is in one list, whoever comes first; the place is whole.
    model_of_three(|| {
        let (rig, holder, door) = taken_rig();
        let other = thread::spawn(move || {
            let mut waiting = spawn_at(door, 5);
            assert!(poll_once(waiting.as_mut()).is_pending());
            drop(waiting);
            // The same node again.
            let mut waiting = spawn_at(door, 6);
            let _either = poll_once(waiting.as_mut());
        });
        rig.block_on(async { holder.abort() });
        rig.block_on(crate::yield_now());
        other.join().unwrap();
        rig.settle();
        let counts = rig.admission.counts();
        assert_eq!((counts.tasks_live, counts.waiting), (0, 0));
        rig.shut_down();
    });
}

#[test]
fn loom_spawn_elsewhere_against_shutdown() {
    // [DESK-3]: it is refused, at the desk or in the line, and told so.
    model_of_three(|| {
        let (rig, holder, door) = taken_rig();
        let other = thread::spawn(move || assert!(wait_for(spawn_at(door, 5)).is_err()));
        rig.shut_down();
        other.join().unwrap();
        drop(holder);
    });
}

#[test]
fn loom_who_arrived_first_is_first() {
    // [DESK-2]
    model(|| {
        let (rig, holder, door) = taken_rig();
        let arrived = Arc::new(AtomicBool::new(false));
        let other = thread::spawn({
            let arrived = arrived.clone();
            move || {
                let mut waiting = spawn_at(door, 5);
                assert!(poll_once(waiting.as_mut()).is_pending());
                arrived.store(true, Ordering::Release);
                waiting
            }
        });
        let was_first = rig.block_on(async {
            let was_first = arrived.load(Ordering::Acquire);
            let mut local = Box::pin(spawn(std::future::ready(6)));
            assert!(poll_once(local.as_mut()).is_pending());
            if was_first {
                holder.abort();
                crate::yield_now().await;
                assert!(poll_once(local.as_mut()).is_pending(), "the place is the other's");
            }
            was_first
        });
        let mut waiting = other.join().unwrap();
        if was_first {
            assert!(poll_once(waiting.as_mut()).is_ready());
        }
        drop(waiting);
        rig.shut_down();
    });
}

#[test]
fn loom_drain_elsewhere_against_the_last_to_end() {
    model_of_three(|| {
        let (rig, holder, door) = taken_rig();
        rig.block_on(async { holder.abort() });
        rig.run_against(move || {
            door.close();
            let mut number = None;
            wait_for(poll_fn(move |cx| match door.watch_drain(&mut number, cx.waker().clone()) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }));
        });
        rig.shut_down();
    });
}

#[test]
fn loom_units_given_back_elsewhere_go_to_the_next() {
    model_of_three(|| {
        let rig = Rig::new(1);
        let door = rig.admission.door();
        let place = rig.block_on(async { crate::reserve().await.unwrap() });
        let other = thread::spawn(move || drop(place));
        let output = rig.block_on(async { spawn(async { 3 }).join().await.unwrap() });
        assert_eq!(output, 3);
        other.join().unwrap();
        assert!(rig.admission.is_behind(door));
        rig.shut_down();
    });
}

#[test]
fn loom_close_elsewhere_against_the_owner_at_the_desk() {
    // [DESK-2]: whenever it comes, the next spawn after it is refused.
    model_of_three(|| {
        let rig = Rig::new(2);
        let door = rig.admission.door();
        let arriving = spawn_at(door, 5);
        let other = thread::spawn(move || {
            let mut arriving = arriving;
            let _either = poll_once(arriving.as_mut());
            door.close();
            arriving
        });
        // Looks at the desk at any moment of it.
        rig.block_on(async { drop(try_spawn(std::future::ready(6))) });
        let arriving = other.join().unwrap();
        rig.block_on(async { assert!(try_spawn(std::future::ready(7)).is_err()) });
        drop(arriving);
        rig.shut_down();
    });
}
