//! What is to be done with each string of a document: it follows from where it is, and from the policy.

use std::collections::BTreeMap;

use crate::privacy::json::{Level, Lexer, NotJson, Part, Role, Tell};
use crate::privacy::known::{
    InEvent, MAX_NAME, Meaning, is_index, is_member, is_name, is_schema_type, meaning,
};
use crate::privacy::patterns::More;
use crate::privacy::pointer::Pointer;
use crate::privacy::template::Slots;
use crate::privacy::text::{Text, Texts, Work};

/// What is to be done with a string. It follows from its place and the policy, not from what it says.
#[derive(Clone, Copy, Debug)]
pub(super) enum Plan {
    Keep,
    Text,
    /// It goes on one of the texts that come in parts.
    Stream(usize),
    Scramble,
    /// It stays if this is true of it, which is of none that is longer.
    Hold(fn(&str) -> bool, usize),
    /// It may be base64: bare, or in a data URI alone.
    BareMedia,
    MediaInUri,
}

/// What is known beside the document.
pub(super) struct Around<'a> {
    pub(super) pointers: &'a [Pointer],
    pub(super) streams: &'a mut Streams,
    pub(super) indexes: &'a Indexes,
    pub(super) in_event: InEvent,
    /// When there, what was done with each value is noted, for documents like this one.
    pub(super) slots: Option<&'a mut Slots>,
}

/// The texts of a body that come in parts.
#[derive(Debug, Default)]
pub(super) struct Streams {
    /// Which of the texts is that of a place.
    places: BTreeMap<String, usize>,
    texts: Vec<Text>,
}

/// Numbers that tell texts apart, by the places of what they are in.
pub(super) type Indexes = BTreeMap<String, u64>;

// === impl Plan ===

impl Plan {
    /// Decides what to do with the string at `path`.
    pub(super) fn new(
        work: &Work<'_>,
        around: &mut Around<'_>,
        path: &[Level],
        role: Role,
    ) -> Self {
        // A member's name is within the value that its object is a part of.
        let outer = if role == Role::Key { &path[..path.len().saturating_sub(1)] } else { path };
        if around.pointers.iter().any(|pointer| pointer.covers(outer)) {
            return Self::Scramble;
        }
        if role == Role::Key {
            return match work.texts {
                Texts::Shape => Self::Hold(is_member, 128),
                Texts::Stay | Texts::Closed => Self::Keep,
            };
        }
        if work.texts == Texts::Stay && work.patterns.is_none() {
            return Self::Keep;
        }
        let meaning = meaning(path, around.in_event);
        if work.texts == Texts::Stay && meaning != Meaning::Delta {
            return Self::Text;
        }
        match meaning {
            Meaning::Name => Self::Hold(is_name, MAX_NAME),
            Meaning::SchemaType => Self::Hold(is_schema_type, MAX_NAME),
            Meaning::Member => Self::Hold(is_member, 128),
            Meaning::Delta => {
                let mut place = place(path, around.indexes);
                // An event may say at its top which text it is of.
                if let Some(number) = around.indexes.get("") {
                    place = format!("{place}#{number}");
                }
                Self::Stream(around.streams.at(place))
            }
            Meaning::Token => Self::Stream(around.streams.at("logprobs".to_owned())),
            Meaning::Media => Self::BareMedia,
            Meaning::Text => Self::MediaInUri,
        }
    }
}

// === impl Streams ===

impl Streams {
    /// Returns which text is that of `place`.
    fn at(&mut self, place: String) -> usize {
        *self.places.entry(place).or_insert_with(|| {
            self.texts.push(Text::default());
            self.texts.len() - 1
        })
    }

    /// Returns one of them.
    pub(super) fn text(&mut self, idx: usize) -> &mut Text {
        &mut self.texts[idx]
    }

    /// Ends all of them: what they still had to wait for does not come.
    pub(super) fn settle(&mut self, work: &mut Work<'_>) {
        self.texts.iter_mut().for_each(|text| text.settle(work, More::No));
    }

    /// Ends those that have waited since an offset before `limit`.
    pub(super) fn settle_before(&mut self, work: &mut Work<'_>, limit: u64) {
        for text in &mut self.texts {
            if text.undecided().is_some_and(|from| from < limit) {
                text.settle(work, More::No);
            }
        }
    }

    /// Returns the offset in the body before which they are decided, if that is not all of it.
    pub(super) fn undecided(&self) -> Option<u64> {
        self.texts.iter().filter_map(Text::undecided).min()
    }
}

/// Reads a document for its indexes alone.
///
/// # Errors
/// It is not JSON, or is cut.
pub(super) fn indexes<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Result<Indexes, NotJson> {
    let mut indexes = Indexes::new();
    let mut lexer = Lexer::new(0);
    let mut tell = |path: &[Level], part: Part<'_>| {
        if let Part::Scalar { number, .. } = part
            && is_index(path)
        {
            let place = place(&path[..path.len() - 1], &Indexes::new());
            // Several of one place, as Responses have them, count together.
            let index = indexes.entry(place).or_insert(0_u64);
            *index = index.wrapping_mul(1 << 20).wrapping_add(number.unwrap_or(0));
        }
        Tell::Close
    };
    for piece in pieces {
        lexer.push(piece, &mut tell)?;
    }
    if lexer.finish(&mut tell)? { Ok(indexes) } else { Err(NotJson) }
}

/// Writes a path, elements of lists by the index that they say they have.
fn place(path: &[Level], indexes: &Indexes) -> String {
    let mut place = String::new();
    for level in path {
        place.push('/');
        match level {
            Level::Object(key) => place.push_str(key),
            Level::Array(idx) => {
                let by_position = format!("{place}{idx}");
                let number = indexes.get(&by_position).copied();
                place.push_str(
                    &number.map_or_else(|| idx.to_string(), |number| format!("#{number}")),
                );
            }
        }
    }
    place
}
