//! Output lengths: makes a server say as much as the recorded one did, so that two servers are compared at the same work.
//!
//! How a server is told differs from family to family, and some can't be told at all. What is set, beside an upper bound
//! that every API has (each that the request names already, else the usual one):
//!
//! | request | family | set to | promise |
//! |---|---|---|---|
//! | OpenAI's chat, completions | vLLM, SGLang | `ignore_eos`, `min_tokens` | exact |
//! | OpenAI's chat, completions | llama.cpp | `ignore_eos` | exact |
//! | OpenAI's chat, completions | TGI, Ollama | nothing | at most |
//! | `/generate` with `text` or `input_ids` | SGLang | `sampling_params.ignore_eos`, `.min_new_tokens` | exact |
//! | `/generate` with `prompt` | vLLM | `ignore_eos`, `min_tokens` | exact |
//! | `/completion` | llama.cpp | `ignore_eos` | exact |
//! | `/generate`, `/generate_stream` with `inputs` | TGI | nothing | at most |
//! | `/api/chat`, `/api/generate` | Ollama | nothing | at most |
//! | others with an upper bound of their own | | nothing | at most |
//!
//! TGI knows the wish inside but not over HTTP, Ollama not at all: their outputs can end earlier. A `stop` string of the
//! request still ends an output on SGLang and llama.cpp. So nothing is believed: [`Pinned::settle`] compares what came with
//! what was asked for.
//!
//! Constrained decoding is left alone: a grammar that has come to its end has no next token, and a server that may not stop
//! then fails or repeats for ever.

use crate::replay::constraint::{Members, has_choices, is_constrained};
use crate::replay::family::Family;
use crate::replay::splice;
use crate::results::rows::Measurement;

/// What is done about the lengths of outputs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lengths {
    /// Whether outputs are to be as long as recorded, and which family of servers is told so.
    pub pin: Option<Family>,
    /// Longest output to ask for, in tokens.
    pub cap: Option<u64>,
}

/// What is known of a recorded output's length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub enum Length {
    /// So many tokens, by the recorded server's own count.
    Counted(u64),
    /// The recorded output did not come to its end: what there is of it is no length.
    CutShort,
    /// About so many tokens: events with content, counted.
    Estimated(u64),
    /// Nothing, or that there was none.
    #[default]
    Unknown,
}

/// Whether an output's length was pinned, or why not: `output_pinned` of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pinned {
    /// Asked for, with the recorded count.
    Asked {
        /// Tokens.
        tokens: u64,
    },
    /// Only an upper bound could be set.
    AtMost {
        /// Tokens.
        tokens: u64,
    },
    /// Asked for, but at the cap, which is shorter than the recording.
    Capped {
        /// Tokens.
        tokens: u64,
    },
    /// Not pinned: several choices share the recorded count.
    Choices,
    /// Not pinned: decoding is constrained by a schema, a grammar or a tool that must be called.
    Constrained,
    /// Not pinned: the recorded output was cut short.
    CutShort,
    /// Asked for, with an estimate of the recorded count.
    Estimate {
        /// Tokens.
        tokens: u64,
    },
    /// Not pinned: the body is no JSON, is compressed, or has something else in the place.
    NoPlace,
    /// Not pinned: how long the recorded output was is not known.
    Unknown,
}

/// What lengths came to in one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edited {
    /// The new body; none when it stays as it was.
    pub body: Option<Vec<u8>>,
    /// Whether its length was pinned; none when that was not asked for, or when there is no output to pin.
    pub pinned: Option<Pinned>,
    /// Whether a cap found no place.
    pub misfit: bool,
}

/// The form of a request body: where its lengths stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Anthropic,
    LlamaCpp,
    Llava,
    Ollama,
    OpenAi,
    Responses,
    Sglang,
    Tgi,
    Vllm,
}

/// Sets lengths in the body of a request to `path` that had an output of `length` when it was recorded.
#[must_use]
pub fn edit(lengths: Lengths, path: &str, body: &[u8], length: Length) -> Edited {
    if lengths == Lengths::default() {
        return Edited::default();
    }
    let members = serde_json::from_slice::<Members<'_>>(body).ok();
    let Some(form) = Form::of(path, members.as_ref()) else { return Edited::default() };
    let Some(members) = members else { return Edited::no_place(lengths) };
    let pinned = lengths.pin.map(|family| judge(form, family, &members, length, lengths.cap));
    let mut sets = match (pinned.and_then(Pinned::tokens), lengths.cap) {
        (Some(tokens), _) => form.bounds(body, |_| tokens),
        (None, Some(cap)) => form.bounds(body, |bound| bound.map_or(cap, |bound| bound.min(cap))),
        (None, None) => return Edited { pinned, ..Edited::default() },
    };
    if let (
        Some(family),
        Some(Pinned::Asked { tokens } | Pinned::Capped { tokens } | Pinned::Estimate { tokens }),
    ) = (lengths.pin, pinned)
    {
        sets.extend(form.exact(family, tokens));
    }
    match set_all(body, &sets) {
        Some(body) => Edited { body, pinned, misfit: false },
        None => Edited::no_place(lengths),
    }
}

/// Returns what can be done about a length.
fn judge(
    form: Form,
    family: Family,
    members: &Members<'_>,
    length: Length,
    cap: Option<u64>,
) -> Pinned {
    if is_constrained(members) {
        return Pinned::Constrained;
    }
    if has_choices(members) {
        return Pinned::Choices;
    }
    let (recorded, is_estimate) = match length {
        Length::Counted(tokens) => (tokens, false),
        Length::Estimated(tokens) => (tokens, true),
        Length::CutShort => return Pinned::CutShort,
        Length::Unknown => return Pinned::Unknown,
    };
    if recorded == 0 {
        return Pinned::Unknown;
    }
    let tokens = cap.map_or(recorded, |cap| recorded.min(cap));
    if !form.is_exact(family) {
        return Pinned::AtMost { tokens };
    }
    match (tokens < recorded, is_estimate) {
        (true, _) => Pinned::Capped { tokens },
        (false, true) => Pinned::Estimate { tokens },
        (false, false) => Pinned::Asked { tokens },
    }
}

/// Returns the body with all of these set, none inside when there is nothing to set; none when one has no place.
#[expect(clippy::option_option, reason = "no change and no place are different ends")]
fn set_all(body: &[u8], sets: &[(splice::Path, String)]) -> Option<Option<Vec<u8>>> {
    let mut changed: Option<Vec<u8>> = None;
    for (path, value) in sets {
        changed = Some(splice::set(changed.as_deref().unwrap_or(body), path, value)?);
    }
    Some(changed)
}

// === impl Length ===

impl Length {
    /// Returns what the row of a recorded exchange says.
    #[must_use]
    pub fn of(recorded: &Measurement) -> Self {
        let is_whole = recorded.outcome == "complete" && recorded.error_kind.is_none();
        match (recorded.output_tokens, recorded.output_tokens_source.as_deref()) {
            (Some(_), _) if !is_whole => Self::CutShort,
            (Some(tokens), Some("usage")) => Self::Counted(tokens),
            (Some(tokens), _) => Self::Estimated(tokens),
            (None, _) => Self::Unknown,
        }
    }
}

// === impl Pinned ===

impl Pinned {
    /// Returns the length that was asked for.
    #[must_use]
    pub const fn tokens(self) -> Option<u64> {
        match self {
            Self::Asked { tokens }
            | Self::AtMost { tokens }
            | Self::Capped { tokens }
            | Self::Estimate { tokens } => Some(tokens),
            Self::Choices | Self::Constrained | Self::CutShort | Self::NoPlace | Self::Unknown => {
                None
            }
        }
    }

    /// Returns what `output_pinned` says once the answer is there: `yes` only where the server counted as many tokens as it was
    /// to make.
    #[must_use]
    pub fn settle(self, answer: &Measurement) -> &'static str {
        let counted = answer
            .output_tokens
            .filter(|_| answer.output_tokens_source.as_deref() == Some("usage"));
        match self {
            Self::AtMost { .. } => "at_most",
            Self::Asked { .. } | Self::Capped { .. } | Self::Estimate { .. }
                if answer.outcome == "complete"
                    && answer.error_kind.is_none()
                    && counted.is_some()
                    && counted != self.tokens() =>
            {
                "missed"
            }
            Self::Asked { .. } if counted.is_some() => "yes",
            Self::Asked { .. } => "asked",
            Self::Capped { .. } => "capped",
            Self::Choices => "choices",
            Self::Constrained => "constrained",
            Self::CutShort => "cut_short",
            Self::Estimate { .. } => "estimate",
            Self::NoPlace => "no_place",
            Self::Unknown => "unknown_length",
        }
    }
}

// === impl Edited ===

impl Edited {
    fn no_place(lengths: Lengths) -> Self {
        let pinned = lengths.pin.map(|_| Pinned::NoPlace);
        Self { body: None, pinned, misfit: lengths.cap.is_some() && pinned.is_none() }
    }
}

// === impl Form ===

impl Form {
    /// Returns the form of a body with these members (none when it is not JSON), sent to `path`; none when its answer has no
    /// length that one could ask for.
    fn of(path: &str, members: Option<&Members<'_>>) -> Option<Self> {
        let has = |name: &str| members.is_some_and(|members| members.contains_key(name));
        let path = path.trim_end_matches('/');
        [
            ("/chat/completions", Self::OpenAi),
            ("/completions", Self::OpenAi),
            ("/responses", Self::Responses),
            ("/messages", Self::Anthropic),
            ("/completion", Self::LlamaCpp),
            ("/api/chat", Self::Ollama),
            ("/api/generate", Self::Ollama),
            ("/worker_generate_stream", Self::Llava),
            ("/generate_stream", Self::Tgi),
        ]
        .into_iter()
        .find_map(|(end, form)| path.ends_with(end).then_some(form))
        .or_else(|| match path.ends_with("/generate") {
            true if has("inputs") => Some(Self::Tgi),
            true if has("text") || has("input_ids") => Some(Self::Sglang),
            true if has("prompt") => Some(Self::Vllm),
            _ => None,
        })
    }

    /// Returns whether servers of this family can be told an exact length.
    const fn is_exact(self, family: Family) -> bool {
        match self {
            Self::OpenAi => !matches!(family, Family::Ollama | Family::Tgi),
            Self::LlamaCpp | Self::Sglang | Self::Vllm => true,
            Self::Anthropic | Self::Llava | Self::Ollama | Self::Responses | Self::Tgi => false,
        }
    }

    /// Returns what makes an upper bound exact.
    fn exact(self, family: Family, tokens: u64) -> Vec<(splice::Path, String)> {
        let (ignore, least) = match (self, family) {
            (Self::Sglang, _) => (
                &["sampling_params", "ignore_eos"][..],
                Some(&["sampling_params", "min_new_tokens"][..]),
            ),
            (Self::LlamaCpp, _) | (_, Family::LlamaCpp) => (&["ignore_eos"][..], None),
            _ => (&["ignore_eos"][..], Some(&["min_tokens"][..])),
        };
        let mut sets = vec![(splice::Path::of(ignore), "true".to_owned())];
        sets.extend(least.map(|least| (splice::Path::of(least), tokens.to_string())));
        sets
    }

    /// Returns where upper bounds stand, the usual one first.
    const fn bound_places(self) -> &'static [&'static [&'static str]] {
        match self {
            Self::Anthropic => &[&["max_tokens"]],
            Self::LlamaCpp => &[&["n_predict"], &["max_tokens"]],
            Self::Llava => &[&["max_new_tokens"]],
            Self::Ollama => &[&["options", "num_predict"]],
            Self::OpenAi => &[&["max_tokens"], &["max_completion_tokens"], &["n_predict"]],
            Self::Responses => &[&["max_output_tokens"]],
            Self::Sglang => &[&["sampling_params", "max_new_tokens"]],
            Self::Tgi => &[&["parameters", "max_new_tokens"]],
            Self::Vllm => &[&["max_tokens"]],
        }
    }

    /// Returns the upper bounds to set: every one that is there and is to be another, or else the usual one. What is negative
    /// or null bounds nothing.
    fn bounds(
        self,
        body: &[u8],
        bound: impl Fn(Option<u64>) -> u64,
    ) -> Vec<(splice::Path, String)> {
        let places: Vec<splice::Path> =
            self.bound_places().iter().map(|steps| splice::Path::of(steps)).collect();
        let found: Vec<_> = places
            .iter()
            .filter_map(|path| {
                Some((path.clone(), std::str::from_utf8(splice::find(body, path)?).ok()?))
            })
            .collect();
        if found.is_empty() {
            return places
                .into_iter()
                .take(1)
                .map(|path| (path, bound(None).to_string()))
                .collect();
        }
        found
            .into_iter()
            .map(|(path, text)| (path, bound(text.parse().ok()).to_string(), text))
            .filter(|(_, new, old)| new != old)
            .map(|(path, new, _)| (path, new))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHAT: &str = "/v1/chat/completions";

    fn edited(lengths: Lengths, path: &str, body: &str, length: Length) -> (String, String, bool) {
        let Edited { body: new, pinned, misfit } = edit(lengths, path, body.as_bytes(), length);
        let new = new.map_or_else(|| "same".to_owned(), |new| String::from_utf8(new).unwrap());
        let answer = Measurement { outcome: "complete".to_owned(), ..Measurement::default() };
        (new, pinned.map_or("-", |pinned| pinned.settle(&answer)).to_owned(), misfit)
    }

    /// Checks what a request that had 20 tokens of output becomes, and its label before the answer.
    #[track_caller]
    fn check(family: &str, path: &str, body: &str, expected: &str, label: &str) {
        let lengths = Lengths { pin: Some(family.parse().unwrap()), cap: None };
        let (new, seen, _) = edited(lengths, path, body, Length::Counted(20));
        assert_eq!((new.as_str(), seen.as_str()), (expected, label), "{family} {path} {body}");
        if let Ok(json) = serde_json::from_str::<serde_json::Value>(&new) {
            assert!(json.is_object());
        }
    }

    #[test]
    fn each_family_is_told_in_its_own_words() {
        let body = r#"{"n":1, "max_tokens": 512}"#;
        for family in ["auto", "vllm", "sglang"] {
            let expected = r#"{"n":1, "max_tokens": 20,"ignore_eos":true,"min_tokens":20}"#;
            check(family, CHAT, body, expected, "asked");
            check(family, "/v1/completions", body, expected, "asked");
        }
        check("llamacpp", CHAT, body, r#"{"n":1, "max_tokens": 20,"ignore_eos":true}"#, "asked");
        for family in ["tgi", "ollama"] {
            check(family, CHAT, body, r#"{"n":1, "max_tokens": 20}"#, "at_most");
        }
        check(
            "auto",
            CHAT,
            r#"{"max_completion_tokens":null,"min_tokens":3}"#,
            r#"{"max_completion_tokens":20,"min_tokens":20,"ignore_eos":true}"#,
            "asked",
        );
        check("auto", "/completion", "{}", r#"{"n_predict":20,"ignore_eos":true}"#, "asked");
        check(
            "auto",
            "/generate",
            r#"{"text":"a","sampling_params":{"temperature":0}}"#,
            r#"{"text":"a","sampling_params":{"temperature":0,"max_new_tokens":20,"ignore_eos":true,"min_new_tokens":20}}"#,
            "asked",
        );
        check(
            "auto",
            "/generate",
            r#"{"prompt":"a"}"#,
            r#"{"prompt":"a","max_tokens":20,"ignore_eos":true,"min_tokens":20}"#,
            "asked",
        );
        check(
            "auto",
            "/generate",
            r#"{"inputs":"a"}"#,
            r#"{"inputs":"a","parameters":{"max_new_tokens":20}}"#,
            "at_most",
        );
        check(
            "auto",
            "/api/chat",
            r#"{"options":{}}"#,
            r#"{"options":{"num_predict":20}}"#,
            "at_most",
        );
        check(
            "auto",
            "/worker_generate_stream",
            r#"{"max_new_tokens":512}"#,
            r#"{"max_new_tokens":20}"#,
            "at_most",
        );
        check("auto", "/v1/messages", r#"{"max_tokens":20}"#, "same", "at_most");
        check("auto", "/v1/responses", "{}", r#"{"max_output_tokens":20}"#, "at_most");
    }

    #[test]
    fn what_can_not_be_pinned_is_left_alone_and_says_why() {
        for (body, label) in [
            (r#"{"response_format":{"type":"json_schema"}}"#, "constrained"),
            (r#"{"guided_json":{"type":"object"}}"#, "constrained"),
            (r#"{"grammar":"root ::= x"}"#, "constrained"),
            (r#"{"sampling_params":{"regex":"a+"}}"#, "constrained"),
            (r#"{"tools":[{"type":"function","function":{"strict":true}}]}"#, "constrained"),
            (r#"{"tools":[{}],"tool_choice":"required"}"#, "constrained"),
            (r#"{"tools":[{}],"tool_choice":{"type":"function"}}"#, "constrained"),
            (r#"{"n":2}"#, "choices"),
            (r#"{"parameters":{"best_of":3}}"#, "choices"),
            (r#"{"prompt":["a","b"]}"#, "choices"),
            (r#"{"prompt":[[1,2],[3]]}"#, "choices"),
            ("not json", "no_place"),
            ("[1]", "no_place"),
        ] {
            check("auto", CHAT, body, "same", label);
        }
        for body in [
            r#"{"response_format":{"type":"text"},"max_tokens":1}"#,
            r#"{"guided_json":null,"tools":[{"function":{"strict":false}}],"tool_choice":"auto","max_tokens":1}"#,
            r#"{"prompt":[1,2,3],"max_tokens":1}"#,
        ] {
            let expected = body.replace(
                r#""max_tokens":1}"#,
                r#""max_tokens":20,"ignore_eos":true,"min_tokens":20}"#,
            );
            check("auto", CHAT, body, &expected, "asked");
        }
        check("auto", "/generate", r#"{"inputs":"a","parameters":7}"#, "same", "no_place");
        for path in ["/v1/embeddings", "/health", "/generate"] {
            check("auto", path, "{}", "same", "-");
        }
    }

    #[test]
    fn the_recorded_length_decides() {
        let pin = Lengths { pin: Some(Family::Auto), cap: None };
        let seen = |lengths, length| edited(lengths, CHAT, r#"{"max_tokens":9}"#, length);
        for (length, label) in [
            (Length::Unknown, "unknown_length"),
            (Length::Counted(0), "unknown_length"),
            (Length::CutShort, "cut_short"),
        ] {
            assert_eq!(seen(pin, length), ("same".to_owned(), label.to_owned(), false));
        }
        assert_eq!(seen(pin, Length::Estimated(20)).1, "estimate");
        let capped = Lengths { cap: Some(12), ..pin };
        assert_eq!(
            seen(capped, Length::Counted(20)),
            (
                r#"{"max_tokens":12,"ignore_eos":true,"min_tokens":12}"#.to_owned(),
                "capped".to_owned(),
                false
            )
        );
        assert_eq!(seen(capped, Length::Counted(12)).1, "asked");
    }

    #[test]
    fn a_cap_alone_only_ever_lowers_a_bound() {
        let cap =
            |body| edited(Lengths { pin: None, cap: Some(12) }, CHAT, body, Length::Counted(20));
        for (body, expected, misfit) in [
            (r#"{"max_tokens":9}"#, "same", false),
            (r#"{"max_tokens":90}"#, r#"{"max_tokens":12}"#, false),
            (r#"{"n_predict":-1}"#, r#"{"n_predict":12}"#, false),
            (
                r#"{"max_tokens":90,"max_completion_tokens":5}"#,
                r#"{"max_tokens":12,"max_completion_tokens":5}"#,
                false,
            ),
            ("{}", r#"{"max_tokens":12}"#, false),
            ("x", "same", true),
        ] {
            assert_eq!(cap(body), (expected.to_owned(), "-".to_owned(), misfit), "{body}");
        }
        // An exchange that can't be pinned is capped all the same.
        let both = Lengths { pin: Some(Family::Vllm), cap: Some(12) };
        assert_eq!(
            edited(both, CHAT, r#"{"n":2}"#, Length::Counted(20)),
            (r#"{"n":2,"max_tokens":12}"#.to_owned(), "choices".to_owned(), false)
        );
    }

    #[test]
    fn yes_is_said_when_the_server_counted_as_many() {
        let answer = |tokens, source: &str, outcome: &str| Measurement {
            outcome: outcome.to_owned(),
            output_tokens: Some(tokens),
            output_tokens_source: Some(source.to_owned()),
            ..Measurement::default()
        };
        let asked = Pinned::Asked { tokens: 20 };
        assert_eq!(asked.settle(&answer(20, "usage", "complete")), "yes");
        assert_eq!(asked.settle(&answer(19, "usage", "complete")), "missed");
        assert_eq!(asked.settle(&answer(19, "frames", "complete")), "asked");
        assert_eq!(asked.settle(&Measurement::default()), "asked");
        assert_eq!(
            Pinned::Capped { tokens: 20 }.settle(&answer(20, "usage", "complete")),
            "capped"
        );
        assert_eq!(
            Pinned::AtMost { tokens: 20 }.settle(&answer(7, "usage", "complete")),
            "at_most"
        );
        assert_eq!(
            Pinned::Estimate { tokens: 20 }.settle(&answer(7, "usage", "complete")),
            "missed"
        );
    }
}
