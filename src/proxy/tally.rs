//! What is not recorded, counted by many threads until the recorder's thread writes down how much it was.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::clock::Nanos;

/// Counts exchanges, frames and bytes since it was last taken.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) exchanges: AtomicU64,
    pub(super) frames: AtomicU64,
    pub(super) bytes: AtomicU64,
    /// When it began, plus one; 0 when there is nothing.
    since: AtomicU64,
}

/// What a tally had counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    /// When it began; none when that is not known.
    pub(super) since: Option<Nanos>,
    pub(super) exchanges: u64,
    pub(super) frames: u64,
    pub(super) bytes: u64,
}

// === impl Tally ===

impl Tally {
    pub(super) fn add(&self, now: Nanos, exchanges: u64, frames: u64, bytes: u64) {
        // The first since the last take says when it began.
        let now = now.0 + 1;
        let _first = self.since.compare_exchange(0, now, Ordering::AcqRel, Ordering::Acquire);
        self.exchanges.fetch_add(exchanges, Ordering::Relaxed);
        self.frames.fetch_add(frames, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Release);
    }

    /// Takes what was counted since the last call; none if nothing was.
    pub(super) fn take(&self) -> Option<Taken> {
        let since = self.since.swap(0, Ordering::AcqRel);
        let exchanges = self.exchanges.swap(0, Ordering::AcqRel);
        let frames = self.frames.swap(0, Ordering::AcqRel);
        let bytes = self.bytes.swap(0, Ordering::AcqRel);
        let since = since.checked_sub(1).map(Nanos);
        (exchanges > 0 || frames > 0 || bytes > 0).then_some(Taken {
            since,
            exchanges,
            frames,
            bytes,
        })
    }
}
