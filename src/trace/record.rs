//! What a trace holds: the [`Event`]s of exchanges, gaps and the counters that prove nothing is missing in silence.
//!
//! An [`Event`] is both what the recorder is handed and what a reader hands back: a trace is the function between the
//! two, and it is the identity but for the tick of frame stamps (1 us) and for heads that were handed over
//! [packed](PackedHead). How events lie on disk is `format.rs` and
//! FORMAT.md; nothing outside `trace` sees it.
//!
//! Header names are lower-case, as `http::HeaderName` keeps them; values and bodies are bytes as they passed.

use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};

use crate::clock::Nanos;
pub use crate::trace::counters::Counters;
pub use crate::trace::frame::{BareFrame, Frame, FrameRef, FramesRef, Parts, Span};
pub use crate::trace::head::{RequestHead, RequestHeadRef, ResponseHead, ResponseHeadRef};
pub use crate::trace::header::Header;
pub use crate::trace::mark::{BodyMode, PolicyMark};
pub use crate::trace::missing::{DropReason, Gap, Omission, OmitReason};
pub use crate::trace::packed::PackedHead;

/// One thing that happened, in the order in which the recorder heard of it.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// An exchange was admitted: its request head was read. The first event of every exchange.
    Request(Box<RequestHead>),
    /// The connection to the upstream that carries the exchange is known.
    Link(Link),
    /// An interim (1xx) response passed.
    Interim(Box<Interim>),
    /// The final response head was read from the upstream.
    Response(Box<ResponseHead>),
    /// A body frame passed.
    Frame(Frame),
    /// A body frame passed whose bytes could not be recorded.
    Bare(BareFrame),
    /// Trailers passed.
    Trailers(Box<Trailers>),
    /// The exchange ended. The last event of every exchange.
    End(Box<End>),
    /// Something could not be recorded.
    Gap(Gap),
    /// Exchanges were left out on purpose.
    Omission(Omission),
    /// What is known of an exchange's prompt, whose text is not in the trace. Stands before the exchange's end.
    Prompt(Box<Prompt>),
    /// A request or response head on its way into a trace. A reader hands out [`Self::Request`] or [`Self::Response`].
    Packed(PackedHead),
}

/// Number of an exchange: from 1, in the order of admission, unique in a trace.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    bincode::Encode,
    bincode::Decode,
)]
#[serde(transparent)]
pub struct ExchangeId(pub u64);

/// Which way a body flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// From the client to the upstream.
    Request,
    /// From the upstream to the client.
    Response,
}

/// HTTP version of one message on one connection.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, bincode::Encode, bincode::Decode,
)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
    /// HTTP/2
    Http2,
}

/// The upstream connection that carries an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// The exchange.
    pub exchange: ExchangeId,
    /// When the connection was ready to take the request.
    pub at: Nanos,
    /// The upstream connection, from 1 in the order of opening.
    pub connection: u64,
    /// True when an earlier exchange had used it.
    pub reused: bool,
    /// The version spoken on it.
    pub version: Version,
    /// Name resolution and TCP connect in nanoseconds; 0 when reused.
    pub connect_ns: u64,
    /// TLS handshake in nanoseconds; 0 when reused or without TLS.
    pub tls_ns: u64,
}

/// An interim response (1xx other than 101).
#[derive(Clone, Debug, PartialEq)]
pub struct Interim {
    /// The exchange.
    pub exchange: ExchangeId,
    /// When it was read.
    pub at: Nanos,
    /// Its status, 100 to 199.
    pub status: StatusCode,
    /// Its header fields.
    pub headers: HeaderMap,
}

/// Trailers.
#[derive(Clone, Debug, PartialEq)]
pub struct Trailers {
    /// The exchange.
    pub exchange: ExchangeId,
    /// Which way they flowed.
    pub side: Side,
    /// When they were read.
    pub at: Nanos,
    /// The fields.
    pub headers: HeaderMap,
}

/// How an exchange ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// The exchange.
    pub exchange: ExchangeId,
    /// When its last side ended.
    pub at: Nanos,
    /// Complete, failed or cancelled.
    pub outcome: Outcome,
    /// What went wrong and on whose side; none when complete.
    pub fault: Option<Fault>,
    /// Request body as it passed, recorded or not.
    pub request: Passed,
    /// Response body as it passed, recorded or not.
    pub response: Passed,
}

/// What passed in one direction, and what of it the trace does not hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct Passed {
    /// Body bytes that passed.
    pub bytes: u64,
    /// Body frames that passed.
    pub frames: u64,
    /// Of these bytes, those not in the trace.
    pub lost_bytes: u64,
    /// Of these frames, those not in the trace with their bytes: bare ones count.
    pub lost_frames: u64,
    /// True when the end of this side was seen (end of body, or trailers).
    pub ended: bool,
}

/// How an exchange ended, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The client got the whole response, whatever its status.
    Complete,
    /// The upstream or the proxy broke it off.
    Failed,
    /// The client left before the response had ended.
    Cancelled,
}

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Whose side.
    pub side: FaultSide,
    /// What kind.
    pub kind: FaultKind,
    /// The error's text, for people; free of credentials.
    pub text: String,
}

/// Whose fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultSide {
    /// The side that sent the request.
    Client,
    /// The proxy or the replayer itself.
    Local,
    /// The server: the upstream of a recording, the target of a replay.
    Server,
}

/// Kinds of fault, as stable names for queries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// The peer closed the connection in the middle of a message.
    Closed,
    /// No connection: refused, unreachable, or not accepted in time.
    Connect,
    /// The other side of a connection went away (a client that leaves).
    Disconnected,
    /// The name did not resolve.
    Dns,
    /// Any other error.
    Other,
    /// The peer broke HTTP.
    Protocol,
    /// The peer reset the connection or the stream.
    Reset,
    /// A timeout of ours ran out.
    Timeout,
    /// TLS failed: handshake or certificate.
    Tls,
}

/// A prompt without its text, and how many tokens the server said that it and the answer had.
#[derive(Clone, Debug, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct Prompt {
    /// The exchange.
    pub exchange: ExchangeId,
    /// When this was known: at its end.
    pub at: Nanos,
    /// Bytes of text.
    pub bytes: u64,
    /// Bytes of text in each block but the last.
    pub block_bytes: u32,
    /// A keyed hash of each block, chained to the block before.
    pub blocks: Vec<u64>,
    /// Tokens of the prompt.
    pub input_tokens: Option<u64>,
    /// Tokens of the answer.
    pub output_tokens: Option<u64>,
}

// === impl Event ===

impl Event {
    /// Returns the exchange it belongs to; none for a gap or an omission.
    #[must_use]
    pub fn exchange(&self) -> Option<ExchangeId> {
        match self {
            Self::Request(head) => Some(head.exchange),
            Self::Link(link) => Some(link.exchange),
            Self::Interim(interim) => Some(interim.exchange),
            Self::Response(head) => Some(head.exchange),
            Self::Frame(frame) => Some(frame.exchange),
            Self::Bare(frame) => Some(frame.exchange),
            Self::Trailers(trailers) => Some(trailers.exchange),
            Self::End(end) => Some(end.exchange),
            Self::Prompt(prompt) => Some(prompt.exchange),
            Self::Packed(head) => Some(head.exchange),
            Self::Gap(_) | Self::Omission(_) => None,
        }
    }

    /// Returns when it happened; for a gap or an omission, when it began.
    #[must_use]
    pub fn at(&self) -> Nanos {
        match self {
            Self::Request(head) => head.at,
            Self::Link(link) => link.at,
            Self::Interim(interim) => interim.at,
            Self::Response(head) => head.at,
            Self::Frame(frame) => frame.at,
            Self::Bare(frame) => frame.at,
            Self::Trailers(trailers) => trailers.at,
            Self::End(end) => end.at,
            Self::Gap(gap) => gap.from,
            Self::Omission(omission) => omission.from,
            Self::Prompt(prompt) => prompt.at,
            Self::Packed(head) => head.at,
        }
    }

    /// Makes a packed head one whose fields can be looked at.
    pub fn unpack(&mut self) {
        if let Self::Packed(head) = self {
            *self = head.unpack();
        }
    }

    /// Returns whether it begins an exchange.
    #[must_use]
    pub fn is_request_head(&self) -> bool {
        match self {
            Self::Request(_) => true,
            Self::Packed(head) => head.status.is_none(),
            _ => false,
        }
    }

    /// Returns the status, if it is the head of a response.
    #[must_use]
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Response(head) => Some(head.status),
            Self::Packed(head) => head.status,
            _ => None,
        }
    }
}

// === impl Version ===

impl Version {
    /// Returns the usual name: `1.0`, `1.1` or `2`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http10 => "1.0",
            Self::Http11 => "1.1",
            Self::Http2 => "2",
        }
    }
}

impl From<http::Version> for Version {
    /// HTTP/0.9 counts as 1.0, anything above 1.1 as 2.
    fn from(version: http::Version) -> Self {
        match version {
            http::Version::HTTP_09 | http::Version::HTTP_10 => Self::Http10,
            http::Version::HTTP_11 => Self::Http11,
            _ => Self::Http2,
        }
    }
}
