//! What the APIs' own words are, in JSON: member names that say nothing of anybody, and values that a replay needs.

use crate::privacy::json::Level;
use crate::privacy::members::MEMBERS;

/// What to do with a value when shapes are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// A text of its own.
    Text,
    /// It stays if it looks like a name, as `assistant` or `gpt-4o` do.
    Name,
    /// It stays if it is a word of JSON Schema.
    SchemaType,
    /// It stays if it is a member name that stays.
    Member,
    /// A part of a text that comes in several events.
    Delta,
    /// A token, of a text that other members have whole.
    Token,
    /// It is base64, unless it looks otherwise.
    Media,
}

/// Returns what the text value at `path` is.
pub(super) fn meaning(path: &[Level], in_event: InEvent) -> Meaning {
    let Some(key) = member(path) else { return Meaning::Text };
    if is_in(path, "logprobs") && key == "token" {
        return Meaning::Token;
    }
    if key == "type" && is_free(path) {
        return Meaning::SchemaType;
    }
    if key == "required" {
        return Meaning::Member;
    }
    if NAME_VALUES.binary_search(&key).is_ok() && !is_free(path) {
        return Meaning::Name;
    }
    if in_event == InEvent::Yes && is_delta(path, key) {
        return Meaning::Delta;
    }
    if MEDIA.binary_search(&key).is_ok() {
        return Meaning::Media;
    }
    Meaning::Text
}

/// Whether a document is one of many that a body consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InEvent {
    Yes,
    No,
}

/// Returns whether a member of this name is the API's, and not somebody's data.
pub(super) fn is_member(name: &str) -> bool {
    MEMBERS.contains(name)
}

/// Returns whether a value looks like a name rather than a text.
pub(super) fn is_name(value: &str) -> bool {
    value.len() <= MAX_NAME
        && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./:@+".contains(&byte))
}

/// Returns whether a value names a type in JSON Schema.
pub(super) fn is_schema_type(value: &str) -> bool {
    ["array", "boolean", "integer", "null", "number", "object", "string"].contains(&value)
}

/// Returns whether the numbers of a list at `path` are a text in another form: tokens, bytes, an embedding.
pub(super) fn are_text(path: &[Level]) -> bool {
    matches!(path.last(), Some(Level::Array(_)))
        && member(path).is_some_and(|key| NUMBERS.binary_search(&key).is_ok())
}

/// Returns whether the number at `path` tells events of several texts apart.
pub(super) fn is_index(path: &[Level]) -> bool {
    matches!(
        path.last(),
        Some(Level::Object(key)) if matches!(&**key, "index" | "output_index" | "content_index")
    )
}

/// Longest value that can be a name.
pub(super) const MAX_NAME: usize = 64;

/// Returns the name of the innermost member.
fn member(path: &[Level]) -> Option<&str> {
    path.iter().rev().find_map(|level| match level {
        Level::Object(key) => Some(&**key),
        Level::Array(_) => None,
    })
}

fn is_in(path: &[Level], name: &str) -> bool {
    path.iter().any(|level| matches!(level, Level::Object(key) if key == name))
}

/// Returns whether `path` is within what users and models fill as they like.
fn is_free(path: &[Level]) -> bool {
    let Some((_, outer)) = path.split_last() else { return false };
    outer.iter().enumerate().any(|(depth, level)| {
        let Level::Object(key) = level else { return false };
        match &**key {
            // At the top these are the Responses API's own.
            "input" | "response" => depth > 0,
            "args" | "arguments" | "input_schema" | "metadata" | "parameters" | "properties"
            | "schema" => true,
            _ => false,
        }
    })
}

fn is_delta(path: &[Level], key: &str) -> bool {
    let names: Vec<&str> = path
        .iter()
        .filter_map(|level| match level {
            Level::Object(key) => Some(&**key),
            Level::Array(_) => None,
        })
        .collect();
    match &names[..] {
        ["choices", "delta", ..] => !matches!(key, "id" | "name"),
        ["delta", rest @ ..] => !matches!(rest, ["stop_sequence" | "id" | "name"]),
        ["choices", "text"]
        | ["message", "content" | "thinking"]
        | ["response" | "content"]
        | ["token", "text"]
        | ["candidates", "content", "parts", "text"] => true,
        _ => false,
    }
}

/// Members whose values stay when they look like names.
const NAME_VALUES: [&str; 29] = [
    "code",
    "detail",
    "done_reason",
    "effort",
    "encoding_format",
    "finishReason",
    "finish_reason",
    "format",
    "language",
    "media_type",
    "mimeType",
    "mime_type",
    "mode",
    "model",
    "modelVersion",
    "native_finish_reason",
    "object",
    "quality",
    "reasoning_effort",
    "response_format",
    "role",
    "service_tier",
    "size",
    "status",
    "stop_reason",
    "stop_type",
    "tool_choice",
    "type",
    "voice",
];

/// Members whose values are base64.
const MEDIA: [&str; 9] = [
    "b64_json",
    "data",
    "embedding",
    "file_data",
    "image",
    "image_data",
    "image_url",
    "images",
    "url",
];

/// Members whose lists of numbers are text.
const NUMBERS: [&str; 12] = [
    "bytes",
    "data",
    "embedding",
    "embeddings",
    "input",
    "input_ids",
    "output_ids",
    "prompt",
    "prompt_token_ids",
    "token_ids",
    "tokens",
    "values",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Vec<Level> {
        let level =
            |step: &str| step.parse().map_or_else(|_| Level::Object(step.to_owned()), Level::Array);
        text.split('/').skip(1).map(level).collect()
    }

    #[track_caller]
    fn check(text: &str, expected: &Meaning) {
        assert_eq!(meaning(&path(text), InEvent::Yes), *expected, "{text}");
    }

    #[test]
    fn the_lists_are_sorted() {
        for list in [&NAME_VALUES[..], &MEDIA, &NUMBERS] {
            assert!(list.windows(2).all(|pair| pair[0] < pair[1]), "{list:?}");
        }
    }

    #[test]
    fn values_have_their_meaning_by_their_place() {
        check("/model", &Meaning::Name);
        check("/messages/0/role", &Meaning::Name);
        check("/messages/0/content", &Meaning::Text);
        check("/input/0/role", &Meaning::Name);
        check("/messages/1/content/0/input/role", &Meaning::Text);
        check("/tools/0/function/parameters/properties/city/type", &Meaning::SchemaType);
        check("/tools/0/function/parameters/required/0", &Meaning::Member);
        check("/metadata/model", &Meaning::Text);
        check("/choices/0/delta/content", &Meaning::Delta);
        check("/choices/0/delta/role", &Meaning::Name);
        check("/choices/0/delta/tool_calls/0/function/arguments", &Meaning::Delta);
        check("/choices/0/delta/tool_calls/0/function/name", &Meaning::Text);
        check("/choices/0/message/content", &Meaning::Text);
        check("/choices/0/logprobs/content/3/token", &Meaning::Token);
        check("/delta/text", &Meaning::Delta);
        check("/delta", &Meaning::Delta);
        check("/text", &Meaning::Text);
        check("/images/0", &Meaning::Media);
        assert_eq!(meaning(&path("/choices/0/text"), InEvent::No), Meaning::Text);
        assert!(are_text(&path("/prompt/0")) && are_text(&path("/prompt/0/7")));
        assert!(!are_text(&path("/max_tokens")) && !are_text(&path("/prompt")));
    }

    #[test]
    fn names_are_told_from_texts() {
        assert!(is_name("meta-llama/Llama-3.1-8B-Instruct:latest") && is_name("tool_calls"));
        assert!(!is_name("two words") && !is_name("h\u{e9}") && !is_name(&"x".repeat(65)));
        assert!(is_member("messages") && !is_member("patient"));
    }
}
