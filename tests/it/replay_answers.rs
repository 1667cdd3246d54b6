//! Right answers: what a replay says of answers that are not the recorded ones, in rows, words and exit status.

use std::path::PathBuf;
use std::process::Output;

use reenact::results::RunReader;
use reenact::results::answers::Aspect;
use serde_json::json;

use crate::replay_support::{Recorded, reenact, rows, write_trace};
use crate::support::Upstream;

/// A whole answer to a chat: its text, or its tool call's arguments.
fn answer(text: &str, tool: Option<&str>, finish: &str, tokens: u64) -> String {
    let call = |arguments: &str| json!([{"id": "c", "type": "function", "function": {"name": "look", "arguments": arguments}}]);
    json!({
        "id": "x", "object": "chat.completion",
        "choices": [{"index": 0, "finish_reason": finish,
            "message": {"role": "assistant", "content": text, "tool_calls": tool.map(call)}}],
        "usage": {"prompt_tokens": 7, "completion_tokens": tokens},
    })
    .to_string()
}

fn response(status: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Exchanges of a trace with these answers; each request says which it is.
fn recorded(answers: &[String]) -> Vec<Recorded> {
    let chat = |(n, answer): (u64, &String)| {
        let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":"<{n}>"}}]}}"#);
        Recorded { frames: vec![(n * 10 + 2, answer.clone())], ..Recorded::chat(n * 10, &body) }
    };
    (0..).zip(answers).map(chat).collect()
}

/// A server that gives to each request the answer of its number.
fn server(responses: Vec<String>) -> Upstream {
    Upstream::start(move |mut peer| {
        while let Some(message) = peer.try_message() {
            let number = message.split_once('<').unwrap().1.split_once('>').unwrap().0;
            peer.send(&responses[number.parse::<usize>().unwrap()]);
        }
    })
}

struct Scene {
    folder: tempfile::TempDir,
    trace: PathBuf,
    server: Upstream,
}

impl Scene {
    /// Answers that are the same, differ in tool arguments' values, in their keys, in length and finish, and in status.
    fn new() -> Self {
        let then = [
            answer("same", None, "stop", 2),
            answer("", Some(r#"{"at":"here","n":1}"#), "tool_calls", 5),
            answer("", Some(r#"{"at":"here","n":1}"#), "tool_calls", 5),
            answer("a long story", None, "stop", 9),
            answer("fine", None, "stop", 1),
        ];
        let now = vec![
            response("200 OK", &then[0]),
            response("200 OK", &answer("", Some(r#"{"at":"there","n":2}"#), "tool_calls", 5)),
            response("200 OK", &answer("", Some(r#"{"n":1,"at":"here"}"#), "tool_calls", 6)),
            response("200 OK", &answer("a lot", None, "length", 4)),
            response("503 Service Unavailable", r#"{"error":{"message":"busy"}}"#),
        ];
        let folder = tempfile::tempdir().unwrap();
        let trace = write_trace(folder.path(), &recorded(&then));
        Self { folder, trace, server: server(now) }
    }

    fn replay(&self, out: &str, more: &[&str]) -> (Output, String) {
        let (trace, out) = (self.trace.display().to_string(), self.folder.path().join(out));
        let url = self.server.url();
        let args = ["replay", &trace, "--target", &url, "--out", &out.display().to_string()];
        let output = reenact(&[&args, more].concat());
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        (output, text)
    }
}

#[test]
fn each_row_says_what_of_the_answer_is_as_recorded() {
    let scene = Scene::new();
    let (_, text) = scene.replay("run", &[]);
    let run = scene.folder.path().join("run");
    let rows = rows(&run).0;
    let column = |of: &dyn Fn(usize) -> Option<bool>| (0..5).map(of).collect::<Vec<_>>();
    let (yes, no) = (Some(true), Some(false));
    assert_eq!(column(&|n| rows[n].status_equal), [yes, yes, yes, yes, no], "{text}");
    assert_eq!(column(&|n| rows[n].finish_reason_equal), [yes, yes, yes, no, None]);
    assert_eq!(column(&|n| rows[n].tool_shape_equal), [None, yes, no, None, None]);
    assert_eq!(column(&|n| rows[n].output_equal), [yes, no, no, no, None]);
    assert_eq!(column(&|n| rows[n].answer_equal), [yes, no, no, no, no]);
    assert_eq!(column(&|n| rows[n].outcome_equal), [yes; 5]);
    let shapes = |n: usize| (rows[n].recorded_tool_shape.as_deref(), rows[n].tool_shape.as_deref());
    assert_eq!(shapes(1), (Some("look(at,n)"), Some("look(at,n)")));
    assert_eq!(shapes(2), (Some("look(at,n)"), Some("look(n,at)")));
    let tokens: Vec<_> =
        rows.iter().map(|row| (row.input_tokens_diff, row.output_tokens_diff)).collect();
    let same = (Some(0), Some(0));
    assert_eq!(tokens, [same, same, (Some(0), Some(1)), (Some(0), Some(-5)), (None, None)]);
    assert_eq!(rows[3].output_differs_at, Some(4));

    let answers = RunReader::open(&run).unwrap().manifest().answers.clone();
    assert_eq!((answers.rows, answers.equal), (5, 1));
    assert_eq!((answers.of(Aspect::Tools).rows, answers.of(Aspect::Tools).different), (2, 1));
}

#[test]
fn a_check_makes_differences_an_exit_status_and_names_the_exchanges() {
    let scene = Scene::new();
    for (out, flags, lines) in [
        ("none", &[][..], &[][..]),
        (
            "all",
            &["--check"],
            &[
                "--check=status,finish,tools: not as recorded: status in 1 of 5, finish in 1 of 4, tools in 1 of 2.",
                "  exchange 3: tools: recorded look(at,n), now look(n,at)",
                "  exchange 4: finish: recorded stop, now length",
                "  exchange 5: status: recorded 200, now 503",
            ],
        ),
        (
            "tokens",
            &["--check=tokens"],
            &["  exchange 4: tokens: recorded 7 in, 9 out, now 7 in, 4 out"],
        ),
        ("text", &["--check=text"], &["text in 3 of 4", ", from character 4 on"]),
    ] {
        let (output, text) = scene.replay(out, flags);
        let verdict = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(lines.iter().all(|line| text.contains(line)), "{out}: {text}");
        assert_eq!(text.contains("not as recorded"), !lines.is_empty(), "{out}: {text}");
        // Without a difference the status is that of the verdict alone.
        if lines.is_empty() {
            assert_eq!(output.status.code() == Some(3), verdict.contains("INVALID"), "{verdict}");
        } else {
            assert_eq!(output.status.code(), Some(3), "{out}: {text}");
        }
    }
    let (output, text) = scene.replay("color", &["--check=color"]);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("`color` can't be compared"), "{text}");
}

#[test]
fn a_report_has_the_right_answers_and_the_first_differences() {
    let scene = Scene::new();
    scene.replay("run", &[]);
    let run = scene.folder.path().join("run");
    let output = reenact(&["report", &run.display().to_string()]);
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    let markdown = std::fs::read_to_string(run.join("summary.md")).unwrap();
    let html = std::fs::read_to_string(run.join("report.html")).unwrap();
    for text in [&told, &markdown, &html] {
        assert!(text.contains("Right answers") && text.contains("First differences"), "{text}");
        assert!(text.contains("look(n,at)"), "{text}");
    }
    assert!(markdown.contains("| Tool calls | 2 | 1 | 1 | 50.0 % |"), "{markdown}");
    assert!(markdown.contains("| The whole answer | 5 | 1 | 4 | 20.0 % |"), "{markdown}");
}
