//! Writes what can be read of a damaged or unfinished trace to a new, closed one.
//!
//! Each file, and the whole, comes out as one of four: see [`Recovery`]. What is lost is stated in the new trace, so that
//! it verifies: a gap counts the exchanges and frames, and each end the bytes, that are not there. The old files are only
//! read.

use std::fs;
use std::path::{Path, PathBuf};

use crate::trace::batch::{Loss, LossCause};
use crate::trace::cause::Amount;
use crate::trace::envelope::ReadOptions;
use crate::trace::error::TraceError;
use crate::trace::ids::Ids;
use crate::trace::mend::{Copier, Destination, Mender};
use crate::trace::reader::Trace;
use crate::trace::record::{Event, Header};
use crate::trace::source::{Census, Source};
use crate::trace::writer::{Summary, WriteError};

/// How the recovery of a file, or of a whole trace, came out; the gravest last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Recovery {
    /// It was closed, and nothing is missing.
    Clean,
    /// It was not closed; all that had reached it is in the new trace.
    WithoutLoss,
    /// Something that had been written is not in the new trace.
    WithLoss,
    /// Nothing of it could be read.
    NotRecoverable,
}

/// What was recovered, and what was not.
#[derive(Clone, Debug)]
pub struct Recovered {
    /// How the whole came out.
    pub outcome: Recovery,
    /// How each file did, in the order of the trace; files that can't be read come last.
    pub files: Vec<RecoveredFile>,
    /// Numbers of segments that are not there, though earlier and later ones are.
    pub missing: Vec<u32>,
    /// The new trace.
    pub summary: Summary,
    /// What had been written and is not in the new trace; bytes of bodies as far as an end tells of them.
    pub lost: Amount,
    /// Of the lost exchanges, those left out since only their request head is lost.
    pub headless: Ids,
    /// Exchanges of which a part is lost.
    pub incomplete: Ids,
    /// Exchanges that are in the new trace without an end.
    pub open: u64,
}

/// How the recovery of one file came out.
#[derive(Clone, Debug, serde::Serialize)]
pub struct RecoveredFile {
    /// The file.
    pub path: PathBuf,
    /// How it came out.
    pub outcome: Recovery,
    /// Its size.
    pub bytes: u64,
    /// Bytes of it that can't be read.
    pub lost_bytes: u64,
    /// Exchanges that begin in it and are in the new trace.
    pub exchanges: u64,
    /// Exchanges that are lost by its counters; none when they can't tell, since the segment before is not there.
    pub lost_exchanges: Option<u64>,
    /// What is missing in it, and where.
    pub losses: Vec<Loss>,
    /// Why nothing of it could be read.
    pub error: Option<String>,
}

/// Why nothing could be recovered.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// The old trace can't be read.
    #[error(transparent)]
    Read(#[from] TraceError),
    /// The new trace can't be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The new trace would become a segment of the old one.
    #[error("{path} is in the folder that is to be recovered: choose a place outside of it")]
    Inside {
        /// Where it would be.
        path: PathBuf,
    },
}

/// Recovers the trace at `path`, which is not encrypted, to the new file `out`.
///
/// # Errors
/// Nothing can be read, a file fails to be read, or `out` exists or can't be written.
pub fn recover(path: &Path, out: &Path) -> Result<Recovered, RecoverError> {
    recover_with(path, &ReadOptions::default(), &out.into())
}

/// Recovers the trace at `path` to `out`.
///
/// # Errors
/// As [`recover`].
pub fn recover_with(
    path: &Path,
    options: &ReadOptions,
    out: &Destination,
) -> Result<Recovered, RecoverError> {
    refuse_inside(path, &out.path)?;
    let (trace, unreadable) = Trace::open_readable(path, options)?;
    let header = Header { segment: 0, ..trace.header().clone() };
    let mut copier = Copier::create(out, header)?;
    let mut source = Source::new(&trace)?;
    let mut mender = Mender::default();
    while let Some(event) = source.next()? {
        if let Some(event) = mender.mend(event) {
            copier.put(event)?;
        }
    }
    let mut files = judge(&trace, source.scan.losses(), &source.census);
    let exchanges = source.lost_exchanges();
    if let Some(gap) = mender.gap(exchanges, source.hole()) {
        copier.put(Event::Gap(gap))?;
    }
    files.extend(unreadable.into_iter().map(|(path, error)| unread(path, &error)));
    let missing = trace.missing_segments();
    let file_bytes = files.iter().map(|file| file.lost_bytes).sum();
    let lost = Amount { exchanges, file_bytes, ..mender.lost };
    let worst = files.iter().map(|file| file.outcome).max().unwrap_or(Recovery::Clean);
    let outcome = match worst.min(Recovery::WithLoss) {
        _ if !missing.is_empty() || !lost.is_none() => Recovery::WithLoss,
        worst => worst,
    };
    Ok(Recovered {
        outcome,
        files,
        missing,
        summary: copier.finish()?,
        lost,
        open: mender.open(),
        headless: mender.headless,
        incomplete: mender.incomplete,
    })
}

/// Refuses a new trace in the folder of the old one.
fn refuse_inside(path: &Path, out: &Path) -> Result<(), RecoverError> {
    let parent = match out.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let inside = path.is_dir()
        && matches!((fs::canonicalize(path), fs::canonicalize(parent)), (Ok(a), Ok(b)) if a == b);
    if inside { Err(RecoverError::Inside { path: out.to_owned() }) } else { Ok(()) }
}

/// Judges the files that could be read. `met` is what the scan found missing in them.
fn judge(trace: &Trace, met: &[Loss], census: &[Census]) -> Vec<RecoveredFile> {
    let mut before: Option<(u32, u64)> = None;
    let mut files = Vec::new();
    for (idx, (file, census)) in trace.files().zip(census).enumerate() {
        let of_file = met.iter().filter(|loss| loss.segment == idx).cloned();
        let mut losses: Vec<Loss> = of_file.collect();
        let same = |a: &Loss, b: &Loss| (a.from, a.until, &a.what) == (b.from, b.until, &b.what);
        for loss in file.losses {
            if !losses.iter().any(|known| same(known, loss)) {
                losses.push(Loss { segment: idx, ..loss.clone() });
            }
        }
        let outcome = match losses.iter().all(|loss| loss.cause == LossCause::Unfinished) {
            _ if losses.is_empty() => Recovery::Clean,
            true => Recovery::WithoutLoss,
            false => Recovery::WithLoss,
        };
        let follows = match before {
            None => (file.segment == 0).then_some(0),
            Some((segment, admitted)) => (file.segment == segment + 1).then_some(admitted),
        };
        let lost_exchanges = follows.map(|admitted| {
            file.counters.admitted.saturating_sub(admitted + census.counted.admitted)
        });
        before = Some((file.segment, file.counters.admitted));
        files.push(RecoveredFile {
            path: file.path.to_owned(),
            outcome,
            bytes: file.bytes,
            lost_bytes: losses.iter().map(|loss| loss.until - loss.from).sum(),
            exchanges: census.exchanges,
            lost_exchanges,
            losses,
            error: None,
        });
    }
    files
}

fn unread(path: PathBuf, error: &TraceError) -> RecoveredFile {
    let bytes = fs::metadata(&path).map_or(0, |metadata| metadata.len());
    RecoveredFile {
        path,
        outcome: Recovery::NotRecoverable,
        bytes,
        lost_bytes: bytes,
        exchanges: 0,
        lost_exchanges: None,
        losses: Vec::new(),
        error: Some(error.to_string()),
    }
}

// === impl Recovery ===

impl Recovery {
    /// Returns the outcome in words.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::WithoutLoss => "recovered without loss",
            Self::WithLoss => "recovered with loss",
            Self::NotRecoverable => "not recoverable",
        }
    }
}
