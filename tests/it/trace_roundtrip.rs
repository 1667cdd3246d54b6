//! What is written is what is read: whole, by exchange, and by request.

use std::path::Path;

use base64::Engine as _;
use proptest::prelude::*;
use reenact::clock::Nanos;
use reenact::trace::record::{Event, ExchangeId, Side, Trailers};
use reenact::trace::{Assembler, Trace, Writer, WriterOptions};

use crate::support::{identities, recipients};
use crate::trace_events::{Numbers, bare, end, frame, header, millis, request, response, ticked};

/// Small limits, so that little traffic makes many blocks and zstd frames.
fn small() -> WriterOptions {
    WriterOptions {
        frame_bytes: 20_000,
        block_bytes: 3_000,
        blob_entries: 50,
        ..WriterOptions::default()
    }
}

fn write(path: &Path, events: &[Event], options: WriterOptions) {
    let mut writer = Writer::create(path, header(), options).unwrap();
    let mut flushed = Nanos::ZERO;
    for event in events {
        if event.at() > flushed + std::time::Duration::from_millis(100) {
            flushed = event.at();
            writer.flush(flushed).unwrap();
        }
        writer.append(event.clone()).unwrap();
    }
    writer.finish().unwrap();
}

#[track_caller]
fn check(events: &[Event], options: WriterOptions) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.trace");
    write(&path, events, options);
    let written = Assembler::all(events.iter().cloned().map(ticked));
    let mut trace = Trace::open_with(&path, &identities(&[0])).unwrap();
    assert!(trace.health().complete, "{:?}", trace.health());
    let mut scan = trace.scan().unwrap().checked();
    let scanned = Assembler::all(scan.by_ref().map(Result::unwrap));
    assert_eq!((scan.losses(), scan.missing()), (&[][..], Default::default()));
    assert_eq!(scanned, written);
    assert_eq!([trace.exchanges(), trace.entries().len()], [written.len(); 2]);
    for exchange in &written {
        let id = exchange.request.exchange;
        assert_eq!(trace.exchange(id).unwrap().as_ref(), Some(exchange));
        let alone = trace.request(id).unwrap().unwrap();
        assert_eq!(alone.request, exchange.request);
        assert_eq!(alone.request_frames, exchange.request_frames);
        assert_eq!(alone.request_bare, exchange.request_bare);
        assert_eq!(alone.request_trailers, exchange.request_trailers);
    }
    assert_eq!(trace.exchange(ExchangeId(1 << 40)).unwrap(), None);
}

#[test]
fn a_streamed_chat_reads_back() {
    let mut events = vec![request(1, millis(1), "/v1/chat/completions")];
    events.push(frame(1, Side::Request, millis(1), r#"{"model":"m","stream":true}"#));
    events.push(response(1, millis(20), "text/event-stream"));
    for n in 0..50 {
        events.push(frame(
            1,
            Side::Response,
            millis(20 + n * 20),
            format!("data: {{\"n\":{n}}}\n\n"),
        ));
    }
    events.push(end(1, millis(1_100)));
    check(&events, WriterOptions::default());
}

#[test]
fn an_image_that_is_sent_again_reads_back() {
    let image = base64::engine::general_purpose::STANDARD.encode(Numbers::new(1).bytes(300_000));
    let mut events = Vec::new();
    for id in 1..5 {
        events.push(request(id, millis(id * 1_000), "/api/generate"));
        let body = format!(r#"{{"prompt":"{id}","images":["{image}"]}}"#);
        for (n, part) in (0..).zip(body.as_bytes().chunks(40_000)) {
            events.push(frame(id, Side::Request, millis(id * 1_000 + n * 20), part.to_vec()));
        }
        events.push(end(id, millis(id * 1_000 + 900)));
    }
    check(&events, WriterOptions::default());
    check(&events, small());
}

fn body_part() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..300),
        1 => Just(Vec::new()),
        2 => "[a-z {}]{0,3000}".prop_map(String::into_bytes),
        2 => (any::<u64>(), 0..6_000_usize).prop_map(|(seed, len)| {
            base64::engine::general_purpose::STANDARD
                .encode(Numbers::new(seed % 4).bytes(len))
                .into_bytes()
        }),
    ]
}

/// One step of the traffic: which exchange, what, how much later.
fn step() -> impl Strategy<Value = (usize, u8, Vec<u8>, u64)> {
    (1..6_usize, 0..12_u8, body_part(), 0..200_000_000_u64)
}

fn traffic(steps: Vec<(usize, u8, Vec<u8>, u64)>) -> Vec<Event> {
    let mut now = 0;
    let mut ids = [0_u64; 6];
    let mut sides = [[true; 2]; 6];
    let mut next = 1;
    let mut events = Vec::new();
    for (slot, what, data, later) in steps {
        now += later;
        if ids[slot] == 0 {
            ids[slot] = next;
            sides[slot] = [true; 2];
            next += 1;
            events.push(request(ids[slot], Nanos(now), "/any"));
            continue;
        }
        let (id, idx) = (ids[slot], usize::from(what % 2));
        let side = [Side::Request, Side::Response][idx];
        match what {
            0..=6 if sides[slot][idx] => events.push(frame(id, side, Nanos(now), data)),
            10.. if sides[slot][idx] => {
                events.push(bare(id, side, Nanos(now), data.len() as u64));
            }
            7 => events.push(response(id, Nanos(now), "text/plain")),
            8 if sides[slot][idx] => {
                sides[slot][idx] = false;
                events.push(Event::Trailers(Box::new(Trailers {
                    exchange: ExchangeId(id),
                    side,
                    at: Nanos(now),
                    headers: [("x-sum".parse().unwrap(), "1".parse().unwrap())]
                        .into_iter()
                        .collect(),
                })));
            }
            _ => {
                events.push(end(id, Nanos(now)));
                ids[slot] = 0;
            }
        }
    }
    events
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn any_traffic_reads_back(steps in prop::collection::vec(step(), 0..60)) {
        check(&traffic(steps), small());
    }

    #[test]
    fn any_traffic_reads_back_encrypted(steps in prop::collection::vec(step(), 0..60)) {
        check(&traffic(steps), WriterOptions { recipients: recipients(&[1, 0]), ..small() });
    }
}
