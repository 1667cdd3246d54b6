//! `--repeat N`: the same plan several times, and how far its runs lie apart.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use crate::replay::plan::Plan;
use crate::report::noise::{NoiseFloor, REPEAT};
use crate::report::{gather, text};
use crate::results::RunReader;
use crate::results::manifest::Verdict;

use super::super::{Outcome, UsageError};
use super::args::ReplayArgs;
use super::output;
use super::stage::{Ended, Stage};

/// Runs `plan` so many times, into `out/01`, `out/02` and so on, and writes and prints the noise floor. An interrupt ends it
/// after the run that it hit.
pub(super) fn run(
    args: &ReplayArgs,
    stage: &Stage<'_>,
    plan: &Plan,
    out: &Path,
    times: u32,
) -> anyhow::Result<Outcome> {
    let path = out.join(REPEAT);
    if path.exists() {
        let text = format!("{} holds repeated runs already: name another folder", out.display());
        return Err(UsageError(text).into());
    }
    let (mut whole, mut outcome) = (Vec::new(), Outcome::Done);
    for number in 1..=times {
        let dir = out.join(format!("{number:02}"));
        output::say(&format!("Run {number} of {times}:"));
        let Ended { manifest, summary, ran } = stage.run(plan, &dir)?;
        if !args.json {
            output::summary(&dir, &manifest, &summary, &ran, false)?;
        }
        if manifest.verdict == Verdict::Invalid || !args.judge.holds(&manifest) {
            outcome = Outcome::Loss;
        }
        if manifest.interrupted {
            break;
        }
        whole.push(dir);
    }
    if whole.len() < 2 {
        output::say("Fewer than two whole runs: there is no noise floor.");
        return Ok(Outcome::Loss);
    }
    let floor = floor(&whole)?;
    floor.write(&path)?;
    let mut stdout = std::io::stdout().lock();
    if args.json {
        serde_json::to_writer_pretty(&mut stdout, &floor)?;
        writeln!(stdout)?;
    } else {
        let table = floor.table();
        writeln!(stdout, "\n{}\n{}", table.note, text::grid(&table, None))?;
    }
    output::say(&format!("Written: {}", path.display()));
    Ok(outcome)
}

/// Reads the runs back, as a report does.
fn floor(dirs: &[PathBuf]) -> anyhow::Result<NoiseFloor> {
    let mut summaries = Vec::with_capacity(dirs.len());
    for dir in dirs {
        summaries.push(gather(&RunReader::open(dir)?, None, &mut |_| {})?);
    }
    let name = |dir: &PathBuf| dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let names: Vec<String> = dirs.iter().map(name).collect();
    Ok(NoiseFloor::of(&names, &summaries))
}
