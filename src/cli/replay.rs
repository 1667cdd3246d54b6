//! `reenact replay`: from a trace and its options to a run folder.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use clap::Args;
use http::HeaderValue;
use serde_json::json;

use crate::clock::Clock;
use crate::dialect::first_difference;
use crate::http::tls::{Pin, Trust, client_config};
use crate::http::{Origin, Scheme};
use crate::replay::arrival::Arrival;
use crate::replay::call::Limits;
use crate::replay::feeder::{Aborts, Fetch};
use crate::replay::filter::Filter;
use crate::replay::ledger::{self, Desk};
use crate::replay::plan::{Plan, PlanError, PlanOptions, Timing, plan};
use crate::replay::progress::Progress;
use crate::replay::rewrite::{self, ModelMap, Rewrite};
use crate::replay::route::{RouteOptions, Speak};
use crate::replay::row::Compare;
use crate::replay::run::{self, Ran, Setup};
use crate::replay::splice;
use crate::replay::summary::Summary;
use crate::replay::survey::{Survey, survey};
use crate::replay::verdict::{Evidence, doubts};
use crate::results::RunWriter;
use crate::results::manifest::{Manifest, Target, TraceIdentity, Verdict};
use crate::results::recorded::output_text;
use crate::telemetry;
use crate::trace::Trace;
use crate::trace::record::ExchangeId;

use super::replay_output as output;
use super::signals::Signals;
use super::telemetry::TelemetryArgs;
use super::{Outcome, UsageError};

/// Reissue a trace and write a run
///
/// Each exchange is sent when it is due, whatever the ones before it do (an open loop), to the targets in turn. Exit
/// status: 0 done, 1 failed, 2 usage, 3 done but the measurement is INVALID.
#[derive(Clone, Debug, Args)]
pub(super) struct ReplayArgs {
    /// Trace to replay: a file, or a folder of segments
    trace: PathBuf,
    /// Base URL to send to; repeatable, the targets take turns in the order named
    #[arg(
        long,
        value_name = "URL",
        env = "REENACT_TARGET",
        value_delimiter = ',',
        required = true
    )]
    target: Vec<Origin>,
    /// Folder to write; it must not hold a run
    #[arg(long, value_name = "DIR", env = "REENACT_OUT", required_unless_present = "dry_run")]
    out: Option<PathBuf>,
    /// Print what would be sent, and send nothing
    #[arg(long, env = "REENACT_DRY_RUN")]
    dry_run: bool,
    /// Print JSON: of a dry run a line for each release, of a run its manifest
    #[arg(long, env = "REENACT_JSON")]
    json: bool,
    #[command(flatten)]
    when: WhenArgs,
    #[command(flatten)]
    what: WhatArgs,
    #[command(flatten)]
    how: HowArgs,
    #[command(flatten)]
    telemetry: TelemetryArgs,
}

/// When exchanges are sent
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "When")]
struct WhenArgs {
    /// Divide recorded times by this: 2 is twice as fast
    #[arg(
        long,
        value_name = "F",
        env = "REENACT_SPEED",
        default_value_t = 1.0,
        conflicts_with = "rate"
    )]
    speed: f64,
    /// Send so many requests a second instead of at recorded times
    #[arg(long, value_name = "R", env = "REENACT_RATE")]
    rate: Option<f64>,
    /// How these are spread: constant, poisson or gamma:CV (coefficient of variation)
    #[arg(
        long,
        value_name = "PROCESS",
        env = "REENACT_ARRIVAL",
        default_value = "poisson",
        requires = "rate"
    )]
    arrival: Arrival,
    /// Seed of everything random
    #[arg(long, value_name = "N", env = "REENACT_SEED", default_value_t = 0)]
    seed: u64,
    /// Replay the first N exchanges only
    #[arg(long, value_name = "N", env = "REENACT_LIMIT")]
    limit: Option<u64>,
    /// Go through the trace N times; a round begins a mean gap after the last start of the one before
    #[arg(long = "loop", value_name = "N", env = "REENACT_LOOP", default_value_t = 1)]
    rounds: u32,
    /// Plan nothing that is due later than this after the first release: 30s, 5m, or seconds
    #[arg(long, value_name = "TIME", env = "REENACT_DURATION", value_parser = time)]
    duration: Option<Duration>,
    /// Microseconds before a due time to stop sleeping and spin; 0 never spins
    #[arg(long, value_name = "US", env = "REENACT_SPIN_US", default_value_t = DEFAULT_SPIN_US,
          value_parser = clap::value_parser!(u64).range(..=100_000))]
    spin_us: u64,
}

/// What is sent
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "What")]
struct WhatArgs {
    /// Replay only where KEY=VALUE or KEY!=VALUE holds; keys id, method, model, operation, outcome, path, status; `*` any
    /// text, `|` between alternatives; repeatable, all must hold
    #[arg(long, value_name = "EXPR", env = "REENACT_FILTER")]
    filter: Vec<Filter>,
    /// Rename a model in the body: OLD=NEW, or *=NEW for every model; repeatable, the first that fits counts
    #[arg(long, value_name = "OLD=NEW", env = "REENACT_MODEL_MAP", value_delimiter = ',')]
    model_map: Vec<ModelMap>,
    /// Set a value in JSON bodies: max_tokens=16, stream_options.include_usage=true, /messages/0/role=user; repeatable
    #[arg(long, value_name = "PATH=VALUE", env = "REENACT_SET")]
    set: Vec<splice::Set>,
    /// Set a header field: NAME:VALUE; repeatable
    #[arg(long, value_name = "NAME:VALUE", env = "REENACT_HEADER", hide_env_values = true, value_parser = rewrite::header)]
    header: Vec<(http::HeaderName, HeaderValue)>,
    /// Environment variable with the API key to send as a bearer token
    #[arg(long, value_name = "VAR", env = "REENACT_API_KEY_ENV")]
    api_key_env: Option<String>,
    /// Stay to the end where the recorded client had left
    #[arg(long, env = "REENACT_NO_ABORT")]
    no_abort: bool,
}

/// How targets are spoken to
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "How")]
struct HowArgs {
    /// Version of HTTP
    #[arg(long, value_name = "VERSION", env = "REENACT_HTTP", default_value = "auto",
          value_parser = speak)]
    http: Speak,
    /// Trust the authorities in this PEM file, and no others
    #[arg(long, value_name = "FILE", env = "REENACT_CA", conflicts_with = "insecure_pin")]
    ca: Option<PathBuf>,
    /// Trust the one certificate with this SHA-256 fingerprint, whatever its name, issuer and dates
    #[arg(long, value_name = "SHA256", env = "REENACT_INSECURE_PIN")]
    insecure_pin: Option<Pin>,
    /// Longest time to open a connection; 0 for no limit
    #[arg(long, value_name = "TIME", env = "REENACT_CONNECT_TIMEOUT", default_value = "10s", value_parser = time)]
    connect_timeout: Duration,
    /// Longest time without a byte from the target; 0 for no limit
    #[arg(long, value_name = "TIME", env = "REENACT_IDLE_TIMEOUT", default_value = "10m", value_parser = time)]
    idle_timeout: Duration,
    /// Longest time from a request to the end of its response; 0 for no limit
    #[arg(long, value_name = "TIME", env = "REENACT_TOTAL_TIMEOUT", default_value = "0", value_parser = time)]
    total_timeout: Duration,
    /// Ask each target for /version and /v1/models first, for the manifest: requests that the trace does not hold
    #[arg(long, env = "REENACT_PROBE")]
    probe: bool,
    /// Idle connections to keep ready for each target (default: as many as the plan releases within 20 ms)
    #[arg(long, value_name = "N", env = "REENACT_SPARE")]
    spare: Option<usize>,
    /// MiB of request bodies to make ready ahead of their due times
    #[arg(long, value_name = "MIB", env = "REENACT_AHEAD", default_value_t = 64)]
    ahead: u64,
}

/// Finds recorded outputs in the trace.
struct Recorded {
    trace: Trace,
}

/// Due time of the first release: room to open connections and to make the first requests ready.
const LEAD: Duration = Duration::from_millis(500);
/// Spinning makes releases some 60 us more punctual and costs at most this much of a CPU for each.
const DEFAULT_SPIN_US: u64 = 200;
/// Most spare connections that are opened without being asked for.
const SPARE_MOST: usize = 64;
/// In place of no limit.
const FOREVER: Duration = Duration::from_secs(365 * 86_400);

pub(super) fn run(args: ReplayArgs) -> anyhow::Result<Outcome> {
    let rewrite = args.rewrite()?;
    check(&args.plan_options())?;
    let trace = Trace::open(&args.trace)?;
    let rewrite = Rewrite { redacted: trace.header().redacted.clone(), ..rewrite };
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
    args.replay(trace, survey, plan, rewrite)
}

// === impl ReplayArgs ===

impl ReplayArgs {
    fn replay(
        &self,
        trace: Trace,
        survey: Survey,
        plan: Plan,
        rewrite: Rewrite,
    ) -> anyhow::Result<Outcome> {
        let out = self.out.clone().context("--out is missing")?;
        let totals = plan.totals();
        let route = self.route(totals.peak_per_instant)?;
        let known: Arc<[_]> = survey.known.into();
        let identity = identity(&self.trace, &trace)?;
        let compare = Recorded { trace: Trace::open(&self.trace)? };
        run::preflight(&self.target, &route, &known)?;
        let targets = match self.how.probe {
            true => run::probe(&self.target, &route, &rewrite)?,
            false => {
                self.targets().into_iter().map(|url| Target { url, ..Target::default() }).collect()
            }
        };
        let signals = Signals::listen()?;

        let clock = Clock::start();
        let mut manifest = self.manifest(clock, identity);
        manifest.targets = targets;
        let writer = RunWriter::create(&out, &manifest)?;
        let progress = Arc::new(Progress::default());
        let desk = Desk {
            run: manifest.run.clone(),
            clock,
            writer,
            known: Arc::clone(&known),
            compare,
            progress: Arc::clone(&progress),
        };
        let (ledger, bookkeeper) = ledger::start(desk)?;
        let samples = ledger.clone();
        let sampling = telemetry::start(&self.telemetry.options(), clock, move |sample| {
            samples.sample(sample)
        });
        manifest.gpus.clone_from(&sampling.gpus);
        manifest.telemetry.clone_from(&sampling.notes);
        let setup = Setup {
            fetch: fetch(trace),
            known,
            plan,
            rewrite,
            targets: self.target.clone(),
            route,
            limits: self.limits(),
            aborts: if self.what.no_abort { Aborts::Ignore } else { Aborts::Reenact },
            spin: Duration::from_micros(self.when.spin_us),
            ahead_bytes: self.how.ahead.max(1) << 20,
        };
        let stop = run::stop(&setup);
        let on_signal = stop.clone();
        let watching = signals.watch(move || {
            output::say("Stopping: what is in flight is given up. Once more to leave at once.");
            on_signal.pull();
        })?;
        let showing = output::Show::start(totals, Arc::clone(&progress), clock);
        let ran = run::run(setup, clock, &ledger, &stop, &progress);
        showing.finish();
        drop(watching);
        manifest.telemetry.extend(sampling.stop());
        let books = bookkeeper.finish()?;
        let ran = ran?;
        manifest.interrupted = stop.is_pulled();
        fill(&mut manifest, &ran, &books.summary, totals.releases, totals.median_gap);
        books.writer.finish(manifest.clone())?;
        output::summary(&out, &manifest, &books.summary, &ran, self.json)?;
        Ok(match manifest.verdict {
            Verdict::Valid => Outcome::Done,
            Verdict::Invalid => Outcome::Loss,
        })
    }

    fn plan_options(&self) -> PlanOptions {
        let timing = match self.when.rate {
            Some(rate) => Timing::Rate { rate, arrival: self.when.arrival, seed: self.when.seed },
            None => Timing::Recorded { speed: self.when.speed },
        };
        PlanOptions {
            timing,
            limit: self.when.limit,
            rounds: self.when.rounds,
            duration: self.when.duration,
            lead: LEAD,
        }
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

    fn rewrite(&self) -> anyhow::Result<Rewrite> {
        let api_key = self.what.api_key_env.as_deref().map(api_key).transpose()?;
        Ok(Rewrite {
            models: self.what.model_map.clone(),
            sets: self.what.set.clone(),
            headers: self.what.header.clone(),
            api_key,
            redacted: Vec::new(),
        })
    }

    fn route(&self, peak: u64) -> anyhow::Result<RouteOptions> {
        let targets = self.target.len().max(1) as u64;
        let spare =
            usize::try_from(peak.div_ceil(targets)).unwrap_or(SPARE_MOST).clamp(1, SPARE_MOST);
        let is_tls = self.target.iter().any(|target| target.scheme == Scheme::Https);
        let trust = match (&self.how.ca, self.how.insecure_pin) {
            (Some(ca), _) => Trust::Authorities(ca.clone()),
            (None, Some(pin)) => Trust::Pinned(pin),
            (None, None) => Trust::System,
        };
        Ok(RouteOptions {
            speak: self.how.http,
            connect_timeout: limit(self.how.connect_timeout).unwrap_or(FOREVER),
            tls: if is_tls { Some(client_config(&trust)?) } else { None },
            spare: self.how.spare.unwrap_or(spare),
        })
    }

    fn limits(&self) -> Limits {
        Limits { idle: limit(self.how.idle_timeout), total: limit(self.how.total_timeout) }
    }

    fn targets(&self) -> Vec<String> {
        self.target.iter().map(ToString::to_string).collect()
    }

    fn manifest(&self, clock: Clock, trace: TraceIdentity) -> Manifest {
        let mut manifest = Manifest::begin(clock.anchor());
        (manifest.host, manifest.clock_source) = telemetry::machine(Path::new("/"));
        manifest.trace = trace;
        manifest.seed = self.when.seed;
        manifest.options = self.options();
        manifest
    }

    /// Returns the options by flag. Values of headers are left out: they may be secrets.
    fn options(&self) -> serde_json::Map<String, serde_json::Value> {
        let texts = |list: Vec<String>| json!(list);
        let seconds = |time: Duration| json!(time.as_secs_f64());
        let mut options = serde_json::Map::new();
        let mut put = |flag: &str, value: serde_json::Value| options.insert(flag.to_owned(), value);
        put("verb", json!("replay"));
        put("target", texts(self.targets()));
        match self.when.rate {
            Some(rate) => {
                put("rate", json!(rate));
                put("arrival", json!(self.when.arrival.to_string()));
            }
            None => {
                put("speed", json!(self.when.speed));
            }
        }
        put("limit", json!(self.when.limit));
        put("loop", json!(self.when.rounds));
        put("duration", json!(self.when.duration.map(|time| time.as_secs_f64())));
        put("spin-us", json!(self.when.spin_us));
        put("filter", texts(self.what.filter.iter().map(ToString::to_string).collect()));
        put("model-map", texts(self.what.model_map.iter().map(ToString::to_string).collect()));
        put("set", texts(self.what.set.iter().map(ToString::to_string).collect()));
        put("header", texts(self.what.header.iter().map(|(name, _)| name.to_string()).collect()));
        put("api-key-env", json!(self.what.api_key_env));
        put("no-abort", json!(self.what.no_abort));
        put("http", json!(format!("{:?}", self.how.http).to_lowercase()));
        put("connect-timeout", seconds(self.how.connect_timeout));
        put("idle-timeout", seconds(self.how.idle_timeout));
        put("total-timeout", seconds(self.how.total_timeout));
        put("probe", json!(self.how.probe));
        put("spare", json!(self.how.spare));
        put("ahead", json!(self.how.ahead));
        options
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
    plan(&[crate::clock::Nanos::ZERO], options.clone())
        .map(drop)
        .map_err(|error| UsageError(error.to_string()).into())
}

/// Fills in what is known when the run is over, and gives the verdict.
fn fill(
    manifest: &mut Manifest,
    ran: &Ran,
    summary: &Summary,
    planned: u64,
    median_gap: Option<Duration>,
) {
    manifest.duration_s = ran.end.as_secs_f64();
    manifest.sent_digest = ran.paced.digest.hex();
    manifest.counts = summary.counts;
    manifest.counts.planned = planned;
    manifest.lateness = summary.lateness();
    for target in &mut manifest.targets {
        target.server = summary.servers.get(&target.url).cloned();
    }
    let evidence = Evidence {
        planned,
        released: ran.paced.released,
        unsendable: ran.fed.unsendable,
        interrupted: manifest.interrupted,
        answered: summary.answered,
        lateness_p99: summary.lateness.quantile(0.99).map(Duration::from_nanos),
        median_gap,
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

fn api_key(variable: &str) -> anyhow::Result<HeaderValue> {
    let key = std::env::var(variable).map_err(|_| {
        UsageError(format!("--api-key-env {variable}: no such environment variable"))
    })?;
    let mut value = HeaderValue::try_from(format!("Bearer {}", key.trim())).map_err(|_| {
        UsageError(format!("--api-key-env {variable}: its value can't be in a header"))
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// Reads a time: `30s`, `5m`, or a bare number of seconds.
fn time(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds)
            .map_err(|error| format!("{error}; write it like 500ms, 30s or 5m")),
        Err(_) => super::duration(text),
    }
}

fn speak(text: &str) -> Result<Speak, String> {
    match text {
        "auto" => Ok(Speak::Auto),
        "1.1" | "1" => Ok(Speak::Http1),
        "2" => Ok(Speak::Http2),
        "recorded" => Ok(Speak::Recorded),
        _ => Err("say auto, 1.1, 2 or recorded".to_owned()),
    }
}

/// Zero is no limit.
fn limit(time: Duration) -> Option<Duration> {
    (!time.is_zero()).then_some(time)
}
