//! Clients that are slow on purpose, and what they cost one that is not.
//!
//! A file of its own, since it measures time: nothing else runs in its process.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream as StdStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anteroom::net::{TcpListener, TcpStream};
use anteroom::{Runtime, metrics, spawn, spawn_service};
use anteroom_tests::must_end;

const SLOW_CLIENTS: usize = 1_000;
const REQUEST: usize = 64;
/// Of each kind in turn, so that whatever else the machine does falls on both.
const ROUNDS: usize = 6;
const ROUND_TRIPS: usize = 500;
const TRIES: usize = 3;

/// Answers whole requests, as servers do; a slow client's takes a minute.
async fn serve(stream: TcpStream) -> std::io::Result<()> {
    let mut request = [0; REQUEST];
    loop {
        stream.read_exact(&mut request).await?;
        stream.write_all(&request).await?;
    }
}

/// The 99th percentile of what a good client waits for an answer.
fn good_client(stream: &mut StdStream) -> Duration {
    let mut waits: Vec<_> = (0..ROUND_TRIPS)
        .map(|n| {
            // Paced, so that a round lasts and meets many of the slow ones' bytes.
            thread::sleep(Duration::from_micros(500));
            let (sent, mut got) = ([n as u8; REQUEST], [0; REQUEST]);
            let start = Instant::now();
            stream.write_all(&sent).unwrap();
            stream.read_exact(&mut got).unwrap();
            assert_eq!(sent, got);
            start.elapsed()
        })
        .collect();
    waits.sort_unstable();
    waits[ROUND_TRIPS * 99 / 100]
}

/// A thousand connections, each of which sends a byte a second, while `work` runs.
fn among_slow_clients<T>(address: SocketAddr, work: impl FnOnce() -> T) -> T {
    // Each has been served once, so that no backlog overflows: the system would try again after a second.
    let join = |_| {
        let mut stream = StdStream::connect(address).unwrap();
        stream.write_all(&[0; REQUEST]).unwrap();
        stream.read_exact(&mut [0; REQUEST]).unwrap();
        stream
    };
    let mut slow: Vec<_> = (0..SLOW_CLIENTS).map(join).collect();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let (start, mut sent) = (Instant::now(), 0);
            while !done.load(Ordering::SeqCst) {
                // As many as are due by now, one from each in turn.
                while sent < start.elapsed().as_millis() as usize * SLOW_CLIENTS / 1_000 {
                    slow[sent % SLOW_CLIENTS].write_all(&[1]).unwrap();
                    sent += 1;
                }
                thread::sleep(Duration::from_millis(1));
            }
            assert!(sent > ROUND_TRIPS / 4, "it met few of them: {sent}");
        });
        let result = work();
        done.store(true, Ordering::SeqCst);
        result
    })
}

/// The best of the rounds' percentiles, without the slow clients and with them: what else the machine does only adds.
fn measure(address: SocketAddr) -> (Duration, Duration) {
    let mut good = StdStream::connect(address).unwrap();
    good.set_nodelay(true).unwrap();
    let (mut without, mut with) = (Duration::MAX, Duration::MAX);
    for _ in 0..ROUNDS {
        without = without.min(good_client(&mut good));
        with = with.min(among_slow_clients(address, || good_client(&mut good)));
    }
    (without, with)
}

#[test]
fn a_thousand_slow_clients_at_most_double_what_a_good_one_waits() {
    must_end(|| {
        let runtime = Runtime::builder().max_tasks(SLOW_CLIENTS + 10).build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let peak = Arc::new(std::sync::Mutex::new(0));
            let peak_seen = peak.clone();
            let server = async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let _ = stream.set_nodelay(true);
                    drop(spawn(serve(stream)).await.unwrap());
                    let mut peak = peak.lock().unwrap();
                    *peak = metrics().tasks_live.max(*peak);
                }
            };
            let server = spawn_service(server).unwrap();
            let measured = thread::spawn(move || {
                let mut seen = Vec::new();
                for _ in 0..TRIES {
                    let (without, with) = measure(address);
                    seen.push((without, with));
                    if with <= without * 2 {
                        break;
                    }
                }
                seen
            });
            while !measured.is_finished() {
                anteroom::time::sleep(Duration::from_millis(5)).await;
            }
            let seen = measured.join().unwrap();
            for (without, with) in &seen {
                println!("99th percentile of a round trip: {without:?} alone, {with:?} among {SLOW_CLIENTS} slow clients");
            }
            let (without, with) = seen[seen.len() - 1];
            assert!(with <= without * 2, "{seen:?}");
            assert!(*peak_seen.lock().unwrap() > SLOW_CLIENTS, "they were all there at once");
            server.abort();
        });
    });
}
