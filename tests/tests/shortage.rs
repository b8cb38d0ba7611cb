//! When the process is out of files or of memory: errors at a pace, and a recovery that needs no help.
//!
//! What a process may have is set for all of it, so each test runs in a process of its own.

use std::cell::RefCell;
use std::fs::File;
use std::net::TcpStream as StdStream;
use std::process::Command;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anteroom::net::TcpListener;
use anteroom::time::{sleep, timeout};
use anteroom::{Runtime, block_on, spawn_local};
use anteroom_tests::{elsewhere, must_end, park_on, poll_once};

const LONG: Duration = Duration::from_secs(10);
/// How long `accept` holds back an error that the next call would meet again.
const PAUSE: Duration = Duration::from_millis(50);

/// Runs `f` in a process in which nothing else runs: this program once more, for `test` alone.
fn alone(test: &str, f: impl FnOnce() + Send + 'static) {
    const MARK: &str = "ANTEROOM_TESTS_ALONE";
    if std::env::var_os(MARK).is_some_and(|mark| mark == test) {
        return must_end(f);
    }
    let program = std::env::current_exe().unwrap();
    let arguments = [test, "--exact", "--nocapture", "--test-threads=1"];
    let output = Command::new(program).args(arguments).env(MARK, test).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.contains("1 passed"), "{}\n{out}\n{err}", output.status);
}

/// What a process has a limit of.
enum Of {
    Files,
    #[cfg_attr(anteroom_asan, allow(dead_code))]
    Space,
}

/// Sets a limit of this process, and returns what it was.
fn set_limit(of: Of, max: u64) -> u64 {
    let of = match of {
        Of::Files => libc::RLIMIT_NOFILE,
        Of::Space => libc::RLIMIT_AS,
    };
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a system call that writes into a local of ours.
    assert_eq!(unsafe { libc::getrlimit(of, &raw mut limit) }, 0);
    let before = std::mem::replace(&mut limit.rlim_cur, max);
    // SAFETY: a system call that reads a local of ours.
    assert_eq!(unsafe { libc::setrlimit(of, &raw const limit) }, 0);
    before
}

/// Lets this process open no more files; returns the limit that there was.
fn no_more_files() -> u64 {
    let is_open = |number: &u64| std::fs::exists(format!("/proc/self/fd/{number}")).unwrap();
    let lowest = (0..).find(|number| !is_open(number)).unwrap();
    // The lowest number that is free is given next, and must be below the limit.
    set_limit(Of::Files, lowest)
}

/// How much of a core this process has had.
fn cpu_time() -> Duration {
    // SAFETY: plain numbers, for which zero is a value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: a system call that writes into a local of ours.
    assert_eq!(unsafe { libc::getrusage(libc::RUSAGE_SELF, &raw mut usage) }, 0);
    let time = |time: libc::timeval| Duration::new(time.tv_sec as u64, time.tv_usec as u32 * 1_000);
    time(usage.ru_utime) + time(usage.ru_stime)
}

#[test]
fn a_loop_that_only_logs_its_errors_does_not_spin_and_recovers_by_itself() {
    // bugs.md 47
    alone("a_loop_that_only_logs_its_errors_does_not_spin_and_recovers_by_itself", || {
        block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let mut clients: Vec<_> = (0..3).map(|_| StdStream::connect(address).unwrap()).collect();
            let spare: Vec<_> = (0..3).map(|_| File::open("/dev/null").unwrap()).collect();
            let (accepted, errors) = (Rc::new(RefCell::new(Vec::new())), Rc::new(RefCell::new(Vec::new())));
            let (streams, log) = (accepted.clone(), errors.clone());
            let limit = no_more_files();
            let server = spawn_local(async move {
                loop {
                    match listener.accept().await {
                        Ok((stream, _)) => streams.borrow_mut().push(stream),
                        Err(error) => log.borrow_mut().push(error.raw_os_error()),
                    }
                }
            });
            let server = server.await.unwrap();

            let (start, before) = (Instant::now(), cpu_time());
            sleep(Duration::from_millis(500)).await;
            // Another comes meanwhile, and brings an edge in the midst of a pause.
            set_limit(Of::Files, limit);
            clients.push(StdStream::connect(address).unwrap());
            no_more_files();
            sleep(Duration::from_millis(500)).await;
            let (wall, cpu) = (start.elapsed(), cpu_time() - before);
            println!("{cpu:?} of {wall:?}, {} errors", errors.borrow().len());
            assert!(cpu < wall / 20, "{cpu:?} of {wall:?}");
            let most = (wall.as_nanos() / PAUSE.as_nanos()) as usize;
            {
                let errors = errors.borrow();
                assert!((1..=most).contains(&errors.len()), "{} errors", errors.len());
                assert!(errors.iter().all(|&error| error == Some(libc::EMFILE)), "{errors:?}");
            }
            assert_eq!(accepted.borrow().len(), 0);

            // Nothing new comes in: what waits is found without an edge.
            drop(spare);
            let three = async {
                while accepted.borrow().len() < 3 {
                    sleep(Duration::from_millis(1)).await;
                }
            };
            timeout(LONG, three).await.expect("as many as there are files again");
            let seen = errors.borrow().len();
            while errors.borrow().len() < seen + 2 {
                sleep(Duration::from_millis(1)).await;
            }
            assert_eq!(accepted.borrow().len(), 3, "and no more");
            set_limit(Of::Files, limit);
            for all in 4..10 {
                let next = async {
                    while accepted.borrow().len() < all {
                        sleep(Duration::from_millis(1)).await;
                    }
                };
                timeout(LONG, next).await.expect("it is as it was");
                clients.push(StdStream::connect(address).unwrap());
            }
            server.abort();
        });
    });
}

#[test]
fn an_accept_that_is_given_up_in_its_pause_loses_no_connection_and_hides_no_error() {
    // bugs.md 47
    alone("an_accept_that_is_given_up_in_its_pause_loses_no_connection_and_hides_no_error", || {
        block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let clients: Vec<_> = (0..3).map(|_| StdStream::connect(address).unwrap()).collect();
            let limit = no_more_files();
            let (mut errors, mut given_up, mut last) = (0, 0, Instant::now());
            while errors < 4 {
                match timeout(PAUSE / 10, listener.accept()).await {
                    Err(_) => given_up += 1,
                    Ok(result) => {
                        assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::EMFILE));
                        assert!(last.elapsed() >= PAUSE, "{:?}", last.elapsed());
                        (errors, last) = (errors + 1, Instant::now());
                    }
                }
            }
            assert!(given_up > 0);
            // In the midst of a pause.
            let _ = timeout(PAUSE / 10, listener.accept()).await;
            set_limit(Of::Files, limit);
            let mut peers: Vec<_> = Vec::new();
            for _ in 0..3 {
                let (_stream, peer) = timeout(PAUSE / 2, listener.accept()).await.expect("no pause").unwrap();
                peers.push(peer);
            }
            let locals: Vec<_> = clients.iter().map(|client| client.local_addr().unwrap()).collect();
            assert_eq!(peers, locals, "in the order in which they came");
        });
    });
}

#[test]
fn the_pause_of_an_accept_goes_by_the_runtimes_clock() {
    alone("the_pause_of_an_accept_goes_by_the_runtimes_clock", || {
        Runtime::builder().paused_clock(true).build().unwrap().block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let _client = StdStream::connect(listener.local_addr().unwrap()).unwrap();
            let limit = no_more_files();
            let start = anteroom::time::now();
            for n in 1..=1_000 {
                assert_eq!(listener.accept().await.unwrap_err().raw_os_error(), Some(libc::EMFILE));
                assert_eq!(anteroom::time::now() - start, n * PAUSE);
            }
            set_limit(Of::Files, limit);
            listener.accept().await.unwrap();
            assert_eq!(anteroom::time::now() - start, 1_000 * PAUSE);
        });
    });
}

#[test]
fn outside_a_runtime_the_error_comes_at_once() {
    alone("outside_a_runtime_the_error_comes_at_once", || {
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let _client = StdStream::connect(listener.local_addr().unwrap()).unwrap();
        let code = |result: std::io::Result<_>| result.map(drop).unwrap_err().raw_os_error();
        // The first look at the socket opens nothing more.
        let limit = no_more_files();
        assert_eq!(code(elsewhere(|| park_on(listener.accept()))), Some(libc::EMFILE));
        // And so it does for one whose pause had begun inside.
        let mut accept = Box::pin(listener.accept());
        runtime.block_on(async { assert!(poll_once(accept.as_mut()).is_pending()) });
        assert_eq!(code(park_on(accept)), Some(libc::EMFILE));
        set_limit(Of::Files, limit);
        runtime.block_on(async { timeout(LONG, listener.accept()).await.unwrap().unwrap() });
    });
}

// A sanitizer has terabytes of address space for itself.
#[cfg(not(anteroom_asan))]
#[test]
fn a_job_for_which_there_is_no_thread_is_an_error_and_gives_its_place_back() {
    use anteroom::{metrics, spawn_blocking, try_spawn_blocking};

    alone("a_job_for_which_there_is_no_thread_is_an_error_and_gives_its_place_back", || {
        fn space_bytes() -> u64 {
            let sizes = std::fs::read_to_string("/proc/self/statm").unwrap();
            sizes.split(' ').next().unwrap().parse::<u64>().unwrap() * 4_096
        }
        let runtime = Runtime::builder().blocking_stack_size(512 << 20).blocking_queue(0).build().unwrap();
        runtime.block_on(async {
            let limit = set_limit(Of::Space, space_bytes() + (256 << 20));
            for _ in 0..20 {
                let error = spawn_blocking(|| 1).await.unwrap_err();
                let text = "the task was never started: the system gave the blocking pool no thread";
                assert!(error.is_cancelled() && error.to_string() == text, "{error}");
                assert!(try_spawn_blocking(|| 1).unwrap().await.unwrap_err().is_cancelled());
                assert_eq!((metrics().blocking_jobs, metrics().blocking_threads), (0, 0));
            }
            set_limit(Of::Space, limit);
            assert_eq!(spawn_blocking(|| 1).await.unwrap(), 1);
        });
    });
}
