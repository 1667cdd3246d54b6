//! Encryption as a person uses it: `record --encrypt-to`, and `--identity` for every verb that reads.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread;
use std::time::Duration;

use reenact::clock::Clock;
use reenact::trace::{Assembler, Trace};

use crate::support::{KEYS, Process, Upstream, identities};

fn golden(name: &str) -> String {
    format!("{}/fixtures/trace/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn reenact(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_reenact")).args(args).output().unwrap()
}

/// Runs a command, and returns its stdout and stderr.
#[track_caller]
fn says(args: &[&str], status: i32) -> (String, String) {
    let output = reenact(args);
    let [stdout, stderr] =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert_eq!(output.status.code(), Some(status), "{args:?}: {stdout}{stderr}");
    (stdout, stderr)
}

/// Writes the identity of one of the keys to a file.
fn identity_file(dir: &Path, which: usize) -> String {
    let path = dir.join(format!("identity-{which}.txt"));
    fs::write(&path, format!("# public key: {}\n{}\n", KEYS[which].0, KEYS[which].1)).unwrap();
    path.display().to_string()
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found
}

/// Returns what is in the file, and what its bytes decompress to wherever a zstd frame may begin.
fn everything_in(path: &Path) -> Vec<u8> {
    let bytes = fs::read(path).unwrap();
    let mut all = bytes.clone();
    // The blocks' payloads in a row are whole zstd frames; the fronts between them are taken out.
    let mut stream = Vec::new();
    let mut at = 8;
    while bytes[at..].starts_with(b"\xB7RN") {
        let len = u32::from_le_bytes(bytes[at + 4..at + 8].try_into().unwrap()) & 0x7FFF_FFFF;
        let end = at + 16 + usize::try_from(len).unwrap();
        stream.extend_from_slice(&bytes[at + 16..end]);
        at = end;
    }
    for bytes in [&bytes, &stream] {
        for at in memchr::memmem::find_iter(bytes, b"\x28\xB5\x2F\xFD") {
            let mut decoder = zstd::stream::read::Decoder::new(&bytes[at..]).unwrap();
            // As far as it goes.
            let _torn = decoder.read_to_end(&mut all);
        }
    }
    all
}

/// Records an exchange with known words in every part of it, and returns which of them are found on the disk.
fn words_on_disk(more: &[&str]) -> (Vec<&'static str>, tempfile::TempDir) {
    const WORDS: [&str; 6] = [
        "word-of-the-request-body-5e1f",
        "word-of-the-request-head-77aa",
        "word-of-the-path-0b9c",
        "word-of-the-response-head-c3d4",
        "word-of-the-stream-81ee",
        "127.0.0.1",
    ];
    let upstream = Upstream::start(|mut peer| {
        peer.try_message();
        let event = "data: word-of-the-stream-81ee\n\n";
        peer.send("HTTP/1.1 200 OK\r\nX-Word: word-of-the-response-head-c3d4\r\n");
        peer.send("Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
        peer.send(format!("{:x}\r\n{event}\r\n0\r\n\r\n", event.len()));
        peer.rest();
    });
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("a.trace");
    let process = Process::start(&upstream.url(), &out, more);
    let mut peer = process.connect();
    let body = "word-of-the-request-body-5e1f";
    peer.send(format!(
        "POST /word-of-the-path-0b9c HTTP/1.1\r\nHost: a\r\nX-Word: word-of-the-request-head-77aa\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ));
    peer.until("0\r\n\r\n");
    process.signal("-TERM");
    let (status, _, words) = process.wait();
    assert_eq!(status, Some(0), "{words}");
    let all: Vec<u8> = files(dir.path()).iter().flat_map(|path| everything_in(path)).collect();
    let found =
        WORDS.into_iter().filter(|word| memchr::memmem::find(&all, word.as_bytes()).is_some());
    (found.collect(), dir)
}

#[test]
fn no_byte_of_what_was_recorded_is_on_the_disk_in_the_clear() {
    assert_eq!(words_on_disk(&[]).0.len(), 6, "the search finds what is not encrypted");
    let (found, dir) = words_on_disk(&["--encrypt-to", KEYS[0].0]);
    assert_eq!(found, [""; 0]);
    let path = dir.path().join("a.trace");
    let trace = Trace::open_with(&path, &identities(&[0])).unwrap();
    let exchange = Assembler::all(trace.scan().unwrap().map(Result::unwrap)).remove(0);
    assert_eq!(exchange.response_body(), "data: word-of-the-stream-81ee\n\n");
    assert_eq!(exchange.request_body(), "word-of-the-request-body-5e1f");
}

#[test]
fn a_recorder_says_to_how_many_it_encrypts_and_refuses_what_is_no_recipient() {
    let dir = tempfile::tempdir().unwrap();
    let list = dir.path().join("recipients.txt");
    fs::write(&list, format!("# two\n{}\n{}\n", KEYS[1].0, KEYS[2].0)).unwrap();
    let list = list.display().to_string();
    let upstream = Upstream::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let out = dir.path().join("a.trace");
    let keys = ["--encrypt-to", KEYS[0].0, "--encrypt-to-file", &list];
    let process = Process::start(&upstream.url(), &out, &keys);
    let mut peer = process.connect();
    peer.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    peer.head();
    process.signal("-TERM");
    assert_eq!(process.wait().0, Some(0));
    let (_, words) = says(&["trace", "info", out.to_str().unwrap()], 1);
    assert!(words.contains("a.trace is encrypted to 3 recipients, and no identity"), "{words}");

    let out = dir.path().join("b.trace").display().to_string();
    let base =
        ["record", "--listen", "127.0.0.1:0", "--upstream", "http://127.0.0.1:9", "--out", &out];
    let refused = |more: &[&str], status: i32, part: &str| {
        let (_, words) = says(&[&base, more].concat(), status);
        assert!(words.contains(part), "{words}");
        assert!(!words.contains(KEYS[0].1), "a secret is repeated: {words}");
        assert!(!Path::new(&out).exists());
    };
    refused(&["--encrypt-to", KEYS[0].1], 2, "this is a secret key");
    refused(&["--encrypt-to", "age1nothing"], 2, "no age recipient");
    refused(&["--encrypt-to", "ssh-ed25519 AAAA"], 2, "SSH keys are not supported");
    let secret = identity_file(dir.path(), 0);
    refused(&["--encrypt-to-file", &secret], 1, "line 2: this is a secret key");
    refused(&["--encrypt-to-file", "/none"], 1, "can't read the keys in /none");
}

#[test]
fn a_restart_leaves_an_encrypted_segment_that_a_crash_left_open_to_who_can_read_it() {
    let dir = tempfile::tempdir().unwrap();
    let out = PathBuf::from(format!("{}/", dir.path().display()));
    let upstream = Upstream::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let keys = ["--encrypt-to", KEYS[0].0];
    let first = Process::start(&upstream.url(), &out, &keys);
    let mut peer = first.connect();
    peer.send("GET /before HTTP/1.1\r\nHost: a\r\n\r\n");
    peer.head();
    let crashed = files(dir.path()).remove(0).join("00000.trace.open");
    let complete =
        || Trace::open_with(&crashed, &identities(&[0])).unwrap().health().counters.complete;
    let clock = Clock::start();
    while complete() == 0 {
        assert!(clock.now().as_secs_f64() < 20.0);
        thread::park_timeout(Duration::from_millis(10));
    }
    first.signal("-KILL");
    first.wait();
    let second = Process::start(&upstream.url(), &out, &keys);
    second.says("was left open by an earlier recording and is encrypted");
    let mut peer = second.connect();
    peer.send("GET /after HTTP/1.1\r\nHost: a\r\n\r\n");
    peer.head();
    second.signal("-TERM");
    assert_eq!(second.wait().0, Some(0));
    assert_eq!(complete(), 1, "it is as it was");
    let identity = identity_file(dir.path(), 0);
    let closed = dir.path().join("closed.trace").display().to_string();
    let open = crashed.to_str().unwrap();
    says(
        &["trace", "recover", open, &closed, "--identity", &identity, "--encrypt-to", KEYS[0].0],
        0,
    );
    let (listed, _) = says(&["trace", "list", &closed, "--identity", &identity], 0);
    assert!(listed.contains("/before"), "{listed}");
}

#[test]
fn every_verb_that_reads_takes_an_identity_and_says_when_it_lacks_one() {
    let dir = tempfile::tempdir().unwrap();
    let [plain, sealed, identity] = ["v1.0.trace", "v2.1.trace", "identity.txt"].map(golden);
    let other = identity_file(dir.path(), 1);
    for verb in [
        &["trace", "list"][..],
        &["trace", "show", "--raw", "request", "1"],
        &["trace", "verify"],
        &["trace", "export", "--format", "jsonl"],
        &["trace", "export", "--format", "har"],
        &["replay", "--target", "http://127.0.0.1:9", "--dry-run"],
    ] {
        let run = |trace: &str, more: &[&str], status| {
            // The trace is the first of what is no flag.
            let at = if verb[0] == "replay" { 1 } else { 2 };
            says(&[&verb[..at], &[trace], &verb[at..], more].concat(), status)
        };
        let status = if verb.contains(&"verify") { 3 } else { 0 };
        let (expected, _) = run(&plain, &[], status);
        let (read, _) = run(&sealed, &["--identity", &other, "--identity", &identity], status);
        assert_eq!(read, expected, "{verb:?}");
        let (_, words) = run(&sealed, &[], 1);
        let sentence = "v2.1.trace is encrypted to 2 recipients, and no identity was given: open it with --identity FILE";
        assert!(words.contains(sentence) && words.lines().count() == 1, "{words}");
        let (_, words) = run(&sealed, &["--identity", &other], 1);
        assert!(words.contains("the identity given is none of theirs"), "{words}");
    }
    let (info, _) = says(&["trace", "info", &sealed, "--identity", &identity, "--json"], 0);
    let info: serde_json::Value = serde_json::from_str(&info).unwrap();
    assert_eq!((&info["exchanges"], &info["health"]["version"]), (&6.into(), &"2.1".into()));
    assert_eq!(info["health"]["encrypted"], true);
    let (_, words) = says(&["trace", "info", &sealed, "--identity", &plain], 1);
    assert!(words.contains("v1.0.trace"), "{words}");
    let by_environment = Command::new(env!("CARGO_BIN_EXE_reenact"))
        .args(["trace", "list", &sealed])
        .env("REENACT_IDENTITY", &identity)
        .output()
        .unwrap();
    assert!(by_environment.status.success());
}

#[test]
fn what_is_made_of_an_encrypted_trace_is_encrypted_or_said_to_be_in_the_clear() {
    let dir = tempfile::tempdir().unwrap();
    let [sealed, identity] = ["v2.1.trace", "identity.txt"].map(golden);
    for verb in ["recover", "cut", "merge", "redact"] {
        let place = |name: &str| dir.path().join(format!("{verb}-{name}.trace"));
        let run = |out: &Path, more: &[&str], status| {
            let args = ["trace", verb, &sealed, out.to_str().unwrap(), "--identity", &identity];
            let policy = if verb == "redact" { &["--bodies", "shape"][..] } else { &[] };
            says(&[&args, more, policy].concat(), status).1
        };
        let out = place("none");
        let words = run(&out, &[], 2);
        assert!(words.contains("v2.1.trace is encrypted: say to whom"), "{words}");
        assert!(!out.exists());

        let out = place("plain");
        let words = run(&out, &["--plain"], 0);
        assert!(words.contains("is not encrypted: anybody can read it"), "{words}");
        assert_eq!(Trace::open(&out).unwrap().exchanges(), 6);

        let out = place("sealed");
        let words = run(&out, &["--encrypt-to", KEYS[2].0], 0);
        assert!(!words.contains("anybody"), "{words}");
        let trace = Trace::open_with(&out, &identities(&[2])).unwrap();
        assert_eq!(trace.exchanges(), 6);
        assert!(Trace::open(&out).is_err());
    }
}
