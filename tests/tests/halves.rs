//! Both directions of a connection at once: by its halves, by its polls, and what a peek leaves.

use std::future::poll_fn;
use std::io::{ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::net::{Shutdown, TcpStream as StdStream};
use std::pin::pin;
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use anteroom::net::{ReadHalf, ReuniteError, TcpListener, TcpStream, WriteHalf};
use anteroom::time::timeout;
use anteroom::{Runtime, block_on, metrics, spawn};
use anteroom_tests::{Wakes, elsewhere, look_around, must_end, park_on, poll_once};

const LONG: Duration = Duration::from_secs(10);

/// A connection, and its other end in blocking mode.
async fn pair() -> (TcpStream, StdStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let peer = StdStream::connect(listener.local_addr().unwrap()).unwrap();
    (listener.accept().await.unwrap().0, peer)
}

/// Writes `rounds` chunks and lets the direction end with its half.
async fn talk(mut writer: WriteHalf, rounds: usize) {
    for round in 0..rounds {
        writer.write_all(&[round as u8; 50_000]).await.unwrap();
    }
}

/// Reads what `talk` wrote, and then the end.
async fn listen(mut reader: ReadHalf, rounds: usize) {
    let mut chunk = vec![0; 50_000];
    for round in 0..rounds {
        reader.read_exact(&mut chunk).await.unwrap();
        assert!(chunk.iter().all(|&byte| byte == round as u8));
    }
    assert_eq!(reader.read(&mut chunk).await.unwrap(), 0);
}

#[test]
fn each_half_works_in_a_task_of_its_own() {
    const ROUNDS: usize = if cfg!(debug_assertions) { 200 } else { 2_000 };
    must_end(|| {
        block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let (far, _) = listener.accept().await.unwrap();
            drop(listener);
            let mut tasks = Vec::new();
            for (reader, writer) in [near.into_split(), far.into_split()] {
                tasks.push(spawn(talk(writer, ROUNDS)).await.unwrap());
                tasks.push(spawn(listen(reader, ROUNDS)).await.unwrap());
            }
            for task in tasks {
                task.await.unwrap();
            }
            assert_eq!(metrics().io_sources, 0, "the last half closes the connection");
        });
    });
}

#[test]
fn each_half_works_on_a_thread_or_in_a_runtime_of_its_own() {
    const ROUNDS: usize = 50;
    must_end(|| {
        block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let (far, _) = listener.accept().await.unwrap();
            let ((near_reader, near_writer), (far_reader, far_writer)) =
                (near.into_split(), far.into_split());
            let threads = [
                thread::spawn(move || park_on(talk(near_writer, ROUNDS))),
                thread::spawn(move || block_on(listen(far_reader, ROUNDS))),
                thread::spawn(move || Runtime::new().unwrap().block_on(talk(far_writer, ROUNDS))),
            ];
            timeout(6 * LONG, listen(near_reader, ROUNDS)).await.unwrap();
            for thread in threads {
                while !thread.is_finished() {
                    anteroom::time::sleep(Duration::from_millis(1)).await;
                }
                thread.join().unwrap();
            }
            drop(listener);
            look_around().await;
            assert_eq!(metrics().io_sources, 0);
        });
    });
}

#[test]
fn dropping_the_writing_half_ends_its_direction_and_no_other() {
    must_end(|| {
        block_on(async {
            for dropped_elsewhere in [false, true] {
                let (stream, mut peer) = pair().await;
                let (mut reader, mut writer) = stream.into_split();
                writer.write_all(b"all").await.unwrap();
                if dropped_elsewhere {
                    elsewhere(|| drop(writer))
                } else {
                    drop(writer)
                }
                let mut all = String::new();
                peer.read_to_string(&mut all).unwrap();
                assert_eq!(all, "all");
                peer.write_all(b"answer").unwrap();
                let mut answer = [0; 6];
                timeout(LONG, reader.read_exact(&mut answer)).await.unwrap().unwrap();
                assert_eq!(&answer, b"answer");
                assert_eq!(metrics().io_sources, 1);
                drop(reader);
                assert_eq!(metrics().io_sources, 0);
            }
        });
    });
}

#[test]
fn dropping_the_reading_half_ends_nothing() {
    must_end(|| {
        block_on(async {
            let (stream, mut peer) = pair().await;
            let (reader, mut writer) = stream.into_split();
            drop(reader);
            peer.write_all(b"nobody reads this").unwrap();
            for _ in 0..3 {
                writer.write_all(b"hello").await.unwrap();
                let mut got = [0; 5];
                peer.read_exact(&mut got).unwrap();
                assert_eq!(&got, b"hello");
            }
            assert_eq!(writer.as_ref().peer_addr().unwrap(), peer.local_addr().unwrap());
        });
    });
}

#[test]
fn halves_that_are_put_together_have_ended_nothing() {
    must_end(|| {
        block_on(async {
            let (stream, mut peer) = pair().await;
            let (reader, writer) = stream.into_split();
            let (reader, writer) = reader.reunite(writer).unwrap().into_split();
            let stream = writer.reunite(reader).unwrap();
            stream.write_all(b"still here").await.unwrap();
            let mut got = [0; 10];
            peer.read_exact(&mut got).unwrap();
            peer.write_all(&got).unwrap();
            timeout(LONG, stream.read_exact(&mut got)).await.unwrap().unwrap();
            assert_eq!((&got, metrics().io_sources), (b"still here", 1));
            // Now its drop is the connection's end, and no half's.
            drop(stream);
            assert_eq!((peer.read(&mut got).unwrap(), metrics().io_sources), (0, 0));
        });
    });
}

#[test]
fn halves_of_two_connections_come_back_unharmed() {
    must_end(|| {
        block_on(async {
            let ((one, mut one_peer), (other, mut other_peer)) = (pair().await, pair().await);
            let ((one_reader, one_writer), (other_reader, other_writer)) =
                (one.into_split(), other.into_split());
            let ReuniteError(one_reader, other_writer) = one_reader.reunite(other_writer).unwrap_err();
            let ReuniteError(other_reader, one_writer) = one_writer.reunite(other_reader).unwrap_err();
            let (one, other) =
                (one_reader.reunite(one_writer).unwrap(), other_reader.reunite(other_writer).unwrap());
            one.write_all(b"1").await.unwrap();
            other.write_all(b"2").await.unwrap();
            let mut got = [0; 1];
            one_peer.read_exact(&mut got).unwrap();
            assert_eq!(&got, b"1");
            other_peer.read_exact(&mut got).unwrap();
            assert_eq!(&got, b"2");
        });
    });
}

#[test]
fn a_direction_may_be_ended_twice_and_after_the_connection() {
    must_end(|| {
        block_on(async {
            let (stream, mut peer) = pair().await;
            let (mut reader, mut writer) = stream.into_split();
            writer.shutdown().unwrap();
            writer.shutdown().unwrap();
            assert_eq!(writer.write(b"x").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
            assert_eq!(peer.read(&mut [0]).unwrap(), 0);
            drop(peer);
            assert_eq!(timeout(LONG, reader.read(&mut [0])).await.unwrap().unwrap(), 0);
            // Both directions have ended: by now the system says that there is no connection.
            while writer.as_ref().shutdown(Shutdown::Write).is_ok() {
                anteroom::yield_now().await;
            }
            writer.shutdown().unwrap();
            let stream = writer.reunite(reader).unwrap();
            assert_eq!(stream.shutdown(Shutdown::Write).unwrap_err().kind(), ErrorKind::NotConnected);
        });
    });
}

#[test]
fn a_poll_waits_for_its_own_direction_and_the_last_one_is_woken() {
    must_end(|| {
        block_on(async {
            let (stream, mut peer) = pair().await;
            // Nothing to read, and no room to write.
            while poll_once(pin!(stream.write(&[0; 65_536]))).is_ready() {}
            let [(first, first_told), (last, last_told), (writer, writer_told)] =
                [Wakes::new(), Wakes::new(), Wakes::new()];
            for waker in [&first, &last] {
                assert!(stream.poll_read(&mut Context::from_waker(waker), &mut [0]).is_pending());
            }
            assert!(stream.poll_write(&mut Context::from_waker(&writer), &[0]).is_pending());
            peer.write_all(b"x").unwrap();
            while last_told.count() == 0 {
                anteroom::time::sleep(Duration::from_millis(1)).await;
            }
            assert_eq!((first_told.count(), last_told.count()), (0, 1));
            // Nothing is asked of the system for nothing.
            let mut cx = Context::from_waker(&first);
            assert!(matches!(stream.poll_read(&mut cx, &mut []), Poll::Ready(Ok(0))));
            assert!(matches!(stream.poll_peek(&mut cx, &mut []), Poll::Ready(Ok(0))));
            assert!(matches!(stream.poll_write(&mut cx, &[]), Poll::Ready(Ok(0))));
            assert!(matches!(stream.poll_write_vectored(&mut cx, &[IoSlice::new(&[])]), Poll::Ready(Ok(0))));
            assert!(matches!(stream.poll_read_vectored(&mut cx, &mut []), Poll::Ready(Ok(0))));
            let mut got = [0; 9];
            assert!(matches!(stream.poll_read(&mut cx, &mut got), Poll::Ready(Ok(1))));
            // Room for the writer.
            let drain = thread::spawn(move || {
                let mut sink = vec![0; 1 << 20];
                while peer.read(&mut sink).unwrap() > 0 {}
            });
            while writer_told.count() == 0 {
                anteroom::time::sleep(Duration::from_millis(1)).await;
            }
            assert!(matches!(stream.poll_write(&mut cx, &[0]), Poll::Ready(Ok(1))));
            drop(stream);
            drain.join().unwrap();
        });
    });
}

#[test]
fn what_was_peeked_at_stays_and_no_edge_is_lost_over_it() {
    // [REACTOR-2]
    must_end(|| {
        block_on(async {
            let (stream, mut peer) = pair().await;
            assert!(poll_once(pin!(stream.peek(&mut [0; 8]))).is_pending());
            for n in 1..50_u8 {
                peer.write_all(&[n; 3]).unwrap();
                let mut got = [0; 8];
                for _ in 0..3 {
                    assert!(timeout(LONG, stream.peek(&mut got)).await.unwrap().unwrap() > 0);
                    assert_eq!(got[0], n);
                }
                let mut left = 3;
                while left > 0 {
                    left -= timeout(LONG, stream.read(&mut got)).await.unwrap().unwrap();
                }
            }
            drop(peer);
            assert_eq!(timeout(LONG, stream.peek(&mut [0; 8])).await.unwrap().unwrap(), 0);
            assert_eq!(timeout(LONG, stream.read(&mut [0; 8])).await.unwrap().unwrap(), 0);
        });
    });
}

#[test]
fn several_buffers_are_filled_in_order_and_no_edge_is_lost_over_them() {
    // [REACTOR-2]
    must_end(|| {
        block_on(async {
            let (stream, mut peer) = pair().await;
            let (mut reader, mut writer) = stream.into_split();
            for round in 0..50_u8 {
                peer.write_all(&[round, 2, 3, 4, 5]).unwrap();
                let mut got = Vec::new();
                while got.len() < 5 {
                    let (mut one, mut two, mut three) = ([0; 2], [0; 0], [0; 1]);
                    let mut buffers =
                        [IoSliceMut::new(&mut one), IoSliceMut::new(&mut two), IoSliceMut::new(&mut three)];
                    let read = timeout(LONG, reader.read_vectored(&mut buffers)).await.unwrap().unwrap();
                    got.extend([&one[..], &three[..]].concat()[..read].iter().copied());
                }
                assert_eq!(got, [round, 2, 3, 4, 5]);
                let sent = writer.write_vectored(&[IoSlice::new(&got[..1]), IoSlice::new(&got[1..])]).await;
                let mut back = vec![0; sent.unwrap()];
                peer.read_exact(&mut back).unwrap();
                assert_eq!(back, got[..back.len()]);
            }
            let ended = poll_fn(|cx| reader.poll_read(cx, &mut []));
            assert_eq!(ended.await.unwrap() + poll_fn(|cx| writer.poll_write(cx, &[])).await.unwrap(), 0);
        });
    });
}
