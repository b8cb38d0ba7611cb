//! compio, with io_uring. The buffer is lent to the driver and comes back, so it is on the heap.

use std::io;

use compio::BufResult;
use compio::io::{AsyncRead, AsyncWriteExt};
use compio::net::{TcpListener, TcpStream};
use compio::runtime::{Runtime, spawn};

use super::{ANY_PORT, BUFFER, listening};

pub(super) fn serve() -> io::Result<()> {
    Runtime::new()?.block_on(async {
        let listener = TcpListener::bind(ANY_PORT).await?;
        listening(listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept().await?;
            spawn(echo(stream)).detach();
        }
    })
}

async fn echo(mut stream: TcpStream) {
    let mut buffer = Vec::with_capacity(BUFFER);
    loop {
        let BufResult(read, bytes) = stream.read(buffer).await;
        let Ok(1..) = read else { break };
        let BufResult(written, mut bytes) = stream.write_all(bytes).await;
        if written.is_err() {
            break;
        }
        bytes.clear();
        buffer = bytes;
    }
}
