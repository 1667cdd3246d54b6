//! The manifest of a run, `run.json`: what was run, on what, and whether it can be trusted.

use std::collections::BTreeMap;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::{Anchor, Nanos};

use super::answers::Answers;
use super::slo::Judgement;

/// `run.json`. Fields are only ever added.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Manifest {
    /// Version of the run folder's schema: [`SCHEMA_VERSION`].
    pub schema: u32,
    /// Id of the run: unique, sorts by time.
    pub run: String,
    /// Program and version.
    pub tool: String,
    /// Time zero of the run as UTC, RFC 3339.
    pub started: String,
    /// Time zero of the run as UTC, nanoseconds since 1970.
    pub started_unix_ns: i64,
    /// From time zero to the end of the last exchange, seconds.
    pub duration_s: f64,
    /// False while the run goes on, and for ever if it was killed.
    pub finished: bool,
    /// Whether somebody stopped it before its plan was done.
    pub interrupted: bool,
    /// The trace that was replayed.
    pub trace: TraceIdentity,
    /// The options of the run as given, by flag.
    pub options: serde_json::Map<String, serde_json::Value>,
    /// The seed of everything random.
    pub seed: u64,
    /// Where it was sent.
    pub targets: Vec<Target>,
    /// The machine that sent.
    pub host: Host,
    /// The GPUs seen on that machine.
    pub gpus: Vec<Gpu>,
    /// What telemetry says of itself: samplers that ran, and why others did not.
    pub telemetry: Vec<String>,
    /// What went wrong while sampling: readings that failed, were missed or dropped.
    pub telemetry_doubts: Vec<String>,
    /// The source of monotonic time, as the kernel names it (`tsc`, ...).
    pub clock_source: String,
    /// BLAKE3 over every release in order: its due time since the first one, method, path and query, headers (without
    /// `Host` and credentials) and body. Hex. Of a reactive load in the order of the plan and without due times, which are the
    /// target's doing.
    pub sent_digest: String,
    /// Exchanges by what became of them.
    pub counts: Counts,
    /// Rows by what became of the wish for their output's length (`output_pinned`); empty without `--pin-output`.
    pub output_pinned: BTreeMap<String, u64>,
    /// Lateness of the releases.
    pub lateness: Quantiles,
    /// What it measured of itself before the run, against a server of its own.
    pub calibration: Option<Calibration>,
    /// What the program measured of itself while the run went on.
    pub instrument: Instrument,
    /// Whether the measurement can be trusted.
    pub verdict: Verdict,
    /// Every reason why it is INVALID, as a sentence.
    pub reasons: Vec<String>,
    /// Every reason to doubt it that does not make it INVALID, as a sentence.
    pub doubts: Vec<String>,
    /// The answers beside the recorded ones.
    pub answers: Answers,
    /// What came of the objectives that the run was held to (`--slo`).
    pub slo: Option<Judgement>,
}

/// Which trace it was.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TraceIdentity {
    /// Where it was found.
    pub path: String,
    /// Its id, hex.
    pub id: String,
    /// BLAKE3 of its files, hex.
    pub digest: String,
    /// Exchanges in it.
    pub exchanges: u64,
    /// Whether it was closed properly.
    pub complete: bool,
}

/// One target.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Target {
    /// Its base URL.
    pub url: String,
    /// `Server` header of its first response.
    pub server: Option<String>,
    /// Version it reports, where it does (`/version`).
    pub version: Option<String>,
    /// Models it reports (`/v1/models`).
    pub models: Vec<String>,
    /// The network's round trip to it, by TCP connect; none before a connection was opened.
    pub connect_rtt: Option<ConnectRtt>,
    /// What became of the requests that it got.
    pub results: TargetResults,
}

/// What became of the requests that one target got. Quantiles as in the replay's summary, nanoseconds, by nearest rank to
/// within a thousandth; none where there are no such rows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TargetResults {
    /// Requests sent, or tried.
    pub sent: u64,
    /// Of these, complete: a whole response, whatever its status.
    pub complete: u64,
    /// Of these, failed.
    pub failed: u64,
    /// Of these, cancelled as recorded, or by an interrupt.
    pub cancelled: u64,
    /// Complete, but with a status of 400 or more, or an error inside a 200.
    pub errors: u64,
    /// Output tokens, where they are known.
    pub output_tokens: u64,
    /// Median time to first token of streamed responses without error.
    pub ttft_p50_ns: Option<i64>,
    /// 99th percentile of the same.
    pub ttft_p99_ns: Option<i64>,
    /// Median end to end of complete exchanges with a status below 400.
    pub e2e_p50_ns: Option<i64>,
    /// 99th percentile of the same.
    pub e2e_p99_ns: Option<i64>,
}

/// The machine that sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Host {
    /// Host name.
    pub name: String,
    /// Kernel, as `uname -sr` prints it.
    pub kernel: String,
    /// CPU model.
    pub cpu: String,
    /// Logical CPUs that the process may use.
    pub cpus: u32,
    /// CPU frequency governor of CPU 0, where the kernel says.
    pub governor: Option<String>,
    /// Memory, bytes.
    pub memory_bytes: u64,
}

/// One GPU.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Gpu {
    /// Index as in `gpu.parquet`.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its UUID, or PCI address where it has none.
    pub uuid: String,
    /// Driver and version.
    pub driver: String,
    /// Memory, bytes.
    pub memory_bytes: u64,
}

/// Exchanges by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// In the plan.
    pub planned: u64,
    /// Of these, sent (or tried).
    pub sent: u64,
    /// Of these, complete: a whole response, whatever its status.
    pub complete: u64,
    /// Of these, failed.
    pub failed: u64,
    /// Of these, cancelled as recorded, or by an interrupt.
    pub cancelled: u64,
    /// Complete, but with a status of 400 or more, or an error inside a 200.
    pub errors: u64,
    /// Of those in the plan that were sent or tried, the warm-up: counted here, and in no other figure.
    pub warmup: u64,
}

/// What the program can do on its machine, measured before a run against a server of its own on loopback.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Calibration {
    /// How late requests reach a server.
    pub jitter: SendJitter,
    /// How fast events are read.
    pub events: EventRate,
    /// How long it took to find out, seconds.
    pub took_s: f64,
}

/// How late requests reach a server on loopback: from due to the server's stamp at the first bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SendJitter {
    /// Requests per second, evenly spaced.
    pub rate_per_s: f64,
    /// Requests that were sent.
    pub sends: u64,
    /// How late they were.
    pub late: Quantiles,
}

/// How fast one thread reads a stream of events that is written as fast as it goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct EventRate {
    /// Events per second, by their stamps.
    pub events_per_s: f64,
    /// CPU time of the thread for one event, nanoseconds.
    pub event_ns: f64,
}

/// What the program measured of itself while a run went on. Nothing of it is subtracted from anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Instrument {
    /// From the due time of each release to the moment in which its call ran: what lateness has that is not the sending's.
    pub dispatch: Quantiles,
    /// How long the thread of the calls took to come round, asked a hundred times a second. A frame's stamp is late by no
    /// more than this.
    pub stalls: Quantiles,
    /// CPU time of the process, all threads, in CPUs: 1 is one CPU all the time.
    pub process_cpus: Option<f64>,
    /// CPU time of the thread of the calls, in CPUs.
    pub calls_cpus: Option<f64>,
    /// Mean time that this thread waited for a CPU each time it was woken, nanoseconds.
    pub cpu_wait_ns: Option<i64>,
    /// Smallest step of the clock that was seen, nanoseconds.
    pub clock_step_ns: i64,
    /// Releases that were not ready when they were due.
    pub starved: u64,
    /// Readings of telemetry for which there was no room.
    pub dropped_samples: u64,
}

/// Times of TCP connects to a target: about one round trip of the network each. Kept beside the figures, never subtracted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ConnectRtt {
    /// Connects, those before the run among them.
    pub connects: u64,
    /// The shortest, nanoseconds.
    pub min_ns: i64,
    /// Median, nanoseconds, by nearest rank.
    pub p50_ns: i64,
    /// The longest, nanoseconds.
    pub max_ns: i64,
}

/// Quantiles of times, nanoseconds, by nearest rank; zeros where there were none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Quantiles {
    /// Median.
    pub p50_ns: i64,
    /// 90th percentile.
    pub p90_ns: i64,
    /// 99th percentile.
    pub p99_ns: i64,
    /// Largest.
    pub max_ns: i64,
}

/// Whether the measurement can be trusted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Verdict {
    /// It can't: see the reasons.
    #[default]
    Invalid,
    /// It can, with the doubts in mind.
    #[serde(rename = "VALID WITH DOUBTS")]
    Doubtful,
    /// It can.
    Valid,
}

/// The version of the run folder's schema that this program writes.
pub const SCHEMA_VERSION: u32 = 1;

// === impl ConnectRtt ===

impl ConnectRtt {
    /// Sums up the times of connects; none without any.
    #[must_use]
    pub fn of(mut times: Vec<Duration>) -> Option<Self> {
        times.sort_unstable();
        let ns = |time: &Duration| Nanos::from(*time).as_i64();
        let median = times.get(times.len().checked_sub(1)? / 2)?;
        Some(Self {
            connects: times.len() as u64,
            min_ns: ns(times.first()?),
            p50_ns: ns(median),
            max_ns: ns(times.last()?),
        })
    }
}

// === impl Verdict ===

impl Verdict {
    /// Returns its name, as it stands in the manifest.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "INVALID",
            Self::Doubtful => "VALID WITH DOUBTS",
            Self::Valid => "VALID",
        }
    }
}

// === impl Manifest ===

impl Manifest {
    /// Begins the manifest of a run whose time zero is `anchor`: id, tool and start are known.
    ///
    /// The id is the start in UTC to the microsecond, `20260102T030405.678901Z`: it sorts by time.
    #[must_use]
    pub fn begin(anchor: Anchor) -> Self {
        let started = anchor.rfc3339(Nanos::ZERO);
        Self {
            schema: SCHEMA_VERSION,
            run: started.replace(['-', ':'], ""),
            tool: concat!("reenact ", env!("CARGO_PKG_VERSION")).to_owned(),
            started,
            started_unix_ns: anchor.0,
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_named_by_its_start() {
        let manifest = Manifest::begin(Anchor(1_500_000_000));
        assert_eq!(manifest.run, "19700101T000001.500000Z");
        assert_eq!(manifest.started, "1970-01-01T00:00:01.500000Z");
    }

    #[test]
    fn a_manifest_of_an_older_program_is_read() {
        let manifest: Manifest = serde_json::from_str(r#"{"run": "x", "later": 1}"#).unwrap();
        assert_eq!(manifest, Manifest { run: "x".into(), ..Manifest::default() });
    }

    #[test]
    fn connects_are_summed_up_by_nearest_rank() {
        let of = |ms: &[u64]| {
            ConnectRtt::of(ms.iter().map(|ms| Duration::from_millis(*ms)).collect())
                .map(|rtt| (rtt.connects, rtt.min_ns, rtt.p50_ns, rtt.max_ns))
        };
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[7]), Some((1, 7_000_000, 7_000_000, 7_000_000)));
        assert_eq!(of(&[9, 1, 3, 2]), Some((4, 1_000_000, 2_000_000, 9_000_000)));
    }

    #[test]
    fn a_verdict_is_written_by_its_name() {
        for verdict in [Verdict::Invalid, Verdict::Doubtful, Verdict::Valid] {
            let json = serde_json::to_string(&verdict).unwrap();
            assert_eq!(json, format!("\"{}\"", verdict.as_str()));
            assert_eq!(serde_json::from_str::<Verdict>(&json).unwrap(), verdict);
        }
    }
}
