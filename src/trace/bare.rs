//! Frames without their bytes, in columns within a block.
//!
//! They are few, or many in a row while a queue is full, and their times are all there is to them: no state goes from
//! block to block, so that what is left of a trace that is lacking already depends on nothing else.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::clock::Nanos;
use crate::trace::codec::{side_code, side_of};
use crate::trace::columns::{Key, Stamp, TAG_RESPONSE};
use crate::trace::filling::{put_deltas, take_deltas};
use crate::trace::record::{BareFrame, ExchangeId, Side};
use crate::trace::wire::{Cursor, Malformed, RESERVE, len_u64, put_varint, put_zigzag, to_len};

/// Bare frames of one side of one exchange that follow each other, their stamps in ticks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BareRun {
    pub(crate) exchange: ExchangeId,
    pub(crate) side: Side,
    /// Runs of this side's frames in the same block that stand before it.
    pub(crate) after: u64,
    pub(crate) frames: Vec<Stamp>,
}

/// A run of which frames are being handed out.
#[derive(Debug)]
pub(crate) struct BareCursor {
    run: BareRun,
    next: usize,
}

/// The bare frames of a block that is being filled.
#[derive(Debug, Default)]
pub(crate) struct BareColumns {
    runs: BTreeMap<Key, Vec<BareRun>>,
}

// === impl BareColumns ===

impl BareColumns {
    pub(crate) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Adds a frame that stands after so many runs of its side's frames in this block.
    pub(crate) fn push(&mut self, (exchange, side): Key, stamp: Stamp, after: u64) {
        let runs = self.runs.entry((exchange, side)).or_default();
        match runs.last_mut() {
            Some(last) if last.after == after => last.frames.push(stamp),
            _ => runs.push(BareRun { exchange, side, after, frames: vec![stamp] }),
        }
    }

    /// Appends the record and forgets the frames.
    pub(crate) fn encode(&mut self, out: &mut Vec<u8>) {
        let runs: Vec<BareRun> = std::mem::take(&mut self.runs).into_values().flatten().collect();
        put_varint(out, len_u64(runs.len()));
        let mut previous = 0;
        for BareRun { exchange, .. } in &runs {
            put_zigzag(out, exchange.0.wrapping_sub(previous).cast_signed());
            previous = exchange.0;
        }
        out.extend(runs.iter().map(|run| side_code(run.side)));
        runs.iter().for_each(|run| put_varint(out, len_u64(run.frames.len())));
        runs.iter().for_each(|run| put_varint(out, run.after));
        let frames = || runs.iter().flat_map(|run| &run.frames);
        frames().for_each(|frame| put_varint(out, frame.len));
        let mut deltas = Vec::new();
        let mut first = 0;
        for run in &runs {
            let mut previous = first;
            first = run.frames.first().map_or(first, |frame| frame.at);
            for frame in &run.frames {
                deltas.push(frame.at.wrapping_sub(previous));
                previous = frame.at;
            }
        }
        put_deltas(&deltas, out);
        frames().for_each(|frame| put_varint(out, frame.lag));
    }
}

/// Returns the runs of a record of bare frames.
pub(crate) fn decode_bare(payload: Bytes) -> Result<Vec<BareRun>, Malformed> {
    let mut cursor = Cursor::new(payload);
    let count = cursor.count()?;
    let mut exchange = 0_u64;
    let mut runs = Vec::with_capacity(count.min(RESERVE));
    for _ in 0..count {
        exchange = exchange.wrapping_add(cursor.zigzag()?.cast_unsigned());
        let (id, side) = (ExchangeId(exchange), Side::Request);
        runs.push(BareRun { exchange: id, side, after: 0, frames: Vec::new() });
    }
    let tags = cursor.take(count)?;
    let counts = cursor.varints(count)?;
    let total = counts.iter().try_fold(0_usize, |sum, &count| sum.checked_add(to_len(count)));
    let total = total.ok_or(Malformed("a run has too many frames"))?;
    for (run, &tag) in runs.iter_mut().zip(tags.iter()) {
        run.side = side_of(tag & TAG_RESPONSE)?;
        run.after = cursor.varint()?;
    }
    let lens = cursor.varints(total)?;
    let deltas = take_deltas(&mut cursor, total)?;
    let lags = cursor.varints(total)?;
    let mut frames = lens.into_iter().zip(deltas).zip(lags);
    let mut first = 0_u64;
    for (run, count) in runs.iter_mut().zip(counts) {
        let mut at = first;
        for ((len, delta), lag) in frames.by_ref().take(to_len(count)) {
            at = at.wrapping_add(delta);
            run.frames.push(Stamp { len, at, lag });
        }
        first = run.frames.first().map_or(first, |frame| frame.at);
    }
    Ok(runs)
}

// === impl BareCursor ===

impl BareCursor {
    pub(crate) fn new(run: BareRun) -> Self {
        Self { run, next: 0 }
    }

    /// Returns the next frame, its stamps in nanoseconds.
    pub(crate) fn next(&mut self, tick_ns: u32) -> Option<BareFrame> {
        let Stamp { len, at, lag } = *self.run.frames.get(self.next)?;
        self.next += 1;
        let nanos = |ticks: u64| Nanos(ticks.saturating_mul(u64::from(tick_ns)));
        let BareRun { exchange, side, .. } = self.run;
        let accepted = nanos(at.saturating_add(lag));
        Some(BareFrame { exchange, side, at: nanos(at), accepted, len })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bare_frames_read_back(
            frames in prop::collection::vec((0..3_u64, any::<bool>(), any::<(u64, u64, u64)>(), 0..3_u64), 0..40),
        ) {
            let mut columns = BareColumns::default();
            let mut expected: BTreeMap<Key, Vec<(u64, Stamp)>> = BTreeMap::new();
            for (exchange, response, (len, at, lag), more) in frames {
                let key = (ExchangeId(exchange), if response { Side::Response } else { Side::Request });
                let stamp = Stamp { len, at, lag };
                let side = expected.entry(key).or_default();
                let after = side.last().map_or(0, |(after, _)| after + more);
                side.push((after, stamp));
                columns.push(key, stamp, after);
            }
            let mut record = Vec::new();
            columns.encode(&mut record);
            prop_assert!(columns.is_empty());
            let mut read: BTreeMap<Key, Vec<(u64, Stamp)>> = BTreeMap::new();
            for run in decode_bare(record.into()).unwrap() {
                let stamps = run.frames.iter().map(|stamp| (run.after, *stamp));
                read.entry((run.exchange, run.side)).or_default().extend(stamps);
            }
            prop_assert_eq!(read, expected);
        }

        #[test]
        fn any_bytes_are_bare_frames_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _either = decode_bare(bytes.into());
        }
    }
}
