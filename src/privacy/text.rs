//! One text, wherever its characters stand in a body: they may come in many events.

use std::collections::VecDeque;
use std::ops::Range;

use crate::privacy::draw::Draw;
use crate::privacy::held::Held;
use crate::privacy::patterns::{Found, More, Patterns, Scanner};
use crate::privacy::standin::Standin;
use crate::privacy::units::{MAX_UNIT, Unit};

/// The keys that replacements follow from.
#[derive(Clone)]
pub(super) struct Keys {
    /// For texts whose shape is kept.
    pub(super) shape: [u8; 32],
    /// For values of which nothing is kept but their length and whether they are equal.
    pub(super) hash: [u8; 32],
}

/// What it takes to replace something.
pub(super) struct Work<'a> {
    pub(super) keys: &'a Keys,
    pub(super) patterns: Option<&'a mut Patterns>,
    pub(super) held: &'a mut Held,
    pub(super) texts: Texts,
}

/// What is done to texts beside looking for patterns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Texts {
    /// Nothing.
    Stay,
    /// Each is replaced by its stand-in.
    Shape,
    /// No body is read: nothing of any is told.
    Closed,
}

/// A text that is being replaced.
#[derive(Debug, Default)]
pub(super) struct Text {
    standin: Standin,
    /// Where the characters stand that are not shaped yet.
    unshaped: VecDeque<(u64, u8)>,
    scanner: Scanner,
    /// The text's end, which the scanner does not know yet.
    fresh: Vec<u8>,
    /// Where the characters stand that may be part of a match.
    places: VecDeque<Place>,
    /// Bytes of text so far.
    len: u64,
    shaped: String,
}

/// Where characters of a text stand in the body, one right after the other and all as long.
#[derive(Clone, Copy, Debug)]
struct Place {
    text: u64,
    at: u64,
    count: u64,
    /// Bytes of each, in the text and in the body.
    text_len: u64,
    len: u64,
}

/// A value of which only the length stays.
#[derive(Debug, Default)]
pub(super) struct Scramble {
    chain: [u8; 32],
    chunk: String,
    units: Vec<(u64, u8)>,
}

/// Characters of a value that are hashed together.
const CHUNK: usize = 32;

// === impl Keys ===

impl Keys {
    pub(super) fn new(key: &[u8; 32]) -> Self {
        Self {
            shape: blake3::derive_key("reenact privacy shape 1", key),
            hash: blake3::derive_key("reenact privacy hash 1", key),
        }
    }
}

// === impl Text ===

impl Text {
    /// Takes a character that stands at `at`.
    pub(super) fn unit(&mut self, work: &mut Work<'_>, at: u64, unit: Unit) {
        let char = unit.char.unwrap_or('\u{fffd}');
        if work.patterns.is_some() {
            let mut bytes = [0; 4];
            let bytes = char.encode_utf8(&mut bytes).as_bytes();
            self.fresh.extend_from_slice(bytes);
            self.place(at, 1, bytes.len(), unit.len);
        }
        if work.texts == Texts::Shape {
            if unit.char.is_none() {
                work.held.fill(at, at + u64::from(unit.len));
            }
            self.unshaped.push_back((at, unit.len));
            self.standin.push(&work.keys.shape, char, &mut self.shaped);
            self.put(work);
        }
    }

    /// Takes characters of one byte each that stand one after the other from `at` on.
    pub(super) fn plain(&mut self, work: &mut Work<'_>, at: u64, plain: &[u8]) {
        if work.patterns.is_some() {
            self.fresh.extend_from_slice(plain);
            self.place(at, plain.len(), 1, 1);
        }
        if work.texts == Texts::Shape {
            for (at, byte) in (at..).zip(plain) {
                self.unshaped.push_back((at, 1));
                self.standin.push(&work.keys.shape, char::from(*byte), &mut self.shaped);
            }
            self.put(work);
        }
    }

    /// Does what can be done with what has come by now.
    pub(super) fn settle(&mut self, work: &mut Work<'_>, more: More) {
        if more == More::No {
            self.standin.finish(&work.keys.shape, &mut self.shaped);
            self.put(work);
        }
        let Some(patterns) = &mut work.patterns else { return };
        if self.fresh.is_empty() && (more == More::Yes || self.places.is_empty()) {
            return;
        }
        let mut found = Vec::new();
        self.scanner.push(patterns, &self.fresh, more, &mut found);
        self.fresh.clear();
        for one in found {
            self.mask(work, &one);
        }
        // What is decided may have been let go, and is masked by now if it has to be.
        let decided = if more == More::No { u64::MAX } else { self.scanner.decided() };
        while let Some(place) = self.places.front_mut() {
            let known = place.before(decided);
            if known < place.count {
                *place = place.without(known);
                break;
            }
            self.places.pop_front();
        }
    }

    /// Returns the offset in the body before which this text is decided, if that is not all of it.
    pub(super) fn undecided(&self) -> Option<u64> {
        let unshaped = self.unshaped.front().map(|(at, _)| *at);
        let unscanned = self.places.front().map(|place| place.at);
        unshaped.into_iter().chain(unscanned).min()
    }

    fn put(&mut self, work: &mut Work<'_>) {
        for char in self.shaped.drain(..) {
            if let Some((at, len)) = self.unshaped.pop_front() {
                work.held.put_char(at, len, char);
            }
        }
    }

    /// Notes where characters stand, of `text_len` bytes each in the text and `len` in the body.
    fn place(&mut self, at: u64, count: usize, text_len: usize, len: u8) {
        let (count, text_len) = (count as u64, text_len as u64);
        let place = Place { text: self.len, at, count, text_len, len: len.into() };
        self.len = place.text_end();
        match self.places.back_mut() {
            Some(last) if last.goes_on_with(&place) => last.count += count,
            _ => self.places.push_back(place),
        }
    }

    fn mask(&self, work: &mut Work<'_>, found: &Found) {
        let mut draw = Draw::new(&work.keys.hash, &[&found.seed]);
        let Range { start, end } = found.range;
        for place in self.places.iter().skip_while(|place| place.text_end() <= start) {
            // A match may begin within a character, when the expression speaks of bytes.
            let first = start.saturating_sub(place.text) / place.text_len;
            let last = place.before(end);
            if last <= first {
                break;
            }
            let masked = (last - first) * place.len;
            let mut bytes = vec![0; usize::try_from(masked).unwrap_or(0)];
            draw.fill_plain(&mut bytes);
            work.held.mask(place.without(first).at, bytes);
        }
    }
}

// === impl Place ===

impl Place {
    fn text_end(&self) -> u64 {
        self.text + self.count * self.text_len
    }

    fn goes_on_with(&self, next: &Self) -> bool {
        (self.text_len, self.len) == (next.text_len, next.len)
            && self.text_end() == next.text
            && self.at + self.count * self.len == next.at
    }

    /// Returns how many of these characters begin before an offset in the text.
    fn before(&self, text: u64) -> u64 {
        text.saturating_sub(self.text).div_ceil(self.text_len).min(self.count)
    }

    /// Returns all but the first `count`.
    fn without(&self, count: u64) -> Self {
        Self {
            text: self.text + count * self.text_len,
            at: self.at + count * self.len,
            count: self.count - count,
            ..*self
        }
    }
}

// === impl Scramble ===

impl Scramble {
    /// Begins another value.
    pub(super) fn begin(&mut self) {
        self.chain = [0; 32];
        self.chunk.clear();
        self.units.clear();
    }

    /// Takes a character that stands at `at`.
    pub(super) fn unit(&mut self, work: &mut Work<'_>, at: u64, unit: Unit) {
        self.chunk.push(unit.char.unwrap_or('\u{fffd}'));
        self.units.push((at, unit.len));
        if self.units.len() == CHUNK {
            self.finish(work);
        }
    }

    /// Replaces what has not been.
    pub(super) fn finish(&mut self, work: &mut Work<'_>) {
        let mut draw = Draw::new(&work.keys.hash, &[&self.chain, self.chunk.as_bytes()]);
        draw.fill(&mut self.chain);
        for (at, len) in self.units.drain(..) {
            let mut bytes = [0; MAX_UNIT];
            let bytes = &mut bytes[..usize::from(len)];
            draw.fill_plain(bytes);
            work.held.put(at, bytes);
        }
        self.chunk.clear();
    }

    /// Returns the offset of the first character that is not replaced.
    pub(super) fn undecided(&self) -> Option<u64> {
        self.units.first().map(|(at, _)| *at)
    }
}
