//! A connection in two halves, one a direction.
//!
//! # Idea
//! Both hold the connection in an `Arc`. Reading and writing take `&mut self`, so that the compiler sees to it that one
//! task waits a direction, which is all that the reactor wakes. Dropping the writing half ends its direction, since whoever
//! reads at the other end would wait for more for as long as the reading half is kept.

use std::error::Error;
use std::fmt;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::net::Shutdown;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::tcp::TcpStream;

/// The reading half of a [`TcpStream`], from [`TcpStream::into_split`].
///
/// Dropping it ends nothing: the peer may write until its bytes fill the system's buffers. The connection is closed when
/// both halves are dropped.
///
/// ```
/// # use anteroom::net::{TcpListener, TcpStream};
/// # anteroom::block_on(async {
/// # let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
/// # let peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
/// # let (stream, _) = listener.accept().await.unwrap();
/// # peer.write_all(b"one line\n").await.unwrap();
/// let (mut reader, writer) = stream.into_split();
/// let line = anteroom::spawn(async move {
///     let mut line = [0; 9];
///     reader.read_exact(&mut line).await.unwrap();
///     line
/// });
/// assert_eq!(&line.join().await.unwrap(), b"one line\n");
/// # drop(writer);
/// # });
/// ```
///
/// # Errors
/// Those of [`TcpStream`].
#[derive(Debug)]
pub struct ReadHalf {
    stream: Arc<TcpStream>,
}

/// The writing half of a [`TcpStream`], from [`TcpStream::into_split`].
///
/// Dropping it ends the direction, as [`shutdown`](Self::shutdown) does: the peer reads what was written before, and then
/// the end. The connection is closed when both halves are dropped.
///
/// ```
/// # use anteroom::net::{TcpListener, TcpStream};
/// # anteroom::block_on(async {
/// # let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
/// # let peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
/// # let (stream, _) = listener.accept().await.unwrap();
/// let (reader, mut writer) = stream.into_split();
/// writer.write_all(b"the end").await.unwrap();
/// drop(writer);
/// let mut got = [0; 7];
/// peer.read_exact(&mut got).await.unwrap();
/// assert_eq!(peer.read(&mut got).await.unwrap(), 0);
/// # drop(reader);
/// # });
/// ```
///
/// # Errors
/// Those of [`TcpStream`].
#[derive(Debug)]
pub struct WriteHalf {
    stream: Arc<TcpStream>,
    /// Whether its drop is the end of the direction: not when the halves were put together again.
    ends: bool,
}

pub(super) fn split(stream: TcpStream) -> (ReadHalf, WriteHalf) {
    let stream = Arc::new(stream);
    (ReadHalf { stream: stream.clone() }, WriteHalf { stream, ends: true })
}

/// Puts two halves together.
fn reunite(read: ReadHalf, mut write: WriteHalf) -> Result<TcpStream, ReuniteError> {
    if !Arc::ptr_eq(&read.stream, &write.stream) {
        return Err(ReuniteError(read, write));
    }
    write.ends = false;
    drop(write);
    Ok(Arc::into_inner(read.stream).expect("the other half has just been dropped, and there are two"))
}

impl ReadHalf {
    /// As [`TcpStream::read`].
    ///
    /// # Errors
    /// What the system says.
    ///
    /// # Cancel safety
    /// Dropped, nothing was read.
    pub async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.read(buffer).await
    }

    /// As [`TcpStream::read_exact`].
    ///
    /// # Errors
    /// `UnexpectedEof` if the peer closes first, and what the system says.
    ///
    /// # Cancel safety
    /// Dropped, what was read so far is in `buffer` and how much is not known.
    pub async fn read_exact(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        self.stream.read_exact(buffer).await
    }

    /// As [`TcpStream::read_vectored`].
    ///
    /// # Errors
    /// What the system says.
    ///
    /// # Cancel safety
    /// Dropped, nothing was read.
    pub async fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.stream.read_vectored(buffers).await
    }

    /// As [`TcpStream::peek`].
    ///
    /// # Errors
    /// What the system says.
    ///
    /// # Cancel safety
    /// Nothing is ever lost.
    pub async fn peek(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.peek(buffer).await
    }

    /// As [`TcpStream::poll_read`].
    ///
    /// # Errors
    /// What the system says.
    ///
    /// # Cancel safety
    /// Pending, nothing was read.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        self.stream.poll_read(cx, buffer)
    }

    /// Puts the halves together; nothing was ended.
    ///
    /// ```
    /// # use anteroom::net::{TcpListener, TcpStream};
    /// # anteroom::block_on(async {
    /// # let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    /// # let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    /// let (reader, writer) = stream.into_split();
    /// let stream = reader.reunite(writer).unwrap();
    /// stream.write_all(b"as before").await.unwrap();
    /// # });
    /// ```
    ///
    /// # Errors
    /// [`ReuniteError`], with both, if they are of two connections.
    pub fn reunite(self, other: WriteHalf) -> Result<TcpStream, ReuniteError> {
        reunite(self, other)
    }
}

/// The connection, for its addresses and options.
///
/// ```
/// # use anteroom::net::{TcpListener, TcpStream};
/// # anteroom::block_on(async {
/// # let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
/// # let address = listener.local_addr().unwrap();
/// # let stream = TcpStream::connect(address).await.unwrap();
/// let (reader, writer) = stream.into_split();
/// assert_eq!(reader.as_ref().peer_addr().unwrap(), address);
/// writer.as_ref().set_nodelay(true).unwrap();
/// # });
/// ```
impl AsRef<TcpStream> for ReadHalf {
    fn as_ref(&self) -> &TcpStream {
        &self.stream
    }
}

impl WriteHalf {
    /// As [`TcpStream::write`].
    ///
    /// # Errors
    /// What the system says.
    ///
    /// # Cancel safety
    /// Dropped, nothing was written.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write(bytes).await
    }

    /// As [`TcpStream::write_all`].
    ///
    /// # Errors
    /// `WriteZero` if the system takes no more, and what else it says.
    ///
    /// # Cancel safety
    /// Dropped, some of them may have been written and how many is not known.
    pub async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// As [`TcpStream::write_vectored`].
    ///
    /// # Errors
    /// What the system says.
    ///
    /// # Cancel safety
    /// Dropped, nothing was written.
    pub async fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        self.stream.write_vectored(buffers).await
    }

    /// As [`TcpStream::poll_write`].
    ///
    /// # Errors
    /// What the system says.
    ///
    /// # Cancel safety
    /// Pending, nothing was written.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.stream.poll_write(cx, bytes)
    }

    /// Ends the direction: the peer reads what was written before, and then the end. To do it again does nothing.
    ///
    /// ```
    /// # use anteroom::net::{TcpListener, TcpStream};
    /// # anteroom::block_on(async {
    /// # let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    /// # let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    /// # let (peer, _) = listener.accept().await.unwrap();
    /// let (reader, mut writer) = stream.into_split();
    /// writer.shutdown().unwrap();
    /// writer.shutdown().unwrap();
    /// assert_eq!(peer.read(&mut [0]).await.unwrap(), 0);
    /// # drop(reader);
    /// # });
    /// ```
    ///
    /// # Errors
    /// What the system says; but not that the connection is gone, for then there is nothing left to end.
    pub fn shutdown(&mut self) -> io::Result<()> {
        end_writing(&self.stream)
    }

    /// As [`ReadHalf::reunite`].
    ///
    /// # Errors
    /// [`ReuniteError`], with both, if they are of two connections.
    pub fn reunite(self, other: ReadHalf) -> Result<TcpStream, ReuniteError> {
        reunite(other, self)
    }
}

/// The connection, for its addresses and options.
impl AsRef<TcpStream> for WriteHalf {
    fn as_ref(&self) -> &TcpStream {
        &self.stream
    }
}

impl Drop for WriteHalf {
    fn drop(&mut self) {
        if self.ends {
            // There is nobody to tell; and what can fail here is a connection that is gone.
            let _ = end_writing(&self.stream);
        }
    }
}

/// Ends the writing direction, as often as one likes: one that the peer has reset is at its end already.
pub(super) fn end_writing(stream: &TcpStream) -> io::Result<()> {
    match stream.shutdown(Shutdown::Write) {
        Err(error) if error.kind() == ErrorKind::NotConnected => Ok(()),
        result => result,
    }
}

/// Two halves that are not of one connection; it holds both.
///
/// ```
/// # use anteroom::net::{ReuniteError, TcpListener, TcpStream};
/// # anteroom::block_on(async {
/// # let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
/// # let address = listener.local_addr().unwrap();
/// let (reader, _writer) = TcpStream::connect(address).await.unwrap().into_split();
/// let (_reader, writer) = TcpStream::connect(address).await.unwrap().into_split();
/// let error = reader.reunite(writer).unwrap_err();
/// assert_eq!(error.to_string(), "the halves are of two connections");
/// let ReuniteError(reader, writer) = error;
/// # drop((reader, writer));
/// # });
/// ```
#[derive(Debug)]
pub struct ReuniteError(
    /// The reading half, as it was.
    pub ReadHalf,
    /// The writing half, as it was.
    pub WriteHalf,
);

impl fmt::Display for ReuniteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the halves are of two connections")
    }
}

impl Error for ReuniteError {}
