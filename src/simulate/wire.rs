//! Answers as JSON, whole or piece by piece, in the shapes that vLLM sends.

use serde_json::{Value, json};

use super::answer::{Answer, Choice, Token};
use super::ask::{Ask, Kind, Stream};

/// What all objects of one answer have in common.
#[derive(Clone, Debug)]
pub(super) struct Head {
    kind: Kind,
    id: String,
    created: i64,
    model: String,
    prompt_tokens: u64,
    usage_in_each: bool,
    /// An event up to its choices.
    opening: String,
}

/// The end of every stream.
pub(super) const DONE: &str = "data: [DONE]\n\n";

// === impl Head ===

impl Head {
    /// `number` tells answers to equal requests apart, `created` is in seconds since 1970.
    pub(super) fn new(ask: &Ask, number: u64, created: i64) -> Self {
        let prefix = match ask.kind {
            Kind::Chat => "chatcmpl",
            Kind::Completion => "cmpl",
        };
        let digest: String = ask.digest[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        let mut head = Self {
            kind: ask.kind,
            id: format!("{prefix}-{digest}-{number}"),
            created,
            model: ask.model.clone(),
            prompt_tokens: ask.prompt_tokens(),
            usage_in_each: ask.stream == Stream::WithUsageInEach,
            opening: String::new(),
        };
        let fields = head.fields(match ask.kind {
            Kind::Chat => "chat.completion.chunk",
            Kind::Completion => "text_completion",
        });
        let fields = Value::Object(fields).to_string();
        head.opening = format!("data: {},\"choices\":[", fields.trim_end_matches('}'));
        head
    }

    /// Returns the answer's id.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Returns the event that begins a choice of a chat; completions have none.
    pub(super) fn begin(&self, index: usize) -> String {
        match self.kind {
            Kind::Chat => {
                self.event(index, r#""delta":{"role":"assistant","content":""}"#, "null", 0)
            }
            Kind::Completion => String::new(),
        }
    }

    /// Returns the event of one token, `said` being the output tokens so far.
    pub(super) fn token(&self, index: usize, token: &Token, said: u64) -> String {
        let piece = match (self.kind, token) {
            (Kind::Chat, Token::Text(text)) => format!("\"delta\":{{\"content\":{}}}", quote(text)),
            (Kind::Chat, Token::Reasoning(text)) => {
                format!("\"delta\":{{\"reasoning_content\":{}}}", quote(text))
            }
            (Kind::Chat, Token::Call { id, name }) => format!(
                "\"delta\":{{\"tool_calls\":[{{\"index\":0,\"id\":{},\"type\":\"function\",\"function\":{{\"name\":{},\"arguments\":\"\"}}}}]}}",
                quote(id),
                quote(name)
            ),
            (Kind::Chat, Token::Arguments(text)) => format!(
                "\"delta\":{{\"tool_calls\":[{{\"index\":0,\"function\":{{\"arguments\":{}}}}}]}}",
                quote(text)
            ),
            (Kind::Completion, token) => format!("\"text\":{}", quote(text_of(token))),
        };
        self.event(index, &piece, "null", said)
    }

    /// Returns the event that ends a choice.
    pub(super) fn finish(&self, index: usize, choice: &Choice, said: u64) -> String {
        let piece = match self.kind {
            Kind::Chat => "\"delta\":{}",
            Kind::Completion => "\"text\":\"\"",
        };
        self.event(index, piece, &quote(choice.finish.as_str()), said)
    }

    /// Returns the event that tells usage alone.
    pub(super) fn usage_event(&self, answer: &Answer) -> String {
        format!("{}],\"usage\":{}}}\n\n", self.opening, self.usage(answer))
    }

    fn event(&self, index: usize, piece: &str, finish: &str, said: u64) -> String {
        let opening = &self.opening;
        let usage = if self.usage_in_each {
            let Self { prompt_tokens, .. } = self;
            let total = prompt_tokens + said;
            format!(
                ",\"usage\":{{\"prompt_tokens\":{prompt_tokens},\"total_tokens\":{total},\"completion_tokens\":{said}}}"
            )
        } else {
            String::new()
        };
        format!(
            "{opening}{{\"index\":{index},{piece},\"logprobs\":null,\"finish_reason\":{finish}}}]{usage}}}\n\n"
        )
    }

    /// Returns the whole answer as one object.
    pub(super) fn whole(&self, answer: &Answer) -> String {
        let mut fields = self.fields(match self.kind {
            Kind::Chat => "chat.completion",
            Kind::Completion => "text_completion",
        });
        let choices = answer.choices.iter().enumerate().map(|(index, choice)| {
            let finish = choice.finish.as_str();
            match self.kind {
                Kind::Chat => {
                    json!({"index": index, "message": message(choice), "logprobs": null, "finish_reason": finish})
                }
                Kind::Completion => {
                    json!({"index": index, "text": text(choice), "logprobs": null, "finish_reason": finish})
                }
            }
        });
        fields.insert("choices".to_owned(), choices.collect());
        fields.insert("usage".to_owned(), self.usage(answer));
        Value::Object(fields).to_string()
    }

    fn fields(&self, object: &str) -> serde_json::Map<String, Value> {
        let mut fields = serde_json::Map::new();
        fields.insert("id".to_owned(), json!(self.id));
        fields.insert("object".to_owned(), json!(object));
        fields.insert("created".to_owned(), json!(self.created));
        fields.insert("model".to_owned(), json!(self.model));
        fields
    }

    fn usage(&self, answer: &Answer) -> Value {
        let (input, output) = (self.prompt_tokens, answer.tokens());
        let mut usage = json!({"prompt_tokens": input, "total_tokens": input + output, "completion_tokens": output});
        let reasoning = answer.reasoning_tokens();
        if reasoning > 0 {
            usage["completion_tokens_details"] = json!({"reasoning_tokens": reasoning});
        }
        usage
    }
}

/// Returns the whole answer to a request for embeddings.
pub(super) fn embeddings(model: &str, vectors: Vec<Value>, tokens: u64) -> String {
    let data: Vec<Value> = vectors
        .into_iter()
        .enumerate()
        .map(|(index, embedding)| json!({"object": "embedding", "index": index, "embedding": embedding}))
        .collect();
    let usage = json!({"prompt_tokens": tokens, "total_tokens": tokens});
    json!({"object": "list", "data": data, "model": model, "usage": usage}).to_string()
}

/// Returns the list of models.
pub(super) fn models(models: &[String], created: i64) -> String {
    let data: Vec<Value> = models.iter().map(|model| self::model(model, created)).collect();
    json!({"object": "list", "data": data}).to_string()
}

/// Returns one model.
pub(super) fn model(model: &str, created: i64) -> Value {
    json!({"id": model, "object": "model", "created": created, "owned_by": "reenact"})
}

/// Returns an error as OpenAI words it.
pub(super) fn error(status: http::StatusCode, kind: &str, message: &str) -> String {
    let error = json!({"message": message, "type": kind, "param": null, "code": status.as_u16()});
    json!({ "error": error }).to_string()
}

fn message(choice: &Choice) -> Value {
    let call = choice.tokens.iter().find_map(|token| match token {
        Token::Call { id, name } => Some((id, name)),
        _ => None,
    });
    let mut message = json!({"role": "assistant", "content": text(choice)});
    let reasoning: String = choice.tokens.iter().filter_map(reasoning_of).collect();
    if !reasoning.is_empty() {
        message["reasoning_content"] = json!(reasoning);
    }
    if let Some((id, name)) = call {
        let arguments: String = choice.tokens.iter().filter_map(arguments_of).collect();
        let function = json!({"name": name, "arguments": arguments});
        message["content"] = Value::Null;
        message["tool_calls"] = json!([{"id": id, "type": "function", "function": function}]);
    }
    message
}

fn text(choice: &Choice) -> String {
    choice.tokens.iter().map(text_of).collect()
}

fn text_of(token: &Token) -> &str {
    if let Token::Text(text) = token { text } else { "" }
}

fn reasoning_of(token: &Token) -> Option<&str> {
    if let Token::Reasoning(text) = token { Some(text) } else { None }
}

fn arguments_of(token: &Token) -> Option<&str> {
    if let Token::Arguments(text) = token { Some(text) } else { None }
}

fn quote(text: &str) -> String {
    Value::from(text).to_string()
}
