//! `reenact trace verify`: prove that nothing is missing in silence, and explain what is missing.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;

use crate::cli::identity::IdentityArgs;
use crate::trace::{CauseSummary, Trace, Verification, verify};

use super::super::Outcome;

/// Check a trace: every checksum and digest, the order of stamps, totals, and that each admitted exchange is accounted for
///
/// Says for each cause what is missing, what that means for a replay and for numbers drawn from the trace, and what can be
/// done. Exit status 0 when everything holds, 3 when something is lost or does not hold, 1 when it can't be read as a trace.
#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    /// The trace: a file, an unfinished `.open` file, or a folder of segments
    trace: PathBuf,
    /// Print JSON
    #[arg(long, env = "REENACT_JSON")]
    json: bool,
    #[command(flatten)]
    identity: IdentityArgs,
}

/// Findings of one cause that are printed; JSON has more.
const MAX_PRINTED: usize = 20;

pub(super) fn run(args: &VerifyArgs, out: &mut dyn Write) -> anyhow::Result<Outcome> {
    let trace = Trace::open_with(&args.trace, &args.identity.read_options()?)?;
    let found = verify(&trace)?;
    if args.json {
        serde_json::to_writer_pretty(&mut *out, &found)?;
        writeln!(out)?;
    } else {
        print(&found, out)?;
    }
    Ok(if found.holds() { Outcome::Done } else { Outcome::Loss })
}

fn print(found: &Verification, out: &mut dyn Write) -> io::Result<()> {
    for summary in &found.causes {
        explain(summary, found, out)?;
    }
    if found.bare_frames > 0 {
        writeln!(
            out,
            "of the frames that are missing, {} ({} bytes) are there but for their bytes: bytes left out, times kept",
            found.bare_frames, found.bare_bytes
        )?;
    }
    if found.more > 0 {
        writeln!(out, "and {} findings more", found.more)?;
    }
    writeln!(out, "{}", found.stated)?;
    let verdict = if found.holds() { "everything holds" } else { "NOT everything holds" };
    writeln!(
        out,
        "{verdict}: {} exchanges, {} frames, {} body bytes",
        found.exchanges, found.frames, found.body_bytes
    )
}

/// Prints a cause, what it means, what to do, and what was found of it.
fn explain(summary: &CauseSummary, found: &Verification, out: &mut dyn Write) -> io::Result<()> {
    let CauseSummary { cause, is_loss, findings, lost, incomplete, what, means, remedy, .. } =
        summary;
    writeln!(out, "{}: {what}", cause.as_str())?;
    write!(out, "  {}  {lost}", if *is_loss { "missing " } else { "left out" })?;
    match (summary.from_ns, summary.until_ns) {
        (Some(from), Some(until)) => write!(out, ", between {from} and {until}")?,
        (Some(from), None) => write!(out, ", after {from}")?,
        (None, Some(until)) => write!(out, ", before {until}")?,
        (None, None) => {}
    }
    if !incomplete.is_empty() {
        write!(out, "; incomplete: {incomplete}")?;
    }
    writeln!(out, "\n  means     {means}\n  to do     {remedy}")?;
    let of_cause = found.findings.iter().filter(|finding| finding.cause == *cause);
    let mut printed = 0;
    for finding in of_cause.take(MAX_PRINTED) {
        writeln!(out, "  - {}", finding.text)?;
        printed += 1;
    }
    match findings.saturating_sub(printed) {
        more @ 1.. if *is_loss => writeln!(out, "  - and {more} more (--json)"),
        _ => Ok(()),
    }
}
