//! A socket that accepts connections.
//!
//! # Problem
//! When the process is out of files, `accept` fails at once, and so does the next one: the connection stays where it was.
//! A loop that logs the error and goes on then takes a whole core and fills the log, just when the machine is at its limit
//! (bugs.md 47).
//!
//! # Idea
//! Such an error is handed out only after a pause, by a timer. The listener keeps the pause's end, so that an `accept` that
//! is dropped and called again, by a `timeout` or a `select`, neither hides the error for ever nor starts the pause anew.
//! Nothing is taken from the system meanwhile and the readiness stays, so the next call finds what waits without an edge.
//!
//! # Rejected
//! Waiting inside until files are free: the caller would never learn why nobody is served. An error at once, and a pause
//! at the next call: a caller who closes something upon the error would wait for nothing.

use std::future::poll_fn;
use std::io;
use std::net::{self, SocketAddr};
use std::pin::Pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use super::address::{ToAddress, lookup_host};
use super::error;
use super::registered::Registered;
use super::tcp::TcpStream;
use crate::driver;
use crate::driver::reactor::Direction;
use crate::sync::{Mutex, lock};
use crate::time::{now, sleep_until};

/// How long an error lasts that the next try would only meet again.
const PAUSE: Duration = Duration::from_millis(50);

/// A socket that accepts connections.
///
/// ```
/// anteroom::block_on(async {
///     let listener = anteroom::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
///     assert_ne!(listener.local_addr().unwrap().port(), 0);
/// });
/// ```
///
/// Of several tasks that accept from one listener at once only the last one is woken: let one accept, and spawn.
#[derive(Debug)]
pub struct TcpListener {
    io: Registered<mio::net::TcpListener>,
    /// The end of the pause that an error of the machine's began.
    pause_until: Mutex<Option<Instant>>,
}

impl TcpListener {
    fn new(listener: mio::net::TcpListener) -> io::Result<TcpListener> {
        Ok(Self { io: Registered::new(listener)?, pause_until: Mutex::new(None) })
    }

    /// Listens on the first of the addresses that can be bound. On Unix the address may be bound again at once after a
    /// restart (`SO_REUSEADDR`).
    ///
    /// # Errors
    /// The last address's error, with the address; or the lookup's. Files or memory that have run out are no address's
    /// matter, and come as the system said it.
    ///
    /// # Cancel safety
    /// Dropped, nothing is bound; a lookup goes on and its result is dropped.
    pub async fn bind(address: impl ToAddress) -> io::Result<TcpListener> {
        let mut last = None;
        for address in lookup_host(address).await? {
            match mio::net::TcpListener::bind(address) {
                Ok(listener) => return Self::new(listener),
                Err(error) => last = Some(error::at(address, error)),
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
        Self::new(mio::net::TcpListener::from_std(listener))
    }

    /// Waits for a connection, and whose it is.
    ///
    /// A loop over it needs no sleep of its own:
    ///
    /// ```no_run
    /// use anteroom::net::{TcpListener, TcpStream};
    ///
    /// async fn serve(connection: TcpStream) { /* ... */ }
    ///
    /// async fn run(listener: TcpListener) -> Result<(), anteroom::SpawnError> {
    ///     loop {
    ///         match listener.accept().await {
    ///             Ok((connection, _)) => drop(anteroom::spawn(serve(connection)).await?),
    ///             Err(error) => eprintln!("accept: {error}"),
    ///         }
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    /// What the system says. `ConnectionAborted` and the like concern one peer, and the next call works.
    ///
    /// When files or memory have run out (`EMFILE`, `ENFILE`, `ENOBUFS`, `ENOMEM`), the next call would fail as well: the
    /// error comes only after 50 ms, so that a loop does not spin. The connection is not lost. It waits in the backlog, and
    /// is accepted by the first call that finds room.
    ///
    /// A connection that was accepted and cannot be watched, because as many sockets are open as may be, is closed again;
    /// that error has its pause too. Polled outside a runtime there is no pause, and no connection can be watched: the
    /// error is `Unsupported`.
    ///
    /// # Bounds
    /// Connections that nobody has accepted wait in the system's backlog, and are turned away by it when it is full.
    ///
    /// # Cancel safety
    /// Dropped, no connection was taken. If it was dropped in the pause before an error, the next call fails when the
    /// rest of that pause is over, unless it finds room.
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let accepted =
            poll_fn(|cx| self.io.poll_io(Direction::Read, cx, |_| true, mio::net::TcpListener::accept));
        let result = match accepted.await {
            // It fails when no more can be watched, which the next one would find as well.
            Ok((stream, peer)) => TcpStream::new(stream).map(|stream| (stream, peer)),
            Err(error) if error::is_shortage(&error) => Err(error),
            Err(error) => return Err(error),
        };
        if result.is_err() {
            self.pause().await;
        }
        result
    }

    /// Waits until the pause is over that begins now, or that an `accept` began which was dropped in it.
    async fn pause(&self) {
        let end = now() + PAUSE;
        // It may have begun in another runtime, whose clock was ahead.
        let end = end.min(*lock(&self.pause_until).get_or_insert(end));
        let mut sleep = sleep_until(end);
        poll_fn(|cx| match driver::with(|_| ()) {
            Some(()) => Pin::new(&mut sleep).poll(cx),
            // Outside a runtime there is no timer.
            None => Poll::Ready(()),
        })
        .await;
        *lock(&self.pause_until) = None;
    }

    /// Where it listens.
    ///
    /// # Errors
    /// What the system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.source().local_addr()
    }
}
