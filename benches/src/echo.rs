//! TCP echo: a server a runtime, and one load for all of them.
//!
//! # Problem
//! What a runtime adds to a request shows only beside a server without any: a bare epoll loop, that does what every server
//! must do and nothing else.
//!
//! # Idea
//! Each server is a process of its own, on the first core. The load is this process, on the second, and is a bare epoll
//! loop too: a closed one, so each connection has one message under way, and sends the next when the echo is back. What the
//! server's processor time and system calls are is read from outside, while nothing is under way.
//!
//! # Rules
//! - [ECHO-1] The servers do the same: accept, and for each connection a task that reads into a buffer of its own and writes
//!   back what was read. The buffer is larger than a message, so that a short read tells whoever asks that no more is there.
//! - [ECHO-2] Every echo is compared with what was sent, and counted.
//! - [ECHO-3] All servers live side by side, and only one is asked at a time: nothing is measured before the one that was
//!   asked last has closed what it had, and is at rest.
//!
//! # Read next
//! `bare.rs`, the loop that all are measured against; `anteroom.rs`; `load.rs`.

mod anteroom;
mod bare;
#[cfg(feature = "peers")]
mod compio;
#[cfg(feature = "peers")]
mod glommio;
mod load;
#[cfg(feature = "peers")]
mod monoio;
mod server;
#[cfg(feature = "peers")]
mod smol;
#[cfg(feature = "peers")]
mod tokio;

use std::io;
use std::net::SocketAddr;

pub use load::{Load, Ran};
pub use server::{Server, more_files, pin, serve};

/// What a connection sends at once.
pub const MESSAGE: usize = 64;

/// What a server reads into ([ECHO-1]).
pub const BUFFER: usize = 2 * MESSAGE;

/// The server without a runtime.
pub const BARE: &str = "bare epoll";

/// Where the server listens: on any free port.
const ANY_PORT: &str = "127.0.0.1:0";

type Serve = fn() -> io::Result<()>;

/// The names, and what serves until the process is ended.
const SERVERS: &[(&str, Serve)] = &[
    (BARE, bare::serve),
    ("anteroom", anteroom::serve),
    #[cfg(feature = "peers")]
    ("tokio", tokio::serve),
    #[cfg(feature = "peers")]
    ("smol", smol::serve),
    #[cfg(feature = "peers")]
    ("monoio io_uring", monoio::serve_io_uring),
    #[cfg(feature = "peers")]
    ("monoio legacy", monoio::serve_epoll),
    #[cfg(feature = "peers")]
    ("compio", compio::serve),
    #[cfg(feature = "peers")]
    ("glommio", glommio::serve),
];

/// Every server's name, the bare one first.
pub fn names() -> impl Iterator<Item = &'static str> {
    SERVERS.iter().map(|(name, _)| *name)
}

/// Tells whoever started this process where it listens. Each server calls it once.
fn listening(address: SocketAddr) {
    println!("{}", address.port());
}
