//! Requests that one server takes for one and another for two, and what else is malformed: what the client gets, and
//! that the upstream never sees a second request or another framing than the first one's.

use std::sync::{Arc, Mutex};

use reenact::trace::record::{FaultKind, FaultSide, Outcome};

use crate::support::{Recorded, Recording, Upstream};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
/// What somebody wants to get past the proxy.
const HIDDEN: &str = "GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n";

/// What came of bytes that a client sent.
struct Told {
    /// All that the client got, to the connection's end.
    client: String,
    /// All that the upstream got.
    upstream: String,
    recorded: Recorded,
}

/// An upstream that notes every byte and answers each request that has come whole.
fn noting() -> (Upstream, Arc<Mutex<Vec<u8>>>) {
    let notes: Arc<Mutex<Vec<u8>>> = Arc::default();
    let noted = Arc::clone(&notes);
    let upstream = Upstream::start(move |mut peer| {
        let mut request = Vec::new();
        while let Some(bytes) = peer.more() {
            noted.lock().unwrap().extend_from_slice(&bytes);
            request.extend_from_slice(&bytes);
            if is_whole(&request) {
                request.clear();
                peer.send(OK);
            }
        }
    });
    (upstream, notes)
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request).to_ascii_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    match head.split_once("content-length: ") {
        _ if head.contains("transfer-encoding") => {
            body.contains("\r\n0\r\n") && body.ends_with("\r\n\r\n")
        }
        Some((_, length)) => body.len() >= length.lines().next().unwrap().parse().unwrap(),
        None => true,
    }
}

/// Sends `bytes` through a proxy and reads so many answers; without any, what comes before the proxy hangs up.
fn tell(bytes: impl AsRef<[u8]>, answers: usize) -> Told {
    let (upstream, notes) = noting();
    let recording = Recording::of(upstream.url());
    let mut peer = recording.connect();
    peer.send(bytes);
    let client = match answers {
        0 => String::from_utf8_lossy(&peer.rest()).into_owned(),
        answers => (0..answers).map(|_| peer.message()).collect(),
    };
    let recorded = recording.finish();
    let upstream = String::from_utf8_lossy(&notes.lock().unwrap()).into_owned();
    Told { client, upstream, recorded }
}

/// Checks that a malformed head, and whatever comes after it, is answered once and goes nowhere.
#[track_caller]
fn check_refused(head: &str, status: u16) {
    let told = tell(format!("{head}{HIDDEN}"), 0);
    let answered =
        told.client.starts_with("HTTP/1.") && told.client[8..].starts_with(&format!(" {status} "));
    assert!(answered, "{head:?} was answered {:?}", told.client);
    assert_eq!(told.client.matches("HTTP/1.").count(), 1, "{head:?} ends its connection");
    assert_eq!(told.upstream, "", "{head:?} went on");
    for exchange in told.recorded.exchanges() {
        assert_eq!(exchange.response.as_ref().unwrap().status, status);
        let end = exchange.end.unwrap();
        assert_eq!(end.outcome, Outcome::Failed, "{head:?}");
        let fault = end.fault.unwrap();
        assert_eq!((fault.side, fault.kind), (FaultSide::Client, FaultKind::Protocol), "{head:?}");
    }
}

/// Makes a request with these lines after the usual ones.
fn post(lines: &str) -> String {
    format!("POST /first HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n")
}

#[test]
fn a_request_with_two_ends_is_refused() {
    for lines in [
        "Content-Length: 4\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 4",
        "transfer-encoding:\tchunked\r\nX: 1\r\ncontent-length:4",
        "Content-Length: 0\r\nTransfer-Encoding: chunked",
        "Content-Length: 4\r\nContent-Length: 4",
        "Content-Length: 4\r\nContent-Length: 5",
        "Content-Length: 4, 4",
        "Content-Length: 4, 5",
        "Content-Length: 4,",
    ] {
        check_refused(&post(lines), 400);
    }
}

#[test]
fn a_length_is_digits_alone() {
    for length in ["+4", "-4", "0x4", "4.0", "4 4", "", "\u{664}", "99999999999999999999", "4;"] {
        check_refused(&post(&format!("Content-Length: {length}")), 400);
    }
    // It fits 64 bits, but not what hyper keeps beside it.
    check_refused(&post("Content-Length: 18446744073709551615"), 431);
}

#[test]
fn a_body_is_chunked_once_and_by_nothing_else() {
    for lines in [
        "Transfer-Encoding: gzip",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: \"chunked\"",
        "Transfer-Encoding: ",
        "Transfer-Encoding: chunked;x=1",
    ] {
        check_refused(&post(lines), 400);
    }
    for lines in [
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: identity, chunked",
        "Transfer-Encoding: ,chunked",
    ] {
        check_refused(&post(lines), 501);
    }
    check_refused("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400);
}

#[test]
fn a_field_line_has_one_form() {
    for lines in [
        // Folded, with a blank in its name, without a name, without a colon.
        "X: 1\r\n 2",
        "X: 1\r\n\t2",
        " X: 1",
        "X : 1",
        "Content-Length : 4",
        "Transfer-Encoding\t: chunked",
        "X Y: 1",
        ": 1",
        "X",
        "X\u{e9}: 1",
        "X(: 1",
        "\u{0}X: 1",
        // Bytes that no value has.
        "X: 1\u{0}2",
        "X: 1\r2",
        "X: 1\r\r",
        "X: 1\u{7f}",
        "X: \u{1}",
        "X: 1\u{8}2",
        "Transfer-Encoding: \u{b}chunked",
    ] {
        check_refused(&post(lines), 400);
    }
}

#[test]
fn a_request_line_has_one_form() {
    for line in [
        "GET  / HTTP/1.1",
        "GET / HTTP/1.1 ",
        "GET / HTTP/1.2",
        "GET / HTTP/2.0",
        "GET / HTTP/0.9",
        "GET /",
        "GET / x HTTP/1.1",
        "GET /\u{0} HTTP/1.1",
        "GET /\rx HTTP/1.1",
        "G\u{0}T / HTTP/1.1",
        "G:T / HTTP/1.1",
        " GET / HTTP/1.1",
    ] {
        check_refused(&format!("{line}\r\nHost: a\r\n\r\n"), 400);
    }
}

#[test]
fn a_request_names_one_host() {
    for head in [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nhost: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a/x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n",
        "GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n",
    ] {
        check_refused(head, 400);
    }
}

/// Checks that a body with a malformed chunk never becomes a whole request, nor what follows it another.
#[track_caller]
fn check_broken_body(body: &str) {
    let told = tell(post("Transfer-Encoding: chunked") + body, 0);
    assert!(told.upstream.matches(" HTTP/1.1\r\n").count() <= 1, "{body:?}: {:?}", told.upstream);
    assert!(!told.upstream.contains("hidden"), "{body:?}: {:?}", told.upstream);
    assert!(!told.upstream.ends_with("0\r\n\r\n"), "{body:?} is not made whole");
    assert!(told.client.starts_with("HTTP/1.1 400 "), "{body:?}: {:?}", told.client);
    assert_eq!(told.client.matches("HTTP/1.1 ").count(), 1, "{body:?} ends its connection");
    let end = told.recorded.only().end.unwrap();
    assert_eq!(end.outcome, Outcome::Cancelled, "{body:?}");
    assert_eq!(end.fault.unwrap().side, FaultSide::Client, "{body:?}");
}

#[test]
fn a_malformed_chunk_ends_the_connection_and_the_upload() {
    for chunks in [
        // Sizes: none, signed, too large, with a prefix, not a number.
        "\r\nab\r\n0\r\n\r\n",
        "+2\r\nab\r\n0\r\n\r\n",
        "-2\r\nab\r\n0\r\n\r\n",
        "0x2\r\nab\r\n0\r\n\r\n",
        "fffffffffffffffff\r\nab\r\n0\r\n\r\n",
        "2g\r\nab\r\n0\r\n\r\n",
        "2 2\r\nab\r\n0\r\n\r\n",
        " 2\r\nab\r\n0\r\n\r\n",
        // Line ends: LF alone, CR alone, after the size, after the data, after the last chunk.
        "2\nab\r\n0\r\n\r\n",
        "2\rab\r\n0\r\n\r\n",
        "2\r\rab\r\n0\r\n\r\n",
        "2\r\nab\n0\r\n\r\n",
        "2\r\nabX\r\n0\r\n\r\n",
        "2\r\na\r\n0\r\n\r\n",
        "2\r\nab\r\n0\n\r\n",
        // Extensions that end early, or never.
        "2;a\nb\r\nab\r\n0\r\n\r\n",
    ] {
        check_broken_body(&format!("{chunks}{HIDDEN}"));
    }
    check_broken_body(&format!("2;{}\r\nab\r\n0\r\n\r\n{HIDDEN}", "x".repeat(20 << 10)));
}

/// hyper takes a bare LF where trailers may be for a byte of one: what follows belongs to the same request, to its end.
#[test]
fn a_bare_line_feed_ends_no_trailers() {
    let told = tell(post("Transfer-Encoding: chunked") + "2\r\nab\r\n0\r\n\n" + HIDDEN, 1);
    assert!(told.client.starts_with(OK));
    assert!(told.upstream.ends_with("2\r\nab\r\n0\r\n\r\n"), "{:?}", told.upstream);
    assert_eq!(told.recorded.exchanges().len(), 1);
}

#[test]
fn chunk_extensions_go_no_further() {
    let told = tell(post("Transfer-Encoding: chunked") + "2;a=\"0\";b\r\nab\r\n0;c\r\n\r\n", 1);
    assert!(told.client.starts_with(OK));
    assert!(told.upstream.ends_with("\r\n\r\n2\r\nab\r\n0\r\n\r\n"), "{:?}", told.upstream);
    assert_eq!(told.recorded.only().request_body(), "ab");
}

#[test]
fn trailers_are_never_fields() {
    let trailers = "Content-Length: 9\r\nHost: b\r\nAuthorization: x\r\nTransfer-Encoding: gzip\r\nX-Sum: 7\r\n";
    let names = "Trailer: Content-Length, Host, Transfer-Encoding, X-Sum";
    let told = tell(
        post(&format!("{names}\r\nTransfer-Encoding: chunked"))
            + "2\r\nab\r\n0\r\n"
            + trailers
            + "\r\n",
        1,
    );
    assert!(told.client.starts_with(OK));
    let (head, body) = told.upstream.split_once("\r\n\r\n").unwrap();
    for name in ["\r\nContent-Length:", "\r\nHost: b", "\r\nAuthorization", "gzip", "X-Sum: 7"] {
        assert!(!head.contains(name), "{head}");
    }
    assert_eq!(body, "2\r\nab\r\n0\r\nx-sum: 7\r\n\r\n");
}

#[test]
fn nothing_is_hidden_behind_an_upgrade() {
    let asking = |protocol: &str| {
        format!(
            "GET /first HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: {protocol}\r\nHTTP2-Settings: AAMAAABk\r\n\r\n"
        )
    };
    for protocol in ["h2c", "H2C", "h2c, websocket", "websocket, h2c"] {
        let told = tell(asking(protocol), 1);
        assert!(told.client.starts_with(OK), "{protocol}: {:?}", told.client);
        assert_eq!(told.upstream, "GET /first HTTP/1.1\r\nHost: a\r\n\r\n", "{protocol}");
    }
    // The client speaks on as if it had been let through; the upstream did not agree.
    let told = tell(asking("websocket") + HIDDEN, 2);
    assert_eq!(told.client, format!("{OK}{OK}"), "an ordinary second request");
    let exchanges = told.recorded.exchanges();
    assert_eq!(exchanges[1].request.target, "/hidden", "seen, and on the record");
}

#[test]
fn a_refusal_before_the_body_was_read_ends_the_connection() {
    let (upstream, notes) = noting();
    let recording = Recording::of(format!("/v1={}", upstream.url()));
    let mut peer = recording.connect();
    peer.send("POST /v2 HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n");
    assert!(peer.message().starts_with("HTTP/1.1 404 "));
    // What follows is body, whatever it looks like.
    let _gone = peer.try_send(HIDDEN);
    assert!(peer.rest().is_empty());
    assert!(notes.lock().unwrap().is_empty());
    drop(recording.finish());
}

#[test]
fn an_answer_of_the_upstream_before_it_read_the_body_ends_the_connection() {
    let upstream = Upstream::start(|mut peer| {
        peer.head();
        peer.send(
            "HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        );
    });
    let recording = Recording::of(upstream.url());
    let mut peer = recording.connect();
    peer.send("POST /first HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000\r\n\r\nthe beginning");
    assert!(peer.message().starts_with("HTTP/1.1 413 "));
    let _gone = peer.try_send(HIDDEN);
    assert!(!String::from_utf8_lossy(&peer.rest()).contains("HTTP/1.1"));
    assert_eq!(upstream.accepted(), 1);
    drop(recording.finish());
}
