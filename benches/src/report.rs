//! From figures to Markdown: the table of ratios, the steps of the curves, and everything that was measured.
//!
//! # Rules
//! - A ratio is how many times better anteroom is: below one, it loses. The row with the worst ratio is the first.
//! - An idiom of a peer is compared with ours of the same name, or else with our plain row; where runtimes have several, one more
//!   row compares the best that each of them has.
//! - Whoever cannot do it is in the table too, with the reason below it.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::Figure;

/// What a row of the table is of.
#[derive(Clone, Debug, PartialEq)]
struct Question<'a> {
    section: &'a str,
    workload: &'a str,
    x: Option<f64>,
}

impl<'a> Question<'a> {
    fn of(figure: &'a Figure) -> Self {
        Self { section: &figure.section, workload: &figure.workload, x: figure.x }
    }

    fn name(&self) -> String {
        let at = self.x.map_or(String::new(), |x| format!(" at {x}"));
        format!("{}: {}{at}", self.section, self.workload)
    }
}

/// The runtime, and its idiom.
fn split(runtime: &str) -> (&str, &str) {
    runtime.split_once(", ").unwrap_or((runtime, ""))
}

/// One row of the table: ours, and how the others compare.
struct Comparison<'a> {
    name: String,
    ours: &'a Figure,
    /// By runtime: its figure, or why there is none.
    theirs: Vec<&'a Figure>,
}

impl Comparison<'_> {
    /// How many times better ours is.
    fn ratio(&self, theirs: &Figure) -> Option<f64> {
        let (ours, other) = (self.ours.value?, theirs.value?);
        let ratio = if self.ours.more_is_better { ours / other } else { other / ours };
        ratio.is_finite().then_some(ratio)
    }

    fn worst(&self) -> f64 {
        self.theirs.iter().filter_map(|theirs| self.ratio(theirs)).fold(f64::INFINITY, f64::min)
    }
}

fn better(a: &Figure, b: &Figure) -> std::cmp::Ordering {
    // Those without a value are the last.
    let key = |figure: &Figure| match figure.value {
        Some(value) if figure.more_is_better => -value,
        Some(value) => value,
        None => f64::INFINITY,
    };
    key(a).total_cmp(&key(b))
}

/// The best figure of each runtime, in the order of the figures.
fn best_of_each<'a>(figures: &[&'a Figure]) -> Vec<&'a Figure> {
    let mut best: Vec<&Figure> = Vec::new();
    for figure in figures {
        let runtime = split(&figure.runtime).0;
        match best.iter_mut().find(|other| split(&other.runtime).0 == runtime) {
            Some(other) if better(figure, other).is_lt() => *other = figure,
            Some(_) => {}
            None => best.push(figure),
        }
    }
    best
}

fn comparisons(figures: &[Figure]) -> Vec<Comparison<'_>> {
    let mut questions: Vec<Question<'_>> = Vec::new();
    for question in figures.iter().map(Question::of) {
        if !questions.contains(&question) {
            questions.push(question);
        }
    }
    let mut all = Vec::new();
    for question in questions {
        let of_it: Vec<&Figure> = figures.iter().filter(|figure| Question::of(figure) == question).collect();
        let (ours, theirs): (Vec<&Figure>, Vec<&Figure>) =
            of_it.into_iter().partition(|figure| figure.is_ours());
        let Some(plain) = ours.iter().find(|figure| split(&figure.runtime).1.is_empty()) else { continue };
        let mut idioms: Vec<&str> = Vec::new();
        for idiom in theirs.iter().map(|figure| split(&figure.runtime).1) {
            if !idioms.contains(&idiom) {
                idioms.push(idiom);
            }
        }
        for &idiom in &idioms {
            let mine = ours.iter().find(|figure| split(&figure.runtime).1 == idiom).unwrap_or(plain);
            let name =
                if idiom.is_empty() { question.name() } else { format!("{}, {idiom}", question.name()) };
            let theirs = theirs.iter().filter(|figure| split(&figure.runtime).1 == idiom).copied().collect();
            all.push(Comparison { name, ours: mine, theirs });
        }
        if idioms.iter().filter(|idiom| !idiom.is_empty()).count() > 1 {
            for mine in &ours {
                let (_, idiom) = split(&mine.runtime);
                let idiom = if idiom.is_empty() { String::new() } else { format!(" by {idiom}") };
                let name = format!("{}{idiom}, the best of each", question.name());
                all.push(Comparison { name, ours: mine, theirs: best_of_each(&theirs) });
            }
        }
    }
    all.sort_by(|a, b| a.worst().total_cmp(&b.worst()));
    all
}

/// With three digits that count.
pub fn short(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// The ratios to all peers in these sections, the rows that anteroom loses first.
pub fn ratios_table(figures: &[Figure], sections: &[&str]) -> String {
    let figures: Vec<Figure> =
        figures.iter().filter(|figure| sections.contains(&&*figure.section)).cloned().collect();
    let mut runtimes: Vec<&str> = Vec::new();
    for runtime in figures.iter().filter(|figure| !figure.is_ours()).map(|figure| split(&figure.runtime).0) {
        if !runtimes.contains(&runtime) {
            runtimes.push(runtime);
        }
    }
    let mut table = format!("| | anteroom | {} |\n", runtimes.join(" | "));
    let _ = writeln!(table, "|---|---:|{}", "---:|".repeat(runtimes.len()));
    let mut reasons: Vec<&str> = Vec::new();
    let comparisons = comparisons(&figures);
    for comparison in &comparisons {
        let ours = comparison.ours;
        let value = match ours.value {
            Some(value) => format!("{} {}", short(value), ours.unit),
            None => "–".into(),
        };
        let _ = write!(table, "| {} | {value} |", comparison.name);
        for runtime in &runtimes {
            let theirs = comparison.theirs.iter().find(|theirs| split(&theirs.runtime).0 == *runtime);
            let cell = match theirs {
                None => String::new(),
                Some(theirs) => match (comparison.ratio(theirs), &theirs.cannot) {
                    (Some(ratio), _) if ratio < 1.0 => format!("**{}**", short(ratio)),
                    (Some(ratio), _) => short(ratio),
                    (None, Some(reason)) => {
                        let at = reasons.iter().position(|other| other == reason).unwrap_or_else(|| {
                            reasons.push(reason);
                            reasons.len() - 1
                        });
                        format!("– ({})", at + 1)
                    }
                    (None, None) => "?".into(),
                },
            };
            let _ = write!(table, " {cell} |");
        }
        table.push('\n');
    }
    let lost = comparisons.iter().filter(|comparison| comparison.worst() < 1.0).count();
    let _ = writeln!(table, "\nanteroom loses to somebody in {lost} of {} rows.\n", comparisons.len());
    for (at, reason) in reasons.iter().enumerate() {
        let _ = writeln!(table, "{}. {reason}", at + 1);
    }
    table
}

/// One curve: its runtime, and its points in order.
pub type Curve<'a> = (&'a str, Vec<(f64, f64)>);

/// The curves of a workload, in the order of the figures.
pub fn curves<'a>(figures: &'a [Figure], section: &str, workload: &str) -> Vec<Curve<'a>> {
    let mut curves: Vec<Curve<'_>> = Vec::new();
    for figure in figures.iter().filter(|figure| figure.section == section && figure.workload == workload) {
        let (Some(x), Some(value)) = (figure.x, figure.value) else { continue };
        match curves.iter_mut().find(|(runtime, _)| *runtime == figure.runtime) {
            Some((_, points)) => points.push((x, value)),
            None => curves.push((&figure.runtime, vec![(x, value)])),
        }
    }
    for (_, points) in &mut curves {
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
    }
    curves
}

/// The workloads that grow, with their unit.
pub fn growing(figures: &[Figure]) -> Vec<(String, String, String)> {
    let mut all = Vec::new();
    for figure in figures.iter().filter(|figure| figure.section.ends_with("growth") && figure.value.is_some())
    {
        let key = (figure.section.clone(), figure.workload.clone(), figure.unit.clone());
        if !all.contains(&key) {
            all.push(key);
        }
    }
    all
}

/// How much a figure of ours changes from the first point of its curve to the last, and in its steepest step; beside it the
/// steepest step of the peers.
pub fn growth_table(figures: &[Figure]) -> String {
    let steepest = |points: &[(f64, f64)]| {
        let steps = points.windows(2).map(|pair| (pair[1].1 / pair[0].1, pair[0].0, pair[1].0));
        steps.max_by(|a, b| a.0.total_cmp(&b.0))
    };
    let mut table = String::from("| | anteroom | steepest step | the peers' steepest |\n|---|---|---|---|\n");
    for (section, workload, unit) in growing(figures) {
        let curves = curves(figures, &section, &workload);
        let Some((_, ours)) = curves.iter().find(|(runtime, _)| *runtime == "anteroom") else { continue };
        let path: Vec<String> = ours.iter().map(|(x, y)| format!("{} at {x}", short(*y))).collect();
        let step = |step: Option<(f64, f64, f64)>| {
            step.map_or("–".into(), |(by, from, to)| format!("× {} from {from} to {to}", short(by)))
        };
        let peers = curves.iter().filter(|(runtime, _)| *runtime != "anteroom");
        let theirs = peers
            .filter_map(|(runtime, points)| Some((runtime, steepest(points)?)))
            .max_by(|a, b| a.1.0.total_cmp(&b.1.0));
        let theirs = theirs.map_or("–".into(), |(runtime, by)| format!("{runtime}: {}", step(Some(by))));
        let _ = writeln!(
            table,
            "| {section}: {workload}, {unit} | {} | {} | {theirs} |",
            path.join(", "),
            step(steepest(ours))
        );
    }
    table
}

/// Everything, in the order in which it was measured.
pub fn all_figures(figures: &[Figure]) -> String {
    let mut sections: BTreeMap<&str, String> = BTreeMap::new();
    for figure in figures {
        let rows = sections.entry(&figure.section).or_insert_with(|| {
            String::from("| workload | at | runtime | | | spread |\n|---|---:|---|---:|---|---:|\n")
        });
        let x = figure.x.map_or(String::new(), |x| x.to_string());
        let value = figure.value.map_or("–".into(), short);
        let unit = figure.cannot.as_deref().unwrap_or(&figure.unit);
        let spread = figure.spread.map_or(String::new(), |spread| format!("±{:.0} %", spread * 100.0));
        let _ = writeln!(
            rows,
            "| {} | {x} | {} | {value} | {unit} | {spread} |",
            figure.workload, figure.runtime
        );
    }
    sections.into_iter().map(|(section, rows)| format!("### {section}\n\n{rows}\n")).collect()
}

/// The ratios of the plain rows, or of the best idiom of each: a workload, and each runtime's. For a picture.
pub fn overview(figures: &[Figure], section: &str) -> Vec<(String, Vec<(String, f64)>)> {
    let figures: Vec<Figure> = figures.iter().filter(|figure| figure.section == section).cloned().collect();
    let comparisons = comparisons(&figures);
    let is_shown = |comparison: &&Comparison<'_>| {
        let (_, name) = comparison.name.split_once(": ").expect("a section");
        comparison.ours.runtime == "anteroom"
            && (name == comparison.ours.workload || name.ends_with(", the best of each"))
    };
    let ratios = |comparison: &Comparison<'_>| {
        let ratio = |theirs: &&Figure| Some((split(&theirs.runtime).0.to_owned(), comparison.ratio(theirs)?));
        (comparison.ours.workload.clone(), comparison.theirs.iter().filter_map(ratio).collect())
    };
    comparisons.iter().filter(is_shown).map(ratios).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(workload: &str, runtime: &str, ns: f64) -> Figure {
        Figure::new("one_thread", workload, runtime, ns, "ns")
    }

    #[test]
    fn what_is_lost_comes_first() {
        let figures = [
            time("won", "anteroom", 10.0),
            time("won", "tokio", 80.0),
            time("lost", "anteroom", 10.0),
            time("lost", "tokio", 20.0),
            time("lost", "smol", 5.0),
            Figure::cannot("one_thread", "won", "smol", "it has none"),
        ];
        let table = ratios_table(&figures, &["one_thread"]);
        let rows: Vec<&str> = table.lines().collect();
        assert_eq!(rows[0], "| | anteroom | tokio | smol |");
        assert_eq!(rows[2], "| one_thread: lost | 10.0 ns | 2.00 | **0.50** |");
        assert_eq!(rows[3], "| one_thread: won | 10.0 ns | 8.00 | – (1) |");
        assert!(table.ends_with("anteroom loses to somebody in 1 of 2 rows.\n\n1. it has none\n"), "{table}");
    }

    #[test]
    fn idioms_are_compared_with_their_like_and_the_best_with_the_best() {
        let figures = [
            time("fanout", "anteroom", 10.0),
            time("fanout", "anteroom, try_spawn", 8.0),
            time("fanout", "tokio, workers", 5.0),
            time("fanout", "tokio, permits", 40.0),
        ];
        let names: Vec<String> = comparisons(&figures).into_iter().map(|row| row.name).collect();
        assert_eq!(
            names,
            [
                "one_thread: fanout, workers",
                "one_thread: fanout, the best of each",
                "one_thread: fanout by try_spawn, the best of each",
                "one_thread: fanout, permits",
            ]
        );
        assert_eq!(overview(&figures, "one_thread"), [("fanout".into(), vec![("tokio".into(), 0.5)])]);
    }

    #[test]
    fn more_may_be_better() {
        let rate =
            |runtime, rate| Figure::new("echo", "requests", runtime, rate, "requests/s").more_is_better();
        let figures = [rate("anteroom", 50.0), rate("tokio", 100.0)];
        let table = ratios_table(&figures, &["echo"]);
        assert!(table.contains("| echo: requests | 50.0 requests/s | **0.50** |"), "{table}");
    }

    #[test]
    fn a_step_is_found() {
        let at = |x, ns| Figure::new("growth", "yield", "anteroom", ns, "ns").at(x);
        let table = growth_table(&[at(1000.0, 20.0), at(10.0, 10.0), at(100_000.0, 100.0)]);
        let row = "| growth: yield, ns | 10.0 at 10, 20.0 at 1000, 100 at 100000 | × 5.00 from 1000 to 100000 | – |";
        assert_eq!(table.lines().last(), Some(row));
    }
}
