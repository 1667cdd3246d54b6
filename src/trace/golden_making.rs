//! How the frozen files of `golden.rs` are made.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use crate::clock::{Anchor, Nanos};
use crate::trace::block::{Start, put_record};
use crate::trace::codec::{encode_counters, encode_event, encode_header};
use crate::trace::compress::{Compressor, Then};
use crate::trace::format::{BLOCK_HEADER_LEN, BlockHeader, END_MAGIC, VERSION, magic, opcode};
use crate::trace::index::{Chapter, Footer, Place, encode_chapters, encode_footer, encode_places};
use crate::trace::record::{
    BareFrame, BodyMode, Counters, DropReason, End, Event, ExchangeId, Fault, FaultKind, FaultSide,
    Frame, Gap, Header, Interim, Link, Omission, OmitReason, Outcome, Passed, PolicyMark, Prompt,
    RequestHead, ResponseHead, Side, Trailers, Version,
};
use crate::trace::split::encode_base64;
use crate::trace::wire::len_u64;
use crate::trace::{Assembler, Exchange, Recipients, Totals, Writer, WriterOptions};

pub(super) fn header() -> Header {
    Header {
        trace: *b"golden trace 001",
        segment: 0,
        anchor: Anchor(1_767_323_045_000_000_000),
        tick_ns: 1_000,
        tool: "reenact 0.1.0".to_owned(),
        listen: "127.0.0.1:8080".to_owned(),
        upstreams: vec!["http://127.0.0.1:8000".to_owned(), "https://api.example".to_owned()],
        redacted: vec!["authorization".to_owned(), "key".to_owned()],
        sampled_ppm: 1_000_000,
        policy: None,
    }
}

fn headers(fields: &[(&str, &[u8])]) -> HeaderMap {
    let field = |&(name, value): &(&str, &[u8])| {
        (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_bytes(value).unwrap())
    };
    fields.iter().map(field).collect()
}

fn request(exchange: u64, at: u64, method: Method, target: &str) -> Event {
    Event::Request(Box::new(RequestHead {
        exchange: ExchangeId(exchange),
        at: Nanos(at),
        connection: exchange + 10,
        version: if exchange == 3 { Version::Http2 } else { Version::Http11 },
        method,
        target: target.to_owned(),
        authority: (exchange != 2).then(|| "127.0.0.1:8080".to_owned()),
        headers: headers(&[
            ("content-type", b"application/json"),
            ("x-twice", b"one"),
            ("x-twice", b"two"),
            ("x-latin", b"caf\xE9"),
        ]),
        upstream: u32::try_from(exchange % 2).unwrap(),
    }))
}

fn frame(exchange: u64, side: Side, at: u64, data: impl Into<Vec<u8>>) -> Event {
    let data = data.into().into();
    let (at, accepted) = (Nanos(at), Nanos(at + 37_000));
    Event::Frame(Frame { exchange: ExchangeId(exchange), side, at, accepted, data })
}

fn response(exchange: u64, at: u64, status: u16) -> Event {
    Event::Response(Box::new(ResponseHead {
        exchange: ExchangeId(exchange),
        at: Nanos(at),
        version: Version::Http11,
        status: StatusCode::from_u16(status).unwrap(),
        reason: (status == 503).then(|| "Busy".to_owned()),
        headers: headers(&[("content-type", b"text/event-stream")]),
    }))
}

fn end(events: &[Event], exchange: u64, at: u64, outcome: Outcome) -> Event {
    let passed = |side: Side| {
        let frames = events.iter().filter_map(|event| match event {
            Event::Frame(frame) if (frame.exchange.0, frame.side) == (exchange, side) => {
                Some(frame)
            }
            _ => None,
        });
        let bytes = frames.clone().map(|frame| len_u64(frame.data.len())).sum();
        let frames = len_u64(frames.count());
        let ended = outcome == Outcome::Complete;
        Passed { bytes, frames, ended, ..Passed::default() }
    };
    let fault = match outcome {
        Outcome::Complete => None,
        Outcome::Failed => Some((FaultSide::Server, FaultKind::Reset, "connection reset")),
        Outcome::Cancelled => Some((FaultSide::Client, FaultKind::Disconnected, "the client left")),
    };
    Event::End(Box::new(End {
        exchange: ExchangeId(exchange),
        at: Nanos(at),
        outcome,
        fault: fault.map(|(side, kind, text)| Fault { side, kind, text: text.to_owned() }),
        request: passed(Side::Request),
        response: passed(Side::Response),
    }))
}

/// Bytes that don't compress, the same for ever.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 42_u64;
    let next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(next).take(len).collect()
}

/// Every kind of event, bodies of every kind, twice in a row.
fn events() -> Vec<Event> {
    let mut image = Vec::new();
    encode_base64(&noise(30_000), &mut image);
    let image = String::from_utf8(image).unwrap();
    let mut events = Vec::new();
    for (first, second, third, from) in [(1, 2, 3, 1_000_000), (4, 5, 6, 2_000_000_000)] {
        let at = |ms: u64| from + ms * 1_000_123;
        events.push(request(first, at(0), Method::POST, "/v1/chat/completions?key=redacted"));
        let body = format!(
            r#"{{"model":"m","stream":true,"images":["data:image/png;base64,{image}AA=="]}}"#
        );
        for (n, part) in (1..).zip(body.as_bytes().chunks(16_000)) {
            events.push(frame(first, Side::Request, at(n), part));
        }
        events.push(request(second, at(5), Method::GET, "/v1/models"));
        events.push(Event::Link(Link {
            exchange: ExchangeId(first),
            at: Nanos(at(5)),
            connection: 7,
            reused: first > 1,
            version: Version::Http11,
            connect_ns: 150_000,
            tls_ns: 300_000,
        }));
        events.push(Event::Interim(Box::new(Interim {
            exchange: ExchangeId(first),
            at: Nanos(at(6)),
            status: StatusCode::CONTINUE,
            headers: HeaderMap::new(),
        })));
        events.push(response(first, at(20), 200));
        for n in 0..20 {
            let data = format!("data: {{\"id\":\"c-{first}\",\"delta\":\" word{}\"}}\n\n", n * n);
            events.push(frame(first, Side::Response, at(30 + n * 17), data));
        }
        events.push(frame(first, Side::Response, at(400), ""));
        events.push(frame(first, Side::Response, at(401), b"bytes \x1F\x00\xFF".to_vec()));
        events.push(frame(first, Side::Response, at(402), noise(9_000)));
        events.push(frame(first, Side::Response, at(403), "data: [DONE]\n\n"));
        events.push(Event::Trailers(Box::new(Trailers {
            exchange: ExchangeId(first),
            side: Side::Response,
            at: Nanos(at(404)),
            headers: headers(&[("x-checksum", b"abc")]),
        })));
        events.push(end(&events, first, at(405), Outcome::Complete));
        events.push(response(second, at(406), 503));
        events.push(end(&events, second, at(407), Outcome::Failed));
        events.push(request(third, at(408), Method::POST, "/generate"));
        events.push(frame(third, Side::Request, at(409), r#"{"prompt":"Hi"}"#));
        events.push(end(&events, third, at(700), Outcome::Cancelled));
        events.push(Event::Gap(Gap {
            from: Nanos(at(710)),
            until: Nanos(at(720)),
            reason: DropReason::QueueFull,
            exchanges: 1,
            frames: 0,
            bytes: 1_234,
        }));
    }
    events
}

/// What the writer makes of [`events`].
pub(super) fn whole(recipients: Recipients) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("golden.trace");
    let options = WriterOptions {
        frame_bytes: 12_000,
        block_bytes: 6_000,
        recipients,
        ..WriterOptions::default()
    };
    let mut writer = Writer::create(&path, header(), options).unwrap();
    let mut flushed = Nanos::ZERO;
    for event in events() {
        if event.at() > flushed + Duration::from_millis(100) {
            flushed = event.at();
            writer.flush(flushed).unwrap();
        }
        writer.append(event).unwrap();
    }
    writer.finish().unwrap();
    fs::read(path).unwrap()
}

/// What version 1.1 added: omissions of all reasons, and a gap of what was damaged.
fn omitted() -> Vec<u8> {
    let mut events = vec![
        request(4, 1_000_000, Method::GET, "/v1/models"),
        end(&[], 4, 2_000_000, Outcome::Complete),
    ];
    events.extend(left_out());
    written(&header(), &events)
}

/// What version 1.2 added: frames without their bytes, between others on both sides.
pub(super) fn bared() -> Vec<Event> {
    let bare = |side: Side, at: u64, len: u64| {
        let (exchange, at, accepted) = (ExchangeId(1), Nanos(at), Nanos(at + 37_000));
        Event::Bare(BareFrame { exchange, side, at, accepted, len })
    };
    let mut events = vec![
        request(1, 1_000_000, Method::POST, "/v1/chat/completions"),
        frame(1, Side::Request, 2_000_000, r#"{"messages":[{"content":""#),
        bare(Side::Request, 3_000_000, 70_000),
        frame(1, Side::Request, 4_000_000, r#""}]}"#),
        response(1, 5_000_000, 200),
        bare(Side::Response, 6_000_000, 40),
    ];
    for n in 0..3 {
        let at = 10_000_000 + n * 100_000_123;
        events.push(frame(1, Side::Response, at, format!("data: {{\"n\":{n}}}\n\n")));
        events.push(bare(Side::Response, at + 20_000_000, 12));
        events.push(bare(Side::Response, at + 40_000_000, 13 + n));
    }
    let Event::End(mut end) = end(&events, 1, 400_000_000, Outcome::Complete) else {
        unreachable!("it is an end");
    };
    for (passed, bytes, frames) in [(&mut end.request, 70_000, 1), (&mut end.response, 118, 7)] {
        passed.bytes += bytes;
        passed.frames += frames;
        (passed.lost_bytes, passed.lost_frames) = (bytes, frames);
    }
    events.push(Event::Gap(Gap {
        from: Nanos(3_000_000),
        until: Nanos(400_000_000),
        reason: DropReason::QueueFull,
        exchanges: 0,
        frames: 8,
        bytes: 70_118,
    }));
    events.push(Event::End(end));
    events
}

/// What the writer makes of these events, in one go.
fn written(header: &Header, events: &[Event]) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("golden.trace");
    let mut writer = Writer::create(&path, header.clone(), WriterOptions::default()).unwrap();
    for event in events {
        writer.append(event.clone()).unwrap();
    }
    writer.finish().unwrap();
    fs::read(path).unwrap()
}

pub(super) fn left_out() -> Vec<Event> {
    let omission = |reason: OmitReason, exchanges: u64| {
        let (from, until) = (Nanos(1_000_000), Nanos(3_000_000));
        Event::Omission(Omission { from, until, reason, exchanges, frames: 20, bytes: 300 })
    };
    vec![
        omission(OmitReason::Sampled, 1),
        omission(OmitReason::Filtered, 2),
        omission(OmitReason::Cut, 4),
        Event::Gap(Gap {
            from: Nanos(2_000_000),
            until: Nanos(3_000_000),
            reason: DropReason::Damaged,
            exchanges: 8,
            frames: 0,
            bytes: 0,
        }),
    ]
}

/// A file of a later minor version: an unknown record, and fields that were added.
fn newer_minor() -> Vec<u8> {
    let mut file = File { bytes: magic(VERSION).to_vec(), chapters: Vec::new() };
    let mut head = encode_header(&header());
    head[0] = 9;
    head.extend_from_slice(b"a field added in 1.9");
    file.block(&[(opcode::HEADER, head)]);
    let events =
        [request(1, 1_000_000, Method::GET, "/v1/models"), end(&[], 1, 2_000_000, Outcome::Failed)];
    let mut counters = Counters::default();
    let mut records = vec![(0x33, b"a record added in 1.9".to_vec())];
    for event in &events {
        counters.count(event);
        let mut payload = Vec::new();
        let code = encode_event(event, &mut payload).unwrap();
        payload.extend_from_slice(b"a field added in 1.9");
        records.push((code, payload));
    }
    records.push((opcode::COUNTERS, encode_counters(&counters)));
    file.block(&records);
    let summary = len_u64(file.bytes.len());
    let (mut map, mut index) = (Vec::new(), Vec::new());
    encode_chapters(&file.chapters, &mut map);
    let place = Place {
        id: ExchangeId(1),
        at: Nanos(1_000_000),
        end: Some((Nanos(2_000_000), Outcome::Failed)),
        first: 1,
        request_last: 1,
        last: 1,
    };
    encode_places(&[place], &mut index);
    let totals = Totals { exchanges: 1, until: Nanos(2_000_000), ..Totals::default() };
    let footer = encode_footer(&Footer { totals, counters });
    file.block(&[(opcode::MAP, map), (opcode::INDEX, index), (opcode::FOOTER, footer)]);
    file.bytes.extend_from_slice(&summary.to_le_bytes());
    file.bytes.extend_from_slice(&END_MAGIC);
    file.bytes
}

struct File {
    bytes: Vec<u8>,
    chapters: Vec<Chapter>,
}

impl File {
    /// Appends a block that is a zstd frame of its own.
    fn block(&mut self, records: &[(u8, Vec<u8>)]) {
        let offset = len_u64(self.bytes.len());
        let ordinal = u32::try_from(self.chapters.len()).unwrap();
        let mut raw = Vec::new();
        put_record(&mut raw, opcode::START, &Start { ordinal, offset, first_blob: 0 }.encode());
        for (code, payload) in records {
            put_record(&mut raw, *code, payload);
        }
        let mut compressor = Compressor::new().unwrap();
        compressor.begin(9, 20).unwrap();
        let payload = compressor.block(&raw, Then::EndFrame).unwrap();
        let header =
            BlockHeader::new(&payload, u32::try_from(raw.len()).unwrap(), true, 0).unwrap();
        self.chapters.push(Chapter { offset, first_blob: 0, raw: len_u64(raw.len()) });
        self.bytes.extend_from_slice(&header.to_bytes());
        self.bytes.extend_from_slice(&payload);
    }
}

/// Returns where the blocks of a whole file are.
fn blocks(bytes: &[u8]) -> Vec<std::ops::Range<usize>> {
    let mut at = magic(VERSION).len();
    let mut found = Vec::new();
    while let Some(front) = bytes[at..].first_chunk::<BLOCK_HEADER_LEN>() {
        let Ok(header) = BlockHeader::parse(front) else { break };
        let end = at + BLOCK_HEADER_LEN + header.stored as usize;
        found.push(at..end);
        at = end;
    }
    found
}

/// Each frozen file with how it is made.
pub(super) fn files() -> Vec<(&'static str, Vec<u8>)> {
    let whole = whole(Recipients::default());
    let found = blocks(&whole);
    let middle = found[found.len() / 2].clone();
    let changed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = whole.clone();
        change(&mut bytes);
        bytes
    };
    let repeated = [&whole[..middle.end], &whole[middle.clone()], &whole[middle.end..]].concat();
    let missing = [&whole[..middle.start], &whole[middle.end..]].concat();
    let text: Vec<u8> = whole.iter().copied().filter(|&byte| byte != b'\r').collect();
    vec![
        ("v1.0.trace", whole.clone()),
        ("v1.1-omission.trace", omitted()),
        ("v1.1-hash.trace", written(&hashed_header(), &hashed())),
        ("v1.2-bare.trace", written(&header(), &bared())),
        ("v1.9-newer-minor.trace", newer_minor()),
        ("damaged/cut.trace", whole[..middle.start + 30].to_vec()),
        ("damaged/unfinished.trace", whole[..middle.start].to_vec()),
        ("damaged/bit-flip.trace", changed(&|bytes| bytes[middle.start + 20] ^= 4)),
        ("damaged/zero-page.trace", changed(&|bytes| bytes[20_000..24_096].fill(0))),
        ("damaged/header-flip.trace", changed(&|bytes| bytes[found[0].start + 30] ^= 1)),
        ("damaged/repeated-block.trace", repeated),
        ("damaged/missing-block.trace", missing),
        ("damaged/newer-major.trace", changed(&|bytes| bytes[5] = b'2')),
        ("damaged/major-9.trace", changed(&|bytes| bytes[5] = b'9')),
        ("damaged/text-mode.trace", text),
        ("damaged/empty.trace", Vec::new()),
    ]
}

pub(super) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/trace")
}

/// Returns [`events`] as they read back.
pub(super) fn expected() -> Vec<Exchange> {
    Assembler::all(events().into_iter().map(ticked))
}

/// Returns an event as it reads back: frame stamps in whole microseconds.
pub(super) fn ticked(event: Event) -> Event {
    let tick = |at: Nanos| Nanos(at.0 / 1_000 * 1_000);
    match event {
        Event::Frame(frame) => {
            Event::Frame(Frame { at: tick(frame.at), accepted: tick(frame.accepted), ..frame })
        }
        Event::Bare(frame) => {
            Event::Bare(BareFrame { at: tick(frame.at), accepted: tick(frame.accepted), ..frame })
        }
        other => other,
    }
}

/// Checks that each file is there; makes those that are not when told to.
pub(super) fn make_missing(files: Vec<(&str, Vec<u8>)>) {
    let bless = std::env::var_os("REENACT_BLESS").is_some();
    for (name, bytes) in files {
        let path = folder().join(name);
        if bless && !path.exists() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, bytes).unwrap();
        }
        assert!(path.exists(), "{name} is missing: REENACT_BLESS=1 cargo test golden makes it");
    }
}

/// The header of a trace whose policy keeps hashes of prompts.
pub(super) fn hashed_header() -> Header {
    let policy = PolicyMark {
        digest: [7; 32],
        bodies: BodyMode::Hash.code(),
        only_allowed_headers: true,
        only_allowed_parameters: false,
        pointers: 1,
        patterns: 300,
    };
    Header { policy: Some(policy), ..header() }
}

/// An exchange without its bodies' bytes.
pub(super) fn hashed() -> Vec<Event> {
    let mut events = vec![
        request(1, 1_000_000, Method::POST, "/v1/chat/completions"),
        frame(1, Side::Request, 2_000_000, vec![b'*'; 700]),
        response(1, 3_000_000, 200),
        frame(1, Side::Response, 4_000_000, vec![b'*'; 60]),
        Event::Prompt(Box::new(Prompt {
            exchange: ExchangeId(1),
            at: Nanos(5_000_000),
            bytes: 600,
            block_bytes: 512,
            blocks: vec![u64::MAX, 7],
            input_tokens: Some(150),
            output_tokens: None,
        })),
    ];
    events.push(end(&events, 1, 5_000_000, Outcome::Complete));
    events
}
