//! What ties a request to others of its conversation: who names it, which response it goes on from, what was said so far.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::dialect::openai::request::Named;
use crate::dialect::soft::{Object, Text};

/// What ties a request to others of its conversation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ties {
    /// The conversation that the body names: `conversation`, or its `id` where it is an object.
    pub conversation: Option<String>,
    /// The user that the body names.
    pub user: Option<String>,
    /// The response that the request goes on from: `previous_response_id`.
    pub previous: Option<String>,
    /// The messages of a chat, in order.
    pub messages: Vec<Said>,
}

/// One message of a chat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Said {
    /// Digest of all messages up to and with this one: their roles, texts, media and tool calls. A text in parts is the
    /// same as the text in one.
    pub so_far: u128,
    /// Of a message by the assistant, the digest of its text ([`text_digest`]), none without text.
    pub answer: Option<u128>,
    /// Whether it is by the assistant.
    pub is_assistant: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::dialect) struct Body<'a> {
    conversation: Named,
    user: Named,
    previous_response_id: Named,
    #[serde(borrow)]
    messages: Option<&'a RawValue>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Fields<'a> {
    #[serde(borrow)]
    role: Text<'a>,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    #[serde(borrow)]
    tool_calls: Option<&'a RawValue>,
    #[serde(borrow)]
    tool_call_id: Text<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Part<'a> {
    #[serde(borrow)]
    text: Text<'a>,
}

/// A response, or an event of one, that has an id.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::dialect) struct Identified<'a> {
    #[serde(borrow)]
    id: Text<'a>,
    #[serde(borrow)]
    response: Object<Inner<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Inner<'a> {
    #[serde(borrow)]
    id: Text<'a>,
}

/// Returns the digest of a text, white space around it left out: clients trim. None for no text.
#[must_use]
pub fn text_digest(text: &str) -> Option<u128> {
    let text = text.trim();
    (!text.is_empty()).then(|| front(&blake3::hash(text.as_bytes())))
}

fn front(hash: &blake3::Hash) -> u128 {
    let mut front = [0; 16];
    front.copy_from_slice(&hash.as_bytes()[..16]);
    u128::from_le_bytes(front)
}

/// Hashes a part, its length before it, so that no two lists of parts give the same bytes.
fn add(hasher: &mut blake3::Hasher, part: &[u8]) {
    hasher.update(&(part.len() as u64).to_le_bytes());
    hasher.update(part);
}

// === impl Body ===

impl Body<'_> {
    pub(in crate::dialect) fn ties(&self) -> Ties {
        Ties {
            conversation: self.conversation.0.clone(),
            user: self.user.0.clone(),
            previous: self.previous_response_id.0.clone(),
            messages: self.messages.map(said).unwrap_or_default(),
        }
    }
}

/// Reads the messages; none when they are no list.
fn said(messages: &RawValue) -> Vec<Said> {
    let Ok(messages) = serde_json::from_str::<Vec<&RawValue>>(messages.get()) else {
        return Vec::new();
    };
    let mut so_far = 0_u128;
    let mut said = Vec::with_capacity(messages.len());
    for message in messages {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&so_far.to_le_bytes());
        let one = Fields::read(message, &mut hasher);
        so_far = front(&hasher.finalize());
        said.push(Said { so_far, ..one });
    }
    said
}

// === impl Fields ===

impl Fields<'_> {
    /// Hashes a message. What is not understood is hashed as it stands.
    fn read(message: &RawValue, hasher: &mut blake3::Hasher) -> Said {
        let nothing = Said { so_far: 0, answer: None, is_assistant: false };
        let Ok(fields) = serde_json::from_str::<Fields<'_>>(message.get()) else {
            add(hasher, message.get().as_bytes());
            return nothing;
        };
        add(hasher, fields.role.as_str().as_bytes());
        let text = fields.content.map(|content| content_text(content, hasher)).unwrap_or_default();
        add(hasher, text.as_bytes());
        add(hasher, fields.tool_calls.map_or("", RawValue::get).as_bytes());
        add(hasher, fields.tool_call_id.as_str().as_bytes());
        let is_assistant = fields.role.as_str() == "assistant";
        let answer = if is_assistant { text_digest(&text) } else { None };
        Said { answer, is_assistant, ..nothing }
    }
}

/// Returns the text of a content, and hashes what else is in it.
fn content_text<'a>(content: &'a RawValue, hasher: &mut blake3::Hasher) -> Cow<'a, str> {
    let json = content.get();
    if let Ok(Text(Some(text))) = serde_json::from_str(json) {
        return text;
    }
    let mut whole = String::new();
    match serde_json::from_str::<Vec<&RawValue>>(json) {
        Ok(parts) => {
            for part in parts {
                match serde_json::from_str::<Part<'_>>(part.get()) {
                    Ok(Part { text: Text(Some(text)) }) => whole.push_str(&text),
                    _ => add(hasher, part.get().as_bytes()),
                }
            }
        }
        Err(_) if json != "null" => add(hasher, json.as_bytes()),
        Err(_) => {}
    }
    whole.into()
}

// === impl Identified ===

impl Identified<'_> {
    /// Returns the id of the response: of a whole one, or in an event of a stream.
    pub(in crate::dialect) fn id(&self) -> Option<String> {
        let inner = self.response.0.as_ref().and_then(|inner| inner.id.to_filled());
        inner.or_else(|| self.id.to_filled())
    }
}
