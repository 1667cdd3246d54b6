//! What is fuzzed: bytes in, a panic when something does not hold. Shared by cargo-fuzz (`fuzz_targets/`) and by a test that
//! needs nothing but a stable toolchain (`tests/it/fuzz.rs`).
#![allow(dead_code, reason = "each fuzz target is a program of its own and uses one of these")]
#![allow(clippy::unwrap_used, reason = "a target that panics has found something")]

use std::io::Write as _;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Version};
use reenact::dialect::{SseEvent, SseReader};
use reenact::http::heads::Heads;
use reenact::proxy::hops::{self, Hop};
use reenact::proxy::websocket::Cutter;
use reenact::trace::record::Side;
use reenact::trace::{ReadOptions, Trace, TraceError, parse_keys, verify};

/// Opens the encrypted traces of the corpus.
const IDENTITY: &str = include_str!("../../fixtures/trace/identity.txt");

/// A trace file of any bytes is read, or refused, and what can be read is the same twice.
pub(crate) fn trace(data: &[u8]) {
    let mut file = tempfile::Builder::new().suffix(".trace").tempfile().unwrap();
    file.write_all(data).unwrap();
    let options = ReadOptions { identities: parse_keys(IDENTITY).unwrap() };
    let Ok(mut trace) = Trace::open_with(file.path(), &options) else { return };
    let ids: Vec<_> = trace.entries().iter().map(|entry| entry.id).collect();
    for id in ids.iter().take(8) {
        let _read: Result<_, TraceError> = trace.exchange(*id);
    }
    let count = |trace: &Trace| trace.scan().map(|scan| scan.take(10_000).count()).ok();
    assert_eq!(count(&trace), count(&trace));
    let _verified = verify(&trace);
}

/// Events are the same however the bytes are cut; the first byte says how.
pub(crate) fn sse(data: &[u8]) {
    let Some((piece, body)) = data.split_first() else { return };
    let read = |size: usize| {
        let mut events = Vec::new();
        let mut reader = SseReader::default();
        for piece in body.chunks(size) {
            reader.push(piece, |event| events.push(kept(&event)));
        }
        reader.finish(|event| events.push(kept(&event)));
        events
    };
    assert_eq!(read(usize::from(*piece).max(1)), read(body.len().max(1)));
}

fn kept(event: &SseEvent<'_>) -> (Vec<u8>, Option<Vec<u8>>) {
    (event.name.to_vec(), event.data.map(<[u8]>::to_vec))
}

/// The bytes of a tunnel come out as they went in, and at the same bounds however they are cut.
pub(crate) fn websocket(data: &[u8]) {
    let Some((piece, body)) = data.split_first() else { return };
    for side in [Side::Request, Side::Response] {
        let cut = |size: usize| {
            let mut cutter = Cutter::new(side);
            let mut pieces = Vec::new();
            for piece in body.chunks(size) {
                cutter.push(Bytes::copy_from_slice(piece), |piece| pieces.push(piece));
            }
            pieces.extend(cutter.finish());
            pieces
        };
        let (cut, whole) = (cut(usize::from(*piece).max(1)), cut(body.len().max(1)));
        assert_eq!(cut.concat(), body);
        assert_eq!(whole.concat(), body);
        // Only what is no WebSocket, or too large to hold, is cut otherwise: then each bound of the whole is one of the cut.
        let bounds = |pieces: &[Bytes]| {
            let mut at = 0;
            pieces
                .iter()
                .map(|piece| {
                    at += piece.len();
                    at
                })
                .collect::<Vec<_>>()
        };
        let finer = bounds(&cut);
        assert!(bounds(&whole).iter().all(|bound| finer.contains(bound)));
    }
}

/// A client is followed alike however its bytes come.
pub(crate) fn heads(data: &[u8]) {
    let Some((piece, body)) = data.split_first() else { return };
    let follow = |size: usize| {
        let mut heads = Heads::new(1 << 10);
        let flaw = body.chunks(size).find_map(|bytes| heads.advance(bytes));
        (flaw, heads.count(), heads.is_within())
    };
    let (cut, whole) = (follow(usize::from(*piece).max(1)), follow(body.len().max(1)));
    // How much of a head is waited for depends on how it comes.
    if body.len() <= 1 << 10 {
        assert_eq!(cut, whole);
    }
}

/// Fields (a line each, `name:value`) are passed on by the rules, in their order.
pub(crate) fn hops(data: &[u8]) {
    let mut received = HeaderMap::new();
    for line in data.split(|byte| *byte == b'\n').take(64) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(&line[..colon]), HeaderValue::from_bytes(&line[colon + 1..]))
        {
            received.append(name, value);
        }
    }
    for onward in [Version::HTTP_11, Version::HTTP_2] {
        let upgrade = hops::upgrade(&received);
        let hop = Hop { onward, upgrade, host: None, via: None };
        let passed = hops::forward(received.clone(), hop);
        for name in ["keep-alive", "proxy-connection", "http2-settings"] {
            assert!(!passed.contains_key(name), "{name}");
        }
        assert_eq!(passed.contains_key("upgrade"), upgrade.is_some());
        let h2c = HeaderValue::from_static("h2c");
        assert!(upgrade.is_none_or(|asked| !hops::offers(asked, &h2c)));
        assert!(passed.get_all("connection").iter().all(|value| value == "Upgrade"));
        assert!(passed.get_all("te").iter().all(|value| value == "trailers"));
        for name in
            ["host", "content-length", "content-type", "authorization", "cookie", "x-forwarded-for"]
        {
            assert!(received.get_all(name).iter().eq(passed.get_all(name).iter()), "{name}");
        }
        // What stays, stays in its order.
        let mut names = received.keys();
        assert!(passed.keys().all(|name| names.any(|other| other == name)), "order");
        assert_eq!(hops::forward(passed.clone(), hop), passed, "done once, nothing is left to do");
    }
}
