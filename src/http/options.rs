//! How a client connects.

use std::sync::Arc;
use std::time::Duration;

use crate::http::connect::{Budget, Connects};

/// How a [`Client`](crate::http::client::Client) connects.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// Longest time for name resolution, TCP connect and TLS handshake together.
    pub connect_timeout: Duration,
    /// Which version of HTTP to speak.
    pub protocol: Protocol,
    /// TLS settings (`http::tls`), needed for an `https` origin. The ALPN list is set by the client.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// Most idle HTTP/1.1 connections kept; 0 for a connection per exchange.
    pub max_idle: usize,
    /// Longest time that an idle connection is kept.
    pub idle_timeout: Duration,
    /// Most fields of an HTTP/1.1 response head, or of its trailers.
    pub max_headers: usize,
    /// Most bytes of a response head, or of its trailers.
    pub max_header_bytes: u32,
    /// Keep the case of HTTP/1.1 response header names, for a server that writes them out again.
    pub preserve_header_case: bool,
    /// Stamp each read of a connection, so that a frame of an HTTP/1.1 response tells when its bytes came.
    pub stamp_reads: bool,
    /// Connections at once, shared with every client that has the same; any number without.
    pub budget: Option<Budget>,
    /// Where the times of TCP connects are noted.
    pub connects: Option<Connects>,
}

/// Which version of HTTP a client speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// What ALPN chooses; HTTP/1.1 without TLS.
    #[default]
    Auto,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2; without TLS by prior knowledge.
    Http2,
}

// === impl ClientOptions ===

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            protocol: Protocol::Auto,
            tls: None,
            max_idle: 1024,
            idle_timeout: Duration::from_secs(90),
            max_headers: 100,
            max_header_bytes: 256 << 10,
            preserve_header_case: false,
            stamp_reads: false,
            budget: None,
            connects: None,
        }
    }
}
