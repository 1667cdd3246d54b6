//! The heads of requests and responses.

use http::{HeaderMap, Method, StatusCode};

use crate::clock::Nanos;
use crate::trace::record::{ExchangeId, Version};

/// A request head, credentials already replaced.
#[derive(Clone, Debug, PartialEq)]
pub struct RequestHead {
    /// The exchange that this begins.
    pub exchange: ExchangeId,
    /// When the head was read.
    pub at: Nanos,
    /// The client's connection, from 1 in the order of acceptance.
    pub connection: u64,
    /// The version that the client spoke.
    pub version: Version,
    /// The method.
    pub method: Method,
    /// Path and query as received (for `CONNECT` the authority; credentials in the query replaced).
    pub target: String,
    /// The authority that the client named: `Host`, or `:authority` in HTTP/2.
    pub authority: Option<String>,
    /// Header fields as received, hop-by-hop fields included.
    pub headers: HeaderMap,
    /// Index into [`Header::upstreams`](crate::trace::record::Header::upstreams) of the upstream that was chosen; `u32::MAX` when none serves the path.
    pub upstream: u32,
}

/// A [`RequestHead`] where it lies; what packs it may replace credentials.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "the fields are those of `RequestHead`")]
pub struct RequestHeadRef<'a> {
    pub exchange: ExchangeId,
    pub at: Nanos,
    pub connection: u64,
    pub version: Version,
    pub method: &'a Method,
    pub target: &'a str,
    pub authority: Option<&'a str>,
    pub headers: &'a HeaderMap,
    pub upstream: u32,
}

/// The final response head (101 included), credentials already replaced.
#[derive(Clone, Debug, PartialEq)]
pub struct ResponseHead {
    /// The exchange.
    pub exchange: ExchangeId,
    /// When it was read from the upstream, or made by the proxy when that failed.
    pub at: Nanos,
    /// The version that the upstream spoke.
    pub version: Version,
    /// The status.
    pub status: StatusCode,
    /// The reason phrase, when it is not the usual one for the status.
    pub reason: Option<String>,
    /// Header fields as received, hop-by-hop fields included.
    pub headers: HeaderMap,
}

/// A [`ResponseHead`] where it lies; what packs it may replace credentials.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "the fields are those of `ResponseHead`")]
pub struct ResponseHeadRef<'a> {
    pub exchange: ExchangeId,
    pub at: Nanos,
    pub version: Version,
    pub status: StatusCode,
    pub reason: Option<&'a str>,
    pub headers: &'a HeaderMap,
}

// === impl RequestHead ===

impl RequestHead {
    /// Returns it by reference.
    #[must_use]
    pub fn view(&self) -> RequestHeadRef<'_> {
        RequestHeadRef {
            exchange: self.exchange,
            at: self.at,
            connection: self.connection,
            version: self.version,
            method: &self.method,
            target: &self.target,
            authority: self.authority.as_deref(),
            headers: &self.headers,
            upstream: self.upstream,
        }
    }
}

// === impl ResponseHead ===

impl ResponseHead {
    /// Returns it by reference.
    #[must_use]
    pub fn view(&self) -> ResponseHeadRef<'_> {
        ResponseHeadRef {
            exchange: self.exchange,
            at: self.at,
            version: self.version,
            status: self.status,
            reason: self.reason.as_deref(),
            headers: &self.headers,
        }
    }
}
