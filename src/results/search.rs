//! The record of a search, `search.json`: every step, what was found, and why it ended.

use std::io::Write as _;
use std::path::Path;
use std::{fs, io};

use serde::{Deserialize, Serialize};

use super::manifest::Verdict;
use super::parts::OPEN;
use super::private;
use super::run::{MANIFEST, RunError, failed};
use super::slo::Judgement;

/// `search.json`. Fields are only ever added.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SearchRecord {
    /// Program and version.
    pub tool: String,
    /// What is searched for: `rate` (requests a second) or `concurrency` (requests in flight).
    pub of: String,
    /// The lowest load.
    pub from: f64,
    /// The highest load.
    pub to: f64,
    /// How near the lowest load that was missed is to come to the highest that was kept, as a share of the latter.
    pub precision: f64,
    /// The objectives, as in `--slo`.
    pub objectives: Vec<String>,
    /// When a step, and when the search, is over: a sentence each.
    pub rules: Vec<String>,
    /// Why it ended: `found`, `all_kept`, `none_kept`, `out_of_steps`, `invalid` or `interrupted`.
    pub end: String,
    /// The result, as a sentence.
    pub words: String,
    /// The highest load that kept every objective.
    pub highest_kept: Option<f64>,
    /// The lowest load that missed one.
    pub lowest_missed: Option<f64>,
    /// The steps, in order.
    pub steps: Vec<SearchStep>,
}

/// One step of a search: a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SearchStep {
    /// Its number, from 1.
    pub step: u32,
    /// The load.
    pub load: f64,
    /// Its run folder, from that of the search.
    pub folder: String,
    /// What came of it: `kept`, `missed` or `invalid`.
    pub finding: String,
    /// Whether its measurement can be trusted.
    pub verdict: Verdict,
    /// Every reason why it can't, as a sentence.
    pub reasons: Vec<String>,
    /// Requests that were sent.
    pub sent: u64,
    /// From the run's start to its last end, seconds.
    pub duration_s: f64,
    /// What came of the objectives.
    pub slo: Judgement,
}

/// Name of the record in the folder of a search.
pub const SEARCH: &str = "search.json";
/// Name of its page.
pub const SEARCH_PAGE: &str = "search.html";

// === impl SearchRecord ===

impl SearchRecord {
    /// Makes the folder `dir` where there is none, and begins a search in it.
    ///
    /// # Errors
    /// When the folder holds a search or a run already, or can't be written.
    pub fn create(&self, dir: &Path) -> Result<(), RunError> {
        private::create_folder(dir).map_err(|error| failed(dir, "write", error))?;
        for name in [SEARCH, MANIFEST] {
            if dir.join(name).exists() {
                return Err(RunError::Occupied { dir: dir.to_owned(), found: name.to_owned() });
            }
        }
        self.write(dir)
    }

    /// Writes it as it is now, beside its place and then into it, so that it is never half there.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write(&self, dir: &Path) -> Result<(), RunError> {
        let path = dir.join(SEARCH);
        let open = path.with_added_extension(OPEN);
        serde_json::to_vec_pretty(self)
            .map_err(io::Error::from)
            .and_then(|text| private::create(&open)?.write_all(&text))
            .and_then(|()| fs::rename(&open, &path))
            .map_err(|error| failed(&path, "write", error))
    }
}
