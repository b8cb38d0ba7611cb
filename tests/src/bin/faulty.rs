//! Goes through one part of the runtime and says how it went: `.ci/faults.sh` makes the system fail meanwhile.
//!
//! `faulty MODE`. The runtime is on the main thread, which is the one that the script's faults are for; peers are threads of
//! std's. Each mode ends with one line of what came of it, files that were not given back included.

use std::future::poll_fn;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener as StdListener, TcpStream as StdStream};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::task::{Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use anteroom::net::{TcpListener, TcpStream, lookup_host};
use anteroom::time::{sleep, timeout};
use anteroom::{Runtime, metrics, spawn, spawn_blocking, spawn_service, try_spawn, yield_now};
use anteroom_tests::look_around;

const CONNECTIONS: usize = 20;
const MESSAGE: [u8; 64] = [7; 64];
const LONG: Duration = Duration::from_secs(30);

/// Errors by name, in the order in which they came first.
#[derive(Default)]
struct Errors(Vec<(String, usize)>);

impl Errors {
    fn add(&mut self, error: &io::Error) {
        let name = name_of(error);
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, count)) => *count += 1,
            None => self.0.push((name, 1)),
        }
    }
}

impl std::fmt::Display for Errors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let all: Vec<_> = self.0.iter().map(|(name, count)| format!("{name} x{count}")).collect();
        f.write_str(if all.is_empty() { "none" } else { "" })?;
        f.write_str(&all.join(" "))
    }
}

/// The system's number of an error, also where the error is one that names an address besides.
fn number_of(error: &io::Error) -> Option<i32> {
    error.raw_os_error().or_else(|| {
        let text = error.to_string();
        text.rsplit_once("(os error ")?.1.split(')').next()?.parse().ok()
    })
}

/// The system's name of an error, where the script puts it in.
fn name_of(error: &io::Error) -> String {
    let name = match number_of(error) {
        Some(libc::EADDRINUSE) => "EADDRINUSE",
        Some(libc::EACCES) => "EACCES",
        Some(libc::EADDRNOTAVAIL) => "EADDRNOTAVAIL",
        Some(libc::EAFNOSUPPORT) => "EAFNOSUPPORT",
        Some(libc::EAGAIN) => "EAGAIN",
        Some(libc::ECONNABORTED) => "ECONNABORTED",
        Some(libc::ECONNREFUSED) => "ECONNREFUSED",
        Some(libc::ECONNRESET) => "ECONNRESET",
        Some(libc::EHOSTUNREACH) => "EHOSTUNREACH",
        Some(libc::EINTR) => "EINTR",
        Some(libc::EMFILE) => "EMFILE",
        Some(libc::ENETUNREACH) => "ENETUNREACH",
        Some(libc::ENFILE) => "ENFILE",
        Some(libc::ENOBUFS) => "ENOBUFS",
        Some(libc::ENOMEM) => "ENOMEM",
        Some(libc::ENOSPC) => "ENOSPC",
        Some(libc::ENOTTY) => "ENOTTY",
        Some(libc::EPERM) => "EPERM",
        Some(libc::EPIPE) => "EPIPE",
        Some(libc::EPROTO) => "EPROTO",
        Some(libc::ETIMEDOUT) => "ETIMEDOUT",
        _ => return format!("{:?}", error.kind()),
    };
    name.to_owned()
}

/// `ok`, or the error's name.
fn outcome<T>(result: &io::Result<T>) -> String {
    result.as_ref().map_or_else(name_of, |_| "ok".to_owned())
}

fn files_open() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("a list of files").count()
}

fn runtime() -> Runtime {
    Runtime::builder().max_tasks(100).build().expect("a runtime")
}

/// Connects again and again; how many connections were served to their end.
fn clients(address: SocketAddr) -> usize {
    let serve = || -> io::Result<()> {
        let mut stream = StdStream::connect(address)?;
        stream.set_read_timeout(Some(LONG))?;
        for _ in 0..3 {
            let mut got = [0; MESSAGE.len()];
            stream.write_all(&MESSAGE)?;
            stream.read_exact(&mut got)?;
            assert_eq!(got, MESSAGE);
        }
        Ok(())
    };
    (0..CONNECTIONS).filter(|_| serve().is_ok()).count()
}

async fn echo(stream: TcpStream) -> io::Result<()> {
    let mut buffer = [0; 4_096];
    loop {
        match stream.read(&mut buffer).await? {
            0 => return Ok(()),
            read => stream.write_all(&buffer[..read]).await?,
        }
    }
}

/// The loop that everybody writes: it tries again at once, whatever the error was.
async fn accept_for_ever(listener: TcpListener, failed: Arc<Mutex<[Errors; 2]>>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let failed = failed.clone();
                let serve = async move {
                    if let Err(error) = echo(stream).await {
                        failed.lock().expect("a lock")[1].add(&error);
                    }
                };
                drop(spawn(serve).await.expect("a place"));
            }
            Err(error) => failed.lock().expect("a lock")[0].add(&error),
        }
    }
}

fn serve() {
    runtime().block_on(async {
        let files = files_open();
        let failed = Arc::new(Mutex::new([Errors::default(), Errors::default()]));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let address = listener.local_addr().expect("an address");
        let service = spawn_service(accept_for_ever(listener, failed.clone())).expect("a service");
        let peer = thread::spawn(move || clients(address));
        while !peer.is_finished() || metrics().tasks_live > 0 {
            sleep(Duration::from_millis(1)).await;
        }
        service.abort();
        let _ = service.await;
        let served = peer.join().expect("the clients");
        let (sources, more) = (metrics().io_sources, files_open() - files);
        let failed = failed.lock().expect("a lock");
        println!(
            "served {served}, cut off {}, accept: {}, streams: {}, sources {sources}, files +{more}",
            CONNECTIONS - served,
            failed[0],
            failed[1]
        );
    });
}

/// Clients that ask again while nobody answers, so that a spurious `EAGAIN` costs a wait for their next byte and no more.
fn storm() {
    let (listener, address) = std_listener();
    runtime().block_on(async {
        let peer = thread::spawn(move || {
            let mut stream = StdStream::connect(address).expect("a connection");
            stream.set_read_timeout(Some(Duration::from_millis(5))).expect("an option");
            let (mut sent, mut got, mut buffer) = (0, 0, [0; 256]);
            while sent < 200 || got < sent {
                stream.write_all(&[sent as u8]).expect("a write");
                sent += 1;
                if let Ok(read) = stream.read(&mut buffer) {
                    for (at, byte) in buffer[..read].iter().enumerate() {
                        assert_eq!(*byte, (got + at) as u8, "in order, each once");
                    }
                    got += read;
                }
            }
            assert!(sent < 10_000, "each byte that is lost costs another");
        });
        let listener = TcpListener::from_std(listener).expect("a listener");
        let (stream, _) = listener.accept().await.expect("a connection");
        let (cpu, result) = (cpu_time(), timeout(LONG, echo(stream)).await);
        let is_idle = cpu_time() - cpu < Duration::from_secs(2);
        peer.join().expect("the peer");
        println!("storm: {}, spinning: {}", result.map_or("late".into(), |ended| outcome(&ended)), !is_idle);
    });
}

fn build() {
    let files = files_open();
    let first = Runtime::new();
    let (failed, more) = (outcome(&first), files_open() - files);
    drop(first);
    let then = Runtime::new().map(|runtime| {
        runtime.block_on(async {
            sleep(Duration::from_micros(300)).await;
            spawn(async { 3 }).join().await.expect("a task")
        })
    });
    println!("build: {failed}, files +{more}, then {}, files +{}", outcome(&then), files_open() - files);
}

/// Twice the same operation: the first meets the fault, the second must not feel it.
async fn twice<T, F: Future<Output = io::Result<T>>>(what: &str, operation: impl Fn() -> F) {
    let (files, sources) = (files_open(), metrics().io_sources);
    let first = outcome(&operation().await);
    let (first_sources, first_files) = (metrics().io_sources - sources, files_open() - files);
    let then = outcome(&operation().await);
    let (more_sources, more_files) = (metrics().io_sources - sources, files_open() - files);
    println!(
        "{what}: {first}, sources +{first_sources}, files +{first_files}, \
         then {then}, sources +{more_sources}, files +{more_files}"
    );
}

/// A listener that another thread has made, whose system calls are not those that fail.
fn std_listener() -> (StdListener, SocketAddr) {
    let made = thread::spawn(|| StdListener::bind("127.0.0.1:0").expect("a listener"));
    let listener = made.join().expect("a thread");
    let address = listener.local_addr().expect("an address");
    (listener, address)
}

fn connect() {
    // Not accepted by anybody: the system's backlog is answer enough.
    let (_listener, address) = std_listener();
    runtime().block_on(twice("connect", || async {
        timeout(LONG, TcpStream::connect(address))
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }));
}

fn bind() {
    runtime().block_on(twice("bind", || TcpListener::bind("127.0.0.1:0")));
}

/// Sockets that come and go, taken over from std.
fn take_over() {
    let (listener, address) = std_listener();
    let pairs = thread::spawn(move || -> Vec<(StdStream, StdStream)> {
        let pair = || Ok((StdStream::connect(address)?, listener.accept()?.0));
        (0..20).map(|_| pair()).collect::<io::Result<_>>().expect("connections")
    });
    let mut pairs = pairs.join().expect("a thread");
    runtime().block_on(async {
        let files = files_open();
        let (mut results, mut sources) = (Errors::default(), 0);
        while let Some((near, mut far)) = pairs.pop() {
            match TcpStream::from_std(near) {
                Ok(stream) => {
                    far.write_all(&MESSAGE).expect("a write");
                    let mut got = [0; MESSAGE.len()];
                    stream.read_exact(&mut got).await.expect("a read");
                    assert_eq!(got, MESSAGE);
                }
                Err(error) => results.add(&error),
            }
            sources += metrics().io_sources;
        }
        let fewer = files - files_open();
        println!("take-over: {results}, sources +{sources}, files -{fewer}");
    });
}

/// Three times two jobs at once; neither needs the other to run.
fn jobs() {
    let runtime = Runtime::builder().blocking_threads(2).blocking_queue(2).build().expect("a runtime");
    runtime.block_on(async {
        let mut results = Vec::new();
        for _ in 0..3 {
            let door = Arc::new((Mutex::new(false), Condvar::new()));
            let jobs = [(); 2].map(|()| {
                let door = door.clone();
                let job = move || {
                    let is_open = door.0.lock().expect("a lock");
                    drop(door.1.wait_while(is_open, |is_open| !*is_open).expect("a lock"));
                };
                try_spawn(timeout(LONG, spawn_blocking(job))).expect("a place")
            });
            // No job ends before both were asked for, so that both want a thread of their own.
            look_around().await;
            *door.0.lock().expect("a lock") = true;
            door.1.notify_all();
            for job in jobs {
                results.push(match job.await.expect("a task") {
                    Ok(Ok(())) => "ok",
                    Ok(Err(error)) if error.is_cancelled() => "cancelled",
                    Ok(Err(_)) => "panicked",
                    Err(_) => "late",
                });
            }
        }
        // A job counts until its thread is done with it, which is a little after its caller was told.
        let end = timeout(LONG, async {
            while metrics().blocking_jobs > 0 {
                yield_now().await;
            }
        });
        let left = end.await.map_or_else(|_| metrics().blocking_jobs, |()| 0);
        println!("jobs: {}, waiting {left}", results.join(" "));
    });
}

fn lookup() {
    runtime().block_on(async {
        let name = "localhost:80";
        let say = |found: io::Result<Vec<SocketAddr>>| match found {
            Ok(_) => "ok",
            Err(error) if error.to_string().starts_with(name) => "an error that names it",
            Err(_) => "an error",
        };
        let (first, then) = (say(lookup_host(name).await), say(lookup_host(name).await));
        println!("lookup: {first}, then {then}");
    });
}

/// Another thread wakes a runtime that sleeps.
fn wake() {
    const WAKES: usize = 100;
    let (to_waker, asleep) = mpsc::channel::<Waker>();
    let waker = thread::spawn(move || {
        for waker in asleep {
            // Only so that it is likely to sleep by then; it must hear it either way.
            thread::sleep(Duration::from_micros(500));
            waker.wake();
        }
    });
    runtime().block_on(async {
        for _ in 0..WAKES {
            let mut was_asked = false;
            let heard = poll_fn(|cx| {
                if std::mem::replace(&mut was_asked, true) {
                    return Poll::Ready(());
                }
                to_waker.send(cx.waker().clone()).expect("the other thread");
                Poll::Pending
            });
            heard.await;
        }
    });
    drop(to_waker);
    waker.join().expect("the other thread");
    println!("wake: {WAKES} heard");
}

/// Timers of every kind, and a job, on a clock that `.ci/faults.sh` may move.
fn sleeps() {
    runtime().block_on(async {
        let (mut early, mut done) = (0, 0);
        for n in 0..20 {
            let (start, long) = (Instant::now(), Duration::from_micros(3_000 + n * 137));
            sleep(long).await;
            early += u32::from(start.elapsed() < long);
            done += u32::from(timeout(long, std::future::pending::<()>()).await.is_err());
            done += u32::from(timeout(LONG, spawn_blocking(|| ())).await.is_ok());
        }
        println!("sleep: 20 ended, early {early}, timeouts and jobs {done}");
    });
}

fn cpu_time() -> Duration {
    let mut spent = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a system call that writes into a local of ours.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut spent) };
    assert_eq!(result, 0);
    Duration::new(spent.tv_sec as u64, spent.tv_nsec as u32)
}

fn main() {
    let usage = "faulty serve|storm|build|connect|bind|take-over|jobs|lookup|wake|sleep";
    match std::env::args().nth(1).as_deref() {
        Some("serve") => serve(),
        Some("storm") => storm(),
        Some("build") => build(),
        Some("connect") => connect(),
        Some("bind") => bind(),
        Some("take-over") => take_over(),
        Some("jobs") => jobs(),
        Some("lookup") => lookup(),
        Some("wake") => wake(),
        Some("sleep") => sleeps(),
        _ => panic!("{usage}"),
    }
}
