//! Reads a run folder once, row by row, and makes a [`Summary`] of it. Memory does not grow with the run, but for 16 bytes
//! for each request of its warm-up.

use std::collections::{BTreeMap, BTreeSet};

use crate::results::answers::{self, Answers};
use crate::results::manifest::{Manifest, Verdict};
use crate::results::rows::{FrameRow, GpuSample, HostSample, Measurement, ServerMetric};
use crate::results::slo::{Meter, Slos};
use crate::results::table::Row;
use crate::results::{RunError, RunReader};

use super::counting::{streamed, what};
use super::doubts;
use super::machines::{GpuUse, HostUse};
use super::mirror::Mirror;
use super::stats::Distribution;
use super::summary::{Counts, ErrorCount, ErrorKey, Group, Latencies, Plots, Rates, Slow, Summary};

/// Reads a run, and judges it by `slos`; without these, the judgement is the manifest's. `progress` is told the number of rows read so far, now and then.
///
/// # Errors
/// When a file of the run can't be read.
pub fn gather(
    run: &RunReader,
    slos: Option<&Slos>,
    progress: &mut dyn FnMut(usize),
) -> Result<Summary, RunError> {
    let meter = slos.cloned().map(Meter::new);
    let is_mirrored = run.manifest().options.get("mirror").is_some_and(|mirror| mirror == true);
    let mirror = is_mirrored.then(Mirror::default);
    let mut gathering = Gathering { meter, mirror, ..Gathering::default() };
    let mut rows = 0;
    let mut count = |done: bool| {
        rows += usize::from(!done);
        if done || rows.is_multiple_of(PROGRESS_ROWS) {
            progress(rows);
        }
    };
    each(run, &mut count, |mut row| {
        // A run of an older program has not all of these columns.
        answers::fill(&mut row);
        gathering.request(&row);
    })?;
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
    answers: Answers,
    meter: Option<Meter>,
    errors: BTreeMap<ErrorKey, ErrorCount>,
    targets: BTreeMap<String, Group>,
    mirror: Option<Mirror>,
    models: BTreeMap<String, Group>,
    stages: BTreeMap<u32, Group>,
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
    /// The requests of the warm-up, by exchange and round.
    warmup: BTreeSet<(u64, u32)>,
    /// The frame with content before: its exchange, round and target, and its time.
    last_content: Option<((u64, u32, u32), i64)>,
}

// === impl Gathering ===

impl Gathering {
    fn request(&mut self, row: &Measurement) {
        if row.warmup {
            self.counts.warmup += 1;
            self.warmup.insert((row.exchange, row.round));
            return;
        }
        let good = self.counts.push(row);
        self.answers.push(row);
        if let Some(meter) = &mut self.meter {
            meter.push(row);
        }
        if !good && row.outcome != "cancelled" {
            self.error(row);
        }
        self.latencies(row, good);
        if let Some(mirror) = &mut self.mirror {
            mirror.push(row, good);
        }
        self.over_time(row, good);
        let group = |group: &mut Group| group.push(row, good);
        among(&mut self.targets, row.target.clone()).map(group);
        among(&mut self.models, what(row)).map(group);
        row.stage.and_then(|stage| among(&mut self.stages, stage)).map(group);
        if let Some(slow) = Slow::of(row) {
            let place = self.slowest.partition_point(|other| other.e2e_ns >= slow.e2e_ns);
            if place < SLOWEST {
                self.slowest.insert(place, slow);
                self.slowest.truncate(SLOWEST);
            }
        }
    }

    fn error(&mut self, row: &Measurement) {
        let key = ErrorKey::of(row);
        if self.errors.len() < MOST_GROUPS || self.errors.contains_key(&key) {
            let first = || ErrorCount {
                count: 0,
                fault: row.fault.clone(),
                example: row.error.clone(),
                exchange: row.exchange,
            };
            self.errors.entry(key).or_insert_with(first).count += 1;
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

    /// Gaps are taken within one exchange: rows of one stand together.
    fn frame(&mut self, row: &FrameRow) {
        if row.bare == Some(true) {
            // It may have had content: what comes next has no gap that is known.
            self.last_content = None;
            return;
        }
        let nothing = row.content_chars == 0 && row.reasoning_chars == 0 && row.tool_chars == 0;
        if nothing || self.warmup.contains(&(row.exchange, row.round)) {
            return;
        }
        self.counts.content_frames += 1;
        self.counts.content_events += u64::from(row.events);
        let call = (row.exchange, row.round, row.target_index);
        if let Some((before, at_ns)) = self.last_content
            && before == call
        {
            self.plots.gap.push(row.at_ns - at_ns);
        }
        self.last_content = Some((call, row.at_ns));
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
        let named = self.targets.values_mut().chain(self.models.values_mut());
        named.chain(self.stages.values_mut()).for_each(Group::finish);
        let rates = self.rates(span_s);
        let slo = self.meter.map(|meter| meter.judge()).or_else(|| manifest.slo.clone());
        let mut summary = Summary {
            verdict: if manifest.finished { manifest.verdict } else { Verdict::Invalid },
            manifest,
            warnings: Vec::new(),
            counts: self.counts,
            span_s,
            rates,
            latencies,
            errors: self.errors,
            targets: self.targets,
            mirror: self.mirror.map(Mirror::finish).unwrap_or_default(),
            models: self.models,
            stages: self.stages,
            answers: self.answers,
            slo,
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

/// Returns the group of `key`; none when there are too many.
fn among<K: Ord>(groups: &mut BTreeMap<K, Group>, key: K) -> Option<&mut Group> {
    let has_room = groups.len() < MOST_GROUPS || groups.contains_key(&key);
    has_room.then(|| groups.entry(key).or_default())
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

/// Most targets, models, stages, kinds of error that are told apart.
const MOST_GROUPS: usize = 100;

/// Most lines of server metrics that are drawn.
const MOST_LINES: usize = 40;

/// Most names of server metrics that are counted.
const MOST_METRICS: usize = 2_000;

/// Rows between two words on progress.
const PROGRESS_ROWS: usize = 8_192;
