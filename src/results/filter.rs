//! `--filter`: which exchanges of a trace are meant.
//!
//! A filter is `KEY=VALUE` or `KEY!=VALUE`; with several filters all must hold. `VALUE` may name alternatives with `|`, and
//! `*` stands for any text: `model=llama*|qwen*`, `path!=/health`. `id` takes numbers and ranges: `id=1-100|205`.

use std::borrow::Cow;
use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use crate::results::rows::Measurement;
use crate::trace::Exchange;
use crate::trace::record::ExchangeId;

/// One condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    key: Key,
    equal: bool,
    value: Value,
    text: String,
}

/// Alternatives, written with `|` between them, each a text in which `*` stands for any text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patterns(Vec<String>);

/// What a filter looks at; a text that is not known is empty.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Number of the exchange.
    pub id: ExchangeId,
    /// Model named in the request.
    pub model: &'a str,
    /// Path without the query.
    pub path: &'a str,
    /// Method.
    pub method: &'a str,
    /// Status.
    pub status: Option<u16>,
    /// Operation, as in the run folder.
    pub operation: &'a str,
    /// Outcome, as in the run folder; `open` when the trace has no end of it.
    pub outcome: &'a str,
}

/// What is wrong with the text of a filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// No `=`.
    #[error("filter `{0}` has no `=`: say KEY=VALUE or KEY!=VALUE, as in model=llama*")]
    NoValue(String),
    /// A key that does not exist.
    #[error("filter `{text}` asks for `{key}`, which is not one of {KEYS}")]
    UnknownKey {
        /// The whole filter.
        text: String,
        /// Its key.
        key: String,
    },
    /// Numbers that are none.
    #[error("filter `{text}` needs numbers or ranges, as in id=1-100|205: `{part}` is neither")]
    BadRange {
        /// The whole filter.
        text: String,
        /// The part that is no range.
        part: String,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    Id,
    Method,
    Model,
    Operation,
    Outcome,
    Path,
    Status,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Value {
    /// Texts.
    Patterns(Patterns),
    /// Alternatives, first and last number of each.
    Ranges(Vec<(u64, u64)>),
}

/// The keys, for messages.
const KEYS: &str = "id, method, model, operation, outcome, path, status";

// === impl Subject ===

impl<'a> Subject<'a> {
    /// Returns what filters see of an exchange; `row` is what [`recorded`](crate::results::recorded::recorded) makes of it.
    #[must_use]
    pub fn new(exchange: &'a Exchange, row: &'a Measurement) -> Self {
        Self {
            id: exchange.request.exchange,
            model: row.model_recorded.as_deref().unwrap_or_default(),
            path: &row.path,
            method: exchange.request.method.as_str(),
            status: row.status,
            operation: &row.operation,
            outcome: exchange.end.as_ref().map_or("open", |_| &row.outcome),
        }
    }
}

// === impl Patterns ===

impl Patterns {
    /// Returns whether `text` is one of them.
    #[must_use]
    pub fn hold(&self, text: &str) -> bool {
        self.0.iter().any(|pattern| matches(pattern, text))
    }
}

impl FromStr for Patterns {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.split('|').map(str::to_owned).collect()))
    }
}

// === impl Filter ===

impl Filter {
    /// Returns whether the condition holds.
    #[must_use]
    pub fn holds(&self, subject: &Subject<'_>) -> bool {
        let status = || subject.status.map(|status| status.to_string()).unwrap_or_default();
        let text = match self.key {
            Key::Status => Cow::Owned(status()),
            key => Cow::Borrowed(match key {
                Key::Id | Key::Status => "",
                Key::Method => subject.method,
                Key::Model => subject.model,
                Key::Operation => subject.operation,
                Key::Outcome => subject.outcome,
                Key::Path => subject.path,
            }),
        };
        let found = match &self.value {
            Value::Patterns(patterns) => patterns.hold(&text),
            Value::Ranges(ranges) => {
                ranges.iter().any(|(first, last)| (*first..=*last).contains(&subject.id.0))
            }
        };
        found == self.equal
    }
}

impl FromStr for Filter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        let Some((key, value)) = text.split_once('=') else {
            return Err(FilterError::NoValue(text.to_owned()));
        };
        let (key, equal) = key.strip_suffix('!').map_or((key, true), |key| (key, false));
        let key = match key.trim() {
            "id" => Key::Id,
            "method" => Key::Method,
            "model" => Key::Model,
            "operation" => Key::Operation,
            "outcome" => Key::Outcome,
            "path" => Key::Path,
            "status" => Key::Status,
            other => {
                return Err(FilterError::UnknownKey {
                    text: text.to_owned(),
                    key: other.to_owned(),
                });
            }
        };
        let parts = value.trim().split('|');
        let value = match key {
            Key::Id => {
                Value::Ranges(parts.map(|part| range(part, text)).collect::<Result<_, _>>()?)
            }
            _ => Value::Patterns(Patterns(parts.map(str::to_owned).collect())),
        };
        Ok(Self { key, equal, value, text: text.to_owned() })
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn range(part: &str, text: &str) -> Result<(u64, u64), FilterError> {
    let (first, last) = part.split_once('-').unwrap_or((part, part));
    match (first.trim().parse(), last.trim().parse()) {
        (Ok(first), Ok(last)) if first <= last => Ok((first, last)),
        _ => Err(FilterError::BadRange { text: text.to_owned(), part: part.to_owned() }),
    }
}

/// Returns whether `text` is `pattern`, in which `*` stands for any text, the empty one too.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(head) else { return false };
    let (middle, tail) = rest.rsplit_once('*').unwrap_or(("", rest));
    // What lies between two stars is found at its first place: that leaves most text to what follows.
    for part in middle.split('*') {
        match text.find(part) {
            Some(at) => text = &text[at + part.len()..],
            None => return false,
        }
    }
    text.ends_with(tail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(filter: &str, expected: bool) {
        let subject = Subject {
            id: ExchangeId(42),
            model: "llama-3.1-8b",
            path: "/v1/chat/completions",
            method: "POST",
            status: Some(200),
            operation: "chat",
            outcome: "complete",
        };
        assert_eq!(filter.parse::<Filter>().unwrap().holds(&subject), expected, "{filter}");
    }

    #[test]
    fn filters_hold_or_not() {
        check("model=llama-3.1-8b", true);
        check("model=llama", false);
        check("model=qwen|llama*", true);
        check("model!=qwen*", true);
        check("model!=*", false);
        check("path=/v1/*", true);
        check("path=*/chat/*", true);
        check("path=*chat*comp*", true);
        check("path=*comp*chat*", false);
        check("path=/v1/chat/completions*completions", false);
        check("method=GET", false);
        check("status=2*", true);
        check("status!=200", false);
        check("operation=chat|completion", true);
        check("outcome=cancelled", false);
        check("id=42", true);
        check("id=1-41|43-99", false);
        check("id!=1-41", true);
    }

    #[test]
    fn a_bad_filter_says_what_is_wrong() {
        for (text, part) in [
            ("model", "no `=`"),
            ("color=red", "asks for `color`"),
            ("id=x", "`x` is neither"),
            ("id=9-3", "`9-3` is neither"),
        ] {
            let error = text.parse::<Filter>().unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
