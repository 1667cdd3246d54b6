//! `reenact replay`.

use clap::Args;

use super::Outcome;

/// Reissue a trace and write a run
#[derive(Debug, Args)]
pub(super) struct ReplayArgs {}

pub(super) fn run(_args: ReplayArgs) -> anyhow::Result<Outcome> {
    anyhow::bail!("not built yet")
}
