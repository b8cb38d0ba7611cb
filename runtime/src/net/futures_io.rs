//! The traits of the crate `futures-io`, behind the feature of that name.
//!
//! # Problem
//! Libraries for TLS, HTTP and WebSockets are generic over a reader and a writer, and know nothing of our sockets.
//!
//! # Idea
//! Each impl is another name for a poll that the connection has anyway. Nothing is buffered, so to flush is to do nothing;
//! to close is to end the writing direction, after which reading goes on.

use std::io::{self, IoSlice, IoSliceMut};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_io::{AsyncRead, AsyncWrite};

use super::halves::{ReadHalf, WriteHalf, end_writing};
use super::tcp::TcpStream;

/// Reads from `$stream`, the connection behind `$this`.
macro_rules! reads {
    ($(#[$doc:meta])* $of:ty, $this:ident => $stream:expr) => {
        $(#[$doc])*
        impl AsyncRead for $of {
            #[inline]
            fn poll_read(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                buffer: &mut [u8],
            ) -> Poll<io::Result<usize>> {
                let $this = &*self;
                $stream.poll_read(cx, buffer)
            }

            #[inline]
            fn poll_read_vectored(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                buffers: &mut [IoSliceMut<'_>],
            ) -> Poll<io::Result<usize>> {
                let $this = &*self;
                $stream.poll_read_vectored(cx, buffers)
            }
        }
    };
}

/// Writes to `$stream`, the connection behind `$this`.
macro_rules! writes {
    ($(#[$doc:meta])* $of:ty, $this:ident => $stream:expr) => {
        $(#[$doc])*
        impl AsyncWrite for $of {
            #[inline]
            fn poll_write(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                bytes: &[u8],
            ) -> Poll<io::Result<usize>> {
                let $this = &*self;
                $stream.poll_write(cx, bytes)
            }

            #[inline]
            fn poll_write_vectored(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                buffers: &[IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                let $this = &*self;
                $stream.poll_write_vectored(cx, buffers)
            }

            /// Ready at once: nothing is buffered.
            fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(Ok(()))
            }

            /// Ready at once: it ends the writing direction. To do it again does nothing.
            fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                let $this = &*self;
                Poll::Ready(end_writing($stream))
            }
        }
    };
}

reads! {
    /// With the feature `futures-io`.
    ///
    /// ```
    /// # use anteroom::net::{TcpListener, TcpStream};
    /// use std::pin::Pin;
    /// use futures_io::AsyncRead;
    ///
    /// /// One byte of any reader.
    /// async fn byte(mut reader: impl AsyncRead + Unpin) -> std::io::Result<u8> {
    ///     let mut byte = [0];
    ///     std::future::poll_fn(|cx| Pin::new(&mut reader).poll_read(cx, &mut byte)).await?;
    ///     Ok(byte[0])
    /// }
    ///
    /// # anteroom::block_on(async {
    /// # let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    /// # let peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    /// # let (stream, _) = listener.accept().await.unwrap();
    /// # peer.write_all(b"hello").await.unwrap();
    /// assert_eq!(byte(&stream).await.unwrap(), b'h');
    /// assert_eq!(byte(stream).await.unwrap(), b'e');
    /// # });
    /// ```
    ///
    /// # Errors
    /// What the system says.
    ///
    /// # Cancel safety
    /// Pending, nothing was read.
    TcpStream, this => this
}

writes! {
    /// With the feature `futures-io`. To close ends the writing direction, as `shutdown(Shutdown::Write)` does, and may be
    /// done again.
    ///
    /// # Errors
    /// What the system says; but not, of closing, that the connection is gone.
    ///
    /// # Cancel safety
    /// Pending, nothing was written.
    TcpStream, this => this
}

reads! {
    /// With the feature `futures-io`: one task may read through one reference while another writes through a second. Of
    /// several that wait for the same direction only the last one is woken.
    &TcpStream, this => *this
}

writes! {
    /// With the feature `futures-io`; see the impl for `TcpStream`.
    &TcpStream, this => *this
}

reads! {
    /// With the feature `futures-io`; see the impl for `TcpStream`.
    ReadHalf, this => this.as_ref()
}

writes! {
    /// With the feature `futures-io`; see the impl for `TcpStream`.
    WriteHalf, this => this.as_ref()
}
