//! Sessions and the scaling of a load, as a user asks for them: the real binary, its plan, its rows.

use std::collections::BTreeSet;
use std::process::Output;
use std::sync::{Arc, Mutex};

use reenact::results::RunReader;

use crate::replay_support::{Recorded, reenact, rows, write_trace};
use crate::support::Upstream;

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";

/// Two conversations of two turns each by what was said, and a request that stands alone.
fn conversations() -> Vec<Recorded> {
    let turn = |at_ms, messages: &[(&str, &str)], answer: &str| {
        let messages: Vec<_> = messages
            .iter()
            .map(|(role, content)| serde_json::json!({"role": role, "content": content}))
            .collect();
        let body = serde_json::json!({"model": "m", "messages": messages}).to_string();
        let event = serde_json::json!({"choices": [{"index": 0, "delta": {"content": answer}}]});
        Recorded {
            frames: vec![(at_ms + 5, format!("data: {event}\n\ndata: [DONE]\n\n"))],
            ..Recorded::chat(at_ms, &body)
        }
    };
    vec![
        turn(0, &[("user", "hi")], "one"),
        turn(0, &[("user", "hi")], "two"),
        turn(20, &[("user", "hi"), ("assistant", "two"), ("user", "more")], "2"),
        turn(30, &[("user", "hi"), ("assistant", "one"), ("user", "more")], "1"),
        turn(40, &[("user", "alone")], "-"),
    ]
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Returns the lines of a dry run of the conversations, the last of which is the total.
fn dry(more: &[&str]) -> Vec<serde_json::Value> {
    let folder = tempfile::tempdir().unwrap();
    let trace = write_trace(folder.path(), &conversations()).display().to_string();
    let args = ["replay", &trace, "--target", "http://127.0.0.1:9", "--dry-run", "--json"];
    let output = reenact(&[&args[..], more].concat());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let lines = String::from_utf8(output.stdout).unwrap();
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn sessions_are_found_and_said() {
    let sessions = |key| -> Vec<String> {
        let mut lines = dry(&["--session-key", key]);
        lines.pop();
        lines.iter().map(|line| format!("{} {}", line["session"], line["turn"])).collect()
    };
    let by_messages = ["\"#1\" 1", "\"#2\" 1", "\"#2\" 2", "\"#1\" 2", "null 1"];
    assert_eq!(sessions("auto"), by_messages);
    assert_eq!(sessions("user,messages"), by_messages);
    assert_eq!(sessions("none"), ["null 1"; 5]);
}

/// Invariant 9, with every transform.
#[test]
fn scaled_plans_are_the_same_for_the_same_seed() {
    let scaled = |seed| {
        let scale =
            ["--sample", "70%", "--clone", "3", "--clone-shift", "2s", "--idle-cap", "15ms"];
        let rest = ["--spread-ties", "8", "--speed", "2", "--loop", "2", "--seed", seed];
        dry(&[&scale[..], &rest].concat())
    };
    let (first, again) = (scaled("6"), scaled("6"));
    assert_eq!(first, again);
    assert_ne!(first.last(), scaled("7").last());
    let (plain, spread) = (dry(&[]), dry(&["--spread-ties", "8"]));
    let due = |lines: &[serde_json::Value], line: usize| lines[line]["due_ns"].as_u64().unwrap();
    assert_eq!(due(&plain, 1) - due(&plain, 0), 0);
    assert_eq!(due(&spread, 1) - due(&spread, 0), 4_000_000);
}

#[test]
fn copies_have_prefixes_and_rounds_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let trace = write_trace(folder.path(), &conversations()).display().to_string();
    let run = folder.path().join("run");
    let server = Upstream::answering(OK);
    let (url, out) = (server.url(), run.display().to_string());
    let args = ["replay", &trace, "--target", &url, "--out", &out, "--clone", "2"];
    let output = reenact(&[&args[..], &["--clone-shift", "20ms", "--loop", "2"]].concat());
    assert!(text(&output).contains("20 planned, 20 sent"), "{}", text(&output));
    let (rows, _) = rows(&run);
    let places: BTreeSet<_> = rows.iter().map(|row| (row.exchange, row.round)).collect();
    assert_eq!(places.len(), 20);
    let row = |exchange, round| {
        rows.iter().find(|row| (row.exchange, row.round) == (exchange, round)).unwrap()
    };
    assert_eq!(row(3, 0).session.as_deref(), Some("#2"));
    assert_eq!((row(3, 1).session.as_deref(), row(3, 1).turn), (Some("#2~1"), Some(2)));
    // A copy sends something else than the recorded session, and the same in every round.
    assert_eq!(row(3, 0).request_digest, row(3, 2).request_digest);
    assert_eq!(row(3, 1).request_digest, row(3, 3).request_digest);
    assert_eq!(row(3, 1).request_bytes, row(3, 0).request_bytes + 15);
}

#[test]
fn the_warm_up_is_kept_and_marked_and_in_no_figure() {
    let folder = tempfile::tempdir().unwrap();
    let trace = write_trace(folder.path(), &conversations()).display().to_string();
    let server = Upstream::answering(OK);
    for (name, warmup, marked) in [("a", "2", vec![1, 2]), ("b", "25ms", vec![1, 2, 3])] {
        let run = folder.path().join(name);
        let (url, out) = (server.url(), run.display().to_string());
        let args = ["replay", &trace, "--target", &url, "--out", &out, "--warmup", warmup];
        let output = reenact(&args);
        let words = format!("{} of these are the warm-up", marked.len());
        assert!(text(&output).contains(&words), "{}", text(&output));
        let seen: Vec<u64> =
            rows(&run).0.iter().filter(|row| row.warmup).map(|row| row.exchange).collect();
        assert_eq!(seen, marked);
        let report = reenact(&["report", &out, "--json"]);
        let report: serde_json::Value = serde_json::from_slice(&report.stdout).unwrap();
        let counts = &report["counts"];
        assert_eq!(
            (&counts["warmup"], &counts["rows"]),
            (&marked.len().into(), &(5 - marked.len()).into())
        );
        assert_eq!(report["latencies"]["e2e"]["rows"], counts["rows"]);
        assert_eq!(report["manifest"]["counts"]["complete"], 5);
        assert!(!report["warnings"].to_string().contains("rows_missing"), "{report}");
    }
}

#[test]
fn a_turn_waits_for_the_end_of_the_one_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let trace = write_trace(folder.path(), &conversations()).display().to_string();
    // Breaks off after half of an answer, whatever it is asked: turns fail, and their sessions go on.
    let server = Upstream::start(|mut peer| {
        if peer.try_message().is_some() {
            peer.try_send(&OK[..OK.len() - 1]);
        }
    });
    for (clock, out) in [("session", "a"), ("hybrid", "b")] {
        let run = folder.path().join(out);
        let (url, out) = (server.url(), run.display().to_string());
        let args = ["replay", &trace, "--target", &url, "--out", &out, "--clock", clock];
        let output = reenact(&[&args[..], &["--loop", "2", "--speed", "2"]].concat());
        assert!(text(&output).contains("10 sent"), "{}", text(&output));
        let (rows, _) = rows(&run);
        assert_eq!(rows.iter().filter(|row| row.outcome == "failed").count(), 10);
        let row = |exchange, round| {
            rows.iter().find(|row| (row.exchange, row.round) == (exchange, round)).unwrap()
        };
        let first = row(1, 0).due_ns.unwrap();
        for (before, after, think_ns, recorded_ns) in
            [(1, 4, 12_500_000, 15_000_000), (2, 3, 7_500_000, 10_000_000)]
        {
            for round in [0, 1] {
                let ready = row(before, round).end_ns.unwrap() + think_ns;
                let due = row(after, round).due_ns.unwrap();
                let own = first + recorded_ns;
                match (clock, round) {
                    ("session", _) => assert_eq!(due, ready),
                    (_, 0) => assert_eq!(due, ready.max(own)),
                    _ => assert!(due >= ready),
                }
            }
            assert!(row(before, 1).due_ns.unwrap() >= row(after, 0).end_ns.unwrap());
        }
        let dry = dry(&["--clock", clock, "--loop", "2", "--speed", "2"]);
        let digest = RunReader::open(&run).unwrap().manifest().sent_digest.clone();
        assert_eq!(dry.last().unwrap()["sent_digest"], digest);
        assert!(dry[0]["due_ns"].is_null(), "{}", dry[0]);
    }
}

#[test]
fn a_live_history_goes_on_from_what_the_target_answered() {
    let folder = tempfile::tempdir().unwrap();
    let mut recorded = conversations();
    // The client of this one changed the answer: what it says stays.
    let body = String::from_utf8(recorded[3].body.to_vec()).unwrap();
    recorded[3].body = body.replace("\"one\"", "\"[cut]\"").into();
    let trace = write_trace(folder.path(), &recorded).display().to_string();
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let theirs = Arc::clone(&seen);
    let server = Upstream::start(move |mut peer| {
        while let Some(message) = peer.try_message() {
            theirs.lock().unwrap().push(message);
            let answer = serde_json::json!({"choices": [{"index": 0, "finish_reason": "stop",
                "message": {"role": "assistant", "content": "of my 'own'"}}]});
            let answer = answer.to_string();
            let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length:";
            if !peer.try_send(format!("{head} {}\r\n\r\n{answer}", answer.len())) {
                return;
            }
        }
    });
    let run = folder.path().join("run");
    let (url, out) = (server.url(), run.display().to_string());
    let args = ["replay", &trace, "--target", &url, "--out", &out, "--clock", "session"];
    let output = reenact(&[&args[..], &["--history", "live"]].concat());
    assert!(text(&output).contains("5 sent"), "{}", text(&output));
    let (rows, _) = rows(&run);
    let history: Vec<_> = rows.iter().map(|row| row.history.as_deref()).collect();
    assert_eq!(history, [None, None, Some("live"), Some("recorded"), None]);
    let seen = seen.lock().unwrap();
    let with = |text: &str| seen.iter().filter(|message| message.contains(text)).count();
    assert_eq!((with("\"of my 'own'\""), with("[cut]"), with("\"two\"")), (1, 1, 0));
}

#[test]
fn bad_scales_end_at_once_with_a_clear_error() {
    let folder = tempfile::tempdir().unwrap();
    let trace = write_trace(folder.path(), &conversations()).display().to_string();
    for (more, status, words) in [
        (["--session-key", "cookie"], 2, "`cookie` is no session key"),
        (["--session-key", "header:x-nobody"], 1, "--session-key header:x-nobody finds no session"),
        (["--sample", "0"], 2, "a share of 0 leaves nothing"),
        (["--sample", "0.000001"], 1, "keeps none of the 3 sessions"),
        (["--warmup", "some"], 2, "`some` is no warm-up"),
        (["--warmup", "5"], 1, "leaves nothing to measure: the plan has 5 requests in 0.040 s"),
        (["--warmup", "1m"], 1, "leaves nothing to measure"),
        (["--history", "live"], 2, "--history live needs --clock session or hybrid"),
        (["--clock", "wall"], 2, "invalid value 'wall'"),
        (["--clone", "0"], 2, "can't be played 0 times"),
    ] {
        let args = ["replay", &trace, "--target", "http://127.0.0.1:9", "--out", "unused"];
        let output = reenact(&[&args[..], &more].concat());
        assert_eq!(output.status.code(), Some(status), "{}", text(&output));
        assert!(text(&output).contains(words), "{}", text(&output));
    }
}
