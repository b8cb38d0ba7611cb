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
//! None of it depends on the page's length, unless `--whole` asks for a crawler like most: then the page is read
//! into one buffer of its length, which is there from the head on; the connection is closed when it is full,
//! it is parsed, and with `--keep` it stays that long, as if it were on its way into a slow database. What it
//! holds is declared to the budget (`budget.rs`) before it is there, and may have to wait for that.
//!
//! The buffer and the parser are boxes, not parts of the future: a page that still waits for its connection does
//! without, and the spawner moves 1 KiB, not 30.

use std::fmt;
use std::io;
use std::time::Duration;

use anteroom::net::TcpStream;
use anteroom::time::{sleep, timeout};
use anteroom::yield_now;

use crate::budget::Share;
use crate::crawler::Ticket;
use crate::http::{self, HEAD_BYTES_MAX, Response};
use crate::links::LinkParser;
use crate::paths::{Link, resolve};

/// The buffer of a page: it must hold a head, and more makes each parser hold more.
const BUFFER_BYTES: usize = HEAD_BYTES_MAX;

/// The future of a page and what the runtime keeps of its task. A test says so.
const TASK_BYTES: u64 = 1_024;

/// What a page is taken to hold besides while it has a connection: the buffer and a parser.
const CONNECTION_BYTES: u64 = BUFFER_BYTES as u64 + 24 * 1_024;

/// How much of a page that is in memory is parsed before others have their turn.
const PARSE_BYTES: usize = 64 * 1_024;

/// The first buffer of a page whose length is not known.
const UNKNOWN_BYTES: u64 = 64 * 1_024;

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
    /// It is longer than a page may be that is read whole.
    TooLong {
        /// None: it did not say.
        bytes: Option<u64>,
        max_bytes: u64,
    },
    /// The system has no memory for it.
    NoMemory(u64),
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
            Failure::TooLong { bytes: Some(bytes), max_bytes } => {
                write!(f, "{bytes} bytes long: at most {max_bytes} may be read whole")
            }
            Failure::TooLong { bytes: None, max_bytes } => {
                write!(
                    f,
                    "of no announced length, and longer than the {max_bytes} bytes that may be read whole"
                )
            }
            Failure::NoMemory(bytes) => write!(f, "no memory for {bytes} bytes"),
            Failure::Html(error) => write!(f, "cannot be parsed: {error}"),
            Failure::Dropped => f.write_str("its task ended early"),
        }
    }
}

/// The task: fetches what the ticket is for, and finishes it.
pub(crate) async fn fetch(ticket: Ticket, mut share: Option<Share>) {
    let outcome = attempt(&ticket, &mut share).await.unwrap_or_else(Outcome::Failed);
    // All that it held is gone. The crawl may be over with the ticket, and its report wants to see that.
    drop(share);
    ticket.finish(outcome);
}

async fn attempt(ticket: &Ticket, share: &mut Option<Share>) -> Result<Outcome, Failure> {
    let mut connection = Connection::open(ticket).await?;
    let (response, body) = connection.ask(ticket).await?;
    let is_whole = response.status == 200 && ticket.crawl().plan().whole.is_some();
    if !is_whole {
        // What it holds, instead of what others held.
        ticket.crawl().settle(share, TASK_BYTES + CONNECTION_BYTES);
    }
    match response.status {
        200 if is_whole => {
            let page = connection.read_whole(ticket, &response, body, share).await?;
            parse_whole(ticket, &response, &page).await?;
            ticket.crawl().settle(share, TASK_BYTES + page.capacity() as u64);
            if let Some(keep) = ticket.crawl().plan().whole.filter(|keep| !keep.is_zero()) {
                sleep(keep).await;
            }
            Ok(Outcome::Page { bytes: page.len() as u64, is_html: response.is_html })
        }
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

    /// Reads the body to its end, and closes the connection.
    async fn read_whole(
        self,
        ticket: &Ticket,
        response: &Response,
        (start, end): (usize, usize),
        share: &mut Option<Share>,
    ) -> Result<Vec<u8>, Failure> {
        let max_bytes = ticket.crawl().page_bytes_max();
        let announced = response.body_bytes;
        if announced.is_some_and(|bytes| bytes > max_bytes) {
            return Err(Failure::TooLong { bytes: announced, max_bytes });
        }
        let early = &self.buffer[start..end];
        // What comes after the announced end is not part of this page.
        let early = &early[..early.len().min(announced.map_or(usize::MAX, |bytes| bytes as usize))];
        let mut page = Vec::new();
        let bytes = announced.unwrap_or(UNKNOWN_BYTES.min(max_bytes));
        ticket.crawl().hold(share, TASK_BYTES + CONNECTION_BYTES + bytes).await;
        make_room(&mut page, bytes)?;
        page[..early.len()].copy_from_slice(early);
        let mut filled = early.len();
        while announced != Some(filled as u64) {
            if filled == page.len() {
                if filled as u64 >= max_bytes {
                    return Err(Failure::TooLong { bytes: None, max_bytes });
                }
                // With what was read in hand it cannot wait: it is charged, for both while what is there moves.
                let (before, bytes) = (filled as u64, (filled as u64 * 2).min(max_bytes));
                ticket.crawl().settle(share, TASK_BYTES + CONNECTION_BYTES + before + bytes);
                make_room(&mut page, bytes)?;
                ticket.crawl().settle(share, TASK_BYTES + CONNECTION_BYTES + bytes);
            }
            match (read(&self.stream, &mut page[filled..]).await?, announced) {
                (0, Some(all)) => return Err(Failure::Truncated { missing_bytes: all - filled as u64 }),
                (0, None) => break,
                (bytes, _) => filled += bytes,
            }
        }
        page.truncate(filled);
        Ok(page)
    }

    /// Reads into the buffer from `start` on. Zero at the end of the connection.
    async fn read(&mut self, start: usize) -> Result<usize, Failure> {
        read(&self.stream, &mut self.buffer[start..]).await
    }
}

/// Reads what is there. Zero at the end of the connection.
async fn read(stream: &TcpStream, buffer: &mut [u8]) -> Result<usize, Failure> {
    match timeout(PATIENCE, stream.read(buffer)).await {
        Ok(read) => read.map_err(Failure::Broken),
        Err(_) => Err(Failure::Silent),
    }
}

/// Makes the page `bytes` long, which is not less than it was. It was declared.
fn make_room(page: &mut Vec<u8>, bytes: u64) -> Result<(), Failure> {
    let len = usize::try_from(bytes).map_err(|_| Failure::NoMemory(bytes))?;
    page.try_reserve_exact(len - page.len()).map_err(|_| Failure::NoMemory(bytes))?;
    // Written once here, so that what is declared is there, and not only when it is read.
    page.resize(len, 0);
    Ok(())
}

/// Parses a page that is in memory, some of it at a time: a long one must not stop all others.
async fn parse_whole(ticket: &Ticket, response: &Response, page: &[u8]) -> Result<(), Failure> {
    if !response.is_html {
        return Ok(());
    }
    let mut parser = Box::new(parser(ticket));
    for (n, chunk) in page.chunks(PARSE_BYTES).enumerate() {
        if n > 0 {
            yield_now().await;
        }
        parser.write(chunk).map_err(|error| Failure::Html(error.to_string()))?;
    }
    Ok(())
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
    use crate::crawler::{Crawl, Plan};

    #[test]
    fn a_page_without_a_connection_costs_a_kibibyte() {
        let crawl = Crawl::new(&["127.0.0.1:1".parse().unwrap()], Plan::default());
        let future = fetch(crawl.first_ticket(), None);
        let bytes = size_of_val(&future);
        assert!(bytes <= TASK_BYTES as usize, "the future of a page has {bytes} bytes");
    }

    #[test]
    fn running_out_is_told_from_failing() {
        assert!(has_run_out(&io::Error::from_raw_os_error(24)));
        assert!(has_run_out(&io::ErrorKind::AddrNotAvailable.into()));
        assert!(!has_run_out(&io::ErrorKind::ConnectionRefused.into()));
    }
}
