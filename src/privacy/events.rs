//! Bodies that consist of many documents: `text/event-stream`, and JSON lines. Each is decided when it has ended.

use crate::privacy::held::Kind;
use crate::privacy::json::NotJson;
use crate::privacy::known::{InEvent, is_name};
use crate::privacy::patterns::More;
use crate::privacy::plan::{Around, Streams, indexes};
use crate::privacy::pointer::Pointer;
use crate::privacy::template::{Slots, Templates};
use crate::privacy::text::{Text, Texts, Work};
use crate::privacy::units::{Escapes, UnitReader};
use crate::privacy::values::Document;

/// Replaces what is in the events of one body.
#[derive(Debug)]
pub(super) struct Events {
    framing: Framing,
    /// Offset in the body of the next byte.
    at: u64,
    /// Where the line begins, and the event.
    line: u64,
    event: u64,
    after_cr: bool,
    /// Where the data of the event is.
    data: Vec<(u64, u64)>,
    streams: Streams,
    templates: Templates,
}

/// How events are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// As `text/event-stream` has it.
    Sse,
    /// One document in each line.
    Lines,
}

/// Longest event.
const MAX_EVENT: u64 = 16 << 20;
/// Bytes of events that may wait for the end of a word: then it counts as ended.
const MAX_WAITING: u64 = 64 << 10;

// === impl Events ===

impl Events {
    /// Makes events; of one that is longer than `longest_template` no template is made.
    pub(super) fn new(framing: Framing, longest_template: usize) -> Self {
        Self {
            framing,
            at: 0,
            line: 0,
            event: 0,
            after_cr: false,
            data: Vec::new(),
            streams: Streams::default(),
            templates: Templates::new(longest_template),
        }
    }

    /// Takes what is held up to `until`.
    ///
    /// # Errors
    /// An event is longer than any, or is not JSON and may hold what pointers point to.
    pub(super) fn push(
        &mut self,
        work: &mut Work<'_>,
        pointers: &[Pointer],
        until: u64,
    ) -> Result<(), NotJson> {
        while self.at < until {
            let rest = work.held.raw(self.at, until);
            if std::mem::take(&mut self.after_cr) && rest.starts_with(b"\n") {
                self.pass_line_end(work);
                continue;
            }
            let Some(len) = memchr::memchr2(b'\n', b'\r', rest) else {
                self.at = until;
                break;
            };
            self.after_cr = rest[len] == b'\r';
            self.at += len as u64;
            self.end_line(work, pointers, self.at)?;
            self.pass_line_end(work);
        }
        if self.at - self.event > MAX_EVENT { Err(NotJson) } else { Ok(()) }
    }

    /// Goes beyond a byte that ends a line.
    fn pass_line_end(&mut self, work: &mut Work<'_>) {
        work.held.mark(self.at, self.at + 1, Kind::Form);
        self.at += 1;
        self.line = self.at;
        if self.data.is_empty() {
            self.event = self.at;
        }
    }

    /// Ends the body.
    ///
    /// # Errors
    /// As for [`Self::push`].
    pub(super) fn finish(
        &mut self,
        work: &mut Work<'_>,
        pointers: &[Pointer],
    ) -> Result<(), NotJson> {
        if self.line < self.at {
            self.end_line(work, pointers, self.at)?;
        }
        self.dispatch(work, pointers)?;
        self.streams.settle(work);
        Ok(())
    }

    /// Returns the offset before which all is decided.
    pub(super) fn decided(&self) -> u64 {
        self.streams.undecided().unwrap_or(u64::MAX).min(self.event)
    }

    /// Takes the line that ends at `end`.
    fn end_line(
        &mut self,
        work: &mut Work<'_>,
        pointers: &[Pointer],
        end: u64,
    ) -> Result<(), NotJson> {
        let line = work.held.raw(self.line, end);
        if self.framing == Framing::Lines {
            self.data.clear();
            self.data.push((self.line, end));
            return self.dispatch(work, pointers);
        }
        if line.is_empty() {
            return self.dispatch(work, pointers);
        }
        let mark = if self.line == 0 && line.starts_with(BYTE_ORDER_MARK) { 3 } else { 0 };
        let (name, value) = field(&line[mark..]);
        let from = self.line + (mark + value) as u64;
        let stays = match name {
            b"data" => {
                work.held.mark(self.line, from, Kind::Form);
                self.data.push((from, end));
                return Ok(());
            }
            b"event" => str::from_utf8(&line[mark + value..]).is_ok_and(is_name),
            b"retry" => line[mark + value..].iter().all(u8::is_ascii_digit),
            // A line that is none of the framing's may be a document, as some servers tell an error.
            _ if matches!(line[mark..].first(), Some(b'{' | b'[')) => {
                self.data.push((self.line + mark as u64, end));
                return Ok(());
            }
            b"" | b"id" => false,
            _ => {
                plain(work, self.line, end);
                return Ok(());
            }
        };
        work.held.mark(self.line, from, Kind::Form);
        if !stays {
            plain(work, from, end);
        }
        Ok(())
    }

    /// Decides an event.
    fn dispatch(&mut self, work: &mut Work<'_>, pointers: &[Pointer]) -> Result<(), NotJson> {
        let mut data = std::mem::take(&mut self.data);
        if let (Some((from, _)), Some((_, until))) = (data.first(), data.last()) {
            let (from, until) = (*from, *until);
            let is_known =
                data.len() == 1 && self.templates.apply(work, &mut self.streams, from, until);
            if !is_known {
                self.read(work, pointers, &data)?;
            }
            self.streams.settle_before(work, until.saturating_sub(MAX_WAITING));
        }
        data.clear();
        self.data = data;
        Ok(())
    }

    /// Decides an event whose data is in these places.
    fn read(
        &mut self,
        work: &mut Work<'_>,
        pointers: &[Pointer],
        data: &[(u64, u64)],
    ) -> Result<(), NotJson> {
        let pieces: Vec<Vec<u8>> =
            data.iter().map(|(from, until)| work.held.raw(*from, *until).to_vec()).collect();
        let text = pieces.concat();
        let trimmed = text.trim_ascii();
        if trimmed == b"[DONE]" {
            self.streams.settle(work);
        }
        if trimmed.is_empty() || trimmed == b"[DONE]" {
            return Ok(());
        }
        // Lines of one event are joined by a line end, which is white space to JSON.
        let joined = pieces.iter().flat_map(|piece| [&piece[..], b"\n"]);
        let Ok(indexes) = indexes(joined) else {
            let is_like_json = matches!(trimmed.first(), Some(b'{' | b'['));
            if work.texts == Texts::Stay && is_like_json && !pointers.is_empty() {
                return Err(NotJson);
            }
            data.iter().for_each(|(from, until)| plain(work, *from, *until));
            return Ok(());
        };
        let mut slots = self.templates.wants(&pieces).then(Slots::default);
        data.iter().for_each(|(from, until)| work.held.mark(*from, *until, Kind::Form));
        let (streams, in_event) = (&mut self.streams, InEvent::Yes);
        let slots_of = slots.as_mut();
        let mut around = Around { pointers, streams, indexes: &indexes, in_event, slots: slots_of };
        let mut document = Document::new(data[0].0);
        for (from, until) in data {
            document.push(work, &mut around, *from, *until)?;
        }
        document.finish(work, &mut around)?;
        if let Some(slots) = slots {
            self.templates.learn(work, slots, text, data[0].0);
        }
        Ok(())
    }
}

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Returns a line's field name, and where its value begins.
fn field(line: &[u8]) -> (&[u8], usize) {
    match memchr::memchr(b':', line) {
        Some(colon) => {
            let space = usize::from(line.get(colon + 1) == Some(&b' '));
            (&line[..colon], colon + 1 + space)
        }
        None => (line, line.len()),
    }
}

/// Replaces what is no JSON as one text.
pub(super) fn plain(work: &mut Work<'_>, from: u64, until: u64) {
    let raw = work.held.raw(from, until).to_vec();
    let (mut text, mut reader, mut at) = (Text::default(), UnitReader::default(), from);
    for byte in raw {
        reader.push(Escapes::None, byte, |unit| {
            text.unit(work, at, unit);
            at += u64::from(unit.len);
        });
    }
    reader.finish(|unit| text.unit(work, at, unit));
    text.settle(work, More::No);
}
