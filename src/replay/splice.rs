//! Changes to JSON text that touch nothing else: the new value is spliced into the original bytes.
//!
//! Re-serialising a body would change its spacing, the order of its keys, its numbers and its escapes, and with them
//! what a server sees and caches. So a value is found by walking the text, and only its bytes are replaced.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

/// Where a value is in a JSON document: a dotted path (`stream_options.include_usage`, `messages.0.role`) or a JSON
/// pointer (`/stream_options/include_usage`, RFC 6901).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    steps: Vec<String>,
}

/// `PATH=VALUE`: a value to be set, the value as JSON text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// Where.
    pub path: Path,
    /// JSON text.
    pub value: String,
}

/// What is wrong with the text of a [`Set`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetError {
    /// No `=`.
    #[error(
        "`{0}` has no `=`: say PATH=VALUE, as in max_tokens=16 or stream_options.include_usage=true"
    )]
    NoValue(String),
    /// An empty path or step.
    #[error("`{0}` names no place in a JSON body: say PATH=VALUE, as in max_tokens=16")]
    NoPath(String),
}

/// Where a value is to go.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// It is there: these bytes are it.
    Replace(Range<usize>),
    /// The object is there, but not its key: put it at `at`, the last `missing` steps of the path around it.
    Insert { at: usize, comma: bool, missing: usize },
}

/// A place in JSON text. Every method returns none when the text is not JSON there.
struct Cursor<'a> {
    text: &'a [u8],
    at: usize,
}

/// Deepest nesting that is walked.
const MAX_DEPTH: usize = 128;

/// Returns `body` with `value` at `path`, missing objects on the way put in; none when `body` is not JSON there, or when a
/// step finds neither an object with that key nor an array with that place.
#[must_use]
pub fn set(body: &[u8], path: &Path, value: &str) -> Option<Vec<u8>> {
    let (range, new) = match place(body, path)? {
        Place::Replace(range) => (range, value.to_owned()),
        Place::Insert { at, comma, missing } => {
            let steps = &path.steps[path.steps.len() - missing..];
            let mut new = if comma { ",".to_owned() } else { String::new() };
            new.push_str(&quoted(&steps[0]));
            new.push(':');
            for step in &steps[1..] {
                new.push('{');
                new.push_str(&quoted(step));
                new.push(':');
            }
            new.push_str(value);
            new.push_str(&"}".repeat(missing - 1));
            (at..at, new)
        }
    };
    let mut changed = Vec::with_capacity(body.len() - range.len() + new.len());
    changed.extend_from_slice(&body[..range.start]);
    changed.extend_from_slice(new.as_bytes());
    changed.extend_from_slice(&body[range.end..]);
    Some(changed)
}

/// Returns the bytes of the value at `path`; none when there is none.
#[must_use]
pub fn find<'a>(body: &'a [u8], path: &Path) -> Option<&'a [u8]> {
    match place(body, path)? {
        Place::Replace(range) => body.get(range),
        Place::Insert { .. } => None,
    }
}

/// Returns `text` as a JSON string.
#[must_use]
pub fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Finds `path`. A key that comes twice counts the last time, as for nearly every parser.
fn place(text: &[u8], path: &Path) -> Option<Place> {
    let mut cursor = Cursor { text, at: 0 };
    for (depth, step) in path.steps.iter().enumerate() {
        cursor.space();
        let found = match cursor.peek()? {
            b'{' => cursor.key(step)?,
            b'[' => Found::At(cursor.element(step.parse().ok()?)?),
            _ => return None,
        };
        match found {
            Found::At(at) => cursor.at = at,
            Found::Nowhere { at, comma } => {
                return Some(Place::Insert { at, comma, missing: path.steps.len() - depth });
            }
        }
    }
    cursor.space();
    let start = cursor.at;
    cursor.value(0)?;
    Some(Place::Replace(start..cursor.at))
}

enum Found {
    /// The value begins here.
    At(usize),
    /// The object has no such key: it would go here, after a comma or not.
    Nowhere { at: usize, comma: bool },
}

// === impl Path ===

impl Path {
    /// Returns the place of a key at the top.
    #[must_use]
    pub fn key(name: &str) -> Self {
        Self::of(&[name])
    }

    /// Returns the place that these steps lead to.
    #[must_use]
    pub fn of(steps: &[&str]) -> Self {
        Self { steps: steps.iter().map(|step| (*step).to_owned()).collect() }
    }
}

impl FromStr for Path {
    type Err = SetError;

    fn from_str(text: &str) -> Result<Self, SetError> {
        let steps: Vec<String> = match text.strip_prefix('/') {
            Some(pointer) => {
                pointer.split('/').map(|step| step.replace("~1", "/").replace("~0", "~")).collect()
            }
            None => text.split('.').map(str::to_owned).collect(),
        };
        if steps.iter().any(String::is_empty) {
            return Err(SetError::NoPath(text.to_owned()));
        }
        Ok(Self { steps })
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.steps {
            write!(f, "/{}", step.replace('~', "~0").replace('/', "~1"))?;
        }
        Ok(())
    }
}

// === impl Set ===

impl FromStr for Set {
    type Err = SetError;

    /// Reads `PATH=VALUE`. What is not JSON is a string: `model=llama` needs no quotes.
    fn from_str(text: &str) -> Result<Self, SetError> {
        let (path, value) =
            text.split_once('=').ok_or_else(|| SetError::NoValue(text.to_owned()))?;
        let value = match serde_json::from_str::<&serde_json::value::RawValue>(value) {
            Ok(_) => value.trim().to_owned(),
            Err(_) => quoted(value),
        };
        Ok(Self { path: path.trim().parse()?, value })
    }
}

impl fmt::Display for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.path, self.value)
    }
}

// === impl Cursor ===

impl Cursor<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// Steps over `byte`, after spaces.
    fn expect(&mut self, byte: u8) -> Option<()> {
        self.space();
        (self.peek()? == byte).then(|| self.at += 1)
    }

    /// Steps over a comma and returns true, or over `close` and returns false.
    fn more(&mut self, close: u8) -> Option<bool> {
        self.space();
        let byte = self.peek()?;
        self.at += 1;
        match byte {
            b',' => Some(true),
            byte if byte == close => Some(false),
            _ => None,
        }
    }

    /// Walks the object here and returns where the value of `wanted` begins. Walks it whole: a later one counts.
    fn key(&mut self, wanted: &str) -> Option<Found> {
        self.expect(b'{')?;
        self.space();
        if self.peek()? == b'}' {
            return Some(Found::Nowhere { at: self.at, comma: false });
        }
        let mut found = None;
        loop {
            self.space();
            let start = self.at;
            self.string()?;
            let name = &self.text[start..self.at];
            self.expect(b':')?;
            self.space();
            if is_named(name, wanted) {
                found = Some(self.at);
            }
            self.value(0)?;
            let end = self.at;
            if !self.more(b'}')? {
                let nowhere = Found::Nowhere { at: end, comma: true };
                return Some(found.map_or(nowhere, Found::At));
            }
        }
    }

    /// Walks the array here and returns where its element `wanted` begins.
    fn element(&mut self, wanted: usize) -> Option<usize> {
        self.expect(b'[')?;
        for _ in 0..wanted {
            self.value(0)?;
            if !self.more(b']')? {
                return None;
            }
        }
        self.space();
        (self.peek()? != b']').then_some(self.at)
    }

    /// Steps over one value.
    fn value(&mut self, depth: usize) -> Option<()> {
        self.space();
        match self.peek()? {
            b'"' => self.string(),
            open @ (b'{' | b'[') if depth < MAX_DEPTH => self.nested(open, depth),
            b'-' | b'0'..=b'9' | b'a'..=b'z' => {
                let length = self.text[self.at..]
                    .iter()
                    .take_while(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(byte))
                    .count();
                self.at += length;
                Some(())
            }
            _ => None,
        }
    }

    /// Steps over the object or array that `open` begins.
    fn nested(&mut self, open: u8, depth: usize) -> Option<()> {
        let close = if open == b'{' { b'}' } else { b']' };
        self.at += 1;
        self.space();
        if self.peek()? == close {
            self.at += 1;
            return Some(());
        }
        loop {
            if open == b'{' {
                self.space();
                self.string()?;
                self.expect(b':')?;
            }
            self.value(depth + 1)?;
            if !self.more(close)? {
                return Some(());
            }
        }
    }

    /// Steps over a string: from quote to quote, megabytes of base64 at memory speed.
    fn string(&mut self) -> Option<()> {
        if self.peek()? != b'"' {
            return None;
        }
        self.at += 1;
        loop {
            self.at += memchr::memchr2(b'"', b'\\', self.text.get(self.at..)?)?;
            if self.text[self.at] == b'"' {
                self.at += 1;
                return Some(());
            }
            self.at += 2;
        }
    }
}

/// Returns whether the JSON string `name`, quotes included, says `wanted`.
fn is_named(name: &[u8], wanted: &str) -> bool {
    let inner = &name[1..name.len() - 1];
    if memchr::memchr(b'\\', inner).is_none() {
        return inner == wanted.as_bytes();
    }
    serde_json::from_slice::<String>(name).is_ok_and(|name| name == wanted)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(body: &str, change: &str, expected: &str) {
        let change: Set = change.parse().unwrap();
        let seen = set(body.as_bytes(), &change.path, &change.value);
        assert_eq!(
            seen.map(|bytes| String::from_utf8(bytes).unwrap()).as_deref().unwrap_or("none"),
            expected
        );
    }

    #[test]
    fn a_value_is_replaced_and_nothing_else_changes() {
        check(r#"{"model": "a",  "n":1.0e0}"#, "model=b", r#"{"model": "b",  "n":1.0e0}"#);
        check(r#"{"model":"a" , "n" : 1.0 }"#, "n=2", r#"{"model":"a" , "n" : 2 }"#);
        check(r#"{"a":{"b":[1,{"c":null}]}}"#, "a.b.1.c=true", r#"{"a":{"b":[1,{"c":true}]}}"#);
        check(
            r#"{"a":{"b":[1,{"c":null}]}}"#,
            "/a/b/0=[1, 2]",
            r#"{"a":{"b":[[1, 2],{"c":null}]}}"#,
        );
        check(r#"{"a.b":1,"c/d":2}"#, "/a.b=3", r#"{"a.b":3,"c/d":2}"#);
        check(r#"{"a.b":1,"c/d":2}"#, "/c~1d=3", r#"{"a.b":1,"c/d":3}"#);
        check(r#"{"s":"}\"]{","k":1}"#, "k=2", r#"{"s":"}\"]{","k":2}"#);
        check(r#"{"k":1,"\u006b":2}"#, "k=3", r#"{"k":1,"\u006b":3}"#);
        check("[0, 1]", "1=7", "[0, 7]");
        check(" {\n} ", "k=1", " {\n\"k\":1} ");
    }

    #[test]
    fn a_missing_key_is_put_in() {
        check(r#"{"a":1}"#, "b=2", r#"{"a":1,"b":2}"#);
        check(r#"{"a":1 }"#, "o.i.u=yes", r#"{"a":1,"o":{"i":{"u":"yes"}} }"#);
        check(r#"{"o":{}}"#, r#"o.k={"x": 1}"#, r#"{"o":{"k":{"x": 1}}}"#);
    }

    #[test]
    fn what_is_no_json_or_no_place_is_left_alone() {
        for body in [
            "",
            "x",
            "{",
            r#"{"a""#,
            r#"{"a":}"#,
            r#"{"a":1"#,
            "[1,2]",
            r#"{"a":"x}"#,
            r#""a""#,
            r#"{"a":1,}"#,
        ] {
            check(body, "b=1", "none");
        }
        check(r#"{"a":1}"#, "a.b=1", "none");
        check(r#"{"a":[1]}"#, "a.1=1", "none");
        check(&format!(r#"{{"a":{}1{}}}"#, "[".repeat(200), "]".repeat(200)), "b=1", "none");
    }

    #[test]
    fn a_text_that_is_no_set_is_named() {
        assert_eq!("model".parse::<Set>(), Err(SetError::NoValue("model".into())));
        assert_eq!("=1".parse::<Set>(), Err(SetError::NoPath(String::new())));
        assert_eq!("a..b=1".parse::<Set>(), Err(SetError::NoPath("a..b".into())));
        assert_eq!("t=0.50".parse::<Set>().unwrap().to_string(), "/t=0.50");
        assert_eq!("t=null x".parse::<Set>().unwrap().value, "\"null x\"");
    }

    fn json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            ".*".prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 40, 5, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..5).prop_map(Into::into),
                proptest::collection::btree_map("[a-c\"\\\\é/~]{1,2}", inner, 0..5)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn setting_is_what_a_parser_would_have_set(
            document in proptest::collection::btree_map("[a-c]{1,2}", json(), 0..5),
            key in "[a-c\"\\\\é]{1,2}",
            value in json(),
            pretty in any::<bool>(),
        ) {
            let mut document = serde_json::Value::Object(document.into_iter().collect());
            let text = if pretty { serde_json::to_string_pretty(&document) } else { serde_json::to_string(&document) }.unwrap();
            let changed = set(text.as_bytes(), &Path { steps: vec![key.clone()] }, &value.to_string()).unwrap();
            document[key] = value;
            prop_assert_eq!(serde_json::from_slice::<serde_json::Value>(&changed).unwrap(), document);
        }

        #[test]
        fn no_bytes_make_it_panic(body in proptest::collection::vec(prop_oneof![any::<u8>(), proptest::sample::select(b"{}[]\",:\\ab1 ".to_vec())], 0..60)) {
            drop(set(&body, &"a.0.b".parse().unwrap(), "1"));
            drop(set(&body, &"a".parse().unwrap(), "1"));
        }
    }
}
