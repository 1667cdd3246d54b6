//! One exchange as the recorder hears of it.
//!
//! A [`Ledger`] is opened when the request head was read, before anything is awaited, and shared by all that have a part
//! in the exchange: the handler while it waits for the response, the [taps](super::side_tap) on both bodies, a tunnel. When
//! the last of them has gone, for whatever reason, the ledger closes and pushes the `End`: so each admitted exchange has one
//! end, and it comes last.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::clock::Nanos;
use crate::http::stall::Stall;
use crate::http::{Boarding, Carried};
use crate::proxy::common::Common;
use crate::proxy::metrics::Ticket;
use crate::proxy::status::Admission;
use crate::proxy::story::Story;
use crate::trace::record::{
    End, Event, ExchangeId, Fault, Link, OmitReason, Outcome, PackedHead, Passed, Side,
};
use crate::trace::redact::Redactor;

/// An exchange that is under way.
pub struct Ledger {
    exchange: ExchangeId,
    /// Whether the trace knows the exchange.
    pub(super) admission: Admission,
    /// When the request head was read.
    at: Nanos,
    pub(super) common: Arc<Common>,
    ticket: Ticket,
    /// What replaces credentials: the same from its beginning to its end.
    redactor: Arc<Redactor>,
    boarding: Boarding,
    /// Whether the client was given up.
    stall: Arc<Stall>,
    // Locked a handful of times in an exchange, never for a frame.
    story: Mutex<Story>,
}

// === impl Ledger ===

impl Ledger {
    /// Admits an exchange whose request head was read at `at`, of a client that `stall` tells of. `request` makes that
    /// head, credentials replaced; it goes into the queue at once, unless the exchange is `omitted`.
    pub fn open(
        common: &Arc<Common>,
        at: Nanos,
        stall: Arc<Stall>,
        omitted: Option<OmitReason>,
        request: impl FnOnce(ExchangeId, &Redactor) -> PackedHead,
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
    pub fn response(&self, head: impl FnOnce(ExchangeId, &Redactor) -> PackedHead) {
        if self.admission == Admission::Admitted {
            self.common.feed.response(head(self.exchange, &self.redactor));
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

    /// Takes note that one side is over.
    pub(super) fn side_ended(&self, side: Side, passed: Passed, fault: Option<Fault>, at: Nanos) {
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
