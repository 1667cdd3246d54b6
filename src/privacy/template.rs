//! Events that are like one before them, which need not be parsed again.
//!
//! The events of a stream repeat each other but for a word. Of an event that was parsed, a template keeps its bytes, where its
//! values are, and what was planned for each. A later event fits the template when it has the same bytes in the same order
//! all around its values, and each value that differs is whole: a string up to its quote, with no byte that may not be in one;
//! a number of plain digits. Then a parser would tell of both documents the same members at the same places, so that the same
//! plans hold, and what is left to do is to carry out those of the values that differ.
//!
//! A plan follows from the policy and from the place of a value: from the names of the members around it, and from the
//! numbers that tell several texts apart. All of these are no values here: where one differs, the template does not fit. So it
//! is when a value is of another type than before, or is an escape that is none; then the event is parsed, and that is what
//! decides. A value that is the same as before and has nothing to do with what else was said is replaced as before, by copy;
//! a part of a text that goes on from event to event, and a value in which a pattern matched, never.

use crate::privacy::held::Kind;
use crate::privacy::plan::{Plan, Streams};
use crate::privacy::text::Work;
use crate::privacy::units::{Escapes, UnitReader};
use crate::privacy::values::{Values, number};

/// The templates of one body.
#[derive(Debug)]
pub(super) struct Templates {
    list: Vec<Template>,
    /// The one that fitted last.
    last: usize,
    longest: usize,
    /// How many more events are worth a template: those of a body in which none fits become fewer.
    credit: u32,
    changes: Vec<Change>,
    values: Values,
}

/// An event that was parsed.
#[derive(Debug)]
struct Template {
    /// Its data as it came, and as it is told.
    raw: Vec<u8>,
    told: Vec<u8>,
    /// What each of its bytes is; none when nobody will ask.
    kinds: Option<Vec<Kind>>,
    /// By their places.
    slots: Vec<Slot>,
}

/// What is noted while a document is parsed: its strings and numbers.
#[derive(Debug, Default)]
pub(super) struct Slots {
    slots: Vec<Slot>,
    masks: usize,
    is_spoiled: bool,
}

/// A string or number.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    kind: SlotKind,
    plan: Plan,
    /// Between which offsets, without quotes: in the body while they are noted, in the data of the event then.
    from: u64,
    until: u64,
    same: Same,
}

/// How a value may differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SlotKind {
    /// Not at all: the names of members, and what texts are told apart by.
    Fixed,
    String,
    Number,
}

/// What there is to do where a value is the same as before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Same {
    Nothing,
    /// What was told before is told again.
    Copy,
    /// As for another value.
    Plan,
}

/// A value that differs: which, and where it is in the data of the event.
#[derive(Clone, Copy, Debug)]
struct Change {
    slot: usize,
    from: usize,
    len: usize,
}

/// Bytes of the longest event that a template is made of.
pub(super) const MAX_TEMPLATE: usize = 4 << 10;
/// Templates of one body, for events of several kinds or choices that take turns.
const MAX_TEMPLATES: usize = 4;
/// Events that are worth a template although none fitted yet.
const CREDIT: u32 = 16;
/// Digits of a number that is surely one.
const MAX_DIGITS: usize = 15;

// === impl Templates ===

impl Templates {
    /// Makes none yet, and never one of an event that is longer than `longest`.
    pub(super) fn new(longest: usize) -> Self {
        Self {
            list: Vec::new(),
            last: 0,
            longest,
            credit: CREDIT,
            changes: Vec::new(),
            values: Values::default(),
        }
    }

    /// Replaces what is to be replaced in the event between two offsets, if it is like one before; else returns false,
    /// and nothing was done. One that is longer than those with templates is not looked at, so that what is kept from event
    /// to event stays small.
    pub(super) fn apply(
        &mut self,
        work: &mut Work<'_>,
        streams: &mut Streams,
        from: u64,
        until: u64,
    ) -> bool {
        let data = work.held.raw(from, until);
        if data.len() > self.longest {
            return false;
        }
        let count = self.list.len();
        let fits = (self.last..count)
            .chain(0..self.last)
            .find(|idx| self.list[*idx].fits(data, &mut self.changes));
        let Some(fits) = fits else { return false };
        (self.last, self.credit) = (fits, CREDIT);
        self.list[fits].apply(work, &mut self.values, streams, from, &self.changes);
        true
    }

    /// Returns whether it is worth to note what is in an event, whose data is these lines.
    pub(super) fn wants(&self, lines: &[Vec<u8>]) -> bool {
        matches!(lines, [line] if line.len() <= self.longest) && self.credit > 0
    }

    /// Makes a template of an event that came as `raw` and of which this was noted; it begins at `from` in the body, and
    /// what it is to be replaced by is there.
    pub(super) fn learn(&mut self, work: &Work<'_>, slots: Slots, raw: Vec<u8>, from: u64) {
        self.credit -= 1;
        let Some(template) = Template::new(work, slots, raw, from) else { return };
        if self.list.len() < MAX_TEMPLATES {
            self.last = self.list.len();
            self.list.push(template);
        } else {
            // The one that was of use last stays.
            self.last = (self.last + 1) % MAX_TEMPLATES;
            self.list[self.last] = template;
        }
    }
}

// === impl Template ===

impl Template {
    /// Makes one, unless what was done was more than one plan for each value.
    fn new(work: &Work<'_>, slots: Slots, raw: Vec<u8>, from: u64) -> Option<Self> {
        if slots.is_spoiled {
            return None;
        }
        let until = from + raw.len() as u64;
        let told = work.held.raw(from, until).to_vec();
        let kinds = work.held.kinds(from, until).map(<[Kind]>::to_vec);
        let mut slots = slots.slots;
        for slot in &mut slots {
            (slot.from, slot.until) = (slot.from - from, slot.until - from);
            let is_same = raw[slot.range()] == told[slot.range()];
            if slot.same == Same::Nothing && !is_same {
                slot.same = Same::Copy;
            }
        }
        slots.retain(|slot| slot.kind != SlotKind::Fixed || slot.same != Same::Nothing);
        Some(Self { raw, told, kinds, slots })
    }

    /// Returns whether `data` differs in values alone, and writes down in which.
    fn fits(&self, data: &[u8], changes: &mut Vec<Change>) -> bool {
        changes.clear();
        // How far both are the same but for these values.
        let (mut here, mut there) = (0, 0);
        let mut slots = self.slots.iter().enumerate();
        loop {
            let same = common_prefix(&self.raw[here..], &data[there..]);
            (here, there) = (here + same, there + same);
            if here == self.raw.len() && there == data.len() {
                return true;
            }
            // What differs must be of the value that is here, or that ends here.
            let Some((slot, value)) = slots.find(|(_, slot)| slot.range().end >= here) else {
                return false;
            };
            let range = value.range();
            if range.start > here {
                return false;
            }
            let from = there - (here - range.start);
            let Some(len) = value.kind.len(&data[from..]) else { return false };
            changes.push(Change { slot, from, len });
            (here, there) = (range.end, from + len);
        }
    }

    /// Does to the event at `from`, which fits but for `changes`, what was done to this one.
    fn apply(
        &self,
        work: &mut Work<'_>,
        values: &mut Values,
        streams: &mut Streams,
        from: u64,
        changes: &[Change],
    ) {
        let mut changes = changes.iter().peekable();
        // Where what is the same as far as the next change begins, here and in the body.
        let (mut here, mut there) = (0, from);
        for (idx, slot) in self.slots.iter().enumerate() {
            if let Some(change) = changes.next_if(|change| change.slot == idx) {
                self.mark(work, here, slot.range().start, there);
                let at = from + change.from as u64;
                slot.carry_out(work, values, streams, at, change.len);
                (here, there) = (slot.range().end, at + change.len as u64);
                continue;
            }
            let range = slot.range();
            let at = there + (range.start - here) as u64;
            match slot.same {
                Same::Nothing => {}
                Same::Copy => work.held.put(at, &self.told[range]),
                Same::Plan => slot.carry_out(work, values, streams, at, range.len()),
            }
        }
        self.mark(work, here, self.raw.len(), there);
    }

    /// Says what the bytes at `at` are, which are those from one offset to another of this one.
    fn mark(&self, work: &mut Work<'_>, from: usize, until: usize, at: u64) {
        if let Some(kinds) = &self.kinds {
            work.held.mark_each(at, &kinds[from..until]);
        }
    }
}

// === impl Slots ===

impl Slots {
    /// Notes that a value begins.
    pub(super) fn open(&mut self, work: &Work<'_>, slot: Slot) {
        self.masks = work.held.masks();
        self.slots.push(slot);
    }

    /// Notes that it has ended before `until`, and has been replaced.
    pub(super) fn close(&mut self, work: &Work<'_>, until: u64) {
        let Some(slot) = self.slots.last_mut() else { return };
        slot.until = until;
        if work.held.masks() != self.masks || matches!(slot.plan, Plan::Stream(_)) {
            slot.same = Same::Plan;
        }
    }

    /// Notes that something else was done than to carry out a plan.
    pub(super) fn spoil(&mut self) {
        self.is_spoiled = true;
    }
}

// === impl Slot ===

impl Slot {
    /// Makes one that begins at `at`.
    pub(super) fn new(kind: SlotKind, plan: Plan, at: u64) -> Self {
        Self { kind, plan, from: at, until: at, same: Same::Nothing }
    }

    /// Does what is planned with the value that is at `at`.
    fn carry_out(
        &self,
        work: &mut Work<'_>,
        values: &mut Values,
        streams: &mut Streams,
        at: u64,
        len: usize,
    ) {
        if self.kind == SlotKind::Number {
            number(work, self.plan, at, len as u64);
            return;
        }
        if matches!(self.plan, Plan::Keep) && work.patterns.is_none() {
            return;
        }
        values.string(work, streams, self.plan, (at, at + len as u64));
    }

    /// Returns where it is in the data of the event.
    fn range(&self) -> std::ops::Range<usize> {
        let idx = |at| usize::try_from(at).unwrap_or(usize::MAX);
        idx(self.from)..idx(self.until)
    }
}

// === impl SlotKind ===

impl SlotKind {
    /// Returns how long the value of this kind is that `data` begins with; none when there is no such.
    fn len(self, data: &[u8]) -> Option<usize> {
        match self {
            Self::Fixed => None,
            Self::String => string_len(data),
            Self::Number => {
                let digits = data.iter().take_while(|byte| byte.is_ascii_digit()).count();
                let is_plain = digits == 1 || digits > 1 && data[0] != b'0';
                (is_plain && digits <= MAX_DIGITS).then_some(digits)
            }
        }
    }
}

/// Returns the bytes before the quote that ends a string; none when there is none, or anything that JSON does not allow.
fn string_len(data: &[u8]) -> Option<usize> {
    let len = data.iter().position(|byte| matches!(byte, 0..0x20 | b'"' | b'\\'))?;
    match data[len] {
        b'"' => Some(len),
        b'\\' => escaped_len(data),
        _ => None,
    }
}

/// As [`string_len`], with escapes.
fn escaped_len(data: &[u8]) -> Option<usize> {
    let mut reader = UnitReader::default();
    for (len, byte) in data.iter().enumerate() {
        if *byte == b'"' && !reader.awaits_escaped() {
            return Some(len);
        }
        if !reader.push(Escapes::Json, *byte, |_| {}) {
            return None;
        }
    }
    None
}

/// Returns how many bytes both begin with.
fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    const STEP: usize = 16;
    let steps = a.chunks_exact(STEP).zip(b.chunks_exact(STEP));
    let same = STEP * steps.take_while(|(a, b)| a == b).count();
    let rest = a[same..].iter().zip(&b[same..]);
    same + rest.take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::*;
    use crate::clock::Nanos;
    use crate::privacy::body::{Body, Idle, Rules};
    use crate::privacy::held::{Held, Masks};
    use crate::privacy::known::InEvent;
    use crate::privacy::patterns::Patterns;
    use crate::privacy::plan::{Around, indexes};
    use crate::privacy::pointer::Pointer;
    use crate::privacy::text::{Keys, Texts};
    use crate::privacy::values::Document;
    use crate::trace::record::{Event, ExchangeId, FrameRef, Side};

    const EXCHANGE: ExchangeId = ExchangeId(1);
    const SIDE: Side = Side::Response;

    /// Returns what is decided after each lot of frames that come together, and at the end.
    fn told(rules: &mut Rules, kind: &'static str, lots: &[&[&[u8]]]) -> Vec<Vec<Event>> {
        let kind = ("content-type", kind.as_bytes());
        let mut body = Body::new(rules, EXCHANGE, SIDE, std::iter::once(kind));
        let (mut all, mut number) = (Vec::new(), 0);
        for frames in lots {
            let mut out = VecDeque::new();
            let frames = frames.iter().map(|data| {
                let (at, accepted) = (Nanos(number), Nanos(number + 9));
                number += 1;
                FrameRef { exchange: EXCHANGE, side: SIDE, at, accepted, data }
            });
            body.push(rules, frames, &mut out);
            all.push(out.into());
        }
        let mut out = VecDeque::new();
        body.finish(rules, &mut out);
        all.push(out.into());
        all
    }

    /// Returns the bytes of frames.
    fn bytes(events: &[Event]) -> Vec<u8> {
        let of = |event: &Event| match event {
            Event::Frame(frame) => frame.data.to_vec(),
            _ => panic!("{event:?}"),
        };
        events.iter().flat_map(of).collect()
    }

    fn rules(
        texts: Texts,
        pointers: &[&str],
        patterns: &[&str],
        (longest_template, longest_match): (usize, usize),
    ) -> Rules {
        let patterns: Vec<String> = patterns.iter().map(|one| (*one).to_owned()).collect();
        Rules {
            keys: Keys::new(&[3; 32]),
            pointers: pointers.iter().map(|pointer| Pointer::parse(pointer).unwrap()).collect(),
            patterns: Patterns::new(&patterns, longest_match).unwrap(),
            texts,
            longest_template,
            idle: Idle::default(),
        }
    }

    /// Returns the template that is made of an event when shapes are kept.
    fn template(event: &str) -> Template {
        let rules = rules(Texts::Shape, &[], &[], (0, 32));
        let mut held = Held::new(EXCHANGE, SIDE, Masks::Never);
        held.push(Nanos(1), Nanos(1), event.as_bytes(), Kind::Form);
        let (keys, held) = (&rules.keys, &mut held);
        let mut work = Work { keys, patterns: None, held, texts: rules.texts };
        let (mut slots, mut streams) = (Slots::default(), Streams::default());
        let indexes = indexes([event.as_bytes()].into_iter()).unwrap();
        let mut around = Around {
            pointers: &[],
            streams: &mut streams,
            indexes: &indexes,
            in_event: InEvent::Yes,
            slots: Some(&mut slots),
        };
        let mut document = Document::new(0);
        document.push(&mut work, &mut around, 0, event.len() as u64).unwrap();
        document.finish(&mut work, &mut around).unwrap();
        Template::new(&work, slots, event.as_bytes().to_vec(), 0).unwrap()
    }

    const CHUNK: &str = r#"{"id":"c-1","created":1700,"choices":[{"index":0,"delta":{"content":" a"},"finish_reason":null}]}"#;

    /// Checks whether the chunk fits with one thing of it replaced, and in how many values it then differs.
    #[track_caller]
    fn check(from: &str, to: &str, expected: Option<usize>) {
        let other = CHUNK.replace(from, to);
        assert!(from.is_empty() || other != CHUNK, "{from}");
        let mut changes = Vec::new();
        let fits = template(CHUNK).fits(other.as_bytes(), &mut changes);
        assert_eq!(fits.then_some(changes.len()), expected, "{other}");
    }

    #[test]
    fn an_event_fits_that_differs_in_values_alone() {
        check("", "", Some(0));
        for content in
            ["", " ", " ab", "b", " a ", r#"a \"quoted\" one"#, r"\n\u00e9", "é", "\u{7f}"]
        {
            check(" a", content, Some(1));
        }
        check("c-1", "c-12", Some(1));
        check("1700", "17001", Some(1));
        check("1700", "1", Some(1));
        let other = CHUNK.replace("c-1", "d").replace("1700", "0").replace(" a", "longer");
        let mut changes = Vec::new();
        assert!(template(CHUNK).fits(other.as_bytes(), &mut changes) && changes.len() == 3);
    }

    #[test]
    fn an_event_fits_not_that_differs_elsewhere() {
        check("content", "contents", None);
        check("content", r"cont\u0065nt", None);
        check(r#""index":0"#, r#""index":1"#, None);
        check("null", r#""stop""#, None);
        check(r#"" a""#, "1", None);
        check(r#"" a""#, r#"" a","b":"c""#, None);
        check(r#"" a""#, r#"" a""b""#, None);
        check(r#"" a""#, r#"" a"#, None);
        check(r#"" a""#, r#""\x""#, None);
        check(r#"" a""#, r#""\"}"#, None);
        check(r#"" a""#, "\"\u{1}\"", None);
        check("1700", "01700", None);
        check("1700", "-1700", None);
        check("1700", "17e0", None);
        check("1700", "1234567890123456", None);
        check("}]}", "}]} ", None);
        check("}]}", "}]", None);
        check("{", " {", None);
    }

    #[test]
    fn templates_take_turns_and_are_given_up_when_none_is_of_use() {
        let learn = |templates: &mut Templates, event: &str| {
            let (rules, mut held) =
                (rules(Texts::Stay, &[], &[], (0, 32)), Held::new(EXCHANGE, SIDE, Masks::Never));
            held.push(Nanos(1), Nanos(1), event.as_bytes(), Kind::Form);
            let (keys, held, until) = (&rules.keys, &mut held, event.len() as u64);
            let mut work = Work { keys, patterns: None, held, texts: Texts::Stay };
            let is_known = templates.apply(&mut work, &mut Streams::default(), 0, until);
            let raw = event.as_bytes().to_vec();
            if !is_known && templates.wants(std::slice::from_ref(&raw)) {
                templates.learn(&work, Slots::default(), raw, 0);
            }
            is_known
        };
        let mut templates = Templates::new(MAX_TEMPLATE);
        for round in 0..5 {
            for event in ["[]", "{}", "[{}]", "[[]]"] {
                assert_eq!(learn(&mut templates, event), round > 0, "{event}");
            }
        }
        // Without what the slots say any other number is another event.
        for number in 0..100 {
            assert!(!learn(&mut templates, &number.to_string()));
        }
        assert!(!templates.wants(&[vec![b'1']]));
        assert!(learn(&mut templates, &(CREDIT - 1).to_string()), "the last that was learned");
        assert!(
            templates.wants(&[vec![b'1']]) && !templates.wants(&[vec![b'1'; MAX_TEMPLATE + 1]])
        );
    }

    /// The form of a document; its values are others in each event.
    #[derive(Clone, Debug)]
    enum Shape {
        Value,
        List(Vec<Self>),
        Object(Vec<(&'static str, Self)>),
    }

    impl Shape {
        fn write<'a>(&self, values: &mut impl Iterator<Item = &'a str>, out: &mut String) {
            match self {
                Self::Value => out.push_str(values.next().unwrap_or("0")),
                Self::List(items) => {
                    for (idx, item) in items.iter().enumerate() {
                        out.push(if idx == 0 { '[' } else { ',' });
                        item.write(values, out);
                    }
                    out.push_str(if items.is_empty() { "[]" } else { "]" });
                }
                Self::Object(members) => {
                    for (idx, (name, member)) in members.iter().enumerate() {
                        out.push_str(if idx == 0 { "{" } else { ", " });
                        out.extend(["\"", name, "\":"]);
                        member.write(values, out);
                    }
                    out.push_str(if members.is_empty() { "{}" } else { "}" });
                }
            }
        }
    }

    const NAMES: [&str; 20] = [
        "a",
        "choices",
        "delta",
        "content",
        "index",
        "output_index",
        "user",
        r"us\u0065r",
        "id",
        "model",
        "text",
        "type",
        "logprobs",
        "token",
        "tokens",
        "image_url",
        "message",
        "args",
        r#"p"q"#,
        r"p\\q",
    ];

    const USUAL: usize = 7;
    /// The usual ones come first.
    const VALUES: [&str; 36] = [
        r#"" word""#,
        r#""word""#,
        r#""x ""#,
        r#""sk-""#,
        r#""abcd12 ""#,
        "0",
        "1",
        r#""x""#,
        r#""""#,
        r#"" ""#,
        r#""a b c""#,
        r#""sk-abcd12 ""#,
        r#""abcd12""#,
        r#""12 jo@ex.org""#,
        r#""jo@""#,
        r#""\"""#,
        r#""\\""#,
        r#""a\n\u00e9""#,
        r#""\ud83d\ude00""#,
        r#""\ud83d""#,
        r#""\ude00""#,
        r#""é 東京""#,
        r#""\x""#,
        r#""\u12""#,
        r#""user""#,
        r#""data:image/png;base64,aGVsbG8gd29ybGQ=""#,
        r#""aGVsbG8gd29ybGQ=""#,
        r#""Longer than any name can be, which is why it is a text and is replaced as such.""#,
        "17",
        "007",
        "-1.5e3",
        "12345678901234567890",
        "null",
        "true",
        "{}",
        "\"\u{1}\"",
    ];

    fn shape() -> impl Strategy<Value = Shape> {
        let chat = Shape::Object(vec![
            ("id", Shape::Value),
            ("created", Shape::Value),
            (
                "choices",
                Shape::List(vec![Shape::Object(vec![
                    ("index", Shape::Value),
                    ("delta", Shape::Object(vec![("content", Shape::Value)])),
                ])]),
            ),
        ]);
        let any = Just(Shape::Value).prop_recursive(4, 12, 4, |inner| {
            let name = prop::sample::select(&NAMES[..]);
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Shape::List),
                prop::collection::vec((name, inner), 0..4).prop_map(Shape::Object),
            ]
        });
        prop_oneof![Just(chat), any]
    }

    /// A body of events of few shapes, some of them damaged.
    fn body(framing: &'static str) -> impl Strategy<Value = Vec<u8>> {
        // Mostly the same values, so that templates fit.
        let usual = prop::sample::select(&VALUES[..USUAL]);
        let value = prop_oneof![3 => usual, 2 => prop::sample::select(&VALUES[..])];
        let values = prop::collection::vec(value, 8);
        let damage = prop::option::weighted(
            0.1,
            (any::<Index>(), prop::sample::select(&b"\"\\{}[]:,0 a\n\t"[..])),
        );
        let events = prop::collection::vec((any::<Index>(), values, damage), 1..14);
        (prop::collection::vec(shape(), 1..4), events).prop_map(move |(shapes, events)| {
            let mut body = Vec::new();
            for (shape, values, damage) in events {
                let mut event = String::new();
                shape.get(&shapes).write(&mut values.into_iter(), &mut event);
                let mut event = event.into_bytes();
                if let Some((at, byte)) = damage {
                    let at = at.index(event.len());
                    event[at] = byte;
                }
                if framing == SSE {
                    body.extend_from_slice(b"data: ");
                    event.push(b'\n');
                }
                body.extend_from_slice(&event);
                body.push(b'\n');
            }
            body
        })
    }

    /// Longer than any body.
    const ANY: usize = 1 << 20;
    const SSE: &str = "text/event-stream";
    const LINES: &str = "application/x-ndjson";

    /// The lengths of the longest event with a template, and of the longest match that is surely found.
    fn policies(longest: (usize, usize)) -> Vec<Rules> {
        const PATTERNS: [&str; 3] = ["sk-[a-z0-9]{4,}", "[a-z.]+@[a-z.]+", r#""id":"[^"]*""#];
        let rules = |texts, pointers, patterns| rules(texts, pointers, patterns, longest);
        vec![
            rules(Texts::Stay, &["/user"], &[]),
            rules(Texts::Stay, &["/choices/*/delta/content", "/id", "/*/index"], &[]),
            rules(Texts::Stay, &["/a/*", "/choices/0/delta"], &PATTERNS),
            rules(Texts::Stay, &[""], &[]),
            rules(Texts::Stay, &[], &PATTERNS),
            rules(Texts::Shape, &[], &[]),
            rules(Texts::Shape, &["/id", "/*/*/index"], &PATTERNS),
        ]
    }

    /// What a pattern matched in an event that is not whole yet stays as it came until the event is read.
    #[test]
    fn an_event_whose_begin_came_with_the_end_of_another_is_read_as_it_came() {
        let event = r#"data: {"id":"sk-abcd12","choices":[]}"#.to_owned() + "\n\n";
        let (begin, end) = event.as_bytes().split_at(25);
        let middle = [end, begin].concat();
        let frames: [&[u8]; 3] = [begin, &middle, end];
        for rules in &mut policies((0, 32))[4..5] {
            let told = told(rules, SSE, &[&frames[..1], &frames[1..2], &frames[2..]]).concat();
            let told = String::from_utf8(bytes(&told)).unwrap();
            let [first, second, ""] = told.split("\n\n").collect::<Vec<_>>()[..] else {
                panic!("{told}")
            };
            assert_eq!(first, second, "the same is replaced by the same");
            assert!(first.ends_with(r#"","choices":[]}"#) && !first.contains("abcd"), "{first}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

        /// The promise of this file: with and without templates the same is told, as soon.
        #[test]
        fn what_is_told_of_events_does_not_depend_on_templates(
            (kind, body) in prop_oneof![
                body(SSE).prop_map(|body| (SSE, body)),
                body(LINES).prop_map(|body| (LINES, body)),
            ],
            cuts in prop::collection::vec(any::<Index>(), 0..12),
        ) {
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(body.len() + 1)).collect();
            cuts.extend([0, body.len()]);
            cuts.sort_unstable();
            let frames: Vec<&[u8]> = cuts.windows(2).map(|cut| &body[cut[0]..cut[1]]).collect();
            let each: Vec<_> = frames.chunks(1).collect();
            for (with, without) in policies((MAX_TEMPLATE, 32)).iter_mut().zip(&mut policies((0, 32))) {
                let (with, without) = (told(with, kind, &each), told(without, kind, &each));
                prop_assert_eq!(with, without);
            }
            // Nor on whether frames came together, but for how soon it is told.
            for (apart, together) in policies((0, ANY)).iter_mut().zip(&mut policies((MAX_TEMPLATE, ANY))) {
                let apart = told(apart, kind, &each).concat();
                for size in [2, 3, frames.len()] {
                    let lots: Vec<_> = frames.chunks(size).collect();
                    prop_assert_eq!(told(together, kind, &lots).concat(), &apart[..]);
                }
                let whole = told(together, kind, &[&[&body]]).concat();
                prop_assert_eq!(bytes(&whole), bytes(&apart));
            }
        }
    }
}
