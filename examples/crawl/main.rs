//! A crawler that lives in little memory, because a page that there is no room for is not a task yet.
//!
//! ```text
//! cargo run --release --example crawl                        the toolchain's documentation, 1,000 at once
//! cargo run --release --example crawl -- --max-tasks 100     the same pages, in less
//! cargo run --release --example crawl -- --unbounded         the same pages, all at once: watch the memory
//! cargo run --release --example crawl -- --jobs 1000000      the same story without a network
//! cargo run --release --example crawl -- --help              all options
//! ```
//!
//! # Problem
//!
//! A crawler in a container of 400 MiB: each link that it found became a task, each task held a connection, a
//! buffer and a parser, and the container was killed. A semaphore inside the tasks bounds the work and not
//! the tasks.
//!
//! # Idea
//!
//! Two processes of this one binary. The second serves the pages; the first crawls them, and all that bounds
//! it is `anteroom::spawn(page).await`, in `crawler.rs`. Nothing else here counts tasks, and no channel has a
//! size to guess.
//!
//! # Read next
//!
//! | file          | what it is                                          | read it for                              |
//! |---------------|-----------------------------------------------------|------------------------------------------|
//! | `crawler.rs`  | the loop: from URLs to tasks                        | why the spawn is the only bound          |
//! | `page.rs`     | one page: connect, ask, stream                      | what a live task costs                   |
//! | `frontier.rs` | the URLs: each once, few bytes each                 | a queue that is a position in a set      |
//! | `links.rs`    | from chunks of HTML to links                        | a parser that streams, under a limit     |
//! | `paths.rs`    | from links to paths                                 | one form for each page                   |
//! | `server.rs`   | the second process: listeners and connections       | accepting no more than there is room for |
//! | `files.rs`    | its files                                           | what may be read, and how much at once   |
//! | `http.rs`     | heads, both ways                                    | where a body ends                        |
//! | `jobs.rs`     | `--jobs`                                            | what a bounded spawn costs               |
//! | `report.rs`   | live line, table, JSON                              | a service beside the tasks               |
//! | `signals.rs`  | Ctrl-C                                              | a wake from another thread               |
//! | `child.rs`    | starting the second process, and never orphaning it | a pipe's end as a message                |
//! | `site.rs`     | which folder is crawled                             |                                          |
//! | `args.rs`     | the command line                                    | errors that name the option              |
//! | `limits.rs`   | open files                                          |                                          |
//! | `memory.rs`   | resident memory, now and at its peak                |                                          |

mod args;
mod child;
mod crawler;
mod files;
mod frontier;
mod http;
mod jobs;
mod limits;
mod links;
mod memory;
mod page;
mod paths;
mod report;
mod server;
mod signals;
mod site;

use std::fmt;
use std::process::ExitCode;
use std::time::Instant;

use args::{Args, Mode, UsageError};
use child::{Server, ServerError};
use crawler::Crawl;
use report::{LiveLine, Summary};
use signals::Interrupt;
use site::Site;

/// The command line, or what it names, is at fault.
const EXIT_USAGE: u8 = 2;
/// Something else went wrong.
const EXIT_FAILED: u8 = 1;

/// The most connections that a server takes at once for a crawler: each may hold a chunk of a file.
const SERVER_TASKS_MAX: usize = 1_000;

fn main() -> ExitCode {
    let result =
        args::parse(std::env::args_os().skip(1)).map_err(Trouble::from).and_then(|args| match args.mode {
            Mode::Help => {
                report::print(args::HELP);
                Ok(0)
            }
            Mode::Version => {
                report::print(concat!("crawl ", env!("CARGO_PKG_VERSION"), "\n"));
                Ok(0)
            }
            Mode::Serve => {
                let site = Site::find(args.site.as_deref())?;
                server::serve(site.folder().to_owned(), args.port, args.max_tasks)?;
                Ok(0)
            }
            Mode::Jobs { count, spawners, alone: true } => {
                jobs::run_here(&args, count, spawners)?;
                Ok(0)
            }
            Mode::Jobs { count, spawners, alone: false } => {
                Ok(if jobs::run_both(&args, count, spawners) { 0 } else { EXIT_FAILED })
            }
            Mode::Crawl => crawl(&args),
        });
    match result {
        Ok(code) => code.into(),
        Err(trouble) => {
            if let Some(words) = trouble.words {
                eprintln!("crawl: {words}");
            }
            trouble.code.into()
        }
    }
}

/// Why it ends early: the exit code, and the words unless they were said already.
struct Trouble {
    code: u8,
    words: Option<String>,
}

impl Trouble {
    fn new(subject: &str, wrong: impl fmt::Display) -> Self {
        Trouble { code: EXIT_FAILED, words: Some(format!("{subject}: {wrong}")) }
    }
}

impl From<UsageError> for Trouble {
    fn from(error: UsageError) -> Self {
        Trouble { code: EXIT_USAGE, words: Some(error.to_string()) }
    }
}

impl From<ServerError> for Trouble {
    fn from(error: ServerError) -> Self {
        match error {
            ServerError::Refused(code) => Trouble { code, words: None },
            ServerError::Io(error) => Trouble::new("the server's process", error),
        }
    }
}

/// The crawl from the site to the table. Returns the exit code.
fn crawl(args: &Args) -> Result<u8, Trouble> {
    let interrupt = Interrupt::catch().map_err(|error| Trouble::new("signals", error))?;
    let site = Site::find(args.site.as_deref())?;
    let runtime = anteroom::Runtime::builder()
        .max_tasks(args.limit())
        .build()
        .map_err(|error| UsageError::new(format_args!("--max-tasks {}", args.limit()), error))?;
    let mut server = Server::start(site.folder(), args.port, args.max_tasks.min(SERVER_TASKS_MAX))?;
    let fit = limits::raise_open_files(1);
    announce(args, &site, &server, fit);

    let max_tasks = (!args.unbounded).then_some(args.max_tasks);
    let crawl = Crawl::new(server.addresses());
    let start = Instant::now();
    // What the crawl has come to. To be called while its pages are live: those that the runtime drops with it
    // would count as errors.
    let summary = |signal: Option<i32>| {
        let metrics = anteroom::metrics();
        let summary = Summary {
            tally: crawl.tally(),
            missing_examples: crawl.missing_examples(),
            wall: start.elapsed(),
            max_tasks,
            live_tasks_peak: metrics.tasks_live_peak,
            waiting_peak: metrics.waiting_peak,
            memory_peak_bytes: memory::peak_bytes(),
            interrupted: signal.is_some(),
        };
        (signal, summary)
    };
    let (signal, summary) = runtime.block_on(async {
        let live_line = LiveLine::start(&crawl, max_tasks);
        let whole = async {
            crawl.run().await;
            summary(None)
        };
        let cut_short = async {
            let signal = interrupt.wait().await;
            summary(Some(signal))
        };
        let end = crawler::first(whole, cut_short).await;
        live_line.end();
        end
    });

    report::print(&summary.table());
    let ended = server.ended();
    if let Some(status) = &ended {
        eprintln!("crawl: the server went away: {status}");
    }
    if args.json {
        report::print(&(summary.json() + "\n"));
    }
    Ok(match signal {
        Some(signal) => signals::exit_code(signal),
        None if ended.is_some() => EXIT_FAILED,
        None => 0,
    })
}

/// Says on standard error what is about to happen. `fit` connections fit into the limit of open files.
fn announce(args: &Args, site: &Site, server: &Server, fit: usize) {
    let addresses = server.addresses();
    eprintln!("crawl: {}", site.folder().display());
    eprintln!("crawl: {}; served by process {} on http://{}/", site.what(), server.id(), addresses[0]);
    if let [first, .., last] = addresses {
        eprintln!(
            "crawl: and {} more addresses up to {}, so that ports outlast memory",
            addresses.len() - 1,
            last.ip()
        );
        debug_assert_eq!(first.port(), last.port());
    }
    if fit < args.limit() {
        eprintln!("crawl: open files for {fit} connections at once; pages over that wait and try again");
    }
    if args.unbounded {
        eprintln!("crawl: no limit in force (--max-tasks {}): a task for each URL at once", args.limit());
    } else {
        eprintln!("crawl: at most {} pages at once", args.max_tasks);
    }
}
