//! `reenact replay` as a user runs it: the real binary, its exit statuses, its words, its run folder.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use reenact::results::RunReader;
use reenact::results::manifest::Verdict;
use reenact::trace::record::Outcome;

use crate::replay_support::{Recorded, command, reenact, rows, write_trace};
use crate::support::Upstream;

pub(crate) const BODY: &str = r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;
pub(crate) const OK: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";

/// A folder with a trace in it.
pub(crate) struct Scene {
    pub(crate) folder: tempfile::TempDir,
    trace: PathBuf,
}

impl Scene {
    pub(crate) fn new(recorded: &[Recorded]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let trace = write_trace(folder.path(), recorded);
        Self { folder, trace }
    }

    pub(crate) fn chats(n: u64) -> Self {
        let recorded: Vec<Recorded> = (0..n).map(|n| Recorded::chat(n * 10, BODY)).collect();
        Self::new(&recorded)
    }

    pub(crate) fn out(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn replay(&self, target: &str, out: &str, more: &[&str]) -> Output {
        let (trace, out) = (self.trace.display().to_string(), self.out(out).display().to_string());
        reenact(&[&["replay", &trace, "--target", target, "--out", &out], more].concat())
    }
}

pub(crate) fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[track_caller]
fn digest(output: &Output) -> String {
    let text = text(output);
    let line = text.lines().find_map(|line| line.strip_prefix("sent digest "));
    line.unwrap_or_else(|| panic!("{text}")).to_owned()
}

/// Invariant 9.
#[test]
fn two_replays_and_a_dry_run_have_the_same_digest_and_another_seed_has_not() {
    let scene = Scene::chats(6);
    let server = Upstream::answering(OK);
    let plan = ["--rate", "200", "--arrival", "gamma:2", "--seed", "5", "--set", "max_tokens=4"];
    let runs: Vec<String> =
        ["a", "b"].map(|out| digest(&scene.replay(&server.url(), out, &plan))).into();
    let trace = scene.trace.display().to_string();
    let dry = reenact(
        &[&["replay", &trace, "--target", "http://127.0.0.1:9", "--dry-run"], &plan[..]].concat(),
    );
    assert_eq!(dry.status.code(), Some(0), "{}", text(&dry));
    let seeded = [&plan[..5], &["6", "--set", "max_tokens=4"]].concat();
    let other = digest(&scene.replay(&server.url(), "c", &seeded));
    assert_eq!([&runs[0], &runs[0]], [&runs[1], &digest(&dry)]);
    assert_ne!(other, runs[0]);
    let manifest = RunReader::open(&scene.out("a")).unwrap().manifest().clone();
    assert_eq!(
        (manifest.sent_digest, manifest.counts.complete, manifest.seed),
        (runs[0].clone(), 6, 5)
    );
    assert!(manifest.finished && !manifest.interrupted);
}

#[test]
fn a_dry_run_in_json_says_what_would_be_sent_and_sends_nothing() {
    let scene = Scene::chats(3);
    let server = Upstream::answering(OK);
    let trace = scene.trace.display().to_string();
    let args = [
        "replay",
        &trace,
        "--target",
        &server.url(),
        "--target",
        "http://b/v2",
        "--speed",
        "2",
        "--dry-run",
        "--json",
    ];
    let output = reenact(&args);
    let lines: Vec<serde_json::Value> =
        text(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 4);
    assert_eq!(lines[1]["url"], "http://b/v2/v1/chat/completions");
    assert_eq!(
        lines[2]["due_ns"].as_u64().unwrap() - lines[0]["due_ns"].as_u64().unwrap(),
        10_000_000
    );
    assert_eq!((&lines[0]["model"], &lines[0]["bytes"]), (&"m".into(), &BODY.len().into()));
    assert_eq!((&lines[3]["releases"], &lines[3]["duration_s"]), (&3.into(), &0.01.into()));
    assert_eq!(server.accepted(), 0);
}

#[test]
fn filters_limit_and_loop_choose_what_is_sent() {
    let mut recorded: Vec<Recorded> = (0..6).map(|n| Recorded::chat(n * 10, BODY)).collect();
    recorded[1].target = "/health".to_owned();
    recorded[2].status = Some(500);
    recorded[3].whole = false;
    let scene = Scene::new(&recorded);
    let server = Upstream::answering(OK);
    let output = scene.replay(
        &server.url(),
        "run",
        &[
            "--filter",
            "path!=/health",
            "--filter",
            "status=2*",
            "--limit",
            "2",
            "--loop",
            "2",
            "--speed",
            "5",
        ],
    );
    assert!(
        text(&output).contains("2 left out by --filter. 1 left out: the trace does not hold"),
        "{}",
        text(&output)
    );
    let seen: Vec<(u32, u64)> =
        rows(&scene.out("run")).0.iter().map(|row| (row.round, row.exchange)).collect();
    assert_eq!(seen, [(0, 1), (0, 5), (1, 1), (1, 5)]);
}

#[test]
fn bad_input_gets_one_clear_error_and_the_right_status() {
    let scene = Scene::chats(2);
    let trace = scene.trace.display().to_string();
    let out = scene.out("run").display().to_string();
    let nothing = scene.out("nothing").display().to_string();
    let junk = scene.out("junk").display().to_string();
    std::fs::write(&junk, "this is no trace at all, whatever its name").unwrap();
    let taken = scene.out("taken").display().to_string();
    std::fs::create_dir(&taken).unwrap();
    std::fs::write(Path::new(&taken).join("run.json"), "{}").unwrap();
    let server = Upstream::answering(OK);
    let url = server.url();
    let check = |args: &[&str], status: i32, words: &str| {
        let output = reenact(&[&["replay"], args].concat());
        let text = text(&output);
        assert_eq!(output.status.code(), Some(status), "{args:?}: {text}");
        assert!(text.contains(words), "{args:?}: {text}");
    };
    let with = |more: &[&'static str], status: i32, words: &str| {
        check(&[&[&trace, "--target", &url, "--out", &out][..], more].concat(), status, words);
    };
    check(&[&nothing, "--target", &url, "--out", &out], 1, "nothing");
    check(&[&junk, "--target", &url, "--out", &out], 1, "junk");
    check(&[&trace, "--target", &url, "--out", &taken], 1, "already holds a run");
    check(&[&trace, "--target", "127.0.0.1:1", "--out", &out], 2, "must start with http://");
    check(
        &[&trace, "--target", "http://127.0.0.1:1", "--out", &out],
        1,
        "target http://127.0.0.1:1 can't be reached",
    );
    check(&[&trace, "--target", &url], 2, "--out");
    with(&["--rate", "0"], 2, "rate 0 is no use");
    with(&["--speed", "NaN"], 2, "speed NaN is no use");
    with(&["--speed", "2", "--rate", "1"], 2, "cannot be used with");
    with(&["--rate", "1", "--arrival", "uniform"], 2, "say constant, poisson or gamma:CV");
    with(&["--filter", "color=red"], 2, "not one of id, method");
    with(&["--filter", "model=none"], 1, "none of the 2 exchanges");
    with(&["--loop", "0"], 2, "can't be looped 0 times");
    with(&["--set", "x"], 2, "has no `=`");
    with(&["--header", "x"], 2, "say NAME:VALUE");
    with(&["--api-key-env", "NO_SUCH_VARIABLE"], 2, "no such environment variable");
    with(&["--http", "3"], 2, "say auto, 1.1, 2 or recorded");
    assert!(!Path::new(&out).exists(), "a run that never began leaves no folder");
    assert_eq!(std::fs::read_to_string(Path::new(&taken).join("run.json")).unwrap(), "{}");
}

#[test]
fn ctrl_c_leaves_a_readable_run_and_says_that_it_was_interrupted() {
    let recorded =
        [Recorded::chat(0, BODY), Recorded::chat(10, BODY), Recorded::chat(3_600_000, BODY)];
    let scene = Scene::new(&recorded);
    let (arrived, seen) = channel();
    let count = Arc::new(AtomicU64::new(0));
    let server = Upstream::start(move |mut peer| {
        while peer.try_message().is_some() {
            if count.fetch_add(1, Ordering::SeqCst) == 0 {
                peer.send(OK);
            } else {
                arrived.send(()).unwrap();
                peer.rest();
            }
        }
    });
    let (trace, out) = (scene.trace.display().to_string(), scene.out("run").display().to_string());
    let child = command(&["replay", &trace, "--target", &server.url(), "--out", &out])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    seen.recv_timeout(Duration::from_secs(20)).unwrap();
    let pid = rustix::process::Pid::from_raw(child.id().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", text(&output));
    assert!(text(&output).contains("interrupted after 2 of 3 releases"), "{}", text(&output));
    let manifest = RunReader::open(&scene.out("run")).unwrap().manifest().clone();
    assert!(manifest.finished && manifest.interrupted);
    assert_eq!(manifest.verdict, Verdict::Invalid);
    let outcomes: Vec<String> =
        rows(&scene.out("run")).0.into_iter().map(|row| row.outcome).collect();
    assert_eq!(outcomes, ["complete", "cancelled"]);
}

#[test]
fn the_api_key_reaches_the_target_and_nothing_else() {
    let scene = Scene::chats(1);
    let (arrived, seen) = channel();
    let server = Upstream::start(move |mut peer| {
        while let Some(message) = peer.try_message() {
            arrived.send(message).unwrap();
            peer.send(OK);
        }
    });
    let (trace, out) = (scene.trace.display().to_string(), scene.out("run").display().to_string());
    let output = command(&["replay", &trace, "--target", &server.url(), "--out", &out])
        .args([
            "--api-key-env",
            "TEST_KEY",
            "--header",
            "x-api-key: HUSHHUSH",
            "--model-map",
            "*=other",
        ])
        .env("TEST_KEY", "HUSH\n")
        .output()
        .unwrap();
    let message = seen.recv_timeout(Duration::from_secs(10)).unwrap();
    assert!(message.contains("authorization: Bearer HUSH\r\n"), "{message}");
    assert!(message.contains("x-api-key: HUSHHUSH\r\n"), "{message}");
    assert!(message.ends_with(&BODY.replace(r#""m""#, r#""other""#)), "{message}");
    assert!(!text(&output).contains("HUSH"), "{}", text(&output));
    for file in std::fs::read_dir(scene.out("run")).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        assert!(!bytes.windows(4).any(|window| window == b"HUSH"));
    }
    let row = rows(&scene.out("run")).0.remove(0);
    assert_eq!(
        (row.model_recorded.as_deref(), row.model_sent.as_deref()),
        (Some("m"), Some("other"))
    );
}

#[test]
fn outputs_are_compared_with_the_recorded_ones() {
    let answer = |text: &str| {
        format!(
            r#"{{"id":"x","object":"chat.completion","choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}"}},"finish_reason":"stop"}}]}}"#
        )
    };
    let recorded: Vec<Recorded> = ["same text", "some text"]
        .into_iter()
        .zip(0..)
        .map(|(text, n)| {
            let mut chat = Recorded::chat(n * 10, BODY);
            chat.frames = vec![(n * 10 + 2, answer(text))];
            chat
        })
        .collect();
    let scene = Scene::new(&recorded);
    let body = answer("same text");
    let server = Upstream::answering(format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    ));
    let output = scene.replay(&server.url(), "run", &[]);
    let rows = rows(&scene.out("run")).0;
    let seen: Vec<_> = rows.iter().map(|row| (row.output_equal, row.output_differs_at)).collect();
    assert_eq!(seen, [(Some(true), None), (Some(false), Some(1))], "{}", text(&output));
    assert_eq!(rows[0].recorded_status, Some(200));
    assert_eq!(rows[0].recorded_finish_reason.as_deref(), Some("stop"));
}

#[test]
fn a_run_folder_that_goes_away_is_an_error_and_ends_the_run() {
    let scene = Scene::new(&[Recorded::chat(0, BODY), Recorded::chat(600_000, BODY)]);
    let out = scene.out("run");
    let taken = out.clone();
    let server = Upstream::start(move |mut peer| {
        while peer.try_message().is_some() {
            std::fs::remove_dir_all(&taken).unwrap();
            peer.send(OK);
        }
    });
    let output = scene.replay(&server.url(), "run", &[]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains(&out.display().to_string()), "{}", text(&output));
}

/// Invariant 8: bodies are made ready ahead of their due times within a budget, not all at once.
#[test]
fn memory_stays_flat_whatever_the_trace_holds() {
    const BODIES: u64 = 80;
    // Half a megabyte each, equal on disk, 40 MB when read back.
    let body = format!(r#"{{"model":"m","prompt":"{}"}}"#, "0123456789abcdef".repeat(32 * 1024));
    let recorded: Vec<Recorded> = (0..BODIES)
        .map(|n| Recorded { target: "/v1/completions".to_owned(), ..Recorded::chat(n * 20, &body) })
        .collect();
    let scene = Scene::new(&recorded);
    drop(recorded);
    let server = Upstream::answering(OK);
    let (trace, out) = (scene.trace.display().to_string(), scene.out("run").display().to_string());
    let mut child =
        command(&["replay", &trace, "--target", &server.url(), "--out", &out, "--ahead", "4"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
    let mut peak_kib = 0;
    while child.try_wait().unwrap().is_none() {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib: u64 = line.map_or(0, |line| line.trim().trim_end_matches(" kB").parse().unwrap());
        peak_kib = peak_kib.max(kib);
        std::thread::park_timeout(Duration::from_millis(20));
    }
    let manifest = RunReader::open(&scene.out("run")).unwrap().manifest().clone();
    assert_eq!(manifest.counts.complete, BODIES, "{manifest:?}");
    // The reader's caches make most of it; all bodies at once would be 40 MB more.
    assert!(peak_kib > 0 && peak_kib < 88 * 1024, "{peak_kib} KiB");
}

#[test]
fn a_recorded_abort_is_replayed_through_the_command() {
    let mut left = Recorded::chat(0, BODY);
    left.outcome = Outcome::Cancelled;
    left.status = None;
    left.end_ms = 40;
    let scene = Scene::new(&[left]);
    let server = Upstream::start(|mut peer| {
        if peer.try_message().is_some() {
            peer.rest();
        }
    });
    let output = scene.replay(&server.url(), "run", &[]);
    let row = rows(&scene.out("run")).0.remove(0);
    assert_eq!(
        (row.outcome.as_str(), row.fault.as_deref()),
        ("cancelled", Some("client")),
        "{}",
        text(&output)
    );
}
