//! Due times, one after the other, of every timing that a plan can have.

use crate::replay::arrival::{Arrival, Gaps};
use crate::replay::plan::Timing;
use crate::replay::stages;

/// Where the next due time comes from. Mean gaps in nanoseconds.
pub(super) enum Dues {
    Constant { mean: f64, sent: u64 },
    Lead,
    Random { gaps: Box<Gaps>, mean: f64, at: Option<f64> },
    Recorded { speed: f64 },
    Stages(Box<stages::Dues>),
}

// === impl Dues ===

impl Dues {
    pub(super) fn new(timing: &Timing) -> Self {
        match *timing {
            Timing::Reactive => Self::Lead,
            Timing::Recorded { speed } => Self::Recorded { speed },
            Timing::Rate { rate, arrival: Arrival::Constant, .. } => {
                Self::Constant { mean: 1e9 / rate, sent: 0 }
            }
            Timing::Rate { rate, arrival, seed } => Self::Random {
                gaps: Box::new(Gaps::new(arrival, seed)),
                mean: 1e9 / rate,
                at: None,
            },
            Timing::Stages { ref stages, seed } => Self::Stages(Box::new(stages.dues(seed))),
        }
    }

    /// Returns when the next release is due, since the first, and its stage; `recorded` is its recorded time since the first.
    /// None when the stages are over.
    #[expect(
        clippy::cast_precision_loss,
        reason = "2^53 ns are 104 days; above, it is a microsecond off"
    )]
    pub(super) fn next(&mut self, recorded: u64) -> Option<(u64, Option<u32>)> {
        let due = match self {
            Self::Lead => 0,
            Self::Recorded { speed } => scale(recorded, *speed),
            Self::Constant { mean, sent } => {
                *sent += 1;
                to_ns((*sent - 1) as f64 * *mean)
            }
            Self::Random { gaps, mean, at } => {
                let due = at.map_or(0.0, |at| at + gaps.draw() * *mean);
                *at = Some(due);
                to_ns(due)
            }
            Self::Stages(dues) => return dues.next().map(|(due, stage)| (due.0, Some(stage))),
        };
        Some((due, None))
    }
}

/// Divides a recorded time by the speed: exact at speed 1, else to the nearest nanosecond that a double holds.
#[expect(clippy::cast_precision_loss, reason = "2^53 ns are 104 days")]
pub(in crate::replay) fn scale(ns: u64, speed: f64) -> u64 {
    if speed.to_bits() == 1.0_f64.to_bits() { ns } else { to_ns(ns as f64 / speed) }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "never negative, and `as` saturates"
)]
fn to_ns(ns: f64) -> u64 {
    ns.round() as u64
}
