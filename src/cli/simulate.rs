//! `reenact simulate`.

use clap::Args;

use super::Outcome;

/// Serve a simulated LLM
#[derive(Debug, Args)]
pub(super) struct SimulateArgs {}

pub(super) fn run(_args: &SimulateArgs) -> anyhow::Result<Outcome> {
    anyhow::bail!("not built yet")
}
