//! A simulated LLM server that speaks OpenAI's API: what it says depends on the request and the seed alone, when it says it
//! on the load.
//!
//! | file | what it knows |
//! |---|---|
//! | `options.rs` | [`SimulateOptions`]: how fast, how long, how faulty |
//! | `chance.rs`, `words.rs` | chance that is the same everywhere; English-like text |
//! | `ask.rs` | requests, parsed |
//! | `answer.rs`, `embedding.rs` | what is answered: pure functions of request and seed |
//! | `fault.rs` | which request gets which fault |
//! | `wire.rs` | answers as JSON and as events |
//! | `timer.rs`, `engine.rs` | when it is said: slots, queue, prefill, tokens at absolute due times |
//! | `stream.rs` | one answer on its way |
//! | `metrics.rs` | the metrics page, in vLLM's names |
//! | `service.rs`, `server.rs` | HTTP |
//!
//! It is no model of any engine's scheduler: a request waits for a slot, its prompt takes its time, and its tokens come
//! at a pace that load slows down.

pub mod answer;
pub mod ask;
mod chance;
mod embedding;
mod engine;
mod fault;
mod metrics;
mod options;
mod server;
mod service;
mod stream;
mod timer;
mod wire;
mod words;

pub use self::fault::{Fault, FaultError, FaultShare};
pub use self::options::SimulateOptions;
pub use self::server::run;
