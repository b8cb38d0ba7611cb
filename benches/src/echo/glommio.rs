//! glommio, with io_uring, which it cannot do without.

use std::io;

use glommio::net::{TcpListener, TcpStream};
use glommio::{LocalExecutorBuilder, Placement, spawn_local};
// glommio's streams have the traits of futures-io, and smol hands on the methods to go with them.
use smol::io::{AsyncReadExt, AsyncWriteExt};

use super::{ANY_PORT, BUFFER, listening};

pub(super) fn serve() -> io::Result<()> {
    // The process is on one core, so where the thread is placed is said.
    LocalExecutorBuilder::new(Placement::Unbound).make()?.run(async {
        let listener = TcpListener::bind(ANY_PORT)?;
        listening(listener.local_addr()?);
        loop {
            spawn_local(echo(listener.accept().await?)).detach();
        }
    })
}

async fn echo(mut stream: TcpStream) {
    let mut buffer = [0; BUFFER];
    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
        if stream.write_all(&buffer[..read]).await.is_err() {
            break;
        }
    }
}
