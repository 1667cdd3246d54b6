//! The framing of `text/event-stream`, incremental: any cut of the same bytes yields the same events.
//!
//! As the HTML standard has it: lines end in LF, CRLF or CR; `data` lines of one event are joined by LF; one space after
//! the colon is not part of the value; a line that begins with a colon is a comment (a ping); a byte order mark at the
//! start is skipped; an event without `data` is none. `id` and `retry` mean nothing here.

use memchr::memchr2;

/// Longest event that is read, in bytes of data. A longer one is counted, and its data left out.
pub const MAX_EVENT_BYTES: usize = 16 << 20;

/// One event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SseEvent<'a> {
    /// Its name; empty when it has none.
    pub name: &'a [u8],
    /// Its data; none when it was longer than [`MAX_EVENT_BYTES`].
    pub data: Option<&'a [u8]>,
}

/// Reads events from body bytes as they come.
#[derive(Debug, Default)]
pub struct SseReader {
    /// The beginning of a line that went on beyond the last frame.
    line: Vec<u8>,
    data: Vec<u8>,
    name: Vec<u8>,
    has_data: bool,
    too_long: bool,
    /// The last line ended in CR: a LF that follows belongs to it.
    after_cr: bool,
    begun: bool,
    /// Bytes are missing: what is passed over until it is certain where an event begins.
    skipping: Skipping,
}

/// What is passed over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Skipping {
    /// Nothing.
    #[default]
    No,
    /// The rest of a line whose beginning is not known.
    Line,
    /// The rest of an event.
    Event,
}

// === impl SseReader ===

impl SseReader {
    /// Reads `bytes` and calls `event` for each event that ends in them.
    pub fn push(&mut self, bytes: &[u8], mut event: impl FnMut(SseEvent<'_>)) {
        let mut rest = bytes;
        while !rest.is_empty() {
            if std::mem::take(&mut self.after_cr) && rest[0] == b'\n' {
                rest = &rest[1..];
                continue;
            }
            let Some(end) = memchr2(b'\n', b'\r', rest) else {
                self.carry(rest);
                return;
            };
            self.after_cr = rest[end] == b'\r';
            if self.line.is_empty() {
                self.end_line(&rest[..end], &mut event);
            } else {
                self.carry(&rest[..end]);
                let mut line = std::mem::take(&mut self.line);
                self.end_line(&line, &mut event);
                line.clear();
                self.line = line;
            }
            rest = &rest[end + 1..];
        }
    }

    /// Reads what stands after the last line end, as the end of a body does: `data: [DONE]` often comes without one.
    pub fn finish(&mut self, mut event: impl FnMut(SseEvent<'_>)) {
        let line = std::mem::take(&mut self.line);
        if !line.is_empty() {
            self.end_line(&line, &mut event);
        }
        self.end_line(b"", &mut event);
    }

    /// Makes a reader of a stream whose first bytes are missing.
    #[must_use]
    pub fn skipping() -> Self {
        let mut reader = Self::default();
        reader.skip();
        reader
    }

    /// Takes note that bytes are missing. The event that was open is none, nor is what follows up to the next empty line.
    pub fn skip(&mut self) {
        *self = Self { begun: true, skipping: Skipping::Line, ..Self::default() };
    }

    fn carry(&mut self, piece: &[u8]) {
        let room = (MAX_EVENT_BYTES + LONGEST_FIELD).saturating_sub(self.line.len());
        self.too_long |= piece.len() > room;
        self.line.extend_from_slice(&piece[..piece.len().min(room)]);
    }

    fn end_line(&mut self, line: &[u8], event: &mut impl FnMut(SseEvent<'_>)) {
        let line = match line.strip_prefix(BYTE_ORDER_MARK) {
            Some(line) if !self.begun => line,
            _ => line,
        };
        self.begun = true;
        match self.skipping {
            Skipping::Line => {
                self.skipping = Skipping::Event;
                return;
            }
            Skipping::Event if line.is_empty() => self.skipping = Skipping::No,
            Skipping::Event => return,
            Skipping::No => {}
        }
        if line.is_empty() {
            self.dispatch(event);
        } else if let Some(value) = field(line, b"data") {
            if self.has_data {
                self.append(b"\n");
            }
            self.has_data = true;
            self.append(value);
        } else if let Some(value) = field(line, b"event") {
            self.name.clear();
            self.name.extend_from_slice(&value[..value.len().min(LONGEST_NAME)]);
        }
    }

    fn append(&mut self, value: &[u8]) {
        if self.too_long || self.data.len() + value.len() > MAX_EVENT_BYTES {
            self.too_long = true;
            self.data.clear();
        } else {
            self.data.extend_from_slice(value);
        }
    }

    fn dispatch(&mut self, event: &mut impl FnMut(SseEvent<'_>)) {
        if self.has_data {
            let data = (!self.too_long).then_some(&*self.data);
            event(SseEvent { name: &self.name, data });
        }
        self.has_data = false;
        self.too_long = false;
        self.name.clear();
        self.data.clear();
    }
}

/// Returns the value of `line` if it is the field `name`.
fn field<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let rest = line.strip_prefix(name)?;
    if rest.is_empty() {
        return Some(rest);
    }
    let value = rest.strip_prefix(b":")?;
    Some(value.strip_prefix(b" ").unwrap_or(value))
}

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// Room for a field's name in front of the longest data.
const LONGEST_FIELD: usize = 64;
const LONGEST_NAME: usize = 256;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(pieces: &[&[u8]]) -> Vec<String> {
        let mut reader = SseReader::default();
        let mut events = Vec::new();
        let mut note = |event: SseEvent<'_>| {
            let data = event.data.map_or_else(|| "too long".into(), String::from_utf8_lossy);
            events.push(format!("{}|{data}", String::from_utf8_lossy(event.name)));
        };
        for piece in pieces {
            reader.push(piece, &mut note);
        }
        reader.finish(&mut note);
        events
    }

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        assert_eq!(read(&[text.as_bytes()]), expected, "whole");
        let bytes: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
        assert_eq!(read(&bytes), expected, "byte by byte");
    }

    #[test]
    fn lines_end_in_any_way() {
        check("data: a\n\ndata: b\n\n", &["|a", "|b"]);
        check("data: a\r\n\r\ndata: b\r\n\r\n", &["|a", "|b"]);
        check("data: a\r\rdata: b\r\r", &["|a", "|b"]);
        check("data: a\r\n\ndata: b\n\r\n", &["|a", "|b"]);
    }

    #[test]
    fn fields_are_read_as_the_standard_says() {
        check("data:a\ndata:  b\ndata\ndata: c\n\n", &["|a\n b\n\nc"]);
        check("event: ping\n\nevent: error\ndata: x\n\ndata: y\n\n", &["error|x", "|y"]);
        check(": ping\n\n:\n\ndata: a\n: in between\n\n", &["|a"]);
        check("id: 7\nretry: 10\ndatabase: no\ndata: a\n\n", &["|a"]);
        check("data:\n\n", &["|"]);
        check("", &[]);
    }

    #[test]
    fn a_byte_order_mark_is_skipped_once() {
        check("\u{feff}data: a\n\n\u{feff}data: b\n\n", &["|a"]);
    }

    #[test]
    fn the_last_event_needs_no_line_end() {
        check("data: a\n\ndata: [DONE]", &["|a", "|[DONE]"]);
        check("data: a\n\ndata: [DONE]\n", &["|a", "|[DONE]"]);
    }

    #[test]
    fn an_event_that_is_too_long_is_counted_and_left_out() {
        let long = vec![b'x'; MAX_EVENT_BYTES + 1];
        let half = [b"data:".as_slice(), &long[..MAX_EVENT_BYTES / 2], b"\n"].concat();
        let events = read(&[b"data: ", &long, b"\n\ndata: a\n\n", &half, &half, b"\ndata: b\n\n"]);
        assert_eq!(events, ["|too long", "|a", "|too long", "|b"]);
        let events = read(&[b"data: ", &long[..1000], &long, b" and more\n\ndata: a\n\n"]);
        assert_eq!(events, ["|too long", "|a"]);
    }

    proptest! {
        #[test]
        fn any_cut_gives_the_same_events(
            text in "((data|event|id|)(:| |: )?[a-z:\u{feff}]{0,3}(\r|\n|\r\n){1,2}){0,8}",
            cuts in prop::collection::vec(0usize..64, 0..6),
        ) {
            let bytes = text.as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect();
            prop_assert_eq!(read(&pieces), read(&[bytes]));
        }
    }

    #[test]
    fn after_missing_bytes_events_are_read_from_the_next_that_certainly_begins() {
        let check = |before: &str, after: &str, expected: &[&str]| {
            let mut events = Vec::new();
            let mut note = |event: SseEvent<'_>| {
                events.push(String::from_utf8_lossy(event.data.unwrap()).into_owned());
            };
            let mut reader = SseReader::default();
            reader.push(before.as_bytes(), &mut note);
            reader.skip();
            reader.push(after.as_bytes(), &mut note);
            reader.finish(&mut note);
            assert_eq!(events, expected, "{before:?} then {after:?}");
        };
        check("data: a\n\ndata: b", "b\n\ndata: c\n\n", &["a", "c"]);
        check("data: a\n\n", "data: b\n\ndata: c\n\n", &["a", "c"]);
        check("data: a\n", "\ndata: b\n\ndata: c\n\n", &["c"]);
        check("data: a\r\n\r", "\ndata: b\r\n\r\ndata: c", &["a", "c"]);
        check("", "rest", &[]);
    }
}
