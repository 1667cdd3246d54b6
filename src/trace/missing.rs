//! What a trace does not hold, and why: lost, or left out on purpose.

use serde::{Deserialize, Serialize};

use crate::clock::Nanos;

/// Something that could not be recorded, how much, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// When the loss began.
    pub from: Nanos,
    /// When it had ended; never before `from`.
    pub until: Nanos,
    /// Why.
    pub reason: DropReason,
    /// Whole exchanges that the trace does not know.
    pub exchanges: u64,
    /// Frames of known exchanges whose bytes the trace does not hold (each also in its `End`).
    pub frames: u64,
    /// Bytes in all of these.
    pub bytes: u64,
}

/// Why something could not be recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DropReason {
    /// The queue before the writer was full: the writer could not keep up.
    QueueFull,
    /// The writer had ended (an error it could not mend, or a panic).
    RecorderStopped,
    /// Writing failed (disk full, I/O error).
    WriteFailed,
    /// It was recorded, but the files were damaged or cut off, or one of them is not there any more.
    Damaged,
}

/// Exchanges that were left out on purpose: how many, what they amounted to, and why. No loss: the rest can be weighted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Omission {
    /// When the first of them was admitted, or earlier.
    pub from: Nanos,
    /// When the last of them was, or later; never before `from`.
    pub until: Nanos,
    /// Why.
    pub reason: OmitReason,
    /// Whole exchanges that the trace does not hold.
    pub exchanges: u64,
    /// Body frames of these.
    pub frames: u64,
    /// Body bytes in these.
    pub bytes: u64,
}

/// Why something was left out on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OmitReason {
    /// By lot, with the share that the header says: see [`Header::sampled_ppm`](crate::trace::record::Header::sampled_ppm).
    Sampled,
    /// By a condition of the recording.
    Filtered,
    /// By a cut of the trace.
    Cut,
}

// === impl DropReason ===

impl DropReason {
    /// Returns the reason in words.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::QueueFull => "the queue before the writer was full",
            Self::RecorderStopped => "the writer had stopped",
            Self::WriteFailed => "writing failed",
            Self::Damaged => "the files were damaged, cut off or removed",
        }
    }
}

// === impl OmitReason ===

impl OmitReason {
    /// Returns the reason in words.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sampled => "left out by sampling",
            Self::Filtered => "left out by the recording's filters",
            Self::Cut => "left out by a cut",
        }
    }
}
