//! Credentials: which header fields and query parameters are, and what stands in their place in a trace.
//!
//! The list here is the only one: what the recorder replaces is what a replay does not send. A value is replaced by a
//! keyed BLAKE3 hash of it, so that equal credentials are still seen to be equal within traces of one key, and nothing
//! leads back: the key is random and forgotten, unless its owner keeps it in a file.

use std::borrow::Cow;

use http::header::{AUTHORIZATION, CONTENT_LOCATION, LOCATION, PROXY_AUTHORIZATION, REFERER};
use http::{HeaderMap, HeaderName, HeaderValue};

/// Replaces credentials.
#[derive(Clone)]
pub struct Redactor {
    key: [u8; 32],
    headers: Vec<HeaderName>,
    parameters: Vec<String>,
    /// When there, whatever is neither here nor in [`FRAMING_HEADERS`] is replaced.
    allowed_headers: Option<Vec<HeaderName>>,
    /// When there, whatever is not here is replaced.
    allowed_parameters: Option<Vec<String>>,
}

/// Header fields that are credentials by their names, lower-case, sorted.
pub const CREDENTIAL_HEADERS: [&str; 22] = [
    "api-key",
    "apikey",
    "authorization",
    "authorization-key",
    "cf-access-client-secret",
    "cookie",
    "ocp-apim-subscription-key",
    "openai-api-key",
    "proxy-authorization",
    "set-cookie",
    "set-cookie2",
    "x-access-token",
    "x-amz-security-token",
    "x-api-key",
    "x-api-token",
    "x-auth-token",
    "x-csrf-token",
    "x-functions-key",
    "x-goog-api-key",
    "x-ms-authorization-auxiliary",
    "x-vault-token",
    "xi-api-key",
];

/// Query parameters that are credentials by their names, lower-case, sorted.
pub const CREDENTIAL_PARAMETERS: [&str; 18] = [
    "access_token",
    "api-key",
    "api_key",
    "apikey",
    "auth",
    "client_secret",
    "code",
    "id_token",
    "key",
    "password",
    "refresh_token",
    "secret",
    "sig",
    "signature",
    "subscription-key",
    "token",
    "x-amz-security-token",
    "x-amz-signature",
];

/// Header fields without which a message can't be understood: they are always allowed, unless redacted by name. Lower-case,
/// sorted.
pub const FRAMING_HEADERS: [&str; 11] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// What every replaced value begins with (after the scheme word of `Authorization`).
pub const REDACTED: &str = "redacted:";

/// Returns whether a header field of this lower-case name is a credential.
#[must_use]
pub fn is_credential(name: &str) -> bool {
    // Of 22 names few are as long as this one: faster than a search by order, for each field of each message.
    CREDENTIAL_HEADERS.contains(&name)
}

/// Returns whether a query parameter of this name is a credential, in any case.
#[must_use]
pub fn is_credential_parameter(name: &str) -> bool {
    CREDENTIAL_PARAMETERS.iter().any(|parameter| parameter.eq_ignore_ascii_case(name))
}

// === impl Redactor ===

impl Redactor {
    /// Makes a redactor of the lists above and of some names more.
    #[must_use]
    pub fn new(key: [u8; 32], headers: Vec<HeaderName>, parameters: Vec<String>) -> Self {
        Self { key, headers, parameters, allowed_headers: None, allowed_parameters: None }
    }

    /// Also replaces what is not on these lists, where there are lists.
    #[must_use]
    pub fn allowing(
        self,
        headers: Option<Vec<HeaderName>>,
        parameters: Option<Vec<String>>,
    ) -> Self {
        Self { allowed_headers: headers, allowed_parameters: parameters, ..self }
    }

    /// Makes one that replaces more, with the same key: equal values stay equal.
    #[must_use]
    pub fn with_more(&self, headers: Vec<HeaderName>, parameters: Vec<String>) -> Self {
        let mut more = self.clone();
        more.headers.extend(headers);
        more.parameters.extend(parameters);
        more
    }

    /// Returns the names of all fields and parameters whose values are replaced, as a trace's header lists them.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = CREDENTIAL_HEADERS
            .iter()
            .chain(&CREDENTIAL_PARAMETERS)
            .map(|name| (*name).to_owned())
            .chain(self.headers.iter().map(ToString::to_string))
            .chain(self.parameters.iter().map(|name| name.to_ascii_lowercase()))
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Returns whether the values of this field are replaced.
    #[must_use]
    pub fn covers(&self, name: &HeaderName) -> bool {
        is_credential(name.as_str())
            || self.headers.contains(name)
            || self.allowed_headers.as_ref().is_some_and(|allowed| {
                !allowed.contains(name) && FRAMING_HEADERS.binary_search(&name.as_str()).is_err()
            })
    }

    /// Replaces the values of credentials in place; order and all else stay.
    pub fn headers(&self, headers: &mut HeaderMap) {
        for (name, value) in headers {
            if let Some(replaced) = self.replaced(name, value) {
                *value = replaced;
            }
        }
    }

    /// Returns what stands in place of a field's value; none where that stays.
    #[must_use]
    pub fn replaced(&self, name: &HeaderName, value: &HeaderValue) -> Option<HeaderValue> {
        if self.covers(name) {
            return Some(self.value(name, value));
        }
        if name != LOCATION && name != CONTENT_LOCATION && name != REFERER {
            return None;
        }
        match self.target(value.to_str().ok()?) {
            Cow::Owned(text) => HeaderValue::try_from(text).ok(),
            Cow::Borrowed(_) => None,
        }
    }

    /// Returns a path with its query (or a URL), the values of credential parameters replaced.
    #[must_use]
    pub fn target<'a>(&self, target: &'a str) -> Cow<'a, str> {
        let Some((path, query)) = target.split_once('?') else { return Cow::Borrowed(target) };
        if !query.split('&').any(|pair| self.covers_parameter(pair)) {
            return Cow::Borrowed(target);
        }
        let mut out = String::with_capacity(target.len() + 64);
        out.push_str(path);
        for (number, pair) in query.split('&').enumerate() {
            out.push(if number == 0 { '?' } else { '&' });
            match pair.split_once('=') {
                Some((name, value)) if self.covers_parameter(pair) => {
                    out.push_str(name);
                    out.push('=');
                    out.push_str(&self.hash(value.as_bytes()));
                }
                None if self.covers_parameter(pair) => out.push_str(&self.hash(pair.as_bytes())),
                _ => out.push_str(pair),
            }
        }
        Cow::Owned(out)
    }

    fn covers_parameter(&self, pair: &str) -> bool {
        let (name, has_value) =
            pair.split_once('=').map_or((pair, false), |(name, _)| (name, true));
        let decoded = percent_encoding::percent_decode_str(name).decode_utf8_lossy();
        let is_one_of = |list: &[String]| list.iter().any(|one| one.eq_ignore_ascii_case(&decoded));
        has_value && (is_credential_parameter(&decoded) || is_one_of(&self.parameters))
            || !pair.is_empty()
                && self.allowed_parameters.as_ref().is_some_and(|list| !is_one_of(list))
    }

    /// Returns what stands for a value. The scheme word of `Authorization` stays: it is no secret, and says what to send.
    fn value(&self, name: &HeaderName, value: &HeaderValue) -> HeaderValue {
        let bytes = value.as_bytes();
        let has_scheme = name == AUTHORIZATION || name == PROXY_AUTHORIZATION;
        let text = match value.to_str().ok().and_then(|text| text.split_once(' ')) {
            Some((scheme, secret)) if has_scheme && is_scheme(scheme) => {
                format!("{scheme} {}", self.hash(secret.trim().as_bytes()))
            }
            _ => self.hash(bytes),
        };
        // Visible ASCII throughout.
        HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(REDACTED))
    }

    fn hash(&self, secret: &[u8]) -> String {
        let hash = blake3::keyed_hash(&self.key, secret).to_hex();
        format!("{REDACTED}{}", &hash[..32])
    }
}

/// Returns whether a word is the name of a scheme rather than a part of a secret.
fn is_scheme(word: &str) -> bool {
    ["basic", "bearer", "digest", "negotiate", "token", "aws4-hmac-sha256", "apikey", "key"]
        .iter()
        .any(|scheme| scheme.eq_ignore_ascii_case(word))
}

impl std::fmt::Debug for Redactor {
    /// Leaves the key out.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Redactor").field("names", &self.names()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redactor() -> Redactor {
        Redactor::new([7; 32], vec![HeaderName::from_static("x-mine")], vec!["Ticket".to_owned()])
    }

    #[test]
    fn the_lists_are_sorted() {
        assert!(CREDENTIAL_HEADERS.is_sorted() && CREDENTIAL_PARAMETERS.is_sorted());
    }

    #[test]
    fn every_credential_on_the_list_is_replaced_and_nothing_else() {
        let mut headers = HeaderMap::new();
        for name in CREDENTIAL_HEADERS.iter().chain(&["x-mine"]) {
            headers.append(*name, HeaderValue::from_static("s3cret"));
            headers.append(*name, HeaderValue::from_static("s3cret too"));
        }
        headers.append("content-type", HeaderValue::from_static("text/plain"));
        let names: Vec<_> = headers.keys().cloned().collect();
        redactor().headers(&mut headers);
        assert!(!format!("{headers:?}").contains("s3cret"), "{headers:?}");
        assert_eq!(headers.keys().cloned().collect::<Vec<_>>(), names, "the order stays");
        assert_eq!(headers["content-type"], "text/plain");
        assert_eq!(headers["x-api-key"], headers["api-key"], "equal secrets stay equal");
        let other = Redactor::new([8; 32], Vec::new(), Vec::new());
        let mut again = HeaderMap::new();
        again.append("x-api-key", HeaderValue::from_static("s3cret"));
        other.headers(&mut again);
        assert_ne!(headers["x-api-key"], again["x-api-key"], "another key, another hash");
    }

    #[test]
    fn the_scheme_word_stays_and_the_secret_counts_wherever_it_stands() {
        let mut headers = HeaderMap::new();
        headers.append("authorization", HeaderValue::from_static("Bearer s3cret"));
        headers.append("x-api-key", HeaderValue::from_static("s3cret"));
        headers.append("proxy-authorization", HeaderValue::from_static("two words"));
        redactor().headers(&mut headers);
        let key = headers["x-api-key"].to_str().unwrap();
        assert_eq!(headers["authorization"], format!("Bearer {key}"));
        assert!(headers["proxy-authorization"].to_str().unwrap().starts_with(REDACTED));
    }

    #[track_caller]
    fn check_target(target: &str, kept: &str) {
        let replaced = redactor().target(target).into_owned();
        let parts: Vec<_> = replaced.split(REDACTED).collect();
        let masked: String = parts
            .iter()
            .enumerate()
            .map(
                |(number, part)| {
                    if number == 0 { (*part).to_owned() } else { format!("#{}", &part[32..]) }
                },
            )
            .collect();
        assert_eq!(masked, kept);
    }

    #[test]
    fn query_parameters_are_replaced_in_place() {
        check_target("/v1/x", "/v1/x");
        check_target("/v1/x?model=a&b", "/v1/x?model=a&b");
        check_target("/x?key=s3cret", "/x?key=#");
        check_target("/x?a=1&API_KEY=s3cret&b=2", "/x?a=1&API_KEY=#&b=2");
        check_target("/x?ticket=s3cret&%6Bey=s3cret", "/x?ticket=#&%6Bey=#");
        check_target("/x?key", "/x?key");
        check_target("https://h/x?sig=s3cret#top", "https://h/x?sig=#");
    }

    #[test]
    fn where_there_is_a_list_all_else_is_replaced() {
        let only = Redactor::new([7; 32], Vec::new(), Vec::new())
            .allowing(Some(vec![HeaderName::from_static("x-fine")]), Some(vec!["page".to_owned()]));
        let mut headers = HeaderMap::new();
        for name in ["x-fine", "x-other", "content-type", "location", "authorization"] {
            headers.append(name, HeaderValue::from_static("s3cret"));
        }
        only.headers(&mut headers);
        let kept: Vec<_> = headers.iter().filter(|(_, value)| *value == "s3cret").collect();
        assert_eq!(kept.len(), 2, "{kept:?}");
        assert_eq!((&headers["x-fine"], &headers["content-type"]), (kept[0].1, kept[1].1));
        let target = only.target("/x?page=2&q=s3cret&s3cret&&key=s3cret");
        assert!(
            target.starts_with("/x?page=2&q=redacted:") && !target.contains("s3cret"),
            "{target}"
        );
        assert_eq!(only.target("/x?page=2&"), "/x?page=2&");
        assert!(FRAMING_HEADERS.is_sorted());
    }

    #[test]
    fn a_redirect_does_not_leak_what_the_query_hides() {
        let mut headers = HeaderMap::new();
        headers.append("location", HeaderValue::from_static("/next?token=s3cret&page=2"));
        headers.append("referer", HeaderValue::from_static("http://a/?key=s3cret"));
        redactor().headers(&mut headers);
        assert!(!format!("{headers:?}").contains("s3cret"), "{headers:?}");
        assert!(headers["location"].to_str().unwrap().ends_with("&page=2"));
    }

    #[test]
    fn debug_output_holds_no_key() {
        assert!(!format!("{:?}", redactor()).contains("7, 7"));
    }
}
