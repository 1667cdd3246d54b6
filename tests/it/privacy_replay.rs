//! A shaped trace is worth as much to a replay as the one that it was made of.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use reenact::results::RunReader;
use reenact::trace::{Assembler, Exchange, Trace};

use crate::replay_support::{reenact, rows};
use crate::support::{Process, check_verified};

/// A simulated server that runs.
struct Simulated {
    child: Child,
    url: String,
}

// === impl Simulated ===

impl Simulated {
    fn start() -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_reenact"));
        command.args(["simulate", "--listen", "127.0.0.1:0", "--prefill-ms", "1", "--itl-ms", "1"]);
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
        let url = line.trim().strip_prefix("simulating on ").unwrap().to_owned();
        Self { child, url }
    }
}

impl Drop for Simulated {
    fn drop(&mut self) {
        // It may have ended.
        let _gone = self.child.kill();
        let _status = self.child.wait();
    }
}

/// Records some chats, streamed and whole, with an image and in several turns.
fn record(simulated: &Simulated, out: &Path, more: &[&str]) {
    let process = Process::start(&simulated.url, out, more);
    for turn in 0..4_usize {
        let history: Vec<String> = (0..=turn)
            .map(|turn| {
                format!(
                    r#"{{"role":"user","content":"A confidential question, number {turn}: why?"}}"#
                )
            })
            .collect();
        let image = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
        let body = format!(
            r#"{{"model":"simulated","max_tokens":8,"stream":{},"messages":[{},{{"role":"user","content":[{{"type":"text","text":"Look"}},
            {{"type":"image_url","image_url":{{"url":"data:image/png;base64,{image}"}}}}]}}]}}"#,
            turn % 2 == 0,
            history.join(",")
        );
        let mut peer = process.connect();
        peer.send(format!(
            "POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        ));
        assert!(peer.rest().starts_with(b"HTTP/1.1 200"));
    }
    process.signal("-TERM");
    let (status, _, words) = process.wait();
    assert_eq!(status, Some(0), "{words}");
}

fn exchanges(path: &Path) -> Vec<Exchange> {
    Assembler::all(Trace::open(path).unwrap().scan().unwrap().map(Result::unwrap))
}

/// Returns what frames are but for their bytes.
fn cuts(exchange: &Exchange) -> Vec<(u64, u64, usize)> {
    let frames = exchange.request_frames.iter().chain(&exchange.response_frames);
    frames.map(|frame| (frame.at.0, frame.accepted.0, frame.data.len())).collect()
}

#[test]
fn a_shaped_trace_has_the_same_frames_and_replays() {
    let dir = tempfile::tempdir().unwrap();
    let simulated = Simulated::start();
    let (full, shaped, run) =
        (dir.path().join("full.trace"), dir.path().join("shaped.trace"), dir.path().join("run"));
    record(&simulated, &full, &[]);
    let output = reenact(&[
        "trace",
        "redact",
        full.to_str().unwrap(),
        shaped.to_str().unwrap(),
        "--bodies",
        "shape",
    ]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    check_verified(&shaped, 0);
    let (before, after) = (exchanges(&full), exchanges(&shaped));
    assert_eq!(before.len(), 4);
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(cuts(before), cuts(after));
        assert_eq!(before.end, after.end);
        let text = String::from_utf8_lossy(&after.request_body()).into_owned();
        assert!(!text.contains("confidential") && text.contains("simulated"), "{text}");
        assert_ne!(before.response_body(), after.response_body());
    }
    let output = reenact(&[
        "replay",
        shaped.to_str().unwrap(),
        "--target",
        &simulated.url,
        "--out",
        run.to_str().unwrap(),
        "--speed",
        "50",
    ]);
    let words = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    // A busy machine may send late and read late, which says nothing of the trace.
    let manifest = RunReader::open(&run).unwrap().manifest().clone();
    let is_busy = |reason: &&String| reason.contains("ree CPUs on this machine");
    let reasons = manifest.reasons.iter().filter(|reason| !is_busy(reason));
    assert_eq!(reasons.collect::<Vec<_>>(), Vec::<&String>::new(), "{words}");
    let (rows, _) = rows(&run);
    assert_eq!(rows.len(), 4);
    assert!(rows.iter().all(|row| row.status == Some(200) && row.outcome == "complete"), "{words}");
    assert!(rows.iter().all(|row| row.images == 1), "{rows:?}");
}

/// Recording with a policy, and redacting afterwards, give the same.
#[test]
fn a_recording_is_shaped_as_a_trace_is() {
    let dir = tempfile::tempdir().unwrap();
    let simulated = Simulated::start();
    let key = dir.path().join("key");
    std::fs::write(&key, [5; 32]).unwrap();
    let path = |name: &str| dir.path().join(name);
    let flags = ["--bodies", "shape", "--redact-key-file", key.to_str().unwrap()];
    record(&simulated, &path("live.trace"), &flags);
    record(&simulated, &path("full.trace"), &[]);
    let (full, after) = (path("full.trace"), path("after.trace"));
    let redact = ["trace", "redact", full.to_str().unwrap(), after.to_str().unwrap()];
    let output = reenact(&[&redact[..], &flags].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let bodies = |name: &str| -> Vec<_> {
        exchanges(&path(name)).iter().map(|exchange| exchange.request_body().clone()).collect()
    };
    assert_eq!(bodies("live.trace"), bodies("after.trace"));
    assert_ne!(bodies("live.trace"), bodies("full.trace"));
    let mark = |name: &str| Trace::open(&path(name)).unwrap().header().policy.clone();
    assert_eq!(mark("live.trace"), mark("after.trace"));
    assert_eq!((mark("full.trace"), mark("live.trace").unwrap().bodies), (None, 1));
}

#[test]
fn a_trace_without_bodies_says_why_it_is_not_replayed() {
    let dir = tempfile::tempdir().unwrap();
    let simulated = Simulated::start();
    for mode in ["none", "hash"] {
        let (out, run) = (dir.path().join(format!("{mode}.trace")), dir.path().join("run"));
        record(&simulated, &out, &["--bodies", mode]);
        check_verified(&out, 0);
        let exchanges = exchanges(&out);
        assert_eq!(exchanges.len(), 4);
        for exchange in &exchanges {
            let body = exchange.request_body();
            assert!(body.len() > 100 && body.iter().all(|byte| *byte == b'*'));
            assert_eq!(exchange.end.as_ref().unwrap().request.bytes, body.len() as u64);
            assert_eq!(exchange.prompt.is_some(), mode == "hash");
        }
        let (out, run) = (out.to_str().unwrap(), run.to_str().unwrap());
        let output = reenact(&["replay", out, "--target", &simulated.url, "--out", run]);
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{words}");
        assert!(words.contains("can't be replayed: by its policy"), "{words}");
    }
}

/// Returns what is exported of a trace as Mooncake has it.
fn mooncake(trace: &Path) -> Vec<serde_json::Value> {
    let output = reenact(&["trace", "export", trace.to_str().unwrap(), "--format", "mooncake"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Hashes and tokens are the same whether they were taken before the text was, or from it.
#[test]
fn a_hashed_trace_is_a_mooncake_trace() {
    let dir = tempfile::tempdir().unwrap();
    let simulated = Simulated::start();
    let (full, hashed) = (dir.path().join("full.trace"), dir.path().join("hashed.trace"));
    record(&simulated, &full, &[]);
    let (from, to) = (full.to_str().unwrap(), hashed.to_str().unwrap());
    let output = reenact(&["trace", "redact", from, to, "--bodies", "hash"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = mooncake(&hashed);
    assert_eq!(lines, mooncake(&full));
    // Streams of the simulated server tell no usage unless they are asked to.
    assert_eq!(lines.len(), 2, "{lines:?}");
    for line in &lines {
        assert_eq!(line["output_length"], 8);
        assert!(line["input_length"].as_u64().unwrap() > 10 && line["timestamp"].is_u64());
        assert!(!line["hash_ids"].as_array().unwrap().is_empty());
    }
}
