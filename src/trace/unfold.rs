//! Reads the columns of `columns.rs` back, and puts frames together from what they share.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};

use crate::trace::codec::side_of;
use crate::trace::columns::{
    Cut, Key, MAX_INLINE, Place, Run, Shape, Stamp, TAG_PIECES, TAG_RESPONSE, TAG_TERMINATED,
    TERMINATOR,
};
use crate::trace::filling::take_deltas;
use crate::trace::record::{ExchangeId, Side};
use crate::trace::wire::{Cursor, Malformed, RESERVE, len_u64, to_len, unzigzag};

/// The last frame of each side in this zstd frame, to a reader.
#[derive(Debug, Default)]
pub(crate) struct Shapes {
    shapes: BTreeMap<Key, Shape>,
}

/// Puts a frame together from what it shares with the one before and what it does not; none when there is not so much to
/// share.
pub(crate) fn unfold(previous: &[u8], cut: Cut, len: u64, middles: &[u8]) -> Option<Bytes> {
    let (front, back, start) = (usize::from(cut.front), usize::from(cut.back), cut.middle as usize);
    let end = start + to_len(len).checked_sub(front + back)?;
    let mut data = BytesMut::with_capacity(to_len(len));
    data.extend_from_slice(previous.get(..front)?);
    data.extend_from_slice(middles.get(start..end)?);
    data.extend_from_slice(&previous[previous.len().checked_sub(back)?..]);
    Some(data.freeze())
}

/// Returns the runs of a frames record, which follow those of `shapes`.
pub(crate) fn decode_frames(payload: Bytes, shapes: &mut Shapes) -> Result<Vec<Run>, Malformed> {
    let mut cursor = Cursor::new(payload);
    let count = cursor.count()?;
    let mut exchange = 0_u64;
    let mut exchanges = Vec::with_capacity(count.min(RESERVE));
    for _ in 0..count {
        exchange = exchange.wrapping_add(cursor.zigzag()?.cast_unsigned());
        exchanges.push(ExchangeId(exchange));
    }
    let tags = cursor.take(count)?;
    let mut heads = Vec::with_capacity(count.min(RESERVE));
    for (exchange, &tag) in exchanges.into_iter().zip(tags.iter()) {
        let key = (exchange, side_of(tag & TAG_RESPONSE)?);
        heads.push(Head { key, tag, count: to_len(cursor.varint()?), offset: 0 });
    }
    for head in heads.iter_mut().filter(|head| head.tag & TAG_PIECES != 0) {
        head.offset = cursor.varint()?;
    }
    let frames_of = |wanted: fn(&Head) -> bool| {
        let mut counts = heads.iter().filter(|head| wanted(head)).map(|head| head.count);
        counts
            .try_fold(0_usize, |sum, count| sum.checked_add(count))
            .ok_or(Malformed("a run has too many frames"))
    };
    let inline = frames_of(|head| head.tag & TAG_PIECES == 0)?;
    let fronts = cursor.varints(inline)?;
    let mut shared = fronts.into_iter().zip(cursor.varints(inline)?);
    let told = frames_of(|head| head.tag & TAG_TERMINATED == 0 || head.tag & TAG_PIECES != 0)?;
    let mut lens = cursor.varints(told)?.into_iter();
    let mut times = decode_times(&mut cursor, &heads, frames_of(|_| true)?, shapes)?.into_iter();
    let mut runs = Vec::with_capacity(count.min(RESERVE));
    for head in heads {
        let times = times.by_ref().take(head.count);
        let mut frames: Vec<Stamp> = times.map(|(at, lag)| Stamp { len: 0, at, lag }).collect();
        let place = if head.tag & TAG_PIECES != 0 {
            frames.iter_mut().zip(lens.by_ref()).for_each(|(frame, len)| frame.len = len);
            Place::Pieces(head.offset)
        } else {
            let gap = usize::from(head.tag & TAG_TERMINATED != 0);
            let lens: Vec<usize> = if gap > 0 {
                terminated(&cursor, head.count)?
            } else {
                lens.by_ref().take(head.count).map(to_len).collect()
            };
            let total =
                lens.iter().try_fold(0_usize, |sum, &len| sum.checked_add(len)?.checked_add(gap));
            let middles = cursor.take(total.ok_or(Malformed("a frame is too long"))?)?;
            let shape = shapes.shapes.entry(head.key).or_default();
            let changes = shared.by_ref().take(head.count);
            Place::Inline { cuts: shape.unfold(changes, &lens, gap, &mut frames)?, middles }
        };
        let (exchange, side) = head.key;
        runs.push(Run { exchange, side, place, frames });
    }
    Ok(runs)
}

/// The front of a run.
#[derive(Clone, Copy, Debug)]
struct Head {
    key: Key,
    tag: u8,
    count: usize,
    offset: u64,
}

/// Returns when each frame was read, and its lag.
fn decode_times(
    cursor: &mut Cursor,
    heads: &[Head],
    total: usize,
    shapes: &mut Shapes,
) -> Result<Vec<(u64, u64)>, Malformed> {
    let deltas = take_deltas(cursor, total)?;
    let lags = cursor.varints(total)?;
    let mut times = Vec::with_capacity(total);
    let mut first = 0_u64;
    for head in heads {
        let shape = shapes.shapes.entry(head.key).or_default();
        let mut at = shape.at.unwrap_or(first);
        for nth in 0..head.count {
            let idx = times.len();
            at = at.wrapping_add(deltas[idx]);
            if nth == 0 {
                first = at;
            }
            times.push((at, lags[idx]));
            shape.at = Some(at);
        }
    }
    Ok(times)
}

/// Returns the lengths of the next `count` middles, each up to its terminator.
fn terminated(cursor: &Cursor, count: usize) -> Result<Vec<usize>, Malformed> {
    let mut ends = memchr::memchr_iter(TERMINATOR, cursor.peek());
    let mut lens = Vec::with_capacity(count.min(RESERVE));
    let mut from = 0;
    for _ in 0..count {
        let end = ends.next().ok_or(Malformed("a middle has no end"))?;
        lens.push(end - from);
        from = end + 1;
    }
    Ok(lens)
}

// === impl Shapes ===

impl Shapes {
    /// Forgets an exchange.
    pub(crate) fn end(&mut self, exchange: ExchangeId) {
        self.shapes.remove(&(exchange, Side::Request));
        self.shapes.remove(&(exchange, Side::Response));
    }

    /// Forgets everything: a zstd frame begins.
    pub(crate) fn restart(&mut self) {
        self.shapes.clear();
    }
}

// === impl Shape ===

impl Shape {
    /// Turns the changes of what frames share into numbers, checks them, and finds the frames' lengths.
    fn unfold(
        &mut self,
        changes: impl Iterator<Item = (u64, u64)>,
        lens: &[usize],
        gap: usize,
        frames: &mut [Stamp],
    ) -> Result<Vec<Cut>, Malformed> {
        let mut cuts = Vec::with_capacity(frames.len());
        let mut middle = 0;
        for (((front, back), &len), frame) in changes.zip(lens).zip(frames) {
            self.front = self.front.wrapping_add(unzigzag(front));
            self.back = self.back.wrapping_add(unzigzag(back));
            if self.front > self.len || self.back > self.len {
                return Err(Malformed("a frame shares more than there is"));
            }
            frame.len = (self.front + self.back).saturating_add(len_u64(len));
            if frame.len >= len_u64(MAX_INLINE) {
                return Err(Malformed("an inline frame is longer than the limit"));
            }
            self.len = frame.len;
            let too_long = |_| Malformed("a frame is too long");
            cuts.push(Cut {
                front: u16::try_from(self.front).map_err(too_long)?,
                back: u16::try_from(self.back).map_err(too_long)?,
                middle: u32::try_from(middle).map_err(too_long)?,
            });
            middle += len + gap;
        }
        Ok(cuts)
    }
}
