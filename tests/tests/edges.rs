//! Readiness against a model: whatever is done to a socket, in whatever order and on whichever thread, what has arrived is
//! read, and nobody waits beside it.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener as StdListener, TcpStream as StdStream};
use std::pin::pin;
use std::sync::mpsc;
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

use anteroom::net::TcpStream;
use anteroom::time::timeout;
use anteroom::{block_on, metrics, spawn, yield_now};
use anteroom_tests::{Gate, Hooks, must_end, poll_once, poll_with};

const LONG: Duration = Duration::from_secs(20);

fn pair() -> (TcpStream, StdStream) {
    let listener = StdListener::bind("127.0.0.1:0").unwrap();
    let stream = StdStream::connect(listener.local_addr().unwrap()).unwrap();
    let peer = listener.accept().unwrap().0;
    peer.set_nodelay(true).unwrap();
    (TcpStream::from_std(stream).unwrap(), peer)
}

/// What may happen to a socket.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// The peer writes one byte, or two.
    One,
    Two,
    /// A read of one byte, here: it may take all that is there, or less.
    Read,
    /// A read with room for more than there is: it sees the end of it.
    ReadMore,
    /// A read on another thread, which leaves a letter if there is nothing.
    ReadElsewhere,
    /// The owner takes its events and letters.
    Turn,
}

const STEPS: [Step; 6] = [Step::One, Step::Two, Step::Read, Step::ReadMore, Step::ReadElsewhere, Step::Turn];

/// Another thread that polls a read once, when it is asked to.
struct Far {
    ask: mpsc::Sender<TcpStream>,
    answer: mpsc::Receiver<(TcpStream, usize)>,
}

impl Far {
    fn new() -> Self {
        let (ask, asked) = mpsc::channel::<TcpStream>();
        let (give, answer) = mpsc::channel();
        thread::spawn(move || {
            for stream in asked {
                let read = read_now(&stream, 1);
                if give.send((stream, read)).is_err() {
                    break;
                }
            }
        });
        Self { ask, answer }
    }
}

/// One poll of a read of up to `most` bytes; how many it gave.
fn read_now(stream: &TcpStream, most: usize) -> usize {
    let mut buffer = [0; 16];
    match poll_once(pin!(stream.read(&mut buffer[..most]))) {
        Poll::Ready(read) => read.unwrap(),
        Poll::Pending => 0,
    }
}

#[test]
fn no_sequence_of_edges_reads_and_turns_leaves_a_reader_waiting_beside_its_bytes() {
    // bugs.md 45: all sequences of five steps, after each of which all that was written is read.
    const LENGTH: u32 = 5;
    must_end(|| {
        let far = Far::new();
        let sequences = STEPS.len().pow(LENGTH);
        block_on(async {
            let (mut stream, mut peer) = pair();
            for sequence in 0..sequences {
                let steps = (0..LENGTH).map(|at| STEPS[sequence / STEPS.len().pow(at) % STEPS.len()]);
                let steps: Vec<_> = steps.collect();
                let (mut written, mut read) = (0, 0);
                for step in &steps {
                    match step {
                        Step::One => written += peer.write(b"1").unwrap(),
                        Step::Two => written += peer.write(b"22").unwrap(),
                        Step::Read => read += read_now(&stream, 1),
                        Step::ReadMore => read += read_now(&stream, 16),
                        Step::ReadElsewhere => {
                            far.ask.send(stream).unwrap();
                            let got;
                            (stream, got) = far.answer.recv().unwrap();
                            read += got;
                        }
                        Step::Turn => turn().await,
                    }
                }
                // A lost edge is a wait for ever, here or in the next sequence.
                while read < written {
                    let mut buffer = [0; 16];
                    let rest = timeout(LONG, stream.read(&mut buffer[..1 + sequence % 16])).await;
                    read += rest.unwrap_or_else(|_| panic!("{read} of {written} after {steps:?}")).unwrap();
                }
                assert_eq!((read, read_now(&stream, 16)), (written, 0), "{steps:?}");
                // Each operation is one of 128 in a turn.
                yield_now().await;
            }
            assert_eq!(metrics().io_sources, 1);
        });
    });
}

/// Lets the owner look at its inbox and its driver, which it does every 64 polls at most; an edge that has come is taken
/// when 100 µs have passed.
async fn turn() {
    let start = Instant::now();
    while start.elapsed() < Duration::from_micros(120) {
        yield_now().await;
    }
}

#[test]
fn a_hundred_thousand_single_bytes_arrive_whoever_reads_them() {
    // bugs.md 45: more edges on one socket than a count of sixteen bits holds, each raced by the read before it; or as many
    // as a busy machine does in four seconds.
    must_end(|| {
        block_on(async {
            let (stream, mut peer) = pair();
            let (ours, theirs) = (stream, peer.try_clone().unwrap());
            let echo = thread::spawn(move || {
                let (mut from, mut to) = (theirs.try_clone().unwrap(), theirs);
                let mut byte = [0];
                loop {
                    match from.read(&mut byte) {
                        Ok(1) => to.write_all(&byte).unwrap(),
                        Ok(_) => break,
                        Err(error) => assert_eq!(error.kind(), ErrorKind::Interrupted),
                    }
                }
            });
            let start = Instant::now();
            let reader = spawn(async move {
                let mut rounds = 0_u32;
                while rounds < 100_000 && start.elapsed() < Duration::from_secs(4) {
                    let (sent, mut got) = ([rounds as u8], [0; 2]);
                    ours.write_all(&sent).await.unwrap();
                    let read = timeout(LONG, ours.read(&mut got)).await.expect("no edge is lost").unwrap();
                    assert_eq!((read, got[0]), (1, sent[0]));
                    rounds += 1;
                }
                rounds
            });
            let rounds = reader.join().await.unwrap();
            println!("{rounds} rounds");
            assert!(rounds > 100);
            let _ = peer.write(b"");
            echo.join().unwrap();
        });
    });
}

#[test]
fn what_arrives_between_a_read_elsewhere_and_its_letter_is_told() {
    // bugs.md 45: the read found nothing, then the byte comes and the owner, who sleeps, takes its edge; and only then does
    // the owner learn that somebody waits for one.
    must_end(|| {
        block_on(async {
            let (stream, peer) = pair();
            let done = Gate::new();
            let opened = done.clone();
            let far = thread::spawn(move || {
                for round in 0..300_u32 {
                    let (waker, hooks) = Hooks::new();
                    let (told, at_told) = mpsc::channel();
                    let mut from = peer.try_clone().unwrap();
                    // A waker is cloned after the read and before the letter.
                    hooks.on_clone(move || {
                        from.write_all(b"x").unwrap();
                        let start = Instant::now();
                        while start.elapsed() < Duration::from_micros(u64::from(round % 20) * 20) {
                            std::hint::spin_loop();
                        }
                    });
                    hooks.on_wake(move || _ = told.send(()));
                    let mut buffer = [0; 2];
                    let mut read = Box::pin(stream.read(&mut buffer));
                    assert!(poll_with(read.as_mut(), &waker).is_pending());
                    at_told.recv_timeout(LONG).unwrap_or_else(|_| panic!("round {round}: nobody was told"));
                    assert!(matches!(poll_once(read.as_mut()), Poll::Ready(Ok(1))), "and it is there");
                }
                opened.open();
                stream
            });
            done.wait().await;
            drop(far.join().unwrap());
        });
    });
}
