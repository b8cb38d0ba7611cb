//! What may go to another thread, and what may not: a row for every public type.
//!
//! bugs.md 26. What must not compile at all stands in the doc tests of this crate's library.

use std::cell::Cell;
use std::future::{Ready, ready};
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;

use anteroom::net::{ReadHalf, ReuniteError, TcpListener, TcpStream, ToAddress, WriteHalf, lookup_host};
use anteroom::time::{Elapsed, Interval, Sleep, Timeout, Timer};
use anteroom::{
    AsCompleted, Ask, AskError, Blocking, Builder, CancelGuard, CancellationToken, Cancelled, Drain, Gather,
    GroupHandle, GroupSpawn, GroupSpawnLocal, Handle, Holder, Holders, Join, JoinError, JoinHandle,
    LongPolls, Metrics, Part, Reservation, Reserve, RunUntil, Runtime, Spawn, SpawnError, SpawnLocal,
    SpawnTimeoutError, SpawnWith, StealingRuntime, TaskGroup, TaskId, TryGather, TrySpawnBlockingError,
    TrySpawnError, Waiters, Waiting, WaitsFor, Within, WorstCase, YieldNow,
};
use anteroom_limiter::ledger::{Key, Ledger, Refusal};
use anteroom_limiter::{
    Acquire, AcquireError, Admit, AdmitError, Admitted, All, AllAcquire, AllPermit, BudgetError, CgroupError,
    CheckManyError, ChildError, Keyed, KeyedAcquire, KeyedError, KeyedPermit, KeyedRate, KeyedRateError,
    LimitError, Limiter, LimiterAcquire, LimiterPermit, LocalAcquire, LocalPermit, LocalSemaphore,
    MemoryAcquire, MemoryBudget, MemoryBuilder, MemoryPermit, MemorySnapshot, MemoryState, MergeError,
    NotYet, OwnedPermit, Paced, PacedError, Permit, Pressure, Rate, RateError, RateLimit, ReserveError,
    Semaphore, SlidingWindow, Slot, Snapshot, Stall, TryAcquireError, TryKeyedError, TryPacedError,
};
use anteroom_tests::source::workspace;

/// Asks whether `T` has a trait: an inherent constant is found before a trait's, and exists only if it has.
struct Probe<T: ?Sized>(PhantomData<T>);

trait No {
    const SEND: bool = false;
    const SYNC: bool = false;
    const UNPIN: bool = false;
}

impl<T: ?Sized> No for Probe<T> {}

impl<T: ?Sized + Send> Probe<T> {
    const SEND: bool = true;
}

impl<T: ?Sized + Sync> Probe<T> {
    const SYNC: bool = true;
}

impl<T: ?Sized + Unpin> Probe<T> {
    const UNPIN: bool = true;
}

const YES: bool = true;
const NO: bool = false;

/// Rows of a type, then whether it is Send and Sync, and whether it may move while it is polled.
macro_rules! rows {
    ($($of:ty: $send:ident $sync:ident $unpin:ident;)+) => {
        #[test]
        fn each_public_type_crosses_threads_exactly_as_it_may() {
            for (name, is, may) in [$((
                stringify!($of),
                (Probe::<$of>::SEND, Probe::<$of>::SYNC, Probe::<$of>::UNPIN),
                ($send, $sync, $unpin),
            )),+] {
                assert_eq!(is, may, "Send, Sync and Unpin of {name}");
            }
        }

        /// The rows as they are written.
        const ROWS: &[&str] = &[$(stringify!($of)),+];
    };
}

/// A future that is Send, one that is not, and one that is Send and not Sync.
type Plain = Ready<u8>;
type Local = Ready<Rc<u8>>;
type Celled = Ready<Cell<u8>>;
type Items = std::ops::Range<u8>;

rows! {
    // A runtime belongs to the thread that made it, and nobody else may even look at it.
    Runtime: NO NO YES;
    // One with threads of its own belongs to nobody.
    StealingRuntime: YES YES YES;
    Builder: YES YES YES;
    Metrics: YES YES YES;
    LongPolls: YES YES YES;
    WorstCase: YES YES YES;
    Part: YES YES YES;
    Holder: YES YES YES;
    Holders: YES YES YES;
    Waiting: YES YES YES;
    Waiters: YES YES YES;
    WaitsFor: YES YES YES;

    // A handle is for everybody else.
    Handle: YES YES YES;
    Drain: YES YES YES;
    Ask<u8>: YES YES YES;
    AskError: YES YES YES;

    // A waiting spawn may travel with its future. Its frame is written to behind its back, so it stays where it is, and
    // is nobody else's to look at.
    Spawn<Plain>: YES NO NO;
    Spawn<Celled>: YES NO NO;
    Spawn<Local>: NO NO NO;
    SpawnLocal<Plain>: NO NO NO;
    SpawnLocal<Local>: NO NO NO;
    SpawnWith<fn() -> Plain, Plain>: YES NO NO;
    SpawnWith<fn() -> Local, Local>: NO NO NO;
    Reserve: YES NO NO;
    Reservation: YES YES YES;
    // A group is as its tasks' outputs, as a handle is; whatever may be spawned into it may be on its way there.
    TaskGroup<u8>: YES YES YES;
    TaskGroup<Cell<u8>>: YES YES YES;
    TaskGroup<Rc<u8>>: NO NO YES;
    GroupHandle<u8>: YES YES YES;
    GroupHandle<Rc<u8>>: NO NO YES;
    GroupSpawn<'static, Plain, u8>: YES NO NO;
    GroupSpawn<'static, Local, Rc<u8>>: NO NO NO;
    GroupSpawnLocal<'static, Plain, u8>: NO NO NO;
    // What bounds a wait is as what waits.
    Within<Spawn<Plain>>: YES NO NO;
    Within<Spawn<Local>>: NO NO NO;
    Within<SpawnLocal<Plain>>: NO NO NO;
    Within<SpawnWith<fn() -> Plain, Plain>>: YES NO NO;
    Within<Reserve>: YES NO NO;
    Within<GroupSpawn<'static, Plain, u8>>: YES NO NO;
    Join<Spawn<Plain>, u8>: YES NO NO;
    Join<Within<Spawn<Plain>>, u8>: YES NO NO;
    Join<Spawn<Plain>, Rc<u8>>: NO NO NO;
    Join<SpawnLocal<Plain>, u8>: NO NO NO;

    // What is gathered is as its parts, and lies in a block of its own, so that who gathers may move.
    Gather<Items, fn(u8) -> Plain, Plain>: YES YES YES;
    Gather<Items, fn(u8) -> Celled, Celled>: YES NO YES;
    Gather<Items, fn(u8) -> Local, Local>: NO NO YES;
    Gather<Items, fn(u8) -> Spawn<Plain>, Spawn<Plain>>: YES NO YES;
    Gather<Rc<u8>, fn(u8) -> Plain, Plain>: NO NO YES;
    Gather<Items, Rc<u8>, Plain>: NO NO YES;
    Gather<Items, std::marker::PhantomPinned, Plain>: YES YES YES;
    TryGather<Items, fn(u8) -> Plain, Plain, u8>: YES YES YES;
    TryGather<Items, fn(u8) -> Local, Local, u8>: NO NO YES;
    TryGather<Items, fn(u8) -> Plain, Plain, Rc<u8>>: NO NO YES;
    AsCompleted<Items, fn(u8) -> Plain, Plain>: YES YES YES;
    AsCompleted<Items, fn(u8) -> Celled, Celled>: YES NO YES;
    AsCompleted<Items, fn(u8) -> Local, Local>: NO NO YES;

    // A handle is as its output, which it may take on any thread.
    JoinHandle<u8>: YES YES YES;
    JoinHandle<Cell<u8>>: YES NO YES;
    JoinHandle<Rc<u8>>: NO NO YES;
    JoinHandle<*mut u8>: NO NO YES;
    JoinHandle<std::sync::MutexGuard<'static, u8>>: NO YES YES;
    JoinHandle<std::marker::PhantomPinned>: YES YES YES;
    // So is that of a job, which was made by another thread in any case.
    Blocking<u8>: YES YES YES;
    Blocking<Rc<u8>>: NO NO YES;
    TrySpawnBlockingError<fn()>: YES YES YES;
    TrySpawnBlockingError<Rc<u8>>: NO NO YES;
    JoinError: YES YES YES;
    TaskId: YES YES YES;
    SpawnError: YES YES YES;
    SpawnTimeoutError<Plain>: YES YES YES;
    SpawnTimeoutError<Local>: NO NO YES;
    SpawnTimeoutError<Spawn<Plain>>: YES NO NO;
    TrySpawnError<Plain>: YES YES YES;
    TrySpawnError<Local>: NO NO YES;
    TrySpawnError<Spawn<Plain>>: YES NO NO;
    YieldNow: YES YES YES;

    // A request to end goes wherever it is heard.
    CancellationToken: YES YES YES;
    Cancelled<'static>: YES YES YES;
    CancelGuard: YES YES YES;
    RunUntil<'static, Plain>: YES YES YES;
    RunUntil<'static, Local>: NO NO YES;
    RunUntil<'static, Celled>: YES NO YES;
    RunUntil<'static, Spawn<Plain>>: YES NO NO;

    Sleep: YES YES YES;
    Interval: YES YES YES;
    Timeout<Plain>: YES YES YES;
    Timeout<Local>: NO NO YES;
    Timeout<Spawn<Plain>>: YES NO NO;
    Elapsed: YES YES YES;
    Timer: YES YES YES;
    TcpStream: YES YES YES;
    TcpListener: YES YES YES;
    ReadHalf: YES YES YES;
    WriteHalf: YES YES YES;
    ReuniteError: YES YES YES;

    Semaphore: YES YES YES;
    Acquire<&'static Semaphore>: YES YES YES;
    Acquire<Arc<Semaphore>>: YES YES YES;
    Permit<&'static Semaphore>: YES YES YES;
    OwnedPermit: YES YES YES;
    MergeError<Arc<Semaphore>>: YES YES YES;
    AcquireError: YES YES YES;
    TryAcquireError: YES YES YES;
    LimitError: YES YES YES;
    Snapshot: YES YES YES;
    All<(&'static Semaphore, &'static Semaphore)>: YES YES YES;
    AllPermit<'static>: YES YES YES;
    AllAcquire<'static>: YES YES YES;
    Keyed<u8>: YES YES YES;
    Keyed<Rc<u8>>: NO NO YES;
    Keyed<Cell<u8>>: NO NO YES;
    KeyedPermit<u8>: YES YES YES;
    KeyedAcquire<u8>: YES YES YES;
    KeyedError: YES YES YES;
    TryKeyedError: YES YES YES;
    Limiter: YES YES YES;
    LimiterPermit: YES YES YES;
    LimiterAcquire: YES YES YES;
    ChildError: YES YES YES;
    Admit<Plain>: YES YES YES;
    Admit<Local>: NO NO YES;
    Admitted<Plain>: YES YES YES;
    Admitted<Local>: NO NO YES;
    Admitted<Spawn<Plain>>: YES NO NO;
    AdmitError<Plain>: YES YES YES;
    AdmitError<Local>: NO NO YES;
    LocalSemaphore: YES NO YES;
    LocalPermit<&'static LocalSemaphore>: NO NO YES;
    LocalPermit<Rc<LocalSemaphore>>: NO NO YES;
    LocalAcquire<&'static LocalSemaphore>: NO NO YES;
    LocalAcquire<Rc<LocalSemaphore>>: NO NO YES;
    MemoryBudget: YES YES YES;
    MemoryBuilder: YES YES YES;
    MemoryPermit: YES YES YES;
    MemoryAcquire: YES YES YES;
    MemorySnapshot: YES YES YES;
    MemoryState: YES YES YES;
    BudgetError: YES YES YES;
    CgroupError: YES YES YES;
    Pressure: YES YES YES;
    Stall: YES YES YES;
    Rate: YES YES YES;
    RateError: YES YES YES;
    NotYet: YES YES YES;
    RateLimit: YES YES YES;
    Slot<'static>: YES YES YES;
    CheckManyError: YES YES YES;
    ReserveError: YES YES YES;
    SlidingWindow: YES YES YES;
    // Its keys are in locks, so they need not be Sync.
    KeyedRate<u64>: YES YES YES;
    KeyedRate<Cell<u8>>: YES YES YES;
    KeyedRate<Rc<u8>>: NO NO YES;
    KeyedRateError: YES YES YES;
    Paced<Timer>: YES YES YES;
    Paced<Rc<Timer>>: NO NO YES;
    PacedError: YES YES YES;
    TryPacedError: YES YES YES;
    Key: YES YES YES;
    Refusal: YES YES YES;
    Ledger<u8>: YES YES YES;
    Ledger<Rc<u8>>: NO NO YES;
    Ledger<Cell<u8>, 2>: YES NO YES;
}

/// Traits and a constant, which have none.
const WITHOUT: [&str; 6] = ["ToAddress", "Request", "Requests", "Timer", "MemoryGauge", "GATHER_LIMIT"];

#[test]
fn every_public_type_has_a_row() {
    for file in
        ["runtime/src/lib.rs", "runtime/src/net/mod.rs", "runtime/src/time/mod.rs", "limiter/src/lib.rs"]
    {
        let text = std::fs::read_to_string(workspace().join(file)).unwrap();
        let exports =
            text.match_indices("pub use ").map(|(at, _)| text[at..].split(';').next().unwrap_or_default());
        let mut names = 0;
        for name in exports.flat_map(|export| export.split(|c: char| !c.is_alphanumeric() && c != '_')) {
            if name.starts_with(char::is_uppercase) && !WITHOUT.contains(&name) {
                names += 1;
                let has_row = |row: &str| row.split(|c: char| !c.is_alphanumeric()).next() == Some(name);
                assert!(ROWS.iter().any(|row| has_row(row)), "{file}: {name} has no row");
            }
        }
        assert!(names > 1, "{file}");
    }
}

/// Compiles only for what is Send.
fn send<T: Send>(_: &T) {}

#[test]
fn errors_go_into_whatever_holds_errors() {
    async fn fails() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        anteroom::spawn(async { panic!("no") }).await?.await?;
        Ok(())
    }
    let error = anteroom::block_on(fails()).unwrap_err();
    assert_eq!(error.to_string(), "the task panicked: no");
    assert!(error.downcast::<JoinError>().unwrap().is_panic());
}

#[test]
fn what_the_library_waits_for_can_be_waited_for_in_a_spawned_task() {
    fn address(_: impl ToAddress + Send) {}
    address("localhost:80");
    send(&TcpStream::connect("localhost:80"));
    send(&TcpListener::bind("localhost:80"));
    send(&lookup_host("localhost:80"));
    send(&anteroom::spawn_blocking(|| 1));
    send(&anteroom::time::advance(std::time::Duration::ZERO));
    send(&async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (stream, _) = listener.accept().await?;
        stream.read(&mut [0]).await?;
        stream.write_all(&[0]).await?;
        let mut ticks = anteroom::time::interval(std::time::Duration::from_secs(1));
        ticks.tick().await;
        stream.write_vectored(&[]).await
    });
    let semaphore = Arc::new(Semaphore::new(1));
    send(&anteroom::gather(0..3, ready));
    send(&async {
        let mut results = anteroom::as_completed(0..3, ready);
        results.next().await
    });
    send(&semaphore.acquire());
    send(&semaphore.acquire_owned());
    send(&anteroom::spawn(ready(1)));
}

/// What makes a pointer of a number, or hides that it does. Pointers here are made of references and of boxes, and the one
/// that carries a number goes through `map_addr`, which keeps the provenance.
const FORBIDDEN: [&str; 7] = [
    "transmute",
    "exposed_addr",
    "exposed_provenance",
    "expose_provenance",
    "expose_addr",
    "without_provenance",
    "ptr::invalid",
];

/// The places in `code` at which a pointer may be made of a number, or of what cannot be told from one.
fn pointers_from_numbers(code: &str) -> Vec<&str> {
    let mut found: Vec<&str> = FORBIDDEN.into_iter().filter(|word| code.contains(word)).collect();
    // A cast with `as` says nothing of what it is from, so there is none: `cast`, `cast_mut` and `&raw` do the same and
    // take no number. What is in a turbofish or a signature is a type and no cast.
    for (at, cast) in code.match_indices(" as ") {
        let target = code[at + cast.len()..].trim_start();
        if target.starts_with('*') || target.starts_with("fn(") || target.starts_with("unsafe fn(") {
            found.push(&code[at..code.len().min(at + 40)]);
        }
    }
    found
}

#[test]
fn no_pointer_is_made_of_a_number() {
    for member in ["runtime", "limiter"] {
        for file in anteroom_tests::source::sources(member) {
            // Statements may go over several lines.
            let code = file.code.join(" ").split_whitespace().collect::<Vec<_>>().join(" ");
            let found = pointers_from_numbers(&code);
            assert!(found.is_empty(), "{member}/src/{}: {found:?}", file.path);
        }
    }
}

#[test]
fn what_looks_for_pointers_of_numbers_finds_them() {
    for bad in [
        "let header = bits as *const Header;",
        "let header = (bits & !LOW) as *mut Header;",
        "unsafe { &*(address as *const u8) }",
        "f(bits as *const _)",
        "let p = core::ptr::invalid_mut::<u8>(bits);",
        "core::mem::transmute::<usize, &Header>(bits)",
        "let p = ptr::with_exposed_provenance::<u8>(bits);",
        "let p = ptr::from_exposed_addr_mut(bits);",
        "let bits = p.expose_provenance();",
        "let p: *const u8 = core::ptr::without_provenance(7);",
    ] {
        assert!(!pointers_from_numbers(bad).is_empty(), "{bad}");
    }
    for good in [
        "data.map_addr(|address| unpack(address).0).cast::<Header>()",
        "let frame: Cell<*const ()> = Cell::new(core::ptr::null());",
        "fn encode(header: &'static Header) -> *const () {",
        "let index = key.index as usize;",
        "use std::io::Error as IoError;",
        "tv_nsec: after.subsec_nanos() as _,",
        "std::ptr::dangling_mut()",
    ] {
        assert_eq!(pointers_from_numbers(good), [""; 0], "{good}");
    }
}

/// Asks whether `T` can be copied.
trait NoCopy {
    const CLONE: bool = false;
}

impl<T: ?Sized> NoCopy for Probe<T> {}

impl<T: Clone> Probe<T> {
    const CLONE: bool = true;
}

#[test]
fn what_may_be_given_back_once_cannot_be_copied() {
    // bugs.md 14: a permit is its units, a handle its output, a frame its future.
    const CLONES: [(&str, bool); 9] = [
        ("Slot", Probe::<Slot<'static>>::CLONE),
        ("Permit", Probe::<Permit<&'static Semaphore>>::CLONE),
        ("OwnedPermit", Probe::<OwnedPermit>::CLONE),
        ("Acquire", Probe::<Acquire<Arc<Semaphore>>>::CLONE),
        ("JoinHandle", Probe::<JoinHandle<u8>>::CLONE),
        ("Spawn", Probe::<Spawn<Plain>>::CLONE),
        ("Join", Probe::<Join<Spawn<Plain>, u8>>::CLONE),
        ("Reservation", Probe::<Reservation>::CLONE),
        ("TrySpawnError", Probe::<TrySpawnError<Plain>>::CLONE),
    ];
    for (name, clones) in CLONES {
        assert!(!clones, "{name}");
    }
    const { assert!(Probe::<TaskId>::CLONE, "or the question is wrong") };
    // And nobody can say how many units to give back: no method of a semaphore or a permit takes a number but to ask for
    // units, to split or shrink a permit by what it holds, or to set a limit.
    let takes_number = |line: &&str| line.contains("pub fn ") && line.contains(": usize");
    for (file, may) in [
        (
            "semaphore.rs",
            &[
                "new",
                "try_new",
                "acquire_many",
                "acquire_many_owned",
                "try_acquire_many",
                "try_acquire_many_owned",
                "set_limit",
                "with_max_waiting",
            ][..],
        ),
        ("permit.rs", &["split", "shrink", "try_grow", "charge"][..]),
    ] {
        let text = std::fs::read_to_string(workspace().join("limiter/src").join(file)).unwrap();
        let methods: Vec<_> = text.lines().filter(takes_number).collect();
        assert!(!methods.is_empty());
        for method in methods {
            let name = method.split("pub fn ").nth(1).unwrap().split(['(', '<']).next().unwrap();
            assert!(may.contains(&name), "{file}: {name} takes a number: does it make units?");
        }
    }
}
