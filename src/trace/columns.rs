//! Body frames in columns within a block.
//!
//! Equal things stand together, since that is what a compressor likes: all lengths, then all times, then all bytes. Of
//! a frame only what differs from the frame before it on its side is kept: a streamed token is a word between two texts
//! that were there before, and a server that repeats the whole answer in each event adds one word to it.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::clock::Nanos;
use crate::trace::codec::side_code;
use crate::trace::common::{common_back, common_front};
use crate::trace::filling::{Filling, encode_lens, encode_times};
use crate::trace::record::{ExchangeId, Parts, Side};
use crate::trace::unwritten::Frames;
use crate::trace::wire::{len_u64, put_varint, put_zigzag, to_len};

/// Frames of one side of one exchange that follow each other, their stamps in ticks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) exchange: ExchangeId,
    pub(crate) side: Side,
    pub(crate) place: Place,
    pub(crate) frames: Vec<Stamp>,
}

/// Where the bytes of a run are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the block itself, as differences.
    Inline {
        /// Of each frame, what it shares with the one before it on its side and in its zstd frame.
        cuts: Vec<Cut>,
        /// What stands between these.
        middles: Bytes,
    },
    /// In pieces; the first frame starts at this offset of the body.
    Pieces(u64),
}

/// How an inline frame is put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    /// Bytes shared with the front, and with the back, of the frame before.
    pub(crate) front: u16,
    pub(crate) back: u16,
    /// Where its middle starts among the run's middles.
    pub(crate) middle: u32,
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

/// The frames of a block that is being filled, and what is known of the streams that they belong to.
#[derive(Debug, Default)]
pub(crate) struct FrameColumns {
    streams: BTreeMap<Key, Stream>,
    /// Whether any stream has a run.
    is_filled: bool,
    /// Runs of blocks that were written, and streams that have ended: their memory is used again.
    spare: Vec<Filling>,
    idle: Vec<Stream>,
    ended: Vec<ExchangeId>,
}

/// A side's frames in this block, and its last one in this zstd frame, to a writer.
#[derive(Debug, Default)]
struct Stream {
    runs: Vec<Filling>,
    shape: Shape,
    bytes: Vec<u8>,
    /// Whether something came between that is no frame of a run: the next frame begins another.
    is_interrupted: bool,
}

/// What the next frame is told relative to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Shape {
    /// Bytes that the last inline frame shared with the one before it, at its front and at its back.
    pub(crate) front: u64,
    pub(crate) back: u64,
    /// Its length.
    pub(crate) len: u64,
    /// When the last frame, inline or not, was read; none before the first.
    pub(crate) at: Option<u64>,
}

pub(crate) type Key = (ExchangeId, Side);

/// Tag bit of a run: of the response.
pub(crate) const TAG_RESPONSE: u8 = 1;
/// Tag bit of a run: its bytes are in pieces.
pub(crate) const TAG_PIECES: u8 = 2;
/// Tag bit of a run: each middle ends with [`TERMINATOR`], and its length is not told.
pub(crate) const TAG_TERMINATED: u8 = 4;
/// A byte that JSON text, and so most streams, never contains.
pub(crate) const TERMINATOR: u8 = 0x1F;
/// An inline frame is shorter than this, so that a few bytes can't claim to be a lot.
pub(crate) const MAX_INLINE: usize = 4 << 10;
/// Runs whose memory is kept, whatever they held; and as many as this of those that held a few frames each.
const MAX_SPARE: usize = 256;
const MAX_SPARE_SMALL: usize = 4 << 10;
/// Room for frames, and for bytes, of a run or stream that held few.
pub(super) const FEW_FRAMES: usize = 8;
pub(super) const FEW_BYTES: usize = 1 << 10;
/// Bytes that a fresh look at what two frames share must gain over the places of the frame before.
const WORTH_MOVING: usize = 12;

/// Returns the stamp of a frame of `len` bytes in ticks of `tick_ns`.
pub(crate) fn stamp(len: u64, at: Nanos, accepted: Nanos, tick_ns: u32) -> Stamp {
    let ticks = |nanos: Nanos| match tick_ns {
        // The usual one: a division by a constant is a multiplication.
        1_000 => nanos.0 / 1_000,
        tick => nanos.0 / u64::from(tick.max(1)),
    };
    let at = ticks(at);
    Stamp { len, at, lag: ticks(accepted).saturating_sub(at) }
}

// === impl FrameColumns ===

impl FrameColumns {
    pub(crate) fn is_empty(&self) -> bool {
        !self.is_filled
    }

    /// Adds frames with their bytes, fewer than [`MAX_INLINE`] each, all with the times of `stamp`; returns how many bytes had
    /// to be kept.
    pub(crate) fn push_inline(&mut self, key: Key, stamp: Stamp, parts: Parts<'_>) -> usize {
        self.is_filled = true;
        let stream = Self::stream(&mut self.streams, &mut self.idle, key);
        let (mut shape, mut bytes) = (stream.shape, std::mem::take(&mut stream.bytes));
        let run = stream.run(None, &mut self.spare);
        let before = run.middles.len();
        let mut previous = &bytes[..];
        for data in parts.iter() {
            let (front, back) = shape.shared(previous, data);
            let middle = &data[front..data.len() - back];
            run.middles.extend_from_slice(middle);
            run.middle_lens.push(middle.len());
            run.shared.push((len_u64(front), len_u64(back)));
            let len = len_u64(data.len());
            run.frames.push(Stamp { len, ..stamp });
            shape = Shape { front: len_u64(front), back: len_u64(back), len, at: Some(stamp.at) };
            previous = data;
        }
        let kept = run.middles.len() - before;
        if let Some((_, last)) = parts.split_last() {
            bytes.clear();
            bytes.extend_from_slice(last);
        }
        (stream.shape, stream.bytes) = (shape, bytes);
        kept
    }

    /// Adds a frame whose bytes are in pieces, from `offset` of the body.
    pub(crate) fn push_pieces(&mut self, key: Key, stamp: Stamp, offset: u64) {
        self.is_filled = true;
        let stream = Self::stream(&mut self.streams, &mut self.idle, key);
        stream.run(Some(offset), &mut self.spare).frames.push(stamp);
        stream.shape.at = Some(stamp.at);
    }

    /// Ends the run of a side's frames, since something else comes next; returns how many this block has of it.
    pub(crate) fn interrupt(&mut self, key: Key) -> u64 {
        let Some(stream) = self.streams.get_mut(&key) else { return 0 };
        stream.is_interrupted = true;
        len_u64(stream.runs.len())
    }

    /// Returns the number of frames of each body in this block, and their bytes.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (Key, Frames)> {
        self.streams.iter().filter(|(_, stream)| !stream.runs.is_empty()).map(|(key, stream)| {
            let frames = stream.runs.iter().flat_map(|run| &run.frames);
            let count = |sum: Frames, frame: &Stamp| Frames {
                count: sum.count + 1,
                bytes: sum.bytes + frame.len,
            };
            (*key, frames.fold(Frames::default(), count))
        })
    }

    /// Forgets an exchange after this block.
    pub(crate) fn end(&mut self, exchange: ExchangeId) {
        self.ended.push(exchange);
    }

    /// Forgets all streams: the next block begins a zstd frame.
    pub(crate) fn restart(&mut self) {
        self.streams.clear();
        self.is_filled = false;
    }

    /// Appends the record and forgets the frames.
    pub(crate) fn encode(&mut self, out: &mut Vec<u8>) {
        let streams = &self.streams;
        let runs =
            || streams.iter().flat_map(|(key, stream)| stream.runs.iter().map(|run| (*key, run)));
        put_varint(out, len_u64(runs().count()));
        let mut previous = 0;
        for ((exchange, _), _) in runs() {
            put_zigzag(out, exchange.0.wrapping_sub(previous).cast_signed());
            previous = exchange.0;
        }
        for ((_, side), run) in runs() {
            out.push(side_code(side) | run.tag());
        }
        for (_, run) in runs() {
            put_varint(out, len_u64(run.frames.len()));
        }
        for offset in runs().filter_map(|(_, run)| run.pieces) {
            put_varint(out, offset);
        }
        encode_lens(runs().map(|(_, run)| run), out);
        encode_times(runs().map(|(_, run)| run), out);
        for (_, run) in runs() {
            run.encode_middles(out);
        }
        self.is_filled = false;
        for stream in self.streams.values_mut() {
            for run in stream.runs.drain(..) {
                let limit = if run.is_small() { MAX_SPARE_SMALL } else { MAX_SPARE };
                if self.spare.len() < limit {
                    self.spare.push(run);
                }
            }
        }
        for exchange in self.ended.drain(..) {
            for side in [Side::Request, Side::Response] {
                let ended = self.streams.remove(&(exchange, side));
                let has_room = self.idle.len() < MAX_SPARE_SMALL;
                self.idle.extend(ended.filter(|it| has_room && it.is_small()).map(Stream::emptied));
            }
        }
    }

    /// Returns the stream of a side, with the memory of one that has ended if it is new.
    fn stream<'a>(
        streams: &'a mut BTreeMap<Key, Stream>,
        idle: &mut Vec<Stream>,
        key: Key,
    ) -> &'a mut Stream {
        streams.entry(key).or_insert_with(|| idle.pop().unwrap_or_default())
    }
}

// === impl Stream ===

impl Stream {
    fn is_small(&self) -> bool {
        self.runs.capacity() <= FEW_FRAMES && self.bytes.capacity() <= FEW_BYTES
    }

    /// Forgets all but the memory.
    fn emptied(mut self) -> Self {
        self.runs.clear();
        self.bytes.clear();
        Self { runs: self.runs, bytes: self.bytes, ..Self::default() }
    }

    /// Returns the run to go on with, or begins one when the place of the bytes has changed or something came between.
    fn run(&mut self, pieces: Option<u64>, spare: &mut Vec<Filling>) -> &mut Filling {
        let is_interrupted = std::mem::take(&mut self.is_interrupted);
        if self
            .runs
            .last()
            .is_none_or(|last| is_interrupted || last.pieces.is_some() != pieces.is_some())
        {
            let mut run = spare.pop().unwrap_or_default();
            run.begin(pieces, self.shape);
            self.runs.push(run);
        }
        let last = self.runs.len() - 1;
        &mut self.runs[last]
    }
}

// === impl Shape ===

impl Shape {
    /// Returns what `data` is to share with the frame before it, whose shape this is, at its front and at its back.
    fn shared(&self, before: &[u8], data: &[u8]) -> (usize, usize) {
        let longest = data.len().min(before.len());
        let front = common_front(&data[..longest], &before[..longest]);
        let whole_back =
            common_back(&data[data.len() - longest..], &before[before.len() - longest..]);
        let back = whole_back.min(longest - front);
        // Two words that begin alike would move the places for one frame: keep those of the frame before while they
        // hold, so that words stay whole.
        let held = (to_len(self.front), to_len(self.back));
        let holds = held.0 <= front && held.1 <= whole_back && held.0 + held.1 <= longest;
        if holds && front + back < held.0 + held.1 + WORTH_MOVING { held } else { (front, back) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::record::Span;
    use crate::trace::unfold::{Shapes, decode_frames, unfold};
    use proptest::prelude::*;

    /// Adds frames that came together.
    fn push(columns: &mut FrameColumns, key: Key, stamp: Stamp, frames: &[&[u8]]) -> usize {
        let mut start = 0;
        let spans = frames.iter().map(|frame| {
            start += frame.len();
            Span { start: start - frame.len(), len: frame.len() }
        });
        let spans: Vec<_> = spans.collect();
        columns.push_inline(key, stamp, Parts::new(&frames.concat(), &spans))
    }

    /// Puts the frames of runs together as a reader does.
    fn unfolded(runs: &[Run], previous: &mut BTreeMap<Key, Bytes>) -> Vec<(Key, Stamp, Bytes)> {
        let mut frames = Vec::new();
        for run in runs {
            let key = (run.exchange, run.side);
            for (idx, stamp) in run.frames.iter().enumerate() {
                let data = match &run.place {
                    Place::Inline { cuts, middles } => {
                        let before = previous.entry(key).or_default();
                        *before = unfold(before, cuts[idx], stamp.len, middles).unwrap();
                        before.clone()
                    }
                    Place::Pieces(_) => Bytes::new(),
                };
                frames.push((key, *stamp, data));
            }
        }
        frames
    }

    fn frame() -> impl Strategy<Value = (u64, bool, Stamp, Vec<u8>)> {
        let data = prop_oneof![
            "data: [a-c]{0,4} end".prop_map(String::into_bytes),
            "(ab){0,9}".prop_map(String::into_bytes),
            prop::collection::vec(any::<u8>(), 0..40),
        ];
        (0..4_u64, any::<bool>(), any::<(u64, u64)>(), data).prop_map(
            |(exchange, response, (at, lag), data)| {
                (exchange, response, Stamp { len: data.len() as u64, at, lag }, data)
            },
        )
    }

    proptest! {
        #[test]
        fn frames_read_back_over_blocks(
            blocks in prop::collection::vec(prop::collection::vec(frame(), 0..12), 1..5)
        ) {
            let (mut columns, mut shapes) = (FrameColumns::default(), Shapes::default());
            let mut previous = BTreeMap::new();
            for (number, block) in (0..).zip(blocks) {
                // Two exchanges go on in the next block; the memory of the other two is used again.
                let begins = 2 * number;
                let mut written = Vec::new();
                for (exchange, response, stamp, data) in block {
                    let side = if response { Side::Response } else { Side::Request };
                    let key = (ExchangeId(begins + exchange), side);
                    push(&mut columns, key, stamp, &[&data]);
                    written.push((key, stamp, Bytes::from(data)));
                }
                written.sort_by_key(|frame| frame.0);
                [begins, begins + 1].map(ExchangeId).into_iter().for_each(|it| columns.end(it));
                let mut out = Vec::new();
                columns.encode(&mut out);
                let runs = decode_frames(out.into(), &mut shapes).unwrap();
                prop_assert_eq!(unfolded(&runs, &mut previous), written);
            }
        }

        #[test]
        fn frames_that_came_together_are_written_as_if_one_by_one(
            before in frame(),
            together in prop::collection::vec("data: [a-c]{0,4} end", 0..9),
        ) {
            let key = (ExchangeId(1), Side::Response);
            let mut written = [true, false].map(|is_together| {
                let mut columns = FrameColumns::default();
                let (.., stamp, data) = &before;
                push(&mut columns, key, *stamp, &[data]);
                let frames: Vec<_> = together.iter().map(String::as_bytes).collect();
                let kept: usize = if is_together {
                    push(&mut columns, key, *stamp, &frames)
                } else {
                    frames.iter().map(|frame| push(&mut columns, key, *stamp, &[frame])).sum()
                };
                let mut out = Vec::new();
                columns.encode(&mut out);
                (kept, out)
            });
            let [together, one_by_one] = &mut written;
            prop_assert_eq!(together, one_by_one);
        }

        #[test]
        fn bytes_that_no_writer_made_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut shapes = Shapes::default();
            if let Ok(runs) = decode_frames(bytes.into(), &mut shapes) {
                unfolded(&runs, &mut BTreeMap::new());
            }
        }

        #[test]
        fn a_changed_byte_never_panics(
            frames in prop::collection::vec(frame(), 1..12),
            at in any::<prop::sample::Index>(),
            to in any::<u8>(),
        ) {
            let mut columns = FrameColumns::default();
            for (exchange, _, stamp, data) in frames {
                push(&mut columns, (ExchangeId(exchange), Side::Response), stamp, &[&data]);
            }
            let mut out = Vec::new();
            columns.encode(&mut out);
            let at = at.index(out.len());
            out[at] = to;
            if let Ok(runs) = decode_frames(out.into(), &mut Shapes::default()) {
                unfolded(&runs, &mut BTreeMap::new());
            }
        }
    }
}
