//! What a task holds, typically: the 95th percentile of the latest peaks.
//!
//! # Problem
//!
//! Who is asked for an estimate has none. But tasks of one kind resemble each other, and those that have ended have said
//! what they held.
//!
//! # Idea
//!
//! A histogram on a logarithmic scale, eight buckets an octave, so that any size from a byte up has its place in 496
//! counters. Two of them: one fills, the other holds the 1,024 samples before. When the one is full it becomes the other.
//! So the answer is about the latest 1,025 to 2,048 peaks, and all of them count alike.
//!
//! # Bounds
//!
//! Two times 496 counters of two bytes: 2 KiB for ever. A sample is O(1); the answer looks at each pair of counters once.
//! The error has one direction: for the exact quantile *q*, the answer is at least *q* and less than 9/8 *q*.
//!
//! # Invariants
//!
//! - `[ESTIMATE-1]` A bucket's upper end lies in that bucket, so that an answer that comes back as a sample changes nothing.
//!
//! # Rejected
//!
//! - *Halving all counters from time to time.* What happened once is then forgotten first, and the largest tasks of a
//!   heavy-tailed kind are those that happened once.
//! - *A running mean and deviation.* The mean of a heavy tail says little, and one giant moves it for an hour.
//! - *P², t-digest.* Their error is not stated in advance.
//! - *The largest.* One giant, and all run alone.
//!
//! # Read next
//!
//! [`crate::memory`], which admits on it.

/// Buckets an octave: the answer is less than one in `STEPS` above the truth.
const STEPS: usize = 8;
const STEPS_LOG2: u32 = STEPS.trailing_zeros();
/// The small values, one each, then the octaves from 8 to the last of a u64.
const BUCKETS: usize = STEPS + STEPS * (u64::BITS - STEPS_LOG2) as usize;
/// Samples until a window is full.
const WINDOW: u16 = 1_024;

/// The latest peaks, counted.
#[derive(Clone)]
pub(crate) struct Peaks {
    recent: Histogram,
    older: Histogram,
}

#[derive(Clone)]
struct Histogram {
    counts: [u16; BUCKETS],
    samples: u16,
}

impl Histogram {
    const EMPTY: Self = Self { counts: [0; BUCKETS], samples: 0 };
}

impl Peaks {
    pub(crate) const fn new() -> Self {
        Self { recent: Histogram::EMPTY, older: Histogram::EMPTY }
    }

    pub(crate) fn record(&mut self, value: u64) {
        if self.recent.samples == WINDOW {
            self.older = std::mem::replace(&mut self.recent, Histogram::EMPTY);
        }
        self.recent.counts[bucket(value)] += 1; // At most WINDOW.
        self.recent.samples += 1;
    }

    /// The 95th percentile, rounded up to its bucket's end; `None` before any sample.
    pub(crate) fn typical(&self) -> Option<u64> {
        let samples = usize::from(self.recent.samples) + usize::from(self.older.samples);
        let may_be_above = samples / 20;
        let mut seen = 0;
        for at in (0..BUCKETS).rev() {
            seen += usize::from(self.recent.counts[at]) + usize::from(self.older.counts[at]);
            if seen > may_be_above {
                return Some(upper_end(at));
            }
        }
        None
    }
}

/// Where a value is counted. Its three bits below the highest say where in its octave.
fn bucket(value: u64) -> usize {
    let Some(octave) = value.checked_ilog2().and_then(|log| log.checked_sub(STEPS_LOG2)) else {
        return value as usize; // Less than STEPS.
    };
    let step = (value >> octave) as usize - STEPS; // The shifted one is from STEPS to 2 * STEPS - 1.
    STEPS + octave as usize * STEPS + step
}

/// The largest value that is counted there [ESTIMATE-1].
fn upper_end(bucket: usize) -> u64 {
    let Some(above) = bucket.checked_sub(STEPS) else { return bucket as u64 };
    let (octave, step) = (above / STEPS, above % STEPS);
    let first = ((STEPS + step) as u64) << octave;
    first + ((1 << octave) - 1)
}

#[cfg(all(test, not(anteroom_loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::test_runner::FileFailurePersistence;

    /// [ESTIMATE-1]
    #[test]
    fn buckets_touch_and_neither_overlap_nor_end_early() {
        assert_eq!((bucket(0), upper_end(0)), (0, 0));
        for at in 1..BUCKETS {
            let (first, last) = (upper_end(at - 1) + 1, upper_end(at));
            assert_eq!((bucket(first), bucket(last)), (at, at));
            assert!(last - first < first.div_ceil(8), "{at}: an eighth of the smallest in it");
        }
        assert_eq!(upper_end(BUCKETS - 1), u64::MAX);
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn its_own_answer_as_a_sample_changes_nothing() {
        let mut peaks = Peaks::new();
        assert_eq!(peaks.typical(), None);
        peaks.record(1_000_000);
        let first = peaks.typical().unwrap();
        for _ in 0..5_000 {
            peaks.record(peaks.typical().unwrap());
        }
        assert_eq!(peaks.typical(), Some(first));
    }

    #[test]
    fn what_was_long_ago_is_forgotten() {
        let mut peaks = Peaks::new();
        for _ in 0..10_000 {
            peaks.record(1 << 30);
        }
        for _ in 0..2 * WINDOW {
            peaks.record(4_096);
        }
        assert!((4_096..4_608).contains(&peaks.typical().unwrap()));
    }

    #[test]
    fn it_is_two_kib_and_no_more() {
        assert!(size_of::<Peaks>() <= 2_048, "{}", size_of::<Peaks>());
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 64,
            failure_persistence: Some(Box::new(FileFailurePersistence::Off)),
            ..ProptestConfig::default()
        })]

        /// Against the exact quantile of the very samples that count: the full window before, and the one that fills.
        #[test]
        fn the_answer_is_the_quantile_or_less_than_an_eighth_above(
            samples in prop::collection::vec((0_u32..64, any::<u64>()).prop_map(|(shift, bits)| bits >> shift), 1..5_000)
        ) {
            let mut peaks = Peaks::new();
            for (n, &sample) in samples.iter().enumerate() {
                peaks.record(sample);
                if n % 97 == 0 || n + 1 == samples.len() {
                    let full = n / usize::from(WINDOW) * usize::from(WINDOW);
                    let mut counted = samples[full.saturating_sub(usize::from(WINDOW))..=n].to_vec();
                    counted.sort_unstable();
                    let exact = counted[(counted.len() * 95).div_ceil(100) - 1];
                    let typical = peaks.typical().unwrap();
                    prop_assert!(typical >= exact, "{typical} < {exact}");
                    prop_assert!(typical - exact <= exact / 8, "{typical} against {exact}");
                }
            }
        }
    }
}
