//! What a decoder hands out: the records of a block, or the bytes that were lost.

use std::fmt;

use crate::trace::bare::BareRun;
use crate::trace::block::Start;
use crate::trace::columns::Run;
use crate::trace::format::FormatVersion;
use crate::trace::index::{Chapter, Footer, Place};
use crate::trace::pieces::{Blob, Pieces};
use crate::trace::record::{Counters, Event, Header};

/// Bytes of a trace that can't be read.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Loss {
    /// The segment's number among the files of the trace, from 0.
    pub segment: usize,
    /// File offset of the first byte.
    pub from: u64,
    /// File offset after the last.
    pub until: u64,
    /// What kind of loss it is.
    pub cause: LossCause,
    /// What is wrong there.
    pub what: String,
}

/// Kinds of loss in the files of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LossCause {
    /// The file was not closed. What it holds ends with a whole block: nothing that had reached it is known to be lost.
    Unfinished,
    /// The file ends in the middle of a block.
    Torn,
    /// Bytes were changed, taken out or put in.
    Damaged,
}

/// The records of a block.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// File offset of the block.
    pub(crate) offset: u64,
    /// Number of its zstd frame.
    pub(crate) ordinal: u32,
    /// Bytes before compression.
    pub(crate) raw: u64,
    /// Present when it begins a zstd frame.
    pub(crate) start: Option<Start>,
    pub(crate) header: Option<(FormatVersion, Header)>,
    /// Events other than frames.
    pub(crate) events: Vec<Event>,
    /// Number of the first blob.
    pub(crate) first_blob: u64,
    pub(crate) blobs: Vec<Blob>,
    pub(crate) pieces: Vec<Pieces>,
    pub(crate) runs: Vec<Run>,
    pub(crate) bare: Vec<BareRun>,
    pub(crate) counters: Option<Counters>,
    pub(crate) places: Vec<Place>,
    pub(crate) chapters: Vec<Chapter>,
    pub(crate) footer: Option<Footer>,
    /// Records of opcodes that this program does not know.
    pub(crate) unknown: u64,
}

/// What a decoder says.
#[derive(Debug)]
pub(crate) enum Step {
    /// It needs more bytes, or the file has ended.
    More,
    /// A block.
    Block(Box<Batch>),
    /// Bytes that can't be read.
    Loss(Loss),
}

// === impl Loss ===

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { segment, from, until, what, .. } = self;
        if segment > &0 {
            write!(f, "segment {segment}: ")?;
        }
        if until > from {
            write!(f, "bytes {from} to {until} ({}) can't be read: {what}", until - from)
        } else {
            write!(f, "at byte {from}: {what}")
        }
    }
}
