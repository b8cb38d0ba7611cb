//! smol, on one thread, with its leaked executor, as in the other tables. Its reactor has a thread of its own besides, which
//! polls when nobody else does.

use std::io;

use async_executor::LocalExecutor;
use smol::io::{AsyncReadExt, AsyncWriteExt};
use smol::net::{TcpListener, TcpStream};

use super::{ANY_PORT, BUFFER, listening};

pub(super) fn serve() -> io::Result<()> {
    let executor = LocalExecutor::new().leak();
    smol::block_on(executor.run(async {
        let listener = TcpListener::bind(ANY_PORT).await?;
        listening(listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept().await?;
            executor.spawn(echo(stream)).detach();
        }
    }))
}

async fn echo(mut stream: TcpStream) {
    let mut buffer = [0; BUFFER];
    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
        if stream.write_all(&buffer[..read]).await.is_err() {
            break;
        }
    }
}
