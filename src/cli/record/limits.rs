//! What `reenact record` bears of one client and of one upstream.

use std::time::Duration;

use clap::Args;

use crate::cli::duration;
use crate::http::Limits;
use crate::proxy::Bounds;

use super::args::bytes;

/// How much is taken, and how long is waited
#[derive(Debug, Args)]
#[command(next_help_heading = "Limits")]
pub(super) struct LimitArgs {
    /// Client connections at once; more wait until one has ended
    #[arg(long, value_name = "N", env = "REENACT_MAX_CONNECTIONS", default_value_t = Limits::default().max_connections, value_parser = count)]
    max_connections: usize,
    /// Streams at once on a client's HTTP/2 connection
    #[arg(long, value_name = "N", env = "REENACT_MAX_STREAMS", default_value_t = Limits::default().max_streams,
          value_parser = clap::value_parser!(u32).range(1..))]
    max_streams: u32,
    /// Fields of a message head, or of trailers
    #[arg(long, value_name = "N", env = "REENACT_MAX_HEADERS", default_value_t = Limits::default().max_headers, value_parser = count)]
    pub(super) max_headers: usize,
    /// Bytes of a message head, or of trailers; K, M and G are understood
    #[arg(long, value_name = "BYTES", env = "REENACT_MAX_HEADER_BYTES", default_value = "64K", value_parser = header_bytes)]
    pub(super) max_header_bytes: u32,
    /// Bytes of a request's path and query
    #[arg(long, value_name = "BYTES", env = "REENACT_MAX_URI_BYTES", default_value = "16K", value_parser = bytes)]
    max_uri_bytes: usize,
    /// Longest TLS handshake of a client
    #[arg(long, value_name = "TIME", env = "REENACT_HANDSHAKE_TIMEOUT", default_value = "10s", value_parser = duration)]
    handshake_timeout: Duration,
    /// Longest time from a client's connecting to its first byte
    #[arg(long, value_name = "TIME", env = "REENACT_IDLE_TIMEOUT", default_value = "60s", value_parser = duration)]
    idle_timeout: Duration,
    /// Longest time from the first byte of a request head to its last
    #[arg(long, value_name = "TIME", env = "REENACT_HEADER_TIMEOUT", default_value = "30s", value_parser = duration)]
    header_timeout: Duration,
    /// Longest time that a client's connection is kept without a request
    #[arg(long, value_name = "TIME", env = "REENACT_KEEP_ALIVE_TIMEOUT", default_value = "120s", value_parser = duration)]
    keep_alive_timeout: Duration,
    /// Longest time that a client may send nothing of a request body
    #[arg(long, value_name = "TIME", env = "REENACT_UPLOAD_TIMEOUT", default_value = "60s", value_parser = duration)]
    upload_timeout: Duration,
    /// Longest time that a client may take nothing of what is sent to it
    #[arg(long, value_name = "TIME", env = "REENACT_WRITE_TIMEOUT", default_value = "60s", value_parser = duration)]
    write_timeout: Duration,
    /// Longest time from a request's forwarding to its response head; as long as it takes without it
    #[arg(long, value_name = "TIME", env = "REENACT_RESPONSE_TIMEOUT", value_parser = duration)]
    response_timeout: Option<Duration>,
    /// Longest time between two chunks of a response; as long as it takes without it
    #[arg(long, value_name = "TIME", env = "REENACT_CHUNK_TIMEOUT", value_parser = duration)]
    chunk_timeout: Option<Duration>,
    /// Connections to upstreams at once; a request that finds none free waits for --connect-timeout
    #[arg(long, value_name = "N", env = "REENACT_MAX_UPSTREAM_CONNECTIONS", default_value_t = 10_000, value_parser = count)]
    pub(super) max_upstream_connections: usize,
    /// Idle connections to an upstream that a client connection keeps
    #[arg(long, value_name = "N", env = "REENACT_MAX_UPSTREAM_IDLE", default_value_t = 64)]
    pub(super) max_upstream_idle: usize,
    /// Longest time that an idle connection to an upstream is kept
    #[arg(long, value_name = "TIME", env = "REENACT_UPSTREAM_IDLE_TIMEOUT", default_value = "90s", value_parser = duration)]
    pub(super) upstream_idle_timeout: Duration,
}

/// Reads a number from 1.
fn count(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| format!("`{text}` is no number from 1"))
}

/// Reads a number of bytes that hyper takes for a head: 8 KiB is what it reads at once.
fn header_bytes(text: &str) -> Result<u32, String> {
    let number = bytes(text)?;
    u32::try_from(number)
        .ok()
        .filter(|number| (MIN_HEADER_BYTES..=MAX_HEADER_BYTES).contains(number))
        .ok_or_else(|| format!("`{text}` is not from 8K to 256K"))
}

const MIN_HEADER_BYTES: u32 = 8 << 10;
const MAX_HEADER_BYTES: u32 = 256 << 10;

// === impl LimitArgs ===

impl LimitArgs {
    /// Returns what the server bears.
    pub(super) fn limits(&self) -> Limits {
        Limits {
            max_connections: self.max_connections,
            max_streams: self.max_streams,
            max_headers: self.max_headers,
            max_header_bytes: self.max_header_bytes,
            handshake: self.handshake_timeout,
            first_byte: self.idle_timeout,
            header: self.header_timeout,
            keep_alive: self.keep_alive_timeout,
            write_stall: self.write_timeout,
        }
    }

    /// Returns what the proxy bears.
    pub(super) fn bounds(&self) -> Bounds {
        Bounds {
            max_uri_bytes: self.max_uri_bytes,
            max_headers: self.max_headers,
            upload_stall: self.upload_timeout,
            first_byte: self.response_timeout,
            between_chunks: self.chunk_timeout,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        limits: LimitArgs,
    }

    #[test]
    fn the_flags_defaults_are_the_limits_defaults() {
        let args = Command::parse_from(["x"]).limits;
        assert_eq!(args.limits(), Limits::default());
        assert_eq!(args.bounds(), Bounds::default());
    }

    #[test]
    fn what_would_serve_nobody_is_refused() {
        for flag in ["--max-connections=0", "--max-streams=0", "--max-headers=0"] {
            assert!(Command::try_parse_from(["x", flag]).is_err(), "{flag}");
        }
        for flag in ["--max-header-bytes=1K", "--max-header-bytes=1M", "--write-timeout=x"] {
            assert!(Command::try_parse_from(["x", flag]).is_err(), "{flag}");
        }
    }
}
