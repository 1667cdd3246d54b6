//! `reenact` records real LLM traffic in front of production and re-enacts it, byte for byte and on time, against any
//! backend. What comes out is Parquet.
//!
//! This page is the map. Read it, then [`trace::record`] (what is recorded), `src/trace/FORMAT.md` (how it lies on disk),
//! [`http::tap`] (how a body is watched), [`proxy`] (how traffic gets into a trace), [`replay`] (how it gets out again)
//! and [`results::rows`] (what is measured).
//!
//! # Flow
//!
//! ```text
//! record   client -> proxy::handler -> http::tap --try_send(Event)--> recorder thread -> trace::Writer -> file
//!                         \-> http::client -> upstream
//! replay   file -> trace::Trace -> replay::plan -> pacer thread --Release--> dispatch -> call -> http::client -> target
//!                                                            call --Measurement--> results thread -> Parquet
//!          telemetry --Sample--> the same results thread -> Parquet
//! report   Parquet -> results -> report::stats -> report::html
//! ```
//!
//! Every channel is bounded and has one `finish()` where its error comes out.
//!
//! # The house
//!
//! Nouns at rest below, plumbing in the middle, verbs above, the command on top. `tests/it/layering.rs` holds the table:
//!
//! | module | what it is | may use |
//! |---|---|---|
//! | [`clock`] | the only reader of time | nothing |
//! | [`trace`] | the container: records, format, writer, reader | clock |
//! | [`dialect`] | what the bytes mean: framings and API families | clock, trace |
//! | [`results`] | rows, manifest, Parquet | clock, trace, dialect |
//! | [`http`] | sockets without policy: tap, client, server, TLS | clock, trace |
//! | [`proxy`] | the recording reverse proxy | nouns, http |
//! | [`replay`] | plan, pacer, calls | nouns, http |
//! | [`telemetry`] | GPU, host and server samples | nouns, http |
//! | [`simulate`] | the simulated server | nouns, http |
//! | [`report`] | a run folder's tables and page | nouns |
//! | [`cli`] | arguments, and what the verbs have in common | all |
//!
//! Nouns use no verb, and verbs never name each other: only `cli` puts them together. What two verbs need is a noun,
//! and moves down.
//!
//! # Invariants
//!
//! 1. Recording never fails, delays or alters an exchange. The per-frame path is: poll the inner body, read the clock,
//!    push a reference-counted `Bytes`, return the frame. No parse, no await, no lock, no copy.
//! 2. Conservation: admitted = complete + failed + cancelled + sampled out + dropped, provable from the trace alone by
//!    `reenact trace verify`. A dropped thing is a gap.
//! 3. An exchange is admitted before the first await: a client that leaves before the response head is recorded.
//! 4. Bytes and cut points are stored as they passed; what they mean is derived later, by [`dialect`].
//! 5. Each frame carries two stamps: read from one side, and accepted by the other; monotonic, one wall anchor.
//! 6. Credentials are replaced before the queue. The list of redacted fields is the list of credentials.
//! 7. A trace cut at any byte reads up to its last flushed record and says so. Every length is checked against a named
//!    limit before it is allocated. Reader memory follows the block, not the file.
//! 8. A release never waits for the disk. Due times are absolute and fixed before the run; lateness is in every row.
//! 9. Same trace, same options: the same bytes in the same order at the same due times, on every machine.
//! 10. A failed request is a row. A percentile says which rows it was taken over.
//! 11. Marks are raw: other tools' metrics are functions over them.
//! 12. The report depends on the run folder alone.
//! 13. `unsafe` is forbidden; order never depends on a hash map; time is read in [`clock`] only.

pub mod cli;
pub mod clock;
pub mod dialect;
pub mod http;
pub mod proxy;
pub mod replay;
pub mod report;
pub mod results;
pub mod simulate;
pub mod telemetry;
pub mod trace;
