//! A crawler that lives in little memory, because a page that there is no room for is not a task yet.
//!
//! ```text
//! cargo run --release --example crawl                        the toolchain's documentation, 1,000 at once
//! cargo run --release --example crawl -- --max-tasks 100     the same pages, in less
//! cargo run --release --example crawl -- --unbounded         the same pages, all at once: watch the memory
//! cargo run --release --example crawl -- --whole --memory 64MiB   as many whole pages as fit
//! cargo run --release --example crawl -- --rate 100          no more than a hundred requests a second
//! cargo run --release --example crawl -- --jobs 1000000      the same story without a network
//! cargo run --release --example crawl -- --jobs 100000 --work-us 20 --workers 2   jobs that work, on two cores
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
//! size to guess. `--memory` finds the number of pages instead of having it chosen, and `--rate` bounds what a
//! number of pages cannot; both are waits in that same loop, before the spawn.
//!
//! # Read next
//!
//! | file          | what it is                                          | read it for                              |
//! |---------------|-----------------------------------------------------|------------------------------------------|
//! | `crawler.rs`  | the loop: from URLs to tasks                        | why the spawn is the only bound          |
//! | `page.rs`     | one page: connect, ask, stream                      | what a live task costs                   |
//! | `budget.rs`   | `--memory`                                          | admission by bytes, on an estimate       |
//! | `pace.rs`     | `--rate`, `--per-host`                              | where to wait for a slot in time         |
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
mod budget;
mod child;
mod crawler;
mod files;
mod frontier;
mod http;
mod jobs;
mod limits;
mod links;
mod memory;
mod pace;
mod page;
mod paths;
mod report;
mod server;
mod signals;
mod site;

use std::fmt;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use args::{Args, Mode, UsageError};
use budget::Budget;
use child::{Server, ServerError};
use crawler::{Crawl, Plan};
use pace::Pace;
use report::{BudgetFigures, Idle, LiveLine, Summary};
use signals::Interrupt;
use site::Site;

/// The command line, or what it names, is at fault.
const EXIT_USAGE: u8 = 2;
/// Something else went wrong.
const EXIT_FAILED: u8 = 1;

/// The most connections that a server takes at once for a crawler: each may hold a chunk of a file.
const SERVER_TASKS_MAX: usize = 1_000;

fn main() -> ExitCode {
    let result = args::parse(std::env::args_os().skip(1)).map_err(Trouble::from).and_then(|args| run(&args));
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

/// Does what the command line asks for. Returns the exit code.
fn run(args: &Args) -> Result<u8, Trouble> {
    match args.mode {
        Mode::Help => report::print(args::HELP),
        Mode::Version => report::print(concat!("crawl ", env!("CARGO_PKG_VERSION"), "\n")),
        Mode::Serve => {
            let site = Site::find(args.site.as_deref())?;
            server::serve(site.folder().to_owned(), args.port, args.max_tasks)?;
        }
        Mode::Jobs { jobs, alone: true } => jobs::run_here(args, jobs)?,
        Mode::Jobs { jobs, alone: false } if !jobs::run_both(args, jobs) => return Ok(EXIT_FAILED),
        Mode::Jobs { .. } => {}
        Mode::Crawl => return crawl(args),
    }
    Ok(0)
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
    let options = &args.crawl;
    let fit = limits::raise_open_files(1);
    if options.whole.is_some() {
        memory::large_buffers_apart();
    }
    // Where memory bounds the pages, their number has a technical limit only.
    let limit = if options.memory.is_some() { fit.min(args::MAX_TASKS_UNBOUNDED) } else { args.limit() };
    let runtime = anteroom::Runtime::builder()
        .max_tasks(limit)
        .build()
        .map_err(|error| UsageError::new(format_args!("--max-tasks {limit}"), error))?;
    let mut source = Source::find(args)?;
    // After the server was started: what it takes of a group's memory is then known from the beginning.
    let budget = options.memory.map(Budget::find).transpose()?.map(Arc::new);
    source.announce();
    announce(args, budget.as_deref(), fit);

    let addresses = source.addresses();
    let pace = Pace::new(options.rate, options.per_host, addresses.len(), Instant::now());
    let crawl = Crawl::new(addresses, Plan { whole: options.whole, budget: budget.clone(), pace });
    let max_tasks = (!args.unbounded).then_some(limit);
    let start_bytes = memory::now_bytes();
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
            budget: budget.as_deref().map(BudgetFigures::of),
            idle: None,
        };
        (signal, summary)
    };
    let (signal, summary) = runtime.block_on(async {
        let live_line = LiveLine::start(&crawl, max_tasks);
        // Without a place for it, memory is measured when pages come and go, and not in between.
        let reviews = budget.clone().and_then(|budget| anteroom::spawn_service(budget.review()).ok());
        let whole = async {
            crawl.run().await;
            let (signal, mut summary) = summary(None);
            if let Some(service) = &reviews {
                service.abort();
            }
            memory::give_back();
            if let Some(linger) = options.linger {
                anteroom::time::sleep(linger).await;
                summary.idle = Some(Idle { linger, start_bytes, end_bytes: memory::now_bytes() });
            }
            (signal, summary)
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
    let ended = source.ended();
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

/// Where the pages come from.
enum Source {
    /// A process of this one's own.
    Own { site: Site, server: Server },
    /// A server that runs already: `--connect`.
    Running(Vec<SocketAddr>),
}

impl Source {
    fn find(args: &Args) -> Result<Source, Trouble> {
        if !args.crawl.connect.is_empty() {
            return Ok(Source::Running(args.crawl.connect.clone()));
        }
        let site = Site::find(args.site.as_deref())?;
        let server = Server::start(site.folder(), args.port, args.max_tasks.min(SERVER_TASKS_MAX))?;
        Ok(Source::Own { site, server })
    }

    /// Never empty.
    fn addresses(&self) -> &[SocketAddr] {
        match self {
            Source::Own { server, .. } => server.addresses(),
            Source::Running(addresses) => addresses,
        }
    }

    /// How the server ended, if it was this process's own and did so before it was told to.
    fn ended(&mut self) -> Option<String> {
        match self {
            Source::Own { server, .. } => server.ended(),
            Source::Running(_) => None,
        }
    }

    /// Says what it is on standard error.
    fn announce(&self) {
        let addresses = self.addresses();
        match self {
            Source::Own { site, server } => {
                eprintln!("crawl: {}", site.folder().display());
                eprintln!(
                    "crawl: {}; served by process {} on http://{}/",
                    site.what(),
                    server.id(),
                    addresses[0]
                );
            }
            Source::Running(_) => eprintln!("crawl: what is served on http://{}/", addresses[0]),
        }
        if let [_, .., last] = addresses {
            let more = addresses.len() - 1;
            eprintln!("crawl: and {more} more addresses up to {}, so that ports outlast memory", last.ip());
        }
    }
}

/// Says on standard error what bounds the crawl. `fit` connections fit into the limit of open files.
fn announce(args: &Args, budget: Option<&Budget>, fit: usize) {
    if let Some(rate) = args.crawl.rate {
        eprintln!("crawl: at most {rate} requests over all");
    }
    if let Some(rate) = args.crawl.per_host {
        eprintln!("crawl: at most {rate} requests to each address");
    }
    if let Some(budget) = budget {
        let memory = budget.snapshot();
        let mib = |bytes| report::mebibytes(Some(bytes));
        eprintln!(
            "crawl: as many pages at once as fit into {} ({} of {}, without what is used already)",
            mib(memory.limit),
            mib(memory.soft),
            mib(memory.budget)
        );
        return;
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
