//! `reenact trace verify`: prove that nothing is missing in silence.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use crate::trace::Trace;
use crate::trace::verify;

use super::super::Outcome;

/// Check a trace: every checksum and digest, the order of stamps, totals, and that each admitted exchange is accounted for
///
/// Exit status 0 when everything holds, 3 when something is lost or does not hold, 1 when it can't be read as a trace.
#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    /// The trace: a file, an unfinished `.open` file, or a folder of segments
    trace: PathBuf,
    /// Print JSON
    #[arg(long, env = "REENACT_JSON")]
    json: bool,
}

pub(super) fn run(args: &VerifyArgs, out: &mut dyn Write) -> anyhow::Result<Outcome> {
    let trace = Trace::open(&args.trace)?;
    let found = verify(&trace)?;
    if args.json {
        serde_json::to_writer_pretty(&mut *out, &found)?;
        writeln!(out)?;
    } else {
        for finding in &found.findings {
            writeln!(out, "{}", finding.text)?;
        }
        if found.more > 0 {
            writeln!(out, "and {} findings more", found.more)?;
        }
        let counters = found.stated;
        writeln!(
            out,
            "{} admitted = {} complete + {} failed + {} cancelled + {} sampled out + {} dropped + {} open",
            counters.admitted,
            counters.complete,
            counters.failed,
            counters.cancelled,
            counters.sampled_out,
            counters.dropped(),
            counters.open().map_or_else(|| "?".to_owned(), |open| open.to_string())
        )?;
        let verdict = if found.holds() { "everything holds" } else { "NOT everything holds" };
        writeln!(
            out,
            "{verdict}: {} exchanges, {} frames, {} body bytes",
            found.exchanges, found.frames, found.body_bytes
        )?;
    }
    Ok(if found.holds() { Outcome::Done } else { Outcome::Loss })
}
