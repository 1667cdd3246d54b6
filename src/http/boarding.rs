//! Which connection carries an exchange.

use std::sync::{Arc, Mutex, PoisonError};

use crate::clock::Nanos;
use crate::trace::record::Version;

/// The connection that carried an exchange. In the extensions of a response, and in a [`SendError`](crate::http::SendError).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Carried {
    /// Number of the connection, from 1 in the order of opening.
    pub connection: u64,
    /// Whether it had carried an exchange before.
    pub reused: bool,
    /// The version spoken on it.
    pub version: Version,
    /// Name resolution and TCP connect in nanoseconds; 0 when the connection was there already.
    pub connect_ns: u64,
    /// TLS handshake in nanoseconds; 0 when the connection was there already, or without TLS.
    pub tls_ns: u64,
    /// When the connection was ready to take the request: the first byte was handed over next.
    pub ready_at: Nanos,
    /// Times that the request was sent again on a fresh connection.
    pub retries: u32,
}

/// Put among a request's extensions, it learns which connection carries the request as soon as that is known: also when
/// no response ever comes.
#[derive(Clone, Debug, Default)]
pub struct Boarding(Arc<Mutex<Option<Carried>>>);

// === impl Boarding ===

impl Boarding {
    /// Returns the connection, once there is one; after a retry the later one.
    #[must_use]
    pub fn carried(&self) -> Option<Carried> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set(&self, carried: Carried) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(carried);
    }
}
