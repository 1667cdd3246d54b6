//! JSON that may hold anything in any place: what has another type than expected is none, never an error.
//!
//! Servers put `null`, numbers and objects where others put strings. Each type here takes what it can use and drains the
//! rest, so that one odd field costs that field alone. Strings are borrowed from the input where they hold no escapes.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

/// A string.
#[derive(Clone, Debug, Default)]
pub(super) struct Text<'a>(pub(super) Option<Cow<'a, str>>);

/// A number that is not negative; of a fraction the whole part.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Number(pub(super) Option<u64>);

/// True or false.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Flag(pub(super) Option<bool>);

/// An object.
#[derive(Clone, Debug)]
pub(super) struct Object<T>(pub(super) Option<T>);

/// The objects in a list.
#[derive(Clone, Debug)]
pub(super) struct List<T>(pub(super) Vec<T>);

/// The length of a list.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Length(pub(super) u32);

/// A value made from whatever JSON stands in its place. What is not overridden is drained, and none.
pub(super) trait Soft<'de>: Default {
    fn boolean(_value: bool) -> Self {
        Self::default()
    }
    fn number(_value: u64) -> Self {
        Self::default()
    }
    fn string(_value: Cow<'_, str>) -> Self {
        Self::default()
    }
    fn borrowed(value: &'de str) -> Self {
        Self::string(Cow::Borrowed(value))
    }
    fn list<A: SeqAccess<'de>>(mut list: A) -> Result<Self, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Self::default())
    }
    fn object<A: MapAccess<'de>>(mut object: A) -> Result<Self, A::Error> {
        while object.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Self::default())
    }
}

/// Reads a [`Soft`] value: the body of every `Deserialize` of one.
pub(super) fn soft<'de, D: Deserializer<'de>, T: Soft<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    deserializer.deserialize_any(SoftVisitor(PhantomData))
}

/// Parses a JSON text; none when it is not JSON. A text that is JSON but for its strings (bytes that are not UTF-8, half of
/// a surrogate pair) is mended, and of a field that is named twice the last counts: `owned` holds the copy then.
pub(super) fn parse<'a, T: Deserialize<'a>>(json: &'a [u8], owned: &'a mut Vec<u8>) -> Option<T> {
    if let Ok(value) = serde_json::from_slice(json) {
        return Some(value);
    }
    let mended = mend(json);
    let value: Value = serde_json::from_slice(mended.as_deref().unwrap_or(json)).ok()?;
    *owned = serde_json::to_vec(&value).ok()?;
    serde_json::from_slice(owned).ok()
}

/// Returns `json` with what no string may hold replaced by U+FFFD; none when there is nothing of the kind.
fn mend(json: &[u8]) -> Option<Vec<u8>> {
    let text = String::from_utf8_lossy(json);
    let mut mended = String::with_capacity(text.len());
    let mut rest = &*text;
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        mended.push_str(before);
        let (replacement, length) = match (surrogate(escape), escape.get(6..).map(surrogate)) {
            (Some(Surrogate::High), Some(Some(Surrogate::Low))) => (&escape[..12], 12),
            (Some(_), _) => ("\u{fffd}", 6),
            (None, _) => {
                let length = 1 + escape[1..].chars().next().map_or(0, char::len_utf8);
                (&escape[..length], length)
            }
        };
        mended.push_str(replacement);
        rest = &escape[length..];
    }
    mended.push_str(rest);
    (mended.as_bytes() != json).then(|| mended.into_bytes())
}

enum Surrogate {
    High,
    Low,
}

/// Returns which half of a surrogate pair the escape at the start of `text` stands for, if any.
fn surrogate(text: &str) -> Option<Surrogate> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    match u16::from_str_radix(digits, 16).ok()? {
        0xd800..=0xdbff => Some(Surrogate::High),
        0xdc00..=0xdfff => Some(Surrogate::Low),
        _ => None,
    }
}

/// Implements `Deserialize` for a [`Soft`] type, with these generics.
macro_rules! deserialize_softly {
    ([$($generics:tt)+] $type:ty) => {
        impl<$($generics)+> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                crate::dialect::soft::soft(deserializer)
            }
        }
    };
}
pub(super) use deserialize_softly;

deserialize_softly!(['de: 'a, 'a] Text<'a>);
deserialize_softly!(['de] Number);
deserialize_softly!(['de] Flag);
deserialize_softly!(['de] Length);
deserialize_softly!(['de, T: Deserialize<'de>] Object<T>);
deserialize_softly!(['de, T: Deserialize<'de>] List<T>);

// === impl Text ===

impl Text<'_> {
    /// Returns the string; empty when there is none.
    pub(super) fn as_str(&self) -> &str {
        self.0.as_deref().unwrap_or_default()
    }

    /// Returns a copy of the string, none when it is empty.
    pub(super) fn to_filled(&self) -> Option<String> {
        self.0.as_deref().filter(|text| !text.is_empty()).map(str::to_owned)
    }
}

impl<'de: 'a, 'a> Soft<'de> for Text<'a> {
    fn string(value: Cow<'_, str>) -> Self {
        Self(Some(Cow::Owned(value.into_owned())))
    }
    fn borrowed(value: &'de str) -> Self {
        Self(Some(Cow::Borrowed(value)))
    }
}

// === impl Number ===

impl<'de> Soft<'de> for Number {
    fn number(value: u64) -> Self {
        Self(Some(value))
    }
}

// === impl Flag ===

impl<'de> Soft<'de> for Flag {
    fn boolean(value: bool) -> Self {
        Self(Some(value))
    }
}

// === impl Length ===

impl<'de> Soft<'de> for Length {
    fn list<A: SeqAccess<'de>>(mut list: A) -> Result<Self, A::Error> {
        let mut length = 0_u32;
        while list.next_element::<IgnoredAny>()?.is_some() {
            length = length.saturating_add(1);
        }
        Ok(Self(length))
    }
}

// === impl Object ===

impl<T> Default for Object<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<'de, T: Deserialize<'de>> Soft<'de> for Object<T> {
    fn object<A: MapAccess<'de>>(object: A) -> Result<Self, A::Error> {
        T::deserialize(MapAccessDeserializer::new(object)).map(|value| Self(Some(value)))
    }
}

// === impl List ===

impl<T> Default for List<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Soft<'de> for List<T> {
    fn list<A: SeqAccess<'de>>(mut list: A) -> Result<Self, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = list.next_element::<Object<T>>()? {
            values.extend(value.0);
        }
        Ok(Self(values))
    }
}

struct SoftVisitor<T>(PhantomData<T>);

// === impl SoftVisitor ===

impl<'de, T: Soft<'de>> Visitor<'de> for SoftVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }
    fn visit_bool<E>(self, value: bool) -> Result<T, E> {
        Ok(T::boolean(value))
    }
    fn visit_u64<E>(self, value: u64) -> Result<T, E> {
        Ok(T::number(value))
    }
    fn visit_i64<E>(self, value: i64) -> Result<T, E> {
        Ok(u64::try_from(value).map_or_else(|_| T::default(), T::number))
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "in range, and a count of tokens has no fraction"
    )]
    fn visit_f64<E>(self, value: f64) -> Result<T, E> {
        let in_range = (0.0..9e15).contains(&value);
        Ok(if in_range { T::number(value as u64) } else { T::default() })
    }
    fn visit_str<E>(self, value: &str) -> Result<T, E> {
        Ok(T::string(Cow::Borrowed(value)))
    }
    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<T, E> {
        Ok(T::borrowed(value))
    }
    fn visit_unit<E>(self) -> Result<T, E> {
        Ok(T::default())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<T, A::Error> {
        T::list(list)
    }
    fn visit_map<A: MapAccess<'de>>(self, object: A) -> Result<T, A::Error> {
        T::object(object)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Default, Deserialize)]
    #[serde(default)]
    struct Odd<'a> {
        #[serde(borrow)]
        text: Text<'a>,
        number: Number,
        flag: Flag,
        length: Length,
        #[serde(borrow)]
        inner: Object<Box<Self>>,
        #[serde(borrow)]
        list: List<Self>,
    }

    #[track_caller]
    fn check(json: &str, expected: &str) {
        let mut owned = Vec::new();
        let odd: Odd<'_> = parse(json.as_bytes(), &mut owned).unwrap();
        let found = format!(
            "{:?} {:?} {:?} {} {} {}",
            odd.text.0,
            odd.number.0,
            odd.flag.0,
            odd.length.0,
            odd.inner.0.is_some(),
            odd.list.0.len()
        );
        assert_eq!(found, expected, "{json}");
    }

    #[test]
    fn each_field_takes_what_it_can_use() {
        check(
            r#"{"text":"a","number":3,"flag":true,"length":[1,{}],"inner":{"text":1},"list":[{},null,4,{}]}"#,
            "Some(\"a\") Some(3) Some(true) 2 true 2",
        );
        for odd in ["null", "-1", "\"\\u00e9\"", "{\"a\":[1]}", "[[],{}]", "false", "1e300"] {
            let json = format!(
                r#"{{"text":{odd},"number":{odd},"flag":{odd},"length":{odd},"inner":{odd},"list":{odd}}}"#
            );
            let mut owned = Vec::new();
            assert!(parse::<Odd<'_>>(json.as_bytes(), &mut owned).is_some(), "{json}");
        }
        check(r#"{"number":2.0}"#, "None Some(2) None 0 false 0");
    }

    #[test]
    fn strings_that_are_none_are_mended() {
        check(r#"{"text":"a\ud83db"}"#, "Some(\"a\u{fffd}b\") None None 0 false 0");
        check(r#"{"text":"\\ud83d\ude00"}"#, "Some(\"\\\\ud83d\u{fffd}\") None None 0 false 0");
        check(r#"{"text":"\ud83d\ude00\ud83d"}"#, "Some(\"😀\u{fffd}\") None None 0 false 0");
        let mut owned = Vec::new();
        let odd: Odd<'_> = parse(b"{\"text\":\"\xff\"}", &mut owned).unwrap();
        assert_eq!(odd.text.as_str(), "\u{fffd}");
        let mut owned = Vec::new();
        assert!(parse::<Odd<'_>>(b"{\"text\":", &mut owned).is_none());
    }

    #[test]
    fn of_a_field_named_twice_the_last_counts() {
        check(r#"{"text":"a","number":1,"text":"b"}"#, "Some(\"b\") Some(1) None 0 false 0");
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..64), text in r#"[\\"ud8ef{}:a\u{e9}]{0,24}"#) {
            let mut owned = Vec::new();
            drop(parse::<Odd<'_>>(&bytes, &mut owned));
            let mut owned = Vec::new();
            drop(parse::<Odd<'_>>(text.as_bytes(), &mut owned));
        }
    }
}
