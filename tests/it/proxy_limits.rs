//! How much of a client is borne, and how long it is waited for: who goes beyond is let go, on the record if it was
//! admitted, and honest clients are served meanwhile.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use reenact::http::{Budget, Limits};
use reenact::proxy::Bounds;
use reenact::trace::record::{End, FaultKind, FaultSide, Outcome};

use crate::support::{Peer, Setup, Upstream};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
/// Short enough to wait for, long enough for an honest client on a busy machine.
const SHORT: Duration = Duration::from_millis(300);
/// What is not under test does not get in the way.
const LONG: Duration = Duration::from_secs(600);

/// Limits that nobody meets.
fn lenient() -> Limits {
    Limits {
        handshake: LONG,
        first_byte: LONG,
        header: LONG,
        keep_alive: LONG,
        write_stall: LONG,
        ..Limits::default()
    }
}

fn setup(upstream: &Upstream, limits: Limits) -> Setup {
    let mut setup = Setup::new(&[upstream.url()]);
    setup.server.limits = limits;
    setup.proxy.bounds = Bounds { upload_stall: LONG, ..Bounds::default() };
    setup
}

#[track_caller]
fn check_fault(end: End, side: FaultSide, kind: FaultKind) {
    assert_eq!(end.outcome, Outcome::Failed, "{end:?}");
    let fault = end.fault.unwrap();
    assert_eq!((fault.side, fault.kind), (side, kind), "{fault:?}");
}

#[test]
fn too_long_and_too_many_are_refused() {
    let upstream = Upstream::answering(OK);
    let recording = setup(&upstream, lenient()).start();
    for (head, status, code) in [
        (format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(17 << 10)), 414, "uri-too-long"),
        // Longer than a head may be, and with more fields; whole, and never so.
        (format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(65 << 10)), 431, ""),
        (format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: 1\r\n".repeat(100)), 431, ""),
        (format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(64 << 10)), 431, ""),
        (format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "x".repeat(1 << 20)), 431, ""),
    ] {
        let mut peer = recording.connect();
        // The refusal may come before all of it was taken.
        let _sent = peer.try_send(&head);
        let got = String::from_utf8(peer.rest()).unwrap();
        assert!(got.starts_with(&format!("HTTP/1.1 {status} ")), "{:?}: {got}", &head[..20]);
        assert!(got.contains(code), "{got}");
    }
    let mut honest = recording.connect();
    honest.send(format!(
        "GET /{} HTTP/1.1\r\nHost: a\r\n{}\r\n",
        "x".repeat(15 << 10),
        "X: 1\r\n".repeat(99)
    ));
    assert_eq!(honest.message(), OK);
    let exchanges = recording.finish().exchanges();
    assert_eq!(exchanges.len(), 2, "what hyper could not read was not admitted");
    check_fault(exchanges[0].end.clone().unwrap(), FaultSide::Client, FaultKind::Protocol);
}

#[test]
fn a_client_that_does_not_begin_or_goes_on_too_slowly_is_let_go() {
    let upstream = Upstream::answering(OK);
    // Each with one limit short: what it sends, and whether it had been served before.
    for (limits, begun, served) in [
        (Limits { first_byte: SHORT, ..lenient() }, "", false),
        (Limits { header: SHORT, ..lenient() }, "GET / HTTP/1.1\r\nX", false),
        (Limits { header: SHORT, ..lenient() }, "GET / HTTP/1.1\r\nX", true),
        (Limits { keep_alive: SHORT, ..lenient() }, "", true),
    ] {
        let recording = setup(&upstream, limits).start();
        let mut peer = recording.connect();
        if served {
            peer.send(GET);
            assert_eq!(peer.message(), OK);
        }
        peer.send(begun);
        assert!(peer.rest().is_empty(), "{begun:?} after {served}");
        let expected = usize::from(served);
        assert_eq!(recording.finish().exchanges().len(), expected, "what was no request is none");
    }
}

#[test]
fn a_head_that_comes_byte_by_byte_has_no_more_time_than_another() {
    let upstream = Upstream::answering(OK);
    let recording = setup(&upstream, Limits { header: SHORT, ..lenient() }).start();
    let mut peer = recording.connect();
    peer.send("GET / HTTP/1.1\r\nX: ");
    // Each byte is well within the time; all of them are not.
    let mut sent = 0;
    while sent < 1000 && peer.try_send("x") {
        thread::park_timeout(SHORT / 10);
        sent += 1;
    }
    assert!(sent < 1000, "the connection is still open");
    drop(recording.finish());
}

#[test]
fn a_pause_within_a_response_is_no_pause_between_requests() {
    // The response takes longer than a client may be silent.
    let upstream = Upstream::start(|mut peer| {
        while peer.try_message().is_some() {
            peer.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nh");
            thread::park_timeout(SHORT * 3);
            peer.send("i");
        }
    });
    let limits = Limits { first_byte: SHORT, header: SHORT, keep_alive: SHORT, ..lenient() };
    let recording = setup(&upstream, limits).start();
    let mut peer = recording.connect();
    // Half of the second request waits behind the first.
    peer.send(GET.to_owned() + "GET / HTTP/1.1\r\n");
    assert_eq!(peer.message(), OK);
    peer.send("Host: a\r\n\r\n");
    assert_eq!(peer.message(), OK);
    drop(recording.finish());
}

#[test]
fn a_client_that_stops_uploading_gets_a_408() {
    let upstream = Upstream::start(|mut peer| {
        peer.head();
        assert!(peer.rest().starts_with(b"begin"), "what came went on, without an end");
    });
    for framing in
        ["Content-Length: 100\r\n\r\nbegin", "Transfer-Encoding: chunked\r\n\r\n5\r\nbegin\r\n"]
    {
        let mut setup = setup(&upstream, lenient());
        setup.proxy.bounds.upload_stall = SHORT;
        let recording = setup.start();
        let mut peer = recording.connect();
        peer.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}"));
        let got = String::from_utf8(peer.rest()).unwrap();
        assert!(got.starts_with("HTTP/1.1 408 "), "{got}");
        assert!(got.contains("x-reenact-error: slow-upload"), "{got}");
        let exchange = recording.finish().only();
        assert_eq!(exchange.request_body(), "begin");
        check_fault(exchange.end.unwrap(), FaultSide::Client, FaultKind::Timeout);
    }
}

#[test]
fn a_client_that_does_not_read_is_let_go_and_the_upstream_too() {
    let (closed, closes) = std::sync::mpsc::channel();
    let upstream = Upstream::start(move |mut peer| {
        peer.head();
        peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        let chunk = format!("{:x}\r\n{}\r\n", 64 << 10, "x".repeat(64 << 10));
        // Far more than sockets hold.
        while peer.try_send(&chunk) {}
        closed.send(()).unwrap();
    });
    let recording = setup(&upstream, Limits { write_stall: SHORT, ..lenient() }).start();
    let mut peer = recording.connect();
    peer.send(GET);
    closes.recv_timeout(Duration::from_secs(20)).expect("the upstream is let go");
    drop(peer);
    check_fault(recording.finish().only().end.unwrap(), FaultSide::Client, FaultKind::Timeout);
}

#[test]
fn connections_beyond_the_limit_wait_their_turn() {
    let upstream = Upstream::answering(OK);
    let recording = setup(&upstream, Limits { max_connections: 2, ..lenient() }).start();
    let mut peers: Vec<_> = (0..3).map(|_| recording.connect()).collect();
    for peer in &mut peers {
        peer.send(GET);
    }
    assert_eq!(peers[0].message(), OK);
    assert_eq!(peers[1].message(), OK);
    assert!(peers[2].is_silent(SHORT), "two are served");
    peers.remove(0).close();
    assert_eq!(peers[1].message(), OK, "and the third when one has gone");
    drop(recording.finish());
}

#[test]
fn connections_to_upstreams_are_counted_and_freed() {
    let upstream = Upstream::answering(OK);
    let mut setup = setup(&upstream, lenient());
    setup.client.budget = Some(Budget::new(1));
    setup.client.connect_timeout = SHORT;
    let recording = setup.start();
    let mut first = recording.connect();
    first.send(GET);
    assert_eq!(first.message(), OK);
    let mut second = recording.connect();
    second.send(GET);
    let got = second.message();
    assert!(got.starts_with("HTTP/1.1 504 ") && got.contains("all that there may be"), "{got}");
    first.close();
    // The proxy hears of it a moment later.
    let served = (0..50).any(|_| {
        second.send(GET);
        second.message() == OK
    });
    assert!(served, "its place is free again");
    assert_eq!(upstream.accepted(), 2);
    drop(recording.finish());
}

#[test]
fn a_handshake_that_never_ends_is_broken_off() {
    let upstream = Upstream::answering(OK);
    let folder = tempfile::tempdir().unwrap();
    let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let mut setup = setup(&upstream, Limits { handshake: SHORT, ..lenient() });
    setup.server.tls = Some(reenact::http::tls::server_config(&cert, &key).unwrap());
    let recording = setup.start();
    // Nothing, and the beginning of a record.
    for begun in [&b""[..], b"\x16\x03\x01\x02\x00\x01"] {
        let mut peer: Peer = recording.connect();
        peer.send(begun);
        assert!(peer.rest().is_empty());
    }
    drop(recording.finish());
}

#[test]
fn many_slow_clients_lose_no_event_of_their_streams() {
    const CLIENTS: usize = 60;
    const EVENTS: usize = 200;
    let upstream = Upstream::start(|mut peer| {
        peer.head();
        peer.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
        for number in 0..EVENTS {
            // Large enough that what a slow client leaves unread fills the sockets.
            let event = format!("data: {number} {}\n\n", "x".repeat(4 << 10));
            peer.send(format!("{:x}\r\n{event}\r\n", event.len()));
        }
        peer.send("0\r\n\r\n");
        peer.rest();
    });
    let recording = Arc::new(setup(&upstream, lenient()).start());
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let recording = Arc::clone(&recording);
            thread::spawn(move || {
                let mut peer = recording.connect();
                peer.send(GET);
                peer.head();
                if number % 2 == 0 {
                    // Reads nothing at first, so that the other end has to wait.
                    thread::park_timeout(SHORT);
                }
                let body = String::from_utf8(peer.chunks()).unwrap();
                let numbers = body
                    .split_terminator("\n\n")
                    .map(|event| event.split(' ').nth(1).unwrap().parse::<usize>().unwrap());
                assert!(numbers.eq(0..EVENTS), "client {number}");
            })
        })
        .collect();
    for client in clients {
        client.join().unwrap();
    }
    let recording = Arc::into_inner(recording).unwrap();
    let recorded = recording.finish();
    let exchanges = recorded.exchanges();
    assert_eq!(exchanges.len(), CLIENTS);
    for exchange in exchanges {
        let end = exchange.end.as_ref().unwrap();
        assert_eq!(end.outcome, Outcome::Complete);
        // What the queue had no room for is counted, and nothing else is missing.
        let kept = exchange.response_body().len() as u64;
        assert_eq!(kept + end.response.lost_bytes, end.response.bytes);
    }
}
