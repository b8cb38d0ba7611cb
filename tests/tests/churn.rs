//! What runtimes leave behind in the process: nothing that grows.
//!
//! These tests count what the whole process has, so they run one at a time.

use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anteroom::net::{TcpListener, TcpStream};
use anteroom::{JoinHandle, Runtime, metrics, spawn, spawn_blocking, time, try_spawn, yield_now};
use anteroom_tests::{Counting, Gate, bytes_live, elsewhere, look_around, park_on, poll_once};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

static ALONE: Mutex<()> = Mutex::new(());

fn files_open() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Threads of all pools in this process.
fn pool_threads() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let name = |task: std::io::Result<std::fs::DirEntry>| {
        std::fs::read_to_string(task.ok()?.path().join("comm")).ok()
    };
    tasks.filter_map(name).filter(|name| name.starts_with("anteroom")).count()
}

/// The number below which exactly `free` more files can be opened.
fn limit_for(free: usize) -> u64 {
    let is_free = |number: &u64| !std::fs::exists(format!("/proc/self/fd/{number}")).unwrap();
    (0..).filter(is_free).nth(free).unwrap()
}

/// Runs `work` a few times, and then `rounds` times, over which neither memory nor files may grow. The harness prints and
/// starts threads meanwhile, so one clean measure of three is enough: what a round leaves is left in each.
fn leaves_nothing(rounds: usize, work: impl Fn(usize)) {
    const MEASURES: usize = 3;
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    (0..6).for_each(&work);
    let few = rounds.max(4_096) as isize;
    let mut found = Vec::new();
    for _ in 0..MEASURES {
        let (bytes, files) = (bytes_live(), files_open() as isize);
        (6..6 + rounds).for_each(&work);
        let more = (bytes_live() - bytes, files_open() as isize - files);
        if more.0 < few && more.1 == 0 {
            return;
        }
        found.push(more);
    }
    panic!("bytes and files more after {rounds} rounds, in each of {MEASURES} measures: {found:?}");
}

#[test]
fn ten_thousand_runtimes_leave_nothing() {
    leaves_nothing(10_000, |n| {
        let runtime = Runtime::builder().max_tasks(4).build().unwrap();
        let total = runtime.block_on(async {
            let task = spawn(async move { (yield_now().await, n).1 });
            task.join().await.unwrap()
        });
        assert_eq!(total, n);
    });
}

#[test]
fn a_runtime_that_ends_in_the_midst_of_everything_leaves_nothing() {
    // bugs.md 28: tasks that wait for one another, for timers, sockets, admission and jobs; handles on both sides.
    leaves_nothing(200, |_| {
        let runtime = Runtime::builder().max_tasks(20).blocking_threads(1).build().unwrap();
        let gate = Gate::new();
        let mut frames: Vec<_> = (0..30).map(|n| Box::pin(spawn(async move { vec![n; 100] }))).collect();
        let mut sleep = Box::pin(time::sleep(Duration::from_secs(1_000)));
        let handles: Vec<JoinHandle<Vec<u8>>> = runtime.block_on(async {
            let waits = |n| {
                let wait = gate.wait();
                async move { (wait.await, vec![n; 1_000]).1 }
            };
            let mut handles: Vec<_> = (0..5).map(|n| try_spawn(waits(n)).unwrap()).collect();
            let joined = handles.pop().unwrap();
            handles.push(try_spawn(async move { joined.await.unwrap() }).unwrap());
            let sleeps = async { (time::sleep(Duration::from_secs(1_000)).await, Vec::new()).1 };
            handles.push(try_spawn(sleeps).unwrap());
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            drop(
                try_spawn(async move { drop(listener.accept().await.map(|_| std::future::pending::<()>())) })
                    .unwrap(),
            );
            handles.push(
                try_spawn(async move { (stream.read(&mut [0]).await.unwrap(), Vec::new()).1 }).unwrap(),
            );
            handles.push(try_spawn(async { vec![1; 1_000] }).unwrap());
            handles.push(try_spawn(async { std::panic::resume_unwind(Box::new("quiet")) }).unwrap());
            while metrics().tasks_live < 20 {
                drop(try_spawn(std::future::pending::<()>()).unwrap());
            }
            for frame in &mut frames {
                assert!(poll_once(frame.as_mut()).is_pending());
            }
            assert!(poll_once(sleep.as_mut()).is_pending());
            look_around().await;
            assert_eq!(spawn_blocking(|| 5).await.unwrap(), 5);
            handles
        });
        let mut polled = handles;
        elsewhere(|| {
            for handle in &mut polled {
                let _ = poll_once(Pin::new(handle));
            }
        });
        drop(runtime);
        let _ = frames.drain(..15);
        elsewhere(|| drop((frames, sleep)));
        polled.drain(..4).for_each(|handle| assert!(park_on(handle).is_err()));
        elsewhere(|| drop(polled));
        // The pool's thread ends by itself, soon.
        while pool_threads() > 0 {
            std::thread::yield_now();
        }
        // What was left for the home's next owner is taken by it.
        anteroom::block_on(look_around());
    });
}

#[test]
fn a_runtime_that_cannot_be_built_leaves_nothing() {
    // bugs.md 48: no file is left for its epoll, its eventfd or its timerfd.
    leaves_nothing(50, |n| {
        let limit = limit_for(n % 6);
        let before = set_files_max(|old| libc::rlimit { rlim_cur: limit, ..old });
        let built = Runtime::new();
        set_files_max(|_| before);
        let built = built.map(|runtime| runtime.block_on(async { spawn(async { 3 }).join().await.unwrap() }));
        match n % 6 {
            0..3 => assert!(built.is_err(), "an epoll, an eventfd and a timerfd are needed at least"),
            3 | 4 => {}
            _ => assert_eq!(built.unwrap(), 3),
        }
    });
}

#[test]
fn when_files_run_out_sockets_fail_with_an_error_and_then_recover() {
    // bugs.md 47
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    anteroom::block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut clients: Vec<_> = (0..3).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
        // Some of std's own are opened at their first use.
        drop(TcpStream::connect(address).await.unwrap());
        let (limit, sources) = (limit_for(0), metrics().io_sources);
        let before = set_files_max(|old| libc::rlimit { rlim_cur: limit, ..old });
        let mut accepted = 0;
        let mut results = Vec::new();
        for _ in 0..10 {
            results
                .push(listener.accept().await.map(|_| accepted += 1).map_err(|error| error.raw_os_error()));
            results.push(TcpStream::connect(address).await.map(drop).map_err(|error| error.raw_os_error()));
            assert!(TcpListener::bind(address).await.is_err());
            time::sleep(Duration::from_micros(300)).await;
        }
        let sources_then = metrics().io_sources;
        drop(clients.pop());
        let recovered = listener.accept().await.is_ok();
        set_files_max(|_| before);
        assert_eq!(results, vec![Err(Some(libc::EMFILE)); 20]);
        assert_eq!((accepted, sources_then, recovered), (0, sources, true));
    });
}

#[test]
fn a_hundred_sockets_that_come_and_go_leave_nothing() {
    leaves_nothing(30, |_| {
        anteroom::block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let mut open = Vec::new();
            for _ in 0..100 {
                let client = spawn(TcpStream::connect(address)).await.unwrap();
                open.push(listener.accept().await.unwrap().0);
                open.push(client.await.unwrap().unwrap());
            }
            elsewhere(|| drop(open.split_off(100)));
            let waits = try_spawn(async move { listener.accept().await.map(drop).unwrap() }).unwrap();
            yield_now().await;
            waits.abort();
        });
    });
}

/// Sets the limit of open files to what `f` makes of the present one, which is returned.
fn set_files_max(f: impl FnOnce(libc::rlimit) -> libc::rlimit) -> libc::rlimit {
    let mut old = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a system call that writes into a local of ours.
    assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut old) }, 0);
    let new = f(old);
    // SAFETY: a system call that reads a local of ours.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const new) }, 0);
    old
}
