//! Bodies in pieces: blobs, each stored once, and the lists of blobs that bodies are made of.

use bytes::Bytes;

use crate::trace::codec::{side_code, side_of};
use crate::trace::record::{ExchangeId, Side};
use crate::trace::wire::{Cursor, Malformed, RESERVE, len_u64, put_varint, put_zigzag, to_len};

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

/// Tag bit: of the response.
const TAG_RESPONSE: u8 = 1;
/// Tag bit: the stretch ends here.
const TAG_ENDS: u8 = 2;
/// Tag bit: a stretch begins here.
const TAG_BEGINS: u8 = 4;

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
