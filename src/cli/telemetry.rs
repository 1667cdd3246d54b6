//! The flags of telemetry, which `sample`, `replay` and `record` share.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::telemetry::Options;

/// What is sampled
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Telemetry")]
pub(super) struct TelemetryArgs {
    /// Milliseconds between two readings of a GPU or of the machine
    #[arg(long, value_name = "MS", env = "REENACT_PERIOD_MS", default_value_t = 100,
          value_parser = clap::value_parser!(u64).range(1..=3_600_000))]
    period_ms: u64,
    /// NVIDIA's management library, where the loader does not find it
    #[arg(long, value_name = "PATH", env = "REENACT_NVML_LIBRARY")]
    nvml_library: Option<PathBuf>,
    /// Metrics page of a server or of DCGM to scrape (the path is /metrics if the URL has none); repeatable
    #[arg(long, value_name = "URL", env = "REENACT_SCRAPE", value_delimiter = ',')]
    scrape: Vec<String>,
    /// Milliseconds between two scrapes of a metrics page
    #[arg(long, value_name = "MS", env = "REENACT_SCRAPE_PERIOD_MS", default_value_t = 1_000,
          value_parser = clap::value_parser!(u64).range(1..=3_600_000))]
    scrape_period_ms: u64,
}

// === impl TelemetryArgs ===

impl TelemetryArgs {
    /// Returns the options of the samplers.
    pub(super) fn options(&self) -> Options {
        Options {
            period: Duration::from_millis(self.period_ms),
            scrape_period: Duration::from_millis(self.scrape_period_ms),
            nvml_library: self.nvml_library.clone(),
            scrape: self.scrape.clone(),
            ..Options::default()
        }
    }
}
