//! The metrics page, in Prometheus' text format (0.0.4).

use std::fmt::{Display, Write as _};
use std::time::Duration;

use crate::proxy::histogram::{BOUNDS_US, Latencies};
use crate::proxy::metrics::{CLASSES, FAULTS, Totals};
use crate::proxy::status::{DiskTimes, RecorderState, RecorderStatus};

/// Its media type.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A page that is being written.
#[derive(Default)]
struct Page {
    text: String,
    /// The family of the lines to come.
    name: &'static str,
}

/// Writes the page; `started` is the wall clock at the start, in nanoseconds since 1970.
pub(super) fn page(
    totals: &Totals,
    status: &RecorderStatus,
    disk: &DiskTimes,
    started: i64,
) -> String {
    let mut page = Page::default();
    page.family("reenact_build_info", "gauge", "1; the label says which version runs");
    page.line(&[("version", env!("CARGO_PKG_VERSION"))], 1);
    page.family("reenact_start_time_seconds", "gauge", "When recording began, since 1970");
    page.line(&[], seconds(u64::try_from(started).unwrap_or(0)));
    page.exchanges(totals);
    page.recording(status, totals);
    let help = "Time that it took to hand what was recorded to the file system, ten times a second; with --fsync flush it \
                includes waiting for the disk";
    page.latencies("reenact_flush_seconds", help, &disk.flushes);
    let help = "Time that the disk took to confirm a flush or a closed segment (fsync)";
    page.latencies("reenact_fsync_seconds", help, &disk.syncs);
    page.text
}

// === impl Page ===

impl Page {
    fn exchanges(&mut self, totals: &Totals) {
        self.single("reenact_requests_total", "counter", "Request heads read", totals.requests);
        self.family("reenact_exchanges_total", "counter", "Exchanges that have ended, by outcome");
        for (outcome, count) in [
            ("complete", totals.complete),
            ("failed", totals.failed),
            ("cancelled", totals.cancelled),
        ] {
            self.line(&[("outcome", outcome)], count);
        }
        self.single("reenact_open_exchanges", "gauge", "Exchanges under way", totals.open);
        let help = "How long the oldest exchange has been under way; 0 when there is none";
        self.single(
            "reenact_oldest_exchange_seconds",
            "gauge",
            help,
            seconds(totals.oldest_open_ns),
        );
        let help = "Final responses, by class of status and by who made them";
        self.family("reenact_responses_total", "counter", help);
        for (maker, counts) in
            [("upstream", &totals.upstream_responses), ("proxy", &totals.proxy_responses)]
        {
            for (class, count) in CLASSES.into_iter().zip(counts) {
                self.line(&[("by", maker), ("class", class)], count);
            }
        }
        let help = "Exchanges that failed at the upstream, by kind";
        self.family("reenact_upstream_errors_total", "counter", help);
        for (kind, count) in FAULTS.into_iter().zip(totals.upstream_faults) {
            self.line(&[("kind", kind)], count);
        }
        let help = "Exchanges that one side left before the response had ended, by side";
        self.family("reenact_disconnects_total", "counter", help);
        self.line(&[("side", "client")], totals.client_disconnects);
        self.line(&[("side", "upstream")], totals.upstream_disconnects);
        let help = "Bytes of bodies forwarded, by direction; counted when a body is over";
        self.family("reenact_body_bytes_total", "counter", help);
        self.line(&[("direction", "request")], totals.request_body_bytes);
        self.line(&[("direction", "response")], totals.response_body_bytes);
        let help = "Time that the proxy added to an answered exchange: from having read the request's head to handing it to a \
                    ready upstream connection (without connecting), plus from having read the response's head to handing it on";
        self.latencies("reenact_added_latency_seconds", help, &totals.added);
    }

    fn recording(&mut self, status: &RecorderStatus, totals: &Totals) {
        self.family("reenact_recording", "gauge", "1 for the state that recording is in");
        for state in RecorderState::ALL {
            self.line(&[("state", state.as_str())], u8::from(state == status.state()));
        }
        self.single(
            "reenact_queue_bytes",
            "gauge",
            "Bytes that wait to be written",
            status.queued_bytes,
        );
        let help = "Most bytes that have waited to be written";
        self.single("reenact_queue_high_water_bytes", "gauge", help, status.high_water_bytes);
        let help = "Times that the recorder could not write and left off for a while";
        let interruptions = status.interruptions;
        self.single("reenact_recording_interruptions_total", "counter", help, interruptions);
        let help = "Bytes of the trace on disk";
        self.single("reenact_trace_bytes", "gauge", help, status.written_bytes);
        let counters = &status.counters;
        let help = "Exchanges whose request head is in the trace";
        let left_out = counters.sampled_out + counters.dropped();
        let recorded = counters.admitted.saturating_sub(left_out);
        self.single("reenact_recorded_exchanges_total", "counter", help, recorded);
        let help = "Exchanges left out of the trace on purpose, by sampling or a filter";
        let sampled_out = counters.sampled_out;
        self.single("reenact_sampled_out_exchanges_total", "counter", help, sampled_out);
        let help = "Exchanges recorded before it was known whether they are wanted";
        self.single("reenact_undecided_exchanges_total", "counter", help, status.undecided);
        let help = "Exchanges left out of the trace whole, by reason, as far as the trace tells";
        self.family("reenact_dropped_exchanges_total", "counter", help);
        for (reason, count) in [
            ("queue_full", counters.dropped_queue_full),
            ("recorder_stopped", counters.dropped_recorder_stopped),
            ("write_failed", counters.dropped_write_failed),
        ] {
            self.line(&[("reason", reason)], count);
        }
        for (name, help, count) in [
            (
                "reenact_lost_exchanges_total",
                "Exchanges left out of the trace whole",
                status.lost_exchanges,
            ),
            (
                "reenact_lost_frames_total",
                "Body frames left out of recorded exchanges",
                status.lost_frames,
            ),
            (
                "reenact_bare_frames_total",
                "Of the lost body frames, those whose times and lengths are recorded",
                status.bare_frames,
            ),
            ("reenact_lost_bytes_total", "Bytes left out of the trace", status.lost_bytes),
            (
                "reenact_unrecorded_exchanges_total",
                "Exchanges that began while recording was stopped on request: in no trace, and no loss",
                totals.not_recorded,
            ),
            ("reenact_unrecorded_bytes_total", "Body bytes of these", totals.not_recorded_bytes),
        ] {
            self.single(name, "counter", help, count);
        }
    }

    /// Begins a family of lines.
    fn family(&mut self, name: &'static str, kind: &str, help: &str) {
        self.name = name;
        self.push(format_args!("# HELP {name} {help}.\n# TYPE {name} {kind}\n"));
    }

    fn line(&mut self, labels: &[(&str, &str)], value: impl Display) {
        let name = self.name;
        self.named_line(name, labels, value);
    }

    fn single(&mut self, name: &'static str, kind: &str, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.line(&[], value);
    }

    fn latencies(&mut self, name: &'static str, help: &str, latencies: &Latencies) {
        self.family(name, "histogram", help);
        let bounds = BOUNDS_US.iter().map(|us| seconds(us * 1_000).to_string());
        let mut count = 0;
        for (bound, bucket) in bounds.chain(["+Inf".to_owned()]).zip(&latencies.counts) {
            count += bucket;
            self.named_line(&format!("{name}_bucket"), &[("le", &bound)], count);
        }
        self.named_line(&format!("{name}_sum"), &[], seconds(latencies.sum_ns));
        self.named_line(&format!("{name}_count"), &[], count);
    }

    /// Writes a line. No value of a label holds what would have to be escaped.
    fn named_line(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.push(format_args!("{name}"));
        for (number, (label, text)) in labels.iter().enumerate() {
            let before = if number == 0 { '{' } else { ',' };
            self.push(format_args!("{before}{label}=\"{text}\""));
        }
        let after = if labels.is_empty() { "" } else { "}" };
        self.push(format_args!("{after} {value}\n"));
    }

    fn push(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        let _written = self.text.write_fmt(text);
    }
}

fn seconds(ns: u64) -> f64 {
    Duration::from_nanos(ns).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_is_cumulative_and_has_its_sum() {
        let mut counts = [0; BOUNDS_US.len() + 1];
        (counts[0], counts[1], counts[BOUNDS_US.len()]) = (2, 1, 4);
        let totals =
            Totals { added: Latencies { counts, sum_ns: 1_500_000_000 }, ..Totals::default() };
        let page = page(&totals, &RecorderStatus::default(), &DiskTimes::default(), 1_500_000_000);
        for line in [
            "# TYPE reenact_added_latency_seconds histogram",
            "reenact_added_latency_seconds_bucket{le=\"0.00001\"} 2",
            "reenact_added_latency_seconds_bucket{le=\"0.000025\"} 3",
            "reenact_added_latency_seconds_bucket{le=\"1\"} 3",
            "reenact_added_latency_seconds_bucket{le=\"+Inf\"} 7",
            "reenact_added_latency_seconds_sum 1.5",
            "reenact_added_latency_seconds_count 7",
            "reenact_start_time_seconds 1.5",
        ] {
            assert!(page.lines().any(|found| found == line), "no {line:?} in\n{page}");
        }
    }

    #[test]
    fn every_family_is_described_once_and_no_line_is_said_twice() {
        let page = page(&Totals::default(), &RecorderStatus::default(), &DiskTimes::default(), 0);
        let mut seen = std::collections::BTreeSet::new();
        for line in page.lines() {
            let key = if line.starts_with('#') { line } else { line.rsplit_once(' ').unwrap().0 };
            assert!(seen.insert(key), "{line}");
        }
        let described = |kind: &str| page.lines().filter(|line| line.starts_with(kind)).count();
        assert_eq!(described("# HELP reenact_"), described("# TYPE reenact_"));
        assert!(described("# HELP reenact_") > 15);
    }
}
