//! Writes a closed segment again in larger blocks, where thin traffic has left small ones.
//!
//! While it is recorded, a segment is flushed each 100 ms, so that a killed process costs little. A flush of the five tokens
//! that a lone stream has brought by then makes a block half of which is the block itself. Once the segment is closed
//! nobody needs its flushes any more. The file is replaced when the new one is whole and on the disk, so that a crash
//! at any moment leaves one of the two; on any error the old one stays.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crate::clock::Nanos;
use crate::trace::envelope::ReadOptions;
use crate::trace::error::TraceError;
use crate::trace::open::SegmentInfo;
use crate::trace::resolve::Missing;
use crate::trace::retention::Closed;
use crate::trace::scan::Scan;
use crate::trace::writer::{Summary, SyncPolicy, WriteError, Writer, WriterOptions, open_path};

/// Has closed segments written again beside the recording, and hands them on in order.
#[derive(Debug, Default)]
pub(crate) struct Repacker {
    jobs: VecDeque<Job>,
    saved: u64,
}

#[derive(Debug)]
struct Job {
    path: PathBuf,
    bytes: u64,
    at: Nanos,
    /// Returns the new size; none when it is written once and for all, or stays as it is.
    thread: Option<JoinHandle<Option<u64>>>,
}

/// Why a segment stays as it is.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RepackError {
    #[error(transparent)]
    Read(#[from] TraceError),
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error("can't replace {path}")]
    Replace { path: PathBuf, source: io::Error },
    /// What would come out is not what went in. It never was; nothing is risked.
    #[error("{path} does not read back as it was written")]
    Differs { path: PathBuf },
}

/// Removes a file that did not become a segment.
struct Scrap(PathBuf);

/// The time of the trace that goes into one block, if it is not full before: what is read together stays together.
pub(crate) const REPACK_EVERY: Duration = Duration::from_secs(2);
/// Mean bytes of a block above which its own are few.
const THIN_BLOCK: u64 = 1 << 10;
/// Blocks from which on it is worth it.
const THIN_BLOCKS: u64 = 8;
/// Largest segment that is written again: some seconds of one CPU.
const LARGEST: u64 = 64 << 20;
/// Segments that are written again at one time: what is closed meanwhile stays as it is.
const AT_ONCE: usize = 2;

/// Returns whether a segment that was written so would become smaller in larger blocks.
pub(crate) fn is_thin(written: &Summary) -> bool {
    written.blocks >= THIN_BLOCKS
        && written.bytes <= LARGEST
        && written.bytes < written.blocks * THIN_BLOCK
}

/// Writes the closed segment again, with the options that it was written with, and returns its new size. Not for an
/// encrypted one, which nobody here can read.
///
/// # Errors
/// It stays as it is.
pub(crate) fn repack(written: &Summary, options: &WriterOptions) -> Result<u64, RepackError> {
    let path = &written.path;
    let info = SegmentInfo::open(path.clone(), &ReadOptions::default())?;
    let header = info.header.clone();
    let spare = spare_path(path);
    let sync = match options.sync {
        SyncPolicy::Never => SyncPolicy::Never,
        SyncPolicy::Finish | SyncPolicy::Flush => SyncPolicy::Finish,
    };
    let options = WriterOptions { sync, counters: written.base, ..options.clone() };
    let mut writer = Writer::create(&spare, header, options)?;
    let mut scrap = Scrap(open_path(&spare));
    let mut scan = Scan::new(Arc::from([info]))?;
    let (mut latest, mut flushed) = (Nanos::ZERO, Nanos::ZERO);
    for event in &mut scan {
        let event = event?;
        latest = latest.max(event.at());
        if latest >= flushed + REPACK_EVERY {
            flushed = latest;
            writer.flush(latest)?;
        }
        writer.append(event)?;
    }
    let is_whole =
        scan.losses().is_empty() && scan.missing() == Missing::default() && scan.unknown() == 0;
    if !is_whole || writer.counters() != written.counters {
        return Err(RepackError::Differs { path: path.clone() });
    }
    let again = writer.finish()?;
    scrap.0.clone_from(&spare);
    if again.totals.frames != written.totals.frames
        || again.totals.body_bytes != written.totals.body_bytes
        || again.totals.exchanges != written.totals.exchanges
    {
        return Err(RepackError::Differs { path: path.clone() });
    }
    let replaced = replace(&spare, path, sync != SyncPolicy::Never);
    replaced.map_err(|source| RepackError::Replace { path: path.clone(), source })?;
    Ok(again.bytes)
}

/// Removes what a crash has left in `folder` of segments that were being written again. The segments themselves are there.
///
/// # Errors
/// The folder can't be read.
pub(crate) fn remove_scraps(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if (name.ends_with(".trace.repack") || name.ends_with(".trace.repack.open"))
            && File::open(&path).is_ok_and(|file| file.try_lock().is_ok())
        {
            // What can't be removed is in nobody's way.
            let _left = fs::remove_file(&path);
        }
    }
    Ok(())
}

/// Returns the name of a segment that is written again: no reader takes it for one of the trace.
fn spare_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".repack");
    name.into()
}

/// Replaces a segment, unless somebody has removed it meanwhile.
fn replace(spare: &Path, path: &Path, sync: bool) -> io::Result<()> {
    fs::metadata(path)?;
    fs::rename(spare, path)?;
    if sync {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or_else(|| Path::new(".")))?.sync_all()?;
    }
    Ok(())
}

// === impl Repacker ===

impl Repacker {
    /// Takes a segment that was closed at `at`, and has it written again if it is thin.
    pub(crate) fn take(&mut self, written: &Summary, options: WriterOptions, at: Nanos) {
        let busy = self.jobs.iter().filter(|job| job.thread.is_some()).count();
        let mut thread = None;
        if is_thin(written) && options.recipients.is_empty() && busy < AT_ONCE {
            let written = written.clone();
            let work = move || repack(&written, &options).ok();
            // Without a thread it stays as it is.
            thread = std::thread::Builder::new().name("reenact-repack".to_owned()).spawn(work).ok();
        }
        self.jobs.push_back(Job { path: written.path.clone(), bytes: written.bytes, at, thread });
    }

    /// Returns the segments that are done with, oldest first; waits for all if told to.
    pub(crate) fn done(&mut self, all: bool) -> Vec<Closed> {
        let mut done = Vec::new();
        while let Some(job) = self.jobs.front()
            && (all || job.thread.as_ref().is_none_or(JoinHandle::is_finished))
            && let Some(Job { path, bytes, at, thread }) = self.jobs.pop_front()
        {
            // One that panicked has left the segment as it is, too.
            let again = thread.and_then(|thread| thread.join().ok().flatten()).unwrap_or(bytes);
            self.saved += bytes.saturating_sub(again);
            done.push(Closed::now(path, again, at));
        }
        done
    }

    /// Returns the bytes that segments have become smaller by.
    pub(crate) fn saved(&self) -> u64 {
        self.saved
    }
}

// === impl Scrap ===

impl Drop for Scrap {
    fn drop(&mut self) {
        // After the rename there is none.
        let _gone = fs::remove_file(&self.0);
    }
}
