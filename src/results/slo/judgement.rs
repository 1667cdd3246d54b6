//! What came of the objectives, as a manifest keeps it.

use serde::{Deserialize, Serialize};

/// What came of the objectives of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Judgement {
    /// Each objective, in the order in which they were given.
    pub objectives: Vec<Judged>,
    /// Goodput; none without a bound on a metric.
    pub goodput: Option<Goodput>,
    /// Why the run was ended before its plan was done: the objective that could not be kept any more.
    pub lost: Option<String>,
}

/// One objective, judged.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Judged {
    /// The objective.
    pub objective: String,
    /// Whether it was kept. Without a single row it was not.
    pub met: bool,
    /// Rows that it was taken over.
    pub rows: u64,
    /// Which rows these are.
    pub over: String,
    /// What was measured, where it is a time.
    pub value_ns: Option<i64>,
    /// What was measured, where it is a share of 1.
    pub value_share: Option<f64>,
}

/// How many requests kept every bound.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Goodput {
    /// The bounds that each request had to keep.
    pub bounds: Vec<String>,
    /// Requests that count.
    pub requests: u64,
    /// Of these, good.
    pub good: u64,
    /// Their share, of 1; none without requests.
    pub share: Option<f64>,
    /// Good requests per second, from the first sent request to the last end.
    pub per_s: Option<f64>,
}

// === impl Judgement ===

impl Judgement {
    /// Returns whether every objective was kept.
    #[must_use]
    pub fn met(&self) -> bool {
        self.lost.is_none() && self.objectives.iter().all(|judged| judged.met)
    }
}
