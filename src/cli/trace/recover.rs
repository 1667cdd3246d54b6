//! `reenact trace recover`: write what can be read of a damaged or unfinished trace to a new one.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;

use crate::cli::identity::IdentityArgs;
use crate::trace::record::Counters;
use crate::trace::{Amount, Ids, RecoverError, Recovered, RecoveredFile, Recovery, recover_with};

use super::super::Outcome;
use super::output::OutputArgs;
use super::say;

/// Write what can be read of a damaged or unfinished trace to a new, closed one
///
/// The old files are only read, also while they are being written. Each file comes out as clean, recovered without loss,
/// recovered with loss, or not recoverable; what is missing is stated in the new trace too. Exit status 0 when nothing that
/// had been written is lost, 3 when something is, 1 when nothing can be recovered.
#[derive(Debug, Args)]
pub(super) struct RecoverArgs {
    /// The damaged trace: a file, an unfinished `.open` file, or a folder of segments
    trace: PathBuf,
    /// The trace to write; it must not exist
    out: PathBuf,
    /// Print what came out as JSON to stdout
    #[arg(long, env = "REENACT_JSON")]
    json: bool,
    #[command(flatten)]
    identity: IdentityArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// What is printed as JSON.
#[derive(Serialize)]
struct Report<'a> {
    outcome: Recovery,
    files: &'a [RecoveredFile],
    missing_segments: &'a [u32],
    lost: Amount,
    headless: &'a Ids,
    incomplete: &'a Ids,
    open: u64,
    counters: Counters,
}

pub(super) fn run(args: &RecoverArgs, out: &mut dyn Write) -> anyhow::Result<Outcome> {
    let options = args.identity.read_options()?;
    let to = args.output.destination(&args.out, [args.trace.as_path()])?;
    let recovered = match recover_with(&args.trace, &options, &to) {
        Err(error @ RecoverError::Read(_)) => {
            return Err(error).context(Recovery::NotRecoverable.as_str());
        }
        other => other?,
    };
    tell(&recovered);
    if args.json {
        let Recovered { outcome, files, missing, summary, lost, headless, incomplete, open } =
            &recovered;
        let report = Report {
            outcome: *outcome,
            files,
            missing_segments: missing,
            lost: *lost,
            headless,
            incomplete,
            open: *open,
            counters: summary.counters,
        };
        serde_json::to_writer_pretty(&mut *out, &report)?;
        writeln!(out)?;
    }
    Ok(match recovered.outcome {
        Recovery::Clean | Recovery::WithoutLoss => Outcome::Done,
        Recovery::WithLoss | Recovery::NotRecoverable => Outcome::Loss,
    })
}

/// Says what came out: every `warn` is something that had been written and is lost.
fn tell(recovered: &Recovered) {
    for file in &recovered.files {
        let level = if file.outcome < Recovery::WithLoss { "info" } else { "warn" };
        let RecoveredFile { path, outcome, bytes, lost_bytes, exchanges, .. } = file;
        let mut words = format!(
            "{level}: {}: {}: {exchanges} exchanges, {lost_bytes} of {bytes} bytes lost",
            path.display(),
            outcome.as_str()
        );
        if let Some(lost @ 1..) = file.lost_exchanges {
            words = format!("{words}, and with them {lost} exchanges");
        }
        say(&words);
        for loss in &file.losses {
            say(&format!("{level}:   {loss}"));
        }
        if let Some(error) = &file.error {
            say(&format!("{level}:   {error}"));
        }
    }
    for segment in &recovered.missing {
        say(&format!("warn: segment {segment} is not there"));
    }
    let Recovered { lost, headless, incomplete, open, summary, .. } = recovered;
    if lost.exchanges > 0 {
        let why = match headless.count {
            0 => String::new(),
            _ => format!("; left out since their request head is among it: {headless}"),
        };
        say(&format!("warn: {} whole exchanges are lost{why}", lost.exchanges));
    }
    if !incomplete.is_empty() {
        let Amount { frames, bytes, .. } = lost;
        say(&format!("warn: {frames} frames, {bytes} bytes, are lost of {incomplete}"));
    }
    if *open > 0 {
        say(&format!("info: {open} exchanges have no end: they were under way"));
    }
    say(&format!(
        "info: {}: {} exchanges, {} frames in {} ({} bytes)",
        recovered.outcome.as_str(),
        summary.totals.exchanges,
        summary.totals.frames,
        summary.path.display(),
        summary.bytes
    ));
}
