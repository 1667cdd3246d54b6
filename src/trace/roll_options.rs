//! What a [`Roll`](crate::trace::Roll) is told before it begins, and what it says at its end.

use std::path::PathBuf;
use std::time::Duration;

use crate::trace::index::Totals;
use crate::trace::record::Counters;
use crate::trace::retention::Keep;
use crate::trace::writer::WriterOptions;

/// How a trace is cut into segments, and what is kept of them.
#[derive(Clone, Debug, Default)]
pub struct RollOptions {
    /// How each segment is written.
    pub writer: WriterOptions,
    /// Bytes in the file after which the next begins.
    pub segment_bytes: Option<u64>,
    /// Time after which the next begins.
    pub segment_time: Option<Duration>,
    /// What is kept of closed segments.
    pub keep: Keep,
    /// Bytes that must stay free on the file system: with fewer nothing is written.
    pub min_free: u64,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rolled {
    /// The file, or the folder.
    pub path: PathBuf,
    /// Segments that were written.
    pub segments: u32,
    /// Of these, deleted since.
    pub deleted: u32,
    /// Bytes of all that were written.
    pub bytes: u64,
    /// What they hold.
    pub totals: Totals,
    /// The counters at the end.
    pub counters: Counters,
}
