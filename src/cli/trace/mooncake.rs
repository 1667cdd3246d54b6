//! A trace as Mooncake has it: one line for each request, with its time, its tokens and which blocks its prompt consists of.

use std::collections::BTreeMap;
use std::io::Write;

use serde::Serialize;

use crate::cli::privacy::random;
use crate::privacy::PromptReader;
use crate::trace::record::{Prompt, Side};
use crate::trace::{Exchange, FrameView};

/// Writes the lines.
pub(super) struct MooncakeWriter<'a> {
    out: &'a mut dyn Write,
    /// For traces that hold bodies.
    key: [u8; 32],
    /// Numbers of blocks, by their hashes.
    ids: BTreeMap<u64, u64>,
    /// Requests whose tokens nobody told.
    pub(super) untold: u64,
}

#[derive(Serialize)]
struct Line {
    /// Milliseconds since the trace's time zero.
    timestamp: u64,
    input_length: u64,
    output_length: u64,
    hash_ids: Vec<u64>,
}

/// Bytes of text of a token, about, where nobody has counted.
const TOKEN_BYTES: u64 = 4;

// === impl MooncakeWriter ===

impl<'a> MooncakeWriter<'a> {
    pub(super) fn begin(out: &'a mut dyn Write) -> anyhow::Result<Self> {
        Ok(Self { out, key: random()?, ids: BTreeMap::new(), untold: 0 })
    }

    /// Writes the line of an exchange that has a prompt and an answer.
    pub(super) fn exchange(&mut self, exchange: &Exchange) -> anyhow::Result<()> {
        let prompt = match &exchange.prompt {
            Some(prompt) => Some(prompt.clone()),
            None => self.read(exchange),
        };
        let Some(prompt) = prompt.filter(|prompt| prompt.bytes > 0) else { return Ok(()) };
        let Some(output_length) = prompt.output_tokens else {
            self.untold += 1;
            return Ok(());
        };
        let mut id = |hash: u64| {
            let next = self.ids.len() as u64;
            *self.ids.entry(hash).or_insert(next)
        };
        let guess = prompt.bytes.div_ceil(TOKEN_BYTES);
        let line = Line {
            timestamp: exchange.request.at.0 / 1_000_000,
            input_length: prompt.input_tokens.unwrap_or(guess),
            output_length,
            hash_ids: prompt.blocks.iter().map(|hash| id(*hash)).collect(),
        };
        serde_json::to_writer(&mut *self.out, &line)?;
        Ok(writeln!(self.out)?)
    }

    /// Reads an exchange whose bodies are in the trace.
    fn read(&self, exchange: &Exchange) -> Option<Prompt> {
        let mut reader = PromptReader::new(&exchange.request, &self.key);
        for frame in exchange.frames(Side::Request) {
            read(frame, Side::Request, &mut reader);
        }
        if let Some(response) = &exchange.response {
            reader.response(response);
        }
        for frame in exchange.frames(Side::Response) {
            read(frame, Side::Response, &mut reader);
        }
        Some(reader.finish(exchange.end.as_ref()?))
    }
}

fn read(frame: FrameView<'_>, side: Side, reader: &mut PromptReader) {
    match frame.data {
        Some(data) => reader.body(side, data),
        None => reader.lose(side, frame.len),
    }
}
