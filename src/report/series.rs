//! Lines over time with flat memory: bins that widen as a run goes on, and points that thin out.

use serde::Serialize;

/// What a bin holds: can take another in, for when bins are joined.
pub trait Bin: Clone + Default {
    /// Takes in a bin that follows.
    fn join(&mut self, next: &Self);
}

/// Values over time, in at most [`MOST_BINS`] bins of equal width.
#[derive(Clone, Debug, Serialize)]
pub struct Series<B> {
    /// Width of a bin, nanoseconds.
    pub width_ns: i64,
    /// The bins, from time zero on.
    pub bins: Vec<B>,
}

/// Mean and maximum of the readings in a bin.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Level {
    /// Readings.
    pub count: u64,
    /// Their sum.
    pub sum: f64,
    /// The largest.
    pub max: f64,
}

/// At most `cap` points of a sequence, evenly taken: every first, then every second, every fourth..
#[derive(Clone, Debug)]
pub struct Thinned<T> {
    points: Vec<T>,
    stride: u64,
    seen: u64,
    cap: usize,
}

/// Most bins of a series; a chart shows no more.
pub(super) const MOST_BINS: usize = 600;

/// Width of the bins at first.
const FIRST_WIDTH_NS: i64 = 100_000_000;

// === impl Series ===

impl<B: Bin> Default for Series<B> {
    fn default() -> Self {
        Self { width_ns: FIRST_WIDTH_NS, bins: Vec::new() }
    }
}

impl<B: Bin> Series<B> {
    /// Returns the bin of a time; one before time zero counts as zero.
    pub fn at(&mut self, at_ns: i64) -> &mut B {
        let at_ns = at_ns.max(0);
        let limit = i64::try_from(MOST_BINS).unwrap_or(i64::MAX);
        while at_ns / self.width_ns >= limit {
            self.widen();
        }
        let bin = usize::try_from(at_ns / self.width_ns).unwrap_or(0);
        if bin >= self.bins.len() {
            self.bins.resize(bin + 1, B::default());
        }
        &mut self.bins[bin]
    }

    /// Hands each bin that `from_ns..until_ns` touches to `add`, with the nanoseconds of it that are inside.
    pub fn over(&mut self, from_ns: i64, until_ns: i64, mut add: impl FnMut(&mut B, i64)) {
        let (mut from_ns, until_ns) = (from_ns.max(0), until_ns.max(0));
        if from_ns < until_ns {
            // Widen for the end first: widening in the middle would move the bins.
            self.at(until_ns - 1);
        }
        while from_ns < until_ns {
            let next = (from_ns / self.width_ns + 1) * self.width_ns;
            let inside = next.min(until_ns) - from_ns;
            add(self.at(from_ns), inside);
            from_ns += inside;
        }
    }

    /// Returns the time of each bin's middle in seconds, with the bin.
    #[expect(clippy::cast_precision_loss, reason = "an axis")]
    pub fn points(&self) -> impl Iterator<Item = (f64, &B)> {
        let width = self.width_ns as f64 / 1e9;
        self.bins.iter().enumerate().map(move |(bin, value)| ((bin as f64 + 0.5) * width, value))
    }

    /// Returns the width of a bin in seconds.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "an axis")]
    pub fn width_s(&self) -> f64 {
        self.width_ns as f64 / 1e9
    }

    /// Returns the same with at most `most` bins.
    #[must_use]
    pub fn coarser(&self, most: usize) -> Self {
        let mut coarser = self.clone();
        while coarser.bins.len() > most.max(1) {
            coarser.widen();
        }
        coarser
    }

    fn widen(&mut self) {
        self.width_ns = self.width_ns.saturating_mul(2);
        self.bins = self
            .bins
            .chunks(2)
            .map(|pair| {
                let mut joined = pair[0].clone();
                if let Some(next) = pair.get(1) {
                    joined.join(next);
                }
                joined
            })
            .collect();
    }
}

// === impl Level ===

impl Level {
    /// Takes a reading in.
    pub fn push(&mut self, value: f64) {
        self.max = if self.count == 0 { value } else { self.max.max(value) };
        self.count += 1;
        self.sum += value;
    }

    /// Takes a reading in, where there is one.
    pub fn extend(&mut self, value: Option<f64>) {
        value.into_iter().for_each(|value| self.push(value));
    }

    /// Returns the mean; none without a reading.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a mean")]
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }
}

impl Bin for Level {
    fn join(&mut self, next: &Self) {
        if next.count > 0 {
            self.max = if self.count == 0 { next.max } else { self.max.max(next.max) };
        }
        self.count += next.count;
        self.sum += next.sum;
    }
}

// === impl Thinned ===

impl<T> Thinned<T> {
    /// Keeps at most `cap` points, at least 2.
    #[must_use]
    pub fn new(cap: usize) -> Self {
        Self { points: Vec::new(), stride: 1, seen: 0, cap: cap.max(2) }
    }

    /// Offers a point.
    pub fn push(&mut self, point: T) {
        if self.seen.is_multiple_of(self.stride) {
            if self.points.len() == self.cap {
                let mut kept = false;
                self.points.retain(|_| {
                    kept = !kept;
                    kept
                });
                self.stride *= 2;
            }
            if self.seen.is_multiple_of(self.stride) {
                self.points.push(point);
            }
        }
        self.seen += 1;
    }

    /// Returns the points that are kept.
    #[must_use]
    pub fn points(&self) -> &[T] {
        &self.points
    }

    /// Returns of how many points one is kept.
    #[must_use]
    pub const fn stride(&self) -> u64 {
        self.stride
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: i64 = 1_000_000;

    #[test]
    fn bins_widen_and_keep_their_sums() {
        let mut series = Series::<Level>::default();
        for second in 0..3_600 {
            series.at(second * 1_000 * MS).push(1.0);
        }
        assert!(series.bins.len() <= MOST_BINS);
        assert_eq!(series.bins.iter().map(|bin| bin.count).sum::<u64>(), 3_600);
        assert_eq!(series.width_ns, 6_400 * MS);
        assert_eq!(series.bins[0].count, 7);
    }

    #[test]
    fn a_span_is_shared_among_its_bins() {
        let mut series = Series::<Level>::default();
        series.over(50 * MS, 320 * MS, |bin, inside| bin.push(inside as f64 / MS as f64));
        let sums: Vec<f64> = series.bins.iter().map(|bin| bin.sum).collect();
        assert_eq!(sums, [50.0, 100.0, 100.0, 20.0]);
        let mut long = Series::<Level>::default();
        long.over(0, 1_000_000 * MS, |bin, inside| bin.push(inside as f64));
        assert!((long.bins.iter().map(|bin| bin.sum).sum::<f64>() - 1e12).abs() < 1.0);
        long.over(5, 5, |_, _| panic!("nothing is inside"));
    }

    #[test]
    fn points_thin_out_evenly() {
        let mut points = Thinned::new(4);
        (0..20).for_each(|point| points.push(point));
        assert_eq!((points.points(), points.stride()), (&[0, 8, 16][..], 8));
        let mut few = Thinned::new(4);
        (0..4).for_each(|point| few.push(point));
        assert_eq!(few.points(), [0, 1, 2, 3]);
    }
}
