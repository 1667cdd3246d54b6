//! `reenact demo`: the README's first command, whole.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use reenact::results::manifest::Manifest;
use reenact::trace::Trace;
use reenact::trace::record::Outcome;
use rustix::process::{Pid, Signal};

fn demo(out: &std::path::Path) -> std::process::Output {
    // A setting of the user's for another verb must not reach the demo's own.
    let mut command = Command::new(env!("CARGO_BIN_EXE_reenact"));
    command.arg("demo").arg("--out").arg(out).env("REENACT_LIMIT", "1").output().unwrap()
}

#[test]
fn the_whole_loop_runs_and_tells_where_everything_is() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("demo");
    let output = demo(&out);
    let story = String::from_utf8(output.stdout).unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{story}\n{error}");

    let bytes = fs::read(out.join("demo.trace")).unwrap();
    let key = b"demo-key-that-no-trace-holds";
    assert!(!bytes.windows(key.len()).any(|window| window == key), "a credential is in the trace");
    let trace = Trace::open(&out.join("demo.trace")).unwrap();
    assert!(trace.health().complete);
    let outcomes: Vec<Outcome> = trace.entries().iter().filter_map(|entry| entry.outcome).collect();
    assert_eq!(outcomes.len(), 42);
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == Outcome::Cancelled).count(), 1);

    let mut digests = Vec::new();
    for run in ["replay-1x", "replay-4x"] {
        let text = fs::read_to_string(out.join(run).join("run.json")).unwrap();
        let manifest: Manifest = serde_json::from_str(&text).unwrap();
        assert!(manifest.finished);
        let counts = manifest.counts;
        assert_eq!((counts.sent, counts.complete, counts.cancelled, counts.errors), (42, 41, 1, 1));
        assert!(
            manifest.telemetry.iter().any(|note| note.contains("GPU")) || !manifest.gpus.is_empty()
        );
        for file in [
            "requests.parquet",
            "frames.parquet",
            "host.parquet",
            "server_metrics.parquet",
            "report.html",
            "summary.md",
        ] {
            assert!(out.join(run).join(file).is_file(), "{run}/{file}");
        }
        digests.push(manifest.sent_digest);
    }
    assert_ne!(digests[0], digests[1], "due times are part of it");
    assert!(out.join("comparison.html").is_file());
    // The simulated server says the same to the same request, so every text must be the recorded one.
    assert_eq!(story.matches("35 outputs equal to the recorded ones, 0 not").count(), 2, "{story}");
    for told in ["demo.trace", "report.html", "comparison.html", "trace list", "replay my.trace"] {
        assert!(story.contains(told), "{told}: {story}");
    }
}

#[test]
fn a_signal_ends_all_that_was_started() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_reenact"));
    command.arg("demo").arg("--out").arg(folder.path().join("demo")).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address =
        line.split("http://").nth(1).unwrap().split(':').take(2).collect::<Vec<_>>().join(":");
    assert!(TcpStream::connect(&address).is_ok(), "{address}");
    rustix::process::kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    // Bounded by the connections' patience: it ends its idle ones at once.
    let gone = (0..1_000).any(|_| {
        std::thread::park_timeout(Duration::from_millis(20));
        TcpStream::connect(&address).is_err()
    });
    assert!(gone, "the simulated server still listens on {address}");
}

#[test]
fn a_story_that_nobody_reads_ends_in_silence() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_reenact"));
    command.arg("demo").arg("--out").arg(folder.path().join("demo"));
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && error.is_empty(), "{error}");
}

#[test]
fn a_folder_in_use_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("mine"), "precious").unwrap();
    let output = demo(folder.path());
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(error.contains("is not empty"), "{error}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}
