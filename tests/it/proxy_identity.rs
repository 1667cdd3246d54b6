//! What passes the proxy arrives as it would on a direct connection: every byte that the hop-by-hop rules leave alone.

use std::sync::{Arc, Mutex};

use reenact::trace::record::{Outcome, Version};

use crate::support::{Peer, Recording, Upstream};

/// Notes each message it gets, and answers with fixed bytes.
fn noting(response: &'static str) -> (Upstream, Arc<Mutex<Vec<String>>>) {
    let notes: Arc<Mutex<Vec<String>>> = Arc::default();
    let noted = Arc::clone(&notes);
    let upstream = Upstream::start(move |mut peer| {
        while let Some(message) = peer.try_message() {
            noted.lock().unwrap().push(message);
            peer.send(response);
            if response.contains("close\r\n") {
                return;
            }
        }
    });
    (upstream, notes)
}

/// Sends `request` directly and through the proxy; returns what the upstream saw and what the client got, twice.
fn both_ways(request: &str, response: &'static str) -> [(String, String); 2] {
    let (upstream, notes) = noting(response);
    let recording = Recording::of(upstream.url());
    let is_head = request.starts_with("HEAD");
    let ways = [upstream.address, recording.address].map(|address| {
        let mut peer = Peer::connect(address);
        peer.send(request);
        let has_body =
            !is_head && !response.starts_with("HTTP/1.1 304") && !response.contains("close\r\n");
        let got = if has_body { peer.message() } else { peer.head() };
        (notes.lock().unwrap().pop().unwrap(), got)
    });
    let exchange = recording.finish().only();
    assert_eq!(exchange.end.unwrap().outcome, Outcome::Complete);
    ways
}

/// Checks that the proxy changes nothing at all.
#[track_caller]
fn check(request: &str, response: &'static str) {
    let [direct, proxied] = both_ways(request, response);
    assert_eq!(proxied, direct);
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

#[test]
fn requests_arrive_byte_for_byte() {
    check("GET / HTTP/1.1\r\nHost: a.example:81\r\n\r\n", OK);
    check(
        "GET /p%20q/../x?y=%2f&&z HTTP/1.1\r\nhOsT: a\r\nX-UPPER: 1\r\nx-lower:\t2\r\n\r\n"
            .replace('\t', " ")
            .as_str(),
        OK,
    );
    check(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nAuthorization: Bearer sk-1\r\nContent-Length: 2\r\n\r\n{}",
        OK,
    );
    check(
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        OK,
    );
    check("PROPFIND /x HTTP/1.1\r\nHost: a\r\nDepth: 1\r\n\r\n", OK);
    check("DELETE /x HTTP/1.1\r\nHost: a\r\n\r\n", OK);
    check("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", OK);
    check(
        "GET / HTTP/1.1\r\nHost: a\r\nX-Twice: 1\r\nX-Twice: 2\r\nCookie: a=b\r\nAccept-Encoding: gzip\r\n\r\n",
        OK,
    );
    check("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", OK);
    check("GET / HTTP/1.1\r\nHost: a\r\nX-Obs: caf\u{e9}\r\n\r\n", OK);
}

#[test]
fn responses_arrive_byte_for_byte() {
    const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    check(
        GET,
        "HTTP/1.1 200 OK\r\nDate: x\r\nServer: s\r\nContent-Type: a/b\r\nContent-Length: 2\r\n\r\nhi",
    );
    check(GET, "HTTP/1.1 200 Alright Then\r\nX-Case: 1\r\ncontent-length: 2\r\n\r\nhi");
    check(
        GET,
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-After: 1\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
    );
    check(
        GET,
        "HTTP/1.1 418 I'm a teapot\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 0\r\n\r\n",
    );
    check(GET, "HTTP/1.1 204 No Content\r\nX-A: 1\r\n\r\n");
    check(GET, "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\nContent-Length: 1234\r\n\r\n");
    check(GET, "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n");
    check(GET, "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 3\r\n\r\nno!");
    check(GET, "HTTP/1.1 302 Found\r\nLocation: /x?key=1\r\nContent-Length: 0\r\n\r\n");
    check(
        GET,
        "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\u{1f}\u{8b}\u{8}",
    );
    check(GET, "HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nhi");
    check("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n");
}

#[test]
fn hop_by_hop_fields_stay_on_their_hop() {
    let [_, (seen, got)] = both_ways(
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nX-End: 2\r\nProxy-Connection: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nKeep-Alive: timeout=5\r\nX-End: 3\r\nContent-Length: 2\r\n\r\nhi",
    );
    assert_eq!(seen, "GET / HTTP/1.1\r\nHost: a\r\nX-End: 2\r\n\r\n");
    assert_eq!(got, "HTTP/1.1 200 OK\r\nX-End: 3\r\nContent-Length: 2\r\n\r\nhi");
}

#[test]
fn a_body_that_ends_with_the_connection_arrives_whole() {
    let (upstream, _notes) = noting("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nall of it");
    let recording = Recording::of(upstream.url());
    let mut peer = recording.connect();
    peer.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(
        peer.message(),
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nall of it\r\n0\r\n\r\n"
    );
    let exchange = recording.finish().only();
    assert_eq!(exchange.response_body(), "all of it");
    assert_eq!(exchange.end.unwrap().outcome, Outcome::Complete);
}

#[test]
fn http_1_0_clients_are_served() {
    let upstream = Upstream::answering(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
    );
    let recording = Recording::of(upstream.url());
    let mut peer = recording.connect();
    peer.send("GET / HTTP/1.0\r\n\r\n");
    let got = String::from_utf8(peer.rest()).unwrap();
    assert_eq!(got, "HTTP/1.0 200 OK\r\n\r\nhi");
    let exchange = recording.finish().only();
    assert_eq!(exchange.request.version, Version::Http10);
    assert_eq!(exchange.end.unwrap().outcome, Outcome::Complete);
}

#[test]
fn a_request_in_absolute_form_goes_on_in_origin_form() {
    let (upstream, notes) = noting(OK);
    let recording = Recording::of(upstream.url());
    let mut peer = recording.connect();
    peer.send("GET http://b.example/x?y HTTP/1.1\r\nHost: a\r\nX: 1\r\n\r\n");
    peer.message();
    assert_eq!(notes.lock().unwrap()[0], "GET /x?y HTTP/1.1\r\nHost: b.example\r\nX: 1\r\n\r\n");
    let exchange = recording.finish().only();
    assert_eq!(exchange.request.target, "/x?y");
    assert_eq!(exchange.request.authority.as_deref(), Some("b.example"));
}

#[test]
fn trailers_pass_both_ways() {
    let request = "POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nTrailer: x-sum\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nx-sum: 7\r\n\r\n";
    let response = "HTTP/1.1 200 OK\r\nTrailer: x-time\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nx-time: 9\r\n\r\n";
    let upstream = Upstream::start(move |mut peer| {
        assert_eq!(peer.head() + &peer.until("0\r\nx-sum: 7\r\n\r\n"), request);
        peer.send(response);
        peer.rest();
    });
    let recording = Recording::of(upstream.url());
    let mut peer = recording.connect();
    peer.send(request);
    assert_eq!(peer.head() + &peer.until("0\r\nx-time: 9\r\n\r\n"), response);
    let exchange = recording.finish().only();
    assert_eq!(exchange.request_trailers.unwrap().headers["x-sum"], "7");
    assert_eq!(exchange.response_trailers.unwrap().headers["x-time"], "9");
}

#[test]
fn pipelined_requests_are_answered_in_turn() {
    let (upstream, notes) = noting(OK);
    let recording = Recording::of(upstream.url());
    let mut peer = recording.connect();
    let requests: String =
        (0..3).map(|number| format!("GET /{number} HTTP/1.1\r\nHost: a\r\n\r\n")).collect();
    peer.send(requests);
    for _ in 0..3 {
        assert_eq!(peer.message(), OK);
    }
    assert!(notes.lock().unwrap()[2].starts_with("GET /2 "));
    let exchanges = recording.finish().exchanges();
    let reused: Vec<_> = exchanges.iter().map(|exchange| exchange.link.unwrap().reused).collect();
    assert_eq!(reused, [false, true, true]);
}
