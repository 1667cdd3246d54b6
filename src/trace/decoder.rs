//! Bytes in, blocks of records out: no file, no clock, and no byte of a bad file that could make it panic.
//!
//! The decoder is handed the file's bytes in order ([`Decoder::push`]) and asked for the next [`Step`]. Where a block is
//! damaged it looks for the next one that begins a zstd frame and says which bytes were lost.

use std::sync::Arc;

use bytes::{Buf as _, Bytes, BytesMut};
use memchr::memmem;

use crate::trace::bare::decode_bare;
use crate::trace::batch::{Batch, Loss, LossCause, Step};
use crate::trace::block::Start;
use crate::trace::codec::{decode_counters, decode_event, decode_header};
use crate::trace::compress::Decompressor;
use crate::trace::envelope::{ENVELOPE_MARKER, Envelope, Found};
use crate::trace::format::{
    BLOCK_HEADER_LEN, BlockHeader, END_MAGIC, MAGIC_LEN, MARKER, NotReadable, SEALED, TAIL_LEN,
    VERSION, magic, opcode, parse_magic,
};
use crate::trace::index::{decode_chapters, decode_footer, decode_places};
use crate::trace::pieces::{Pieces, decode_blobs};
use crate::trace::record::Event;
use crate::trace::seal::{DataKey, Opener, SEALED_OFFSET_LEN};
use crate::trace::unfold::{Shapes, decode_frames};
use crate::trace::wire::{Cursor, Malformed, len_u64, to_len};

/// Decodes one segment.
#[derive(Debug)]
pub(crate) struct Decoder {
    buffer: BytesMut,
    /// File offset of the buffer's first byte.
    offset: u64,
    state: State,
    decompressor: Decompressor,
    /// What opens the blocks of an encrypted segment.
    opener: Option<Opener>,
    /// CRC of the block before.
    crc: u32,
    /// Least number that the next zstd frame may have.
    next_ordinal: u32,
    next_blob: u64,
    /// How many bytes further back than written the blocks stand, and whether a loss has said why that changes.
    shift: u64,
    explained: bool,
    /// A block that waits behind a loss.
    waiting: Option<Box<Batch>>,
    shapes: Shapes,
    /// Whether the end magic was passed.
    closed: bool,
}

#[derive(Clone, Debug)]
enum State {
    Magic,
    Blocks,
    /// Looking for a block that begins a zstd frame, since this offset, for this reason.
    Lost {
        from: u64,
        cause: LossCause,
        why: String,
    },
}

// === impl Decoder ===

impl Decoder {
    /// Makes a decoder for a file from its beginning. An encrypted one needs its key.
    pub(crate) fn new(key: Option<Arc<DataKey>>) -> std::io::Result<Self> {
        Ok(Self {
            buffer: BytesMut::new(),
            offset: 0,
            state: State::Magic,
            decompressor: Decompressor::new()?,
            opener: key.map(Opener::new),
            crc: 0,
            next_ordinal: 0,
            next_blob: 0,
            shift: 0,
            explained: false,
            waiting: None,
            shapes: Shapes::default(),
            closed: false,
        })
    }

    /// Makes a decoder for what follows `offset`, where a zstd frame begins.
    pub(crate) fn at(offset: u64, key: Option<Arc<DataKey>>) -> std::io::Result<Self> {
        let opener = key.map(Opener::anywhere);
        Ok(Self { offset, state: State::Blocks, opener, ..Self::new(None)? })
    }

    /// Takes the next bytes of the file.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Returns the offset up to which the file has been decoded.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Returns whether the end of a closed segment was passed.
    pub(crate) fn closed(&self) -> bool {
        self.closed
    }

    /// Returns the next step; `at_end` says that no more bytes will come.
    ///
    /// # Errors
    /// The file is no trace, or of another major version.
    pub(crate) fn next(&mut self, at_end: bool) -> Result<Step, NotReadable> {
        if let Some(batch) = self.waiting.take() {
            return Ok(Step::Block(batch));
        }
        loop {
            let step = match &self.state {
                State::Magic => self.magic(at_end)?,
                State::Blocks => self.block(at_end),
                State::Lost { from, cause, why } => {
                    let (from, cause, what) = (*from, *cause, why.clone());
                    let until = from;
                    self.resync(Loss { segment: 0, from, until, cause, what }, at_end)
                }
            };
            if let Some(step) = step {
                return Ok(step);
            }
        }
    }

    fn magic(&mut self, at_end: bool) -> Result<Option<Step>, NotReadable> {
        if self.buffer.len() < MAGIC_LEN {
            if !at_end {
                return Ok(Some(Step::More));
            }
            let len = self.buffer.len();
            if len == 0 {
                return Err(NotReadable::Empty);
            }
            if ![VERSION, SEALED].iter().any(|&version| self.buffer[..] == magic(version)[..len]) {
                return Err(NotReadable::NotATrace);
            }
            self.lose(LossCause::Torn, "the file ends in its first eight bytes");
            return Ok(None);
        }
        let version = parse_magic(&self.buffer[..MAGIC_LEN])?;
        if version.major < SEALED.major {
            self.opener = None;
        } else if self.opener.is_none() {
            return Err(NotReadable::NoKey);
        }
        self.advance(MAGIC_LEN);
        self.state = State::Blocks;
        Ok(None)
    }

    /// Decodes the block at the front.
    fn block(&mut self, at_end: bool) -> Option<Step> {
        if self.buffer.is_empty() {
            return Some(Step::More);
        }
        if self.at_tail() {
            return self.tail(at_end);
        }
        if self.opener.is_some() && self.buffer.starts_with(&ENVELOPE_MARKER) {
            return self.envelope(at_end);
        }
        let Some(front) = self.buffer.first_chunk::<BLOCK_HEADER_LEN>() else {
            return self.wait_or_lose(at_end, "the file ends in a block");
        };
        let header = match BlockHeader::parse(front) {
            Ok(header) => header,
            Err(why) => return self.lose(LossCause::Damaged, why.0),
        };
        let len = BLOCK_HEADER_LEN + header.stored as usize;
        if self.buffer.len() < len {
            return self.wait_or_lose(at_end, "the file ends in a block");
        }
        let payload = &self.buffer[BLOCK_HEADER_LEN..len];
        if header.checksum(payload, self.crc) != header.crc {
            return self.lose(LossCause::Damaged, "a block's checksum does not match");
        }
        let raw = match self.contents(header, len) {
            Ok(raw) => raw,
            Err(why) => return self.lose(LossCause::Damaged, why),
        };
        match self.records(header, raw) {
            Ok(batch) => {
                self.crc = header.crc;
                let removed = self.removed(&batch);
                self.advance(len);
                if removed.is_some() {
                    self.waiting = Some(Box::new(batch));
                    return removed;
                }
                Some(Step::Block(Box::new(batch)))
            }
            Err(why) => self.lose(LossCause::Damaged, why.0),
        }
    }

    /// Returns the records of a block, of `len` bytes in the file: opened, and decompressed.
    fn contents(&mut self, header: BlockHeader, len: usize) -> Result<Bytes, &'static str> {
        let payload = &self.buffer[BLOCK_HEADER_LEN..len];
        let opened = match &mut self.opener {
            Some(opener) => Some(opener.open(header, payload)?),
            None => None,
        };
        let broken = |_| "a block can't be decompressed";
        if header.starts {
            self.decompressor.begin().map_err(broken)?;
        }
        let stream = opened.as_deref().unwrap_or(payload);
        self.decompressor.block(stream, header.raw as usize).map_err(broken)
    }

    /// Passes over the envelope at the front: the key is known.
    fn envelope(&mut self, at_end: bool) -> Option<Step> {
        match Envelope::parse(&self.buffer) {
            Found::Whole((_, len)) => {
                self.advance(len);
                None
            }
            Found::Cut => self.wait_or_lose(at_end, "the file ends in an envelope"),
            Found::Nothing => self.lose(LossCause::Damaged, "an envelope is damaged"),
        }
    }

    /// Passes over the tail, if nothing follows.
    fn tail(&mut self, at_end: bool) -> Option<Step> {
        if !at_end {
            return Some(Step::More);
        }
        if let Some(opener) = &self.opener
            && !self.buffer.first_chunk().is_some_and(|sealed| opener.is_tail(sealed))
        {
            return self.lose(LossCause::Damaged, "the tail was changed");
        }
        self.closed = true;
        self.advance(self.buffer.len());
        Some(Step::More)
    }

    /// Reads the records of a block.
    fn records(&mut self, header: BlockHeader, raw: Bytes) -> Result<Batch, Malformed> {
        let mut batch =
            Batch { offset: self.offset, raw: u64::from(header.raw), ..Batch::default() };
        let mut cursor = Cursor::new(raw);
        if header.starts {
            self.shapes.restart();
        }
        let mut next_blob = self.next_blob;
        let mut ordinal = self.next_ordinal.saturating_sub(1);
        while !cursor.is_empty() {
            let code = cursor.u8()?;
            let len = to_len(cursor.varint()?);
            let payload = cursor.take(len)?;
            match code {
                opcode::START => {
                    let start = Start::decode(payload)?;
                    if !header.starts || start.ordinal < self.next_ordinal {
                        return Err(Malformed("a zstd frame is repeated or out of order"));
                    }
                    (next_blob, ordinal) = (start.first_blob, start.ordinal);
                    batch.start = Some(start);
                    batch.first_blob = next_blob;
                }
                opcode::HEADER => {
                    let (mut version, segment) = decode_header(&payload)?;
                    version.major = if self.opener.is_some() { SEALED } else { VERSION }.major;
                    batch.header = Some((version, segment));
                }
                opcode::BLOBS => {
                    batch.first_blob = next_blob;
                    batch.blobs = decode_blobs(payload)?;
                    next_blob = next_blob.saturating_add(len_u64(batch.blobs.len()));
                }
                opcode::PIECES => {
                    let base = next_blob - len_u64(batch.blobs.len());
                    batch.pieces.push(Pieces::decode(payload, base)?);
                }
                opcode::FRAMES => batch.runs.append(&mut decode_frames(payload, &mut self.shapes)?),
                opcode::BARE => batch.bare.append(&mut decode_bare(payload)?),
                opcode::COUNTERS => batch.counters = Some(decode_counters(&payload)?),
                opcode::INDEX => batch.places.append(&mut decode_places(payload)?),
                opcode::MAP => batch.chapters.append(&mut decode_chapters(payload)?),
                opcode::FOOTER => batch.footer = Some(decode_footer(&payload)?),
                _ => match decode_event(code, &payload)? {
                    Some(event) => batch.events.push(event),
                    None => batch.unknown += 1,
                },
            }
        }
        if header.starts && batch.start.is_none() {
            return Err(Malformed("a zstd frame begins without saying where it is"));
        }
        for event in &batch.events {
            if let Event::End(end) = event {
                self.shapes.end(end.exchange);
            }
        }
        (self.next_blob, self.next_ordinal) = (next_blob, ordinal.saturating_add(1));
        batch.ordinal = ordinal;
        Ok(batch)
    }

    /// Returns a loss when bytes before this block are gone, or were put in, and no loss has said so.
    fn removed(&mut self, batch: &Batch) -> Option<Step> {
        let start = batch.start?;
        let shift = start.offset.wrapping_sub(self.offset);
        let moved = std::mem::replace(&mut self.shift, shift);
        let skipped = self.opener.as_mut().map_or(0, Opener::take_skipped);
        if std::mem::take(&mut self.explained) || (moved == shift && skipped == 0) {
            return None;
        }
        let bytes = shift.wrapping_sub(moved).cast_signed();
        let what = match bytes {
            0 => format!("{skipped} blocks that stood before it are gone"),
            1.. => format!("{bytes} bytes that stood before it are gone"),
            _ => format!("{} bytes were put in before it", bytes.unsigned_abs()),
        };
        let (from, cause) = (self.offset, LossCause::Damaged);
        Some(Step::Loss(Loss { segment: 0, from, until: from, cause, what }))
    }

    /// Looks for the next block that begins a zstd frame: up to there goes `loss`.
    fn resync(&mut self, loss: Loss, at_end: bool) -> Option<Step> {
        loop {
            let Some(at) = memmem::find(&self.buffer, &MARKER) else {
                let keep = if at_end { 0 } else { MARKER.len() - 1 };
                let skipped = self.buffer.len().saturating_sub(keep);
                self.advance(skipped);
                if !at_end {
                    return Some(Step::More);
                }
                self.state = State::Blocks;
                return Some(Step::Loss(Loss { until: self.offset, ..loss }));
            };
            self.advance(at);
            let front = self.buffer.first_chunk::<BLOCK_HEADER_LEN>();
            if front.is_none() && !at_end {
                return Some(Step::More);
            }
            let header = front.and_then(|front| BlockHeader::parse(front).ok());
            if let Some(header) = header.filter(|header| header.starts) {
                let len = BLOCK_HEADER_LEN + header.stored as usize;
                if self.buffer.len() < len && !at_end {
                    return Some(Step::More);
                }
                let payload = self.buffer.get(BLOCK_HEADER_LEN..len);
                if payload.is_some_and(|payload| header.checksum(payload, 0) == header.crc) {
                    self.state = State::Blocks;
                    // What seemed to be the file's end was not.
                    let (until, cause) = (self.offset, LossCause::Damaged);
                    return Some(Step::Loss(Loss { until, cause, ..loss }));
                }
            }
            self.advance(1);
        }
    }

    /// Whether what is there may be the tail of a closed segment, if nothing follows.
    fn at_tail(&self) -> bool {
        let len = match self.opener {
            Some(_) => SEALED_OFFSET_LEN + END_MAGIC.len(),
            None => TAIL_LEN,
        };
        self.buffer.len() == len && self.buffer.ends_with(&END_MAGIC)
    }

    fn wait_or_lose(&mut self, at_end: bool, why: &str) -> Option<Step> {
        if at_end { self.lose(LossCause::Torn, why) } else { Some(Step::More) }
    }

    /// Begins to look for the next block, beyond the front of this one.
    fn lose(&mut self, cause: LossCause, why: &str) -> Option<Step> {
        self.state = State::Lost { from: self.offset, cause, why: why.to_owned() };
        self.explained = true;
        self.advance(1);
        None
    }

    fn advance(&mut self, len: usize) {
        let len = len.min(self.buffer.len());
        self.buffer.advance(len);
        self.offset += len_u64(len);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::block::put_record;
    use crate::trace::compress::{Compressor, Then};
    use proptest::prelude::*;

    /// Returns a segment of one block with these records, all checksums right.
    fn sealed(records: &[(u8, Vec<u8>)]) -> Vec<u8> {
        let mut raw = Vec::new();
        let start = Start { ordinal: 0, offset: 8, first_blob: 0 };
        put_record(&mut raw, opcode::START, &start.encode());
        for (code, payload) in records {
            put_record(&mut raw, *code, payload);
        }
        let mut compressor = Compressor::new().unwrap();
        compressor.begin(1, 20).unwrap();
        let payload = compressor.block(&raw, Then::GoOn).unwrap();
        let raw = u32::try_from(raw.len()).unwrap();
        let header = BlockHeader::new(&payload, raw, true, 0).unwrap();
        [&magic(VERSION)[..], &header.to_bytes(), &payload].concat()
    }

    /// Decodes to the end, in parts of `step` bytes, and returns what was said.
    fn decode(bytes: &[u8], step: usize) -> Vec<String> {
        let mut decoder = Decoder::new(None).unwrap();
        let mut parts = bytes.chunks(step);
        let mut at_end = false;
        let mut said = Vec::new();
        loop {
            match decoder.next(at_end) {
                Ok(Step::More) if at_end => return said,
                Ok(Step::More) => match parts.next() {
                    Some(part) => decoder.push(part),
                    None => at_end = true,
                },
                Ok(Step::Block(batch)) => said.push(format!("{} events", batch.events.len())),
                Ok(Step::Loss(loss)) => said.push(loss.to_string()),
                Err(why) => {
                    said.push(why.to_string());
                    return said;
                }
            }
        }
    }

    #[test]
    fn what_a_block_claims_to_hold_is_not_believed() {
        for code in [opcode::BLOBS, opcode::FRAMES, opcode::INDEX, opcode::MAP] {
            let huge = vec![0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1];
            let said = decode(&sealed(&[(code, huge)]), 64);
            assert!(said.len() == 1 && said[0].contains("can't be read"), "{code}: {said:?}");
        }
        let mut bytes = sealed(&[]);
        bytes[8 + 8..8 + 12].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(decode(&bytes, 64)[0].contains("longer than the limit"));
    }

    proptest! {
        #[test]
        fn records_that_no_writer_made_never_panic(
            records in prop::collection::vec(
                (0..0x50_u8, prop::collection::vec(any::<u8>(), 0..60)), 0..6),
        ) {
            decode(&sealed(&records), 64);
        }

        #[test]
        fn bytes_after_the_magic_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            decode(&[&magic(VERSION)[..], &bytes].concat(), 64);
            decode(&bytes, 64);
        }

        #[test]
        fn how_the_bytes_come_changes_nothing(step in 1..200_usize, cut in 0..4_usize) {
            let mut bytes = sealed(&[(0x77, vec![1; 300]), (opcode::COUNTERS, vec![0; 8])]);
            bytes.truncate(bytes.len() - cut);
            prop_assert_eq!(decode(&bytes, step), decode(&bytes, usize::MAX));
        }
    }
}
