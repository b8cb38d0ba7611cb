//! anteroom, single-threaded, without limits that this would meet.

use std::io;

use anteroom::net::{TcpListener, TcpStream};
use anteroom::{Runtime, spawn};

use super::{ANY_PORT, BUFFER, listening};

pub(super) fn serve() -> io::Result<()> {
    let runtime = Runtime::builder().max_tasks(1_000_000).build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(ANY_PORT).await?;
        listening(listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept().await?;
            drop(spawn(echo(stream)).await.map_err(|error| io::Error::other(error.to_string()))?);
        }
    })
}

async fn echo(stream: TcpStream) {
    let mut buffer = [0; BUFFER];
    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
        if stream.write_all(&buffer[..read]).await.is_err() {
            break;
        }
    }
}
