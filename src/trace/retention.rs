//! Which closed segments are kept, and how much room there is.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::clock::{Nanos, file_age};

/// Which closed segments are kept; all without a limit. The oldest go first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keep {
    /// Bytes of segments, the open one included.
    pub bytes: Option<u64>,
    /// Time since they were closed.
    pub age: Option<Duration>,
}

/// The closed segments, oldest first.
#[derive(Debug)]
pub(crate) struct Retention {
    keep: Keep,
    closed: VecDeque<Closed>,
    deleted: u32,
}

/// A segment that is not written any more.
#[derive(Clone, Debug)]
pub(crate) struct Closed {
    path: PathBuf,
    bytes: u64,
    /// How old it was at a time of the recording's clock: a step of the wall clock since then deletes nothing.
    age: Duration,
    at: Nanos,
}

// === impl Retention ===

impl Retention {
    pub(crate) fn new(keep: Keep) -> Self {
        Self { keep, closed: VecDeque::new(), deleted: 0 }
    }

    /// Takes a segment into account, which is younger than all others.
    pub(crate) fn add(&mut self, closed: Closed) {
        self.closed.push_back(closed);
    }

    /// Returns how many were deleted.
    pub(crate) fn deleted(&self) -> u32 {
        self.deleted
    }

    /// Deletes what is not to be kept beside an open segment of `open` bytes.
    pub(crate) fn sweep(&mut self, open: u64, now: Nanos) {
        while let Some(oldest) = self.closed.front() {
            let held = open + self.closed.iter().map(|closed| closed.bytes).sum::<u64>();
            let is_beyond = self.keep.bytes.is_some_and(|limit| held > limit);
            let age = oldest.age + now.since(oldest.at);
            let is_old = self.keep.age.is_some_and(|limit| age > limit);
            if !(is_beyond || is_old) {
                return;
            }
            self.delete_oldest();
        }
    }

    /// Deletes the oldest to make room, if segments may be deleted at all; says whether there was one.
    pub(crate) fn drop_oldest(&mut self) -> bool {
        if self.keep == Keep::default() || self.closed.is_empty() {
            return false;
        }
        self.delete_oldest();
        true
    }

    fn delete_oldest(&mut self) {
        if let Some(oldest) = self.closed.pop_front() {
            self.deleted += 1;
            // One that somebody else has deleted or moved is as good as deleted.
            let _gone = fs::remove_file(&oldest.path);
            // The folder of a recording that has none left; any other is not empty.
            if let Some(folder) = oldest.path.parent() {
                let _kept = fs::remove_dir(folder);
            }
        }
    }
}

// === impl Closed ===

impl Closed {
    /// A segment that was closed just now.
    pub(crate) fn now(path: PathBuf, bytes: u64, at: Nanos) -> Self {
        Self { path, bytes, age: Duration::ZERO, at }
    }

    /// A segment of an earlier recording, at the beginning of this one.
    pub(crate) fn earlier(path: PathBuf) -> Self {
        let bytes = fs::metadata(&path).map_or(0, |data| data.len());
        // A file whose age can't be told is not there any more, or is young.
        let age = file_age(&path).unwrap_or_default();
        Self { path, bytes, age, at: Nanos::ZERO }
    }
}

/// Returns the bytes that are free on the file system of `folder`, to us.
pub(crate) fn free_bytes(folder: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(folder)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}
