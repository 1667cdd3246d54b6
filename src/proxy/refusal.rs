//! Answers that the proxy makes by itself: what the client gets, and what the trace says.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version};

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
    /// Returns the fields and the body of the response that says it, over `version`.
    pub(super) fn message(&self, version: Version) -> (HeaderMap, Bytes) {
        let Self { code, fault, .. } = self;
        let body = serde_json::json!({
            "error": { "message": fault.text, "type": "reenact_proxy_error", "code": code }
        });
        let body = Bytes::from(body.to_string());
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ERROR_FIELD, HeaderValue::from_static(code));
        headers.insert(CONTENT_LENGTH, body.len().into());
        let is_suspect = fault.side == FaultSide::Client && fault.kind == FaultKind::Protocol;
        if is_suspect && version < Version::HTTP_2 {
            // What follows on the connection may be what somebody hid in this request.
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
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

    /// The request is none that may be forwarded. Its connection is not to be trusted with another.
    pub(super) fn malformed(text: &'static str) -> Self {
        Self::by_client(StatusCode::BAD_REQUEST, "malformed", FaultKind::Protocol, text)
    }

    /// The body is coded for its transfer in a way that the proxy does not know.
    pub(super) fn transfer_coding() -> Self {
        let text = "the request has a transfer coding other than chunked";
        Self::by_client(StatusCode::NOT_IMPLEMENTED, "transfer-coding", FaultKind::Protocol, text)
    }

    pub(super) fn uri_too_long() -> Self {
        let text = "the path and query are longer than --max-uri-bytes";
        Self::by_client(StatusCode::URI_TOO_LONG, "uri-too-long", FaultKind::Protocol, text)
    }

    pub(super) fn too_many_fields() -> Self {
        let text = "the request has more fields than --max-headers";
        let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        Self::by_client(status, "too-many-fields", FaultKind::Protocol, text)
    }

    /// The client sent nothing of its body for too long.
    pub(super) fn slow_upload(fault: Fault) -> Self {
        Self { status: StatusCode::REQUEST_TIMEOUT, code: "slow-upload", fault }
    }

    pub(super) fn no_upstream() -> Self {
        let text = "no upstream serves this path";
        Self::by_client(StatusCode::NOT_FOUND, "no-upstream", FaultKind::Other, text)
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
        let text = "a reverse proxy does not serve CONNECT";
        let status = StatusCode::METHOD_NOT_ALLOWED;
        Self::by_client(status, "connect-method", FaultKind::Protocol, text)
    }

    pub(super) fn unasked_upgrade() -> Self {
        Self::protocol("the upstream switched to a protocol that was not asked for")
    }

    /// The response is none that may be forwarded.
    pub(super) fn protocol(text: &str) -> Self {
        let fault =
            Fault { side: FaultSide::Server, kind: FaultKind::Protocol, text: text.to_owned() };
        Self { status: StatusCode::BAD_GATEWAY, code: "protocol", fault }
    }

    /// The upstream took too long to begin its response.
    pub(super) fn late(limit: Duration) -> Self {
        let text = format!("no response within {} ms", limit.as_millis());
        let fault = Fault { side: FaultSide::Server, kind: FaultKind::Timeout, text };
        Self { status: StatusCode::GATEWAY_TIMEOUT, code: "timeout", fault }
    }

    fn by_client(status: StatusCode, code: &'static str, kind: FaultKind, text: &str) -> Self {
        let fault = Fault { side: FaultSide::Client, kind, text: text.to_owned() };
        Self { status, code, fault }
    }
}
