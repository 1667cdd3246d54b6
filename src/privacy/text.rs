//! One text, wherever its characters stand in a body: they may come in many events.

use std::collections::VecDeque;

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
    units: VecDeque<Place>,
    /// Bytes of text so far.
    len: u64,
    shaped: String,
}

/// Where a character of a text stands in the body.
#[derive(Clone, Copy, Debug)]
struct Place {
    text: u64,
    at: u64,
    len: u8,
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
            self.units.push_back(Place { text: self.len, at, len: unit.len });
            self.len += bytes.len() as u64;
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

    /// Does what can be done with what has come by now.
    pub(super) fn settle(&mut self, work: &mut Work<'_>, more: More) {
        if more == More::No {
            self.standin.finish(&work.keys.shape, &mut self.shaped);
            self.put(work);
        }
        let Some(patterns) = &mut work.patterns else { return };
        if self.fresh.is_empty() && (more == More::Yes || self.units.is_empty()) {
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
        let known = self.units.partition_point(|place| place.text < decided);
        self.units.drain(..known);
    }

    /// Returns the offset in the body before which this text is decided, if that is not all of it.
    pub(super) fn undecided(&self) -> Option<u64> {
        let unshaped = self.unshaped.front().map(|(at, _)| *at);
        let unscanned = self.units.front().map(|place| place.at);
        unshaped.into_iter().chain(unscanned).min()
    }

    fn put(&mut self, work: &mut Work<'_>) {
        for char in self.shaped.drain(..) {
            if let Some((at, len)) = self.unshaped.pop_front() {
                work.held.put_char(at, len, char);
            }
        }
    }

    fn mask(&self, work: &mut Work<'_>, found: &Found) {
        let first = self.units.partition_point(|place| place.text < found.range.start);
        // A match may begin within a character, when the expression speaks of bytes.
        let first = first.saturating_sub(usize::from(
            self.units.get(first).is_none_or(|place| place.text > found.range.start),
        ));
        let units = self.units.range(first..);
        let mut draw = Draw::new(&work.keys.hash, &[&found.seed]);
        for place in units.take_while(|place| place.text < found.range.end) {
            let mut bytes = vec![0; usize::from(place.len)];
            draw.fill_plain(&mut bytes);
            work.held.mask(place.at, bytes);
        }
    }
}

// === impl Scramble ===

impl Scramble {
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
