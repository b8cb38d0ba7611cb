//! An accept loop while no file is to be had.
//!
//! A file of its own, since it takes the files of its whole process, and measures that process's CPU time.

use std::io::Read;
use std::net::TcpStream as StdStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anteroom::net::TcpListener;
use anteroom::time::{sleep, timeout};
use anteroom::{Runtime, spawn_service};

const LONG: Duration = Duration::from_secs(20);
const WATCHED: Duration = Duration::from_secs(1);

fn cpu_time() -> Duration {
    let mut spent = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a system call that writes into a local of ours.
    assert_eq!(unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut spent) }, 0);
    Duration::new(spent.tv_sec as u64, spent.tv_nsec as u32)
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

#[test]
fn an_accept_loop_without_files_takes_no_cpu_and_recovers() {
    // bugs.md 47. The loop tries again at once after each error, as such loops do.
    Runtime::new().unwrap().block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let errors = Arc::new(Mutex::new(Vec::new()));
        let seen = errors.clone();
        let server = async move {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => stream.write_all(b"served").await.unwrap(),
                    Err(error) => seen.lock().unwrap().push(error.raw_os_error()),
                }
            }
        };
        let server = spawn_service(server).unwrap();
        sleep(Duration::from_millis(1)).await;
        let mut client = StdStream::connect(address).unwrap();
        let mut got = [0; 6];
        let client = anteroom::spawn_blocking(move || (client.read_exact(&mut got).unwrap(), got).1);
        assert_eq!(&client.await.unwrap(), b"served");

        let mut client = StdStream::connect(address).unwrap();
        let limit =
            (0..).find(|number| !std::fs::exists(format!("/proc/self/fd/{number}")).unwrap()).unwrap();
        // It accepts that one perhaps; the next has no file.
        let before = set_files_max(|old| libc::rlimit { rlim_cur: limit, ..old });
        let start = cpu_time();
        sleep(WATCHED).await;
        let spent = cpu_time() - start;
        set_files_max(|_| before);
        let failed = errors.lock().unwrap().clone();
        println!("{} errors and {spent:?} of CPU time in {WATCHED:?} without files", failed.len());
        assert!(failed.iter().all(|error| *error == Some(libc::EMFILE)), "{failed:?}");
        assert!(!failed.is_empty(), "it was told");
        assert!(spent < WATCHED / 20, "{spent:?} in {WATCHED:?}: it spins");

        let client = anteroom::spawn_blocking(move || (client.read_exact(&mut got).unwrap(), got).1);
        assert_eq!(&timeout(LONG, client).await.expect("it recovers").unwrap(), b"served");
        server.abort();
    });
}
