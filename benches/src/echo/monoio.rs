//! monoio, with each of its drivers. The buffer is lent to the driver and comes back, so it is on the heap.

use std::io;

use monoio::io::{AsyncReadRent, AsyncWriteRentExt};
use monoio::net::{TcpListener, TcpStream};
use monoio::{IoUringDriver, LegacyDriver, RuntimeBuilder, spawn};

use super::{ANY_PORT, BUFFER, listening};

pub(super) fn serve_io_uring() -> io::Result<()> {
    RuntimeBuilder::<IoUringDriver>::new().enable_timer().build()?.block_on(accept())
}

pub(super) fn serve_epoll() -> io::Result<()> {
    RuntimeBuilder::<LegacyDriver>::new().enable_timer().build()?.block_on(accept())
}

async fn accept() -> io::Result<()> {
    let listener = TcpListener::bind(ANY_PORT)?;
    listening(listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        spawn(echo(stream));
    }
}

async fn echo(mut stream: TcpStream) {
    let mut buffer = Vec::with_capacity(BUFFER);
    loop {
        let (read, bytes) = stream.read(buffer).await;
        let Ok(1..) = read else { break };
        let (written, mut bytes) = stream.write_all(bytes).await;
        if written.is_err() {
            break;
        }
        bytes.clear();
        buffer = bytes;
    }
}
