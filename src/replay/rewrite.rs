//! From a recorded request to the one that is sent: what must change, what the user wants changed, and nothing else.
//!
//! Must change: `Host` names the target; fields that belong to one connection go (RFC 9110, 7.6.1), `Content-Length` is
//! computed anew, and `Expect` goes, since the body follows at once. Credentials go: every field that the recorder
//! replaced, and every field that is a credential by its name, even if some other tool left it in the trace (the list is
//! [`crate::trace::redact`]'s); query parameters go likewise. The user's key comes in by [`Rewrite::api_key`] or a header of their own.
//!
//! All else, `Accept-Encoding` included, is sent as it was recorded, in the recorded order; the body to the byte but for
//! the values that `--set` and `--model-map` name ([`splice`]), and the prefix of a copy ([`crate::replay::scale::salted`]).

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, EXPECT, HOST, TRANSFER_ENCODING,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use percent_encoding::percent_decode_str;

use crate::replay::history::History;
use crate::replay::pin::{self, Length, Lengths, Pinned};
use crate::replay::scale::salted;
use crate::replay::splice;
use crate::trace::record::RequestHead;
use crate::trace::redact::{REDACTED, is_credential, is_credential_parameter};

/// What is changed in every request.
#[derive(Clone, Default)]
pub struct Rewrite {
    /// Models to rename; the first that fits counts.
    pub models: Vec<ModelMap>,
    /// What is done about the lengths of outputs.
    pub lengths: Lengths,
    /// Values to set in JSON bodies, in order; they have the last word.
    pub sets: Vec<splice::Set>,
    /// Fields to set, replacing recorded ones of the same name.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The value of `Authorization`; never printed.
    pub api_key: Option<HeaderValue>,
    /// Names of fields and query parameters whose recorded values are not the client's own.
    pub redacted: Vec<String>,
    /// Whether any other field's or parameter's value may have been replaced, too.
    pub redacts_unlisted: bool,
    /// Seed of the prefixes of copies.
    pub seed: u64,
}

/// `OLD=NEW`: a model to be renamed; `*` is any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelMap {
    /// Recorded name, none for any.
    pub from: Option<String>,
    /// Name to send.
    pub to: String,
}

/// A request as it will be sent, but for the target's host and path prefix.
#[derive(Clone, Debug, PartialEq)]
pub struct Outgoing {
    /// The method.
    pub method: Method,
    /// Path and query.
    pub uri: Uri,
    /// Header fields; `Host` only if the user set one.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// BLAKE3 of method, path and query, header fields without `Host` and credentials, and body.
    pub digest: blake3::Hash,
    /// Whether a value that the user wants set has no place in the body.
    pub misfit: bool,
    /// Whose answers it has in its messages, where live ones were to take the place of recorded ones.
    pub history: Option<History>,
    /// Whether the output's length was pinned; none when that was not asked for, or there is none to pin.
    pub pinned: Option<Pinned>,
}

/// A body and what became of what was wanted of it.
struct Changed {
    body: Bytes,
    misfit: bool,
    pinned: Option<Pinned>,
}

/// Why a recorded request can't be sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RewriteError {
    /// The recorded target is no path.
    #[error("its target `{0}` is not a path")]
    Target(String),
}

/// What is wrong with the text of a header or a model map.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RewriteOptionError {
    /// A header without a colon, or with bytes that no header may hold. The value may be a secret and is not shown.
    #[error("header `{0}` is no use: say NAME:VALUE, as in x-team:blue")]
    Header(String),
    /// A model map without `=`.
    #[error("model map `{0}` is no use: say OLD=NEW, or *=NEW for every model")]
    ModelMap(String),
}

/// Fields that belong to one connection, beside those that `Connection` names.
const HOP_BY_HOP: [&str; 8] = [
    "connection",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Parses `NAME:VALUE`.
///
/// # Errors
/// There is no colon, or a byte that no header may hold.
pub fn header(text: &str) -> Result<(HeaderName, HeaderValue), RewriteOptionError> {
    let wrong =
        || RewriteOptionError::Header(text.split(':').next().unwrap_or_default().trim().to_owned());
    let (name, value) = text.split_once(':').ok_or_else(wrong)?;
    let name_parsed = name.trim().parse().map_err(|_| wrong())?;
    let mut value: HeaderValue = value.trim().parse().map_err(|_| wrong())?;
    value.set_sensitive(is_credential(&name.trim().to_ascii_lowercase()));
    Ok((name_parsed, value))
}

// === impl Rewrite ===

impl Rewrite {
    /// Makes the request to send from the recorded one, whose output had this length.
    ///
    /// # Errors
    /// The recorded request has no form in which it could be sent.
    pub fn apply(
        &self,
        head: &RequestHead,
        body: Bytes,
        length: Length,
    ) -> Result<Outgoing, RewriteError> {
        let uri = self.uri(&head.target)?;
        let Changed { body, misfit, pinned } = self.body(head, uri.path(), body, length);
        let headers = self.headers(head, &body);
        let digest = digest(&head.method, &uri, &headers, &body);
        Ok(Outgoing {
            method: head.method.clone(),
            uri,
            headers,
            body,
            digest,
            misfit,
            pinned,
            history: None,
        })
    }

    /// Puts the prefix of a copy into the body of one of its requests, and returns whether there was a place for it. What is
    /// no copy, and what has no body, needs none.
    #[must_use]
    pub fn salt(&self, headers: &HeaderMap, body: Bytes, copy: u32) -> (Bytes, bool) {
        if copy == 0 || body.is_empty() {
            return (body, true);
        }
        match salted(&body, copy, self.seed).filter(|_| is_plain(headers)) {
            Some(salted) => (salted.into(), true),
            None => (body, false),
        }
    }

    /// Returns path and query, redacted parameters left out.
    fn uri(&self, target: &str) -> Result<Uri, RewriteError> {
        let wrong = || RewriteError::Target(target.chars().take(200).collect());
        if !target.starts_with('/') && target != "*" {
            // Absolute form, as to a forward proxy: only its path is sent on.
            let uri: Uri = target.parse().map_err(|_| wrong())?;
            let path = uri.path_and_query().filter(|_| uri.host().is_some()).ok_or_else(wrong)?;
            return self.uri(path.as_str());
        }
        let Some((path, query)) = target.split_once('?') else {
            return target.parse().map_err(|_| wrong());
        };
        let kept: Vec<&str> =
            query.split('&').filter(|pair| !self.is_secret_parameter(pair)).collect();
        let target = if kept.is_empty() && !query.is_empty() {
            path.to_owned()
        } else {
            format!("{path}?{}", kept.join("&"))
        };
        target.parse().map_err(|_| wrong())
    }

    /// Returns the body as it is to be sent.
    fn body(&self, head: &RequestHead, path: &str, body: Bytes, length: Length) -> Changed {
        let unchanged = self.models.is_empty() && self.sets.is_empty();
        if body.is_empty() || (unchanged && self.lengths == Lengths::default()) {
            return Changed { body, misfit: false, pinned: None };
        }
        if !is_plain(&head.headers) {
            let pinned = pin::edit(self.lengths, path, b"", length).pinned;
            return Changed { body, misfit: !unchanged || self.lengths.cap.is_some(), pinned };
        }
        let mut changed = self.rename(&body);
        let edited = pin::edit(self.lengths, path, changed.as_deref().unwrap_or(&body), length);
        changed = edited.body.or(changed);
        let mut misfit = edited.misfit;
        for set in &self.sets {
            match splice::set(changed.as_deref().unwrap_or(&body), &set.path, &set.value) {
                Some(new) => changed = Some(new),
                None => misfit = true,
            }
        }
        Changed { body: changed.map_or(body, Bytes::from), misfit, pinned: edited.pinned }
    }

    /// Returns the body with its model renamed; none when there is nothing to rename.
    fn rename(&self, body: &[u8]) -> Option<Vec<u8>> {
        if self.models.is_empty() {
            return None;
        }
        let path = splice::Path::key("model");
        let recorded: String = serde_json::from_slice(splice::find(body, &path)?).ok()?;
        let map = self
            .models
            .iter()
            .find(|map| map.from.as_ref().is_none_or(|from| *from == recorded))?;
        splice::set(body, &path, &splice::quoted(&map.to))
    }

    fn headers(&self, head: &RequestHead, body: &Bytes) -> HeaderMap {
        let nominated: Vec<String> = head
            .headers
            .get_all(CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .map(|name| name.trim().to_ascii_lowercase())
            .collect();
        let mut headers = HeaderMap::with_capacity(head.headers.len() + 4);
        for (name, value) in &head.headers {
            let dropped = [HOST, CONTENT_LENGTH, EXPECT].contains(name)
                || HOP_BY_HOP.contains(&name.as_str())
                || nominated.iter().any(|nominated| nominated == name.as_str())
                || self.is_secret(name, value);
            if !dropped {
                headers.append(name, value.clone());
            }
        }
        let had_body =
            [CONTENT_LENGTH, TRANSFER_ENCODING].iter().any(|name| head.headers.contains_key(name));
        if !body.is_empty() || had_body {
            headers.insert(CONTENT_LENGTH, body.len().into());
        }
        for (name, value) in &self.headers {
            headers.insert(name, value.clone());
        }
        if let Some(key) = &self.api_key {
            headers.insert(AUTHORIZATION, key.clone());
        }
        headers
    }

    /// Returns whether a field is a credential, or stands for one. Names of fields and of parameters are in one list: a
    /// field that only shares its name with a parameter keeps its value.
    fn is_secret(&self, name: &HeaderName, value: &HeaderValue) -> bool {
        let is_replaced = || memchr::memmem::find(value.as_bytes(), REDACTED.as_bytes()).is_some();
        let may_be_replaced = self.redacts_unlisted || self.is_redacted(name.as_str());
        is_credential(name.as_str()) || (may_be_replaced && is_replaced())
    }

    /// Returns whether a query parameter is a credential, or stands for one.
    fn is_secret_parameter(&self, pair: &str) -> bool {
        let name =
            percent_decode_str(pair.split('=').next().unwrap_or_default()).decode_utf8_lossy();
        let is_replaced = || self.redacts_unlisted && pair.contains(REDACTED);
        is_credential_parameter(&name) || self.is_redacted(&name) || is_replaced()
    }

    fn is_redacted(&self, name: &str) -> bool {
        self.redacted.iter().any(|redacted| redacted.eq_ignore_ascii_case(name))
    }
}

impl fmt::Debug for Rewrite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Values of headers may be secrets.
        let names: Vec<_> = self.headers.iter().map(|(name, _)| name).collect();
        f.debug_struct("Rewrite")
            .field("models", &self.models)
            .field("lengths", &self.lengths)
            .field("sets", &self.sets)
            .field("headers", &names)
            .finish_non_exhaustive()
    }
}

// === impl ModelMap ===

impl FromStr for ModelMap {
    type Err = RewriteOptionError;

    fn from_str(text: &str) -> Result<Self, RewriteOptionError> {
        match text.split_once('=') {
            Some((from, to)) if !from.is_empty() && !to.is_empty() => {
                Ok(Self { from: (from != "*").then(|| from.to_owned()), to: to.to_owned() })
            }
            _ => Err(RewriteOptionError::ModelMap(text.to_owned())),
        }
    }
}

impl fmt::Display for ModelMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.from.as_deref().unwrap_or("*"), self.to)
    }
}

/// Returns whether a body can be changed: it has no content coding.
fn is_plain(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_ENCODING)
        .is_none_or(|coding| coding.as_bytes().eq_ignore_ascii_case(b"identity"))
}

/// Digests a request: each part with its length before it, so that no two requests give the same bytes.
fn digest(method: &Method, uri: &Uri, headers: &HeaderMap, body: &[u8]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    let mut part = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    part(method.as_str().as_bytes());
    part(uri.to_string().as_bytes());
    for (name, value) in headers {
        if *name != HOST && !is_credential(name.as_str()) {
            part(name.as_str().as_bytes());
            part(value.as_bytes());
        }
    }
    part(body);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Nanos;
    use crate::trace::record::{ExchangeId, Version};

    fn recorded(target: &str, headers: &[(&str, &str)]) -> RequestHead {
        RequestHead {
            exchange: ExchangeId(1),
            at: Nanos(5),
            connection: 1,
            version: Version::Http11,
            method: Method::POST,
            target: target.to_owned(),
            authority: Some("api.example.com".to_owned()),
            headers: headers
                .iter()
                .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap()))
                .collect(),
            upstream: 0,
        }
    }

    fn apply(rewrite: &Rewrite, headers: &[(&str, &str)], body: &'static str) -> Outgoing {
        let body = Bytes::from_static(body.as_bytes());
        rewrite.apply(&recorded("/v1/chat", headers), body, Length::Unknown).unwrap()
    }

    /// Checks the header fields that are sent.
    fn check(rewrite: &Rewrite, headers: &[(&str, &str)], body: &'static str, expected: &str) {
        let sent = apply(rewrite, headers, body);
        let fields: Vec<String> = sent
            .headers
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect();
        assert_eq!(fields.join(", "), expected);
    }

    #[test]
    fn only_end_to_end_fields_are_sent() {
        check(
            &Rewrite::default(),
            &[
                ("host", "api.example.com"),
                ("accept-encoding", "gzip, br"),
                ("connection", "keep-alive, X-Hop"),
                ("x-hop", "1"),
                ("keep-alive", "timeout=5"),
                ("transfer-encoding", "chunked"),
                ("te", "trailers"),
                ("expect", "100-continue"),
                ("upgrade", "h2c"),
                ("x-two", "a"),
                ("x-two", "b"),
            ],
            "{}",
            "accept-encoding: gzip, br, x-two: a, x-two: b, content-length: 2",
        );
        check(&Rewrite::default(), &[("content-length", "9")], "", "content-length: 0");
        check(&Rewrite::default(), &[], "", "");
    }

    #[test]
    fn recorded_credentials_are_never_sent() {
        let rewrite = Rewrite {
            redacted: ["X-Mine", "key", "mine"].map(str::to_owned).into(),
            ..Rewrite::default()
        };
        let headers = [
            ("authorization", "Bearer s"),
            ("cookie", "s"),
            ("x-api-key", "s"),
            ("x-mine", "redacted:1f"),
            ("mine", "kept"),
            ("a", "b"),
        ];
        check(&rewrite, &headers, "", "mine: kept, a: b");
        let key = Rewrite { api_key: Some("Bearer mine".parse().unwrap()), ..rewrite.clone() };
        check(&key, &headers, "", "mine: kept, a: b, authorization: Bearer mine");
        for (target, expected) in [
            ("/x?key=s&b=2", "/x?b=2"),
            ("/x?key=s", "/x"),
            ("/x?%61pi_key=s&mine=t&c=1", "/x?c=1"),
            ("/x?b=2&KEY=s&c", "/x?b=2&c"),
            ("/x?", "/x?"),
            ("http://api.example.com/x?b=1", "/x?b=1"),
        ] {
            let sent =
                rewrite.apply(&recorded(target, &[]), Bytes::new(), Length::Unknown).unwrap();
            assert_eq!(sent.uri.to_string(), expected);
        }
        assert!(
            rewrite
                .apply(&recorded("api.example.com:443", &[]), Bytes::new(), Length::Unknown)
                .is_err()
        );
        assert!(!format!("{key:?}").contains("mine\""));
    }

    #[test]
    fn the_users_fields_replace_recorded_ones() {
        let headers = vec![header("X-Two: c").unwrap(), header("host:elsewhere").unwrap()];
        check(
            &Rewrite { headers, ..Rewrite::default() },
            &[("x-two", "a"), ("x-two", "b")],
            "",
            "x-two: c, host: elsewhere",
        );
        assert_eq!(
            header("no colon").unwrap_err(),
            RewriteOptionError::Header("no colon".to_owned())
        );
        assert!(!header("x-api-key secret").unwrap_err().to_string().contains("VALUE: "));
        assert!(header("authorization: Bearer x").unwrap().1.is_sensitive());
    }

    #[test]
    fn models_are_renamed_and_values_set_in_place() {
        let rewrite = |models: &[&str], sets: &[&str]| Rewrite {
            models: models.iter().map(|map| map.parse().unwrap()).collect(),
            sets: sets.iter().map(|set| set.parse().unwrap()).collect(),
            ..Rewrite::default()
        };
        let body = r#"{"model": "a", "n":1.0}"#;
        for (rewrite, expected) in [
            (rewrite(&[], &[]), body),
            (rewrite(&["b=c"], &[]), body),
            (rewrite(&["a=c", "*=d"], &[]), r#"{"model": "c", "n":1.0}"#),
            (rewrite(&["b=c", "*=d"], &[]), r#"{"model": "d", "n":1.0}"#),
            (rewrite(&["*=d"], &["n=2", "m=x"]), r#"{"model": "d", "n":2,"m":"x"}"#),
        ] {
            let sent = apply(&rewrite, &[], body);
            assert_eq!((std::str::from_utf8(&sent.body).unwrap(), sent.misfit), (expected, false));
            assert_eq!(sent.headers[CONTENT_LENGTH], sent.body.len().to_string());
        }
        let sent = apply(&rewrite(&["*=d"], &["n=2"]), &[], "not json");
        assert_eq!((&sent.body[..], sent.misfit), (&b"not json"[..], true));
        let sent = apply(&rewrite(&["*=d"], &[]), &[("content-encoding", "gzip")], body);
        assert_eq!((&sent.body[..], sent.misfit), (body.as_bytes(), true));
        assert!("a".parse::<ModelMap>().is_err() && "=b".parse::<ModelMap>().is_err());
    }

    #[test]
    fn the_digest_covers_what_is_sent_but_neither_host_nor_credentials() {
        let plain = apply(&Rewrite::default(), &[("a", "b")], "{}");
        let same = |rewrite: &Rewrite, headers: &[(&str, &str)], body| {
            apply(rewrite, headers, body).digest == plain.digest
        };
        let key = Rewrite {
            api_key: Some("Bearer x".parse().unwrap()),
            headers: vec![header("host: h").unwrap()],
            ..Rewrite::default()
        };
        assert!(same(&key, &[("a", "b"), ("host", "z")], "{}"));
        assert!(!same(&Rewrite::default(), &[("a", "c")], "{}"));
        assert!(!same(&Rewrite::default(), &[("a", "b")], "{ }"));
        assert!(!same(&Rewrite::default(), &[("ab", "")], "{}"));
    }
}
