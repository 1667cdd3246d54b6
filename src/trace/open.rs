//! Opens one file of a trace: by its index, or by reading all of it and rebuilding the index.

use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::clock::{Anchor, Nanos};
use crate::trace::assemble::{Part, parts};
use crate::trace::batch::{Batch, Loss, LossCause, Step};
use crate::trace::decoder::Decoder;
use crate::trace::envelope::{Access, ReadOptions, access};
use crate::trace::error::TraceError;
use crate::trace::format::{END_MAGIC, FormatVersion, MAGIC_LEN, NotReadable, TAIL_LEN, VERSION};
use crate::trace::index::{Chapter, Place, Totals};
use crate::trace::places::Places;
use crate::trace::record::{Counters, Event, ExchangeId, Gap, Header, Side};
use crate::trace::seal::{DataKey, SEALED_OFFSET_LEN};
use crate::trace::wire::len_u64;

/// One file of a trace.
#[derive(Debug)]
pub(crate) struct SegmentInfo {
    pub(crate) path: PathBuf,
    pub(crate) len: u64,
    inode: Inode,
    pub(crate) header: Header,
    pub(crate) version: FormatVersion,
    /// What it is encrypted with.
    pub(crate) key: Option<Arc<DataKey>>,
    /// Its zstd frames by number.
    pub(crate) chapters: Vec<(u32, Chapter)>,
    /// Its exchanges by id.
    pub(crate) places: Places,
    /// Whether it was closed properly.
    pub(crate) closed: bool,
    pub(crate) counters: Counters,
    pub(crate) totals: Totals,
    pub(crate) losses: Vec<Loss>,
    pub(crate) gaps: Vec<Gap>,
    /// How far it was read.
    pub(crate) until: u64,
}

/// Device and number of a file: what tells it from another of the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Inode(u64, u64);

/// What has been learned of a file so far.
#[derive(Debug, Default)]
struct Survey {
    key: Option<Arc<DataKey>>,
    header: Option<(FormatVersion, Header)>,
    /// What an index says of its exchanges, as long as it is in order.
    indexed: Places,
    /// What is rebuilt, or was out of order.
    places: BTreeMap<ExchangeId, Place>,
    chapters: Vec<(u32, Chapter)>,
    footer: bool,
    closed: bool,
    counters: Counters,
    totals: Totals,
    losses: Vec<Loss>,
    gaps: Vec<Gap>,
    blocks: u64,
    until: u64,
}

/// How far to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extent {
    Header,
    Summary,
    All,
}

/// Bytes that are read at once.
const READ: usize = 256 << 10;

// === impl SegmentInfo ===

impl SegmentInfo {
    /// Opens a file.
    pub(crate) fn open(path: PathBuf, options: &ReadOptions) -> Result<Self, TraceError> {
        let failed = |source| TraceError::Io { path: path.clone(), source };
        let mut file = File::open(&path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        let (len, inode) = (metadata.len(), Inode::of(&metadata));
        let is_open = path.extension().is_some_and(|extension| extension == "open");
        if is_open && len < len_u64(MAGIC_LEN) {
            return Err(TraceError::Empty { path, len });
        }
        let access = access(&mut file, &options.identities).map_err(failed)?;
        let key = key(access, &path, len, options)?;
        let mut survey = Survey::new(key.clone());
        let mut astray = None;
        if let Some(summary) = summary_offset(&mut file, len, key.as_deref()).map_err(failed)? {
            survey.read(&path, &mut file, 0, Extent::Header)?;
            // A damaged tail may name a place that no file has.
            survey.read(&path, &mut file, summary.min(len), Extent::Summary)?;
            if survey.header.is_some() && survey.footer && survey.losses.is_empty() {
                return survey.finish(path, len, inode);
            }
            survey = Survey::new(key);
            astray = Some(summary);
        }
        survey.read(&path, &mut file, 0, Extent::All)?;
        if let Some(summary) = astray.filter(|_| survey.losses.is_empty()) {
            let what = format!(
                "the tail says that the summary starts at byte {summary}, which it does not"
            );
            survey.losses.push(Loss {
                segment: 0,
                from: len - len_u64(TAIL_LEN),
                until: len,
                cause: LossCause::Damaged,
                what,
            });
        }
        survey.finish(path, len, inode)
    }

    /// Opens the file again, to read what is in it: an error if another has its name by now, in which nothing is where it was.
    pub(crate) fn file(&self) -> io::Result<File> {
        let file = File::open(&self.path)?;
        if Inode::of(&file.metadata()?) == self.inode {
            return Ok(file);
        }
        Err(io::Error::other("it was replaced while it was read: open the trace again"))
    }
}

/// Returns the key that a segment is to be read with.
fn key(
    access: Access,
    path: &Path,
    len: u64,
    options: &ReadOptions,
) -> Result<Option<Arc<DataKey>>, TraceError> {
    let path = path.to_owned();
    match access {
        Access::Plain => Ok(None),
        Access::Key(key) => Ok(Some(key)),
        Access::Locked { recipients } => {
            Err(TraceError::Locked { path, recipients, identities: options.identities.len() })
        }
        Access::Empty => Err(TraceError::Empty { path, len }),
        Access::Lost(why) => Err(TraceError::NotReadable { path, why: why.to_owned() }),
    }
}

/// Returns where the summary of a closed segment starts, as its tail says.
fn summary_offset(file: &mut File, len: u64, key: Option<&DataKey>) -> io::Result<Option<u64>> {
    if let Some(key) = key {
        return sealed_summary_offset(file, len, key);
    }
    let tail_len = len_u64(TAIL_LEN);
    if len < tail_len {
        return Ok(None);
    }
    let mut tail = [0; TAIL_LEN];
    file.seek(SeekFrom::Start(len - tail_len))?;
    file.read_exact(&mut tail)?;
    let [a, b, c, d, e, f, g, h, end @ ..] = tail;
    let offset = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
    Ok((end == END_MAGIC).then_some(offset))
}

/// As [`summary_offset`], for an encrypted segment.
fn sealed_summary_offset(file: &mut File, len: u64, key: &DataKey) -> io::Result<Option<u64>> {
    const LEN: usize = SEALED_OFFSET_LEN + END_MAGIC.len();
    let mut tail = [0; LEN];
    let Some(from) = len.checked_sub(len_u64(LEN)) else { return Ok(None) };
    file.seek(SeekFrom::Start(from))?;
    file.read_exact(&mut tail)?;
    let sealed = tail.first_chunk().filter(|_| tail.ends_with(&END_MAGIC));
    Ok(sealed.and_then(|sealed| key.open_offset(sealed)))
}

// === impl Survey ===

impl Survey {
    fn new(key: Option<Arc<DataKey>>) -> Self {
        Self { key, ..Self::default() }
    }

    fn read(
        &mut self,
        path: &Path,
        file: &mut File,
        from: u64,
        extent: Extent,
    ) -> Result<(), TraceError> {
        let failed = |source| TraceError::Io { path: path.to_owned(), source };
        file.seek(SeekFrom::Start(from)).map_err(failed)?;
        let mut decoder = match extent {
            Extent::Summary => Decoder::at(from, self.key.clone()),
            Extent::Header | Extent::All => Decoder::new(self.key.clone()),
        }
        .map_err(failed)?;
        let mut buffer = vec![0; READ];
        let mut at_end = false;
        loop {
            match decoder.next(at_end) {
                Ok(Step::More) if at_end => break,
                Ok(Step::More) => {
                    let read = file.read(&mut buffer).map_err(failed)?;
                    decoder.push(&buffer[..read]);
                    at_end = read == 0;
                }
                Ok(Step::Block(batch)) => {
                    self.block(*batch, extent);
                    if extent == Extent::Header {
                        return Ok(());
                    }
                }
                Ok(Step::Loss(loss)) => self.losses.push(loss),
                Err(why) => return Err(not_readable(path, &why)),
            }
        }
        self.closed = decoder.closed();
        self.until = decoder.offset();
        Ok(())
    }

    fn block(&mut self, mut batch: Batch, extent: Extent) {
        self.blocks += 1;
        if let Some(header) = batch.header.take() {
            self.header.get_or_insert(header);
        }
        if let Some(counters) = batch.counters {
            self.counters = counters;
        }
        if extent == Extent::Summary {
            for place in std::mem::take(&mut batch.places) {
                self.index(place);
            }
            self.chapters.extend((0..).zip(std::mem::take(&mut batch.chapters)));
        }
        if let Some(footer) = batch.footer {
            self.footer = true;
            self.counters = footer.counters;
            self.totals = footer.totals;
        } else if extent == Extent::All {
            self.rebuild(batch);
        }
    }

    /// Takes what an index says of an exchange. An index is in order of ids; another program's may not be.
    fn index(&mut self, place: Place) {
        if self.places.is_empty() && self.indexed.push(place) {
            return;
        }
        let before = std::mem::take(&mut self.indexed);
        self.places.extend(before.iter().map(|place| (place.id, place)));
        self.places.insert(place.id, place);
    }

    /// Rebuilds what the summary would say of a block.
    fn rebuild(&mut self, batch: Batch) {
        let tick_ns = self.header.as_ref().map_or(DEFAULT_TICK_NS, |(_, header)| header.tick_ns);
        if let Some(start) = batch.start {
            let chapter = Chapter { offset: batch.offset, first_blob: start.first_blob, raw: 0 };
            self.chapters.push((start.ordinal, chapter));
        }
        if let Some((_, chapter)) = self.chapters.last_mut() {
            chapter.raw += batch.raw;
        }
        let ordinal = batch.ordinal;
        self.totals.raw_bytes += batch.raw;
        self.totals.blobs += len_u64(batch.blobs.len());
        self.totals.blob_bytes +=
            batch.blobs.iter().map(|blob| len_u64(blob.bytes.len())).sum::<u64>();
        for part in parts(batch) {
            if let Part::Run(run) = &part {
                self.totals.frames += len_u64(run.frames.len());
                self.totals.body_bytes = run
                    .frames
                    .iter()
                    .fold(self.totals.body_bytes, |sum, frame| sum.saturating_add(frame.len));
            }
            let at = part.at(tick_ns);
            self.totals.until = self.totals.until.max(at.unwrap_or(Nanos::ZERO));
            let Some(id) = part.exchange() else {
                if let Part::Event(Event::Gap(gap)) = part {
                    self.gaps.push(gap);
                }
                continue;
            };
            let until = self.totals.until;
            let place = self.places.entry(id).or_insert_with(|| Place {
                id,
                at: at.unwrap_or(until),
                end: None,
                first: ordinal,
                request_last: ordinal,
                last: ordinal,
            });
            place.touch(ordinal, if part.is_request() { Side::Request } else { Side::Response });
            match &part {
                Part::Event(Event::Request(head)) => place.at = head.at,
                Part::Event(Event::End(end)) => place.end = Some((end.at, end.outcome)),
                _ => {}
            }
        }
    }

    fn finish(mut self, path: PathBuf, len: u64, inode: Inode) -> Result<SegmentInfo, TraceError> {
        let is_damaged = |loss: &Loss| loss.cause == LossCause::Damaged;
        if self.blocks == 0 && self.key.is_some() && self.losses.iter().any(is_damaged) {
            let why = "none of its blocks opens with the key in its envelope";
            return Err(TraceError::NotReadable { path, why: why.to_owned() });
        }
        if self.blocks == 0 {
            return Err(TraceError::Empty { path, len });
        }
        if !self.closed {
            let what = "the file was not closed: it is being written, or was cut; what came after is missing";
            self.losses.push(Loss {
                segment: 0,
                from: self.until,
                until: self.until,
                cause: LossCause::Unfinished,
                what: what.to_owned(),
            });
        }
        let (version, header) = self.header.unwrap_or_else(|| (VERSION, placeholder()));
        let places = match self.places.is_empty() {
            true => self.indexed.packed(),
            false => self.places.into_values().collect(),
        };
        self.totals.exchanges = len_u64(places.len());
        Ok(SegmentInfo {
            path,
            // A file that is being written may have grown meanwhile.
            len: len.max(self.until),
            inode,
            header,
            version,
            key: self.key,
            chapters: self.chapters,
            places,
            closed: self.closed,
            counters: self.counters,
            totals: self.totals,
            losses: self.losses,
            gaps: self.gaps,
            until: self.until,
        })
    }
}

// === impl Inode ===

impl Inode {
    fn of(metadata: &Metadata) -> Self {
        Self(metadata.dev(), metadata.ino())
    }
}

/// What stands for a header that is lost: times count from an unknown origin.
fn placeholder() -> Header {
    Header {
        trace: [0; 16],
        segment: 0,
        anchor: Anchor(0),
        tick_ns: DEFAULT_TICK_NS,
        tool: String::new(),
        listen: String::new(),
        upstreams: Vec::new(),
        redacted: Vec::new(),
        sampled_ppm: 1_000_000,
        policy: None,
    }
}

/// The tick that every writer so far has used.
const DEFAULT_TICK_NS: u32 = 1_000;

fn not_readable(path: &Path, why: &NotReadable) -> TraceError {
    TraceError::NotReadable { path: path.to_owned(), why: why.to_string() }
}
