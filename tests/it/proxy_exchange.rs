//! What becomes of an exchange when one side leaves or fails, and what the trace says of it.

use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use reenact::clock::Nanos;
use reenact::trace::record::{Fault, FaultKind, FaultSide, Outcome, Side};

use crate::support::{Recording, Setup, Upstream};

const GET: &str = "GET /v1/x HTTP/1.1\r\nHost: a\r\n\r\n";
const CHUNKED: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";

fn chunk(event: &str) -> String {
    format!("{:x}\r\n{event}\r\n", event.len())
}

/// An upstream that sends `start` once it has a request head, and tells when its client has left.
fn patient(start: String) -> (Upstream, Receiver<()>, Receiver<()>) {
    let ((came, comes), (gone, goes)) = (channel(), channel());
    let upstream = Upstream::start(move |mut peer| {
        peer.head();
        peer.send(&start);
        came.send(()).unwrap();
        peer.rest();
        gone.send(()).unwrap();
    });
    (upstream, comes, goes)
}

const PATIENCE: Duration = Duration::from_secs(10);

#[track_caller]
fn check_fault(fault: Option<Fault>, side: FaultSide, kind: FaultKind) {
    let fault = fault.expect("a fault");
    assert_eq!((fault.side, fault.kind), (side, kind), "{fault:?}");
}

/// Invariant 3: an exchange is admitted before the first await.
#[test]
fn a_client_that_leaves_before_the_response_head_is_recorded_and_the_upstream_cancelled() {
    let (upstream, came, gone) = patient(String::new());
    let recording = Recording::of(upstream.url());
    let mut peer = recording.connect();
    peer.send(GET);
    came.recv_timeout(PATIENCE).unwrap();
    peer.close();
    gone.recv_timeout(PATIENCE).expect("the upstream sees its client leave");
    let exchange = recording.finish().only();
    assert!(exchange.response.is_none());
    assert!(exchange.link.is_some(), "the connection is known all the same");
    let end = exchange.end.unwrap();
    assert_eq!(end.outcome, Outcome::Cancelled);
    check_fault(end.fault, FaultSide::Client, FaultKind::Disconnected);
}

#[test]
fn a_client_that_leaves_in_mid_stream_is_recorded_and_the_upstream_cancelled() {
    let (upstream, _came, gone) = patient(CHUNKED.to_owned() + &chunk("data: 1\n\n"));
    let recording = Recording::of(upstream.url());
    let mut peer = recording.connect();
    peer.send(GET);
    peer.until("data: 1\n\n\r\n");
    peer.close();
    gone.recv_timeout(PATIENCE).expect("the upstream sees its client leave");
    let exchange = recording.finish().only();
    let body = exchange.response_body();
    let end = exchange.end.unwrap();
    assert_eq!(end.outcome, Outcome::Cancelled);
    assert_eq!(body, "data: 1\n\n");
    assert!(!end.response.ended);
    assert_eq!((end.response.bytes, end.response.frames), (9, 1));
}

#[test]
fn a_client_that_leaves_at_done_is_cancelled_and_its_stream_is_whole() {
    let (upstream, _came, gone) = patient(CHUNKED.to_owned() + &chunk("data: [DONE]\n\n"));
    let recording = Recording::of(upstream.url());
    let mut peer = recording.connect();
    peer.send(GET);
    peer.until("data: [DONE]\n\n\r\n");
    peer.close();
    gone.recv_timeout(PATIENCE).unwrap();
    let exchange = recording.finish().only();
    assert_eq!(exchange.response_body(), "data: [DONE]\n\n");
    assert_eq!(exchange.end.unwrap().outcome, Outcome::Cancelled);
}

#[test]
fn a_client_that_leaves_while_uploading_is_recorded_and_the_upstream_cancelled() {
    let (upstream, came, gone) = patient(String::new());
    let recording = Recording::of(upstream.url());
    let mut peer = recording.connect();
    peer.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nthe beginning");
    came.recv_timeout(PATIENCE).unwrap();
    peer.close();
    gone.recv_timeout(PATIENCE).expect("the upstream sees its client leave");
    let exchange = recording.finish().only();
    assert_eq!(exchange.request_body(), "the beginning");
    let end = exchange.end.unwrap();
    assert_eq!(end.outcome, Outcome::Cancelled);
    assert!(!end.request.ended);
    check_fault(end.fault, FaultSide::Client, FaultKind::Disconnected);
}

#[test]
fn an_upstream_that_breaks_off_makes_a_failure_and_the_client_sees_it() {
    let upstream = Upstream::start(|mut peer| {
        peer.head();
        peer.send(CHUNKED.to_owned() + &chunk("data: 1\n\n"));
    });
    let recording = Recording::of(upstream.url());
    let mut peer = recording.connect();
    peer.send(GET);
    let got = String::from_utf8(peer.rest()).unwrap();
    assert!(got.ends_with("data: 1\n\n\r\n"), "no end is feigned: {got}");
    let end = recording.finish().only().end.unwrap();
    assert_eq!(end.outcome, Outcome::Failed);
    check_fault(end.fault, FaultSide::Server, FaultKind::Closed);
}

#[test]
fn an_upstream_that_is_not_there_makes_a_502_that_says_so() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let recording = Recording::of(format!("http://{nobody}"));
    let mut peer = recording.connect();
    peer.send(GET);
    let got = peer.message();
    assert!(got.starts_with("HTTP/1.1 502 Bad Gateway\r\n"), "{got}");
    assert!(got.contains("x-reenact-error: connect\r\n"), "{got}");
    let (_, body) = got.split_once("\r\n\r\n").unwrap();
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(body["error"]["code"], "connect");
    let exchange = recording.finish().only();
    assert_eq!(exchange.response.as_ref().unwrap().status, 502);
    let end = exchange.end.unwrap();
    assert_eq!(end.outcome, Outcome::Failed);
    check_fault(end.fault, FaultSide::Server, FaultKind::Connect);
}

#[test]
fn a_path_without_upstream_and_connect_are_refused_on_the_record() {
    let upstream = Upstream::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let recording = Recording::of(format!("/v1={}", upstream.url()));
    let mut peer = recording.connect();
    peer.send(GET);
    assert!(peer.message().starts_with("HTTP/1.1 200"));
    peer.send("GET /v2 HTTP/1.1\r\nHost: a\r\n\r\n");
    let got = peer.message();
    assert!(got.starts_with("HTTP/1.1 404") && got.contains("x-reenact-error: no-upstream"));
    let mut peer = recording.connect();
    peer.send("CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(!peer.message().starts_with("HTTP/1.1 2"));
    let outcomes: Vec<_> =
        recording.finish().exchanges().into_iter().map(|it| it.end.unwrap().outcome).collect();
    assert_eq!(outcomes, [Outcome::Complete, Outcome::Failed, Outcome::Failed]);
}

/// Invariants 1 and 5: every event reaches the client when it was sent, and both stamps are there.
#[test]
fn each_event_arrives_when_it_was_sent() {
    const EVENTS: usize = 20;
    const GAP: Duration = Duration::from_millis(20);
    let (sent, sends) = channel();
    let clock = reenact::clock::Clock::start();
    let upstream = Upstream::start(move |mut peer| {
        peer.head();
        peer.send(CHUNKED);
        for number in 0..EVENTS {
            thread::park_timeout(GAP);
            sent.send(clock.now()).unwrap();
            peer.send(chunk(&format!("data: {number}\n\n")));
        }
        peer.send("0\r\n\r\n");
        peer.rest();
    });
    let recording = Recording::of(upstream.url());
    let mut peer = recording.connect();
    peer.send(GET);
    peer.head();
    let mut lateness = Vec::new();
    for number in 0..EVENTS {
        peer.until(&format!("data: {number}\n\n\r\n"));
        lateness.push(clock.now().since(sends.recv_timeout(PATIENCE).unwrap()));
    }
    peer.until("0\r\n\r\n");
    lateness.sort_unstable();
    assert!(lateness[EVENTS / 2] < GAP / 2, "half of the events are later than that: {lateness:?}");
    let exchange = recording.finish().only();
    let frames = exchange.response_frames;
    assert_eq!(frames.len(), EVENTS, "the cuts are the wire's");
    let mut before = exchange.request.at;
    for frame in &frames {
        assert!(before < frame.at && frame.at <= frame.accepted, "{frame:?}");
        before = frame.at;
    }
    let spread = frames[EVENTS - 1].at.since(frames[0].at);
    assert!(spread >= GAP * 15, "the stamps are the events' own: {spread:?}");
}

/// Invariants 1 and 2: a full queue costs the recording and not the traffic, and is accounted for.
#[test]
fn a_full_queue_harms_no_exchange_and_every_loss_is_counted() {
    let body = "x".repeat(1024);
    let response = CHUNKED.to_owned() + &chunk(&body).repeat(20) + "0\r\n\r\n";
    let expected = body.repeat(20);
    let upstream = Upstream::answering(response);
    let mut setup = Setup::new(&[upstream.url()]);
    setup.queue_bytes = 16 << 10;
    let valve = setup.valve.clone();
    valve.set(true);
    let recording = setup.start();
    const EXCHANGES: usize = 50;
    let mut peer = recording.connect();
    for _ in 0..EXCHANGES {
        peer.send(GET);
        peer.head();
        assert!(peer.chunks() == expected.as_bytes(), "traffic is unharmed");
    }
    valve.set(false);
    let recorded = recording.finish();
    let counters = recorded.status.counters;
    assert_eq!(counters.admitted, EXCHANGES as u64);
    assert_eq!(counters.open(), Some(0));
    assert!(counters.dropped_queue_full > 0, "{counters:?}");
    assert_eq!(counters.admitted, counters.complete + counters.dropped_queue_full);
    let exchanges = recorded.exchanges();
    assert_eq!(exchanges.len() as u64, counters.complete);
    let (mut lost, mut bare) = (0, 0);
    for exchange in &exchanges {
        let passed = exchange.end.as_ref().unwrap().response;
        let kept: u64 = exchange.response_frames.iter().map(|frame| frame.data.len() as u64).sum();
        assert_eq!(passed.bytes, 20 * 1024);
        assert_eq!(kept + passed.lost_bytes, passed.bytes);
        assert_eq!(exchange.response_frames.len() as u64 + passed.lost_frames, passed.frames);
        lost += passed.lost_frames;
        // The times of what is lost come in their order, and are there to the end.
        let times: Vec<_> = exchange.frames(Side::Response).map(|frame| frame.at).collect();
        assert!(times.is_sorted(), "{times:?}");
        bare += exchange.response_bare.len() as u64;
        let times_of: u64 = exchange.response_bare.iter().map(|bare| bare.frame.len).sum();
        assert!(times_of <= passed.lost_bytes, "{times_of} of {}", passed.lost_bytes);
    }
    assert!(bare > 0 && bare <= lost, "{bare} of {lost} frames have their times");
    assert!(recorded.status.bare_frames >= bare);
    assert!(lost > 0 && recorded.status.has_loss());
    let gaps: u64 = recorded
        .events
        .iter()
        .filter_map(|event| match event {
            reenact::trace::record::Event::Gap(gap) => Some(gap.frames),
            _ => None,
        })
        .sum();
    assert_eq!(gaps, lost, "each lost frame is in a gap");
}

/// Invariant 6: credentials are replaced before the queue.
#[test]
fn no_credential_gets_into_the_queue() {
    let upstream = Upstream::answering(
        "HTTP/1.1 200 OK\r\nSet-Cookie: session=s3cret\r\nContent-Length: 0\r\n\r\n",
    );
    let recording = Recording::of(upstream.url());
    let mut peer = recording.connect();
    peer.send("GET /x?api_key=s3cret&q=1 HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer s3cret\r\nX-Api-Key: s3cret\r\nCookie: s3cret\r\n\r\n");
    assert!(peer.message().contains("session=s3cret"), "the client gets its own");
    let recorded = recording.finish();
    assert!(!format!("{:?}", recorded.events).contains("s3cret"));
    let exchange = recorded.only();
    assert!(
        exchange.request.headers["authorization"].to_str().unwrap().starts_with("Bearer redacted:")
    );
    assert!(exchange.request.target.ends_with("&q=1"));
}

#[test]
fn what_is_dropped_at_the_end_is_the_proxys_doing() {
    let (upstream, came, _gone) = patient(CHUNKED.to_owned() + &chunk("data: 1\n\n"));
    let mut setup = Setup::new(&[upstream.url()]);
    setup.drain = Duration::from_millis(50);
    let recording = setup.start();
    let mut peer = recording.connect();
    peer.send(GET);
    came.recv_timeout(PATIENCE).unwrap();
    peer.until("data: 1\n\n\r\n");
    let exchange = recording.finish().only();
    let end = exchange.end.unwrap();
    assert_eq!(end.outcome, Outcome::Failed);
    check_fault(end.fault, FaultSide::Local, FaultKind::Closed);
    assert_eq!(exchange.response_frames.len(), 1);
    assert!(exchange.request.at > Nanos::ZERO);
    assert_eq!(exchange.response_frames[0].side, Side::Response);
}
