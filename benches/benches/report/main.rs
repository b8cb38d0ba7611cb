//! How does anteroom compare with its peers? Everything that is measured, in one report.
//!
//! ```text
//! cargo bench -p benches --features peers --bench report -- [--quick] [--out DIRECTORY] [--from REPORT.json]
//! ```
//! A full run takes a quarter of an hour at most, `--quick` two minutes; building is not counted. It writes `report.md`,
//! `report.json` and the pictures, to `benches/report` unless told otherwise. `--from` measures nothing, and writes the tables and
//! pictures of an earlier run's figures again.
//!
//! # Problem
//! Memory, a cold start, another allocator and a server want a process of their own; the work-stealing modes want a program of
//! their own, since the others are not to pay for their code. And a table that somebody copies by hand from several runs
//! shows what they liked.
//!
//! # Idea
//! Start one program after the other, never two at once, and gather the lines that they print (`figure.rs`). All else is made from
//! these: the bars (`bars.rs`), the tables (`report.rs`), the pictures.
//!
//! # Rules
//! - Nothing in the report was measured in another run, and no row of this one is left out.
//! - A program that fails ends the report.

mod pictures;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;
use std::{env, fs};

use benches::report::{all_figures, growth_table, ratios_table};
use benches::{COLD, Figure, bars_table, cold_rows, judge, median_and_spread};
use serde_json::{Value, json};

/// The program of tasks, with the system's allocator.
const ROWS: &str = env!("CARGO_BIN_EXE_rows");

/// What stands in the table of ratios.
const SECTIONS: [&str; 6] = ["one_thread", "two_workers", "lateness", "memory", "echo", "cold"];

/// Whose versions the report names.
const PEERS: [&str; 8] =
    ["tokio", "smol", "async-executor", "monoio", "local-sync", "compio", "glommio", "futures-util"];

fn main() {
    let mut options = Options { is_quick: false, out: None, from: None };
    let mut args = env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--bench" => {} // from cargo
            "--quick" => options.is_quick = true,
            "--out" => options.out = Some(args.next().expect("--out wants a directory").into()),
            "--from" => options.from = Some(args.next().expect("--from wants a file").into()),
            option => panic!("unknown option {option}"),
        }
    }
    let report = match &options.from {
        Some(file) => serde_json::from_str(&fs::read_to_string(file).expect("the file of --from"))
            .expect("a report that was written before"),
        None => measure(&options),
    };
    let out = options.out.clone().unwrap_or_else(|| match cfg!(debug_assertions) {
        // `cargo test --benches`: does it work at all?
        true => env::temp_dir().join("anteroom-report"),
        false => Path::new(env!("CARGO_MANIFEST_DIR")).join("report"),
    });
    write(&report, &out);
    eprintln!("{}", out.join("report.md").display());
}

struct Options {
    is_quick: bool,
    out: Option<PathBuf>,
    from: Option<PathBuf>,
}

/// Runs everything.
fn measure(options: &Options) -> Value {
    let start = Instant::now();
    let mut figures = Vec::new();
    let step = |name: &str| eprintln!("{:>4.0?} s: {name}", start.elapsed().as_secs_f64());
    if !cfg!(debug_assertions) {
        let quick: &[&str] = if options.is_quick { &["--quick"] } else { &[] };
        let stealing = stealing_program();
        let start = Instant::now();
        let mimalloc = env!("CARGO_BIN_EXE_rows_mimalloc");
        // Of the other allocator the ratios alone are asked for, so a quick run of it will do.
        let programs: [(&str, &str, &[&str]); 8] = [
            ("tasks on one thread", ROWS, &["one_thread"]),
            ("timers", ROWS, &["timers"]),
            ("lateness", ROWS, &["lateness"]),
            ("tasks on two workers", &stealing, &["two_workers"]),
            ("memory", env!("CARGO_BIN_EXE_memory"), &["all"]),
            ("echo", env!("CARGO_BIN_EXE_echo"), &[]),
            ("growth", ROWS, &["growth"]),
            ("with mimalloc", mimalloc, &["one_thread", "--quick", "--section", "mimalloc"]),
        ];
        for (name, program, args) in programs {
            eprintln!("{:>4.0} s: {name}", start.elapsed().as_secs_f64());
            figures.extend(run(program, &[args, quick].concat()));
        }
    }
    step("cold");
    figures.extend(cold(if cfg!(debug_assertions) {
        1
    } else if options.is_quick {
        5
    } else {
        21
    }));
    step("done");
    json!({
        "date": said_by("date", &["-u", "+%Y-%m-%d"]),
        "commit": said_by("git", &["rev-parse", "--short", "HEAD"]),
        "is_quick": options.is_quick || cfg!(debug_assertions),
        "seconds": start.elapsed().as_secs(),
        "machine": machine(),
        "versions": versions(),
        "figures": figures,
    })
}

/// What a program prints; it must end well.
fn run(program: &str, args: &[&str]) -> Vec<Figure> {
    let output = Command::new(program).args(args).stderr(Stdio::inherit()).output().expect(program);
    assert!(output.status.success(), "{program} {args:?}: {}", output.status);
    let lines = String::from_utf8(output.stdout).expect("figures in UTF-8");
    lines.lines().map(|line| Figure::parse(line).unwrap_or_else(|error| panic!("{line}: {error}"))).collect()
}

/// The program with the work-stealing modes, built now: with its feature, nothing here would be as it is without.
fn stealing_program() -> String {
    let directory = Path::new(ROWS).parent().expect("a program is in a directory");
    let target = directory.parent().expect("which is in the target's");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--profile", "bench", "-p", "benches", "--features", "peers,stealing"]);
    cargo.args(["--bin", "rows_stealing", "--target-dir"]).arg(target);
    assert!(cargo.status().expect("cargo").success(), "the program of the work-stealing modes");
    directory.join("rows_stealing").to_str().expect("a path in UTF-8").to_owned()
}

/// First runs: a process for each, and the medians of several such, interleaved.
fn cold(rounds: usize) -> Vec<Figure> {
    let mut medians = Vec::new();
    for (workload, _) in COLD {
        let rows = cold_rows(workload);
        let mut found = vec![Vec::new(); rows.len()];
        for _ in 0..rounds {
            for (name, found) in rows.iter().zip(&mut found) {
                found.extend(run(ROWS, &["cold", name, &workload.to_string()]));
            }
        }
        for figures in found {
            let (median, spread) =
                median_and_spread(figures.iter().filter_map(|figure| figure.value).collect());
            let first = figures.into_iter().next().expect("a round at least");
            medians.push(Figure { value: Some(median), ..first }.within(spread));
        }
    }
    medians
}

/// The first line that a command says, if it is there.
fn said_by(command: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(command).args(args).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.lines().next().map(str::to_owned)
}

fn machine() -> Value {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    json!({
        "processor": model.map(|(_, model)| model),
        "cores": std::thread::available_parallelism().map(usize::from).ok(),
        "kernel": said_by("uname", &["-sr"]),
        "load": fs::read_to_string("/proc/loadavg").ok().and_then(|load| Some(load.split(' ').next()?.to_owned())),
    })
}

/// Of the compiler, and of the peers as they are locked.
fn versions() -> Value {
    let lock = include_str!("../../../Cargo.lock");
    let version = |name: &str| {
        let (_, entry) = lock.split_once(&format!("name = \"{name}\"\nversion = \""))?;
        Some(entry.split_once('"')?.0)
    };
    let mut versions = serde_json::Map::new();
    versions.insert("rustc".into(), said_by("rustc", &["--version"]).into());
    versions.extend(PEERS.map(|name| (name.to_owned(), version(name).into())));
    versions.into()
}

fn write(report: &Value, out: &Path) {
    let figures: Vec<Figure> =
        serde_json::from_value(report["figures"].clone()).expect("figures in the report");
    fs::create_dir_all(out).expect("the report's directory");
    let pictures = pictures::draw(&figures, out);
    let json = serde_json::to_string_pretty(report).expect("all of it has a form in JSON");
    fs::write(out.join("report.json"), json + "\n").expect("report.json");
    fs::write(out.join("report.md"), markdown(report, &figures, &pictures)).expect("report.md");
    let met = judge(&figures).iter().filter(|bar| bar.verdict == benches::Verdict::Met).count();
    eprintln!("{met} of {} bars met", judge(&figures).len());
}

fn markdown(report: &Value, figures: &[Figure], pictures: &[(String, String)]) -> String {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let machine = &report["machine"];
    let versions: Vec<String> = report["versions"]
        .as_object()
        .into_iter()
        .flatten()
        .map(
            |(name, version)| {
                if name == "rustc" { text(version) } else { format!("{name} {}", text(version)) }
            },
        )
        .collect();
    let kind = if report["is_quick"] == true { "a quick run" } else { "a full run" };
    let images: String = pictures.iter().map(|(file, title)| format!("![{title}]({file})\n")).collect();
    format!(
        "# anteroom beside its peers\n\n\
         {date}, commit {commit}, {kind} of {seconds} s. {processor}, {cores} cores, {kernel}, load {load} at the end. {versions}.\n\n\
         Written by `cargo bench -p benches --features peers --bench report`; the rules are in `benches/src/lib.rs`. Times of one \
         thread are processor time an operation, medians of interleaved rounds; of two workers, time by the clock on the wall.\n\n\
         ## Ratios\n\nHow many times better anteroom is than each peer; below one, in bold, it loses, and those rows come first. The \
         second column is anteroom's own figure.\n\n{ratios}\n\
         ## Bars\n\nWhat anteroom set out for, what was missed first.\n\n{bars}\n\
         ## With mimalloc\n\nThe same with mimalloc as everybody's allocator.\n\n{mimalloc}\n\
         ## Growth\n\nThe same workloads with more tasks alive, jobs through higher limits, more connections.\n\n{growth}\n{images}\n\
         ## All figures\n\n<details><summary>Everything that was measured</summary>\n\n{all}\n</details>\n",
        date = text(&report["date"]),
        commit = text(&report["commit"]),
        seconds = report["seconds"],
        processor = text(&machine["processor"]),
        cores = machine["cores"],
        kernel = text(&machine["kernel"]),
        load = text(&machine["load"]),
        versions = versions.join(", "),
        ratios = ratios_table(figures, &SECTIONS),
        bars = bars_table(figures),
        mimalloc = ratios_table(figures, &["mimalloc"]),
        growth = growth_table(figures),
        all = all_figures(figures),
    )
}
