//! Opens traces: a closed file, one that is being written or was cut (`.open`), or a folder of segments.
//!
//! A closed file is opened by its index. Any other is read through once, and the index is rebuilt. [`Trace::request`] and
//! [`Trace::exchange`] read single exchanges and are quick in start order; [`Trace::scan`] reads everything once.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::trace::assemble::{Assembler, Exchange, Part};
use crate::trace::bare::BareCursor;
use crate::trace::batch::{Loss, LossCause};
use crate::trace::entries::{Entry, count, entries};
use crate::trace::envelope::{ReadOptions, is_sealed};
use crate::trace::error::TraceError;
use crate::trace::format::{FormatVersion, VERSION};
use crate::trace::index::Totals;
use crate::trace::library::{Extent, Library, Shelf};
use crate::trace::open::SegmentInfo;
use crate::trace::paths::{lost_sequel, segment_paths, sequels};
use crate::trace::record::{Counters, Event, ExchangeId, Gap, Header};
use crate::trace::resolve::{Resolver, RunCursor};
use crate::trace::scan::Scan;

/// An opened trace.
#[derive(Debug)]
pub struct Trace {
    segments: Arc<[SegmentInfo]>,
    header: Header,
    health: Health,
    /// Exchanges in it.
    exchanges: usize,
    library: Library,
}

/// What a trace says of itself.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Health {
    /// Whether every segment was closed and nothing is known to be lost.
    pub complete: bool,
    /// Version of the format that it was written in.
    #[serde(serialize_with = "as_text")]
    pub version: FormatVersion,
    /// Whether any of the files is encrypted.
    pub encrypted: bool,
    /// The latest counters.
    pub counters: Counters,
    /// What is missing in the files, and where.
    pub losses: Vec<Loss>,
    /// What could not be recorded. Known only of traces that were cut; a scan gives them for any.
    #[serde(skip)]
    pub gaps: Vec<Gap>,
    /// What the segments amount to; rebuilt ones count blocks, exchanges and frames.
    #[serde(skip)]
    pub totals: Totals,
    /// Bytes of the files.
    pub bytes: u64,
}

/// What one segment says of itself.
#[derive(Clone, Copy, Debug)]
pub struct FileHealth<'a> {
    /// Where it is.
    pub path: &'a Path,
    /// Its number in the trace.
    pub segment: u32,
    /// Its size in bytes.
    pub bytes: u64,
    /// The counters at its end, which go on from those of the segments before.
    pub counters: Counters,
    /// What is missing in it, and where.
    pub losses: &'a [Loss],
}

// === impl Trace ===

impl Trace {
    /// Opens a trace that is not encrypted.
    ///
    /// # Errors
    /// There is none, or no part of it can be read. Damage is no error: see [`Self::health`].
    pub fn open(path: &Path) -> Result<Self, TraceError> {
        Self::open_with(path, &ReadOptions::default())
    }

    /// Opens a trace.
    ///
    /// # Errors
    /// There is none, or no part of it can be read, for want of an identity too. Damage is no error: see
    /// [`Self::health`].
    pub fn open_with(path: &Path, options: &ReadOptions) -> Result<Self, TraceError> {
        let (mut trace, unreadable) = Self::open_readable(path, options)?;
        for (_, error) in unreadable {
            // The recorder was killed when it had just begun it: beside others that is no reason not to read these.
            let TraceError::Empty { len, .. } = error else { return Err(error) };
            let (segment, cause) = (trace.segments.len(), LossCause::Unfinished);
            let what = error.to_string();
            trace.health.complete = false;
            trace.health.losses.push(Loss { segment, from: len, until: len, cause, what });
        }
        Ok(trace)
    }

    /// Opens what can be opened of a trace, and returns each file that can't be, with the reason.
    ///
    /// # Errors
    /// There is none, or no part of it can be read.
    pub(crate) fn open_readable(
        path: &Path,
        options: &ReadOptions,
    ) -> Result<(Self, Vec<(PathBuf, TraceError)>), TraceError> {
        let (mut segments, mut unreadable) = (Vec::new(), Vec::new());
        for path in segment_paths(path)? {
            match SegmentInfo::open(path.clone(), options) {
                Ok(segment) => segments.push(segment),
                Err(error) => unreadable.push((path, error)),
            }
        }
        for path in sequels(path) {
            // Only the name says that the trace may go on here.
            let Some(first) = segments.first_mut() else { break };
            match SegmentInfo::open(path.clone(), options) {
                Ok(sequel) if first.header.trace == sequel.header.trace => segments.push(sequel),
                Ok(_of_another_trace) => {}
                Err(error) => first.losses.extend(lost_sequel(&path, first.len, &error)),
            }
        }
        segments.sort_by_key(|segment| segment.header.segment);
        let header = match segments.first() {
            Some(first) => first.header.clone(),
            None if unreadable.is_empty() => {
                return Err(TraceError::NoSegments { path: path.to_owned() });
            }
            None => return Err(unreadable.swap_remove(0).1),
        };
        let is_other = |segment: &mut SegmentInfo| segment.header.trace != header.trace;
        unreadable.extend(
            segments
                .extract_if(.., is_other)
                .map(|segment| (segment.path.clone(), TraceError::Mixed { path: segment.path })),
        );
        let health = health(&segments);
        let exchanges = count(&segments);
        let segments: Arc<[SegmentInfo]> = segments.into();
        let library = Library::new(Arc::clone(&segments));
        Ok((Self { segments, header, health, exchanges, library }, unreadable))
    }

    /// Returns the header of the first segment.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Returns what is known of the trace's health without reading all of it.
    #[must_use]
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// Returns how many exchanges it holds something of.
    #[must_use]
    pub fn exchanges(&self) -> usize {
        self.exchanges
    }

    /// Returns what is known of each exchange, in start order. The list is made for each call, of 48 bytes an exchange: the
    /// trace itself holds a quarter of that.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        entries(&self.segments)
    }

    /// Returns whether a file of the trace at `path` is encrypted; no identity is needed to tell.
    ///
    /// # Errors
    /// A file can't be read.
    pub fn is_encrypted(path: &Path) -> Result<bool, TraceError> {
        for path in segment_paths(path)?.into_iter().chain(sequels(path)) {
            let failed = |source| TraceError::Io { path: path.clone(), source };
            if is_sealed(&mut File::open(&path).map_err(failed)?).map_err(failed)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Returns the paths of the segments, in order.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.segments.iter().map(|segment| segment.path.as_path())
    }

    /// Returns what is known of each segment's health without reading all of it, in order.
    pub fn files(&self) -> impl Iterator<Item = FileHealth<'_>> {
        self.segments.iter().map(|segment| FileHealth {
            path: &segment.path,
            segment: segment.header.segment,
            bytes: segment.len,
            counters: segment.counters,
            losses: &segment.losses,
        })
    }

    /// Returns the numbers of segments that are not there, though earlier and later ones are: the first thousand.
    #[must_use]
    pub fn missing_segments(&self) -> Vec<u32> {
        let numbers: Vec<u32> = self.files().map(|file| file.segment).collect();
        let between = |pair: &[u32]| pair[0].saturating_add(1)..pair[1];
        numbers.windows(2).flat_map(between).take(1_000).collect()
    }

    /// Reads the request of an exchange: head, body, trailers. None when it is not in the trace, or its head is lost.
    ///
    /// # Errors
    /// A file can't be read.
    pub fn request(&mut self, id: ExchangeId) -> Result<Option<Exchange>, TraceError> {
        self.read(id, Extent::Request)
    }

    /// Reads an exchange whole. None when it is not in the trace, or its request head is lost.
    ///
    /// # Errors
    /// A file can't be read.
    pub fn exchange(&mut self, id: ExchangeId) -> Result<Option<Exchange>, TraceError> {
        self.read(id, Extent::Whole)
    }

    /// Begins to read every event in file order, in flat memory. The scan has its own file handles and may move to
    /// another thread.
    ///
    /// # Errors
    /// A file can't be opened.
    pub fn scan(&self) -> Result<Scan, TraceError> {
        Scan::new(Arc::clone(&self.segments))
    }

    /// Returns another reader of the same trace: what was learned when it was opened is shared, what is read is not.
    #[must_use]
    pub fn sibling(&self) -> Self {
        Self {
            segments: Arc::clone(&self.segments),
            header: self.header.clone(),
            health: self.health.clone(),
            exchanges: self.exchanges,
            library: Library::new(Arc::clone(&self.segments)),
        }
    }

    /// Returns the BLAKE3 of the files' bytes in order, in hex.
    ///
    /// # Errors
    /// A file can't be read.
    pub fn digest(&self) -> Result<String, TraceError> {
        let mut hasher = blake3::Hasher::new();
        for segment in self.segments.iter() {
            let failed = |source| TraceError::Io { path: segment.path.clone(), source };
            let file = segment.file().map_err(failed)?;
            hasher.update_reader(file).map_err(failed)?;
        }
        Ok(hasher.finalize().to_hex().to_string())
    }

    fn read(&mut self, id: ExchangeId, extent: Extent) -> Result<Option<Exchange>, TraceError> {
        let mut assembler = Assembler::default();
        for segment in self.library.segments_of(id) {
            let Some(place) = self.library.place(segment, id) else { continue };
            let info = &self.segments[segment];
            let until = match extent {
                Extent::Request => place.request_last,
                Extent::Whole => place.last,
            };
            let mut resolver = Resolver::new(info.header.tick_ns, false);
            let from = info.chapters.partition_point(|(ordinal, _)| *ordinal < place.first);
            let ordinals: Vec<u32> = info.chapters[from..]
                .iter()
                .map(|(ordinal, _)| *ordinal)
                .take_while(|ordinal| *ordinal <= until)
                .collect();
            for ordinal in ordinals {
                let chapter = self.library.chapter(segment, ordinal, extent)?;
                for part in chapter.parts(id).filter(|part| extent.holds(part)) {
                    let mut shelf = Shelf { library: &mut self.library, segment, extent };
                    let ended = hand_out(
                        part,
                        info.header.tick_ns,
                        &mut resolver,
                        &mut shelf,
                        &mut assembler,
                    )?;
                    if let Some(exchange) = ended {
                        self.note_losses();
                        return Ok(Some(exchange));
                    }
                }
            }
        }
        self.note_losses();
        Ok(assembler.finish().pop())
    }

    /// Takes over damage that was met while reading.
    fn note_losses(&mut self) {
        for loss in self.library.losses.drain(..) {
            self.health.complete = false;
            if !self.health.losses.contains(&loss) {
                self.health.losses.push(loss);
            }
        }
    }
}

fn as_text<S: serde::Serializer>(version: &FormatVersion, out: S) -> Result<S::Ok, S::Error> {
    out.collect_str(version)
}

/// Hands one part of an exchange to the assembler.
fn hand_out(
    part: &Part,
    tick_ns: u32,
    resolver: &mut Resolver,
    shelf: &mut Shelf<'_>,
    assembler: &mut Assembler,
) -> Result<Option<Exchange>, TraceError> {
    match part {
        Part::Event(event) => return Ok(assembler.push(event.clone())),
        Part::Pieces(pieces) => resolver.pieces(pieces.clone()),
        Part::Run(run) => {
            let mut cursor = RunCursor::new(run.clone());
            while let Some(frame) = resolver.frame(&mut cursor, shelf)? {
                assembler.push(Event::Frame(frame));
            }
        }
        Part::Bare(run) => {
            let mut cursor = BareCursor::new(run.clone());
            while let Some(frame) = cursor.next(tick_ns) {
                assembler.push(Event::Bare(frame));
            }
        }
    }
    Ok(None)
}

fn health(segments: &[SegmentInfo]) -> Health {
    let mut health = Health {
        complete: true,
        version: VERSION,
        encrypted: false,
        counters: Counters::default(),
        losses: Vec::new(),
        gaps: Vec::new(),
        totals: Totals::default(),
        bytes: 0,
    };
    for (idx, segment) in segments.iter().enumerate() {
        health.complete &= segment.closed && segment.losses.is_empty();
        health.version = segment.version;
        health.encrypted |= segment.key.is_some();
        health.counters = segment.counters;
        health
            .losses
            .extend(segment.losses.iter().map(|loss| Loss { segment: idx, ..loss.clone() }));
        health.gaps.extend(&segment.gaps);
        health.totals.add(&segment.totals);
        health.bytes += segment.len;
    }
    health
}
