//! A place first, and then the work: a server that accepts a connection only when there is room for it.
//!
//! # Idea
//! `05_echo.rs` accepts, and then waits for room with the connection in its hand: one more than it has places for. Here the
//! order is the other way round. `reserve()` waits in the same line as every spawn, with nothing in its frame; what it gives
//! is a place that cannot be lost to anybody, and `Reservation::spawn` never waits.
//!
//! ```text
//!   reserve().await ─▶ accept().await ─▶ place.spawn(echo)      connections without a place wait in the system's backlog
//! ```
//!
//! The same holds for any source of work: take a job from a queue, a message from a broker, a line from a file only when
//! there is room for what it starts.
//!
//! # Read next
//! `07_holders.rs`: who holds the places, and who waits for one.

use std::cell::Cell;
use std::io;
use std::rc::Rc;

use anteroom::net::{TcpListener, TcpStream};
use anteroom::{Runtime, metrics, reserve, spawn_local, yield_now};

const PLACES: usize = 4;
const CLIENTS: usize = 20;

async fn echo(stream: TcpStream) -> io::Result<usize> {
    let (mut buffer, mut echoed) = ([0; 1_024], 0);
    loop {
        match stream.read(&mut buffer).await? {
            0 => return Ok(echoed),
            bytes => stream.write_all(&buffer[..bytes]).await?,
        }
        echoed += 1;
    }
}

/// Accepts `CLIENTS` connections, never one more than it has places for.
async fn serve(listener: TcpListener, accepted_peak: Rc<Cell<usize>>) {
    for _ in 0..CLIENTS {
        let place = reserve().await.expect("the runtime is open");
        let (stream, _) = listener.accept().await.expect("a connection");
        // Every connection that was accepted has a place, this one's reserved still; one more place is this loop's own.
        accepted_peak.set(accepted_peak.get().max(metrics().tasks_live - 1));
        place.spawn(echo(stream)).expect("its place is held");
    }
}

fn main() -> io::Result<()> {
    let accepted_peak = Rc::new(Cell::new(0));
    // One place more than connections: for the accept loop, which is a task here.
    let runtime = Runtime::builder().max_tasks(PLACES + 1).build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let clients = std::thread::spawn(move || {
            let mut streams = Vec::new();
            for _ in 0..CLIENTS {
                // All are connected at once, as far as they know: the system's backlog has those without a place.
                streams.push(std::net::TcpStream::connect(address)?);
            }
            let connected = streams.len();
            for mut stream in streams {
                io::Write::write_all(&mut stream, b"hello")?;
                io::Read::read_exact(&mut stream, &mut [0; 5])?;
            }
            io::Result::Ok(connected)
        });
        let accepting = spawn_local(serve(listener, accepted_peak.clone())).await.expect("there is room");
        accepting.await.expect("it does not panic");
        while metrics().tasks_live > 0 {
            yield_now().await;
        }
        let connected = clients.join().expect("the clients do not panic")?;
        let accepted = accepted_peak.get();
        println!("{connected} clients were connected at once; the server had accepted {accepted} at most");
        assert_eq!((connected, accepted), (CLIENTS, PLACES));
        Ok(())
    })
}

#[test]
fn no_connection_is_accepted_before_there_is_room_for_it() {
    main().unwrap();
}
