//! What may go to another thread, and what may not: a row for every public type.
//!
//! bugs.md 26. What must not compile at all stands in the doc tests of this crate's library.

use std::cell::Cell;
use std::future::{Ready, ready};
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;

use anteroom::net::{TcpListener, TcpStream, ToAddress, lookup_host};
use anteroom::time::{Elapsed, Interval, Sleep, Timeout};
use anteroom::{
    Ask, AskError, Builder, Drain, Handle, Holder, Holders, Join, JoinError, JoinHandle, LongPolls, Metrics,
    Part, Reservation, Reserve, Runtime, Spawn, SpawnError, SpawnLocal, SpawnWith, TaskId, TrySpawnError,
    Waiters, Waiting, WaitsFor, WorstCase, YieldNow,
};
use anteroom_limiter::ledger::{Key, Ledger, Refusal};
use anteroom_limiter::{
    Acquire, AcquireError, LimitError, MergeError, OwnedPermit, Permit, Semaphore, Snapshot, TryAcquireError,
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

rows! {
    // A runtime belongs to the thread that made it, and nobody else may even look at it.
    Runtime: NO NO YES;
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
    SpawnWith<fn() -> Local, Local>: YES NO NO;
    Reserve: YES NO NO;
    Reservation: YES YES YES;
    Join<Spawn<Plain>, u8>: YES NO NO;
    Join<Spawn<Plain>, Rc<u8>>: NO NO NO;
    Join<SpawnLocal<Plain>, u8>: NO NO NO;

    // A handle is as its output, which it may take on any thread.
    JoinHandle<u8>: YES YES YES;
    JoinHandle<Cell<u8>>: YES NO YES;
    JoinHandle<Rc<u8>>: NO NO YES;
    JoinHandle<*mut u8>: NO NO YES;
    JoinHandle<std::sync::MutexGuard<'static, u8>>: NO YES YES;
    JoinHandle<std::marker::PhantomPinned>: YES YES YES;
    JoinError: YES YES YES;
    TaskId: YES YES YES;
    SpawnError: YES YES YES;
    TrySpawnError<Plain>: YES YES YES;
    TrySpawnError<Local>: NO NO YES;
    TrySpawnError<Spawn<Plain>>: YES NO NO;
    YieldNow: YES YES YES;

    Sleep: YES YES YES;
    Interval: YES YES YES;
    Timeout<Plain>: YES YES YES;
    Timeout<Local>: NO NO YES;
    Timeout<Spawn<Plain>>: YES NO NO;
    Elapsed: YES YES YES;
    TcpStream: YES YES YES;
    TcpListener: YES YES YES;

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
    Key: YES YES YES;
    Refusal: YES YES YES;
    Ledger<u8>: YES YES YES;
    Ledger<Rc<u8>>: NO NO YES;
    Ledger<Cell<u8>, 2>: YES NO YES;
}

/// Traits, which have none.
const WITHOUT: [&str; 1] = ["ToAddress"];

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
    send(&semaphore.acquire());
    send(&semaphore.acquire_owned());
    send(&anteroom::spawn(ready(1)));
}
