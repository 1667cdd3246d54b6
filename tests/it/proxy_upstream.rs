//! Upstreams that lie about lengths, close early, send what is no HTTP, or never end: what the client gets, what the
//! trace says, and that no byte of one response is taken for another.

use std::sync::mpsc::channel;
use std::time::Duration;

use reenact::trace::record::{FaultKind, FaultSide, Outcome};

use crate::support::{Peer, Recording, Setup, Upstream};

const GET: &str = "GET /first HTTP/1.1\r\nHost: a\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
const PATIENCE: Duration = Duration::from_secs(10);

/// Sends `response` to the first request of a connection, keeps the connection open, and says when it was closed.
fn saying(response: impl Into<Vec<u8>>) -> (Upstream, std::sync::mpsc::Receiver<()>) {
    let (closed, closes) = channel();
    let response = response.into();
    let upstream = Upstream::start(move |mut peer| {
        peer.head();
        peer.send(&response);
        peer.rest();
        closed.send(()).unwrap();
    });
    (upstream, closes)
}

/// Checks that a response becomes a `502`, for a fault of the upstream's, and that its connection is dropped.
#[track_caller]
fn check_502(response: &str) {
    let (upstream, closes) = saying(response);
    let recording = Recording::of(upstream.url());
    let mut peer = recording.connect();
    peer.send(GET);
    let got = peer.message();
    assert!(got.starts_with("HTTP/1.1 502 "), "{response:?} became {got:?}");
    closes.recv_timeout(PATIENCE).expect("its connection is dropped");
    let exchange = recording.finish().only();
    assert!(exchange.link.is_some(), "{response:?} came on a connection");
    let end = exchange.end.unwrap();
    assert_eq!(end.outcome, Outcome::Failed, "{response:?}");
    let fault = end.fault.unwrap();
    assert_eq!((fault.side, fault.kind), (FaultSide::Server, FaultKind::Protocol), "{response:?}");
}

#[test]
fn a_response_without_one_certain_end_is_a_502() {
    for lines in [
        "Content-Length: 2\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 2",
        "Content-Length: 2\r\nContent-Length: 2",
        "Content-Length: 2\r\nContent-Length: 3",
        "Content-Length: 2, 2",
        "Content-Length: +2",
        "Content-Length: 2x",
        "Content-Length: ",
        "Transfer-Encoding: gzip",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    ] {
        check_502(&format!("HTTP/1.1 200 OK\r\n{lines}\r\n\r\n2\r\nhi\r\n0\r\n\r\n"));
    }
    check_502("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n");
}

#[test]
fn what_is_no_http_is_a_502() {
    for response in [
        "SSH-2.0-OpenSSH_9.2\r\n",
        "HTTP/2.0 200 OK\r\n\r\n",
        "HTTP/1.1 2x0 OK\r\n\r\n",
        "HTTP/1.1 20\r\n\r\n",
        "ICY 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX : 1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: 1\r\n 2\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: 1\u{0}\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: 1\r2\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX\r\n\r\n",
        "\u{16}\u{3}\u{3}\u{0}\u{7a}\u{2}",
        // Nobody asked for it, or not for this.
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    ] {
        check_502(response);
    }
    check_502(&format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(1 << 20)));
    check_502(&format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: 1\r\n".repeat(1000)));
}

#[test]
fn an_upgrade_to_what_was_not_offered_is_a_502() {
    let switching = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n";
    for chosen in ["Upgrade: h2c\r\n", "Upgrade: websocket2\r\n", ""] {
        let (upstream, closes) = saying(format!("{switching}{chosen}\r\n"));
        let recording = Recording::of(upstream.url());
        let mut peer = recording.connect();
        peer.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
        assert!(peer.message().starts_with("HTTP/1.1 502 "), "{chosen:?}");
        closes.recv_timeout(PATIENCE).unwrap();
        drop(recording.finish());
    }
}

#[test]
fn an_upstream_that_closes_without_a_response_is_a_502_and_asked_once() {
    for beginning in ["", "HTTP/1.1 200 OK\r\nContent-"] {
        let upstream = Upstream::start(move |mut peer| {
            peer.head();
            peer.send(beginning);
        });
        let recording = Recording::of(upstream.url());
        let mut peer = recording.connect();
        peer.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}");
        assert!(peer.message().starts_with("HTTP/1.1 502 "));
        assert_eq!(upstream.accepted(), 1, "nothing is sent twice");
        let end = recording.finish().only().end.unwrap();
        assert_eq!(end.outcome, Outcome::Failed);
        assert_eq!(end.fault.unwrap().side, FaultSide::Server);
    }
}

/// Checks that a response that breaks after its head reaches the client as far as it came, without an end.
#[track_caller]
fn check_broken(response: &str, arrives: &str) {
    let response = response.to_owned();
    let upstream = Upstream::start({
        let response = response.clone();
        move |mut peer| {
            peer.head();
            peer.send(&response);
        }
    });
    let recording = Recording::of(upstream.url());
    let mut peer = recording.connect();
    peer.send(GET);
    let got = String::from_utf8_lossy(&peer.rest()).into_owned();
    assert!(got.starts_with("HTTP/1.1 200 OK\r\n"), "{response:?}: {got:?}");
    assert!(got.ends_with(arrives), "{response:?}: {got:?}");
    let end = recording.finish().only().end.unwrap();
    assert_eq!(end.outcome, Outcome::Failed, "{response:?}");
    assert_eq!(end.fault.unwrap().side, FaultSide::Server, "{response:?}");
    assert!(!end.response.ended);
}

#[test]
fn a_body_that_breaks_off_is_not_made_whole() {
    const SIZED: &str = "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n";
    const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    check_broken(&format!("{SIZED}short"), "\r\n\r\nshort");
    for rest in ["", "5\r\nab", "x\r\n", "-1\r\n", "2\r\nabc\r\n", "0\r\n", "0\r\nX: 1\r\n"] {
        // Of a chunk that is cut, the bytes that came arrive.
        let arrives =
            if rest.starts_with("5") || rest.starts_with("2") { "ab\r\n" } else { "hi\r\n" };
        check_broken(&format!("{CHUNKED}2\r\nhi\r\n{rest}"), arrives);
    }
    let endless = "x".repeat(1 << 20);
    check_broken(&format!("{CHUNKED}2\r\nhi\r\n0\r\nX: {endless}"), "hi\r\n");
    check_broken(&format!("{CHUNKED}2\r\nhi\r\n2;{endless}\r\nhi\r\n0\r\n\r\n"), "hi\r\n");
}

/// Checks that what an upstream says beyond its response reaches nobody: the next request gets a connection of its own.
#[track_caller]
fn check_excess(request: &str, response: &str, expected: &str) {
    let response = response.to_owned();
    let upstream = Upstream::start(move |mut peer| {
        peer.head();
        if peer.number > 1 {
            peer.send(OK);
        } else {
            peer.send(&response);
        }
        peer.rest();
    });
    let recording = Recording::of(upstream.url());
    let mut peer = recording.connect();
    peer.send(request);
    assert_eq!(String::from_utf8_lossy(&peer.exactly(expected.len())), expected);
    peer.send("GET /second HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(peer.message(), OK, "the second response is the second request's");
    assert_eq!(upstream.accepted(), 2);
    drop(recording.finish());
}

#[test]
fn a_second_response_that_nobody_asked_for_reaches_nobody() {
    let hidden = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhidden";
    check_excess(GET, &format!("{OK}{hidden}"), OK);
    let none = "HTTP/1.1 204 No Content\r\n\r\n";
    check_excess(GET, &format!("{none}{hidden}"), none);
    let same = "HTTP/1.1 304 Not Modified\r\n\r\n";
    check_excess(GET, &format!("{same}{hidden}"), same);
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n";
    check_excess("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", &format!("{head}hidden"), head);
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n";
    check_excess(GET, &format!("{chunked}{hidden}"), chunked);
}

#[test]
fn interim_responses_without_end_fill_no_memory_and_the_last_one_arrives() {
    let interim = format!("HTTP/1.1 103 Early Hints\r\nLink: {}\r\n\r\n", "x".repeat(1000));
    let upstream = Upstream::start(move |mut peer| {
        peer.head();
        for _ in 0..20 {
            peer.send(interim.repeat(100));
        }
        peer.send(OK);
        peer.rest();
    });
    let recording = Recording::of(upstream.url());
    let mut peer = recording.connect();
    peer.send(GET);
    let mut head = peer.head();
    while head.starts_with("HTTP/1.1 103 ") {
        head = peer.head();
    }
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    drop(recording.finish());
}

#[test]
fn an_upstream_that_does_not_begin_in_time_is_a_504_and_let_go() {
    let (upstream, closes) = saying("");
    let mut setup = Setup::new(&[upstream.url()]);
    setup.proxy.bounds.first_byte = Some(Duration::from_millis(100));
    let recording = setup.start();
    let mut peer = recording.connect();
    peer.send(GET);
    let got = peer.message();
    assert!(got.starts_with("HTTP/1.1 504 ") && got.contains("x-reenact-error: timeout"), "{got}");
    closes.recv_timeout(PATIENCE).unwrap();
    let exchange = recording.finish().only();
    assert!(exchange.link.is_some());
    check_fault(exchange.end.unwrap(), FaultSide::Server, FaultKind::Timeout);
}

#[test]
fn an_upstream_that_falls_silent_is_let_go_and_the_client_sees_it() {
    let (upstream, closes) =
        saying("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n");
    let mut setup = Setup::new(&[upstream.url()]);
    setup.proxy.bounds.between_chunks = Some(Duration::from_millis(100));
    let recording = setup.start();
    let mut peer = recording.connect();
    peer.send(GET);
    assert!(peer.rest().ends_with(b"2\r\nhi\r\n"), "no end is feigned");
    closes.recv_timeout(PATIENCE).unwrap();
    check_fault(recording.finish().only().end.unwrap(), FaultSide::Server, FaultKind::Timeout);
}

#[track_caller]
fn check_fault(end: reenact::trace::record::End, side: FaultSide, kind: FaultKind) {
    assert_eq!(end.outcome, Outcome::Failed, "{end:?}");
    let fault = end.fault.unwrap();
    assert_eq!((fault.side, fault.kind), (side, kind), "{fault:?}");
}

#[test]
fn each_new_connection_tries_every_address_of_the_name_in_turn() {
    // `localhost` is ::1 first on most machines, where nobody listens; then 127.0.0.1.
    let upstream = Upstream::answering(OK);
    let recording = Recording::of(format!("http://localhost:{}", upstream.address.port()));
    for _ in 0..2 {
        let mut peer: Peer = recording.connect();
        peer.send(GET);
        assert_eq!(peer.message(), OK);
    }
    assert_eq!(upstream.accepted(), 2, "each client's connection has its own");
    drop(recording.finish());
}
