//! The manifest of a run, `run.json`: what was run, on what, and whether it can be trusted.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::clock::{Anchor, Nanos};

use super::answers::Answers;

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
    /// `Host` and credentials) and body. Hex.
    pub sent_digest: String,
    /// Exchanges by what became of them.
    pub counts: Counts,
    /// Rows by what became of the wish for their output's length (`output_pinned`); empty without `--pin-output`.
    pub output_pinned: BTreeMap<String, u64>,
    /// Lateness of the releases.
    pub lateness: Lateness,
    /// Whether the measurement can be trusted.
    pub verdict: Verdict,
    /// Every reason why it is INVALID, as a sentence.
    pub reasons: Vec<String>,
    /// Every reason to doubt it that does not make it INVALID, as a sentence.
    pub doubts: Vec<String>,
    /// The answers beside the recorded ones.
    pub answers: Answers,
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
}

/// Quantiles of lateness over all sent releases, nanoseconds, by nearest rank.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Lateness {
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
    fn a_verdict_is_written_by_its_name() {
        for verdict in [Verdict::Invalid, Verdict::Doubtful, Verdict::Valid] {
            let json = serde_json::to_string(&verdict).unwrap();
            assert_eq!(json, format!("\"{}\"", verdict.as_str()));
            assert_eq!(serde_json::from_str::<Verdict>(&json).unwrap(), verdict);
        }
    }
}
