//! What the disk is asked for, and what is kept on it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, ValueEnum};

use crate::cli::duration;
use crate::clock::{Clock, Nanos};
use crate::trace::{
    CloseError, Closed, Keep, LeftOpen, RollOptions, Site, SyncPolicy, WriterOptions,
    close_left_open,
};

use super::args::bytes;
use super::words::say;

/// What is asked of the disk
#[derive(Debug, Args)]
#[command(next_help_heading = "On disk")]
pub(super) struct DurabilityArgs {
    /// Begin the next segment after this many bytes; --out is then a folder. K, M and G are understood
    #[arg(long, value_name = "BYTES", env = "REENACT_SEGMENT_SIZE", value_parser = size)]
    segment_size: Option<u64>,
    /// Begin the next segment after this long, such as 15m; --out is then a folder
    #[arg(long, value_name = "TIME", env = "REENACT_SEGMENT_TIME", value_parser = duration)]
    segment_time: Option<Duration>,
    /// When the disk is waited for: never, when a segment is closed, or at each flush (ten times a second)
    #[arg(long, value_enum, env = "REENACT_FSYNC", default_value = "segment")]
    fsync: Fsync,
    /// Delete the oldest closed segments beyond this size (such as 50G) or age (such as 7d); both may be given
    #[arg(long, value_name = "SIZE|AGE", env = "REENACT_KEEP", value_delimiter = ',', value_parser = keep)]
    keep: Vec<Keep>,
    /// Bytes that must stay free on the disk: with fewer, nothing is written until there is room again
    #[arg(long, value_name = "BYTES", env = "REENACT_MIN_FREE", default_value = "64M", value_parser = size)]
    min_free: u64,
    /// Answer 503 to what can't be recorded, rather than pass it on unrecorded
    #[arg(long, env = "REENACT_FAIL_CLOSED")]
    pub(super) fail_closed: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Fsync {
    /// What was flushed survives the process, not the machine
    Never,
    /// Closed segments survive the machine
    Segment,
    /// What is older than 200 ms survives the machine
    Flush,
}

// === impl DurabilityArgs ===

impl DurabilityArgs {
    /// Returns where the trace goes: a file; a folder when it is to have several segments; when `out` ends with a slash, a
    /// folder of this recording's own in it.
    pub(super) fn site(&self, out: &Path, clock: Clock) -> Site {
        if is_shared(out) {
            let start = clock.anchor().rfc3339(Nanos::ZERO);
            let name = start.split('.').next().unwrap_or_default().replace(':', "-") + "Z";
            let numbered = (2..).map(|number| out.join(format!("{name}-{number}")));
            let mut names = std::iter::once(out.join(&name)).chain(numbered);
            return Site::Folder(
                names.find(|name| !name.exists()).unwrap_or_else(|| out.join(name)),
            );
        }
        let is_cut = self.segment_size.is_some() || self.segment_time.is_some();
        if is_cut || out.is_dir() || !self.keep.is_empty() {
            Site::Folder(out.to_owned())
        } else {
            Site::File(out.to_owned())
        }
    }

    pub(super) fn options(&self, level: i32) -> RollOptions {
        let sync = match self.fsync {
            Fsync::Never => SyncPolicy::Never,
            Fsync::Segment => SyncPolicy::Finish,
            Fsync::Flush => SyncPolicy::Flush,
        };
        let keep = self.keep.iter().fold(Keep::default(), |sum, keep| Keep {
            bytes: keep.bytes.or(sum.bytes),
            age: keep.age.or(sum.age),
        });
        // What is to be deleted must be closed before.
        let by_size = keep.bytes.map(|bytes| (bytes / 8).max(1 << 20));
        let by_age = keep.age.map(|age| age / 8);
        RollOptions {
            writer: WriterOptions { level, sync, ..WriterOptions::default() },
            segment_bytes: self.segment_size.or(by_size),
            segment_time: self.segment_time.or(by_age),
            keep,
            min_free: self.min_free,
        }
    }
}

/// Returns whether `out` is a folder of traces: its name ends with a slash.
pub(super) fn is_shared(out: &Path) -> bool {
    out.as_os_str().as_encoded_bytes().ends_with(b"/")
}

/// Closes what earlier recordings have left open in the folder `out`, and says so; returns the segments that are done,
/// oldest first.
pub(super) fn clear_up(out: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if !out.is_dir() {
        return Ok(Vec::new());
    }
    let mut folders = vec![out.to_owned()];
    if is_shared(out) {
        for entry in fs::read_dir(out).with_context(|| format!("can't read {}", out.display()))? {
            folders.extend(entry.ok().map(|entry| entry.path()).filter(|path| path.is_dir()));
        }
    }
    folders.sort();
    let mut closed = Vec::new();
    for folder in folders {
        let mut left = Vec::new();
        let found =
            close_left_open(&folder).with_context(|| format!("can't read {}", folder.display()))?;
        for LeftOpen { path, outcome } in found {
            match outcome {
                Ok(Closed::Busy | Closed::Removed) => {}
                Ok(Closed::Now(exchanges)) => say(&format!(
                    "closed {}, which an earlier recording had left open ({exchanges} exchanges)",
                    path.display()
                )),
                // Nobody writes it any more, so it may be deleted like a closed one.
                Err(error @ CloseError::Encrypted { .. }) => {
                    say(&error.to_string());
                    left.push(path);
                }
                Err(error) => say(&format!("{}: {error}", path.display())),
            }
        }
        let mut segments: Vec<_> = fs::read_dir(&folder)
            .with_context(|| format!("can't read {}", folder.display()))?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|extension| extension == "trace"))
            .collect();
        segments.append(&mut left);
        segments.sort();
        closed.append(&mut segments);
    }
    Ok(closed)
}

/// Reads a number of bytes.
fn size(text: &str) -> Result<u64, String> {
    bytes(text).map(|bytes| bytes as u64)
}

/// Reads a size such as `50G`, or an age such as `7d`.
fn keep(text: &str) -> Result<Keep, String> {
    if let Some(days) = text.strip_suffix('d') {
        let days: u32 = days.parse().map_err(|_| format!("`{text}` is no number of days"))?;
        let age = Some(Duration::from_secs(u64::from(days) * 86_400));
        return Ok(Keep { age, bytes: None });
    }
    if let Ok(age) = duration(text) {
        return Ok(Keep { age: Some(age), bytes: None });
    }
    let bytes = size(text).map_err(|_| {
        format!("`{text}` is neither a size, such as 50G, nor an age, such as 12h or 7d")
    })?;
    Ok(Keep { bytes: Some(bytes), age: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_a_size_or_an_age() {
        let age = |secs| Keep { age: Some(Duration::from_secs(secs)), bytes: None };
        let bytes = |bytes| Keep { bytes: Some(bytes), age: None };
        for (text, expected) in [
            ("7d", age(7 * 86_400)),
            ("12h", age(43_200)),
            ("90s", age(90)),
            ("50G", bytes(50 << 30)),
            ("4096", bytes(4096)),
        ] {
            assert_eq!(keep(text), Ok(expected), "{text}");
        }
        for text in ["", "d", "7w", "-1G", "1.5G"] {
            assert!(keep(text).is_err(), "{text}");
        }
    }
}
