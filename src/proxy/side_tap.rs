//! One side of an exchange, as its body passes.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;

use crate::clock::Nanos;
use crate::http::BodyError;
use crate::http::body::COPY_UP_TO;
use crate::http::drain::Piece;
use crate::http::tap::{Ending, Tap};
use crate::proxy::exchange::Ledger;
use crate::proxy::queue::Feed;
use crate::proxy::status::Admission;
use crate::proxy::upload::UploadError;
use crate::trace::record::{
    Event, ExchangeId, Fault, FaultSide, Frame, FrameRef, FramesRef, Parts, Passed, Side, Trailers,
};

/// Watches one side's body for a [`Ledger`]; without one it watches nothing.
pub struct SideTap {
    ledger: Option<Arc<Ledger>>,
    side: Side,
    passed: Passed,
    /// The small frame that was read last.
    small: Vec<u8>,
}

/// The bytes of a frame that was read.
pub enum Kept {
    /// Copied, in the tap itself.
    Small,
    /// By reference.
    Large(Bytes),
}

// === impl SideTap ===

impl SideTap {
    /// Watches one side of an exchange.
    #[must_use]
    pub fn new(ledger: Arc<Ledger>, side: Side) -> Self {
        Self { ledger: Some(ledger), side, passed: Passed::default(), small: Vec::new() }
    }

    /// Returns the side that it watches.
    pub(super) fn side(&self) -> Side {
        self.side
    }

    /// Watches nothing.
    #[must_use]
    pub fn silent() -> Self {
        Self { ledger: None, side: Side::Response, passed: Passed::default(), small: Vec::new() }
    }

    /// Takes hold of a frame's bytes. A small frame is copied: by reference it would keep the whole buffer that it was
    /// read into, often tens of times its size, so that the queue would hold far more than its budget says, and the
    /// connection could not use that buffer again. Copying is also the faster of the two (a page is not touched anew for
    /// each read).
    fn hold(&mut self, data: Piece<'_>) -> Kept {
        if data.bytes().len() > COPY_UP_TO {
            return Kept::Large(data.to_bytes());
        }
        self.small.clear();
        if self.ledger.is_some() {
            self.small.extend_from_slice(data.bytes());
        }
        Kept::Small
    }

    /// Bytes passed that may be a part of a larger buffer.
    pub(super) fn pass_part(&mut self, data: Piece<'_>, at: Nanos, accepted: Nanos) {
        if data.bytes().len() > COPY_UP_TO {
            self.pass_large(data.to_bytes(), at, accepted);
        } else {
            self.pass_small(data.bytes(), at, accepted);
        }
    }

    /// A frame passed.
    pub fn pass(&mut self, kept: Kept, at: Nanos, accepted: Nanos) {
        match kept {
            Kept::Small => {
                let small = std::mem::take(&mut self.small);
                self.pass_small(&small, at, accepted);
                self.small = small;
            }
            Kept::Large(data) => self.pass_large(data, at, accepted),
        }
    }

    fn pass_small(&mut self, data: &[u8], at: Nanos, accepted: Nanos) {
        let side = self.side;
        self.tell(data.len(), |feed, exchange, has_lost| {
            feed.small_frame(FrameRef { exchange, side, at, accepted, data }, has_lost)
        });
    }

    /// Small frames passed, at once when they were read.
    fn pass_together(&mut self, parts: Parts<'_>, at: Nanos) {
        let Some(ledger) = &self.ledger else { return };
        let (exchange, side) = (ledger.exchange(), self.side);
        let frames = FramesRef { exchange, side, at, accepted: at, parts };
        let is_whole = ledger.admission == Admission::Admitted && self.passed.lost_frames == 0;
        if is_whole && ledger.common.feed.small_frames(frames) {
            self.passed.bytes += parts.total() as u64;
            self.passed.frames += parts.spans().len() as u64;
        } else {
            parts.iter().for_each(|data| self.pass_small(data, at, at));
        }
    }

    fn pass_large(&mut self, data: Bytes, at: Nanos, accepted: Nanos) {
        let side = self.side;
        self.tell(data.len(), |feed, exchange, has_lost| {
            feed.frame(Frame { exchange, side, at, accepted, data }, has_lost)
        });
    }

    /// Counts a frame of `bytes`, and has `push` tell the recorder of it if that is to know.
    fn tell(&mut self, bytes: usize, push: impl FnOnce(&Feed, ExchangeId, bool) -> bool) {
        let Some(ledger) = &self.ledger else { return };
        self.passed.bytes += bytes as u64;
        self.passed.frames += 1;
        let feed = &ledger.common.feed;
        match ledger.admission {
            Admission::Admitted => {}
            Admission::Lost => return feed.lost_body(bytes),
            Admission::Paused | Admission::Omitted(_) => return,
        }
        if !push(feed, ledger.exchange(), self.passed.lost_frames > 0) {
            self.passed.lost_bytes += bytes as u64;
            self.passed.lost_frames += 1;
        }
    }

    /// The side is over: at its end, or by a fault.
    pub fn finish(&mut self, fault: Option<Fault>, at: Nanos) {
        if let Some(ledger) = self.ledger.take() {
            self.passed.ended = fault.is_none();
            ledger.side_ended(self.side, self.passed, fault, at);
        }
    }

    fn note_trailers(&self, trailers: &HeaderMap, at: Nanos) {
        let Some(ledger) = &self.ledger else { return };
        let mut headers = trailers.clone();
        ledger.redactor().headers(&mut headers);
        let (exchange, side) = (ledger.exchange(), self.side);
        ledger.note(Event::Trailers(Box::new(Trailers { exchange, side, at, headers })));
    }
}

impl Drop for SideTap {
    /// A side that is dropped has not ended, but by nobody's fault that is known here.
    fn drop(&mut self) {
        if let Some(ledger) = self.ledger.take() {
            ledger.side_ended(self.side, self.passed, None, ledger.common.clock().now());
        }
    }
}

/// What broke a body off.
trait Breakage {
    /// Returns whose fault it was, and what.
    fn fault(&self) -> Fault;
}

/// Of a request body: the client.
impl Breakage for UploadError {
    fn fault(&self) -> Fault {
        Self::fault(self)
    }
}

/// Of a response body: the upstream.
impl Breakage for BodyError {
    fn fault(&self) -> Fault {
        Fault {
            side: FaultSide::Server,
            kind: self.kind,
            text: format!("the upstream broke off its response: {}", self.text),
        }
    }
}

impl<E: Breakage> Tap<E> for SideTap {
    type Kept = Kept;

    fn keep(&mut self, data: Piece<'_>) -> Kept {
        self.hold(data)
    }

    fn frame(&mut self, kept: Kept, at: Nanos, accepted: Nanos) {
        self.pass(kept, at, accepted);
    }

    fn passed(&mut self, data: Piece<'_>, at: Nanos) {
        self.pass_part(data, at, at);
    }

    fn passed_together(&mut self, parts: Parts<'_>, at: Nanos) {
        self.pass_together(parts, at);
    }

    fn trailers(&mut self, trailers: &HeaderMap, at: Nanos) {
        self.note_trailers(trailers, at);
    }

    fn end(&mut self, ending: Ending<'_, E>, at: Nanos) {
        match ending {
            Ending::Ended => self.finish(None, at),
            Ending::Error(error) => self.finish(Some(error.fault()), at),
            // Dropped next: see there.
            Ending::Cancelled => {}
        }
    }
}
