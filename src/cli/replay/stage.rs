//! One run of a plan, as often as a command asks for it: everything from the plan to a finished run folder.

use std::cell::OnceCell;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::clock::{Clock, Nanos};
use crate::dialect::first_difference;
use crate::replay::balance::Balancer;
use crate::replay::feeder::Fetch;
use crate::replay::known::Known;
use crate::replay::ledger::{self, Desk, Entry, Ledger};
use crate::replay::memo::Memos;
use crate::replay::plan::{Plan, Totals};
use crate::replay::progress::Progress;
use crate::replay::rewrite::Rewrite;
use crate::replay::route::RouteOptions;
use crate::replay::row::Compare;
use crate::replay::run::{self, Ran, Setup, Stop};
use crate::replay::summary::Summary;
use crate::replay::survey::Survey;
use crate::replay::verdict::{Evidence, Reason, Weight, reasons, verdict};
use crate::results::RunWriter;
use crate::results::manifest::{
    Calibration, ConnectRtt, Instrument, Manifest, Target, TraceIdentity,
};
use crate::results::recorded::output_text;
use crate::results::slo::Judgement;
use crate::telemetry;
use crate::trace::Trace;
use crate::trace::record::ExchangeId;

use super::super::signals::Signals;
use super::args::{LEAD, LEAD_LEAST, ReplayArgs};
use super::output;
use super::show::Show;

/// What all runs of one command have in common.
pub(super) struct Stage<'a> {
    args: &'a ReplayArgs,
    trace: Trace,
    identity: TraceIdentity,
    known: Arc<Vec<Known>>,
    memos: Arc<Memos>,
    versions: (bool, bool),
    rewrite: Rewrite,
    /// Whether a run ends as soon as it can't keep its objectives any more.
    until_lost: bool,
    /// What this machine can do: found out before the first run.
    calibration: OnceCell<Option<Calibration>>,
}

/// A run that has ended, its folder closed.
pub(super) struct Ended {
    pub(super) manifest: Manifest,
    pub(super) summary: Summary,
    pub(super) ran: Ran,
}

/// Finds recorded outputs in the trace.
struct Recorded {
    trace: Trace,
}

// === impl Stage ===

impl<'a> Stage<'a> {
    /// Makes a stage for runs of `trace`, of which `survey` tells what can be sent.
    pub(super) fn new(
        args: &'a ReplayArgs,
        trace: &Trace,
        survey: Survey,
        rewrite: Rewrite,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            args,
            trace: trace.sibling(),
            identity: identity(&args.trace, trace)?,
            known: Arc::new(survey.known),
            memos: survey.memos,
            versions: survey.versions,
            rewrite,
            until_lost: false,
            calibration: OnceCell::new(),
        })
    }

    /// Returns the stage for a step of a search, with arguments of its own: it ends as soon as it can't keep its objectives any
    /// more.
    pub(super) fn at<'b>(&self, args: &'b ReplayArgs) -> Stage<'b> {
        Stage {
            args,
            trace: self.trace.sibling(),
            identity: self.identity.clone(),
            known: Arc::clone(&self.known),
            memos: Arc::clone(&self.memos),
            versions: self.versions,
            rewrite: self.rewrite.clone(),
            until_lost: true,
            // Each load has a calibration of its own.
            calibration: OnceCell::new(),
        }
    }

    /// Runs `plan` into the new folder `out`.
    ///
    /// # Errors
    /// A target can't be reached or refuses everything, or the folder can't be written.
    pub(super) fn run(&self, plan: &Plan, out: &Path) -> anyhow::Result<Ended> {
        let args = self.args;
        let totals = plan.totals();
        let peak = args.load.peak().max(args.clock.peak(&self.known));
        let route = args.route(totals.peak_per_instant.max(peak))?;
        let spin = Duration::from_micros(args.when.spin_us);
        let balancer = args.balancer()?;
        let tried = run::preflight(&args.origins(), &route, self.versions)?;
        let targets = self.describe_targets(&route)?;
        let calibration = *self.calibration.get_or_init(|| args.measure.calibrate(&totals, spin));
        let (sent, compared) = (self.trace.sibling(), self.trace.sibling());
        let signals = Signals::listen()?;

        let clock = Clock::start();
        let mut manifest = Manifest { calibration, ..self.manifest(clock, targets) };
        let writer = RunWriter::create(out, &manifest)?;
        let progress = Arc::new(Progress::default());
        let (ledger, bookkeeper) = ledger::start(Desk {
            run: manifest.run.clone(),
            clock,
            writer,
            known: Arc::clone(&self.known),
            compare: Recorded { trace: compared },
            progress: Arc::clone(&progress),
            hold: args.judge.hold(self.planned(&totals))?,
            warmup: args.scale.warmup,
            refusals: args.load.refusals(),
            first: Nanos::ZERO,
        })?;
        let samples = ledger.clone();
        let sampling = telemetry::start(&args.telemetry.options(), clock, move |sample| {
            samples.sample(sample)
        });
        manifest.gpus.clone_from(&sampling.gpus);
        manifest.telemetry.clone_from(&sampling.notes);
        // Samplers may have taken their time to start.
        let lead = lead_after(clock.now());
        let plan = plan.clone().with_lead(lead);
        ledger.put(Entry::Begin(Nanos::from(lead)));
        let setup = self.setup(fetch(sent), plan, balancer, route);
        let stop = run::stop(&setup);
        let ran = watched(setup, clock, &ledger, &stop, &progress, totals, signals);
        manifest.telemetry_doubts = sampling.stop();
        let books = bookkeeper.finish()?;
        let ran = ran?;
        manifest.instrument = instrument(&ran, &books.summary, ledger.dropped_samples());
        for ((target, tried), connects) in manifest.targets.iter_mut().zip(tried).zip(&ran.connects)
        {
            target.connect_rtt = ConnectRtt::of([tried, connects.clone()].concat());
        }
        manifest.slo = judge(&ledger, &books.summary, self.planned(&totals));
        let is_lost = manifest.slo.as_ref().is_some_and(|slo| slo.lost.is_some());
        manifest.interrupted = stop.is_pulled() && !is_lost;
        fill(&mut manifest, &ran, &books.summary, &totals);
        manifest.counts.planned *= args.copies();
        books.writer.finish(manifest.clone())?;
        if let Some(refusal) = ledger.refusal() {
            anyhow::bail!("{refusal}; the answers so far are in {}", out.display());
        }
        Ok(Ended { manifest, summary: books.summary, ran })
    }

    /// Returns how many requests are planned, where that is known and the run is to end when they can't keep its objectives.
    fn planned(&self, totals: &Totals) -> Option<u64> {
        let is_known = self.until_lost && !totals.open_end;
        is_known.then(|| totals.releases.saturating_mul(self.args.copies()))
    }

    fn setup(&self, fetch: Fetch, plan: Plan, balancer: Balancer, route: RouteOptions) -> Setup {
        let args = self.args;
        let live = args.clock.live(&self.known[..plan.entries().min(self.known.len())]);
        let paced = args.clock.load(&self.known, &plan, args.speed());
        let load = paced.or_else(|| args.load.load(args.when.seed));
        Setup {
            fetch,
            known: Arc::clone(&self.known),
            memos: Arc::clone(&self.memos),
            versions: self.versions,
            plan,
            load,
            live,
            rewrite: self.rewrite.clone(),
            balancer,
            targets: args.origins(),
            route,
            limits: args.limits(),
            connections: args.client.connections,
            aborts: args.client.aborts(),
            read_pace: args.client.read_pace,
            spin: Duration::from_micros(args.when.spin_us),
            ahead_bytes: args.how.ahead.max(1) << 20,
        }
    }

    /// Returns what is known of the targets before anything is sent.
    fn describe_targets(&self, route: &RouteOptions) -> anyhow::Result<Vec<Target>> {
        if self.args.how.probe {
            return Ok(run::probe(&self.args.origins(), route, &self.rewrite)?);
        }
        let urls = self.args.origins().into_iter().map(|origin| origin.to_string());
        Ok(urls.map(|url| Target { url, ..Target::default() }).collect())
    }

    fn manifest(&self, clock: Clock, targets: Vec<Target>) -> Manifest {
        let mut manifest = Manifest::begin(clock.anchor());
        (manifest.host, manifest.clock_source) = telemetry::machine(Path::new("/"));
        manifest.trace = self.identity.clone();
        manifest.seed = self.args.when.seed;
        manifest.targets = targets;
        manifest.options = self.args.options();
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
    let showing = Show::start(totals, Arc::clone(progress), clock);
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

/// Returns what the program measured of itself.
fn instrument(ran: &Ran, summary: &Summary, dropped_samples: u64) -> Instrument {
    let cpus = |cpu: Option<Duration>| {
        let elapsed = ran.end.as_secs_f64();
        Some(cpu?.as_secs_f64() / elapsed).filter(|_| elapsed > 0.0)
    };
    Instrument {
        dispatch: summary.dispatch.quantiles(),
        stalls: ran.stalls.quantiles(),
        process_cpus: cpus(ran.process_cpu),
        calls_cpus: cpus(ran.calls_cpu),
        cpu_wait_ns: ran.cpu_wait.map(|wait| Nanos::from(wait).as_i64()),
        clock_step_ns: Nanos::from(ran.clock_step).as_i64(),
        starved: ran.paced.starved,
        dropped_samples,
    }
}

/// Judges the run by the objectives that it was held to, if any.
fn judge(ledger: &Ledger, summary: &Summary, planned: Option<u64>) -> Option<Judgement> {
    let meter = summary.meter.as_ref()?;
    let lost = planned.filter(|_| ledger.is_lost()).and_then(|planned| meter.lost(planned));
    Some(Judgement { lost: lost.map(ToString::to_string), ..meter.judge() })
}

/// Fills in what is known when the run is over, and gives the verdict.
fn fill(manifest: &mut Manifest, ran: &Ran, summary: &Summary, totals: &Totals) {
    manifest.duration_s = ran.end.as_secs_f64();
    manifest.sent_digest = ran.paced.digest.hex();
    manifest.counts = summary.counts;
    let planned =
        if totals.open_end { ran.paced.released + ran.fed.unsendable } else { totals.releases };
    manifest.counts.planned = planned;
    manifest.lateness = summary.lateness.quantiles();
    manifest.output_pinned.clone_from(&summary.pinned);
    manifest.answers = summary.answers.clone();
    for target in &mut manifest.targets {
        if let Some(tally) = summary.targets.get(&target.url) {
            target.server.clone_from(&tally.server);
            target.results = tally.results();
        }
    }
    let evidence = Evidence {
        planned,
        released: ran.paced.released,
        unsendable: ran.fed.unsendable,
        interrupted: manifest.interrupted,
        answered: summary.answered,
        lateness_p99: summary.lateness.quantile(0.99).map(Duration::from_nanos),
        median_gap: totals.median_gap,
        starved: ran.paced.starved,
        starved_most: ran.paced.starved_most,
        held_back: ran.fed.held_back,
        cpu_wait: ran.cpu_wait,
        clock_step: ran.clock_step,
        calibrated_p99: manifest.calibration.map(|found| nanos(found.jitter.late.p99_ns)),
        dispatch_p99: summary.dispatch.quantile(0.99).map(Duration::from_nanos),
        stall_p99: ran.stalls.quantile(0.99).map(Duration::from_nanos),
        stall_most: Duration::from_nanos(ran.stalls.max().unwrap_or(0)),
        calls_cpus: manifest.instrument.calls_cpus,
        dropped_samples: manifest.instrument.dropped_samples,
    };
    let reasons = reasons(&evidence);
    manifest.verdict = verdict(&reasons);
    let (grave, doubts): (Vec<Reason>, _) =
        reasons.into_iter().partition(|reason| reason.weight() == Weight::Invalidates);
    manifest.reasons = grave.iter().map(ToString::to_string).collect();
    manifest.doubts = doubts.iter().map(ToString::to_string).collect();
}

fn nanos(ns: i64) -> Duration {
    Duration::from_nanos(ns.max(0).cast_unsigned())
}

fn identity(path: &Path, trace: &Trace) -> anyhow::Result<TraceIdentity> {
    let id = trace.header().trace.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(TraceIdentity {
        path: path.display().to_string(),
        id,
        digest: trace.digest()?,
        exchanges: trace.exchanges() as u64,
        complete: trace.health().complete,
    })
}

/// Reads requests from the trace.
pub(super) fn fetch(mut trace: Trace) -> Fetch {
    Box::new(move |id| match trace.request(id) {
        Ok(Some(exchange)) => {
            let body: Bytes = exchange.request_body();
            Ok((exchange.request, body))
        }
        Ok(None) => Err(format!("exchange {} can't be read back from the trace", id.0)),
        Err(error) => Err(format!("exchange {} can't be read: {error}", id.0)),
    })
}
