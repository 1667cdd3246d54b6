//! Reads a run folder once, row by row, and makes a [`Summary`] of it. Memory does not grow with the run.

use std::collections::BTreeMap;

use crate::results::manifest::{Manifest, Verdict};
use crate::results::rows::{FrameRow, GpuSample, HostSample, Measurement, ServerMetric};
use crate::results::table::Row;
use crate::results::{RunError, RunReader};

use super::doubts;
use super::machines::{GpuUse, HostUse};
use super::stats::Distribution;
use super::summary::{
    Counts, ErrorCount, ErrorKey, Fidelity, Group, Latencies, Plots, Rates, Slow, Summary,
};

/// Reads a run. `progress` is told the number of rows read so far, now and then.
///
/// # Errors
/// When a file of the run can't be read.
pub fn gather(run: &RunReader, progress: &mut dyn FnMut(usize)) -> Result<Summary, RunError> {
    let mut gathering = Gathering::default();
    let mut rows = 0;
    let mut count = |done: bool| {
        rows += usize::from(!done);
        if done || rows.is_multiple_of(PROGRESS_ROWS) {
            progress(rows);
        }
    };
    each(run, &mut count, |row| gathering.request(&row))?;
    each(run, &mut count, |row| gathering.frame(&row))?;
    each(run, &mut count, |row| gathering.gpu(&row))?;
    each(run, &mut count, |row| gathering.host(&row))?;
    each(run, &mut count, |row| gathering.server(row))?;
    count(true);
    Ok(gathering.summary(run.manifest().clone()))
}

/// Counts the rows that [`gather`] is going to read.
///
/// # Errors
/// When a file of the run can't be read.
pub fn rows(run: &RunReader) -> Result<usize, RunError> {
    Ok(run.count::<Measurement>()?
        + run.count::<FrameRow>()?
        + run.count::<GpuSample>()?
        + run.count::<HostSample>()?
        + run.count::<ServerMetric>()?)
}

fn each<R: Row>(
    run: &RunReader,
    count: &mut dyn FnMut(bool),
    mut take: impl FnMut(R),
) -> Result<(), RunError> {
    for row in run.rows()? {
        take(row?);
        count(false);
    }
    Ok(())
}

/// Everything that is summed up while rows go by.
#[derive(Debug, Default)]
struct Gathering {
    counts: Counts,
    fidelity: Fidelity,
    errors: BTreeMap<ErrorKey, ErrorCount>,
    targets: BTreeMap<String, Group>,
    models: BTreeMap<String, Group>,
    slowest: Vec<Slow>,
    gpus: BTreeMap<u32, GpuUse>,
    host: HostUse,
    server_metrics: BTreeMap<String, u64>,
    plots: Plots,
    ttft_due: Distribution,
    e2e_due: Distribution,
    connect: Distribution,
    first_sent_ns: Option<i64>,
    last_end_ns: Option<i64>,
    busy_ns: f64,
    /// The frame with content before: its exchange, round and time.
    last_content: Option<(u64, u32, i64)>,
}

// === impl Gathering ===

impl Gathering {
    fn request(&mut self, row: &Measurement) {
        let good = self.count(row);
        self.compare(row, good);
        self.latencies(row, good);
        self.over_time(row, good);
        for (groups, key) in
            [(&mut self.targets, row.target.clone()), (&mut self.models, what(row))]
        {
            if groups.len() < MOST_GROUPS || groups.contains_key(&key) {
                groups.entry(key).or_default().push(row, good);
            }
        }
        self.keep_if_slow(row);
    }

    /// Counts the row; returns whether it is good.
    fn count(&mut self, row: &Measurement) -> bool {
        let counts = &mut self.counts;
        let good = row.outcome == "complete" && row.error_kind.is_none();
        counts.rows += 1;
        *match (row.outcome.as_str(), good) {
            (_, true) => &mut counts.good,
            ("complete", false) => &mut counts.errors,
            ("cancelled", _) => &mut counts.cancelled,
            _ => &mut counts.failed,
        } += 1;
        let stream = row.stream == Some(true);
        counts.streams += u64::from(stream);
        counts.retried += u64::from(row.retries > 0);
        counts.connected += u64::from(row.connection_reused == Some(false));
        let one_frame = row.first_token_ns.is_some() && row.first_token_ns == row.last_token_ns;
        counts.one_frame_streams +=
            u64::from(stream && good && one_frame && row.output_tokens > Some(1));
        let generates = matches!(row.operation.as_str(), "chat" | "completion");
        counts.estimated_tokens += u64::from(row.output_tokens_source.as_deref() == Some("frames"));
        counts.uncounted_tokens += u64::from(good && generates && row.output_tokens.is_none());
        counts.input_tokens += row.input_tokens.unwrap_or(0);
        counts.cached_tokens += row.cached_tokens.unwrap_or(0);
        counts.output_tokens += row.output_tokens.unwrap_or(0);
        if !good && row.outcome != "cancelled" {
            let key = ErrorKey {
                kind: row.error_kind.clone().unwrap_or_else(|| "unknown".to_owned()),
                status: row.status.filter(|status| *status >= 400),
            };
            if self.errors.len() < MOST_GROUPS || self.errors.contains_key(&key) {
                let count = self.errors.entry(key).or_insert_with(|| ErrorCount {
                    count: 0,
                    fault: row.fault.clone(),
                    example: row.error.clone(),
                    exchange: row.exchange,
                });
                count.count += 1;
            }
        }
        good
    }

    fn compare(&mut self, row: &Measurement, good: bool) {
        let seen = &mut self.fidelity;
        let both = |all: &mut u64, equal: &mut u64, same: Option<bool>| {
            *all += u64::from(same.is_some());
            *equal += u64::from(same == Some(true));
        };
        let status = row.status.zip(row.recorded_status).map(|(a, b)| a == b);
        both(&mut seen.statuses, &mut seen.statuses_equal, status);
        let outcome = row.recorded_outcome.as_ref().map(|recorded| *recorded == row.outcome);
        both(&mut seen.outcomes, &mut seen.outcomes_equal, outcome);
        let reason = row.finish_reason.as_ref().zip(row.recorded_finish_reason.as_ref());
        let reason = reason.map(|(a, b)| a == b);
        both(&mut seen.finish_reasons, &mut seen.finish_reasons_equal, reason);
        both(&mut seen.outputs, &mut seen.outputs_equal, row.output_equal);
        if let (true, Some(now), Some(then)) = (good, row.output_tokens, row.recorded_output_tokens)
        {
            seen.token_counts += 1;
            seen.output_tokens += now;
            seen.recorded_output_tokens += then;
        }
    }

    fn latencies(&mut self, row: &Measurement, good: bool) {
        let plots = &mut self.plots;
        let take = |to: &mut Distribution, value: Option<i64>| {
            if let Some(value) = value {
                to.push(value);
            }
        };
        take(&mut plots.lateness, row.lateness_ns);
        if row.connection_reused == Some(false)
            && let Some(connect_ns) = row.connect_ns
        {
            self.connect.push(connect_ns + row.tls_ns.unwrap_or(0));
        }
        if !good {
            return;
        }
        if streamed(row) {
            take(&mut plots.ttft, row.ttft_ns);
            take(&mut plots.recorded_ttft, row.recorded_ttft_ns.filter(|_| row.ttft_ns.is_some()));
            take(&mut self.ttft_due, row.ttft_due_ns);
            take(&mut plots.tpot, row.tpot_ns);
        }
        take(&mut plots.e2e, row.e2e_ns);
        take(&mut plots.recorded_e2e, row.recorded_e2e_ns.filter(|_| row.e2e_ns.is_some()));
        take(&mut self.e2e_due, row.e2e_due_ns);
    }

    #[expect(clippy::cast_precision_loss, reason = "sums for charts")]
    fn over_time(&mut self, row: &Measurement, good: bool) {
        let traffic = &mut self.plots.traffic;
        if let Some(end_ns) = row.end_ns {
            let bin = traffic.at(end_ns);
            bin.good += u64::from(good);
            bin.bad += u64::from(!good);
            self.last_end_ns = self.last_end_ns.max(Some(end_ns));
        }
        let Some(sent_ns) = row.sent_ns else { return };
        let first = self.first_sent_ns.get_or_insert(sent_ns);
        *first = sent_ns.min(*first);
        let bin = traffic.at(sent_ns);
        bin.sent += 1;
        bin.lateness_ns = bin.lateness_ns.max(row.lateness_ns.unwrap_or(0));
        if let Some(end_ns) = row.end_ns {
            self.busy_ns += (end_ns - sent_ns).max(0) as f64;
            traffic.over(sent_ns, end_ns, |bin, inside| bin.busy_ns += inside as f64);
        }
        if let (Some(first), Some(last), Some(tokens)) =
            (row.first_token_ns, row.last_token_ns, row.output_tokens)
        {
            let (tokens, span) = (tokens as f64, (last - first) as f64);
            if last > first {
                traffic.over(first, last, |bin, inside| {
                    bin.output_tokens += tokens * inside as f64 / span;
                });
            } else {
                traffic.at(first).output_tokens += tokens;
            }
        }
        let at_s = sent_ns as f64 / 1e9;
        if let (true, Some(ttft_ns)) = (good && streamed(row), row.ttft_ns) {
            self.plots.ttft_points.push((at_s, ttft_ns as f64 / 1e6));
        }
        if let Some(lateness_ns) = row.lateness_ns {
            self.plots.lateness_points.push((at_s, lateness_ns as f64 / 1e6));
        }
    }

    fn keep_if_slow(&mut self, row: &Measurement) {
        let (Some(sent_ns), Some(e2e_ns)) = (row.sent_ns, row.e2e_ns) else { return };
        let place = self.slowest.partition_point(|slow| slow.e2e_ns >= e2e_ns);
        if place >= SLOWEST {
            return;
        }
        let status = row.status.map(|status| status.to_string());
        let slow = Slow {
            exchange: row.exchange,
            round: row.round,
            sent_ns,
            e2e_ns,
            ttft_ns: row.ttft_ns,
            recorded_e2e_ns: row.recorded_e2e_ns,
            input_tokens: row.input_tokens,
            output_tokens: row.output_tokens,
            what: what(row),
            result: match (row.outcome.as_str(), status) {
                ("complete", Some(status)) => status,
                (outcome, _) => outcome.to_owned(),
            },
        };
        self.slowest.insert(place, slow);
        self.slowest.truncate(SLOWEST);
    }

    /// Gaps are taken within one exchange: rows of one stand together.
    fn frame(&mut self, row: &FrameRow) {
        if row.content_chars == 0 && row.reasoning_chars == 0 && row.tool_chars == 0 {
            return;
        }
        self.counts.content_frames += 1;
        self.counts.content_events += u64::from(row.events);
        if let Some((exchange, round, at_ns)) = self.last_content
            && (exchange, round) == (row.exchange, row.round)
        {
            self.plots.gap.push(row.at_ns - at_ns);
        }
        self.last_content = Some((row.exchange, row.round, row.at_ns));
    }

    fn gpu(&mut self, row: &GpuSample) {
        let lines = self.plots.gpus.entry(row.gpu).or_default();
        self.gpus.entry(row.gpu).or_default().push(row, lines);
    }

    fn host(&mut self, row: &HostSample) {
        self.host.push(row, &mut self.plots.host);
    }

    fn server(&mut self, row: ServerMetric) {
        let lines = &mut self.plots.server;
        if SERVER_LINES.contains(&row.name.as_str()) && row.value.is_finite() {
            let key = (row.name.clone(), format!("{} {}", row.target, row.labels));
            if lines.len() < MOST_LINES || lines.contains_key(&key) {
                lines.entry(key).or_default().at(row.at_ns).push(row.value);
            }
        }
        if self.server_metrics.len() < MOST_METRICS || self.server_metrics.contains_key(&row.name) {
            *self.server_metrics.entry(row.name).or_default() += 1;
        }
    }

    fn summary(mut self, manifest: Manifest) -> Summary {
        let span_ns = self.first_sent_ns.zip(self.last_end_ns).map(|(first, last)| last - first);
        let span_s = span_ns.filter(|span| *span > 0).map(seconds);
        let mut latencies = Latencies {
            ttft_due: self.ttft_due.spread(),
            e2e_due: self.e2e_due.spread(),
            connect: self.connect.spread(),
            ..Latencies::default()
        };
        let plots = &mut self.plots;
        for (spread, of) in [
            (&mut latencies.ttft, &mut plots.ttft),
            (&mut latencies.recorded_ttft, &mut plots.recorded_ttft),
            (&mut latencies.gap, &mut plots.gap),
            (&mut latencies.tpot, &mut plots.tpot),
            (&mut latencies.e2e, &mut plots.e2e),
            (&mut latencies.recorded_e2e, &mut plots.recorded_e2e),
            (&mut latencies.lateness, &mut plots.lateness),
        ] {
            *spread = of.spread();
        }
        for group in self.targets.values_mut().chain(self.models.values_mut()) {
            group.ttft = group.ttfts.spread();
            group.e2e = group.e2es.spread();
        }
        let rates = self.rates(span_s);
        let valid = manifest.finished && manifest.verdict == Verdict::Valid;
        let mut summary = Summary {
            verdict: if valid { Verdict::Valid } else { Verdict::Invalid },
            manifest,
            warnings: Vec::new(),
            counts: self.counts,
            span_s,
            rates,
            latencies,
            errors: self.errors,
            targets: self.targets,
            models: self.models,
            fidelity: self.fidelity,
            slowest: self.slowest,
            gpus: self.gpus,
            host: self.host,
            server_metrics: self.server_metrics,
            plots: self.plots,
        };
        summary.warnings = doubts::find(&summary);
        summary
    }

    #[expect(clippy::cast_precision_loss, reason = "rates")]
    fn rates(&self, span_s: Option<f64>) -> Rates {
        let per_s = |count: u64| span_s.map(|span| count as f64 / span);
        let tokens = self.counts.output_tokens;
        let energies: Vec<f64> = self.gpus.values().filter_map(|gpu| gpu.energy_j).collect();
        let joules: f64 = energies.iter().sum();
        Rates {
            requests_per_s: per_s(self.counts.rows),
            good_per_s: per_s(self.counts.good),
            input_tokens_per_s: per_s(self.counts.input_tokens).filter(|rate| *rate > 0.0),
            output_tokens_per_s: per_s(tokens).filter(|rate| *rate > 0.0),
            concurrency_mean: span_s.map(|span| self.busy_ns / 1e9 / span),
            joules_per_output_token: (tokens > 0 && joules > 0.0).then(|| joules / tokens as f64),
        }
    }
}

// === impl Group ===

impl Group {
    fn push(&mut self, row: &Measurement, good: bool) {
        self.rows += 1;
        self.good += u64::from(good);
        self.input_tokens += row.input_tokens.unwrap_or(0);
        self.output_tokens += row.output_tokens.unwrap_or(0);
        if good {
            let ttft_ns = row.ttft_ns.filter(|_| streamed(row));
            ttft_ns.into_iter().for_each(|ttft_ns| self.ttfts.push(ttft_ns));
            row.e2e_ns.into_iter().for_each(|e2e_ns| self.e2es.push(e2e_ns));
        }
    }
}

/// Whether the response came as a stream: a unary one has no first token before its end.
fn streamed(row: &Measurement) -> bool {
    row.stream == Some(true)
}

/// Operation and model as sent, or the path where there is no model.
fn what(row: &Measurement) -> String {
    match &row.model_sent {
        Some(model) => format!("{} {model}", row.operation),
        None => format!("{} {}", row.method, row.path),
    }
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn seconds(ns: i64) -> f64 {
    ns as f64 / 1e9
}

/// Server metrics that are drawn, where the server has them.
const SERVER_LINES: [&str; 12] = [
    "vllm:num_requests_running",
    "vllm:num_requests_waiting",
    "vllm:kv_cache_usage_perc",
    "vllm:gpu_cache_usage_perc",
    "sglang:num_running_reqs",
    "sglang:num_queue_reqs",
    "sglang:token_usage",
    "llamacpp:requests_processing",
    "llamacpp:requests_deferred",
    "tgi_batch_current_size",
    "tgi_queue_size",
    "DCGM_FI_DEV_GPU_UTIL",
];

/// Slowest requests that are listed.
const SLOWEST: usize = 10;

/// Most targets, models, kinds of error that are told apart.
const MOST_GROUPS: usize = 100;

/// Most lines of server metrics that are drawn.
const MOST_LINES: usize = 40;

/// Most names of server metrics that are counted.
const MOST_METRICS: usize = 2_000;

/// Rows between two words on progress.
const PROGRESS_ROWS: usize = 8_192;
