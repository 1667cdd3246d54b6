//! `reenact trace recover`: write what can be read of a damaged or unfinished trace to a new one.

use std::path::PathBuf;

use clap::Args;

use crate::trace::{Trace, recover};

use super::super::Outcome;
use super::say;

/// Write what can be read of a damaged or unfinished trace to a new, closed one
///
/// What is missing is told on stderr and stated in the new trace. Exit status 3 when something is missing or may be.
#[derive(Debug, Args)]
pub(super) struct RecoverArgs {
    /// The damaged trace: a file, an unfinished `.open` file, or a folder of segments
    trace: PathBuf,
    /// The trace to write; it must not exist
    out: PathBuf,
}

pub(super) fn run(args: &RecoverArgs) -> anyhow::Result<Outcome> {
    let trace = Trace::open(&args.trace)?;
    let recovered = recover(&trace, &args.out)?;
    for loss in &recovered.losses {
        say(&format!("warn: {loss}"));
    }
    if recovered.lost_exchanges > 0 {
        say(&format!(
            "warn: {} exchanges are lost, {} of them left out since only their request head is lost",
            recovered.lost_exchanges, recovered.headless
        ));
    }
    if recovered.lost_frames > 0 {
        say(&format!(
            "warn: {} frames of the others are lost, {} bytes",
            recovered.lost_frames, recovered.lost_bytes
        ));
    }
    if recovered.open > 0 {
        say(&format!("info: {} exchanges have no end", recovered.open));
    }
    let counters = recovered.counters();
    say(&format!(
        "info: {} exchanges, {} frames in {} ({} bytes)",
        counters.admitted - counters.dropped(),
        recovered.summary.totals.frames,
        args.out.display(),
        recovered.summary.bytes
    ));
    Ok(if recovered.is_lossy() { Outcome::Loss } else { Outcome::Done })
}
