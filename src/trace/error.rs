//! Why a trace could not be read: the file, and what to do.

use std::io;
use std::path::PathBuf;

/// Why a trace could not be read.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The file system refused.
    #[error("can't read {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Not a trace, or one of another version.
    #[error("{path} can't be read as a trace: {why}")]
    NotReadable {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        why: String,
    },
    /// Encrypted, and not to an identity that was given.
    #[error(
        "{path} is encrypted to {recipients} recipient{}, and {}: open it with --identity FILE", plural(*.recipients),
        no_identity(*.identities)
    )]
    Locked {
        /// The file.
        path: PathBuf,
        /// To how many recipients it is encrypted.
        recipients: u32,
        /// How many identities were given.
        identities: usize,
    },
    /// A segment that was cut before anything was in it.
    #[error(
        "{path} can't be read as a trace: it ends or is damaged before its first block ({len} bytes): nothing is recorded in it"
    )]
    Empty {
        /// The file.
        path: PathBuf,
        /// Its length.
        len: u64,
    },
    /// A folder without segments.
    #[error("{path} holds no segments: expected files named *.trace")]
    NoSegments {
        /// The folder.
        path: PathBuf,
    },
    /// Segments of different traces in one folder.
    #[error(
        "{path} belongs to another trace than the segments beside it: keep one trace in a folder"
    )]
    Mixed {
        /// The first that does not fit.
        path: PathBuf,
    },
}

fn plural(count: u32) -> &'static str {
    if count == 1 { "" } else { "s" }
}

fn no_identity(count: usize) -> String {
    match count {
        0 => "no identity was given".to_owned(),
        1 => "the identity given is none of theirs".to_owned(),
        _ => format!("none of the {count} identities given is one of theirs"),
    }
}
