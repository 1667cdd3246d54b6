//! How recording is going.

use crate::proxy::histogram::Latencies;
use crate::trace::record::{Counters, OmitReason};

/// What the recorder has seen so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecorderStatus {
    /// Exchanges by what became of them, as far as they are written.
    pub counters: Counters,
    /// Bytes in the queue.
    pub queued_bytes: usize,
    /// Most bytes that were ever in the queue when the thread looked.
    pub high_water_bytes: usize,
    /// Bytes on disk.
    pub written_bytes: u64,
    /// Body bytes recorded or lost, both ways.
    pub body_bytes: u64,
    /// Whole exchanges left out.
    pub lost_exchanges: u64,
    /// Frames of known exchanges left out, or their bytes.
    pub lost_frames: u64,
    /// Of these, frames whose times and lengths were kept.
    pub bare_frames: u64,
    /// Bytes left out.
    pub lost_bytes: u64,
    /// Exchanges recorded although it was not known yet whether they are wanted.
    pub undecided: u64,
    /// Whether nothing can be written at present.
    pub degraded: bool,
    /// Whether the recorder has ended.
    pub ended: bool,
    /// Times that it could not write and left off for a while.
    pub interruptions: u64,
    /// Whether recording is stopped by its owner: exchanges that begin are not recorded.
    pub paused: bool,
}

/// How long the disk has kept the recorder waiting.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiskTimes {
    /// Flushes, fsync included where it is part of one.
    pub flushes: Latencies,
    /// Each fsync.
    pub syncs: Latencies,
}

/// How recording is going.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecorderState {
    /// Everything that comes is recorded.
    Running,
    /// Something keeps it from being recorded.
    Degraded,
    /// Stopped by its owner.
    Paused,
}

/// Whether an exchange is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It is.
    Admitted,
    /// There is no room for it, or nobody writes any more: it is counted as lost.
    Lost,
    /// Its owner has stopped recording: no loss.
    Paused,
    /// It is left out on purpose, and counted as such.
    Omitted(OmitReason),
}

// === impl RecorderStatus ===

impl RecorderStatus {
    /// Returns whether anything could not be recorded.
    #[must_use]
    pub const fn has_loss(&self) -> bool {
        self.lost_exchanges > 0 || self.lost_frames > 0 || self.lost_bytes > 0
    }

    /// Returns how recording is going. That it can't is told before that it shall not.
    #[must_use]
    pub const fn state(&self) -> RecorderState {
        if self.degraded || self.ended {
            RecorderState::Degraded
        } else if self.paused {
            RecorderState::Paused
        } else {
            RecorderState::Running
        }
    }
}

// === impl RecorderState ===

impl RecorderState {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Running, Self::Degraded, Self::Paused];

    /// Returns its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Degraded => "degraded",
            Self::Paused => "paused",
        }
    }
}
