//! Response objects, as far as facts come from them: a chunk of a stream and a whole response are the same shape, but
//! that one has `delta` where the other has `message`.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::{MapAccess, SeqAccess};

use crate::dialect::soft::{List, Number, Object, Soft, Text, deserialize_softly};

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Chunk<'a> {
    #[serde(borrow)]
    pub(super) id: Text<'a>,
    #[serde(borrow)]
    pub(super) model: Text<'a>,
    #[serde(borrow)]
    pub(super) object: Text<'a>,
    #[serde(borrow)]
    pub(super) choices: List<Choice<'a>>,
    pub(super) usage: Object<UsageFields>,
    /// llama.cpp's, where there is no usage.
    pub(super) timings: Object<Timings>,
    pub(super) error: Reported,
    /// vLLM's error form: `object` is `error` and the text is here.
    pub(super) message: Reported,
    /// FastAPI's error form.
    pub(super) detail: Reported,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Choice<'a> {
    pub(super) index: Number,
    #[serde(borrow)]
    pub(super) delta: Object<Message<'a>>,
    #[serde(borrow)]
    pub(super) message: Object<Message<'a>>,
    /// Completions have the text right here.
    #[serde(borrow)]
    pub(super) text: Text<'a>,
    #[serde(borrow)]
    pub(super) finish_reason: Text<'a>,
    pub(super) usage: Object<UsageFields>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Message<'a> {
    #[serde(borrow)]
    pub(super) content: Content<'a>,
    #[serde(borrow)]
    pub(super) refusal: Text<'a>,
    #[serde(borrow)]
    pub(super) reasoning_content: Text<'a>,
    #[serde(borrow)]
    pub(super) reasoning: Text<'a>,
    #[serde(borrow)]
    pub(super) tool_calls: List<ToolCall<'a>>,
    #[serde(borrow)]
    pub(super) function_call: Object<Function<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ToolCall<'a> {
    pub(super) index: Number,
    #[serde(borrow)]
    pub(super) id: Text<'a>,
    #[serde(borrow)]
    pub(super) function: Object<Function<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Function<'a> {
    #[serde(borrow)]
    pub(super) name: Text<'a>,
    #[serde(borrow)]
    pub(super) arguments: Text<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct UsageFields {
    pub(super) prompt_tokens: Number,
    pub(super) completion_tokens: Number,
    pub(super) prompt_tokens_details: Object<InputDetails>,
    pub(super) completion_tokens_details: Object<OutputDetails>,
    /// Where some servers put it outside the details.
    pub(super) cached_tokens: Number,
    pub(super) reasoning_tokens: Number,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct InputDetails {
    pub(super) cached_tokens: Number,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct OutputDetails {
    pub(super) reasoning_tokens: Number,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Timings {
    pub(super) cache_n: Number,
    pub(super) prompt_n: Number,
    pub(super) predicted_n: Number,
}

/// Text of an answer: a string, or the strings of a list of parts.
#[derive(Debug, Default)]
pub(super) struct Content<'a>(pub(super) Cow<'a, str>);

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct TextPart<'a> {
    #[serde(borrow)]
    text: Text<'a>,
}

/// The text of an error: a string, or an object that says it, or a list whose first entry does.
#[derive(Debug, Default)]
pub(super) struct Reported(pub(super) Option<String>);

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ReportedFields<'a> {
    #[serde(borrow)]
    message: Text<'a>,
    #[serde(borrow)]
    msg: Text<'a>,
    #[serde(borrow, rename = "type")]
    kind: Text<'a>,
}

deserialize_softly!(['de: 'a, 'a] Content<'a>);
deserialize_softly!(['de] Reported);

// === impl Content ===

impl<'de: 'a, 'a> Soft<'de> for Content<'a> {
    fn string(value: Cow<'_, str>) -> Self {
        Self(Cow::Owned(value.into_owned()))
    }
    fn borrowed(value: &'de str) -> Self {
        Self(Cow::Borrowed(value))
    }
    fn list<A: SeqAccess<'de>>(list: A) -> Result<Self, A::Error> {
        let parts: List<TextPart<'_>> = Soft::list(list)?;
        Ok(Self(Cow::Owned(parts.0.iter().map(|part| part.text.as_str()).collect())))
    }
}

// === impl Reported ===

impl<'de> Soft<'de> for Reported {
    fn string(value: Cow<'_, str>) -> Self {
        Self(Some(value.into_owned()))
    }
    fn list<A: SeqAccess<'de>>(mut list: A) -> Result<Self, A::Error> {
        let mut first = Self::default();
        while let Some(next) = list.next_element::<Self>()? {
            first.0 = first.0.or(next.0);
        }
        Ok(first)
    }
    fn object<A: MapAccess<'de>>(object: A) -> Result<Self, A::Error> {
        let fields: Object<ReportedFields<'_>> = Soft::object(object)?;
        Ok(Self(
            fields
                .0
                .and_then(|fields| {
                    fields
                        .message
                        .to_filled()
                        .or_else(|| fields.msg.to_filled())
                        .or_else(|| fields.kind.to_filled())
                })
                .or_else(|| Some("an error without a text".to_owned())),
        ))
    }
}
