//! Body frames: with their bytes, and bare of them.

use bytes::Bytes;

use crate::clock::Nanos;
use crate::trace::record::{ExchangeId, Side};

/// A body frame as it passed: the bytes and the cut are the wire's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The exchange.
    pub exchange: ExchangeId,
    /// Which way it flowed.
    pub side: Side,
    /// When it was read from one side.
    pub at: Nanos,
    /// When the other side asked for the next one, that is, had accepted this one. Never before `at`.
    pub accepted: Nanos,
    /// The bytes, content-encoded as they came.
    pub data: Bytes,
}

/// A body frame whose bytes are somebody else's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameRef<'a> {
    /// The exchange.
    pub exchange: ExchangeId,
    /// Which way it flowed.
    pub side: Side,
    /// As in [`Frame`].
    pub at: Nanos,
    /// As in [`Frame`].
    pub accepted: Nanos,
    /// The bytes.
    pub data: &'a [u8],
}

/// A body frame whose bytes could not be recorded, only that it passed. Its [`End`](crate::trace::record::End) counts it
/// as lost, and so does a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BareFrame {
    /// The exchange.
    pub exchange: ExchangeId,
    /// Which way it flowed.
    pub side: Side,
    /// As in [`Frame`].
    pub at: Nanos,
    /// As in [`Frame`].
    pub accepted: Nanos,
    /// Bytes that it had.
    pub len: u64,
}

// === impl Frame ===

impl Frame {
    /// Returns the frame without a hold on its bytes.
    #[must_use]
    pub fn as_ref(&self) -> FrameRef<'_> {
        let Self { exchange, side, at, accepted, ref data } = *self;
        FrameRef { exchange, side, at, accepted, data }
    }
}

// === impl FrameRef ===

impl FrameRef<'_> {
    /// Returns the frame with a copy of its bytes.
    #[must_use]
    pub fn to_frame(self) -> Frame {
        let Self { exchange, side, at, accepted, data } = self;
        Frame { exchange, side, at, accepted, data: Bytes::copy_from_slice(data) }
    }

    /// Returns the frame without its bytes.
    #[must_use]
    pub fn to_bare(self) -> BareFrame {
        let Self { exchange, side, at, accepted, data } = self;
        BareFrame { exchange, side, at, accepted, len: data.len() as u64 }
    }
}
