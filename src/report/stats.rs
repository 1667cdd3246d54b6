//! Distributions: quantiles with one definition, means, histograms.
//!
//! The quantile q of n values is the value of rank ceil(q * n), counted from 1 in ascending order (nearest rank): always
//! a value that was measured, never one between two. It is given only where at least one value lies above its rank on
//! average, n * (1 - q) >= 1: p99 needs 100 rows, p99.9 a thousand; with fewer it would be the maximum under another
//! name, and is none.
//!
//! Up to [`EXACT_VALUES`] values all are kept and every result is exact. Beyond that they are counted in buckets of 0.05 %
//! width, so that memory stays flat; a quantile is then at most 0.05 % too high. [`Spread::exact`] says which.

use std::collections::BTreeMap;

use serde::Serialize;

/// Values of one kind, in any order.
#[derive(Clone, Debug, Default)]
pub struct Distribution {
    values: Vec<i64>,
    buckets: BTreeMap<i64, u64>,
    count: u64,
    sum: f64,
    min: i64,
    max: i64,
}

/// What there is to say about a distribution, in the unit of its values.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Spread {
    /// Number of values: the rows that the rest is taken over.
    pub rows: u64,
    /// Arithmetic mean.
    pub mean: Option<f64>,
    /// Smallest.
    pub min: Option<i64>,
    /// Quantile 0.5.
    pub p50: Option<i64>,
    /// Quantile 0.9.
    pub p90: Option<i64>,
    /// Quantile 0.95.
    pub p95: Option<i64>,
    /// Quantile 0.99.
    pub p99: Option<i64>,
    /// Quantile 0.999.
    pub p999: Option<i64>,
    /// Largest.
    pub max: Option<i64>,
    /// Whether the quantiles are exact, not within 0.05 %.
    pub exact: bool,
}

/// A quantile, in thousandths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PerMille(pub u64);

/// Values that are kept as they are.
pub const EXACT_VALUES: usize = 1 << 18;

/// Buckets per doubling, as a power of two: 2^-11 is 0.05 %.
const BUCKET_BITS: u32 = 11;

// === impl Distribution ===

impl Distribution {
    /// Takes a value in.
    pub fn push(&mut self, value: i64) {
        self.min = if self.count == 0 { value } else { self.min.min(value) };
        self.max = if self.count == 0 { value } else { self.max.max(value) };
        self.count += 1;
        self.sum += to_f64(value);
        if self.buckets.is_empty() && self.values.len() < EXACT_VALUES {
            self.values.push(value);
            return;
        }
        for value in self.values.drain(..).chain([value]) {
            *self.buckets.entry(bucket_top(value)).or_default() += 1;
        }
    }

    /// Returns the number of values.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Returns the quantile by nearest rank; none with too few values.
    #[must_use]
    pub fn quantile(&mut self, q: PerMille) -> Option<i64> {
        if self.count.saturating_mul(1_000_u64.saturating_sub(q.0)) < 1_000 {
            return None;
        }
        let rank = (self.count * q.0).div_ceil(1_000).max(1);
        if self.buckets.is_empty() {
            self.values.sort_unstable();
            return self.values.get(usize::try_from(rank - 1).ok()?).copied();
        }
        let mut seen = 0;
        for (top, count) in &self.buckets {
            seen += count;
            if seen >= rank {
                return Some(*top.min(&self.max));
            }
        }
        None
    }

    /// Returns the sum of all values.
    #[must_use]
    pub const fn sum(&self) -> f64 {
        self.sum
    }

    /// Returns its summary.
    #[must_use]
    pub fn spread(&mut self) -> Spread {
        let some = self.count > 0;
        Spread {
            rows: self.count,
            mean: some.then(|| self.sum / to_f64(self.count.cast_signed())),
            min: some.then_some(self.min),
            p50: self.quantile(PerMille(500)),
            p90: self.quantile(PerMille(900)),
            p95: self.quantile(PerMille(950)),
            p99: self.quantile(PerMille(990)),
            p999: self.quantile(PerMille(999)),
            max: some.then_some(self.max),
            exact: self.buckets.is_empty(),
        }
    }

    /// Counts the values between each two neighbors of `edges`, which ascend: the lower edge belongs to the bin.
    #[must_use]
    pub fn histogram(&self, edges: &[f64]) -> Vec<u64> {
        let mut bins = vec![0; edges.len().saturating_sub(1)];
        let exact = self.values.iter().map(|value| (*value, 1));
        let counted = self.buckets.iter().map(|(value, count)| (*value, *count));
        for (value, count) in exact.chain(counted) {
            let after = edges.partition_point(|edge| *edge <= to_f64(value));
            if let Some(bin) = after.checked_sub(1).and_then(|bin| bins.get_mut(bin)) {
                *bin += count;
            }
        }
        bins
    }
}

/// Returns the largest value that falls into the same bucket.
fn bucket_top(value: i64) -> i64 {
    let size = value.unsigned_abs();
    let drop_bits = (64 - size.leading_zeros()).saturating_sub(BUCKET_BITS + 1);
    let low = size >> drop_bits << drop_bits;
    let high = low.saturating_add((1 << drop_bits) - 1);
    let top = |size: u64| i64::try_from(size).unwrap_or(i64::MAX);
    if value < 0 { -top(low) } else { top(high) }
}

#[expect(clippy::cast_precision_loss, reason = "for means and axes: 53 bits are plenty")]
fn to_f64(value: i64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: impl IntoIterator<Item = i64>) -> Distribution {
        let mut distribution = Distribution::default();
        values.into_iter().for_each(|value| distribution.push(value));
        distribution
    }

    fn check(values: impl IntoIterator<Item = i64>, q: u64, expected: Option<i64>) {
        let mut distribution = of(values);
        let count = distribution.count();
        assert_eq!(distribution.quantile(PerMille(q)), expected, "quantile {q} of {count}");
    }

    /// By hand: rank ceil(q n), from 1.
    #[test]
    fn quantiles_are_nearest_ranks() {
        check([], 500, None);
        check([7], 500, None);
        check([7, 9], 500, Some(7));
        check([9, 7, 8], 500, Some(8));
        check([15, 20, 35, 40, 50], 400, Some(20));
        check([15, 20, 35, 40, 50], 500, Some(35));
        check([15, 20, 35, 40, 50], 300, Some(20));
        check(1..=10, 900, Some(9));
        check(1..=9, 900, None);
        check(1..=19, 950, None);
        check(1..=20, 950, Some(19));
        check(1..=99, 990, None);
        check(1..=100, 990, Some(99));
        check(1..=101, 990, Some(100));
        check(1..=1000, 999, Some(999));
        check([-5, -1, 0, 3], 250, Some(-5));
        check([-5, -1, 0, 3], 750, Some(0));
    }

    #[test]
    fn a_spread_says_over_how_many_rows() {
        let spread = of([4, 1, 7]).spread();
        assert_eq!(
            (spread.rows, spread.mean, spread.min, spread.max),
            (3, Some(4.0), Some(1), Some(7))
        );
        assert_eq!((spread.p50, spread.p90, spread.exact), (Some(4), None, true));
        assert_eq!(of([]).spread(), Spread { exact: true, ..Spread::default() });
    }

    #[test]
    fn large_ones_are_close_and_say_so() {
        let n = i64::try_from(EXACT_VALUES).unwrap() * 3 / 2;
        let mut distribution = of((1..=n).map(|value| value * 1_000));
        let spread = distribution.spread();
        assert!(!spread.exact);
        assert_eq!(
            (spread.rows, spread.min, spread.max),
            (n.cast_unsigned(), Some(1_000), Some(n * 1_000))
        );
        for (q, found) in [(500, spread.p50), (900, spread.p90), (999, spread.p999)] {
            let exact = (n * q).div_euclid(1_000) * 1_000;
            let error = to_f64(found.unwrap() - exact) / to_f64(exact);
            assert!((0.0..0.0005).contains(&error), "quantile {q}: {error}");
        }
        assert!(distribution.buckets.len() < 64 << BUCKET_BITS);
        assert_eq!(distribution.histogram(&[0.0, 1e18]), [n.cast_unsigned()]);
    }

    #[test]
    fn buckets_hold_their_values() {
        for value in [0, 1, 2_047, 4_095, 4_096, 4_097, 1 << 40, i64::MAX, -1, -4_097, -i64::MAX] {
            let top = bucket_top(value);
            assert!(top >= value && bucket_top(top) == top, "{value} {top}");
            assert!(to_f64(top - value) <= to_f64(value).abs() / 2_048.0, "{value} {top}");
        }
    }

    #[test]
    fn bins_hold_their_lower_edge() {
        let distribution = of([0, 1, 1, 2, 5, 9]);
        assert_eq!(distribution.histogram(&[0.0, 1.0, 2.0, 6.0]), [1, 2, 2]);
        assert_eq!(distribution.histogram(&[]), Vec::<u64>::new());
    }
}
