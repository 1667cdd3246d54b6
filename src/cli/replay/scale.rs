//! What is replayed of what was recorded: sessions, shares, copies, shorter gaps.

use std::time::Duration;

use clap::Args;
use serde_json::{Map, Value, json};

use crate::replay::known::Known;
use crate::replay::plan::Plan;
use crate::replay::scale::{MILLION, Scale, ScaleError, scale};
use crate::replay::session_key::SessionKeys;
use crate::replay::survey::Survey;
use crate::replay::warmup::Warmup;

use crate::cli::UsageError;
use crate::cli::share::share;

use super::args::time;

/// What of the load is replayed
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Sessions and scale")]
pub(super) struct ScaleArgs {
    /// What tells sessions apart, the first that a request has: header:NAME, conversation, previous_response_id, messages
    /// (which grow from turn to turn), user; auto: all of these in this order; none: every request alone
    #[arg(long, value_name = "KEYS", env = "REENACT_SESSION_KEY", default_value = "auto")]
    pub(super) session_key: SessionKeys,
    /// Replay this share of the sessions, such as 0.1 or 10%, whole; --seed chooses which
    #[arg(long, value_name = "SHARE", env = "REENACT_SAMPLE", default_value = "1", value_parser = some_share)]
    sample: u32,
    /// Play each session N times: 2 adds a copy of each, whose requests get a short prefix of the copy's own, so that prefix
    /// caches don't take them for the recorded ones
    #[arg(long, value_name = "N", env = "REENACT_CLONE", default_value_t = 1)]
    clone: u32,
    /// Start copies of sessions up to so much later, as --seed draws it
    #[arg(long, value_name = "TIME", env = "REENACT_CLONE_SHIFT", default_value = "10s", value_parser = time)]
    clone_shift: Duration,
    /// Cut longer gaps between recorded starts, and longer think times, to this
    #[arg(long, value_name = "TIME", env = "REENACT_IDLE_CAP", value_parser = time)]
    idle_cap: Option<Duration>,
    /// Spread starts that are equal, since a clock was coarse, evenly over so many milliseconds, but not beyond the next start
    #[arg(long, value_name = "MS", env = "REENACT_SPREAD_TIES")]
    spread_ties: Option<u64>,
    /// Mark the first N requests, or those due within the first TIME (with its unit: 30s), as warm-up: their rows are kept, and
    /// left out of summaries and reports
    #[arg(long, value_name = "N|TIME", env = "REENACT_WARMUP", default_value = "0")]
    pub(super) warmup: Warmup,
}

// === impl ScaleArgs ===

impl ScaleArgs {
    /// Checks what can be checked without a trace.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        scale(Vec::new(), &self.options(0))
            .map(drop)
            .map_err(|error| UsageError(error.to_string()).into())
    }

    /// Returns what is replayed of a trace.
    pub(super) fn scale(&self, survey: &mut Survey, seed: u64) -> anyhow::Result<()> {
        if self.session_key.is_chosen() && survey.sessions == 0 && !survey.known.is_empty() {
            anyhow::bail!(
                "--session-key {} finds no session: none of the {} exchanges has one by it",
                self.session_key,
                survey.known.len()
            );
        }
        let known: Vec<Known> = std::mem::take(&mut survey.known);
        survey.known = scale(known, &self.options(seed)).map_err(|error: ScaleError| {
            anyhow::Error::new(error).context("can't scale the load")
        })?;
        Ok(())
    }

    /// Checks that something is left to measure.
    pub(super) fn check_warmup(&self, plan: &Plan) -> anyhow::Result<()> {
        if self.warmup == Warmup::None {
            return Ok(());
        }
        let totals = plan.totals();
        // How long a reactive load goes on is known after the run.
        if plan.is_reactive() && matches!(self.warmup, Warmup::Time(_)) {
            return Ok(());
        }
        let span = totals.last.since(totals.first);
        if totals.releases > 0 && self.warmup.holds(totals.releases - 1, span) {
            anyhow::bail!(
                "a warm-up of {} leaves nothing to measure: the plan has {} requests in {:.3} s",
                self.warmup,
                totals.releases,
                span.as_secs_f64()
            );
        }
        Ok(())
    }

    /// Puts the options into a manifest's.
    pub(super) fn put(&self, options: &mut Map<String, Value>) {
        let seconds = |time: Duration| json!(time.as_secs_f64());
        let share = f64::from(self.sample) / f64::from(MILLION);
        for (flag, value) in [
            ("session-key", json!(self.session_key.to_string())),
            ("sample", json!(share)),
            ("clone", json!(self.clone)),
            ("clone-shift", seconds(self.clone_shift)),
            ("idle-cap", json!(self.idle_cap.map(|time| time.as_secs_f64()))),
            ("spread-ties", json!(self.spread_ties)),
            ("warmup", json!(self.warmup.to_string())),
        ] {
            options.insert(flag.to_owned(), value);
        }
    }

    fn options(&self, seed: u64) -> Scale {
        Scale {
            sample_ppm: self.sample,
            clones: self.clone,
            clone_shift: self.clone_shift,
            idle_cap: self.idle_cap,
            spread_ties: self.spread_ties.map(Duration::from_millis),
            seed,
        }
    }
}

/// Reads a share of something.
fn some_share(text: &str) -> Result<u32, String> {
    match share(text)? {
        0 => Err("a share of 0 leaves nothing to replay".to_owned()),
        ppm => Ok(ppm),
    }
}
