//! As much of HTTP/1.1 as both processes need: heads in, heads out. `httparse` does the parsing.
//!
//! # Bounds
//!
//! A head is at most [`HEAD_BYTES_MAX`] long and has at most [`FIELDS_MAX`] fields; both ends read it into a
//! buffer of that size and refuse what does not fit. Bodies never pass through here: a `Content-Length` or
//! the end of the connection says where one ends, and who asked reads it in pieces. Chunked bodies are
//! refused: the server in `server.rs` sends none, and there is no other.

use std::fmt;
use std::io::{self, Write};

/// The longest head that is read.
pub(crate) const HEAD_BYTES_MAX: usize = 8 * 1024;

/// The most fields that a head may have.
const FIELDS_MAX: usize = 64;

/// What a client asked for.
#[derive(Debug, PartialEq)]
pub(crate) struct Request<'b> {
    pub(crate) method: &'b str,
    /// As it was sent: escaped, perhaps with a query.
    pub(crate) target: &'b str,
    /// Whether the connection stays open for another.
    pub(crate) keep_alive: bool,
    /// A body follows. Nothing here reads it, so the connection cannot go on.
    pub(crate) has_body: bool,
}

/// How a server answered.
#[derive(Debug, PartialEq)]
pub(crate) struct Response {
    pub(crate) status: u16,
    /// None: the body ends with the connection.
    pub(crate) body_bytes: Option<u64>,
    pub(crate) is_html: bool,
    /// Where to look instead.
    pub(crate) location: Option<String>,
}

/// Why bytes are not a head.
#[derive(Debug, PartialEq)]
pub(crate) enum HeadError {
    Malformed(httparse::Error),
    /// The two ends would not agree where the body ends.
    Framing,
}

impl fmt::Display for HeadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HeadError::Malformed(error) => write!(f, "malformed head: {error}"),
            HeadError::Framing => f.write_str("a body whose length is unclear"),
        }
    }
}

/// Parses a request and says how long its head is. None: it goes on after these bytes.
///
/// # Errors
///
/// [`HeadError`] when no continuation would make a head of it.
pub(crate) fn parse_request(bytes: &[u8]) -> Result<Option<(Request<'_>, usize)>, HeadError> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut head = httparse::Request::new(&mut fields);
    let httparse::Status::Complete(len) = head.parse(bytes).map_err(HeadError::Malformed)? else {
        return Ok(None);
    };
    let connection = field(head.headers, "connection").unwrap_or_default();
    let keep_alive = match head.version {
        Some(1) => !has_token(connection, "close"),
        _ => has_token(connection, "keep-alive"),
    };
    let has_body = field(head.headers, "transfer-encoding").is_some()
        || content_length(head.headers)?.is_some_and(|bytes| bytes > 0);
    let request = Request {
        method: head.method.expect("a complete head has one"),
        target: head.path.expect("a complete head has one"),
        keep_alive,
        has_body,
    };
    Ok(Some((request, len)))
}

/// Parses a response and says how long its head is. None: it goes on after these bytes.
///
/// # Errors
///
/// [`HeadError`] when no continuation would make a head of it.
pub(crate) fn parse_response(bytes: &[u8]) -> Result<Option<(Response, usize)>, HeadError> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut head = httparse::Response::new(&mut fields);
    let httparse::Status::Complete(len) = head.parse(bytes).map_err(HeadError::Malformed)? else {
        return Ok(None);
    };
    if field(head.headers, "transfer-encoding").is_some() {
        return Err(HeadError::Framing);
    }
    let html = field(head.headers, "content-type").is_some_and(|value| {
        let media = value.split(';').next().unwrap_or_default().trim();
        media.eq_ignore_ascii_case("text/html") || media.eq_ignore_ascii_case("application/xhtml+xml")
    });
    let response = Response {
        status: head.code.expect("a complete head has one"),
        body_bytes: content_length(head.headers)?,
        is_html: html,
        location: field(head.headers, "location").map(str::to_owned),
    };
    Ok(Some((response, len)))
}

/// Writes the request for one page, whose path is as the frontier has it, and which asks for the connection's
/// end.
pub(crate) fn write_request(out: &mut impl Write, host: impl fmt::Display, path: &str) -> io::Result<()> {
    out.write_all(b"GET ")?;
    percent_encode(out, path)?;
    write!(
        out,
        " HTTP/1.1\r\nhost: {host}\r\nuser-agent: anteroom-crawl\r\naccept: text/html\r\n\
         connection: close\r\n\r\n"
    )
}

/// Writes the head of an answer. `location` is a path, not yet escaped.
pub(crate) fn write_response(
    out: &mut impl Write,
    status: u16,
    content_type: &str,
    body_bytes: u64,
    location: Option<&str>,
    keep_alive: bool,
) -> io::Result<()> {
    let connection = if keep_alive { "keep-alive" } else { "close" };
    write!(
        out,
        "HTTP/1.1 {status} {}\r\ncontent-type: {content_type}\r\ncontent-length: {body_bytes}\r\n\
         connection: {connection}\r\n",
        reason(status)
    )?;
    if status == 405 {
        out.write_all(b"allow: GET, HEAD\r\n")?;
    }
    if let Some(path) = location {
        out.write_all(b"location: ")?;
        percent_encode(out, path)?;
        out.write_all(b"\r\n")?;
    }
    out.write_all(b"\r\n")
}

/// The words that go with a status that the server sends.
pub(crate) fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        301 => "Moved Permanently",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        431 => "Request Header Fields Too Large",
        _ => "Internal Server Error",
    }
}

/// Escapes all of a path but its slashes and what a URL's path may hold as it is.
fn percent_encode(out: &mut impl Write, path: &str) -> io::Result<()> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/-._~!$&'()*+,;=:@".contains(&b);
    let mut rest = path.as_bytes();
    while !rest.is_empty() {
        let end = rest.iter().position(|b| !plain(*b)).unwrap_or(rest.len());
        out.write_all(&rest[..end])?;
        rest = &rest[end..];
        if let Some((byte, tail)) = rest.split_first() {
            write!(out, "%{byte:02X}")?;
            rest = tail;
        }
    }
    Ok(())
}

/// A field's value, if there is one and it is text.
fn field<'b>(fields: &[httparse::Header<'b>], name: &str) -> Option<&'b str> {
    let field = fields.iter().find(|field| field.name.eq_ignore_ascii_case(name))?;
    std::str::from_utf8(field.value).ok()
}

fn has_token(value: &str, token: &str) -> bool {
    value.split(',').any(|word| word.trim().eq_ignore_ascii_case(token))
}

/// The one length that all fields of that name agree on.
fn content_length(fields: &[httparse::Header<'_>]) -> Result<Option<u64>, HeadError> {
    let mut length = None;
    for field in fields.iter().filter(|field| field.name.eq_ignore_ascii_case("content-length")) {
        let digits = std::str::from_utf8(field.value).map_err(|_| HeadError::Framing)?.trim();
        // `parse` alone would take a sign.
        if !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(HeadError::Framing);
        }
        let value: u64 = digits.parse().map_err(|_| HeadError::Framing)?;
        if length.is_some_and(|other| other != value) {
            return Err(HeadError::Framing);
        }
        length = Some(value);
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_complete_only_with_its_empty_line() {
        let whole = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\nnext";
        for cut in 0..whole.len() - 4 {
            assert_eq!(parse_request(&whole[..cut]), Ok(None), "after {cut} bytes");
        }
        let (request, len) = parse_request(whole).unwrap().unwrap();
        assert_eq!((request.method, request.target, len), ("GET", "/a", whole.len() - 4));
    }

    fn keeps_alive(head: &str) -> bool {
        parse_request(head.as_bytes()).unwrap().unwrap().0.keep_alive
    }

    #[test]
    fn keep_alive_is_the_default_since_1_1() {
        assert!(keeps_alive("GET / HTTP/1.1\r\n\r\n"));
        assert!(!keeps_alive("GET / HTTP/1.0\r\n\r\n"));
        assert!(!keeps_alive("GET / HTTP/1.1\r\nConnection: te, Close\r\n\r\n"));
        assert!(keeps_alive("GET / HTTP/1.0\r\nCONNECTION: Keep-Alive\r\n\r\n"));
    }

    #[test]
    fn a_request_with_a_body_is_seen() {
        let has_body = |head: &str| parse_request(head.as_bytes()).unwrap().unwrap().0.has_body;
        assert!(has_body("POST / HTTP/1.1\r\ncontent-length: 3\r\n\r\n"));
        assert!(has_body("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n"));
        assert!(!has_body("GET / HTTP/1.1\r\ncontent-length: 0\r\n\r\n"));
    }

    #[test]
    fn a_request_survives_the_way_to_the_server() {
        let mut bytes = Vec::new();
        write_request(&mut bytes, "127.0.0.1:80", "/a b/é%?#\"&.html").unwrap();
        let (request, len) = parse_request(&bytes).unwrap().unwrap();
        assert_eq!(request.target, "/a%20b/%C3%A9%25%3F%23%22&.html");
        assert!(!request.keep_alive);
        assert_eq!(len, bytes.len());
    }

    #[test]
    fn a_response_survives_the_way_back() {
        let mut bytes = Vec::new();
        write_response(&mut bytes, 301, "text/html; charset=utf-8", 12, Some("/a b/"), true).unwrap();
        let (response, len) = parse_response(&bytes).unwrap().unwrap();
        let expected =
            Response { status: 301, body_bytes: Some(12), is_html: true, location: Some("/a%20b/".into()) };
        assert_eq!((response, len), (expected, bytes.len()));
    }

    #[test]
    fn a_response_without_a_length_ends_with_the_connection() {
        let (response, _) =
            parse_response(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\n").unwrap().unwrap();
        assert_eq!((response.body_bytes, response.is_html), (None, false));
    }

    #[test]
    fn a_body_of_unclear_length_is_refused() {
        for fields in [
            "content-length: 1\r\ncontent-length: 2\r\n",
            "content-length: +1\r\n",
            "content-length: -1\r\n",
            "content-length: \r\n",
            "content-length: 99999999999999999999\r\n",
            "transfer-encoding: chunked\r\n",
        ] {
            let head = format!("HTTP/1.1 200 OK\r\n{fields}\r\n");
            assert_eq!(parse_response(head.as_bytes()), Err(HeadError::Framing), "{fields}");
        }
        assert!(parse_response(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\n").is_ok());
    }

    #[test]
    fn what_is_no_head_is_refused_at_once() {
        assert!(matches!(parse_response(b"SSH-2.0-x\r\n"), Err(HeadError::Malformed(_))));
        assert!(matches!(parse_request(b"GET\0/ HTTP/1.1\r\n"), Err(HeadError::Malformed(_))));
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(FIELDS_MAX + 1));
        let too_many = HeadError::Malformed(httparse::Error::TooManyHeaders);
        assert_eq!(parse_response(many.as_bytes()), Err(too_many));
    }
}
