//! What a report says, as data: made by `gather.rs` in one pass, written by `html.rs`, `markdown.rs` and `tables.rs`.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::results::answers::Answers;
use crate::results::manifest::{Manifest, Verdict};
use crate::results::slo::Judgement;

use super::machines::{GpuLines, GpuUse, HostBin, HostUse};
use super::mirror::Mirrored;
use super::series::{Bin, Level, Series, Thinned};
use super::stats::{Distribution, Spread};
use super::warnings::Warning;

/// All there is to say about one run. Its JSON form is `reenact report --json`.
#[derive(Debug, Default, Serialize)]
pub struct Summary {
    /// The run's manifest.
    pub manifest: Manifest,
    /// What the manifest says; `INVALID` when the run never finished.
    pub verdict: Verdict,
    /// Every doubt about the measurement, the worst first.
    pub warnings: Vec<Warning>,
    /// Rows of `requests.parquet` by what became of them.
    pub counts: Counts,
    /// From the first sent request to the last end, seconds; none without a request.
    pub span_s: Option<f64>,
    /// What happened per second of that span.
    pub rates: Rates,
    /// Latencies, each over the rows that its name says.
    pub latencies: Latencies,
    /// Errors by kind and status.
    pub errors: BTreeMap<ErrorKey, ErrorCount>,
    /// Requests by target.
    pub targets: BTreeMap<String, Group>,
    /// Each target of a mirrored run beside the first.
    pub mirror: Mirrored,
    /// Requests by operation and model.
    pub models: BTreeMap<String, Group>,
    /// Requests by stage or burst, where the load had such.
    pub stages: BTreeMap<u32, Group>,
    /// The answers beside the recorded ones.
    pub answers: Answers,
    /// What came of the objectives: those of the report, else those that the run was held to.
    pub slo: Option<Judgement>,
    /// The requests that took longest, end to end.
    pub slowest: Vec<Slow>,
    /// GPUs by their number.
    pub gpus: BTreeMap<u32, GpuUse>,
    /// The machine that sent.
    pub host: HostUse,
    /// Names of server metrics that are in the run, with the number of their values.
    pub server_metrics: BTreeMap<String, u64>,
    /// Lines and histograms for the charts.
    #[serde(skip)]
    pub plots: Plots,
}

/// Rows of `requests.parquet` by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// All rows but those of the warm-up.
    pub rows: u64,
    /// Rows of the warm-up, which are in no other figure.
    pub warmup: u64,
    /// Complete, without an error of any kind: what latencies are taken over.
    pub good: u64,
    /// Complete, but with a status of 400 or more, an error inside a 200, or a stream that was cut.
    pub errors: u64,
    /// Of these, with the status that was recorded: the same error, re-enacted.
    pub errors_as_recorded: u64,
    /// Failed.
    pub failed: u64,
    /// Cancelled, as recorded or by an interrupt.
    pub cancelled: u64,
    /// Streams asked for.
    pub streams: u64,
    /// Sent again on a fresh connection.
    pub retried: u64,
    /// Sent on a connection that had to be opened first.
    pub connected: u64,
    /// Complete streams whose content came in one frame.
    pub one_frame_streams: u64,
    /// Response frames with content, and the events that ended in them.
    pub content_frames: u64,
    /// Events in these frames.
    pub content_events: u64,
    /// Output token counts that were estimated from frames.
    pub estimated_tokens: u64,
    /// Good generating requests without any output token count.
    pub uncounted_tokens: u64,
    /// Input tokens of all rows.
    pub input_tokens: u64,
    /// Of these, tokens from the server's cache.
    pub cached_tokens: u64,
    /// Output tokens of all rows.
    pub output_tokens: u64,
}

/// What happened per second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Rates {
    /// Requests sent.
    pub requests_per_s: Option<f64>,
    /// Good requests ended.
    pub good_per_s: Option<f64>,
    /// Input tokens of all requests.
    pub input_tokens_per_s: Option<f64>,
    /// Output tokens of all requests.
    pub output_tokens_per_s: Option<f64>,
    /// Mean number of requests in flight.
    pub concurrency_mean: Option<f64>,
    /// Energy of all GPUs per output token, joules.
    pub joules_per_output_token: Option<f64>,
}

/// Latencies in nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Latencies {
    /// Sent to first token, good streamed rows.
    pub ttft: Spread,
    /// The recorded twin, good streamed rows that have both.
    pub recorded_ttft: Spread,
    /// Due to first token, good streamed rows.
    pub ttft_due: Spread,
    /// Between neighboring frames with content, all responses.
    pub gap: Spread,
    /// Per output token after the first, good streamed rows.
    pub tpot: Spread,
    /// Sent to end, good rows.
    pub e2e: Spread,
    /// The recorded twin, good rows that have both.
    pub recorded_e2e: Spread,
    /// Due to end, good rows.
    pub e2e_due: Spread,
    /// Due to sent, all sent rows.
    pub lateness: Spread,
    /// Name resolution, TCP connect and TLS, rows that opened a connection.
    pub connect: Spread,
}

/// What errors are counted by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ErrorKey {
    /// `reset`, `timeout`, `http`, `api`, ..
    pub kind: String,
    /// Response status, where there was one.
    pub status: Option<u16>,
}

/// Errors of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ErrorCount {
    /// How many.
    pub count: u64,
    /// Whose fault.
    pub fault: Option<String>,
    /// The first one's text.
    pub example: Option<String>,
    /// The first one's exchange.
    pub exchange: u64,
}

/// Requests that have something in common.
#[derive(Debug, Default, Serialize)]
pub struct Group {
    /// Rows.
    pub rows: u64,
    /// Complete without an error.
    pub good: u64,
    /// Input tokens.
    pub input_tokens: u64,
    /// Output tokens.
    pub output_tokens: u64,
    /// Rows a second from the first sent to the last end; none without such a span.
    pub requests_per_s: Option<f64>,
    /// Sent to first token, good streamed rows.
    pub ttft: Spread,
    /// Sent to end, good rows.
    pub e2e: Spread,
    /// When the first was sent, and the last had ended.
    #[serde(skip)]
    pub(super) span: Option<(i64, i64)>,
    #[serde(skip)]
    pub(super) ttfts: Distribution,
    #[serde(skip)]
    pub(super) e2es: Distribution,
}

/// A request that took long.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Slow {
    /// Its exchange.
    pub exchange: u64,
    /// Which time around.
    pub round: u32,
    /// When it was sent, since the run's start.
    pub sent_ns: i64,
    /// Sent to end.
    pub e2e_ns: i64,
    /// Sent to first token.
    pub ttft_ns: Option<i64>,
    /// The recorded twin of `e2e_ns`.
    pub recorded_e2e_ns: Option<i64>,
    /// Input tokens.
    pub input_tokens: Option<u64>,
    /// Output tokens.
    pub output_tokens: Option<u64>,
    /// Model and path.
    pub what: String,
    /// Status, or outcome without one.
    pub result: String,
}

/// Lines and histograms.
#[derive(Debug)]
pub struct Plots {
    /// Requests, tokens, errors and lateness over time.
    pub traffic: Series<Traffic>,
    /// GPU lines by number.
    pub gpus: BTreeMap<u32, GpuLines>,
    /// Host lines.
    pub host: Series<HostBin>,
    /// Lines of well-known server metrics, by name, and by target and labels.
    pub server: BTreeMap<(String, String), Series<Level>>,
    /// Time sent (seconds) and TTFT (ms) of good streamed rows.
    pub ttft_points: Thinned<(f64, f64)>,
    /// Time sent (seconds) and lateness (ms).
    pub lateness_points: Thinned<(f64, f64)>,
    /// Replayed TTFT.
    pub ttft: Distribution,
    /// Recorded TTFT.
    pub recorded_ttft: Distribution,
    /// Gaps between frames with content.
    pub gap: Distribution,
    /// Time per output token.
    pub tpot: Distribution,
    /// Replayed end to end.
    pub e2e: Distribution,
    /// Recorded end to end.
    pub recorded_e2e: Distribution,
    /// Lateness.
    pub lateness: Distribution,
}

/// What happened in a bin of time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Traffic {
    /// Requests sent.
    pub sent: u64,
    /// Good requests ended.
    pub good: u64,
    /// Others ended.
    pub bad: u64,
    /// Sum over requests of the nanoseconds in flight.
    pub busy_ns: f64,
    /// Output tokens, each request's spread evenly from its first to its last.
    pub output_tokens: f64,
    /// Largest lateness, nanoseconds.
    pub lateness_ns: i64,
}

// === impl Summary ===

impl Summary {
    /// Returns whether the run was meant to send nothing: `reenact sample` made it, or `reenact record` beside its trace.
    #[must_use]
    pub fn is_telemetry_only(&self) -> bool {
        let verb = self.manifest.options.get("verb").and_then(|verb| verb.as_str());
        matches!(verb, Some("sample" | "record"))
    }

    /// Returns whether it is recorded traffic: rows, but no plan that they were sent by.
    #[must_use]
    pub fn is_recording(&self) -> bool {
        self.counts.rows > 0
            && self.manifest.counts.planned == 0
            && self.latencies.lateness.rows == 0
    }
}

impl Bin for Traffic {
    fn join(&mut self, next: &Self) {
        self.sent += next.sent;
        self.good += next.good;
        self.bad += next.bad;
        self.busy_ns += next.busy_ns;
        self.output_tokens += next.output_tokens;
        self.lateness_ns = self.lateness_ns.max(next.lateness_ns);
    }
}

impl Default for Plots {
    fn default() -> Self {
        Self {
            traffic: Series::default(),
            gpus: BTreeMap::new(),
            host: Series::default(),
            server: BTreeMap::new(),
            ttft_points: Thinned::new(MOST_POINTS),
            lateness_points: Thinned::new(MOST_POINTS),
            ttft: Distribution::default(),
            recorded_ttft: Distribution::default(),
            gap: Distribution::default(),
            tpot: Distribution::default(),
            e2e: Distribution::default(),
            recorded_e2e: Distribution::default(),
            lateness: Distribution::default(),
        }
    }
}

impl Serialize for ErrorKey {
    /// As a map's key: `http 429`, `reset`.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl std::fmt::Display for ErrorKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.status {
            Some(status) => write!(f, "{} {status}", self.kind),
            None => f.write_str(&self.kind),
        }
    }
}

/// Most points of a scatter chart.
const MOST_POINTS: usize = 4_000;
