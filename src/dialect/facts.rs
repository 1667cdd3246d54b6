//! The facts: what a request asks for, what a response frame carried, what a response amounted to.

use serde::{Deserialize, Serialize};

/// A family of APIs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dialect {
    /// Anything else: recorded, replayed and timed all the same.
    #[default]
    Generic,
    /// OpenAI's API and the many servers that speak it.
    #[serde(rename = "openai")]
    OpenAi,
}

/// What a request asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// Chat completion.
    Chat,
    /// Text completion.
    Completion,
    /// Embeddings.
    Embedding,
    /// List of models, or one of them.
    Models,
    /// Anything else.
    #[default]
    Other,
}

/// What a request says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RequestFacts {
    /// The API family.
    pub dialect: Dialect,
    /// What is asked for.
    pub operation: Operation,
    /// The model that is named.
    pub model: Option<String>,
    /// Whether a stream is asked for; none when the body does not say.
    pub stream: Option<bool>,
    /// Messages in a chat, 0 elsewhere.
    pub messages: u32,
    /// Messages of the user in a chat: the number of the turn.
    pub user_messages: u32,
    /// Characters (Unicode scalar values) of text in prompt, messages or input.
    pub prompt_chars: u64,
    /// Image parts, as data URI or link.
    pub images: u32,
    /// Audio and file parts.
    pub other_media: u32,
    /// Bytes of inline media, base64 decoded.
    pub media_bytes: u64,
    /// Tools offered.
    pub tools: u32,
    /// Upper bound of output tokens asked for.
    pub max_tokens: Option<u64>,
    /// Conversation named by the request: `conversation`, `user`, or a session header.
    pub session: Option<String>,
}

/// What ended in one response frame. Characters are Unicode scalar values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrameFacts {
    /// Protocol messages that ended in the frame.
    pub events: u32,
    /// Characters of answer text.
    pub content_chars: u32,
    /// Characters of reasoning.
    pub reasoning_chars: u32,
    /// Characters of tool calls (names and arguments).
    pub tool_chars: u32,
}

/// What a whole response amounted to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ResponseFacts {
    /// Protocol messages: SSE events, or 1 for a unary body.
    pub events: u64,
    /// Events that carried content of any kind.
    pub content_events: u64,
    /// Number of the first frame with content of any kind.
    pub first_content_frame: Option<u64>,
    /// Number of the first frame with content that is not reasoning.
    pub first_answer_frame: Option<u64>,
    /// Number of the last frame with content of any kind.
    pub last_content_frame: Option<u64>,
    /// Token counts.
    pub usage: Usage,
    /// Finish reason of the first choice.
    pub finish_reason: Option<String>,
    /// Whether the protocol's own end was seen: `[DONE]`, or the whole of a unary body.
    pub ended: bool,
    /// Model that the server names.
    pub model: Option<String>,
    /// Id that the server gave the response.
    pub id: Option<String>,
    /// Answer text of the first choice (decoded, up to [`MAX_TEXT_BYTES`]; `chars` and `digest` cover all of it).
    pub text: String,
    /// Characters of answer text, all choices.
    pub content_chars: u64,
    /// Characters of reasoning, all choices.
    pub reasoning_chars: u64,
    /// Names of the tools called, in order.
    pub tool_calls: Vec<String>,
    /// Their shape, `weather(city,days); look()`: names and argument keys in order, no values, `?` for arguments that are no
    /// JSON object; none without calls.
    pub tool_shape: Option<String>,
    /// BLAKE3 of the whole output of all choices in order (text, reasoning and tool calls), first 16 bytes in hex;
    /// none when there was no output.
    pub digest: Option<String>,
    /// Error that the body reports, whatever the status said.
    pub error: Option<String>,
    /// Whether bytes of it are not known ([`ResponseReader::skip`](crate::dialect::ResponseReader::skip)): counts are then of
    /// what is known, there is no text, no shape of calls and no digest, and no first or last frame where it may have been another.
    pub lacking: bool,
}

/// Token counts as the server reports them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Input tokens.
    pub input: Option<u64>,
    /// Output tokens.
    pub output: Option<u64>,
    /// Of the input, tokens from a cache.
    pub cached: Option<u64>,
    /// Of the output, tokens of reasoning.
    pub reasoning: Option<u64>,
}

// === impl ResponseFacts ===

impl ResponseFacts {
    /// Takes note that bytes of it are not known.
    pub fn lack(&mut self) {
        self.lacking = true;
        self.text.clear();
        (self.digest, self.tool_shape) = (None, None);
    }
}

/// Longest answer text that [`ResponseFacts::text`] keeps.
pub const MAX_TEXT_BYTES: usize = 1 << 20;
