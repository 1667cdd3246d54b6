//! `reenact report`.

use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use crate::report::noise::NoiseFloor;
use crate::report::summary::Summary;
use crate::report::{HTML, MARKDOWN, compare, gather, rows, schema, text, write};
use crate::results::RunReader;
use crate::results::manifest::Verdict;
use crate::results::slo::{Slo, Slos};

use super::{Outcome, UsageError};

/// Report on a run, or compare several
///
/// One run: prints a summary, and writes summary.md and report.html into its folder. Several: prints a comparison with
/// the first, and with --out writes it. Exit status 3 when a run is INVALID.
#[derive(Debug, Args)]
pub(super) struct ReportArgs {
    /// Run folders
    #[arg(value_name = "RUN", required_unless_present = "schema")]
    runs: Vec<PathBuf>,
    /// Where to write the page; a name in .md for a comparison in Markdown
    #[arg(long, value_name = "FILE", env = "REENACT_REPORT_OUT")]
    out: Option<PathBuf>,
    /// Judge the runs by objectives, as with `reenact replay --slo`: ttft:p99<500ms, tpot<50ms, errors<1%, goodput>95%
    #[arg(long, value_name = "SLO", env = "REENACT_SLO", value_delimiter = ',')]
    slo: Vec<Slo>,
    /// Call differences noise that are no larger than those in this repeat.json, which `reenact replay --repeat` wrote (default:
    /// the one beside the runs, if there is one)
    #[arg(long, value_name = "FILE", env = "REENACT_NOISE")]
    noise: Option<PathBuf>,
    /// Print everything as JSON
    #[arg(long)]
    json: bool,
    /// Print the schema of run folders, and nothing else
    #[arg(long)]
    schema: bool,
}

pub(super) fn run(args: &ReportArgs) -> anyhow::Result<Outcome> {
    if args.schema {
        return print(&schema::markdown()).map(|()| Outcome::Done);
    }
    let slos = match args.slo.as_slice() {
        [] => None,
        slos => {
            let slos = Slos::new(slos.to_vec());
            Some(slos.map_err(|error| UsageError(format!("--slo: {error}")))?)
        }
    };
    let summaries = match args.runs.as_slice() {
        [run] => vec![one(run, args, slos.as_ref())?],
        runs => several(runs, args, slos.as_ref())?,
    };
    let invalid = summaries.iter().any(|summary| summary.verdict == Verdict::Invalid);
    Ok(if invalid { Outcome::Loss } else { Outcome::Done })
}

fn one(dir: &Path, args: &ReportArgs, slos: Option<&Slos>) -> anyhow::Result<Summary> {
    let progress = progress(&RunReader::open(dir)?)?;
    let summary =
        write(dir, args.out.as_deref(), slos, &mut |rows| progress.set_position(rows as u64))?;
    progress.finish_and_clear();
    if args.json {
        print(&format!("{}\n", serde_json::to_string_pretty(&summary)?))?;
    } else {
        print(&text::terminal(&summary, width()))?;
    }
    let page = args.out.clone().unwrap_or_else(|| dir.join(HTML));
    say(&format!("Written: {}, {}", dir.join(MARKDOWN).display(), page.display()));
    Ok(summary)
}

fn several(
    dirs: &[PathBuf],
    args: &ReportArgs,
    slos: Option<&Slos>,
) -> anyhow::Result<Vec<Summary>> {
    let mut summaries = Vec::new();
    for dir in dirs {
        let run = RunReader::open(dir)?;
        let progress = progress(&run)?;
        summaries.push(gather(&run, slos, &mut |rows| progress.set_position(rows as u64))?);
        progress.finish_and_clear();
    }
    let names = names(dirs)?;
    let noise = match &args.noise {
        Some(path) => Some(NoiseFloor::read(path)?),
        None => NoiseFloor::beside(dirs)?,
    };
    let noise = noise.as_ref();
    if args.json {
        print(&format!("{}\n", serde_json::to_string_pretty(&summaries)?))?;
    } else {
        let table = compare::table(&names, &summaries, noise);
        print(&format!("{}\n{}\n", table.note, text::grid(&table, width())))?;
    }
    if let Some(out) = &args.out {
        let markdown = out.extension().is_some_and(|extension| extension == "md");
        let text = if markdown {
            compare::markdown(&names, &summaries, noise)
        } else {
            compare::page(&names, &summaries, noise)
        };
        std::fs::write(out, text).with_context(|| format!("cannot write {}", out.display()))?;
        say(&format!("Written: {}", out.display()));
    }
    Ok(summaries)
}

/// The folders' own names; their whole paths where these are not enough to tell them apart.
fn names(dirs: &[PathBuf]) -> anyhow::Result<Vec<String>> {
    let last = |dir: &PathBuf| dir.file_name().map(|name| name.to_string_lossy().into_owned());
    let mut short: Vec<String> = dirs.iter().filter_map(last).collect();
    let all = short.clone();
    short.sort();
    short.dedup();
    if short.len() == dirs.len() {
        return Ok(all);
    }
    let long: Vec<String> = dirs.iter().map(|dir| dir.display().to_string()).collect();
    let mut sorted = long.clone();
    sorted.sort();
    sorted.dedup();
    if sorted.len() < long.len() {
        return Err(UsageError("a run is named twice: name different ones".to_owned()).into());
    }
    Ok(long)
}

/// A bar over the rows of the run; hidden where stderr is no terminal.
fn progress(run: &RunReader) -> anyhow::Result<ProgressBar> {
    let style = ProgressStyle::with_template("reading {bar:40} {human_pos} of {human_len} rows")?;
    Ok(ProgressBar::new(rows(run)? as u64).with_style(style))
}

/// Columns of the terminal; none where stdout is no terminal.
fn width() -> Option<u16> {
    let stdout = io::stdout();
    if !stdout.is_terminal() {
        return None;
    }
    rustix::termios::tcgetwinsize(&stdout).ok().map(|size| size.ws_col).filter(|width| *width > 0)
}

fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    Ok(stdout.flush()?)
}

#[expect(clippy::print_stderr, reason = "words go to stderr")]
fn say(sentence: &str) {
    eprintln!("{sentence}");
}
