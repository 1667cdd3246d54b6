//! Responses, frame by frame.

use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};

use crate::dialect::coding::Decoder;
use crate::dialect::facts::{Dialect, FrameFacts, Operation, RequestFacts, ResponseFacts};
use crate::dialect::openai::answer::{Answer, Standing};
use crate::dialect::openai::output::Pieces;
use crate::dialect::sse::SseReader;

/// Largest unary body that is understood, in bytes after decoding. A larger one is timed, and its facts left out.
pub const MAX_UNARY_BYTES: usize = 64 << 20;

/// Reads a response frame by frame. The facts do not depend on where the frames were cut, but for the frame numbers.
///
/// A unary body is understood at its end: none of its frames has facts of its own, the first that is not empty counts as
/// its first content, the last as its last. An error (a status of 400 or more) has no content.
#[derive(Debug)]
pub struct ResponseReader {
    expected: Expected,
    decoder: Decoder,
    reading: Reading,
    answer: Answer,
    next_frame: u64,
    /// First and last frame that was not empty.
    bytes: Span,
    content: Span,
    answered: Span,
    events: u64,
    content_events: u64,
    /// Frames of whose bytes nothing is known.
    skipped: Span,
}

/// What the request and the response head let expect.
#[derive(Clone, Copy, Debug)]
struct Expected {
    dialect: Dialect,
    operation: Operation,
    standing: Standing,
    /// The content type says that it is an event stream.
    event_stream: bool,
    /// The content type does not say JSON, and the request asked for a stream.
    maybe_stream: bool,
}

/// How the body is read.
#[derive(Debug)]
enum Reading {
    /// Nothing but white space came yet.
    Undecided,
    Events(SseReader),
    Whole(Vec<u8>),
    /// Only timed.
    Opaque,
}

/// First and last frame with something.
#[derive(Clone, Copy, Debug, Default)]
struct Span {
    first: Option<u64>,
    last: Option<u64>,
}

// === impl ResponseReader ===

impl ResponseReader {
    /// Begins to read the response to `request` that has this status and these headers.
    #[must_use]
    pub fn new(request: &RequestFacts, status: StatusCode, headers: &HeaderMap) -> Self {
        let content_type = headers.get(CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
        let media_type = content_type.split(|byte| *byte == b';').next().unwrap_or_default();
        let is = |name: &str| media_type.trim_ascii().eq_ignore_ascii_case(name.as_bytes());
        let is_error = status.is_client_error() || status.is_server_error();
        Self {
            expected: Expected {
                dialect: request.dialect,
                operation: request.operation,
                standing: if is_error { Standing::Error } else { Standing::Answer },
                event_stream: is("text/event-stream"),
                maybe_stream: request.dialect == Dialect::OpenAi
                    && request.stream == Some(true)
                    && !is("application/json"),
            },
            decoder: Decoder::new(headers),
            reading: Reading::Undecided,
            answer: Answer::default(),
            next_frame: 0,
            bytes: Span::default(),
            content: Span::default(),
            answered: Span::default(),
            events: 0,
            content_events: 0,
            skipped: Span::default(),
        }
    }

    /// Takes note of a frame of `len` bytes of which nothing else is known.
    pub fn skip(&mut self, len: u64) {
        let number = self.next_frame;
        self.next_frame += 1;
        if len == 0 {
            return;
        }
        self.bytes.note(number);
        self.skipped.note(number);
        self.decoder.skip();
        let may_be_events = self.expected.event_stream || self.expected.maybe_stream;
        self.reading = match std::mem::replace(&mut self.reading, Reading::Opaque) {
            Reading::Undecided if may_be_events => Reading::Events(SseReader::skipping()),
            Reading::Events(mut reader) => {
                reader.skip();
                Reading::Events(reader)
            }
            Reading::Undecided | Reading::Whole(_) | Reading::Opaque => Reading::Opaque,
        };
    }

    /// Reads the next body frame and returns what ended in it.
    pub fn push(&mut self, frame: &[u8]) -> FrameFacts {
        let number = self.next_frame;
        self.next_frame += 1;
        let mut facts = FrameFacts::default();
        if frame.is_empty() {
            return facts;
        }
        self.bytes.note(number);
        let mut decoder = std::mem::replace(&mut self.decoder, Decoder::Unknown);
        decoder.push(frame, |bytes| self.read(bytes, number, &mut facts));
        self.decoder = decoder;
        facts
    }

    /// Returns what the response amounted to. `complete` says whether the body came to its end, as HTTP tells it.
    #[must_use]
    pub fn finish(mut self, complete: bool) -> ResponseFacts {
        if self.decoder.is_unknown() {
            return self.finish_unknown(complete);
        }
        let mut facts = ResponseFacts { ended: complete, ..ResponseFacts::default() };
        match std::mem::replace(&mut self.reading, Reading::Undecided) {
            Reading::Undecided => facts.ended &= !self.expected.event_stream,
            Reading::Events(mut reader) => {
                if complete {
                    let last = self.bytes.last.unwrap_or_default();
                    let mut ignored = FrameFacts::default();
                    self.read_events(&mut reader, None, last, &mut ignored);
                }
                match self.expected.dialect {
                    Dialect::OpenAi => {
                        facts.ended = self.answer.is_done();
                        self.doubt();
                    }
                    Dialect::Generic => self.time_whole(),
                }
            }
            Reading::Whole(body) => {
                self.events = 1;
                self.read_whole(&body);
            }
            Reading::Opaque => {
                self.events = 1;
                self.time_whole();
            }
        }
        facts.events = self.events;
        facts.content_events = self.content_events;
        facts.first_content_frame = self.content.first;
        facts.last_content_frame = self.content.last;
        facts.first_answer_frame = self.answered.first;
        self.answer.finish(&mut facts);
        if self.skipped.first.is_some() {
            facts.lack();
        }
        facts
    }

    /// Forgets which frames had the first and the last content when a frame before or after, of which nothing is known, may
    /// have been it.
    fn doubt(&mut self) {
        let Span { first: Some(first), last } = self.skipped else { return };
        for span in [&mut self.content, &mut self.answered] {
            span.first = span.first.filter(|content| *content < first);
            span.last = span.last.filter(|content| Some(*content) > last);
        }
    }

    /// Returns what little is known of a body that can't be decoded: a unary one can still be timed.
    fn finish_unknown(self, complete: bool) -> ResponseFacts {
        let timed = self.expected.standing == Standing::Answer
            && !(self.expected.event_stream && self.expected.dialect == Dialect::OpenAi);
        let span = if timed { self.bytes } else { Span::default() };
        ResponseFacts {
            events: u64::from(!self.expected.event_stream && self.bytes.first.is_some()),
            first_content_frame: span.first,
            first_answer_frame: span.first,
            last_content_frame: span.last,
            ended: complete,
            lacking: self.skipped.first.is_some(),
            ..ResponseFacts::default()
        }
    }

    fn read(&mut self, bytes: &[u8], frame: u64, facts: &mut FrameFacts) {
        let mut bytes = bytes;
        if let Reading::Undecided = self.reading {
            let Some(start) = bytes.iter().position(|byte| !BLANK.contains(byte)) else { return };
            bytes = &bytes[start..];
            self.reading = self.expected.reading(bytes[0]);
        }
        match std::mem::replace(&mut self.reading, Reading::Opaque) {
            Reading::Events(mut reader) => {
                self.read_events(&mut reader, Some(bytes), frame, facts);
                self.reading = Reading::Events(reader);
            }
            Reading::Whole(mut body) => {
                if body.len() + bytes.len() <= MAX_UNARY_BYTES {
                    body.extend_from_slice(bytes);
                    self.reading = Reading::Whole(body);
                }
            }
            Reading::Opaque | Reading::Undecided => {}
        }
    }

    /// Reads events from `bytes`, or with none what the end of the body completes.
    fn read_events(
        &mut self,
        reader: &mut SseReader,
        bytes: Option<&[u8]>,
        frame: u64,
        facts: &mut FrameFacts,
    ) {
        let Expected { dialect, standing, .. } = self.expected;
        let mut event = |event: super::SseEvent<'_>| {
            self.events += 1;
            facts.events += 1;
            if dialect == Dialect::OpenAi
                && let Some(data) = event.data
            {
                let pieces = self.answer.event(event.name, data, standing);
                self.note(pieces, frame);
                facts.add(pieces);
            }
        };
        match bytes {
            Some(bytes) => reader.push(bytes, &mut event),
            None => reader.finish(&mut event),
        }
    }

    fn note(&mut self, pieces: Pieces, frame: u64) {
        if !pieces.is_empty() {
            self.content_events += 1;
            self.content.note(frame);
        }
        if pieces.content > 0 || pieces.tools > 0 {
            self.answered.note(frame);
        }
    }

    fn read_whole(&mut self, body: &[u8]) {
        let Expected { dialect, operation, standing, .. } = self.expected;
        let read = self.answer.object(body, standing);
        if standing == Standing::Error || self.answer.is_error() {
            return;
        }
        let is_text = matches!(operation, Operation::Chat | Operation::Completion);
        match read {
            Some(pieces) if dialect == Dialect::OpenAi && is_text => {
                self.content_events = u64::from(!pieces.is_empty());
                self.content = if pieces.is_empty() { Span::default() } else { self.bytes };
                let answered = pieces.content > 0 || pieces.tools > 0;
                self.answered = if answered { self.bytes } else { Span::default() };
            }
            _ => self.time_whole(),
        }
    }

    /// Takes a body that is not understood for content from its first byte to its last.
    fn time_whole(&mut self) {
        if self.expected.standing == Standing::Answer {
            self.content = self.bytes;
            self.answered = self.bytes;
        }
    }
}

// === impl Expected ===

impl Expected {
    /// Returns how to read a body that begins with `first`. Content types lie: errors come as JSON under the type of a
    /// stream, streams under other types.
    fn reading(self, first: u8) -> Reading {
        let is_json = matches!(first, b'{' | b'[');
        let is_stream = self.event_stream || (self.maybe_stream && b"de:ir".contains(&first));
        if is_stream && !is_json {
            Reading::Events(SseReader::default())
        } else if self.dialect == Dialect::OpenAi || self.standing == Standing::Error {
            Reading::Whole(Vec::new())
        } else {
            Reading::Opaque
        }
    }
}

// === impl Span ===

impl Span {
    fn note(&mut self, frame: u64) {
        self.first = self.first.or(Some(frame));
        self.last = Some(frame);
    }
}

// === impl FrameFacts ===

impl FrameFacts {
    fn add(&mut self, pieces: Pieces) {
        let count =
            |sum: u32, more: u64| sum.saturating_add(u32::try_from(more).unwrap_or(u32::MAX));
        self.content_chars = count(self.content_chars, pieces.content);
        self.reasoning_chars = count(self.reasoning_chars, pieces.reasoning);
        self.tool_chars = count(self.tool_chars, pieces.tools);
    }
}

/// What may stand before the first meaningful byte: white space, a byte order mark.
const BLANK: &[u8] = b" \t\r\n\xef\xbb\xbf";
