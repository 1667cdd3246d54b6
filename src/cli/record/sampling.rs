//! Which exchanges are recorded.

use std::time::Duration;

use clap::Args;
use http::Method;

use crate::proxy::sampling::{FieldIs, Only, Sampler, SessionKey};
use crate::proxy::sieve::{Mesh, StatusIs};
use crate::results::filter::Patterns;

use super::args::bytes;

/// Which exchanges are recorded: all that is asked for must hold; the others are counted
#[derive(Debug, Args)]
#[command(next_help_heading = "Which exchanges")]
pub(super) struct SamplingArgs {
    /// Share of the sessions to record, such as 0.1 or 10%; chosen by a hash with the key of --redact-key-file, so that
    /// recorders with the same key choose the same sessions
    #[arg(long, value_name = "SHARE", env = "REENACT_SAMPLE", default_value = "1", value_parser = crate::cli::share::share)]
    sample: u32,
    /// What tells sessions apart, the first that a request has: header:NAME, query:NAME, address (the client's), connection.
    /// Behind a gateway that shares its connections, name a header
    #[arg(
        long,
        value_name = "KEY",
        env = "REENACT_SESSION_KEY",
        default_value = "connection",
        value_delimiter = ','
    )]
    session_key: Vec<SessionKey>,
    /// Only paths like this; `*` any text, `|` between alternatives; repeatable, one must fit
    #[arg(long, value_name = "PATTERN", env = "REENACT_ONLY_PATH")]
    only_path: Vec<Patterns>,
    /// Only this method; repeatable
    #[arg(long, value_name = "METHOD", env = "REENACT_ONLY_METHOD", value_delimiter = ',')]
    only_method: Vec<Method>,
    /// Only where all of a header field's value matches a regular expression; repeatable, all must
    #[arg(long, value_name = "NAME=REGEX", env = "REENACT_ONLY_HEADER", hide_env_values = true)]
    only_header: Vec<FieldIs>,
    /// Only these statuses, such as 429, 5xx, none (no response); decided at the end of an exchange, held in memory until then
    #[arg(long, value_name = "STATUS", env = "REENACT_ONLY_STATUS", value_delimiter = ',')]
    only_status: Vec<StatusIs>,
    /// Only exchanges that took at least this long, such as 2s; decided and held as with --only-status
    #[arg(long, value_name = "TIME", env = "REENACT_ONLY_SLOWER", value_parser = crate::cli::duration)]
    only_slower: Option<Duration>,
    /// Bytes of undecided exchanges to hold; beyond, the oldest are recorded, whatever becomes of them
    #[arg(long, value_name = "BYTES", env = "REENACT_UNDECIDED_BYTES", default_value = "64M", value_parser = bytes)]
    pub(super) undecided_bytes: usize,
}

// === impl SamplingArgs ===

impl SamplingArgs {
    /// Returns what chooses from request heads.
    pub(super) fn sampler(&self, secret: &[u8; 32]) -> Sampler {
        let only = Only {
            paths: self.only_path.clone(),
            methods: self.only_method.clone(),
            headers: self.only_header.clone(),
        };
        Sampler::new(self.sample, secret, self.session_key.clone(), only)
    }

    /// Returns what is decided at the end.
    pub(super) fn mesh(&self) -> Mesh {
        Mesh { statuses: self.only_status.clone(), slower: self.only_slower }
    }
}
