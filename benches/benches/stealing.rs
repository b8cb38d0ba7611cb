//! Are the bars of the work-stealing mode met? One table: `build_stealing(2)` beside tokio's `multi_thread` and smol, each on two
//! worker threads.
//!
//! ```text
//! cargo bench -p benches --features peers,stealing --bench stealing -- [--quick] [--rounds N] [--only ROW] [WORKLOAD ..]
//! ```
//! A workload is chosen by its name or a part of it, a row by its name (`--only anteroom`, for a profiler). `--quick` takes a
//! minute or two, a full run some five.
//!
//! # Rules
//! `src/stealing.rs` says what is the same for all of them and what is not.
//!
//! # Idea
//! As in `compare`: a round runs every row once, the first warms up, a figure is the median of its row's rounds, the spread
//! says within how many per cent half of them lie, and the least is nearest to a quiet machine. The bars are of the time by the
//! clock on the wall, since several threads share the work; only that of the timers, most of which is waiting, is of the
//! processor. Beside the wall stands the processor time of the whole process: two threads that work all the time take twice
//! the wall, and a figure near the wall's says that the work stayed on one of them.
//!
//! The bars follow the table. A verdict has three grades: met; missed, but within twice the bar; missed.
//!
//! It wants two cores for itself: on fewer, or beside other programs, the figures by the clock say nothing, and it says so.

use std::env;
use std::thread;
use std::time::{Duration, Instant};

use benches::stealing::{WORKERS, Workload, rows};
use benches::{Elapsed, Figure, Row, bars_table, process_cpu};

fn main() {
    let options = Options::from_args();
    let mut groups: Vec<Group> = Workload::ALL
        .into_iter()
        .filter(|workload| options.chooses(&workload.to_string()))
        .map(|workload| Group::new(workload, &options))
        .filter(|group| !group.rows.is_empty())
        .collect();
    let start = Instant::now();
    for round in 0..=options.rounds {
        for group in &mut groups {
            group.run(round > 0);
        }
        eprint!("\rround {round} of {}, {:.0?} ", options.rounds, start.elapsed());
    }
    eprintln!();
    println!(
        "Medians of {} interleaved rounds, {WORKERS} workers each, ns an operation; what is compared is the time by the clock on \
         the wall, and of the timers that of the processor.\n",
        options.rounds
    );
    println!("| workload | runtime | wall | spread | CPU | ÷ anteroom | least |");
    println!("|---|---|---:|---:|---:|---:|---:|");
    let figures: Vec<Figure> = groups.iter().flat_map(Group::print).collect();
    println!("\n{}", bars_table(&figures));
    println!("\n{}", idle(&options));
    if let Some(warning) = shared_machine() {
        println!("{warning}");
    }
}

/// [FAIR-5] What all these runtimes cost while none of them has anything to do.
fn idle(options: &Options) -> String {
    let (pause, before) = (Duration::from_millis(if options.is_quick { 200 } else { 1_000 }), process_cpu());
    thread::sleep(pause);
    let share = (process_cpu() - before).as_secs_f64() / pause.as_secs_f64() * 100.0;
    let verdict = if share < 1.0 { "" } else { ": **that is in all figures of CPU**" };
    format!("Idle, all runtimes together take {share:.2} % of a core{verdict}.")
}

/// Why the figures by the clock on the wall cannot be trusted, if so.
fn shared_machine() -> Option<String> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    if cores < WORKERS {
        return Some(format!(
            "**{WORKERS} workers share {cores} core: figures by the wall say nothing here.**"
        ));
    }
    // Ours and those of others over the last minute: two workers make a load of two at most.
    let load: f64 = std::fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()?;
    (load > cores as f64 + 0.5).then(|| {
        format!("**The machine's load is {load}, on {cores} cores: others were running. Measure again.**")
    })
}

struct Options {
    is_quick: bool,
    rounds: usize,
    only: Option<String>,
    chosen: Vec<String>,
}

impl Options {
    fn from_args() -> Self {
        let mut options = Self { is_quick: false, rounds: 0, only: None, chosen: Vec::new() };
        let mut args = env::args().skip(1);
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--bench" => {} // from cargo
                "--quick" => options.is_quick = true,
                "--rounds" => {
                    let rounds = args.next().and_then(|rounds| rounds.parse().ok());
                    options.rounds = rounds.filter(|&rounds| rounds > 0).expect("--rounds wants a number");
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
            options.rounds = if options.is_quick { 7 } else { 15 };
        }
        options
    }

    fn chooses(&self, workload: &str) -> bool {
        let is_whole = |part: &str| Workload::ALL.iter().any(|workload| workload.to_string() == part);
        let fits = |part: &String| if is_whole(part) { workload == part } else { workload.contains(part) };
        self.chosen.is_empty() || self.chosen.iter().any(fits)
    }
}

/// A workload's rows and what was measured.
struct Group {
    workload: Workload,
    operations: u64,
    rows: Vec<(Row, Vec<Elapsed>)>,
}

impl Group {
    fn new(workload: Workload, options: &Options) -> Self {
        let is_chosen = |row: &Row| options.only.as_ref().is_none_or(|only| only == row.name());
        let rows = rows(workload).into_iter().filter(is_chosen).map(|row| (row, Vec::new())).collect();
        Self { workload, operations: workload.operations(options.is_quick), rows }
    }

    fn run(&mut self, is_counted: bool) {
        for (row, times) in &mut self.rows {
            let elapsed = row.run(self.operations);
            if is_counted {
                times.push(elapsed);
            }
        }
    }

    fn figures(&self, times: &[Elapsed], of: impl Fn(&Elapsed) -> Duration) -> Figures {
        let mut ns: Vec<f64> =
            times.iter().map(|time| of(time).as_nanos() as f64 / self.operations as f64).collect();
        ns.sort_by(f64::total_cmp);
        let at = |share: f64| ns[((ns.len() - 1) as f64 * share).round() as usize];
        Figures { median: at(0.5), least: ns[0], spread: (at(0.75) - at(0.25)) / 2.0 / at(0.5) }
    }

    /// Of the time that the bar is of.
    fn judged(&self, times: &[Elapsed]) -> Figures {
        let is_of_cpu = self.workload.is_of_cpu();
        self.figures(times, |time| if is_of_cpu { time.process_cpu } else { time.wall })
    }

    /// Prints its lines of the table; gives them for the bars.
    fn print(&self) -> Vec<Figure> {
        let anteroom = self.judged(&self.rows[0].1).median;
        let print = |(index, (row, times)): (usize, &(Row, Vec<Elapsed>))| {
            let workload = if index == 0 { self.workload.to_string() } else { String::new() };
            let judged = self.judged(times);
            println!(
                "| {workload} | {} | {:.1} | ±{:.0} % | {:.1} | {:.2} | {:.1} |",
                row.name(),
                self.figures(times, |time| time.wall).median,
                judged.spread * 100.0,
                self.figures(times, |time| time.process_cpu).median,
                judged.median / anteroom,
                judged.least,
            );
            Figure::new("two_workers", self.workload, row.name(), judged.median, "ns")
        };
        self.rows.iter().enumerate().map(print).collect()
    }
}

struct Figures {
    median: f64,
    least: f64,
    /// Of the median, half of the rounds lie within.
    spread: f64,
}
