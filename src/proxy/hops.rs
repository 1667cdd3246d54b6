//! What an intermediary takes out of a message and puts in (RFC 9110, 7.6).
//!
//! Fields that belong to one connection go: `Connection`, what it names, and the usual ones. A client can't name away
//! what is meant for the server: credentials, `Host`, and what describes the body stay whatever `Connection` says.
//!
//! The order of fields stays: where one goes, a map is built anew, since `HeaderMap::remove` moves the last field to the
//! place of the one removed.

use http::header::{CONNECTION, COOKIE, HOST, TE, TRANSFER_ENCODING, UPGRADE, VIA};
use http::response::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Version};
use hyper::ext::ReasonPhrase;

use crate::trace::redact::is_credential;

/// What is to be done to a message's fields.
#[derive(Clone, Copy, Debug)]
pub struct Hop<'a> {
    /// The version spoken on the connection that the message leaves by.
    pub onward: Version,
    /// The protocol that the message asks to change to, or changes to.
    pub upgrade: Option<&'a HeaderValue>,
    /// Set this as `Host`.
    pub host: Option<&'a HeaderValue>,
    /// Append this to `Via`.
    pub via: Option<&'a HeaderValue>,
}

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// Returns the protocol that a message asks to change to: `Upgrade`, if `Connection` names it. `h2c` is not passed on,
/// nor is a list with `h2c` in it: what the two sides would then say is HTTP that nobody checks.
#[must_use]
pub fn upgrade(headers: &HeaderMap) -> Option<&HeaderValue> {
    let mut all = headers.get_all(UPGRADE).iter();
    let (asked, more) = (all.next()?, all.next());
    let is_nominated = nominated(headers).any(|name| name.eq_ignore_ascii_case("upgrade"));
    (is_nominated && more.is_none() && !lists(asked, "h2c")).then_some(asked)
}

/// Returns whether a protocol to change to is WebSocket.
#[must_use]
pub fn is_websocket(protocol: &HeaderValue) -> bool {
    protocol.as_bytes().trim_ascii().eq_ignore_ascii_case(b"websocket")
}

/// Returns whether `chosen` is one of the protocols in `asked`.
#[must_use]
pub fn offers(asked: &HeaderValue, chosen: &HeaderValue) -> bool {
    chosen.to_str().is_ok_and(|chosen| lists(asked, chosen.trim()))
}

/// Puts the parts of a `Cookie` that HTTP/2 may cut up into one field, as every other version has it (RFC 9113, 8.2.3).
pub fn join_cookies(headers: &mut HeaderMap) {
    let parts: Vec<_> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if parts.len() > 1
        && let Ok(whole) = HeaderValue::from_bytes(&parts.join(&b"; "[..]))
    {
        headers.insert(COOKIE, whole);
    }
}

/// Returns the fields that go on to the next hop.
#[must_use]
pub fn forward(mut headers: HeaderMap, hop: Hop<'_>) -> HeaderMap {
    if !stay(&headers, hop) {
        return rebuilt(&headers, hop);
    }
    if let Some(host) = hop.host {
        headers.insert(HOST, host.clone());
    }
    if let Some(via) = hop.via {
        headers.append(VIA, via.clone());
    }
    headers
}

/// Returns whether each field stays where it is.
fn stay(headers: &HeaderMap, hop: Hop<'_>) -> bool {
    let may_go = |name: &HeaderName| {
        is_hop_by_hop(name)
            || *name == TE
            || (*name == TRANSFER_ENCODING && hop.onward != Version::HTTP_11)
    };
    (hop.host.is_none() || headers.contains_key(HOST)) && !headers.keys().any(may_go)
}

/// As [`forward`], field by field.
fn rebuilt(headers: &HeaderMap, hop: Hop<'_>) -> HeaderMap {
    let mut onward = HeaderMap::with_capacity(headers.len() + 2);
    let has_nominations = headers.contains_key(CONNECTION);
    // HTTP/2 has no `Host`; where it is written, it comes first (RFC 9110, 7.2).
    if let (Some(host), false) = (hop.host, headers.contains_key(HOST)) {
        onward.insert(HOST, host.clone());
    }
    for (name, value) in headers {
        if *name == HOST
            && let Some(host) = hop.host
        {
            onward.insert(HOST, host.clone());
        } else if *name == CONNECTION && hop.upgrade.is_some() {
            onward.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        } else if *name == UPGRADE && hop.upgrade.is_some() {
            onward.append(UPGRADE, value.clone());
        } else if *name == TE {
            if lists(value, "trailers") {
                onward.insert(TE, HeaderValue::from_static("trailers"));
            }
        } else if *name == TRANSFER_ENCODING {
            // The next connection has a framing of its own, but for a chunked body it is the same one.
            if hop.onward == Version::HTTP_11 {
                onward.append(TRANSFER_ENCODING, value.clone());
            }
        } else if !(is_hop_by_hop(name) || has_nominations && is_nominated(headers, name)) {
            onward.append(name, value.clone());
        }
    }
    if let Some(via) = hop.via {
        onward.append(VIA, via.clone());
    }
    onward
}

fn is_hop_by_hop(name: &HeaderName) -> bool {
    *name == CONNECTION
        || *name == UPGRADE
        || *name == KEEP_ALIVE
        || *name == PROXY_CONNECTION
        || *name == HTTP2_SETTINGS
}

/// Fields that `Connection` can't take away: what describes the message, and what intermediaries in front of this one say
/// of the client.
const PROTECTED: [&str; 16] = [
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "forwarded",
    "host",
    "origin",
    "traceparent",
    "tracestate",
    "trailer",
    "via",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
    "x-request-id",
];

/// Returns whether `Connection` names the field, and may.
fn is_nominated(headers: &HeaderMap, name: &HeaderName) -> bool {
    let is_protected = PROTECTED.contains(&name.as_str()) || is_credential(name.as_str());
    !is_protected && nominated(headers).any(|other| other.eq_ignore_ascii_case(name.as_str()))
}

/// Returns the words in `Connection`.
fn nominated(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}

fn lists(value: &HeaderValue, word: &str) -> bool {
    value.to_str().is_ok_and(|text| {
        text.split(',').any(|item| {
            item.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(word)
        })
    })
}

/// Returns the reason phrase, when it is not the usual one.
#[must_use]
pub fn reason(parts: &Parts) -> Option<String> {
    let phrase = parts.extensions.get::<ReasonPhrase>()?;
    Some(String::from_utf8_lossy(phrase.as_bytes()).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Hop<'static> =
        Hop { onward: Version::HTTP_11, upgrade: None, host: None, via: None };

    fn map(fields: &[(&str, &str)]) -> HeaderMap {
        let pairs = fields
            .iter()
            .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap()));
        pairs.fold(HeaderMap::new(), |mut map, (name, value): (HeaderName, HeaderValue)| {
            map.append(name, value);
            map
        })
    }

    #[track_caller]
    fn check(hop: Hop<'_>, fields: &[(&str, &str)], expected: &[(&str, &str)]) {
        let onward = forward(map(fields), hop);
        let seen: Vec<_> =
            onward.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        assert_eq!(seen, expected);
        assert_eq!(rebuilt(&map(fields), hop), onward, "whether or not a field goes");
    }

    #[test]
    fn what_belongs_to_the_message_stays_in_its_order() {
        let fields = [
            ("host", "a"),
            ("accept", "x"),
            ("x-b", "1"),
            ("x-b", "2"),
            ("authorization", "Bearer x"),
            ("content-length", "3"),
            ("expect", "100-continue"),
            ("transfer-encoding", "chunked"),
            ("trailer", "x-t"),
            ("via", "1.1 other"),
        ];
        check(PLAIN, &fields, &fields);
    }

    #[test]
    fn what_belongs_to_the_connection_goes() {
        let fields = [
            ("a", "1"),
            ("connection", "keep-alive, X-Mine"),
            ("b", "2"),
            ("x-mine", "1"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("upgrade", "h2c"),
            ("http2-settings", "x"),
            ("te", "gzip"),
            ("c", "3"),
        ];
        check(PLAIN, &fields, &[("a", "1"), ("b", "2"), ("c", "3")]);
    }

    #[test]
    fn nobody_can_nominate_away_what_is_meant_for_the_server() {
        let kept = [
            ("host", "a"),
            ("authorization", "x"),
            ("x-api-key", "x"),
            ("cookie", "x"),
            ("content-length", "1"),
            ("content-type", "x"),
        ];
        let names: Vec<_> = kept.iter().map(|(name, _)| *name).collect();
        let nominations = names.join(", ");
        let fields = [&kept[..], &[("connection", &nominations)]].concat();
        check(PLAIN, &fields, &kept);
    }

    #[test]
    fn nobody_can_nominate_away_what_is_said_of_a_client() {
        let kept = [("x-forwarded-for", "1.2.3.4"), ("via", "1.1 a"), ("x-request-id", "7")];
        let fields = [&kept[..], &[("connection", "Via, X-Forwarded-For, x-request-id")]].concat();
        check(PLAIN, &fields, &kept);
    }

    #[test]
    fn a_cookie_that_was_cut_up_is_put_together_in_its_place() {
        let mut headers = map(&[("cookie", "a=1"), ("x", "1"), ("cookie", "b=2")]);
        join_cookies(&mut headers);
        assert_eq!(headers, map(&[("cookie", "a=1; b=2"), ("x", "1")]));
    }

    #[test]
    fn no_list_carries_h2c_past() {
        for asked in ["h2c", "H2C", "websocket, h2c", "h2c;q=1,websocket"] {
            assert!(upgrade(&map(&[("connection", "upgrade"), ("upgrade", asked)])).is_none());
        }
        let twice = [("connection", "upgrade"), ("upgrade", "websocket"), ("upgrade", "h2c")];
        assert!(upgrade(&map(&twice)).is_none());
        let asked = HeaderValue::from_static("websocket, x/1");
        assert!(offers(&asked, &HeaderValue::from_static("WebSocket")));
        assert!(!offers(&asked, &HeaderValue::from_static("h2c")));
    }

    #[test]
    fn trailers_may_be_asked_for_and_nothing_else_by_te() {
        check(PLAIN, &[("te", "gzip;q=1, trailers")], &[("te", "trailers")]);
        check(PLAIN, &[("connection", "te"), ("te", "trailers")], &[("te", "trailers")]);
    }

    #[test]
    fn an_upgrade_passes_only_as_such() {
        let fields = map(&[("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")]);
        let asked = upgrade(&fields);
        assert_eq!(asked.unwrap(), "websocket");
        let onward = forward(fields.clone(), Hop { upgrade: asked, ..PLAIN });
        assert_eq!(onward, map(&[("connection", "Upgrade"), ("upgrade", "websocket")]));
        assert!(upgrade(&map(&[("upgrade", "websocket")])).is_none());
        assert!(upgrade(&map(&[("connection", "upgrade"), ("upgrade", "h2c")])).is_none());
    }

    #[test]
    fn http2_has_no_transfer_encoding() {
        let hop = Hop { onward: Version::HTTP_2, ..PLAIN };
        check(hop, &[("transfer-encoding", "chunked"), ("a", "1")], &[("a", "1")]);
    }

    #[test]
    fn host_and_via_are_set_on_demand() {
        let (host, via) = (HeaderValue::from_static("b"), HeaderValue::from_static("1.1 reenact"));
        let hop = Hop { host: Some(&host), via: Some(&via), ..PLAIN };
        check(
            hop,
            &[("host", "a"), ("x", "1")],
            &[("host", "b"), ("x", "1"), ("via", "1.1 reenact")],
        );
        check(hop, &[("x", "1")], &[("host", "b"), ("x", "1"), ("via", "1.1 reenact")]);
    }
}
