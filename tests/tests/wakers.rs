//! Wakers are strangers: wherever the runtime keeps one, it may panic and it may come back, cloned, woken or dropped.
//!
//! bugs.md 29, 35. Each place where the runtime keeps somebody's waker is a row; each is filled in four ways and left in six,
//! with wakers that do each of four things. Afterwards the place works, the siblings were not disturbed, and nothing is left:
//! no task, place, timer, source or job, and no waker.

use std::cell::Cell;
use std::future::poll_fn;
use std::io::{Read, Write};
use std::net::{TcpListener as StdListener, TcpStream as StdStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use anteroom::net::{TcpListener, TcpStream};
use anteroom::{
    Handle, Runtime, block_on, metrics, reserve, spawn, spawn_blocking, spawn_local, time, try_spawn,
    yield_now,
};
use anteroom_limiter::Semaphore;
use anteroom_tests::{Gate, Hooks, elsewhere, look_around, must_end, poll_once, poll_with};

const TASKS_MAX: usize = 12;
const SEC: Duration = Duration::from_secs(1);

/// Where a waker is kept.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    /// A task, for whoever awaits its handle.
    Joiner,
    /// The line of spawners.
    Line,
    LocalLine,
    /// The same line, for a spawner that came by a handle and was first polled on another thread.
    ForeignLine,
    /// The same line, for who wants no more than a place.
    Reserver,
    Timer,
    Reader,
    Writer,
    Listener,
    /// A blocking job, for whoever awaits its result.
    Job,
    /// The line of callers of the pool.
    PoolsLine,
    /// The line of a semaphore of the limiter.
    Semaphore,
}

/// How the waker gets there.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    AtTheFirstPoll,
    InPlaceOfAnother,
    FromAnotherThread,
    /// As before, and the owner has not looked yet when it leaves.
    FromAnotherThreadJustNow,
}

/// How it leaves.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Woken,
    Replaced,
    ReplacedElsewhere,
    GivenUp,
    GivenUpElsewhere,
    WithItsRuntime,
}

/// What it does.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Act {
    PanicWhenCloned,
    PanicWhenWoken,
    PanicWhenDropped,
    /// Whatever happens to it, it uses all of the runtime, its neighbours in the same place, and a runtime of its own.
    ComeBack,
}

/// A future with its output left out, which survives a panic of its waker if `F` does.
struct Silent<F>(Pin<Box<F>>);

impl<F: Future> Future for Silent<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        drop(ready!(self.0.as_mut().poll(cx)));
        Poll::Ready(())
    }
}

/// Who may wait on any thread, and may be played with by a waker of any.
type Neighbour = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Who waits in a place; only some may leave this thread.
enum Waits {
    Far(Neighbour),
    Near(Pin<Box<dyn Future<Output = ()>>>),
}

impl Waits {
    fn far<F: Future + Send + 'static>(future: F) -> Self {
        Waits::Far(Box::pin(Silent(Box::pin(future))))
    }

    fn poll(&mut self, waker: &Waker) -> Poll<()> {
        match self {
            Waits::Far(future) => poll_with(Pin::new(future), waker),
            Waits::Near(future) => poll_with(Pin::new(future), waker),
        }
    }

    fn drop_elsewhere(self) {
        match self {
            Waits::Far(future) => elsewhere(|| drop(future)),
            Waits::Near(future) => drop(future),
        }
    }
}

/// Waits for all of them at once: in a line, one that is served and not polled holds up those behind it.
async fn all(mut waiting: Vec<Waits>) {
    poll_fn(|cx| {
        waiting.retain_mut(|waits| waits.poll(cx.waker()).is_pending());
        if waiting.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// Makes what is waited for come about.
type Trigger = Box<dyn FnOnce() + Send>;

fn std_pair() -> (StdStream, StdStream) {
    let listener = StdListener::bind("127.0.0.1:0").unwrap();
    let stream = StdStream::connect(listener.local_addr().unwrap()).unwrap();
    (stream, listener.accept().unwrap().0)
}

fn pair() -> (TcpStream, StdStream) {
    let (stream, peer) = std_pair();
    (TcpStream::from_std(stream).unwrap(), peer)
}

impl Place {
    const ALL: [Place; 12] = [
        Place::Joiner,
        Place::Line,
        Place::LocalLine,
        Place::ForeignLine,
        Place::Reserver,
        Place::Timer,
        Place::Reader,
        Place::Writer,
        Place::Listener,
        Place::Job,
        Place::PoolsLine,
        Place::Semaphore,
    ];

    fn runtime(self) -> Runtime {
        let (threads, queue) = if self == Place::PoolsLine { (1, 0) } else { (2, 10) };
        Runtime::builder()
            .max_tasks(TASKS_MAX)
            .paused_clock(self == Place::Timer)
            .blocking_threads(threads)
            .blocking_queue(queue)
            .build()
            .unwrap()
    }

    /// Whether it makes a difference here: each change of threads is slow on a busy machine.
    fn tells_apart(self, way: Way, end: End) -> bool {
        let has_letters = matches!(self, Place::Joiner | Place::Reader | Place::Writer | Place::Listener);
        match (way, end) {
            (Way::FromAnotherThreadJustNow, _) => has_letters,
            (Way::InPlaceOfAnother, End::ReplacedElsewhere | End::GivenUpElsewhere) => false,
            _ => true,
        }
    }

    /// A poll on another thread, where that is of any use: a sleep must be inside some runtime.
    fn poll_elsewhere(self, waits: &mut Waits, waker: &Waker) -> Poll<()> {
        match waits {
            Waits::Far(future) if self != Place::Timer => elsewhere(|| poll_with(Pin::new(future), waker)),
            _ => waits.poll(waker),
        }
    }

    /// Whether its future is an `async fn`, which is of no use after a panic came through it.
    fn is_spent_by_a_panic(self) -> bool {
        matches!(self, Place::Reader | Place::Writer | Place::Listener | Place::Job | Place::PoolsLine)
    }

    /// Somebody who will wait here, and what ends the wait.
    fn make(self) -> (Waits, Trigger) {
        match self {
            Place::Joiner => {
                let gate = Gate::new();
                let task = try_spawn(gate.wait()).unwrap();
                (Waits::far(task), Box::new(move || gate.open()))
            }
            Place::Line => (Waits::far(spawn(async {})), fill()),
            Place::LocalLine => (Waits::Near(Box::pin(Silent(Box::pin(spawn_local(async {}))))), fill()),
            Place::ForeignLine => {
                let handle = Handle::current().expect("it is inside");
                (Waits::far(handle.spawn(async {})), fill())
            }
            Place::Reserver => (Waits::far(reserve()), fill()),
            Place::Timer => {
                let advance = || assert!(poll_once(std::pin::pin!(time::advance(2 * SEC))).is_pending());
                (Waits::far(time::sleep(SEC)), Box::new(advance))
            }
            Place::Reader => {
                let (stream, mut peer) = pair();
                let read = async move { stream.read(&mut [0]).await };
                (Waits::far(read), Box::new(move || drop(peer.write(b"x"))))
            }
            Place::Writer => {
                // A pair in which what was written has arrived at once, so that a full one stays full.
                let (mut full, mut peer) = UnixStream::pair().unwrap();
                full.set_nonblocking(true).unwrap();
                while full.write(&[0; 65_536]).is_ok() {}
                while full.write(&[0]).is_ok() {}
                peer.set_nonblocking(true).unwrap();
                let stream = TcpStream::from_std(StdStream::from(OwnedFd::from(full))).unwrap();
                let write = async move { stream.write(&[0]).await };
                let drain = move || while peer.read(&mut [0; 65_536]).is_ok_and(|read| read > 0) {};
                (Waits::far(write), Box::new(drain))
            }
            Place::Listener => {
                let listener = StdListener::bind("127.0.0.1:0").unwrap();
                let address = listener.local_addr().unwrap();
                let listener = TcpListener::from_std(listener).unwrap();
                let accept = async move { listener.accept().await };
                (Waits::far(accept), Box::new(move || drop(StdStream::connect(address))))
            }
            Place::Job => {
                let (go, at_go) = mpsc::channel::<()>();
                (Waits::far(spawn_blocking(move || at_go.recv())), Box::new(move || drop(go)))
            }
            Place::PoolsLine => {
                let (go, at_go) = mpsc::channel::<()>();
                if metrics().blocking_jobs == 0 {
                    let mut holder = Box::pin(spawn_blocking(move || at_go.recv()));
                    assert!(poll_once(holder.as_mut()).is_pending());
                }
                (Waits::far(spawn_blocking(|| ())), Box::new(move || drop(go)))
            }
            Place::Semaphore => {
                let semaphore = Arc::new(Semaphore::new(1));
                let permit = semaphore.try_acquire_owned().unwrap();
                (Waits::far(semaphore.acquire_owned()), Box::new(move || drop(permit)))
            }
        }
    }
}

/// Takes all places that are left, and says how to free them.
fn fill() -> Trigger {
    let gate = Gate::new();
    while try_spawn(gate.wait()).is_ok() {}
    Box::new(move || gate.open())
}

thread_local! {
    /// Whether this thread is inside the runtime that is tried.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

type Others = Arc<Mutex<Vec<Neighbour>>>;

/// How often something panicked that a waker did which came back.
static FAILURES: AtomicUsize = AtomicUsize::new(0);

/// What a waker does that comes back.
fn come_back(others: &Others) {
    let gone = others.lock().unwrap().pop();
    drop(gone);
    // Outside of every runtime some would say so by a panic, as they may.
    let polled = if INSIDE.get() { others.lock().unwrap().pop() } else { None };
    if let Some(mut polled) = polled {
        if poll_once(Pin::new(&mut polled)).is_pending() {
            others.lock().unwrap().push(polled);
        }
    }
    if INSIDE.get() {
        drop(try_spawn(yield_now()));
        drop(poll_once(Box::pin(spawn(async {})).as_mut()));
        drop(poll_once(Box::pin(spawn_local(async {}).join()).as_mut()));
        let _ = poll_once(Box::pin(time::sleep(SEC)).as_mut());
        drop(poll_once(Box::pin(spawn_blocking(|| ())).as_mut()));
        let (stream, _peer) = pair();
        drop(poll_once(Box::pin(stream.read(&mut [0])).as_mut()));
        assert!(metrics().tasks_live <= TASKS_MAX);
    }
    assert_eq!(block_on(async { spawn(async { 7 }).join().await.unwrap() }), 7);
}

impl Act {
    const ALL: [Act; 4] = [Act::PanicWhenCloned, Act::PanicWhenWoken, Act::PanicWhenDropped, Act::ComeBack];

    /// Has the hooks do it; `acted` counts how often they do.
    fn arm(self, hooks: &Hooks, others: &Others, acted: &Arc<AtomicUsize>) {
        let act = || {
            let (others, acted) = (others.clone(), acted.clone());
            move || {
                acted.fetch_add(1, Ordering::SeqCst);
                match self {
                    // Whoever wakes it may swallow a panic, and it would not be seen that it could not come back.
                    Act::ComeBack => {
                        if catch_unwind(AssertUnwindSafe(|| come_back(&others))).is_err() {
                            FAILURES.fetch_add(1, Ordering::SeqCst);
                        }
                    }
                    // Without a message, so that the test is quiet.
                    _ => resume_unwind(Box::new("of a waker")),
                }
            }
        };
        match self {
            Act::PanicWhenCloned => hooks.on_clone(act()),
            Act::PanicWhenWoken => hooks.on_wake(act()),
            Act::PanicWhenDropped => hooks.on_drop(act()),
            Act::ComeBack => {
                hooks.on_clone(act());
                hooks.on_wake(act());
                hooks.on_drop(act());
            }
        }
    }

    /// Runs `f`; a panic may come through if it is this one.
    fn through<T>(self, f: impl FnOnce() -> T) -> Option<T> {
        match catch_unwind(AssertUnwindSafe(f)) {
            Ok(value) => Some(value),
            Err(payload) => {
                let is_mine = payload.downcast_ref::<&str>() == Some(&"of a waker");
                assert!(is_mine && self != Act::ComeBack, "a panic of another's making");
                None
            }
        }
    }
}

/// A play of one waker in one place.
struct Play {
    place: Place,
    way: Way,
    end: End,
    act: Act,
    hooks: Arc<Hooks>,
    waker: Waker,
    acted: Arc<AtomicUsize>,
    others: Others,
    triggers: Vec<Trigger>,
}

impl Play {
    fn other(&mut self) {
        let place = if self.place == Place::LocalLine { Place::Line } else { self.place };
        let (other, trigger) = place.make();
        self.triggers.push(trigger);
        if let Waits::Far(mut other) = other {
            assert!(poll_once(Pin::new(&mut other)).is_pending());
            self.others.lock().unwrap().push(other);
        }
    }

    /// Somebody waits, with the waker in its place if that did not panic; and whether it did not.
    fn enter(&mut self) -> (Waits, bool) {
        let (mut waits, trigger) = self.place.make();
        self.triggers.push(trigger);
        if self.way != Way::AtTheFirstPoll {
            assert!(waits.poll(Waker::noop()).is_pending());
        }
        self.act.arm(&self.hooks, &self.others, &self.acted);
        let polled = self.act.through(|| match self.way {
            Way::AtTheFirstPoll if self.place == Place::ForeignLine => {
                self.place.poll_elsewhere(&mut waits, &self.waker)
            }
            Way::AtTheFirstPoll | Way::InPlaceOfAnother => waits.poll(&self.waker),
            Way::FromAnotherThread | Way::FromAnotherThreadJustNow => {
                self.place.poll_elsewhere(&mut waits, &self.waker)
            }
        });
        match polled {
            Some(polled) => {
                assert!(polled.is_pending());
                (waits, true)
            }
            None => {
                self.hooks.clear();
                (self.again(waits), false)
            }
        }
    }

    /// After a panic came through it: it waits on, or another does in its place.
    fn again(&mut self, mut waits: Waits) -> Waits {
        if self.place.is_spent_by_a_panic() {
            let _ = self.act.through(|| drop(waits));
            let (another, trigger) = self.place.make();
            self.triggers.push(trigger);
            waits = another;
        }
        assert!(waits.poll(Waker::noop()).is_pending());
        waits
    }

    fn poll_others(&self) {
        let others = std::mem::take(&mut *self.others.lock().unwrap());
        let pending = others
            .into_iter()
            .filter_map(|mut other| poll_once(Pin::new(&mut other)).is_pending().then_some(other));
        let pending: Vec<_> = pending.collect();
        self.others.lock().unwrap().extend(pending);
    }

    fn trigger(&mut self) {
        for trigger in std::mem::take(&mut self.triggers) {
            // The limiter passes a waker's panic on to whoever released, when all are served.
            match self.place {
                Place::Semaphore => drop(self.act.through(trigger)),
                _ => trigger(),
            }
        }
    }

    /// Everything but the end of the runtime; who still waits at that is returned.
    async fn inside(&mut self) -> Option<Waits> {
        let gate = Gate::new();
        let siblings: Vec<_> = (0..3).map(|_| try_spawn(gate.wait()).unwrap()).collect();
        self.other();
        let (mut waits, is_there) = self.enter();
        self.other();
        self.other();
        if self.way == Way::FromAnotherThread {
            look_around().await;
        }
        let mut waiting = Vec::new();
        match self.end {
            End::Woken => {
                self.trigger();
                while is_there && self.hooks.wakes() == 0 {
                    // The neighbours are polled meanwhile, since the pool's line may be at one of them.
                    self.poll_others();
                    yield_now().await;
                }
                waiting.push(waits);
            }
            End::Replaced | End::ReplacedElsewhere => {
                let polled = self.act.through(|| match self.end {
                    End::Replaced => waits.poll(Waker::noop()),
                    _ => self.place.poll_elsewhere(&mut waits, Waker::noop()),
                });
                if polled.is_none() {
                    self.hooks.clear();
                    waits = self.again(waits);
                }
                waiting.push(waits);
            }
            End::GivenUp => drop(self.act.through(|| drop(waits))),
            End::GivenUpElsewhere => drop(self.act.through(|| waits.drop_elsewhere())),
            End::WithItsRuntime => {
                drop(siblings);
                return Some(waits);
            }
        }
        look_around().await;
        self.hooks.clear();
        self.trigger();
        waiting.extend(std::mem::take(&mut *self.others.lock().unwrap()).into_iter().map(Waits::Far));
        all(waiting).await;
        gate.open();
        for sibling in siblings {
            sibling.await.unwrap();
        }
        nothing_is_left().await;
        None
    }

    fn run(mut self) {
        let runtime = self.place.runtime();
        INSIDE.set(true);
        let left = runtime.block_on(self.inside());
        INSIDE.set(false);
        drop(runtime);
        // A clock has no hands any more when its runtime is gone.
        if self.end == End::WithItsRuntime && self.place != Place::Timer {
            self.trigger();
        }
        let _ = self.act.through(|| drop(left));
        self.hooks.clear();
        let others = std::mem::take(&mut *self.others.lock().unwrap());
        drop((others, self.triggers, self.waker));
        // A job ends by itself, and the waker of its caller with it.
        while self.hooks.wakers_left() > 0 {
            std::thread::yield_now();
        }
    }
}

/// All comes back, and all of it can be used again.
async fn nothing_is_left() {
    while metrics().blocking_jobs > 0 || metrics().tasks_live > 0 {
        yield_now().await;
    }
    look_around().await;
    let left = metrics();
    assert_eq!((left.headers, left.waiting, left.timers, left.io_sources, left.task_bytes), (1, 0, 0, 0, 0));
    let tasks: Vec<_> = (0..TASKS_MAX).map(|_| try_spawn(std::future::pending::<()>()).unwrap()).collect();
    assert!(try_spawn(async {}).unwrap_err().is_full());
    tasks.iter().for_each(|task| task.abort());
}

/// All ways, ends and acts in one place.
fn in_each_way(place: Place) {
    must_end(move || {
        let ways = [
            Way::AtTheFirstPoll,
            Way::InPlaceOfAnother,
            Way::FromAnotherThread,
            Way::FromAnotherThreadJustNow,
        ];
        let ends = [
            End::Woken,
            End::Replaced,
            End::ReplacedElsewhere,
            End::GivenUp,
            End::GivenUpElsewhere,
            End::WithItsRuntime,
        ];
        let acted = Act::ALL.map(|_| Arc::new(AtomicUsize::new(0)));
        for (way, end, act) in ways
            .into_iter()
            .flat_map(|way| ends.map(|end| (way, end)))
            .filter(|&(way, end)| place.tells_apart(way, end))
            .flat_map(|(way, end)| Act::ALL.map(|act| (way, end, act)))
        {
            let (waker, hooks) = Hooks::new();
            let name = format!("{place:?}, {way:?}, {end:?}, {act:?}");
            let acted = acted[act as usize].clone();
            let play = Play {
                place,
                way,
                end,
                act,
                hooks,
                waker,
                acted,
                others: Others::default(),
                triggers: Vec::new(),
            };
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| play.run())) {
                eprintln!("in {name}");
                resume_unwind(payload);
            }
        }
        assert_eq!(FAILURES.load(Ordering::SeqCst), 0, "{place:?}");
        let acted = acted.map(|acted| acted.load(Ordering::SeqCst));
        assert!(acted.iter().all(|&times| times >= 4), "{acted:?}: the wakers were hardly used");
    });
}

/// A test a row, so that a failure names its place.
macro_rules! places {
    ($(#[test] fn $test:ident = $place:ident;)+) => {
        $(#[test]
        fn $test() {
            in_each_way(Place::$place);
        })+

        #[test]
        fn each_place_has_a_test() {
            assert_eq!([$(Place::$place),+], Place::ALL);
        }
    };
}

places! {
    #[test] fn a_joiners_waker_may_do_anything = Joiner;
    #[test] fn a_spawners_waker_may_do_anything = Line;
    #[test] fn a_local_spawners_waker_may_do_anything = LocalLine;
    #[test] fn a_foreign_spawners_waker_may_do_anything = ForeignLine;
    #[test] fn a_waker_that_waits_for_a_reservation_may_do_anything = Reserver;
    #[test] fn a_timers_waker_may_do_anything = Timer;
    #[test] fn a_readers_waker_may_do_anything = Reader;
    #[test] fn a_writers_waker_may_do_anything = Writer;
    #[test] fn a_listeners_waker_may_do_anything = Listener;
    #[test] fn a_jobs_waker_may_do_anything = Job;
    #[test] fn a_waker_in_the_pools_line_may_do_anything = PoolsLine;
    #[test] fn a_semaphores_waker_may_do_anything = Semaphore;
}
