//! The arguments of `reenact record`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use http::HeaderValue;

use crate::cli::UsageError;
use crate::cli::identity::EncryptArgs;
use crate::cli::privacy::PrivacyArgs;
use crate::cli::record::admin::AdminArgs;
use crate::cli::record::listen::ListenArgs;
use crate::cli::telemetry::TelemetryArgs;
use crate::http::tls::{Pin, Trust};
use crate::proxy::{HostPolicy, ProxyOptions, Route};
use crate::trace::WriterOptions;

use super::durability::DurabilityArgs;
use super::limits::LimitArgs;
use super::sampling::SamplingArgs;

/// Record traffic through a reverse proxy
///
/// Clients talk to --listen as they would to the upstream; what passes is written to --out. Ends at Ctrl-C or SIGTERM: what
/// is under way may finish (--drain), a second signal ends at once. Exit status 3 when something could not be recorded.
#[derive(Debug, Args)]
pub(in crate::cli) struct RecordArgs {
    #[command(flatten)]
    pub(super) listen: ListenArgs,
    /// Where requests go: URL for all paths, /PREFIX=URL for those below a prefix; several of one prefix take turns
    #[arg(
        long,
        value_name = "[/PREFIX=]URL",
        env = "REENACT_UPSTREAM",
        required = true,
        value_delimiter = ','
    )]
    pub(super) upstream: Vec<Route>,
    /// Trace to write: a file that does not exist; or a folder, for a trace of several segments
    #[arg(long, value_name = "PATH", env = "REENACT_OUT")]
    pub(super) out: PathBuf,
    /// How long to record, such as 30s or 5m; until Ctrl-C without it
    #[arg(long, value_name = "TIME", env = "REENACT_DURATION", value_parser = crate::cli::duration)]
    pub(super) duration: Option<Duration>,
    /// Threads that serve connections; one for each CPU without it
    #[arg(long, value_name = "N", env = "REENACT_WORKERS", value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) workers: Option<u16>,
    /// Print the summary as JSON to stdout
    #[arg(long, env = "REENACT_JSON")]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) forward: ForwardArgs,
    #[command(flatten)]
    pub(super) limits: LimitArgs,
    #[command(flatten)]
    pub(super) secure: SecureArgs,
    #[command(flatten)]
    pub(super) keep: KeepArgs,
    #[command(flatten)]
    pub(super) privacy: PrivacyArgs,
    #[command(flatten)]
    pub(super) admin: AdminArgs,
    #[command(flatten)]
    pub(super) durability: DurabilityArgs,
    #[command(flatten)]
    pub(super) sampling: SamplingArgs,
    #[command(flatten)]
    pub(super) encrypt: EncryptArgs,
    /// Sample GPUs, the machine and metrics pages meanwhile, into this run folder
    #[arg(long, value_name = "DIR", env = "REENACT_SAMPLES", help_heading = "Telemetry")]
    pub(super) samples: Option<PathBuf>,
    #[command(flatten)]
    pub(super) telemetry: TelemetryArgs,
}

/// How requests are sent on
#[derive(Debug, Args)]
#[command(next_help_heading = "Forwarding")]
pub(super) struct ForwardArgs {
    /// Which Host the upstream sees: the client's, its own, or (auto) its own over TLS and the client's otherwise
    #[arg(long, value_enum, env = "REENACT_HOST", default_value = "auto")]
    pub(super) host: HostArg,
    /// Name to append to Via; messages stay as they are without it
    #[arg(long, value_name = "NAME", env = "REENACT_VIA")]
    pub(super) via: Option<String>,
    /// Speak HTTP/2 to the upstream even without TLS (with TLS, ALPN chooses)
    #[arg(long, env = "REENACT_UPSTREAM_HTTP2")]
    pub(super) upstream_http2: bool,
    /// Longest time to connect to an upstream
    #[arg(long, value_name = "TIME", env = "REENACT_CONNECT_TIMEOUT", default_value = "30s", value_parser = crate::cli::duration)]
    pub(super) connect_timeout: Duration,
}

/// TLS on both sides
#[derive(Debug, Args)]
#[command(next_help_heading = "TLS")]
pub(super) struct SecureArgs {
    /// Certificate chain to serve with, PEM
    #[arg(long, value_name = "FILE", env = "REENACT_TLS_CERT", requires = "tls_key")]
    pub(super) tls_cert: Option<PathBuf>,
    /// Its private key, PEM
    #[arg(long, value_name = "FILE", env = "REENACT_TLS_KEY", requires = "tls_cert")]
    pub(super) tls_key: Option<PathBuf>,
    /// Authorities to trust upstream instead of the system's, PEM
    #[arg(long, value_name = "FILE", env = "REENACT_UPSTREAM_CA", conflicts_with = "upstream_pin")]
    pub(super) upstream_ca: Option<PathBuf>,
    /// The one certificate to trust upstream: its SHA-256 in hex, or a PEM file
    #[arg(long, value_name = "SHA256|FILE", env = "REENACT_UPSTREAM_PIN")]
    pub(super) upstream_pin: Option<String>,
}

/// What is kept, and how
#[derive(Debug, Args)]
#[command(next_help_heading = "Recording")]
pub(super) struct KeepArgs {
    /// Bytes that may wait for the disk before something is left out; K, M and G are understood
    #[arg(long, value_name = "BYTES", env = "REENACT_QUEUE_BYTES", default_value = "64M", value_parser = bytes)]
    pub(super) queue_bytes: usize,
    /// Compression level of zstd; lowered by itself while the disk can't keep up
    #[arg(long, value_name = "LEVEL", env = "REENACT_LEVEL", default_value_t = WriterOptions::default().level,
          value_parser = clap::value_parser!(i32).range(1..=19))]
    pub(super) level: i32,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum HostArg {
    Auto,
    Client,
    Upstream,
}

/// Reads a number of bytes such as `65536`, `64K`, `64M`, `1G`.
pub(super) fn bytes(text: &str) -> Result<usize, String> {
    let bad = || format!("`{text}` is no number of bytes; write it like 65536, 64M or 1G");
    let digits = text.trim_end_matches(['K', 'M', 'G', 'k', 'm', 'g']);
    let number: usize = digits.parse().map_err(|_| bad())?;
    let shift = match text[digits.len()..].to_ascii_uppercase().as_str() {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        _ => return Err(bad()),
    };
    number.checked_mul(1 << shift).ok_or_else(bad)
}

// === impl ForwardArgs ===

impl ForwardArgs {
    pub(super) fn proxy_options(&self) -> anyhow::Result<ProxyOptions> {
        let host = match self.host {
            HostArg::Auto => HostPolicy::Auto,
            HostArg::Client => HostPolicy::Client,
            HostArg::Upstream => HostPolicy::Upstream,
        };
        let via = match &self.via {
            Some(name) => Some(
                HeaderValue::try_from(format!("1.1 {name}"))
                    .map_err(|_| UsageError(format!("`{name}` can't be in a Via field")))?,
            ),
            None => None,
        };
        Ok(ProxyOptions { host, via, ..ProxyOptions::default() })
    }
}

// === impl SecureArgs ===

impl SecureArgs {
    pub(super) fn trust(&self) -> anyhow::Result<Trust> {
        Ok(match (&self.upstream_ca, &self.upstream_pin) {
            (Some(path), _) => Trust::Authorities(path.clone()),
            (None, Some(pin)) if Path::new(pin).is_file() => {
                Trust::Pinned(Pin::of_file(Path::new(pin))?)
            }
            (None, Some(pin)) => Trust::Pinned(
                pin.parse().map_err(|error| UsageError(format!("{error}; nor is it a file")))?,
            ),
            (None, None) => Trust::System,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_bytes_take_suffixes() {
        for (text, expected) in
            [("1", Some(1)), ("64K", Some(65_536)), ("2m", Some(2 << 20)), ("1G", Some(1 << 30))]
        {
            assert_eq!(bytes(text).ok(), expected);
        }
        for text in ["", "K", "1KB", "-1", "1.5M", "99999999999999999999", "99999999999999G"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }
}
