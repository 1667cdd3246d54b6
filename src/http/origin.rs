//! Where requests go: scheme, host, port and path prefix of a base URL.

use std::fmt;
use std::str::FromStr;

use http::Uri;
use http::uri::PathAndQuery;

/// A base URL, such as `http://127.0.0.1:8000` or `https://api.example.com/v1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Plain or TLS.
    pub scheme: Scheme,
    /// Host name or address, an IPv6 address without its brackets.
    pub host: String,
    /// Port; the scheme's own where the URL names none.
    pub port: u16,
    /// What every path is prefixed with: empty, or `/` and at least one segment, no `/` at its end.
    pub prefix: String,
}

/// The scheme of an [`Origin`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// `http`: plain TCP.
    Http,
    /// `https`: TLS.
    Https,
}

/// Why a text is not a base URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OriginError {
    /// It is not a URL at all.
    #[error("`{url}` is not a URL ({reason}); write it like http://127.0.0.1:8000")]
    NotAUrl {
        /// What was given.
        url: String,
        /// What the parser says.
        reason: String,
    },
    /// There is no scheme, or not one of ours.
    #[error("`{url}` must start with http:// or https://")]
    Scheme {
        /// What was given.
        url: String,
    },
    /// User name or password: credentials do not belong into command lines or manifests.
    #[error("the URL for host `{host}` carries a user name; send credentials in a header instead")]
    UserInfo {
        /// Its host (the URL itself is a secret).
        host: String,
    },
    /// A query or a fragment can't be a prefix of paths.
    #[error("`{url}` has a query; a base URL ends with its path")]
    Query {
        /// What was given.
        url: String,
    },
}

// === impl Origin ===

impl Origin {
    /// Returns `host:port` as the `Host` field wants it: without the port where it is the scheme's own.
    #[must_use]
    pub fn authority(&self) -> String {
        let host = self.bracketed_host();
        if self.port == self.scheme.default_port() { host } else { format!("{host}:{}", self.port) }
    }

    /// Returns the path and query with the prefix put before; `*` (of `OPTIONS *`) stays as it is.
    #[must_use]
    pub fn path(&self, uri: &Uri) -> PathAndQuery {
        let given = uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        if self.prefix.is_empty() || given.as_str() == "*" {
            return given;
        }
        PathAndQuery::try_from(format!("{}{given}", self.prefix)).unwrap_or(given)
    }

    fn bracketed_host(&self) -> String {
        if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() }
    }
}

impl FromStr for Origin {
    type Err = OriginError;

    fn from_str(url: &str) -> Result<Self, OriginError> {
        let uri: Uri = url.parse().map_err(|error: http::uri::InvalidUri| {
            OriginError::NotAUrl { url: url.to_owned(), reason: error.to_string() }
        })?;
        let scheme = match uri.scheme_str() {
            Some("http") => Scheme::Http,
            Some("https") => Scheme::Https,
            _ => return Err(OriginError::Scheme { url: url.to_owned() }),
        };
        let not_a_url =
            |reason: &str| OriginError::NotAUrl { url: url.to_owned(), reason: reason.to_owned() };
        let authority = uri.authority().ok_or_else(|| not_a_url("no host"))?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        if authority.as_str().contains('@') {
            return Err(OriginError::UserInfo { host });
        }
        if host.is_empty() {
            return Err(not_a_url("no host"));
        }
        if uri.query().is_some() || url.contains('#') {
            return Err(OriginError::Query { url: url.to_owned() });
        }
        let named = authority.as_str().rsplit_once(':').filter(|(_, port)| !port.contains(']'));
        let port = match (authority.port_u16(), named) {
            (Some(0), _) => return Err(not_a_url("port 0")),
            (Some(port), _) => port,
            (None, Some((_, port))) => return Err(not_a_url(&format!("bad port `{port}`"))),
            (None, None) => scheme.default_port(),
        };
        let prefix = uri.path().trim_end_matches('/').to_owned();
        Ok(Self { scheme, host, port, prefix })
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme.as_str(), self.authority(), self.prefix)
    }
}

// === impl Scheme ===

impl Scheme {
    /// Returns `http` or `https`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// Returns the port that a URL without one means.
    #[must_use]
    pub const fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(url: &str, expected: &str) {
        let seen = match url.parse::<Origin>() {
            Ok(origin) => format!("{origin} {} {}", origin.host, origin.port),
            Err(error) => error.to_string(),
        };
        assert!(seen.contains(expected), "{url}: {seen}");
    }

    #[test]
    fn base_urls_are_read_and_printed() {
        check("http://127.0.0.1:8000", "http://127.0.0.1:8000 127.0.0.1 8000");
        check("http://localhost/", "http://localhost localhost 80");
        check("https://api.example.com/v1/", "https://api.example.com/v1 api.example.com 443");
        check("http://[::1]:9/a/b", "http://[::1]:9/a/b ::1 9");
        check("https://[::1]", "https://[::1] ::1 443");
    }

    #[test]
    fn what_is_no_base_url_says_why() {
        check("127.0.0.1:8000", "must start with http://");
        check("localhost", "must start with http://");
        check("ftp://a", "must start with http://");
        check("http://", "is not a URL");
        check("http://a b", "is not a URL");
        check("http://a:70000", "is not a URL");
        check("http://a:0", "port 0");
        check("http://me:secret@a/", "carries a user name");
        check("http://a/?x=1", "has a query");
        assert!(
            !"http://me:secret@a/".parse::<Origin>().unwrap_err().to_string().contains("secret")
        );
    }

    #[test]
    fn the_prefix_goes_before_every_path_but_the_asterisk() {
        let origin: Origin = "http://a/p".parse().unwrap();
        assert_eq!(origin.path(&"/v1/x?q=1".parse().unwrap()), "/p/v1/x?q=1");
        assert_eq!(origin.path(&"*".parse().unwrap()), "*");
        let origin: Origin = "http://a".parse().unwrap();
        assert_eq!(origin.path(&"/x".parse().unwrap()), "/x");
    }
}
