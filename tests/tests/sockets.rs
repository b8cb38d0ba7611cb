//! Sockets away from home: on other threads, in other runtimes, after their runtime is gone, and what they leave behind.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener as StdListener, TcpStream as StdStream};
use std::os::fd::OwnedFd;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anteroom::net::{TcpListener, TcpStream};
use anteroom::time::{sleep, timeout};
use anteroom::{Runtime, block_on, metrics, spawn, yield_now};
use anteroom_tests::{Wakes, elsewhere, look_around, must_end, park_on, poll_once, poll_with};

const LONG: Duration = Duration::from_secs(10);

/// A connection that this runtime watches, and its other end in blocking mode.
fn pair() -> (TcpStream, StdStream) {
    let listener = StdListener::bind("127.0.0.1:0").unwrap();
    let stream = StdStream::connect(listener.local_addr().unwrap()).unwrap();
    (TcpStream::from_std(stream).unwrap(), listener.accept().unwrap().0)
}

#[test]
fn a_socket_works_on_another_thread() {
    must_end(|| {
        block_on(async {
            let (stream, mut peer) = pair();
            let far = thread::spawn(move || {
                park_on(async {
                    for n in 0..200 {
                        let mut got = [0; 10];
                        stream.read_exact(&mut got).await.unwrap();
                        assert_eq!(got, [n; 10]);
                        stream.write_all(&got).await.unwrap();
                    }
                });
                stream
            });
            // The owner sleeps and is woken for what the other thread asks.
            let client = anteroom::spawn_blocking(move || {
                for n in 0..200 {
                    peer.write_all(&[n; 10]).unwrap();
                    peer.read_exact(&mut [0; 10]).unwrap();
                }
                peer
            });
            let mut peer = client.await.unwrap();
            while !far.is_finished() {
                yield_now().await;
            }
            // And here again.
            let stream = far.join().unwrap();
            peer.write_all(b"home").unwrap();
            let mut got = [0; 4];
            timeout(LONG, stream.read_exact(&mut got)).await.unwrap().unwrap();
            assert_eq!(&got, b"home");
        });
    });
}

#[test]
fn a_socket_works_in_another_runtime() {
    must_end(|| {
        let (to_other, at_other) = mpsc::channel::<(TcpStream, TcpListener)>();
        let other = thread::spawn(move || {
            block_on(async {
                let (stream, listener) = at_other.recv().unwrap();
                let reader = spawn(async move {
                    let mut got = [0; 5];
                    stream.read_exact(&mut got).await.unwrap();
                    got
                });
                let reader = reader.await.unwrap();
                // What is accepted belongs to the runtime that accepts it.
                let (accepted, _) = listener.accept().await.unwrap();
                assert_eq!(metrics().io_sources, 1);
                accepted.write_all(b"hello").await.unwrap();
                assert_eq!(&reader.await.unwrap(), b"hello");
            });
        });
        block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let (stream, mut peer) = pair();
            to_other.send((stream, listener)).unwrap();
            let client = TcpStream::connect(address).await.unwrap();
            let mut got = [0; 5];
            client.read_exact(&mut got).await.unwrap();
            peer.write_all(&got).unwrap();
            while !other.is_finished() {
                sleep(Duration::from_millis(1)).await;
            }
            other.join().unwrap();
            drop(client);
            look_around().await;
            assert_eq!(metrics().io_sources, 0);
        });
    });
}

#[test]
fn a_socket_dropped_elsewhere_is_closed_there_and_forgotten_here() {
    must_end(|| {
        block_on(async {
            let (streams, mut peers): (Vec<_>, Vec<_>) = (0..50).map(|_| pair()).unzip();
            assert_eq!(metrics().io_sources, 50);
            elsewhere(|| drop(streams));
            for peer in &mut peers {
                assert_eq!(peer.read(&mut [0]).unwrap(), 0, "it is closed at once");
            }
            look_around().await;
            assert_eq!(metrics().io_sources, 0);
        });
    });
}

#[test]
fn a_poll_elsewhere_does_not_make_the_next_socket_deaf() {
    // The owner finds the question of a socket that is gone, and whose number another has by now.
    must_end(|| {
        block_on(async {
            let mut reused = 0;
            while reused < 3 {
                let (old, _old_peer) = pair();
                let number = number_of(&old);
                let old = elsewhere(move || {
                    assert!(poll_once(std::pin::pin!(old.read(&mut [0]))).is_pending());
                    old
                });
                drop(old);
                let (new, mut peer) = pair();
                // The system gives the lowest number that is free, unless another test has just taken it.
                reused += u32::from(number_of(&new) == number);
                look_around().await;
                let writer = thread::spawn(move || (peer.write_all(b"x"), peer));
                timeout(LONG, new.read_exact(&mut [0])).await.expect("it hears").unwrap();
                drop(writer.join().unwrap());
            }
        });
    });
}

/// The number of a socket's file in this process, which the port that it is bound to tells.
fn number_of(stream: &TcpStream) -> u16 {
    let port = stream.local_addr().unwrap().port();
    let is_it = |number: &u16| {
        let any = libc::in_addr { s_addr: 0 };
        let mut address = libc::sockaddr_in { sin_family: 0, sin_port: 0, sin_addr: any, sin_zero: [0; 8] };
        let mut size = size_of::<libc::sockaddr_in>() as libc::socklen_t;
        // SAFETY: a system call that writes into a local of ours, of the size that is given.
        let found =
            unsafe { libc::getsockname(i32::from(*number), (&raw mut address).cast(), &raw mut size) };
        found == 0 && u16::from_be(address.sin_port) == port
    };
    (3..1_024).find(is_it).expect("it is open")
}

#[test]
fn a_duplicate_dropped_elsewhere_can_be_duplicated_again() {
    // bugs.md 46: the system keeps a file in its list as long as any duplicate is open.
    must_end(|| {
        block_on(async {
            let listener = StdListener::bind("127.0.0.1:0").unwrap();
            for _ in 0..20 {
                let duplicate = TcpListener::from_std(listener.try_clone().unwrap()).unwrap();
                elsewhere(|| drop(duplicate));
            }
            let duplicate = TcpListener::from_std(listener.try_clone().unwrap()).unwrap();
            let _client = StdStream::connect(listener.local_addr().unwrap()).unwrap();
            timeout(LONG, duplicate.accept()).await.unwrap().unwrap();
            look_around().await;
            assert_eq!(metrics().io_sources, 1);
        });
    });
}

#[test]
fn a_registration_that_fails_leaves_nothing() {
    // bugs.md 48: the system does not watch plain files.
    block_on(async {
        let before = files_open();
        for _ in 0..20 {
            let file = std::fs::File::open("/proc/self/exe").unwrap();
            let error = TcpStream::from_std(StdStream::from(OwnedFd::from(file))).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::PermissionDenied);
            let file = std::fs::File::open("/proc/self/exe").unwrap();
            assert!(TcpListener::from_std(StdListener::from(OwnedFd::from(file))).is_err());
        }
        assert_eq!((metrics().io_sources, files_open()), (0, before));
    });
}

/// Plain files that are open; other tests of this process open none.
fn files_open() -> usize {
    let target = |file: std::io::Result<std::fs::DirEntry>| std::fs::read_link(file.ok()?.path()).ok();
    let files = std::fs::read_dir("/proc/self/fd").unwrap().filter_map(target);
    let program = std::fs::read_link("/proc/self/exe").unwrap();
    files.filter(|target| *target == program).count()
}

#[test]
fn a_socket_that_outlives_its_runtime_works_until_it_would_wait() {
    must_end(|| {
        let runtime = Runtime::new().unwrap();
        let ((stream, mut peer), listener) = runtime.block_on(async {
            let pair = pair();
            (pair, TcpListener::bind("127.0.0.1:0").await.unwrap())
        });
        drop(runtime);
        let gone = |error: std::io::Error| {
            assert_eq!(error.kind(), ErrorKind::NotConnected);
            assert!(error.to_string().contains("runtime of this socket was dropped"));
        };
        for inside in [false, true] {
            let check = async {
                peer.write_all(b"data").unwrap();
                let mut got = [0; 4];
                stream.read_exact(&mut got).await.unwrap();
                stream.write_all(&got).await.unwrap();
                peer.read_exact(&mut got).unwrap();
                gone(stream.read(&mut got).await.unwrap_err());
                gone(listener.accept().await.unwrap_err());
            };
            // In a runtime that has the same home, and in none.
            if inside { block_on(check) } else { park_on(check) }
        }
        loop {
            match park_on(stream.write(&[0; 65_536])) {
                Ok(wrote) => assert!(wrote > 0),
                Err(error) => break gone(error),
            }
        }
    });
}

#[test]
fn whoever_waits_for_a_socket_is_told_when_its_runtime_ends() {
    must_end(|| {
        let (to_other, at_other) = mpsc::channel::<TcpListener>();
        let (ready, go) = mpsc::channel();
        let other = thread::spawn(move || {
            let listener = at_other.recv().unwrap();
            let accept = spawn(async move { listener.accept().await.map(drop) });
            block_on(async {
                let accept = accept.await.unwrap();
                yield_now().await;
                ready.send(()).unwrap();
                accept.await.unwrap().unwrap_err().kind()
            })
        });
        let runtime = Runtime::new().unwrap();
        let (near, (waker, told)) = runtime.block_on(async {
            to_other.send(TcpListener::bind("127.0.0.1:0").await.unwrap()).unwrap();
            go.recv().unwrap();
            look_around().await;
            (TcpListener::bind("127.0.0.1:0").await.unwrap(), Wakes::new())
        });
        let mut accept = Box::pin(near.accept());
        runtime.block_on(async { assert!(poll_with(accept.as_mut(), &waker).is_pending()) });
        drop(runtime);
        assert_eq!(other.join().unwrap(), ErrorKind::NotConnected);
        assert_eq!(told.count(), 1);
        assert_eq!(park_on(accept).unwrap_err().kind(), ErrorKind::NotConnected);
    });
}

#[test]
fn sockets_that_come_and_go_keep_apart() {
    // bugs.md 46: numbers and slots are reused at once, while events of their last owner are on the way.
    // [REACTOR-1]
    must_end(|| {
        block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let start = Instant::now();
            for n in 0..300_u32 {
                let client = TcpStream::connect(address).await.unwrap();
                let (server, _) = listener.accept().await.unwrap();
                client.write_all(&n.to_be_bytes()).await.unwrap();
                if n % 3 == 0 {
                    continue; // Closed with data on the way.
                }
                let mut got = [0; 4];
                timeout(LONG, server.read_exact(&mut got)).await.unwrap().unwrap();
                assert_eq!(u32::from_be_bytes(got), n);
                drop(client);
                assert_eq!(timeout(LONG, server.read(&mut got)).await.unwrap().unwrap(), 0);
            }
            assert!(start.elapsed() < LONG);
            assert_eq!(metrics().io_sources, 1);
        });
    });
}

#[test]
fn many_threads_may_use_one_socket_at_once() {
    // A stream is Sync: reads here and writes there, and polls that take each other's place leave no wake behind.
    must_end(|| {
        block_on(async {
            let (stream, mut peer) = pair();
            let stream = std::sync::Arc::new(stream);
            let writers: Vec<_> = (0..3)
                .map(|n| {
                    let stream = stream.clone();
                    thread::spawn(move || {
                        for _ in 0..500 {
                            assert_eq!(park_on(stream.write(&[n])).unwrap(), 1);
                        }
                    })
                })
                .collect();
            let sink = thread::spawn(move || {
                let mut all = vec![0; 1_500];
                peer.read_exact(&mut all).unwrap();
                peer.write_all(b"done").unwrap();
                all
            });
            let mut done = [0; 4];
            stream.read_exact(&mut done).await.unwrap();
            let all = sink.join().unwrap();
            for n in 0..3 {
                assert_eq!(all.iter().filter(|&&byte| byte == n).count(), 500);
            }
            writers.into_iter().for_each(|writer| writer.join().unwrap());
        });
    });
}

#[test]
fn a_socket_taken_over_from_std_does_not_block() {
    block_on(async {
        let (stream, _peer) = pair();
        assert!(poll_once(std::pin::pin!(stream.read(&mut [0]))).is_pending());
        let listener = TcpListener::from_std(StdListener::bind("127.0.0.1:0").unwrap()).unwrap();
        assert!(poll_once(std::pin::pin!(listener.accept())).is_pending());
    });
}
