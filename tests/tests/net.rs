//! TCP on its own thread: every byte arrives, every end is seen, every error comes back.

use std::io::{ErrorKind, IoSlice, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream as StdStream};
use std::time::Duration;

use anteroom::net::{TcpListener, TcpStream, lookup_host};
use anteroom::time::{sleep, timeout};
use anteroom::{Runtime, block_on, metrics, spawn, spawn_local, yield_now};
use anteroom_tests::{Unordered, must_end, park_on};

const LONG: Duration = Duration::from_secs(10);

/// A connection, and its other end in blocking mode.
async fn pair() -> (TcpStream, StdStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let peer = StdStream::connect(listener.local_addr().unwrap()).unwrap();
    (listener.accept().await.unwrap().0, peer)
}

async fn echo(stream: TcpStream) -> usize {
    let (mut buffer, mut total) = ([0; 1_000], 0);
    loop {
        let read = stream.read(&mut buffer).await.unwrap();
        if read == 0 {
            return total;
        }
        stream.write_all(&buffer[..read]).await.unwrap();
        total += read;
    }
}

/// An accept loop that serves each connection in a task of its own.
async fn serve(listener: TcpListener, connections: usize) {
    for _ in 0..connections {
        let (stream, peer) = listener.accept().await.unwrap();
        assert!(peer.ip().is_loopback());
        drop(spawn(echo(stream)).await.unwrap());
    }
}

#[test]
fn an_accept_loop_serves_many_connections_at_once() {
    must_end(|| {
        Runtime::builder().max_tasks(300).build().unwrap().block_on(async {
            const CLIENTS: usize = 100;
            let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
            let address = listener.local_addr().unwrap();
            let server = spawn(serve(listener, CLIENTS)).await.unwrap();
            let client = |n: usize| async move {
                let stream = TcpStream::connect(address).await.unwrap();
                stream.set_nodelay(true).unwrap();
                assert!(stream.nodelay().unwrap());
                for round in 0..20 {
                    let sent = [(n + round) as u8; 300];
                    let mut got = [0; 300];
                    stream.write_all(&sent).await.unwrap();
                    stream.read_exact(&mut got).await.unwrap();
                    assert_eq!(sent, got);
                }
                assert_eq!(stream.peer_addr().unwrap(), address);
            };
            let mut clients: Unordered<_> = (0..CLIENTS).map(|n| spawn(client(n)).join()).collect();
            while let Some((_, result)) = clients.next().await {
                result.unwrap();
            }
            server.await.unwrap();
            while metrics().io_sources > 0 {
                sleep(Duration::from_millis(1)).await;
            }
        });
    });
}

#[test]
fn an_end_that_comes_with_or_after_the_data_is_seen() {
    // Edge-triggered: the end comes in the same event, in the next one, before the first look or after a partial read.
    must_end(|| {
        block_on(async {
            for (bytes, buffer) in [(0, 10), (5, 10), (10, 10), (25, 10), (1_000, 64)] {
                for closes_first in [true, false] {
                    let (stream, mut peer) = pair().await;
                    peer.write_all(&vec![3; bytes]).unwrap();
                    let mut open = Some(peer);
                    if closes_first {
                        open = None;
                        yield_now().await;
                    }
                    let (mut got, mut buffer) = (0, vec![0; buffer]);
                    while got < bytes {
                        got += timeout(LONG, stream.read(&mut buffer)).await.unwrap().unwrap();
                    }
                    if open.is_some() {
                        let waits = timeout(Duration::from_millis(2), stream.read(&mut buffer)).await;
                        assert!(waits.is_err(), "there is no more, and no end");
                        drop(open);
                    }
                    for _ in 0..3 {
                        assert_eq!(timeout(LONG, stream.read(&mut buffer)).await.unwrap().unwrap(), 0);
                    }
                    let error = stream.read_exact(&mut [0]).await.unwrap_err();
                    assert_eq!((error.kind(), got), (ErrorKind::UnexpectedEof, bytes));
                }
            }
        });
    });
}

#[test]
fn data_that_comes_between_two_reads_is_seen() {
    // [REACTOR-2]
    must_end(|| {
        block_on(async {
            let (stream, mut peer) = pair().await;
            let mut buffer = [0; 100];
            for n in 1..100 {
                // Each read gets less than it asked for, after which the runtime takes the socket for empty.
                peer.write_all(&vec![n; usize::from(n)]).unwrap();
                let mut got = 0;
                while got < usize::from(n) {
                    got += timeout(LONG, stream.read(&mut buffer)).await.unwrap().unwrap();
                }
                assert_eq!(buffer[0], n);
            }
        });
    });
}

#[test]
fn each_direction_ends_by_itself() {
    must_end(|| {
        block_on(async {
            let (stream, mut peer) = pair().await;
            stream.write_all(b"question").await.unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            let mut question = String::new();
            peer.read_to_string(&mut question).unwrap();
            peer.write_all(b"answer").unwrap();
            let mut answer = [0; 6];
            stream.read_exact(&mut answer).await.unwrap();
            assert_eq!((question.as_str(), &answer), ("question", b"answer"));
            assert_eq!(stream.write(b"x").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
            assert!(
                timeout(Duration::from_millis(2), stream.read(&mut answer)).await.is_err(),
                "the peer is there"
            );

            // A read that waits ends when this end stops reading.
            let stream = std::rc::Rc::new(stream);
            let reader = stream.clone();
            let reader = spawn_local(async move { reader.read(&mut [0; 4]).await }).await.unwrap();
            yield_now().await;
            stream.shutdown(Shutdown::Read).unwrap();
            assert_eq!(timeout(LONG, reader).await.unwrap().unwrap().unwrap(), 0);
        });
    });
}

#[test]
fn a_large_transfer_goes_both_ways_at_once() {
    const BYTES: usize = if cfg!(debug_assertions) { 4 << 20 } else { 32 << 20 };
    fn byte_at(at: usize) -> u8 {
        (at * 31 + at / 251) as u8
    }
    async fn send(stream: &TcpStream) {
        let (mut at, mut chunk) = (0, vec![0; 50_000]);
        while at < BYTES {
            let size = chunk.len().min(BYTES - at);
            chunk.iter_mut().enumerate().for_each(|(i, byte)| *byte = byte_at(at + i));
            stream.write_all(&chunk[..size]).await.unwrap();
            at += size;
        }
        stream.shutdown(Shutdown::Write).unwrap();
    }
    async fn receive(stream: &TcpStream) {
        let (mut at, mut chunk) = (0, vec![0; 30_000]);
        loop {
            let size = stream.read(&mut chunk).await.unwrap();
            assert!(chunk[..size].iter().enumerate().all(|(i, &byte)| byte == byte_at(at + i)));
            at += size;
            if size == 0 {
                break assert_eq!(at, BYTES);
            }
        }
    }
    /// Both at once in one task, over one `&TcpStream`.
    async fn exchange(stream: TcpStream) {
        use std::pin::Pin;
        let both: [Pin<Box<dyn Future<Output = ()> + Send + '_>>; 2] =
            [Box::pin(send(&stream)), Box::pin(receive(&stream))];
        let mut both: Unordered<_> = both.into_iter().collect();
        while both.next().await.is_some() {}
    }
    must_end(|| {
        block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let far = spawn(async move { exchange(listener.accept().await.unwrap().0).await }).await.unwrap();
            exchange(TcpStream::connect(address).await.unwrap()).await;
            far.await.unwrap();
        });
    });
}

#[test]
fn buffers_written_at_once_arrive_in_order() {
    block_on(async {
        let (stream, mut peer) = pair().await;
        let wrote =
            stream.write_vectored(&[IoSlice::new(b"one "), IoSlice::new(b""), IoSlice::new(b"two")]).await;
        assert_eq!(wrote.unwrap(), 7);
        assert_eq!(stream.write(b"").await.unwrap() + stream.write_vectored(&[]).await.unwrap(), 0);
        drop(stream);
        let mut got = String::new();
        peer.read_to_string(&mut got).unwrap();
        assert_eq!(got, "one two");
    });
}

#[test]
fn an_empty_read_asks_for_nothing() {
    block_on(async {
        let (stream, _peer) = pair().await;
        assert_eq!(timeout(LONG, stream.read(&mut [])).await.unwrap().unwrap(), 0);
        stream.read_exact(&mut []).await.unwrap();
        stream.write_all(b"").await.unwrap();
    });
}

#[test]
fn a_reset_reaches_readers_and_writers() {
    must_end(|| {
        block_on(async {
            for waits in [false, true] {
                let (stream, peer) = pair().await;
                let stream = std::rc::Rc::new(stream);
                let reader = stream.clone();
                let reader = spawn_local(async move { reader.read(&mut [0; 4]).await });
                let reader = reader.await.unwrap();
                if waits {
                    yield_now().await;
                }
                reset(peer);
                let error = timeout(LONG, reader).await.unwrap().unwrap().unwrap_err();
                assert_eq!(error.kind(), ErrorKind::ConnectionReset);
                let error = timeout(LONG, stream.write_all(&[0; 1_000])).await.unwrap().unwrap_err();
                assert!(
                    matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset),
                    "{error}"
                );
                assert_eq!(timeout(LONG, stream.read(&mut [0; 4])).await.unwrap().unwrap(), 0);
            }
            // A writer that waits for room.
            let (stream, peer) = pair().await;
            let writer = async move {
                while stream.write(&[0; 65_536]).await.is_ok() {}
                stream.write(&[1]).await.unwrap_err().kind()
            };
            let writer = spawn(writer).await.unwrap();
            sleep(Duration::from_millis(20)).await;
            reset(peer);
            assert_eq!(timeout(LONG, writer).await.unwrap().unwrap(), ErrorKind::BrokenPipe);
        });
    });
}

/// Closes a connection so that the other end gets an error.
fn reset(peer: StdStream) {
    use std::os::fd::AsRawFd;
    let at_once = libc::linger { l_onoff: 1, l_linger: 0 };
    let size = size_of::<libc::linger>() as libc::socklen_t;
    let value = (&raw const at_once).cast();
    // SAFETY: a system call that reads a local of ours, of the size that is given.
    let set = unsafe { libc::setsockopt(peer.as_raw_fd(), libc::SOL_SOCKET, libc::SO_LINGER, value, size) };
    assert_eq!(set, 0);
    drop(peer);
}

#[test]
fn connect_says_why_it_failed_and_leaves_nothing() {
    must_end(|| {
        block_on(async {
            let closed: SocketAddr = {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                listener.local_addr().unwrap()
            };
            for _ in 0..10 {
                let error = TcpStream::connect(closed).await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
                let code = libc::ECONNREFUSED;
                assert_eq!(error.to_string(), format!("{closed}: Connection refused (os error {code})"));
            }
            // Of the addresses of a name the last one that failed is named.
            let name = ("localhost", closed.port());
            let error = TcpStream::connect(name).await.unwrap_err();
            let last = lookup_host(name).await.unwrap().pop().unwrap();
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
            assert!(error.to_string().starts_with(&format!("{last}: ")), "{error}");
            // One that the system refuses at once, without a connection to wait for.
            let nowhere: SocketAddr = ([255, 255, 255, 255], 9).into();
            let error = TcpStream::connect(nowhere).await.unwrap_err();
            assert!(error.to_string().starts_with("255.255.255.255:9: "), "{error}");
            let error = TcpStream::connect("no port").await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert_eq!(metrics().io_sources, 0);
            // Given up halfway.
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            for _ in 0..10 {
                let connect = std::pin::pin!(TcpStream::connect(listener.local_addr().unwrap()));
                let _ = anteroom_tests::poll_once(connect);
            }
            assert_eq!(metrics().io_sources, 1);
            let taken = TcpListener::bind(listener.local_addr().unwrap()).await.unwrap_err();
            assert_eq!(taken.kind(), ErrorKind::AddrInUse);
            assert!(taken.to_string().contains(&listener.local_addr().unwrap().to_string()), "{taken}");
        });
    });
}

#[test]
fn names_are_looked_up() {
    must_end(|| {
        block_on(async {
            let listener = TcpListener::bind("localhost:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            for _ in 0..3 {
                let client = spawn(TcpStream::connect(("localhost", port))).await.unwrap();
                let (stream, _) = listener.accept().await.unwrap();
                let client = client.await.unwrap().unwrap();
                client.write_all(b"by name").await.unwrap();
                let mut got = [0; 7];
                stream.read_exact(&mut got).await.unwrap();
                assert_eq!(&got, b"by name");
            }
            let text = format!("localhost:{port}");
            assert!(lookup_host(&text).await.unwrap().iter().all(|found| found.ip().is_loopback()));
        });
    });
}

#[test]
fn a_read_that_is_given_up_loses_nothing() {
    must_end(|| {
        block_on(async {
            let (stream, mut peer) = pair().await;
            for n in 0..20 {
                let late = timeout(Duration::from_micros(200), stream.read(&mut [0; 100])).await;
                assert!(late.is_err());
                peer.write_all(&[n; 3]).unwrap();
                let mut got = [0; 3];
                timeout(LONG, stream.read_exact(&mut got)).await.unwrap().unwrap();
                assert_eq!(got, [n; 3]);
            }
        });
    });
}

#[test]
fn outside_a_runtime_what_is_accepted_is_closed_again() {
    must_end(|| {
        let listener = block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let mut peer = StdStream::connect(listener.local_addr().unwrap()).unwrap();
        let error = park_on(listener.accept()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert_eq!(peer.read(&mut [0]).unwrap(), 0);
    });
}

#[test]
fn when_no_more_sockets_may_be_watched_each_accept_takes_its_time() {
    must_end(|| {
        let runtime = Runtime::builder().max_sockets(1).paused_clock(true).build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let start = anteroom::time::now();
            for n in 1..=10 {
                let mut peer = StdStream::connect(listener.local_addr().unwrap()).unwrap();
                let error = listener.accept().await.unwrap_err();
                assert!(error.to_string().starts_with("1 sockets are open"), "{error}");
                assert_eq!(peer.read(&mut [0]).unwrap(), 0, "it is closed, and not kept waiting");
                assert_eq!(anteroom::time::now() - start, n * Duration::from_millis(50));
            }
        });
    });
}
