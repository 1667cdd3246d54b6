//! One JSON document: each string is replaced as its place and the policy want it.

use crate::privacy::draw::Draw;
use crate::privacy::held::Kind;
use crate::privacy::json::{Level, Lexer, NotJson, Part, Role, Tell};
use crate::privacy::known::{are_text, is_index};
use crate::privacy::media::Media;
use crate::privacy::patterns::More;
use crate::privacy::plan::{Around, Plan, Streams};
use crate::privacy::template::{Slot, SlotKind};
use crate::privacy::text::{Scramble, Text, Texts, Work};
use crate::privacy::units::{Escapes, Unit, UnitReader, plain_len};

/// Replaces what is in one document.
#[derive(Debug)]
pub(super) struct Document {
    lexer: Lexer,
    values: Values,
    /// What is being read.
    bytes: Vec<u8>,
}

/// Does what is planned, one string after the other.
#[derive(Debug)]
pub(super) struct Values {
    doing: Doing,
    /// Follows from the numbers of the list before.
    numbers: [u8; 32],
    /// What is used anew for each string.
    scramble: Scramble,
    raw: Vec<u8>,
}

/// What is done with the string that is open.
#[derive(Debug)]
enum Doing {
    Keep,
    Text(Box<Text>),
    Stream(usize),
    Scramble,
    /// It stays or it does not; that is known when it has ended.
    Hold(Hold),
    Media(Box<Media>),
}

#[derive(Debug)]
struct Hold {
    stays: fn(&str) -> bool,
    longest: usize,
    text: String,
    /// Where the string begins, and where the characters read end.
    from: u64,
    until: u64,
}

/// Bytes that a document keeps room for.
const KEPT_BYTES: usize = 16 << 10;

// === impl Document ===

impl Document {
    /// Makes a document that begins at `at` of the body.
    pub(super) fn new(at: u64) -> Self {
        Self { lexer: Lexer::new(at), values: Values::default(), bytes: Vec::new() }
    }

    /// Forgets the document, and keeps the memory: the next begins at the beginning of a body.
    pub(super) fn restart(&mut self) {
        self.lexer.restart();
        self.values = Values::default();
    }

    /// Replaces what is in the bytes from `from` to `until` of what is held.
    ///
    /// # Errors
    /// They are not JSON: what stands from [`Self::decided`] on was not read.
    pub(super) fn push(
        &mut self,
        work: &mut Work<'_>,
        around: &mut Around<'_>,
        from: u64,
        until: u64,
    ) -> Result<(), NotJson> {
        self.bytes.clear();
        self.bytes.extend_from_slice(work.held.raw(from, until));
        self.lexer.seek(from);
        let values = &mut self.values;
        let read = self.lexer.push(&self.bytes, |path, part| values.part(work, around, path, part));
        // A stream may have one large event, and be open for hours.
        if self.bytes.capacity() > KEPT_BYTES {
            self.bytes = Vec::new();
        }
        read?;
        if let Doing::Text(text) = &mut self.values.doing {
            text.settle(work, More::Yes);
        }
        Ok(())
    }

    /// Ends the document.
    ///
    /// # Errors
    /// It is not JSON.
    pub(super) fn finish(
        &mut self,
        work: &mut Work<'_>,
        around: &mut Around<'_>,
    ) -> Result<bool, NotJson> {
        let values = &mut self.values;
        self.lexer.finish(|path, part| values.part(work, around, path, part))
    }

    /// Returns the offset before which all is decided.
    pub(super) fn decided(&self) -> u64 {
        let undecided = match &self.values.doing {
            Doing::Keep | Doing::Stream(_) => None,
            Doing::Text(text) => text.undecided(),
            Doing::Scramble => self.values.scramble.undecided(),
            Doing::Hold(hold) => Some(hold.from),
            Doing::Media(media) => media.undecided(),
        };
        undecided.unwrap_or(u64::MAX).min(self.lexer.told())
    }
}

// === impl Values ===

impl Default for Values {
    fn default() -> Self {
        Self {
            doing: Doing::Keep,
            numbers: [0; 32],
            scramble: Scramble::default(),
            raw: Vec::new(),
        }
    }
}

impl Values {
    fn part(
        &mut self,
        work: &mut Work<'_>,
        around: &mut Around<'_>,
        path: &[Level],
        part: Part<'_>,
    ) -> Tell {
        match part {
            Part::Open(at, role) => return self.open(work, around, path, (at, role)),
            Part::Unit(at, unit) => self.unit(work, around.streams, at, unit),
            Part::Plain(at, plain) => self.plain(work, around.streams, at, plain),
            Part::Close(at, _) => {
                self.close(work, around.streams);
                if let Some(slots) = &mut around.slots {
                    slots.close(work, at);
                }
            }
            Part::Scalar { at, len, .. } => self.scalar(work, around, path, (at, len)),
        }
        Tell::Close
    }

    fn open(
        &mut self,
        work: &Work<'_>,
        around: &mut Around<'_>,
        path: &[Level],
        (at, role): (u64, Role),
    ) -> Tell {
        let plan = Plan::new(work, around, path, role);
        if let Some(slots) = &mut around.slots {
            let kind = if role == Role::Key { SlotKind::Fixed } else { SlotKind::String };
            slots.open(work, Slot::new(kind, plan, at));
        }
        self.begin(plan);
        if matches!(plan, Plan::Keep) && work.patterns.is_none() {
            Tell::Close
        } else {
            Tell::Units
        }
    }

    /// Does what is planned with a whole string, which is at `at`.
    pub(super) fn string(
        &mut self,
        work: &mut Work<'_>,
        streams: &mut Streams,
        plan: Plan,
        (at, until): (u64, u64),
    ) {
        self.begin(plan);
        let mut raw = std::mem::take(&mut self.raw);
        raw.clear();
        raw.extend_from_slice(work.held.raw(at, until));
        let (mut rest, mut at, mut reader) = (&raw[..], at, UnitReader::default());
        while let Some((byte, after)) = rest.split_first() {
            let plain = if reader.pending() == 0 { plain_len(rest) } else { 0 };
            if plain > 0 {
                self.plain(work, streams, at, &rest[..plain]);
                rest = &rest[plain..];
                at += plain as u64;
                continue;
            }
            reader.push(Escapes::Json, *byte, |unit| {
                self.unit(work, streams, at, unit);
                at += u64::from(unit.len);
            });
            rest = after;
        }
        reader.finish(|unit| self.unit(work, streams, at, unit));
        self.close(work, streams);
        self.raw = raw;
    }

    /// Begins a string.
    fn begin(&mut self, plan: Plan) {
        // Most strings are kept, one after the other.
        if let (Plan::Keep, Doing::Keep) = (plan, &self.doing) {
            return;
        }
        self.doing = match plan {
            Plan::Keep => Doing::Keep,
            Plan::Text => Doing::Text(Box::default()),
            Plan::Stream(idx) => Doing::Stream(idx),
            Plan::Scramble => {
                self.scramble.begin();
                Doing::Scramble
            }
            Plan::Hold(stays, longest) => Doing::hold(stays, longest),
            Plan::BareMedia => Doing::Media(Box::new(Media::bare())),
            Plan::MediaInUri => Doing::Media(Box::new(Media::in_data_uri())),
        };
    }

    /// Takes characters of it that are a byte each.
    fn plain(&mut self, work: &mut Work<'_>, streams: &mut Streams, at: u64, plain: &[u8]) {
        match &mut self.doing {
            Doing::Keep => {}
            Doing::Text(text) => text.plain(work, at, plain),
            Doing::Stream(idx) => streams.text(*idx).plain(work, at, plain),
            Doing::Scramble | Doing::Hold(_) | Doing::Media(_) => {
                for (at, byte) in (at..).zip(plain) {
                    let unit = Unit { char: Some(char::from(*byte)), len: 1 };
                    self.unit(work, streams, at, unit);
                }
                return;
            }
        }
        work.held.mark(at, at + plain.len() as u64, Kind::Unit);
    }

    /// Takes a character of it.
    fn unit(&mut self, work: &mut Work<'_>, streams: &mut Streams, at: u64, unit: Unit) {
        work.held.mark_unit(at, unit.len);
        match &mut self.doing {
            Doing::Keep => {}
            Doing::Text(text) => text.unit(work, at, unit),
            Doing::Stream(idx) => streams.text(*idx).unit(work, at, unit),
            Doing::Scramble => self.scramble.unit(work, at, unit),
            Doing::Hold(hold) => {
                if hold.text.is_empty() {
                    hold.from = at;
                }
                hold.text.push(unit.char.unwrap_or('\u{fffd}'));
                hold.until = at + u64::from(unit.len);
                if hold.text.len() > hold.longest {
                    let (from, until) = (hold.from, hold.until);
                    self.doing = Doing::Text(text_of(work, from, until));
                }
            }
            Doing::Media(media) => {
                if !media.unit(work, at, unit) {
                    let (from, until) = media.span();
                    self.doing = Doing::Text(text_of(work, from, until));
                }
            }
        }
    }

    /// Ends it.
    fn close(&mut self, work: &mut Work<'_>, streams: &mut Streams) {
        if let Doing::Keep = self.doing {
            return;
        }
        match std::mem::replace(&mut self.doing, Doing::Keep) {
            Doing::Keep => {}
            Doing::Text(mut text) => text.settle(work, More::No),
            Doing::Stream(idx) => streams.text(idx).settle(work, More::Yes),
            Doing::Scramble => self.scramble.finish(work),
            Doing::Hold(hold) => {
                if !(hold.stays)(&hold.text) && !hold.text.is_empty() {
                    text_of(work, hold.from, hold.until).settle(work, More::No);
                }
            }
            Doing::Media(media) => {
                if !media.finish(work) {
                    let (from, until) = media.span();
                    text_of(work, from, until).settle(work, More::No);
                }
            }
        }
    }

    fn scalar(
        &mut self,
        work: &mut Work<'_>,
        around: &mut Around<'_>,
        path: &[Level],
        (at, len): (u64, u64),
    ) {
        let is_covered = around.pointers.iter().any(|pointer| pointer.covers(path));
        let is_text = !is_covered && work.texts == Texts::Shape && are_text(path);
        let plan = if is_covered { Plan::Scramble } else { Plan::Keep };
        if let Some(slots) = &mut around.slots {
            let kind = if is_index(path) { SlotKind::Fixed } else { SlotKind::Number };
            slots.open(work, Slot::new(kind, plan, at));
        }
        number(work, plan, at, len);
        if let Some(slots) = &mut around.slots {
            slots.close(work, at + len);
            // What follows from such a number is more than itself.
            if is_text {
                slots.spoil();
            }
        }
        if is_text {
            if path.last() == Some(&Level::Array(0)) {
                self.numbers = [0; 32];
            }
            let number = work.held.raw(at, at + len);
            let mut draw = Draw::new(&work.keys.shape, &[&self.numbers, number]);
            draw.fill(&mut self.numbers);
            let number = other_number(number, &mut draw);
            work.held.put(at, &number);
        }
    }
}
/// Does what is to be done with a number, or another value that is no string.
pub(super) fn number(work: &mut Work<'_>, plan: Plan, at: u64, len: u64) {
    work.held.mark(at, at + len, Kind::Scalar);
    if let Plan::Scramble = plan {
        let mut draw = Draw::new(&work.keys.hash, &[work.held.raw(at, at + len)]);
        work.held.scramble_digits(at, len, &mut draw);
    }
}

/// Reads the characters of a string again that was held, as a text.
fn text_of(work: &mut Work<'_>, from: u64, until: u64) -> Box<Text> {
    let mut text = Box::<Text>::default();
    let raw = work.held.raw(from, until).to_vec();
    let mut reader = UnitReader::default();
    let mut at = from;
    for byte in raw {
        reader.push(Escapes::Json, byte, |unit| {
            text.unit(work, at, unit);
            at += u64::from(unit.len);
        });
    }
    reader.finish(|unit| text.unit(work, at, unit));
    text
}

/// Returns another number that is written with as many bytes. One without a fraction does not become larger, since it may
/// be a token of a vocabulary.
fn other_number(number: &[u8], draw: &mut Draw) -> Vec<u8> {
    let mut other = number.to_vec();
    let digits = other.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if digits == other.len() && digits < 16 {
        let value: usize =
            str::from_utf8(number).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
        let least =
            if digits == 1 { 0 } else { 10_usize.pow(u32::try_from(digits).unwrap_or(1) - 1) };
        let drawn = least + draw.below(value - least.min(value) + 1);
        return drawn.to_string().into_bytes();
    }
    let mut in_fraction = false;
    for byte in &mut other {
        in_fraction = (in_fraction || *byte == b'.') && !matches!(*byte, b'e' | b'E');
        if in_fraction && byte.is_ascii_digit() {
            *byte = b"0123456789"[draw.below(10)];
        }
    }
    other
}

// === impl Doing ===

impl Doing {
    fn hold(stays: fn(&str) -> bool, longest: usize) -> Self {
        // Where it begins is known with its first character; before, the quote holds it.
        Self::Hold(Hold { stays, longest, text: String::new(), from: u64::MAX, until: u64::MAX })
    }
}
