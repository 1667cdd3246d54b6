//! HTTP/2 clients that are no honest ones: what is malformed goes no further, floods end, and others are served meanwhile.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use reenact::http::Limits;
use reenact::trace::record::{FaultKind, FaultSide, Outcome};

use crate::support::frames::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, Frame, Frames, GET, GO_AWAY, HEADERS,
    INITIAL_WINDOW, PING, RESET, SETTINGS, field, frame, request,
};
use crate::support::{Peer, Recording, Setup, Upstream};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
/// The first byte of a head that says `200`, and of one that says `400`, by HPACK's static table.
const SAYS_200: u8 = 0x88;
const SAYS_400: u8 = 0x8c;

/// An upstream that notes each request and answers it.
fn noting() -> (Upstream, Arc<Mutex<Vec<String>>>) {
    let notes: Arc<Mutex<Vec<String>>> = Arc::default();
    let noted = Arc::clone(&notes);
    let upstream = Upstream::start(move |mut peer| {
        while let Some(message) = peer.try_message() {
            noted.lock().unwrap().push(message);
            peer.send(OK);
        }
    });
    (upstream, notes)
}

/// An honest client is served.
#[track_caller]
fn check_served(recording: &Recording) {
    let mut peer: Peer = recording.connect();
    peer.send("GET /honest HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(peer.message(), OK);
    let mut frames = Frames::connect(recording.address, &[]);
    frames.peer.send(request(1, END_STREAM, &GET));
    assert_eq!(frames.until(&[HEADERS]).unwrap().payload[0], SAYS_200);
}

/// Sends a request head with these fields, and what follows it. Returns the first answer of any kind, and what the
/// upstream saw.
fn ask(fields: &[(&str, &str)], body: &[Vec<u8>]) -> (Option<Frame>, Vec<String>) {
    let (upstream, notes) = noting();
    let recording = Recording::of(upstream.url());
    let mut frames = Frames::connect(recording.address, &[]);
    let flags = if body.is_empty() { END_STREAM } else { 0 };
    frames.peer.send(request(1, flags, fields));
    for frame in body {
        let _sent = frames.peer.try_send(frame);
    }
    let answer = frames.until(&[HEADERS, RESET, GO_AWAY]);
    drop(frames);
    check_served(&recording);
    drop(recording.finish());
    let mut seen = std::mem::take(&mut *notes.lock().unwrap());
    seen.retain(|message| !message.starts_with("GET /honest") && !message.starts_with("GET / "));
    (answer, seen)
}

/// Returns a request whose fields are a plain one's with `changes`: a pseudo field of the same name is replaced.
fn changed<'a>(changes: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut fields =
        vec![(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", "/asked")];
    for (name, value) in changes {
        match fields.iter_mut().find(|(other, _)| other == name) {
            Some(found) => found.1 = value,
            None => fields.push((name, value)),
        }
    }
    fields
}

/// Checks that a malformed request is answered with an error and goes no further.
#[track_caller]
fn check_malformed(fields: &[(&str, &str)]) {
    let (answer, seen) = ask(fields, &[]);
    assert!(seen.is_empty(), "{fields:?} went on as {seen:?}");
    let answer = answer.expect("an answer");
    let is_refused = answer.kind != HEADERS || answer.payload[0] == SAYS_400;
    assert!(is_refused, "{fields:?} was answered {answer:?}");
}

#[test]
fn malformed_requests_go_no_further() {
    for change in [
        // Fields of a connection (RFC 9113, 8.2.2).
        ("connection", "close"),
        ("connection", "x-a"),
        ("transfer-encoding", "chunked"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "close"),
        ("upgrade", "h2c"),
        ("te", "gzip"),
        // Names and values that would be something else in HTTP/1.1.
        ("X-Upper", "1"),
        ("x y", "1"),
        ("x:", "1"),
        ("x\r\ntransfer-encoding", "chunked"),
        ("", "1"),
        ("x", "1\r\nhost: b"),
        ("x", "1\n2"),
        ("x", "1\u{0}2"),
        // Pseudo fields that would be something else in a request line.
        (":path", ""),
        (":path", "asked"),
        (":path", "/asked HTTP/1.1\r\nx: y"),
        (":path", "/as ked"),
        (":path", "/as\nked"),
        (":authority", "a\r\nx: y"),
        (":authority", "a b"),
        (":authority", "u@a"),
        (":method", "GET / HTTP/1.1\r\n"),
        (":method", ""),
        (":scheme", "http\r\n"),
        (":status", "200"),
        (":unknown", "1"),
        // Lengths.
        ("content-length", "5"),
        ("content-length", "+0"),
        ("content-length", "x"),
        ("content-length", "0, 0"),
    ] {
        check_malformed(&changed(&[change]));
    }
    let plain = changed(&[]);
    for missing in 0..4 {
        // An authority may be in `host` instead, or nowhere.
        if plain[missing].0 != ":authority" {
            let mut fields = plain.clone();
            fields.remove(missing);
            check_malformed(&fields);
        }
    }
    check_malformed(&[&plain[..], &[(":path", "/other")]].concat());
    check_malformed(&[&[("x", "1")], &plain[..]].concat());
    check_malformed(&changed(&[("host", "a")]).repeat(2));
}

#[test]
fn a_body_of_another_length_than_was_said_is_not_made_whole() {
    for body in [
        vec![frame(DATA, END_STREAM, 1, b"abc")],
        vec![frame(DATA, 0, 1, b"abc"), frame(DATA, END_STREAM, 1, b"defg")],
        vec![frame(DATA, END_STREAM, 1, b"")],
    ] {
        let (answer, seen) = ask(&changed(&[("content-length", "5")]), &body);
        assert_ne!(answer.as_ref().map(|answer| answer.kind), Some(DATA));
        assert!(
            answer.is_none_or(|answer| answer.kind != HEADERS || answer.payload[0] != SAYS_200)
        );
        assert!(seen.is_empty(), "{body:?} went on as {seen:?}");
    }
    let (answer, seen) =
        ask(&changed(&[("content-length", "3")]), &[frame(DATA, END_STREAM, 1, b"abc")]);
    assert_eq!(answer.unwrap().payload[0], SAYS_200);
    assert!(seen[0].ends_with("\r\n\r\nabc"), "{seen:?}");
}

#[test]
fn a_request_becomes_one_of_http_1_1_with_one_host_and_one_cookie() {
    let fields = [("host", "b"), ("cookie", "a=1"), ("x", "1"), ("te", "trailers")];
    let fields = [&changed(&fields)[..], &[("cookie", "b=2")]].concat();
    let (answer, seen) = ask(&fields, &[]);
    assert_eq!(answer.unwrap().payload[0], SAYS_200);
    let head = seen[0].to_ascii_lowercase();
    assert!(head.starts_with("post /asked http/1.1\r\n"), "{head}");
    assert_eq!(head.matches("host: ").count(), 1);
    assert!(head.contains("\r\nhost: a\r\n"), "{head}");
    assert!(head.contains("\r\ncookie: a=1; b=2\r\n"), "{head}");
}

#[test]
fn streams_that_are_reset_one_after_the_other_end_the_connection() {
    let upstream = Upstream::start(|mut peer| {
        if peer
            .try_message()
            .is_some_and(|message| message.contains("/honest") || message.starts_with("GET / "))
        {
            peer.send(OK);
        }
        peer.rest();
    });
    let recording = Recording::of(upstream.url());
    let mut frames = Frames::connect(recording.address, &[]);
    let fields = changed(&[(":method", "GET")]);
    let mut sent = 0;
    for number in 0..20_000 {
        let stream = 2 * number + 1;
        let pair =
            [request(stream, END_STREAM, &fields), frame(RESET, 0, stream, &8_u32.to_be_bytes())];
        if !frames.peer.try_send(pair.concat()) {
            break;
        }
        sent = number;
    }
    assert!(sent < 19_999, "the connection was ended");
    drop(frames);
    check_served(&recording);
    let exchanges = recording.finish().exchanges();
    assert!(exchanges.len() < 10_000, "{} were let in", exchanges.len());
    for exchange in exchanges.iter().filter(|exchange| exchange.request.target == "/asked") {
        assert_eq!(exchange.end.as_ref().unwrap().outcome, Outcome::Cancelled);
    }
}

#[test]
fn a_header_section_without_end_ends_the_connection() {
    let (upstream, notes) = noting();
    let recording = Recording::of(upstream.url());
    for part in [field("x", &"y".repeat(100)).repeat(100), Vec::new()] {
        let mut frames = Frames::connect(recording.address, &[]);
        let block: Vec<u8> = GET.iter().flat_map(|(name, value)| field(name, value)).collect();
        frames.peer.send(frame(HEADERS, END_STREAM, 1, &block));
        let endless = frame(CONTINUATION, 0, 1, &part);
        let ended = (0..100_000).any(|_| !frames.peer.try_send(&endless));
        assert!(ended, "{} bytes each", part.len());
        check_served(&recording);
    }
    drop(recording.finish());
    assert_eq!(notes.lock().unwrap().len(), 4, "the honest ones");
}

#[test]
fn a_header_section_beyond_the_limit_is_refused_and_the_connection_goes_on() {
    let (upstream, _notes) = noting();
    let recording = Recording::of(upstream.url());
    let mut frames = Frames::connect(recording.address, &[]);
    let plain: Vec<u8> = GET.iter().flat_map(|(name, value)| field(name, value)).collect();
    let more = field("x", &"y".repeat(100)).repeat(150);
    frames.peer.send(frame(HEADERS, END_STREAM, 1, &[plain, more.clone()].concat()));
    for _ in 0..3 {
        frames.peer.send(frame(CONTINUATION, 0, 1, &more));
    }
    frames.peer.send(frame(CONTINUATION, END_HEADERS, 1, &more));
    // `431` has no place in the static table: its digits are there, or a reset.
    let answer = frames.until(&[HEADERS, RESET, GO_AWAY]).unwrap();
    assert_ne!(answer.kind, GO_AWAY, "{answer:?}");
    assert_ne!(answer.payload[0], SAYS_200, "{answer:?}");
    frames.peer.send(request(3, END_STREAM, &GET));
    let answer = frames.until(&[HEADERS]).unwrap();
    assert_eq!((answer.stream, answer.payload[0]), (3, SAYS_200));
    drop(recording.finish());
}

#[test]
fn too_many_fields_are_refused_on_the_record() {
    let (upstream, notes) = noting();
    let recording = Recording::of(upstream.url());
    let mut frames = Frames::connect(recording.address, &[]);
    let fields = [&GET[..], &vec![("x", "y"); 101]].concat();
    frames.peer.send(request(1, END_STREAM, &fields));
    assert_ne!(frames.until(&[HEADERS]).unwrap().payload[0], SAYS_200);
    frames.peer.send(request(3, END_STREAM, &GET));
    assert_eq!(frames.until(&[HEADERS]).unwrap().payload[0], SAYS_200, "the connection goes on");
    drop(frames);
    let exchanges = recording.finish().exchanges();
    assert_eq!(exchanges[0].response.as_ref().unwrap().status, 431);
    assert_eq!(notes.lock().unwrap().len(), 1);
}

#[test]
fn floods_of_settings_and_pings_harm_nobody() {
    let (upstream, _notes) = noting();
    let limits = Limits { write_stall: Duration::from_millis(300), ..Limits::default() };
    let mut setup = Setup::new(&[upstream.url()]);
    setup.server.limits = limits;
    let recording = setup.start();
    for flood in [frame(SETTINGS, 0, 0, &[]), frame(PING, 0, 0, &[7; 8])] {
        let mut frames = Frames::connect(recording.address, &[]);
        let many = flood.repeat(1000);
        // Never reads what comes back: it is ended, by the protocol or since it takes nothing.
        let ended = (0..10_000).any(|_| !frames.peer.try_send(&many));
        assert!(ended, "{flood:?}");
        check_served(&recording);
        // One that does read is served.
        let mut frames = Frames::connect(recording.address, &[]);
        frames.peer.send(flood.repeat(20));
        for _ in 0..20 {
            let answered = frames.until(&[flood[3]]).unwrap();
            assert!(answered.flags == ACK || answered.kind == SETTINGS);
        }
        frames.peer.send(request(1, END_STREAM, &GET));
        assert_eq!(frames.until(&[HEADERS]).unwrap().payload[0], SAYS_200);
    }
    drop(recording.finish());
}

#[test]
fn a_client_that_gives_a_stream_no_window_is_let_go() {
    let (closed, closes) = std::sync::mpsc::channel();
    let upstream = Upstream::start(move |mut peer| {
        let Some(message) = peer.try_message() else { return };
        if message.starts_with("GET /asked") {
            peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n");
            peer.rest();
            closed.send(()).unwrap();
        } else {
            peer.send(OK);
        }
    });
    let mut setup = Setup::new(&[upstream.url()]);
    setup.server.limits.write_stall = Duration::from_millis(300);
    let recording = setup.start();
    // No window at all, and one that is used up.
    for window in [0, 2] {
        let mut frames = Frames::connect(recording.address, &[(INITIAL_WINDOW, window)]);
        frames.peer.send(request(1, END_STREAM, &changed(&[(":method", "GET")])));
        assert_eq!(frames.until(&[HEADERS]).unwrap().payload[0], SAYS_200);
        if window > 0 {
            // It took all that there was: the upstream is slow, and the client is not to blame.
            assert_eq!(frames.until(&[DATA]).unwrap().payload, b"hi");
            assert!(closes.recv_timeout(Duration::from_millis(900)).is_err());
            frames.peer.send(frame(RESET, 0, 1, &8_u32.to_be_bytes()));
        } else {
            assert_eq!(frames.until(&[RESET]).unwrap().stream, 1);
        }
        closes.recv_timeout(Duration::from_secs(10)).expect("the upstream is let go");
        frames.peer.send(request(3, END_STREAM, &GET));
        assert_eq!(frames.until(&[HEADERS]).unwrap().stream, 3, "the connection goes on");
    }
    let exchanges = recording.finish().exchanges();
    let end = exchanges[0].end.clone().unwrap();
    let fault = end.fault.unwrap();
    assert_eq!(
        (end.outcome, fault.side, fault.kind),
        (Outcome::Failed, FaultSide::Client, FaultKind::Timeout)
    );
    let end = exchanges[2].end.clone().unwrap();
    assert_eq!(end.outcome, Outcome::Cancelled);
}

#[test]
fn a_connection_without_streams_is_let_go() {
    let (upstream, _notes) = noting();
    let mut setup = Setup::new(&[upstream.url()]);
    setup.server.limits.keep_alive = Duration::from_millis(300);
    setup.server.limits.header = Duration::from_millis(300);
    let recording = setup.start();
    let mut frames = Frames::connect(recording.address, &[]);
    frames.peer.send(request(1, END_STREAM, &GET));
    assert!(frames.until(&[GO_AWAY]).is_some());
    frames.peer.rest();
    drop(recording.finish());
}

#[test]
fn streams_beyond_the_limit_are_refused() {
    let upstream = Upstream::start(|mut peer| {
        peer.head();
        peer.rest();
    });
    let mut setup = Setup::new(&[upstream.url()]);
    setup.server.limits.max_streams = 3;
    setup.drain = Duration::from_millis(100);
    let recording = setup.start();
    let mut frames = Frames::connect(recording.address, &[]);
    // The limit holds from the moment that the client has said that it knows of it.
    frames.until(&[SETTINGS]).unwrap();
    frames.peer.send(frame(SETTINGS, ACK, 0, &[]));
    for stream in [1, 3, 5, 7] {
        frames.peer.send(request(stream, END_STREAM, &GET));
    }
    assert_eq!(frames.until(&[RESET, GO_AWAY]).unwrap().stream, 7);
    drop(frames);
    assert_eq!(recording.finish().exchanges().len(), 3);
}
