//! What anteroom set out for: a figure of its own against its peers' in the same run.
//!
//! # Rules
//! - A bar is a ratio in one run, or a count of bytes, which depends on no machine's speed. The ratios are what throwaway
//!   prototypes showed to be within reach.
//! - Judged is anteroom's plain row, with the median. A bar for which this run has no figures is not judged, and does not count
//!   as met.

use std::fmt;

use crate::Figure;
use crate::report::short;

/// What a bar is measured from.
#[derive(Clone, Copy, Debug)]
enum Against {
    /// The best of these.
    These(&'static [&'static str]),
    /// The best of all peers, whatever their idiom.
    Best,
    /// No runtime: so much of the figure's own unit.
    Nobody(f64),
}

/// anteroom's figure is to be at most `share` of the reference, and `plus` of its unit; where more is better, at least.
#[derive(Clone, Copy, Debug)]
struct Bar {
    section: &'static str,
    workload: &'static str,
    against: Against,
    share: f64,
    plus: f64,
}

/// `by` times as good as the best of these.
const fn bar(section: &'static str, workload: &'static str, these: &'static [&'static str], by: f64) -> Bar {
    Bar { section, workload, against: Against::These(these), share: 1.0 / by, plus: 0.0 }
}

const fn best(section: &'static str, workload: &'static str, by: f64) -> Bar {
    Bar { section, workload, against: Against::Best, share: 1.0 / by, plus: 0.0 }
}

const fn most(section: &'static str, workload: &'static str, value: f64) -> Bar {
    Bar { section, workload, against: Against::Nobody(value), share: 1.0, plus: 0.0 }
}

const TOKIO: &[&str] = &["tokio"];
const MONOIO: &[&str] = &["monoio io_uring", "monoio legacy"];
const PERMIT: &[&str] = &["tokio, permit then spawn"];
const BUFFER: &[&str] = &["tokio, buffer_unordered"];
const EPOLL: &[&str] = &["bare epoll"];

/// All of them, by section.
const BARS: &[Bar] = &[
    bar("one_thread", "spawn_join", TOKIO, 8.0),
    bar("one_thread", "spawn_batch", TOKIO, 10.0),
    bar("one_thread", "spawn_batch", MONOIO, 2.5),
    bar("one_thread", "yield", TOKIO, 6.0),
    bar("one_thread", "ping_pong", TOKIO, 2.0),
    bar("one_thread", "chained", TOKIO, 10.0),
    bar("one_thread", "fanout 1000", PERMIT, 6.0),
    bar("one_thread", "fanout 1000", BUFFER, 2.5),
    bar("one_thread", "fanout 1000", &["tokio, workers"], 1.0),
    bar("one_thread", "fanout 10", PERMIT, 6.0),
    bar("one_thread", "fanout 10", BUFFER, 2.5),
    bar("one_thread", "fanout 1", PERMIT, 6.0),
    bar("one_thread", "fanout 1", BUFFER, 2.5),
    bar("one_thread", "fanout 1000 from 2000", PERMIT, 6.0),
    bar("one_thread", "semaphore, one task", TOKIO, 1.8),
    best("one_thread", "semaphore, 1000 tasks", 1.3),
    best("one_thread", "semaphore of one thread, 1000 tasks", 1.3),
    best("one_thread", "timer_churn", 2.0),
    best("one_thread", "timers", 3.0),
    bar("two_workers", "spawn_join", TOKIO, 3.0),
    bar("two_workers", "spawn_batch", TOKIO, 3.5),
    bar("two_workers", "yield", TOKIO, 1.6),
    bar("two_workers", "ping_pong", TOKIO, 1.4),
    bar("two_workers", "ping_pong_100", TOKIO, 1.4),
    bar("two_workers", "chained", TOKIO, 3.0),
    bar("two_workers", "fanout", TOKIO, 5.0),
    bar("two_workers", "semaphore", TOKIO, 3.0),
    bar("two_workers", "timers", TOKIO, 3.0),
    // The resolution that anteroom has by itself, as it has in all other rows: 100 µs.
    Bar { section: "lateness", workload: "sparse, p99", against: Against::Best, share: 1.1, plus: 100.0 },
    most("memory", "peak of a fanout", 4.0),
    most("memory", "parked", 72.0),
    most("memory", "sleeping", 208.0),
    bar("echo", "cpu a request", EPOLL, 1.0 / 1.05),
    bar("echo", "system calls a request", EPOLL, 1.0),
    bar("echo", "requests", EPOLL, 1.0 / 0.97),
    bar("echo", "requests", TOKIO, 1.0),
];

/// How far anteroom is from a bar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is there.
    Met,
    /// Not yet, but within twice.
    WithinTwice,
    /// Farther away.
    Missed,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verdict::Met => "met",
            Verdict::WithinTwice => "**missed**, within twice",
            Verdict::Missed => "**missed**",
        })
    }
}

/// A bar beside what was measured.
#[derive(Clone, Debug)]
pub struct Judgement {
    /// The section, and the workload with its place on the curve.
    pub section: &'static str,
    /// As above.
    pub workload: String,
    /// In words.
    pub bar: String,
    /// anteroom's figure.
    pub ours: f64,
    /// What it is to be.
    pub allowed: f64,
    /// Of both.
    pub unit: String,
    /// Whether it is.
    pub verdict: Verdict,
}

impl Bar {
    /// Judged at each place where anteroom was measured and who it is measured against too.
    fn judge<'a>(&'a self, figures: &'a [Figure]) -> impl Iterator<Item = Judgement> + 'a {
        let is_of_it = |figure: &&Figure| figure.section == self.section && figure.workload == self.workload;
        let ours = figures.iter().filter(is_of_it).filter(|figure| figure.runtime == "anteroom");
        ours.filter_map(move |mine| {
            let peers = figures.iter().filter(is_of_it).filter(|figure| figure.x == mine.x);
            let ours = mine.value?;
            let more_is_better = mine.more_is_better;
            let better = |a: &f64, b: &f64| if more_is_better { b.total_cmp(a) } else { a.total_cmp(b) };
            let (who, reference) = match self.against {
                Against::Nobody(value) => (String::new(), value),
                Against::These(names) => {
                    let these = peers.filter(|peer| names.contains(&peer.runtime.as_str()));
                    (names.join(" or "), these.filter_map(|peer| peer.value).min_by(better)?)
                }
                Against::Best => {
                    let others = peers.filter(|peer| !peer.is_ours());
                    let best = others
                        .filter_map(|peer| Some((peer.runtime.clone(), peer.value?)))
                        .min_by(|(_, a), (_, b)| better(a, b))?;
                    (format!("the best, {}", best.0), best.1)
                }
            };
            let allowed = reference * self.share + self.plus;
            let times = if more_is_better { allowed / ours } else { ours / allowed };
            let verdict = match times {
                ..=1.0 => Verdict::Met,
                ..=2.0 => Verdict::WithinTwice,
                _ => Verdict::Missed,
            };
            let sign = if more_is_better { "≥" } else { "≤" };
            let plus = if self.plus == 0.0 { String::new() } else { format!(" + {}", self.plus) };
            let bar = match self.share {
                _ if who.is_empty() => sign.into(),
                1.0 => format!("{sign} {who}{plus}"),
                share if share < 0.9 => {
                    let by = (100.0 / share).round() / 100.0;
                    format!("{sign} {who} ÷ {by}{plus}")
                }
                share => format!("{sign} {:.2} × {who}{plus}", share),
            };
            let workload = match mine.x {
                Some(x) => format!("{} at {x}", self.workload),
                None => self.workload.into(),
            };
            Some(Judgement {
                section: self.section,
                workload,
                bar,
                ours,
                allowed,
                unit: mine.unit.clone(),
                verdict,
            })
        })
    }
}

/// What is to be said of all bars that these figures allow to judge.
pub fn judge(figures: &[Figure]) -> Vec<Judgement> {
    BARS.iter().flat_map(|bar| bar.judge(figures)).collect()
}

/// The same in Markdown, what was missed first.
pub fn bars_table(figures: &[Figure]) -> String {
    let mut judgements = judge(figures);
    judgements.sort_by_key(|judgement| std::cmp::Reverse(judgement.verdict as u8));
    let met = judgements.iter().filter(|judgement| judgement.verdict == Verdict::Met).count();
    let mut table = String::from("| | workload | anteroom | bar | | |\n|---|---|---:|---|---:|---|\n");
    for Judgement { section, workload, bar, ours, allowed, unit, verdict } in &judgements {
        table += &format!(
            "| {section} | {workload} | {} {unit} | {bar} | {} | {verdict} |\n",
            short(*ours),
            short(*allowed)
        );
    }
    format!("{table}\n{met} of {} bars met.\n", judgements.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_judged_in_its_own_direction() {
        let time = |runtime, ns| Figure::new("one_thread", "spawn_join", runtime, ns, "ns");
        let rate = |runtime, rate| {
            Figure::new("echo", "requests", runtime, rate, "requests/s").at(50.0).more_is_better()
        };
        let verdicts = |figures: &[Figure]| -> Vec<Verdict> {
            judge(figures).iter().map(|judgement| judgement.verdict).collect()
        };
        assert_eq!(verdicts(&[time("anteroom", 10.0), time("tokio", 80.0)]), [Verdict::Met]);
        assert_eq!(verdicts(&[time("anteroom", 10.0), time("tokio", 79.0)]), [Verdict::WithinTwice]);
        assert_eq!(verdicts(&[time("anteroom", 10.0), time("tokio", 39.0)]), [Verdict::Missed]);
        assert_eq!(verdicts(&[time("anteroom", 10.0)]), []);
        let figures = [rate("anteroom", 98.0), rate("bare epoll", 100.0), rate("tokio", 99.0)];
        assert_eq!(verdicts(&figures), [Verdict::Met, Verdict::WithinTwice]);
    }

    #[test]
    fn every_bar_of_tasks_is_of_a_workload_that_there_is() {
        let check = |section: &str, workloads: Vec<String>| {
            for bar in BARS.iter().filter(|bar| bar.section == section) {
                assert!(workloads.iter().any(|workload| workload == bar.workload), "{bar:?}");
            }
        };
        check("one_thread", crate::Workload::ALL.iter().map(ToString::to_string).collect());
        #[cfg(feature = "stealing")]
        check("two_workers", crate::stealing::Workload::ALL.iter().map(ToString::to_string).collect());
    }
}
