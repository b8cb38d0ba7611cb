//! The traits of futures-io: what is generic over readers and writers works on our connections.

use std::io::{ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::net::TcpStream as StdStream;
use std::pin::Pin;
use std::time::Duration;

use anteroom::net::{ReadHalf, TcpListener, TcpStream, WriteHalf};
use anteroom::time::timeout;
use anteroom::{block_on, metrics, spawn};
use anteroom_tests::must_end;
use futures_util::future::join;
use futures_util::io::{
    AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, BufWriter, copy, copy_buf,
};

const LONG: Duration = Duration::from_secs(10);
const BYTES: usize = if cfg!(debug_assertions) { 2 << 20 } else { 32 << 20 };

/// A connection, and its other end in blocking mode.
async fn pair() -> (TcpStream, StdStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let peer = StdStream::connect(listener.local_addr().unwrap()).unwrap();
    (listener.accept().await.unwrap().0, peer)
}

/// Both ends here.
async fn near_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (near, listener.accept().await.unwrap().0)
}

fn byte_at(at: usize) -> u8 {
    (at * 31 + at / 251) as u8
}

/// Writes and reads at once, and ends its direction: as code does that knows nothing of anteroom.
async fn exchange<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(mut reader: R, mut writer: W) {
    let sent: Vec<u8> = (0..BYTES).map(byte_at).collect();
    let sends = async {
        writer.write_all(&sent).await.unwrap();
        writer.flush().await.unwrap();
        writer.close().await.unwrap();
    };
    let mut got = Vec::new();
    join(sends, async { reader.read_to_end(&mut got).await.unwrap() }).await;
    assert!(got == sent, "{} of {BYTES} bytes", got.len());
}

/// Sends back what comes.
async fn echo<R: AsyncRead, W: AsyncWrite + Unpin>(reader: R, mut writer: W) -> u64 {
    let bytes = copy(reader, &mut writer).await.unwrap();
    writer.close().await.unwrap();
    bytes
}

#[test]
fn a_copy_runs_over_references_to_one_connection() {
    must_end(|| {
        block_on(async {
            let (near, far) = near_pair().await;
            let server = spawn(async move { echo(&far, &mut &far).await }).await.unwrap();
            exchange(&near, &near).await;
            assert_eq!(server.await.unwrap(), BYTES as u64);
        });
    });
}

#[test]
fn a_copy_runs_over_owned_halves_in_two_tasks() {
    must_end(|| {
        block_on(async {
            let (near, far) = near_pair().await;
            let (reader, writer) = far.into_split();
            let server = spawn(echo(reader, writer)).await.unwrap();
            let (reader, writer) = near.into_split();
            let client = spawn(exchange(reader, writer)).await.unwrap();
            client.await.unwrap();
            assert_eq!((server.await.unwrap(), metrics().io_sources), (BYTES as u64, 0));
        });
    });
}

#[test]
fn the_split_of_futures_util_works_on_a_connection() {
    must_end(|| {
        block_on(async {
            let (near, far) = near_pair().await;
            let (reader, writer) = AsyncReadExt::split(far);
            let server = spawn(echo(reader, writer)).await.unwrap();
            let (reader, writer) = AsyncReadExt::split(near);
            exchange(reader, writer).await;
            server.await.unwrap();
        });
    });
}

#[test]
fn buffers_around_connections_see_every_line_and_the_end() {
    must_end(|| {
        block_on(async {
            let (near, far) = near_pair().await;
            let (reader, writer) = far.into_split();
            let server = spawn(async move {
                let mut writer = BufWriter::with_capacity(100, writer);
                let mut lines = BufReader::with_capacity(10, reader);
                let mut line = String::new();
                while lines.read_line(&mut line).await.unwrap() > 0 {
                    writer.write_all(line.to_uppercase().as_bytes()).await.unwrap();
                    line.clear();
                }
                writer.close().await.unwrap();
            });
            let server = server.await.unwrap();
            for n in 0..1_000 {
                near.write_all(format!("line {n}\n").as_bytes()).await.unwrap();
            }
            Pin::new(&mut &near).close().await.unwrap();
            let mut got = Vec::new();
            copy_buf(BufReader::new(&near), &mut got).await.unwrap();
            let all: String = (0..1_000).map(|n| format!("LINE {n}\n")).collect();
            assert_eq!(String::from_utf8(got).unwrap(), all);
            server.await.unwrap();
        });
    });
}

#[test]
fn closing_ends_one_direction_and_may_be_done_again() {
    async fn closes(mut writer: impl AsyncWrite + Unpin, peer: &mut StdStream) {
        writer.write_all(b"last").await.unwrap();
        for _ in 0..3 {
            writer.close().await.unwrap();
        }
        assert_eq!(writer.write(b"x").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
        let mut got = String::new();
        peer.read_to_string(&mut got).unwrap();
        assert_eq!(got, "last");
        // Closed or not, flushing has nothing to do.
        writer.flush().await.unwrap();
    }
    async fn hears(mut reader: impl AsyncRead + Unpin, mut peer: StdStream) {
        peer.write_all(b"answer").unwrap();
        drop(peer);
        let mut got = String::new();
        timeout(LONG, reader.read_to_string(&mut got)).await.unwrap().unwrap();
        assert_eq!(got, "answer");
    }
    must_end(|| {
        block_on(async {
            let (stream, mut peer) = pair().await;
            closes(&stream, &mut peer).await;
            hears(&stream, peer).await;
            // After the peer's end, too.
            while stream.shutdown(std::net::Shutdown::Write).is_ok() {
                anteroom::yield_now().await;
            }
            AsyncWriteExt::close(&mut &stream).await.unwrap();

            let (mut stream, mut peer) = pair().await;
            closes(&mut stream, &mut peer).await;
            hears(stream, peer).await;

            let (stream, mut peer) = pair().await;
            let (reader, writer) = stream.into_split();
            closes(writer, &mut peer).await;
            hears(reader, peer).await;
        });
    });
}

#[test]
fn several_buffers_go_in_one_call() {
    must_end(|| {
        block_on(async {
            let (stream, mut peer) = pair().await;
            let (mut reader, mut writer): (ReadHalf, WriteHalf) = stream.into_split();
            let buffers = [IoSlice::new(b"one "), IoSlice::new(b""), IoSlice::new(b"two")];
            let wrote = AsyncWriteExt::write_vectored(&mut writer, &buffers).await.unwrap();
            assert_eq!(wrote, 7, "the default of the trait would write the first alone");
            let mut got = [0; 7];
            peer.read_exact(&mut got).unwrap();
            peer.write_all(&got).unwrap();
            let (mut one, mut two) = ([0; 4], [0; 3]);
            let mut buffers = [IoSliceMut::new(&mut one), IoSliceMut::new(&mut two)];
            // Loopback hands over in one piece what was written in one.
            assert_eq!(AsyncReadExt::read_vectored(&mut reader, &mut buffers).await.unwrap(), 7);
            assert_eq!((&one, &two), (b"one ", b"two"));
        });
    });
}

#[test]
fn a_reader_that_is_given_up_loses_nothing() {
    must_end(|| {
        block_on(async {
            let (mut stream, mut peer) = pair().await;
            for n in 0..20 {
                let mut nothing = [0; 9];
                let late = timeout(Duration::from_micros(200), AsyncReadExt::read(&mut stream, &mut nothing));
                assert!(late.await.is_err());
                peer.write_all(&[n; 3]).unwrap();
                let mut got = [0; 3];
                let read = AsyncReadExt::read_exact(&mut stream, &mut got);
                timeout(LONG, read).await.unwrap().unwrap();
                assert_eq!(got, [n; 3]);
            }
        });
    });
}
