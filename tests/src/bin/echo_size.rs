//! The smallest server that is of use: it echoes, a task a connection, and lets go of whoever is silent for too long.
//! `.ci/size.sh` weighs it.

use std::net::Ipv4Addr;
use std::time::Duration;

use anteroom::net::{TcpListener, TcpStream};
use anteroom::time::timeout;

const SILENCE_MAX: Duration = Duration::from_secs(1);

async fn echo(stream: TcpStream) -> std::io::Result<()> {
    let mut buffer = [0; 1_024];
    loop {
        match timeout(SILENCE_MAX, stream.read(&mut buffer)).await {
            Err(_) | Ok(Ok(0)) => return Ok(()),
            Ok(read) => stream.write_all(&buffer[..read?]).await?,
        }
    }
}

fn main() -> std::io::Result<()> {
    anteroom::Runtime::new()?.block_on(async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        loop {
            let (stream, _) = listener.accept().await?;
            if anteroom::spawn(echo(stream)).await.is_err() {
                return Ok(());
            }
        }
    })
}
