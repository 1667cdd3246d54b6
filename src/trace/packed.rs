//! Heads that are packed where they are read.
//!
//! A recorder writes every head and looks at few. Packed, a head is one piece of memory: it keeps no buffer of the
//! connection alive from which it came, and whoever hands it on has no map of fields to take apart.

use http::StatusCode;

use crate::clock::Nanos;
use crate::trace::codec::{decode_event, pack_request, pack_response, request_in, response_in};
use crate::trace::record::{Event, ExchangeId, RequestHeadRef, ResponseHeadRef};
use crate::trace::redact::Redactor;

/// A request's or a response's head as it lies in a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackedHead {
    /// The exchange.
    pub exchange: ExchangeId,
    /// When it was read.
    pub at: Nanos,
    /// The status of a response; none for a request.
    pub status: Option<StatusCode>,
    payload: Vec<u8>,
}

/// Room that is made for a head at once.
const ROOM: usize = 512;

// === impl PackedHead ===

impl PackedHead {
    /// Packs the head of a request; the values of fields that are credentials are replaced, if there is a redactor. What is
    /// in its target is the caller's to replace.
    #[must_use]
    pub fn request(head: RequestHeadRef<'_>, redactor: Option<&Redactor>) -> Self {
        let mut payload = Vec::with_capacity(ROOM);
        pack_request(head, redactor, &mut payload);
        Self { exchange: head.exchange, at: head.at, status: None, payload }
    }

    /// Packs the head of a response, as [`Self::request`] does.
    #[must_use]
    pub fn response(head: ResponseHeadRef<'_>, redactor: Option<&Redactor>) -> Self {
        let mut payload = Vec::with_capacity(ROOM);
        pack_response(head, redactor, &mut payload);
        Self { exchange: head.exchange, at: head.at, status: Some(head.status), payload }
    }

    /// Returns the method of a request, and the fields of either: names are lower-case.
    pub(crate) fn look(&self) -> (Option<&str>, Vec<(&str, &[u8])>) {
        let looked = if self.status.is_some() {
            response_in(&self.payload).map(|head| (None, head.into_fields()))
        } else {
            request_in(&self.payload).map(|head| {
                let (method, fields) = head.into_parts();
                (Some(method), fields)
            })
        };
        looked.expect("what was packed from a head is one")
    }

    /// Returns the bytes of memory that it takes.
    #[must_use]
    pub fn size(&self) -> usize {
        size_of::<Self>() + self.payload.capacity()
    }

    /// Returns the payload of its record.
    pub(super) fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// Returns the opcode of its record.
    pub(super) const fn opcode(&self) -> u8 {
        match self.status {
            None => crate::trace::format::opcode::REQUEST,
            Some(_) => crate::trace::format::opcode::RESPONSE,
        }
    }

    /// Returns the head as an event whose fields can be looked at.
    pub(super) fn unpack(&self) -> Event {
        decode_event(self.opcode(), &self.payload)
            .ok()
            .flatten()
            .expect("what was packed from a head is one")
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue, Method};

    use super::*;
    use crate::trace::record::{RequestHead, ResponseHead, Version};

    fn fields(fields: &[(&'static str, &'static [u8])]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static [u8])| {
            (http::HeaderName::from_static(name), HeaderValue::from_bytes(value).unwrap())
        };
        let mut map = HeaderMap::new();
        for (name, value) in fields.iter().map(pair) {
            map.append(name, value);
        }
        map
    }

    fn request(headers: HeaderMap) -> RequestHead {
        RequestHead {
            exchange: ExchangeId(7),
            at: Nanos(70),
            connection: 3,
            version: Version::Http11,
            method: Method::from_bytes(b"PURGE").unwrap(),
            target: "/v1?a=b".to_owned(),
            authority: Some("api:443".to_owned()),
            headers,
            upstream: 1,
        }
    }

    fn response(headers: HeaderMap) -> ResponseHead {
        ResponseHead {
            exchange: ExchangeId(7),
            at: Nanos(80),
            version: Version::Http2,
            status: StatusCode::IM_A_TEAPOT,
            reason: Some("Short and stout".to_owned()),
            headers,
        }
    }

    const FIELDS: [(&str, &[u8]); 4] =
        [("x-b", b"1"), ("x-raw", b"caf\xe9"), ("x-b", b"2"), ("empty", b"")];

    #[test]
    fn what_is_packed_unpacks_to_the_same() {
        for headers in [fields(&FIELDS), HeaderMap::new()] {
            let head = request(headers.clone());
            let packed = PackedHead::request(head.view(), None);
            assert_eq!((packed.exchange, packed.at, packed.status), (head.exchange, head.at, None));
            assert_eq!(packed.unpack(), Event::Request(Box::new(head)));
            let head = response(headers);
            let packed = PackedHead::response(head.view(), None);
            assert_eq!(packed.status, Some(StatusCode::IM_A_TEAPOT));
            assert_eq!(packed.unpack(), Event::Response(Box::new(head)));
        }
    }

    #[test]
    fn what_is_packed_can_be_looked_at_where_it_lies() {
        // A map has the values of one name together.
        let seen: Vec<(&str, &[u8])> =
            vec![("x-b", b"1"), ("x-b", b"2"), ("x-raw", b"caf\xe9"), ("empty", b"")];
        let packed = PackedHead::request(request(fields(&FIELDS)).view(), None);
        assert_eq!(packed.look(), (Some("PURGE"), seen.clone()));
        let packed = PackedHead::response(response(fields(&FIELDS)).view(), None);
        assert_eq!(packed.look(), (None, seen));
    }

    #[test]
    fn what_is_packed_lies_in_a_trace_as_what_is_not() {
        let mut whole = Vec::new();
        for event in [
            Event::Request(Box::new(request(fields(&FIELDS)))),
            Event::Response(Box::new(response(fields(&FIELDS)))),
        ] {
            let packed = match &event {
                Event::Request(head) => PackedHead::request(head.view(), None),
                Event::Response(head) => PackedHead::response(head.view(), None),
                _ => unreachable!("there are two"),
            };
            let opcode = crate::trace::codec::encode_event(&event, &mut whole);
            assert_eq!((opcode, &*whole), (Some(packed.opcode()), packed.payload()));
        }
    }

    #[test]
    fn credentials_are_not_packed() {
        let redactor = Redactor::new([7; 32], vec!["x-mine".parse().unwrap()], Vec::new());
        let clear = fields(&[
            ("authorization", b"Bearer sk-secret"),
            ("x-mine", b"secret too"),
            ("location", b"/next?api_key=secret"),
            ("x-other", b"open"),
        ]);
        let mut redacted = clear.clone();
        redactor.headers(&mut redacted);
        let packed = PackedHead::request(request(clear.clone()).view(), Some(&redactor));
        assert_eq!(packed.unpack(), Event::Request(Box::new(request(redacted.clone()))));
        let packed = PackedHead::response(response(clear).view(), Some(&redactor));
        assert_eq!(packed.unpack(), Event::Response(Box::new(response(redacted))));
        assert!(!packed.payload().windows(6).any(|six| six == b"secret"));
    }
}
