//! What a block holds in bulk: body frames in columns, blobs, and the pieces that bodies are made of.
//!
//! Equal things stand together, since that is what a compressor likes: all lengths, then all times, then all bytes.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::trace::codec::{side_code, side_of};
use crate::trace::record::{ExchangeId, Frame, Side};
use crate::trace::wire::{Cursor, Malformed, len_u64, put_varint, put_zigzag, to_len};

/// Frames of one side of one exchange that follow each other, their stamps in ticks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) exchange: ExchangeId,
    pub(crate) side: Side,
    /// Where the bytes are: here, or in pieces from this offset of the side's body.
    pub(crate) place: Place,
    pub(crate) frames: Vec<Stamp>,
}

/// Where the bytes of a run are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the block itself.
    Inline(Bytes),
    /// In pieces; the first frame starts at this offset of the body.
    Pieces(u64),
}

/// Length and times of one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) len: u64,
    /// When it was read, in ticks.
    pub(crate) at: u64,
    /// Ticks from then to its acceptance.
    pub(crate) lag: u64,
}

/// A stored piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Blob {
    /// True when the body has the bytes in base64.
    pub(crate) base64: bool,
    pub(crate) bytes: Bytes,
}

/// The next pieces of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pieces {
    pub(crate) exchange: ExchangeId,
    pub(crate) side: Side,
    /// Offset in the side's body at which they start.
    pub(crate) offset: u64,
    /// Whether a stretch of pieces begins here.
    pub(crate) begins: bool,
    /// First blob and number of blobs, in order.
    pub(crate) blobs: Vec<(u64, u64)>,
    /// Digest of the stretch of body that ends here.
    pub(crate) digest: Option<[u8; 8]>,
}

/// The frames of a block that is being filled.
#[derive(Debug, Default)]
pub(crate) struct FrameColumns {
    runs: BTreeMap<(ExchangeId, Side), Vec<Filling>>,
}

#[derive(Debug)]
struct Filling {
    /// The offset when the bytes are in pieces.
    pieces: Option<u64>,
    frames: Vec<Stamp>,
    data: Vec<Bytes>,
}

/// Tag bits of a run.
const TAG_RESPONSE: u8 = 1;
const TAG_PIECES: u8 = 2;
/// Most elements that are reserved ahead on the word of a file.
const RESERVE: usize = 1 << 12;
/// Tag bit of pieces: the stretch ends here.
const TAG_ENDS: u8 = 2;
/// Tag bit of pieces: a stretch begins here.
const TAG_BEGINS: u8 = 4;

/// Returns the stamp of `frame` in ticks of `tick_ns`.
pub(crate) fn stamp(frame: &Frame, tick_ns: u32) -> Stamp {
    let tick = u64::from(tick_ns.max(1));
    let at = frame.at.0 / tick;
    Stamp { len: len_u64(frame.data.len()), at, lag: (frame.accepted.0 / tick).saturating_sub(at) }
}

/// Returns the blobs of a blobs record.
pub(crate) fn decode_blobs(payload: Bytes) -> Result<Vec<Blob>, Malformed> {
    let mut cursor = Cursor::new(payload);
    let count = cursor.count()?;
    let lens = cursor.varints(count)?;
    lens.into_iter()
        .map(|len| Ok(Blob { base64: len & 1 == 1, bytes: cursor.take(to_len(len >> 1))? }))
        .collect()
}

// === impl Pieces ===

impl Pieces {
    /// Appends the record; blob ids are relative to `base`, the first id of the block.
    pub(crate) fn encode(&self, base: u64, out: &mut Vec<u8>) {
        put_varint(out, self.exchange.0);
        let ends = if self.digest.is_some() { TAG_ENDS } else { 0 };
        let begins = if self.begins { TAG_BEGINS } else { 0 };
        out.push(side_code(self.side) | ends | begins);
        put_varint(out, self.offset);
        put_varint(out, len_u64(self.blobs.len()));
        let mut expected = base;
        for &(first, count) in &self.blobs {
            put_zigzag(out, first.wrapping_sub(expected).cast_signed());
            put_varint(out, count);
            expected = first + count;
        }
        if let Some(digest) = &self.digest {
            out.extend_from_slice(digest);
        }
    }

    pub(crate) fn decode(payload: Bytes, base: u64) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(payload);
        let exchange = ExchangeId(cursor.varint()?);
        let tag = cursor.u8()?;
        let offset = cursor.varint()?;
        let count = cursor.count()?;
        let mut blobs = Vec::with_capacity(count.min(RESERVE));
        let mut expected = base;
        for _ in 0..count {
            let first = expected.wrapping_add(cursor.zigzag()?.cast_unsigned());
            let count = cursor.varint()?;
            expected = first.checked_add(count).ok_or(Malformed("a blob id is too large"))?;
            blobs.push((first, count));
        }
        let mut digest = None;
        if tag & TAG_ENDS != 0 {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&cursor.take(8)?);
            digest = Some(bytes);
        }
        let side = side_of(tag & TAG_RESPONSE)?;
        Ok(Self { exchange, side, offset, begins: tag & TAG_BEGINS != 0, blobs, digest })
    }
}

// === impl FrameColumns ===

impl FrameColumns {
    pub(crate) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Adds a frame with its bytes.
    pub(crate) fn push_inline(
        &mut self,
        exchange: ExchangeId,
        side: Side,
        stamp: Stamp,
        data: Bytes,
    ) {
        let filling = self.filling(exchange, side, None);
        filling.frames.push(stamp);
        filling.data.push(data);
    }

    /// Adds a frame whose bytes are in pieces, from `offset` of the body.
    pub(crate) fn push_pieces(
        &mut self,
        exchange: ExchangeId,
        side: Side,
        stamp: Stamp,
        offset: u64,
    ) {
        self.filling(exchange, side, Some(offset)).frames.push(stamp);
    }

    /// Returns the run to go on with, or begins one when the place of the bytes has changed.
    fn filling(&mut self, exchange: ExchangeId, side: Side, pieces: Option<u64>) -> &mut Filling {
        let runs = self.runs.entry((exchange, side)).or_default();
        if runs.last().is_none_or(|last| last.pieces.is_some() != pieces.is_some()) {
            runs.push(Filling { pieces, frames: Vec::new(), data: Vec::new() });
        }
        let last = runs.len() - 1;
        &mut runs[last]
    }

    /// Appends the record and forgets the frames.
    pub(crate) fn encode(&mut self, out: &mut Vec<u8>) {
        let runs = std::mem::take(&mut self.runs);
        let runs = || runs.iter().flat_map(|(key, runs)| runs.iter().map(move |run| (*key, run)));
        put_varint(out, len_u64(runs().count()));
        let mut previous = 0;
        for ((exchange, _), _) in runs() {
            put_zigzag(out, exchange.0.wrapping_sub(previous).cast_signed());
            previous = exchange.0;
        }
        for ((_, side), run) in runs() {
            out.push(side_code(side) | if run.pieces.is_some() { TAG_PIECES } else { 0 });
        }
        for (_, run) in runs() {
            put_varint(out, len_u64(run.frames.len()));
        }
        for offset in runs().filter_map(|(_, run)| run.pieces) {
            put_varint(out, offset);
        }
        let frames = || runs().flat_map(|(_, run)| &run.frames);
        for frame in frames() {
            put_varint(out, frame.len);
        }
        let mut first = 0;
        for (_, run) in runs() {
            let mut previous = first;
            first = run.frames.first().map_or(first, |frame| frame.at);
            for frame in &run.frames {
                put_zigzag(out, frame.at.wrapping_sub(previous).cast_signed());
                previous = frame.at;
            }
        }
        for frame in frames() {
            put_varint(out, frame.lag);
        }
        for data in runs().flat_map(|(_, run)| &run.data) {
            out.extend_from_slice(data);
        }
    }
}

/// Returns the runs of a frames record.
pub(crate) fn decode_frames(payload: Bytes) -> Result<Vec<Run>, Malformed> {
    let mut cursor = Cursor::new(payload);
    let count = cursor.count()?;
    let mut exchange = 0_u64;
    let mut exchanges = Vec::with_capacity(count.min(RESERVE));
    for _ in 0..count {
        exchange = exchange.wrapping_add(cursor.zigzag()?.cast_unsigned());
        exchanges.push(ExchangeId(exchange));
    }
    let tags = cursor.take(count)?;
    let counts = cursor.varints(count)?;
    let in_pieces = tags.iter().filter(|&&tag| tag & TAG_PIECES != 0).count();
    let mut offsets = cursor.varints(in_pieces)?.into_iter();
    let total = counts.iter().try_fold(0_u64, |sum, &count| sum.checked_add(count));
    let total = to_len(total.ok_or(Malformed("a run has too many frames"))?);
    let lens = cursor.varints(total)?;
    let mut ats = Vec::with_capacity(total.min(RESERVE));
    let mut first = 0_u64;
    for &count in &counts {
        let mut at = first;
        for idx in 0..count {
            at = at.wrapping_add(cursor.zigzag()?.cast_unsigned());
            if idx == 0 {
                first = at;
            }
            ats.push(at);
        }
    }
    let lags = cursor.varints(total)?;
    let mut stamps =
        lens.into_iter().zip(ats).zip(lags).map(|((len, at), lag)| Stamp { len, at, lag });
    let mut runs = Vec::with_capacity(count.min(RESERVE));
    for ((exchange, &tag), count) in exchanges.into_iter().zip(tags.iter()).zip(counts) {
        let frames: Vec<Stamp> = stamps.by_ref().take(to_len(count)).collect();
        let place = if tag & TAG_PIECES != 0 {
            Place::Pieces(offsets.next().ok_or(Malformed("a run has no offset"))?)
        } else {
            let bytes = frames.iter().try_fold(0_u64, |sum, frame| sum.checked_add(frame.len));
            Place::Inline(cursor.take(to_len(bytes.ok_or(Malformed("a frame is too long"))?))?)
        };
        runs.push(Run { exchange, side: side_of(tag & TAG_RESPONSE)?, place, frames });
    }
    Ok(runs)
}
