//! What ends a wait, and what does not: not a signal, and not a number that is too large.

use std::io::Write;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anteroom::net::TcpStream;
use anteroom::{Runtime, block_on, spawn, time};
use anteroom_tests::{Gate, must_end, poll_once};

const MS: Duration = Duration::from_millis(1);
const SEC: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);
const TICK: Duration = Duration::from_micros(100);

static SIGNALS: AtomicUsize = AtomicUsize::new(0);

extern "C" fn count(_: libc::c_int) {
    SIGNALS.fetch_add(1, Ordering::SeqCst);
}

#[test]
fn a_wait_goes_on_after_a_signal() {
    must_end(|| {
        let handler: extern "C" fn(libc::c_int) = count;
        // SAFETY: the handler does nothing but to count, and stays for as long as the process.
        let before = unsafe { libc::signal(libc::SIGUSR1, handler as *const () as libc::sighandler_t) };
        assert_ne!(before, libc::SIG_ERR);
        let (sender, receiver) = mpsc::channel();
        let done = Arc::new(AtomicBool::new(false));
        let stop = done.clone();
        // SAFETY: asks for the caller's own thread.
        let owner = unsafe { libc::pthread_self() };
        let noise = thread::spawn(move || {
            let mut peer: std::net::TcpStream = receiver.recv().unwrap();
            for n in 0_u8.. {
                if stop.load(Ordering::SeqCst) {
                    break;
                }
                // SAFETY: the owner waits for this thread's end before its own.
                assert_eq!(unsafe { libc::pthread_kill(owner, libc::SIGUSR1) }, 0);
                thread::sleep(Duration::from_micros(300));
                if n % 50 == 0 {
                    peer.write_all(b"x").unwrap();
                }
            }
        });
        block_on(async {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let stream = TcpStream::from_std(stream).unwrap();
            sender.send(listener.accept().unwrap().0).unwrap();
            let reader = spawn(async move { stream.read_exact(&mut [0; 3]).await }).await.unwrap();
            let start = Instant::now();
            time::sleep(Duration::from_millis(30)).await;
            assert!(start.elapsed() >= Duration::from_millis(30));
            reader.await.unwrap().unwrap();
        });
        done.store(true, Ordering::SeqCst);
        noise.join().unwrap();
        assert!(SIGNALS.load(Ordering::SeqCst) > 10);
    });
}

#[test]
fn a_wait_of_months_ends_when_it_is_told_and_not_before() {
    // bugs.md 50: 24.8 days are 2^31 ms, and 49.7 are 2^32.
    must_end(|| {
        for days in [24, 25, 49, 50, 75, 100, 10_000] {
            // A resolution so coarse that epoll's own timeout serves it.
            for resolution in [TICK, SEC] {
                let runtime = Runtime::builder().timer_resolution(resolution).build().unwrap();
                runtime.block_on(async {
                    let gate = Gate::new();
                    let mut months = pin!(time::sleep(days * DAY));
                    assert!(poll_once(months.as_mut()).is_pending());
                    let opener = gate.clone();
                    let thread = thread::spawn(move || {
                        thread::sleep(20 * MS);
                        opener.open();
                    });
                    let before = cpu_time();
                    gate.wait().await;
                    let spent = cpu_time() - before;
                    assert!(spent < 10 * MS, "{spent:?} of 20 ms: it spins");
                    assert!(poll_once(months).is_pending());
                    thread.join().unwrap();
                });
            }
        }
    });
}

/// How long this thread has run.
fn cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a system call that writes into a local of ours.
    assert_eq!(unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) }, 0);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
