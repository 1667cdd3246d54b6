//! Request bodies.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::SeqAccess;

use crate::dialect::facts::RequestFacts;
use crate::dialect::soft::{Flag, Length, List, Number, Object, Soft, Text, deserialize_softly};

/// A request body: those fields of all operations that facts come from.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::dialect) struct Body<'a> {
    #[serde(borrow)]
    model: Text<'a>,
    stream: Flag,
    #[serde(borrow)]
    messages: List<Message<'a>>,
    prompt: Chars,
    input: Chars,
    tools: Length,
    functions: Length,
    max_completion_tokens: Number,
    max_tokens: Number,
    n_predict: Number,
    conversation: Named,
    user: Named,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Message<'a> {
    #[serde(borrow)]
    role: Text<'a>,
    content: Content,
}

/// What a message's content amounts to: a string, or a list of parts.
#[derive(Clone, Copy, Debug, Default)]
struct Content {
    chars: u64,
    images: u32,
    other_media: u32,
    media_bytes: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Part<'a> {
    #[serde(borrow, rename = "type")]
    kind: Text<'a>,
    text: Chars,
    image_url: Media,
    video_url: Media,
    audio_url: Media,
    input_audio: Media,
    file: Media,
}

/// Bytes of inline media: of a data URI or of bare base64, as a string or in an object.
#[derive(Clone, Copy, Debug, Default)]
struct Media(u64);

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct MediaFields {
    url: Media,
    data: BareBase64,
    file_data: BareBase64,
}

#[derive(Clone, Copy, Debug, Default)]
struct BareBase64(u64);

/// Characters of text: a string, or strings in a list. Token ids count nothing.
#[derive(Clone, Copy, Debug, Default)]
struct Chars(u64);

/// A name: a string, or an object with an `id`.
#[derive(Clone, Debug, Default)]
pub(super) struct Named(pub(super) Option<String>);

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct NamedFields<'a> {
    #[serde(borrow)]
    id: Text<'a>,
}

deserialize_softly!(['de] Content);
deserialize_softly!(['de] Media);
deserialize_softly!(['de] BareBase64);
deserialize_softly!(['de] Chars);
deserialize_softly!(['de] Named);

// === impl Body ===

impl Body<'_> {
    /// Fills in what any JSON request with these fields says.
    pub(in crate::dialect) fn describe_any(&self, facts: &mut RequestFacts) {
        facts.model = self.model.to_filled();
        facts.stream = self.stream.0;
    }

    /// Fills in what a request to one of this family's operations says.
    pub(in crate::dialect) fn describe(&self, facts: &mut RequestFacts) {
        self.describe_any(facts);
        facts.messages = count(self.messages.0.len());
        facts.user_messages =
            count(self.messages.0.iter().filter(|message| message.role.as_str() == "user").count());
        facts.prompt_chars = self.prompt.0 + self.input.0;
        for Message { content, .. } in &self.messages.0 {
            facts.prompt_chars += content.chars;
            facts.images += content.images;
            facts.other_media += content.other_media;
            facts.media_bytes += content.media_bytes;
        }
        facts.tools = self.tools.0.saturating_add(self.functions.0);
        facts.max_tokens = self.max_completion_tokens.0.or(self.max_tokens.0).or(self.n_predict.0);
        facts.session = self.conversation.0.clone().or_else(|| self.user.0.clone());
    }
}

fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

// === impl Content ===

impl Content {
    fn add(&mut self, part: &Part<'_>) {
        self.chars += part.text.0;
        match part.kind.as_str() {
            "image_url" | "image" | "input_image" => {
                self.images += 1;
                self.media_bytes += part.image_url.0;
            }
            "input_audio" | "audio_url" | "video_url" | "file" | "input_file" => {
                self.other_media += 1;
                self.media_bytes +=
                    part.input_audio.0 + part.audio_url.0 + part.video_url.0 + part.file.0;
            }
            _ => {}
        }
    }
}

impl<'de> Soft<'de> for Content {
    fn string(value: Cow<'_, str>) -> Self {
        Self { chars: chars(&value), ..Self::default() }
    }
    fn list<A: SeqAccess<'de>>(mut list: A) -> Result<Self, A::Error> {
        let mut content = Self::default();
        while let Some(part) = list.next_element::<Object<Part<'_>>>()? {
            if let Some(part) = part.0 {
                content.add(&part);
            }
        }
        Ok(content)
    }
}

fn chars(text: &str) -> u64 {
    text.chars().count() as u64
}

// === impl Media ===

impl<'de> Soft<'de> for Media {
    fn string(value: Cow<'_, str>) -> Self {
        Self(data_uri_bytes(&value).unwrap_or(0))
    }
    fn object<A: serde::de::MapAccess<'de>>(object: A) -> Result<Self, A::Error> {
        let fields: Object<MediaFields> = Soft::object(object)?;
        Ok(Self(fields.0.map_or(0, |fields| fields.url.0 + fields.data.0 + fields.file_data.0)))
    }
}

// === impl BareBase64 ===

impl<'de> Soft<'de> for BareBase64 {
    fn string(value: Cow<'_, str>) -> Self {
        Self(data_uri_bytes(&value).unwrap_or_else(|| decoded_bytes(&value)))
    }
}

/// Returns the size of what a data URI holds; none when it is another URI.
fn data_uri_bytes(uri: &str) -> Option<u64> {
    let scheme = uri.get(..5).filter(|scheme| scheme.eq_ignore_ascii_case("data:"))?;
    let (head, data) = uri[scheme.len()..].split_once(',')?;
    Some(if head.ends_with(";base64") { decoded_bytes(data) } else { data.len() as u64 })
}

/// Returns the size of what base64 holds, by its length.
fn decoded_bytes(base64: &str) -> u64 {
    base64.trim_end_matches('=').len() as u64 * 3 / 4
}

// === impl Chars ===

impl<'de> Soft<'de> for Chars {
    fn string(value: Cow<'_, str>) -> Self {
        Self(chars(&value))
    }
    fn list<A: SeqAccess<'de>>(mut list: A) -> Result<Self, A::Error> {
        let mut sum = 0;
        while let Some(Self(chars)) = list.next_element()? {
            sum += chars;
        }
        Ok(Self(sum))
    }
}

// === impl Named ===

impl<'de> Soft<'de> for Named {
    fn string(value: Cow<'_, str>) -> Self {
        Self(Some(value.into_owned()).filter(|name| !name.is_empty()))
    }
    fn object<A: serde::de::MapAccess<'de>>(object: A) -> Result<Self, A::Error> {
        let fields: Object<NamedFields<'_>> = Soft::object(object)?;
        Ok(Self(fields.0.and_then(|fields| fields.id.to_filled())))
    }
}
