//! The events in the frozen files of `golden.rs`.

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use crate::clock::{Anchor, Nanos};
use crate::trace::record::{
    BareFrame, BodyMode, DropReason, End, Event, ExchangeId, Fault, FaultKind, FaultSide, Frame,
    Gap, Header, Interim, Link, Omission, OmitReason, Outcome, Passed, PolicyMark, Prompt,
    RequestHead, ResponseHead, Side, Trailers, Version,
};
use crate::trace::split::encode_base64;
use crate::trace::wire::len_u64;

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

pub(super) fn request(exchange: u64, at: u64, method: Method, target: &str) -> Event {
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

pub(super) fn end(events: &[Event], exchange: u64, at: u64, outcome: Outcome) -> Event {
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
pub(super) fn events() -> Vec<Event> {
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
