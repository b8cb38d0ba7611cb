//! One page, one task, one connection: fetch it and parse it as it comes.
//!
//! # What a live page costs
//!
//! | from when        | what                                                      | bytes                    |
//! |------------------|-----------------------------------------------------------|--------------------------|
//! | admission        | its future and its path                                   | 1 KiB (a test says so)   |
//! | connected        | its socket; a buffer, for the heads and then for the body | 8 KiB                    |
//! | the head is here | a parser, if it is HTML: unfinished tag, open elements    | 3 to 23 KiB, at most 128 |
//!
//! None of it depends on the page's length. The buffer and the parser are boxes, not parts of the future: a
//! page that still waits for its connection does without, and the spawner moves 1 KiB, not 30.

use std::fmt;
use std::io;
use std::time::Duration;

use anteroom::net::TcpStream;
use anteroom::time::{sleep, timeout};

use crate::crawler::Ticket;
use crate::http::{self, HEAD_BYTES_MAX, Response};
use crate::links::LinkParser;
use crate::paths::{Link, resolve};

/// The buffer of a page: it must hold a head, and more makes each parser hold more.
const BUFFER_BYTES: usize = HEAD_BYTES_MAX;

/// How long a server may keep a page waiting. Long, because without a limit in force all pages ask at once.
const PATIENCE: Duration = Duration::from_secs(120);

/// The first and the longest wait for a file descriptor or a port.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(500));

/// What became of a URL.
pub(crate) enum Outcome {
    /// Its body was read to the end and, if HTML, parsed.
    Page {
        bytes: u64,
        is_html: bool,
    },
    /// It is elsewhere, and the frontier knows.
    Moved,
    /// 404, or gone for good.
    Missing,
    Failed(Failure),
}

/// Why a page could not be fetched.
#[derive(Debug)]
pub(crate) enum Failure {
    Connect(io::Error),
    /// The connection broke before the end of the answer.
    Broken(io::Error),
    /// The server said nothing for as long as the patience lasts.
    Silent,
    /// It said something that is no answer.
    Head(String),
    /// It refused.
    Status(u16),
    /// The body ended before its announced length.
    Truncated {
        missing_bytes: u64,
    },
    /// A tag or a depth that no parser here may hold.
    Html(String),
    /// The task was aborted, or it panicked.
    Dropped,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Connect(error) => write!(f, "cannot connect: {error}"),
            Failure::Broken(error) => write!(f, "the connection broke: {error}"),
            Failure::Silent => write!(f, "no answer for {} s", PATIENCE.as_secs()),
            Failure::Head(error) => f.write_str(error),
            Failure::Status(status) => write!(f, "answered {status}"),
            Failure::Truncated { missing_bytes } => write!(f, "ended {missing_bytes} bytes early"),
            Failure::Html(error) => write!(f, "cannot be parsed: {error}"),
            Failure::Dropped => f.write_str("its task ended early"),
        }
    }
}

/// The task: fetches what the ticket is for, and finishes it.
pub(crate) async fn fetch(ticket: Ticket) {
    let outcome = attempt(&ticket).await.unwrap_or_else(Outcome::Failed);
    ticket.finish(outcome);
}

async fn attempt(ticket: &Ticket) -> Result<Outcome, Failure> {
    let mut connection = Connection::open(ticket).await?;
    let (response, body) = connection.ask(ticket).await?;
    match response.status {
        200 => {
            let bytes = connection.read_body(ticket, &response, body).await?;
            Ok(Outcome::Page { bytes, is_html: response.is_html })
        }
        301 | 302 | 303 | 307 | 308 => {
            let location = response.location.as_deref().unwrap_or_default();
            let mut path = String::new();
            match resolve(ticket.path(), location, &mut path) {
                link @ Link::Page => ticket.crawl().link(ticket.path(), link, &path),
                link => ticket.crawl().link(ticket.path(), link, location),
            }
            Ok(Outcome::Moved)
        }
        404 | 410 => Ok(Outcome::Missing),
        status => Err(Failure::Status(status)),
    }
}

/// A page's connection and the only buffer that its bytes pass through.
struct Connection {
    stream: TcpStream,
    buffer: Box<[u8]>,
}

impl Connection {
    /// Connects; where descriptors or ports have run out, waits until another page has given one back.
    async fn open(ticket: &Ticket) -> Result<Connection, Failure> {
        let mut backoff = BACKOFF.0;
        loop {
            match timeout(PATIENCE, TcpStream::connect(ticket.server())).await {
                Ok(Ok(stream)) => {
                    let _ = stream.set_nodelay(true);
                    return Ok(Connection { stream, buffer: vec![0; BUFFER_BYTES].into() });
                }
                Ok(Err(error)) if has_run_out(&error) => {
                    ticket.crawl().descriptor_wait();
                    sleep(backoff).await;
                    backoff = (backoff * 2).min(BACKOFF.1);
                }
                Ok(Err(error)) => return Err(Failure::Connect(error)),
                Err(_) => return Err(Failure::Silent),
            }
        }
    }

    /// Sends the request and reads the head of the answer. Says where in the buffer the body begins, and
    /// where it ends so far.
    async fn ask(&mut self, ticket: &Ticket) -> Result<(Response, (usize, usize)), Failure> {
        let mut free = &mut self.buffer[..];
        http::write_request(&mut free, ticket.server(), ticket.path())
            .map_err(|_| Failure::Head("a path too long to ask for".into()))?;
        let len = BUFFER_BYTES - free.len();
        self.stream.write_all(&self.buffer[..len]).await.map_err(Failure::Broken)?;

        let mut filled = 0;
        loop {
            match self.read(filled).await? {
                0 => return Err(Failure::Head("closed before the end of the head".into())),
                bytes => filled += bytes,
            }
            match http::parse_response(&self.buffer[..filled]) {
                Ok(Some((response, len))) => return Ok((response, (len, filled))),
                Ok(None) if filled == BUFFER_BYTES => {
                    return Err(Failure::Head("the head is too long".into()));
                }
                Ok(None) => {}
                Err(error) => return Err(Failure::Head(error.to_string())),
            }
        }
    }

    /// Reads the body through the parser and says how long it was.
    async fn read_body(
        &mut self,
        ticket: &Ticket,
        response: &Response,
        (mut start, mut end): (usize, usize),
    ) -> Result<u64, Failure> {
        let mut parser = response.is_html.then(|| Box::new(parser(ticket)));
        let mut done = 0;
        loop {
            // What comes after the announced end is not part of this page.
            let left = response.body_bytes.map_or(u64::MAX, |all| all - done);
            let chunk = &self.buffer[start..end];
            let chunk = &chunk[..chunk.len().min(usize::try_from(left).unwrap_or(usize::MAX))];
            if let Some(parser) = &mut parser {
                parser.write(chunk).map_err(|error| Failure::Html(error.to_string()))?;
            }
            done += chunk.len() as u64;
            if response.body_bytes == Some(done) {
                return Ok(done);
            }
            (start, end) = (0, self.read(0).await?);
            if end == 0 {
                return match response.body_bytes {
                    Some(all) => Err(Failure::Truncated { missing_bytes: all - done }),
                    None => Ok(done),
                };
            }
        }
    }

    /// Reads into the buffer from `start` on. Zero at the end of the connection.
    async fn read(&mut self, start: usize) -> Result<usize, Failure> {
        match timeout(PATIENCE, self.stream.read(&mut self.buffer[start..])).await {
            Ok(read) => read.map_err(Failure::Broken),
            Err(_) => Err(Failure::Silent),
        }
    }
}

fn parser(ticket: &Ticket) -> LinkParser {
    let crawl = ticket.crawl().clone();
    let from: Box<str> = ticket.path().into();
    LinkParser::new(ticket.path(), move |link, text| crawl.link(&from, link, text))
}

/// Whether the system has no file descriptor, memory or port left for one more connection. That passes.
fn has_run_out(error: &io::Error) -> bool {
    // ENFILE and EMFILE have no stable `ErrorKind`, and these numbers on every Unix.
    matches!(error.raw_os_error(), Some(23 | 24))
        || matches!(error.kind(), io::ErrorKind::AddrNotAvailable | io::ErrorKind::OutOfMemory)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crawler::Crawl;

    #[test]
    fn a_page_without_a_connection_costs_a_kibibyte() {
        let crawl = Crawl::new(&["127.0.0.1:1".parse().unwrap()]);
        let future = fetch(crawl.first_ticket());
        let bytes = size_of_val(&future);
        assert!(bytes <= 1_024, "the future of a page has {bytes} bytes");
    }

    #[test]
    fn running_out_is_told_from_failing() {
        assert!(has_run_out(&io::Error::from_raw_os_error(24)));
        assert!(has_run_out(&io::ErrorKind::AddrNotAvailable.into()));
        assert!(!has_run_out(&io::ErrorKind::ConnectionRefused.into()));
    }
}
