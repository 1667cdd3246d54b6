//! The trace: an append-only, compressed, checksummed log of [`record::Event`]s that survives being cut.
//!
//! [`Writer`] writes one segment; [`Trace`] opens a trace, however it ended, and [`Scan`] reads it once. Between the two:
//! [`record`] (what an event is), `packed.rs` (a head on its way), `segment.rs` and `block.rs` (which records an event becomes), `columns.rs`, `bare.rs`
//! and `pieces.rs` (frames and bodies), `sink.rs` (blocks in the file); `decoder.rs` (bytes in, records out), `assemble.rs` (events again),
//! `open.rs` and `library.rs` (index, and reading out of order). An encrypted segment differs in two places: `seal.rs` (its
//! payloads) and `envelope.rs` (who may read it).
//!
//! What follows is the specification, `FORMAT.md` beside this file.
//!
#![doc = include_str!("FORMAT.md")]

mod assemble;
mod bare;
mod batch;
mod blobs;
mod block;
mod cause;
mod codec;
mod codes;
mod columns;
mod common;
mod compress;
mod counters;
mod coverage;
mod crash;
mod cut;
mod decoder;
mod entries;
mod envelope;
mod error;
mod fields;
mod filling;
mod finding;
mod format;
mod frame;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod golden_encrypted;
#[cfg(test)]
mod golden_events;
#[cfg(test)]
mod golden_making;
mod head;
mod header;
mod hole;
mod ids;
mod index;
mod library;
mod lineup;
mod mark;
mod mend;
mod merge;
mod missing;
mod open;
mod packed;
mod paths;
mod payloads;
mod pieces;
mod places;
mod reader;
pub mod record;
mod recover;
pub mod redact;
mod relabel;
mod repack;
mod resolve;
mod retention;
mod roll;
mod roll_options;
mod scan;
mod seal;
mod segment;
mod sink;
mod site;
mod source;
mod split;
mod stretch;
mod summing;
mod tally;
mod unfold;
mod unwritten;
mod verify;
mod wire;
mod writer;

pub use assemble::{Assembler, Bare, Exchange, FrameView};
pub use batch::{Loss, LossCause};
pub use cause::{Amount, Cause};
pub use crash::{CloseError, Closed, LeftOpen, close_left_open};
pub use cut::{CutError, CutOut, Selection, cut};
pub use entries::Entry;
pub use envelope::{Identity, KeyError, ReadOptions, Recipient, Recipients, parse_keys};
pub use error::TraceError;
pub use finding::{CauseSummary, Finding, FindingKind, MAX_FINDINGS, Verification};
pub use format::{FormatVersion, VersionMismatch};
pub use ids::{Ids, MAX_IDS};
pub use index::Totals;
pub use mend::Destination;
pub use merge::{MergeError, Merged, merge};
pub use reader::{FileHealth, Health, Trace};
pub use recover::{RecoverError, Recovered, RecoveredFile, Recovery, recover, recover_with};
pub use resolve::Missing;
pub use retention::Keep;
pub use roll::{GIVE_UP_AFTER, Roll};
pub use roll_options::{RollOptions, Rolled};
pub use scan::Scan;
pub use site::Site;
pub use unwritten::{Frames, Legacy, Lost};
pub use verify::verify;
pub use writer::{
    FLUSH_EVERY, Pressure, Summary, SyncPolicy, WriteError, Writer, WriterOptions, open_path,
};
