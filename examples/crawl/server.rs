//! The other end of the crawl: a static file server, bounded like everything here.
//!
//! # Idea
//!
//! One listener for each of 127.0.0.1 to 127.0.0.8, all on one port. A connection is named by both its ends,
//! and an address has some 28,000 ports to connect from, each of which rests for a minute after use: with one
//! address a crawl of 48,000 pages would run out of ports, with eight it runs out of nothing.
//!
//! A listener is a service; each connection is a task. `accept` and then `spawn(..).await`: over
//! `--max-tasks` connections the listener waits with one in its hand and accepts no more, and the kernel's
//! backlog keeps the rest.
//!
//! Files are read on the blocking pool: opening may go to a disk, and a page of 8 MB must not stop a thousand
//! other connections for as long as it takes to read. `files.rs` has them, in chunks.

use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anteroom::net::{TcpListener, TcpStream};

use crate::args::UsageError;
use crate::child::ready_line;
use crate::files::{Reply, file_of};
use crate::http::{self, HEAD_BYTES_MAX};
use crate::limits;

/// How many of 127.0.0.x it listens on.
const ADDRESSES: u8 = 8;

/// How long a connection may say nothing.
const IDLE: Duration = Duration::from_secs(30);

/// How long it is kept after its last answer, for a client that still sends.
const LINGER: Duration = Duration::from_secs(1);

/// Serves `folder` until standard input ends, which ends the process.
///
/// # Errors
///
/// When it cannot listen on `port`, or no runtime can be built.
pub(crate) fn serve(folder: PathBuf, port: u16, max_tasks: usize) -> Result<(), UsageError> {
    // A socket and a file each. More connections than files for them would answer each other's requests with
    // errors.
    let fit = limits::raise_open_files(2);
    if fit < max_tasks {
        eprintln!("crawl: server: open files for {fit} connections at once, not {max_tasks}");
    }
    let runtime = anteroom::Runtime::builder()
        .max_tasks(max_tasks.min(fit))
        .build()
        .map_err(|error| UsageError::new("--serve", error))?;
    runtime.block_on(async {
        let listeners = bind(port).await?;
        let addresses: Result<Vec<SocketAddr>, io::Error> =
            listeners.iter().map(TcpListener::local_addr).collect();
        let addresses = addresses.map_err(|error| UsageError::new("--serve", error))?;
        println!("{}", ready_line(&addresses));
        end_with_standard_input().map_err(|error| UsageError::new("--serve", error))?;
        let folder: Arc<Path> = folder.into();
        for listener in listeners {
            let service = anteroom::spawn_service(accept(listener, folder.clone()))
                .map_err(|_| UsageError::new("--serve", "more listeners than services"))?;
            // Its handle is of no use: it ends with the process.
            drop(service);
        }
        // The thread at standard input ends it.
        std::future::pending().await
    })
}

/// A thread that ends the process when standard input does.
fn end_with_standard_input() -> io::Result<()> {
    std::thread::Builder::new()
        .name("stdin".into())
        .stack_size(64 << 10)
        .spawn(|| {
            let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
            std::process::exit(0);
        })
        .map(drop)
}

/// Listens on all addresses with the same port; with port 0, on one that is free on all of them.
async fn bind(port: u16) -> Result<Vec<TcpListener>, UsageError> {
    let mut tries = 0;
    loop {
        tries += 1;
        let first = bind_one(1, port).await?;
        let chosen = first.local_addr().map_err(|error| UsageError::new("--port", error))?.port();
        match bind_others(first, chosen).await {
            // The first address had it free, another did not.
            Err(_) if port == 0 && tries < 16 => {}
            result => return result,
        }
    }
}

async fn bind_others(first: TcpListener, port: u16) -> Result<Vec<TcpListener>, UsageError> {
    let mut listeners = vec![first];
    for last in 2..=ADDRESSES {
        match bind_one(last, port).await {
            Ok(listener) => listeners.push(listener),
            Err(BindError { kind: io::ErrorKind::AddrNotAvailable, .. }) => {
                // Where loopback is one address and not a network (macOS, the BSDs).
                eprintln!("crawl: server: no 127.0.0.{last} here: {} address(es)", listeners.len());
                break;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(listeners)
}

struct BindError {
    address: SocketAddr,
    kind: io::ErrorKind,
    text: String,
}

impl From<BindError> for UsageError {
    fn from(error: BindError) -> Self {
        UsageError::new(format_args!("--port {}: {}", error.address.port(), error.address), error.text)
    }
}

async fn bind_one(last: u8, port: u16) -> Result<TcpListener, BindError> {
    let address = SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), port));
    TcpListener::bind(address).await.map_err(|error| BindError {
        address,
        kind: error.kind(),
        text: if error.kind() == io::ErrorKind::AddrInUse {
            "already in use".into()
        } else {
            error.to_string()
        },
    })
}

/// One listener's life.
async fn accept(listener: TcpListener, folder: Arc<Path>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                if anteroom::spawn(connection(stream, folder.clone())).await.is_err() {
                    return;
                }
            }
            // A connection that went away before it was accepted, or no file left for it: the others matter
            // more.
            Err(_) => anteroom::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

/// One connection's life: requests, one after the other. What goes wrong ends it, and nobody is told.
async fn connection(stream: TcpStream, folder: Arc<Path>) {
    let _ = stream.set_nodelay(true);
    let mut heads = Heads { buffer: vec![0; HEAD_BYTES_MAX].into(), filled: 0 };
    loop {
        match heads.serve_one(&stream, &folder).await {
            After::Another => {}
            After::Close => return,
            After::Linger => return linger(&stream, &mut heads.buffer).await,
        }
    }
}

/// How a connection goes on after an answer.
enum After {
    Another,
    Close,
    /// It is over, but the client may still be sending what nobody will read.
    Linger,
}

/// Lets the client read the last answer. To close over bytes that were not read resets the connection, and
/// that would take the answer away from it. Not for long, and not for much.
async fn linger(stream: &TcpStream, buffer: &mut [u8]) {
    let _ = stream.shutdown(Shutdown::Write);
    let drain = async {
        for _ in 0..64 {
            if !matches!(stream.read(buffer).await, Ok(1..)) {
                return;
            }
        }
    };
    let _ = anteroom::time::timeout(LINGER, drain).await;
}

/// What was read of a connection and not yet answered.
struct Heads {
    buffer: Box<[u8]>,
    filled: usize,
}

impl Heads {
    /// Reads one head and answers it.
    async fn serve_one(&mut self, stream: &TcpStream, folder: &Path) -> After {
        loop {
            let (answer, after) = match http::parse_request(&self.buffer[..self.filled]) {
                Ok(Some((request, len))) => {
                    let answer = Answer::to(&request, folder);
                    let after = match (request.has_body, request.keep_alive) {
                        (true, _) => After::Linger,
                        (false, true) => After::Another,
                        (false, false) => After::Close,
                    };
                    // What follows is the beginning of the next head.
                    self.buffer.copy_within(len..self.filled, 0);
                    self.filled -= len;
                    (answer, after)
                }
                Ok(None) if self.filled < self.buffer.len() => {
                    let read = stream.read(&mut self.buffer[self.filled..]);
                    match anteroom::time::timeout(IDLE, read).await {
                        Ok(Ok(bytes @ 1..)) => self.filled += bytes,
                        _ => return After::Close,
                    }
                    continue;
                }
                Ok(None) => (Answer::status(431), After::Linger),
                Err(_) => (Answer::status(400), After::Linger),
            };
            return match answer.send(stream, matches!(after, After::Another)).await {
                Ok(()) => after,
                Err(_) => After::Close,
            };
        }
    }
}

/// What to answer, before any file was touched.
struct Answer {
    what: What,
    /// Not for HEAD.
    body: bool,
}

enum What {
    File(PathBuf),
    Status(u16),
}

impl Answer {
    fn to(request: &http::Request<'_>, folder: &Path) -> Answer {
        let what = match request.method {
            "GET" | "HEAD" => file_of(folder, request.target).map_or(What::Status(400), What::File),
            _ => What::Status(405),
        };
        Answer { what, body: request.method != "HEAD" }
    }

    fn status(status: u16) -> Answer {
        Answer { what: What::Status(status), body: true }
    }

    async fn send(self, stream: &TcpStream, keep_alive: bool) -> io::Result<()> {
        let body = self.body;
        let mut reply = match self.what {
            What::Status(status) => Reply::status(status, None, body, keep_alive),
            What::File(path) => blocking(move || Reply::file(&path, body, keep_alive)).await?,
        };
        loop {
            stream.write_all(&reply.bytes).await?;
            if reply.left == 0 {
                return Ok(());
            }
            reply = blocking(move || reply.next_chunk()).await??;
        }
    }
}

/// Runs `job` where it may block. A panic of it is an error like any other.
async fn blocking<T: Send + 'static>(job: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    anteroom::spawn_blocking(job).await.map_err(|error| io::Error::other(error.to_string()))
}
