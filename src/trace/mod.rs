//! The trace: an append-only, compressed, checksummed log of [`record::Event`]s that survives being cut.
//!
//! `FORMAT.md` beside this file is the specification.

mod assemble;
mod blobs;
mod block;
mod codec;
mod columns;
mod compress;
mod decoder;
mod format;
mod index;
mod library;
mod open;
mod pieces;
mod reader;
pub mod record;
mod scan;
mod segment;
mod sink;
mod split;
mod wire;
mod writer;

pub use assemble::{Assembler, Exchange, Missing};
pub use decoder::Loss;
pub use format::{FormatVersion, VersionMismatch};
pub use index::Totals;
pub use reader::{Entry, Health, Trace, TraceError};
pub use scan::Scan;
pub use writer::{
    FLUSH_EVERY, Pressure, Summary, SyncPolicy, WriteError, Writer, WriterOptions, open_path,
};
