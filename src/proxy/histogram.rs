//! Durations by size.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::Nanos;

/// Counts durations by size; shared by reference.
#[derive(Debug, Default)]
pub(super) struct Histogram {
    counts: [AtomicU64; BOUNDS_US.len() + 1],
    sum_ns: AtomicU64,
}

/// What a histogram has counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Latencies {
    /// How many were at most as long as each of [`BOUNDS_US`] and longer than the one before; the last: than all.
    pub counts: [u64; BOUNDS_US.len() + 1],
    /// Their sum, in nanoseconds.
    pub sum_ns: u64,
}

/// Upper bounds, in microseconds: from what a proxy adds to what a bad disk takes.
pub const BOUNDS_US: [u64; 18] = [
    10, 25, 50, 75, 100, 150, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000,
    250_000, 1_000_000, 10_000_000,
];

// === impl Histogram ===

impl Histogram {
    /// Counts a duration.
    pub(super) fn record(&self, duration: Duration) {
        let ns = Nanos::from(duration).0;
        let bucket = BOUNDS_US.partition_point(|bound| bound * 1_000 < ns);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_ns.fetch_add(ns, Ordering::Relaxed);
    }

    /// Returns what was counted so far.
    pub(super) fn latencies(&self) -> Latencies {
        let mut latencies = Latencies::default();
        for (sum, count) in latencies.counts.iter_mut().zip(&self.counts) {
            *sum = count.load(Ordering::Relaxed);
        }
        latencies.sum_ns = self.sum_ns.load(Ordering::Relaxed);
        latencies
    }
}

// === impl Latencies ===

impl Latencies {
    pub(super) fn add(&mut self, other: &Self) {
        for (sum, count) in self.counts.iter_mut().zip(other.counts) {
            *sum += count;
        }
        self.sum_ns += other.sum_ns;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_at_a_bound_is_within_it() {
        let histogram = Histogram::default();
        for us in [0, 10, 11, 10_000_000, 10_000_001] {
            histogram.record(Duration::from_micros(us));
        }
        let mut counted = histogram.latencies();
        let last = BOUNDS_US.len();
        assert_eq!((counted.counts[0], counted.counts[1]), (2, 1));
        assert_eq!((counted.counts[last - 1], counted.counts[last]), (1, 1));
        assert_eq!(counted.sum_ns, 20_000_022_000);
        assert!(BOUNDS_US.is_sorted());
        counted.add(&histogram.latencies());
        assert_eq!((counted.counts[0], counted.sum_ns), (4, 40_000_044_000));
    }
}
