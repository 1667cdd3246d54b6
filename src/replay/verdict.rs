//! The verdict: whether the measurement can be trusted, and every reason against it as a sentence.
//!
//! A doubt is about us and our machine, not about the target: a slow or failing target is a result. Each says what was
//! seen, why it matters, and what to do.

use std::fmt;
use std::time::Duration;

/// What the verdict is made from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Evidence {
    /// Releases planned.
    pub planned: u64,
    /// Releases made.
    pub released: u64,
    /// Exchanges that could not be made ready: unreadable in the trace, or of no form that can be sent.
    pub unsendable: u64,
    /// Whether somebody stopped the run.
    pub interrupted: bool,
    /// Exchanges that got a response head, or that were cancelled before one.
    pub answered: u64,
    /// 99th percentile of lateness.
    pub lateness_p99: Option<Duration>,
    /// Median time from one release to the next.
    pub median_gap: Option<Duration>,
    /// Releases that were not ready when they were due.
    pub starved: u64,
    /// The longest that one was not ready.
    pub starved_most: Duration,
    /// Mean time that the thread which reads responses waited for a CPU each time it was woken.
    pub cpu_wait: Option<Duration>,
    /// Smallest step of the clock.
    pub clock_step: Duration,
}

/// A reason not to trust a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// Nothing answered.
    Unanswered {
        /// Releases made.
        released: u64,
    },
    /// The clock is too coarse.
    CoarseClock {
        /// Its smallest step.
        step: Duration,
    },
    /// The machine's CPUs were busy.
    CpuStarved {
        /// Mean wait for a CPU.
        wait: Duration,
    },
    /// It was stopped.
    Interrupted {
        /// Releases made.
        released: u64,
        /// Releases planned.
        planned: u64,
    },
    /// Releases were late.
    Late {
        /// 99th percentile of lateness.
        p99: Duration,
        /// What this plan bears.
        limit: Duration,
    },
    /// Not all that was planned was sent.
    Missing {
        /// Exchanges that could not be made ready.
        unsendable: u64,
        /// Releases planned.
        planned: u64,
    },
    /// Releases were not ready in time.
    Starved {
        /// Releases that were not ready.
        starved: u64,
        /// The longest that one was not ready.
        most: Duration,
    },
}

/// The 99th percentile of lateness may be a tenth of the median gap between releases, but not above this.
pub const LATE_MOST: Duration = Duration::from_millis(5);
/// The 99th percentile of lateness may always be this much, however dense the releases.
pub const LATE_LEAST: Duration = Duration::from_millis(2);
/// Share of releases that may have been starved: one in so many.
pub const STARVED_ONE_IN: u64 = 100;
/// Mean wait for a CPU above which frame stamps are off by as much as a token takes.
pub const CPU_WAIT_MOST: Duration = Duration::from_millis(1);
/// Coarsest clock.
pub const CLOCK_STEP_MOST: Duration = Duration::from_micros(10);

/// Returns every doubt, the gravest first.
#[must_use]
pub fn doubts(evidence: &Evidence) -> Vec<Doubt> {
    let Evidence { planned, released, unsendable, starved, starved_most, .. } = *evidence;
    let mut doubts = Vec::new();
    if evidence.interrupted {
        doubts.push(Doubt::Interrupted { released, planned });
    }
    if unsendable > 0 {
        doubts.push(Doubt::Missing { unsendable, planned });
    }
    if evidence.answered == 0 && released > 0 {
        doubts.push(Doubt::Unanswered { released });
    }
    let limit = late_limit(evidence.median_gap);
    if let Some(p99) = evidence.lateness_p99.filter(|p99| *p99 > limit) {
        doubts.push(Doubt::Late { p99, limit });
    }
    if starved * STARVED_ONE_IN > released || starved_most > LATE_MOST {
        doubts.push(Doubt::Starved { starved, most: starved_most });
    }
    if let Some(wait) = evidence.cpu_wait.filter(|wait| *wait > CPU_WAIT_MOST) {
        doubts.push(Doubt::CpuStarved { wait });
    }
    if evidence.clock_step > CLOCK_STEP_MOST {
        doubts.push(Doubt::CoarseClock { step: evidence.clock_step });
    }
    doubts
}

fn late_limit(median_gap: Option<Duration>) -> Duration {
    median_gap.map_or(LATE_MOST, |gap| (gap / 10).clamp(LATE_LEAST, LATE_MOST))
}

// === impl Doubt ===

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |time: &Duration| format!("{:.2} ms", time.as_secs_f64() * 1e3);
        match self {
            Self::Unanswered { released } => write!(
                f,
                "None of the {released} requests got a response, so there is nothing to measure. Look at the errors in the \
                 rows, and at the target."
            ),
            Self::CoarseClock { step } => write!(
                f,
                "The clock moves in steps of {}, too coarse for times between tokens. Use a machine with a better clock \
                 source (/sys/devices/system/clocksource).",
                ms(step)
            ),
            Self::CpuStarved { wait } => write!(
                f,
                "The thread that reads responses waited {} on average for a CPU, so its stamps are late by as much. Free \
                 CPUs on this machine, or run the replay on another one than the target.",
                ms(wait)
            ),
            Self::Interrupted { released, planned } => write!(
                f,
                "The run was interrupted after {released} of {planned} releases, and what was in flight was given up. Run it \
                 to its end, or plan a shorter one with --duration or --limit."
            ),
            Self::Late { p99, limit } => write!(
                f,
                "Requests were sent late: the 99th percentile of lateness is {}, more than the {} that this plan bears. The \
                 target saw other arrivals than those planned. Lower the rate, or free CPUs on this machine.",
                ms(p99),
                ms(limit)
            ),
            Self::Missing { unsendable, planned } => write!(
                f,
                "{unsendable} of {planned} planned requests could not be made ready, so the target saw less load than planned. \
                 The rows say why; `reenact trace verify` looks at the trace."
            ),
            Self::Starved { starved, most } => write!(
                f,
                "{starved} requests were not ready when they were due (the worst by {}): reading the trace did not keep up. \
                 Put the trace on a faster disk, raise --ahead, or lower the rate.",
                ms(most)
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Evidence {
        Evidence {
            planned: 1_000,
            released: 1_000,
            answered: 1_000,
            lateness_p99: Some(Duration::from_micros(300)),
            median_gap: Some(Duration::from_millis(7)),
            cpu_wait: Some(Duration::from_micros(20)),
            clock_step: Duration::from_nanos(30),
            ..Evidence::default()
        }
    }

    /// Checks the doubts by the words that they begin with.
    fn check(change: impl FnOnce(&mut Evidence), expected: &[&str]) {
        let mut evidence = good();
        change(&mut evidence);
        let seen: Vec<String> = doubts(&evidence).iter().map(ToString::to_string).collect();
        assert_eq!(seen.len(), expected.len(), "{seen:?}");
        for (seen, expected) in seen.iter().zip(expected) {
            assert!(seen.contains(expected), "{seen}");
        }
    }

    #[test]
    fn a_good_run_has_no_doubts_and_each_doubt_is_a_sentence() {
        check(|_| {}, &[]);
        check(
            |e| e.lateness_p99 = Some(Duration::from_micros(2_100)),
            &["is 2.10 ms, more than the 2.00 ms"],
        );
        check(
            |e| {
                e.lateness_p99 = Some(Duration::from_millis(4));
                e.median_gap = None;
            },
            &[],
        );
        check(|e| e.lateness_p99 = Some(Duration::from_millis(6)), &["6.00 ms"]);
        check(|e| e.starved = 10, &[]);
        check(|e| e.starved = 11, &["11 requests were not ready"]);
        check(|e| e.starved_most = Duration::from_millis(6), &["worst by 6.00 ms"]);
        check(|e| e.cpu_wait = Some(Duration::from_millis(2)), &["waited 2.00 ms"]);
        check(|e| e.clock_step = Duration::from_millis(1), &["steps of 1.00 ms"]);
        check(|e| e.unsendable = 3, &["3 of 1000 planned"]);
        check(
            |e| {
                e.interrupted = true;
                e.released = 4;
                e.answered = 0;
            },
            &["after 4 of 1000", "None of the 4"],
        );
    }
}
