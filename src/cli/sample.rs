//! `reenact sample`.

use clap::Args;

use super::Outcome;

/// Sample GPUs and the host
#[derive(Debug, Args)]
pub(super) struct SampleArgs {}

pub(super) fn run(_args: &SampleArgs) -> anyhow::Result<Outcome> {
    anyhow::bail!("not built yet")
}
