//! `reenact demo`: the whole loop on the simulated server.
//!
//! It runs the command's other verbs as a user would, each in a process of its own on free ports of the loopback
//! interface (`cli/child.rs`), sends a fixed workload through the recording proxy (`workload.rs`, `client.rs`), replays the
//! trace twice, and says what it does and where everything is (`story.rs`).

mod client;
mod story;
mod workload;

pub(super) use self::story::{DemoArgs, run};
