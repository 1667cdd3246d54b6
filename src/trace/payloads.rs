//! The layouts of the payloads that `codec.rs` encodes: fields in the order of the file.
//!
//! What is written is borrowed, since a recorder encodes each head there is; what is read is owned.

use bincode::{Decode, Encode};
use http::Method;

use crate::clock::{Anchor, Nanos};
use crate::trace::codec::{outcome_code, outcome_of, side_code, side_of};
use crate::trace::codes::{
    DROP_REASONS, FAULT_KINDS, FAULT_SIDES, OMIT_REASONS, VERSIONS, code_of, one_of, status,
};
use crate::trace::fields::{Fields, FieldsIn, FieldsOf, headers};
use crate::trace::mark::WirePolicy;
use crate::trace::record::{
    End, ExchangeId, Fault, Gap, Header, Interim, Link, Omission, Passed, RequestHead,
    RequestHeadRef, ResponseHead, ResponseHeadRef, Trailers,
};
use crate::trace::redact::Redactor;
use crate::trace::wire::Malformed;

#[derive(Encode, Decode)]
pub(super) struct WireHeader {
    minor: u16,
    trace: [u8; 16],
    segment: u32,
    anchor: Anchor,
    tick_ns: u32,
    tool: String,
    listen: String,
    upstreams: Vec<String>,
    redacted: Vec<String>,
    sampled_ppm: u32,
    policy: WirePolicy,
}

#[derive(Encode, Decode)]
pub(super) struct WireRequest<T = String, F = Fields> {
    exchange: u64,
    at: u64,
    connection: u64,
    version: u8,
    method: T,
    target: T,
    authority: Option<T>,
    fields: F,
    upstream: u32,
}

#[derive(Encode, Decode)]
pub(super) struct WireLink {
    exchange: u64,
    at: u64,
    connection: u64,
    reused: bool,
    version: u8,
    connect_ns: u64,
    tls_ns: u64,
}

#[derive(Encode, Decode)]
pub(super) struct WireInterim<F = Fields> {
    exchange: u64,
    at: u64,
    status: u16,
    fields: F,
}

#[derive(Encode, Decode)]
pub(super) struct WireResponse<T = String, F = Fields> {
    exchange: u64,
    at: u64,
    version: u8,
    status: u16,
    reason: Option<T>,
    fields: F,
}

#[derive(Encode, Decode)]
pub(super) struct WireTrailers<F = Fields> {
    exchange: u64,
    side: u8,
    at: u64,
    fields: F,
}

#[derive(Encode, Decode)]
pub(super) struct WireEnd<T = String> {
    exchange: u64,
    at: u64,
    outcome: u8,
    fault: Option<WireFault<T>>,
    request: Passed,
    response: Passed,
}

#[derive(Encode, Decode)]
pub(super) struct WireFault<T = String> {
    side: u8,
    kind: u8,
    text: T,
}

/// A gap, or an omission: they differ in what their reasons are.
#[derive(Encode, Decode)]
pub(super) struct WireMissing {
    from: u64,
    until: u64,
    reason: u8,
    exchanges: u64,
    frames: u64,
    bytes: u64,
}

// === impl WireHeader ===

impl WireHeader {
    pub(super) fn of(header: &Header, minor: u16) -> Self {
        let header = header.clone();
        Self {
            minor,
            trace: header.trace,
            segment: header.segment,
            anchor: header.anchor,
            tick_ns: header.tick_ns,
            tool: header.tool,
            listen: header.listen,
            upstreams: header.upstreams,
            redacted: header.redacted,
            sampled_ppm: header.sampled_ppm,
            policy: WirePolicy(header.policy),
        }
    }

    /// Returns the minor version that wrote the header, and the header.
    pub(super) fn into_header(self) -> (u16, Header) {
        let header = Header {
            trace: self.trace,
            segment: self.segment,
            anchor: self.anchor,
            tick_ns: self.tick_ns,
            tool: self.tool,
            listen: self.listen,
            upstreams: self.upstreams,
            redacted: self.redacted,
            sampled_ppm: self.sampled_ppm,
            policy: self.policy.0,
        };
        (self.minor, header)
    }
}

// === impl WireRequest ===

impl<'a> WireRequest<&'a str, FieldsOf<'a>> {
    /// Lays a head out; values that `redactor` covers are replaced.
    pub(super) fn of(head: RequestHeadRef<'a>, redactor: Option<&'a Redactor>) -> Self {
        Self {
            exchange: head.exchange.0,
            at: head.at.0,
            connection: head.connection,
            version: code_of(&head.version, &VERSIONS),
            method: head.method.as_str(),
            target: head.target,
            authority: head.authority,
            fields: FieldsOf { headers: head.headers, redactor },
            upstream: head.upstream,
        }
    }
}

impl<'a> WireRequest<&'a str, FieldsIn<'a>> {
    /// Returns its method and its fields.
    pub(super) fn into_parts(self) -> (&'a str, FieldsIn<'a>) {
        (self.method, self.fields)
    }
}

impl WireRequest {
    pub(super) fn into_head(self) -> Result<RequestHead, Malformed> {
        Ok(RequestHead {
            exchange: ExchangeId(self.exchange),
            at: Nanos(self.at),
            connection: self.connection,
            version: one_of(self.version, &VERSIONS)?,
            method: Method::from_bytes(self.method.as_bytes())
                .map_err(|_| Malformed("a method is not one"))?,
            target: self.target,
            authority: self.authority,
            headers: headers(self.fields)?,
            upstream: self.upstream,
        })
    }
}

// === impl WireLink ===

impl From<&Link> for WireLink {
    fn from(link: &Link) -> Self {
        Self {
            exchange: link.exchange.0,
            at: link.at.0,
            connection: link.connection,
            reused: link.reused,
            version: code_of(&link.version, &VERSIONS),
            connect_ns: link.connect_ns,
            tls_ns: link.tls_ns,
        }
    }
}

impl WireLink {
    pub(super) fn into_link(self) -> Result<Link, Malformed> {
        Ok(Link {
            exchange: ExchangeId(self.exchange),
            at: Nanos(self.at),
            connection: self.connection,
            reused: self.reused,
            version: one_of(self.version, &VERSIONS)?,
            connect_ns: self.connect_ns,
            tls_ns: self.tls_ns,
        })
    }
}

// === impl WireInterim ===

impl<'a> From<&'a Interim> for WireInterim<FieldsOf<'a>> {
    fn from(interim: &'a Interim) -> Self {
        Self {
            exchange: interim.exchange.0,
            at: interim.at.0,
            status: interim.status.as_u16(),
            fields: FieldsOf::whole(&interim.headers),
        }
    }
}

impl WireInterim {
    pub(super) fn into_interim(self) -> Result<Interim, Malformed> {
        Ok(Interim {
            exchange: ExchangeId(self.exchange),
            at: Nanos(self.at),
            status: status(self.status)?,
            headers: headers(self.fields)?,
        })
    }
}

// === impl WireResponse ===

impl<'a> WireResponse<&'a str, FieldsOf<'a>> {
    /// Lays a head out; values that `redactor` covers are replaced.
    pub(super) fn of(head: ResponseHeadRef<'a>, redactor: Option<&'a Redactor>) -> Self {
        Self {
            exchange: head.exchange.0,
            at: head.at.0,
            version: code_of(&head.version, &VERSIONS),
            status: head.status.as_u16(),
            reason: head.reason,
            fields: FieldsOf { headers: head.headers, redactor },
        }
    }
}

impl<'a> WireResponse<&'a str, FieldsIn<'a>> {
    /// Returns its fields.
    pub(super) fn into_fields(self) -> FieldsIn<'a> {
        self.fields
    }
}

impl WireResponse {
    pub(super) fn into_head(self) -> Result<ResponseHead, Malformed> {
        Ok(ResponseHead {
            exchange: ExchangeId(self.exchange),
            at: Nanos(self.at),
            version: one_of(self.version, &VERSIONS)?,
            status: status(self.status)?,
            reason: self.reason,
            headers: headers(self.fields)?,
        })
    }
}

// === impl WireTrailers ===

impl<'a> From<&'a Trailers> for WireTrailers<FieldsOf<'a>> {
    fn from(trailers: &'a Trailers) -> Self {
        Self {
            exchange: trailers.exchange.0,
            side: side_code(trailers.side),
            at: trailers.at.0,
            fields: FieldsOf::whole(&trailers.headers),
        }
    }
}

impl WireTrailers {
    pub(super) fn into_trailers(self) -> Result<Trailers, Malformed> {
        Ok(Trailers {
            exchange: ExchangeId(self.exchange),
            side: side_of(self.side)?,
            at: Nanos(self.at),
            headers: headers(self.fields)?,
        })
    }
}

// === impl WireEnd ===

impl<'a> From<&'a End> for WireEnd<&'a str> {
    fn from(end: &'a End) -> Self {
        Self {
            exchange: end.exchange.0,
            at: end.at.0,
            outcome: outcome_code(end.outcome),
            fault: end.fault.as_ref().map(|fault| WireFault {
                side: code_of(&fault.side, &FAULT_SIDES),
                kind: code_of(&fault.kind, &FAULT_KINDS),
                text: fault.text.as_str(),
            }),
            request: end.request,
            response: end.response,
        }
    }
}

impl WireEnd {
    pub(super) fn into_end(self) -> Result<End, Malformed> {
        let fault = match self.fault {
            Some(fault) => Some(Fault {
                side: one_of(fault.side, &FAULT_SIDES)?,
                kind: one_of(fault.kind, &FAULT_KINDS)?,
                text: fault.text,
            }),
            None => None,
        };
        Ok(End {
            exchange: ExchangeId(self.exchange),
            at: Nanos(self.at),
            outcome: outcome_of(self.outcome)?,
            fault,
            request: self.request,
            response: self.response,
        })
    }
}

// === impl WireMissing ===

impl From<&Gap> for WireMissing {
    fn from(gap: &Gap) -> Self {
        let Gap { from, until, reason, exchanges, frames, bytes } = *gap;
        let reason = code_of(&reason, &DROP_REASONS);
        Self { from: from.0, until: until.0, reason, exchanges, frames, bytes }
    }
}

impl From<&Omission> for WireMissing {
    fn from(omission: &Omission) -> Self {
        let Omission { from, until, reason, exchanges, frames, bytes } = *omission;
        let reason = code_of(&reason, &OMIT_REASONS);
        Self { from: from.0, until: until.0, reason, exchanges, frames, bytes }
    }
}

impl WireMissing {
    /// Returns the gap; none when a newer minor version has given a reason that this one does not know.
    pub(super) fn into_gap(self) -> Option<Gap> {
        let Self { from, until, reason, exchanges, frames, bytes } = self;
        let reason = one_of(reason, &DROP_REASONS).ok()?;
        Some(Gap { from: Nanos(from), until: Nanos(until), reason, exchanges, frames, bytes })
    }

    /// As [`Self::into_gap`], of an omission.
    pub(super) fn into_omission(self) -> Option<Omission> {
        let Self { from, until, reason, exchanges, frames, bytes } = self;
        let reason = one_of(reason, &OMIT_REASONS).ok()?;
        Some(Omission { from: Nanos(from), until: Nanos(until), reason, exchanges, frames, bytes })
    }
}
