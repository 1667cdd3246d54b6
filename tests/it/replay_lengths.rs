//! Output lengths: what a server is told, what it makes of it, and what the row says.

use std::sync::mpsc::channel;

use reenact::results::RunReader;
use reenact::trace::record::Outcome;

use crate::replay_support::{Recorded, reenact, rows, write_trace};
use crate::support::{Simulated, Upstream};

/// A streamed chat whose recorded answer had `tokens` tokens, by the server's own count.
fn chat(at_ms: u64, more: &str, tokens: u64) -> Recorded {
    let body = format!(
        r#"{{"model":"m","stream":true,"stream_options":{{"include_usage":true}}{more},"messages":[{{"role":"user","content":"hi {at_ms}"}}]}}"#
    );
    let content = r#"{"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":null}]}"#;
    let usage =
        format!(r#"{{"choices":[],"usage":{{"prompt_tokens":3,"completion_tokens":{tokens}}}}}"#);
    let mut recorded = Recorded::chat(at_ms, &body);
    recorded.frames = vec![
        (at_ms + 1, format!("data: {content}\n\n")),
        (at_ms + 2, format!("data: {usage}\n\ndata: [DONE]\n\n")),
    ];
    recorded
}

#[test]
fn a_pinned_output_is_as_long_as_recorded_and_the_row_says_whether() {
    let lengths = [7, 33, 150];
    let mut recorded: Vec<Recorded> =
        lengths.iter().zip(0..).map(|(tokens, n)| chat(n * 5, "", *tokens)).collect();
    recorded.push(chat(20, r#","response_format":{"type":"json_object"}"#, 12));
    let mut left = chat(25, "", 12);
    left.frames.pop();
    left.outcome = Outcome::Cancelled;
    recorded.push(left);
    let folder = tempfile::tempdir().unwrap();
    let trace = write_trace(folder.path(), &recorded).display().to_string();
    let server = Simulated::start(Simulated::quick());
    let run = |name: &str, more: &[&str]| {
        let out = folder.path().join(name);
        let args = ["replay", &trace, "--target", &server.url(), "--out", out.to_str().unwrap()];
        let output = reenact(&[&args[..], more].concat());
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(said.contains("complete"), "{said}{:?}", output.stderr);
        (rows(&out).0, said, out)
    };
    let (rows, said, out) = run("pinned", &["--pin-output"]);
    for (row, tokens) in rows.iter().zip(lengths) {
        assert_eq!((row.output_tokens, row.recorded_output_tokens), (Some(tokens), Some(tokens)));
    }
    let labels: Vec<_> = rows.iter().map(|row| row.output_pinned.as_deref().unwrap()).collect();
    assert_eq!(labels, ["yes", "yes", "yes", "constrained", "cut_short"]);
    assert!(said.contains("output length pinned: 1 constrained, 1 cut_short, 3 yes"), "{said}");
    let manifest = RunReader::open(&out).unwrap().manifest().clone();
    assert_eq!(manifest.output_pinned["yes"], 3);
    assert_eq!(manifest.options["pin-output"], "auto");

    let (capped, ..) = run("capped", &["--pin-output=vllm", "--max-tokens-cap", "30"]);
    let seen: Vec<_> = capped[..3]
        .iter()
        .map(|row| (row.output_tokens, row.output_pinned.as_deref().unwrap()))
        .collect();
    assert_eq!(seen, [(Some(7), "yes"), (Some(30), "capped"), (Some(30), "capped")]);

    // Nobody asked: the server says what it likes, and no row claims anything.
    let (free, said, _) = run("free", &[]);
    assert!(free.iter().all(|row| row.output_pinned.is_none()) && !said.contains("pinned"));
    assert_ne!(free[0].output_tokens, Some(7));
}

#[test]
fn a_server_that_does_not_obey_is_missed_and_nothing_else_in_the_body_changes() {
    let folder = tempfile::tempdir().unwrap();
    let trace = write_trace(folder.path(), &[chat(0, r#", "max_tokens" :99"#, 7)]);
    let answer = r#"{"choices":[{"index":0,"message":{"content":"a"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":6}}"#;
    let response = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{answer}",
        answer.len()
    );
    let (requests, seen) = channel();
    let server = Upstream::start(move |mut peer| {
        while let Some(request) = peer.try_message() {
            requests.send(request).unwrap();
            peer.send(&response);
        }
    });
    let out = folder.path().join("run");
    let (trace, folder) = (trace.display().to_string(), out.display().to_string());
    let args = ["replay", &trace, "--target", &server.url(), "--out", &folder];
    let output = reenact(&[&args[..], &["--pin-output=sglang"]].concat());
    let row = &rows(&out).0[0];
    assert_eq!(row.output_pinned.as_deref(), Some("missed"), "{output:?}");
    let sent = seen.recv().unwrap();
    assert!(
        sent.ends_with(
            r#"{"model":"m","stream":true,"stream_options":{"include_usage":true}, "max_tokens" :7,"messages":[{"role":"user","content":"hi 0"}],"ignore_eos":true,"min_tokens":7}"#
        ),
        "{sent}"
    );
}

#[test]
fn a_family_that_does_not_exist_is_a_usage_error() {
    let output =
        reenact(&["replay", "x.trace", "--target", "http://a", "--dry-run", "--pin-output=gpt"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("say auto, vllm, sglang"));
    let output = reenact(&[
        "replay",
        "x.trace",
        "--target",
        "http://a",
        "--dry-run",
        "--max-tokens-cap",
        "0",
    ]);
    assert_eq!(output.status.code(), Some(2));
}
