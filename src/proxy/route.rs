//! Which upstream serves a request: by path prefix, or in turn.

use std::str::FromStr;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::http::{Origin, OriginError};

/// One upstream and the paths it serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Path prefix, without `/` at its end; empty for every path.
    pub prefix: String,
    /// Where to.
    pub origin: Origin,
}

/// Why a text is not a [`Route`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// The URL is no base URL.
    #[error(transparent)]
    Origin(#[from] OriginError),
}

/// All upstreams.
#[derive(Debug)]
pub struct Routes {
    routes: Vec<Route>,
    /// Numbers of the routes of each prefix, the longest prefix first.
    groups: Vec<Group>,
}

#[derive(Debug)]
struct Group {
    prefix: String,
    members: Vec<usize>,
    next: AtomicUsize,
}

// === impl Route ===

impl FromStr for Route {
    type Err = RouteError;

    /// Reads `URL`, or `/PREFIX=URL`.
    fn from_str(text: &str) -> Result<Self, RouteError> {
        let (prefix, url) = match text.split_once('=') {
            Some((prefix, url)) if prefix.starts_with('/') => (prefix.trim_end_matches('/'), url),
            _ => ("", text),
        };
        Ok(Self { prefix: prefix.to_owned(), origin: url.parse()? })
    }
}

// === impl Routes ===

impl Routes {
    /// Takes the upstreams in the order in which they were named: their numbers in the trace.
    #[must_use]
    pub fn new(routes: Vec<Route>) -> Self {
        let mut groups: Vec<Group> = Vec::new();
        for (number, route) in routes.iter().enumerate() {
            match groups.iter_mut().find(|group| group.prefix == route.prefix) {
                Some(group) => group.members.push(number),
                None => groups.push(Group {
                    prefix: route.prefix.clone(),
                    members: vec![number],
                    next: AtomicUsize::new(0),
                }),
            }
        }
        groups.sort_by_key(|group| std::cmp::Reverse(group.prefix.len()));
        Self { routes, groups }
    }

    /// Returns the routes, by number.
    #[must_use]
    pub fn all(&self) -> &[Route] {
        &self.routes
    }

    /// Returns the number of the upstream for a path: of the longest prefix that fits, each in turn. None when no prefix
    /// fits.
    #[must_use]
    pub fn choose(&self, path: &str) -> Option<usize> {
        let group = self.groups.iter().find(|group| fits(&group.prefix, path))?;
        match group.members[..] {
            [only] => Some(only),
            _ => {
                let turn = group.next.fetch_add(1, Ordering::Relaxed);
                Some(group.members[turn % group.members.len()])
            }
        }
    }
}

/// Returns whether `path` is `prefix` or lies below it.
fn fits(prefix: &str, path: &str) -> bool {
    path.strip_prefix(prefix)
        .is_some_and(|rest| prefix.is_empty() || rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes(texts: &[&str]) -> Routes {
        Routes::new(texts.iter().map(|text| text.parse().unwrap()).collect())
    }

    #[track_caller]
    fn check(routes: &Routes, path: &str, expected: &[Option<usize>]) {
        let chosen: Vec<_> = expected.iter().map(|_| routes.choose(path)).collect();
        assert_eq!(chosen, expected, "{path}");
    }

    #[test]
    fn several_upstreams_take_turns() {
        check(&routes(&["http://a"]), "/x", &[Some(0), Some(0)]);
        check(&routes(&["http://a", "http://b"]), "/x", &[Some(0), Some(1), Some(0)]);
    }

    #[test]
    fn the_longest_prefix_that_fits_is_chosen_at_whole_segments() {
        let routes = routes(&["http://a", "/v1=http://b", "/v1/chat/=http://c", "/v1=http://d"]);
        check(&routes, "/v1/chat/completions", &[Some(2), Some(2)]);
        check(&routes, "/v1/models", &[Some(1), Some(3), Some(1)]);
        check(&routes, "/v1", &[Some(3)]);
        check(&routes, "/v10", &[Some(0)]);
        check(&routes, "*", &[Some(0)]);
    }

    #[test]
    fn a_path_without_upstream_is_known_to_have_none() {
        check(&routes(&["/v1=http://b"]), "/v2", &[None]);
    }

    #[test]
    fn a_bad_url_is_named() {
        let error = "/v1=localhost".parse::<Route>().unwrap_err();
        assert!(error.to_string().contains("`localhost`"), "{error}");
    }
}
