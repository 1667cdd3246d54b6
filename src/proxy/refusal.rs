//! Answers that the proxy makes by itself: what the client gets, and what the trace says.

use http::StatusCode;

use crate::http::SendError;
use crate::trace::record::{Fault, FaultKind, FaultSide};

/// Why the proxy answers by itself.
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    /// For the `x-reenact-error` field and the JSON body.
    pub(super) code: &'static str,
    pub(super) fault: Fault,
}

// === impl Refusal ===

impl Refusal {
    /// The upstream gave no response.
    pub(super) fn of(error: SendError) -> Self {
        let (status, code) = match error.kind {
            FaultKind::Timeout => (StatusCode::GATEWAY_TIMEOUT, "timeout"),
            FaultKind::Connect => (StatusCode::BAD_GATEWAY, "connect"),
            FaultKind::Dns => (StatusCode::BAD_GATEWAY, "dns"),
            FaultKind::Tls => (StatusCode::BAD_GATEWAY, "tls"),
            FaultKind::Reset => (StatusCode::BAD_GATEWAY, "reset"),
            FaultKind::Closed => (StatusCode::BAD_GATEWAY, "closed"),
            FaultKind::Protocol => (StatusCode::BAD_GATEWAY, "protocol"),
            FaultKind::Disconnected => (StatusCode::BAD_REQUEST, "disconnected"),
            FaultKind::Other => (StatusCode::BAD_GATEWAY, "other"),
        };
        let side = match error.kind {
            FaultKind::Disconnected => FaultSide::Client,
            _ => FaultSide::Server,
        };
        let fault = Fault { side, kind: error.kind, text: format!("no response: {}", error.text) };
        Self { status, code, fault }
    }

    pub(super) fn no_upstream() -> Self {
        let fault = Fault {
            side: FaultSide::Client,
            kind: FaultKind::Other,
            text: "no upstream serves this path".to_owned(),
        };
        Self { status: StatusCode::NOT_FOUND, code: "no-upstream", fault }
    }

    pub(super) fn connect_method() -> Self {
        let fault = Fault {
            side: FaultSide::Client,
            kind: FaultKind::Protocol,
            text: "a reverse proxy does not serve CONNECT".to_owned(),
        };
        Self { status: StatusCode::METHOD_NOT_ALLOWED, code: "connect-method", fault }
    }

    pub(super) fn unasked_upgrade() -> Self {
        let fault = Fault {
            side: FaultSide::Server,
            kind: FaultKind::Protocol,
            text: "the upstream switched protocols without being asked".to_owned(),
        };
        Self { status: StatusCode::BAD_GATEWAY, code: "protocol", fault }
    }
}
