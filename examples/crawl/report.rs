//! What people see: a live line while it runs, a table when it is over, one JSON object for programs.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::budget::Budget;
use crate::crawler::{Crawl, Tally};
use crate::memory;

/// How often the live line changes.
const TICK: Duration = Duration::from_millis(100);

/// The live line. Without a terminal on standard error there is none, and no task either.
pub(crate) struct LiveLine(Option<(ProgressBar, anteroom::JoinHandle<()>)>);

impl LiveLine {
    /// Starts it, as a service: it takes no page's place. Call inside the runtime.
    pub(crate) fn start(crawl: &Arc<Crawl>, max_tasks: Option<usize>) -> LiveLine {
        if !io::stderr().is_terminal() {
            return LiveLine(None);
        }
        let style = ProgressStyle::with_template("{wide_msg}").expect("the template is well-formed");
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()).with_style(style);
        let service = anteroom::spawn_service(draw(bar.clone(), crawl.clone(), max_tasks));
        // Without a place for it the crawl goes on in silence.
        LiveLine(service.ok().map(|handle| (bar, handle)))
    }

    /// Takes the line away.
    pub(crate) fn end(self) {
        if let Some((bar, handle)) = self.0 {
            handle.abort();
            bar.finish_and_clear();
        }
    }
}

async fn draw(bar: ProgressBar, crawl: Arc<Crawl>, max_tasks: Option<usize>) {
    let limit = max_tasks.map_or_else(|| "no limit".into(), grouped);
    let mut interval = anteroom::time::interval(TICK);
    let (mut before, mut pages_before, mut rate) = (Instant::now(), 0, 0.0);
    loop {
        interval.tick().await;
        let (pages, known) = crawl.progress();
        let now = Instant::now();
        let seconds = now.duration_since(before).as_secs_f64();
        if seconds > 0.0 {
            // The last half second or so, smoothed.
            rate += 0.2 * ((pages - pages_before) as f64 / seconds - rate);
        }
        (before, pages_before) = (now, pages);
        let metrics = anteroom::metrics();
        bar.set_message(format!(
            "{} of {} pages  {rate:.0}/s  live {} of {limit}  waiting {}  memory {}",
            grouped(pages),
            grouped(known),
            grouped(metrics.tasks_live),
            grouped(metrics.waiting),
            mebibytes(memory::now_bytes()),
        ));
    }
}

/// A crawl's figures, complete.
pub(crate) struct Summary {
    pub(crate) tally: Tally,
    pub(crate) missing_examples: Vec<(String, u32)>,
    pub(crate) wall: Duration,
    /// None: no limit was in force.
    pub(crate) max_tasks: Option<usize>,
    pub(crate) live_tasks_peak: usize,
    pub(crate) waiting_peak: usize,
    pub(crate) memory_peak_bytes: Option<u64>,
    pub(crate) interrupted: bool,
    /// With `--memory`.
    pub(crate) budget: Option<BudgetFigures>,
    /// With `--linger`.
    pub(crate) idle: Option<Idle>,
}

/// What became of the memory that the crawl was given.
pub(crate) struct BudgetFigures {
    pub(crate) budget_bytes: u64,
    pub(crate) soft_bytes: u64,
    pub(crate) in_use_peak_bytes: u64,
    pub(crate) typical_page_bytes: u64,
}

impl BudgetFigures {
    pub(crate) fn of(budget: &Budget) -> BudgetFigures {
        let snapshot = budget.snapshot();
        BudgetFigures {
            budget_bytes: snapshot.budget,
            soft_bytes: snapshot.soft,
            in_use_peak_bytes: budget.in_use_peak(),
            typical_page_bytes: snapshot.typical,
        }
    }
}

/// The memory of the process before its first page, and so long after the last.
pub(crate) struct Idle {
    pub(crate) linger: Duration,
    pub(crate) start_bytes: Option<u64>,
    pub(crate) end_bytes: Option<u64>,
}

impl Summary {
    /// The table.
    pub(crate) fn table(&self) -> String {
        let tally = &self.tally;
        let seconds = self.wall.as_secs_f64();
        let mut table = String::new();
        let mut row = |name: &str, value: &str, note: &str| {
            let _ = writeln!(table, "{}", format!("  {name:<16}{value:>16}  {note}").trim_end());
        };
        let some = |count: u64, what: &str| {
            if count > 0 { format!("{} {what}", grouped(count)) } else { String::new() }
        };
        if self.interrupted {
            row("interrupted", "", "counted so far:");
        }
        row("pages", &grouped(tally.pages), &some(tally.not_html, "of them not HTML"));
        row("bytes", &grouped(tally.bytes), &mebibytes(Some(tally.bytes)));
        row("links", &grouped(tally.links), &some(tally.moved, "pages had moved"));
        row("broken links", &grouped(tally.broken_links), &some(tally.missing, "missing pages"));
        for (path, links) in &self.missing_examples {
            row("", "", &format!("{} to {path}", grouped(*links)));
        }
        row("errors", &grouped(tally.errors), "");
        for example in &tally.error_examples {
            row("", "", example);
        }
        let rate = format!("{} pages/s", grouped((tally.pages as f64 / seconds.max(0.001)) as u64));
        row("wall time", &format!("{seconds:.2} s"), &rate);
        let limit = match (self.max_tasks, &self.budget) {
            (None, _) => "no limit in force".into(),
            (Some(max), Some(_)) => format!("of {} that open files allow", grouped(max)),
            (Some(max), None) => format!("of {}", grouped(max)),
        };
        row("peak live tasks", &grouped(self.live_tasks_peak), &limit);
        row("peak waiting", &grouped(self.waiting_peak), "");
        row("peak memory", &mebibytes(self.memory_peak_bytes), "of this process");
        if let Some(budget) = &self.budget {
            let soft = format!("of which {} for all that is held", mebibytes(Some(budget.soft_bytes)));
            row("budget", &mebibytes(Some(budget.budget_bytes)), &soft);
            row("peak in pages", &mebibytes(Some(budget.in_use_peak_bytes)), "as they declared it");
            row("typical page", &kibibytes(budget.typical_page_bytes), "or less, 95 of 100");
        }
        if let Some(idle) = &self.idle {
            let (rest, start) = (idle.linger, mebibytes(idle.start_bytes));
            row(
                "memory left",
                &mebibytes(idle.end_bytes),
                &format!("after {rest:?} of rest; {start} at the start"),
            );
        }
        if tally.descriptor_waits > 0 {
            row("tried again", &grouped(tally.descriptor_waits), "no file descriptor or port was free");
        }
        table
    }

    /// One object, on one line.
    pub(crate) fn json(&self) -> String {
        let tally = &self.tally;
        let mut json = format!(
            "{{\"pages\":{},\"bytes\":{},\"links\":{},\"broken_links\":{},\"errors\":{},\"wall_s\":{:.3},\
             \"live_tasks_peak\":{},\"waiting_peak\":{},\"memory_peak_bytes\":{}",
            tally.pages,
            tally.bytes,
            tally.links,
            tally.broken_links,
            tally.errors,
            self.wall.as_secs_f64(),
            self.live_tasks_peak,
            self.waiting_peak,
            json_or_null(self.memory_peak_bytes),
        );
        let mut more = |name: &str, bytes: Option<u64>| {
            let _ = write!(json, ",\"{name}\":{}", json_or_null(bytes));
        };
        if let Some(budget) = &self.budget {
            more("budget_bytes", Some(budget.budget_bytes));
            more("soft_bytes", Some(budget.soft_bytes));
            more("in_use_peak_bytes", Some(budget.in_use_peak_bytes));
            more("typical_page_bytes", Some(budget.typical_page_bytes));
        }
        if let Some(idle) = &self.idle {
            more("memory_start_bytes", idle.start_bytes);
            more("memory_idle_bytes", idle.end_bytes);
        }
        json + "}"
    }
}

/// Writes to standard output; nobody reading is no reason to panic.
pub(crate) fn print(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// A number, or `null`.
pub(crate) fn json_or_null(number: Option<u64>) -> String {
    number.map_or_else(|| "null".into(), |number| number.to_string())
}

/// `48,625`.
pub(crate) fn grouped<N: TryInto<u64>>(number: N) -> String {
    let digits = number.try_into().unwrap_or(u64::MAX).to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `21.4 MiB`.
pub(crate) fn mebibytes(bytes: Option<u64>) -> String {
    bytes
        .map_or_else(|| "not available".into(), |bytes| format!("{:.1} MiB", bytes as f64 / (1 << 20) as f64))
}

/// `21.4 KiB`.
fn kibibytes(bytes: u64) -> String {
    format!("{:.1} KiB", bytes as f64 / 1_024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        assert_eq!(grouped(0_u64), "0");
        assert_eq!(grouped(999_u64), "999");
        assert_eq!(grouped(1_000_usize), "1,000");
        assert_eq!(grouped(1_234_567_u64), "1,234,567");
    }

    fn summary() -> Summary {
        Summary {
            tally: Tally {
                pages: 48_000,
                bytes: 1 << 20,
                links: 9,
                broken_links: 2,
                missing: 1,
                ..Tally::default()
            },
            missing_examples: vec![("/gone.html".into(), 2)],
            wall: Duration::from_millis(1_500),
            max_tasks: Some(1_000),
            live_tasks_peak: 1_000,
            waiting_peak: 1,
            memory_peak_bytes: Some(3 << 20),
            interrupted: false,
            budget: None,
            idle: None,
        }
    }

    fn within_memory() -> Summary {
        let budget = BudgetFigures {
            budget_bytes: 64 << 20,
            soft_bytes: 51 << 20,
            in_use_peak_bytes: 50 << 20,
            typical_page_bytes: 3_072,
        };
        let linger = Duration::from_secs(1);
        let idle = Idle { linger, start_bytes: Some(1 << 20), end_bytes: Some(2 << 20) };
        Summary { budget: Some(budget), idle: Some(idle), ..summary() }
    }

    #[test]
    fn the_json_has_each_figure_once_in_order() {
        let expected = "{\"pages\":48000,\"bytes\":1048576,\"links\":9,\"broken_links\":2,\"errors\":0,\
            \"wall_s\":1.500,\"live_tasks_peak\":1000,\"waiting_peak\":1,\"memory_peak_bytes\":3145728}";
        assert_eq!(summary().json(), expected);
        let unknown = Summary { memory_peak_bytes: None, ..summary() };
        assert!(unknown.json().ends_with("\"memory_peak_bytes\":null}"));
        let more = ",\"budget_bytes\":67108864,\"soft_bytes\":53477376,\"in_use_peak_bytes\":52428800,\
            \"typical_page_bytes\":3072,\"memory_start_bytes\":1048576,\"memory_idle_bytes\":2097152}";
        assert_eq!(within_memory().json(), expected.replace('}', more));
    }

    #[test]
    fn the_table_has_a_row_for_each_figure() {
        let table = summary().table();
        for row in [
            "  pages                     48,000\n",
            "  broken links                   2  1 missing pages\n",
            "2 to /gone.html\n",
            "  wall time                 1.50 s  32,000 pages/s\n",
            "  peak live tasks            1,000  of 1,000\n",
            "  peak memory              3.0 MiB  of this process\n",
        ] {
            assert!(table.contains(row), "{row:?} in\n{table}");
        }
        assert!(!table.contains("tried again") && !table.contains("budget"));
        let table = within_memory().table();
        for row in [
            "  peak live tasks            1,000  of 1,000 that open files allow\n",
            "  budget                  64.0 MiB  of which 51.0 MiB for all that is held\n",
            "  peak in pages           50.0 MiB  as they declared it\n",
            "  typical page             3.0 KiB  or less, 95 of 100\n",
            "  memory left              2.0 MiB  after 1s of rest; 1.0 MiB at the start\n",
        ] {
            assert!(table.contains(row), "{row:?} in\n{table}");
        }
    }
}
