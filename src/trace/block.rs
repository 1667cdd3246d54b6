//! The block that is being filled: its records, and in which order they lie in it.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::trace::bare::BareColumns;
use crate::trace::codec::encode_counters;
use crate::trace::columns::{FrameColumns, Key, Stamp};
use crate::trace::format::opcode;
use crate::trace::pieces::Pieces;
use crate::trace::record::{Counters, ExchangeId, Parts, Side};
use crate::trace::unwritten::Frames;
use crate::trace::wire::{Cursor, Malformed, len_u64, put_varint};

/// The first record of each zstd frame: where it is, so that a reader that starts here knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Start {
    /// Number of the zstd frame, from 0.
    pub(crate) ordinal: u32,
    /// File offset of the block.
    pub(crate) offset: u64,
    /// Number of the first blob that is stored from here on.
    pub(crate) first_blob: u64,
}

/// Where a piece belongs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PiecePlace {
    pub(crate) exchange: ExchangeId,
    pub(crate) side: Side,
    /// Offset in the body at which its stretch began.
    pub(crate) start: u64,
    /// Offset at which the piece starts.
    pub(crate) offset: u64,
}

/// A block that is being filled.
#[derive(Debug, Default)]
pub(crate) struct BlockBuilder {
    /// Records other than frames, blobs and pieces.
    records: Vec<u8>,
    blob_lens: Vec<u8>,
    blob_bytes: Vec<u8>,
    blobs: u64,
    /// Of each body, the stretches; the last is open unless it has a digest.
    pieces: BTreeMap<(ExchangeId, Side), Vec<Pieces>>,
    frames: FrameColumns,
    bare: BareColumns,
    frame_bytes: usize,
}

/// What a frame costs in a block beside its bytes, about.
const FRAME_COST: usize = 8;

/// Appends a record.
pub(crate) fn put_record(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    out.push(opcode);
    put_varint(out, len_u64(payload.len()));
    out.extend_from_slice(payload);
}

// === impl Start ===

impl Start {
    pub(crate) fn encode(self) -> Vec<u8> {
        let mut payload = Vec::new();
        put_varint(&mut payload, u64::from(self.ordinal));
        put_varint(&mut payload, self.offset);
        put_varint(&mut payload, self.first_blob);
        payload
    }

    pub(crate) fn decode(payload: Bytes) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(payload);
        let ordinal = u32::try_from(cursor.varint()?)
            .map_err(|_| Malformed("a zstd frame's number is too large"))?;
        Ok(Self { ordinal, offset: cursor.varint()?, first_blob: cursor.varint()? })
    }
}

// === impl BlockBuilder ===

impl BlockBuilder {
    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty()
            && self.blobs == 0
            && self.pieces.is_empty()
            && self.frames.is_empty()
            && self.bare.is_empty()
    }

    /// Returns about how many bytes it will have.
    pub(crate) fn len(&self) -> usize {
        self.records.len() + self.blob_lens.len() + self.blob_bytes.len() + self.frame_bytes
    }

    /// Returns the number of blobs in it.
    pub(crate) fn blobs(&self) -> u64 {
        self.blobs
    }

    pub(crate) fn record(&mut self, opcode: u8, payload: &[u8]) {
        put_record(&mut self.records, opcode, payload);
    }

    pub(crate) fn blob(&mut self, base64: bool, bytes: &[u8]) {
        put_varint(&mut self.blob_lens, len_u64(bytes.len()) << 1 | u64::from(base64));
        self.blob_bytes.extend_from_slice(bytes);
        self.blobs += 1;
    }

    /// Adds a blob to the pieces of a body.
    pub(crate) fn piece(&mut self, place: PiecePlace, blob: u64) {
        let pieces = self.pieces_of(place);
        match pieces.blobs.last_mut() {
            Some((first, count)) if *first + *count == blob => *count += 1,
            _ => pieces.blobs.push((blob, 1)),
        }
    }

    /// Ends a stretch of pieces.
    pub(crate) fn end_pieces(&mut self, place: PiecePlace, digest: [u8; 8]) {
        self.pieces_of(place).digest = Some(digest);
    }

    fn pieces_of(&mut self, place: PiecePlace) -> &mut Pieces {
        let stretches = self.pieces.entry((place.exchange, place.side)).or_default();
        if stretches.last().is_none_or(|last| last.digest.is_some()) {
            stretches.push(Pieces {
                exchange: place.exchange,
                side: place.side,
                offset: place.offset,
                begins: place.offset == place.start,
                blobs: Vec::new(),
                digest: None,
            });
        }
        let last = stretches.len() - 1;
        &mut stretches[last]
    }

    /// Adds frames with their bytes, all with the times of `stamp`.
    pub(crate) fn frames_inline(&mut self, key: Key, stamp: Stamp, parts: Parts<'_>) {
        self.frame_bytes += self.frames.push_inline(key, stamp, parts);
        self.frame_bytes += parts.spans().len() * FRAME_COST;
    }

    pub(crate) fn frame_in_pieces(
        &mut self,
        exchange: ExchangeId,
        side: Side,
        stamp: Stamp,
        offset: u64,
    ) {
        self.frame_bytes += FRAME_COST;
        self.frames.push_pieces((exchange, side), stamp, offset);
    }

    /// Adds a frame without its bytes, after those of its side that are here.
    pub(crate) fn frame_bare(&mut self, key: Key, stamp: Stamp) {
        self.frame_bytes += FRAME_COST;
        let after = self.frames.interrupt(key);
        self.bare.push(key, stamp, after);
    }

    /// Returns the number of frames of each body in it, and their bytes.
    pub(crate) fn frame_counts(&self) -> impl Iterator<Item = (Key, Frames)> {
        self.frames.counts()
    }

    /// Notes that an exchange has ended.
    pub(crate) fn end(&mut self, exchange: ExchangeId) {
        self.frames.end(exchange);
    }

    /// Notes that the next block begins a zstd frame.
    pub(crate) fn restart(&mut self) {
        self.frames.restart();
    }

    /// Returns the block's records and empties the builder. `next_blob` is the number of the first blob after it.
    pub(crate) fn build(
        &mut self,
        start: Option<Start>,
        next_blob: u64,
        counters: &Counters,
    ) -> Vec<u8> {
        let mut raw = Vec::with_capacity(self.len() + 1024);
        if let Some(start) = start {
            put_record(&mut raw, opcode::START, &start.encode());
        }
        raw.append(&mut self.records);
        let mut payload = Vec::new();
        if self.blobs > 0 {
            put_varint(&mut payload, self.blobs);
            payload.append(&mut self.blob_lens);
            payload.append(&mut self.blob_bytes);
            put_record(&mut raw, opcode::BLOBS, &payload);
        }
        for pieces in self.pieces.values().flatten() {
            payload.clear();
            pieces.encode(next_blob - self.blobs, &mut payload);
            put_record(&mut raw, opcode::PIECES, &payload);
        }
        if !self.frames.is_empty() {
            payload.clear();
            self.frames.encode(&mut payload);
            put_record(&mut raw, opcode::FRAMES, &payload);
        }
        if !self.bare.is_empty() {
            payload.clear();
            self.bare.encode(&mut payload);
            put_record(&mut raw, opcode::BARE, &payload);
        }
        put_record(&mut raw, opcode::COUNTERS, &encode_counters(counters));
        self.blobs = 0;
        self.frame_bytes = 0;
        self.pieces.clear();
        raw
    }
}
