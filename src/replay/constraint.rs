//! What of a request keeps its output from being made as long as another: constrained decoding, several outputs.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

/// The members of an object.
pub(super) type Members<'a> = BTreeMap<String, &'a RawValue>;

/// Members that constrain decoding, at the top, or in `parameters` or `sampling_params`.
const CONSTRAINTS: [&str; 13] = [
    "ebnf",
    "format",
    "grammar",
    "guided_choice",
    "guided_decoding",
    "guided_grammar",
    "guided_json",
    "guided_regex",
    "json_schema",
    "regex",
    "response_format",
    "structural_tag",
    "structured_outputs",
];

/// Returns whether the next token is not free to be any.
pub(super) fn is_constrained(members: &Members<'_>) -> bool {
    let asks = |name: &str, value: &RawValue| {
        let text = value.get();
        let is_off = matches!(text, "null" | "false" | "\"\"" | "{}");
        let is_text = name == "response_format"
            && inner(value).is_some_and(|inner| {
                inner.get("type").is_some_and(|kind| kind.get() == "\"text\"")
            });
        !is_off && !is_text
    };
    let constrains = |members: &Members<'_>| {
        CONSTRAINTS.iter().any(|name| members.get(*name).is_some_and(|value| asks(name, value)))
    };
    let must_call = ["tool_choice", "function_call"]
        .iter()
        .filter_map(|name| members.get(*name))
        .any(|choice| !matches!(choice.get(), "null" | "\"auto\"" | "\"none\""));
    let is_strict = |tool: &&RawValue| {
        let yes = |members: &Members<'_>| {
            members.get("strict").is_some_and(|strict| strict.get() == "true")
        };
        inner(tool).is_some_and(|tool| {
            yes(&tool)
                || tool
                    .get("function")
                    .and_then(|function| inner(function))
                    .is_some_and(|inner| yes(&inner))
        })
    };
    constrains(members)
        || nested(members).any(|nested| constrains(&nested))
        || must_call
        || list(members, "tools").iter().any(is_strict)
}

/// Returns whether the recorded count is that of several outputs.
pub(super) fn has_choices(members: &Members<'_>) -> bool {
    let several = |members: &Members<'_>| {
        ["n", "best_of"]
            .iter()
            .filter_map(|name| members.get(*name))
            .any(|n| n.get().parse::<u64>().is_ok_and(|n| n > 1))
    };
    let is_batch = |name: &&str| {
        let prompts = list(members, name);
        prompts.len() > 1 && prompts[0].get().starts_with(['"', '['])
    };
    several(members)
        || nested(members).any(|nested| several(&nested))
        || ["prompt", "text", "input_ids"].iter().any(is_batch)
}

fn nested<'a>(members: &Members<'a>) -> impl Iterator<Item = Members<'a>> {
    ["parameters", "sampling_params"].into_iter().filter_map(|name| inner(members.get(name)?))
}

fn inner<'a>(value: &'a RawValue) -> Option<Members<'a>> {
    serde_json::from_str(value.get()).ok()
}

fn list<'a>(members: &Members<'a>, name: &str) -> Vec<&'a RawValue> {
    members.get(name).and_then(|value| serde_json::from_str(value.get()).ok()).unwrap_or_default()
}
