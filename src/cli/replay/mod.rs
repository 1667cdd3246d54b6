//! `reenact replay`: from a trace and its options to a run folder.

use anyhow::Context as _;

use crate::clock::Nanos;
use crate::replay::plan::{PlanError, PlanOptions, plan};
use crate::replay::rewrite::Rewrite;
use crate::replay::survey::{Survey, survey};
use crate::results::manifest::Verdict;
use crate::trace::Trace;
use crate::trace::record::{BodyMode, PolicyMark};

use super::{Outcome, UsageError};
use stage::{Ended, Stage, fetch};

mod args;
mod client;
mod clock;
mod judge;
mod lengths;
mod load;
mod measure;
mod output;
mod repeat;
mod scale;
mod search;
mod show;
mod stage;
mod stages;
mod targets;

pub(super) use args::{DEFAULT_SPIN_US, ReplayArgs};

pub(super) fn run(args: ReplayArgs) -> anyhow::Result<Outcome> {
    let rewrite = args.rewrite()?;
    let balancer = args.balancer()?;
    let plan_options = args.plan_options()?;
    // A search is checked by its first step.
    let plan_options = match args.search.first_step(&args)? {
        Some(step) => step.plan_options()?,
        None => plan_options,
    };
    check(&plan_options)?;
    args.judge.slos()?;
    args.scale.check()?;
    args.clock.check(args.copies())?;
    let options = args.identity.read_options()?;
    let trace = Trace::open_with(&args.trace, &options)?;
    let policy = trace.header().policy.as_ref();
    if let Some(mode @ (BodyMode::Hash | BodyMode::None)) = policy.and_then(PolicyMark::mode) {
        anyhow::bail!(
            "{} can't be replayed: by its policy it has lengths and times of bodies but not what was in them (bodies {})",
            args.trace.display(),
            mode.as_str()
        );
    }
    let redacts_unlisted =
        policy.is_some_and(|policy| policy.only_allowed_headers || policy.only_allowed_parameters);
    let redacted = trace.header().redacted.clone();
    let rewrite = Rewrite { redacted, redacts_unlisted, ..rewrite };
    output::health(&args.trace, trace.health());
    let keys = &args.scale.session_key;
    let mut survey = survey(trace.scan()?, &args.what.filter, keys, trace.header().anchor)?;
    output::left_out(&survey.left_out);
    args.scale.scale(&mut survey, args.when.seed)?;
    let starts: Vec<_> = survey.known.iter().map(|known| known.start).collect();
    let plan = plan(&starts, plan_options).map_err(|error| args.explain(error, &survey))?;
    args.scale.check_warmup(&plan)?;
    if args.dry_run {
        return output::dry_run(
            balancer,
            &plan,
            &survey,
            fetch(trace),
            &rewrite,
            args.clock.due_words().or_else(|| args.load.due_words()).as_deref(),
            args.json,
        );
    }
    let out = args.out.clone().context("--out is missing")?;
    let stage = Stage::new(&args, &trace, survey, rewrite)?;
    drop(trace);
    if let Some(of) = args.search.search {
        return search::run(&args, of, &stage, starts, out);
    }
    drop(starts);
    if let Some(times) = args.measure.repeat {
        return repeat::run(&args, &stage, &plan, &out, times);
    }
    let Ended { manifest, summary, ran } = stage.run(&plan, &out)?;
    output::summary(&out, &manifest, &summary, &ran, args.json)?;
    let holds = args.judge.holds(&manifest);
    Ok(match manifest.verdict {
        Verdict::Valid | Verdict::Doubtful if holds => Outcome::Done,
        Verdict::Valid | Verdict::Doubtful | Verdict::Invalid => Outcome::Loss,
    })
}

// === impl ReplayArgs ===

impl ReplayArgs {
    /// Says why nothing is left, where filters took it.
    fn explain(&self, error: PlanError, survey: &Survey) -> anyhow::Error {
        match error {
            PlanError::Empty(_) if survey.left_out.filtered > 0 => {
                let filters: Vec<_> = self.what.filter.iter().map(ToString::to_string).collect();
                anyhow::anyhow!(
                    "there is nothing to replay: none of the {} exchanges in {} passes --filter {}",
                    survey.left_out.filtered,
                    self.trace.display(),
                    filters.join(" --filter ")
                )
            }
            error => {
                anyhow::Error::new(error).context(format!("can't replay {}", self.trace.display()))
            }
        }
    }
}

/// Checks the plan's options before a large trace is read for nothing.
fn check(options: &PlanOptions) -> anyhow::Result<()> {
    plan(&[Nanos::ZERO], options.clone())
        .map(drop)
        .map_err(|error| UsageError(error.to_string()).into())
}
