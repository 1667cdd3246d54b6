//! What may be in a trace: a policy, from a TOML file and flags.

use std::path::{Path, PathBuf};

use http::HeaderName;
use serde::Deserialize;

use crate::privacy::pointer::Pointer;
use crate::trace::record::{BodyMode, PolicyMark};

/// What may be in a trace, beside that known credentials never are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Policy {
    /// Header fields.
    pub headers: Names,
    /// Query parameters.
    pub query: Names,
    /// Bodies.
    pub bodies: Bodies,
}

/// Whose values are replaced, of things with names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Names {
    /// These, beside the known credentials.
    pub redact: Vec<String>,
    /// When there, all but these.
    pub allow: Option<Vec<String>>,
}

/// What is kept of bodies.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Bodies {
    /// What of each.
    #[serde(deserialize_with = "mode")]
    pub mode: BodyMode,
    /// Places in JSON whose values are replaced.
    pub pointers: Vec<String>,
    /// Regular expressions whose matches are replaced, in heads too.
    pub patterns: Vec<String>,
    /// How many bytes of a text wait at most for what follows, since they may begin a match.
    pub look_behind: usize,
}

/// Why a policy is none.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The file can't be read.
    #[error("can't read the policy {}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// It is not TOML, or not of this form.
    #[error("the policy {} is not understood: {why}", .path.display())]
    Toml {
        /// The file.
        path: PathBuf,
        /// What is wrong, and in which line.
        why: String,
    },
    /// A pointer is none.
    #[error("`{pointer}` is no JSON pointer: {why}")]
    Pointer {
        /// The pointer.
        pointer: String,
        /// What is wrong.
        why: &'static str,
    },
    /// An expression is none.
    #[error("`{pattern}` can't be looked for: {why}")]
    Pattern {
        /// The expression.
        pattern: String,
        /// What is wrong.
        why: String,
    },
    /// A name is none of a header field.
    #[error("`{name}` is no name of a header field")]
    Header {
        /// The name.
        name: String,
    },
}

fn mode<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<BodyMode, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
}

// === impl Policy ===

impl Policy {
    /// Reads a policy from a TOML file.
    ///
    /// # Errors
    /// It can't be read, or is none.
    pub fn read(path: &Path) -> Result<Self, PolicyError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| PolicyError::Io { path: path.to_owned(), source })?;
        toml::from_str(&text).map_err(|error| PolicyError::Toml {
            path: path.to_owned(),
            why: error.to_string().trim_end().to_owned(),
        })
    }

    /// Returns whether a body may differ in the trace from what passed.
    #[must_use]
    pub fn touches_bodies(&self) -> bool {
        let Bodies { mode, pointers, patterns, .. } = &self.bodies;
        *mode != BodyMode::Full || !pointers.is_empty() || !patterns.is_empty()
    }

    /// Returns what the trace's header says of the policy.
    #[must_use]
    pub fn mark(&self) -> PolicyMark {
        let mut hasher = blake3::Hasher::new_derive_key("reenact privacy policy 1");
        let mut list = |values: &[String]| {
            hasher.update(&(values.len() as u64).to_le_bytes());
            for value in values {
                hasher.update(&(value.len() as u64).to_le_bytes());
                hasher.update(value.as_bytes());
            }
        };
        for names in [&self.headers, &self.query] {
            list(&names.redact);
            list(&[names.allow.is_some().to_string()]);
            list(names.allow.as_deref().unwrap_or_default());
        }
        list(&[self.bodies.mode.as_str().to_owned(), self.bodies.look_behind.to_string()]);
        list(&self.bodies.pointers);
        list(&self.bodies.patterns);
        PolicyMark {
            digest: *hasher.finalize().as_bytes(),
            bodies: self.bodies.mode.code(),
            only_allowed_headers: self.headers.allow.is_some(),
            only_allowed_parameters: self.query.allow.is_some(),
            pointers: count(&self.bodies.pointers),
            patterns: count(&self.bodies.patterns),
        }
    }

    /// Returns the pointers, parsed.
    pub(super) fn pointers(&self) -> Result<Vec<Pointer>, PolicyError> {
        self.bodies.pointers.iter().map(|pointer| Pointer::parse(pointer)).collect()
    }
}

fn count(list: &[String]) -> u32 {
    u32::try_from(list.len()).unwrap_or(u32::MAX)
}

// === impl Names ===

impl Names {
    /// Returns the names as those of header fields, what is redacted and what is allowed.
    ///
    /// # Errors
    /// One can't be a header field's.
    pub fn of_headers(&self) -> Result<(Vec<HeaderName>, Option<Vec<HeaderName>>), PolicyError> {
        let parse = |names: &[String]| {
            names
                .iter()
                .map(|name| name.parse().map_err(|_| PolicyError::Header { name: name.clone() }))
                .collect::<Result<Vec<HeaderName>, _>>()
        };
        Ok((parse(&self.redact)?, self.allow.as_deref().map(parse).transpose()?))
    }
}

// === impl Bodies ===

impl Default for Bodies {
    fn default() -> Self {
        Self { mode: BodyMode::Full, pointers: Vec::new(), patterns: Vec::new(), look_behind: 1024 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_says_all_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("policy.toml");
        std::fs::write(
            &path,
            "[headers]\nredact = ['x-user']\nallow = ['user-agent']\n[query]\nredact = ['q']\n\
             [bodies]\nmode = 'shape'\npointers = ['/user', '/messages/*/content']\npatterns = ['a+']\nlook-behind = 9\n",
        )
        .unwrap();
        let policy = Policy::read(&path).unwrap();
        assert_eq!(policy.headers.allow, Some(vec!["user-agent".to_owned()]));
        assert_eq!((policy.bodies.mode, policy.bodies.look_behind), (BodyMode::Shape, 9));
        assert!(policy.touches_bodies() && !Policy::default().touches_bodies());
        let mark = policy.mark();
        assert_eq!((mark.pointers, mark.patterns, mark.only_allowed_headers), (2, 1, true));
        assert_ne!(mark.digest, Policy::default().mark().digest);
        for (text, said) in [
            ("[bodies]\nmode = 'some'", "full, shape"),
            ("[bodies]\nmod = 'full'", "unknown field"),
            ("[bodies", "line 1"),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = Policy::read(&path).unwrap_err().to_string();
            assert!(error.contains(said) && error.contains("policy.toml"), "{error}");
        }
    }
}
