//! Why something is missing in a trace, what that means for whoever uses it, and what can be done.

use std::fmt;

use serde::Serialize;

use crate::trace::batch::LossCause;
use crate::trace::record::{DropReason, OmitReason};

/// Why something is missing, or does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// Bytes of the files were changed, taken out or put in, or a file is missing.
    Damage,
    /// A file ends in the middle of a block.
    Torn,
    /// A file was not closed.
    Unfinished,
    /// The recorder's queue was full.
    QueueFull,
    /// The recorder's thread had ended.
    RecorderStopped,
    /// Writing failed.
    WriteFailed,
    /// What this trace was made from was damaged.
    DamagedBefore,
    /// Exchanges were under way when the recording ended.
    UnderWay,
    /// What the trace says at one place does not fit what it says at another.
    Contradiction,
    /// A newer version wrote what this one does not know.
    Newer,
    /// Left out by lot while it was recorded.
    Sampled,
    /// Left out by a condition while it was recorded.
    Filtered,
    /// Left out by a cut.
    Cut,
    /// In segments before the first one that is there.
    Deleted,
}

/// How much is missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Amount {
    /// Whole exchanges.
    pub exchanges: u64,
    /// Body frames.
    pub frames: u64,
    /// Body bytes.
    pub bytes: u64,
    /// Bytes of the files that can't be read.
    pub file_bytes: u64,
}

// === impl Cause ===

impl Cause {
    /// Returns whether something is missing that should be there; what was left out on purpose is not.
    #[must_use]
    pub const fn is_loss(self) -> bool {
        !matches!(self, Self::Sampled | Self::Filtered | Self::Cut | Self::Deleted)
    }

    /// Returns the stable name, as in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Damage => "damage",
            Self::Torn => "torn",
            Self::Unfinished => "unfinished",
            Self::QueueFull => "queue_full",
            Self::RecorderStopped => "recorder_stopped",
            Self::WriteFailed => "write_failed",
            Self::DamagedBefore => "damaged_before",
            Self::UnderWay => "under_way",
            Self::Contradiction => "contradiction",
            Self::Newer => "newer",
            Self::Sampled => "sampled",
            Self::Filtered => "filtered",
            Self::Cut => "cut",
            Self::Deleted => "deleted",
        }
    }

    /// Returns what happened, in a sentence.
    #[must_use]
    pub const fn what(self) -> &'static str {
        match self {
            Self::Damage => {
                "bytes of the files were changed, taken out or put in after they were written, or a file is missing"
            }
            Self::Torn => {
                "a file ends in the middle of a block: the machine or the disk stopped while it was written, or it was copied in part"
            }
            Self::Unfinished => {
                "a file was not closed: it is being written, or its recorder was killed"
            }
            Self::QueueFull => {
                "the recorder's queue was full: traffic came faster than it could be written"
            }
            Self::RecorderStopped => "the recorder's thread had ended; traffic went on unrecorded",
            Self::WriteFailed => {
                "writing failed (disk full, or the disk refused); traffic went on unrecorded"
            }
            Self::DamagedBefore => {
                "this trace was made from files that were damaged, cut off or not all there"
            }
            Self::UnderWay => "exchanges were under way when the recording ended",
            Self::Contradiction => {
                "the trace says at one place what does not fit what it says at another, though no byte of it is damaged"
            }
            Self::Newer => "a newer reenact wrote records that this one does not know",
            Self::Sampled => "exchanges were left out by lot (--sample) while it was recorded",
            Self::Filtered => "exchanges were left out by a filter of the recording (--only-...)",
            Self::Cut => "exchanges were left out by a cut (trace cut)",
            Self::Deleted => "the first segments are not there: deleted (--keep), or moved away",
        }
    }

    /// Returns what it means for a replay and for numbers drawn from the trace.
    #[must_use]
    pub const fn means(self) -> &'static str {
        match self {
            Self::Damage | Self::DamagedBefore => {
                "a replay lacks the exchanges that are gone, and leaves out those whose request is incomplete; counts, rates and token \
                 totals over that time are too low. Exchanges that are complete are as they were recorded: checksums prove it"
            }
            Self::Torn | Self::Unfinished => {
                "everything that was flushed before is here. What came in the last 200 ms before the end may not be, and exchanges that were \
                 under way have no end: a replay sends them if their request is whole, and has nothing to compare them with; their latency \
                 is unknown, and leaving them out of a percentile favors short ones"
            }
            Self::QueueFull => {
                "a replay lacks the exchanges that were lost whole, and leaves out those whose request is incomplete, so its load is lower \
                 than what there was; counts, rates and token totals over that time are too low. It happens when most is going on, so \
                 percentiles over all of the trace flatter the server. The times of what is here are right"
            }
            Self::RecorderStopped | Self::WriteFailed => {
                "a replay sends nothing for what came in that time, and leaves out exchanges whose request is incomplete; counts, rates and \
                 token totals over that time mean nothing. What is here is as it was recorded"
            }
            Self::UnderWay => {
                "they have no outcome and maybe no whole body: a replay sends those whose request is whole, and has nothing to compare them \
                 with. Their latency is unknown, and leaving them out of a percentile favors short ones"
            }
            Self::Contradiction => {
                "a defect of the program that wrote it: nothing that depends on what is named can be relied upon"
            }
            Self::Newer => {
                "what they say is not taken into account, so the counters can't be proved; all else is checked"
            }
            Self::Sampled => {
                "nothing is missing: a replay's load is the kept share of what there was; counts and totals are to be divided by the share, \
                 percentiles are as they are. Sessions are whole if it was by session"
            }
            Self::Filtered => {
                "nothing is missing of what was asked for; numbers drawn from the trace are about that, not about all traffic"
            }
            Self::Cut => {
                "nothing is missing of what was asked for; rates are to be taken over the part that was kept"
            }
            Self::Deleted => {
                "the trace begins later, and holds from there on; a replay leaves out exchanges whose head was in what is gone"
            }
        }
    }

    /// Returns what can be done.
    #[must_use]
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::Damage => {
                "fetch the file again in binary mode, or from a backup; else `reenact trace recover` writes all that can be read to a new \
                 trace that states the loss"
            }
            Self::Torn | Self::Unfinished => {
                "if it is being recorded, wait for the end; else `reenact trace recover` writes a closed trace"
            }
            Self::QueueFull => {
                "leave that time out with `reenact trace cut`; record with a larger --queue-bytes, a lower --level, a faster disk, or a \
                 share of the traffic (--sample)"
            }
            Self::RecorderStopped => {
                "leave that time out with `reenact trace cut`; report what the recorder said on stderr, it is a defect"
            }
            Self::WriteFailed => {
                "leave that time out with `reenact trace cut`; give the recorder a disk with room"
            }
            Self::DamagedBefore => {
                "leave that time out with `reenact trace cut`, or go back to an undamaged copy of the recording"
            }
            Self::UnderWay => {
                "leave them out with `reenact trace cut --filter outcome!=open`; a longer --drain lets a recording wait for them"
            }
            Self::Contradiction => "report it, with the trace if it may be shared",
            Self::Newer => "use a newer reenact",
            Self::Sampled => "take counts and totals times 1,000,000 / `sampled_ppm` of the header",
            Self::Filtered | Self::Cut => "nothing needs to be done",
            Self::Deleted => "nothing, if that was meant; a larger --keep keeps more",
        }
    }
}

impl From<DropReason> for Cause {
    fn from(reason: DropReason) -> Self {
        match reason {
            DropReason::QueueFull => Self::QueueFull,
            DropReason::RecorderStopped => Self::RecorderStopped,
            DropReason::WriteFailed => Self::WriteFailed,
            DropReason::Damaged => Self::DamagedBefore,
        }
    }
}

impl From<OmitReason> for Cause {
    fn from(reason: OmitReason) -> Self {
        match reason {
            OmitReason::Sampled => Self::Sampled,
            OmitReason::Filtered => Self::Filtered,
            OmitReason::Cut => Self::Cut,
        }
    }
}

impl From<LossCause> for Cause {
    fn from(cause: LossCause) -> Self {
        match cause {
            LossCause::Unfinished => Self::Unfinished,
            LossCause::Torn => Self::Torn,
            LossCause::Damaged => Self::Damage,
        }
    }
}

// === impl Amount ===

impl Amount {
    /// Returns whether it is nothing at all.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Adds another amount.
    pub fn add(&mut self, other: Self) {
        self.exchanges = self.exchanges.saturating_add(other.exchanges);
        self.frames = self.frames.saturating_add(other.frames);
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.file_bytes = self.file_bytes.saturating_add(other.file_bytes);
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { exchanges, frames, bytes, file_bytes } = self;
        write!(f, "{exchanges} whole exchanges, {frames} frames, {bytes} body bytes")?;
        if *file_bytes > 0 { write!(f, ", {file_bytes} bytes of the files") } else { Ok(()) }
    }
}
