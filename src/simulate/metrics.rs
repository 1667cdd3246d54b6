//! The metrics page, in Prometheus' text format and vLLM's names.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::answer::Finish;

/// Counters since the start.
#[derive(Debug)]
pub(super) struct Metrics {
    pub(super) prompt_tokens: AtomicU64,
    pub(super) generation_tokens: AtomicU64,
    stopped: AtomicU64,
    too_long: AtomicU64,
    aborted: AtomicU64,
    pub(super) first_token: Histogram,
    pub(super) inter_token: Histogram,
    pub(super) end_to_end: Histogram,
    pub(super) queued: Histogram,
}

/// Durations by size.
#[derive(Debug)]
pub(super) struct Histogram {
    /// Upper bounds in seconds, ascending.
    bounds: &'static [f64],
    /// Observations by bucket: the first bound that is not less; one more for those above all.
    counts: Vec<AtomicU64>,
    sum_ns: AtomicU64,
}

// === impl Metrics ===

impl Metrics {
    pub(super) fn new() -> Self {
        Self {
            prompt_tokens: AtomicU64::default(),
            generation_tokens: AtomicU64::default(),
            stopped: AtomicU64::default(),
            too_long: AtomicU64::default(),
            aborted: AtomicU64::default(),
            first_token: Histogram::new(FIRST_TOKEN_BOUNDS),
            inter_token: Histogram::new(INTER_TOKEN_BOUNDS),
            end_to_end: Histogram::new(REQUEST_BOUNDS),
            queued: Histogram::new(REQUEST_BOUNDS),
        }
    }

    /// Counts a request that was answered to its end.
    pub(super) fn finished(&self, finish: Finish) {
        let counter = if finish == Finish::Length { &self.too_long } else { &self.stopped };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a request whose client left, or that a fault ended.
    pub(super) fn aborted(&self) {
        self.aborted.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the page.
    pub(super) fn page(&self, model: &str, running: usize, waiting: usize, slots: usize) -> String {
        let mut page = Page { text: String::new(), label: format!("model_name={model:?}") };
        page.gauge("vllm:num_requests_running", "Requests that run", running as u64);
        page.gauge("vllm:num_requests_waiting", "Requests that wait for a slot", waiting as u64);
        page.share("vllm:kv_cache_usage_perc", "Share of the slots taken", running, slots);
        page.counter("vllm:prompt_tokens_total", "Tokens of prompts", &self.prompt_tokens);
        page.counter("vllm:generation_tokens_total", "Tokens of answers", &self.generation_tokens);
        page.head("vllm:request_success_total", "Requests that ended, by reason", "counter");
        for (reason, counter) in
            [("stop", &self.stopped), ("length", &self.too_long), ("abort", &self.aborted)]
        {
            let label = format!(",finished_reason=\"{reason}\"");
            page.line("vllm:request_success_total", &label, counter.load(Ordering::Relaxed));
        }
        for (name, help, histogram) in [
            (
                "vllm:time_to_first_token_seconds",
                "From arrival to the first token",
                &self.first_token,
            ),
            ("vllm:inter_token_latency_seconds", "Between two tokens", &self.inter_token),
            ("vllm:e2e_request_latency_seconds", "From arrival to the end", &self.end_to_end),
            ("vllm:request_queue_time_seconds", "From arrival to a slot", &self.queued),
        ] {
            page.histogram(name, help, histogram);
        }
        page.text
    }
}

struct Page {
    text: String,
    label: String,
}

// === impl Page ===

impl Page {
    fn head(&mut self, name: &str, help: &str, kind: &str) {
        self.push(format_args!("# HELP {name} {help}.\n# TYPE {name} {kind}\n"));
    }

    fn line(&mut self, name: &str, more: &str, value: impl std::fmt::Display) {
        let label = std::mem::take(&mut self.label);
        self.push(format_args!("{name}{{{label}{more}}} {value}\n"));
        self.label = label;
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.head(name, help, "gauge");
        self.line(name, "", value);
    }

    #[expect(clippy::cast_precision_loss, reason = "a number of slots")]
    fn share(&mut self, name: &str, help: &str, part: usize, whole: usize) {
        self.head(name, help, "gauge");
        self.line(name, "", part as f64 / whole.max(1) as f64);
    }

    fn counter(&mut self, name: &str, help: &str, counter: &AtomicU64) {
        self.head(name, help, "counter");
        self.line(name, "", counter.load(Ordering::Relaxed));
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.head(name, help, "histogram");
        let mut count = 0;
        let bounds = histogram.bounds.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
        for (bound, bucket) in bounds.zip(&histogram.counts) {
            count += bucket.load(Ordering::Relaxed);
            self.line(&format!("{name}_bucket"), &format!(",le=\"{bound}\""), count);
        }
        let sum = Duration::from_nanos(histogram.sum_ns.load(Ordering::Relaxed));
        self.line(&format!("{name}_sum"), "", sum.as_secs_f64());
        self.line(&format!("{name}_count"), "", count);
    }

    fn push(&mut self, text: std::fmt::Arguments<'_>) {
        self.text.write_fmt(text).expect("a string takes all that is written to it");
    }
}

// === impl Histogram ===

impl Histogram {
    fn new(bounds: &'static [f64]) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::default()).collect();
        Self { bounds, counts, sum_ns: AtomicU64::default() }
    }

    pub(super) fn observe(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let bucket = self.bounds.partition_point(|bound| *bound < seconds);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.sum_ns.fetch_add(ns, Ordering::Relaxed);
    }
}

const FIRST_TOKEN_BOUNDS: &[f64] = &[
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
    20.0, 40.0, 80.0, 160.0, 640.0, 2560.0,
];
const INTER_TOKEN_BOUNDS: &[f64] = &[
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0,
    40.0, 80.0,
];
const REQUEST_BOUNDS: &[f64] = &[
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0,
    480.0, 960.0, 1920.0, 7680.0,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_counts_what_was_observed() {
        let metrics = Metrics::new();
        metrics.prompt_tokens.fetch_add(7, Ordering::Relaxed);
        metrics.finished(Finish::Length);
        metrics.finished(Finish::ToolCalls);
        metrics.aborted();
        metrics.inter_token.observe(Duration::from_millis(10));
        metrics.inter_token.observe(Duration::from_millis(11));
        metrics.inter_token.observe(Duration::from_secs(100));
        let page = metrics.page("m", 3, 1, 4);
        for line in [
            "# TYPE vllm:num_requests_running gauge",
            "vllm:num_requests_running{model_name=\"m\"} 3",
            "vllm:num_requests_waiting{model_name=\"m\"} 1",
            "vllm:kv_cache_usage_perc{model_name=\"m\"} 0.75",
            "vllm:prompt_tokens_total{model_name=\"m\"} 7",
            "vllm:request_success_total{model_name=\"m\",finished_reason=\"stop\"} 1",
            "vllm:request_success_total{model_name=\"m\",finished_reason=\"length\"} 1",
            "vllm:request_success_total{model_name=\"m\",finished_reason=\"abort\"} 1",
            "vllm:inter_token_latency_seconds_bucket{model_name=\"m\",le=\"0.01\"} 1",
            "vllm:inter_token_latency_seconds_bucket{model_name=\"m\",le=\"0.025\"} 2",
            "vllm:inter_token_latency_seconds_bucket{model_name=\"m\",le=\"+Inf\"} 3",
            "vllm:inter_token_latency_seconds_sum{model_name=\"m\"} 100.021",
            "vllm:inter_token_latency_seconds_count{model_name=\"m\"} 3",
        ] {
            assert!(page.lines().any(|found| found == line), "{line}\n{page}");
        }
    }
}
