//! One JSON document: each string is replaced as its place and the policy want it.

use std::collections::BTreeMap;

use crate::privacy::draw::Draw;
use crate::privacy::held::Kind;
use crate::privacy::json::{Level, Lexer, NotJson, Part, Role, Tell};
use crate::privacy::known::{
    InEvent, MAX_NAME, Meaning, are_text, is_index, is_member, is_name, is_schema_type, meaning,
};
use crate::privacy::media::Media;
use crate::privacy::patterns::More;
use crate::privacy::pointer::Pointer;
use crate::privacy::template::{Slot, SlotKind, Slots};
use crate::privacy::text::{Scramble, Text, Texts, Work};
use crate::privacy::units::{Escapes, Unit, UnitReader};

/// Replaces what is in one document.
#[derive(Debug)]
pub(super) struct Document {
    lexer: Lexer,
    values: Values,
}

/// The texts of a body that come in parts.
#[derive(Debug, Default)]
pub(super) struct Streams {
    /// Which of the texts is that of a place.
    places: BTreeMap<String, usize>,
    texts: Vec<Text>,
}

/// Numbers that tell texts apart, by the places of what they are in.
pub(super) type Indexes = BTreeMap<String, u64>;

/// What is known beside the document.
pub(super) struct Around<'a> {
    pub(super) pointers: &'a [Pointer],
    pub(super) streams: &'a mut Streams,
    pub(super) indexes: &'a Indexes,
    pub(super) in_event: InEvent,
    /// When there, what was done with each value is noted, for documents like this one.
    pub(super) slots: Option<&'a mut Slots>,
}

/// What is to be done with a string. It follows from its place and the policy, not from what it says.
#[derive(Clone, Copy, Debug)]
pub(super) enum Plan {
    Keep,
    Text,
    /// It goes on one of the texts that come in parts.
    Stream(usize),
    Scramble,
    /// It stays if this is true of it, which is of none that is longer.
    Hold(fn(&str) -> bool, usize),
    /// It may be base64: bare, or in a data URI alone.
    BareMedia,
    MediaInUri,
}

/// Does what is planned, one string after the other.
#[derive(Debug)]
pub(super) struct Values {
    doing: Doing,
    /// Follows from the numbers of the list before.
    numbers: [u8; 32],
}

/// What is done with the string that is open.
#[derive(Debug)]
enum Doing {
    Keep,
    Text(Box<Text>),
    Stream(usize),
    Scramble(Box<Scramble>),
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

// === impl Document ===

impl Document {
    /// Makes a document that begins at `at` of the body.
    pub(super) fn new(at: u64) -> Self {
        Self { lexer: Lexer::new(at), values: Values::default() }
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
        let bytes = work.held.raw(from, until).to_vec();
        self.lexer.seek(from);
        let values = &mut self.values;
        self.lexer.push(&bytes, |path, part| values.part(work, around, path, part))?;
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
            Doing::Scramble(scramble) => scramble.undecided(),
            Doing::Hold(hold) => Some(hold.from),
            Doing::Media(media) => media.undecided(),
        };
        undecided.unwrap_or(u64::MAX).min(self.lexer.told())
    }
}

/// Reads a document for its indexes alone.
///
/// # Errors
/// It is not JSON, or is cut.
pub(super) fn indexes<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Result<Indexes, NotJson> {
    let mut indexes = Indexes::new();
    let mut lexer = Lexer::new(0);
    let mut tell = |path: &[Level], part: Part| {
        if let Part::Scalar { number, .. } = part
            && is_index(path)
        {
            let place = place(&path[..path.len() - 1], &Indexes::new());
            // Several of one place, as Responses have them, count together.
            let index = indexes.entry(place).or_insert(0_u64);
            *index = index.wrapping_mul(1 << 20).wrapping_add(number.unwrap_or(0));
        }
        Tell::Close
    };
    for piece in pieces {
        lexer.push(piece, &mut tell)?;
    }
    if lexer.finish(&mut tell)? { Ok(indexes) } else { Err(NotJson) }
}

/// Writes a path, elements of lists by the index that they say they have.
fn place(path: &[Level], indexes: &Indexes) -> String {
    let mut place = String::new();
    for level in path {
        place.push('/');
        match level {
            Level::Object(key) => place.push_str(key),
            Level::Array(idx) => {
                let by_position = format!("{place}{idx}");
                let number = indexes.get(&by_position).copied();
                place.push_str(
                    &number.map_or_else(|| idx.to_string(), |number| format!("#{number}")),
                );
            }
        }
    }
    place
}

// === impl Streams ===

impl Streams {
    /// Returns which text is that of `place`.
    fn at(&mut self, place: String) -> usize {
        *self.places.entry(place).or_insert_with(|| {
            self.texts.push(Text::default());
            self.texts.len() - 1
        })
    }

    /// Ends all of them: what they still had to wait for does not come.
    pub(super) fn settle(&mut self, work: &mut Work<'_>) {
        self.texts.iter_mut().for_each(|text| text.settle(work, More::No));
    }

    /// Ends those that have waited since an offset before `limit`.
    pub(super) fn settle_before(&mut self, work: &mut Work<'_>, limit: u64) {
        for text in &mut self.texts {
            if text.undecided().is_some_and(|from| from < limit) {
                text.settle(work, More::No);
            }
        }
    }

    /// Returns the offset in the body before which they are decided, if that is not all of it.
    pub(super) fn undecided(&self) -> Option<u64> {
        self.texts.iter().filter_map(Text::undecided).min()
    }
}

// === impl Values ===

impl Values {
    fn part(
        &mut self,
        work: &mut Work<'_>,
        around: &mut Around<'_>,
        path: &[Level],
        part: Part,
    ) -> Tell {
        match part {
            Part::Open(at, role) => return self.open(work, around, path, (at, role)),
            Part::Unit(at, unit) => self.unit(work, around.streams, at, unit),
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
        let plan = plan(work, around, path, role);
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

    /// Begins a string.
    pub(super) fn begin(&mut self, plan: Plan) {
        self.doing = match plan {
            Plan::Keep => Doing::Keep,
            Plan::Text => Doing::Text(Box::default()),
            Plan::Stream(idx) => Doing::Stream(idx),
            Plan::Scramble => Doing::Scramble(Box::default()),
            Plan::Hold(stays, longest) => Doing::hold(stays, longest),
            Plan::BareMedia => Doing::Media(Box::new(Media::bare())),
            Plan::MediaInUri => Doing::Media(Box::new(Media::in_data_uri())),
        };
    }

    /// Takes a character of it.
    pub(super) fn unit(&mut self, work: &mut Work<'_>, streams: &mut Streams, at: u64, unit: Unit) {
        work.held.mark_unit(at, unit.len);
        match &mut self.doing {
            Doing::Keep => {}
            Doing::Text(text) => text.unit(work, at, unit),
            Doing::Stream(idx) => streams.texts[*idx].unit(work, at, unit),
            Doing::Scramble(scramble) => scramble.unit(work, at, unit),
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
    pub(super) fn close(&mut self, work: &mut Work<'_>, streams: &mut Streams) {
        match std::mem::replace(&mut self.doing, Doing::Keep) {
            Doing::Keep => {}
            Doing::Text(mut text) => text.settle(work, More::No),
            Doing::Stream(idx) => streams.texts[idx].settle(work, More::Yes),
            Doing::Scramble(mut scramble) => scramble.finish(work),
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
/// Decides what to do with the string at `path`.
fn plan(work: &Work<'_>, around: &mut Around<'_>, path: &[Level], role: Role) -> Plan {
    // A member's name is within the value that its object is a part of.
    let outer = if role == Role::Key { &path[..path.len().saturating_sub(1)] } else { path };
    if around.pointers.iter().any(|pointer| pointer.covers(outer)) {
        return Plan::Scramble;
    }
    if role == Role::Key {
        return match work.texts {
            Texts::Shape => Plan::Hold(is_member, 128),
            Texts::Stay | Texts::Closed => Plan::Keep,
        };
    }
    if work.texts == Texts::Stay && work.patterns.is_none() {
        return Plan::Keep;
    }
    let meaning = meaning(path, around.in_event);
    if work.texts == Texts::Stay && meaning != Meaning::Delta {
        return Plan::Text;
    }
    match meaning {
        Meaning::Name => Plan::Hold(is_name, MAX_NAME),
        Meaning::SchemaType => Plan::Hold(is_schema_type, MAX_NAME),
        Meaning::Member => Plan::Hold(is_member, 128),
        Meaning::Delta => {
            let mut place = place(path, around.indexes);
            // An event may say at its top which text it is of.
            if let Some(number) = around.indexes.get("") {
                place = format!("{place}#{number}");
            }
            Plan::Stream(around.streams.at(place))
        }
        Meaning::Token => Plan::Stream(around.streams.at("logprobs".to_owned())),
        Meaning::Media => Plan::BareMedia,
        Meaning::Text => Plan::MediaInUri,
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

// === impl Values: Default ===

impl Default for Values {
    fn default() -> Self {
        Self { doing: Doing::Keep, numbers: [0; 32] }
    }
}

// === impl Doing ===

impl Doing {
    fn hold(stays: fn(&str) -> bool, longest: usize) -> Self {
        // Where it begins is known with its first character; before, the quote holds it.
        Self::Hold(Hold { stays, longest, text: String::new(), from: u64::MAX, until: u64::MAX })
    }
}
