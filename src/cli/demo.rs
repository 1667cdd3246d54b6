//! `reenact demo`.

use clap::Args;

use super::Outcome;

/// Run the whole loop on the simulated server
#[derive(Debug, Args)]
pub(super) struct DemoArgs {}

pub(super) fn run(_args: &DemoArgs) -> anyhow::Result<Outcome> {
    anyhow::bail!("not built yet")
}
