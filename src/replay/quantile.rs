//! Quantiles in flat memory, for the summary and the verdict: a histogram whose buckets grow with the value.
//!
//! The report takes exact quantiles from the rows. Here a value is known to within a thousandth, whatever their
//! number; the largest is exact.

use crate::results::manifest::Quantiles;

/// Counts of values by size.
#[derive(Clone, Debug, Default)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
    max: u64,
}

/// Buckets in each doubling: the resolution is 1/1024, a tenth of a percent.
const STEPS: u64 = 1 << STEP_BITS;
const STEP_BITS: u32 = 10;

// === impl Histogram ===

impl Histogram {
    /// Counts a value.
    pub fn add(&mut self, value: u64) {
        let bucket = bucket(value);
        if bucket >= self.counts.len() {
            self.counts.resize(bucket + 1, 0);
        }
        self.counts[bucket] += 1;
        self.total += 1;
        self.max = self.max.max(value);
    }

    /// Returns how many values were counted.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.total
    }

    /// Returns whether none was counted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.total == 0
    }

    /// Returns the largest value; none without values.
    #[must_use]
    pub fn max(&self) -> Option<u64> {
        (self.total > 0).then_some(self.max)
    }

    /// Returns its quantiles, of nanoseconds, for the manifest.
    #[must_use]
    pub fn quantiles(&self) -> Quantiles {
        let at = |q| self.quantile(q).map_or(0, |ns| i64::try_from(ns).unwrap_or(i64::MAX));
        Quantiles { p50_ns: at(0.5), p90_ns: at(0.9), p99_ns: at(0.99), max_ns: at(1.0) }
    }

    /// Returns the quantile `q` (0 to 1) by nearest rank: the smallest value that at least `q` of all do not exceed,
    /// rounded up within its bucket. None without values.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a rank between 1 and the total"
    )]
    pub fn quantile(&self, q: f64) -> Option<u64> {
        if self.total == 0 {
            return None;
        }
        let rank = ((q * self.total as f64).ceil() as u64).clamp(1, self.total);
        let mut seen = 0;
        let at = self.counts.iter().position(|count| {
            seen += count;
            seen >= rank
        })?;
        Some(upper(at).min(self.max))
    }
}

/// Returns the bucket of a value: exact below twice [`STEPS`], then [`STEPS`] buckets in each doubling.
fn bucket(value: u64) -> usize {
    let shift = (u64::BITS - value.leading_zeros()).saturating_sub(STEP_BITS + 1);
    let bucket = u64::from(shift) * STEPS + (value >> shift);
    usize::try_from(bucket).unwrap_or(usize::MAX)
}

/// Returns the largest value of a bucket.
fn upper(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < 2 * STEPS {
        return bucket;
    }
    let shift = bucket / STEPS - 1;
    let low = (bucket - shift * STEPS) << shift;
    low + ((1_u64 << shift) - 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn small_values_are_exact_and_ranks_are_the_nearest() {
        let mut histogram = Histogram::default();
        assert_eq!(
            (histogram.quantile(0.5), histogram.max(), histogram.is_empty()),
            (None, None, true)
        );
        for value in [10, 20, 30, 40] {
            histogram.add(value);
        }
        for (q, value) in
            [(0.0, 10), (0.25, 10), (0.26, 20), (0.5, 20), (0.75, 30), (0.99, 40), (1.0, 40)]
        {
            assert_eq!(histogram.quantile(q), Some(value), "{q}");
        }
        assert_eq!(histogram.len(), 4);
    }

    proptest! {
        #[test]
        fn a_bucket_holds_its_value_within_a_thousandth(value in any::<u64>(), shift in 0_u32..64) {
            let value = value >> shift;
            let up = upper(bucket(value));
            prop_assert!(value <= up);
            prop_assert!(up - value <= value / STEPS);
            prop_assert!(up == u64::MAX || bucket(up + 1) == bucket(value) + 1);
        }
    }
}
