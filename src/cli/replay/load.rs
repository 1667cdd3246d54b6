//! The flags of reactive loads, and the loads that they make.

use std::time::Duration;

use clap::Args;
use serde_json::{Map, Value, json};

use crate::cli::UsageError;
use crate::replay::load::{Bursts, ClosedLoop, Load, Steps, Think, Users};
use crate::replay::plan::{PlanOptions, Timing};
use crate::replay::refusal::Refusals;
use crate::replay::stages::Stages;

use super::args::time;
use super::stages;

/// When exchanges are sent, where that follows from the ends of others
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Load")]
pub(super) struct LoadArgs {
    /// Keep N requests in flight while work remains (a closed loop): each is due when another one has ended
    #[arg(long, value_name = "N", env = "REENACT_CONCURRENCY")]
    concurrency: Option<u32>,
    /// Let N users send, think, and send again; they take exchanges in order, around and around while --run-time lasts
    #[arg(long, value_name = "N", env = "REENACT_USERS")]
    users: Option<u32>,
    /// Users who come each second, in batches of the whole number of it
    #[arg(
        long,
        value_name = "R",
        env = "REENACT_SPAWN_RATE",
        default_value_t = 1.0,
        requires = "users"
    )]
    spawn_rate: f64,
    /// Release nothing so long after the first release, or later: 30s, 5m, or seconds; what is in flight goes on to its end
    #[arg(long, value_name = "TIME", env = "REENACT_RUN_TIME", requires = "users",
          conflicts_with = "duration", value_parser = time)]
    run_time: Option<Duration>,
    /// How long users think: constant:S or between:A:B seconds after an end, pacing:S seconds from one request to the next,
    /// throughput:R requests a second at most
    #[arg(long, value_name = "RULE", env = "REENACT_THINK", default_value_t, requires = "users")]
    think: Think,
    /// Release so many requests at once, and when all of these have ended the next so many: 1,2,4,8
    #[arg(
        long,
        value_name = "N,...",
        env = "REENACT_BURSTS",
        value_delimiter = ',',
        conflicts_with = "rounds"
    )]
    bursts: Option<Vec<u32>>,
    /// Pause after each burst
    #[arg(long, value_name = "TIME", env = "REENACT_BURST_PAUSE", default_value = "0",
          requires = "bursts", value_parser = time)]
    burst_pause: Duration,
    /// Go through the stages of a TOML file: tables named stage with rate (and arrival) or concurrency, and duration
    #[arg(long, value_name = "FILE", env = "REENACT_STAGES", conflicts_with = "rounds",
          value_parser = stages::read)]
    stages: Option<Stages>,
    /// Go on where a target answers 401, 404 or 405 to everything (else: the run ends after its first 20 answers)
    #[arg(long, env = "REENACT_KEEP_GOING")]
    keep_going: bool,
}

/// A reactive load that was asked for.
enum Asked<'a> {
    Bursts(&'a [u32]),
    Concurrency(u32),
    Stages(&'a Stages),
    Users(u32),
}

/// Most requests in flight that are asked for: a port is 16 bits.
const MOST: u32 = 65_535;

// === impl LoadArgs ===

impl LoadArgs {
    /// Returns the same as a closed loop of so many requests; of a fraction the whole part.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a search hands out whole numbers above 0, and what is too large is refused"
    )]
    pub(super) fn closed(mut self, concurrency: f64) -> Self {
        self.concurrency = Some(concurrency as u32);
        self
    }

    /// Returns whether a load is asked for.
    pub(super) fn is_given(&self) -> bool {
        self.asked().is_some()
    }

    /// Checks that no more than one clock is asked for; `others` are those of other arguments.
    ///
    /// # Errors
    /// There are two.
    pub(super) fn check_alone(&self, others: &[(&'static str, bool)]) -> Result<(), UsageError> {
        let ours = [
            ("concurrency", self.concurrency.is_some()),
            ("users", self.users.is_some()),
            ("bursts", self.bursts.is_some()),
            ("stages", self.stages.is_some()),
        ];
        let all = others.iter().chain(&ours);
        let given: Vec<_> = all.filter(|(_, is_given)| *is_given).map(|(flag, _)| flag).collect();
        if let [first, second, ..] = given[..] {
            return Err(UsageError(format!(
                "--{first} cannot be used with --{second}: each says when exchanges are sent, and there is one clock; \
                 leave one of them out"
            )));
        }
        Ok(())
    }

    /// Returns the plan's options as the load needs them; `rounds` are those that were asked for, `seed` that of arrivals.
    ///
    /// # Errors
    /// A number is no use.
    pub(super) fn plan(
        &self,
        options: PlanOptions,
        rounds: Option<u32>,
        seed: u64,
    ) -> Result<PlanOptions, UsageError> {
        let Some(asked) = self.asked() else { return Ok(options) };
        let options = PlanOptions { timing: Timing::Reactive, ..options };
        match asked {
            Asked::Bursts(sizes) => {
                sizes.iter().try_for_each(|size| check_number("bursts", *size))?;
                let most = sizes.iter().map(|size| u64::from(*size)).sum();
                Ok(PlanOptions { rounds: u32::MAX, most: Some(most), ..options })
            }
            Asked::Concurrency(n) => {
                check_number("concurrency", n)?;
                Ok(options)
            }
            Asked::Stages(stages) => {
                let timing = if stages.is_open() {
                    Timing::Stages { stages: stages.clone(), seed }
                } else {
                    Timing::Reactive
                };
                let total = stages.total();
                let duration = options.duration.map_or(total, |time| time.min(total));
                Ok(PlanOptions { timing, rounds: u32::MAX, duration: Some(duration), ..options })
            }
            Asked::Users(n) => self.plan_users(n, options, rounds),
        }
    }

    fn plan_users(
        &self,
        n: u32,
        options: PlanOptions,
        rounds: Option<u32>,
    ) -> Result<PlanOptions, UsageError> {
        check_number("users", n)?;
        let rate = self.spawn_rate;
        if !(rate.is_finite() && rate > 0.0) {
            return Err(UsageError(format!(
                "--spawn-rate {rate} is no use: it must be a finite number of users per second above 0"
            )));
        }
        let endless = self.run_time.map(|_| u32::MAX);
        Ok(PlanOptions {
            rounds: rounds.or(endless).unwrap_or(1),
            duration: self.run_time.or(options.duration),
            ..options
        })
    }

    /// Makes the load, if one is asked for; `seed` is that of everything random.
    pub(super) fn load(&self, seed: u64) -> Option<Box<dyn Load>> {
        Some(match self.asked()? {
            Asked::Bursts(sizes) => Box::new(Bursts::new(sizes.to_vec(), self.burst_pause)),
            Asked::Concurrency(concurrency) => Box::new(ClosedLoop { concurrency }),
            Asked::Stages(stages) if stages.is_open() => return None,
            Asked::Stages(stages) => Box::new(Steps::new(stages.clone(), seed)),
            Asked::Users(n) => Box::new(Users::new(n, self.spawn_rate, self.think, seed)),
        })
    }

    /// Returns what is to come of targets that refuse everything.
    pub(super) fn refusals(&self) -> Refusals {
        if self.keep_going { Refusals::ignored() } else { Refusals::watched() }
    }

    /// Returns how many requests it may release at once.
    pub(super) fn peak(&self) -> u64 {
        match self.asked() {
            Some(Asked::Bursts(sizes)) => sizes.iter().copied().max().unwrap_or(0).into(),
            Some(Asked::Concurrency(n) | Asked::Users(n)) => n.into(),
            Some(Asked::Stages(stages)) => stages.peak().into(),
            None => 0,
        }
    }

    /// Says when a release is due, in words; none for a load whose due times are known before.
    pub(super) fn due_words(&self) -> Option<String> {
        Some(match self.asked()? {
            Asked::Bursts(sizes) => {
                let sizes: Vec<String> = sizes.iter().map(ToString::to_string).collect();
                format!(
                    "with its burst ({}), {} s after the burst before has ended",
                    sizes.join(", "),
                    self.burst_pause.as_secs_f64()
                )
            }
            Asked::Concurrency(n) => format!("when fewer than {n} are in flight"),
            Asked::Stages(stages) if stages.is_open() => return None,
            Asked::Stages(stages) => format!("by its stage ({stages})"),
            Asked::Users(n) => format!(
                "when the next of {n} users, who come {} a second, has thought ({})",
                self.spawn_rate, self.think
            ),
        })
    }

    /// Puts the options in, by flag.
    pub(super) fn describe(&self, options: &mut Map<String, Value>) {
        let mut put = |flag: &str, value: Value| options.insert(flag.to_owned(), value);
        put("keep-going", json!(self.keep_going));
        match self.asked() {
            Some(Asked::Bursts(sizes)) => {
                put("bursts", json!(sizes));
                put("burst-pause", json!(self.burst_pause.as_secs_f64()));
            }
            Some(Asked::Concurrency(n)) => {
                put("concurrency", json!(n));
            }
            Some(Asked::Stages(stages)) => {
                put("stages", json!(stages.to_string()));
            }
            Some(Asked::Users(n)) => {
                put("users", json!(n));
                put("spawn-rate", json!(self.spawn_rate));
                put("run-time", json!(self.run_time.map(|time| time.as_secs_f64())));
                put("think", json!(self.think.to_string()));
            }
            None => {}
        }
    }

    fn asked(&self) -> Option<Asked<'_>> {
        let bursts = self.bursts.as_deref().map(Asked::Bursts);
        let concurrency = self.concurrency.map(Asked::Concurrency);
        let stages = self.stages.as_ref().map(Asked::Stages);
        bursts.or(concurrency).or(stages).or_else(|| self.users.map(Asked::Users))
    }
}

/// Checks a number of requests or users.
fn check_number(flag: &str, number: u32) -> Result<(), UsageError> {
    match number {
        0 => Err(UsageError(format!("--{flag} 0 would send nothing: say at least 1"))),
        1..=MOST => Ok(()),
        _ => Err(UsageError(format!(
            "--{flag} {number} is more than the {MOST} connections that a machine can hold to a target"
        ))),
    }
}
