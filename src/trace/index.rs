//! The summary at the end of a closed segment: where each exchange lies, and what the segment amounts to.
//!
//! All of it can be rebuilt from the records before it, and is, when a trace was cut.

use bincode::{Decode, Encode};
use bytes::Bytes;

use crate::clock::Nanos;
use crate::trace::codec::{decode_grown, encode, outcome_code, outcome_of};
use crate::trace::record::{Counters, ExchangeId, Outcome, Side};
use crate::trace::wire::{Cursor, Malformed, len_u64, put_varint, put_zigzag, unzigzag};

/// Where an exchange lies in a segment, in zstd frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) id: ExchangeId,
    /// When its request head was read.
    pub(crate) at: Nanos,
    /// When it ended, and how; none while open.
    pub(crate) end: Option<(Nanos, Outcome)>,
    /// The first zstd frame with a record of it.
    pub(crate) first: u32,
    /// The last with a record of its request.
    pub(crate) request_last: u32,
    /// The last with any record of it.
    pub(crate) last: u32,
}

/// One zstd frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chapter {
    /// File offset of its first block.
    pub(crate) offset: u64,
    /// Number of the first blob stored in it.
    pub(crate) first_blob: u64,
    /// Bytes that it decompresses to.
    pub(crate) raw: u64,
}

/// What a segment amounts to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Totals {
    /// Exchanges with at least one record.
    pub exchanges: u64,
    /// Body frames.
    pub frames: u64,
    /// Body bytes in these, as they passed.
    pub body_bytes: u64,
    /// Bytes of these that stand in blobs, each blob once, decoded.
    pub blob_bytes: u64,
    /// Blobs.
    pub blobs: u64,
    /// Bytes of blocks before compression.
    pub raw_bytes: u64,
    /// Bytes that were compressed at a lower level than asked, since the writer was behind.
    pub hurried_bytes: u64,
    /// Time of the latest event, in nanoseconds since the trace's start.
    pub until: Nanos,
}

/// The last record of a closed segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Footer {
    pub(crate) totals: Totals,
    pub(crate) counters: Counters,
}

/// Exchanges in one index record.
pub(crate) const INDEX_CHUNK: usize = 1 << 15;

pub(crate) fn encode_footer(footer: &Footer) -> Vec<u8> {
    encode(footer)
}

pub(crate) fn decode_footer(payload: &[u8]) -> Result<Footer, Malformed> {
    decode_grown(payload)
}

/// Appends an index record's payload. Numbers of zstd frames that go down, which a damaged file may have, become the first.
pub(crate) fn encode_places(places: &[Place], out: &mut Vec<u8>) {
    put_varint(out, len_u64(places.len()));
    let (mut id, mut at) = (0, 0);
    for place in places {
        put_varint(out, place.id.0.wrapping_sub(id));
        id = place.id.0;
    }
    for place in places {
        put_zigzag(out, place.at.0.wrapping_sub(at).cast_signed());
        at = place.at.0;
    }
    for place in places {
        out.push(place.end.map_or(OPEN, |(_, outcome)| outcome_code(outcome)));
    }
    for (place, (end, _)) in places.iter().filter_map(|place| Some((place, place.end?))) {
        put_zigzag(out, end.0.wrapping_sub(place.at.0).cast_signed());
    }
    let mut first = 0;
    for place in places {
        put_zigzag(out, i64::from(place.first) - i64::from(first));
        first = place.first;
    }
    for place in places {
        put_varint(out, u64::from(place.request_last.saturating_sub(place.first)));
    }
    for place in places {
        put_varint(out, u64::from(place.last.saturating_sub(place.first)));
    }
}

pub(crate) fn decode_places(payload: Bytes) -> Result<Vec<Place>, Malformed> {
    let mut cursor = Cursor::new(payload);
    let count = cursor.count()?;
    let ids = cursor.varints(count)?;
    let ats = cursor.varints(count)?;
    let outcomes = cursor.take(count)?;
    let closed = outcomes.iter().filter(|&&code| code != OPEN).count();
    let mut ends = cursor.varints(closed)?.into_iter().map(unzigzag);
    let firsts = cursor.varints(count)?;
    let requests = cursor.varints(count)?;
    let lasts = cursor.varints(count)?;
    let (mut id, mut at, mut first) = (0_u64, 0_u64, 0_u64);
    let mut places = Vec::new();
    for idx in 0..count {
        id = id.wrapping_add(ids[idx]);
        at = at.wrapping_add(unzigzag(ats[idx]));
        first = first.wrapping_add(unzigzag(firsts[idx]));
        let end = match outcomes[idx] {
            OPEN => None,
            code => {
                let after = ends.next().ok_or(Malformed("an end is missing"))?;
                Some((Nanos(at.wrapping_add(after)), outcome_of(code)?))
            }
        };
        places.push(Place {
            id: ExchangeId(id),
            at: Nanos(at),
            end,
            first: ordinal(first)?,
            request_last: ordinal(first.saturating_add(requests[idx]))?,
            last: ordinal(first.saturating_add(lasts[idx]))?,
        });
    }
    Ok(places)
}

/// Appends a map record's payload.
pub(crate) fn encode_chapters(chapters: &[Chapter], out: &mut Vec<u8>) {
    put_varint(out, len_u64(chapters.len()));
    let (mut offset, mut blob) = (0, 0);
    for chapter in chapters {
        put_varint(out, chapter.offset - offset);
        put_varint(out, chapter.first_blob - blob);
        put_varint(out, chapter.raw);
        (offset, blob) = (chapter.offset, chapter.first_blob);
    }
}

pub(crate) fn decode_chapters(payload: Bytes) -> Result<Vec<Chapter>, Malformed> {
    let mut cursor = Cursor::new(payload);
    let count = cursor.count()?;
    let (mut offset, mut first_blob) = (0_u64, 0_u64);
    let mut chapters = Vec::new();
    for _ in 0..count {
        offset = offset.checked_add(cursor.varint()?).ok_or(Malformed("an offset is too large"))?;
        first_blob =
            first_blob.checked_add(cursor.varint()?).ok_or(Malformed("a blob id is too large"))?;
        chapters.push(Chapter { offset, first_blob, raw: cursor.varint()? });
    }
    Ok(chapters)
}

// === impl Totals ===

impl Totals {
    /// Adds those of the next segment. An exchange that both hold counts twice.
    pub(crate) fn add(&mut self, next: &Self) {
        self.exchanges += next.exchanges;
        self.frames += next.frames;
        self.body_bytes += next.body_bytes;
        self.blob_bytes += next.blob_bytes;
        self.blobs += next.blobs;
        self.raw_bytes += next.raw_bytes;
        self.hurried_bytes += next.hurried_bytes;
        self.until = self.until.max(next.until);
    }
}

// === impl Place ===

impl Place {
    /// Notes that zstd frame `ordinal` holds something of this side.
    pub(crate) fn touch(&mut self, ordinal: u32, side: Side) {
        self.last = ordinal;
        if side == Side::Request {
            self.request_last = ordinal;
        }
    }
}

fn ordinal(value: u64) -> Result<u32, Malformed> {
    u32::try_from(value).map_err(|_| Malformed("a zstd frame's number is too large"))
}

/// Outcome code of an exchange that had not ended.
const OPEN: u8 = 0xFF;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_and_chapters_read_back() {
        let place = |id, at, end, first| Place {
            id: ExchangeId(id),
            at: Nanos(at),
            end,
            first,
            request_last: first + 1,
            last: first + 3,
        };
        let places = vec![
            place(1, 500, Some((Nanos(900), Outcome::Failed)), 7),
            place(2, 400, None, 3),
            place(9, u64::MAX, Some((Nanos(3), Outcome::Complete)), 3),
        ];
        let mut out = Vec::new();
        encode_places(&places, &mut out);
        assert_eq!(decode_places(out.into()).unwrap(), places);
        let chapters = vec![
            Chapter { offset: 8, first_blob: 0, raw: 100 },
            Chapter { offset: 800, first_blob: 7, raw: 1 << 22 },
        ];
        let mut out = Vec::new();
        encode_chapters(&chapters, &mut out);
        assert_eq!(decode_chapters(out.into()).unwrap(), chapters);
    }
}
