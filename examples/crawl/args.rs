//! The command line: what may be asked for, and an error that names the option when it cannot be.
//!
//! # Idea
//!
//! One call, [`parse`], turns words into an [`Args`] that nothing later has to doubt: limits are above zero,
//! numbers are numbers, options that need one another are together. What only the file system or the network
//! can refuse (a folder, a port, a control group) is refused in `site.rs`, `server.rs` and `budget.rs`, in the
//! same form: `--option value: what is wrong`.

use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anteroom_limiter::Rate;
use lexopt::prelude::*;

use crate::budget::Memory;

/// How many pages are live at once unless `--max-tasks` says otherwise.
pub(crate) const MAX_TASKS_DEFAULT: usize = 1_000;

/// The limit that `--unbounded` sets: more tasks than any machine has memory for, so that it is never in
/// force.
pub(crate) const MAX_TASKS_UNBOUNDED: usize = 1 << 30;

/// What `--help` prints.
pub(crate) const HELP: &str = "\
Crawls a site with one task a page, and shows what bounding the spawn is worth.

    cargo run --release --example crawl -- [OPTIONS]

With no option: a second process of this program serves the HTML documentation of the Rust toolchain on
loopback, and this one crawls every page that can be reached from its index.html.

What to crawl
    --site DIR       a folder of pages with an index.html; without it the toolchain's documentation
                     (share/doc/rust/html in `rustc --print sysroot`), and where that is not installed a
                     generated site
    --port P         the port on 127.0.0.1 to 127.0.0.8 that the pages are served on (default: any free one)
    --connect A,...  no second process: the site is what a running `crawl --serve` serves on these addresses

How
    --max-tasks N    pages live at once; the only thing that bounds the crawl (default: 1000)
    --unbounded      no limit in force: every URL that is found becomes a task at once
    --whole          read each page whole into memory before it is parsed, as most crawlers do
    --keep MS        with --whole: and keep it so long after, as if it went into a slow database
    --memory SIZE    instead of --max-tasks: as many pages as fit into so much memory of this process (400MB,
                     64MiB, 1GiB, bytes), by what pages before them needed and what is measured; `auto` for
                     the limit of this process's control group, where all that is in the group counts
    --rate N         at most N requests a second, over all (0.5: one in two seconds)
    --per-host N     at most N requests a second to each address, as if each were a host
    --linger MS      stay so long when it is over, and report what memory is left

Instead of a crawl
    --jobs N         N synthetic jobs, 256 bytes held over one suspension each, bounded by --max-tasks and
                     then unbounded, each in a process of its own; with --unbounded only the second
    --spawners K     with --jobs: spawned by K tasks (default: 1)
    --work-us U      with --jobs: each job works for U microseconds of a core's time (default: 0)
    --workers W      with --jobs: on W worker threads, with work stealing, instead of on one thread (default: 0)
    --serve          only serve the site, until standard input ends; --max-tasks bounds its connections. Prints
                     the addresses, for --connect
    --alone          with --jobs: only one run, in this process, as plain `name value` lines

Output
    --json           one JSON object as the last line of standard output
    -h, --help       this
    -V, --version    the version

A live line stands on standard error while that is a terminal; the table goes to standard output.
    pages            fetched whole, each once           bytes    of their bodies
    links            hrefs on them to the same site     broken   those whose target answers 404
    errors           pages that could not be fetched or parsed, and links that cannot name a page

Ctrl-C ends it with the table so far. Exit code: 0 crawled (broken links or not), 1 the server went away,
2 the command line or the site is at fault, 130 ended by Ctrl-C (143 by SIGTERM).
";

/// A command line that makes sense.
#[derive(Debug, PartialEq)]
pub(crate) struct Args {
    pub(crate) mode: Mode,
    /// None for the default choice of a site.
    pub(crate) site: Option<PathBuf>,
    /// Zero for any.
    pub(crate) port: u16,
    pub(crate) max_tasks: usize,
    /// No limit in force: `--max-tasks` is kept, for the runs that have one, but does not count.
    pub(crate) unbounded: bool,
    pub(crate) json: bool,
    pub(crate) crawl: CrawlArgs,
}

/// What only a crawl can be asked for.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct CrawlArgs {
    /// Empty for a server of its own.
    pub(crate) connect: Vec<SocketAddr>,
    /// Pages are read whole, and kept so long.
    pub(crate) whole: Option<Duration>,
    /// Instead of `max_tasks`.
    pub(crate) memory: Option<Memory>,
    pub(crate) rate: Option<Rate>,
    pub(crate) per_host: Option<Rate>,
    pub(crate) linger: Option<Duration>,
}

/// What to do.
#[derive(Debug, PartialEq)]
pub(crate) enum Mode {
    Crawl,
    Serve,
    Jobs {
        jobs: Jobs,
        /// One run in this process instead of one in a process each.
        alone: bool,
    },
    Help,
    Version,
}

/// What jobs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Jobs {
    pub(crate) count: u64,
    pub(crate) spawners: usize,
    /// How long each works.
    pub(crate) work: Duration,
    /// Zero for the runtime of one thread.
    pub(crate) workers: usize,
}

/// A command line that does not: `--option value: what is wrong`.
#[derive(Debug, PartialEq)]
pub(crate) struct UsageError(String);

impl UsageError {
    /// `subject` is the option with its value, `wrong` what is wrong with it.
    pub(crate) fn new(subject: impl fmt::Display, wrong: impl fmt::Display) -> Self {
        UsageError(format!("{subject}: {wrong}"))
    }
}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<lexopt::Error> for UsageError {
    fn from(error: lexopt::Error) -> Self {
        match error {
            lexopt::Error::MissingValue { option: Some(option) } => UsageError::new(option, "needs a value"),
            lexopt::Error::UnexpectedOption(option) => {
                UsageError::new(option, "no such option (--help lists them)")
            }
            lexopt::Error::UnexpectedValue { option, value } => {
                UsageError::new(format_args!("{option}={}", value.to_string_lossy()), "takes no value")
            }
            other => UsageError(other.to_string()),
        }
    }
}

/// Reads the words after the program's name.
///
/// # Errors
///
/// [`UsageError`] for the first word that cannot be followed.
pub(crate) fn parse<I>(words: I) -> Result<Args, UsageError>
where
    I: IntoIterator,
    I::Item: Into<OsString>,
{
    let mut site = None;
    let mut port = 0;
    let mut max_tasks = None;
    let (mut unbounded, mut json, mut serve, mut alone) = (false, false, false, false);
    let (mut whole, mut keep) = (false, None);
    let mut crawl = CrawlArgs::default();
    // The last option that only a crawl can follow.
    let mut crawl_only = None;
    let mut jobs = None;
    let mut how = HowJobs::default();

    let mut parser = lexopt::Parser::from_args(words);
    while let Some(word) = parser.next()? {
        match word {
            Long("site") => site = Some(PathBuf::from(parser.value()?)),
            Long("port") => port = number("--port", &parser.value()?, "a port from 0 to 65535")?,
            Long("max-tasks") => {
                let tasks = number("--max-tasks", &parser.value()?, "a number of tasks")?;
                if tasks == 0 {
                    return Err(UsageError::new("--max-tasks 0", "at least one task must fit"));
                }
                max_tasks = Some(tasks);
            }
            Long("connect") => {
                crawl.connect = addresses(&parser.value()?)?;
                crawl_only = Some("--connect");
            }
            Long("whole") => {
                whole = true;
                crawl_only = Some("--whole");
            }
            Long("keep") => keep = Some(milliseconds("--keep", &parser.value()?)?),
            Long("memory") => {
                crawl.memory = Some(memory(&parser.value()?)?);
                crawl_only = Some("--memory");
            }
            Long("rate") => {
                crawl.rate = Some(rate("--rate", &parser.value()?)?);
                crawl_only = Some("--rate");
            }
            Long("per-host") => {
                crawl.per_host = Some(rate("--per-host", &parser.value()?)?);
                crawl_only = Some("--per-host");
            }
            Long("linger") => {
                crawl.linger = Some(milliseconds("--linger", &parser.value()?)?);
                crawl_only = Some("--linger");
            }
            Long("unbounded") => unbounded = true,
            Long("jobs") => jobs = Some(number::<u64>("--jobs", &parser.value()?, "a number of jobs")?),
            Long("spawners") => {
                how.spawners = Some(number("--spawners", &parser.value()?, "a number of tasks")?);
            }
            Long("work-us") => {
                how.work_us = Some(number("--work-us", &parser.value()?, "a number of microseconds")?);
            }
            Long("workers") => {
                how.workers = Some(number("--workers", &parser.value()?, "a number of threads")?);
            }
            Long("serve") => serve = true,
            Long("alone") => alone = true,
            Long("json") => json = true,
            Short('h') | Long("help") => return Ok(Args::only(Mode::Help)),
            Short('V') | Long("version") => return Ok(Args::only(Mode::Version)),
            Value(value) => {
                return Err(UsageError::new(value.to_string_lossy(), "not an option (--help lists them)"));
            }
            other => return Err(other.unexpected().into()),
        }
    }
    let mode = mode(serve, jobs, how, alone)?;
    if let (Some(option), true) = (crawl_only, mode != Mode::Crawl) {
        return Err(UsageError::new(option, "only with a crawl, not with --serve or --jobs"));
    }
    match (crawl.memory, max_tasks) {
        (Some(size), Some(tasks)) => {
            let both = format_args!("--memory {size} and --max-tasks {tasks}");
            return Err(UsageError::new(both, "either memory bounds the crawl, or a number"));
        }
        (Some(size), None) if unbounded => {
            return Err(UsageError::new(format_args!("--memory {size} and --unbounded"), "one or the other"));
        }
        _ => {}
    }
    if !crawl.connect.is_empty() && (site.is_some() || port != 0) {
        let option = if port == 0 { "--site" } else { "--port" };
        return Err(UsageError::new(
            format_args!("{option} and --connect"),
            "the server has its site already",
        ));
    }
    crawl.whole = match (whole, keep) {
        (true, keep) => Some(keep.unwrap_or_default()),
        (false, None) => None,
        (false, Some(keep)) => {
            return Err(UsageError::new(format_args!("--keep {}", keep.as_millis()), "only with --whole"));
        }
    };
    let max_tasks = max_tasks.unwrap_or(MAX_TASKS_DEFAULT);
    Ok(Args { mode, site, port, max_tasks, unbounded, json, crawl })
}

/// What else was said of jobs.
#[derive(Clone, Copy, Default)]
struct HowJobs {
    spawners: Option<usize>,
    work_us: Option<u32>,
    workers: Option<usize>,
}

impl HowJobs {
    /// One option that was given, with its value.
    fn any(self) -> Option<String> {
        let spawners = self.spawners.map(|k| format!("--spawners {k}"));
        let work_us = self.work_us.map(|us| format!("--work-us {us}"));
        spawners.or(work_us).or_else(|| self.workers.map(|w| format!("--workers {w}")))
    }
}

/// Which of the three things the program does: the options that choose it, checked against one another.
fn mode(serve: bool, jobs: Option<u64>, how: HowJobs, alone: bool) -> Result<Mode, UsageError> {
    match (jobs, how.any()) {
        (Some(_), _) if serve => Err(UsageError::new("--serve", "not together with --jobs")),
        (Some(0), _) => Err(UsageError::new("--jobs 0", "at least one job")),
        (Some(_), _) if how.spawners == Some(0) => {
            Err(UsageError::new("--spawners 0", "at least one task must spawn"))
        }
        (Some(count), _) => {
            let jobs = Jobs {
                count,
                spawners: how.spawners.unwrap_or(1),
                work: Duration::from_micros(how.work_us.unwrap_or(0).into()),
                workers: how.workers.unwrap_or(0),
            };
            Ok(Mode::Jobs { jobs, alone })
        }
        (None, Some(option)) => Err(UsageError::new(option, "only with --jobs")),
        (None, None) if alone => Err(UsageError::new("--alone", "only with --jobs")),
        (None, None) if serve => Ok(Mode::Serve),
        (None, None) => Ok(Mode::Crawl),
    }
}

fn number<T: std::str::FromStr>(option: &str, value: &OsString, what: &str) -> Result<T, UsageError> {
    let text = value.to_string_lossy();
    text.parse().map_err(|_| UsageError::new(format_args!("{option} {text}"), format_args!("not {what}")))
}

fn milliseconds(option: &str, value: &OsString) -> Result<Duration, UsageError> {
    Ok(Duration::from_millis(u64::from(number::<u32>(option, value, "a number of milliseconds")?)))
}

/// `127.0.0.1:80,127.0.0.2:80`.
fn addresses(value: &OsString) -> Result<Vec<SocketAddr>, UsageError> {
    let text = value.to_string_lossy();
    let addresses: Result<Vec<SocketAddr>, _> = text.split(',').map(str::parse).collect();
    addresses.map_err(|_| {
        UsageError::new(format_args!("--connect {text}"), "not addresses with ports, and commas between them")
    })
}

/// `auto`, or a number of bytes with a unit or without.
fn memory(value: &OsString) -> Result<Memory, UsageError> {
    let text = value.to_string_lossy();
    if text == "auto" {
        return Ok(Memory::Auto);
    }
    let wrong = |wrong: &str| UsageError::new(format_args!("--memory {text}"), wrong);
    let no_size = || wrong("not a size like 64MiB, 400MB, 1GiB or auto");
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let unit = match unit.trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1_000,
        "kib" | "k" => 1 << 10,
        "mb" => 1_000_000,
        "mib" | "m" => 1 << 20,
        "gb" => 1_000_000_000,
        "gib" | "g" => 1 << 30,
        _ => return Err(no_size()),
    };
    let count = digits.parse::<u64>().map_err(|_| no_size())?;
    match count.checked_mul(unit) {
        None => Err(wrong("more bytes than can be counted")),
        Some(0) => Err(wrong("at least one page must fit")),
        Some(bytes) => Ok(Memory::Bytes(bytes)),
    }
}

/// So many a second, one at a time.
fn rate(option: &str, value: &OsString) -> Result<Rate, UsageError> {
    let text = value.to_string_lossy();
    let wrong = |wrong: &str| UsageError::new(format_args!("{option} {text}"), wrong);
    let a_second: f64 = text.parse().map_err(|_| wrong("not a number of requests a second"))?;
    // A whole number keeps exactly; of others, the time between two is rounded up.
    let rate = if let Ok(count) = text.parse::<u64>() {
        Rate::new(count, Duration::from_secs(1)).ok()
    } else if a_second > 0.0 && a_second <= 1e9 {
        let each = Duration::try_from_secs_f64(1.0 / a_second).ok();
        each.and_then(|each| Rate::new(1, each + Duration::from_nanos(1)).ok())
    } else {
        None
    };
    rate.ok_or_else(|| wrong("must be from one request a year to 1000000000 a second"))
}

impl Args {
    fn only(mode: Mode) -> Self {
        let crawl = CrawlArgs::default();
        Args { mode, site: None, port: 0, max_tasks: MAX_TASKS_DEFAULT, unbounded: false, json: false, crawl }
    }

    /// The limit that the runtime gets.
    pub(crate) fn limit(&self) -> usize {
        if self.unbounded { MAX_TASKS_UNBOUNDED } else { self.max_tasks }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(words: &[&str]) -> String {
        parse(words).unwrap_err().to_string()
    }

    #[test]
    fn no_option_crawls_with_the_default_limit() {
        let args = parse([""; 0]).unwrap();
        assert_eq!(args, Args::only(Mode::Crawl));
        assert_eq!(args.limit(), 1_000);
    }

    #[test]
    fn every_option_is_read() {
        let args = parse(["--site", "x", "--port=81", "--max-tasks", "7", "--json", "--unbounded"]).unwrap();
        assert_eq!((args.site, args.port, args.max_tasks), (Some(PathBuf::from("x")), 81, 7));
        assert!(args.json && args.unbounded);
        let args = parse(["--jobs", "5", "--spawners", "2", "--alone"]).unwrap();
        let jobs = Jobs { count: 5, spawners: 2, work: Duration::ZERO, workers: 0 };
        assert_eq!(args.mode, Mode::Jobs { jobs, alone: true });
        let args = parse(["--jobs", "5", "--work-us", "20", "--workers=3"]).unwrap();
        let jobs = Jobs { count: 5, spawners: 1, work: Duration::from_micros(20), workers: 3 };
        assert_eq!(args.mode, Mode::Jobs { jobs, alone: false });
        assert_eq!(parse(["--serve"]).unwrap().mode, Mode::Serve);
        assert_eq!(parse(["--help", "--nonsense"]).unwrap().mode, Mode::Help);
    }

    #[test]
    fn what_only_a_crawl_can_follow_is_read() {
        let none = parse([""; 0]).unwrap().crawl;
        assert_eq!(none, CrawlArgs::default());
        let words = ["--whole", "--keep", "300", "--memory=64MiB", "--rate", "50", "--per-host=0.5"];
        let crawl = parse(words.into_iter().chain(["--linger", "1000"])).unwrap().crawl;
        assert_eq!(crawl.whole, Some(Duration::from_millis(300)));
        assert_eq!(crawl.memory, Some(Memory::Bytes(64 << 20)));
        assert_eq!(crawl.rate, Some(Rate::per_second(50)));
        let seconds = crawl.per_host.unwrap().interval().as_secs_f64();
        assert!((2.0..2.000_001).contains(&seconds), "{seconds}");
        assert_eq!(crawl.linger, Some(Duration::from_secs(1)));
        assert_eq!(parse(["--whole"]).unwrap().crawl.whole, Some(Duration::ZERO));
        let crawl = parse(["--connect", "127.0.0.1:80,127.0.0.2:80"]).unwrap().crawl;
        assert_eq!(crawl.connect, ["127.0.0.1:80".parse().unwrap(), "127.0.0.2:80".parse().unwrap()]);
    }

    #[test]
    fn a_size_has_any_usual_unit() {
        let size = |text: &str| memory(&text.into()).unwrap();
        assert_eq!(size("auto"), Memory::Auto);
        for (text, bytes) in [
            ("4096", 4_096),
            ("10B", 10),
            ("5kB", 5_000),
            ("5KiB", 5_120),
            ("400MB", 400_000_000),
            ("64MiB", 64 << 20),
            ("64 mib", 64 << 20),
            ("2m", 2 << 20),
            ("1GiB", 1 << 30),
            ("3GB", 3_000_000_000),
        ] {
            assert_eq!(size(text), Memory::Bytes(bytes), "{text}");
        }
    }

    #[test]
    fn a_rate_is_any_number_above_zero() {
        let interval = |text: &str| rate("--rate", &text.into()).unwrap().interval();
        assert_eq!(interval("1"), Duration::from_secs(1));
        assert_eq!(interval("1000000000"), Duration::from_nanos(1));
        // Rounded up, so that there are not more.
        assert_eq!(interval("2.5"), Duration::from_nanos(400_000_001));
        assert_eq!(interval("0.1"), Duration::from_nanos(10_000_000_001));
    }

    #[test]
    fn unbounded_wins_over_a_limit() {
        assert_eq!(parse(["--unbounded", "--max-tasks", "7"]).unwrap().limit(), MAX_TASKS_UNBOUNDED);
    }

    #[test]
    fn an_error_names_the_option_and_its_value() {
        assert_eq!(error(&["--max-tasks", "0"]), "--max-tasks 0: at least one task must fit");
        assert_eq!(error(&["--max-tasks", "many"]), "--max-tasks many: not a number of tasks");
        assert_eq!(error(&["--max-tasks", "-1"]), "--max-tasks -1: not a number of tasks");
        assert_eq!(error(&["--port", "65536"]), "--port 65536: not a port from 0 to 65535");
        assert_eq!(error(&["--site"]), "--site: needs a value");
        assert_eq!(error(&["--depth"]), "--depth: no such option (--help lists them)");
        assert_eq!(error(&["--json=yes"]), "--json=yes: takes no value");
        assert_eq!(error(&["docs"]), "docs: not an option (--help lists them)");
        assert_eq!(error(&["--jobs", "0"]), "--jobs 0: at least one job");
        assert_eq!(error(&["--spawners", "4"]), "--spawners 4: only with --jobs");
        assert_eq!(error(&["--jobs", "4", "--spawners", "0"]), "--spawners 0: at least one task must spawn");
        assert_eq!(error(&["--work-us", "4"]), "--work-us 4: only with --jobs");
        assert_eq!(error(&["--workers", "4"]), "--workers 4: only with --jobs");
        assert_eq!(error(&["--workers", "all"]), "--workers all: not a number of threads");
        assert_eq!(error(&["--work-us", "0.5"]), "--work-us 0.5: not a number of microseconds");
        assert_eq!(error(&["--alone"]), "--alone: only with --jobs");
        let size = "not a size like 64MiB, 400MB, 1GiB or auto";
        for text in ["", "big", "-1", "1.5GiB", "64Mi", "MiB", "Auto"] {
            assert_eq!(error(&["--memory", text]), format!("--memory {text}: {size}"));
        }
        assert_eq!(error(&["--memory", "0MB"]), "--memory 0MB: at least one page must fit");
        let many = "--memory 99999999999GiB: more bytes than can be counted";
        assert_eq!(error(&["--memory", "99999999999GiB"]), many);
        for text in ["0", "-1", "0.0", "1e-9", "inf", "NaN", "1e10", "2000000000"] {
            let wrong = "must be from one request a year to 1000000000 a second";
            assert_eq!(error(&["--rate", text]), format!("--rate {text}: {wrong}"));
        }
        let fast = "--per-host fast: not a number of requests a second";
        assert_eq!(error(&["--per-host", "fast"]), fast);
        assert_eq!(error(&["--keep", "300"]), "--keep 300: only with --whole");
        assert_eq!(error(&["--keep", "long"]), "--keep long: not a number of milliseconds");
        let place = "--connect localhost: not addresses with ports, and commas between them";
        assert_eq!(error(&["--connect", "localhost"]), place);
        let site = "--site and --connect: the server has its site already";
        assert_eq!(error(&["--connect", "127.0.0.1:1", "--site", "x"]), site);
        assert_eq!(error(&["--serve", "--jobs", "4"]), "--serve: not together with --jobs");
    }

    #[test]
    fn options_that_exclude_one_another_are_both_named() {
        let both = "--memory 1048576 and --max-tasks 7: either memory bounds the crawl, or a number";
        assert_eq!(error(&["--memory", "1MiB", "--max-tasks", "7"]), both);
        assert_eq!(error(&["--max-tasks", "7", "--memory", "1MiB"]), both);
        let both = "--memory auto and --unbounded: one or the other";
        assert_eq!(error(&["--memory", "auto", "--unbounded"]), both);
        let serve = "--rate: only with a crawl, not with --serve or --jobs";
        assert_eq!(error(&["--rate", "5", "--serve"]), serve);
    }
}
