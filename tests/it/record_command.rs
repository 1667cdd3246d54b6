//! `reenact record` as a process: signals, death, a full disk, wrong arguments; the trace read back each time.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use reenact::clock::Clock;
use reenact::trace::record::Outcome;
use reenact::trace::{Assembler, Exchange, Trace, open_path};

use crate::support::{KEYS, Process, SmallDisk, Upstream, check_verified, identities};

const GET: &str = "GET /v1/x HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer s3cret\r\n\r\n";
const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
const PATIENCE: Duration = Duration::from_secs(20);

fn exchanges(path: &Path) -> Vec<Exchange> {
    let trace = Trace::open_with(path, &identities(&[0])).unwrap();
    Assembler::all(trace.scan().unwrap().map(Result::unwrap))
}

fn scratch() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("a.trace");
    (folder, out)
}

#[test]
fn a_signal_lets_what_is_under_way_finish() {
    for signal in ["-TERM", "-INT"] {
        let (go, goes) = channel();
        let goes = std::sync::Mutex::new(goes);
        let upstream = Upstream::start(move |mut peer| {
            peer.head();
            peer.send(CHUNKED.to_owned() + "5\r\nfirst\r\n");
            goes.lock().unwrap().recv_timeout(PATIENCE).unwrap();
            peer.send("4\r\nlast\r\n0\r\n\r\n");
            peer.rest();
        });
        let (_folder, out) = scratch();
        let process = Process::start(&upstream.url(), &out, &["--json"]);
        let mut peer = process.connect();
        peer.send(GET);
        peer.until("first\r\n");
        process.signal(signal);
        // It listens no more, and the stream goes on.
        let clock = Clock::start();
        while std::net::TcpStream::connect(process.address).is_ok() {
            assert!(clock.now().since(reenact::clock::Nanos::ZERO) < PATIENCE);
        }
        go.send(()).unwrap();
        peer.until("last\r\n0\r\n\r\n");
        let (status, stdout, words) = process.wait();
        assert_eq!(status, Some(0), "{words}");
        let summary: serde_json::Value = serde_json::from_str(&stdout).unwrap();
        assert_eq!(summary["exchanges"]["complete"], 1);
        assert!(words.contains("1 complete"), "{words}");
        let exchanges = exchanges(&out);
        assert_eq!(exchanges[0].response_body(), "firstlast");
        assert!(Trace::open(&out).unwrap().health().complete);
        check_verified(&out, 0);
        assert!(!String::from_utf8_lossy(&fs::read(&out).unwrap()).contains("s3cret"));
    }
}

#[test]
fn a_second_signal_ends_at_once_and_the_trace_says_what_was_cut() {
    let upstream = Upstream::start(|mut peer| {
        peer.head();
        peer.send(CHUNKED.to_owned() + "5\r\nfirst\r\n");
        peer.rest();
    });
    let (_folder, out) = scratch();
    let process = Process::start(&upstream.url(), &out, &[]);
    let mut peer = process.connect();
    peer.send(GET);
    peer.until("first\r\n");
    process.signal("-TERM");
    while std::net::TcpStream::connect(process.address).is_ok() {}
    process.signal("-TERM");
    let (status, _, words) = process.wait();
    assert_eq!(status, Some(0), "{words}");
    let exchange = exchanges(&out).remove(0);
    assert_eq!(exchange.response_body(), "first");
    let end = exchange.end.unwrap();
    assert_eq!(end.outcome, Outcome::Failed);
    assert!(end.fault.unwrap().text.contains("proxy stopped"));
    check_verified(&out, 0);
}

/// Sends an event each 10 ms, for ever, and tells each number when it was sent.
fn ticking() -> (Upstream, Receiver<(u32, reenact::clock::Nanos)>, Clock) {
    let (sent, sends) = channel();
    let clock = Clock::start();
    let upstream = Upstream::start(move |mut peer| {
        peer.head();
        peer.send(CHUNKED);
        for number in 0.. {
            let event = format!("data: {number:05}\n\n");
            let at = clock.now();
            if !peer.try_send(format!("{:x}\r\n{event}\r\n", event.len())) {
                return;
            }
            if sent.send((number, at)).is_err() {
                return;
            }
            thread::park_timeout(Duration::from_millis(10));
        }
    });
    (upstream, sends, clock)
}

/// Invariant 7: what is older than 200 ms survives `kill -9`.
#[test]
fn a_killed_recorder_loses_at_most_the_last_200_ms() {
    let sealed = ["--encrypt-to", KEYS[0].0];
    for (run_for, more) in [(300, &[][..]), (450, &sealed), (600, &[]), (600, &sealed)] {
        let (upstream, sends, clock) = ticking();
        let (_folder, out) = scratch();
        let process = Process::start(&upstream.url(), &out, more);
        let mut peer = process.connect();
        peer.send(GET);
        peer.until(&format!("data: {:05}\n\n", run_for / 10));
        let killed = clock.now();
        process.signal("-KILL");
        process.wait();
        peer.rest();
        let old = |at: reenact::clock::Nanos| killed.since(at) > Duration::from_millis(200);
        let expected: Vec<u32> =
            sends.try_iter().filter(|(_, at)| old(*at)).map(|(number, _)| number).collect();
        assert!(expected.len() > 5, "{expected:?}");
        let open = open_path(&out);
        let trace = Trace::open_with(&open, &identities(&[0])).unwrap();
        assert!(!trace.health().complete, "it says that it was cut");
        let exchange = exchanges(&open).remove(0);
        let body = exchange.response_body();
        let text = str::from_utf8(&body).unwrap();
        for number in expected {
            assert!(
                text.contains(&format!("data: {number:05}\n\n")),
                "{number} is missing in {text}"
            );
        }
    }
}

#[test]
fn a_full_disk_harms_no_traffic_and_what_is_on_it_can_be_read() {
    let Some(disk) = SmallDisk::new("1m") else {
        eprintln!("left out: mounting a small file system is not allowed here");
        return;
    };
    const NOISE: usize = 64 << 10;
    let upstream = Upstream::start(|mut peer| {
        for number in 0_u8.. {
            if peer.try_message().is_none() {
                return;
            }
            // No two alike, or they would be stored once.
            let mut noise = vec![0; NOISE];
            blake3::Hasher::new().update(&[number]).finalize_xof().fill(&mut noise);
            peer.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {NOISE}\r\n\r\n"));
            peer.send(noise);
        }
    });
    let out = disk.path().join("a.trace");
    let process = Process::start(&upstream.url(), &out, &["--min-free", "0"]);
    let mut peer = process.connect();
    for _ in 0..30 {
        peer.send(GET);
        peer.head();
        assert_eq!(peer.exactly(NOISE).len(), NOISE);
        thread::park_timeout(Duration::from_millis(30));
    }
    process.signal("-TERM");
    let (status, _, words) = process.wait();
    assert_eq!(status, Some(1), "{words}");
    assert!(words.contains("could not be written") && words.contains("a.trace.open"), "{words}");
    assert!(words.contains("degraded: can't write"), "{words}");
    let kept = exchanges(&open_path(&out));
    assert!(!kept.is_empty() && kept.len() < 30, "{}", kept.len());
    assert_eq!(kept[0].response_body().len(), NOISE);
}

/// Returns the folders in a folder, by name.
fn folders(path: &Path) -> Vec<PathBuf> {
    let mut found: Vec<_> =
        fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found
}

#[test]
fn a_restart_closes_what_a_crash_left_open_and_records_beside_it() {
    let dir = tempfile::tempdir().unwrap();
    let out = PathBuf::from(format!("{}/", dir.path().display()));
    let upstream = Upstream::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let fetch = |process: &Process| {
        let mut peer = process.connect();
        peer.send(GET);
        peer.head();
    };
    let first = Process::start(&upstream.url(), &out, &[]);
    fetch(&first);
    let crashed = folders(dir.path()).remove(0).join("00000.trace.open");
    let clock = Clock::start();
    while Trace::open(&crashed).map_or(0, |trace| trace.health().counters.complete) == 0 {
        assert!(clock.now().as_secs_f64() < PATIENCE.as_secs_f64());
        thread::park_timeout(Duration::from_millis(10));
    }
    // A second beside it: neither closes what the other writes.
    let second = Process::start(&upstream.url(), &out, &[]);
    fetch(&second);
    assert!(crashed.exists());
    first.signal("-KILL");
    let (status, ..) = first.wait();
    assert_eq!(status, None);
    let third = Process::start(&upstream.url(), &out, &["--keep", "1G"]);
    assert!(!crashed.exists());
    for process in [second, third] {
        process.signal("-TERM");
        assert_eq!(process.wait().0, Some(0));
    }
    let traces = folders(dir.path());
    assert_eq!(traces.len(), 3);
    let counts: Vec<_> = traces.iter().map(|path| exchanges(path).len()).collect();
    assert_eq!(counts, [1, 1, 0]);
    assert!(traces.iter().all(|path| Trace::open(path).unwrap().health().complete));
}

#[test]
fn who_wants_no_unrecorded_traffic_gets_503_until_the_disk_has_room() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("a.trace");
    let upstream = Upstream::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    // No disk has so much room.
    let args = ["--fail-closed", "--min-free", "1000000G"];
    let process = Process::start(&upstream.url(), &out, &args);
    process.says("degraded:");
    let mut peer = process.connect();
    peer.send(GET);
    let head = peer.head();
    assert!(
        head.starts_with("HTTP/1.1 503") && head.contains("x-reenact-error: unrecorded"),
        "{head}"
    );
    process.signal("-TERM");
    let (status, _, words) = process.wait();
    assert_eq!(status, Some(1), "{words}");
    assert!(words.contains("bytes free, fewer than"), "{words}");
}

/// Invariant 1, with recovery: room that is made while it records is used, and nothing that fits into the queue is lost.
#[test]
fn a_disk_that_gets_room_again_is_recorded_to_again_and_nothing_is_missing() {
    let Some(disk) = SmallDisk::new("1m") else {
        eprintln!("left out: mounting a small file system is not allowed here");
        return;
    };
    let ballast = disk.path().join("ballast");
    fs::write(&ballast, vec![1; 960 << 10]).unwrap();
    let noise: Vec<u8> = {
        let mut noise = vec![0; 100 << 10];
        blake3::Hasher::new().finalize_xof().fill(&mut noise);
        noise
    };
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", noise.len());
    let upstream = Upstream::answering([head.as_bytes(), &noise].concat());
    let out = disk.path().join("a.trace");
    let process = Process::start(&upstream.url(), &out, &["--min-free", "0"]);
    let mut peer = process.connect();
    let mut fetch = || {
        peer.send(GET);
        peer.head();
        assert_eq!(peer.exactly(100 << 10), noise);
    };
    fetch();
    process.says("degraded: can't write");
    fetch();
    fs::remove_file(&ballast).unwrap();
    process.says("recording again after");
    fetch();
    process.signal("-TERM");
    let (status, _, words) = process.wait();
    assert_eq!(status, Some(0), "{words}");
    let kept = exchanges(&out);
    assert_eq!(kept.len(), 3);
    assert!(kept.iter().all(|exchange| exchange.response_body() == noise));
}

fn fail(args: &[&str]) -> Output {
    let output =
        Command::new(env!("CARGO_BIN_EXE_reenact")).arg("record").args(args).output().unwrap();
    assert!(!output.status.success());
    output
}

#[track_caller]
fn check_usage(args: &[&str], status: i32, expected: &str) {
    let output = fail(args);
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(words.contains(expected), "{args:?}: {words}");
    assert_eq!(output.status.code(), Some(status), "{args:?}: {words}");
    assert!(output.stdout.is_empty());
}

#[test]
fn bad_arguments_get_one_clear_error() {
    let (folder, out) = scratch();
    let out = out.to_str().unwrap();
    let taken = folder.path().join("taken.trace");
    fs::write(&taken, "precious").unwrap();
    let taken = taken.to_str().unwrap();
    let up = "--upstream=http://127.0.0.1:9";
    let listen = "--listen=127.0.0.1:0";
    check_usage(&[listen, up, "--out", taken], 1, "exists already");
    assert_eq!(fs::read_to_string(taken).unwrap(), "precious");
    check_usage(&[listen, up, "--out", "/no/such/folder/a.trace"], 1, "/no/such/folder");
    check_usage(&[listen, "--upstream=localhost:9", "--out", out], 2, "must start with http://");
    check_usage(&[listen, "--upstream=http://u:p@h/", "--out", out], 2, "user name");
    check_usage(&["--listen=nowhere", up, "--out", out], 2, "is no address to listen on");
    check_usage(&[listen, up, "--out", out, "--queue-bytes=lots"], 2, "is no number of bytes");
    check_usage(&[listen, up, "--out", out, "--level=99"], 2, "99");
    check_usage(&[listen, up, "--out", out, "--redact-header=a b"], 2, "a b");
    check_usage(&[listen, up, "--out", out, "--tls-cert=x.pem"], 2, "--tls-key");
    check_usage(
        &[listen, up, "--out", out, "--tls-cert=/no.pem", "--tls-key=/no.pem"],
        1,
        "/no.pem",
    );
    let https = "--upstream=https://127.0.0.1:9";
    check_usage(&[listen, https, "--out", out, "--upstream-ca=/no.pem"], 1, "/no.pem");
    check_usage(&[listen, https, "--out", out, "--upstream-pin=abc"], 2, "is not a SHA-256");
    check_usage(&[listen, up, "--out", out, "--redact-key-file", taken], 1, "32 bytes");
    let busy = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = busy.local_addr().unwrap().to_string();
    check_usage(&["--listen", &address, up, "--out", out], 1, &address);
    assert!(!Path::new(out).exists() && !open_path(Path::new(out)).exists());
}

#[test]
fn a_recording_of_nothing_is_a_trace_all_the_same() {
    let (_folder, out) = scratch();
    let process = Process::start("http://127.0.0.1:9", &out, &["--duration=50ms"]);
    let (status, stdout, words) = process.wait();
    assert_eq!((status, stdout.as_str()), (Some(0), ""), "{words}");
    assert!(exchanges(&out).is_empty());
    check_verified(&out, 0);
}

#[test]
fn loss_is_exit_status_3_and_a_gap_in_the_trace() {
    let body = "x".repeat(256 << 10);
    let upstream = Upstream::answering(format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ));
    let (_folder, out) = scratch();
    let process = Process::start(&upstream.url(), &out, &["--queue-bytes=8K"]);
    let mut peer = process.connect();
    peer.send(GET);
    peer.head();
    assert_eq!(peer.exactly(body.len()).len(), body.len());
    peer.close();
    process.signal("-TERM");
    let (status, _, words) = process.wait();
    assert_eq!(status, Some(3), "{words}");
    assert!(words.contains("LOST"), "{words}");
    let exchange = exchanges(&out).remove(0);
    let passed = exchange.end.unwrap().response;
    assert_eq!(passed.bytes, body.len() as u64);
    assert!(passed.lost_bytes > 0);
    check_verified(&out, 3);
}
