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
//! # Files
//!
//! Read on the blocking pool, 64 KiB at a time: opening may go to a disk, and a page of 8 MB must not stop a
//! thousand other connections for as long as it takes to read. Most pages fit one chunk, so most answers are
//! one job and one write. A connection therefore holds at most [`CHUNK_BYTES`] and a head.
//!
//! # What may be read
//!
//! Files under the folder, by names without `..` ([`file_of`]). Symbolic links in it are followed: who made
//! the folder made them.

use std::fs::File;
use std::io::{self, Read};
use std::net::{Ipv4Addr, Shutdown, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anteroom::net::{TcpListener, TcpStream};

use crate::args::UsageError;
use crate::child::ready_line;
use crate::http::{self, HEAD_BYTES_MAX};
use crate::{limits, links};

/// How many of 127.0.0.x it listens on.
const ADDRESSES: u8 = 8;

/// How much of a file is in memory at once, for each connection.
const CHUNK_BYTES: u64 = 64 * 1024;

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

/// A part of an answer in memory, and the file that the rest is read from.
struct Reply {
    bytes: Vec<u8>,
    file: Option<File>,
    /// How much of the body is still in the file.
    left: u64,
}

impl Reply {
    /// An answer that says what its status says.
    fn status(status: u16, location: Option<&str>, body: bool, keep_alive: bool) -> Reply {
        let reason = http::reason(status);
        let text = format!("<!DOCTYPE html><title>{reason}</title><h1>{status} {reason}</h1>\n");
        let mut bytes = Vec::with_capacity(512);
        http::write_response(&mut bytes, status, HTML, text.len() as u64, location, keep_alive)
            .expect("a Vec takes it");
        if body {
            bytes.extend_from_slice(text.as_bytes());
        }
        Reply { bytes, file: None, left: 0 }
    }

    /// The file with its head, or why not. Blocks.
    fn file(path: &Path, body: bool, keep_alive: bool) -> Reply {
        match Self::open(path, body, keep_alive) {
            Ok(reply) => reply,
            Err(error) => {
                let status = match error.kind() {
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => 404,
                    io::ErrorKind::PermissionDenied => 403,
                    _ => 500,
                };
                Reply::status(status, None, body, keep_alive)
            }
        }
    }

    fn open(path: &Path, body: bool, keep_alive: bool) -> io::Result<Reply> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        if metadata.is_dir() {
            // Its links are relative to what is *in* it, so the reader has to stand there.
            let name = path.file_name().and_then(|name| name.to_str()).ok_or(io::ErrorKind::NotFound)?;
            return Ok(Reply::status(301, Some(&format!("./{name}/")), body, keep_alive));
        }
        let len = metadata.len();
        let mut bytes = Vec::with_capacity(256 + len.min(CHUNK_BYTES) as usize);
        http::write_response(&mut bytes, 200, content_type(path), len, None, keep_alive)?;
        let reply = Reply { bytes, file: Some(file), left: if body { len } else { 0 } };
        reply.fill()
    }

    /// The next part, in the memory of this one. Blocks.
    fn next_chunk(mut self) -> io::Result<Reply> {
        self.bytes.clear();
        self.fill()
    }

    /// Appends up to a chunk. A file that has become shorter is an error, so that the connection ends and the
    /// reader sees it; of one that has become longer only what was announced is sent.
    fn fill(mut self) -> io::Result<Reply> {
        let want = self.left.min(CHUNK_BYTES);
        if let Some(file) = &mut self.file {
            let start = self.bytes.len();
            self.bytes.resize(start + want as usize, 0);
            file.read_exact(&mut self.bytes[start..])?;
        }
        self.left -= want;
        Ok(self)
    }
}

const HTML: &str = "text/html; charset=utf-8";

/// The file that a request's target names. None: it tries to leave the folder, or names nothing a file can be
/// called.
fn file_of(folder: &Path, target: &str) -> Option<PathBuf> {
    let path = target.split(['?', '#']).next().unwrap_or_default().strip_prefix('/')?;
    let mut file = folder.to_owned();
    let mut last = "";
    for segment in path.split('/') {
        last = segment;
        let name = String::from_utf8(links::percent_decode(segment)).ok()?;
        match name.as_str() {
            "" | "." => {}
            ".." => return None,
            // A separator that was escaped, a drive, a stream: nothing that the frontier would ask for.
            _ if name.contains(['/', '\\', '\0']) || cfg!(windows) && name.contains(':') => return None,
            _ => file.push(name),
        }
    }
    if matches!(last, "" | ".") {
        file.push("index.html");
    }
    Some(file)
}

/// From the name alone: what is not known is bytes.
fn content_type(path: &Path) -> &'static str {
    match path.extension().and_then(|extension| extension.to_str()).unwrap_or_default() {
        "html" | "htm" => HTML,
        "css" => "text/css; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "json" => "application/json",
        "txt" | "md" | "rs" | "toml" => "text/plain; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(target: &str) -> Option<String> {
        file_of(Path::new("/site"), target).map(|path| path.to_str().unwrap().to_owned())
    }

    #[test]
    fn a_target_names_a_file_in_the_folder() {
        assert_eq!(file("/a/b.html").unwrap(), "/site/a/b.html");
        assert_eq!(file("/a%20b.html?q=../x#y").unwrap(), "/site/a b.html");
        assert_eq!(file("//a/./b").unwrap(), "/site/a/b");
        assert_eq!(file("/").unwrap(), "/site/index.html");
        assert_eq!(file("/a/").unwrap(), "/site/a/index.html");
        assert_eq!(file("/a/.").unwrap(), "/site/a/index.html");
    }

    #[test]
    fn a_target_that_leaves_the_folder_is_refused() {
        for target in [
            "/../x",
            "/a/../../x",
            "/%2e%2e/x",
            "/.%2E/x",
            "/a/..",
            "/..%2fx",
            "/%2fetc/passwd",
            "/a%5c..%5cx",
            "/a%00.html",
            "/%ff",
            "x",
            "http://other/x",
            "*",
        ] {
            assert_eq!(file(target), None, "{target}");
        }
    }

    fn text(reply: &Reply) -> String {
        String::from_utf8(reply.bytes.clone()).unwrap()
    }

    #[test]
    fn a_big_file_comes_in_chunks_and_no_more_than_announced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("big.html");
        let content: Vec<u8> = (0..200_000_u32).map(|n| n as u8).collect();
        std::fs::write(&path, &content).unwrap();
        let mut reply = Reply::file(&path, true, true);
        let head = reply.bytes.len() - CHUNK_BYTES as usize;
        let mut got = reply.bytes[head..].to_vec();
        let mut longest = 0;
        while reply.left > 0 {
            reply = reply.next_chunk().unwrap();
            longest = longest.max(reply.bytes.len());
            got.extend_from_slice(&reply.bytes);
        }
        assert_eq!(got, content);
        assert_eq!(longest, CHUNK_BYTES as usize);
    }

    #[test]
    fn a_file_that_shrinks_under_the_reader_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, vec![0; 100_000]).unwrap();
        let reply = Reply::file(&path, true, true);
        File::options().write(true).open(&path).unwrap().set_len(70_000).unwrap();
        assert!(reply.next_chunk().is_err());
    }

    #[test]
    fn each_failure_has_its_status() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("a b")).unwrap();
        std::fs::write(folder.path().join("x"), "").unwrap();
        let reply = |name: &str| text(&Reply::file(&folder.path().join(name), true, true));
        assert!(reply("gone").starts_with("HTTP/1.1 404 Not Found\r\n"));
        assert!(reply("x/below-a-file").starts_with("HTTP/1.1 404 "));
        assert!(reply("a b").contains("\r\nlocation: ./a%20b/\r\n"));
        assert!(text(&Reply::status(405, None, true, false)).contains("\r\nallow: GET, HEAD\r\n"));
    }

    #[test]
    fn a_head_request_gets_the_length_and_no_body() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.html");
        std::fs::write(&path, "hello").unwrap();
        let reply = Reply::file(&path, false, true);
        assert!(text(&reply).contains("content-length: 5\r\n"));
        assert!(text(&reply).ends_with("\r\n\r\n"));
        assert_eq!(reply.left, 0);
    }
}
