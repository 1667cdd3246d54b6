//! What the proxy does to the messages that it forwards, and how long it waits for them.

use std::time::Duration;

use http::HeaderValue;

use crate::http::Scheme;
use crate::proxy::sampling::Sampler;

/// What the proxy does to messages.
#[derive(Clone, Debug, Default)]
pub struct ProxyOptions {
    /// Which `Host` the upstream sees.
    pub host: HostPolicy,
    /// What to append to `Via`; nothing keeps messages as they are.
    pub via: Option<HeaderValue>,
    /// Refuse what can't be recorded now, rather than pass it on unrecorded.
    pub fail_closed: bool,
    /// What it bears, beside what its server does.
    pub bounds: Bounds,
    /// Which exchanges are recorded.
    pub sampler: Sampler,
}

/// What the proxy bears of one exchange; who goes beyond is answered, on the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of a request's path and query.
    pub max_uri_bytes: usize,
    /// Fields of a request head.
    pub max_headers: usize,
    /// Longest time that a client may send nothing of a request body that the upstream waits for.
    pub upload_stall: Duration,
    /// Longest time from a request's forwarding to the head of its response.
    pub first_byte: Option<Duration>,
    /// Longest time that an upstream may send nothing of a response body that the client waits for.
    pub between_chunks: Option<Duration>,
}

/// Which `Host` (or `:authority`) the upstream sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HostPolicy {
    /// The client's over plain HTTP; the upstream's own over TLS, where it must fit the certificate.
    #[default]
    Auto,
    /// The client's.
    Client,
    /// The upstream's own.
    Upstream,
}

// === impl HostPolicy ===

impl HostPolicy {
    /// Returns whether an upstream of this scheme sees its own name.
    pub(super) fn is_upstreams(self, scheme: Scheme) -> bool {
        match self {
            Self::Auto => scheme == Scheme::Https,
            Self::Client => false,
            Self::Upstream => true,
        }
    }
}

// === impl Bounds ===

impl Default for Bounds {
    fn default() -> Self {
        Self {
            max_uri_bytes: 16 << 10,
            max_headers: 100,
            upload_stall: Duration::from_secs(60),
            first_byte: None,
            between_chunks: None,
        }
    }
}
