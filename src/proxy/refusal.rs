//! Answers that the proxy makes by itself: what the client gets, and what the trace says.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::http::SendError;
use crate::trace::record::{Fault, FaultKind, FaultSide};

/// Why the proxy answers by itself.
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    /// For the `x-reenact-error` field and the JSON body.
    pub(super) code: &'static str,
    pub(super) fault: Fault,
}

const ERROR_FIELD: HeaderName = HeaderName::from_static("x-reenact-error");

// === impl Refusal ===

impl Refusal {
    /// Returns the fields and the body of the response that says it.
    pub(super) fn message(&self) -> (HeaderMap, Bytes) {
        let Self { code, fault, .. } = self;
        let body = serde_json::json!({
            "error": { "message": fault.text, "type": "reenact_proxy_error", "code": code }
        });
        let body = Bytes::from(body.to_string());
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ERROR_FIELD, HeaderValue::from_static(code));
        headers.insert(CONTENT_LENGTH, body.len().into());
        (headers, body)
    }

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

    /// The operator wants no traffic that is not recorded.
    pub(super) fn unrecorded() -> Self {
        let fault = Fault {
            side: FaultSide::Local,
            kind: FaultKind::Other,
            text: "this request can't be recorded now, and the proxy passes on nothing else"
                .to_owned(),
        };
        Self { status: StatusCode::SERVICE_UNAVAILABLE, code: "unrecorded", fault }
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
