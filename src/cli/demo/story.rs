//! The demo's course, and what it says.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;

use super::super::child::{Ended, Family};
use super::client;
use super::workload::CONTEXT_TOKENS;
use crate::clock::{Clock, Nanos};
use crate::results::manifest::Manifest;

use super::super::Outcome;
use super::super::signals::Signals;

/// Run the whole loop on a simulated server: record, replay at 1x and 4x, report
///
/// Takes about half a minute, and needs nothing but this program.
#[derive(Debug, Args)]
pub(in super::super) struct DemoArgs {
    /// Folder to write; it must not hold anything. Without it: reports/demo-DATE
    #[arg(long, value_name = "DIR", env = "REENACT_OUT")]
    out: Option<PathBuf>,
}

/// Where things are written.
struct Places {
    folder: PathBuf,
    trace: PathBuf,
    /// A run for each speed.
    runs: [(&'static str, PathBuf); 2],
    comparison: PathBuf,
}

pub(in super::super) fn run(args: &DemoArgs) -> anyhow::Result<Outcome> {
    let places = Places::make(args.out.clone())?;
    let family = Family::default();
    let whole = family.clone();
    let _watching = Signals::listen()?.watch(move || {
        whole.end_all();
        std::process::exit(INTERRUPTED);
    })?;
    let mut server = family.start(&arguments(&[
        "simulate",
        "--listen",
        "127.0.0.1:0",
        "--model",
        "demo",
        "--context-tokens",
        &CONTEXT_TOKENS.to_string(),
    ]))?;
    let target = server.url()?;
    say(&format!(
        "1. A simulated LLM server answers on {target}: no GPU, no model, nothing to install."
    ))?;
    record(&family, &target, &places)?;
    say("3. `reenact replay` sends it all again, each request when it is due:")?;
    let mut gpus = String::new();
    for (speed, run) in &places.runs {
        let manifest = replay(&family, speed, run, &target, &places.trace)?;
        gpus = said_of_gpus(&manifest);
    }
    say(&format!("   {gpus}"))?;
    drop(server);
    report(&family, &places)?;
    places.tell()?;
    Ok(Outcome::Done)
}

/// Sends the workload through the recording proxy.
fn record(family: &Family, target: &str, places: &Places) -> anyhow::Result<()> {
    let mut proxy = family.start(&[
        OsStr::new("record"),
        OsStr::new("--listen"),
        OsStr::new("127.0.0.1:0"),
        OsStr::new("--upstream"),
        OsStr::new(target),
        OsStr::new("--out"),
        places.trace.as_os_str(),
    ])?;
    let url = proxy.url()?;
    say(&format!(
        "2. `reenact record` stands before it on {url}. Clients send it chats, completions, embeddings, pictures, tool calls \
         and a conversation, for seven seconds ..."
    ))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let tally = runtime.block_on(client::send_all(&url))?;
    drop(runtime);
    proxy.interrupt()?;
    let Ended { status, said } = proxy.end()?;
    anyhow::ensure!(status.success(), "the recording has gaps: {}", said.join("\n"));
    say(&format!(
        "   {} requests, {} of them left in the middle by its client, {} refused by the server.",
        tally.requests, tally.left, tally.refused
    ))?;
    if let Some(last) = said.last() {
        say(&format!("   {last}"))?;
    }
    let verified = family
        .start(&[OsStr::new("trace"), OsStr::new("verify"), places.trace.as_os_str()])?
        .end()?;
    anyhow::ensure!(
        verified.status.success(),
        "the trace is damaged: {}",
        verified.said.join("\n")
    );
    if let Some(law) = verified.said.first() {
        say(&format!("   `reenact trace verify` finds nothing missing: {law}"))?;
    }
    Ok(())
}

/// Replays the trace, and says how it went.
fn replay(
    family: &Family,
    speed: &str,
    run: &Path,
    target: &str,
    trace: &Path,
) -> anyhow::Result<Manifest> {
    let verb = family.start(&[
        OsStr::new("replay"),
        trace.as_os_str(),
        OsStr::new("--target"),
        OsStr::new(target),
        OsStr::new("--speed"),
        OsStr::new(speed),
        OsStr::new("--scrape"),
        OsStr::new(target),
        OsStr::new("--out"),
        run.as_os_str(),
    ])?;
    let Ended { said, .. } = verb.end()?;
    let manifest = manifest(run)?;
    let counts = manifest.counts;
    say(&format!(
        "   {speed}x: {} sent in {:.1} s: {} complete, {} left as recorded, {} failed. {:.2} ms late at the 99th percentile: {}.",
        counts.sent,
        manifest.duration_s,
        counts.complete,
        counts.cancelled,
        counts.failed,
        Nanos(manifest.lateness.p99_ns.max(0).cast_unsigned()).as_millis_f64(),
        manifest.verdict.as_str()
    ))?;
    for reason in manifest.reasons.iter().chain(&manifest.doubts) {
        say(&format!("       {reason}"))?;
    }
    if let Some(outputs) = said.iter().find(|line| line.contains("equal to the recorded")) {
        say(&format!("       {outputs}."))?;
    }
    Ok(manifest)
}

/// Returns what telemetry says of GPUs.
fn said_of_gpus(manifest: &Manifest) -> String {
    if manifest.gpus.is_empty() {
        let why = manifest.telemetry.iter().find(|note| note.contains("GPU"));
        why.cloned().unwrap_or_else(|| "No GPU is sampled.".to_owned())
    } else {
        let names: Vec<&str> = manifest.gpus.iter().map(|gpu| gpu.name.as_str()).collect();
        format!(
            "The GPUs of this machine are sampled, though nothing here uses them: {}.",
            names.join(", ")
        )
    }
}

fn report(family: &Family, places: &Places) -> anyhow::Result<()> {
    say("4. `reenact report` makes a page of each run, and one that compares them:")?;
    for (_, run) in &places.runs {
        family.start(&[OsStr::new("report"), run.as_os_str()])?.end()?;
    }
    let [(_, first), (_, second)] = &places.runs;
    let verb = family.start(&[
        OsStr::new("report"),
        first.as_os_str(),
        second.as_os_str(),
        OsStr::new("--out"),
        places.comparison.as_os_str(),
    ])?;
    for line in verb.end()?.said.iter().filter(|line| !line.starts_with("Written:")) {
        say(&format!("   {line}"))?;
    }
    Ok(())
}

fn manifest(run: &Path) -> anyhow::Result<Manifest> {
    let path = run.join("run.json");
    let file = File::open(&path).with_context(|| format!("can't read {}", path.display()))?;
    serde_json::from_reader(file).with_context(|| format!("{} is damaged", path.display()))
}

fn arguments<'a>(args: &'a [&'a str]) -> Vec<&'a OsStr> {
    args.iter().map(|arg| OsStr::new(*arg)).collect()
}

// === impl Places ===

impl Places {
    /// Makes the folder.
    fn make(out: Option<PathBuf>) -> anyhow::Result<Self> {
        let folder = out.unwrap_or_else(|| {
            let now = Clock::start().anchor().rfc3339(Nanos::ZERO);
            let stamp: String = now.chars().take(19).filter(|c| !matches!(c, '-' | ':')).collect();
            PathBuf::from(format!("reports/demo-{stamp}Z"))
        });
        fs::create_dir_all(&folder)
            .with_context(|| format!("can't make the folder {}", folder.display()))?;
        let mut entries = fs::read_dir(&folder)
            .with_context(|| format!("can't read the folder {}", folder.display()))?;
        anyhow::ensure!(
            entries.next().is_none(),
            "{} is not empty; name another folder with --out",
            folder.display()
        );
        Ok(Self {
            trace: folder.join("demo.trace"),
            runs: [("1", folder.join("replay-1x")), ("4", folder.join("replay-4x"))],
            comparison: folder.join("comparison.html"),
            folder,
        })
    }

    /// Says where everything is, and what could be done with it.
    fn tell(&self) -> anyhow::Result<()> {
        let [(_, first), (_, second)] = &self.runs;
        say(&format!("\nAll of it is in {}:", self.folder.display()))?;
        for (path, what) in [
            (&self.trace, "the trace"),
            (
                &first.join("report.html"),
                "the report of the replay at the recorded times; opens offline",
            ),
            (&second.join("report.html"), "the same at four times the speed"),
            (&self.comparison, "both, side by side"),
            (&first.join("requests.parquet"), "a row for each request, for DuckDB, Polars, pandas"),
        ] {
            let path = path.strip_prefix(&self.folder).unwrap_or(path);
            say(&format!("  {:30} {what}", path.display()))?;
        }
        // Set by cargo for what it runs.
        let program = match std::env::var_os("CARGO") {
            Some(_) => "cargo run --release --",
            None => "reenact",
        };
        let trace = self.trace.display();
        say(&format!(
            "\nNext, look at the trace:\n  {program} trace info {trace}\n  {program} trace list {trace}\n\
             and record your own server (point clients at port 8080, then end it with Ctrl-C):\n  \
             {program} record --listen 127.0.0.1:8080 --upstream http://127.0.0.1:8000 --out my.trace\n  \
             {program} replay my.trace --target http://127.0.0.1:8000 --out reports/my-run\n  \
             {program} report reports/my-run"
        ))
    }
}

/// Exit status after a signal, as a shell gives it for Ctrl-C.
const INTERRUPTED: i32 = 130;

/// Prints a sentence of the story. That nobody reads it is an error, which ends the demo.
fn say(sentence: &str) -> anyhow::Result<()> {
    Ok(writeln!(io::stdout(), "{sentence}")?)
}
