//! Reads zstd frames of segments out of order, and remembers the last of them and of their blobs.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::trace::assemble::{Part, parts};
use crate::trace::batch::{Loss, Step};
use crate::trace::decoder::Decoder;
use crate::trace::error::TraceError;
use crate::trace::index::Place;
use crate::trace::open::SegmentInfo;
use crate::trace::pieces::Blob;
use crate::trace::record::ExchangeId;
use crate::trace::resolve::BlobSource;
use crate::trace::wire::len_u64;

/// The segments of a trace, by zstd frame and by blob.
#[derive(Debug)]
pub(crate) struct Library {
    segments: Arc<[SegmentInfo]>,
    spans: Spans,
    /// Unpacked shelves of the segments' places.
    places: Lru<(usize, usize), Arc<[Place]>>,
    chapters: Lru<(usize, u32, Extent), Arc<Loaded>>,
    /// What the costliest of these took so far.
    costliest: u64,
    blobs: Lru<(usize, u64), Blob>,
    /// Damage met so far.
    pub(crate) losses: Vec<Loss>,
}

/// The blobs of one segment.
pub(crate) struct Shelf<'a> {
    pub(crate) library: &'a mut Library,
    pub(crate) segment: usize,
    /// What else is wanted of the zstd frames that they are in.
    pub(crate) extent: Extent,
}

/// How much of an exchange is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Extent {
    Request,
    Whole,
}

/// A decoded zstd frame.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    /// What it holds of each exchange, in order, by exchange.
    parts: Vec<(ExchangeId, Part)>,
    blobs: BTreeMap<u64, Blob>,
    /// Bytes in memory, about.
    cost: u64,
}

/// What was used last, within a budget in bytes.
#[derive(Debug)]
struct Lru<K, V> {
    entries: BTreeMap<K, (V, u64, u64)>,
    uses: BTreeMap<u64, K>,
    clock: u64,
    held: u64,
    budget: u64,
}

/// Which segments may hold an exchange. One that runs on is in several that follow each other; a trace has thousands of segments.
#[derive(Debug, Default)]
struct Spans {
    /// The highest id up to each segment.
    highest: Vec<ExchangeId>,
    /// The lowest id from each segment on.
    lowest: Vec<ExchangeId>,
}

/// Bytes of unpacked places that are kept.
const PLACE_BUDGET: u64 = 2 << 20;
/// Bytes of decoded zstd frames that are kept.
const CHAPTER_BUDGET: u64 = 32 << 20;
/// Bytes of blobs that are kept.
const BLOB_BUDGET: u64 = 24 << 20;
/// Bytes that are read at once.
const READ: usize = 256 << 10;

// === impl Library ===

impl Library {
    pub(crate) fn new(segments: Arc<[SegmentInfo]>) -> Self {
        Self {
            spans: segments.iter().map(|segment| segment.places.range()).collect(),
            segments,
            places: Lru::new(PLACE_BUDGET),
            chapters: Lru::new(CHAPTER_BUDGET),
            costliest: 0,
            blobs: Lru::new(BLOB_BUDGET),
            losses: Vec::new(),
        }
    }

    /// Returns the segments that may hold something of an exchange.
    pub(crate) fn segments_of(&self, id: ExchangeId) -> Range<usize> {
        self.spans.of(id)
    }

    /// Returns where an exchange lies in a segment; none when nothing of it does.
    pub(crate) fn place(&mut self, segment: usize, id: ExchangeId) -> Option<Place> {
        let packed = &self.segments[segment].places;
        let number = packed.shelf_of(id)?;
        let shelf = self.places.get(&(segment, number)).unwrap_or_else(|| {
            let shelf: Arc<[Place]> = packed.shelf(number).into();
            let len = len_u64(size_of_val(&*shelf));
            self.places.put((segment, number), Arc::clone(&shelf), len);
            shelf
        });
        let idx = shelf.binary_search_by_key(&id, |place| place.id).ok()?;
        Some(shelf[idx])
    }

    /// Keeps blobs that were met in passing.
    pub(crate) fn keep(&mut self, segment: usize, first: u64, blobs: Vec<Blob>) {
        for (id, blob) in (first..).zip(blobs) {
            // A copy, since the original holds on to its whole block.
            let blob = Blob { bytes: Bytes::copy_from_slice(&blob.bytes), ..blob };
            let len = len_u64(blob.bytes.len());
            self.blobs.put((segment, id), blob, len);
        }
    }

    /// Returns zstd frame `ordinal` of a segment, with as much of it as is wanted at least; an empty one when it is lost.
    pub(crate) fn chapter(
        &mut self,
        segment: usize,
        ordinal: u32,
        extent: Extent,
    ) -> Result<Arc<Loaded>, TraceError> {
        for held in [extent, Extent::Whole] {
            if let Some(loaded) = self.chapters.get(&(segment, ordinal, held)) {
                return Ok(loaded);
            }
        }
        // Before and not after: who reads in order needs none of the earlier ones.
        self.chapters.make_room(self.costliest);
        let info = &self.segments[segment];
        let loaded = match info.chapters.binary_search_by_key(&ordinal, |chapter| chapter.0) {
            Ok(idx) => {
                let from = info.chapters[idx].1.offset;
                let until = info.chapters.get(idx + 1).map_or(info.len, |next| next.1.offset);
                let failed = |source| TraceError::Io { path: info.path.clone(), source };
                let (loaded, loss) = load(info, from, until, extent).map_err(failed)?;
                if let Some(loss) = loss {
                    let loss = Loss { segment, ..loss };
                    if !self.losses.contains(&loss) {
                        self.losses.push(loss);
                    }
                }
                loaded
            }
            Err(_) => Loaded::default(),
        };
        let loaded = Arc::new(loaded);
        self.costliest = self.costliest.max(loaded.cost);
        self.chapters.put((segment, ordinal, extent), Arc::clone(&loaded), loaded.cost.max(1));
        Ok(loaded)
    }

    fn blob(
        &mut self,
        segment: usize,
        id: u64,
        extent: Extent,
    ) -> Result<Option<Blob>, TraceError> {
        if let Some(blob) = self.blobs.get(&(segment, id)) {
            return Ok(Some(blob));
        }
        let chapters = &self.segments[segment].chapters;
        let after = chapters.partition_point(|(_, chapter)| chapter.first_blob <= id);
        let Some(idx) = after.checked_sub(1) else { return Ok(None) };
        let ordinal = chapters[idx].0;
        let loaded = self.chapter(segment, ordinal, extent)?;
        let Some(blob) = loaded.blobs.get(&id) else { return Ok(None) };
        // What follows is likely to be wanted next, but a copy of it all may be more than fits.
        self.keep(segment, id, vec![blob.clone()]);
        Ok(Some(blob.clone()))
    }
}

impl BlobSource for Shelf<'_> {
    type Error = TraceError;

    fn blob(&mut self, id: u64) -> Result<Option<Blob>, TraceError> {
        self.library.blob(self.segment, id, self.extent)
    }
}

/// Decodes what lies between two offsets, and keeps what is wanted of it; stops at damage.
fn load(
    info: &SegmentInfo,
    from: u64,
    until: u64,
    extent: Extent,
) -> io::Result<(Loaded, Option<Loss>)> {
    let mut file = info.file()?;
    file.seek(SeekFrom::Start(from))?;
    let mut file = file.take(until.saturating_sub(from));
    let mut decoder = Decoder::at(from, info.key.clone())?;
    let mut loaded = Loaded::default();
    let mut buffer = vec![0; READ];
    let mut at_end = false;
    loop {
        match decoder.next(at_end) {
            Ok(Step::More) if at_end => return Ok((loaded.sorted(), None)),
            Ok(Step::More) => {
                let read = file.read(&mut buffer)?;
                decoder.push(&buffer[..read]);
                at_end = read == 0;
            }
            Ok(Step::Block(batch)) => {
                loaded.cost += batch.raw;
                for (id, blob) in (batch.first_blob..).zip(&batch.blobs) {
                    loaded.blobs.insert(id, blob.clone());
                }
                for part in parts(*batch).into_iter().filter(|part| extent.holds(part)) {
                    loaded.cost += part.cost();
                    if let Some(id) = part.exchange() {
                        loaded.parts.push((id, part));
                    }
                }
            }
            Ok(Step::Loss(loss)) => return Ok((loaded.sorted(), Some(loss))),
            Err(why) => return Err(io::Error::other(why)),
        }
    }
}

// === impl Spans ===

impl Spans {
    fn of(&self, id: ExchangeId) -> Range<usize> {
        let first = self.highest.partition_point(|highest| *highest < id);
        first..self.lowest.partition_point(|lowest| *lowest <= id).max(first)
    }
}

impl FromIterator<Option<(ExchangeId, ExchangeId)>> for Spans {
    /// Collects the lowest and the highest id of each segment; none of one that holds no exchange.
    fn from_iter<I: IntoIterator<Item = Option<(ExchangeId, ExchangeId)>>>(ranges: I) -> Self {
        let (mut lowest, mut highest) = (Vec::new(), Vec::new());
        let mut so_far = ExchangeId(0);
        for range in ranges {
            so_far = so_far.max(range.map_or(so_far, |(_, highest)| highest));
            highest.push(so_far);
            lowest.push(range.map_or(ExchangeId(u64::MAX), |(lowest, _)| lowest));
        }
        let mut from_here = ExchangeId(u64::MAX);
        for id in lowest.iter_mut().rev() {
            from_here = from_here.min(*id);
            *id = from_here;
        }
        Self { highest, lowest }
    }
}

// === impl Extent ===

impl Extent {
    /// Returns whether a part is among what is wanted.
    pub(crate) fn holds(self, part: &Part) -> bool {
        self == Self::Whole || part.is_request()
    }
}

// === impl Loaded ===

impl Loaded {
    /// Returns what it holds of an exchange, in order.
    pub(crate) fn parts(&self, id: ExchangeId) -> impl Iterator<Item = &Part> {
        let from = self.parts.partition_point(|(of, _)| *of < id);
        self.parts[from..].iter().take_while(move |(of, _)| *of == id).map(|(_, part)| part)
    }

    fn sorted(mut self) -> Self {
        // Stable: what belongs to one exchange stays in order.
        self.parts.sort_by_key(|(of, _)| *of);
        self.parts.shrink_to_fit();
        self
    }
}

// === impl Lru ===

impl<K: Ord + Clone, V: Clone> Lru<K, V> {
    fn new(budget: u64) -> Self {
        Self { entries: BTreeMap::new(), uses: BTreeMap::new(), clock: 0, held: 0, budget }
    }

    fn get(&mut self, key: &K) -> Option<V> {
        let (value, _, used) = self.entries.get_mut(key)?;
        self.uses.remove(used);
        self.clock += 1;
        *used = self.clock;
        self.uses.insert(self.clock, key.clone());
        Some(value.clone())
    }

    fn put(&mut self, key: K, value: V, len: u64) {
        self.clock += 1;
        if let Some((_, old, used)) = self.entries.insert(key.clone(), (value, len, self.clock)) {
            self.uses.remove(&used);
            self.held -= old;
        }
        self.uses.insert(self.clock, key);
        self.held += len;
        while self.held > self.budget && self.entries.len() > 1 && self.drop_oldest() {}
    }

    /// Lets go of as much as makes `len` fit, or of all.
    fn make_room(&mut self, len: u64) {
        while self.held.saturating_add(len) > self.budget && self.drop_oldest() {}
    }

    /// Returns whether there was one.
    fn drop_oldest(&mut self) -> bool {
        let Some((_, oldest)) = self.uses.pop_first() else { return false };
        if let Some((_, len, _)) = self.entries.remove(&oldest) {
            self.held -= len;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_used_goes_first_and_the_budget_holds() {
        let mut lru = Lru::new(10);
        for key in 0..5 {
            lru.put(key, key, 2);
        }
        assert_eq!(lru.get(&0), Some(0));
        lru.put(5, 5, 2);
        assert_eq!((lru.get(&1), lru.get(&0), lru.held), (None, Some(0), 10));
        lru.put(0, 7, 1);
        assert_eq!((lru.get(&0), lru.held), (Some(7), 9));
        lru.make_room(3);
        assert_eq!((lru.get(&2), lru.get(&3), lru.held), (None, Some(3), 7));
        lru.make_room(11);
        assert_eq!((lru.get(&0), lru.held), (None, 0));
    }

    #[test]
    fn an_exchange_is_looked_for_where_it_may_be() {
        let range = |lowest, highest| Some((ExchangeId(lowest), ExchangeId(highest)));
        // The exchange 3 runs on through two segments more, of which one holds nothing else.
        let ranges = [range(1, 4), None, range(3, 3), range(3, 9), range(10, 12)];
        let spans: Spans = ranges.into_iter().collect();
        let check = |id, expected: Range<usize>| assert_eq!(spans.of(ExchangeId(id)), expected);
        check(0, 0..0);
        check(1, 0..1);
        check(3, 0..4);
        check(4, 0..4);
        check(5, 3..4);
        check(10, 4..5);
        check(13, 5..5);
        assert_eq!(Spans::default().of(ExchangeId(1)), 0..0);
    }
}
