//! Bodies that consist of many documents: `text/event-stream`, and JSON lines. Each is decided when it has ended.

use crate::privacy::held::Kind;
use crate::privacy::json::NotJson;
use crate::privacy::known::{InEvent, is_name};
use crate::privacy::patterns::More;
use crate::privacy::pointer::Pointer;
use crate::privacy::text::{Text, Texts, Work};
use crate::privacy::units::{Escapes, UnitReader};
use crate::privacy::values::{Around, Document, Streams, indexes};

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
    pub(super) fn new(framing: Framing) -> Self {
        Self {
            framing,
            at: 0,
            line: 0,
            event: 0,
            after_cr: false,
            data: Vec::new(),
            streams: Streams::new(),
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
        let bytes = work.held.raw(self.at, until).to_vec();
        for byte in bytes {
            let at = self.at;
            self.at += 1;
            if std::mem::take(&mut self.after_cr) && byte == b'\n' {
                work.held.mark(at, at + 1, Kind::Form);
                self.line = self.at;
                if self.data.is_empty() {
                    self.event = self.at;
                }
                continue;
            }
            if matches!(byte, b'\n' | b'\r') {
                work.held.mark(at, at + 1, Kind::Form);
                self.after_cr = byte == b'\r';
                self.end_line(work, pointers, at)?;
                self.line = self.at;
                if self.data.is_empty() {
                    self.event = self.at;
                }
            }
        }
        if self.at - self.event > MAX_EVENT { Err(NotJson) } else { Ok(()) }
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
        for text in self.streams.values_mut() {
            text.settle(work, More::No);
        }
        Ok(())
    }

    /// Returns the offset before which all is decided.
    pub(super) fn decided(&self) -> u64 {
        let waiting = self.streams.values().filter_map(Text::undecided).min();
        waiting.unwrap_or(u64::MAX).min(self.event)
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
            self.data = vec![(self.line, end)];
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
        let data = std::mem::take(&mut self.data);
        let raw = |work: &Work<'_>, (from, until): (u64, u64)| work.held.raw(from, until).to_vec();
        let pieces: Vec<Vec<u8>> = data.iter().map(|piece| raw(work, *piece)).collect();
        let text = pieces.concat();
        let text = text.trim_ascii();
        if text == b"[DONE]" {
            self.streams.values_mut().for_each(|text| text.settle(work, More::No));
        }
        if text.is_empty() || text == b"[DONE]" {
            return Ok(());
        }
        let (Some((begin, _)), Some((_, end))) = (data.first(), data.last()) else { return Ok(()) };
        // Lines of one event are joined by a line end, which is white space to JSON.
        let joined = pieces.iter().flat_map(|piece| [&piece[..], b"\n"]);
        let Ok(indexes) = indexes(joined) else {
            let is_like_json = matches!(text.first(), Some(b'{' | b'['));
            if work.texts == Texts::Stay && is_like_json && !pointers.is_empty() {
                return Err(NotJson);
            }
            data.iter().for_each(|(from, until)| plain(work, *from, *until));
            return Ok(());
        };
        data.iter().for_each(|(from, until)| work.held.mark(*from, *until, Kind::Form));
        let (streams, in_event) = (&mut self.streams, InEvent::Yes);
        let mut around = Around { pointers, streams, indexes: &indexes, in_event };
        let mut document = Document::new(*begin);
        for (from, until) in &data {
            document.push(work, &mut around, *from, *until)?;
        }
        document.finish(work, &mut around)?;
        for text in self.streams.values_mut() {
            if text.undecided().is_some_and(|from| end - from > MAX_WAITING) {
                text.settle(work, More::No);
            }
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
