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
    kinds: Vec<Kind>,
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
    pub(super) fn new(exchange: ExchangeId, side: Side) -> Self {
        Self {
            exchange,
            side,
            base: 0,
            bytes: Vec::new(),
            kinds: Vec::new(),
            frames: VecDeque::new(),
            masks: Vec::new(),
        }
    }

    /// Takes a frame.
    pub(super) fn push(&mut self, at: Nanos, accepted: Nanos, data: &[u8], kind: Kind) {
        self.bytes.extend_from_slice(data);
        self.kinds.resize(self.bytes.len(), kind);
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
        self.kinds[from..until].fill(kind);
    }

    /// Says that a character of a string is here.
    pub(super) fn mark_unit(&mut self, at: u64, len: u8) {
        self.mark(at, at + u64::from(len), Kind::More);
        self.mark(at, at + 1, Kind::Unit);
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
        let idx = self.idx(at);
        let more = self.kinds[..(idx + 1).min(self.kinds.len())]
            .iter()
            .rev()
            .take_while(|kind| **kind == Kind::More);
        at - more.count() as u64
    }

    /// Appends to `out` the frames that end before `decided`.
    pub(super) fn release(&mut self, decided: u64, out: &mut VecDeque<Event>) {
        let decided = self.idx(decided);
        let mut until = 0;
        let mut ready = Vec::new();
        while let Some(frame) = self.frames.front().filter(|frame| until + frame.len <= decided) {
            until += frame.len;
            ready.push(*frame);
            self.frames.pop_front();
        }
        if ready.is_empty() {
            return;
        }
        self.apply_masks(until);
        let mut bytes: Bytes = self.bytes.drain(..until).collect();
        self.kinds.drain(..until);
        self.base += until as u64;
        let (exchange, side) = (self.exchange, self.side);
        out.extend(ready.into_iter().map(|Cut { at, accepted, len }| {
            let data = bytes.split_to(len);
            Event::Frame(Frame { exchange, side, at, accepted, data })
        }));
    }

    /// Applies what is to be masked before the index `until`, and some beyond where a character goes on.
    fn apply_masks(&mut self, until: usize) {
        let masks = std::mem::take(&mut self.masks);
        for mask in masks {
            let from = self.idx(mask.at);
            let skipped = usize::try_from(self.base.saturating_sub(mask.at)).unwrap_or(0);
            let bytes = mask.bytes.get(skipped..).unwrap_or_default();
            self.apply(from, bytes);
            let end = from + bytes.len();
            if end > until {
                // What lies beyond may be edited by others yet.
                self.masks.push(mask);
            }
        }
    }

    fn apply(&mut self, from: usize, mask: &[u8]) {
        let mut at = from;
        while at < from + mask.len() && at < self.bytes.len() {
            let new = mask[at - from];
            match self.kinds[at] {
                Kind::Form => {}
                Kind::Plain => self.bytes[at] = new,
                Kind::Scalar => {
                    if self.bytes[at].is_ascii_digit() {
                        self.bytes[at] = b'1' + new % 9;
                    }
                }
                Kind::Unit | Kind::More => {
                    let (start, end) = self.unit_around(at);
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

    /// Returns the indices between which the character lies that the byte at `idx` is of.
    fn unit_around(&self, idx: usize) -> (usize, usize) {
        let more = |kind: &&Kind| **kind == Kind::More;
        let before = self.kinds[..=idx].iter().rev().take_while(more).count();
        let after = self.kinds[idx + 1..].iter().take_while(more).count();
        (idx.saturating_sub(before), idx + 1 + after)
    }

    fn idx(&self, at: u64) -> usize {
        let idx = usize::try_from(at.saturating_sub(self.base)).unwrap_or(usize::MAX);
        idx.min(self.bytes.len())
    }
}
