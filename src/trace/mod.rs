//! The trace: an append-only, compressed, checksummed log of [`record::Event`]s that survives being cut.
//!
//! `FORMAT.md` beside this file is the specification.

pub mod record;
