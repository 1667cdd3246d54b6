//! `reenact record`.

use clap::Args;

use super::Outcome;

/// Record traffic through a reverse proxy
#[derive(Debug, Args)]
pub(super) struct RecordArgs {}

pub(super) fn run(_args: RecordArgs) -> anyhow::Result<Outcome> {
    anyhow::bail!("not built yet")
}
