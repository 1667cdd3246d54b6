//! The command: arguments, one file per verb, exit statuses.
//!
//! Data goes to stdout, words and progress to stderr. Exit status: 0 done, 1 failed, 2 usage, 3 done but with loss (gaps
//! in a recording, damage in a trace), with an INVALID verdict, or what the user wanted to hold does not.

mod bench;
mod child;
mod config;
mod demo;
mod identity;
mod privacy;
mod record;
mod replay;
mod report;
mod sample;
mod share;
mod signals;
mod simulate;
mod telemetry;
mod trace;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{ArgMatches, CommandFactory as _, Parser, Subcommand};

/// How a verb that did not fail came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done, and nothing was lost.
    Done,
    /// Done, but with loss, with an INVALID verdict, or what was to hold does not.
    Loss,
}

/// An error in what was asked for: exit status 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

/// Records real LLM traffic and re-enacts it, byte for byte and on time, against any backend
#[derive(Debug, Parser)]
#[command(name = "reenact", version, max_term_width = 100)]
struct Args {
    /// Take flags from a TOML file: one table per verb, keys as the long flags; the command line and the environment win
    #[arg(long, value_name = "FILE", env = "REENACT_CONFIG", global = true)]
    // `config::expand` takes it out before; it is here for --help.
    config: Option<PathBuf>,

    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Record(Box<record::RecordArgs>),
    Replay(Box<replay::ReplayArgs>),
    Report(report::ReportArgs),
    Trace(trace::TraceArgs),
    Sample(sample::SampleArgs),
    Simulate(simulate::SimulateArgs),
    Bench(bench::BenchArgs),
    Demo(demo::DemoArgs),
}

/// Runs the command line `args`, the program's name first, and returns the exit status.
#[must_use]
pub fn main(args: Vec<OsString>) -> ExitCode {
    let parsed = match config::expand(args.clone()) {
        Ok(args) => Args::parse_from(args),
        Err(error) => return failed(&error),
    };
    let outcome = match parsed.verb {
        Verb::Record(parsed) => record::run(*parsed, &|| reread(&args)),
        Verb::Replay(args) => replay::run(*args),
        Verb::Report(args) => report::run(&args),
        Verb::Trace(args) => trace::run(args),
        Verb::Sample(args) => sample::run(&args),
        Verb::Simulate(args) => simulate::run(&args),
        Verb::Bench(args) => bench::run(&args),
        Verb::Demo(args) => demo::run(&args),
    };
    match outcome {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Loss) => ExitCode::from(3),
        Err(error) => failed(&error),
    }
}

/// Reads the command line and the configuration file once more, for a verb that takes changes while it runs.
///
/// # Errors
/// The file can't be read any more, or holds what no flag takes.
fn reread(args: &[OsString]) -> anyhow::Result<ArgMatches> {
    let args = config::expand(args.to_vec())?;
    let matches = Args::command().try_get_matches_from(args).map_err(|error| {
        // The first line says what is wrong, the others how to call it.
        let text = error.to_string();
        let line = text.lines().next().unwrap_or_default();
        UsageError(line.trim_start_matches("error: ").to_owned())
    })?;
    Ok(matches)
}

/// Prints `error` with its causes on one line and returns its exit status. A reader of stdout that left is no error.
#[expect(clippy::print_stderr, reason = "the one place where errors are printed")]
fn failed(error: &anyhow::Error) -> ExitCode {
    let broken_pipe = error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|cause| cause.kind() == std::io::ErrorKind::BrokenPipe);
    if broken_pipe {
        return ExitCode::SUCCESS;
    }
    eprintln!("error: {error:#}");
    if error.is::<UsageError>() { ExitCode::from(2) } else { ExitCode::FAILURE }
}

/// Reads a length of time such as `500ms`, `30s`, `1h 30m`.
fn duration(text: &str) -> Result<Duration, String> {
    let hint = "write it like 500ms, 30s or 5m";
    let duration: jiff::SignedDuration =
        text.parse().map_err(|error| format!("{error}; {hint}"))?;
    Duration::try_from(duration).map_err(|_| format!("it must not be negative; {hint}"))
}
