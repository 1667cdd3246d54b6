//! The verdict: whether the measurement can be trusted, and every reason against it as a sentence.
//!
//! A reason is about us and our machine, not about the target: a slow or failing target is a result. Each says what was
//! seen, what it means, and what to do. It either casts a doubt on the run, whose figures are then to be read with the
//! sentence in mind, or it makes the run INVALID, and its figures are not to be used ([`Weight`]). Where that line is drawn
//! is a constant below, with why.

use std::fmt;
use std::time::Duration;

use crate::results::manifest::Verdict;

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
    /// Releases that were made ready later than they could have been, since writing the results was behind.
    pub held_back: u64,
    /// Mean time that the thread which reads responses waited for a CPU each time it was woken.
    pub cpu_wait: Option<Duration>,
    /// Smallest step of the clock.
    pub clock_step: Duration,
    /// 99th percentile of how late requests of the calibration reached its server.
    pub calibrated_p99: Option<Duration>,
    /// 99th percentile of the time from due to the moment in which a call ran.
    pub dispatch_p99: Option<Duration>,
    /// 99th percentile of the time that the calls' thread took to come round.
    pub stall_p99: Option<Duration>,
    /// The longest that it took.
    pub stall_most: Duration,
    /// CPU time of the calls' thread, in CPUs.
    pub calls_cpus: Option<f64>,
    /// Readings of telemetry for which there was no room.
    pub dropped_samples: u64,
}

/// A reason not to trust a run.
#[derive(Clone, Debug, PartialEq)]
pub enum Reason {
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
    /// The thread of the calls was busy.
    Busy {
        /// Its CPU time, in CPUs.
        cpus: f64,
    },
    /// The machine's CPUs were busy.
    CpuStarved {
        /// Mean wait for a CPU.
        wait: Duration,
    },
    /// The calibration was late.
    Jittery {
        /// 99th percentile of how late its requests arrived.
        p99: Duration,
        /// What this plan bears.
        limit: Duration,
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
        /// 99th percentile of the part of it that passed before the call ran.
        dispatch: Duration,
    },
    /// Not all that was planned was sent.
    Missing {
        /// Exchanges that could not be made ready.
        unsendable: u64,
        /// Releases planned.
        planned: u64,
    },
    /// Readings of telemetry were dropped.
    SamplesDropped {
        /// How many.
        dropped: u64,
    },
    /// The thread of the calls did not come round in time.
    Stalled {
        /// 99th percentile of the time that it took.
        p99: Duration,
        /// The longest.
        most: Duration,
    },
    /// Releases were not ready in time.
    Starved {
        /// Releases that were not ready.
        starved: u64,
        /// Releases made.
        released: u64,
        /// The longest that one was not ready.
        most: Duration,
        /// Whether making them ready had to wait for the results to be written.
        held_back: bool,
    },
}

/// How much a reason weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// The figures are not to be used.
    Invalidates,
    /// The figures are to be read with it in mind.
    Doubts,
}

/// The 99th percentile of lateness may be a tenth of the median gap between releases, but not above this: arrivals are
/// then as dense and in the order planned, and a time to first token of 50 ms is off by a tenth at most.
pub const LATE_MOST: Duration = Duration::from_millis(5);
/// The 99th percentile of lateness may always be this much, however dense the releases: what a busy but sound machine does.
pub const LATE_LEAST: Duration = Duration::from_millis(2);
/// Lateness invalidates at so many times what the plan bears: releases that were planned apart then leave together, and
/// the target saw another load.
pub const LATE_GRAVE: u32 = 4;
/// Share of releases that may have been starved: one in so many. Their lateness weighs by itself.
pub const STARVED_ONE_IN: u64 = 100;
/// Share of starved releases that invalidates, one in so many: the pace was then the disk's, not the plan's.
pub const STARVED_GRAVE_ONE_IN: u64 = 10;
/// Share of exchanges that could not be made ready that invalidates, one in so many: another load than planned by more
/// than runs differ anyway.
pub const MISSING_GRAVE_ONE_IN: u64 = 100;
/// Mean wait for a CPU that casts a doubt: stamps are late by a tenth of what a quick server takes for a token.
pub const CPU_WAIT_MOST: Duration = Duration::from_millis(1);
/// Mean wait for a CPU that invalidates: times between tokens are then ours as much as the server's.
pub const CPU_WAIT_GRAVE: Duration = Duration::from_millis(5);
/// 99th percentile of stalls of the calls' thread that casts a doubt: one stamp in a hundred is late by up to a tenth of what
/// a quick server takes for a token.
pub const STALL_MOST: Duration = Duration::from_millis(2);
/// 99th percentile of stalls that invalidates, as [`CPU_WAIT_GRAVE`] does: the tail of times between tokens is ours.
pub const STALL_GRAVE: Duration = Duration::from_millis(10);
/// A single stall that casts a doubt: what came meanwhile carries one stamp, which a person would see in a stream.
pub const STALL_ONCE: Duration = Duration::from_millis(100);
/// CPU time of the calls' thread that casts a doubt, in CPUs: at seven tenths, what arrives waits twice as long again as it
/// takes to read (a queue with one server).
pub const BUSY_MOST: f64 = 0.7;
/// CPU time of the calls' thread that invalidates, in CPUs: it was the bottleneck, and the rates are its own.
pub const BUSY_GRAVE: f64 = 0.95;
/// Coarsest clock beyond doubt: a hundredth of a millisecond.
pub const CLOCK_STEP_MOST: Duration = Duration::from_micros(10);
/// A clock so coarse invalidates: it can't tell two tokens apart.
pub const CLOCK_STEP_GRAVE: Duration = Duration::from_millis(1);

/// Returns every reason, the gravest first.
#[must_use]
pub fn reasons(evidence: &Evidence) -> Vec<Reason> {
    let mut reasons = Vec::new();
    about_the_plan(evidence, &mut reasons);
    about_the_machine(evidence, &mut reasons);
    reasons.sort_by_key(Reason::weight);
    reasons
}

/// Returns what the reasons come to.
#[must_use]
pub fn verdict(reasons: &[Reason]) -> Verdict {
    match reasons.iter().map(Reason::weight).min() {
        Some(Weight::Invalidates) => Verdict::Invalid,
        Some(Weight::Doubts) => Verdict::Doubtful,
        None => Verdict::Valid,
    }
}

fn about_the_plan(evidence: &Evidence, reasons: &mut Vec<Reason>) {
    let Evidence { planned, released, unsendable, starved, .. } = *evidence;
    if evidence.interrupted {
        reasons.push(Reason::Interrupted { released, planned });
    }
    if unsendable > 0 {
        reasons.push(Reason::Missing { unsendable, planned });
    }
    if evidence.answered == 0 && released > 0 {
        reasons.push(Reason::Unanswered { released });
    }
    let limit = late_limit(evidence.median_gap);
    if let Some(p99) = evidence.lateness_p99.filter(|p99| *p99 > limit) {
        let dispatch = evidence.dispatch_p99.unwrap_or_default();
        reasons.push(Reason::Late { p99, limit, dispatch });
    }
    if starved * STARVED_ONE_IN > released || evidence.starved_most > LATE_MOST {
        let (most, held_back) = (evidence.starved_most, evidence.held_back > 0);
        reasons.push(Reason::Starved { starved, released, most, held_back });
    }
}

fn about_the_machine(evidence: &Evidence, reasons: &mut Vec<Reason>) {
    let limit = late_limit(evidence.median_gap);
    if let Some(p99) = evidence.calibrated_p99.filter(|p99| *p99 > limit) {
        reasons.push(Reason::Jittery { p99, limit });
    }
    if let Some(wait) = evidence.cpu_wait.filter(|wait| *wait > CPU_WAIT_MOST) {
        reasons.push(Reason::CpuStarved { wait });
    }
    let (p99, most) = (evidence.stall_p99.unwrap_or_default(), evidence.stall_most);
    if p99 > STALL_MOST || most > STALL_ONCE {
        reasons.push(Reason::Stalled { p99, most });
    }
    if let Some(cpus) = evidence.calls_cpus.filter(|cpus| *cpus > BUSY_MOST) {
        reasons.push(Reason::Busy { cpus });
    }
    if evidence.dropped_samples > 0 {
        reasons.push(Reason::SamplesDropped { dropped: evidence.dropped_samples });
    }
    if evidence.clock_step > CLOCK_STEP_MOST {
        reasons.push(Reason::CoarseClock { step: evidence.clock_step });
    }
}

/// Returns the 99th percentile of lateness that a plan with this median gap bears.
#[must_use]
pub fn late_limit(median_gap: Option<Duration>) -> Duration {
    median_gap.map_or(LATE_MOST, |gap| (gap / 10).clamp(LATE_LEAST, LATE_MOST))
}

// === impl Reason ===

impl Reason {
    /// Returns how much it weighs.
    #[must_use]
    pub fn weight(&self) -> Weight {
        let grave = match *self {
            Self::Interrupted { .. } | Self::Unanswered { .. } => true,
            // What the run itself did weighs more: its lateness has a reason of its own.
            Self::Jittery { .. } | Self::SamplesDropped { .. } => false,
            Self::Busy { cpus } => cpus > BUSY_GRAVE,
            Self::CoarseClock { step } => step > CLOCK_STEP_GRAVE,
            Self::CpuStarved { wait } => wait > CPU_WAIT_GRAVE,
            Self::Stalled { p99, .. } => p99 > STALL_GRAVE,
            Self::Late { p99, limit, .. } => p99 > limit * LATE_GRAVE,
            Self::Missing { unsendable, planned } => unsendable * MISSING_GRAVE_ONE_IN > planned,
            Self::Starved { starved, released, .. } => starved * STARVED_GRAVE_ONE_IN > released,
        };
        if grave { Weight::Invalidates } else { Weight::Doubts }
    }
}

impl fmt::Display for Reason {
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
            Self::Jittery { p99, limit } => write!(
                f,
                "Before the run, requests reached a server on this machine {} (99th percentile) after they were due, more than \
                 the {} that this plan bears. Arrivals at the target are no more exact. Free CPUs on this machine, or give \
                 --spin-us more.",
                ms(p99),
                ms(limit)
            ),
            Self::Interrupted { released, planned } => write!(
                f,
                "The run was interrupted after {released} of {planned} releases, and what was in flight was given up. Run it \
                 to its end, or plan a shorter one with --duration or --limit."
            ),
            Self::Late { p99, limit, dispatch } => write!(
                f,
                "Requests were sent late: the 99th percentile of lateness is {}, more than the {} that this plan bears ({} of it \
                 before their calls ran). The target saw other arrivals than those planned. Lower the rate, or free CPUs on \
                 this machine.",
                ms(p99),
                ms(limit),
                ms(dispatch)
            ),
            Self::SamplesDropped { dropped } => write!(
                f,
                "{dropped} readings of telemetry found no room, since writing the results did not keep up: lines and means over \
                 them have holes. Write to a faster disk, or free CPUs on this machine."
            ),
            Self::Stalled { p99, most } => write!(
                f,
                "The thread that reads responses took up to {} (99th percentile) to come round, {} at worst, so stamps are late \
                 by as much. Free CPUs on this machine, or send less from it.",
                ms(p99),
                ms(most)
            ),
            Self::Busy { cpus } => write!(
                f,
                "The thread that reads responses was busy {:.0} % of the time: what arrived waited for what had arrived before, \
                 and stamps are late by it. Spread the load over several machines, or send less.",
                cpus * 100.0
            ),
            Self::Missing { unsendable, planned } => write!(
                f,
                "{unsendable} of {planned} planned requests could not be made ready, so the target saw less load than planned. \
                 The rows say why; `reenact trace verify` looks at the trace."
            ),
            Self::Starved { starved, most, held_back, .. } => {
                let most = ms(most);
                let (what, otherwise) = if *held_back {
                    ("writing the results", "Write to a faster disk, free CPUs on this machine")
                } else {
                    ("reading the trace", "Put the trace on a faster disk, raise --ahead")
                };
                write!(
                    f,
                    "{starved} requests were not ready when they were due (the worst by {most}): {what} did not keep up. \
                     {otherwise}, or lower the rate."
                )
            }
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
            stall_p99: Some(Duration::from_millis(2)),
            stall_most: Duration::from_millis(100),
            calls_cpus: Some(0.7),
            clock_step: Duration::from_nanos(30),
            ..Evidence::default()
        }
    }

    /// Checks the verdict, and the reasons by words that are in them.
    fn check(change: impl FnOnce(&mut Evidence), expected: Verdict, words: &[&str]) {
        let mut evidence = good();
        change(&mut evidence);
        let reasons = reasons(&evidence);
        let seen: Vec<String> = reasons.iter().map(ToString::to_string).collect();
        assert_eq!(verdict(&reasons), expected, "{seen:?}");
        assert_eq!(seen.len(), words.len(), "{seen:?}");
        for (seen, words) in seen.iter().zip(words) {
            assert!(seen.contains(words), "{seen}");
            // What was seen, what it means or what to do: more than one sentence.
            assert!(seen.ends_with('.') && !seen.contains("  "), "{seen}");
        }
    }

    fn ms(ms: f64) -> Duration {
        Duration::from_secs_f64(ms / 1e3)
    }

    #[test]
    fn a_good_run_has_no_reason_against_it() {
        check(|_| {}, Verdict::Valid, &[]);
        check(|e| e.starved = 10, Verdict::Valid, &[]);
        check(|e| (e.lateness_p99, e.median_gap) = (Some(ms(4.0)), None), Verdict::Valid, &[]);
    }

    #[test]
    fn a_run_that_was_not_as_planned_is_doubted_and_then_invalid() {
        let doubt = |change: fn(&mut Evidence), words| check(change, Verdict::Doubtful, &[words]);
        let invalid = |change: fn(&mut Evidence), words| check(change, Verdict::Invalid, &[words]);
        doubt(|e| e.lateness_p99 = Some(ms(2.1)), "is 2.10 ms, more than the 2.00 ms");
        invalid(|e| e.lateness_p99 = Some(ms(8.1)), "is 8.10 ms, more than the 2.00 ms");
        doubt(|e| (e.lateness_p99, e.median_gap) = (Some(ms(6.0)), None), "6.00 ms");
        doubt(|e| e.starved = 11, "11 requests were not ready");
        doubt(|e| e.starved = 11, "reading the trace did not keep up");
        doubt(|e| (e.starved, e.held_back) = (11, 1), "writing the results did not keep up");
        invalid(|e| e.starved = 101, "101 requests were not ready");
        doubt(|e| e.starved_most = ms(6.0), "worst by 6.00 ms");
        doubt(|e| e.unsendable = 3, "3 of 1000 planned");
        invalid(|e| e.unsendable = 11, "11 of 1000 planned");
        invalid(|e| e.interrupted = true, "after 1000 of 1000");
        invalid(|e| e.answered = 0, "None of the 1000");
    }

    #[test]
    fn a_machine_that_was_not_up_to_it_is_doubted_and_then_invalid() {
        let doubt = |change: fn(&mut Evidence), words| check(change, Verdict::Doubtful, &[words]);
        let invalid = |change: fn(&mut Evidence), words| check(change, Verdict::Invalid, &[words]);
        doubt(|e| e.cpu_wait = Some(ms(2.0)), "waited 2.00 ms");
        invalid(|e| e.cpu_wait = Some(ms(5.1)), "waited 5.10 ms");
        doubt(|e| e.clock_step = ms(1.0), "steps of 1.00 ms");
        invalid(|e| e.clock_step = ms(4.0), "steps of 4.00 ms");
        doubt(|e| e.stall_p99 = Some(ms(2.1)), "up to 2.10 ms");
        doubt(|e| e.stall_most = ms(101.0), "101.00 ms at worst");
        invalid(|e| e.stall_p99 = Some(ms(10.1)), "up to 10.10 ms");
        doubt(|e| e.calls_cpus = Some(0.71), "busy 71 %");
        invalid(|e| e.calls_cpus = Some(0.96), "busy 96 %");
        doubt(|e| e.dropped_samples = 2, "2 readings");
        doubt(|e| e.calibrated_p99 = Some(ms(60.0)), "60.00 ms (99th percentile)");
    }

    #[test]
    fn what_invalidates_comes_before_what_casts_a_doubt() {
        check(
            |e| {
                e.unsendable = 1;
                e.interrupted = true;
                (e.released, e.answered) = (4, 0);
            },
            Verdict::Invalid,
            &["after 4 of 1000", "None of the 4", "1 of 1000"],
        );
    }
}
