//! Writes a trace as a series of segments, for as long as it takes.
//!
//! A segment is closed when it is large or old enough, and the next goes on: each can be read alone, moved away and
//! deleted. When the disk refuses, nothing is appended until it takes again what it refused ([`Roll::resume`]). A segment
//! that it can't be had for (its file was removed, it can't be brought to the disk, it does not come back for
//! [`GIVE_UP_AFTER`]) is given up, under its in-progress name: the next one begins with the events that it lacks, and a gap
//! says which frames are lost.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::clock::Nanos;
use crate::trace::index::Totals;
use crate::trace::record::{Counters, DropReason, Event, FramesRef, Gap, Header};
use crate::trace::repack::Repacker;
use crate::trace::retention::{Closed, Retention, free_bytes};
use crate::trace::roll_options::{RollOptions, Rolled};
use crate::trace::site::{Site, make_folder};
use crate::trace::unwritten::{Frames, Legacy, Lost};
use crate::trace::writer::{Pressure, Summary, WriteError, Writer, WriterOptions, open_path};

/// Writes the segments of a trace.
#[derive(Debug)]
pub struct Roll {
    site: Site,
    header: Header,
    options: RollOptions,
    /// None while no segment can be made.
    writer: Option<Writer>,
    /// When the open segment was begun.
    begun: Nanos,
    /// Whether anything was appended to it.
    is_used: bool,
    /// Since when nothing could be written.
    stalled: Option<Nanos>,
    /// When the disk was last looked at.
    looked: Nanos,
    /// While none is open: the counters at the end of the one before.
    counters: Counters,
    /// What the next segment begins with.
    legacy: Legacy,
    /// Frames of open exchanges that are lost: their ends are to say so.
    lost: Lost,
    lost_for_good: Frames,
    retention: Retention,
    repacker: Repacker,
    done: Done,
    /// How long each fsync of segments took that are closed.
    syncs: Vec<Duration>,
}

/// What became of the segments before.
#[derive(Debug, Default)]
struct Done {
    segments: u32,
    bytes: u64,
    totals: Totals,
}

/// How long a disk may refuse before another segment is tried.
pub const GIVE_UP_AFTER: Duration = Duration::from_secs(10);
/// How often the file system is asked how it is.
const LOOK_EVERY: Duration = Duration::from_secs(1);

// === impl Roll ===

impl Roll {
    /// Begins the first segment.
    ///
    /// # Errors
    /// Its name is taken, or it can't be made.
    pub fn create(site: Site, header: Header, options: RollOptions) -> Result<Self, WriteError> {
        if let Site::Folder(folder) = &site {
            make_folder(folder)?;
        }
        let path = site.segment(header.segment);
        let writer = Writer::create(&path, header.clone(), options.writer.clone())?;
        let counters = options.writer.counters;
        Ok(Self {
            site,
            header,
            writer: Some(writer),
            begun: Nanos::ZERO,
            is_used: false,
            stalled: None,
            looked: Nanos::ZERO,
            counters,
            legacy: Legacy::default(),
            lost: Lost::default(),
            lost_for_good: Frames::default(),
            retention: Retention::new(options.keep),
            repacker: Repacker::default(),
            done: Done::default(),
            syncs: Vec::new(),
            options,
        })
    }

    /// Has segments of earlier recordings, oldest first, count among those that are kept or deleted.
    pub fn adopt(&mut self, segments: impl IntoIterator<Item = PathBuf>) {
        for path in segments {
            self.retention.add(Closed::earlier(path));
        }
    }

    /// Takes an event; it is on its way to the disk after the next [`Self::flush`].
    ///
    /// # Errors
    /// The event is too large, then it alone is left out; or the segment can't go on.
    pub fn append(&mut self, mut event: Event) -> Result<(), WriteError> {
        self.lost.state(&mut event);
        let Some(writer) = &mut self.writer else {
            self.counters.count(&event);
            self.legacy.events.push(event);
            return Ok(());
        };
        self.is_used = true;
        let appended = writer.append(event);
        self.unless_fatal(appended)
    }

    /// As [`Self::append`], for frames: all of them are taken.
    ///
    /// # Errors
    /// The segment can't go on.
    pub fn append_frames(&mut self, frames: FramesRef<'_>) -> Result<(), WriteError> {
        if let Some(writer) = &mut self.writer {
            self.is_used = true;
            let appended = writer.append_frames(frames);
            return self.unless_fatal(appended);
        }
        for frame in frames.iter() {
            self.legacy.lost.push(frame);
            self.lost.push(frame);
        }
        Ok(())
    }

    /// Returns whether a flush would do something although nothing was appended.
    #[must_use]
    pub fn is_due(&self, now: Nanos) -> bool {
        now.since(self.looked) >= LOOK_EVERY
    }

    /// Hands everything to the file system, closes the segment if it is time, and deletes what is not to be kept.
    ///
    /// # Errors
    /// Nothing can be written now: append nothing, and call [`Self::resume`] until it works.
    pub fn flush(&mut self, now: Nanos) -> Result<(), WriteError> {
        let flushed = self.try_flush(now);
        match flushed {
            Ok(()) => self.stalled = None,
            Err(_) => self.stalled = self.stalled.or(Some(now)),
        }
        flushed
    }

    /// Tries to go on after an error, in the same segment or in another.
    ///
    /// # Errors
    /// Nothing can be written yet.
    pub fn resume(&mut self, now: Nanos) -> Result<(), WriteError> {
        self.look(now, true)?;
        if let Some(writer) = &mut self.writer {
            let patient = self.stalled.is_none_or(|since| now.since(since) < GIVE_UP_AFTER);
            // What a removed file would still take is better kept for the next.
            let flushed = writer.is_linked().then(|| writer.flush(now));
            match flushed {
                Some(Ok(())) => {
                    self.stalled = None;
                    return Ok(());
                }
                Some(Err(error @ WriteError::Stalled { .. })) if patient => return Err(error),
                _ => self.give_up(),
            }
        }
        self.begin(now)?;
        self.stalled = None;
        self.flush(now)
    }

    /// Gives the open segment up: after a defect nothing may rely on its state.
    pub fn give_up(&mut self) {
        let Some(mut writer) = self.writer.take() else { return };
        self.syncs.extend(writer.take_syncs());
        self.done.segments += 1;
        self.done.bytes += writer.written_bytes();
        self.retention.add(Closed::now(
            open_path(writer.path()),
            writer.written_bytes(),
            self.looked,
        ));
        let mut legacy = writer.give_up();
        self.lost.extend(legacy.lost.clone());
        self.counters = legacy.counters;
        for event in &mut legacy.events {
            self.lost.state(event);
            self.counters.count(event);
        }
        self.legacy = legacy;
    }

    /// Tells how far the writer is behind: it compresses less from the next zstd frame on.
    pub fn set_pressure(&mut self, pressure: Pressure) {
        if let Some(writer) = &mut self.writer {
            writer.set_pressure(pressure);
        }
    }

    /// Returns what it was told last.
    #[must_use]
    pub fn pressure(&self) -> Pressure {
        self.writer.as_ref().map_or(Pressure::None, Writer::pressure)
    }

    /// Returns the file or folder that is the trace.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.site.path()
    }

    /// Returns the counters as they would be written now.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.writer.as_ref().map_or(self.counters, Writer::counters)
    }

    /// Returns the bytes on disk, of all segments so far.
    #[must_use]
    pub fn written_bytes(&self) -> u64 {
        self.done.bytes + self.writer.as_ref().map_or(0, Writer::written_bytes)
    }

    /// Takes out how long each fsync took since the last call.
    pub fn take_syncs(&mut self) -> Vec<Duration> {
        let mut syncs = std::mem::take(&mut self.syncs);
        syncs.extend(self.writer.iter_mut().flat_map(Writer::take_syncs));
        syncs
    }

    /// Returns the frames that the disk has not got and will not get.
    #[must_use]
    pub fn lost(&self) -> Frames {
        self.lost_for_good
    }

    /// Returns the segments so far, the open one included.
    #[must_use]
    pub fn segments(&self) -> u32 {
        self.done.segments + u32::from(self.writer.is_some())
    }

    /// Closes the last segment.
    ///
    /// # Errors
    /// Not all could be written; what is there stays under its in-progress name.
    pub fn finish(mut self, now: Nanos) -> Result<Rolled, WriteError> {
        if self.stalled.is_some() || self.writer.is_none() {
            self.resume(now)?;
        }
        if let Some(writer) = self.writer.take() {
            self.counters = writer.counters();
            let written = writer.finish()?;
            self.close(&written);
        }
        self.repacker.done(true).into_iter().for_each(|closed| self.retention.add(closed));
        // What was being written again when it grew too old was not there to be deleted.
        self.retention.last_sweep(now);
        Ok(Rolled {
            path: self.site.path().to_owned(),
            segments: self.done.segments,
            deleted: self.retention.deleted(),
            bytes: self.done.bytes - self.repacker.saved(),
            totals: self.done.totals,
            counters: self.counters,
        })
    }

    /// Gives the segment up when it can't take more.
    fn unless_fatal(&mut self, appended: Result<(), WriteError>) -> Result<(), WriteError> {
        if !matches!(appended, Ok(()) | Err(WriteError::TooLarge { .. })) {
            self.give_up();
        }
        appended
    }

    fn try_flush(&mut self, now: Nanos) -> Result<(), WriteError> {
        self.look(now, false)?;
        let Some(writer) = &mut self.writer else { return self.begin(now) };
        writer.flush(now)?;
        let large = self.options.segment_bytes.is_some_and(|max| writer.written_bytes() >= max);
        let old = self.options.segment_time.is_some_and(|max| now.since(self.begun) >= max);
        // Nobody is served by a file each quarter of an hour of a quiet night.
        if self.is_used && (large || old) {
            // Everything is in the file then, and an error below costs nothing but the index.
            writer.flush(Nanos(u64::MAX))?;
            if let Some(writer) = self.writer.take() {
                self.counters = writer.counters();
                let (path, bytes) = (open_path(writer.path()), writer.written_bytes());
                match writer.finish() {
                    Ok(written) => self.close(&written),
                    Err(_unfinished) => self.retention.add(Closed::now(path, bytes, now)),
                }
            }
            self.begin(now)?;
        }
        Ok(())
    }

    /// Looks at the file system now and then: whether the segment is still there, and whether there is room.
    fn look(&mut self, now: Nanos, is_due: bool) -> Result<(), WriteError> {
        if !is_due && now.since(self.looked) < LOOK_EVERY {
            return Ok(());
        }
        self.looked = now;
        self.repacker.done(false).into_iter().for_each(|closed| self.retention.add(closed));
        let open = self.writer.as_ref().map_or(0, Writer::written_bytes);
        self.retention.sweep(open, now);
        let folder = self.site.folder();
        while let Ok(free) = free_bytes(folder)
            && free < self.options.min_free
        {
            if self.retention.drop_oldest() {
                continue;
            }
            let floor = self.options.min_free;
            return Err(WriteError::LowSpace { path: folder.to_owned(), free, floor });
        }
        match &self.writer {
            Some(writer) if !is_due && !writer.is_linked() => {
                let path = open_path(writer.path());
                let source = io::Error::new(io::ErrorKind::NotFound, "the file was removed");
                Err(WriteError::Io { path, offset: writer.written_bytes(), source })
            }
            _ => Ok(()),
        }
    }

    /// Begins the next segment with what the one before has left.
    fn begin(&mut self, now: Nanos) -> Result<(), WriteError> {
        make_folder(self.site.folder())?;
        let mut segment = self.header.segment + 1;
        while self.site.is_taken(segment) {
            segment += 1;
        }
        let path = self.site.segment(segment);
        let header = Header { segment, ..self.header.clone() };
        let is_legacy = !self.legacy.events.is_empty() || !self.legacy.lost.is_empty();
        let counters = if is_legacy { self.legacy.counters } else { self.counters };
        let options = WriterOptions { counters, ..self.options.writer.clone() };
        let mut writer = Writer::create(&path, header, options)?;
        self.header.segment = segment;
        (self.begun, self.is_used) = (now, is_legacy);
        let Legacy { events, lost, .. } = std::mem::take(&mut self.legacy);
        let frames = lost.sum();
        self.lost_for_good.add(frames);
        // Before the ends that state the loss: whatever comes next, they are not there without it.
        if frames.count > 0 {
            writer.append(Event::Gap(Gap {
                from: self.stalled.unwrap_or(now),
                until: now,
                reason: DropReason::WriteFailed,
                exchanges: 0,
                frames: frames.count,
                bytes: frames.bytes,
            }))?;
        }
        for event in events {
            writer.append(event)?;
        }
        self.writer = Some(writer);
        Ok(())
    }

    fn close(&mut self, written: &Summary) {
        self.syncs.extend(&written.syncs);
        self.done.segments += 1;
        self.done.bytes += written.bytes;
        self.done.totals.add(&written.totals);
        self.repacker.take(written, self.options.writer.clone(), self.looked);
    }
}
