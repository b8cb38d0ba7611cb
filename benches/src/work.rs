//! The work that is the same for all runtimes ([FAIR-1]): nothing here knows any of them.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::hint::black_box;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::task::AtomicWaker;

/// For how many permits tasks wait.
pub(crate) const PERMITS: usize = 10;

/// What a job holds while it waits.
pub const JOB_BYTES: usize = 256;

/// Wakes its own task and is pending once: the same code for all, so that only the runtime differs.
pub fn turn() -> Turn {
    Turn { is_over: false }
}

/// The future of [`turn`].
pub struct Turn {
    is_over: bool,
}

impl Future for Turn {
    type Output = ();

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_over {
            return Poll::Ready(());
        }
        self.is_over = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// What one of the yielding tasks does; gives how often it has yielded.
pub(crate) async fn turns(count: u64) -> u64 {
    for _ in 0..count {
        turn().await;
    }
    count
}

thread_local! {
    /// Jobs of this run that are not done. There is one thread, so a plain counter will do: counting costs every runtime
    /// the same nanosecond, and none a locked instruction.
    static JOBS_LEFT: Cell<u64> = const { Cell::new(0) };
    /// Set by the last of them.
    static JOBS_DONE: Signal = const { Signal::new() };
}

/// A job of the fanout: holds its page over one turn, and counts itself.
pub(crate) async fn job(number: u64) {
    let mut page = [number as u8; JOB_BYTES];
    black_box(&mut page);
    turn().await;
    black_box(&mut page);
    JOBS_LEFT.set(JOBS_LEFT.get() - 1);
    if JOBS_LEFT.get() == 0 {
        JOBS_DONE.with(Signal::set);
    }
}

/// Awaits `spawning` and then the jobs that it let go; gives how many were done.
pub(crate) async fn all_jobs(jobs: u64, spawning: impl Future<Output = ()>) -> u64 {
    JOBS_LEFT.set(jobs);
    spawning.await;
    poll_fn(|cx| JOBS_DONE.with(|done| done.poll_wait(cx))).await;
    jobs - JOBS_LEFT.get()
}

/// Jobs for several threads: [`job`], counted where each thread counts its own.
#[cfg(feature = "stealing")]
pub(crate) mod jobs_of_threads {
    use std::hint::black_box;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::{JOB_BYTES, turn};

    /// What one thread has counted. On two cache lines of its own (they are fetched in pairs), so that counting costs every
    /// runtime the same nanosecond here too.
    #[repr(align(128))]
    struct Tally(AtomicU64);

    static TALLIES: Mutex<Vec<&'static Tally>> = Mutex::new(Vec::new());

    thread_local! {
        static MINE: &'static Tally = {
            let tally: &'static Tally = Box::leak(Box::new(Tally(AtomicU64::new(0))));
            TALLIES.lock().expect("nobody panics with it").push(tally);
            tally
        };
    }

    /// Holds its page over one turn, and counts itself.
    pub(crate) async fn job(number: u64) {
        let mut page = [number as u8; JOB_BYTES];
        black_box(&mut page);
        turn().await;
        black_box(&mut page);
        // Ordering: Relaxed, and no addition in one: this thread alone writes it.
        MINE.with(|tally| tally.0.store(tally.0.load(Ordering::Relaxed) + 1, Ordering::Relaxed));
    }

    /// How many jobs were ever done. Whoever asks has waited for them all by its runtime's own means.
    pub(crate) fn done() -> u64 {
        let tallies = TALLIES.lock().expect("nobody panics with it");
        // Ordering: Relaxed; what was waited for orders it.
        tallies.iter().map(|tally| tally.0.load(Ordering::Relaxed)).sum()
    }
}

/// How long the sleeper of this number sleeps: they are spread evenly over a second, and come in no order.
pub(crate) fn nap(number: u64, sleepers: u64) -> Duration {
    // A prime that divides no usual number of sleepers, so each gets a place of its own in the second.
    let place = number.wrapping_mul(7_919) % sleepers;
    Duration::from_nanos(place * 1_000_000_000 / sleepers)
}

/// Longer than any run: what a timer is set to that never expires.
pub(crate) const NEVER: Duration = Duration::from_secs(30);

/// What a sleeper asks for whose lateness is measured.
pub(crate) const SHORT: Duration = Duration::from_millis(5);

/// So few sleepers that a runtime goes to sleep itself before each of them.
pub(crate) const SPARSE: u64 = 4;

thread_local! {
    /// What was measured of this run's sleepers.
    static LATENESS: RefCell<Vec<Duration>> = const { RefCell::new(Vec::new()) };
}

/// Polls `sleep` once, which registers it, and drops it. Gives 1, as it is pending.
pub(crate) async fn poll_once(sleep: impl Future<Output = ()>) -> u64 {
    let mut sleep = Box::pin(sleep);
    poll_fn(|cx| Poll::Ready(u64::from(sleep.as_mut().poll(cx).is_pending()))).await
}

/// Notes how much longer than `asked` this sleep takes.
pub(crate) async fn late<F: Future<Output = ()>>(asked: Duration, sleep: impl FnOnce(Duration) -> F) {
    let start = Instant::now();
    sleep(asked).await;
    let late = start.elapsed().saturating_sub(asked);
    LATENESS.with_borrow_mut(|all| all.push(late));
}

/// What the last run's sleepers noted on this thread.
pub fn take_lateness() -> Vec<Duration> {
    LATENESS.take()
}

/// Ready at its first poll, and of this size.
pub(crate) struct Ready<const BYTES: usize>([u8; BYTES]);

impl<const BYTES: usize> Ready<BYTES> {
    pub(crate) fn new() -> Self {
        Self(black_box([1; BYTES]))
    }
}

impl<const BYTES: usize> Future for Ready<BYTES> {
    type Output = usize;

    #[inline]
    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<usize> {
        Poll::Ready(black_box(&self.0).len())
    }
}

/// The jobs of each of so many spawners.
pub(crate) fn shares(jobs: u64, spawners: usize) -> impl Iterator<Item = u64> {
    let spawners = spawners as u64;
    (0..spawners).map(move |spawner| jobs / spawners + u64::from(spawner < jobs % spawners))
}

/// Set by one task, awaited by one other, through the futures' own `AtomicWaker`.
#[derive(Default)]
pub(crate) struct Signal {
    is_set: AtomicBool,
    waker: AtomicWaker,
}

impl Signal {
    pub(crate) const fn new() -> Self {
        Self { is_set: AtomicBool::new(false), waker: AtomicWaker::new() }
    }

    pub(crate) fn set(&self) {
        // Ordering: Release; pairs with the Acquire in `take`, as in any use of an `AtomicWaker` for data.
        self.is_set.store(true, Ordering::Release);
        self.waker.wake();
    }

    fn take(&self) -> bool {
        let is_set = self.is_set.load(Ordering::Acquire);
        if is_set {
            // Ordering: Relaxed; who sets it again does so only after the awaiting task has told it to.
            self.is_set.store(false, Ordering::Relaxed);
        }
        is_set
    }

    fn poll_wait(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.take() {
            return Poll::Ready(());
        }
        self.waker.register(cx.waker());
        if self.take() { Poll::Ready(()) } else { Poll::Pending }
    }

    pub(crate) async fn wait(&self) {
        poll_fn(|cx| self.poll_wait(cx)).await;
    }
}

/// The two signals between two tasks.
#[derive(Default)]
pub(crate) struct Table {
    there: Signal,
    back: Signal,
}

/// Begins each round trip; gives how many came back.
pub(crate) async fn ping(table: Arc<Table>, trips: u64) -> u64 {
    for _ in 0..trips {
        table.there.set();
        table.back.wait().await;
    }
    trips
}

/// Answers each.
pub(crate) async fn pong(table: Arc<Table>, trips: u64) {
    for _ in 0..trips {
        table.there.wait().await;
        table.back.set();
    }
}
