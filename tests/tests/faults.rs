//! Faults that a test can make itself: peers that reset, stall, vanish and trickle, and a system that runs short.
//!
//! `tests/faults.md` is the table of all; those that only the system can make are in `.ci/faults.sh`.

use std::collections::BTreeSet;
use std::fs;
use std::io::{ErrorKind, IoSlice, Read, Write};
use std::net::{SocketAddr, TcpListener as StdListener, TcpStream as StdStream};
use std::os::fd::AsRawFd;
use std::process::Command;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use anteroom::net::{TcpListener, TcpStream, lookup_host};
use anteroom::time::{sleep, timeout};
use anteroom::{Runtime, block_on, metrics, spawn, spawn_blocking, spawn_local, try_spawn, yield_now};
use anteroom_tests::source::{files_below, workspace};
use anteroom_tests::{look_around, must_end};

const LONG: Duration = Duration::from_secs(10);

/// Runs on a clock that jumps when nobody can go on, so that a peer that never answers costs no time.
fn paused<T>(future: impl Future<Output = T>) -> T {
    Runtime::builder().paused_clock(true).build().unwrap().block_on(future)
}

/// A connection that this runtime watches, and its other end in blocking mode.
fn pair() -> (TcpStream, StdStream) {
    let (near, far) = std_pair();
    (TcpStream::from_std(near).unwrap(), far)
}

fn std_pair() -> (StdStream, StdStream) {
    let listener = StdListener::bind("127.0.0.1:0").unwrap();
    let stream = StdStream::connect(listener.local_addr().unwrap()).unwrap();
    (stream, listener.accept().unwrap().0)
}

fn set_option<T>(socket: &impl AsRawFd, name: libc::c_int, value: T) {
    let size = size_of::<T>() as libc::socklen_t;
    let value = (&raw const value).cast();
    // SAFETY: a system call that reads a local of ours, of the size that is given.
    let set = unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, name, value, size) };
    assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
}

/// Closes a connection so that the other end is reset.
fn reset(peer: StdStream) {
    set_option(&peer, libc::SO_LINGER, libc::linger { l_onoff: 1, l_linger: 0 });
    drop(peer);
}

/// The smallest buffer that the system gives: every larger write is short.
fn narrow() -> (TcpStream, StdStream) {
    let (near, far) = std_pair();
    set_option(&near, libc::SO_SNDBUF, 1 as libc::c_int);
    near.set_nodelay(true).unwrap();
    (TcpStream::from_std(near).unwrap(), far)
}

fn byte_at(at: usize) -> u8 {
    (at * 31 + at / 251) as u8
}

#[test]
fn short_writes_lose_nothing() {
    const BYTES: usize = 300_000;
    must_end(|| {
        block_on(async {
            let (stream, mut peer) = narrow();
            let reader = thread::spawn(move || {
                let (mut got, mut chunk) = (Vec::new(), [0; 257]);
                loop {
                    match peer.read(&mut chunk).unwrap() {
                        0 => break got,
                        read => got.extend_from_slice(&chunk[..read]),
                    }
                }
            });
            let bytes: Vec<u8> = (0..BYTES).map(byte_at).collect();
            let first = stream.write(&bytes).await.unwrap();
            assert!((1..BYTES).contains(&first), "the first write was to be short, and took {first}");
            let (head, tail) = bytes[first..].split_at(1_000);
            let both = stream.write_vectored(&[IoSlice::new(head), IoSlice::new(tail)]).await.unwrap();
            assert!((1..BYTES - first).contains(&both), "so was the second, and took {both}");
            stream.write_all(&bytes[first + both..]).await.unwrap();
            drop(stream);
            assert!(reader.join().unwrap() == bytes, "all of it, in order");
        });
    });
}

#[test]
fn short_reads_lose_nothing() {
    must_end(|| {
        block_on(async {
            let (stream, mut peer) = pair();
            peer.set_nodelay(true).unwrap();
            let writer = thread::spawn(move || {
                for at in 0..5_000 {
                    peer.write_all(&[byte_at(at)]).unwrap();
                }
                peer
            });
            let mut got = vec![0; 5_000];
            timeout(LONG, stream.read_exact(&mut got)).await.unwrap().unwrap();
            assert!(got.iter().enumerate().all(|(at, &byte)| byte == byte_at(at)));
            drop(writer.join().unwrap());
            assert_eq!(stream.read(&mut got).await.unwrap(), 0);
        });
    });
}

#[test]
fn a_peer_that_never_answers_costs_its_own_task_a_timeout_and_nobody_else_anything() {
    must_end(|| {
        paused(async {
            let (streams, silent): (Vec<_>, Vec<_>) = (0..50).map(|_| pair()).unzip();
            let tasks: Vec<_> = streams
                .into_iter()
                .map(|stream| {
                    let ask = async move {
                        stream.write_all(b"hello?").await.unwrap();
                        timeout(Duration::from_secs(30), stream.read(&mut [0; 8])).await.is_err()
                    };
                    try_spawn(ask).unwrap()
                })
                .collect();
            // Meanwhile another is served.
            let (stream, mut peer) = pair();
            peer.write_all(b"x").unwrap();
            stream.read_exact(&mut [0]).await.unwrap();
            for task in tasks {
                assert!(task.await.unwrap(), "it was told that its time is up");
            }
            drop(stream);
            assert_eq!((metrics().io_sources, metrics().timers, silent.len()), (0, 0, 50));
        });
    });
}

#[test]
fn a_peer_that_does_not_read_stops_its_writer_and_nobody_else() {
    must_end(|| {
        paused(async {
            let (stream, _deaf) = narrow();
            let writer = async move {
                let wrote = timeout(Duration::from_secs(30), stream.write_all(&vec![0; 10 << 20])).await;
                wrote.is_err()
            };
            let writer = try_spawn(writer).unwrap();
            let (other, mut peer) = pair();
            for n in 0..100 {
                peer.write_all(&[n]).unwrap();
                let mut got = [0];
                other.read_exact(&mut got).await.unwrap();
                assert_eq!(got, [n]);
            }
            assert!(writer.await.unwrap(), "it waited until it was given up");
            drop(other);
            assert_eq!(metrics().io_sources, 0);
        });
    });
}

#[test]
fn a_peer_that_stops_writing_is_still_answered() {
    must_end(|| {
        block_on(async {
            let (stream, mut peer) = pair();
            peer.write_all(b"last words").unwrap();
            peer.shutdown(std::net::Shutdown::Write).unwrap();
            let (mut got, mut buffer) = (Vec::new(), [0; 4]);
            while let Ok(read @ 1..) = stream.read(&mut buffer).await {
                got.extend_from_slice(&buffer[..read]);
            }
            // Its end is for good, and says nothing about this direction.
            let answer = vec![7; 1 << 20];
            let reader = thread::spawn(move || {
                let mut all = Vec::new();
                peer.read_to_end(&mut all).unwrap();
                all
            });
            stream.write_all(&answer).await.unwrap();
            assert_eq!((got.as_slice(), stream.read(&mut buffer).await.unwrap()), (&b"last words"[..], 0));
            drop(stream);
            assert!(reader.join().unwrap() == answer);
        });
    });
}

#[test]
fn a_reset_before_the_accept_is_the_connections_and_not_the_listeners() {
    must_end(|| {
        block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            for _ in 0..20 {
                reset(StdStream::connect(address).unwrap());
                let mut good = StdStream::connect(address).unwrap();
                good.write_all(b"x").unwrap();
                let mut ends = Vec::new();
                while ends.len() < 2 {
                    // Some systems give the connection, and its first read fails; others an error in its place.
                    match timeout(LONG, listener.accept()).await.unwrap() {
                        Ok((stream, _)) => {
                            ends.push(stream.read(&mut [0]).await.map_err(|error| error.kind()))
                        }
                        Err(error) => ends.push(Err(error.kind())),
                    }
                }
                assert!(matches!(ends[0], Err(ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted)));
                assert_eq!(ends[1], Ok(1));
            }
        });
    });
}

#[test]
fn a_reset_in_the_midst_of_reads_and_writes_ends_both_of_them() {
    must_end(|| {
        block_on(async {
            for round in 0..20 {
                let (stream, mut peer) = pair();
                let stream = Rc::new(stream);
                let (reads, writes) = (stream.clone(), stream.clone());
                let reader = spawn_local(async move {
                    let mut total = 0;
                    loop {
                        match reads.read(&mut [0; 100]).await {
                            Ok(0) => return (total, None),
                            Ok(read) => total += read,
                            Err(error) => return (total, Some(error.kind())),
                        }
                    }
                });
                let writer = spawn_local(async move {
                    loop {
                        if let Err(error) = writes.write(&[0; 65_536]).await {
                            return error.kind();
                        }
                    }
                });
                let (reader, writer) = (reader.await.unwrap(), writer.await.unwrap());
                peer.write_all(&[1; 1_000]).unwrap();
                // Sooner or later the writer has filled what there is of buffers, and waits; and so does the reader.
                for _ in 0..round {
                    look_around().await;
                }
                reset(peer);
                let written = timeout(LONG, writer).await.unwrap().unwrap();
                let (total, read) = timeout(LONG, reader).await.unwrap().unwrap();
                // One of the two takes the error from the socket; the other sees its end.
                assert!(matches!(written, ErrorKind::BrokenPipe | ErrorKind::ConnectionReset), "{written}");
                assert!(matches!(read, None | Some(ErrorKind::ConnectionReset)), "{read:?}");
                assert!(total <= 1_000);
                drop(stream);
                assert_eq!((metrics().io_sources, metrics().tasks_live), (0, 0));
            }
        });
    });
}

#[test]
fn a_listener_that_closes_resets_whoever_it_did_not_accept() {
    must_end(|| {
        block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let waits = spawn(async move { client.read(&mut [0]).await }).await.unwrap();
            yield_now().await;
            drop(listener);
            let error = timeout(LONG, waits).await.unwrap().unwrap().unwrap_err();
            assert_eq!((error.kind(), metrics().io_sources), (ErrorKind::ConnectionReset, 0));
        });
    });
}

#[test]
fn a_connect_that_nobody_answers_waits_until_it_is_given_up_and_leaves_nothing() {
    must_end(|| {
        paused(async {
            // A backlog of none takes one; what comes after is not answered.
            let listener = StdListener::bind("127.0.0.1:0").unwrap();
            // SAFETY: a system call that takes no memory of ours.
            assert_eq!(unsafe { libc::listen(listener.as_raw_fd(), 0) }, 0);
            let address = listener.local_addr().unwrap();
            let mut connected = Vec::new();
            let mut late = 0;
            for _ in 0..20 {
                match timeout(Duration::from_secs(5), TcpStream::connect(address)).await {
                    Ok(stream) => connected.push(stream.unwrap()),
                    Err(_) => late += 1,
                }
            }
            assert!(late > 10, "{late} of 20 were not answered");
            assert_eq!((metrics().io_sources, metrics().timers), (connected.len(), 0));
        });
    });
}

#[test]
fn a_name_that_cannot_be_looked_up_is_an_error_that_names_it() {
    must_end(|| {
        block_on(async {
            // Neither gets as far as the network.
            for name in ["a\0b".to_owned(), "x".repeat(300)] {
                let error = lookup_host((name.as_str(), 80)).await.unwrap_err();
                assert!(error.to_string().starts_with(&format!("{name}:80: ")), "{error}");
                assert!(TcpStream::connect((name.as_str(), 80)).await.is_err());
                assert!(TcpListener::bind((name.as_str(), 80)).await.is_err());
            }
            // A job counts until its thread is done with it, which is a little after its caller was told.
            while metrics().blocking_jobs > 0 {
                yield_now().await;
            }
            assert_eq!(metrics().io_sources, 0);
        });
    });
}

/// Runs one test of this file in a process of its own, whose limits it may change, with `ALONE` set.
fn in_a_child(name: &str) -> bool {
    if std::env::var_os("ALONE").is_some() {
        return true;
    }
    let mut child = Command::new(std::env::current_exe().unwrap());
    let output = child.args(["--exact", name, "--nocapture"]).env("ALONE", "1").output().unwrap();
    let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(output.status.success() && said[0].contains("1 passed"), "{}\n{}", said[0], said[1]);
    false
}

#[test]
fn a_thread_that_cannot_be_had_is_an_error_of_its_job_and_not_a_hang() {
    // The sanitizer itself cannot live within so little address space.
    if cfg!(anteroom_asan) || !in_a_child("a_thread_that_cannot_be_had_is_an_error_of_its_job_and_not_a_hang")
    {
        return;
    }
    must_end(|| {
        let runtime = Runtime::builder().blocking_stack_size(1 << 30).build().unwrap();
        runtime.block_on(async {
            let mut old = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            // SAFETY: a system call that writes into a local of ours.
            assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_AS, &raw mut old) }, 0);
            // Room for what there is, and not for a stack of a gigabyte.
            let new = libc::rlimit { rlim_cur: 900 << 20, ..old };
            // SAFETY: a system call that reads a local of ours.
            assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const new) }, 0);
            for _ in 0..3 {
                let error = timeout(LONG, spawn_blocking(|| 1)).await.unwrap().unwrap_err();
                assert!(error.is_cancelled());
                assert!(timeout(LONG, lookup_host("localhost:80")).await.unwrap().is_err());
            }
            assert_eq!((metrics().blocking_jobs, metrics().blocking_threads), (0, 0));
            // SAFETY: as above.
            assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const old) }, 0);
            assert_eq!(spawn_blocking(|| 2).await.unwrap(), 2);
        });
    });
}

#[test]
fn a_crowd_that_connects_and_vanishes_leaves_a_server_as_it_was() {
    must_end(|| {
        Runtime::builder().max_tasks(30).build().unwrap().block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address: SocketAddr = listener.local_addr().unwrap();
            let crowd = thread::spawn(move || {
                for n in 0..300_u32 {
                    let mut stream = StdStream::connect(address).unwrap();
                    match n % 4 {
                        0 => drop(stream),
                        1 => reset(stream),
                        2 => {
                            stream.write_all(b"half a requ").unwrap();
                            reset(stream);
                        }
                        _ => {
                            stream.write_all(b"a whole one.").unwrap();
                            let mut answer = [0; 12];
                            stream.read_exact(&mut answer).unwrap();
                            assert_eq!(&answer, b"a whole one.");
                        }
                    }
                }
            });
            let server = spawn(async move {
                loop {
                    let Ok((stream, _)) = listener.accept().await else { continue };
                    let serve = async move {
                        let mut request = [0; 12];
                        stream.read_exact(&mut request).await?;
                        stream.write_all(&request).await
                    };
                    drop(spawn(serve).await.unwrap());
                }
            });
            let server = server.await.unwrap();
            while !crowd.is_finished() || metrics().tasks_live > 1 {
                sleep(Duration::from_millis(1)).await;
            }
            crowd.join().unwrap();
            assert_eq!(metrics().io_sources, 1);
            server.abort();
            look_around().await;
            assert_eq!((metrics().io_sources, metrics().tasks_live), (0, 0));
        });
    });
}

/// The cells of a table's row.
fn cells(row: &str) -> Vec<&str> {
    row.trim().trim_matches('|').split('|').map(str::trim).collect()
}

#[test]
fn each_fault_in_the_table_is_shown_by_what_it_names_and_each_cell_of_the_script_has_a_row() {
    let table = fs::read_to_string(workspace().join("tests/faults.md")).unwrap();
    let script = fs::read_to_string(workspace().join(".ci/faults.sh")).unwrap();
    let of_script: BTreeSet<&str> = script
        .lines()
        .filter(|line| {
            ["cell ", "clock_cell ", "cell_trace "].iter().any(|call| line.trim_start().starts_with(call))
        })
        .map(|line| line.split_whitespace().nth(1).unwrap())
        .collect();
    let mut tests = BTreeSet::new();
    for path in files_below(&workspace().join("tests/tests")) {
        let file = path.file_name().unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).unwrap();
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            let name = lines.clone().next().and_then(|next| next.strip_prefix("fn ")?.split('(').next());
            if let (true, Some(name)) = (line == "#[test]", name) {
                tests.insert(format!("{file} {name}"));
            }
        }
    }

    let rows: Vec<Vec<&str>> = table
        .lines()
        .filter(|line| line.starts_with("| "))
        .map(cells)
        .filter(|row| row[0] != "fault")
        .collect();
    assert!(rows.len() >= 40, "{} faults", rows.len());
    let mut shown_by_script = BTreeSet::new();
    let mut shown_by_nothing = Vec::new();
    for row in &rows {
        let [fault, operation, what, shown_by] = row[..] else { panic!("{row:?} has not four cells") };
        assert!(!fault.is_empty() && !operation.is_empty() && !what.is_empty(), "{row:?}");
        for shown in shown_by.split(',').map(|shown| shown.replace('`', "").trim().to_owned()) {
            match shown.split_once(' ') {
                Some(("faults.sh", cell)) if of_script.contains(cell) => {
                    assert!(shown_by_script.insert(cell.to_owned()), "{cell} stands in two rows");
                }
                _ if tests.contains(&shown) => {}
                _ => shown_by_nothing.push(shown),
            }
        }
    }
    assert!(shown_by_nothing.is_empty(), "there is no {shown_by_nothing:#?}");
    let without_a_row: Vec<_> = of_script.iter().filter(|cell| !shown_by_script.contains(**cell)).collect();
    assert!(without_a_row.is_empty(), "the table does not know of {without_a_row:?}");
}
