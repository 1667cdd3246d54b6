//! The admin listener of `reenact record`: health, status, metrics, recording on and off.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use reenact::clock::{Clock, Nanos};
use reenact::trace::{Assembler, Exchange, Trace};

use crate::support::{Peer, Process, Upstream, ask, ask_with, check_verified};

const GET: &str =
    "GET /v1/x?key=s3cret HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer s3cret\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
const PATIENCE: Duration = Duration::from_secs(20);

/// A folder with an admin socket and a trace to be.
pub(crate) struct Scratch {
    _folder: tempfile::TempDir,
    pub(crate) socket: PathBuf,
    pub(crate) out: PathBuf,
}

impl Scratch {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (socket, out) = (folder.path().join("admin.sock"), folder.path().join("a.trace"));
        Self { _folder: folder, socket, out }
    }

    fn start(&self, upstream: &str, more: &[&str]) -> Process {
        let admin = format!("--admin=unix:{}", self.socket.display());
        let process = Process::start(upstream, &self.out, &[&[&*admin], more].concat());
        process.says("admin on");
        process
    }

    /// Returns the value of a line of the metrics page.
    #[track_caller]
    fn metric(&self, name: &str) -> f64 {
        let (status, head, page) = ask(&self.socket, "GET /metrics");
        assert_eq!(status, 200);
        assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
        let line =
            page.lines().find(|line| line.rsplit_once(' ').is_some_and(|(key, _)| key == name));
        let line = line.unwrap_or_else(|| panic!("no {name} in\n{page}"));
        line.rsplit_once(' ').unwrap().1.parse().unwrap()
    }

    /// Waits until a metric has a value: what an exchange counts last, it counts after its client has all.
    #[track_caller]
    fn await_metric(&self, name: &str, value: f64) {
        let clock = Clock::start();
        while self.metric(name) != value {
            let waited = clock.now().since(Nanos::ZERO);
            assert!(waited < PATIENCE, "{name} is {}, not {value}", self.metric(name));
        }
    }

    fn status(&self) -> serde_json::Value {
        let (status, head, body) = ask(&self.socket, "GET /status");
        assert_eq!(status, 200);
        assert!(head.contains("content-type: application/json"), "{head}");
        serde_json::from_str(&body).unwrap()
    }
}

fn exchanges(path: &Path) -> Vec<Exchange> {
    let trace = Trace::open(path).unwrap();
    Assembler::all(trace.scan().unwrap().map(Result::unwrap))
}

fn exchange(peer: &mut Peer) {
    peer.send(GET);
    peer.message();
}

#[test]
fn what_passes_is_counted() {
    let upstream = Upstream::start(|mut peer| {
        peer.message();
        peer.send(OK);
        peer.message();
        peer.send("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
        peer.message();
        // It breaks off.
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf");
        peer.close();
    });
    let scratch = Scratch::new();
    let process = scratch.start(&upstream.url(), &["--upstream=/dead=http://127.0.0.1:9"]);
    let mut peer = process.connect();
    exchange(&mut peer);
    exchange(&mut peer);
    peer.send("POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc");
    peer.head();
    peer.rest();
    let mut peer = process.connect();
    peer.send("GET /dead HTTP/1.1\r\nHost: a\r\n\r\n");
    peer.message();
    for (name, value) in [
        ("reenact_requests_total", 4.0),
        ("reenact_exchanges_total{outcome=\"complete\"}", 2.0),
        ("reenact_exchanges_total{outcome=\"failed\"}", 2.0),
        ("reenact_exchanges_total{outcome=\"cancelled\"}", 0.0),
        ("reenact_open_exchanges", 0.0),
        ("reenact_oldest_exchange_seconds", 0.0),
        ("reenact_responses_total{by=\"upstream\",class=\"2xx\"}", 2.0),
        ("reenact_responses_total{by=\"upstream\",class=\"4xx\"}", 1.0),
        ("reenact_responses_total{by=\"proxy\",class=\"5xx\"}", 1.0),
        ("reenact_upstream_errors_total{kind=\"connect\"}", 1.0),
        ("reenact_upstream_errors_total{kind=\"closed\"}", 1.0),
        ("reenact_disconnects_total{side=\"upstream\"}", 1.0),
        ("reenact_disconnects_total{side=\"client\"}", 0.0),
        ("reenact_body_bytes_total{direction=\"request\"}", 3.0),
        // The answer that the proxy makes by itself has a body too.
        ("reenact_added_latency_seconds_count", 3.0),
        ("reenact_recording{state=\"running\"}", 1.0),
        ("reenact_recording{state=\"degraded\"}", 0.0),
        ("reenact_lost_bytes_total", 0.0),
        ("reenact_recorded_exchanges_total", 4.0),
    ] {
        scratch.await_metric(name, value);
    }
    assert!(scratch.metric("reenact_added_latency_seconds_sum") > 0.0);
    assert!(scratch.metric("reenact_trace_bytes") > 0.0);
    let status = scratch.status();
    assert_eq!(status["exchanges"]["requests"], 4);
    assert_eq!(status["exchanges"]["upstream_errors"]["connect"], 1);
    assert_eq!(status["recording"]["state"], "running");
    assert_eq!(status["recording"]["exchanges"]["admitted"], 4);
    assert_eq!(status["pid"], process.id());
    process.signal("-TERM");
    assert_eq!(process.wait().0, Some(0));
    assert!(!scratch.socket.exists(), "it is removed at the end");
}

#[test]
fn an_exchange_under_way_is_open_and_ages_until_its_client_leaves() {
    let upstream = Upstream::start(|mut peer| {
        peer.head();
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf");
        peer.rest();
    });
    let scratch = Scratch::new();
    let process = scratch.start(&upstream.url(), &[]);
    let mut peer = process.connect();
    peer.send(GET);
    peer.until("half");
    assert_eq!(scratch.metric("reenact_open_exchanges"), 1.0);
    let age = scratch.metric("reenact_oldest_exchange_seconds");
    assert!(age > 0.0 && scratch.metric("reenact_oldest_exchange_seconds") > age);
    peer.close();
    scratch.await_metric("reenact_disconnects_total{side=\"client\"}", 1.0);
    scratch.await_metric("reenact_exchanges_total{outcome=\"cancelled\"}", 1.0);
    assert_eq!(scratch.metric("reenact_open_exchanges"), 0.0);
    assert_eq!(scratch.metric("reenact_oldest_exchange_seconds"), 0.0);
    process.signal("-TERM");
    process.wait();
}

/// Answers at once, but `/slow` only when told to.
fn slow_or_not() -> (Upstream, std::sync::mpsc::Sender<()>) {
    let (go, goes) = std::sync::mpsc::channel();
    let goes = Mutex::new(goes);
    let upstream = Upstream::start(move |mut peer| {
        while let Some(request) = peer.try_message() {
            if request.starts_with("GET /slow") {
                peer.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf ");
                goes.lock().unwrap().recv_timeout(PATIENCE).unwrap();
                peer.send("half");
            } else {
                peer.send(OK);
            }
        }
    });
    (upstream, go)
}

/// What passes while recording is stopped is in no trace, is no loss, and is counted.
#[test]
fn recording_stops_and_starts_while_traffic_goes_on() {
    let (upstream, go) = slow_or_not();
    let scratch = Scratch::new();
    let process = scratch.start(&upstream.url(), &[]);
    let mut under_way = process.connect();
    under_way.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    under_way.until("half ");
    let mut peer = process.connect();
    let (status, _, body) = ask(&scratch.socket, "POST /recording/stop");
    let answer: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(status, 200);
    assert_eq!(answer, serde_json::json!({ "state": "paused", "changed": true }));
    exchange(&mut peer);
    exchange(&mut peer);
    scratch.await_metric("reenact_unrecorded_exchanges_total", 2.0);
    scratch.await_metric("reenact_unrecorded_bytes_total", 10.0);
    assert_eq!(scratch.metric("reenact_recording{state=\"paused\"}"), 1.0);
    assert_eq!(ask(&scratch.socket, "GET /readyz").0, 200, "traffic can come");
    go.send(()).unwrap();
    under_way.until("half");
    let (_, _, body) = ask(&scratch.socket, "POST /recording/stop");
    assert!(body.contains("false"), "it was stopped already: {body}");
    let (_, _, body) = ask(&scratch.socket, "POST /recording/start");
    assert!(body.contains("running") && body.contains("true"), "{body}");
    exchange(&mut peer);
    scratch.await_metric("reenact_recorded_exchanges_total", 2.0);
    // Each request is in the trace, or lost, or was not to be recorded.
    assert_eq!(scratch.metric("reenact_lost_exchanges_total"), 0.0);
    assert_eq!(scratch.metric("reenact_requests_total"), 4.0);
    peer.close();
    under_way.close();
    process.signal("-TERM");
    let (status, _, words) = process.wait();
    assert_eq!(status, Some(0), "no loss: {words}");
    let recorded = exchanges(&scratch.out);
    let bodies: Vec<_> = recorded.iter().map(Exchange::response_body).collect();
    assert_eq!(bodies, ["half half", "hello"], "what was under way is whole");
    check_verified(&scratch.out, 0);
}

#[test]
fn readiness_ends_with_the_first_signal_and_the_second_ends_the_process() {
    let (upstream, _go) = slow_or_not();
    let scratch = Scratch::new();
    let process = scratch.start(&upstream.url(), &[]);
    let mut peer = process.connect();
    peer.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    peer.until("half ");
    assert_eq!(ask(&scratch.socket, "GET /readyz").0, 200);
    process.signal("-TERM");
    process.says("finishing what is under way");
    let (status, _, body) = ask(&scratch.socket, "GET /readyz");
    assert_eq!((status, &*body), (503, "draining\n"));
    assert_eq!(ask(&scratch.socket, "GET /livez").0, 200, "it lives");
    assert_eq!(scratch.status()["exchanges"]["open"], 1);
    process.signal("-TERM");
    let (status, _, words) = process.wait();
    assert_eq!(status, Some(0), "{words}");
}

#[test]
fn a_drain_ends_at_its_deadline() {
    let (upstream, _go) = slow_or_not();
    let scratch = Scratch::new();
    let process = scratch.start(&upstream.url(), &["--drain=300ms"]);
    let mut peer = process.connect();
    peer.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    peer.until("half ");
    process.signal("-TERM");
    let (status, _, words) = process.wait();
    assert_eq!(status, Some(0), "{words}");
    assert!(words.contains("1 connections were not done"), "{words}");
}

#[test]
fn questions_are_answered_or_refused_clearly() {
    let upstream = Upstream::answering(OK);
    let scratch = Scratch::new();
    let process = scratch.start(&upstream.url(), &[]);
    for (question, fields, status, expected) in [
        ("GET /livez", "", 200, "ok"),
        ("HEAD /livez", "", 200, ""),
        ("GET /readyz", "", 200, "ready"),
        ("GET /", "", 404, "/metrics"),
        ("GET /recording/stop", "", 405, "POST /recording/stop"),
        ("POST /metrics", "", 405, ""),
        ("POST /recording/stop", "Origin: http://evil.example\r\n", 403, "web page"),
        ("POST /recording/stop", "Sec-Fetch-Site: cross-site\r\n", 403, "web page"),
    ] {
        let (found, head, body) = ask_with(&scratch.socket, question, fields);
        assert_eq!(found, status, "{question}: {body}");
        assert!(body.contains(expected), "{question}: {body}");
        assert!(head.contains("cache-control: no-store"), "{head}");
    }
    assert_eq!(scratch.status()["recording"]["state"], "running");
    process.signal("-TERM");
    process.wait();
}

/// Nothing that passes shows on any page.
#[test]
fn answers_hold_no_secret() {
    let upstream = Upstream::answering(OK);
    let scratch = Scratch::new();
    let process = scratch.start(&upstream.url(), &[]);
    exchange(&mut process.connect());
    scratch.await_metric("reenact_requests_total", 1.0);
    for path in ["/livez", "/readyz", "/status", "/metrics", "/s3cret"] {
        let (_, head, body) = ask(&scratch.socket, &format!("GET {path}"));
        assert!(!(head + &body).contains("s3cret"), "{path}: {body}");
    }
    process.signal("-TERM");
    process.wait();
}

#[test]
fn a_tcp_address_must_be_loopback_or_public_on_purpose() {
    let scratch = Scratch::new();
    let run = |more: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_reenact"))
            .args(["record", "--listen=127.0.0.1:0", "--upstream=http://127.0.0.1:9", "--out"])
            .arg(&scratch.out)
            .args(more)
            .output()
            .unwrap()
    };
    for (more, status, expected) in [
        (&["--admin=0.0.0.0:0"][..], 2, "--admin-public"),
        (&["--admin=nowhere"], 2, "is no address"),
        (&["--admin-public"], 2, "--admin"),
        (&["--admin=unix:/no/such/folder/a.sock"], 1, "/no/such/folder/a.sock"),
    ] {
        let output = run(more);
        let words = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{more:?}: {words}");
        assert!(words.contains(expected), "{more:?}: {words}");
    }
    let process = Process::start("http://127.0.0.1:9", &scratch.out, &["--admin=127.0.0.1:0"]);
    let line = process.says("admin on");
    let mut peer = Peer::connect(line.rsplit_once('/').unwrap().1.parse().unwrap());
    peer.send("GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(peer.message().ends_with("ready\n"));
    process.signal("-TERM");
    process.wait();
}

/// A disk that refuses is a state and a number, and no reason to send traffic elsewhere: unless what can't be recorded
/// is refused.
#[test]
fn readiness_does_not_hang_on_the_disk_but_with_fail_closed() {
    for (more, ready) in
        [(&["--min-free=99999999G"][..], 200), (&["--min-free=99999999G", "--fail-closed"], 503)]
    {
        let upstream = Upstream::answering(OK);
        let scratch = Scratch::new();
        let process = scratch.start(&upstream.url(), more);
        exchange(&mut process.connect());
        scratch.await_metric("reenact_recording{state=\"degraded\"}", 1.0);
        assert!(scratch.metric("reenact_recording_interruptions_total") >= 1.0);
        let (status, _, body) = ask(&scratch.socket, "GET /readyz");
        assert_eq!(status, ready, "{body}");
        assert_eq!(ask(&scratch.socket, "GET /livez").0, 200);
        let recording = &scratch.status()["recording"];
        assert_eq!(recording["state"], "degraded");
        assert!(
            recording["trouble"].as_str().is_some_and(|why| why.contains("free")),
            "{recording}"
        );
        process.signal("-TERM");
        process.wait();
    }
}

/// The disk's times are told: each flush, and each fsync when there is one.
#[test]
fn what_the_disk_takes_is_measured() {
    let upstream = Upstream::answering(OK);
    for (fsync, is_synced) in [("--fsync=flush", true), ("--fsync=segment", false)] {
        let scratch = Scratch::new();
        let process = scratch.start(&upstream.url(), &[fsync]);
        exchange(&mut process.connect());
        scratch.await_metric("reenact_recorded_exchanges_total", 1.0);
        let flushes = scratch.metric("reenact_flush_seconds_count");
        let syncs = scratch.metric("reenact_fsync_seconds_count");
        assert!(flushes >= 1.0 && scratch.metric("reenact_flush_seconds_sum") > 0.0);
        assert_eq!(syncs >= 1.0, is_synced, "{fsync}: {syncs}");
        process.signal("-TERM");
        process.wait();
    }
    // A closed segment is synced too.
    let scratch = Scratch::new();
    let process = scratch.start(&upstream.url(), &["--segment-time=1ms"]);
    exchange(&mut process.connect());
    let clock = Clock::start();
    while scratch.metric("reenact_fsync_seconds_count") == 0.0 {
        assert!(clock.now().since(Nanos::ZERO) < PATIENCE);
    }
    process.signal("-TERM");
    process.wait();
}
