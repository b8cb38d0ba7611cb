//! A socket that accepts connections.

use std::future::poll_fn;
use std::io;
use std::net::{self, SocketAddr};

use super::address::{ToAddress, lookup_host};
use super::registered::Registered;
use super::tcp::TcpStream;
use crate::driver::reactor::Direction;

/// A socket that accepts connections.
///
/// ```
/// anteroom::block_on(async {
///     let listener = anteroom::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
///     assert_ne!(listener.local_addr().unwrap().port(), 0);
/// });
/// ```
#[derive(Debug)]
pub struct TcpListener {
    io: Registered<mio::net::TcpListener>,
}

impl TcpListener {
    /// Listens on the first of the addresses that can be bound. On Unix the address may be bound again at once after a
    /// restart (`SO_REUSEADDR`).
    ///
    /// # Errors
    /// The last address's error, with the address; or the lookup's.
    pub async fn bind(address: impl ToAddress) -> io::Result<TcpListener> {
        let mut last = None;
        for address in lookup_host(address).await? {
            match mio::net::TcpListener::bind(address) {
                Ok(listener) => return Ok(Self { io: Registered::new(listener)? }),
                Err(error) => last = Some(io::Error::new(error.kind(), format!("{address}: {error}"))),
            }
        }
        Err(last.unwrap_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no address to listen on")))
    }

    /// Takes over a listener of std's; it is made non-blocking.
    ///
    /// # Errors
    /// What the system says, and `Unsupported` outside a runtime.
    pub fn from_std(listener: net::TcpListener) -> io::Result<TcpListener> {
        listener.set_nonblocking(true)?;
        Ok(Self { io: Registered::new(mio::net::TcpListener::from_std(listener))? })
    }

    /// Waits for a connection, and whose it is.
    ///
    /// # Errors
    /// What the system says. `ConnectionAborted` and the like concern one peer, and the next call works; with `EMFILE` it
    /// does not until files are closed, so a loop over it should sleep before it tries again. Polled outside a runtime,
    /// the connection is closed again, and the error is `Unsupported`.
    ///
    /// # Bounds
    /// Connections that nobody has accepted wait in the system's backlog, and are turned away by it when it is full.
    ///
    /// # Cancel safety
    /// Dropped, no connection was taken.
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let accepted =
            poll_fn(|cx| self.io.poll_io(Direction::Read, cx, |_| true, mio::net::TcpListener::accept));
        let (stream, peer) = accepted.await?;
        Ok((TcpStream::new(stream)?, peer))
    }

    /// Where it listens.
    ///
    /// # Errors
    /// What the system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.source().local_addr()
    }
}
