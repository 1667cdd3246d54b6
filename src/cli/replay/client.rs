//! The flags of `reenact replay` about what clients do.

use std::time::Duration;

use clap::Args;
use serde_json::{Map, Value, json};

use crate::replay::connections::Connections;
use crate::replay::ending::Aborts;
use crate::replay::pace::ReadPace;

/// What clients do
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Clients")]
pub(super) struct ClientArgs {
    /// Where clients leave that left when they were recorded: recorded (after as many bytes), frames (after as many frames of the
    /// body), time (after as long since the request), never. Who had got no body leaves after as long as it waited,
    /// whatever the speed
    #[arg(long, value_name = "WHERE", env = "REENACT_ABORT", default_value_t)]
    abort: Aborts,
    /// The same as --abort never
    #[arg(long, env = "REENACT_NO_ABORT", conflicts_with = "abort")]
    no_abort: bool,
    /// Which calls share a connection: pooled (whichever is idle, some are kept ready), recorded (those of one recorded connection),
    /// session (the turns of a session), new (none). One that is due while the connection it shares is busy gets its own
    #[arg(long, value_name = "POLICY", env = "REENACT_CONNECTIONS", default_value_t)]
    pub(super) connections: Connections,
    /// How fast clients read: at-once, recorded (with the recorded pauses), or bytes a second such as 20000 or 64K. A server feels
    /// it once the buffers in between are full
    #[arg(long, value_name = "PACE", env = "REENACT_READ_PACE", default_value_t)]
    pub(super) read_pace: ReadPace,
    /// Longest time from a request to the first byte of its response's body; 0 for no limit
    #[arg(long, value_name = "TIME", env = "REENACT_TTFT_TIMEOUT", default_value = "0", value_parser = super::args::time)]
    pub(super) ttft_timeout: Duration,
}

// === impl ClientArgs ===

impl ClientArgs {
    pub(super) const fn aborts(&self) -> Aborts {
        if self.no_abort { Aborts::Never } else { self.abort }
    }

    /// Puts the options in, by flag.
    pub(super) fn describe(&self, options: &mut Map<String, Value>) {
        options.insert("abort".to_owned(), json!(self.aborts().to_string()));
        options.insert("connections".to_owned(), json!(self.connections.to_string()));
        options.insert("read-pace".to_owned(), json!(self.read_pace.to_string()));
        options.insert("ttft-timeout".to_owned(), json!(self.ttft_timeout.as_secs_f64()));
    }
}
