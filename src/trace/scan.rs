//! Reads every event of a trace once, in file order, in flat memory.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read as _, Take};
use std::sync::Arc;

use crate::trace::assemble::{Part, parts};
use crate::trace::bare::BareCursor;
use crate::trace::batch::{Batch, Loss, Step};
use crate::trace::decoder::Decoder;
use crate::trace::error::TraceError;
use crate::trace::library::{Extent, Library, Shelf};
use crate::trace::open::SegmentInfo;
use crate::trace::record::{Counters, Event};
use crate::trace::resolve::{Missing, Resolver, RunCursor};

/// Iterates over every event of a trace.
///
/// Damage is passed over and told by [`Scan::losses`]. Events of an exchange come in the order in which they happened on
/// their side; the frames of a side before its trailers and before the exchange's end.
#[derive(Debug)]
pub struct Scan {
    segments: Arc<[SegmentInfo]>,
    library: Library,
    /// The segment being read.
    segment: usize,
    open: Option<Open>,
    losses: Vec<Loss>,
    missing: Missing,
    counters: Option<Counters>,
    unknown: u64,
    check: bool,
    failed: bool,
}

#[derive(Debug)]
struct Open {
    /// Up to where it was when the trace was opened: a file that is being written goes on.
    file: Take<File>,
    buffer: Vec<u8>,
    decoder: Decoder,
    at_end: bool,
    resolver: Resolver,
    parts: VecDeque<Part>,
    run: Option<RunCursor>,
    bare: Option<BareCursor>,
}

/// Bytes that are read at once.
const READ: usize = 256 << 10;

// === impl Scan ===

impl Scan {
    pub(crate) fn new(segments: Arc<[SegmentInfo]>) -> Result<Self, TraceError> {
        let library = Library::new(Arc::clone(&segments));
        let mut scan = Self {
            segments,
            library,
            segment: 0,
            open: None,
            losses: Vec::new(),
            missing: Missing::default(),
            counters: None,
            unknown: 0,
            check: false,
            failed: false,
        };
        scan.open_segment()?;
        Ok(scan)
    }

    /// Also checks bodies against their digests.
    #[must_use]
    pub fn checked(mut self) -> Self {
        self.check = true;
        if let Some(open) = &mut self.open {
            open.resolver = Resolver::new(self.segments[self.segment].header.tick_ns, true);
        }
        self
    }

    /// Returns the damage met so far.
    #[must_use]
    pub fn losses(&self) -> &[Loss] {
        &self.losses
    }

    /// Returns what could not be put together so far.
    #[must_use]
    pub fn missing(&self) -> Missing {
        let mut missing = self.missing;
        if let Some(open) = &self.open {
            missing.add(open.resolver.missing);
        }
        missing
    }

    /// Returns the counters of the last block read, if any.
    #[must_use]
    pub fn counters(&self) -> Option<Counters> {
        self.counters
    }

    /// Returns the number of records met of kinds that this program does not know.
    #[must_use]
    pub fn unknown(&self) -> u64 {
        self.unknown
    }

    /// Returns the place of the segment being read in the list of segments.
    pub(crate) fn segment(&self) -> usize {
        self.segment
    }

    fn open_segment(&mut self) -> Result<(), TraceError> {
        let Some(info) = self.segments.get(self.segment) else { return Ok(()) };
        let failed = |source| TraceError::Io { path: info.path.clone(), source };
        self.open = Some(Open {
            file: info.file().map_err(failed)?.take(info.len),
            buffer: vec![0; READ],
            decoder: Decoder::new(info.key.clone()).map_err(failed)?,
            at_end: false,
            resolver: Resolver::new(info.header.tick_ns, self.check),
            parts: VecDeque::new(),
            run: None,
            bare: None,
        });
        Ok(())
    }

    fn step(&mut self) -> Result<Option<Event>, TraceError> {
        loop {
            let segment = self.segment;
            let Some(open) = &mut self.open else { return Ok(None) };
            let mut shelf = Shelf { library: &mut self.library, segment, extent: Extent::Request };
            if let Some(cursor) = &mut open.run {
                if let Some(frame) = open.resolver.frame(cursor, &mut shelf)? {
                    return Ok(Some(Event::Frame(frame)));
                }
                open.run = None;
            }
            if let Some(cursor) = &mut open.bare {
                if let Some(frame) = cursor.next(self.segments[segment].header.tick_ns) {
                    return Ok(Some(Event::Bare(frame)));
                }
                open.bare = None;
            }
            match open.parts.pop_front() {
                Some(Part::Event(event)) => {
                    if let Event::End(end) = &event {
                        open.resolver.end(end.exchange, &mut shelf)?;
                    }
                    return Ok(Some(event));
                }
                Some(Part::Pieces(pieces)) => open.resolver.pieces(pieces),
                Some(Part::Run(run)) => open.run = Some(RunCursor::new(run)),
                Some(Part::Bare(run)) => open.bare = Some(BareCursor::new(run)),
                None => {
                    if !self.refill()? {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// Reads the next block; false after the last.
    fn refill(&mut self) -> Result<bool, TraceError> {
        let Some(open) = &mut self.open else { return Ok(false) };
        let path = &self.segments[self.segment].path;
        match open.decoder.next(open.at_end) {
            Ok(Step::More) if open.at_end => {
                self.missing.add(open.resolver.missing);
                self.open = None;
                self.segment += 1;
                self.open_segment()?;
                return Ok(self.open.is_some());
            }
            Ok(Step::More) => {
                let read = open
                    .file
                    .read(&mut open.buffer)
                    .map_err(|source| TraceError::Io { path: path.clone(), source })?;
                open.decoder.push(&open.buffer[..read]);
                open.at_end = read == 0;
            }
            Ok(Step::Block(batch)) => self.take(*batch),
            Ok(Step::Loss(loss)) => self.losses.push(Loss { segment: self.segment, ..loss }),
            Err(why) => {
                return Err(TraceError::NotReadable { path: path.clone(), why: why.to_string() });
            }
        }
        Ok(true)
    }

    fn take(&mut self, mut batch: Batch) {
        self.unknown += batch.unknown;
        self.counters = batch.counters.or(self.counters);
        self.library.keep(self.segment, batch.first_blob, std::mem::take(&mut batch.blobs));
        if let Some(open) = &mut self.open {
            open.parts.extend(parts(batch));
        }
    }
}

impl Iterator for Scan {
    type Item = Result<Event, TraceError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let step = self.step();
        self.failed = step.is_err();
        step.transpose()
    }
}

// === impl Missing ===

impl Missing {
    fn add(&mut self, other: Self) {
        self.frames += other.frames;
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.digests += other.digests;
    }
}
