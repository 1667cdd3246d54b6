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

/// Frames of one side of an exchange that were read together, and accepted together.
#[derive(Clone, Copy, Debug)]
pub struct FramesRef<'a> {
    /// The exchange.
    pub exchange: ExchangeId,
    /// Which way they flowed.
    pub side: Side,
    /// As in [`Frame`].
    pub at: Nanos,
    /// As in [`Frame`].
    pub accepted: Nanos,
    /// The bytes of each.
    pub parts: Parts<'a>,
}

/// Parts of one piece of memory, in its order. What lies between them belongs to none.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    bytes: &'a [u8],
    spans: &'a [Span],
}

/// Where a part is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Bytes before it.
    pub start: usize,
    /// Its length in bytes.
    pub len: usize,
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

impl<'a> FrameRef<'a> {
    /// Returns the frame as the only one of several. Where its bytes are among themselves goes to `whole`.
    #[must_use]
    pub fn alone(self, whole: &'a mut Span) -> FramesRef<'a> {
        let Self { exchange, side, at, accepted, data } = self;
        *whole = Span { start: 0, len: data.len() };
        let parts = Parts::new(data, std::slice::from_ref(whole));
        FramesRef { exchange, side, at, accepted, parts }
    }

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

// === impl FramesRef ===

impl<'a> FramesRef<'a> {
    /// Returns each of them.
    pub fn iter(self) -> impl Iterator<Item = FrameRef<'a>> {
        let Self { exchange, side, at, accepted, parts } = self;
        parts.iter().map(move |data| FrameRef { exchange, side, at, accepted, data })
    }
}

// === impl Parts ===

impl<'a> Parts<'a> {
    /// Takes the parts of `bytes` that are at `spans`.
    ///
    /// # Panics
    /// Later, when one of them is looked at that is not within `bytes`.
    #[must_use]
    pub const fn new(bytes: &'a [u8], spans: &'a [Span]) -> Self {
        Self { bytes, spans }
    }

    /// Returns the memory that they are parts of.
    #[must_use]
    pub const fn bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// Returns where they are.
    #[must_use]
    pub const fn spans(self) -> &'a [Span] {
        self.spans
    }

    /// Returns each of them.
    pub fn iter(self) -> impl Iterator<Item = &'a [u8]> {
        self.spans.iter().map(move |span| span.of(self.bytes))
    }

    /// Returns how many bytes all of them have together.
    #[must_use]
    pub fn total(self) -> usize {
        self.spans.iter().map(|span| span.len).sum()
    }

    /// Returns all but the last, and that; none when there are none.
    #[must_use]
    pub fn split_last(self) -> Option<(Self, &'a [u8])> {
        let (last, before) = self.spans.split_last()?;
        Some((Self { spans: before, ..self }, last.of(self.bytes)))
    }
}

// === impl Span ===

impl Span {
    fn of(self, bytes: &[u8]) -> &[u8] {
        &bytes[self.start..][..self.len]
    }
}
