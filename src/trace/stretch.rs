//! Bodies that go to pieces: cut, stored once, their frames handed on when all their bytes are in blobs.

use std::collections::VecDeque;

use crate::clock::Nanos;
use crate::trace::blobs::{BlobTable, Lookup};
use crate::trace::block::{BlockBuilder, PiecePlace};
use crate::trace::columns::Stamp;
use crate::trace::record::{ExchangeId, Side};
use crate::trace::split::Splitter;
use crate::trace::unwritten::Frames;
use crate::trace::wire::len_u64;

/// The block being filled, and the blobs that the segment holds.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) block: BlockBuilder,
    pub(crate) blobs: BlobTable,
    pub(crate) blob_bytes: u64,
    /// Stretches that have ended: their memory is used again.
    #[expect(clippy::vec_box, reason = "the boxes are kept: a hasher is two kilobytes to move")]
    idle: Vec<Box<Stretch>>,
}

/// One side's body so far.
#[derive(Debug, Default)]
pub(crate) struct Body {
    /// Bytes that came.
    pub(crate) len: u64,
    /// The frames that are being cut into pieces.
    pub(crate) stretch: Option<Box<Stretch>>,
}

/// Consecutive frames of a body whose bytes go to pieces.
#[derive(Debug)]
pub(crate) struct Stretch {
    /// Where the next piece goes: the bytes before are in blobs.
    pub(crate) place: PiecePlace,
    splitter: Splitter,
    hasher: blake3::Hasher,
    /// Frames whose bytes are not all in blobs yet, with the offset at which they start.
    waiting: VecDeque<(Stamp, u64)>,
    /// When the oldest byte that is not in a blob came.
    pub(crate) since: Option<Nanos>,
}

/// Stretches that are kept, and what each may hold.
const MAX_IDLE: usize = 64;
const IDLE_BYTES: usize = 16 << 10;

// === impl Body ===

impl Body {
    /// Returns the frames whose bytes are not all in blobs yet.
    pub(crate) fn waiting(&self) -> Frames {
        let waiting = self.stretch.iter().flat_map(|stretch| &stretch.waiting);
        waiting.fold(Frames::default(), |sum, (stamp, _)| Frames {
            count: sum.count + 1,
            bytes: sum.bytes + stamp.len,
        })
    }

    /// Cuts what waits, and ends the stretch with its digest.
    pub(crate) fn end_stretch(&mut self, store: &mut Store) {
        if let Some(mut stretch) = self.stretch.take() {
            stretch.cut(store);
            let mut digest = [0; 8];
            digest.copy_from_slice(&stretch.hasher.finalize().as_bytes()[..8]);
            store.block.end_pieces(stretch.place, digest);
            store.keep(stretch);
        }
    }
}

// === impl Stretch ===

impl Stretch {
    fn new(place: PiecePlace) -> Self {
        Self {
            place,
            splitter: Splitter::new(),
            hasher: blake3::Hasher::new(),
            waiting: VecDeque::new(),
            since: None,
        }
    }

    fn restart(&mut self, place: PiecePlace) {
        self.place = place;
        self.splitter.restart();
        self.hasher.reset();
        self.waiting.clear();
        self.since = None;
    }

    /// Takes note of a frame whose bytes begin at `offset` and come next.
    pub(crate) fn expect(&mut self, stamp: Stamp, offset: u64) {
        self.waiting.push_back((stamp, offset));
    }

    /// Takes the next bytes.
    pub(crate) fn push(&mut self, data: &[u8], at: Nanos, store: &mut Store) {
        self.hasher.update(data);
        let before = self.place.offset;
        let place = &mut self.place;
        self.splitter.push(data, &mut |base64, bytes| store.piece(place, base64, bytes));
        if self.place.offset > before {
            self.since = None;
        }
        // All of the part may be in blobs by now; then a later cut finds nothing to do.
        self.since.get_or_insert(at);
        self.release(store);
    }

    /// Puts every byte that came into a blob.
    pub(crate) fn cut(&mut self, store: &mut Store) {
        let place = &mut self.place;
        self.splitter.cut(&mut |base64, bytes| store.piece(place, base64, bytes));
        self.since = None;
        self.release(store);
    }

    /// Hands on the frames whose bytes are all in blobs.
    pub(crate) fn release(&mut self, store: &mut Store) {
        while let Some(&(stamp, offset)) = self.waiting.front() {
            if offset + stamp.len > self.place.offset {
                break;
            }
            self.waiting.pop_front();
            store.block.frame_in_pieces(self.place.exchange, self.place.side, stamp, offset);
        }
    }
}

// === impl Store ===

impl Store {
    /// Makes an empty one that remembers up to `entries` blobs.
    pub(crate) fn new(entries: usize) -> Self {
        Self {
            block: BlockBuilder::default(),
            blobs: BlobTable::new(entries),
            blob_bytes: 0,
            idle: Vec::new(),
        }
    }

    /// Begins a stretch.
    pub(crate) fn stretch(&mut self, exchange: ExchangeId, side: Side, start: u64) -> Box<Stretch> {
        let place = PiecePlace { exchange, side, start, offset: start };
        let Some(mut stretch) = self.idle.pop() else { return Box::new(Stretch::new(place)) };
        stretch.restart(place);
        stretch
    }

    /// Keeps the memory of a stretch, unless it is much.
    fn keep(&mut self, stretch: Box<Stretch>) {
        if self.idle.len() < MAX_IDLE && stretch.splitter.capacity() <= IDLE_BYTES {
            self.idle.push(stretch);
        }
    }

    /// Stores a piece of a body, or finds it stored.
    fn piece(&mut self, place: &mut PiecePlace, base64: bool, bytes: &[u8]) {
        let id = match self.blobs.lookup(base64, bytes) {
            Lookup::Known(id) => id,
            Lookup::New(id) => {
                self.block.blob(base64, bytes);
                self.blob_bytes += len_u64(bytes.len());
                id
            }
        };
        self.block.piece(*place, id);
        place.offset += if base64 { len_u64(bytes.len() / 3 * 4) } else { len_u64(bytes.len()) };
    }
}
