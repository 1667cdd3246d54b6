//! The clock of sessions: what a later turn waits for.

use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};

use crate::cli::UsageError;
use crate::replay::known::Known;
use crate::replay::load::Load;
use crate::replay::load::sessions::{Clock, SessionOptions, Sessions};
use crate::replay::plan::{Plan, PlanError, PlanOptions, Timing};

/// What a turn waits for
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Load")]
pub(super) struct ClockArgs {
    /// What a later turn of a session waits for; its first turn is sent at its recorded time, and --speed divides all of it
    #[arg(long, value_name = "CLOCK", env = "REENACT_CLOCK", default_value = "open")]
    clock: ClockArg,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ClockArg {
    /// Nothing: every exchange is sent when it is due
    Open,
    /// The end of the turn before it, plus the recorded think time
    Session,
    /// That or its recorded time, whichever is later
    Hybrid,
}

// === impl ClockArgs ===

impl ClockArgs {
    /// Returns whether turns wait for others.
    pub(super) fn is_given(&self) -> bool {
        self.clock().is_some()
    }

    /// Returns the plan's options as the clock needs them.
    ///
    /// # Errors
    /// The speed is no use.
    pub(super) fn plan(&self, options: PlanOptions, speed: f64) -> Result<PlanOptions, UsageError> {
        if !self.is_given() {
            return Ok(options);
        }
        if !(speed.is_finite() && speed > 0.0) {
            return Err(UsageError(PlanError::Speed(speed).to_string()));
        }
        Ok(PlanOptions { timing: Timing::Reactive, ..options })
    }

    /// Makes the load, if turns wait for others.
    pub(super) fn load(&self, known: &[Known], plan: &Plan, speed: f64) -> Option<Box<dyn Load>> {
        let clock = self.clock()?;
        let options = SessionOptions { clock, speed, rounds: plan.rounds(), period: plan.period() };
        let known = &known[..plan.entries().min(known.len())];
        Some(Box::new(Sessions::new(known, options)))
    }

    /// Returns how many requests it may release at once: one of each session.
    pub(super) fn peak(&self, known: &[Known]) -> u64 {
        let last = known.iter().map(|known| known.turn.session).max();
        last.filter(|_| self.is_given()).map_or(0, |last| u64::from(last) + 1)
    }

    /// Says when a release is due, in words; none where due times are known before.
    pub(super) fn due_words(&self) -> Option<String> {
        let words = match self.clock()? {
            Clock::Session => "when the turn before it has ended, plus the recorded think time",
            Clock::Hybrid => {
                "when the turn before it has ended, plus the recorded think time, and not before its recorded time"
            }
        };
        Some(words.to_owned())
    }

    /// Puts the option in, by flag.
    pub(super) fn describe(&self, options: &mut Map<String, Value>) {
        let name = match self.clock {
            ClockArg::Open => "open",
            ClockArg::Session => "session",
            ClockArg::Hybrid => "hybrid",
        };
        options.insert("clock".to_owned(), json!(name));
    }

    fn clock(&self) -> Option<Clock> {
        match self.clock {
            ClockArg::Open => None,
            ClockArg::Session => Some(Clock::Session),
            ClockArg::Hybrid => Some(Clock::Hybrid),
        }
    }
}
