//! The search against the simulated server, whose capacity its options set: a target of its own, since `cargo test` runs
//! one after the other and these steps are measurements.
#![expect(clippy::unwrap_used, reason = "a test that panics has failed, and says where")]

#[path = "../it/replay_support.rs"]
#[expect(dead_code, reason = "shared with the integration tests, which use more of it")]
mod replay_support;

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use reenact::results::RunReader;
use reenact::results::search::SearchRecord;
use replay_support::{Recorded, command, reenact, write_trace};

/// A simulated server with a known capacity: so many slots, each of which a request holds for [`HELD_MS`], whatever it asks.
struct Server {
    child: Child,
    url: String,
}

/// How long a request runs: the prompt alone, of an answer of one token.
const HELD_MS: u32 = 110;

impl Server {
    fn start(slots: u32) -> Self {
        let (slots, held) = (slots.to_string(), HELD_MS.to_string());
        let args = ["simulate", "--listen", "127.0.0.1:0", "--slowdown", "0", "--slots", &slots];
        let more = ["--prefill-ms", &held, "--prefill-us-per-token", "0"];
        let mut child =
            command(&[&args[..], &more].concat()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
        let url = line.trim().strip_prefix("simulating on ").unwrap().to_owned();
        Self { child, url }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn trace(folder: &Path) -> PathBuf {
    let body = r#"{"model":"m","max_tokens":1,"messages":[{"role":"user","content":"hi"}]}"#;
    let chats: Vec<Recorded> = (0..20).map(|n| Recorded::chat(n * 10, body)).collect();
    write_trace(folder, &chats)
}

/// Searches in the folder `out`; returns the exit status, the record, and what was said.
fn search(trace: &Path, url: &str, out: &Path, flags: &[&str]) -> (i32, SearchRecord, String) {
    let (trace, out) = (trace.display().to_string(), out.display().to_string());
    let args = ["replay", &trace, "--target", url, "--out", &out, "--json", "--no-calibration"];
    // On a machine with more to do, a step may have to be made again.
    let more = ["--search-retries", "5", "--duration", "1.5", "--arrival", "constant"];
    let output = reenact(&[&args[..], flags, &more].concat());
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let record = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{text}"));
    (output.status.code().unwrap(), record, text)
}

/// Three servers, so that no bound fits one capacity by chance. A search that ended since no measurement there was valid says
/// nothing of the server, and is made again, a few times.
#[test]
fn the_search_finds_the_known_capacity_within_a_tenth_three_times_of_three() {
    let folder = tempfile::tempdir().unwrap();
    let trace = trace(folder.path());
    for slots in [4_u32, 5, 6] {
        let capacity = f64::from(slots) * 1e3 / f64::from(HELD_MS);
        let server = Server::start(slots);
        // A request that waits for half as long as it runs has met a queue that grows.
        let flags = ["--search", "rate", "--from", "30", "--to", "60", "--slo", "e2e:p90<165ms"];
        let (found, text) = (0..ATTEMPTS)
            .find_map(|attempt| {
                let out = folder.path().join(format!("{slots}-{attempt}"));
                let (_, record, text) = search(&trace, &server.url, &out, &flags);
                (record.end != "invalid").then_some((record, text))
            })
            .unwrap_or_else(|| panic!("{ATTEMPTS} searches ended INVALID"));
        assert_eq!(found.end, "found", "{text}");
        let kept = found.highest_kept.unwrap();
        let error = kept / capacity - 1.0;
        assert!(error.abs() < 0.1, "{kept}/s for {capacity:.1}/s, {:+.1} %\n{text}", error * 100.0);
    }
}

#[test]
fn a_search_leaves_a_folder_for_each_step_a_record_and_a_page() {
    let folder = tempfile::tempdir().unwrap();
    let trace = trace(folder.path());
    let server = Server::start(4);
    let out = folder.path().join("out");
    let flags = ["--search", "concurrency", "--from", "1", "--to", "2", "--slo", "e2e:p50<60s"];
    let (status, record, text) = search(&trace, &server.url, &out, &flags);
    assert_eq!((status, record.end.as_str()), (0, "all_kept"), "{text}");
    assert_eq!((record.highest_kept, record.lowest_missed), (Some(2.0), None));
    assert_eq!(record.objectives, ["e2e:p50<60s", "errors<1%"], "one on errors is added");
    let names: Vec<&str> = record.steps.iter().map(|step| step.folder.as_str()).collect();
    assert!(names.contains(&"step-01-concurrency-1"), "{names:?}");
    for step in &record.steps {
        let run = RunReader::open(&out.join(&step.folder)).unwrap();
        assert_eq!(run.manifest().options["concurrency"], step.load, "{}", step.folder);
        assert_eq!(run.manifest().slo.as_ref(), Some(&step.slo));
    }
    assert!(record.words.starts_with("Even the highest concurrency, 2 in flight"), "{record:?}");
    let kept: SearchRecord =
        serde_json::from_slice(&std::fs::read(out.join("search.json")).unwrap()).unwrap();
    assert_eq!(kept, record);
    let page = std::fs::read_to_string(out.join("search.html")).unwrap();
    assert!(page.contains("id=\"search\"") && page.contains("errors&lt;1%"));
    assert!(text.contains("A step is missed as soon as"), "{text}");

    let (trace, out) = (trace.display().to_string(), out.display().to_string());
    let again = reenact(
        &[&["replay", &trace, "--target", &server.url, "--out", &out], &flags[..]].concat(),
    );
    let text = String::from_utf8_lossy(&again.stderr).into_owned();
    assert_eq!(again.status.code(), Some(1), "{text}");
    assert!(text.contains("search.json"), "{text}");
}

/// The lowest load is ten times what the server can take: hundreds of requests would wait for minutes.
#[test]
fn a_step_ends_as_soon_as_it_is_lost_and_even_the_lowest_load_may_be_too_much() {
    let folder = tempfile::tempdir().unwrap();
    let trace = trace(folder.path());
    let server = Server::start(1);
    let flags = ["--search", "rate", "--from", "90", "--to", "100", "--slo", "e2e:max<10ms"];
    let (status, record, text) = search(&trace, &server.url, &folder.path().join("out"), &flags);
    if record.end == "invalid" {
        return assert!(record.words.contains("INVALID"), "{text}");
    }
    assert_eq!((status, record.end.as_str()), (3, "none_kept"), "{text}");
    let step = record.steps.last().unwrap();
    assert_eq!(step.slo.lost.as_deref(), Some("e2e:max<10ms"), "{text}");
    assert!(step.duration_s < 8.0, "{step:?}");
    assert!(record.words.contains("misses e2e:max<10ms: lower --from"), "{record:?}");
}

#[test]
fn a_search_that_can_not_work_ends_before_anything_is_sent() {
    let folder = tempfile::tempdir().unwrap();
    let (trace, out) = (trace(folder.path()).display().to_string(), folder.path().join("out"));
    let out = out.display().to_string();
    let args = ["replay", &trace, "--target", "http://127.0.0.1:9", "--out", &out];
    for (flags, words) in [
        ("--search rate --from 1 --to 2", "--slo"),
        ("--search rate --slo ttft:p99<1s --to 2", "--from"),
        ("--search rate --slo ttft:p99<1s --from 0 --to 2", "from 0 to 2 is no use"),
        ("--search rate --slo ttft:p99<1s --from 3 --to 2", "first the lower"),
        ("--search concurrency --slo ttft:p99<1s --from 1.5 --to 2", "whole number"),
        ("--search rate --slo ttft:p99<1s --from 1 --to 2 --search-precision 0", "precision of 0"),
        ("--search rate --slo ttft:p99<1s --from 1 --to 2 --search-steps 0", "0 steps"),
        ("--search rate --slo ttft<1s --from 1 --to 2", "needs an objective"),
        ("--search speed --slo ttft:p99<1s --from 1 --to 2", "say rate or concurrency"),
        ("--search rate --slo ttft:p99<1s --from 1 --to 2 --rate 3", "cannot be used with"),
        ("--search rate --slo ttft:p99<1s --from 1 --to 2 --concurrency 3", "cannot be used with"),
        ("--search rate --slo ttft:p99<1s --from 1 --to 2 --dry-run", "cannot be used with"),
        ("--search rate --slo ttft:p99<1s --from 1 --to 2 --check", "cannot be used with"),
        ("--from 1", "--search"),
    ] {
        let output = reenact(&[&args[..], &flags.split(' ').collect::<Vec<_>>()].concat());
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{flags}: {text}");
        assert!(text.contains(words), "{flags}: {text}");
    }
    assert!(!Path::new(&out).exists(), "a search that never began leaves no folder");
}

/// Searches that may end INVALID, one after the other.
const ATTEMPTS: u32 = 4;
