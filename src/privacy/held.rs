//! The bytes of one body that are not all decided: edited in place, and let go frame by frame.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::clock::Nanos;
use crate::privacy::draw::Draw;
use crate::privacy::units::put_char;
use crate::trace::Frames;
use crate::trace::record::{Event, ExchangeId, Frame, Side};

/// A part of a body, of which the front is decided sooner than the back.
#[derive(Debug)]
pub(super) struct Held {
    exchange: ExchangeId,
    side: Side,
    /// Offset in the body of the first byte.
    base: u64,
    bytes: Vec<u8>,
    /// What each byte is; none when nothing will be masked, since nobody asks then.
    kinds: Option<Vec<Kind>>,
    frames: VecDeque<Cut>,
    masks: Vec<Mask>,
}

/// What a byte is, to one who may replace it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It holds the body's form: it stays.
    Form,
    /// Text, byte by byte.
    Plain,
    /// A character in a string begins here.
    Unit,
    /// It goes on here.
    More,
    /// Of a number.
    Scalar,
}

/// Whether patterns are looked for, so that something may be masked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Masks {
    Expected,
    Never,
}

/// What stands in place of what a pattern matched.
#[derive(Debug)]
struct Mask {
    at: u64,
    bytes: Vec<u8>,
}

/// A frame but for its bytes.
#[derive(Clone, Copy, Debug)]
struct Cut {
    at: Nanos,
    accepted: Nanos,
    len: usize,
}

/// What stands for a byte that may not be told, where nothing better can.
const FILL: u8 = b'*';

// === impl Held ===

impl Held {
    pub(super) fn new(exchange: ExchangeId, side: Side, masks: Masks) -> Self {
        Self {
            exchange,
            side,
            base: 0,
            bytes: Vec::new(),
            kinds: (masks == Masks::Expected).then(Vec::new),
            frames: VecDeque::new(),
            masks: Vec::new(),
        }
    }

    /// Takes a frame.
    pub(super) fn push(&mut self, at: Nanos, accepted: Nanos, data: &[u8], kind: Kind) {
        self.bytes.extend_from_slice(data);
        if let Some(kinds) = &mut self.kinds {
            kinds.resize(self.bytes.len(), kind);
        }
        self.frames.push_back(Cut { at, accepted, len: data.len() });
    }

    /// Returns how much is held.
    pub(super) fn amount(&self) -> Frames {
        Frames { count: self.frames.len() as u64, bytes: self.bytes.len() as u64 }
    }

    /// Returns the offset in the body after the last byte.
    pub(super) fn end(&self) -> u64 {
        self.base + self.bytes.len() as u64
    }

    /// Returns the bytes from one offset to another; those that were let go are not among them.
    pub(super) fn raw(&self, from: u64, until: u64) -> &[u8] {
        &self.bytes[self.idx(from)..self.idx(until)]
    }

    /// Says what bytes are.
    pub(super) fn mark(&mut self, from: u64, until: u64, kind: Kind) {
        let (from, until) = (self.idx(from), self.idx(until));
        if let Some(kinds) = &mut self.kinds {
            kinds[from..until].fill(kind);
        }
    }

    /// Says that a character of a string is here.
    pub(super) fn mark_unit(&mut self, at: u64, len: u8) {
        let (from, until) = (self.idx(at), self.idx(at + u64::from(len)));
        if let Some([first, rest @ ..]) = self.kinds.as_mut().map(|kinds| &mut kinds[from..until]) {
            *first = Kind::Unit;
            rest.fill(Kind::More);
        }
    }

    /// Says what each of the bytes from `at` on is.
    pub(super) fn mark_each(&mut self, at: u64, each: &[Kind]) {
        let (from, until) = (self.idx(at), self.idx(at + each.len() as u64));
        if let Some(kinds) = &mut self.kinds {
            kinds[from..until].copy_from_slice(each);
        }
    }

    /// Returns what the bytes from one offset to another are; none when nobody will ask.
    pub(super) fn kinds(&self, from: u64, until: u64) -> Option<&[Kind]> {
        let (from, until) = (self.idx(from), self.idx(until));
        self.kinds.as_ref().map(|kinds| &kinds[from..until])
    }

    /// Returns how many masks wait.
    pub(super) fn masks(&self) -> usize {
        self.masks.len()
    }

    /// Writes bytes over those from `at`.
    pub(super) fn put(&mut self, at: u64, bytes: &[u8]) {
        let from = self.idx(at);
        let len = bytes.len().min(self.bytes.len() - from);
        self.bytes[from..from + len].copy_from_slice(&bytes[..len]);
    }

    /// Writes a character over the one at `at`. A letter that does not fit becomes none.
    pub(super) fn put_char(&mut self, at: u64, len: u8, char: char) {
        let (from, until) = (self.idx(at), self.idx(at + u64::from(len)));
        if !put_char(&mut self.bytes[from..until], char) && char.is_alphanumeric() {
            self.bytes[from..until].fill(FILL);
        }
    }

    /// Takes out what bytes say.
    pub(super) fn fill(&mut self, from: u64, until: u64) {
        let (from, until) = (self.idx(from), self.idx(until));
        self.bytes[from..until].fill(FILL);
    }

    /// Takes out what all bytes from `from` on say, and that a pattern matched there.
    pub(super) fn fill_rest(&mut self, from: u64) {
        self.fill(from, self.end());
        self.masks.retain_mut(|mask| {
            let before = usize::try_from(from.saturating_sub(mask.at)).unwrap_or(usize::MAX);
            mask.bytes.truncate(before);
            !mask.bytes.is_empty()
        });
    }

    /// Replaces the digits of a number.
    pub(super) fn scramble_digits(&mut self, at: u64, len: u64, draw: &mut Draw) {
        let (from, until) = (self.idx(at), self.idx(at + len));
        for byte in &mut self.bytes[from..until] {
            if byte.is_ascii_digit() {
                // No 0, which may not be the first of several.
                *byte = b"123456789"[draw.below(9)];
            }
        }
    }

    /// Replaces what a pattern matched, when it is let go: of a string's characters all of each, of a number the digits,
    /// and nothing of the form.
    pub(super) fn mask(&mut self, at: u64, bytes: Vec<u8>) {
        self.masks.push(Mask { at, bytes });
    }

    /// Returns where the character begins that the byte at `at` is of.
    pub(super) fn unit_start(&self, at: u64) -> u64 {
        let Some(kinds) = &self.kinds else { return at };
        let before = &kinds[..(self.idx(at) + 1).min(kinds.len())];
        let more = before.iter().rev().take_while(|kind| **kind == Kind::More);
        at - more.count() as u64
    }

    /// Appends to `out` the frames that end before `decided`.
    pub(super) fn release(&mut self, decided: u64, out: &mut VecDeque<Event>) {
        let decided = self.idx(decided);
        let (mut count, mut until) = (0, 0);
        while let Some(frame) = self.frames.get(count)
            && until + frame.len <= decided
        {
            until += frame.len;
            count += 1;
        }
        if count == 0 {
            return;
        }
        self.apply_masks(until);
        let (exchange, side) = (self.exchange, self.side);
        let mut bytes = Bytes::copy_from_slice(&self.bytes[..until]);
        out.extend(self.frames.drain(..count).map(|Cut { at, accepted, len }| {
            let data = bytes.split_to(len);
            Event::Frame(Frame { exchange, side, at, accepted, data })
        }));
        self.bytes.drain(..until);
        if let Some(kinds) = &mut self.kinds {
            kinds.drain(..until);
        }
        self.base += until as u64;
    }

    /// Applies what is to be masked before the index `until`, and some beyond where a character goes on. The rest waits: what
    /// it is of may not have been read yet, and is to be read as it came.
    fn apply_masks(&mut self, until: usize) {
        if self.masks.is_empty() {
            return;
        }
        let masks = std::mem::take(&mut self.masks);
        for mask in masks {
            let from = self.idx(mask.at);
            let skipped = usize::try_from(self.base.saturating_sub(mask.at)).unwrap_or(0);
            let bytes = mask.bytes.get(skipped..).unwrap_or_default();
            self.apply(from, until, bytes);
            let end = from + bytes.len();
            if end > until {
                self.masks.push(mask);
            }
        }
    }

    fn apply(&mut self, from: usize, until: usize, mask: &[u8]) {
        let Some(kinds) = &self.kinds else { return };
        let mut at = from;
        while at < until.min(from + mask.len()) {
            let new = mask[at - from];
            match kinds[at] {
                Kind::Form => {}
                Kind::Plain => self.bytes[at] = new,
                Kind::Scalar => {
                    if self.bytes[at].is_ascii_digit() {
                        self.bytes[at] = b'1' + new % 9;
                    }
                }
                Kind::Unit | Kind::More => {
                    let (start, end) = unit_around(kinds, at);
                    for (idx, byte) in self.bytes[start..end].iter_mut().enumerate() {
                        *byte = mask[(start.max(from) - from + idx) % mask.len()];
                    }
                    at = end;
                    continue;
                }
            }
            at += 1;
        }
    }

    fn idx(&self, at: u64) -> usize {
        let idx = usize::try_from(at.saturating_sub(self.base)).unwrap_or(usize::MAX);
        idx.min(self.bytes.len())
    }
}

/// Returns the indices between which the character lies that the byte at `idx` is of.
fn unit_around(kinds: &[Kind], idx: usize) -> (usize, usize) {
    let more = |kind: &&Kind| **kind == Kind::More;
    let before = kinds[..=idx].iter().rev().take_while(more).count();
    let after = kinds[idx + 1..].iter().take_while(more).count();
    (idx.saturating_sub(before), idx + 1 + after)
}
