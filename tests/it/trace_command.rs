//! `reenact trace` as a person or a script uses it: output, exit status, and one clear sentence when something is wrong.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use reenact::results::RunReader;
use reenact::results::rows::{FrameRow, Measurement};
use serde_json::Value;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/trace").join(name)
}

fn trace(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_reenact")).arg("trace").args(args).output().unwrap()
}

/// Runs a command on a golden file and returns its stdout.
#[track_caller]
fn says(verb: &str, name: &str, args: &[&str], status: i32) -> String {
    let path = golden(name);
    let output = trace(&[&[verb, path.to_str().unwrap()], args].concat());
    assert_eq!(output.status.code(), Some(status), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn info_counts_what_is_there() {
    let info: Value = serde_json::from_str(&says("info", "v1.0.trace", &["--json"], 0)).unwrap();
    assert_eq!((&info["exchanges"], &info["gaps"]), (&6.into(), &2.into()));
    assert_eq!(info["outcomes"], serde_json::json!({"cancelled": 2, "complete": 2, "failed": 2}));
    assert_eq!(info["models"]["m"], 2);
    assert_eq!(info["health"]["complete"], true);
    assert_eq!(info["counters"]["dropped_queue_full"], 2);
    let text = says("info", "v1.0.trace", &[], 0);
    assert!(text.contains("exchanges   6") && text.contains("closed, complete"), "{text}");
    let text = says("info", "v1.1-omission.trace", &[], 0);
    assert!(text.contains("left out    7 of 16 exchanges") && text.contains("100 %"), "{text}");
    let text = says("info", "damaged/cut.trace", &[], 3);
    assert!(text.contains("NOT complete"), "{text}");
}

#[test]
fn list_is_in_start_order_and_filters() {
    let lines = says("list", "v1.0.trace", &["--json"], 0);
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let ids: Vec<u64> = lines.iter().map(|line| line["exchange"].as_u64().unwrap()).collect();
    assert_eq!(ids, [1, 2, 3, 4, 5, 6]);
    assert!(lines[0]["e2e_ns"].as_i64().unwrap() > 0);
    let count = |args: &[&str]| says("list", "v1.0.trace", args, 0).lines().count() - 1;
    assert_eq!(count(&[]), 6);
    assert_eq!(count(&["--limit", "2"]), 2);
    assert_eq!(count(&["--status", "503"]), 2);
    assert_eq!(count(&["--outcome", "cancelled", "--path", "/gen"]), 2);
    assert_eq!(count(&["--model", "m", "--status", "503"]), 0);
}

#[test]
fn show_prints_one_exchange() {
    let text = says("show", "v1.0.trace", &["1", "--frames"], 0);
    for part in ["POST /v1/chat/completions", "100 Continue", "x-checksum: abc", "Complete +"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert_eq!(says("show", "v1.0.trace", &["3", "--raw", "request"], 0), r#"{"prompt":"Hi"}"#);
    let json: Value =
        serde_json::from_str(&says("show", "v1.0.trace", &["2", "--json"], 0)).unwrap();
    assert_eq!(json["end"]["fault"]["kind"], "reset");
    let path = golden("v1.0.trace");
    let none = trace(&["show", path.to_str().unwrap(), "99"]);
    assert_eq!(none.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&none.stderr).contains("holds no exchange 99"), "{none:?}");
}

#[test]
fn verify_has_three_verdicts() {
    let text = says("verify", "v1.9-newer-minor.trace", &[], 0);
    assert!(
        text.contains("1 admitted = 0 complete + 1 failed") && text.contains("everything holds")
    );
    let text = says("verify", "v1.0.trace", &[], 3);
    assert!(text.contains("the recorder lost 1 exchanges"), "{text}");
    let text = says("verify", "damaged/bit-flip.trace", &[], 3);
    assert!(text.contains("checksum does not match"), "{text}");
    says("verify", "damaged/empty.trace", &[], 1);
    let json: Value =
        serde_json::from_str(&says("verify", "damaged/zero-page.trace", &["--json"], 3)).unwrap();
    let kinds: Vec<&str> = json["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|finding| finding["kind"].as_str().unwrap())
        .collect();
    assert!(kinds.contains(&"loss") && kinds.contains(&"gap"), "{kinds:?}");
}

/// Each cause comes with what is missing, what that means and what can be done, and with the findings that it stands for.
#[track_caller]
fn explains(name: &str, cause: &str, missing: &[&str], finding: &str) {
    let text = says("verify", name, &[], 3);
    let from = text.find(&format!("{cause}: ")).unwrap_or_else(|| panic!("no {cause} in {text}"));
    let lines: Vec<&str> = text[from..].lines().collect();
    for (line, part) in lines[1..4].iter().zip(["  missing   ", "  means     ", "  to do     "]) {
        assert!(line.starts_with(part), "{part} in {lines:#?}");
    }
    for part in missing {
        assert!(lines[1].contains(part), "{part} in {}", lines[1]);
    }
    let found = lines[4..].iter().take_while(|line| line.starts_with("  - "));
    let found: Vec<&&str> = found.filter(|line| line.contains(finding)).collect();
    assert!(!found.is_empty(), "{finding} in {lines:#?}");
}

#[test]
fn verify_explains_each_cause_in_words() {
    explains(
        "v1.0.trace",
        "queue_full",
        &["2 whole exchanges, 0 frames, 2468 body bytes", "between 0.711087 s and 2.720089 s"],
        "the recorder lost 1 exchanges",
    );
    explains(
        "damaged/bit-flip.trace",
        "damage",
        &["bytes of the files"],
        "what is gone came after",
    );
    explains("damaged/zero-page.trace", "damage", &["incomplete: exchange"], "request body pass");
    explains("damaged/cut.trace", "torn", &["bytes of the files"], "ends in a block");
    explains(
        "damaged/unfinished.trace",
        "unfinished",
        &["0 whole exchanges"],
        "the last of it is from",
    );
    let json: Value = serde_json::from_str(&says("verify", "v1.0.trace", &["--json"], 3)).unwrap();
    let cause = &json["causes"][0];
    assert_eq!((&cause["cause"], &cause["findings"]), (&"queue_full".into(), &2.into()));
    assert_eq!((&cause["lost"]["exchanges"], &cause["is_loss"]), (&2.into(), &true.into()));
    for part in ["what", "means", "remedy"] {
        assert!(cause[part].as_str().unwrap().len() > 20, "{part}");
    }
    assert_eq!(json["findings"][0]["cause"], "queue_full");
}

/// Recovers a golden file, and checks exit status, outcome and JSON.
#[track_caller]
fn recovers(name: &str, status: i32, outcome: &str) {
    let dir = tempfile::tempdir().unwrap();
    let (path, out) = (golden(name), dir.path().join("out.trace"));
    let before = fs::read(&path).unwrap();
    let args = ["recover", path.to_str().unwrap(), out.to_str().unwrap(), "--json"];
    let output = trace(&args);
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(status), "{words}");
    assert_eq!(fs::read(&path).unwrap(), before, "the old file stays as it is");
    assert!(words.contains(&outcome.replace('_', " ")), "{words}");
    assert_eq!(words.contains("warn: "), status == 3, "each warning is a loss: {words}");
    if status == 1 {
        assert!(!out.exists());
        return;
    }
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&json["outcome"], &json["files"][0]["outcome"]),
        (&outcome.into(), &outcome.into())
    );
    let lost = json["lost"]["file_bytes"].as_u64().unwrap();
    assert_eq!(lost > 0, status == 3, "{json}");
    let info = trace(&["info", out.to_str().unwrap()]);
    assert_eq!(info.status.code(), Some(0), "{info:?}");
    let again = trace(&args);
    assert_eq!(again.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&again.stderr).contains("exists already"));
}

#[test]
fn recover_states_an_outcome_for_each_file() {
    recovers("v1.0.trace", 0, "clean");
    recovers("damaged/unfinished.trace", 0, "without_loss");
    recovers("damaged/cut.trace", 3, "with_loss");
    recovers("damaged/bit-flip.trace", 3, "with_loss");
    recovers("damaged/zero-page.trace", 3, "with_loss");
    recovers("damaged/header-flip.trace", 3, "with_loss");
    recovers("damaged/repeated-block.trace", 3, "with_loss");
    recovers("damaged/missing-block.trace", 3, "with_loss");
    recovers("damaged/empty.trace", 1, "not_recoverable");
    recovers("damaged/major-9.trace", 1, "not_recoverable");
}

#[test]
fn export_writes_json_lines_har_and_a_run() {
    let lines = says("export", "v1.0.trace", &["--format", "jsonl"], 0);
    assert_eq!(lines.lines().count(), 6);
    let first: Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert_eq!(first["request_frames"].as_array().unwrap().len(), 3);
    assert!(first["response_body_base64"].is_string(), "it is not text");

    let dir = tempfile::tempdir().unwrap();
    let har = dir.path().join("a.har");
    says("export", "v1.0.trace", &["--format", "har", "--out", har.to_str().unwrap()], 0);
    let har: Value = serde_json::from_slice(&fs::read(har).unwrap()).unwrap();
    let entries = har["log"]["entries"].as_array().unwrap();
    assert_eq!((har["log"]["version"].as_str(), entries.len()), (Some("1.2"), 6));
    assert_eq!(entries[0]["_frames"]["response"].as_array().unwrap().len(), 24);
    assert_eq!(entries[0]["request"]["queryString"][0]["name"], "key");

    let run = dir.path().join("run");
    says("export", "v1.0.trace", &["--format", "parquet", "--out", run.to_str().unwrap()], 0);
    let reader = RunReader::open(&run).unwrap();
    let rows: Vec<Measurement> = reader.rows().unwrap().collect::<Result<_, _>>().unwrap();
    assert_eq!(rows.len(), 6);
    assert_eq!(rows[0].target, "https://api.example");
    assert_eq!(reader.count::<FrameRow>().unwrap(), 48);
    let path = golden("v1.0.trace");
    let usage = trace(&["export", path.to_str().unwrap(), "--format", "parquet"]);
    assert_eq!(usage.status.code(), Some(2));
    says("export", "damaged/bit-flip.trace", &["--format", "jsonl"], 3);
}

#[test]
fn what_can_not_be_read_is_one_sentence_with_the_path() {
    for (name, expected) in [
        ("absent.trace", "No such file"),
        ("damaged/major-9.trace", "newer reenact"),
        ("damaged/empty.trace", "it is empty"),
    ] {
        for verb in ["info", "list", "verify"] {
            let path = golden(name);
            let output = trace(&[verb, path.to_str().unwrap()]);
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(1), "{said}");
            assert_eq!(said.lines().count(), 1, "{said}");
            assert!(said.contains(expected) && said.contains(name), "{said}");
        }
    }
}
