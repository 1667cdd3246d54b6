//! An open segment: events in, blocks out.
//!
//! Each block holds, of each exchange, the records and frames that came since the block before. A frame whose bytes go to
//! pieces follows when all its bytes are in blobs, in the same block or later, and always before its side's trailers and
//! the exchange's end.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::Duration;

use crate::clock::Nanos;
use crate::trace::codec::encode_event;
use crate::trace::columns::{MAX_INLINE, stamp};
use crate::trace::compress::Then;
use crate::trace::format::MAX_RECORD;
use crate::trace::index::{Place, Totals};
use crate::trace::record::{
    BareFrame, Counters, Event, ExchangeId, FrameRef, FramesRef, Header, Side, Span,
};
use crate::trace::sink::Sink;
use crate::trace::stretch::{Body, Store};
use crate::trace::summing::Summing;
use crate::trace::unwritten::{Held, Legacy, Unwritten};
use crate::trace::wire::len_u64;
use crate::trace::writer::{Refused, SyncPolicy, WriterOptions};

/// An open segment.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) sink: Sink,
    options: WriterOptions,
    header: Header,
    store: Store,
    open: BTreeMap<ExchangeId, Open>,
    closed: Vec<Place>,
    totals: Totals,
    /// Events in the block being filled.
    held: Held,
    unwritten: Unwritten,
    /// The memory in which an event is encoded.
    payload: Vec<u8>,
}

/// An exchange that has not ended.
#[derive(Debug)]
struct Open {
    place: Place,
    request: Body,
    response: Body,
}

/// Response frames of at least this many bytes go to pieces, as all request frames do.
const LARGE_FRAME: usize = MAX_INLINE;
/// Bytes that have waited this long for a cut are cut at a flush: with [`FLUSH_EVERY`] none is older than 200 ms.
///
/// [`FLUSH_EVERY`]: crate::trace::FLUSH_EVERY
const MAX_WAIT: Duration = Duration::from_millis(80);
/// Bytes of a large frame that are cut at once, so that blocks stay small.
const PART: usize = 64 << 10;

// === impl Segment ===

impl Segment {
    pub(crate) fn new(sink: Sink, header: Header, options: WriterOptions) -> Self {
        Self {
            sink,
            header,
            store: Store::new(options.blob_entries),
            open: BTreeMap::new(),
            closed: Vec::new(),
            totals: Totals::default(),
            held: Held::default(),
            unwritten: Unwritten::new(options.counters),
            payload: Vec::new(),
            options,
        }
    }

    /// Returns the counters that it began with.
    pub(crate) fn base(&self) -> Counters {
        self.options.counters
    }

    /// Takes an event; `counters` already count it.
    pub(crate) fn append(&mut self, event: Event, counters: &Counters) -> Result<(), Refused> {
        if let Event::Frame(frame) = &event {
            return self.append_frames(frame.as_ref().alone(&mut Span::default()), counters);
        }
        match &event {
            Event::Bare(frame) => self.bare(*frame),
            event => self.record(event)?,
        }
        self.held.events.push(event);
        self.cut_if_full(counters)?;
        Ok(())
    }

    /// Takes frames.
    pub(crate) fn append_frames(
        &mut self,
        frames: FramesRef<'_>,
        counters: &Counters,
    ) -> Result<(), Refused> {
        let mut appended = Ok(());
        if frames.iter().any(|frame| goes_to_pieces(frame.side, frame.data)) {
            for frame in frames.iter() {
                let one = self.frame(frame, counters);
                appended = appended.and(one);
            }
        } else {
            self.inline(frames);
        }
        appended?;
        self.cut_if_full(counters)?;
        Ok(())
    }

    /// Writes everything that has waited long enough.
    ///
    /// What the file system refuses is kept: the next flush tries again.
    pub(crate) fn flush(&mut self, now: Nanos, counters: &Counters) -> Result<(), Refused> {
        let ordinal = self.sink.ordinal();
        for open in self.open.values_mut() {
            for body in [&mut open.request, &mut open.response] {
                let Some(stretch) = &mut body.stretch else { continue };
                if stretch.since.is_some_and(|since| now.since(since) >= MAX_WAIT) {
                    stretch.cut(&mut self.store);
                    open.place.touch(ordinal, stretch.place.side);
                }
            }
        }
        let wrote = self.cut_block(counters)?;
        let caught_up = self.sink.catch_up();
        self.unwritten.settle(self.sink.written(), counters);
        caught_up.map_err(Refused::Stalled)?;
        if self.options.sync == SyncPolicy::Flush && wrote {
            self.sink.sync().map_err(Refused::Unsynced)?;
        }
        Ok(())
    }

    /// Gives the segment up; returns what is not in the file, which ends with a whole block.
    pub(crate) fn give_up(mut self) -> Legacy {
        if let Some(whole) = self.unwritten.from() {
            self.sink.drop_torn_block(whole);
        }
        self.held.frames.extend(self.store.block.frame_counts());
        for (id, open) in &self.open {
            for (side, body) in [(Side::Request, &open.request), (Side::Response, &open.response)] {
                let frames = body.waiting();
                if frames.count > 0 {
                    self.held.frames.push(((*id, side), frames));
                }
            }
        }
        self.unwritten.into_legacy(self.held)
    }

    /// Writes everything, the summary and the tail, and renames the file.
    pub(crate) fn finish(&mut self, path: &Path, counters: &Counters) -> Result<Totals, Refused> {
        self.flush(Nanos(u64::MAX), counters)?;
        let open = std::mem::take(&mut self.open);
        self.closed.extend(open.into_values().map(|open| open.place));
        self.closed.sort_unstable_by_key(|place| place.id);
        self.totals.exchanges = len_u64(self.closed.len());
        self.totals.blobs = self.store.blobs.next();
        self.totals.blob_bytes = self.store.blob_bytes;
        self.totals.raw_bytes = self.sink.chapters().iter().map(|chapter| chapter.raw).sum();
        self.totals.hurried_bytes = self.sink.hurried_bytes();
        let next_blob = self.store.blobs.next();
        Summing { header: &self.header, places: &self.closed, totals: self.totals, next_blob }
            .write(&mut self.sink, counters, &self.options)?;
        self.sink.catch_up().map_err(Refused::Stalled)?;
        let synced = self.options.sync != SyncPolicy::Never;
        if synced {
            self.sink.sync().map_err(Refused::Unsynced)?;
        }
        self.sink.rename(path, synced)?;
        Ok(self.totals)
    }

    /// Takes frames whose bytes go into the block itself.
    fn inline(&mut self, frames: FramesRef<'_>) {
        let FramesRef { exchange, side, at, accepted, parts } = frames;
        let total = len_u64(parts.total());
        self.totals.frames += len_u64(parts.spans().len());
        self.totals.body_bytes += total;
        self.totals.until = self.totals.until.max(accepted).max(at);
        let ordinal = self.sink.ordinal();
        let open = Self::open(&mut self.open, exchange, at, ordinal);
        open.place.touch(ordinal, side);
        let body = open.body(side);
        body.len += total;
        body.end_stretch(&mut self.store);
        let stamp = stamp(0, at, accepted, self.header.tick_ns);
        self.store.block.frames_inline((exchange, side), stamp, parts);
    }

    fn frame(&mut self, frame: FrameRef<'_>, counters: &Counters) -> io::Result<()> {
        let FrameRef { side, data, .. } = frame;
        if !goes_to_pieces(side, data) {
            self.inline(frame.alone(&mut Span::default()));
            return Ok(());
        }
        self.totals.frames += 1;
        self.totals.body_bytes += len_u64(frame.data.len());
        self.totals.until = self.totals.until.max(frame.accepted).max(frame.at);
        let stamp = stamp(len_u64(frame.data.len()), frame.at, frame.accepted, self.header.tick_ns);
        let ordinal = self.sink.ordinal();
        let open = Self::open(&mut self.open, frame.exchange, frame.at, ordinal);
        open.place.touch(ordinal, frame.side);
        let body = open.body(frame.side);
        let offset = body.len;
        body.len += stamp.len;
        let stretch = body
            .stretch
            .get_or_insert_with(|| self.store.stretch(frame.exchange, frame.side, offset));
        stretch.expect(stamp, offset);
        let mut parts = frame.data.chunks(PART);
        if let Some(part) = parts.next() {
            stretch.push(part, frame.at, &mut self.store);
        } else {
            stretch.release(&mut self.store);
        }
        for part in parts {
            self.cut_if_full(counters)?;
            let ordinal = self.sink.ordinal();
            let open = Self::open(&mut self.open, frame.exchange, frame.at, ordinal);
            open.place.touch(ordinal, frame.side);
            if let Some(stretch) = &mut open.body(frame.side).stretch {
                stretch.push(part, frame.at, &mut self.store);
            }
        }
        Ok(())
    }

    /// Takes a frame without its bytes: it ends the stretch that came before.
    fn bare(&mut self, frame: BareFrame) {
        let BareFrame { exchange, side, at, accepted, len } = frame;
        self.totals.until = self.totals.until.max(accepted).max(at);
        let stamp = stamp(len, at, accepted, self.header.tick_ns);
        let ordinal = self.sink.ordinal();
        let open = Self::open(&mut self.open, exchange, at, ordinal);
        open.place.touch(ordinal, side);
        open.body(side).end_stretch(&mut self.store);
        self.store.block.frame_bare((exchange, side), stamp);
    }

    /// Takes an event other than a frame.
    fn record(&mut self, event: &Event) -> Result<(), Refused> {
        let Some(opcode) = encode_event(event, &mut self.payload) else { return Ok(()) };
        if self.payload.len() > MAX_RECORD {
            let bytes = std::mem::take(&mut self.payload).len();
            return Err(Refused::TooLarge { bytes, limit: MAX_RECORD });
        }
        let (at, side) = match event {
            Event::Request(head) => (head.at, Some(Side::Request)),
            Event::Trailers(trailers) => (trailers.at, Some(trailers.side)),
            Event::Link(link) => (link.at, None),
            Event::Interim(interim) => (interim.at, None),
            Event::Response(head) => (head.at, None),
            Event::Packed(head) => (head.at, head.status.is_none().then_some(Side::Request)),
            Event::End(end) => (end.at, None),
            Event::Gap(gap) => (gap.until, None),
            Event::Omission(omission) => (omission.until, None),
            Event::Prompt(prompt) => (prompt.at, None),
            Event::Frame(_) | Event::Bare(_) => return Ok(()),
        };
        self.totals.until = self.totals.until.max(at);
        if let Some(exchange) = event.exchange() {
            let ordinal = self.sink.ordinal();
            let open = Self::open(&mut self.open, exchange, at, ordinal);
            open.place.touch(ordinal, side.unwrap_or(Side::Response));
            match event {
                Event::Trailers(trailers) => open.body(trailers.side).end_stretch(&mut self.store),
                Event::End(end) => {
                    open.place.end = Some((end.at, end.outcome));
                    if open.request.stretch.is_some() {
                        open.place.touch(ordinal, Side::Request);
                    }
                    open.request.end_stretch(&mut self.store);
                    open.response.end_stretch(&mut self.store);
                    let place = open.place;
                    self.open.remove(&exchange);
                    self.store.block.end(exchange);
                    self.closed.push(place);
                }
                _ => {}
            }
        }
        self.store.block.record(opcode, &self.payload);
        Ok(())
    }

    fn open(
        open: &mut BTreeMap<ExchangeId, Open>,
        id: ExchangeId,
        at: Nanos,
        ordinal: u32,
    ) -> &mut Open {
        open.entry(id).or_insert_with(|| Open {
            place: Place {
                id,
                at,
                end: None,
                first: ordinal,
                request_last: ordinal,
                last: ordinal,
            },
            request: Body::default(),
            response: Body::default(),
        })
    }

    fn cut_if_full(&mut self, counters: &Counters) -> io::Result<()> {
        if self.store.block.len() >= self.options.block_bytes {
            self.cut_block(counters)?;
        }
        Ok(())
    }

    /// Writes the block, unless there is nothing in it; says which.
    fn cut_block(&mut self, counters: &Counters) -> io::Result<bool> {
        if self.store.block.is_empty() {
            return Ok(false);
        }
        let from = self.sink.offset();
        self.held.frames.extend(self.store.block.frame_counts());
        let next_blob = self.store.blobs.next();
        let first_blob = next_blob - self.store.block.blobs();
        let raw = self.store.block.build(self.sink.start(first_blob), next_blob, counters);
        self.sink.write_block(&raw, first_blob, Then::GoOn, &self.options)?;
        if self.sink.starts() {
            self.store.block.restart();
        }
        if self.sink.is_written() {
            self.held.events.clear();
            self.held.frames.clear();
        } else {
            self.unwritten.push(from, self.sink.offset(), std::mem::take(&mut self.held));
        }
        self.unwritten.settle(self.sink.written(), counters);
        Ok(true)
    }
}

/// Returns whether a frame's bytes go to pieces rather than into the block itself.
fn goes_to_pieces(side: Side, data: &[u8]) -> bool {
    side == Side::Request || data.len() >= LARGE_FRAME
}

// === impl Open ===

impl Open {
    fn body(&mut self, side: Side) -> &mut Body {
        match side {
            Side::Request => &mut self.request,
            Side::Response => &mut self.response,
        }
    }
}
