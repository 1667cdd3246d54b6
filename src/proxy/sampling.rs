//! Which exchanges are recorded: decided once for each, from its request head, before anything is awaited.
//!
//! A share is chosen by session: the key of the session is hashed, and the hash decides, so that all exchanges of a session
//! are recorded or none, on every recorder that has the same secret. Filters choose by path, method and header fields.
//! What is left out is counted, and nothing else of it goes into the queue. Conditions that are known at the end only, such
//! as the status, are the [sieve](crate::proxy::sieve)'s.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use http::request::Parts;
use http::{HeaderMap, HeaderName, Method};
use percent_encoding::percent_decode_str;
use regex::bytes::Regex;

use crate::results::filter::Patterns;
use crate::trace::record::OmitReason;

/// Chooses from request heads.
#[derive(Clone, Debug)]
pub struct Sampler {
    /// The share of sessions that is recorded, in parts per million.
    ppm: u32,
    secret: [u8; 32],
    /// What tells sessions apart: the first of these that a request has.
    keys: Vec<SessionKey>,
    only: Only,
}

/// What tells sessions apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionKey {
    /// The first value of a header field.
    Header(HeaderName),
    /// The first value of a query parameter.
    Query(String),
    /// The client's IP address.
    Address,
    /// The client's connection.
    Connection,
}

/// Conditions on request heads; all must hold.
#[derive(Clone, Debug, Default)]
pub struct Only {
    /// The path is one of these, if there are any.
    pub paths: Vec<Patterns>,
    /// The method is one of these, if there are any.
    pub methods: Vec<Method>,
    /// Each of these fields has such a value.
    pub headers: Vec<FieldIs>,
}

/// A header field and what one of its values must look like.
#[derive(Clone, Debug)]
pub struct FieldIs {
    name: HeaderName,
    value: Regex,
}

/// Who sent a request.
#[derive(Clone, Copy, Debug)]
pub struct Sender {
    /// Its address.
    pub address: IpAddr,
    /// Number of its connection.
    pub connection: u64,
}

/// Why a share or a condition can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SamplingError {
    /// A session key of no known kind.
    #[error(
        "`{0}` is no session key; write it like header:x-session-id, query:session, address or connection"
    )]
    Key(String),
    /// A header condition that is not one.
    #[error("`{0}` is no condition on a header field: {1}; write it like x-tenant=acme|umbrella")]
    Field(String, String),
}

/// Parts in a million.
pub const MILLION: u32 = 1_000_000;

// === impl Sampler ===

impl Sampler {
    /// Makes a sampler that keeps `ppm` parts of a million of the sessions for which `only` holds. Recorders with the same
    /// `secret` choose the same sessions. Without `keys` the connection is the session.
    #[must_use]
    pub fn new(ppm: u32, secret: &[u8; 32], keys: Vec<SessionKey>, only: Only) -> Self {
        // The same secret hashes credentials: what is chosen shall tell nothing about these.
        let secret = blake3::derive_key("reenact 2026 session sampling", secret);
        Self { ppm: ppm.min(MILLION), secret, keys, only }
    }

    /// Returns the share of sessions that is recorded, in parts per million.
    #[must_use]
    pub fn ppm(&self) -> u32 {
        self.ppm
    }

    /// Returns why an exchange is left out, or nothing if it is recorded.
    #[must_use]
    pub fn omits(&self, parts: &Parts, sender: Sender) -> Option<OmitReason> {
        if !self.only.holds(parts) {
            return Some(OmitReason::Filtered);
        }
        (self.ppm < MILLION && !self.chooses(parts, sender)).then_some(OmitReason::Sampled)
    }

    /// Returns whether the session is among those that are recorded.
    fn chooses(&self, parts: &Parts, sender: Sender) -> bool {
        let mut hasher = blake3::Hasher::new_keyed(&self.secret);
        let found = self.keys.iter().any(|key| key.hash(parts, sender, &mut hasher));
        if !found {
            SessionKey::Connection.hash(parts, sender, &mut hasher);
        }
        let mut front = [0; 8];
        front.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
        let place = (u128::from(u64::from_le_bytes(front)) * u128::from(MILLION)) >> 64;
        place < u128::from(self.ppm)
    }
}

impl Default for Sampler {
    /// Keeps everything.
    fn default() -> Self {
        Self::new(MILLION, &[0; 32], Vec::new(), Only::default())
    }
}

// === impl SessionKey ===

impl SessionKey {
    /// Hashes the session of a request; false when it has none of this kind.
    fn hash(&self, parts: &Parts, sender: Sender, hasher: &mut blake3::Hasher) -> bool {
        let mut add = |kind: &[u8], value: &[u8]| {
            hasher.update(kind).update(b"\0").update(value);
        };
        match self {
            Self::Header(name) => {
                let Some(value) = parts.headers.get(name) else { return false };
                add(name.as_str().as_bytes(), value.as_bytes());
            }
            Self::Query(name) => {
                let Some(value) = parameter(parts, name) else { return false };
                add(b"?", &value);
            }
            Self::Address => add(b"address", sender.address.to_canonical().to_string().as_bytes()),
            Self::Connection => add(b"connection", &sender.connection.to_le_bytes()),
        }
        true
    }
}

/// Returns the first value of a query parameter.
fn parameter(parts: &Parts, name: &str) -> Option<Vec<u8>> {
    parts.uri.query()?.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (percent_decode_str(key).eq(name.bytes())).then(|| percent_decode_str(value).collect())
    })
}

impl FromStr for SessionKey {
    type Err = SamplingError;

    fn from_str(text: &str) -> Result<Self, SamplingError> {
        let bad = || SamplingError::Key(text.to_owned());
        Ok(match text.split_once(':') {
            Some(("header", name)) => Self::Header(name.parse().map_err(|_| bad())?),
            Some(("query", name)) if !name.is_empty() => Self::Query(name.to_owned()),
            None if text == "address" => Self::Address,
            None if text == "connection" => Self::Connection,
            _ => return Err(bad()),
        })
    }
}

// === impl Only ===

impl Only {
    fn holds(&self, parts: &Parts) -> bool {
        let path = parts.uri.path();
        (self.paths.is_empty() || self.paths.iter().any(|paths| paths.hold(path)))
            && (self.methods.is_empty() || self.methods.contains(&parts.method))
            && self.headers.iter().all(|field| field.holds(&parts.headers))
    }
}

// === impl FieldIs ===

impl FieldIs {
    fn holds(&self, headers: &HeaderMap) -> bool {
        headers.get_all(&self.name).iter().any(|value| self.value.is_match(value.as_bytes()))
    }
}

impl FromStr for FieldIs {
    type Err = SamplingError;

    fn from_str(text: &str) -> Result<Self, SamplingError> {
        let bad = |why: String| SamplingError::Field(text.to_owned(), why);
        let (name, value) = text.split_once('=').ok_or_else(|| bad("it has no `=`".to_owned()))?;
        let name = name.trim().parse().map_err(|_| bad(format!("`{name}` is no field name")))?;
        // All of the value: a part of it would be `.*part.*`.
        let value =
            Regex::new(&format!("^(?:{value})$")).map_err(|error| bad(error.to_string()))?;
        Ok(Self { name, value })
    }
}

impl fmt::Display for FieldIs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, self.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;
    use proptest::prelude::*;

    fn request(method: &str, target: &str, fields: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().method(method).uri(target);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        parts
    }

    fn sender(connection: u64) -> Sender {
        Sender { address: IpAddr::from([192, 0, 2, 7]), connection }
    }

    #[track_caller]
    fn check(only: &Only, method: &str, target: &str, fields: &[(&str, &str)], kept: bool) {
        let sampler = Sampler::new(MILLION, &[1; 32], Vec::new(), only.clone());
        let parts = request(method, target, fields);
        let expected = (!kept).then_some(OmitReason::Filtered);
        assert_eq!(sampler.omits(&parts, sender(1)), expected);
    }

    #[test]
    fn filters_look_at_path_method_and_fields() {
        check(&Only::default(), "GET", "/", &[], true);
        let paths = |text: &str| Only { paths: vec![text.parse().unwrap()], ..Only::default() };
        check(&paths("/v1/*"), "GET", "/v1/models?x=/v2/", &[], true);
        check(&paths("/v1/*"), "GET", "/v2/models?x=/v1/", &[], false);
        check(&paths("/a|/b"), "GET", "/b", &[], true);
        let methods = Only { methods: vec![Method::POST], ..Only::default() };
        check(&methods, "POST", "/", &[], true);
        check(&methods, "GET", "/", &[], false);
        let fields = |text: &str| Only { headers: vec![text.parse().unwrap()], ..Only::default() };
        check(&fields("x-tenant=acme|umbrella"), "GET", "/", &[("X-Tenant", "umbrella")], true);
        check(&fields("x-tenant=acme"), "GET", "/", &[("x-tenant", "acme-2")], false);
        check(&fields("x-tenant=acme.*"), "GET", "/", &[("x-tenant", "acme-2")], true);
        check(&fields("x-tenant=b"), "GET", "/", &[("x-tenant", "a"), ("x-tenant", "b")], true);
        check(&fields("x-tenant=.*"), "GET", "/", &[], false);
    }

    #[test]
    fn what_can_not_be_used_says_why() {
        for (text, part) in
            [("x-tenant", "no `=`"), ("a b=c", "no field name"), ("a=(", "unclosed group")]
        {
            let error = text.parse::<FieldIs>().unwrap_err().to_string();
            assert!(error.contains(part) && error.contains(text), "{error}");
        }
        for text in ["", "header:", "header:a b", "query:", "cookie:x", "addresses"] {
            let error = text.parse::<SessionKey>().unwrap_err().to_string();
            assert!(error.contains("is no session key"), "{error}");
        }
    }

    #[test]
    fn the_first_key_that_is_there_tells_the_session() {
        let keys: Vec<SessionKey> =
            ["header:x-session", "query:s", "address"].map(|text| text.parse().unwrap()).to_vec();
        let sampler = Sampler::new(500_000, &[1; 32], keys, Only::default());
        let choice = |target: &str, fields: &[(&str, &str)], connection: u64| {
            let parts = request("POST", target, fields);
            sampler.omits(&parts, sender(connection)).is_none()
        };
        for n in 0..64 {
            let value = n.to_string();
            let by_header = choice("/a", &[("x-session", &value)], n);
            assert_eq!(choice("/b?s=other", &[("x-session", &value)], 99), by_header);
            let by_query = choice(&format!("/a?s={value}"), &[], n);
            assert_eq!(choice(&format!("/b?x=1&s={value}&s=2"), &[], 99), by_query);
            assert_eq!(choice("/a", &[], n), choice("/b", &[], 99), "one address");
        }
    }

    #[test]
    fn the_share_is_kept() {
        for ppm in [0, 1_000, 100_000, 500_000, 999_000, MILLION] {
            let sampler = Sampler::new(ppm, &[9; 32], Vec::new(), Only::default());
            let parts = request("GET", "/", &[]);
            let kept =
                (0..20_000_u64).filter(|&n| sampler.omits(&parts, sender(n)).is_none()).count();
            let expected = 20_000.0 * f64::from(ppm) / 1e6;
            // Six standard deviations of a fair draw.
            let bound = 6.0 * (expected * (1.0 - f64::from(ppm) / 1e6)).sqrt();
            #[expect(clippy::cast_precision_loss, reason = "a small count")]
            let off = (kept as f64 - expected).abs();
            assert!(off <= bound, "{kept} of 20000 at {ppm}");
        }
    }

    proptest! {
        #[test]
        fn a_session_is_kept_whole_or_not_at_all_on_every_recorder(
            secret in any::<[u8; 32]>(),
            ppm in 0..=MILLION,
            session in "[ -~]{0,20}",
            paths in prop::collection::vec("/[a-z]{0,5}", 1..8),
        ) {
            let sampler = || {
                let keys = vec![SessionKey::Header(HeaderName::from_static("x-session"))];
                Sampler::new(ppm, &secret, keys, Only::default())
            };
            let (one, other) = (sampler(), sampler());
            let mut choices = paths.iter().zip(0..).flat_map(|(path, n)| {
                let parts = request("POST", path, &[("x-session", &session)]);
                [&one, &other].map(|sampler| sampler.omits(&parts, sender(n)))
            });
            let first = choices.next().unwrap();
            prop_assert!(choices.all(|choice| choice == first));
        }

        /// Who keeps a tenth keeps a part of what he would keep of a fifth.
        #[test]
        fn a_smaller_share_is_a_part_of_a_larger_one(n in any::<u64>(), a in 0..=MILLION, b in 0..=MILLION) {
            let keeps = |ppm: u32| {
                let parts = request("GET", "/", &[]);
                let sampler = Sampler::new(ppm, &[3; 32], Vec::new(), Only::default());
                sampler.omits(&parts, sender(n)).is_none()
            };
            prop_assert!(!keeps(a.min(b)) || keeps(a.max(b)));
        }
    }
}
