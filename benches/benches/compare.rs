//! Are the bars met? One table of all workloads and runtimes.
//!
//! ```text
//! cargo bench -p benches --features peers --bench compare -- [--quick] [--rounds N] [--wall] [--only ROW] [WORKLOAD ..]
//! ```
//! A workload is chosen by its name or a part of it, a row by its name (`--only anteroom`, for a profiler). `--quick` takes two
//! minutes, a full run some six. `report` has this and everything else; this is for work on one thing.
//!
//! # Problem
//! A bar is a ratio, and a ratio of two figures that were taken minutes apart is one of two machines. And others work on the
//! same machine.
//!
//! # Idea
//! A round runs every row of a workload once, one after the other, so that whatever slows the machine for a while slows them
//! all; the first round warms up and is not counted. A figure is the median of its row's rounds, with its spread: half of the rounds
//! lie within so many per cent of it. Do not believe a verdict that is closer to its bar than the spread.
//!
//! Beside it stands the least of the rounds, with its own ratio. Where two cores share execution units or caches, a busy
//! neighbour slows short paths more than those that wait for memory or for locked instructions, so it moves ratios too; the
//! least is nearest to a quiet machine. When the two ratios differ, measure again on one.
//!
//! What is measured is the processor time of the one thread that does all the work, so that another program's turns do not
//! count; its traces in the caches do. `--wall` measures by the clock on the wall. On a quiet machine they agree, since no
//! workload ever waits.
//!
//! # Read next
//! The crate's documentation, for the rules.

use std::env;
use std::fmt;
use std::time::Duration;

use benches::{Figure, Row, Workload, bars_table, rows};

fn main() {
    let options = Options::from_args();
    let clock = if options.is_wall { "by the clock on the wall" } else { "of processor time" };
    println!("Medians of {} interleaved rounds, ns an operation {clock}:\n", options.rounds);
    println!("| workload | runtime | median | spread | ÷ anteroom | least | ÷ anteroom |");
    println!("|---|---|---:|---:|---:|---:|---:|");
    let mut figures = Vec::new();
    for workload in Workload::ALL.into_iter().filter(|&workload| options.chooses(workload)) {
        let mut group = Group::new(workload, &options);
        if group.rows.is_empty() {
            continue;
        }
        for round in 0..=options.rounds {
            group.run(round > 0, options.is_wall);
        }
        print!("{group}");
        figures.extend(group.lines());
    }
    println!("\n{}", bars_table(&figures));
}

struct Options {
    is_quick: bool,
    is_wall: bool,
    rounds: usize,
    only: Option<String>,
    chosen: Vec<String>,
}

impl Options {
    fn from_args() -> Self {
        let mut options = Self { is_quick: false, is_wall: false, rounds: 0, only: None, chosen: Vec::new() };
        let mut args = env::args().skip(1);
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--bench" => {} // from cargo
                "--quick" => options.is_quick = true,
                "--wall" => options.is_wall = true,
                "--rounds" => {
                    let rounds = args.next().and_then(|rounds| rounds.parse().ok());
                    options.rounds = rounds.expect("--rounds wants a number");
                }
                "--only" => options.only = Some(args.next().expect("--only wants the name of a row")),
                option if option.starts_with('-') => panic!("unknown option {option}"),
                name => options.chosen.push(name.into()),
            }
        }
        if cfg!(debug_assertions) {
            // `cargo test --benches`: does it work at all?
            (options.is_quick, options.rounds) = (true, 1);
        } else if options.rounds == 0 {
            options.rounds = if options.is_quick { 5 } else { 9 };
        }
        options
    }

    fn chooses(&self, workload: Workload) -> bool {
        let is_timers = workload == Workload::Timers;
        let workload = &*workload.to_string();
        let is_whole = |part: &str| Workload::ALL.iter().any(|workload| workload.to_string() == part);
        let fits = |part: &String| if is_whole(part) { workload == part } else { workload.contains(part) };
        // A second a row and a round is not quick.
        (self.chosen.is_empty() && !(self.is_quick && is_timers)) || self.chosen.iter().any(fits)
    }

    fn operations(&self, workload: Workload) -> u64 {
        if self.is_quick { workload.operations() } else { workload.many_operations() }
    }
}

/// A workload's rows and what was measured.
struct Group {
    workload: Workload,
    operations: u64,
    rows: Vec<(Row, Vec<Duration>)>,
}

impl Group {
    fn new(workload: Workload, options: &Options) -> Self {
        let is_chosen = |row: &Row| {
            row.obstacle().is_none() && options.only.as_ref().is_none_or(|only| only == row.name())
        };
        let rows = rows(workload).into_iter().filter(is_chosen).map(|row| (row, Vec::new())).collect();
        Self { workload, operations: options.operations(workload), rows }
    }

    fn run(&mut self, is_counted: bool, is_wall: bool) {
        for (row, times) in &mut self.rows {
            let elapsed = row.run(self.operations);
            if is_counted {
                times.push(if is_wall { elapsed.wall } else { self.workload.cpu(elapsed) });
            }
        }
    }

    /// The figures of a row.
    fn figures(&self, times: &[Duration]) -> Figures {
        let mut ns: Vec<f64> =
            times.iter().map(|time| time.as_nanos() as f64 / self.operations as f64).collect();
        ns.sort_by(f64::total_cmp);
        let at = |share: f64| ns[((ns.len() - 1) as f64 * share).round() as usize];
        Figures { median: at(0.5), least: ns[0], spread: (at(0.75) - at(0.25)) / 2.0 / at(0.5) }
    }

    /// anteroom's plain row is the first, unless `--only` chose another.
    fn anteroom(&self) -> Figures {
        self.figures(&self.rows[0].1)
    }

    /// For the bars.
    fn lines(&self) -> impl Iterator<Item = Figure> {
        self.rows.iter().map(|(row, times)| {
            let median = self.figures(times).median;
            Figure::new("one_thread", self.workload, row.name(), median, "ns")
        })
    }
}

struct Figures {
    median: f64,
    least: f64,
    /// Of the median, half of the rounds lie within.
    spread: f64,
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let anteroom = self.anteroom();
        for (index, (row, times)) in self.rows.iter().enumerate() {
            let workload = if index == 0 { self.workload.to_string() } else { String::new() };
            let Figures { median, least, spread } = self.figures(times);
            writeln!(
                f,
                "| {workload} | {} | {median:.1} | ±{:.0} % | {:.2} | {least:.1} | {:.2} |",
                row.name(),
                spread * 100.0,
                median / anteroom.median,
                least / anteroom.least,
            )?;
        }
        Ok(())
    }
}
