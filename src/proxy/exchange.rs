//! One exchange as the recorder hears of it.
//!
//! A [`Ledger`] is opened when the request head was read, before anything is awaited, and shared by all that have a part
//! in the exchange: the handler while it waits for the response, the taps on both bodies, a tunnel. When the last of
//! them has gone, for whatever reason, the ledger closes and pushes the `End`: so each admitted exchange has one end, and
//! it comes last.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::HeaderMap;

use crate::clock::Nanos;
use crate::http::stall::Stall;
use crate::http::tap::{Ending, Tap};
use crate::http::{Boarding, BodyError, Carried};
use crate::proxy::common::Common;
use crate::proxy::metrics::Ticket;
use crate::proxy::queue::Feed;
use crate::proxy::status::Admission;
use crate::proxy::story::Story;
use crate::proxy::upload::UploadError;
use crate::trace::record::{
    End, Event, ExchangeId, Fault, FaultSide, Frame, FrameRef, Link, OmitReason, Outcome, Passed,
    RequestHead, Side, Trailers,
};
use crate::trace::redact::Redactor;

/// An exchange that is under way.
pub struct Ledger {
    exchange: ExchangeId,
    /// Whether the trace knows the exchange.
    admission: Admission,
    /// When the request head was read.
    at: Nanos,
    common: Arc<Common>,
    ticket: Ticket,
    /// What replaces credentials: the same from its beginning to its end.
    redactor: Arc<Redactor>,
    boarding: Boarding,
    /// Whether the client was given up.
    stall: Arc<Stall>,
    // Locked a handful of times in an exchange, never for a frame.
    story: Mutex<Story>,
}

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

/// Longest frame that is copied rather than held by reference: half of the buffer that hyper reads into.
const COPY_UP_TO: usize = 4 << 10;

// === impl Ledger ===

impl Ledger {
    /// Admits an exchange whose request head was read at `at`, of a client that `stall` tells of. `request` makes that
    /// head, credentials replaced; it goes into the queue at once, unless the exchange is `omitted`.
    pub fn open(
        common: &Arc<Common>,
        at: Nanos,
        stall: Arc<Stall>,
        omitted: Option<OmitReason>,
        request: impl FnOnce(ExchangeId, &Redactor) -> RequestHead,
    ) -> Arc<Self> {
        let ticket = common.metrics.began(at);
        let redactor = common.redactor();
        let (exchange, admission) = match omitted {
            None => common.feed.admit(|exchange| request(exchange, &redactor)),
            Some(reason) => common.feed.omit(reason),
        };
        if admission == Admission::Paused {
            common.metrics.not_recorded();
        }
        Arc::new(Self {
            exchange,
            admission,
            at,
            common: Arc::clone(common),
            ticket,
            redactor,
            boarding: Boarding::default(),
            stall,
            story: Mutex::default(),
        })
    }

    /// Returns the number of the exchange.
    #[must_use]
    pub fn exchange(&self) -> ExchangeId {
        self.exchange
    }

    /// Returns when the request head was read.
    #[must_use]
    pub fn at(&self) -> Nanos {
        self.at
    }

    /// Returns what replaces credentials in this exchange.
    #[must_use]
    pub fn redactor(&self) -> &Redactor {
        &self.redactor
    }

    /// Returns whether it should be in the trace, and is not: there was no room, or nothing can be written at present.
    #[must_use]
    pub fn misses_the_trace(&self) -> bool {
        match self.admission {
            Admission::Admitted => !self.common.feed.is_writing(),
            Admission::Lost => true,
            Admission::Paused | Admission::Omitted(_) => false,
        }
    }

    /// Returns what the client is to tell of its connection.
    #[must_use]
    pub fn boarding(&self) -> Boarding {
        self.boarding.clone()
    }

    /// Returns whether the client was given up.
    pub(super) fn stall(&self) -> &Arc<Stall> {
        &self.stall
    }

    /// Notes an event of the exchange.
    pub fn note(&self, event: Event) {
        if self.admission == Admission::Admitted {
            self.common.feed.note(event);
        }
    }

    /// Notes the connection that carries the exchange, once.
    pub fn link(&self, carried: &Carried) {
        let was_linked = std::mem::replace(&mut self.story().is_linked, true);
        if !was_linked {
            self.note(Event::Link(Link {
                exchange: self.exchange,
                at: carried.ready_at,
                connection: carried.connection,
                reused: carried.reused,
                version: carried.version,
                connect_ns: carried.connect_ns,
                tls_ns: carried.tls_ns,
            }));
        }
    }

    /// Notes a response head.
    pub fn response(&self, head: impl FnOnce() -> crate::trace::record::ResponseHead) {
        if self.admission == Admission::Admitted {
            self.common.feed.response(head());
        }
    }

    /// Notes why the exchange fails; the first reason counts.
    pub fn fault(&self, fault: Fault) {
        self.story().fault.get_or_insert(fault);
    }

    /// Returns how the request body failed, if it has.
    pub(super) fn upload_fault(&self) -> Option<Fault> {
        self.story().upload_fault.clone()
    }

    fn side_ended(&self, side: Side, passed: Passed, fault: Option<Fault>, at: Nanos) {
        let metrics = &self.common.metrics;
        metrics.passed(side, passed.bytes);
        match self.admission {
            Admission::Paused => metrics.not_recorded_bytes(passed.bytes),
            Admission::Omitted(reason) => {
                self.common.feed.omitted_body(reason, passed.frames, passed.bytes);
            }
            Admission::Admitted | Admission::Lost => self.common.feed.passed(passed.bytes),
        }
        let mut story = self.story();
        story.last_end = story.last_end.max(at);
        match side {
            Side::Request => {
                story.request = passed;
                story.upload_fault = fault;
            }
            Side::Response => {
                story.response = passed;
                if let Some(fault) = fault {
                    story.fault.get_or_insert(fault);
                }
            }
        }
    }

    fn story(&self) -> MutexGuard<'_, Story> {
        self.story.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) {
        if let Some(carried) = self.boarding.carried() {
            self.link(&carried);
        }
        let mut story = self.story();
        let (outcome, fault) = story.outcome(self.common.is_stopping(), self.stall.is_over());
        self.common.metrics.ended(self.ticket, outcome, fault.as_ref());
        let at = match outcome {
            Outcome::Complete => story.last_end,
            // Nothing has told of an end: it is now.
            Outcome::Failed | Outcome::Cancelled => story.last_end.max(self.common.clock().now()),
        };
        let (request, response) = (story.request, story.response);
        drop(story);
        let exchange = self.exchange;
        self.note(Event::End(Box::new(End { exchange, at, outcome, fault, request, response })));
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        self.close();
    }
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
    fn hold(&mut self, data: &Bytes) -> Kept {
        if data.len() > COPY_UP_TO {
            return Kept::Large(data.clone());
        }
        self.small.clear();
        if self.ledger.is_some() {
            self.small.extend_from_slice(data);
        }
        Kept::Small
    }

    /// Bytes passed that may be a part of a larger buffer.
    pub(super) fn pass_part(&mut self, data: &Bytes, at: Nanos, accepted: Nanos) {
        if data.len() > COPY_UP_TO {
            self.pass_large(data.clone(), at, accepted);
        } else {
            self.pass_small(data, at, accepted);
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
        if !push(feed, ledger.exchange, self.passed.lost_frames > 0) {
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
        ledger.redactor.headers(&mut headers);
        let (exchange, side) = (ledger.exchange, self.side);
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

/// Watches a request body: what breaks it is the client.
impl Tap<UploadError> for SideTap {
    type Kept = Kept;

    fn keep(&mut self, data: &Bytes) -> Kept {
        self.hold(data)
    }

    fn frame(&mut self, kept: Kept, at: Nanos, accepted: Nanos) {
        self.pass(kept, at, accepted);
    }

    fn last_frame(&mut self, data: &Bytes, at: Nanos) {
        self.pass_part(data, at, at);
    }

    fn trailers(&mut self, trailers: &HeaderMap, at: Nanos) {
        self.note_trailers(trailers, at);
    }

    fn end(&mut self, ending: Ending<'_, UploadError>, at: Nanos) {
        match ending {
            Ending::Ended => self.finish(None, at),
            Ending::Error(error) => self.finish(Some(error.fault()), at),
            // Dropped next: see there.
            Ending::Cancelled => {}
        }
    }
}

/// Watches a response body: what breaks it is the upstream.
impl Tap<BodyError> for SideTap {
    type Kept = Kept;

    fn keep(&mut self, data: &Bytes) -> Kept {
        self.hold(data)
    }

    fn frame(&mut self, kept: Kept, at: Nanos, accepted: Nanos) {
        self.pass(kept, at, accepted);
    }

    fn last_frame(&mut self, data: &Bytes, at: Nanos) {
        self.pass_part(data, at, at);
    }

    fn trailers(&mut self, trailers: &HeaderMap, at: Nanos) {
        self.note_trailers(trailers, at);
    }

    fn end(&mut self, ending: Ending<'_, BodyError>, at: Nanos) {
        match ending {
            Ending::Ended => self.finish(None, at),
            Ending::Error(error) => {
                let fault = Fault {
                    side: FaultSide::Server,
                    kind: error.kind,
                    text: format!("the upstream broke off its response: {}", error.text),
                };
                self.finish(Some(fault), at);
            }
            // Dropped next: see there.
            Ending::Cancelled => {}
        }
    }
}
