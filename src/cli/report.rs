//! `reenact report`.

use clap::Args;

use super::Outcome;

/// Make a report of a run
#[derive(Debug, Args)]
pub(super) struct ReportArgs {}

pub(super) fn run(_args: &ReportArgs) -> anyhow::Result<Outcome> {
    anyhow::bail!("not built yet")
}
