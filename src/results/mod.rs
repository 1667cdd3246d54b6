//! The run folder: rows, manifest, and their Parquet files.
//!
//! [`rows`] is the one place where the tables are documented; [`table`] makes columns of it, `parquet.rs` bytes.
//! [`RunWriter`] writes a run as it goes, so that a killed one can still be read; [`RunReader`] streams it back.

pub mod answers;
pub mod filter;
pub mod manifest;
pub mod marks;
mod parquet;
mod parts;
mod private;
pub mod recorded;
pub mod rows;
mod run;
pub mod search;
pub mod slo;
pub mod table;

pub use parquet::FormatError;
pub use parts::PART_ROWS;
pub use run::{PART_NS, Rows, RunError, RunReader, RunWriter};
