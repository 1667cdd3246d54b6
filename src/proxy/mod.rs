//! The recording reverse proxy.
//!
//! A request is admitted ([`exchange`]) as soon as its head is read, before anything is awaited. [`handler`] forwards it
//! to an upstream ([`route`]) by the rules for intermediaries ([`hops`]); both bodies are watched on their way
//! (`http::tap`, [`side_tap`]) and every frame goes into the [`recorder`]'s queue, which never makes anyone wait.
//!
//! What a policy does not let into a trace is replaced between the two, on the writer's thread ([`veil`]).
//!
//! What passes is counted ([`metrics`]), whether it is recorded or not; [`admin`] tells those who look after the process, on
//! a listener of its own.
//!
//! Connections to an upstream belong to the client connection that they serve: a client that keeps its connection finds
//! the upstream's kept, one that opens a new one gets a new one. So the upstream sees the connections it would see
//! without the proxy, a dead idle connection fails nobody who would not have met it, and no lock is shared.
//!
//! What is no proper message goes no further (`framing`): a request that another server could take for two is answered
//! `400` and its connection closed, a response that another client could take for two becomes a `502`. Nothing is ever
//! sent twice.
//!
//! What a client and an upstream see of each other is what they would see directly, but for: hop-by-hop fields
//! (RFC 9110, 7.6.1), the framing that these control, one empty space after each colon, and the order of fields of one
//! name that stood apart (they are written one after the other, in their order). Interim responses other than
//! `100 Continue` are passed on to HTTP/1.1 clients only. Trailers are passed on if a `Trailer` field names them (and,
//! to a client, if it said `TE: trailers`), or over HTTP/2.

pub mod admin;
mod admission;
pub mod answer;
pub mod common;
pub mod exchange;
mod expect;
mod framing;
pub mod handler;
pub mod histogram;
pub mod hops;
pub mod lane;
pub mod log;
pub mod metrics;
mod open;
mod options;
mod page;
pub mod queue;
pub mod recorder;
mod refusal;
pub mod route;
pub mod sampling;
pub mod side_tap;
pub mod sieve;
mod status;
mod story;
mod tally;
mod tunnel;
pub mod upload;
pub mod veil;
pub mod websocket;

pub use admin::{About, Admin, Phase};
pub use handler::Proxy;
pub use log::{Appended, Log, Strain};
pub use options::{Bounds, HostPolicy, ProxyOptions};
pub use queue::Feed;
pub use recorder::{Recorder, RecorderError};
pub use route::{Route, RouteError, Routes};
pub use sampling::Sampler;
pub use sieve::Sieve;
pub use status::{Admission, RecorderState, RecorderStatus};
pub use veil::Veil;
