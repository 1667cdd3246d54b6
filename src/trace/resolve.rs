//! From runs of frames and pieces back to frames with their bytes.

use std::collections::{BTreeMap, VecDeque};

use bytes::{Buf as _, Bytes, BytesMut};

use crate::clock::Nanos;
use crate::trace::columns::{Place, Run};
use crate::trace::pieces::{Blob, Pieces};
use crate::trace::record::{ExchangeId, Frame, Side};
use crate::trace::split::encode_base64;
use crate::trace::unfold::unfold;
use crate::trace::wire::{len_u64, to_len};

/// Where blobs come from.
pub(crate) trait BlobSource {
    /// Why a blob could not be fetched.
    type Error;
    /// Returns a blob of the segment being read; none when it was lost.
    fn blob(&mut self, id: u64) -> Result<Option<Blob>, Self::Error>;
}

/// Puts frames together whose bytes are in pieces. Holds one frame and one blob at a time.
#[derive(Debug, Default)]
pub(crate) struct Resolver {
    tick_ns: u64,
    check: bool,
    bodies: BTreeMap<(ExchangeId, Side), Inbox>,
    /// Frames whose bytes are not in the file.
    pub(crate) missing: Missing,
}

/// What a trace can't give back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Missing {
    /// Frames whose bytes are lost.
    pub frames: u64,
    /// Bytes of these.
    pub bytes: u64,
    /// Bodies that do not match their digest.
    pub digests: u64,
}

/// A run of which frames are being handed out.
#[derive(Debug)]
pub(crate) struct RunCursor {
    run: Run,
    next: usize,
    /// Offset of the next frame in the body, when its bytes are in pieces.
    offset: u64,
}

/// A body whose pieces are known and not all read.
#[derive(Debug, Default)]
struct Inbox {
    queue: VecDeque<Queued>,
    /// The last inline frame.
    previous: Bytes,
    /// Bytes fetched and not handed out yet, which start at `at` in the body.
    bytes: BytesMut,
    at: u64,
    /// Digest so far; none when bytes of the stretch are lost, or nobody asked.
    hasher: Option<blake3::Hasher>,
}

#[derive(Clone, Copy, Debug)]
enum Queued {
    /// What follows starts here in the body, and a stretch with it or not.
    Offset { at: u64, begins: bool },
    /// So many blobs from this one.
    Blobs { first: u64, count: u64 },
    /// The stretch ends, with this digest.
    End([u8; 8]),
}

// === impl RunCursor ===

impl RunCursor {
    pub(crate) fn new(run: Run) -> Self {
        let offset = match run.place {
            Place::Inline { .. } => 0,
            Place::Pieces(offset) => offset,
        };
        Self { run, next: 0, offset }
    }
}

// === impl Resolver ===

impl Resolver {
    /// Makes a resolver for one segment, which checks bodies against their digests if `check` says so.
    pub(crate) fn new(tick_ns: u32, check: bool) -> Self {
        Self { tick_ns: u64::from(tick_ns), check, ..Self::default() }
    }

    /// Takes note of pieces.
    pub(crate) fn pieces(&mut self, pieces: Pieces) {
        let inbox = self.bodies.entry((pieces.exchange, pieces.side)).or_default();
        inbox.queue.push_back(Queued::Offset { at: pieces.offset, begins: pieces.begins });
        inbox
            .queue
            .extend(pieces.blobs.iter().map(|&(first, count)| Queued::Blobs { first, count }));
        inbox.queue.extend(pieces.digest.map(Queued::End));
    }

    /// Returns the run's next frame whose bytes are there; none at its end.
    pub(crate) fn frame<S: BlobSource>(
        &mut self,
        cursor: &mut RunCursor,
        source: &mut S,
    ) -> Result<Option<Frame>, S::Error> {
        while let Some(&stamp) = cursor.run.frames.get(cursor.next) {
            let (idx, start) = (cursor.next, cursor.offset);
            cursor.next += 1;
            cursor.offset = start.saturating_add(stamp.len);
            let inbox = self.bodies.entry((cursor.run.exchange, cursor.run.side)).or_default();
            let data = match &cursor.run.place {
                Place::Inline { cuts, middles } => {
                    let data = unfold(&inbox.previous, cuts[idx], stamp.len, middles);
                    inbox.previous = data.clone().unwrap_or_default();
                    data
                }
                Place::Pieces(_) => {
                    inbox.take(start, stamp.len, self.check, source, &mut self.missing)?
                }
            };
            let Some(data) = data else {
                self.missing.frames += 1;
                self.missing.bytes = self.missing.bytes.saturating_add(stamp.len);
                continue;
            };
            return Ok(Some(Frame {
                exchange: cursor.run.exchange,
                side: cursor.run.side,
                at: Nanos(stamp.at.saturating_mul(self.tick_ns)),
                accepted: Nanos(stamp.at.saturating_add(stamp.lag).saturating_mul(self.tick_ns)),
                data,
            }));
        }
        Ok(None)
    }

    /// Forgets an exchange that has ended, after checking the digests of its bodies.
    pub(crate) fn end<S: BlobSource>(
        &mut self,
        exchange: ExchangeId,
        source: &mut S,
    ) -> Result<(), S::Error> {
        for side in [Side::Request, Side::Response] {
            if let Some(mut inbox) = self.bodies.remove(&(exchange, side)) {
                while self.check && inbox.fetch(true, source, &mut self.missing)? {
                    inbox.skip(usize::MAX);
                }
            }
        }
        Ok(())
    }
}

// === impl Inbox ===

impl Inbox {
    /// Returns `len` bytes from `start` of the body; none when some are lost.
    fn take<S: BlobSource>(
        &mut self,
        start: u64,
        len: u64,
        check: bool,
        source: &mut S,
        missing: &mut Missing,
    ) -> Result<Option<Bytes>, S::Error> {
        let end = start.saturating_add(len);
        while self.at.saturating_add(len_u64(self.bytes.len())) < end || self.bytes.is_empty() {
            if len == 0 && self.bytes.is_empty() {
                return Ok(Some(Bytes::new()));
            }
            if !self.fetch(check, source, missing)? {
                break;
            }
        }
        if start > self.at {
            self.skip(to_len(start - self.at));
        }
        if start != self.at || len_u64(self.bytes.len()) < len {
            return Ok(None);
        }
        self.at = end;
        Ok(Some(self.bytes.split_to(to_len(len)).freeze()))
    }

    fn skip(&mut self, len: usize) {
        let len = len.min(self.bytes.len());
        self.bytes.advance(len);
        self.at += len_u64(len);
    }

    /// Fetches what comes next; false when nothing does.
    fn fetch<S: BlobSource>(
        &mut self,
        check: bool,
        source: &mut S,
        missing: &mut Missing,
    ) -> Result<bool, S::Error> {
        let Some(queued) = self.queue.pop_front() else { return Ok(false) };
        match queued {
            Queued::Offset { at, begins } => {
                if at != self.at + len_u64(self.bytes.len()) {
                    self.bytes.clear();
                    self.at = at;
                    self.hasher = None;
                }
                if begins {
                    self.hasher = check.then(blake3::Hasher::new);
                }
            }
            Queued::Blobs { first, count } => {
                if count > 1 {
                    self.queue.push_front(Queued::Blobs { first: first + 1, count: count - 1 });
                }
                if count > 0 {
                    self.blob(first, source)?;
                }
            }
            Queued::End(digest) => self.check_digest(digest, missing),
        }
        Ok(true)
    }

    fn blob<S: BlobSource>(&mut self, id: u64, source: &mut S) -> Result<(), S::Error> {
        let Some(blob) = source.blob(id)? else {
            // Its length is lost too: what follows it in this record has no place.
            while self.queue.front().is_some_and(|next| !matches!(next, Queued::Offset { .. })) {
                self.queue.pop_front();
            }
            self.hasher = None;
            return Ok(());
        };
        let before = self.bytes.len();
        if blob.base64 {
            let mut text = Vec::new();
            encode_base64(&blob.bytes, &mut text);
            self.bytes.extend_from_slice(&text);
        } else {
            self.bytes.extend_from_slice(&blob.bytes);
        }
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&self.bytes[before..]);
        }
        Ok(())
    }

    /// Compares the digest of the stretch that ends.
    fn check_digest(&mut self, expected: [u8; 8], missing: &mut Missing) {
        let found = self.hasher.take().map(|hasher| hasher.finalize());
        if found.is_some_and(|found| found.as_bytes()[..8] != expected) {
            missing.digests += 1;
        }
    }
}
