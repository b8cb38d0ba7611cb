//! Memory that runs out at any one allocation.
//!
//! What Rust allocates it cannot do without: where the allocator gives nothing, `handle_alloc_error` ends the process and says
//! so. The runtime keeps to that, its own blocks and headers included: no null pointer is written through, nothing hangs. Each
//! allocation of each path fails once, in a child process, which must end in exactly that way.

use std::alloc::{GlobalAlloc, Layout, System};
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::sync::atomic::{AtomicIsize, Ordering};
use std::time::Duration;

use anteroom::net::{TcpListener, TcpStream};
use anteroom::time::{sleep, timeout};
use anteroom::{Runtime, spawn, spawn_blocking, spawn_service, try_spawn, yield_now};
use anteroom_tests::{Unordered, elsewhere, must_end, park_on};

/// The system's allocator, except for one allocation.
struct Failing;

/// How many allocations are left until one fails; none fails while it is negative.
static LEFT: AtomicIsize = AtomicIsize::new(-1);

fn fails() -> bool {
    LEFT.load(Ordering::SeqCst) >= 0 && LEFT.fetch_sub(1, Ordering::SeqCst) == 0
}

// SAFETY: what does not fail is the system's allocator; null is how an allocator says that it has nothing.
unsafe impl GlobalAlloc for Failing {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if fails() {
            return std::ptr::null_mut();
        }
        // SAFETY: forwarded from the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if fails() {
            return std::ptr::null_mut();
        }
        // SAFETY: forwarded from the caller.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: forwarded from the caller.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Failing = Failing;

const LONG: Duration = Duration::from_secs(20);

/// A path; it calls what it is given when its allocations are to begin to fail.
type Path = fn(fn());

/// The paths, by name.
const PATHS: [(&str, Path); 7] = [
    ("build", |arm| {
        arm();
        drop(Runtime::new().unwrap());
    }),
    ("spawn", |arm| {
        let runtime = Runtime::builder().max_tasks(100).build().unwrap();
        runtime.block_on(async {
            arm();
            let bytes = [1_u8; 500];
            for _ in 0..50 {
                let task = spawn(async move { (yield_now().await, bytes.len()).1 }).await.unwrap();
                assert_eq!(task.await.unwrap(), 500);
            }
            drop(spawn_service(async {}).unwrap());
            try_spawn(async { vec![1; 10] }).unwrap().await.unwrap();
        });
    }),
    ("wait", |arm| {
        // At the limit: the line, the places, and the wakers of those that wait.
        let runtime = Runtime::builder().max_tasks(2).build().unwrap();
        runtime.block_on(async {
            arm();
            let mut all: Unordered<_> =
                (0..20).map(|n| spawn(async move { (yield_now().await, [n; 100]).1 }).join()).collect();
            while let Some((_, done)) = all.next().await {
                done.unwrap();
            }
        });
    }),
    ("elsewhere", |arm| {
        // A handle that is awaited on another thread.
        let runtime = Runtime::new().unwrap();
        runtime.block_on(async {
            arm();
            let task = try_spawn(async { (sleep(Duration::from_millis(1)).await, [1_u8; 100]).1 }).unwrap();
            let other = std::thread::spawn(move || park_on(task).unwrap()[0]);
            while !other.is_finished() {
                sleep(Duration::from_micros(200)).await;
            }
            assert_eq!(other.join().unwrap(), 1);
            elsewhere(|| drop(sleep(LONG)));
        });
    }),
    ("sleep", |arm| {
        let runtime = Runtime::builder().paused_clock(true).build().unwrap();
        runtime.block_on(async {
            arm();
            let mut all: Unordered<_> = (0..100).map(|n| sleep(Duration::from_secs(n * n))).collect();
            while all.next().await.is_some() {}
            assert!(timeout(LONG, std::future::pending::<()>()).await.is_err());
        });
    }),
    ("sockets", |arm| {
        let runtime = Runtime::new().unwrap();
        runtime.block_on(async {
            arm();
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let client = async move {
                let stream = TcpStream::connect(address).await.unwrap();
                stream.write_all(b"hello").await.unwrap();
                stream
            };
            let client = spawn(client).await.unwrap();
            let (stream, _) = listener.accept().await.unwrap();
            stream.read_exact(&mut [0; 5]).await.unwrap();
            elsewhere(|| drop(stream));
            assert_eq!(client.await.unwrap().read(&mut [0]).await.unwrap(), 0);
        });
    }),
    ("jobs", |arm| {
        let runtime = Runtime::builder().blocking_threads(2).build().unwrap();
        runtime.block_on(async {
            arm();
            for n in 0..3 {
                assert_eq!(timeout(LONG, spawn_blocking(move || n)).await.unwrap().unwrap(), n);
            }
        });
    }),
];

/// What a child does: its path, with the allocation that is to fail.
#[test]
fn the_child() {
    let Some(order) = std::env::var("FAIL_AT").ok() else { return };
    let (path, at) = order.split_once(' ').unwrap();
    AT.store(at.parse().unwrap(), Ordering::SeqCst);
    no_core();
    let (_, run) = PATHS.into_iter().find(|(name, _)| *name == path).unwrap();
    must_end(move || run(|| LEFT.store(AT.load(Ordering::SeqCst), Ordering::SeqCst)));
    let left = LEFT.swap(-1, Ordering::SeqCst);
    println!("the path had {} allocations", AT.load(Ordering::SeqCst) - left);
    // A path that came to its end beyond the failure survived it, and must not.
    std::process::exit(if left >= 0 { 42 } else { 43 });
}

/// Hundreds of processes abort: none is worth a file.
fn no_core() {
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a system call that reads a local of ours.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const none) }, 0);
}

static AT: AtomicIsize = AtomicIsize::new(0);

#[test]
fn each_allocation_that_fails_ends_the_process_as_rust_says_and_in_no_other_way() {
    for (path, _) in PATHS {
        let mut failed = 0;
        for at in 0.. {
            let mut child = Command::new(std::env::current_exe().unwrap());
            child.args(["--exact", "the_child", "--nocapture", "--test-threads=1"]);
            child.env("FAIL_AT", format!("{path} {at}")).env("RUST_BACKTRACE", "0");
            let output = child.output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            let end = output.status;
            if end.code() == Some(42) {
                break;
            }
            let as_rust_says = said.contains("memory allocation of ") && said.contains(" bytes failed");
            assert!(
                end.signal() == Some(libc::SIGABRT) && as_rust_says,
                "{path}: with allocation {at} failing it ended with {end}, and said {said:?} {:?}",
                String::from_utf8_lossy(&output.stdout)
            );
            failed += 1;
            assert!(failed < 2_000, "{path}: it goes on for ever");
        }
        println!("{path}: {failed} allocations failed, one a process");
        assert!(failed > 0, "{path} allocates something");
    }
}
