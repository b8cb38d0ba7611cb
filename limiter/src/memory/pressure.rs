//! Who waited for memory of late: the pressure-stall figures of the system, read.
//!
//! # Idea
//!
//! Linux counts the time in which somebody (`some`), or everybody who had work to do (`full`), waited for memory: for a
//! page to come back from disk, or for one to be freed. It is what an operator wants to see beside a budget that is
//! full: nearly zero, and the budget may grow; some per cent, and it is too large already.
//!
//! # Read next
//!
//! [`super::cgroup`], which finds the file of the group.

use std::fmt;
use std::time::Duration;

use super::gauge::Reread;

/// How much of the time somebody, and everybody, waited for memory.
///
/// ```
/// use anteroom_limiter::MemoryBudget;
///
/// let budget = MemoryBudget::bytes(1 << 30);
/// if let Some(pressure) = budget.snapshot().pressure {
///     println!("{:.2} % of the last minute", pressure.some.avg60_percent);
/// }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Pressure {
    /// At least one task of the system's waited.
    pub some: Stall,
    /// All that had anything to do waited. Zero where the system does not count it.
    pub full: Stall,
}

/// One line of [`Pressure`].
///
/// ```
/// use std::time::Duration;
/// use anteroom_limiter::Stall;
///
/// assert_eq!(Stall::default().total, Duration::ZERO);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Stall {
    /// Of the last 10 seconds, in per cent.
    pub avg10_percent: f64,
    /// Of the last 60 seconds, in per cent.
    pub avg60_percent: f64,
    /// Since the group was made.
    pub total: Duration,
}

impl Pressure {
    pub(super) fn read(file: &Reread) -> Option<Self> {
        let mut buffer = [0; 512];
        Self::parse(file.read(&mut buffer)?)
    }

    /// `None` unless there is a line of `some` that makes sense.
    fn parse(text: &str) -> Option<Self> {
        let line = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).and_then(Stall::parse);
        Some(Self { some: line("some ")?, full: line("full ").unwrap_or_default() })
    }
}

impl Stall {
    fn parse(line: &str) -> Option<Self> {
        let value = |name: &str| {
            let fields = line.split_ascii_whitespace().filter_map(|field| field.split_once('='));
            fields.into_iter().find(|&(key, _)| key == name).map(|(_, value)| value)
        };
        let percent =
            |name: &str| value(name)?.parse::<f64>().ok().filter(|percent| (0.0..=100.0).contains(percent));
        Some(Self {
            avg10_percent: percent("avg10")?,
            avg60_percent: percent("avg60")?,
            total: Duration::from_micros(value("total")?.parse().ok()?),
        })
    }
}

impl fmt::Display for Pressure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { some, full } = self;
        write!(
            f,
            "some {:.2} % full {:.2} % of 10 s, some {:.2} % full {:.2} % of 60 s",
            some.avg10_percent, full.avg10_percent, some.avg60_percent, full.avg60_percent
        )
    }
}

#[cfg(all(test, not(anteroom_loom)))]
mod tests {
    use super::*;

    #[test]
    fn both_lines_are_read() {
        let text = "some avg10=1.25 avg60=0.50 avg300=0.00 total=9972438\n\
                    full avg10=0.75 avg60=0.00 avg300=0.00 total=6460455\n";
        let stall = |avg10_percent, avg60_percent, total| Stall {
            avg10_percent,
            avg60_percent,
            total: Duration::from_micros(total),
        };
        let expected = Pressure { some: stall(1.25, 0.5, 9_972_438), full: stall(0.75, 0.0, 6_460_455) };
        assert_eq!(Pressure::parse(text), Some(expected));
        let (some, _) = text.split_once('\n').unwrap();
        assert_eq!(Pressure::parse(some), Some(Pressure { full: Stall::default(), ..expected }));
        assert_eq!(expected.to_string(), "some 1.25 % full 0.75 % of 10 s, some 0.50 % full 0.00 % of 60 s");
    }

    #[test]
    fn what_makes_no_sense_is_no_figure() {
        for bad in [
            "",
            "full avg10=0.75 avg60=0.00 avg300=0.00 total=6460455",
            "some",
            "some avg10=0.00 avg60=0.00 avg300=0.00",
            "some avg10=0.00 avg300=0.00 total=1",
            "some avg10=NaN avg60=0.00 avg300=0.00 total=1",
            "some avg10=-1 avg60=0.00 avg300=0.00 total=1",
            "some avg10=100.01 avg60=0.00 avg300=0.00 total=1",
            "some avg10=0.00 avg60=0.00 avg300=0.00 total=-1",
            "sometimes avg10=0.00 avg60=0.00 avg300=0.00 total=1",
        ] {
            assert_eq!(Pressure::parse(bad), None, "{bad}");
        }
    }
}
