//! A figure: what one runtime took for one thing, as a line that programs pass on.
//!
//! # Problem
//! What is measured needs processes of its own: memory, a cold start, an allocator, a server beside its load. And what they
//! find belongs into one report.
//!
//! # Idea
//! Each program prints a JSON object a line on its standard output; whatever else it has to say goes to the other one. The
//! report starts them and reads their lines.
//!
//! # Rules
//! - A peer that cannot do a workload says why, in a line with `cannot` in place of a value.
//! - Lower is better, unless the figure says otherwise.
//! - `x` is what grows in a picture (live tasks, the limit, connections): lines that differ in nothing else are one curve.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One figure, or the reason why there is none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// The part of the report that it belongs to.
    pub section: String,
    /// What was done.
    pub workload: String,
    /// By whom, with the idiom where there are several: `tokio`, or `tokio, workers`.
    pub runtime: String,
    /// What grows.
    pub x: Option<f64>,
    /// `ns`, `µs`, `bytes`, `MiB`, `calls`, `requests/s`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub unit: String,
    /// The median, where there are several rounds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// Half of the rounds lie within this share of the median.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spread: Option<f64>,
    /// Why there is no value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cannot: Option<String>,
    /// As for a rate.
    #[serde(default, skip_serializing_if = "is_false")]
    pub more_is_better: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes it so")]
fn is_false(value: &bool) -> bool {
    !value
}

impl Figure {
    /// A figure that was measured.
    pub fn new(
        section: &str,
        workload: impl fmt::Display,
        runtime: impl fmt::Display,
        value: f64,
        unit: &str,
    ) -> Self {
        Self {
            section: section.into(),
            workload: workload.to_string(),
            runtime: runtime.to_string(),
            x: None,
            unit: unit.into(),
            value: Some(value),
            spread: None,
            cannot: None,
            more_is_better: false,
        }
    }

    /// One that could not be, and why.
    pub fn cannot(
        section: &str,
        workload: impl fmt::Display,
        runtime: impl fmt::Display,
        reason: impl fmt::Display,
    ) -> Self {
        let figure = Self::new(section, workload, runtime, 0.0, "");
        Self { value: None, cannot: Some(reason.to_string()), ..figure }
    }

    /// At this point of its curve.
    pub fn at(self, x: f64) -> Self {
        Self { x: Some(x), ..self }
    }

    /// With its rounds' spread.
    pub fn within(self, spread: f64) -> Self {
        Self { spread: Some(spread), ..self }
    }

    /// More of it is better.
    pub fn more_is_better(self) -> Self {
        Self { more_is_better: true, ..self }
    }

    /// Of anteroom, whatever the idiom.
    pub fn is_ours(&self) -> bool {
        self.runtime == "anteroom" || self.runtime.starts_with("anteroom, ")
    }

    /// Prints its line.
    pub fn print(&self) {
        println!("{}", serde_json::to_string(self).expect("all of its values have a form in JSON"));
    }

    /// Reads one.
    ///
    /// # Errors
    /// When the line is none.
    pub fn parse(line: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(line)
    }
}

/// The median of what was measured, and the share of it that half of them lie within.
///
/// # Panics
/// If nothing was.
pub fn median_and_spread(mut values: Vec<f64>) -> (f64, f64) {
    values.sort_by(f64::total_cmp);
    let at = |share: f64| values[((values.len() - 1) as f64 * share).round() as usize];
    let median = at(0.5);
    (median, if median == 0.0 { 0.0 } else { (at(0.75) - at(0.25)) / 2.0 / median })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_as_it_was_written() {
        let figures = [
            Figure::new("memory", "parked", "tokio", 328.0, "bytes").at(1e6).within(0.02),
            Figure::new("echo", "requests", "tokio", 1e5, "requests/s").more_is_better(),
            Figure::cannot("echo", "requests", "glommio", "no ring"),
        ];
        for figure in figures {
            let line = serde_json::to_string(&figure).unwrap();
            assert_eq!(Figure::parse(&line).unwrap(), figure, "{line}");
        }
        let line = r#"{"section":"a","workload":"b","runtime":"c","x":null,"unit":"ns","value":1}"#;
        assert_eq!(Figure::parse(line).unwrap(), Figure::new("a", "b", "c", 1.0, "ns"));
    }

    #[test]
    fn a_median_is_in_the_middle() {
        assert_eq!(median_and_spread(vec![3.0, 1.0, 2.0]).0, 2.0);
        assert_eq!(median_and_spread(vec![7.0]), (7.0, 0.0));
    }
}
