//! One body: how it is read, and when its frames are decided.

use std::borrow::Cow;
use std::collections::VecDeque;

use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderName, HeaderValue};

use crate::privacy::draw::Draw;
use crate::privacy::events::{Events, Framing};
use crate::privacy::held::{Held, Kind, Masks};
use crate::privacy::json::NotJson;
use crate::privacy::known::InEvent;
use crate::privacy::patterns::{Found, More, Patterns, Scanner};
use crate::privacy::plan::{Around, Indexes, Streams};
use crate::privacy::pointer::Pointer;
use crate::privacy::text::{Keys, Text, Texts, Work};
use crate::privacy::units::{Escapes, UnitReader, plain_len};
use crate::privacy::values::Document;
use crate::trace::Frames;
use crate::trace::record::{Event, ExchangeId, FrameRef, Side};

/// What is done to bodies.
pub(super) struct Rules {
    pub(super) keys: Keys,
    pub(super) pointers: Vec<Pointer>,
    pub(super) patterns: Option<Patterns>,
    pub(super) texts: Texts,
    /// Bytes of the longest event that a template is made of.
    pub(super) longest_template: usize,
    /// Bodies that have ended: their memory is used again.
    pub(super) idle: Idle,
}

/// Readers of bodies that have ended.
#[derive(Default)]
pub(super) struct Idle(
    #[expect(clippy::vec_box, reason = "a body has its form in a box, which is what is kept")]
    Vec<Box<JsonBody>>,
);

/// One body.
#[derive(Debug)]
pub(super) struct Body {
    held: Held,
    form: Form,
    /// Looks for patterns in the bytes as they are.
    scanner: Scanner,
    scanned: u64,
}

#[derive(Debug)]
enum Form {
    /// By its first byte it will be known.
    Unknown,
    Json(Box<JsonBody>),
    Events(Box<Events>),
    Text(Box<TextBody>),
    /// Nothing is known of its form: patterns are all that is looked for.
    Bytes,
    /// It can't be read as it should be: nothing of it is told.
    Closed,
}

#[derive(Debug)]
pub(super) struct JsonBody {
    document: Document,
    streams: Streams,
    at: u64,
}

#[derive(Debug, Default)]
struct TextBody {
    text: Text,
    reader: UnitReader,
    at: u64,
}

/// Readers that are kept.
const MAX_IDLE: usize = 64;

// === impl Idle ===

impl Idle {
    fn json(&mut self) -> Box<JsonBody> {
        self.0.pop().unwrap_or_else(JsonBody::new)
    }

    fn keep(&mut self, mut body: Box<JsonBody>) {
        if self.0.len() < MAX_IDLE {
            body.restart();
            self.0.push(body);
        }
    }
}

// === impl Body ===

impl Body {
    /// Makes a body that came with these header fields, whose names are lower-case.
    pub(super) fn new<'a>(
        rules: &mut Rules,
        exchange: ExchangeId,
        side: Side,
        fields: impl Iterator<Item = (&'a str, &'a [u8])>,
    ) -> Self {
        let form = form(rules, fields);
        Self { form, ..Self::unknown(rules, exchange, side) }
    }

    /// Makes a body of whose head nothing is known.
    pub(super) fn unknown(rules: &Rules, exchange: ExchangeId, side: Side) -> Self {
        let form = Form::Closed;
        let masks = if rules.patterns.is_some() { Masks::Expected } else { Masks::Never };
        let held = Held::new(exchange, side, masks);
        Self { held, form, scanner: Scanner::default(), scanned: 0 }
    }

    /// Says that nothing of what follows is a message: the connection is the peers' own.
    pub(super) fn close(&mut self) {
        self.form = Form::Closed;
    }

    /// Takes frames, and appends to `out` those that are decided.
    pub(super) fn push<'a>(
        &mut self,
        rules: &mut Rules,
        frames: impl IntoIterator<Item = FrameRef<'a>>,
        out: &mut VecDeque<Event>,
    ) {
        let kind = if let Form::Json(_) = self.form { Kind::Form } else { Kind::Plain };
        for frame in frames {
            self.held.push(frame.at, frame.accepted, frame.data, kind);
        }
        let decided = self.advance(rules, More::Yes);
        self.held.release(decided, out);
    }

    /// Takes note that bytes are missing from here on: what was decided stays, and nothing more of the body is told, since
    /// nobody knows where in it what follows is.
    pub(super) fn lose(&mut self, rules: &mut Rules, out: &mut VecDeque<Event>) {
        let decided = self.advance(rules, More::Yes);
        self.held.fill_rest(decided);
        self.form = Form::Closed;
        self.scanned = self.held.end();
        self.held.release(self.held.end(), out);
    }

    /// Ends the body, and appends to `out` what was left.
    pub(super) fn finish(&mut self, rules: &mut Rules, out: &mut VecDeque<Event>) {
        self.advance(rules, More::No);
        self.held.release(self.held.end(), out);
        if let Form::Json(body) = std::mem::replace(&mut self.form, Form::Closed) {
            rules.idle.keep(body);
        }
    }

    /// Returns how much is held.
    pub(super) fn held(&self) -> Frames {
        self.held.amount()
    }

    /// Does what can be done by now, and returns the offset before which all is decided.
    fn advance(&mut self, rules: &mut Rules, more: More) -> u64 {
        if let Form::Unknown = self.form {
            let Some(form) = sniff(rules, &self.held) else { return 0 };
            if let Form::Json(_) = form {
                self.held.mark(0, self.held.end(), Kind::Form);
            }
            self.form = form;
        }
        if let Form::Closed = self.form {
            self.held.fill(self.scanned, self.held.end());
            self.scanned = self.held.end();
            return self.scanned;
        }
        // Before anything is replaced.
        let unscanned = self.scan(rules, more);
        let before = self.decided();
        if self.read(rules, more).is_err() {
            let from = self.decided().max(before);
            self.held.fill_rest(from);
            self.form = Form::Closed;
            return self.held.end();
        }
        self.decided().min(self.held.unit_start(unscanned))
    }

    /// Looks for patterns in the bytes as they came; returns the offset before which they are decided.
    fn scan(&mut self, rules: &mut Rules, more: More) -> u64 {
        let end = self.held.end();
        let from = std::mem::replace(&mut self.scanned, end);
        let Some(patterns) = &mut rules.patterns else { return end };
        let mut found = Vec::new();
        self.scanner.push(patterns, self.held.raw(from, end), more, &mut found);
        for Found { range, seed } in found {
            let mut bytes = vec![0; usize::try_from(range.end - range.start).unwrap_or(0)];
            Draw::new(&rules.keys.hash, &[&seed]).fill_plain(&mut bytes);
            self.held.mask(range.start, bytes);
        }
        self.scanner.decided()
    }

    fn read(&mut self, rules: &mut Rules, more: More) -> Result<(), NotJson> {
        let end = self.held.end();
        let mut work = Work {
            keys: &rules.keys,
            patterns: rules.patterns.as_mut(),
            held: &mut self.held,
            texts: rules.texts,
        };
        match &mut self.form {
            Form::Json(body) => body.read(&mut work, &rules.pointers, end, more),
            Form::Events(events) => {
                events.push(&mut work, &rules.pointers, end)?;
                if more == More::No {
                    events.finish(&mut work, &rules.pointers)?;
                }
                Ok(())
            }
            Form::Text(body) => {
                body.read(&mut work, end, more);
                Ok(())
            }
            Form::Unknown | Form::Bytes | Form::Closed => Ok(()),
        }
    }

    /// Returns the offset before which all has been replaced that is to be, by the body's form.
    fn decided(&self) -> u64 {
        match &self.form {
            Form::Json(body) => {
                let waiting = body.streams.undecided();
                body.document.decided().min(waiting.unwrap_or(u64::MAX))
            }
            Form::Events(events) => events.decided(),
            Form::Text(body) => {
                let read = body.at - u64::from(body.reader.pending());
                body.text.undecided().unwrap_or(u64::MAX).min(read)
            }
            Form::Unknown | Form::Bytes | Form::Closed => self.held.end(),
        }
    }
}

// === impl JsonBody ===

impl JsonBody {
    fn new() -> Box<Self> {
        Box::new(Self { document: Document::new(0), streams: Streams::default(), at: 0 })
    }

    fn restart(&mut self) {
        self.document.restart();
        (self.streams, self.at) = (Streams::default(), 0);
    }

    fn read(
        &mut self,
        work: &mut Work<'_>,
        pointers: &[Pointer],
        end: u64,
        more: More,
    ) -> Result<(), NotJson> {
        let (indexes, in_event) = (Indexes::new(), InEvent::No);
        let streams = &mut self.streams;
        let mut around = Around { pointers, streams, indexes: &indexes, in_event, slots: None };
        let from = std::mem::replace(&mut self.at, end);
        self.document.push(work, &mut around, from, end)?;
        if more == More::No {
            self.document.finish(work, &mut around)?;
            self.streams.settle(work);
        }
        Ok(())
    }
}

// === impl TextBody ===

impl TextBody {
    fn read(&mut self, work: &mut Work<'_>, end: u64, more: More) {
        let bytes = work.held.raw(self.at, end).to_vec();
        let (text, mut rest) = (&mut self.text, &bytes[..]);
        while let Some((&byte, after)) = rest.split_first() {
            let plain = if self.reader.pending() == 0 { plain_len(rest) } else { 0 };
            if plain > 0 {
                text.plain(work, self.at, &rest[..plain]);
                rest = &rest[plain..];
                self.at += plain as u64;
                continue;
            }
            rest = after;
            let mut at = self.at - u64::from(self.reader.pending());
            self.reader.push(Escapes::None, byte, |unit| {
                text.unit(work, at, unit);
                at += u64::from(unit.len);
            });
            self.at += 1;
        }
        if more == More::No {
            let at = self.at - u64::from(self.reader.pending());
            self.reader.finish(|unit| text.unit(work, at, unit));
        }
        text.settle(work, more);
    }
}

/// Returns a field of a map as [`Body::new`] takes it.
pub(super) fn in_fields<'a>(
    (name, value): (&'a HeaderName, &'a HeaderValue),
) -> (&'a str, &'a [u8]) {
    (name.as_str(), value.as_bytes())
}

/// Returns the form of a body by its header fields.
fn form<'a>(rules: &mut Rules, fields: impl Iterator<Item = (&'a str, &'a [u8])>) -> Form {
    if rules.texts == Texts::Closed {
        return Form::Closed;
    }
    let (mut kind, mut kinds) = (None, 0);
    for (name, value) in fields {
        if name == CONTENT_ENCODING {
            let coding = value.trim_ascii();
            if !coding.is_empty() && !coding.eq_ignore_ascii_case(b"identity") {
                return Form::Closed;
            }
        } else if name == CONTENT_TYPE {
            kind = std::str::from_utf8(value).ok().filter(|kind| kind.is_ascii());
            kinds += 1;
        }
    }
    let Some(kind) = kind.filter(|_| kinds == 1) else { return Form::Unknown };
    let kind = kind.split(';').next().unwrap_or_default().trim();
    let kind = if kind.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(kind.to_ascii_lowercase())
    } else {
        Cow::Borrowed(kind)
    };
    match &*kind {
        "text/event-stream" => {
            Form::Events(Box::new(Events::new(Framing::Sse, rules.longest_template)))
        }
        "application/x-ndjson" | "application/jsonl" | "application/x-jsonlines" => {
            Form::Events(Box::new(Events::new(Framing::Lines, rules.longest_template)))
        }
        kind if kind == "application/json" || kind.ends_with("+json") => {
            Form::Json(rules.idle.json())
        }
        "" | "text/plain" | "application/octet-stream" | "application/x-www-form-urlencoded" => {
            Form::Unknown
        }
        kind if kind.starts_with("text/") => Form::Text(Box::default()),
        _ if rules.texts == Texts::Shape => Form::Closed,
        _ => Form::Bytes,
    }
}

/// Returns the form of a body by its first byte that is not white space; none before it is there.
fn sniff(rules: &mut Rules, held: &Held) -> Option<Form> {
    let first = held.raw(0, held.end()).iter().find(|byte| !byte.is_ascii_whitespace())?;
    Some(match (first, rules.texts) {
        (b'{' | b'[', _) => Form::Json(rules.idle.json()),
        (_, Texts::Stay) => Form::Bytes,
        (first, Texts::Shape) if first.is_ascii_graphic() || *first >= 0x80 => {
            Form::Text(Box::default())
        }
        (_, Texts::Shape | Texts::Closed) => Form::Closed,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock::Nanos;

    fn rules() -> Rules {
        Rules {
            keys: Keys::new(&[3; 32]),
            pointers: vec![Pointer::parse("/user").unwrap(), Pointer::parse("/a/b").unwrap()],
            patterns: None,
            texts: Texts::Stay,
            longest_template: 0,
            idle: Idle::default(),
        }
    }

    /// Returns what is told of a JSON body that comes in two frames, together or not, and then ends.
    fn told(rules: &mut Rules, text: &str, cut: usize, is_together: bool) -> Vec<Event> {
        let (exchange, side) = (ExchangeId(1), Side::Request);
        let kind = ("content-type", &b"application/JSON; charset=utf-8"[..]);
        let mut body = Body::new(rules, exchange, side, std::iter::once(kind));
        let mut out = VecDeque::new();
        let (front, back) = text.as_bytes().split_at(cut);
        let (at, accepted) = (Nanos(1), Nanos(2));
        let frames = [front, back].map(|data| FrameRef { exchange, side, at, accepted, data });
        if is_together {
            body.push(rules, frames, &mut out);
        } else {
            frames.into_iter().for_each(|frame| body.push(rules, [frame], &mut out));
        }
        body.finish(rules, &mut out);
        out.into()
    }

    const TEXT: &str =
        r#"{"user":"me","a":{"b":"it","c":[1,{"b":"is"}]},"b":"so \u00e9","n":12.5}"#;

    proptest! {
        /// Bodies that end anywhere, one after the other by the same reader, are told as by one of their own; so are
        /// frames that come together.
        #[test]
        fn a_reader_that_is_used_again_has_forgotten_everything(
            ends in prop::collection::vec((0..=TEXT.len(), any::<prop::sample::Index>()), 1..8)
        ) {
            let mut reused = rules();
            for (end, cut) in ends {
                let cut = cut.index(end + 1);
                let fresh = told(&mut rules(), &TEXT[..end], cut, false);
                for is_together in [false, true] {
                    let again = told(&mut reused, &TEXT[..end], cut, is_together);
                    prop_assert_eq!(&again, &fresh);
                }
            }
            told(&mut reused, TEXT, 1, false);
            prop_assert_eq!(reused.idle.0.len(), 1, "it is kept");
        }
    }
}
