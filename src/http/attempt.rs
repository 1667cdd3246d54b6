//! What is known of one attempt to send a request: what its connection took, and how it failed.

use http::Request;
use hyper::client::conn::TrySendError;

use crate::http::boarding::Carried;
use crate::http::body::RequestBody;
use crate::http::error::{SendError, classify, describe};
use crate::trace::record::FaultKind;

/// A failed attempt: the error, and the request if none of it has left.
pub(super) struct Failed {
    pub(super) error: SendError,
    pub(super) unsent: Option<Request<RequestBody>>,
}

/// Whether a failed attempt was made on a connection that had been idle, which may have died unseen.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stale {
    Yes,
    No,
}

/// What opening a connection took.
#[derive(Clone, Copy, Default)]
pub(super) struct Opening {
    pub(super) connect_ns: u64,
    pub(super) tls_ns: u64,
}

// === impl Failed ===

impl Failed {
    pub(super) fn new(
        mut error: TrySendError<Request<RequestBody>>,
        carried: Carried,
        response_started: bool,
    ) -> Self {
        let unsent = error.take_message();
        let cause = error.into_error();
        let kind = match classify(&cause) {
            FaultKind::Other if cause.is_canceled() => FaultKind::Closed,
            kind => kind,
        };
        let text = describe(&cause);
        Self { error: SendError { kind, text, carried: Some(carried), response_started }, unsent }
    }
}
