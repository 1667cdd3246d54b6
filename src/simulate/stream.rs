//! One answer on its way to its client: piece by piece, or whole when it is done, with a fault in the middle if one is due.

use std::sync::Arc;

use bytes::Bytes;

use super::answer::{Answer, answer};
use super::ask::{Ask, Stream};
use super::engine::{Engine, Generation};
use super::fault::Fault;
use super::wire::{DONE, Head};

/// An answer while it is said.
pub(super) struct Saying {
    head: Head,
    answer: Answer,
    prompt_tokens: u64,
    delivery: Stream,
    fault: Option<Fault>,
    stage: Stage,
}

enum Stage {
    /// So many steps were said: in each, every choice says a token.
    Said(usize, Generation),
    Ended,
}

/// What comes next.
pub(super) enum Next {
    /// A piece.
    Piece(Bytes),
    /// The end, complete.
    End,
    /// The end, in the middle of the answer.
    Cut,
    /// The connection breaks.
    Broken,
}

// === impl Saying ===

impl Saying {
    pub(super) fn new(engine: &Arc<Engine>, ask: &Ask, fault: Option<Fault>) -> Self {
        Self {
            head: Head::new(ask, engine.number(), engine.unix_seconds()),
            answer: answer(ask, &engine.options),
            prompt_tokens: ask.prompt_tokens(),
            delivery: ask.stream,
            fault,
            stage: Stage::Said(0, Generation::new(engine)),
        }
    }

    /// Returns the answer's id.
    pub(super) fn id(&self) -> &str {
        self.head.id()
    }

    /// Waits until the next piece is due. What is dropped meanwhile is an answer that nobody waits for.
    pub(super) async fn next(&mut self) -> Next {
        let Stage::Said(said, mut generation) = std::mem::replace(&mut self.stage, Stage::Ended)
        else {
            return Next::End;
        };
        if said > 0 && said == self.middle() {
            // What returns here drops the generation, which counts it as aborted.
            match self.fault.take() {
                Some(Fault::Reset) => return Next::Broken,
                Some(Fault::Cut) => return Next::Cut,
                Some(Fault::Stall) => generation.stall().await,
                Some(Fault::Status(_)) | None => {}
            }
        }
        if said > 0 && said >= self.answer.steps() {
            generation.finish(Some(&self.answer));
            return Next::Piece(self.end());
        }
        if said == 0 {
            generation.first(self.prompt_tokens).await;
        } else {
            generation.next().await;
        }
        let piece = self.step(said, &generation);
        self.stage = Stage::Said(said + 1, generation);
        Next::Piece(piece)
    }

    /// Waits until the whole answer has been said. Returns it, or with a fault the half that goes out before it.
    pub(super) async fn whole(mut self) -> Result<Bytes, (Fault, Bytes)> {
        let text = Bytes::from(self.head.whole(&self.answer));
        let half = text.slice(..text.len() / 2);
        loop {
            match self.next().await {
                Next::Piece(_) => {}
                Next::End => return Ok(text),
                Next::Cut => return Err((Fault::Cut, half)),
                Next::Broken => return Err((Fault::Reset, half)),
            }
        }
    }

    /// Returns the step that a fault comes before.
    fn middle(&self) -> usize {
        self.answer.steps().div_ceil(2).max(1)
    }

    /// Returns the events of a step: of each choice that has one the token, in the first step also its beginning.
    fn step(&self, step: usize, generation: &Generation) -> Bytes {
        let mut events = String::new();
        let mut tokens = 0;
        for (index, choice) in self.answer.choices.iter().enumerate() {
            if step == 0 && self.delivery != Stream::No {
                events.push_str(&self.head.begin(index));
            }
            let Some(token) = choice.tokens.get(step) else { continue };
            tokens += 1;
            if self.delivery != Stream::No {
                events.push_str(&self.head.token(index, token, self.said_by(step + 1)));
            }
        }
        generation.said(tokens);
        Bytes::from(events)
    }

    /// Returns the events that end a stream.
    fn end(&self) -> Bytes {
        let mut events = String::new();
        if self.delivery == Stream::No {
            return Bytes::new();
        }
        for (index, choice) in self.answer.choices.iter().enumerate() {
            events.push_str(&self.head.finish(index, choice, self.answer.tokens()));
        }
        if self.delivery == Stream::WithUsage {
            events.push_str(&self.head.usage_event(&self.answer));
        }
        events.push_str(DONE);
        Bytes::from(events)
    }

    /// Returns the tokens of all choices in the first `steps` steps.
    fn said_by(&self, steps: usize) -> u64 {
        self.answer.choices.iter().map(|choice| choice.tokens.len().min(steps) as u64).sum()
    }
}
