//! How far a run is: counters that any thread may read while it goes on.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::results::rows::Measurement;

/// Counters of a run.
#[derive(Debug, Default)]
pub struct Progress {
    released: AtomicU64,
    ended: AtomicU64,
    failed: AtomicU64,
    errors: AtomicU64,
    tokens: AtomicU64,
    late_ns: AtomicU64,
}

/// The counters at one time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Releases.
    pub released: u64,
    /// Of these, ended and written down.
    pub ended: u64,
    /// Of these, failed.
    pub failed: u64,
    /// Of these, complete with an error in them.
    pub errors: u64,
    /// Output tokens.
    pub tokens: u64,
    /// Largest lateness, nanoseconds.
    pub late_ns: u64,
}

// === impl Progress ===

impl Progress {
    /// Counts a release.
    pub fn released(&self) {
        self.released.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a row.
    pub fn ended(&self, row: &Measurement) {
        self.ended.fetch_add(1, Ordering::Relaxed);
        self.failed.fetch_add(u64::from(row.outcome == "failed"), Ordering::Relaxed);
        let is_error = row.outcome == "complete" && row.error_kind.is_some();
        self.errors.fetch_add(u64::from(is_error), Ordering::Relaxed);
        self.tokens.fetch_add(row.output_tokens.unwrap_or(0), Ordering::Relaxed);
        let late = row.lateness_ns.and_then(|late| u64::try_from(late).ok()).unwrap_or(0);
        self.late_ns.fetch_max(late, Ordering::Relaxed);
    }

    /// Returns the counters.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Snapshot {
            released: of(&self.released),
            ended: of(&self.ended),
            failed: of(&self.failed),
            errors: of(&self.errors),
            tokens: of(&self.tokens),
            late_ns: of(&self.late_ns),
        }
    }
}
