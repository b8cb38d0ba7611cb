//! From what a request asks for to the bytes that answer it. Everything here may block.
//!
//! # Bounds
//!
//! An answer holds [`CHUNK_BYTES`] of its file at a time, and a head. Most pages fit one chunk, so most
//! answers are one job of the pool and one write.
//!
//! # What may be read
//!
//! Files under the folder, by names without `..` ([`file_of`]). Symbolic links in it are followed: who made
//! the folder made them. Nothing that is neither a file nor a folder.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::{http, paths};

/// How much of a file is in memory at once.
const CHUNK_BYTES: u64 = 64 * 1024;

/// What a page is sent as.
const HTML: &str = "text/html; charset=utf-8";

/// A part of an answer in memory, and the file that the rest is read from.
pub(crate) struct Reply {
    pub(crate) bytes: Vec<u8>,
    file: Option<File>,
    /// How much of the body is still in the file.
    pub(crate) left: u64,
}

impl Reply {
    /// An answer that says what its status says.
    pub(crate) fn status(status: u16, location: Option<&str>, body: bool, keep_alive: bool) -> Reply {
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
    pub(crate) fn file(path: &Path, body: bool, keep_alive: bool) -> Reply {
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
        let metadata = fs::metadata(path)?;
        if metadata.is_dir() {
            // Its links are relative to what is *in* it, so the reader has to stand there.
            let name = path.file_name().and_then(|name| name.to_str()).ok_or(io::ErrorKind::NotFound)?;
            return Ok(Reply::status(301, Some(&format!("./{name}/")), body, keep_alive));
        }
        if !metadata.is_file() {
            // To open a pipe would wait for whoever writes to it, and take a thread of the pool along.
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let (file, len) = (File::open(path)?, metadata.len());
        let mut bytes = Vec::with_capacity(256 + len.min(CHUNK_BYTES) as usize);
        http::write_response(&mut bytes, 200, content_type(path), len, None, keep_alive)?;
        let reply = Reply { bytes, file: Some(file), left: if body { len } else { 0 } };
        reply.fill()
    }

    /// The next part, in the memory of this one. Blocks.
    pub(crate) fn next_chunk(mut self) -> io::Result<Reply> {
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

/// The file that a request's target names. None: it tries to leave the folder, or names nothing a file can be
/// called.
pub(crate) fn file_of(folder: &Path, target: &str) -> Option<PathBuf> {
    let path = target.split(['?', '#']).next().unwrap_or_default().strip_prefix('/')?;
    let mut file = folder.to_owned();
    let mut last = "";
    for segment in path.split('/') {
        last = segment;
        let name = String::from_utf8(paths::percent_decode(segment)).ok()?;
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
        #[cfg(unix)]
        assert!(text(&Reply::file(Path::new("/dev/null"), true, true)).starts_with("HTTP/1.1 403 "));
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
