//! The run folder: rows, manifest, and their Parquet files.

pub mod manifest;
pub mod rows;
