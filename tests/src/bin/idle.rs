//! A server that has nothing to do: `.ci/idle.sh` watches what it asks of the system meanwhile.
//!
//! It listens, has served a connection and slept, so that its driver, its timerfd and its pool were in use; then it says
//! "idle" and waits for a connection that never comes, until it is told to end by a signal.

use std::time::Duration;

use anteroom::net::{TcpListener, TcpStream};
use anteroom::{Runtime, spawn, spawn_service, time};

fn main() -> std::io::Result<()> {
    let runtime = Runtime::builder().max_tasks(100).build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let accepting = async move {
            while let Ok((stream, _)) = listener.accept().await {
                let echo = spawn(async move {
                    let mut buffer = [0; 64];
                    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
                        if stream.write_all(&buffer[..read]).await.is_err() {
                            break;
                        }
                    }
                });
                if echo.await.is_err() {
                    break;
                }
            }
        };
        let service = spawn_service(accepting).map_err(|error| std::io::Error::other(error.to_string()))?;
        let client = TcpStream::connect(address).await?;
        client.write_all(b"warm").await?;
        client.read_exact(&mut [0; 4]).await?;
        drop(client);
        // A timer that fires and one that is given up, each off the millisecond, so that a timerfd was armed.
        time::sleep(Duration::from_micros(1_300)).await;
        let _ = time::timeout(Duration::from_micros(700), time::sleep(Duration::from_secs(1))).await;
        println!("idle");
        service.await.map_err(std::io::Error::other)
    })
}
