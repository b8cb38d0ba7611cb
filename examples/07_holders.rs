//! Who holds the places, and who waits for one: asked by a signal, while the program runs.
//!
//! # Idea
//! A runtime with a bound can be full, and then one wants to know by whom. Every task knows where it was spawned, when, and
//! what its last poll ran into; every waiting spawn knows when it came. A `Handle` asks for it from any thread: here from one
//! that waits for `SIGUSR1`.
//!
//! Before anything starts, `Builder::worst_case` says what the runtime can take at most.
//!
//! Left to itself the example sends itself the signal. With `--stay` it waits for yours: `kill -USR1 PID`.
//!
//! # Read next
//! `08_limit_the_tasks.rs`, the first of four lessons about limits. Or the crawler: `crawl/main.rs`.

use std::io::Write as _;
use std::sync::mpsc;
use std::time::Duration;
use std::{env, io, process, thread};

use anteroom::net::{TcpListener, TcpStream};
use anteroom::time::{interval, sleep};
use anteroom::{Handle, Runtime, spawn, spawn_service};
use signal_hook::consts::SIGUSR1;
use signal_hook::iterator::Signals;

const PLACES: usize = 1_000;

/// A page that never comes: its server has accepted, and says nothing.
async fn page(server: std::net::SocketAddr) -> io::Result<usize> {
    let stream = TcpStream::connect(server).await?;
    stream.read(&mut [0; 64]).await
}

/// Prints a line for each signal; each line goes to whoever wants to read it, too.
fn print_on_signal(handle: Handle, lines: mpsc::Sender<String>) -> io::Result<signal_hook::iterator::Handle> {
    let mut signals = Signals::new([SIGUSR1])?;
    let stop = signals.handle();
    thread::spawn(move || {
        for _ in signals.forever() {
            let patience = Duration::from_secs(1);
            let line = match (handle.holders().wait(patience), handle.waiters().wait(patience)) {
                (Ok(holders), Ok(waiters)) => format!("{holders}; {waiters}"),
                // In a poll that does not end, or gone.
                (Err(error), _) | (_, Err(error)) => error.to_string(),
            };
            // Nobody may read what is printed: that is no reason not to hand it on.
            _ = writeln!(io::stdout(), "{line}");
            if lines.send(line).is_err() {
                return;
            }
        }
    });
    Ok(stop)
}

fn main() -> io::Result<()> {
    let stay = env::args().any(|argument| argument == "--stay");
    let builder = Runtime::builder()
        .max_tasks(PLACES)
        .max_task_bytes(4 << 20)
        .max_waiting(100)
        .max_timers(1_000)
        .max_sockets(3_000)
        .blocking_threads(1);
    println!("{}\n", builder.worst_case());

    let runtime = builder.build()?;
    let (lines_to, lines_from) = mpsc::channel();
    let stop = print_on_signal(runtime.handle(), lines_to)?;
    println!("process {}: kill -USR1 tells who is there\n", process::id());

    let line = runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let server = listener.local_addr()?;
        let accept_all = async move {
            let mut silent = Vec::new();
            while let Ok((stream, _)) = listener.accept().await {
                silent.push(stream);
            }
        };
        let _service = spawn_service(accept_all).expect("there is room for services");
        for _ in 0..7 {
            spawn(sleep(Duration::from_secs(3_600))).await.expect("there is room");
        }
        // The last places, and three spawners more than there are places for.
        let _spawner = spawn_service(async move {
            let mut spawners = Vec::new();
            for _ in 0..PLACES - 7 {
                drop(spawn(page(server)).await);
            }
            for _ in 0..3 {
                spawners.push(spawn_service(async move { drop(spawn(page(server)).await) }));
            }
        });
        let mut ticks = interval(Duration::from_millis(100));
        for tick in 0.. {
            ticks.tick().await;
            if !stay && tick >= 5 && tick % 10 == 5 {
                signal_hook::low_level::raise(SIGUSR1)?;
            }
            // The answer comes between two polls of ours.
            match lines_from.try_recv() {
                Ok(line) if !stay && line.contains("993 from") => return io::Result::Ok(line),
                _ => {}
            }
        }
        unreachable!("it ticks for ever")
    })?;
    stop.close();
    assert!(line.starts_with("1,000/1,000: 993 from examples/07_holders.rs:"), "{line}");
    assert!(line.contains(" on I/O, 7 from examples/07_holders.rs:"), "{line}");
    assert!(line.contains(" on a timer; 3 wait; the head, from "), "{line}");
    Ok(())
}

#[test]
fn it_tells_who_holds_the_places_and_who_waits() {
    main().unwrap();
}
