//! How much a server takes from one client, and how long it waits for it.

use std::time::Duration;

/// What a server bears. Each limit is armed on both versions of HTTP unless it says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once; more wait in the kernel's queue until one has ended.
    pub max_connections: usize,
    /// Streams at once on an HTTP/2 connection.
    pub max_streams: u32,
    /// Fields of an HTTP/1.1 request head, or of its trailers.
    pub max_headers: usize,
    /// Bytes of a request head, or of its trailers.
    pub max_header_bytes: u32,
    /// Longest time of a TLS handshake.
    pub handshake: Duration,
    /// Longest time from a connection's opening (with TLS: from the handshake) to its first byte.
    pub first_byte: Duration,
    /// Longest time from the first byte of a request head to its last. HTTP/1.1 only: over HTTP/2 a connection without a
    /// whole request is idle.
    pub header: Duration,
    /// Longest time that a connection is kept without a request: over HTTP/1.1 to the end of the next head, over HTTP/2
    /// at least this and at most twice this.
    pub keep_alive: Duration,
    /// Longest time that a client may take no byte of what is written to it.
    pub write_stall: Duration,
}

// === impl Limits ===

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 10_000,
            max_streams: 256,
            max_headers: 100,
            max_header_bytes: 64 << 10,
            handshake: Duration::from_secs(10),
            first_byte: Duration::from_secs(60),
            header: Duration::from_secs(30),
            keep_alive: Duration::from_secs(120),
            write_stall: Duration::from_secs(60),
        }
    }
}
