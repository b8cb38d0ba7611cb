//! A connection.

use std::future::poll_fn;
use std::io::{self, IoSlice, Read, Write};
use std::net::{self, Shutdown, SocketAddr};
use std::task::{Context, Poll};

use super::address::{ToAddress, lookup_host};
use super::registered::Registered;
use crate::driver::reactor::Direction;

/// A connection.
///
/// ```
/// use anteroom::net::{TcpListener, TcpStream};
/// anteroom::block_on(async {
///     let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
///     let address = listener.local_addr().unwrap();
///     let server = anteroom::spawn(async move {
///         let (stream, _) = listener.accept().await.unwrap();
///         stream.write_all(b"hello").await.unwrap();
///     });
///     let server = server.await.unwrap();
///     let stream = TcpStream::connect(address).await.unwrap();
///     let mut buffer = [0; 5];
///     stream.read_exact(&mut buffer).await.unwrap();
///     assert_eq!(&buffer, b"hello");
///     server.await.unwrap();
/// });
/// ```
///
/// # Bounds
/// It buffers nothing: the bytes lie in the system's buffers and in the caller's.
///
/// # Errors
/// Besides the system's: `NotConnected` once the runtime that it was made in is gone and the operation would block.
#[derive(Debug)]
pub struct TcpStream {
    io: Registered<mio::net::TcpStream>,
}

impl TcpStream {
    /// Connects to the first of the addresses that answers.
    ///
    /// # Errors
    /// The last address's error, or the lookup's.
    ///
    /// # Cancel safety
    /// Dropped, the attempt ends.
    pub async fn connect(address: impl ToAddress) -> io::Result<TcpStream> {
        let addresses = match address.address()? {
            Ok(address) => return Self::connect_to(address).await,
            Err((name, port)) => lookup_host((name.as_str(), port)).await?,
        };
        let mut last = None;
        for address in addresses {
            match Self::connect_to(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no address to connect to")))
    }

    /// Has `stream` watched by this thread's runtime.
    pub(super) fn new(stream: mio::net::TcpStream) -> io::Result<TcpStream> {
        Ok(Self { io: Registered::new(stream)? })
    }

    async fn connect_to(address: SocketAddr) -> io::Result<TcpStream> {
        let stream = Self::new(mio::net::TcpStream::connect(address)?)?;
        // Writable is assumed of a new source, so the first look may come before the answer: `NotConnected` says so.
        poll_fn(|cx| {
            stream.io.poll_io(
                Direction::Write,
                cx,
                |_| true,
                |io| {
                    if let Some(error) = io.take_error()? {
                        return Err(error);
                    }
                    match io.peer_addr() {
                        Ok(_) => Ok(()),
                        Err(error) if error.kind() == io::ErrorKind::NotConnected => {
                            Err(io::ErrorKind::WouldBlock.into())
                        }
                        Err(error) => Err(error),
                    }
                },
            )
        })
        .await?;
        Ok(stream)
    }

    /// Takes over a connection of std's; it is made non-blocking.
    ///
    /// # Errors
    /// What the system says, and `Unsupported` outside a runtime.
    pub fn from_std(stream: net::TcpStream) -> io::Result<TcpStream> {
        stream.set_nonblocking(true)?;
        Self::new(mio::net::TcpStream::from_std(stream))
    }

    /// Reads what is there, at least one byte; 0 means that the peer has closed, or that `buffer` is empty.
    ///
    /// # Errors
    /// What the system says.
    ///
    /// # Cancel safety
    /// Dropped, nothing was read.
    pub async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        poll_fn(|cx| self.poll_read(cx, buffer)).await
    }

    /// Reads until `buffer` is full.
    ///
    /// # Errors
    /// `UnexpectedEof` if the peer closes first, and what the system says.
    ///
    /// # Cancel safety
    /// Dropped, what was read so far is in `buffer` and how much is not known.
    pub async fn read_exact(&self, buffer: &mut [u8]) -> io::Result<()> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.read(&mut buffer[filled..]).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => filled += read,
            }
        }
        Ok(())
    }

    /// Writes as much of `bytes` as the system takes, at least one; 0 only if there are none.
    ///
    /// # Errors
    /// What the system says.
    ///
    /// # Cancel safety
    /// Dropped, nothing was written.
    pub async fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        poll_fn(|cx| self.poll_write(cx, bytes)).await
    }

    /// As [`write`](Self::write), from several buffers with one system call.
    ///
    /// # Errors
    /// What the system says.
    ///
    /// # Cancel safety
    /// Dropped, nothing was written.
    pub async fn write_vectored(&self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        let asked: usize = buffers.iter().map(|buffer| buffer.len()).sum();
        poll_fn(|cx| {
            self.io.poll_io(
                Direction::Write,
                cx,
                |&wrote| wrote == asked,
                |mut io| io.write_vectored(buffers),
            )
        })
        .await
    }

    /// Writes all of `bytes`.
    ///
    /// # Errors
    /// `WriteZero` if the system takes no more, and what else it says.
    ///
    /// # Cancel safety
    /// Dropped, some of them may have been written and how many is not known.
    pub async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.write(bytes).await? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                wrote => bytes = &bytes[wrote..],
            }
        }
        Ok(())
    }

    #[inline]
    fn poll_read(&self, cx: &Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let asked = buffer.len();
        self.io.poll_io(Direction::Read, cx, |&read| read == asked, |mut io| io.read(buffer))
    }

    #[inline]
    fn poll_write(&self, cx: &Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.io.poll_io(Direction::Write, cx, |&wrote| wrote == bytes.len(), |mut io| io.write(bytes))
    }

    /// Ends one direction or both; reads of the peer then end too.
    ///
    /// # Errors
    /// What the system says.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.io.source().shutdown(how)
    }

    /// This end's address.
    ///
    /// # Errors
    /// What the system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.source().local_addr()
    }

    /// The other end's address.
    ///
    /// # Errors
    /// What the system says.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.io.source().peer_addr()
    }

    /// Whether small writes are sent at once (`TCP_NODELAY`).
    ///
    /// # Errors
    /// What the system says.
    pub fn nodelay(&self) -> io::Result<bool> {
        self.io.source().nodelay()
    }

    /// Sends small writes at once instead of waiting for more.
    ///
    /// # Errors
    /// What the system says.
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        self.io.source().set_nodelay(nodelay)
    }
}
