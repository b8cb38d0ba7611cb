//! A small program that is also built with `panic = "abort"`: `.ci/abort.sh` looks at how it ends.
//!
//! `aborts work` does some of everything and says "done"; `aborts poll|output|waker|job|root` does the same, and then
//! something panics: in a task, in the drop of its output, in a waker, in a blocking job, in the future of `block_on`. Where
//! a panic unwinds it says "unwound" of all but the last.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Wake, Waker};
use std::time::Duration;

use anteroom::net::{TcpListener, TcpStream};
use anteroom::{Runtime, spawn, spawn_blocking, spawn_local, time, try_spawn, yield_now};
use anteroom_tests::{Drops, poll_with};

/// Tasks over the limit, timers, a socket, a job, an abort and a join from another runtime.
async fn work() {
    let mut handles = Vec::new();
    for n in 0..1_000_u32 {
        handles.push(spawn(async move { (yield_now().await, n).1 }).await.unwrap());
    }
    let mut sum = 0;
    for handle in handles {
        sum += handle.await.unwrap();
    }
    assert_eq!(sum, 499_500);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let client = spawn(async move {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"hello").await.unwrap();
    });
    let client = client.await.unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    let mut got = [0; 5];
    stream.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"hello");
    client.await.unwrap();
    assert!(time::timeout(Duration::from_millis(1), std::future::pending::<()>()).await.is_err());
    assert_eq!(spawn_blocking(|| 7).await.unwrap(), 7);
    let endless = spawn_local(std::future::pending::<()>()).await.unwrap();
    endless.abort();
    assert!(endless.await.unwrap_err().is_cancelled());
    assert_eq!(anteroom::block_on(async { spawn(async { 8 }).join().await.unwrap() }), 8);
}

/// A waker that panics.
struct Panics;

impl Wake for Panics {
    fn wake(self: Arc<Self>) {
        panic!("in a waker");
    }
}

async fn panic_in(place: &str) {
    match place {
        "poll" => drop(spawn(async { panic!("in a poll") }).join().await),
        "output" => {
            let bad = Drops::new().track_panicking();
            drop(spawn(async move { bad }).await.unwrap());
            yield_now().await;
        }
        "waker" => {
            let mut handle = try_spawn(yield_now()).unwrap();
            let waker = Waker::from(Arc::new(Panics));
            assert!(poll_with(Pin::new(&mut handle), &waker).is_pending());
            yield_now().await;
            yield_now().await;
        }
        "job" => drop(spawn_blocking(|| panic!("in a job")).await),
        "root" => panic!("in block_on"),
        _ => panic!("aborts work|poll|output|waker|job|root"),
    }
}

fn main() {
    let place = std::env::args().nth(1).unwrap_or_default();
    Runtime::builder().max_tasks(10).build().expect("a runtime").block_on(async {
        work().await;
        println!("done");
        if place != "work" {
            panic_in(&place).await;
            println!("unwound");
            work().await;
        }
    });
}
