//! The plan: which exchange is released when, fixed before the run.
//!
//! A schedule is data. [`Plan::releases`] hands out the releases one by one, in due order, from nothing but the plan: as
//! often as asked, always the same, and without ever holding more than one round of the trace in memory.
//!
//! Due times are absolute nanoseconds since the run's start. The quiet time before the trace's first exchange is left
//! out: the first release is due after [`PlanOptions::lead`]. With recorded times, a round follows the one before after
//! the span of the (filtered) trace plus its mean gap, [`LONE_PERIOD`] when there is no gap; at a rate, the arrival
//! process just goes on.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Nanos;
use crate::replay::arrival::Arrival;
use crate::replay::dues::Dues;
use crate::replay::quantile::Histogram;
use crate::replay::stages::Stages;

/// How a plan is made.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanOptions {
    /// Where the due times come from.
    pub timing: Timing,
    /// At most so many exchanges of the trace, the first ones.
    pub limit: Option<u64>,
    /// How often the trace is gone through, at least once.
    pub rounds: u32,
    /// At most so many releases, whatever the rounds.
    pub most: Option<u64>,
    /// No release is due so long after the first one, or later.
    pub duration: Option<Duration>,
    /// Due time of the first release: room to prepare it.
    pub lead: Duration,
}

/// Where due times come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Timing {
    /// An arrival process.
    Rate {
        /// Releases per second.
        rate: f64,
        /// How they are spread.
        arrival: Arrival,
        /// Seed of the process.
        seed: u64,
    },
    /// The ends of other releases ([`crate::replay::load`]): the plan has the order alone, and every release in it is due at
    /// the lead.
    Reactive,
    /// The recorded times.
    Recorded {
        /// How much faster: recorded times are divided by it.
        speed: f64,
    },
    /// Stages that are all at a rate.
    Stages {
        /// The stages.
        stages: Stages,
        /// Seed of their processes.
        seed: u64,
    },
}

/// One release.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Release {
    /// Its number in the plan, from 0.
    pub number: u64,
    /// The exchange to send, as its place among those given to [`plan`], from 0.
    pub entry: usize,
    /// Which time around the trace, from 0.
    pub round: u32,
    /// When it is due, since the run's start.
    pub due: Nanos,
    /// Number of the stage or burst that it belongs to, from 0, where the load has such.
    pub stage: Option<u32>,
    /// Number of the user who sends it, or of the slot of a stage that it takes, from 0, where the load has such.
    pub user: Option<u32>,
}

/// A plan.
#[derive(Clone, Debug)]
pub struct Plan {
    options: PlanOptions,
    /// Recorded start of each entry, less that of the first, in order.
    offsets: Arc<[u64]>,
    /// Recorded time from one round to the next.
    period: u64,
    /// Entries with the same start as the one before.
    ties: u64,
}

/// What a plan amounts to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Releases; the most that there can be when the end is open.
    pub releases: u64,
    /// Whether the number of releases follows from the run.
    pub open_end: bool,
    /// When the first is due.
    pub first: Nanos,
    /// When the last is due.
    pub last: Nanos,
    /// Most releases due in any one second (a window that begins with a release).
    pub peak_per_second: u64,
    /// Most releases due within any [`INSTANT`].
    pub peak_per_instant: u64,
    /// Releases due at the same nanosecond as the one before.
    pub ties: u64,
    /// Median time from one release to the next, none with fewer than two. Bucketed: within 1 %.
    pub median_gap: Option<Duration>,
}

/// The due times of a stretch of the plan, to count them.
struct Window {
    length: u64,
    dues: VecDeque<u64>,
}

/// Why there is no plan.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PlanError {
    /// A speed that is no speed.
    #[error("speed {0} is no use: it must be a finite number above 0 (2 is twice as fast)")]
    Speed(f64),
    /// A rate that is no rate.
    #[error("rate {0} is no use: it must be a finite number of requests per second above 0")]
    Rate(f64),
    /// No rounds.
    #[error("the trace can't be looped 0 times: 1 is once")]
    NoRounds,
    /// A limit of nothing.
    #[error("a limit of 0 leaves nothing to replay")]
    NoLimit,
    /// A duration of nothing.
    #[error("a duration of 0 leaves nothing to replay")]
    NoDuration,
    /// Nothing is left.
    #[error("there is nothing to replay: {0}")]
    Empty(String),
    /// The last due time does not fit.
    #[error(
        "the plan would last more than {MAX_DAYS} days: raise the speed or the rate, or set a duration"
    )]
    TooLong,
}

/// From round to round when all exchanges of a round start at the same time.
pub const LONE_PERIOD: Duration = Duration::from_secs(1);
/// A stretch within which connections are not opened quickly enough: what it releases needs spare ones.
pub const INSTANT: Duration = Duration::from_millis(20);
/// The longest plan.
const MAX_DAYS: u64 = 3_650;
const MAX_NS: f64 = (MAX_DAYS * 86_400) as f64 * 1e9;

/// Plans the replay of exchanges that were recorded at `starts`, in start order. A start that is earlier than the one
/// before it is due together with that one.
///
/// # Errors
/// An option is no use, nothing is left to replay, or the plan would last for ten years.
pub fn plan(starts: &[Nanos], options: PlanOptions) -> Result<Plan, PlanError> {
    check(&options)?;
    let kept = options.limit.map_or(starts.len(), |limit| {
        usize::try_from(limit).unwrap_or(usize::MAX).min(starts.len())
    });
    let starts = &starts[..kept];
    let Some(first) = starts.first() else {
        return Err(PlanError::Empty("the trace holds no exchange that can be sent".to_owned()));
    };
    let mut latest = 0;
    let offsets: Arc<[u64]> = starts
        .iter()
        .map(|start| {
            latest = latest.max(start.0.saturating_sub(first.0));
            latest
        })
        .collect();
    let ties = offsets.windows(2).filter(|pair| pair[0] == pair[1]).count() as u64;
    let gaps = offsets.len() as u64 - 1;
    let period = match latest {
        0 => Nanos::from(LONE_PERIOD).0,
        span => span + span / gaps,
    };
    let plan = Plan { options, offsets, period, ties };
    plan.check_length()?;
    Ok(plan)
}

/// Checks what can be checked without a trace.
fn check(options: &PlanOptions) -> Result<(), PlanError> {
    match options.timing {
        Timing::Rate { rate, .. } if !(rate.is_finite() && rate > 0.0) => {
            return Err(PlanError::Rate(rate));
        }
        Timing::Recorded { speed } if !(speed.is_finite() && speed > 0.0) => {
            return Err(PlanError::Speed(speed));
        }
        Timing::Rate { .. }
        | Timing::Reactive
        | Timing::Recorded { .. }
        | Timing::Stages { .. } => {}
    }
    if options.rounds == 0 {
        return Err(PlanError::NoRounds);
    }
    if options.limit == Some(0) {
        return Err(PlanError::NoLimit);
    }
    if options.duration == Some(Duration::ZERO) {
        return Err(PlanError::NoDuration);
    }
    Ok(())
}

// === impl Plan ===

impl Plan {
    /// Returns the releases in order. Each call starts anew and hands out the same.
    pub fn releases(&self) -> impl Iterator<Item = Release> + Send + 'static + use<> {
        let (offsets, period) = (Arc::clone(&self.offsets), self.period);
        let lead = Nanos::from(self.options.lead).0;
        let end = self.options.duration.map_or(u64::MAX, |duration| Nanos::from(duration).0);
        let mut dues = Dues::new(&self.options.timing);
        let entries = offsets.len();
        let most = self.options.most.unwrap_or(u64::MAX);
        (0..self.options.rounds)
            .flat_map(move |round| (0..entries).map(move |entry| (round, entry)))
            .zip(0..most)
            .map_while(move |((round, entry), number)| {
                let recorded =
                    u64::from(round).saturating_mul(period).saturating_add(offsets[entry]);
                let (due, stage) = dues.next(recorded)?;
                Some((Release { number, entry, round, stage, ..Release::default() }, due))
            })
            .take_while(move |(_, due)| *due < end)
            .map(move |(release, due)| Release { due: Nanos(lead.saturating_add(due)), ..release })
    }

    /// Returns the same plan with another lead.
    #[must_use]
    pub fn with_lead(mut self, lead: Duration) -> Self {
        self.options.lead = lead;
        self
    }

    /// Returns when the first release is due.
    #[must_use]
    pub fn first(&self) -> Nanos {
        Nanos::from(self.options.lead)
    }

    /// Returns the recorded time from one round to the next, in nanoseconds.
    #[must_use]
    pub fn period(&self) -> u64 {
        self.period
    }

    /// Returns how often the trace is gone through.
    #[must_use]
    pub fn rounds(&self) -> u32 {
        self.options.rounds
    }

    /// Returns whether due times follow from the ends of other releases.
    #[must_use]
    pub fn is_reactive(&self) -> bool {
        self.options.timing == Timing::Reactive
    }

    /// Returns the time from which on nothing is due; none when the releases alone are the limit.
    #[must_use]
    pub fn end(&self) -> Option<Nanos> {
        self.options.duration.map(|duration| self.first() + duration)
    }

    /// Returns what the plan amounts to: walks it once, or, where it has the order alone, not at all.
    #[must_use]
    pub fn totals(&self) -> Totals {
        if self.options.timing == Timing::Reactive {
            return self.order_totals();
        }
        let mut totals = Totals::default();
        let mut second = Window::of(Duration::from_secs(1));
        let mut instant = Window::of(INSTANT);
        let mut gaps = Histogram::default();
        for release in self.releases() {
            if totals.releases == 0 {
                totals.first = release.due;
            } else {
                let gap = release.due.since(totals.last);
                totals.ties += u64::from(gap.is_zero());
                gaps.add(Nanos::from(gap).0);
            }
            totals.last = release.due;
            totals.releases += 1;
            totals.peak_per_second = totals.peak_per_second.max(second.add(release.due));
            totals.peak_per_instant = totals.peak_per_instant.max(instant.add(release.due));
        }
        totals.median_gap = gaps.quantile(0.5).map(Duration::from_nanos);
        totals
    }

    /// Returns what is known of a plan that has the order alone.
    fn order_totals(&self) -> Totals {
        let rounds = u64::from(self.options.rounds);
        let releases = (self.offsets.len() as u64).saturating_mul(rounds);
        Totals {
            releases: releases.min(self.options.most.unwrap_or(u64::MAX)),
            open_end: self.options.duration.is_some(),
            first: self.first(),
            last: self.end().unwrap_or_else(|| self.first()),
            ..Totals::default()
        }
    }

    /// Returns how many exchanges of the trace are in a round.
    #[must_use]
    pub fn entries(&self) -> usize {
        self.offsets.len()
    }

    /// Returns how many entries start at the same time as the one before.
    #[must_use]
    pub fn recorded_ties(&self) -> u64 {
        self.ties
    }

    /// Returns an error when the last due time is out of all reason, and a duration does not cut it.
    #[expect(clippy::cast_precision_loss, reason = "a bound, not a time")]
    fn check_length(&self) -> Result<(), PlanError> {
        let rounds = f64::from(self.options.rounds);
        let length = match self.options.timing {
            // A random process is as long as its mean, give or take: ten times is far out.
            Timing::Rate { rate, .. } => self.offsets.len() as f64 * rounds / rate * 1e10,
            Timing::Reactive | Timing::Stages { .. } => 0.0,
            Timing::Recorded { speed } => self.period as f64 * rounds / speed,
        };
        let cut =
            self.options.duration.map_or(f64::INFINITY, |duration| duration.as_secs_f64() * 1e9);
        if length.min(cut) > MAX_NS { Err(PlanError::TooLong) } else { Ok(()) }
    }
}

// === impl Window ===

impl Window {
    fn of(length: Duration) -> Self {
        Self { length: Nanos::from(length).0, dues: VecDeque::new() }
    }

    /// Takes the next due time in, and returns how many there are within the length up to it.
    fn add(&mut self, due: Nanos) -> u64 {
        self.dues.push_back(due.0);
        while self.dues.front().is_some_and(|first| due.0 - first >= self.length) {
            self.dues.pop_front();
        }
        self.dues.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn options(timing: Timing) -> PlanOptions {
        PlanOptions {
            timing,
            limit: None,
            rounds: 1,
            most: None,
            duration: None,
            lead: Duration::ZERO,
        }
    }

    fn recorded(speed: f64) -> PlanOptions {
        options(Timing::Recorded { speed })
    }

    fn rate(rate: f64, arrival: &str) -> PlanOptions {
        options(Timing::Rate { rate, arrival: arrival.parse().unwrap(), seed: 3 })
    }

    /// Checks the due times, as `entry@due` with the due times in milliseconds.
    fn check(starts_ms: &[u64], options: PlanOptions, expected: &str) {
        let starts: Vec<Nanos> = starts_ms.iter().map(|ms| Nanos(ms * 1_000_000)).collect();
        let plan = plan(&starts, options).unwrap();
        let seen: Vec<String> = plan
            .releases()
            .map(|release| format!("{}@{}", release.entry, release.due.0 as f64 / 1e6))
            .collect();
        assert_eq!(seen.join(" "), expected);
    }

    #[test]
    fn recorded_times_begin_at_the_lead_and_are_divided_by_the_speed() {
        let lead = Duration::from_millis(100);
        check(&[50, 60, 90], recorded(1.0), "0@0 1@10 2@40");
        check(&[50, 60, 90], recorded(4.0), "0@0 1@2.5 2@10");
        check(&[50, 60, 90], recorded(0.5), "0@0 1@20 2@80");
        check(&[50, 60, 90], PlanOptions { lead, ..recorded(2.0) }, "0@100 1@105 2@120");
        check(&[50, 40, 90], recorded(1.0), "0@0 1@0 2@40");
    }

    #[test]
    fn rounds_follow_after_the_span_and_a_mean_gap() {
        let rounds = |rounds| PlanOptions { rounds, ..recorded(1.0) };
        check(&[0, 10, 40], rounds(2), "0@0 1@10 2@40 0@60 1@70 2@100");
        check(&[7], rounds(3), "0@0 0@1000 0@2000");
        check(&[7, 7], rounds(2), "0@0 1@0 0@1000 1@1000");
    }

    #[test]
    fn limit_and_duration_cut() {
        check(&[0, 10, 40], PlanOptions { limit: Some(2), ..recorded(1.0) }, "0@0 1@10");
        check(
            &[0, 10, 40],
            PlanOptions { limit: Some(2), rounds: 2, ..recorded(1.0) },
            "0@0 1@10 0@20 1@30",
        );
        let cut = |ms| PlanOptions {
            duration: Some(Duration::from_millis(ms)),
            lead: Duration::from_millis(5),
            rounds: u32::MAX,
            ..recorded(1.0)
        };
        check(&[0, 10, 40], cut(10), "0@5");
        check(&[0, 10, 40], cut(61), "0@5 1@15 2@45 0@65");
    }

    #[test]
    fn a_constant_rate_has_no_drift() {
        check(&[0, 1, 2, 3], rate(3.0, "constant"), "0@0 1@333.333333 2@666.666667 3@1000");
        let plan =
            plan(&[Nanos::ZERO], PlanOptions { rounds: 3_000_001, ..rate(300.0, "constant") })
                .unwrap();
        assert_eq!(plan.releases().last().unwrap().due, Nanos(10_000 * 1_000_000_000));
    }

    #[test]
    fn random_due_times_are_the_same_for_ever() {
        let starts = [Nanos::ZERO; 6];
        let dues = |options| {
            plan(&starts, options)
                .unwrap()
                .releases()
                .map(|release| release.due.0)
                .collect::<Vec<_>>()
        };
        assert_eq!(
            dues(rate(100.0, "poisson")),
            [0, 4_732_610, 29_828_494, 41_135_542, 65_948_143, 71_123_445]
        );
        assert_eq!(
            dues(rate(7.5, "gamma:2")),
            [0, 38_021_663, 144_160_960, 145_797_774, 172_951_125, 174_815_032]
        );
    }

    #[test]
    fn a_bad_plan_is_refused_at_once() {
        let one = [Nanos::ZERO];
        let refused = |options| plan(&one, options).unwrap_err().to_string();
        for speed in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(refused(recorded(speed)).starts_with("speed "), "{speed}");
            assert!(refused(rate(speed, "poisson")).starts_with("rate "), "{speed}");
        }
        assert_eq!(
            plan(&[], recorded(1.0)).unwrap_err(),
            PlanError::Empty("the trace holds no exchange that can be sent".into())
        );
        assert_eq!(
            plan(&one, PlanOptions { rounds: 0, ..recorded(1.0) }).unwrap_err(),
            PlanError::NoRounds
        );
        assert_eq!(
            plan(&one, PlanOptions { limit: Some(0), ..recorded(1.0) }).unwrap_err(),
            PlanError::NoLimit
        );
        let none = PlanOptions { duration: Some(Duration::ZERO), ..recorded(1.0) };
        assert_eq!(plan(&one, none).unwrap_err(), PlanError::NoDuration);
        assert_eq!(plan(&one, rate(1e-12, "constant")).unwrap_err(), PlanError::TooLong);
        let forever = PlanOptions { rounds: u32::MAX, ..recorded(1.0) };
        assert_eq!(plan(&one, forever.clone()).unwrap_err(), PlanError::TooLong);
        plan(&one, PlanOptions { duration: Some(Duration::from_secs(9)), ..forever }).unwrap();
    }

    #[test]
    fn totals_count_ties_and_the_busiest_second() {
        let starts: Vec<Nanos> =
            [0, 0, 500, 999, 1_000, 5_000].map(|ms| Nanos(ms * 1_000_000)).into();
        let totals = plan(&starts, recorded(1.0)).unwrap().totals();
        assert_eq!((totals.releases, totals.ties, totals.peak_per_second), (6, 1, 4));
        assert_eq!(totals.last, Nanos(5_000_000_000));
        let median = totals.median_gap.unwrap().as_secs_f64();
        assert!((median - 0.499).abs() < 0.001, "{median}");
    }

    proptest! {
        #[test]
        fn plans_are_repeatable_and_in_order(
            starts in proptest::collection::vec(0_u64..10_000_000_000, 1..40),
            speed in 0.1_f64..50.0,
            rounds in 1_u32..4,
            random in proptest::option::of((0.5_f64..5_000.0, 0.1_f64..4.0, any::<u64>())),
        ) {
            let starts: Vec<Nanos> = starts.into_iter().map(Nanos).collect();
            let timing = random.map_or(Timing::Recorded { speed }, |(rate, cv, seed)| {
                Timing::Rate { rate, arrival: Arrival::Gamma { cv }, seed }
            });
            let options = PlanOptions { rounds, lead: Duration::from_millis(20), ..options(timing) };
            let made = plan(&starts, options.clone()).unwrap();
            let releases: Vec<Release> = made.releases().collect();
            prop_assert_eq!(&releases, &plan(&starts, options).unwrap().releases().collect::<Vec<_>>());
            prop_assert_eq!(releases.len(), starts.len() * rounds as usize);
            prop_assert_eq!(releases[0].due, Nanos(20_000_000));
            prop_assert!(releases.windows(2).all(|pair| pair[0].due <= pair[1].due && pair[0].number + 1 == pair[1].number));
        }
    }
}
