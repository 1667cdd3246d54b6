//! What the proxy does to the messages that it forwards.

use http::HeaderValue;

use crate::http::Scheme;

/// What the proxy does to messages.
#[derive(Clone, Debug, Default)]
pub struct ProxyOptions {
    /// Which `Host` the upstream sees.
    pub host: HostPolicy,
    /// What to append to `Via`; nothing keeps messages as they are.
    pub via: Option<HeaderValue>,
    /// Refuse what can't be recorded now, rather than pass it on unrecorded.
    pub fail_closed: bool,
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
