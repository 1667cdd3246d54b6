//! The clock of sessions: what a later turn waits for.

use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};

use crate::cli::UsageError;
use crate::replay::history::Live;
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
    /// Whose answers later turns of a chat have in their messages; live needs --clock session or hybrid
    #[arg(long, value_name = "HISTORY", env = "REENACT_HISTORY", default_value = "recorded")]
    history: HistoryArg,
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

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum HistoryArg {
    /// The recorded ones: the same bytes in every run
    Recorded,
    /// The target's own, where they can take the place of the recorded ones; the column `history` says where
    Live,
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

    /// Checks that there is one answer to each turn, and that it is there before the next one; `copies` go out of each request.
    ///
    /// # Errors
    /// There is none, or more than one.
    pub(super) fn check(&self, copies: u64) -> Result<(), UsageError> {
        let wrong = |why: &str| Err(UsageError(format!("--history live {why}")));
        match (self.history, self.clock) {
            (HistoryArg::Live, ClockArg::Open) => wrong(
                "needs --clock session or hybrid: a turn has to wait for the answer that it is to go on from",
            ),
            (HistoryArg::Live, _) if copies > 1 => wrong(
                "cannot be used with --mirror: each target would go on from an answer of its own",
            ),
            (HistoryArg::Live | HistoryArg::Recorded, _) => Ok(()),
        }
    }

    /// Returns what keeps the target's answers, if they are to be gone on from.
    pub(super) fn live(&self, known: &[Known]) -> Option<Live> {
        (self.history == HistoryArg::Live).then(|| Live::new(known))
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
        let is_live = self.history == HistoryArg::Live;
        options.insert("history".to_owned(), json!(if is_live { "live" } else { "recorded" }));
    }

    fn clock(&self) -> Option<Clock> {
        match self.clock {
            ClockArg::Open => None,
            ClockArg::Session => Some(Clock::Session),
            ClockArg::Hybrid => Some(Clock::Hybrid),
        }
    }
}
