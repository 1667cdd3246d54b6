//! Puts a report into its run folder.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::results::slo::Slos;
use crate::results::{RunError, RunReader};

use super::summary::Summary;
use super::{gather, html, text};

/// Why a report could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The run can't be read.
    #[error(transparent)]
    Run(#[from] RunError),
    /// A noise floor can't be read.
    #[error("{}: cannot read the noise floor", path.display())]
    Noise {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The report can't be written.
    #[error("{}: cannot write the report", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// Reads the run in `dir` and writes `summary.md` into it, and the page to `page` or into it as well; judges it by
/// `slos` if there are any. `progress` is told the rows read so far.
///
/// # Errors
/// When the run can't be read, or a file not written.
pub fn write(
    dir: &Path,
    page: Option<&Path>,
    slos: Option<&Slos>,
    progress: &mut dyn FnMut(usize),
) -> Result<Summary, ReportError> {
    let run = RunReader::open(dir)?;
    let summary = gather(&run, slos, progress)?;
    save(&dir.join(MARKDOWN), &text::markdown(&summary))?;
    save(&page.map_or_else(|| dir.join(HTML), Path::to_owned), &html::page(&summary))?;
    Ok(summary)
}

/// Writes a file.
pub(super) fn save(path: &Path, text: &str) -> Result<(), ReportError> {
    fs::write(path, text).map_err(|source| ReportError::Write { path: path.to_owned(), source })
}

/// Name of the page in a run folder.
pub const HTML: &str = "report.html";

/// Name of the Markdown summary in a run folder.
pub const MARKDOWN: &str = "summary.md";
