//! `reenact trace`.

use clap::Args;

use super::Outcome;

/// Look at and change traces
#[derive(Debug, Args)]
pub(super) struct TraceArgs {}

pub(super) fn run(_args: TraceArgs) -> anyhow::Result<Outcome> {
    anyhow::bail!("not built yet")
}
