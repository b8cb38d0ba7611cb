//! Going in order: a server that is told to end asks its connections to, waits for them so long, and says who did not.
//!
//! # Idea
//! A server that is replaced while it works owes three things: no new connection, an answer to what was begun, and an end
//! that does not depend on its peers. So it ends in steps, and its exit code tells how it went:
//!
//! ```text
//!   SIGTERM ─▶ the token is cancelled ─▶ 1. the accept loop ends, the listener is closed, nobody is admitted any more
//!                      │                 2. drain: all connections have so much time
//!                      │                 3. who is left is aborted, by the drop of the runtime
//!                      └─▶ each connection that is idle says goodbye and ends; one in the middle of a line goes on
//!
//!   exit code 0: all ended in time.  1: some had to be aborted, and standard error says which.
//! ```
//!
//! A token is a request: the connections themselves say where they hear it, here between two lines and nowhere else.
//! `JoinHandle::abort` and the drop of a runtime ask nobody.
//!
//! What starts the shutdown is not the server's matter. Left to itself the example shuts two servers down that have clients
//! of its own, one in order and one that must abort. With `--stay` it serves until `kill -TERM` or Ctrl-C; a second signal
//! ends it at once, as if nobody had caught it.
//!
//! # Read next
//! `13_no_deadlock.rs`, what a full limit does to tasks that wait for tasks. `runtime/src/cancel.rs`, the token.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{self, ExitCode};
use std::sync::mpsc;
use std::time::Duration;
use std::{env, thread};

use anteroom::net::{TcpListener, TcpStream};
use anteroom::{CancellationToken, Handle, Holder, Runtime, holders, spawn};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

const CONNECTIONS: usize = 100;
/// How long connections may take to end, once they are asked: less than whoever sent the signal waits before SIGKILL.
const PATIENCE: Duration = Duration::from_secs(5);

/// Sends back each line when it is whole. Asked to go, it goes between two lines.
async fn echo(stream: TcpStream, shutdown: CancellationToken) -> io::Result<()> {
    let (mut buffer, mut held) = ([0; 1_024], 0);
    loop {
        let read = stream.read(&mut buffer[held..]);
        let bytes = match held {
            // A read that is dropped has read nothing.
            0 => match shutdown.run_until(read).await {
                Some(bytes) => bytes?,
                None => return stream.write_all(b"goodbye\n").await,
            },
            // Its peer has begun, and is owed an answer.
            _ => read.await?,
        };
        if bytes == 0 {
            return Ok(());
        }
        held += bytes;
        let last_line_end = buffer[..held].iter().rposition(|&byte| byte == b'\n');
        let whole = match last_line_end {
            Some(at) => at + 1,
            None if held == buffer.len() => held, // A long line goes back in pieces.
            None => 0,
        };
        stream.write_all(&buffer[..whole]).await?;
        buffer.copy_within(whole..held, 0);
        held -= whole;
    }
}

/// Who had to be aborted, a line each; none, if all ended in time.
type Aborted = Vec<String>;

/// Serves until `shutdown` is cancelled, then ends in order.
async fn serve(
    listener: TcpListener,
    shutdown: &CancellationToken,
    patience: Duration,
) -> io::Result<Aborted> {
    // Waits for a connection, for room, and for the end. At the limit, with all connections stuck, it hears of it too.
    while let Some(accepted) = shutdown.run_until(listener.accept()).await {
        match accepted {
            Ok((stream, _peer)) => {
                let connection = spawn(echo(stream, shutdown.clone()));
                match shutdown.run_until(connection).await {
                    Some(spawned) => drop(spawned.map_err(io::Error::other)?),
                    None => break,
                }
            }
            Err(error) => eprintln!("accept: {error}"), // It took its time, if it will come again.
        }
    }
    // Whoever connects from now on is refused by the system.
    drop(listener);
    let runtime = Handle::current().expect("it is inside of one");
    runtime.close();
    if runtime.drain(patience).await.is_ok() {
        return Ok(Vec::new());
    }
    let left = holders();
    let tell = |task: &Holder| {
        let site = task.site().map_or_else(|| "somewhere".to_owned(), ToString::to_string);
        format!(
            "a task from {site}, which is {:.1} s old and waits for {}",
            task.held().as_secs_f64(),
            task.waits_for()
        )
    };
    Ok(left.iter().filter(|task| !task.is_service()).map(tell).collect())
}

/// A server from its first to its last moment. It calls `listens` with its address, once it has one.
fn server(
    shutdown: &CancellationToken,
    patience: Duration,
    listens: impl FnOnce(SocketAddr),
) -> io::Result<Aborted> {
    let runtime = Runtime::builder().max_tasks(CONNECTIONS).build()?;
    let aborted = runtime.block_on(async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        listens(listener.local_addr()?);
        serve(listener, shutdown, patience).await
    })?;
    // Aborts who is left: their futures are dropped, and with them their connections are closed.
    drop(runtime);
    Ok(aborted)
}

/// Cancels `token` at the first signal. The second one does what it does to programs that do not catch it.
fn cancel_on_signal(token: CancellationToken) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    thread::spawn(move || {
        for signal in signals.forever() {
            if token.is_cancelled() {
                _ = emulate_default_handler(signal);
            }
            eprintln!("signal {signal}: ending, in {} s at most", PATIENCE.as_secs());
            token.cancel();
        }
    });
    Ok(())
}

/// Says how it went.
fn verdict(aborted: &Aborted) -> (String, ExitCode) {
    match aborted.len() {
        0 => ("all connections ended in time".to_owned(), ExitCode::SUCCESS),
        some => (format!("{some} aborted: {}", aborted.join("; ")), ExitCode::FAILURE),
    }
}

fn main() -> io::Result<ExitCode> {
    if !env::args().any(|argument| argument == "--stay") {
        return demonstrate().map(|()| ExitCode::SUCCESS);
    }
    let shutdown = CancellationToken::new();
    cancel_on_signal(shutdown.clone())?;
    let aborted = server(&shutdown, PATIENCE, |address| {
        println!("process {} listens on {address}: kill -TERM ends it", process::id());
    })?;
    let (text, code) = verdict(&aborted);
    eprintln!("{text}");
    Ok(code)
}

/// Two servers: one whose client is idle, and one whose client has begun a line that it does not end.
fn demonstrate() -> io::Result<()> {
    // With much patience, of which nothing is needed.
    let (aborted, last) = shut_down_under(b"a line\n", b"a line\n", Duration::from_secs(60))?;
    println!("an idle client was told {:?}", String::from_utf8_lossy(&last));
    println!("  {}", verdict(&aborted).0);
    assert_eq!((aborted.len(), last.as_slice()), (0, &b"goodbye\n"[..]));

    let (aborted, last) = shut_down_under(b"a line\nand half", b"a line\n", Duration::from_millis(100))?;
    println!("one in the middle of a line was told {:?}", String::from_utf8_lossy(&last));
    println!("  {}", verdict(&aborted).0);
    assert_eq!((aborted.len(), last.as_slice()), (1, &b""[..]));
    assert!(aborted[0].contains("12_shutdown.rs") && aborted[0].ends_with("waits for I/O"), "{aborted:?}");
    Ok(())
}

/// Starts a server on another thread, has a client send `request` and wait for `answer`, and shuts the server down. Who was
/// aborted, and what the client was sent after its answer.
fn shut_down_under(request: &[u8], answer: &[u8], patience: Duration) -> io::Result<(Aborted, Vec<u8>)> {
    let shutdown = CancellationToken::new();
    // However this ends, the server does: with an error here, too.
    let cancels = shutdown.clone().drop_guard();
    let (address_to, address_from) = mpsc::channel();
    let server = thread::spawn(move || {
        server(&shutdown, patience, |address| address_to.send(address).expect("the client waits for it"))
    });
    let address = address_from.recv().map_err(|_| io::Error::other("the server could not start"))?;

    let mut client = std::net::TcpStream::connect(address)?;
    client.write_all(request)?;
    let mut echoed = vec![0; answer.len()];
    client.read_exact(&mut echoed)?;
    assert_eq!(echoed, answer);

    // What a signal does.
    drop(cancels);
    let aborted = server.join().expect("the server does not panic")?;
    // It is gone, so this ends: with a goodbye, or with what the system says of a connection that was cut.
    let mut last = Vec::new();
    if let Err(error) = client.read_to_end(&mut last) {
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
    Ok((aborted, last))
}

#[test]
fn it_ends_in_order_or_says_who_had_to_be_aborted() {
    demonstrate().unwrap();
}
