//! Objectives: judged at the end of a replay, kept in its manifest, judged again by a report.

use std::path::PathBuf;
use std::process::Output;

use reenact::results::RunReader;
use reenact::results::slo::Judgement;

use crate::replay_support::{Recorded, reenact, write_trace};
use crate::support::Upstream;

const BODY: &str = r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";
const BUSY: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";

/// A trace of ten chats, the first of which was answered with 503 when it was recorded.
struct Scene {
    folder: tempfile::TempDir,
    trace: PathBuf,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut recorded: Vec<Recorded> = (0..10).map(|n| Recorded::chat(n * 5, BODY)).collect();
        recorded[0].status = Some(503);
        let trace = write_trace(folder.path(), &recorded);
        Self { folder, trace }
    }

    fn replay(&self, server: &Upstream, out: &str, more: &[&str]) -> (Output, String) {
        let (trace, out) = (self.trace.display().to_string(), self.folder.path().join(out));
        let url = server.url();
        let args = ["replay", &trace, "--target", &url, "--out", &out.display().to_string()];
        let output = reenact(&[&args, more].concat());
        let text = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        (output, text)
    }

    fn judgement(&self, out: &str) -> Judgement {
        let run = RunReader::open(&self.folder.path().join(out)).unwrap();
        run.manifest().slo.clone().unwrap()
    }
}

#[test]
fn objectives_are_judged_and_kept_in_the_manifest() {
    let scene = Scene::new();
    let server = Upstream::answering(OK);
    let slos = "e2e:p90<100s,e2e:max<1us,errors<1%,goodput>50%,e2e<200s";
    let (_, text) = scene.replay(&server, "run", &["--slo", slos]);
    let judgement = scene.judgement("run");
    let seen: Vec<_> =
        judgement.objectives.iter().map(|judged| (judged.rows, judged.met)).collect();
    assert_eq!(seen, [(10, true), (10, false), (10, true), (10, true)], "{text}");
    let goodput = judgement.goodput.as_ref().unwrap();
    assert_eq!(
        (goodput.good, goodput.requests, &goodput.bounds[..]),
        (10, 10, &["e2e<200s".to_owned()][..])
    );
    assert!(goodput.per_s.unwrap() > 0.0);
    assert!(text.contains("e2e:max<1us: missed, "), "{text}");
    assert!(text.contains("goodput: 10 of 10 requests (100 %, "), "{text}");
    let options =
        RunReader::open(&scene.folder.path().join("run")).unwrap().manifest().options.clone();
    assert_eq!(options["slo"][0], "e2e:p90<100s");
}

#[test]
fn a_missed_objective_is_a_result_and_an_exit_status_only_when_it_is_checked() {
    let scene = Scene::new();
    let server = Upstream::answering(BUSY);
    let slo = ["--slo", "errors<1%"];
    let (output, text) = scene.replay(&server, "told", &slo);
    // One of ten was recorded with the same status: nine count.
    assert!(text.contains("errors<1%: missed, 100 % over 9 rows"), "{text}");
    assert_eq!(output.status.code() == Some(3), text.contains("INVALID"), "{text}");
    let (output, text) = scene.replay(&server, "checked", &[&slo[..], &["--check=slo"]].concat());
    assert_eq!(output.status.code(), Some(3), "{text}");
    assert!(text.contains("--check=slo: errors<1%: missed"), "{text}");
}

#[test]
fn what_asks_nothing_is_refused_before_anything_is_sent() {
    let scene = Scene::new();
    let server = Upstream::answering(OK);
    for (flags, words) in [
        (&["--slo", "ttfb:p99<5ms"][..], "`ttfb` is not measured"),
        (&["--slo", "ttft<5ms"], "needs an objective"),
        (&["--slo", "goodput>95%"], "goodput needs a bound"),
        (&["--check=slo"], "name some with --slo"),
    ] {
        let (output, text) = scene.replay(&server, "never", flags);
        assert_eq!(output.status.code(), Some(2), "{flags:?}: {text}");
        assert!(text.contains(words), "{flags:?}: {text}");
    }
    assert_eq!(server.accepted(), 0);
}

#[test]
fn a_report_judges_any_run_by_other_objectives_or_repeats_its_own() {
    let scene = Scene::new();
    let server = Upstream::answering(OK);
    scene.replay(&server, "a", &["--slo", "e2e:p50<100s"]);
    scene.replay(&server, "b", &[]);
    let run = |name: &str| scene.folder.path().join(name).display().to_string();
    let report = |args: &[&str]| {
        let output = reenact(&[&["report"], args].concat());
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stdout).into_owned()
                + &String::from_utf8_lossy(&output.stderr),
        )
    };
    let (_, own) = report(&[&run("a")]);
    assert!(own.contains("Service level objectives") && own.contains("e2e:p50<100s"), "{own}");
    let (_, other) = report(&[&run("b"), "--slo", "e2e:p99<1us,errors<1%"]);
    assert!(other.contains("e2e:p99<1us") && other.contains("NO"), "{other}");
    let markdown = std::fs::read_to_string(scene.folder.path().join("b/summary.md")).unwrap();
    assert!(markdown.contains("| errors\\<1% | yes | 0 % | 10 |"), "{markdown}");
    assert!(
        std::fs::read_to_string(scene.folder.path().join("b/report.html"))
            .unwrap()
            .contains("e2e:p99&lt;1us")
    );
    let (_, both) = report(&[&run("a"), &run("b"), "--slo", "e2e:p99<100s"]);
    assert!(both.contains("Objectives kept") && both.contains("1 of 1"), "{both}");
    let (status, refused) = report(&[&run("a"), "--slo", "e2e<1s"]);
    assert_eq!(status, Some(2), "{refused}");
}
