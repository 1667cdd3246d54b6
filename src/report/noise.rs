//! The noise floor: how far runs of the same plan lie apart (A/A). A difference between two other runs that is no larger says
//! nothing about what was changed between them.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::results::manifest::Verdict;

use super::compare::LINES;
use super::summary::Summary;
use super::table::{NONE, Table};
use super::write::{ReportError, save};

/// What repeated runs of one plan amount to: `repeat.json`. Fields are only ever added.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NoiseFloor {
    /// The runs, by their folders.
    pub runs: Vec<String>,
    /// Their verdicts.
    pub verdicts: Vec<Verdict>,
    /// Whether all of them sent the same bytes in the same order at the same due times, by their digests.
    pub same_sent: bool,
    /// Metrics by the name that they have in a comparison.
    pub metrics: BTreeMap<String, Noise>,
}

/// How far one metric lies apart.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Noise {
    /// Its values by run: nanoseconds, or per second, as its name says; none where a run has too few rows for it.
    pub values: Vec<Option<f64>>,
    /// The largest difference between any two of them, as a share of the smaller: 0.02 is 2 %. None with fewer than two.
    pub relative: Option<f64>,
}

/// Name of the file that repeated runs leave beside their folders.
pub const REPEAT: &str = "repeat.json";

// === impl NoiseFloor ===

impl NoiseFloor {
    /// Works it out from runs, named by `names`.
    #[must_use]
    pub fn of(names: &[String], runs: &[Summary]) -> Self {
        let metrics = LINES.iter().filter_map(|line| {
            let noise = Noise::of(runs.iter().map(line.value).collect());
            let is_known = noise.values.iter().any(Option::is_some);
            is_known.then(|| (line.name.to_owned(), noise))
        });
        let digest = |run: &Summary| run.manifest.sent_digest.clone();
        Self {
            runs: names.to_vec(),
            verdicts: runs.iter().map(|run| run.verdict).collect(),
            same_sent: runs.windows(2).all(|pair| digest(&pair[0]) == digest(&pair[1])),
            metrics: metrics.collect(),
        }
    }

    /// Reads the file `path`.
    ///
    /// # Errors
    /// It can't be read, or is no noise floor.
    pub fn read(path: &Path) -> Result<Self, ReportError> {
        let failed = |source| ReportError::Noise { path: path.to_owned(), source };
        let file = std::fs::File::open(path).map_err(failed)?;
        serde_json::from_reader(io::BufReader::new(file)).map_err(|error| failed(error.into()))
    }

    /// Reads what stands beside the runs in `dirs`; none where nothing does. Of several the larger noise counts.
    ///
    /// # Errors
    /// What is there can't be read.
    pub fn beside(dirs: &[PathBuf]) -> Result<Option<Self>, ReportError> {
        let parent = |dir: &PathBuf| Some(dir.canonicalize().ok()?.parent()?.join(REPEAT));
        let mut paths: Vec<PathBuf> =
            dirs.iter().filter_map(parent).filter(|path| path.is_file()).collect();
        paths.sort();
        paths.dedup();
        let floors: Vec<Self> =
            paths.iter().map(|path| Self::read(path)).collect::<Result<_, _>>()?;
        Ok(floors.into_iter().reduce(Self::or))
    }

    /// Writes it to the file `path`.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn write(&self, path: &Path) -> Result<(), ReportError> {
        let text = serde_json::to_string_pretty(self)
            .map_err(|error| ReportError::Write { path: path.to_owned(), source: error.into() })?;
        save(path, &(text + "\n"))
    }

    /// Returns whether two values of a metric lie no further apart than runs of one plan do; none where that is not known.
    #[must_use]
    pub fn covers(&self, metric: &str, one: f64, other: f64) -> Option<bool> {
        let floor = self.metrics.get(metric)?.relative?;
        // What stands in a file has been rounded.
        Some(difference(one, other)? <= floor * (1.0 + 1e-9))
    }

    /// Returns it as a table.
    #[must_use]
    pub fn table(&self) -> Table {
        let rows = LINES.iter().filter_map(|line| {
            let noise = self.metrics.get(line.name)?;
            let value = |value: &Option<f64>| value.map_or_else(|| NONE.to_owned(), line.write);
            let apart = noise.relative.map_or_else(|| NONE.to_owned(), percent);
            let row = std::iter::once(line.name.to_owned()).chain(noise.values.iter().map(value));
            Some(row.chain([apart]).collect())
        });
        let head = std::iter::once(String::new()).chain(self.runs.iter().cloned());
        Table {
            title: "Noise floor",
            note: format!(
                "The same plan {} times: the last column is the largest difference between any two runs, as a share of the \
                 smaller.{}{}",
                self.runs.len(),
                if self.same_sent {
                    ""
                } else {
                    " The runs did not send the same: their digests differ."
                },
                if self.is_sound() { "" } else { " A run is INVALID: its noise may be ours." },
            ),
            head: head.chain(["apart".to_owned()]).collect(),
            rows: rows.collect(),
        }
    }

    /// Returns whether no run is INVALID.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        !self.verdicts.contains(&Verdict::Invalid)
    }

    fn or(mut self, other: Self) -> Self {
        self.runs.extend(other.runs);
        self.verdicts.extend(other.verdicts);
        self.same_sent &= other.same_sent;
        for (name, noise) in other.metrics {
            let mine = self.metrics.entry(name).or_default();
            mine.values.extend(noise.values);
            let relative = [mine.relative, noise.relative].into_iter().flatten();
            mine.relative = relative.reduce(f64::max);
        }
        self
    }
}

// === impl Noise ===

impl Noise {
    fn of(values: Vec<Option<f64>>) -> Self {
        let known: Vec<f64> = values.iter().flatten().copied().collect();
        let (least, most) =
            known.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), value| {
                (least.min(*value), most.max(*value))
            });
        let relative = if known.len() < 2 { None } else { difference(least, most) };
        Self { values, relative }
    }
}

/// Returns how far two values lie apart as a share of the smaller; none where that is no share.
fn difference(one: f64, other: f64) -> Option<f64> {
    let (least, most) = (one.min(other), one.max(other));
    if least == most {
        return Some(0.0);
    }
    (least > 0.0).then(|| most / least - 1.0)
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::stats::Spread;

    fn run(ttft_ms: i64, per_s: f64) -> Summary {
        let mut run = Summary { verdict: Verdict::Valid, ..Summary::default() };
        run.latencies.ttft = Spread { p50: Some(ttft_ms * 1_000_000), ..Spread::default() };
        run.rates.requests_per_s = Some(per_s);
        run
    }

    fn floor(runs: &[Summary]) -> NoiseFloor {
        let names: Vec<String> = (1..=runs.len()).map(|number| format!("{number:02}")).collect();
        NoiseFloor::of(&names, runs)
    }

    #[test]
    fn the_floor_is_the_largest_difference_between_any_two() {
        let floor = floor(&[run(100, 10.0), run(104, 10.0), run(102, 9.0)]);
        let apart = |name: &str| floor.metrics[name].relative.unwrap();
        assert!((apart("TTFT p50") - 0.04).abs() < 1e-9);
        assert!((apart("Requests/s") - 1.0 / 9.0).abs() < 1e-9);
        assert!(!floor.metrics.contains_key("TTFT p99"), "no run has one");
        assert!(floor.same_sent && floor.is_sound());
        let check = |one, other, covered| {
            assert_eq!(floor.covers("TTFT p50", one, other), covered, "{one} {other}");
        };
        check(100.0, 103.9, Some(true));
        check(103.9, 100.0, Some(true));
        check(100.0, 104.1, Some(false));
        check(0.0, 1.0, None);
        assert_eq!(floor.covers("no such", 1.0, 1.0), None);
    }

    #[test]
    fn one_run_has_no_floor_and_digests_that_differ_are_said() {
        assert_eq!(floor(&[run(100, 1.0)]).metrics["TTFT p50"].relative, None);
        let mut other = run(100, 1.0);
        other.manifest.sent_digest = "other".to_owned();
        other.verdict = Verdict::Invalid;
        let floor = floor(&[run(100, 1.0), other]);
        assert!(!floor.same_sent && !floor.is_sound());
        let note = floor.table().note;
        assert!(note.contains("digests differ") && note.contains("INVALID"), "{note}");
    }

    #[test]
    fn of_two_floors_the_larger_counts() {
        let both =
            floor(&[run(100, 1.0), run(101, 1.0)]).or(floor(&[run(100, 1.0), run(110, 1.0)]));
        assert!((both.metrics["TTFT p50"].relative.unwrap() - 0.1).abs() < 1e-9);
        assert_eq!(both.runs.len(), 4);
    }

    #[test]
    fn a_floor_reads_back_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(REPEAT);
        // Shares that a decimal has without rounding.
        let floor = floor(&[run(100, 3.0), run(125, 3.0)]);
        floor.write(&path).unwrap();
        assert_eq!(NoiseFloor::read(&path).unwrap(), floor);
        let dirs = ["01", "02"].map(|name| folder.path().join(name));
        dirs.iter().for_each(|dir| std::fs::create_dir(dir).unwrap());
        assert_eq!(NoiseFloor::beside(&dirs).unwrap(), Some(floor));
        assert_eq!(NoiseFloor::beside(&[folder.path().to_owned()]).unwrap(), None);
        std::fs::write(&path, "{").unwrap();
        assert!(NoiseFloor::read(&path).unwrap_err().to_string().contains(REPEAT));
    }
}
