//! Events for the trace tests: the shapes of traffic that a recorder sees, made from a seed.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use reenact::clock::{Anchor, Nanos};
use reenact::trace::FLUSH_EVERY;
use reenact::trace::record::{
    BareFrame, End, Event, ExchangeId, Frame, Header, Outcome, Passed, RequestHead, ResponseHead,
    Side, Version,
};

/// A small deterministic generator of numbers.
#[derive(Clone, Debug)]
pub(crate) struct Numbers(u64);

pub(crate) fn header() -> Header {
    Header {
        trace: [7; 16],
        segment: 0,
        anchor: Anchor(1_700_000_000_000_000_000),
        tick_ns: 1_000,
        tool: "reenact test".to_owned(),
        listen: "127.0.0.1:8080".to_owned(),
        upstreams: vec!["http://127.0.0.1:8000".to_owned()],
        redacted: vec!["authorization".to_owned()],
        sampled_ppm: 1_000_000,
        policy: None,
    }
}

pub(crate) fn millis(ms: u64) -> Nanos {
    Nanos(ms * 1_000_000)
}

pub(crate) fn request(exchange: u64, at: Nanos, target: &str) -> Event {
    let mut headers = HeaderMap::new();
    headers.insert("host", HeaderValue::from_static("127.0.0.1:8080"));
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    headers.insert("user-agent", HeaderValue::from_static("OpenAI/Python 1.99.0"));
    headers.insert("authorization", HeaderValue::from_static("redacted:5f0c3a77"));
    Event::Request(Box::new(RequestHead {
        exchange: ExchangeId(exchange),
        at,
        connection: exchange,
        version: Version::Http11,
        method: Method::POST,
        target: target.to_owned(),
        authority: Some("127.0.0.1:8080".to_owned()),
        headers,
        upstream: 0,
    }))
}

pub(crate) fn response(exchange: u64, at: Nanos, content_type: &'static str) -> Event {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static(content_type));
    headers.insert("server", HeaderValue::from_static("uvicorn"));
    Event::Response(Box::new(ResponseHead {
        exchange: ExchangeId(exchange),
        at,
        version: Version::Http11,
        status: StatusCode::OK,
        reason: None,
        headers,
    }))
}

pub(crate) fn frame(exchange: u64, side: Side, at: Nanos, data: impl Into<Bytes>) -> Event {
    let accepted = Nanos(at.0 + 40_000);
    Event::Frame(Frame { exchange: ExchangeId(exchange), side, at, accepted, data: data.into() })
}

pub(crate) fn bare(exchange: u64, side: Side, at: Nanos, len: u64) -> Event {
    let accepted = Nanos(at.0 + 40_000);
    Event::Bare(BareFrame { exchange: ExchangeId(exchange), side, at, accepted, len })
}

pub(crate) fn end(exchange: u64, at: Nanos) -> Event {
    Event::End(Box::new(End {
        exchange: ExchangeId(exchange),
        at,
        outcome: Outcome::Complete,
        fault: None,
        request: Passed { ended: true, ..Passed::default() },
        response: Passed { ended: true, ..Passed::default() },
    }))
}

/// What a recorder does next.
pub(crate) enum Step {
    /// It appends this.
    Event(Event),
    /// It flushes, now that it is this time.
    Flush(Nanos),
}

/// Hands out `events`, which are in the order of time, with the flushes that a recorder makes between them and one at the end.
pub(crate) fn with_flushes(events: Vec<Event>, mut step: impl FnMut(Step)) {
    let mut next = Nanos::ZERO + FLUSH_EVERY;
    for event in events {
        while event.at() >= next {
            step(Step::Flush(next));
            next += FLUSH_EVERY;
        }
        step(Step::Event(event));
    }
    step(Step::Flush(next));
}

/// Returns the end of an exchange that all of `events` belong to or pass by, with its totals.
pub(crate) fn end_after(events: &[Event], exchange: u64, at: Nanos) -> Event {
    let passed = |side: Side| {
        let mut passed = Passed { ended: true, ..Passed::default() };
        for event in events {
            let (of, len, lost) = match event {
                Event::Frame(frame) => ((frame.exchange, frame.side), frame.data.len() as u64, 0),
                Event::Bare(frame) => ((frame.exchange, frame.side), frame.len, 1),
                _ => continue,
            };
            if of == (ExchangeId(exchange), side) {
                passed.frames += 1;
                passed.bytes += len;
                passed.lost_frames += lost;
                passed.lost_bytes += lost * len;
            }
        }
        passed
    };
    let Event::End(end) = end(exchange, at) else { unreachable!() };
    let (request, response) = (passed(Side::Request), passed(Side::Response));
    Event::End(Box::new(End { request, response, ..*end }))
}

/// Returns an event as it reads back: frame stamps rounded down to the microsecond.
pub(crate) fn ticked(event: Event) -> Event {
    let tick = |at: Nanos| Nanos(at.0 / 1_000 * 1_000);
    match event {
        Event::Bare(frame) => {
            Event::Bare(BareFrame { at: tick(frame.at), accepted: tick(frame.accepted), ..frame })
        }
        Event::Frame(frame) => {
            Event::Frame(Frame { at: tick(frame.at), accepted: tick(frame.accepted), ..frame })
        }
        other => other,
    }
}

// === impl Numbers ===

impl Numbers {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len + 8);
        while bytes.len() < len {
            bytes.extend_from_slice(&self.next().to_le_bytes());
        }
        bytes.truncate(len);
        bytes
    }
}
