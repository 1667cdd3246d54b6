//! Flags about the measurement itself: the calibration before it, and how often it is made.

use std::time::Duration;

use clap::Args;
use serde_json::{Map, Value, json};

use crate::clock::Nanos;
use crate::replay::calibrate::calibrate;
use crate::replay::plan::Totals;
use crate::results::manifest::Calibration;

use super::output;

/// The measurement itself
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "The measurement itself")]
pub(super) struct MeasureArgs {
    /// Leave out the second before a run in which requests and events of a server on loopback show what this machine can do
    #[arg(long, env = "REENACT_NO_CALIBRATION")]
    no_calibration: bool,
    /// Run the same plan N times, into OUT/01, OUT/02 and so on, and write how far the runs lie apart to OUT/repeat.json: the
    /// noise floor, below which comparisons call a difference noise
    #[arg(long, value_name = "N", env = "REENACT_REPEAT", conflicts_with = "search", value_parser = clap::value_parser!(u32).range(2..=99))]
    pub(super) repeat: Option<u32>,
}

// === impl MeasureArgs ===

impl MeasureArgs {
    /// Measures what this machine can do at the busiest second of a plan, and says it; none where it is not wanted, or can't
    /// be had, which is said too.
    pub(super) fn calibrate(&self, totals: &Totals, spin: Duration) -> Option<Calibration> {
        if self.no_calibration {
            return None;
        }
        #[expect(clippy::cast_precision_loss, reason = "a rate")]
        match calibrate(totals.peak_per_second as f64, spin) {
            Ok(found) => {
                output::say(&words(&found));
                Some(found)
            }
            Err(error) => {
                let error = anyhow::Error::new(error);
                output::say(&format!(
                    "No calibration: {error:#}. The run's own lateness is measured all the same."
                ));
                None
            }
        }
    }

    /// Writes the flags down, for the manifest.
    pub(super) fn describe(&self, options: &mut Map<String, Value>) {
        options.insert("no-calibration".to_owned(), json!(self.no_calibration));
        options.insert("repeat".to_owned(), json!(self.repeat));
    }
}

fn words(found: &Calibration) -> String {
    let ms = |ns: i64| Nanos(ns.max(0).cast_unsigned()).as_millis_f64();
    let (jitter, events) = (&found.jitter, &found.events);
    format!(
        "This machine, by a server on loopback: at {:.0}/s requests arrive {:.3} ms (p50) and {:.3} ms (p99) after they are \
         due; one thread reads {:.0} events/s ({:.2} us of CPU each).",
        jitter.rate_per_s,
        ms(jitter.late.p50_ns),
        ms(jitter.late.p99_ns),
        events.events_per_s,
        events.event_ns / 1e3,
    )
}
