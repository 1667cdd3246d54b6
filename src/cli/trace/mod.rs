//! `reenact trace`: look at traces, check them, recover, cut and merge them, and turn them into other formats.

mod cut;
mod export;
mod har;
mod info;
mod list;
mod merge;
mod mooncake;
mod output;
mod recover;
mod redact;
mod show;
mod verify;

use std::io::{self, Write};
use std::path::Path;

use clap::{Args, Subcommand};

use crate::trace::record::Header;
use crate::trace::{ReadOptions, Scan, Trace};

use super::Outcome;

/// Look at traces, check them, recover, cut, merge and export them
#[derive(Debug, Args)]
pub(super) struct TraceArgs {
    #[command(subcommand)]
    verb: TraceVerb,
}

#[derive(Debug, Subcommand)]
enum TraceVerb {
    Info(info::InfoArgs),
    List(list::ListArgs),
    Show(show::ShowArgs),
    Verify(verify::VerifyArgs),
    Recover(recover::RecoverArgs),
    Cut(cut::CutArgs),
    Merge(merge::MergeArgs),
    Redact(redact::RedactArgs),
    Export(export::ExportArgs),
}

pub(super) fn run(args: TraceArgs) -> anyhow::Result<Outcome> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let outcome = match args.verb {
        TraceVerb::Info(args) => info::run(&args, &mut out),
        TraceVerb::List(args) => list::run(&args, &mut out),
        TraceVerb::Show(args) => show::run(&args, &mut out),
        TraceVerb::Verify(args) => verify::run(&args, &mut out),
        TraceVerb::Recover(args) => recover::run(&args, &mut out),
        TraceVerb::Cut(args) => cut::run(&args),
        TraceVerb::Merge(args) => merge::run(&args),
        TraceVerb::Redact(args) => redact::run(&args),
        TraceVerb::Export(args) => export::run(&args, &mut out),
    }?;
    out.flush()?;
    Ok(outcome)
}

/// Opens a trace and says on stderr what it lacks.
fn open(path: &Path, options: &ReadOptions) -> anyhow::Result<Trace> {
    let trace = Trace::open_with(path, options)?;
    for loss in &trace.health().losses {
        say(&format!("warning: {}: {loss}", path.display()));
    }
    Ok(trace)
}

/// Says on stderr what was found lost since [`open`], and returns whether the trace was whole as far as it was read.
fn outcome(trace: &Trace, scan: Option<&Scan>) -> Outcome {
    let known = trace.health();
    let mut complete = known.complete;
    if let Some(scan) = scan {
        for loss in scan.losses().iter().filter(|loss| !known.losses.contains(loss)) {
            say(&format!("warning: {loss}"));
            complete = false;
        }
        let missing = scan.missing();
        if missing.frames > 0 {
            say(&format!("warning: {} frames, {} bytes, are lost", missing.frames, missing.bytes));
            complete = false;
        }
    }
    if complete { Outcome::Done } else { Outcome::Loss }
}

/// Returns the id of a trace in hex.
fn trace_id(header: &Header) -> String {
    header.trace.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns milliseconds for people.
#[expect(clippy::cast_precision_loss, reason = "for display")]
fn millis(ns: Option<i64>) -> String {
    ns.map_or_else(|| "-".to_owned(), |ns| format!("{:.1}", ns as f64 / 1e6))
}

#[expect(clippy::print_stderr, reason = "words go to stderr")]
fn say(sentence: &str) {
    eprintln!("{sentence}");
}
