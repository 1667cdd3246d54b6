//! The flags of `reenact replay`, and what they mean.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use http::HeaderValue;
use serde_json::json;

use crate::http::tls::{Pin, Trust, client_config};
use crate::http::{Origin, Scheme};
use crate::replay::arrival::Arrival;
use crate::replay::balance::Balancer;
use crate::replay::call::Limits;
use crate::replay::connections::Connections;
use crate::replay::plan::{PlanOptions, Timing};
use crate::replay::rewrite::{self, ModelMap, Rewrite};
use crate::replay::route::{RouteOptions, Speak};
use crate::replay::splice;
use crate::results::filter::Filter;

use crate::cli::UsageError;
use crate::cli::identity::IdentityArgs;
use crate::cli::telemetry::TelemetryArgs;

use super::client::ClientArgs;
use super::clock::ClockArgs;
use super::judge::JudgeArgs;
use super::lengths::LengthArgs;
use super::load::LoadArgs;
use super::measure::MeasureArgs;
use super::scale::ScaleArgs;
use super::search::{Of, SearchArgs};
use super::targets::TargetArgs;

/// Reissue a trace and write a run
///
/// Each exchange is sent when it is due, to the targets in turn: at recorded times or at a rate, whatever the ones before it
/// do (an open loop), or, with a reactive load, when others have ended. Exit status: 0 done, 1 failed, 2 usage, 3 done but
/// the measurement is INVALID (0 when it is VALID WITH DOUBTS), what --check looks at does not hold, or a search found nothing.
#[derive(Clone, Debug, Args)]
pub(in crate::cli) struct ReplayArgs {
    /// Trace to replay: a file, or a folder of segments
    pub(super) trace: PathBuf,
    /// Base URL to send to; repeatable, the targets take turns in the order named (but see --balance)
    #[arg(
        long,
        value_name = "URL",
        env = "REENACT_TARGET",
        value_delimiter = ',',
        required = true
    )]
    pub(super) target: Vec<Origin>,
    /// Folder to write; it must not hold a run
    #[arg(long, value_name = "DIR", env = "REENACT_OUT", required_unless_present = "dry_run")]
    pub(super) out: Option<PathBuf>,
    /// Print what would be sent, and send nothing
    #[arg(long, env = "REENACT_DRY_RUN")]
    pub(super) dry_run: bool,
    /// Print JSON: of a dry run a line for each release, of a run its manifest
    #[arg(long, env = "REENACT_JSON")]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) when: WhenArgs,
    #[command(flatten)]
    pub(super) clock: ClockArgs,
    #[command(flatten)]
    pub(super) load: LoadArgs,
    #[command(flatten)]
    pub(super) what: WhatArgs,
    #[command(flatten)]
    lengths: LengthArgs,
    #[command(flatten)]
    pub(super) scale: ScaleArgs,
    #[command(flatten)]
    targets: TargetArgs,
    #[command(flatten)]
    pub(super) client: ClientArgs,
    #[command(flatten)]
    pub(super) how: HowArgs,
    #[command(flatten)]
    pub(super) judge: JudgeArgs,
    #[command(flatten)]
    pub(super) measure: MeasureArgs,
    #[command(flatten)]
    pub(super) search: SearchArgs,
    #[command(flatten)]
    pub(super) telemetry: TelemetryArgs,
    #[command(flatten)]
    pub(super) identity: IdentityArgs,
}

/// When exchanges are sent
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "When")]
pub(super) struct WhenArgs {
    /// Divide recorded times by this: 2 is twice as fast [default: 1]
    #[arg(long, value_name = "F", env = "REENACT_SPEED")]
    speed: Option<f64>,
    /// Send so many requests a second instead of at recorded times
    #[arg(long, value_name = "R", env = "REENACT_RATE", group = "paced")]
    rate: Option<f64>,
    /// How these are spread: constant, poisson or gamma:CV (coefficient of variation)
    #[arg(
        long,
        value_name = "PROCESS",
        env = "REENACT_ARRIVAL",
        default_value = "poisson",
        requires = "paced"
    )]
    arrival: Arrival,
    /// Seed of everything random
    #[arg(long, value_name = "N", env = "REENACT_SEED", default_value_t = 0)]
    pub(super) seed: u64,
    /// Replay the first N exchanges only
    #[arg(long, value_name = "N", env = "REENACT_LIMIT")]
    limit: Option<u64>,
    /// Go through the trace N times; at recorded times, a round begins a mean gap after the last start of the one before
    /// [default: 1, or as often as the load needs]
    #[arg(long = "loop", value_name = "N", env = "REENACT_LOOP")]
    rounds: Option<u32>,
    /// Plan nothing that is due later than this after the first release: 30s, 5m, or seconds
    #[arg(long, value_name = "TIME", env = "REENACT_DURATION", value_parser = time)]
    duration: Option<Duration>,
    /// Microseconds before a due time to stop sleeping and spin; 0 never spins
    #[arg(long, value_name = "US", env = "REENACT_SPIN_US", default_value_t = DEFAULT_SPIN_US,
          value_parser = clap::value_parser!(u64).range(..=100_000))]
    pub(super) spin_us: u64,
}

/// What is sent
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "What")]
pub(super) struct WhatArgs {
    /// Replay only where KEY=VALUE or KEY!=VALUE holds; keys id, method, model, operation, outcome, path, status; `*` any
    /// text, `|` between alternatives; repeatable, all must hold
    #[arg(long, value_name = "EXPR", env = "REENACT_FILTER")]
    pub(super) filter: Vec<Filter>,
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
}

/// How targets are spoken to
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "How")]
pub(super) struct HowArgs {
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
    /// Longest time in which no byte moves, to the target or from it; 0 for no limit
    #[arg(long, value_name = "TIME", env = "REENACT_IDLE_TIMEOUT", default_value = "10m", value_parser = time)]
    idle_timeout: Duration,
    /// Longest time from a request to the end of its response; 0 for no limit
    #[arg(long, value_name = "TIME", env = "REENACT_TOTAL_TIMEOUT", default_value = "0", value_parser = time)]
    total_timeout: Duration,
    /// Ask each target for /version and /v1/models first, for the manifest: requests that the trace does not hold
    #[arg(long, env = "REENACT_PROBE")]
    pub(super) probe: bool,
    /// Idle connections to keep ready for each target (default: as many as the plan releases within 20 ms)
    #[arg(long, value_name = "N", env = "REENACT_SPARE")]
    spare: Option<usize>,
    /// MiB of request bodies to make ready ahead of their due times
    #[arg(long, value_name = "MIB", env = "REENACT_AHEAD", default_value_t = 64)]
    pub(super) ahead: u64,
}

/// Due time of the first release: room to open connections and to make the first requests ready.
pub(super) const LEAD: Duration = Duration::from_millis(500);
/// The least of it, once everything else has started.
pub(super) const LEAD_LEAST: Duration = Duration::from_millis(300);
/// Spinning makes releases some 60 us more punctual and costs at most this much of a CPU for each.
/// Measured with the server on the same two cores (`cargo bench --bench arrival`): 200 us take the server's time at 2,000/s,
/// 60 us are not enough for a sleeper that wakes late.
pub(in crate::cli) const DEFAULT_SPIN_US: u64 = 100;
/// Most spare connections that are opened without being asked for.
const SPARE_MOST: usize = 64;
/// In place of no limit.
const FOREVER: Duration = Duration::from_secs(365 * 86_400);

// === impl ReplayArgs ===

impl ReplayArgs {
    /// Returns what recorded times are divided by.
    pub(super) fn speed(&self) -> f64 {
        self.when.speed.unwrap_or(1.0)
    }

    /// Returns how the plan is to be made.
    ///
    /// # Errors
    /// More than one clock is asked for.
    pub(super) fn plan_options(&self) -> Result<PlanOptions, UsageError> {
        let WhenArgs { speed, rate, arrival, seed, limit, rounds, duration, .. } = self.when;
        let paced = self.clock.is_given();
        self.load.check_alone(&[
            ("clock", paced),
            ("speed", speed.is_some() && !paced),
            ("rate", rate.is_some()),
            ("search", self.search.search.is_some()),
        ])?;
        let options = PlanOptions {
            timing: match rate {
                Some(rate) => Timing::Rate { rate, arrival, seed },
                None => Timing::Recorded { speed: self.speed() },
            },
            limit,
            rounds: rounds.unwrap_or(1),
            most: None,
            duration,
            lead: LEAD,
        };
        let options = self.clock.plan(options, self.speed())?;
        self.load.plan(options, rounds, seed)
    }

    /// Returns the arguments of a step of a search: the same at another load. With --duration, the trace is gone through as
    /// often as the step takes.
    pub(super) fn at(&self, of: Of, load: f64) -> Self {
        let mut step = self.clone();
        step.search.search = None;
        match of {
            Of::Concurrency => step.load = step.load.closed(load),
            Of::Rate => step.when.rate = Some(load),
        }
        if step.when.duration.is_some() {
            step.when.rounds = step.when.rounds.or(Some(u32::MAX));
        }
        step
    }

    pub(super) fn rewrite(&self) -> anyhow::Result<Rewrite> {
        let api_key = self.what.api_key_env.as_deref().map(api_key).transpose()?;
        Ok(Rewrite {
            models: self.what.model_map.clone(),
            lengths: self.lengths.lengths(),
            sets: self.what.set.clone(),
            headers: self.what.header.clone(),
            api_key,
            redacted: Vec::new(),
            redacts_unlisted: false,
            seed: self.when.seed,
        })
    }

    pub(super) fn route(&self, peak: u64) -> anyhow::Result<RouteOptions> {
        let share = peak.div_ceil(self.targets.sharers(&self.target));
        let spare = match self.client.connections {
            Connections::Pooled => {
                usize::try_from(share).unwrap_or(SPARE_MOST).clamp(1, SPARE_MOST)
            }
            // Calls that have connections of their own leave spare ones alone.
            Connections::New | Connections::Recorded | Connections::Session => 0,
        };
        let is_tls = self.origins().iter().any(|target| target.scheme == Scheme::Https);
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

    pub(super) fn limits(&self) -> Limits {
        Limits {
            first: limit(self.client.ttft_timeout),
            idle: limit(self.how.idle_timeout),
            total: limit(self.how.total_timeout),
        }
    }

    /// Returns every target.
    pub(super) fn origins(&self) -> Vec<Origin> {
        self.targets.all(&self.target)
    }

    /// Returns what hands out the targets.
    pub(super) fn balancer(&self) -> anyhow::Result<Balancer> {
        self.targets.balancer(&self.target)
    }

    /// Returns how many requests go out for one release.
    pub(super) fn copies(&self) -> u64 {
        self.targets.copies(&self.target)
    }

    /// Returns the options by flag. Values of headers are left out: they may be secrets.
    pub(super) fn options(&self) -> serde_json::Map<String, serde_json::Value> {
        let texts = |list: Vec<String>| json!(list);
        let seconds = |time: Duration| json!(time.as_secs_f64());
        let mut options = serde_json::Map::new();
        let mut put = |flag: &str, value: serde_json::Value| options.insert(flag.to_owned(), value);
        put("verb", json!("replay"));
        put("target", texts(self.target.iter().map(ToString::to_string).collect()));
        match self.when.rate {
            Some(rate) => {
                put("rate", json!(rate));
                put("arrival", json!(self.when.arrival.to_string()));
            }
            None if !self.load.is_given() => {
                put("speed", json!(self.when.speed.unwrap_or(1.0)));
            }
            None => {}
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
        put("http", json!(format!("{:?}", self.how.http).to_lowercase()));
        put("connect-timeout", seconds(self.how.connect_timeout));
        put("idle-timeout", seconds(self.how.idle_timeout));
        put("total-timeout", seconds(self.how.total_timeout));
        put("probe", json!(self.how.probe));
        put("spare", json!(self.how.spare));
        put("ahead", json!(self.how.ahead));
        self.lengths.describe(&mut options);
        self.targets.describe(&mut options);
        self.client.describe(&mut options);
        self.judge.describe(&mut options);
        self.scale.put(&mut options);
        self.clock.describe(&mut options);
        self.load.describe(&mut options);
        self.measure.describe(&mut options);
        options
    }
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
pub(super) fn time(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds)
            .map_err(|error| format!("{error}; write it like 500ms, 30s or 5m")),
        Err(_) => crate::cli::duration(text),
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
