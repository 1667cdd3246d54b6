//! Stages: a load that changes by plan, step by step, each step at a rate or with so many in flight.
//!
//! Steps at a rate are an open loop, their due times fixed before the run; steps with so many in flight are reactive
//! ([`crate::replay::load::Steps`]). Stages of both kinds may follow each other.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Nanos;
use crate::replay::arrival::{Arrival, Gaps};

/// One stage after another, at least one. Clones share them.
#[derive(Clone, Debug, PartialEq)]
pub struct Stages(Arc<[Stage]>);

/// One stage.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stage {
    /// What it releases.
    pub step: Step,
    /// How long it lasts.
    pub duration: Duration,
}

/// What a stage releases.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Step {
    /// As many as keep so many in flight.
    Concurrency(u32),
    /// So many a second.
    Rate {
        /// Releases per second.
        rate: f64,
        /// How they are spread.
        arrival: Arrival,
    },
}

/// Why stages are no use.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum StagesError {
    /// There is none.
    #[error("there is no stage: write one or more [[stage]] tables")]
    Empty,
    /// A stage that lasts no time, or for ever.
    #[error("stage {0} needs a duration above 0 and below ten years")]
    Duration(usize),
    /// A stage that sends nothing.
    #[error(
        "stage {0} would send nothing: say a concurrency of at least 1, or a finite rate above 0"
    )]
    Nothing(usize),
}

/// Due times of the steps at a rate, since the beginning, each with its stage.
pub struct Dues {
    stages: Stages,
    seed: u64,
    current: usize,
    /// When the current stage begins, nanoseconds.
    start: f64,
    /// The process of the current stage, and when its next release is due, nanoseconds since the stage's start.
    process: Option<(Gaps, f64)>,
}

/// The longest stage: ten years.
const MOST: Duration = Duration::from_secs(3_650 * 86_400);

// === impl Stages ===

impl Stages {
    /// Makes stages.
    ///
    /// # Errors
    /// One of them is no use. Stages are counted from 1 there.
    pub fn new(stages: Vec<Stage>) -> Result<Self, StagesError> {
        if stages.is_empty() {
            return Err(StagesError::Empty);
        }
        for (number, stage) in (1..).zip(&stages) {
            if stage.duration.is_zero() || stage.duration > MOST {
                return Err(StagesError::Duration(number));
            }
            let sends = match stage.step {
                Step::Concurrency(n) => n > 0,
                Step::Rate { rate, .. } => rate.is_finite() && rate > 0.0,
            };
            if !sends {
                return Err(StagesError::Nothing(number));
            }
        }
        Ok(Self(stages.into()))
    }

    /// Returns whether all due times are known before the run.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.peak() == 0
    }

    /// Returns how long they last.
    #[must_use]
    pub fn total(&self) -> Duration {
        self.0.iter().map(|stage| stage.duration).fold(Duration::ZERO, Duration::saturating_add)
    }

    /// Returns the most requests that a stage keeps in flight; 0 when all are at a rate.
    #[must_use]
    pub fn peak(&self) -> u32 {
        (0..self.0.len()).map(|stage| self.concurrency(stage)).max().unwrap_or(0)
    }

    /// Returns how many requests a stage keeps in flight; 0 at a rate.
    #[must_use]
    pub fn concurrency(&self, stage: usize) -> u32 {
        match self.0.get(stage).map(|stage| stage.step) {
            Some(Step::Concurrency(n)) => n,
            Some(Step::Rate { .. }) | None => 0,
        }
    }

    /// Returns when each stage begins, when the first does at `at`, and when the last ends.
    #[must_use]
    pub fn starts(&self, at: Nanos) -> Vec<Nanos> {
        let mut next = at;
        let mut starts = vec![at];
        for stage in self.0.iter() {
            next += stage.duration;
            starts.push(next);
        }
        starts
    }

    /// Returns the due times of the steps at a rate. Each stage has a process of its own, whose first release is due when the
    /// stage begins; stage n is seeded with `seed` + n.
    #[must_use]
    pub fn dues(&self, seed: u64) -> Dues {
        Dues { stages: self.clone(), seed, current: 0, start: 0.0, process: None }
    }
}

impl fmt::Display for Stages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, stage) in self.0.iter().enumerate() {
            let comma = if number > 0 { ", " } else { "" };
            let seconds = stage.duration.as_secs_f64();
            match stage.step {
                Step::Concurrency(n) => write!(f, "{comma}concurrency {n} for {seconds} s")?,
                Step::Rate { rate, arrival } => {
                    write!(f, "{comma}rate {rate} {arrival} for {seconds} s")?;
                }
            }
        }
        Ok(())
    }
}

// === impl Dues ===

impl Iterator for Dues {
    type Item = (Nanos, u32);

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "never negative, and `as` saturates"
    )]
    fn next(&mut self) -> Option<(Nanos, u32)> {
        loop {
            let stage = self.stages.0.get(self.current)?;
            let length = stage.duration.as_secs_f64() * 1e9;
            if let Step::Rate { rate, arrival } = stage.step {
                let seed = self.seed.wrapping_add(self.current as u64);
                let (gaps, at) =
                    self.process.get_or_insert_with(|| (Gaps::new(arrival, seed), 0.0));
                let due = *at;
                *at += gaps.draw() * 1e9 / rate;
                if due < length {
                    let stage = u32::try_from(self.current).unwrap_or(u32::MAX);
                    return Some((Nanos((self.start + due).round() as u64), stage));
                }
            }
            self.start += length;
            self.current += 1;
            self.process = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(rate: f64, arrival: &str, ms: u64) -> Stage {
        let arrival = arrival.parse().unwrap();
        Stage { step: Step::Rate { rate, arrival }, duration: Duration::from_millis(ms) }
    }

    fn concurrency(n: u32, ms: u64) -> Stage {
        Stage { step: Step::Concurrency(n), duration: Duration::from_millis(ms) }
    }

    /// Checks the due times, as `stage@due` with the due times in milliseconds.
    fn check(stages: Vec<Stage>, expected: &str) {
        let stages = Stages::new(stages).unwrap();
        let dues = stages.dues(1).map(|(due, stage)| format!("{stage}@{}", due.0 as f64 / 1e6));
        assert_eq!(dues.collect::<Vec<_>>().join(" "), expected);
    }

    #[test]
    fn each_stage_has_its_rate_from_its_beginning_to_its_end() {
        check(vec![rate(100.0, "constant", 30)], "0@0 0@10 0@20");
        check(
            vec![rate(100.0, "constant", 25), rate(1000.0, "constant", 2)],
            "0@0 0@10 0@20 1@25 1@26",
        );
        check(
            vec![rate(50.0, "constant", 30), concurrency(4, 500), rate(100.0, "constant", 15)],
            "0@0 0@20 2@530 2@540",
        );
        check(vec![concurrency(4, 500)], "");
        let random = |seed| {
            let stages = vec![rate(100.0, "poisson", 100), rate(200.0, "gamma:2", 100)];
            Stages::new(stages).unwrap().dues(seed).collect::<Vec<_>>()
        };
        assert_eq!(random(4), random(4));
        assert_ne!(random(4), random(5));
        assert!(random(4).is_sorted());
    }

    #[test]
    fn stages_that_are_no_use_are_named() {
        let refused = |stages| Stages::new(stages).unwrap_err();
        assert_eq!(refused(vec![]), StagesError::Empty);
        let fine = concurrency(1, 5);
        assert_eq!(refused(vec![fine, concurrency(0, 5)]), StagesError::Nothing(2));
        assert_eq!(refused(vec![rate(0.0, "poisson", 5)]), StagesError::Nothing(1));
        assert_eq!(refused(vec![rate(f64::NAN, "poisson", 5)]), StagesError::Nothing(1));
        assert_eq!(refused(vec![fine, fine, concurrency(1, 0)]), StagesError::Duration(3));
    }
}
