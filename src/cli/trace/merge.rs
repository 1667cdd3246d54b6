//! `reenact trace merge`: put several traces together on one time axis.

use std::path::PathBuf;

use clap::Args;

use crate::cli::identity::IdentityArgs;
use crate::trace::merge;

use super::super::Outcome;
use super::output::OutputArgs;
use super::{open, say};

/// Put several traces, of one recorder or several, together on one time axis
///
/// Parts of one recording (made by `reenact trace cut`) keep numbers and times. Traces of different recordings are placed by
/// their wall clocks, and their exchanges numbered anew by start. Exit status 3 when something can't be read.
#[derive(Debug, Args)]
pub(super) struct MergeArgs {
    /// The traces: files, unfinished `.open` files, or folders of segments
    #[arg(required = true)]
    traces: Vec<PathBuf>,
    /// The trace to write; it must not exist
    out: PathBuf,
    #[command(flatten)]
    identity: IdentityArgs,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) fn run(args: &MergeArgs) -> anyhow::Result<Outcome> {
    let options = args.identity.read_options()?;
    let traces =
        args.traces.iter().map(|path| open(path, &options)).collect::<Result<Vec<_>, _>>()?;
    let out = args.output.destination(&args.out, args.traces.iter().map(PathBuf::as_path))?;
    let merged = merge(&traces, out)?;
    let summary = &merged.summary;
    if !merged.lost.is_none() {
        say(&format!("warning: {} can't be read", merged.lost));
    }
    if !merged.omitted.is_none() {
        say(&format!("in none of the traces, since they were cut: {}", merged.omitted));
    }
    say(&format!(
        "{} exchanges, {} frames of {} recording(s) in {} ({} bytes)",
        summary.totals.exchanges,
        summary.totals.frames,
        merged.recordings,
        summary.path.display(),
        summary.bytes
    ));
    Ok(if merged.lost.is_none() { Outcome::Done } else { Outcome::Loss })
}
