//! The measurement measures itself: what a run's manifest and report say about the program that made it.

use std::path::PathBuf;
use std::process::Output;

use reenact::report::noise::NoiseFloor;
use reenact::results::RunReader;
use reenact::results::manifest::Manifest;

use crate::replay_support::{Recorded, command, reenact, write_trace};
use crate::support::Upstream;

const BODY: &str = r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";

/// A trace of chats, and a server that answers.
struct Scene {
    folder: tempfile::TempDir,
    trace: String,
    server: Upstream,
}

impl Scene {
    fn chats(n: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let recorded: Vec<Recorded> = (0..n).map(|n| Recorded::chat(n * 10, BODY)).collect();
        let trace = write_trace(folder.path(), &recorded).display().to_string();
        Self { folder, trace, server: Upstream::answering(OK) }
    }

    fn out(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn replay(&self, out: &str, more: &[&str]) -> Output {
        let (url, out) = (self.server.url(), self.out(out).display().to_string());
        let args = ["replay", &self.trace, "--target", &url, "--out", &out];
        reenact(&[&args[..], more].concat())
    }

    fn manifest(&self, name: &str) -> Manifest {
        RunReader::open(&self.out(name)).unwrap().manifest().clone()
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn a_run_says_what_it_measured_of_itself() {
    let scene = Scene::chats(20);
    let output = scene.replay("run", &[]);
    let manifest = scene.manifest("run");
    let seen = manifest.instrument;
    let said = text(&output);
    assert!(said.starts_with(manifest.verdict.as_str()), "the verdict comes first: {said}");
    assert!(said.contains("reading thread: came round within "), "{said}");
    assert!(seen.stalls.max_ns > 0 && seen.stalls.p50_ns <= seen.stalls.p99_ns, "{seen:?}");
    // Lateness is the dispatch and then the sending.
    assert!(0 < seen.dispatch.p50_ns, "{seen:?}");
    assert!(seen.dispatch.p50_ns <= manifest.lateness.max_ns, "{manifest:?}");
    let (calls, process) = (seen.calls_cpus.unwrap(), seen.process_cpus.unwrap());
    assert!(0.0 < calls && calls <= process, "{seen:?}");
    assert!(seen.clock_step_ns > 0);
    let rtt = manifest.targets[0].connect_rtt.unwrap();
    assert!(rtt.connects >= 5, "five before the run, and those of the run: {rtt:?}");
    assert!(0 < rtt.min_ns && rtt.min_ns <= rtt.p50_ns && rtt.p50_ns <= rtt.max_ns, "{rtt:?}");
    let report = text(&reenact(&["report", &scene.out("run").display().to_string()]));
    let markdown = std::fs::read_to_string(scene.out("run").join("summary.md")).unwrap();
    assert!(markdown.contains("## The measurement itself"), "{report}\n{markdown}");
    assert!(markdown.contains("Round trip to http://127.0.0.1"), "{markdown}");
}

#[test]
fn a_calibration_comes_before_a_run_and_is_kept() {
    let scene = Scene::chats(3);
    let (url, out) = (scene.server.url(), scene.out("run").display().to_string());
    let output = command(&["replay", &scene.trace, "--target", &url, "--out", &out])
        .env_remove("REENACT_NO_CALIBRATION")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("This machine, by a server on loopback: at 50/s"), "{said}");
    let found = scene.manifest("run").calibration.unwrap();
    assert_eq!((found.jitter.rate_per_s, found.jitter.sends), (50.0, 20));
    assert!(found.jitter.late.p99_ns > 0 && found.events.events_per_s > 1_000.0, "{found:?}");
    assert_eq!(
        scene.manifest("run").counts.complete,
        3,
        "the target saw the plan, and nothing else"
    );
    scene.replay("without", &["--no-calibration"]);
    assert_eq!(scene.manifest("without").calibration, None);
}

#[test]
fn repeated_runs_have_a_noise_floor_and_comparisons_use_it() {
    let scene = Scene::chats(12);
    let output = scene.replay("aa", &["--repeat", "2"]);
    let said = text(&output);
    assert!(said.contains("Run 2 of 2:") && said.contains("The same plan 2 times"), "{said}");
    let path = scene.out("aa").join("repeat.json");
    let floor: NoiseFloor = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(floor.runs, ["01", "02"]);
    assert!(floor.same_sent, "one plan: one digest");
    let e2e = &floor.metrics["End to end p50"];
    assert!(e2e.values.iter().all(Option::is_some) && e2e.relative.is_some(), "{e2e:?}");
    let manifests = [scene.manifest("aa/01"), scene.manifest("aa/02")];
    assert_eq!(manifests[0].sent_digest, manifests[1].sent_digest);
    assert_eq!(manifests[0].options["repeat"], 2);

    let dirs = ["01", "02"].map(|run| scene.out("aa").join(run).display().to_string());
    let compared = text(&reenact(&["report", &dirs[0], &dirs[1]]));
    let line = |text: &str| {
        let line = text.lines().find(|line| line.contains("End to end p50"));
        line.unwrap_or_else(|| panic!("{text}")).to_owned()
    };
    // The one beside the runs; every difference between them is within it.
    assert!(line(&compared).contains("%, noise)"), "{compared}");
    scene.replay("other", &[]);
    let other = scene.out("other").display().to_string();
    let (mut none, elsewhere) = (floor, scene.folder.path().join("none.json"));
    none.metrics.clear();
    none.write(&elsewhere).unwrap();
    let noise = elsewhere.display().to_string();
    let compared = text(&reenact(&["report", &other, &dirs[0], "--noise", &noise]));
    assert!(!line(&compared).contains("noise"), "{compared}");

    let again = scene.replay("aa", &["--repeat", "2"]);
    assert_eq!(again.status.code(), Some(2), "{}", text(&again));
    assert_eq!(scene.replay("bb", &["--repeat", "1"]).status.code(), Some(2));
}

#[test]
fn a_bench_says_what_the_machine_can_do_and_leaves_nothing_behind() {
    let scratch = tempfile::tempdir().unwrap();
    let args = ["bench", "--time", "150ms", "--rates", "50,100", "--json"];
    let output = command(&args).env("TMPDIR", scratch.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(found["jitter"][1]["rate_per_s"], 100.0);
    assert_eq!(found["jitter"][1]["sends"], 15);
    for way in ["direct", "recorded"] {
        for figure in ["unary_p50_ns", "unary_per_s", "events_per_s"] {
            assert!(found[way][figure].as_f64().unwrap() > 0.0, "{way} {figure}: {found}");
        }
    }
    assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0);
    assert_eq!(command(&["bench", "--rates", "0"]).output().unwrap().status.code(), Some(2));
}
