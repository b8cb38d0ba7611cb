//! The command line: what may be asked for, and an error that names the option when it cannot be.
//!
//! # Idea
//!
//! One call, [`parse`], turns words into an [`Args`] that nothing later has to doubt: limits are above zero,
//! numbers are numbers, options that need one another are together. What only the file system or the network
//! can refuse (a folder, a port) is refused in `site.rs` and `server.rs`, in the same form: `--option value:
//! what is wrong`.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use lexopt::prelude::*;

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

How
    --max-tasks N    pages live at once; the only thing that bounds the crawl (default: 1000)
    --unbounded      no limit in force: every URL that is found becomes a task at once

Instead of a crawl
    --jobs N         N synthetic jobs, 256 bytes held over one suspension each, bounded by --max-tasks and
                     then unbounded, each in a process of its own; with --unbounded only the second
    --spawners K     with --jobs: spawned by K tasks (default: 1)
    --serve          only serve the site, until standard input ends; --max-tasks bounds its connections
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
}

/// What to do.
#[derive(Debug, PartialEq)]
pub(crate) enum Mode {
    Crawl,
    Serve,
    Jobs {
        count: u64,
        spawners: usize,
        /// One run in this process instead of one in a process each.
        alone: bool,
    },
    Help,
    Version,
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
    let mut max_tasks = MAX_TASKS_DEFAULT;
    let (mut unbounded, mut json, mut serve, mut alone) = (false, false, false, false);
    let (mut jobs, mut spawners) = (None, None);

    let mut parser = lexopt::Parser::from_args(words);
    while let Some(word) = parser.next()? {
        match word {
            Long("site") => site = Some(PathBuf::from(parser.value()?)),
            Long("port") => port = number("--port", &parser.value()?, "a port from 0 to 65535")?,
            Long("max-tasks") => {
                max_tasks = number("--max-tasks", &parser.value()?, "a number of tasks")?;
                if max_tasks == 0 {
                    return Err(UsageError::new("--max-tasks 0", "at least one task must fit"));
                }
            }
            Long("unbounded") => unbounded = true,
            Long("jobs") => jobs = Some(number::<u64>("--jobs", &parser.value()?, "a number of jobs")?),
            Long("spawners") => {
                spawners = Some(number::<usize>("--spawners", &parser.value()?, "a number of tasks")?);
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
    let mode = mode(serve, jobs, spawners, alone)?;
    Ok(Args { mode, site, port, max_tasks, unbounded, json })
}

/// Which of the three things the program does: the options that choose it, checked against one another.
fn mode(serve: bool, jobs: Option<u64>, spawners: Option<usize>, alone: bool) -> Result<Mode, UsageError> {
    match (jobs, spawners) {
        (Some(_), _) if serve => Err(UsageError::new("--serve", "not together with --jobs")),
        (Some(0), _) => Err(UsageError::new("--jobs 0", "at least one job")),
        (_, Some(0)) => Err(UsageError::new("--spawners 0", "at least one task must spawn")),
        (Some(count), spawners) => Ok(Mode::Jobs { count, spawners: spawners.unwrap_or(1), alone }),
        (None, Some(k)) => Err(UsageError::new(format_args!("--spawners {k}"), "only with --jobs")),
        (None, None) if alone => Err(UsageError::new("--alone", "only with --jobs")),
        (None, None) if serve => Ok(Mode::Serve),
        (None, None) => Ok(Mode::Crawl),
    }
}

fn number<T: std::str::FromStr>(option: &str, value: &OsString, what: &str) -> Result<T, UsageError> {
    let text = value.to_string_lossy();
    text.parse().map_err(|_| UsageError::new(format_args!("{option} {text}"), format_args!("not {what}")))
}

impl Args {
    fn only(mode: Mode) -> Self {
        Args { mode, site: None, port: 0, max_tasks: MAX_TASKS_DEFAULT, unbounded: false, json: false }
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
        assert_eq!(args.mode, Mode::Jobs { count: 5, spawners: 2, alone: true });
        assert_eq!(parse(["--serve"]).unwrap().mode, Mode::Serve);
        assert_eq!(parse(["--help", "--nonsense"]).unwrap().mode, Mode::Help);
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
        assert_eq!(error(&["--alone"]), "--alone: only with --jobs");
        assert_eq!(error(&["--serve", "--jobs", "4"]), "--serve: not together with --jobs");
    }
}
