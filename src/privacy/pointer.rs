//! JSON pointers (RFC 6901), with `*` for any member or element.

use crate::privacy::json::Level;
use crate::privacy::policy::PolicyError;

/// Places in a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pointer(Vec<Token>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Any,
    /// The member of this name, or the element of this number.
    Is(String),
}

impl Pointer {
    /// Parses a pointer; `~1` stands for `/`, `~0` for `~`.
    ///
    /// # Errors
    /// It does not begin with `/`, or has a `~` that stands for nothing.
    pub(super) fn parse(text: &str) -> Result<Self, PolicyError> {
        let bad = |why| PolicyError::Pointer { pointer: text.to_owned(), why };
        if text.is_empty() {
            return Ok(Self(Vec::new()));
        }
        let rest = text.strip_prefix('/').ok_or_else(|| bad("it must begin with /"))?;
        let token = |token: &str| {
            if token == "*" {
                return Ok(Token::Any);
            }
            let plain = token.replace("~0", "").replace("~1", "");
            if plain.contains('~') {
                return Err(bad("~ must be written ~0"));
            }
            Ok(Token::Is(token.replace("~1", "/").replace("~0", "~")))
        };
        rest.split('/').map(token).collect::<Result<_, _>>().map(Self)
    }

    /// Returns whether a value at `path` is what this points to, or within it.
    pub(super) fn covers(&self, path: &[Level]) -> bool {
        self.0.len() <= path.len() && self.0.iter().zip(path).all(|(token, level)| token.is(level))
    }
}

impl Token {
    fn is(&self, level: &Level) -> bool {
        match (self, level) {
            (Self::Any, _) => true,
            (Self::Is(name), Level::Object(key)) => name == key,
            (Self::Is(name), Level::Array(idx)) => name.parse() == Ok(*idx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pointer: &str, path: &[&str], expected: bool) {
        let level = |step: &&str| {
            step.parse().map_or_else(|_| Level::Object((*step).to_owned()), Level::Array)
        };
        let path: Vec<Level> = path.iter().map(level).collect();
        assert_eq!(Pointer::parse(pointer).unwrap().covers(&path), expected, "{pointer} {path:?}");
    }

    #[test]
    fn a_pointer_covers_its_value_and_what_is_in_it() {
        check("", &["a"], true);
        check("/a", &["a"], true);
        check("/a", &["a", "b"], true);
        check("/a/b", &["a"], false);
        check("/a", &["b"], false);
        check("/messages/*/content", &["messages", "3", "content"], true);
        check("/messages/*/content", &["messages", "3", "role"], false);
        check("/messages/0/content", &["messages", "1", "content"], false);
        check("/a~1b/~0", &["a/b", "~"], true);
        check("/*", &["x"], true);
    }

    #[test]
    fn what_is_no_pointer_is_said() {
        for bad in ["a", "a/b", "/~2", "/~"] {
            assert!(Pointer::parse(bad).is_err(), "{bad}");
        }
    }
}
