//! Closes segments that a crash left open: with an index, under their final name.
//!
//! Only a segment that nobody writes any more is touched (its writer holds a lock on it), and only bytes are taken off its
//! end that are no whole block. What was recorded stays as it is; an exchange that had not ended has no end.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};

use crate::trace::batch::{Loss, LossCause};
use crate::trace::envelope::ReadOptions;
use crate::trace::error::TraceError;
use crate::trace::index::Place;
use crate::trace::open::SegmentInfo;
use crate::trace::repack::remove_scraps;
use crate::trace::sink::Sink;
use crate::trace::summing::Summing;
use crate::trace::writer::{WriteError, WriterOptions};

/// A segment that was found open.
#[derive(Debug)]
pub struct LeftOpen {
    /// Its in-progress name.
    pub path: PathBuf,
    /// What became of it.
    pub outcome: Result<Closed, CloseError>,
}

/// What was done to a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// It is closed, with so many exchanges in it.
    Now(u64),
    /// It was deleted: nothing was in it.
    Removed,
    /// Nothing: another process is writing it.
    Busy,
}

/// Why a segment stays open.
#[derive(Debug, thiserror::Error)]
pub enum CloseError {
    /// It can't be read.
    #[error(transparent)]
    Read(#[from] TraceError),
    /// It can't be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// It is encrypted, and nobody here can read it.
    #[error(
        "{path} was left open by an earlier recording and is encrypted: it stays as it is and can be read, and \
         `reenact trace recover --identity FILE` makes a closed one of it"
    )]
    Encrypted {
        /// The segment.
        path: PathBuf,
    },
    /// Bytes in its middle can't be read: an index would say that nothing is missing.
    #[error(
        "{path} is damaged ({damage}): write what can be read of it with `reenact trace recover`"
    )]
    Damaged {
        /// The segment.
        path: PathBuf,
        /// The first bytes that can't be read.
        damage: Loss,
    },
}

/// A file of up to so many bytes in which no block can be read was just begun; what is longer is damaged, and left alone.
const JUST_BEGUN: u64 = 1 << 10;

/// Closes every segment in `folder` that a crash left open.
///
/// # Errors
/// The folder can't be read. What hinders a single segment is in its [`LeftOpen`].
pub fn close_left_open(folder: &Path) -> std::io::Result<Vec<LeftOpen>> {
    remove_scraps(folder)?;
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(".trace.open")) {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths.into_iter().map(|path| LeftOpen { outcome: close_one(&path), path }).collect())
}

fn close_one(path: &Path) -> Result<Closed, CloseError> {
    let failed = |source| WriteError::Io { path: path.to_owned(), offset: 0, source };
    let file = OpenOptions::new().write(true).open(path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(fs::TryLockError::WouldBlock) => return Ok(Closed::Busy),
        // A file system without locks: nobody can tell, so it is left alone.
        Err(fs::TryLockError::Error(source)) => return Err(failed(source).into()),
    }
    let info = match SegmentInfo::open(path.to_owned(), &ReadOptions::default()) {
        Err(TraceError::Empty { len, .. }) if len <= JUST_BEGUN => {
            fs::remove_file(path).map_err(failed)?;
            return Ok(Closed::Removed);
        }
        Err(TraceError::Locked { path, .. }) => return Err(CloseError::Encrypted { path }),
        opened => opened?,
    };
    let is_end = |loss: &Loss| loss.cause != LossCause::Damaged;
    if let Some(damage) = info.losses.iter().find(|loss| !is_end(loss)) {
        return Err(CloseError::Damaged { path: path.to_owned(), damage: damage.clone() });
    }
    let exchanges = info.totals.exchanges;
    close(path, file, info).map_err(failed)?;
    Ok(Closed::Now(exchanges))
}

fn close(path: &Path, file: File, info: SegmentInfo) -> std::io::Result<()> {
    let chapters = info.chapters.iter().map(|(_, chapter)| *chapter).collect();
    let torn = info.losses.iter().find(|loss| loss.cause == LossCause::Torn);
    let whole = torn.map_or(info.until, |loss| loss.from);
    let places: Vec<Place> = info.places.iter().collect();
    let mut sink = Sink::reopen(path.to_owned(), file, whole, chapters)?;
    Summing {
        header: &info.header,
        places: &places,
        totals: info.totals,
        next_blob: info.totals.blobs,
    }
    .write(&mut sink, &info.counters, &WriterOptions::default())?;
    sink.catch_up()?;
    sink.sync()?;
    let name = path.with_extension("");
    sink.rename(&name, true)
}
