//! `reenact trace cut` and `merge` as commands: their words, their exit statuses, their memory.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use reenact::trace::Trace;
use reenact::trace::record::Side;

use crate::trace_cut::{read, write};
use crate::trace_events::{end_after, frame, header, millis, request, response};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/trace").join(name)
}

/// Runs `reenact trace`, and returns its exit status and what it said.
fn run(args: &[&str]) -> (i32, String) {
    let output =
        Command::new(env!("CARGO_BIN_EXE_reenact")).arg("trace").args(args).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code().unwrap(), said)
}

/// Runs `reenact trace` and returns the most memory that it took, in KiB.
fn peak_kib(args: &[&str]) -> u64 {
    let mut child = Command::new(env!("CARGO_BIN_EXE_reenact"))
        .arg("trace")
        .args(args)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut peak_kib = 0;
    while child.try_wait().unwrap().is_none() {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id()));
        let status = status.unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.map_or(0, |line| line.trim().trim_end_matches(" kB").parse().unwrap());
        peak_kib = peak_kib.max(kib);
        std::thread::park_timeout(Duration::from_millis(5));
    }
    assert!(child.wait().unwrap().success());
    peak_kib
}

#[test]
fn cutting_and_merging_take_no_more_memory_for_a_larger_trace() {
    const EXCHANGES: u64 = 40;
    let dir = tempfile::tempdir().unwrap();
    // 500 frames of 4 kB each, alike on disk, 80 MB when read back.
    let data = bytes::Bytes::from("0123456789abcdef".repeat(250));
    let mut events = Vec::new();
    for id in 1..=EXCHANGES {
        let at = |ms: u64| millis(id * 1_000 + ms);
        let mut exchange = vec![request(id, at(0), "/"), response(id, at(1), "text/plain")];
        exchange.extend((0..500).map(|n| frame(id, Side::Response, at(2 + n), data.clone())));
        let end = end_after(&exchange, id, at(600));
        events.extend(exchange);
        events.push(end);
    }
    write(&dir.path().join("whole.trace"), header(), &events);
    drop(events);
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let [whole, a, b, out] = ["whole.trace", "a.trace", "b.trace", "out.trace"].map(path);
    let cutting = [
        peak_kib(&["cut", &whole, &a, "--to", "20s", "--filter", "method=POST"]),
        peak_kib(&["cut", &whole, &b, "--from", "20s"]),
    ];
    let merging = peak_kib(&["merge", &a, &b, &out]);
    let peaks = [cutting, [merging; 2]].concat();
    assert!(peaks.iter().all(|&kib| kib > 0 && kib < 72 << 10), "{peaks:?} KiB");
    assert_eq!(Trace::open(Path::new(&out)).unwrap().exchanges() as u64, EXCHANGES);
}

#[test]
fn cut_and_merge_as_commands() {
    let dir = tempfile::tempdir().unwrap();
    let source = golden("v1.0.trace");
    let source = source.to_str().unwrap();
    let out = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let check = |name: &str, args: &[&str], expected: &[u64]| {
        let path = out(name);
        let (status, said) = run(&[&["cut", source, &path], args].concat());
        assert_eq!(status, 0, "{said}");
        let trace = Trace::open(Path::new(&path)).unwrap();
        let ids: Vec<u64> = trace.entries().iter().map(|entry| entry.id.0).collect();
        assert_eq!(ids, expected, "{args:?}");
        assert_eq!(trace.health().counters.admitted, 8);
    };
    check("early.trace", &["--to", "1s"], &[1, 2, 3]);
    check("late.trace", &["--from", "1s"], &[4, 5, 6]);
    check("wall.trace", &["--from", "2026-01-02T03:04:06.5Z"], &[4, 5, 6]);
    check("ids.trace", &["--exchange", "2..4"], &[2, 3, 4]);
    check("failed.trace", &["--filter", "outcome=failed"], &[2, 5]);
    check("both.trace", &["--filter", "status=503", "--exchange", "..3"], &[2]);
    let (status, said) = run(&["cut", source, &out("early.trace")]);
    assert!(status == 1 && said.contains("exists already"), "{said}");
    let (status, said) = run(&["cut", source, &out("x.trace"), "--from", "soon"]);
    assert!(status == 2 && said.contains("is no time"), "{said}");
    let (status, said) = run(&["cut", source, &out("none.trace"), "--exchange", "99"]);
    assert!(status == 0 && said.contains("the new trace is empty"), "{said}");
    let damaged = golden("damaged/zero-page.trace");
    let (status, said) = run(&["cut", damaged.to_str().unwrap(), &out("d.trace")]);
    assert!(status == 3 && said.contains("can't be read"), "{said}");

    let merged = out("merged.trace");
    let (status, said) = run(&["merge", &out("late.trace"), &out("early.trace"), &merged]);
    assert_eq!(status, 0, "{said}");
    let merged = Trace::open(Path::new(&merged)).unwrap();
    assert_eq!(read(&merged), read(&Trace::open(Path::new(source)).unwrap()));
}
