//! Writes one segment of a trace.
//!
//! Events go in with [`Writer::append`], in the order in which they happened. They are on their way to the disk after the
//! next [`Writer::flush`], which the caller makes each [`FLUSH_EVERY`]; a full block goes on its own. The file has
//! the name `PATH.open` until [`Writer::finish`] has written the index and renames it.
//!
//! What the file system refuses is kept in memory and tried again with each flush: a disk that is full for a minute costs
//! nothing but memory, and the caller stops appending meanwhile. A segment that can't be saved is given up
//! ([`Writer::give_up`]), and what it held and the disk did not take goes into the next one ([`Roll`](crate::trace::Roll)
//! does that). What is on disk ends with a whole block and stays readable. A writer that is dropped unfinished writes what
//! it holds and leaves the `.open` file, which reads like one that was cut.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::clock::Nanos;
use crate::trace::envelope::Recipients;
use crate::trace::index::Totals;
use crate::trace::record::{Counters, Event, FramesRef, Header};
use crate::trace::segment::Segment;
use crate::trace::sink::Sink;
use crate::trace::unwritten::Legacy;

/// Writes one segment.
#[derive(Debug)]
pub struct Writer {
    state: State,
    path: PathBuf,
    counters: Counters,
    written: u64,
}

/// How a segment is written. The defaults are what was measured best.
#[derive(Clone, Debug)]
pub struct WriterOptions {
    /// zstd level while the writer keeps up.
    pub level: i32,
    /// Bytes before compression after which a new zstd frame begins: what damage costs, and what random access reads.
    pub frame_bytes: u64,
    /// Bytes before compression after which a block is written without waiting for a flush.
    pub block_bytes: usize,
    /// Pieces of bodies that are remembered, to be stored once.
    pub blob_entries: usize,
    /// When the disk is waited for.
    pub sync: SyncPolicy,
    /// Counters to go on from: those at the end of the segment before.
    pub counters: Counters,
    /// Who may read what is written; anybody when there are none.
    pub recipients: Recipients,
}

/// When the disk is waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SyncPolicy {
    /// Never: a crash of the process loses nothing that was flushed, a crash of the machine may.
    Never,
    /// When the segment is finished.
    #[default]
    Finish,
    /// At each flush.
    Flush,
}

/// How far the writer is behind, as its caller sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pressure {
    /// It keeps up.
    #[default]
    None,
    /// The queue before it grows.
    Some,
    /// The queue before it is about to be full.
    High,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Where the segment is.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// The blocks in it.
    pub blocks: u64,
    /// What it holds.
    pub totals: Totals,
    /// The counters at its beginning: those at the end of the segment before.
    pub base: Counters,
    /// The counters at its end.
    pub counters: Counters,
    /// How long each fsync took that [`Writer::take_syncs`] has not told of.
    pub syncs: Vec<Duration>,
}

/// Why a segment could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Something of that name is there.
    #[error("{path} exists already: choose another name, or move it away")]
    Exists {
        /// The name.
        path: PathBuf,
    },
    /// The file system refused. What was to be written is kept: the next flush tries again.
    #[error("can't write {path} at byte {offset}")]
    Stalled {
        /// The file.
        path: PathBuf,
        /// Bytes that had been written.
        offset: u64,
        /// The cause.
        source: io::Error,
    },
    /// The file system took the bytes, and could not bring them to the disk. What of them is there is not known, and
    /// trying again would tell nothing.
    #[error("{path} was written and may not be on the disk")]
    Unsynced {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The segment can't be made, or can't go on.
    #[error("can't write {path} at byte {offset}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Bytes that had been written.
        offset: u64,
        /// The cause.
        source: io::Error,
    },
    /// Too little room is left to go on.
    #[error("{path} has {free} bytes free, fewer than the {floor} that are to stay free")]
    LowSpace {
        /// The folder.
        path: PathBuf,
        /// Bytes that are free.
        free: u64,
        /// Bytes that are to stay free.
        floor: u64,
    },
    /// An event is too large for the format.
    #[error(
        "an event of {bytes} bytes is larger than the {limit} that a trace can hold: it was left out"
    )]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// An earlier error made the writer stop.
    #[error("the writer of {path} had stopped: {cause}")]
    Stopped {
        /// The file.
        path: PathBuf,
        /// The earlier error.
        cause: String,
    },
}

/// Why a step failed, before the writer adds where.
#[derive(Debug)]
pub(crate) enum Refused {
    Io(io::Error),
    Stalled(io::Error),
    Unsynced(io::Error),
    TooLarge { bytes: usize, limit: usize },
}

#[derive(Debug)]
enum State {
    Open(Box<Segment>),
    Finished,
    /// It can't go on; kept for what is in it.
    Failed(Box<Segment>, String),
}

/// How often the caller flushes: what is older than 200 ms is then on its way to the disk, whatever ends the process.
pub const FLUSH_EVERY: Duration = Duration::from_millis(100);

/// Returns the name of the segment at `path` while it is being written.
#[must_use]
pub fn open_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".open");
    name.into()
}

// === impl WriterOptions ===

impl Default for WriterOptions {
    fn default() -> Self {
        Self {
            level: 9,
            frame_bytes: 4 << 20,
            block_bytes: 256 << 10,
            blob_entries: 1 << 18,
            sync: SyncPolicy::default(),
            counters: Counters::default(),
            recipients: Recipients::default(),
        }
    }
}

// === impl Writer ===

impl Writer {
    /// Begins the segment `path` under its in-progress name, [`open_path`].
    ///
    /// # Errors
    /// Either name is taken, or the file can't be made.
    pub fn create(path: &Path, header: Header, options: WriterOptions) -> Result<Self, WriteError> {
        if path.exists() {
            return Err(WriteError::Exists { path: path.to_owned() });
        }
        let failed = |source: io::Error| {
            if source.kind() == io::ErrorKind::AlreadyExists {
                WriteError::Exists { path: open_path(path) }
            } else {
                WriteError::Io { path: open_path(path), offset: 0, source }
            }
        };
        let mut sink = Sink::create(open_path(path)).map_err(failed)?;
        sink.write_header(&header, &options).map_err(failed)?;
        let (written, counters) = (sink.offset(), options.counters);
        Ok(Self {
            state: State::Open(Box::new(Segment::new(sink, header, options))),
            path: path.to_owned(),
            counters,
            written,
        })
    }

    /// Takes an event; it is on its way to the disk after the next [`Self::flush`].
    ///
    /// # Errors
    /// The segment can't go on; or the event is too large, then it alone is left out.
    pub fn append(&mut self, event: Event) -> Result<(), WriteError> {
        let mut after = self.counters;
        after.count(&event);
        self.step(|segment, _| segment.append(event, &after))?;
        self.counters = after;
        Ok(())
    }

    /// As [`Self::append`], for frames that came together: all of them are taken.
    ///
    /// # Errors
    /// The segment can't go on.
    pub fn append_frames(&mut self, frames: FramesRef<'_>) -> Result<(), WriteError> {
        self.step(|segment, counters| segment.append_frames(frames, counters))
    }

    /// Hands everything to the file system. What then survives depends on [`SyncPolicy`].
    ///
    /// # Errors
    /// [`WriteError::Stalled`]: call it again. Else the segment can't go on.
    pub fn flush(&mut self, now: Nanos) -> Result<(), WriteError> {
        self.step(|segment, counters| segment.flush(now, counters))
    }

    /// Tells how far the writer is behind: it compresses less from the next zstd frame on.
    pub fn set_pressure(&mut self, pressure: Pressure) {
        if let State::Open(segment) = &mut self.state {
            segment.sink.set_pressure(pressure);
        }
    }

    /// Returns what it was told last.
    #[must_use]
    pub fn pressure(&self) -> Pressure {
        match &self.state {
            State::Open(segment) => segment.sink.pressure(),
            _ => Pressure::None,
        }
    }

    /// Returns the counters as they would be written now.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Returns the bytes in the file.
    #[must_use]
    pub fn written_bytes(&self) -> u64 {
        self.written
    }

    /// Returns the name that the segment will have.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns whether the file is still in its folder. What is written to one that was removed is lost.
    #[must_use]
    pub fn is_linked(&self) -> bool {
        match &self.state {
            State::Open(segment) => segment.sink.is_linked(),
            State::Failed(segment, _) => segment.sink.is_linked(),
            State::Finished => true,
        }
    }

    /// Takes out how long each fsync took since the last call.
    pub fn take_syncs(&mut self) -> Vec<Duration> {
        match &mut self.state {
            State::Open(segment) | State::Failed(segment, _) => segment.sink.take_syncs(),
            State::Finished => Vec::new(),
        }
    }

    /// Gives the segment up, under its in-progress name; returns what is not in it.
    #[must_use]
    pub fn give_up(mut self) -> Legacy {
        match std::mem::replace(&mut self.state, State::Finished) {
            State::Open(segment) | State::Failed(segment, _) => segment.give_up(),
            State::Finished => Legacy::default(),
        }
    }

    /// Writes what is held, the index and the footer, and gives the segment its name. When everything was flushed before
    /// up to the end of time, an error loses nothing but the index.
    ///
    /// # Errors
    /// The disk refused; the `.open` file stays.
    pub fn finish(mut self) -> Result<Summary, WriteError> {
        let counters = self.counters;
        let path = self.path.clone();
        let (mut totals, mut blocks, mut base) = (Totals::default(), 0, Counters::default());
        self.step(|segment, counters| {
            totals = segment.finish(&path, counters)?;
            (blocks, base) = (segment.sink.blocks(), segment.base());
            Ok(())
        })?;
        let syncs = self.take_syncs();
        self.state = State::Finished;
        Ok(Summary { path, bytes: self.written, blocks, totals, base, counters, syncs })
    }

    /// Does one thing with the open segment; its first error is the last thing that happens to it.
    fn step(
        &mut self,
        step: impl FnOnce(&mut Segment, &Counters) -> Result<(), Refused>,
    ) -> Result<(), WriteError> {
        let segment = match &mut self.state {
            State::Open(segment) => segment,
            State::Finished => return Err(self.stopped("it was finished".to_owned())),
            State::Failed(_, cause) => {
                let cause = cause.clone();
                return Err(self.stopped(cause));
            }
        };
        let result = step(segment, &self.counters);
        self.written = segment.sink.written();
        let Err(refused) = result else { return Ok(()) };
        let (path, offset) = (open_path(&self.path), self.written);
        match refused {
            Refused::TooLarge { bytes, limit } => Err(WriteError::TooLarge { bytes, limit }),
            Refused::Stalled(source) => Err(WriteError::Stalled { path, offset, source }),
            Refused::Unsynced(source) => Err(WriteError::Unsynced { path, source }),
            Refused::Io(source) => {
                if let State::Open(segment) = std::mem::replace(&mut self.state, State::Finished) {
                    self.state = State::Failed(segment, source.to_string());
                }
                Err(WriteError::Io { path, offset, source })
            }
        }
    }

    fn stopped(&self, cause: String) -> WriteError {
        WriteError::Stopped { path: open_path(&self.path), cause }
    }
}

impl Drop for Writer {
    /// Writes what is held; the file keeps its in-progress name and has no index. An error has nowhere to go.
    fn drop(&mut self) {
        if matches!(self.state, State::Open(_)) {
            let all = Nanos(u64::MAX);
            let _unheard = self.step(|segment, counters| segment.flush(all, counters));
        }
    }
}

// === impl Refused ===

impl From<io::Error> for Refused {
    fn from(source: io::Error) -> Self {
        Self::Io(source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Anchor;
    use crate::trace::Trace;
    use crate::trace::record::{DropReason, ExchangeId, Gap, Parts, Side, Span};
    use std::fs::OpenOptions;

    fn header() -> Header {
        Header {
            trace: [1; 16],
            segment: 0,
            anchor: Anchor(0),
            tick_ns: 1_000,
            tool: String::new(),
            listen: String::new(),
            upstreams: Vec::new(),
            redacted: Vec::new(),
            sampled_ppm: 1_000_000,
            policy: None,
        }
    }

    fn gap(exchanges: u64) -> Event {
        let (from, until) = (Nanos(1), Nanos(2));
        let reason = DropReason::QueueFull;
        Event::Gap(Gap { from, until, reason, exchanges, frames: 0, bytes: 0 })
    }

    fn frame(exchange: u64, text: &str) -> Event {
        Event::Frame(crate::trace::record::Frame {
            exchange: ExchangeId(exchange),
            side: Side::Response,
            at: Nanos(4_000),
            accepted: Nanos(5_000),
            data: text.to_owned().into(),
        })
    }

    /// Exchanges the file for one on a full disk; returns the one before.
    fn fill_the_disk(writer: &mut Writer) -> std::fs::File {
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let State::Open(segment) = &mut writer.state else { panic!("it is open") };
        segment.sink.replace_file(full)
    }

    #[test]
    fn a_disk_that_is_full_for_a_while_costs_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.trace");
        let mut writer = Writer::create(&path, header(), WriterOptions::default()).unwrap();
        writer.append(gap(3)).unwrap();
        writer.flush(Nanos(3)).unwrap();
        let before = writer.written_bytes();
        let file = fill_the_disk(&mut writer);
        writer.append(gap(4)).unwrap();
        let error = writer.flush(Nanos(5)).unwrap_err();
        assert!(matches!(error, WriteError::Stalled { .. }), "{error}");
        assert!(error.to_string().contains("a.trace.open at byte"), "{error}");
        writer.append(gap(5)).unwrap();
        assert!(matches!(writer.flush(Nanos(6)), Err(WriteError::Stalled { .. })));
        assert_eq!(writer.written_bytes(), before);
        let State::Open(segment) = &mut writer.state else { panic!("it is open") };
        let _full = segment.sink.replace_file(file);
        writer.flush(Nanos(7)).unwrap();
        assert_eq!(writer.finish().unwrap().counters.admitted, 12);
        let trace = Trace::open(&path).unwrap();
        assert!(trace.health().complete && trace.health().counters.admitted == 12);
        assert_eq!(trace.scan().unwrap().count(), 3);
    }

    #[test]
    fn a_segment_that_is_given_up_leaves_its_events_and_says_which_frames_are_lost() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.trace");
        let mut writer = Writer::create(&path, header(), WriterOptions::default()).unwrap();
        writer.append(gap(3)).unwrap();
        writer.append(frame(1, "on disk")).unwrap();
        writer.flush(Nanos(3)).unwrap();
        let _file = fill_the_disk(&mut writer);
        writer.append(gap(4)).unwrap();
        writer.append(frame(1, "lost")).unwrap();
        assert!(writer.flush(Nanos(5)).is_err());
        writer.append(frame(1, "this too")).unwrap();
        writer.append(frame(2, &"large".repeat(1_000))).unwrap();
        writer.append(gap(5)).unwrap();
        let legacy = writer.give_up();
        assert_eq!(legacy.events, [gap(4), gap(5)]);
        assert_eq!(legacy.counters.admitted, 3, "what is on disk");
        assert_eq!(legacy.lost.sum(), crate::trace::Frames { count: 3, bytes: 4 + 8 + 5_000 });
        let trace = Trace::open(&open_path(&path)).unwrap();
        assert_eq!(trace.health().counters.admitted, 3);
        assert_eq!(trace.scan().unwrap().filter(|event| event.is_ok()).count(), 2);
    }

    #[test]
    fn a_name_that_is_taken_stays_taken() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.trace");
        std::fs::write(&path, "precious").unwrap();
        let error = Writer::create(&path, header(), WriterOptions::default()).unwrap_err();
        assert!(matches!(error, WriteError::Exists { .. }));
        std::fs::remove_file(&path).unwrap();
        let writer = Writer::create(&path, header(), WriterOptions::default()).unwrap();
        std::fs::write(&path, "precious").unwrap();
        assert!(writer.finish().unwrap_err().to_string().contains("can't write"));
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
        assert!(open_path(&path).exists(), "the trace stays under its in-progress name");
    }

    #[test]
    fn an_event_that_is_too_large_is_left_out_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.trace");
        let mut writer = Writer::create(&path, header(), WriterOptions::default()).unwrap();
        let fault = crate::trace::record::Fault {
            side: crate::trace::record::FaultSide::Local,
            kind: crate::trace::record::FaultKind::Other,
            text: "x".repeat(9 << 20),
        };
        let end = crate::trace::record::End {
            exchange: ExchangeId(1),
            at: Nanos(1),
            outcome: crate::trace::record::Outcome::Failed,
            fault: Some(fault),
            request: Default::default(),
            response: Default::default(),
        };
        let error = writer.append(Event::End(Box::new(end))).unwrap_err();
        assert!(matches!(error, WriteError::TooLarge { .. }), "{error}");
        writer.append(gap(1)).unwrap();
        assert_eq!(
            writer.finish().unwrap().counters,
            Counters { failed: 0, admitted: 1, dropped_queue_full: 1, ..Counters::default() }
        );
    }

    /// Small and large ones, of both sides: some go into a block as they are, some to pieces.
    #[test]
    fn frames_that_came_together_are_read_back_as_those_that_came_one_by_one() {
        let texts = ["data: one\n\n", "", "data: two\n\n", &"large".repeat(2_000), "data: two\n\n"];
        let mut start = 0;
        let spans = texts.map(|text| {
            start += text.len();
            Span { start: start - text.len(), len: text.len() }
        });
        let bytes = texts.concat().into_bytes();
        let write = |is_together: bool| {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("a.trace");
            let mut writer = Writer::create(&path, header(), WriterOptions::default()).unwrap();
            for (side, parts) in [
                (Side::Request, Parts::new(&bytes, &spans[..3])),
                (Side::Response, Parts::new(&bytes, &spans[..3])),
                (Side::Response, Parts::new(&bytes, &spans)),
            ] {
                let (at, accepted) = (Nanos(4_000), Nanos(5_000));
                let exchange = ExchangeId(1);
                let frames = FramesRef { exchange, side, at, accepted, parts };
                if is_together {
                    writer.append_frames(frames).unwrap();
                } else {
                    for frame in frames.iter() {
                        writer.append_frames(frame.alone(&mut Span::default())).unwrap();
                    }
                }
            }
            let totals = writer.finish().unwrap().totals;
            let events = Trace::open(&path).unwrap().scan().unwrap().map(Result::unwrap);
            (totals.frames, totals.body_bytes, events.collect::<Vec<_>>())
        };
        let together = write(true);
        assert_eq!(together, write(false));
        assert_eq!(together.0, 11);
    }

    #[test]
    fn a_writer_that_is_behind_compresses_less_and_says_so() {
        let write = |pressure: Pressure| {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("a.trace");
            let mut writer = Writer::create(&path, header(), WriterOptions::default()).unwrap();
            writer.set_pressure(pressure);
            for n in 0..2_000 {
                writer.append(gap(n)).unwrap();
            }
            writer.finish().unwrap()
        };
        let (calm, hurried) = (write(Pressure::None), write(Pressure::High));
        assert_eq!(calm.totals.hurried_bytes, 0);
        assert!(hurried.totals.hurried_bytes > 10_000 && hurried.bytes > calm.bytes);
    }
}
