//! What is known of prompts without their text: how long they are, and which begin alike.
//!
//! The text of a request is every text that a shaped trace would replace, in the order of the document, and nothing between.
//! It is cut into blocks of [`BLOCK`] bytes, and each block's hash is chained to the one before it: two prompts have equal
//! hashes as far as they are equal, to the block. A body that is not JSON is all text.

use std::fmt;

use crate::dialect::{ResponseReader, request_facts};
use crate::privacy::json::{Lexer, Part, Role, Tell};
use crate::privacy::known::{InEvent, Meaning, are_text, meaning};
use crate::privacy::text::Keys;
use crate::trace::record::{End, Outcome, Prompt, RequestHead, ResponseHead, Side};

/// Reads one exchange for its [`Prompt`].
pub struct PromptReader {
    head: RequestHead,
    /// None when the body is not JSON.
    lexer: Option<Lexer>,
    begun: bool,
    blocks: Blocks,
    /// Whether bytes of the request are not known: then neither is its prompt.
    is_lacking: bool,
    response: Option<ResponseReader>,
}

/// A text, cut and hashed.
struct Blocks {
    key: [u8; 32],
    chain: [u8; 32],
    block: Vec<u8>,
    bytes: u64,
    hashes: Vec<u64>,
}

/// Bytes of a block.
pub const BLOCK: u32 = 512;
/// Most blocks that are told of, of 256 MiB of text.
const MAX_BLOCKS: usize = 1 << 19;

// === impl PromptReader ===

impl PromptReader {
    /// Begins with a request head; hashes follow from `key`.
    #[must_use]
    pub fn new(head: &RequestHead, key: &[u8; 32]) -> Self {
        Self {
            head: head.clone(),
            lexer: None,
            begun: false,
            blocks: Blocks::new(Keys::new(key).hash),
            is_lacking: false,
            response: None,
        }
    }

    /// Takes the response head.
    pub fn response(&mut self, head: &ResponseHead) {
        let RequestHead { method, target, headers, .. } = &self.head;
        let facts = request_facts(method, target, headers, b"");
        self.response = Some(ResponseReader::new(&facts, head.status, &head.headers));
    }

    /// Takes bytes of a body, in order.
    pub fn body(&mut self, side: Side, data: &[u8]) {
        match side {
            Side::Request => self.request_body(data),
            Side::Response => {
                if let Some(response) = &mut self.response {
                    response.push(data);
                }
            }
        }
    }

    /// Takes note of a frame of `len` bytes of which nothing else is known.
    pub fn lose(&mut self, side: Side, len: u64) {
        match side {
            Side::Request => self.is_lacking |= len > 0,
            Side::Response => {
                if let Some(response) = &mut self.response {
                    response.skip(len);
                }
            }
        }
    }

    /// Returns what is known at the exchange's end; a prompt of no bytes when its text is not known whole.
    #[must_use]
    pub fn finish(mut self, end: &End) -> Prompt {
        let facts = self.response.map(|reader| reader.finish(end.outcome == Outcome::Complete));
        let usage = facts.map(|facts| facts.usage).unwrap_or_default();
        if self.is_lacking {
            self.blocks = Blocks::new(self.blocks.key);
        }
        self.blocks.cut();
        Prompt {
            exchange: end.exchange,
            at: end.at,
            bytes: self.blocks.bytes,
            block_bytes: BLOCK,
            blocks: self.blocks.hashes,
            input_tokens: usage.input,
            output_tokens: usage.output,
        }
    }

    fn request_body(&mut self, data: &[u8]) {
        if !self.begun
            && let Some(first) = data.iter().find(|byte| !byte.is_ascii_whitespace())
        {
            self.begun = true;
            self.lexer = matches!(first, b'{' | b'[').then(|| Lexer::new(0));
        }
        let blocks = &mut self.blocks;
        let Some(lexer) = &mut self.lexer else {
            blocks.push(data);
            return;
        };
        let mut bytes = [0; 4];
        let read = lexer.push(data, |path, part| {
            match part {
                Part::Open(_, Role::Value) if counts(&meaning(path, InEvent::No)) => {
                    return Tell::Units;
                }
                Part::Unit(_, unit) => {
                    let char = unit.char.unwrap_or(char::REPLACEMENT_CHARACTER);
                    blocks.push(char.encode_utf8(&mut bytes).as_bytes());
                }
                Part::Plain(_, plain) => blocks.push(plain),
                Part::Scalar { number: Some(number), .. } if are_text(path) => {
                    blocks.push(number.to_string().as_bytes());
                    blocks.push(b",");
                }
                _ => {}
            }
            Tell::Close
        });
        if read.is_err() {
            self.lexer = None;
        }
    }
}

impl fmt::Debug for PromptReader {
    /// Leaves the key out, and the text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { head, blocks, .. } = self;
        f.debug_struct("PromptReader")
            .field("exchange", &head.exchange)
            .field("bytes", &blocks.bytes)
            .finish_non_exhaustive()
    }
}

/// Returns whether a text value is a part of the prompt.
fn counts(meaning: &Meaning) -> bool {
    !matches!(meaning, Meaning::Name | Meaning::SchemaType | Meaning::Member)
}

// === impl Blocks ===

impl Blocks {
    fn new(key: [u8; 32]) -> Self {
        Self { key, chain: [0; 32], block: Vec::new(), bytes: 0, hashes: Vec::new() }
    }

    fn push(&mut self, mut text: &[u8]) {
        self.bytes += text.len() as u64;
        while !text.is_empty() {
            let room = (BLOCK as usize).saturating_sub(self.block.len());
            let (front, rest) = text.split_at(room.min(text.len()));
            self.block.extend_from_slice(front);
            text = rest;
            if self.block.len() == BLOCK as usize {
                self.cut();
            }
        }
    }

    /// Ends a block, unless there is nothing in it.
    fn cut(&mut self) {
        if self.block.is_empty() || self.hashes.len() == MAX_BLOCKS {
            self.block.clear();
            return;
        }
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        self.chain = *hasher.update(&self.chain).update(&self.block).finalize().as_bytes();
        let [a, b, c, d, e, f, g, h, ..] = self.chain;
        self.hashes.push(u64::from_le_bytes([a, b, c, d, e, f, g, h]));
        self.block.clear();
    }
}
