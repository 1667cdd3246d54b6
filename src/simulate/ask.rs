//! Requests, parsed into what the simulated model needs.

use blake3::Hasher;
use serde::Deserialize;
use serde_json::Value;

/// A request for an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Ask {
    /// Chat or text completion.
    pub kind: Kind,
    /// The model as named, empty when not.
    pub model: String,
    /// Input tokens of each prompt; chats have one.
    pub prompts: Vec<u64>,
    /// Answers wanted to each prompt.
    pub n: u32,
    /// Most output tokens of each answer.
    pub max_tokens: Option<u64>,
    /// Fewest output tokens of each answer.
    pub min_tokens: u64,
    /// Go on to `max_tokens` whatever the model would do.
    pub ignore_eos: bool,
    /// Texts that end an answer, and are no part of it.
    pub stop: Vec<String>,
    /// Whether the answer is streamed, and how usage is told then.
    pub stream: Stream,
    /// The tool to be called, instead of an answer in words.
    pub tool: Option<Tool>,
    /// Digest of all that the answer depends on.
    pub digest: [u8; 32],
}

/// Which operation is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `/v1/chat/completions`
    Chat,
    /// `/v1/completions`
    Completion,
}

/// How an answer is delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// In one piece.
    No,
    /// As events, usage not told.
    Plain,
    /// As events, usage in one more at the end.
    WithUsage,
    /// As events, usage in each.
    WithUsageInEach,
}

/// A tool that a request offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// Names and JSON types of its parameters.
    pub parameters: Vec<(String, String)>,
}

/// A request for embeddings.
#[derive(Clone, Debug, PartialEq)]
pub struct EmbeddingAsk {
    /// The model as named, empty when not.
    pub model: String,
    /// Of each input: its tokens and the digest that its vector is made from.
    pub inputs: Vec<(u64, [u8; 32])>,
    /// Length of the vectors.
    pub dimensions: usize,
    /// Vectors as base64 of little-endian 32-bit floats.
    pub base64: bool,
}

/// Why a request is refused with status 400.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The body is not JSON, or a field has the wrong type.
    #[error("the body is no request: {0}")]
    Malformed(#[from] serde_json::Error),
    /// A field that must be there is not.
    #[error("`{0}` is missing")]
    Missing(&'static str),
    /// A field has a value that it can't have.
    #[error("`{0}` {1}")]
    Invalid(&'static str, &'static str),
}

#[derive(Debug, Deserialize)]
struct Body {
    model: Option<String>,
    messages: Option<Vec<Value>>,
    prompt: Option<Inputs>,
    input: Option<Inputs>,
    max_tokens: Option<u64>,
    max_completion_tokens: Option<u64>,
    min_tokens: Option<u64>,
    ignore_eos: Option<bool>,
    n: Option<u32>,
    stop: Option<Stops>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    tools: Option<Vec<Value>>,
    tool_choice: Option<Value>,
    seed: Option<i64>,
    encoding_format: Option<String>,
    dimensions: Option<usize>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Inputs {
    Text(String),
    Texts(Vec<String>),
    Tokens(Vec<u32>),
    TokenLists(Vec<Vec<u32>>),
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Stops {
    One(String),
    Many(Vec<String>),
}

#[derive(Debug, Default, Deserialize)]
struct StreamOptions {
    include_usage: Option<bool>,
    continuous_usage_stats: Option<bool>,
}

// === impl Ask ===

impl Ask {
    /// Parses the body of a request for `kind`.
    ///
    /// # Errors
    /// The body is not JSON, has no prompt, or asks for what can't be.
    pub fn parse(kind: Kind, body: &[u8]) -> Result<Self, AskError> {
        let body: Body = serde_json::from_slice(body)?;
        let n = body.n.unwrap_or(1);
        if !(1..=MAX_CHOICES).contains(&n) {
            return Err(AskError::Invalid("n", "must be from 1 to 128"));
        }
        let max_tokens = body.max_completion_tokens.or(body.max_tokens);
        if max_tokens == Some(0) {
            return Err(AskError::Invalid("max_tokens", "must be at least 1"));
        }
        let mut hasher = Hasher::new();
        let prompts = match kind {
            Kind::Chat => {
                let messages = body.messages.as_deref().ok_or(AskError::Missing("messages"))?;
                vec![chat_tokens(messages, &mut hasher)]
            }
            Kind::Completion => {
                let prompt = body.prompt.as_ref().ok_or(AskError::Missing("prompt"))?;
                prompt.each(|tokens, bytes| {
                    hasher.update(bytes);
                    tokens
                })
            }
        };
        let model = body.model.clone().unwrap_or_default();
        hasher.update(model.as_bytes()).update(&body.seed.unwrap_or(0).to_le_bytes());
        let tool = if kind == Kind::Chat { body.tool() } else { None };
        hasher.update(tool.as_ref().map_or("", |tool| &tool.name).as_bytes());
        Ok(Self {
            kind,
            model,
            prompts,
            n,
            max_tokens,
            min_tokens: body.min_tokens.unwrap_or(0),
            ignore_eos: body.ignore_eos.unwrap_or(false),
            stream: body.delivery(),
            stop: match body.stop {
                None => Vec::new(),
                Some(Stops::One(stop)) => vec![stop],
                Some(Stops::Many(stops)) => stops,
            },
            tool,
            digest: *hasher.finalize().as_bytes(),
        })
    }

    /// Returns the input tokens of all prompts.
    #[must_use]
    pub fn prompt_tokens(&self) -> u64 {
        self.prompts.iter().sum()
    }
}

// === impl EmbeddingAsk ===

impl EmbeddingAsk {
    /// Parses the body of a request for embeddings.
    ///
    /// # Errors
    /// The body is not JSON, has no input, or asks for what can't be.
    pub fn parse(body: &[u8]) -> Result<Self, AskError> {
        let body: Body = serde_json::from_slice(body)?;
        let dimensions = body.dimensions.unwrap_or(DIMENSIONS);
        if !(1..=MAX_DIMENSIONS).contains(&dimensions) {
            return Err(AskError::Invalid("dimensions", "must be from 1 to 4096"));
        }
        let inputs = body.input.ok_or(AskError::Missing("input"))?;
        Ok(Self {
            model: body.model.unwrap_or_default(),
            inputs: inputs.each(|tokens, bytes| (tokens, *blake3::hash(bytes).as_bytes())),
            dimensions,
            base64: body.encoding_format.as_deref() == Some("base64"),
        })
    }
}

// === impl Body ===

impl Body {
    fn delivery(&self) -> Stream {
        let options = self.stream_options.as_ref();
        let is_on = |option: Option<Option<bool>>| option.flatten().unwrap_or(false);
        if !self.stream.unwrap_or(false) {
            Stream::No
        } else if is_on(options.map(|options| options.continuous_usage_stats)) {
            Stream::WithUsageInEach
        } else if is_on(options.map(|options| options.include_usage)) {
            Stream::WithUsage
        } else {
            Stream::Plain
        }
    }

    /// Returns the tool to be called: the one that is chosen by name; the first one, unless tools are not wanted or the
    /// last message is a tool's answer.
    fn tool(&self) -> Option<Tool> {
        let tools = self.tools.as_deref()?;
        let functions = tools.iter().map(|tool| &tool["function"]);
        let named =
            self.tool_choice.as_ref().and_then(|choice| choice["function"]["name"].as_str());
        let is_answered = || {
            let last = self.messages.as_ref().and_then(|messages| messages.last());
            last.is_some_and(|message| message["role"] == "tool")
        };
        let mut functions = functions;
        let function = match (named, self.tool_choice.as_ref().and_then(Value::as_str)) {
            (Some(name), _) => functions.find(|function| function["name"] == name)?,
            (None, Some("none")) => return None,
            (None, Some("required")) => functions.next()?,
            (None, _) if is_answered() => return None,
            (None, _) => functions.next()?,
        };
        let parameters = function["parameters"]["properties"].as_object();
        Some(Tool {
            name: function["name"].as_str().unwrap_or_default().to_owned(),
            parameters: parameters
                .into_iter()
                .flatten()
                .map(|(name, schema)| {
                    (name.clone(), schema["type"].as_str().unwrap_or("string").to_owned())
                })
                .collect(),
        })
    }
}

// === impl Inputs ===

impl Inputs {
    /// Calls `each` with the tokens and the bytes of each input.
    fn each<T>(&self, mut each: impl FnMut(u64, &[u8]) -> T) -> Vec<T> {
        let mut list = |tokens: &[u32]| {
            let bytes: Vec<u8> = tokens.iter().flat_map(|token| token.to_le_bytes()).collect();
            each(tokens.len() as u64, &bytes)
        };
        match self {
            Self::Tokens(tokens) => vec![list(tokens)],
            Self::TokenLists(lists) => lists.iter().map(|tokens| list(tokens)).collect(),
            Self::Text(text) => vec![each(text_tokens(text), text.as_bytes())],
            Self::Texts(texts) => {
                texts.iter().map(|text| each(text_tokens(text), text.as_bytes())).collect()
            }
        }
    }
}

/// Returns the tokens of a chat, and takes its messages into the digest.
fn chat_tokens(messages: &[Value], hasher: &mut Hasher) -> u64 {
    let mut tokens = 0;
    for message in messages {
        tokens += TOKENS_PER_MESSAGE;
        tokens += match &message["content"] {
            Value::String(text) => text_tokens(text),
            Value::Array(parts) => parts.iter().map(part_tokens).sum(),
            _ => 0,
        };
        hasher.update(message.to_string().as_bytes());
    }
    tokens
}

fn part_tokens(part: &Value) -> u64 {
    match part["type"].as_str() {
        Some("text") => part["text"].as_str().map_or(0, text_tokens),
        Some(_) => TOKENS_PER_MEDIUM,
        None => 0,
    }
}

/// Returns the tokens of a text: one for four bytes.
fn text_tokens(text: &str) -> u64 {
    (text.len() as u64).div_ceil(4)
}

/// What each message adds for its role and marks.
const TOKENS_PER_MESSAGE: u64 = 4;
/// What an image (or any other medium) counts: a grid of 24 x 24 patches.
const TOKENS_PER_MEDIUM: u64 = 576;
/// Most answers to one prompt.
const MAX_CHOICES: u32 = 128;
/// Length of an embedding when the request does not say.
const DIMENSIONS: usize = 64;
const MAX_DIMENSIONS: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn chat(body: &str) -> Ask {
        Ask::parse(Kind::Chat, body.as_bytes()).unwrap()
    }

    #[test]
    fn prompts_are_counted_in_tokens() {
        let ask = chat(
            r#"{"messages":[{"role":"user","content":"12345678"},{"role":"user","content":[
                {"type":"text","text":"123"},{"type":"image_url","image_url":{"url":"data:,"}}]},{"role":"assistant","content":null}]}"#,
        );
        assert_eq!(ask.prompt_tokens(), 2 + 1 + 576 + 3 * 4);
        for (prompt, tokens) in [
            (r#""12345""#, vec![2]),
            (r#"["1234","12345678"]"#, vec![1, 2]),
            ("[1,2,3]", vec![3]),
            ("[[1,2],[3]]", vec![2, 1]),
        ] {
            let body = format!(r#"{{"prompt":{prompt}}}"#);
            assert_eq!(Ask::parse(Kind::Completion, body.as_bytes()).unwrap().prompts, tokens);
        }
    }

    #[test]
    fn the_digest_covers_what_the_answer_depends_on() {
        let digest = |body: &str| chat(body).digest;
        let first = digest(r#"{"model":"m","messages":[{"role":"user","content":"a"}]}"#);
        let same = r#"{"messages": [{"role":"user","content":"a"}], "model":"m","stream":true,"user":"u","max_tokens":3}"#;
        assert_eq!(first, digest(same), "how it is delivered changes nothing");
        for other in [
            r#"{"model":"m","messages":[{"role":"user","content":"b"}]}"#,
            r#"{"model":"n","messages":[{"role":"user","content":"a"}]}"#,
            r#"{"model":"m","messages":[{"role":"user","content":"a"}],"seed":1}"#,
        ] {
            assert_ne!(first, digest(other), "{other}");
        }
    }

    #[test]
    fn a_tool_is_called_when_it_should_be() {
        let tools = r#"[{"type":"function","function":{"name":"f","parameters":{"properties":{"a":{"type":"integer"},"b":{}}}}},
            {"type":"function","function":{"name":"g"}}]"#;
        let called = |more: &str, role: &str| {
            chat(&format!(
                r#"{{"messages":[{{"role":"{role}","content":"x"}}],"tools":{tools}{more}}}"#
            ))
            .tool
            .map(|tool| tool.name)
        };
        assert_eq!(called("", "user").as_deref(), Some("f"));
        assert_eq!(called(r#","tool_choice":"auto""#, "tool"), None);
        assert_eq!(called(r#","tool_choice":"required""#, "tool").as_deref(), Some("f"));
        assert_eq!(called(r#","tool_choice":"none""#, "user"), None);
        let named = r#","tool_choice":{"type":"function","function":{"name":"g"}}"#;
        assert_eq!(called(named, "user").as_deref(), Some("g"));
        let tool = chat(&format!(r#"{{"messages":[],"tools":{tools}}}"#)).tool.unwrap();
        assert_eq!(
            tool.parameters,
            [("a".into(), "integer".into()), ("b".into(), "string".into())]
        );
    }

    #[test]
    fn delivery_follows_the_stream_options() {
        let stream = |more: &str| chat(&format!(r#"{{"messages":[]{more}}}"#)).stream;
        assert_eq!(stream(""), Stream::No);
        assert_eq!(stream(r#","stream":true"#), Stream::Plain);
        assert_eq!(
            stream(r#","stream":true,"stream_options":{"include_usage":true}"#),
            Stream::WithUsage
        );
        assert_eq!(
            stream(r#","stream":true,"stream_options":{"continuous_usage_stats":true}"#),
            Stream::WithUsageInEach
        );
        assert_eq!(stream(r#","stream":null,"stream_options":null"#), Stream::No);
    }

    #[test]
    fn what_can_not_be_is_refused_with_a_reason() {
        for (kind, body, expected) in [
            (
                Kind::Chat,
                "{",
                "the body is no request: EOF while parsing an object at line 1 column 1",
            ),
            (Kind::Chat, "{}", "`messages` is missing"),
            (Kind::Completion, "{}", "`prompt` is missing"),
            (Kind::Chat, r#"{"messages":[],"n":0}"#, "`n` must be from 1 to 128"),
            (Kind::Chat, r#"{"messages":[],"max_tokens":0}"#, "`max_tokens` must be at least 1"),
        ] {
            let error = Ask::parse(kind, body.as_bytes()).unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
        assert!(EmbeddingAsk::parse(br#"{"input":"a","dimensions":0}"#).is_err());
        let ask =
            EmbeddingAsk::parse(br#"{"input":["a","b"],"encoding_format":"base64"}"#).unwrap();
        assert_eq!((ask.inputs.len(), ask.dimensions, ask.base64), (2, 64, true));
    }
}
