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
        while self.is_over(open, now) {
            self.delete_oldest();
        }
    }

    /// The same at the end, when none is open: the last one stays, however large it is.
    pub(crate) fn last_sweep(&mut self, now: Nanos) {
        while self.closed.len() > 1 && self.is_over(0, now) {
            self.delete_oldest();
        }
    }

    /// Returns whether the oldest is not to be kept.
    fn is_over(&self, open: u64, now: Nanos) -> bool {
        let Some(oldest) = self.closed.front() else { return false };
        let held = open + self.closed.iter().map(|closed| closed.bytes).sum::<u64>();
        let is_beyond = self.keep.bytes.is_some_and(|limit| held > limit);
        let age = oldest.age + now.since(oldest.at);
        is_beyond || self.keep.age.is_some_and(|limit| age > limit)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Segments of these bytes, closed a second apart; returns how many are deleted at the end, and before with one open.
    #[track_caller]
    fn check(keep: Keep, bytes: &[u64], open: u64, expected: (u32, u32)) {
        let dir = tempfile::tempdir().unwrap();
        let seconds = |n: usize| Nanos(n as u64 * 1_000_000_000);
        let retention = || {
            let mut retention = Retention::new(keep);
            for (n, bytes) in bytes.iter().enumerate() {
                // In a folder that is not there: nothing of this one is removed.
                let path = dir.path().join("none").join(n.to_string());
                retention.add(Closed::now(path, *bytes, seconds(n)));
            }
            retention
        };
        let (mut last, mut before) = (retention(), retention());
        last.last_sweep(seconds(bytes.len()));
        before.sweep(open, seconds(bytes.len()));
        assert_eq!((last.deleted(), before.deleted()), expected);
    }

    #[test]
    fn what_is_too_much_or_too_old_goes_and_the_last_one_stays_at_the_end() {
        let bytes = |limit| Keep { bytes: Some(limit), ..Keep::default() };
        let age = |seconds| Keep { age: Some(Duration::from_secs(seconds)), ..Keep::default() };
        check(Keep::default(), &[9, 9, 9], 9, (0, 0));
        check(bytes(20), &[9, 9, 9], 0, (1, 1));
        check(bytes(20), &[9, 9, 9], 9, (1, 2));
        check(bytes(5), &[9, 9, 9], 0, (2, 3));
        check(age(2), &[9, 9, 9, 9], 9, (2, 2));
        check(age(0), &[9, 9], 9, (1, 2));
    }
}
