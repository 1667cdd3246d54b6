//! What may be in a trace: policies, and the events that are left of what passed.
//!
//! A [`Policy`] says it; a [`Veil`] does it: events in, events out, before a byte reaches the disk. Replacements have the
//! length in bytes of what they replace, so that lengths, frame cuts and offsets stay true, and they follow from a key:
//! equal values stay equal, and nothing leads back without it.
//!
//! ```text
//! frames -> held.rs (bytes that wait) -> body.rs (which form) -> events.rs, json.rs -> plan.rs, values.rs (what each string is)
//!        -> text.rs (patterns.rs, standin.rs), media.rs -> the same frames, replaced
//! ```
//!
//! An event that is like one before it, but for its values, is not parsed again (`template.rs`).
//!
//! What can't be read as what it says it is falls to the stricter side: of it nothing is told but its length. So do bodies
//! that are compressed, and what passes on a connection after an upgrade.
//!
//! With the mode **none** that is all bodies.
//!
//! **Shape** keeps what makes the work of a server: lengths in bytes and characters, where words begin and end, numbers,
//! the members of requests that servers know, and which texts begin alike, so that caches of prefixes hit as often. Every
//! other text, and every image, is replaced by a stand-in (`standin.rs`, `media.rs`). Which members and values stay is a
//! list of what the APIs define (`known.rs`); any other is taken for somebody's data.

mod body;
mod draw;
mod events;
mod held;
mod image;
mod json;
mod known;
mod media;
mod members;
mod patterns;
mod plan;
mod pointer;
mod policy;
mod prompt;
mod standin;
mod template;
mod text;
mod units;
mod values;
mod veil;
mod words;

pub use policy::{Bodies, Names, Policy, PolicyError};
pub use prompt::{BLOCK, PromptReader};
pub use veil::Veil;
