//! What the bytes mean: bytes in, facts out. Nothing here fails: what is not understood is [`Dialect::Generic`].
//!
//! A request is read whole with [`request_facts`]. A response is fed frame by frame to a [`ResponseReader`], which
//! says for each frame what ended in it, and at the end what the whole amounted to. Timing belongs to the caller: a
//! frame is named by its number.
//!
//! ```text
//! frame bytes -> coding (a copy, decompressed) -> sse (events) or a whole body -> openai (facts)
//! ```
//!
//! | file | what it knows |
//! |---|---|
//! | `facts.rs` | the results: [`RequestFacts`], [`FrameFacts`], [`ResponseFacts`] |
//! | `coding.rs` | content codings: gzip, deflate, zstd; bounded |
//! | `sse.rs` | the framing of `text/event-stream` |
//! | `soft.rs` | JSON that may hold anything in any place |
//! | `openai/` | the API family: paths, request bodies, response objects |
//! | `response.rs` | [`ResponseReader`], which puts them together |
//! | `ties.rs` | what ties a request to others of its conversation: [`Ties`] |
//! | `text.rs` | comparison of two outputs |
//!
//! An unknown API is [`Dialect::Generic`]: its first body frame counts as its first content, its SSE events are
//! counted, and a `model` and `stream` at the top of a JSON request are taken at their word.

mod coding;
mod facts;
mod openai;
mod request;
mod response;
mod soft;
mod sse;
mod text;
mod ties;

pub use self::coding::{MAX_DECODED_BYTES, MAX_RATIO};
pub use self::facts::{
    Dialect, FrameFacts, MAX_TEXT_BYTES, Operation, RequestFacts, ResponseFacts, Usage,
};
pub use self::openai::history::{Said, Ties, text_digest};
pub use self::request::{request_facts, session_header};
pub use self::response::{MAX_UNARY_BYTES, ResponseReader};
pub use self::sse::{MAX_EVENT_BYTES, SseEvent, SseReader};
pub use self::text::first_difference;
pub use self::ties::{response_id, ties};
