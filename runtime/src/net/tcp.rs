//! A connection.

use std::future::poll_fn;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::{self, Shutdown, SocketAddr};
use std::task::{Context, Poll};

use super::address::{ToAddress, lookup_host};
use super::error;
use super::halves::{self, ReadHalf, WriteHalf};
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
/// # Both directions at once
/// All methods take `&self`, so that one future can read while another writes: by a borrow, an `Rc` or an `Arc`, or each
/// with a half of its own after [`into_split`](Self::into_split). Of several that wait for the *same* direction only the
/// last one is woken.
///
/// ```
/// # use anteroom::net::{TcpListener, TcpStream};
/// # use std::sync::Arc;
/// # anteroom::block_on(async {
/// # let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
/// # let address = listener.local_addr().unwrap();
/// # let echo = anteroom::spawn(async move {
/// #     let (stream, _) = listener.accept().await.unwrap();
/// #     let mut buffer = [0; 1_000];
/// #     loop {
/// #         match stream.read(&mut buffer).await.unwrap() {
/// #             0 => break,
/// #             read => stream.write_all(&buffer[..read]).await.unwrap(),
/// #         }
/// #     }
/// # });
/// # let echo = echo.await.unwrap();
/// // More than both ends can buffer, to a server that echoes: who first wrote all and then read would wait for ever.
/// const BYTES: usize = 16 << 20;
/// let stream = Arc::new(TcpStream::connect(address).await.unwrap());
/// let writer = stream.clone();
/// let writer = anteroom::spawn(async move {
///     writer.write_all(&vec![7; BYTES]).await.unwrap();
/// });
/// let writer = writer.await.unwrap();
/// let mut got = vec![0; BYTES];
/// stream.read_exact(&mut got).await.unwrap();
/// assert!(got.iter().all(|&byte| byte == 7));
/// # writer.await.unwrap();
/// # drop(stream);
/// # echo.await.unwrap();
/// # });
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
    /// ```
    /// anteroom::block_on(async {
    ///     let error = anteroom::net::TcpStream::connect("127.0.0.1:1").await.unwrap_err();
    ///     assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    ///     assert!(error.to_string().starts_with("127.0.0.1:1: "));
    /// });
    /// ```
    ///
    /// # Errors
    /// The last address's error, with the address; or the lookup's. Files or memory that have run out are no address's
    /// matter, and come as the system said it. `Unsupported` outside a runtime.
    ///
    /// # Cancel safety
    /// Dropped, the attempt ends.
    pub async fn connect(address: impl ToAddress) -> io::Result<TcpStream> {
        let mut last = None;
        for address in lookup_host(address).await? {
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
        Self::connect_unnamed(address).await.map_err(|error| error::at(address, error))
    }

    async fn connect_unnamed(address: SocketAddr) -> io::Result<TcpStream> {
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
        poll_fn(|cx| self.poll_write_vectored(cx, buffers)).await
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

    /// As [`read`](Self::read), into several buffers with one system call, the first one first.
    ///
    /// # Errors
    /// What the system says.
    ///
    /// # Cancel safety
    /// Dropped, nothing was read.
    pub async fn read_vectored(&self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        poll_fn(|cx| self.poll_read_vectored(cx, buffers)).await
    }

    /// As [`read`](Self::read), but what was read stays, and the next read gets it again.
    ///
    /// To peek again before anything was read gives the same at once: it does not wait for more.
    ///
    /// ```
    /// # use anteroom::net::{TcpListener, TcpStream};
    /// # anteroom::block_on(async {
    /// # let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    /// # let peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    /// # let (stream, _) = listener.accept().await.unwrap();
    /// # peer.write_all(b"GET /").await.unwrap();
    /// let mut first = [0; 1];
    /// stream.peek(&mut first).await.unwrap();
    /// assert_eq!(&first, b"G"); // not a TLS handshake
    /// let mut all = [0; 5];
    /// stream.read_exact(&mut all).await.unwrap();
    /// assert_eq!(&all, b"GET /");
    /// # });
    /// ```
    ///
    /// # Errors
    /// What the system says.
    ///
    /// # Cancel safety
    /// Nothing is ever lost.
    pub async fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        poll_fn(|cx| self.poll_peek(cx, buffer)).await
    }

    /// The poll of [`read`](Self::read), to build futures and streams of. Pending, it wakes `cx`'s waker when there may be
    /// something to read, in the place of whatever waker waited for that before.
    ///
    /// ```
    /// # use anteroom::net::{TcpListener, TcpStream};
    /// # anteroom::block_on(async {
    /// # let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    /// # let peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    /// # let (stream, _) = listener.accept().await.unwrap();
    /// # peer.write_all(b"hello").await.unwrap();
    /// let mut buffer = [0; 100];
    /// let read = std::future::poll_fn(|cx| stream.poll_read(cx, &mut buffer)).await.unwrap();
    /// assert_eq!(&buffer[..read], b"hello");
    /// # });
    /// ```
    ///
    /// # Errors
    /// What the system says.
    ///
    /// # Cancel safety
    /// Pending, nothing was read.
    #[inline]
    pub fn poll_read(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let asked = buffer.len();
        if asked == 0 {
            return Poll::Ready(Ok(0));
        }
        self.io.poll_io(Direction::Read, cx, |&read| read == asked, |mut io| io.read(buffer))
    }

    /// The poll of [`read_vectored`](Self::read_vectored); see [`poll_read`](Self::poll_read).
    ///
    /// # Errors
    /// What the system says.
    ///
    /// # Cancel safety
    /// Pending, nothing was read.
    pub fn poll_read_vectored(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        let asked: usize = buffers.iter().map(|buffer| buffer.len()).sum();
        if asked == 0 {
            return Poll::Ready(Ok(0));
        }
        self.io.poll_io(Direction::Read, cx, |&read| read == asked, |mut io| io.read_vectored(buffers))
    }

    /// The poll of [`peek`](Self::peek); see [`poll_read`](Self::poll_read).
    ///
    /// # Errors
    /// What the system says.
    ///
    /// # Cancel safety
    /// Nothing is ever lost.
    pub fn poll_peek(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        if buffer.is_empty() {
            return Poll::Ready(Ok(0));
        }
        // However little it was, it is still there: the socket stays ready.
        self.io.poll_io(Direction::Read, cx, |_| true, |io| io.peek(buffer))
    }

    /// The poll of [`write`](Self::write), to build futures and sinks of. Pending, it wakes `cx`'s waker when there may be
    /// room, in the place of whatever waker waited for that before.
    ///
    /// ```
    /// # use anteroom::net::{TcpListener, TcpStream};
    /// # anteroom::block_on(async {
    /// # let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    /// let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    /// let wrote = std::future::poll_fn(|cx| stream.poll_write(cx, b"hello")).await.unwrap();
    /// assert_eq!(wrote, 5);
    /// # });
    /// ```
    ///
    /// # Errors
    /// What the system says.
    ///
    /// # Cancel safety
    /// Pending, nothing was written.
    #[inline]
    pub fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        self.io.poll_io(Direction::Write, cx, |&wrote| wrote == bytes.len(), |mut io| io.write(bytes))
    }

    /// The poll of [`write_vectored`](Self::write_vectored); see [`poll_write`](Self::poll_write).
    ///
    /// # Errors
    /// What the system says.
    ///
    /// # Cancel safety
    /// Pending, nothing was written.
    pub fn poll_write_vectored(
        &self,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let asked: usize = buffers.iter().map(|buffer| buffer.len()).sum();
        if asked == 0 {
            return Poll::Ready(Ok(0));
        }
        self.io.poll_io(Direction::Write, cx, |&wrote| wrote == asked, |mut io| io.write_vectored(buffers))
    }

    /// Two halves, one a direction, each of which can go to a task of its own.
    ///
    /// ```
    /// # use anteroom::net::{TcpListener, TcpStream};
    /// anteroom::block_on(async {
    ///     let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    ///     let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    ///     let (mut reader, mut writer) = listener.accept().await.unwrap().0.into_split();
    ///
    ///     let sends = anteroom::spawn(async move {
    ///         writer.write_all(b"all I have to say").await.unwrap();
    ///         // Dropped here, it ends this direction.
    ///     });
    ///     sends.await.unwrap();
    ///     let mut said = [0; 17];
    ///     client.read_exact(&mut said).await.unwrap();
    ///     assert_eq!(client.read(&mut said).await.unwrap(), 0);
    ///
    ///     client.write_all(b"but I am listening").await.unwrap();
    ///     let mut heard = [0; 18];
    ///     reader.read_exact(&mut heard).await.unwrap();
    /// });
    /// ```
    pub fn into_split(self) -> (ReadHalf, WriteHalf) {
        halves::split(self)
    }

    /// Ends one direction or both. After `Shutdown::Write` the peer's reads end, once they have got what was written before;
    /// after `Shutdown::Read` the reads of this end do.
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
