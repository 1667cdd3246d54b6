//! What can go wrong with a request, sorted into the kinds of [`FaultKind`].

use std::error::Error;
use std::fmt::Write as _;
use std::io;

use crate::http::boarding::Carried;
use crate::trace::record::FaultKind;

/// Why a request got no response.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{text}")]
pub struct SendError {
    /// What kind of fault. [`FaultKind::Disconnected`] when it was the request's own body that failed.
    pub kind: FaultKind,
    /// The error with its causes, for people.
    pub text: String,
    /// The connection that the request was handed to; none when there was none.
    pub carried: Option<Carried>,
    /// Whether any byte of a response had been read.
    pub response_started: bool,
}

// === impl SendError ===

impl SendError {
    /// Makes the error of a request that was handed to no connection.
    pub(super) fn unsent(kind: FaultKind, text: String) -> Self {
        Self { kind, text, carried: None, response_started: false }
    }
}

/// Returns the error and its causes as one line, each once.
#[must_use]
pub fn describe(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            // Writing to a String can't fail.
            let _ = write!(text, ": {more}");
        }
        cause = error.source();
    }
    text
}

/// Sorts an error of hyper, h2, rustls or the kernel into its kind.
pub(super) fn classify(error: &(dyn Error + 'static)) -> FaultKind {
    let mut kind = FaultKind::Other;
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(found) = classify_one(error) {
            kind = found;
        }
        if kind == FaultKind::Disconnected {
            // Below it is how the request's own body failed, which says nothing of the peer.
            break;
        }
        cause = error.source();
    }
    kind
}

/// Classifies one link of the chain; deeper links know better, so the last answer counts.
fn classify_one(error: &(dyn Error + 'static)) -> Option<FaultKind> {
    if let Some(error) = error.downcast_ref::<hyper::Error>() {
        return classify_hyper(error);
    }
    if let Some(error) = error.downcast_ref::<h2::Error>() {
        return match error.get_io() {
            Some(error) => classify_io(error),
            None if error.is_reset() || error.is_go_away() => Some(FaultKind::Reset),
            None => Some(FaultKind::Protocol),
        };
    }
    if error.is::<rustls::Error>() {
        return Some(FaultKind::Tls);
    }
    error.downcast_ref::<io::Error>().and_then(classify_io)
}

fn classify_hyper(error: &hyper::Error) -> Option<FaultKind> {
    if error.is_user() {
        Some(FaultKind::Disconnected)
    } else if error.is_timeout() {
        Some(FaultKind::Timeout)
    } else if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
        Some(FaultKind::Closed)
    } else if error.is_parse() {
        Some(FaultKind::Protocol)
    } else {
        None
    }
}

fn classify_io(error: &io::Error) -> Option<FaultKind> {
    // An io::Error names the cause of the error within as its own: what is within must be asked for.
    if let Some(kind) = error.get_ref().and_then(|within| classify_one(within)) {
        return Some(kind);
    }
    match error.kind() {
        io::ErrorKind::ConnectionReset => Some(FaultKind::Reset),
        io::ErrorKind::BrokenPipe
        | io::ErrorKind::UnexpectedEof
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::NotConnected => Some(FaultKind::Closed),
        io::ErrorKind::ConnectionRefused
        | io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::AddrNotAvailable => Some(FaultKind::Connect),
        io::ErrorKind::TimedOut => Some(FaultKind::Timeout),
        // As hyper's readers of bodies have it.
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => Some(FaultKind::Protocol),
        _ => None,
    }
}
