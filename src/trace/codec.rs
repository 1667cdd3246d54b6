//! Heads, ends and gaps as bincode payloads: the only file that knows the codec.
//!
//! Fields lie in the order of the structs of `payloads.rs`, which FORMAT.md repeats. What is appended to a payload by a newer minor
//! version is ignored.

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use bincode::error::EncodeError;
use bincode::{BorrowDecode, Decode, Encode};

use crate::trace::codes::one_of;
use crate::trace::fields::FieldsIn;
use crate::trace::format::{FormatVersion, MAX_PAYLOAD, VERSION, opcode};
use crate::trace::payloads::{
    WireEnd, WireHeader, WireInterim, WireLink, WireMissing, WireRequest, WireResponse,
    WireTrailers,
};
use crate::trace::record::{
    Counters, Event, Header, Outcome, RequestHeadRef, ResponseHeadRef, Side,
};
use crate::trace::redact::Redactor;
use crate::trace::wire::Malformed;

/// Encodes to the end of what is there.
struct Appending<'a>(&'a mut Vec<u8>);

const CONFIG: Configuration<LittleEndian, Varint, Limit<MAX_PAYLOAD>> =
    bincode::config::standard().with_limit::<MAX_PAYLOAD>();

/// Makes `payload` that of an event, and returns its opcode; none for frames, which lie in columns.
pub(crate) fn encode_event(event: &Event, payload: &mut Vec<u8>) -> Option<u8> {
    payload.clear();
    let out = payload;
    Some(match event {
        Event::Request(head) => put(opcode::REQUEST, &WireRequest::of(head.view(), None), out),
        Event::Link(link) => put(opcode::LINK, &WireLink::from(link), out),
        Event::Interim(interim) => put(opcode::INTERIM, &WireInterim::from(&**interim), out),
        Event::Response(head) => put(opcode::RESPONSE, &WireResponse::of(head.view(), None), out),
        Event::Trailers(trailers) => put(opcode::TRAILERS, &WireTrailers::from(&**trailers), out),
        Event::End(end) => put(opcode::END, &WireEnd::from(&**end), out),
        Event::Gap(gap) => put(opcode::GAP, &WireMissing::from(gap), out),
        Event::Omission(omission) => put(opcode::OMISSION, &WireMissing::from(omission), out),
        Event::Prompt(prompt) => put(opcode::PROMPT, &**prompt, out),
        Event::Packed(head) => {
            out.extend_from_slice(head.payload());
            head.opcode()
        }
        Event::Frame(_) | Event::Bare(_) => return None,
    })
}

/// Appends the payload of a request's head, see [`PackedHead`](crate::trace::record::PackedHead).
pub(super) fn pack_request(
    head: RequestHeadRef<'_>,
    redactor: Option<&Redactor>,
    out: &mut Vec<u8>,
) {
    append(&WireRequest::of(head, redactor), out);
}

/// Appends the payload of a response's head.
pub(super) fn pack_response(
    head: ResponseHeadRef<'_>,
    redactor: Option<&Redactor>,
    out: &mut Vec<u8>,
) {
    append(&WireResponse::of(head, redactor), out);
}

/// Returns the event of a record; none for an opcode that is not an event's, or a reason that a newer version gives.
pub(crate) fn decode_event(opcode: u8, payload: &[u8]) -> Result<Option<Event>, Malformed> {
    Ok(Some(match opcode {
        opcode::REQUEST => Event::Request(Box::new(decode::<WireRequest>(payload)?.into_head()?)),
        opcode::LINK => Event::Link(decode::<WireLink>(payload)?.into_link()?),
        opcode::INTERIM => {
            Event::Interim(Box::new(decode::<WireInterim>(payload)?.into_interim()?))
        }
        opcode::RESPONSE => {
            Event::Response(Box::new(decode::<WireResponse>(payload)?.into_head()?))
        }
        opcode::TRAILERS => {
            Event::Trailers(Box::new(decode::<WireTrailers>(payload)?.into_trailers()?))
        }
        opcode::END => Event::End(Box::new(decode::<WireEnd>(payload)?.into_end()?)),
        opcode::GAP => return Ok(decode::<WireMissing>(payload)?.into_gap().map(Event::Gap)),
        opcode::OMISSION => {
            let omission = decode::<WireMissing>(payload)?.into_omission();
            return Ok(omission.map(Event::Omission));
        }
        opcode::PROMPT => Event::Prompt(Box::new(decode(payload)?)),
        _ => return Ok(None),
    }))
}

pub(crate) fn encode_header(header: &Header) -> Vec<u8> {
    encode(&WireHeader::of(header, VERSION.minor))
}

/// Returns the header with the version that wrote it.
pub(crate) fn decode_header(payload: &[u8]) -> Result<(FormatVersion, Header), Malformed> {
    let wire: WireHeader = decode_grown(payload)?;
    let (minor, header) = wire.into_header();
    if header.tick_ns == 0 {
        return Err(Malformed("the tick is zero"));
    }
    Ok((FormatVersion { major: VERSION.major, minor }, header))
}

pub(crate) fn encode_counters(counters: &Counters) -> Vec<u8> {
    encode(counters)
}

pub(crate) fn decode_counters(payload: &[u8]) -> Result<Counters, Malformed> {
    decode_grown(payload)
}

/// Returns the number of a side in the file.
pub(crate) const fn side_code(side: Side) -> u8 {
    match side {
        Side::Request => 0,
        Side::Response => 1,
    }
}

pub(crate) fn side_of(code: u8) -> Result<Side, Malformed> {
    one_of(code, &[Side::Request, Side::Response])
}

/// Returns the number of an outcome in the file.
pub(crate) const fn outcome_code(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Complete => 0,
        Outcome::Failed => 1,
        Outcome::Cancelled => 2,
    }
}

pub(crate) fn outcome_of(code: u8) -> Result<Outcome, Malformed> {
    one_of(code, &[Outcome::Complete, Outcome::Failed, Outcome::Cancelled])
}

/// Encodes plain data.
pub(crate) fn encode<T: Encode>(value: &T) -> Vec<u8> {
    let mut out = Vec::new();
    append(value, &mut out);
    out
}

/// Appends `value`, and returns `opcode`.
fn put<T: Encode>(opcode: u8, value: &T, out: &mut Vec<u8>) -> u8 {
    append(value, out);
    opcode
}

fn append<T: Encode>(value: &T, out: &mut Vec<u8>) {
    bincode::encode_into_writer(value, Appending(out), bincode::config::standard())
        .expect("encoding plain data into memory has no way to fail");
}

/// Returns the head of a request where it lies.
pub(super) fn request_in(payload: &[u8]) -> Result<WireRequest<&str, FieldsIn<'_>>, Malformed> {
    borrow(payload)
}

/// Returns the head of a response where it lies.
pub(super) fn response_in(payload: &[u8]) -> Result<WireResponse<&str, FieldsIn<'_>>, Malformed> {
    borrow(payload)
}

fn borrow<'a, T: BorrowDecode<'a, ()>>(payload: &'a [u8]) -> Result<T, Malformed> {
    bincode::borrow_decode_from_slice(payload, CONFIG)
        .map(|(value, _)| value)
        .map_err(|_| Malformed("a payload does not have the layout of its opcode"))
}

/// Decodes plain data; what follows it was appended by a newer minor version.
pub(crate) fn decode<T: Decode<()>>(payload: &[u8]) -> Result<T, Malformed> {
    bincode::decode_from_slice(payload, CONFIG)
        .map(|(value, _)| value)
        .map_err(|_| Malformed("a payload does not have the layout of its opcode"))
}

/// Decodes plain data of which a minor version has appended fields: those that are not there read as zero, none, empty.
pub(crate) fn decode_grown<T: Decode<()>>(payload: &[u8]) -> Result<T, Malformed> {
    let mut padded = payload.to_vec();
    padded.extend_from_slice(&[0; APPENDED]);
    decode(&padded)
}

/// More than the bytes of all fields that were ever appended to one payload, each zero.
const APPENDED: usize = 64;

// === impl Appending ===

impl bincode::enc::write::Writer for Appending<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}
