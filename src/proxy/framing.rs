//! Which messages may be forwarded at all (RFC 9112, 6; RFC 9110, 7.2 and 15.2).
//!
//! A message whose end is not certain, or whose target is, must not pass: the next server might see another message in
//! it. hyper refuses what it can't read; this page is for what it reads one way where others may read it another way.

use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Version};

use crate::http::heads::Flaw;
use crate::proxy::options::Bounds;
use crate::proxy::refusal::Refusal;

/// Checks a request as it was received: its line and version in `parts`, its fields in `headers`, and what the
/// connection knows of it.
pub(super) fn check_request(
    parts: &Parts,
    headers: &HeaderMap,
    flaw: Option<Flaw>,
    bounds: &Bounds,
) -> Result<(), Refusal> {
    if let Some(flaw) = flaw {
        return Err(Refusal::malformed(match flaw {
            Flaw::LengthAndCoding => "the request has both Content-Length and Transfer-Encoding",
            Flaw::RepeatedLength => "the request has more than one Content-Length",
            Flaw::Framing => "the request follows one whose end is not certain",
        }));
    }
    check_coding(headers)?;
    check_host(parts, headers)?;
    let target = parts.uri.path_and_query().map_or(0, |target| target.as_str().len());
    if target > bounds.max_uri_bytes {
        return Err(Refusal::uri_too_long());
    }
    if headers.len() > bounds.max_headers {
        return Err(Refusal::too_many_fields());
    }
    Ok(())
}

/// Checks a response as it was received.
pub(super) fn check_response(headers: &HeaderMap) -> Result<(), Refusal> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let (coding, length) = (codings.next(), lengths.next());
    if codings.next().is_some() || coding.is_some_and(|coding| !is_chunked(coding)) {
        return Err(Refusal::protocol(
            "the response has a Transfer-Encoding other than one `chunked`",
        ));
    }
    if coding.is_some() && length.is_some() {
        return Err(Refusal::protocol(
            "the response has both Content-Length and Transfer-Encoding",
        ));
    }
    if lengths.next().is_some() || length.is_some_and(|length| !is_number(length)) {
        return Err(Refusal::protocol("the response has a Content-Length that is not one number"));
    }
    Ok(())
}

/// One `Transfer-Encoding: chunked`, or none.
fn check_coding(headers: &HeaderMap) -> Result<(), Refusal> {
    let codings: Vec<_> = headers.get_all(TRANSFER_ENCODING).iter().collect();
    match codings[..] {
        [] => Ok(()),
        [only] if is_chunked(only) => Ok(()),
        _ => {
            let words = codings.iter().flat_map(|value| value.as_bytes().split(|b| *b == b','));
            let chunked = words.filter(|word| word.trim_ascii().eq_ignore_ascii_case(b"chunked"));
            if chunked.count() > 1 {
                return Err(Refusal::malformed("the request is chunked more than once"));
            }
            Err(Refusal::transfer_coding())
        }
    }
}

/// One `Host` that is an authority; HTTP/1.0 and HTTP/2 may go without.
fn check_host(parts: &Parts, headers: &HeaderMap) -> Result<(), Refusal> {
    let mut hosts = headers.get_all(HOST).iter();
    let (host, more) = (hosts.next(), hosts.next());
    if more.is_some() {
        return Err(Refusal::malformed("the request has more than one Host"));
    }
    if host.is_none() && parts.version == Version::HTTP_11 {
        return Err(Refusal::malformed("the request has no Host"));
    }
    let named = host.map(HeaderValue::as_bytes).unwrap_or_default();
    let target = parts.uri.authority().map_or(&[][..], |authority| authority.as_str().as_bytes());
    // A name before `@` is for clients; whoever splits elsewhere sees another host.
    if named.iter().chain(target).any(|byte| b"/?#@\\, \t".contains(byte)) {
        return Err(Refusal::malformed("the request's Host is no host"));
    }
    Ok(())
}

fn is_chunked(coding: &HeaderValue) -> bool {
    coding.as_bytes().eq_ignore_ascii_case(b"chunked")
}

fn is_number(length: &HeaderValue) -> bool {
    let digits = length.as_bytes();
    !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, Request};

    use super::*;

    const BOUNDS: Bounds = Bounds {
        max_uri_bytes: 20,
        max_headers: 3,
        upload_stall: std::time::Duration::ZERO,
        first_byte: None,
        between_chunks: None,
    };

    fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        map
    }

    /// Checks what is said to a request: the code, empty for nothing.
    #[track_caller]
    fn check(version: Version, uri: &str, fields: &[(&'static str, &'static str)], expected: &str) {
        let (parts, ()) = Request::get(uri).version(version).body(()).unwrap().into_parts();
        let refused = check_request(&parts, &map(fields), None, &BOUNDS).err();
        let code = refused.map_or("", |refusal| refusal.code);
        assert_eq!(code, expected, "{version:?} {uri} {fields:?}");
    }

    #[test]
    fn a_request_has_one_host_and_one_end() {
        const HOST: (&str, &str) = ("host", "a:1");
        let h1 = Version::HTTP_11;
        check(h1, "/", &[HOST], "");
        check(h1, "/", &[HOST, ("transfer-encoding", "Chunked")], "");
        check(h1, "/", &[("host", "")], "");
        check(h1, "/", &[("host", "[::1]:80")], "");
        check(h1, "/", &[], "malformed");
        check(Version::HTTP_10, "/", &[], "");
        check(Version::HTTP_2, "http://a/", &[], "");
        check(Version::HTTP_2, "http://u@a/", &[], "malformed");
        check(h1, "/", &[HOST, HOST], "malformed");
        for host in ["a, b", "a/b", "u@a", "a b", "a#", "a\\b"] {
            check(h1, "/", &[("host", host)], "malformed");
        }
        check(h1, "/", &[HOST, ("transfer-encoding", "chunked, chunked")], "malformed");
        let twice = [HOST, ("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")];
        check(h1, "/", &twice, "malformed");
        check(h1, "/", &[HOST, ("transfer-encoding", "gzip, chunked")], "transfer-coding");
        check(h1, "/", &[HOST, ("transfer-encoding", "xchunked")], "transfer-coding");
        check(h1, "/123456789012345678?", &[HOST], "");
        check(h1, "/1234567890123456789?", &[HOST], "uri-too-long");
        check(h1, "/", &[HOST, ("a", "1"), ("a", "2")], "");
        check(h1, "/", &[HOST, ("a", "1"), ("a", "2"), ("b", "1")], "too-many-fields");
    }

    #[test]
    fn a_response_has_one_end() {
        const CHUNKED: (&str, &str) = ("transfer-encoding", "chunked");
        for (fields, is_fine) in [
            (&[][..], true),
            (&[("content-length", "3")], true),
            (&[CHUNKED], true),
            (&[CHUNKED, ("content-length", "3")], false),
            (&[CHUNKED, CHUNKED], false),
            (&[("transfer-encoding", "gzip, chunked")], false),
            (&[("transfer-encoding", "identity")], false),
            (&[("content-length", "3"), ("content-length", "3")], false),
            (&[("content-length", "3, 3")], false),
            (&[("content-length", "+3")], false),
            (&[("content-length", "")], false),
        ] {
            assert_eq!(check_response(&map(fields)).is_ok(), is_fine, "{fields:?}");
        }
    }
}
