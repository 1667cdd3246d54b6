//! The shape of a tool call: its name and the names of its arguments, without their values.
//!
//! `weather(place{city,country},days)`: keys in the order in which they came, those of an inner object in braces; a list is
//! `[]` after its key, with the shape of its first object inside. Two calls of the same shape ask the same of a tool's
//! parser, whatever the values are.

use serde_json::{Map, Value};

/// Returns the shape of a call. Arguments that are no JSON object are `?`: nobody could call the tool with them.
pub(super) fn shape(name: &str, arguments: &str) -> String {
    let mut shape = format!("{name}(");
    match arguments.trim() {
        "" => {}
        arguments => match serde_json::from_str(arguments) {
            Ok(Value::Object(keys)) => put_keys(&mut shape, &keys),
            Ok(_) | Err(_) => shape.push('?'),
        },
    }
    shape.push(')');
    shape
}

/// Joins the shapes of all calls of an answer. What is longer than [`MAX_SHAPE_BYTES`] ends with a digest of the whole, so
/// that different ones stay different.
pub(super) fn join(shapes: &[String]) -> String {
    let mut text = shapes.join("; ");
    if text.len() > MAX_SHAPE_BYTES {
        let digest = blake3::hash(text.as_bytes()).to_hex();
        text.truncate(text.floor_char_boundary(MAX_SHAPE_BYTES));
        text.push('…');
        text.push_str(&digest[..16]);
    }
    text
}

fn put_keys(shape: &mut String, keys: &Map<String, Value>) {
    for (place, (key, value)) in keys.iter().enumerate() {
        if place > 0 {
            shape.push(',');
        }
        shape.push_str(key);
        put_value(shape, value);
    }
}

fn put_value(shape: &mut String, value: &Value) {
    match value {
        Value::Object(keys) => {
            shape.push('{');
            put_keys(shape, keys);
            shape.push('}');
        }
        Value::Array(values) => {
            shape.push('[');
            if let Some(first) = values.iter().find(|value| value.is_object()) {
                put_value(shape, first);
            }
            shape.push(']');
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Longest shape that is written out.
const MAX_SHAPE_BYTES: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    fn check(arguments: &str, expected: &str) {
        assert_eq!(shape("f", arguments), format!("f({expected})"), "{arguments}");
    }

    #[test]
    fn a_shape_has_names_in_their_order_and_no_values() {
        check("", "");
        check("{}", "");
        check(r#"{"city": "Paris", "days": 3}"#, "city,days");
        check(r#"{"days": null, "city": "secret"}"#, "days,city");
        check(
            r#"{"place": {"city": "x", "at": {"lat": 1}}, "unit": "C"}"#,
            "place{city,at{lat}},unit",
        );
        check(
            r#"{"tags": ["a", "b"], "items": [1, {"id": 1, "n": 2}, {"id": 2}]}"#,
            "tags[],items[{id,n}]",
        );
        check(r#"{"rows": [[{"a": 1}]]}"#, "rows[]");
    }

    #[test]
    fn what_is_no_object_can_call_nothing() {
        for arguments in ["{\"city\": \"Par", "[1]", "\"city\"", "null", "3", "{} {}"] {
            check(arguments, "?");
        }
    }

    #[test]
    fn long_shapes_are_cut_and_stay_different() {
        let long = |last: &str| join(&["é".repeat(MAX_SHAPE_BYTES), last.to_owned()]);
        assert_ne!(long("a()"), long("b()"));
        assert!(long("a()").len() < MAX_SHAPE_BYTES + 24);
        assert_eq!(join(&["f(a)".to_owned(), "g()".to_owned()]), "f(a); g()");
    }
}
