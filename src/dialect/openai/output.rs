//! The output of all choices, piece by piece: text, sizes, names of tools, and one digest that does not depend on how it
//! was cut or how the choices were mixed.

use std::collections::BTreeMap;

use super::shape;
use super::wire::{Function, Message, ToolCall};
use crate::dialect::facts::MAX_TEXT_BYTES;

/// Characters in one piece, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::dialect) struct Pieces {
    pub(in crate::dialect) content: u64,
    pub(in crate::dialect) reasoning: u64,
    pub(in crate::dialect) tools: u64,
}

/// The output so far.
#[derive(Debug, Default)]
pub(super) struct Output {
    choices: BTreeMap<u64, ChoiceOutput>,
    text: String,
    text_full: bool,
    /// Bytes of arguments that are kept, of all calls.
    arguments_bytes: usize,
    total: Pieces,
}

#[derive(Debug, Default)]
struct ChoiceOutput {
    text: Sum,
    reasoning: Sum,
    calls: Vec<Call>,
    /// The call that each index means, as a place in `calls`.
    open: BTreeMap<u64, usize>,
}

#[derive(Debug)]
struct Call {
    id: String,
    name: String,
    arguments: Sum,
    /// The arguments, for their shape; none when there were more of them in the answer than [`MAX_TEXT_BYTES`].
    text: Option<String>,
}

/// A digest in the making; none of it when nothing came.
#[derive(Debug, Default)]
struct Sum(Option<Box<blake3::Hasher>>);

// === impl Pieces ===

impl Pieces {
    pub(in crate::dialect) const fn is_empty(self) -> bool {
        self.content == 0 && self.reasoning == 0 && self.tools == 0
    }
}

impl std::ops::AddAssign for Pieces {
    fn add_assign(&mut self, other: Self) {
        self.content += other.content;
        self.reasoning += other.reasoning;
        self.tools += other.tools;
    }
}

// === impl Output ===

impl Output {
    /// Takes answer text of the choice `index`.
    pub(super) fn text(&mut self, index: u64, text: &str) -> Pieces {
        if text.is_empty() {
            return Pieces::default();
        }
        self.choice(index).text.add(text);
        if index == 0 && !self.text_full {
            self.text_full = self.text.len() + text.len() > MAX_TEXT_BYTES;
            let room = text.floor_char_boundary(MAX_TEXT_BYTES - self.text.len());
            self.text.push_str(&text[..room]);
        }
        self.note(Pieces { content: chars(text), ..Pieces::default() })
    }

    /// Takes a message, or the piece of one, of the choice `index`. A refusal is answer text.
    pub(super) fn message(&mut self, index: u64, message: &Message<'_>) -> Pieces {
        let mut pieces = self.text(index, &message.content.0);
        pieces += self.text(index, message.refusal.as_str());
        // Servers that say it twice under both names say the same.
        let reasoning = match message.reasoning_content.as_str() {
            "" => message.reasoning.as_str(),
            text => text,
        };
        if !reasoning.is_empty() {
            self.choice(index).reasoning.add(reasoning);
            pieces += self.note(Pieces { reasoning: chars(reasoning), ..Pieces::default() });
        }
        for (place, call) in message.tool_calls.0.iter().enumerate() {
            pieces += self.call(index, call, place as u64);
        }
        if let Some(function) = &message.function_call.0 {
            let keep = self.room_for(function);
            let tools = self.choice(index).call(0, "").add(function, keep);
            pieces += self.note(Pieces { tools, ..Pieces::default() });
        }
        pieces
    }

    /// Takes a piece of a tool call. Its `index` says which call it belongs to; without one, its place in the list.
    fn call(&mut self, choice: u64, call: &ToolCall<'_>, place: u64) -> Pieces {
        let Some(function) = &call.function.0 else { return Pieces::default() };
        let index = call.index.0.unwrap_or(place);
        let keep = self.room_for(function);
        let tools = self.choice(choice).call(index, call.id.as_str()).add(function, keep);
        self.note(Pieces { tools, ..Pieces::default() })
    }

    /// Returns whether the arguments in a piece may be kept for the call's shape, and counts them.
    fn room_for(&mut self, function: &Function<'_>) -> bool {
        self.arguments_bytes =
            self.arguments_bytes.saturating_add(function.arguments.as_str().len());
        self.arguments_bytes <= MAX_TEXT_BYTES
    }

    fn note(&mut self, pieces: Pieces) -> Pieces {
        self.total += pieces;
        pieces
    }

    fn choice(&mut self, index: u64) -> &mut ChoiceOutput {
        let index = index.min(MAX_CHOICES);
        self.choices.entry(index).or_default()
    }

    /// Returns the sizes of everything.
    pub(super) const fn total(&self) -> Pieces {
        self.total
    }

    /// Returns the names of the tools called, choice by choice, in the order in which their calls began.
    pub(super) fn tool_calls(&self) -> Vec<String> {
        self.choices
            .values()
            .flat_map(|choice| &choice.calls)
            .map(|call| call.name.clone())
            .collect()
    }

    /// Returns the shapes of all calls in the same order, those of a further choice with its number; none without calls.
    pub(super) fn tool_shape(&self) -> Option<String> {
        let shapes: Vec<String> = self
            .choices
            .iter()
            .flat_map(|(index, choice)| choice.calls.iter().map(move |call| (*index, call.shape())))
            .map(|(index, shape)| if index == 0 { shape } else { format!("{index}:{shape}") })
            .collect();
        (!shapes.is_empty()).then(|| shape::join(&shapes))
    }

    /// Returns the digest of everything; none when there was nothing.
    ///
    /// Text of choice 0 and nothing else: BLAKE3 of the text. Otherwise BLAKE3 over the parts in order, of each its
    /// choice (8 bytes, little endian), its kind (`t`ext, `r`easoning, `c`all) and its own BLAKE3 (32 bytes); that of a
    /// call is over its name, NUL, and the BLAKE3 of its arguments, if any. The first 16 bytes, in hex.
    pub(super) fn digest(&self) -> Option<String> {
        let parts: Vec<(u64, u8, blake3::Hash)> = self
            .choices
            .iter()
            .flat_map(|(index, choice)| choice.parts().map(|(kind, hash)| (*index, kind, hash)))
            .collect();
        let hash = match parts[..] {
            [] => return None,
            [(0, b't', hash)] => hash,
            _ => {
                let mut hasher = blake3::Hasher::new();
                for (index, kind, hash) in &parts {
                    hasher.update(&index.to_le_bytes()).update(&[*kind]).update(hash.as_bytes());
                }
                hasher.finalize()
            }
        };
        Some(hash.to_hex()[..32].to_owned())
    }

    /// Takes the text of choice 0.
    pub(super) fn into_text(self) -> String {
        self.text
    }
}

// === impl ChoiceOutput ===

impl ChoiceOutput {
    /// Returns the call that `index` means. An id that is not the call's own begins another: some servers give every
    /// call the index 0.
    fn call(&mut self, index: u64, id: &str) -> &mut Call {
        let index = index.min(MAX_CALLS as u64);
        let known = self.open.get(&index).copied().filter(|place| {
            let call = &self.calls[*place];
            id.is_empty() || call.id.is_empty() || call.id == id
        });
        let place = known.unwrap_or_else(|| {
            if self.calls.len() < MAX_CALLS {
                self.calls.push(Call::default());
            }
            let place = self.calls.len() - 1;
            self.open.insert(index, place);
            place
        });
        let call = &mut self.calls[place];
        if call.id.is_empty() {
            call.id.push_str(&id[..id.floor_char_boundary(MAX_NAME_BYTES)]);
        }
        call
    }

    /// Returns the parts that are not empty, each with its kind.
    fn parts(&self) -> impl Iterator<Item = (u8, blake3::Hash)> {
        [(b't', &self.text), (b'r', &self.reasoning)]
            .into_iter()
            .filter_map(|(kind, sum)| Some((kind, sum.0.as_ref()?.finalize())))
            .chain(self.calls.iter().map(|call| (b'c', call.hash())))
    }
}

// === impl Call ===

impl Default for Call {
    fn default() -> Self {
        Self {
            id: String::new(),
            name: String::new(),
            arguments: Sum::default(),
            text: Some(String::new()),
        }
    }
}

impl Call {
    /// Takes a piece and returns its characters. With `keep`, its arguments are kept for the shape.
    fn add(&mut self, function: &Function<'_>, keep: bool) -> u64 {
        let name = function.name.as_str();
        let arguments = function.arguments.as_str();
        let mut added = chars(arguments);
        // Some servers repeat the name in every piece.
        if name != self.name && self.name.len() + name.len() <= MAX_NAME_BYTES {
            self.name.push_str(name);
            added += chars(name);
        }
        self.arguments.add(arguments);
        match &mut self.text {
            Some(text) if keep => text.push_str(arguments),
            _ => self.text = None,
        }
        added
    }

    fn shape(&self) -> String {
        shape::shape(&self.name, self.text.as_deref().unwrap_or(TOO_LONG))
    }

    fn hash(&self) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.name.as_bytes()).update(&[0]);
        if let Some(arguments) = &self.arguments.0 {
            hasher.update(arguments.finalize().as_bytes());
        }
        hasher.finalize()
    }
}

// === impl Sum ===

impl Sum {
    fn add(&mut self, text: &str) {
        if !text.is_empty() {
            self.0.get_or_insert_default().update(text.as_bytes());
        }
    }
}

fn chars(text: &str) -> u64 {
    text.chars().count() as u64
}

/// Choices told apart; what comes with a higher index counts as this one's.
const MAX_CHOICES: u64 = 1024;
/// Calls told apart in a choice.
const MAX_CALLS: usize = 1024;
/// Longest name or id of a call.
const MAX_NAME_BYTES: usize = 1024;
/// Stands for arguments that were not kept: no JSON.
const TOO_LONG: &str = "…";
