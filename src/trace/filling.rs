//! A run of frames that is being filled, and how the lengths and times of runs are written.

use crate::trace::columns::{
    FEW_BYTES, FEW_FRAMES, Shape, Stamp, TAG_PIECES, TAG_TERMINATED, TERMINATOR,
};
use crate::trace::wire::{Cursor, Malformed, len_u64, put_varint, put_zigzag, unzigzag};

/// A run that is being filled.
#[derive(Debug, Default)]
pub(super) struct Filling {
    /// The offset when the bytes are in pieces.
    pub(super) pieces: Option<u64>,
    /// The stream before the run.
    before: Shape,
    pub(super) frames: Vec<Stamp>,
    pub(super) shared: Vec<(u64, u64)>,
    pub(super) middles: Vec<u8>,
    pub(super) middle_lens: Vec<usize>,
}

/// Appends what frames share, as changes, then the lengths of what they don't.
pub(super) fn encode_lens<'a>(runs: impl Iterator<Item = &'a Filling> + Clone, out: &mut Vec<u8>) {
    for run in runs.clone() {
        let mut previous = run.before.front;
        for &(front, _) in &run.shared {
            put_zigzag(out, front.wrapping_sub(previous).cast_signed());
            previous = front;
        }
    }
    for run in runs.clone() {
        let mut previous = run.before.back;
        for &(_, back) in &run.shared {
            put_zigzag(out, back.wrapping_sub(previous).cast_signed());
            previous = back;
        }
    }
    for run in runs {
        if run.pieces.is_some() {
            run.frames.iter().for_each(|frame| put_varint(out, frame.len));
        } else if !run.is_terminated() {
            run.middle_lens.iter().for_each(|&len| put_varint(out, len_u64(len)));
        }
    }
}

/// Appends the times: of each, what came before is taken off, and the rest cut into columns by byte.
pub(super) fn encode_times<'a>(runs: impl Iterator<Item = &'a Filling> + Clone, out: &mut Vec<u8>) {
    let mut deltas = Vec::new();
    let mut first = 0;
    for run in runs.clone() {
        let mut previous = run.before.at.unwrap_or(first);
        first = run.frames.first().map_or(first, |frame| frame.at);
        for frame in &run.frames {
            deltas.push(frame.at.wrapping_sub(previous));
            previous = frame.at;
        }
    }
    put_deltas(&deltas, out);
    for frame in runs.flat_map(|run| &run.frames) {
        put_varint(out, frame.lag);
    }
}

/// Appends differences of times, cut into columns by byte.
pub(super) fn put_deltas(deltas: &[u64], out: &mut Vec<u8>) {
    out.extend(deltas.iter().map(|delta| delta.to_le_bytes()[0]));
    out.extend(deltas.iter().map(|delta| delta.to_le_bytes()[1]));
    for delta in deltas {
        put_zigzag(out, delta.cast_signed() >> 16);
    }
}

/// Reads `total` differences back.
pub(super) fn take_deltas(cursor: &mut Cursor, total: usize) -> Result<Vec<u64>, Malformed> {
    let low = cursor.take(total)?;
    let middle = cursor.take(total)?;
    let high = cursor.varints(total)?.into_iter();
    let bytes = low.iter().zip(middle.iter());
    let delta = |((low, middle), high): ((&u8, &u8), u64)| {
        unzigzag(high) << 16 | u64::from(*middle) << 8 | u64::from(*low)
    };
    Ok(bytes.zip(high).map(delta).collect())
}

// === impl Filling ===

impl Filling {
    pub(super) fn begin(&mut self, pieces: Option<u64>, before: Shape) {
        (self.pieces, self.before) = (pieces, before);
        self.frames.clear();
        self.shared.clear();
        self.middles.clear();
        self.middle_lens.clear();
    }

    pub(super) fn is_small(&self) -> bool {
        self.frames.capacity() <= FEW_FRAMES && self.middles.capacity() <= FEW_BYTES
    }

    pub(super) fn tag(&self) -> u8 {
        match self.pieces {
            Some(_) => TAG_PIECES,
            None if self.is_terminated() => TAG_TERMINATED,
            None => 0,
        }
    }

    fn is_terminated(&self) -> bool {
        self.pieces.is_none() && memchr::memchr(TERMINATOR, &self.middles).is_none()
    }

    pub(super) fn encode_middles(&self, out: &mut Vec<u8>) {
        if !self.is_terminated() {
            out.extend_from_slice(&self.middles);
            return;
        }
        let mut at = 0;
        for &len in &self.middle_lens {
            out.extend_from_slice(&self.middles[at..at + len]);
            out.push(TERMINATOR);
            at += len;
        }
    }
}
