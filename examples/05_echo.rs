//! Sockets: an echo server of four places, and sixteen clients at a time.
//!
//! # Idea
//! A connection is a task, and there is room for so many. When all places are taken, the accept loop waits in its `spawn`,
//! with the one connection that it has in its hand; those that come after wait in the system's backlog and cost nothing here.
//! The most that the server can hold is known before it starts.
//!
//! ```text
//!   client ─▶ backlog of the system ─▶ accept ─▶ spawn(echo).await ─▶ at most four live connections
//!                                       └──────── waits here, and does not accept meanwhile
//! ```
//!
//! Server and clients are two runtimes on two threads. In one, they would share its places: sixteen clients that each wait
//! for a server's task that there is no room for would wait for ever.
//!
//! What blocks goes to `spawn_blocking`, a small pool of threads with a bounded queue: here the file that is sent, read from
//! the disk. Name lookups go there by themselves.
//!
//! # Read next
//! `06_reserve.rs`, which accepts only when there is room.

use std::io::{self, ErrorKind};
use std::net::Shutdown;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anteroom::net::{TcpListener, TcpStream};
use anteroom::time::timeout;
use anteroom::{Runtime, metrics, spawn, spawn_blocking};

const CLIENTS: usize = 50;
const CLIENTS_AT_ONCE: usize = 16;
const CONNECTIONS_AT_ONCE: usize = 4;
/// How long a peer may say nothing.
const PATIENCE: Duration = Duration::from_secs(30);

/// Sends back what comes, until the peer has said all. The buffer is part of the task: a connection costs 4 KiB and little more.
async fn echo(stream: TcpStream) -> io::Result<usize> {
    let (mut buffer, mut echoed) = ([0; 4_096], 0);
    loop {
        // Two errors in one line: too late, or the connection's own.
        match timeout(PATIENCE, stream.read(&mut buffer)).await?? {
            0 => return Ok(echoed),
            bytes => {
                stream.write_all(&buffer[..bytes]).await?;
                echoed += bytes;
            }
        }
    }
}

/// Accepts `CLIENTS` connections and returns how many bytes they sent.
async fn serve(listener: TcpListener) -> io::Result<usize> {
    let mut connections = Vec::new();
    while connections.len() < CLIENTS {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue, // that peer's matter
            Err(error) => {
                // Out of files, most likely: some will be closed. The error took its time, so this does not spin.
                eprintln!("accept: {error}");
                continue;
            }
        };
        connections.push(spawn(echo(stream)).await.expect("the runtime is not closed"));
    }
    let mut echoed = 0;
    for connection in connections {
        echoed += connection.await.expect("an echo does not panic")?;
    }
    Ok(echoed)
}

/// Connects, by name, and has the text echoed line by line. Returns how many bytes came back.
async fn client(port: u16, text: &'static str) -> io::Result<usize> {
    let stream = TcpStream::connect(("localhost", port)).await?;
    stream.set_nodelay(true)?;
    let (mut buffer, mut bytes) = (Vec::new(), 0);
    for line in text.lines() {
        stream.write_all(line.as_bytes()).await?;
        buffer.resize(line.len(), 0);
        timeout(PATIENCE, stream.read_exact(&mut buffer)).await??;
        assert_eq!(buffer, line.as_bytes());
        bytes += line.len();
    }
    stream.shutdown(Shutdown::Write)?;
    assert_eq!(stream.read(&mut [0]).await?, 0, "and nothing besides");
    Ok(bytes)
}

fn main() -> io::Result<()> {
    let (port_to, port_from) = mpsc::channel();
    let server = thread::spawn(move || {
        let runtime = Runtime::builder().max_tasks(CONNECTIONS_AT_ONCE).build()?;
        runtime.block_on(async {
            // Port 0: any that is free.
            let listener = TcpListener::bind("localhost:0").await?;
            port_to.send(listener.local_addr()?.port()).expect("the clients are waiting for it");
            io::Result::Ok((serve(listener).await?, metrics().tasks_live_peak))
        })
    });

    let runtime = Runtime::builder().max_tasks(CLIENTS_AT_ONCE).build()?;
    let port = port_from.recv().map_err(|_| io::Error::other("the server could not start"))?;
    let received = runtime.block_on(async {
        let read =
            spawn_blocking(|| std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/05_echo.rs")));
        let text: &'static str = read.await.expect("reading does not panic")?.leak();
        let mut clients = Vec::new();
        for _ in 0..CLIENTS {
            clients.push(spawn(client(port, text)).await.expect("the runtime is not closed"));
        }
        let mut received = 0;
        for client in clients {
            received += client.await.expect("a client does not panic")?;
        }
        io::Result::Ok(received)
    })?;
    let (echoed, live_peak) = server.join().expect("the server does not panic")?;
    println!("{CLIENTS} clients, {CLIENTS_AT_ONCE} at a time, had {received} bytes echoed");
    println!("by a server of at most {live_peak} connections at a time, of {CONNECTIONS_AT_ONCE} allowed");
    assert!(received > 0 && received == echoed);
    assert!(live_peak <= CONNECTIONS_AT_ONCE && runtime.metrics().tasks_live_peak <= CLIENTS_AT_ONCE);
    Ok(())
}

#[test]
fn every_byte_comes_back_however_few_connections_there_is_room_for() {
    main().unwrap();
}
