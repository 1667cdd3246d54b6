//! `reenact replay`: from a trace and its options to a run folder.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;

use crate::clock::{Clock, Nanos};
use crate::dialect::first_difference;
use crate::replay::feeder::{Aborts, Fetch};
use crate::replay::ledger::{self, Desk, Ledger};
use crate::replay::plan::{Plan, PlanError, PlanOptions, Totals, plan};
use crate::replay::progress::Progress;
use crate::replay::rewrite::Rewrite;
use crate::replay::route::RouteOptions;
use crate::replay::row::Compare;
use crate::replay::run::{self, Ran, Setup, Stop};
use crate::replay::summary::Summary;
use crate::replay::survey::{Survey, survey};
use crate::replay::verdict::{Evidence, doubts};
use crate::results::RunWriter;
use crate::results::manifest::{Manifest, Target, TraceIdentity, Verdict};
use crate::results::recorded::output_text;
use crate::telemetry;
use crate::trace::record::{BodyMode, ExchangeId, PolicyMark};
use crate::trace::{ReadOptions, Trace};

use super::signals::Signals;
use super::{Outcome, UsageError};
use args::{LEAD, LEAD_LEAST};

mod args;
mod output;

pub(super) use args::ReplayArgs;

/// Finds recorded outputs in the trace.
struct Recorded {
    trace: Trace,
}

pub(super) fn run(args: ReplayArgs) -> anyhow::Result<Outcome> {
    let rewrite = args.rewrite()?;
    check(&args.plan_options())?;
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
    let survey = survey(trace.scan()?, &args.what.filter, trace.header().anchor)?;
    output::left_out(&survey.left_out);
    let starts: Vec<_> = survey.known.iter().map(|known| known.at).collect();
    let plan = plan(&starts, args.plan_options()).map_err(|error| args.explain(error, &survey))?;
    if args.dry_run {
        return output::dry_run(
            &args.targets(),
            &plan,
            &survey.known,
            fetch(trace),
            &rewrite,
            args.json,
        );
    }
    args.replay(trace, &options, survey, plan, rewrite)
}

// === impl ReplayArgs ===

impl ReplayArgs {
    fn replay(
        &self,
        trace: Trace,
        options: &ReadOptions,
        survey: Survey,
        plan: Plan,
        rewrite: Rewrite,
    ) -> anyhow::Result<Outcome> {
        let out = self.out.clone().context("--out is missing")?;
        let totals = plan.totals();
        let route = self.route(totals.peak_per_instant)?;
        let known: Arc<[_]> = survey.known.into();
        let identity = identity(&self.trace, &trace)?;
        let compare = Recorded { trace: Trace::open_with(&self.trace, options)? };
        run::preflight(&self.target, &route, &known)?;
        let targets = self.describe_targets(&route, &rewrite)?;
        let signals = Signals::listen()?;

        let clock = Clock::start();
        let mut manifest = self.manifest(clock, identity, targets);
        let writer = RunWriter::create(&out, &manifest)?;
        let progress = Arc::new(Progress::default());
        let (ledger, bookkeeper) = ledger::start(Desk {
            run: manifest.run.clone(),
            clock,
            writer,
            known: Arc::clone(&known),
            compare,
            progress: Arc::clone(&progress),
        })?;
        let samples = ledger.clone();
        let sampling = telemetry::start(&self.telemetry.options(), clock, move |sample| {
            samples.sample(sample)
        });
        manifest.gpus.clone_from(&sampling.gpus);
        manifest.telemetry.clone_from(&sampling.notes);
        let setup = Setup {
            fetch: fetch(trace),
            known,
            // Samplers may have taken their time to start.
            plan: plan.with_lead(lead_after(clock.now())),
            rewrite,
            targets: self.target.clone(),
            route,
            limits: self.limits(),
            aborts: if self.what.no_abort { Aborts::Ignore } else { Aborts::Reenact },
            spin: Duration::from_micros(self.when.spin_us),
            ahead_bytes: self.how.ahead.max(1) << 20,
        };
        let stop = run::stop(&setup);
        let ran = watched(setup, clock, &ledger, &stop, &progress, totals, signals);
        manifest.telemetry_doubts = sampling.stop();
        let books = bookkeeper.finish()?;
        let ran = ran?;
        manifest.interrupted = stop.is_pulled();
        fill(&mut manifest, &ran, &books.summary, &totals);
        books.writer.finish(manifest.clone())?;
        output::summary(&out, &manifest, &books.summary, &ran, self.json)?;
        Ok(match manifest.verdict {
            Verdict::Valid => Outcome::Done,
            Verdict::Invalid => Outcome::Loss,
        })
    }

    /// Returns what is known of the targets before anything is sent.
    fn describe_targets(
        &self,
        route: &RouteOptions,
        rewrite: &Rewrite,
    ) -> anyhow::Result<Vec<Target>> {
        if self.how.probe {
            return Ok(run::probe(&self.target, route, rewrite)?);
        }
        Ok(self.targets().into_iter().map(|url| Target { url, ..Target::default() }).collect())
    }

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

    fn manifest(&self, clock: Clock, trace: TraceIdentity, targets: Vec<Target>) -> Manifest {
        let mut manifest = Manifest::begin(clock.anchor());
        (manifest.host, manifest.clock_source) = telemetry::machine(Path::new("/"));
        manifest.trace = trace;
        manifest.seed = self.when.seed;
        manifest.targets = targets;
        manifest.options = self.options();
        manifest
    }
}

// === impl Recorded ===

impl Compare for Recorded {
    fn differs_at(&mut self, exchange: ExchangeId, text: &str) -> Option<u64> {
        // What can't be read was said when the trace was surveyed.
        let recorded = self.trace.exchange(exchange).ok().flatten()?;
        first_difference(&output_text(&recorded), text)
    }
}

/// Checks the plan's options before a large trace is read for nothing.
fn check(options: &PlanOptions) -> anyhow::Result<()> {
    plan(&[Nanos::ZERO], options.clone())
        .map(drop)
        .map_err(|error| UsageError(error.to_string()).into())
}

/// Runs it, shows how far it is, and stops it at a signal.
fn watched(
    setup: Setup,
    clock: Clock,
    ledger: &Ledger,
    stop: &Stop,
    progress: &Arc<Progress>,
    totals: Totals,
    signals: Signals,
) -> anyhow::Result<Ran> {
    let on_signal = stop.clone();
    let watching = signals.watch(move || {
        output::say("Stopping: what is in flight is given up. Once more to leave at once.");
        on_signal.pull();
    })?;
    let showing = output::Show::start(totals, Arc::clone(progress), clock);
    let ran = run::run(setup, clock, ledger, stop, progress);
    showing.finish();
    drop(watching);
    Ok(ran?)
}

/// Returns when the first release is due when it is `now`: at a multiple of [`LEAD`], so that it is the same in every run
/// that did not take unusually long to begin.
fn lead_after(now: Nanos) -> Duration {
    let earliest = Duration::from_nanos(now.0) + LEAD_LEAST;
    let leads = earliest.as_nanos().div_ceil(LEAD.as_nanos());
    LEAD * u32::try_from(leads).unwrap_or(1)
}

/// Fills in what is known when the run is over, and gives the verdict.
fn fill(manifest: &mut Manifest, ran: &Ran, summary: &Summary, totals: &Totals) {
    manifest.duration_s = ran.end.as_secs_f64();
    manifest.sent_digest = ran.paced.digest.hex();
    manifest.counts = summary.counts;
    manifest.counts.planned = totals.releases;
    manifest.lateness = summary.lateness();
    for target in &mut manifest.targets {
        target.server = summary.targets.get(&target.url).and_then(|tally| tally.server.clone());
    }
    let evidence = Evidence {
        planned: totals.releases,
        released: ran.paced.released,
        unsendable: ran.fed.unsendable,
        interrupted: manifest.interrupted,
        answered: summary.answered,
        lateness_p99: summary.lateness.quantile(0.99).map(Duration::from_nanos),
        median_gap: totals.median_gap,
        starved: ran.paced.starved,
        starved_most: ran.paced.starved_most,
        cpu_wait: ran.cpu_wait,
        clock_step: ran.clock_step,
    };
    manifest.reasons = doubts(&evidence).iter().map(ToString::to_string).collect();
    manifest.verdict = if manifest.reasons.is_empty() { Verdict::Valid } else { Verdict::Invalid };
}

fn identity(path: &Path, trace: &Trace) -> anyhow::Result<TraceIdentity> {
    let id = trace.header().trace.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(TraceIdentity {
        path: path.display().to_string(),
        id,
        digest: trace.digest()?,
        exchanges: trace.entries().len() as u64,
        complete: trace.health().complete,
    })
}

/// Reads requests from the trace.
fn fetch(mut trace: Trace) -> Fetch {
    Box::new(move |id| match trace.request(id) {
        Ok(Some(exchange)) => {
            let body: Bytes = exchange.request_body();
            Ok((exchange.request, body))
        }
        Ok(None) => Err(format!("exchange {} can't be read back from the trace", id.0)),
        Err(error) => Err(format!("exchange {} can't be read: {error}", id.0)),
    })
}
