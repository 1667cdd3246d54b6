//! What passes through the proxy, in numbers: plain atomics, added to a handful of times in an exchange and never for a
//! frame.
//!
//! Each thread adds to a stripe of its own, on cache lines of its own; who asks gets the sum ([`Totals`]). An exchange is
//! counted whether it is recorded or not: what became of its record is the recorder's to tell
//! ([`RecorderStatus`](crate::proxy::RecorderStatus)).

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use http::StatusCode;

use crate::clock::Nanos;
use crate::proxy::histogram::{Histogram, Latencies};
use crate::proxy::open::{Open, Slot};
use crate::trace::record::{Fault, FaultKind, FaultSide, Outcome, Side};

/// Counts. Shared by reference.
#[derive(Debug, Default)]
pub struct Metrics {
    stripes: [Stripe; STRIPES],
}

/// What threads add to. Two lines apart, since processors fetch them in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Stripe {
    requests: AtomicU64,
    not_recorded: AtomicU64,
    not_recorded_bytes: AtomicU64,
    outcomes: [AtomicU64; 3],
    responses: [[AtomicU64; CLASSES.len()]; 2],
    upstream_faults: [AtomicU64; FAULTS.len()],
    disconnects: [AtomicU64; 2],
    body_bytes: [AtomicU64; 2],
    added: Histogram,
    open: Open,
}

/// Where an exchange that is under way is counted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ticket {
    stripe: usize,
    slot: Slot,
}

/// Who made a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answerer {
    /// The upstream; the proxy passed it on.
    Upstream,
    /// The proxy by itself.
    Proxy,
}

/// Sums since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Request heads read.
    pub requests: u64,
    /// Exchanges that ended complete.
    pub complete: u64,
    /// Exchanges that ended failed.
    pub failed: u64,
    /// Exchanges that their clients left before the end.
    pub cancelled: u64,
    /// Exchanges under way.
    pub open: u64,
    /// How long the oldest of them has been under way, in nanoseconds; 0 when there is none.
    pub oldest_open_ns: u64,
    /// Exchanges that began while recording was stopped: they are in no trace.
    pub not_recorded: u64,
    /// The body bytes of these, both ways.
    pub not_recorded_bytes: u64,
    /// Final responses that upstreams made, by class as in [`CLASSES`].
    pub upstream_responses: [u64; CLASSES.len()],
    /// Responses that the proxy made by itself, likewise.
    pub proxy_responses: [u64; CLASSES.len()],
    /// Exchanges that failed at the upstream, by kind as in [`FAULTS`].
    pub upstream_faults: [u64; FAULTS.len()],
    /// Exchanges whose client left before the response had ended.
    pub client_disconnects: u64,
    /// Exchanges whose upstream closed or reset the connection before the response had ended.
    pub upstream_disconnects: u64,
    /// Bytes of request bodies, as far as they were forwarded; counted when a body ends.
    pub request_body_bytes: u64,
    /// Bytes of response bodies, likewise.
    pub response_body_bytes: u64,
    /// The latency that the proxy added to each exchange that the upstream answered: from its having read the request's
    /// head to handing it on to a connection that is ready for it, plus from its having read the response's head to
    /// handing that to the server's connection. Name resolution, connecting, the TLS handshake and all that the upstream
    /// takes are not in it.
    pub added: Latencies,
}

/// Classes of status codes.
pub const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// Kinds of fault, as a trace names them.
pub const FAULTS: [&str; 9] =
    ["closed", "connect", "disconnected", "dns", "other", "protocol", "reset", "timeout", "tls"];

/// A few more than threads usually serve; two that share one still count right.
const STRIPES: usize = 16;

// === impl Metrics ===

impl Metrics {
    /// Counts a request whose head was read at `at`.
    pub(super) fn began(&self, at: Nanos) -> Ticket {
        let stripe = stripe();
        add(&self.stripes[stripe].requests, 1);
        Ticket { stripe, slot: self.stripes[stripe].open.claim(at) }
    }

    /// Counts the end of an exchange.
    pub(super) fn ended(&self, ticket: Ticket, outcome: Outcome, fault: Option<&Fault>) {
        // Its own stripe, so that an end is never seen before the beginning.
        let stripe = &self.stripes[ticket.stripe];
        stripe.open.release(ticket.slot);
        add(&stripe.outcomes[outcome_index(outcome)], 1);
        if outcome == Outcome::Cancelled {
            add(&stripe.disconnects[0], 1);
        }
        if let Some(fault) = fault.filter(|fault| fault.side == FaultSide::Server) {
            add(&stripe.upstream_faults[fault_index(fault.kind)], 1);
            if matches!(fault.kind, FaultKind::Closed | FaultKind::Reset) {
                add(&stripe.disconnects[1], 1);
            }
        }
    }

    /// Counts an exchange that is not recorded since recording is stopped.
    pub(super) fn not_recorded(&self) {
        add(&self.here().not_recorded, 1);
    }

    /// Counts body bytes of an exchange that is not recorded since recording is stopped.
    pub(super) fn not_recorded_bytes(&self, bytes: u64) {
        add(&self.here().not_recorded_bytes, bytes);
    }

    /// Counts a final response.
    pub(super) fn responded(&self, answerer: Answerer, status: StatusCode) {
        let class = usize::from(status.as_u16() / 100).saturating_sub(1);
        if let Some(counter) = self.here().responses[answerer as usize].get(class) {
            add(counter, 1);
        }
    }

    /// Counts the bytes of a body that is over.
    pub(super) fn passed(&self, side: Side, bytes: u64) {
        add(&self.here().body_bytes[side_index(side)], bytes);
    }

    /// Counts a latency that the proxy added, see [`Totals::added`].
    pub(super) fn added(&self, latency: Duration) {
        self.here().added.record(latency);
    }

    /// Returns the sums.
    #[must_use]
    pub fn totals(&self, now: Nanos) -> Totals {
        let mut totals = Totals::default();
        let mut oldest = None;
        for stripe in &self.stripes {
            stripe.add_to(&mut totals);
            oldest = [oldest, stripe.open.oldest()].into_iter().flatten().min();
        }
        let ended = totals.complete + totals.failed + totals.cancelled;
        totals.open = totals.requests.saturating_sub(ended);
        totals.oldest_open_ns = oldest.map_or(0, |at| Nanos::from(now.since(at)).0);
        totals
    }

    fn here(&self) -> &Stripe {
        &self.stripes[stripe()]
    }
}

/// Returns the number of this thread's stripe.
fn stripe() -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static STRIPE: Cell<usize> = Cell::new(THREADS.fetch_add(1, Ordering::Relaxed) % STRIPES);
    }
    // A thread that is ending has none any more.
    STRIPE.try_with(Cell::get).unwrap_or(0)
}

fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

const fn outcome_index(outcome: Outcome) -> usize {
    match outcome {
        Outcome::Complete => 0,
        Outcome::Failed => 1,
        Outcome::Cancelled => 2,
    }
}

/// Returns the place of a kind in [`FAULTS`].
const fn fault_index(kind: FaultKind) -> usize {
    match kind {
        FaultKind::Closed => 0,
        FaultKind::Connect => 1,
        FaultKind::Disconnected => 2,
        FaultKind::Dns => 3,
        FaultKind::Other => 4,
        FaultKind::Protocol => 5,
        FaultKind::Reset => 6,
        FaultKind::Timeout => 7,
        FaultKind::Tls => 8,
    }
}

const fn side_index(side: Side) -> usize {
    match side {
        Side::Request => 0,
        Side::Response => 1,
    }
}

// === impl Stripe ===

impl Stripe {
    fn add_to(&self, totals: &mut Totals) {
        // Ends before beginnings: an exchange that begins and ends meanwhile is not one end too many.
        for (sum, part) in [
            (&mut totals.complete, &self.outcomes[0]),
            (&mut totals.failed, &self.outcomes[1]),
            (&mut totals.cancelled, &self.outcomes[2]),
            (&mut totals.requests, &self.requests),
            (&mut totals.not_recorded, &self.not_recorded),
            (&mut totals.not_recorded_bytes, &self.not_recorded_bytes),
            (&mut totals.client_disconnects, &self.disconnects[0]),
            (&mut totals.upstream_disconnects, &self.disconnects[1]),
            (&mut totals.request_body_bytes, &self.body_bytes[0]),
            (&mut totals.response_body_bytes, &self.body_bytes[1]),
        ] {
            *sum += part.load(Ordering::Relaxed);
        }
        add_all(&mut totals.upstream_responses, &self.responses[Answerer::Upstream as usize]);
        add_all(&mut totals.proxy_responses, &self.responses[Answerer::Proxy as usize]);
        add_all(&mut totals.upstream_faults, &self.upstream_faults);
        totals.added.add(&self.added.latencies());
    }
}

fn add_all(sums: &mut [u64], parts: &[AtomicU64]) {
    for (sum, part) in sums.iter_mut().zip(parts) {
        *sum += part.load(Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(side: FaultSide, kind: FaultKind) -> Fault {
        Fault { side, kind, text: String::new() }
    }

    #[test]
    fn every_kind_of_fault_has_its_place() {
        let metrics = Metrics::default();
        let named = |name| serde_json::from_value(serde_json::Value::from(name)).unwrap();
        for (place, kind) in FAULTS.into_iter().map(named).enumerate() {
            assert_eq!(fault_index(kind), place, "{kind:?}");
            let ticket = metrics.began(Nanos(1));
            metrics.ended(ticket, Outcome::Failed, Some(&fault(FaultSide::Server, kind)));
        }
        let totals = metrics.totals(Nanos(2));
        assert_eq!(totals.upstream_faults, [1; FAULTS.len()]);
        assert_eq!((totals.requests, totals.failed, totals.open), (9, 9, 0));
        assert_eq!(totals.upstream_disconnects, 2, "closed and reset");
    }

    #[test]
    fn what_a_client_or_the_proxy_itself_did_is_no_error_of_the_upstream() {
        let metrics = Metrics::default();
        for (outcome, side, kind) in [
            (Outcome::Cancelled, FaultSide::Client, FaultKind::Disconnected),
            (Outcome::Failed, FaultSide::Local, FaultKind::Closed),
        ] {
            metrics.ended(metrics.began(Nanos(1)), outcome, Some(&fault(side, kind)));
        }
        let totals = metrics.totals(Nanos(2));
        assert_eq!(totals.upstream_faults, [0; FAULTS.len()]);
        assert_eq!((totals.client_disconnects, totals.upstream_disconnects), (1, 0));
    }

    #[test]
    fn threads_add_up_and_the_oldest_is_of_all() {
        let metrics = Metrics::default();
        let first = metrics.began(Nanos(7));
        std::thread::scope(|scope| {
            for _ in 0..2 * STRIPES {
                scope.spawn(|| {
                    for _ in 0..100 {
                        let ticket = metrics.began(Nanos(9));
                        metrics.responded(Answerer::Upstream, StatusCode::OK);
                        metrics.passed(Side::Response, 3);
                        metrics.ended(ticket, Outcome::Complete, None);
                    }
                });
            }
        });
        let totals = metrics.totals(Nanos(17));
        let ended = 200 * STRIPES as u64;
        assert_eq!((totals.requests, totals.complete, totals.open), (ended + 1, ended, 1));
        assert_eq!((totals.oldest_open_ns, totals.upstream_responses[1]), (10, ended));
        assert_eq!(totals.response_body_bytes, 3 * ended);
        metrics.ended(first, Outcome::Complete, None);
        assert_eq!(metrics.totals(Nanos(17)).oldest_open_ns, 0);
    }
}
