//! JSON as it comes: which byte belongs to which string, and where in the document that stands.
//!
//! Strict where it matters: what is not JSON is an error at once, so that no text can pass for structure. Several documents
//! may follow each other, with white space or NUL between.

use crate::privacy::units::{Escapes, Unit, UnitReader, plain_len};

/// Reads documents.
#[derive(Debug)]
pub(super) struct Lexer {
    /// Where the next value stands.
    path: Vec<Level>,
    state: State,
    /// Offset in the body of the next byte.
    at: u64,
    reader: UnitReader,
    /// Of the string that is open.
    asked: Tell,
    scalar: Scalar,
    key: String,
    /// Keys of objects that have ended: their memory is used again.
    spare: Vec<String>,
}

/// One step down into a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Level {
    /// An object, at this key.
    Object(String),
    /// An array, at this index.
    Array(usize),
}

/// A part of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part<'a> {
    /// A string begins, a key or a value: its first character, or its end, is at this offset.
    Open(u64, Role),
    /// A character of it, from this offset.
    Unit(u64, Unit),
    /// Characters of it that are a byte each, from this offset.
    Plain(u64, &'a [u8]),
    /// It has ended before this offset.
    Close(u64, Role),
    /// A number, true, false or null.
    Scalar {
        /// Where it begins.
        at: u64,
        /// Its bytes.
        len: u64,
        /// Its value, if that is a whole number.
        number: Option<u64>,
    },
}

/// What a string is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Key,
    Value,
}

/// What is told of a string that has begun. Of what else is told, the answer says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tell {
    /// Its characters.
    Units,
    /// That it has ended.
    Close,
}

/// What is read is not JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotJson;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A value must come; or `]`, right after `[`.
    Value {
        or_end: bool,
    },
    /// A key must come; or `}`, right after `{`.
    Key {
        or_end: bool,
    },
    Colon,
    /// `,` or the end of what is open; at the top, the next document.
    After,
    String(Role),
    Scalar,
}

/// A number or a word that is being read.
#[derive(Debug, Default)]
struct Scalar {
    from: u64,
    text: String,
}

/// Levels that a document may have.
const MAX_DEPTH: usize = 256;
/// Bytes of a key that are told; of a longer one the beginning.
const MAX_KEY: usize = 256;
/// Keys whose memory is kept.
const MAX_SPARE: usize = 16;
/// Bytes of a number.
const MAX_SCALAR: usize = 512;

// === impl Lexer ===

impl Lexer {
    /// Makes a lexer whose first byte stands at `at` of the body.
    pub(super) fn new(at: u64) -> Self {
        Self {
            path: Vec::new(),
            state: State::Value { or_end: false },
            at,
            reader: UnitReader::default(),
            asked: Tell::Units,
            scalar: Scalar::default(),
            key: String::new(),
            spare: Vec::new(),
        }
    }

    /// Forgets what was read: the next byte is the first, and stands at the beginning of a body.
    pub(super) fn restart(&mut self) {
        while let Some(level) = self.path.pop() {
            self.keep(level);
        }
        self.state = State::Value { or_end: false };
        self.at = 0;
        self.reader = UnitReader::default();
        self.asked = Tell::Units;
        self.scalar.text.clear();
        self.key.clear();
    }

    /// Sets where the next byte stands.
    pub(super) fn seek(&mut self, at: u64) {
        self.at = at;
    }

    /// Returns the offset before which every byte was told, or is none of a string.
    pub(super) fn told(&self) -> u64 {
        match self.state {
            State::Scalar => self.scalar.from,
            _ => self.at - u64::from(self.reader.pending()),
        }
    }

    /// Reads bytes and tells what is in them, each with the path that it has.
    ///
    /// # Errors
    /// They are not JSON. Nothing can be told afterwards.
    pub(super) fn push(
        &mut self,
        bytes: &[u8],
        mut tell: impl FnMut(&[Level], Part<'_>) -> Tell,
    ) -> Result<(), NotJson> {
        let mut rest = bytes;
        while let Some((&byte, after)) = rest.split_first() {
            if let State::String(role) = self.state {
                let plain = self.plain(role, rest, &mut tell);
                if plain > 0 {
                    rest = &rest[plain..];
                    self.at += plain as u64;
                    continue;
                }
            }
            match self.state {
                State::String(role) => self.in_string(role, byte, &mut tell)?,
                State::Scalar if is_scalar(byte) => {
                    self.scalar.text.push(char::from(byte));
                    if self.scalar.text.len() > MAX_SCALAR {
                        return Err(NotJson);
                    }
                }
                State::Scalar => {
                    self.end_scalar(&mut tell)?;
                    self.structure(byte, &mut tell)?;
                }
                _ => self.structure(byte, &mut tell)?,
            }
            self.at += 1;
            rest = after;
        }
        Ok(())
    }

    /// Ends the body; returns whether the last document was whole.
    pub(super) fn finish(
        &mut self,
        mut tell: impl FnMut(&[Level], Part<'_>) -> Tell,
    ) -> Result<bool, NotJson> {
        match self.state {
            State::Scalar => self.end_scalar(&mut tell)?,
            State::String(role) => {
                let (at, path, asked) = (self.at, &self.path, self.asked);
                self.reader.finish(|unit| {
                    if asked == Tell::Units {
                        tell(path, Part::Unit(at - u64::from(unit.len), unit));
                    }
                });
                tell(&self.path, Part::Close(at, role));
            }
            _ => {}
        }
        Ok(self.path.is_empty() && self.state != State::Value { or_end: true })
    }

    /// Takes the characters at the front of `bytes` that need no closer look, and returns how many bytes these are.
    fn plain(
        &mut self,
        role: Role,
        bytes: &[u8],
        tell: &mut impl FnMut(&[Level], Part<'_>) -> Tell,
    ) -> usize {
        if self.reader.pending() > 0 {
            return 0;
        }
        if role == Role::Value && self.asked == Tell::Close {
            return unlooked(bytes);
        }
        let len = plain_len(bytes);
        if role == Role::Key {
            let told = len.min(MAX_KEY.saturating_sub(self.key.len()));
            self.key.extend(bytes[..told].iter().map(|byte| char::from(*byte)));
        }
        if len > 0 && self.asked == Tell::Units {
            tell(&self.path, Part::Plain(self.at, &bytes[..len]));
        }
        len
    }

    fn in_string(
        &mut self,
        role: Role,
        byte: u8,
        tell: &mut impl FnMut(&[Level], Part<'_>) -> Tell,
    ) -> Result<(), NotJson> {
        let at = self.at;
        if byte == b'"' && !self.reader.awaits_escaped() {
            let (path, key, asked) = (&self.path, &mut self.key, self.asked);
            self.reader.finish(|unit| {
                note(role, key, unit);
                if asked == Tell::Units {
                    tell(path, Part::Unit(at - u64::from(unit.len), unit));
                }
            });
            tell(&self.path, Part::Close(at, role));
            self.state = match role {
                Role::Key => {
                    if let Some(Level::Object(key)) = self.path.last_mut() {
                        key.clone_from(&self.key);
                    }
                    State::Colon
                }
                Role::Value => State::After,
            };
            return Ok(());
        }
        let (path, key, asked) = (&self.path, &mut self.key, self.asked);
        let begun = u64::from(self.reader.pending());
        let mut from = at - begun;
        let goes = self.reader.push(Escapes::Json, byte, |unit| {
            note(role, key, unit);
            if asked == Tell::Units {
                tell(path, Part::Unit(from, unit));
            }
            from += u64::from(unit.len);
        });
        if goes { Ok(()) } else { Err(NotJson) }
    }

    fn structure(
        &mut self,
        byte: u8,
        tell: &mut impl FnMut(&[Level], Part<'_>) -> Tell,
    ) -> Result<(), NotJson> {
        if matches!(byte, b' ' | b'\n' | b'\r' | b'\t') || byte == 0 && self.path.is_empty() {
            return Ok(());
        }
        if self.state == State::After && self.path.is_empty() {
            self.state = State::Value { or_end: false };
        }
        self.state = match (self.state, byte) {
            (State::Value { .. }, b'{') => {
                let mut key = self.spare.pop().unwrap_or_default();
                key.clear();
                self.down(Level::Object(key))?
            }
            (State::Value { .. }, b'[') => self.down(Level::Array(0))?,
            (State::Value { .. }, b'"') => self.open(Role::Value, tell),
            (State::Value { or_end: true } | State::After, b']') => self.up(byte)?,
            (State::Key { or_end: true } | State::After, b'}') => self.up(byte)?,
            (State::Value { .. }, byte) if is_scalar(byte) => {
                self.scalar.from = self.at;
                self.scalar.text.clear();
                self.scalar.text.push(char::from(byte));
                State::Scalar
            }
            (State::Key { .. }, b'"') => self.open(Role::Key, tell),
            (State::Colon, b':') => State::Value { or_end: false },
            (State::After, b',') => match self.path.last_mut() {
                Some(Level::Object(_)) => State::Key { or_end: false },
                Some(Level::Array(idx)) => {
                    *idx += 1;
                    State::Value { or_end: false }
                }
                None => return Err(NotJson),
            },
            _ => return Err(NotJson),
        };
        Ok(())
    }

    fn open(&mut self, role: Role, tell: &mut impl FnMut(&[Level], Part<'_>) -> Tell) -> State {
        self.key.clear();
        self.asked = tell(&self.path, Part::Open(self.at + 1, role));
        State::String(role)
    }

    fn down(&mut self, level: Level) -> Result<State, NotJson> {
        if self.path.len() == MAX_DEPTH {
            return Err(NotJson);
        }
        let next = match level {
            Level::Object(_) => State::Key { or_end: true },
            Level::Array(_) => State::Value { or_end: true },
        };
        self.path.push(level);
        Ok(next)
    }

    fn up(&mut self, byte: u8) -> Result<State, NotJson> {
        match (self.path.pop(), byte) {
            (Some(level @ Level::Object(_)), b'}') | (Some(level @ Level::Array(_)), b']') => {
                self.keep(level);
                Ok(State::After)
            }
            _ => Err(NotJson),
        }
    }

    /// Keeps the memory of a level.
    fn keep(&mut self, level: Level) {
        if let Level::Object(key) = level
            && self.spare.len() < MAX_SPARE
        {
            self.spare.push(key);
        }
    }

    fn end_scalar(
        &mut self,
        tell: &mut impl FnMut(&[Level], Part<'_>) -> Tell,
    ) -> Result<(), NotJson> {
        let text = &*self.scalar.text;
        let is_word = ["true", "false", "null", "NaN", "Infinity", "-Infinity"].contains(&text);
        if !is_word && serde_json::from_str::<serde_json::Number>(text).is_err() {
            return Err(NotJson);
        }
        let len = self.scalar.text.len() as u64;
        let number = self.scalar.text.parse().ok();
        tell(&self.path, Part::Scalar { at: self.scalar.from, len, number });
        self.state = State::After;
        Ok(())
    }
}

/// Returns how many bytes at the front of a string are neither its end, nor an escape, nor what may not be there.
fn unlooked(bytes: &[u8]) -> usize {
    let len = memchr::memchr2(b'"', b'\\', bytes).unwrap_or(bytes.len());
    let mut has_control = false;
    bytes[..len].iter().for_each(|byte| has_control |= *byte < b' ');
    // Then the one that is not to be there is looked for byte by byte.
    if has_control { 0 } else { len }
}

fn note(role: Role, key: &mut String, unit: Unit) {
    if role == Role::Key && key.len() < MAX_KEY {
        key.push(unit.char.unwrap_or('\u{fffd}'));
    }
}

/// Returns whether a number, true, false or null may have this byte.
fn is_scalar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Returns what is told of a document in pieces: of each string its path and text, of each number its path and length.
    fn read(pieces: &[&[u8]]) -> Result<(Vec<String>, bool), NotJson> {
        let mut lexer = Lexer::new(0);
        let (mut told, mut text) = (Vec::new(), String::new());
        let mut tell = |path: &[Level], part: Part<'_>| {
            match part {
                Part::Open(..) => text.clear(),
                Part::Unit(_, unit) => text.push(unit.char.unwrap_or('\u{fffd}')),
                Part::Plain(_, plain) => text.push_str(str::from_utf8(plain).unwrap()),
                Part::Close(_, Role::Key) => told.push(format!("{} key {text}", path_text(path))),
                Part::Close(_, Role::Value) => told.push(format!("{} {text:?}", path_text(path))),
                Part::Scalar { len, .. } => told.push(format!("{} {len}", path_text(path))),
            }
            Tell::Units
        };
        for piece in pieces {
            lexer.push(piece, &mut tell)?;
        }
        let whole = lexer.finish(&mut tell)?;
        Ok((told, whole))
    }

    fn path_text(path: &[Level]) -> String {
        path.iter()
            .map(|level| match level {
                Level::Object(key) => format!("/{key}"),
                Level::Array(idx) => format!("/{idx}"),
            })
            .collect()
    }

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        let bytes: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
        for pieces in [vec![text.as_bytes()], bytes] {
            let (told, whole) = read(&pieces).unwrap();
            assert_eq!(told, expected);
            assert!(whole);
        }
    }

    #[test]
    fn strings_are_told_with_their_places() {
        check(
            r#"{"a": [{"b":"x\u00e9\n\"\ud83d\ude00"}, "é", -1.5e3, []], "c":null, "d":{}}"#,
            &[
                "/ key a",
                "/a/0/ key b",
                "/a/0/b \"xé\\n\\\"😀\"",
                "/a/1 \"é\"",
                "/a/2 6",
                "/a key c",
                "/c 4",
                "/c key d",
            ],
        );
        check(
            "{\"a\":1}\0{\"a\":2}\n3 \"x\"",
            &["/ key a", "/a 1", "/ key a", "/a 1", " 1", " \"x\""],
        );
        check(r#"["\ud83dx", "\ude00"]"#, &["/0 \"�x\"", "/1 \"�\""]);
    }

    #[test]
    fn what_is_not_json_is_an_error() {
        for text in [
            "{a:1}",
            "[1,]",
            "{,}",
            "[1 2]",
            "nul1 ",
            "+49",
            "0x10 ",
            "[1}",
            "{\"a\" 1}",
            "\"a\nb\"",
            r#""\x""#,
            r#""\u12g4""#,
            "secret ",
            "]",
            "[01]",
        ] {
            let found = read(&[text.as_bytes()]);
            assert!(found.is_err(), "{text}: {found:?}");
        }
        assert!(
            !read(&[b"{\"a\":[1, \"x"]).unwrap().1,
            "a cut document is no error, but not whole"
        );
        assert!(read(&[&b"[".repeat(MAX_DEPTH + 1)]).is_err());
    }

    proptest! {
        #[test]
        fn whatever_serde_reads_is_read(text in r#"([\[\]{},:"\\u0aé9e.-]|true| |"a"|"b":){0,16}"#) {
            let bytes = text.as_bytes();
            if serde_json::from_slice::<serde_json::Value>(bytes).is_ok() {
                prop_assert!(read(&[bytes]).is_ok(), "{}", text);
            }
        }

        #[test]
        fn any_cut_tells_the_same(
            bytes in prop_oneof![
                prop::collection::vec(any::<u8>(), 0..40),
                r#"\["(\\\\|\\"|\\ud83d|\\ude00|é|😀|a){0,8}"\]"#.prop_map(String::into_bytes),
            ],
        ) {
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            prop_assert_eq!(read(&single), read(&[&bytes]));
        }
    }
}
