//! OpenAI's API and the many servers that speak it: chat, completions, embeddings, models.
//!
//! [`path`] tells the operation from method and path, [`request`] reads request bodies, [`history`] what ties them to others,
//! [`answer`] the objects that come back, be it one (unary) or one per event (a stream: the pieces add up to the same facts).
//! `shape.rs` says what a tool call asks for, without its values.

pub(super) mod answer;
pub(super) mod history;
pub(super) mod output;
pub(super) mod path;
pub(super) mod request;
mod shape;
mod wire;
