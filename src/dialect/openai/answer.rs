//! What an answer amounts to, object by object: the only one (unary) or one per event (a stream).

use super::output::{Output, Pieces};
use super::wire::{Choice, Chunk, Timings, UsageFields};
use crate::dialect::facts::{ResponseFacts, Usage};
use crate::dialect::soft::{Text, parse};

/// The facts of one answer in the making.
#[derive(Debug, Default)]
pub(in crate::dialect) struct Answer {
    output: Output,
    usage: Usage,
    finish_reason: Option<String>,
    model: Option<String>,
    id: Option<String>,
    error: Option<String>,
    done: bool,
}

/// How a message stands, for the many forms in which errors come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::dialect) enum Standing {
    /// It should be an answer.
    Answer,
    /// The status, or the event's name, says that it is an error.
    Error,
}

// === impl Answer ===

impl Answer {
    /// Takes an event of a stream and returns what it carried.
    pub(in crate::dialect) fn event(
        &mut self,
        name: &[u8],
        data: &[u8],
        standing: Standing,
    ) -> Pieces {
        if data.trim_ascii() == b"[DONE]" {
            self.done = true;
            return Pieces::default();
        }
        let standing = if name == b"error" { Standing::Error } else { standing };
        self.object(data, standing).unwrap_or_default()
    }

    /// Takes a JSON object and returns what it carried; none when it is no such thing.
    pub(in crate::dialect) fn object(&mut self, json: &[u8], standing: Standing) -> Option<Pieces> {
        let mut owned = Vec::new();
        let Some(chunk) = parse::<Chunk<'_>>(json, &mut owned) else {
            if standing == Standing::Error {
                self.report(&String::from_utf8_lossy(json));
            }
            return None;
        };
        keep(&mut self.id, &chunk.id);
        keep(&mut self.model, &chunk.model);
        let mut pieces = Pieces::default();
        for (place, choice) in chunk.choices.0.iter().enumerate() {
            pieces += self.choice(choice, place as u64);
        }
        if let Some(usage) = &chunk.usage.0 {
            self.usage.update(usage);
        } else if let Some(timings) = &chunk.timings.0 {
            self.usage.update_from_timings(timings);
        }
        let is_error = standing == Standing::Error || chunk.object.as_str() == "error";
        let told = chunk.error.0.or_else(|| {
            let told = chunk.message.0.or(chunk.detail.0);
            told.filter(|_| is_error)
        });
        match told {
            Some(error) => self.report(&error),
            None if standing == Standing::Error => self.report(&String::from_utf8_lossy(json)),
            None => {}
        }
        Some(pieces)
    }

    /// Takes what a body that is not JSON says, of an answer that is an error by its status.
    fn report(&mut self, text: &str) {
        let text = text.trim();
        if self.error.is_none() && !text.is_empty() {
            self.error = Some(text.chars().take(MAX_ERROR_CHARS).collect());
        }
    }

    fn choice(&mut self, choice: &Choice<'_>, place: u64) -> Pieces {
        let index = choice.index.0.unwrap_or(place);
        if index == 0
            && let Some(reason) = choice.finish_reason.to_filled()
        {
            self.finish_reason = Some(reason);
        }
        if let Some(usage) = &choice.usage.0 {
            self.usage.update(usage);
        }
        let mut pieces = self.output.text(index, choice.text.as_str());
        // Some servers have both, and mean the one that is not null.
        if let Some(message) = choice.delta.0.as_ref().or(choice.message.0.as_ref()) {
            pieces += self.output.message(index, message);
        }
        pieces
    }

    /// Returns whether the stream's own end was seen.
    pub(in crate::dialect) const fn is_done(&self) -> bool {
        self.done
    }

    /// Returns whether an error was reported.
    pub(in crate::dialect) const fn is_error(&self) -> bool {
        self.error.is_some()
    }

    /// Fills in what the answer amounted to.
    pub(in crate::dialect) fn finish(self, facts: &mut ResponseFacts) {
        let Pieces { content, reasoning, .. } = self.output.total();
        facts.usage = self.usage;
        facts.finish_reason = self.finish_reason;
        facts.model = self.model;
        facts.id = self.id;
        facts.error = self.error;
        facts.content_chars = content;
        facts.reasoning_chars = reasoning;
        facts.tool_calls = self.output.tool_calls();
        facts.tool_shape = self.output.tool_shape();
        facts.digest = self.output.digest();
        facts.text = self.output.into_text();
    }
}

/// Keeps the first name that is given.
fn keep(kept: &mut Option<String>, text: &Text<'_>) {
    if kept.is_none() {
        *kept = text.to_filled();
    }
}

// === impl Usage ===

impl Usage {
    /// Takes counts as they come: the last one of each holds.
    fn update(&mut self, fields: &UsageFields) {
        let input = fields.prompt_tokens_details.0.as_ref();
        let output = fields.completion_tokens_details.0.as_ref();
        let cached = input.and_then(|details| details.cached_tokens.0).or(fields.cached_tokens.0);
        let reasoning =
            output.and_then(|details| details.reasoning_tokens.0).or(fields.reasoning_tokens.0);
        self.input = fields.prompt_tokens.0.or(self.input);
        self.output = fields.completion_tokens.0.or(self.output);
        self.cached = cached.or(self.cached);
        self.reasoning = reasoning.or(self.reasoning);
    }

    /// Takes llama.cpp's counts where there is no usage: its prompt count leaves out what the cache held.
    fn update_from_timings(&mut self, timings: &Timings) {
        let cached = timings.cache_n.0;
        let input = timings.prompt_n.0.map(|new| new.saturating_add(cached.unwrap_or(0)));
        self.input = self.input.or(input);
        self.output = self.output.or(timings.predicted_n.0);
        self.cached = self.cached.or(cached);
    }
}

/// Longest error text that is kept.
const MAX_ERROR_CHARS: usize = 500;
