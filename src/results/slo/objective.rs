//! Objectives as data: what is bounded, how it is taken together, where the bound is.

use std::collections::BTreeMap;
use std::fmt;

use crate::results::rows::Measurement;

/// One objective, or a bound on each request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Slo {
    /// A bound on each request.
    Each {
        /// Of this.
        metric: Metric,
        /// The bound.
        limit: Limit<i64>,
    },
    /// A bound on all requests taken together.
    All {
        /// Of this.
        metric: Metric,
        /// How they are taken together.
        statistic: Statistic,
        /// The bound.
        limit: Limit<i64>,
    },
    /// A bound on the share of requests that fail.
    Errors {
        /// The bound, of 1.
        limit: Limit<f64>,
    },
    /// How large a share of the requests has to keep the bounds.
    Goodput {
        /// The least, of 1; itself not enough when `inclusive` is not set.
        limit: Limit<f64>,
    },
}

/// What is measured of a request, nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Metric {
    /// `ttft_ns`
    Ttft,
    /// `ttft_due_ns`
    TtftDue,
    /// `tpot_ns`
    Tpot,
    /// `itl_mean_ns`
    Itl,
    /// `e2e_ns`
    E2e,
    /// `e2e_due_ns`
    E2eDue,
}

/// How values are taken together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statistic {
    /// The value that so many of a million do not exceed, by nearest rank.
    Quantile(u64),
    /// The arithmetic mean.
    Mean,
    /// The largest.
    Max,
}

/// A bound.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limit<T> {
    /// Where it is: nanoseconds, or a share of 1.
    pub at: T,
    /// Whether the bound itself still holds (`<=`).
    pub inclusive: bool,
}

/// What a run has to keep: at least one objective.
#[derive(Clone, Debug, PartialEq)]
pub struct Slos(Vec<Slo>);

/// Parts of a quantile.
const MILLION: u64 = 1_000_000;

// === impl Slos ===

impl Slos {
    /// Takes these together.
    ///
    /// # Errors
    /// None of them asks anything of a run, or goodput is asked for without a bound.
    pub fn new(slos: Vec<Slo>) -> Result<Self, String> {
        let is_bound = |slo: &Slo| matches!(slo, Slo::Each { .. } | Slo::All { .. });
        if slos.iter().all(|slo| matches!(slo, Slo::Each { .. })) {
            return Err("an SLO needs an objective beside bounds for each request: a percentile (ttft:p99<500ms), \
                        errors<1% or goodput>95%"
                .to_owned());
        }
        let wants_goodput = slos.iter().any(|slo| matches!(slo, Slo::Goodput { .. }));
        if wants_goodput && !slos.iter().any(is_bound) {
            return Err("goodput needs a bound that each request has to keep, such as ttft<500ms"
                .to_owned());
        }
        Ok(Self(slos))
    }

    /// Returns them in order.
    #[must_use]
    pub fn list(&self) -> &[Slo] {
        &self.0
    }

    /// Returns the same with one more.
    #[must_use]
    pub fn with(mut self, slo: Slo) -> Self {
        self.0.push(slo);
        self
    }

    /// Returns the bound of each metric that a single request has to keep: the loosest of those named.
    pub(super) fn bounds(&self) -> BTreeMap<Metric, Limit<i64>> {
        let mut bounds: BTreeMap<Metric, Limit<i64>> = BTreeMap::new();
        for slo in &self.0 {
            if let Slo::Each { metric, limit } | Slo::All { metric, limit, .. } = slo {
                let loosest = bounds.entry(*metric).or_insert(*limit);
                if (limit.at, limit.inclusive) > (loosest.at, loosest.inclusive) {
                    *loosest = *limit;
                }
            }
        }
        bounds
    }
}

impl fmt::Display for Slos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, slo) in self.0.iter().enumerate() {
            write!(f, "{}{slo}", if place > 0 { "," } else { "" })?;
        }
        Ok(())
    }
}

// === impl Metric ===

impl Metric {
    pub(super) const ALL: [Self; 6] =
        [Self::Ttft, Self::TtftDue, Self::Tpot, Self::Itl, Self::E2e, Self::E2eDue];

    /// Returns its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ttft => "ttft",
            Self::TtftDue => "ttft_due",
            Self::Tpot => "tpot",
            Self::Itl => "itl",
            Self::E2e => "e2e",
            Self::E2eDue => "e2e_due",
        }
    }

    /// Returns its value in a row, nanoseconds; none where the row has no such thing: before its end, a response that is no
    /// stream has neither a first token nor gaps.
    pub(super) fn of(self, row: &Measurement) -> Option<i64> {
        let streamed = row.stream == Some(true);
        match self {
            Self::Ttft => row.ttft_ns.filter(|_| streamed),
            Self::TtftDue => row.ttft_due_ns.filter(|_| streamed),
            Self::Tpot => row.tpot_ns.filter(|_| streamed),
            Self::Itl => row.itl_mean_ns.filter(|_| streamed),
            Self::E2e => row.e2e_ns,
            Self::E2eDue => row.e2e_due_ns,
        }
    }

    /// Returns which rows have it.
    pub(super) const fn over(self) -> &'static str {
        match self {
            Self::Ttft | Self::TtftDue => "complete streams without error",
            Self::Tpot => "complete streams without error, of two tokens and more",
            Self::Itl => "complete streams without error, of two frames with content and more",
            Self::E2e | Self::E2eDue => "complete requests without error",
        }
    }
}

// === impl Limit ===

impl<T: PartialOrd> Limit<T> {
    /// Returns whether a value is below the limit.
    pub(super) fn holds_below(&self, value: &T) -> bool {
        *value < self.at || (self.inclusive && *value == self.at)
    }

    /// Returns whether a value is above the limit.
    pub(super) fn holds_above(&self, value: &T) -> bool {
        *value > self.at || (self.inclusive && *value == self.at)
    }
}

// === impl Statistic ===

impl Statistic {
    /// Takes values together; none without values.
    pub(super) fn of(self, values: &[i64]) -> Option<i64> {
        let count = i128::try_from(values.len()).ok().filter(|count| *count > 0)?;
        match self {
            Self::Mean => {
                let sum: i128 = values.iter().map(|value| i128::from(*value)).sum();
                i64::try_from(sum / count).ok()
            }
            Self::Max => values.iter().copied().max(),
            Self::Quantile(ppm) => {
                let rank = rank(values.len() as u64, ppm);
                let mut values = values.to_vec();
                let place = usize::try_from(rank - 1).ok()?;
                Some(*values.select_nth_unstable(place).1)
            }
        }
    }

    /// Returns how many of `count` values may be beyond a bound that it keeps; none where that does not follow.
    pub(super) fn may_exceed(self, count: u64) -> Option<u64> {
        match self {
            Self::Mean => None,
            Self::Max => Some(0),
            Self::Quantile(ppm) => Some(count - rank(count, ppm)),
        }
    }
}

/// Returns the rank of a quantile among `count` values, from 1.
fn rank(count: u64, ppm: u64) -> u64 {
    let rank = (u128::from(count) * u128::from(ppm)).div_ceil(u128::from(MILLION));
    u64::try_from(rank).unwrap_or(count).clamp(1, count.max(1)).min(count)
}
