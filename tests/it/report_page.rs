//! The report of a made-up run: verdict first, every table and figure, nothing fetched from anywhere.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use reenact::clock::{Anchor, Nanos};
use reenact::results::manifest::{
    ConnectRtt, Counts, Gpu, Host, Manifest, Target, TraceIdentity, Verdict,
};
use reenact::results::rows::{FrameRow, GpuSample, HostSample, Measurement, ServerMetric};
use reenact::results::{RunReader, RunWriter};

const MS: i64 = 1_000_000;

/// Numbers that look random and are always the same.
struct Dice(u64);

impl Dice {
    /// From 0 to below `sides`.
    fn roll(&mut self, sides: i64) -> i64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        i64::try_from(self.0 >> 33).unwrap() % sides
    }
}

fn manifest() -> Manifest {
    Manifest {
        verdict: Verdict::Valid,
        duration_s: 60.0,
        trace: TraceIdentity {
            path: "traces/chat.trace".into(),
            digest: "9f2c".into(),
            complete: true,
            ..TraceIdentity::default()
        },
        targets: vec![Target {
            url: "http://gpu-box:8000".into(),
            server: Some("uvicorn".into()),
            version: Some("vLLM 0.19.0".into()),
            models: vec!["meta/Llama-9-8B<script>alert(1)</script>".into()],
            connect_rtt: ConnectRtt::of(vec![std::time::Duration::from_micros(180); 5]),
            ..Target::default()
        }],
        host: Host {
            name: "client".into(),
            kernel: "Linux 6.12".into(),
            cpu: "AMD EPYC 9654".into(),
            cpus: 96,
            governor: Some("schedutil".into()),
            memory_bytes: 400_000_000_000,
        },
        gpus: vec![Gpu {
            name: "NVIDIA H100".into(),
            memory_bytes: 80_000_000_000,
            ..Gpu::default()
        }],
        clock_source: "tsc".into(),
        ..Manifest::begin(Anchor(1_790_000_000_000_000_000))
    }
}

fn measurement(number: u64, dice: &mut Dice) -> (Measurement, Vec<FrameRow>) {
    let due = i64::try_from(number).unwrap() * 150 * MS;
    let sent = due + dice.roll(400_000);
    let slow = if dice.roll(20) == 0 { 4 } else { 1 };
    let ttft = (60 + dice.roll(60)) * MS * slow;
    let tokens = 20 + dice.roll(180);
    let gap = 8 * MS + dice.roll(4 * MS);
    let failed = number % 97 == 96;
    let (first, last) = (sent + ttft, sent + ttft + gap * (tokens - 1));
    let frames = (0..tokens).map(|frame| FrameRow {
        exchange: number,
        frame: u32::try_from(frame).unwrap(),
        at_ns: first + gap * frame + dice.roll(MS),
        bytes: 190,
        events: 1,
        content_chars: 4,
        ..FrameRow::default()
    });
    let frames: Vec<FrameRow> = if failed { Vec::new() } else { frames.collect() };
    let some = |value: i64| (!failed).then_some(value);
    let count = |value: i64| Some(value.cast_unsigned());
    let row = Measurement {
        exchange: number,
        target: "http://gpu-box:8000".into(),
        dialect: "openai".into(),
        operation: "chat".into(),
        method: "POST".into(),
        path: "/v1/chat/completions".into(),
        model_sent: Some("meta/Llama-9-8B<script>alert(1)</script>".into()),
        stream: Some(true),
        due_ns: Some(due),
        sent_ns: Some(sent),
        first_token_ns: some(first),
        last_token_ns: some(last),
        end_ns: Some(if failed { sent + 30 * MS } else { last + MS }),
        lateness_ns: Some(sent - due),
        connection_reused: Some(number > 20),
        status: Some(if failed { 503 } else { 200 }),
        outcome: "complete".into(),
        fault: failed.then(|| "server".into()),
        error_kind: failed.then(|| "http".into()),
        error: failed.then(|| "{\"error\": \"no <capacity> | left\"}".into()),
        finish_reason: (!failed).then(|| "stop".into()),
        input_tokens: count(700),
        cached_tokens: count(dice.roll(300)),
        output_tokens: count(tokens).filter(|_| !failed),
        output_tokens_source: (!failed).then(|| "usage".into()),
        ttft_ns: some(ttft),
        ttft_due_ns: some(first - due),
        tpot_ns: some(gap),
        e2e_ns: some(last + MS - sent),
        e2e_due_ns: some(last + MS - due),
        recorded_status: Some(200),
        recorded_outcome: Some("complete".into()),
        recorded_ttft_ns: Some(ttft * 3 / 2 + dice.roll(30 * MS)),
        recorded_e2e_ns: Some((last - sent) * 5 / 4),
        recorded_output_tokens: count(tokens),
        recorded_finish_reason: Some("stop".into()),
        // Two stages, the second with a quarter of the requests.
        stage: Some(u32::from(number > 300)),
        output_equal: some(0).map(|_| !number.is_multiple_of(11)),
        ..Measurement::default()
    };
    (row, frames)
}

/// Writes a run of a minute with everything in it.
fn write_run(dir: &Path, requests: u64, seed: u64) {
    let mut manifest = manifest();
    manifest.counts = Counts { planned: requests, sent: requests, ..Counts::default() };
    let mut writer = RunWriter::create(dir, &manifest).unwrap();
    let mut dice = Dice(seed);
    for number in 1..=requests {
        let (row, frames) = measurement(number, &mut dice);
        writer.request(row).unwrap();
        writer.frames(frames).unwrap();
    }
    for tick in 0..600 {
        let at_ns = tick * 100 * MS;
        let busy = 60 + dice.roll(38);
        writer
            .gpu(GpuSample {
                at_ns,
                utilization_pct: Some(u32::try_from(busy).unwrap()),
                memory_used_bytes: Some(61_000_000_000),
                power_w: Some(f64::from(i32::try_from(300 + busy * 3).unwrap())),
                energy_j: Some(f64::from(i32::try_from(tick * 52).unwrap())),
                temperature_c: Some(61.0),
                sm_clock_mhz: Some(1_980),
                throttle_reasons: Some(if tick > 500 {
                    "sw_power_cap".into()
                } else {
                    String::new()
                }),
                ..GpuSample::default()
            })
            .unwrap();
        writer
            .host(HostSample {
                at_ns,
                cpu_pct: Some(12.0),
                process_cpu_pct: Some(40.0 + f64::from(i32::try_from(dice.roll(20)).unwrap())),
                process_rss_bytes: Some(48_000_000),
                process_run_delay_ns: Some(tick.cast_unsigned() * 1_000),
                ..HostSample::default()
            })
            .unwrap();
        if tick % 10 == 0 {
            for (name, value) in
                [("vllm:num_requests_running", 7.0), ("vllm:num_requests_waiting", 1.0)]
            {
                writer
                    .server(ServerMetric {
                        at_ns,
                        name: name.into(),
                        labels: "{}".into(),
                        value,
                        ..ServerMetric::default()
                    })
                    .unwrap();
            }
        }
    }
    writer.finish(manifest).unwrap();
}

fn report(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_reenact")).arg("report").args(args).output().unwrap()
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

/// Attributes and rules by which a page fetches.
fn fetches(html: &str) -> Vec<&str> {
    let page_only = html
        .split("<script")
        .map(|part| part.split_once("</script>").map_or(part, |(_, rest)| rest));
    let mut found = Vec::new();
    for part in page_only {
        for mark in ["src=", "href=", "@import", "url(", "<link", "<iframe", "<img", "srcset="] {
            found
                .extend(part.match_indices(mark).map(|(at, _)| &part[at..part.len().min(at + 40)]));
        }
    }
    found
}

#[test]
fn a_run_is_reported_whole() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    write_run(&run, 400, 7);
    let run_arg = run.to_str().unwrap();
    let output = report(&[run_arg]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stdout(&output).starts_with("VALID"), "{}", stdout(&output));
    for word in
        ["Time to first token", "– recorded", "Requests/s", "http 503", "GPU 0 was held down"]
    {
        assert!(stdout(&output).contains(word), "{word} is missing in {}", stdout(&output));
    }

    let html = fs::read_to_string(run.join("report.html")).unwrap();
    assert_eq!(fetches(&html), Vec::<&str>::new());
    assert!(!html.contains("<script>alert"), "text from the run is markup");
    assert!(html.contains("default-src 'none'"));
    for word in [
        "id=\"ttft\"",
        "id=\"gap\"",
        "id=\"tpot\"",
        "id=\"e2e\"",
        "id=\"time\"",
        "GPU power",
        "Slowest requests",
        "NVIDIA H100",
        "vllm:num_requests_running",
    ] {
        assert!(html.contains(word), "{word} is missing in the page");
    }

    let markdown = fs::read_to_string(run.join("summary.md")).unwrap();
    assert!(markdown.starts_with("**VALID"), "{markdown}");
    assert!(markdown.contains("| http 503 | 4 | server |"), "{markdown}");
    assert!(markdown.contains("\\<capacity> \\| left"), "{markdown}");

    let json = report(&[run_arg, "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["counts"]["rows"], 400);
    assert_eq!(json["latencies"]["ttft"]["rows"], 396);
    assert_eq!(json["errors"]["http 503"]["count"], 4);
    assert_eq!(json["gpus"]["0"]["energy_j"], 599.0 * 52.0);

    assert!(stdout(&output).contains("Stages and bursts"), "{}", stdout(&output));
    let stages = [&json["stages"]["0"], &json["stages"]["1"]];
    assert_eq!(stages.map(|stage| &stage["rows"]), [300, 100]);
    assert_eq!(stages.map(|stage| &stage["good"]), [297, 99]);
    // Due every 150 ms; the last response takes its time.
    let rate = stages[0]["requests_per_s"].as_f64().unwrap();
    assert!((5.5..6.7).contains(&rate), "{rate}");
}

#[test]
fn runs_are_compared() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (dir.path().join("one"), dir.path().join("two"));
    write_run(&one, 120, 1);
    write_run(&two, 120, 2);
    let page = dir.path().join("compare.html");
    let output =
        report(&[one.to_str().unwrap(), two.to_str().unwrap(), "--out", page.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(
        stdout(&output).contains("TTFT p50") && stdout(&output).contains(" %)"),
        "{}",
        stdout(&output)
    );
    let html = fs::read_to_string(&page).unwrap();
    assert!(html.contains("Comparison of runs") && fetches(&html).is_empty());
    let twice = report(&[one.to_str().unwrap(), one.to_str().unwrap()]);
    assert_eq!(twice.status.code(), Some(2), "{}", stderr(&twice));
}

#[test]
fn a_run_that_is_not_valid_says_so_on_the_first_line() {
    let check = |manifest: Manifest, status: i32, class: &str| {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = RunWriter::create(dir.path(), &manifest).unwrap();
        writer.request(measurement(1, &mut Dice(1)).0).unwrap();
        let verdict = manifest.verdict.as_str();
        writer.finish(manifest).unwrap();
        let output = report(&[dir.path().to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(status));
        let first = stdout(&output).lines().next().unwrap().to_owned();
        assert_eq!(first, format!("{verdict}: 3 releases were more than 10 ms late."));
        let markdown = fs::read_to_string(dir.path().join("summary.md")).unwrap();
        assert!(markdown.starts_with(&format!("**{verdict}")), "{markdown}");
        let html = fs::read_to_string(dir.path().join("report.html")).unwrap();
        let main = &html[html.find("<main>").unwrap()..];
        let head = format!("<main>\n<p class=\"verdict {class}\">{verdict}");
        assert!(main.starts_with(&head), "{}", &main[..80]);
    };
    let late = vec!["3 releases were more than 10 ms late".to_owned()];
    check(Manifest { verdict: Verdict::Invalid, reasons: late.clone(), ..manifest() }, 3, "bad");
    check(Manifest { verdict: Verdict::Doubtful, doubts: late, ..manifest() }, 0, "fair");
}

/// A run that was killed in the middle: parts, no end.
#[test]
fn an_unfinished_run_is_reported_with_a_doubt() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = RunWriter::create(dir.path(), &manifest()).unwrap();
    for number in 1..=50 {
        writer.request(measurement(number, &mut Dice(number)).0).unwrap();
    }
    writer.tick(Nanos(3_600_000_000_000)).unwrap();
    drop(writer);
    assert!(!RunReader::open(dir.path()).unwrap().manifest().finished);
    let output = report(&[dir.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(3));
    assert!(stdout(&output).starts_with("INVALID: the run did not finish."), "{}", stdout(&output));
    assert!(stdout(&output).contains("50"), "{}", stdout(&output));
}

#[test]
fn an_empty_run_and_missing_files_are_sentences() {
    let dir = tempfile::tempdir().unwrap();
    RunWriter::create(dir.path(), &manifest()).unwrap().finish(manifest()).unwrap();
    fs::remove_file(dir.path().join("gpu.parquet")).unwrap();
    let output = report(&[dir.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stdout(&output).contains("No request is in this run"), "{}", stdout(&output));
    assert!(stdout(&output).contains("No GPU was sampled"), "{}", stdout(&output));

    let none = dir.path().join("none");
    for (path, expected) in [
        (none.as_path(), "no such folder"),
        (Path::new(env!("CARGO_MANIFEST_DIR")), "holds no run.json"),
    ] {
        let output = report(&[path.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).contains(expected), "{}", stderr(&output));
        assert_eq!(stderr(&output).lines().count(), 1, "{}", stderr(&output));
    }
}

#[test]
fn the_schema_is_printed() {
    let output = report(&["--schema"]);
    assert!(output.status.success());
    assert!(
        stdout(&output).contains(
            "| ttft_ns | BIGINT | Time to first token from sent: `first_token_ns` - `sent_ns`. |"
        ),
        "{}",
        stdout(&output)
    );
}
